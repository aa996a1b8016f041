"""A member of a cluster that trains on batches which a test chooses, in a process of its own."""

import contextlib

import numpy as np

from deep_reid.compat import slim, tf
from deep_reid.config.cluster import read_place
from deep_reid.config.step import StepSettings
from deep_reid.engine.queued_trainer import QueuedTrainer
from deep_reid.runs.run import Run
from deep_reid.runtime import cluster, servers
from deep_reid.training.graph import create_step

SHAPE = (6, 4, 3)
NUM_CLASSES = 4
TIMEOUT_SECS = 120


def network(images):
    """Two layers: no dropout and no batch norm, so that the mean over a batch is all there is."""
    hidden = slim.fully_connected(slim.flatten(images), 16, scope="hidden")
    features = tf.nn.l2_normalize(slim.fully_connected(hidden, 8, scope="features"), axis=1)
    logits = slim.fully_connected(4 * features, NUM_CLASSES, activation_fn=None, scope="logits")
    return features, logits


def draw_batches(batch_size, part, num_parts):
    """Draw batches; of each, give only one of its parts."""
    rows = slice(part * batch_size // num_parts, (part + 1) * batch_size // num_parts)
    random = np.random.default_rng(0)
    while True:
        images = random.normal(size=(batch_size, *SHAPE)).astype(np.float32)
        labels = random.integers(NUM_CLASSES, size=batch_size)
        yield images[rows], labels[rows]


def train(tf_config, folder, batch_size, num_steps, restore_path=None, **settings):
    """Train in a cluster, or alone; return how many steps this process has taken."""
    place = read_place({"TF_CONFIG": tf_config})
    members = cluster.ALONE
    if not place.is_alone:
        server = servers.start_server(place)
        servers.wait_for_servers(place, TIMEOUT_SECS)
        members = cluster.Membership(place, server, is_synchronous=True, number_of_steps=num_steps)
    with tf.Graph().as_default(), members.placing(), contextlib.ExitStack() as stack:
        tf.set_random_seed(1)
        images = tf.placeholder(tf.float32, (None, *SHAPE))
        labels = tf.placeholder(tf.int64, (None,))
        trainer = QueuedTrainer([images, labels])
        own_size = batch_size // place.num_trainers
        tensors = trainer.get_input_vars(own_size)
        step = create_step(network, *tensors, 0.05, StepSettings(**settings), members)
        if members.is_chief:
            run = stack.enter_context(Run.open(folder, "run"))
        else:
            run = Run.join(folder, "run", members.board.wait_for_step(TIMEOUT_SECS))
        trainer.run(
            draw_batches(batch_size, place.number, place.num_trainers),
            step.train_op,
            run=run,
            cluster=members,
            restore_path=restore_path if members.is_chief else None,
            number_of_steps=num_steps if members.is_chief else None,
            log_every_n_steps=0,
        )
    if not place.is_alone:
        members.board.end()


def meet_no_server(tf_config):
    """Open a session, as the chief, where the server has ended; it must fail."""
    place = read_place({"TF_CONFIG": tf_config})
    server = servers.start_server(place)
    members = cluster.Membership(place, server, is_synchronous=True, number_of_steps=1)
    try:
        with members.naming_lost_servers():
            members.board.publish({})
    except servers.LostServerError as error:
        assert f"server 0 at {place.servers[0]} is lost" in str(error)  # noqa: PT017
    else:
        raise AssertionError("no error")
    members.board.give_up()  # to nobody, but without waiting


def serve(tf_config):
    """Hold the weights until the chief has ended."""
    place = read_place({"TF_CONFIG": tf_config})
    wait_for_end = servers.watch_ends(place, servers.start_server(place))
    ended = {wait_for_end() for _ in range(place.num_trainers)}
    assert ended == set(range(place.num_trainers))
