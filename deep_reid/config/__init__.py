"""Settings: what a run is, and how the machine computes; free of TensorFlow."""

from deep_reid.config.run import ComputeSettings, RunConfig

__all__ = ["ComputeSettings", "RunConfig"]
