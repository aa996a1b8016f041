"""The encoder: crops and boxes to features, as the frozen graph and Deep SORT have them."""

import concurrent.futures
import logging
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tiny
from exporting import (
    IMAGE_SHAPE,
    draw_crops,
    freeze,
    resize,
    run_graph,
    save_checkpoint,
    save_run,
)

import deep_reid
from deep_reid.compat import tf
from deep_reid.config import ComputeSettings
from deep_reid.errors import DataError, MissingPathError, UsageError
from deep_reid.export.encoder import Encoder
from deep_reid.export.formats import pb
from deep_reid.nets import deep_sort, mars_small128
from deep_reid.runtime import sessions

FRAME_SHAPE = (120, 160, 3)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("run"), recorded="deep_sort")


@pytest.fixture(scope="module")
def frozen(checkpoint, tmp_path_factory):
    return freeze(checkpoint, tmp_path_factory.mktemp("frozen") / "model.pb")


@pytest.fixture(scope="module")
def encoder(frozen):
    with Encoder(frozen) as encoder:
        yield encoder


@pytest.fixture(scope="module")
def frame():
    coarse = np.random.RandomState(5).randint(0, 256, (12, 16, 3), np.uint8)
    return cv2.resize(coarse, FRAME_SHAPE[1::-1])


def cut_as_deep_sort(image, bbox, patch_shape):
    """Cut out a box as the tool of Deep SORT that makes its detections, one by one."""
    bbox = np.array(bbox, dtype=float)
    new_width = float(patch_shape[1]) / patch_shape[0] * bbox[3]
    bbox[0] -= (new_width - bbox[2]) / 2
    bbox[2] = new_width
    bbox[2:] += bbox[:2]
    bbox = bbox.astype(int)
    bbox[:2] = np.maximum(0, bbox[:2])
    bbox[2:] = np.minimum(np.asarray(image.shape[:2][::-1]) - 1, bbox[2:])
    if np.any(bbox[:2] >= bbox[2:]):
        return None
    left, top, right, bottom = bbox
    return cv2.resize(image[top:bottom, left:right], tuple(patch_shape[::-1]))


class TestCrops:
    # Below, at and above a batch, and with rows that are left over.
    @pytest.mark.parametrize("count", [1, 2, 7, 8, 31, 32, 33, 64, 200])
    def test_have_the_features_of_the_frozen_graph(self, encoder, frozen, count):
        crops = draw_crops(count)
        features = encoder(crops)
        assert features.shape == (count, 128)
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, run_graph(frozen, resize(crops)), atol=1e-5)

    def test_crops_that_differ_have_different_features_of_unit_length(self, encoder):
        features = encoder(draw_crops(20))
        assert len(np.unique(features.round(3), axis=0)) == 20
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1.0, rtol=1e-5)

    def test_the_batch_size_changes_nothing(self, encoder, frozen):
        crops = draw_crops(9)
        with Encoder(frozen, max_batch_size=2) as other:
            np.testing.assert_allclose(other(crops), encoder(crops), atol=1e-5)

    def test_no_crops_give_no_features(self, encoder):
        for none in ([], (), np.zeros((0, 5, 4, 3), np.uint8), np.zeros((0,))):
            features = encoder(none)
            assert features.shape == (0, 128)
            assert features.dtype == np.float32

    def test_one_array_of_crops(self, encoder):
        crops = np.stack([crop[:1, :1] for crop in draw_crops(3)])
        np.testing.assert_array_equal(encoder(crops), encoder(list(crops)))

    def test_views_of_other_arrays(self, encoder, frame):
        views = [frame[5:90:2, 100:20:-1], frame[..., ::-1], np.asfortranarray(frame)]
        copies = [np.ascontiguousarray(view) for view in views]
        np.testing.assert_array_equal(encoder(views), encoder(copies))

    def test_are_left_as_they_are(self, encoder):
        crops = [*draw_crops(8), *resize(draw_crops(1))]
        before = [crop.copy() for crop in crops]
        encoder(crops)
        for crop, copy in zip(crops, before, strict=True):
            np.testing.assert_array_equal(crop, copy)

    def test_earlier_features_stay(self, encoder):
        first = encoder(draw_crops(3, seed=1))
        copy = first.copy()
        encoder(draw_crops(3, seed=2))
        np.testing.assert_array_equal(first, copy)

    def test_from_several_threads(self, encoder):
        batches = [draw_crops(count, seed=count) for count in (1, 40, 9, 20, 3, 33, 12, 8)]
        expected = [encoder(crops) for crops in batches]
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            for _ in range(3):
                for features, same in zip(threads.map(encoder, batches), expected, strict=True):
                    np.testing.assert_allclose(features, same, atol=1e-5)

    def test_channel_order_matters(self, encoder):
        crops = draw_crops(2)
        swapped = [crop[..., ::-1] for crop in crops]
        assert abs(encoder(crops) - encoder(swapped)).max() > 1e-2


class TestBoxes:
    def encode_slowly(self, encoder, frame, boxes):
        crops = [cut_as_deep_sort(frame, box, IMAGE_SHAPE[:2]) for box in boxes]
        assert all(crop is not None for crop in crops)
        return encoder(crops)

    @pytest.mark.parametrize("count", [1, 20, 50])
    def test_are_cut_out_as_by_deep_sort(self, encoder, frame, count):
        random = np.random.RandomState(count)
        # Some reach over the border, to each side.
        corners = random.uniform((-9, -9), (140, 100), (count, 2))
        boxes = np.hstack([corners, random.uniform((10, 20), (40, 80), (count, 2))])
        expected = self.encode_slowly(encoder, frame, boxes)
        np.testing.assert_allclose(encoder(frame, boxes), expected, atol=1e-5)

    @pytest.mark.parametrize(
        ("box", "rows", "columns"),
        [
            # The width follows from the height: 20 becomes 30, 5 pixels more to each side.
            ((50, 30, 20, 60), slice(30, 90), slice(45, 75)),
            ((50, 30, 40, 60), slice(30, 90), slice(55, 85)),
            ((50.9, 30.9, 30, 60), slice(30, 90), slice(50, 80)),
            ((-10.5, -20.5, 30, 60), slice(0, 39), slice(0, 19)),
            # Without the last row and column, as in Deep SORT.
            ((150, 100, 30, 60), slice(100, 119), slice(150, 159)),
            ((-100, -100, 300, 600), slice(0, 119), slice(0, 159)),
        ],
    )
    def test_to_the_pixel(self, encoder, frame, box, rows, columns):
        expected = encoder([frame[rows, columns]])
        np.testing.assert_allclose(encoder(frame, [box]), expected, atol=1e-5)

    @pytest.mark.parametrize("dtype", [np.int64, np.float32, list])
    def test_may_be_of_any_type_of_numbers(self, encoder, frame, dtype):
        boxes = [[50, 31, 21, 61], [7, 8, 9, 20]]
        expected = self.encode_slowly(encoder, frame, boxes)
        boxes = boxes if dtype is list else np.array(boxes, dtype)
        np.testing.assert_allclose(encoder(frame, boxes), expected, atol=1e-5)

    def test_no_boxes_give_no_features(self, encoder, frame):
        for none in ([], np.zeros((0, 4))):
            assert encoder(frame, none).shape == (0, 128)

    @pytest.mark.parametrize(
        "box",
        [
            (200, 20, 30, 60),
            (-80, 20, 30, 60),
            (20, 130, 30, 60),
            (20, -70, 30, 60),
            (20, 20, 30, 0),
            (20, 20, 30, -5),
            (1e12, -1e12, 30, 60),
        ],
    )
    def test_outside_the_frame_get_the_feature_of_noise(self, encoder, frame, box, caplog):
        boxes = [(50, 30, 20, 60), box, (20, 20, 20, 40)]
        with caplog.at_level(logging.WARNING):
            features = encoder(frame, boxes)
        (record,) = caplog.records
        assert "1 of 3 boxes have no pixel on the frame, say box 1" in record.getMessage()
        np.testing.assert_allclose(features[::2], encoder(frame, boxes[::2]), atol=1e-5)
        assert np.linalg.norm(features[1]) == pytest.approx(1.0, rel=1e-5)
        np.testing.assert_allclose(encoder(frame, boxes), features, atol=1e-5)


class TestSources:
    def test_a_checkpoint_gives_the_same_features_as_its_frozen_graph(self, encoder, checkpoint):
        crops = draw_crops(5)
        with Encoder(checkpoint) as other:
            assert other.image_shape == encoder.image_shape == IMAGE_SHAPE
            assert other.feature_size == encoder.feature_size == 128
            np.testing.assert_array_equal(other(crops), encoder(crops))

    def test_a_run_is_named_by_its_directory(self, encoder, checkpoint, tmp_path, monkeypatch):
        directory = checkpoint.rpartition("/")[0]
        monkeypatch.chdir(directory)
        crops = draw_crops(2)
        for path in (directory, ".", "model.ckpt-7", "model.ckpt-7.index"):
            with Encoder(path) as other:
                np.testing.assert_array_equal(other(crops), encoder(crops))

    def test_the_network_and_shape_that_are_recorded(self, tmp_path):
        shape = (48, 16, 3)
        checkpoint = save_run(tmp_path, mars_small128, shape, recorded="mars_small128")
        path = freeze(checkpoint, tmp_path / "model.pb", mars_small128, shape)
        crops = draw_crops(3)
        with Encoder(checkpoint) as encoder:
            expected = run_graph(path, resize(crops, shape))
            np.testing.assert_allclose(encoder(crops), expected, atol=1e-5)

    def test_the_network_and_shape_that_are_told(self, tmp_path):
        shape = (48, 16, 3)
        factory = mars_small128.create_network_factory(False, None, add_logits=False)
        checkpoint = save_checkpoint(tmp_path, factory, shape)
        with Encoder(checkpoint, network="mars_small128", image_shape=list(shape)) as encoder:
            assert encoder.image_shape == shape
            assert encoder(draw_crops(1)).shape == (1, 128)

    def test_a_checkpoint_without_a_record_is_taken_for_the_default(self, tmp_path):
        factory = deep_sort.create_network_factory(False, None, add_logits=False)
        checkpoint = save_checkpoint(tmp_path, factory, (128, 64, 3))
        with Encoder(checkpoint) as encoder:
            assert encoder.image_shape == (128, 64, 3)

    def test_a_network_of_gray_images_takes_crops_with_and_without_a_channel_axis(self, tmp_path):
        shape = (32, 16, 1)
        checkpoint = save_run(tmp_path, tiny.Net(), shape)
        path = freeze(checkpoint, tmp_path / "model.pb", tiny.Net(), shape)
        crops = draw_crops(12, num_channels=1)
        expected = run_graph(path, resize(crops, shape)[..., np.newaxis])
        with Encoder(path) as encoder:
            np.testing.assert_allclose(encoder(crops), expected, atol=1e-5)
            flat = [crop[:, :, 0] for crop in crops]
            np.testing.assert_allclose(encoder(flat), expected, atol=1e-5)
            frame = np.random.RandomState(0).randint(0, 256, (90, 80), np.uint8)
            boxes = [(10, 20, 30, 40), (500, 20, 30, 40)]
            whole = encoder(frame[:, :, np.newaxis], boxes)
            np.testing.assert_allclose(encoder(frame, boxes), whole, atol=1e-5)
            with pytest.raises(UsageError, match=r"\(32, 16, 3\).*1\), gray.*cvtColor"):
                encoder([np.zeros(IMAGE_SHAPE, np.uint8)])

    def test_another_network_s_graph_that_preprocesses_image_by_image(self, tmp_path):
        """As those that were published: with a loop in the graph, and no folding."""
        factory = tiny.create_network_factory(False)
        with tf.Graph().as_default(), tf.Session() as session:
            images = tf.placeholder(tf.uint8, (None, *tiny.IMAGE_SHAPE), name="images")
            floats = tf.map_fn(tiny.preprocess, images, dtype=tf.float32, back_prop=False)
            tf.identity(factory(floats)[0], name="features")
            session.run(tf.global_variables_initializer())
            graph_def = tf.graph_util.convert_variables_to_constants(
                session, session.graph.as_graph_def(), ["features"]
            )
        path = tmp_path / "published.pb"
        path.write_bytes(graph_def.SerializeToString())
        crops = draw_crops(40)
        with Encoder(path) as encoder:
            expected = run_graph(path, resize(crops, tiny.IMAGE_SHAPE))
            np.testing.assert_allclose(encoder(crops), expected, atol=1e-5)

    def test_how_tensorflow_computes(self, checkpoint, encoder, monkeypatch):
        configs = []
        create = pb.create_session_config
        monkeypatch.setattr(
            pb,
            "create_session_config",
            lambda compute: configs.append(compute) or create(compute),
        )
        compute = ComputeSettings(inter_op_threads=2, intra_op_threads=1)
        crops = draw_crops(3)
        with Encoder(checkpoint, compute=compute) as other:
            np.testing.assert_allclose(other(crops), encoder(crops), atol=1e-5)
        assert configs == [compute]

    @pytest.mark.skipif(
        not sessions.computes_in(ComputeSettings(precision="bfloat16")),
        reason="bfloat16 needs a CPU with AVX-512",
    )
    def test_features_in_bfloat16_are_nearly_those_in_float32(self, checkpoint, encoder):
        crops = draw_crops(3)
        with Encoder(checkpoint, compute=ComputeSettings(precision="bfloat16")) as other:
            features = other(crops)
        assert 1e-6 < abs(features - encoder(crops)).max() < 0.05
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1.0, rtol=1e-5)


class TestErrors:
    def test_one_image_is_no_sequence_of_crops(self, encoder, frame):
        with pytest.raises(
            TypeError, match=r"\(120, 160, 3\) is not a sequence of crops: use \[crop"
        ):
            encoder(frame)

    @pytest.mark.parametrize(
        ("crop", "words"),
        [
            (np.zeros(IMAGE_SHAPE), "crop 1 is of type float64: use an array of uint8"),
            (np.zeros(IMAGE_SHAPE, bool), "crop 1 is of type bool"),
            ([[1, 2], [3, 4]], "crop 1 is of type list"),
            ("a.jpg", "crop 1 is of type str"),
            (None, "crop 1 is of type NoneType"),
        ],
    )
    def test_a_crop_that_is_no_array_of_uint8(self, encoder, crop, words):
        with pytest.raises(TypeError, match=words):
            encoder([np.zeros(IMAGE_SHAPE, np.uint8), crop])

    @pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1), (5, 4, 4), (2,) * 4])
    def test_a_crop_of_another_shape(self, encoder, shape):
        with pytest.raises(UsageError, match=r"crop 0 has the shape .*\(height, width, 3\), BGR"):
            encoder([np.zeros(shape, np.uint8)])

    def test_a_frame_that_is_none(self, encoder):
        with pytest.raises(TypeError, match="the frame is of type NoneType"):
            encoder(None, [(1, 2, 3, 4)])
        with pytest.raises(UsageError, match="the frame has the shape"):
            encoder(np.zeros((2, *FRAME_SHAPE), np.uint8), [(1, 2, 3, 4)])

    @pytest.mark.parametrize(
        ("boxes", "words"),
        [
            ((1, 2, 3, 4), r"shape \(4,\) must have the shape \(N, 4\)"),
            ([(1, 2, 3)], r"shape \(1, 3\)"),
            ([(1, 2, 3, 4), (1, 2)], "not an array of numbers"),
            ([("a", "b", "c", "d")], "not an array of numbers"),
            ([(1, 2, 3, 4), (1, 2, 3, np.nan)], "box 1, .*nan.* must have finite numbers"),
            ([(1, 2, np.inf, 4)], "box 0"),
        ],
    )
    def test_boxes_that_are_none(self, encoder, frame, boxes, words):
        with pytest.raises(UsageError, match=words):
            encoder(frame, boxes)

    @pytest.mark.parametrize("name", ["README.md", "photo.jpg", "scores.json", "weights.h5", "net"])
    @pytest.mark.parametrize("content", [b"", b"a", b"a text of some length" * 9, bytes(100)])
    def test_any_other_file_is_named_with_what_is_taken(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError) as caught:
            Encoder(tmp_path / name)
        line = str(caught.value)
        assert line.startswith(f"{tmp_path / name} is no checkpoint: name a run's directory, or a ")
        assert ". An exported network has a name that ends in .pb, _saved_model, .onnx" in line

    @pytest.mark.parametrize("name", ["nothing.pb", "nothing"])
    def test_a_missing_file(self, tmp_path, name):
        with pytest.raises(MissingPathError, match=name):
            Encoder(tmp_path / name)

    def test_a_file_that_is_no_graph(self, tmp_path):
        (tmp_path / "model.pb").write_bytes(b"no graph")
        with pytest.raises(DataError, match=r"model\.pb is not a frozen graph"):
            Encoder(tmp_path / "model.pb")

    def test_a_graph_with_other_nodes(self, checkpoint, tmp_path):
        path = freeze(checkpoint, tmp_path / "model.pb", feature_name="out")
        with pytest.raises(DataError, match="no nodes 'images' and 'features'"):
            Encoder(path)

    def test_a_graph_without_preprocessing(self, checkpoint, tmp_path):
        path = freeze(checkpoint, tmp_path / "model.pb", with_preprocessing=False)
        with pytest.raises(DataError, match="without --no_preprocess"):
            Encoder(path)

    def test_a_graph_that_does_not_tell_its_sizes(self, tmp_path):
        with tf.Graph().as_default() as graph:
            images = tf.placeholder(tf.uint8, (None, None, 64, 3), name="images")
            tf.identity(tf.cast(images, tf.float32)[:, 0, 0], name="features")
        (tmp_path / "model.pb").write_bytes(graph.as_graph_def().SerializeToString())
        with pytest.raises(DataError, match="does not tell the size"):
            Encoder(tmp_path / "model.pb")

    def test_a_checkpoint_of_another_network(self, tmp_path):
        checkpoint = save_run(tmp_path, mars_small128)
        with pytest.raises(DataError, match="not of the network deep_sort: use network=mars_small"):
            Encoder(checkpoint)

    def test_a_checkpoint_of_another_shape(self, checkpoint):
        with pytest.raises(DataError, match="does not fit the network"):
            Encoder(checkpoint, image_shape=(64, 32, 3))

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"network": "deep_short"}, "deep_short.*is unknown: use one of deep_sort"),
            ({"image_shape": (128, 64)}, "image_shape"),
            ({"max_batch_size": 0}, r"max_batch_size \(0\) must be at least 1"),
        ],
    )
    def test_settings_that_break_their_rule(self, checkpoint, settings, words):
        with pytest.raises(UsageError, match=words):
            Encoder(checkpoint, **settings)

    def test_a_precision_alone_is_not_how_to_compute(self, checkpoint):
        with pytest.raises(TypeError, match="compute is 'bfloat16': use ComputeSettings"):
            Encoder(checkpoint, compute="bfloat16")

    def test_settings_that_a_frozen_graph_does_not_take(self, frozen):
        with pytest.raises(UsageError, match="leave out the settings"):
            Encoder(frozen, network="deep_sort")

    def test_a_precision_that_the_machine_does_not_have(self, checkpoint, monkeypatch):
        monkeypatch.setattr(sessions, "computes_in", lambda compute: compute.precision == "float32")
        with pytest.raises(UsageError, match="float16 is not supported"):
            Encoder(checkpoint, compute=ComputeSettings(precision="float16"))

    @pytest.mark.parametrize("precision", ["bfloat16", "float16"])
    def test_a_frozen_graph_in_another_precision(self, frozen, precision, monkeypatch):
        monkeypatch.setattr(sessions, "computes_in", lambda compute: True)
        with pytest.raises(UsageError, match=f"float32, not {precision}: name the checkpoint"):
            Encoder(frozen, compute=ComputeSettings(precision=precision))

    def test_what_imread_gives_for_a_missing_file(self, encoder):
        with pytest.raises(TypeError, match=r"crop 0 is of type NoneType \(cv2.imread gives that"):
            encoder([cv2.imread("no_such_file.jpg")])

    @pytest.mark.parametrize("shape", [(0, 4, 3), (5, 0, 3)])
    def test_a_crop_without_pixels(self, encoder, shape):
        with pytest.raises(
            UsageError, match=r"crop 1 has the shape \(.*\): leave out images without"
        ):
            encoder([*draw_crops(1), np.zeros(shape, np.uint8)])

    def test_closed_by_another_thread_while_it_computes(self, frozen, monkeypatch):
        def run(batch):
            raise tf.errors.CancelledError(None, None, "Run call was cancelled")

        monkeypatch.setattr(tf.Session, "make_callable", lambda session, *args: run)
        with (
            Encoder(frozen) as encoder,
            pytest.raises(UsageError, match="the encoder is closed"),
        ):
            encoder(draw_crops(1))

    def test_a_closed_encoder(self, frozen):
        with Encoder(frozen) as encoder:
            encoder.close()
        with pytest.raises(UsageError, match="closed"):
            encoder(draw_crops(1))


def test_is_reached_from_the_package_and_neither_imports_tensorflow():
    assert deep_reid.Encoder is Encoder
    with pytest.raises(AttributeError, match="has no attribute 'Decoder'"):
        _ = deep_reid.Decoder
    code = """
import sys, deep_reid
assert not [name for name in sys.modules if name.startswith(("tensorflow", "tf_slim", "cv2"))]
deep_reid.Encoder
assert "tensorflow" not in sys.modules
"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert process.returncode == 0, process.stderr
