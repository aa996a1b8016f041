"""The model of a cluster's speed: what must hold for any cluster."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scale_out import SERVERS_SHARE, Cluster

ROOT = Path(__file__).parents[2]

clusters = st.builds(
    Cluster,
    images_per_sec=st.floats(1, 1e5),
    batch_size=st.integers(1, 1024),
    num_bytes=st.integers(1, 10**9),
    bytes_per_sec=st.floats(1e6, 1e11),
    num_servers=st.integers(1, 64),
)
numbers = st.integers(1, 64)


def test_a_step_by_hand():
    cluster = Cluster(100, 200, num_bytes=10**8, bytes_per_sec=10**9, num_servers=2)
    # Computing takes 2 s; each of two servers sends 4 x 1e8 / 2 bytes, and receives as many.
    assert cluster.secs_per_step(4) == pytest.approx(2 + 2 * 0.2)
    assert cluster.speed(4) == pytest.approx(4 * 200 / 2.4)
    assert cluster.num_servers_needed(4) == 4  # one would take 0.8 s, and 0.2 s are allowed


@given(clusters)
def test_a_network_without_limit_lets_each_trainer_be_as_fast_as_alone(cluster):
    unlimited = dataclasses.replace(cluster, bytes_per_sec=float("inf"))
    assert unlimited.speed(7) == pytest.approx(7 * cluster.images_per_sec)


@given(clusters, numbers)
def test_more_trainers_are_never_slower_and_never_more_than_so_many_times_as_fast(cluster, number):
    assert cluster.speed(number + 1) >= cluster.speed(number) * (1 - 1e-9)
    assert cluster.speed(number) <= number * cluster.images_per_sec * (1 + 1e-9)


@given(clusters, numbers)
def test_the_servers_to_take_are_the_fewest_that_suffice(cluster, number):
    def share(num_servers):
        secs = 2 * number / num_servers * cluster.num_bytes / cluster.bytes_per_sec
        return secs / cluster.secs_to_compute

    needed = cluster.num_servers_needed(number)
    assert share(needed) <= SERVERS_SHARE * (1 + 1e-9)
    assert needed == 1 or share(needed - 1) > SERVERS_SHARE * (1 - 1e-9)


def run(*flags):
    command = [sys.executable, "benchmarks/scale_out.py", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_script_takes_the_bytes_of_the_network():
    few, many = (run("--images_per_sec=100", f"--num_classes={n}") for n in (2, 100_000))
    assert few.returncode == many.returncode == 0, few.stderr + many.stderr
    # A class has a vector of 128 numbers, 4 bytes each.
    sizes = [float(each.stdout.split()[1]) for each in (few, many)]
    assert sizes[1] - sizes[0] == pytest.approx(99_998 * 128 * 4 / 2**20, abs=0.11)
    assert few.stdout.count("\n| 64 |") == 1


@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        ("--images_per_sec=0", "0 must be positive"),
        ("--images_per_sec=fast", "invalid float value: 'fast'"),
        ("--num_servers=-1", "-1 must be positive"),
        ("--gbit_per_sec=inf", "inf must be positive"),
    ],
)
def test_script_refuses_what_is_no_number(flag, problem):
    result = run("--images_per_sec=1", flag)
    assert result.returncode == 2
    assert problem in result.stderr
