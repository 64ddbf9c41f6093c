"""A small class in plain results, and a reader of pages, for the tests of the report."""

from __future__ import annotations

from collections.abc import Iterable
from html.parser import HTMLParser

from autograder.report import ClassResults, ExerciseResult, Item, StudentResult

LESSON = "08_dropout"
INVERTED, CLASSIC, WHY = "dropout.inverted_dropout", "dropout.classic_dropout", "dropout.explain"
ITEMS = (Item(INVERTED, "Inverted dropout", 3, ("Hint one.", "Hint two.")), Item(CLASSIC, "Classic dropout", 2))
MARKUP = '"><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m\u202e'


def answer(exercise, score, possible, status, message="", misconception=None, **more):
    return ExerciseResult(exercise, score, possible, status, message, misconception, **more)


def student(name, *answers, **more):
    return StudentResult(name, sum(a.score for a in answers), sum(a.max_score for a in answers), answers, **more)


def a_class(students: Iterable[StudentResult], items: tuple[Item, ...] = ITEMS) -> ClassResults:
    return ClassResults(LESSON, items, tuple(students))


FULL = answer(INVERTED, 3, 3, "full")
UNSCALED = answer(INVERTED, 0, 3, "zero", "Not scaled up.", "unscaled", answer="def f(x):\n    return x")
CLASS = a_class(
    (
        student("ann", FULL, answer(CLASSIC, 2, 2, "full"), seconds=2.0),
        student("ben", UNSCALED, answer(CLASSIC, 1, 2, "partial", "Off at test.", "dropped_at_test"), seconds=4.0),
        student("cem", UNSCALED, answer(CLASSIC, 0, 2, "zero", "Nobody knows why."), seconds=30.0),
        student("dai", answer(INVERTED, 0, 3, "blank"), answer(CLASSIC, 0, 2, "not run"), failures=("Python ended.",)),
    )
)


class Page(HTMLParser):
    """Tags, attributes, text and the text of each table row; fails where a tag is closed that isn't open."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.ids, self.rows, self.text, self.open = [], [], [], [], "", []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, start):
        return next(row for row in self.rows if row[0].startswith(start) or (len(row) > 1 and row[1].startswith(start)))
