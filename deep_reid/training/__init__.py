"""A run's graph, and the loop around its training step."""

from deep_reid.system.lazy import hand_on

__getattr__, __dir__ = hand_on(__name__, {"create_trainer": "graph", "train_loop": "loop"})
