"""Samples of old code in folders of their own, run as processes, and what they leave behind."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np

from deep_reid.compat import tf

ROOT = pathlib.Path(__file__).parents[1]
SAMPLES = pathlib.Path(__file__).parent / "old_code"
RUNNER = ("-m", "deep_reid.legacy")
# Only what hangs takes so long, also on a busy machine.
TIMEOUT_SECS = 800
EVALUATION_SECS = 600
INTERRUPTED = (-signal.SIGINT, 128 + signal.SIGINT)


class Folder:
    """A folder of old code in which processes run.

    Parameters
    ----------
    cwd : pathlib.Path
        The folder.
    command : sequence of str
        Arguments of Python up to the script's name, or up to the module's.
    """

    def __init__(self, cwd, command):
        self.cwd = cwd
        self._command = command

    def start(self, *argv):
        """Start the script; what it writes goes into a log that `finish` returns."""
        path = self.cwd / f"process_{len(list(self.cwd.glob('process_*')))}.log"
        with path.open("w") as log:
            process = subprocess.Popen(
                [sys.executable, *self._command, *map(str, argv)],
                cwd=self.cwd, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        return process, path

    def finish(self, process, path, codes=(0,)):
        """Wait for the end of a process, and return what it wrote."""
        try:
            code = process.wait(timeout=TIMEOUT_SECS)
        finally:
            process.kill()
        output = path.read_text()
        assert code in codes, f"{process.args} ended with {code}:\n{output}"
        return output

    def run(self, *argv, codes=(0,)):
        """Run the script to its end, and return what it wrote."""
        return self.finish(*self.start(*argv), codes=codes)

    def stop_evaluation(self, process, path, eval_dir, step):
        """Stop an evaluation as its user does, once the scores of a step are in its events."""
        deadline = time.monotonic() + EVALUATION_SECS
        while step not in read_scalars(eval_dir).get("Precision_1", {}):
            if process.poll() is not None or time.monotonic() > deadline:
                break
            time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        return self.finish(process, path, codes=INTERRUPTED)


class Sample:
    """A sample after its training, with its other modes as processes under way.

    Parameters
    ----------
    folder : Folder
    steps : int
        Steps to train.
    train_argv, eval_argv : sequence of str
        Further arguments.
    modes : dict from str to sequence of str
        The other modes, each with its arguments.
    """

    def __init__(self, folder, steps, train_argv=(), eval_argv=(), modes=()):
        self.folder, self.cwd, self.steps = folder, folder.cwd, steps
        directories = ["--log_dir=log", "--run_id=first"]
        self.output = folder.run(*directories, f"--number_of_steps={steps}", *train_argv)
        self.checkpoint = self.cwd / "log" / "first" / f"model.ckpt-{steps}"
        self._started = {
            mode: folder.start(f"--mode={mode}", f"--restore_path={self.checkpoint}", *argv)
            for mode, argv in modes.items()
        }
        self._started["eval"] = folder.start(
            "--mode=eval", *directories, "--eval_log_dir=eval", *eval_argv
        )

    def finish(self, *modes):
        """Wait for modes; returns what the last one wrote."""
        for mode in modes:
            output = self.folder.finish(*self._started[mode])
        return output

    def finish_evaluation(self):
        """Stop the evaluation; returns the scalars of its events."""
        eval_dir = self.cwd / "eval" / "first"
        self.folder.stop_evaluation(*self._started["eval"], eval_dir, self.steps)
        return read_scalars(eval_dir)

    def kill(self):
        """End the processes that no test waited for."""
        for process, _ in self._started.values():
            process.kill()
            process.wait()


def copy_sample(name, cwd, without=()):
    """Copy a folder of old code; `without` names what is left out."""
    shutil.copytree(
        SAMPLES / name, cwd, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*without)
    )


def copy_modules(cwd, *modules):
    """Copy modules of the sample `market` into another folder."""
    for module in modules:
        shutil.copy(SAMPLES / "market" / module, cwd)


def _read_values(directory):
    for path in sorted(directory.glob("events.*")):
        try:
            for event in tf.train.summary_iterator(str(path)):
                for value in event.summary.value:
                    yield event.step, value
        except tf.errors.DataLossError:  # a process is writing this very moment
            continue


def read_scalars(directory):
    """Read event files: for each tag its values by step."""
    scalars = {}
    for step, value in _read_values(directory):
        if value.HasField("simple_value"):
            scalars.setdefault(value.tag, {})[step] = value.simple_value
    return scalars


def read_image_tags(directory):
    """List the tags under which event files have images, as ``images`` in ``images/image/0``."""
    return {
        value.tag.partition("/")[0]
        for _, value in _read_values(directory)
        if value.HasField("image")
    }


def read_variables(prefix):
    """Read all variables of a checkpoint."""
    reader = tf.train.load_checkpoint(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def encode_with_frozen_graph(path, images):
    """Run a frozen graph by the names of its two nodes."""
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(tf.GraphDef.FromString(path.read_bytes()), name="")
    with tf.Session(graph=graph) as session:
        return session.run("features:0", {"images:0": images})


def decode_bgr(filenames):
    """Decode JPEG files as training does, to the channel order of OpenCV."""
    with tf.Graph().as_default(), tf.Session() as session:
        contents = tf.placeholder(tf.string, [])
        image = tf.image.decode_jpeg(contents, channels=3)
        images = [session.run(image, {contents: name.read_bytes()}) for name in filenames]
    return np.stack(images)[..., ::-1]


def assert_unit_rows(features, num_rows):
    """Check that features are float32, finite and of unit length."""
    assert features.shape[0] == num_rows
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1.0, atol=1e-5)
