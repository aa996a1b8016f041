"""What is folded away in a frozen graph, what must stay, and that results stay the same."""

import collections

import numpy as np
import pytest

from deep_reid.compat import slim, tf
from deep_reid.export import folding
from deep_reid.nets import deep_sort, mars_small128

pytestmark = pytest.mark.usefixtures("graph")

IMAGE_SHAPE = (6, 5, 3)
NUM_CHANNELS = 4


def draw(*shape, seed=0):
    return np.random.RandomState(seed).normal(size=shape).astype(np.float32)


def images_of(dtype=tf.float32, shape=IMAGE_SHAPE):
    return tf.placeholder(dtype, (None, *shape), name="images")


def convolve(images, weights=None, **settings):
    weights = draw(3, 3, 3, NUM_CHANNELS) if weights is None else weights
    return tf.nn.conv2d(images, weights, **({"strides": 1, "padding": "SAME"} | settings))


def normalize(x, *, gamma=None, **settings):
    """A batch norm with constants of its own."""
    gamma = 1 + 0.5 * draw(NUM_CHANNELS, seed=1) if gamma is None else gamma
    settings = {"epsilon": 0.01, "is_training": False} | settings
    mean, variance = draw(NUM_CHANNELS, seed=3), 0.5 + abs(draw(NUM_CHANNELS, seed=4))
    if settings["is_training"]:
        mean = variance = None
    return tf.nn.fused_batch_norm(
        x, gamma, draw(NUM_CHANNELS, seed=2), mean=mean, variance=variance, **settings
    )


def fold(features, feed=None):
    """Fold the default graph; checks that the results stay the same, unless it cannot be run."""
    tf.identity(features, name="features")
    graph_def = tf.get_default_graph().as_graph_def()
    before = graph_def.SerializeToString(deterministic=True)
    folded = folding.fold(graph_def, "features")
    assert graph_def.SerializeToString(deterministic=True) == before
    if feed is not None:
        expected = run(graph_def, feed)
        assert np.ptp(expected) > 0.1
        np.testing.assert_allclose(run(folded, feed), expected, rtol=0, atol=1e-5)
    return folded


def run(graph_def, images):
    with tf.Graph().as_default(), tf.Session() as session:
        (features,) = tf.import_graph_def(graph_def, return_elements=["features:0"], name="")
        return session.run(features, {"images:0": images})


def count_ops(graph_def):
    return collections.Counter(node.op for node in graph_def.node)


def find(graph_def, op):
    (node,) = [node for node in graph_def.node if node.op == op]
    return node


class TestBatchNorm:
    @pytest.mark.parametrize("settings", [{}, {"strides": 2}, {"padding": "VALID"}])
    def test_becomes_part_of_the_convolution_before_it(self, settings):
        folded = fold(normalize(convolve(images_of(), **settings))[0], draw(2, *IMAGE_SHAPE))
        ops = count_ops(folded)
        assert (ops["Conv2D"], ops["BiasAdd"], ops["FusedBatchNormV3"]) == (1, 1, 0)
        assert set(ops) == {"Placeholder", "Const", "Conv2D", "BiasAdd", "Identity"}

    def test_keeps_a_format_with_channels_first(self):
        images = images_of(shape=(3, 6, 5))
        features = normalize(convolve(images, data_format="NCHW"), data_format="NCHW")[0]
        folded = fold(features)  # TensorFlow cannot run it everywhere.
        assert find(folded, "BiasAdd").attr["data_format"].s == b"NCHW"
        assert "FusedBatchNormV3" not in count_ops(folded)

    def test_stays_where_its_format_is_not_that_of_the_convolution(self):
        images = images_of(shape=(NUM_CHANNELS, 5, 3))
        features = normalize(convolve(images), data_format="NCHW")[0]
        assert count_ops(fold(features))["FusedBatchNormV3"] == 1

    def test_stays_in_training_mode(self):
        features = normalize(convolve(images_of()), is_training=True)[0]
        folded = fold(tf.nn.elu(features), draw(2, *IMAGE_SHAPE))
        assert find(folded, "FusedBatchNormV3").attr["is_training"].b

    def test_stays_where_its_statistics_are_used(self):
        features, mean, _ = normalize(convolve(images_of()))
        folded = fold(tf.nn.elu(features) + mean, draw(2, *IMAGE_SHAPE))
        assert count_ops(folded)["FusedBatchNormV3"] == 1

    def test_stays_where_a_parameter_is_no_constant(self):
        images = images_of()
        gamma = tf.reduce_mean(images) + tf.ones(NUM_CHANNELS)
        folded = fold(tf.nn.elu(normalize(convolve(images), gamma=gamma)[0]), draw(2, *IMAGE_SHAPE))
        assert count_ops(folded)["FusedBatchNormV3"] == 1

    def test_stays_behind_a_convolution_that_is_used_elsewhere(self):
        convolved = convolve(images_of())
        folded = fold(convolved + normalize(convolved)[0], draw(2, *IMAGE_SHAPE))
        assert count_ops(folded)["FusedBatchNormV3"] == 1

    def test_stays_behind_a_convolution_that_is_the_output(self):
        convolved = tf.identity(convolve(images_of()), name="features")
        normalize(convolved)
        graph_def = tf.get_default_graph().as_graph_def()
        folded = folding.fold(graph_def, "features")
        images = draw(2, *IMAGE_SHAPE)
        np.testing.assert_allclose(run(folded, images), run(graph_def, images), atol=1e-5)

    def test_stays_behind_weights_that_are_no_constant(self):
        images = images_of()
        weights = tf.reduce_mean(images) * draw(3, 3, 3, NUM_CHANNELS)
        folded = fold(normalize(convolve(images, weights))[0], draw(2, *IMAGE_SHAPE))
        assert count_ops(folded)["FusedBatchNormV3"] == 1

    def test_stays_in_another_type(self):
        images = tf.cast(images_of(), tf.bfloat16)
        weights = tf.constant(draw(3, 3, 3, NUM_CHANNELS), tf.bfloat16)
        features = tf.nn.elu(normalize(convolve(images, weights))[0])
        assert count_ops(fold(tf.cast(features, tf.float32)))["FusedBatchNormV3"] == 1

    def test_stays_behind_a_fully_connected_layer(self):
        """Where it would become a bias, with which the layer is slow for changing batch sizes."""
        features = tf.matmul(slim.flatten(images_of()), draw(90, NUM_CHANNELS))
        features = normalize(tf.reshape(features, (-1, 1, 1, NUM_CHANNELS)))[0]
        folded = fold(tf.reshape(features, (-1, NUM_CHANNELS)), draw(2, *IMAGE_SHAPE))
        assert count_ops(folded)["FusedBatchNormV3"] == 1
        assert count_ops(folded)["BiasAdd"] == 0

    def test_leaves_the_weights_that_another_convolution_shares(self):
        images, weights = images_of(), tf.constant(draw(3, 3, 3, NUM_CHANNELS))
        features = normalize(convolve(images, weights))[0] + convolve(images[:, ::-1], weights)
        folded = fold(features, draw(2, *IMAGE_SHAPE))
        assert count_ops(folded)["FusedBatchNormV3"] == 0

    def test_groups_of_channels(self):
        weights = draw(3, 3, 1, 3 * NUM_CHANNELS)
        convolved = convolve(images_of(), weights)[:, :, :, :NUM_CHANNELS]
        fold(tf.nn.elu(normalize(convolved)[0]), draw(2, *IMAGE_SHAPE))

    def test_names_that_are_taken_are_not_taken_again(self):
        images = images_of()
        convolved = tf.nn.conv2d(images, draw(3, 3, 3, NUM_CHANNELS), 1, "SAME", name="conv")
        taken = tf.identity(images, name="conv/folded_weights")
        features = normalize(convolved)[0] + tf.reduce_mean(taken)
        assert count_ops(fold(features, draw(2, *IMAGE_SHAPE)))["FusedBatchNormV3"] == 0


class TestBatchNormBesideAShortcut:
    """As before the residual blocks: no layer whose weights could be scaled."""

    @pytest.mark.parametrize("activate", [tf.nn.elu, tf.nn.relu, tf.nn.relu6])
    def test_becomes_a_convolution_with_bias_and_activation(self, activate):
        images = images_of(shape=(6, 5, NUM_CHANNELS))
        folded = fold(images + activate(normalize(images)[0]), draw(2, 6, 5, NUM_CHANNELS))
        ops = count_ops(folded)
        assert (ops["DepthwiseConv2dNative"], ops["BiasAdd"], ops["FusedBatchNormV3"]) == (1, 1, 0)
        assert find(folded, "BiasAdd").input[0] == find(folded, "DepthwiseConv2dNative").name

    @pytest.mark.parametrize(
        ("behind", "settings"),
        [
            (tf.identity, {}),
            (tf.nn.sigmoid, {}),
            (lambda x: x + tf.nn.elu(x), {}),
            (tf.nn.elu, {"data_format": "NCHW"}),
        ],
        ids=["nothing", "another activation", "two users", "channels first"],
    )
    def test_stays_where_nothing_is_won(self, behind, settings):
        shape = (NUM_CHANNELS, 6, 5) if settings else (6, 5, NUM_CHANNELS)
        folded = fold(behind(normalize(images_of(shape=shape), **settings)[0]))
        assert count_ops(folded)["FusedBatchNormV3"] == 1


class TestChannelSwap:
    IMAGES = np.random.RandomState(0).randint(0, 256, (2, *IMAGE_SHAPE), np.uint8)

    def fold(self, swap, weights=None, scale=1 / 255.0):
        rgb_images = tf.cast(swap(images_of(tf.uint8)), tf.float32) * scale
        return fold(convolve(rgb_images, weights), self.IMAGES)

    @pytest.mark.parametrize("axis", [-1, 3])
    def test_becomes_part_of_the_first_convolution(self, axis):
        folded = self.fold(lambda images: tf.reverse(images, [axis]))
        assert set(count_ops(folded)) == {"Placeholder", "Cast", "Const", "Conv2D", "Identity"}

    def test_on_floats_and_without_scale(self):
        features = convolve(tf.reverse(images_of(), [-1]))
        assert "ReverseV2" not in count_ops(fold(features, draw(2, *IMAGE_SHAPE)))

    @pytest.mark.parametrize("axis", [[1], [1, 3], [0]], ids=str)
    def test_mirrored_images_stay_mirrored(self, axis):
        assert "ReverseV2" in count_ops(self.fold(lambda images: tf.reverse(images, axis)))

    def test_stays_before_groups_of_channels(self):
        folded = self.fold(lambda images: tf.reverse(images, [-1]), draw(3, 3, 1, 6))
        assert "ReverseV2" in count_ops(folded)

    def test_stays_where_a_scale_is_not_the_same_for_all_channels(self):
        folded = self.fold(lambda images: tf.reverse(images, [-1]), scale=[0.1, 0.2, 0.3])
        assert "ReverseV2" in count_ops(folded)

    def test_stays_where_the_swapped_images_are_used_elsewhere(self):
        rgb_images = tf.reverse(images_of(), [-1])
        folded = fold(convolve(rgb_images) + rgb_images[..., :1], draw(2, *IMAGE_SHAPE))
        assert "ReverseV2" in count_ops(folded)

    def test_stays_where_it_is_not_of_the_input(self):
        swapped = tf.reverse(tf.tanh(images_of()), [-1])
        assert "ReverseV2" in count_ops(fold(convolve(swapped), draw(2, *IMAGE_SHAPE)))


@pytest.mark.parametrize("is_before_constants", [False, True])
def test_checks_are_still_made(is_before_constants):
    images = images_of()
    check = tf.debugging.Assert(tf.reduce_all(images < 9), [tf.constant("too large")])
    axis = tf.constant([-1])
    with tf.control_dependencies([check]):
        swapped = tf.reverse(images, axis)
        features = normalize(convolve(swapped))[0] if is_before_constants else swapped
    if not is_before_constants:
        features = normalize(convolve(features))[0]
    folded = fold(features, draw(2, *IMAGE_SHAPE))
    assert is_before_constants == ("FusedBatchNormV3" in count_ops(folded))
    with pytest.raises(tf.errors.InvalidArgumentError, match="too large"):
        run(folded, np.full((1, *IMAGE_SHAPE), 10.0))


def test_what_nothing_needs_is_removed():
    images = images_of()
    tf.nn.l2_loss(images, name="loss")
    features = slim.dropout(convolve(images), is_training=False)
    ops = count_ops(fold(features, draw(2, *IMAGE_SHAPE)))
    assert set(ops) == {"Placeholder", "Const", "Conv2D", "Identity"}


def test_input_and_output_keep_name_type_and_shape():
    folded = fold(normalize(convolve(images_of()))[0])
    with tf.Graph().as_default():
        images, features = tf.import_graph_def(
            folded, return_elements=["images:0", "features:0"], name=""
        )
    assert (images.dtype, features.dtype) == (tf.float32, tf.float32)
    assert images.get_shape().as_list() == [None, *IMAGE_SHAPE]
    assert features.get_shape().as_list() == [None, *IMAGE_SHAPE[:2], NUM_CHANNELS]


def test_attributes_with_default_values_are_left_to_the_reader():
    folded = fold(normalize(convolve(images_of()))[0])
    assert set(find(folded, "Conv2D").attr) == {"T", "strides", "padding"}


def test_a_folded_graph_can_be_folded_again():
    images = draw(2, 6, 5, NUM_CHANNELS)
    x = images_of(shape=(6, 5, NUM_CHANNELS))
    features = normalize(convolve(tf.nn.elu(normalize(x)[0]), draw(3, 3, NUM_CHANNELS, 4)))[0]
    folded = fold(features, images)
    again = folding.fold(folded, "features")
    assert count_ops(again) == count_ops(folded)
    np.testing.assert_allclose(run(again, images), run(folded, images), atol=1e-6)


@pytest.mark.parametrize(("network", "num_left"), [(deep_sort, 1), (mars_small128, 2)])
def test_folding_keeps_the_features_of_the_networks(network, num_left):
    """Features stay; batch norm is left behind the fully connected layer alone."""
    images = tf.placeholder(tf.uint8, (None, 32, 16, 3), name="images")
    factory = network.create_network_factory(False, None, add_logits=False)
    features = tf.identity(factory(network.preprocess(tf.reverse(images, [-1])))[0], "features")
    random = np.random.RandomState(0)
    with tf.Session() as session:
        for variable in slim.get_model_variables():
            shape = variable.get_shape().as_list()
            value = random.normal(size=shape) / np.sqrt(np.prod(shape[:-1]) if shape[1:] else 10)
            is_variance = variable.op.name.endswith("moving_variance")
            variable.load(abs(value) + 0.5 if is_variance else value, session)
        graph_def = tf.graph_util.convert_variables_to_constants(
            session, session.graph.as_graph_def(), [features.op.name]
        )
    folded = folding.fold(graph_def, "features")
    ops = count_ops(folded)
    assert ops["FusedBatchNormV3"] == num_left
    assert ops["DepthwiseConv2dNative"] == 5
    assert {"ReverseV2", "RealDiv"}.isdisjoint(ops) or network is mars_small128
    crops = random.randint(0, 256, (5, 32, 16, 3), np.uint8)
    expected = run(graph_def, crops)
    assert abs(expected[0] - expected[1]).max() > 1e-2
    np.testing.assert_allclose(run(folded, crops), expected, rtol=0, atol=1e-5)
