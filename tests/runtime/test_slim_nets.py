"""The networks of `slim.nets`, each run forward on a small image."""

import numpy as np
import pytest
from slim_running import draw, initialize

from deep_reid.compat import slim, tf

nets = slim.nets
NUM_CLASSES = 7


def forward(network, arg_scope, size, *, num_images=1, **given):
    """Logits and end points of random images, by random weights."""
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.constant(draw(num_images, size, size, 3))
        with slim.arg_scope(arg_scope):
            fetches = network(images, NUM_CLASSES, **given)
        initialize(session)
        return session.run(fetches)


def check_logits(logits, shape):
    assert logits.shape == shape
    assert np.isfinite(logits).all()
    assert logits.std() > 0


def check_probabilities(probabilities, logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    expected = exponentials / exponentials.sum(-1, keepdims=True)
    # TensorFlow's threads flush to zero what is below float32's smallest normal number.
    smallest = np.finfo(np.float32).tiny
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=smallest)


def small_resnet(version):
    """Two blocks of narrow units; the first one halves the image."""
    module = getattr(nets, f"resnet_{version}")
    block = getattr(module, f"resnet_{version}_block")
    blocks = [block("block1", 4, num_units=1, stride=2), block("block2", 8, num_units=1, stride=1)]

    def network(images, num_classes, **given):
        return getattr(module, f"resnet_{version}")(
            images, blocks, num_classes, scope="small", **given
        )

    return network


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_small_resnet_runs(version, is_training):
    logits, end_points = forward(
        small_resnet(version),
        nets.resnet_utils.resnet_arg_scope(),
        33,
        num_images=2,
        is_training=is_training,
    )
    check_logits(logits, (2, 1, 1, NUM_CLASSES))
    check_probabilities(end_points["predictions"], logits)
    assert end_points["small/block1"].shape == (2, 5, 5, 16)
    assert end_points["small/block2"].shape == (2, 5, 5, 32)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_small_resnet_keeps_its_resolution_by_an_output_stride(version):
    _, end_points = forward(
        small_resnet(version),
        nets.resnet_utils.resnet_arg_scope(),
        33,
        global_pool=False,
        output_stride=4,
        is_training=False,
    )
    assert end_points["small/block2"].shape == (1, 9, 9, 32)


@pytest.mark.slow
def test_a_small_resnet_is_trained_with_clipped_gradients(graph):
    labels = tf.constant([1, 5])
    with slim.arg_scope(nets.resnet_utils.resnet_arg_scope(weight_decay=0.1)):
        logits, _ = small_resnet("v2")(tf.constant(draw(2, 33, 33, 3)), NUM_CLASSES)
    slim.losses.sparse_softmax_cross_entropy(tf.squeeze(logits, [1, 2]), labels)
    loss = slim.losses.get_total_loss()
    train_op = slim.learning.create_train_op(
        loss, tf.train.MomentumOptimizer(0.01, 0.9), clip_gradient_norm=1.0
    )
    with tf.Session() as session:
        initialize(session)
        losses = [session.run(train_op) for _ in range(6)]
    assert losses[-1] < losses[0]
    assert len(tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)) == len(
        slim.get_variables_by_suffix("weights", "small")
    )


INCEPTION_BASES = {
    "v1": ("Mixed_3b", (1, 4, 4, 256)),
    "v2": ("Mixed_3b", (1, 4, 4, 64)),
    "v3": ("Mixed_5b", (1, 1, 1, 64)),
}


@pytest.mark.parametrize("version", INCEPTION_BASES)
def test_the_first_layers_of_inception_run(version):
    end_point, shape = INCEPTION_BASES[version]
    base = getattr(nets.inception, f"inception_{version}_base")
    narrow = {} if version == "v1" else {"depth_multiplier": 0.1}

    def network(images, _):
        return base(images, final_endpoint=end_point, **narrow)

    scope = getattr(nets.inception, f"inception_{version}_arg_scope")()
    output, end_points = forward(network, scope, 32)
    assert output.shape == shape
    np.testing.assert_array_equal(output, end_points[end_point])


CONVOLUTIONAL = {  # network, arg_scope, image size, an end point with its shape
    "alexnet_v2": (
        nets.alexnet.alexnet_v2,
        nets.alexnet.alexnet_v2_arg_scope,
        224,
        ("alexnet_v2/pool5", (1, 5, 5, 256)),
    ),
    "vgg_a": (nets.vgg.vgg_a, nets.vgg.vgg_arg_scope, 224, ("vgg_a/pool5", (1, 7, 7, 512))),
    "vgg_16": (nets.vgg.vgg_16, nets.vgg.vgg_arg_scope, 224, ("vgg_16/pool5", (1, 7, 7, 512))),
    "vgg_19": (nets.vgg.vgg_19, nets.vgg.vgg_arg_scope, 224, ("vgg_19/pool5", (1, 7, 7, 512))),
    "overfeat": (
        nets.overfeat.overfeat,
        nets.overfeat.overfeat_arg_scope,
        231,
        ("overfeat/pool5", (1, 6, 6, 1024)),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_a_convolutional_network_runs(name):
    network, arg_scope, size, (end_point, shape) = CONVOLUTIONAL[name]
    logits, end_points = forward(network, arg_scope(), size, is_training=False)
    check_logits(logits, (1, NUM_CLASSES))
    np.testing.assert_array_equal(end_points[f"{name}/fc8"], logits)
    assert end_points[end_point].shape == shape


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "size", "last"),
    [("v1", 224, "Mixed_5c"), ("v2", 224, "Mixed_5c"), ("v3", 299, "Mixed_7c")],
)
def test_an_inception_network_runs(version, size, last):
    logits, end_points = forward(
        getattr(nets.inception, f"inception_{version}"),
        getattr(nets.inception, f"inception_{version}_arg_scope")(),
        size,
        is_training=False,
    )
    check_logits(logits, (1, NUM_CLASSES))
    check_probabilities(end_points["Predictions"], logits)
    grid = 8 if version == "v3" else 7
    assert end_points[last].shape[1:3] == (grid, grid)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_resnet_50_runs(version):
    logits, end_points = forward(
        getattr(getattr(nets, f"resnet_{version}"), f"resnet_{version}_50"),
        nets.resnet_utils.resnet_arg_scope(),
        33,
        is_training=False,
    )
    check_logits(logits, (1, 1, 1, NUM_CLASSES))
    check_probabilities(end_points["predictions"], logits)
    assert end_points[f"resnet_{version}_50/block4"].shape == (1, 2, 2, 2048)
