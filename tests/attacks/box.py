"""A disposable box for stock nbgrader, since it has no walls of its own: bubblewrap, probed before anything hostile runs.

Namespaces of its own (mounts, processes, network with a loopback interface only, IPC, host name; users where the
caller is not root), nobody's uid without capabilities, files read-only but for small tmpfs, and limits on memory,
processes, file sizes, CPU and wall time. What runs first in it, `inside.py`, is process 1 there: no attack can signal
it, and when it ends the kernel kills whatever is left.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["BoxError", "probe", "run"]

INSIDE = Path(__file__).with_name("inside.py")
UID = 61_000  # nobody's: limits on processes count by user
MB = 2**20
ROOM = {"/tmp": 300 * MB, "/home": 700 * MB, "/dev/shm": 64 * MB}
LIMITS = {
    resource.RLIMIT_DATA: 4096 * MB,
    resource.RLIMIT_FSIZE: 512 * MB,
    resource.RLIMIT_NPROC: 300,
    resource.RLIMIT_NOFILE: 4096,
    resource.RLIMIT_CPU: 200,
    resource.RLIMIT_CORE: 0,
}


class BoxError(Exception):
    """There is no box, or it leaks: nothing hostile may run."""


def run(job: Mapping[str, Any], template: Path, *, seconds: float = 300) -> dict[str, Any]:
    """What `inside.py` reports on `job`, with `template` read-only at /template; {} where it was stopped."""
    process = subprocess.Popen(
        _command(template),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=_limit,
        start_new_session=True,
    )
    try:
        out, error = process.communicate(json.dumps(dict(job)).encode(), timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()  # bubblewrap dies, so process 1 of the box dies, so everything in it dies
        process.communicate()
        return {}
    if process.returncode:
        raise BoxError(f"the box ended with {process.returncode}: {error.decode(errors='replace')[-500:]}")
    report = json.loads(out)
    if "error" in report:
        raise BoxError(f"the box could not do its job: {report['error']}")
    return report


def probe(template: Path) -> dict[str, Any]:
    """What a harmless look from the inside finds. Raises BoxError where a wall is missing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        job = {"probe": {"pid": os.getpid(), "port": listener.getsockname()[1], "write": _outside()}}
        found = run(job, template, seconds=30)
    walls = {
        "it is process 1": found.get("pid") == 1,
        "it sees no other process": found.get("processes") == [1],
        "it can't signal the host's processes": not found.get("signalled"),
        "it has no capability": found.get("capabilities") == 0,
        "it is not root": found.get("uid") == UID,
        "it can't write outside its tmpfs": found.get("written") == [],
        "it has the loopback interface only": found.get("interfaces") == ["lo"],
        "it can't reach the host's loopback": not found.get("connected"),
        "its environment is empty": found.get("environment") == [],
        "its limits hold": found.get("limits") == [LIMITS[resource.RLIMIT_NPROC], LIMITS[resource.RLIMIT_FSIZE]],
    }
    missing = [wall for wall, stands in walls.items() if not stands]
    if missing:
        raise BoxError(f"the box is not safe, since these do not hold: {'; '.join(missing)}")
    return found


def _outside() -> list[str]:
    return ["/", "/usr", "/usr/bin", "/etc", "/proc/sys/kernel", "/template", sys.prefix, str(INSIDE.parent), "/root"]


def _limit() -> None:
    for what, most in LIMITS.items():
        resource.setrlimit(what, (most, most))


def _command(template: Path) -> list[str]:
    if not (bwrap := shutil.which("bwrap")):
        raise BoxError("bubblewrap is missing: apt-get install bubblewrap")
    visible = [Path("/usr"), Path(sys.prefix), Path(sys.base_prefix), INSIDE]
    binds = [("--ro-bind", str(path), str(path)) for path in visible]
    binds += [("--ro-bind-try", path, path) for path in ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")]
    binds += [("--ro-bind", str(template), "/template")]
    folders = sorted({str(parent) for path in visible for parent in path.parents if len(parent.parts) > 1})
    options = [
        *("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--hostname", "box"),
        *("--die-with-parent", "--as-pid-1", "--new-session", "--clearenv"),
        *("--proc", "/proc", "--dev", "/dev"),
        *(
            option
            for folder, size in ROOM.items()
            for option in ("--perms", "1777", "--size", str(size), "--tmpfs", folder)
        ),
        *(option for folder in folders if folder != "/usr" for option in ("--perms", "0755", "--dir", folder)),
        *(option for bind in binds for option in bind),
        *(option for link in ("bin", "lib", "lib64", "sbin") for option in ("--symlink", f"usr/{link}", f"/{link}")),
    ]
    start = [sys.executable, "-I", str(INSIDE)]
    if os.geteuid() == 0:
        drop = ["--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
        start = ["setpriv", f"--reuid={UID}", f"--regid={UID}", *drop, "--", *start]
        options += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"]
    else:
        options += ["--unshare-user", "--disable-userns", "--uid", str(UID), "--gid", str(UID)]
    return [bwrap, *options, "--", *start]
