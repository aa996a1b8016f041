"""The package as it is installed, and the names that the original's users have in their code."""

import importlib
import inspect
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]

# Signatures may gain keyword-only arguments; what stands here keeps its order and defaults.
SIGNATURES = {
    "training.create_trainer": "preprocess_fn, network_factory, read_from_file, image_shape, "
    "batch_size, loss_mode, learning_rate=0.001, trainable_scopes=None",
    "training.train_loop": "preprocess_fn, network_factory, train_x, train_y, num_images_per_id, "
    "batch_size, log_dir, image_shape=None, restore_path=None, exclude_from_restore=None, "
    "run_id=None, number_of_steps=None, loss_mode='cosine-softmax', learning_rate=0.001, "
    "trainable_scopes=None, save_summaries_secs=60, save_interval_secs=300",
    "evaluation.eval_loop": "preprocess_fn, network_factory, data_x, data_y, camera_indices, "
    "log_dir, eval_log_dir, image_shape=None, run_id=None, loss_mode='cosine-softmax', "
    "num_galleries=10, random_seed=4321",
    "export.finalize": "preprocess_fn, network_factory, checkpoint_path, image_shape, "
    "output_filename",
    "export.freeze": "preprocess_fn, network_factory, checkpoint_path, image_shape, "
    "output_filename, input_name='images', feature_name='features'",
    "export.encode": "preprocess_fn, network_factory, checkpoint_path, images_or_filenames, "
    "batch_size=32, session=None, image_shape=None",
    "queued_trainer.QueuedTrainer": "enqueue_vars, input_vars=None, num_enqueue_threads=4, "
    "queue_capacity=512",
    "queued_trainer.QueuedTrainer.get_input_vars": "self, batch_size",
    "queued_trainer.QueuedTrainer.run": "self, feed_generator, train_op, "
    "log_dir='./output/train', "
    "restore_path=None, variables_to_restore=None, run_id=None, max_checkpoints_to_keep=5, "
    "**slim_train_kwargs",
    "queued_trainer.QueuedTrainer.evaluate": "self, dataset, checkpoint_dir, log_dir, run_id=None, "
    "init_op=None, eval_op=None, final_op=None, summary_op=None, variables_to_restore=None, "
    "eval_interval_secs=60, max_num_evaluations=None",
    "samplers.run_in_batches": "f, data_dict, out, batch_size",
    "samplers.iterate_forever": "batch_size, data, *other",
    "samplers.random_shuffle_forever": "batch_size, data, *other",
    "samplers.random_sample_identities_forever": "batch_size, num_samples_per_id, data_x, data_y, "
    "num_fa_images=0",
    "losses.softmargin_triplet_loss": "features, labels, create_summaries=True",
    "losses.magnet_loss": "features, labels, margin=1.0, unique_labels=None",
    "metrics.pdist": "a, b=None",
    "metrics.cosine_distance": "a, b=None",
    "metrics.recognition_rate_at_k": "probe_x, probe_y, gallery_x, gallery_y, k, measure=pdist",
    "metrics.streaming_mean_cmc_at_k": "probe_x, probe_y, gallery_x, gallery_y, k, measure=pdist",
    "metrics.streaming_mean_averge_precision": "probe_x, probe_y, gallery_x, gallery_y, good_mask, "
    "measure=pdist",
    "nets.deep_sort.create_network": "images, num_classes=None, add_logits=True, reuse=None, "
    "create_summaries=True, weight_decay=1e-08",
    "nets.deep_sort.create_network_factory": "is_training, num_classes, add_logits, "
    "weight_decay=1e-08, reuse=None",
    "nets.deep_sort.preprocess": "image, is_training=False, input_is_bgr=False",
    "datasets.util.create_validation_split": "data_y, num_validation_y, seed=None",
    "datasets.util.create_cmc_probe_and_gallery": "data_y, camera_indices=None, seed=None",
    "datasets.util.limit_num_elements_per_identity": "data_y, max_num_images_per_id, seed=None",
    "datasets.util.crop_to_shape": "images, patch_shape",
    "datasets.market1501.read_train_split_to_str": "dataset_dir",
    "datasets.market1501.read_train_split_to_image": "dataset_dir, image_shape=(128, 64, 3)",
    "datasets.market1501.read_test_split_to_str": "dataset_dir",
    "datasets.market1501.read_test_split_to_image": "dataset_dir, image_shape=(128, 64, 3)",
    "datasets.mars.read_train_test_directory_to_str": "directory",
    "datasets.mars.read_train_test_directory_to_image": "directory, image_shape=(128, 64)",
    "datasets.mars.read_train_split_to_str": "dataset_dir",
    "datasets.mars.read_train_split_to_image": "dataset_dir, image_shape=(128, 64)",
    "datasets.mars.read_test_split_to_str": "dataset_dir",
    "datasets.mars.read_test_split_to_image": "dataset_dir, image_shape=(128, 64)",
}


def find(name):
    """Find an attribute by its dotted name, in deep_reid unless it names `datasets`."""
    parts = (name if name.startswith("datasets.") else f"deep_reid.{name}").split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            found = getattr(found, attribute)
        return found
    raise LookupError(name)


@pytest.mark.parametrize("name", SIGNATURES)
def test_public_signatures_keep_their_order_and_defaults(name):
    parameters = inspect.signature(find(name)).parameters.values()
    untyped = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
    kept = [str(p) for p in untyped if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    text = re.sub(r"<function (\w+) at \w+>", r"\1", ", ".join(kept))
    assert text == SIGNATURES[name]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("train_app.create_trainer", "training.create_trainer"),
        ("train_app.train_loop", "training.train_loop"),
        ("train_app.eval_loop", "evaluation.eval_loop"),
        ("train_app.encode", "export.encode"),
        ("train_app.finalize", "export.finalize"),
        ("train_app.freeze", "export.freeze"),
        ("queued_trainer.run_in_batches", "samplers.run_in_batches"),
        (
            "datasets.util.create_cmc_probe_and_gallery",
            "samplers.galleries.create_cmc_probe_and_gallery",
        ),
        ("metrics.streaming_mean_averge_precision", "metrics.streaming_mean_average_precision"),
        ("metrics.pdist", "distances.pdist"),
    ],
)
def test_old_names_lead_to_the_same_things(old, new):
    assert find(old) is find(new)


def test_the_argument_helpers_of_the_original_fit_together():
    train_app = find("train_app")
    args = train_app.create_default_argument_parser("cars").parse_args(["--batch_size=64"])
    assert args.log_dir == "./output/cars/train"
    train_kwargs, eval_kwargs = train_app.to_train_kwargs(args), train_app.to_eval_kwargs(args)
    assert (train_kwargs["batch_size"], train_kwargs["loss_mode"]) == (64, "cosine-softmax")
    inspect.signature(train_app.train_loop).bind(
        "preprocess", "factory", "x", "y", num_images_per_id=4, **train_kwargs
    )
    inspect.signature(train_app.eval_loop).bind(
        "preprocess", "factory", "x", "y", "cameras", **eval_kwargs
    )


def test_constants_of_the_data_sets():
    from datasets import market1501, mars

    assert (market1501.MAX_LABEL, market1501.IMAGE_SHAPE) == (1501, (128, 64, 3))
    assert (mars.MAX_LABEL, mars.IMAGE_SHAPE) == (1500, (256, 128, 3))
    assert mars.Mars.IMAGE_SHAPE == (128, 64, 3)
    assert (market1501.Market1501.NUM_GALLERIES, mars.Mars.NUM_GALLERIES) == (10, 20)


def test_what_is_installed_is_deep_reid_alone(tmp_path):
    """A package `datasets` among the installed ones would shadow that of Hugging Face."""
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (info,) = tmp_path.iterdir()
    assert (info / "top_level.txt").read_text().split() == ["deep_reid"]
    sources = (info / "SOURCES.txt").read_text().splitlines()
    packaged = {path for path in sources if path.startswith(("deep_reid/", "datasets/"))}
    folders = [ROOT / "deep_reid", ROOT / "datasets"]
    files = [path for folder in folders for path in folder.rglob("*")]
    files = {
        str(path.relative_to(ROOT))
        for path in files
        if path.suffix in (".py", ".jinja") or path.name == "py.typed"
    }
    # It stands for the folder datasets/, which is installed in its place.
    assert packaged == files - {"deep_reid/datasets/__init__.py"}


def python_sources():
    for folder in ("deep_reid", "datasets"):
        yield from (ROOT / folder).rglob("*.py")
    yield from ROOT.glob("train_*.py")


def test_no_assert_and_no_print_in_the_package():
    import ast

    found = []
    for path in python_sources():
        for node in ast.walk(ast.parse(path.read_text())):
            is_print = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
            if is_print or isinstance(node, ast.Assert):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []


def test_images_are_decoded_and_resized_in_one_place():
    for operation in ("decode_jpeg", "tf.io.decode_image", "resize_images"):
        users = [p.name for p in (ROOT / "deep_reid").rglob("*.py") if operation in p.read_text()]
        assert users == ["decoding.py"], operation


def test_every_public_function_of_the_package_is_documented():
    import ast

    missing = []
    for path in python_sources():
        for node in ast.parse(path.read_text()).body:
            is_definition = isinstance(node, (ast.FunctionDef, ast.ClassDef))
            if is_definition and not node.name.startswith("_") and not ast.get_docstring(node):
                missing.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert missing == []
