"""The published network of Deep SORT: names, numbers, and its preprocessing."""

import contextlib
import functools
import itertools
from pathlib import Path

import numpy as np
import pytest
from golden import rule_made_value
from saved import save

from deep_reid import export, training
from deep_reid.compat import slim, tf
from deep_reid.errors import UsageError
from deep_reid.nets import deep_sort, mars_small128
from deep_reid.runs import checkpoints, restoring

pytestmark = pytest.mark.usefixtures("graph")

IMAGE_SHAPE = (128, 64, 3)
SMALL_SHAPE = (32, 16, 3)
NUM_CLASSES = 1501
TABLE = Path(__file__).parents[1] / "data" / "mars_small128_variables.tsv"

create_inference_network = mars_small128.create_network_factory(False, None, add_logits=False)


def connect(is_training=False, num_classes=11, image_shape=SMALL_SHAPE, **settings):
    """Connect the network to a placeholder; returns it with features and logits."""
    factory = mars_small128.create_network_factory(
        is_training, num_classes, add_logits=num_classes is not None, **settings
    )
    images = tf.placeholder(tf.float32, (None, *image_shape))
    return images, *factory(images)


def model_variables():
    return {variable.op.name: variable for variable in slim.get_model_variables()}


def read_table():
    """Names and shapes of the published checkpoint's variables."""
    rows = [line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines()[1:]]
    return {name: [int(size) for size in shape.strip("[]").split(",")] for name, shape in rows}


def make_values(shapes):
    """Make values for variables by the rule of the other network's golden features."""
    return {
        name: rule_made_value(number, name, shapes[name]).astype(np.float32)
        for number, name in enumerate(sorted(shapes))
    }


@pytest.fixture(scope="module")
def values():
    return make_values(read_table())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, values):
    (prefix,) = save(tmp_path_factory.mktemp("published"), [68577], values, with_step=False)
    return prefix


@pytest.fixture(scope="module")
def bgr_images():
    """Images as OpenCV reads them: two of any values, and a dark one, in which offsets matter."""
    random = np.random.RandomState(4)
    bright = random.randint(0, 256, (2, *IMAGE_SHAPE))
    return np.concatenate([bright, random.randint(0, 3, (1, *IMAGE_SHAPE))]).astype(np.uint8)


@pytest.fixture(scope="module")
def expected(values, bgr_images):
    """Features and logits by NumPy."""
    return NumpyNetwork(values).run(bgr_images[..., ::-1])


class NumpyNetwork:
    """The network in inference mode, written down once more in float64, without TensorFlow."""

    def __init__(self, values):
        self.values = {name: value.astype(np.float64) for name, value in values.items()}

    def run(self, rgb_images):
        x = rgb_images.astype(np.float64)
        x = self.elu(self.batch_norm(self.conv(x, "conv1_1/weights"), "conv1_1/conv1_1/bn"))
        x = self.elu(self.batch_norm(self.conv(x, "conv1_2/weights"), "conv1_2/conv1_2/bn"))
        x = self.max_pool(x)
        x = x + self.branch(x, x, "conv2_1")
        x = self.residual(x, "conv2_3")
        x = self.residual(x, "conv3_1", stride=2)
        x = self.residual(x, "conv3_3")
        x = self.residual(x, "conv4_1", stride=2)
        x = self.residual(x, "conv4_3")
        x = x.reshape(len(x), -1) @ self.values["fc1/weights"]
        x = self.batch_norm(self.elu(self.batch_norm(x, "fc1/fc1/bn")), "ball")
        features = self.normalize(x, axis=1)
        cosines = features @ self.normalize(self.values["ball/mean_vectors"], axis=0)
        return features, np.log1p(np.exp(self.values["ball/scale"])) * cosines

    def residual(self, x, scope, stride=1):
        activated = self.elu(self.batch_norm(x, f"{scope}/bn"))
        shortcut = self.conv(x, f"{scope}/projection/weights", stride) if stride == 2 else x
        return shortcut + self.branch(x, activated, scope, stride)

    def branch(self, x, activated, scope, stride=1):
        x = self.conv(activated, f"{scope}/1/weights", stride)
        x = self.elu(self.batch_norm(x, f"{scope}/1/{scope}/1/bn"))
        return self.conv(x, f"{scope}/2/weights") + self.values[f"{scope}/2/biases"]

    def conv(self, x, name, stride=1):
        kernels = self.values[name]
        size = len(kernels)
        height, width = (-(-length // stride) for length in x.shape[1:3])
        padding = [(0, 0)]
        for length, out in zip(x.shape[1:3], (height, width), strict=True):
            # Where the padding is odd, TensorFlow has one more at the end.
            total = max((out - 1) * stride + size - length, 0)
            padding.append((total // 2, total - total // 2))
        x = np.pad(x, [*padding, (0, 0)])
        return sum(
            x[:, i : i + height * stride : stride, j : j + width * stride : stride][
                :, :height, :width
            ]
            @ kernels[i, j]
            for i, j in itertools.product(range(size), repeat=2)
        )

    def max_pool(self, x):
        height, width = ((length - 3) // 2 + 1 for length in x.shape[1:3])
        windows = (
            x[:, i : i + 2 * height : 2, j : j + 2 * width : 2][:, :height, :width]
            for i, j in itertools.product(range(3), repeat=2)
        )
        return functools.reduce(np.maximum, windows)

    def batch_norm(self, x, scope):
        mean, variance = (self.values[f"{scope}/moving_{what}"] for what in ("mean", "variance"))
        return (x - mean) / np.sqrt(variance + 0.001) + self.values[f"{scope}/beta"]

    def elu(self, x):
        return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))

    def normalize(self, x, axis):
        return x / np.sqrt(1e-8 + np.sum(x**2, axis=axis, keepdims=True))


class TestVariables:
    def shapes(self):
        return {name: v.get_shape().as_list() for name, v in model_variables().items()}

    @pytest.mark.parametrize("is_training", [False, True])
    def test_names_and_shapes_are_those_of_the_published_checkpoint(self, is_training):
        connect(is_training, NUM_CLASSES, IMAGE_SHAPE)
        assert self.shapes() == read_table()
        assert set(tf.global_variables()) == set(slim.get_model_variables())

    def test_all_but_the_moving_statistics_are_trained(self):
        connect(is_training=True)
        trained = {variable.op.name for variable in tf.trainable_variables()}
        assert trained == {name for name in self.shapes() if "/moving_" not in name}

    def test_without_logits_the_classifier_is_missing_but_not_the_batch_norm(self):
        _, _, logits = connect(num_classes=None, image_shape=IMAGE_SHAPE)
        assert logits is None
        assert set(read_table()) - set(self.shapes()) == {"ball/mean_vectors", "ball/scale"}

    def test_start_values_of_the_last_layers(self):
        connect(num_classes=200)
        variables = {name: v for name, v in model_variables().items() if name.startswith("ball/")}
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            values = session.run(variables)
        mean_vectors = values.pop("ball/mean_vectors")
        # A normal distribution cut at two standard deviations keeps 0.88 of the first.
        assert abs(mean_vectors).max() <= 2e-3
        assert mean_vectors.std() == pytest.approx(0.88e-3, rel=0.1)
        assert (values.pop("ball/moving_variance") == 1.0).all()
        assert not any(value.any() for value in values.values())

    def test_training_and_inference_share_the_variables_in_one_graph(self):
        connect(is_training=True)
        variables = set(tf.global_variables())
        connect(is_training=False)
        assert set(tf.global_variables()) == variables

    def test_the_number_of_classes_is_read_from_a_checkpoint(self, checkpoint):
        shapes = checkpoints.variable_shapes(checkpoint)
        assert mars_small128.num_classes_in(shapes) == NUM_CLASSES

    def test_logits_without_a_number_of_classes_are_refused(self):
        with pytest.raises(UsageError, match="num_classes"):
            mars_small128.create_network(tf.zeros((1, *SMALL_SHAPE)))

    @pytest.mark.parametrize("image_shape", [(64, 64, 1), (48, 40, 3), (16, 8, 3)])
    def test_other_image_shapes(self, image_shape):
        images, features, logits = connect(image_shape=image_shape)
        assert features.get_shape().as_list() == [None, mars_small128.FEATURE_SIZE]
        assert logits.get_shape().as_list() == [None, 11]
        values = make_values(self.shapes())
        x = np.random.RandomState(0).randint(0, 256, (3, *image_shape)).astype(np.float32)
        with tf.Session() as session:
            for name, variable in model_variables().items():
                variable.load(values[name], session)
            result = session.run([features, logits], {images: x})
        for array, expected in zip(result, NumpyNetwork(values).run(x), strict=True):
            np.testing.assert_allclose(array, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("network", [deep_sort, mars_small128])
def test_each_network_tells_its_checkpoints_from_the_other_s(network):
    published = read_table()
    additional = ("ball/beta", "ball/moving_mean", "ball/moving_variance")
    own = {name: shape for name, shape in published.items() if name not in additional}
    assert network.fits(published) == (network is mars_small128)
    assert network.fits(own) == (network is deep_sort)


class TestPublishedCheckpoint:
    """A checkpoint with the published names and shapes, in the place of the published one."""

    @pytest.fixture
    def frozen_features(self, checkpoint, bgr_images, tmp_path):
        export.freeze(
            mars_small128.preprocess,
            create_inference_network,
            checkpoint,
            IMAGE_SHAPE,
            tmp_path / "model.pb",
        )
        graph_def = tf.GraphDef.FromString((tmp_path / "model.pb").read_bytes())
        with tf.Session() as session:
            images, features = tf.import_graph_def(
                graph_def, return_elements=["images:0", "features:0"], name=""
            )
            return session.run(features, {images: bgr_images})

    def test_every_variable_of_the_network_is_restored(self, checkpoint):
        connect(num_classes=NUM_CLASSES, image_shape=IMAGE_SHAPE)
        plan = restoring.plan_restore(checkpoint, slim.get_model_variables())
        assert (plan.missing, plan.mismatched, plan.unused) == ((), (), ())
        assert set(plan.restored) == set(read_table())

    def test_features_and_logits(self, checkpoint, bgr_images, expected):
        images = tf.placeholder(tf.uint8, (None, *IMAGE_SHAPE))
        factory = mars_small128.create_network_factory(False, NUM_CLASSES, add_logits=True)
        outputs = factory(mars_small128.preprocess(images, input_is_bgr=True))
        plan = restoring.plan_restore(checkpoint, slim.get_model_variables())
        with tf.Session() as session:
            plan.create_init_fn()(session)
            features, logits = session.run(outputs, {images: bgr_images})
        np.testing.assert_allclose(features, expected[0], rtol=0, atol=1e-4)
        np.testing.assert_allclose(logits, expected[1], rtol=0, atol=1e-4)
        assert logits.shape == (3, NUM_CLASSES)

    def test_features_of_the_frozen_graph(self, frozen_features, expected):
        np.testing.assert_allclose(frozen_features, expected[0], rtol=0, atol=1e-4)
        np.testing.assert_allclose(np.linalg.norm(frozen_features, axis=1), 1.0, rtol=1e-5)
        assert abs(frozen_features[0] - frozen_features[1]).max() > 1e-2

    def test_encoded_features_are_those_of_the_frozen_graph(
        self, frozen_features, checkpoint, bgr_images
    ):
        features = export.encode(
            mars_small128.preprocess,
            create_inference_network,
            checkpoint,
            np.ascontiguousarray(bgr_images[..., ::-1]),
        )
        np.testing.assert_allclose(features, frozen_features, rtol=0, atol=1e-5)


class TestLastLayers:
    @pytest.fixture
    def session(self):
        with tf.Session() as session:
            yield session

    def feed_embedding(self, graph, is_training=False):
        """Connect the network; returns the last layer's activations, features and logits."""
        _, features, logits = connect(is_training, num_classes=3)
        return graph.get_tensor_by_name("fc1/Elu:0"), features, logits

    def test_features_are_centered_and_scaled_embeddings_of_unit_length(self, graph, session):
        embedding, features, _ = self.feed_embedding(graph)
        variables = model_variables()
        values = make_values({name: v.get_shape().as_list() for name, v in variables.items()})
        for name, variable in variables.items():
            variable.load(values[name], session)
        x = np.random.RandomState(0).normal(size=(5, 128)).astype(np.float32)
        expected = (x - values["ball/moving_mean"]) / np.sqrt(values["ball/moving_variance"] + 1e-3)
        expected += values["ball/beta"]
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(session.run(features, {embedding: x}), expected, atol=1e-6)

    @pytest.mark.parametrize("length, expected", [(0.0, 0.0), (1e-4, np.sqrt(0.5)), (1.0, 1.0)])
    def test_what_is_added_under_the_root_is_1e_8(self, graph, session, length, expected):
        embedding, features, logits = self.feed_embedding(graph)
        session.run(tf.global_variables_initializer())
        x = np.zeros((1, 128), np.float32)
        x[0, 7] = length * np.sqrt(1.001)  # the batch norm divides by the root again
        (row,) = session.run(features, {embedding: x})
        np.testing.assert_allclose(row[7], expected, rtol=1e-3)
        x[0, 7] = 1.0
        vectors = np.zeros((128, 3), np.float32)
        vectors[7, 0] = length
        model_variables()["ball/mean_vectors"].load(vectors, session)
        (row,) = session.run(logits, {embedding: x})
        np.testing.assert_allclose(row, [np.log(2.0) * expected, 0.0, 0.0], rtol=1e-3)

    def test_in_training_the_batch_norm_takes_and_gathers_the_batch_s_statistics(
        self, graph, session
    ):
        embedding, features, _ = self.feed_embedding(graph, is_training=True)
        session.run(tf.global_variables_initializer())
        x = np.random.RandomState(0).normal(3.0, 2.0, size=(50, 128)).astype(np.float32)
        expected = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 0.001)
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(session.run(features, {embedding: x}), expected, atol=1e-5)
        updates = [op for op in tf.get_collection(tf.GraphKeys.UPDATE_OPS) if "ball" in op.name]
        session.run(updates, {embedding: x})
        moving_mean = session.run(model_variables()["ball/moving_mean"])
        np.testing.assert_allclose(moving_mean, 0.001 * x.mean(axis=0), rtol=1e-3)

    def test_summaries_show_the_first_kernels_and_the_scales(self, session):
        connect(is_training=True)
        session.run(tf.global_variables_initializer())
        values = tf.Summary.FromString(session.run(tf.summary.merge_all())).value
        kinds = {value.tag: value.WhichOneof("value") for value in values}
        assert kinds == {"kernels/conv1_1/image": "image", "logit_scale": "histo"}


class TestPenalties:
    def test_weight_decay_is_for_layers_and_a_penalty_of_its_own_for_the_scales(self):
        connect(is_training=True, weight_decay=0.01)
        variables = model_variables()
        penalties = tf.losses.get_regularization_losses()
        trained = tf.trainable_variables()
        gradients = zip(trained, tf.gradients(tf.add_n(penalties), trained), strict=True)
        pairs = {v.op.name: (v, gradient) for v, gradient in gradients if gradient is not None}
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            variables["ball/scale"].load(np.linspace(-1, 2, 11), session)
            pairs = session.run(pairs)
        scale, gradient = pairs.pop("ball/scale")
        np.testing.assert_allclose(gradient, 0.1 * scale, rtol=1e-5)
        assert set(pairs) == {name for name in variables if name.endswith("/weights")}
        assert len(penalties) == len(pairs) + 1
        for value, gradient in pairs.values():
            np.testing.assert_allclose(gradient, 0.01 * value, rtol=1e-5)

    def test_a_second_call_does_not_count_them_twice(self):
        connect(is_training=True)
        before = len(tf.losses.get_regularization_losses())
        connect(is_training=True)
        assert len(tf.losses.get_regularization_losses()) == before

    def test_the_batch_norm_of_the_features_has_none(self):
        connect(is_training=True, num_classes=None)
        assert not [p for p in tf.losses.get_regularization_losses() if "ball" in p.op.name]


class TestTraining:
    BATCH_SIZE = 8
    NUM_CLASSES = 4

    @pytest.fixture
    def step(self):
        """Build a training step; returns it, the loss by the logits, and the features."""
        tf.set_random_seed(1)
        factory = mars_small128.create_network_factory(True, self.NUM_CLASSES, add_logits=True)
        outputs = []

        def remember(images):
            outputs.extend(factory(images))
            return tuple(outputs)

        trainer, train_op = training.create_trainer(
            mars_small128.preprocess,
            remember,
            read_from_file=False,
            image_shape=SMALL_SHAPE,
            batch_size=self.BATCH_SIZE,
            loss_mode="cosine-softmax",
        )
        (loss,) = tf.losses.get_losses()
        return trainer, train_op, loss, outputs[0]

    @contextlib.contextmanager
    def feeding(self, trainer, num_batches):
        """Open a session with start values, in which so many batches can be taken."""
        random = np.random.RandomState(0)
        images = random.randint(0, 256, (self.BATCH_SIZE, *SMALL_SHAPE)).astype(np.uint8)
        batch = (images, np.arange(self.BATCH_SIZE) % self.NUM_CLASSES)
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            feed = trainer.start_feed(session, [batch] * num_batches)
            try:
                yield session
            finally:
                feed.stop()

    def test_steps_change_all_trained_variables_and_the_moving_statistics(self, step):
        trainer, train_op, *_ = step
        variables = model_variables()
        with self.feeding(trainer, num_batches=3) as session:
            before = session.run(variables)
            losses = [session.run(train_op) for _ in range(3)]
            after = session.run(variables)
        # The start is near chance: scales are log(2), and cosines to random vectors are small.
        assert losses[0] == pytest.approx(np.log(self.NUM_CLASSES), rel=0.2)
        assert np.isfinite(losses).all()
        assert [name for name in variables if np.array_equal(before[name], after[name])] == []

    def test_the_loss_of_the_logits_has_gradients_by_the_features(self, step):
        trainer, _, loss, features = step
        (gradient,) = tf.gradients(loss, features)
        with self.feeding(trainer, num_batches=1) as session:
            values = session.run(gradient)
        assert values.shape == (self.BATCH_SIZE, 128)
        assert np.isfinite(values).all()
        assert (np.linalg.norm(values, axis=1) > 1e-3).all()


class TestPreprocess:
    @pytest.fixture
    def images(self):
        return np.random.RandomState(0).randint(0, 256, (100, 4, 2, 3), np.uint8)

    def run(self, images, **settings):
        with tf.Session() as session:
            return session.run(mars_small128.preprocess(tf.constant(images), **settings))

    @pytest.mark.parametrize("index", [slice(0, 5), 0], ids=["batch", "image"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_values_stay_in_0_255(self, images, dtype, index):
        values = self.run(images[index].astype(dtype))
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, images[index])

    def test_bgr_becomes_rgb(self, images):
        np.testing.assert_array_equal(self.run(images, input_is_bgr=True), images[..., ::-1])

    @pytest.mark.parametrize("input_is_bgr", [False, True])
    def test_in_training_each_image_of_a_batch_is_mirrored_on_its_own(self, images, input_is_bgr):
        tf.set_random_seed(5)
        result = self.run(images, is_training=True, input_is_bgr=input_is_bgr)
        plain = images[..., ::-1] if input_is_bgr else images
        is_mirrored = (result == plain[:, :, ::-1]).all(axis=(1, 2, 3))
        assert (is_mirrored ^ (result == plain).all(axis=(1, 2, 3))).all()
        # Five standard deviations of a fair coin thrown 100 times.
        assert abs(is_mirrored.mean() - 0.5) < 5 * 0.5 / np.sqrt(100)

    def test_it_says_that_it_takes_batches(self):
        assert mars_small128.preprocess.takes_batches
