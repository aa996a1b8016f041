"""The rule by which golden features were made: weights that anybody can make again."""

import numpy as np


def rule_made_value(number, name, shape):
    """Make the value of variable `number` in the order of the names."""
    values = np.random.RandomState(1100 + number).normal(size=shape)
    if name.endswith("moving_variance"):
        return abs(values) + 0.5
    if name == "ball/scale":
        return values
    return values / np.sqrt(np.prod(shape[:-1]) if len(shape) >= 2 else 10)
