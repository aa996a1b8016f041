"""The command line that the training scripts share.

A script hands in its data set class, all else is here: ``sys.exit(cli.main(Market1501))``.
"""

import argparse
import logging
import math
import os
import platform
import secrets
import sys

from deep_reid import __version__, runs
from deep_reid.config import LOSS_MODES, RunConfig
from deep_reid.errors import MissingPathError, ReidError, RunError, UsageError, first_line

_logger = logging.getLogger(__name__)
_EXIT_CODE_INTERRUPTED = 130


def main(dataset_class, argv=None):
    """Run a training script.

    Parameters
    ----------
    dataset_class : type
        A data set as `datasets.base.ReidDataset` describes it.
    argv : list of str, optional
        Default: the process's arguments.

    Returns
    -------
    int
        Exit code: 0, 1 (data or run), 2 (usage), 130 (Ctrl-C).
    """
    args = create_argument_parser(dataset_class).parse_args(argv)
    _set_up_logging(args.debug)
    try:
        MODES[args.mode](args, dataset_class)
    except KeyboardInterrupt:
        _logger.warning("Interrupted")
        return _EXIT_CODE_INTERRUPTED
    except _expected_errors() as error:
        _logger.error("%s", first_line(error), exc_info=args.debug)
        return getattr(error, "exit_code", 1)
    return 0


def create_argument_parser(dataset_class):
    """Create the parser of a training script.

    Parameters
    ----------
    dataset_class : type
        A data set as `datasets.base.ReidDataset` describes it; gives the defaults.

    Returns
    -------
    argparse.ArgumentParser
    """
    name = dataset_class.NAME
    parser = _ArgumentParser(
        description=f"Train, evaluate and export a re-identification network on "
        f"{dataset_class.TITLE}.",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--mode", choices=MODES, default="train", help="what to do")
    parser.add_argument(
        "--dataset_dir", default=dataset_class.DEFAULT_DIR, help=f"folder of {dataset_class.TITLE}"
    )
    parser.add_argument(
        "--log_dir", default=f"./output/{name}/train", help="where training writes its runs"
    )
    parser.add_argument(
        "--run_id", help="name of the run (default: training makes one, others take the latest)"
    )
    parser.add_argument(
        "--restore_path",
        help="checkpoint: its prefix, any of its files or its directory (default: a new run starts "
        "from scratch, others take the run's latest)",
    )
    parser.add_argument(
        "--batch_size", type=_positive_int, default=128, help="images that are processed at once"
    )
    parser.add_argument(
        "--loss_mode",
        choices=LOSS_MODES,
        help="loss to train on (default: cosine-softmax; evaluation takes the run's)",
    )
    parser.add_argument("--debug", action="store_true", help="log more, and errors with a trace")
    _add_training_arguments(parser.add_argument_group("train"))
    _add_evaluation_arguments(parser.add_argument_group("eval"), name)
    _add_export_arguments(parser.add_argument_group("export, finalize, freeze"), name)
    return parser


def _add_training_arguments(group):
    group.add_argument("--learning_rate", type=_positive_float, default=1e-3, help="of Adam")
    group.add_argument(
        "--number_of_steps", type=_positive_int, help="last step (default: until it is stopped)"
    )
    group.add_argument(
        "--seed", type=_seed, help="makes weights and sampling reproducible (default: drawn)"
    )
    group.add_argument(
        "--save_interval_secs", type=_positive_float, default=300, help="between checkpoints"
    )
    group.add_argument(
        "--save_summaries_secs", type=_positive_float, default=60, help="between summaries"
    )
    group.add_argument(
        "--max_checkpoints_to_keep", type=_positive_int, default=5, help="older ones are deleted"
    )
    group.add_argument(
        "--log_every_n_steps", type=_positive_int, default=10, help="steps between lines in the log"
    )


def _add_evaluation_arguments(group, name):
    group.add_argument(
        "--eval_log_dir", default=f"./output/{name}/eval", help="where evaluation writes"
    )
    group.add_argument(
        "--eval_interval_secs",
        type=_positive_float,
        default=60,
        help="between looks for new checkpoints",
    )
    group.add_argument(
        "--max_num_evaluations", type=_positive_int, help="evaluations to make (default: no end)"
    )
    group.add_argument(
        "--timeout_secs",
        type=_positive_float,
        help="ends after so long without a new checkpoint (default: never)",
    )


def _add_export_arguments(group, name):
    group.add_argument(
        "--sdk_dir", default=f"./output/{name}/export", help="where export writes its .mat files"
    )
    group.add_argument(
        "--output", help=f"file to write (default: ./{name}.ckpt for finalize, ./{name}.pb)"
    )


def _train(args, dataset_class):
    loss_mode, seed = _settings_of_run(args.log_dir, args.run_id)
    config = RunConfig(
        image_shape=dataset_class.IMAGE_SHAPE,
        batch_size=args.batch_size,
        loss_mode=args.loss_mode or loss_mode,
        learning_rate=args.learning_rate,
        number_of_steps=args.number_of_steps,
        seed=seed if args.seed is None else args.seed,
        restore_path=args.restore_path,
        save_summaries_secs=args.save_summaries_secs,
        save_interval_secs=args.save_interval_secs,
        max_checkpoints_to_keep=args.max_checkpoints_to_keep,
        log_every_n_steps=args.log_every_n_steps,
    )
    dataset = dataset_class(args.dataset_dir)
    _logger.info("%s in %s", dataset_class.TITLE, args.dataset_dir)
    for line in dataset.summary_table().splitlines():
        _logger.info("%s", line)
    from deep_reid import training
    from deep_reid.nets import deep_sort

    _log_environment(config)
    network_factory = deep_sort.create_network_factory(
        is_training=True,
        num_classes=dataset.num_classes,
        add_logits=config.loss_mode == "cosine-softmax",
    )
    training.train(
        deep_sort.preprocess,
        network_factory,
        dataset.train.filenames,
        dataset.train.labels,
        config,
        args.log_dir,
        args.run_id,
    )


def _eval(args, dataset_class):
    if args.restore_path is not None:
        raise UsageError(
            "--restore_path does not go with --mode=eval, which watches the checkpoints of a run: "
            "name the run with --run_id"
        )
    validation = dataset_class(args.dataset_dir).validation
    run_id = runs.wait_for_run(args.log_dir, args.run_id, timeout_secs=args.timeout_secs)
    from deep_reid import evaluation
    from deep_reid.nets import deep_sort

    _logger.info("Evaluating run %s on %d images", run_id, len(validation))
    scores = evaluation.eval_loop(
        deep_sort.preprocess,
        _create_inference_network(),
        validation.filenames,
        validation.labels,
        validation.cameras,
        args.log_dir,
        args.eval_log_dir,
        image_shape=dataset_class.IMAGE_SHAPE,
        run_id=run_id,
        loss_mode=args.loss_mode or _settings_of_run(args.log_dir, run_id)[0],
        num_galleries=dataset_class.NUM_GALLERIES,
        eval_interval_secs=args.eval_interval_secs,
        max_num_evaluations=args.max_num_evaluations,
        timeout_secs=args.timeout_secs,
    )
    if scores is None:
        raise RunError(
            f"run {run_id} in {args.log_dir} had no checkpoint for {args.timeout_secs:g} s: is "
            "training under way? A longer --timeout_secs waits longer"
        )


def _export(args, dataset_class):
    image_files = dataset_class(args.dataset_dir).export_files()
    checkpoint_path = _find_checkpoint(args)
    from deep_reid import export, matlab
    from deep_reid.nets import deep_sort

    for filename, images in image_files.items():
        path = os.path.join(args.sdk_dir, filename)
        with _progress_bar(len(images), filename) as bar:
            features = export.encode(
                deep_sort.preprocess,
                _create_inference_network(),
                checkpoint_path,
                images,
                batch_size=args.batch_size,
                image_shape=dataset_class.IMAGE_SHAPE,
                progress=bar.update,
            )
        matlab.write_features(path, features)
        _logger.info("Wrote the features of %d images to %s", len(images), path)


def _finalize(args, dataset_class):
    checkpoint_path = _find_checkpoint(args)
    from deep_reid import checkpoints, export
    from deep_reid.nets import deep_sort

    num_classes = deep_sort.num_classes_in(checkpoints.variable_shapes(checkpoint_path))
    network_factory = deep_sort.create_network_factory(
        is_training=False, num_classes=num_classes, add_logits=num_classes is not None
    )
    export.finalize(
        deep_sort.preprocess,
        network_factory,
        checkpoint_path,
        dataset_class.IMAGE_SHAPE,
        args.output or f"./{dataset_class.NAME}.ckpt",
    )


def _freeze(args, dataset_class):
    checkpoint_path = _find_checkpoint(args)
    from deep_reid import export
    from deep_reid.nets import deep_sort

    export.freeze(
        deep_sort.preprocess,
        _create_inference_network(),
        checkpoint_path,
        dataset_class.IMAGE_SHAPE,
        args.output or f"./{dataset_class.NAME}.pb",
    )


MODES = {
    "train": _train,
    "eval": _eval,
    "export": _export,
    "finalize": _finalize,
    "freeze": _freeze,
}


def _create_inference_network():
    from deep_reid.nets import deep_sort

    return deep_sort.create_network_factory(is_training=False, num_classes=None, add_logits=False)


def _find_checkpoint(args):
    path = args.restore_path
    if path is None:
        run_id = args.run_id or runs.find_latest_run(args.log_dir)
        path = os.path.join(args.log_dir, run_id or "")
        if run_id is None or not os.path.isdir(path):
            raise MissingPathError(
                f"{args.log_dir} has no run{f' {args.run_id}' if args.run_id else ''}: train first "
                "(--mode=train), name another run, or name a checkpoint with --restore_path"
            )
    from deep_reid import checkpoints

    checkpoint_path = checkpoints.resolve_checkpoint(path)
    _logger.info("Using checkpoint %s", checkpoint_path)
    if checkpoints.step_of(checkpoint_path) == 0 and checkpoint_path.endswith("-0"):
        _logger.warning("This is the checkpoint of step 0: nothing has been learned yet")
    return checkpoint_path


def _settings_of_run(log_dir, run_id):
    """Return loss mode and seed of a run, or the defaults for a new one."""
    try:
        config = RunConfig.load(os.path.join(log_dir, run_id or ""))
    except MissingPathError:
        # A new run, or one of another program. A seed of its own makes a run repeatable.
        return LOSS_MODES[0], secrets.randbelow(2**31)
    return config.loss_mode, config.seed


def _log_environment(config):
    import cv2
    import numpy as np

    from deep_reid.compat import tf
    from deep_reid.sessions import describe_devices

    _logger.info(
        "Deep ReID %s, TensorFlow %s, NumPy %s, OpenCV %s, Python %s, %s",
        __version__,
        tf.__version__,
        np.__version__,
        cv2.__version__,
        platform.python_version(),
        describe_devices(),
    )
    _logger.info(
        "Loss %s, learning rate %g, %d identities x %d images per batch, seed %d",
        config.loss_mode,
        config.learning_rate,
        config.num_identities_per_batch,
        config.num_images_per_id,
        config.seed,
    )


def _progress_bar(total, title):
    from tqdm import tqdm

    return tqdm(total=total, desc=title, unit=" images")


def _set_up_logging(debug):
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if debug else logging.INFO,
        format="%(asctime)s %(levelname)-7s %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
    )


def _expected_errors():
    """Errors that get one line: of the user's data and settings, of the disk, and of TensorFlow."""
    tensorflow = sys.modules.get("tensorflow")  # imported only by the modes that need it
    return (ReidError, OSError) + ((tensorflow.errors.OpError,) if tensorflow else ())


class _ArgumentParser(argparse.ArgumentParser):
    def error(self, message):
        # Without the usage of all flags, in which the one line that matters would drown.
        self.exit(2, f"{self.prog}: error: {message} (--help lists all settings)\n")


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action):
        # Where there is no fixed default, the help itself says what happens.
        return action.help if action.default is None else super()._get_help_string(action)


def _create_number_reader(convert, is_valid, rule):
    def read(text):
        try:
            value = convert(text)
        except ValueError:
            value = None
        if value is None or not is_valid(value):
            raise argparse.ArgumentTypeError(f"{text} must be {rule}")
        return value

    return read


_positive_int = _create_number_reader(int, lambda x: x >= 1, "a whole number of at least 1")
_positive_float = _create_number_reader(
    float, lambda x: math.isfinite(x) and x > 0, "a number greater than 0"
)
_seed = _create_number_reader(int, lambda x: 0 <= x < 2**31, "a whole number from 0 to 2147483647")
