"""Clusters of real processes on this machine, which tests start, kill and start again."""

import json
import os
import pathlib
import re
import signal
import sys
import time

import processes

from deep_reid.system import ports

ROOT = pathlib.Path(__file__).parents[1]
SCRIPT = ROOT / "train_market1501.py"
TIMEOUT_SECS = 120  # against hangs; nothing depends on how fast the machine is
STEP = re.compile(r"step (\d+)")
SMALL = (
    "--mode=train",
    "--network=tiny:Net",
    "--image_shape", "32", "16",
    "--batch_size=8",
    "--num_images_per_id=2",
    "--num_enqueue_threads=1",
    "--seed=1",
    "--log_every_n_steps=1",
)  # fmt: skip


def wait_until(is_true, what, timeout_secs=TIMEOUT_SECS):
    deadline = time.monotonic() + timeout_secs
    while not is_true():
        assert time.monotonic() < deadline, f"waited for {timeout_secs} s: {what}"
        time.sleep(0.05)


class Cluster:
    """The processes of a training; all are ended with the block.

    Parameters
    ----------
    folder : Path
        Of the test; the runs are below it.
    argv : sequence of str
        Of the training script.
    num_workers : int
        That train, the chief among them.
    num_servers : int
    run_id : str or None
    """

    def __init__(self, folder, argv, num_workers=2, num_servers=1, run_id="run"):
        self.folder = folder
        self.run_dir = folder / "train" / "run"
        self._argv = [*SMALL, f"--log_dir={folder / 'train'}", *argv]
        if run_id is not None:
            self._argv.append(f"--run_id={run_id}")
        counts = {"chief": 1, "worker": num_workers - 1, "ps": num_servers}
        numbers = iter(ports.find_free(sum(counts.values())))
        self.addresses = {
            role: [f"127.0.0.1:{next(numbers)}" for _ in range(count)]
            for role, count in counts.items()
        }
        self._processes = {}
        self._num_starts = {}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self._processes.values():
            if process.is_alive():
                process.kill()
            process.join()
        if error[0] is not None:
            for name in self._processes:
                sys.stderr.write(f"----- {name}\n{self.log(name)[-3000:]}\n")

    def start(self, *names, argv=()):
        """Start processes, such as "chief", "worker 0" and "ps 0"; without names, all.

        Parameters
        ----------
        *names : str
        argv : sequence of str
            Further arguments of these.
        """
        for name in names or self._list_names():
            role, _, index = name.partition(" ")
            task = {"type": role, "index": int(index or 0)}
            self._num_starts[name] = self._num_starts.get(name, 0) + 1
            self._processes[name] = processes.start_script(
                SCRIPT,
                [*self._argv, *argv],
                self.folder,
                [ROOT, ROOT / "tests"],
                self._log_path(name),
                TF_CONFIG=json.dumps({"cluster": self.addresses, "task": task}),
            )

    def kill(self, name, number=signal.SIGKILL):
        """Send a signal to a process, by default kill it."""
        os.kill(self._processes[name].pid, number)

    def is_running(self, name):
        return self._processes[name].is_alive()

    def join(self, *names, timeout_secs=TIMEOUT_SECS):
        """Wait for the ends of processes, without names of all; return their exit codes."""
        names = names or tuple(self._processes)
        for name in names:
            self._processes[name].join(timeout_secs)
            assert not self.is_running(name), f"{name} has not ended within {timeout_secs} s"
        return {name: self._processes[name].exitcode for name in names}

    def name_server(self, index):
        """Return how messages name a server."""
        return f"server {index} at {self.addresses['ps'][index]}"

    def log(self, name):
        """Return what a process has written since it was started last."""
        path = self._log_path(name)
        return path.read_text() if path.exists() else ""

    def step(self, name):
        """Return the last step in the log of a process; 0 before the first."""
        steps = STEP.findall("\n".join(re.findall(r" step \d+[,/]", self.log(name))))
        return int(steps[-1]) if steps else 0

    def wait_for_step(self, name, step):
        wait_until(
            lambda: self.step(name) >= step or not self.is_running(name), f"step {step} of {name}"
        )
        assert self.is_running(name), f"{name} has ended"

    def last_saved_step(self):
        text = (self.run_dir / "checkpoint").read_text()
        return int(re.match(r'model_checkpoint_path: "model.ckpt-(\d+)"', text)[1])

    def _list_names(self):
        names = [f"{role} {i}" for role, own in self.addresses.items() for i in range(len(own))]
        return ["chief" if name == "chief 0" else name for name in names]

    def _log_path(self, name):
        return self.folder / f"{name.replace(' ', '-')}-{self._num_starts[name]}.log"
