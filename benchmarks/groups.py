"""The groups of measurements: which contenders are compared, and the rows of the table.

Each group takes `benchmarks.files.Files`, which also has the sizes, and returns rows of the table.
"""

import json
import pathlib
import statistics
import sys

import numpy as np

from benchmarks import machine
from benchmarks.files import MODELS
from benchmarks.table import Table, format_secs
from benchmarks.workers import Contender, Timings, closing_all, measure_in_turn, run_program
from datasets import synthetic

PRECISIONS = machine.list_precisions()
SCRIPT = pathlib.Path(__file__).parents[1] / "train_market1501.py"
# The ways to run PyTorch, and the arguments of its classes in `benchmarks.in_pytorch`.
PYTORCH_WAYS = {
    "eager": {},
    "eager, channels first": {"channels_last": False},
    "compiled": {"compile_mode": "default"},
    "CUDA graphs": {"compile_mode": "reduce-overhead"},
}
# The runtimes that networks are exported for, by the format.
RUNTIMES = {"tflite": "LiteRT", "openvino": "OpenVINO", "onnx": "ONNX Runtime"}
# From the table's names to those in the file of scores.
SCORES = {"rank-1": "rank1", "mAP (standard)": "mAP_standard"}


def measure_training(files):
    """Measure training from image files."""
    sizes = files.sizes
    table = Table(f"training, batch {sizes.batch_size}")
    fastest = _find_fastest_pytorch(files, table)
    with closing_all() as start:
        ours = _start_our_trainings(start, files)
        theirs = {name: start(**settings) for name, settings in fastest.values()}
        for name, worker in theirs.items():
            with table.adding_failure(name):
                worker.ask("tune")
        constant = {
            f"ours {precision}, constant batch": start(
                "benchmarks.in_tensorflow:ConstantTraining",
                batch_size=sizes.batch_size,
                precision=precision,
            )
            for precision in PRECISIONS
        }
        workers = ours | theirs | constant
        contenders = [Contender(name, worker) for name, worker in workers.items()]
        timings = _measure(contenders, sizes, min_count=sizes.training_steps)
    table.add_timings(timings, [contender.name for contender in contenders], sizes.batch_size)
    for precision, (name, _) in fastest.items():
        table.add_speed_ratio(timings, f"ours {precision}", name)
    for narrow in PRECISIONS[1:]:
        table.add_speed_ratio(timings, f"ours {narrow}", "ours float32")
    for name in ours:
        table.add_speed_ratio(timings, name, f"{name}, constant batch")
    return table.rows


def measure_encoding(files):
    """Measure encoding of crops, and of boxes on a frame."""
    table, counts = Table("encoding"), files.sizes.crop_counts
    with closing_all() as start:
        workers = _start_encoders(start, files)
        first, *others = workers
        for name in others:
            measurement = f"largest difference of features, {name} and {first}"
            with table.adding_failure(measurement):
                pair = [workers[each].ask("features", max(counts)) for each in (first, name)]
                difference = np.abs(pair[0] - pair[1]).max()
                table.add(measurement, f"{difference:.1e}", f"{max(counts)} crops")
        ratios = {name: [] for name in others}
        for count in counts:
            table.rows += _measure_crops(workers, count, files.sizes, ratios)
        for name in others:
            if len(ratios[name]) == len(counts):
                measurement = f"speed of {first} / {name}, geometric mean"
                mean = statistics.geometric_mean(ratios[name])
                spread = f"{min(ratios[name]):.3f} .. {max(ratios[name]):.3f}"
                table.add(measurement, f"**{mean:.3f} x**", f"{spread} by the number of crops")
        table.rows += _measure_frame(start, files, workers[first])
    return table.rows


def measure_input(files):
    """Measure the feed alone, which turns files of 256 x 128 into images of 128 x 64."""
    sizes, ways = files.sizes, ("ours", "naive")
    table = Table(f"input, batch {sizes.batch_size}, 256 x 128 files")
    settings = {"dataset_dir": files.mars, "batch_size": sizes.batch_size}
    names = {
        (way, count): f"{way}, {count} thread{'s' if count > 1 else ''}"
        for way in ways
        for count in sizes.num_threads
    }
    least, *more = sizes.num_threads
    with closing_all() as start:
        workers = {
            (way, count): start(
                "benchmarks.in_tensorflow:Input", way=way, num_threads=count, **settings
            )
            for way, count in names
        }
        measurement = "largest difference of pixels in [0, 1], ours and naive"
        with table.adding_failure(measurement):
            ours, naive = (workers[way, least].ask("pixels") for way in ways)
            table.add(measurement, f"{np.abs(ours - naive).max():.1e}", f"{len(ours)} images")
        contenders = [Contender(names[feed], worker) for feed, worker in workers.items()]
        timings = _measure(contenders, sizes, min_count=sizes.input_batches)
    table.add_timings(timings, list(names.values()), sizes.batch_size)
    for count in sizes.num_threads:
        table.add_speed_ratio(timings, names["ours", count], names["naive", count])
    for way in ways:
        for count in more:
            table.add_speed_ratio(timings, names[way, count], names[way, least])
    return table.rows


def measure_peak(files):
    """Measure training and encoding as a share of the speed of a matrix product."""
    table, count = Table("peak"), max(files.sizes.crop_counts)
    create, size = "benchmarks.in_tensorflow:MatrixProduct", files.sizes.matrix_size
    with closing_all() as start:
        workers = {
            f"matrix product {precision}": start(create, size=size, precision=precision)
            for precision in PRECISIONS
        }
        for name, worker in _start_our_trainings(start, files).items():
            workers[f"training {name}"] = worker
        contenders = [Contender(name, worker) for name, worker in workers.items()]
        encoder = _start_graph(start, files, "frozen.pb")
        contenders.append(Contender(f"encoding {count} crops, float32", encoder, args=(count,)))
        timings = _measure(contenders, files.sizes)
        for contender in contenders:
            with table.adding_failure(contender.name):
                _add_share_of_peak(table, timings, contender, 2 * size**3)
    return table.rows


def measure_memory(files):
    """Measure the peak memory of training, and of encoding few and many files."""
    table, sizes = Table("peak memory"), files.sizes
    theirs = {}
    for trainings in _list_pytorch_trainings(files).values():
        theirs |= trainings
    for remark, trainings in (
        ("the whole process", _list_our_trainings(files)),
        ("without the processes that read images", theirs),
    ):
        for name, settings in trainings.items():
            measurement = f"training, batch {sizes.batch_size}, {name}"
            with closing_all() as start, table.adding_failure(measurement):
                worker = start(**settings)
                worker.ask("measure", sizes.training_steps)
                table.add(measurement, f"{worker.ask('peak_memory'):.0f} MiB", remark)
    create, peaks = "benchmarks.in_tensorflow:Encoding", []
    for num_images in sizes.num_encoded:
        measurement = f"encoding {num_images:,} files".replace(",", " ")
        with table.adding_failure(measurement), closing_all() as start:
            checkpoint = str(files.model / "model.ckpt-1")
            worker = start(create, checkpoint_path=checkpoint, **files.training)
            speed = num_images / worker.ask("encode", num_images)
            peaks.append(worker.ask("peak_memory"))
            table.add(measurement, f"{peaks[-1]:.0f} MiB", f"{speed:.0f} images/s, measured once")
    if len(peaks) == len(sizes.num_encoded):
        growth = (peaks[-1] - peaks[0]) * 2**20 / (sizes.num_encoded[-1] - sizes.num_encoded[0])
        table.add("growth with each file to encode", f"{growth:.0f} bytes", "a feature has 512")
    return table.rows


def measure_accuracy(files):
    """Score runs that differ only in precision and seed by the official protocol.

    Each run is scored in the precision of its training. The loss is triplet, which learns fastest.
    """
    data, sizes = files.directory / "accuracy", files.sizes
    synthetic.draw_market1501(data / "images", num_identities=sizes.num_scored_identities)
    table = Table(f"accuracy after {sizes.scored_steps} steps of {sizes.scored_batch_size}")
    seeds = range(1, sizes.num_seeds + 1)
    for precision in PRECISIONS:
        with table.adding_failure(precision):
            scores = [_train_and_score(sizes, data, precision, seed) for seed in seeds]
            for name, key in SCORES.items():
                values = [score[key] for score in scores]
                spread = f"{min(values):.3f} .. {max(values):.3f}, {len(seeds)} seeds"
                table.add(f"{name}, {precision}", f"{statistics.median(values):.3f}", spread)
    return table.rows


GROUPS = {
    "training": measure_training,
    "encoding": measure_encoding,
    "input": measure_input,
    "peak": measure_peak,
    "memory": measure_memory,
    "accuracy": measure_accuracy,
}


def _measure(contenders, sizes, min_count=1):
    return measure_in_turn(
        contenders, rounds=sizes.rounds, secs_per_turn=sizes.secs_per_turn, min_count=min_count
    )


def _list_our_trainings(files):
    create = "benchmarks.in_tensorflow:Training"
    return {
        f"ours {precision}": {"create": create, "precision": precision, **files.training}
        for precision in PRECISIONS
    }


def _start_our_trainings(start, files):
    return {name: start(**settings) for name, settings in _list_our_trainings(files).items()}


def _list_pytorch_trainings(files):
    """List the ways to train with PyTorch, by names, for each precision: arguments of `start`."""
    return {
        precision: {
            f"PyTorch {build} {way} {precision}": {
                "create": "benchmarks.in_pytorch:Training",
                "python": python,
                "precision": precision,
                **PYTORCH_WAYS[way],
                **files.training,
            }
            for build, python in files.pytorch_builds.items()
            for way in files.sizes.pytorch_ways
        }
        for precision in PRECISIONS
    }


def _find_fastest_pytorch(files, table):
    """Try all builds of PyTorch in all ways, one after the other: all at once need much memory.

    Returns
    -------
    dict of str -> tuple of str and dict
        By the precision, the name of the fastest one and arguments of `start`.
    """
    fastest = {}
    for precision, trainings in _list_pytorch_trainings(files).items():
        tried = Timings({}, {})
        for name, settings in trainings.items():
            with closing_all() as start, table.adding_failure(f"{name}, tried alone"):
                worker = start(**settings)
                tuned = worker.ask("tune")
                tried.secs[name] = [worker.ask("measure", files.sizes.training_steps)]
                speed = files.sizes.batch_size / tried.median(name)
                table.add(f"{name}, tried alone", f"{speed:.1f} images/s", tuned)
        if tried.secs:
            name = tried.fastest(list(tried.secs))
            fastest[precision] = name, trainings[name]
    return fastest


def _start_graph(start, files, name):
    create = "benchmarks.in_tensorflow:FrozenGraph"
    return start(create, graph_path=files.model / name, crops_path=files.crops)


def _start_encoders(start, files):
    workers = {
        "our frozen graph": _start_graph(start, files, "frozen.pb"),
        "per-image-map graph": _start_graph(start, files, "map.pb"),
    }
    for format_name, file in MODELS.items():
        workers[RUNTIMES[format_name]] = start(
            "benchmarks.in_formats:Encoding",
            format_name=format_name,
            model_path=files.model / file,
            crops_path=files.crops,
        )
    for build, python in files.pytorch_builds.items():
        for way in files.sizes.pytorch_ways:
            workers[f"PyTorch {build} {way}"] = start(
                "benchmarks.in_pytorch:Encoding",
                python=python,
                weights_path=files.model / "weights.npz",
                crops_path=files.crops,
                **PYTORCH_WAYS[way],
            )
    return workers


def _measure_crops(workers, count, sizes, ratios):
    """Return rows for the encoding of `count` crops; append ratios of speeds to `ratios`."""
    table = Table(f"encoding, {count} crops")
    for name, worker in workers.items():
        if name.startswith("PyTorch"):
            with table.adding_failure(f"{name}: threads"):
                best = worker.ask("choose_num_threads", count)
                table.add(f"{name}: threads", f"{best}", "the faster number")
    contenders = [Contender(name, worker, args=(count,)) for name, worker in workers.items()]
    timings = _measure(contenders, sizes)
    table.add_timings(timings, list(workers), count)
    first, *others = workers
    for name in others:
        table.add_speed_ratio(timings, first, name)
        if {first, name} <= timings.secs.keys():
            ratios[name].append(statistics.median(timings.ratios(first, name)))
    return table.rows


def _measure_frame(start, files, graph):
    """Return rows for the encoder on a frame, and for the bare graph on as many crops."""
    count = files.sizes.num_boxes
    table = Table(f"encoding, {count} boxes on a 1080p frame")
    paths = {"graph_path": files.model / "frozen.pb", "frame_path": files.frame}
    encoder = start("benchmarks.in_tensorflow:EncoderOnFrame", **paths)
    whole, bare = "crop, resize and encode", f"our frozen graph, {count} ready crops"
    contenders = [Contender(whole, encoder), Contender(bare, graph, args=(count,))]
    timings = _measure(contenders, files.sizes)
    table.add_timings(timings, [whole, bare], count)
    table.add_speed_ratio(timings, bare, whole, f"time of {whole} / {bare}")
    return table.rows


def _add_share_of_peak(table, timings, contender, num_flops_of_peak):
    secs = timings.median(contender.name)
    (precision,) = (each for each in PRECISIONS if each in contender.name)
    peak = f"matrix product {precision}"
    if contender.name == peak:
        table.add(peak, f"{num_flops_of_peak / secs / 1e9:.4g} GFLOP/s", format_secs(secs))
        return
    num_flops = contender.worker.ask("count_flops", *contender.args)
    ratios = timings.ratios(contender.name, peak)
    shares = [num_flops / num_flops_of_peak * ratio for ratio in ratios]
    share = f"**{statistics.median(shares):.1%}** of the matrix product"
    spread = f"{min(shares):.1%} .. {max(shares):.1%}"
    table.add(contender.name, f"{num_flops / secs / 1e9:.4g} GFLOP/s, {share}", spread)


def _train_and_score(sizes, data, precision, seed):
    run_id = f"{precision}-{seed}"
    settings = [f"--log_dir={data / 'runs'}", f"--run_id={run_id}", f"--precision={precision}"]
    run_program(
        *(sys.executable, SCRIPT, *settings),
        f"--dataset_dir={data / 'images'}",
        f"--seed={seed}",
        "--loss_mode=triplet",
        f"--batch_size={sizes.scored_batch_size}",
        f"--number_of_steps={sizes.scored_steps}",
        cwd=data,
    )
    scores = data / f"{run_id}.json"
    test = ["--mode=test", f"--metrics_file={scores}"]
    run_program(sys.executable, SCRIPT, *settings, *test, cwd=data)
    return json.loads(scores.read_text(encoding="utf-8"))
