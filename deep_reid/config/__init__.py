"""Settings: what a run is, and how the machine computes; free of TensorFlow."""

from typing import TYPE_CHECKING

from deep_reid.system.lazy import hand_on

# They import NumPy, which `deep_reid.config.cluster` does not need.
if TYPE_CHECKING:
    from deep_reid.config.compute import ComputeSettings
    from deep_reid.config.run import RunConfig

__all__ = ["ComputeSettings", "RunConfig"]

__getattr__, __dir__ = hand_on(__name__, {"ComputeSettings": "compute", "RunConfig": "run"})
