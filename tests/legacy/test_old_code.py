"""Old code runs as it stands: samples of old scripts as processes, in all of their modes.

``own``: the folder's modules on a TensorFlow that looks like 1.x; ``deep_reid``: this package's
modules in their place; ``two lines``: the script with two changed import lines, without the runner.
All but ``own`` is long, and so is the fork that became a package: ``test_legacy_modules.py`` tests
relative imports, and what the engine ``deep_reid`` says.
"""

import re

import cv2
import numpy as np
import old_data
import pytest
from old_code_process import (
    RUNNER,
    Folder,
    Sample,
    assert_unit_rows,
    copy_modules,
    copy_sample,
    decode_bgr,
    encode_with_frozen_graph,
    read_image_tags,
    read_scalars,
    read_variables,
)
from scipy import io

pytestmark = pytest.mark.slow

STEPS = 3
OLD_LINES = ("import train_app", "import nets.deep_sort.network_definition as net")
NEW_LINES = ("from deep_reid import train_app", "from deep_reid.nets import deep_sort as net")
# (height, width), features, a variable of the network, the classifier's class vectors
OWN_NETWORK = ((32, 16), 16, "people/wide_1/shortcut/weights", "classifier/directions")
DEEP_SORT = ((128, 64), 128, "conv3_1/projection/weights", "ball/mean_vectors")
with_both_engines = pytest.mark.parametrize(
    "engine", ["own", pytest.param("deep_reid", marks=pytest.mark.long)]
)


def create_market(way, cwd):
    """Set up the sample `market`; returns its folder and the facts of the network that it has."""
    copy_sample("market", cwd)
    command = [*RUNNER, f"--engine={way}", "train_people.py"]
    if way == "two lines":
        command = ["train_people.py"]
        for name in ("train_app", "queued_trainer", "losses", "metrics"):
            (cwd / f"{name}.py").unlink()
        for name in ("nets", "datasets"):
            (cwd / name).rename(cwd / f"unused_{name}")
        change_import_lines(cwd / "train_people.py")
    network = OWN_NETWORK if way == "own" else DEEP_SORT
    old_data.draw_market1501(cwd / "people", network[0])
    return Folder(cwd, command), network


def change_import_lines(path):
    lines = path.read_text().splitlines()
    for old, new in zip(OLD_LINES, NEW_LINES, strict=True):
        lines[lines.index(old)] = new
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(
    scope="module",
    params=[
        "own",
        *(pytest.param(way, marks=pytest.mark.long) for way in ("deep_reid", "two lines")),
    ],
)
def market(request, tmp_path_factory):
    """The sample `market`, trained for some steps."""
    folder, network = create_market(request.param, tmp_path_factory.mktemp("market"))
    sample = Sample(
        folder,
        STEPS,
        train_argv=["--batch_size=8"],
        modes={"export": ["--sdk_dir=sdk"], "finalize": [], "freeze": []},
    )
    sample.way = request.param
    sample.image_shape, sample.num_features, sample.variable, sample.classes = network
    yield sample
    sample.kill()


def test_training_saves_the_network_at_the_last_step(market):
    variables = read_variables(market.checkpoint)
    assert variables["global_step"] == STEPS
    assert variables[market.classes].shape == (market.num_features, 1502)
    assert np.isfinite(variables[market.variable]).all()
    start = read_variables(market.checkpoint.with_name("model.ckpt-0"))
    assert (variables[market.variable] != start[market.variable]).any()
    assert "Train set size: 54 images, 9 identities" in market.output


def test_training_writes_the_tags_of_the_original(market):
    run_dir = market.checkpoint.parent
    scalars = read_scalars(run_dir)
    tags = {"total_loss", "cross_entropy_loss", "classification_accuracy", "learning_rate"}
    assert tags <= set(scalars)
    assert all(np.isfinite(value) for tag in tags for value in scalars[tag].values())
    assert list(scalars["learning_rate"].values()) == pytest.approx(
        [1e-3] * len(scalars["learning_rate"])
    )
    assert "images" in read_image_tags(run_dir)


def test_evaluation_scores_the_checkpoint_until_it_is_stopped(market):
    scalars = market.finish_evaluation()
    for k in (1, 5, 10, 20):
        assert 0.0 <= scalars[f"Precision_{k}"][STEPS] <= 1.0
    # Three identities were held out: each is among the five nearest.
    assert scalars["Precision_5"][STEPS] == 1.0


def read_features(market):
    return {
        name: io.loadmat(market.cwd / "sdk" / f"feat_{name}.mat")["features"]
        for name in ("test", "query")
    }


def list_images(market, folder):
    return sorted((market.cwd / "people" / folder).glob("*.jpg"))


def test_export_writes_unit_features_of_gallery_and_query(market):
    assert "exported 16 + 6 features" in market.finish("export")
    for name, num_images in (("test", 16), ("query", 6)):
        features = read_features(market)[name]
        assert_unit_rows(features, num_images)
        assert features.shape[1] == market.num_features


def test_export_masks_junk_as_the_ground_truth_files_do(market):
    market.finish("export")
    mask = io.loadmat(market.cwd / "sdk" / "good_mask.mat")["good_mask"]
    parse = [
        [tuple(path.name.split("_")[:2]) for path in list_images(market, folder)]
        for folder in ("query", "bounding_box_test")
    ]
    for row, (identity, camera) in zip(mask, parse[0], strict=True):
        expected = [
            other != "-1" and (other, view[:2]) != (identity, camera[:2])
            for other, view in parse[1]
        ]
        np.testing.assert_array_equal(row, expected)


def test_the_frozen_graph_takes_bgr_and_gives_the_exported_features(market):
    market.finish("export", "freeze")
    paths = list_images(market, "bounding_box_test")
    # This package exports the features of files as OpenCV decodes them, which feeds the graph.
    is_own = market.way == "own"
    images = decode_bgr(paths) if is_own else np.stack([cv2.imread(str(x)) for x in paths])
    path = market.cwd / "people.pb"
    features = encode_with_frozen_graph(path, images)
    exported = read_features(market)["test"]
    np.testing.assert_allclose(features, exported, atol=1e-4)
    # After some steps, colors matter little, but far more than rounding.
    swapped = encode_with_frozen_graph(path, images[..., ::-1])
    assert abs(swapped - exported).max() > 5 * abs(features - exported).max()


def test_finalize_keeps_the_weights_alone(market):
    market.finish("finalize")
    whole = read_variables(market.checkpoint)
    weights = read_variables(market.cwd / "people.ckpt")
    assert {market.variable, market.classes} <= set(weights)
    assert not [name for name in weights if "Adam" in name or name == "global_step"]
    for name, value in weights.items():
        np.testing.assert_array_equal(value, whole[name], err_msg=name)


@pytest.mark.parametrize("market", ["own"], indirect=True)
def test_a_loss_of_the_folder_goes_on_from_a_checkpoint(market):
    market.folder.run(
        "--loss_mode=angular", "--batch_size=8", "--number_of_steps=2", "--log_dir=log",
        "--run_id=second", f"--restore_path={market.checkpoint}",
    )  # fmt: skip
    run_dir = market.cwd / "log" / "second"
    trained, end = (
        read_variables(path)[market.variable]
        for path in (market.checkpoint, run_dir / "model.ckpt-2")
    )
    # A step of Adam moves a weight by no more than about the learning rate, which is 1e-3. The
    # first checkpoint would not do: a thread writes it while the first step runs.
    np.testing.assert_allclose(end, trained, rtol=0.0, atol=3e-3)
    assert (end != trained).any()
    assert np.isfinite(list(read_scalars(run_dir)["angular_loss"].values())).all()


@pytest.mark.long
def test_the_engine_deep_reid_names_what_the_folder_has_and_this_package_has_not(tmp_path):
    folder, _ = create_market("deep_reid", tmp_path)
    output = folder.run("--loss_mode=angular", codes=(2,))
    assert "angular_loss" in output
    assert "angular is unknown: use one of" in output
    assert "Traceback" not in output


def create_vehicles(engine, cwd):
    copy_sample("vehicles", cwd)
    if engine == "own":
        copy_modules(cwd, "train_app.py", "queued_trainer.py", "losses.py", "metrics.py")
        copy_modules(cwd / "datasets", "datasets/util.py")
    old_data.draw_vehicles(cwd / "vehicles")
    return Folder(cwd, [*RUNNER, f"--engine={engine}", "train_vehicles.py"])


@pytest.fixture(scope="module", params=["own", "deep_reid"])
def vehicles(request, tmp_path_factory):
    """The sample `vehicles`, trained for some steps."""
    modes = ("export", "score", "finalize", "freeze")
    sample = Sample(
        create_vehicles(request.param, tmp_path_factory.mktemp("vehicles")),
        steps=20,
        train_argv=["--batch_size=16", "--loss_mode=triplet"],
        eval_argv=["--loss_mode=triplet"],
        modes={mode: ["--loss_mode=triplet"] for mode in modes},
    )
    yield sample
    sample.kill()


@pytest.mark.long
def test_a_network_of_the_folder_learns_from_bgr_arrays(vehicles):
    variables = read_variables(vehicles.checkpoint)
    assert variables["global_step"] == 20
    assert variables["MobileNet/Conv2d_3_depthwise/depthwise_weights"].shape == (3, 3, 16, 1)
    scalars = read_scalars(vehicles.checkpoint.parent)
    assert all(np.isfinite(value) for value in scalars["triplet_loss"].values())


@pytest.mark.long
def test_a_network_of_the_folder_is_evaluated(vehicles):
    scalars = vehicles.finish_evaluation()
    assert 0.0 <= scalars["Precision_1"][20] <= scalars["Precision_10"][20] == 1.0


@pytest.mark.long
def test_arrays_files_in_the_graph_and_the_frozen_graph_give_the_same_features(vehicles):
    vehicles.finish("export", "score", "freeze")
    exported = io.loadmat(vehicles.cwd / "tmp" / "vehicles_sdk" / "features.mat")
    features = exported["features"]
    assert_unit_rows(features, 64)
    in_graph = np.load(vehicles.cwd / "tmp" / "vehicles_score" / "features.npy")
    np.testing.assert_allclose(in_graph, features, atol=2e-2)
    paths = sorted((vehicles.cwd / "vehicles").glob("*.jpg"))
    images = np.stack([cv2.imread(str(path)) for path in paths])
    frozen = encode_with_frozen_graph(vehicles.cwd / "tmp" / "vehicles.pb", images)
    np.testing.assert_allclose(frozen, features, atol=1e-4)
    # Two colors are what a vehicle has: features of an untrained network, too, tell some apart.
    rank1 = float((vehicles.cwd / "tmp" / "vehicles_score" / "rank1.txt").read_text())
    assert rank1 > 0.5


@pytest.mark.long
def test_a_network_of_the_folder_is_finalized(vehicles):
    vehicles.finish("finalize")
    weights = read_variables(vehicles.cwd / "tmp" / "vehicles.ckpt")
    assert {name.partition("/")[0] for name in weights} == {"MobileNet"}


@pytest.mark.long
@pytest.mark.parametrize("engine", ["own", "deep_reid"])
def test_a_fork_that_became_a_package_imports_relatively(engine, tmp_path):
    copy_sample("packaged", tmp_path / "packaged")
    copy_modules(tmp_path / "packaged", "queued_trainer.py", "losses.py", "metrics.py")
    folder = Folder(tmp_path, [*RUNNER, f"--engine={engine}", "-m", "packaged.train"])
    output = folder.run("--number_of_steps=4")
    assert "package packaged: rank-1 is " in output
    log_dir = tmp_path / "tmp" / "packaged" / "small"
    assert read_variables(log_dir / "model.ckpt-4")["Small/fc/weights"].shape == (48, 8)
    (scores,) = read_scalars(tmp_path / "tmp" / "packaged_eval" / "small")["Precision_1"].values()
    assert 0.0 <= scores <= 1.0


@with_both_engines
def test_a_half_ported_fork_trains_and_evaluates_with_slim(engine, tmp_path):
    copy_sample("half_ported", tmp_path)
    output = Folder(tmp_path, [*RUNNER, f"--engine={engine}", "train.py"]).run()
    scores = dict(re.findall(r"^(accuracy|recall): ([01][.][0-9]{4})$", output, re.MULTILINE))
    assert 0.0 <= float(scores["accuracy"]) <= float(scores["recall"]) <= 1.0
    variables = read_variables(tmp_path / "tmp" / "half_ported" / "model.ckpt-4")
    assert variables["Half/fc/weights"].shape == (192, 8)
