"""The evidence page holds every row, and the committed one is what the results give."""

from pathlib import Path

from course_lib import claims
from course_lib.claims.page import page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "evidence.md"


def test_every_row_of_the_ledger_is_on_the_page_once():
    lines = page().splitlines()
    for row in claims.LEDGER:
        assert sum(line.startswith(f"| {row.id} |") for line in lines) == 1


def test_a_settled_row_shows_its_verdict_and_its_figures_and_an_unsettled_one_says_so():
    lines = {line.split("|")[1].strip(): line for line in page().splitlines() if line.startswith("| ")}
    for row in claims.ledger_rows():
        if row["verdict"]:
            assert f"**{row['verdict']}**" in lines[row["id"]] and row["headline"] in lines[row["id"]]
        else:
            assert "| unsettled |" in lines[row["id"]]


def test_every_line_of_a_table_has_its_four_cells():
    for line in page().splitlines():
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") == 5


def test_the_committed_page_is_what_the_results_give():
    assert PAGE.read_text("utf-8").strip() == page(), "python -m course_lib.claims > docs/evidence.md"
