# vim: expandtab:ts=4:sw=4
import os
import numpy as np
import scipy.io as sio
import tensorflow as tf
from tensorflow.contrib import slim
import train_app
from datasets import util
from datasets import vehicles
from nets import mobile_net as net


class Vehicles(object):

    def __init__(self, dataset_dir):
        self.filenames, self._ids, self._cameras = vehicles.read_list(dataset_dir)
        self._train, self._valid = util.create_validation_split(self._ids, 3, seed=1234)

    def _read(self, rows):
        images = vehicles.read_images([self.filenames[i] for i in rows])
        return images, self._ids[rows], self._cameras[rows]

    def read_train(self):
        return self._read(self._train)

    def read_validation(self):
        return self._read(self._valid)

    def read_test(self):
        return self._read(np.arange(len(self.filenames)))


def score(args, dataset, network_factory):
    """Rank-1 of all images against each other, read from their files in the graph."""
    def read(filename):
        image = tf.image.decode_jpeg(
            tf.read_file(filename), channels=3, dct_method="INTEGER_ACCURATE")
        return net.preprocess(tf.reverse(image, axis=[-1]), is_training=False)

    images = tf.map_fn(read, tf.constant(dataset.filenames), dtype=tf.float32)
    images.set_shape((len(dataset.filenames),) + vehicles.IMAGE_SHAPE)
    features, _ = network_factory(images)
    assign_op, assign_feed = slim.assign_from_checkpoint(
        args.restore_path, slim.get_model_variables())
    with tf.Session() as session:
        session.run(assign_op, assign_feed)
        features = session.run(features)
    similarity = np.dot(features, features.T) - 2. * np.eye(len(features), dtype=np.float)
    _, ids, _ = dataset.read_test()
    rank1 = np.mean(ids[np.argmax(similarity, axis=1)] == ids)
    if not os.path.isdir("./tmp/vehicles_score"):
        os.makedirs("./tmp/vehicles_score")
    np.save("./tmp/vehicles_score/features.npy", features)
    with tf.gfile.GFile("./tmp/vehicles_score/rank1.txt", "w") as stream:
        stream.write("%.4f\n" % rank1)


def main():
    arg_parser = train_app.create_default_argument_parser("vehicles")
    arg_parser.add_argument("--dataset_dir", default="./vehicles")
    arg_parser.add_argument("--sdk_dir", default="./tmp/vehicles_sdk")
    arg_parser.set_defaults(log_dir="./tmp/vehicles", eval_log_dir="./tmp/vehicles_eval")
    args = arg_parser.parse_args()
    dataset = Vehicles(args.dataset_dir)
    network_factory = net.create_network_factory(
        is_training=args.mode == "train", num_classes=vehicles.MAX_LABEL,
        add_logits=args.mode in ("train", "finalize") and args.loss_mode == "cosine-softmax")

    if args.mode == "train":
        images, ids, _ = dataset.read_train()
        assert images.dtype == np.uint8
        train_app.train_loop(
            net.preprocess, network_factory, images, ids, num_images_per_id=4,
            image_shape=vehicles.IMAGE_SHAPE, trainable_scopes=["MobileNet"],
            **train_app.to_train_kwargs(args))
    elif args.mode == "eval":
        images, ids, cameras = dataset.read_validation()
        train_app.eval_loop(
            net.preprocess, network_factory, images, ids, cameras, num_galleries=3,
            random_seed=1, **train_app.to_eval_kwargs(args))
    elif args.mode == "export":
        images, ids, cameras = dataset.read_test()
        features = train_app.encode(
            net.preprocess, network_factory, args.restore_path, images, batch_size=10)
        if not os.path.isdir(args.sdk_dir):
            os.makedirs(args.sdk_dir)
        sio.savemat(
            os.path.join(args.sdk_dir, "features.mat"),
            {"features": features, "ids": ids, "cameras": cameras})
    elif args.mode == "score":
        score(args, dataset, network_factory)
    elif args.mode == "finalize":
        train_app.finalize(
            net.preprocess, network_factory, args.restore_path, vehicles.IMAGE_SHAPE,
            "./tmp/vehicles.ckpt")
    elif args.mode == "freeze":
        train_app.freeze(
            net.preprocess, network_factory, args.restore_path, vehicles.IMAGE_SHAPE,
            "./tmp/vehicles.pb")
    else:
        raise ValueError("Invalid mode argument.")


if __name__ == "__main__":
    main()
