"""The contender in ONNX Runtime: our frozen graph, converted by tf2onnx."""

import sys
import tempfile

import onnxruntime

from benchmarks.machine import num_cores
from benchmarks.workers import CropEncoder, run_program

_OPSET = 17


class Encoding(CropEncoder):
    """Encodes crops by a frozen graph of TensorFlow."""

    def __init__(self, graph_path, crops_path):
        super().__init__(crops_path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_cores()
        with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
            # In another process, because tf2onnx runs TensorFlow.
            convert = [sys.executable, "-m", "tf2onnx.convert", f"--graphdef={graph_path}"]
            names = ["--inputs=images:0", "--outputs=features:0", f"--opset={_OPSET}"]
            run_program(*convert, *names, f"--output={file.name}")
            self._session = onnxruntime.InferenceSession(
                file.name, options, providers=["CPUExecutionProvider"]
            )

    def encode(self, crops):
        """Return the features of crops."""
        return self._session.run(["features:0"], {"images:0": crops})[0]
