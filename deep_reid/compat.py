"""TensorFlow 1's interface and TF-Slim, under the name that the project's users know.

See `deep_reid.runtime.compat`.
"""

from deep_reid.runtime.compat import slim, tf

__all__ = ["slim", "tf"]
