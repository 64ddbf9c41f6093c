"""`python -m course_lib.bench`, in the checkout: docs/benchmarks.md made anew from the results in docs/benchmarks."""

from pathlib import Path

from course_lib.bench.page import refresh

for path in sorted(Path("docs/benchmarks").glob("*.json")):
    refresh(Path("docs/benchmarks.md"), path)
