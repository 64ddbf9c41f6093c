"""The library against the frameworks' own: how long each operation takes, both measured in one run.

`run()` measures and returns plain data, `table(results)` shows it as Markdown. Behind `course bench`.
"""

from course_lib.bench.operations import OPERATIONS
from course_lib.bench.page import part, refresh, refreshed
from course_lib.bench.report import run, save, select, table
from course_lib.bench.timing import Arms, Operation, Timing, copy_bandwidth, measure

__all__ = [
    "OPERATIONS",
    "Arms",
    "Operation",
    "Timing",
    "copy_bandwidth",
    "measure",
    "part",
    "refresh",
    "refreshed",
    "run",
    "save",
    "select",
    "table",
]
