"""Images and preprocessing functions, as code written for the original uses them."""

# ruff: noqa: PLW0108 - lambdas around the package's function are what is tested

import functools
from pathlib import Path

import cv2
import numpy as np
import pytest

from deep_reid import evaluation, export, queued_trainer, train_app, training
from deep_reid.compat import slim, tf
from deep_reid.config import RunConfig
from deep_reid.errors import UsageError
from deep_reid.export.encoder import Encoder
from deep_reid.images.channel_order import KEEP_ORDER_OF_ARRAYS, WatchedPreprocessing
from deep_reid.nets import deep_sort as net

pytestmark = pytest.mark.usefixtures("graph")

IMAGE_SHAPE = (32, 16, 3)


def network_factory(is_training, reuse=None, num_channels=3, num_classes=None):
    """A network of slim's layers that this package does not know."""

    def factory_fn(image):
        with tf.variable_scope("custom", reuse=reuse):
            network = slim.conv2d(
                image, 4, [3, 3], stride=4, scope="conv",
                weights_initializer=tf.truncated_normal_initializer(stddev=0.5),
                normalizer_fn=slim.batch_norm, normalizer_params={"is_training": is_training},
            )  # fmt: skip
            network = slim.fully_connected(
                slim.flatten(network), 8, activation_fn=None, scope="fc",
                weights_initializer=tf.truncated_normal_initializer(stddev=0.5),
            )  # fmt: skip
            assert image.get_shape().as_list()[1:] == [32, 16, num_channels]
            features = tf.nn.l2_normalize(network, axis=1)
            if num_classes is None:
                return features, None
            return features, slim.fully_connected(features, num_classes, scope="ball")

    return factory_fn


class IntegersOnly:
    """Scales images as ``convert_image_dtype`` does: integers to [0, 1], floats not at all."""

    def __init__(self):
        self.seen = set()

    def __call__(self, image, is_training=False):
        self.seen.add((image.dtype, *image.get_shape().as_list()))
        image = tf.image.convert_image_dtype(image, tf.float32)
        return image if image.get_shape().ndims == 3 else tf.expand_dims(image, -1)


@pytest.fixture
def images():
    return np.random.RandomState(0).randint(0, 256, (16, *IMAGE_SHAPE)).astype(np.uint8)


@pytest.fixture
def gray(images):
    return np.ascontiguousarray(images[..., 0])


LABELS = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]


def save_checkpoint(directory, num_channels=3):
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(3)  # before the ops that draw
        network_factory(False, num_channels=num_channels)(
            tf.zeros((1, *IMAGE_SHAPE[:2], num_channels))
        )
        session.run(tf.global_variables_initializer())
        directory.mkdir(parents=True, exist_ok=True)
        return tf.train.Saver().save(session, str(directory / "model.ckpt"), global_step=1)


def run_frozen(path, images):
    graph_def = tf.GraphDef.FromString(Path(path).read_bytes())
    with tf.Graph().as_default(), tf.Session() as session:
        (features,) = tf.import_graph_def(graph_def, return_elements=["features:0"], name="")
        return session.run(features, {"images:0": images})


UINT8_IMAGE = (tf.uint8, *IMAGE_SHAPE)
FLOAT_IMAGE = (tf.float32, *IMAGE_SHAPE)


class TestIntegersReachTheFunction:
    """One uint8 image wherever images are arrays; float32 only where a file was resized."""

    @pytest.fixture
    def preprocess(self):
        return IntegersOnly()

    def test_in_a_trainer(self, preprocess, images):
        trainer, _ = training.create_trainer(
            preprocess, network_factory(True), False, IMAGE_SHAPE, 4, "triplet"
        )
        assert preprocess.seen == {UINT8_IMAGE}
        dequeued = tf.get_default_graph().get_tensor_by_name("custom/conv/Conv2D:0").op.inputs[0]
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            threads = trainer.start_feed(session, [[images[:4], np.array([0, 0, 1, 1])]])
            np.testing.assert_allclose(session.run(dequeued), images[:4] / 255.0, rtol=1e-6)
            threads.stop()

    def test_in_train_loop(self, preprocess, images, tmp_path):
        training.train_loop(
            preprocess, network_factory(True), images, LABELS, 4, 8, str(tmp_path),
            run_id="run", number_of_steps=1, loss_mode="triplet",
        )  # fmt: skip
        assert preprocess.seen == {UINT8_IMAGE}

    def test_in_eval_loop(self, preprocess, images, tmp_path):
        save_checkpoint(tmp_path / "train" / "run")
        scores = evaluation.eval_loop(
            preprocess, network_factory(False), images, LABELS, None, str(tmp_path / "train"),
            str(tmp_path / "eval"), None, "run", max_num_evaluations=1,
        )  # fmt: skip
        assert preprocess.seen == {UINT8_IMAGE}
        assert set(scores) == {"Precision@1", "Precision@5", "Precision@10", "Precision@20"}

    def test_in_encode_finalize_and_freeze_alike(self, preprocess, images, tmp_path):
        checkpoint = save_checkpoint(tmp_path)
        features = export.encode(preprocess, network_factory(False), checkpoint, images)
        final, graph = str(tmp_path / "final.ckpt"), str(tmp_path / "model.pb")
        export.finalize(preprocess, network_factory(False), checkpoint, IMAGE_SHAPE, final)
        again = export.encode(preprocess, network_factory(False), final, images)
        export.freeze(preprocess, network_factory(False), checkpoint, IMAGE_SHAPE, graph)
        assert preprocess.seen == {UINT8_IMAGE}
        np.testing.assert_array_equal(again, features)
        frozen = run_frozen(graph, images[..., ::-1])
        np.testing.assert_allclose(frozen, features, atol=1e-6)
        assert np.ptp(features, axis=0).max() > 0.01

    def test_resized_arrays_and_files_are_floats(self, preprocess, images, tmp_path):
        large = np.repeat(np.repeat(images, 2, axis=1), 2, axis=2)
        name = str(tmp_path / "image.png")
        cv2.imwrite(name, images[0])
        checkpoint = save_checkpoint(tmp_path)
        for source in (large, [name]):
            export.encode(
                preprocess, network_factory(False), checkpoint, source, image_shape=IMAGE_SHAPE
            )
        assert preprocess.seen == {FLOAT_IMAGE}


class TestGray:
    """``image_shape = (height, width)`` means one channel."""

    SHAPE = IMAGE_SHAPE[:2]

    def test_files_have_a_channel_axis(self, gray, tmp_path):
        names = []
        for number, image in enumerate(gray):
            names.append(str(tmp_path / f"{number}.png"))
            cv2.imwrite(names[-1], image)
        checkpoint = save_checkpoint(tmp_path, num_channels=1)
        preprocess = IntegersOnly()
        features = export.encode(
            preprocess, network_factory(False, num_channels=1), checkpoint, names,
            image_shape=self.SHAPE,
        )  # fmt: skip
        assert preprocess.seen == {(tf.float32, 32, 16, 1)}
        assert features.shape == (16, 8)

    @pytest.mark.parametrize("image_shape", [None, SHAPE, (*SHAPE, 1)])
    def test_arrays_have_none(self, gray, tmp_path, image_shape):
        checkpoint = save_checkpoint(tmp_path, num_channels=1)
        factory = network_factory(False, num_channels=1)
        preprocess = IntegersOnly()
        features = export.encode(preprocess, factory, checkpoint, gray, image_shape=image_shape)
        assert preprocess.seen == {(tf.uint8, *self.SHAPE)}
        graph = str(tmp_path / "model.pb")
        export.freeze(preprocess, factory, checkpoint, self.SHAPE, graph)
        np.testing.assert_allclose(run_frozen(graph, gray), features, atol=1e-6)
        with Encoder(graph) as encoder:
            assert encoder.image_shape == (*self.SHAPE, 1)
            np.testing.assert_allclose(encoder(list(gray)), features, atol=1e-6)
        names = [str(tmp_path / f"{number}.png") for number in range(2)]
        for name, image in zip(names, gray, strict=False):
            cv2.imwrite(name, image)
        of_files = export.encode_with_frozen_graph(graph, names)
        np.testing.assert_allclose(of_files, features[:2], atol=1e-6)

    @pytest.mark.parametrize(
        "preprocess",
        [
            net.preprocess,
            lambda image, is_training=False: net.preprocess(image, is_training),
            lambda image, is_training: tf.cast(image, tf.float32),
        ],
        ids=["own", "lambda", "adds no axis"],
    )
    @pytest.mark.parametrize("image_shape", [None, SHAPE])
    def test_every_mode_trains_evaluates_and_encodes_them(
        self, gray, tmp_path, preprocess, image_shape
    ):
        factory = functools.partial(network_factory, num_channels=1)
        training.train_loop(
            preprocess, factory(True), gray, LABELS, 4, 8, str(tmp_path / "train"), image_shape,
            run_id="run", number_of_steps=2, loss_mode="triplet",
        )  # fmt: skip
        scores = evaluation.eval_loop(
            preprocess, factory(False), gray, LABELS, None, str(tmp_path / "train"),
            str(tmp_path / "eval"), image_shape, "run", max_num_evaluations=1, projector=True,
        )  # fmt: skip
        assert 0.0 <= scores["Precision@1"] <= 1.0
        checkpoint = str(tmp_path / "train" / "run" / "model.ckpt-2")
        export.finalize(preprocess, factory(False), checkpoint, self.SHAPE, str(tmp_path / "f"))

    def test_a_trainer_is_fed_without_the_axis(self, gray):
        trainer, train_op = training.create_trainer(
            IntegersOnly(), network_factory(True, num_channels=1), read_from_file=False,
            image_shape=self.SHAPE, batch_size=8, loss_mode="magnet",
        )  # fmt: skip
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            threads = trainer.start_feed(session, [[gray[:8], np.array(LABELS[:8])]])
            assert np.isfinite(session.run(train_op))
            threads.stop()

    def test_one_color_image_is_not_many_gray_ones(self, images):
        with pytest.raises(TypeError, match="not supported"):
            export.encode(net.preprocess, network_factory(False), "model.ckpt", images[0])


def takes_bgr_by_position(image, is_training=False):
    return net.preprocess(image, is_training, True)


def takes_bgr_after_a_cast(image, is_training=False):
    return net.preprocess(tf.cast(image, tf.float32), is_training, input_is_bgr=True)


def of_a_fork(image, is_training=False, input_is_bgr=False):
    """The function of a fork, with the original's parameter."""
    if input_is_bgr:
        image = image[:, :, ::-1]
    return tf.cast(image, tf.float32) / 255.0


def swaps_first(image, is_training=False):
    return net.preprocess(image[..., ::-1], is_training)


def swaps_by_splitting(image, is_training=False):
    blue, green, red = tf.split(tf.cast(image, tf.float32) / 255.0, 3, axis=-1)
    return tf.concat([red, green, blue], axis=-1)


def declare(function, value):
    """Give a function the attribute."""

    def declared(image, is_training=False):
        return function(image, is_training)

    declared.input_is_bgr = value
    return declared


class Declaring:
    """A callable object that says what it takes."""

    input_is_bgr = True

    def __call__(self, image, is_training=False):
        return tf.reverse(tf.cast(image, tf.float32), [-1]) / 255.0


TAKE_BGR = {
    "partial": functools.partial(net.preprocess, input_is_bgr=True),
    "partial of partial": functools.partial(functools.partial(net.preprocess, input_is_bgr=True)),
    "partial of a fork's": functools.partial(of_a_fork, input_is_bgr=True),
    "lambda, by keyword": lambda image, is_training: net.preprocess(
        image, is_training=is_training, input_is_bgr=True
    ),
    "by position": takes_bgr_by_position,
    "partial of a lambda": functools.partial(
        lambda image, is_training, flag: net.preprocess(image, is_training, flag), flag=True
    ),
    "after a cast": takes_bgr_after_a_cast,
    "attribute": declare(swaps_by_splitting, True),
    "object": Declaring(),
}
TAKE_RGB = {
    "own": net.preprocess,
    "partial": functools.partial(net.preprocess, input_is_bgr=False),
    "lambda": lambda image, is_training: net.preprocess(image, is_training),
    "a fork's": of_a_fork,
    "plain": lambda image, is_training: tf.cast(image, tf.float32) / 255.0,
    "integers": lambda image, is_training: tf.image.convert_image_dtype(image, tf.float32),
}


class TestChannelOrder:
    """A swap never happens twice, and is never guessed."""

    @pytest.fixture
    def checkpoint(self, tmp_path):
        return save_checkpoint(tmp_path)

    @pytest.fixture
    def features(self, checkpoint, images):
        """Of RGB images."""
        return export.encode(net.preprocess, network_factory(False), checkpoint, images)

    @pytest.mark.parametrize("preprocess", TAKE_BGR.values(), ids=TAKE_BGR)
    def test_what_takes_bgr_gets_the_graphs_images_as_they_are(
        self, preprocess, checkpoint, features, images, tmp_path
    ):
        bgr = np.ascontiguousarray(images[..., ::-1])
        encoded = export.encode(preprocess, network_factory(False), checkpoint, bgr)
        np.testing.assert_allclose(encoded, features, atol=1e-6)
        graph = str(tmp_path / "model.pb")
        export.freeze(preprocess, network_factory(False), checkpoint, IMAGE_SHAPE, graph)
        np.testing.assert_allclose(run_frozen(graph, bgr), features, atol=1e-6)

    @pytest.mark.parametrize("preprocess", TAKE_RGB.values(), ids=TAKE_RGB)
    def test_what_takes_rgb_gets_them_swapped(
        self, preprocess, checkpoint, features, images, tmp_path
    ):
        graph = str(tmp_path / "model.pb")
        export.freeze(preprocess, network_factory(False), checkpoint, IMAGE_SHAPE, graph)
        np.testing.assert_allclose(run_frozen(graph, images[..., ::-1]), features, atol=1e-6)

    @pytest.mark.parametrize("preprocess", [swaps_first, swaps_by_splitting])
    def test_what_moves_channels_and_does_not_say_is_refused(
        self, preprocess, checkpoint, features, images, tmp_path
    ):
        graph = str(tmp_path / "model.pb")
        with pytest.raises(UsageError, match=r"set preprocess_fn\.input_is_bgr = True"):
            export.freeze(preprocess, network_factory(False), checkpoint, IMAGE_SHAPE, graph)
        declared = declare(preprocess, True)
        export.freeze(declared, network_factory(False), checkpoint, IMAGE_SHAPE, graph)
        np.testing.assert_allclose(run_frozen(graph, images[..., ::-1]), features, atol=1e-6)
        declared = declare(preprocess, False)
        export.freeze(declared, network_factory(False), checkpoint, IMAGE_SHAPE, graph)
        np.testing.assert_allclose(run_frozen(graph, images), features, atol=1e-6)

    @pytest.mark.parametrize("source", ["files", "arrays"])
    @pytest.mark.parametrize("preprocess", [swaps_first, swaps_by_splitting])
    def test_what_a_run_was_trained_on_tells_what_such_a_function_takes(
        self, preprocess, source, checkpoint, features, images, tmp_path
    ):
        RunConfig(image_shape=IMAGE_SHAPE, image_source=source).save(tmp_path)
        graph = str(tmp_path / "model.pb")
        export.freeze(preprocess, network_factory(False), checkpoint, IMAGE_SHAPE, graph)
        # The network then sees RGB of BGR images, or BGR of what were files.
        seen = images if source == "files" else images[..., ::-1]
        np.testing.assert_allclose(run_frozen(graph, seen), features, atol=1e-6)

    @pytest.mark.parametrize("preprocess", [*TAKE_RGB.values(), swaps_first])
    def test_old_code_freezes_arrays_in_the_order_that_they_had(
        self, preprocess, checkpoint, images, tmp_path
    ):
        RunConfig(image_shape=IMAGE_SHAPE, image_source="arrays").save(tmp_path)
        graph = str(tmp_path / "model.pb")
        token = KEEP_ORDER_OF_ARRAYS.set(True)
        try:
            export.freeze(preprocess, network_factory(False), checkpoint, IMAGE_SHAPE, graph)
        finally:
            KEEP_ORDER_OF_ARRAYS.reset(token)
        encoded = export.encode(preprocess, network_factory(False), checkpoint, images)
        np.testing.assert_allclose(run_frozen(graph, images), encoded, atol=1e-6)

    def test_a_run_records_what_it_was_trained_on(self, images, tmp_path):
        names = [str(tmp_path / f"{number}.png") for number in range(16)]
        for name, image in zip(names, images, strict=True):
            cv2.imwrite(name, image)
        for source, train_x in (("arrays", images), ("files", names)):
            training.train_loop(
                net.preprocess, network_factory(True), train_x, LABELS, 4, 8, tmp_path / source,
                IMAGE_SHAPE, run_id="run", number_of_steps=1, loss_mode="triplet",
            )  # fmt: skip
            assert RunConfig.load(tmp_path / source / "run").image_source == source

    @pytest.mark.parametrize(
        "preprocess",
        [
            lambda image, is_training: tf.image.per_image_standardization(image),
            lambda image, is_training: tf.cast(image, tf.float32) - [123.7, 116.8, 103.9],
            lambda image, is_training: tf.tile(
                tf.image.rgb_to_grayscale(tf.cast(image, tf.float32)), [1, 1, 3]
            ),
        ],
        ids=["standardized", "means", "gray"],
    )
    def test_what_mixes_channels_does_not_move_them(self, preprocess, checkpoint, tmp_path):
        graph = str(tmp_path / "model.pb")
        export.freeze(preprocess, network_factory(False), checkpoint, IMAGE_SHAPE, graph)

    @pytest.mark.parametrize("preprocess", TAKE_BGR.values(), ids=TAKE_BGR)
    def test_files_are_rgb(self, preprocess, tmp_path, images, checkpoint):
        name = str(tmp_path / "image.png")
        cv2.imwrite(name, images[0])
        with pytest.raises(UsageError, match="files are decoded to RGB"):
            export.encode(
                preprocess, network_factory(False), checkpoint, [name], image_shape=IMAGE_SHAPE
            )

    def test_what_is_seen_while_one_function_runs_is_no_matter_of_another(self):
        outer = WatchedPreprocessing(lambda image, is_training: net.preprocess(image, is_training))
        image = tf.placeholder(tf.uint8, IMAGE_SHAPE)
        outer(image, is_training=False)
        net.preprocess(image, False, True)
        assert outer.is_bgr_expected is False


class TestSeveralNetworks:
    def test_one_after_the_other_with_reuse(self, tmp_path, images):
        """As export modes of old scripts: the second network reuses the first one's variables."""
        checkpoint = save_checkpoint(tmp_path)
        first = train_app.encode(net.preprocess, network_factory(False), checkpoint, images)
        second = train_app.encode(
            net.preprocess, network_factory(False, reuse=True), checkpoint, images[:3], 2
        )
        np.testing.assert_allclose(second, first[:3], atol=1e-6)

    def test_in_the_graph_of_one_session(self, tmp_path, images):
        checkpoint = save_checkpoint(tmp_path)
        with tf.Graph().as_default(), tf.Session() as session:
            encode = functools.partial(train_app.encode, net.preprocess, session=session)
            first = encode(network_factory(False), checkpoint, images)
            second = encode(network_factory(False, reuse=True), checkpoint, images)
            assert len(slim.get_model_variables()) == len(
                tf.train.list_variables(checkpoint)
            )  # fmt: skip
        np.testing.assert_array_equal(first, second)

    @pytest.mark.parametrize("write", [train_app.finalize, train_app.freeze])
    def test_a_network_with_reuse_is_written(self, write, tmp_path):
        checkpoint = save_checkpoint(tmp_path)
        factory = network_factory(False, reuse=True)
        write(net.preprocess, factory, checkpoint, IMAGE_SHAPE, str(tmp_path / "out"))
        assert list(tmp_path.glob("out*"))


def test_galleries_may_be_unseeded(tmp_path, images):
    save_checkpoint(tmp_path / "train")
    scores = evaluation.eval_loop(
        net.preprocess, network_factory(False), images, LABELS, np.zeros(16, int),
        str(tmp_path / "train"), str(tmp_path / "eval"), random_seed=None, max_num_evaluations=1,
    )  # fmt: skip
    assert 0.0 <= scores["Precision@1"] <= 1.0


def test_a_loss_curve_through_the_old_calls_is_that_of_train_loop(tmp_path, images):
    """12 steps without dropout, from the same start, on the same batches."""
    image_shape, batch_size = IMAGE_SHAPE, 8
    factory = network_factory(True, num_classes=4)
    labels = np.asarray(LABELS)
    start = create_start(tmp_path / "start", factory)

    trainer, train_op = train_app.create_trainer(
        net_without_mirroring, factory, False, image_shape, batch_size, "cosine-softmax", 0.05
    )
    feed_generator = queued_trainer.random_sample_identities_forever(
        batch_size, 4, images, labels, seed=5
    )
    trainer.run(
        feed_generator, train_op, str(tmp_path / "old"), restore_path=start,
        variables_to_restore=slim.get_variables_to_restore(exclude=["global_step"],
                                                           include=["custom"]),
        run_id="run", number_of_steps=12, save_summaries_secs=1e-6,
    )  # fmt: skip
    train_app.train_loop(
        net_without_mirroring, factory, images, labels, num_images_per_id=4,
        batch_size=batch_size, log_dir=str(tmp_path / "new"), restore_path=start, run_id="run",
        number_of_steps=12, learning_rate=0.05, save_summaries_secs=1e-6, seed=5,
    )  # fmt: skip

    old, new = (read_losses(tmp_path / name / "run") for name in ("old", "new"))
    assert sorted(old) == sorted(new) == list(range(1, 13))
    np.testing.assert_allclose([old[s] for s in old], [new[s] for s in old], rtol=1e-6)
    assert old[12] < 0.9 * old[1]


def net_without_mirroring(image, is_training=False):
    return net.preprocess(image, is_training=False)


def create_start(directory, factory):
    directory.mkdir()
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(2)
        factory(tf.zeros((1, *IMAGE_SHAPE)))
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver(slim.get_model_variables())
        return saver.save(session, str(directory / "model.ckpt"), write_meta_graph=False)


def read_losses(directory):
    (filename,) = directory.glob("events.*")
    return {
        event.step: value.simple_value
        for event in tf.train.summary_iterator(str(filename))
        for value in event.summary.value
        if value.tag == "total_loss"
    }
