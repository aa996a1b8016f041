"""The benchmarks: that they compare the same work, and that they run. Times are not tested."""

import contextlib
import importlib.util
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks import attempts, files, flops, machine, model, op_kinds, table, workers
from benchmarks.workers import Contender, NotMeasured, Timings

ROOT = pathlib.Path(__file__).parents[2]
HERE = "test_benchmarks"
BATCH_SIZE = 8
NUM_CLASSES = 11

# Not by importing it: PyTorch's threads and TensorFlow's are kept out of each other's processes.
needs_pytorch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="PyTorch is in the extra bench"
)


class PyTorchNetwork:
    """The network in PyTorch with our weights; arrays in, arrays out."""

    def __init__(self, weights):
        import torch

        from benchmarks.pytorch_network import DeepSortNetwork

        torch.set_num_threads(1)
        self._torch = torch
        network = DeepSortNetwork(NUM_CLASSES).to(memory_format=torch.channels_last)
        network.load_weights(weights)
        self._network = network

    def infer(self, images):
        """From RGB images (N, H, W, 3) in [0, 1] to features and logits."""
        with self._torch.no_grad():
            features = self._network.eval()(self._to_input(images))
            return features.numpy(), self._network.classify(features).numpy()

    def train(self, images, labels):
        """Loss, some gradients and statistics of a step with batch norm, but without dropout."""
        self._network.train()
        for layer in self._network.modules():
            if isinstance(layer, self._torch.nn.Dropout):
                layer.eval()
        features = self._network(self._to_input(images))
        loss = self._network.compute_loss(features, self._torch.from_numpy(labels))
        loss.backward()
        stem, fc1 = self._network.stem, self._network.fc1
        return {
            "loss": loss.item(),
            "conv1_1/weights": stem[0].weight.grad.permute(2, 3, 1, 0).numpy(),
            "fc1/weights": fc1.weight.grad.T.numpy(),
            "ball/mean_vectors": self._network.mean_vectors.grad.numpy(),
            "ball/scale": self._network.scale.grad.numpy(),
            "moving_variance": stem[1].running_var.numpy(),
        }

    def trained_sizes(self):
        """Sizes of all that is trained, sorted."""
        weights = self._network.parameters()
        return sorted(each.numel() for each in weights if each.requires_grad)

    def _to_input(self, images):
        images = self._torch.from_numpy(images).permute(0, 3, 1, 2)
        return images.contiguous(memory_format=self._torch.channels_last)


@pytest.fixture
def start(monkeypatch):
    # Workers import what these tests define, and tests/sleeper.py.
    here = pathlib.Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", f"{here}:{here.parent}")
    with workers.closing_all() as start:
        yield start


@pytest.fixture
def images():
    shape = (BATCH_SIZE, *model.IMAGE_SHAPE)
    return np.random.default_rng(1).uniform(size=shape).astype(np.float32)


def skip_without_onednn():
    """Skip a test where TensorFlow runs without oneDNN, which also brings bfloat16."""
    # Imported here: PyTorch's workers import this module, and must stay free of TensorFlow.
    from deep_reid.config import ComputeSettings
    from deep_reid.runtime.sessions import computes_in

    if not computes_in(ComputeSettings(precision="bfloat16")):
        pytest.skip(
            "TensorFlow runs without oneDNN on a CPU without AVX-512: it has no bfloat16, and its "
            "gradients differ from PyTorch's by up to 0.3 %"
        )


def create_network(images, is_training):
    """Our network, without dropout; its features, logits, and the values of its variables."""
    from deep_reid.compat import slim
    from deep_reid.nets import deep_sort

    with (
        slim.arg_scope([slim.batch_norm], is_training=is_training),
        slim.arg_scope([slim.dropout], is_training=False),
    ):
        features, logits = deep_sort.create_network(
            images, NUM_CLASSES, create_summaries=False, weight_decay=1e-8
        )
    return features, logits, model.draw_weights(slim.get_model_variables())


def load(session, weights):
    from deep_reid.compat import slim

    for variable in slim.get_model_variables():
        variable.load(weights[variable.op.name], session)


@needs_pytorch
def test_pytorch_network_gives_our_features_and_logits(graph, images, start):
    from deep_reid.compat import tf

    features, logits, weights = create_network(tf.constant(images), is_training=False)
    with tf.Session() as session:
        load(session, weights)
        ours = session.run([features, logits])
    theirs = start(f"{HERE}:PyTorchNetwork", weights=weights).ask("infer", images)
    for our_values, their_values in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(their_values, our_values, atol=1e-4)
    # The images differ by more than the two do.
    assert np.linalg.norm(ours[0][0] - ours[0][1]) > 0.01


@needs_pytorch
def test_pytorch_network_trains_as_ours(graph, images, start):
    from deep_reid.compat import tf

    skip_without_onednn()
    labels = np.arange(BATCH_SIZE)
    features, logits, weights = create_network(tf.constant(images), is_training=True)
    del features
    tf.losses.sparse_softmax_cross_entropy(labels, logits)
    loss = tf.losses.get_total_loss()
    names = ("conv1_1/weights", "fc1/weights", "ball/mean_vectors", "ball/scale")
    variables = [tf.global_variables(name)[0] for name in names]
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    variance = tf.global_variables("conv1_1/conv1_1/bn/moving_variance")[0]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        load(session, weights)
        ours = dict(zip(names, session.run(tf.gradients(loss, variables)), strict=True))
        ours["loss"] = session.run(loss)
        session.run(updates)
        ours["moving_variance"] = session.run(variance)
    theirs = start(f"{HERE}:PyTorchNetwork", weights=weights).ask("train", images, labels)
    assert theirs.keys() == ours.keys()
    for name, values in ours.items():
        scale = np.abs(values).max()
        np.testing.assert_allclose(theirs[name], values, atol=1e-3 * scale, err_msg=name)


@needs_pytorch
def test_pytorch_network_trains_as_many_weights_as_ours(graph, images, start):
    from deep_reid.compat import tf

    weights = create_network(tf.constant(images), is_training=True)[-1]
    ours = sorted(variable.get_shape().num_elements() for variable in tf.trainable_variables())
    theirs = start(f"{HERE}:PyTorchNetwork", weights=weights).ask("trained_sizes")
    assert theirs == ours


@pytest.mark.parametrize(
    ("pythons", "found"),
    [
        (["own"], {"not found (0)": "own"}),
        (["own", "other"], {"2.0+cpu": "other"}),
        (["own", "broken"], {"not found (1)": "broken"}),
    ],
)
def test_this_interpreter_needs_no_pytorch_if_others_are_named(
    tmp_path, monkeypatch, pythons, found
):
    class Worker:
        def __init__(self, name, python):
            if python != "other":
                raise NotMeasured("No module named 'torch'")

        def ask(self, question):
            return "2.0+cpu"

    monkeypatch.setattr(files, "closing_all", lambda: contextlib.nullcontext(Worker))
    assert files.Files(None, tmp_path, pythons).pytorch_builds == found


def test_flops_are_those_of_products(graph):
    from deep_reid.compat import tf

    images = tf.placeholder(tf.float32, (2, 8, 4, 3))
    kernel = tf.Variable(tf.zeros((3, 3, 3, 5)))
    convolved = tf.nn.conv2d(images, kernel, strides=2, padding="SAME")
    num_products = 2 * (4 * 2 * 5) * (3 * 3 * 3)
    assert flops.count([convolved.op]) == 2 * num_products
    # The gradient of the images is not wanted, and not computed.
    (gradient,) = tf.gradients(convolved, [kernel])
    assert flops.count([gradient.op]) == 2 * num_products
    with tf.control_dependencies([tf.gradients(convolved, [images])[0]]):
        waiting = tf.identity(gradient)
    assert flops.count([waiting.op]) == 2 * num_products
    both = tf.gradients(tf.square(convolved), [kernel, images])
    assert flops.count([tensor.op for tensor in both]) == 3 * 2 * num_products
    for transpose in (False, True):
        matrix = tf.zeros((7, 4) if transpose else (4, 7))
        product = tf.matmul(matrix, tf.zeros((7, 3)), transpose_a=transpose)
        assert flops.count([product.op]) == 2 * 4 * 7 * 3


def test_each_worker_is_a_process_that_ends(start):
    pids = {start("sleeper:Sleeper").ask("pid") for _ in range(2)}
    assert len(pids | {os.getpid()}) == 3
    with workers.closing_all() as start_another:
        pid = start_another("sleeper:Sleeper").ask("pid")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_peak_memory_is_that_of_the_worker(start):
    peak = start("sleeper:Sleeper").ask("peak_memory")
    assert 1 < peak < 1000


@pytest.mark.parametrize(
    ("create", "settings", "reason"),
    [
        ("no_such_package:Thing", {}, "ModuleNotFoundError: No module named 'no_such_package'"),
        ("sleeper:Sleeper", {"reason": "out of order"}, "RuntimeError: out of order"),
        ("sleeper:Sleeper", {"secs": -1.0}, "ValueError: less than nothing$"),
    ],
)
def test_worker_that_fails_says_why_as_often_as_it_is_asked(start, create, settings, reason):
    worker = start(create, **settings)
    for _ in range(2):
        with pytest.raises(NotMeasured, match=reason):
            worker.ask("measure", 1)


def test_worker_that_dies_says_so(start):
    worker = start("sleeper:Sleeper")
    with pytest.raises(NotMeasured, match="ended with code 3"):
        worker.ask("die")
    with pytest.raises(NotMeasured, match="ended with code 3"):
        worker.ask("measure", 1)


def test_worker_makes_its_object_with_the_first_call(start, tmp_path):
    made = tmp_path / "made"
    worker = start("sleeper:Sleeper", mark=made)
    time.sleep(1)
    assert not made.exists()
    worker.ask("measure", 1)
    assert made.exists()


def test_program_that_fails_gives_its_last_line():
    with pytest.raises(NotMeasured, match="^no wheel$"):
        workers.run_program(sys.executable, "-c", "import sys; sys.exit('what\\nno wheel')")
    workers.run_program(sys.executable, "-c", "pass")


def test_one_failure_call_leaves_the_worker_usable(start):
    worker = start("sleeper:Sleeper")
    with pytest.raises(NotMeasured, match="AttributeError"):
        worker.ask("no_such_method")
    assert worker.ask("measure", 1) == 0


class Recorder:
    """In the place of a worker: answers by itself."""

    def __init__(self, name, calls, answers=None):
        self._name, self._calls, self._answers = name, calls, answers

    def ask(self, method, *args):
        self._calls.append((self._name, method, args))
        if self._answers is None:
            return 0.25
        answer = next(self._answers, None)
        if answer is None:
            raise NotMeasured("tired")
        return answer


def test_turns_alternate_and_go_back_and_forth():
    calls = []
    contenders = [Contender(name, Recorder(name, calls), args=(7,)) for name in "ab"]
    timings = workers.measure_in_turn(contenders, rounds=3, secs_per_turn=1.0)
    # Two turns that do not count; the second tells that four calls make a second.
    assert [call[2] for call in calls[:4]] == [(7, 1)] * 4
    assert calls[4:] == [(name, "measure", (7, 4)) for name in "abbaab"]
    assert timings.secs == {"a": [0.25] * 3, "b": [0.25] * 3}


def test_turns_have_at_least_so_many_calls():
    calls = []
    contenders = [Contender("a", Recorder("a", calls))]
    workers.measure_in_turn(contenders, rounds=1, secs_per_turn=0.5, min_count=5)
    assert calls[-1] == ("a", "measure", (5,))


def test_contender_that_fails_leaves_the_others():
    tired = Contender("tired", Recorder("tired", [], iter([1.0, 1.0, 1.0])))
    fit = Contender("fit", Recorder("fit", []))
    timings = workers.measure_in_turn([tired, fit], rounds=2, secs_per_turn=0.0)
    assert timings.secs == {"fit": [0.25, 0.25]}
    assert timings.failures == {"tired": "tired"}
    assert timings.fastest(["tired", "fit"]) == "fit"
    for method in (timings.median, lambda name: timings.ratios("fit", name)):
        with pytest.raises(NotMeasured, match="tired"):
            method("tired")
    with pytest.raises(NotMeasured, match="tired"):
        timings.fastest(["tired"])


def test_table_has_medians_of_ratios_by_round():
    timings = Timings({"ours": [1.0, 2.0, 4.0], "theirs": [2.0, 3.0, 4.0]}, {"other": "no wheel"})
    rows = table.Table("speed")
    rows.add_timings(timings, ["ours", "other"], num_images=10)
    rows.add_speed_ratio(timings, "ours", "theirs")
    rows.add_speed_ratio(timings, "ours", "other")
    text = table.format_rows(rows.rows)
    assert text.splitlines() == [
        "| measurement | median | min .. max |",
        "| --- | --- | --- |",
        "| speed: ours | 2 s, 5.0 images/s | 1 s .. 4 s |",
        "| speed: other | not measured: no wheel |  |",
        "| speed: speed of ours / theirs | **1.500 x** | 1.000 .. 2.000 |",
        "| speed: speed of ours / other | not measured: no wheel |  |",
    ]


@pytest.mark.parametrize(
    ("builds", "is_warned"),
    [
        (["2.13.0+cpu"], False),
        (["2.14.1+cu130"], True),
        (["2.14.1+cu130", "2.13.0+cpu"], False),
        (["2.14.1+cu130", "2.12.0+cu128"], True),
    ],
)
def test_builds_of_pytorch_are_named_and_missing_ones_for_cpus_too(builds, is_warned):
    first, *others = machine.describe_builds(dict.fromkeys(builds))
    assert first.endswith(": " + ", ".join(builds))
    assert ("No build of PyTorch is for CPUs" in "".join(others)) == is_warned


def test_a_worker_may_have_another_interpreter(start, tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nOWN_PACKAGES=yes exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    assert start("sleeper:Sleeper", python=str(python)).ask("read", "OWN_PACKAGES") == "yes"
    assert start("sleeper:Sleeper").ask("read", "OWN_PACKAGES") is None


def test_machine_is_described():
    facts = "\n".join(machine.describe())
    assert f"{machine.num_cores()} cores" in facts
    assert "tensorflow 2." in facts


@pytest.mark.long
@needs_pytorch
@pytest.mark.parametrize("group", ["training", "encoding", "input", "peak", "memory", "accuracy"])
def test_quick_run_measures_all(group, tmp_path):
    if group not in ("encoding", "input"):  # the others measure bfloat16, too
        skip_without_onednn()
    output = tmp_path / "table.md"
    command = [sys.executable, "benchmarks/run.py", "--quick", "--group", group, "--output", output]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout == output.read_text()
    assert f"| {group if group != 'memory' else 'peak memory'}" in run.stdout
    assert "not measured" not in run.stdout


@pytest.mark.long
def test_benchmark_of_a_gpu_runs_and_says_what_is_missing(tmp_path):
    output = tmp_path / "table.md"
    command = [sys.executable, "benchmarks/run.py", "--gpu", "--quick", "--output", output]
    # Hides a GPU: the figures would be of no use, and the rest is tested everywhere.
    run = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    )
    assert run.returncode == 0, run.stderr
    lines = output.read_text().splitlines()
    assert "- TensorFlow: no GPU: install the extra gpu, and the driver of an NVIDIA GPU" in lines
    assert any(line.startswith("- PyTorch: ") for line in lines)
    assert any("shows that the benchmark runs, and no speed" in line for line in lines)
    measured = [line for line in lines if line.startswith("| ") and "not measured" not in line]
    for name in (
        "ours float32",
        "ours float32, XLA",
        "ours float32, without the staging area",
        "ours float32, constant batch",
        "speed of ours float32 / ours float32, constant batch",
    ):
        assert any(f"training on the GPU, batch 8: {name} |" in line for line in measured), name
    assert any("encoding on the GPU, 2 crops: our frozen graph |" in line for line in measured)
    assert any(line.startswith("| input") for line in measured)


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--gpu", "--group=peak"], "--gpu measures the groups training, encoding, input"),
        (["--batch_sizes", "8"], "--batch_sizes goes with --gpu"),
        (["--gpu", "--pytorch", sys.executable], "--pytorch goes without --gpu"),
        (["--pytorch", "no/python"], "--pytorch: no/python is no program"),
    ],
)
def test_benchmark_refuses_what_does_not_fit(flags, problem):
    command = [sys.executable, "benchmarks/run.py", *flags]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert problem in run.stderr


def test_a_constant_batch_is_trained_on_without_a_feed(start):
    worker = start("benchmarks.in_tensorflow:ConstantTraining", batch_size=8, precision="float32")
    assert worker.ask("measure", 1) > 0
    assert not worker.ask("num_queues")


def test_ops_of_a_traced_step_have_the_operations_of_its_graph(start):
    worker = start("benchmarks.in_tensorflow:ConstantTraining", batch_size=8, precision="float32")
    worker.ask("measure", 1)
    kinds = op_kinds.summarize([worker.ask("trace")])
    assert sum(kind.num_flops for kind in kinds.values()) == worker.ask("count_flops")
    # Convolutions and projections, each with a gradient by its filter; no image has one.
    assert kinds["convolutions, by filter"].num_ops == kinds["convolutions, forward"].num_ops
    assert kinds["convolutions, by input"].num_ops == kinds["convolutions, forward"].num_ops - 1
    names = ("batch norm", "batch norm, gradient", "ELU", "ELU, gradient", "dropout", "Adam")
    assert all(kinds[name].num_bytes > 0 for name in names)


def test_table_of_ops_says_what_limits_each_kind():
    ops = [
        op_kinds.Op("conv1/Conv2D", "_MklNativeFusedConv2D", 0.5, 10**8, 4 * 10**9),
        op_kinds.Op("dropout/mul", "Mul", 0.3, 3 * 10**9, 0),
        op_kinds.Op("sleep", "NoOp", 0.2, 0, 0),
    ]
    kinds = op_kinds.summarize([ops])
    assert list(kinds) == ["convolutions, forward", "dropout", "all others"]
    rows = op_kinds.format_table(kinds, bytes_per_sec=1e10, flops_per_sec=1e10).splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[-1] for row in cells] == ["arithmetic", "memory", "neither", "neither"]
    assert cells[0][2:] == ["500.0", "50.0%", "0.10", "2%", "4.0", "80%", "arithmetic"]
    assert cells[-1][1:3] == ["3", "1000.0"]


@pytest.mark.parametrize(
    ("name", "op_type", "kind"),
    [
        ("gradients/x", "_MklNativeConv2DBackpropFilter", "convolutions, by filter"),
        ("a/dropout/Mul", "Mul", "dropout"),
        ("x", "_MklFusedBatchNormV3", "batch norm"),
        ("x", "EluGrad", "ELU, gradient"),
        ("x", "Elu", "ELU"),
        ("Adam/update_w/ResourceApplyAdam", "ResourceApplyAdam", "Adam"),
        ("x", "Reshape", "all others"),
    ],
)
def test_kind_of_an_op(name, op_type, kind):
    assert op_kinds.find_kind(name, op_type) == kind


def test_environment_of_a_worker(start):
    worker = start(f"{HERE}:Environment", environment={"DEEP_REID_TRIED": "7"})
    assert worker.ask("read", "DEEP_REID_TRIED") == "7"
    assert worker.ask("read", "PATH") == os.environ["PATH"]


class Environment:
    """Reads environment variables."""

    def read(self, name):
        return os.environ.get(name)


@pytest.mark.parametrize("drop", [attempts.drop_by_mask, attempts.drop_by_bytes])
def test_other_ways_to_drop_keep_the_expected_sum(drop):
    from deep_reid.compat import tf

    inputs = np.random.default_rng(1).uniform(1, 2, (70, 30, 11)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        dropped = drop(tf.constant(inputs), keep_prob=0.75)
        first, second = session.run(dropped), session.run(dropped)
    assert (first != second).any()
    is_kept = first != 0
    assert is_kept.mean() == pytest.approx(0.75, abs=0.02)
    np.testing.assert_allclose(first[is_kept], inputs[is_kept] / 0.75, rtol=1e-6)


@pytest.mark.long
def test_changes_of_a_step_are_measured():
    names = ["no change, again", "huge pages", "channels first", "bound: no dropout"]
    process = subprocess.run(
        [sys.executable, "benchmarks/attempts.py", "--batch_size=8", "--rounds=1",
         "--secs_per_turn=0.1", "--only", *names],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    rows = [line for line in process.stdout.splitlines() if "step of 8 images" in line]
    assert "no change |" in rows[0]
    for name, row in zip(names, rows[1:], strict=True):
        assert f"speed with {name} | **" in row


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "argv", "rows"),
    [
        ("ranking.py", ["--sizes", "2000", "--queries", "40", "--rounds", "1"], ["2,000"]),
        (
            "search.py",
            ["--items", "3000", "--queries", "20", "--shard_items", "1100", "--clusters", "300"],
            ["exact", "build", "by index"],
        ),
    ],
)
def test_rankings_are_measured(script, argv, rows):
    pytest.importorskip("faiss", reason="needs the extra 'index'")
    process = subprocess.run(
        [sys.executable, f"benchmarks/{script}", *argv],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    first_words = [line.strip() for line in process.stdout.splitlines()[1:]]
    for row, line in zip(rows, first_words, strict=False):
        assert line.startswith(row)
        assert "not measured" not in line
