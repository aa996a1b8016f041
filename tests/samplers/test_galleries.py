"""The seeded draw of probes and gallery images."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deep_reid.samplers.galleries import create_cmc_probe_and_gallery, rows_by_label

REFERENCE = np.load(Path(__file__).parents[1] / "data" / "reference.npz", allow_pickle=False)


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("seed", [4321, 4322])
def test_draw_is_the_reference_draw(number, seed):
    labels = REFERENCE[f"split{number}_labels"]
    cameras = REFERENCE[f"split{number}_cameras"]
    probe, gallery = create_cmc_probe_and_gallery(labels, cameras, seed=seed)
    np.testing.assert_array_equal(probe, REFERENCE[f"cmc{number}_seed{seed}_probe"])
    np.testing.assert_array_equal(gallery, REFERENCE[f"cmc{number}_seed{seed}_gallery"])
    assert probe.dtype == gallery.dtype == np.int64


@pytest.mark.parametrize("number", [0, 1, 2])
def test_draw_without_cameras_is_the_reference_draw(number):
    probe, gallery = create_cmc_probe_and_gallery(REFERENCE[f"split{number}_labels"], seed=7)
    np.testing.assert_array_equal(probe, REFERENCE[f"cmc{number}_nocam_seed7_probe"])
    np.testing.assert_array_equal(gallery, REFERENCE[f"cmc{number}_nocam_seed7_gallery"])


@given(
    images=st.lists(st.tuples(st.integers(-1, 6), st.integers(1, 3)), max_size=40),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=100)
def test_each_identity_of_two_images_gives_one_pair_across_cameras_where_it_can(images, seed):
    labels = np.array([label for label, _ in images], np.int64)
    cameras = np.array([camera for _, camera in images], np.int64)
    probe, gallery = create_cmc_probe_and_gallery(labels, cameras, seed=seed)
    expected = [y for y in sorted(set(labels.tolist())) if np.sum(labels == y) > 1]
    assert labels[probe].tolist() == expected
    assert labels[gallery].tolist() == expected
    for p, g in zip(probe, gallery, strict=True):
        assert p != g
        if len(set(cameras[labels == labels[p]])) > 1:
            assert cameras[p] != cameras[g]


def test_all_pairs_of_cameras_and_all_images_come_up():
    labels, cameras = [5] * 6, [1, 1, 2, 2, 3, 3]
    pairs = set()
    for seed in range(400):
        probe, gallery = create_cmc_probe_and_gallery(labels, cameras, seed=seed)
        pairs.add((int(probe[0]), int(gallery[0])))
    assert pairs == {(p, g) for p in range(6) for g in range(6) if p // 2 != g // 2}


def test_same_seed_same_draw_and_other_seed_other_draw():
    labels = np.repeat(np.arange(30), 5)
    first, again, other = (
        np.concatenate(create_cmc_probe_and_gallery(labels, seed=s)) for s in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_single_images_and_no_images_give_no_pairs():
    for labels in ([], [4], [1, 2, 3]):
        probe, gallery = create_cmc_probe_and_gallery(labels, seed=0)
        assert probe.shape == gallery.shape == (0,)
        assert probe.dtype == gallery.dtype == np.int64


def test_lists_of_labels_and_cameras_are_taken():
    probe, gallery = create_cmc_probe_and_gallery([7, 8, 7], [1, 1, 2], seed=0)
    assert {int(probe[0]), int(gallery[0])} == {0, 2}


@pytest.mark.parametrize("labels, cameras", [([1, 1], [1]), ([[1, 1]], [[1, 1]]), ([1], [[1]])])
def test_labels_and_cameras_of_different_shapes_are_refused(labels, cameras):
    with pytest.raises(ValueError, match="vectors of the same length"):
        create_cmc_probe_and_gallery(labels, cameras)


@given(st.lists(st.integers(-3, 5), max_size=30))
def test_rows_by_label_equals_one_comparison_per_label(labels):
    labels = np.array(labels, np.int64)
    unique_labels, rows = rows_by_label(labels)
    assert unique_labels.tolist() == sorted(set(labels.tolist()))
    assert [r.tolist() for r in rows] == [
        [i for i, other in enumerate(labels) if other == label] for label in unique_labels
    ]
