"""Batch norm set anew: against a slow computation in NumPy, for all kinds of layers."""

import contextlib
import hashlib
import importlib
import tempfile

import numpy as np
import pytest
import tiny

from deep_reid import export
from deep_reid.compat import slim, tf
from deep_reid.errors import DataError, UsageError
from deep_reid.export import precise_batch_norm
from deep_reid.nets.batch_norm import Gathered
from deep_reid.nets.dropout import dropout
from deep_reid.runs import checkpoints
from deep_reid.samplers import random_shuffle_forever

EPSILON = 0.001
SHAPE = (4, 3, 3)
NUM_BATCHES, BATCH_SIZE, SEED = 3, 6, 5


def slim_layer(inputs, is_training, **settings):
    return slim.batch_norm(inputs, is_training=is_training, decay=0.9, scope="norm", **settings)


def tf_layer(inputs, is_training, **settings):
    layers = importlib.import_module("tf_keras.legacy_tf_layers.normalization")
    return layers.batch_normalization(inputs, training=is_training, name="norm", **settings)


def keras_layer(inputs, is_training):
    import tf_keras

    return tf_keras.layers.BatchNormalization(name="norm")(inputs, training=is_training)


def handwritten_layer(inputs, is_training, *, fused=False):
    size = inputs.get_shape().as_list()[-1]
    with tf.variable_scope("norm"):
        mean, variance = (
            tf.get_variable(name, (size,), trainable=False, initializer=initializer)
            for name, initializer in (("m", tf.zeros_initializer()), ("v", tf.ones_initializer()))
        )
        gamma = tf.get_variable("gamma", (size,))
    if not is_training and fused:
        zeros = tf.zeros((size,))
        return tf.nn.fused_batch_norm(inputs, gamma, zeros, mean, variance, is_training=False)[0]
    if is_training:
        batch_mean, batch_variance = tf.nn.moments(
            inputs, list(range(inputs.get_shape().ndims - 1))
        )
        updates = [
            tf.assign(old, 0.9 * old + 0.1 * new)
            for old, new in ((mean, batch_mean), (variance, batch_variance))
        ]
        with tf.control_dependencies(updates):
            mean, variance = tf.identity(batch_mean), tf.identity(batch_variance)
    return tf.nn.batch_normalization(inputs, mean, variance, None, gamma, EPSILON)


LAYERS = {
    "slim": slim_layer,
    "slim, scaled": lambda x, t: slim_layer(x, t, scale=True),
    "slim, not centered": lambda x, t: slim_layer(x, t, center=False),
    "slim, not fused": lambda x, t: slim_layer(x, t, fused=False, scale=True),
    "slim, updates in place": lambda x, t: slim_layer(x, t, updates_collections=None),
    "slim, zero debias": lambda x, t: slim_layer(x, t, zero_debias_moving_mean=True),
    "slim, renorm": lambda x, t: slim_layer(x, t, renorm=True),
    "tf.layers": tf_layer,
    "tf.layers, not fused": lambda x, t: tf_layer(x, t, fused=False),
    "keras": keras_layer,
    "handwritten": handwritten_layer,
    "handwritten, fused": lambda x, t: handwritten_layer(x, t, fused=len(x.shape) == 4),
}
RANKS = {
    2: lambda x: tf.reduce_mean(x, [1, 2]),
    3: lambda x: tf.reshape(x, [-1, SHAPE[0] * SHAPE[1], SHAPE[2]]),
    4: lambda x: x,
    5: lambda x: x[:, tf.newaxis],
}


def create_factory(layer, reshape, is_training, *, with_dropout=False):
    """Settle a network: 7 channels, the layer, ReLU, mean, 5 features, the layer again."""

    def factory_fn(images):
        hidden = tf.tensordot(reshape(images), tf.get_variable("w1", (3, 7)), 1)
        with tf.variable_scope("first"):
            hidden = tf.nn.relu(layer(hidden, is_training))
        if with_dropout and is_training:
            hidden = dropout(hidden, 0.5)
        axes = list(range(1, hidden.get_shape().ndims - 1))
        pooled = tf.reduce_mean(hidden, axes) if axes else hidden
        pooled = tf.matmul(pooled, tf.get_variable("w2", (7, 5)))
        with tf.variable_scope("second"):
            features = layer(pooled, is_training)
        return tf.nn.l2_normalize(features, 1), None

    return factory_fn


def save_random(factory, path, seed=0, shape=SHAPE):
    """Save a checkpoint of a network, all of its variables random; return them by name."""
    random = np.random.default_rng(seed)
    with tf.Graph().as_default(), tf.Session() as session:
        factory(tf.placeholder(tf.float32, (None, *shape)))
        step = tf.train.create_global_step()
        values = {}
        for variable in tf.global_variables():
            if variable is step:
                continue
            value = random.uniform(0.5, 1.5, variable.get_shape().as_list()).astype(np.float32)
            if len(value.shape) > 1:
                value -= 1.0
            variable.load(value, session)
            values[variable.op.name] = value
        step.load(40, session)
        tf.train.Saver().save(session, str(path), write_state=False)
    return values


def draw_images(count=20, shape=SHAPE, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def read(path):
    reader = tf.train.load_checkpoint(str(path))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def create_precise(layer, rank, images, **settings):
    factories = (create_factory(layer, RANKS[rank], training) for training in (False, True))
    kwargs = dict(zip(("network_factory", "training_factory"), factories, strict=True))
    return export.PreciseBatchNorm(
        preprocess_fn=tiny.preprocess,
        images=images,
        **{
            "num_batches": NUM_BATCHES,
            "batch_size": BATCH_SIZE,
            "seed": SEED,
            **kwargs,
            **settings,
        },
    )


def compute_slowly(values, batches, rank):
    """Compute population statistics of the network's two layers in NumPy, channel by channel."""

    def find(scope, name, default):
        found = [value for key, value in values.items() if key.startswith(scope) and name in key]
        return found[0].astype(float) if found else default

    def normalize(rows, scope, seen):
        seen[scope].append(rows)
        out = np.zeros_like(rows)
        for channel in range(rows.shape[1]):
            column = rows[:, channel]
            deviation = column - column.sum() / len(column)
            scaled = deviation / np.sqrt((deviation**2).sum() / len(column) + EPSILON)
            gamma = find(scope, "gamma", np.ones(rows.shape[1]))[channel]
            beta = find(scope, "beta", np.zeros(rows.shape[1]))[channel]
            out[:, channel] = scaled * gamma + beta
        return out

    seen = {"first": [], "second": []}
    for batch in batches:
        pixels = batch.reshape(len(batch), -1, 3).astype(float) / 255.0
        if rank == 2:
            pixels = pixels.mean(axis=1, keepdims=True)
        rows = pixels.reshape(-1, 3) @ values["w1"].astype(float)
        hidden = np.maximum(normalize(rows, "first", seen), 0.0)
        pooled = hidden.reshape(len(batch), -1, 7).mean(axis=1)
        normalize(pooled @ values["w2"].astype(float), "second", seen)
    return {scope: np.concatenate(rows) for scope, rows in seen.items()}


def averages_of(values, scope):
    """Return the two averages of a layer, by the order of their names: mean, then variance."""
    names = [
        name
        for name in sorted(values)
        if name.startswith(scope) and name.rpartition("/")[2] in MEANS + VARIANCES
    ]
    return [values[name] for name in names]


MEANS, VARIANCES = ["moving_mean", "m"], ["moving_variance", "v"]


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(
    "rank", [2, 4, *(pytest.param(rank, marks=pytest.mark.slow) for rank in (3, 5))]
)
def test_the_averages_are_those_of_a_slow_computation(kind, rank, tmp_path):
    layer, images = LAYERS[kind], draw_images()
    precise = create_precise(layer, rank, images)
    values = save_random(precise.training_factory, tmp_path / "model.ckpt")
    precise.write(tmp_path / "model.ckpt", tmp_path / "precise.ckpt")
    written = read(tmp_path / "precise.ckpt")
    batches = random_shuffle_forever(BATCH_SIZE, images, seed=SEED)
    expected = compute_slowly(values, [next(batches) for _ in range(NUM_BATCHES)], rank)
    for scope, rows in expected.items():
        mean, variance = averages_of(written, scope)
        np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(variance, rows.var(axis=0), rtol=2e-4, atol=2e-5)
    kept = {name for name in values if name.rpartition("/")[2] not in MEANS + VARIANCES}
    assert all((written[name] == values[name]).all() for name in kept)
    assert checkpoints.step_of(str(tmp_path / "precise.ckpt")) == 40


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of the tiny network."""
    prefix = tmp_path / "run" / "model.ckpt-40"
    prefix.parent.mkdir()
    save_random(tiny.create_network_factory(is_training=True), prefix, shape=tiny.IMAGE_SHAPE)
    return prefix


def create_tiny(images=None, **settings):
    images = draw_images(12, tiny.IMAGE_SHAPE) if images is None else images
    return export.PreciseBatchNorm(
        preprocess_fn=tiny.preprocess,
        images=images,
        **{
            "network_factory": tiny.create_network_factory(is_training=False),
            "num_batches": 2,
            "batch_size": 4,
            **settings,
        },
    )


def equal(some, other):
    return some.keys() == other.keys() and all((some[name] == other[name]).all() for name in some)


def test_the_seed_draws_the_batches(checkpoint):
    first = create_tiny(seed=1).compute_averages(checkpoint)
    assert equal(first, create_tiny(seed=1).compute_averages(checkpoint))
    assert not equal(first, create_tiny(seed=2).compute_averages(checkpoint))


def test_a_layer_that_gathers_nothing_in_training_keeps_its_averages(tmp_path):
    def factory(is_training):
        def factory_fn(images):
            with tf.variable_scope("frozen"):
                hidden = slim_layer(images, False)
            with tf.variable_scope("free"):
                return slim_layer(tf.reduce_mean(hidden, [1, 2]), is_training), None

        return factory_fn

    values = save_random(factory(True), tmp_path / "x.ckpt")
    settings = {"images": draw_images(), "network_factory": factory(False)}
    averages = create_tiny(training_factory=factory(True), **settings).compute_averages(
        tmp_path / "x.ckpt"
    )
    assert set(averages) == {"free/norm/moving_mean", "free/norm/moving_variance"}
    averages = create_tiny(**settings).compute_averages(tmp_path / "x.ckpt")
    assert set(averages) == {name for name in values if "moving" in name}


def test_dropout_is_off(tmp_path):
    factories = {
        with_dropout: create_factory(slim_layer, RANKS[4], True, with_dropout=with_dropout)
        for with_dropout in (True, False)
    }
    save_random(factories[True], tmp_path / "x.ckpt")
    precise = [
        create_precise(slim_layer, 4, draw_images(), training_factory=factory)
        for factory in factories.values()
    ]
    some, other = (each.compute_averages(tmp_path / "x.ckpt") for each in precise)
    assert equal(some, other)


def test_the_images_of_all_uses_of_a_layer_count(tmp_path):
    def factory_fn(images):
        with tf.variable_scope("shared", reuse=tf.AUTO_REUSE):
            some = slim_layer(images, False)
            other = slim_layer(2.0 * images[:, :2], False)
        return tf.reduce_mean(some, [1, 2]) + tf.reduce_mean(other, [1, 2]), None

    save_random(factory_fn, tmp_path / "x.ckpt")
    images = draw_images(8)
    averages = create_tiny(images, network_factory=factory_fn).compute_averages(tmp_path / "x.ckpt")
    pixels = images.astype(float) / 255.0
    rows = np.concatenate([pixels.reshape(-1, 3), 2.0 * pixels[:, :2].reshape(-1, 3)])
    for name, expected in (("mean", rows.mean(axis=0)), ("variance", rows.var(axis=0))):
        np.testing.assert_allclose(averages[f"shared/norm/moving_{name}"], expected, rtol=1e-5)


def plain_network(images):
    return tf.nn.l2_normalize(slim.fully_connected(slim.flatten(images), 4), 1), None


def test_a_network_without_batch_norm_is_refused(tmp_path):
    save_random(plain_network, tmp_path / "x.ckpt")
    precise = create_tiny(draw_images(), network_factory=plain_network)
    with pytest.raises(UsageError, match="the network has no batch norm"):
        precise.write(tmp_path / "x.ckpt", tmp_path / "y.ckpt")
    assert not list(tmp_path.glob("y.ckpt*"))


def test_other_values_that_training_gathers_are_named(tmp_path, caplog):
    def factory(is_training):
        def factory_fn(images):
            center = slim.model_variable("center", (), trainable=False)
            if is_training:
                update = tf.assign_sub(center, 0.1 * (center - tf.reduce_mean(images)))
                tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
            return tf.reduce_mean(slim_layer(images - center, is_training), [1, 2]), None

        return factory_fn

    save_random(factory(True), tmp_path / "x.ckpt")
    settings = {"network_factory": factory(False), "training_factory": factory(True)}
    averages = create_tiny(draw_images(), **settings).compute_averages(tmp_path / "x.ckpt")
    assert set(averages) == {"norm/moving_mean", "norm/moving_variance"}
    assert "no batch norm was found that uses them: center" in caplog.text


@pytest.mark.parametrize("settings", [{"num_batches": 0}, {"batch_size": 0}, {"image_shape": (3,)}])
def test_wrong_settings_are_refused(settings):
    with pytest.raises(UsageError):
        create_tiny(**settings)


def test_the_checkpoint_itself_is_never_overwritten(checkpoint):
    before = digest(checkpoint.parent)
    with pytest.raises(UsageError, match="the checkpoint itself"):
        create_tiny().write(checkpoint, checkpoint)
    assert digest(checkpoint.parent) == before


def test_weights_that_are_not_finite_are_refused(tmp_path):
    factory = tiny.create_network_factory(is_training=True)
    with tf.Graph().as_default(), tf.Session() as session:
        factory(tf.placeholder(tf.float32, (None, *tiny.IMAGE_SHAPE)))
        session.run(tf.global_variables_initializer())
        (weights,) = [v for v in tf.trainable_variables() if v.op.name == "tiny/conv/weights"]
        session.run(weights.assign(weights * np.nan))
        tf.train.Saver().save(session, str(tmp_path / "x.ckpt"))
    with pytest.raises(DataError, match="would not be finite"):
        create_tiny().write(tmp_path / "x.ckpt", tmp_path / "y.ckpt")
    assert not list(tmp_path.glob("y.ckpt*"))


def digest(folder):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The folder of temporary files."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_a_temporary_copy_is_removed_and_the_run_stays_as_it_was(checkpoint, scratch, error):
    (checkpoint.parent / "config.json").write_text("{}")
    before = digest(checkpoint.parent)
    after = contextlib.nullcontext() if error is None else pytest.raises(error)
    with after, create_tiny().applied(checkpoint) as copy:
        assert checkpoints.step_of(copy) == 40
        assert list(scratch.rglob("config.json"))
        original, changed = read(checkpoint), read(copy)
        names = {name for name, value in changed.items() if (value != original[name]).any()}
        assert names == {f"tiny/conv/BatchNorm/moving_{x}" for x in ("mean", "variance")}
        if error is not None:
            raise error
    assert not list(scratch.iterdir())
    assert digest(checkpoint.parent) == before


def test_nothing_is_left_if_an_image_cannot_be_read(checkpoint, scratch, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    precise = create_tiny([str(tmp_path / "broken.png")], image_shape=tiny.IMAGE_SHAPE)
    with pytest.raises(DataError, match="broken.png"), precise.applied(checkpoint):
        pass
    assert not list(scratch.iterdir())


def test_bad_images_are_skipped_as_in_training(checkpoint, tmp_path, caplog):
    import cv2

    paths = [str(tmp_path / f"{number}.png") for number in range(4)]
    for path, image in zip(paths, draw_images(4, tiny.IMAGE_SHAPE), strict=True):
        cv2.imwrite(path, image)
    (tmp_path / "0.png").write_bytes(b"no image")
    settings = {"on_bad_image": "skip", "max_bad_percent": 50, "image_shape": tiny.IMAGE_SHAPE}
    averages = create_tiny(paths, **settings).compute_averages(checkpoint)
    assert np.isfinite(list(averages.values())).all()
    assert "0.png cannot be read" in caplog.text


class TestStartShare:
    def save(self, folder, mean, variance):
        with tf.Graph().as_default(), tf.Session() as session:
            for name, value in (("m", mean), ("v", variance)):
                tf.Variable(value, name=name)
            session.run(tf.global_variables_initializer())
            tf.train.Saver().save(session, str(folder / "x.ckpt"))
        return folder / "x.ckpt"

    @pytest.mark.parametrize(
        ("steps", "variance", "expected"),
        [
            (400, [1.0, 2.0, 50.0], 0.999**400),  # at least the weight of the start value
            (3000, [0.1, 0.1, 30.0], 10 * 0.999**3000),  # what the average consists of
            (400, [0.0, 0.0, 0.0], 1.0),
            (20000, [0.1, 0.0, 0.1], 10 * 0.999**20000),  # a dead channel is no reason
        ],
    )
    def test_is_the_share_of_start_values(self, tmp_path, steps, variance, expected):
        path = self.save(tmp_path, [0.0, 0.0, 0.0], variance)
        gathered = {"m": Gathered(0.999, 0.0), "v": Gathered(0.999, 1.0), "w": Gathered(0.9, 1.0)}
        share = precise_batch_norm.measure_start_share(path, steps, gathered)
        assert share == pytest.approx(expected, rel=1e-3)

    @pytest.mark.parametrize("kind", sorted(set(LAYERS) - {"slim, renorm"}))
    def test_decay_and_start_value_are_found(self, kind):
        factory = create_factory(LAYERS[kind], RANKS[4], True)
        gathered = precise_batch_norm.find_gathered(tiny.preprocess, factory, SHAPE)
        found = {
            name: average for name, average in gathered.items() if name.endswith("moving_variance")
        }
        decay = 0.99 if kind.startswith(("tf.layers", "keras")) else 0.9
        assert all(average.start == 1.0 for average in found.values())
        assert all(average.decay == pytest.approx(decay) for average in found.values())
        assert len(found) == (0 if "handwritten" in kind else 2)
