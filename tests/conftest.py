"""What several test modules need: golden values, drawn data, a graph of one's own."""

import os
import pathlib
import signal
import sys

import hypothesis
import numpy as np
import pytest

from datasets import synthetic

DATA_DIR = pathlib.Path(__file__).parent / "data"

# No test depends on how fast the machine is.
hypothesis.settings.register_profile("any-speed", deadline=None)
hypothesis.settings.load_profile("any-speed")

# Tests that call ONNX Runtime by themselves tell its maker nothing, either.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Who starts the tests in the background, with "&" or nohup, has them ignore these signals, and
# the processes that they start inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def reference():
    """Golden values of the original implementation."""
    with np.load(DATA_DIR / "reference.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture
def graph():
    """A graph of the test's own, as the default graph."""
    from deep_reid.compat import tf

    with tf.Graph().as_default() as graph:
        yield graph


@pytest.fixture(scope="session")
def drawn_market1501(tmp_path_factory):
    """A small drawn data set in the layout of Market-1501: 20 training identities."""
    directory = tmp_path_factory.mktemp("drawn") / "market1501"
    synthetic.draw_market1501(
        directory, num_identities=20, num_test_identities=4, num_cameras=2, images_per_camera=2
    )
    return directory


@pytest.fixture(scope="session")
def drawn_mars(tmp_path_factory):
    """A small drawn data set in the layout of MARS: 20 training identities."""
    directory = tmp_path_factory.mktemp("drawn") / "mars"
    synthetic.draw_mars(directory, num_identities=20, num_test_identities=4, num_cameras=2)
    return directory


@pytest.fixture
def write_module(tmp_path, monkeypatch):
    """Write modules into the working directory; they are forgotten at the end of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    known = set(sys.modules)
    yield lambda name, text: (tmp_path / name).write_text(text, encoding="utf-8")
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]
