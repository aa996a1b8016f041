"""Training as a whole, with a tiny network: the graph of a step, and what a run leaves behind."""

import glob
import itertools
import logging

import cv2
import numpy as np
import pytest
import tiny

from deep_reid import samplers, training
from deep_reid.compat import slim, tf
from deep_reid.config import RunConfig
from deep_reid.errors import DataError, MissingPathError, UsageError
from deep_reid.nets import deep_sort
from deep_reid.queued_trainer import QueuedTrainer
from deep_reid.runs import checkpoints, folder, records

pytestmark = pytest.mark.usefixtures("graph")

NUM_CLASSES = 6


def draw_images(num_identities=6, num_images_per_id=5, contrast=200):
    """Return images of a flat color per identity with some noise, and their labels."""
    rng = np.random.default_rng(0)
    colors = rng.integers(0, contrast, (num_identities, 1, 1, 1, 3))
    noise = rng.integers(0, 255 - contrast, (num_identities, num_images_per_id, *tiny.IMAGE_SHAPE))
    images = (colors + noise).astype(np.uint8).reshape(-1, *tiny.IMAGE_SHAPE)
    return images, np.repeat(np.arange(num_identities), num_images_per_id)


@pytest.fixture
def image_files(tmp_path):
    images, labels = draw_images()
    filenames = []
    for index, image in enumerate(images):
        filenames.append(tmp_path / "images" / f"{index:03d}.png")
        filenames[-1].parent.mkdir(exist_ok=True)
        cv2.imwrite(str(filenames[-1]), image[..., ::-1])
    return filenames, labels


def train(log_dir, train_x=None, train_y=None, **kwargs):
    images, labels = draw_images()
    settings = {
        "num_images_per_id": 2,
        "batch_size": 8,
        "number_of_steps": 3,
        "image_shape": tiny.IMAGE_SHAPE,
        "seed": 1,
        "run_id": "run",
        "save_interval_secs": 1000,
        **kwargs,
    }
    return training.train_loop(
        tiny.preprocess,
        tiny.create_network_factory(is_training=True, num_classes=NUM_CLASSES),
        images if train_x is None else train_x,
        labels if train_y is None else train_y,
        log_dir=log_dir,
        **settings,
    )


def read_variables(checkpoint):
    reader = tf.train.load_checkpoint(records.resolve_checkpoint(checkpoint))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def summary_tags(run_dir):
    tags = set()
    for filename in glob.glob(str(run_dir / "events.*")):
        for event in tf.train.summary_iterator(filename):
            tags.update(value.tag for value in event.summary.value)
    return tags


class TestTrainLoop:
    @pytest.mark.parametrize("loss_mode", ["cosine-softmax", "magnet", "triplet"])
    def test_each_loss_goes_down(self, tmp_path, loss_mode):
        images, _ = draw_images(contrast=20)  # so that no loss starts at 0
        settings = {"loss_mode": loss_mode, "learning_rate": 0.01}
        first = train(tmp_path, images, number_of_steps=1, run_id="short", **settings)
        last = train(tmp_path, images, number_of_steps=120, run_id="long", **settings)
        assert last < 0.8 * first

    def test_files_and_arrays_train_alike(self, tmp_path, image_files):
        filenames, labels = image_files
        from_files = train(tmp_path, filenames, labels, run_id="files")
        from_arrays = train(tmp_path, run_id="arrays")
        assert from_files == pytest.approx(from_arrays, rel=1e-5)

    def test_the_same_seed_gives_the_same_batches_and_start_weights(self, tmp_path, monkeypatch):
        starts = []

        def run(trainer, feed_generator, train_op, *args, **kwargs):
            with tf.Session() as session:
                session.run(tf.global_variables_initializer())
                weights = session.run(tf.trainable_variables())
            batches = itertools.islice(feed_generator, 5)
            starts.append([array for batch in batches for array in batch] + weights)

        monkeypatch.setattr(QueuedTrainer, "run", run)
        for index, seed in enumerate((7, 7, 8)):
            train(tmp_path, run_id=str(index), seed=seed)
        first, again, other = starts
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        is_equal = [np.array_equal(a, b) for a, b in zip(first, other, strict=True)]
        assert not is_equal[0]
        assert not is_equal[10]

    def test_the_run_directory_holds_settings_checkpoint_and_events(self, tmp_path):
        train(tmp_path, learning_rate=0.02, batch_size=12)
        config = RunConfig.load(tmp_path / "run")
        assert (config.learning_rate, config.batch_size) == (0.02, 12)
        assert config.image_shape == tiny.IMAGE_SHAPE
        assert checkpoints.step_of(records.resolve_checkpoint(tmp_path / "run")) == 3
        assert folder.find_latest_run(tmp_path) == "run"
        assert glob.glob(str(tmp_path / "run" / "events.*"))

    def test_a_resumed_run_goes_on_with_the_next_batch(self, tmp_path, monkeypatch):
        drawn = []
        sample = samplers.random_sample_identities_forever

        def recording(*args, **kwargs):
            for batch in sample(*args, **kwargs):
                drawn.append(batch[0].sum())
                yield batch

        train(tmp_path, number_of_steps=3)
        monkeypatch.setattr(samplers, "random_sample_identities_forever", recording)
        train(tmp_path, number_of_steps=10, run_id="whole")
        whole, drawn[:] = list(drawn), []
        train(tmp_path, number_of_steps=10)
        assert drawn[:7] == whole[3:10]

    @pytest.mark.parametrize(
        "kwargs", [{"loss_mode": "triplet"}, {"image_shape": (16, 16, 3)}], ids=str
    )
    def test_what_cannot_change_within_a_run_is_refused(self, tmp_path, kwargs):
        train(tmp_path)
        settings = (tmp_path / "run" / "config.json").read_text()
        with pytest.raises(UsageError, match="start a new run with another run_id"):
            train(tmp_path, number_of_steps=5, **kwargs)
        assert (tmp_path / "run" / "config.json").read_text() == settings

    def test_what_can_change_within_a_run_is_listed(self, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        train(tmp_path)
        train(tmp_path, number_of_steps=5, learning_rate=0.5)
        start = (
            "Run run goes on with other settings: learning_rate 0.5 (was 0.001), number_of_steps"
        )
        assert [line for line in caplog.messages if line.startswith(start)]

    def test_a_log_directory_stands_for_its_latest_run(self, tmp_path):
        train(tmp_path, run_id="old")
        train(tmp_path, run_id="new", restore_path=tmp_path)
        assert RunConfig.load(tmp_path / "new").restore_path.endswith("old/model.ckpt-3")

    def test_the_image_shape_of_arrays_is_their_own(self, tmp_path):
        train(tmp_path, image_shape=None)
        assert RunConfig.load(tmp_path / "run").image_shape == tiny.IMAGE_SHAPE

    def test_fine_tuning_takes_all_but_the_excluded_scope(self, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        train(tmp_path, run_id="old", number_of_steps=5)
        train(
            tmp_path,
            run_id="new",
            restore_path=tmp_path / "old",
            exclude_from_restore=["tiny/logits"],
            trainable_scopes=["tiny/logits"],
            seed=2,
        )
        old, new = (read_variables(tmp_path / run) for run in ("old", "new"))
        np.testing.assert_array_equal(new["tiny/fc/weights"], old["tiny/fc/weights"])
        np.testing.assert_array_equal(new["tiny/conv/weights"], old["tiny/conv/weights"])
        assert not np.allclose(new["tiny/logits/weights"], old["tiny/logits/weights"], atol=0.1)
        assert new["global_step"] == 3
        assert "restored                            6" in caplog.text

    def test_an_excluded_scope_is_a_whole_name(self, tmp_path):
        train(tmp_path, run_id="old")
        train(
            tmp_path, run_id="new", restore_path=tmp_path / "old", exclude_from_restore=["tiny/f"],
            number_of_steps=1, learning_rate=1e-9, seed=2,
        )  # fmt: skip
        old, new = (read_variables(tmp_path / run) for run in ("old", "new"))
        np.testing.assert_allclose(new["tiny/fc/weights"], old["tiny/fc/weights"], atol=1e-6)


class TestBadInput:
    """Whatever is wrong is said before anything is written."""

    def check(self, tmp_path, error, match, *args, **kwargs):
        with pytest.raises(error, match=match):
            train(tmp_path / "log", *args, **kwargs)
        leftovers = [path for path in (tmp_path / "log").rglob("*") if path.is_file()]
        assert leftovers == []

    def test_fewer_identities_than_a_batch_takes(self, tmp_path):
        self.check(tmp_path, DataError, "needs 10 identities, but the data has 6", batch_size=20)

    def test_a_label_beyond_the_classes(self, tmp_path):
        images, labels = draw_images(num_identities=7)
        self.check(
            tmp_path,
            DataError,
            "label 6 is out of range: the network has 6 classes",
            images,
            labels,
        )

    def test_batch_size_no_multiple_of_k(self, tmp_path):
        self.check(tmp_path, UsageError, r"multiple of num_images_per_id \(2\): use 8 or 10",
                   batch_size=9)  # fmt: skip

    def test_a_checkpoint_that_is_not_there(self, tmp_path):
        self.check(tmp_path, MissingPathError, "nowhere", restore_path=tmp_path / "nowhere")

    def test_an_image_that_is_not_there(self, tmp_path, image_files):
        filenames, labels = image_files
        filenames[7].unlink()
        self.check(tmp_path, MissingPathError, "007.png does not exist", filenames, labels,
                   number_of_steps=50)  # fmt: skip

    def test_an_image_that_cannot_be_read(self, tmp_path, image_files):
        filenames, labels = image_files
        filenames[7].write_bytes(b"no image at all")
        self.check(tmp_path, DataError, "007.png cannot be read", filenames, labels,
                   number_of_steps=50)  # fmt: skip

    def test_a_failed_run_is_not_the_latest(self, tmp_path):
        train(tmp_path, run_id="good")
        with pytest.raises(MissingPathError):
            train(tmp_path, ["gone.png"] * 30, run_id="bad")
        assert folder.find_latest_run(tmp_path) == "good"
        assert not (tmp_path / "bad").exists()

    def test_files_need_an_image_shape(self, tmp_path, image_files):
        self.check(
            tmp_path, UsageError, "image_shape must be given", *image_files, image_shape=None
        )

    def test_data_of_another_type(self, tmp_path):
        self.check(tmp_path, TypeError, "use file names", np.zeros((30, 4)))


def create_trainer(loss_mode="cosine-softmax", num_classes=NUM_CLASSES, **kwargs):
    return training.create_trainer(
        tiny.preprocess,
        tiny.create_network_factory(is_training=True, num_classes=num_classes),
        read_from_file=False,
        image_shape=tiny.IMAGE_SHAPE,
        batch_size=8,
        loss_mode=loss_mode,
        **kwargs,
    )


class TestCreateTrainer:
    @pytest.mark.parametrize("label", [-1, NUM_CLASSES])
    def test_the_step_itself_refuses_labels_out_of_range(self, tmp_path, label):
        trainer, train_op = create_trainer()
        images, _ = draw_images()
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"labels must be in \[0, 6\)"):
            trainer.run(iter([(images[:8], np.full(8, label))]), train_op, tmp_path)

    def test_unknown_trainable_scope(self):
        with pytest.raises(UsageError, match="'tinny' has no variables: use some of tiny"):
            create_trainer(trainable_scopes=["tinny"])

    @pytest.mark.parametrize(
        "scopes, trained",
        [
            (["tiny/(fc|conv)"], {"tiny/fc", "tiny/conv"}),
            (["tiny/.*c.*"], {"tiny/fc", "tiny/conv"}),
            (["tiny/f"], None),
            (["tiny/f."], {"tiny/fc"}),
        ],
    )
    def test_a_scope_may_be_a_regular_expression_for_whole_names(self, scopes, trained):
        if trained is None:
            with pytest.raises(UsageError, match="has no variables"):
                create_trainer(trainable_scopes=scopes)
            return
        create_trainer(trainable_scopes=scopes)
        adam = [v.op.name for v in tf.global_variables() if v.op.name.endswith("/Adam")]
        assert {"/".join(name.split("/")[:2]) for name in adam} == trained

    def test_what_is_no_regular_expression_is_refused(self):
        with pytest.raises(UsageError, match="is no regular expression"):
            create_trainer(trainable_scopes=["tiny/("])

    def test_only_trainable_scopes_get_gradients(self):
        create_trainer(trainable_scopes=["tiny/fc"])
        slots = {v.op.name for v in tf.global_variables() if v.op.name.endswith("/Adam")}
        assert slots == {"tiny/fc/weights/Adam", "tiny/fc/biases/Adam"}

    def test_cosine_softmax_needs_logits(self):
        with pytest.raises(UsageError, match="add_logits=True"):
            create_trainer(num_classes=None)

    @pytest.mark.parametrize("loss_mode", ["magnet", "triplet"])
    def test_the_metric_losses_need_none(self, loss_mode):
        create_trainer(loss_mode, num_classes=None)

    def test_decoding_and_queue_are_placed_on_the_cpu(self, graph):
        create_trainer()
        queue_ops = [op for op in graph.get_operations() if "Queue" in op.type]
        assert queue_ops
        assert all(op.device.lower().endswith("cpu:0") for op in queue_ops if "Size" not in op.type
                   and "Dequeue" not in op.type)  # fmt: skip

    def test_the_summaries_are_those_that_are_promised(self, tmp_path):
        train(tmp_path, number_of_steps=1)
        tags = summary_tags(tmp_path / "run")
        images = {tag for tag in tags if tag.startswith("images/image")}
        assert images
        assert tags - images == {
            "cross_entropy_loss",
            "weight_loss",
            "total_loss",
            "learning_rate",
            "classification_accuracy",
            "magnet_loss",
            "triplet_loss",
            "triplet/farthest_positive",
            "triplet/nearest_negative",
            "triplet/share_solved",
            "queue/share_filled",
            "feed/num_bad_images",
            "features/spread",
            "cosine_distance/within_identities",
            "cosine_distance/between_identities",
            "global_step/sec",
            "custom_scalars__config__",  # which curves share a chart
        }

    def test_the_total_loss_of_the_real_network_is_loss_plus_regularization(self):
        _, train_op = training.create_trainer(
            deep_sort.preprocess,
            deep_sort.create_network_factory(is_training=True, num_classes=5, add_logits=True),
            read_from_file=False,
            image_shape=(32, 16, 3),
            batch_size=4,
            loss_mode="cosine-softmax",
        )
        (loss,) = tf.losses.get_losses()
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            variable = next(v for v in slim.get_model_variables() if v.op.name == "ball/scale")
            variable.load(2.0, session)
            images = np.zeros((4, 32, 16, 3), np.float32)
            queue_output = _dequeued(train_op.graph)
            feed = {queue_output[0]: images, queue_output[1]: np.arange(4)}
            total, part, scale_penalty = session.run(
                [tf.losses.get_total_loss(), loss, tf.losses.get_regularization_loss()], feed
            )
        assert scale_penalty == pytest.approx(0.1 * 2.0**2 / 2, rel=1e-3)
        assert total == pytest.approx(part + scale_penalty, rel=1e-6)


def _dequeued(graph):
    (op,) = [op for op in graph.get_operations() if op.type == "QueueDequeueV2"]
    return op.outputs


def test_how_to_compute_may_be_told_by_settings_that_have_more(tmp_path):
    config = RunConfig(tiny.IMAGE_SHAPE, batch_size=4, intra_op_threads=2)
    train(tmp_path, compute=config)
    assert RunConfig.load(tmp_path / "run").intra_op_threads == 2
    assert RunConfig.load(tmp_path / "run").batch_size == 8
    with pytest.raises(TypeError, match="compute is None: use ComputeSettings"):
        train(tmp_path, compute=None)
