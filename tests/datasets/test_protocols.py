"""The official tests as data: which images, which tracks, which queries."""

import numpy as np
import pytest
from scipy import io

from datasets.market1501 import Market1501
from datasets.mars import Mars
from datasets.protocols import create_track_test_set
from deep_reid.errors import DataError, MissingPathError

# first image, last image (one-based, inclusive), identity, camera
TRACKS = [[1, 2, -1, 1], [3, 3, 0, 2], [4, 6, 7, 1], [7, 8, 7, 2]]


class TestTracks:
    def test_tables_count_from_one(self):
        test_set = create_track_test_set("tracks", TRACKS, [[3, 4]], list)
        np.testing.assert_array_equal(test_set.tracks, [[0, 1], [2, 2], [3, 5], [6, 7]])
        np.testing.assert_array_equal(test_set.query_rows, [2, 3])
        np.testing.assert_array_equal(test_set.query_labels, [7, 7])
        np.testing.assert_array_equal(test_set.query_cameras, [1, 2])
        np.testing.assert_array_equal(test_set.gallery_labels, [-1, 0, 7, 7])
        assert test_set.num_gallery_images == 8
        assert test_set.query_images is None

    @pytest.mark.parametrize(
        ("tracks", "queries"),
        [
            (TRACKS, [5]),
            (TRACKS, [0]),
            (TRACKS, []),
            ([], [1]),
            ([[3, 2, 1, 1]], [1]),
            ([[0, 2, 1, 1]], [1]),
        ],
    )
    def test_tables_that_make_no_sense_are_refused(self, tracks, queries):
        with pytest.raises(DataError, match="restore it"):
            create_track_test_set("tracks", tracks, queries, list)

    def test_tracks_of_one_camera_are_not_ranked_across_cameras(self):
        one = [[1, 1, 5, 3], [2, 2, 5, 3]]
        assert not create_track_test_set("tracks", one, [1], list).is_cross_camera
        assert create_track_test_set("tracks", TRACKS, [3], list).is_cross_camera

    def test_a_camera_for_each_identity(self):
        apart = [[1, 1, 5, 3], [2, 2, 5, 3], [3, 3, 6, 4], [4, 4, 6, 4]]
        assert not create_track_test_set("tracks", apart, [1, 3], list).is_cross_camera


class TestMarket1501:
    def test_gallery_and_queries_are_the_folders(self, drawn_market1501):
        dataset = Market1501(drawn_market1501)
        test_set = dataset.test_set()
        assert test_set.gallery_images == dataset.gallery.filenames
        assert test_set.query_images == dataset.query.filenames
        assert test_set.num_gallery_images == len(dataset.gallery)
        np.testing.assert_array_equal(test_set.gallery_labels, dataset.gallery.labels)
        np.testing.assert_array_equal(test_set.query_cameras, dataset.query.cameras)
        assert {-1, 0} < set(test_set.gallery_labels)

    def test_the_training_folder_is_not_needed(self, drawn_market1501, tmp_path):
        for name in ("query", "bounding_box_test"):
            (tmp_path / name).symlink_to(drawn_market1501 / name)
        assert Market1501(tmp_path, needs_train=False).test_set().gallery_images
        with pytest.raises(MissingPathError, match="bounding_box_train"):
            Market1501(tmp_path)


class TestMars:
    def test_each_track_is_of_one_person_and_camera(self, drawn_mars):
        dataset = Mars(drawn_mars)
        test_set = dataset.test_set()
        gallery = dataset.gallery
        assert test_set.gallery_images == gallery.filenames
        assert test_set.num_gallery_images == len(gallery)
        rows = zip(test_set.tracks, test_set.gallery_labels, test_set.gallery_cameras, strict=True)
        for (first, last), label, camera in rows:
            assert set(gallery.labels[first : last + 1]) == {label}
            assert set(gallery.cameras[first : last + 1]) == {camera}

    def test_images_are_not_needed(self, drawn_mars, tmp_path):
        (tmp_path / "info").mkdir()
        for name in ("tracks_test_info.mat", "query_IDX.mat"):
            (tmp_path / "info" / name).symlink_to(drawn_mars / "info" / name)
        test_set = Mars(tmp_path, needs_train=False).test_set()
        assert len(test_set.query_rows)
        with pytest.raises(MissingPathError, match="test_name.txt"):
            _ = test_set.gallery_images

    @pytest.mark.parametrize("content", ["text", "short", "cut", "other variable"])
    def test_a_table_that_cannot_be_read_is_named(self, tmp_path, content):
        (tmp_path / "info").mkdir()
        path = tmp_path / "info" / "tracks_test_info.mat"
        if content == "text":
            path.write_text("no MATLAB file at all, but long enough to have a header" * 9)
        elif content == "short":
            path.write_text("x")
        else:
            io.savemat(path, {"something": np.arange(1000)})
            if content == "cut":
                path.write_bytes(path.read_bytes()[:300])
        with pytest.raises(DataError, match=r"tracks_test_info.mat .*restore it"):
            Mars(tmp_path, needs_train=False).test_set()

    def test_a_missing_table_is_named(self, tmp_path):
        with pytest.raises(MissingPathError, match=r"info/tracks_test_info.mat does not exist"):
            Mars(tmp_path, needs_train=False).test_set()
