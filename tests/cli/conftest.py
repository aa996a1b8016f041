"""What several tests of the command line need."""

import logging

import pytest

from datasets import synthetic
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


@pytest.fixture(scope="session")
def people(tmp_path_factory):
    """Draw images of eight people, a folder for each."""
    folder = tmp_path_factory.mktemp("data") / "people"
    synthetic.draw_folders(folder, num_identities=8, images_per_identity=5)
    return folder


@pytest.fixture
def beside_people(people, tmp_path, monkeypatch):
    """Work in a new folder that holds nothing but the folder `people`."""
    (tmp_path / "people").symlink_to(people)
    monkeypatch.chdir(tmp_path)
    yield
    from tensorflow.python.framework.config import disable_op_determinism  # noqa: PLC0415

    disable_op_determinism()  # other tests of this process draw without seeds
