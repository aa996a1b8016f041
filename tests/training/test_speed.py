"""What limits a training: the feed alone, and the step on a constant batch alone."""

import dataclasses
import itertools
import os
import threading
import time

import cv2
import numpy as np
import pytest
import tiny

from deep_reid.compat import tf
from deep_reid.config import RunConfig
from deep_reid.errors import DataError, UsageError
from deep_reid.training import graph, loop, speed

CONFIG = RunConfig(tiny.IMAGE_SHAPE, batch_size=8, loss_mode="triplet", seed=1)
LABELS = np.repeat(np.arange(3), 4)
IMAGES = np.random.default_rng(1).integers(0, 256, (12, *tiny.IMAGE_SHAPE), dtype=np.uint8)
SECS = 0.05


@pytest.fixture
def filenames(tmp_path):
    names = [str(tmp_path / f"{index}.jpg") for index in range(len(IMAGES))]
    for name, image in zip(names, IMAGES, strict=True):
        cv2.imwrite(name, image)
    return names


@pytest.mark.parametrize("from_files", [True, False])
def test_both_are_images_per_second(filenames, from_files):
    data = (filenames if from_files else IMAGES, LABELS, CONFIG)
    assert speed.measure_input(tiny.preprocess, *data, secs=SECS) > 0
    network_factory = tiny.create_network_factory(True)
    assert speed.measure_model(tiny.preprocess, network_factory, *data, secs=SECS) > 0
    assert not [t for t in threading.enumerate() if t.name.startswith("feed")]


def test_input_counts_the_rows_of_each_batch(monkeypatch):
    """Batches that come every 50 ms are 8 / 0.05 images a second."""
    create_batches = loop.create_batches

    def slow(*args):
        for batch in create_batches(*args):
            threading.Event().wait(0.05)
            yield batch

    monkeypatch.setattr(loop, "create_batches", slow)
    measured = speed.measure_input(tiny.preprocess, IMAGES, LABELS, CONFIG, secs=0.5)
    assert 8 / 0.05 * 0.3 < measured <= 8 / 0.05 * 1.2


def test_what_waited_in_the_queue_does_not_count(monkeypatch):
    num_taken, taken_at_clock = itertools.count(), []
    run, clock = tf.Session.run, time.perf_counter

    def watched_run(*args, **kwargs):
        if threading.current_thread() is threading.main_thread():  # others fill the queue
            next(num_taken)
        return run(*args, **kwargs)

    def watched_clock():
        if threading.current_thread() is threading.main_thread():
            taken_at_clock.append(next(num_taken))
        return clock()

    monkeypatch.setattr(tf.Session, "run", watched_run)
    monkeypatch.setattr(time, "perf_counter", watched_clock)
    speed.measure_input(tiny.preprocess, IMAGES, LABELS, CONFIG, secs=SECS)
    assert (
        taken_at_clock[0] >= CONFIG.queue_capacity // CONFIG.batch_size + CONFIG.num_enqueue_threads
    )


def test_the_model_is_trained_on_one_batch_that_nothing_feeds(monkeypatch):
    seen = []
    create_step = graph.create_step

    def watch(network_factory, images, labels, *args, **kwargs):
        assert not [t for t in threading.enumerate() if t.name.startswith("feed")]
        seen.append((images, labels))
        return create_step(network_factory, images, labels, *args, **kwargs)

    monkeypatch.setattr(graph, "create_step", watch)
    network_factory = tiny.create_network_factory(True)
    speed.measure_model(tiny.preprocess, network_factory, IMAGES, LABELS, CONFIG, secs=SECS)
    ((images, labels),) = seen
    assert images.get_shape().as_list() == [8, *tiny.IMAGE_SHAPE]
    assert labels.dtype.base_dtype == tf.int64


def test_bad_images_are_skipped_where_the_training_skips_them(tmp_path, filenames):
    with open(filenames[0], "wb"):
        pass
    names = filenames + [filenames[1]] * 190
    for number in range(190):
        names[12 + number] = str(tmp_path / f"copy{number}.jpg")
        os.link(filenames[1 + number % 11], names[12 + number])
    labels = np.resize(LABELS, len(names))
    # One batch has all files of each identity: the empty one, too.
    config = dataclasses.replace(CONFIG, on_bad_image="skip", batch_size=201, num_images_per_id=67)
    network_factory = tiny.create_network_factory(True)
    speed.measure_model(tiny.preprocess, network_factory, names, labels, config, secs=SECS)


def test_labels_and_times_are_checked():
    network_factory = tiny.create_network_factory(True, num_classes=2)
    with pytest.raises(DataError, match="label 2 is out of range: the network has 2 classes"):
        speed.measure_model(tiny.preprocess, network_factory, IMAGES, LABELS, CONFIG)
    for measure in (
        lambda: speed.measure_input(tiny.preprocess, IMAGES, LABELS, CONFIG, secs=0),
        lambda: speed.measure_model(
            tiny.preprocess, network_factory, IMAGES, LABELS, CONFIG, secs=-1
        ),
    ):
        with pytest.raises(UsageError, match=r"secs .* must be a number greater than 0"):
            measure()


def test_a_bad_image_is_named(filenames):
    for name in filenames:
        with open(name, "wb"):
            pass
    network_factory = tiny.create_network_factory(True)
    for measure in (
        lambda: speed.measure_input(tiny.preprocess, filenames, LABELS, CONFIG),
        lambda: speed.measure_model(tiny.preprocess, network_factory, filenames, LABELS, CONFIG),
    ):
        with pytest.raises(DataError, match=r"\.jpg cannot be read \(it is empty\)"):
            measure()
    assert not [t for t in threading.enumerate() if t.name.startswith("feed")]
