"""The graph of a training step: network, losses, checks and optimizer."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from deep_reid import losses
from deep_reid.config import ComputeSettings, RunConfig
from deep_reid.config.setting import takes_settings
from deep_reid.config.step import StepSettings
from deep_reid.distances import cosine_distance
from deep_reid.engine import health
from deep_reid.engine.image_trainer import create_image_trainer
from deep_reid.engine.queued_trainer import QueuedTrainer
from deep_reid.errors import UsageError
from deep_reid.images.augmentation import recolor_identities, swap_backgrounds
from deep_reid.interfaces import NetworkFactory, Preprocess
from deep_reid.nets import start
from deep_reid.nets.building import build_network
from deep_reid.runtime import precision
from deep_reid.runtime.cluster import ALONE, Cluster
from deep_reid.runtime.compat import enable_op_determinism, slim, tf
from deep_reid.training.optimizers import average_weights, create_optimizer

_MAX_SUMMARY_IMAGES = 8


class TrainingStep(NamedTuple):
    """A training step; see `create_step`."""

    train_op: tf.Tensor
    num_classes: int | None


@takes_settings(StepSettings, base=ComputeSettings)
def create_trainer(
    preprocess_fn: Preprocess,
    network_factory: NetworkFactory,
    read_from_file: bool,
    image_shape: Sequence[int],
    batch_size: int,
    loss_mode: str,
    learning_rate: float = 1e-3,
    trainable_scopes: Sequence[str] | None = None,
    *,
    compute: ComputeSettings = ComputeSettings(),
    **settings: Any,
) -> tuple[QueuedTrainer, tf.Tensor]:
    """Build the graph of a training step in the default graph.

    Parameters
    ----------
    preprocess_fn : callable
        ``preprocess_fn(image, is_training=...)``, see
        `deep_reid.images.pipeline.create_image_input`.
    network_factory : callable
        ``network_factory(images) -> (features, logits)``, in training mode; logits may be None if
        the loss does not need them.
    read_from_file : bool
        Whether the trainer gets file names, or uint8 images.
    image_shape : tuple of int
        (height, width, channels) of the network's input, or (height, width) for gray images. Images
        in arrays must have this shape.
    batch_size : int
    loss_mode : {"cosine-softmax", "magnet", "triplet"} or "MODULE:NAME"
    learning_rate : float
        Of the optimizer.
    trainable_scopes : sequence of str, optional
        Scopes of the variables to train. Default: all.
    compute : ComputeSettings
        Precision and threads. Create the session with the same settings:
        `deep_reid.runtime.sessions.create_session_config`.
    **settings
        Other settings of `deep_reid.config.step.StepSettings`.

    Returns
    -------
    trainer : QueuedTrainer
        Feed it with (images or file names, labels).
    train_op : tf.Tensor
        Makes an update and returns the total loss.

    Raises
    ------
    UsageError
        If the loss mode is unknown or needs logits that the network does not have, a scope has no
        variables to train, another setting breaks its rule, or this machine cannot compute in that
        precision.
    """
    step_settings = StepSettings(
        loss_mode=loss_mode,
        trainable_scopes=trainable_scopes,
        **dataclasses.asdict(ComputeSettings.of(compute)),
        **settings,
    )
    precision.set_precision(step_settings)
    trainer = create_image_trainer(
        preprocess_fn,
        image_shape,
        read_from_file,
        is_training=True,
        num_enqueue_threads=step_settings.num_enqueue_threads,
        queue_capacity=step_settings.queue_capacity,
        augment=step_settings.augment,
        compute=step_settings,
    )
    images, labels = trainer.get_input_vars(batch_size)
    step = create_step(network_factory, images, labels, learning_rate, step_settings)
    return trainer, step.train_op


def prepare_graph(config: RunConfig) -> None:
    """Prepare the default graph for a run: seed, determinism and precision.

    Parameters
    ----------
    config : RunConfig

    Raises
    ------
    UsageError
        If this machine cannot compute in the run's precision.
    """
    if config.seed is not None:
        tf.set_random_seed(config.seed)
    if config.deterministic:
        enable_op_determinism()
    precision.set_precision(config)


def create_step(
    network_factory: NetworkFactory,
    images: tf.Tensor,
    labels: tf.Tensor,
    learning_rate: float | tf.Tensor,
    settings: StepSettings,
    cluster: Cluster = ALONE,
) -> TrainingStep:
    """Build the graph of a training step on a batch of preprocessed images.

    Parameters
    ----------
    network_factory : callable
        As in `create_trainer`.
    images : tf.Tensor of float32, shape (N, H, W, C)
    labels : tf.Tensor of int64, shape (N,)
    learning_rate : float or tf.Tensor
    settings : StepSettings
    cluster : deep_reid.runtime.cluster.Cluster
        The processes that train together. Running averages, those of batch norm and those of the
        weights, are the chief's.

    Returns
    -------
    train_op : tf.Tensor
        Makes an update and returns the total loss.
    num_classes : int or None
        Number of classes of the network's logits; None: it has none.

    Raises
    ------
    UsageError
        As in `create_trainer`.
    """
    if settings.recolor_identities:
        images, labels = recolor_identities(images, labels)
    if "background" in settings.augment:
        images = swap_backgrounds(images)
    tf.summary.image("images", images, max_outputs=_MAX_SUMMARY_IMAGES)
    with start.starting(settings):
        features, logits = build_network(network_factory, images)
    num_classes = None if logits is None else logits.get_shape().as_list()[1]
    if num_classes is not None:
        labels = _assert_labels(labels, num_classes)
    loss = losses.add_training_loss(
        settings.loss_mode,
        features,
        logits,
        labels,
        monitor_losses=settings.monitor_losses,
        label_smoothing=settings.label_smoothing,
        logit_margin=settings.logit_margin,
        logit_scale=start.find_logit_scale(),
        further=settings.further_losses,
    )
    total_loss = _create_total_loss()
    watched = {
        "images": images,
        "features": features,
        "logits": logits,
        f"loss {settings.loss_mode}": loss,
        "total loss": total_loss,
    }
    for name, tensor in watched.items():
        if tensor is not None:
            health.watch_numbers(name, tensor)
    health.watch_spread(features)
    tf.summary.scalar("learning_rate", learning_rate)
    optimizer = cluster.synchronize(create_optimizer(settings, learning_rate))
    create = _create_scaled_train_op if settings.precision == "float16" else _create_train_op
    variables = _select_trainable(settings.trainable_scopes)
    # Processes that updated the same running averages would overwrite what others add to them.
    update_ops = None if cluster.is_chief else []
    train_op = create(total_loss, optimizer, variables, update_ops)
    if settings.ema_decay and cluster.is_chief:
        variables = tf.trainable_variables() if variables is None else variables
        train_op = average_weights(train_op, variables, settings.ema_decay)
    train_op = cluster.follow(train_op)
    summarize_spread(features, labels)  # last: ops change what random ops after them draw
    return TrainingStep(train_op, num_classes)


def _create_train_op(total_loss, optimizer, variables, update_ops):
    return slim.training.create_train_op(
        total_loss,
        optimizer,
        update_ops=update_ops,
        variables_to_train=variables,
        transform_grads_fn=health.watch_gradients,
        check_numerics=False,  # the checks of `health` tell more
    )


def _create_scaled_train_op(total_loss, optimizer, variables, update_ops):
    """Scale the loss: most gradients are too small for float16 [1]_.

    Gradients overflow while the scale is adjusted; then there is no update. The step counts all the
    same: its batch is used up, and a resumed run goes on with the next batch.

    References
    ----------
    .. [1] P. Micikevicius et al.: Mixed Precision Training. ICLR 2018.
    """
    scale = tf.mixed_precision.DynamicLossScale()
    update = slim.training.create_train_op(
        total_loss,
        tf.mixed_precision.MixedPrecisionLossScaleOptimizer(optimizer, scale),
        global_step=None,
        update_ops=update_ops,
        variables_to_train=variables,
        check_numerics=False,
    )
    with tf.control_dependencies([update]):
        count = tf.train.get_or_create_global_step().assign_add(1)
    with tf.control_dependencies([count]):
        return tf.identity(update)


def summarize_spread(features: tf.Tensor, labels: tf.Tensor) -> None:
    """Summarize cosine distances within and between the identities of a batch.

    Where a network has collapsed, all are near 0. Where it has learned, the two histograms are
    apart.

    Parameters
    ----------
    features : tf.Tensor of float32, shape (N, D)
    labels : tf.Tensor of int, shape (N,)
    """
    distances = cosine_distance(features, features)
    is_same = tf.equal(labels[:, tf.newaxis], labels[tf.newaxis, :])
    is_other_row = ~tf.eye(tf.shape(labels)[0], dtype=tf.bool)
    within = tf.boolean_mask(distances, is_same & is_other_row)
    tf.summary.histogram("cosine_distance/within_identities", within)
    between = tf.boolean_mask(distances, ~is_same)
    tf.summary.histogram("cosine_distance/between_identities", between)


def _assert_labels(labels, num_classes):
    # On a GPU the cross entropy of a label out of range is NaN, without an error.
    with tf.device("/cpu:0"):
        is_in_range = tf.logical_and(labels >= 0, labels < num_classes)
        message = f"labels must be in [0, {num_classes}), the classes of the network's logits"
        check = tf.Assert(tf.reduce_all(is_in_range), [message, labels], summarize=8)
    with tf.control_dependencies([check]):
        return tf.identity(labels)


def _create_total_loss():
    regularization_loss = tf.losses.get_regularization_loss()
    # With its default name, the op would change the name of the summary below.
    total_loss = tf.losses.get_total_loss(name="sum_of_losses")
    tf.summary.scalar("weight_loss", regularization_loss)
    tf.summary.scalar("total_loss", total_loss)
    return total_loss


def _select_trainable(scopes):
    if not scopes:
        return None
    selected: list[tf.Variable] = []
    for scope in scopes:
        variables = tf.trainable_variables(scope=scope_pattern(scope))
        if not variables:
            names = sorted({v.op.name.split("/")[0] for v in tf.trainable_variables()})
            raise UsageError(
                f"trainable scope {scope!r} has no variables: use some of {', '.join(names)}"
            )
        selected.extend(variable for variable in variables if variable not in selected)
    return selected


def scope_pattern(scope: str) -> str:
    """Return a pattern for the variables in a scope, without scopes whose names only begin alike.

    Parameters
    ----------
    scope : str
        Name of a scope, or a regular expression for a whole name, such as ``conv[34]_.*``.

    Returns
    -------
    str
        A regular expression.

    Raises
    ------
    UsageError
        If it is no regular expression.
    """
    try:
        re.compile(scope)
    except re.error as error:
        raise UsageError(
            f"scope {scope!r} is no regular expression ({error}): use the name of a scope, such as "
            "'conv1_1', or an expression such as 'conv[34]_.*'"
        ) from error
    return f"^(?:{scope})(/|$)"
