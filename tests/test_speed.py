"""What limits a training: the feed alone, and the step on a constant batch alone."""

import threading

import cv2
import numpy as np
import pytest
import tiny

from deep_reid import queued_trainer, speed, training
from deep_reid.compat import tf
from deep_reid.config import RunConfig
from deep_reid.errors import DataError

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
    create_batches = training.create_batches

    def slow(*args):
        for batch in create_batches(*args):
            threading.Event().wait(0.05)
            yield batch

    monkeypatch.setattr(training, "create_batches", slow)
    measured = speed.measure_input(tiny.preprocess, IMAGES, LABELS, CONFIG, secs=0.5)
    assert 8 / 0.05 * 0.3 < measured <= 8 / 0.05 * 1.2


def test_what_waited_in_the_queue_does_not_count(monkeypatch):
    taken = []
    monkeypatch.setattr(
        speed, "_mean_secs", lambda function, num_before, secs: taken.append(num_before) or 1.0
    )
    speed.measure_input(tiny.preprocess, IMAGES, LABELS, CONFIG)
    assert taken[0] >= CONFIG.queue_capacity // CONFIG.batch_size + CONFIG.num_enqueue_threads


def test_the_model_is_trained_on_one_batch_that_nothing_feeds(monkeypatch):
    monkeypatch.setattr(
        queued_trainer.QueuedTrainer, "start_feed", lambda *args: pytest.fail("nothing to feed")
    )
    seen = []
    create_step = training.create_run_step

    def watch(network_factory, images, labels, *args, **kwargs):
        seen.append((images, labels))
        return create_step(network_factory, images, labels, *args, **kwargs)

    monkeypatch.setattr(training, "create_run_step", watch)
    network_factory = tiny.create_network_factory(True)
    speed.measure_model(tiny.preprocess, network_factory, IMAGES, LABELS, CONFIG, secs=SECS)
    ((images, labels),) = seen
    assert images.get_shape().as_list() == [8, *tiny.IMAGE_SHAPE]
    assert labels.dtype.base_dtype == tf.int64


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
