"""The command line that the training scripts share."""

from deep_reid.system.lazy import hand_on

__getattr__, __dir__ = hand_on(__name__, {"main": "program"})
