"""OpenVINO, computed by its CPU plugin; loading is free of TensorFlow."""

import importlib
import os
import sys
import tempfile

import numpy as np

from deep_reid.config import ComputeSettings
from deep_reid.errors import DataError
from deep_reid.export.formats import onnx as onnx_format
from deep_reid.export.formats.model import (
    Graph,
    Model,
    count_threads,
    damaged,
    describe,
    enter_process,
)
from deep_reid.export.model_input import is_in_bfloat16, read_facts, write_facts

FILENAME = "model.xml"
_METADATA = "deep_reid"
_TELEMETRY = "openvino_telemetry"
# What normalizations of features consist of.
_SCALING = {
    "Add", "Clamp", "Divide", "Maximum", "Multiply", "NormalizeL2", "Power", "ReduceL2",
    "ReduceSum", "Sqrt",
}  # fmt: skip


def _import(name):
    """Import OpenVINO or NNCF without the package by which they send data on their use."""
    if _TELEMETRY in sys.modules:  # the caller wants it, or has prevented it
        return importlib.import_module(name)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules[_TELEMETRY]


def write(graph: Graph, path: str, quantization: str) -> None:
    """Write a network for OpenVINO.

    Parameters
    ----------
    graph : Graph
    path : str
        A folder that exists.
    quantization : {"none", "int8", "bfloat16"}
        int8: by NNCF, activations by the calibration images, but for the normalization of
        features. bfloat16: the file asks the runtime to
        compute in it; the weights in the file stay float32.
    """
    import onnx

    openvino = _import("openvino")
    with tempfile.TemporaryDirectory() as folder:
        filename = os.path.join(folder, "model.onnx")
        onnx.save_model(onnx_format.convert(graph), filename)
        model = openvino.Core().read_model(filename)
    if quantization == "int8":
        nncf = _import("nncf")
        images = nncf.Dataset([image[None] for image in graph.calibration])
        # CPUs without VNNI add products of int8 in 16 bits: weights of 7 bits do not overflow.
        parameters = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
        model = nncf.quantize(
            model,
            images,
            subset_size=len(graph.calibration),
            ignored_scope=nncf.IgnoredScope(names=_list_normalization(model)),
            advanced_parameters=parameters,
        )
    text = write_facts(graph.model_input, graph.feature_size, graph.facts)
    model.set_rt_info(text, [_METADATA])
    openvino.save_model(model, os.path.join(path, FILENAME), compress_to_fp16=False)


def _list_normalization(model):
    """List the names of the last ops that only scale features: in int8, few would stay nearest."""
    names, waiting = [], [result.input_value(0).get_node() for result in model.get_results()]
    while waiting:
        op = waiting.pop()
        inputs = [value.get_node() for value in op.input_values()]
        has_constant = any(each.get_type_name() == "Constant" for each in inputs)
        is_sum_of_layers = op.get_type_name() == "Add" and not has_constant
        if op.get_type_name() in _SCALING and not is_sum_of_layers:
            names.append(op.get_friendly_name())
            waiting += inputs
    return names


def load(path: str, compute: ComputeSettings, trust: bool) -> Model:
    """Load a network of OpenVINO.

    Parameters
    ----------
    path : str
        Its folder, or its .xml file.
    compute : ComputeSettings
    trust : bool
        Not used: OpenVINO's own ops do nothing but compute, and no others are registered.

    Returns
    -------
    Model

    Raises
    ------
    DataError
        If it is damaged, or is not of such a network.
    """
    del trust
    openvino = _import("openvino")
    filename = _find_file(path)
    # Everywhere the same features: without it, machines that can would compute in bfloat16.
    precision = openvino.Type.f32

    def read():
        try:
            return openvino.Core().read_model(filename)
        except RuntimeError as error:
            raise damaged(path, _reason_of(error)) from error

    model = read()
    text = model.get_rt_info([_METADATA]).astype(str) if model.has_rt_info([_METADATA]) else ""
    if is_in_bfloat16(text):
        precision = openvino.Type.bf16
    return describe(
        path,
        f"OpenVINO {openvino.__version__.partition('-')[0]}",
        read_facts(text),
        _list_tensors(model.inputs),
        _list_tensors(model.outputs),
        lambda: _start(path, read(), precision, compute),
        is_concurrent=False,
    )


def _list_tensors(tensors):
    return [
        (
            tuple(None if size.is_dynamic else size.get_length() for size in tensor.partial_shape),
            tensor.element_type.to_dtype().name,
        )
        for tensor in tensors
    ]


def _reason_of(error):
    """Return the last line: those before it are places in OpenVINO's source."""
    return str(error).strip().rpartition("\n")[2] or type(error).__name__


def _find_file(path):
    if not os.path.isdir(path):
        return path
    names = sorted(name for name in os.listdir(path) if name.endswith(".xml"))
    if len(names) != 1:
        raise DataError(f"{path} has {len(names)} files *.xml, but one is expected: name it")
    return os.path.join(path, names[0])


def _start(path, model, precision, compute):
    openvino = _import("openvino")
    enter_process("OpenVINO")

    config = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": count_threads(compute.intra_op_threads),
    }
    try:
        request = openvino.Core().compile_model(model, "CPU", config).create_infer_request()
    except RuntimeError as error:
        raise damaged(path, _reason_of(error)) from error

    def run(batch):
        try:
            return np.array(request.infer([batch], share_inputs=True)[0])
        except RuntimeError as error:
            raise damaged(path, _reason_of(error)) from error

    return run, lambda: None
