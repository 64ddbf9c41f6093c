"""Formulas as MathML: those of the lessons are drawn, none brings anything else along."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from autograder.gradebook.formulas import mathml
from autograder.gradebook.pages import markdown_html
from autograder.submission import nbformat

SOLUTIONS = Path(__file__).resolve().parents[2] / "solutions"
LESSONS = sorted(SOLUTIONS.glob("*/*.ipynb"))


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_every_formula_of_a_lesson_is_drawn(lesson: Path) -> None:
    cells = nbformat().read(lesson, 4).cells
    html = "".join(markdown_html(cell.source) for cell in cells if cell.cell_type == "markdown")
    formulas = re.findall("<math.*?</math>", html)
    assert len(formulas) > 10
    assert [formula for formula in formulas if "\\" in formula] == []  # a command that was not understood
    assert re.findall(r"\$[^$<>]+\$|<code>[^<]*\\[a-z]+\{", html) == []  # a formula that was left


def test_a_formula_becomes_mathml() -> None:
    html = mathml(r"\frac{x}{1-p}", display=False)
    assert html.startswith('<math display="inline">')
    assert "<mfrac>" in html


@pytest.mark.parametrize(
    "latex", [r"\text{<script>x</script>}", r"\href{javascript:x}{y}", r"\style{color:red}{y}", r"\class{btn}{y}"]
)
def test_a_formula_can_not_bring_html_or_links(latex: str) -> None:
    html = mathml(latex, display=True)
    assert "<script" not in html
    assert not re.search(r"<[^>]* (href|style|class|id)=", html)


@pytest.mark.parametrize("latex", ["", "{", r"\frac", r"\begin{cases}", "{" * 900, "x" * 5000, r"\left("])
def test_what_is_no_formula_is_shown_as_it_is_or_drawn(latex: str) -> None:
    assert mathml(latex, display=False).startswith(("<code>", "<math"))


@pytest.mark.parametrize(
    ("markdown", "kind"),
    [
        ("$x$", "inline"),
        ("$$x$$", "block"),
        (r"\\(x\\)", "inline"),
        (r"\\[x\\]", "block"),
        (r"\begin{align}x &= 1 \\ y &= 2\end{align}", "block"),
    ],
)
def test_formulas_are_found_in_markdown(markdown: str, kind: str) -> None:
    assert f'<math display="{kind}">' in markdown_html(f"Look: {markdown}")


@pytest.mark.parametrize("markdown", ["`$x$`", "    $x$", "```\n$x$\n```", r"\$5 and \$6", "costs 5$"])
def test_code_and_money_are_no_formulas(markdown: str) -> None:
    assert "<math" not in markdown_html(markdown)


def test_a_formula_in_the_words_for_a_picture_stays_there() -> None:
    html = markdown_html('![$a" onerror="x$](dot.svg)')
    assert "<math" not in html
    assert " onerror=" not in re.sub(r'alt="[^"]*"', "", html)
