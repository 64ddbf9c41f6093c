"""Walls around code that strangers wrote, made of what Linux has: no other program, and no root, is needed.

Either every wall stands, or SandboxError says which one does not and what to do about it.
"""

from .box import order, start
from .cgroup import Cgroup, cgroup_of
from .channel import MAX_PACKET, pair, receive, send, unpack
from .survey import Guarantee, survey
from .view import View, enter, environment
from .walls import SandboxError, Walls
from .watch import how_ended

__all__ = [
    "MAX_PACKET",
    "Cgroup",
    "Guarantee",
    "SandboxError",
    "View",
    "Walls",
    "cgroup_of",
    "enter",
    "environment",
    "how_ended",
    "order",
    "pair",
    "receive",
    "send",
    "start",
    "survey",
    "unpack",
]
