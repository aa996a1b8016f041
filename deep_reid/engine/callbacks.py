"""What a caller adds to the steps of a training."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Callbacks:
    """Functions that a training calls between its steps.

    Parameters
    ----------
    should_stop : callable
        Called before the first step and after each. Training saves and ends, without an error, when
        it returns something other than None.
    on_step : callable
        ``on_step(step, loss)`` is called after each step.
    evaluate : callable
        ``evaluate(checkpoint_path)`` is called every `eval_every` steps, and with the last
        checkpoint of a training.
    eval_every : int, optional
        Default: `evaluate` is never called.
    """

    should_stop: Callable[[], object] = lambda: None
    on_step: Callable[[int, float], object] = lambda step, loss: None
    evaluate: Callable[[str], object] = lambda checkpoint_path: None
    eval_every: int | None = None
