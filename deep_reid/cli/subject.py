"""What a mode works on: which run, which checkpoint, which network."""

import functools
import importlib.metadata
import logging
import platform

from deep_reid import __version__, nets
from deep_reid.cli.settings import find_run_dir, is_dataset_of_run
from deep_reid.config import ComputeSettings
from deep_reid.config.run import NETWORKS
from deep_reid.errors import MissingPathError, UsageError
from deep_reid.runs import labels

_logger = logging.getLogger(__name__)


def require_run(args):
    """Find the directory of the run that is meant.

    Parameters
    ----------
    args : Command

    Returns
    -------
    str

    Raises
    ------
    MissingPathError
        If there is none.
    """
    run_dir = find_run_dir(args)
    if run_dir is None:
        raise MissingPathError(
            f"{args.log_dir} has no run{f' {args.run_id}' if args.run_id else ''}: train first "
            "(--mode=train), name another run, or name a checkpoint with --restore_path"
        )
    return run_dir


def find_checkpoint(args, config):
    """Find the checkpoint that is meant, and check that it is of the run's network.

    Parameters
    ----------
    args : Command
    config : RunConfig

    Returns
    -------
    str
        Its prefix.

    Raises
    ------
    MissingPathError
        If there is none.
    UsageError
        If it is of another network.
    """
    run_dir = require_run(args)
    from deep_reid.runs import checkpoints

    checkpoint_path = checkpoints.resolve_checkpoint(args.checkpoint or run_dir)
    _logger.info("Using checkpoint %s", checkpoint_path)
    if checkpoints.step_of(checkpoint_path) == 0 and checkpoint_path.endswith("-0"):
        _logger.warning("This is the checkpoint of step 0: nothing has been learned yet")
    network = nets.load_network(config.network)
    if not nets.may_fit(network, checkpoints.variable_shapes(checkpoint_path)):
        raise UsageError(
            f"checkpoint {checkpoint_path} is of another network than {config.network}: tell which "
            f"with --network ({', '.join(NETWORKS)}, or MODULE:NAME of your own)"
        )
    return checkpoint_path


def create_encoder(checkpoint_path, config):
    """Create a function that computes the features of images with a checkpoint.

    Parameters
    ----------
    checkpoint_path : str
    config : RunConfig
        With what belongs to this machine.

    Returns
    -------
    callable
        `deep_reid.export.encode` from its argument `images_or_filenames` on.
    """
    from deep_reid.export.encoding import encode

    network = nets.load_network(config.network)
    return functools.partial(
        encode,
        network.preprocess,
        nets.create_inference_network(network),
        checkpoint_path,
        image_shape=config.image_shape,
        compute=ComputeSettings.of(config),
    )


def check_unseen(run_dir, dataset, test_labels):
    """Check that a run is not scored on what it was trained on, where it is the same data."""
    if is_dataset_of_run(run_dir, dataset.dataset_dir):
        names = {dataset.name_of(label) for label in set(test_labels.tolist())}
        labels.check_unseen(run_dir, names)


def list_versions():
    """List the versions of what scores and exports depend on.

    Returns
    -------
    dict of str -> str
    """
    packages = {"TensorFlow": "tensorflow", "NumPy": "numpy", "OpenCV": "opencv-python"}
    versions = {"Deep ReID": __version__}
    for title, package in packages.items():
        try:
            versions[title] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # installed by another name, or not
            versions[title] = "unknown"
    return {**versions, "Python": platform.python_version()}


def progress_bar(total, title):
    """Open a progress bar over images.

    Parameters
    ----------
    total : int
    title : str

    Returns
    -------
    tqdm.tqdm
    """
    from tqdm import tqdm

    # After a second: an error of the first moment leaves no bar behind.
    return tqdm(total=total, desc=title, unit=" images", delay=1)
