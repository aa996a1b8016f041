"""The settings that say how a network learns: each changes what its formula says."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from deep_reid import losses, nets
from deep_reid.compat import slim, tf
from deep_reid.config import RunConfig, recipes
from deep_reid.config.setting import list_settings
from deep_reid.errors import DataError, UsageError
from deep_reid.nets import batch_norm, start
from deep_reid.nets.building import build_network
from deep_reid.training import graph as training_graph
from deep_reid.training.loop import check_labels
from deep_reid.training.optimizers import create_learning_rate

IMAGE_SHAPE = (32, 16, 3)
LABELS = np.repeat(np.arange(4), 2)
RANDOM = np.random.RandomState(3)
IMAGES = RANDOM.uniform(size=(8, *IMAGE_SHAPE)).astype(np.float32)


def settings(**changes):
    given = {"image_shape": IMAGE_SHAPE, "batch_size": 8, "num_images_per_id": 2}
    return RunConfig(**given | changes)


def network(name="deep_sort", is_training=True, num_classes=5):
    return nets.load_network(name).create_network_factory(
        is_training=is_training, num_classes=num_classes, add_logits=num_classes is not None
    )


def linear(images):
    """A network without dropout or batch norm, whose steps can be computed by hand."""
    pixels = slim.flatten(images)[:, :6]
    weights = slim.model_variable(
        "weights",
        (6, 5),
        initializer=tf.constant_initializer(np.arange(30.0).reshape(6, 5) / 30 - 0.5),
    )
    biases = slim.model_variable("biases", (5,), initializer=tf.zeros_initializer())
    features = tf.matmul(pixels, weights) + biases
    return features, features


def start_values(config, name="deep_sort"):
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        with start.starting(config):
            build_network(network(name), tf.constant(IMAGES))
        session.run(tf.global_variables_initializer())
        names = {variable.op.name: variable for variable in tf.global_variables()}
        return session.run(names)


def train(config, factory=linear, num_steps=1):
    """Return the losses, and the variables before the first step and after each."""
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        step = training_graph.create_step(
            factory,
            tf.constant(IMAGES),
            tf.constant(LABELS),
            create_learning_rate(config),
            config,
        )
        session.run(tf.global_variables_initializer())
        names = {variable.op.name: variable for variable in tf.global_variables()}
        found, values = [], [session.run(names)]
        for _ in range(num_steps):
            found.append(session.run(step.train_op))
            values.append(session.run(names))
        return found, values


@pytest.mark.parametrize("name", ["deep_sort", "mars_small128"])
class TestStart:
    def test_he_keeps_the_variance_and_the_default_is_tiny(self, name):
        default, he = (start_values(settings(**s), name) for s in ({}, {"weight_init": "he"}))
        compared = [key for key in he if key.endswith("weights") or key == "ball/mean_vectors"]
        assert len(compared) > 14
        for key in compared:
            fan_in = np.prod(he[key].shape[:-1])
            assert np.std(default[key]) < 1.1e-3
            tolerance = 6 / math.sqrt(2 * he[key].size)
            assert np.std(he[key]) == pytest.approx(math.sqrt(2 / fan_in), rel=tolerance)

    @pytest.mark.parametrize("scale", [0.01, 1.0, 16.0, 500.0])
    def test_the_logit_scale_starts_where_it_is_told(self, name, scale):
        value = start_values(settings(logit_scale_init=scale), name)["ball/scale"]
        np.testing.assert_allclose(np.logaddexp(0, np.float64(value)), scale, rtol=1e-6)
        assert not np.any(start_values(settings(), name)["ball/scale"])

    @pytest.mark.parametrize("penalty", [0.0, 0.7])
    def test_the_logit_scale_has_its_penalty(self, name, penalty):
        config = settings(
            logit_scale_penalty=penalty, logit_scale_init=3.0, weight_decay=0.0, loss_mode="triplet"
        )
        with tf.Graph().as_default(), tf.Session() as session:
            with start.starting(config):
                build_network(network(name), tf.constant(IMAGES))
            session.run(tf.global_variables_initializer())
            scale = next(v for v in tf.global_variables() if v.op.name == "ball/scale")
            expected = penalty * np.sum(np.square(session.run(scale))) / 2
            total = tf.losses.get_regularization_loss()
            assert session.run(total) == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("decay", [0.0, 0.9])
    def test_weights_have_their_penalty(self, name, decay):
        config = settings(weight_decay=decay, logit_scale_penalty=0.0, weight_init="he")
        with tf.Graph().as_default(), tf.Session() as session:
            with start.starting(config):
                build_network(network(name), tf.constant(IMAGES))
            session.run(tf.global_variables_initializer())
            weights = [v for v in tf.global_variables() if v.op.name.endswith("/weights")]
            expected = decay * sum(np.sum(np.square(w)) for w in session.run(weights)) / 2
            total = tf.losses.get_regularization_loss()
            assert session.run(total) == pytest.approx(expected, rel=1e-4)

    def test_averages_move_by_their_decay(self, name):
        with tf.Graph().as_default():
            with start.starting(settings(batch_norm_decay=0.9)):
                build_network(network(name), tf.constant(IMAGES))
            found = batch_norm.list_gathered(tf.get_default_graph())
        assert len(found) >= 22
        assert {round(one.decay, 6) for one in found.values()} == {0.9}


class TestNothingIsIgnored:
    @pytest.mark.parametrize(
        "setting",
        [
            {"weight_init": "he"},
            {"logit_scale_init": 2.0},
            {"logit_scale_penalty": 0.0},
            {"batch_norm_decay": 0.5},
            {"weight_decay": 0.1},
        ],
    )
    def test_a_network_that_does_not_take_a_setting_is_an_error(self, setting):
        with pytest.raises(UsageError, match=f"{next(iter(setting))} .* would change nothing"):
            train(settings(**setting))

    def test_each_setting_of_the_start_is_tried_above(self):
        marks = TestNothingIsIgnored.test_a_network_that_does_not_take_a_setting_is_an_error
        tried = [next(iter(one)) for one in marks.pytestmark[0].args[1]]
        assert sorted(tried) == sorted(start.NAMES)

    def test_a_classifier_that_tells_no_scale_cannot_have_a_margin(self):
        with pytest.raises(UsageError, match="logit_margin .*add_logit_scale"):
            train(settings(logit_margin=0.2))

    def test_a_loss_without_a_classifier_cannot_have_its_start(self):
        config = settings(loss_mode="triplet", logit_scale_init=16.0)
        with pytest.raises(UsageError, match="has no classifier"):
            train(config, network(num_classes=None))

    @pytest.mark.parametrize(
        "wrong",
        [
            {"label_smoothing": 0.1, "loss_mode": "triplet"},
            {"logit_margin": 0.1, "loss_mode": "magnet"},
            {"triplet_weight": 1.0, "loss_mode": "triplet"},
            {"magnet_weight": 1.0, "loss_mode": "magnet"},
            {"recolor_identities": True, "image_shape": (32, 16, 1)},
            {"lr_schedule": "cosine"},
            {"lr_schedule": "exponential"},
            {"lr_schedule": "cosine", "number_of_steps": 10, "warmup_steps": 10},
        ],
    )
    def test_settings_that_do_not_go_together_are_refused(self, wrong):
        with pytest.raises(UsageError):
            settings(**wrong)

    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("weight_init", ["xavier", None, 1]),
            ("logit_scale_init", [0, -1.0, math.nan, math.inf, "16", True]),
            ("logit_scale_penalty", [-0.1, math.nan, math.inf]),
            ("batch_norm_decay", [1.0, -0.1, 1.5, math.nan]),
            ("lr_schedule", ["linear", ""]),
            ("warmup_steps", [-1, 1.5, True]),
            ("augment", [("flip", "rotate"), "crop", (1,)]),
            ("recolor_identities", [1, "yes", None]),
            ("label_smoothing", [1.0, -0.1, math.nan]),
            ("logit_margin", [-0.1, math.inf]),
            ("triplet_weight", [-1.0, math.nan]),
            ("magnet_weight", [-1.0, math.nan]),
            ("weight_decay", [-1e-9, math.nan, math.inf]),
            ("optimizer", ["rmsprop", "Adam"]),
            ("ema_decay", [1.0, -0.5, math.nan]),
            ("num_images_per_id", [0, -4, 1.5]),
        ],
    )
    def test_values_out_of_range_are_refused_by_name(self, name, values):
        for value in values:
            with pytest.raises(UsageError, match=name):
                settings(**{name: value})

    def test_each_setting_of_the_group_is_tried_above(self):
        test = TestNothingIsIgnored.test_values_out_of_range_are_refused_by_name
        tried = {name for name, _ in test.pytestmark[0].args[1]}
        group = {n for n, known in list_settings(RunConfig).items() if known.group == "recipe"}
        assert tried == group


class TestSoftmax:
    LOGITS = RANDOM.normal(size=(8, 5)).astype(np.float32)

    def compute(self, **kwargs):
        with tf.Session() as session:
            loss = losses.cosine_softmax_loss(tf.constant(self.LOGITS), LABELS, **kwargs)
            return session.run(loss)

    def by_hand(self, smoothing=0.0, margin=0.0, scale=1.0):
        total = 0.0
        for row, label in zip(np.float64(self.LOGITS), LABELS, strict=True):
            logits = row.copy()
            logits[label] -= margin * np.broadcast_to(scale, 5)[label]
            log_probabilities = logits - np.log(np.sum(np.exp(logits)))
            target = np.full(5, smoothing / 5)
            target[label] += 1 - smoothing
            total -= np.sum(target * log_probabilities)
        return total / len(LABELS)

    @pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
    @pytest.mark.parametrize("margin", [0.0, 0.35])
    @pytest.mark.parametrize("scale", [1.0, 7.5, np.array([1, 2, 3, 4, 5])])
    def test_smoothing_and_margin_are_those_of_the_formula(self, smoothing, margin, scale):
        found = self.compute(
            label_smoothing=smoothing, margin=margin, scale=tf.constant(scale, tf.float32)
        )
        assert found == pytest.approx(self.by_hand(smoothing, margin, scale), rel=1e-5)

    @pytest.mark.parametrize("name", ["deep_sort", "mars_small128"])
    def test_the_margin_is_in_units_of_the_network_s_cosines(self, name):
        changes = {"weight_init": "he", "logit_scale_init": 10.0, "weight_decay": 0.0}
        changes |= {"logit_scale_penalty": 0.0}
        with tf.Graph().as_default(), tf.Session() as session:
            tf.set_random_seed(1)
            config = settings(logit_margin=0.3, **changes)
            with start.starting(config):
                features, logits = build_network(network(name), tf.constant(IMAGES))
            loss = losses.add_training_loss(
                "cosine-softmax", features, logits, tf.constant(LABELS),
                logit_margin=0.3, logit_scale=start.find_logit_scale(),
            )  # fmt: skip
            session.run(tf.global_variables_initializer())
            found, values = session.run([loss, logits])
        self.LOGITS = values
        assert found == pytest.approx(self.by_hand(margin=0.3, scale=10.0), rel=1e-4)


class TestFurtherLosses:
    @pytest.mark.parametrize("mode", ["triplet", "magnet"])
    def test_are_added_with_their_weight(self, mode):
        with tf.Graph().as_default(), tf.Session() as session:
            features = tf.constant(RANDOM.normal(size=(8, 5)), tf.float32)
            labels = tf.constant(LABELS)
            alone = {
                name: losses.add_training_loss(name, features, features, labels)
                for name in ("cosine-softmax", mode)
            }
            before = tf.losses.get_total_loss(add_regularization_losses=False)
            together = losses.add_training_loss(
                "cosine-softmax", features, features, labels, further={mode: 0.25}
            )
            after = tf.losses.get_total_loss(add_regularization_losses=False)
            parts, value, added = session.run([alone, together, after - before])
        expected = parts["cosine-softmax"] + 0.25 * parts[mode]
        assert value == pytest.approx(expected, rel=1e-5)
        assert added == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("mode", ["triplet", "magnet"])
    def test_a_run_trains_on_them(self, mode):
        (plain,), _ = train(settings())
        (more,), _ = train(settings(**{f"{mode}_weight": 2.0}))
        assert more > plain + 1e-3


class TestRecoloring:
    def feed(self, **changes):
        """Return the images that a training step gives to the network, and its classes."""
        fed = {}

        def factory(images):
            fed["images"] = images
            logits = tf.zeros((8, 24)) + tf.reduce_sum(linear(images)[0])
            return logits, logits

        config = settings(recolor_identities=True, **changes)
        with tf.Graph().as_default(), tf.Session() as session:
            tf.set_random_seed(2)
            images, labels = tf.constant(IMAGES), tf.constant(LABELS)
            step = training_graph.create_step(factory, images, labels, 0.1, config)
            session.run(tf.global_variables_initializer())
            _, found = session.run([step.train_op, fed["images"]])
        return found, step.num_classes

    def test_a_step_learns_from_recolored_images_and_their_labels(self):
        found, num_classes = self.feed()
        assert num_classes == 24
        assert not np.array_equal(found, IMAGES)
        np.testing.assert_array_equal(np.sort(found, axis=3), np.sort(IMAGES, axis=3))

    def test_backgrounds_are_those_of_recolored_images(self):
        found, _ = self.feed(augment=("background",))
        orders = list(itertools.permutations(range(3)))
        body, corner = (16, 8), (0, 0)
        own, others = (
            [
                next(
                    (number, order)
                    for number, image in enumerate(IMAGES)
                    for order in orders
                    if np.array_equal(pixels[place], image[place][list(order)])
                )
                for pixels in found
            ]
            for place in (body, corner)
        )
        assert [number for number, _ in own] == list(range(8))
        assert [number for number, _ in others] != list(range(8))
        assert all(own[number][1] == order for number, order in others)
        assert len({order for _, order in own}) > 1

    def test_a_network_with_one_class_per_identity_is_refused(self):
        with pytest.raises(DataError, match="24 classes, 6 for each label; labels must be 0 to 3"):
            check_labels(np.arange(5), 24, settings(recolor_identities=True).classes_per_identity)


class TestOptimizer:
    def gradients(self):
        """Return the gradients of the first step, computed by TensorFlow alone."""
        with tf.Graph().as_default(), tf.Session() as session:
            features, _ = linear(tf.constant(IMAGES))
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=LABELS, logits=features)
            )
            gradients = tf.gradients(loss, tf.trainable_variables())
            session.run(tf.global_variables_initializer())
            names = [variable.op.name for variable in tf.trainable_variables()]
            return dict(zip(names, session.run(gradients), strict=True))

    def test_sgd_has_nesterov_s_momentum(self):
        _, (before, after) = train(settings(optimizer="sgd", learning_rate=0.1))
        for name, gradient in self.gradients().items():
            # The first velocity is the gradient: gradient + 0.9 * velocity.
            np.testing.assert_allclose(
                after[name], before[name] - 0.1 * 1.9 * gradient, rtol=1e-4, atol=1e-7
            )

    def test_adam_makes_steps_of_the_learning_rate(self):
        _, (before, after) = train(settings(learning_rate=0.01))
        for name, gradient in self.gradients().items():
            is_clear = abs(gradient) > 1e-4
            expected = before[name] - 0.01 * np.sign(gradient)
            np.testing.assert_allclose(after[name][is_clear], expected[is_clear], atol=1e-5)

    @pytest.mark.parametrize(("decay", "expected"), [(None, 0.01), (0.2, 0.2), (0.0, 0.0)])
    def test_adamw_lets_matrices_decay_and_vectors_not(self, decay, expected):
        _, (before, adam) = train(settings(learning_rate=0.01))
        _, (_, adamw) = train(settings(learning_rate=0.01, optimizer="adamw", weight_decay=decay))
        difference = adamw["weights"] - adam["weights"]
        np.testing.assert_allclose(difference, -0.01 * expected * before["weights"], atol=1e-7)
        np.testing.assert_array_equal(adamw["biases"], adam["biases"])

    def test_with_adamw_there_is_no_penalty_on_weights(self):
        config = settings(optimizer="adamw", weight_decay=5.0, logit_scale_penalty=0.0)
        with tf.Graph().as_default(), tf.Session() as session:
            with start.starting(config):
                build_network(network(), tf.constant(IMAGES))
            session.run(tf.global_variables_initializer())
            assert session.run(tf.losses.get_regularization_loss()) == 0.0


class TestLearningRate:
    @pytest.mark.parametrize("schedule", ["constant", "exponential", "cosine"])
    @pytest.mark.parametrize("warmup", [0, 4])
    def test_follows_its_formula(self, schedule, warmup):
        config = settings(
            learning_rate=0.5, lr_schedule=schedule, warmup_steps=warmup, number_of_steps=20
        )
        found, expected = [], []
        with tf.Graph().as_default(), tf.Session() as session:
            rate = tf.convert_to_tensor(create_learning_rate(config))
            step = tf.train.get_or_create_global_step()
            session.run(tf.global_variables_initializer())
            for number in range(25):
                found.append(session.run(rate))
                part = min(max((number - warmup) / (20 - warmup), 0.0), 1.0)
                value = 0.5 * (min(1.0, (number + 1) / warmup) if warmup else 1.0)
                if schedule == "cosine":
                    value *= (1 + math.cos(math.pi * part)) / 2
                elif schedule == "exponential":
                    value *= 0.01**part
                expected.append(value)
                session.run(step.assign_add(1))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)

    def test_a_step_is_made_with_the_rate_of_its_number(self):
        config = settings(
            optimizer="adam", learning_rate=0.1, lr_schedule="cosine", number_of_steps=4
        )
        _, values = train(config, num_steps=4)
        moved = abs(np.diff([value["weights"] for value in values], axis=0)).max(axis=(1, 2))
        rates = [0.1 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]
        np.testing.assert_allclose(moved[0], rates[0], rtol=1e-3)
        assert all(move < 1.2 * rate for move, rate in zip(moved, rates, strict=True))

    def test_is_a_plain_number_by_default(self):
        assert create_learning_rate(settings(learning_rate=0.25)) == 0.25


class TestAverages:
    def test_are_those_of_the_formula(self):
        config = settings(ema_decay=0.75, learning_rate=0.1)
        _, values = train(config, num_steps=6)
        for name in ("weights", "biases"):
            average = values[0][name]
            for number, value in enumerate(values[1:], 1):
                decay = min(0.75, (1 + number) / (10 + number))
                average = decay * average + (1 - decay) * value[name]
            found = values[-1][f"{name}/ExponentialMovingAverage"]
            np.testing.assert_allclose(found, average, rtol=1e-5, atol=1e-7)

    def test_do_not_change_the_training(self):
        plain, _ = train(settings(), num_steps=4)
        averaged, _ = train(settings(ema_decay=0.9), num_steps=4)
        assert plain == averaged


class TestRecipes:
    @pytest.mark.parametrize("compact_labels", [False, True])
    def test_faithful_takes_back_what_the_others_change(self, compact_labels):
        default = settings(compact_labels=compact_labels)
        faithful = recipes.settings_of("faithful", default, "cosine-softmax")
        strong = recipes.settings_of("strong", default, "cosine-softmax")
        assert set(faithful) == set(strong)
        changed = dataclasses.replace(default, number_of_steps=9, **strong)
        assert dataclasses.replace(changed, number_of_steps=None, **faithful) == default
        assert sum(strong[name] != faithful[name] for name in strong) > 4

    def test_some_settings_are_for_few_identities(self):
        few = recipes.FEW_IDENTITIES
        background = {"augment": ("flip", "background")}
        both = {"recolor_identities": True, **background}
        assert recipes.settings_for_few("strong", settings(), few - 1) == both
        assert recipes.settings_for_few("strong", settings(), few) == {}
        assert recipes.settings_for_few("faithful", settings(), 2) == {}
        triplet = settings(loss_mode="triplet")
        assert recipes.settings_for_few("strong", triplet, 2) == background
        gray = settings(image_shape=(32, 16, 1))
        assert recipes.settings_for_few("strong", gray, 2) == background

    @pytest.mark.parametrize("loss_mode", ["cosine-softmax", "triplet", "magnet"])
    @pytest.mark.parametrize("recipe", recipes.RECIPES)
    def test_each_goes_with_each_loss(self, recipe, loss_mode):
        of_recipe = recipes.settings_of(recipe, settings(), loss_mode)
        config = settings(loss_mode=loss_mode, number_of_steps=10, **of_recipe)
        num_classes = 5 if loss_mode == "cosine-softmax" else None
        found, _ = train(config, network(num_classes=num_classes))
        assert np.isfinite(found).all()
