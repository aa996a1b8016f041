"""What makes a training step faster, and what does not: one change at a time, in turn with none.

Each change has a process of its own. The step is that on a constant batch, without the feed. A row
"bound" removes what training needs: it tells how much a faster way could give at most.

python benchmarks/attempts.py [--precision float32] [--batch_size 128] [--rounds 5] [--only CHANGE]
"""

import argparse
import contextlib
import ctypes.util
import dataclasses
import pathlib
import sys
from collections.abc import Mapping
from unittest import mock

# Replaces this script's folder, where modules would be found under other names.
sys.path[0] = str(pathlib.Path(__file__).parents[1])

from benchmarks import machine  # noqa: E402
from benchmarks.table import Table, format_rows  # noqa: E402
from benchmarks.workers import Contender, closing_all, measure_in_turn  # noqa: E402

_NO_CHANGE = "no change"
_RECOMPUTE = 5  # RewriterConfig.RECOMPUTATION_HEURISTICS; TensorFlow has no public name
_NHWC_TO_NCHW = 1
_OFF = 2
_JEMALLOC = ctypes.util.find_library("jemalloc")


@dataclasses.dataclass(frozen=True)
class Change:
    """A change of how a step is computed.

    Parameters
    ----------
    environment : mapping of str to str
        Variables of the process.
    compute : mapping of str to int
        Settings of `deep_reid.config.ComputeSettings`.
    rewrites : mapping of str to int
        Options of Grappler, TensorFlow's optimizer of graphs.
    dropout : str or None
        Name of a function of this module that replaces the dropout of the network.
    """

    environment: Mapping = dataclasses.field(default_factory=dict)
    compute: Mapping = dataclasses.field(default_factory=dict)
    rewrites: Mapping = dataclasses.field(default_factory=dict)
    dropout: str | None = None


def _tune_malloc(**settings):
    tunables = ":".join(f"glibc.malloc.{name}={value}" for name, value in settings.items())
    return Change(environment={"GLIBC_TUNABLES": tunables})


def _fuse_clusters():
    flags = "--tf_xla_cpu_global_jit --tf_xla_auto_jit=2 --tf_xla_ops_to_cluster=FUSIBLE"
    return Change(environment={"TF_XLA_FLAGS": flags})


_KEEP_MEMORY = {"mmap_threshold": 2**32, "trim_threshold": 2**34, "top_pad": 2**26}

CHANGES = {
    _NO_CHANGE: Change(),
    "no change, again": Change(),
    "huge pages": _tune_malloc(hugetlb=1),
    "memory is kept, not returned": _tune_malloc(**_KEEP_MEMORY),
    "both": _tune_malloc(hugetlb=1, **_KEEP_MEMORY),
    **({"jemalloc": Change(environment={"LD_PRELOAD": _JEMALLOC})} if _JEMALLOC else {}),
    "TensorFlow's own allocator": Change(environment={"TF_CPU_ALLOCATOR_USE_BFC": "1"}),
    "without oneDNN": Change(environment={"TF_ENABLE_ONEDNN_OPTS": "0"}),
    "XLA for elementwise ops": _fuse_clusters(),
    "one op at a time": Change(compute={"inter_op_threads": 1}),
    "four ops at a time": Change(compute={"inter_op_threads": 4}),
    "cheap ops computed again in the backward pass": Change(
        rewrites={"memory_optimization": _RECOMPUTE}
    ),
    "channels first": Change(rewrites={"cpu_layout_conversion": _NHWC_TO_NCHW}),
    "no fused ops": Change(rewrites={"remapping": _OFF}),
    "dropout: product with a mask": Change(dropout="drop_by_mask"),
    "dropout: 8 random bits": Change(dropout="drop_by_bytes"),
    "bound: no dropout": Change(dropout="keep_all"),
}


class ChangedTraining:
    """Trains on one batch, see `benchmarks.in_tensorflow.ConstantTraining`, with a change."""

    def __init__(self, change, **settings):
        from benchmarks import in_tensorflow

        change = CHANGES[change]

        def configure(compute):
            config = create_config(compute)
            for name, value in change.rewrites.items():
                setattr(config.graph_options.rewrite_options, name, value)
            return config

        create_config = in_tensorflow.create_session_config
        with contextlib.ExitStack() as changes:
            patch = mock.patch.object(in_tensorflow, "create_session_config", configure)
            changes.enter_context(patch)
            if change.dropout:
                drop = globals()[change.dropout]
                for module in ("residual", "wide_residual"):
                    target = f"deep_reid.nets.{module}.dropout"
                    changes.enter_context(mock.patch(target, drop))
            self._training = in_tensorflow.ConstantTraining(**change.compute, **settings)

    def measure(self, count):
        """Train: mean seconds of `count` steps."""
        return self._training.measure(count)


def drop_by_mask(inputs, keep_prob):
    """Multiply by a mask of floats: one op instead of a product, zeros and a selection."""
    from deep_reid.compat import tf
    from deep_reid.nets.dropout import draw_integers

    is_kept = draw_integers(tf.shape(inputs), tf.uint16) < round(keep_prob * 2**16)
    return inputs * (tf.cast(is_kept, inputs.dtype) * (1.0 / keep_prob))


def drop_by_bytes(inputs, keep_prob):
    """Draw half as many random bits: a probability is then a multiple of 1/256."""
    from deep_reid.compat import tf
    from deep_reid.nets.dropout import draw_integers

    is_kept = draw_integers(tf.shape(inputs), tf.uint8) < round(keep_prob * 2**8)
    return tf.where(is_kept, inputs * (1.0 / keep_prob), tf.zeros_like(inputs))


def keep_all(inputs, keep_prob):
    """Keep all elements."""
    del keep_prob
    return inputs


def main():
    """Measure all changes, and print the table."""
    args = parse_arguments()
    names = [name for name in args.only or CHANGES if name != _NO_CHANGE]
    table = Table(f"step of {args.batch_size} images, {args.precision}")
    # Each process has the memory of a training.
    for first in range(0, len(names), args.at_once):
        measure([_NO_CHANGE, *names[first : first + args.at_once]], args, table)
    print("\n".join(f"- {fact}" for fact in machine.describe()), end="\n\n")
    print(format_rows(table.rows))


def measure(names, args, table):
    """Measure changes in turn with the first, which is none, and add rows to the table."""
    with closing_all() as start:
        contenders = [
            Contender(
                name,
                start(
                    "benchmarks.attempts:ChangedTraining",
                    environment=CHANGES[name].environment,
                    change=name,
                    batch_size=args.batch_size,
                    precision=args.precision,
                ),
            )
            for name in names
        ]
        timings = measure_in_turn(contenders, rounds=args.rounds, secs_per_turn=args.secs_per_turn)
    table.add_timings(timings, names[:1], args.batch_size)
    for name in names[1:]:
        table.add_speed_ratio(timings, name, names[0], f"speed with {name}")


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--secs_per_turn", type=float, default=4)
    parser.add_argument("--at_once", type=int, default=5, help="changes measured in turn")
    parser.add_argument("--only", nargs="+", choices=CHANGES, metavar="CHANGE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
