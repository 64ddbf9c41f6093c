"""The command `course`: what it prints, its exit codes, and one clear line for whatever can't be done."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import click
import pytest
import tiny_course as tiny

from autograder import cli, exercises, notebooks
from autograder.submission import nbformat
from course_lib import journal


def course(*arguments: str) -> int:
    """Run the command line in this process; its exit code."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A built checkout of the tiny course, which is also the current folder."""
    folder = tiny.make_built_course(tmp_path / "checkout")
    lesson = folder / "lessons" / tiny.LESSON
    lesson.mkdir(parents=True)
    (lesson / f"{tiny.LESSON}.ipynb").write_text(nbformat().writes(tiny.released()), "utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(exercises, "EXERCISES", tiny.RECORDS)
    return folder


def mine(folder: Path, **answers: str) -> str:
    path = folder / "mine.ipynb"
    sources = {f"tiny.{name}": source for name, source in answers.items()}
    path.write_text(json.dumps(tiny.answered(tiny.released(), sources)), "utf-8")
    return str(path)


# ---------------------------------------------------------------- help


def test_help_names_every_command(capsys: pytest.CaptureFixture) -> None:
    assert course("--help") == 0
    text = capsys.readouterr().out
    for name in cli.cli.commands:
        assert f"\n  {name} " in text


@pytest.mark.parametrize("name", sorted(cli.cli.commands))
def test_every_command_explains_itself_with_examples(name: str, capsys: pytest.CaptureFixture) -> None:
    assert course(name, "--help") == 0
    text = capsys.readouterr().out
    assert "Examples:" in text
    assert f"  course {name}" in text
    assert cli.cli.commands[name].get_short_help_str(60).endswith(".")


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    heavy = ["torch", "numpy", "nbformat", "nbgrader", "jupytext", "nbclient", "keras", "distributed", "dask"]
    code = f"import sys, autograder.cli; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_says_the_line_to_add(shell: str, capsys: pytest.CaptureFixture) -> None:
    assert course("completion", shell) == 0
    assert f"_COURSE_COMPLETE={shell}_source course" in capsys.readouterr().out


def test_lessons_are_completed(checkout: Path) -> None:
    items = cli.LESSON.shell_complete(None, None, "00")  # type: ignore[arg-type]
    assert [item.value for item in items] == [tiny.LESSON]


# ---------------------------------------------------------------- what can't be done is one line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "99_none"], "course: unknown lesson '99_none'; the lessons are: 00_tiny"),
        (["lab", "99_none"], "course: there is no lesson '99_none' in"),
        (["release", "99_none", "--course", "class"], "course: there is no built lesson '99_none' in"),
        (["grade", "00_tiny", "--course", "nowhere"], "is not a class's folder"),
        (["grade", "00_tiny"], "course: there is no gradebook"),
        (["grade", "00_tiny", "--scheduler", "tls://h:1"], "course: tls://h:1 needs --tls-ca, --tls-cert"),
        (["grade", "00_tiny", "--tls-ca", "text.ipynb"], "course: --tls-ca, --tls-cert and --tls-key are for a --sch"),
        (["grade", "00_tiny", "--scheduler", "tls://h:1", "--tls-ca", "text.ipynb"], "course: TLS needs all three of"),
        (["grade", "00_tiny", "--scheduler", "tcp://h:1", "--workers", "2"], "course: --workers is for this machine"),
        (["grade", "00_tiny", "--json", "nowhere/grades.json"], "course: cannot write nowhere/grades.json"),
        (["check", "none.ipynb"], "course: none.ipynb: no such file"),
        (["check", "nbgrader_config.py"], "its name does not end in .ipynb"),
        (["check", "text.ipynb"], "course: text.ipynb is not JSON, so it is not a notebook"),
        (["check", "other.ipynb"], "course: other.ipynb is not a notebook of this course"),
        (["check", "cut.ipynb"], "course: cut.ipynb: the check cell of exercise tiny.double is missing"),
    ],
)
def test_a_request_that_can_not_be_met(
    checkout: Path, capsys: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    (checkout / "text.ipynb").write_text("print(1)")
    (checkout / "other.ipynb").write_text(json.dumps(nbformat().v4.new_notebook()))
    cut = tiny.released()
    cut.cells.remove(tiny.find(cut, "tiny.double", "check"))
    (checkout / "cut.ipynb").write_text(json.dumps(cut))
    assert course(*arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert [line for line in captured.err.splitlines() if line.startswith("course: ")] == [
        captured.err.splitlines()[-1]
    ]
    assert "Traceback" not in captured.err


def test_debug_shows_the_traceback(checkout: Path) -> None:
    with pytest.raises(cli.CourseError):
        cli.main(["--debug", "build", "99_none"])


def test_an_error_of_the_system_is_one_line_too(
    checkout: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(notebooks, "build", full)
    assert course("build") == 2
    assert capsys.readouterr().err == "course: [Errno 28] No space left on device\n"


def test_an_unknown_command_or_option_exits_with_2(capsys: pytest.CaptureFixture) -> None:
    assert course("biuld") == 2
    assert course("grade") == 2
    assert "Traceback" not in capsys.readouterr().err


# ---------------------------------------------------------------- commands


def test_check_prints_points_diagnosis_and_next_step(checkout: Path, capsys: pytest.CaptureFixture) -> None:
    path = mine(checkout, double="def double(x):\n    return x * x", square=tiny.ANSWERS["tiny.square"])
    before = Path(path).read_bytes()
    assert course("check", path) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "exercise     points  what the check saw",
        "tiny.double  2 of 3  For 0.5 you return 0.25. Next: Look again.",
        "tiny.square  2 of 2  right",
        "total        4 of 5",
        "Answers in words are graded by hand: 1 in this lesson.",
    ]
    assert Path(path).read_bytes() == before


def test_check_of_right_answers_exits_with_0(checkout: Path, capsys: pytest.CaptureFixture) -> None:
    assert course("check", mine(checkout, double=tiny.ANSWERS["tiny.double"], square=tiny.ANSWERS["tiny.square"])) == 0
    assert "The visible cases pass; grading uses others." in capsys.readouterr().out


def test_check_of_a_hanging_notebook_ends(checkout: Path, capsys: pytest.CaptureFixture) -> None:
    path = mine(checkout, double="while True:\n    pass")
    assert course("check", path, "--cell-timeout", "15") == 1
    assert "This cell was stopped" in " ".join(capsys.readouterr().out.split())


def test_build_says_what_it_wrote(
    checkout: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def fake(lesson: str, *, check: bool) -> notebooks.Built:
        asked.append((lesson, check))
        return notebooks.Built(lesson, ("a", "b"), () if check else ("a",))

    monkeypatch.setattr(notebooks, "build", fake)
    assert course("build") == 0
    assert course("build", "--check", tiny.LESSON) == 0
    assert asked == [(tiny.LESSON, False), (tiny.LESSON, True)]
    assert capsys.readouterr().out == "00_tiny: wrote a\n00_tiny: up to date\n"


def test_exercises_as_json(checkout: Path, capsys: pytest.CaptureFixture) -> None:
    assert course("exercises", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0] == {
        "id": "tiny.double",
        "lesson": tiny.LESSON,
        "title": "The double",
        "points": 3.0,
        "criteria": [{"name": "whole", "points": 2.0}, {"name": "half", "points": 1.0}],
        "misconceptions": ["squared"],
        "minutes": 10,
    }
    assert rows[2]["criteria"] == [{"name": "reason", "points": 1.0}, {"name": "example", "points": 1.0}]


def test_exercises_as_a_table(checkout: Path, capsys: pytest.CaptureFixture) -> None:
    assert course("exercises") == 0
    assert "tiny.square  2       10       1      The square" in capsys.readouterr().out


ROWS = [
    {
        "id": "D1",
        "verdict": "holds",
        "headline": "It was 0.5.",
        "interval": {"low": 0.1, "high": 0.9, "unit": "m"},
    },
    {"id": "D2", "verdict": None, "headline": None, "question": "Why?", "interval": None, "seeds": None, "date": None},
]


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A stand-in for the experiments; returns what it was asked to run."""
    ran: list[str] = []

    def find(id: str) -> None:
        if id not in ("D1", "D2"):
            raise LookupError(f"the ledger has no claim {id!r}")

    module = types.SimpleNamespace(find=find, run=ran.extend, ledger_rows=lambda: ROWS)
    package = types.ModuleType("course_lib.claims")
    package.runner = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "course_lib.claims", package)
    return ran


def test_evidence_shows_the_ledger_and_runs_nothing(runner: list[str], capsys: pytest.CaptureFixture) -> None:
    assert course("evidence") == 0
    out = capsys.readouterr().out
    assert "D1  holds      0.1 to 0.9 m  It was 0.5." in out
    assert "D2  unsettled                Why?" in out
    assert runner == []


def test_evidence_with_ids_measures_those_and_shows_them_only(runner: list[str], capsys: pytest.CaptureFixture) -> None:
    assert course("evidence", "D1", "D1") == 0
    assert runner == ["D1"]
    assert "D2" not in capsys.readouterr().out


def test_evidence_json_prints_every_row(runner: list[str], capsys: pytest.CaptureFixture) -> None:
    assert course("evidence", "--json") == 0
    assert json.loads(capsys.readouterr().out) == ROWS


def test_an_unknown_claim_is_refused_before_anything_runs(runner: list[str], capsys: pytest.CaptureFixture) -> None:
    assert course("evidence", "D1", "D77") == 2
    assert capsys.readouterr().err == "course: the ledger has no claim 'D77'\n"
    assert runner == []


RESULTS = {"operations": [{"name": "dropout.Dropout", "ratio": 2.5}]}


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A stand-in for the measurements; returns what it was asked for."""
    asked: list[Any] = []

    def run(only: Any, *, device: str, seconds: float, on_operation: Any) -> Any:
        if device == "cuda":
            raise ValueError("there is no GPU that PyTorch can use here")
        on_operation(types.SimpleNamespace(name="dropout.Dropout", pass_="forward"))
        asked.append((only, device, seconds))
        return RESULTS

    def save(results: Any, folder: Path) -> Path:
        asked.append((results, folder))
        return folder / "cpu.json"

    module = types.ModuleType("course_lib.bench")
    module.run, module.save, module.table = run, save, lambda results: "| a | table |"  # type: ignore[attr-defined]
    module.refresh = lambda page, path: asked.append((page, path))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "course_lib.bench", module)
    monkeypatch.setattr(importlib.import_module("course_lib"), "bench", module, raising=False)
    return asked


def test_bench_prints_a_table_or_json_and_keeps_nothing(benchmark: list[Any], capsys: pytest.CaptureFixture) -> None:
    assert course("bench", "--only", "dropout", "--only", "optimizers") == 0
    captured = capsys.readouterr()
    assert captured.out == "| a | table |\n" and captured.err == "dropout.Dropout, forward ...\n"
    assert course("bench", "--json", "--seconds", "0.5") == 0
    assert json.loads(capsys.readouterr().out) == RESULTS
    assert benchmark == [(("dropout", "optimizers"), "cpu", 1.0), ((), "cpu", 0.5)]


def test_bench_writes_a_whole_run_where_the_course_is(
    checkout: Path, benchmark: list[Any], capsys: pytest.CaptureFixture
) -> None:
    assert course("bench", "--write", "--only", "dropout") == 2
    assert capsys.readouterr().err == "course: --write keeps whole runs: leave --only out\n"
    assert benchmark == []
    assert course("bench", "--write") == 0
    docs = checkout / "docs"
    assert benchmark[1] == (RESULTS, docs / "benchmarks")
    assert benchmark[2] == (docs / "benchmarks.md", docs / "benchmarks" / "cpu.json")
    assert "wrote " in capsys.readouterr().err


def test_bench_without_a_gpu_says_so(benchmark: list[Any], capsys: pytest.CaptureFixture) -> None:
    assert course("bench", "--device", "cuda") == 2
    assert capsys.readouterr().err == "course: there is no GPU that PyTorch can use here\n"


def test_lab_opens_the_lesson(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    switches: list[str] = []
    monkeypatch.delenv("COURSE_PROGRESS", raising=False)

    def start(program: str, command: list[str], environment: dict[str, str]) -> None:
        started.append(command)
        switches.append(environment["COURSE_PROGRESS"])
        sys.exit(0)

    monkeypatch.setattr(cli.os, "execve", start)
    monkeypatch.setattr(cli.os, "chdir", lambda folder: None)
    monkeypatch.setattr(cli.os, "geteuid", lambda: 1000)
    assert course("lab", tiny.LESSON, "--", "--no-browser") == 0
    assert course("lab", "--no-browser") == 0
    assert started[0][1:3] == ["-m", "jupyterlab"]
    assert started[0][4:] == [f"{tiny.LESSON}/{tiny.LESSON}.ipynb", "--no-browser"]
    assert started[1][4:] == ["--no-browser"]
    monkeypatch.setattr(cli.os, "geteuid", lambda: 0)  # as in a container, where JupyterLab refuses unless told
    assert course("lab", "--no-browser") == 0
    assert "--allow-root" in started[2]
    (checkout / "lessons" / "index.ipynb").write_text("{}")
    assert course("lab", "--", "--no-browser") == 0
    assert started[3][4:] == ["index.ipynb", "--allow-root", "--no-browser"]
    monkeypatch.setenv("COURSE_PROGRESS", "off")
    assert course("lab") == 0
    assert switches == ["on"] * 4 + ["off"]


def test_progress_is_shown_exported_and_deleted(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("COURSE_DATA_DIR", str(checkout / "data"))
    kept = journal.Journal(checkout / "data")
    kept.note_check("tiny.double", 0, 2, False, "tripled", "Three times.")
    assert course("progress") == 0
    text = capsys.readouterr().out
    assert "1 misconception met, 0 mended" in text and str(kept.path) in text
    assert course("progress", "--export", str(checkout / "mine.json"), "--delete", "--yes") == 0
    assert json.loads((checkout / "mine.json").read_text())["checks"][0]["misconception"] == "tripled"
    assert not kept.path.exists()
    assert course("progress", "--delete", "--yes") == 0
    assert "nothing to delete" in capsys.readouterr().out
    assert course("progress", "--export", str(checkout / "mine.txt")) == 2


def test_deleting_asks_first(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_DATA_DIR", str(checkout / "data"))
    kept = journal.Journal(checkout / "data")
    kept.note_check("tiny.double", 0, 2, False)
    monkeypatch.setattr("click.confirm", lambda text, abort: (_ for _ in ()).throw(click.Abort()))
    assert course("progress", "--delete") == 130
    assert kept.path.exists()


@pytest.mark.slow
def test_release_then_grade_from_the_command_line(checkout: Path, capsys: pytest.CaptureFixture) -> None:
    folder = str(checkout / "class")
    assert course("release", tiny.LESSON, "--course", folder) == 0
    tiny.submit(Path(folder), "ada", tiny.answered(tiny.released(), tiny.ANSWERS))
    assert course("grade", tiny.LESSON, "--course", folder, "--feedback") == 0
    out = capsys.readouterr().out
    assert "ada" in out
    assert "5 of 7" in out
    assert "1 feedback pages" in out
    assert out.endswith("1 of 1 submissions graded\n")
    assert course("grade", tiny.LESSON, "--course", folder, "--json", str(checkout / "grades.json")) == 0
    assert capsys.readouterr().out.endswith("1 of 1 submissions graded, 1 of them before\n")
    (ada,) = json.loads((checkout / "grades.json").read_text())["submissions"]
    assert (ada["student"], ada["score"], ada["max_score"], ada["problem"]) == ("ada", 5.0, 7.0, "")
    assert ada["seconds"] > 0 and ada["remarks"] == [] and not list(checkout.glob("*.part"))


def test_demo_passes_its_options_on_and_its_exit_code_back(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def simulate(*arguments: Any, **options: Any) -> int:
        asked.append((arguments, options))
        return 1

    module = types.ModuleType("autograder.demo")
    module.main = simulate  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "autograder.demo", module)
    monkeypatch.setattr(importlib.import_module("autograder"), "demo", module, raising=False)
    assert course("demo", "--folder", "x", "--learners", "6", "--fresh") == 1
    assert asked == [((Path("x"), 6, 8), {"fresh": True})]


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The report with a class of three in place of one that was graded."""
    from sample_class import CLASS

    report = importlib.import_module("autograder.report")
    monkeypatch.setattr(report, "read_results", lambda lesson, course: CLASS)
    return CLASS


def test_report_shows_the_class_and_names_its_page(
    reported: Any, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert course("report", reported.lesson, "--course", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "ann" in out and f"class page: {tmp_path}/reports/{reported.lesson}.html\n" in out
    assert not (tmp_path / "reports" / "students").exists()


def test_report_writes_the_students_pages_on_request(
    reported: Any, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert course("report", reported.lesson, "--course", str(tmp_path), "--students") == 0
    assert f"4 students' pages in {tmp_path}/reports/students" in capsys.readouterr().out
    assert len(list((tmp_path / "reports" / "students").glob(f"*/{reported.lesson}.html"))) == 4


def test_report_without_names_prints_none(reported: Any, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert course("report", reported.lesson, "--course", str(tmp_path), "--anonymous") == 0
    assert capsys.readouterr().out == f"class page: {tmp_path}/reports/{reported.lesson}-anonymous.html\n"


def test_a_median_without_pages_to_tell_it_on_is_refused(capsys: pytest.CaptureFixture) -> None:
    assert course("report", "08_dropout", "--median") == 2
    assert capsys.readouterr().err == "course: --median is told on the students' pages: give --students as well\n"


def test_export_writes_the_file_and_says_what_to_know(
    reported: Any, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "points.csv"
    assert course("export", reported.lesson, "--to", "canvas", "-o", str(path)) == 0
    assert capsys.readouterr().out == f"4 students in {path}\n"
    assert path.read_text("utf-8").startswith('"Student","ID","SIS User ID"')
    assert course("export", reported.lesson, "--to", "moodle", "-o", str(path)) == 2
    assert "the gradebook has no email for ann, ben, cem and 1 more" in capsys.readouterr().err


def test_the_platforms_of_the_command_are_those_of_the_export() -> None:
    from autograder.report.export import IDENTIFIERS, PLATFORMS

    choices = {option.name: option.type for option in cli.cli.commands["export"].params}
    assert tuple(choices["platform"].choices) == PLATFORMS
    assert tuple(choices["identify"].choices) == tuple(IDENTIFIERS)
