"""Deep cosine metric learning for person re-identification."""

from deep_reid.system.lazy import hand_on

__version__ = "0.3.0"

__getattr__, __dir__ = hand_on(__name__, {"Encoder": "export.encoder"})
