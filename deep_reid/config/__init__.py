"""Settings: what a run is, and how the machine computes; free of TensorFlow."""

from typing import TYPE_CHECKING

from deep_reid.system.lazy import hand_on

if TYPE_CHECKING:
    from deep_reid.config.compute import ComputeSettings
    from deep_reid.config.run import RunConfig
else:  # they import NumPy: commands that need no more than `cluster` handle signals before that
    __getattr__, __dir__ = hand_on(__name__, {"ComputeSettings": "compute", "RunConfig": "run"})

__all__ = ["ComputeSettings", "RunConfig"]
