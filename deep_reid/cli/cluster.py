"""``--mode=train`` as one of several processes: the roles that ``TF_CONFIG`` gives them."""

import contextlib
import dataclasses
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from deep_reid.cli.command import Command
from deep_reid.cli.evaluate import evaluate
from deep_reid.cli.subject import import_tensorflow
from deep_reid.config import ComputeSettings, RunConfig
from deep_reid.config.cluster import CHIEF, EVALUATOR, SERVER, WORKER, Place
from deep_reid.config.setting import RUN, list_settings
from deep_reid.errors import DataError, RunError, UsageError
from deep_reid.interfaces import Dataset
from deep_reid.system import ports, signals

if TYPE_CHECKING:  # they import TensorFlow
    from deep_reid.runs.run import Run
    from deep_reid.runtime.cluster import Cluster

_logger = logging.getLogger(__name__)
_POLL_SECS = 0.5
# How long a process goes on after a signal, so that the chief can finish its step and save. The
# chief itself may wait for a worker that does not come back.
_LIMIT_SECS = {CHIEF: 60.0, WORKER: 10.0, SERVER: 20.0}
_HELPING = "going on, so that the chief can save"
# How long servers wait for workers after the chief has ended; killed ones do not come back.
_GRACE_SECS = 30.0
# The chief alone saves and restores; the data may be at another place on each machine.
_OWN_SETTINGS = {"dataset", "restore_path", "exclude_from_restore"}


class Training(NamedTuple):
    """What a process trains."""

    cluster: "Cluster"
    run: "Run"
    config: RunConfig


def check_place(place: Place, config: RunConfig) -> None:
    """Check what can be checked without TensorFlow, before the data set is read.

    Parameters
    ----------
    place : Place
    config : RunConfig

    Raises
    ------
    UsageError
        If a cluster cannot train with these settings.
    RunError
        If this process cannot listen at its address.
    """
    if place.is_alone:
        return
    if config.precision == "float16":
        raise UsageError(
            "--precision=float16 scales the loss by the gradients of one process, and does not go "
            "with a cluster: use bfloat16 or float32"
        )
    ports.check_free(place.address)


def assist(args: Command, dataset_class: type[Dataset], place: Place) -> bool:
    """Do the work of a server or an evaluator.

    Parameters
    ----------
    args : Command
    dataset_class : type
    place : Place

    Returns
    -------
    bool
        Whether this process is one of them.
    """
    if place.role == EVALUATOR:
        if args.run_id is None:
            raise UsageError("the evaluator of a cluster needs the name of the run: give --run_id")
        _wait_for_run(args)
        evaluate(dataclasses.replace(args, mode="eval"), dataset_class, until_last_step=True)
    elif place.role == SERVER:
        _serve(args, place)
    return place.role in (EVALUATOR, SERVER)


def _wait_for_run(args):
    run_dir = os.path.join(args.log_dir, args.run_id)
    deadline = time.monotonic() + args.cluster_timeout_secs
    while not os.path.isdir(run_dir):
        if time.monotonic() >= deadline:
            raise RunError(
                f"the chief has not begun {run_dir} within {args.cluster_timeout_secs:g} s: look "
                "at its log, share the folder with it, or wait longer with --cluster_timeout_secs"
            )
        time.sleep(_POLL_SECS)


def deferring_signals(
    place: Place,
) -> contextlib.AbstractContextManager[Callable[[], int | None]]:
    """Defer signals: the chief finishes its step and saves, the others help it for some seconds.

    Parameters
    ----------
    place : Place

    Returns
    -------
    context manager
        As `deep_reid.system.signals.deferred`.
    """
    if place.is_alone:
        return signals.deferred()
    if place.role == CHIEF:
        return signals.deferred(_LIMIT_SECS[CHIEF])
    return signals.deferred(_LIMIT_SECS[place.role], _HELPING)


@contextlib.contextmanager
def opened(
    args: Command,
    config: RunConfig,
    place: Place,
    num_images: int,
    should_stop: Callable[[], object],
) -> Iterator[Training]:
    """Open the run as the chief or alone; join it as a worker.

    Parameters
    ----------
    args : Command
    config : RunConfig
    place : Place
    num_images : int
        To train on; all processes must have the same.
    should_stop : callable
        Returns something other than None after a signal: the chief will come back then, and the
        others wait for it.

    Yields
    ------
    Training

    Raises
    ------
    UsageError, DataError
        If a worker was started with other settings or data than the chief.
    RunError
        If another process trains the run, or a process of the cluster does not come or is lost.
    """
    from deep_reid.runs.run import Run
    from deep_reid.runtime import cluster, servers

    if place.is_alone:
        with Run.open(args.log_dir, args.run_id) as run:
            yield Training(cluster.ALONE, run, config)
        return
    server = servers.start_server(place, config)
    membership = cluster.Membership(
        place,
        server,
        is_synchronous=args.sync_replicas,
        number_of_steps=config.number_of_steps,
    )
    board = membership.board
    facts = {
        "settings": {**_list_shared(config), "sync_replicas": args.sync_replicas},
        "num_images": num_images,
    }
    with _giving_up(membership), membership.naming_lost_servers():
        servers.wait_for_servers(place, args.cluster_timeout_secs)
        _log_cluster(place, args, config)
        if membership.is_chief:
            with Run.open(args.log_dir, args.run_id) as run:
                board.publish({**facts, "run_id": run.run_id, "seed": config.seed})
                with membership.watching():
                    yield Training(membership, run, config)
        else:
            of_chief = board.wait_for_settings(args.cluster_timeout_secs)
            _compare(place, args, facts, of_chief)
            config = dataclasses.replace(config, seed=of_chief["seed"], restore_path=None)
            first_step = board.wait_for_step(args.cluster_timeout_secs)
            run = Run.join(args.log_dir, of_chief["run_id"], first_step)
            with membership.watching():
                yield Training(membership, run, config)
        if should_stop() is None:
            board.end()


@contextlib.contextmanager
def _giving_up(membership):
    """Let the other servers end, too, if one is lost."""
    from deep_reid.runtime.servers import LostServerError

    try:
        yield
    except LostServerError:
        if membership.is_chief:
            membership.board.give_up()
        raise


def _serve(args, place):
    """Hold the weights until all that train have ended."""
    ports.check_free(place.address)
    import_tensorflow()
    from deep_reid.runtime import servers

    names = {field.name for field in dataclasses.fields(ComputeSettings)}
    compute = ComputeSettings(**{name: args.given[name] for name in names & args.given.keys()})
    with deferring_signals(place) as should_stop:
        server = servers.start_server(place, compute)
        _logger.info("%s serves at %s", place.name, place.address)
        ended: set[int] = set()
        threading.Thread(
            target=_collect, args=(servers.watch_ends(place, server), ended), daemon=True
        ).start()
        missing = _wait_for_ends(place, ended, servers.GIVEN_UP)
    if missing:
        _logger.warning(
            "Training has ended without %s",
            ", ".join(f"worker {number - 1}" for number in sorted(missing)),
        )
    number = should_stop()
    if number is not None:
        raise signals.Stopped(number)
    _logger.info("Training has ended")


def _collect(wait_for_end, ended):
    while True:
        ended.add(wait_for_end())


def _wait_for_ends(place, ended, given_up):
    """Wait for all that train; some seconds after the chief, return those that are missing."""
    deadline = None
    while missing := set(range(place.num_trainers)) - ended:
        if given_up in ended:
            raise RunError(
                f"{place.name} ends, as a server is lost or has not come: start all processes again"
            )
        if deadline is None and 0 in ended:
            deadline = time.monotonic() + _GRACE_SECS
        if deadline is not None and time.monotonic() >= deadline:
            break
        time.sleep(_POLL_SECS)
    return missing


def _list_shared(config):
    """List the settings that all processes must have alike, as JSON has them."""
    names = [
        name
        for name, setting in list_settings(RunConfig).items()
        if setting.belongs_to == RUN and setting.group != "saving" and setting.flags
    ]
    values: dict[str, Any] = dataclasses.asdict(config)
    return json.loads(json.dumps({n: values[n] for n in names if n not in _OWN_SETTINGS}))


def _compare(place, args, facts, of_chief):
    own, others = dict(facts["settings"]), of_chief["settings"]
    if "seed" not in args.given:  # it was drawn
        own["seed"] = others["seed"]
    for name, value in own.items():
        if others.get(name) != value:
            raise UsageError(
                f"{place.name} has {name} {value}, but the chief has {others.get(name)}: start all "
                "processes with the same settings"
            )
    if facts["num_images"] != of_chief["num_images"]:
        raise DataError(
            f"{place.name} has {facts['num_images']} images to train on, but the chief has "
            f"{of_chief['num_images']}: give all processes the same data set"
        )


def _log_cluster(place, args, config):
    num_trainers, size = place.num_trainers, config.batch_size
    if args.sync_replicas:
        text = f"a step takes {num_trainers} x {size} = {num_trainers * size} images"
    else:
        text = f"each takes steps of {size} images, without waiting for others"
    _logger.info(
        "%s of a cluster with %d processes that train, and %d that serve: %s",
        place.name.capitalize(),
        num_trainers,
        len(place.servers),
        text,
    )
