"""The one way in: files and arrays become the network's input."""

import functools
import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from deep_reid import input_pipeline
from deep_reid.compat import tf
from deep_reid.errors import DataError, MissingPathError, UsageError
from deep_reid.nets import deep_sort

pytestmark = pytest.mark.usefixtures("graph")

IMAGE_SHAPE = (128, 64, 3)
PREPROCESS_BGR = functools.partial(deep_sort.preprocess, input_is_bgr=True)


def read_in(images_or_filenames, preprocess_fn=deep_sort.preprocess, image_shape=IMAGE_SHAPE):
    """Take images the whole way from the door to the network's input."""
    images, read_from_file = input_pipeline.as_image_source(images_or_filenames)
    image_shape = input_pipeline.check_image_shape(images, read_from_file, image_shape)
    placeholder, input_var = input_pipeline.create_image_input(
        preprocess_fn, image_shape, read_from_file
    )
    assert input_var.get_shape().as_list() == [None, *image_shape]
    with tf.Session() as session:
        return session.run(input_var, {placeholder: images})


@pytest.fixture
def picture():
    """RGB picture of 40 x 30 with other content in each corner and channel."""
    red, green = np.meshgrid(np.arange(30) * 8, np.arange(40) * 6)
    picture = np.stack([red, green, (red + green) // 3], axis=-1).astype(np.uint8)
    picture[:10, :10] = (250, 20, 90)
    return picture


def write_image(path, rgb_picture):
    assert cv2.imwrite(str(path), rgb_picture[..., ::-1])
    return str(path)


@pytest.fixture
def png(tmp_path, picture):
    """The picture as a file without loss."""
    return write_image(tmp_path / "picture.png", picture)


class TestGoldenFiles:
    @pytest.mark.parametrize("number", [0, 1, 2])
    def test_decoded_resized_and_preprocessed_as_by_the_original(self, reference, number, tmp_path):
        path = tmp_path / "image.jpg"
        path.write_bytes(reference[f"jpeg{number}_bytes"].tobytes())
        expected = reference[f"jpeg{number}_preprocessed"][np.newaxis]
        np.testing.assert_allclose(read_in([path]), expected, rtol=1e-5, atol=1e-6)

    def test_images_of_different_sizes_go_into_one_batch(self, reference, tmp_path):
        paths = [tmp_path / f"{number}.jpg" for number in range(3)]
        for number, path in enumerate(paths):
            path.write_bytes(reference[f"jpeg{number}_bytes"].tobytes())
        expected = [reference[f"jpeg{number}_preprocessed"] for number in range(3)]
        np.testing.assert_allclose(read_in(paths), expected, rtol=1e-5, atol=1e-6)


class TestDoor:
    @pytest.mark.parametrize(
        "names",
        [
            ["a/b.jpg", "ä.png"],
            [Path("a/b.jpg"), "ä.png"],
            (Path("a/b.jpg"), Path("ä.png")),
            np.array(["a/b.jpg", "ä.png"]),
            np.array(["a/b.jpg", "ä.png"], dtype=object),
            np.array([Path("a/b.jpg"), Path("ä.png")], dtype=object),
        ],
        ids=["str", "mixed", "Path", "array of str", "objects of str", "objects of Path"],
    )
    def test_file_names(self, names):
        source, read_from_file = input_pipeline.as_image_source(names)
        assert read_from_file is True
        assert source.dtype == object
        assert source.tolist() == [str(Path("a/b.jpg")), "ä.png"]
        assert {type(name) for name in source} == {str}

    def test_an_array_of_images_is_taken_as_it_is(self):
        images = np.zeros((2, 4, 3, 3), np.uint8)
        source, read_from_file = input_pipeline.as_image_source(images)
        assert read_from_file is False
        assert source is images

    @pytest.mark.parametrize("make_sequence", [list, tuple, iter])
    def test_a_sequence_of_arrays_is_stacked(self, make_sequence):
        images = np.random.RandomState(0).randint(0, 256, (3, 4, 2, 3), np.uint8)
        source, read_from_file = input_pipeline.as_image_source(make_sequence(images))
        assert read_from_file is False
        assert source.dtype == np.uint8
        np.testing.assert_array_equal(source, images)

    def test_no_images_are_no_file_names_to_read(self):
        source, _ = input_pipeline.as_image_source([])
        assert source.shape == (0,)

    @pytest.mark.parametrize(
        "source",
        [
            "a.jpg",
            Path("a.jpg"),
            3,
            None,
            [1, 2],
            [None],
            [b"a.jpg"],
            ["a.jpg", np.zeros((4, 2, 3), np.uint8)],
            [[["a.jpg"]]],
            np.array([1, None], dtype=object),
            np.array([["a.jpg"], ["b.jpg"]]),
            np.zeros((4, 2, 3), np.uint8),
            np.zeros((1, 1, 4, 2, 3), np.uint8),
            np.zeros((1, 4, 2, 3), np.float32),
            np.zeros((1, 4, 2, 3), np.int64),
            [np.zeros((4, 2, 3), np.float32)],
            [np.zeros((4, 2), np.uint8)],
            [np.zeros((4, 2, 3), np.uint8), np.zeros((4, 3, 3), np.uint8)],
        ],
    )
    def test_anything_else_is_a_type_error(self, source):
        with pytest.raises(TypeError):
            input_pipeline.as_image_source(source)

    def test_the_message_for_one_name_says_what_to_do(self):
        with pytest.raises(TypeError, match=r"'a\.jpg' is one file name: use a list"):
            input_pipeline.as_image_source("a.jpg")

    def test_the_message_for_a_wrong_array_names_its_type_and_shape(self):
        with pytest.raises(TypeError, match=r"float32 and shape \(1, 4, 2, 3\).*uint8"):
            input_pipeline.as_image_source(np.zeros((1, 4, 2, 3), np.float32))

    def test_the_message_for_different_sizes_names_them(self):
        images = [np.zeros((height, 2, 3), np.uint8) for height in (5, 4)]
        with pytest.raises(TypeError, match=r"\(4, 2, 3\), \(5, 2, 3\)"):
            input_pipeline.as_image_source(images)


class TestImageShape:
    def test_arrays_have_their_own(self):
        shape = input_pipeline.check_image_shape(np.zeros((2, 4, 3, 1), np.uint8), False, None)
        assert shape == (4, 3, 1)

    def test_a_given_one_comes_first_as_plain_integers(self):
        shape = input_pipeline.check_image_shape(
            np.zeros((2, 4, 3, 3), np.uint8), False, np.array([8, 6, 3])
        )
        assert shape == (8, 6, 3)
        assert {type(size) for size in shape} == {int}

    def test_files_need_one(self):
        names = np.array(["a.jpg"], dtype=object)
        with pytest.raises(UsageError, match=r"image_shape=\(128, 64, 3\)"):
            input_pipeline.check_image_shape(names, True, None)
        assert input_pipeline.check_image_shape(names, True, [128, 64, 3]) == IMAGE_SHAPE


def create_recording_preprocess():
    """Create a preprocessing function with a list of the (rank, is_training) of its calls."""

    def preprocess_fn(image, is_training=False, factor=1.0):
        preprocess_fn.calls.append((image.get_shape().ndims, is_training))
        return factor * tf.cast(image, tf.float32)

    preprocess_fn.calls = []
    return preprocess_fn


@pytest.mark.parametrize("wraps", [0, 1, 2])
@pytest.mark.parametrize("is_training", [False, True])
class TestCallsOfPreprocessing:
    def apply(self, preprocess_fn, wraps, is_training):
        for _ in range(wraps):
            preprocess_fn = functools.partial(preprocess_fn, factor=3.0)
        images = np.arange(5 * 4 * 2 * 3, dtype=np.uint8).reshape(5, 4, 2, 3)
        tensor = input_pipeline.apply_preprocessing(preprocess_fn, tf.constant(images), is_training)
        with tf.Session() as session:
            np.testing.assert_array_equal(session.run(tensor), (3.0 if wraps else 1.0) * images)

    def test_a_function_that_takes_batches_is_called_once_with_the_batch(self, wraps, is_training):
        preprocess_fn = create_recording_preprocess()
        preprocess_fn.takes_batches = True
        self.apply(preprocess_fn, wraps, is_training)
        assert preprocess_fn.calls == [(4, is_training)]

    @pytest.mark.parametrize("takes_batches", [None, False])
    def test_another_function_is_given_single_images(self, takes_batches, wraps, is_training):
        preprocess_fn = create_recording_preprocess()
        if takes_batches is not None:
            preprocess_fn.takes_batches = takes_batches
        self.apply(preprocess_fn, wraps, is_training)
        assert preprocess_fn.calls == [(3, is_training)]  # built once, run for each image


class TestChannelOrder:
    """Fault 11: whichever way an image comes in, the network sees the same."""

    @pytest.fixture
    def from_file(self, png):
        return read_in([png])

    def test_an_array_read_as_rgb_gives_what_its_file_gives(self, from_file, png):
        rgb_picture = cv2.cvtColor(cv2.imread(png), cv2.COLOR_BGR2RGB)
        np.testing.assert_allclose(read_in([rgb_picture]), from_file, atol=1e-6)

    def test_an_array_read_with_opencv_gives_it_when_it_says_so(self, from_file, png):
        np.testing.assert_allclose(
            read_in([cv2.imread(png)], PREPROCESS_BGR), from_file, atol=1e-6
        )  # fmt: skip

    def test_an_array_read_with_opencv_that_does_not_say_so_is_another_image(self, from_file, png):
        assert abs(read_in([cv2.imread(png)]) - from_file).max() > 0.1

    @pytest.mark.parametrize("wraps", [1, 2])
    def test_files_are_never_bgr(self, png, wraps):
        preprocess_fn = PREPROCESS_BGR
        for _ in range(wraps - 1):
            preprocess_fn = functools.partial(preprocess_fn)
        with pytest.raises(UsageError, match="files are decoded to RGB"):
            read_in([png], preprocess_fn)

    @pytest.mark.parametrize(
        "preprocess_fn, answer",
        [
            (PREPROCESS_BGR, True),
            (deep_sort.preprocess, False),
            (functools.partial(deep_sort.preprocess), False),
            (functools.partial(deep_sort.preprocess, input_is_bgr=False), False),
            (functools.partial(PREPROCESS_BGR, input_is_bgr=False), False),
            (lambda image, is_training: image, False),
        ],
    )
    def test_a_function_is_asked_what_it_expects(self, preprocess_fn, answer):
        assert input_pipeline.expects_bgr(preprocess_fn) is answer


class TestFormats:
    @pytest.mark.parametrize("ending", ["png", "bmp"])
    def test_formats_without_loss_give_the_picture(self, ending, tmp_path, picture):
        path = write_image(tmp_path / f"picture.{ending}", picture)
        result = read_in([path], image_shape=picture.shape)
        np.testing.assert_allclose(result[0], picture / 255.0, atol=1e-6)

    def test_the_content_decides_and_not_the_name(self, tmp_path, picture, png):
        path = Path(png).rename(tmp_path / "picture.jpg.jpg")
        result = read_in([path], image_shape=picture.shape)
        np.testing.assert_allclose(result[0], picture / 255.0, atol=1e-6)

    @pytest.mark.parametrize("ending", ["png", "jpg"])
    def test_gray_files_get_three_equal_channels(self, ending, tmp_path, picture):
        path = str(tmp_path / f"gray.{ending}")
        assert cv2.imwrite(path, picture[..., 1])
        assert cv2.imread(path, cv2.IMREAD_UNCHANGED).ndim == 2
        result = read_in([path], image_shape=picture.shape)[0]
        np.testing.assert_array_equal(result, np.repeat(result[..., :1], 3, axis=-1))
        np.testing.assert_allclose(result[..., 0], picture[..., 1] / 255.0, atol=0.05)

    def test_transparency_is_left_out(self, tmp_path, picture):
        path = str(tmp_path / "rgba.png")
        alpha = np.full((*picture.shape[:2], 1), 128, np.uint8)
        assert cv2.imwrite(path, np.concatenate([picture[..., ::-1], alpha], axis=-1))
        result = read_in([path], image_shape=picture.shape)
        np.testing.assert_allclose(result[0], picture / 255.0, atol=1e-6)

    def test_color_files_become_gray_for_a_network_of_one_channel(self, png):
        assert read_in([png], image_shape=(40, 30, 1)).shape == (1, 40, 30, 1)

    def test_all_formats_go_into_one_batch(self, tmp_path, picture, png):
        gray, color = str(tmp_path / "gray.jpg"), str(tmp_path / "color.jpg")
        cv2.imwrite(gray, picture[:20, :, 0])
        write_image(color, picture[:, :17])
        names = [gray, png, color]
        single = [read_in([name])[0] for name in names]
        np.testing.assert_array_equal(read_in(names), single)


class TestArrays:
    def test_images_of_another_size_are_resized_as_files_are(self, picture, png):
        assert picture.shape != IMAGE_SHAPE
        np.testing.assert_allclose(read_in([picture]), read_in([png]), atol=1e-6)

    def test_images_of_the_right_size_stay_as_they_are(self, picture):
        result = read_in([picture], image_shape=None)
        np.testing.assert_allclose(result[0], picture / 255.0, rtol=1e-6)

    def test_resizing_has_no_half_pixel_centers(self):
        # Twice as wide: even columns are the old ones, odd ones lie between them.
        column = np.array([0, 100, 40], np.uint8)[np.newaxis, :, np.newaxis]
        image = np.broadcast_to(column, (1, 3, 1))
        result = read_in([image], lambda image, is_training: image, (1, 6, 1))
        assert result.ravel().tolist() == [0, 50, 100, 70, 40, 40]

    def test_one_graph_takes_batches_of_any_size(self, picture):
        placeholder, input_var = input_pipeline.create_image_input(
            deep_sort.preprocess, IMAGE_SHAPE, read_from_file=False
        )
        with tf.Session() as session:
            for num_images, height in itertools.product((0, 1, 3), (40, 20)):
                images = np.stack([picture[:height]] * 3)[:num_images]
                assert session.run(input_var, {placeholder: images}).shape == (
                    num_images, *IMAGE_SHAPE
                )  # fmt: skip

    def test_training_is_handed_on(self, picture):
        tf.set_random_seed(1)
        placeholder, input_var = input_pipeline.create_image_input(
            deep_sort.preprocess, picture.shape, read_from_file=False, is_training=True
        )
        with tf.Session() as session:
            result = session.run(input_var, {placeholder: np.stack([picture] * 20)})
        values, plain = result[:, 20, 5, 0], picture[20, 5, 0] / 255.0
        assert 0 < np.isclose(values, plain).sum() < 20


class TestUnreadableImages:
    @pytest.fixture
    def unreadable(self, tmp_path, png):
        content = Path(png).read_bytes()
        paths = {kind: tmp_path / f"{kind}.jpg" for kind in ("missing", "empty", "text", "cut")}
        paths["empty"].write_bytes(b"")
        paths["text"].write_text("no image at all")
        paths["cut"].write_bytes(content[: len(content) // 2])
        return {kind: str(path) for kind, path in paths.items()}

    def test_a_missing_file_is_named(self, unreadable, png):
        error = input_pipeline.find_unreadable_image([png, unreadable["missing"], png], 3)
        assert type(error) is MissingPathError
        assert f"{unreadable['missing']} does not exist" in str(error)

    @pytest.mark.parametrize("kind", ["empty", "text", "cut"])
    def test_a_corrupt_file_is_named(self, unreadable, png, kind):
        error = input_pipeline.find_unreadable_image([png, unreadable[kind], png], 3)
        assert type(error) is DataError
        assert f"{unreadable[kind]} cannot be read" in str(error)
        assert "\n" not in str(error)

    @pytest.mark.parametrize("kind", ["missing", "empty", "text", "cut"])
    def test_the_pipeline_fails_where_the_search_finds_something(self, unreadable, kind):
        with pytest.raises(tf.errors.OpError):
            read_in([unreadable[kind]])

    def test_a_folder_is_no_image(self, tmp_path):
        error = input_pipeline.find_unreadable_image([str(tmp_path)], 3)
        assert isinstance(error, DataError)
        assert str(tmp_path) in str(error)

    def test_the_first_of_several_is_named(self, unreadable):
        names = [unreadable["empty"], unreadable["missing"]]
        assert names[0] in str(input_pipeline.find_unreadable_image(names, 3))

    def test_readable_files_give_no_error(self, png):
        assert input_pipeline.find_unreadable_image([png, png], 3) is None
        assert input_pipeline.find_unreadable_image([], 3) is None

    def test_the_search_adds_nothing_to_the_graph(self, graph, png):
        input_pipeline.find_unreadable_image([png], 3)
        assert graph.get_operations() == []

    def test_a_batch_of_files_is_explained_by_its_first_array(self, unreadable, png):
        explain_error = input_pipeline.create_error_explainer(True, IMAGE_SHAPE)
        names = np.array([png, unreadable["empty"]], dtype=object)
        assert unreadable["empty"] in str(explain_error([names, np.array([3, 4])]))
        assert explain_error([names[:1], np.array([3])]) is None

    def test_arrays_have_nothing_to_search(self):
        explain_error = input_pipeline.create_error_explainer(False, IMAGE_SHAPE)
        assert explain_error([np.zeros((1, *IMAGE_SHAPE), np.uint8)]) is None
