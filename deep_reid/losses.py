"""The losses that a network can be trained with."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from deep_reid.config.loss_modes import LOSS_MODE, LOSS_MODES, facts_of_loss, import_loss
from deep_reid.distances import pdist
from deep_reid.errors import UsageError
from deep_reid.interfaces import Loss
from deep_reid.runtime.compat import tf
from deep_reid.runtime.precision import keep_exact, release

_EPSILON = 1e-4
_SQUARED_DISTANCE_EPSILON = 1e-5


class MagnetLoss(NamedTuple):
    """Results of `magnet_loss`, which describes them.

    Parameters
    ----------
    loss, class_means, variance : tf.Tensor
    """

    loss: tf.Tensor
    class_means: tf.Tensor
    variance: tf.Tensor


def softmargin_triplet_loss(
    features: tf.Tensor, labels: tf.Tensor, create_summaries: bool = True
) -> tf.Tensor:
    """Compute the batch-hard triplet loss with soft margin.

    For each row, the distance to the farthest row of the same label minus the distance to the
    nearest row of another label goes through softplus [1]_. Distances are Euclidean.

    Parameters
    ----------
    features : tf.Tensor of float32, shape (N, D)
    labels : tf.Tensor of int, shape (N,)
    create_summaries : bool
        Whether to add summaries of the loss, of both mean distances, and of the share of rows that
        are nearer to all rows of their label than to any other row.

    Returns
    -------
    tf.Tensor of float32, shape ()
        Mean over the rows. A row that is the only one of its label counts itself, at the distance
        ``sqrt(1e-5)``. If all rows have the same label, the loss is 0.

    References
    ----------
    .. [1] Hermans, Beyer & Leibe, "In defense of the triplet loss for person re-identification",
       arXiv:1703.07737, 2017.
    """
    # The epsilon keeps the gradient of the root finite if two rows are equal.
    distances = tf.sqrt(tf.maximum(_SQUARED_DISTANCE_EPSILON + pdist(features), 0.0))
    is_same = tf.equal(labels[:, tf.newaxis], labels[tf.newaxis, :])
    infinity = tf.fill(tf.shape(distances), distances.dtype.max)
    farthest_positive = tf.reduce_max(tf.where(is_same, distances, -infinity), axis=1)
    nearest_negative = tf.reduce_min(tf.where(is_same, infinity, distances), axis=1)
    loss = tf.reduce_mean(tf.nn.softplus(farthest_positive - nearest_negative))
    if create_summaries:
        is_solved = tf.cast(farthest_positive < nearest_negative, tf.float32)
        tf.summary.scalar("triplet_loss", loss)
        tf.summary.scalar("triplet/farthest_positive", tf.reduce_mean(farthest_positive))
        tf.summary.scalar("triplet/nearest_negative", tf.reduce_mean(nearest_negative))
        tf.summary.scalar("triplet/share_solved", tf.reduce_mean(is_solved))
    return loss


def magnet_loss(
    features: tf.Tensor,
    labels: tf.Tensor,
    margin: float = 1.0,
    unique_labels: tf.Tensor | None = None,
) -> MagnetLoss:
    """Compute the magnet loss with one cluster per class.

    It pulls each row to the mean of its class, and pushes it away from the other means. Distances
    are in units of the batch's variance around the class means [1]_.

    Parameters
    ----------
    features : tf.Tensor of float32, shape (N, D)
    labels : tf.Tensor of int, shape (N,)
    margin : float
        Subtracted from the exponent of the row's class.
    unique_labels : tf.Tensor of int, shape (C,), optional
        Each label once. Default: the labels in the order of their first rows.

    Returns
    -------
    loss : tf.Tensor of float32, shape ()
        Mean over the rows.
    class_means : tf.Tensor of float32, shape (C, D)
        In the order of `unique_labels`.
    variance : tf.Tensor of float32, shape ()

    References
    ----------
    .. [1] Rippel et al., "Metric learning with adaptive density discrimination", ICLR 2016,
       arXiv:1511.05939.
    """
    if unique_labels is None:
        unique_labels, _ = tf.unique(labels)
    is_own = tf.cast(tf.equal(labels[:, tf.newaxis], unique_labels[tf.newaxis, :]), features.dtype)
    class_means = (
        tf.matmul(is_own, features, transpose_a=True) / tf.reduce_sum(is_own, axis=0)[:, tf.newaxis]
    )
    squared_distances = pdist(features, class_means)
    num_rows = tf.cast(tf.shape(features)[0], features.dtype)
    own_means = tf.matmul(is_own, class_means)
    squared_deviation = tf.reduce_sum(tf.squared_difference(features, own_means))
    variance = squared_deviation / tf.maximum(num_rows - 1.0, 1.0)

    exponents = -squared_distances / (2.0 * (variance + _EPSILON)) - margin * is_own
    # Scales numerator and denominator by the same factor, so that no exponent overflows.
    exponents -= tf.reduce_max(exponents, axis=1, keepdims=True)
    attraction = tf.exp(exponents)
    own = tf.reduce_sum(is_own * attraction, axis=1)
    others = tf.reduce_sum((1.0 - is_own) * attraction, axis=1)
    ratio = own / (_EPSILON + others)
    loss = tf.reduce_mean(tf.nn.relu(-tf.log(_EPSILON + ratio)))
    return MagnetLoss(loss, class_means, variance)


def cosine_softmax_loss(
    logits: tf.Tensor,
    labels: tf.Tensor,
    label_smoothing: float = 0.0,
    margin: float = 0.0,
    scale: tf.Tensor | float = 1.0,
) -> tf.Tensor:
    """Compute the cross entropy of the cosine softmax classifier.

    The classifier itself is part of the network (`deep_reid.nets`): scaled cosines to one unit
    vector per class [1]_.

    Parameters
    ----------
    logits : tf.Tensor of float32, shape (N, num_classes)
    labels : tf.Tensor of int, shape (N,)
        In [0, num_classes).
    label_smoothing : float
        The share e of [2]_: the target is ``1 - e`` for the label, plus ``e / num_classes`` for
        each class.
    margin : float
        Subtracted from the cosine to the label's vector [3]_: from its logit, times `scale`.
    scale : tf.Tensor of float, shape () or (num_classes,)
        The factor between cosines and logits.

    Returns
    -------
    tf.Tensor of float32, shape ()
        Mean over the rows.

    References
    ----------
    .. [1] Wojke & Bewley, "Deep cosine metric learning for person re-identification", WACV 2018.
    .. [2] Szegedy et al., "Rethinking the inception architecture for computer vision", CVPR 2016.
    .. [3] Wang et al., "CosFace: large margin cosine loss for deep face recognition", CVPR 2018.
    """
    if margin:
        is_own = tf.one_hot(labels, tf.shape(logits)[1], dtype=logits.dtype)
        logits -= margin * tf.cast(scale, logits.dtype) * is_own
    loss = tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    )
    if label_smoothing:
        of_all = tf.reduce_logsumexp(logits, axis=1) - tf.reduce_mean(logits, axis=1)
        loss = (1.0 - label_smoothing) * loss + label_smoothing * tf.reduce_mean(of_all)
    return loss


_LOSS_FUNCTIONS = {
    "cosine-softmax": lambda features, logits, labels: cosine_softmax_loss(logits, labels),
    "magnet": lambda features, logits, labels: magnet_loss(features, labels).loss,
    "triplet": lambda features, logits, labels: softmargin_triplet_loss(features, labels, False),
}
# The original's names: people have dashboards for them.
_SUMMARY_NAMES = {"cosine-softmax": "cross_entropy_loss", "magnet": "magnet_loss"}


def load_loss(loss_mode: str) -> Loss:
    """Return the function of a loss.

    Parameters
    ----------
    loss_mode : str
        A mode of the package, or ``MODULE:NAME`` of the user.

    Returns
    -------
    deep_reid.interfaces.Loss

    Raises
    ------
    UsageError
        If the loss is unknown, or cannot be imported or called.
    """
    LOSS_MODE.check("loss_mode", loss_mode)
    return _LOSS_FUNCTIONS.get(loss_mode) or import_loss(loss_mode)


def add_training_loss(
    loss_mode: str,
    features: tf.Tensor,
    logits: tf.Tensor | None,
    labels: tf.Tensor,
    *,
    monitor_losses: bool = True,
    label_smoothing: float = 0.0,
    logit_margin: float = 0.0,
    logit_scale: tf.Tensor | None = None,
    further: Mapping[str, float] | None = None,
) -> tf.Tensor:
    """Add the loss that the network is trained on, and summaries of all others.

    The training loss joins TensorFlow's collection of losses, whose sum is the total loss. The
    other losses are *monitors*: they have summaries, with the same names as in a training on them,
    but are no part of the total loss.

    Parameters
    ----------
    loss_mode : {"cosine-softmax", "magnet", "triplet"} or "MODULE:NAME"
    features : tf.Tensor of float32, shape (N, D)
    logits : tf.Tensor of float32, shape (N, num_classes), or None
    labels : tf.Tensor of int64, shape (N,)
    monitor_losses : bool
        Whether to add summaries of the other losses. They take time only in the steps that write
        summaries.
    label_smoothing, logit_margin, logit_scale
        As in `cosine_softmax_loss`, for that loss mode. The margin needs the scale.
    further : dict of str -> float, optional
        The weights of other loss modes, which are added.

    Returns
    -------
    tf.Tensor of float32, shape ()
        The training loss with the further ones, without regularization.

    Raises
    ------
    UsageError
        If the loss mode is unknown, or needs logits and there are none; or if a loss of the user
        cannot be used, or returns something else than one number.
    """
    if facts_of_loss(loss_mode).needs_logits and logits is None:
        raise UsageError(
            f"loss mode {loss_mode!r} needs logits, but the network factory returned None for "
            "them: create the network with add_logits=True"
        )
    features = keep_exact(features)
    logits = None if logits is None else keep_exact(logits)
    if logit_margin and logit_scale is None:
        raise UsageError(
            f"logit_margin ({logit_margin}) needs the factor between cosines and logits, which the "
            "network does not tell: leave it out, or let your own network call "
            "deep_reid.nets.start.add_logit_scale"
        )

    def soften(features, logits, labels):
        del features
        scale = 1.0 if logit_scale is None else logit_scale
        return cosine_softmax_loss(logits, labels, label_smoothing, logit_margin, scale)

    is_softened = bool(label_smoothing or logit_margin)
    function = soften if is_softened else load_loss(loss_mode)
    loss = _compute(loss_mode, function, features, logits, labels)
    tf.losses.add_loss(loss)
    _summarize(loss_mode, features, logits, labels, loss)
    further = further or {}
    for other, weight in further.items():
        part = _compute(other, load_loss(other), features, logits, labels)
        _summarize(other, features, logits, labels, part)
        tf.losses.add_loss(weight * part)
        loss += weight * part
    if logits is not None:
        is_right = tf.equal(tf.argmax(logits, axis=1), tf.cast(labels, tf.int64))
        tf.summary.scalar("classification_accuracy", tf.reduce_mean(tf.cast(is_right, tf.float32)))
    for monitor in LOSS_MODES if monitor_losses else ():
        if monitor not in (loss_mode, *further) and not (
            facts_of_loss(monitor).needs_logits and logits is None
        ):
            _summarize(monitor, tf.stop_gradient(features), logits, labels)
    return loss


def _compute(loss_mode, function, features, logits, labels):
    """Add the ops of a loss, and check its result: it may be a loss of the user."""
    loss = function(features, logits, labels)
    is_float = tf.is_tensor(loss) and loss.dtype.is_floating
    if not is_float or loss.get_shape().ndims not in (0, None):
        raise UsageError(
            f"loss mode {loss_mode!r} returned {loss}, but a loss is one number: return a tensor "
            "of float without dimensions, such as tf.reduce_mean(...)"
        )
    # The functions of tf.losses add their results to the collection: these would count twice.
    collected = tf.get_collection_ref(tf.GraphKeys.LOSSES)
    collected[:] = [other for other in collected if other is not loss]
    return release(loss)


def _summarize(loss_mode, features, logits, labels, loss=None):
    """Add the summaries of a loss, which is computed by default."""
    if loss_mode == "triplet":
        softmargin_triplet_loss(features, labels)
        return
    if loss is None:
        loss = _LOSS_FUNCTIONS[loss_mode](features, logits, labels)
    tf.summary.scalar(_SUMMARY_NAMES.get(loss_mode) or _to_tag(loss_mode), loss)


def _to_tag(loss_mode):
    """Convert the name in MODULE:NAME to one that TensorFlow allows for a summary."""
    return re.sub(r"[^A-Za-z0-9_.]", "_", loss_mode.partition(":")[2]).lstrip("_") or "loss"
