"""Aligned tables, and lists that are cut short."""

import pytest

from deep_reid.system.tables import align, list_some


def test_names_are_aligned_left_and_numbers_right():
    rows = [["split", "images"], ["train", "12,936"], ["query", "8"]]
    assert align(rows).splitlines() == ["split  images", "train  12,936", "query       8"]


def test_other_columns_may_be_aligned_left_and_no_line_ends_with_blanks():
    rows = [["a", "1", "text"], ["b", "22", ""]]
    assert align(rows, left=(0, 2)).splitlines() == ["a   1  text", "b  22"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [((), "none"), ("a", "a"), ("ab", "a, b"), ("abcd", "a, b and 2 more")],
)
def test_a_list_is_cut_short(names, expected):
    assert list_some(names, at_most=2) == expected
    assert list_some((), "") == ""
