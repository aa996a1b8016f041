"""TF_CONFIG: the place of a process in a cluster."""

import json

import pytest

from deep_reid.config.cluster import Place, read_place
from deep_reid.errors import UsageError

CLUSTER = {
    "chief": ["a:1"],
    "worker": ["b:2", "c:3"],
    "ps": ["d:4", "[::1]:5"],
}


def read(cluster=CLUSTER, role="chief", index=0, **others):
    content = {"cluster": cluster, "task": {"type": role, "index": index}, **others}
    return read_place({"TF_CONFIG": json.dumps(content)})


@pytest.mark.parametrize("text", [None, "", " ", "{}"])
def test_without_it_there_is_no_cluster(text):
    assert read_place({} if text is None else {"TF_CONFIG": text}) == Place()
    assert Place().is_alone and Place().number == 0 and Place().num_trainers == 1


def test_a_chief_without_others_is_alone():
    assert read({"chief": ["a:1"]}) == Place()


@pytest.mark.parametrize(
    ("role", "index", "number", "name", "address"),
    [
        ("chief", 0, 0, "chief", "a:1"),
        ("worker", 0, 1, "worker 0", "b:2"),
        ("worker", 1, 2, "worker 1", "c:3"),
    ],
)
def test_who_trains(role, index, number, name, address):
    place = read(role=role, index=index, environment="cloud")  # as TFJob adds it
    assert (place.number, place.name, place.address) == (number, name, address)
    assert place.num_trainers == 3 and place.servers == ("d:4", "[::1]:5") and not place.is_alone


def test_a_master_is_the_chief():
    cluster = {"master": CLUSTER["chief"], **{r: CLUSTER[r] for r in ("worker", "ps")}}
    for role in ("chief", "master", "worker", "ps"):
        expected = read(role="chief" if role == "master" else role)
        assert read(cluster, role=role) == read({**cluster, "chief": []}, role=role) == expected
    assert read({"master": ["a:1"]}, role="master") == Place()


def test_an_evaluator_beside_a_chief_that_trains_alone():
    for cluster in ({"chief": ["a:1"]}, {"chief": ["a:1"], "evaluator": ["b:2"]}):
        assert read(cluster) == Place()
        assert read(cluster, role="evaluator").name == "evaluator"


@pytest.mark.parametrize(
    "host", ["d", "d_1", "a-0.b.svc", "a.b.", "10.0.0.7", "[fd00::7]", "[::1]"]
)
def test_hosts(host):
    assert read({**CLUSTER, "ps": [f"{host}:2222"]}).servers == (f"{host}:2222",)


def test_who_serves_and_evaluates():
    assert read(role="ps", index=1).address == "[::1]:5"
    assert read(role="evaluator").name == "evaluator"  # TFJob leaves it out of the cluster


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"cluster', "is not valid JSON"),
        ("[]", "has no object 'cluster'"),
        ("[" * 100_000, "is not valid JSON"),
        ("null", "has no object 'cluster'"),
        ('{"cluster": []}', "has no object 'cluster'"),
        ('{"cluster": {"chief": ["a:1"]}}', "has no object 'task'"),
        ('{"cluster": {"boss": ["a:1"]}, "task": {"type": "chief"}}', "role 'boss' is unknown"),
        ('{"cluster": {"chief": "a:1"}, "task": {"type": "chief"}}', "no list of addresses"),
    ],
)
def test_what_cannot_be_read(text, message):
    with pytest.raises(UsageError, match=message):
        read_place({"TF_CONFIG": text})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"role": "boss"}, "role 'boss' is unknown: use chief, worker, ps, evaluator"),
        ({"role": None}, "role None is unknown"),
        ({"role": "worker", "index": 2}, "index 2 is out of range: the cluster has 2 worker"),
        ({"role": "worker", "index": -1}, "index -1 is out of range"),
        ({"role": "evaluator", "index": -1}, "index -1 is out of range"),
        ({"index": 1}, "index 1 is out of range: the cluster has 1 chief"),
        ({"index": "0"}, "index '0' is no whole number"),
        ({"index": True}, "no whole number"),
        ({"cluster": {**CLUSTER, "chief": ["a:1", "e:6"]}}, "has 2 chiefs: name exactly one"),
        ({"cluster": {**CLUSTER, "master": ["e:6"]}}, "has 2 chiefs: name exactly one"),
        ({"cluster": {**CLUSTER, "master": ["a:1"]}}, "has 2 chiefs: name exactly one"),
        ({"cluster": {"chief": ["a:1"], "master": ["e:6"]}}, "has 2 chiefs: name exactly one"),
        ({"cluster": {"chief": ["a:1", "e:6"]}}, "has 2 chiefs: name exactly one"),
        ({"cluster": {**CLUSTER, "chief": []}, "role": "ps"}, "has 0 chiefs"),
        ({"cluster": {**CLUSTER, "ps": []}}, "has no ps"),
        ({"cluster": {**CLUSTER, "worker": ["d:4"]}}, "address d:4 occurs twice"),
        *[
            ({"cluster": {**CLUSTER, "ps": [address]}}, "is not host:port")
            for address in (
                *("d", "d:", ":4", "d:x", "d:0", "d:65536", "d:\u0664", "d:04", "d:4 ", 4, None),
                *("http://d:4", "grpc://d:4", "d/e:4", " d:4", "d e:4", "d..e:4", ".:4", "-d:4"),
                *("me@d:4", "d:3:4", "::1:4", "[::1:4", "[]:4", "[d]:4", f"{'d' * 64}:4", "d\n:4"),
            )
        ],
    ],
)
def test_what_breaks_a_rule(changes, message):
    with pytest.raises(UsageError, match=message) as error:
        read(**changes)
    assert "\n" not in str(error.value)
