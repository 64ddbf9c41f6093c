"""Every attack meets the course's own grader: none gains, reads, outlives, stops or harms anything; honest work counts.

One class holds all attacks that were selected (`-k C.fork` is quick), and is graded once.
"""

from __future__ import annotations

import pytest

from autograder.sandbox import Guarantee

from . import ours
from .suite import ATTACKS, KNOWN

OURS = [attack for attack in ATTACKS.values() if attack.only in ("", "ours")]


@pytest.fixture(scope="module")
def results(request, tmp_path_factory):
    selected = [
        item.callspec.params["attack"]
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec") and "results" in item.fixturenames
    ]
    return {attack.id: result for attack, result in ours.run(selected, tmp_path_factory.mktemp("attacks"))}


@pytest.mark.slow
@pytest.mark.parametrize("attack", OURS, ids=str)
def test_nothing_comes_of_it(attack, results):
    result = results[attack.id]
    assert result.signs == KNOWN.get(attack.id, ()), f"this notebook {attack.tries}: {result.detail}"
    if attack.id.startswith("E") and attack.id not in KNOWN:
        assert result.score == attack.earns


def test_without_every_guarantee_no_attack_runs(monkeypatch, tmp_path):
    walls = (Guarantee("files", True, ""), Guarantee("no network", False, "a socket can be made", "grade elsewhere"))
    monkeypatch.setattr(ours, "survey", lambda: walls)
    with pytest.raises(ours.NoSandboxError, match="no network"):
        next(ours.run(OURS, tmp_path))
    assert not list(tmp_path.iterdir())
