# vim: expandtab:ts=4:sw=4
import functools
import os
import numpy as np
import scipy.io as sio
import train_app
from datasets import market1501
from datasets import util
import nets.deep_sort.network_definition as net


IMAGE_SHAPE = market1501.IMAGE_SHAPE


class People(object):
    """Training, validation and test images of people, by file name."""

    def __init__(self, dataset_dir, share_of_validation=0.25, seed=1234):
        self._dataset_dir = dataset_dir
        self._share = share_of_validation
        self._seed = seed

    def _split(self):
        names, ids, cameras = market1501.read_train_split_to_str(self._dataset_dir)
        ids = np.asarray(ids, dtype=np.int64)
        train, valid = util.create_validation_split(ids, self._share, self._seed)
        return names, ids, np.asarray(cameras, dtype=np.int64), train, valid

    def read_train(self):
        names, ids, cameras, train, _ = self._split()
        keep = util.limit_num_elements_per_identity(ids[train], 6, self._seed)
        rows = train[np.where(keep)[0]]
        return [names[i] for i in rows], ids[rows], cameras[rows]

    def read_validation(self):
        names, ids, cameras, _, rows = self._split()
        return [names[i] for i in rows], ids[rows], cameras[rows]

    def read_test(self):
        return market1501.read_test_split_to_str(self._dataset_dir)


def export(args, dataset, network_factory):
    gallery, gallery_ids, query, query_ids, good_mask = dataset.read_test()
    assert good_mask.shape == (len(query_ids), len(gallery_ids))
    if not os.path.exists(args.sdk_dir):
        os.makedirs(args.sdk_dir)
    for name, filenames in (("feat_test.mat", gallery), ("feat_query.mat", query)):
        features = train_app.encode(
            net.preprocess, network_factory, args.restore_path, filenames,
            image_shape=IMAGE_SHAPE)
        sio.savemat(os.path.join(args.sdk_dir, name), {"features": features})
    sio.savemat(os.path.join(args.sdk_dir, "good_mask.mat"), {"good_mask": good_mask})
    print("exported %d + %d features" % (len(gallery), len(query)))


def main():
    arg_parser = train_app.create_default_argument_parser("people")
    arg_parser.add_argument(
        "--dataset_dir", help="Folder with bounding_box_train and so on.", default="./people")
    arg_parser.add_argument(
        "--sdk_dir", help="Where the features are exported to.", default="./people_sdk")
    args = arg_parser.parse_args()
    dataset = People(args.dataset_dir)

    if args.mode == "train":
        train_x, train_y, _ = dataset.read_train()
        print("Train set size: %d images, %d identities" % (len(train_x), len(np.unique(train_y))))
        network_factory = net.create_network_factory(
            is_training=True, num_classes=market1501.MAX_LABEL + 1,
            add_logits=args.loss_mode == "cosine-softmax")
        train_kwargs = train_app.to_train_kwargs(args)
        train_app.train_loop(
            net.preprocess, network_factory, train_x, train_y, num_images_per_id=4,
            image_shape=IMAGE_SHAPE, **train_kwargs)
        return

    if args.mode == "finalize":
        # The classifier stays in, so that the model can be trained further.
        network_factory = net.create_network_factory(
            is_training=False, num_classes=market1501.MAX_LABEL + 1,
            add_logits=args.loss_mode == "cosine-softmax")
        train_app.finalize(
            net.preprocess, network_factory, args.restore_path, image_shape=IMAGE_SHAPE,
            output_filename="./people.ckpt")
        return

    network_factory = net.create_network_factory(
        is_training=False, num_classes=market1501.MAX_LABEL + 1, add_logits=False)
    if args.mode == "eval":
        valid_x, valid_y, camera_indices = dataset.read_validation()
        print("Validation set size: %d images" % len(valid_x))
        eval_kwargs = train_app.to_eval_kwargs(args)
        train_app.eval_loop(
            net.preprocess, network_factory, valid_x, valid_y, camera_indices,
            image_shape=IMAGE_SHAPE, num_galleries=5, **eval_kwargs)
    elif args.mode == "export":
        export(args, dataset, network_factory)
    elif args.mode == "freeze":
        train_app.freeze(
            functools.partial(net.preprocess, input_is_bgr=True), network_factory,
            args.restore_path, image_shape=IMAGE_SHAPE, output_filename="./people.pb")
    else:
        raise ValueError("Invalid mode argument.")


if __name__ == "__main__":
    main()
