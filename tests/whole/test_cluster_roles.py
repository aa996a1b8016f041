"""Processes of a cluster that must not train together, do not come, or have nothing to do."""

import json
import os
import socket

import clusters
import processes
import pytest

from deep_reid import cli
from deep_reid.config import RunConfig
from deep_reid.system import ports

pytestmark = pytest.mark.slow
TIMEOUT = "--cluster_timeout_secs=2"


@pytest.fixture
def argv(drawn_market1501):
    return [f"--dataset={drawn_market1501}", "--number_of_steps=4"]


def test_a_server_that_never_comes(tmp_path, argv):
    with clusters.Cluster(tmp_path, [*argv, TIMEOUT]) as cluster:
        cluster.start("chief", "worker 0")
        assert cluster.join() == {"chief": 1, "worker 0": 1}
        address = cluster.addresses["ps"][0]
        for name in ("chief", "worker 0"):
            last = cluster.log(name).splitlines()[-1]
            assert f"server 0 at {address} cannot be reached within 2 s" in last
            assert f"Waiting for server 0 at {address}, for 2 s at most" in cluster.log(name)
        assert not cluster.run_dir.exists()


def test_a_chief_that_never_comes(tmp_path, argv):
    with clusters.Cluster(tmp_path, [*argv, TIMEOUT]) as cluster:
        cluster.start("ps 0", "worker 0")
        assert cluster.join("worker 0") == {"worker 0": 1}
        *others, last = cluster.log("worker 0").splitlines()
        chief = f"the chief at {cluster.addresses['chief'][0]}"
        assert f"{chief} has not begun within 2 s" in last
        assert f"Waiting for {chief} to open the run, for 2 s at most" in "".join(others)


@pytest.mark.parametrize("name", ["chief", "ps 0"])
def test_a_port_that_is_in_use(tmp_path, argv, name):
    with clusters.Cluster(tmp_path, argv) as cluster, socket.socket() as other:
        role, _, index = name.partition(" ")
        port = int(cluster.addresses[role][int(index or 0)].rpartition(":")[2])
        other.bind(("127.0.0.1", port))
        other.listen()
        cluster.start(name)
        assert cluster.join() == {name: 1}
        assert f"port {port} of 127.0.0.1:{port} cannot be used" in cluster.log(name)
        assert "Importing TensorFlow" not in cluster.log(name)  # it is answered at once


@pytest.mark.parametrize(
    ("of_worker", "message", "code"),
    [
        (["--learning_rate=0.5"], "worker 0 has learning_rate 0.5, but the chief has 0.001", 2),
        (["--seed=2"], "worker 0 has seed 2, but the chief has 1", 2),
        (["--no_sync_replicas"], "worker 0 has sync_replicas False, but the chief has True", 2),
        (["--num_validation=4"], "worker 0 has num_validation 4, but the chief has 0.1", 2),
    ],
)
def test_a_worker_with_other_settings(tmp_path, argv, of_worker, message, code):
    with clusters.Cluster(tmp_path, argv) as cluster:
        cluster.start("ps 0", "chief")
        cluster.start("worker 0", argv=of_worker)
        assert cluster.join("worker 0") == {"worker 0": code}
        assert message in cluster.log("worker 0").splitlines()[-1]
        cluster.start("worker 0")  # the chief has waited
        assert set(cluster.join().values()) == {0}


def test_a_run_that_has_its_last_step_ends_at_once(tmp_path, argv):
    with clusters.Cluster(tmp_path, argv) as cluster:
        for _ in range(2):
            cluster.start()
            assert set(cluster.join().values()) == {0}
        assert "Nothing to train: this run is at step 4" in cluster.log("chief")


def test_an_evaluator_needs_a_name(tmp_path, argv):
    with clusters.Cluster(tmp_path, argv, run_id=None) as cluster:
        cluster.start("evaluator")
        assert cluster.join() == {"evaluator": 2}
        assert "needs the name of the run: give --run_id" in cluster.log("evaluator")


def test_a_worker_that_starts_while_the_chief_records_the_settings(tmp_path, drawn_market1501):
    # It goes on, and finds no server.
    assert processes.call(start_late_worker, tmp_path / "train", drawn_market1501) == 1


def start_late_worker(log_dir, dataset):
    from datasets.market1501 import Market1501

    class BegunMeanwhile(Market1501):
        def __init__(self, *args, **kwargs):
            (log_dir / "run").mkdir(parents=True)
            RunConfig((32, 16, 3), network="tiny:Net", num_classes=99).save(log_dir / "run")
            super().__init__(*args, **kwargs)

    addresses = [f"127.0.0.1:{number}" for number in ports.find_free(3)]
    cluster = {role: [own] for role, own in zip(("chief", "worker", "ps"), addresses, strict=True)}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker"}})
    argv = [*clusters.SMALL, TIMEOUT, f"--log_dir={log_dir}", f"--dataset={dataset}"]
    return cli.main(BegunMeanwhile, [*argv, "--run_id=run"])


def test_a_chief_may_name_the_run_itself(tmp_path, argv):
    with clusters.Cluster(tmp_path, argv, run_id=None) as cluster:
        cluster.start()
        assert set(cluster.join().values()) == {0}


def test_a_name_for_the_type_that_scales_losses(tmp_path, argv):
    with clusters.Cluster(tmp_path, [*argv, "--precision=float16"]) as cluster:
        cluster.start("chief")
        assert cluster.join() == {"chief": 2}
        assert "use bfloat16 or float32" in cluster.log("chief")


def test_asynchronous_workers_wait_at_the_end_for_a_chief_that_is_away(tmp_path, argv):
    argv = [*argv[:1], "--number_of_steps=200", "--no_sync_replicas", "--save_interval_secs=0.3"]
    with clusters.Cluster(tmp_path, argv) as cluster:
        cluster.start()
        cluster.wait_for_step("worker 0", 5)
        cluster.kill("chief")
        cluster.join("chief")
        # The step that it takes to the end, it does not log: it waits within it.
        cluster.wait_for_step("worker 0", 199)
        cluster.start("chief")
        assert set(cluster.join().values()) == {0}
        assert cluster.last_saved_step() >= 200


@pytest.mark.long
def test_a_training_that_begins_on_servers_of_another_one_that_has_ended(tmp_path, argv):
    argv = [argv[0], "--no_sync_replicas"]
    with clusters.Cluster(tmp_path, argv) as cluster:
        cluster.start(argv=["--number_of_steps=1500"])
        cluster.wait_for_step("worker 0", 1)
        cluster.kill("worker 0")  # the server waits for it when the chief has ended
        assert cluster.join("chief", "worker 0") == {"chief": 0, "worker 0": -9}
        cluster.start("chief", argv=["--number_of_steps=1600"])
        assert cluster.join() == {"chief": 1, "worker 0": -9, "ps 0": 0}
        assert "the servers are of a training that has ended" in cluster.log("chief")


def test_each_process_draws_its_own_batches(tmp_path, argv):
    with clusters.Cluster(tmp_path, argv) as cluster:
        cluster.start()
        assert set(cluster.join().values()) == {0}
        first = {
            name: cluster.log(name).partition(" step 1")[2].partition("loss ")[2][:6]
            for name in ("chief", "worker 0")
        }
        assert all(first.values()) and first["chief"] != first["worker 0"]
