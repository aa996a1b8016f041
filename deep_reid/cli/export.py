"""``--mode=export`` and ``finalize``: write features and weights."""

import logging
import os

from deep_reid import nets
from deep_reid.cli import feature_files, outputs
from deep_reid.cli.command import Command
from deep_reid.cli.settings import find_run_dir, open_dataset, settle
from deep_reid.cli.subject import create_encoder, find_checkpoint, require_run
from deep_reid.cli.weights import Weights
from deep_reid.errors import MissingPathError, UsageError
from deep_reid.interfaces import Dataset
from deep_reid.scoring import feature_index

_logger = logging.getLogger(__name__)


def export(args: Command, dataset_class: type[Dataset]) -> None:
    """Write the test images' features for the official MATLAB codes."""
    config = settle(args, dataset_class, find_run_dir(args))
    if config.dataset is None:
        require_run(args)
    dataset = open_dataset(dataset_class, config, needs_train=False)
    weights = Weights(args, dataset_class, config)
    image_lists = dataset.export_files()

    def list_files(folder):
        lists = {os.path.join(folder, name): images for name, images in image_lists.items()}
        return feature_files.list_files(lists, args.shard, args.batch_size)

    if args.sdk_dir is not None:
        list_files(args.sdk_dir)  # before TensorFlow is imported
    origin = find_checkpoint(args, config)
    listed = list_files(args.sdk_dir or default_path(dataset_class, origin))
    for file in listed:
        outputs.warn_of_overwriting(file.path, origin)
    describe = _create_describer(dataset)
    with weights.of(origin.checkpoint) as checkpoint_path:
        encode_images = create_encoder(checkpoint_path, config)
        feature_files.write_files(listed, encode_images, args.batch_size, origin, describe)


def _create_describer(dataset):
    """Return a function from an image to its identity and camera, empty where they are unknown."""
    try:
        test_set = dataset.test_set()
    except (MissingPathError, UsageError) as error:  # exporting needs only the images
        _logger.warning("The index is without identities and cameras: %s", error)
        return lambda path: ("", "")
    return feature_index.create_describer(test_set, dataset.name_of)


def finalize(args: Command, dataset_class: type[Dataset]) -> None:
    """Write a checkpoint that has only the weights."""
    outputs.check_paths(args.output)
    config = settle(args, dataset_class, find_run_dir(args))
    weights = Weights(args, dataset_class, config)
    origin = find_checkpoint(args, config)
    from deep_reid.export.encoding import finalize as write_model
    from deep_reid.runs import checkpoints

    network = nets.load_network(config.network)
    num_classes = nets.find_num_classes(
        network, checkpoints.variable_shapes(origin.checkpoint), config.num_classes
    )
    network_factory = network.create_network_factory(
        is_training=False, num_classes=num_classes, add_logits=num_classes is not None
    )
    path = args.output or default_path(dataset_class, origin, f"{dataset_class.NAME}.ckpt")
    outputs.warn_of_overwriting(path, origin)
    with weights.of(origin.checkpoint) as checkpoint_path:
        write_model(network.preprocess, network_factory, checkpoint_path, config.image_shape, path)
    outputs.write_manifest(path, origin)


def default_path(dataset_class: type[Dataset], origin: outputs.Origin, *names: str) -> str:
    """Return where an export goes if the command line does not say.

    Parameters
    ----------
    dataset_class : type
    origin : Origin
        What it is made of.
    *names : str

    Returns
    -------
    str
    """
    run_dir = os.path.dirname(origin.checkpoint)
    return outputs.default_path(dataset_class.NAME, run_dir, "export", *names)
