"""Evaluation within the training process, and what a terminal shows meanwhile."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import processes
import pytest

from datasets.custom import Custom
from deep_reid import cli
from deep_reid.engine.checkpoint_evaluation import CheckpointEvaluation
from deep_reid.system import locks, signals

ROOT = Path(__file__).parents[2]
TRAIN = [
    "--mode=train", "--dataset=people", "--log_dir=log", "--batch_size=8", "--seed=3",
    "--image_shape", "32", "16", "--num_validation=3", "--deterministic", "--log_every_n_steps=1",
    "--network=tiny:DrawingNet",
]  # fmt: skip
EVALUATE = ["--eval_every=2", "--eval_log_dir=eval"]


pytestmark = pytest.mark.usefixtures("beside_people")


def read_scores(eval_dir):
    lines = [json.loads(line) for line in Path(eval_dir, "metrics.jsonl").read_text().splitlines()]
    left_out = ("checkpoint", "time", "digest")
    return [{k: v for k, v in line.items() if k not in left_out} for line in lines]


def read_losses(text):
    return re.findall(r"step (\d+)/\d+, loss (\S+),", text)


@pytest.mark.slow
def test_the_scores_are_those_of_evaluation_and_the_training_is_the_same(run, tmp_path):
    losses = read_losses(run(*TRAIN, "--run_id=alone", "--number_of_steps=5"))
    evaluated = [*TRAIN, "--run_id=a", *EVALUATE]
    text = run(*evaluated, "--number_of_steps=5", "--keep_best", "--projector")
    assert len(losses) == 5
    assert read_losses(text) == losses
    scores = read_scores("eval/a")
    assert [line["step"] for line in scores] == [2, 4, 5]
    assert (tmp_path / "log" / "a" / "best" / "score.json").exists()
    assert list((tmp_path / "eval" / "a").glob("*projector*"))

    evaluation = ["--mode=eval", "--run_id=a", "--log_dir=log"]
    run(*evaluation, "--until_trained", "--eval_log_dir=later")
    others = {line["step"]: line for line in read_scores("later/a")}
    assert others.pop(0)["step"] == 0
    assert list(others.values()) == scores

    # What is scored is not scored again: neither by evaluation nor when the training goes on.
    text = run(*evaluation, "--eval_once", "--eval_log_dir=eval")
    assert "model.ckpt-5, the newest checkpoint, was evaluated before" in text
    assert f"The newest checkpoint: Precision@1 {scores[-1]['Precision@1']:.4f}, " in text
    run(*evaluated, "--number_of_steps=7")
    assert [line["step"] for line in read_scores("eval/a")] == [2, 4, 5, 6, 7]
    run(*evaluated, "--number_of_steps=7")
    assert [line["step"] for line in read_scores("eval/a")] == [2, 4, 5, 6, 7]


def test_what_evaluation_refuses_is_refused_before_the_first_step(run, tmp_path):
    argv = [*TRAIN, "--run_id=a", *EVALUATE, "--number_of_steps=5"]
    with locks.holding("eval/a", "run a", locks.EVALUATION):
        text = run(*argv, code=1)
    assert "run a is being evaluated by process" in text
    assert "step 1/5" not in text
    assert not (tmp_path / "log" / "a").exists()


@pytest.mark.parametrize("flag", ["--eval_log_dir=x", "--keep_best", "--projector"])
def test_flags_of_evaluation_need_it(run, flag, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(Custom, [*TRAIN, flag])
    assert exit_.value.code == 2
    name = flag.partition("=")[0]
    assert f"{name} needs --eval_every with --mode=train" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["0", "-3", "x", "1.5"])
def test_the_number_of_steps_must_be_a_count(run, value, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(Custom, [*TRAIN, f"--eval_every={value}"])
    assert exit_.value.code == 2
    assert "eval_every" in capsys.readouterr().err


@pytest.mark.slow
def test_a_signal_ends_an_evaluation_and_the_training_is_saved(run, monkeypatch):
    evaluate = CheckpointEvaluation.evaluate

    def interrupted(evaluation, path):
        if path.endswith("-2"):
            os.kill(os.getpid(), signals.signal.SIGTERM)
            for _ in range(10_000):  # the handler runs between two instructions
                pass
            pytest.fail("the evaluation went on")
        return evaluate(evaluation, path)

    argv = [*TRAIN, "--run_id=a", *EVALUATE, "--number_of_steps=5"]
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointEvaluation, "evaluate", interrupted)
        text = run(*argv, code=143)
    assert "Saved; --run_id=a goes on from there" in text
    text = run(*argv)
    assert "Training from step 2" in text
    assert [line["step"] for line in read_scores("eval/a")] == [4, 5]


@pytest.mark.slow
def test_a_terminal_shows_a_bar_and_a_file_does_not(run, tmp_path):
    script, argv = ROOT / "train_custom.py", [*TRAIN, "--number_of_steps=6"]
    code, shown = processes.call(
        processes.run_script_on_terminal,
        script, [*argv, "--run_id=terminal"], tmp_path, [ROOT / "tests"],
    )  # fmt: skip
    assert code == 0, shown
    assert re.search(r"100%\|.*\| 6/6 \[.*step.*, loss \d+\.\d+, epoch 1\.9\]", shown)
    # A line of the log is alone on its line.
    lines = [line.rpartition("\r")[2] for line in shown.replace("\r\n", "\n").split("\n")]
    assert (
        sum(re.fullmatch(r"\S+ \S+ INFO    step \d/6, loss .*", x) is not None for x in lines) == 6
    )

    file = tmp_path / "output.txt"
    code = processes.call(
        processes.run_script, script, [*argv, "--run_id=file"], tmp_path, [ROOT / "tests"], file
    )
    written = file.read_bytes().decode()
    assert code == 0, written
    assert "\r" not in written
    assert "%|" not in written
    assert len(re.findall(r" INFO    step \d/6, loss ", written)) == 6


def test_before_tensorflow_is_imported_it_says_so(run, tmp_path):
    code = (
        "import runpy, sys; sys.modules['tensorflow'] = None; sys.argv = ['train_custom.py', "
        f"*sys.argv[1:]]; sys.path.insert(0, {str(ROOT)!r}); "
        f"runpy.run_path({str(ROOT / 'train_custom.py')!r}, run_name='__main__')"
    )
    argv = [sys.executable, "-c", code, *TRAIN]
    process = subprocess.run(
        argv,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},  # of the network
        capture_output=True,
        text=True,
        check=False,
    )
    messages = [line.partition("INFO    ")[2] for line in process.stderr.splitlines()]
    assert messages[0] == "Reading your own images in people"
    assert messages.index("Importing TensorFlow") == 4
