"""Scores of each new checkpoint, computed beside training."""

from deep_reid.system.lazy import hand_on

__getattr__, __dir__ = hand_on(__name__, {"eval_loop": "loop"})
