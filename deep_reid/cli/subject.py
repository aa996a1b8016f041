"""What a mode works on: which run, which checkpoint, which network."""

import contextlib
import dataclasses
import functools
import importlib
import importlib.metadata
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from deep_reid import __version__, nets
from deep_reid.cli.command import Command
from deep_reid.cli.outputs import Origin, name_of_run, read_origin
from deep_reid.cli.settings import find_run_dir, is_dataset_of_run
from deep_reid.config import ComputeSettings, RunConfig
from deep_reid.config.run import NETWORKS
from deep_reid.engine.progress import count_epochs
from deep_reid.errors import MissingPathError, UsageError
from deep_reid.export import formats
from deep_reid.interfaces import Dataset
from deep_reid.runs import folder, labels, records
from deep_reid.system.tables import list_some

_logger = logging.getLogger(__name__)
_FEW_IDENTITIES = 10


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
            f"{args.log_dir} has no run: train first (--mode=train), name another directory of "
            "runs with --log_dir, or name a checkpoint with --restore_path"
        )
    return run_dir


def name_others(args: Command, run_id: str) -> str:
    """Name the other runs, where the command line names none: the latest may not be the one.

    Parameters
    ----------
    args : Command
    run_id : str
        The run that is taken.

    Returns
    -------
    str
        To go on with in a line of the log; empty where there is no choice.
    """
    if args.run_id is not None or args.checkpoint is not None:
        return ""
    others = [name for name in folder.list_runs(args.log_dir) if name != run_id]
    return f"; --run_id takes another one: {list_some(others)}" if others else ""


def find_checkpoint(args: Command, config: RunConfig) -> Origin:
    """Find the checkpoint that the command line names, and check that it fits the network.

    Parameters
    ----------
    args : Command
    config : RunConfig

    Returns
    -------
    Origin
        The checkpoint, with its run and step.

    Raises
    ------
    MissingPathError
        If there is none.
    UsageError
        If it is of another network.
    """
    checkpoint_path = records.resolve_checkpoint(args.checkpoint or require_run(args))
    nets.check_found(config.network)
    import_tensorflow()
    from deep_reid.runs import checkpoints

    maker = read_origin(checkpoint_path)  # finalized weights have no step of their own
    num_batches = args.precise_batch_norm
    if maker is None:
        run_id = name_of_run(os.path.dirname(checkpoint_path))
        step = checkpoints.step_of(checkpoint_path)
    else:
        run_id, step = maker.run, maker.step
        num_batches = num_batches or maker.precise_batch_norm
    origin = Origin(
        run=run_id, step=step, checkpoint=checkpoint_path, precise_batch_norm=num_batches
    )
    others = "" if run_id is None else name_others(args, run_id)
    _logger.info("Using %s: %s%s", origin, checkpoint_path, others)
    if step == 0 and checkpoint_path.endswith("-0"):
        _logger.warning("This is the checkpoint of step 0: nothing has been learned yet")
    network = nets.load_network(config.network)
    if not nets.may_fit(network, checkpoints.variable_shapes(checkpoint_path)):
        raise UsageError(
            f"checkpoint {checkpoint_path} is of another network than {config.network}: name it "
            f"with --network ({', '.join(NETWORKS)}, or MODULE:NAME of your own)"
        )
    return origin


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
    args: Command, config: RunConfig, prepare: Callable[[str], str] = lambda path: path
) -> tuple[dict[str, Any], Callable[..., np.ndarray]]:
    """Create a function that computes features, with the graph or the checkpoint that is named.

    Parameters
    ----------
    args : Command
    config : RunConfig
    prepare : callable
        ``prepare(checkpoint_path)`` returns the checkpoint to compute with in its place.

    Returns
    -------
    source : dict
        What computes them, for reports.
    encode_images : callable
        Takes `images_or_filenames`, `batch_size` and `progress`, as `deep_reid.export.encode` does.
    """
    source = _find_source(args, config)
    if args.frozen_graph is None:
        return source, create_encoder(prepare(source["checkpoint"]), config)
    import_tensorflow()
    from deep_reid.export.encoding import encode_with_frozen_graph

    encode_images = functools.partial(
        encode_with_frozen_graph,
        args.frozen_graph,
        compute=ComputeSettings.of(config),
        trust=args.trust_graph,
    )
    return source, encode_images


def open_encoder(
    args: Command, config: RunConfig, prepare: Callable[[str], str] = lambda path: path
) -> tuple[dict[str, Any], Any]:
    """Load the graph or the checkpoint that is named, to compute features of boxes on frames.

    Parameters
    ----------
    args : Command
    config : RunConfig
    prepare : callable
        As in `choose_encoder`.

    Returns
    -------
    source : dict
        What computes them, for reports.
    encoder : deep_reid.Encoder
    """
    source = _find_source(args, config)
    of_checkpoint = args.frozen_graph is None
    if args.frozen_graph is not None and formats.needs_tensorflow(args.frozen_graph):
        import_tensorflow()
    from deep_reid.export.encoder import Encoder

    encoder = Encoder(
        prepare(source["checkpoint"]) if of_checkpoint else source["frozen_graph"],
        network=config.network if of_checkpoint else None,
        image_shape=config.image_shape if of_checkpoint else None,
        max_batch_size=args.batch_size,
        compute=ComputeSettings.of(config),
        trust=args.trust_graph,
    )
    return source, encoder


def _find_source(args, config):
    """Find what computes features; for a checkpoint, import TensorFlow."""
    if args.frozen_graph is None:
        origin = find_checkpoint(args, config)
        return {**dataclasses.asdict(origin), "precision": config.precision}
    if args.checkpoint is not None:
        raise UsageError("--frozen_graph and --restore_path are two networks: give one of them")
    check_graph_exists(args)  # before TensorFlow is imported
    maker = read_origin(args.frozen_graph)
    made_of = {} if maker is None else {"run": maker.run, "step": maker.step}
    return {"frozen_graph": args.frozen_graph, **made_of}


def check_graph_exists(args: Command) -> None:
    """Raise a `MissingPathError` if the command line names a graph that does not exist."""
    if args.frozen_graph is not None:
        known = formats.find_format(args.frozen_graph) or formats.FORMATS["pb"]
        known.check_exists(args.frozen_graph)


def take_run_of_graph(args: Command) -> Command:
    """Take the run that a frozen graph was made of, where the command line names none.

    Parameters
    ----------
    args : Command

    Returns
    -------
    Command
    """
    if args.frozen_graph is None or args.run_id is not None:
        return args
    maker = read_origin(args.frozen_graph)
    if maker is None or maker.run is None:
        return args
    run_dir = os.path.dirname(maker.checkpoint)
    for log_dir in (os.path.dirname(run_dir) or os.curdir, args.log_dir):
        if maker.run in folder.list_runs(log_dir):
            return dataclasses.replace(args, log_dir=log_dir, run_id=maker.run)
    _logger.warning(
        "%s was made of run %s, whose folder %s is gone: settings such as the loss, which chooses "
        "the distance, are those of the latest run, or defaults",
        args.frozen_graph,
        maker.run,
        run_dir,
    )
    return args


def check_unseen(run_dir: str, dataset: Dataset, test_labels: np.ndarray) -> None:
    """Check that a run is not scored on identities that it was trained on."""
    if is_dataset_of_run(run_dir, dataset.dataset_dir):
        names = {dataset.name_of(label) for label in set(test_labels.tolist())}
        labels.check_unseen(run_dir, names)


def warn_of_few(num_identities: int, way_out: str) -> None:
    """Log that scores say little, if they are of few identities.

    Parameters
    ----------
    num_identities : int
        That are compared.
    way_out : str
    """
    if num_identities < _FEW_IDENTITIES:
        _logger.warning(
            "The scores are of %d identities, and those of fewer than %d say little: %s",
            num_identities,
            _FEW_IDENTITIES,
            way_out,
        )


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


def import_tensorflow() -> None:
    """Import TensorFlow, which takes seconds; say so, as nothing else happens meanwhile."""
    if sys.modules.get("tensorflow") is None:
        _logger.info("Importing TensorFlow")
        importlib.import_module("deep_reid.runtime.compat")


def progress_bar(total: int, title: str, unit: str = "images") -> Any:
    """Open a progress bar.

    Parameters
    ----------
    total : int
    title : str
    unit : str
        What is counted.

    Returns
    -------
    tqdm.tqdm
    """
    from tqdm import tqdm

    # With a delay: an error at the start leaves no bar behind.
    return tqdm(total=total, desc=title, unit=f" {unit}", delay=1)


@contextlib.contextmanager
def showing_steps(config: RunConfig, num_images: int) -> Iterator[Callable[[int, float], None]]:
    """Show a bar over the steps of a training on a terminal; log lines go above it.

    Parameters
    ----------
    config : RunConfig
    num_images : int
        Images to train on.

    Yields
    ------
    callable
        ``show(step, loss)``, to be called after each step.
    """
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    if not sys.stderr.isatty():
        yield lambda step, loss: None
        return
    bar = None
    with contextlib.ExitStack() as stack:

        def show(step, loss):
            nonlocal bar
            if bar is None:  # the first step takes longer than others: it is not in the speed
                bar = tqdm(total=config.number_of_steps, initial=step, unit="step")
                stack.enter_context(bar)
                stack.enter_context(logging_redirect_tqdm())
            epoch = count_epochs(step, config.batch_size, num_images)
            bar.set_postfix_str(f"loss {loss:.4f}, epoch {epoch:.1f}", refresh=False)
            bar.update(step - bar.n)

        yield show
