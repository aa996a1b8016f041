"""The settings of a run: their rules, and their way to the run's directory and back."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deep_reid.config import ComputeSettings, RunConfig
from deep_reid.config.loss_modes import LOSS_MODES
from deep_reid.config.run import BAD_IMAGE_POLICIES, CONFIG_FILENAME
from deep_reid.errors import DataError, MissingPathError, ReidError, UsageError

SHAPE = (128, 64, 3)
HUGE = pytest.param(10**400, id="10^400")  # no float holds it
FIELD_NAMES = [field.name for field in dataclasses.fields(RunConfig)]


def write_config(run_dir, content):
    text = content if isinstance(content, str) else json.dumps(content)
    (Path(run_dir) / CONFIG_FILENAME).write_text(text, encoding="utf-8")


class TestRules:
    @pytest.mark.parametrize(
        ("name", "most"),
        [
            ("num_enqueue_threads", 256),
            ("queue_capacity", 100_000),
            ("intra_op_threads", 1024),
            ("inter_op_threads", 1024),
        ],
    )
    def test_what_a_machine_could_not_do_is_refused(self, name, most):
        assert getattr(RunConfig(SHAPE, **{name: most}), name) == most
        with pytest.raises(UsageError, match=rf"^{name} \({most + 1}\) must be at most {most}$"):
            RunConfig(SHAPE, **{name: most + 1})

    @pytest.mark.parametrize("precision", ["bf16", "double", None, 16])
    def test_an_unknown_precision_is_refused_with_the_list(self, precision):
        with pytest.raises(UsageError, match="float32, bfloat16, float16"):
            ComputeSettings(precision=precision)

    def test_the_shape_alone_gives_the_settings_of_the_published_runs(self):
        config = RunConfig(SHAPE)
        assert (config.batch_size, config.num_images_per_id) == (128, 4)
        assert config.num_identities_per_batch == 32
        assert (config.loss_mode, config.learning_rate) == ("cosine-softmax", 1e-3)
        assert config.number_of_steps is None
        assert config.restore_path is None

    def test_settings_cannot_be_changed(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            RunConfig(SHAPE).batch_size = 64

    @pytest.mark.parametrize("loss_mode", LOSS_MODES)
    def test_each_loss_mode_is_taken(self, loss_mode):
        assert RunConfig(SHAPE, loss_mode=loss_mode).loss_mode == loss_mode

    @pytest.mark.parametrize("loss_mode", ["softmax", "Triplet", "", None])
    def test_an_unknown_loss_mode_is_refused_with_the_list_of_right_ones(self, loss_mode):
        with pytest.raises(UsageError, match="cosine-softmax, magnet, triplet"):
            RunConfig(SHAPE, loss_mode=loss_mode)

    @pytest.mark.parametrize("shape", [(128, 64, 3), (128, 64, 1), (1, 1, 3), [128, 64, 3]])
    def test_image_shapes_of_every_form_are_kept_as_tuples(self, shape):
        assert RunConfig(shape).image_shape == tuple(shape)

    @pytest.mark.parametrize(
        "shape",
        [
            (),
            None,
            (128, 64),
            (128, 64, 2),
            (128, 64, 4),
            (128, 64, 3, 1),
            (0, 64, 3),
            (-1, 64, 3),
            (128.0, 64, 3),
            (None, 64, 3),
            (True, True, 3),
            ("128", "64", "3"),
        ],
    )
    def test_a_shape_is_height_width_and_one_or_three_channels(self, shape):
        with pytest.raises(UsageError, match=r"image_shape .*\(128, 64, 3\)"):
            RunConfig(shape)

    @pytest.mark.parametrize("shape", [np.array([128, 64, 3]), tuple(np.int32(x) for x in SHAPE)])
    def test_numpy_integers_in_a_shape_become_plain_ones(self, shape):
        image_shape = RunConfig(shape).image_shape
        assert image_shape == SHAPE
        assert {type(size) for size in image_shape} == {int}

    @pytest.mark.parametrize(
        "name",
        [
            "num_images_per_id",
            "batch_size",
            "max_checkpoints_to_keep",
            "log_every_n_steps",
            "number_of_steps",
        ],
    )
    @pytest.mark.parametrize("value", [0, -4, 4.0, "4", True, math.nan])
    def test_counts_are_whole_numbers_of_at_least_one(self, name, value):
        with pytest.raises(UsageError, match=rf"^{name} .* whole number of at least 1"):
            RunConfig(SHAPE, **{name: value})

    @pytest.mark.parametrize("name", ["number_of_steps", "log_every_n_steps"])
    def test_some_counts_may_be_left_open(self, name):
        assert getattr(RunConfig(SHAPE, **{name: None}), name) is None

    @pytest.mark.parametrize("name", ["num_images_per_id", "batch_size", "max_checkpoints_to_keep"])
    def test_other_counts_may_not(self, name):
        with pytest.raises(UsageError, match=name):
            RunConfig(SHAPE, **{name: None})

    @pytest.mark.parametrize("policy", BAD_IMAGE_POLICIES)
    def test_policies_for_bad_images(self, policy):
        assert RunConfig(SHAPE, on_bad_image=policy).on_bad_image == policy

    @pytest.mark.parametrize("policy", ["ignore", "Skip", "", None, True])
    def test_an_unknown_policy_for_bad_images_is_refused_with_the_right_ones(self, policy):
        with pytest.raises(
            UsageError, match=r"^on_bad_image .* use one of stop, skip(; did you mean skip\?)?$"
        ):
            RunConfig(SHAPE, on_bad_image=policy)

    def test_without_a_word_a_bad_image_stops_and_a_feed_has_ten_minutes(self):
        assert RunConfig(SHAPE).on_bad_image == "stop"
        assert RunConfig(SHAPE).feed_timeout_secs == 600

    @pytest.mark.parametrize(
        "name",
        ["learning_rate", "save_summaries_secs", "save_interval_secs", "feed_timeout_secs"],
    )
    @pytest.mark.parametrize("value", [0, -1e-3, math.nan, math.inf, HUGE, "1e-3", None, True])
    def test_rates_and_intervals_are_finite_numbers_above_zero(self, name, value):
        with pytest.raises(UsageError, match=rf"^{name} .* greater than 0"):
            RunConfig(SHAPE, **{name: value})

    @pytest.mark.parametrize("seed", [None, 0, 2**31 - 1])
    def test_seeds_in_the_range_are_kept(self, seed):
        assert RunConfig(SHAPE, seed=seed).seed == seed

    @pytest.mark.parametrize("seed", [-1, 2**31, 1.0, "1", True])
    def test_a_seed_is_a_whole_number_of_31_bits(self, seed):
        with pytest.raises(UsageError, match=r"^seed .*2\^31"):
            RunConfig(SHAPE, seed=seed)

    @pytest.mark.parametrize(
        "batch_size, num_images, proposal",
        [(130, 4, "use 128 or 132"), (3, 4, "use 4"), (7, 2, "use 6 or 8")],
    )
    def test_a_batch_size_that_is_no_multiple_is_refused_with_the_nearest_ones(
        self, batch_size, num_images, proposal
    ):
        with pytest.raises(UsageError, match=f"{proposal}$"):
            RunConfig(SHAPE, batch_size=batch_size, num_images_per_id=num_images)

    @pytest.mark.parametrize("name", ["exclude_from_restore", "trainable_scopes"])
    def test_scopes_are_a_sequence_or_none(self, name):
        assert getattr(RunConfig(SHAPE, **{name: None}), name) == ()
        assert getattr(RunConfig(SHAPE, **{name: ["ball", "fc1"]}), name) == ("ball", "fc1")

    @pytest.mark.parametrize("name", ["exclude_from_restore", "trainable_scopes"])
    def test_one_name_in_place_of_a_list_of_scopes_is_refused(self, name):
        with pytest.raises(UsageError, match=rf"{name} .*use \['ball'\]"):
            RunConfig(SHAPE, **{name: "ball"})

    def test_a_path_becomes_text(self):
        assert RunConfig(SHAPE, restore_path=Path("a") / "b").restore_path == str(Path("a/b"))


class TestFile:
    @pytest.mark.parametrize(
        "config",
        [
            RunConfig(SHAPE),
            RunConfig(
                image_shape=np.array([32, 16, 1]),
                num_images_per_id=2,
                batch_size=6,
                loss_mode="magnet",
                learning_rate=0.5,
                number_of_steps=7,
                seed=3,
                restore_path=Path("runs") / "größer",
                exclude_from_restore=["ball"],
                trainable_scopes=["fc1", "conv4_3"],
                save_summaries_secs=1,
                save_interval_secs=2.5,
                max_checkpoints_to_keep=9,
                log_every_n_steps=1,
                on_bad_image="skip",
                feed_timeout_secs=np.float32(2.5),
            ),
        ],
        ids=["defaults", "all set"],
    )
    def test_what_is_saved_is_loaded(self, tmp_path, config):
        run_dir = tmp_path / "run"
        config.save(run_dir)
        loaded = RunConfig.load(run_dir)
        assert loaded == config
        assert hash(loaded) == hash(config)  # lists have become tuples again

    def test_every_setting_is_in_the_file(self, tmp_path):
        RunConfig(SHAPE).save(tmp_path)
        assert sorted(json.loads((tmp_path / "config.json").read_text())) == sorted(FIELD_NAMES)

    def test_settings_of_another_version_are_left_out(self, tmp_path):
        write_config(tmp_path, {"image_shape": SHAPE, "seed": 4, "queue_color": "green"})
        assert RunConfig.load(tmp_path) == RunConfig(SHAPE, seed=4)

    def test_settings_that_an_older_version_did_not_write_have_their_defaults(self, tmp_path):
        write_config(tmp_path, {"image_shape": SHAPE})
        assert RunConfig.load(tmp_path) == RunConfig(SHAPE)

    @pytest.mark.parametrize("content", ["", "{", '{"image_shape": [128, 64', "no json"])
    def test_broken_json_is_an_error_of_the_file(self, tmp_path, content):
        write_config(tmp_path, content)
        with pytest.raises(DataError, match=rf"{CONFIG_FILENAME} is not valid JSON"):
            RunConfig.load(tmp_path)

    def test_bytes_that_are_no_text_are_an_error_of_the_file(self, tmp_path):
        (tmp_path / CONFIG_FILENAME).write_bytes(b'{"image_shape": "\xff\xfe"}')
        with pytest.raises(DataError, match=CONFIG_FILENAME):
            RunConfig.load(tmp_path)

    @pytest.mark.parametrize("content", [[], [1, 2], "null", 3, {}, {"batch_size": 128}])
    def test_other_content_is_an_error_of_the_file(self, tmp_path, content):
        write_config(tmp_path, content)
        with pytest.raises(DataError, match=rf"{CONFIG_FILENAME} does not hold the settings"):
            RunConfig.load(tmp_path)

    @pytest.mark.parametrize(
        "setting",
        [
            {"batch_size": 130},
            {"loss_mode": "softmax"},
            {"learning_rate": "fast"},
            {"image_shape": [128, 64]},
            {"image_shape": {"height": 128}},
            {"trainable_scopes": "ball"},
        ],
    )
    def test_a_bad_value_is_an_error_of_the_file_that_names_the_setting(self, tmp_path, setting):
        write_config(tmp_path, {"image_shape": SHAPE} | setting)
        with pytest.raises(DataError, match=rf"{CONFIG_FILENAME}: {next(iter(setting))} "):
            RunConfig.load(tmp_path)

    @pytest.mark.parametrize("name", ["image_shape", "exclude_from_restore", "trainable_scopes"])
    @pytest.mark.parametrize("value", [3, 0.5, True])
    def test_a_number_in_place_of_a_list_is_an_error_of_the_file(self, tmp_path, name, value):
        write_config(tmp_path, {"image_shape": SHAPE} | {name: value})
        with pytest.raises(DataError, match=name):
            RunConfig.load(tmp_path)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(MissingPathError, match=rf"{CONFIG_FILENAME} does not exist"):
            RunConfig.load(tmp_path / "no_run")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.floats() | st.text(max_size=6),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=3), values),
    max_leaves=6,
)
SETTINGS = st.fixed_dictionaries(
    {"image_shape": st.just([128, 64, 3]) | JSON_VALUES},
    optional={
        name: JSON_VALUES | st.sampled_from(LOSS_MODES)
        for name in FIELD_NAMES
        if name != "image_shape"
    },
)


@given(content=st.text(max_size=40) | JSON_VALUES.map(json.dumps) | SETTINGS.map(json.dumps))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_file_holds_loading_gives_settings_or_an_error_for_the_user(content, tmp_path):
    write_config(tmp_path, content)
    try:
        config = RunConfig.load(tmp_path)
    except ReidError as error:
        assert isinstance(error, DataError)
        assert CONFIG_FILENAME in str(error)
    else:
        config.save(tmp_path)
        assert RunConfig.load(tmp_path) == config
