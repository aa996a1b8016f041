"""What `--for` writes is read by the real programs, which get the checkpoint's features from it."""

import ast
import importlib.util
import json
import os
import pathlib
import shlex
import subprocess
import sys

import cv2
import numpy as np
import processes
import pytest
import tiny
from exporting import draw_crops, is_installed, resize, save_run

from deep_reid import nets
from deep_reid.errors import UsageError
from deep_reid.export.clients import CLIENTS
from deep_reid.export.convert import convert
from deep_reid.export.encoder import Encoder
from deep_reid.export.formats import FORMATS
from deep_reid.export.model_input import ModelInput
from deep_reid.export.parity import Samples
from deep_reid.nets import deep_sort

ROOT = pathlib.Path(__file__).parents[2]
# Not that of any other network, nor square: a client that assumes a size is found.
SHAPE = (96, 48, 3)
ATOL = 2e-5
TORCH = "torch==2.13.0+cpu"


class Written:
    """Crops of the network's size, their features, and what clients read, in a folder.

    Parameters
    ----------
    folder : pathlib.Path
    network : deep_reid.interfaces.Network
    name : str
        Of the network, as ``--network`` takes it.
    """

    def __init__(self, folder, network, name):
        self.folder, self._network, self._clients = folder, network, set()
        (folder / "run").mkdir()
        self._checkpoint = save_run(folder / "run", network, SHAPE, recorded=name)
        self.crops = resize(draw_crops(9), SHAPE)
        with Encoder(self._checkpoint) as encoder:
            self.features = encoder(list(self.crops))
        np.save(folder / "crops.npy", self.crops)
        np.save(folder / "features.npy", self.features)

    def write(self, *clients):
        """Write what clients read, unless it is there; returns the folder."""
        for client in [CLIENTS[name] for name in clients if name not in self._clients]:
            self._clients.add(client.name)
            self._write(client)
        return self.folder

    def _write(self, client):
        paths = {
            name: client.place(str(self.folder / f"{client.name}{FORMATS[name].ending}"))
            for name in client.formats
            if is_installed(name)
        }
        convert(
            self._network.preprocess,
            nets.create_inference_network(self._network),
            self._checkpoint,
            ModelInput(SHAPE, client.kind, client.layout),
            paths,
            Samples(self.crops),
            on_written=lambda name, model, _: client.write_beside(paths[name], model),
        )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The package's network."""
    return Written(tmp_path_factory.mktemp("clients"), deep_sort, "deep_sort")


@pytest.fixture(scope="module")
def tiny_written(tmp_path_factory):
    """The tiny network, for what stands beside it."""
    return Written(tmp_path_factory.mktemp("tiny_clients"), tiny.Net(), "tiny:Net")


needs_onnx = pytest.mark.skipif(not is_installed("onnx"), reason="needs the extra export")


class TestSettings:
    @pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
    def test_that_a_client_cannot_read_are_refused(self, client):
        given = {"input": None, "layout": None, "format": None}
        client.check(given)
        client.check({"input": client.kind, "layout": client.layout, "format": client.formats})
        for name, values in (
            ("input", {"bgr_uint8", "rgb01", "imagenet"} - {client.kind}),
            ("layout", {"nhwc", "nchw"} - {client.layout}),
        ):
            for value in values:
                with pytest.raises(UsageError, match=f"--for={client.name} needs --{name}="):
                    client.check({**given, name: value})
        for value in set(FORMATS) - set(client.formats):
            with pytest.raises(UsageError, match=f"cannot read the format {value}: use --format="):
                client.check({**given, "format": (value,)})

    @pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
    def test_the_line_of_use_names_the_file(self, client):
        model_input = ModelInput(SHAPE, client.kind, client.layout)
        path = os.path.join(os.sep, "out", "people", "1", "model.onnx")
        line = client.describe_usage(path, model_input)
        assert "{" not in line.replace("{path}", "")
        assert any(part in line for part in (path, "/out/people/1", "=/out"))

    @pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
    def test_the_line_of_use_works_for_a_path_with_spaces_and_quotes(self, client):
        model_input = ModelInput(SHAPE, client.kind, client.layout)
        folder = os.path.join(os.sep, "our people's", "net", "1")
        path = os.path.join(folder, "model.onnx")
        line = client.describe_usage(path, model_input)
        if client.name == "opencv":  # a line of Python
            (call, *_) = ast.parse(line).body
            assert [argument.value for argument in call.value.args] == [path]
        elif client.name == "ultralytics":  # a value in YAML; a shell's quotes of this path differ
            assert client.describe_usage("/our net.onnx", model_input).count("'/our net.onnx'") == 1
        else:
            words = [word.partition("=")[2] or word for word in shlex.split(line)]
            assert {path, folder, os.path.dirname(os.path.dirname(folder))} & set(words)


@needs_onnx
class TestFiles:
    def test_boxmot_s_metadata(self, tiny_written):
        folder = tiny_written.write("boxmot")
        names = ["boxmot.onnx.metadata.json", "boxmot.tflite.metadata.json"]
        if is_installed("openvino"):
            names.append("boxmot_openvino_model/manifest.json")
        for name in names:
            metadata = json.loads((folder / name).read_text())
            assert metadata["schema_version"] == 1
            assert metadata["model_kwargs"] == {"img_size": [96, 48]}

    def test_triton_s_repository(self, tiny_written):
        folder = tiny_written.write("triton")
        repository = folder / "triton"
        text = (repository / "triton" / "config.pbtxt").read_text()
        assert 'name: "triton"' in text
        assert "dims: [96, 48, 3]" in text
        assert f"dims: [{tiny_written.features.shape[1]}]" in text
        assert (repository / "triton" / "1" / "model.onnx").is_file()
        assert os.listdir(repository) == ["triton"]  # Triton takes each folder for a model


@needs_onnx
class TestOpenCV:
    def test_reads_its_network(self, written):
        folder, crops, features = written.write("opencv"), written.crops, written.features
        network = cv2.dnn.readNetFromONNX(str(folder / "opencv.onnx"))
        for count in (9, 1, 4):
            blob = cv2.dnn.blobFromImages(list(crops[:count]), 1 / 255, (48, 96), swapRB=True)
            network.setInput(blob)
            np.testing.assert_allclose(network.forward(), features[:count], atol=ATOL)


OPENCV = """
import sys, cv2, numpy as np
folder = sys.argv[1]
crops, features = (np.load(f"{folder}/{name}.npy") for name in ("crops", "features"))
network = cv2.dnn.readNetFromONNX(f"{folder}/opencv.onnx")
network.setInput(cv2.dnn.blobFromImages(list(crops), 1 / 255, (48, 96), swapRB=True))
assert cv2.__version__.startswith("4."), cv2.__version__
print(abs(network.forward() - features).max())
"""

LITERT = """
import sys, time, importlib.metadata, numpy as np
installed = {d.name.lower() for d in importlib.metadata.distributions()}
assert not installed & {"tensorflow", "scipy", "onnx", "openvino", "pillow"}, installed
import deep_reid
folder = sys.argv[1]
crops, features = (np.load(f"{folder}/{name}.npy") for name in ("crops", "features"))
with deep_reid.Encoder(sys.argv[2]) as encoder:
    print(abs(encoder(list(crops)) - features).max())
"""

BOXMOT = """
import sys, pathlib, numpy as np, torch
from boxmot.reid.backends.registry import get_backend_class
folder = pathlib.Path(sys.argv[1])
crops, features = (np.load(folder / f"{name}.npy") for name in ("crops", "features"))
frame = np.concatenate(list(crops), axis=1)
boxes = np.array([[48 * i, 0, 48 * i + 48, 96] for i in range(len(crops))], np.float32)
differences = []
for name, file in (
    ("onnx", "boxmot.onnx"), ("openvino", "boxmot_openvino_model"), ("tflite", "boxmot.tflite")
):
    backend = get_backend_class(name)(folder / file, torch.device("cpu"), False)
    differences.append(abs(backend.get_features(boxes, frame) - features).max())
print(max(differences))
"""

ULTRALYTICS = """
import sys, numpy as np
from ultralytics.trackers.utils.reid import ReID
folder = sys.argv[1]
crops, features = (np.load(f"{folder}/{name}.npy") for name in ("crops", "features"))
reid = ReID(f"{folder}/ultralytics.onnx", device="cpu")
assert tuple(reid.imgsz) == (96, 48), reid.imgsz
found = np.asarray(reid.model(reid._crops_to_tensor(list(crops))))
print(abs(found - features).max())
"""

DEEP_SORT_REALTIME = """
import sys, numpy as np
from deep_sort_realtime.deepsort_tracker import DeepSort
import deep_reid
folder = sys.argv[1]
crops, features = (np.load(f"{folder}/{name}.npy") for name in ("crops", "features"))
with deep_reid.Encoder(sys.argv[2]) as encoder:
    embeds = encoder(list(crops))
tracker = DeepSort(embedder=None, n_init=1)
boxes = [([60 * i, 10, 40, 90], 0.9, "person") for i in range(len(crops))]
for _ in range(3):
    tracks = tracker.update_tracks(boxes, embeds=embeds)
assert len([t for t in tracks if t.is_confirmed()]) == len(crops)
print(abs(embeds - features).max())
"""

NORFAIR = """
import sys, numpy as np
from norfair import Detection, Tracker
import deep_reid
folder = sys.argv[1]
crops, features = (np.load(f"{folder}/{name}.npy") for name in ("crops", "features"))
with deep_reid.Encoder(sys.argv[2]) as encoder:
    embeds = encoder(list(crops))
tracker = Tracker(
    distance_function="euclidean", distance_threshold=50, initialization_delay=0,
    reid_distance_function=lambda a, b: 1 - a.last_detection.embedding @ b.last_detection.embedding,
    reid_distance_threshold=0.2, reid_hit_counter_max=10,
)
for _ in range(3):
    tracks = tracker.update([
        Detection(np.array([[200.0 * i, 50.0]]), embedding=embed) for i, embed in enumerate(embeds)
    ])
assert len(tracks) == len(crops)
print(abs(embeds - features).max())
"""


TRITON = """
import sys, numpy as np, onnx, onnxruntime
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

folder = sys.argv[1]
crops, features = (np.load(f"{folder}/{name}.npy") for name in ("crops", "features"))
config = model_config_pb2.ModelConfig()
with open(f"{folder}/triton/triton/config.pbtxt") as file:
    text_format.Parse(file.read(), config)
assert (config.name, config.platform) == ("triton", "onnxruntime_onnx"), config
assert config.max_batch_size >= len(crops) and config.HasField("dynamic_batching")
path = f"{folder}/triton/triton/1/model.onnx"
graph = onnx.load(path).graph
# What Triton checks when it loads a model: names, types, and that all sizes are those of the file.
types = {onnx.TensorProto.UINT8: model_config_pb2.TYPE_UINT8,
         onnx.TensorProto.FLOAT: model_config_pb2.TYPE_FP32}
for expected, found in ((config.input, graph.input), (config.output, graph.output)):
    for given, tensor in zip(expected, found, strict=True):
        kind = tensor.type.tensor_type
        sizes = [size.dim_value if size.HasField("dim_value") else -1 for size in kind.shape.dim]
        assert (given.name, given.data_type) == (tensor.name, types[kind.elem_type]), given
        assert [-1, *given.dims] == sizes, (given, sizes)
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
print(abs(session.run(["features"], {"images": crops})[0] - features).max())
"""


@pytest.mark.long
class TestEnvironments:
    """Each in an environment of its own, with the packages that the program brings."""

    def check(self, tmp_path, written, packages, program, *argv, without_dependencies=()):
        python = tmp_path / "venv" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
        install = [python, "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, *packages], check=True)
        if without_dependencies:
            subprocess.run([*install, "--no-deps", *without_dependencies], check=True)
        process = subprocess.run(
            [python, "-c", program, written.folder, *argv],
            capture_output=True, text=True, check=False, cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": ""},
        )  # fmt: skip
        assert process.returncode == 0, process.stdout + process.stderr
        assert float(process.stdout.split()[-1]) < ATOL

    def test_opencv_4(self, tmp_path, written):
        written.write("opencv")
        self.check(tmp_path, written, ["opencv-python==4.11.0.86"], OPENCV)

    def test_encoder_with_litert_alone(self, tmp_path, written):
        packages = ["numpy", "opencv-python", "ai-edge-litert"]
        path = written.write("boxmot") / "boxmot.tflite"
        self.check(tmp_path, written, packages, LITERT, path, without_dependencies=[ROOT])

    def test_triton_s_own_configuration(self, tmp_path, written):
        """The server is in no package: its configuration and its runtime are."""
        written.write("triton")
        packages = ["tritonclient[grpc]", "onnx", "onnxruntime"]
        self.check(tmp_path, written, packages, TRITON)

    def test_deep_sort_realtime(self, tmp_path, written):
        packages = ["deep-sort-realtime", "setuptools<81", "ai-edge-litert", "opencv-python"]
        path = written.write("boxmot") / "boxmot.tflite"
        self.check(tmp_path, written, packages, DEEP_SORT_REALTIME, path,
                   without_dependencies=[ROOT])  # fmt: skip

    def test_norfair(self, tmp_path, written):
        packages = ["norfair", "ai-edge-litert", "opencv-python"]
        path = written.write("boxmot") / "boxmot.tflite"
        self.check(tmp_path, written, packages, NORFAIR, path, without_dependencies=[ROOT])

    def test_boxmot_and_ultralytics(self, tmp_path, written):
        """They share an environment: PyTorch is large."""
        if not is_installed("openvino"):
            pytest.skip("needs the extra openvino")
        probe = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--quiet", TORCH]
        if subprocess.run(probe, check=False, capture_output=True).returncode:
            pytest.skip("the package index has no PyTorch for CPUs; that for CUDA takes gigabytes")
        packages = [TORCH, "onnxruntime", "openvino", "ai-edge-litert", "opencv-python",
                    "matplotlib", "pandas", "polars", "requests", "rich", "scipy", "pyyaml",
                    "psutil", "tqdm", "loguru", "gdown", "regex", "ftfy", "joblib"]  # fmt: skip
        # Their other dependencies would bring another PyTorch.
        trackers = ["boxmot==25.0.0", "ultralytics==8.4.190", "torchvision", "lapx", "filterpy"]
        written.write("boxmot", "ultralytics")
        self.check(
            tmp_path, written, packages, f"{BOXMOT}\n{ULTRALYTICS}", without_dependencies=trackers
        )


@pytest.mark.slow
def test_saved_model_cli_shows_and_runs_the_signature(written):
    folder = written.write("tf_serving")
    model = ["--dir", folder / "tf_serving" / "1", "--tag_set", "serve"]
    signature = ["--signature_def", "serving_default"]
    path = importlib.util.find_spec("tensorflow.python.tools.saved_model_cli").origin
    output = folder / "shown.txt"

    def run(*argv):
        argv = [str(arg) for arg in argv]
        code = processes.call(processes.run_script, path, argv, folder, [], output)
        assert not code, output.read_text()

    run("show", *model, *signature)
    shown = output.read_text()
    assert "inputs['images']" in shown
    assert "shape: (-1, 96, 48, 3)" in shown
    inputs = ["--inputs", f"images={folder / 'crops.npy'}"]
    run("run", *model, *signature, *inputs, "--outdir", folder / "ran", "--overwrite")
    features = np.load(folder / "ran" / "features.npy")
    np.testing.assert_allclose(features, written.features, atol=ATOL)
    assert len(features) == len(written.crops)
