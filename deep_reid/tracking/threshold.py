"""Chooses a threshold for Deep SORT by the scores of tracks, and reports it on other sequences.

The network is not needed: features are computed once.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from deep_reid.tracking import scores
from deep_reid.tracking.deep_sort import DEFAULT_DISTANCE, TrackerSettings
from deep_reid.tracking.processes import Detections, track_all
from deep_reid.tracking.scores import Scores
from deep_reid.tracking.sequences import TEST, TRAIN, TrackedSequence

DISTANCES = (
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05,
    0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0,
)  # fmt: skip
"""Values of ``max_cosine_distance`` to try; Deep SORT's default is among them.

Distances are tiny after a short training, as the averages of batch norm lag behind.
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """Tracks and their scores.

    Parameters
    ----------
    distance : float
        The threshold, ``max_cosine_distance``.
    reason : str
        Why this one: a sentence.
    parts : dict of str to str
        `TRAIN` or `TEST` by the name of a sequence.
    tracks : dict of str to np.ndarray of shape (M, 6)
        By the name of a sequence, at this threshold; see `deep_reid.tracking.deep_sort.track`.
    scores : dict of str to dict of float to Scores
        By the name of a sequence with ground truth, and by threshold.
    totals : dict of str to dict of float to Scores
        The same of all sequences of a part together, if one of them has ground truth.
    """

    distance: float
    reason: str
    parts: Mapping[str, str]
    tracks: Mapping[str, np.ndarray]
    scores: Mapping[str, Mapping[float, Scores]]
    totals: Mapping[str, Mapping[float, Scores]]

    @property
    def reported(self) -> str | None:
        """The part to report: `TEST`, if it has scores."""
        return next((part for part in (TEST, TRAIN) if part in self.totals), None)


def evaluate(
    sequences: Sequence[TrackedSequence],
    features: Mapping[str, np.ndarray],
    parts: Mapping[str, str],
    given: float | None = None,
    settings: TrackerSettings = TrackerSettings(),
    start: Callable[[int], Callable[[int], object]] | None = None,
) -> Result:
    """Track in sequences at a threshold that is given, or chosen on the training sequences.

    Parameters
    ----------
    sequences : sequence of TrackedSequence
    features : dict of str to np.ndarray of float32, shape (N, D)
        Of their detections, by the name of the sequence.
    parts : dict of str to str
        See `deep_reid.tracking.sequences.split`.
    given : float, optional
        The threshold. It is scored beside Deep SORT's default.
    settings : TrackerSettings
    start : callable, optional
        Called with the number of times that a sequence is tracked; returns what is called with 1
        after each.

    Returns
    -------
    Result
    """

    def run(jobs):
        inputs = {
            one.name: Detections(one.detections, features[one.name], one.frame_numbers)
            for one in sequences
        }
        return track_all(inputs, jobs, settings, start and start(len(jobs))) if jobs else {}

    truths = {one.name: one.truth for one in sequences if one.truth is not None}
    distances = DISTANCES if given is None else tuple({given, DEFAULT_DISTANCE})
    tracks = run([(name, distance) for name in truths for distance in distances])
    of_sequences: dict[str, dict[float, Scores]] = {name: {} for name in truths}
    totals: dict[str, dict[float, Scores]] = {}
    for part in (TRAIN, TEST):
        chosen = {name: truth for name, truth in truths.items() if parts[name] == part}
        for distance in sorted(distances) if chosen else ():
            found = scores.score(chosen, {name: tracks[name, distance] for name in chosen})
            totals.setdefault(part, {})[distance] = found.pop(scores.ALL)
            for name, one in found.items():
                of_sequences[name][distance] = one
    distance, reason = choose(parts, totals, given)
    tracks |= run([(one.name, distance) for one in sequences if one.truth is None])
    at_distance = {one.name: tracks[one.name, distance] for one in sequences}
    return Result(distance, reason, parts, at_distance, of_sequences, totals)


def choose(
    parts: Mapping[str, str],
    totals: Mapping[str, Mapping[float, Scores]],
    given: float | None = None,
) -> tuple[float, str]:
    """Choose a threshold, and say why.

    Parameters
    ----------
    parts, totals
        As in `Result`.
    given : float, optional
        The threshold, if there is no choice.

    Returns
    -------
    distance : float
    reason : str
        A sentence.
    """
    if given is not None:
        return given, f"max_cosine_distance {given:g} was given."
    if TRAIN not in totals:
        return DEFAULT_DISTANCE, (
            f"max_cosine_distance {DEFAULT_DISTANCE:g} is Deep SORT's default: without ground "
            "truth, no threshold can be chosen by scores."
        )
    names = ", ".join(name for name, part in parts.items() if part == TRAIN)
    do_features_matter = len(set(totals[TRAIN].values())) > 1
    distance = recommend(totals[TRAIN])
    percent = f"{100 * totals[TRAIN][distance].idf1:.1f} %"
    if do_features_matter:
        reason = (
            f"max_cosine_distance {distance:g} is recommended: it has the best IDF1 on {names}, "
            f"{percent}"
        )
    else:
        reason = (
            f"max_cosine_distance {distance:g} is Deep SORT's default, and none is recommended: "
            f"all have the same scores on {names} (IDF1 {percent}), where features do not matter"
        )
    if distance == DISTANCES[0]:
        reason += (
            ", and is the smallest that was tried, as after a short training: its features may be "
            "better with --precise_batch_norm"
        )
    elif distance == DISTANCES[-1]:
        reason += (
            ", and is the largest that was tried: the features tell these people apart too little "
            "to need a limit, or so well that none is needed"
        )
    if TEST in totals:
        return distance, f"{reason}; the scores of the other sequences tell what to expect."
    return distance, (
        f"{reason}. No other sequence has ground truth: expect lower scores than those shown, on "
        "which the threshold was chosen."
    )


def recommend(scores: Mapping[float, Scores]) -> float:
    """Recommend a threshold.

    Parameters
    ----------
    scores : dict of float to Scores
        Of all training sequences together, by threshold.

    Returns
    -------
    float
        That with the highest IDF1, to a tenth of a percent, and of these the one with the fewest
        switches. Of several that are equal, the middle one: its neighbours are as good. If all
        are, Deep SORT's default, if it is among them.
    """
    if len(set(scores.values())) == 1 and DEFAULT_DISTANCE in scores:
        return DEFAULT_DISTANCE
    ranks = {
        distance: (round(one.idf1, 3), -one.switches) for distance, one in sorted(scores.items())
    }
    best = [distance for distance, rank in ranks.items() if rank == max(ranks.values())]
    return best[len(best) // 2]
