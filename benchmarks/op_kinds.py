"""Where the time of a training step goes: a table by kinds of ops.

One op runs at a time, on all cores, so the times add up. Two speeds are measured, too: that of a
sum of large arrays, which memory limits, and that of a matrix product. A kind of ops is bound by
memory, or by arithmetic, if it reaches at least half of that speed. Each input and output of an op
counts as moved once, so caches can make a kind look faster than memory.

python benchmarks/op_kinds.py [--precision float32] [--batch_size 128] [--steps 5]
"""

import argparse
import collections
import dataclasses
import math
import pathlib
import statistics
import sys

# Replaces this script's folder, where modules would be found under other names.
sys.path[0] = str(pathlib.Path(__file__).parents[1])

from benchmarks import machine  # noqa: E402
from benchmarks.workers import closing_all  # noqa: E402

# The first that fits a part of the op's name; else the longest that is a part of the op's type:
# TensorFlow's ops for oneDNN have longer names, such as _MklNativeFusedConv2D.
_BY_NAME = (("dropout", "dropout"), ("Adam", "Adam"))
_BY_TYPE = {
    "Conv2D": "convolutions, forward",
    "Conv2DBackpropInput": "convolutions, by input",
    "Conv2DBackpropFilter": "convolutions, by filter",
    "MatMul": "matrix products",
    "FusedBatchNormV3": "batch norm",
    "FusedBatchNormEx": "batch norm",
    "FusedBatchNormGradV3": "batch norm, gradient",
    "Elu": "ELU",
    "EluGrad": "ELU, gradient",
    "MaxPool": "pooling",
    "MaxPoolGrad": "pooling",
    "Cast": "casts",
    "Add": "sums",
    "AddV2": "sums",
    "AddN": "sums",
    "BiasAdd": "sums",
    "BiasAddGrad": "sums",
    "L2Loss": "penalties and checks",
    "IsFinite": "penalties and checks",
    "CheckNumerics": "penalties and checks",
}
_OTHERS = "all others"
# A kind is bound by what it uses at this share of the measured speed, or more.
_BOUND_SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class Op:
    """An op of a step, as TensorFlow ran it.

    Parameters
    ----------
    name, type : str
    secs : float
    num_bytes : int
        Of inputs and outputs.
    num_flops : int
        Of convolutions and products of matrices.
    """

    name: str
    type: str
    secs: float
    num_bytes: int
    num_flops: int


@dataclasses.dataclass
class Kind:
    """Sums over the ops of a kind: seconds, bytes, floating point operations, number of ops."""

    secs: float = 0.0
    num_bytes: int = 0
    num_flops: int = 0
    num_ops: int = 0

    def add(self, op):
        """Add an op."""
        self.secs += op.secs
        self.num_bytes += op.num_bytes
        self.num_flops += op.num_flops
        self.num_ops += 1


def main():
    """Measure, and print the table."""
    args = parse_arguments()
    settings = {"batch_size": args.batch_size, "precision": args.precision}
    constant = "benchmarks.in_tensorflow:ConstantTraining"
    with closing_all() as start:
        bytes_per_sec = start("benchmarks.op_kinds:Stream").ask("measure")
    with closing_all() as start:
        size = args.matrix_size
        product = start(
            "benchmarks.in_tensorflow:MatrixProduct", size=size, precision=args.precision
        )
        product.ask("measure", 1)
        flops_per_sec = 2 * size**3 / product.ask("measure", args.steps)
    with closing_all() as start:
        secs_of_step = start(constant, **settings).ask("measure", args.steps)
    with closing_all() as start:
        worker = start(constant, **settings, inter_op_threads=1)
        worker.ask("measure", 1)
        steps = [worker.ask("trace") for _ in range(args.steps)]
    print("\n".join(f"- {fact}" for fact in machine.describe()))
    print(f"- Sum of arrays: {bytes_per_sec / 1e9:.1f} GB/s, read and written")
    print(f"- Matrix product, {args.precision}: {flops_per_sec / 1e9:.0f} GFLOP/s")
    sums = statistics.median(sum(op.secs for op in ops) for ops in steps)
    print(
        f"- A step of {args.batch_size} images in {args.precision}: {1000 * secs_of_step:.0f} ms; "
        f"one op at a time, the ops take {1000 * sums:.0f} ms\n"
    )
    print(format_table(summarize(steps), bytes_per_sec, flops_per_sec))


def find_kind(name, op_type):
    """Return the kind of an op."""
    for part, kind in _BY_NAME:
        if part in name:
            return kind
    return _BY_TYPE.get(_find_known_type(op_type), _OTHERS)


def _find_known_type(op_type):
    return max((known for known in _BY_TYPE if known in op_type), key=len, default=None)


def summarize(steps):
    """Return the median step of each kind, by name, the longest first."""
    of_steps = []
    for ops in steps:
        kinds = collections.defaultdict(Kind)
        for op in ops:
            kinds[find_kind(op.name, op.type)].add(op)
        of_steps.append(kinds)
    names = set().union(*of_steps)
    medians = {
        name: Kind(*(
            statistics.median(getattr(kinds[name], field.name) for kinds in of_steps)
            for field in dataclasses.fields(Kind)
        ))
        for name in names
    }  # fmt: skip
    return dict(sorted(medians.items(), key=lambda item: -item[1].secs))


def format_table(kinds, bytes_per_sec, flops_per_sec):
    """Return a table in Markdown, with a row for each kind and one for all."""
    total = Kind(*(
        sum(getattr(kind, field.name) for kind in kinds.values())
        for field in dataclasses.fields(Kind)
    ))  # fmt: skip
    lines = [
        "| ops | number | ms | share | GB | of a sum's GB/s | GFLOP | of a product's GFLOP/s "
        "| bound by |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, kind in [*kinds.items(), ("**all**", total)]:
        memory = kind.num_bytes / max(kind.secs, 1e-9) / bytes_per_sec
        arithmetic = kind.num_flops / max(kind.secs, 1e-9) / flops_per_sec
        lines.append(
            f"| {name} | {kind.num_ops:.0f} | {1000 * kind.secs:.1f} "
            f"| {kind.secs / total.secs:.1%} | {kind.num_bytes / 1e9:.2f} | {memory:.0%} "
            f"| {kind.num_flops / 1e9:.1f} | {arithmetic:.0%} | {name_bound(memory, arithmetic)} |"
        )
    return "\n".join(lines)


def name_bound(memory, arithmetic):
    """Return what limits a kind, from its shares of both speeds."""
    if max(memory, arithmetic) < _BOUND_SHARE:
        return "neither"
    return "memory" if memory > arithmetic else "arithmetic"


class Stream:
    """The speed of memory: the sum of two arrays that no cache holds, on all cores."""

    _NUM_VALUES = 2**26
    _NUM_ROUNDS = 5

    def measure(self):
        """Return the bytes per second that the fastest of some rounds reads and writes."""
        import concurrent.futures
        import time

        import numpy as np

        arrays = [np.ones(self._NUM_VALUES, np.float32) for _ in range(3)]
        parts = np.array_split(np.arange(self._NUM_VALUES), machine.num_cores())
        slices = [slice(part[0], part[-1] + 1) for part in parts]

        def add(part):
            a, b, c = (array[part] for array in arrays)
            np.add(a, b, out=c)

        secs = []
        with concurrent.futures.ThreadPoolExecutor(machine.num_cores()) as pool:
            for _ in range(self._NUM_ROUNDS):
                start = time.perf_counter()
                list(pool.map(add, slices))
                secs.append(time.perf_counter() - start)
        return 3 * 4 * self._NUM_VALUES / min(secs)


def read_ops(metadata):
    """Return the ops of a traced step.

    Parameters
    ----------
    metadata : tf.RunMetadata
        With the trace, and with the graphs that ran.

    Returns
    -------
    list of Op
    """
    nodes = {node.name: node for graph in metadata.partition_graphs for node in graph.node}
    ran = {
        stats.node_name: stats
        for device in metadata.step_stats.dev_stats
        for stats in device.node_stats
        if stats.node_name in nodes
    }
    outputs = {name: _read_outputs(stats) for name, stats in ran.items()}
    ops = []
    for name, stats in ran.items():
        node = nodes[name]
        inputs = [_find_input(text, outputs) for text in node.input if not text.startswith("^")]
        tensors = [*inputs, *outputs[name].values()]
        ops.append(
            Op(
                name,
                node.op,
                (stats.op_end_rel_micros - stats.op_start_rel_micros) / 1e6,
                sum(math.prod(shape) * size for shape, size in tensors),
                _count_flops(node, inputs, outputs[name]),
            )
        )
    return ops


def _read_outputs(stats):
    from deep_reid.compat import tf

    outputs = {}
    for output in stats.output:
        description = output.tensor_description
        shape = tuple(dim.size for dim in description.shape.dim)
        outputs[output.slot] = shape, tf.as_dtype(description.dtype).size
    return outputs


def _find_input(text, outputs):
    name, _, slot = text.partition(":")
    return outputs.get(name, {}).get(int(slot or 0), ((0,), 0))


def _count_flops(node, inputs, outputs):
    """Count as `benchmarks.flops` does, by the shapes that the step had."""
    op_type = _find_known_type(node.op)
    if op_type == "MatMul":
        rows = 0 if node.attr["transpose_a"].b else 1
        return 2 * inputs[0][0][rows] * math.prod(outputs[0][0])
    if op_type == "Conv2D":
        weights, feature_map = inputs[1], outputs[0]
    elif op_type == "Conv2DBackpropInput":
        weights, feature_map = inputs[1:3]
    elif op_type == "Conv2DBackpropFilter":
        weights, feature_map = outputs[0], inputs[2]
    else:
        return 0
    return 2 * math.prod(weights[0][:3]) * math.prod(feature_map[0])


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--precision", choices=machine.list_precisions(), default="float32")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument(
        "--steps", type=int, default=5, help="that are measured; the table's median"
    )
    parser.add_argument("--matrix_size", type=int, default=4096)
    return parser.parse_args()


if __name__ == "__main__":
    main()
