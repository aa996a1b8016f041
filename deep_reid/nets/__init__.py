"""Networks that map an image to a feature vector of unit length; this file is free of TensorFlow.

A network is found by its name: `load_network`.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from deep_reid.config import imports
from deep_reid.config.imports import check_call, import_named
from deep_reid.config.run import NETWORK, NETWORKS
from deep_reid.errors import UsageError
from deep_reid.interfaces import Network, NetworkFactory
from deep_reid.system.spelling import propose

# The arguments of each call: by position, and by name.
_CALLS = {
    "create_network_factory": ((), ("is_training", "num_classes", "add_logits")),
    "preprocess": (("image",), ("is_training",)),
}


# The scopes of the variables of each network in `NETWORKS`: both are wide residual networks.
SCOPES = (
    "ball",
    "conv1_1",
    "conv1_2",
    "conv2_1",
    "conv2_3",
    "conv3_1",
    "conv3_3",
    "conv4_1",
    "conv4_3",
    "fc1",
)


def check_scopes(name: str | None, scopes: Sequence[str]) -> None:
    """Check the scopes to be trained, as far as that is possible before the network is built.

    Parameters
    ----------
    name : str or None
        As in `load_network`. Only the scopes of the package's own networks are known.
    scopes : sequence of str
        Names, or regular expressions, which are not checked.

    Raises
    ------
    UsageError
        If the network has no such scope.
    """
    for scope in scopes if name in NETWORKS else ():
        top = scope.partition("/")[0]
        if top.isidentifier() and top not in SCOPES:
            raise UsageError(
                f"trainable scope {scope!r} has no variables: use some of {', '.join(SCOPES)}"
                f"{propose(top, SCOPES)}"
            )


def check_found(name: str | None) -> None:
    """Check that a network of the user's can be found, without importing it.

    Parameters
    ----------
    name : str or None
        As in `load_network`.

    Raises
    ------
    UsageError
    """
    if name is not None and name not in NETWORKS:
        imports.check_found(name)


def load_network(name: str | None) -> Network:
    """Load a network.

    Parameters
    ----------
    name : str or None
        A module of this package, or ``MODULE:NAME`` of the user. None is an unknown name.

    Returns
    -------
    deep_reid.interfaces.Network

    Raises
    ------
    UsageError
        If the network is unknown, cannot be imported, or lacks what a network needs.
    """
    name = NETWORK.check("network", name)
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
