"""Trainers that are fed with image files: what bad, missing and hanging files do."""

import contextlib
import itertools
import os
import pathlib

import cv2
import numpy as np
import pytest
import tiny
from linear_model import feed_threads

from deep_reid import samplers
from deep_reid.compat import slim, tf
from deep_reid.engine import feeding
from deep_reid.engine.image_trainer import create_image_trainer
from deep_reid.errors import DataError, MissingPathError, RunError, UsageError
from deep_reid.images import faults, files
from deep_reid.runs import saving

pytestmark = pytest.mark.usefixtures("graph")


@pytest.fixture
def image_files(tmp_path):
    """Draw images of a flat color, which is ten times their label: 4 of each of 4 labels."""
    names, labels = [], np.repeat(np.arange(4), 4)
    for row, label in enumerate(labels):
        names.append(str(tmp_path / f"{row:02d}.png"))
        cv2.imwrite(names[-1], np.full(tiny.IMAGE_SHAPE, 10 * label, np.uint8))
    return np.array(names, object), labels


class ImageFeed:
    """Counts what comes out of a queue of images, and checks that it fits together."""

    def __init__(self, names, labels, **kwargs):
        self.names, self.labels = names, labels
        self.trainer = create_image_trainer(
            tiny.preprocess, tiny.IMAGE_SHAPE, True, is_training=True, **kwargs
        )
        self.inputs = self.trainer.get_input_vars(8)
        self.threads = None

    def run(self, num_batches):
        """Return the labels of some batches; raise what ended the feed before."""
        batches = samplers.random_sample_identities_forever(8, 2, self.names, self.labels, seed=1)
        taken = []
        with tf.Session() as session:
            self.threads = self.trainer.start_feed(session, itertools.islice(batches, num_batches))
            try:
                while True:
                    images, labels = session.run(self.inputs)
                    colors = np.round(images.reshape(8, -1).mean(axis=1) * 255.0)
                    np.testing.assert_array_equal(colors, 10.0 * labels)
                    taken.append(labels)
            except tf.errors.OutOfRangeError:
                self.threads.raise_error()
            finally:
                self.threads.stop()
        return np.array(taken)


class TestCreateImageTrainer:
    def test_bad_images_are_skipped_and_each_batch_keeps_its_identities(self, image_files, caplog):
        names, labels = image_files
        expected = ImageFeed(names, labels).run(40)
        paths = [pathlib.Path(name) for name in names]
        paths[1].write_bytes(b"no image")
        paths[5].write_bytes(b"")
        paths[9].write_bytes(paths[9].read_bytes()[:60])
        paths[14].unlink()
        feed = ImageFeed(names, labels, on_bad_image="skip", num_files=400)
        np.testing.assert_array_equal(feed.run(40), expected)
        assert len([line for line in caplog.messages if "cannot be read" in line]) == 4
        assert not feed_threads()

    def test_an_identity_of_bad_images_is_replaced_with_its_label(self, image_files):
        names, labels = image_files
        for name in names[labels == 2]:
            os.unlink(name)
        taken = ImageFeed(names, labels, on_bad_image="skip", num_files=400).run(20)
        assert len(taken) == 20
        assert 2 not in taken

    def test_a_known_bad_file_is_not_decoded_again(self, image_files, monkeypatch):
        names, labels = image_files
        os.unlink(names[3])
        searches = []
        find = faults.find_unreadable_images
        monkeypatch.setattr(
            faults,
            "find_unreadable_images",
            lambda *args: searches.append(1) or find(*args),
        )
        ImageFeed(names, labels, on_bad_image="skip", num_files=400, num_enqueue_threads=1).run(50)
        assert len(searches) == 1

    def test_more_than_one_percent_of_bad_images_ends_the_feed(self, image_files):
        names, labels = image_files
        os.unlink(names[3])
        feed = ImageFeed(names, labels, on_bad_image="skip", num_files=16)
        with pytest.raises(DataError, match=r"1 of 16 images .* 1 %; the last is .*03.png"):
            feed.run(50)
        assert not feed_threads()

    def test_the_default_stops_at_the_first(self, image_files):
        names, labels = image_files
        os.unlink(names[3])
        with pytest.raises(MissingPathError, match="03.png does not exist"):
            ImageFeed(names, labels).run(50)
        assert not feed_threads()

    def test_the_number_of_bad_images_is_among_the_summaries(self, image_files):
        names, labels = image_files
        os.unlink(names[3])
        os.unlink(names[8])
        feed = ImageFeed(names, labels, on_bad_image="skip", num_files=400)
        summary = tf.summary.merge_all()
        for run, num_bad in ((lambda: None, 0.0), (lambda: feed.run(50), 2.0)):
            run()
            with tf.Session() as session:
                parsed = tf.Summary.FromString(session.run(summary))
            values = {value.tag: value.simple_value for value in parsed.value}
            assert values["feed/num_bad_images"] == num_bad

    def test_a_file_that_hangs_ends_the_run_with_its_batch(self, image_files, monkeypatch):
        # Pipes stand for files on a drive that hangs.
        monkeypatch.setattr(files, "find_endless", lambda names: None)
        monkeypatch.setattr(feeding, "JOIN_TIMEOUT_SECS", 0.3)
        names, labels = image_files
        # More of them than threads that TensorFlow has for all sessions together.
        hanging = names[labels > 0]
        for name in hanging:
            os.unlink(name)
            os.mkfifo(name)
        try:
            feed = ImageFeed(names, labels, feed_timeout_secs=0.5, num_enqueue_threads=3)
            with pytest.raises(
                RunError, match=r"preparing a batch took more than 0.5 s \(.*png and 7 more files\)"
            ):
                feed.run(50)
            assert 0 < len(feed_threads()) <= 3  # truly stuck, and no watchdog among them
            assert "feed-watchdog" not in feed_threads()
        finally:
            while feed_threads():
                for name in hanging:
                    # A reader that waits gets the end of the file.
                    with contextlib.suppress(OSError):
                        os.close(os.open(name, os.O_WRONLY | os.O_NONBLOCK))
        assert not feed_threads()

    def test_a_checkpoint_that_cannot_be_written_ends_the_run_beside_a_file_that_hangs(
        self, image_files, monkeypatch, tmp_path
    ):
        # Pipes stand for files on a drive that hangs.
        monkeypatch.setattr(files, "find_endless", lambda names: None)
        monkeypatch.setattr(feeding, "JOIN_TIMEOUT_SECS", 0.3)
        names, labels = image_files
        hanging = str(tmp_path / "hanging")
        os.mkfifo(hanging)
        trainer = create_image_trainer(tiny.preprocess, tiny.IMAGE_SHAPE, True, is_training=True)
        images, _ = trainer.get_input_vars(4)
        weight = slim.model_variable("weight", (), initializer=tf.ones_initializer())
        step = tf.train.get_or_create_global_step()
        with tf.control_dependencies([step.assign_add(1)]):
            train_op = weight * tf.reduce_mean(images)
        batches = [(names[:4], labels[:4])] * 3 + [(np.array([hanging] * 4, object), labels[:4])]
        save, num_saved = saving.Saver.save, []

        def save_once(self, *args, **kwargs):
            if num_saved:
                raise RunError("the disk is full")
            num_saved.append(1)
            return save(self, *args, **kwargs)

        monkeypatch.setattr(saving.Saver, "save", save_once)
        try:
            with pytest.raises(RunError, match="the disk is full"):
                trainer.run(iter(batches), train_op, tmp_path / "log", save_interval_secs=1e-6)
        finally:
            while feed_threads():
                with contextlib.suppress(OSError):
                    os.close(os.open(hanging, os.O_WRONLY | os.O_NONBLOCK))

    @pytest.mark.parametrize(
        "kwargs, match",
        [
            ({"on_bad_image": "ignore"}, "use one of stop, skip"),
            ({"on_bad_image": "skip"}, "needs num_files"),
            ({"feed_timeout_secs": 0}, r"feed_timeout_secs \(0\) must be greater than 0"),
            ({"num_enqueue_threads": 0}, "must be a whole number of at least 1"),
        ],
    )
    def test_settings_are_checked(self, kwargs, match):
        with pytest.raises(UsageError, match=match):
            create_image_trainer(tiny.preprocess, tiny.IMAGE_SHAPE, True, **kwargs)
