"""Random changes of training images: what each may do, and what it leaves alone."""

import itertools

import numpy as np
import pytest

from deep_reid.compat import tf
from deep_reid.errors import UsageError
from deep_reid.images import augmentation, pipeline
from deep_reid.images.augmentation import augment_images
from deep_reid.nets import deep_sort

SHAPE = (40, 24, 3)
NUM_IMAGES = 400


def draw_images(shape=SHAPE, number=NUM_IMAGES):
    return np.random.default_rng(0).integers(1, 256, (number, *shape)).astype(np.uint8)


def augment(images, *names, seed=1):
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(seed)
        return session.run(augment_images(tf.constant(images), names))


def test_nothing_is_changed_without_a_name_and_by_flip_alone():
    images = draw_images(number=3)
    with tf.Graph().as_default() as graph:
        tensor = tf.constant(images)
        for names in ((), ("flip",)):
            assert augment_images(tensor, names) is tensor
        assert len(graph.get_operations()) == 1


class TestCrop:
    def test_moves_each_image_by_up_to_eight_pixels_and_fills_with_black(self):
        images = draw_images()
        moved = augment(images, "crop")
        assert moved.shape == images.shape
        assert moved.dtype == np.float32
        offsets = []
        for image, found in zip(images, moved, strict=True):
            padded = np.pad(image, ((8, 8), (8, 8), (0, 0)))
            places = [
                (y, x)
                for y in range(17)
                for x in range(17)
                if (padded[y : y + 40, x : x + 24] == found).all()
            ]
            assert len(places) == 1
            offsets += places
        rows, columns = np.transpose(offsets)
        for values in (rows, columns):
            counts = np.bincount(values, minlength=17)
            assert len(counts) == 17
            assert counts.min() > 4  # 23.5 are expected of each
        assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.2


class TestErase:
    def test_fills_a_rectangle_with_noise_in_half_of_the_images(self):
        images = draw_images()
        erased = augment(images, "erase")
        is_changed = (erased != images).any(axis=3)
        is_erased = is_changed.any(axis=(1, 2))
        assert 0.4 < is_erased.mean() < 0.6
        heights, widths, tops, lefts = [], [], [], []
        for changed in is_changed[is_erased]:
            rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
            inside = changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert inside.all()  # a rectangle
            heights.append(len(inside) / SHAPE[0])
            widths.append(len(inside[0]) / SHAPE[1])
            tops.append(rows[0] / (SHAPE[0] - len(inside) or 1))
            lefts.append(columns[0] / (SHAPE[1] - len(inside[0]) or 1))
        half = 0.5 / SHAPE[1]
        for values, (low, high) in (
            (heights, augmentation.ERASED_HEIGHTS),
            (widths, augmentation.ERASED_WIDTHS),
            (tops, (0, 1)),
            (lefts, (0, 1)),
        ):
            assert low - half <= min(values) < low + 0.1
            assert high - 0.1 < max(values) <= high + half
        noise = erased[is_changed]
        assert 0 <= noise.min() < 5
        assert 250 < noise.max() <= 255
        assert abs(noise.mean() - 127.5) < 15

    def test_the_rest_of_the_image_stays(self):
        images = draw_images()
        erased = augment(images, "erase")
        assert ((erased == images).all(axis=3).mean(axis=(1, 2)) > 0.6).all()


class TestColor:
    def test_follows_its_formula(self):
        """Whatever was drawn, factors in the range give the image."""
        images = np.random.default_rng(1).integers(90, 160, (60, 6, 5, 3)).astype(np.uint8)
        changed = augment(images, "color")
        gray = np.array([0.2989, 0.587, 0.114])
        factors = []
        for image, found in zip(np.float64(images), np.float64(changed), strict=True):
            # No value is cut here, so saturation * contrast * (x - gray(x)) is left of the colors,
            colors, found_colors = (x - (x @ gray)[..., np.newaxis] for x in (image, found))
            # and contrast of gray values, both times the brightness.
            flat, found_flat = ((x @ gray) - (x @ gray).mean() for x in (image, found))
            brightness = (found @ gray).mean() / (image @ gray).mean()
            contrast = (flat * found_flat).sum() / (flat**2).sum() / brightness
            total = (colors * found_colors).sum() / (colors**2).sum()
            saturation = total / brightness / contrast
            factors.append((brightness, contrast, saturation))
            mean = brightness * (image @ gray).mean()
            expected = mean + contrast * (brightness * image - mean)
            expected_gray = (expected @ gray)[..., np.newaxis]
            expected = expected_gray + saturation * (expected - expected_gray)
            np.testing.assert_allclose(found, expected, atol=0.1)
        factors = np.array(factors)
        low, high = augmentation.COLOR_RANGE
        assert (factors > low - 0.01).all()
        assert (factors < high + 0.01).all()
        assert (np.ptp(factors, axis=0) > 0.3).all()
        assert abs(np.corrcoef(factors.T) - np.eye(3)).max() < 0.45

    def test_values_stay_values_of_images(self):
        changed = augment(draw_images(), "color")
        assert changed.min() >= 0
        assert changed.max() <= 255

    def test_gray_images_stay_gray(self):
        changed = augment(draw_images((40, 24, 1), 30), "color")
        assert changed.shape == (30, 40, 24, 1)


class TestAllTogether:
    @pytest.mark.parametrize("shape", [(40, 24, 3), (40, 24, 1), (40, 24), (16, 16, 3)])
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_take_images_of_any_kind(self, shape, dtype):
        images = draw_images(shape, 6).astype(dtype)
        changed = augment(images, "color", "crop", "erase")
        assert (changed.shape, changed.dtype) == (images.shape, np.float32)
        assert (changed != images).any(axis=tuple(range(1, images.ndim))).all()

    def test_each_image_and_each_batch_is_changed_in_another_way(self):
        images = np.repeat(draw_images(number=1), 20, axis=0)
        with tf.Graph().as_default(), tf.Session() as session:
            tf.set_random_seed(1)
            changed = augment_images(tf.constant(images), ("crop", "color"))
            batches = np.concatenate([session.run(changed), session.run(changed)])
        assert len(np.unique(batches, axis=0)) == 40

    def test_the_same_seed_gives_the_same_images(self):
        images = draw_images(number=20)
        first, second, other = (
            augment(images, "color", "crop", "erase", seed=seed) for seed in (5, 5, 6)
        )
        np.testing.assert_array_equal(first, second)
        assert (first != other).any()


class TestPipeline:
    def run(self, augment, is_training):
        images = draw_images((32, 16, 3), 64)
        with tf.Graph().as_default(), tf.Session() as session:
            tf.set_random_seed(3)
            placeholder, inputs = pipeline.create_image_input(
                deep_sort.preprocess, (32, 16, 3), False, is_training, augment=augment
            )
            return images / np.float32(255), session.run(inputs, {placeholder: images})

    @pytest.mark.parametrize("augment", [("flip",), ("crop", "erase", "color"), ()])
    def test_evaluation_never_changes_images(self, augment):
        images, inputs = self.run(augment, is_training=False)
        np.testing.assert_allclose(inputs, images, atol=1e-6)

    def test_flip_is_what_the_preprocessing_does(self):
        images, inputs = self.run(("flip",), is_training=True)
        is_same = np.isclose(inputs, images, atol=1e-6).all(axis=(1, 2, 3))
        is_mirrored = np.isclose(inputs, images[:, :, ::-1], atol=1e-6).all(axis=(1, 2, 3))
        assert (is_same ^ is_mirrored).all()
        assert 0.2 < is_mirrored.mean() < 0.8

    def test_without_flip_nothing_is_mirrored(self):
        images, inputs = self.run((), is_training=True)
        np.testing.assert_allclose(inputs, images, atol=1e-6)

    @pytest.mark.parametrize("name", ["crop", "erase", "color"])
    def test_each_name_changes_the_network_s_input(self, name):
        images, inputs = self.run((name,), is_training=True)
        assert not np.isclose(inputs, images, atol=1e-4).all()


class TestRecoloring:
    LABELS = np.repeat([5, 0, 3, 900], 4)

    def recolor(self, seed, images=None, labels=LABELS):
        images = draw_images(number=len(labels)).astype(np.float32) if images is None else images
        with tf.Graph().as_default(), tf.Session() as session:
            tf.set_random_seed(seed)
            return images, *session.run(
                augmentation.recolor_identities(tf.constant(images), tf.constant(labels))
            )

    def test_each_identity_has_one_order_of_colors_and_the_label_tells_it(self):
        orders = list(itertools.permutations(range(3)))
        assert orders[0] == (0, 1, 2)
        seen = []
        for seed in range(12):
            images, changed, labels = self.recolor(seed)
            drawn = labels - 6 * self.LABELS
            for image, found, order in zip(images, changed, drawn, strict=True):
                np.testing.assert_array_equal(found, image[..., orders[order]])
            assert all(len(set(part)) == 1 for part in np.split(drawn, 4))
            seen += drawn[::4].tolist()
        assert set(seen) == set(range(6))
        counts = np.bincount(seen)
        assert counts.max() < 20  # 8 are expected of each

    def test_labels_keep_their_type(self):
        *_, labels = self.recolor(1)
        assert labels.dtype == np.int64

    def test_images_without_three_colors_are_refused(self):
        with pytest.raises(UsageError, match="images have 1 channels: leave it out"):
            self.recolor(1, draw_images((8, 8, 1), 16).astype(np.float32))


class TestBackgrounds:
    NUMBER = 200

    def swap(self, seed=1, shape=SHAPE, values=None):
        """Swap backgrounds of images that have one value each."""
        values = np.arange(float(self.NUMBER)) if values is None else values
        images = np.broadcast_to(values.reshape(-1, 1, 1, 1), (len(values), *shape))
        with tf.Graph().as_default(), tf.Session() as session:
            tf.set_random_seed(seed)
            return session.run(
                augmentation.swap_backgrounds(tf.constant(images.astype(np.float32)))
            )

    def test_the_body_stays_and_the_corners_are_another_image_s(self):
        swapped = self.swap()
        for number, image in enumerate(swapped):
            np.testing.assert_array_equal(image[8:36, 6:18], number)
            corners = image[[0, 0, -1, -1], [0, -1, 0, -1]]
            assert len(np.unique(corners)) == 1
            assert corners[0, 0] in range(self.NUMBER)
        others = swapped[:, 0, 0, 0]
        # Drawn with replacement, about 1 - 1/e of the images are somebody's background.
        assert 0.5 < len(set(others)) / self.NUMBER < 0.75
        assert abs(np.corrcoef(others, np.arange(self.NUMBER))[0, 1]) < 0.25
        assert not np.array_equal(others, self.swap(seed=2)[:, 0, 0, 0])

    @pytest.mark.parametrize("shape", [(128, 64, 3), (64, 32, 1), (33, 17, 3), (1, 1, 3)])
    def test_the_share_of_each_pixel_follows_the_widths_of_a_body(self, shape):
        height, width, _ = shape
        points = sorted(augmentation.BODY_WIDTHS.items())
        begin, end = augmentation.BODY_EDGE
        shares = np.empty((height, width, 1))
        for row, column in np.ndindex(height, width):
            y, x = (row + 0.5) / height, (column + 0.5) / width
            after = next(index for index, (at, _) in enumerate(points) if at >= y)
            (y0, w0), (y1, w1) = points[after - 1], points[after]
            body = w0 + (w1 - w0) * (y - y0) / (y1 - y0)
            distance = 2 * abs(x - 0.5) / body
            shares[row, column] = min(max((end - distance) / (end - begin), 0), 1)
        values = np.linspace(10.0, 250.0, 16)
        found = self.swap(shape=shape, values=values)
        # Some image must have another one's background, or no share would be seen.
        assert (np.ptp(found, axis=(1, 2, 3)) > 1).any() == (shares < 1).any()
        for own, image in zip(values, found, strict=True):
            assert any(
                np.allclose(image, shares * own + (1 - shares) * other, atol=1e-3)
                for other in values
            )
