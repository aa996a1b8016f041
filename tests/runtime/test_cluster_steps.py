"""What a synchronous step of several processes does to the weights."""

import json

import cluster_member
import numpy as np
import processes
import pytest

from deep_reid.system import ports

BATCH_SIZE = 12
NUM_STEPS = 5
pytestmark = pytest.mark.slow


def run_cluster(num_trainers, num_servers, *arguments, **settings):
    """Train in real processes, which must all end well."""
    roles = ["ps"] * num_servers + ["chief"] + ["worker"] * (num_trainers - 1)
    numbers = ports.find_free(len(roles))
    addresses = {}
    for role, number in zip(roles, numbers, strict=True):
        addresses.setdefault(role, []).append(f"127.0.0.1:{number}")
    started = []
    for role, own in addresses.items():
        for index in range(len(own)):
            task = {"cluster": addresses, "task": {"type": role, "index": index}}
            is_server = role == "ps"
            process = processes.CONTEXT.Process(
                target=cluster_member.serve if is_server else cluster_member.train,
                args=(json.dumps(task), *(() if is_server else arguments)),
                kwargs={} if is_server else settings,
            )
            process.start()
            started.append(process)
    for process in started:
        process.join(processes.TIMEOUT_SECS)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
    assert codes == [0] * len(started)


def test_a_session_does_not_wait_for_a_server_that_has_ended():
    chief, server = (f"127.0.0.1:{number}" for number in ports.find_free(2))
    addresses = {"chief": [chief], "ps": [server]}
    task = json.dumps({"cluster": addresses, "task": {"type": "chief", "index": 0}})
    process = processes.CONTEXT.Process(target=cluster_member.meet_no_server, args=(task,))
    process.start()
    process.join(processes.TIMEOUT_SECS)
    process.kill()
    assert process.exitcode == 0


def read_weights(checkpoint):
    from deep_reid.compat import tf

    reader = tf.train.load_checkpoint(str(checkpoint))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A checkpoint that all start from."""
    folder = tmp_path_factory.mktemp("start")
    processes.call(cluster_member.train, "", folder, BATCH_SIZE, 1)
    return folder / "run" / "model.ckpt-0"


@pytest.mark.parametrize(
    ("num_trainers", "num_servers", "settings"),
    [
        (2, 1, {"optimizer": "sgd"}),
        (2, 2, {"optimizer": "adamw", "ema_decay": 0.9}),
        (3, 1, {}),
    ],
)
def test_parts_of_a_batch_move_the_weights_as_the_whole_batch_does(
    tmp_path, start, num_trainers, num_servers, settings
):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    arguments = BATCH_SIZE, NUM_STEPS, str(start)
    processes.call(alone, str(whole), arguments, settings)
    run_cluster(num_trainers, num_servers, str(parts), *arguments, **settings)
    before = read_weights(start)
    expected = read_weights(whole / "run" / f"model.ckpt-{NUM_STEPS}")
    actual = read_weights(parts / "run" / f"model.ckpt-{NUM_STEPS}")
    assert actual.keys() == expected.keys()  # another mode cannot tell them apart
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=0, atol=1e-5, err_msg=name)
    for name in ("hidden/weights", "features/weights", "logits/weights"):
        assert np.abs(expected[name] - before[name]).max() > 1e-3


def alone(folder, arguments, settings):
    cluster_member.train("", folder, *arguments, **settings)
