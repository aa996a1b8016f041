"""The two scripts as their users run them: real processes, files and signals.

Each mode is a process once for each script; most are forked from one that has imported TensorFlow,
which takes as long as all the rest. What else a mode promises is asked in this process. All
of this is long for MARS: what its data set alone decides is tested in this process, with the tiny
network.
"""

import datetime
import functools
import json
import logging
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import processes
import pytest
import tiny
from scipy import io
from score_bounds import assert_scores_of_features

from datasets.market1501 import Market1501
from datasets.mars import Mars
from deep_reid import cli
from deep_reid.compat import tf
from deep_reid.config import ComputeSettings
from deep_reid.runs import checkpoints, records
from deep_reid.runtime import sessions
from deep_reid.training import speed

ROOT = pathlib.Path(__file__).parents[2]
TAGS = {f"Precision_{k}" for k in (1, 5, 10, 20)}
TRAIN_ARGS = ["--mode=train", "--batch_size=8", "--save_summaries_secs=2"]
NUM_STEPS = 12
SAVE_INTERVAL_SECS = 4
# Where neither the images nor the network is the subject.
TINY = ["--image_shape", "32", "16", "--network=tiny:Net"]
SCRIPTS = {"train_market1501.py": Market1501, "train_mars.py": Mars}

# For what takes its time, and is the same in both scripts.
with_market1501 = pytest.mark.parametrize("trained", ["train_market1501.py"], indirect=True)

pytestmark = pytest.mark.slow


def start(script, *argv, cwd):
    """Start a script in a folder of its own, where its default directories are."""
    with open(cwd / f"{len(list(cwd.glob('*.log')))}.log", "w") as log:
        return subprocess.Popen(
            [sys.executable, str(ROOT / script), *map(str, argv)],
            cwd=cwd, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip


def newest_log(cwd):
    return max(cwd.glob("*.log"), key=lambda path: path.stat().st_mtime_ns)


def run(script, *argv, cwd, code=0):
    """Run a script to its end and return what it wrote."""
    process = start(script, *argv, cwd=cwd)
    actual_code = process.wait(timeout=800)
    output = newest_log(cwd).read_text()
    assert actual_code == code, output
    return output


def start_quickly(script, *argv, cwd):
    """Start a script as `start` does, in a process that is forked from one with TensorFlow."""
    log = cwd / f"{len(list(cwd.glob('*.log')))}.log"
    log.touch()
    tests = pathlib.Path(tiny.__file__).parent
    return processes.start_script(ROOT / script, [*map(str, argv)], cwd, [tests], log)


def run_quickly(script, *argv, cwd, code=0):
    """Run a script as `run` does, in a process that is forked from one with TensorFlow."""
    process = start_quickly(script, *argv, cwd=cwd)
    process.join(800)
    output = newest_log(cwd).read_text()
    assert process.exitcode == code, output
    return output


def write_tiny_network(cwd):
    """Put the module of the tiny network where a script looks for the user's own networks."""
    (cwd / "tiny.py").write_text(pathlib.Path(tiny.__file__).read_text())


def logs(cwd):
    return "\n".join(path.read_text() for path in sorted(cwd.glob("*.log")))


class Trained:
    """A folder in which a script was trained and evaluated at the same time."""

    def __init__(self, script, data_dir, cwd):
        self.script, self.dataset_class = script, SCRIPTS[script]
        self.cwd, self.data_dir = cwd, data_dir
        name = self.dataset_class.NAME
        self.train_dir, eval_dir = (cwd / "output" / name / mode for mode in ("train", "eval"))
        evaluation = start_quickly(
            script, "--mode=eval", f"--dataset_dir={data_dir}", "--eval_interval_secs=0.5",
            "--timeout_secs=60", cwd=cwd,
        )  # fmt: skip
        self.train = start_quickly(
            script, *TRAIN_ARGS, f"--dataset_dir={data_dir}", f"--number_of_steps={NUM_STEPS}",
            f"--save_interval_secs={SAVE_INTERVAL_SECS}", "--seed=3",
            "--max_checkpoints_to_keep=100", cwd=cwd,
        )  # fmt: skip
        self.wait_for((self.train_dir / "latest_run").exists)
        run_id = (self.train_dir / "latest_run").read_text().strip()
        self.run_dir, self.eval_dir = self.train_dir / run_id, eval_dir / run_id
        for number in (1, 2):
            self.hold_training_until_its_checkpoints_are_scored(number)
        self.train.join(800)
        self.train_code = self.train.exitcode
        self.train_ended_at = time.time()
        self.steps = [checkpoints.step_of(path) for path in self.saved()]
        deadline = time.monotonic() + 120
        while len(self.records()) < len(self.steps) and time.monotonic() < deadline:
            time.sleep(0.2)
        os.kill(evaluation.pid, signal.SIGINT)
        evaluation.join(300)
        self.eval_code = evaluation.exitcode

    def wait_for(self, condition):
        """Wait until a condition holds, at most as long as the training lives."""
        deadline = time.monotonic() + 300
        while not condition() and self.train.is_alive() and time.monotonic() < deadline:
            time.sleep(0.02)

    def hold_training_until_its_checkpoints_are_scored(self, number):
        """Stop a training at this many checkpoints: few steps are over before a slow evaluation."""
        self.wait_for(lambda: len(self.saved()) >= number)
        os.kill(self.train.pid, signal.SIGSTOP)
        go_on_at = time.monotonic() + SAVE_INTERVAL_SECS  # when the next step is one to save
        self.wait_for(lambda: len(self.records()) >= number and time.monotonic() > go_on_at)
        os.kill(self.train.pid, signal.SIGCONT)

    def saved(self):
        return records.list_checkpoints(self.run_dir)

    def records(self):
        path = self.eval_dir / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def run(self, *argv, **kwargs):
        argv = [*argv, f"--dataset_dir={self.data_dir}"]
        return run_quickly(self.script, *argv, cwd=self.cwd, **kwargs)


class FrozenGraph:
    """A frozen graph, used as Deep SORT uses it: by the names of its two nodes."""

    def __init__(self, path):
        self.graph = tf.Graph()
        graph_def = tf.GraphDef.FromString(path.read_bytes())
        with self.graph.as_default():
            tf.import_graph_def(graph_def, name="")
        self._session = tf.Session(graph=self.graph)
        self._size = self.graph.get_tensor_by_name("images:0").shape.as_list()[2:0:-1]

    def __call__(self, filenames):
        images = [cv2.resize(cv2.imread(str(name)), self._size) for name in filenames]
        return self._session.run("features:0", {"images:0": np.stack(images)})


@pytest.fixture(
    scope="module",
    params=["train_market1501.py", pytest.param("train_mars.py", marks=pytest.mark.long)],
)
def trained(request, tmp_path_factory):
    script = request.param
    data_dir = request.getfixturevalue(f"drawn_{SCRIPTS[script].NAME}")
    return Trained(script, data_dir, tmp_path_factory.mktemp("work"))


@pytest.fixture
def call(trained, monkeypatch, caplog, capsys):
    """Call a script's function in this process, and return what it wrote."""
    monkeypatch.chdir(trained.cwd)
    caplog.set_level(logging.INFO)

    def call(*argv, code=0):
        caplog.clear()
        argv = [*map(str, argv), f"--dataset_dir={trained.data_dir}"]
        actual_code = cli.main(trained.dataset_class, argv)
        output = capsys.readouterr().out + caplog.text
        assert actual_code == code, output
        return output

    return call


@pytest.fixture
def freeze(trained, call):
    """Write a frozen graph, and read it again."""

    def freeze(filename, *argv):
        call("--mode=freeze", f"--output={filename}", *argv)
        return FrozenGraph(trained.cwd / filename)

    return freeze


@pytest.fixture(scope="module")
def frozen_by_default(trained):
    """What the script wrote, and the file, for ``--mode=freeze`` alone."""
    output = trained.run("--mode=freeze")
    return output, trained.run_dir / "export" / f"{trained.dataset_class.NAME}.pb"


@pytest.fixture(scope="module")
def exported(trained):
    """The features that the script wrote, by the names of their files."""
    trained.run("--mode=export", "--sdk_dir=sdk", "--batch_size=50")
    names = trained.dataset_class(trained.data_dir).export_files()
    return {name: io.loadmat(trained.cwd / "sdk" / name)["features"] for name in names}


@pytest.fixture(scope="module")
def stopped(trained):
    """A training that Ctrl-C has ended after some steps: its code, log and folder."""
    write_tiny_network(trained.cwd)
    process = start(
        trained.script, *TRAIN_ARGS, *TINY, f"--dataset_dir={trained.data_dir}",
        "--log_dir=stopped", "--log_every_n_steps=10", cwd=trained.cwd,
    )  # fmt: skip
    log = newest_log(trained.cwd)
    deadline = time.monotonic() + 300
    while "step 10," not in log.read_text() and process.poll() is None:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    code = process.wait(timeout=300)
    (run_dir,) = (path.parent for path in (trained.cwd / "stopped").glob("*/checkpoint"))
    return code, log.read_text(), run_dir


def test_training_and_evaluation_run_side_by_side(trained):
    assert trained.train_code == 0, logs(trained.cwd)
    assert trained.eval_code == 130, logs(trained.cwd)
    records = trained.records()
    # Each checkpoint, the first at the start and the last at the end, and once only.
    assert [record["step"] for record in records] == trained.steps
    assert (trained.steps[0], trained.steps[-1]) == (0, NUM_STEPS)
    assert len(trained.steps) >= 3
    ended_at = datetime.datetime.fromtimestamp(trained.train_ended_at, datetime.timezone.utc)
    during = [r for r in records if datetime.datetime.fromisoformat(r["time"]) < ended_at]
    assert len(during) >= 2, "evaluation did not keep up with training"


def test_the_event_files_hold_the_four_rank_k_tags_at_the_steps_of_the_checkpoints(trained):
    steps = {tag: [] for tag in TAGS}
    for path in trained.eval_dir.glob("events.*"):
        for event in tf.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.tag in TAGS:
                    steps[value.tag].append(event.step)
                    assert 0.0 <= value.simple_value <= 1.0
    assert all(steps[tag] == trained.steps for tag in TAGS)


def test_training_logs_data_versions_seed_directories_and_progress(trained):
    output = logs(trained.cwd)
    for part in ("identities", "train  ", "validation", "TensorFlow 2.", "seed 3", "Run directory:",
                 f"step {NUM_STEPS}/{NUM_STEPS}, loss", "images/s", "left"):  # fmt: skip
        assert part in output
    assert "Traceback" not in output
    assert "deprecated" not in output


def test_the_frozen_graph_has_its_default_name_and_two_promised_nodes(trained, frozen_by_default):
    output, path = frozen_by_default
    assert f"model.ckpt-{trained.steps[-1]}" in output
    frozen = FrozenGraph(path).graph
    images, features = (frozen.get_tensor_by_name(f"{name}:0") for name in ("images", "features"))
    assert (images.dtype, images.shape.as_list()) == (tf.uint8, [None, 128, 64, 3])
    assert (features.dtype, features.shape.as_list()) == (tf.float32, [None, 128])


def test_export_finalize_and_freeze_agree(trained, exported, frozen_by_default, freeze):
    dataset = trained.dataset_class(trained.data_dir)
    trained.run("--mode=finalize", "--output=final/model.ckpt")
    frozen = FrozenGraph(frozen_by_default[1])
    frozen_from_final = freeze("b.pb", "--restore_path=final/model.ckpt")
    for filename, images in dataset.export_files().items():
        rows = exported[filename]
        assert rows.shape == (len(images), 128)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
        # Files of another size are resized with OpenCV here and with TensorFlow in the export: only
        # those that have the network's size can agree to the last digit.
        if trained.dataset_class is Market1501:
            features = frozen(images[:40])
            np.testing.assert_allclose(features, rows[:40], atol=1e-5)
        np.testing.assert_allclose(frozen_from_final(images[:40]), frozen(images[:40]), atol=1e-6)
        singles = np.concatenate([frozen([image]) for image in images[:5]])
        np.testing.assert_allclose(singles, frozen(images[:5]), atol=1e-5)


@with_market1501
def test_a_graph_without_preprocessing_takes_what_the_network_takes(
    trained, frozen_by_default, call
):
    whole = FrozenGraph(frozen_by_default[1])
    call("--mode=freeze", "--no_preprocess", "--output=bare.pb")
    bare = FrozenGraph(trained.cwd / "bare.pb")
    image_var = bare.graph.get_tensor_by_name("images:0")
    assert (image_var.dtype, image_var.shape.as_list()) == (tf.float32, [None, 128, 64, 3])
    names = trained.dataset_class(trained.data_dir).train.filenames[:8]
    images = np.stack([cv2.resize(cv2.imread(name), (64, 128)) for name in names])
    with tf.Session(graph=bare.graph) as session:
        features = session.run("features:0", {image_var: images[..., ::-1] / 255.0})
    np.testing.assert_allclose(features, whole(names), atol=1e-5)
    output = call("--mode=test", "--frozen_graph=bare.pb", code=1)
    assert "takes preprocessed images" in output


@pytest.mark.long
@with_market1501
@pytest.mark.skipif(
    not sessions.computes_in(ComputeSettings(precision="bfloat16")),
    reason="bfloat16 needs a CPU with AVX-512",
)
def test_all_modes_compute_in_bfloat16(trained, frozen_by_default):
    argv = ["--precision=bfloat16", "--log_dir=narrow"]
    trained.run(*TRAIN_ARGS, *argv, "--number_of_steps=3")
    trained.run("--mode=eval", *argv, "--max_num_evaluations=1", "--eval_log_dir=narrow_eval")
    # The trained run, in both precisions: nearly the same features, but not quite.
    for precision in ("float32", "bfloat16"):
        argv = [f"--precision={precision}"]
        trained.run("--mode=export", *argv, f"--sdk_dir=in_{precision}")
        trained.run("--mode=test", *argv, f"--metrics_file={precision}.json")
    (filename, *_) = trained.dataset_class(trained.data_dir).export_files()
    exact, narrow = (
        io.loadmat(trained.cwd / f"in_{precision}" / filename)["features"]
        for precision in ("float32", "bfloat16")
    )
    np.testing.assert_allclose(np.linalg.norm(narrow, axis=1), 1.0, atol=1e-5)
    similarity = (exact * narrow).sum(axis=1)
    assert 0.99 < similarity.min() < similarity.max()
    assert (exact != narrow).any()
    scores = [json.loads((trained.cwd / f"{p}.json").read_text()) for p in ("float32", "bfloat16")]
    assert [score["precision"] for score in scores] == ["float32", "bfloat16"]
    assert scores[0]["mAP_standard"] == pytest.approx(scores[1]["mAP_standard"], abs=0.05)
    exact = frozen_by_default[1]
    output = trained.run("--mode=test", f"--frozen_graph={exact}", "--precision=bfloat16", code=2)
    assert f"{exact.name} is a frozen graph, which is computed in float32" in output


@with_market1501
def test_what_limits_a_training_is_told_without_a_run(trained, call, monkeypatch):
    for name in ("measure_input", "measure_model"):
        monkeypatch.setattr(speed, name, functools.partial(getattr(speed, name), secs=0.2))
    output = call(
        *TRAIN_ARGS, "--benchmark_input", "--benchmark_model", "--log_dir=unused",
        "--num_enqueue_threads=2", "--queue_capacity=32", "--no-monitor_losses",
    )  # fmt: skip
    speeds = {
        name: float(re.search(rf"^{name} alone: ([\d.]+) images/s$", output, re.MULTILINE)[1])
        for name in ("input", "model")
    }
    assert f"the {min(speeds, key=speeds.get)} limits this training" in output
    assert not (trained.cwd / "unused").exists()


@with_market1501
def test_identities_that_were_trained_on_are_not_scored(trained, call):
    before = trained.records()
    output = call("--mode=eval", "--num_validation=7", code=2)
    assert "was trained with num_validation 0.1, not 7" in output
    assert trained.records() == before


def test_checkpoint_frozen_graph_and_exported_features_have_the_same_score(
    trained, frozen_by_default, exported, call
):
    argv = ["--mode=test", "--batch_size=50"]
    by_checkpoint = trained.run(
        *argv, "--metrics_file=checkpoint.json", "--rerank", "--report_dir=report"
    )
    call(*argv, "--metrics_file=frozen.json", f"--frozen_graph={frozen_by_default[1]}")
    files = {"features": "feat_test.mat"}
    if trained.dataset_class is Market1501:
        files["query_features"] = "feat_query.mat"
    argv += [f"--{name}=sdk/{file}" for name, file in files.items()]
    by_features = call(*argv, "--metrics_file=features.json")
    test_set = trained.dataset_class(trained.data_dir).test_set()
    metrics = [
        json.loads((trained.cwd / f"{source}.json").read_text())
        for source in ("checkpoint", "frozen", "features")
    ]
    for scores in metrics:
        assert_scores_of_features(scores, test_set, *map(exported.get, files.values()))
    assert "rank1" in metrics[0]["reranked"]
    assert metrics[0]["checkpoint"].endswith(f"model.ckpt-{NUM_STEPS}")
    assert f"{100 * metrics[0]['mAP_standard']:.2f}" in by_checkpoint
    assert "re-ranked" in by_checkpoint
    report = (trained.cwd / "report" / "report.html").read_text()
    assert f"{100 * metrics[0]['mAP_standard']:.2f}" in report
    assert "image missing" not in report
    assert "mAP (Market-1501 MATLAB)" in by_features


def test_a_checkpoint_can_be_named_by_run_prefix_directory_or_file(trained, stopped, freeze):
    *_, run_dir = stopped
    first = run_dir / "model.ckpt-0"
    by_run = freeze("run.pb", "--log_dir=stopped", f"--run_id={run_dir.name}")
    by_directory = freeze("dir.pb", f"--restore_path={run_dir}")
    by_prefix = freeze("prefix.pb", f"--restore_path={first}")
    by_file = freeze("file.pb", f"--restore_path={first}.index")
    images = trained.dataset_class(trained.data_dir).train.filenames[:4]
    np.testing.assert_array_equal(by_run(images), by_directory(images))
    np.testing.assert_array_equal(by_prefix(images), by_file(images))
    assert not np.allclose(by_run(images), by_prefix(images), atol=1e-3)


def test_ctrl_c_ends_training_with_130_and_without_a_trace(stopped):
    code, log, run_dir = stopped
    assert code == 130, log
    assert "Interrupted by SIGINT" in log
    assert " goes on from there" in log
    assert checkpoints.step_of(tf.train.latest_checkpoint(run_dir)) >= 10
    assert "Traceback" not in log


def test_the_same_run_id_goes_on_from_its_last_checkpoint(stopped, call):
    *_, run_dir = stopped
    step = checkpoints.step_of(tf.train.latest_checkpoint(run_dir))
    argv = [f"--run_id={run_dir.name}", "--log_dir=stopped", f"--number_of_steps={step + 2}"]
    assert f"Training from step {step}" in call(*TRAIN_ARGS, *argv)
    assert (run_dir / f"model.ckpt-{step + 2}.index").exists()


def test_mars_is_trained_evaluated_exported_and_tested(drawn_mars, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*argv):
        assert cli.main(Mars, [*argv, f"--dataset_dir={drawn_mars}"]) == 0

    call(*TRAIN_ARGS, *TINY, "--number_of_steps=2", "--run_id=run")
    call("--mode=eval", "--max_num_evaluations=1")
    (line,) = (tmp_path / "output/mars/eval/run/metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == 2
    call("--mode=freeze")
    call("--mode=export", "--sdk_dir=sdk")
    dataset = Mars(drawn_mars)
    exported = {name: io.loadmat(f"sdk/{name}")["features"] for name in dataset.export_files()}
    for name, images in dataset.export_files().items():
        assert exported[name].shape == (len(images), tiny.FEATURE_SIZE)
    graph = "output/mars/train/run/export/mars.pb"
    for flag in ("--run_id=run", f"--frozen_graph={graph}", "--features=sdk/feat_test.mat"):
        call("--mode=test", flag, "--metrics_file=scores.json")
        scores = json.loads((tmp_path / "scores.json").read_text())
        assert_scores_of_features(scores, dataset.test_set(), exported["feat_test.mat"])


def test_a_damaged_image_ends_the_process_with_code_1_and_its_name(tmp_path):
    folder = tmp_path / "data" / "bounding_box_train"
    folder.mkdir(parents=True)
    image = np.zeros((128, 64, 3), np.uint8)
    for person in range(1, 6):
        for detection in range(1, 5):
            cv2.imwrite(str(folder / f"{person:04d}_c1s1_000001_{detection:02d}.jpg"), image)
    (folder / "0002_c1s1_000001_03.jpg").write_bytes(b"")
    output = run_quickly(
        "train_market1501.py", *TRAIN_ARGS, *TINY, "--dataset_dir=data", "--number_of_steps=50",
        cwd=tmp_path, code=1,
    )  # fmt: skip
    assert "0002_c1s1_000001_03.jpg cannot be read" in output.splitlines()[-1]
    assert "Traceback" not in output
    assert not list(tmp_path.rglob("*.ckpt*"))


@pytest.mark.parametrize("script", SCRIPTS)
class TestUsage:
    def test_help_comes_without_waiting_for_tensorflow(self, script):
        code = (
            "import runpy, sys; sys.modules['tensorflow'] = None; sys.argv = ['x', '--help']; "
            f"runpy.run_path({str(ROOT / script)!r}, run_name='__main__')"
        )
        process = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert "{train,eval,test,search,track,export,finalize,freeze}" in process.stdout
        assert "default: None" not in process.stdout

    def test_a_wrong_mode(self, script, tmp_path):
        output = run(script, "--mode=fly", cwd=tmp_path, code=2)
        assert "--mode: fly is unknown: use one of train" in output

    def test_no_data_set(self, script, tmp_path):
        output = run(script, "--mode=train", cwd=tmp_path, code=1)
        assert len(output.splitlines()) == 1
        assert "python -m datasets.synthetic" in output
        assert not (tmp_path / "output").exists()

    def test_with_debug_an_error_has_its_trace(self, script, tmp_path):
        assert "Traceback" in run(script, "--mode=train", "--debug", cwd=tmp_path, code=1)


def test_the_scripts_differ_in_their_data_set_only():
    scripts = [(ROOT / name).read_text() for name in SCRIPTS]
    for text in scripts:
        assert len(text.splitlines()) <= 30
    neutral = [
        text.replace("market1501", "X").replace("Market1501", "X").replace("Market-1501", "X")
        .replace("mars", "X").replace("Mars", "X").replace("MARS", "X")
        for text in scripts
    ]  # fmt: skip
    words = [sorted(text.split()) for text in neutral]
    assert words[0] == words[1]
