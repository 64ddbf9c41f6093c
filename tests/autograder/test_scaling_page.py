"""docs/scaling.md quotes what was measured, and is made again from it to the letter."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "measure_scale.py"


@pytest.fixture(scope="module")
def measured() -> ModuleType:
    spec = importlib.util.spec_from_file_location("measure_scale", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_figures_give(measured: ModuleType) -> None:
    text = measured.PAGE.read_text("utf-8")
    assert measured.page(text, json.loads(measured.FIGURES.read_text("utf-8"))) == text


def test_the_sums_follow_the_figures(measured: ModuleType) -> None:
    found = json.loads(measured.FIGURES.read_text("utf-8")) | {
        "run_seconds": 3.6,
        "read_seconds": 0.0,
        "record_seconds": 0.036,
        "scheduler_per_second": 100.0,
    }
    rows = measured.tables(found)["sums"].splitlines()
    assert rows[2] == "| 2 | 50 h 0 min | running | 50 h 0 min |"
    assert rows[-1 - 5 - 1] == "| 1024 | 5 min 52 s | reading and recording | 1 h 0 min |"


def test_a_page_without_a_place_for_the_figures_is_refused(measured: ModuleType) -> None:
    with pytest.raises(ValueError, match="no place for figures"):
        measured.page("nothing", json.loads(measured.FIGURES.read_text("utf-8")))
