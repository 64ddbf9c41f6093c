"""Which other packages ship exercises, found without importing any of them.

A package says so by an entry point of the group `training_deep_nets.exercises` that names a sequence of records. Such
a package is the instructor's own choice and is trusted like the course: it runs where answers are judged, never in a
learner's graded kernel.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec

__all__ = ["GROUP", "folders", "plugins", "title", "versions"]

GROUP = "training_deep_nets.exercises"


def plugins() -> tuple[EntryPoint, ...]:
    """The entry points of all packages that ship exercises, by name."""
    return tuple(sorted(entry_points(group=GROUP), key=lambda entry: (entry.value, entry.name)))


def title(entry: EntryPoint) -> str:
    """What messages call it: the package with its version, and what the entry point names."""
    return f"{entry.dist.name} {entry.dist.version} ({entry.value})" if entry.dist else entry.value


def versions() -> tuple[str, ...]:
    """Name and version of each package that ships exercises."""
    return tuple(dict.fromkeys(title(entry) for entry in plugins()))


def folders() -> tuple[str, ...]:
    """The folders of those packages: what a graded kernel must not see, since right answers stand there."""
    found: list[str] = []
    for entry in plugins():
        try:
            spec = find_spec(entry.module.partition(".")[0])
        except (ImportError, ValueError):  # it is broken, and says so where it is loaded
            continue
        found += (spec.submodule_search_locations or []) if spec else []
    return tuple(dict.fromkeys(found))
