"""The weights that a mode computes with: a checkpoint's, or a copy with batch norm set anew."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator

from deep_reid import nets
from deep_reid.cli.command import Command
from deep_reid.cli.settings import find_run_dir, open_dataset
from deep_reid.cli.subject import progress_bar
from deep_reid.config import ComputeSettings, RunConfig
from deep_reid.config.run import CONFIG_FILENAME
from deep_reid.config.step import StepSettings
from deep_reid.errors import MissingPathError, UsageError
from deep_reid.interfaces import Dataset

_logger = logging.getLogger(__name__)

PROPOSED_BATCHES = 100
"""What the warning about old averages proposes."""


class Weights:
    """Gives the checkpoint to compute with in place of another one.

    With ``--precise_batch_norm``, this is a temporary copy whose batch norm is set anew. Without
    it, it is the checkpoint itself, and a warning says if its averages are old.

    Parameters
    ----------
    args : Command
    dataset_class : type
    config : RunConfig
        Of the run, as `deep_reid.cli.settings.settle` returns it.
    dataset : Dataset, optional
        The training images, if they are open.

    Raises
    ------
    UsageError, MissingPathError
        If batch norm is to be set anew, but there is no checkpoint, or there are no training
        images.
    """

    def __init__(
        self,
        args: Command,
        dataset_class: type[Dataset],
        config: RunConfig,
        dataset: Dataset | None = None,
    ) -> None:
        self._num_batches = args.precise_batch_norm
        self._config = config
        self._dataset = dataset
        self._is_measured = False
        if self._num_batches is None:
            return
        for flag, value in (("frozen_graph", args.frozen_graph), ("features", args.features)):
            if value is not None:
                raise UsageError(
                    f"--precise_batch_norm changes a checkpoint, and --{flag} is none: give it "
                    "when the file is made (--mode=freeze, --mode=export)"
                )
        if dataset is None:
            self._dataset = _open_training_images(args, dataset_class, config)

    @property
    def facts(self) -> dict[str, int]:
        """What files and scores tell about the weights."""
        return {} if self._num_batches is None else {"precise_batch_norm": self._num_batches}

    def within(self, stack: contextlib.ExitStack) -> Callable[[str], str]:
        """Return a function from a checkpoint to the one to compute with until a stack is closed.

        Parameters
        ----------
        stack : contextlib.ExitStack

        Returns
        -------
        callable
        """
        return lambda checkpoint_path: stack.enter_context(self.of(checkpoint_path))

    @contextlib.contextmanager
    def of(self, checkpoint_path: str) -> Iterator[str]:
        """Prepare a checkpoint.

        Parameters
        ----------
        checkpoint_path : str

        Yields
        ------
        str
            The checkpoint to compute with, until the block ends.
        """
        if self._num_batches is None or self._dataset is None:
            if not self._is_measured:  # later checkpoints have less of the start values
                self._is_measured = _warn_of_start_values(checkpoint_path, self._config)
            yield checkpoint_path
            return
        precise = self._create_precise_batch_norm(self._num_batches, self._dataset)
        with precise.applied(checkpoint_path) as path:
            yield path

    def _create_precise_batch_norm(self, num_batches, dataset):
        from deep_reid.export.precise_batch_norm import PreciseBatchNorm

        config, images = self._config, dataset.train.filenames
        _logger.info(
            "Setting batch norm anew with %d batches of %d images; %s has %d to train on",
            num_batches,
            config.batch_size,
            dataset.dataset_dir,
            len(images),
        )
        network = nets.load_network(config.network)
        return PreciseBatchNorm(
            preprocess_fn=network.preprocess,
            network_factory=nets.create_inference_network(network),
            training_factory=_create_training_network(network, config),
            images=images,
            num_batches=num_batches,
            batch_size=config.batch_size,
            image_shape=config.image_shape,
            seed=config.seed or 0,
            on_bad_image=config.on_bad_image,
            max_bad_percent=config.max_bad_percent,
            compute=ComputeSettings.of(config),
            show_progress=_updating_bar,
        )


@contextlib.contextmanager
def _updating_bar(total):
    with progress_bar(total, "batch norm") as bar:
        yield bar.update


def _create_training_network(network, config):
    """Create the factory of the network in training mode, with the decay of the run's averages."""
    from deep_reid.nets import start

    create = network.create_network_factory(is_training=True, num_classes=None, add_logits=False)
    settings = StepSettings(batch_norm_decay=config.batch_norm_decay)

    def network_factory(images):
        with start.starting(settings):
            return create(images)

    return network_factory


def _open_training_images(args, dataset_class, config):
    """Open the data set that the run was trained on."""
    run_dir = find_run_dir(args)
    if args.mode in ("test", "export") and run_dir is not None:
        # Here the command line names the images of the test, which may be of another data set.
        with contextlib.suppress(MissingPathError):
            recorded = RunConfig.load(run_dir)
            if recorded.dataset is not None and os.path.exists(recorded.dataset):
                config = recorded
    if config.dataset is None:
        raise UsageError(
            "--precise_batch_norm needs the images that the network was trained on: name "
            f"{dataset_class.TITLE}, as --dataset_dir=DIR"
        )
    try:
        return open_dataset(dataset_class, config)
    except MissingPathError as error:
        raise MissingPathError(
            "--precise_batch_norm needs the images that the network was trained on (with the "
            f"script that trained it; --dataset_dir names them if they were moved): {error}"
        ) from error


def _warn_of_start_values(checkpoint_path, config):
    """Warn if averages still consist of start values; return whether that was measured."""
    from deep_reid.export import precise_batch_norm
    from deep_reid.runs import checkpoints

    folder = os.path.dirname(checkpoint_path)
    # Other weights may have any number of steps behind them.
    if not os.path.exists(os.path.join(folder, CONFIG_FILENAME)) or config.restore_path:
        return False
    step = checkpoints.step_of(checkpoint_path)
    if not 0 < step <= precise_batch_norm.MAX_STEPS_OF_START_VALUES:
        return False
    network = nets.load_network(config.network)
    gathered = precise_batch_norm.find_gathered(
        network.preprocess, _create_training_network(network, config), config.image_shape
    )
    share = precise_batch_norm.measure_start_share(checkpoint_path, step, gathered)
    if share < precise_batch_norm.MAX_START_SHARE:
        return True
    _logger.warning(
        "After %d steps, batch norm's running averages still consist of start values by %.0f %%: "
        "features of different images are too alike, and no threshold on distances fits. "
        "--precise_batch_norm=%d sets the averages anew from training images, without training",
        step,
        100 * share,
        PROPOSED_BATCHES,
    )
    return True
