"""A small limit on the address space (``ulimit -v``) ends with one line, not with a signal."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from datasets import synthetic
from deep_reid.errors import RunError
from deep_reid.system import memory

resource = pytest.importorskip("resource")
ROOT = Path(__file__).parents[2]
MODES = ("train", "test", "export", "freeze", "finalize")
MEBIBYTE = 1 << 20


def needed(library):
    base, per_core = memory._NEEDS[library]
    return base + per_core * memory.count_cores()


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    synthetic.draw_folders(folder / "people", num_identities=4, images_per_identity=4)
    (folder / "model.ckpt-1.index").touch()
    return folder


def run_limited(work, mode, limit):
    argv = [f"--mode={mode}", "--dataset=people", "--log_dir=log"]
    argv += ["--num_validation=1", "--batch_size=8"] if mode == "train" else []
    argv += [] if mode == "train" else ["--restore_path=model.ckpt-1"]
    return subprocess.run(
        [sys.executable, str(ROOT / "train_custom.py"), *argv],
        cwd=work,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", range(15))
def test_any_limit_below_what_is_needed_is_named(work, number):
    mode = MODES[number % len(MODES)]
    top = needed("TensorFlow") if number % 2 else needed("NumPy with OpenCV")
    limit = random.Random(number).randrange(80 * MEBIBYTE, top)
    result = run_limited(work, mode, limit)
    assert result.returncode == 1, (mode, limit, result.stderr[-500:])
    last = result.stderr.splitlines()[-1]
    assert "there is not enough memory: this process may have" in last
    assert "raise the limit (ulimit -v)" in last
    assert "Traceback" not in result.stderr
    assert not (work / "log").exists()


@pytest.mark.parametrize("library", memory._NEEDS)
def test_the_limit_itself_is_enough_and_none_is_fine(library, monkeypatch):
    def limit_to(value):
        monkeypatch.setattr(memory.resource, "getrlimit", lambda kind: (value, value))

    for enough in (needed(library), resource.RLIM_INFINITY):
        limit_to(enough)
        memory.check_limit(library)
    limit_to(needed(library) - 1)
    with pytest.raises(RunError, match=f"{library} needs"):
        memory.check_limit(library)
    monkeypatch.setattr(memory, "resource", None)  # Windows
    memory.check_limit(library)
