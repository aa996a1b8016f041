"""Mistakes are answered before TensorFlow is imported, which takes seconds."""

import contextlib
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from datasets import synthetic
from datasets.custom import Custom
from deep_reid import nets
from deep_reid.cli import settings
from deep_reid.cli.arguments import ArgumentParser
from deep_reid.compat import tf
from deep_reid.config import RunConfig
from deep_reid.config.run import NETWORKS
from deep_reid.config.setting import list_settings
from deep_reid.runs import labels
from deep_reid.system import locks

ROOT = Path(__file__).parents[2]
# Runs the script for each list of arguments, in a fork of a process that has imported what others
# have made; writes exit codes and standard error.
CODE = """
import json, os, runpy, sys
import cv2, numpy, PIL.Image, scipy.io

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            sys.exit("TensorFlow was imported")

def run(argv):
    reading, writing = os.pipe()
    if not os.fork():
        os.dup2(writing, 2)
        os.close(writing)
        sys.argv = [script, *argv]
        sys.path.insert(0, root)  # as python train_custom.py does
        runpy.run_path(root + "/" + script, run_name="__main__")
        sys.exit()
    os.close(writing)
    with open(reading) as file:
        errors = file.read()
    return os.waitstatus_to_exitcode(os.wait()[1]), errors

sys.meta_path.insert(0, Blocked())
root, script = sys.argv[1:]
print(json.dumps([run(argv) for argv in json.load(sys.stdin)]))
"""
# Each with a part of its line.
MISTAKES = {
    "--mode=train --run_id=a/b": "run_id ('a/b') must be a plain folder name",
    **{
        f"--mode={mode} --{flag}={path}{rest}": f"{path}/: Not a directory"
        for path in ("people/notes.md", "people/notes.md/deeper")
        for mode, flag, rest in (
            ("train", "log_dir", ""),
            ("train", "eval_log_dir", " --eval_every=2"),
            ("eval", "eval_log_dir", " --run_id=run"),
        )
    },
    "--mode=train --restore_path=missing": "checkpoint missing does not exist",
    "--mode=train --restore_path=log/run": "holds no checkpoint",
    "--mode=train --trainable_scopes conv9_9": "trainable scope 'conv9_9' has no variables",
    "--mode=train --trainable_scopes fc1 bal/x": "trainable scope 'bal/x' has no variables",
    "--mode=train --num_validation=99": "num_validation",
    "--mode=train --num_validation=0 --eval_every=2": "none of the 0 validation identities has",
    "--mode=eval --run_id=run --num_validation=0": "none of the 0 validation identities has two",
    "--mode=test --run_id=missing": "has no run missing",
    "--mode=export --run_id=missing": "has no run missing",
    "--mode=freeze --run_id=missing": "has no run missing",
    "--mode=finalize --run_id=missing": "has no run missing",
    "--mode=test --restore_path=log/run/model.ckpt-7": "model.ckpt-7 does not exist",
    "--mode=export --restore_path=log/run/model.ckpt-7": "model.ckpt-7 does not exist",
    "--mode=freeze --restore_path=missing.ckpt": "missing.ckpt does not exist",
    "--mode=finalize --restore_path=missing.ckpt": "missing.ckpt does not exist",
    "--mode=freeze --run_id=run": "holds no checkpoint",
    "--mode=freeze --restore_path=graph.pb": "graph.pb is a frozen graph",
    "--mode=freeze --restore_path=people/notes.md": "notes.md is no checkpoint: name a run's",
    "--mode=train --restore_path=people/notes.md": "notes.md is no checkpoint: name a run's",
    "--mode=test --restore_path=people/notes.md": "notes.md is no checkpoint: name a run's",
    "--mode=test --frozen_graph=missing.pb": "frozen graph missing.pb does not exist",
    "--mode=test --frozen_graph=log/run": "log/run is a folder, not a file (frozen graph)",
    "--mode=test --frozen_graph=missing.onnx": "ONNX missing.onnx does not exist",
    "--mode=train --network=absent:Net": "absent:Net: there is no module absent in",
    "--mode=train --network=absent.part:Net": "there is no module absent in",
    "--mode=freeze --restore_path=source --network=absent:Net": "there is no module absent in",
    "--mode=test --features=missing.mat": "features missing.mat do not exist",
    "--mode=test --network=deep_sorted": "deep_sorted is unknown",
}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    synthetic.draw_folders(folder / "people", num_identities=4, images_per_identity=4)
    (folder / "people" / "notes.md").write_text("no checkpoint")
    RunConfig((32, 16, 3), seed=1, dataset=str(folder / "people")).save(folder / "log" / "run")
    # A checkpoint that is found, and not read.
    RunConfig((32, 16, 3), seed=1, dataset="elsewhere").save(folder / "source")
    for ending in ("index", "data-00000-of-00001"):
        (folder / "source" / f"model.ckpt-5.{ending}").touch()
    (folder / "source" / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-5"\n')
    return folder


def ask(folder, argvs, script="train_custom.py"):
    """Run a script where TensorFlow cannot be imported: exit codes and standard errors."""
    process = subprocess.run(
        [sys.executable, "-c", CODE, str(ROOT), script],
        cwd=folder, input=json.dumps(argvs), capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def check(answer, line):
    """Check that the last line of an answer has this part."""
    code, errors = answer
    assert "TensorFlow was imported" not in errors
    assert code in (1, 2)
    assert line in errors.splitlines()[-1]


def answer(folder, argv, line):
    """Run the script once, and check its last line."""
    check(ask(folder, [[*argv, "--log_dir=log"]])[0], line)


@pytest.fixture(scope="module")
def answers(work):
    """For each mistake the exit code and standard error."""
    argvs = [["--log_dir=log", *mistake.split(), "--dataset=people"] for mistake in MISTAKES]
    return dict(zip(MISTAKES, ask(work, argvs), strict=True))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_without_tensorflow(answers, mistake):
    check(answers[mistake], MISTAKES[mistake])


def test_settings_that_differ_from_the_run_of_the_weights_are_named_at_once(work):
    argv = ["--mode=train", "--dataset=people", "--restore_path=source/model.ckpt-5"]
    argv += ["--image_shape", "64", "32", "--num_validation=99", "--seed=1"]
    ((_, errors),) = ask(work, [argv])
    assert "num_validation (99) is too large" in errors  # all else is in order
    assert (
        "Run source, which the weights are of, had other settings: image_shape (64, 32, 3) "
        "(was (32, 16, 3))\n"
    ) in errors


# A run with each setting, whatever its kind, and one that goes on with another value.
FIXED = {name: facts for name, facts in list_settings(RunConfig).items() if facts.is_fixed}
VALUES = ["triplet", "magnet", "mars_small128", "deep_sort", "fc1", "ball", "24 48", "32 16", "7"]
VALUES += ["0.5", "0.25", "people", "skip", "market1501", "he", "truncated_normal", "adamw", "sgd"]


def two_values(facts):
    """A configuration with a value of a setting, and the arguments that give it another one."""
    flag = facts.flags[0]
    arguments = [[flag, *text.split()] for text in VALUES]
    arguments += [[flag], [flag.replace("--", "--no-")]]  # of a switch
    read = {}
    for argv in arguments:
        with contextlib.suppress(SystemExit):
            given = ["--mode=train", "--dataset=people", *argv]
            config = settings.settle_training(ArgumentParser(Custom).parse_args(given), Custom)
            value = getattr(config, facts.name)
            if value is not None:
                read.setdefault(value, (argv, config))
    assert len(read) >= 2, f"VALUES has no two for {flag}"
    (_, config), (argv, _) = list(read.values())[:2]
    return config, argv


WITH_FLAGS = [name for name, facts in FIXED.items() if facts.flags]


@pytest.fixture(scope="module")
def answers_on_settings(work):
    """For each setting the value of its run, and what another value is answered with."""
    values, argvs = [], []
    for name in WITH_FLAGS:
        config, argv = two_values(FIXED[name])
        config = dataclasses.replace(config, dataset=str(work / "people"))
        config.save(work / "log" / f"with_{name}")
        values.append(getattr(config, name))
        argvs.append([f"--run_id=with_{name}", *argv])
    answers = ask(work, [[*argv, "--log_dir=log"] for argv in argvs])
    return dict(zip(WITH_FLAGS, zip(values, answers, strict=True), strict=True))


@pytest.mark.parametrize("name", WITH_FLAGS)
def test_a_setting_that_a_run_cannot_change_is_compared_without_tensorflow(
    answers_on_settings, name
):
    value, answer = answers_on_settings[name]
    check(answer, f"run with_{name} has {name} {value}, not ")


def test_the_settings_without_a_flag_that_a_run_cannot_change_are_those_of_the_next_test():
    assert [name for name, facts in FIXED.items() if not facts.flags] == ["num_classes"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"num_classes": 77}, "run other has num_classes 77, not "),
        ({"labels": ["a", "b"]}, "run other was trained on 2 identities, and now there are "),
    ],
)
def test_identities_are_compared_without_tensorflow(work, change, line):
    config = RunConfig((32, 16, 3), seed=1, dataset=str(work / "people"), network="deep_sort")
    config = dataclasses.replace(config, num_classes=change.get("num_classes"))
    folder = work / "log" / "other"
    shutil.rmtree(folder, ignore_errors=True)
    dataclasses.replace(config, compact_labels="labels" in change).save(folder)
    if "labels" in change:
        labels.save(folder, change["labels"])
    answer(work, ["--run_id=other"], line)


DRAW = {
    "market1501": lambda folder: synthetic.draw_market1501(
        folder, num_identities=6, num_test_identities=2, num_cameras=2, images_per_camera=1
    ),
    "mars": lambda folder: synthetic.draw_mars(
        folder, num_identities=6, num_test_identities=2, num_cameras=2
    ),
}
# Each with a part of its line. Batches of own images shrink, those of the benchmarks do not.
TOO_FEW = {
    "--mode=train": "batch_size 128 with 4 images per identity needs 32 identities, but the data "
    "has 6: use --batch_size=24 or less",
    "--mode=train --batch_size=28": "needs 7 identities, but the data has 6",
    "--mode=train --batch_size=8 --eval_every=2": "none of the 0 validation identities has two",
    "--mode=eval --run_id=run": "none of the 0 validation identities has two images to compare",
}


@pytest.mark.parametrize("name", DRAW)
def test_identities_that_do_not_suffice_are_counted_without_tensorflow(tmp_path, name):
    DRAW[name](tmp_path / "data")
    RunConfig((32, 16, 3), seed=1, num_validation=0).save(tmp_path / "log" / "run")
    options = ["--num_validation=0", "--dataset=data", "--log_dir=log"]
    argvs = [[*mistake.split(), *options] for mistake in TOO_FEW]
    answers = ask(tmp_path, argvs, f"train_{name}.py")
    for line, answer in zip(TOO_FEW.values(), answers, strict=True):
        check(answer, line)


@pytest.mark.parametrize(
    ("argv", "folder", "use"),
    [
        (["--mode=train", "--run_id=run"], "log/run", locks.TRAINING),
        (["--mode=eval", "--run_id=run", "--eval_log_dir=eval"], "eval/run", locks.EVALUATION),
    ],
)
def test_a_run_that_another_process_works_on_is_found_without_tensorflow(work, argv, folder, use):
    with locks.holding(work / folder, "run run", use):
        answer(work, [*argv, "--dataset=people"], f"run run is being {use.participle} by process")


@pytest.mark.parametrize("name", NETWORKS)
def test_the_scopes_that_are_known_are_those_of_the_networks(name, graph):
    factory = nets.load_network(name).create_network_factory(
        is_training=True, num_classes=5, add_logits=True
    )
    factory(tf.zeros((4, 128, 64, 3)))
    found = {variable.op.name.partition("/")[0] for variable in tf.trainable_variables()}
    assert found == set(nets.SCOPES)


def test_scopes_that_may_be_right_are_not_refused():
    nets.check_scopes("deep_sort", ["fc1", "conv1_1/weights", "conv.*", "(fc1|ball)"])
    nets.check_scopes("own:Net", ["whatever"])
