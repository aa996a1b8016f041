"""ONNX, computed by ONNX Runtime; loading is free of TensorFlow."""

import logging
import os
import tempfile

import numpy as np

from deep_reid.config import ComputeSettings
from deep_reid.export.formats.model import (
    Graph,
    Model,
    count_threads,
    damaged,
    describe,
    enter_process,
)
from deep_reid.export.model_input import read_facts, write_facts

OPSET = 17
"""Version of the operators: ONNX Runtime 1.12, OpenCV 4.8, OpenVINO 2022 and later know it."""

_METADATA = "deep_reid"
_BATCH = "batch"

# Without it, ONNX Runtime sends data on its use to its maker, and writes into the home folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def write(graph: Graph, path: str, quantization: str) -> None:
    """Write a network for ONNX.

    Parameters
    ----------
    graph : Graph
    path : str
    quantization : {"none", "int8"}
        int8: convolutions, weights per channel, activations by the calibration images.
    """
    import onnx

    model = convert(graph)
    if quantization == "int8":
        model = _quantize(model, graph.calibration)
    text = write_facts(graph.model_input, graph.feature_size, graph.facts)
    onnx.helper.set_model_props(model, {_METADATA: text})
    onnx.checker.check_model(model)
    onnx.save_model(model, path)


def convert(graph: Graph) -> "onnx.ModelProto":  # noqa: F821
    """Convert a graph; also OpenVINO reads the result.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    onnx.ModelProto
        With the input ``images`` and the output ``features``, whose first axis is ``batch``.
    """
    import tf2onnx.convert

    logging.getLogger("tf2onnx").setLevel(logging.WARNING)
    model, _ = tf2onnx.convert.from_graph_def(
        graph.graph_def,
        name=_METADATA,
        input_names=["images:0"],
        output_names=["features:0"],
        opset=OPSET,
    )
    names = {"images:0": "images", "features:0": "features"}
    for node in model.graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(name, name) for name in values]
    for value in (*model.graph.input, *model.graph.output):
        value.name = names[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = _BATCH
    del model.graph.value_info[:]
    _flatten_by_batch(model)
    return model


def _flatten_by_batch(model):
    """Let reshapes keep the batch's axis: a wrong image size then fails, and gives no more rows."""
    from onnx import numpy_helper

    constants = {constant.name: constant for constant in model.graph.initializer}
    reshapes = [node for node in model.graph.node if node.op_type == "Reshape"]
    for node in reshapes:
        shape = constants.get(node.input[1])
        sizes = None if shape is None else numpy_helper.to_array(shape)
        if sizes is not None and sizes[0] == -1:
            kept = np.array([0, *sizes[1:]], sizes.dtype)  # 0 is the size of the input's axis
            node.input[1] = f"{node.name}/kept_batch"
            model.graph.initializer.append(numpy_helper.from_array(kept, node.input[1]))
    used = {name for node in model.graph.node for name in node.input}
    unused = [constant for constant in model.graph.initializer if constant.name not in used]
    for constant in unused:
        model.graph.initializer.remove(constant)


def _quantize(model, images):
    """Quantize weights and activations to int8."""
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(quantization.CalibrationDataReader):
        def __init__(self):
            self._batches = ({"images": image[None]} for image in images)

        def get_next(self):
            return next(self._batches, None)

    with tempfile.TemporaryDirectory() as folder:
        names = [os.path.join(folder, f"{name}.onnx") for name in ("plain", "folded", "int8")]
        onnx.save_model(model, names[0])
        quant_pre_process(names[0], names[1], skip_symbolic_shape=True)
        quantization.quantize_static(
            names[1],
            names[2],
            Images(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            # CPUs without VNNI add products of int8 in 16 bits: weights of 7 bits do not overflow.
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=["Conv", "MatMul", "Add", "MaxPool"],
        )
        return onnx.load_model(names[2])


def load(path: str, compute: ComputeSettings, trust: bool) -> Model:
    """Load a network of ONNX.

    Parameters
    ----------
    path : str
    compute : ComputeSettings
    trust : bool
        Not used: ONNX's own operators do nothing but compute, and no others are registered.

    Returns
    -------
    Model

    Raises
    ------
    DataError
        If it is damaged, or is not of such a network.
    """
    del trust
    import onnxruntime

    def create():
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised, too
        options.intra_op_num_threads = count_threads(compute.intra_op_threads)
        try:
            return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its classes of errors have no common base of their own
            raise damaged(path, error) from error

    session = create()
    return describe(
        path,
        f"ONNX Runtime {onnxruntime.__version__}",
        read_facts(session.get_modelmeta().custom_metadata_map.get(_METADATA, "")),
        _list_tensors(session.get_inputs()),
        _list_tensors(session.get_outputs()),
        lambda: _start(path, create()),
    )


def _list_tensors(values):
    return [
        (
            tuple(size if isinstance(size, int) else None for size in value.shape),
            _TYPES.get(value.type, value.type),
        )
        for value in values
    ]


_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


def _start(path, session):
    input_name = session.get_inputs()[0].name

    enter_process("ONNX Runtime")

    def compute(batch):
        try:
            return session.run(None, {input_name: batch})[0]
        except Exception as error:  # as above
            raise damaged(path, error) from error

    return compute, lambda: None
