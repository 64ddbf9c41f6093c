"""The exercises of the tiny course, as somebody outside the project would ship them: found by an entry point."""

from collections.abc import Iterable

from autograder.exercise import Case, Criterion, Exercise, Explanation, Misconception, Variant

LESSON = "00_tiny"


def double_cases(seed: int) -> Iterable[Case]:
    yield Case("two", {"x": 2.0, "part": "whole"})
    yield Case("a half", {"x": 0.5, "part": "half"})
    yield Case("drawn", {"x": 3.0 + seed % 1000, "part": "half"})


def double_probe(candidate, case):
    return {case["part"]: float(candidate(case["x"]))}


def doubled(x: float) -> float:
    return x + x


def squared(x: float) -> float:
    return x * x


def doubled_by_shift(x: float) -> float:
    return 2 * x


def square_cases(seed: int) -> Iterable[Case]:
    yield Case("three", {"x": 3.0})
    yield Case("drawn", {"x": 4.0 + seed % 1000})


def square_probe(candidate, case):
    return {"square": float(candidate(case["x"]))}


EXERCISES = (
    Exercise(
        id="tiny.double",
        lesson=LESSON,
        title="The double",
        answer="double",
        criteria=(Criterion("whole", points=2.0), Criterion("half", points=1.0)),
        cases=double_cases,
        probe=double_probe,
        reference=doubled,
        misconceptions=(Misconception("squared", squared, "For {x} you return {got}.", "Look again."),),
        variants=(Variant("by shift", doubled_by_shift),),
        hints=("What is one and one?",),
        forbidden=("numpy.ldexp",),
    ),
    Exercise(
        id="tiny.square",
        lesson=LESSON,
        title="The square",
        answer="square",
        criteria=(Criterion("square", points=2.0),),
        cases=square_cases,
        probe=square_probe,
        reference=squared,
        misconceptions=(Misconception("doubled", doubled, "That is twice {x}.", "Multiply it by itself."),),
        variants=(),
        hints=(),
    ),
    Explanation(id="tiny.why", lesson=LESSON, title="Why", rubric={"reason": 1.0, "example": 1.0}),
)
