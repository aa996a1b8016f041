"""The command line that the training scripts share.

A script hands in its data set class, all else is here: ``sys.exit(cli.main(Market1501))``.
"""

import argparse
import logging
import math
import sys

from deep_reid import modes, stops
from deep_reid.config import (
    BAD_IMAGE_POLICIES,
    LOSS_MODES,
    NETWORKS,
    NUM_VALIDATION,
    PRECISIONS,
    SPLIT_SEED,
)
from deep_reid.errors import ReidError, first_line

_logger = logging.getLogger(__name__)
LINE_FORMAT = {"format": "%(asctime)s %(levelname)-7s %(message)s", "datefmt": "%Y-%m-%d %H:%M:%S"}
"""Of the lines in the log."""

_EXIT_CODE_INTERRUPTED = 130
_ONLY_FOR = {
    "check_data": "train",
    "benchmark_input": "train",
    "benchmark_model": "train",
    "no_preprocess": "freeze",
    "keep_best": "eval",
    "projector": "eval",
    "features": "test",
    "query_features": "test",
    "frozen_graph": "test",
    "rerank": "test",
    "report_dir": "test",
}
# So TensorFlow ends its own messages of the system's errors.
_WAYS_OUT = {
    "No space left on device": "free some space",
    "Permission denied": "check the path and its permissions",
    "Read-only file system": "check the path and its permissions",
}
_OF_WEIGHTS = ("finalize", "freeze")


def main(dataset_class, argv=None, *, prog=None):
    """Run a training script.

    Parameters
    ----------
    dataset_class : type
        A data set as `datasets.base.ReidDataset` describes it.
    argv : list of str, optional
        Default: the process's arguments.
    prog : str, optional
        Name of the program in its help and errors. Default: the script's.

    Returns
    -------
    int
        Exit code: 0, 1 (data or run), 2 (usage), 130 (Ctrl-C), 143 (SIGTERM),
        129 (SIGHUP).
    """
    parser = create_argument_parser(dataset_class, prog)
    args = parser.parse_args(argv)
    for name, mode in _ONLY_FOR.items():
        if getattr(args, name) and args.mode != mode:
            parser.error(f"--{name} goes with --mode={mode}")
    if args.precision != PRECISIONS[0] and args.mode in _OF_WEIGHTS:
        parser.error(f"--precision does not go with --mode={args.mode}: weights are float32")
    _set_up_logging(args.debug)
    try:
        with stops.handled():
            MODES[args.mode](args, dataset_class)
    except KeyboardInterrupt as error:
        _logger.warning("Interrupted%s", f" by {error}" if str(error) else "")
        return getattr(error, "exit_code", _EXIT_CODE_INTERRUPTED)
    except _expected_errors() as error:
        _logger.error("%s", _describe(error), exc_info=args.debug)
        return getattr(error, "exit_code", 1)
    return 0


def create_argument_parser(dataset_class, prog=None):
    """Create the parser of a training script.

    Parameters
    ----------
    dataset_class : type
        A data set as `datasets.base.ReidDataset` describes it; gives the defaults.
    prog : str, optional
        As in `main`.

    Returns
    -------
    argparse.ArgumentParser
    """
    parser = _create_parser(dataset_class.NAME, dataset_class.TITLE, prog)
    _add_run_arguments(parser.add_argument_group("run"), dataset_class)
    return parser


def _create_parser(name, title, prog):
    parser = ArgumentParser(prog=prog, description=describe(title), **PARSER_SETTINGS)
    add_arguments(parser, name)
    return parser


def describe(title):
    """Return the first line of a script's help.

    Parameters
    ----------
    title : str
        Of the data set.

    Returns
    -------
    str
    """
    return f"Train, evaluate and export a re-identification network on {title}."


def add_arguments(parser, name):
    """Add the arguments that all training scripts have.

    Parameters
    ----------
    parser : argparse.ArgumentParser, or an object with its methods
    name : str
        Of the data set: part of the default directories.
    """
    parser.add_argument("--mode", choices=MODES, default="train", help="what to do")
    parser.add_argument(
        "--log_dir", default=f"./output/{name}/train", help="where training writes its runs"
    )
    parser.add_argument(
        "--run_id", help="name of the run (default: training makes one, others take the latest)"
    )
    parser.add_argument(
        "--restore_path",
        "--checkpoint",
        type=_path,
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
    _add_compute_arguments(parser.add_argument_group("computing"))
    _add_training_arguments(parser.add_argument_group("train"))
    _add_evaluation_arguments(parser.add_argument_group("eval"), name)
    _add_test_arguments(parser.add_argument_group("test"))
    _add_export_arguments(parser.add_argument_group("export, finalize, freeze"), name)


def _add_run_arguments(group, dataset_class):
    height, width, _ = dataset_class.IMAGE_SHAPE
    group.description = "a run keeps what training is told here; the other modes know it from there"
    group.add_argument(
        "--dataset_dir",
        "--dataset",
        type=_path,
        help=f"where to find {dataset_class.TITLE} (default: "
        f"{dataset_class.DEFAULT_DIR or 'none'}, or the run's)",
    )
    group.add_argument(
        "--network", choices=NETWORKS, help=f"network (default: {NETWORKS[0]}, or the run's)"
    )
    group.add_argument(
        "--image_shape",
        nargs=2,
        type=_positive_int,
        metavar=("HEIGHT", "WIDTH"),
        help=f"size that images are brought to (default: {height} {width}, or the run's)",
    )
    group.add_argument(
        "--gray",
        "--grey",
        action=argparse.BooleanOptionalAction,
        help="gray images instead of color (default: color, or as the run is)",
    )
    group.add_argument(
        "--num_validation",
        type=_number_or_share,
        help=f"identities kept for validation: a number such as 10, or a share such as "
        f"{NUM_VALIDATION} (default: {NUM_VALIDATION}, or the run's)",
    )
    group.add_argument(
        "--split_seed",
        type=_seed,
        help=f"chooses the identities for validation (default: {SPLIT_SEED}, or the run's)",
    )
    if not dataset_class.COMPACT_LABELS:
        group.add_argument(
            "--compact_labels",
            action=argparse.BooleanOptionalAction,
            help="one class for each identity to train on (default: one for each number up to "
            f"{dataset_class.MAX_LABEL}, as the original; or as the run has it)",
        )
    group.add_argument(
        "--deterministic",
        action=argparse.BooleanOptionalAction,
        help="the same --seed gives the same losses, step by step: slower (default: no, or as the "
        "run has it)",
    )
    group.add_argument(
        "--on_bad_image",
        choices=BAD_IMAGE_POLICIES,
        help="what to do when an image cannot be read in training: skip puts another one of its "
        "identity in its place, up to 1 %% of the images (default: stop, or as the run has it)",
    )
    group.add_argument(
        "--feed_timeout_secs",
        type=_positive_float,
        help="training and evaluation end with an error after so long without data (default: 600, "
        "or the run's)",
    )
    group.add_argument(
        "--check_data",
        action="store_true",
        help="read all images before training, and list those that cannot be used",
    )


def _add_compute_arguments(group):
    group.description = "told each time: it belongs to the machine, not to the run"
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=PRECISIONS[0],
        help="type that the network is computed in; weights, statistics, losses and scores stay "
        "float32",
    )
    group.add_argument(
        "--intra_op_threads", type=_positive_int, help="threads within an op (default: all cores)"
    )
    group.add_argument(
        "--inter_op_threads", type=_positive_int, help="ops side by side (default: all cores)"
    )
    group.add_argument(
        "--gpu_memory_growth",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="take GPU memory as it is needed, so that two processes fit, instead of all at once",
    )
    group.add_argument(
        "--xla", action="store_true", help="compile with XLA: pays on some GPUs, not on CPUs"
    )


def _add_training_arguments(group):
    group.add_argument("--learning_rate", type=_positive_float, default=1e-3, help="of Adam")
    group.add_argument(
        "--number_of_steps", type=_positive_int, help="last step (default: until it is stopped)"
    )
    group.add_argument(
        "--seed", type=_seed, help="makes weights and sampling reproducible (default: drawn)"
    )
    group.add_argument(
        "--trainable_scopes", nargs="+", metavar="SCOPE", help="train these alone (default: all)"
    )
    group.add_argument(
        "--exclude_from_restore",
        nargs="+",
        metavar="SCOPE",
        help="leave these at their start values instead of restoring them from --restore_path",
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
    group.add_argument(
        "--num_enqueue_threads",
        type=_positive_int,
        default=4,
        help="threads that read and decode images (one, with --deterministic)",
    )
    group.add_argument(
        "--queue_capacity", type=_positive_int, default=512, help="decoded images that wait"
    )
    group.add_argument(
        "--monitor_losses",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="show the losses that are not trained on in TensorBoard; computed with summaries only",
    )
    group.add_argument(
        "--benchmark_input",
        action="store_true",
        help="instead of training, measure how fast the images come",
    )
    group.add_argument(
        "--benchmark_model",
        action="store_true",
        help="instead of training, measure how fast the steps are on a constant batch",
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

    group.add_argument(
        "--keep_best",
        action="store_true",
        help="keep a copy of the checkpoint with the best rank-1, under best/ in the run's folder",
    )
    group.add_argument(
        "--projector",
        action="store_true",
        help="write validation features for TensorBoard's embedding projector",
    )


def _add_test_arguments(group):
    group.add_argument(
        "--metrics_file", default="./test_metrics.json", help="file that the scores are written to"
    )
    group.add_argument(
        "--report_dir", help="folder for report.html: table, curves and rankings as pictures"
    )
    group.add_argument("--frozen_graph", help="score this graph instead of a checkpoint")
    group.add_argument(
        "--features",
        help="score these instead: .mat with the variable features, or .npy; one row per image of "
        "the gallery, in the order of export",
    )
    group.add_argument("--query_features", help="the same for the queries, where they are images")
    group.add_argument(
        "--rerank", action="store_true", help="score k-reciprocal re-ranking, too (Zhong et al.)"
    )


def _add_export_arguments(group, name):
    group.add_argument(
        "--sdk_dir", default=f"./output/{name}/export", help="where export writes its .mat files"
    )
    group.add_argument(
        "--output", help=f"file to write (default: ./{name}.ckpt for finalize, ./{name}.pb)"
    )
    group.add_argument(
        "--no_preprocess",
        action="store_true",
        help="freeze a graph that takes what the network takes: float32, RGB, scaled",
    )


MODES = {
    "train": modes.train,
    "eval": modes.evaluate,
    "test": modes.test,
    "export": modes.export,
    "finalize": modes.finalize,
    "freeze": modes.freeze,
}


def _set_up_logging(debug):
    logging.basicConfig(
        stream=sys.stderr, level=logging.DEBUG if debug else logging.INFO, **LINE_FORMAT
    )


def _expected_errors():
    """Errors that get one line: of the user's data and settings, of the disk, and of TensorFlow."""
    tensorflow = sys.modules.get("tensorflow")  # imported only by the modes that need it
    return (ReidError, OSError) + ((tensorflow.errors.OpError,) if tensorflow else ())


def _describe(error):
    line = first_line(error)
    for ending, way_out in _WAYS_OUT.items():
        if line.endswith(ending):
            return f"{line}; {way_out}"
    return line


class ArgumentParser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message):  # noqa: D102 - of argparse
        # Without the usage of all flags, in which the one line that matters would drown.
        self.exit(2, f"{self.prog}: error: {message} (--help lists all settings)\n")


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action):
        # Where there is no fixed default, the help itself says what happens.
        return action.help if action.default is None else super()._get_help_string(action)


PARSER_SETTINGS = {"formatter_class": _HelpFormatter, "allow_abbrev": False}
"""Of each parser of a training script."""


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


def _path(text):
    if not text:
        raise argparse.ArgumentTypeError("a path must not be empty")
    return text


_positive_int = _create_number_reader(int, lambda x: x >= 1, "a whole number of at least 1")
_positive_float = _create_number_reader(
    float, lambda x: math.isfinite(x) and x > 0, "a number greater than 0"
)
_number_or_share = _create_number_reader(
    lambda text: int(text) if text.isdecimal() else float(text),
    lambda x: isinstance(x, int) or 0.0 <= x < 1.0,
    "a number of identities, such as 10, or a share of at least 0.0 and less than 1.0",
)
_seed = _create_number_reader(int, lambda x: 0 <= x < 2**31, "a whole number from 0 to 2147483647")
