"""Readers of Market-1501, called as code for the original calls them."""

import functools
import os
import pathlib

import numpy as np
import pytest
import scipy.io
from jpegs import imread_all, write_images

from datasets import market1501, util
from datasets.base import read_images
from deep_reid.errors import DataError

TRAIN = [f"{i:04d}_c{c}s1_000451_01.jpg" for i in (2, 7, 10, 11, 22) for c in (1, 2, 5)]
GALLERY = [
    "-1_c1s1_000401_03.jpg",
    "0000_c1s1_000151_01.jpg",
    "0003_c1s6_015971_01.jpg",
    "0003_c4s6_015641_02.jpg.jpg",
    "0004_c1s6_016996_02.jpg",
    "0004_c3s3_065819_03.jpg",
]
QUERY = ["0003_c1s6_015971_00.jpg", "0004_c3s3_065494_00.jpg.jpg", "0004_c6s3_069327_00.jpg"]
QUERY_NAMES = ["0003_c1s6_015971_00", "0004_c3s3_065494_00", "0004_c6s3_069327_00"]
# What follows from the names: a row for each query.
MASK_BY_RULE = np.array([[0, 1, 0, 1, 1, 1], [0, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 1]], np.float32)
# Differs from the rule, so that it is seen where a mask comes from.
JUNK_INDEX = [[1, 3], [6, 1, 2], [4]]
MASK_BY_FILES = np.array([[0, 1, 0, 1, 1, 1], [0, 0, 1, 1, 1, 0], [1, 1, 1, 0, 1, 1]], np.float32)


@pytest.fixture(scope="module")
def market_images(tmp_path_factory):
    root = tmp_path_factory.mktemp("market")
    for folder, names in (
        ("bounding_box_train", TRAIN),
        ("bounding_box_test", GALLERY),
        ("query", QUERY),
    ):
        write_images(root / folder, names)
        (root / folder / "Thumbs.db").write_bytes(b"no image")
    return root


@pytest.fixture
def market(market_images, tmp_path):
    """The data set without gt_query, in a folder of its own."""
    for path in market_images.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


def junk_path(root, name):
    return root / "gt_query" / f"{name}_junk.mat"


def write_junk(root, indices=JUNK_INDEX, dtype=np.float64):
    (root / "gt_query").mkdir()
    for name, index in zip(QUERY_NAMES, indices, strict=True):
        scipy.io.savemat(junk_path(root, name), {"junk_index": np.array([index], dtype)})
        good = {"good_index": np.array([[5]], dtype)}
        scipy.io.savemat(root / "gt_query" / f"{name}_good.mat", good)


class TestMarketTraining:
    @pytest.mark.parametrize("kind", [str, pathlib.Path])
    def test_names_are_three_lists(self, market, kind):
        filenames, ids, camera_indices = market1501.read_train_split_to_str(kind(market))
        image_dir = os.path.join(str(market), "bounding_box_train")
        assert filenames == [os.path.join(image_dir, name) for name in TRAIN]
        assert ids == [int(name[:4]) for name in TRAIN]
        assert camera_indices == [int(name[6]) for name in TRAIN]

    def test_file_names_begin_with_the_folder_as_it_was_given(self, market, monkeypatch):
        monkeypatch.chdir(market)
        filenames, _, _ = market1501.read_train_split_to_str("./")
        assert filenames[0] == os.path.join("./", "bounding_box_train", TRAIN[0])

    @pytest.mark.parametrize("kind", [str, pathlib.Path])
    def test_images_are_what_opencv_reads_and_numbers_are_int64_arrays(self, market, kind):
        images, ids, camera_indices = market1501.read_train_split_to_image(kind(market))
        filenames, id_list, camera_list = market1501.read_train_split_to_str(str(market))
        assert images.shape == (len(TRAIN), 128, 64, 3)
        assert images.dtype == np.uint8
        assert np.array_equal(images, imread_all(filenames))
        for array, expected in ((ids, id_list), (camera_indices, camera_list)):
            assert isinstance(array, np.ndarray)
            assert array.dtype == np.int64
            assert array.tolist() == expected

    def test_the_folder_may_be_given_by_name(self, market):
        a = market1501.read_train_split_to_image(str(market))
        b = market1501.read_train_split_to_image(dataset_dir=str(market))
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
        names = market1501.read_train_split_to_str(dataset_dir=str(market))
        assert names == market1501.read_train_split_to_str(str(market))

    def test_a_dataset_class_of_its_own_slices_the_arrays(self, market):
        class Market1501:
            def __init__(self, dataset_dir, num_validation_y=0.4, seed=1234):
                self._dataset_dir = dataset_dir
                self._num_validation_y = num_validation_y
                self._seed = seed

            def _split(self):
                x, y, cameras = market1501.read_train_split_to_image(self._dataset_dir)
                rows = util.create_validation_split(y, self._num_validation_y, self._seed)
                return [(x[r], y[r], cameras[r]) for r in rows]

            def read_train(self):
                return self._split()[0]

            def read_validation(self):
                return self._split()[1]

        dataset = Market1501(str(market))
        train_x, train_y, _ = dataset.read_train()
        valid_x, valid_y, valid_cameras = dataset.read_validation()
        assert (train_x.shape, valid_x.shape) == ((9, 128, 64, 3), (6, 128, 64, 3))
        assert not set(train_y) & set(valid_y)
        probes, galleries = util.create_cmc_probe_and_gallery(valid_y, valid_cameras, seed=4321)
        assert valid_x[probes].shape == valid_x[galleries].shape == (2, 128, 64, 3)
        few = util.limit_num_elements_per_identity(train_y, 2, seed=1)
        assert np.bincount(train_y[few]).max() == 2
        assert train_x[few].shape == (6, 128, 64, 3)

    def test_preprocessing_for_bgr_sees_the_same_as_with_files(self, market, graph):
        from deep_reid.compat import tf
        from deep_reid.nets import deep_sort as net

        images, _, _ = market1501.read_train_split_to_image(str(market))
        filenames, _, _ = market1501.read_train_split_to_str(str(market))
        preprocess_bgr = functools.partial(net.preprocess, input_is_bgr=True)
        with tf.Session(graph=graph) as session:
            from_arrays = session.run(preprocess_bgr(tf.constant(images)))
            rgb = read_images(filenames, market1501.IMAGE_SHAPE)
            expected = session.run(net.preprocess(tf.constant(rgb)))
        assert np.array_equal(from_arrays, expected)


class TestMarketTest:
    def read_mask(self, root):
        mask = market1501.read_test_split_to_str(str(root))[4]
        assert mask.dtype == np.float32
        return mask

    @pytest.mark.parametrize("kind", [str, pathlib.Path])
    def test_names_are_five_values(self, market, kind):
        gallery_filenames, gallery_ids, query_filenames, query_ids, good_mask = (
            market1501.read_test_split_to_str(kind(market))
        )
        assert gallery_filenames == [str(market / "bounding_box_test" / x) for x in GALLERY]
        assert gallery_ids == [-1, 0, 3, 3, 4, 4]
        assert query_filenames == [str(market / "query" / x) for x in QUERY]
        assert query_ids == [3, 4, 4]
        assert np.array_equal(good_mask, MASK_BY_RULE)
        assert good_mask.dtype == np.float32

    def test_images_are_five_values(self, market):
        write_junk(market)
        gallery_filenames, gallery_ids, query_filenames, query_ids, _ = (
            market1501.read_test_split_to_str(dataset_dir=str(market))
        )
        gallery_x, gallery_y, query_x, query_y, good_mask = market1501.read_test_split_to_image(
            dataset_dir=str(market)
        )
        assert np.array_equal(gallery_x, imread_all(gallery_filenames))
        assert np.array_equal(query_x, imread_all(query_filenames))
        assert gallery_x.dtype == query_x.dtype == np.uint8
        assert gallery_y.dtype == query_y.dtype == np.int64
        assert gallery_y.tolist() == gallery_ids
        assert query_y.tolist() == query_ids
        assert np.array_equal(good_mask, MASK_BY_FILES)

    @pytest.mark.parametrize("dtype", [np.float64, np.uint8, np.uint16, np.int32, np.int64])
    def test_junk_is_what_the_files_list(self, market, dtype):
        write_junk(market, dtype=dtype)
        assert np.array_equal(self.read_mask(market), MASK_BY_FILES)

    def test_junk_may_be_a_column(self, market):
        write_junk(market)
        index = {"junk_index": np.array([[6], [1], [2]])}
        scipy.io.savemat(junk_path(market, QUERY_NAMES[1]), index)
        assert np.array_equal(self.read_mask(market), MASK_BY_FILES)

    @pytest.mark.parametrize("shape", [(0, 0), (1, 0), (0, 1)])
    @pytest.mark.parametrize("dtype", [np.float64, np.uint16])
    def test_no_junk_is_an_empty_matrix(self, market, shape, dtype):
        write_junk(market)
        index = {"junk_index": np.zeros(shape, dtype)}
        scipy.io.savemat(junk_path(market, QUERY_NAMES[0]), index)
        assert self.read_mask(market)[0].tolist() == [1] * len(GALLERY)
        assert np.array_equal(self.read_mask(market)[1:], MASK_BY_FILES[1:])

    def test_without_files_junk_follows_from_the_names(self, market):
        (market / "gt_query").mkdir()
        assert np.array_equal(self.read_mask(market), MASK_BY_RULE)
        scipy.io.savemat(junk_path(market, "0009_c1s1_000001_00"), {"junk_index": [[1]]})
        assert np.array_equal(self.read_mask(market), MASK_BY_RULE)

    def test_the_files_of_the_matches_are_not_needed(self, market):
        write_junk(market)
        for path in (market / "gt_query").glob("*_good.mat"):
            path.unlink()
        assert np.array_equal(self.read_mask(market), MASK_BY_FILES)

    @pytest.mark.parametrize("number", range(len(QUERY_NAMES)))
    def test_junk_of_one_missing_file_follows_from_the_names(self, market, number, caplog):
        write_junk(market)
        path = junk_path(market, QUERY_NAMES[number])
        path.unlink()
        mask = self.read_mask(market)
        assert np.array_equal(mask[number], MASK_BY_RULE[number])
        others = np.arange(len(QUERY_NAMES)) != number
        assert np.array_equal(mask[others], MASK_BY_FILES[others])
        assert f"1 of 3 queries have no file such as {path}" in caplog.text

    @pytest.mark.parametrize("wrong", [0, -1, 7, 1.5, np.nan, np.inf])
    def test_positions_outside_the_gallery_are_refused(self, market, wrong):
        write_junk(market, [[1], [2], [3, wrong]])
        with pytest.raises(DataError, match=r"has the positions 1\.\.6") as error:
            market1501.read_test_split_to_image(str(market))
        assert f"{QUERY_NAMES[2]}_junk.mat has {wrong}," in str(error.value)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        "variables",
        [
            {"junk_index": "one"},
            {"junk_index": np.array([[1], "two"], object)},
            {"junk_index": {"index": 1}},
            {"junk_index": np.array([[1 + 2j]])},
            {"good_index": np.array([[1]])},
        ],
        ids=["text", "cell", "struct", "complex", "another"],
    )
    def test_files_of_another_kind_are_named(self, market, variables):
        write_junk(market)
        scipy.io.savemat(junk_path(market, QUERY_NAMES[1]), variables)
        with pytest.raises(DataError, match=f"{QUERY_NAMES[1]}_junk.mat .*unpack") as error:
            market1501.read_test_split_to_str(str(market))
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("size", [0, 100, 130, 150])
    def test_damaged_files_are_named(self, market, size):
        write_junk(market)
        path = junk_path(market, QUERY_NAMES[1])
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(DataError, match=f"{QUERY_NAMES[1]}_junk.mat .*unpack") as error:
            market1501.read_test_split_to_str(str(market))
        assert "\n" not in str(error.value)

    def test_the_mask_is_one_of_a_plain_loop_on_many_images(self, tmp_path):
        random = np.random.RandomState(0)
        for folder, ids, count in (("bounding_box_test", range(-1, 30), 400), ("query", (5,), 40)):
            (tmp_path / folder).mkdir()
            for i, label in enumerate(random.choice(ids, count)):
                person = f"{label:04d}" if label >= 0 else "-1"
                name = f"{person}_c{random.randint(1, 7)}s1_{i:06d}_01.jpg"
                (tmp_path / folder / name).touch()
        gallery, _, query, _, good_mask = market1501.read_test_split_to_str(str(tmp_path))

        def view(filename):
            person, camera = os.path.basename(filename).split("_")[:2]
            return int(person), int(camera[1])

        expected = [
            [0.0 if view(g)[0] == -1 or view(g) == view(q) else 1.0 for g in gallery] for q in query
        ]
        assert np.array_equal(good_mask, expected)


def old_read_good_mask(dataset_dir):
    """Read a mask the way that code for the real data set does, in plain loops."""

    def jpegs(name):
        names = os.listdir(os.path.join(dataset_dir, name))
        return sorted(n for n in names if os.path.splitext(n)[1] == ".jpg")

    gallery, query = jpegs("bounding_box_test"), jpegs("query")
    mask = np.ones((len(query), len(gallery)), np.float32)
    is_match = np.zeros(mask.shape, bool)
    for i, name in enumerate(query):
        stem = os.path.join(dataset_dir, "gt_query", name.split(".")[0])
        junk = scipy.io.loadmat(stem + "_junk.mat")["junk_index"].ravel() - 1
        good = scipy.io.loadmat(stem + "_good.mat")["good_index"].ravel() - 1
        mask[i, junk] = 0.0
        is_match[i, good] = True
    return gallery, query, mask, is_match


class TestOldReaderOnDrawnData:
    def test_reads_the_mask_that_the_package_reads(self, drawn_market1501):
        gallery, query, mask, _ = old_read_good_mask(str(drawn_market1501))
        found = market1501.read_test_split_to_str(str(drawn_market1501))
        assert [os.path.basename(name) for name in found[0]] == gallery
        assert [os.path.basename(name) for name in found[2]] == query
        assert np.array_equal(found[4], mask)
        assert 0 < mask.mean() < 1

    def test_finds_the_matches_of_each_query(self, drawn_market1501):
        gallery, query, mask, is_match = old_read_good_mask(str(drawn_market1501))
        same_id = np.array([[g.split("_")[0] == q.split("_")[0] for g in gallery] for q in query])
        assert np.array_equal(is_match, same_id & (mask == 1))
        assert is_match.any(axis=1).all()
