"""`train_app`, as scripts written for the original use it."""

import argparse
import dataclasses
import inspect
from pathlib import Path

import processes
import pytest

from deep_reid import train_app
from deep_reid.config import ComputeSettings

ROOT = Path(__file__).parents[2]
ORIGINAL_DEFAULTS = {
    "batch_size": 128,
    "eval_log_dir": "./output/cars/eval",
    "learning_rate": 1e-3,
    "log_dir": "./output/cars/train",
    "loss_mode": "cosine-softmax",
    "mode": "train",
    "number_of_steps": None,
    "restore_path": None,
    "run_id": None,
}
TRAIN_KWARGS = {
    "batch_size", "learning_rate", "log_dir", "loss_mode", "number_of_steps", "restore_path",
    "run_id",
}  # fmt: skip
EVAL_KWARGS = {"eval_log_dir", "log_dir", "loss_mode", "run_id"}
TEXTS = {
    "batch_size": "64", "learning_rate": "0.5", "number_of_steps": "3", "precision": "bfloat16",
    "loss_mode": "triplet", "intra_op_threads": "2", "inter_op_threads": "2", "seed": "4",
    "trainable_scopes": "ball", "exclude_from_restore": "ball", "save_interval_secs": "9.5",
    "save_summaries_secs": "8.5", "max_checkpoints_to_keep": "9", "log_every_n_steps": "7",
    "num_enqueue_threads": "3", "queue_capacity": "100", "eval_interval_secs": "1.5",
    "max_num_evaluations": "2", "timeout_secs": "2.5", "on_bad_image": "skip",
    "feed_timeout_secs": "50", "max_bad_percent": "2.5", "weight_init": "he",
    "logit_scale_init": "16", "logit_scale_penalty": "0.5", "batch_norm_decay": "0.5",
    "augment": "crop", "label_smoothing": "0.25", "logit_margin": "0.5", "triplet_weight": "0.5",
    "magnet_weight": "0.5", "optimizer": "adamw", "weight_decay": "0.5", "ema_decay": "0.5",
    "lr_schedule": "constant", "warmup_steps": "5", "patience": "3",
}  # fmt: skip


def create_parser():
    return train_app.create_default_argument_parser("cars")


def list_actions():
    return [action for action in create_parser()._actions if action.dest not in ("help", "version")]


def give(action, is_on=True):
    """Return the arguments that give a flag a value."""
    if isinstance(action, argparse.BooleanOptionalAction):
        return [action.option_strings[0 if is_on else 1]]
    if action.nargs == 0:
        return [action.option_strings[0]]
    return [action.option_strings[0], TEXTS.get(action.dest, "text")]


class TestParser:
    def test_without_arguments_it_has_what_the_originals_has_and_nothing_else(self):
        assert vars(create_parser().parse_args([])) == ORIGINAL_DEFAULTS

    def test_scripts_add_their_own_flags(self):
        parser = create_parser()
        parser.add_argument("--dataset_dir", help="Path to dataset", default="resources/cars")
        parser.add_argument("--sdk_dir", help="Path to SDK", default="resources/sdk")
        args = parser.parse_args(["--dataset_dir=a", "--sdk_dir", "b", "--mode=export"])
        assert (args.dataset_dir, args.sdk_dir, args.mode) == ("a", "b", "export")

    def test_a_script_may_have_modes_of_its_own(self):
        args = create_parser().parse_args(["--mode=visualize", "--seed=3"])
        assert (args.mode, train_app.to_train_kwargs(args)["seed"]) == ("visualize", 3)

    def test_a_wrong_loss_is_refused_with_the_right_ones(self, capsys):
        with pytest.raises(SystemExit) as caught:
            create_parser().parse_args(["--loss_mode=angular"])
        assert caught.value.code == 2
        assert "cosine-softmax" in capsys.readouterr().err


class TestKwargs:
    def test_they_are_those_of_the_original(self):
        args = create_parser().parse_args([])
        train, evaluate = train_app.to_train_kwargs(args), train_app.to_eval_kwargs(args)
        assert train == {name: ORIGINAL_DEFAULTS[name] for name in TRAIN_KWARGS}
        assert evaluate == {name: ORIGINAL_DEFAULTS[name] for name in EVAL_KWARGS}

    def test_the_script_passes_the_rest_itself(self):
        args = create_parser().parse_args([])
        inspect.signature(train_app.train_loop).bind(
            "preprocess", "factory", "x", "y", num_images_per_id=4, image_shape=(128, 64, 3),
            trainable_scopes=None, save_summaries_secs=10, save_interval_secs=20,
            exclude_from_restore=None, **train_app.to_train_kwargs(args),
        )  # fmt: skip
        inspect.signature(train_app.eval_loop).bind(
            "preprocess", "factory", "x", "y", "cameras", image_shape=(128, 64, 3),
            num_galleries=10, random_seed=1, **train_app.to_eval_kwargs(args),
        )  # fmt: skip

    @pytest.mark.parametrize("mode", ["train", "eval"])
    @pytest.mark.parametrize("action", list_actions(), ids=lambda action: action.dest)
    def test_each_flag_arrives_in_the_loop_or_is_refused(self, action, mode, capsys):
        name = action.dest
        loop, to_kwargs = {
            "train": (train_app.train_loop, train_app.to_train_kwargs),
            "eval": (train_app.eval_loop, train_app.to_eval_kwargs),
        }[mode]
        takes = {*inspect.signature(loop).parameters}
        compute = {field.name for field in dataclasses.fields(ComputeSettings)}
        arguments = [f"--mode={mode}", *(give(action, is_on=False) if name != "mode" else [])]
        if name not in {*ORIGINAL_DEFAULTS, *takes, *compute}:
            with pytest.raises(SystemExit) as caught:
                create_parser().parse_args(arguments)
            assert caught.value.code == 2
            other = {"train": "eval", "eval": "train"}[mode]
            assert f"--{name} goes with --mode={other}" in capsys.readouterr().err
            return
        args = create_parser().parse_args(arguments)
        kwargs = to_kwargs(args)
        inspect.signature(loop).bind_partial(**kwargs)
        if name in compute:
            assert getattr(kwargs["compute"], name) == getattr(args, name)
            assert getattr(args, name) != getattr(ComputeSettings(), name)
        elif name in takes:
            assert kwargs[name] == getattr(args, name)

    @pytest.mark.parametrize("mode", ["export", "finalize", "freeze"])
    def test_further_flags_go_with_no_other_mode(self, mode, capsys):
        with pytest.raises(SystemExit):
            create_parser().parse_args([f"--mode={mode}", "--precision=bfloat16"])
        assert "--precision goes with --mode=train or eval" in capsys.readouterr().err

    @pytest.mark.parametrize("given", [[], ["--save_interval_secs=5"]])
    def test_a_flag_of_the_scripts_own_is_not_handed_on(self, given):
        """The script passes it itself, and Python refuses an argument that is given twice."""
        parser = create_parser()
        parser.add_argument("--save_interval_secs", type=int, default=60)
        args = parser.parse_args(given)
        assert args.save_interval_secs == (5 if given else 60)
        assert "save_interval_secs" not in train_app.to_train_kwargs(args)

    def test_arguments_of_another_parser_will_do(self):
        args = argparse.Namespace(**ORIGINAL_DEFAULTS)
        assert set(train_app.to_train_kwargs(args)) == TRAIN_KWARGS
        assert set(train_app.to_eval_kwargs(args)) == EVAL_KWARGS


SCRIPT = """
import logging, sys
SETUP
from deep_reid import train_app
import numpy as np
import tiny
AFTER
parser = train_app.create_default_argument_parser("squares")
args = parser.parse_args()
images = np.random.RandomState(0).randint(0, 256, (16, 32, 16, 3)).astype(np.uint8)
train_app.train_loop(
    tiny.preprocess, tiny.create_network_factory(True, 4), images, [i // 4 for i in range(16)],
    num_images_per_id=4, **train_app.to_train_kwargs(args))
"""


@pytest.mark.slow
class TestProgress:
    """Lines appear without any setting up, and do not where the user wants others."""

    ARGUMENTS = ("--batch_size=8", "--number_of_steps=2", "--log_every_n_steps=1")
    PYTHON_PATH = (str(ROOT), str(ROOT / "tests"))

    def write(self, tmp_path, setup="", after=""):
        script = tmp_path / "train_squares.py"
        script.write_text(SCRIPT.replace("SETUP", setup).replace("AFTER", after))
        return script

    def run(self, tmp_path, **lines):
        script, output = self.write(tmp_path, **lines), tmp_path / "output.txt"
        code = processes.call(
            processes.run_script, script, self.ARGUMENTS, tmp_path, self.PYTHON_PATH, output
        )
        assert code == 0, output.read_text()
        return output.read_text()

    def test_without_setting_up(self, tmp_path):
        lines = self.run(tmp_path)
        assert "step 1/2, loss" in lines
        assert lines.count("step 2/2, loss") == 1

    @pytest.mark.parametrize("place", ["setup", "after"])
    def test_what_the_user_sets_up_counts(self, tmp_path, place):
        setup = "logging.basicConfig(format='MINE %(message)s', level=logging.INFO)"
        lines = self.run(tmp_path, **{place: setup})
        assert lines.count("MINE step 2/2, loss") == 1
        assert lines.count("step 2/2, loss") == 1

    @pytest.mark.parametrize("place", ["setup", "after"])
    def test_also_where_that_is_silence(self, tmp_path, place):
        lines = self.run(tmp_path, **{place: "logging.basicConfig(level=logging.WARNING)"})
        assert "step" not in lines
