"""Tracks in processes, one for each core.

They compute with one thread each: with more, the tracker's small matrices take several times as
long.
"""

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from deep_reid.errors import RunError
from deep_reid.system import memory
from deep_reid.tracking import deep_sort

# OpenBLAS, MKL and others read these when they are loaded.
_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """What a tracker needs of a sequence; see `deep_reid.tracking.deep_sort.track`."""

    detections: np.ndarray
    features: np.ndarray
    frame_numbers: range


Job = tuple[str, float]
"""The name of a sequence, and a threshold."""

# Of a worker process.
_sequences: dict[str, Detections] = {}
_settings = [deep_sort.TrackerSettings()]


def track_all(
    sequences: Mapping[str, Detections],
    jobs: Sequence[Job],
    settings: deep_sort.TrackerSettings = deep_sort.TrackerSettings(),
    progress: Callable[[int], object] | None = None,
) -> dict[Job, np.ndarray]:
    """Track in sequences, each job with its threshold.

    Parameters
    ----------
    sequences : dict of str to Detections
        By name.
    jobs : sequence of Job
    settings : TrackerSettings
    progress : callable, optional
        Called with 1 after each job.

    Returns
    -------
    dict of Job to np.ndarray of shape (M, 6)
        As `deep_reid.tracking.deep_sort.track` returns them.

    Raises
    ------
    RunError
        If a process was killed.
    """
    num_workers = max(1, min(memory.count_cores(), len(jobs)))
    # A forked process would lack TensorFlow's threads, and have the threads of the algebra.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(
        num_workers, context, _start_worker, (dict(sequences), settings)
    )
    try:
        with _one_thread():
            futures = {pool.submit(_track, *job): job for job in jobs}
        for future in concurrent.futures.as_completed(futures):
            future.result()
            if progress is not None:
                progress(1)
        return {job: future.result() for future, job in futures.items()}
    except BrokenProcessPool as error:
        raise RunError(
            "a process that tracks was killed: close other programs, if there was not enough memory"
        ) from error
    finally:
        # After an error or Ctrl-C, do not wait for jobs that have not started.
        pool.shutdown(cancel_futures=True)


def _start_worker(sequences, settings):
    # Ctrl-C also reaches this process: the main one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # If the main process is killed, this one would wait for ever.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _sequences.update(sequences)
    _settings[0] = settings


def _end_with_parent():
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _track(name, max_cosine_distance):
    return deep_sort.track(
        **vars(_sequences[name]), max_cosine_distance=max_cosine_distance, settings=_settings[0]
    )


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes that start meanwhile compute with one thread."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
