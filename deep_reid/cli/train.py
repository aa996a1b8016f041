"""``--mode=train``: trains a run until its last step.

TensorFlow takes seconds to import. The functions import it after they have checked arguments and
data, so that the answer to a mistake comes at once.
"""

import contextlib
import dataclasses
import logging
import os
import sys

from deep_reid import nets
from deep_reid.cli import cluster
from deep_reid.cli.command import Command
from deep_reid.cli.evaluate import check_validation, evaluating
from deep_reid.cli.outputs import name_of_run
from deep_reid.cli.settings import open_dataset, settle_training
from deep_reid.cli.subject import import_tensorflow, list_versions, progress_bar, showing_steps
from deep_reid.config import recipes
from deep_reid.config.cluster import Place, read_place
from deep_reid.config.loss_modes import facts_of_loss
from deep_reid.config.run import NETWORKS
from deep_reid.engine.callbacks import Callbacks
from deep_reid.errors import DataError
from deep_reid.interfaces import Dataset
from deep_reid.runs import folder, labels, records, resuming, stopping
from deep_reid.samplers import batches
from deep_reid.system import files, locks, signals
from deep_reid.system.tables import list_some

_logger = logging.getLogger(__name__)


def train(args: Command, dataset_class: type[Dataset]) -> None:
    """Train a run until its last step, alone or as ``TF_CONFIG`` says."""
    place = Place() if _is_benchmark(args) else read_place()
    if cluster.assist(args, dataset_class, place):
        return
    config = settle_training(args, dataset_class)
    cluster.check_place(place, config)
    _check_arguments(args, config, is_chief=place.number == 0)
    if config.dataset is not None and os.path.exists(config.dataset):
        _logger.info("Reading %s in %s", dataset_class.TITLE, config.dataset)
    dataset = open_dataset(dataset_class, config)
    for line in dataset.summary_table().splitlines():
        _logger.info("%s", line)
    num_identities = dataset.train.num_identities
    config = _fit_recipe(args, config, num_identities)
    if dataset_class.FITS_BATCHES:
        config = _fit_batches(config, num_identities)
    batches.check_enough_identities(num_identities, config.batch_size, config.num_images_per_id)
    if args.eval_every is not None:
        check_validation(dataset)
    class_names, classes = None, dataset.train.labels
    if config.compact_labels:
        class_names, classes = labels.to_classes(dataset.train.labels, dataset.name_of)
    add_logits = facts_of_loss(config.loss_mode).needs_logits
    num_classes = dataset.num_classes if class_names is None else len(class_names)
    num_classes *= config.classes_per_identity
    if place.number == 0:
        _check_classes(args, config, num_classes if add_logits else None, class_names)
    elif args.run_id is not None and class_names is not None:
        # The settings are compared with the chief's, which may record them at this moment.
        labels.check_same(os.path.join(args.log_dir, args.run_id), class_names)
    if args.check_data:
        _check_data(dataset, config)
    import_tensorflow()
    network = nets.load_network(config.network)
    _log_environment(config)
    network_factory = network.create_network_factory(
        is_training=True,
        num_classes=num_classes,
        add_logits=add_logits,
    )
    subject = (network.preprocess, network_factory, dataset.train.filenames, classes)
    if _is_benchmark(args):
        _benchmark(args, config, *subject)
        return
    if config.number_of_steps is None:
        _logger.info("Training goes on until Ctrl-C, as there is no --number_of_steps")
    config = dataclasses.replace(config, dataset=os.path.abspath(dataset.dataset_dir))
    _train_run(args, config, dataset, subject, class_names, place)


def _train_run(args, config, dataset, subject, class_names, place):
    preprocess_fn, network_factory, filenames, classes = subject
    from deep_reid.training import loop

    with contextlib.ExitStack() as stack:
        should_stop = stack.enter_context(cluster.deferring_signals(place))
        members, run, config = stack.enter_context(
            cluster.opened(args, config, place, len(dataset.train), should_stop)
        )
        show = stack.enter_context(showing_steps(config, len(dataset.train)))
        callbacks = Callbacks(on_step=show)
        if members.is_chief:
            callbacks = dataclasses.replace(callbacks, should_stop=should_stop)
        if args.eval_every is not None and members.is_chief:
            evaluate = stack.enter_context(evaluating(args, config, dataset, run.run_id))
            callbacks = dataclasses.replace(
                callbacks, evaluate=evaluate, eval_every=args.eval_every
            )
        loop.train(
            preprocess_fn,
            network_factory,
            filenames,
            classes,
            config,
            run,
            class_names,
            cluster=members,
            callbacks=callbacks,
        )
    signal_number = should_stop()
    if signal_number is not None:
        if members.is_chief:
            _logger.info("Saved; --run_id=%s goes on from there", run.run_id)
        raise signals.Stopped(signal_number)
    if not members.is_chief:
        return
    is_early = stopping.is_requested(run.run_dir)
    end = "has ended early, and goes on when it is started again" if is_early else "is trained"
    _logger.info("Run %s %s: --mode=test scores it, --mode=freeze exports it", run.run_id, end)


def _check_arguments(args, config, is_chief):
    """Check what can be checked without TensorFlow, which takes seconds to import."""
    run_dir = None
    files.check_folder(args.log_dir)
    if args.eval_every is not None:
        files.check_folder(args.eval_log_dir)
    if args.run_id is not None:
        folder.check_name(args.run_id)
        run_dir = os.path.join(args.log_dir, args.run_id)
        others = "" if os.path.isdir(run_dir) else folder.name_runs(args.log_dir, args.run_id)
        if others:
            _logger.info("Run %s is new; to go on with another: --run_id=%s", args.run_id, others)
    elif not _is_benchmark(args):
        names = folder.list_runs(args.log_dir)
        if names:
            _logger.info(
                "Without --run_id, a run is new; to go on with one, name it: %s", list_some(names)
            )
    if run_dir and is_chief and not _is_benchmark(args):
        locks.check_free(run_dir, f"run {args.run_id}")
        if args.eval_every is not None:
            eval_dir = os.path.join(args.eval_log_dir, args.run_id)
            locks.check_free(eval_dir, f"run {args.run_id}", locks.EVALUATION)
        resuming.compare(run_dir, config)
    nets.check_found(config.network)
    nets.check_scopes(config.network, config.trainable_scopes)
    # A run that goes on does not need the checkpoint that it has begun with.
    if config.restore_path and is_chief and not (run_dir and records.list_checkpoints(run_dir)):
        source = records.resolve_checkpoint(config.restore_path)
        changes = resuming.compare_with_source(source, config)
        if changes:
            _logger.info(
                "Run %s, which the weights are of, had other settings: %s",
                name_of_run(os.path.dirname(source) or "."),
                ", ".join(changes),
            )


def _check_classes(args, config, num_classes, class_names):
    """Check that a run goes on with the identities that it began with."""
    if args.run_id is None or _is_benchmark(args):
        return
    # The classes of a network of the user's are known only when it is built.
    if config.network in NETWORKS:
        config = dataclasses.replace(config, num_classes=num_classes)
    resuming.compare(os.path.join(args.log_dir, args.run_id), config, class_names)


def _is_benchmark(args):
    return args.benchmark_input or args.benchmark_model


def _benchmark(args, config, preprocess_fn, network_factory, filenames, classes):
    """Print how fast images are read, and how fast training steps are, each alone."""
    from deep_reid.training import speed

    measure = {
        "input": lambda: speed.measure_input(preprocess_fn, filenames, classes, config),
        "model": lambda: speed.measure_model(
            preprocess_fn, network_factory, filenames, classes, config
        ),
    }
    speeds = {}
    for name in [name for name in measure if getattr(args, f"benchmark_{name}")]:
        _logger.info("Measuring the %s alone", name)
        speeds[name] = measure[name]()
        sys.stdout.write(f"{name} alone: {speeds[name]:.1f} images/s\n")
        sys.stdout.flush()
    if len(speeds) > 1:
        sys.stdout.write(f"the {min(speeds, key=speeds.__getitem__)} limits this training\n")


def _fit_recipe(args, config, num_identities):
    if args.recipe is None:
        return config
    settings = {
        name: value
        for name, value in recipes.settings_for_few(args.recipe, config, num_identities).items()
        if name not in args.given
    }
    if settings:
        _logger.info(
            "Recipe %s, with fewer than %d identities to train on: %s",
            args.recipe,
            recipes.FEW_IDENTITIES,
            recipes.list_values(settings),
        )
    return dataclasses.replace(config, **settings)


def _fit_batches(config, num_identities):
    batch_size = num_identities * config.num_images_per_id
    if config.batch_size <= batch_size:
        return config
    _logger.warning(
        "There are no more than %d identities to train on: the batch size is %d, not %d",
        num_identities,
        batch_size,
        config.batch_size,
    )
    return dataclasses.replace(config, batch_size=batch_size)


def _check_data(dataset, config):
    from deep_reid.images.check import check_images

    splits = dataset.list_splits().values()
    filenames = [name for split in splits for name in split.filenames]
    identities = [dataset.name_of(label) for split in splits for label in split.labels.tolist()]
    with progress_bar(len(filenames), "check") as bar:
        problems = check_images(filenames, identities, config.image_shape[2], progress=bar.update)
    for problem in problems:
        _logger.warning("%s: %s", problem.filename, problem.reason)
    if problems:
        raise DataError(
            f"{len(problems)} of {len(filenames)} images cannot be used (listed above): replace "
            "the files, or remove them from the data set"
        )
    _logger.info("All %d images can be read, and none is of two identities", len(filenames))


def _log_environment(config):
    from deep_reid.runtime.sessions import describe_devices

    versions = ", ".join(f"{name} {version}" for name, version in list_versions().items())
    _logger.info("%s, %s", versions, describe_devices())
    _logger.info(
        "Loss %s, learning rate %g, %d identities x %d images per batch, seed %d",
        config.loss_mode,
        config.learning_rate,
        config.num_identities_per_batch,
        config.num_images_per_id,
        config.seed,
    )
