"""The study of recipes: its flags, its scores, and how it goes on where it was stopped."""

import json
import os

import pytest

from benchmarks.recipes import study, table
from benchmarks.recipes.configurations import CONFIGURATIONS
from datasets import synthetic
from datasets.custom import Custom
from deep_reid.cli import settings
from deep_reid.cli.arguments import ArgumentParser


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_each_configuration_has_flags_of_a_training(name):
    argv = ["--mode=train", "--dataset=people", "--number_of_steps=100", *CONFIGURATIONS[name]]
    args = ArgumentParser(Custom).parse_args(argv)
    settings.settle_training(args, Custom)


@pytest.fixture
def scores(tmp_path):
    """Write scores of a study that has not run."""

    def write(*rows):
        names = ("data", "configuration", "split", "seed", "steps", "step", "precise", "rank1")
        lines = [dict(zip(names, row, strict=True)) | {"mAP": 0.5, "seconds": 1} for row in rows]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / study.SCORES_FILENAME).write_text(text)
        return tmp_path

    return write


def test_the_table_has_means_spreads_and_the_first_step_as_good_as_faithful_s_last(scores, capsys):
    folder = scores(
        ("drawn", "faithful", 1, 1, 20, 10, 0, 0.2), ("drawn", "faithful", 1, 1, 20, 20, 0, 0.4),
        ("drawn", "faithful", 1, 2, 20, 10, 0, 0.2), ("drawn", "faithful", 1, 2, 20, 20, 0, 0.6),
        ("drawn", "strong", 1, 1, 40, 10, 0, 0.5), ("drawn", "strong", 1, 1, 40, 40, 0, 0.9),
        ("drawn", "strong", 1, 1, 10, 10, 5, 0.1),
    )  # fmt: skip
    table.main([str(folder), f"--plot={folder / 'plot.png'}"])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    assert rows == [
        "| faithful | 2 | 20 | 0.500 ± 0.141 | 0.500 ± 0.000 | 20 |",
        "| strong | 1 | 40 | 0.900 | 0.500 | 10 |",
        "| strong, batch norm set anew | 1 | 10 | 0.100 | 0.500 | - |",
    ]
    assert (folder / "plot.png").stat().st_size > 1000


def test_a_folder_without_scores_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        table.main([str(tmp_path), f"--plot={tmp_path / 'plot.png'}"])
    assert exit_.value.code == 2
    assert "has no scores" in capsys.readouterr().err


@pytest.mark.long
def test_a_study_scores_each_step_and_goes_on_where_it_was_stopped(tmp_path, monkeypatch, capsys):
    synthetic.draw_folders(tmp_path / "people", num_identities=8, images_per_identity=5)
    (tmp_path / "out" / "runs").mkdir(parents=True)
    (tmp_path / "out" / "runs" / "thesis.txt").write_text("precious")
    argv = [
        f"--dataset={tmp_path / 'people'}", f"--output={tmp_path / 'out'}", "--steps=4",
        "--score_every=2", "--seeds", "1", "--batch_size=8", "--image_shape", "32", "16",
        "--num_validation=3", "--precise_batch_norm", "0", "2", "--configurations",
    ]  # fmt: skip
    study.main([*argv, "faithful"])
    lines = study.read_scores(tmp_path / "out")
    assert [(line["step"], line["precise"]) for line in lines] == [(2, 0), (2, 2), (4, 0), (4, 2)]
    trained = []
    monkeypatch.setattr(study, "run", lambda *argv: trained.append(argv))
    study.main([*argv, "faithful"])
    assert not trained
    monkeypatch.setattr(study, "measure", lambda *args: trained.append(args) or [])
    study.main([*argv, "faithful", "--batch_size=12"])
    study.main([*argv, "faithful", "--image_shape", "64", "32"])
    assert len(trained) == 2, "another batch size or image size is another training"
    assert study.read_scores(tmp_path / "out") == lines
    assert sorted(os.listdir(tmp_path / "out")) == ["runs", study.SCORES_FILENAME]
    table.main([str(tmp_path / "out")])
    assert "| faithful, batch norm set anew | 1 | 4 |" in capsys.readouterr().out
