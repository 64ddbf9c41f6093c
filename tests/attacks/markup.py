"""D. The boundary to people: HTML, SVG, Markdown, ANSI and formulas, in outputs, answers, errors and names."""

from __future__ import annotations

from typing import Any

from autograder.submission import nbformat

from .attack import CLASSIC, RIGHT, HandIn, Scene, answered, as_bytes, attack, code

__all__ = ["ATTACKS"]

SCRIPT = "<script>window.tdnPwned = 1</script>"
IMAGE = "<img src='x' onerror='window.tdnPwned = 1'>"
SHOW = "from IPython.display import HTML, SVG, Javascript, Latex, Markdown, display\n"

OUTPUTS = (
    code("D.html_output", "shows HTML with a script and an event handler", f'{SHOW}display(HTML("{SCRIPT}{IMAGE}"))'),
    code("D.svg_output", "shows an SVG that carries a script", f"""{SHOW}
display(SVG("<svg xmlns='http://www.w3.org/2000/svg' onload='tdnPwned=1'><script>tdnPwned = 1</script></svg>"))
"""),
    code("D.javascript_output", "shows JavaScript", f'{SHOW}display(Javascript("window.tdnPwned = 1"))'),
    code("D.markdown_output", "shows Markdown with a script and a javascript: link", f"""{SHOW}
display(Markdown("{SCRIPT}{IMAGE} [click](javascript:tdnPwned)"))
"""),
    code("D.latex_output", "shows formulas with markup inside", f'{SHOW}display(Latex("$x</script>{SCRIPT}{IMAGE}$"))'),
    code("D.widget_output", "shows a widget view and unknown types with markup as text", f"""{SHOW}
markup = "{SCRIPT}{IMAGE}"
display({{"application/vnd.jupyter.widget-view+json": {{"model_id": markup}}, "text/plain": markup,
          "text/x-unknown": markup, "image/png": "' onerror='tdnPwned=1' x='", "image/svg+xml": markup}}, raw=True)
display({{"image/png": "iVBORw0KGgo="}}, raw=True, metadata={{"image/png": {{"width": "1' onerror='tdnPwned=1"}}}})
"""),
    code("D.ansi_output", "prints ANSI sequences and markup", f"""
print("\\x1b]8;;javascript:tdnPwned\\x07click\\x1b]8;;\\x07 \\x1b[31m{SCRIPT}\\x1b[2J {IMAGE}")
import sys
print("\\x1b[0m{SCRIPT}{IMAGE}", file=sys.stderr)
"""),
    code("D.html_error", "raises an error whose name and text are markup", f"""
kind = type("{IMAGE}", (Exception,), {{}})
def inverted_dropout(x, p, mask):
    raise kind("{SCRIPT}{IMAGE} [click](javascript:tdnPwned)")
raise kind("{SCRIPT}")
"""),
    code("D.html_returned", "returns text that is markup, in place of a tensor", f"""
class Named:
    pass
Named.__name__ = Named.__qualname__ = "{IMAGE}"
def inverted_dropout(x, p, mask):
    return Named()
def classic_dropout(x, p, mask, training):
    return "{SCRIPT}{IMAGE}"
"""),
    code("D.html_in_code", "has markup in comments and names of its code", f"""
# {SCRIPT} {IMAGE} </pre></div> -->
def inverted_dropout(x, p, mask):
    '''{SCRIPT}'''
    return x
"""),
)  # fmt: skip


@attack("D.html_in_text", "has markup in a text cell")
def html_in_text(release: Any, scene: Scene) -> HandIn:
    notebook = answered(release, {})
    text = f"{SCRIPT} {IMAGE} [click](javascript:tdnPwned) <iframe srcdoc=\"{SCRIPT}\"></iframe> <a href='javascript:tdnPwned'>"
    notebook.cells.append(nbformat().v4.new_markdown_cell(text, id="text"))
    notebook.cells.append(nbformat().v4.new_raw_cell(text, id="raw"))
    return HandIn(as_bytes(notebook))


@attack("D.html_attachment", "has markup in an attachment's name and type")
def html_attachment(release: Any, scene: Scene) -> HandIn:
    notebook = answered(release, {})
    cell = nbformat().v4.new_markdown_cell("![x](attachment:a.svg) ![y](attachment:x'onerror='tdnPwned=1)", id="image")
    cell.attachments = {
        "a.svg": {"image/svg+xml": SCRIPT},
        "x'onerror='tdnPwned=1": {f"image/png{IMAGE}": "x' onerror='tdnPwned=1"},
    }
    notebook.cells.append(cell)
    return HandIn(as_bytes(notebook))


@attack("D.html_file_name", "hands in files whose names are markup", earns=2.0)
def html_file_name(release: Any, scene: Scene) -> HandIn:
    notebook = answered(release, {CLASSIC: RIGHT[CLASSIC]})
    return HandIn(as_bytes(notebook), {"<img src=x onerror=tdnPwned=1>.txt": b"x", "=HYPERLINK(1).csv": b"x"})


def named(id: str, tries: str, student: str, *, honest: bool = True) -> Any:
    """An honest notebook of a learner with an odd id: its points count, but where no roster could hold such an id."""

    def make(release: Any, scene: Scene) -> HandIn:
        return HandIn(as_bytes(answered(release, RIGHT)))

    return attack(id, tries, earns=5.0, honest=honest, student=student)(make)


NAMES = (
    named("D.student_markup", "comes from a learner whose id is markup", "m<img src=x onerror=tdnPwned=1>"),
    named("D.student_formula", "comes from a learner whose id is a spreadsheet formula", "=HYPERLINK(1)"),
    named("D.student_pattern", "comes from a learner whose id is a file pattern", "m[a-z]*{x}?", honest=False),
    named("D.student_option", "comes from a learner whose id looks like an option", "--force"),
    named("D.student_sql", "comes from a learner whose id is SQL", "m'; DROP TABLE grade; --"),
    named("D.student_unicode", "comes from a learner whose id is long and written from right to left", "m\u202eنور-طبقة-" + "ש" * 60),
    named("D.student_spaces", "comes from a learner whose id has spaces", "m a  b"),
    named("D.student_lines", "comes from a learner whose id has a tab and a line break", "m a\tb\nc", honest=False),
)  # fmt: skip

ATTACKS = (*OUTPUTS, html_in_text, html_attachment, html_file_name, *NAMES)
