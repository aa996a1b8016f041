"""Images that cannot be read: what takes their place, what is said, and where it ends."""

import contextlib
import io
import logging
import os
import re
import struct
import threading

import cv2
import numpy as np
import pytest
import tiny
from PIL import Image

from deep_reid.compat import tf
from deep_reid.config import RunConfig
from deep_reid.config.run import BAD_IMAGE_POLICIES
from deep_reid.errors import DataError, MissingPathError, UsageError
from deep_reid.images import check, faults
from deep_reid.images import files as image_files
from deep_reid.images.faults import SkipBadImages, StopAtBadImages, create_policy
from deep_reid.runs.run import Run
from deep_reid.training import loop

SHAPE = (32, 16, 3)


def encode(file_format, mode):
    buffer = io.BytesIO()
    Image.new(mode, (16, 16)).save(buffer, file_format)
    return buffer.getvalue()


def encode_all():
    """Return an image in each format that Pillow writes, and headers of some that it does not."""
    Image.init()
    formats = {
        "DDS header": b"DDS " + struct.pack("<I", 124) + b"\xff" * 120,
        "FLI": bytes(4) + b"\x11\xaf" + b"\xff" * 200,
        "PSD": b"8BPS\0\1" + b"\xff" * 200,
    }
    for file_format in Image.SAVE:
        for mode in ("RGB", "1", "P"):
            with contextlib.suppress(Exception):  # a format that this Pillow cannot write
                formats[file_format] = encode(file_format, mode)
                break
    return formats


FORMATS = encode_all()
ERROR = tf.errors.InvalidArgumentError(None, None, "cannot decode")


class Finder:
    """Knows which files are bad, and what it was asked."""

    def __init__(self, *bad):
        self.bad = bad
        self.calls = []

    def __call__(self, filenames):
        self.calls.append(list(filenames))
        return [filename for filename in filenames if filename in self.bad]


def make_batch(labels):
    """Return a batch whose file names tell label and row, such as "3/7"."""
    names = [f"{label}/{row}" for row, label in enumerate(labels)]
    return np.array(names, object), np.array(labels)


def labels_in(filenames):
    return [int(name.partition("/")[0]) for name in filenames]


def skip(*bad, num_files=10**6):
    return SkipBadImages(num_files, Finder(*bad))


def warnings_in(caplog):
    return [record for record in caplog.records if record.levelno == logging.WARNING]


class TestSkip:
    def test_a_bad_image_is_replaced_by_another_one_of_its_label(self):
        images, labels = skip("1/2").handle(make_batch([0, 0, 1, 1, 2, 2]), ERROR)
        assert images.tolist() == ["0/0", "0/1", "1/3", "1/3", "2/4", "2/5"]
        assert labels.tolist() == [0, 0, 1, 1, 2, 2]

    def test_several_at_once_take_turns_with_the_good_ones(self):
        images, labels = skip("0/0", "0/2", "1/5").handle(make_batch([0] * 4 + [1] * 2), ERROR)
        assert images.tolist() == ["0/1", "0/1", "0/3", "0/3", "1/4", "1/4"]
        assert labels.tolist() == [0, 0, 0, 0, 1, 1]

    def test_an_identity_without_a_good_image_gives_way_to_another_with_its_label(self):
        images, labels = skip("1/2", "1/3").handle(make_batch([0, 0, 1, 1, 2, 2]), ERROR)
        assert images.tolist() == ["0/0", "0/1", "0/0", "0/1", "2/4", "2/5"]
        assert labels.tolist() == [0, 0, 0, 0, 2, 2]

    def test_labels_match_their_images_whatever_is_bad(self):
        random = np.random.default_rng(0)
        for _ in range(200):
            batch = make_batch(np.repeat(random.integers(0, 5, 4), 3))
            bad = random.choice(batch[0], random.integers(1, 12), replace=False)
            images, labels = skip(*bad).handle(batch, ERROR)
            assert labels_in(images) == labels.tolist()
            assert not set(bad) & set(images)
            assert len(images) == 12

    def test_the_batch_that_was_given_is_not_written_to(self):
        batch = make_batch([0, 0, 1, 1])
        before = [array.copy() for array in batch]
        skip("0/0").handle(batch, ERROR)
        assert all((a == b).all() for a, b in zip(batch, before, strict=True))

    def test_whatever_else_is_in_the_batch_goes_with_its_image(self):
        filenames, labels = make_batch([0, 0])
        cameras = skip("0/0").handle((filenames, labels, np.array([7, 8])), ERROR)[2]
        assert cameras.tolist() == [8, 8]

    def test_lists_will_do(self):
        filenames, labels = (array.tolist() for array in make_batch([0, 0]))
        assert skip("0/0").handle((filenames, labels), ERROR)[0].tolist() == ["0/1", "0/1"]

    def test_a_batch_without_bad_images_stays_what_it_is(self):
        policy = skip("0/0")
        batch = make_batch([1, 1])
        assert policy.replace(batch) is batch
        policy.handle(make_batch([0, 0]), ERROR)
        assert policy.replace(batch) is batch

    def test_a_known_file_is_replaced_without_another_search(self):
        finder = Finder("0/0")
        policy = SkipBadImages(10**6, finder)
        batch = make_batch([0, 0, 1, 1])
        policy.handle(batch, ERROR)
        for _ in range(3):
            assert policy.replace(batch)[0].tolist() == ["0/1", "0/1", "1/2", "1/3"]
            policy.handle(batch, ERROR)
        assert len(finder.calls) == 1

    def test_a_file_that_is_twice_in_the_batch_is_looked_at_once(self):
        finder = Finder("a")
        batch = np.array(["a", "b", "a", "b"], object), np.zeros(4)
        images, _ = SkipBadImages(10**6, finder).handle(batch, ERROR)
        assert images.tolist() == ["b"] * 4
        assert finder.calls == [["a", "b"]]

    def test_each_bad_file_is_said_once_with_its_name_and_reason(self, tmp_path, caplog):
        empty = tmp_path / "empty.jpg"
        empty.touch()
        good = str(tmp_path / "good.jpg")
        policy = skip(str(empty))
        batch = np.array([str(empty), good], object), np.zeros(2)
        for _ in range(3):
            policy.handle(batch, ERROR)
        (record,) = warnings_in(caplog)
        assert record.getMessage() == (
            f"Image {empty} cannot be read (it is empty): another one takes its place "
            "(1 of 1000000 files so far, 1 % may be skipped)"
        )
        assert policy.num_bad == 1

    def test_a_batch_of_nothing_but_bad_images_is_an_error(self):
        policy = skip("0/0", "0/1")
        with pytest.raises(DataError, match=r"all 2 images of a batch .* 0/0: .*--check_data"):
            policy.handle(make_batch([0, 0]), ERROR)
        with pytest.raises(DataError, match="all 2 images of a batch"):
            policy.replace(make_batch([0, 0]))

    def test_an_error_that_no_file_explains_is_raised_as_it_is(self):
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            skip().handle(make_batch([0, 0]), ERROR)
        assert caught.value is ERROR

    @pytest.mark.parametrize("percent, num_allowed", [(0, 0), (0.9, 0), (2.5, 2), (100, 100)])
    def test_the_limit_can_be_set(self, percent, num_allowed):
        names = [f"0/{row}" for row in range(num_allowed + 1)]
        policy = SkipBadImages(100, Finder(*names), percent)
        batches = [(np.array([name, "0/good"], object), np.zeros(2)) for name in names]
        for batch in batches[:-1]:
            policy.handle(batch, ERROR)
        with pytest.raises(DataError, match=rf"the limit of {percent} %; .*--max_bad_percent"):
            policy.handle(batches[-1], ERROR)

    @pytest.mark.parametrize("num_files, num_allowed", [(50, 0), (99, 0), (100, 1), (250, 2)])
    def test_more_than_one_percent_is_an_error_that_says_what_to_do(
        self, num_files, num_allowed, caplog
    ):
        bad = [f"0/{row}" for row in range(num_allowed + 1)]
        policy = skip(*bad, num_files=num_files)
        for row in range(num_allowed):
            policy.handle((np.array([bad[row], "0/99"], object), np.zeros(2)), ERROR)
        with pytest.raises(DataError) as caught:
            policy.handle((np.array([bad[-1], "0/99"], object), np.zeros(2)), ERROR)
        message = str(caught.value)
        assert message.startswith(f"{num_allowed + 1} of {num_files} images cannot be read")
        assert "limit of 1 %" in message
        assert f"the last is {bad[-1]} (it does not exist)" in message
        assert "--check_data" in message
        assert "\n" not in message
        assert caught.value.__cause__ is ERROR
        assert len(warnings_in(caplog)) == num_allowed + 1

    def test_threads_that_meet_the_same_files_count_and_say_them_once(self, caplog):
        batch = make_batch(np.repeat(np.arange(8), 4))
        bad = batch[0][::4]
        all_at_work = threading.Barrier(4)

        def find(filenames):
            all_at_work.wait(timeout=10)  # breaks unless all search before one has found
            return [filename for filename in filenames if filename in bad]

        policy = SkipBadImages(10**6, find)
        results = []
        threads = [
            threading.Thread(target=lambda: results.append(policy.handle(batch, ERROR)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert policy.num_bad == len(bad)
        assert len(warnings_in(caplog)) == len(bad)
        assert all((images == results[0][0]).all() for images, _ in results)

    def test_a_data_set_has_at_least_one_file(self):
        with pytest.raises(UsageError, match=r"num_files \(0\) must be at least 1"):
            SkipBadImages(0, Finder())


class TestStop:
    def test_the_error_is_explained_where_it_can_be(self):
        policy = StopAtBadImages(lambda batch: DataError(f"image {batch[0][0]} cannot be read"))
        with pytest.raises(DataError, match="image 0/0 cannot be read") as caught:
            policy.handle(make_batch([0]), ERROR)
        assert caught.value.__cause__ is ERROR

    def test_else_it_is_raised_as_it_is(self):
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            StopAtBadImages(lambda batch: None).handle(make_batch([0]), ERROR)
        assert caught.value is ERROR

    def test_nothing_is_replaced(self):
        policy = StopAtBadImages(lambda batch: None)
        batch = make_batch([0])
        assert policy.replace(batch) is batch
        assert policy.num_bad == 0


@pytest.fixture
def files(tmp_path):
    """Name two good images and four that cannot be read."""
    image = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
    names = {}
    for name in ("good", "other", "corrupt", "truncated", "empty", "deleted"):
        path = tmp_path / f"{name}.jpg"
        cv2.imwrite(str(path), image)
        names[name] = path
    contents = names["good"].read_bytes()
    names["corrupt"].write_bytes(b"no image at all")
    names["truncated"].write_bytes(contents[: len(contents) // 2])
    names["empty"].write_bytes(b"")
    names["deleted"].unlink()
    return {name: str(path) for name, path in names.items()}


BAD = ["corrupt", "truncated", "empty", "deleted"]


class TestFiles:
    def test_all_unreadable_files_are_found_in_one_search(self, files):
        names = list(files.values())
        assert faults.find_unreadable_images(names, 3) == [files[name] for name in BAD]

    def test_the_search_adds_nothing_to_the_graph(self, graph, files):
        faults.find_unreadable_images([files["good"]], 1)
        assert graph.get_operations() == []

    def test_each_kind_is_skipped_and_its_reason_given(self, files, caplog):
        policy = create_policy("skip", True, SHAPE, num_files=400)
        names = np.array([files["good"], *(files[name] for name in BAD)], object)
        images, _ = policy.handle((names, np.zeros(5)), ERROR)
        assert set(images) == {files["good"]}
        assert policy.num_bad == 4
        for reason in ("not a JPEG", "truncated JPEG", "is empty", "does not exist"):
            assert reason in caplog.text

    @pytest.mark.parametrize("name", BAD)
    def test_the_default_stops_with_the_name_of_the_file(self, files, name):
        policy = create_policy("stop", True, SHAPE)
        error = MissingPathError if name == "deleted" else DataError
        with pytest.raises(error, match=f"{name}.jpg (does not exist|cannot be read)"):
            policy.handle((np.array([files["good"], files[name]], object), np.zeros(2)), ERROR)


@pytest.fixture(scope="module")
def of_other_formats(tmp_path_factory):
    """Files of each format, whole and cut; what the search finds, and what the check lists."""
    folder = tmp_path_factory.mktemp("formats")
    paths = {}
    for file_format, contents in FORMATS.items():
        parts = contents, contents[: len(contents) // 2], contents[:40]
        paths[file_format] = [
            str(folder / f"{file_format}-{number}.jpg") for number in range(len(parts))
        ]
        for path, part in zip(paths[file_format], parts, strict=True):
            with open(path, "wb") as file:
                file.write(part)
    every = [path for group in paths.values() for path in group]
    bad = faults.find_unreadable_images(every, 3)
    listed = [problem.filename for problem in check.check_images(every, [0] * len(every), 3)]
    good = str(folder / "good.png")
    cv2.imwrite(good, np.zeros((8, 8, 3), np.uint8))
    return paths, bad, listed, good


@pytest.mark.slow
@pytest.mark.parametrize("file_format", sorted(FORMATS))
def test_a_file_of_any_other_format_is_read_or_named(of_other_formats, caplog, file_format):
    """Pillow identifies the file, and knows more ways to fail than to read."""
    paths, bad, listed, good = of_other_formats
    bad, listed = ([path for path in paths[file_format] if path in x] for x in (bad, listed))
    assert listed == bad
    if not bad:
        return
    policy = create_policy("skip", True, SHAPE, num_files=400)
    images, _ = policy.handle((np.array([good, *bad], object), np.zeros(1 + len(bad))), ERROR)
    assert set(images) == {good}
    for path in bad:
        assert path in caplog.text
        with pytest.raises(DataError, match=f"{re.escape(path)} cannot be read"):
            batch = np.array([good, path], object), np.zeros(2)
            create_policy("stop", True, SHAPE).handle(batch, ERROR)


@pytest.fixture(params=["device", "pipe", "too large"])
def endless(request, tmp_path):
    """A file that must not be read to its end."""
    path = tmp_path / "endless.jpg"
    if request.param == "device":
        path.symlink_to("/dev/zero")
    elif request.param == "pipe":
        os.mkfifo(path)
    else:
        with open(path, "wb") as file:
            file.write(b"\xff\xd8\xff")
            file.truncate(image_files.MAX_SIZE + 1)  # needs no space
    return str(path)


class TestEndless:
    @pytest.fixture
    def good(self, tmp_path):
        cv2.imwrite(str(tmp_path / "good.png"), np.zeros((8, 8, 3), np.uint8))
        return str(tmp_path / "good.png")

    def test_training_stops_or_skips(self, endless, good, caplog):
        batch = np.array([good, endless], object), np.zeros(2)
        with pytest.raises(DataError, match="endless.jpg cannot be read"):
            create_policy("stop", True, SHAPE).replace(batch)
        policy = create_policy("skip", True, SHAPE, num_files=100)
        assert policy.replace(batch)[0].tolist() == [good, good]
        assert policy.num_bad == 1
        with pytest.raises(DataError, match="1 of 99 images cannot be read"):
            create_policy("skip", True, SHAPE, num_files=99).replace(batch)

    def test_the_check_names_it(self, endless, good):
        (problem,) = check.check_images([good, endless], [0, 1], 3)
        assert problem.filename == endless
        assert "device or a pipe" in problem.reason or "more than the limit" in problem.reason

    def test_the_search_for_bad_images_does_not_read_it(self, endless, good):
        assert faults.find_unreadable_images([good, endless], 3) == [endless]


class TestCreatePolicy:
    def test_each_name_has_its_policy(self):
        policies = [create_policy(name, True, SHAPE, 10) for name in BAD_IMAGE_POLICIES]
        assert [type(policy) for policy in policies] == [StopAtBadImages, SkipBadImages]

    def test_images_that_are_no_files_cannot_be_skipped(self):
        policy = create_policy("skip", False, SHAPE)
        with pytest.raises(tf.errors.InvalidArgumentError):
            policy.handle((np.zeros((2, *SHAPE), np.uint8), np.zeros(2)), ERROR)

    def test_an_unknown_policy_is_refused_with_the_right_ones(self):
        with pytest.raises(UsageError, match=r"'ignore'\) is unknown: use one of stop, skip"):
            create_policy("ignore", True, SHAPE, 10)

    def test_the_limit_needs_the_number_of_files(self):
        with pytest.raises(UsageError, match="needs num_files"):
            create_policy("skip", True, SHAPE)


class TestTraining:
    """The way from a run's settings to its threads and events."""

    @pytest.fixture
    def data_set(self, tmp_path):
        """Draw 200 images of 10 identities, two of which cannot be read."""
        labels = np.repeat(np.arange(10), 20)
        names = [str(tmp_path / f"{row:03d}.png") for row in range(len(labels))]
        random = np.random.default_rng(0)
        for name in names:
            cv2.imwrite(name, random.integers(0, 255, tiny.IMAGE_SHAPE).astype(np.uint8))
        for row in (7, 120):
            open(names[row], "wb").close()
        return names, labels

    def train(self, data_set, log_dir, **settings):
        config = RunConfig(
            tiny.IMAGE_SHAPE,
            4,
            40,
            seed=1,
            save_summaries_secs=1e-6,
            **{"number_of_steps": 30, **settings},
        )
        network_factory = tiny.create_network_factory(is_training=True, num_classes=10)
        with Run.open(log_dir, "run") as run:
            return loop.train(tiny.preprocess, network_factory, *data_set, config, run)

    def test_a_training_skips_bad_images_and_counts_them_in_its_events(
        self, data_set, tmp_path, caplog
    ):
        assert np.isfinite(self.train(data_set, tmp_path / "log", on_bad_image="skip"))
        (events,) = (tmp_path / "log" / "run").glob("events.*")
        counts = [
            value.simple_value
            for event in tf.train.summary_iterator(str(events))
            for value in event.summary.value
            if value.tag == "feed/num_bad_images"
        ]
        assert len(counts) == 30
        assert counts[-1] == 2.0
        assert len([line for line in caplog.messages if "it is empty" in line]) == 2

    def test_the_limit_is_that_of_the_distinct_files(self, data_set, tmp_path):
        names, labels = data_set
        data_set = names + names[:1] * 100, np.concatenate([labels, np.zeros(100, int)])
        open(names[1], "wb").close()
        with pytest.raises(DataError, match="3 of 200 images cannot be read"):
            self.train(data_set, tmp_path / "log", on_bad_image="skip")

    def test_by_default_it_stops(self, data_set, tmp_path):
        with pytest.raises(DataError, match=r"(007|120).png cannot be read \(it is empty\)"):
            self.train(data_set, tmp_path / "log")

    def test_the_policy_does_not_change_what_a_seed_gives(self, data_set, tmp_path):
        names, labels = data_set
        good = np.array([row not in (7, 120) for row in range(len(names))])
        data_set = np.array(names)[good], labels[good]
        losses = [
            self.train(data_set, tmp_path / policy, on_bad_image=policy, number_of_steps=2)
            for policy in BAD_IMAGE_POLICIES
        ]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
