"""``--precise_batch_norm`` in all modes: one mechanism, the same weights, nothing left behind."""

import hashlib
import json
import logging
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import processes
import pytest

from datasets import synthetic
from datasets.custom import Custom
from deep_reid import cli
from deep_reid.cli.outputs import read_origin
from deep_reid.compat import tf
from deep_reid.runs import folder
from deep_reid.scoring import protocols

ROOT = Path(__file__).parents[2]
NETWORKS = """
import tiny
from deep_reid.compat import slim, tf

class Plain(tiny.Net):
    def create_network_factory(self, is_training, num_classes, add_logits):
        def factory_fn(images):
            features = slim.fully_connected(slim.flatten(images), 8, activation_fn=None, scope="fc")
            return tf.nn.l2_normalize(features, 1), None

        return factory_fn
"""
PRECISE = "--precise_batch_norm=3"
# What each mode writes, with the flags that it needs.
OUTPUTS = {
    "freeze": ("x.pb", ["--output=x.pb"]),
    "finalize": ("x.ckpt", ["--output=x.ckpt"]),
    "export": ("out/feat_test.mat", ["--sdk_dir=out"]),
}
TRAIN = [
    "--mode=train", "--dataset=people", "--log_dir=log", "--batch_size=8", "--seed=3",
    "--image_shape", "32", "16", "--num_validation=3", "--loss_mode=triplet",
    "--save_interval_secs=1000",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data, and with runs of 4 steps: one with batch norm, one without."""
    work = tmp_path_factory.mktemp("work")
    synthetic.draw_folders(work / "people", num_identities=8, images_per_identity=5)
    (work / "own_nets.py").write_text(NETWORKS)
    before, path = os.getcwd(), list(sys.path)
    os.chdir(work)
    sys.path.insert(0, str(work))
    try:
        for name, network in (("plain", "own_nets:Plain"), ("run", "tiny:Net")):
            flags = [f"--run_id={name}", f"--network={network}", "--number_of_steps=4"]
            assert cli.main(Custom, [*TRAIN, *flags]) == 0
        yield work
    finally:
        os.chdir(before)
        sys.path[:] = path
        sys.modules.pop("own_nets", None)


@pytest.fixture
def run(trained, tmp_path, monkeypatch, caplog):
    """Run the program in a folder of the test's own, on the runs of `trained`."""
    for name in ("people", "log"):
        (tmp_path / name).symlink_to(trained / name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    caplog.set_level(logging.INFO)
    before = digest(trained / "log")

    def run(*argv, code=0):
        caplog.clear()
        assert cli.main(Custom, ["--log_dir=log", *argv]) == code, caplog.text
        assert not list((tmp_path / "scratch").iterdir())
        assert digest(trained / "log") == before
        return caplog.text

    return run


def digest(folder):
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in ("*/model.ckpt*", "*/checkpoint", "*/config.json")
        for path in sorted(folder.glob(pattern))
    }


def read_rows(path="out/feat_test.mat"):
    return protocols.load_features(path)


def test_freeze_finalize_export_and_test_have_the_same_weights(run):
    text = run("--mode=export", "--run_id=run", "--sdk_dir=plain")
    assert "Setting batch norm anew" not in text
    text = run("--mode=export", "--run_id=run", "--sdk_dir=out", PRECISE)
    assert "Setting batch norm anew with 3 batches of 8 images" in text
    features = read_rows()
    assert abs(features - read_rows("plain/feat_test.mat")).max() > 1e-3
    run("--mode=finalize", "--run_id=run", "--output=x.ckpt", PRECISE)
    run("--mode=freeze", "--run_id=run", "--output=x.pb", PRECISE)
    shape = ["--image_shape", "32", "16", "--network=tiny:Net", "--dataset=people"]
    shape += ["--num_validation=3"]
    run("--mode=export", "--restore_path=x.ckpt", "--sdk_dir=finalized", *shape)
    np.testing.assert_allclose(read_rows("finalized/feat_test.mat"), features, atol=1e-5)

    scores = {}
    for name, flags in {
        "test": ["--run_id=run", PRECISE],
        "frozen": ["--frozen_graph=x.pb"],
        "features": ["--run_id=run", "--features=out/feat_test.mat"],
    }.items():
        run("--mode=test", "--metrics_file=m.json", *flags)
        facts = json.loads(Path("m.json").read_text())
        scores[name] = [facts[key] for key in ("rank1", "rank5", "mAP_standard", "mAP_matlab")]
        assert facts.get("precise_batch_norm") == (3 if name == "test" else None)
    assert scores["test"] == scores["frozen"] == scores["features"]

    from deep_reid.export import encode_with_frozen_graph

    index = Path("out/feat_test.csv").read_text().splitlines()[1:]
    images = [line.split(",")[0] for line in index]
    np.testing.assert_allclose(encode_with_frozen_graph("x.pb", images), features, atol=1e-5)


@pytest.mark.parametrize("mode", OUTPUTS)
def test_the_manifest_tells_run_step_and_batches(run, mode):
    path, flags = OUTPUTS[mode]
    run(f"--mode={mode}", "--run_id=run", PRECISE, *flags)
    origin = read_origin(path)
    assert (origin.run, origin.step, origin.precise_batch_norm) == ("run", 4, 3)
    assert origin.checkpoint == os.path.join("log", "run", "model.ckpt-4")
    run(f"--mode={mode}", "--run_id=run", *flags)
    assert read_origin(path).precise_batch_norm is None


def test_a_manifest_of_an_earlier_release_is_read(tmp_path):
    facts = {"run": "run", "step": 3, "checkpoint": "model.ckpt-3"}
    (tmp_path / "x.pb.manifest.json").write_text(json.dumps(facts))
    assert read_origin(str(tmp_path / "x.pb")).step == 3


def test_search_has_the_weights_of_export(run):
    run("--mode=export", "--run_id=run", "--sdk_dir=out", PRECISE)
    by_path = {
        line.split(",")[0]: row
        for line, row in zip(
            Path("out/feat_test.csv").read_text().splitlines()[1:], read_rows(), strict=True
        )
    }
    query = Path(next(iter(by_path)))
    run("--mode=search", "--run_id=run", f"--query={query}", f"--gallery={query.parent}", PRECISE,
        "--search_dir=found")  # fmt: skip
    assert np.allclose(np.load("found/query.npy")[0], by_path[str(query)], atol=1e-5)


def read_lines(path="eval/run/metrics.jsonl"):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_eval_scores_with_and_without_are_told_apart(run):
    evaluation = ["--mode=eval", "--run_id=run", "--eval_log_dir=eval", "--until_trained"]
    run(*evaluation)
    steps = [line["step"] for line in read_lines()]
    text = run(*evaluation, PRECISE, "--projector", "--eval_log_dir=eval")
    assert text.count("Setting batch norm anew") == 2 * len(steps)  # for scores and the projector
    run(*evaluation, PRECISE)
    run(*evaluation)
    lines = read_lines()
    assert [line.get("precise_batch_norm") for line in lines] == [
        *[None] * len(steps), *[3] * len(steps),
    ]  # fmt: skip
    assert [line["step"] for line in lines] == steps * 2


@pytest.mark.slow
def test_training_evaluates_so_and_trains_the_same(run, trained, tmp_path):
    network = ["--network=tiny:Net", "--number_of_steps=4", "--log_dir=own", "--run_id=run"]
    evaluated = ["--eval_every=2", "--eval_log_dir=eval", PRECISE]
    run(*TRAIN, *network, *evaluated)
    assert [(line["step"], line["precise_batch_norm"]) for line in read_lines()] == [(2, 3), (4, 3)]
    values = [
        tf.train.load_checkpoint(str(path / "run" / "model.ckpt-4")).get_tensor("tiny/fc/weights")
        for path in (trained / "log", tmp_path / "own")
    ]
    np.testing.assert_allclose(*values, rtol=1e-3, atol=1e-5)


ERRORS = {
    "--mode=freeze --run_id=run --precise_batch_norm=0": (2, "at least 1"),
    "--mode=train --precise_batch_norm=2": (2, "--precise_batch_norm needs --eval_every"),
    "--mode=freeze --run_id=plain --precise_batch_norm=2": (2, "the network has no batch norm"),
    "--mode=test --frozen_graph=x.pb --run_id=run --precise_batch_norm=2": (
        2, "changes a checkpoint, and --frozen_graph is none",
    ),
    "--mode=test --features=x.mat --run_id=run --precise_batch_norm=2": (
        2, "changes a checkpoint, and --features is none",
    ),
    "--mode=freeze --run_id=run --dataset=gone --precise_batch_norm=2": (
        1, "--dataset_dir names them if they were moved.: .*gone",
    ),
    "--mode=freeze --restore_path=weights.ckpt --precise_batch_norm=2": (
        2, "name your own images, as --dataset_dir=DIR",
    ),
    "--mode=finalize --run_id=run --num_validation=2": (
        2, "--num_validation needs --precise_batch_norm with --mode=finalize",
    ),
}  # fmt: skip


@pytest.mark.parametrize("line", ERRORS)
def test_errors_are_one_line_and_leave_nothing(run, line, tmp_path, capsys):
    import re

    code, message = ERRORS[line]
    Path("x.pb").touch()
    out = [] if "train" in line or "test" in line else ["--output=out.pb"]
    try:
        text = run(*line.split(), *out, code=code)
    except SystemExit as error:  # of the parser
        assert error.code == code
        text = capsys.readouterr().err
    assert re.search(message, text), text
    assert not list(tmp_path.glob("out.pb*"))


def test_a_data_set_that_has_moved_is_found_by_its_flag(run, trained, tmp_path):
    (tmp_path / "moved").symlink_to(trained / "people")
    text = run("--mode=freeze", "--run_id=run", "--output=x.pb", "--dataset=moved",
               "--num_validation=3", PRECISE)  # fmt: skip
    assert "moved has 25 to train on" in text


def test_a_test_on_other_data_takes_the_images_of_the_run(run, tmp_path):
    synthetic.draw_folders(tmp_path / "others", num_identities=4, images_per_identity=3)
    text = run("--mode=test", "--run_id=run", "--dataset=others", "--num_validation=2",
               "--metrics_file=m.json", PRECISE)  # fmt: skip
    assert "people has 25 to train on" in text


class TestWarning:
    TEXT = "running averages still consist of start values"

    @pytest.mark.parametrize("mode", ["freeze", "finalize", "export", "test", "eval"])
    def test_comes_once_in_each_mode_for_a_short_run(self, run, mode):
        flags = {"test": ["--metrics_file=m.json"], "eval": ["--until_trained"]}
        flags = OUTPUTS[mode][1] if mode in OUTPUTS else flags[mode]
        text = run(f"--mode={mode}", "--run_id=run", *flags, "--log_dir=log")
        assert text.count(self.TEXT) == 1
        assert self.TEXT not in run(f"--mode={mode}", "--run_id=run", *flags, PRECISE)

    def test_needs_no_data(self, run, trained):
        (trained / "people").rename(trained / "elsewhere")
        try:
            assert self.TEXT in run("--mode=freeze", "--run_id=run", "--output=x.pb")
        finally:
            (trained / "elsewhere").rename(trained / "people")

    def test_does_not_come_for_a_network_without_batch_norm(self, run):
        assert self.TEXT not in run("--mode=freeze", "--run_id=plain", "--output=x.pb")

    def test_does_not_come_for_good_averages(self, run, trained, tmp_path):
        run_dir = tmp_path / "good" / "run"
        run_dir.mkdir(parents=True)
        (run_dir / "config.json").write_bytes((trained / "log/run/config.json").read_bytes())
        reader = tf.train.load_checkpoint(str(trained / "log" / "run" / "model.ckpt-4"))
        with tf.Graph().as_default(), tf.Session() as session:
            for name in reader.get_variable_to_shape_map():
                value = reader.get_tensor(name)
                tf.get_variable(name, initializer=100 * value if name == "global_step" else value)
            session.run(tf.global_variables_initializer())
            tf.train.Saver().save(session, str(run_dir / "model.ckpt-400"))
        assert folder.list_runs(str(tmp_path / "good")) == ["run"]
        flags = ["--log_dir=good", "--run_id=run", "--output=x.pb"]
        assert self.TEXT not in run("--mode=freeze", *flags)  # 0.9^400, the decay of this network

    def test_does_not_come_for_weights_that_were_set_anew(self, run):
        run("--mode=finalize", "--run_id=run", "--output=x.ckpt", PRECISE)
        flags = ["--image_shape", "32", "16", "--network=tiny:Net"]
        text = run("--mode=freeze", "--restore_path=x.ckpt", "--output=x.pb", *flags)
        assert self.TEXT not in text
        assert read_origin("x.pb").precise_batch_norm == 3


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_behind(trained, tmp_path, number):
    before = digest(trained / "log")
    (tmp_path / "scratch").mkdir()
    argv = ["--mode=freeze", "--log_dir=log", "--run_id=run", f"--output={tmp_path}/x.pb",
            "--precise_batch_norm=1000000"]  # fmt: skip
    log = tmp_path / "log.txt"
    process = processes.start_script(
        ROOT / "train_custom.py", argv, trained, [ROOT / "tests", trained], log,
        TMPDIR=str(tmp_path / "scratch"),
    )  # fmt: skip
    try:
        while not list((tmp_path / "scratch").glob("deep-reid-*")):
            assert process.is_alive(), log.read_text()
            time.sleep(0.1)
        os.kill(process.pid, number)
        process.join(120)
        assert process.exitcode == 128 + number, log.read_text()
    finally:
        process.kill()
    assert not list((tmp_path / "scratch").glob("deep-reid-*"))
    assert not list(tmp_path.glob("x.pb*"))
    assert digest(trained / "log") == before
