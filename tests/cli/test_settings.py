"""What a run's settings are: told, else recorded, else the default."""

import dataclasses
import os
import types

import pytest
from saved import save

from datasets.custom import Custom
from datasets.market1501 import Market1501
from deep_reid.cli import settings
from deep_reid.cli.arguments import ArgumentParser
from deep_reid.config import ComputeSettings, RunConfig
from deep_reid.errors import MissingPathError, UsageError

RECORDED = RunConfig(
    (64, 48, 1),
    loss_mode="triplet",
    network="mars_small128",
    seed=7,
    dataset="/data/people",
    num_validation=3,
    split_seed=9,
    compact_labels=True,
    trainable_scopes=("fc1",),
    batch_size=8,
    learning_rate=0.5,
)


def parse(*argv, dataset_class=Market1501):
    return ArgumentParser(dataset_class).parse_args(argv)


@pytest.fixture
def run_dir(tmp_path):
    RECORDED.save(tmp_path / "run")
    return tmp_path / "run"


class TestCheckSplit:
    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            ({}, None),
            ({"num_validation": 4}, "num_validation 3, not 4: .* Leave --num_validation out"),
            ({"split_seed": 1}, "split_seed 9, not 1"),
            ({"split_seed": 1, "dataset": "/data/others"}, None),
            ({"split_seed": 1, "dataset": None}, None),
        ],
    )
    def test_the_runs_own_data_are_split_as_they_were(self, run_dir, changed, words):
        config = dataclasses.replace(RECORDED, **changed)
        if words is None:
            settings.check_split(config, run_dir)
        else:
            with pytest.raises(UsageError, match=f"run run was trained with {words}"):
                settings.check_split(config, run_dir)


class TestSettle:
    def test_defaults_are_those_of_the_original(self):
        config = settings.settle(parse(), Market1501)
        assert config.image_shape == (128, 64, 3)
        assert (config.network, config.loss_mode) == ("deep_sort", "cosine-softmax")
        assert (config.num_validation, config.split_seed) == (0.1, 1234)
        assert config.dataset == Market1501.DEFAULT_DIR
        assert not config.compact_labels

    def test_own_images_have_compact_labels_and_no_default_place(self):
        config = settings.settle(parse(dataset_class=Custom), Custom)
        assert config.compact_labels
        assert config.dataset is None

    def test_what_is_not_told_is_as_recorded(self, run_dir):
        assert settings.settle(parse(), Market1501, run_dir) == RECORDED

    @pytest.mark.parametrize(
        ("argv", "name", "value"),
        [
            (["--loss_mode=magnet"], "loss_mode", "magnet"),
            (["--network=deep_sort"], "network", "deep_sort"),
            (["--seed=0"], "seed", 0),
            (["--dataset_dir=x"], "dataset", "x"),
            (["--dataset=x"], "dataset", "x"),
            (["--num_validation=0"], "num_validation", 0),
            (["--num_validation=0.25"], "num_validation", 0.25),
            (["--split_seed=5"], "split_seed", 5),
            (["--no-compact_labels"], "compact_labels", False),
            (["--trainable_scopes", "ball", "fc1"], "trainable_scopes", ("ball", "fc1")),
            (["--image_shape", "32", "16"], "image_shape", (32, 16, 1)),
            (["--no-gray"], "image_shape", (64, 48, 3)),
            (["--gray"], "image_shape", (64, 48, 1)),
            (["--image_shape", "32", "16", "--no-grey"], "image_shape", (32, 16, 3)),
        ],
    )
    def test_what_is_told_comes_first(self, run_dir, argv, name, value):
        expected = dataclasses.replace(RECORDED, **{name: value})
        assert settings.settle(parse(*argv), Market1501, run_dir) == expected

    def test_a_directory_without_settings_is_a_new_run(self, tmp_path):
        config = settings.settle(parse(), Market1501, tmp_path)
        assert config == settings.settle(parse(), Market1501)

    def test_a_run_of_a_network_of_ones_own_is_taken_for_the_default_one(self, tmp_path):
        RunConfig((32, 16, 3)).save(tmp_path)
        assert settings.settle(parse(), Market1501, tmp_path).network == "deep_sort"


class TestSettleTraining:
    def test_a_new_run_has_a_seed_in_any_case(self):
        seeds = {settings.settle_training(parse(), Market1501).seed for _ in range(3)}
        assert len(seeds) == 3

    def test_a_resumed_run_keeps_what_it_recorded_but_what_is_given_by_hand(self, run_dir):
        args = parse(f"--log_dir={run_dir.parent}", "--run_id=run", "--number_of_steps=5")
        config = settings.settle_training(args, Market1501)
        assert config == dataclasses.replace(RECORDED, number_of_steps=5)

    def test_how_it_is_computed_is_told_each_time(self, tmp_path):
        told = dict(
            precision="bfloat16",
            intra_op_threads=1,
            inter_op_threads=3,
            gpu_memory_growth=False,
            xla=True,
            num_enqueue_threads=2,
            queue_capacity=256,
        )
        dataclasses.replace(RECORDED, **told).save(tmp_path / "run")
        argv = [f"--log_dir={tmp_path}", "--run_id=run"]
        config = settings.settle_training(parse(*argv), Market1501)
        defaults = {name: getattr(RECORDED, name) for name in told}
        assert {name: getattr(config, name) for name in told} == defaults
        numbers = [
            f"--{name}={value}" for name, value in told.items() if value not in (True, False)
        ]
        argv += ["--no-gpu_memory_growth", "--xla", "--intra_op_threads=1"]
        config = settings.settle_training(parse(*argv, *numbers), Market1501)
        assert {name: getattr(config, name) for name in told} == told

    def test_other_modes_do_not_compute_as_the_run_did(self, tmp_path):
        dataclasses.replace(RECORDED, precision="float16", xla=True).save(tmp_path)
        config = settings.settle(parse("--mode=test"), Market1501, tmp_path)
        assert ComputeSettings.of(config) == ComputeSettings()
        args = parse("--mode=test", "--precision=bfloat16", "--intra_op_threads=2")
        expected = ComputeSettings(precision="bfloat16", intra_op_threads=2)
        assert ComputeSettings.of(settings.settle(args, Market1501, tmp_path)) == expected

    def test_where_a_run_began_stays_recorded(self, tmp_path):
        dataclasses.replace(RECORDED, restore_path="old").save(tmp_path / "run")
        argv = [f"--log_dir={tmp_path}", "--run_id=run"]
        assert settings.settle_training(parse(*argv), Market1501).restore_path == "old"
        told = parse(*argv, "--restore_path=new")
        assert settings.settle_training(told, Market1501).restore_path == "new"


class TestFindRunDir:
    def test_of_the_latest_run_or_the_one_that_is_named(self, run_dir):
        log_dir = run_dir.parent
        assert settings.find_run_dir(parse("--mode=test", f"--log_dir={log_dir}")) is None
        (log_dir / "latest_run").write_text("run\n")
        assert settings.find_run_dir(parse("--mode=test", f"--log_dir={log_dir}")) == str(run_dir)
        args = parse("--mode=test", f"--log_dir={log_dir}", "--run_id=run")
        assert settings.find_run_dir(args) == str(run_dir)

    @pytest.mark.parametrize("argv", [[], ["--checkpoint={run_dir}"], ["--features=x.mat"]])
    def test_a_name_that_no_run_has_is_refused_also_where_it_is_not_needed(self, run_dir, argv):
        argv = [arg.format(run_dir=run_dir) for arg in argv]
        args = parse("--mode=test", f"--log_dir={run_dir.parent}", "--run_id=other", *argv)
        with pytest.raises(MissingPathError, match="has no run other, but run; name one of them"):
            settings.find_run_dir(args)

    @pytest.mark.parametrize(
        "name", ["", "run", "run/model.ckpt-3", "run/model.ckpt-3.index", "run/checkpoint"]
    )
    def test_of_a_checkpoint_in_any_form(self, run_dir, name):
        save(run_dir, [3])
        (run_dir.parent / "latest_run").write_text("run\n")
        args = parse(
            "--mode=test", f"--restore_path={run_dir.parent / name}", "--log_dir=elsewhere"
        )
        assert os.path.samefile(settings.find_run_dir(args), run_dir)

    def test_of_a_checkpoint_in_the_working_directory(self):
        args = parse("--mode=freeze", "--restore_path=mars-small128.ckpt-68577")
        assert settings.find_run_dir(args) == "."


class TestDatasetOfRun:
    def test_is_told_by_its_place(self, tmp_path):
        (tmp_path / "data").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "data")
        config = dataclasses.replace(RECORDED, dataset=str(tmp_path / "data"))
        config.save(tmp_path / "run")
        assert settings.is_dataset_of_run(tmp_path / "run", tmp_path / "link")
        assert not settings.is_dataset_of_run(tmp_path / "run", tmp_path / "other")
        assert not settings.is_dataset_of_run(tmp_path, tmp_path / "data")


class TestOpenDataset:
    def test_gets_place_and_split_of_the_run(self):
        opened = settings.open_dataset(
            lambda *args, **kwargs: (args, kwargs), RECORDED, needs_train=False
        )
        assert opened == (("/data/people", 3, 9), {"needs_train": False})

    def test_without_a_place_the_flag_is_named(self):
        config = dataclasses.replace(RECORDED, dataset=None)
        with pytest.raises(UsageError, match="--dataset is missing: name people"):
            settings.open_dataset(types.SimpleNamespace(TITLE="people"), config)
