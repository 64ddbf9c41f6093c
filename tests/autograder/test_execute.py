"""Notebooks that mean no good, each in a real kernel: the run always comes back, with a reason for what was lost."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_course as tiny

from autograder import execute
from autograder.evidence import DEFAULT_LIMITS, Limits, Ran, Task, pack, unpack
from autograder.execute import check_notebook, judged_by_now, make_task, perform
from autograder.exercise import CourseError
from autograder.provisioner import effort, start_kernel
from autograder.submission import NotebookError, Outcome

RELEASE = tiny.released()
pytestmark = pytest.mark.usefixtures("tiny_registered")


def checked(folder: Path, limits: Limits | None = None, **answers: str) -> dict[str, Outcome]:
    """The outcomes of a notebook whose other answers are right."""
    sources = tiny.ANSWERS | {f"tiny.{name}": source for name, source in answers.items()}
    path = folder / "mine.ipynb"
    path.write_text(json.dumps(tiny.answered(RELEASE, sources)), "utf-8")
    return {found.exercise: found for found in check_notebook(path, RELEASE, limits or Limits())}


def test_right_answers_earn_all_and_a_demo_cell_that_would_fail_is_skipped(tmp_path: Path) -> None:
    found = checked(tmp_path)
    assert {name: (o.score, o.max_score) for name, o in found.items()} == {
        "tiny.double": (3.0, 3.0),
        "tiny.square": (2.0, 2.0),
    }


def test_partial_credit_and_a_broken_cell_in_one_notebook(tmp_path: Path) -> None:
    found = checked(tmp_path, double="def double(x):\n    return x * x", square="def square(x:")
    assert (found["tiny.double"].score, found["tiny.double"].message) == (2.0, "For 0.5 you return 0.25.")
    assert found["tiny.square"].score == 0
    assert found["tiny.square"].message.startswith(
        "There was nothing to check: the cell with your answer stopped. Synt"
    )


def test_edits_to_locked_cells_do_not_matter(tmp_path: Path) -> None:
    notebook = tiny.answered(RELEASE, {**tiny.ANSWERS, "tiny.square": "def square(x):\n    return 0"})
    tiny.find(notebook, "tiny.square", "check").source = "2.0"
    path = tmp_path / "mine.ipynb"
    path.write_text(json.dumps(notebook), "utf-8")
    assert [found.score for found in check_notebook(path, RELEASE)] == [3.0, 0.0]


def test_a_dead_kernel_costs_what_is_left_and_says_so(tmp_path: Path) -> None:
    found = checked(tmp_path, square="import os\nos._exit(3)")
    assert found["tiny.double"].score == 3.0
    assert found["tiny.square"].score == 0.0
    assert found["tiny.square"].message == (
        "This exercise was not checked: Python itself ended while it ran the solution cell of tiny.square: "
        "it ended itself with exit code 3."
    )


# ---------------------------------------------------------------- in the sandbox


def task_of(limits: Limits = DEFAULT_LIMITS, seeds: dict[str, tuple[int]] | None = None, **answers: str) -> Task:
    sources = tiny.ANSWERS | {f"tiny.{name}": source for name, source in answers.items()}
    return make_task(tiny.answered(RELEASE, sources), tiny.LESSON, seeds, limits=limits)


def ran_of(limits: Limits = DEFAULT_LIMITS, **answers: str) -> Ran:
    return unpack(perform(task_of(limits, **answers)))


def verdict(ran: Ran, name: str) -> tuple[float, str]:
    found = ran.verdicts[f"tiny.{name}"]["verdict"]
    return found["score"], (found["diagnosis"] or {}).get("message", "")


IGNORES_INTERRUPTS = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
time.sleep(600)
"""


def test_right_answers_earn_all_in_the_sandbox_too() -> None:
    ran = ran_of()
    assert (verdict(ran, "double"), verdict(ran, "square")) == ((3.0, ""), (2.0, ""))
    assert not ran.stopped


def test_an_endless_loop_costs_its_own_exercise_only() -> None:
    ran = ran_of(Limits(cell=1), double="while True:\n    pass")
    assert verdict(ran, "double")[1] == (
        "There was nothing to check: the cell with your answer stopped. "
        "This cell was stopped: a cell may run for 1 s, a notebook for 300 s."
    )
    assert verdict(ran, "square")[0] == 2.0


def test_an_answer_that_loops_when_it_is_called_costs_its_own_exercise_only() -> None:
    ran = ran_of(Limits(probe=1), double="def double(x):\n    while True:\n        pass")
    assert verdict(ran, "double")[1] == "Your answer was stopped: its cases may take 1 s together."
    assert verdict(ran, "square")[0] == 2.0


@pytest.mark.parametrize(("willing", "points"), [(True, 3.0), (False, 0.0)])
def test_a_busy_machine_costs_nobody_points_and_a_sleeping_answer_wins_no_time(
    monkeypatch: pytest.MonkeyPatch, willing: bool, points: float
) -> None:
    """Limits count the kernel's own processor time, as long as it would run if it were let."""
    monkeypatch.setattr(execute, "effort", lambda manager: (0.0, willing))
    slow = "import time\nslept = []\ndef double(x):\n    slept or slept.append(time.sleep(3))\n    return x + x"
    assert verdict(ran_of(Limits(probe=1), double=slow), "double")[0] == points


def test_effort_is_what_the_kernel_has_worked_and_whether_it_works() -> None:
    async def looks() -> list[tuple[float, bool]]:
        manager = await start_kernel()
        client = manager.client()
        client.start_channels()
        await client.wait_for_ready()
        while effort(manager)[1]:  # it still puts itself in order
            await asyncio.sleep(0.1)
        found = [effort(manager)]
        client.execute("while True: pass")
        while effort(manager)[0] < found[0][0] + 0.5:
            await asyncio.sleep(0.1)
        found.append(effort(manager))
        client.stop_channels()
        await manager.shutdown_kernel(now=True)
        return [*found, effort(manager)]

    (rested, _), (worked, awake), gone = asyncio.run(looks())
    assert worked > rested + 0.4 and awake
    assert gone == (math.inf, False)


def test_a_loop_that_ignores_the_interrupt_is_killed() -> None:
    ran = ran_of(Limits(cell=2, grace=1), double=IGNORES_INTERRUPTS)
    for name in ("double", "square"):
        score, message = verdict(ran, name)
        assert score == 0 and message.endswith("The solution cell of tiny.double hung and could not be interrupted.")


def test_the_whole_notebook_has_a_limit_too() -> None:
    score, message = verdict(ran_of(Limits(cell=30, notebook=1), double="import time\ntime.sleep(20)"), "square")
    assert score == 0.0 and message.endswith("The notebook ran longer than 1 s.")


def test_a_flood_of_output_kills_the_kernel_and_one_large_output_is_cut() -> None:
    limits = Limits(cell=30, cell_output=100_000, flood=1_000_000)
    ran = ran_of(limits, double="while True:\n    print('x' * 10_000, flush=True)")
    assert verdict(ran, "square")[1].endswith("The solution cell of tiny.double put out more than 1 MB.")

    ran = ran_of(limits, double="print('x' * 300_000)\ndouble = lambda x: x + x")
    (outputs,) = (found for found in ran.outputs if found)
    assert [(output["output_type"], output["ename"]) for output in outputs] == [("error", "TooMuchOutput")]
    assert verdict(ran, "double") == (3.0, "")


def test_an_answer_that_floods_while_it_is_checked_stops_the_notebook() -> None:
    loud = "import os\ndef double(x):\n    while True:\n        os.write(1, b'x' * 10_000)"
    shown = "from IPython.display import display_html\ndef double(x):\n    while True:\n"
    shown += "        get_ipython().display_pub.publish({'text/plain': 'x' * 100_000})"
    assert verdict(ran_of(Limits(probe=2), double=loud), "double")[0] == 0
    assert "put out more than 1 MB" in ran_of(Limits(probe=5, flood=1_000_000), double=shown).stopped


def test_a_silenced_traceback_is_still_an_error() -> None:
    ran = ran_of(double="get_ipython().showtraceback = lambda *a, **k: None\nraise ValueError('hidden')")
    assert verdict(ran, "double")[1].endswith("the cell with your answer stopped. ValueError: hidden")


def test_each_learner_gets_cases_of_their_own() -> None:
    """A table of the visible cases' answers passes those, and no others."""
    table = "def square(x):\n    return {3.0: 9.0, 5.0: 25.0, 6.0: 36.0}[x]"
    assert verdict(unpack(perform(task_of(square=table))), "square")[0] == 2.0
    seeds = {"tiny.square": (77,)}
    score, message = verdict(unpack(perform(task_of(seeds=seeds, square=table))), "square")
    assert score == 0 and message.startswith("KeyError in the case")


@pytest.mark.parametrize(
    "code",
    [
        "get_ipython().kernel.comm_manager.targets.clear()",
        "import autograder.probe.kernel as k\nk.answer = lambda *a: 1/0",
        "get_ipython().kernel.shell_handlers.pop('comm_open')",
    ],
)
def test_who_breaks_the_probe_gets_no_points(code: str) -> None:
    ran = ran_of(Limits(probe=2), double=f"def double(x):\n    return x + x\n\n{code}")
    score, message = verdict(ran, "double")
    assert score == 0
    assert message.startswith(("The check got no answer from the kernel", "Your answer was stopped"))


def test_two_answers_are_none() -> None:
    """Nobody may say a second thing after they have seen what the first was compared with."""
    twice = """
import autograder.probe.kernel as kernel
from ipykernel.comm import Comm
first = Comm.send
Comm.send = lambda self, *a, **k: (first(self, *a, **k), first(self, *a, **k))
def double(x):
    return x + x
"""
    assert verdict(ran_of(double=twice), "double") == (
        0.0,
        "The check got 2 answers from the kernel, where one is expected.",
    )


def test_a_forbidden_call_is_found_in_the_source_though_the_kernel_hides_it() -> None:
    hiding = """
import autograder.probe.collect as collect
collect.watched = lambda *a: __import__("contextlib").nullcontext()
collect.forbidden_in_source = lambda *a: ()
import numpy
def double(x):
    return float(numpy.ldexp(x, 1))
"""
    score, message = verdict(ran_of(double=hiding), "double")
    assert score == 0 and message.startswith("Your answer calls numpy.ldexp")


# ---------------------------------------------------------------- tasks and evidence


def test_the_key_follows_everything_that_decides_the_evidence() -> None:
    tasks = [
        task_of(),
        task_of(double="def double(x):\n    return 2 * x"),
        task_of(Limits(cell=59)),
        task_of(seeds={"tiny.double": (9,)}),
    ]
    assert len({task.key for task in tasks}) == len(tasks)
    assert task_of().key == task_of().key


def test_kept_evidence_is_not_run_again_and_only_outdated_verdicts_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    from autograder import execute

    task = task_of(square="def square(x):\n    return x + x")
    kept = perform(task)
    monkeypatch.setattr(execute, "_run", None)
    assert unpack(perform(task, kept)).answers == unpack(kept).answers
    assert judged_by_now(unpack(kept), task)

    judged = []
    real = execute._verdict
    monkeypatch.setattr(
        execute, "_version", lambda name: "new" if name == "tiny.square" else execute.judge_version(tiny.RECORDS[name])
    )
    monkeypatch.setattr(execute, "_verdict", lambda task, ran, name: (judged.append(name), real(task, ran, name))[1])
    assert not judged_by_now(unpack(kept), task)
    again = unpack(perform(task, kept))
    assert judged == ["tiny.square"]
    assert again.verdicts["tiny.square"]["verdict"] == unpack(kept).verdicts["tiny.square"]["verdict"]


def test_a_task_of_another_version_of_the_course_is_refused() -> None:
    task = task_of()
    kept = unpack(perform(task))
    other = replace(task, requests={**task.requests, "tiny.double": b"something else"})
    with pytest.raises(CourseError, match="another version of the course made this task"):
        perform(other, pack(replace(kept, verdicts={})))


def test_a_notebook_without_one_of_its_cells_is_refused_before_a_kernel_starts(tmp_path: Path) -> None:
    notebook: Any = tiny.answered(RELEASE, {})
    notebook.cells.remove(tiny.find(notebook, "tiny.double", "check"))
    path = tmp_path / "mine.ipynb"
    path.write_text(json.dumps(notebook), "utf-8")
    with pytest.raises(NotebookError, match=r"the check cell of exercise tiny.double is missing"):
        check_notebook(path, RELEASE)
