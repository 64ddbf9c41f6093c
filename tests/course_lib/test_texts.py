"""The embedded texts: whole, in the public domain, and refused where damaged."""

import re
import shutil

import pytest

from course_lib import texts
from course_lib.texts import build


def test_each_text_has_as_many_words_and_nothing_but_words():
    books = texts.load()
    assert books.names == ("carroll", "shakespeare", "milton")
    for name in books.names:
        assert len(books.words[name]) == build.WORDS
        assert all(re.fullmatch(r"[a-z]+(?:'[a-z]+)*", word) for word in books.words[name])
    assert " ".join(books.words["milton"][:3]) == "of man's first"
    assert "Public-Domain" in books.licence and books.sources[0].package == "brotli"


def test_nothing_but_the_authors_own_words_is_left():
    books = texts.load()
    for words in books.words.values():
        assert not {"gutenberg", "etext", "copyright", "chapter", "dramatis"} & set(words)


@pytest.mark.parametrize("damage", ["changed", "absent"])
def test_a_damaged_text_is_refused(monkeypatch, tmp_path, damage):
    folder = tmp_path / "data"
    shutil.copytree(texts.DATA, folder)
    if damage == "changed":
        (folder / "milton.txt").write_text("of man's second disobedience")
    else:
        (folder / "milton.txt").unlink()
    monkeypatch.setattr(texts, "DATA", folder)
    with pytest.raises(texts.TextsError, match="reinstall the package"):
        texts.load()


def test_speakers_titles_and_directions_are_left_out():
    play = "LIST\n\nADAM\tx\n\nORLANDO\tAs I remember, Adam, [Enter OLIVER]\n\n\tACT II\n\nOLIVER\tNow, sir!\n"
    assert build.cleaned("shakespeare", play) == ["as", "i", "remember", "adam", "now", "sir"]
    tale = "TITLE\n\nAlice was beginning to\n\n   CHAPTER II\n\n   The Pool\n\ncry 'O!'"
    assert build.cleaned("carroll", tale) == ["alice", "was", "beginning", "to", "cry", "o"]
    poem = "Introduction\n\n Book I\n\n Of Man's first disobedience\n Book II\n High"
    assert build.cleaned("milton", poem) == ["of", "man's", "first", "disobedience", "high"]
