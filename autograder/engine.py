"""Run a class's tasks, on this machine's cores or on a Dask cluster, and keep the evidence that comes back.

The one module that names Dask. It knows tasks and a store, no gradebook: `run` takes tasks as they are read, a few more
than there are workers for, and says of each when its evidence is in the store. Evidence that is there is not made
again, and what comes back is stored at once, in a thread of its own, whatever the caller is busy with; so a run that
was stopped goes on where it was.

A worker that ends takes its tasks with it, and Dask gives them to another. A task that has lost several workers runs
again after all others, with nothing beside it. If its workers end even then, it was the task: it is set aside.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import queue
import threading
import time
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

from autograder.evidence import EvidenceError, Ran, Store, Task, unpack
from autograder.exercise import CourseError
from autograder.plugins import versions
from autograder.sandbox import SandboxError, survey

__all__ = ["THIS_MACHINE", "Done", "EngineError", "Perform", "Status", "Where", "course_version", "run"]

Perform = Callable[[Task, bytes | None], bytes]  # importable by its name: workers get the name, not the code

AHEAD = 3  # tasks given out for each worker: one that runs, and two so that it need not wait for us
LOSSES = 1  # workers that Dask lets a task lose before we hear of it, on a cluster of our own; the scheduler's own else
SPARE = 120  # seconds over a task's own limits, after which a worker that hangs in it ends itself
CONNECT = 10  # seconds to reach a scheduler
START = 120  # and for workers of our own to start, beyond that
LOOK = 2  # seconds between two counts of a cluster's workers
TICK = 0.25  # seconds between two looks at what has come back
SETTINGS = {
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.http.routes": [],
    # Dask keeps as many of the last messages of every connection for debugging: a class, each task some 400 kB
    "distributed.admin.low-level-log-length": 10,
}


class EngineError(CourseError):
    """The cluster can't be used, or is lost; all evidence that came back is kept."""


@dataclass(frozen=True)
class Where:
    """Where tasks run: `workers` processes here (None: one a core; 0: this process), or a scheduler's cluster.

    `tls` are the files of the authority, our certificate and our key. `patience` is for how many seconds the cluster
    may be without any worker.
    """

    workers: int | None = None
    scheduler: str = ""
    tls: tuple[Path, Path, Path] | None = None
    patience: float = 600


THIS_MACHINE = Where()


@dataclass(frozen=True)
class Done:
    """A task whose evidence is in the store, or that has a `problem`; `seconds` is 0 where it was not run now."""

    name: str
    seconds: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class Status:
    """What is going on: workers there are, and tasks that they have been given."""

    workers: int
    running: int


@dataclass(frozen=True)
class _Job:
    name: str
    task: Task
    kept: bytes | None  # evidence that only has to be judged anew
    lost: int = 0  # workers


def run(
    jobs: Iterable[tuple[str, Task]],
    store: Store,
    perform: Perform,
    *,
    judged_by_now: Callable[[Ran, Task], bool] = lambda ran, task: True,
    anew: bool = False,
    where: Where = THIS_MACHINE,
    expected: int | None = None,
    on_status: Callable[[Status], None] = lambda status: None,
) -> Iterator[Done]:
    """Yield a Done for each job, (name, task), as soon as its evidence is in the store; in no order.

    Jobs are read as there is room for them. Evidence that is there is made again only where `judged_by_now` is False:
    `perform` then gets it; with `anew` all is made again. One job that has to be run is run in this process.
    `expected` is how many jobs there are at most, `on_status` is called again and again. Raises EngineError: no such
    cluster, a cluster that is lost, a worker of another version; CourseError: evidence can't be written.
    """
    wanted = _needed(jobs, store, judged_by_now, anew)
    first: _Job | None = None
    for item in wanted:
        if isinstance(item, Done):
            yield item
        elif where.workers == 0 and not where.scheduler:
            yield _run_here(item, store, perform)
        elif first is None and not where.scheduler:
            first = item  # is it the only one?
        else:
            rest = chain([item] if first is None else [first, item], wanted)
            yield from _run_there(rest, store, perform, where, expected, on_status)
            return
    if first is not None:
        yield _run_here(first, store, perform)


def _needed(
    jobs: Iterable[tuple[str, Task]], store: Store, judged_by_now: Callable[[Ran, Task], bool], anew: bool
) -> Iterator[Done | _Job]:
    for name, task in jobs:
        kept = None if anew else store.get(task.key)
        yield Done(name) if kept is not None and judged_by_now(unpack(kept), task) else _Job(name, task, kept)


def _run_here(job: _Job, store: Store, perform: Perform) -> Done:
    return _kept(job, _answer(perform, job.task, job.kept), store)


@dataclass(frozen=True)
class _Answer:
    """What comes back from a worker."""

    evidence: bytes
    seconds: float
    problem: str = ""
    other_version: str = ""
    refused: str = ""  # why nobody's code may run there


def _answer(perform: Perform, task: Task, kept: bytes | None) -> _Answer:
    start = time.monotonic()
    try:
        return _Answer(perform(task, kept), time.monotonic() - start)
    except SandboxError as error:
        missing = any(guarantee.required and not guarantee.holds for guarantee in survey())
        told = {"refused" if missing else "problem": str(error)}
        return _Answer(b"", time.monotonic() - start, **told)
    except Exception as error:
        told = str(error) if isinstance(error, CourseError) else f"{type(error).__name__}: {error}"
        return _Answer(b"", time.monotonic() - start, problem=" ".join(told.split()) or type(error).__name__)


def _kept(job: _Job, answer: _Answer, store: Store) -> Done:
    """Put the evidence into the store, if it is evidence. Raises EngineError where nothing may be run."""
    if answer.refused:
        raise EngineError(f"submissions can't be run safely: {answer.refused}; `course doctor` says more")
    problem = answer.problem
    if not problem:
        try:
            unpack(answer.evidence)
            store.put(job.task.key, answer.evidence)
        except EvidenceError as error:
            problem = f"what came back from running it is no evidence: {error}"
    return Done(job.name, answer.seconds, problem)


# ---------------------------------------------------------------- on a cluster


def _run_there(
    items: Iterator[Done | _Job],
    store: Store,
    perform: Perform,
    where: Where,
    expected: int | None,
    on_status: Callable[[Status], None],
) -> Iterator[Done]:
    suspects: deque[_Job] = deque()
    more, flying = True, 0
    on_status(Status(0, 0))
    pool = _Pool(where, store, perform, expected)
    try:
        while more or flying or suspects:
            pool.look()
            room = more and flying < pool.room
            if room:
                item = next(items, None)
                if isinstance(item, Done):
                    yield item
                elif item is not None:
                    pool.submit(item)
                    flying += 1
                more = item is not None
            elif not flying:
                pool.submit(suspects.popleft())
                flying += 1
            for back in pool.finished(0 if room else TICK):
                flying -= 1
                if isinstance(back, Done):
                    yield back
                else:
                    suspects.append(back)
            on_status(Status(pool.workers, flying))
    finally:
        pool.close()


class _Pool:
    """A cluster with our tasks on it. `finished` gives what came back: stored, or a job that lost its workers."""

    def __init__(self, where: Where, store: Store, perform: Perform, expected: int | None) -> None:
        self.where, self.store, self.perform = where, store, perform
        self.workers = 0
        self._back: queue.SimpleQueue[Done | _Job | CourseError] = queue.SimpleQueue()
        self._run, self._count = f"grade-{uuid.uuid4().hex}", 0
        self._alive, self._looked = time.monotonic(), -LOOK
        self._others = set(multiprocessing.active_children())
        self._client: Any = None
        self._cluster: Any = None
        self._connect(expected)

    def _connect(self, expected: int | None) -> None:
        import dask
        from distributed import Client, LocalCluster
        from distributed.security import Security

        for name in list(logging.root.manager.loggerDict):
            if name.partition(".")[0] in ("distributed", "tornado"):  # what they have to say is said by us, in a line
                logging.getLogger(name).setLevel(logging.CRITICAL + 1)

        def start() -> None:
            address: Any = self.where.scheduler
            if not address:
                count = self.where.workers or _cores()
                # A key of this run's own: on a loopback port without it, anyone on this machine could run code.
                address = self._cluster = LocalCluster(
                    n_workers=min(count, expected or count),
                    threads_per_worker=1,
                    dashboard_address=None,
                    security=Security.temporary(),
                    silence_logs=logging.CRITICAL + 1,
                    scheduler_kwargs={
                        "allowed_failures": LOSSES,
                        "dashboard": False,
                        "dashboard_address": "127.0.0.1:0",
                    },
                    preload=[__name__],  # `dask_setup` below
                )
                address.loop.add_callback(address.scheduler.http_server.stop)  # it is there without a dashboard too
            self._client = Client(address, security=_security(self.where), timeout=CONNECT, set_as_default=False)

        with warnings.catch_warnings(), dask.config.set(SETTINGS):
            warnings.simplefilter("ignore")  # on versions: tasks that can't be read there are told below
            try:
                _within(CONNECT + (0 if self.where.scheduler else START), start)
            except Exception as error:  # OSError, ssl's, asyncio's, RuntimeError, ValueError for an address
                self.close()
                raise _unreachable(self.where, error) from error

    def submit(self, job: _Job) -> None:
        self._count += 1
        future = self._client.submit(
            _at_worker,
            course_version(),
            self.perform,
            job.task,
            job.kept,
            key=(self._run, self._count),
            pure=False,
        )
        future.add_done_callback(partial(self._arrived, job))

    def _arrived(self, job: _Job, future: Any) -> None:
        """In Dask's thread: keep what came back, and say so."""
        try:
            self._back.put(self._keep(job, future))
        except CourseError as error:
            self._back.put(error)
        except Exception as error:
            self._back.put(EngineError(f"{type(error).__name__}: {error}"))

    def _keep(self, job: _Job, future: Any) -> Done | _Job:
        from distributed import CancelledError, KilledWorker

        try:
            answer = future.result()
        except KilledWorker as error:
            lost = job.lost + error.allowed_failures + 1
            if job.lost:
                return Done(job.name, problem=f"set aside: it ended the worker {lost} times")
            return replace(job, lost=lost)
        except (CancelledError, OSError):
            raise self._lost() from None
        except Exception as error:  # it never came to our function: everything else is an _Answer
            told = " ".join(str(error).split())
            raise EngineError(
                f"a worker can't read the course's tasks ({type(error).__name__}: {told}): install there what is "
                f"installed here: the course {course_version()}, and the same Python and Dask"
            ) from None
        finally:
            future.release()
        if answer.other_version:
            raise EngineError(
                f"a worker has another version of the course: {answer.other_version}, here it is {course_version()}; "
                "install the same on both"
            )
        return _kept(job, answer, self.store)

    def finished(self, wait: float) -> Iterator[Done | _Job]:
        """What has come back by now, or within `wait` seconds. Raises what makes going on useless."""
        try:
            while True:
                back = self._back.get(timeout=wait) if wait else self._back.get_nowait()
                if isinstance(back, CourseError):
                    raise back
                yield back
                wait = 0
        except queue.Empty:
            return

    @property
    def room(self) -> int:
        """How many tasks may be given out; two also where no worker is yet: clusters grow with what waits."""
        return max(2, AHEAD * self.workers)

    def look(self) -> None:
        """Count the workers, now and then. Raises EngineError if there has been none for too long."""
        if time.monotonic() - self._looked < LOOK:
            return
        try:
            self.workers = sum(self._client.nthreads().values())
        except Exception:
            raise self._lost() from None
        self._looked = time.monotonic()
        if self.workers:
            self._alive = self._looked
        elif self._looked - self._alive > self.where.patience:
            raise EngineError(f"{self._name()} has had no worker for {self.where.patience:g} s: start some")

    def _lost(self) -> EngineError:
        return EngineError(f"lost the connection to {self._name()}")

    def _name(self) -> str:
        return f"the scheduler at {self.where.scheduler}" if self.where.scheduler else "this machine's workers"

    def close(self) -> None:
        """Let go of the tasks, and end the workers that are ours."""
        for thing in (self._client, self._cluster, self._cluster):
            if thing is not None:
                with suppress(Exception):  # closing fails where a worker is just being started again: hence twice
                    thing.close(timeout=5)
        for process in set(multiprocessing.active_children()) - self._others:
            with suppress(Exception):  # Dask may be ending it at the same time
                process.kill()
                process.join(5)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _security(where: Where) -> Any:
    from distributed.security import Security

    if not where.tls:
        return None
    ca, certificate, key = map(str, where.tls)
    return Security(tls_ca_file=ca, tls_client_cert=certificate, tls_client_key=key, require_encryption=True)


def _within(seconds: float, act: Callable[[], None]) -> None:
    """Do it, but give up after so long: Dask waits for ever at a port where something else than Dask answers."""
    ended: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def acting() -> None:
        try:
            ended.put(act())
        except Exception as error:
            ended.put(error)

    threading.Thread(target=acting, daemon=True).start()
    try:
        error = ended.get(timeout=seconds + 1)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if error is not None:
        raise error


def _unreachable(where: Where, error: Exception) -> EngineError:
    told = " ".join((str(error.__cause__ or "") or str(error)).split())
    if not where.scheduler:
        return EngineError(f"could not start workers on this machine: {told}")
    if "SSL" in told or "certificate" in told:
        return EngineError(f"no TLS with the scheduler at {where.scheduler}: see to the certificates ({told})")
    hint = "" if where.tls else "; does it want tls:// and certificates?" if "reset" in told else ""
    return EngineError(f"can't reach a scheduler at {where.scheduler}: {told}{hint}")


def dask_setup(worker: Any) -> None:
    """Dask calls this where a worker of our own starts: no port but Dask's own, and no word, as when it is stopped."""
    worker.http_server.stop()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _at_worker(version: str, perform: Perform, task: Task, kept: bytes | None) -> _Answer:
    """In a worker. One that hangs beyond all of the task's limits ends itself, which Dask notices."""
    if course_version() != version:
        return _Answer(b"", 0.0, other_version=course_version())
    limits = task.limits
    longest = limits.notebook + len(task.requests) * (limits.probe + limits.grace) + SPARE
    watch = threading.Timer(longest, os._exit, [1])
    watch.daemon = True
    watch.start()
    try:
        return _answer(perform, task, kept)
    finally:
        watch.cancel()


@cache
def course_version() -> str:
    """The version of the course that runs here: the package's, and a digest of its source."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parent.parent
    for path in sorted(path for package in ("autograder", "course_lib") for path in (root / package).rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    try:
        number = metadata.version("training-deep-nets")
    except metadata.PackageNotFoundError:
        number = "0"
    digest.update("".join(versions()).encode())
    return f"{number}+{digest.hexdigest()[:8]}"
