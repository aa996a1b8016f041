"""Settings: what a run is, and how the machine computes; free of TensorFlow."""

from deep_reid.config.compute import ComputeSettings
from deep_reid.config.run import RunConfig

__all__ = ["ComputeSettings", "RunConfig"]
