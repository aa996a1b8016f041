"""What several tests of the command line need."""

import logging

import pytest

from datasets.custom import Custom
from deep_reid import cli


@pytest.fixture
def run(caplog):
    """Run train_custom.py in this process: check its exit code, return its log."""
    caplog.set_level(logging.INFO)

    def run(*argv, code=0):
        caplog.clear()
        assert cli.main(Custom, list(argv)) == code, caplog.text
        return caplog.text

    return run
