"""Checks all images of a data set for what would stop a training, or mislead it."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Iterable

import numpy as np

from deep_reid.config.kinds import COUNT
from deep_reid.errors import DataError, UsageError
from deep_reid.images import decoding
from deep_reid.images import files as image_files
from deep_reid.runtime.compat import tf
from deep_reid.runtime.sessions import create_session_config

# Blocks halve the time for small images. Memory holds the contents of one block per thread.
_BLOCK_SIZE = 16
_MAX_DEFAULT_THREADS = 8


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is wrong with an image file.

    Parameters
    ----------
    filename : str
    reason : str
        Follows the file's name in a message, such as ``"it is empty"``.
    """

    filename: str
    reason: str


def check_images(
    filenames: Iterable[str | os.PathLike[str]],
    identities: Iterable[int | str],
    num_channels: int,
    *,
    progress: Callable[[int], object] | None = None,
    num_threads: int | None = None,
) -> list[Problem]:
    """Find files that cannot be read or decoded, and copies with different identities.

    Reads each file once, and decodes it as training does.

    Parameters
    ----------
    filenames : sequence of N str or Path
    identities : sequence of N int or str
        Labels or names.
    num_channels : {1, 3}
        Gray or color: ``image_shape[2]``.
    progress : callable, optional
        ``progress(num_images)`` is called after each block of images, in the order of the files
        and in the caller's thread; for example the ``update`` of a progress bar.
    num_threads : int, optional
        Number of blocks that are read at the same time. Default: the number of processors, at
        most 8.

    Returns
    -------
    list of Problem
        In the order of the files. A copy is listed if its identity differs from the identity of
        the first copy. Memory holds 16 bytes for each file that was checked.

    Raises
    ------
    UsageError
        If the numbers of files and identities differ, `num_channels` is neither 1 nor 3, or
        `num_threads` is less than 1.
    """
    filenames, identities = [os.fspath(name) for name in filenames], list(identities)
    if num_threads is None:
        num_threads = min(os.cpu_count() or 1, _MAX_DEFAULT_THREADS)
    _check_arguments(filenames, identities, num_channels, num_threads)
    problems, first_rows, num_done = [], {}, 0
    with _map_in_threads(filenames, num_channels, num_threads) as blocks:
        for block in blocks:
            for row, (digest, fault) in enumerate(block, num_done):
                reason = fault or _compare(filenames, identities, row, first_rows, digest)
                if reason is not None:
                    problems.append(Problem(filenames[row], reason))
            num_done += len(block)
            if progress is not None:
                progress(len(block))
    return problems


def _check_arguments(filenames, identities, num_channels, num_threads):
    if len(filenames) != len(identities):
        raise UsageError(
            f"there are {len(filenames)} files, but {len(identities)} identities: give one "
            "identity for each file"
        )
    if num_channels not in (1, 3):
        raise UsageError(f"num_channels ({num_channels}) must be 3 (color) or 1 (gray)")
    COUNT.check("num_threads", num_threads)


@contextlib.contextmanager
def _map_in_threads(filenames, num_channels, num_threads):
    """Open an iterator over blocks: lists with (digest, None) or (None, reason) for each file."""
    blocks = [filenames[i : i + _BLOCK_SIZE] for i in range(0, len(filenames), _BLOCK_SIZE)]
    with (
        tf.Session(graph=tf.Graph(), config=create_session_config()) as session,
        concurrent.futures.ThreadPoolExecutor(num_threads) as executor,
    ):
        check_block = functools.partial(_check_block, _create_decoder(session, num_channels))
        # Closed before the executor, so that an error cancels the blocks that have not started.
        with contextlib.closing(executor.map(check_block, blocks)) as results:
            yield results


def _create_decoder(session, num_channels):
    """Create a function that decodes a list of files' contents and returns nothing."""
    with session.graph.as_default():
        contents_var = tf.placeholder(tf.string, (None,))
        sizes = tf.map_fn(
            lambda contents: tf.size(decoding.decode_image(contents, num_channels)),
            contents_var,
            dtype=tf.int32,
            back_prop=False,
            parallel_iterations=1,  # the threads already run in parallel, and photos are large
        )
    run = session.make_callable(sizes.op, [contents_var])
    return lambda contents: run(np.array(contents, object))


def _check_block(decode, filenames):
    files = [_read(filename) for filename in filenames]
    try:
        decode([contents for contents, fault in files if fault is None])
    except tf.errors.OpError:  # decode one by one, to find the bad ones
        files = [(contents, fault or _explain(decode, contents)) for contents, fault in files]
    return [
        (None, fault) if fault else (hashlib.blake2b(contents, digest_size=16).digest(), None)
        for contents, fault in files
    ]


def _read(filename):
    try:
        return image_files.read(filename), None
    except DataError as error:
        return None, str(error)
    except OSError as error:
        return None, image_files.explain_os_error(error)


def _explain(decode, contents):
    try:
        decode([contents])
    except tf.errors.OpError:
        return image_files.explain_contents(contents)
    return None


def _compare(filenames, identities, row, first_rows, digest):
    """Return a reason if an image is a copy of an earlier one of another identity, else None."""
    first_row = first_rows.setdefault(digest, row)
    if identities[row] == identities[first_row]:
        return None
    return (
        f"it is a copy of {filenames[first_row]} (identity {identities[first_row]}), but has the "
        f"identity {identities[row]}"
    )
