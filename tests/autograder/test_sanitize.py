"""What a learner made and others open: what stays, and that nothing in it can run. `test_pages.py` has the browser."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import hostile
import pytest

from autograder.gradebook.sanitize import (
    ATTRIBUTES,
    CLASSES,
    TAGS,
    Sanitize,
    clean_html,
    neutral_markdown,
    safe_output,
)
from autograder.submission import VERDICT, nbformat


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def tags(html: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(html)
    return parser.found


# ---------------------------------------------------------------- HTML


@pytest.mark.parametrize("html", hostile.HTML)
def test_only_plain_tags_and_attributes_are_left(html: str) -> None:
    for tag, attributes in tags(clean_html(html)):
        assert tag in TAGS
        assert set(attributes) <= ATTRIBUTES["*"] | ATTRIBUTES.get(tag, set()) | {"class", "rel"}
        assert set((attributes.get("class") or "").split()) <= CLASSES
        assert hostile.OUT not in (attributes.get("src") or "")
        assert "javascript" not in (attributes.get("href") or "")


@pytest.mark.parametrize(
    "html",
    [
        '<table class="dataframe"><thead><tr><th>a</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table>',
        '<div class="tdn-card part" role="group"><ul><li><b title="passed">✓</b> output</li></ul></div>',
        "<details><summary>Hint 1 of 2</summary><p>Look at x.</p></details>",
        f'<img src="data:image/png;base64,{hostile.DOT}" alt="a dot">',
        '<img src="figures/dot.svg" alt="a dot">',
    ],
)
def test_what_lessons_and_pandas_show_stays_as_it_is(html: str) -> None:
    assert clean_html(html) == html


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("https://pytorch.org/docs", True),
        ("mailto:ada@example.org", True),
        ("evil.html", False),
        ("/logout", False),
        ("//other.example", False),
        ("data:text/html,x", False),
        ("javascript:1", False),
    ],
)
def test_a_link_leads_out_of_the_server_or_nowhere(address: str, kept: bool) -> None:
    [(_, attributes)] = tags(clean_html(f'<a href="{address}">x</a>'))
    assert ("href" in attributes) == kept


# ---------------------------------------------------------------- Markdown


@pytest.mark.parametrize(
    "text",
    [
        "# Why\n\nBecause **a sum** is not a `product`, see [PyTorch](https://pytorch.org/docs) or [above](#why).",
        "x<sub>i</sub> is <b>not</b> x<br>if $a \\le b$ or 1 < 2",
        "![a dot](dot.svg) and ![pasted](attachment:image 1.png)",
        "| a | b |\n|:--|--:|\n| 1 | 2 |\n\n- [x] done\n- [ ] to do",
        "$$\\begin{cases} 0 & p \\\\ 1 & 1-p \\end{cases}$$",
        "```python\nfor x in range(3):\n    print(x[0])\n```",
    ],
)
def test_ordinary_markdown_is_left_alone(text: str) -> None:
    assert neutral_markdown(text, ["image 1.png"]) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<script>x</script>", "< script>x< /script>"),
        ("<b onclick=x>b</b>", "< b onclick=x>b</b>"),
        ("<!-- x --><?x?>", "< !-- x -->< ?x?>"),
        ("[c](javascript:x)", "[c] (javascript:x)"),
        ("[c](\n<javascript:x>)", "[c] (\n< javascript:x>)"),
        ("[r]: javascript:x", "[r] : javascript:x"),
        ("[c](evil.html)", "[c] (evil.html)"),
        ("[c](/logout)", "[c] (/logout)"),
        ("[c](../dot.svg)", "[c] (../dot.svg)"),
        ("![p](http://x.example/p.png)", "! [p](http://x.example/p.png)"),
        ("![p][r]", "! [p][r]"),
        ("![pasted](attachment:gone.png)", "! [pasted] (attachment:gone.png)"),
    ],
)
def test_what_could_become_active_is_taken_apart(text: str, left: str) -> None:
    assert neutral_markdown(text) == left


def test_taking_apart_twice_changes_nothing_more() -> None:
    for text in hostile.MARKDOWN:
        once = neutral_markdown(text)
        assert neutral_markdown(once) == once


# ---------------------------------------------------------------- outputs


def output(data: dict[str, Any], **more: Any) -> Any:
    return nbformat().from_dict({"output_type": "execute_result", "data": data, "metadata": {"x": 1}, **more})


def test_text_pictures_and_tables_stay_and_metadata_goes() -> None:
    data = {"text/plain": "a", "image/png": hostile.DOT, "text/html": "<table></table><p>b</p>"}
    safe = safe_output(output(data, execution_count=3))
    assert (safe.data, safe.metadata, safe.execution_count) == (data, {}, 3)


@pytest.mark.parametrize(
    ("data", "left"),
    [
        ({"application/javascript": "1", "text/plain": "a"}, {"text/plain": "a"}),
        ({"image/svg+xml": hostile.SVG, "text/plain": "a"}, {"text/plain": "a"}),
        ({"image/png": "bm8gcG5n", "text/plain": "a"}, {"text/plain": "a"}),
        ({"text/html": hostile.HTML[0], "text/plain": "a"}, {"text/plain": "a"}),
        ({"image/svg+xml": hostile.SVG}, {"text/plain": "(This output is of a kind that is not shown here.)"}),
        ({"text/plain": ["a", "b"]}, {"text/plain": "ab"}),
        ({"text/plain": 7}, {"text/plain": "(This output is of a kind that is not shown here.)"}),
    ],
)
def test_what_could_run_is_dropped_and_the_plain_text_stays(data: dict[str, Any], left: dict[str, Any]) -> None:
    assert safe_output(output(data)).data == left


def test_a_checks_own_account_stays_where_it_belongs() -> None:
    data = {"text/plain": "1.0", VERDICT: {"score": 1.0}}
    assert safe_output(output(data), verdict=True).data == data
    assert safe_output(output(data)).data == {"text/plain": "1.0"}


@pytest.mark.parametrize("kind", ["update_display_data", 7, None])
def test_an_output_of_no_known_type_is_dropped(kind: Any) -> None:
    assert safe_output({"output_type": kind, "data": {}}) is None


def test_the_whole_hostile_notebook_comes_out_valid() -> None:
    nb, _ = Sanitize().preprocess(hostile.notebook(*hostile.ODD), {})
    nbformat().validate(nb)
    assert "widgets" not in nb.metadata
