"""The command line follows from the settings: help, refusals, and a setting that is new."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

import deep_reid
from datasets.custom import Custom
from datasets.market1501 import Market1501
from deep_reid.cli import program, settings
from deep_reid.cli.arguments import ArgumentParser, list_arguments
from deep_reid.config import RunConfig
from deep_reid.config.setting import GROUPS, MODES
from deep_reid.errors import DataError, MissingPathError, UsageError
from deep_reid.system.name_patterns import PRESETS

ROOT = pathlib.Path(__file__).parents[2]
ARGUMENTS = list_arguments("people", {"image_shape": (128, 64, 3)})
FLAGS = sorted({argument.flags[0] for argument in ARGUMENTS})
VALUES = {
    "--shard": ["--shard=0/3"],
    "--mode": ["--mode=train"],
    "--image_shape": ["--image_shape", "8", "8"],
    "--network": ["--network=deep_sort"],
    "--loss_mode": ["--loss_mode=triplet"],
    "--precision": ["--precision=float32"],
    "--on_bad_image": ["--on_bad_image=skip"],
    "--num_validation": ["--num_validation=3"],
    **{f"--{name}": [f"--{name}=0.5"] for name in ("batch_norm_decay", "ema_decay")},
    "--label_smoothing": ["--label_smoothing=0.5"],
}
# The settings that have a name in other programs.
SYNONYMS = {
    word: [x for x in ARGUMENTS if word in x.synonyms] for y in ARGUMENTS for word in y.synonyms
}
TRIPLES = [FLAGS[start : start + 3] for start in range(0, len(FLAGS) - 2, 3)]
# For each flag with choices, also where it takes other values, its choices.
CHOICES = {
    argument.flags[0]: getattr(argument.kind, "names", None)
    for argument in list_arguments("people", of_dataset=Custom.SETTINGS)
    if hasattr(argument.kind, "names")
} | {"--name_pattern": tuple(PRESETS)}


def parse(*argv, dataset_class=Market1501):
    return ArgumentParser(dataset_class).parse_args(argv)


def give(flag):
    """Return the arguments that give a flag a value which it takes."""
    kind = next(argument.kind for argument in ARGUMENTS if argument.flags[0] == flag)
    takes_value = "action" not in kind.arguments()
    value = getattr(kind, "names", "1")[0]
    return VALUES.get(flag, [f"{flag}={value}" if takes_value else flag])


def modes_of(flag):
    return {mode for x in ARGUMENTS if x.flags[0] == flag for mode in x.modes}


def refuse(capsys, *argv, dataset_class=Market1501):
    """Return the line with which a command line is refused."""
    with pytest.raises(SystemExit) as caught:
        parse(*argv, dataset_class=dataset_class)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    return error


def list_shown(text):
    return set(re.findall(r"^  (?:-h, )?(--\w+)", text, re.MULTILINE))


def read_help(capsys, *argv):
    with pytest.raises(SystemExit) as caught:
        program.main(Market1501, argv)
    assert caught.value.code == 0
    return capsys.readouterr().out


class TestHelp:
    def test_the_short_one_has_about_a_dozen_settings(self, capsys):
        text = read_help(capsys, "--help")
        shown = list_shown(text)
        assert 10 <= len(shown) <= 15
        assert {"--dataset_dir", "--batch_size", "--loss_mode", "--run_id"} <= shown
        assert "--help=all" in text

    def test_the_help_of_a_mode_without_a_data_set_begins_with_what_it_does(self, capsys):
        assert "\n\nFind the tracks of persons" in read_help(capsys, "--mode=track", "--help")
        assert "\n\nFind the images" in read_help(capsys, "--mode=search", "--help=all")
        assert "\n\nTrain, evaluate and export" in read_help(capsys, "--mode=train", "--help")
        firsts = {read_help(capsys, f"--mode={mode}", "--help").split("\n\n")[1] for mode in MODES}
        assert len(firsts) == len(MODES)
        assert "official protocol" in read_help(capsys, "--mode=test", "--help")

    def test_all_of_them_are_in_the_long_one(self, capsys):
        text = read_help(capsys, "--help=all")
        assert list_shown(text) == set(FLAGS)

    @pytest.mark.parametrize("mode", MODES)
    def test_a_mode_shows_what_it_takes_and_nothing_else(self, capsys, mode):
        text = read_help(capsys, f"--mode={mode}", "--help=all")
        shown = list_shown(text)
        assert shown == {flag for flag in FLAGS if mode in modes_of(flag)}

    @pytest.mark.parametrize("topic", ["all", *GROUPS])
    def test_a_mistyped_group_is_answered_with_the_right_one(self, capsys, topic):
        with pytest.raises(SystemExit) as caught:
            parse(f"--help={topic}x")
        assert caught.value.code == 2
        assert f"--help={topic}x is unknown: " in (error := capsys.readouterr().err)
        assert f"; did you mean {topic}?" in error

    def test_the_version_is_printed_by_its_flag(self, capsys):
        assert read_help(capsys, "--version") == f"deep-reid {deep_reid.__version__}\n"
        assert "--version prints the version" in " ".join(read_help(capsys, "--help").split())

    @pytest.mark.parametrize("group", GROUPS)
    def test_a_group_shows_its_own(self, capsys, group):
        text = read_help(capsys, f"--help={group}")
        shown = list_shown(text)
        assert shown == {x.flags[0] for x in ARGUMENTS if x.group == group}

    def test_it_comes_before_wrong_values(self, capsys):
        assert "usage:" in read_help(capsys, "--batch_size=many", "-h")

    def test_defaults_are_named(self, capsys):
        text = " ".join(read_help(capsys, "--help=all").split())
        assert "by default four of each identity (default: 128, or the run's)" in text
        assert "size that images are resized to (default: 128 64, or the run's)" in text
        assert "in the run's folder, export/market1501.ckpt for finalize" in text


class TestRefusals:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("flag", [flag for flag in FLAGS if flag != "--mode"])
    def test_a_mode_refuses_the_flags_that_it_does_not_use(self, capsys, mode, flag):
        argv = [f"--mode={mode}", *give(flag)]
        if mode in modes_of(flag):
            needed = [x.needs[mode] for x in ARGUMENTS if x.flags[0] == flag and mode in x.needs]
            assert parse(*argv, *(part for other in needed for part in give(other))).mode == mode
            return
        with pytest.raises(SystemExit) as caught:
            parse(*argv)
        assert caught.value.code == 2
        error = capsys.readouterr().err
        assert f"error: {flag} goes with --mode=" in error
        assert f"not with --mode={mode}" in error
        assert len(error.splitlines()) == 1

    @pytest.mark.parametrize("flag", FLAGS)
    def test_a_typo_in_any_flag_is_answered_with_the_right_one(self, capsys, flag):
        with pytest.raises(SystemExit) as caught:
            parse(f"{flag}x=1")
        assert caught.value.code == 2
        error = capsys.readouterr().err
        assert f"unrecognized arguments: {flag}x=1; did you mean {flag}?" in error

    @pytest.mark.parametrize("others", TRIPLES)
    def test_each_of_several_typos_is_answered(self, capsys, others):
        values = [["{}x=1"], ["{}x", "1"], ["{}x"]]
        typed = [part.format(f) for f, parts in zip(others, values, strict=True) for part in parts]
        error = refuse(capsys, "--seed=3", *typed)
        for flag in others:
            assert f"{flag} for {flag}x" in error

    @pytest.mark.parametrize("flag", CHOICES)
    def test_a_typo_in_any_choice_is_answered_with_the_right_one(self, capsys, flag):
        for choice in CHOICES[flag]:
            middle = len(choice) // 2
            for typed in (choice[:middle] + choice[middle - 1 :], choice.upper(), choice + "x"):
                error = refuse(capsys, flag, typed, dataset_class=Custom)
                assert f"argument {flag}: {typed} is " in error
                assert f"; did you mean {choice}?" in error

    def test_the_flags_with_choices_are_these(self):
        assert {"--mode", "--loss_mode", "--network", "--precision", "--on_bad_image",
                "--name_pattern"} <= set(CHOICES)  # fmt: skip
        for action in ArgumentParser(Custom)._actions:
            assert not action.choices or tuple(action.choices) == CHOICES[action.option_strings[0]]

    def test_a_choice_of_python_is_answered_in_the_same_words(self):
        with pytest.raises(UsageError, match=r"\('bfloat'\) is unknown.*; did you mean bfloat16\?"):
            RunConfig((8, 8, 3), precision="bfloat")
        with pytest.raises(UsageError, match=r"on_bad_image \(3\) is unknown: use one of"):
            RunConfig((8, 8, 3), on_bad_image=3)

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("spelling", ["{}", "{}x", "mode={}", "\N{EM DASH}mode={}", "-mode={}"])
    def test_a_mode_without_its_flag_is_answered_with_it(self, capsys, mode, spelling):
        typed = spelling.format(mode)
        meant = "--mode" if "=" in typed else f"--mode={mode}"
        error = refuse(capsys, "--seed=3", typed)
        assert f"unrecognized arguments: {typed}; did you mean {meant}?" in error

    def test_a_path_without_its_flag_is_answered_with_that_of_the_data_set(self, capsys, tmp_path):
        assert f"did you mean --dataset={tmp_path}?" in refuse(capsys, str(tmp_path))

    def test_a_value_of_a_mistyped_flag_is_no_word_of_its_own(self, capsys):
        error = refuse(capsys, "--zzzzzz", "train", "--batchsize", "eval")
        assert error.endswith("did you mean --batch_size for --batchsize? (--help=all lists all "
                              "settings)\n")  # fmt: skip

    @pytest.mark.parametrize("typed", ["--qqqqqqq", "--pooling=avg", "--dropout=0.5", "--xs=3"])
    def test_what_is_like_no_flag_has_no_proposal(self, capsys, typed):
        with pytest.raises(SystemExit):
            parse(typed)
        assert "did you mean" not in capsys.readouterr().err

    @pytest.mark.parametrize("typed", SYNONYMS)
    def test_a_name_from_another_program_is_answered_with_the_flag(self, capsys, typed):
        for setting in SYNONYMS[typed]:
            error = refuse(capsys, f"--mode={setting.modes[0]}", f"--{typed}=1")
            assert f"--{typed}=1; did you mean {setting.flags[0]}?" in error

    def test_a_name_from_another_program_is_no_flag_and_means_one_in_each_mode(self):
        assert {"lr", "epochs"} <= set(SYNONYMS)
        for typed, meant in SYNONYMS.items():
            assert f"--{typed}" not in {flag for x in ARGUMENTS for flag in x.flags}
            modes = [mode for setting in meant for mode in setting.modes]
            assert len(modes) == len(set(modes))

    def test_own_images_always_have_compact_labels(self, capsys):
        with pytest.raises(SystemExit):
            parse("--compact_labels", dataset_class=Custom)
        assert "unrecognized arguments: --compact_labels" in capsys.readouterr().err


class TestConfigFile:
    """``--config`` takes the settings of another run as defaults."""

    OTHER = RunConfig(
        (64, 48, 1), network="mars_small128", seed=7, dataset="/data", batch_size=8,
        num_classes=5, image_source="files", precision="bfloat16", number_of_steps=9,
    )  # fmt: skip

    @pytest.fixture
    def path(self, tmp_path):
        self.OTHER.save(tmp_path / "other")
        return tmp_path / "other" / "config.json"

    def test_they_come_before_the_defaults_and_after_the_command_line(self, path):
        args = parse(f"--config={path}", "--batch_size=16")
        config = settings.settle_training(args, Market1501)
        changes = {"batch_size": 16, "num_classes": None, "image_source": None}
        assert config == dataclasses.replace(self.OTHER, **changes, precision="float32")

    def test_a_resumed_run_has_its_own(self, path, tmp_path):
        own = RunConfig((32, 16, 3), network="deep_sort", seed=1, dataset="/own", batch_size=24)
        own.save(tmp_path / "run")
        args = parse(f"--config={path}", f"--log_dir={tmp_path}", "--run_id=run")
        assert settings.settle_training(args, Market1501) == own

    def test_it_must_be_there_and_hold_settings(self, tmp_path):
        with pytest.raises(MissingPathError, match=r"--config .*none.json does not exist"):
            settings.settle(parse(f"--config={tmp_path}/none.json"), Market1501)
        for content, fault in ("{", "is not valid JSON .*"), ("[]", "does not hold the settings.*"):
            (tmp_path / "bad.json").write_text(content)
            with pytest.raises(DataError, match=f"bad.json {fault}: name the config.json of a run"):
                settings.settle(parse(f"--config={tmp_path}/bad.json"), Market1501)


NEW_SETTING = """
    patience_steps: int | None = setting(
        7, COUNT, "steps of patience", group="saving", default_text=None
    )
"""
# What a new setting has to reach, in a process of its own that sees the changed package.
USE_OF_NEW_SETTING = """
import contextlib, io, json, sys
import numpy as np
import tiny
from datasets.market1501 import Market1501
from deep_reid import cli, train_app
from deep_reid.cli import settings
from deep_reid.cli.arguments import ArgumentParser
from deep_reid.config import RunConfig

def answer(*argv):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        with contextlib.suppress(SystemExit):
            cli.main(Market1501, argv)
    return " ".join(out.getvalue().split())

def parse(*argv):
    return ArgumentParser(Market1501).parse_args(argv)

def train(*argv):
    args = train_app.create_default_argument_parser("squares").parse_args(argv)
    images = np.random.RandomState(0).randint(0, 256, (8, 32, 16, 3)).astype(np.uint8)
    train_app.train_loop(
        tiny.preprocess, tiny.create_network_factory(True, 4), images, [i // 4 for i in range(8)],
        num_images_per_id=4, **train_app.to_train_kwargs(args))
    return json.load(open("log/run/config.json"))["patience_steps"]

common = ["--batch_size=8", "--number_of_steps=1", "--log_dir=log", "--run_id=run"]
found = {
    "help": "steps of patience (default: 7, or the run's)" in answer("--help=saving"),
    "documented": "patience_steps : int" in RunConfig.__doc__,
    "refused": "goes with --mode=train, not with" in answer("--mode=eval", "--patience_steps=3"),
    "checked": "0 must be a whole number of at least 1" in answer("--patience_steps=0"),
    "default": settings.settle(parse(), Market1501).patience_steps,
    "given": settings.settle(parse("--patience_steps=3"), Market1501).patience_steps,
    "handed on": train(*common, "--patience_steps=5"),
    "resumed": settings.settle(parse(), Market1501, "log/run").patience_steps,
}
json.dump(found, open("found.json", "w"))
"""


@pytest.mark.slow
def test_a_new_setting_is_written_in_one_place(tmp_path):
    shutil.copytree(ROOT / "deep_reid", tmp_path / "deep_reid")
    path = tmp_path / "deep_reid" / "config" / "run.py"
    text = path.read_text()
    before = "    def __post_init__(self) -> None:"
    assert before in text
    path.write_text(text.replace(before, NEW_SETTING + "\n" + before, 1))
    folders = [tmp_path, ROOT, ROOT / "tests"]
    process = subprocess.run(
        [sys.executable, "-c", USE_OF_NEW_SETTING],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))},
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    assert process.returncode == 0, process.stderr
    assert json.loads((tmp_path / "found.json").read_text()) == {
        "help": True,
        "documented": True,
        "refused": True,
        "checked": True,
        "default": 7,
        "given": 3,
        "handed on": 5,
        "resumed": 5,
    }
