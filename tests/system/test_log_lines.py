"""Names in messages cannot forge lines, or colors."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deep_reid.errors import DataError, first_line, printable
from deep_reid.system.log_lines import LineFormatter

# What a terminal obeys: line breaks, escape sequences, carriage returns, the direction of text.
FORGERIES = [
    "a\n2026-01-01 00:00:00 INFO    all is well",
    "a\rb",
    "\x1b[31mred\x1b[0m",
    "a\x07\x08b",
    "\u202egpj.exe",
    "a\u2028b",
    "a\x85b",
    "\udcff\udcfe.jpg",
]


def log(*args, **kwargs):
    record = logging.LogRecord("name", logging.INFO, "file", 1, *args, **kwargs)
    return LineFormatter().format(record)


@pytest.mark.parametrize("name", FORGERIES)
def test_a_message_is_one_line_without_control_characters(name):
    line = log("image %s cannot be read", (name,), None)
    assert line.isprintable()
    assert line.endswith("cannot be read")
    line = first_line(DataError(f"image {name} cannot be read"))
    assert line.isprintable()
    assert line.endswith("cannot be read")
    assert first_line(OSError(2, "No such file", name)).isprintable()


@pytest.mark.parametrize("around", ["", "Graph execution error:\n\n"])
def test_the_place_of_an_error_in_a_cluster_is_left_out(around):
    error = RuntimeError(f"{around}From /job:ps/replica:0/task:0:\nNode name/queue is closed\nMore")
    assert first_line(error) == "Node name/queue is closed"


def test_the_name_of_a_graph_error_without_a_node_is_left_out():
    assert (
        first_line(RuntimeError("Graph execution error:\n\nSocket closed\nMore")) == "Socket closed"
    )


@given(st.text(st.characters()))
def test_whatever_a_name_holds(name):
    assert printable(name).isprintable()
    assert not name.isprintable() or printable(name) == name


def test_names_in_other_scripts_stay_as_they_are():
    name = "Zürich 人 Ночь.jpg"
    assert printable(name) == name


def test_the_lines_of_a_trace_stay_lines():
    try:
        raise ValueError("wrong")
    except ValueError as error:
        lines = log("failed", (), (type(error), error, error.__traceback__)).splitlines()
    assert len(lines) > 2 and lines[-1] == "ValueError: wrong"


def test_the_record_stays_as_it_was_for_other_handlers():
    record = logging.LogRecord("name", logging.INFO, "file", 1, "%s", ("a\nb",), None)
    LineFormatter().format(record)
    assert record.getMessage() == "a\nb"
