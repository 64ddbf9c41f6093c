"""System calls that a kernel may not make: a filter that it can never take off again.

The namespaces already keep a kernel to itself. This takes away what they don't cover (vsock and packet sockets,
io_uring, keys), ways out of the accounting (memory shared without a file), and parts of Linux that are large,
seldom needed, and where most holes were found.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import socket
import struct

from . import system
from .walls import SandboxError

__all__ = ["apply"]

_ARCHITECTURES = {"x86_64": (0, 0xC000003E, 317), "aarch64": (1, 0xC00000B7, 277)}  # column, audit name, seccomp(2)

_REFUSED = {  # name: (number on x86_64, on aarch64)
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "shmget": (29, 194), "shmat": (30, 196),
    "shmctl": (31, 195), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "acct": (163, 89), "swapon": (167, 224),
    "swapoff": (168, 225), "reboot": (169, 142), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "clock_adjtime": (305, 266), "adjtimex": (159, 171), "iopl": (172, None), "ioperm": (173, None),
    "modify_ldt": (154, None), "uselib": (134, None), "ustat": (136, None), "sysfs": (139, None),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "syslog": (103, 116), "vhangup": (153, 58),
    "fanotify_init": (300, 262), "lookup_dcookie": (212, 18), "move_pages": (279, 239), "migrate_pages": (256, 238),
    "personality": (135, 92), "sethostname": (170, 161), "setdomainname": (171, 162),
}  # fmt: skip
_UNKNOWN = {  # refused as if this Linux did not have them, so that libraries fall back on something older
    "clone3": (435, 435), "memfd_create": (319, 279), "memfd_secret": (447, 447), "io_setup": (206, 0),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
}  # fmt: skip
_SOCKET, _SOCKETPAIR, _CLONE, _MMAP, _PRCTL, _IOCTL = (41, 198), (53, 199), (56, 220), (9, 222), (157, 167), (16, 29)
_X32 = 0x40000000
_NEW_NAMESPACES = 0x7E020000  # any CLONE_NEW* flag
_SHARED_ANONYMOUS = 0x21
_PR_SET_DUMPABLE, _PR_SET_MM, _TIOCSTI, _TIOCLINUX = 4, 35, 0x5412, 0x541C

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16


def apply() -> None:
    """Put the filter on this process and all that it starts. Raises SandboxError where it can't be."""
    machine = _ARCHITECTURES.get(platform.machine())
    if machine is None:
        raise SandboxError(f"system calls can't be filtered on {platform.machine()}", "grade on x86_64 or aarch64")
    program = _program(*machine[:2])
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer)))
    try:
        system.syscall("seccomp", machine[2], ctypes.c_uint(1), ctypes.c_uint(0), head)
    except OSError as error:
        remedy = "grade on a Linux that is built with CONFIG_SECCOMP_FILTER"
        raise SandboxError(f"system calls can't be filtered ({error})", remedy) from error


def _program(column: int, audit: int) -> list[tuple[int, int, int, int]]:
    """The filter's instructions (code, jump if true, jump if false, constant)."""
    lines = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, audit), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NUMBER)]
    if column == 0:
        lines += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]

    def refuse(calls: dict[str, tuple[int, int | None]], error: int) -> None:
        for number in (numbers[column] for numbers in calls.values()):
            if number is not None:
                lines.extend([(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | error)])

    def look_at(call: tuple[int, int], argument: int, tests: list[tuple[int, int, int, int]]) -> None:
        """For this call only: load the argument (its lower half), run the tests, allow what they let through."""
        body = [(_LOAD, 0, 0, _ARGUMENTS + 8 * argument), *tests, (_RETURN, 0, 0, _ALLOW)]
        lines.extend([(_EQUAL, 0, len(body), call[column]), *body])

    def no(error: int) -> tuple[int, int, int, int]:
        return (_RETURN, 0, 0, _ERRNO | error)

    refuse(_REFUSED, errno.EPERM)
    refuse(_UNKNOWN, errno.ENOSYS)
    for call in (_SOCKET, _SOCKETPAIR):
        look_at(call, 0, [(_EQUAL, 1, 0, socket.AF_UNIX), no(errno.EAFNOSUPPORT)])
    look_at(_CLONE, 0, [(_ANY_BIT, 0, 1, _NEW_NAMESPACES), no(errno.EPERM)])
    look_at(_MMAP, 3, [(_AND, 0, 0, _SHARED_ANONYMOUS), (_EQUAL, 0, 1, _SHARED_ANONYMOUS), no(errno.ENOMEM)])
    for call, argument, values in ((_PRCTL, 0, (_PR_SET_DUMPABLE, _PR_SET_MM)), (_IOCTL, 1, (_TIOCSTI, _TIOCLINUX))):
        tests = [line for value in values for line in ((_EQUAL, 0, 1, value), no(errno.EPERM))]
        look_at(call, argument, tests)
    return [*lines, (_RETURN, 0, 0, _ALLOW)]
