"""A training as a process of its own, small enough to be stopped and started again many times.

python training_process.py LOG_DIR --steps=N [...]: the tiny network on drawn noise, with the
faults that the tests ask for.
"""

import argparse
import contextlib
import itertools
import os
import sys
import threading
import time

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import tiny

from deep_reid import samplers
from deep_reid.compat import tf
from deep_reid.config import RunConfig
from deep_reid.engine.callbacks import Callbacks
from deep_reid.errors import ReidError
from deep_reid.runs.run import Run
from deep_reid.system import signals
from deep_reid.training import loop

NUM_IDENTITIES = 8
IMAGES_PER_IDENTITY = 4


def draw_images():
    """Draw images that differ by identity; the first pixel of each is its row."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(NUM_IDENTITIES), IMAGES_PER_IDENTITY)
    means = random.integers(40, 216, (NUM_IDENTITIES, 1, 1, 3))
    noise = random.integers(-40, 40, (len(labels), *tiny.IMAGE_SHAPE))
    images = (means[labels] + noise).astype(np.uint8)
    images[:, 0, 0, 0] = np.arange(len(labels))
    return images, labels


def create_preprocess(nan_row):
    """Create a preprocessing that gives NaN for one image."""

    def preprocess(image, is_training=False):
        is_bad = tf.equal(image[0, 0, 0], tf.cast(-1 if nan_row is None else nan_row, image.dtype))
        values = tiny.preprocess(image, is_training)
        return tf.cond(is_bad, lambda: values * np.nan, lambda: values)

    return preprocess


def break_source(thread_name):
    """Let the data source fail in one of the feed's threads, after some batches."""
    sample = samplers.random_sample_identities_forever

    def sample_until_it_breaks(*args, **kwargs):
        for number, batch in enumerate(sample(*args, **kwargs)):
            if number >= 20 and threading.current_thread().name == thread_name:
                raise LookupError(f"the source broke in {thread_name}")
            yield batch

    samplers.random_sample_identities_forever = sample_until_it_breaks


def fill_disk(folder):
    """Write a file until the disk is full."""
    with contextlib.suppress(OSError), open(os.path.join(folder, "filler"), "wb") as file:
        while True:
            file.write(bytes(1024))
            file.flush()


def main():
    """Train; exit as the scripts do."""
    parser = argparse.ArgumentParser()
    parser.add_argument("log_dir")
    parser.add_argument("--run_id", default="run")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--save_interval_secs", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--nan_row", type=int)
    parser.add_argument("--bad_label", type=int)
    parser.add_argument("--pause_secs", type=float, default=0.0)
    parser.add_argument("--loss_mode", default="cosine-softmax")
    parser.add_argument("--deterministic", action="store_true")
    parser.add_argument("--failing_thread")
    parser.add_argument("--fill_at_step", type=int)
    args = parser.parse_args()
    images, labels = draw_images()
    if args.bad_label is not None:
        labels[5] = args.bad_label
    config = RunConfig(
        tiny.IMAGE_SHAPE,
        batch_size=16,
        number_of_steps=args.steps,
        loss_mode=args.loss_mode,
        seed=args.seed,
        save_interval_secs=args.save_interval_secs,
        log_every_n_steps=1,
        deterministic=args.deterministic,
    )
    import logging

    logging.basicConfig(
        level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout, force=True
    )

    if args.failing_thread is not None:
        break_source(args.failing_thread)
    numbers = itertools.count()

    try:
        with (
            signals.handled(),
            signals.deferred() as should_stop,
            Run.open(args.log_dir, args.run_id) as run,
        ):

            def pause_and_ask():
                time.sleep(args.pause_secs)
                if next(numbers) == args.fill_at_step:
                    fill_disk(args.log_dir)
                return should_stop()

            loop.train(
                create_preprocess(args.nan_row),
                tiny.create_network_factory(True, NUM_IDENTITIES),
                images,
                labels,
                config,
                run,
                callbacks=Callbacks(should_stop=pause_and_ask),
            )
            if should_stop() is not None:
                return 128 + should_stop()
    except ReidError as error:
        logging.error("%s: %s", type(error).__name__, error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
