"""A run that is killed at any of its changes to the disk: nothing is lost, and nothing is left."""

from pathlib import Path

import processes
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
    script, output = TESTS / "runs" / "kills_process.py", tmp_path / "output.txt"
    (tmp_path / "folders").mkdir()
    argv = [scenario, str(tmp_path / "folders")]
    process = processes.start_script(script, argv, tmp_path, [TESTS.parent, TESTS], output)
    process.join(850)
    text = output.read_text()
    assert process.exitcode == 0, text[-3000:]
    # Not just opening a run: all that the scenario does was met.
    assert len([line for line in text.splitlines() if line.startswith("change ")]) >= least
