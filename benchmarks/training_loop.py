"""What the feed costs: training from image files against the same train_op on a constant batch.

The first is the loop's own step, with its log lines and summaries; the second the bare op, with a
constant batch fed in place of what comes out of the queue. Both run in turns in one session, on
drawn data, so that a drift of the machine's speed hits both.

python benchmarks/training_loop.py [--batch_size 128] [--rounds 5] [--steps 8]
"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from datasets import synthetic  # noqa: E402
from datasets.market1501 import Market1501  # noqa: E402
from deep_reid import samplers, training  # noqa: E402
from deep_reid.compat import tf  # noqa: E402
from deep_reid.nets import deep_sort  # noqa: E402
from deep_reid.train_step import TrainStep  # noqa: E402

QUEUE_CAPACITY = 512


def main():
    """Draw data, measure, print medians and their ratio."""
    args = parse_arguments()
    with tempfile.TemporaryDirectory() as directory:
        synthetic.draw_market1501(f"{directory}/drawn", num_identities=80, num_test_identities=1)
        split = Market1501(f"{directory}/drawn").train
        batches = samplers.random_sample_identities_forever(
            args.batch_size, 4, split.filenames, split.labels, seed=1
        )
        fed, constant = measure(batches, args)
    ratio = statistics.median(c / f for f, c in zip(fed, constant, strict=True))
    print(f"from image files   {args.batch_size / statistics.median(fed):8.1f} images/s")
    print(f"constant batch     {args.batch_size / statistics.median(constant):8.1f} images/s")
    print(f"ratio              {ratio:8.3f}  (median of {args.rounds} rounds, {args.steps} steps)")


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    return parser.parse_args()


def measure(batches, args):
    """Return the mean seconds per step of each round, from files and from a constant batch."""
    trainer, train_op = training.create_trainer(
        deep_sort.preprocess,
        deep_sort.create_network_factory(True, Market1501.MAX_LABEL + 1, add_logits=True),
        read_from_file=True,
        image_shape=Market1501.IMAGE_SHAPE,
        batch_size=args.batch_size,
        loss_mode="cosine-softmax",
    )
    (dequeue,) = [op for op in train_op.graph.get_operations() if op.type == "QueueDequeueManyV2"]
    global_step = tf.train.get_global_step()
    with tempfile.TemporaryDirectory() as log_dir, tf.Session() as session:
        writer = tf.summary.FileWriter(log_dir)
        step = TrainStep(
            train_op,
            batch_size=args.batch_size,
            start_feed=lambda session: trainer.start_feed(session, batches),
            number_of_steps=None,
            log_every_n_steps=10,
            summary_op=tf.summary.merge_all(),
            save_summaries_secs=60,
            save=None,
            save_interval_secs=0,
            save_at_start=False,
        )
        session.run(tf.global_variables_initializer())

        def train_from_files():
            step(session, train_op, global_step, {"summary_writer": writer})

        train_from_files()
        constant_batch = dict(zip(dequeue.outputs, session.run(dequeue.outputs), strict=True))

        def train_on_constant_batch():
            session.run(train_op, constant_batch)

        # What waits in the queue was decoded before: it is used up before the clock starts.
        num_warm_up = QUEUE_CAPACITY // args.batch_size + 2
        fed, constant = [], []
        for _ in range(args.rounds):
            fed.append(seconds_per_step(train_from_files, num_warm_up, args.steps))
            constant.append(seconds_per_step(train_on_constant_batch, 1, args.steps))
        step.stop_feed()
    return fed, constant


def seconds_per_step(run_step, num_warm_up, num_steps):
    """Return the mean over `num_steps` calls, after some that do not count."""
    for _ in range(num_warm_up):
        run_step()
    start = time.perf_counter()
    for _ in range(num_steps):
        run_step()
    return (time.perf_counter() - start) / num_steps


if __name__ == "__main__":
    main()
