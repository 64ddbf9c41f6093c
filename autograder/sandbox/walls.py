"""How much a kernel may use, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass

from autograder.exercise import CourseError

__all__ = ["LIBRARIES", "SandboxError", "Walls"]

LIBRARIES = 640 * 2**20  # bytes that torch and Keras hold once imported: a kernel that starts cold gets them on top


class SandboxError(CourseError):
    """A guarantee of the sandbox does not hold here: `what` names it, `remedy` says what to do."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}: {remedy}" if remedy else what)
        self.what, self.remedy = what, remedy

    @property
    def packet(self) -> dict[str, str]:
        return {"error": self.what, "remedy": self.remedy}


@dataclass(frozen=True)
class Walls:
    """What all processes of one kernel may use together, in bytes and seconds, unless a comment says otherwise.

    `memory` comes on top of what the course's libraries hold. Files in the work folder and in /dev/shm are in
    memory too: what a kernel can take is at most memory + work_bytes + shm_bytes.
    """

    memory: int = 2 * 2**30
    work_bytes: int = 256 * 2**20
    shm_bytes: int = 256 * 2**20
    files: int = 20_000  # names in the work folder
    processes: int = 256  # threads count
    open_files: int = 1024  # of one process
    file_bytes: int = 512 * 2**20  # of one file; torch.compile fails with 64 MB
    cpu_seconds: float = 600
    wall_seconds: float = 900
    output_bytes: int = 32_000_000  # one message; what the kernel sends in all is the grader's to count

    @property
    def too_much_memory(self) -> str:
        """Why a kernel ended that took too much."""
        return f"it used more than {self.memory / 1e9:.3g} GB of memory"
