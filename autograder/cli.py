"""The command `course`. Every import of weight waits until a command needs it, so that `course --help` is quick."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import click

from autograder.exercise import CourseError, Exercise, Explanation

__all__ = ["cli", "main"]

FAILED, REFUSED = 1, 2  # exit codes: the work is done and found wanting; the request can't be met


class _Examples(click.Command):
    """A command whose help keeps the examples' lines apart."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.epilog:
            with formatter.section("Examples"):
                formatter.write_text("\b\n" + self.epilog.strip())


class _LessonType(click.ParamType):
    name = "lesson"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        from autograder import notebooks

        try:
            return [CompletionItem(name) for name in notebooks.lessons() if name.startswith(incomplete)]
        except CourseError:
            return []


LESSON = _LessonType()
FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
COURSE = click.option(
    "--course",
    "course_dir",
    type=click.Path(path_type=Path),
    default=Path("."),
    show_default="this folder",
    help="The class's folder, with nbgrader_config.py, submitted/ and gradebook.db.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--debug", is_flag=True, help="Show the traceback of an error instead of one line.")
@click.version_option(package_name="training-deep-nets", prog_name="course")
def cli(debug: bool) -> None:
    """Training Deep Nets: work through the lessons, build them, and grade a class.

    \b
    To learn:     course lab                        open the lessons in JupyterLab
                  course progress                   how far you are
                  course check NOTEBOOK             check a whole notebook from the terminal
    To teach:     course demo                       see a simulated class graded, start to end
                  course release LESSON             give a lesson to a class
                  course collect LESSON --from ZIP  take in what Canvas or Moodle collected
                  course grade LESSON               grade what the class handed in
                  course report LESSON              the class on one page, each student on another
                  course export LESSON --to canvas  the points for a learning platform
                  course doctor                     whether strangers' code can be run safely here
    To write:     course build                      make the notebooks from their sources
                  course exercises                  what there is to solve
                  course new-exercise NAME          start an exercise of your own
                  course evidence                   what the course claims, and how that was measured
                  course bench                      how fast the library is beside the frameworks

    `course COMMAND --help` explains each with examples.
    """


@cli.command(
    cls=_Examples,
    short_help="Open the lessons in JupyterLab.",
    context_settings={"ignore_unknown_options": True},
    epilog="course lab\ncourse lab 08_dropout\ncourse lab --folder ~/deep-nets\ncourse lab -- --no-browser --port=9000",
)
@click.argument("lesson", type=LESSON, required=False)
@click.argument("jupyter_options", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Your own copy of the lessons, made if it is not there."
)
@click.option("--copy-only", is_flag=True, help="Bring that copy up to date, and start nothing.")
def lab(lesson: str | None, jupyter_options: Sequence[str], folder: Path | None, copy_only: bool) -> None:
    """Open the lessons in JupyterLab: their first page, or one of them. What follows `--` goes to JupyterLab.

    Your checks are noted on this machine, for that first page; COURSE_PROGRESS=off keeps nothing.

    In a checkout the lessons open where they are. Where the course is installed they are copied first, into
    training-deep-nets/ in this folder unless --folder names another; what you wrote there is never overwritten.
    """
    from autograder import notebooks
    from autograder.submission import quiet_environment
    from course_lib.journal import SWITCH

    options = list(jupyter_options)
    if lesson and lesson.startswith("-"):
        lesson, options = None, [lesson, *options]
    root = notebooks.released_root()
    if folder or copy_only or root == notebooks.INSTALLED:
        folder = _own_copy(root / "lessons", folder)
    else:
        folder = root / "lessons"
    if copy_only:
        return
    opened = f"{lesson}/{lesson}.ipynb" if lesson else "index.ipynb"
    there = (folder / opened).is_file()
    if lesson and not there:
        raise CourseError(f"there is no lesson {lesson!r} in {folder}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # in a container; JupyterLab refuses root unless told
        options = ["--allow-root", *options]
    os.chdir(folder)
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}", *[opened] * there, *options]
    os.execve(sys.executable, command, {SWITCH: "on", **quiet_environment()})


@cli.command(
    cls=_Examples,
    short_help="Show how far you are; export or delete it.",
    epilog="course progress\ncourse progress --export my-progress.csv\ncourse progress --delete",
)
@click.option("--export", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write all of it: .json, .csv.")
@click.option("--delete", is_flag=True, help="Delete all that is kept, for good.")
@click.option("--yes", is_flag=True, help="Don't ask before deleting.")
def progress(file: Path | None, delete: bool, yes: bool) -> None:
    """Show your own progress in the lessons: what you checked and predicted, as it was noted on this machine.

    It is kept in one file, whose place is said below, and sent nowhere. With both options it is exported first.
    """
    from autograder import home, notebooks

    if file:
        click.echo(f"wrote {home.export(file)}")
    if delete:
        if not yes:
            click.confirm("Delete all predictions and checks that are kept, for good?", abort=True)
        click.echo("deleted" if home.delete() else "there was nothing to delete")
    if file or delete:
        return
    page = home.progress(notebooks.released_root() / "lessons")
    _table(("lesson", "progress"), home.rows(page.progress))
    click.echo("\n".join(home.remarks(page)))


def _own_copy(lessons: Path, folder: Path | None) -> Path:
    """The learner's own copy of the lessons, brought up to date; says what was written."""
    from importlib.metadata import version

    from autograder import workspace

    here = Path.cwd()
    folder = (folder or (here if (here / workspace.RECORD).is_file() else here / "training-deep-nets")).resolve()
    done = workspace.copy_lessons(lessons, folder, version("training-deep-nets"))
    told = {"new": "copied", "updated": "updated, since you had not changed it", "beside": "is newer than yours, which"}
    for file in done:
        name = file.path.relative_to(folder)
        click.echo(f"{name}: {told[file.what]}" + (" stays as it is" if file.what == "beside" else ""), err=True)
    click.echo(f"Your lessons are in {folder}" + ("" if done else ", all up to date"), err=True)
    return folder


@cli.command(
    cls=_Examples,
    short_help="Make the notebooks from their sources.",
    epilog="course build\ncourse build 08_dropout\ncourse build index\ncourse build --check",
)
@click.argument("lesson", type=LESSON, required=False)
@click.option("--check", is_flag=True, help="Write nothing; fail if a committed notebook is not what its source gives.")
def build(lesson: str | None, check: bool) -> None:
    """Make a lesson's notebooks from its source: all lessons, or the one that is named.

    solutions/NN/NN.py gives solutions/NN/NN.ipynb (with solutions) and lessons/NN/ (what learners open). The
    release is read for left-over solutions before anything is written. solutions/index.py and all lessons give
    lessons/index.ipynb, the first page, which is made last in any case.
    """
    from autograder import index, notebooks

    names = [lesson] if lesson else notebooks.lessons()
    if not names:
        raise CourseError(f"there is no lesson to build in {notebooks.course_root() / 'solutions'}")
    for name in (*(name for name in names if name != index.NAME), index.NAME):
        built = index.build(check=check) if name == index.NAME else notebooks.build(name, check=check)
        if built:
            click.echo(f"{name}: {'up to date' if not built.changed else 'wrote ' + ', '.join(built.changed)}")


@cli.command(
    cls=_Examples,
    short_help="Check a learner's whole notebook.",
    epilog="course check lessons/08_dropout/08_dropout.ipynb",
)
@click.argument("notebook", type=click.Path(path_type=Path))
@click.option("--cell-timeout", type=click.FloatRange(min=1), default=60, show_default=True, help="Seconds for a cell.")
def check(notebook: Path, cell_timeout: float) -> int:
    """Run a learner's notebook from top to bottom and say what each exercise earns, and why.

    The notebook runs in an empty folder and is not changed. The exit code is 0 if every exercise is right, 1 if
    points are missing, 2 if the file can't be checked.
    """
    from autograder import notebooks, submission

    lesson = submission.lesson_of(submission.read(notebook))
    root = notebooks.released_root(notebook.resolve().parent)
    released = root / "lessons" / str(lesson) / f"{lesson}.ipynb"
    if not released.is_file():
        raise CourseError(f"{notebook} belongs to lesson {lesson}, which is not in {root / 'lessons'}")
    release = submission.read(released)

    from autograder.execute import Limits, check_notebook

    click.echo(f"Running {notebook} ...", err=True)
    found = check_notebook(notebook, release, Limits(cell=cell_timeout))
    rows = []
    for result in found:
        said = [result.message, f"Next: {result.next_step}" if result.next_step else ""]
        right = result.score == result.max_score
        rows.append((result.exercise, _points(result.score, result.max_score), "right" if right else " ".join(said)))
    score, max_score = sum(r.score for r in found), sum(r.max_score for r in found)
    rows.append(("total", _points(score, max_score), ""))
    _table(("exercise", "points", "what the check saw"), rows)
    by_hand = sum(cell.grade and cell.solution for cell in submission.given_by(release))
    if by_hand:
        click.echo(f"Answers in words are graded by hand: {by_hand} in this lesson.")
    if score == max_score:
        click.echo("The visible cases pass; grading uses others.")
    return 0 if score == max_score else FAILED


@cli.command(
    cls=_Examples, short_help="Give a lesson to a class.", epilog="course release 08_dropout --course ~/autumn-class"
)
@click.argument("lesson", type=LESSON)
@COURSE
def release(lesson: str, course_dir: Path) -> None:
    """Give a lesson to a class: set up its folder and gradebook, and make what to hand out.

    The class keeps this version of the lesson. nbgrader's own commands and its formgrader work in that folder too.
    points.toml in the class's folder says what its exercises are worth, where that is not what the course gives them.
    """
    from autograder import notebooks

    source = notebooks.released_root()

    from autograder import gradebook
    from autograder.points import read_points

    folder = gradebook.release(lesson, course_dir, source=source)
    click.echo(f"Hand out {folder}; collect into {course_dir / 'submitted'}/<student>/{lesson}/")
    for name, points in read_points(course_dir, lesson).items():
        click.echo(f"{name}: {f'{points:g} points' if points else 'left out: to be tried, not graded'}")


@cli.command(
    cls=_Examples,
    short_help="Take in what a learning platform collected.",
    epilog="course collect 08_dropout --from ~/Downloads/submissions.zip --course ~/autumn-class\n"
    "course collect 08_dropout --from ~/Downloads/moodle --replace",
)
@click.argument("lesson", type=LESSON)
@COURSE
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    required=True,
    help="The platform's zip archive, or a folder: of such archives, of an unpacked one, or <student>/<notebook>.",
)
@click.option("--replace", is_flag=True, help="Overwrite what came into submitted/ otherwise, or was changed there.")
def collect(lesson: str, course_dir: Path, source: Path, replace: bool) -> int:
    """Put what Canvas or Moodle collected into submitted/, each learner's newest notebook of the lesson.

    Learners are known by the gradebook's roster (`nbgrader db student import`): Canvas's numbers by lms_user_id, else
    by their names. Doing it again changes nothing; nothing is overwritten without a word. The exit code is 1 if a
    file is nobody's.
    """
    from autograder import gradebook

    found = gradebook.collect(lesson, course_dir, source, replace=replace)
    told = {
        "new": "collected",
        "newer": "replaced by this newer one" if not replace else "replaced",
        "same": "there already",
        "older": "passed over: a newer one is there",
        "kept": "NOT taken: what is there came otherwise, or was changed; --replace overwrites it",
    }
    for row in found.students:
        said = [told[row.what], "late" if row.late else "", f"newest of {row.others + 1}" if row.others else ""]
        click.echo(f"{row.student:24} {'; '.join(filter(None, said))}  ({row.file})")
    taken = sum(row.what in ("new", "newer") for row in found.students)
    click.echo(f"{taken} of {len(found.students)} collected for {lesson}")
    if found.of_other_lessons:
        click.echo(f"note: of other lessons, left out: {_some(found.of_other_lessons)}", err=True)
    if found.nobodys:
        roster = "" if found.roster else " (which is empty)"
        click.echo(
            f"course: these match nobody in the class's roster{roster}: {_some(found.nobodys)}; see "
            "`nbgrader db student import`",
            err=True,
        )
    return FAILED if found.nobodys else 0


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


@cli.command(
    cls=_Examples,
    short_help="Grade what a class handed in.",
    epilog="course grade 08_dropout --course ~/autumn-class\n"
    "course grade 08_dropout --student ada --student emmy --force\n"
    "course grade 08_dropout --feedback --json grades.json\n"
    "course grade 08_dropout --scheduler tls://10.0.0.5:8786 --tls-ca ca.pem --tls-cert me.pem --tls-key me.key",
)
@click.argument("lesson", type=LESSON)
@COURSE
@click.option("--submitted", type=FOLDER, help="The folder with what was handed in, if it is not the class's own.")
@click.option("--student", "students", multiple=True, help="Only this student; may be given more than once.")
@click.option("--workers", type=click.IntRange(min=0), help="Processes that run submissions; one a core unless given.")
@click.option("--scheduler", default="", metavar="ADDRESS", help="Run them on this Dask cluster: tls://HOST:PORT.")
@click.option("--tls-ca", type=FILE, help="For the scheduler: who vouches for it.")
@click.option("--tls-cert", type=FILE, help="For the scheduler: who you are.")
@click.option("--tls-key", type=FILE, help="For the scheduler: the key of that.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every result to this file as well.")
@click.option("--force", is_flag=True, help="Run and grade again what is graded already.")
@click.option("--feedback", is_flag=True, help="Write the learners' feedback pages as well.")
@click.option("--unsafe", is_flag=True, help="Run submissions without a sandbox: they may do whatever you may do.")
def grade(
    lesson: str,
    course_dir: Path,
    submitted: Path | None,
    students: tuple[str, ...],
    workers: int | None,
    scheduler: str,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    json_file: Path | None,
    force: bool,
    feedback: bool,
    unsafe: bool,
) -> int:
    """Grade what a class handed in: submitted/<student>/<lesson>/<lesson>.ipynb.

    Submissions run side by side, on this machine's cores or on a Dask cluster, which needs no shared disk. What is
    graded already stays as it is, unless its file or the judge changed, and what has been run is kept; so a run that
    was stopped can simply be started again. Scores go into nbgrader's gradebook; what an instructor entered by hand
    stays. The exit code is 1 if a submission could not be graded.
    """
    from autograder.progress import Bar
    from autograder.remarks import summary

    tls = _tls(scheduler, tls_ca, tls_cert, tls_key)
    if scheduler and workers is not None:
        raise CourseError("--workers is for this machine, --scheduler for another's workers: leave one out")
    if json_file and not json_file.resolve().parent.is_dir():
        raise CourseError(f"cannot write {json_file}: there is no such folder")

    from autograder import gradebook, grader
    from autograder.files import write_whole

    rows: dict[str, Any] = {}
    bar = Bar(sys.stderr)

    def show(row: Any) -> None:
        rows[row.student] = row
        said = [row.problem or row.remark, "an answer waits for you" if row.needs_manual_grade else ""]
        points = f"{_points(row.score, row.max_score):>11}  {row.seconds:5.1f} s"
        line = f"{row.student:24} {points}  {'; '.join(filter(None, said))}"
        bar.line(lambda: click.echo(line.rstrip()))

    opened = gradebook.open_class(course_dir, submitted=submitted, unsafe=unsafe)
    for note in gradebook.notes(lesson, opened):
        click.echo(f"note: {note}", err=True)
    try:
        graded = grader.grade(
            lesson,
            opened,
            students or None,
            force=force,
            where=grader.Where(workers, scheduler, tls),
            on_graded=show,
            on_progress=bar.show,
        )
        rows = {row.student: row for row in graded}
    finally:
        bar.close()
        if json_file and rows:
            data = grader.as_data(lesson, opened, rows.values())
            write_whole(json_file, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    if feedback:
        pages = gradebook.feedback(lesson, opened, students or None)
        click.echo(f"{len(pages)} feedback pages in {course_dir / 'feedback'}")
    for student, remarks in gradebook.changes(lesson, opened, list(rows)).items():
        click.echo(f"{student:24} {summary(remarks)}")
    failed = sum(bool(row.problem) for row in graded)
    before = sum(not row.fresh and not row.problem for row in graded)
    click.echo(
        f"{len(graded) - failed} of {len(graded)} submissions graded" + (f", {before} of them before" if before else "")
    )
    return FAILED if failed else 0


def _tls(scheduler: str, *files: Path | None) -> tuple[Path, Path, Path] | None:
    given = [file for file in files if file is not None]
    if given and not scheduler:
        raise CourseError("--tls-ca, --tls-cert and --tls-key are for a --scheduler")
    if given and len(given) < len(files):
        raise CourseError("TLS needs all three of --tls-ca, --tls-cert and --tls-key")
    if scheduler.startswith("tls:") and not given:
        raise CourseError(f"{scheduler} needs --tls-ca, --tls-cert and --tls-key")
    return (given[0], given[1], given[2]) if given else None


@cli.command(
    cls=_Examples,
    short_help="See a simulated class graded, start to end.",
    epilog="course demo\ncourse demo --folder /tmp/my-class --learners 6\ncourse demo --fresh",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("demo-class"),
    show_default=True,
    help="Where the class is made.",
)
@click.option("--learners", type=click.IntRange(min=1), default=24, show_default=True, help="How many hand in.")
@click.option("--seed", type=int, default=8, show_default=True, help="Another seed makes other learners.")
@click.option("--fresh", is_flag=True, help="Make the folder anew; without it a stopped demo goes on where it was.")
def demo(folder: Path, learners: int, seed: int, fresh: bool) -> int:
    """See a simulated class go through everything: release, hand-in, grading, feedback, report.

    The learners make the mistakes that the exercises know, so it is known beforehand what each must get: the exit
    code is 1 if grading gave anybody something else.
    """
    from autograder import demo as simulated

    return simulated.main(folder, learners, seed, fresh=fresh)


@cli.command(
    cls=_Examples,
    short_help="Write the pages that show a graded class.",
    epilog="course report 08_dropout --course ~/autumn-class\ncourse report 08_dropout --students --median\n"
    "course report 08_dropout --anonymous",
)
@click.argument("lesson", type=LESSON)
@COURSE
@click.option("--students", is_flag=True, help="Write a page for each student as well, to be given to that student.")
@click.option("--median", is_flag=True, help="Tell students the class's median; needs --students.")
@click.option("--anonymous", is_flag=True, help="A class page without names, to be shown to others.")
def report(lesson: str, course_dir: Path, students: bool, median: bool, anonymous: bool) -> None:
    """Show a graded class: everyone's points here, and a page with what was misunderstood and what went wrong.

    Pages go into reports/ in the class's folder. They stand alone, need no network, and can be printed.
    """
    if median and not students:
        raise CourseError("--median is told on the students' pages: give --students as well")

    from autograder.report import class_table, read_results, write_report, write_student_pages

    results = read_results(lesson, course_dir)
    if not anonymous:
        click.echo(class_table(results))
    pages = write_student_pages(lesson, course_dir, results=results, with_median=median) if students else {}
    page = write_report(lesson, course_dir, results=results, pages=pages, nameless=anonymous)
    click.echo(f"class page: {page}")
    if pages:
        click.echo(f"{len(pages)} students' pages in {page.parent / 'students'}")


@cli.command(
    cls=_Examples,
    short_help="Write the points as CSV for a learning platform.",
    epilog="course export 08_dropout --to canvas --assignment-id 6799280 -o canvas.csv\n"
    "course export 08_dropout --to moodle --identify idnumber -o moodle.csv\n"
    "course export 08_dropout --to plain --bom -o points.csv",
)
@click.argument("lesson", type=LESSON)
@COURSE
@click.option(
    "--to", "platform", type=click.Choice(["canvas", "moodle", "plain"]), required=True, help="For whom the file is."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The file to write.")
@click.option(
    "--identify",
    type=click.Choice(["email", "idnumber", "username"]),
    help="What students are known by there: for Moodle the column (email unless given), for Canvas the login "
    "(username, which is nbgrader's id, unless given).",
)
@click.option("--assignment-id", type=click.IntRange(min=1), help="Canvas's number of an assignment that is there.")
@click.option("--bom", is_flag=True, help="Mark the file as UTF-8, so that Excel reads names right.")
def export(
    lesson: str,
    course_dir: Path,
    platform: str,
    output: Path,
    identify: str | None,
    assignment_id: int | None,
    bom: bool,
) -> None:
    """Write the class's points as CSV: for Canvas's gradebook, for Moodle's grade import, or as a plain table.

    Names, addresses and ids come from the gradebook's roster (`nbgrader db student import`). No cell of the file is
    taken for a formula.
    """
    from autograder import report

    done = report.export(
        report.read_results(lesson, course_dir),
        platform,
        output,
        identify=identify,
        assignment_id=assignment_id,
        bom=bom,
    )
    click.echo(f"{done.students} students in {done.path}")
    notes = (
        (done.waiting, "waits for grading by hand, so these points are not final"),
        (done.left_out, "handed in but has no grade, and is left out"),
        (done.altered, "has an identifier that begins like a formula: it got an apostrophe; mend it after the import"),
    )
    for who, what in notes:
        if who:
            click.echo(f"note: {_some(who, 3)}: {what}", err=True)


@cli.command(
    cls=_Examples,
    short_help="Show, or measure again, what the course claims.",
    epilog="course evidence\ncourse evidence D1 D2\ncourse evidence --json | jq '.[].verdict'",
)
@click.argument("ids", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print every row of the ledger as JSON.")
def evidence(ids: tuple[str, ...], as_json: bool) -> None:
    """Show what the course claims and what was measured; with IDS, measure those claims again and keep the results.

    Measuring takes minutes: each claim runs with several seeds.
    """
    from course_lib.claims import runner

    try:
        for id in dict.fromkeys(ids):
            runner.find(id)
        for id in dict.fromkeys(ids):
            click.echo(f"Measuring {id} ...", err=True)
            runner.run([id])
        rows = runner.ledger_rows()
    except (LookupError, ValueError) as error:
        raise CourseError(str(error)) from error
    if as_json:
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    shown = [row for row in rows if row["id"] in ids] if ids else rows
    _table(
        ("id", "verdict", "95% interval", "what was asked, what was measured"),
        [(row["id"], row["verdict"] or "unsettled", _interval(row["interval"]), _finding(row)) for row in shown],
    )


def _interval(interval: Any) -> str:
    if not interval:
        return ""
    return f"{interval['low']:.3g} to {interval['high']:.3g} {interval['unit']}".strip()


def _finding(row: Any) -> str:
    stale = "Measured with older code. " if row.get("stale") else ""
    return f"{stale}{row.get('headline') or row.get('question') or ''}"


@cli.command(
    cls=_Examples,
    short_help="Time the library against the frameworks.",
    epilog="course bench\ncourse bench --only dropout --only activations.relu\n"
    "course bench --json | jq '.operations[] | select(.ratio < 0.5)'\ncourse bench --device cuda --write",
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON instead of a Markdown table.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to run.")
@click.option("--only", multiple=True, metavar="NAME", help="Operations whose name starts so; may be given repeatedly.")
@click.option("--write", is_flag=True, help="Keep the results, as JSON and in the page, docs/benchmarks.")
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True, help="For an operation."
)
def bench(as_json: bool, device: str, only: tuple[str, ...], write: bool, seconds: float) -> None:
    """Time each operation of the library against the framework's own, in one run, on one thread.

    A ratio above 1 means that the library's is the faster. Both take turns, round after round, and medians are kept.
    """
    from autograder import notebooks

    if write and only:
        raise CourseError("--write keeps whole runs: leave --only out")
    folder = notebooks.course_root() / "docs" / "benchmarks" if write else None

    from course_lib import bench as benchmark

    try:
        results = benchmark.run(
            only,
            device=device,
            seconds=seconds,
            on_operation=lambda operation: click.echo(f"{operation.name}, {operation.pass_} ...", err=True),
        )
    except ValueError as error:
        raise CourseError(str(error)) from error
    if folder:
        path = benchmark.save(results, folder)
        benchmark.refresh(folder.with_suffix(".md"), path)
        click.echo(f"wrote {path} and the table in {folder.with_suffix('.md')}", err=True)
    click.echo(json.dumps(results, indent=1, ensure_ascii=False) if as_json else benchmark.table(results))


@cli.command(
    cls=_Examples,
    short_help="Say whether strangers' notebooks can be run safely here.",
    epilog="course doctor\ncourse doctor --json | jq '.[] | select(.holds | not)'",
)
@click.option("--json", "as_json", is_flag=True, help="Print every guarantee as JSON.")
def doctor(as_json: bool) -> int:
    """Try on this machine each guarantee that the sandbox gives, and say what to do where one does not hold.

    The exit code is 1 if grading would refuse to run.
    """
    from autograder import sandbox

    found = sandbox.survey()
    if as_json:
        click.echo(json.dumps([asdict(guarantee) for guarantee in found], indent=1, ensure_ascii=False))
    else:
        rows = [(g.name, "yes" if g.holds else "NO" if g.required else "no", _advice(g)) for g in found]
        _table(("guarantee", "holds", "what was found, what to do"), rows)
    return 0 if all(guarantee.holds for guarantee in found if guarantee.required) else FAILED


def _advice(guarantee: Any) -> str:
    parts = (guarantee.detail, guarantee.remedy if not guarantee.holds else "")
    optional = "" if guarantee.required or guarantee.holds else " (not needed, but better)"
    return ": ".join(part for part in parts if part) + optional


@cli.command(
    cls=_Examples,
    short_help="Start an exercise of your own.",
    epilog="course new-exercise centred --lesson 50_normalizing --package ~/my-exercises\n"
    "course new-exercise alpha_dropout --lesson 08_dropout",
)
@click.argument("name")
@click.option("--lesson", type=LESSON, required=True, help="Which lesson it belongs to, as 50_normalizing.")
@click.option("--package", type=click.Path(path_type=Path), help="A package of your own; made if it is not there.")
def new_exercise(name: str, lesson: str, package: Path | None) -> None:
    """Start an exercise of your own: one that works, to be changed into yours part by part.

    Without --package it joins a lesson of the course, in a checkout. Its record, right and wrong answers, its cells in
    the lesson and its tests are written; the tests then say what is left to be filled in.
    """
    from importlib.metadata import version

    from autograder import notebooks, scaffold

    if package is None:
        done = scaffold.add_to_course(name, lesson, notebooks.course_root())
        test = f"python -m pytest tests/autograder/test_exercises.py -k {done.exercise}"
    else:
        from autograder import exercises

        taken = {record.lesson for record in exercises.OWN.values()}
        config = notebooks.released_root() / "nbgrader_config.py"
        done = scaffold.add_to_package(name, lesson, package, config, version("training-deep-nets"), taken)
        test = f"cd {package} && pip install -e . && python -m pytest tests"
    for file in done.files:
        click.echo(f"wrote {file}")
    click.echo(f"{done.exercise} works now; this says what is left to fill in:\n  {test}")


@cli.command(cls=_Examples, short_help="List the exercises.", epilog="course exercises\ncourse exercises --json")
@click.option("--json", "as_json", is_flag=True, help="Print every exercise as JSON.")
def exercises(as_json: bool) -> None:
    """List the exercises: points, minutes, and how many misconceptions each one knows."""
    from autograder.exercises import EXERCISES

    rows = [_exercise(record) for record in EXERCISES.values()]
    if as_json:
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    _table(
        ("id", "points", "minutes", "knows", "title"),
        [(r["id"], f"{r['points']:g}", str(r["minutes"]), str(len(r["misconceptions"])), r["title"]) for r in rows],
    )


def _exercise(record: Exercise | Explanation) -> dict[str, Any]:
    if isinstance(record, Exercise):
        criteria = [{"name": criterion.name, "points": criterion.points} for criterion in record.criteria]
        misconceptions = [misconception.id for misconception in record.misconceptions]
    else:
        criteria = [{"name": name, "points": points} for name, points in record.rubric.items()]
        misconceptions = []
    return {
        "id": record.id,
        "lesson": record.lesson,
        "title": record.title,
        "points": record.points,
        "criteria": criteria,
        "misconceptions": misconceptions,
        "minutes": record.minutes,
    }


@cli.command(
    cls=_Examples, short_help="Switch on completion in your shell.", epilog="course completion\ncourse completion zsh"
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), required=False)
def completion(shell: str | None) -> None:
    """Say how to switch on completion of commands, options and lessons in your shell."""
    lines = {
        "bash": 'eval "$(_COURSE_COMPLETE=bash_source course)"      # in ~/.bashrc',
        "zsh": 'eval "$(_COURSE_COMPLETE=zsh_source course)"       # in ~/.zshrc',
        "fish": "_COURSE_COMPLETE=fish_source course | source      # in ~/.config/fish/config.fish",
    }
    for name in [shell] if shell else lines:
        click.echo(lines[name])


# ---------------------------------------------------------------- output


def _points(score: float, max_score: float) -> str:
    return f"{score:g} of {max_score:g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as they need, the last one wrapped to the terminal."""
    rows = [tuple(head), *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head) - 1)]
    indent = sum(widths) + 2 * len(widths)
    width = max(24, shutil.get_terminal_size((100, 24)).columns - indent)
    for row in rows:
        start = "".join(f"{cell:<{size}}  " for cell, size in zip(row, widths, strict=False))
        for i, line in enumerate(textwrap.wrap(row[-1], width) or [""]):
            click.echo(((start if i == 0 else " " * indent) + line).rstrip())


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line. What the user can mend is one line on stderr and exit code 2, never a traceback."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = cli.main(arguments, prog_name="course", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("course: stopped", err=True)
        status = 130
    except BrokenPipeError:  # `course exercises | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except (CourseError, OSError) as error:
        if "--debug" in arguments:
            raise
        click.echo(f"course: {' '.join(str(error).split())}", err=True)
        status = REFUSED
    sys.exit(status if isinstance(status, int) else 0)
