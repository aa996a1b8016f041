"""Exported networks in all formats: each gives the checkpoint's features in its own runtime.

The package's network is exported with its own settings and in each quantization; the tiny one where
input, file or error is the subject.
"""

import importlib.util
import json
import os
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import zipfile

import damage
import numpy as np
import processes
import pytest
import tiny
from exporting import (
    IMAGE_SHAPE,
    draw_crops,
    is_installed,
    resize,
    run_graph,
    save_run,
)

from deep_reid import export, nets, serve_bench
from deep_reid.compat import tf
from deep_reid.errors import DataError, MissingPathError, RunError, UsageError
from deep_reid.export import other_process
from deep_reid.export.convert import convert
from deep_reid.export.encoder import Encoder
from deep_reid.export.formats import FORMATS
from deep_reid.export.formats.onnx import OPSET
from deep_reid.export.model_input import KINDS, LAYOUTS, ModelInput
from deep_reid.export.parity import Samples
from deep_reid.nets import deep_sort

ROOT = pathlib.Path(__file__).parents[2]
ATOL = 2e-5
BGR_UINT8 = ModelInput(IMAGE_SHAPE)
TINY = tiny.Net()

INSTALLED = [name for name in FORMATS if is_installed(name)]


def first_and_long(first, *further):
    """List all formats, for tests in processes of their own: all but the first are long tests."""
    names = [*INSTALLED, *further]
    return [name if name == first else pytest.param(name, marks=pytest.mark.long) for name in names]


needs_all = pytest.mark.skipif(
    len(INSTALLED) < len(FORMATS), reason="needs the extras export and openvino"
)
OTHER_RUNTIMES = ["onnx", "tflite", "openvino"]
PAIRS = Samples(resize(draw_crops(12, seed=3)), np.repeat(np.arange(6), 2))


def path_of(folder, name):
    return str(folder / f"model{FORMATS[name].ending}")


def export_as(checkpoint, folder, names, model_input=BGR_UINT8, **settings):
    network = settings.pop("network", deep_sort)
    samples = settings.pop("samples", Samples(resize(draw_crops(12, seed=3))))
    paths = {name: path_of(folder, name) for name in names}
    compared = convert(
        settings.pop("preprocess_fn", network.preprocess),
        nets.create_inference_network(network),
        checkpoint,
        model_input,
        paths,
        samples,
        **settings,
    )
    return paths, compared


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("run"), recorded="deep_sort")


@pytest.fixture(scope="module")
def tiny_checkpoint(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("tiny_run"), TINY)


def encode_crops(network, checkpoint, crops):
    """Return crops, and their features with the network of a checkpoint, which nothing folds."""
    images = np.ascontiguousarray(resize(crops)[..., ::-1])
    factory = nets.create_inference_network(network)
    return crops, export.encode(network.preprocess, factory, checkpoint, images)


@pytest.fixture(scope="module")
def expected(checkpoint):
    return encode_crops(deep_sort, checkpoint, draw_crops(37))


@pytest.fixture(scope="module")
def tiny_expected(tiny_checkpoint):
    return encode_crops(TINY, tiny_checkpoint, draw_crops(37))


@pytest.fixture(scope="module")
def tiny_models(tiny_checkpoint, tmp_path_factory):
    """The tiny network in each format that can be written here."""
    folder = tmp_path_factory.mktemp("tiny_models")
    return export_as(tiny_checkpoint, folder, INSTALLED, network=TINY)[0]


@pytest.fixture(scope="module")
def models(checkpoint, tmp_path_factory):
    """A file or folder in each format that can be written here."""
    paths, _ = export_as(
        checkpoint,
        tmp_path_factory.mktemp("models"),
        INSTALLED,
        facts={"run": "r", "step": 7},
        samples=PAIRS,
    )
    return paths


def convert_by_hand(images, kind, layout):
    """What a client does before it calls a network, written without the package."""
    values = images
    if kind != "bgr_uint8":
        values = np.float32(images[:, :, :, [2, 1, 0]]) / 255
    if kind == "imagenet":
        for channel, (mean, stddev) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]):
            values[..., channel] = (values[..., channel] - mean) / stddev
    return np.ascontiguousarray(np.transpose(values, (0, 3, 1, 2)) if layout == "nchw" else values)


def run_pb(path, batch):
    return run_graph(path, batch)


def run_savedmodel(path, batch):
    with tf.Graph().as_default(), tf.Session() as session:
        loaded = tf.saved_model.load(session, ["serve"], path)
        signature = loaded.signature_def["serving_default"]
        return session.run(
            signature.outputs["features"].name, {signature.inputs["images"].name: batch}
        )


def run_onnx(path, batch):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["features"], {"images": batch})[0]


def run_tflite(path, batch):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], batch.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], batch)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def run_openvino(path, batch):
    import openvino

    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(os.path.join(path, "model.xml"), "CPU", hint)
    return model({"images": batch})["features"]


RUN = {name: globals()[f"run_{name}"] for name in FORMATS}


def preprocess_one(image, is_training=False):
    """Take one image, and nothing else: it stays in a loop."""
    assert image.get_shape().ndims == 3
    return tiny.preprocess(image, is_training)


def scale(image, is_training=False):
    """Take an image or a batch, without telling so."""
    del is_training
    return tf.cast(image, tf.float32) / 255.0


def scale_integers(image, is_training=False):
    """Scale uint8; images of another type stay in [0, 255]."""
    del is_training
    return tf.image.convert_image_dtype(image, tf.float32)


def check_input(network, checkpoint, expected, folder, kind, layout):
    crops, features = expected
    model_input = ModelInput(IMAGE_SHAPE, kind, layout)
    paths, compared = export_as(checkpoint, folder, INSTALLED, model_input, network=network)
    batch = convert_by_hand(resize(crops), kind, layout)
    for name, path in paths.items():
        np.testing.assert_allclose(RUN[name](path, batch), features, atol=ATOL, err_msg=name)
        with Encoder(path) as encoder:
            np.testing.assert_allclose(encoder(crops), features, atol=ATOL, err_msg=name)
        assert compared[name].largest_difference < ATOL
        assert compared[name].equal_nearest == 1.0


class TestFeatures:
    @pytest.mark.parametrize("name", FORMATS)
    def test_are_those_of_the_checkpoint(self, models, expected, name):
        if name not in models:
            pytest.skip("its packages are not installed")
        crops, features = expected
        with Encoder(models[name]) as encoder:
            assert encoder.image_shape == IMAGE_SHAPE
            assert encoder.feature_size == 128
            for count in (1, 37, 2):
                np.testing.assert_allclose(encoder(crops[:count]), features[:count], atol=ATOL)
            assert encoder([]).shape == (0, 128)

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("kind", KINDS)
    def test_for_each_input_are_those_of_a_client_without_the_package(
        self, tiny_checkpoint, tiny_expected, tmp_path, kind, layout
    ):
        check_input(TINY, tiny_checkpoint, tiny_expected, tmp_path, kind, layout)

    def test_of_the_package_s_network_are_those_of_such_a_client(
        self, models, checkpoint, expected, tmp_path
    ):
        crops, features = expected
        for name, path in models.items():
            found = RUN[name](path, resize(crops))
            np.testing.assert_allclose(found, features, atol=ATOL, err_msg=name)
        check_input(deep_sort, checkpoint, expected, tmp_path, "imagenet", "nchw")

    def test_of_gray_images(self, tmp_path):
        shape = (32, 16, 1)
        checkpoint = save_run(tmp_path, TINY, image_shape=shape)
        crops = draw_crops(5, num_channels=1)
        images = resize(crops, shape)[..., np.newaxis]
        factory = nets.create_inference_network(TINY)
        features = export.encode(TINY.preprocess, factory, checkpoint, images)
        for kind in ("bgr_uint8", "rgb01"):
            (tmp_path / kind).mkdir()
            paths, _ = export_as(
                checkpoint, tmp_path / kind, INSTALLED, ModelInput(shape, kind),
                samples=Samples(images), network=TINY,
            )  # fmt: skip
            for path in paths.values():
                with Encoder(path) as encoder:
                    np.testing.assert_allclose(encoder(crops), features, atol=ATOL)

    def test_of_a_network_that_preprocesses_image_by_image(
        self, tiny_checkpoint, tiny_expected, tmp_path
    ):
        crops, features = tiny_expected
        settings = {"network": TINY, "preprocess_fn": scale}
        paths, _ = export_as(tiny_checkpoint, tmp_path, INSTALLED, **settings)
        for path in paths.values():
            with Encoder(path) as encoder:
                np.testing.assert_allclose(encoder(crops), features, atol=ATOL)
        settings["preprocess_fn"] = preprocess_one
        paths, _ = export_as(tiny_checkpoint, tmp_path, ["pb"], **settings)
        with Encoder(paths["pb"]) as encoder:
            np.testing.assert_allclose(encoder(crops), features, atol=ATOL)

    @pytest.mark.parametrize("name", OTHER_RUNTIMES)
    def test_in_int8_are_close(self, checkpoint, expected, tmp_path, name):
        if not is_installed(name, "int8"):
            pytest.skip("its packages are not installed")
        crops, features = expected
        paths, compared = export_as(
            checkpoint, tmp_path, [name],
            quantization="int8", calibration_images=resize(draw_crops(64, seed=9)),
        )  # fmt: skip
        with Encoder(paths[name]) as encoder:
            quantized = encoder(crops)
        cosines = np.sum(quantized * features, axis=1)
        assert 0.9 < cosines.min() < 1 - 1e-6
        np.testing.assert_allclose(np.linalg.norm(quantized, axis=1), 1.0, atol=1e-5)
        assert compared[name].quantization == "int8"

    @pytest.mark.skipif("openvino" not in INSTALLED, reason="openvino is not installed")
    def test_in_bfloat16_are_close(self, checkpoint, expected, tmp_path):
        crops, features = expected
        paths, _ = export_as(checkpoint, tmp_path, ["openvino"], quantization="bfloat16")
        with Encoder(paths["openvino"]) as encoder:
            assert np.sum(encoder(crops) * features, axis=1).min() > 0.99


class TestFiles:
    @pytest.mark.skipif("onnx" not in INSTALLED, reason="onnx is not installed")
    def test_onnx_states_names_batch_and_opset(self, models):
        import onnx

        model = onnx.load(models["onnx"])
        onnx.checker.check_model(model, full_check=True)
        assert [one.name for one in model.graph.input] == ["images"]
        assert [one.name for one in model.graph.output] == ["features"]
        for one in (*model.graph.input, *model.graph.output):
            assert one.type.tensor_type.shape.dim[0].dim_param == "batch"
        assert {one.domain: one.version for one in model.opset_import}[""] == OPSET

    @pytest.mark.parametrize("name", INSTALLED)
    def test_tell_about_themselves(self, models, name, checkpoint):
        path = models[name]
        if name == "pb":
            graph_def = tf.GraphDef.FromString(pathlib.Path(path).read_bytes())
            (images,) = [node for node in graph_def.node if node.name == "images"]
            text = images.attr["_deep_reid"].s
        elif name == "savedmodel":
            text = pathlib.Path(path, "assets.extra", "deep_reid.json").read_text()
        elif name == "onnx":
            import onnx

            (text,) = [p.value for p in onnx.load(path).metadata_props if p.key == "deep_reid"]
        elif name == "tflite":
            text = zipfile.ZipFile(path).read("metadata.json")
        else:
            import openvino

            model = openvino.Core().read_model(os.path.join(path, "model.xml"))
            text = model.get_rt_info(["deep_reid"]).astype(str)
        facts = json.loads(text)
        assert facts["image_shape"] == list(IMAGE_SHAPE)
        assert (facts["input"], facts["layout"]) == ("bgr_uint8", "nhwc")
        assert (facts["run"], facts["step"]) == ("r", 7)
        assert facts["feature_size"] == 128
        with Encoder(checkpoint) as encoder:
            assert facts["scores"] == PAIRS.score(encoder(PAIRS.images))
        assert 0 < facts["scores"]["mAP"] < 1

    @pytest.mark.parametrize("name", INSTALLED)
    @pytest.mark.parametrize(
        "factors",
        [(2, 1), (1, 2), (2, 2), (0.5, 2), (4, 0.5), (0.5, 1), (1 / 16, 1 / 8), (1, 1 / 8)],
    )
    def test_images_of_another_size_fail(self, models, name, factors):
        height, width = (
            int(factor * size) for factor, size in zip(factors, IMAGE_SHAPE, strict=False)
        )
        batch = np.zeros((4, height, width, 3), np.uint8)
        with pytest.raises(Exception, match=r"(?i)shape|dimension|size"):
            RUN[name](models[name], batch)

    def test_a_folder_that_is_no_model_is_never_replaced(self, checkpoint, tmp_path):
        folder = pathlib.Path(path_of(tmp_path, "savedmodel"))
        folder.mkdir()
        (folder / "thesis.txt").write_text("precious")
        with pytest.raises(UsageError, match="exists and is no SavedModel"):
            export_as(checkpoint, tmp_path, ["pb", "savedmodel"])
        assert (folder / "thesis.txt").read_text() == "precious"
        assert os.listdir(tmp_path) == [folder.name]

    def test_an_earlier_model_is_replaced(self, tiny_checkpoint, tiny_expected, tmp_path):
        crops, features = tiny_expected
        for _ in range(2):
            paths, _ = export_as(tiny_checkpoint, tmp_path, INSTALLED, network=TINY)
        assert len(os.listdir(tmp_path)) == len(INSTALLED)
        for path in paths.values():
            with Encoder(path) as encoder:
                np.testing.assert_allclose(encoder(crops), features, atol=ATOL)


class TestParity:
    def test_a_file_with_other_features_is_not_kept(self, tiny_checkpoint, tmp_path):
        model_input = ModelInput(IMAGE_SHAPE, "rgb01")
        settings = {"network": TINY, "preprocess_fn": scale_integers}
        for name in INSTALLED:
            with pytest.raises(DataError, match=r"was not kept: of 12 images, .* (cosine|diff)"):
                export_as(tiny_checkpoint, tmp_path, [name], model_input, **settings)
            assert os.listdir(tmp_path) == []

    def test_scores_before_and_after(self, tiny_checkpoint, tmp_path):
        images = resize(draw_crops(8))
        labels = np.arange(8) // 2
        settings = {"network": TINY, "samples": Samples(images, labels)}
        _, compared = export_as(tiny_checkpoint, tmp_path, ["pb"], **settings)
        features = Encoder(path_of(tmp_path, "pb"))(list(images))
        distances = 1 - features @ features.T
        np.fill_diagonal(distances, np.inf)
        rank1 = np.mean(labels[distances.argmin(axis=1)] == labels)
        assert (
            compared["pb"].scores_before["rank1"] == compared["pb"].scores_after["rank1"] == rank1
        )


class TestErrors:
    def test_int8_without_images(self, checkpoint, tmp_path):
        for name in set(OTHER_RUNTIMES) & set(INSTALLED):
            with pytest.raises(UsageError, match="int8 needs images"):
                export_as(checkpoint, tmp_path, [name], quantization="int8")

    @pytest.mark.parametrize("name", FORMATS)
    @pytest.mark.parametrize("quantization", ["int8", "bfloat16"])
    def test_quantizations_that_a_format_has_not(self, checkpoint, tmp_path, name, quantization):
        if quantization in FORMATS[name].quantizations:
            return
        with pytest.raises(UsageError, match=f"{name} has no quantization {quantization}: use"):
            export_as(checkpoint, tmp_path, [name], quantization=quantization)

    @pytest.mark.parametrize("name", OTHER_RUNTIMES)
    def test_missing_packages_are_named_with_what_installs_them(
        self, checkpoint, tmp_path, monkeypatch, name
    ):
        packages = {**FORMATS[name].to_write, **FORMATS[name].to_read}
        for package, extra in packages.items():
            monkeypatch.setattr(  # all others seem to be installed
                importlib.util, "find_spec",
                lambda asked, package=package: None if asked == package else object(),
            )  # fmt: skip
            with pytest.raises(UsageError) as caught:
                export_as(checkpoint, tmp_path, [name])
            shown = package.replace("ai_edge_litert", "ai-edge-litert")
            assert f"needs {shown}: pip install {shown} (in a clone: " in str(caught.value)
            assert f"pip install -e '.[{extra}]')" in str(caught.value)
            assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize("name", FORMATS)
    def test_a_file_that_does_not_exist(self, tmp_path, name):
        with pytest.raises(MissingPathError):
            Encoder(path_of(tmp_path, name))

    @pytest.mark.parametrize("name", INSTALLED)
    def test_a_file_of_another_kind(self, tmp_path, name):
        known = FORMATS[name]
        for content in (b"", b"\0" * 500, b"<?xml version='1.0'?><net/>", os.urandom(900)):
            path = pathlib.Path(path_of(tmp_path, name))
            if known.is_folder:
                path.mkdir(exist_ok=True)
                file = path / ("saved_model.pb" if name == "savedmodel" else "model.xml")
                (path / "model.bin").write_bytes(content)
            else:
                file = path
            file.write_bytes(content)
            with pytest.raises(DataError):
                Encoder(path)

    @pytest.mark.parametrize("name", INSTALLED)
    def test_damaged_files_give_an_error_or_features(self, tiny_models, tmp_path, name):
        """In a process of its own, which must end by itself: runtimes are native code."""
        source = pathlib.Path(tiny_models[name])
        if source.is_dir():
            source = source / ("saved_model.pb" if name == "savedmodel" else "model.xml")
        arguments = str(source), tiny_models[name], str(tmp_path)
        outcomes = processes.call(damage.load_damaged, *arguments)
        assert len(outcomes) == 24
        assert len(set(outcomes)) > 1

    @pytest.mark.skipif("openvino" not in INSTALLED, reason="openvino is not installed")
    def test_openvino_s_reason_is_told_and_not_a_place_in_its_source(self, tiny_models, tmp_path):
        shutil.copytree(tiny_models["openvino"], tmp_path / "net")
        (tmp_path / "net" / "model.bin").unlink()
        with pytest.raises(DataError, match=r"\(.*bin file.*\)") as caught:
            Encoder(tmp_path / "net")
        assert "src/" not in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_changed_numbers_of_a_graph_give_an_error_or_features(self, tiny_models, tmp_path):
        outcomes = processes.call(damage.load_changed, tiny_models["pb"], str(tmp_path))
        changed = " ".join(name for name, _ in outcomes)
        assert all(word in changed for word in ("[strides]", "tensor_shape", "dtype", "shape.dim"))
        assert "features" in outcomes.values()
        refused = [outcome for outcome in outcomes.values() if outcome != "features"]
        assert len(refused) > len(outcomes) / 4


class TestServeBench:
    def test_times_models_of_all_formats(self, tiny_models, capsys):
        paths = list(tiny_models.values())
        assert serve_bench.main([*paths, "--num_crops", "1", "3", "--seconds", "0.01"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split() == ["model", "runtime", "1", "crops", "3", "crops"]
        assert [line.split()[0] for line in lines[1 : 1 + len(paths)]] == paths
        assert "1.00 x" in lines[1]
        assert lines[-1].rpartition(": ")[2] in paths

    def test_a_model_that_cannot_be_used_is_named(self, tiny_models, tmp_path, caplog):
        damaged = tmp_path / "damaged.pb"
        damaged.write_bytes(b"nothing")
        assert serve_bench.main([tiny_models["pb"], str(damaged)]) == 1
        assert str(damaged) in caplog.text

    def test_usage(self, capsys):
        for argv in ([], ["model.pb", "--num_crops", "0"], ["model.pb", "--num_crop=1"]):
            with pytest.raises(SystemExit) as caught:
                serve_bench.main(argv)
            assert caught.value.code == 2
            assert "serve_bench" in capsys.readouterr().err


LIGHT = """
import sys, time
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"tensorflow", "tf_keras", "tf_slim", "scipy", "PIL"}:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
import numpy as np
from deep_reid import Encoder
with Encoder(sys.argv[1]) as encoder:
    np.save(sys.argv[2], encoder(list(np.load(sys.argv[3]))))
"""


class TestProcesses:
    @pytest.mark.parametrize("name", OTHER_RUNTIMES)
    def test_encoding_needs_no_tensorflow(self, models, expected, tmp_path, name):
        if name not in models:
            pytest.skip("its packages are not installed")
        crops, features = expected
        np.save(tmp_path / "crops.npy", resize(crops))
        files = models[name], tmp_path / "out.npy", tmp_path / "crops.npy"
        subprocess.run(
            [sys.executable, "-c", LIGHT, *files],
            check=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        np.testing.assert_allclose(np.load(tmp_path / "out.npy"), features, atol=ATOL)

    @pytest.mark.parametrize("name", INSTALLED)
    def test_a_pickled_encoder_is_loaded_anew(self, models, expected, name):
        crops, features = expected
        with Encoder(models[name]) as encoder, pickle.loads(pickle.dumps(encoder)) as copy:
            np.testing.assert_allclose(copy(crops), features, atol=ATOL)

    @pytest.mark.parametrize("name", INSTALLED)
    def test_the_working_directory_may_change_before_the_first_call(
        self, models, expected, name, monkeypatch
    ):
        crops, features = expected
        monkeypatch.chdir(os.path.dirname(models[name]))
        with Encoder(os.path.basename(models[name])) as encoder:
            monkeypatch.chdir("/")
            np.testing.assert_allclose(encoder(crops), features, atol=ATOL)

    @pytest.mark.parametrize("has_computed", [False, True])
    @pytest.mark.parametrize("name", first_and_long("onnx", "checkpoint"))
    def test_in_a_forked_process_an_encoder_gives_the_same_features(
        self, models, checkpoint, name, has_computed
    ):
        """A checkpoint's has computed when it is made."""
        path = models.get(name, checkpoint)
        process = subprocess.run(
            [sys.executable, "-c", FORK, path, str(int(has_computed))],
            capture_output=True, text=True, check=True, timeout=300,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert process.stdout.split() == ["True"] * 3 + ["0"]

    def test_the_process_that_computes_for_a_forked_one_may_die(self, models):
        process = other_process.load(models["pb"], {})
        compute, close = process.launch()
        batch = np.zeros((2, *IMAGE_SHAPE), np.uint8)
        assert compute(batch).shape == (2, 128)
        (child,) = pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()[-1:]
        os.kill(int(child), signal.SIGKILL)
        with pytest.raises(RunError, match="has ended: load it again"):
            compute(batch)
        close()

    def test_errors_of_the_process_that_computes_are_its_own(self, tmp_path):
        with pytest.raises(MissingPathError, match="missing.pb does not exist"):
            other_process.load(str(tmp_path / "missing.pb"), {})

    @pytest.mark.parametrize("name", first_and_long("openvino"))
    def test_a_forked_process_may_free_an_encoder_that_its_parent_computes_with(
        self, models, expected, tmp_path, name
    ):
        """OpenVINO and TensorFlow would wait for ever for threads that only the parent has."""
        crops, features = expected
        np.save(tmp_path / "crops.npy", resize(crops))
        process = subprocess.run(
            [sys.executable, "-c", FORK_AND_FREE, models[name], tmp_path / "crops.npy"],
            capture_output=True, text=True, check=True, timeout=300,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert process.stdout.splitlines() == ["freed", "0", "True"]


class TestTelemetry:
    """The runtimes' makers are told nothing, and nothing is written into the home folder."""

    @pytest.mark.parametrize("name", [name for name in ("onnx", "openvino") if name in INSTALLED])
    def test_nothing_is_sent_when_a_network_computes(self, models, tmp_path, name):
        code = """
            import sys
            import numpy as np
            from deep_reid import Encoder
            Encoder(sys.argv[1])(np.zeros((2, 40, 20, 3), np.uint8))
        """
        assert run_without_settings(code, tmp_path, models[name]) == []

    @pytest.mark.skipif("openvino" not in INSTALLED, reason="OpenVINO is in an extra")
    def test_nothing_is_sent_when_a_network_is_quantized(self, tiny_checkpoint, tmp_path):
        # NNCF tells nothing where pytest is imported, also without the package's doing.
        code = """
            import sys
            import numpy as np
            import tiny
            from deep_reid import nets
            from deep_reid.export.convert import convert
            from deep_reid.export.model_input import ModelInput
            from deep_reid.export.parity import Samples
            assert "pytest" not in sys.modules
            network = tiny.Net()
            images = np.random.default_rng(1).integers(0, 256, (8, *tiny.IMAGE_SHAPE), np.uint8)
            convert(
                network.preprocess,
                nets.create_inference_network(network),
                sys.argv[1],
                ModelInput(tiny.IMAGE_SHAPE),
                {"onnx": sys.argv[2] + "/a.onnx", "openvino": sys.argv[2] + "/b_openvino_model"},
                Samples(images),
                quantization="int8",
                calibration_images=images,
            )
        """
        files = run_without_settings(code, tmp_path / "home", tiny_checkpoint, tmp_path)
        assert files == []


def run_without_settings(code, home, *argv):
    """Run code where the user has set nothing; return the files that it leaves in `home`."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ORT_", "NNCF_", "XDG_", "CI"))
    }
    folders = [str(ROOT), str(ROOT / "tests")]
    environment |= {"PYTHONPATH": os.pathsep.join(folders), "HOME": str(home)}
    argv = [sys.executable, "-c", textwrap.dedent(code), *argv]
    home.mkdir(exist_ok=True)
    subprocess.run(argv, env=environment, check=True, timeout=300)
    # Keras writes its own settings, and tells nothing.
    return [str(path) for path in home.rglob("*") if path.is_file() and path.name != "keras.json"]


FORK_AND_FREE = """
import os, signal, sys
import numpy as np
from deep_reid import Encoder
crops = np.load(sys.argv[2])
encoder = Encoder(sys.argv[1])
before = encoder(crops)
child = os.fork()
if child == 0:
    signal.alarm(60)
    del encoder
    print("freed", flush=True)
    os._exit(0)
print(os.waitpid(child, 0)[1])
print(np.array_equal(encoder(crops), before))
"""

# Prints whether features are the same in a child, for a new encoder there, and in its child.
FORK = """
import os, signal, sys
import numpy as np
from deep_reid import Encoder
crops = [np.full((40, 20, 3), value, np.uint8) for value in (0, 90, 200)]

def call(encoder):
    lengths = np.linalg.norm(encoder(crops), axis=1)
    is_same = expected is None or np.allclose(encoder(crops), expected, atol=1e-6)
    print(bool(is_same and np.allclose(lengths, 1, atol=1e-4)), flush=True)

with Encoder(sys.argv[1]) as encoder:
    expected = encoder(crops) if sys.argv[2] == "1" else None
    child = os.fork()
    if child == 0:
        signal.alarm(120)
        call(encoder)
        with Encoder(sys.argv[1]) as another:
            call(another)
        grandchild = os.fork()
        if grandchild == 0:
            call(encoder)
            encoder.close()
            os._exit(0)
        os.waitpid(grandchild, 0)
        encoder.close()
        os._exit(0)
    print(os.waitpid(child, 0)[1])
"""
