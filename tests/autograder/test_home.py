"""The learner's progress: what the journal's rows come to, how it is shown, taken along and deleted."""

from __future__ import annotations

import csv
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from autograder import exercises, home
from autograder.exercise import CourseError, Exercise
from autograder.home import forms, gather, page
from course_lib.journal import Check, Commitment, History, Journal, Scored
from course_lib.predictions import PREDICTIONS

ROOT = Path(__file__).resolve().parents[2]
LESSONS = ROOT / "lessons"
LESSON = "08_dropout"
ID, SECOND = "dropout.inverted_dropout", "dropout.classic_dropout"
EMPTY = History({}, {}, ())


def checked(exercise=ID, score=0.0, passed=False, misconception="", at="2026-11-20T10:00:00+00:00", times=1):
    return Check(exercise, score, 3.0, passed, misconception, f"About {misconception}.", at, at, times)


def lesson(*checks, name=LESSON, **predicted):
    return next(
        one
        for one in gather(History(**{"commitments": {}, "scores": {}, "checks": checks, **predicted}), LESSONS).lessons
        if one.name == name
    )


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("COURSE_PROGRESS", raising=False)
    return Journal(tmp_path / "data")


# ---------------------------------------------------------------- what the rows come to


def test_every_lesson_has_its_exercises_predictions_and_title():
    found = gather(EMPTY, LESSONS).lessons
    assert [one.name for one in found] == sorted({record.lesson for record in exercises.EXERCISES.values()})
    assert all(one.link and one.title != one.name and one.exercises and one.in_words for one in found)
    assert {p.id for one in found for p in one.predictions} == set(PREDICTIONS)


def test_the_best_score_counts_and_a_pass_stays_one():
    first = lesson(checked(score=2), checked(score=3, passed=True, times=2), checked(score=1)).exercises[0]
    assert (first.id, first.best, first.passed, first.tries) == (ID, 3, True, 4)


def test_a_misconception_is_mended_by_a_later_pass_of_the_same_exercise():
    rows = [
        checked(misconception="a"),
        checked(SECOND, 3, True),
        checked(misconception="b"),
        checked(misconception="a"),
    ]
    assert [(met.id, met.mended) for met in lesson(*rows).met] == [("a", False), ("b", False)]
    assert [met.mended for met in lesson(*rows, checked(score=3, passed=True)).met] == [True, True]
    again = [*rows, checked(score=3, passed=True), checked(misconception="b")]
    assert [(met.id, met.mended) for met in lesson(*again).met] == [("a", True), ("b", False)]


def test_predictions_with_and_without_a_score():
    asked = lesson(
        commitments={
            "scale_without_rescaling": Commitment(8.0, "", "2026-11-20T10:00:00+00:00"),
            "scaled_net_is_average": Commitment("linear", "", "2026-11-20T10:00:00+00:00"),
            "dropout_left_on_at_test": Commitment("of an earlier edition", "", "2026-11-20T10:00:00+00:00"),
        },
        scores={"scale_without_rescaling": Scored(0.5, "the right size", "2026-11-20T10:00:00+00:00")},
    ).predictions
    told = {one.id: (one.answer[:2], one.value) for one in asked}
    assert told["scale_without_rescaling"] == ("8 ", 0.5)
    assert told["scaled_net_is_average"] == ("b)", None)
    assert told["dropout_left_on_at_test"] == told["training_loss_above_validation"] == ("", None)


def test_next_is_the_first_unfinished_exercise_of_the_lesson_last_worked_on():
    first = gather(EMPTY, LESSONS).next
    assert first[0].name.startswith("01") and first[1] == first[0].exercises[0]
    found = gather(History({}, {}, (checked(score=3, passed=True),)), LESSONS).next
    assert (found[0].name, found[1].id) == (LESSON, SECOND)
    mine = [r for r in exercises.EXERCISES.values() if isinstance(r, Exercise)]
    done = [checked(r.id, 3, True) for r in mine if r.lesson == LESSON]
    assert gather(History({}, {}, tuple(done)), LESSONS).next == (first[0], first[1])
    assert gather(History({}, {}, tuple(checked(r.id, 3, True) for r in mine)), LESSONS).next is None


def test_links_lead_to_cells_that_are_there():
    for one in gather(EMPTY, LESSONS).lessons:
        cells = {cell["id"] for cell in json.loads((LESSONS / one.link).read_text("utf-8"))["cells"]}
        assert {exercise.link.partition("#cell-id=")[2] for exercise in one.exercises} <= cells


def test_without_the_lessons_there_are_no_links(tmp_path):
    found = gather(EMPTY, tmp_path).lessons
    assert all(one.link == "" and one.title == one.name for one in found)


def test_what_the_course_no_longer_has_is_passed_over():
    assert gather(History({}, {}, (checked("gone.away"),)), LESSONS) == gather(EMPTY, LESSONS)


# ---------------------------------------------------------------- the page


class Parts(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.links, self.open = "", [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.open += [tag] * (tag != "br")
        self.links += [value for name, value in attrs if name == "href"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def fill(journal: Journal) -> None:
    journal.commit("scale_without_rescaling", Commitment(8.0, "=2*4 <b>", "2026-11-20T10:00:00+00:00"))
    journal.note_score("scale_without_rescaling", 0.5, "the right size")
    journal.note_check(ID, 0, 3, False, "unscaled", "Not scaled <up>.")
    journal.note_check(ID, 3, 3, True)


def test_the_page_tells_the_same_in_html_and_in_words(own_folder):
    fill(own_folder)
    shown = home.progress(LESSONS)
    html = shown._repr_mimebundle_()["text/html"]
    parts = Parts(html.partition("</style>")[2])
    assert parts.open == []
    for text in (parts.text, str(shown)):
        assert "1 of 11 exercises" in text
        assert "3 of 32 points · 1 of 4 predictions made, scoring 0.5 of 1 · 1 misconception met, 1 mended" in text
        assert "Classic dropout" in text  # what is next
        assert str(own_folder.path) in text
        assert "Checks are not noted here" in text
    assert "Not scaled <up>." in parts.text
    assert "you predicted 8 ×: 0.5 of 1, the right size" in parts.text
    assert f"{LESSON}/{LESSON}.ipynb#cell-id=dropout-classic_dropout-solution" in parts.links
    assert not any("://" in link for link in parts.links)


def test_where_checks_are_noted_the_page_does_not_say_how_to_switch_it_on(monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", "on")
    assert "not noted" not in str(home.progress(LESSONS))


def test_a_damaged_journal_is_one_line_on_the_page(own_folder):
    own_folder.path.parent.mkdir()
    own_folder.path.write_bytes(b"no database at all" * 100)
    shown = home.progress(LESSONS)
    assert "Your progress can't be shown" in str(shown)
    assert "Your progress can't be shown" in Parts(shown.html()).text


def test_all_done_is_said(own_folder, monkeypatch):
    monkeypatch.setattr(page, "gather", lambda history, folder: home.Progress(()))
    assert "Next" not in str(home.progress(LESSONS))
    mine = [r for r in exercises.EXERCISES.values() if isinstance(r, Exercise)]
    done = gather(History({}, {}, tuple(checked(r.id, 3, True) for r in mine)), LESSONS)
    shown = home.Page(done, own_folder.path, noting=True)
    assert "Every exercise passes." in str(shown) and "Every exercise passes." in shown.html()


# ---------------------------------------------------------------- taking it along, deleting it


def test_everything_is_exported(own_folder, tmp_path):
    fill(own_folder)
    data = json.loads(home.export(tmp_path / "mine.json").read_text("utf-8"))
    assert data["predictions"]["scale_without_rescaling"]["reason"] == "=2*4 <b>"
    assert data["predictions"]["scale_without_rescaling"]["score"]["value"] == 0.5
    assert [check["misconception"] for check in data["checks"]] == ["unscaled", ""]
    with home.export(tmp_path / "mine.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == ["prediction", "check", "check"]
    assert rows[0]["words"] == "'=2*4 <b>"  # no formula to a spreadsheet
    assert (rows[1]["id"], rows[1]["misconception"], rows[2]["score"], rows[2]["of"]) == (ID, "unscaled", "3.0", "3.0")


@pytest.mark.parametrize("name", ["mine.txt", "mine", "nowhere/mine.json"])
def test_what_can_not_be_written_is_one_line(tmp_path, name):
    with pytest.raises(CourseError) as error:
        home.export(tmp_path / name)
    assert "\n" not in str(error.value)


def test_the_buttons_export_and_delete_at_the_second_press(own_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(own_folder)
    buttons, status = home.controls().form().children
    as_json, as_csv, remove = buttons.children
    as_json.click()
    as_csv.click()
    assert "my-progress.csv" in status.value
    assert (tmp_path / "my-progress.json").is_file() and (tmp_path / "my-progress.csv").is_file()
    remove.click()
    assert own_folder.path.exists() and "Press again" in status.value
    as_json.click()  # something else between the two presses: not meant any more
    remove.click()
    assert own_folder.path.exists()
    remove.click()
    assert not own_folder.path.exists() and "Deleted" in status.value
    remove.click()
    remove.click()
    assert "nothing to delete" in status.value


def test_without_ipywidgets_the_calls_are_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    bundle = home.controls()._repr_mimebundle_()
    assert bundle == {"text/plain": forms.BY_CODE}
