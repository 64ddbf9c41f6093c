"""Every wall of the sandbox, tried from inside a real kernel, forked warm and started cold.

No code here is meant to do harm where the walls are missing: it looks, it writes to folders that must not exist, and
each bomb is bounded. Nothing runs before the machine has been surveyed.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxed import Kernel, kernel

from autograder.sandbox import Guarantee, SandboxError, Walls, survey
from course_lib.journal import Journal, data_dir

SURVEY = survey()
pytestmark = pytest.mark.skipif(
    not all(guarantee.holds for guarantee in SURVEY if guarantee.required),
    reason="no sandbox here: " + "; ".join(f"{g.name}: {g.detail}" for g in SURVEY if g.required and not g.holds),
)
MB = 2**20


@pytest.fixture(scope="module", params=["warm", "cold"])
def boxed(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    """One kernel for all tests that only look."""
    with kernel(warm=request.param == "warm") as started:
        yield started


def seen(boxed: Kernel, expression: str) -> object:
    """The value of an expression in the kernel."""
    answer = boxed.run(expression)
    assert not answer.error, answer.error
    return eval(answer.text)  # of a literal


# ---------------------------------------------------------------- what is seen


def test_survey_names_each_guarantee_and_a_remedy_where_one_does_not_hold() -> None:
    assert len({guarantee.name for guarantee in SURVEY}) == len(SURVEY) >= 8
    assert all(guarantee.remedy for guarantee in SURVEY if not guarantee.holds)


def test_no_file_of_the_machine_is_seen(boxed: Kernel, tmp_path: Path) -> None:
    secret = tmp_path / "gradebook.db"
    secret.write_text("7 of 10")
    checkout = Path(__file__).resolve().parents[2]
    hidden = [
        str(secret),
        "/etc/shadow",
        "/etc/hostname",
        "/sys/kernel",
        "/var/log",
        "/boot",
        "/opt",
        str(Path.home() / ".profile"),
    ]
    hidden += [
        str(checkout / name) for name in ("solutions", "tests", "pyproject.toml", ".git", "autograder/exercises")
    ]
    assert seen(boxed, f"import os; [p for p in {hidden!r} if os.path.lexists(p)]") == []
    assert seen(boxed, "os.listdir('/home'), os.listdir('.'), os.getcwd()") == (
        ["learner"],
        [".ipython"],
        "/home/learner",
    )


def test_nothing_but_the_work_folder_can_be_written(boxed: Kernel) -> None:
    code = """
import os, sys, autograder, course_lib
failed = []
for folder in ['/', '/etc', '/usr/bin', '/dev', sys.prefix, sys.base_prefix,
               os.path.dirname(autograder.__file__), os.path.dirname(course_lib.__file__)]:
    try:
        open(os.path.join(folder, 'intruder'), 'w')
        failed.append(folder)
    except OSError:
        pass
failed
"""
    assert seen(boxed, code) == []
    places = ["~a", "/dev/shm/~c"]
    if not __file__.startswith("/tmp/"):  # a checkout in there is shown, so the folder around it is no work folder
        places.append("/tmp/~b")
    assert seen(boxed, f"import pathlib; [pathlib.Path(f).write_text('x') for f in {places}]") == [1] * len(places)
    boxed.run(f"import os; [os.remove(f) for f in {places}]")


def test_the_grader_is_a_stand_in(boxed: Kernel) -> None:
    code = "import autograder, os; sorted(n for n in os.listdir(autograder.__path__[0]) if n != '__pycache__')"
    assert set(seen(boxed, code)) >= {"__init__.py", "check.py", "exercise.py", "probe"}
    assert boxed.run("import autograder.exercises").error.startswith("ModuleNotFoundError")
    assert boxed.run("import autograder.sandbox").error.startswith("ModuleNotFoundError")
    answer = boxed.run("from autograder.check import check\nimport autograder.probe\ncheck('x', 1)")
    assert (answer.text, answer.error) == ("", "")
    assert (
        seen(boxed, "import sys; [n for n in sys.modules if n.startswith(('autograder.sand', 'autograder.prov'))]")
        == []
    )


def test_course_lib_and_the_libraries_work(boxed: Kernel) -> None:
    assert seen(boxed, "import numpy as np; from course_lib import datasets; datasets.load('digits').name")
    assert seen(boxed, "import torch; float(torch.ones(3) @ torch.ones(3))") == 3.0


def test_the_environment_tells_nothing(boxed: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_TEST_SECRET", "x")
    with kernel(warm=False) as fresh:
        names = set(seen(fresh, "import os; sorted(os.environ)"))
    assert "COURSE_TEST_SECRET" not in names
    assert names <= {
        *("HOME", "TMPDIR", "USER", "PATH", "LANG", "TZ", "PYTHONPATH", "PYTHONUSERBASE", "PYTHONDONTWRITEBYTECODE"),
        *("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"),
        *("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
        *(
            "MPLBACKEND",
            "TERM",
            "CLICOLOR",
            "FORCE_COLOR",
            "CLICOLOR_FORCE",
            "PAGER",
            "GIT_PAGER",
            "PYDEVD_USE_FRAME_EVAL",
        ),
    }  # the last line is IPython's own


def test_the_journal_of_whoever_grades_is_neither_seen_nor_written(
    boxed: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The switch does not come in (see above), and whoever turns it on inside has a journal of their own."""
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    Journal(data_dir()).note_check("tiny.double", 1, 3, False)
    assert seen(boxed, "from course_lib import journal; journal.on(), journal.noting()") == (False, False)
    assert seen(boxed, f"import os; os.path.exists({str(tmp_path)!r})") is False
    assert seen(boxed, "kept = journal.Journal(journal.data_dir()); bool(kept.read())") is False
    assert seen(boxed, "kept.note_check('tiny.square', 9, 9, True); len(kept.read().checks)") == 1
    assert [check.exercise for check in Journal(data_dir()).read().checks] == ["tiny.double"]


# ---------------------------------------------------------------- who it is


def test_no_other_process_is_seen(boxed: Kernel) -> None:
    assert seen(boxed, "import os; sorted(int(n) for n in os.listdir('/proc') if n.isdecimal()), os.getpid()") == (
        [1, 2],
        2,
    )
    for path in ("/proc/1/environ", "/proc/1/mem", "/proc/1/root/etc", "/proc/1/fd"):
        assert (
            "Error"
            in boxed.run(f"import os; os.listdir({path!r}) if os.path.isdir({path!r}) else open({path!r}).read()").error
        )
    assert "Error" in boxed.run("import os; os.kill(os.getppid() + 4000, 0)").error
    boxed.run("import os, signal; os.kill(1, signal.SIGKILL)")
    assert seen(boxed, "1 + 1") == 2


def test_it_is_nobody_with_no_privileges(boxed: Kernel) -> None:
    status = seen(boxed, "dict(line.split(':\\t') for line in open('/proc/self/status').read().splitlines())")
    assert isinstance(status, dict)
    assert {name: int(status[name], 16) for name in status if name.startswith("Cap")} == dict.fromkeys(
        ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0
    )
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert seen(boxed, "import os; os.getuid(), os.geteuid(), os.getgid(), os.getgroups()") == (1000, 1000, 1000, [])
    outside = seen(boxed, "open('/proc/self/uid_map').read().split()")
    assert outside == ["1000", "1000", "1"]
    found = subprocess.run(["ps", "-eo", "uid,pid"], capture_output=True, text=True).stdout
    assert boxed.manager.provisioner.pid in {
        int(line.split()[1]) for line in found.splitlines()[1:] if int(line.split()[0])
    }


def test_system_calls_that_lead_out_are_refused(boxed: Kernel) -> None:
    code = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    return 0 if libc.syscall(ctypes.c_long(number), *arguments) >= 0 else ctypes.get_errno()
import platform
table = dict(unshare=(272, 97), mount=(165, 40), ptrace=(101, 117), keyctl=(250, 219), bpf=(321, 280),
             io_uring_setup=(425, 425), memfd_create=(319, 279), shmget=(29, 194), clone3=(435, 435),
             setns=(308, 268), userfaultfd=(323, 282), perf_event_open=(298, 241),
             process_vm_readv=(310, 270), open_by_handle_at=(304, 265))
column = platform.machine() == 'aarch64'
nothing = [ctypes.c_long(0)] * 5
{name: errno.errorcode.get(call(numbers[column], *nothing)) for name, numbers in table.items()}
"""
    found = seen(boxed, code)
    assert isinstance(found, dict)
    assert {error for error in found.values()} == {"EPERM", "ENOSYS"}, found
    flags = "[0x10000000 | 17, 0x20000 | 17, 0x40000000 | 17]"
    assert (
        seen(boxed, f"[errno.errorcode.get(call((56, 220)[column], ctypes.c_long(f), 0, 0, 0, 0)) for f in {flags}]")
        == ["EPERM"] * 3
    )


# ---------------------------------------------------------------- network


def test_no_network_not_even_to_this_machine(boxed: Kernel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.3)
        port = listener.getsockname()[1]
        answer = boxed.run(f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)")
        assert "OSError" in answer.error or "Error" in answer.error
        with pytest.raises(TimeoutError):
            listener.accept()
    with socket.socket(socket.AF_UNIX) as listener:  # abstract: no file needed to reach it
        listener.bind(name := f"\0course-test-{os.getpid()}")
        listener.listen()
        assert "ConnectionRefusedError" in boxed.run(f"socket.socket(socket.AF_UNIX).connect({name!r})").error


def test_no_socket_but_unix_ones(boxed: Kernel) -> None:
    code = """
import socket
made = []
for family in (2, 10, 16, 17, 29, 38, 40):  # internet, netlink, packet, can, crypto, vsock
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
        try:
            socket.socket(family, kind).close()
            made.append((family, kind))
        except OSError:
            pass
made
"""
    assert seen(boxed, code) == []
    assert seen(boxed, "len(socket.socketpair())") == 2


# ---------------------------------------------------------------- how much


def test_the_work_folder_is_limited(boxed: Kernel) -> None:
    for folder in (".", "/dev/shm"):
        big = f"{folder}/big"
        answer = boxed.run(f"with open({big!r}, 'wb', 0) as file:\n    for _ in range(600): file.write(bytes(2**20))")
        boxed.run(f"import os; os.remove({big!r})")
        assert "No space left" in answer.error or "File too large" in answer.error
    answer = boxed.run("for n in range(30_000): open(f'many{n}', 'w').close()")
    boxed.run("import glob\nfor name in glob.glob('many*'): os.remove(name)")
    assert "No space left" in answer.error


def test_one_process_cannot_take_more_memory_and_only_the_cell_fails() -> None:
    with kernel(Walls(memory=300 * MB)) as small:
        assert "MemoryError" in small.run("x = [bytearray(2**20) for _ in range(2000)]").error
        assert small.run("x = None; 1 + 1").text == "2"
        assert "Error" in small.run("import mmap; m = mmap.mmap(-1, 64 * 2**20)").error  # shared, and counted nowhere


def test_many_processes_cannot_take_more_memory_together() -> None:
    with kernel(Walls(memory=300 * MB)) as small:
        code = """
import os, time
for _ in range(8):
    if not os.fork():
        x = bytearray(b'x') * (150 * 2**20)
        time.sleep(30)
        os._exit(0)
time.sleep(30)
"""
        assert not small.run(code).finished
        assert small.why == "it used more than 0.315 GB of memory"


def test_children_that_share_memory_count_once() -> None:
    with kernel(Walls(memory=400 * MB)) as small:
        code = """
import os, time
x = bytearray(b'x') * (200 * 2**20)
children = []
for _ in range(6):
    if not (child := os.fork()):
        time.sleep(1.5)
        os._exit(0)
    children.append(child)
[os.waitpid(child, 0)[1] for child in children]
"""
        assert small.run(code).text == "[0, 0, 0, 0, 0, 0]"


def test_processes_are_limited_and_end_with_the_kernel() -> None:
    with kernel(Walls(processes=60)) as small:
        code = """
import os, time
made = 0
for _ in range(200):
    try:
        child = os.fork()
    except OSError as error:
        refused = type(error).__name__
        break
    if not child:
        os.setsid()
        time.sleep(60)
        os._exit(0)
    made += 1
made, refused
"""
        made, error = eval(small.run(code).text)
        assert (10 < made < 60, error) == (True, "BlockingIOError")
        assert small.run("1 + 1").text == "2"
        keeper = small.manager.provisioner.pid
        assert len(inside(keeper)) > 10
    assert inside(keeper) == []


def inside(keeper: int) -> list[int]:
    """The processes of a box."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            lines = (folder / "status").read_text().splitlines()
        except OSError:
            continue
        numbers = next((line.split()[1:] for line in lines if line.startswith("NSpid:")), [])
        parent = next((line.split()[1] for line in lines if line.startswith("PPid:")), "")
        if len(numbers) > 1 and (int(folder.name) == keeper or int(parent) == keeper or int(parent) in found):
            found.append(int(folder.name))
    return found


def test_files_descriptors_and_cores_are_limited() -> None:
    with kernel(Walls(file_bytes=MB, open_files=100)) as small:
        assert "File too large" in small.run("open('big', 'wb').write(bytes(2**21))").error
        assert "Too many open files" in small.run("files = [open('/dev/null') for _ in range(200)]").error
        assert small.run("files = None; import resource; resource.getrlimit(resource.RLIMIT_CORE)").text == "(0, 0)"
        assert "Error" in small.run("resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))").error


def test_time_is_limited() -> None:
    with kernel(Walls(wall_seconds=1.5)) as small:
        assert not small.run("import time; time.sleep(30)").finished
        assert small.why == "it ran longer than 1.5 s"
    with kernel(Walls(cpu_seconds=1.5)) as small:
        assert not small.run("while True: pass").finished
        assert small.why == "it used more than 1.5 s of processor time"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import os; os._exit(3)", "it ended itself with exit code 3"),
        ("import ctypes; ctypes.string_at(0)", "it was ended by signal 11 (SIGSEGV)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "it was ended by signal 9 (SIGKILL)"),
    ],
)
def test_a_dead_kernel_says_why(code: str, why: str) -> None:
    with kernel() as short:
        assert short.why == ""
        started = time.monotonic()
        assert not short.run(code).finished
        assert time.monotonic() - started < 5  # far from any time-out
        assert short.why == why


# ---------------------------------------------------------------- where it can't be had


def test_a_missing_wall_is_one_line_that_says_what_to_do() -> None:
    error = SandboxError("kernels can't be kept apart", "buy another machine")
    assert str(error) == "kernels can't be kept apart: buy another machine"
    assert Guarantee("no network", False, "").required


def test_doctor_says_what_to_do_where_user_namespaces_are_switched_off() -> None:
    """In a user namespace of the test's own, where that switch can be set for it alone."""
    switch = "/proc/sys/user/max_user_namespaces"
    command = (
        f'echo 0 > {switch} && exec {sys.executable} -c \'from autograder.cli import main; main(["doctor", "--json"])\''
    )
    done = subprocess.run(["unshare", "-Ur", "sh", "-c", command], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    first, *others = json.loads(done.stdout)
    assert first["remedy"] == "allow user namespaces by `sudo sysctl -w user.max_user_namespaces=10000`"
    assert not any(guarantee["holds"] for guarantee in others if guarantee["required"])


def test_a_hidden_folder_within_a_shown_one_shows_only_what_stands_in(tmp_path: Path) -> None:
    """As when the course is installed among other libraries."""
    package = tmp_path / "site" / "grader"
    package.mkdir(parents=True)
    (tmp_path / "site" / "other.py").write_text("other")
    (package / "secret.py").write_text("secret")
    code = f"""
import os
from dataclasses import replace
from autograder.sandbox import View, enter
view = View.of_course()
site = {str(package.parent)!r}
hidden, written = (*view.hidden, site + "/grader"), (*view.written, (site + "/grader/open.py", b"open"))
enter(replace(view, shown=(*view.shown, site), hidden=hidden, written=written))
print(sorted(os.listdir(site)), os.listdir(site + "/grader"), open(site + "/grader/open.py").read())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("['grader', 'other.py'] ['open.py'] open\n", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user runs all the tests above already")
def test_an_ordinary_user_gets_every_wall(tmp_path: Path) -> None:
    """By another user, in a mount namespace where the interpreter may be reached even under a closed /root."""
    base = sys.base_prefix
    code = "from autograder.sandbox import survey; print([g.name for g in survey() if g.required and not g.holds])"
    script = f"""
set -e
mount --bind {base} /mnt
case {base} in /root/*) mount -t tmpfs -o mode=755 none /root; mkdir -p {base}; mount --bind /mnt {base};; esac
umount /mnt
exec setpriv --reuid=65534 --regid=65534 --clear-groups {sys.executable} -c "{code}"
"""
    environment = {**os.environ, "HOME": "/nonexistent", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], env=environment, capture_output=True, text=True, cwd="/"
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
