"""`python -m course_lib.conventions > docs/traps.md`: the table of traps, read from the installed versions."""

from course_lib.conventions import page

print(page())
