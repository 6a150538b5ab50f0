"""Rows made on Ray: an actor for each GPU of the cluster, else for CPUs, each holding the model.

Ray ends the process that drives it once the head of its cluster is gone. So a process of its own drives it, and this
one is left to say what became of it.
"""

import multiprocessing
import os
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from multiprocessing.connection import Connection
from typing import Any

import torch

from evenreel.errors import PluginError, ResourceError
from evenreel.process_pool import begin_worker
from evenreel.workflows.batch.executors import DIED, POLL_SECONDS, TRIES, Watch
from evenreel.workflows.batch.table import Row
from evenreel.workflows.batch.worker import Outcome, Worker

GET_SECONDS = 60.0
"""Seconds in which the outcome of a row that was made must arrive; else its worker counts as lost."""
GONE_SECONDS = 10.0
"""Seconds without an answer after which the head of a cluster counts as lost."""
HELD_SECONDS = 120.0
"""Seconds that a row waits for a worker of a lost node that still holds its job."""


@dataclass(frozen=True)
class _Joined:
    """The driver has found its cluster."""

    address: str


@dataclass(frozen=True)
class _AtWork:
    """Rows that actors have, by their numbers."""

    numbers: tuple[int, ...]


@dataclass(frozen=True)
class _Ended:
    """The driver has no more to do, or cannot go on."""

    why: str | None = None
    fault: bool = False
    """Whether that is a fault of evenreel's own."""


def on_ray(rows: Sequence[Row], workers: int | None, watch: Watch) -> Iterator[Outcome]:
    """Make rows on Ray, with at most so many workers.

    The cluster is that of RAY_ADDRESS, else one on this machine. All nodes must see the same cache (EVENREEL_CACHE),
    and the clips and results under the same paths. Raises: PluginError where Ray is not installed, ResourceError where
    no cluster answers, or its head is lost.
    """
    if find_spec("ray") is None:
        raise PluginError("the executor ray needs Ray; install evenreel[ray], or choose processes.")
    told = os.environ.get("RAY_ADDRESS", "")
    if ":" in told and not answers(told.removeprefix("ray://")):  # Ray itself would wait for minutes
        raise ResourceError(f"no Ray cluster answers at RAY_ADDRESS {told}; start one there, or unset it.")
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    given = theirs, tuple(rows), workers, torch.get_num_threads()
    driver = context.Process(target=drive, args=given, daemon=True)
    driver.start()
    theirs.close()
    try:
        yield from _heard(pipe, rows, watch)
        driver.join(GONE_SECONDS)  # it takes its Ray along
    finally:
        pipe.close()
        if driver.is_alive():
            driver.terminate()  # Ray makes a way out of it, which takes the actors along
            driver.join(GONE_SECONDS)
        if driver.is_alive():
            driver.kill()
        driver.join()


def _heard(pipe: Connection, rows: Sequence[Row], watch: Watch) -> Iterator[Outcome]:
    """Outcomes that come through the driver's pipe."""
    by_number = {row.number: row for row in rows}
    left, busy, address, alive = set(by_number), (), None, time.monotonic()
    while True:
        try:
            message = pipe.recv() if pipe.poll(POLL_SECONDS) else None
        except (EOFError, OSError) as error:
            raise _lost(address, len(left), len(rows)) from error
        if isinstance(message, _Ended):
            if message.fault:
                raise RuntimeError(message.why)
            if message.why is not None:
                raise ResourceError(message.why)
            return
        if isinstance(message, Outcome):
            left.discard(message.number)
            yield message
        elif isinstance(message, _Joined):
            address = message.address
        elif isinstance(message, _AtWork):
            busy = message.numbers
        if address is None or answers(address):
            alive = time.monotonic()
        elif time.monotonic() - alive > GONE_SECONDS:
            raise _lost(address, len(left), len(rows))
        watch([by_number[number] for number in busy if number in left])


def _lost(address: str | None, left: int, count: int) -> ResourceError:
    where = f"the Ray cluster at {address}" if address else "Ray"
    return ResourceError(
        f"{where} is gone, and {left} of {count} rows are not made; start it again, then run the same command: rows "
        "that are done stay, and the others go on."
    )


def answers(address: str) -> bool:
    """Tell whether somebody listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
            return True
    except (OSError, ValueError):
        return False


def drive(pipe: Connection, rows: Sequence[Row], workers: int | None, threads: int) -> None:
    """Make rows as the driver of a cluster; say through a pipe what becomes of them."""
    begin_worker(threads)
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - what Ray says of its end is told in one sentence
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    import ray  # pyright: ignore[reportMissingImports]

    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        pipe.send(_Ended(f"Ray does not start ({reason[:200]}); mend that, or choose another executor."))
        return
    pipe.send(_Joined(ray.get_runtime_context().gcs_address))
    try:
        _drive(ray, pipe, rows, workers, threads)
        pipe.send(_Ended())
    except ray.exceptions.RayTaskError as error:
        pipe.send(_Ended(str(error), fault=True))
    finally:
        ray.shutdown()


def _drive(ray: Any, pipe: Connection, rows: Sequence[Row], workers: int | None, threads: int) -> None:
    gpus = int(ray.cluster_resources().get("GPU", 0))
    actor = ray.remote(num_gpus=1 if gpus else 0, num_cpus=1)(Actor)
    most = gpus or int(ray.cluster_resources().get("CPU", 1)) or 1
    count = min(workers or most, most)  # an actor more would wait for a place that no other one leaves
    waiting, tries = list(rows), dict.fromkeys((row.number for row in rows), 0)
    busy: dict[Any, tuple[Any, Row]] = {}
    idle: list[Any] = []
    while waiting or busy:
        while waiting and len(busy) < count:
            one = idle.pop() if idle else actor.remote(threads)
            row = waiting.pop(0)
            busy[one.make.remote(row)] = (one, row)
        pipe.send(_AtWork(tuple(row.number for _, row in busy.values())))
        done, _ = ray.wait(list(busy), timeout=POLL_SECONDS)
        for reference in done:
            one, row = busy.pop(reference)
            try:
                outcome = replace(ray.get(reference, timeout=GET_SECONDS), number=row.number)
                if waiting:
                    idle.append(one)
                else:  # it leaves its place to an actor that may wait for one
                    ray.kill(one)
                pipe.send(outcome)
            except ray.exceptions.RayTaskError:
                raise  # a fault of ours
            except ray.exceptions.RayError:  # the actor, its process or its node is gone
                tries[row.number] += 1
                if tries[row.number] < TRIES:
                    waiting.insert(0, row)
                else:
                    pipe.send(Outcome(row.number, str(row.output), error=DIED.format(TRIES)))


class Actor:
    """A worker on a node."""

    def __init__(self, threads: int) -> None:
        """Compute on so many threads."""
        torch.set_num_threads(threads)
        self.worker = Worker(patience=HELD_SECONDS)

    def make(self, row: Row) -> Outcome:
        """Make a row."""
        return self.worker.make(row)
