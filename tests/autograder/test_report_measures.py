"""Difficulty and discrimination, against sums done by hand."""

import math

import pytest
from sample_class import CLASS, CLASSIC, INVERTED, ITEMS, a_class, answer, student

from autograder.report.measures import ENOUGH, Discrimination, comparable, discrimination, mistakes, summaries

# Ten learners, (points of the exercise, points of all others). Means 1 and 4; sums of squares and products about them:
# x: 10 · 1 = 10, y: 2·(16 + 9 + 4 + 1 + 0) = 60, xy: see below; r = 20 / √(10 · 60) = 0.8165.
TEN = [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (2, 4), (2, 5), (2, 6), (2, 7), (2, 8)]


def test_discrimination_by_hand():
    """Deviations of y: -4 -3 -2 -1 0 0 1 2 3 4; those of x: five times -1, five times 1. xy: (4+3+2+1+0)·2 = 20."""
    found = discrimination(TEN)
    assert found.learners == 10
    assert found.r == pytest.approx(20 / math.sqrt(10 * 60))
    z = math.atanh(found.r)
    assert (found.low, found.high) == pytest.approx(
        (math.tanh(z - 1.96 / math.sqrt(7)), math.tanh(z + 1.96 / math.sqrt(7)))
    )
    assert found.told == "0.82"


def test_the_exercise_itself_is_no_part_of_the_total():
    """Two exercises that have nothing to do with each other: the plain item-total correlation would be 0.71."""
    square = [(0, 0), (0, 1), (1, 0), (1, 1)] * 3
    students = [
        student(
            f"s{i}",
            answer(INVERTED, 3 * a, 3, "full" if a else "zero"),
            answer(CLASSIC, 2 * b, 2, "full" if b else "zero"),
        )
        for i, (a, b) in enumerate(square)
    ]
    assert [row.discrimination.r for row in summaries(a_class(students))] == [pytest.approx(0), pytest.approx(0)]


@pytest.mark.parametrize(
    ("points", "told", "learners"),
    [
        ([], "not enough", 0),
        (TEN[: ENOUGH - 1], "not enough", ENOUGH - 1),
        ([*TEN[: ENOUGH - 1], None, None], "not enough", ENOUGH - 1),
        ([(1, y) for _, y in TEN], "all alike", 10),
        ([(x, 3) for x, _ in TEN], "all alike", 10),
        ([(x, -x) for x, _ in TEN], "−1.00", 10),
    ],
)
def test_where_there_is_no_telling_it_says_so(points, told, learners):
    found = discrimination(points)
    assert (found.told, found.learners) == (told, learners)
    assert isinstance(found, Discrimination) and -1 <= found.low <= found.high <= 1


def test_who_crashed_was_set_aside_or_left_everything_blank_is_no_measure():
    aside = student("eve", answer(INVERTED, 0, 3, "zero"), set_aside="Not JSON.")
    blank = student("fay", answer(INVERTED, 0, 3, "blank"), answer(CLASSIC, 0, 2, "blank"))
    assert [one.student for one in comparable(a_class((*CLASS.students, aside, blank)))] == ["ann", "ben", "cem"]


@pytest.mark.parametrize("results", [a_class(()), a_class((), ())], ids=["no students", "no exercises"])
def test_an_empty_class_has_no_measures(results):
    assert [row.mean_share for row in summaries(results)] == [None] * len(results.items)
    assert mistakes(results) == []


def test_a_class_of_one_has_means_and_no_discrimination():
    rows = summaries(a_class(CLASS.students[:1]))
    assert [(row.mean_share, row.difficulty, row.discrimination.told) for row in rows] == [
        (1, "easy", "not enough")
    ] * 2


def test_where_everybody_left_it_blank_nobody_found_it_hard():
    blank = [student(f"s{i}", answer(INVERTED, 0, 3, "blank"), answer(CLASSIC, 0, 2, "blank")) for i in range(12)]
    rows = summaries(a_class(blank))
    assert [(row.mean_share, row.difficulty) for row in rows] == [(0, "–"), (0, "–")]
    assert [(row.discrimination.told, row.discrimination.learners) for row in rows] == [("not enough", 0)] * 2


def test_the_example_is_the_shortest_answer_there_is():
    codes = ["", "long = 1 + 1", "x = 1"]
    wrong = [answer(INVERTED, 0, 3, "zero", "m", "unscaled", answer=code) for code in codes]
    (found,) = mistakes(a_class(student(f"s{i}", one) for i, one in enumerate(wrong)))
    assert (found.count, found.student.student, found.item) == (3, "s2", ITEMS[0])
