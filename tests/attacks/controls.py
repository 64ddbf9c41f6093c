"""E. Controls: honest work of every kind, noisy, odd, wrong in a known way, or blank. It must get what it is worth."""

from __future__ import annotations

import inspect
from typing import Any

from autograder.exercises import EXERCISES
from autograder.judge import try_out
from autograder.submission import nbformat

from .attack import CLASSIC, INVERTED, RIGHT, WORTH, Attack, HandIn, Scene, answered, as_bytes, code, with_notebook

__all__ = ["ATTACKS"]

FULL = sum(WORTH.values())


def unchanged(notebook: Any) -> None:
    pass


def noisy(id: str, does: str, source: str, **options: Any) -> Attack:
    """A right answer, in the midst of `source`."""
    options = {"classic": True, "honest": True, "earns": FULL} | options
    return code(f"E.{id}", does, f"{source.strip()}\n\n\n{RIGHT[INVERTED]}", **options)


def inside(id: str, does: str, line: str) -> Attack:
    """A right answer that does something noisy whenever it is called."""
    body = f"def inverted_dropout(x, p, mask):\n    {line}\n    return x * mask / (1 - p)"
    return code(f"E.{id}", does, body, classic=True, honest=True, earns=FULL)


def misconceptions() -> tuple[Attack, ...]:
    """Each catalogued mistake earns what the judge gives it outside any kernel, in our grader and (nothing) in stock's."""
    made = []
    for exercise in (INVERTED, CLASSIC):
        record = EXERCISES[exercise]
        for wrong in record.misconceptions[:4]:
            source = f"{inspect.getsource(wrong.wrong)}\n\n{record.answer} = {wrong.wrong.__name__}"
            made.append(
                with_notebook(
                    f"E.wrong_{record.answer}_{wrong.id}",
                    f"makes the mistake {wrong.id.replace('_', ' ')}",
                    unchanged,
                    {exercise: source},
                    earns=partial_credit(exercise, wrong),
                    honest=False,
                )
            )
    return tuple(made)


def partial_credit(exercise: str, wrong: Any) -> float:
    """What a mistake is worth by the record's criteria."""
    return try_out(EXERCISES[exercise], wrong.wrong, (1, 2)).score


def all_right(release: Any, scene: Scene) -> HandIn:
    return HandIn(as_bytes(answered(release, RIGHT)))


def in_another_cell(notebook: Any) -> None:
    """The answers stand in a cell of the learner's own, before the given ones, which are left with a comment."""
    both = nbformat().v4.new_code_cell("\n\n\n".join(RIGHT.values()), id="mine")
    notebook.cells.insert(1, both)


ATTACKS = (
    Attack("E.right", "answers everything rightly", all_right, FULL, honest=True),
    with_notebook("E.blank", "answers nothing", unchanged, {}),
    with_notebook("E.half", "answers one of two", unchanged, {CLASSIC: RIGHT[CLASSIC]}, honest=True),
    with_notebook("E.other_cell", "answers in a cell of its own", in_another_cell,
                  {INVERTED: "# see above", CLASSIC: "# see above"}, earns=FULL, honest=True),
    *misconceptions(),
    inside("warns", "warns whenever it is called", "import warnings; warnings.warn('careful')"),
    inside("logs", "logs whenever it is called", "import logging; logging.warning('careful')"),
    inside("stderr", "writes to stderr whenever it is called", "import sys; print('called', file=sys.stderr)"),
    inside("prints", "prints whenever it is called", "print('x', x, 'p', p, sep=chr(10))"),
    inside("descriptors", "writes to descriptors 1 and 2", "import os; os.write(1, b'one'), os.write(2, b'two')"),
    inside("numpy_errors", "divides by zero in numpy on the way", "np.array([1.0]) / np.array([0.0])"),
    inside("seeds", "sets every seed and the default dtype on the way", "torch.manual_seed(0); np.random.seed(0); __import__('random').seed(0)"),
    inside("display", "shows a figure's text whenever it is called", "from IPython.display import display; display('here')"),
    inside("timer", "sleeps a little", "import time; time.sleep(0.02)"),
    inside("errors_caught", "raises and catches errors of its own", "\n    try:\n        raise SystemExit(3)\n    except BaseException:\n        pass"),
    noisy("prints_a_lot", "prints 2 MB", "for _ in range(2_000):\n    print('x' * 1_000)"),
    noisy("progress", "shows a progress bar on stderr", "import sys, time\nfor i in range(50):\n    print(f'\\r{i}%', end='', file=sys.stderr)"),
    noisy("own_file", "writes a file and reads it again", "with open('mine.txt', 'w') as file:\n    file.write('3')\nassert open('mine.txt').read() == '3'"),
    noisy("temporary_file", "uses a temporary file", "import tempfile\nwith tempfile.NamedTemporaryFile() as file:\n    file.write(b'3')"),
    noisy("own_module", "imports a module and reads data that were handed in with it", "import mytools\nassert mytools.HALF == 0.5 and open('data/points.csv').read()",
          files={"mytools.py": "HALF = 0.5\n", "data/points.csv": "1,2\n"}),
    noisy("subprocess", "runs a program", "import subprocess\nprint(subprocess.run(['echo', 'hello'], capture_output=True, text=True).stdout)"),
    noisy("shell", "runs a shell line and a magic", "!echo hello\n%matplotlib inline\n%time 1 + 1"),
    noisy("threads", "works in threads", "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(4) as pool:\n    assert sum(pool.map(abs, range(9))) == 36"),
    noisy("processes", "works in processes", "import multiprocessing as mp\nwith mp.get_context('fork').Pool(2) as pool:\n    assert sum(pool.map(abs, range(9))) == 36"),
    noisy("await", "awaits at the top level", "import asyncio\nawait asyncio.sleep(0.01)"),
    noisy("figure", "draws a figure", "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"),
    noisy("error_before", "fails in a later line of the cell", f"{RIGHT[INVERTED]}\n\nif False:\n    pass"),
    noisy("trains", "trains a small net", "net = torch.nn.Linear(4, 1)\nstep = torch.optim.SGD(net.parameters(), lr=0.1)\n"
          "for _ in range(20):\n    step.zero_grad()\n    net(torch.ones(8, 4)).pow(2).mean().backward()\n    step.step()"),
    noisy("memory", "uses 200 MB", "much = np.ones(25_000_000)\nassert much.sum() == 25_000_000\ndel much"),
    noisy("unicode", "has umlauts, emoji and right-to-left text in its names", "größe = 'מידה 🎲'\nprint(größe)"),
)  # fmt: skip
