"""The learner's journal: one file, many kernels, never in the way, never written where a program runs the notebook."""

import json
import os
import sqlite3
import stat
import subprocess
import sys
import types
from contextlib import closing

import pytest

from course_lib import journal
from course_lib.journal import Commitment, Journal, JournalError, data_dir, database, keeping, noting

AT = "2026-11-21T03:00:00+00:00"


@pytest.fixture
def kept(tmp_path):
    return Journal(tmp_path / "data")


def fill(kept):
    kept.commit("p", Commitment("linear", "it is bent", AT))
    kept.note_score("p", 1.0, "right")
    kept.note_check("d.e", 0, 3, False, "unscaled", "Not scaled up.")
    kept.note_check("d.e", 3, 3, True)


# ── what is kept ──


def test_what_is_written_is_read_again(kept):
    fill(kept)
    history = Journal(kept.path.parent).read()
    assert history.commitments == {"p": Commitment("linear", "it is bent", AT)}
    assert (history.scores["p"].value, history.scores["p"].words) == (1.0, "right")
    wrong, right = history.checks
    assert (wrong.exercise, wrong.passed, wrong.misconception, wrong.message) == (
        "d.e",
        False,
        "unscaled",
        "Not scaled up.",
    )
    assert (right.score, right.max_score, right.passed, right.misconception) == (3.0, 3.0, True, "")


def test_checks_that_come_out_the_same_are_one_row_with_a_count(kept):
    for score in (0, 0, 0, 3, 3, 0):
        kept.note_check("d.e", score, 3, score == 3)
        kept.note_check("d.other", 1, 1, True)
    mine = [check for check in kept.read().checks if check.exercise == "d.e"]
    assert [(check.score, check.times) for check in mine] == [(0, 3), (3, 2), (0, 1)]


def test_the_first_commitment_stands(kept):
    assert kept.commit("p", Commitment(8.0, "", AT)).answer == 8.0
    assert kept.commit("p", Commitment(16.0, "", AT)).answer == 8.0


def test_reading_makes_no_file(kept):
    assert not kept.read()
    assert not kept.path.parent.exists()


def test_nobody_else_can_read_it(kept):
    fill(kept)
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.path.parent.stat().st_mode) == 0o700


def test_a_learners_text_is_kept_whatever_is_in_it(kept):
    kept.note_check("d.e", 0, 3, False, "", "half \ud800 of a character, " + "long " * 1000)
    assert len(kept.read().checks[0].message) == 2000


def test_erasing_leaves_nothing(kept):
    fill(kept)
    (kept.path.parent / "predictions.json").write_text("{}")
    assert kept.erase()
    assert list(kept.path.parent.iterdir()) == []
    assert not kept.erase()
    assert not kept.read()


def test_many_kernels_write_at_once_and_nothing_is_lost(kept):
    code = (
        "import sys; from pathlib import Path; from course_lib.journal import Journal, database\n"
        "database.PATIENCE = 60  # four that write without a pause, on a busy machine, can keep one waiting long\n"
        "kept = Journal(Path(sys.argv[1]))\n"
        "for k in range(25): kept.note_check('e.' + sys.argv[2], k, 99, False)"
    )
    command = [sys.executable, "-c", code, str(kept.path.parent)]
    writers = [subprocess.Popen([*command, str(n)], stderr=subprocess.PIPE, text=True) for n in range(4)]
    assert [(writer.communicate(timeout=60)[1], writer.returncode) for writer in writers] == [("", 0)] * 4
    assert len(kept.read().checks) == 100


# ── the file in trouble ──


def test_a_locked_file_is_given_up_after_a_moment(kept, monkeypatch):
    monkeypatch.setattr(database, "PATIENCE", 0.05)
    fill(kept)
    with closing(sqlite3.connect(kept.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(JournalError, match="locked"):
            kept.note_check("d.e", 1, 3, False)
    kept.note_check("d.e", 1, 3, False)
    assert len(kept.read().checks) == 3


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 4000])
def test_a_damaged_file_is_told_in_one_line_and_left_alone(kept, content):
    kept.path.parent.mkdir()
    kept.path.write_bytes(content)
    for use in (kept.read, kept.commitments, lambda: kept.note_check("d.e", 1, 3, False)):
        with pytest.raises(JournalError) as error:
            use()
        assert "\n" not in str(error.value) and str(kept.path) in str(error.value)
    assert kept.path.read_bytes() == content
    assert kept.erase()


@pytest.mark.parametrize(
    "row", [("p", "[1]", "", AT), ("p", "NaN", "", AT), ("p", "{", "", AT), ("p", "1", "", "yesterday")]
)
def test_a_row_that_nothing_of_ours_wrote_is_damage(kept, row):
    fill(kept)
    with closing(sqlite3.connect(kept.path, isolation_level=None)) as other:
        other.execute("INSERT OR REPLACE INTO commitments VALUES (?, ?, ?, ?)", row)
    with pytest.raises(JournalError, match="damaged"):
        kept.read()


def test_a_folder_that_can_not_be_made(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    kept = Journal(tmp_path / "file" / "below")
    with pytest.raises(JournalError, match="can't be used"):
        fill(kept)
    assert not kept.read()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only(kept):
    kept.path.parent.mkdir()
    kept.path.parent.chmod(0o500)
    with pytest.raises(JournalError, match="can't be used"):
        fill(kept)


def test_a_full_disk(kept, monkeypatch):
    fill(kept)

    def full(connection, path):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(database, "_bring_up_to_date", full)
    with pytest.raises(JournalError, match="disk is full"):
        kept.note_check("d.e", 1, 3, False)


def test_a_python_without_sqlite(kept, monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    with pytest.raises(JournalError, match="no sqlite3"):
        kept.read()


# ── versions ──


def test_a_newer_file_is_neither_read_nor_written(kept):
    fill(kept)
    with closing(sqlite3.connect(kept.path, isolation_level=None)) as other:
        other.execute("PRAGMA user_version = 99")
    before = kept.path.read_bytes()
    for use in (kept.read, lambda: kept.note_check("d.e", 1, 3, False)):
        with pytest.raises(JournalError, match="newer version of the course"):
            use()
    assert kept.path.read_bytes() == before


def test_an_older_file_is_brought_up_to_date_when_it_is_read(kept, monkeypatch):
    fill(kept)
    more = lambda connection, path: connection.execute("ALTER TABLE scores ADD COLUMN colour TEXT DEFAULT 'blue'")
    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, more))
    assert len(kept.read().checks) == 2
    with closing(sqlite3.connect(kept.path)) as look:
        assert look.execute("PRAGMA user_version").fetchone() == (2,)
        assert look.execute("SELECT colour FROM scores").fetchone() == ("blue",)


def test_a_migration_that_fails_leaves_the_file_as_it_was(kept, monkeypatch):
    fill(kept)

    def half(connection, path):
        connection.execute("DROP TABLE checks")
        connection.execute("DROP TABLE none_of_that_name")

    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, half))
    with pytest.raises(JournalError):
        kept.read()
    monkeypatch.undo()
    assert len(kept.read().checks) == 2


def old_file(kept, commitments):
    kept.path.parent.mkdir()
    (kept.path.parent / "predictions.json").write_text(json.dumps({"version": 1, "commitments": commitments}))


def test_predictions_of_the_version_before_are_taken_over(kept):
    good = {"answer": 8.0, "reason": "2 × 4", "at": AT}
    bad = ({"answer": [], "reason": "", "at": AT}, {"answer": 1, "reason": 2, "at": AT}, {"answer": 1}, "text")
    old_file(kept, {"good": good, **{f"bad{number}": entry for number, entry in enumerate(bad)}})
    assert kept.commitments() == {"good": Commitment(8.0, "2 × 4", AT)}
    assert (kept.path.parent / "predictions.json").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"commitments": []}', b" " * 1_000_001])
def test_an_old_file_that_is_damaged_is_passed_over(kept, content):
    kept.path.parent.mkdir()
    (kept.path.parent / "predictions.json").write_bytes(content)
    fill(kept)
    assert list(kept.commitments()) == ["p"]


# ── where, and whether ──


def test_the_folder_is_the_users_own_unless_chosen(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_DATA_DIR", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert data_dir() == tmp_path / "training-deep-nets"
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "mine"))
    assert data_dir() == tmp_path / "mine"


@pytest.fixture
def kernel(monkeypatch):
    """As in a kernel, whose front end takes questions or does not."""

    def pretend(asks):
        shell = types.SimpleNamespace(kernel=types.SimpleNamespace(_allow_stdin=asks))
        monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))

    return pretend


@pytest.mark.parametrize(
    ("switch", "asks", "notes", "keeps"),
    [
        ("on", True, True, True),
        ("", True, False, True),  # nobody asked for checks to be noted; a prediction is committed on purpose
        ("off", True, False, False),
        ("on", False, False, False),  # nbgrader's, nbclient's, papermill's: whatever the environment says
        ("", False, False, False),
        ("on", None, False, True),  # no kernel: a script, a test
        ("off", None, False, False),
    ],
)
def test_only_a_person_at_a_notebook_is_written_about(monkeypatch, kernel, switch, asks, notes, keeps):
    monkeypatch.setenv(journal.SWITCH, switch)
    if asks is None:
        monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: None))
    else:
        kernel(asks)
    assert (noting(), keeping()) == (notes, keeps)
