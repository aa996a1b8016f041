"""The groups of measurements on a machine with one NVIDIA GPU: ``make bench-gpu``.

Each contender has the GPU to itself: several of them would not find enough memory.
"""

import dataclasses
import itertools

from benchmarks.groups import PYTORCH_WAYS, measure_input
from benchmarks.machine import num_cores
from benchmarks.table import Table
from benchmarks.workers import Contender, NotMeasured, Timings, closing_all, measure_in_turn

# Names of our ways to train, and what `benchmarks.in_tensorflow.Training` is told.
_OUR_WAYS = {
    f"ours {precision}{', XLA' if xla else ''}": {"precision": precision, "xla": xla}
    for precision, xla in itertools.product(("float32", "float16"), (False, True))
}
_THEIR_PRECISIONS = ("float32", "float16")
_WITHOUT_STAGING = ", without the staging area"


def measure_training(files):
    """Measure training from image files: time, peak memory, and the share of the feed."""
    rows = []
    for batch_size in files.sizes.gpu_batch_sizes:
        rows += _measure_batch_size(files, batch_size)
    return rows


def measure_encoding(files):
    """Measure encoding of crops."""
    rows, theirs = [], [f"PyTorch {way}" for way in files.sizes.pytorch_gpu_ways]
    for count in files.sizes.gpu_crop_counts:
        table = Table(f"encoding on the GPU, {count} crops")
        timings = Timings({}, {})
        with closing_all() as start:
            worker = start(
                "benchmarks.in_tensorflow:FrozenGraph",
                graph_path=files.model / "frozen.pb",
                crops_path=files.gpu_crops,
            )
            _measure_alone(timings, [Contender("our frozen graph", worker, args=(count,))], files)
        for way, name in zip(files.sizes.pytorch_gpu_ways, theirs, strict=True):
            with closing_all() as start:
                worker = start(
                    "benchmarks.in_pytorch:Encoding",
                    weights_path=files.model / "weights.npz",
                    crops_path=files.gpu_crops,
                    on_gpu=True,
                    **PYTORCH_WAYS[way],
                )
                _measure_alone(timings, [Contender(name, worker, args=(count,))], files)
        table.add_timings(timings, ["our frozen graph", *theirs], count)
        with table.adding_failure("PyTorch's best"):
            table.add_speed_ratio(timings, "our frozen graph", timings.fastest(theirs))
        rows += table.rows
    return rows


def measure_feed(files):
    """Measure the feed alone, by the number of its threads up to that of the cores."""
    threads = tuple(sorted({1, min(4, num_cores()), num_cores()}))
    files.sizes = dataclasses.replace(files.sizes, num_threads=threads)
    return measure_input(files)


GPU_GROUPS = {"training": measure_training, "encoding": measure_encoding, "input": measure_feed}


def list_lacks():
    """Say what TensorFlow and PyTorch compute on, and what is missing if it is no GPU."""
    facts = []
    for package, name in (("in_tensorflow", "TensorFlow"), ("in_pytorch", "PyTorch")):
        with closing_all() as start:
            try:
                facts.append(start(f"benchmarks.{package}:Devices").ask("describe"))
            except NotMeasured as reason:
                facts.append(f"{name}: not measured: {reason}")
    if any("no GPU" in fact for fact in facts):
        facts.append("Without a GPU for both, this shows that the benchmark runs, and no speed")
    return facts


def _measure_batch_size(files, batch_size):
    table, timings, memory = Table(f"training on the GPU, batch {batch_size}"), Timings({}, {}), {}
    settings = {**files.training, "batch_size": batch_size}
    num_threads = {"num_enqueue_threads": num_cores()}
    for name, way in _OUR_WAYS.items():
        create = "benchmarks.in_tensorflow:Training"
        with closing_all() as start:
            worker = start(create, **settings, **way, **num_threads)
            _measure_alone(timings, [Contender(name, worker)], files)
            _read_memory(memory, name, worker)
        with closing_all() as start:
            constant = "benchmarks.in_tensorflow:ConstantTraining"
            worker = start(constant, batch_size=batch_size, **way)
            _measure_alone(timings, [Contender(f"{name}, constant batch", worker)], files)
        if not way["xla"]:
            with closing_all() as start:
                worker = start(create, **settings, **way, **num_threads, has_staging=False)
                _measure_alone(timings, [Contender(name + _WITHOUT_STAGING, worker)], files)
    theirs = {}
    for precision, way in itertools.product(_THEIR_PRECISIONS, files.sizes.pytorch_gpu_ways):
        name = f"PyTorch {way} {precision}"
        theirs.setdefault(precision, []).append(name)
        with closing_all() as start:
            worker = start(
                "benchmarks.in_pytorch:Training",
                **settings,
                precision=precision,
                on_gpu=True,
                **PYTORCH_WAYS[way],
            )
            with table.adding_failure(f"{name}: threads and processes"):
                worker.ask("tune")
            _measure_alone(timings, [Contender(name, worker)], files)
            _read_memory(memory, name, worker)
    table.add_timings(timings, [*timings.secs, *timings.failures], batch_size)
    _add_ratios(table, timings, theirs)
    for name, text in memory.items():
        table.add(f"peak GPU memory, {name}", text)
    return table.rows


def _measure_alone(timings, contenders, files):
    """Measure contenders while no others have a process, and add them to `timings`."""
    sizes = files.sizes
    measured = measure_in_turn(
        contenders,
        rounds=sizes.rounds,
        secs_per_turn=sizes.secs_per_turn,
        min_count=sizes.training_steps,
    )
    timings.secs.update(measured.secs)
    timings.failures.update(measured.failures)


def _read_memory(memory, name, worker):
    try:
        memory[name] = f"{worker.ask('peak_gpu_memory'):.0f} MiB"
    except NotMeasured as reason:
        memory[name] = f"not measured: {reason}"


def _add_ratios(table, timings, theirs):
    for precision, names in theirs.items():
        ours = [name for name in _OUR_WAYS if precision in name]
        with table.adding_failure(f"our best {precision} / PyTorch's best {precision}"):
            table.add_speed_ratio(timings, timings.fastest(ours), timings.fastest(names))
    for name, way in _OUR_WAYS.items():
        table.add_speed_ratio(timings, name, f"{name}, constant batch")
        if not way["xla"]:
            table.add_speed_ratio(timings, name, name + _WITHOUT_STAGING)
