"""A learner's own journal: what was predicted, what was checked, kept in one SQLite file on the learner's machine.

Nothing in it is ever sent anywhere. Whoever writes to it does so by a `Journal`, and only where `noting()` or
`keeping()` allows it: a notebook that a program runs, a grader above all, must leave no trace in the journal of
the person whose machine that is.
"""

from course_lib.journal.database import FILE, JournalError
from course_lib.journal.journal import Check, Commitment, History, Journal, Scored
from course_lib.journal.place import SWITCH, data_dir, keeping, noting, on

__all__ = [
    "FILE",
    "SWITCH",
    "Check",
    "Commitment",
    "History",
    "Journal",
    "JournalError",
    "Scored",
    "data_dir",
    "keeping",
    "noting",
    "on",
]
