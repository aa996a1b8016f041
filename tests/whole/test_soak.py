"""A longer run: neither memory nor threads grow, in training and in evaluation."""

import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

HERE = pathlib.Path(__file__).parents[1]
NUM_STEPS = 2000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="needs /proc"),
]


def read_status(process):
    """Return resident memory in MB and the number of threads; None when the process has ended."""
    try:
        lines = pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = dict(line.split(":", 1) for line in lines)
    if "VmRSS" not in fields:
        return None
    return int(fields["VmRSS"].split()[0]) / 1024, int(fields["Threads"])


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.1)


def test_memory_is_flat_and_threads_are_constant_over_2000_steps(tmp_path, record_property):
    log_dir, eval_dir = tmp_path / "train", tmp_path / "eval"
    logs = [tmp_path / "train.log", tmp_path / "eval.log"]
    with open(logs[0], "w") as train_log, open(logs[1], "w") as eval_log:
        training = subprocess.Popen(
            [sys.executable, HERE / "training_process.py", log_dir, f"--steps={NUM_STEPS}",
             "--save_interval_secs=1", "--pause_secs=0.01"],
            stdout=train_log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        evaluation = subprocess.Popen(
            [sys.executable, HERE / "evaluation_process.py", log_dir, eval_dir, "--keep_best",
             "--timeout_secs=15"],
            stdout=eval_log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        wait_for(eval_dir / "run" / "metrics.jsonl", evaluation)
        time.sleep(3)  # what is loaded with the first step and the first evaluation is there by now
        samples = {"training": [], "evaluation": []}
        while f"step {NUM_STEPS}/" not in logs[0].read_text():
            assert training.poll() is None, logs[0].read_text()
            for name, process in (("training", training), ("evaluation", evaluation)):
                status = read_status(process)
                if status is not None:
                    samples[name].append(status)
            time.sleep(0.1)
        assert training.wait(timeout=60) == 0, logs[0].read_text()
        assert evaluation.wait(timeout=120) == 0, logs[1].read_text()
    assert len((eval_dir / "run" / "metrics.jsonl").read_text().splitlines()) >= 5
    for name, values in samples.items():
        memory, threads = np.array(values[:-2]).T  # the last ones may see the end
        quarter = len(memory) // 4
        assert quarter >= 20
        first, last = memory[:quarter].mean(), memory[-quarter:].mean()
        record_property(f"MB of {name}, first and last quarter", f"{first:.1f}, {last:.1f}")
        record_property(f"threads of {name}", f"{threads.min()} to {threads.max()}")
        assert last <= 1.05 * first, f"{name}: {first:.0f} MB to {last:.0f} MB"
        # Evaluation starts feed threads for each checkpoint, and ends them: a sample meets them by
        # chance. What stays in between is what is left of all evaluations before.
        assert threads[-quarter:].min() <= threads[:quarter].min(), name
        if name == "training":
            assert np.ptp(threads) == 0
