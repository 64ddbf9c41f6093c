"""The page and the badge of the runs with the newest versions."""

from xml.etree import ElementTree

import dates
import pytest

RED = dates.Run(
    "2026-03-02", "quick", False, "1 failed, 9 passed", 61.0, "3.11.7", {"numpy": "2.9", "torch": "2.13.0+cpu"}
)
GREEN = dates.Run("2026-03-01", "whole", True, "10 passed", 60.4, "3.11.7", {"numpy": "2.8"}, ("torch==2.13.0",))


def test_the_page_tells_the_newest_run_and_the_days_before():
    page = dates.page([GREEN, RED], {"numpy": "2.8", "torch": "2.13.0"})
    assert "On 2026-03-02 (Python 3.11.7): **red**, 1 failed, 9 passed." in page
    assert "| numpy | 2.8 | 2.9 | newer |" in page
    assert "| torch | 2.13.0 | 2.13.0+cpu |  |" in page, "a build tag makes no newer version"
    assert page.index("| 2026-03-02 |") < page.index("| 2026-03-01 | whole | green, 10 passed | 60 |")


def test_before_the_first_run_the_page_says_how_to_make_one():
    assert "`make dates`" in dates.page([], {})


def test_what_was_held_is_said():
    assert "with torch==2.13.0 held): green" in dates.page([GREEN], {})


@pytest.mark.parametrize(("runs", "text"), [([GREEN, RED], "2026-03-01"), ([RED], "never"), ([], "never")])
def test_the_badge_names_the_last_green_day(runs, text):
    svg = ElementTree.fromstring(dates.badge(runs))
    assert svg.get("aria-label") == f"last green: {text}"


def test_every_package_that_is_asked_for_is_looked_at():
    found = dates.packages()
    assert {"torch", "nbgrader", "psycopg", "ruff"} <= set(found)
    assert "training-deep-nets" not in found
    assert set(found) <= set(dates.locked())


def test_the_quick_part_names_tests_that_are_there():
    assert all((dates.ROOT / path).is_file() for path in dates.QUICK)


def test_runs_are_kept_as_they_were(tmp_path, monkeypatch):
    monkeypatch.setattr(dates, "DOCS", tmp_path)
    dates.write([GREEN, RED])
    assert dates.load() == [GREEN, RED]
    assert (tmp_path / "last-green.svg").is_file() and (tmp_path / "dates.md").is_file()
