"""What is found out about the files of a data set before training."""

import dataclasses
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from deep_reid.errors import UsageError
from deep_reid.images import files as image_files
from deep_reid.images.check import Problem, check_images


def write_images(directory, num_images, shape=(40, 20, 3)):
    random = np.random.RandomState(0)
    names = [str(directory / f"Müller {number:03}.jpg") for number in range(num_images)]
    for name in names:
        assert cv2.imwrite(name, random.randint(0, 256, shape, np.uint8))
    return names


@pytest.fixture
def clean(tmp_path):
    """More images than a block has."""
    return write_images(tmp_path, 40)


def spoil(names):
    """Put one problem of each kind into a clean set, and return what has to be found."""
    Path(names[3]).unlink()
    Path(names[4]).write_bytes(b"")
    Path(names[17]).write_bytes(Path(names[17]).read_bytes()[:-200])
    Path(names[18]).write_text("no image")
    Path(names[19]).unlink()
    Path(names[19]).mkdir()
    Path(names[33]).write_bytes(Path(names[1]).read_bytes())
    return [
        Problem(names[3], "it does not exist"),
        Problem(names[4], "it is empty"),
        Problem(names[17], "it is a truncated JPEG image"),
        Problem(names[18], "it is not a JPEG, PNG or BMP image, or its beginning is missing"),
        Problem(names[19], "it is a folder"),
        Problem(
            names[33], f"it is a copy of {names[1]} (identity 1), but has the identity 33"
        ),
    ]  # fmt: skip


@pytest.mark.parametrize("num_channels", [1, 3])
@pytest.mark.parametrize("num_threads", [None, 1, 4])
class TestSets:
    def test_a_clean_set_has_no_problems(self, clean, num_channels, num_threads):
        result = check_images(clean, range(40), num_channels, num_threads=num_threads)
        assert result == []

    def test_all_problems_are_found_in_the_order_of_the_files(
        self, clean, num_channels, num_threads
    ):
        expected = spoil(clean)
        labels = np.arange(40)
        assert check_images(clean, labels, num_channels, num_threads=num_threads) == expected


def test_no_images_have_no_problems():
    assert check_images([], [], 3) == []


def test_all_files_may_be_bad(tmp_path):
    names = [tmp_path / f"{number}.jpg" for number in range(20)]
    problems = check_images(names, ["a"] * 20, 3)
    assert problems == [Problem(str(name), "it does not exist") for name in names]


def test_a_problem_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Problem("a.jpg", "it is empty").reason = "none"


class TestCopies:
    def copy(self, names, *rows):
        for row in rows[1:]:
            Path(names[row]).write_bytes(Path(names[rows[0]]).read_bytes())

    def test_copies_of_one_identity_are_allowed(self, clean):
        self.copy(clean, 0, 1, 39)
        assert check_images(clean, ["Ann"] * 40, 3) == []

    def test_each_that_differs_from_the_first_is_named(self, clean):
        self.copy(clean, 0, 1, 2, 39)
        names = ["Ann", "Bob", "Ann", "Bob"]
        problems = check_images([clean[row] for row in (0, 1, 2, 39)], names, 3)
        assert [problem.filename for problem in problems] == [clean[1], clean[39]]
        assert problems[0].reason.startswith(
            f"it is a copy of {clean[0]} (identity Ann), but has the identity Bob"
        )

    def test_bad_files_are_no_copies_of_each_other(self, clean):
        for name in clean[:2]:
            Path(name).write_bytes(b"")
        problems = check_images(clean, range(40), 3)
        assert [problem.reason for problem in problems] == ["it is empty"] * 2


class TestWork:
    def test_progress_comes_from_the_calling_thread_and_counts_all(self, clean):
        calls = []

        def progress(num_images):
            calls.append((num_images, threading.get_ident()))

        spoil(clean)
        check_images(clean, range(40), 3, progress=progress)
        assert sum(num_images for num_images, _ in calls) == 40
        assert {thread for _, thread in calls} == {threading.get_ident()}

    def test_each_file_is_read_once(self, clean, monkeypatch):
        read, names = image_files.read, []
        monkeypatch.setattr(image_files, "read", lambda name: names.append(name) or read(name))
        spoil(clean)
        check_images(clean, range(40), 3)
        assert sorted(names) == clean

    def test_an_error_in_progress_ends_the_check(self, clean):
        def progress(_):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            check_images(clean, range(40), 3, progress=progress)

    @pytest.mark.parametrize(
        "identities, num_channels, num_threads, message",
        [
            ([1], 3, None, "2 files, but 1 identities"),
            ([1, 2], 4, None, r"num_channels \(4\)"),
            ([1, 2], 3, 0, r"num_threads \(0\)"),
        ],
    )
    def test_wrong_arguments_are_refused(self, identities, num_channels, num_threads, message):
        with pytest.raises(UsageError, match=message):
            check_images(["a", "b"], identities, num_channels, num_threads=num_threads)
