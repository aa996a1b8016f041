"""`QueuedTrainer` and the samplers, under the original's name for their module.

See `deep_reid.engine.queued_trainer` and `deep_reid.samplers`.
"""

from deep_reid.engine.queued_trainer import QueuedTrainer
from deep_reid.samplers import (
    ThreadSafeIterator,
    iterate_forever,
    random_sample_identities_forever,
    random_shuffle_forever,
    run_in_batches,
)

__all__ = [
    "QueuedTrainer",
    "ThreadSafeIterator",
    "iterate_forever",
    "random_sample_identities_forever",
    "random_shuffle_forever",
    "run_in_batches",
]
