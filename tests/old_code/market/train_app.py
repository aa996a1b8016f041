# vim: expandtab:ts=4:sw=4
import argparse
import os
import numpy as np
import tensorflow as tf
import tensorflow.contrib.slim as slim

from datasets import util
import losses
import metrics
import queued_trainer

LOSS_MODES = ("cosine-softmax", "triplet", "angular")


def create_default_argument_parser(dataset_name):
    parser = argparse.ArgumentParser(description="Metric learning on %s" % dataset_name)
    parser.add_argument("--batch_size", default=128, type=int)
    parser.add_argument("--learning_rate", default=1e-3, type=float)
    parser.add_argument("--eval_log_dir", default="./tmp/%s_eval" % dataset_name)
    parser.add_argument("--number_of_steps", default=None, type=int)
    parser.add_argument("--log_dir", default="./tmp/%s" % dataset_name)
    parser.add_argument("--loss_mode", default="cosine-softmax", choices=LOSS_MODES)
    parser.add_argument("--mode", default="train")
    parser.add_argument("--restore_path", default=None)
    parser.add_argument("--run_id", default=None)
    return parser


def to_train_kwargs(args):
    names = ("batch_size", "learning_rate", "log_dir", "loss_mode", "number_of_steps",
             "restore_path", "run_id")
    return dict((name, getattr(args, name)) for name in names)


def to_eval_kwargs(args):
    return dict((name, getattr(args, name))
                for name in ("eval_log_dir", "log_dir", "loss_mode", "run_id"))


def _read_file(filename, image_shape):
    image = tf.image.decode_jpeg(tf.read_file(filename), channels=image_shape[2])
    return tf.image.resize_images(image, image_shape[:2])


def _create_images(placeholder, preprocess_fn, read_from_file, image_shape, is_training):
    def create_image(item):
        image = _read_file(item, image_shape) if read_from_file else item
        return preprocess_fn(image, is_training=is_training)

    images = tf.map_fn(create_image, placeholder, dtype=tf.float32, back_prop=False)
    images.set_shape([None] + list(image_shape))
    return images


def _create_placeholder(read_from_file, image_shape):
    if read_from_file:
        return tf.placeholder(tf.string, [None])
    return tf.placeholder(tf.uint8, [None] + list(image_shape))


def _create_loss(features, logits, labels, loss_mode):
    if loss_mode == "cosine-softmax":
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
        right = tf.equal(tf.argmax(logits, 1), labels)
        tf.summary.scalar("classification accuracy", tf.reduce_mean(tf.to_float(right)))
        tf.summary.scalar("cross_entropy_loss", loss)
    elif loss_mode == "triplet":
        loss = losses.softmargin_triplet_loss(features, labels)
        tf.summary.scalar("triplet_loss", loss)
    else:
        loss = losses.angular_loss(features, labels)
        tf.summary.scalar("angular_loss", loss)
    slim.losses.add_loss(loss)


def create_trainer(preprocess_fn, network_factory, read_from_file, image_shape, batch_size,
                   loss_mode, learning_rate=1e-3, trainable_scopes=None):
    with tf.device("/cpu:0"):
        input_var = _create_placeholder(read_from_file, image_shape)
        label_var = tf.placeholder(tf.int64, [None])
        images = _create_images(input_var, preprocess_fn, read_from_file, image_shape, True)
        trainer = queued_trainer.QueuedTrainer([images, label_var], [input_var, label_var])
        images, labels = trainer.get_input_vars(batch_size)
        tf.summary.image("images", images)
    features, logits = network_factory(images)
    _create_loss(features, logits, labels, loss_mode)
    loss = tf.add_n(slim.losses.get_losses() + slim.losses.get_regularization_losses())
    tf.summary.scalar("total_loss", loss)
    tf.summary.scalar("learning_rate", learning_rate)
    variables = tf.trainable_variables()
    if trainable_scopes is not None:
        variables = [v for v in variables if v.op.name.startswith(tuple(trainable_scopes))]
    train_op = slim.learning.create_train_op(
        loss, tf.train.AdamOptimizer(learning_rate=learning_rate), variables_to_train=variables,
        update_ops=tf.get_collection(tf.GraphKeys.UPDATE_OPS))
    return trainer, train_op


def train_loop(preprocess_fn, network_factory, train_x, train_y, num_images_per_id, batch_size,
               log_dir, image_shape=None, restore_path=None, run_id=None, number_of_steps=None,
               loss_mode="cosine-softmax", learning_rate=1e-3, trainable_scopes=None,
               save_summaries_secs=1, save_interval_secs=30):
    read_from_file = not isinstance(train_x, np.ndarray)
    image_shape = train_x.shape[1:] if image_shape is None else image_shape
    trainer, train_op = create_trainer(
        preprocess_fn, network_factory, read_from_file, image_shape, batch_size, loss_mode,
        learning_rate, trainable_scopes)
    batches = queued_trainer.random_sample_identities_forever(
        batch_size, num_images_per_id, train_x, train_y)
    trainer.run(
        batches, train_op, log_dir=log_dir, restore_path=restore_path, run_id=run_id,
        number_of_steps=number_of_steps, save_summaries_secs=save_summaries_secs,
        save_interval_secs=save_interval_secs)


def eval_loop(preprocess_fn, network_factory, data_x, data_y, camera_indices, log_dir,
              eval_log_dir, image_shape=None, run_id=None, loss_mode="cosine-softmax",
              num_galleries=10, random_seed=4321):
    read_from_file = not isinstance(data_x, np.ndarray)
    image_shape = data_x.shape[1:] if image_shape is None else image_shape
    galleries = [util.create_cmc_probe_and_gallery(data_y, camera_indices, random_seed + i)
                 for i in range(num_galleries)]
    probes = np.asarray([probe for probe, _ in galleries])
    items = np.asarray([item for _, item in galleries])

    with tf.device("/cpu:0"):
        all_x, all_y = tf.constant(data_x), tf.constant(np.asarray(data_y, np.int64))
        probe_var = tf.placeholder(tf.int64, (None, probes.shape[1]))
        item_var = tf.placeholder(tf.int64, (None, items.shape[1]))
        trainer = queued_trainer.QueuedTrainer([probe_var, item_var], num_enqueue_threads=1)
        # One gallery at a time; the queue holds numbers only, the images are gathered behind it.
        probe_rows, item_rows = [tf.squeeze(rows, [0]) for rows in trainer.get_input_vars(1)]
        rows = tf.concat([probe_rows, item_rows], 0)
        images = _create_images(
            tf.gather(all_x, rows), preprocess_fn, read_from_file, image_shape, False)
    probe_x, item_x = tf.split(network_factory(images)[0], 2)
    measure = metrics.cosine_distance if loss_mode == "cosine-softmax" else metrics.pdist
    names_to_metrics = {}
    for k in (1, 5, 10, 20):
        names_to_metrics["Precision@%d" % k] = metrics.streaming_mean_cmc_at_k(
            probe_x, tf.gather(all_y, probe_rows), item_x, tf.gather(all_y, item_rows), k,
            measure)
    values, updates = slim.metrics.aggregate_metric_map(names_to_metrics)
    for name, value in values.items():
        tf.summary.scalar(name, value)
    trainer.evaluate(
        (probes, items), log_dir, eval_log_dir, run_id=run_id, eval_op=list(updates.values()),
        final_op=values, eval_interval_secs=1)


def encode(preprocess_fn, network_factory, checkpoint_path, images_or_filenames, batch_size=32,
           session=None, image_shape=None):
    read_from_file = not isinstance(images_or_filenames, np.ndarray)
    image_shape = images_or_filenames.shape[1:] if image_shape is None else image_shape
    with (tf.Graph() if session is None else session.graph).as_default():
        input_var = _create_placeholder(read_from_file, image_shape)
        features, _ = network_factory(
            _create_images(input_var, preprocess_fn, read_from_file, image_shape, False))
        session = tf.Session() if session is None else session
        tf.train.Saver(slim.get_model_variables()).restore(session, checkpoint_path)
        out = np.zeros((len(images_or_filenames), features.get_shape().as_list()[1]), np.float32)
        queued_trainer.run_in_batches(
            lambda feed_dict: session.run(features, feed_dict=feed_dict),
            {input_var: images_or_filenames}, out, batch_size)
    return out


def finalize(preprocess_fn, network_factory, checkpoint_path, image_shape, output_filename):
    with tf.Session(graph=tf.Graph()) as session:
        input_var = _create_placeholder(False, image_shape)
        network_factory(_create_images(input_var, preprocess_fn, False, image_shape, False))
        saver = tf.train.Saver(slim.get_model_variables())
        saver.restore(session, checkpoint_path)
        saver.save(session, output_filename, write_meta_graph=False)


def freeze(preprocess_fn, network_factory, checkpoint_path, image_shape, output_filename,
           input_name="images", feature_name="features"):
    with tf.Session(graph=tf.Graph()) as session:
        input_var = tf.placeholder(tf.uint8, [None] + list(image_shape), name=input_name)
        features, _ = network_factory(
            _create_images(input_var, preprocess_fn, False, image_shape, False))
        features = tf.identity(features, name=feature_name)
        tf.train.Saver(slim.get_variables_to_restore()).restore(session, checkpoint_path)
        graph_def = tf.graph_util.convert_variables_to_constants(
            session, tf.get_default_graph().as_graph_def(), [features.name.split(":")[0]])
        folder = os.path.dirname(output_filename)
        if not tf.gfile.Exists(folder):
            tf.gfile.MakeDirs(folder)
        with tf.gfile.GFile(output_filename, "wb") as stream:
            stream.write(graph_def.SerializeToString())
