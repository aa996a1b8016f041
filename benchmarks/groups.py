"""The groups of measurements: what is compared with what, and which rows come of it."""

import contextlib
import functools
import itertools
import pathlib
import statistics

import cv2
import numpy as np

from benchmarks.accuracy import measure_accuracy
from benchmarks.table import Table, format_secs
from benchmarks.workers import Contender, NotMeasured, closing_all, measure_in_turn
from datasets import synthetic

PRECISIONS = ("float32", "bfloat16")
MAX_DIFFERENCE = "largest difference of features"
CROP_SHAPE = (128, 64, 3)
FRAME_SHAPE = (1080, 1920, 3)
_WIDTHS_OF_BOXES = (40, 120)
_ASPECT_RATIO = 2.4  # height to width; not that of the network's input


def measure_training(sizes, directory):
    """Measure training, end to end from image files.

    Parameters
    ----------
    sizes : benchmarks.sizes.Sizes
    directory : str
        For files; those of another group are used again.

    Returns
    -------
    list of benchmarks.table.Row
    """
    table = Table(f"training, batch {sizes.batch_size}")
    data = _draw_market1501(sizes, directory)
    with closing_all() as start:
        ours = _start_our_trainings(start, sizes, data)
        theirs = _start_pytorch_trainings(start, sizes, data)
        for name, worker in theirs.items():
            with table.instead_of_failure(f"{name}: processes that read images"):
                best = worker.ask("choose_num_workers")
                table.add(f"{name}: processes that read images", f"{best}", "the faster number")
        contenders = [Contender(name, worker) for name, worker in (ours | theirs).items()]
        contenders += [
            Contender(f"{name}, constant batch", worker, "measure_constant")
            for name, worker in ours.items()
        ]
        timings = _measure(contenders, sizes, min_count=sizes.training_steps)
    table.add_timings(timings, [contender.name for contender in contenders], sizes.batch_size)
    for precision in PRECISIONS:
        names = [name for name in theirs if precision in name]
        best = f"PyTorch's best {precision}"
        with table.instead_of_failure(best):
            table.add_speed_ratio(timings, f"ours {precision}", timings.fastest(names))
    table.add_speed_ratio(timings, "ours bfloat16", "ours float32")
    for name in ours:
        table.add_speed_ratio(timings, name, f"{name}, constant batch")
    return table.rows


def measure_encoding(sizes, directory):
    """Measure encoding of crops, and of boxes on a frame.

    Parameters
    ----------
    sizes, directory
        As in `measure_training`.

    Returns
    -------
    list of benchmarks.table.Row
    """
    files, failures = _write_model(directory)
    crops_path, frame_path = _draw_crops(sizes, directory)
    table = Table("encoding")
    for filename, reason in failures.items():
        table.add_failure(f"what needs {filename}", reason)
    with closing_all() as start:
        workers = _start_encoders(start, sizes, files, crops_path)
        _compare_features(table, workers, max(sizes.crop_counts))
        speeds = {name: [] for name in workers}
        for count in sizes.crop_counts:
            size_table = Table(f"encoding, {count} crops")
            _measure_crops(size_table, workers, count, sizes, speeds)
            table.rows += size_table.rows
        _add_geometric_means(table, speeds, len(sizes.crop_counts))
        frame_table = Table(f"encoding, {sizes.num_boxes} boxes on a 1080p frame")
        encoder = start(
            "benchmarks.in_tensorflow:EncoderOnFrame",
            graph_path=files["frozen.pb"],
            frame_path=frame_path,
        )
        _measure_frame(frame_table, encoder, workers["our frozen graph"], sizes)
    return table.rows + frame_table.rows


def measure_input(sizes, directory):
    """Measure the feed alone, from 256 x 128 files to images of 128 x 64.

    Parameters
    ----------
    sizes, directory
        As in `measure_training`.

    Returns
    -------
    list of benchmarks.table.Row
    """
    table = Table(f"input, batch {sizes.batch_size}, 256 x 128 files")
    data = _draw_mars(sizes, directory)
    with closing_all() as start:
        workers = {
            _feed(way, num_threads): start(
                "benchmarks.in_tensorflow:Input",
                dataset_dir=data,
                batch_size=sizes.batch_size,
                way=way,
                num_threads=num_threads,
            )
            for way, num_threads in itertools.product(("ours", "naive"), sizes.num_threads)
        }
        _compare_pixels(table, workers, sizes.num_threads[0])
        contenders = [Contender(name, worker) for name, worker in workers.items()]
        timings = _measure(contenders, sizes, min_count=sizes.input_batches)
    table.add_timings(timings, list(workers), sizes.batch_size)
    for num_threads in sizes.num_threads:
        table.add_speed_ratio(timings, _feed("ours", num_threads), _feed("naive", num_threads))
    first, *others = sizes.num_threads
    for way, num_threads in itertools.product(("ours", "naive"), others):
        table.add_speed_ratio(timings, _feed(way, num_threads), _feed(way, first))
    return table.rows


def measure_peak(sizes, directory):
    """Measure which share of a product of matrices training and encoding reach.

    Parameters
    ----------
    sizes, directory
        As in `measure_training`.

    Returns
    -------
    list of benchmarks.table.Row
    """
    table = Table("peak")
    data = _draw_market1501(sizes, directory)
    with closing_all() as start:
        products = {
            f"matrix product {precision}": start(
                "benchmarks.in_tensorflow:MatrixProduct",
                size=sizes.matrix_size,
                precision=precision,
            )
            for precision in PRECISIONS
        }
        trainings = _start_our_trainings(start, sizes, data)
        encoder = start(
            "benchmarks.in_tensorflow:FrozenGraph",
            graph_path=_write_model(directory)[0]["frozen.pb"],
            crops_path=_draw_crops(sizes, directory)[0],
        )
        count = max(sizes.crop_counts)
        contenders = [
            *(Contender(name, worker) for name, worker in products.items()),
            *(Contender(f"training {name}", worker) for name, worker in trainings.items()),
            Contender(f"encoding {count} crops, float32", encoder, args=(count,)),
        ]
        timings = _measure(contenders, sizes)
        flops = {}
        for contender in contenders:
            # Of contenders that cannot count, nor measure, the table says so below.
            with contextlib.suppress(NotMeasured):
                flops[contender.name] = contender.worker.ask("count_flops", *contender.args)
    for contender in contenders:
        _add_share_of_peak(table, timings, flops, contender.name)
    return table.rows


def measure_memory(sizes, directory):
    """Measure the peak memory of training, and of encoding few and many files.

    Parameters
    ----------
    sizes, directory
        As in `measure_training`.

    Returns
    -------
    list of benchmarks.table.Row
    """
    table = Table("peak memory")
    data = _draw_market1501(sizes, directory)
    for start_trainings, remark in (
        (_start_our_trainings, "the whole process"),
        (_start_pytorch_trainings, "without the processes that read images"),
    ):
        for name, peak in _peaks_of_trainings(start_trainings, sizes, data):
            table.add(f"training, batch {sizes.batch_size}, {name}", peak, remark)
    checkpoint = _write_model(directory)[0]["model.ckpt-1"]
    peaks = []
    for num_images in sizes.num_encoded:
        name = f"encoding {num_images:,} files".replace(",", " ")
        with table.instead_of_failure(name), closing_all() as start:
            worker = start(
                "benchmarks.in_tensorflow:Encoding",
                dataset_dir=data,
                checkpoint_path=checkpoint,
                batch_size=sizes.batch_size,
            )
            secs = worker.ask("encode", num_images)
            peaks.append(worker.ask("peak_memory"))
            speed = f"{num_images / secs:.0f} images/s, measured once"
            table.add(name, f"{peaks[-1]:.0f} MiB", speed)
    if len(peaks) == len(sizes.num_encoded):
        growth = (peaks[-1] - peaks[0]) * 2**20 / (sizes.num_encoded[-1] - sizes.num_encoded[0])
        table.add("growth with each file to encode", f"{growth:.0f} bytes", "a feature has 512")
    return table.rows


def _measure(contenders, sizes, min_count=1):
    return measure_in_turn(
        contenders, rounds=sizes.rounds, secs_per_turn=sizes.secs_per_turn, min_count=min_count
    )


def _start_our_trainings(start, sizes, data):
    return {
        f"ours {precision}": start(
            "benchmarks.in_tensorflow:Training",
            dataset_dir=data,
            batch_size=sizes.batch_size,
            precision=precision,
        )
        for precision in PRECISIONS
    }


def _start_pytorch_trainings(start, sizes, data):
    return {
        f"PyTorch {_way(is_compiled)} {precision}": start(
            "benchmarks.in_pytorch:Training",
            dataset_dir=data,
            batch_size=sizes.batch_size,
            precision=precision,
            is_compiled=is_compiled,
        )
        for precision in PRECISIONS
        for is_compiled in _compiled_or_not(sizes)
    }


def _compiled_or_not(sizes):
    return (False, True) if sizes.is_compiled else (False,)


def _way(is_compiled):
    return "compiled" if is_compiled else "eager"


def _start_encoders(start, sizes, files, crops_path):
    graphs = {
        "our frozen graph": ("benchmarks.in_tensorflow:FrozenGraph", "frozen.pb"),
        "per-image-map graph": ("benchmarks.in_tensorflow:FrozenGraph", "map.pb"),
        "ONNX Runtime": ("benchmarks.in_onnxruntime:Encoding", "frozen.onnx"),
    }
    workers = {
        name: start(create, graph_path=files[filename], crops_path=crops_path)
        for name, (create, filename) in graphs.items()
    }
    for is_compiled in _compiled_or_not(sizes):
        workers[f"PyTorch {_way(is_compiled)}"] = start(
            "benchmarks.in_pytorch:Encoding",
            weights_path=files["weights.npz"],
            crops_path=crops_path,
            is_compiled=is_compiled,
        )
    return workers


def _compare_features(table, workers, count):
    first, *others = workers
    for name in others:
        measurement = f"{MAX_DIFFERENCE}, {name} and {first}"
        with table.instead_of_failure(measurement):
            pair = [workers[each].ask("features", count) for each in (first, name)]
            table.add(measurement, f"{np.abs(pair[0] - pair[1]).max():.1e}", f"{count} crops")


def _feed(way, num_threads):
    return f"{way}, {num_threads} thread{'s' if num_threads > 1 else ''}"


def _compare_pixels(table, workers, num_threads):
    measurement = "largest difference of pixels in [0, 1], ours and naive"
    with table.instead_of_failure(measurement):
        ours, naive = (workers[_feed(way, num_threads)].ask("pixels") for way in ("ours", "naive"))
        table.add(measurement, f"{np.abs(ours - naive).max():.1e}", f"{len(ours)} images")


def _measure_crops(table, workers, count, sizes, speeds):
    for name in workers:
        if name.startswith("PyTorch"):
            with table.instead_of_failure(f"{name}: threads"):
                best = workers[name].ask("choose_num_threads", count)
                table.add(f"{name}: threads", f"{best}", "the faster number")
    timings = _measure(
        [Contender(name, worker, args=(count,)) for name, worker in workers.items()], sizes
    )
    table.add_timings(timings, list(workers), count)
    first, *others = workers
    for name in others:
        table.add_speed_ratio(timings, first, name)
        with contextlib.suppress(NotMeasured):  # said in the row above
            speeds[name].append(statistics.median(timings.ratios(first, name)))


def _add_geometric_means(table, speeds, num_sizes):
    for name, ratios in speeds.items():
        if len(ratios) == num_sizes:
            mean = statistics.geometric_mean(ratios)
            spread = f"{min(ratios):.3f} .. {max(ratios):.3f} by the number of crops"
            measurement = f"speed of our frozen graph / {name}, geometric mean"
            table.add(measurement, f"**{mean:.3f} x**", spread)


def _measure_frame(table, encoder, graph, sizes):
    count = sizes.num_boxes
    whole, bare = "crop, resize and encode", f"our frozen graph, {count} ready crops"
    timings = _measure([Contender(whole, encoder), Contender(bare, graph, args=(count,))], sizes)
    table.add_timings(timings, [whole, bare], count)
    measurement = f"time of {whole} / {bare}"
    with table.instead_of_failure(measurement):
        table.add_ratio(measurement, timings.ratios(bare, whole))


def _add_share_of_peak(table, timings, flops, name):
    with table.instead_of_failure(name):
        secs = timings.median(name)
        if name not in flops:
            raise NotMeasured("its operations could not be counted")
        speed = f"{flops[name] / secs / 1e9:.4g} GFLOP/s"
        precision = next(precision for precision in PRECISIONS if precision in name)
        peak = f"matrix product {precision}"
        if name == peak:
            table.add(name, speed, format_secs(secs))
            return
        shares = [flops[name] / flops[peak] * ratio for ratio in timings.ratios(name, peak)]
        spread = f"{min(shares):.1%} .. {max(shares):.1%}"
        share = f"**{statistics.median(shares):.1%}** of the matrix product"
        table.add(name, f"{speed}, {share}", spread)


def _peaks_of_trainings(start_trainings, sizes, data):
    with closing_all() as start:
        workers = start_trainings(start, sizes, data)
        for name, worker in workers.items():
            try:
                worker.ask("measure", sizes.training_steps)
                yield name, f"{worker.ask('peak_memory'):.0f} MiB"
            except NotMeasured as reason:
                yield name, f"not measured: {reason}"


def _draw_market1501(sizes, directory):
    path = pathlib.Path(directory) / "market1501"
    if not path.exists():
        synthetic.draw_market1501(path, num_identities=sizes.num_identities, num_test_identities=1)
    return str(path)


def _draw_mars(sizes, directory):
    path = pathlib.Path(directory) / "mars"
    if not path.exists():
        synthetic.draw_mars(path, num_identities=sizes.num_identities, num_test_identities=1)
    return str(path)


def _draw_crops(sizes, directory):
    """Draw crops, and a frame with boxes: names of their files."""
    crops_path = pathlib.Path(directory) / "crops.npy"
    frame_path = pathlib.Path(directory) / "frame.npz"
    random = np.random.default_rng(1)
    # Smooth, as photographs are.
    coarse = random.integers(0, 256, (max(sizes.crop_counts + (sizes.num_boxes,)), 16, 8, 3))
    height, width, _ = CROP_SHAPE
    crops = [cv2.resize(image.astype(np.uint8), (width, height)) for image in coarse]
    np.save(crops_path, np.stack(crops))
    coarse = random.integers(0, 256, (54, 96, 3)).astype(np.uint8)
    frame = cv2.resize(coarse, FRAME_SHAPE[1::-1])
    widths = random.uniform(*_WIDTHS_OF_BOXES, sizes.num_boxes)
    box_sizes = np.stack([widths, _ASPECT_RATIO * widths], axis=1)
    corners = random.uniform(size=box_sizes.shape) * (np.array(FRAME_SHAPE[1::-1]) - box_sizes)
    np.savez(frame_path, frame=frame, boxes=np.hstack([corners, box_sizes]))
    return str(crops_path), str(frame_path)


@functools.cache
def _write_model(directory):
    """Write the files of a model: their paths by their names, and why others were not written."""
    directory = pathlib.Path(directory) / "model"
    directory.mkdir()
    files, failures = {"model.ckpt-1": str(directory / "model.ckpt-1")}, {}
    with closing_all() as start:
        writer = start("benchmarks.model:ModelWriter", directory=str(directory))
        for method, filename in (
            ("write_weights", "weights.npz"),
            ("write_frozen_graph", "frozen.pb"),
            ("write_map_graph", "map.pb"),
            ("write_onnx_graph", "frozen.onnx"),
        ):
            files[filename] = str(directory / filename)
            try:
                writer.ask(method)
            except NotMeasured as reason:
                failures[filename] = str(reason)
    return files, failures


GROUPS = {
    "training": measure_training,
    "encoding": measure_encoding,
    "input": measure_input,
    "peak": measure_peak,
    "memory": measure_memory,
    "accuracy": measure_accuracy,
}
