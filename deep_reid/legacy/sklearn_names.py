"""scikit-learn as old code calls it: t-SNE.

Only what the installed release lacks is added. Without scikit-learn nothing happens: the import
fails by itself.
"""

import functools
import inspect
import sys
from collections.abc import Sequence
from typing import Any

from deep_reid.legacy.modules import import_if_found

# The order of release 0.19, in which arguments could be given by position.
_OLD_ORDER = (
    *("n_components", "perplexity", "early_exaggeration", "learning_rate", "n_iter"),
    *("n_iter_without_progress", "min_grad_norm", "metric", "init", "verbose", "random_state"),
    *("method", "angle"),
)
_OLD_MODULE = "sklearn.manifold.t_sne"
_MODULE = "sklearn.manifold._t_sne"


def restore(name: str, fromlist: Sequence[str] | None) -> None:
    """Make ``sklearn.manifold`` as it was, when old code imports it.

    Parameters
    ----------
    name : str
        Dotted name of the module that is imported.
    fromlist : sequence of str or None
        The names after ``from ... import``.
    """
    if name.startswith("sklearn.manifold") or "manifold" in (fromlist or ()):
        module = import_if_found(_MODULE)
        if module is None:
            return
        manifold: Any = sys.modules["sklearn.manifold"]
        if not hasattr(manifold, "t_sne"):
            manifold.t_sne = sys.modules.setdefault(_OLD_MODULE, module)
        _accept_old_arguments(module.TSNE)


def _accept_old_arguments(tsne):
    """Let ``TSNE(...)`` take arguments by position, and ``n_iter``, which is ``max_iter`` today."""
    today = tsne.__init__
    parameters = inspect.signature(today).parameters
    by_position = parameters["perplexity"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    if (by_position and "n_iter" in parameters) or hasattr(today, "__wrapped__"):
        return  # it takes them already

    @functools.wraps(today)
    def create(self, *args, **kwargs):
        arguments = {**dict(zip(_OLD_ORDER, args, strict=False)), **kwargs}
        # Releases 1.5 and 1.6 have both names, and a warning for the old one.
        if "n_iter" in arguments and "max_iter" in parameters:
            arguments["max_iter"] = arguments.pop("n_iter")
        today(self, **arguments)

    tsne.__init__ = create
