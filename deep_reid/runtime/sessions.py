"""Settings of sessions, the same for training, evaluation and export."""

import dataclasses
import os

import numpy as np

from deep_reid.config import ComputeSettings
from deep_reid.config.compute import PRECISIONS
from deep_reid.errors import UsageError
from deep_reid.runtime.compat import is_op_determinism_enabled, tf

IN_OWN_THREAD = tf.RunOptions(inter_op_thread_pool=-1)
"""Options for reading files. A file on a dead drive then blocks one of the feed's threads, instead
of one of the few that TensorFlow has for all sessions, and that the training step needs, too."""

# Grappler's rewrites of a graph to a narrower type: bfloat16 for CPUs that have it in hardware;
# for GPUs, Grappler supports only float16.
_REWRITES = {
    "float32": None,
    "bfloat16": "auto_mixed_precision_onednn_bfloat16",
    "float16": "auto_mixed_precision",
}
_ON = 1  # RewriterConfig.Toggle has no public name
_XLA_ON_CPUS = "--tf_xla_cpu_global_jit"


def settle_seed() -> None:
    """Give the default graph a seed, if its random ops could not be added without one.

    A deterministic training switches determinism on for all graphs of its process. Then ops that
    draw initial values need a seed, also where a checkpoint replaces these; so do augmentations.
    """
    if is_op_determinism_enabled() and tf.get_default_graph().seed is None:
        tf.set_random_seed(0)


def create_session_config(compute: ComputeSettings = ComputeSettings()) -> tf.ConfigProto:
    """Create the settings of a session.

    A process creates its threads and reserves the memory of GPUs once, by the settings of its first
    session; see `start_runtime`.

    Parameters
    ----------
    compute : ComputeSettings

    Returns
    -------
    tf.ConfigProto
        Ops without a GPU kernel run on the CPU.

    Raises
    ------
    TypeError
        If `compute` is something else, such as the name of a precision.
    """
    compute = ComputeSettings.of(compute)
    config = tf.ConfigProto(
        allow_soft_placement=True,
        intra_op_parallelism_threads=compute.intra_op_threads or 0,
        inter_op_parallelism_threads=compute.inter_op_threads or 0,
    )
    config.gpu_options.allow_growth = compute.gpu_memory_growth
    rewrite = _REWRITES[compute.precision]
    if rewrite is not None:
        setattr(config.graph_options.rewrite_options, rewrite, _ON)
    if compute.xla:
        config.graph_options.optimizer_options.global_jit_level = tf.OptimizerOptions.ON_1
        _let_xla_compile_for_cpus()
    return config


def leave_open(session: tf.Session) -> None:
    """Let a session stay open: closing it would wait, without a limit, for what runs in it.

    Parameters
    ----------
    session : tf.Session
        Its method `close` does nothing from now on.
    """
    session.close = lambda: None


def start_runtime(compute: ComputeSettings) -> None:
    """Make TensorFlow create its threads, and reserve the memory of GPUs, by these settings.

    It does that once in a process, and not only for a session: when a function is traced, as in
    `deep_reid.runtime.mapping`, TensorFlow creates as many threads as there are cores. If it has
    created them already, nothing changes.

    Parameters
    ----------
    compute : ComputeSettings
    """
    tf.Session(graph=tf.Graph(), config=create_session_config(compute)).close()


def check_precision(compute: ComputeSettings) -> None:
    """Check that TensorFlow supports a precision on this machine, by a small graph.

    Parameters
    ----------
    compute : ComputeSettings

    Raises
    ------
    TypeError
        If `compute` is something else.
    UsageError
        If it does not; the message names the supported ones.
    """
    if computes_in(compute):
        return
    settings = [dataclasses.replace(compute, precision=precision) for precision in PRECISIONS]
    others = [other.precision for other in settings if computes_in(other)]
    raise UsageError(
        f"precision {compute.precision} is not supported by TensorFlow on this machine "
        f"({describe_devices()}; bfloat16 needs a CPU with AVX-512, float16 a GPU): use "
        f"{' or '.join(others)}"
    )


def computes_in(compute: ComputeSettings) -> bool:
    """Tell whether TensorFlow supports a precision on this machine.

    It runs a small graph, and looks for a product of matrices in that type.

    Parameters
    ----------
    compute : ComputeSettings

    Returns
    -------
    bool
    """
    if ComputeSettings.of(compute).precision == "float32":
        return True
    config = create_session_config(compute)
    config.graph_options.rewrite_options.min_graph_nodes = -1  # rewrite small graphs, too
    metadata = tf.RunMetadata()
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        matrix = tf.placeholder(tf.float32, (8, 8))
        product = tf.matmul(matrix, matrix)
        session.run(
            tf.identity(product),
            {matrix: np.eye(8)},
            options=tf.RunOptions(output_partition_graphs=True),
            run_metadata=metadata,
        )
    nodes = [node for graph in metadata.partition_graphs for node in graph.node]
    wanted = tf.as_dtype(compute.precision).as_datatype_enum
    return any("MatMul" in node.op and node.attr["T"].type == wanted for node in nodes)


def _let_xla_compile_for_cpus():
    # By default, XLA compiles for GPUs only. It reads this when it compiles the first graph.
    flags = os.environ.get("TF_XLA_FLAGS", "").split()
    if _XLA_ON_CPUS not in flags:
        os.environ["TF_XLA_FLAGS"] = " ".join([*flags, _XLA_ON_CPUS])


def find_gpu() -> str | None:
    """Return the GPU that networks are computed on.

    Returns
    -------
    str or None
        ``"/gpu:0"``, or None if there is no GPU.
    """
    return "/gpu:0" if _list_gpus() else None


def describe_devices() -> str:
    """Name the devices that TensorFlow computes on.

    Returns
    -------
    str
        Such as ``"CPU only"`` or ``"2 GPUs"``.
    """
    num_gpus = len(_list_gpus())
    return f"{num_gpus} GPU{'s' if num_gpus > 1 else ''}" if num_gpus else "CPU only"


def _list_gpus():
    return tf.config.experimental.list_physical_devices("GPU")
