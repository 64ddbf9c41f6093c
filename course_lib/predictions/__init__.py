"""Predictions that a learner commits before the lesson reveals what was measured.

    predict("scale_without_rescaling")                      # shows the question; the answer is committed with a button
    predict("scale_without_rescaling", answer=8)            # the same by code
    reveal("scale_without_rescaling", measured)             # the measured answer beside the committed one, with a score

Commitments and scores are kept in the learner's journal (see `course_lib.journal`), and never sent anywhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache

from course_lib.journal import data_dir
from course_lib.predictions import (
    activations,
    batch_norm,
    cards,
    cnn_architectures,
    dropout,
    initialization,
    optimizers,
    regularization,
    transfer,
    vanishing_gradients,
)
from course_lib.predictions.record import Choice, Prediction, PredictionError, Score
from course_lib.predictions.store import Commitment, Store

__all__ = [
    "PREDICTIONS",
    "Choice",
    "Commitment",
    "Ledger",
    "Prediction",
    "PredictionError",
    "Score",
    "predict",
    "reveal",
]

MAX_REASON = 2000


def register(*lessons: Iterable[Prediction]) -> dict[str, Prediction]:
    """One dict of all lessons' questions by id. Raises PredictionError where two share an id."""
    by_id: dict[str, Prediction] = {}
    for prediction in (prediction for lesson in lessons for prediction in lesson):
        if prediction.id in by_id:
            raise PredictionError(f"Two predictions are called {prediction.id!r}.")
        by_id[prediction.id] = prediction
    return by_id


PREDICTIONS = register(
    vanishing_gradients.PREDICTIONS,
    initialization.PREDICTIONS,
    activations.PREDICTIONS,
    batch_norm.PREDICTIONS,
    transfer.PREDICTIONS,
    optimizers.PREDICTIONS,
    regularization.PREDICTIONS,
    dropout.PREDICTIONS,
    cnn_architectures.PREDICTIONS,
)


class Ledger:
    """The questions, what was committed to them, and the outputs on the page that follow a commitment."""

    def __init__(self, predictions: dict[str, Prediction], store: Store) -> None:
        self.predictions = predictions
        self.store = store
        self._followers: dict[str, list[Callable[[], None]]] = defaultdict(list)

    def find(self, which: str | Prediction) -> Prediction:
        """The question of that id (a record is taken as it is). Raises PredictionError with the known ids."""
        if isinstance(which, Prediction):
            return which
        if which not in self.predictions:
            raise PredictionError(f"No prediction is called {which!r}. There are: {', '.join(self.predictions)}.")
        return self.predictions[which]

    def committed(self, prediction: Prediction) -> Commitment | None:
        """What stands committed; None if nothing does, or if what was kept no longer fits the question."""
        kept = self.store.get(prediction.id)
        try:
            return kept if kept is not None and prediction.read(kept.answer) == kept.answer else None
        except PredictionError:
            return None

    def commit(self, prediction: Prediction, answer: str | float, reason: str = "") -> Commitment:
        """Commit an answer; the first one stands. Raises PredictionError if the answer does not fit the question."""
        answer = prediction.read(answer)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        kept = self.store.commit(prediction.id, Commitment(answer, str(reason).strip()[:MAX_REASON], now))
        for follow in self._followers.pop(prediction.id, []):
            follow()
        return kept

    def follow(self, prediction: Prediction, change: Callable[[], None]) -> None:
        """Call `change` once, as soon as an answer to this question is committed."""
        self._followers[prediction.id].append(change)


class Question:
    """A question on the page: a form while it is open, what was committed afterwards. Its text form is `str()`.

    `refused` is an answer that came too late, after another had been committed.
    """

    def __init__(self, ledger: Ledger, prediction: Prediction, refused: str | float | None = None) -> None:
        self.ledger = ledger
        self.prediction = prediction
        self.refused = refused

    @property
    def _notice(self) -> str:
        if self.refused is None:
            return self.ledger.store.notice
        late = f"You answered before, so the new answer {self.prediction.show(self.refused)} is not taken."
        return f"{late} {self.ledger.store.notice}".strip()

    def __str__(self) -> str:
        kept, notice = self.ledger.committed(self.prediction), self._notice
        if kept is None:
            return cards.open_text(self.prediction, notice)
        return cards.committed_text(self.prediction, kept, notice)

    __repr__ = __str__

    def html(self) -> str:
        kept, notice = self.ledger.committed(self.prediction), self._notice
        if kept is None:
            return cards.open_html(self.prediction, notice)
        return cards.committed_html(self.prediction, kept, notice)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, object]:
        """The form where a widget manager shows it; HTML and plain text for everyone else."""
        bundle: dict[str, object] = {"text/plain": str(self), "text/html": self.html()}
        if self.ledger.committed(self.prediction) is None and (form := self.form()) is not None:
            # the form's own text/plain is "VBox(...)": keep ours
            view = "application/vnd.jupyter.widget-view+json"
            bundle[view] = form._repr_mimebundle_()[view]
        return bundle

    def form(self):
        """An ipywidgets form with a Commit button, or None without ipywidgets."""
        try:
            import ipywidgets
        except ImportError:
            return None
        prediction, ledger = self.prediction, self.ledger
        wide = ipywidgets.Layout(width="auto", max_width="46em")
        card = ipywidgets.HTML(cards.card(cards.question_html(prediction)))
        if prediction.choices:
            options = [(f"{prediction.letter(c)}) {c.text}", c.name) for c in prediction.choices]
            # JupyterLab takes the arrow keys away from radio buttons: Tab moves, Space chooses
            answer = ipywidgets.RadioButtons(options=options, index=None, description="Answer", layout=wide)
        else:
            # a text field, not a spin box: a number already standing there would suggest an answer
            answer = ipywidgets.Text(
                placeholder="a number: 3, 0.25, 1/4",
                continuous_update=False,
                description=f"Answer ({prediction.unit})" if prediction.unit else "Answer",
                style={"description_width": "initial"},
            )
        reason = ipywidgets.Textarea(
            placeholder="In one sentence (only you will see it)",
            description="Why?",
            rows=2,
            continuous_update=False,
            layout=wide,
            style={"description_width": "initial"},
        )
        button = ipywidgets.Button(
            description="Commit", button_style="primary", tooltip="Commit this answer; it can't be changed afterwards"
        )
        keys = "With the keyboard: Tab moves, Space chooses." if prediction.choices else ""
        status = ipywidgets.HTML(cards.status_html(keys))
        form = ipywidgets.VBox([card, answer, reason, button, status])

        # A commitment is for good, and in a busy kernel a click can overtake the last letters typed: so the first
        # press shows the answer as it arrived here, and the second commits just that.
        armed: list[str | float] = []

        def press(_button) -> None:
            if armed:
                ledger.commit(prediction, armed[0], reason.value)
                return
            try:
                if answer.value is None:
                    raise PredictionError("Choose an answer first.")
                armed.append(prediction.read(answer.value))
            except PredictionError as error:
                status.value = cards.status_html(str(error))
                return
            button.description = "Commit for good"
            shown = prediction.show(armed[0])
            status.value = cards.status_html(f"Your answer is “{shown}”. Press again to commit it, or change it.")

        def disarm(_change) -> None:
            armed.clear()
            button.description, status.value = "Commit", cards.status_html(keys)

        def lock() -> None:
            button.disabled = answer.disabled = reason.disabled = True
            card.value = self.html()
            form.children = (card,)

        answer.observe(disarm, names="value")
        button.on_click(press)
        ledger.follow(prediction, lock)
        return form


class Reveal:
    """The measured answer beside the committed one. In a notebook it follows a commitment that is made later."""

    def __init__(self, ledger: Ledger, prediction: Prediction, measured: str | float) -> None:
        measured = measured if isinstance(measured, str) else float(measured)
        prediction.right(measured)  # refuse a measurement that answers nothing here, not when it is drawn
        self.ledger = ledger
        self.prediction = prediction
        self.measured = measured

    def __str__(self) -> str:
        return cards.revealed_text(self.prediction, self.ledger.committed(self.prediction), self.measured)

    __repr__ = __str__

    def html(self) -> str:
        return cards.revealed_html(self.prediction, self.ledger.committed(self.prediction), self.measured)

    def bundle(self) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self.html()}

    def _ipython_display_(self) -> None:
        from IPython.display import display, update_display

        shown = display(self.bundle(), raw=True, display_id=True)
        self._note()
        if shown is not None and self.ledger.committed(self.prediction) is None:

            def follow() -> None:
                update_display(self.bundle(), raw=True, display_id=shown.display_id)
                self._note()

            self.ledger.follow(self.prediction, follow)

    def _note(self) -> None:
        """Once it is seen, how close the answer came goes into the journal."""
        if (kept := self.ledger.committed(self.prediction)) is not None:
            score = self.prediction.score(kept.answer, self.measured)
            self.ledger.store.note_score(self.prediction.id, score.value, score.words)


@cache
def _ledger(directory) -> Ledger:
    return Ledger(PREDICTIONS, Store(directory))


def predict(which: str | Prediction, answer: str | float | None = None, reason: str = "") -> Question:
    """Show a question (by its id) to answer before the lesson does; with `answer`, commit that answer.

    A choice is answered by its letter, a number as such. The first committed answer stands: a second call shows it,
    and when it was given. Raises PredictionError for an unknown id or an answer that does not fit.
    """
    ledger = _ledger(data_dir())
    prediction = ledger.find(which)
    if answer is None:
        return Question(ledger, prediction)
    given = prediction.read(answer)
    kept = ledger.commit(prediction, given, reason)
    return Question(ledger, prediction, refused=given if given != kept.answer else None)


def reveal(which: str | Prediction, measured: str | float) -> Reveal:
    """Show what was measured, beside what was committed, with a score. Without a commitment the answer is folded.

    `measured` is a number (for a question with ranges, the one it falls into is right) or a choice's name.
    Raises PredictionError for an unknown id or a measurement that fits no choice.
    """
    ledger = _ledger(data_dir())
    return Reveal(ledger, ledger.find(which), measured)
