"""Processes of a cluster that are killed: the others wait, go on, or end with a clear line."""

import random
import signal
import time

import clusters
import pytest

NUM_KILLS = 5
STEPS_BETWEEN = 25
pytestmark = pytest.mark.long


def pause(kill):
    """Kill at other places of a step each time."""
    time.sleep(random.Random(kill).uniform(0, 0.05))


@pytest.mark.parametrize("sync", [True, False])
def test_a_killed_worker(tmp_path, drawn_market1501, sync):
    last = 600 if sync else 3000
    argv = [f"--dataset={drawn_market1501}", f"--number_of_steps={last}"]
    argv.append("--sync_replicas" if sync else "--no_sync_replicas")
    with clusters.Cluster(tmp_path, argv) as cluster:
        cluster.start()
        for kill in range(NUM_KILLS):
            cluster.wait_for_step("worker 0", cluster.step("chief") + 5)
            pause(kill)
            cluster.kill("worker 0")
            cluster.join("worker 0")
            before = cluster.step("chief")
            if sync:  # one step may have had all it needs
                time.sleep(1)
                assert cluster.step("chief") <= before + 1
            else:
                cluster.wait_for_step("chief", before + STEPS_BETWEEN)
            cluster.start("worker 0")
        assert set(cluster.join().values()) == {0}
        assert cluster.last_saved_step() >= last


@pytest.mark.parametrize("sync", [True, False])
def test_a_killed_chief(tmp_path, drawn_market1501, sync):
    argv = [f"--dataset={drawn_market1501}", "--number_of_steps=400", "--save_interval_secs=0.3"]
    argv.append("--sync_replicas" if sync else "--no_sync_replicas")
    with clusters.Cluster(tmp_path, argv) as cluster:
        cluster.start()
        for kill in range(NUM_KILLS):
            start = cluster.last_saved_step() if kill else 0
            cluster.wait_for_step("chief", start + STEPS_BETWEEN)
            pause(kill)
            cluster.kill("chief")
            cluster.join("chief")
            saved = cluster.last_saved_step()
            assert cluster.is_running("worker 0")
            cluster.start("chief")
            cluster.wait_for_step("chief", saved + 1)
            assert f"model.ckpt-{saved}\n" in cluster.log("chief")
            if sync:  # otherwise, the worker takes steps before the chief does
                assert f"Training from step {saved}\n" in cluster.log("chief")
        assert set(cluster.join().values()) == {0}
        assert cluster.last_saved_step() >= 400


def test_a_killed_server(tmp_path, drawn_market1501):
    argv = [f"--dataset={drawn_market1501}", "--number_of_steps=300", "--save_interval_secs=0.3"]
    with clusters.Cluster(tmp_path, argv, num_servers=2) as cluster:
        saved = 0
        for kill in range(NUM_KILLS):
            cluster.start()
            cluster.wait_for_step("chief", saved + STEPS_BETWEEN)
            pause(kill)
            lost = kill % 2
            cluster.kill(f"ps {lost}")
            codes = cluster.join()
            assert codes == {"chief": 1, "worker 0": 1, f"ps {lost}": -9, f"ps {1 - lost}": 1}
            message = f"server {lost} at {cluster.addresses['ps'][lost]} is lost"
            assert message in cluster.log("chief") and message in cluster.log("worker 0")
            assert f"Training from step {saved}\n" in cluster.log("chief")
            saved = cluster.last_saved_step()
        cluster.start()
        assert set(cluster.join().values()) == {0}
        assert cluster.last_saved_step() == 300


@pytest.mark.parametrize(
    ("waiting", "is_new", "lost", "is_started_again", "sync"),
    [
        ("chief", True, 0, False, True),
        ("chief", True, 1, False, False),
        ("chief", True, 0, True, True),
        ("chief", False, 1, False, True),
        ("chief", False, 1, True, False),
        ("worker", False, 0, False, True),
        ("worker", False, 0, True, False),
        ("worker", True, 1, True, True),
    ],
)
def test_a_server_that_is_killed_before_a_session_begins(
    tmp_path, drawn_market1501, waiting, is_new, lost, is_started_again, sync
):
    argv = [f"--dataset={drawn_market1501}", "--network=tiny:WaitingNet"]
    argv.append("--sync_replicas" if sync else "--no_sync_replicas")
    files = {role: tmp_path / f"{role}-may-build" for role in ("chief", "worker")}
    for path in files.values():
        path.touch()
    server, others = f"ps {lost}", ("chief", "worker 0", f"ps {1 - lost}")
    with clusters.Cluster(tmp_path, argv, num_servers=2) as cluster:
        if not is_new:
            cluster.start(argv=["--number_of_steps=2"])
            assert set(cluster.join().values()) == {0}
        files[waiting].unlink()
        cluster.start(argv=["--number_of_steps=9"])
        name = "chief" if waiting == "chief" else "worker 0"
        clusters.wait_until(lambda: "Building the network" in cluster.log(name), name)
        # Before it has reached all servers, a worker waits for them.
        clusters.wait_until(lambda: "Worker 0 of a cluster" in cluster.log("worker 0"), "worker 0")
        cluster.kill(server)
        cluster.join(server)
        if is_started_again:  # without what was on it
            cluster.start(server)
            clusters.wait_until(lambda: "serves at" in cluster.log(server), server)
        files[waiting].touch()
        assert set(cluster.join(*others).values()) == {1}
        last_lines = [cluster.log(name).splitlines()[-1] for name in others[:2]]
        assert f"ERROR   {cluster.name_server(lost)} " in last_lines[0]
        for line in last_lines:  # the worker may name the other server, which the chief has ended
            assert "lost" in line and "start all processes again; with the same --run_id" in line
        if cluster.is_running(server):
            cluster.kill(server)
            cluster.join(server)
        cluster.start(argv=["--number_of_steps=9"])
        assert set(cluster.join().values()) == {0}
        if not is_new:
            assert f"model.ckpt-{2}\n" in cluster.log("chief")
        assert cluster.last_saved_step() >= 9


def test_a_worker_that_comes_when_a_server_was_lost_waits_for_the_next_start(
    tmp_path, drawn_market1501
):
    argv = [f"--dataset={drawn_market1501}", "--sync_replicas", "--number_of_steps=3"]
    with clusters.Cluster(tmp_path, argv, num_servers=2) as cluster:
        cluster.start("chief", "ps 0", "ps 1")
        clusters.wait_until(lambda: "Building the network" in cluster.log("chief"), "chief")
        cluster.kill("ps 1")
        assert cluster.join() == {"chief": 1, "ps 0": 1, "ps 1": -9}
        cluster.start("worker 0")
        waiting = f"Waiting for {cluster.name_server(0)}, {cluster.name_server(1)}, for "
        clusters.wait_until(lambda: waiting in cluster.log("worker 0"), waiting)
        cluster.start("chief", "ps 0", "ps 1")
        assert set(cluster.join().values()) == {0}
        assert cluster.step("worker 0") == 3


def test_a_server_that_is_killed_at_the_last_step(tmp_path, drawn_market1501):
    argv = [f"--dataset={drawn_market1501}"]
    with clusters.Cluster(tmp_path, argv) as cluster:
        for kill in range(NUM_KILLS):
            last = f"{STEPS_BETWEEN * (kill + 1)}"
            cluster.start(argv=[f"--number_of_steps={last}"])
            clusters.wait_until(lambda: f"step {last}/{last}" in cluster.log("chief"), last)  # noqa: B023
            time.sleep(kill * 0.03)  # before, while and after the chief saves
            cluster.kill("ps 0")
            codes = cluster.join()
            for name in ("chief", "worker 0"):
                assert codes[name] in (0, 1), name
                assert (codes[name] == 1) == ("is lost: start all" in cluster.log(name)), name
        cluster.start(argv=[f"--number_of_steps={last}"])
        assert set(cluster.join().values()) == {0}
        assert cluster.last_saved_step() == int(last)


def test_a_chief_that_waits_for_a_worker_ends_after_a_signal(tmp_path, drawn_market1501):
    with clusters.Cluster(tmp_path, [f"--dataset={drawn_market1501}"]) as cluster:
        cluster.start()
        cluster.wait_for_step("chief", 5)
        cluster.kill("worker 0")
        cluster.join("worker 0")
        message = f"Waiting for worker 0: {cluster.addresses['worker'][0]} cannot be reached"
        clusters.wait_until(lambda: message in cluster.log("chief"), message)
        cluster.kill("chief", signal.SIGTERM)
        assert cluster.join("chief") == {"chief": 128 + signal.SIGTERM}
