"""From a checkpoint to features, a checkpoint of the model alone, and a frozen graph."""

import functools
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
from scipy import io

from deep_reid import export
from deep_reid.compat import slim, tf
from deep_reid.errors import DataError, MissingPathError, UsageError
from deep_reid.nets import deep_sort
from deep_reid.system import matlab

pytestmark = pytest.mark.usefixtures("graph")

FACTORY = tiny.create_network_factory(is_training=False)


def save_checkpoint(directory, factory, image_shape):
    """Save a checkpoint as training leaves it: the model, the optimizer's state and the step."""
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(3)
        features, _ = factory(tf.zeros((2, *image_shape)))
        global_step = tf.train.get_or_create_global_step()
        loss = tf.reduce_sum(features[:, 0])
        tf.train.AdamOptimizer().minimize(loss, global_step)
        session.run(tf.global_variables_initializer())
        random = np.random.RandomState(0)
        for variable in slim.get_model_variables():
            shape = variable.get_shape().as_list()
            value = random.normal(size=shape) / np.sqrt(np.prod(shape[:-1]) if shape[1:] else 10)
            is_variance = variable.op.name.endswith("moving_variance")
            variable.load(abs(value) + 0.5 if is_variance else value, session)
        global_step.load(7, session)
        return tf.train.Saver().save(session, os.path.join(directory, "model.ckpt"), global_step)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tiny")
    return save_checkpoint(directory, tiny.create_network_factory(False, 5), tiny.IMAGE_SHAPE)


@pytest.fixture(scope="module")
def filenames(tmp_path_factory):
    """Seven image files without loss, of the network's size."""
    directory = tmp_path_factory.mktemp("images")
    images = np.random.RandomState(1).randint(0, 256, (7, *tiny.IMAGE_SHAPE), np.uint8)
    names = [str(directory / f"{number}.png") for number in range(len(images))]
    for name, image in zip(names, images, strict=True):
        assert cv2.imwrite(name, image)
    return names


@pytest.fixture(scope="module")
def bgr_images(filenames):
    return np.stack([cv2.imread(name) for name in filenames])


@pytest.fixture(scope="module")
def rgb_images(bgr_images):
    return np.ascontiguousarray(bgr_images[..., ::-1])


def encode(checkpoint, images_or_filenames, preprocess_fn=tiny.preprocess, **settings):
    settings = {"image_shape": tiny.IMAGE_SHAPE} | settings
    return export.encode(preprocess_fn, FACTORY, checkpoint, images_or_filenames, **settings)


@pytest.fixture(scope="module")
def features(checkpoint, filenames):
    return encode(checkpoint, filenames)


class TestEncode:
    def test_one_float32_row_of_unit_length_per_image(self, features):
        assert features.shape == (7, tiny.FEATURE_SIZE)
        assert features.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1.0, rtol=1e-5)
        assert len(np.unique(features.round(4), axis=0)) == 7

    @pytest.mark.parametrize("image_shape", [None, tiny.IMAGE_SHAPE])
    def test_arrays_read_as_rgb_have_the_features_of_their_files(
        self, checkpoint, rgb_images, features, image_shape
    ):
        result = encode(checkpoint, rgb_images, image_shape=image_shape)
        np.testing.assert_allclose(result, features, atol=1e-5)

    def test_channel_order_matters(self, checkpoint, bgr_images, features):
        assert abs(encode(checkpoint, bgr_images) - features).max() > 1e-2

    @pytest.mark.parametrize("batch_size", [1, 2, 7, 32])
    def test_the_batch_size_changes_nothing(self, checkpoint, filenames, features, batch_size):
        result = encode(checkpoint, filenames, batch_size=batch_size)
        np.testing.assert_allclose(result, features, atol=1e-5)

    def test_fewer_images_than_a_batch(self, checkpoint, filenames, features):
        result = encode(checkpoint, filenames[:3], batch_size=5)
        np.testing.assert_allclose(result, features[:3], atol=1e-5)

    @pytest.mark.parametrize("images", [[], np.zeros((0, *tiny.IMAGE_SHAPE), np.uint8)])
    def test_no_images_give_no_features(self, checkpoint, images):
        result = encode(checkpoint, images)
        assert result.shape == (0, tiny.FEATURE_SIZE)
        assert result.dtype == np.float32

    def test_files_as_paths(self, checkpoint, filenames, features):
        result = encode(checkpoint, [Path(name) for name in filenames])
        np.testing.assert_array_equal(result, features)

    def test_progress_is_told_the_images_of_each_batch(self, checkpoint, filenames):
        counts = []
        encode(checkpoint, filenames, batch_size=3, progress=counts.append)
        assert counts == [3, 3, 1]

    def test_the_callers_graph_is_left_alone(self, checkpoint, filenames, graph):
        encode(checkpoint, filenames[:1])
        assert graph.get_operations() == []

    def test_a_session_given_is_used_and_stays_open(self, checkpoint, filenames, features, graph):
        with tf.Session() as session:
            result = encode(checkpoint, filenames, session=session)
            np.testing.assert_allclose(result, features, atol=1e-5)
            assert {v.graph for v in slim.get_model_variables()} == {graph}
            assert session.run(tf.constant(3)) == 3
            num_variables = len(tf.global_variables())
            again = encode(checkpoint, filenames[:2], session=session)
            np.testing.assert_allclose(again, features[:2], atol=1e-5)
            assert len(tf.global_variables()) == num_variables

    @pytest.mark.parametrize("content", [None, b"", b"no image"])
    def test_an_image_that_cannot_be_read_is_named(self, checkpoint, filenames, tmp_path, content):
        path = tmp_path / "bad.jpg"
        if content is not None:
            path.write_bytes(content)
        error = MissingPathError if content is None else DataError
        with pytest.raises(error, match=r"bad\.jpg"):
            encode(checkpoint, [*filenames, str(path)], batch_size=3)

    @pytest.mark.parametrize("batch_size", [0, -1])
    def test_a_batch_size_below_one_is_refused(self, checkpoint, filenames, batch_size):
        with pytest.raises(UsageError, match="batch_size"):
            encode(checkpoint, filenames, batch_size=batch_size)

    def test_files_need_an_image_shape(self, checkpoint, filenames):
        with pytest.raises(UsageError, match="image_shape"):
            encode(checkpoint, filenames, image_shape=None)

    def test_anything_but_files_and_images_is_a_type_error(self, checkpoint):
        with pytest.raises(TypeError, match="float64"):
            encode(checkpoint, np.zeros((1, *tiny.IMAGE_SHAPE)))

    @pytest.mark.parametrize("image_shape", [(32,), (32, 16, 0), (32, 16.5, 3), "abc"])
    def test_a_shape_that_is_none_is_refused(self, checkpoint, filenames, tmp_path, image_shape):
        match = "image_shape .* must be"
        with pytest.raises(UsageError, match=match):
            encode(checkpoint, filenames, image_shape=image_shape)
        for write in (export.freeze, export.finalize):
            with pytest.raises(UsageError, match=match):
                write(tiny.preprocess, FACTORY, checkpoint, image_shape, tmp_path / "out")
        assert not list(tmp_path.iterdir())

    def test_a_frozen_graph_takes_names_of_files(self, rgb_images):
        with pytest.raises(TypeError, match="images, not names of files"):
            export.encode_with_frozen_graph("any.pb", rgb_images)

    def test_a_missing_checkpoint_is_named(self, filenames, tmp_path):
        with pytest.raises(MissingPathError, match="nowhere"):
            encode(tmp_path / "nowhere", filenames)

    def test_a_checkpoint_of_another_network_is_refused(self, checkpoint, filenames):
        with pytest.raises(DataError, match="does not fit the network"):
            encode(checkpoint, filenames, image_shape=(64, 16, 3))


def finalize(checkpoint, output, factory=FACTORY):
    export.finalize(tiny.preprocess, factory, checkpoint, tiny.IMAGE_SHAPE, output)


def freeze(checkpoint, output, preprocess_fn=tiny.preprocess, factory=FACTORY, **settings):
    export.freeze(preprocess_fn, factory, checkpoint, tiny.IMAGE_SHAPE, output, **settings)


class TestFinalize:
    @pytest.fixture
    def finalized(self, checkpoint, tmp_path):
        prefix = str(tmp_path / "new" / "folder" / "model")
        finalize(checkpoint, prefix)
        return prefix

    def test_the_features_stay_the_same(self, finalized, filenames, features):
        np.testing.assert_array_equal(encode(finalized, filenames), features)

    def test_the_checkpoint_has_the_model_variables_and_nothing_else(self, finalized, checkpoint):
        with tf.Graph().as_default():
            FACTORY(tf.zeros((1, *tiny.IMAGE_SHAPE)))
            expected = {v.op.name: v.get_shape().as_list() for v in slim.get_model_variables()}
        assert tf.train.load_checkpoint(finalized).get_variable_to_shape_map() == expected
        before = tf.train.load_checkpoint(checkpoint).get_variable_to_shape_map()
        assert set(expected) < set(before)

    def test_variables_of_a_network_that_are_not_of_the_model_are_left_out(
        self, checkpoint, tmp_path
    ):
        def factory(images):
            tf.get_variable("num_calls", initializer=0, trainable=False)
            return FACTORY(images)

        finalize(checkpoint, tmp_path / "model", factory)
        shapes = tf.train.load_checkpoint(str(tmp_path / "model")).get_variable_to_shape_map()
        assert "num_calls" not in shapes
        assert "tiny/conv/weights" in shapes

    def test_the_name_of_a_folder_is_refused(self, checkpoint, tmp_path):
        with pytest.raises(UsageError, match="is a folder: add the name of the checkpoint"):
            finalize(checkpoint, f"{tmp_path}{os.sep}")
        assert not list(tmp_path.iterdir())

    def test_there_are_the_checkpoints_two_files_alone(self, finalized):
        names = sorted(path.name for path in Path(finalized).parent.iterdir())
        assert names == ["model.data-00000-of-00001", "model.index"]

    def test_a_classifier_is_kept_where_the_network_has_one(self, checkpoint, tmp_path):
        finalize(checkpoint, tmp_path / "model", tiny.create_network_factory(False, 5))
        shapes = tf.train.load_checkpoint(str(tmp_path / "model")).get_variable_to_shape_map()
        assert shapes["tiny/logits/weights"] == [tiny.FEATURE_SIZE, 5]

    def test_a_plain_name_is_written_to_the_working_directory(
        self, checkpoint, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        finalize(checkpoint, "model")
        assert (tmp_path / "model.index").exists()


class FrozenGraph:
    """A client of a frozen graph, who knows the file and the two names alone."""

    def __init__(self, path, input_name="images", feature_name="features"):
        self.graph_def = tf.GraphDef.FromString(Path(path).read_bytes())
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.images, self.features = tf.import_graph_def(
                self.graph_def, return_elements=[f"{input_name}:0", f"{feature_name}:0"], name=""
            )

    def encode(self, images):
        with tf.Session(graph=self.graph) as session:
            return session.run(self.features, {self.images: images})


class TestFreeze:
    def test_the_two_nodes_are_as_promised(self, checkpoint, tmp_path):
        freeze(checkpoint, tmp_path / "model.pb")
        frozen = FrozenGraph(tmp_path / "model.pb")
        assert frozen.images.dtype == tf.uint8
        assert frozen.images.get_shape().as_list() == [None, *tiny.IMAGE_SHAPE]
        assert frozen.features.dtype == tf.float32
        assert frozen.features.get_shape().as_list() == [None, tiny.FEATURE_SIZE]

    def test_no_variable_is_left(self, checkpoint, tmp_path):
        freeze(checkpoint, tmp_path / "model.pb")
        op_types = {node.op for node in FrozenGraph(tmp_path / "model.pb").graph_def.node}
        assert "Const" in op_types
        assert not [op for op in op_types if "Var" in op or op in {"Assign", "RestoreV2"}]

    @pytest.mark.parametrize("names", [{}, {"input_name": "crops", "feature_name": "out"}])
    @pytest.mark.parametrize(
        "preprocess_fn", [tiny.preprocess, deep_sort.preprocess], ids=["by image", "by batch"]
    )
    def test_images_read_with_opencv_have_the_features_of_their_files(
        self, checkpoint, tmp_path, bgr_images, features, preprocess_fn, names
    ):
        freeze(checkpoint, tmp_path / "model.pb", preprocess_fn, **names)
        result = FrozenGraph(tmp_path / "model.pb", **names).encode(bgr_images)
        np.testing.assert_allclose(result, features, atol=1e-5)

    def test_a_preprocessing_that_swaps_the_channels_itself_makes_the_same_graph(
        self, checkpoint, tmp_path, bgr_images, features
    ):
        preprocess_fn = functools.partial(deep_sort.preprocess, input_is_bgr=True)
        freeze(checkpoint, tmp_path / "model.pb", preprocess_fn)
        result = FrozenGraph(tmp_path / "model.pb").encode(bgr_images)
        np.testing.assert_allclose(result, features, atol=1e-5)

    @pytest.mark.parametrize("num_images", [1, 3])
    def test_takes_any_number_of_images(
        self, checkpoint, tmp_path, bgr_images, features, num_images
    ):
        freeze(checkpoint, tmp_path / "model.pb")
        result = FrozenGraph(tmp_path / "model.pb").encode(bgr_images[:num_images])
        np.testing.assert_allclose(result, features[:num_images], atol=1e-5)

    def test_the_images_are_mirrored_in_no_frozen_graph(self, checkpoint, tmp_path, bgr_images):
        freeze(checkpoint, tmp_path / "model.pb", deep_sort.preprocess)
        frozen = FrozenGraph(tmp_path / "model.pb")
        assert not [node.op for node in frozen.graph_def.node if node.op.startswith("Random")]

    def test_what_training_needs_is_folded_away(self, checkpoint, tmp_path):
        freeze(checkpoint, tmp_path / "model.pb", deep_sort.preprocess)
        op_types = {node.op for node in FrozenGraph(tmp_path / "model.pb").graph_def.node}
        gone = {"FusedBatchNormV3", "ReverseV2", "RealDiv", "TensorArrayV3", "While", "Enter"}
        assert op_types.isdisjoint(gone)

    def test_a_frozen_network_of_gray_images_gives_the_features_of_encode(self, tmp_path):
        shape = (*tiny.IMAGE_SHAPE[:2], 1)
        checkpoint = save_checkpoint(tmp_path, FACTORY, shape)
        images = np.random.RandomState(0).randint(0, 256, (3, *shape), np.uint8)
        expected = export.encode(deep_sort.preprocess, FACTORY, checkpoint, images)
        export.freeze(deep_sort.preprocess, FACTORY, checkpoint, shape, tmp_path / "model.pb")
        result = FrozenGraph(tmp_path / "model.pb").encode(images)
        np.testing.assert_allclose(result, expected, atol=1e-5)

    def test_missing_folders_are_made(self, checkpoint, tmp_path):
        freeze(checkpoint, tmp_path / "new" / "folder" / "model.pb")
        assert os.listdir(tmp_path / "new" / "folder") == ["model.pb"]

    def test_an_existing_file_survives_a_freeze_that_fails(self, checkpoint, tmp_path, monkeypatch):
        path = tmp_path / "model.pb"
        path.write_bytes(b"old")

        def write_half(self, content):
            with open(self, "wb") as file:
                file.write(content[: len(content) // 2])
            raise OSError("disk full")

        monkeypatch.setattr(Path, "write_bytes", write_half)
        with pytest.raises(OSError, match="disk full"):
            freeze(checkpoint, path)
        assert path.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["model.pb"]


class TestFreezeWithoutPreprocessing:
    @pytest.fixture
    def path(self, checkpoint, tmp_path):
        freeze(checkpoint, tmp_path / "model.pb", with_preprocessing=False)
        return tmp_path / "model.pb"

    def test_the_images_are_floats(self, path):
        frozen = FrozenGraph(path)
        assert frozen.images.dtype == tf.float32
        assert frozen.images.get_shape().as_list() == [None, *tiny.IMAGE_SHAPE]
        assert frozen.features.get_shape().as_list() == [None, tiny.FEATURE_SIZE]

    def test_preprocessed_images_have_the_features_of_their_files(self, path, rgb_images, features):
        result = FrozenGraph(path).encode(rgb_images / np.float32(255))
        np.testing.assert_allclose(result, features, atol=1e-5)

    @pytest.mark.parametrize("input_is_bgr", [False, True])
    def test_the_order_of_channels_is_that_of_the_network(
        self, checkpoint, tmp_path, rgb_images, features, input_is_bgr
    ):
        preprocess_fn = functools.partial(deep_sort.preprocess, input_is_bgr=input_is_bgr)
        freeze(checkpoint, tmp_path / "model.pb", preprocess_fn, with_preprocessing=False)
        result = FrozenGraph(tmp_path / "model.pb").encode(rgb_images / np.float32(255))
        np.testing.assert_allclose(result, features, atol=1e-5)

    def test_files_are_not_encoded_with_it(self, path, filenames):
        with pytest.raises(DataError, match="without --no_preprocess"):
            export.encode_with_frozen_graph(path, filenames)

    def test_the_log_says_what_to_feed(self, checkpoint, tmp_path, caplog):
        with caplog.at_level("INFO"):
            freeze(checkpoint, tmp_path / "model.pb", with_preprocessing=False)
            freeze(checkpoint, tmp_path / "model.pb")
        lines = [line for line in caplog.messages if line.startswith("Node images")]
        assert lines == [
            "Node images: float32, preprocessed, (N, 32, 16, 3), RGB; "
            "node features: float32, (N, 8)",
            "Node images: uint8, (N, 32, 16, 3), BGR; node features: float32, (N, 8)",
        ]


@pytest.mark.parametrize("write", [finalize, freeze])
class TestNothingIsWrittenWhere:
    @pytest.fixture
    def output(self, tmp_path):
        """A file name in a folder that must not be made either."""
        yield tmp_path / "new" / "model"
        assert list(tmp_path.iterdir()) == []

    def test_the_checkpoint_is_missing(self, write, output):
        with pytest.raises(MissingPathError, match="nowhere"):
            write(output.parent.parent / "nowhere", output)

    def test_the_network_lacks_variables_in_the_checkpoint(self, write, checkpoint, output):
        def factory(images):
            slim.model_variable("extra", (3,))
            return FACTORY(images)

        with pytest.raises(DataError, match="does not fit the network: it lacks extra"):
            write(checkpoint, output, factory=factory)

    def test_a_variable_has_another_shape(self, write, checkpoint, output):
        with pytest.raises(DataError, match="tiny/logits/weights"):
            write(checkpoint, output, factory=tiny.create_network_factory(False, 6))


def test_the_real_network_goes_the_whole_way(tmp_path, reference):
    factory = deep_sort.create_network_factory(False, None, add_logits=False)
    image_shape, images = (128, 64, 3), reference["net_images"]
    settings = (deep_sort.preprocess, factory)
    checkpoint = save_checkpoint(tmp_path, factory, image_shape)
    features = export.encode(*settings, checkpoint, images)
    assert features.shape == (6, 128)
    assert abs(features[0] - features[1]).max() > 1e-2
    export.finalize(*settings, checkpoint, image_shape, tmp_path / "final")
    export.freeze(*settings, tmp_path / "final", image_shape, tmp_path / "model.pb")
    result = FrozenGraph(tmp_path / "model.pb").encode(images[..., ::-1])
    np.testing.assert_allclose(result, features, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(result, axis=1), 1.0, rtol=1e-5)


class TestMatlab:
    def test_features_come_back_with_a_row_per_image(self, tmp_path):
        features = np.random.RandomState(0).normal(size=(5, 3)).astype(np.float32)
        matlab.write_features(tmp_path / "new" / "features.mat", features)
        content = io.loadmat(str(tmp_path / "new" / "features.mat"))
        assert [name for name in content if not name.startswith("__")] == ["features"]
        assert content["features"].dtype == np.float32
        np.testing.assert_array_equal(content["features"], features)

    def test_one_image_is_one_row(self, tmp_path):
        matlab.write_features(tmp_path / "f.mat", np.ones((1, 3), np.float32))
        assert io.loadmat(str(tmp_path / "f.mat"))["features"].shape == (1, 3)

    def test_the_name_is_taken_as_it_is(self, tmp_path):
        matlab.write_features(tmp_path / "features.out", np.ones((1, 3), np.float32))
        assert os.listdir(tmp_path) == ["features.out"]

    def test_an_existing_file_survives_a_failing_write(self, tmp_path, monkeypatch):
        path = tmp_path / "features.mat"
        path.write_bytes(b"old")

        def save_half(file_name, *args, **kwargs):
            Path(file_name).write_bytes(b"half")
            raise OSError("disk full")

        monkeypatch.setattr(io, "savemat", save_half)
        with pytest.raises(OSError, match="disk full"):
            matlab.write_features(path, np.ones((1, 3), np.float32))
        assert path.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["features.mat"]
