"""Networks that make their variables without TF-Slim, as some old code does."""

import numpy as np
import pytest
import tiny

from deep_reid import evaluation, export, training
from deep_reid.compat import slim, tf
from deep_reid.nets.building import build_network
from deep_reid.queued_trainer import QueuedTrainer

pytestmark = pytest.mark.usefixtures("graph")

SIZE = int(np.prod(tiny.IMAGE_SHAPE))
NAMES = {"plain/weights", "plain/mean"}


def create_network_factory(is_training, reuse=None):
    """Settle a network of a weight, and of a statistic that training updates."""

    def factory_fn(images):
        with tf.variable_scope("plain", reuse=reuse):
            weights = tf.get_variable(
                "weights", (SIZE, 4), initializer=tf.random_normal_initializer(stddev=0.1)
            )
            mean = tf.get_variable(
                "mean", (SIZE,), initializer=tf.zeros_initializer(), trainable=False
            )
            flat = slim.flatten(images)
            if is_training:
                update = mean.assign(0.5 * mean + 0.5 * tf.reduce_mean(flat, axis=0))
                tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
            return tf.nn.l2_normalize(tf.matmul(flat - mean, weights), axis=1), None

    return factory_fn


@pytest.fixture
def images():
    return np.random.RandomState(0).randint(0, 256, (16, *tiny.IMAGE_SHAPE)).astype(np.uint8)


LABELS = [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4


@pytest.fixture
def checkpoint(tmp_path, images):
    training.train_loop(
        tiny.preprocess, create_network_factory(True), images, LABELS, 4, 8, tmp_path / "train",
        run_id="run", number_of_steps=3, loss_mode="triplet", seed=1,
    )  # fmt: skip
    return str(tmp_path / "train" / "run" / "model.ckpt-3")


@pytest.fixture
def features(checkpoint, images):
    """What NumPy makes of the checkpoint."""
    saved = tf.train.load_checkpoint(checkpoint)
    weights, mean = (saved.get_tensor(f"plain/{name}") for name in ("weights", "mean"))
    assert mean.max() > 0.1
    features = (images.reshape(16, -1) / 255.0 - mean) @ weights
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def test_features_graphs_and_final_checkpoints_have_all_variables(
    checkpoint, features, images, tmp_path
):
    factory = create_network_factory(False)
    encoded = export.encode(tiny.preprocess, factory, checkpoint, images)
    np.testing.assert_allclose(encoded, features, atol=1e-5)
    final = str(tmp_path / "final.ckpt")
    export.finalize(tiny.preprocess, factory, checkpoint, tiny.IMAGE_SHAPE, final)
    assert {name for name, _ in tf.train.list_variables(final)} == NAMES
    path = tmp_path / "model.pb"
    export.freeze(tiny.preprocess, factory, final, tiny.IMAGE_SHAPE, path)
    graph_def = tf.GraphDef.FromString(path.read_bytes())
    with tf.Graph().as_default(), tf.Session() as session:
        (output,) = tf.import_graph_def(graph_def, return_elements=["features:0"], name="")
        frozen = session.run(output, {"images:0": images[..., ::-1]})
    np.testing.assert_allclose(frozen, features, atol=1e-5)


def test_they_are_evaluated(checkpoint, tmp_path, images):
    scores = evaluation.eval_loop(
        tiny.preprocess, create_network_factory(False), images, LABELS, None, tmp_path / "train",
        tmp_path / "eval", run_id="run", loss_mode="triplet", num_galleries=3,
        max_num_evaluations=2,
    )  # fmt: skip
    assert 0.0 <= scores["Precision@1"] <= scores["Precision@10"] == 1.0


def test_a_new_run_starts_from_all_of_them_but_not_from_the_step(checkpoint, tmp_path, images):
    training.train_loop(
        tiny.preprocess, create_network_factory(True), images, LABELS, 4, 8, tmp_path / "train",
        run_id="new", number_of_steps=1, loss_mode="triplet", restore_path=checkpoint, seed=2,
    )  # fmt: skip
    new = tf.train.load_checkpoint(str(tmp_path / "train" / "new" / "model.ckpt-1"))
    old = tf.train.load_checkpoint(checkpoint)
    assert new.get_tensor("global_step") == 1
    # A step of Adam moves a weight by no more than the learning rate, which is 1e-3.
    weights = "plain/weights"
    np.testing.assert_allclose(
        new.get_tensor(weights), old.get_tensor(weights), rtol=0.0, atol=1.01e-3
    )
    # A step halves the old mean and adds half of the batch's, which is no less than 0.
    assert (2 * new.get_tensor("plain/mean") > old.get_tensor("plain/mean")).all()


def test_a_trainer_put_together_by_hand_evaluates_them(checkpoint, tmp_path, images):
    x = tf.placeholder(tf.uint8, (None, *tiny.IMAGE_SHAPE))
    trainer = QueuedTrainer([tf.cast(x, tf.float32) / 255.0], [x])
    (batch,) = trainer.get_input_vars(8)
    features, _ = create_network_factory(False)(batch)
    assert slim.get_model_variables() == []
    value, update = tf.metrics.mean(tf.norm(features, axis=1))
    length = trainer.evaluate(
        [images], str(tmp_path / "train"), str(tmp_path / "eval"), "run", eval_op=update,
        final_op=value, max_num_evaluations=1,
    )  # fmt: skip
    assert length == pytest.approx(1.0)


def test_what_was_there_before_belongs_to_someone_else():
    tf.get_variable("other", ())
    tf.train.get_or_create_global_step()
    build_network(create_network_factory(True), tf.zeros((2, *tiny.IMAGE_SHAPE)))
    build_network(create_network_factory(True, reuse=True), tf.zeros((2, *tiny.IMAGE_SHAPE)))
    assert [variable.op.name for variable in slim.get_model_variables()] == [
        "plain/weights", "plain/mean",
    ]  # fmt: skip
