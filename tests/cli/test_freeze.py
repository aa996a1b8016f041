"""``--mode=freeze`` in all formats, from the command line to the features of a client."""

import json
import logging
import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from exporting import is_installed

from datasets import synthetic
from datasets.custom import Custom
from deep_reid import cli
from deep_reid.errors import DataError
from deep_reid.export import formats
from deep_reid.export.encoder import Encoder

INSTALLED = [name for name in formats.FORMATS if is_installed(name)]
needs_export = pytest.mark.skipif("onnx" not in INSTALLED, reason="needs the extra export")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data, and with a run of 4 steps."""
    work = tmp_path_factory.mktemp("work")
    synthetic.draw_folders(work / "people", num_identities=8, images_per_identity=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        argv = ["--mode=train", "--dataset=people", "--log_dir=log", "--batch_size=8", "--seed=3",
                "--image_shape", "32", "16", "--num_validation=3", "--loss_mode=triplet",
                "--run_id=run", "--network=tiny:Net", "--number_of_steps=4"]  # fmt: skip
        assert cli.main(Custom, argv) == 0
        yield work


@pytest.fixture
def freeze(trained, tmp_path, monkeypatch, caplog):
    """Freeze the run: check the exit code, return the log."""
    monkeypatch.chdir(trained)
    caplog.set_level(logging.INFO)

    def freeze(*argv, code=0):
        caplog.clear()
        argv = ["--mode=freeze", "--log_dir=log", "--run_id=run", *map(str, argv)]
        assert cli.main(Custom, argv) == code, caplog.text
        return caplog.text

    return freeze


@pytest.fixture
def crops(trained):
    files = sorted((trained / "people").rglob("*.jpg"))[:6]
    return [cv2.imread(str(file)) for file in files]


@pytest.fixture
def expected(trained, crops):
    with Encoder(trained / "log" / "run") as encoder:
        return encoder(crops)


def encode(path, crops):
    with Encoder(path) as encoder:
        return encoder(crops)


def test_several_formats_at_once_with_a_table_and_manifests(freeze, tmp_path, crops, expected):
    log = freeze(f"--format={','.join(INSTALLED)}", f"--output={tmp_path / 'net.pb'}")
    for name in INSTALLED:
        path = tmp_path / f"net{formats.FORMATS[name].ending}"
        np.testing.assert_allclose(encode(path, crops), expected, atol=2e-5)
        manifest = json.loads(Path(f"{path}.manifest.json").read_text())
        assert (manifest["run"], manifest["step"]) == ("run", 4)
        assert manifest["parity"]["equal_nearest"] == 1.0
        assert manifest["parity"]["largest_difference"] < 1e-4
        assert f"Wrote {path} for " in log
        assert manifest["parity"]["protocol"] in log, "rank-1 is not that of a test"
        assert f"{path.name} " in log[log.index("Compared with the checkpoint") :]
    assert len(os.listdir(tmp_path)) == 2 * len(INSTALLED)


def test_without_output_all_formats_go_into_the_run_s_folder(freeze, trained):
    freeze(f"--format={','.join(INSTALLED)}")
    folder = trained / "log" / "run" / "export"
    for name in INSTALLED:
        assert (folder / f"custom{formats.FORMATS[name].ending}").exists()


@needs_export
def test_int8_is_calibrated_on_training_images_and_scored(freeze, tmp_path):
    output = tmp_path / "net.tflite"
    log = freeze(
        "--format=tflite",
        "--quantize=int8",
        "--calibration_images=7",
        f"--output={output}",
        "--precise_batch_norm=4",
    )
    assert "ranges of activations on 7 training images" in log
    parity = json.loads(Path(f"{output}.manifest.json").read_text())["parity"]
    assert parity["quantization"] == "int8"
    assert parity["num_images"] == 15  # of the three identities for validation
    assert 0 <= parity["scores_after"]["rank1"] <= 1
    assert set(parity["scores_before"]) == {"rank1", "mAP"}


def test_without_the_data_set_drawn_images_are_compared_but_int8_needs_it(
    freeze, trained, tmp_path
):
    shutil.move(trained / "people", trained / "moved")
    try:
        log = freeze(f"--output={tmp_path / 'net.pb'}")
        assert "random images are used" in log
        if "tflite" in INSTALLED:
            log = freeze("--format=tflite", "--quantize=int8", code=1)
            assert "people does not exist" in log
    finally:
        shutil.move(trained / "moved", trained / "people")


@needs_export
def test_a_format_that_fails_leaves_the_files_before_it_with_all_that_belongs_to_them(
    freeze, tmp_path, monkeypatch
):
    """Without its metadata, boxmot would send crops of another size to the first file."""

    def write(graph, path, quantization):
        raise DataError("the second format cannot be written")

    monkeypatch.setattr(formats.FORMATS["tflite"].module, "write", write)
    output = tmp_path / "net"
    log = freeze("--for=boxmot", "--format=onnx,tflite", f"--output={output}", code=1)
    assert "the second format cannot be written" in log
    assert re.search("net.onnx +[0-9]", log), "no figures"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"net.onnx", "net.onnx.manifest.json", "net.onnx.metadata.json"}


def test_a_folder_may_be_named_with_a_separator_at_its_end(freeze, tmp_path):
    log = freeze("--format=savedmodel", f"--output={tmp_path / 'net'}{os.sep}")
    assert {path.name for path in tmp_path.iterdir()} == {"net", "net.manifest.json"}
    assert re.search("INFO.* net +[0-9]", log), "the table has no name"
    assert Encoder(tmp_path / "net").feature_size > 0


@needs_export
@pytest.mark.parametrize("client", ["boxmot", "ultralytics", "opencv", "triton", "tf_serving"])
def test_for_a_client_says_how_it_is_used_there(freeze, trained, crops, expected, client):
    log = freeze(f"--for={client}")
    folder = trained / "log" / "run" / "export"
    place = {
        "boxmot": "custom_boxmot.onnx",
        "ultralytics": "custom_ultralytics.onnx",
        "opencv": "custom_opencv.onnx",
        "triton": "custom_triton/custom_triton/1/model.onnx",
        "tf_serving": "custom_tf_serving/1",
    }[client]
    np.testing.assert_allclose(encode(folder / place, crops), expected, atol=2e-5)
    last = log.strip().splitlines()[-1]
    assert "In " in last
    assert str(folder.relative_to(trained)) in last


@needs_export
def test_scores_of_each_format_are_those_of_the_checkpoint(
    freeze, trained, tmp_path, monkeypatch, capsys
):
    freeze(f"--format={','.join(INSTALLED)}", f"--output={tmp_path / 'net.pb'}")
    scores = []
    for flags in (["--run_id=run"], *(
        [f"--frozen_graph={tmp_path / 'net'}{formats.FORMATS[name].ending}"] for name in INSTALLED
    )):  # fmt: skip
        file = tmp_path / f"scores{len(scores)}.json"
        argv = ["--mode=test", "--log_dir=log", "--dataset=people", f"--metrics_file={file}"]
        assert cli.main(Custom, [*argv, *flags]) == 0
        metrics = json.loads(file.read_text())
        scores.append([metrics[name] for name in ("rank1", "mAP_standard")])
    np.testing.assert_allclose(scores, [scores[0]] * len(scores), atol=0.02)


class TestErrors:
    @pytest.mark.parametrize(
        ("argv", "message"),
        [
            (["--format=pb", "--quantize=int8"], "has no quantization int8: use --format="),
            (["--format=savedmodel,pb", "--quantize=bfloat16"], "has no quantization bfloat16"),
            (["--for=opencv", "--input=imagenet"], "--for=opencv needs --input=rgb01"),
            (["--for=boxmot", "--format=pb"], "--for=boxmot cannot read the format pb"),
            (["--for=triton", "--layout=nchw"], "--for=triton needs --layout=nhwc"),
            (["--output=net.onnx"], "--output=net.onnx must end in .pb"),
            (["--format=pb,savedmodel", "--output=new/"], "--output=new/ has no name of its own"),
            (["--format=pb", "--output=new/.pb"], "--output=new/.pb has no name of its own"),
            (["--for=tf_serving", "--output=.."], "--output=.. has no name of its own"),
            pytest.param(
                ["--for=triton", "--output=new/.onnx"],
                "--output=new/.onnx has no name of its own: add one, such as",
                marks=needs_export,
            ),
            pytest.param(
                ["--for=boxmot", "--output=net"],
                "--output=net must end in .onnx",
                marks=needs_export,
            ),
            (["--format=savedmodel", "--output=people"], "people exists and is no SavedModel"),
            (["--no_preprocess", "--format=onnx"], "leave --format or --no_preprocess out"),
            (["--no_preprocess", "--for=opencv"], "leave --for or --no_preprocess out"),
        ],
    )
    def test_settings_that_do_not_go_together(self, freeze, trained, argv, message):
        before = sorted(os.listdir(trained))
        log = freeze(*argv, code=2)
        assert message in log
        assert sorted(os.listdir(trained)) == before

    @pytest.mark.parametrize(
        ("argv", "meant"),
        [
            ("--format=onx", "onnx"),
            ("--format=pb,tflte", "tflite"),
            ("--for=boxmoot", "boxmot"),
            ("--quantize=int", "int8"),
            ("--layout=nhcw", "nhwc"),
        ],
    )
    def test_mistyped_values_are_answered_with_what_was_meant(self, argv, meant, capsys):
        with pytest.raises(SystemExit) as caught:
            cli.main(Custom, ["--mode=freeze", argv])
        assert caught.value.code == 2
        message = capsys.readouterr().err
        assert "is unknown: use one of" in message
        assert meant in message
