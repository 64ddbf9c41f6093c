"""Walls around code that strangers wrote, made of what Linux has: no other program, and no root, is needed.

Either every wall stands, or SandboxError says which one does not and what to do about it.
"""

from .box import order, start
from .channel import MAX_PACKET, pair, receive, send, unpack
from .view import View, enter, environment
from .walls import SandboxError, Walls

__all__ = [
    "MAX_PACKET",
    "SandboxError",
    "View",
    "Walls",
    "enter",
    "environment",
    "order",
    "pair",
    "receive",
    "send",
    "start",
    "unpack",
]
