"""Training, evaluation and export under the original's name, kept for its users' code."""

from deep_reid.cli import create_argument_parser, main
from deep_reid.evaluation import eval_loop
from deep_reid.export import encode, finalize, freeze
from deep_reid.training import create_trainer, train_loop

__all__ = [
    "create_argument_parser",
    "create_trainer",
    "encode",
    "eval_loop",
    "finalize",
    "freeze",
    "main",
    "train_loop",
]
