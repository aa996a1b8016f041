"""The files for containers and Kubernetes: what they run, and what they copy."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from datasets.market1501 import Market1501
from deep_reid.cli.arguments import ArgumentParser
from deep_reid.config.cluster import ROLES, read_place

DEPLOY = Path(__file__).parents[2] / "deploy"


def read(name):
    return yaml.safe_load((DEPLOY / name).read_text())


def parse(arguments):
    command, *argv = arguments
    assert command == "market1501"
    return ArgumentParser(Market1501, "deep-reid").parse_args(argv)


@pytest.fixture
def replicas():
    return read("tfjob.yaml")["spec"]["tfReplicaSpecs"]


def test_all_members_of_the_job_train_alike(replicas):
    found = []
    for spec in replicas.values():
        (container,) = spec["template"]["spec"]["containers"]
        assert container["name"] == "tensorflow"  # without it, the operator sets no TF_CONFIG
        found.append(container["args"])
    assert all(arguments == found[0] for arguments in found)
    args = parse(found[0])
    assert args.mode == "train"
    assert args.run_id is not None  # else each restart would begin a new run


def test_the_job_s_members_make_a_cluster(replicas):
    assert {name.lower() for name in replicas} == set(ROLES)
    cluster = {
        name.lower(): [f"deep-reid-{name.lower()}-{i}:2222" for i in range(spec["replicas"])]
        for name, spec in replicas.items()
        if name != "Evaluator"  # as the operator does
    }
    for name in replicas:
        task = {"type": name.lower(), "index": 0}
        place = read_place({"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})})
        assert place.role == name.lower()
        assert place.num_trainers == 1 + replicas["Worker"]["replicas"]


def test_all_members_see_the_volume_that_they_use(replicas):
    export = read("export-job.yaml")["spec"]["template"]
    for template in [export, *(spec["template"] for spec in replicas.values())]:
        (container,) = template["spec"]["containers"]
        volumes = {volume["name"] for volume in template["spec"].get("volumes", [])}
        mounted = {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts", [])}
        assert mounted.keys() <= volumes
    for name in ("Chief", "Worker", "Evaluator"):
        assert replicas[name]["template"]["spec"]["volumes"]


def test_each_pod_of_the_export_writes_its_shard():
    spec = read("export-job.yaml")["spec"]
    assert spec["completionMode"] == "Indexed"
    (container,) = spec["template"]["spec"]["containers"]
    (script,) = container["args"]
    shards = []
    for index in range(spec["completions"]):
        words = shlex.split(script.replace("$JOB_COMPLETION_INDEX", str(index)))
        assert words[:2] == ["exec", "deep-reid"]
        shards.append(parse(words[2:]).shard)
    assert shards == [(index, spec["completions"]) for index in range(spec["completions"])]


def test_the_image_copies_what_exists_and_ignores_the_rest():
    text = (DEPLOY / "Dockerfile").read_text()
    copied = [
        name
        for names in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE)
        for name in names.split()
    ]
    assert "deep_reid" in copied
    assert all((DEPLOY.parent / name).exists() for name in copied)
    kept = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in copied} == {line for line in kept if line.startswith("!")}
