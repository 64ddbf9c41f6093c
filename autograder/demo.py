"""A class that nobody attends: simulated learners hand in a lesson, and everything that grading does happens to it.

Their answers are the exercises' own records at work: correct variants, and catalogued misconceptions, in the shares
that a class may have. So the points that each learner must get are known beforehand, and the table at the end shows
them beside the points that grading gave: the demonstration checks itself. Among the learners are those that every
class has: blank, crashing, endless, tampered with.
"""

from __future__ import annotations

import ast
import copy
import csv
import hashlib
import inspect
import json
import random
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from autograder import exercises, gradebook, grader, notebooks
from autograder.check import check
from autograder.exercise import CourseError, Exercise
from autograder.report import class_table, read_results, write_report
from autograder.submission import nbformat, parse, quiet_environment, role_of

__all__ = ["KINDS", "LESSON", "Learner", "main", "submission"]

LESSON = "08_dropout"
MARKER = "demo.json"  # says that a folder is a demo's, and may be made anew
CELL_SECONDS = 30  # what the endless loop costs

# What can be the matter with a submission; the rest of the class is "ordinary".
KINDS = (
    "blank",
    "crash",
    "endless",
    "syntax",
    "stderr",
    "not json",
    "points changed",
    "check deleted",
    "check copied",
    "metadata stripped",
    "check skipped",
    "blank",
)
# (share of the ordinary learners, probability of a right answer, probability of a blank one)
ABILITIES = ((0.25, 0.95, 0.0), (0.5, 0.65, 0.05), (0.25, 0.3, 0.2))

# Nobody has these names. Ids and names hold what real ones hold: several scripts, right-to-left, quotes, markup.
PEOPLE = (
    ("adele-dropwell", "Adele", "Dropwell"),
    ("bernoulli-junior", "Bernie", "Bernoulli-Junior"),
    ("李-随机", "随机", "李"),
    ("d'arcy-o'mask", "D'Arcy", "O'Mask"),
    ("نور-طبقة", "نور", "طبقة"),
    ("kim-&-&lt;b&gt;", "Kim <b>Bold</b>", "<script>alert('grade me')</script>"),
    ("ольга-вектор", "Ольга", "Вектор"),
    ("sigmund-oid", "Sigmund", "Oid"),
    ("σιγμα-νευρων", "Σιγμα", "Νευρων"),
    ("अनिल-लहर", "अनिल", "लहर"),
    ("rita-lu", "Rita", "Lu"),
    ("まい-ゆらり", "まい", "ゆらり"),
    ("hank-initial", "Hank", "Initial"),
    ("נועה-שכבה", "נועה", "שכבה"),
    ("paula-p-half", "Paula P.", "Half"),
    ("max-pool", "Max", "Pool"),
    ("เมฆ-ฝน", "เมฆ", "ฝน"),
    ("søren-gradient", "Søren", "Gradient"),
    ("ada-momentum", "Ada", "Momentum"),
    ("conny-volution", "Conny", "Volution"),
    ("łukasz-loss", "Łukasz", "Loss"),
    ("overton-fitt", "Overton", "Fitt"),
    ("ming-batch", "Ming", "Batch"),
    ("zoe-epoch", "Zoe", "Epoch"),
)


@dataclass(frozen=True)
class Learner:
    """A simulated learner: `answers` maps an exercise's id to right or wrong code, None for a blank one."""

    student: str
    name: str
    kind: str
    answers: Mapping[str, Callable[..., Any] | None]


# ---------------------------------------------------------------- who is in the class


def simulate(records: Sequence[Exercise], learners: int, seed: int) -> tuple[Learner, ...]:
    """The class: the same for the same seed. Every kind is there once the class is as large as KINDS."""
    if learners < 1:
        raise CourseError(f"a class needs at least one learner, not {learners}")
    draw = random.Random(seed)
    kinds = [*KINDS[:learners], *["ordinary"] * (learners - len(KINDS))]
    draw.shuffle(kinds)
    ordinary = max(1, kinds.count("ordinary"))
    seen, made = 0, []
    for number, kind in enumerate(kinds):
        id, first, last = PEOPLE[number % len(PEOPLE)]
        again = f"-{number // len(PEOPLE) + 1}" if number >= len(PEOPLE) else ""
        right, blank = _ability((seen + 0.5) / ordinary)
        if kind == "ordinary":
            seen += 1
        elif kind in ("blank", "not json"):
            right, blank = 0.0, 1.0
        elif kind in ("crash", "endless", "syntax", "stderr"):
            right, blank = 0.8, 0.0
        else:  # whoever tampers with a file knows little
            right, blank = 0.35, 0.1
        answers = {record.id: _answer(record, draw, right, blank) for record in records}
        made.append(Learner(id + again, f"{first} {last}{again}", kind, answers))
    return tuple(made)


def _ability(place: float) -> tuple[float, float]:
    """(right, blank) for the ordinary learner at this place, 0 to 1, of the class."""
    for share, right, blank in ABILITIES:
        if place < share:
            return right, blank
        place -= share
    return ABILITIES[-1][1:]


def _answer(record: Exercise, draw: random.Random, right: float, blank: float) -> Callable[..., Any] | None:
    luck = draw.random()
    variant = draw.choice(record.variants).right
    weights = [1 / (1 + rank) for rank in range(len(record.misconceptions))]  # the first ones are the usual ones
    wrong = draw.choices(record.misconceptions, weights)[0].wrong
    return variant if luck < right else None if luck < right + blank else wrong


# ---------------------------------------------------------------- what they hand in, and what it is worth


@cache
def _worth(exercise: str, answer: Callable[..., Any]) -> float:
    return check(exercise, answer).verdict.score


def submission(learner: Learner, release: bytes) -> tuple[bytes, float]:
    """The file that `learner` hands in, made from the released notebook, and the points that it must get."""
    if learner.kind == "not json":
        return b"Dear grader, my notebook is in the other folder.\n", 0.0
    notebook = parse(release, "the release")
    points = {id: _worth(id, answer) if answer else 0.0 for id, answer in learner.answers.items()}
    cells = {role_of(cell): cell for cell in notebook.cells}
    order = [role_of(cell)[1] for cell in notebook.cells if role_of(cell)[0] == "check"]
    for (role, exercise), cell in cells.items():
        answer = learner.answers.get(exercise)
        if role == "solution" and answer:
            cell.source = source_of(answer, exercises.EXERCISES[exercise].answer)
        elif role == "explain" and learner.kind != "blank":
            cell.source = "The kept units are scaled up while training, so nothing needs scaling at test time."

    middle = order[len(order) // 2]
    cell = cells["solution", middle]
    if learner.kind == "crash":
        cell.source += "\n\nimport os\n\nos._exit(1)"
        points |= dict.fromkeys(order[order.index(middle) :], 0.0)
    elif learner.kind == "endless":
        name = exercises.EXERCISES[middle].answer
        cell.source = f"def {name}(*args, **kwargs):\n    while True:\n        pass"
        points[middle] = 0.0
    elif learner.kind == "syntax":
        cell.source = cell.source.replace(":", "", 1)
        points[middle] = 0.0
    elif learner.kind == "stderr":
        first = next(id for id in order if inspect.isfunction(learner.answers.get(id)))
        cells["solution", first].source += "\n\n" + NOISE.format(name=exercises.EXERCISES[first].answer)
    elif learner.kind != "ordinary":
        _tamper(notebook, learner.kind)
    return (nbformat().writes(notebook) + "\n").encode(), sum(points.values())


NOISE = """import logging
import sys
import warnings

silent = {name}


def {name}(*args, **kwargs):
    warnings.warn("the rate is a probability")
    logging.warning("careful")
    print("called", file=sys.stderr)
    return silent(*args, **kwargs)


warnings.warn("{name} is ready")"""


def _tamper(notebook: Any, kind: str) -> None:
    checks = [cell for cell in notebook.cells if role_of(cell)[0] == "check"]
    if kind == "points changed":
        for cell in checks:
            cell.metadata.nbgrader.points = 1000
    elif kind == "check deleted":
        notebook.cells.remove(checks[0])
    elif kind == "check copied":
        twin = copy.deepcopy(checks[0])
        twin.id = "copied"
        notebook.cells.append(twin)
    elif kind == "metadata stripped":
        for cell in notebook.cells:
            cell.metadata = nbformat().from_dict({})
    elif kind == "check skipped":
        for cell in checks:
            cell.metadata.tags = ["skip-execution"]
            fake = nbformat().v4.new_output("execute_result", {"text/plain": str(cell.metadata.nbgrader.points)})
            cell.outputs, cell.execution_count = [fake], 1


def source_of(answer: Callable[..., Any], name: str) -> str:
    """A cell that defines `answer` under `name`, with the functions and classes of its own module that it uses."""
    parts: dict[str, str] = {}

    def add(thing: Any) -> None:
        text = textwrap.dedent(inspect.getsource(thing))
        parts[thing.__name__] = ""  # keeps a function that calls itself from going round
        scope = vars(inspect.getmodule(thing))
        for node in ast.walk(ast.parse(text)):
            used = scope.get(node.id) if isinstance(node, ast.Name) else None
            own = inspect.isfunction(used) or inspect.isclass(used)
            if own and used.__module__ == thing.__module__ and used.__name__ not in parts:
                add(used)
        del parts[thing.__name__]
        parts[thing.__name__] = text.rstrip()

    add(answer)
    if answer.__name__ != name:
        parts["="] = f"{name} = {answer.__name__}"
    return "\n\n\n".join(parts.values())


# ---------------------------------------------------------------- start to end


def main(
    target: Path | None = None,
    learners: int = 24,
    seed: int = 8,
    *,
    fresh: bool = False,
    lesson: str = LESSON,
    source: Path | None = None,
    say: Callable[[str], None] = print,
) -> int:
    """Release, hand in, grade, feed back and report a simulated class in the folder `target`; returns 0 if every
    learner got the points expected, 1 otherwise.

    A demo that was stopped goes on where it was; with `fresh` its folder is made anew. `source` is a checkout of the
    course. Raises CourseError where the folder is not a demo's or is another demo's, and what grading raises.
    """
    start = time.monotonic()
    target = Path("demo-class" if target is None else target)
    root = notebooks.released_root(source)
    built = root / ("lessons" if root == notebooks.INSTALLED else "solutions") / lesson / f"{lesson}.ipynb"
    if not built.is_file():
        say(f"Building {lesson} ...")
        notebooks.build(lesson, root=root)
    settings = {"lesson": lesson, "learners": learners, "seed": seed, "source": _digest(built)}
    _prepare(target, settings, fresh)

    say(f"Releasing {lesson} to a class of {learners} in {target} ...")
    _configure(target, root)
    released = gradebook.release(lesson, target, source=root) / f"{lesson}.ipynb"
    release = released.read_bytes()
    present = {role_of(cell) for cell in parse(release, "the release").cells}
    records = [
        record
        for record in exercises.EXERCISES.values()
        if isinstance(record, Exercise) and ("check", record.id) in present
    ]
    if not records:
        raise CourseError(f"{released} has no exercise that checks itself")

    say("Handing in ...")
    people = simulate(records, learners, seed)
    expected = {learner.student: _hand_in(learner, release, target, lesson) for learner in people}
    _enrol(target, people)

    say(f"Grading, a kernel for each, side by side; an endless loop is stopped after {CELL_SECONDS} s:")
    done = 0

    def show(row: gradebook.Graded) -> None:
        nonlocal done
        done += 1
        points = f"{row.score:5g} of {row.max_score:g}"
        say(f"  {done:3} of {learners}  {points}  {row.seconds:5.1f} s  {row.student} {row.problem}".rstrip())

    rows = grader.grade(lesson, target, on_graded=show)
    if before := sum(not row.fresh and not row.problem for row in rows):
        say(f"  {before} were graded before")
    say("Writing feedback ...")
    pages = gradebook.feedback(lesson, target)
    results = read_results(lesson, target)
    page = write_report(lesson, target, results=results)

    say("")
    say(class_table(results, expected=expected))
    right = sum(abs(expected[result.student] - result.score) < 1e-9 for result in results)
    say("")
    say(f"{right} of {learners} learners got exactly the points that they were built to get.")
    say(f"gradebook   {target / 'gradebook.db'}")
    say(f"class page  {page}")
    say(f"feedback    {len(pages)} pages in {target / 'feedback'}")
    say(f"{time.monotonic() - start:.0f} s in all")
    return 0 if right == len(results) == learners else 1


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _prepare(target: Path, settings: Mapping[str, Any], fresh: bool) -> None:
    """Make the demo's folder, or see that it is this demo's; never touch a folder that is not a demo's."""
    marker = target / MARKER
    if target.exists() and not target.is_dir():
        raise CourseError(f"{target} is a file: name a folder for the demo")
    if target.is_dir() and any(target.iterdir()) and not marker.is_file():
        raise CourseError(f"{target} holds something else than a demo: name another folder")
    try:
        if fresh and marker.is_file():
            shutil.rmtree(target)
        if marker.is_file():
            if json.loads(marker.read_text("utf-8")) != settings:
                raise CourseError(f"{target} holds a demo of another class or lesson: make it anew with --fresh")
            return
        target.mkdir(parents=True, exist_ok=True)
        marker.write_text(json.dumps(settings), "utf-8")
    except ValueError:
        raise CourseError(f"{marker} is damaged: make the demo anew with --fresh") from None
    except OSError as error:
        raise CourseError(f"cannot write {target}: {error.strerror}") from None


def _configure(target: Path, root: Path) -> None:
    """The course's configuration, with less patience."""
    config = (root / "nbgrader_config.py").read_text("utf-8")
    patience = f"\n# ---- the demo\nc.Execute.timeout = {CELL_SECONDS}  # the endless loop costs this much\n"
    (target / "nbgrader_config.py").write_text(config + patience, "utf-8")


def _hand_in(learner: Learner, release: bytes, target: Path, lesson: str) -> float:
    """Write the learner's file; returns the points that it must get. A file that is there already stays."""
    content, points = submission(learner, release)
    folder = target / "submitted" / learner.student / lesson
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{lesson}.ipynb"
    if not path.is_file() or path.read_bytes() != content:
        path.write_bytes(content)
    (folder / "timestamp.txt").write_text("2026-11-20 12:00:00 UTC", "utf-8")
    return points


def _enrol(target: Path, people: Sequence[Learner]) -> None:
    """Tell the gradebook the learners' names, by nbgrader's own command."""
    with (target / "roster.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "first_name", "last_name"])
        for learner in people:
            first, _, last = learner.name.rpartition(" ")
            rows.writerow([learner.student, first, last])
    command = [sys.executable, "-m", "nbgrader", "db", "student", "import", "roster.csv", "--log-level=ERROR"]
    done = subprocess.run(command, cwd=target, env=quiet_environment(), capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise CourseError(f"nbgrader could not enrol the class: {lines[-1] if lines else 'no message'}")
