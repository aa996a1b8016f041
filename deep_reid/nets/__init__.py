"""Networks that map an image to a feature vector of unit length; this file is free of TensorFlow.

A network is found by its name: `load_network`.
"""

import importlib

from deep_reid.config.imports import check_call, import_named
from deep_reid.config.run import NETWORK, NETWORKS

# What each is called with: by position, and by name.
_CALLS = {
    "create_network_factory": ((), ("is_training", "num_classes", "add_logits")),
    "preprocess": (("image",), ("is_training",)),
}


def load_network(name):
    """Load a network.

    Parameters
    ----------
    name : str
        Of a module of this package, or ``MODULE:NAME`` of the user's own.

    Returns
    -------
    deep_reid.interfaces.Network

    Raises
    ------
    UsageError
        If the network is unknown, cannot be imported, or lacks what a network needs.
    """
    NETWORK.check("network", name)
    if name in NETWORKS:
        return importlib.import_module(f"{__name__}.{name}")
    network = import_named(name)
    for part, arguments in _CALLS.items():
        check_call(f"{name}.{part}", getattr(network, part, None), *arguments)
    return network


def create_inference_network(network):
    """Create the factory of a network that gives features alone.

    Parameters
    ----------
    network : deep_reid.interfaces.Network

    Returns
    -------
    deep_reid.interfaces.NetworkFactory
    """
    return network.create_network_factory(is_training=False, num_classes=None, add_logits=False)


def may_fit(network, variable_shapes):
    """Tell whether a checkpoint may be of a network, as far as the network knows.

    Parameters
    ----------
    network : deep_reid.interfaces.Network
    variable_shapes : dict of str -> list of int
        The variables of the checkpoint.

    Returns
    -------
    bool
    """
    return not hasattr(network, "fits") or network.fits(variable_shapes)


def find_num_classes(network, variable_shapes, recorded):
    """Return the number of classes of a checkpoint's classifier.

    Parameters
    ----------
    network : deep_reid.interfaces.Network
    variable_shapes : dict of str -> list of int
        The variables of the checkpoint.
    recorded : int or None
        What its run has recorded; for a network that cannot tell.

    Returns
    -------
    int or None
        None: it has no classifier.
    """
    has_it = hasattr(network, "num_classes_in")
    return network.num_classes_in(variable_shapes) if has_it else recorded
