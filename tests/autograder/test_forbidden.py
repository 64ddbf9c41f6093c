"""Forbidden calls, found in the text of cells."""

import pytest
import torch  # noqa: F401  (re-exports are known by identity once it is imported)

from autograder.forbidden import forbidden_in_cells

FORBIDDEN = ("torch.nn.functional.dropout", "torch.nn.Dropout", "course_lib.dropout")
IMPORTS = "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        ([IMPORTS, "def answer(x):\n    return F.dropout(x)"], "torch.nn.functional.dropout"),
        (["from torch.nn.functional import dropout as d", "answer = lambda x: d(x)"], "torch.nn.functional.dropout"),
        (["from torch.nn.functional import dropout", "answer = dropout"], "torch.nn.functional.dropout"),
        (["from torch.nn.functional import *\ndef answer(x): return dropout(x)"], "torch.nn.functional.dropout"),
        ([IMPORTS, "class answer(nn.Dropout):\n    pass"], "torch.nn.Dropout"),
        ([IMPORTS + "helper = nn.Dropout(0.5)", "def answer(x):\n    return helper(x)"], "torch.nn.Dropout"),
        ([IMPORTS + "def a(x): return b(x)\ndef b(x): return F.dropout(x)\nanswer = a"], "torch.nn.functional.dropout"),
        ([IMPORTS, "def answer(x): return getattr(F, 'dropout')(x)"], "torch.nn.functional.dropout"),
        (
            ["import importlib\ndef answer(x): return importlib.import_module('torch.nn').Dropout()(x)"],
            "torch.nn.Dropout",
        ),
        (["def answer(x):\n    from course_lib import dropout as d\n    return d.mc_dropout(x)"], "course_lib.dropout"),
        (["def answer(x):\n    import course_lib.dropout\n    return course_lib.dropout.f(x)"], "course_lib.dropout"),
        ([IMPORTS, "def answer(x): return torch.nn.modules.dropout.Dropout()(x)"], "torch.nn.Dropout"),
        ([IMPORTS + "%matplotlib inline\n!ls\n", "if True:\n    def answer(x): return F.dropout(x)"], FORBIDDEN[0]),
        ([IMPORTS, "this is ( no Python", "def answer(x): return F.dropout(x)"], "torch.nn.functional.dropout"),
    ],
)
def test_a_forbidden_call_is_found_however_it_is_written(cells: list[str], found: str) -> None:
    assert forbidden_in_cells(cells, "answer", FORBIDDEN) == (found,)


@pytest.mark.parametrize(
    "cells",
    [
        [IMPORTS, "def answer(x, mask):\n    return x * mask"],
        [IMPORTS, "def other(x): return F.dropout(x)", "def answer(x): return F.relu(x)"],
        [IMPORTS, "def answer(x): return F.dropout(x)", "def answer(x): return x"],  # mended since
        ["dropout = 0.5\ndef answer(x): return x * dropout"],
        [IMPORTS, "def answer(x):\n    'not F.dropout(x)'\n    return F.dropout2d(x)"],
        ["import os\nanswer = os.no.such.thing"],
        [],
    ],
)
def test_an_honest_answer_is_not_suspected(cells: list[str]) -> None:
    assert forbidden_in_cells(cells, "answer", FORBIDDEN) == ()


def test_cells_that_refer_to_each_other_come_to_an_end() -> None:
    cells = ["def a(x): return b(x)\ndef b(x): return a(x)\nanswer = answer_ = a", "x" * 10, "((" * 5000]
    assert forbidden_in_cells(cells, "answer", FORBIDDEN) == ()
