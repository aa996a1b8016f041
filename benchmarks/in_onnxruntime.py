"""What is measured in ONNX Runtime: our frozen graph, converted by tf2onnx."""

import numpy as np
import onnxruntime

from benchmarks.machine import num_cores
from benchmarks.workers import mean_secs


class Encoding:
    """Encoding of crops.

    Parameters
    ----------
    graph_path : str
    crops_path : str
        Array of uint8 crops, (N, 128, 64, 3), BGR.
    """

    def __init__(self, graph_path, crops_path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_cores()
        self._crops = np.load(crops_path)
        self._session = onnxruntime.InferenceSession(
            graph_path, options, providers=["CPUExecutionProvider"]
        )

    def measure(self, num_crops, count):
        """Encode crops: mean seconds of `count` calls."""
        return mean_secs(lambda: self.features(num_crops), count, 1)

    def features(self, num_crops):
        """Return the features of the first crops, of shape (N, 128)."""
        (features,) = self._session.run(["features:0"], {"images:0": self._crops[:num_crops]})
        return features
