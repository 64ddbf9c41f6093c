"""A class without names, to be shown to the class itself or to colleagues."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Set
from dataclasses import replace
from typing import Any

from .measures import mistakes
from .results import ClassResults, ExerciseResult, StudentResult

__all__ = ["anonymous"]

GONE = "[…]"


def anonymous(results: ClassResults, draw: random.Random | None = None) -> ClassResults:
    """The same results without names, ids and addresses, in an order that is drawn anew each time.

    Messages are those that learners may read. Code stays where it is a misconception's example, without comments and
    docstrings; a name that is spelled as a variable's stays in it, unless it is the learner's whole id.
    """
    examples = {(mistake.student.student, mistake.example.exercise) for mistake in mistakes(results)}
    students = list(results.students)
    (draw or random.SystemRandom()).shuffle(students)
    width = len(str(len(students)))
    return replace(
        results,
        students=tuple(
            _student(student, f"Learner {number:0{width}}", examples) for number, student in enumerate(students, 1)
        ),
    )


def _student(student: StudentResult, label: str, examples: Set[tuple[str, str]]) -> StudentResult:
    names = (student.student, student.name, student.first_name, student.last_name, student.email, student.lms_user_id)
    known = {name for name in (*names, *re.split(r"[\W_]+", " ".join(names))) if len(name) > 2 or not name.isascii()}
    hide = _any_of(known - {""})
    id_alone = _any_of({student.student} & known)
    done = tuple(
        replace(
            one,
            message=hide.sub(GONE, one.advice),
            advice=hide.sub(GONE, one.advice),
            next_step=hide.sub(GONE, one.next_step),
            answer=id_alone.sub(GONE, _code(one, hide)) if (student.student, one.exercise) in examples else "",
            note="",
        )
        for one in student.exercises
    )
    return StudentResult(
        label,
        student.score,
        student.max_score,
        done,
        tuple(hide.sub(GONE, failure) for failure in student.failures),
        tuple(replace(change, what=hide.sub(GONE, change.what)) for change in student.changes),
        hide.sub(GONE, student.set_aside),
        student.seconds,
    )


def _any_of(texts: set[str]) -> re.Pattern[str]:
    longest_first = sorted(texts, key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)", re.IGNORECASE)


def _code(result: ExerciseResult, hide: re.Pattern[str]) -> str:
    """The answer, written anew from its syntax tree; "" where it is not Python."""
    try:
        return ast.unparse(_WithoutNames(hide).visit(ast.parse(result.answer)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: nested too deep for the parser
        return ""


class _WithoutNames(ast.NodeTransformer):
    def __init__(self, hide: re.Pattern[str]) -> None:
        self.hide = hide

    def visit_Constant(self, node: ast.Constant) -> Any:
        return ast.Constant(self.hide.sub(GONE, node.value)) if isinstance(node.value, str) else node

    def generic_visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            told = [part for part in node.body if not (isinstance(part, ast.Expr) and _is_text(part.value))]
            node.body = told or [ast.Pass()]
        return super().generic_visit(node)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
