"""What is to be known of a loss before a graph is built; free of TensorFlow.

A loss of the user's own (`deep_reid.interfaces.Loss`) says it of itself, and its module is imported
for that.
"""

from typing import NamedTuple

from deep_reid.config.imports import check_call, import_named
from deep_reid.config.kinds import ChoiceOrImport
from deep_reid.errors import UsageError

MEASURES = ("cosine", "euclidean")


class LossFacts(NamedTuple):
    """What a loss needs, and what it trains for.

    Parameters
    ----------
    needs_logits : bool
        Whether it is computed of the logits of a classifier.
    measure : {"cosine", "euclidean"}
        The distance by which features trained with it are ranked.
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


def facts_of_loss(loss_mode):
    """Return what is to be known of a loss.

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
        If the loss is unknown, cannot be imported, or is not what a loss has to be.
    """
    LOSS_MODE.check("loss_mode", loss_mode)
    if loss_mode in _FACTS:
        return _FACTS[loss_mode]
    loss = import_loss(loss_mode)
    facts = LossFacts(
        getattr(loss, "needs_logits", LossFacts().needs_logits),
        getattr(loss, "measure", LossFacts().measure),
    )
    for name, choices in (("needs_logits", (True, False)), ("measure", MEASURES)):
        if getattr(facts, name) not in choices:
            raise UsageError(
                f"loss {loss_mode} has {name} = {getattr(facts, name)!r}: use "
                f"{' or '.join(map(repr, choices))}"
            )
    return facts


def import_loss(loss_mode):
    """Import a loss of the user's own.

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
