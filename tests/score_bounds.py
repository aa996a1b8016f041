"""What scores can be where features are known to some digits only: near ties may go either way."""

import numpy as np

from deep_reid.scoring import protocols, ranking


def assert_scores_of_features(scores, test_set, gallery_features, query_features=None, error=1e-6):
    """Check that scores are those of features, of which each cosine distance is off by `error`.

    Another order of additions, such as another graph has, changes distances by about 1e-7: that
    is enough to swap two items which lie closer together. Every score is worst where each match
    moves away by what it can, and best where each moves closer.

    Parameters
    ----------
    scores : dict
        The entries of a metrics file.
    test_set : datasets.protocols.TestSet
    gallery_features, query_features : ndarray of float
        As `deep_reid.scoring.protocols.create_feature_sets` takes them.
    error : float
        Of the distance of a match against those of the others.
    """
    query, gallery = protocols.create_feature_sets(test_set, gallery_features, query_features)
    unit_query, unit_gallery = (
        features / np.linalg.norm(features, axis=1, keepdims=True)
        for features in (query.features.astype(np.float64), gallery.features.astype(np.float64))
    )
    distances = 1 - unit_query @ unit_gallery.T
    is_match = query.labels[:, np.newaxis] == gallery.labels
    rules = {"same_camera_is_junk": test_set.is_cross_camera}
    if not test_set.is_cross_camera:
        rules["self_indices"] = protocols.find_self_indices(test_set)
    worst, best = (
        protocols.to_metrics(
            ranking.rank(query, gallery, distances=distances + shift * is_match, **rules)
        )
        for shift in (error, -error)
    )
    assert len(best) == 11
    for name, value in best.items():
        assert worst[name] - 1e-9 <= scores[name] <= value + 1e-9, name
