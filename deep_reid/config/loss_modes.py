"""What must be known about a loss before a graph is built; free of TensorFlow.

The user's own loss (`deep_reid.interfaces.Loss`) has it as attributes, so its module is imported.
"""

from typing import Any, NamedTuple

from deep_reid.config.imports import check_call, import_named
from deep_reid.config.kinds import ChoiceOrImport
from deep_reid.errors import UsageError

MEASURES = ("cosine", "euclidean")


class LossFacts(NamedTuple):
    """What a loss needs, and which distance it trains.

    Parameters
    ----------
    needs_logits : bool
        Whether it is computed from the logits of a classifier.
    measure : {"cosine", "euclidean"}
        The distance that ranks features trained with it.
    """

    needs_logits: bool = False
    measure: str = "cosine"


_FACTS = {
    "cosine-softmax": LossFacts(needs_logits=True, measure="cosine"),
    "magnet": LossFacts(measure="euclidean"),
    "triplet": LossFacts(measure="euclidean"),
}
LOSS_MODES = tuple(_FACTS)
"""The package's losses; they are in `deep_reid.losses`."""

LOSS_MODE = ChoiceOrImport(LOSS_MODES)


def facts_of_loss(loss_mode: str) -> LossFacts:
    """Return what must be known about a loss.

    Parameters
    ----------
    loss_mode : str
        One of `LOSS_MODES`, or ``MODULE:NAME``.

    Returns
    -------
    LossFacts

    Raises
    ------
    UsageError
        If the loss is unknown or cannot be imported, or an attribute has a wrong value.
    """
    LOSS_MODE.check("loss_mode", loss_mode)
    if loss_mode in _FACTS:
        return _FACTS[loss_mode]
    loss = import_loss(loss_mode)
    facts = LossFacts(
        **{name: getattr(loss, name) for name in LossFacts._fields if hasattr(loss, name)}
    )
    for name, choices in (("needs_logits", (True, False)), ("measure", MEASURES)):
        if getattr(facts, name) not in choices:
            raise UsageError(
                f"loss {loss_mode} has {name} = {getattr(facts, name)!r}: use "
                f"{' or '.join(map(repr, choices))}"
            )
    return facts


def import_loss(loss_mode: str) -> Any:
    """Import the user's own loss.

    Parameters
    ----------
    loss_mode : str
        ``MODULE:NAME``.

    Returns
    -------
    deep_reid.interfaces.Loss

    Raises
    ------
    UsageError
        If it cannot be imported or called.
    """
    loss = import_named(loss_mode)
    check_call(loss_mode, loss, ("features", "logits", "labels"))
    return loss
