"""Writes a ranking as one HTML page: scores, curves, distances and pictures.

The page needs no other files. Only `write_report` imports matplotlib and jinja2, see
`check_dependencies`.
"""

import base64
import io
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from deep_reid.errors import DataError, UsageError
from deep_reid.scoring.pairs import compares_cameras, distance_threshold, sample_distances
from deep_reid.scoring.ranking import FeatureSet, RankingResult, nearest
from deep_reid.scoring.rules import DISTRACTOR, JUNK, MATCH, NO_MATCH
from deep_reid.system import files
from deep_reid.system.checks import check_integer

FILENAME = "report.html"
"""Name of the page in its folder."""

NUM_NEAREST = 10
"""Gallery items in a strip."""

STRIPS_PER_GROUP = 5
"""Number of best, of median and of worst queries."""

_TEMPLATE = "report.html.jinja"
_MAX_CMC_RANK = 50
_MAX_WIDTH, _MAX_HEIGHT = 96, 192  # Sharp on dense screens, and a few kB each.
_JPEG_QUALITY = 82
_NUM_BINS = 60
_MEASURE_NAMES = {"cosine": "cosine", "euclidean": "Euclidean"}
_PAIR_RULES = ("same_camera_is_junk", "self_indices")

_COLORS = {
    "ink": "#1f2933",
    "muted": "#5f6b7a",
    "rule": "#dde2e8",
    "query": "#3b6ea8",
    "match": "#2e8b62",
    "no_match": "#c4513f",
    "junk": "#8b94a0",
    "reranked": "#b7791f",
}

_STYLE = {
    "font.size": 12,
    "lines.linewidth": 2,
    "lines.markersize": 6,
    "legend.frameon": False,
    # matplotlib measures the text with the first font that it finds, as a browser shows it.
    "font.sans-serif": ["Helvetica Neue", "Segoe UI", "Roboto", "Arial", "DejaVu Sans"],
    "svg.fonttype": "none",
    "svg.hashsalt": "deep-reid",
    "text.color": _COLORS["ink"],
    "axes.labelcolor": _COLORS["muted"],
    "axes.edgecolor": _COLORS["rule"],
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": _COLORS["rule"],
    "grid.linewidth": 0.7,
    "xtick.color": _COLORS["muted"],
    "ytick.color": _COLORS["muted"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}

# Names in the template and its style sheet.
_KINDS = {MATCH: "match", NO_MATCH: "no match", DISTRACTOR: "distractor", JUNK: "junk"}


def check_dependencies() -> None:
    """Check that the packages of the extra ``report`` are installed.

    Raises
    ------
    UsageError
        If one is missing; the message names what to install.
    """
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "--report_dir needs matplotlib and jinja2: pip install 'deep-reid[report]' "
            "(in a clone: pip install -e '.[report]')"
        ) from error


def write_report(
    report_dir: files.Path,
    *,
    title: str,
    table: Sequence[Sequence[object]],
    result: RankingResult,
    query: FeatureSet,
    gallery: FeatureSet,
    query_images: Sequence[files.Path],
    gallery_images: Sequence[files.Path],
    measure: str,
    settings: Mapping[str, object],
    reranked: RankingResult | None = None,
    nearest_kwargs: Mapping[str, Any] | None = None,
) -> pathlib.Path:
    """Write ``report.html``, whole or not at all.

    Parameters
    ----------
    report_dir : str or Path
        Made if it is missing.
    title : str
    table : list of rows
        Each row is a name and a text, or a name and two texts: without and with re-ranking. A
        row with one text in a table with re-ranking is valid for both.
    result : RankingResult
    query, gallery : FeatureSet
    query_images, gallery_images : sequences of Q and G str
        An image file per item; one of its images if the item is a tracklet. An image that cannot
        be read becomes a gray box.
    measure : {"cosine", "euclidean"}
    settings : dict
        Shown at the end: checkpoint, protocol, versions.
    reranked : RankingResult, optional
        Its CMC is drawn too.
    nearest_kwargs : dict, optional
        For `ranking.nearest`; ``same_camera_is_junk`` and ``self_indices`` also select the pairs
        in the distribution. With ``rerank`` the strips show re-ranked distances, and `reranked`
        selects the queries.

    Returns
    -------
    pathlib.Path
        Name of the page.

    Raises
    ------
    UsageError
        If a package is missing, or a setting breaks its rule.
    DataError
        If there is not one image for each item.
    """
    check_dependencies()
    _check_image_counts(query, query_images)
    _check_image_counts(gallery, gallery_images)
    kwargs = {"measure": measure, **(nearest_kwargs or {})}
    rules = {name: kwargs[name] for name in _PAIR_RULES if name in kwargs}
    shows_reranked = kwargs.get("rerank") is not None and reranked is not None
    strips = _create_strips(
        reranked if shows_reranked else result,
        (query, gallery),
        (query_images, gallery_images),
        kwargs,
    )
    page = _render(
        title=title,
        num_columns=max((len(row) for row in table), default=2),
        table=[[str(cell) for cell in row] for row in table],
        result=result,
        reranked=reranked,
        cmc=_describe_cmc(result, reranked),
        distances=_describe_distances(query, gallery, measure, rules),
        strips=strips,
        shows_reranked=shows_reranked,
        settings={name: _as_text(value) for name, value in settings.items()},
    )
    path = pathlib.Path(report_dir) / FILENAME
    files.write_text(path, page)
    return path


def choose_queries(result: RankingResult, count: int = STRIPS_PER_GROUP) -> dict[str, np.ndarray]:
    """Choose the best, the median and the worst queries by their average precision.

    Parameters
    ----------
    result : RankingResult
    count : int
        Number of each; fewer if fewer than three times this number of queries have a match.

    Returns
    -------
    dict of str to ndarray of int64
        Rows of ``"best"``, ``"median"`` and ``"worst"`` queries, which have a match and are all
        different. The worst one is the first of its group.
    """
    rows = np.flatnonzero(np.isfinite(result.average_precision))
    # Many queries have the same precision: without a shuffle, all of them would show one person.
    rows = np.random.default_rng(0).permutation(rows)
    order = rows[np.argsort(-result.average_precision[rows], kind="stable")]
    count = min(check_integer("count", count), max(1, len(order) // 3))
    others = order[count : max(count, len(order) - count)]
    middle = max(0, (len(others) - count) // 2)
    return {
        "best": order[:count],
        "median": others[middle : middle + count],
        "worst": order[max(count, len(order) - count) :][::-1],
    }


def _check_image_counts(features, images):
    if len(images) != len(features):
        raise DataError(
            f"the {features.name} has {len(features)} items, but {len(images)} images: give one "
            "file name per item"
        )


def _create_strips(result, sets, images, kwargs):
    """Return, per group of queries, the strips that the template shows."""
    query, gallery = sets
    groups = choose_queries(result)
    rows = np.concatenate(list(groups.values()))
    items = nearest(query, gallery, rows, NUM_NEAREST, **kwargs)
    found = {
        row: zip(*parts, strict=True) for row, *parts in zip(rows.tolist(), *items, strict=True)
    }
    return {
        name: [
            {
                "query": _describe_item(query, images[0], row),
                "average_precision": result.average_precision[row],
                "first_match_rank": result.first_match_rank[row],
                "items": [
                    {
                        **_describe_item(gallery, images[1], index),
                        "distance": distance,
                        "kind": _KINDS[code],
                    }
                    for index, distance, code in found[row]
                ],
            }
            for row in group.tolist()
        ]
        for name, group in groups.items()
    }


def _describe_item(features, images, row):
    return {
        "row": int(row),
        "label": int(features.labels[row]),
        "camera": None if features.cameras is None else int(features.cameras[row]),
        "name": os.path.basename(str(images[row])),
        "image": _embed_thumbnail(images[row]),
    }


def _embed_thumbnail(filename):
    """Return a small JPEG as a data URL; None if the image cannot be read."""
    try:
        image = cv2.imdecode(np.fromfile(filename, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):
        return None
    if image is None:
        return None
    height, width = image.shape[:2]
    scale = min(_MAX_WIDTH / width, _MAX_HEIGHT / height)
    if scale < 1.0:
        size = max(1, round(scale * width)), max(1, round(scale * height))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return _data_url("image/jpeg", data.tobytes())


def _describe_cmc(result, reranked):
    ranks = np.arange(1, max(2, min(_MAX_CMC_RANK, result.num_gallery)) + 1)
    curves = [(result, "plain", "o-", _COLORS["query"])]
    if reranked is not None:
        curves.append((reranked, "re-ranked", "s--", _COLORS["reranked"]))
    marked = [k - 1 for k in (1, 5, 10, 20, 50) if k <= ranks[-1]]

    def draw(axes):
        for scores, label, form, color in curves:
            shares = [scores.rank_k(k) for k in ranks]
            axes.plot(ranks, shares, form, color=color, label=label, markevery=marked)
        lowest = min(scores.rank_k(1) for scores, *_ in curves)
        axes.set_ylim(max(0.0, np.floor(lowest * 10 - 0.5) / 10), 1.01)
        axes.set_xticks([k for k in (1, 5, 10, 20, 30, 40, 50) if k <= ranks[-1]])
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        axes.set(xlabel="rank", ylabel="queries with a match up to this rank")
        if len(curves) > 1:
            axes.legend(loc="lower right")

    return {"image": _draw(draw, height=5.2), "last_rank": int(ranks[-1])}


def _describe_distances(query, gallery, measure, rules):
    """Return the facts about the distribution of distances that the template shows."""
    pairs = sample_distances(query, gallery, measure=measure, **rules)
    facts = {
        "measure": _MEASURE_NAMES[measure],
        "pairs": pairs,
        "by_camera": compares_cameras(query, gallery, rules.get("same_camera_is_junk", True)),
        "threshold": None,
        "max_cosine_distance": None,
    }
    if not len(pairs.same) or not len(pairs.different):
        return facts
    threshold = distance_threshold(pairs.same, pairs.different)
    bins = np.histogram_bin_edges(np.concatenate([pairs.same, pairs.different]), _NUM_BINS)
    kinds = (
        (pairs.same, "same identity", _COLORS["match"]),
        (pairs.different, "different identities", _COLORS["no_match"]),
    )

    def draw(axes):
        for values, label, color in kinds:
            heights = np.histogram(values, bins)[0] / len(values)
            axes.stairs(heights, bins, fill=True, color=color, alpha=0.25)
            axes.stairs(heights, bins, color=color, label=label, linewidth=1.6)
        label = f"threshold {_as_distance(threshold.distance)}"
        axes.axvline(threshold.distance, color=_COLORS["ink"], ls="--", lw=1.4, label=label)
        axes.set(xlabel=f"{_MEASURE_NAMES[measure]} distance", ylabel="share of pairs", yticks=[])
        axes.set_ylim(0)
        axes.figure.legend(loc="outside upper left", ncols=3)

    max_cosine_distance = None
    if measure == "cosine":
        max_cosine_distance = threshold.distance
    elif _are_unit_vectors(query.features) and _are_unit_vectors(gallery.features):
        # ||a - b||^2 = 2 - 2 a.b
        max_cosine_distance = threshold.distance**2 / 2
    return {
        **facts,
        "threshold": threshold,
        "max_cosine_distance": max_cosine_distance,
        "image": _draw(draw, height=4.4),
    }


def _are_unit_vectors(features):
    return np.allclose(np.linalg.norm(features, axis=1), 1.0, atol=1e-3)


def _draw(draw, height):
    """Return the figure that `draw` fills, as a data URL of an SVG image."""
    import matplotlib
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with matplotlib.rc_context(dict(_STYLE)):  # type: ignore[arg-type]
        figure = Figure(figsize=(6.4, height), layout="constrained")
        draw(figure.subplots())
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return _data_url("image/svg+xml", buffer.getvalue())


def _data_url(media_type, data):
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _as_text(value):
    if isinstance(value, dict):
        return ", ".join(f"{name} {_as_text(part)}" for name, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _as_distance(value):
    # All features of an untrained network are close together.
    if 0.0 < value < 1e-4:
        return f"{value:.1e}"
    if 0.0 < value < 0.01:
        return np.format_float_positional(value, precision=2, fractional=False, trim="-")
    return f"{value:.3f}"


def _render(**context):
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["distance"] = _as_distance
    return environment.get_template(_TEMPLATE).render(context, colors=_COLORS)
