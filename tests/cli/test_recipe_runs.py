"""Recipes, averages of the weights, and the end of a training that learns no more, in real runs."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from deep_reid import Encoder
from deep_reid.compat import tf
from deep_reid.config import RunConfig, recipes
from deep_reid.runs import checkpoints, stopping

TRAIN = [
    "--mode=train", "--dataset=people", "--log_dir=log", "--batch_size=8", "--seed=3",
    "--image_shape", "32", "16", "--num_validation=3", "--run_id=a",
]  # fmt: skip
# Scores stay as they are.
NOTHING_LEARNED = ["--learning_rate=1e-30", "--batch_norm_decay=0.9999999"]
OF_RUN = ["--run_id=a", "--log_dir=log"]


pytestmark = pytest.mark.usefixtures("beside_people")


def config_of(run="a"):
    return RunConfig.load(Path("log") / run)


class TestRecipe:
    def test_is_logged_recorded_and_kept_and_a_flag_by_hand_wins(self, run):
        text = run(*TRAIN, "--recipe=strong", "--number_of_steps=2", "--logit_margin=0.125")
        (line,) = [line for line in text.splitlines() if "Recipe strong: " in line]
        assert "weight_init he" in line
        assert line.endswith("given by hand: logit_margin")
        config = config_of()
        strong = recipes.settings_of("strong", RunConfig((32, 16, 3)), "cosine-softmax")
        for_few = {"recolor_identities": True, "augment": ("flip", "background")}
        expected = strong | for_few | {"logit_margin": 0.125}
        assert {name: getattr(config, name) for name in expected} == expected
        run(*TRAIN, "--number_of_steps=3")
        assert {name: getattr(config_of(), name) for name in expected} == expected

    @pytest.mark.parametrize(
        ("flags", "kept"),
        [
            ([], "recolor_identities True, augment flip,background"),
            (["--no-recolor_identities"], "augment flip,background"),
            (["--gray"], "augment flip,background"),
            (["--loss_mode=triplet"], "augment flip,background"),
            (["--augment=flip,crop"], "recolor_identities True"),
            (["--augment=none", "--no-recolor_identities"], None),
        ],
    )
    def test_strong_does_more_for_few_identities_unless_told_otherwise(self, run, flags, kept):
        text = run(*TRAIN, "--recipe=strong", "--number_of_steps=1", *flags)
        for_few = "with fewer than 50 identities to train on: "
        assert (f"{for_few}{kept}\n" in text) if kept else for_few not in text
        config = config_of()
        assert config.recolor_identities == ("recolor" in (kept or ""))
        assert ("background" in config.augment) == ("background" in (kept or ""))

    def test_faithful_takes_back_what_can_be_changed_and_refuses_the_rest(self, run, caplog):
        run(*TRAIN, "--recipe=strong", "--number_of_steps=2")
        run(*TRAIN, "--recipe=faithful", "--number_of_steps=3", code=2)
        assert "run a has weight_init he, not truncated_normal" in caplog.text

    def test_settings_of_another_run_s_file_are_taken(self, run):
        run(*TRAIN, "--recipe=strong", "--number_of_steps=2")
        argv = [arg for arg in TRAIN if arg != "--run_id=a"]
        run(*argv, "--run_id=b", "--config=log/a/config.json", "--number_of_steps=2")
        assert config_of("b").logit_scale_init == 16.0

    def test_a_schedule_without_an_end_is_an_error_that_says_what_to_do(self, run, caplog):
        run(*TRAIN, "--recipe=strong", code=2)
        assert "give number_of_steps (--number_of_steps=N)" in caplog.text
        assert not Path("log/a").exists()

    def test_more_images_of_each_identity(self, run):
        text = run(*TRAIN, "--num_images_per_id=2", "--number_of_steps=1")
        assert "4 identities x 2 images per batch" in text
        assert config_of().num_images_per_id == 2

    @pytest.mark.long
    def test_recolored_identities_are_further_classes_until_the_run_is_exported(self, run, caplog):
        run(*TRAIN, "--recolor_identities", "--number_of_steps=2")
        assert config_of().num_classes == 6 * 5
        run(*TRAIN, "--number_of_steps=3")
        assert config_of().recolor_identities
        run(*TRAIN, "--no-recolor_identities", "--number_of_steps=4", code=2)
        assert "run a has recolor_identities True, not False" in caplog.text
        run("--mode=test", *OF_RUN, "--dataset=people", "--metrics_file=metrics.json")
        run("--mode=finalize", *OF_RUN)
        run("--mode=freeze", *OF_RUN, "--output=network.pb")

    def test_augmentation_can_be_switched_off(self, run):
        run(*TRAIN, "--augment=none", "--number_of_steps=1")
        assert config_of().augment == ()
        run(*TRAIN, "--augment=erase,crop", "--number_of_steps=2")
        assert config_of().augment == ("erase", "crop")

    @pytest.mark.parametrize(
        "flags", [["--optimizer=sgd"], ["--ema_decay=0.5"], ["--weight_init=he"]]
    )
    def test_what_checkpoints_depend_on_stays(self, run, caplog, flags):
        run(*TRAIN, "--number_of_steps=1")
        run(*TRAIN, "--number_of_steps=2", *flags, code=2)
        assert "start a new run" in caplog.text


class TestFaithful:
    def test_losses_are_those_of_the_recipe_without_a_name(self, run):
        argv = [*TRAIN, "--deterministic", "--log_every_n_steps=1", "--number_of_steps=4"]
        plain = [line for line in run(*argv).splitlines() if "loss" in line and "step" in line]
        argv[argv.index("--run_id=a")] = "--run_id=b"
        named = run(*argv, "--recipe=faithful")
        lines = [line for line in named.splitlines() if "loss" in line and "step" in line]
        assert len(plain) >= 4
        losses = [[line.split("loss ")[1].split(",")[0] for line in x] for x in (plain, lines)]
        assert losses[0] == losses[1]


@pytest.mark.parametrize(("decay", "is_warned"), [("0.3", False), ("0.999", True)])
def test_a_warning_of_start_values_knows_the_decay_of_the_run(run, decay, is_warned):
    run(*TRAIN, f"--batch_norm_decay={decay}", "--number_of_steps=12")
    text = run("--mode=export", *OF_RUN, "--sdk_dir=out")
    assert ("still consist of start values" in text) == is_warned


@pytest.mark.slow
class TestAverages:
    @pytest.fixture
    def averaged(self, run):
        """A run with averages that are far from its weights, and what they give."""
        run(*TRAIN, "--ema_decay=0.9", "--number_of_steps=4", "--learning_rate=0.01",
            "--weight_init=he", "--batch_norm_decay=0.5")  # fmt: skip
        prefix = str(Path("log/a/model.ckpt-4").resolve())
        reader = tf.train.load_checkpoint(prefix)
        names = [n for n in reader.get_variable_to_shape_map() if n.endswith("MovingAverage")]
        values = {name.rpartition("/")[0]: reader.get_tensor(name) for name in names}
        changed = [n for n in values if abs(values[n] - reader.get_tensor(n)).max() > 1e-3]
        assert len(changed) > 20
        return values

    def test_all_modes_take_them(self, run, averaged):
        run("--mode=finalize", *OF_RUN, "--output=plain.ckpt")
        shapes = checkpoints.variable_shapes("plain.ckpt")
        assert not [name for name in shapes if "MovingAverage" in name]
        reader = tf.train.load_checkpoint("plain.ckpt")
        for name, value in averaged.items():
            if name in shapes:
                np.testing.assert_array_equal(reader.get_tensor(name), value)
        run("--mode=freeze", *OF_RUN, "--output=x.pb")
        images = [cv2.imread(str(path)) for path in sorted(Path("people").glob("*/*"))[:6]]
        found = []
        for path in ("x.pb", "log/a", "plain.ckpt"):
            shape = {"image_shape": (32, 16, 3)} if path == "plain.ckpt" else {}
            with Encoder(path, **shape) as encoder:
                found.append(encoder(images))
        np.testing.assert_allclose(found[1], found[0], atol=1e-5)
        np.testing.assert_allclose(found[2], found[0], atol=1e-5)
        scores = []
        for argv in (["--checkpoint=log/a"], ["--checkpoint=plain.ckpt"], ["--frozen_graph=x.pb"]):
            argv += ["--dataset=people", "--image_shape", "32", "16", "--num_validation=3"]
            run("--mode=test", *argv, "--log_dir=log", "--metrics_file=m.json")
            metrics = json.loads(Path("m.json").read_text())
            scores.append({name: value for name, value in metrics.items() if name != "checkpoint"})
        assert scores[0]["mAP_standard"] == pytest.approx(scores[1]["mAP_standard"], abs=1e-6)
        assert scores[0]["mAP_standard"] == pytest.approx(scores[2]["mAP_standard"], abs=1e-6)

    def test_batch_norm_can_be_set_anew_for_them(self, run, averaged):
        run("--mode=finalize", *OF_RUN, "--precise_batch_norm=3", "--output=p.ckpt")
        reader = tf.train.load_checkpoint("p.ckpt")
        value = averaged["conv1_1/weights"]
        np.testing.assert_array_equal(reader.get_tensor("conv1_1/weights"), value)

    def test_evaluation_and_a_new_training_take_them(self, run, averaged):
        run("--mode=finalize", *OF_RUN, "--output=log/plain/model.ckpt-4")
        scores = []
        for name in ("a", "plain"):
            (Path("log") / name / "config.json").write_text((Path("log/a/config.json")).read_text())
            (Path("log") / name / "checkpoint").write_text(
                'model_checkpoint_path: "model.ckpt-4"\n'
                'all_model_checkpoint_paths: "model.ckpt-4"\n'
            )
            run("--mode=eval", f"--run_id={name}", "--log_dir=log", "--eval_log_dir=eval",
                "--eval_once")  # fmt: skip
            (line,) = Path(f"eval/{name}/metrics.jsonl").read_text().splitlines()
            scores.append([v for k, v in json.loads(line).items() if k.startswith("Precision")])
        assert scores[0] == scores[1]
        argv = [arg for arg in TRAIN if arg != "--run_id=a"]
        run(*argv, "--run_id=c", "--checkpoint=log/a", "--number_of_steps=1",
            "--learning_rate=1e-30")  # fmt: skip
        reader = tf.train.load_checkpoint("log/c/model.ckpt-1")
        np.testing.assert_allclose(
            reader.get_tensor("conv1_1/weights"), averaged["conv1_1/weights"], atol=1e-12
        )

    def test_a_run_goes_on_with_them(self, run, averaged):
        run(*TRAIN, "--number_of_steps=5")
        reader = tf.train.load_checkpoint("log/a/model.ckpt-5")
        name = "conv1_1/weights"
        decay = min(0.9, 6 / 15)
        expected = decay * averaged[name] + (1 - decay) * reader.get_tensor(name)
        found = reader.get_tensor(f"{name}/ExponentialMovingAverage")
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


class TestStop:
    def test_training_ends_at_the_next_step_and_saves(self, run):
        text = run(*TRAIN, *NOTHING_LEARNED, "--number_of_steps=30", "--eval_every=2",
                   "--eval_log_dir=eval", "--patience=2")  # fmt: skip
        assert "step 4: Precision@1 " in text
        assert "of step 2; evaluations since then: 1" in text
        assert "2 evaluations in a row without a better Precision@1 than" in text
        assert "Training ends by the file" in text
        assert checkpoints.step_of("log/a/model.ckpt-6") == 6
        assert not list(Path("log/a").glob("model.ckpt-[789]*"))

    def test_a_run_that_was_stopped_goes_on_when_it_is_started_again(self, run):
        run(*TRAIN, "--number_of_steps=2")
        stopping.request("log/a", "enough")
        assert stopping.is_requested("log/a")
        text = run(*TRAIN, "--number_of_steps=3")
        assert "its file STOP is removed" in text
        assert "step 3/3" in text
        assert not stopping.is_requested("log/a")

    @pytest.mark.parametrize("reason", ["", "by hand\nmore"])
    def test_anyone_may_write_the_file(self, run, reason, monkeypatch):
        from deep_reid.training import loop  # noqa: PLC0415

        begin = loop.Run.begin

        def begin_and_stop(opened, *args):
            begin(opened, *args)
            Path(opened.run_dir, "STOP").write_text(reason)

        monkeypatch.setattr(loop.Run, "begin", begin_and_stop)
        text = run(*TRAIN, "--number_of_steps=50")
        assert "step 50/50" not in text
        assert (reason.splitlines() or ["it gives no reason"])[0] in text
        assert "Run a has ended early" in text
        assert "is trained" not in text

    @pytest.mark.long
    def test_a_run_that_goes_on_has_all_its_patience(self, run):
        argv = [*TRAIN, *NOTHING_LEARNED, "--number_of_steps=30", "--eval_every=1",
                "--eval_log_dir=eval", "--patience=2"]  # fmt: skip
        run(*argv)
        assert Path("log/a/model.ckpt-3.index").exists()
        run(*argv)
        assert Path("log/a/model.ckpt-5.index").exists()
        assert not Path("log/a/model.ckpt-6.index").exists()

    def test_patience_needs_evaluations(self, run, capsys):
        with pytest.raises(SystemExit) as exit_:
            run(*TRAIN, "--patience=2")
        assert exit_.value.code == 2
        assert "--patience needs --eval_every" in capsys.readouterr().err

    def test_evaluation_asks_for_the_end_and_ends_with_the_training(self, run):
        run(*TRAIN, *NOTHING_LEARNED, "--number_of_steps=3", "--save_interval_secs=0.001")
        run("--mode=eval", *OF_RUN, "--eval_log_dir=eval", "--patience=1",
            "--eval_interval_secs=0.1")  # fmt: skip
        assert "1 evaluations in a row" in stopping.read_reason("log/a")
        assert len(Path("eval/a/metrics.jsonl").read_text().splitlines()) == 4
