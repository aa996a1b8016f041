"""A network and a loss of the user's own, in all modes and ways in."""

import logging

import cv2
import numpy as np
import pytest
import tiny

from datasets.custom import Custom
from deep_reid import Encoder, cli, losses, nets, train_app
from deep_reid.compat import tf
from deep_reid.config import ComputeSettings, RunConfig
from deep_reid.config.loss_modes import LossFacts, facts_of_loss
from deep_reid.distances import cosine_distance, measure_of_loss_mode, pdist
from deep_reid.errors import UsageError
from deep_reid.runs import checkpoints
from deep_reid.runtime import precision

NETWORKS = """
import tiny
from tiny import Net

class Picky(Net):
    def fits(self, variable_shapes):
        return "picky" in variable_shapes

    def num_classes_in(self, variable_shapes):
        shape = variable_shapes.get("tiny/logits/weights")
        return None if shape is None else shape[1]

class Half:
    preprocess = Net.preprocess

class Mute(Net):
    preprocess = 3

class Lonely(Net):
    def create_network_factory(self, is_training, num_classes, add_logits):
        return lambda images: tiny.create_network_factory(is_training)(images)[0]
"""
LOSSES = """
from deep_reid.compat import tf
from deep_reid.distances import pdist

def spread(features, logits, labels):
    return -1e-3 * tf.reduce_mean(pdist(features))

spread.measure = "euclidean"

def entropy(features, logits, labels):
    return tf.losses.sparse_softmax_cross_entropy(labels, logits)

entropy.needs_logits = True

class Power:
    exponent = 2

    def __call__(self, features, logits, labels):
        return tf.reduce_mean(tf.abs(features) ** self.exponent)

def _hidden(features, logits, labels):
    return tf.reduce_mean(features)

def rows(features, logits, labels):
    return tf.reduce_mean(features, axis=1)

def nothing(features, logits, labels):
    pass

def whole(features, logits, labels):
    return tf.constant(3)

def far(features, logits, labels):
    return tf.reduce_mean(features)

far.measure = "manhattan"

def unsure(features, logits, labels):
    return tf.reduce_mean(features)

unsure.needs_logits = "no"
number = 3

def pair(features, labels):
    return tf.reduce_mean(features)
"""
ROWS = np.random.default_rng(1).normal(size=(8, 6)).astype(np.float32)
LABELS = np.repeat(np.arange(4), 2)
MONITORS = {"cross_entropy_loss", "magnet_loss", "triplet_loss"}


@pytest.fixture
def own(write_module):
    write_module("own.py", NETWORKS)
    write_module("own_losses.py", LOSSES)


@pytest.fixture
def people(own, tmp_path):
    random = np.random.default_rng(0)
    for name in "abcdefgh":
        (tmp_path / "people" / name).mkdir(parents=True)
        for number in range(4):
            image = random.integers(0, 256, (32, 16, 3), np.uint8)
            cv2.imwrite(str(tmp_path / "people" / name / f"{number}.png"), image)
    return tmp_path


def run(caplog, *argv):
    """Run the script in this process; return exit code and the error lines."""
    caplog.clear()
    caplog.set_level(logging.INFO)
    code = cli.main(Custom, [str(arg) for arg in argv])
    return code, [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


def train(caplog, *argv):
    return run(
        caplog, "--mode=train", "--dataset=people", "--batch_size=8", "--image_shape", "32", "16",
        "--number_of_steps=2", "--run_id=run", *argv,
    )  # fmt: skip


def summaries():
    values = tf.Summary.FromString(compute(tf.summary.merge_all())).value
    return {value.tag: value.simple_value for value in values}


def compute(fetches):
    with tf.Session() as session:
        return session.run(fetches)


class TestNetwork:
    def test_all_modes_and_the_encoder_know_it_from_the_run(self, people, caplog):
        assert train(caplog, "--network=own:Net") == (0, [])
        run_dir = people / "output/custom/train/run"
        config = RunConfig.load(run_dir)
        assert (config.network, config.num_classes) == ("own:Net", 6)
        for argv in (["--mode=eval", "--max_num_evaluations=1"], ["--mode=test"],
                     ["--mode=finalize"], ["--mode=freeze"], ["--mode=export"]):  # fmt: skip
            assert run(caplog, *argv) == (0, []), argv
        shapes = checkpoints.variable_shapes(run_dir / "export" / "custom.ckpt")
        assert shapes["tiny/logits/weights"] == [8, 6]  # as many as the run has recorded
        images = [cv2.imread(str(path)) for path in sorted(people.glob("people/*/*.png"))]
        features = []
        for path in (run_dir, run_dir / "export" / "custom.pb"):
            with Encoder(path) as encoder:
                features.append(encoder(images))
        np.testing.assert_array_equal(*features)
        with Encoder(
            run_dir / "export" / "custom.ckpt", network="own:Net", image_shape=(32, 16, 3)
        ) as encoder:
            np.testing.assert_array_equal(encoder(images), features[0])
        code, errors = train(caplog, "--network=deep_sort")
        assert code == 2
        assert "has network own:Net, not deep_sort" in errors[0]

    def test_what_it_knows_of_checkpoints_is_asked(self, people, caplog):
        assert train(caplog, "--network=own:Picky") == (0, [])
        code, errors = run(caplog, "--mode=freeze")
        assert code == 2
        assert "is of another network than own:Picky: name it with --network" in errors[0]
        picky = nets.load_network("own:Picky")
        assert nets.find_num_classes(picky, {"tiny/logits/weights": [8, 5]}, 6) == 5
        assert nets.find_num_classes(picky, {}, 6) is None
        net = nets.load_network("own:Net")
        assert nets.find_num_classes(net, {"tiny/logits/weights": [8, 5]}, 6) == 6

    @pytest.mark.parametrize(
        ("network", "part"),
        [
            ("own:Half", "own:Half.create_network_factory(is_training, num_classes, add_logits)"),
            ("own:tiny", "got an unexpected keyword argument 'add_logits'; docs/extending.md"),
            ("own:Mute", "own:Mute.preprocess(image, is_training) cannot be called, as it is"),
            ("own:Nett", "did you mean Net?"),
            ("absent:Net", "there is no module absent in"),
            ("own:Lonely", "return (features, logits), with None in place of logits"),
        ],
    )  # fmt: skip
    def test_one_that_cannot_be_used_is_told_in_one_line(self, people, caplog, network, part):
        code, errors = train(caplog, f"--network={network}")
        assert code == 2
        assert len(errors) == 1
        assert part in errors[0]
        assert "\n" not in errors[0]
        assert not (people / "output").exists() or not list(people.glob("output/custom/train/run"))

    def test_one_that_is_gone_is_told_in_each_mode(self, people, caplog):
        assert train(caplog, "--network=own:Net") == (0, [])
        (people / "output/custom/train/run/config.json").write_text(
            (people / "output/custom/train/run/config.json").read_text().replace("own:", "gone:")
        )
        for mode in ("eval", "test", "freeze"):
            code, errors = run(caplog, f"--mode={mode}")
            assert code == 2
            assert "gone:Net: there is no module gone in" in errors[0]
        with pytest.raises(UsageError, match="there is no module gone"):
            Encoder("output/custom/train/run")

    @pytest.mark.parametrize("name", ["resnet", "", None])
    def test_an_unknown_name_is_refused_with_the_right_ones(self, name):
        with pytest.raises(UsageError, match="use one of deep_sort, mars_small128, or MODULE:NAME"):
            nets.load_network(name)


class TestFacts:
    @pytest.mark.parametrize(
        ("loss_mode", "facts", "distance"),
        [
            ("own_losses:spread", LossFacts(False, "euclidean"), pdist),
            ("own_losses:entropy", LossFacts(True, "cosine"), cosine_distance),
            ("own_losses:Power", LossFacts(False, "cosine"), cosine_distance),
            ("cosine-softmax", LossFacts(True, "cosine"), cosine_distance),
            ("magnet", LossFacts(False, "euclidean"), pdist),
            ("triplet", LossFacts(False, "euclidean"), pdist),
        ],
    )
    def test_a_loss_says_what_it_needs_and_how_to_rank(self, own, loss_mode, facts, distance):
        assert facts_of_loss(loss_mode) == facts
        assert measure_of_loss_mode(loss_mode) is distance

    @pytest.mark.parametrize(
        ("name", "part"),
        [
            ("far", "has measure = 'manhattan': use 'cosine' or 'euclidean'"),
            ("unsure", "has needs_logits = 'no': use True or False"),
            ("number", "(features, logits, labels) cannot be called, as it is of type int"),
            ("pair", "(features, logits, labels) cannot be called with these arguments:"),
            ("spred", "did you mean spread?"),
        ],
    )
    def test_what_is_no_loss_is_refused(self, own, name, part):
        with pytest.raises(UsageError) as caught:
            facts_of_loss(f"own_losses:{name}")
        assert part in str(caught.value)


class TestTrainingLoss:
    @pytest.fixture(autouse=True)
    def in_a_graph(self, own, graph):
        self.batch = tf.constant(ROWS), tf.constant(ROWS), tf.constant(LABELS)

    @pytest.mark.parametrize(
        ("name", "tag", "expected"),
        [
            ("spread", "spread", -1e-3 * np.mean(np.sum((ROWS[:, None] - ROWS) ** 2, axis=2))),
            ("Power", "Power", np.mean(ROWS**2)),
            ("_hidden", "hidden", np.mean(ROWS)),
            ("entropy", "entropy", None),
        ],
    )
    def test_it_is_trained_on_once_beside_all_monitors(self, name, tag, expected):
        if expected is None:
            expected = compute(losses.cosine_softmax_loss(*self.batch[1:]))
        loss = losses.add_training_loss(f"own_losses:{name}", *self.batch)
        assert tf.losses.get_losses() == [loss]
        value, total = compute([loss, tf.losses.get_total_loss()])
        np.testing.assert_allclose([value, total], expected, rtol=1e-5)
        written = summaries()
        assert written[tag] == pytest.approx(value)
        assert set(written) >= MONITORS

    def test_monitors_can_be_left_out(self):
        losses.add_training_loss("own_losses:spread", *self.batch, monitor_losses=False)
        assert set(summaries()) == {"spread", "classification_accuracy"}

    @pytest.mark.parametrize("name", ["spread", "entropy", "Power"])
    def test_it_stays_exact_in_a_narrower_precision(self, name, monkeypatch):
        exact = losses.add_training_loss(f"own_losses:{name}", *self.batch)
        monkeypatch.setattr(precision, "check_precision", lambda compute: None)
        precision.set_precision(ComputeSettings(precision="bfloat16"))
        loss = losses.add_training_loss(f"own_losses:{name}", *self.batch)
        assert loss.dtype == tf.float32
        assert self.batch[0].dtype == tf.float32
        np.testing.assert_allclose(*compute([exact, loss]), rtol=1e-5)
        assert all(x.dtype == tf.float32 for x in tf.losses.get_losses())

    @pytest.mark.parametrize("name", ["rows", "nothing", "whole"])
    def test_what_is_not_one_number_is_refused(self, name):
        with pytest.raises(UsageError, match="but a loss is one number: return a tensor of float"):
            losses.add_training_loss(f"own_losses:{name}", *self.batch)
        assert tf.losses.get_losses() == []

    def test_without_the_logits_that_it_needs_it_is_refused(self):
        features, _, labels = self.batch
        with pytest.raises(UsageError, match="'own_losses:entropy' needs logits"):
            losses.add_training_loss("own_losses:entropy", features, None, labels)


class TestLossInARun:
    @pytest.mark.parametrize(
        ("name", "num_classes", "measure"),
        [("spread", None, "euclidean"), ("entropy", 6, "cosine")],
    )
    def test_the_network_and_the_ranking_follow_from_it(
        self, people, caplog, name, num_classes, measure
    ):
        assert train(caplog, "--network=own:Net", f"--loss_mode=own_losses:{name}") == (0, [])
        config = RunConfig.load(people / "output/custom/train/run")
        assert (config.loss_mode, config.num_classes) == (f"own_losses:{name}", num_classes)
        assert run(caplog, "--mode=eval", "--max_num_evaluations=1") == (0, [])
        assert run(caplog, "--mode=test") == (0, [])
        assert f"by {measure} distance" in caplog.text

    def test_one_that_is_gone_is_told_before_anything_is_computed(self, people, caplog):
        assert train(caplog, "--network=own:Net", "--loss_mode=own_losses:spread") == (0, [])
        for mode in ("eval", "test"):
            argv = [f"--mode={mode}", "--run_id=run", "--loss_mode=own_losses:gone"]
            code, errors = run(caplog, *argv)
            assert code == 2
            assert "own_losses:gone: module own_losses (" in errors[0]
        code, errors = train(caplog, "--run_id=new", "--loss_mode=own_losses:gone")
        assert code == 2
        assert "own_losses:gone: module own_losses (" in errors[0]
        code, errors = run(caplog, "--run_id=run", "--loss_mode=own_losses:gone")
        assert code == 2
        assert "run run has loss_mode own_losses:spread, not own_losses:gone" in errors[0]
        assert "Using checkpoint" not in caplog.text
        assert run(caplog, "--mode=freeze") == (0, [])  # which needs no loss

    @pytest.mark.parametrize("way_in", ["loop", "parser"])
    def test_scripts_name_it_as_the_command_line_does(self, own, tmp_path, way_in):
        images = np.random.default_rng(0).integers(0, 256, (16, *tiny.IMAGE_SHAPE), np.uint8)
        labels = np.repeat(np.arange(4), 4)
        kwargs = {"batch_size": 8, "log_dir": "log", "run_id": "run", "number_of_steps": 2}
        kwargs["loss_mode"] = "own_losses:spread"
        eval_kwargs = {x: kwargs[x] for x in ("log_dir", "run_id", "loss_mode")}
        eval_kwargs["eval_log_dir"] = "eval"
        if way_in == "parser":
            argv = [f"--{name}={value}" for name, value in {**kwargs, **eval_kwargs}.items()]
            args = train_app.create_default_argument_parser("own").parse_args(argv)
            kwargs, eval_kwargs = train_app.to_train_kwargs(args), train_app.to_eval_kwargs(args)
        loss = train_app.train_loop(
            tiny.preprocess, tiny.create_network_factory(True), images, labels,
            num_images_per_id=4, **kwargs,
        )  # fmt: skip
        assert -4e-3 <= loss <= 0.0
        assert RunConfig.load(tmp_path / "log/run").loss_mode == "own_losses:spread"
        scores = train_app.eval_loop(
            tiny.preprocess, tiny.create_network_factory(False), images, labels, None,
            max_num_evaluations=1, **eval_kwargs,
        )  # fmt: skip
        assert 0.0 <= scores["Precision@1"] <= 1.0
