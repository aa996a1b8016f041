"""Training, evaluation and export under the original's name, kept for its users' code."""

from deep_reid.cli import create_default_argument_parser
from deep_reid.config import LOSS_MODES
from deep_reid.evaluation import eval_loop
from deep_reid.export import encode, finalize, freeze
from deep_reid.training import create_trainer, train_loop

__all__ = [
    "create_default_argument_parser",
    "create_trainer",
    "encode",
    "eval_loop",
    "finalize",
    "freeze",
    "to_eval_kwargs",
    "to_train_kwargs",
    "train_loop",
]

_TRAIN_SETTINGS = (
    "batch_size",
    "exclude_from_restore",
    "learning_rate",
    "log_dir",
    "log_every_n_steps",
    "max_checkpoints_to_keep",
    "number_of_steps",
    "restore_path",
    "run_id",
    "save_interval_secs",
    "save_summaries_secs",
    "seed",
    "trainable_scopes",
)
_EVAL_SETTINGS = (
    "eval_interval_secs",
    "eval_log_dir",
    "log_dir",
    "max_num_evaluations",
    "run_id",
    "timeout_secs",
)


def to_train_kwargs(args):
    """Turn parsed arguments into keyword arguments of `train_loop`.

    Parameters
    ----------
    args : argparse.Namespace
        From `create_default_argument_parser`.

    Returns
    -------
    dict
    """
    kwargs = {name: getattr(args, name) for name in _TRAIN_SETTINGS}
    return {"num_images_per_id": 4, "loss_mode": args.loss_mode or LOSS_MODES[0], **kwargs}


def to_eval_kwargs(args):
    """Turn parsed arguments into keyword arguments of `eval_loop`.

    Parameters
    ----------
    args : argparse.Namespace
        From `create_default_argument_parser`.

    Returns
    -------
    dict
    """
    kwargs = {name: getattr(args, name) for name in _EVAL_SETTINGS}
    return {"loss_mode": args.loss_mode or LOSS_MODES[0], **kwargs}
