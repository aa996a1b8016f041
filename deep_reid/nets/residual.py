"""Pre-activation residual blocks (He et al. 2016, arXiv:1603.05027), as in Deep SORT."""

from collections.abc import Callable

from deep_reid.nets.dropout import dropout
from deep_reid.runtime.compat import slim, tf
from deep_reid.runtime.precision import elu

KEEP_PROBABILITY = 0.6


def batch_norm_in(scope: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Create a normalizer function whose variables have the published names.

    Parameters
    ----------
    scope : str
        The scope of the layer. It comes twice in the names of the variables: "fc1/fc1/bn/beta".

    Returns
    -------
    callable
        For ``normalizer_fn`` of TF-Slim's layers.
    """
    return lambda inputs: slim.batch_norm(inputs, scope=f"{scope}/bn")


def residual_block(
    inputs: tf.Tensor, scope: str, *, stride: int = 1, preactivate: bool = True
) -> tf.Tensor:
    """Add a residual block: ``shortcut(x) + conv_2(dropout(ELU(BN(conv_1(ELU(BN(x)))))))``.

    The convolutions take their initializers, regularizer, batch norm and activation from the
    enclosing ``slim.arg_scope``; the second one has biases, but no batch norm or activation.

    Parameters
    ----------
    inputs : tf.Tensor of float32, shape (N, H, W, C)
    scope : str
        Scope of the block's variables.
    stride : {1, 2}
        With 2, height and width are halved, the number of channels is doubled, and the shortcut is
        a 1 x 1 convolution of `inputs` (before batch norm and activation); otherwise the identity.
    preactivate : bool
        Whether batch norm and ELU come before the first convolution. The network's first block has
        none, because the layer before it ends with both.

    Returns
    -------
    tf.Tensor of float32, shape (N, ceil(H / stride), ceil(W / stride), C * stride)
    """
    num_channels = inputs.get_shape().as_list()[-1] * stride
    # A variable scope and a layer scope of the same name give the published names: "x/1/x/1/bn".
    with tf.variable_scope(scope):
        network = elu(slim.batch_norm(inputs, scope="bn")) if preactivate else inputs
        network = slim.conv2d(
            network,
            num_channels,
            [3, 3],
            stride=stride,
            normalizer_fn=batch_norm_in(f"{scope}/1"),
            scope="1",
        )
        network = dropout(network, KEEP_PROBABILITY)
        network = slim.conv2d(
            network, num_channels, [3, 3], activation_fn=None, normalizer_fn=None, scope="2"
        )
        return _shortcut(inputs, num_channels, stride) + network


def _shortcut(inputs, num_channels, stride):
    if stride == 1:
        return inputs
    return slim.conv2d(
        inputs,
        num_channels,
        [1, 1],
        stride=stride,
        activation_fn=None,
        normalizer_fn=None,
        biases_initializer=None,
        scope="projection",
    )
