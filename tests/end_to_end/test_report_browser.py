"""The report in a browser: figures drawn, nothing run, nothing loaded, nothing wider than a phone."""

from urllib.parse import unquote

import pytest
from accessibility import scan
from browser import CHROMIUM_ARGUMENTS, chromium, require_browser

from autograder.report import (
    Change,
    ClassResults,
    ExerciseResult,
    Item,
    Part,
    StudentResult,
    anonymous,
    class_report,
    student_report,
)

pytestmark = pytest.mark.slow

LESSON = "08_dropout"
MARKUP = "<script>document.title='run'</script><img src=http://x.invalid/ onerror=\"document.title='run'\">"
ITEMS = tuple(
    Item(f"dropout.e{i}", f"Exercise {i}, with a name that is longer than any phone is wide", 4, ("Look.",))
    for i in range(12)
)


def one_exercise(item, points):
    status = {0: "zero", 4: "full"}.get(points, "partial")
    wrong = None if points == 4 else f"mistake_{points}"
    parts = (Part("output", points, 4, points == 4),)
    message = "" if points == 4 else f"{MARKUP} in a message"
    code = "def f(x):\n    return x + " + "1 + " * 60 + "1  # " + MARKUP
    return ExerciseResult(item.exercise, points, 4, status, message, wrong, "Next.", message, parts, code)


def one_student(number):
    done = tuple(one_exercise(item, (number + i * i) % 5) for i, item in enumerate(ITEMS))
    score = sum(one.score for one in done)
    changes = (Change("check of dropout.e1", "its points were changed", "gain"),) if number == 3 else ()
    names = {"first_name": "נועה" if number % 2 else MARKUP, "last_name": "A-very-long-name-without-any-blank" * 2}
    return StudentResult(f"s{number}", score, 48, done, changes=changes, seconds=2.0**number / 8, **names)


CLASS = ClassResults(LESSON, ITEMS, (*map(one_student, range(12)), StudentResult("zoe", 0, 0, set_aside=MARKUP)))
PAGES = {
    "class": class_report(CLASS, day="2026-11-21"),
    "anonymous": class_report(anonymous(CLASS)),
    "student": student_report(LESSON, CLASS.students[3], ITEMS, median_share=0.5),
    "nobody": class_report(ClassResults(LESSON)),
}


@pytest.fixture(scope="module")
def browser():
    require_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def shown(browser, tmp_path):
    """Show a page; returns it, with what it asked for and what the browser complained of."""
    contexts = []

    def show(name, *, width=1280, scheme="light", script=True):
        path = tmp_path / f"{name}.html"
        path.write_text(PAGES[name], "utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script
        )
        contexts.append(context)
        page = context.new_page()
        page.asked, page.said = [], []
        page.on("request", lambda request: page.asked.append(unquote(request.url)))
        page.on("console", lambda message: page.said.append(message.text))
        page.goto(path.as_uri())
        assert page.asked == [path.as_uri()]
        return page

    yield show
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window_and_nothing_runs(shown, name, width):
    page = shown(name, width=width)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.title() != "run"
    assert page.said == []
    assert page.locator("script, img").count() == 0


FIGURES = {"spread": ("rect.bar", 3), "seconds": ("rect.bar", 6), "states": ("rect", 30), "items": ("circle.bar", 12)}


@pytest.mark.parametrize("name", ["class", "anonymous"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_figure_is_drawn(shown, name, scheme):
    page = shown(name, scheme=scheme)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    for id, (mark, least) in FIGURES.items():
        figure = page.locator(f"svg[aria-labelledby^='{id}-title']")
        marks = figure.locator(mark)
        assert marks.count() >= least, id
        drawn = marks.evaluate_all("all => all.map(m => [m.getBoundingClientRect().height, getComputedStyle(m).fill])")
        assert all(height > 1 and fill not in ("rgb(0, 0, 0)", paper) for height, fill in drawn), id
    assert page.locator("figure svg rect[fill^='url']").count() > 5  # hatched, and the hatching is there:
    assert page.locator("pattern").count() == 3


@pytest.mark.parametrize("name", ["class", "student"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_that_keeps_anybody_out(shown, name, scheme):
    page = shown(name, scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert scan(page).serious == []


def test_the_learners_bars_fill_the_whole_width(shown):
    boxes = shown("class").locator("svg[aria-labelledby^='states-title'] rect")
    rows = {}
    for box in boxes.evaluate_all("all => all.map(b => b.getBBox()).map(b => [b.y, b.x, b.width])"):
        rows.setdefault(box[0], []).append(box[1:])
    assert len(rows) == len(ITEMS)
    for parts in rows.values():
        assert sum(width for _, width in parts) == pytest.approx(342, abs=0.5)  # SVG units


@pytest.mark.parametrize("name", ["class", "student"])
def test_text_in_figures_is_readable_on_a_phone(shown, name):
    page = shown(name, width=390)
    sizes = page.locator("figure svg text").evaluate_all("all => all.map(t => t.getBoundingClientRect().height)")
    assert min(sizes) >= 12  # pixels of a line: its letters have about three quarters of that


def test_light_and_dark_differ_and_print_is_on_white(shown):
    back = "getComputedStyle(document.body).backgroundColor"
    page = shown("class", scheme="dark")
    assert page.evaluate(back) != "rgb(255, 255, 255)"
    assert shown("class").evaluate(back) == "rgb(255, 255, 255)"
    page.emulate_media(media="print")
    assert page.evaluate(back) == "rgb(255, 255, 255)"


def test_all_is_there_without_scripts_and_hints_open_on_request(shown):
    page = shown("student", script=False)
    card = page.locator("section.card:has(summary)").first
    hint = card.get_by_text("Look.")
    assert not hint.is_visible()
    card.locator("summary").first.click()
    assert hint.is_visible()
