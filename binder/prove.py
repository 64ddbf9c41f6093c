"""Prove that Binder's image works, as far as one can without Docker: `python binder/prove.py` writes docs/binder.md.

A clean environment is made of a fresh clone and the files in binder/ alone. In it postBuild runs; then, through
`start`, without a network and under a cap of 2 GB, JupyterLab and every lesson's solved notebook, from first to last
cell. Needs Linux, root (or user namespaces) and some minutes; Linux counts the memory where a cgroup can be made.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the sandbox knows where this user may make a cgroup

CAP = 2 * 10**9  # bytes, for JupyterLab and a kernel together: what Binder promises
EVERY = 0.1  # seconds between two looks at the memory


class ProofError(Exception):
    """Something did not work as it must on Binder; the text says what."""


# ---------------------------------------------------------------- inside: without a network, under the cap


@dataclass(frozen=True)
class Run:
    """A lesson from a cold kernel to its last cell: seconds in all, and to the first check's card; what went wrong."""

    lesson: str
    seconds: float
    first_check: float
    problems: tuple[str, ...]


def inside(repository: Path) -> None:
    """Start JupyterLab, then run the lessons, saying on stdout what begins and what came of it, one JSON a line."""
    began = time.monotonic()
    _loopback()
    with _lab(repository):
        _say("lab", seconds=time.monotonic() - began)
        for path in sorted((repository / "solutions").glob("*/*.ipynb")):
            _say("begin", lesson=path.stem)
            _say("end", **asdict(run(path)))


def run(path: Path) -> Run:
    """Run a solved notebook as a learner would who knows all answers."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.read(path, as_version=4)
    problems: list[str] = []
    began, first = time.time(), 0.0
    try:
        NotebookClient(
            notebook, timeout=300, record_timing=True, resources={"metadata": {"path": path.parent}}
        ).execute()
    except CellExecutionError as error:
        problems.append(str(error).strip().splitlines()[-1])
    except Exception as error:  # a kernel that died for want of memory, or hung
        problems.append(f"{type(error).__name__}: {error}")
    spent = time.time() - began
    for cell in notebook.cells:
        if not cell.id.endswith("-check"):
            continue
        verdicts = [
            data for out in cell.get("outputs", []) for kind, data in out.get("data", {}).items() if "verdict" in kind
        ]
        if not verdicts or verdicts[0]["score"] != verdicts[0]["max_score"]:
            problems.append(f"{cell.id}: no full marks")
        elif not first:
            first = datetime.fromisoformat(cell.metadata.execution["shell.execute_reply"]).timestamp() - began
    return Run(path.stem, spent, first, tuple(problems))


@contextmanager
def _lab(repository: Path) -> Iterator[None]:
    """JupyterLab as Binder starts it, until it answers."""
    from urllib.error import URLError
    from urllib.request import urlopen

    command = [
        "jupyter",
        "lab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        "--port=8888",
        "--IdentityProvider.token=",
    ]
    with (repository.parent / "lab.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=repository, stdout=log, stderr=log)
    try:
        for _ in range(1200):
            with suppress(URLError, OSError):
                urlopen("http://127.0.0.1:8888/lab", timeout=5).close()
                break
            if server.poll() is not None:
                raise ProofError(f"JupyterLab ended at once; see {repository.parent / 'lab.log'}")
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        server.wait(20)


def _loopback() -> None:
    """Switch the loopback on, which a new network namespace has, but down."""
    import fcntl
    import socket
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", 0x1))  # SIOCSIFFLAGS, IFF_UP
    with suppress(OSError), socket.create_connection(("1.1.1.1", 53), timeout=2):
        raise ProofError("there is a network here: it was to be cut off")


def _say(what: str, **facts: object) -> None:
    print(json.dumps({"what": what, **facts}), flush=True)


# ---------------------------------------------------------------- outside: the clean environment, and the watch


class Memory:
    """The memory of everything that runs inside: counted and capped by a cgroup, or else summed up from /proc."""

    def __init__(self, cap: int) -> None:
        from autograder.sandbox.cgroup import writable

        self.cap, self.peak, self.child = cap, 0, 0
        self.group = (parent / f"binder-proof-{os.getpid()}") if (parent := writable()) else None
        if self.group:
            self.group.mkdir()
            old = (self.group / "memory.limit_in_bytes").exists()
            (self.group / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(cap))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def how(self) -> str:
        return (
            "a memory cgroup, in which Linux ends what goes above it"
            if self.group
            else "the sum of /proc's PSS, sampled"
        )

    def enter(self) -> None:
        """Called in the child, before it becomes the command."""
        if self.group:
            (self.group / "cgroup.procs").write_text(str(os.getpid()))

    def watch(self, child: int) -> None:
        self.child = child
        self._thread.start()

    def begin(self) -> None:
        self.peak = 0

    def end(self) -> None:
        self._ended.set()
        if self.group:
            for _ in range(50):
                with suppress(OSError):
                    self.group.rmdir()
                    break
                time.sleep(0.1)

    def killed(self) -> bool:
        for name in ("memory.oom_control", "memory.events"):
            with suppress(OSError, TypeError):
                lines = (self.group / name).read_text().splitlines()
                return any(line.startswith("oom_kill ") and line.split()[1] != "0" for line in lines)
        return self.peak > self.cap

    def _watch(self) -> None:
        while not self._ended.wait(EVERY):
            with suppress(OSError):
                self.peak = max(self.peak, self._counted() if self.group else _pss(self.child))

    def _counted(self) -> int:
        """Bytes that can't be dropped: anonymous and shared memory. Files that were read don't count."""
        facts = dict(line.split() for line in (self.group / "memory.stat").read_text().splitlines())
        return sum(
            int(facts.get(name, 0))
            for name in (("total_rss", "total_shmem") if "total_rss" in facts else ("anon", "shmem"))
        )


def _pss(pid: int) -> int:
    children = [int(one) for task in Path(f"/proc/{pid}/task").glob("*/children") for one in task.read_text().split()]
    total = sum(map(_pss, children))
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def prove(work: Path, pip_options: list[str]) -> dict[str, object]:
    """Make the image's parts in `work` and run everything; what was measured. Raises ProofError."""
    repository, env = work / "course", work / "env"
    load = os.getloadavg()[0]
    parts: dict[str, float] = {}

    def step(name: str, *command: str | Path, **options: object) -> None:
        began = time.monotonic()
        done = subprocess.run(list(map(str, command)), text=True, capture_output=True, **options)
        if done.returncode:
            raise ProofError(f"{name}: {' '.join((done.stderr or done.stdout).strip().splitlines()[-3:])}")
        parts[name] = time.monotonic() - began

    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "JUPYTER"))
    }
    clean |= {"HOME": str(work / "home"), "PATH": f"{env / 'bin'}:{os.environ['PATH']}"}
    (work / "home").mkdir()
    step("git clone", "git", "clone", "--quiet", ROOT, repository)
    step("a new environment", sys.executable, "-m", "venv", env)
    install = [env / "bin" / "python", "-m", "pip", "install", "--quiet", *pip_options]
    step("binder/requirements.txt", *install, "-r", repository / "binder" / "requirements.txt")
    step("binder/postBuild", "bash", repository / "binder" / "postBuild", cwd=repository, env=clean)
    sizes = {
        "packages": _size(env),
        "the course": _size(repository) - _size(repository / ".git"),
        "its history": _size(repository / ".git"),
        "caches of the home folder": _size(work / "home"),
    }
    memory = Memory(CAP)
    command = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    command += [
        "bash",
        str(repository / "binder" / "start"),
        "python",
        str(repository / "binder" / "prove.py"),
        "--inside",
        str(repository),
    ]
    runs: list[dict[str, object]] = []
    lab = 0.0
    try:
        child = subprocess.Popen(
            command, env=clean, cwd=repository, stdout=subprocess.PIPE, text=True, preexec_fn=memory.enter
        )
        memory.watch(child.pid)
        for line in child.stdout:
            facts = json.loads(line)
            if facts.pop("what") == "lab":
                lab, idle = facts["seconds"], memory.peak
            elif "seconds" in facts:
                runs.append(facts | {"peak": memory.peak})
                print(f"{facts['lesson']}: {facts['seconds']:.0f} s, {memory.peak / 1e9:.2f} GB", file=sys.stderr)
            memory.begin()
        if child.wait() or memory.killed():
            raise ProofError(
                "Linux ended a process for want of memory" if memory.killed() else "it ended with an error"
            )
    finally:
        memory.end()
    if broken := [f"{one['lesson']}: {problem}" for one in runs for problem in one["problems"]]:
        raise ProofError("; ".join(broken))
    if over := [one["lesson"] for one in runs if one["peak"] > CAP]:
        raise ProofError(f"more than {CAP / 1e9:g} GB: {', '.join(over)}")
    return {"parts": parts, "sizes": sizes, "lab": lab, "idle": idle, "runs": runs, "how": memory.how, "load": load}


def _size(folder: Path) -> int:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files)


def page(found: dict[str, object]) -> str:
    """docs/binder.md."""
    parts, sizes, runs, lab = found["parts"], found["sizes"], found["runs"], found["lab"]
    first = min(runs, key=lambda one: one["lesson"])
    slowest, largest = max(runs, key=lambda one: one["seconds"]), max(runs, key=lambda one: one["peak"])
    cold = sum(parts.values()) + lab + first["first_check"]
    return PAGE.format(
        date=datetime.now(UTC).date().isoformat(),
        machine=f"{_cpu()}, {os.cpu_count()} cores",
        how=found["how"],
        busy=BUSY.format(load=found["load"]) if found["load"] > (os.cpu_count() or 1) / 2 else "",
        parts="\n".join(f"| {name} | {seconds:.1f} |" for name, seconds in parts.items()),
        sizes="\n".join(f"| {name} | {size / 1e6:,.0f} |" for name, size in sizes.items()),
        total=f"{sum(sizes.values()) / 1e9:.2f}",
        lab=f"{lab:.1f}",
        idle=f"{found['idle'] / 1e9:.2f}",
        first=first["lesson"],
        first_check=f"{first['first_check']:.1f}",
        start=f"{lab + first['first_check']:.0f}",
        cold=f"{cold:.0f}",
        runs="\n".join(
            f"| {one['lesson']} | {one['seconds']:.0f} | {one['first_check']:.1f} | {one['peak'] / 1e9:.2f} |"
            for one in runs
        ),
        slowest=f"{slowest['lesson']} ({slowest['seconds']:.0f} s)",
        largest=f"{largest['lesson']} ({largest['peak'] / 1e9:.2f} GB)",
    )


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown processor")


BUSY = " The machine was busy with other work (load {load:.1f} at the start), so every time below is too long."

PAGE = """\
# On Binder

`binder/` is what Binder builds from: Python's version (`runtime.txt`), the packages that learners need
(`requirements.txt`, made from the lock by `python binder/pins.py`: without grader, tests and book, and without CUDA),
`postBuild`, which installs the course and pays once for what a first start costs, and `start`, which sets the
kernels' environment. On Binder, open `lab/tree/lessons` with the address of the repository.

Binder gives a learner 2 GB. `python binder/prove.py` makes a clean environment from those files alone, in a fresh
clone, and runs JupyterLab and all lessons in it, through `start`, with memory capped and the network cut off, since
the course needs none. Measured {date} on {machine}; the cap by {how}.{busy}

## The image

| part | MB |
|---|---|
{sizes}
| **together** | **{total} GB** |

To this Binder adds its own base (system, conda, Jupyter), which can't be measured without Docker. Before a learner's
first start on a machine of Binder's, that machine fetches the image; how long that takes depends on it alone.

## From nothing to the first answer

| step | s |
|---|---|
{parts}
| JupyterLab answers, through `start` | {lab} |
| kernel, and the cells of {first} to its first check's card | {first_check} |
| **from `git clone` to the first check** | **{cold}** |

Packages came from a store beside the machine, so a slow line adds its own time. A learner on Binder waits for the
last two steps, {start} s here, once the image is there.

## The lessons, solved, within 2 GB

Each in a new kernel beside the running JupyterLab (which alone takes {idle} GB), from a cold start to the last cell,
all checks with full marks. The memory is the most that all processes held together and could not give back.

| lesson | s | to the first check, s | GB at most |
|---|---|---|---|
{runs}

The slowest is {slowest}, the largest {largest}.
"""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help="an empty folder to work in, kept afterwards")
    parser.add_argument("pip_options", nargs="*", help="options for pip, after --")
    chosen = parser.parse_args()
    try:
        if chosen.inside:
            inside(chosen.inside)
        else:
            work = chosen.work or Path(tempfile.mkdtemp(prefix="binder-proof-"))
            work.mkdir(exist_ok=True)
            try:
                (ROOT / "docs" / "binder.md").write_text(page(prove(work.resolve(), chosen.pip_options)), "utf-8")
            finally:
                if not chosen.work:
                    shutil.rmtree(work, ignore_errors=True)
    except ProofError as error:
        sys.exit(f"binder: {error}")
