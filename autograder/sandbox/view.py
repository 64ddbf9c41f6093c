"""What can be seen in the sandbox: a root folder of its own, with the little that a kernel needs, read-only.

`enter` puts the calling process there for good, as nobody in particular: an unprivileged user outside, with
capabilities over nothing but its own namespaces. Kernels are forked from that process.
"""

from __future__ import annotations

import ctypes
import errno
import importlib.util
import os
import site
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from autograder.plugins import folders

from . import system
from .walls import SandboxError

__all__ = ["HOME", "USER", "View", "enter", "environment", "map_user", "mount_private"]

HOME, USER = "/home/learner", 1000  # inside
_OUTSIDE = 65534  # who root becomes
_NOSUID, _NODEV, _NOEXEC, _READ_ONLY, _BIND, _RECURSIVE = 2, 4, 8, 1, 4096, 16384
_PRIVATE, _DETACH = 1 << 18, 2
_MOUNT_SETATTR, _AT_RECURSIVE = 442, 0x8000
_SYS_ADMIN = 1 << 21

_SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"),
    *("/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts"),
)
_DEVICES = ("null", "full", "random", "urandom")  # /dev/zero, mapped as shared, would be memory that nobody counts
_LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
    "/dev/ptmx": "pts/ptmx",
    "/tmp": HOME,
    "/var/tmp": HOME,
}
_WRITTEN = {
    "/etc/passwd": f"root:x:0:0:root:/:/bin/sh\nlearner:x:{USER}:{USER}:learner:{HOME}:/bin/sh\n".encode(),
    "/etc/group": f"root:x:0:\nlearner:x:{USER}:\n".encode(),
    "/etc/hosts": b"127.0.0.1 localhost\n::1 localhost\n",
    "/etc/nsswitch.conf": b"passwd: files\ngroup: files\nhosts: files\n",
}
_QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "CUDA_VISIBLE_DEVICES": "-1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}


@dataclass(frozen=True)
class View:
    """What is shown beside the system's own files. Paths are the same inside and outside.

    shown      folders and files, read-only, by their real paths
    links      (path, real path) where a shown one is known by another name
    hidden     folders that would be seen with a shown one, and are empty instead, but for what is shown in them
    written    (path, content) of files that stand in for others: put them in a hidden folder
    """

    shown: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    hidden: tuple[str, ...]
    written: tuple[tuple[str, bytes], ...]

    @classmethod
    def of_course(cls) -> View:
        """The interpreter and its libraries, `course_lib`, and the stand-in for `autograder`."""
        library, grader = _package("course_lib"), _package("autograder")
        shown = [*_SYSTEM, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, sys.prefix, *library]
        if site.ENABLE_USER_SITE and os.path.isdir(user_site := site.getusersitepackages()):
            shown.append(user_site)
        shown += [path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")]  # by .pth
        hidden, written = [], []
        for folder in grader:  # only what learners import, so that nothing here tells how answers are judged
            inside = sorted(Path(folder, "inside").rglob("*.py"))
            files = {str(Path(folder, path.relative_to(Path(folder, "inside")))): path for path in inside}
            real = [Path(folder, "exercise.py"), *sorted(Path(folder, "probe").glob("*.py"))]
            files |= {str(path): path for path in real}
            written += [(name, path.read_bytes()) for name, path in files.items()]
            hidden.append(folder)
        hidden += folders()  # of other packages' exercises
        hidden += [str(Path(folder).parent) for folder in (*library, *grader) if not _installed(folder)]
        shown = [path for path in dict.fromkeys(shown) if os.path.exists(path)]
        return cls(
            shown=tuple(dict.fromkeys(os.path.realpath(path) for path in shown)),
            links=tuple((path, os.path.realpath(path)) for path in shown if path != os.path.realpath(path)),
            hidden=tuple(folder for folder in dict.fromkeys(hidden) if folder != "/"),
            written=tuple(written),
        )


def _package(name: str) -> list[str]:
    """The folder of a package, as Python will look for it, without importing it."""
    spec = importlib.util.find_spec(name)
    return [os.path.abspath(path) for path in (spec.submodule_search_locations or [])] if spec else []


def _installed(folder: str) -> bool:
    return str(Path(folder).parent) in (*site.getsitepackages(), site.getusersitepackages())


def environment() -> dict[str, str]:
    """All that a kernel finds in its environment. Packages of a checkout are found by PYTHONPATH."""
    packages = [*_package("autograder"), *_package("course_lib")]
    checkouts = dict.fromkeys(str(Path(folder).parent) for folder in packages if not _installed(folder))
    own = {
        "HOME": HOME,
        "TMPDIR": HOME,
        "USER": "learner",
        "PATH": f"{os.path.dirname(sys.executable)}:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "TZ": os.environ.get("TZ", "UTC"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(checkouts),
        "PYTHONUSERBASE": site.getuserbase() if site.ENABLE_USER_SITE else HOME,
    }
    return {**own, **_QUIET}


def enter(view: View) -> None:
    """Move this process into the view, for good. Raises SandboxError where this system does not allow it."""
    if not sys.platform.startswith("linux"):
        raise SandboxError(f"kernels can't be walled in on {sys.platform}", "grade on Linux")
    remedy = _remedy()
    try:
        os.umask(0o022)
        root = os.geteuid() == 0 and _has_user(_OUTSIDE)  # not the root of a user namespace with nobody else in it
        if root and not system.capabilities() & _SYS_ADMIN:  # in a container that gives its root nothing
            _become(_OUTSIDE)
            root = False
        if root:
            system.unshare(system.NEW_NS)
        else:
            user, group = os.geteuid(), os.getegid()
            system.unshare(system.NEW_USER | system.NEW_NS)
            map_user(user, group)
        _build(view, _OUTSIDE if root else USER)
        if root:
            _become(_OUTSIDE)
            system.unshare(system.NEW_USER | system.NEW_NS)
            map_user(_OUTSIDE, _OUTSIDE)
        system.unshare(system.NEW_NET | system.NEW_IPC | system.NEW_UTS)
        os.chdir(HOME)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            remedy = "grade on Linux 5.12 or newer"
        raise SandboxError(f"kernels can't be kept from this machine's files ({error})", remedy) from error


def _has_user(user: int) -> bool:
    lines = Path("/proc/self/uid_map").read_text().splitlines()
    return any(int(first) <= user < int(first) + int(count) for first, _, count in map(str.split, lines))


def _become(user: int) -> None:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    system.dumpable(True)  # else its own /proc/self/uid_map is closed to it


def map_user(user: int, group: int) -> None:
    """In a new user namespace: be USER inside, `user` outside, and nobody else."""
    system.dumpable(True)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{USER} {user} 1"), ("gid_map", f"{USER} {group} 1")):
        Path(f"/proc/self/{name}").write_text(text)


def _remedy() -> str:
    """What lets this user make user namespaces."""
    kernel = Path("/proc/sys")
    for switch, bad, good in (
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),  # Ubuntu 24.04
        ("kernel/unprivileged_userns_clone", "0", "1"),  # Debian before 11
        ("user/max_user_namespaces", "0", "10000"),
    ):
        with suppress(OSError):
            if (kernel / switch).read_text().strip() == bad:
                return f"allow user namespaces by `sudo sysctl -w {switch.replace('/', '.')}={good}`"
    docker = "--security-opt seccomp=unconfined --security-opt apparmor=unconfined"
    return f"allow this user to make user namespaces (in Docker: run with {docker})"


def mount_private(kind: str, target: str, options: str, *, run: bool = False) -> None:
    """A new file system, of which nobody else knows. Programs and libraries in it can be run only if `run`."""
    devices = 0 if kind == "devpts" else _NODEV
    system.mount(kind, target, kind, _NOSUID | devices | (0 if run else _NOEXEC), options)


# ---------------------------------------------------------------- the root folder


def _build(view: View, owner: int) -> None:
    """Make the root folder and pivot into it: first to a scratch folder from where both roots can be seen."""
    system.mount("none", "/", flags=_PRIVATE | _RECURSIVE)
    scratch = next((folder for folder in ("/tmp", "/mnt", "/media") if os.path.isdir(folder)), None)
    if scratch is None:
        raise SandboxError("there is no folder to build a sandbox in", "make /tmp")
    system.mount("tmpfs", scratch, "tmpfs", _NOSUID | _NODEV, "mode=0755,size=1m")
    os.chdir(scratch)
    os.mkdir("new")
    os.mkdir("old")
    system.mount("tmpfs", f"{scratch}/new", "tmpfs", _NOSUID | _NODEV, "mode=0755,size=16m,nr_inodes=4096")
    system.pivot_root(".", "old")
    os.chdir("/new")
    _furnish(Path("/new"), Path("/old"), view)
    for folder in ("proc", HOME[1:], "dev/shm", "dev/pts"):
        os.makedirs(folder, exist_ok=True)
    system.mount("/old/proc", "/new/proc", flags=_BIND | _RECURSIVE)  # until a kernel gets its own
    mount_private("tmpfs", f"/new{HOME}", f"mode=0700,uid={owner},gid={owner},size=256m", run=True)
    mount_private("tmpfs", "/new/dev/shm", f"mode=1777,uid={owner},gid={owner},size=64m")
    _lock("/new", recursive=False)
    system.pivot_root(".", ".")  # the old root is now stacked on the new one
    system.umount(".", _DETACH)
    os.chdir("/")


def _furnish(new: Path, old: Path, view: View) -> None:
    plan = [(path, True) for path in view.shown] + [(path, False) for path in view.hidden]
    done: dict[str, bool] = {}  # outer folders come first
    for path, show in sorted(plan, key=lambda item: item[0].count("/")):
        around = max(
            (folder for folder in done if path.startswith(f"{folder}/") or path == folder), key=len, default=""
        )
        if not show:
            os.makedirs(f"{new}{path}", exist_ok=True)
            mount_private("tmpfs", f"{new}{path}", "mode=0755,size=4m,nr_inodes=1024")
        elif not done.get(around, False):
            _bind(f"{old}{path}", f"{new}{path}")
        done[path] = show
    for name, data in (*view.written, *_WRITTEN.items()):
        _write(new, name, data)
    for device in _DEVICES:
        _bind(f"{old}/dev/{device}", f"{new}/dev/{device}", device=True)
    for path, target in (*view.links, *_LINKS.items()):
        if not os.path.lexists(f"{new}{path}"):
            os.makedirs(os.path.dirname(f"{new}{path}"), exist_ok=True)
            os.symlink(target, f"{new}{path}")
    for folder in view.hidden:
        _lock(f"{new}{folder}", recursive=False)


def _bind(source: str, target: str, *, device: bool = False) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        Path(target).touch()
    system.mount(source, target, flags=_BIND | _RECURSIVE)
    _lock(target, recursive=True, device=device)


def _lock(target: str, *, recursive: bool, device: bool = False) -> None:
    """Make a mount read-only, without set-user-id programs; and without devices, unless it is one."""
    flags = (0 if device else _READ_ONLY | _NODEV) | _NOSUID
    request = (ctypes.c_uint64 * 4)(flags, 0, 0, 0)
    how = ctypes.c_uint(_AT_RECURSIVE if recursive else 0)
    size = ctypes.c_size_t(ctypes.sizeof(request))
    system.syscall("mount_setattr", _MOUNT_SETATTR, ctypes.c_int(-100), target.encode(), how, request, size)


def _write(new: Path, name: str, data: bytes) -> None:
    path = Path(f"{new}{name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
