"""Deep cosine metric learning for person re-identification."""

__version__ = "0.2.0"


def __getattr__(name):
    """Import `deep_reid.Encoder`, and TensorFlow with it, when it is first asked for."""
    if name == "Encoder":
        from deep_reid.encoder import Encoder

        return Encoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
