"""Saving checkpoints: completely and durably, or not at all."""

import contextlib
import filecmp
import logging
import numbers
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from deep_reid.errors import RunError, first_line
from deep_reid.runs import checkpoints, folder, records
from deep_reid.runs.folder import STATE_FILENAME
from deep_reid.runs.records import FILE_PATTERN
from deep_reid.runtime.compat import tf
from deep_reid.system import files
from deep_reid.system.files import Path

_logger = logging.getLogger(__name__)
_SAVING = ".saving-"
# A file in a folder for saving: the names of checkpoints to remove unless they are recorded.
_JOURNAL = "journal"
# Half-written files for TensorBoard's projector, in the folder of an evaluation or of its run.
_LEFTOVERS_OF_EVALUATION = ("projector/.*-????????.*", ".projector_config-????????.pbtxt")
# Files that a killed process leaves, with this saver or TensorFlow's own.
_LEFTOVERS = (
    f"{_SAVING}*",
    f".{STATE_FILENAME}-????????",
    ".config-????????.json",
    ".labels-????????.json",
    f".{folder.LATEST_RUN_FILENAME}-????????",
    *_LEFTOVERS_OF_EVALUATION,
    "model.ckpt*.tempstate*",
    "model.ckpt*_temp_*",
    f"{STATE_FILENAME}.tmp*",
    "graph.pbtxt.tmp*",
)
# TensorFlow raises these for a full disk, a lost one or missing permissions. For a file that grows
# beyond its limit it raises an OutOfRangeError, which elsewhere means the normal end of a training.
_WRITE_ERRORS = (
    OSError,
    tf.errors.DataLossError,
    tf.errors.InternalError,
    tf.errors.NotFoundError,
    tf.errors.OutOfRangeError,
    tf.errors.PermissionDeniedError,
    tf.errors.ResourceExhaustedError,
    tf.errors.UnknownError,
)


class Saver(tf.train.Saver):
    """A saver that writes complete checkpoints, and names one that cannot be restored.

    TensorFlow raises an ``OutOfRangeError`` for a file that is cut short, which elsewhere means the
    normal end of a training. Names are recorded relative to their directory, and
    ``keep_checkpoint_every_n_hours`` has no effect.

    Attributes
    ----------
    guard : callable
        Takes the session, and returns a context manager around saving. A cluster names a lost
        server there: TF-Slim, which saves the last step, would take TensorFlow's error as a reason
        to begin anew, and wait for the server without a limit.
    """

    guard: Callable[[tf.Session], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext

    def save(
        self,
        sess: tf.Session,
        save_path: Path,
        global_step: int | tf.Tensor | tf.Variable | None = None,
        latest_filename: str | None = None,
        meta_graph_suffix: str = "meta",
        write_meta_graph: bool = True,
        write_state: bool = True,
        **kwargs: Any,
    ) -> str:
        """Save variables, as ``tf.train.Saver`` does, but completely and durably, or not at all.

        First all files are written to the disk, then the checkpoint is recorded, then older ones
        are deleted. An existing checkpoint with the same bytes stays as it is. Before all this, the
        model is read back and checked to be finite: a run could not continue from it otherwise.

        Parameters
        ----------
        sess, save_path, global_step, meta_graph_suffix, write_meta_graph, write_state, **kwargs
            As in ``tf.train.Saver``.
            Without ``write_state`` the checkpoint is not of a run: files are written through links.
        latest_filename : None or "checkpoint"
            The file that records checkpoints.

        Returns
        -------
        str
            The checkpoint's prefix.

        Raises
        ------
        RunError
            If it cannot be written (no space, for example), or its model is not finite. Earlier
            checkpoints and their record then stay as they were.
        """
        if latest_filename not in (None, STATE_FILENAME):
            raise ValueError(f"latest_filename ({latest_filename}) must be {STATE_FILENAME!r}")
        directory, name = os.path.split(os.fspath(save_path))
        with (
            self.guard(sess),
            _naming_unwritten(save_path, global_step, sess, write_state),
            tempfile.TemporaryDirectory(
                prefix=_SAVING, dir=directory or ".", ignore_cleanup_errors=True
            ) as saving_folder,
        ):
            written = super().save(
                sess,
                os.path.join(saving_folder, name),
                global_step,
                meta_graph_suffix=meta_graph_suffix,
                write_meta_graph=write_meta_graph,
                write_state=False,
                **kwargs,
            )
            prefix = os.path.join(directory, os.path.basename(written))
            if not write_state:
                _write_output(written, prefix)
                return prefix
            _check_finite(written, prefix, sess.graph)
            earlier = [path for path in self.last_checkpoints if _is_earlier(path, prefix)]
            kept = [*earlier, prefix][-self.as_saver_def().max_to_keep :]  # 0: all
            outdated = [path for path in earlier if path not in kept]
            # A kill between these steps leaves complete checkpoints that are not recorded.
            _write_journal(saving_folder, [prefix, *outdated])
            _publish(written, prefix)
            self._record(prefix, kept, outdated)
        return prefix

    def _record(self, prefix, kept, outdated):
        try:
            records.write_state(os.path.dirname(prefix) or ".", kept)
        except OSError:
            if prefix not in self.last_checkpoints:
                _remove_checkpoint(prefix)
            raise
        self.set_last_checkpoints(kept)
        for path in outdated:
            _remove_checkpoint(path)

    def restore(self, sess: tf.Session, save_path: str) -> None:
        """Restore variables, as ``tf.train.Saver`` does.

        Parameters
        ----------
        sess : tf.Session
        save_path : str
            The checkpoint's prefix.

        Raises
        ------
        DataError
            If the checkpoint is damaged, or lacks a variable or has it in another shape.
        """
        with checkpoints.naming_damaged(save_path):
            super().restore(sess, save_path)


def remove_leftovers(run_dir: Path) -> None:
    """Remove what a killed or failed training left: half files, and checkpoints without a record.

    A complete checkpoint is removed only if that training had just written it, and had not recorded
    it, or was about to delete it. The caller must hold the run's lock: then no other process saves.

    Parameters
    ----------
    run_dir : str or Path
    """
    run_dir = pathlib.Path(run_dir)
    leftovers = _find(run_dir, _LEFTOVERS)
    leftovers.update(pathlib.Path(path) for path in _list_unwanted(run_dir))
    for path in run_dir.glob("model.ckpt*"):
        match = FILE_PATTERN.fullmatch(os.fspath(path))
        # The index is written last: without it, the other files are useless.
        if match and not records.exists(match["prefix"]):
            leftovers.add(path)
    # The index goes first: what is left without it is no checkpoint.
    for path in sorted(leftovers, key=lambda path: (path.suffix != ".index", path)):
        _logger.info("Removing %s, which a killed or failed training left", path)
        _remove(path)


def remove_leftovers_of_evaluation(directory: Path) -> None:
    """Remove half-written files that a killed evaluation left.

    Parameters
    ----------
    directory : str or Path
        Where the evaluation writes, or the folder of its run. The caller must hold the lock of the
        former: then no other process writes there.
    """
    for path in sorted(_find(pathlib.Path(directory), _LEFTOVERS_OF_EVALUATION)):
        _logger.info("Removing %s, which a killed evaluation left", path)
        _remove(path)


def _find(directory, patterns):
    """Find files by patterns of at most two levels, but not those that a linked folder has."""
    found = {path for pattern in patterns for path in directory.glob(pattern)}
    return {path for path in found if path.parent == directory or not path.parent.is_symlink()}


def _write_journal(saving_folder, prefixes):
    names = [os.path.basename(prefix) for prefix in prefixes]
    files.write_text(os.path.join(saving_folder, _JOURNAL), "\n".join(names))


def _list_unwanted(run_dir):
    """List the files of the checkpoints that a journal names, but the record does not."""
    recorded = records.read_state(run_dir)
    if recorded is None:
        return []  # without a record, any checkpoint may be needed
    names = set()
    for journal in run_dir.glob(f"{_SAVING}*/{_JOURNAL}"):
        # The checkpoint is published only after the journal was written completely.
        with contextlib.suppress(OSError):  # it is no regular file, which a save would write
            lines = files.read_text(journal, errors="replace").splitlines()
            names.update(map(os.path.basename, lines))
    names -= {os.path.basename(prefix) for prefix in recorded}
    paths = [path for name in sorted(names) for path in records.list_files(run_dir / name)]
    # A damaged journal may name anything, such as config.json, or the folder itself.
    return [path for path in paths if FILE_PATTERN.fullmatch(os.fspath(path))]


def _is_earlier(path, prefix):
    """Return whether a checkpoint is in the folder of a new one, and has another name."""
    is_own = os.path.realpath(os.path.dirname(path)) == os.path.realpath(os.path.dirname(prefix))
    return is_own and os.path.basename(path) != os.path.basename(prefix)


def _check_finite(written, prefix, graph):
    """Raise if a value of the model is not finite in a checkpoint: no run can continue from it.

    The checks of each step (`deep_reid.engine.health`) see an update only in the next step.
    """
    model = graph.get_collection(tf.GraphKeys.MODEL_VARIABLES)
    model += graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)
    reader = tf.train.load_checkpoint(written)
    for name in sorted({variable.op.name for variable in model}):
        if reader.has_tensor(name) and not np.isfinite(reader.get_tensor(name)).all():
            raise RunError(
                f"checkpoint {prefix} is not kept, as {name} is not finite (NaN or infinite); "
                "earlier ones are as they were: lower --learning_rate and resume with the same "
                "run_id, or check images and labels"
            )


def _publish(written, prefix):
    """Move the files of a new checkpoint to their place; the index, which makes it one, is last."""
    source, target = os.path.dirname(written), os.path.dirname(prefix) or "."
    names = [os.path.basename(path) for path in records.list_files(written)]
    same, _, _ = filecmp.cmpfiles(source, target, names, shallow=False)
    if len(same) == len(names):
        return
    for name in names:
        files.flush_to_disk(os.path.join(source, name))
    try:
        # Without an index there is no checkpoint: no reader finds a mixture of the old and the new.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{prefix}.index")
        for name in names:
            os.replace(os.path.join(source, name), os.path.join(target, name))
        files.flush_to_disk(target)
    except BaseException:
        for name in names:
            _remove(os.path.join(target, name))
        raise


def _write_output(written, prefix):
    """Write the files of a checkpoint to where the user wants them, through links."""
    with contextlib.ExitStack() as stack:
        for path in reversed(records.list_files(written)):  # what begins first ends last
            target = prefix + path.removeprefix(written)
            shutil.copyfile(path, stack.enter_context(files.writing(target)))
        # As in _publish: no reader finds a mixture of the old and the new.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.realpath(f"{prefix}.index"))


@contextlib.contextmanager
def _naming_unwritten(save_path, global_step, session, is_of_run):
    try:
        yield
    except _WRITE_ERRORS as error:
        if not isinstance(global_step, numbers.Integral | None):
            global_step = tf.train.global_step(session, global_step)
        name = os.fspath(save_path) if global_step is None else f"{save_path}-{global_step}"
        reason = error.strerror if isinstance(error, OSError) else None
        again = "resume with the same run_id" if is_of_run else "try again"
        raise RunError(
            f"checkpoint {name} could not be written ({reason or first_line(error)}); earlier ones "
            f"are kept: free some space or mend the folder, and {again}"
        ) from error


def _remove_checkpoint(prefix):
    # The index, which is listed last, goes first: what is left without it is no checkpoint.
    for path in reversed(records.list_files(prefix)):
        _remove(path)


def _remove(path):
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        _logger.warning("%s could not be removed: %s", path, error.strerror)
