"""The progress of a training: lines in the log."""

import contextlib
import logging
import time
from collections.abc import Iterator
from datetime import timedelta

LOG_INTERVAL_SECS = 10.0
"""Seconds between two lines, where the number of steps between them is not set."""

_logger = logging.getLogger(__name__)


def count_epochs(step: int, batch_size: int, images_per_epoch: int) -> float:
    """Count how often a training has seen all images.

    Parameters
    ----------
    step : int
        The steps so far.
    batch_size : int
        Images per step.
    images_per_epoch : int
        The number of images to train on.

    Returns
    -------
    float
    """
    return step * batch_size / images_per_epoch


class Progress:
    """Logs the first step, steps in between, and the last one.

    Parameters
    ----------
    batch_size : int
        Images per step.
    number_of_steps : int, optional
        The step at which training ends.
    log_every_n_steps : int, optional
        0: only the last step is logged. Default: a line every 10 seconds, however fast the steps
        are.
    images_per_epoch : int, optional
        The number of images to train on.
    """

    def __init__(
        self,
        batch_size: int,
        number_of_steps: int | None = None,
        log_every_n_steps: int | None = None,
        images_per_epoch: int | None = None,
    ) -> None:
        self._batch_size = batch_size
        self._number_of_steps = number_of_steps
        self._log_every_n_steps = log_every_n_steps
        self._images_per_epoch = images_per_epoch
        self.start()

    def start(self) -> None:
        """Begin to measure the speed."""
        self._num_steps = 0  # of this process
        self._num_unlogged = 0
        self._logged_at = time.monotonic()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave a block out of the speed."""
        paused_at = time.monotonic()
        try:
            yield
        finally:
            self._logged_at += time.monotonic() - paused_at

    def report(self, step: int, loss: float, *, is_last: bool) -> None:
        """Report a step; call it after each one.

        Parameters
        ----------
        step : int
        loss : float
        is_last : bool
        """
        # Steps are counted here: the global step also counts the steps of other workers.
        self._num_steps += 1
        self._num_unlogged += 1
        if is_last or self._is_due(step):
            now = time.monotonic()
            steps_per_second = self._num_unlogged / max(now - self._logged_at, 1e-9)
            self._num_unlogged, self._logged_at = 0, now
            _logger.info("%s", self._describe(step, loss, steps_per_second))

    def _is_due(self, step):
        if self._log_every_n_steps is None:
            return self._num_steps == 1 or time.monotonic() - self._logged_at >= LOG_INTERVAL_SECS
        return self._log_every_n_steps > 0 and step % self._log_every_n_steps == 0

    def _describe(self, step, loss, steps_per_second):
        total, epoch, time_left = "", "", ""
        if self._images_per_epoch is not None:
            epoch = f", epoch {count_epochs(step, self._batch_size, self._images_per_epoch):.2f}"
        if self._number_of_steps is not None:
            total = f"/{self._number_of_steps}"
            secs_left = max(0, self._number_of_steps - step) / steps_per_second
            time_left = f", {timedelta(seconds=round(secs_left))} left"
        speed = f", {steps_per_second * self._batch_size:.1f} images/s{time_left}"
        if self._log_every_n_steps is None and self._num_steps == 1:
            speed = ""  # the first step takes longer than others: it would mislead
        return f"step {step}{total}, loss {loss:.4f}{epoch}{speed}"
