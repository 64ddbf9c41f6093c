"""Predictions: committed once, before the reveal; scored after; kept on the learner's machine; never in the way."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import pytest

from course_lib import predictions
from course_lib.journal import FILE, database
from course_lib.predictions import (
    PREDICTIONS,
    Choice,
    Ledger,
    Prediction,
    PredictionError,
    predict,
    register,
    reveal,
    store,
)
from course_lib.predictions.store import Commitment, Store

WIDGET = "application/vnd.jupyter.widget-view+json"
NUMBER = Prediction("number", "08_dropout", "How many times?", unit="×", because="Because of <this>.")
CHOICE = Prediction(
    "choice",
    "08_dropout",
    "Which one?",
    choices=(Choice("first", "The first"), Choice("second", "The second")),
)
RANGES = Prediction(
    "ranges",
    "08_dropout",
    "How much?",
    choices=(
        Choice("none", "None", high=1.0),
        Choice("some", "Some", low=1.0, high=5.0),
        Choice("much", "Much", low=5.0),
    ),
    unit="points",
)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Never the real user's folder; a new one for each test."""
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def ledger(tmp_path):
    return Ledger(register((NUMBER, CHOICE, RANGES)), Store(tmp_path / "data"))


# ── the records ──


def test_the_dropout_lesson_has_its_four_questions():
    mine = [p.id for p in PREDICTIONS.values() if p.lesson == "08_dropout"]
    assert mine == [
        "scale_without_rescaling",
        "dropout_left_on_at_test",
        "scaled_net_is_average",
        "training_loss_above_validation",
    ]


@pytest.mark.parametrize("prediction", PREDICTIONS.values(), ids=lambda p: p.id)
def test_every_question_ends_as_one_and_explains_its_answer(prediction):
    assert prediction.question.endswith("?")
    assert prediction.because


@pytest.mark.parametrize("prediction", PREDICTIONS.values(), ids=lambda p: p.id)
def test_ranges_leave_no_gap_and_never_overlap(prediction):
    if any(choice.is_range for choice in prediction.choices):
        edges = [c.low for c in prediction.choices] + [c.high for c in prediction.choices]
        for value in [-100.0, 100.0, *(e for e in edges if abs(e) < float("inf"))]:
            assert prediction.right(value)


def test_two_questions_of_one_id_are_refused():
    with pytest.raises(PredictionError, match="Two predictions are called 'number'"):
        register((NUMBER,), (replace(CHOICE, id="number"),))


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"question": ""},
        {"choices": (Choice("only", "One"),)},
        {"choices": (Choice("twin", "One"), Choice("twin", "Two"))},
        {"choices": tuple(Choice(str(k), str(k)) for k in range(11))},
    ],
)
def test_a_record_that_can_not_be_asked_is_refused(wrong):
    with pytest.raises(PredictionError):
        replace(CHOICE, **wrong)


# ── answers ──


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        (4, 4.0),
        ("0.25", 0.25),
        ("1/4", 0.25),
        (" 16 × ", 16.0),
        ("16x", 16.0),
        ("-2", -2.0),
        ("1e3", 1000.0),
        (".5", 0.5),
    ],
)
def test_a_number_is_read_as_written(answer, read):
    assert NUMBER.read(answer) == read


@pytest.mark.parametrize(
    "answer", ["", "four", "1 000", "1,5", "nan", "inf", "1/0", float("nan"), True, "2**4", "9" * 400]
)
def test_what_is_no_number_is_refused_in_one_line(answer):
    with pytest.raises(PredictionError) as error:
        NUMBER.read(answer)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 120


@pytest.mark.parametrize(("answer", "name"), [("a", "first"), ("B", "second"), (" second ", "second")])
def test_a_choice_is_read_by_letter_or_name(answer, name):
    assert CHOICE.read(answer) == name


@pytest.mark.parametrize("answer", ["c", "", "The first", 1])
def test_what_is_no_choice_is_refused_with_the_letters(answer):
    with pytest.raises(PredictionError, match="give one of a, b"):
        CHOICE.read(answer)


@pytest.mark.parametrize(
    ("answer", "measured", "value"),
    [
        (16, 16, 1),
        (15, 16, 1),
        (17.7, 16, 1),  # within 10% either way
        (13, 16, 0.75),
        (21, 16, 0.75),
        (8, 16, 0.5),
        (32, 16, 0.5),  # a factor of two either way
        (7.9, 16, 0),
        (33, 16, 0),
        (-16, 16, 0),
        (0, 0, 1),
        (1, 0, 0),
        (0, 1, 0),
    ],
)
def test_a_number_is_scored_by_its_relative_error(answer, measured, value):
    assert NUMBER.score(answer, measured).value == value


def test_a_number_far_off_is_told_by_how_much():
    assert NUMBER.score(2, 16).words == "too small by a factor of 8"
    assert NUMBER.score(160, 16).words == "too large by a factor of 10"


@pytest.mark.parametrize(("answer", "value"), [("first", 0), ("second", 1)])
def test_a_choice_is_right_or_wrong(answer, value):
    assert CHOICE.score(answer, "second").value == value


@pytest.mark.parametrize(("measured", "name"), [(-3.0, "none"), (0.99, "none"), (1.0, "some"), (5.0, "much")])
def test_a_measured_number_decides_among_ranges(measured, name):
    assert RANGES.right(measured) == name


def test_a_measurement_that_fits_no_choice_is_refused():
    with pytest.raises(PredictionError, match="0 choices fit"):
        CHOICE.right(3.0)
    with pytest.raises(PredictionError, match="none of the choices"):
        reveal("scaled_net_is_average", "sideways")
    with pytest.raises(PredictionError, match="0 choices fit"):
        reveal("dropout_left_on_at_test", float("nan"))


def test_an_unknown_question_is_refused_with_the_known_ones():
    with pytest.raises(PredictionError, match=r"'nothing'.*scale_without_rescaling"):
        predict("nothing")
    with pytest.raises(PredictionError, match="nothing"):
        reveal("nothing", 1)


# ── committing ──


def test_the_first_answer_stands(ledger):
    first = ledger.commit(NUMBER, 8, "2 × 4")
    again = ledger.commit(NUMBER, 16, "2 to the 4th")
    assert again == first == ledger.committed(NUMBER)
    assert (first.answer, first.reason) == (8.0, "2 × 4")


def test_a_second_predict_shows_what_was_committed_and_when():
    predict("scale_without_rescaling", answer=8, reason="2 × 4")
    seen = str(predict("scale_without_rescaling"))
    assert "You predicted 8 × (committed " in seen
    assert "2 × 4" in seen
    late = predict("scale_without_rescaling", answer=16)
    assert "You predicted 8 ×" in str(late)
    assert "the new answer 16 × is not taken" in str(late)
    assert "the new answer 16 × is not taken" in late.html()


def test_a_wrong_answer_by_code_commits_nothing():
    with pytest.raises(PredictionError):
        predict("scaled_net_is_average", answer="z")
    assert "To commit an answer" in str(predict("scaled_net_is_average"))


def test_a_commitment_outlives_the_kernel(tmp_path):
    code = "from course_lib.predictions import predict; predict('scaled_net_is_average', answer='b', reason='bent')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    kept = Store(tmp_path / "data").get("scaled_net_is_average")
    assert (kept.answer, kept.reason) == ("linear", "bent")


def test_two_kernels_keep_both_their_commitments(tmp_path):
    one, two = Store(tmp_path), Store(tmp_path)
    stamp = "2026-11-21T03:00:00+00:00"
    one.commit("a", Commitment("x", "", stamp))
    two.commit("b", Commitment(2.0, "", stamp))
    assert two.commit("a", Commitment("y", "", stamp)).answer == "x"
    fresh = Store(tmp_path)
    assert (fresh.get("a").answer, fresh.get("b").answer) == ("x", 2.0)


@pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\x00" + b"\xff" * 4000])
def test_a_damaged_file_is_left_alone_and_said_in_one_line(tmp_path, content):
    path = tmp_path / FILE
    path.write_bytes(content)
    ledger = Ledger(register((NUMBER,)), Store(tmp_path))
    ledger.commit(NUMBER, 8)
    assert ledger.committed(NUMBER).answer == 8
    assert "is damaged" in ledger.store.notice
    assert "\n" not in ledger.store.notice
    assert path.read_bytes() == content
    assert ledger.store.notice in str(predictions.Question(ledger, NUMBER))


def test_what_could_not_be_kept_at_first_is_kept_with_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "PATIENCE", 0.05)
    ledger = Ledger(register((NUMBER, CHOICE)), Store(tmp_path))
    ledger.commit(CHOICE, "a")
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        ledger.commit(NUMBER, 8)
        assert "locked" in ledger.store.notice
    ledger.commit(RANGES, "b")
    assert ledger.store.notice == ""
    assert Store(tmp_path).get("number").answer == 8


def test_a_notebook_that_a_program_runs_commits_nothing_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "keeping", lambda: False)
    ledger = Ledger(register((NUMBER,)), Store(tmp_path))
    ledger.commit(NUMBER, 8)
    assert ledger.committed(NUMBER).answer == 8
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_written_is_said_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "file" / "below"))
    seen = str(predict("scale_without_rescaling", answer=8))
    assert "You predicted 8 ×" in seen
    assert "last only until this kernel ends" in seen
    assert "You predicted 8 ×" in str(predict("scale_without_rescaling"))


def test_a_kept_answer_that_no_longer_fits_is_as_none(tmp_path, ledger):
    ledger.store.commit("choice", Commitment("of an earlier edition", "", "2026-11-21T03:00:00+00:00"))
    assert ledger.committed(CHOICE) is None


def test_writing_leaves_one_file(tmp_path):
    predict("scale_without_rescaling", answer=8)
    assert [p.name for p in (tmp_path / "data").iterdir()] == [FILE]


# ── what is seen ──


def test_an_open_question_has_a_form_and_a_static_form():
    bundle = predict("scaled_net_is_average")._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", WIDGET}
    for kind in ("text/plain", "text/html"):
        assert "b) Exactly for a linear net" in bundle[kind]
        assert "predict(" in bundle[kind]
    assert "VBox" not in bundle["text/plain"]


def test_without_ipywidgets_the_static_form_is_left(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    bundle = predict("scale_without_rescaling")._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}


def test_the_question_shows_nothing_of_the_answer():
    for prediction in PREDICTIONS.values():
        question = predict(prediction.id)
        assert prediction.because not in str(question) + question.html()


def test_a_reveal_without_a_commitment_invites_and_folds(ledger):
    seen = predictions.Reveal(ledger, NUMBER, 16.04)
    before, _, folded = seen.html().partition("<details>")
    assert "You have not predicted this yet" in before
    assert "16" not in before
    assert "16.04 ×" in folded
    assert "Measured: 16.04 ×" in str(seen)


def test_a_reveal_sets_the_measured_answer_beside_the_committed_one(ledger):
    ledger.commit(NUMBER, 8, "2 × 4 <b>")
    seen = predictions.Reveal(ledger, NUMBER, 16.0)
    for form in (str(seen), seen.html()):
        for words in ("8 ×", "16 ×", "0.5 of 1", "within a factor of two"):
            assert words in form or words in form.replace("<strong>", "").replace("</strong>", "")
    assert "2 × 4 &lt;b&gt;" in seen.html()
    assert "Because of &lt;this&gt;." in seen.html()
    assert "<details>" not in seen.html()


def test_a_range_shows_the_number_that_fell_into_it(ledger):
    ledger.commit(RANGES, "b")
    assert "Measured: b) Some (measured: 2.3 points)" in str(predictions.Reveal(ledger, RANGES, 2.3))


def test_measured_tensors_are_plain_numbers(ledger):
    import torch

    assert "Measured: 16 ×" in str(predictions.Reveal(ledger, NUMBER, torch.tensor(16.0)))


def test_run_all_with_nothing_committed_runs():
    measured = {"scale_without_rescaling": 14.0, "dropout_left_on_at_test": 2.0}
    for prediction in PREDICTIONS.values():
        predict(prediction.id)._repr_mimebundle_()
        answer = measured.get(prediction.id, prediction.choices[0].name if prediction.choices else 1)
        reveal(prediction.id, answer).bundle()


# ── the form ──


def parts(form):
    """The form's answer, reason, button and status."""
    return form.children[1:]


def test_the_form_commits_at_the_second_press_and_locks(ledger):
    form = predictions.Question(ledger, CHOICE).form()
    answer, reason, button, status = parts(form)
    assert answer.index is None
    answer.value, reason.value = "second", "so it is"
    button.click()
    assert ledger.committed(CHOICE) is None
    assert "b) The second" in status.value
    button.click()
    assert ledger.committed(CHOICE).answer == "second"
    assert ledger.committed(CHOICE).reason == "so it is"
    assert answer.disabled and reason.disabled and button.disabled
    assert len(form.children) == 1
    assert "You predicted" in form.children[0].value


def test_a_changed_answer_has_to_be_shown_again_before_it_is_committed(ledger):
    answer, _, button, status = parts(predictions.Question(ledger, NUMBER).form())
    answer.value = "1"
    button.click()
    answer.value = "16"  # a letter that the click had overtaken
    button.click()
    assert ledger.committed(NUMBER) is None
    assert "16 ×" in status.value
    button.click()
    assert ledger.committed(NUMBER).answer == 16


@pytest.mark.parametrize(
    ("prediction", "given", "said"), [(CHOICE, None, "Choose an answer"), (NUMBER, "four", "not a number")]
)
def test_the_form_says_what_is_missing(ledger, prediction, given, said):
    answer, _, button, status = parts(predictions.Question(ledger, prediction).form())
    if given is not None:
        answer.value = given
    button.click()
    button.click()
    assert said in status.value
    assert ledger.committed(prediction) is None


def test_a_commitment_by_code_locks_the_open_forms_too(ledger):
    forms = [predictions.Question(ledger, CHOICE).form() for _ in range(2)]
    ledger.commit(CHOICE, "a")
    assert [len(form.children) for form in forms] == [1, 1]


def test_a_reveal_on_the_page_follows_a_later_commitment(ledger, monkeypatch):
    import IPython.display

    shown, updated = [], []

    class Handle:
        display_id = "the-id"

    def display(bundle, **options):
        shown.append(bundle)
        return Handle

    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr(IPython.display, "update_display", lambda bundle, **options: updated.append((bundle, options)))
    monkeypatch.setattr(store, "noting", lambda: True)
    predictions.Reveal(ledger, NUMBER, 16.0)._ipython_display_()
    assert "not predicted" in shown[0]["text/plain"]
    assert not updated
    assert not ledger.store.journal.read()
    ledger.commit(NUMBER, 16)
    assert ledger.store.journal.read().scores["number"].words == "right on, within 10%"
    [(bundle, options)] = updated
    assert "right on" in bundle["text/plain"]
    assert options["display_id"] == "the-id"


def test_only_a_notebook_needs_ipywidgets():
    code = (
        "import sys; from course_lib.predictions import predict, reveal;"
        "str(predict('scale_without_rescaling')); str(reveal('scale_without_rescaling', 1));"
        "print([name for name in ('ipywidgets', 'IPython', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
