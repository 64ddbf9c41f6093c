"""`python -m course_lib.claims > docs/evidence.md`: the evidence page, from the results."""

from course_lib.claims.page import page

print(page())
