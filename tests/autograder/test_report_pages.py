"""The pages of a class and of its students: what they say, what they keep to themselves, what they escape."""

import re
from dataclasses import fields, replace

import pytest
from sample_class import (
    CLASS,
    CLASSIC,
    FULL,
    INVERTED,
    ITEMS,
    LESSON,
    MARKUP,
    UNSCALED,
    WHY,
    Page,
    a_class,
    answer,
    student,
)

from autograder import report
from autograder.exercise import CourseError
from autograder.report import (
    STATES,
    Change,
    ExerciseResult,
    Item,
    Part,
    StudentResult,
    anonymous,
    class_report,
    class_table,
    student_report,
    write_report,
    write_student_pages,
)
from autograder.report.leaderboard import leaderboard

BLANK_CLASS = a_class(
    student(f"s{i}", answer(INVERTED, 0, 3, "blank", "Not answered yet."), answer(CLASSIC, 0, 2, "blank"))
    for i in range(12)
)
# each text field of each record holds markup
HOSTILE_ANSWER = ExerciseResult(
    INVERTED, 1, 3, MARKUP, MARKUP, MARKUP, MARKUP, MARKUP, (Part(MARKUP, 1, 2, True),), MARKUP, MARKUP
)
HOSTILE = StudentResult(
    MARKUP,
    1,
    3,
    (HOSTILE_ANSWER, replace(HOSTILE_ANSWER, exercise=MARKUP)),
    (MARKUP,),
    (Change(MARKUP, MARKUP, "gain"), Change(MARKUP, MARKUP, "damage")),
    MARKUP,
    2.0,
    MARKUP,
    MARKUP,
    MARKUP,
    MARKUP,
)
HOSTILE_CLASS = replace(
    a_class((HOSTILE,), (Item(INVERTED, MARKUP, 3, (MARKUP,)), Item(MARKUP, MARKUP, 3))), lesson=MARKUP
)
SIZES = {
    "nobody": a_class(()),
    "one": a_class(CLASS.students[:1]),
    "blank": BLANK_CLASS,
    "four": CLASS,
    "hostile": HOSTILE_CLASS,
}


def pages_of(results):
    yield class_report(results, day=results.lesson, pages={one.student: "students/x.html" for one in results})
    yield class_report(anonymous(results))
    for one in results:
        yield student_report(results.lesson, one, results.items, day=results.lesson, median_share=0.5)


# ---------------------------------------------------------------- every page


@pytest.mark.parametrize("results", SIZES.values(), ids=SIZES)
def test_every_page_is_well_formed_and_stands_alone(results):
    for html in pages_of(results):
        page = Page(html)
        assert page.open == []
        assert len(page.ids) == len(set(page.ids))
        assert not re.search(r"https?:|url\((?!#)|@import|<(script|img|link|iframe|base|object)\b", html)
        assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in html
        assert "prefers-color-scheme:dark" in html and "@media print" in html
        links = [value for name, value in page.attributes if name == "href"]
        assert all(link == "students/x.html" or link.removeprefix("#") in page.ids for link in links)


@pytest.mark.parametrize("results", SIZES.values(), ids=SIZES)
def test_every_figure_has_a_title_and_is_told_in_words(results):
    for html in pages_of(results):
        for figure in re.findall(r'<svg viewBox.*?role="img".*?</svg>', html, re.DOTALL):
            (names,) = re.findall(r'aria-labelledby="([^"]+)"', figure)
            assert all(re.search(rf'id="{name}">[^<]{{3,}}<', figure) for name in names.split())


def test_no_text_field_of_a_record_brings_a_tag_or_an_attribute_into_a_page():
    for record in (HOSTILE, HOSTILE.exercises[1]):  # a new field must be hostile here too
        texts = {field.name for field in fields(record) if field.type in ("str", "str | None")}
        assert {name for name in texts if getattr(record, name) != MARKUP} == set()
    for html in pages_of(HOSTILE_CLASS):
        page = Page(html)
        assert not {"script", "img"} & set(page.tags)
        assert not [name for name, _ in page.attributes if name.startswith("on") or name == "src"]
        assert not [value for name, value in page.attributes if name == "style"]
    named, nameless, own = (Page(html) for html in pages_of(HOSTILE_CLASS))
    assert named.text.count("<script>alert(1)</script>") >= 12
    assert own.text.count("<script>alert(1)</script>") >= 8
    assert nameless.text.count("<script>") >= 3  # titles and misconceptions are the course's own


def test_a_long_text_is_cut():
    long = student(
        "ann", answer(INVERTED, 0, 3, "zero", "m" * 5000, "unscaled", answer="c = 1\n" * 500), set_aside="p" * 5000
    )
    html = class_report(a_class((long,)))
    assert "m" * 500 + "…" in html and "m" * 501 not in html and "p" * 501 not in html
    assert html.count("c = 1") == 60


# ---------------------------------------------------------------- the class's page


def test_the_facts_count_the_class():
    text = Page(class_report(CLASS)).text
    assert "4submissions" in text
    assert "30%of the points on average" in text  # (5 + 1 + 0 + 0) of 20
    assert "0.5of 5 points: median" in text
    assert "1with a problem" in text
    assert "4.0 smedian run" in text


def test_an_exercise_has_its_counts_its_difficulty_and_the_learners_behind_its_discrimination():
    page = Page(class_report(CLASS))
    inverted, classic = page.row("Inverted dropout"), page.row("Classic dropout")
    #                       points, mean, full, partial, zero, blank, no verdict, difficulty (1 of 3 who tried)
    assert inverted[2:] == ["3", "25%", "1", "–", "2", "1", "–", "hard", "not enough", "3"]
    assert classic[2:] == ["2", "50%", "1", "1", "1", "–", "1", "medium", "not enough", "3"]


def test_misconceptions_are_counted_with_one_learners_answer():
    html = class_report(CLASS)
    text = Page(html).text
    assert "unscaled Inverted dropout2 of 3 who triedNot scaled up.The answer of ben:def f(x):\n    return x" in text
    assert "dropped_at_test Classic dropout1 of 3 who tried" in text
    assert text.index("Not scaled up.") < text.index("Off at test.")
    assert "1 wrong answer was wrong in a way that the catalogue does not know" in text


def test_what_was_seen_once_is_folded_away():
    """Two were seen twice and thirteen once: ten are shown, five are a click away."""
    wrong = a_class(student(f"s{i:02}", answer(INVERTED, 0, 3, "zero", "m", f"mistake_{i % 15:02}")) for i in range(17))
    shown, folded = class_report(wrong).split("<details>")
    assert "<summary>5 more, each seen once</summary>" in folded
    assert [shown.count("mistake_00"), shown.count("mistake_09"), shown.count("mistake_10")] == [1, 1, 0]
    assert "<details" not in class_report(CLASS)


@pytest.mark.parametrize("score", [0, 0.1, 2.5, 5])
def test_the_histogram_survives_all_scores(score):
    html = class_report(a_class((student("a", answer(INVERTED, score, 5, "partial")),)))
    assert html.count('class="bar" x=') == 1


def test_the_figures_show_each_learner_once():
    html = class_report(CLASS)
    assert "0 to 10%: 2, 20 to 30%: 1, 90 to 100%: 1" in html
    assert "Inverted dropout: 1 all points, 2 none, 1 left blank" in html
    assert "3 runs, from 2.0 to 30.0 s, median 4.0 s." in html


def test_points_that_wait_for_a_person_are_left_out_of_the_share():
    waiting = answer(WHY, 0, 4, "by hand")
    results = a_class(
        (student("ann", FULL, waiting), student("ben", FULL, answer(WHY, 0, 4, "blank"))), (*ITEMS, Item(WHY, "Why", 4))
    )
    page = Page(class_report(results))
    assert page.row("ann")[1:3] == ["3 of 7", "100%"]
    assert page.row("Why")[3] == "–"  # no mean yet: only the blank one has points
    assert "1waits for a person" in page.text


def test_what_was_set_aside_is_listed_with_the_reason():
    page = Page(class_report(a_class((student("ann", set_aside="It is no notebook."), CLASS.students[0]))))
    assert page.row("ann") == ["ann", "It is no notebook."]
    assert "every file that was handed in could be run" in Page(class_report(CLASS)).text


def test_changes_are_told_per_student_without_harmless_noise():
    changes = (
        Change("setup", "had lost its metadata", "damage"),
        *(Change(f"check of {name}", "its points were changed", "gain") for name in "ab"),
        Change("demonstration", "its text was changed", "noise"),
    )
    page = Page(
        class_report(a_class((student("ann", FULL, changes=changes), student("ben", FULL, changes=changes[3:]))))
    )
    told = "check of a and 1 more: its points were changed" + "setup: had lost its metadata"
    assert ["ann", told, "yes"] in page.rows
    assert sum(row[0] == "ben" for row in page.rows) == 1  # in the table of students alone
    assert "2 changed cells that are only shown" in page.text
    assert StudentResult("x", 0, 0, changes=changes[:1]).put_right == ("setup: had lost its metadata",)


def test_each_state_has_a_sign_of_its_own():
    assert len(set(STATES.values())) == len(STATES)
    page = Page(class_report(CLASS))
    assert page.row("ann")[3:] == ["● 3", "● 2"]
    assert page.row("ben")[3:] == ["✗ 0", "◐ 1"]
    assert page.rows[-1][3:] == ["–", "!"]


def test_tables_have_captions_and_scopes():
    page = Page(class_report(CLASS))
    assert page.tags.count("table") == page.tags.count("caption") == 3
    assert page.tags.count("th") == sum(name == "scope" for name, _ in page.attributes)


def test_a_class_without_a_grade_has_a_page():
    page = Page(class_report(a_class((StudentResult("ann", 0, 0, set_aside="Not graded."),), ())))
    assert page.row("ann") == ["ann", "Not graded."]


# ---------------------------------------------------------------- without names

ANN = student(
    "ann-42",
    answer(
        INVERTED,
        0,
        3,
        "zero",
        "got 0.7310, expected 1.4620, Ann",
        "only_anns",
        advice="Not scaled up, Ann.",
        next_step="Scale.",
        answer='"""By Ann."""\ndef f(x):\n    """Ann Bee wrote this."""\n    return x  # ann-42, 2026',
    ),
    failures=("/home/ann-42/x.py failed",),
    first_name="Ann",
    last_name="Bee",
    email="ann@example.org",
    lms_user_id="90210",
)


def test_nothing_of_a_name_is_left_on_a_page_without_names():
    html = class_report(anonymous(a_class((ANN, *CLASS.students))))
    assert not re.search(r"\bann\b|ann-42|\bbee\b|90210|example\.org", html, re.IGNORECASE)
    assert "Learner 1" in html and "Not scaled up, […]." in html and "/home/[…]/x.py failed" in html
    assert "def f(x):\n    return x" in html


def test_a_page_without_names_holds_nothing_of_the_hidden_cases():
    assert "0.7310" in class_report(a_class((ANN,)))
    assert "0.7310" not in class_report(anonymous(a_class((ANN,))))


def test_only_examples_bring_their_code_onto_a_page_without_names():
    hidden = replace(FULL, answer="x = 1")
    (one,) = anonymous(a_class((student("ann", hidden, replace(ANN.exercises[0], exercise=CLASSIC)),)))
    assert [bool(done.answer) for done in one.exercises] == [False, True]


def test_the_order_of_a_class_without_names_is_not_the_rosters():
    many = a_class(student(f"s{i:03}", answer(INVERTED, i, 100, "partial")) for i in range(100))
    orders = [[one.score for one in anonymous(many)] for _ in range(2)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(100))
    assert len({tuple(order) for order in (*orders, range(100))}) == 3  # by chance in 1 of 100! runs not


@pytest.mark.parametrize("code", ["def (", "\0", "(" * 5000, "x = " + "-" * 100_000 + "1"])
def test_code_that_python_cannot_read_is_not_shown_without_names(code):
    wrong = answer(INVERTED, 0, 3, "zero", "m", "unscaled", answer=code)  # the only one, so it is the example
    assert anonymous(a_class((student("ann", wrong),))).students[0].exercises[0].answer == ""


# ---------------------------------------------------------------- a student's page


def test_a_student_reads_what_was_wrong_and_what_to_do():
    wrong = replace(
        UNSCALED,
        advice="You do not scale up.",
        next_step="Divide by 1 − p.",
        parts=(Part("output", 0, 2, False), Part("gradient", 0, 1, True), Part("input left as it was", 0, 0, True)),
        note="Come and see me.",
    )
    text = Page(student_report(LESSON, student("ben", wrong), ITEMS)).text
    assert "not right yet, 0 of 3 points" in text
    assert "output: failed, 0 of 2" in text
    assert "gradient: passed, 0 of 1: counts once what it builds on passes too" in text
    assert "You do not scale up." in text and "Next step. Divide by 1 − p." in text
    assert "Hint 1 of 2" in text and "Hint two." in text
    assert "From your instructor. Come and see me." in text
    assert "Not scaled up." not in text  # the message may quote hidden cases


def test_a_right_answer_has_no_hints():
    assert "Hint" not in Page(student_report(LESSON, student("ann", FULL), ITEMS)).text


def test_what_waits_for_a_person_is_no_lost_point():
    text = Page(student_report(LESSON, student("ann", FULL, answer(WHY, 0, 4, "by hand")), ITEMS)).text
    assert "3 of 3points so far" in text and "4points wait for a person" in text
    assert "A person reads this answer" in text


@pytest.mark.parametrize("one", CLASS.students, ids=lambda one: one.student)
def test_a_students_page_says_nothing_of_the_others(one):
    html = student_report(LESSON, one, ITEMS)
    assert not [other for other in CLASS if other is not one and re.search(rf"\b{other.student}\b", html)]
    assert "median is" not in html
    assert "median is 40%" in student_report(LESSON, one, ITEMS, median_share=0.4)


def test_a_student_reads_what_happened_to_the_file():
    one = student("ann", FULL, failures=("Python ended.",), changes=(Change("setup", "was missing", "damage"),))
    text = Page(student_report(LESSON, one, ITEMS)).text
    assert "While your notebook ran: Python ended." in text
    assert "as it was released: setup: was missing." in text
    assert (
        "Your file was not run. Not JSON."
        in Page(student_report(LESSON, student("a", set_aside="Not JSON."), ITEMS)).text
    )


# ---------------------------------------------------------------- the terminal


def test_the_table_compares_with_what_was_expected():
    lines = class_table(CLASS.students[:2], expected={"ann": 5, "ben": 2}).splitlines()
    assert lines[0].split() == ["student", "points", "of", "expected", "remarks"]
    assert lines[2].split() == ["ann", "5", "5", "5", "✓"]
    assert lines[3].split() == ["ben", "1", "5", "2", "✗"]


def test_the_table_shows_the_first_problem():
    assert class_table(CLASS).splitlines()[-1].endswith("Python ended.")


def test_wide_characters_keep_the_columns_straight():
    lines = class_table((student("李-随机", FULL), student("ann", FULL))).splitlines()
    assert lines[2] == "李-随机       3   3"
    assert lines[3] == "ann           3   3"


def test_nothing_in_the_table_drives_the_terminal():
    assert "\x1b" not in class_table(HOSTILE_CLASS)


# ---------------------------------------------------------------- files


def test_pages_are_written_into_the_class_and_linked(tmp_path):
    pages = write_student_pages(LESSON, tmp_path, results=CLASS)
    page = write_report(LESSON, tmp_path, results=CLASS, pages=pages)
    assert page == tmp_path / "reports" / f"{LESSON}.html"
    links = re.findall(r'href="(students/[^"]+)"', page.read_text("utf-8"))
    assert sorted(page.parent / link for link in links) == sorted(pages.values())
    assert all(path.is_file() for path in pages.values())
    assert not list(tmp_path.rglob("*.part"))


def test_a_page_without_names_lies_beside_the_one_with_names_and_has_no_links(tmp_path):
    pages = write_student_pages(LESSON, tmp_path, results=CLASS)
    page = write_report(LESSON, tmp_path, results=CLASS, pages=pages, nameless=True)
    assert page.name == f"{LESSON}-anonymous.html"
    assert "students/" not in page.read_text("utf-8")


@pytest.mark.parametrize(("size", "told"), [(4, False), (5, True)])
def test_a_median_is_told_only_where_it_hides_the_others(tmp_path, size, told):
    results = a_class(student(f"s{i}", FULL) for i in range(size))
    pages = write_student_pages(LESSON, tmp_path, results=results, with_median=True)
    assert {"median" in Page(page.read_text("utf-8")).text for page in pages.values()} == {told}


@pytest.mark.parametrize("id", ["", "..", "a/b", "../../etc", "a\\b", "a\0"])
def test_an_id_that_leads_out_of_the_folder_is_refused(tmp_path, id):
    with pytest.raises(CourseError, match="can't be the name of a folder"):
        write_student_pages(LESSON, tmp_path, results=a_class((student(id, FULL),)))
    assert not list(tmp_path.rglob("*.html"))


def test_ids_of_every_script_lead_to_pages(tmp_path):
    results = a_class(student(id, FULL) for id in ("kim-&-&lt;b&gt;", "נועה-שכבה", 'a"b', "50% #1?", "<script>"))
    pages = write_student_pages(LESSON, tmp_path, results=results)
    html = write_report(LESSON, tmp_path, results=results, pages=pages).read_text("utf-8")
    from html import unescape
    from urllib.parse import unquote

    links = [unquote(unescape(link)) for link in re.findall(r'href="(students/[^"]+)"', html)]
    assert all((tmp_path / "reports" / link).is_file() for link in links) and len(links) == 5


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "reports").write_text("a file")
    with pytest.raises(CourseError, match=r"cannot write .*reports"):
        write_report(LESSON, tmp_path, results=CLASS)


def test_half_a_surrogate_in_a_message_does_not_stop_the_page(tmp_path):
    results = a_class((student("ann", answer(INVERTED, 0, 3, "zero", "\ud800")),))
    assert write_report(LESSON, tmp_path, results=results).is_file()


def test_the_public_names_are_those_listed():
    assert all(hasattr(report, name) for name in report.__all__)


# ---------------------------------------------------------------- leaderboards

BOARD = Item("cnn.challenge", "The challenge", 4, ranked_by="right", budgets=("parameters",))


def contestant(name, share, parameters=100, points=4.0, **more):
    parts = (Part("parameters", 0, 0, True, parameters), Part("right", points, 4, share > 0.5, share))
    return student(name, answer(BOARD.exercise, points, 4, "partial", parts=parts), **more)


ENTERED = a_class(
    (
        contestant("ann", 0.71, 19_000, first_name="Ann"),
        contestant("bob", 0.82, 5_000),
        contestant("cid", 0.71, 12_000),
        contestant("dan", 0.95, 90_000, points=0.0),  # over the budget
        contestant("eve", 0.40, points=1.0),
        student("fay", answer(BOARD.exercise, 0, 4, "blank")),
        contestant("gus", 0.55, points=2.0),
    ),
    items=(BOARD,),
)


def test_the_leaderboard_ranks_those_who_kept_to_the_rules():
    places = leaderboard(ENTERED, BOARD)
    assert [(place.rank, place.student.student, place.used) for place in places] == [
        (1, "bob", (5_000,)),
        (2, "cid", (12_000,)),
        (2, "ann", (19_000,)),
        (4, "gus", (100,)),
        (5, "eve", (100,)),
    ]


def test_the_class_page_shows_the_leaderboard_and_without_names_no_name():
    shown = class_report(ENTERED)
    board = shown[shown.index("Leaderboard of The challenge") :]
    assert board.index("82.0%") < board.index("71.0%") < board.index("55.0%")
    assert "19,000" in board and "Ann" in board
    nameless = class_report(anonymous(ENTERED))
    assert "82.0%" in nameless and "Ann" not in nameless and "bob" not in nameless
    assert "Leaderboard" not in class_report(CLASS)


def test_a_students_page_tells_the_own_place_where_enough_are_on_the_board(tmp_path):
    pages = write_student_pages("09_cnn", tmp_path, results=replace(ENTERED, lesson="09_cnn"))
    assert "Place 2 of 5 on the class&#x27;s leaderboard" in pages["ann"].read_text().replace("'", "&#x27;")
    assert "71.0%" in pages["ann"].read_text()
    assert "leaderboard" not in pages["dan"].read_text() and "leaderboard" not in pages["fay"].read_text()
    few = replace(ENTERED, lesson="09_cnn", students=ENTERED.students[:3])
    assert "leaderboard" not in write_student_pages("09_cnn", tmp_path, results=few)["ann"].read_text()
