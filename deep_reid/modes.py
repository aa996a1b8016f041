"""What each mode of the training scripts does, from parsed arguments to the work itself.

TensorFlow takes seconds to import. Arguments and data are checked first, so that a mistake is
answered at once: therefore the imports within the functions.
"""

import functools
import importlib.metadata
import logging
import os
import platform
import secrets
import sys

from deep_reid import __version__, matlab, ranking, report, runs, scoring
from deep_reid.config import LOSS_MODES, RunConfig, measure_of_loss_mode
from deep_reid.errors import MissingPathError, RunError, UsageError

_logger = logging.getLogger(__name__)


def train(args, dataset_class):
    """Train a run until its last step."""
    loss_mode, seed = _settings_of_run(args.log_dir, args.run_id)
    config = RunConfig(
        image_shape=dataset_class.IMAGE_SHAPE,
        batch_size=args.batch_size,
        loss_mode=args.loss_mode or loss_mode,
        learning_rate=args.learning_rate,
        number_of_steps=args.number_of_steps,
        seed=seed if args.seed is None else args.seed,
        restore_path=args.restore_path,
        save_summaries_secs=args.save_summaries_secs,
        save_interval_secs=args.save_interval_secs,
        max_checkpoints_to_keep=args.max_checkpoints_to_keep,
        log_every_n_steps=args.log_every_n_steps,
    )
    dataset = dataset_class(args.dataset_dir)
    _logger.info("%s in %s", dataset_class.TITLE, args.dataset_dir)
    for line in dataset.summary_table().splitlines():
        _logger.info("%s", line)
    from deep_reid import training
    from deep_reid.nets import deep_sort

    _log_environment(config)
    network_factory = deep_sort.create_network_factory(
        is_training=True,
        num_classes=dataset.num_classes,
        add_logits=config.loss_mode == "cosine-softmax",
    )
    training.train(
        deep_sort.preprocess,
        network_factory,
        dataset.train.filenames,
        dataset.train.labels,
        config,
        args.log_dir,
        args.run_id,
    )


def evaluate(args, dataset_class):
    """Score each checkpoint of a run as it comes."""
    if args.restore_path is not None:
        raise UsageError(
            "--restore_path does not go with --mode=eval, which watches the checkpoints of a run: "
            "name the run with --run_id"
        )
    validation = dataset_class(args.dataset_dir).validation
    run_id = runs.wait_for_run(args.log_dir, args.run_id, timeout_secs=args.timeout_secs)
    from deep_reid import evaluation
    from deep_reid.nets import deep_sort

    _logger.info("Evaluating run %s on %d images", run_id, len(validation))
    scores = evaluation.eval_loop(
        deep_sort.preprocess,
        _create_inference_network(),
        validation.filenames,
        validation.labels,
        validation.cameras,
        args.log_dir,
        args.eval_log_dir,
        image_shape=dataset_class.IMAGE_SHAPE,
        run_id=run_id,
        loss_mode=args.loss_mode or _settings_of_run(args.log_dir, run_id)[0],
        num_galleries=dataset_class.NUM_GALLERIES,
        eval_interval_secs=args.eval_interval_secs,
        max_num_evaluations=args.max_num_evaluations,
        timeout_secs=args.timeout_secs,
        projector=args.projector,
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
    test_set = dataset_class(args.dataset_dir, needs_train=False).test_set()
    source, loss_mode, features = _find_features(args, dataset_class, test_set)
    query, gallery = scoring.create_feature_sets(test_set, *features)
    settings = _settle_ranking(test_set, loss_mode)
    _logger.info("%s, by %s distance", test_set.protocol, settings["measure"])
    results = {"score": ranking.rank(query, gallery, **settings)}
    if args.rerank:
        results["re-ranked"] = ranking.rank(query, gallery, rerank=ranking.Rerank(), **settings)
    _log_unmatched(results["score"])
    header, rows = scoring.format_table(results)
    sys.stdout.write(scoring.to_text(header, rows) + "\n")
    facts = {
        "protocol": test_set.protocol,
        "measure": settings["measure"],
        "dataset_dir": args.dataset_dir,
        **source,
        "versions": _list_versions(),
    }
    scoring.write_metrics(args.metrics_file, results["score"], results.get("re-ranked"), facts)
    _logger.info("Wrote the scores to %s", args.metrics_file)
    if args.report_dir is not None:
        rules = {name: settings[name] for name in ("same_camera_is_junk", "self_indices")}
        query_images, gallery_images = scoring.list_item_images(test_set)
        path = report.write_report(
            args.report_dir,
            title=dataset_class.TITLE,
            table=rows,
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


def _settle_ranking(test_set, loss_mode):
    settings = {
        "measure": measure_of_loss_mode(loss_mode),
        "same_camera_is_junk": not test_set.has_one_camera,
        "self_indices": None,
    }
    if test_set.has_one_camera:
        _logger.info("All images are of one camera: only the query itself is left out")
        settings["self_indices"] = scoring.find_self_indices(test_set)
    return settings


def _check_test_arguments(args):
    sources = ("features", "frozen_graph", "restore_path")
    given = [f"--{name}" for name in sources if getattr(args, name) is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are two sources of features: give one of them")
    if args.query_features is not None and args.features is None:
        raise UsageError("--query_features goes with --features: give the gallery's, too")


def _find_features(args, dataset_class, test_set):
    """Return where features come from, their loss mode, and those of gallery and query."""
    loss_mode = args.loss_mode or LOSS_MODES[0]
    has_query_images = test_set.list_query_images is not None
    if args.features is not None:
        if has_query_images and args.query_features is None:
            raise UsageError("--features needs --query_features: this data set has query images")
        paths = [args.features] + [args.query_features] * has_query_images
        return (
            {"features": ", ".join(paths)},
            loss_mode,
            [scoring.load_features(path) for path in paths],
        )
    if args.frozen_graph is not None:
        from deep_reid.export import encode_with_frozen_graph

        source = {"frozen_graph": args.frozen_graph}
        encode_images = functools.partial(encode_with_frozen_graph, args.frozen_graph)
    else:
        checkpoint_path = _find_checkpoint(args)
        loss_mode = args.loss_mode or _settings_of_run(os.path.dirname(checkpoint_path), "")[0]
        source = {"checkpoint": checkpoint_path}
        encode_images = _create_encoder(checkpoint_path, dataset_class.IMAGE_SHAPE)
    image_lists = {"gallery": test_set.gallery_images}
    if has_query_images:
        image_lists["query"] = test_set.query_images
    features = []
    for name, images in image_lists.items():
        with _progress_bar(len(images), name) as bar:
            features.append(encode_images(images, batch_size=args.batch_size, progress=bar.update))
    return source, loss_mode, features


def _create_encoder(checkpoint_path, image_shape):
    from deep_reid.export import encode
    from deep_reid.nets import deep_sort

    return functools.partial(
        encode,
        deep_sort.preprocess,
        _create_inference_network(),
        checkpoint_path,
        image_shape=image_shape,
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
    image_files = dataset_class(args.dataset_dir, needs_train=False).export_files()
    encode_images = _create_encoder(_find_checkpoint(args), dataset_class.IMAGE_SHAPE)
    for filename, images in image_files.items():
        path = os.path.join(args.sdk_dir, filename)
        with _progress_bar(len(images), filename) as bar:
            features = encode_images(images, batch_size=args.batch_size, progress=bar.update)
        matlab.write_features(path, features)
        _logger.info("Wrote the features of %d images to %s", len(images), path)


def finalize(args, dataset_class):
    """Write a checkpoint of the weights alone."""
    checkpoint_path = _find_checkpoint(args)
    from deep_reid import checkpoints
    from deep_reid.export import finalize as write_model
    from deep_reid.nets import deep_sort

    num_classes = deep_sort.num_classes_in(checkpoints.variable_shapes(checkpoint_path))
    network_factory = deep_sort.create_network_factory(
        is_training=False, num_classes=num_classes, add_logits=num_classes is not None
    )
    write_model(
        deep_sort.preprocess,
        network_factory,
        checkpoint_path,
        dataset_class.IMAGE_SHAPE,
        args.output or f"./{dataset_class.NAME}.ckpt",
    )


def freeze(args, dataset_class):
    """Write the frozen graph."""
    checkpoint_path = _find_checkpoint(args)
    from deep_reid.export import freeze as write_graph
    from deep_reid.nets import deep_sort

    write_graph(
        deep_sort.preprocess,
        _create_inference_network(),
        checkpoint_path,
        dataset_class.IMAGE_SHAPE,
        args.output or f"./{dataset_class.NAME}.pb",
    )


def _create_inference_network():
    from deep_reid.nets import deep_sort

    return deep_sort.create_network_factory(is_training=False, num_classes=None, add_logits=False)


def _find_checkpoint(args):
    path = args.restore_path
    if path is None:
        run_id = args.run_id or runs.find_latest_run(args.log_dir)
        path = os.path.join(args.log_dir, run_id or "")
        if run_id is None or not os.path.isdir(path):
            raise MissingPathError(
                f"{args.log_dir} has no run{f' {args.run_id}' if args.run_id else ''}: train first "
                "(--mode=train), name another run, or name a checkpoint with --restore_path"
            )
    from deep_reid import checkpoints

    checkpoint_path = checkpoints.resolve_checkpoint(path)
    _logger.info("Using checkpoint %s", checkpoint_path)
    if checkpoints.step_of(checkpoint_path) == 0 and checkpoint_path.endswith("-0"):
        _logger.warning("This is the checkpoint of step 0: nothing has been learned yet")
    return checkpoint_path


def _settings_of_run(log_dir, run_id):
    """Return loss mode and seed of a run, or the defaults for a new one."""
    try:
        config = RunConfig.load(os.path.join(log_dir, run_id or ""))
    except MissingPathError:
        # A new run, or one of another program. A seed of its own makes a run repeatable.
        return LOSS_MODES[0], secrets.randbelow(2**31)
    return config.loss_mode, config.seed


def _log_environment(config):
    from deep_reid.sessions import describe_devices

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

    return tqdm(total=total, desc=title, unit=" images")
