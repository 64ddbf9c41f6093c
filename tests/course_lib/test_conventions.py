"""The table of traps: ids, and that the committed page says what the installed frameworks say."""

from pathlib import Path

import pytest

from course_lib import conventions

PAGE = Path(__file__).resolve().parents[2] / "docs" / "traps.md"


def test_every_convention_has_a_topic_a_question_and_a_trap():
    for name, convention in conventions.CONVENTIONS.items():
        assert name == convention.id and "." in name
        assert convention.what and convention.trap.endswith(".")


def test_an_unknown_convention_is_refused_by_name():
    with pytest.raises(KeyError, match="no convention is called 'nothing'"):
        conventions.get("nothing")


def test_a_cell_never_breaks_the_table():
    for convention in conventions.CONVENTIONS.values():
        assert "|" not in convention.what + convention.trap and "\n" not in convention.what + convention.trap


@pytest.mark.slow
def test_the_committed_page_is_what_the_installed_versions_give():
    again = "python -m course_lib.conventions > docs/traps.md"
    assert PAGE.read_text("utf-8").strip() == conventions.page().strip(), again
