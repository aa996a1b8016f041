"""``--mode=test``: scores features by the official protocol."""

import contextlib
import logging
import os
import sys

from deep_reid.cli import feature_files, outputs
from deep_reid.cli.command import Command
from deep_reid.cli.settings import find_run_dir, open_dataset, settle
from deep_reid.cli.subject import (
    check_unseen,
    choose_encoder,
    list_versions,
    progress_bar,
    require_run,
    take_run_of_graph,
    warn_of_few,
)
from deep_reid.cli.weights import Weights
from deep_reid.config.loss_modes import facts_of_loss
from deep_reid.errors import DataError, UsageError
from deep_reid.interfaces import Dataset
from deep_reid.scoring import feature_index, protocols, ranking, report
from deep_reid.scoring.names import Names
from deep_reid.system.tables import align

_logger = logging.getLogger(__name__)

# The flags that take what is written as a shard.
_FLAGS = {"gallery": "features", "query": "query_features"}


def test(args: Command, dataset_class: type[Dataset]) -> None:
    """Score a checkpoint, a frozen graph or a file of features by the official protocol."""
    _check_test_arguments(args)
    args = take_run_of_graph(args)
    report_path = None
    if args.report_dir is not None:
        report.check_dependencies()
        report_path = os.path.join(args.report_dir, report.FILENAME)
    outputs.check_paths(args.metrics_file, report_path)
    run_dir = find_run_dir(args)
    config = settle(args, dataset_class, run_dir)
    if config.dataset is None and args.features is None and args.frozen_graph is None:
        require_run(args)
    dataset = open_dataset(dataset_class, config, needs_train=False)
    weights = Weights(args, dataset_class, config)
    run_id = outputs.name_of_run(run_dir)
    of_run = "" if run_id is None else f", with the settings of run {run_id}"
    _logger.info("Testing on %s in %s%s", dataset_class.TITLE, config.dataset, of_run)
    test_set = dataset.test_set()
    if run_dir is not None:
        check_unseen(run_dir, dataset, test_set.query_labels)
    if args.shard is not None:
        _write_shard(args, config, dataset, test_set, weights)
        return
    settings = _settle_ranking(test_set, config.loss_mode)
    source, features = _find_features(args, config, test_set, weights)
    _logger.info("%s, by %s distance", test_set.protocol, settings["measure"])
    with _naming(config.dataset):
        query, gallery = protocols.create_feature_sets(test_set, *features)
        results = {"score": ranking.rank(query, gallery, **settings)}
        if args.rerank:
            results["re-ranked"] = ranking.rank(query, gallery, rerank=ranking.Rerank(), **settings)
    _warn_of_limits(results["score"], query, gallery)
    facts = {
        "protocol": test_set.protocol,
        "measure": settings["measure"],
        "dataset_dir": config.dataset,
        **source,
        "versions": list_versions(),
    }
    origin = outputs.Origin.of_source(source, **{"data set": dataset.dataset_dir})
    _write_scores(args, dataset_class.NAME, results, facts, origin)
    if report_path is not None:
        outputs.warn_of_overwriting(report_path, origin)
        _write_report(args.report_dir, dataset, test_set, features, results, settings, facts)
        outputs.write_manifest(report_path, origin)
        _logger.info("Wrote the report to %s", report_path)
    # After the files: the process that reads this table may have ended.
    sys.stdout.write(align(protocols.format_table(results)) + "\n")


def _write_shard(args, config, dataset, test_set, weights):
    """Write a shard of the features; those who have all of them score them."""
    with contextlib.ExitStack() as stack:
        source, encode_images = choose_encoder(args, config, weights.within(stack))
        checkpoint = source.get("checkpoint")
        run_dir = checkpoint and os.path.dirname(checkpoint)
        lists = {
            outputs.default_path(dataset.NAME, run_dir, "export", _FLAGS[name]): images
            for name, images in _list_images(test_set).items()
        }
        listed = feature_files.list_files(lists, args.shard, args.batch_size)
        origin = outputs.Origin.of_source(source, **{"data set": dataset.dataset_dir})
        for file in listed:
            outputs.warn_of_overwriting(file.path, origin)
        describe = feature_index.create_describer(test_set, dataset.name_of)
        feature_files.write_files(listed, encode_images, args.batch_size, origin, describe)


def _write_report(report_dir, dataset, test_set, features, results, settings, facts):
    query, gallery = protocols.create_feature_sets(test_set, *features)
    query_images, gallery_images = protocols.list_item_images(test_set)
    report.write_report(
        report_dir,
        title=dataset.TITLE,
        table=protocols.format_table(results, unit=" %")[1:],
        result=results["score"],
        reranked=results.get("re-ranked"),
        query=query,
        gallery=gallery,
        query_images=query_images,
        gallery_images=gallery_images,
        measure=settings["measure"],
        settings=facts,
        names=Names(dataset.name_of, dataset.dataset_dir),
        detections=protocols.create_detections(test_set, features[0]),
        nearest_kwargs=settings,
    )


def _write_scores(args, dataset_name, results, facts, origin):
    checkpoint = facts.get("checkpoint")
    metrics_file = args.metrics_file or outputs.default_path(
        dataset_name, checkpoint and os.path.dirname(checkpoint), "test_metrics.json"
    )
    outputs.warn_of_overwriting(metrics_file, origin)
    protocols.write_metrics(metrics_file, results["score"], results.get("re-ranked"), facts)
    outputs.write_manifest(metrics_file, origin)
    _logger.info("Wrote the scores to %s", metrics_file)


def _settle_ranking(test_set, loss_mode):
    if not test_set.is_cross_camera:
        _logger.info(
            "No identity is seen by two cameras, or cameras are unknown: only the query itself is "
            "left out"
        )
    return {
        "measure": facts_of_loss(loss_mode).measure,
        "same_camera_is_junk": test_set.is_cross_camera,
        "self_indices": protocols.find_self_indices(test_set),
    }


def _check_test_arguments(args):
    sources = {
        "--features": args.features,
        "--frozen_graph": args.frozen_graph,
        "--restore_path": args.checkpoint,
    }
    given = [flag for flag, value in sources.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are two sources of features: give one of them")
    results = {
        "--metrics_file": args.metrics_file,
        "--report_dir": args.report_dir,
        "--rerank": args.rerank or None,
    }
    of_scores = [flag for flag, value in results.items() if value is not None]
    of_scores += ["--features"] * (args.features is not None)
    if args.shard is not None and of_scores:
        raise UsageError(
            f"--shard writes a part of the features and scores nothing: give {of_scores[0]} to the "
            "test that reads all shards, without --shard"
        )
    if args.query_features is not None and args.features is None:
        raise UsageError("--query_features goes with --features: give the gallery's, too")


def _find_features(args, config, test_set, weights):
    """Return the source of the features for the report, and the features of gallery and query."""
    has_query_images = test_set.list_query_images is not None
    if args.features is not None:
        with _naming(config.dataset):
            if has_query_images and args.query_features is None:
                raise UsageError(
                    "--features needs --query_features: this data set has query images"
                )
            if not has_query_images and args.query_features is not None:
                raise UsageError(
                    "this data set has no query images, its queries are rows of --features: leave "
                    "--query_features out"
                )
            paths = [args.features] + [args.query_features] * has_query_images
            loaded = [protocols.load_features(path) for path in paths]
            for rows in loaded:
                feature_files.check_shards(rows)
            return {"features": ", ".join(paths)}, loaded
    features = []
    with contextlib.ExitStack() as stack:
        source, encode_images = choose_encoder(args, config, weights.within(stack))
        for name, images in _list_images(test_set).items():
            with progress_bar(len(images), name) as bar:
                encoded = encode_images(images, batch_size=args.batch_size, progress=bar.update)
            features.append(encoded)
    return source, features


def _list_images(test_set):
    """Return the images of the gallery, and those of the queries, unless these are in it."""
    image_lists = {"gallery": test_set.gallery_images}
    if test_set.list_query_images is not None:
        image_lists["query"] = test_set.query_images
    return image_lists


@contextlib.contextmanager
def _naming(dataset_dir):
    """Name the data set in errors of features: those of another one may have been given."""
    try:
        yield
    except (DataError, UsageError) as error:
        raise type(error)(f"test on {dataset_dir}: {error}") from error


def _warn_of_limits(result, query, gallery):
    """Log what the scores do not tell."""
    num_identities = len(set(query.labels.tolist()) & set(gallery.labels.tolist()))
    warn_of_few(num_identities, "test on more")
    if result.num_queries_without_match:
        _logger.warning(
            "%d of %d queries have no match in the gallery and are left out of all means",
            result.num_queries_without_match,
            result.num_queries,
        )
