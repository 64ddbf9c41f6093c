"""The wire between a grader and the keeper of a box: small JSON packets, with descriptors beside them."""

from __future__ import annotations

import array
import json
import socket
from collections.abc import Sequence
from typing import Any

__all__ = ["MAX_PACKET", "pair", "receive", "send", "unpack"]

MAX_PACKET = 65_536
MAX_DESCRIPTORS = 16


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends. Packets arrive whole; the end of a process ends its side."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, packet: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    end.sendmsg([json.dumps(packet).encode()], extra, socket.MSG_NOSIGNAL)


def receive(end: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next packet and its descriptors. Raises EOFError when the other end is gone."""
    room = socket.CMSG_LEN(MAX_DESCRIPTORS * array.array("i").itemsize)
    data, extra, _, _ = end.recvmsg(MAX_PACKET, room, socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, values in extra:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(values[: len(values) - len(values) % descriptors.itemsize])
    return unpack(data), list(descriptors)


def unpack(data: bytes) -> dict[str, Any]:
    """The packet in `data`; EOFError for none. What is not a packet reads as an empty one."""
    if not data:
        raise EOFError
    try:
        packet = json.loads(data)
    except ValueError:
        return {}
    return packet if isinstance(packet, dict) else {}
