"""Starts a training on several processes of this machine; free of TensorFlow.

``python -m deep_reid.launch --num_workers=2 --num_ps=1 -- train_market1501.py --mode=train ...``
"""

import contextlib
import functools
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from deep_reid.cli.program import report_errors, set_up_logging
from deep_reid.config.cluster import CHIEF, EVALUATOR, SERVER, VARIABLE, WORKER
from deep_reid.errors import RunError, UsageError
from deep_reid.system import ports, signals
from deep_reid.system.parsers import BaseParser, read_whole_number

_logger = logging.getLogger(__name__)
_POLL_SECS = 0.1
_READ_SECS = 5.0  # a process that it has started may keep its output open
_CORES_PER_WORKER = 8
_GPUS = "CUDA_VISIBLE_DEVICES"
_count = functools.partial(read_whole_number, least=1)


class MemberError(RunError):
    """A process of the cluster has failed.

    Parameters
    ----------
    message : str
    exit_code : int
        Of the process; 128 and the signal's number, if one ended it.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Default: those of the process.

    Returns
    -------
    int
        0 if all processes ended well, or the exit code of the first one that failed.
    """
    return report_errors(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv):
    set_up_logging()
    args, command = _parse(argv)
    gpus = find_gpus()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    num_workers = args.num_workers or choose_num_workers(len(gpus), len(cores))
    counts = {CHIEF: 1, WORKER: num_workers - 1, SERVER: args.num_ps}
    numbers = iter(ports.find_free(sum(counts.values())))
    addresses = {
        role: [f"127.0.0.1:{next(numbers)}" for _ in range(count)]
        for role, count in counts.items()
        if count
    }
    restarts = args.num_restarts
    shares = [share(gpus or cores, index, num_workers) for index in range(num_workers)]
    members = [
        Member(command, addresses, SERVER, index, gpus=[]) for index in range(args.num_ps)
    ] + [
        Member(
            command,
            addresses,
            WORKER if number else CHIEF,
            max(0, number - 1),
            gpus=own if gpus else None,
            cores=() if gpus else own,
            num_restarts=restarts,
        )
        for number, own in enumerate(shares)
    ]
    if args.evaluator:
        members.append(Member(command, addresses, EVALUATOR, 0, gpus=[], num_restarts=restarts))
    _logger.info(
        "Starting %d processes that train, %d servers%s",
        num_workers,
        args.num_ps,
        " and an evaluator" if args.evaluator else "",
    )
    with signals.deferred() as should_stop:
        watch(members, should_stop)
    number = should_stop()
    if number is not None:
        raise signals.Stopped(number)


def _parse(argv):
    own, has_command, command = list(argv), "--" in argv, []
    if has_command:
        index = own.index("--")
        own, command = own[:index], own[index + 1 :]
    parser = BaseParser(
        prog="python -m deep_reid.launch",
        usage="%(prog)s [settings] -- SCRIPT --mode=train ...",
        description="Train with several processes of this machine.",
    )
    parser.add_argument(
        "--num_workers",
        type=_count_or_auto,
        default=2,
        metavar="COUNT|auto",
        help="processes that train, the chief among them; auto is one for each GPU, and without "
        f"GPUs one for {_CORES_PER_WORKER} cores, at least 2 (default: 2)",
    )
    parser.add_argument(
        "--num_ps", type=_count, default=1, metavar="COUNT", help="servers (default: 1)"
    )
    parser.add_argument(
        "--evaluator", action="store_true", help="evaluate each checkpoint in a process of its own"
    )
    parser.add_argument(
        "--num_restarts",
        type=functools.partial(read_whole_number, least=0),
        default=3,
        metavar="COUNT",
        help="how often a process that trains or evaluates is started again after a signal has "
        "killed it (default: 3)",
    )
    if not command:
        parser.parse_known_args(own)  # the command, without its --, may be among these
        parser.error("the command is missing: write it behind --, as -- train_mars.py --mode=train")
    args = parser.parse_args(own)
    mode = _find_mode(command)
    if mode not in (None, "train"):
        raise UsageError(f"--mode={mode} needs no cluster: give this command without the launcher")
    if command[0].endswith(".py"):
        if not os.path.isfile(command[0]):
            raise UsageError(f"{command[0]} does not exist: name a script, such as train_custom.py")
        command = [sys.executable, *command]
    elif shutil.which(command[0]) is None:
        raise UsageError(f"{command[0]!r} is no command: name a script, such as train_custom.py")
    names_run = any(word.partition("=")[0] == "--run_id" for word in command)
    if args.evaluator and not names_run:
        command.append(f"--run_id={time.strftime('%Y%m%d-%H%M%S')}")
    return args, command


def _find_mode(command):
    mode = None
    for word, following in zip(command, [*command[1:], None], strict=True):
        name, _, value = word.partition("=")
        if name == "--mode":
            mode = value or following
    return mode


def _count_or_auto(text):
    return None if text == "auto" else _count(text, others=", or auto")


def find_gpus() -> list[str]:
    """Find the GPUs of this machine.

    Returns
    -------
    list of str
        As ``CUDA_VISIBLE_DEVICES`` names them; if it is set, only those in it.
    """
    if _GPUS in os.environ:
        return [name for name in os.environ[_GPUS].split(",") if name]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    lines = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return [str(index) for index in range(len(lines))]


def choose_num_workers(num_gpus: int, num_cores: int) -> int:
    """Choose the number of processes that train.

    Parameters
    ----------
    num_gpus, num_cores : int

    Returns
    -------
    int
        One for each GPU. Without GPUs one for eight cores, but at least two.
    """
    return num_gpus or max(2, num_cores // _CORES_PER_WORKER)


def share(things: Sequence[Any], index: int, count: int) -> Sequence[Any]:
    """Share things out.

    Parameters
    ----------
    things : sequence
        GPUs or cores.
    index : int
        Whose share.
    count : int
        Number of shares.

    Returns
    -------
    sequence
        Shares are disjoint, unless there are fewer things than shares: then each has one thing.
    """
    if len(things) <= count:
        return [things[index % len(things)]] if len(things) else []
    return things[index * len(things) // count : (index + 1) * len(things) // count]


class Member:
    """A process of the cluster, to be started.

    If this process is killed, the system ends it, too (on Linux).

    Parameters
    ----------
    command : sequence of str
    addresses : dict of str -> list of str
    role : str
    index : int
    gpus : sequence of str, optional
        Default: all.
    cores : sequence of int
        Empty: all.
    num_restarts : int
        How often it is started again if a signal kills it.
    """

    def __init__(
        self,
        command: Sequence[str],
        addresses: dict[str, list[str]],
        role: str,
        index: int,
        *,
        gpus: Sequence[str] | None = None,
        cores: Sequence[int] = (),
        num_restarts: int = 0,
    ) -> None:
        self.role = role
        self.name = role if role in (CHIEF, EVALUATOR) else f"{role}-{index}"
        self.num_restarts = num_restarts
        self._command = command
        self._cores = cores
        task = {"cluster": addresses, "task": {"type": role, "index": index}}
        self._environment = {**os.environ, VARIABLE: json.dumps(task), "PYTHONUNBUFFERED": "1"}
        if gpus is not None:
            self._environment[_GPUS] = ",".join(gpus)

    def start(self) -> None:
        """Start the process."""
        self.process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Safe beside the readers' threads: the function calls the system, and nothing else.
            preexec_fn=signals.end_with_parent,  # noqa: PLW1509
        )
        if self._cores:  # it has no threads yet, and those to come inherit this
            os.sched_setaffinity(self.process.pid, self._cores)
        streams = ((self.process.stdout, sys.stdout), (self.process.stderr, sys.stderr))
        self._readers = [
            threading.Thread(target=self._pass_on, args=pair, daemon=True) for pair in streams
        ]
        for reader in self._readers:
            reader.start()

    def poll(self) -> int | None:
        """Return the exit code: negative after a signal, None while the process runs."""
        code = self.process.poll()
        if code is not None:
            for reader in self._readers:
                reader.join(_READ_SECS)
        return code

    def end(self) -> None:
        """Kill the process, if it runs."""
        if self.process.poll() is None:
            self.process.kill()

    def _pass_on(self, source, target):
        for line in source:
            # If nobody reads the lines any more, the process must not wait for a reader.
            with contextlib.suppress(OSError):
                target.buffer.write(f"{self.name}: ".encode() + line)
                target.buffer.flush()


def watch(members: Sequence[Member], should_stop: Callable[[], int | None]) -> None:
    """Start processes, and wait until all have ended.

    Parameters
    ----------
    members : sequence of Member
    should_stop : callable
        Returns the number of a signal, which is passed on to all.

    Raises
    ------
    MemberError
        If one has failed; then the others are ended first.
    """
    with contextlib.ExitStack() as stack:
        for member in members:
            member.start()
            stack.callback(member.end)  # none is left behind if another cannot be started
        _watch_started(members, should_stop)


def _watch_started(members, should_stop):
    running = list(members)
    failure, passed_on = None, None
    while running:
        number = should_stop() or (signal.SIGTERM if failure else None)
        if number is not None and passed_on is None:
            passed_on = number
            for member in running:
                member.process.send_signal(number)
        for member in list(running):
            code = member.poll()
            if code is None:
                continue
            running.remove(member)
            if code < 0 and member.num_restarts and passed_on is None:
                member.num_restarts -= 1
                _logger.warning("%s: %s; it is started again", member.name, describe_end(code))
                member.start()
                running.append(member)
            elif code and passed_on is None and failure is None:
                failure = MemberError(
                    f"{member.name} has failed ({describe_end(code)}): its lines above say why; "
                    "the others are ended",
                    128 - code if code < 0 else code,
                )
        if passed_on is not None and not any(member.role == CHIEF for member in running):
            for member in running:  # the others keep nothing
                member.end()
        time.sleep(_POLL_SECS)
    if failure is not None:
        raise failure


def describe_end(code: int) -> str:
    """Describe the end of a process.

    Parameters
    ----------
    code : int
        As of `Member.poll`.

    Returns
    -------
    str
    """
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


if __name__ == "__main__":
    sys.exit(main())
