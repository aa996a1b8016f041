"""What each mode of the training scripts does, from parsed arguments to the work itself.

TensorFlow takes seconds to import. Arguments and data are checked first, so that a mistake is
answered at once: therefore the imports within the functions.
"""

import dataclasses
import functools
import importlib
import importlib.metadata
import logging
import os
import platform
import sys

from deep_reid import __version__
from deep_reid.cli import signals
from deep_reid.cli.settings import (
    check_split,
    find_run_dir,
    is_dataset_of_run,
    open_dataset,
    settle,
    settle_computing,
    settle_training,
)
from deep_reid.config.run import NETWORKS, measure_of_loss_mode
from deep_reid.errors import DataError, MissingPathError, RunError, UsageError
from deep_reid.runs import folder, labels
from deep_reid.scoring import protocols, ranking, report
from deep_reid.system import matlab
from deep_reid.system.tables import align

_logger = logging.getLogger(__name__)


def train(args, dataset_class):
    """Train a run until its last step."""
    config = settle_training(args, dataset_class)
    dataset = open_dataset(dataset_class, config)
    _logger.info("%s in %s", dataset_class.TITLE, config.dataset)
    for line in dataset.summary_table().splitlines():
        _logger.info("%s", line)
    if args.check_data:
        _check_data(dataset, config)
    if dataset_class.FITS_BATCHES:
        config = _fit_batches(config, dataset.train.num_identities)
    class_names, classes = None, dataset.train.labels
    if config.compact_labels:
        class_names, classes = labels.to_classes(dataset.train.labels, dataset.name_of)
    from deep_reid.training import loop

    network = _import_network(config)
    _log_environment(config)
    network_factory = network.create_network_factory(
        is_training=True,
        num_classes=dataset.num_classes if class_names is None else len(class_names),
        add_logits=config.loss_mode == "cosine-softmax",
    )
    subject = (network.preprocess, network_factory, dataset.train.filenames, classes)
    if args.benchmark_input or args.benchmark_model:
        _benchmark(args, config, *subject)
        return
    with signals.deferred() as should_stop, folder.lock_run(args.log_dir, args.run_id) as run_id:
        loop.train(
            *subject,
            dataclasses.replace(config, dataset=os.path.abspath(config.dataset)),
            args.log_dir,
            run_id,
            class_names,
            should_stop=should_stop,
        )
    if should_stop() is not None:
        _logger.info("Saved; --run_id=%s with the same settings goes on from there", run_id)
        raise signals.Stopped(should_stop())
    _logger.info("Run %s is trained: --mode=test scores it, --mode=freeze exports it", run_id)


def _benchmark(args, config, preprocess_fn, network_factory, filenames, classes):
    """Print how fast the images come, and how fast the training steps are, each alone."""
    from deep_reid.training import speed

    measure = {
        "input": lambda: speed.measure_input(preprocess_fn, filenames, classes, config),
        "model": lambda: speed.measure_model(
            preprocess_fn, network_factory, filenames, classes, config
        ),
    }
    speeds = {}
    for name in [name for name in measure if getattr(args, f"benchmark_{name}")]:
        _logger.info("Measuring the %s alone", name)
        speeds[name] = measure[name]()
        sys.stdout.write(f"{name} alone: {speeds[name]:.1f} images/s\n")
        sys.stdout.flush()
    if len(speeds) > 1:
        sys.stdout.write(f"the {min(speeds, key=speeds.get)} limits this training\n")


def _fit_batches(config, num_identities):
    batch_size = num_identities * config.num_images_per_id
    if config.batch_size <= batch_size:
        return config
    _logger.warning(
        "Batches have %d identities instead of %d, as there are no more: --batch_size=%d",
        num_identities,
        config.num_identities_per_batch,
        batch_size,
    )
    return dataclasses.replace(config, batch_size=batch_size)


def _check_data(dataset, config):
    from deep_reid.images.check import check_images

    splits = dataset.list_splits().values()
    filenames = [name for split in splits for name in split.filenames]
    identities = [dataset.name_of(label) for split in splits for label in split.labels.tolist()]
    with _progress_bar(len(filenames), "check") as bar:
        problems = check_images(filenames, identities, config.image_shape[2], progress=bar.update)
    for problem in problems:
        _logger.warning("%s: %s", problem.filename, problem.reason)
    if problems:
        raise DataError(
            f"{len(problems)} of {len(filenames)} images cannot be used (listed above): replace "
            "the files, or remove them from the data set"
        )
    _logger.info("All %d images can be read, and none is of two identities", len(filenames))


def evaluate(args, dataset_class):
    """Score each checkpoint of a run as it comes."""
    if args.restore_path is not None:
        raise UsageError(
            "--restore_path does not go with --mode=eval, which watches the checkpoints of a run: "
            "name the run with --run_id"
        )
    # Data that is not there is said at once, not when the training has begun.
    expected = settle(args, dataset_class, find_run_dir(args)).dataset
    if expected is not None:
        dataset_class.find(expected, "")
    run_id = folder.wait_for_run(args.log_dir, args.run_id, timeout_secs=args.timeout_secs)
    run_dir = os.path.join(args.log_dir, run_id)
    config = settle(args, dataset_class, run_dir)
    dataset = open_dataset(dataset_class, config)
    validation = dataset.validation
    _check_unseen(run_dir, dataset, validation.labels)
    check_split(config, run_dir)
    from deep_reid.evaluation import loop

    network = _import_network(config)
    _logger.info("Evaluating run %s on %d images", run_id, len(validation))
    scores = loop.eval_loop(
        network.preprocess,
        _create_inference_network(network),
        validation.filenames,
        validation.labels,
        validation.cameras,
        args.log_dir,
        args.eval_log_dir,
        image_shape=config.image_shape,
        run_id=run_id,
        loss_mode=config.loss_mode,
        num_galleries=dataset_class.NUM_GALLERIES,
        eval_interval_secs=args.eval_interval_secs,
        max_num_evaluations=args.max_num_evaluations,
        timeout_secs=args.timeout_secs,
        projector=args.projector,
        keep_best=args.keep_best,
        compute=settle_computing(args),
        feed_timeout_secs=config.feed_timeout_secs,
    )
    if scores is None:
        raise RunError(
            f"run {run_id} in {args.log_dir} had no checkpoint for {args.timeout_secs:g} s: is "
            "training under way? A longer --timeout_secs waits longer"
        )


def test(args, dataset_class):
    """Score a checkpoint, a frozen graph or ready features by the official protocol."""
    _check_test_arguments(args)
    if args.report_dir is not None:
        report.check_dependencies()
    run_dir = find_run_dir(args)
    config = settle(args, dataset_class, run_dir)
    if config.dataset is None and args.features is None and args.frozen_graph is None:
        _require_run(args)
    dataset = open_dataset(dataset_class, config, needs_train=False)
    test_set = dataset.test_set()
    if run_dir is not None:
        _check_unseen(run_dir, dataset, test_set.query_labels)
    source, features = _find_features(args, config, test_set)
    query, gallery = protocols.create_feature_sets(test_set, *features)
    settings = _settle_ranking(test_set, config.loss_mode)
    _logger.info("%s, by %s distance", test_set.protocol, settings["measure"])
    results = {"score": ranking.rank(query, gallery, **settings)}
    if args.rerank:
        results["re-ranked"] = ranking.rank(query, gallery, rerank=ranking.Rerank(), **settings)
    _log_unmatched(results["score"])
    table = protocols.format_table(results)
    sys.stdout.write(align(table) + "\n")
    facts = {
        "protocol": test_set.protocol,
        "measure": settings["measure"],
        "dataset_dir": config.dataset,
        **source,
        "versions": _list_versions(),
    }
    protocols.write_metrics(args.metrics_file, results["score"], results.get("re-ranked"), facts)
    _logger.info("Wrote the scores to %s", args.metrics_file)
    if args.report_dir is not None:
        rules = {name: settings[name] for name in ("same_camera_is_junk", "self_indices")}
        query_images, gallery_images = protocols.list_item_images(test_set)
        path = report.write_report(
            args.report_dir,
            title=dataset_class.TITLE,
            table=table[1:],
            result=results["score"],
            reranked=results.get("re-ranked"),
            query=query,
            gallery=gallery,
            query_images=query_images,
            gallery_images=gallery_images,
            measure=settings["measure"],
            settings=facts,
            nearest_kwargs=rules,
        )
        _logger.info("Wrote the report to %s", path)


def _check_unseen(run_dir, dataset, test_labels):
    """Check that a run is not scored on what it was trained on, where it is the same data."""
    if is_dataset_of_run(run_dir, dataset.dataset_dir):
        names = {dataset.name_of(label) for label in set(test_labels.tolist())}
        labels.check_unseen(run_dir, names)


def _settle_ranking(test_set, loss_mode):
    settings = {
        "measure": measure_of_loss_mode(loss_mode),
        "same_camera_is_junk": test_set.is_cross_camera,
        "self_indices": None,
    }
    if not test_set.is_cross_camera:
        _logger.info("No identity is seen by two cameras: only the query itself is left out")
        settings["self_indices"] = protocols.find_self_indices(test_set)
    return settings


def _check_test_arguments(args):
    sources = ("features", "frozen_graph", "restore_path")
    given = [f"--{name}" for name in sources if getattr(args, name) is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are two sources of features: give one of them")
    if args.query_features is not None and args.features is None:
        raise UsageError("--query_features goes with --features: give the gallery's, too")


def _find_features(args, config, test_set):
    """Return where features come from, and those of gallery and query."""
    has_query_images = test_set.list_query_images is not None
    if args.features is not None:
        if has_query_images and args.query_features is None:
            raise UsageError("--features needs --query_features: this data set has query images")
        paths = [args.features] + [args.query_features] * has_query_images
        return {"features": ", ".join(paths)}, [protocols.load_features(path) for path in paths]
    if args.frozen_graph is not None:
        from deep_reid.export.encoding import encode_with_frozen_graph

        source = {"frozen_graph": args.frozen_graph}
        encode_images = functools.partial(
            encode_with_frozen_graph, args.frozen_graph, compute=settle_computing(args)
        )
    else:
        checkpoint_path = _find_checkpoint(args, config)
        source = {"checkpoint": checkpoint_path, "precision": args.precision}
        encode_images = _create_encoder(checkpoint_path, config, settle_computing(args))
    image_lists = {"gallery": test_set.gallery_images}
    if has_query_images:
        image_lists["query"] = test_set.query_images
    features = []
    for name, images in image_lists.items():
        with _progress_bar(len(images), name) as bar:
            features.append(encode_images(images, batch_size=args.batch_size, progress=bar.update))
    return source, features


def _create_encoder(checkpoint_path, config, compute):
    from deep_reid.export.encoding import encode

    network = _import_network(config)
    return functools.partial(
        encode,
        network.preprocess,
        _create_inference_network(network),
        checkpoint_path,
        image_shape=config.image_shape,
        compute=compute,
    )


def _log_unmatched(result):
    if result.num_queries_without_match:
        _logger.warning(
            "%d of %d queries have no match in the gallery and are left out of all means",
            result.num_queries_without_match,
            result.num_queries,
        )


def export(args, dataset_class):
    """Write the test images' features for the official MATLAB codes."""
    config = settle(args, dataset_class, find_run_dir(args))
    if config.dataset is None:
        _require_run(args)
    dataset = open_dataset(dataset_class, config, needs_train=False)
    image_files = dataset.export_files()
    encode_images = _create_encoder(_find_checkpoint(args, config), config, settle_computing(args))
    for filename, images in image_files.items():
        path = os.path.join(args.sdk_dir, filename)
        with _progress_bar(len(images), filename) as bar:
            features = encode_images(images, batch_size=args.batch_size, progress=bar.update)
        matlab.write_features(path, features)
        _logger.info("Wrote the features of %d images to %s", len(images), path)


def finalize(args, dataset_class):
    """Write a checkpoint of the weights alone."""
    config = settle(args, dataset_class, find_run_dir(args))
    checkpoint_path = _find_checkpoint(args, config)
    from deep_reid.export.encoding import finalize as write_model
    from deep_reid.runs import checkpoints

    network = _import_network(config)
    num_classes = network.num_classes_in(checkpoints.variable_shapes(checkpoint_path))
    network_factory = network.create_network_factory(
        is_training=False, num_classes=num_classes, add_logits=num_classes is not None
    )
    write_model(
        network.preprocess,
        network_factory,
        checkpoint_path,
        config.image_shape,
        args.output or f"./{dataset_class.NAME}.ckpt",
    )


def freeze(args, dataset_class):
    """Write the frozen graph."""
    config = settle(args, dataset_class, find_run_dir(args))
    checkpoint_path = _find_checkpoint(args, config)
    from deep_reid.export.encoding import freeze as write_graph

    network = _import_network(config)
    write_graph(
        network.preprocess,
        _create_inference_network(network),
        checkpoint_path,
        config.image_shape,
        args.output or f"./{dataset_class.NAME}.pb",
        with_preprocessing=not args.no_preprocess,
    )


def _import_network(config):
    return importlib.import_module(f"deep_reid.nets.{config.network}")


def _create_inference_network(network):
    return network.create_network_factory(is_training=False, num_classes=None, add_logits=False)


def _require_run(args):
    run_dir = find_run_dir(args)
    if run_dir is None:
        raise MissingPathError(
            f"{args.log_dir} has no run{f' {args.run_id}' if args.run_id else ''}: train first "
            "(--mode=train), name another run, or name a checkpoint with --restore_path"
        )
    return run_dir


def _find_checkpoint(args, config):
    run_dir = _require_run(args)
    from deep_reid.runs import checkpoints

    checkpoint_path = checkpoints.resolve_checkpoint(args.restore_path or run_dir)
    _logger.info("Using checkpoint %s", checkpoint_path)
    if checkpoints.step_of(checkpoint_path) == 0 and checkpoint_path.endswith("-0"):
        _logger.warning("This is the checkpoint of step 0: nothing has been learned yet")
    if not _import_network(config).fits(checkpoints.variable_shapes(checkpoint_path)):
        raise UsageError(
            f"checkpoint {checkpoint_path} is of another network than {config.network}: tell which "
            f"with --network ({', '.join(NETWORKS)})"
        )
    return checkpoint_path


def _log_environment(config):
    from deep_reid.runtime.sessions import describe_devices

    versions = ", ".join(f"{name} {version}" for name, version in _list_versions().items())
    _logger.info("%s, %s", versions, describe_devices())
    _logger.info(
        "Loss %s, learning rate %g, %d identities x %d images per batch, seed %d",
        config.loss_mode,
        config.learning_rate,
        config.num_identities_per_batch,
        config.num_images_per_id,
        config.seed,
    )


def _list_versions():
    packages = {"TensorFlow": "tensorflow", "NumPy": "numpy", "OpenCV": "opencv-python"}
    versions = {"Deep ReID": __version__}
    for title, package in packages.items():
        try:
            versions[title] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # installed by another name, or not
            versions[title] = "unknown"
    return {**versions, "Python": platform.python_version()}


def _progress_bar(total, title):
    from tqdm import tqdm

    # Not at once: what is refused in the first moment leaves no bar behind.
    return tqdm(total=total, desc=title, unit=" images", delay=1)
