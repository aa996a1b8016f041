"""A run that is killed at any of its changes to the disk: nothing is lost, and nothing is left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "scenario, least",
    [
        ("begin", 40),
        ("write for the projector", 40),
        pytest.param("begin without a name", 40, marks=pytest.mark.long),
        pytest.param("go on", 120, marks=pytest.mark.long),
        pytest.param("keep the best", 60, marks=pytest.mark.long),
    ],
)
def test_each_change_to_the_disk(scenario, least, tmp_path):
    result = subprocess.run(
        [sys.executable, TESTS / "runs" / "kills_process.py", scenario, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"},
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    # Not just opening a run: all that the scenario does was met.
    assert len(result.stdout.splitlines()) >= least
