"""What programs that use a network read: format, input, files beside it; free of TensorFlow.

The facts are those of Deep SORT, boxmot 25, ultralytics 8.4, OpenCV 4 and 5, Triton and TensorFlow
Serving; `tests/export/test_clients.py` runs these programs.
"""

import dataclasses
import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence

from deep_reid.config.kinds import add_channels
from deep_reid.errors import UsageError
from deep_reid.export.formats import without_ending
from deep_reid.export.formats.model import Model
from deep_reid.export.model_input import BGR_UINT8, IMAGENET, RGB01, ModelInput
from deep_reid.system import files


def _write_nothing(path, model):
    del path, model
    return []


@dataclasses.dataclass(frozen=True)
class Client:
    """A program that uses a network.

    Parameters
    ----------
    name : str
        On the command line.
    title : str
        For people.
    formats : sequence of str
        The formats that it reads, the usual one first.
    kind, layout : str
        Of `deep_reid.export.model_input.ModelInput`.
    usage : str
        How the file is used there; ``{path}`` stands for it, ``{folder}`` for its folder,
        ``{repository}`` for that of all models, each as a shell takes it; ``{literal}`` for the
        file as Python takes it; ``{height}`` and ``{width}`` for the images' sizes.
    place : callable
        ``place(name)``: where the client looks for the file, from its name without folders.
    write_beside : callable
        ``write_beside(path, model)`` writes the files that the client needs beside the file of a
        network (`deep_reid.export.formats.model.Model`), and returns their names.
    """

    name: str
    title: str
    formats: Sequence[str]
    kind: str
    layout: str
    usage: str
    place: Callable[[str], str] = lambda path: path
    write_beside: Callable[[str, Model], Sequence[str]] = _write_nothing

    def check(self, settings: Mapping[str, object]) -> None:
        """Check settings of the command line that the client leaves no choice in.

        Parameters
        ----------
        settings : dict of str -> object
            ``input``, ``layout`` and ``format`` (a sequence); None: not given.

        Raises
        ------
        UsageError
            If the client cannot read such a file.
        """
        for name, only in (("input", self.kind), ("layout", self.layout)):
            if settings[name] not in (None, only):
                raise UsageError(
                    f"--for={self.name} needs --{name}={only}, not {settings[name]}: leave "
                    f"--{name} out"
                )
        for one in settings["format"] or ():  # type: ignore[attr-defined]
            if one not in self.formats:
                raise UsageError(
                    f"--for={self.name} cannot read the format {one}: use --format="
                    f"{' or '.join(self.formats)}"
                )

    def describe_usage(self, path: str, model_input: ModelInput) -> str:
        """Return the line with which a file is used.

        Parameters
        ----------
        path : str
        model_input : ModelInput

        Returns
        -------
        str
        """
        height, width, _ = add_channels(model_input.image_shape)
        folder = os.path.dirname(os.path.abspath(path))
        return self.usage.format(
            path=shlex.quote(path),
            literal=repr(path),
            folder=shlex.quote(folder),
            repository=shlex.quote(os.path.dirname(os.path.dirname(folder))),
            height=height,
            width=width,
        )


def _write_boxmot(path, model):
    """Write the metadata without which boxmot sends crops of 256 x 128 pixels."""
    height, width, _ = model.model_input.image_shape
    metadata = {
        "schema_version": 1,
        # A network that it knows; boxmot takes no layers from it, as the file has them.
        "model_name": "osnet_x0_25",
        "model_kwargs_schema_version": 1,
        "model_kwargs": {"img_size": [height, width]},
    }
    beside = os.path.join(path, "manifest.json") if os.path.isdir(path) else f"{path}.metadata.json"
    files.write_output(beside, json.dumps(metadata, indent=2) + "\n")
    return [beside]


def _write_triton(path, model):
    """Write the configuration of ``NAME/1/model.onnx``: ``NAME/config.pbtxt``.

    Triton compares it with the file, and takes -1 for a size only where the file has none.
    """
    folder = os.path.dirname(os.path.dirname(path))
    sizes = ", ".join(map(str, model.model_input.shape))
    lines = [
        f"name: {json.dumps(os.path.basename(folder), ensure_ascii=False)}",
        'platform: "onnxruntime_onnx"',
        "max_batch_size: 128",
        f'input [{{ name: "images", data_type: TYPE_UINT8, dims: [{sizes}] }}]',
        f'output [{{ name: "features", data_type: TYPE_FP32, dims: [{model.feature_size}] }}]',
        "dynamic_batching { }",
    ]
    beside = os.path.join(folder, "config.pbtxt")
    files.write_output(beside, "\n".join(lines) + "\n")
    return [beside]


CLIENTS = {
    known.name: known
    for known in (
        Client(
            "deep_sort",
            "Deep SORT",
            ["pb"],
            BGR_UINT8,
            "nhwc",
            "python tools/generate_detections.py --model={path} --mot_dir=... --output_dir=...",
        ),
        Client(
            "boxmot",
            "boxmot",
            ["onnx", "openvino", "tflite"],
            IMAGENET,
            "nchw",
            "pip install 'boxmot[yolo]' onnxruntime; boxmot track --detector yolov8n --reid {path} "
            "--tracker deepocsort --source VIDEO",
            write_beside=_write_boxmot,
        ),
        Client(
            "ultralytics",
            "ultralytics",
            ["onnx"],
            RGB01,
            "nchw",
            "pip install ultralytics lap onnxruntime; in a copy of its botsort.yaml, set "
            "with_reid: True and model: {path}; yolo track tracker=botsort.yaml source=VIDEO",
        ),
        Client(
            "opencv",
            "OpenCV's dnn module",
            ["onnx"],
            RGB01,
            "nchw",
            "net = cv2.dnn.readNetFromONNX({literal}); net.setInput(cv2.dnn.blobFromImages(crops, "
            "1 / 255, ({width}, {height}), swapRB=True)); features = net.forward()",
        ),
        Client(
            "triton",
            "Triton",
            ["onnx"],
            BGR_UINT8,
            "nhwc",
            "tritonserver --model-repository={repository}",
            # Triton loads all folders of a repository, so that is a folder of its own.
            place=lambda path: os.path.join(
                without_ending(path), os.path.basename(without_ending(path)), "1", "model.onnx"
            ),
            write_beside=_write_triton,
        ),
        Client(
            "tf_serving",
            "TensorFlow Serving",
            ["savedmodel"],
            BGR_UINT8,
            "nhwc",
            "tensorflow_model_server --rest_api_port=8501 --model_name=deep_reid "
            "--model_base_path={folder}",
            place=lambda path: os.path.join(without_ending(path), "1"),
        ),
    )
}
"""The clients of ``--for``."""
