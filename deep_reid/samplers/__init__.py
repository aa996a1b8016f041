"""Batches for training and draws of galleries for evaluation; needs only NumPy."""

from deep_reid.samplers.batches import (
    ThreadSafeIterator,
    iterate_forever,
    random_sample_identities_forever,
    random_shuffle_forever,
    run_in_batches,
)

__all__ = [
    "ThreadSafeIterator",
    "iterate_forever",
    "random_sample_identities_forever",
    "random_shuffle_forever",
    "run_in_batches",
]
