"""The charts of a report, as SVG images in data URLs. Only drawing imports matplotlib."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from deep_reid.scoring.ranking import RankingResult
from deep_reid.scoring.strips import data_url
from deep_reid.scoring.tracks import Threshold, TrackDistances

MEASURE_NAMES = {"cosine": "cosine", "euclidean": "Euclidean"}
_MAX_CMC_RANK = 50
_NUM_BINS = 60

COLORS = {
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
    "text.color": COLORS["ink"],
    "axes.labelcolor": COLORS["muted"],
    "axes.edgecolor": COLORS["rule"],
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": COLORS["rule"],
    "grid.linewidth": 0.7,
    "xtick.color": COLORS["muted"],
    "ytick.color": COLORS["muted"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}


def draw_cmc(result: RankingResult, reranked: RankingResult | None) -> dict[str, Any]:
    """Draw the CMC curve of a ranking, and that of a re-ranked one.

    Parameters
    ----------
    result : RankingResult
    reranked : RankingResult or None

    Returns
    -------
    dict
        ``"image"``, a data URL, and ``"last_rank"``.
    """
    ranks = np.arange(1, max(2, min(_MAX_CMC_RANK, result.num_gallery)) + 1)
    curves = [(result, "plain", "o-", COLORS["query"])]
    if reranked is not None:
        curves.append((reranked, "re-ranked", "s--", COLORS["reranked"]))
    marked = [k - 1 for k in (1, 5, 10, 20, 50) if k <= ranks[-1]]

    def draw(axes):
        for scores, label, form, color in curves:
            shares = [scores.rank_k(int(k)) for k in ranks]
            axes.plot(ranks, shares, form, color=color, label=label, markevery=marked)
        axes.set_ylim(0.0, 1.01)  # from 0 on, so that curves of several reports can be compared
        axes.set_xticks([k for k in (1, 5, 10, 20, 30, 40, 50) if k <= ranks[-1]])
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        axes.set(xlabel="rank", ylabel="queries with a match up to this rank")
        if len(curves) > 1:
            axes.legend(loc="lower right")

    return {"image": _draw(draw, height=5.2), "last_rank": int(ranks[-1])}


def draw_distances(distances: TrackDistances, threshold: Threshold, measure: str) -> str:
    """Draw the distributions of distances from detections to right and to wrong tracks.

    Parameters
    ----------
    distances : TrackDistances
        None of both sorts is empty.
    threshold : Threshold
        Drawn only if it separates the two sorts.
    measure : {"cosine", "euclidean"}

    Returns
    -------
    str
        A data URL.
    """
    bins = np.histogram_bin_edges(np.concatenate([distances.own, distances.other]), _NUM_BINS)
    kinds = (
        (distances.own, "own track", COLORS["match"]),
        (distances.other, "tracks of others", COLORS["no_match"]),
    )

    def draw(axes):
        for values, label, color in kinds:
            heights = np.histogram(values, bins)[0] / len(values)
            axes.stairs(heights, bins, fill=True, color=color, alpha=0.25)
            axes.stairs(heights, bins, color=color, label=label, linewidth=1.6)
        if threshold.separates:
            label = f"threshold {threshold.distance:.3g}"
            axes.axvline(threshold.distance, color=COLORS["ink"], ls="--", lw=1.4, label=label)
        axes.set(
            xlabel=f"smallest {MEASURE_NAMES[measure]} distance to a track",
            ylabel="share of detections in each bar",
        )
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        axes.set_ylim(0)
        axes.figure.legend(loc="outside upper left", ncols=3)

    return _draw(draw, height=4.4)


def draw_thresholds(curves: Mapping[str, Mapping[float, Any]], name: str, chosen: float) -> str:
    """Draw a score of tracks against the threshold of the tracker.

    Parameters
    ----------
    curves : dict of str to dict of float to scores
        By name of the curve, and by threshold.
    name : str
        Of the score: a share is drawn in percent, a number as it is.
    chosen : float
        The threshold to mark.

    Returns
    -------
    str
        A data URL.
    """
    forms = (("o-", COLORS["query"]), ("s--", COLORS["reranked"]))

    def draw(axes):
        for (label, scores), (form, color) in zip(curves.items(), forms, strict=False):
            distances = sorted(scores)
            values = [getattr(scores[distance], name) for distance in distances]
            shown = [100 * x if isinstance(x, float) else x for x in values]
            axes.plot(distances, shown, form, color=color, label=label)
        label = f"threshold {chosen:.3g}"
        axes.axvline(chosen, color=COLORS["ink"], ls="--", lw=1.4, label=label)
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set(xlabel="max_cosine_distance")
        axes.figure.legend(loc="outside upper left", ncols=3)

    return _draw(draw, height=4.4)


def _draw(draw, height):
    """Return the figure that `draw` fills, as a data URL of an SVG image."""
    import matplotlib
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with matplotlib.rc_context(dict(_STYLE)):  # type: ignore[arg-type]
        figure = Figure(figsize=(6.4, height), layout="constrained")
        draw(figure.subplots())
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return data_url("image/svg+xml", buffer.getvalue())


def format_distance(value: float) -> str:
    """Return a distance as a short text, for pages."""
    # All features of an untrained network are close together.
    if 0.0 < value < 1e-4:
        return f"{value:.1e}"
    if 0.0 < value < 0.01:
        return f"{value:#.2g}"
    return f"{value:.3f}"
