"""``--mode=search``: finds the images of a folder that are most like a query."""

import logging
import os

from deep_reid.cli import outputs
from deep_reid.cli.command import Command
from deep_reid.cli.settings import find_run_dir, settle
from deep_reid.cli.subject import choose_encoder, progress_bar, take_run_of_graph
from deep_reid.config.loss_modes import facts_of_loss
from deep_reid.errors import UsageError
from deep_reid.interfaces import Dataset
from deep_reid.scoring import search as searching

_logger = logging.getLogger(__name__)


def search(args: Command, dataset_class: type[Dataset]) -> None:
    """Rank the images of a folder for each query, and write results, features and a page."""
    args = take_run_of_graph(args)
    if args.query is None or args.gallery is None:
        raise UsageError(
            "search needs --query (an image or a folder) and --gallery (a folder of images)"
        )
    outputs.check_paths(*(os.path.join(args.search_dir, name) for name in searching.FILENAMES))
    paths = {
        "gallery": searching.list_images(args.gallery),
        "query": searching.list_images(args.query),
    }
    config = settle(args, dataset_class, find_run_dir(args))
    source, encode_images = choose_encoder(args, config)
    images = {}
    for name, filenames in paths.items():
        with progress_bar(len(filenames), name) as bar:
            features = encode_images(filenames, batch_size=args.batch_size, progress=bar.update)
        images[name] = searching.Images(filenames, features)
    measure = facts_of_loss(config.loss_mode).measure
    results = searching.search(images["query"], images["gallery"], measure, args.num_results)
    searching.write_results(args.search_dir, results)
    _logger.info("Wrote %s and the features to %s", searching.RESULTS_FILENAME, args.search_dir)
    try:
        folders = (args.query, args.gallery)
        page = searching.write_page(args.search_dir, results, folders, source)
        _logger.info("Wrote the results as pictures to %s", page)
    except UsageError as error:  # all but the page needs no further packages
        _logger.warning("%s", error)
