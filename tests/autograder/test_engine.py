"""Tasks on this machine's workers: what is run, how often, and what a task that ends its worker costs the others."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fake_performs as fake
import psutil
import pytest

from autograder import engine
from autograder.engine import Done, EngineError, Where
from autograder.evidence import Store, Task
from autograder.exercise import CourseError
from autograder.sandbox import Guarantee, SandboxError

HERE, TWO = Where(workers=0), Where(workers=2)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "evidence")


def run(jobs: Any, store: Store, where: Where = TWO, perform: Any = fake.obey, **options: Any) -> dict[str, Done]:
    found = list(engine.run(jobs, store, perform, where=where, **options))
    assert len({done.name for done in found}) == len(found), "a job was told twice"
    return {done.name: done for done in found}


def named(**sources: str) -> list[tuple[str, Task]]:
    return [(name, fake.task(f"{source};{name}")) for name, source in sources.items()]


# ---------------------------------------------------------------- in this process


def test_evidence_is_kept_under_its_key_and_no_task_is_run_twice(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    jobs = named(ada=f"log {log}", emmy=f"log {log}")
    first, second = run(jobs, store, HERE), run(jobs, store, HERE)
    assert sorted(store.keys()) == sorted(task.key for _, task in jobs)
    assert all(done.seconds > 0 for done in first.values()) and all(done.seconds == 0 for done in second.values())
    assert len(log.read_text().splitlines()) == 2


def test_the_same_work_handed_in_twice_is_run_once(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    found = run([(name, fake.task(f"log {log}")) for name in ("ada", "emmy")], store, HERE)
    assert len(log.read_text().splitlines()) == 1 and not any(done.problem for done in found.values())


def test_force_makes_evidence_anew(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    jobs = named(ada=f"log {log}")
    run(jobs, store, HERE)
    run(jobs, store, HERE, anew=True)
    assert [line.split()[1] for line in log.read_text().splitlines()] == ["new", "new"]


def test_evidence_of_an_older_judge_is_handed_to_perform(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    jobs = named(ada=f"log {log}")
    run(jobs, store, HERE)
    run(jobs, store, HERE, judged_by_now=lambda ran, task: ran.verdicts["tiny.double"]["version"] == "another")
    assert [line.split()[1] for line in log.read_text().splitlines()] == ["new", "kept"]


def test_a_perform_that_fails_is_a_problem_of_its_submission_alone(store: Store) -> None:
    found = run(named(ada="fail", emmy="x"), store, HERE)
    assert found["ada"].problem == "ValueError: as it was told" and found["emmy"].problem == ""
    assert len(list(store.keys())) == 1


def test_what_is_no_evidence_is_not_kept(store: Store) -> None:
    found = run(named(ada="x"), store, HERE, lambda task, kept: b"nonsense")
    assert found["ada"].problem.startswith("what came back from running it is no evidence: ")
    assert not list(store.keys())


@pytest.mark.parametrize("holds", [True, False])
def test_a_machine_without_a_wall_stops_the_run_and_a_kernel_that_did_not_start_does_not(
    store: Store, monkeypatch: pytest.MonkeyPatch, holds: bool
) -> None:
    def refuse(task: Any, kept: bytes | None) -> bytes:
        raise SandboxError("the network can't be cut off", "use a Linux machine")

    monkeypatch.setattr(engine, "survey", lambda: (Guarantee("no network", holds, ""),))
    if holds:
        assert run(named(ada="x"), store, HERE, refuse)["ada"].problem.startswith("the network can't be cut off")
    else:
        with pytest.raises(EngineError, match="can't be run safely: the network can't be cut off: use a Linux"):
            run(named(ada="x", emmy="x"), store, HERE, refuse)
    assert not list(store.keys())


def test_one_task_alone_does_not_start_dask(tmp_path: Path) -> None:
    code = (
        "import sys, fake_performs as fake; from autograder import engine; from autograder.evidence import Store;"
        f"print(list(engine.run([('ada', fake.task('x'))], Store({str(tmp_path)!r}), fake.obey)));"
        "sys.exit('distributed' in sys.modules or 'dask' in sys.modules)"
    )
    path = os.pathsep.join([str(Path(fake.__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True)
    assert done.returncode == 0 and b"ada" in done.stdout, done.stderr


def test_evidence_that_cannot_be_written_stops_the_run_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "evidence").write_text("a file in the way")
    with pytest.raises(CourseError, match=r"cannot read evidence in .*: Not a directory"):
        run(named(ada="x"), Store(tmp_path / "evidence"), HERE)

    def full(task: Task, kept: bytes | None) -> bytes:
        (tmp_path / "evidence").write_text("a file in the way")
        return fake.evidence(task)

    (tmp_path / "evidence").unlink()
    with pytest.raises(CourseError, match="cannot keep evidence"):
        run(named(ada="x"), Store(tmp_path / "evidence"), HERE, full)


# ---------------------------------------------------------------- on workers of our own


def test_workers_share_the_work_and_are_gone_afterwards(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    before = set(psutil.Process().children(recursive=True))
    found = run(named(**{f"s{i}": f"log {log};sleep 0.2" for i in range(8)}), store)
    workers = {line.split()[0] for line in log.read_text().splitlines()}
    assert len(found) == 8 and len(workers) == 2 and str(os.getpid()) not in workers
    left = {
        p for p in set(psutil.Process().children(recursive=True)) - before if "resource_tracker" not in str(p.cmdline())
    }
    assert not left


def test_a_submission_that_ends_workers_is_set_aside_and_the_rest_is_run(store: Store) -> None:
    found = run(
        named(bad="exit", worse="exit", slow="sleep 0.3", **{f"s{i}": "x" for i in range(8)}, wrong="fail"), store
    )
    assert found.pop("bad").problem == found.pop("worse").problem == "set aside: it ended the worker 4 times"
    assert found.pop("wrong").problem == "ValueError: as it was told"
    assert len(found) == 9 and not any(done.problem for done in found.values())
    assert len(list(store.keys())) == 9


def test_a_worker_lost_by_chance_costs_no_submission_anything(store: Store, tmp_path: Path) -> None:
    found = run(named(ada=f"exit once {tmp_path / 'gone'}", emmy="x", sofja="x"), store)
    assert not any(done.problem for done in found.values()) and len(list(store.keys())) == 3


def test_a_worker_that_hangs_beyond_all_limits_ends_itself(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import fake_performs as fake; from autograder import engine; engine.SPARE = -299.5; engine._at_worker("
    code += "engine.course_version(), fake.obey, fake.task('sleep 60'), None)"
    path = os.pathsep.join([str(Path(fake.__file__).parent), os.environ.get("PYTHONPATH", "")])
    assert (
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, timeout=50).returncode == 1
    )


def test_submissions_are_read_as_there_is_room_for_them(store: Store) -> None:
    read, told, ahead = 0, 0, []

    def jobs() -> Iterator[tuple[str, Task]]:
        nonlocal read
        for number in range(60):
            read += 1
            ahead.append(read - told)
            yield f"s{number}", fake.task(f"sleep 0.01;{number}")

    for _ in engine.run(jobs(), store, fake.obey, where=TWO):
        told += 1
    assert told == 60 and max(ahead) <= 2 * engine.AHEAD + 2


def test_a_task_is_let_go_when_it_is_done(store: Store) -> None:
    """Else the memory of the command grows with the class: Dask keeps its last 1,000 messages, unless told not to."""
    jobs, alive = ((str(i), fake.task(f"ok;{i}")) for i in range(90)), 0
    for count, _ in enumerate(engine.run(jobs, store, fake.obey, where=TWO), 1):
        if count == 90:
            gc.collect()
            alive = sum(type(thing) is Task for thing in gc.get_objects())
    assert 0 < alive < 60, alive


def test_what_comes_back_is_stored_while_the_caller_is_busy(store: Store) -> None:
    running = engine.run(named(**{f"s{i}": "x" for i in range(5)}), store, fake.obey, where=TWO)
    next(running)
    deadline = time.monotonic() + 30
    while len(list(store.keys())) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(list(store.keys())) == 5
    running.close()


def test_a_caller_that_stops_leaves_no_process(store: Store) -> None:
    running = engine.run(named(**{f"s{i}": "sleep 0.2" for i in range(20)}), store, fake.obey, where=TWO)
    next(running)
    running.close()
    assert not multiprocessing.active_children()


def test_the_status_says_how_many_work(store: Store) -> None:
    seen: list[engine.Status] = []
    run(named(**{f"s{i}": "sleep 0.1" for i in range(8)}), store, on_status=seen.append)
    assert seen[0].workers == 0 and max(status.workers for status in seen) == 2
    assert max(status.running for status in seen) <= 2 * engine.AHEAD


def test_workers_listen_on_loopback_and_want_a_certificate(store: Store) -> None:
    running = engine.run(named(**{f"s{i}": "sleep 0.3" for i in range(8)}), store, fake.obey, where=TWO)
    next(running)
    here = psutil.Process()
    listening = [
        connection.laddr
        for process in (here, *here.children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == "LISTEN"
    ]
    assert len(listening) >= 3 and {address.ip for address in listening} == {"127.0.0.1"}
    for address in listening:
        with socket.create_connection(address, timeout=5) as plain:
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with suppress(ConnectionError):
                assert b"HTTP" not in plain.recv(100)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            pytest.raises(ssl.SSLError, match="required"),
            socket.create_connection(address, timeout=5) as raw,
            context.wrap_socket(raw) as wrapped,
        ):
            wrapped.recv(1)
    running.close()


# ---------------------------------------------------------------- on a cluster that somebody else started


class Cluster:
    """A scheduler and a worker of their own, as anyone starts them, on the loopback interface."""

    def __init__(self, folder: Path, *, tls: tuple[Path, Path, Path] | None = None, port: int = 0) -> None:
        self.folder, self.tls = folder, tls
        self.file = folder / "scheduler.json"
        self.file.unlink(missing_ok=True)
        self.scheduler = self._start(
            "scheduler", "--no-dashboard", "--scheduler-file", str(self.file), "--port", str(port)
        )
        deadline = time.monotonic() + 60
        while not self.file.exists() or '"address"' not in self.file.read_text():
            assert time.monotonic() < deadline and self.scheduler.poll() is None
            time.sleep(0.05)
        self.address = self.file.read_text().split('"address": "')[1].split('"')[0]
        self.workers: list[subprocess.Popen[bytes]] = []

    def work(self, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        self.workers.append(
            self._start("worker", self.address, "--nthreads", "1", "--no-dashboard", "--no-nanny", env=env)
        )
        return self.workers[-1]

    def _start(self, what: str, *options: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        host = f"{'tls' if self.tls else 'tcp'}://127.0.0.1"
        files = dict(zip(("--tls-ca-file", "--tls-cert", "--tls-key"), map(str, self.tls or ()), strict=False))
        here = Path(fake.__file__).parent  # with the tests' own package of exercises, as in this process
        path = os.pathsep.join([str(here), str(here / "plugins"), os.environ.get("PYTHONPATH", "")])
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{what}", "--host", host, *options, *sum(files.items(), ())],
            env={**os.environ, "PYTHONPATH": path, **(env or {})},
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()


def certificates(folder: Path, name: str = "class") -> tuple[Path, Path, Path]:
    """An authority, and a certificate and a key that it signed: one self-signed pair is enough."""
    from distributed.security import Security

    made = Security.temporary()
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_text(made.tls_scheduler_cert)
    key.write_text(made.tls_scheduler_key)
    return certificate, certificate, key


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    made = Cluster(folder, tls=certificates(folder))
    made.work()
    yield made
    made.close()


@pytest.mark.slow
def test_a_cluster_over_tls_gets_notebooks_as_bytes(cluster: Cluster, store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    found = run(named(ada=f"log {log}"), store, Where(scheduler=cluster.address, tls=cluster.tls))
    assert cluster.address.startswith("tls://127.0.0.1:")
    assert not found["ada"].problem and len(list(store.keys())) == 1
    assert log.read_text().split()[0] == str(cluster.workers[0].pid)


@pytest.mark.slow
def test_another_certificate_is_refused_in_one_line(cluster: Cluster, store: Store, tmp_path: Path) -> None:
    where = Where(scheduler=cluster.address, tls=certificates(tmp_path, "stranger"))
    with pytest.raises(EngineError, match=r"no TLS with the scheduler at tls://.*certificate"):
        run(named(ada="x"), store, where)
    with pytest.raises(EngineError, match="can't reach a scheduler"):
        run(named(ada="x"), store, Where(scheduler=cluster.address.replace("tls", "tcp")))


@pytest.mark.slow
def test_a_worker_of_another_version_is_one_clear_line(
    cluster: Cluster, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = engine.course_version()
    monkeypatch.setattr(engine, "course_version", lambda: "9.9.9+abc")
    with pytest.raises(EngineError) as refused:
        run(named(ada="x"), store, Where(scheduler=cluster.address, tls=cluster.tls))
    assert str(refused.value) == (
        f"a worker has another version of the course: {there}, here it is 9.9.9+abc; install the same on both"
    )


@pytest.mark.slow
def test_a_worker_without_the_course_is_one_clear_line(store: Store, tmp_path: Path) -> None:
    made = Cluster(tmp_path)
    bare = tmp_path / "autograder"
    bare.mkdir()
    (bare / "__init__.py").touch()
    try:
        made.work(env={"PYTHONPATH": str(tmp_path)})
        with pytest.raises(EngineError, match=r"a worker can't read the course's tasks .* install there"):
            run(named(ada="x"), store, Where(scheduler=made.address))
    finally:
        made.close()


@pytest.mark.slow
def test_a_cluster_without_workers_is_waited_for_so_long_and_no_longer(store: Store, tmp_path: Path) -> None:
    made = Cluster(tmp_path)
    try:
        with pytest.raises(EngineError, match="has had no worker for 1 s: start some"):
            run(named(ada="x"), store, Where(scheduler=made.address, patience=1))
        threading.Timer(3, made.work).start()
        assert not run(named(ada="x"), store, Where(scheduler=made.address))["ada"].problem
    finally:
        made.close()


@pytest.mark.slow
def test_a_scheduler_that_goes_away_loses_nothing_that_came_back(store: Store, tmp_path: Path) -> None:
    made = Cluster(tmp_path)
    made.work()
    jobs = named(**{f"s{i}": "sleep 0.2" for i in range(30)})
    came: list[Done] = []
    try:
        with pytest.raises(EngineError, match="lost the connection to the scheduler at tcp://"):
            for done in engine.run(jobs, store, fake.obey, where=Where(scheduler=made.address)):
                came.append(done)
                if len(came) == 4:
                    made.scheduler.kill()
    finally:
        made.close()
    assert 4 <= len(list(store.keys())) < 30
    assert len(run(jobs, store, HERE)) == 30


def test_a_port_where_something_else_answers_is_one_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CONNECT", 1)
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(EngineError, match=r"can't reach a scheduler at .*: "):
            run(named(ada="x"), store, Where(scheduler=f"tcp://127.0.0.1:{server.server_port}"))
        server.shutdown()


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("tcp://127.0.0.1:9", "refused|Timed out"),
        ("nonsense", "missing port"),
        ("pigeon://home", "unknown address scheme"),
    ],
)
def test_a_scheduler_that_cannot_be_reached_is_one_line(
    address: str, told: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CONNECT", 1)
    with pytest.raises(EngineError, match=f"can't reach a scheduler at {address}: .*({told})") as refused:
        run(named(ada="x"), store, Where(scheduler=address))
    assert "\n" not in str(refused.value)
