"""Aligned tables."""

from deep_reid.tables import align


def test_names_are_aligned_left_and_numbers_right():
    rows = [["split", "images"], ["train", "12,936"], ["query", "8"]]
    assert align(rows).splitlines() == ["split  images", "train  12,936", "query       8"]


def test_other_columns_may_be_aligned_left_and_no_line_ends_with_blanks():
    rows = [["a", "1", "text"], ["b", "22", ""]]
    assert align(rows, left=(0, 2)).splitlines() == ["a   1  text", "b  22"]
