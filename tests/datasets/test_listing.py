"""Listings of people's own images: their rules."""

import dataclasses
import os

import pytest

from datasets.own.listing import SPLITS, Listing, is_image_name, quoted
from deep_reid.errors import DataError


def listing(*entries, cameras=None, places=None):
    """A listing of (file name, identity, split)."""
    filenames, identities, splits = map(list, zip(*entries, strict=True)) if entries else ([],) * 3
    return Listing(filenames, identities, cameras, splits, places)


def error_of(listing, *arguments):
    with pytest.raises(DataError) as error:
        listing.check(*arguments)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_sound_listing_passes_as_it_is():
    sound = listing(
        ("a.jpg", "Ann", "train"),
        ("b.jpg", "Ann", "train"),
        ("c.jpg", "Bob", "query"),
        ("d.jpg", "Bob", "gallery"),
        ("e.jpg", "-1", "gallery"),
    )
    assert sound.check() is sound
    assert len(sound) == 5
    assert sound.rows("train") == [0, 1]
    assert sound.rows("query", "gallery") == [2, 3, 4]


def test_it_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        listing(("a.jpg", "Ann", "train")).cameras = ["left"]


def test_the_place_of_an_entry_is_its_file_where_nothing_else_is_known():
    entry = ("a.jpg", "Ann", "train")
    assert listing(entry).place(0) == "a.jpg"
    assert listing(entry, places=["people.csv, line 7"]).place(0) == "people.csv, line 7"


@pytest.mark.parametrize("name", ["cameras", "places"])
def test_lengths_must_agree(name):
    with pytest.raises(DataError, match=rf"{name} \(2\) .* each of the 1 file names"):
        listing(("a.jpg", "Ann", "train"), **{name: ["left", "right"]})


def test_an_empty_listing_is_refused_by_the_name_of_its_source():
    assert error_of(listing(), "people.csv").startswith("people.csv holds no images")


@pytest.mark.parametrize("split", ["test", "", "Train"])
def test_an_unknown_split_is_refused_with_the_three_right_ones(split):
    message = error_of(listing(("a.jpg", "Ann", split)))
    assert message.startswith("a.jpg: ")
    assert repr(split) in message
    assert all(name in message for name in SPLITS)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("identity", ["", " "])
def test_an_identity_must_have_a_name(identity, split):
    assert error_of(listing(("a.jpg", identity, split))).startswith("a.jpg has no identity")


def test_junk_cannot_be_trained_on():
    message = error_of(listing(("a.jpg", "Ann", "train"), ("b.jpg", "-1", "train")))
    assert message.startswith("b.jpg has the identity -1, which means junk")
    assert "gallery" in message


@pytest.mark.parametrize("split", ["query", "gallery"])
def test_nobody_is_in_training_and_test(split):
    overlap = listing(
        ("a.jpg", "Ann", split),
        ("b.jpg", "Bob", "train"),
        ("c.jpg", "Ann", "train"),
        ("d.jpg", "Bob", split),
        places=[f"people.csv, line {line}" for line in (1, 2, 3, 4)],
    )
    message = error_of(overlap)
    assert "identity 'Bob' is in train (people.csv, line 2)" in message
    assert f"in {split} (people.csv, line 4)" in message
    assert "the test would be on persons that were trained on" in message
    assert "2 of the identities" in message


@pytest.mark.parametrize("other_way", ["a.jpg", os.path.join(".", "a.jpg"), "b/../a.jpg"])
def test_a_file_is_of_one_identity(other_way):
    message = error_of(
        listing(
            ("a.jpg", "Ann", "train"),
            (other_way, "Bob", "train"),
            places=["x, line 1", "x, line 2"],
        )
    )
    assert "as 'Ann' (x, line 1) and as 'Bob' (x, line 2)" in message


def test_a_file_may_be_listed_twice_under_one_identity():
    assert listing(("a.jpg", "Ann", "query"), ("a.jpg", "Ann", "gallery")).check()


@pytest.mark.parametrize(
    "name, expected",
    [
        ("a.jpg", True),
        ("a.JPEG", True),
        ("Ä b.Png", True),
        ("a.bmp", True),
        ("a.jpg.jpg", True),
        ("._a.jpg", False),
        (".jpg", False),
        ("a.gif", False),
        ("jpg", False),
        ("a.jpg.txt", False),
    ],
)
def test_images_are_told_by_their_endings(name, expected):
    assert is_image_name(name) is expected


def test_quoted_names_take_one_line_and_bounded_space():
    assert quoted("Zoë") == "'Zoë'"
    assert quoted("two\nlines") == "'two\\nlines'"
    assert len(quoted("x" * 10_000)) <= 202
