"""What a mode works on: which run, which checkpoint, which network."""

import functools
import importlib.metadata
import logging
import platform
from collections.abc import Callable
from typing import Any

import numpy as np

from deep_reid import __version__, nets
from deep_reid.cli.command import Command
from deep_reid.cli.settings import find_run_dir, is_dataset_of_run
from deep_reid.config import ComputeSettings, RunConfig
from deep_reid.config.run import NETWORKS
from deep_reid.errors import MissingPathError, UsageError
from deep_reid.interfaces import Dataset
from deep_reid.runs import labels

_logger = logging.getLogger(__name__)


def require_run(args: Command) -> str:
    """Find the directory of the run that the command line names.

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


def find_checkpoint(args: Command, config: RunConfig) -> str:
    """Find the checkpoint that the command line names, and check that it fits the network.

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
            f"checkpoint {checkpoint_path} is of another network than {config.network}: name it "
            f"with --network ({', '.join(NETWORKS)}, or MODULE:NAME of your own)"
        )
    return checkpoint_path


def create_encoder(checkpoint_path: str, config: RunConfig) -> Callable[..., np.ndarray]:
    """Create a function that computes the features of images with a checkpoint.

    Parameters
    ----------
    checkpoint_path : str
    config : RunConfig

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


def choose_encoder(
    args: Command, config: RunConfig
) -> tuple[dict[str, Any], Callable[..., np.ndarray]]:
    """Create a function that computes features, with the graph or the checkpoint that is named.

    Parameters
    ----------
    args : Command
    config : RunConfig

    Returns
    -------
    source : dict
        What computes them, for reports.
    encode_images : callable
        Takes `images_or_filenames`, `batch_size` and `progress`, as `deep_reid.export.encode` does.
    """
    if args.frozen_graph is None:
        checkpoint_path = find_checkpoint(args, config)
        source = {"checkpoint": checkpoint_path, "precision": config.precision}
        return source, create_encoder(checkpoint_path, config)
    from deep_reid.export.encoding import encode_with_frozen_graph

    encode_images = functools.partial(
        encode_with_frozen_graph, args.frozen_graph, compute=ComputeSettings.of(config)
    )
    return {"frozen_graph": args.frozen_graph}, encode_images


def check_unseen(run_dir: str, dataset: Dataset, test_labels: np.ndarray) -> None:
    """Check that a run is not scored on identities that it was trained on."""
    if is_dataset_of_run(run_dir, dataset.dataset_dir):
        names = {dataset.name_of(label) for label in set(test_labels.tolist())}
        labels.check_unseen(run_dir, names)


def list_versions() -> dict[str, str]:
    """List the versions of the packages that scores and exports depend on.

    Returns
    -------
    dict of str -> str
    """
    packages = {"TensorFlow": "tensorflow", "NumPy": "numpy", "OpenCV": "opencv-python"}
    versions = {"Deep ReID": __version__}
    for title, package in packages.items():
        try:
            versions[title] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # installed under another name
            versions[title] = "unknown"
    return {**versions, "Python": platform.python_version()}


def progress_bar(total: int, title: str) -> Any:
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

    # With a delay: an error at the start leaves no bar behind.
    return tqdm(total=total, desc=title, unit=" images", delay=1)
