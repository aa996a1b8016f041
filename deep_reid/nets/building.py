"""Adds a network of the user to a graph."""

from deep_reid.errors import UsageError
from deep_reid.interfaces import NetworkFactory
from deep_reid.runtime.compat import slim, tf
from deep_reid.runtime.sessions import settle_seed


def build_network(
    network_factory: NetworkFactory, images: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Build a network, and register its variables as model variables.

    Only TF-Slim's layers do that themselves. If they leave out a trainable variable, for example of
    ``tf.layers`` or ``tf.get_variable``, all new variables are registered: otherwise they would be
    neither restored nor exported.

    Parameters
    ----------
    network_factory : callable
        ``network_factory(images) -> (features, logits)``.
    images : tf.Tensor of float32, shape (N, H, W, C)

    Returns
    -------
    features : tf.Tensor of float32, shape (N, D)
    logits : tf.Tensor of float32, shape (N, num_classes), or None

    Raises
    ------
    UsageError
        If the network returns something else.
    """
    settle_seed()
    before = _names_of(tf.global_variables())
    outputs = network_factory(images)
    if not isinstance(outputs, (tuple, list)) or len(outputs) != 2:
        raise UsageError(
            f"the network factory returned {outputs}: return (features, logits), with None in "
            "place of logits if add_logits is False"
        )
    features, logits = outputs
    known = before | _names_of(slim.get_model_variables())
    left = [variable for variable in tf.global_variables() if variable.op.name not in known]
    if _names_of(left) & _names_of(tf.trainable_variables()):
        for variable in left:
            tf.add_to_collection(tf.GraphKeys.MODEL_VARIABLES, variable)
    return features, logits


def allow_reuse(network_factory: NetworkFactory) -> NetworkFactory:
    """Let a network factory with ``reuse=True`` create the variables that are missing.

    Code written for the original builds one network after the other in the default graph, all but
    the first with ``reuse=True``. Here each network gets a new graph.

    Parameters
    ----------
    network_factory : callable
        ``network_factory(images) -> (features, logits)``.

    Returns
    -------
    callable
        The same, for a new graph.
    """

    def factory_fn(images):
        scope = tf.get_variable_scope()
        with tf.variable_scope(scope, custom_getter=_reuse_or_create, auxiliary_name_scope=False):
            return network_factory(images)

    return factory_fn


def _reuse_or_create(getter, *args, **kwargs):
    reuse = tf.AUTO_REUSE if kwargs.get("reuse") is True else kwargs.get("reuse")
    return getter(*args, **{**kwargs, "reuse": reuse})


def _names_of(variables):
    return {variable.op.name for variable in variables}
