"""Ports of this machine."""

import socket

import pytest

from deep_reid.errors import RunError
from deep_reid.system import ports


@pytest.fixture
def listener():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        opened.listen()
        yield opened


def address_of(opened):
    return f"127.0.0.1:{opened.getsockname()[1]}"


def test_a_port_that_is_in_use(listener):
    with pytest.raises(RunError, match=r"port \d+ of 127.0.0.1:\d+ cannot be used \(Address alre"):
        ports.check_free(address_of(listener))


def test_free_ports_differ_and_can_be_used():
    numbers = ports.find_free(20)
    assert len(set(numbers)) == 20
    for number in numbers:
        ports.check_free(f"localhost:{number}")


def test_only_those_are_missing_that_nobody_listens_at(listener):
    free = f"127.0.0.1:{ports.find_free(1)[0]}"
    assert ports.wait_for([address_of(listener)], timeout_secs=0) == []
    assert ports.wait_for([free, address_of(listener)], timeout_secs=0.1) == [free]
