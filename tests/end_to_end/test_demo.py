"""The simulated class: everybody gets the points that they were built to get, whatever the others do."""

import json
import re

import pytest

from autograder import demo, gradebook, notebooks
from autograder.demo import KINDS, LESSON, main, simulate, source_of, submission
from autograder.exercise import CourseError, Exercise
from autograder.exercises import EXERCISES
from autograder.judge import try_out
from autograder.report import read_results
from autograder.submission import nbformat, parse, role_of

IDS = ("dropout.inverted_dropout", "dropout.classic_dropout", "dropout.spatial_dropout")
RECORDS = [EXERCISES[id] for id in IDS]
PATIENCE = 20  # seconds for a cell: enough to import torch on a busy machine
SETUP = """# %% role="setup"
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from autograder.check import check

torch.set_num_threads(1)

"""
CELLS = """# %% exercise="{id}" role="solution"
def {answer}(*args):
    ### BEGIN SOLUTION
    return args[0]
    ### END SOLUTION

# %% exercise="{id}" role="check"
check("{id}", {answer})

"""


@pytest.fixture(scope="session")
def course(tmp_path_factory):
    """A checkout with a lesson of three exercises; its source notebook is there, its release is not."""
    root = tmp_path_factory.mktemp("course")
    folder = root / "solutions" / LESSON
    folder.mkdir(parents=True)
    config = notebooks.course_root() / "nbgrader_config.py"
    (root / "nbgrader_config.py").write_text(config.read_text("utf-8"), "utf-8")
    cells = "".join(CELLS.format(id=record.id, answer=record.answer) for record in RECORDS)
    (folder / f"{LESSON}.py").write_text(SETUP + cells, "utf-8")
    notebook = notebooks.source_to_notebook(folder / f"{LESSON}.py", {record.id: record for record in RECORDS})
    (folder / f"{LESSON}.ipynb").write_text(nbformat().writes(notebook), "utf-8")
    return root


@pytest.fixture(scope="session")
def release(course):
    """Near enough to a release: the cells and their metadata are the same."""
    return (course / "solutions" / LESSON / f"{LESSON}.ipynb").read_bytes()


# ---------------------------------------------------------------- the class


def test_the_same_seed_gives_the_same_class():
    assert simulate(RECORDS, 24, 8) == simulate(RECORDS, 24, 8)
    assert simulate(RECORDS, 24, 8) != simulate(RECORDS, 24, 9)


@pytest.mark.parametrize("size", [1, 5, len(KINDS), 24, 60])
def test_ids_are_unique_and_safe_for_every_file_system(size):
    people = simulate(RECORDS, size, 8)
    ids = [learner.student for learner in people]
    assert len({id.casefold() for id in ids}) == size
    assert not [id for id in ids if re.search(r'[<>:"/\\|?*\x00-\x1f]', id) or id.endswith((".", " "))]


def test_every_kind_is_in_a_class_that_is_large_enough():
    kinds = [learner.kind for learner in simulate(RECORDS, 24, 8)]
    assert set(KINDS) | {"ordinary"} == set(kinds)
    assert kinds.count("ordinary") == 12


def test_a_name_holds_markup():
    assert any("<script>" in learner.name for learner in simulate(RECORDS, 24, 8))


def test_a_class_of_nobody_is_refused():
    with pytest.raises(CourseError, match="at least one learner"):
        simulate(RECORDS, 0, 8)


def test_the_ordinary_learners_differ_in_ability():
    right = {variant.right for record in RECORDS for variant in record.variants}
    shares = [
        sum(answer in right for answer in learner.answers.values()) / len(RECORDS)
        for learner in simulate(RECORDS, 60, 8)
        if learner.kind == "ordinary"
    ]
    assert max(shares) == 1 and min(shares) == 0 and 0.4 < sum(shares) / len(shares) < 0.9


# ---------------------------------------------------------------- what they hand in


@pytest.mark.parametrize("kind", sorted({*KINDS, "ordinary"}))
def test_a_submission_is_deterministic_and_worth_what_is_possible(release, kind):
    learner = next(one for one in simulate(RECORDS, 24, 8) if one.kind == kind)
    content, points = submission(learner, release)
    assert (content, points) == submission(learner, release)
    assert 0 <= points <= sum(record.points for record in RECORDS)
    if kind != "not json":
        assert len(parse(content, "it").cells) >= 6


def test_a_blank_submission_is_the_release_but_for_nothing(release):
    learner = next(one for one in simulate(RECORDS, 24, 8) if one.kind == "blank")
    content, points = submission(learner, release)
    assert points == 0
    assert [cell.source for cell in parse(content, "it").cells] == [c.source for c in parse(release, "release").cells]


CODED = [record for record in EXERCISES.values() if isinstance(record, Exercise)]
ANSWERS = [(record, thing) for record in CODED for thing in (*record.misconceptions, *record.variants)]


@pytest.mark.parametrize(("record", "thing"), ANSWERS, ids=lambda value: getattr(value, "id", ""))
def test_every_answer_of_the_catalogue_is_a_cell_that_stands_on_its_own(record, thing):
    """With the names of the lesson's first cell only: numpy, torch, nn and F."""
    answer = getattr(thing, "right", None) or thing.wrong
    cell = source_of(answer, record.answer)
    import numpy
    import torch

    scope = {"np": numpy, "torch": torch, "nn": torch.nn, "F": torch.nn.functional, "__name__": "a_notebook"}
    exec(compile(cell, "cell", "exec"), scope)
    here = scope[record.answer]
    unknown = _undefined(here, scope)
    assert not unknown


def _undefined(thing, scope):
    """The global names that the code uses and that are nowhere defined."""
    import builtins
    import types

    found, codes = set(), []
    functions = vars(thing).values() if isinstance(thing, type) else [thing]
    codes = [f.__code__ for f in functions if isinstance(f, types.FunctionType)]
    while codes:
        code = codes.pop()
        codes += [const for const in code.co_consts if isinstance(const, types.CodeType)]
        import dis

        found |= {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return {name for name in found if name not in scope and not hasattr(builtins, name)}


class _Base:
    pass


def _twice(x):
    return 2 * x if x < 8 else _twice(x / 2)


class Answer(_Base):
    def __call__(self, x):
        return _twice(x)


def test_an_answer_brings_along_what_it_uses():
    cell = source_of(Answer, "doubled")
    scope = {}
    exec(cell, scope)
    assert scope["doubled"]()(3) == 6
    assert cell.endswith("\n\n\ndoubled = Answer")
    assert source_of(_twice, "_twice").count("def _twice") == 1


# ---------------------------------------------------------------- the folder


def test_a_folder_that_is_not_a_demos_is_left_alone(course, tmp_path):
    precious = tmp_path / "thesis.txt"
    precious.write_text("years of work")
    for fresh in (False, True):
        with pytest.raises(CourseError, match="holds something else than a demo"):
            main(tmp_path, learners=1, source=course, fresh=fresh)
    assert precious.read_text() == "years of work"


def test_a_file_is_left_alone(course, tmp_path):
    path = tmp_path / "file"
    path.write_text("years of work")
    with pytest.raises(CourseError, match="is a file"):
        main(path, learners=1, source=course)
    assert path.read_text() == "years of work"


@pytest.mark.parametrize(("content", "words"), [('{"lesson": "other"}', "another class"), ("{", "is damaged")])
def test_another_demo_is_not_mixed_with_this_one(course, tmp_path, content, words):
    (tmp_path / demo.MARKER).write_text(content)
    with pytest.raises(CourseError, match=f"{words}.*--fresh"):
        main(tmp_path, learners=1, source=course)


# ---------------------------------------------------------------- start to end


@pytest.fixture(scope="session")
def graded(course, tmp_path_factory):
    """A class with one of every kind and four ordinary learners, graded once for all tests below."""
    said = []
    demo.CELL_SECONDS, before = PATIENCE, demo.CELL_SECONDS
    try:
        folder = tmp_path_factory.mktemp("demo") / "class"
        result = main(folder, learners=len(KINDS) + 4, seed=8, source=course, say=said.append)
    finally:
        demo.CELL_SECONDS = before
    return folder, result, "\n".join(said)


@pytest.mark.slow
def test_everybody_gets_the_points_expected(graded):
    _, result, said = graded
    size = len(KINDS) + 4
    assert f"{size} of {size} learners got exactly the points that they were built to get." in said
    assert said.count(" ✓") == size and " ✗" not in said
    assert result == 0


@pytest.mark.slow
def test_each_kind_is_graded_as_it_should_be(graded):
    folder, _, _ = graded
    results = {result.student: result for result in read_results(LESSON, folder)}
    people = {learner.kind: results[learner.student] for learner in simulate(RECORDS, len(KINDS) + 4, 8)}
    said = {kind: " ".join(result.problems) for kind, result in people.items()}
    assert people["blank"].score == people["not json"].score == 0
    assert not said["ordinary"] and not said["stderr"] and not said["blank"]
    assert "Python itself ended" in said["crash"]
    assert f"{PATIENCE} s" in said["endless"]
    assert "SyntaxError" in said["syntax"]
    assert "is not JSON" in said["not json"]
    assert "points were changed" in said["points changed"]
    assert "was missing" in said["check deleted"]
    assert "was there twice" in said["check copied"]
    assert "lost its metadata" in said["metadata stripped"]
    assert "tagged to be skipped" in said["check skipped"]
    assert people["stderr"].exercises[0].status == "full"
    assert [done.status for done in people["crash"].exercises[1:]] == ["not run", "not run"]


@pytest.mark.slow
def test_the_page_names_misconceptions_and_escapes_names(graded):
    folder, _, _ = graded
    html = (folder / "reports" / f"{LESSON}.html").read_text("utf-8")
    named = {d.misconception for r in read_results(LESSON, folder) for d in r.exercises if d.misconception}
    assert len(named) >= 3
    assert all(f">{name} <" in html for name in named)
    assert "&lt;script&gt;alert(" in html and "<script" not in html


@pytest.mark.slow
def test_everybody_gets_feedback(graded):
    folder, _, _ = graded
    assert len(list((folder / "feedback").glob(f"*/{LESSON}/*.html"))) == len(KINDS) + 4


@pytest.mark.slow
def test_the_gradebook_knows_names_and_the_same_points(graded):
    folder, _, said = graded
    rows = gradebook.scores(LESSON, folder)
    assert len(rows) == len(KINDS) + 4
    for row in rows:
        assert re.search(rf"^{re.escape(row.student)} +{row.score:g} ", said, re.MULTILINE)


@pytest.mark.slow
def test_a_second_run_grades_nobody_twice(graded, course):
    folder, _, _ = graded
    said = []
    before = {path: path.stat().st_mtime_ns for path in folder.glob("autograded/*/*/*.ipynb")}
    demo.CELL_SECONDS, patience = PATIENCE, demo.CELL_SECONDS
    try:
        assert main(folder, learners=len(KINDS) + 4, seed=8, source=course, say=said.append) == 0
    finally:
        demo.CELL_SECONDS = patience
    assert {path: path.stat().st_mtime_ns for path in folder.glob("autograded/*/*/*.ipynb")} == before
    assert f"  {len(KINDS) + 4} were graded before" in said


@pytest.mark.slow
def test_another_seed_in_the_same_folder_is_refused(graded, course):
    folder, _, _ = graded
    with pytest.raises(CourseError, match="--fresh"):
        main(folder, learners=len(KINDS) + 4, seed=9, source=course)
    assert json.loads((folder / demo.MARKER).read_text("utf-8"))["seed"] == 8


def test_the_check_cells_of_the_release_are_those_of_the_records(release):
    roles = [role_of(cell) for cell in parse(release, "the release").cells]
    assert [id for role, id in roles if role == "check"] == list(IDS)


def test_the_worth_of_an_answer_is_the_judges_score():
    record = RECORDS[0]
    wrong = record.misconceptions[-1].wrong
    assert demo._worth(record.id, wrong) == try_out(record, wrong, (1, 2)).score
