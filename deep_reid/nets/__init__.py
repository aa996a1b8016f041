"""Networks that map an image to a feature vector of unit length; this file is free of TensorFlow.

A network is found by its name: `load_network`.
"""

import importlib
from collections.abc import Mapping
from typing import Any

from deep_reid.config.imports import check_call, import_named
from deep_reid.config.run import NETWORK, NETWORKS
from deep_reid.interfaces import Network, NetworkFactory

# The arguments of each call: by position, and by name.
_CALLS = {
    "create_network_factory": ((), ("is_training", "num_classes", "add_logits")),
    "preprocess": (("image",), ("is_training",)),
}


def load_network(name: str | None) -> Network:
    """Load a network.

    Parameters
    ----------
    name : str or None
        A module of this package, or ``MODULE:NAME`` of the user. None: the first of `NETWORKS`.

    Returns
    -------
    deep_reid.interfaces.Network

    Raises
    ------
    UsageError
        If the network is unknown, cannot be imported, or lacks what a network needs.
    """
    name = name or NETWORKS[0]
    NETWORK.check("network", name)
    if name in NETWORKS:
        return importlib.import_module(f"{__name__}.{name}")
    network: Any = import_named(name)
    for part, arguments in _CALLS.items():
        check_call(f"{name}.{part}", getattr(network, part, None), *arguments)
    return network


def create_inference_network(network: Network) -> NetworkFactory:
    """Create the factory of a network that gives features only.

    Parameters
    ----------
    network : deep_reid.interfaces.Network

    Returns
    -------
    deep_reid.interfaces.NetworkFactory
    """
    return network.create_network_factory(is_training=False, num_classes=None, add_logits=False)


def may_fit(network: Network, variable_shapes: Mapping[str, list[int]]) -> bool:
    """Tell whether a checkpoint may belong to a network.

    Parameters
    ----------
    network : deep_reid.interfaces.Network
    variable_shapes : dict of str -> list of int
        The variables of the checkpoint.

    Returns
    -------
    bool
        True for a network without the method ``fits``.
    """
    return not hasattr(network, "fits") or network.fits(variable_shapes)


def find_num_classes(
    network: Network, variable_shapes: Mapping[str, list[int]], recorded: int | None
) -> int | None:
    """Return the number of classes of a checkpoint's classifier.

    Parameters
    ----------
    network : deep_reid.interfaces.Network
    variable_shapes : dict of str -> list of int
        The variables of the checkpoint.
    recorded : int or None
        The number in the records of its run; used if the network cannot tell.

    Returns
    -------
    int or None
        None if the checkpoint has no classifier.
    """
    find: Any = getattr(network, "num_classes_in", None)
    return recorded if find is None else find(variable_shapes)
