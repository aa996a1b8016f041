"""Networks that are made to reuse variables, in a graph that has none yet."""

from deep_reid.compat import tf


def allow_reuse(network_factory):
    """Let a network factory with ``reuse=True`` create the variables that are missing.

    Code written for the original builds one network after the other in the default graph, all but
    the first with ``reuse=True``. Here each one gets a graph of its own.

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
