"""The suite itself: what an attack may be, how its signs are read, and that stock nbgrader's box holds."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from . import box, table
from .attack import AFTER, BEFORE, CANARY, SIGNS, WORTH, Observed, judged
from .course import CANARIES, source_notebook
from .reading import formulas, live_markup
from .run import read
from .stock import SCENE
from .suite import ATTACKS, CLASSES, MODULES

FULL = sum(WORTH.values())
FINE = {BEFORE: FULL, AFTER: FULL}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    notebook = source_notebook(tmp_path_factory.mktemp("lesson"), stock=True)
    for cell in notebook.cells:
        cell.source = re.sub(r"### BEGIN.*?### END", "", cell.source, flags=re.DOTALL)
    return notebook


# ---------------------------------------------------------------- the records


def test_ids_are_unique_and_every_class_is_there():
    assert sum(len(module.ATTACKS) for module in MODULES) == len(ATTACKS)
    assert {id[0] for id in ATTACKS} == set(CLASSES)
    assert all(re.fullmatch(r"[A-E]\.\w+", id) for id in ATTACKS)
    students = [attack.who for attack in ATTACKS.values()]
    assert len({*students, BEFORE, AFTER}) == len(students) + 2


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=str)
def test_an_attack_is_the_same_every_time_and_knows_no_secret(attack, release):
    first, again = attack.make(release, SCENE), attack.make(release, SCENE)
    assert first == again
    assert 0 <= attack.earns <= FULL
    written = first.notebook + b"".join(first.files.values())
    assert not [value for value in CANARIES.values() if value.encode() in written]


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=str)
def test_an_attack_names_no_host_but_the_loopback(attack, release):
    written = attack.make(release, SCENE).notebook.decode("utf-8", "replace")
    assert set(re.findall(r"\b\d{1,3}(?:\.\d{1,3}){3}\b", written)) <= {"127.0.0.1"}
    assert not re.search(r"https?://(?!www\.w3\.org/)|gethostby|getaddrinfo", written)


# ---------------------------------------------------------------- reading signs


@pytest.mark.parametrize(
    ("seen", "signs"),
    [
        (Observed(0.0, FINE), ()),
        (Observed(None, FINE), ()),
        (Observed(3.0, FINE), ("points",)),
        (Observed(0.0, FINE, leaked=("gradebook",)), ("secret",)),
        (Observed(0.0, FINE, outlives=True, network=True, markup=True), ("outlives", "network", "markup")),
        (Observed(0.0, {BEFORE: FULL, AFTER: None}), ("stopped",)),
        (Observed(0.0, {BEFORE: 0.0, AFTER: FULL}), ("others",)),
        (Observed(0.0, {}), ("stopped", "others")),
        (Observed(0.0, FINE, left=("/tmp/x",), changed=("/y",)), ("left", "changed")),
    ],
)
def test_the_signs_of_success(seen, signs):
    assert judged(ATTACKS["B.ast_transformer"], seen).signs == signs


@pytest.mark.parametrize(("score", "signs"), [(FULL, ()), (FULL - 1, ("unfair",)), (None, ("unfair",))])
def test_honest_work_that_loses_points_is_a_failure_too(score, signs):
    assert judged(ATTACKS["E.right"], Observed(score, FINE)).signs == signs


@pytest.mark.parametrize(
    ("page", "live"),
    [
        ("<p>tdnPwned</p>", False),
        ("<pre>&lt;script&gt;tdnPwned&lt;/script&gt;</pre>", False),
        ("<script>other()</script><p>tdnPwned", False),
        ("<script>tdnPwned = 1</script>", True),
        ("<img src=x onerror=tdnPwned>", True),
        ("<img src=x alt='onerror=tdnPwned'>", False),
        ("<a href='javascript:tdnPwned'>", True),
        ("<a href='https://tdnPwned'>", False),
        ("<iframe srcdoc='tdnPwned'>", True),
        ("<svg onload='tdnPwned=1'>", True),
    ],
)
def test_markup_is_live_where_a_browser_would_run_it(page, live):
    assert live_markup(page) is live


def test_formulas_are_what_a_spreadsheet_would_compute():
    assert formulas("a,=1+1\n-5,-x\n'=1,@b\n+3,1-2\n") == ["=1+1", "-x", "@b", "+3"]


# ---------------------------------------------------------------- the box


needs_bwrap = pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")


@pytest.fixture
def template(tmp_path):
    (tmp_path / "template").mkdir()
    tmp_path.chmod(0o755)
    return tmp_path / "template"


@needs_bwrap
def test_the_box_stands(template):
    box.probe(template)


@needs_bwrap
@pytest.mark.parametrize(
    ("hole", "wall"),
    [
        (("--bind", "{outside}", "/usr/share"), "it can't write outside its tmpfs"),
        (("--share-net",), "it has the loopback interface only"),
        (("--setenv", "TOKEN", "x"), "its environment is empty"),
    ],
)
def test_a_box_that_leaks_is_refused(template, tmp_path, monkeypatch, hole, wall):
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o777)
    outside.chmod(0o777)
    whole = box._command

    def leaking(folder: Path) -> list[str]:
        command = whole(folder)
        if hole == ("--share-net",):
            command.remove("--unshare-net")
            return command
        at = command.index("--")
        return [*command[:at], *(part.format(outside=outside) for part in hole), *command[at:]]

    monkeypatch.setattr(box, "_command", leaking)
    monkeypatch.setattr(box, "_outside", lambda: ["/usr/share"])
    with pytest.raises(box.BoxError, match=wall):
        box.probe(template)


def test_without_bubblewrap_nothing_runs(template, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(box.BoxError, match="apt-get install bubblewrap"):
        box.run({}, template)


# ---------------------------------------------------------------- the page


def test_the_page_shows_the_results_that_are_kept():
    text = table.PAGE.read_text("utf-8")
    assert table.page(text) == text, "docs/security.md is stale: python -m tests.attacks.table"


@pytest.mark.parametrize("arm", ["stock", "ours"])
def test_every_attack_of_an_arm_has_a_result_and_no_secret_is_kept(arm):
    results = read(arm)
    assert set(results) == {id for id, attack in ATTACKS.items() if attack.only in ("", arm)}
    assert all(set(result.signs) <= set(SIGNS) for result in results.values())
    assert CANARY not in json.dumps([vars(result) for result in results.values()])
