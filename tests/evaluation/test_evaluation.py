"""eval_loop: which checkpoints are scored, on what, by which distance, and where the scores go."""

import contextlib
import functools
import glob
import json
import logging
import os
import shutil
import threading

import cv2
import numpy as np
import pytest
import tiny

from deep_reid.compat import slim, tf
from deep_reid.config import ComputeSettings
from deep_reid.engine import feeding
from deep_reid.errors import DataError, RunError, UsageError
from deep_reid.evaluation import graph, loop, pictures, reporting, score_log
from deep_reid.export import encoding
from deep_reid.runs import checkpoints, records
from deep_reid.runtime import sessions
from deep_reid.samplers import galleries
from deep_reid.scoring.names import Names
from deep_reid.system import locks

pytestmark = pytest.mark.usefixtures("graph")

TAGS = {1: "Precision_1", 5: "Precision_5", 10: "Precision_10", 20: "Precision_20"}


def pixel_network(images):
    """Take three pixels for the feature; a variable, so that there is something to restore."""
    scale = tf.get_variable("scale", (), initializer=tf.ones_initializer())
    slim.add_model_variable(scale) if scale not in slim.get_model_variables() else None
    return scale * tf.reshape(images[:, 0, 0, :], [-1, 3]), None


def network(images):
    with tf.variable_scope("net", reuse=tf.AUTO_REUSE):
        return pixel_network(images)


def plain_preprocess(image, is_training=False):
    del is_training
    return tf.cast(image, tf.float32)


def draw_data(num_identities=8, num_images=3, spread=60, seed=0):
    """Return images whose first pixel is near the identity's color, labels, cameras."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_identities) * 7, num_images)
    colors = rng.integers(0, 190, (num_identities, 3)).repeat(num_images, axis=0)
    images = np.zeros((len(labels), 2, 2, 3), np.uint8)
    images[:, 0, 0] = colors + rng.integers(0, spread, colors.shape)
    return images, labels, np.tile(np.arange(num_images), num_identities)


# One call serves a whole batch, as with the package's own.
plain_preprocess.takes_batches = True


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """A run "run" with checkpoints at the steps 3 and 8."""
    folder = tmp_path_factory.mktemp("trained")
    with tf.Graph().as_default(), tf.Session() as session:
        network(tf.zeros([1, 2, 2, 3]))
        step = tf.train.get_or_create_global_step()
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver()
        (folder / "train" / "run").mkdir(parents=True)
        for number in (3, 8):
            step.load(number, session)
            saver.save(session, str(folder / "train" / "run" / "model.ckpt"), global_step=step)
    return folder


@pytest.fixture
def trained(trained_once, tmp_path):
    """A copy of the run, of the test's own."""
    return shutil.copytree(trained_once, tmp_path, dirs_exist_ok=True)


@pytest.fixture(scope="module")
def evaluated_once(trained_once, tmp_path_factory):
    """A copy of the run that was evaluated."""
    folder = shutil.copytree(trained_once, tmp_path_factory.mktemp("evaluated") / "work")
    with tf.Graph().as_default():
        evaluate(folder)
    return folder


@pytest.fixture
def evaluated(evaluated_once, tmp_path):
    """A copy of the evaluated run, of the test's own, as if it had been evaluated there."""
    shutil.copytree(evaluated_once, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "eval" / "run" / "metrics.jsonl"
    text = path.read_text()
    assert text.count(str(evaluated_once)) == 2
    path.write_text(text.replace(str(evaluated_once), str(tmp_path)))
    return tmp_path


def begin_anew(directory, steps, value):
    """Delete a run, and train it again under its name, to other weights."""
    run_dir = directory / "train" / "run"
    shutil.rmtree(run_dir)
    run_dir.mkdir()
    with tf.Graph().as_default(), tf.Session() as session:
        network(tf.zeros([1, 2, 2, 3]))
        step = tf.train.get_or_create_global_step()
        session.run(tf.global_variables_initializer())
        slim.get_model_variables()[0].load(value, session)
        saver = tf.train.Saver()
        for number in steps:
            step.load(number, session)
            saver.save(session, str(run_dir / "model.ckpt"), global_step=step)


def evaluate(directory, data=None, **kwargs):
    kwargs = {"timeout_secs": 0.05, "eval_interval_secs": 0.01, "run_id": "run", **kwargs}
    images, labels, cameras = draw_data() if data is None else data
    return loop.eval_loop(
        plain_preprocess,
        network,
        images,
        labels,
        cameras,
        directory / "train",
        directory / "eval",
        **kwargs,
    )


def plain_scores(images, labels, cameras, distance, num_galleries=10, random_seed=4321):
    """Compute the four scores by loops."""
    features = images[:, 0, 0].astype(np.float64)
    scores = {k: [] for k in TAGS}
    for index in range(num_galleries):
        probes, gallery = galleries.create_cmc_probe_and_gallery(
            labels, cameras, seed=random_seed + index
        )
        for row in probes:
            order = sorted(gallery, key=lambda other: distance(features[row], features[other]))
            for k, found in scores.items():
                found.append(float(labels[row] in labels[order[:k]]))
    return {f"Precision@{k}": np.mean(found) for k, found in scores.items()}


def cosine(a, b):
    return 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def euclidean(a, b):
    return np.sum((a - b) ** 2)


@pytest.mark.skipif(
    not sessions.computes_in(ComputeSettings(precision="bfloat16")),
    reason="bfloat16 needs a CPU with AVX-512",
)
@pytest.mark.parametrize(
    ("loss_mode", "distance"), [("cosine-softmax", cosine), ("triplet", euclidean)]
)
def test_features_that_lie_close_together_are_ranked_exactly_in_bfloat16(
    trained, loss_mode, distance
):
    images, labels, cameras = draw_data(num_identities=24)
    images[:, 0, 0] = 200 + images[:, 0, 0] // 8  # bfloat16 has 8 bits for all of it
    scores = evaluate(
        trained,
        (images, labels, cameras),
        loss_mode=loss_mode,
        compute=ComputeSettings(precision="bfloat16"),
    )
    assert scores == pytest.approx(plain_scores(images, labels, cameras, distance))


def test_one_evaluation_at_a_time_writes_into_a_directory(trained):
    refused = []

    def evaluate_beside():
        with tf.Graph().as_default(), pytest.raises(RunError, match="run run is being evaluated"):
            evaluate(trained)
        refused.append(os.listdir(trained / "eval" / "run"))

    with locks.holding(trained / "eval" / "run", "run run", locks.EVALUATION):
        thread = threading.Thread(target=evaluate_beside)
        thread.start()
        thread.join()
    assert refused == [["evaluation.lock"]]
    assert evaluate(trained) is not None


@pytest.mark.parametrize(
    ("kwargs", "error", "words"),
    [
        ({"loss_mode": "cosine_softmax"}, UsageError, "loss_mode"),
        ({"num_galleries": 0}, UsageError, r"num_galleries \(0\) must be a whole number of at"),
        ({"max_num_evaluations": 0}, UsageError, r"max_num_evaluations \(0\) must be a whole num"),
        ({"image_shape": (2, 2)}, UsageError, r"image_shape \(2, 2\) must .*\(height, width, 3\)"),
        ({"data_y": np.arange(5)}, DataError, r"24 images, but labels of shape \(5,\)"),
    ],
)
def test_settings_and_data_that_break_their_rule(trained, kwargs, error, words):
    images, labels, cameras = draw_data()
    labels = kwargs.pop("data_y", labels)
    with pytest.raises(error, match=words):
        evaluate(trained, (images, labels, cameras), **kwargs)
    assert not (trained / "eval").exists()


def test_an_evaluation_without_a_checkpoint_leaves_nothing_behind(tmp_path):
    assert evaluate(tmp_path) is None
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("loss_mode", "distance"),
    [("cosine-softmax", cosine), ("magnet", euclidean), ("triplet", euclidean)],
)
def test_scores_equal_plain_loops_by_the_distance_of_the_loss(trained, loss_mode, distance):
    data = draw_data(num_identities=24)
    scores = evaluate(trained, data, loss_mode=loss_mode)
    assert scores == pytest.approx(plain_scores(*data, distance), abs=1e-6)
    assert 0.0 < scores["Precision@1"] < scores["Precision@20"] <= 1.0


def test_the_two_distances_rank_this_data_differently():
    data = draw_data(num_identities=24)
    assert plain_scores(*data, cosine) != plain_scores(*data, euclidean)


def test_number_and_seed_of_the_galleries_count(trained):
    data = draw_data(num_identities=24)
    scores = evaluate(trained, data, num_galleries=3, random_seed=11)
    assert scores == pytest.approx(plain_scores(*data, cosine, 3, 11), abs=1e-6)


def test_each_checkpoint_leaves_events_a_line_in_metrics_jsonl_and_in_the_log(trained, caplog):
    caplog.set_level(logging.INFO)
    scores = evaluate(trained)
    lines = (trained / "eval" / "run" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["step"] for record in records] == [3, 8]
    assert all(
        {name: record[name] for name in scores} == pytest.approx(scores) for record in records
    )
    assert [record["checkpoint"].rpartition("/")[2] for record in records] == [
        "model.ckpt-3",
        "model.ckpt-8",
    ]
    events = {}
    for filename in glob.glob(str(trained / "eval" / "run" / "events.*")):
        for event in tf.train.summary_iterator(filename):
            for value in event.summary.value:
                events.setdefault(value.tag, {})[event.step] = value.simple_value
    for k, tag in TAGS.items():
        expected = pytest.approx(scores[f"Precision@{k}"], rel=1e-6)
        assert events[tag] == {3: expected, 8: expected}
    assert list(events["custom_scalars__config__"]) == [3]
    messages = [message for message in caplog.messages if message.startswith("step ")]
    assert len(messages) == 2
    assert all(f"Precision@{k} {scores[f'Precision@{k}']:.4f}" in messages[0] for k in TAGS)


def test_metrics_jsonl_goes_on_where_it_ended(trained):
    evaluate(trained, max_num_evaluations=1)
    evaluate(trained, max_num_evaluations=1)
    assert len((trained / "eval" / "run" / "metrics.jsonl").read_text().splitlines()) == 2


def test_one_identity_and_a_gallery_of_one(trained):
    scores = evaluate(trained, draw_data(num_identities=1))
    assert set(scores.values()) == {1.0}


def test_cameras_may_be_none(trained):
    images, labels, _ = draw_data(num_identities=24)
    scores = evaluate(trained, (images, labels, None))
    assert scores == pytest.approx(plain_scores(images, labels, None, cosine), abs=1e-6)


def test_identities_with_one_image_only_cannot_be_compared(trained):
    with pytest.raises(DataError, match="none of the 8 validation identities has two images"):
        evaluate(trained, draw_data(num_images=1))


def test_no_validation_data_at_all(trained):
    with pytest.raises(DataError, match="none of the 0 validation identities"):
        evaluate(trained, (np.zeros((0, 2, 2, 3), np.uint8), [], []))


def test_many_identities_go_through_the_network_in_parts(trained, monkeypatch):
    data = draw_data(num_identities=24)
    whole = evaluate(trained, data)
    seen = []

    def counting_network(images):
        seen.append(images.get_shape().as_list()[0])
        return network(images)

    monkeypatch.setattr(graph, "MAX_IMAGES_AT_ONCE", 10)
    in_parts = loop.eval_loop(
        plain_preprocess, counting_network, *data, trained / "train", trained / "eval2",
        run_id="run", timeout_secs=0.05, eval_interval_secs=0.01,
    )  # fmt: skip
    assert seen == [10]  # 48 images in five parts
    assert in_parts == pytest.approx(whole)


def test_without_a_run_id_the_directories_are_taken_as_they_are(trained):
    images, labels, cameras = draw_data()
    loop.eval_loop(
        plain_preprocess, network, images, labels, cameras, trained / "train" / "run",
        trained / "flat", timeout_secs=0.05, eval_interval_secs=0.01,
    )  # fmt: skip
    assert len((trained / "flat" / "metrics.jsonl").read_text().splitlines()) == 2


def test_files_are_evaluated_like_arrays(trained, tmp_path):

    images, labels, cameras = draw_data(num_identities=24)
    filenames = []
    for index, image in enumerate(images):
        filenames.append(tmp_path / f"{index}.png")
        cv2.imwrite(str(filenames[-1]), image[..., ::-1])
    from_files = evaluate(trained, (filenames, labels, cameras), image_shape=(2, 2, 3))
    (trained / "eval" / "run" / "metrics.jsonl").unlink()
    assert from_files == pytest.approx(evaluate(trained, (images, labels, cameras)))


def test_images_that_hang_end_it_with_the_time_that_was_told(trained, monkeypatch):
    monkeypatch.setattr(feeding, "JOIN_TIMEOUT_SECS", 0.3)
    release = threading.Event()

    def hang(image):
        release.wait(60)
        return image.astype(np.float32)

    def preprocess(image, is_training=False):
        pixels = tf.numpy_function(hang, [image], tf.float32)
        pixels.set_shape(image.get_shape())
        return pixels

    try:
        with pytest.raises(RunError, match="preparing a batch took more than 0.3 s"):
            loop.eval_loop(
                preprocess, network, *draw_data(), trained / "train", trained / "eval",
                run_id="run", timeout_secs=0.05, feed_timeout_secs=0.3,
            )  # fmt: skip
    finally:
        release.set()
    assert not (trained / "eval").exists()


def test_a_trained_tiny_network_is_scored(tmp_path):
    from deep_reid import training

    images, labels, cameras = draw_data()
    images = images.repeat(16, axis=1).repeat(8, axis=2)
    training.train_loop(
        tiny.preprocess, tiny.create_network_factory(True, 50), images, labels, 2, 8,
        tmp_path / "train", number_of_steps=2, run_id="run",
    )  # fmt: skip
    scores = loop.eval_loop(
        tiny.preprocess, tiny.create_network_factory(False), images, labels, cameras,
        tmp_path / "train", tmp_path / "eval", run_id="run", timeout_secs=0.05,
        eval_interval_secs=0.01,
    )  # fmt: skip
    assert set(scores) == {"Precision@1", "Precision@5", "Precision@10", "Precision@20"}


def read_strips(directory):
    """Return {(tag, step): RGB image} of the events."""
    strips = {}
    for filename in glob.glob(str(directory / "events.*")):
        for event in tf.train.summary_iterator(filename):
            for value in event.summary.value:
                if value.tag.startswith("ranking/"):
                    data = np.frombuffer(value.image.encoded_image_string, np.uint8)
                    strips[value.tag, event.step] = cv2.imdecode(data, 1)[..., ::-1]
    return strips


def test_the_rankings_of_some_probes_are_shown_at_each_step(trained):
    images, labels, cameras = draw_data(num_identities=24)
    images = np.repeat(np.repeat(images[:, :1, :1], 2, axis=1), 2, axis=2)  # flat colors
    evaluate(trained, (images, labels, cameras), loss_mode="triplet")
    strips = read_strips(trained / "eval" / "run")
    assert {step for _, step in strips} == {3, 8}
    assert len(strips) == 2 * reporting.NUM_STRIPS
    probes, gallery = galleries.create_cmc_probe_and_gallery(labels, cameras, seed=4321 + 9)
    height, width = (size + 2 * pictures.FRAME_WIDTH for size in reporting.PICTURE_SIZE)
    strip = strips["ranking/probe_0", 8]
    assert strip.shape == (height + pictures.CAPTION_HEIGHT, 11 * width, 3)
    colors = images[:, 0, 0].astype(float)
    nearest = sorted(gallery, key=lambda row: euclidean(colors[probes[0]], colors[row]))[:10]
    for position, row in enumerate([probes[0], *nearest]):
        left = position * width
        np.testing.assert_array_equal(strip[height // 2, left + width // 2], images[row, 0, 0])
        if position:
            is_match = labels[row] == labels[probes[0]]
            frame = pictures.MATCH_COLOR if is_match else pictures.NO_MATCH_COLOR
            assert tuple(strip[0, left]) == frame


def test_bgr_arrays_are_shown_in_true_colors(trained):
    def preprocess(image, is_training=False, input_is_bgr=False):
        del input_is_bgr
        return plain_preprocess(image, is_training)

    images, labels, cameras = draw_data(num_identities=24)
    for name, data, fn in (
        ("rgb", images, plain_preprocess),
        ("bgr", images[..., ::-1], functools.partial(preprocess, input_is_bgr=True)),
    ):
        loop.eval_loop(
            fn, network, np.ascontiguousarray(data), labels, cameras, trained / "train",
            trained / name, run_id="run", timeout_secs=0.05, eval_interval_secs=0.01,
        )  # fmt: skip
    rgb, bgr = (
        read_strips(trained / name / "run")["ranking/probe_0", 8] for name in ("rgb", "bgr")
    )
    np.testing.assert_array_equal(rgb[:, : rgb.shape[1] // 11], bgr[:, : rgb.shape[1] // 11])


def test_the_projector_gets_the_features_of_the_latest_step(trained):
    images, labels, cameras = draw_data()
    evaluate(trained, (images, labels, cameras), projector=True)
    directory = trained / "eval" / "run"
    features = np.loadtxt(directory / "projector" / "features.tsv", delimiter="\t")
    np.testing.assert_allclose(features, images[:, 0, 0], rtol=1e-5)
    metadata = (directory / "projector" / "metadata.tsv").read_text().splitlines()[1:]
    assert metadata == [f"{y}\t{c}" for y, c in zip(labels, cameras, strict=True)]
    assert "features of step 8" in (directory / "projector_config.pbtxt").read_text()


def test_the_projector_gets_features_of_a_checkpoint_that_was_scored_before(trained):
    evaluate(trained)
    config = trained / "eval" / "run" / "projector_config.pbtxt"
    assert not config.exists()
    evaluate(trained, projector=True)
    assert "features of step 8" in config.read_text()
    features = trained / "eval" / "run" / "projector" / "features.tsv"
    written = features.stat().st_mtime_ns
    evaluate(trained, projector=True)
    assert features.stat().st_mtime_ns == written


def test_a_checkpoint_that_was_scored_before_is_opened_once(trained, monkeypatch):
    evaluate(trained)
    opened = []

    def step_of(path):
        opened.append(os.path.basename(path))
        return saved_step_of(path)

    saved_step_of = checkpoints.step_of
    monkeypatch.setattr(checkpoints, "step_of", step_of)
    evaluate(trained)
    assert opened == ["model.ckpt-3", "model.ckpt-8"]


@pytest.mark.parametrize("is_for_projector", [True, False])
def test_what_a_killed_evaluation_left_half_written_is_removed(trained, is_for_projector):
    names = ("features.tsv", "metadata.tsv", "sprite.png")
    left = [
        trained / path / "run" / f"{folder}.{stem}-0a1b2c3d.{ending}"
        for path in ("eval", "train")
        for folder, (stem, ending) in [
            *(("projector/", name.split(".")) for name in names),
            ("", ("projector_config", "pbtxt")),
        ]
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    evaluate(trained, projector=is_for_projector)
    assert not [path for path in left if path.exists()]


def test_the_projector_shows_names_cameras_and_paths_as_the_data_have_them(trained):
    images, labels, _ = draw_data()
    paths = []
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        paths.append(trained / "data" / f"Person {label}" / f"{number}.png")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(paths[-1]), image)
    names = Names(lambda label: f"Person {label}", trained / "data")
    evaluate(trained, (paths, labels, None), projector=True, names=names, image_shape=(2, 2, 3))
    lines = (trained / "eval" / "run" / "projector" / "metadata.tsv").read_text().splitlines()
    assert lines == [
        "identity\tcamera\tpath",
        *(f"Person {y}\tunknown\tPerson {y}/{n}.png" for n, y in enumerate(labels)),
    ]


@pytest.mark.parametrize("endings", ["index", "data-*", "*"])
@pytest.mark.parametrize("moment", ["before", "while it is restored"])
def test_a_checkpoint_that_is_deleted_before_the_projector_reads_it_is_passed_over(
    trained, monkeypatch, caplog, endings, moment
):
    """Training deletes old checkpoints at any time."""
    module, name = {
        "before": (reporting.ProjectorFiles, "write"),
        "while it is restored": (encoding.restoring, "restore_model"),
    }[moment]
    real = getattr(module, name)

    def delete_first(*args):
        for path in (arg for arg in args if str(arg).endswith("model.ckpt-3")):
            for file in glob.glob(f"{path}.{endings}"):
                os.unlink(file)
        return real(*args)

    monkeypatch.setattr(module, name, delete_first)
    evaluate(trained, projector=True)
    assert read_steps(trained) == [3, 8]
    assert "before its features were written for the projector" in caplog.text
    config = (trained / "eval" / "run" / "projector_config.pbtxt").read_text()
    assert "features of step 8" in config


def test_an_error_of_the_projector_that_is_not_a_deleted_checkpoint_is_raised(trained, monkeypatch):
    def fail(*args, **kwargs):
        raise DataError("an image is gone")

    monkeypatch.setattr(encoding.restoring, "restore_model", fail)
    with pytest.raises(DataError, match="an image is gone"):
        evaluate(trained, projector=True)


def read_steps(directory):
    lines = (directory / "eval" / "run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


class TestRestart:
    def test_what_is_recorded_is_not_evaluated_again_and_its_scores_are_returned(
        self, trained, caplog
    ):
        caplog.set_level(logging.INFO)
        scores = evaluate(trained)
        assert evaluate(trained) == scores
        assert read_steps(trained) == [3, 8]
        assert "has the scores of 2 steps; to evaluate them again, delete it" in caplog.text

    def test_what_is_new_is_evaluated(self, trained):
        evaluate(trained, max_num_evaluations=1)
        assert read_steps(trained) == [8]
        evaluate(trained)
        assert read_steps(trained) == [8, 3]

    def test_once_takes_the_newest_and_ends(self, trained, caplog):
        caplog.set_level(logging.INFO)
        newest = evaluate(trained, eval_once=True, timeout_secs=None)
        assert read_steps(trained) == [8]
        evaluate(trained)  # the older one, too, which is then the last line
        assert read_steps(trained) == [8, 3]
        assert evaluate(trained, eval_once=True, timeout_secs=None) == newest
        assert "model.ckpt-8, the newest checkpoint, was evaluated before" in caplog.text
        assert read_steps(trained) == [8, 3]

    def test_once_without_a_checkpoint_waits_for_the_first(self, tmp_path):
        assert evaluate(tmp_path, eval_once=True, timeout_secs=0.1) is None

    def test_it_ends_when_its_training_has_ended_and_not_before(self, trained):
        ended = threading.Event()
        with contextlib.ExitStack() as training:
            training.enter_context(locks.holding(trained / "train" / "run", "run run"))
            training.callback(ended.set)
            ending = threading.Timer(1, training.close)
            ending.start()
            evaluate(trained, until_trained=True, timeout_secs=None)
            assert ended.is_set()
            ending.join()
        assert read_steps(trained) == [3, 8]

    def test_it_waits_for_a_training_that_has_not_begun(self, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        assert evaluate(tmp_path, until_trained=True, timeout_secs=0.1) is None
        assert "No new checkpoint for 0.1 s" in caplog.text

    def test_without_the_file_all_is_evaluated_anew(self, evaluated):
        (evaluated / "eval" / "run" / "metrics.jsonl").unlink()
        evaluate(evaluated)
        assert read_steps(evaluated) == [3, 8]

    def test_a_line_that_was_not_written_whole_is_evaluated_again(self, evaluated):
        path = evaluated / "eval" / "run" / "metrics.jsonl"
        path.write_bytes(path.read_bytes()[:-30])
        evaluate(evaluated)
        assert read_steps(evaluated) == [3, 8]

    @pytest.mark.parametrize("seconds", [-1e9, -10, 10, 1e9, 3e9])
    @pytest.mark.parametrize("suffixes", [("index",), ("data-00000-of-00001",), ("*",)])
    def test_times_of_files_do_not_matter(self, evaluated, seconds, suffixes):
        """A clock may be set back; copied files may have any time."""
        for suffix in suffixes:
            for path in (evaluated / "train" / "run").glob(f"model.ckpt-*.{suffix}"):
                changed = path.stat().st_mtime + seconds
                os.utime(path, (changed, changed))
        evaluate(evaluated)
        assert read_steps(evaluated) == [3, 8]

    def test_the_clock_does_not_matter(self, evaluated):
        path = evaluated / "eval" / "run" / "metrics.jsonl"
        path.write_text(path.read_text().replace('"time": "2', '"time": "1'))
        evaluate(evaluated)
        assert read_steps(evaluated) == [3, 8]

    @pytest.mark.parametrize("is_moved", [False, True])
    def test_a_run_that_was_begun_anew_under_its_name_is_evaluated_anew(self, evaluated, is_moved):
        begin_anew(evaluated, [3, 8], value=2.0)
        if is_moved:
            os.rename(evaluated / "train", evaluated / "moved")
            os.rename(evaluated / "moved", evaluated / "train")
        evaluate(evaluated)
        assert read_steps(evaluated) == [3, 8, 3, 8]
        evaluate(evaluated)
        assert read_steps(evaluated) == [3, 8, 3, 8]

    @pytest.mark.parametrize("moment", ["during an evaluation", "between two evaluations"])
    def test_a_run_that_is_begun_anew_while_evaluation_watches_it_is_new(
        self, trained, monkeypatch, moment
    ):
        real = score_log.ScoreLog.append

        def append(self, line):
            is_due = line["step"] == 8 and len(self.lines) == 1
            if is_due and moment == "during an evaluation":
                begin_anew(trained, [3, 8], value=0.0)
            real(self, line)
            if is_due and moment == "between two evaluations":
                begin_anew(trained, [3, 8], value=0.0)

        monkeypatch.setattr(score_log.ScoreLog, "append", append)
        evaluate(trained, timeout_secs=1, keep_best=True)
        assert read_steps(trained) == [3, 8, 3, 8]
        # All features of the new run are the same. Its best is not compared with the old run's.
        best = records.resolve_checkpoint(trained / "train" / "run" / "best")
        assert tf.train.load_variable(best, "net/scale") == 0.0
        record = json.loads((trained / "train" / "run" / "best" / "score.json").read_text())
        lines = (trained / "eval" / "run" / "metrics.jsonl").read_text().splitlines()
        scores = [json.loads(line) for line in lines]
        assert record["Precision@1"] == max(line["Precision@1"] for line in scores[2:])
        assert record["Precision@1"] < scores[0]["Precision@1"]

    def test_the_best_of_a_run_begun_anew_is_not_chosen_by_scores_of_the_old_one(self, evaluated):
        path = evaluated / "eval" / "run" / "metrics.jsonl"
        old = path.read_text().splitlines()
        path.write_text("\n".join([old[0].replace("0.", "0.0"), *old[1:]]) + "\n")
        begin_anew(evaluated, [3, 8], value=0.0)
        evaluate(evaluated)
        evaluate(evaluated, keep_best=True)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        record = json.loads((evaluated / "train" / "run" / "best" / "score.json").read_text())
        assert record in lines[2:]

    def test_scores_of_an_earlier_release_count_by_their_time(self, evaluated):
        path = evaluated / "eval" / "run" / "metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text(
            "".join(
                json.dumps({name: line[name] for name in line if name != "digest"}) + "\n"
                for line in lines
            )
        )
        evaluate(evaluated)
        assert read_steps(evaluated) == [3, 8]


def test_the_best_checkpoint_is_kept_if_that_is_asked_for(evaluated):
    assert not (evaluated / "train" / "run" / "best").exists()
    scores = evaluate(evaluated, keep_best=True)  # evaluated before, and still there
    best = evaluated / "train" / "run" / "best"
    record = json.loads((best / "score.json").read_text())
    assert record["step"] == 3  # equal scores keep the earlier one
    assert {name: record[name] for name in scores} == scores
    assert records.resolve_checkpoint(best) == str(best / "model.ckpt-3")
    assert records.resolve_checkpoint(evaluated / "train" / "run").endswith("run/model.ckpt-8")
