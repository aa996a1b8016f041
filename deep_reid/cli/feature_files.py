"""Files of features: whole or in shards, each with an index and a manifest beside it."""

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from deep_reid.cli import outputs
from deep_reid.cli.subject import progress_bar
from deep_reid.errors import DataError
from deep_reid.scoring import feature_index, protocols, search, shards
from deep_reid.scoring.features import Rows
from deep_reid.system import files, matlab

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureFile:
    """A file of features that is to be written.

    Parameters
    ----------
    path : str
        Ends in ``.mat``, or in ``.npy`` for a shard.
    images : sequence of str
        All images.
    rows : slice
        Of the images of this file.
    facts : dict
        For the manifest.
    """

    path: str
    images: Sequence[str]
    rows: slice
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def list_files(
    image_lists: Mapping[str, Sequence[str]], shard: tuple[int, int] | None, batch_size: int
) -> list[FeatureFile]:
    """List the files to write, and check that they can be written.

    Parameters
    ----------
    image_lists : dict of str to sequence of str
        The images of each ``.mat`` file.
    shard : tuple of int, optional
        (index, count): write this shard of each list, in place of all.
    batch_size : int
        Images that are encoded at once.

    Raises
    ------
    OSError
        If one is a folder, or a parent of it is no folder.
    """
    listed = []
    for path, images in image_lists.items():
        rows, facts = slice(0, len(images)), {}
        if shard is not None:
            rows = shards.shard_rows(len(images), *shard, batch_size)
            path = shards.shard_path(path, *shard)  # noqa: PLW2901
            facts = {"first_row": rows.start, "end_row": rows.stop, "rows_of_all": len(images)}
        listed.append(FeatureFile(path=path, images=images, rows=rows, facts=facts))
        outputs.check_paths(path, feature_index.path_of(path))
    return listed


def write_files(
    listed: Sequence[FeatureFile],
    encode_images: Callable[..., np.ndarray],
    batch_size: int,
    origin: outputs.Origin,
    describe: Callable[[files.Path], tuple[object, object]],
) -> None:
    """Compute features, and write them with an index and a manifest.

    Parameters
    ----------
    listed : sequence of FeatureFile
    encode_images : callable
        As `deep_reid.cli.subject.choose_encoder` returns it.
    batch_size : int
    origin : deep_reid.cli.outputs.Origin
    describe : callable
        For `deep_reid.scoring.feature_index.write_index`.
    """
    for file in listed:
        images = file.images[file.rows]
        with progress_bar(len(images), os.path.basename(file.path)) as bar:
            # An empty shard has no rows, but as many columns as the others.
            features = encode_images(
                images or file.images[:1], batch_size=batch_size, progress=bar.update
            )[: len(images)]
        if file.path.endswith(".npy"):
            shards.write_array(file.path, features)
        else:
            matlab.write_features(file.path, features)
        outputs.write_manifest(file.path, origin, **file.facts)
        index_path = feature_index.write_index(file.path, images, describe)
        _logger.info("Wrote the features of %d images to %s", len(images), file.path)
        _logger.info("Wrote the path, identity and camera of each row to %s", index_path)


def open_gallery(path: str) -> search.ImagesInFiles:
    """Open features with the index beside them, as a gallery that is searched.

    Parameters
    ----------
    path : str
        As `deep_reid.scoring.protocols.load_features` takes it. Only a ``.mat`` file is read.

    Returns
    -------
    deep_reid.scoring.search.ImagesInFiles

    Raises
    ------
    MissingPathError, DataError
        If features or index are missing or cannot be used, or do not fit together.
    """
    is_one_array = path.endswith(".npy") and not shards.is_pattern(path)
    features = shards.Shards([path]) if is_one_array else protocols.load_features(path)
    if not len(features):
        raise DataError(f"{path} has no rows: take the features of at least one image")
    check_shards(features)
    paths = feature_index.IndexedPaths(
        features.paths if isinstance(features, shards.Shards) else [path]
    )
    if paths.count() != len(features):
        raise DataError(
            f"{path} has {len(features):,} rows, and the index beside it {paths.count():,}: write "
            "both anew, with --mode=export"
        )
    return search.ImagesInFiles(paths, features)


def warn_of_other_network(features: Rows, origin: outputs.Origin) -> None:
    """Log that features are not of the network that has computed the queries.

    Parameters
    ----------
    features : np.ndarray or Shards
        Nothing is known of an array.
    origin : deep_reid.cli.outputs.Origin
        Of the queries.
    """
    if not isinstance(features, shards.Shards):
        return
    earlier = outputs.read_origin(features.paths[0])
    if earlier is None:
        return
    known = [(each.run or each.checkpoint, each.step) for each in (earlier, origin)]
    if known[0] != known[1]:
        _logger.warning(
            "The features are of %s, and the queries are encoded with %s: distances between two "
            "networks mean nothing",
            earlier,
            origin,
        )


def check_shards(features: Rows) -> None:
    """Check by their manifests that shards fit together.

    Parameters
    ----------
    features : np.ndarray or Shards
        Of one file: nothing is checked. Shards that all lack manifests are of other programs.

    Raises
    ------
    DataError
        If they are not of the same checkpoint, or their rows do not follow each other.
    """
    if not isinstance(features, shards.Shards):
        return
    expected, end_row = None, 0
    for path in features.paths:
        origin, facts = outputs.read_origin(path), outputs.read_facts(path)
        found = None if origin is None else (origin.made_of, facts.get("rows_of_all"))
        if path == features.paths[0]:
            expected = found
        if found != expected:
            raise DataError(
                f"the shards {features.paths[0]} and {path} are not of one set, as the manifests "
                "beside them say: write all shards with one checkpoint, for the same images"
            )
        if facts.get("first_row", end_row) != end_row:
            raise DataError(
                f"{path} begins with row {facts['first_row']}, and the shards before it have "
                f"{end_row} rows: write all shards with the same --batch_size"
            )
        end_row = facts.get("end_row", end_row)
