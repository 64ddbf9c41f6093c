"""What is handed in beside files: links and pipes go before anybody follows or reads them."""

import os
import signal

import pytest

from autograder.gradebook.classroom import GradebookError
from autograder.gradebook.handin import content_of, keep_plain_files
from autograder.submission import MAX_BYTES, NotebookError, parse


@pytest.fixture(autouse=True)
def patience():
    """Whoever reads a pipe here waits for ever."""
    signal.alarm(20)
    yield
    signal.alarm(0)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    made = tmp_path / "submitted" / "ada" / "08_dropout"
    (made / "data").mkdir(parents=True)
    (made / "08_dropout.ipynb").write_text("{}")
    (made / "data" / "mine.csv").write_text("1")
    return made


def test_files_and_folders_stay(folder):
    assert keep_plain_files(folder) == []
    assert sorted(p.name for p in folder.rglob("*")) == ["08_dropout.ipynb", "data", "mine.csv"]


def test_links_and_pipes_go_and_what_they_lead_to_stays(folder, tmp_path):
    (folder / "data" / "link").symlink_to(tmp_path / "secret.txt")
    (folder / "up").symlink_to(tmp_path)
    (folder / "nowhere").symlink_to("/no/such/file")
    os.mkfifo(folder / "timestamp.txt")
    assert sorted(keep_plain_files(folder)) == ["data/link", "nowhere", "timestamp.txt", "up"]
    assert (tmp_path / "secret.txt").read_text() == "secret"
    assert keep_plain_files(folder) == []


@pytest.mark.parametrize("target", ["/dev/zero", "../../../secret.txt", "pipe"])
def test_a_notebook_that_is_a_link_becomes_a_file_that_is_no_notebook(folder, target):
    notebook = folder / "08_dropout.ipynb"
    notebook.unlink()
    os.mkfifo(folder / "pipe")
    notebook.symlink_to(target)
    assert "08_dropout.ipynb" in keep_plain_files(folder)
    with pytest.raises(NotebookError, match="not JSON"):
        parse(content_of(notebook), "it")


def test_a_folder_that_is_a_link_is_not_followed(folder, tmp_path):
    thief = tmp_path / "submitted" / "bob" / "08_dropout"
    thief.parent.mkdir()
    thief.symlink_to(folder)
    assert keep_plain_files(thief) == ["08_dropout"]
    assert (folder / "08_dropout.ipynb").read_text() == "{}"
    assert "{}" not in (thief / "08_dropout.ipynb").read_text()


def test_no_more_is_read_than_tells_that_a_file_is_too_large(folder):
    with (folder / "08_dropout.ipynb").open("r+b") as file:
        file.truncate(3 * MAX_BYTES)
    with pytest.raises(NotebookError, match="larger than"):
        parse(content_of(folder / "08_dropout.ipynb"), "it")


def test_what_can_not_be_removed_is_said(folder, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    (folder / "link").symlink_to("x")
    monkeypatch.setattr("pathlib.Path.unlink", refuse)  # the tests may run as root, whom no mode stops
    with pytest.raises(GradebookError, match=r"cannot remove the links and pipes in .*Permission denied"):
        keep_plain_files(folder)
