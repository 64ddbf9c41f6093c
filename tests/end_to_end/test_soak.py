"""A small soak: grading many submissions in one run leaves no file, no process and no descriptor behind."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import tiny_course as tiny

from autograder import exercises

pytestmark = pytest.mark.slow


def test_nothing_grows_with_the_number_of_submissions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exercises, "EXERCISES", {**exercises.EXERCISES, **tiny.RECORDS})
    monkeypatch.setenv("PYTHONPATH", tiny.environment()["PYTHONPATH"])
    spec = importlib.util.spec_from_file_location("soak", Path(__file__).resolve().parents[1] / "soak.py")
    assert spec and spec.loader
    soak = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "soak", soak)
    spec.loader.exec_module(soak)
    first, middle, last, over = soak.soak(60)
    assert last.open_files <= first.open_files + 5 and last.processes <= first.processes
    assert last.temporary_files <= first.temporary_files + 2
    assert last.memory - middle.memory < 30 * 2**20  # 30 submissions of some kilobytes
    assert over.temporary_files <= 2 and over.processes <= 1  # Dask's own two locks, Python's resource tracker
