"""How much is measured: all of it, or just enough to see that everything runs."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of the measurements.

    Parameters
    ----------
    rounds : int
    num_identities : int
        Persons of the drawn data sets.
    batch_size : int
        Of training, input, and the encoding of files.
    training_steps, input_batches : int
        In each turn, at least. Feed threads work in step: of few batches, more than their share may
        have been ready before.
    crop_counts : tuple of int
    num_boxes : int
        On the frame.
    num_threads : tuple of int
        Of the feed.
    num_encoded : tuple of int
        Files to encode, for the peak memory.
    matrix_size : int
    secs_per_turn : float
    is_compiled : bool
        Whether PyTorch compiles, which takes minutes.
    num_scored_identities, scored_batch_size, scored_steps, num_seeds : int
        Of the trainings whose accuracy is compared.
    """

    rounds: int
    num_identities: int
    batch_size: int
    training_steps: int
    input_batches: int
    crop_counts: tuple
    num_boxes: int
    num_threads: tuple
    num_encoded: tuple
    matrix_size: int
    secs_per_turn: float
    is_compiled: bool
    num_scored_identities: int
    scored_batch_size: int
    scored_steps: int
    num_seeds: int


FULL = Sizes(
    rounds=9,
    num_identities=120,
    batch_size=128,
    training_steps=3,
    input_batches=40,
    crop_counts=(1, 10, 32, 128),
    num_boxes=20,
    num_threads=(1, 2, 4),
    num_encoded=(2_000, 20_000),
    matrix_size=4096,
    secs_per_turn=1.0,
    is_compiled=True,
    num_scored_identities=80,
    scored_batch_size=32,
    scored_steps=400,
    num_seeds=3,
)
QUICK = Sizes(
    rounds=1,
    num_identities=4,
    batch_size=8,
    training_steps=1,
    input_batches=4,
    crop_counts=(1, 2),
    num_boxes=2,
    num_threads=(1, 2),
    num_encoded=(8, 16),
    matrix_size=64,
    secs_per_turn=0.01,
    is_compiled=False,
    num_scored_identities=10,
    scored_batch_size=8,
    scored_steps=2,
    num_seeds=2,
)
