"""A process's place in a cluster, as the environment variable ``TF_CONFIG`` tells it.

Kubernetes' TFJob sets this variable, and so does `deep_reid.launch`; it is TensorFlow's own format.
"""

import dataclasses
import ipaddress
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from deep_reid.errors import UsageError

VARIABLE = "TF_CONFIG"
CHIEF, WORKER, SERVER, EVALUATOR = ROLES = ("chief", "worker", "ps", "evaluator")
_OLD_CHIEF = "master"  # as old operators of Kubernetes call it, and as TensorFlow reads it, too
_HOST_NAME = re.compile(r"(?=.{1,253}$)(?!-)[\w-]{1,63}(\.[\w-]{1,63})*\.?", re.ASCII)
_WAY_OUT = (
    'give it as {"cluster": {"chief": ["HOST:PORT"], "worker": [...], "ps": [...]}, "task": '
    '{"type": "worker", "index": 0}}, or unset it to train on this machine alone'
)


@dataclasses.dataclass(frozen=True)
class Place:
    """The cluster, and which of its processes this is.

    Parameters
    ----------
    addresses : dict of str -> tuple of str
        ``"host:port"`` of the processes, by roles. Empty: there is no cluster.
    role : {"chief", "worker", "ps", "evaluator"}
    index : int
        Among the processes of its role.
    """

    addresses: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    role: str = CHIEF
    index: int = 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other process to train with."""
        return not self.addresses

    @property
    def servers(self) -> tuple[str, ...]:
        """Addresses of the parameter servers."""
        return self.addresses.get(SERVER, ())

    @property
    def number(self) -> int:
        """Number among the processes that train: 0 is the chief, 1 is worker 0."""
        return 0 if self.role == CHIEF else self.index + 1

    @property
    def num_trainers(self) -> int:
        """Number of processes that train: the chief and the workers."""
        return 1 + len(self.addresses.get(WORKER, ()))

    @property
    def name(self) -> str:
        """What messages call the process, such as "worker 1"."""
        return self.role if self.role in (CHIEF, EVALUATOR) else f"{self.role} {self.index}"

    @property
    def address(self) -> str:
        """``"host:port"`` of this process."""
        return self.addresses[self.role][self.index]


def read_place(environment: Mapping[str, str] = os.environ) -> Place:
    """Read ``TF_CONFIG``; a ``master`` is the chief.

    Parameters
    ----------
    environment : dict of str -> str

    Returns
    -------
    Place
        Without ``TF_CONFIG``, or with one that names no process but a chief, there is no cluster.

    Raises
    ------
    UsageError
        If it is no JSON, lacks a part, has an unknown role, an index out of range, another number
        of chiefs than one, workers without a server, or an address that is wrong or occurs twice.
    """
    text = environment.get(VARIABLE, "").strip()
    if not text:
        return Place()
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{VARIABLE} is not valid JSON ({error}): {_WAY_OUT}") from error
    if content == {}:
        return Place()
    cluster, task = _read_object(content, VARIABLE, "cluster"), None
    addresses: dict[str, tuple[str, ...]] = {}
    for name, own in cluster.items():
        role = _role_of(name)
        addresses[role] = addresses.get(role, ()) + _read_addresses(role, own)
    task = _read_object(content, VARIABLE, "task")
    role, index = _role_of(task.get("type")), task.get("index", 0)
    if role not in ROLES:
        raise UsageError(f"{VARIABLE}: role {role!r} is unknown: use {', '.join(ROLES)}")
    if isinstance(index, bool) or not isinstance(index, int):
        raise UsageError(f"{VARIABLE}: index {index!r} is no whole number: count from 0")
    num_members = len(addresses.get(role, ()))
    if role == EVALUATOR and EVALUATOR not in addresses:  # TFJob leaves it out of the cluster
        num_members = index + 1
    if not 0 <= index < num_members:
        raise UsageError(
            f"{VARIABLE}: index {index} is out of range: the cluster has {num_members} {role}"
        )
    _check_members(addresses)
    if role == CHIEF and not any(addresses.get(other) for other in (WORKER, SERVER)):
        return Place()
    return Place(addresses, role, index)


def _role_of(name: Any) -> Any:
    return CHIEF if name == _OLD_CHIEF else name


def _read_object(content: Any, where: str, key: str) -> dict[str, Any]:
    value = content.get(key) if isinstance(content, dict) else None
    if not isinstance(value, dict):
        raise UsageError(f"{where} has no object {key!r}: {_WAY_OUT}")
    return value


def _read_addresses(role, addresses):
    if role not in ROLES:
        raise UsageError(f"{VARIABLE}: role {role!r} is unknown: use {', '.join(ROLES)}")
    if not isinstance(addresses, list):
        raise UsageError(f'{VARIABLE}: {role} is no list of addresses: use ["host:port", ...]')
    for address in addresses:
        host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
        if not _is_host(host) or not re.fullmatch("[1-9][0-9]{0,4}", port) or int(port) >= 2**16:
            raise UsageError(
                f"{VARIABLE}: address {address!r} of {role} is not host:port: write it as "
                "machine:2222, 10.0.0.7:2222 or [fd00::7]:2222"
            )
    return tuple(addresses)


def _is_host(text):
    if not text.startswith("["):
        return _HOST_NAME.fullmatch(text) is not None
    try:
        return text.endswith("]") and ipaddress.IPv6Address(text[1:-1]) is not None
    except ValueError:
        return False


def _check_members(addresses):
    num_chiefs = len(addresses.get(CHIEF, ()))
    if num_chiefs != 1:
        raise UsageError(f"{VARIABLE}: the cluster has {num_chiefs} chiefs: name exactly one")
    if not addresses.get(SERVER) and addresses.get(WORKER):
        raise UsageError(
            f"{VARIABLE}: the cluster has no ps: name one or more, which hold the weights"
        )
    known: set[str] = set()
    for address in (address for role in addresses.values() for address in role):
        if address in known:
            raise UsageError(f"{VARIABLE}: address {address} occurs twice: give each its own")
        known.add(address)
