"""``--mode=search``: finds the images of a folder that are most like a query."""

import contextlib
import logging
import os
from typing import Any

from deep_reid.cli import feature_files, outputs, search_index
from deep_reid.cli.command import Command
from deep_reid.cli.settings import find_run_dir, settle
from deep_reid.cli.subject import choose_encoder, progress_bar, take_run_of_graph
from deep_reid.cli.weights import Weights
from deep_reid.config.loss_modes import facts_of_loss
from deep_reid.errors import DataError, UsageError
from deep_reid.interfaces import Dataset
from deep_reid.scoring import approximate
from deep_reid.scoring import search as searching

_logger = logging.getLogger(__name__)


def search(args: Command, dataset_class: type[Dataset]) -> None:
    """Rank the images of a folder for each query, and write results, features and a page."""
    args = take_run_of_graph(args)
    inputs = _find_inputs(args)
    if args.index == "faiss":
        approximate.check_dependencies()
    results_path, *other_paths = (
        os.path.join(args.search_dir, name) for name in searching.FILENAMES
    )
    outputs.check_paths(results_path, *other_paths)
    paths, images = {}, {}
    in_files = None if args.features is None else feature_files.open_gallery(args.features)
    for name in [name for name in ("gallery", "query") if name in inputs]:
        with _naming_flag(name, [inputs[name]]):
            paths[name] = searching.list_images(inputs[name])
    config = settle(args, dataset_class, find_run_dir(args))
    weights = Weights(args, dataset_class, config)
    with contextlib.ExitStack() as stack:
        source, encode_images = choose_encoder(args, config, weights.within(stack))
        origin = outputs.Origin.of_source(source, **inputs)
        outputs.warn_of_overwriting(results_path, origin, *other_paths)
        for name, filenames in paths.items():
            with progress_bar(len(filenames), name) as bar, _naming_flag(name, filenames):
                features = encode_images(filenames, batch_size=args.batch_size, progress=bar.update)
            images[name] = searching.Images(filenames, features)
    if in_files is not None:
        feature_files.warn_of_other_network(in_files.features, origin)
    measure = facts_of_loss(config.loss_mode).measure
    facts: dict[str, Any] = {}
    if in_files is not None and args.index == "faiss":
        results, facts = search_index.search(
            args.search_dir, images["query"], in_files, measure, args.num_results
        )
    else:
        gallery = in_files or images["gallery"]
        results = searching.search(images["query"], gallery, measure, args.num_results)
    num_empty = sum(not found for found in results.found)
    if num_empty:
        _logger.warning(
            "%d of %d queries have no results: the gallery holds no image but the query itself",
            num_empty,
            len(results.found),
        )
    searching.write_results(args.search_dir, results)
    outputs.write_manifest(results_path, origin, **facts)
    _logger.info("Wrote %s and the features to %s", searching.RESULTS_FILENAME, args.search_dir)
    try:
        page = searching.write_page(
            args.search_dir, results, tuple(inputs.values()), {**inputs, **source, **facts}
        )
        _logger.info("Wrote the results as pictures to %s", page)
    except UsageError as error:  # all but the page needs no further packages
        _logger.warning("%s", error)


def _find_inputs(args):
    """Return what the command line names to be searched for, and to be searched."""
    if args.gallery is not None and args.features is not None:
        raise UsageError("--gallery and --features are two galleries: give one of them")
    kinds = {"query": "an image or a folder", "gallery": "a folder of images"}
    if args.features is not None:
        kinds = {"query": kinds["query"], "features": "features of images"}
    inputs = {name: getattr(args, name) for name in kinds}
    missing = [f"--{name} ({kinds[name]})" for name, path in inputs.items() if path is None]
    if missing:
        raise UsageError(f"search needs {' and '.join(missing)}")
    return inputs


@contextlib.contextmanager
def _naming_flag(name, paths):
    """Name the flag in an error about one of its paths; others are about the network."""
    try:
        yield
    except DataError as error:
        if not any(path in str(error) for path in paths):
            raise
        raise type(error)(f"--{name}: {error}") from error
