# vim: expandtab:ts=4:sw=4
"""Classifies drawn images that come through TensorFlow's own queue runners."""
import argparse
import os
import numpy as np
import tensorflow.compat.v1 as tf
import tf_slim as slim
import network

tf.disable_v2_behavior()
tf.logging.set_verbosity(tf.logging.INFO)

NUM_CLASSES = 4


def draw_images():
    labels = np.arange(32).astype(np.int) % NUM_CLASSES
    noise = np.random.RandomState(0).uniform(0., 60., (32, 16, 8, 3))
    return (noise + 40. * labels[:, None, None, None]).astype(np.float), labels


def train(args):
    images, labels = draw_images()
    image, label = tf.train.slice_input_producer(
        [tf.constant(images, tf.float32), tf.constant(labels, tf.int64)], seed=1)
    image_batch, label_batch = tf.train.batch([image / 255., label], args.batch_size)
    is_training = tf.placeholder_with_default(np.bool(1), ())
    _, logits = network.create_network(image_batch, is_training, NUM_CLASSES)
    slim.losses.sparse_softmax_cross_entropy(logits, label_batch)
    total_loss = slim.losses.get_total_loss()
    tf.summary.scalar("total_loss", total_loss)
    optimizer = tf.train.MomentumOptimizer(args.learning_rate, 0.9)
    train_op = slim.learning.create_train_op(total_loss, optimizer, clip_gradient_norm=1.)
    slim.learning.train(
        train_op, args.log_dir, number_of_steps=args.number_of_steps, log_every_n_steps=1,
        save_summaries_secs=1)


def evaluate(args):
    images, labels = draw_images()
    _, logits = network.create_network(
        tf.constant(images / 255., tf.float32), False, NUM_CLASSES)
    names_to_values, names_to_updates = slim.metrics.aggregate_metric_map({
        "accuracy": slim.metrics.streaming_accuracy(tf.argmax(logits, 1), labels),
        "recall": slim.metrics.streaming_recall_at_k(logits, tf.constant(labels), 2),
    })
    values = slim.evaluation.evaluate_once(
        "", tf.train.latest_checkpoint(args.log_dir), args.log_dir + "_eval",
        eval_op=list(names_to_updates.values()), final_op=names_to_values)
    for name in sorted(values):
        print("%s: %.4f" % (name, values[name]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log_dir", default=os.path.join(".", "tmp", "half_ported"))
    parser.add_argument("--batch_size", default=8, type=int)
    parser.add_argument("--learning_rate", default=0.1, type=float)
    parser.add_argument("--number_of_steps", default=4, type=int)
    args = parser.parse_args()
    with tf.Graph().as_default():
        train(args)
    with tf.Graph().as_default():
        evaluate(args)


if __name__ == "__main__":
    main()
