# vim: expandtab:ts=4:sw=4
"""Trains on drawn images, then evaluates once: python -m packaged.train"""
import argparse
import numpy as np
import tensorflow as tf
import tensorflow.contrib.slim as slim

from . import losses
from . import metrics
from . import queued_trainer
from .network import create_network

IMAGE_SHAPE = (16, 8, 3)
NUM_IDENTITIES = 6


def draw_images(num_images_per_id, seed):
    rng = np.random.RandomState(seed)
    labels = np.repeat(np.arange(NUM_IDENTITIES), num_images_per_id).astype(np.int)
    colors = np.random.RandomState(0).randint(40, 216, (NUM_IDENTITIES, 1, 1, 3))
    noise = rng.randint(-30, 30, (len(labels),) + IMAGE_SHAPE)
    return (colors[labels] + noise).astype(np.uint8), labels


def create_trainer():
    image_var = tf.placeholder(tf.uint8, (None,) + IMAGE_SHAPE)
    label_var = tf.placeholder(tf.int64, (None,))
    scaled_var = tf.to_float(image_var) / 255.
    return queued_trainer.QueuedTrainer(
        [scaled_var, label_var], [image_var, label_var], num_enqueue_threads=1)


def train(args):
    trainer = create_trainer()
    image_var, label_var = trainer.get_input_vars(args.batch_size)
    features = create_network(image_var, is_training=True)
    loss = losses.softmargin_triplet_loss(features, label_var, create_summaries=False)
    tf.losses.add_loss(loss)
    tf.summary.scalar("triplet_loss", loss)
    train_op = slim.learning.create_train_op(
        tf.losses.get_total_loss(), tf.train.AdamOptimizer(args.learning_rate))
    images, labels = draw_images(5, seed=1)
    trainer.run(
        queued_trainer.random_sample_identities_forever(args.batch_size, 4, images, labels),
        train_op, args.log_dir, run_id="small", number_of_steps=args.number_of_steps,
        save_summaries_secs=1)


def evaluate(args):
    # A batch for each image number: all identities as probes, then all as gallery.
    images, labels = draw_images(4, seed=2)
    order = np.argsort(np.arange(len(labels)) % 4, kind="mergesort")
    trainer = create_trainer()
    image_var, label_var = trainer.get_input_vars(2 * NUM_IDENTITIES)
    probe_x, gallery_x = tf.split(create_network(image_var, is_training=False), 2)
    probe_y, gallery_y = tf.split(label_var, 2)
    value, update = metrics.streaming_mean_cmc_at_k(probe_x, probe_y, gallery_x, gallery_y, 1)
    summary_op = tf.summary.scalar("Precision@1", value)
    return trainer.evaluate(
        [images[order], labels[order]], args.log_dir, args.log_dir + "_eval", run_id="small",
        eval_op=update, final_op=value, summary_op=summary_op, max_num_evaluations=1,
        eval_interval_secs=1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log_dir", default="./tmp/packaged")
    parser.add_argument("--batch_size", default=16, type=int)
    parser.add_argument("--learning_rate", default=1e-2, type=float)
    parser.add_argument("--number_of_steps", default=5, type=int)
    args = parser.parse_args()
    with tf.Graph().as_default():
        train(args)
    with tf.Graph().as_default():
        value = evaluate(args)
    print("package %s: rank-1 is %.4f" % (__package__, value))


if __name__ == "__main__":
    main()
