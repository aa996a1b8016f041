"""Seeds of the processes that train together."""

import numpy as np


def seed_of_member(seed: int | None, number: int) -> int | None:
    """Derive the seed of one of the processes that train together.

    Parameters
    ----------
    seed : int or None
        Of the run.
    number : int
        Of the process; 0 has the seed of the run.

    Returns
    -------
    int or None
        None, which draws a seed at random, only if `seed` is None.

    Examples
    --------
    >>> seed_of_member(1, 0)
    1
    >>> seed_of_member(1, 1) != seed_of_member(1, 2)
    True
    """
    if seed is None or number == 0:
        return seed
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0]) >> 1
