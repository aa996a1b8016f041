"""``--mode=track``: tracks persons in video sequences, scores the tracks, and shows them."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

import cv2

from deep_reid.cli import outputs
from deep_reid.cli.command import Command
from deep_reid.cli.settings import find_run_dir, settle
from deep_reid.cli.subject import (
    check_graph_exists,
    list_versions,
    open_encoder,
    progress_bar,
    take_run_of_graph,
)
from deep_reid.cli.weights import Weights
from deep_reid.errors import DataError, UsageError
from deep_reid.interfaces import Dataset
from deep_reid.scoring.feature_index import write_csv
from deep_reid.system.tables import align, list_some
from deep_reid.tracking import deep_sort, features, page, pictures, threshold
from deep_reid.tracking.scores import ALL, Scores
from deep_reid.tracking.sequences import TEST, TRAIN, find, load, split

_logger = logging.getLogger(__name__)
_SCORES_FILENAME = "scores.csv"


def track(args: Command, dataset_class: type[Dataset]) -> None:
    """Track in sequences, and write features, tracks, scores, a page and videos."""
    args = take_run_of_graph(args)
    _check_arguments(args)
    run_dir = find_run_dir(args)
    check_graph_exists(args)
    parts, sequences = _load(args)
    outputs.check_paths(*_list_outputs(args.track_dir, sequences))
    config = settle(args, dataset_class, run_dir)
    weights = Weights(args, dataset_class, config)
    with contextlib.ExitStack() as stack:
        source, encoder = open_encoder(args, config, weights.within(stack))
        stack.enter_context(encoder)
        encoded = {one.name: _encode(one, encoder) for one in sequences}
    settings = deep_sort.TrackerSettings(
        min_confidence=args.min_confidence, nms_max_overlap=args.nms_max_overlap
    )
    with contextlib.ExitStack() as stack:
        result = threshold.evaluate(
            sequences,
            encoded,
            parts,
            args.max_cosine_distance,
            settings,
            lambda num: stack.enter_context(progress_bar(num, "tracking", "runs")).update,
        )
    _logger.info("%s", result.reason)
    facts = {
        **source,
        **vars(settings),
        "nn_budget": deep_sort.BUDGET,
        "sequences": ", ".join(map(str, (*args.sequences, *args.train_sequences))),
        "versions": list_versions(),
    }
    listed = [os.path.abspath(path) for path in (*args.train_sequences, *args.sequences)]
    origin = outputs.Origin.of_source(source, sequences=", ".join(listed))
    files = _list_outputs(args.track_dir, sequences)
    outputs.warn_of_overwriting(files[0], origin, *files[1:])
    _write(args.track_dir, sequences, encoded, result)
    path = page.write_page(args.track_dir, sequences, result, facts)
    outputs.write_manifest(files[0], origin)
    _warn_of_others(args.track_dir, files)
    _logger.info("Wrote features, tracks, %s and the page %s", _SCORES_FILENAME, path)
    if args.video:
        of_test = [one for one in sequences if parts[one.name] == TEST]
        _write_videos(args.track_dir, of_test or sequences, result)
    if result.scores:
        # After the files: the process that reads this table may have ended.
        sys.stdout.write(align(_tabulate(result), left=(0, 1)) + "\n")


def _check_arguments(args):
    if not args.sequences:
        raise UsageError(
            "track needs --sequences: MOTChallenge sequences, or folders above several"
        )
    if args.max_cosine_distance is not None and args.train_sequences:
        raise UsageError(
            "the threshold is chosen on --train_sequences, or is --max_cosine_distance: give one"
        )
    page.check_dependencies()


def _load(args):
    """Return the part of each sequence by its name, and the sequences."""
    folders = find([*args.train_sequences, *args.sequences])
    sequences = [load(folder) for folder in folders]
    for one in sequences:
        confidences = one.detections[:, 6]
        if (confidences < args.min_confidence).all():
            raise DataError(
                f"{one.name}: no detection has the confidence {args.min_confidence:g} of "
                f"--min_confidence, the highest is {confidences.max():g}: lower it"
            )
        made = ", made from gt/gt.txt with gaps and jitter, as det/det.txt is missing"
        _logger.info(
            "%s: %d frames, %d detections%s%s",
            one.name,
            len(one.frames),
            len(one.detections),
            made if one.are_made else "",
            "" if one.truth else "; without gt/gt.txt, so without scores",
        )
    if args.max_cosine_distance is not None:
        return dict.fromkeys([one.name for one in sequences], TEST), sequences
    num_train = len(find(args.train_sequences))
    names = [one.name for one in sequences[:num_train]] if num_train else None
    return split(sequences, names), sequences


def _list_outputs(track_dir, sequences):
    paths = [os.path.join(track_dir, name) for name in (page.FILENAME, _SCORES_FILENAME)]
    return paths + [path for one in sequences for path in _paths_of(track_dir, one.name)]


def _warn_of_others(track_dir, own):
    """Name what earlier calls have left in the folder, for other sequences."""
    found = [
        os.path.join(track_dir, folder, name)
        for folder in ("features", "tracks", "videos")
        if os.path.isdir(os.path.join(track_dir, folder))
        for name in sorted(os.listdir(os.path.join(track_dir, folder)))
    ]
    others = [path for path in found if path not in own]
    if others:
        _logger.warning("Of earlier calls, and not written anew: %s", list_some(others))


def _paths_of(track_dir, name):
    """Return where features, tracks and video of a sequence go."""
    return [
        os.path.join(track_dir, folder, f"{name}.{ending}")
        for folder, ending in (("features", "npy"), ("tracks", "txt"), ("videos", "mp4"))
    ]


def _encode(sequence, encoder):
    with (
        progress_bar(len(sequence.detections), sequence.name, "boxes") as bar,
        _outside() as counts,
    ):
        found = features.compute(sequence, _take_colors(encoder), bar.update)
    if counts:
        _logger.warning(
            "%s: %d of %d boxes have no pixel on their frame: they get the feature of noise",
            sequence.name,
            sum(counts),
            len(found),
        )
    return found


def _take_colors(encoder):
    """Let an encoder of gray images take frames in color."""
    if encoder.image_shape[2] == 3:
        return encoder
    return lambda frame, boxes: encoder(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), boxes)


@contextlib.contextmanager
def _outside() -> Iterator[list[int]]:
    """Collect the numbers of boxes outside their frames, instead of a warning for each frame."""
    counts: list[int] = []

    def collect(record):
        if record.levelno != logging.WARNING or not record.args:
            return True
        counts.append(record.args[0])
        return False

    logger = logging.getLogger("deep_reid.export.encoder")
    logger.addFilter(collect)
    try:
        yield counts
    finally:
        logger.removeFilter(collect)


def _write(track_dir, sequences, encoded, result):
    """Write features, tracks and scores."""
    for one in sequences:
        features_path, tracks_path, _ = _paths_of(track_dir, one.name)
        features.write(features_path, one.detections, encoded[one.name])
        deep_sort.write(tracks_path, result.tracks[one.name])
    header = ("sequence", "part", "max_cosine_distance", *Scores._fields)
    lines = [
        (name, result.parts[name], f"{distance:g}", *_round(scores))
        for name, by_distance in result.scores.items()
        for distance, scores in by_distance.items()
    ]
    lines += [
        (ALL, part, f"{distance:g}", *_round(scores))
        for part, by_distance in result.totals.items()
        for distance, scores in by_distance.items()
    ]
    write_csv(os.path.join(track_dir, _SCORES_FILENAME), header, lines)


def _round(scores):
    return [round(value, 4) for value in scores]


def _write_videos(track_dir, sequences, result):
    with progress_bar(sum(len(one.frames) for one in sequences), "video", "frames") as bar:
        for one in sequences:
            path = _paths_of(track_dir, one.name)[2]
            pictures.write_video(
                path, one.frames, result.tracks[one.name], one.frame_rate, bar.update
            )
    _logger.info("Wrote the videos to %s", os.path.dirname(path))


def _tabulate(result):
    """Return a table of the scores: Deep SORT's default, and the threshold that was chosen."""
    rows = [("sequence", "part", "threshold", "IDF1", "HOTA", "MOTA", "switches")]
    names_of = {
        part: [n for n, p in result.parts.items() if p == part and n in result.scores]
        for part in result.totals
    }
    of_parts = [
        (ALL, part, by_distance)
        for part, by_distance in result.totals.items()
        if len(names_of[part]) > 1
    ]
    of_each = [(name, result.parts[name], found) for name, found in result.scores.items()]
    for name, part, by_distance in sorted(of_each + of_parts, key=lambda row: row[1] == TRAIN):
        for distance in dict.fromkeys((deep_sort.DEFAULT_DISTANCE, result.distance)):
            scores = by_distance[distance]
            shares = [f"{100 * value:.1f}" for value in (scores.idf1, scores.hota, scores.mota)]
            rows.append((name, part, f"{distance:g}", *shares, str(scores.switches)))
    return rows
