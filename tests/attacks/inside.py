"""Process 1 of the box: set a class up, let stock nbgrader grade it, and report what can be seen afterwards.

Stands on its own (standard library only): the box holds no other file of this repository. A job comes as JSON on
standard input, the report leaves as JSON on standard output, which nothing that is started here inherits.
"""

import base64
import contextlib
import ctypes
import hashlib
import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

HOME = Path("/home/instructor")
COURSE = HOME / "class"
TEMPLATE = Path("/template")


def main():
    job = json.load(sys.stdin)
    report = os.fdopen(os.dup(1), "w")
    os.set_inheritable(report.fileno(), False)
    with open(os.devnull, "r+") as nothing:
        for standard in (0, 1, 2):
            os.dup2(nothing.fileno(), standard)
    ctypes.CDLL(None).prctl(4, 0)  # PR_SET_DUMPABLE: nobody here may trace it or read its memory
    try:
        found = look(job["probe"]) if "probe" in job else grade(job)
    except Exception:
        found = {"error": traceback.format_exc()}
    json.dump(found, report)
    report.close()


def look(wanted):
    """What a harmless look around finds."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    written = []
    for folder in wanted["write"]:
        with contextlib.suppress(OSError):
            path = Path(folder) / "written-by-the-box"
            path.write_text("")
            written.append(folder)
    signalled = connected = False
    with contextlib.suppress(OSError):
        os.kill(wanted["pid"], 0)
        signalled = wanted["pid"] != 1
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", wanted["port"]), timeout=2):
        connected = True
    return {
        "pid": os.getpid(),
        "processes": processes(),
        "signalled": signalled,
        "capabilities": max(int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")),
        "uid": os.getuid(),
        "written": written,
        "interfaces": [name for _, name in socket.if_nameindex()],
        "connected": connected,
        "environment": sorted(set(os.environ) - {"PWD", "LC_CTYPE"}),
        "limits": [resource.getrlimit(what)[0] for what in (resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE)],
    }


def grade(job):
    """Grade the class and report on `job["attacker"]`."""
    shutil.copytree(TEMPLATE, COURSE)
    for path, content in job["plant"].items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(content)
    for student, work in job["hand_in"].items():
        hand_in(COURSE / "submitted" / student / job["lesson"], work)
    watched = [Path(path) for path in job["watched"]]
    before = [digest(path) for path in watched]
    reached = listen(job["port"], job["socket"])
    environment = {**job["environment"], "HOME": str(HOME), "PATH": f"{Path(sys.executable).parent}:/usr/bin"}
    start = time.monotonic()
    ended, log = nbgrader(["autograde", job["lesson"]], environment, job["seconds"])
    seconds = time.monotonic() - start
    time.sleep(0.5)
    survivors = processes()[1:] if ended else []
    names = [name_of(pid) for pid in survivors]
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    attacker = job["attacker"]
    pages = table = ""
    if job["feedback"]:
        nbgrader(["generate_feedback", job["lesson"], "--student", attacker], environment, 60)
        pages = "".join(path.read_text(errors="replace") for path in COURSE.glob(f"feedback/{attacker}/**/*.html"))
        nbgrader(["export"], environment, 60)
        table = (COURSE / "grades.csv").read_text() if (COURSE / "grades.csv").is_file() else ""
    return {
        "ended": ended,
        "log": log[-4000:],
        "seconds": seconds,
        "scores": scores(job["lesson"]),
        "outputs": outputs(COURSE / "autograded" / attacker / job["lesson"], job["tokens"]),
        "pages": pages,
        "table": table,
        "survivors": names,
        "reached": reached,
        "changed": [str(path) for path, was in zip(watched, before, strict=True) if digest(path) != was],
        "left": left(job["left"], attacker),
    }


def hand_in(folder, work):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in work["files"].items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name not in work["links"]:
            path.write_bytes(base64.b64decode(content))
    for name, target in work["links"].items():
        (folder / name).symlink_to(target)
    for name in work["pipes"]:
        os.mkfifo(folder / name)


def nbgrader(command, environment, seconds):
    """(whether it ended by itself, the end of what it said)."""
    log = Path("/tmp/nbgrader.log")
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "nbgrader", *command],
            cwd=COURSE,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        try:
            process.wait(seconds)
            ended = True
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            ended = False
    return ended, log.read_text(errors="replace") if log.exists() else ""


def processes():
    """The processes of the box that are alive, this one first."""
    alive = []
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                alive.append(pid)
    return alive


def name_of(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:100]
    return ""


def listen(port, name):
    """Note in the list that is returned whoever connects to two services of this box."""
    reached = []

    def serve(listener, what):
        while True:
            connection, _ = listener.accept()
            reached.append(what)
            connection.close()

    tcp = socket.create_server(("127.0.0.1", port))
    local = socket.socket(socket.AF_UNIX)
    local.bind(f"\0{name}")
    local.listen()
    for listener, what in ((tcp, "tcp"), (local, "abstract socket")):
        threading.Thread(target=serve, args=(listener, what), daemon=True).start()
    return reached


def digest(path):
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def scores(lesson):
    """The points of each student whose notebook was graded to the end, straight from the database."""
    query = """
        SELECT submitted_assignment.student_id,
               SUM(COALESCE(manual_score, auto_score, 0) + COALESCE(extra_credit, 0))
        FROM grade JOIN submitted_notebook ON grade.notebook_id = submitted_notebook.id
                   JOIN submitted_assignment ON submitted_notebook.assignment_id = submitted_assignment.id
        GROUP BY student_id"""
    try:
        with sqlite3.connect(f"file:{COURSE / 'gradebook.db'}?mode=ro", uri=True) as book:
            rows = dict(book.execute(query).fetchall())
    except sqlite3.Error:
        return {}
    return {who: score for who, score in rows.items() if (COURSE / "autograded" / who / lesson).is_dir()}


def outputs(folder, tokens):
    """Which of the tokens stand in what the learner gets back: the outputs of the graded notebooks."""
    found = set()
    for path in folder.glob("*.ipynb"):
        text = path.read_text(errors="replace")
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            text = json.dumps([cell.get("outputs") for cell in json.loads(text)["cells"]])
        found |= {name for name, token in tokens.items() if token in text}
    return sorted(found)


def left(mark, attacker):
    """Files that the attack left outside its own folders."""
    found = []
    for root in ("/tmp", "/home", "/dev/shm"):
        for folder, _, names in os.walk(root):
            mine = f"/{attacker}" in folder
            found += [os.path.join(folder, name) for name in names if mark in name and not mine]
    return sorted(found)[:5]


if __name__ == "__main__":
    main()
