"""The network of Deep SORT: names, numbers, layers, and its preprocessing."""

import collections
import functools
from pathlib import Path

import numpy as np
import pytest
from golden import rule_made_value

from deep_reid.compat import slim, tf
from deep_reid.errors import UsageError
from deep_reid.nets import deep_sort, wide_residual
from deep_reid.nets.residual import residual_block

pytestmark = pytest.mark.usefixtures("graph")

IMAGE_SHAPE = (128, 64, 3)
SMALL_SHAPE = (16, 8, 3)  # of every size, the network has the same layers

BLOCK_SCOPES = ("conv2_1", "conv2_3", "conv3_1", "conv3_3", "conv4_1", "conv4_3")


def connect(is_training=False, num_classes=11, image_shape=IMAGE_SHAPE, **settings):
    """Connect the network to a placeholder; returns it with features and logits."""
    factory = deep_sort.create_network_factory(
        is_training, num_classes, add_logits=num_classes is not None, **settings
    )
    images = tf.placeholder(tf.float32, (None, *image_shape))
    return images, *factory(images)


@pytest.fixture(scope="module")
def connected_graph():
    """A graph with the network, to be looked at only."""
    with tf.Graph().as_default() as graph:
        connect()
    return graph


def load_rule_made_values(session):
    variables = sorted(slim.get_model_variables(), key=lambda variable: variable.op.name)
    for number, variable in enumerate(variables):
        shape = variable.get_shape().as_list()
        variable.load(rule_made_value(number, variable.op.name, shape), session)


def draw_images(num_images=4, image_shape=SMALL_SHAPE):
    return np.random.RandomState(0).rand(num_images, *image_shape).astype(np.float32)


class TestVariables:
    def shapes(self):
        return {v.op.name: str(v.get_shape().as_list()) for v in slim.get_model_variables()}

    @pytest.mark.parametrize("is_training", [False, True])
    def test_names_and_shapes_are_those_of_published_checkpoints(self, is_training, reference):
        connect(is_training)
        names, shapes = reference["net_variable_names"], reference["net_variable_shapes"]
        assert self.shapes() == dict(zip(names.tolist(), shapes.tolist(), strict=True))

    def test_names_and_shapes_agree_with_the_table(self):
        connect()
        table = Path(__file__).parents[1] / "data" / "variables.tsv"
        rows = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()[1:]]
        assert self.shapes() == dict(rows)

    def test_there_are_no_other_variables(self):
        connect(is_training=True)
        assert set(tf.global_variables()) == set(slim.get_model_variables())
        assert tf.local_variables() == []

    def test_all_but_the_moving_statistics_are_trained(self):
        connect(is_training=True)
        trained = {v.op.name for v in tf.trainable_variables()}
        assert trained == {name for name in self.shapes() if "/moving_" not in name}

    def test_without_logits_there_is_no_classifier(self):
        _, _, logits = connect(num_classes=None)
        assert logits is None
        without = self.shapes()
        connect()
        ball = {name for name in self.shapes() if name.startswith("ball/")}
        assert ball == {"ball/mean_vectors", "ball/scale"}
        assert set(without) == set(self.shapes()) - ball

    def test_variables_start_as_in_the_original(self):
        connect(num_classes=200)
        variables = {v.op.name: v for v in slim.get_model_variables()}
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            values = session.run(variables)
        for name, value in values.items():
            if name.endswith(("weights", "mean_vectors")):
                # A normal distribution cut at two standard deviations keeps 0.88 of the first.
                assert abs(value).max() <= 2e-3
                assert value.std() == pytest.approx(0.88e-3, rel=0.1)
                assert abs(value.mean()) < 2e-4
            else:
                assert (value == (1.0 if name.endswith("moving_variance") else 0.0)).all(), name

    @pytest.mark.parametrize("is_training", [False, True])
    def test_a_factory_may_be_called_again_and_shares_the_variables(self, is_training):
        factory = deep_sort.create_network_factory(is_training, 5, add_logits=True)
        factory(tf.zeros((2, *SMALL_SHAPE)))
        variables = set(tf.global_variables())
        factory(tf.zeros((3, *SMALL_SHAPE)))
        assert set(tf.global_variables()) == variables

    def test_training_and_inference_share_the_variables_in_one_graph(self):
        connect(is_training=True, image_shape=SMALL_SHAPE)
        variables = set(tf.global_variables())
        connect(is_training=False, image_shape=SMALL_SHAPE)
        assert set(tf.global_variables()) == variables

    def test_reuse_true_needs_variables(self):
        with pytest.raises(ValueError, match="does not exist"):
            connect(reuse=True)

    def test_an_enclosing_scope_comes_before_the_names(self):
        with tf.variable_scope("tower"):
            connect(image_shape=SMALL_SHAPE)
        assert all(name.startswith("tower/") for name in self.shapes())

    def test_the_number_of_classes_is_read_from_a_checkpoint(self):
        connect(num_classes=7)
        shapes = {v.op.name: v.get_shape().as_list() for v in slim.get_model_variables()}
        assert deep_sort.num_classes_in(shapes) == 7
        del shapes["ball/mean_vectors"]
        assert deep_sort.num_classes_in(shapes) is None


class TestGoldenFeatures:
    @pytest.fixture
    def run(self):
        """Run the network with the rule-made weights, on uint8 images."""
        images, features, logits = connect()
        with tf.Session() as session:
            load_rule_made_values(session)
            yield lambda x: session.run([features, logits], {images: x / np.float32(255.0)})

    def test_features_logits_and_unit_length(self, reference, run):
        features, logits = run(reference["net_images"])
        np.testing.assert_allclose(features, reference["net_features"], rtol=0, atol=1e-4)
        expected = reference["net_logits"]
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * abs(expected).max())
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1.0, rtol=1e-5)

    def test_a_batch_gives_what_its_images_give_one_by_one(self, reference, run):
        batch = run(reference["net_images"])
        single = [run(image[np.newaxis]) for image in reference["net_images"]]
        for together, apart in zip(batch, zip(*single, strict=True), strict=True):
            np.testing.assert_allclose(together, np.concatenate(apart), rtol=0, atol=1e-5)


class TestLayers:
    @pytest.mark.parametrize(
        "scope, shape",
        [
            ("conv1_1", (128, 64, 32)),
            ("conv1_2", (128, 64, 32)),
            ("pool1", (64, 32, 32)),
            ("conv2_1", (64, 32, 32)),
            ("conv2_3", (64, 32, 32)),
            ("conv3_1", (32, 16, 64)),
            ("conv3_3", (32, 16, 64)),
            ("conv4_1", (16, 8, 128)),
            ("conv4_3", (16, 8, 128)),
            ("Flatten", (16 * 8 * 128,)),
            ("fc1", (128,)),
        ],
    )
    def test_layers_have_the_output_shapes_of_the_original(self, connected_graph, scope, shape):
        # The scope of a block's variables is opened twice: the second time, TensorFlow adds "_1".
        scopes = (f"{scope}/", f"{scope}_1/") if scope in BLOCK_SCOPES else (f"{scope}/",)
        operations = connected_graph.get_operations()
        output = [op for op in operations if op.name.startswith(scopes)][-1]
        assert output.outputs[0].get_shape().as_list() == [None, *shape]

    def test_features_and_logits_have_known_widths(self):
        _, features, logits = connect(num_classes=11)
        assert features.get_shape().as_list() == [None, 128]
        assert logits.get_shape().as_list() == [None, 11]

    def test_there_is_one_activation_behind_each_batch_norm(self, graph):
        connect(num_classes=None)
        counts = collections.Counter(op.type for op in graph.get_operations())
        assert counts["Elu"] == counts["FusedBatchNormV3"] == 14
        assert counts["Relu"] == 0

    @pytest.mark.parametrize("is_training", [False, True])
    def test_batch_norm_has_epsilon_0_001_and_its_mode(self, graph, is_training):
        connect(is_training, image_shape=SMALL_SHAPE)
        nodes = [op.node_def for op in graph.get_operations() if op.type == "FusedBatchNormV3"]
        assert len(nodes) == 14
        for node in nodes:
            assert node.attr["epsilon"].f == pytest.approx(0.001)
            assert node.attr["is_training"].b is is_training

    def test_moving_statistics_keep_0_999_of_themselves(self):
        images, *_ = connect(is_training=True, image_shape=SMALL_SHAPE)
        update_ops = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        assert len(update_ops) == 2 * 14
        with tf.variable_scope("", reuse=True):
            moving_mean = tf.get_variable("conv1_1/conv1_1/bn/moving_mean")
            kernels = tf.get_variable("conv1_1/weights")
        batch_mean = tf.reduce_mean(
            tf.nn.conv2d(images, kernels, strides=1, padding="SAME"), axis=(0, 1, 2)
        )
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            moving_mean.load(np.full(32, 0.5), session)
            x = draw_images()
            mean = session.run(batch_mean, {images: x})
            session.run(update_ops, {images: x})
            np.testing.assert_allclose(session.run(moving_mean), 0.999 * 0.5 + 0.001 * mean)

    def test_inference_has_no_updates_and_no_chance(self, graph):
        connect(image_shape=SMALL_SHAPE)
        assert tf.get_collection(tf.GraphKeys.UPDATE_OPS) == []
        behind = {op.type for op in graph.get_operations() if "/Initializer/" not in op.name}
        assert not [op_type for op_type in behind if "Random" in op_type]

    def test_training_keeps_60_percent_in_each_block_and_before_the_features(self, graph):
        images, features, _ = connect(is_training=True, image_shape=SMALL_SHAPE)
        masks = [
            op.outputs[0]
            for op in graph.get_operations()
            if op.type == "Less" and "dropout" in op.name
        ]
        scopes = [mask.op.name.split("/")[0] for mask in masks]
        assert [scope[: len("convN_N")] for scope in scopes] == [*BLOCK_SCOPES, "dropout"]
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            for mask in session.run(masks, {images: draw_images(200)}):
                assert mask.mean() == pytest.approx(0.6, abs=0.02)

    def test_training_is_random_and_its_features_have_unit_length_too(self):
        images, features, _ = connect(is_training=True, image_shape=SMALL_SHAPE)
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            load_rule_made_values(session)
            first, second = (session.run(features, {images: draw_images()}) for _ in range(2))
        assert abs(first - second).max() > 1e-3
        np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1.0, rtol=1e-5)


class TestClassifier:
    def test_logits_are_cosines_times_the_softplus_of_the_scale(self):
        images, features, logits = connect(num_classes=5, image_shape=SMALL_SHAPE)
        with tf.variable_scope("", reuse=True):
            mean_vectors = tf.get_variable("ball/mean_vectors")
            scale = tf.get_variable("ball/scale", ())
        with tf.Session() as session:
            load_rule_made_values(session)
            scale.load(1.7, session)
            x, vectors, values = session.run(
                [features, mean_vectors, logits], {images: draw_images()}
            )
        cosines = x @ (vectors / np.linalg.norm(vectors, axis=0))
        np.testing.assert_allclose(values, np.log1p(np.exp(1.7)) * cosines, rtol=1e-4, atol=1e-5)

    def test_logits_without_a_number_of_classes_are_refused(self, graph):
        with pytest.raises(UsageError, match="num_classes"):
            deep_sort.create_network(tf.zeros((1, *SMALL_SHAPE)))
        with pytest.raises(UsageError, match="num_classes"):
            deep_sort.create_network_factory(True, None, True)(tf.zeros((1, *SMALL_SHAPE)))
        assert tf.global_variables() == []


class TestPenalties:
    def gradients(self):
        """Gradients of all penalties by the variables that have one, with the values."""
        penalty = tf.add_n(tf.losses.get_regularization_losses())
        variables = tf.trainable_variables()
        gradients = zip(variables, tf.gradients(penalty, variables), strict=True)
        pairs = {v.op.name: (v, gradient) for v, gradient in gradients if gradient is not None}
        with tf.Session() as session:
            load_rule_made_values(session)
            return session.run(pairs)

    @pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.01}])
    def test_weight_decay_is_for_convolutions_projections_and_the_fully_connected_layer(
        self, settings
    ):
        connect(is_training=True, image_shape=SMALL_SHAPE, **settings)
        gradients = self.gradients()
        value, gradient = gradients.pop("ball/scale")
        np.testing.assert_allclose(gradient, 0.1 * value, rtol=1e-5)
        weights = {v.op.name for v in tf.trainable_variables() if v.op.name.endswith("/weights")}
        assert len(weights) == 2 + 6 * 2 + 2 + 1
        assert set(gradients) == weights
        for value, gradient in gradients.values():
            expected = settings.get("weight_decay", 1e-8) * value
            np.testing.assert_allclose(gradient, expected, rtol=1e-5)

    def test_a_second_call_does_not_count_the_penalties_twice(self):
        connect(is_training=True, image_shape=SMALL_SHAPE, weight_decay=0.01)
        before = len(tf.losses.get_regularization_losses())
        connect(is_training=True, image_shape=SMALL_SHAPE, weight_decay=0.01)
        assert len(tf.losses.get_regularization_losses()) == before


class TestSummaries:
    def tags(self):
        merged = tf.summary.merge_all()
        if merged is None:
            return set()
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            values = tf.Summary.FromString(session.run(merged)).value
        return {value.tag for value in values}

    def test_training_shows_the_first_kernels_and_the_scale(self):
        connect(is_training=True, image_shape=SMALL_SHAPE)
        assert self.tags() == {"kernels/conv1_1/image", "logit_scale"}

    @pytest.mark.parametrize("number", [1, 7, 8, 9, 32])
    @pytest.mark.parametrize("num_channels", [1, 3])
    def test_kernels_are_one_picture_in_which_each_has_its_place(self, number, num_channels):
        kernels = np.random.default_rng(0).normal(size=(3, 2, num_channels, number))
        kernels = kernels.astype(np.float32)
        with tf.Session() as session:
            grid = session.run(wide_residual.arrange_in_grid(tf.constant(kernels)))
        scale = (grid.shape[2] // 8 - 2) // 2
        assert scale > 1
        height, width = 3 * scale + 2, 2 * scale + 2
        assert grid.shape == (1, -(-number // 8) * height, 8 * width, num_channels)
        for index in range(number):
            top, left = index // 8 * height, index % 8 * width
            cell = grid[0, top : top + height, left : left + width]
            np.testing.assert_array_equal(cell[1:-1:scale, 1:-1:scale], kernels[..., index])
            np.testing.assert_array_equal(cell[0], 0)
            np.testing.assert_array_equal(cell[:, -1], 0)

    def test_inference_shows_nothing(self):
        connect(is_training=False, image_shape=SMALL_SHAPE)
        assert self.tags() == set()


class TestResidualBlock:
    """The block is its shortcut plus a branch; without weights, the shortcut alone is left."""

    @pytest.fixture
    def x(self):
        return np.random.RandomState(1).normal(size=(2, 6, 4, 5)).astype(np.float32)

    def run(self, x, values=(), **settings):
        with (
            slim.arg_scope([slim.conv2d], weights_initializer=tf.zeros_initializer()),
            slim.arg_scope([slim.batch_norm, slim.dropout], is_training=False),
        ):
            block = residual_block(tf.constant(x), "block", **settings)
        variables = {v.op.name: v for v in tf.global_variables()}
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            for name, value in dict(values).items():
                variables[name].load(value, session)
            return session.run(block)

    @pytest.mark.parametrize("preactivate", [False, True])
    def test_the_shortcut_is_the_input_itself(self, x, preactivate):
        np.testing.assert_array_equal(self.run(x, preactivate=preactivate), x)

    def test_the_shortcut_with_a_stride_projects_the_input_before_batch_norm(self, x):
        projection = np.random.RandomState(2).normal(size=(1, 1, 5, 10)).astype(np.float32)
        result = self.run(x, {"block/projection/weights": projection}, stride=2)
        np.testing.assert_allclose(result, x[:, ::2, ::2] @ projection[0, 0], rtol=1e-4, atol=1e-5)

    def test_the_second_convolution_ends_with_its_biases(self, x):
        biases = np.array([-3.0, -1.0, 0.0, 1.0, 3.0])
        np.testing.assert_allclose(self.run(x, {"block/2/biases": biases}), x + biases, rtol=1e-5)

    @pytest.mark.parametrize("preactivate", [False, True])
    def test_only_a_preactivated_block_has_a_batch_norm_of_its_input(self, x, preactivate):
        self.run(x, preactivate=preactivate)
        names = {v.op.name for v in tf.global_variables()}
        assert ("block/bn/beta" in names) is preactivate
        assert "block/1/block/1/bn/beta" in names

    def test_sizes_that_are_odd_are_rounded_up(self):
        assert self.run(np.zeros((1, 7, 5, 4), np.float32), stride=2).shape == (1, 4, 3, 8)


class TestPreprocess:
    def run(self, images, **settings):
        with tf.Session() as session:
            return session.run(deep_sort.preprocess(tf.constant(images), **settings))

    @pytest.fixture
    def images(self):
        return np.random.RandomState(0).randint(0, 256, (300, 4, 2, 3), np.uint8)

    def test_scales_uint8_to_0_1(self):
        values = self.run(np.array([[[0, 51, 255]]], np.uint8))
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, [[[0.0, 0.2, 1.0]]], rtol=1e-6)

    def test_takes_resized_images_as_they_are(self):
        np.testing.assert_allclose(self.run(np.full((1, 1, 3), 127.5, np.float32)), 0.5)

    def test_keeps_shape_and_content_outside_training(self, images):
        np.testing.assert_allclose(self.run(images), images / 255.0, rtol=1e-6)
        np.testing.assert_allclose(self.run(images[0]), images[0] / 255.0, rtol=1e-6)

    def test_a_batch_gives_what_its_images_give_one_by_one(self, images):
        single = [self.run(image) for image in images[:5]]
        np.testing.assert_array_equal(self.run(images[:5]), single)

    @pytest.mark.parametrize("index", [slice(0, 5), 0], ids=["batch", "image"])
    def test_bgr_becomes_rgb(self, images, index):
        bgr = np.ascontiguousarray(images[index][..., ::-1])
        np.testing.assert_array_equal(self.run(bgr, input_is_bgr=True), self.run(images[index]))

    def test_in_training_each_image_of_a_batch_is_mirrored_on_its_own(self, images):
        tf.set_random_seed(5)
        plain = images / np.float32(255.0)
        result = self.run(images, is_training=True)
        is_mirrored = (result == plain[:, :, ::-1]).all(axis=(1, 2, 3))
        is_plain = (result == plain).all(axis=(1, 2, 3))
        assert (is_mirrored ^ is_plain).all()
        # Five standard deviations of a fair coin thrown 300 times.
        assert abs(is_mirrored.mean() - 0.5) < 5 * 0.5 / np.sqrt(300)
        changes = np.count_nonzero(is_mirrored[1:] != is_mirrored[:-1])
        assert abs(changes / 299 - 0.5) < 5 * 0.5 / np.sqrt(299)

    def test_in_training_one_image_is_mirrored_half_of_the_time(self, images):
        tf.set_random_seed(5)
        image = images[0] / np.float32(255.0)
        tensor = deep_sort.preprocess(tf.constant(images[0]), is_training=True)
        with tf.Session() as session:
            results = [session.run(tensor) for _ in range(100)]
        is_mirrored = np.array([np.array_equal(result, image[:, ::-1]) for result in results])
        is_plain = np.array([np.array_equal(result, image) for result in results])
        assert (is_mirrored ^ is_plain).all()
        assert abs(is_mirrored.mean() - 0.5) < 5 * 0.5 / np.sqrt(100)

    def test_mirroring_goes_with_bgr(self, images):
        preprocess = functools.partial(deep_sort.preprocess, input_is_bgr=True)
        with tf.Session() as session:
            result = session.run(preprocess(tf.constant(images), is_training=True))
        swapped = images[..., ::-1] / np.float32(255.0)
        is_mirrored = (result == swapped[:, :, ::-1]).all(axis=(1, 2, 3))
        is_plain = (result == swapped).all(axis=(1, 2, 3))
        assert (is_mirrored ^ is_plain).all()
        assert is_mirrored.any()
        assert is_plain.any()
