"""What a learner sees of a prediction, as HTML and as plain text. Small functions over plain records."""

from __future__ import annotations

from html import escape

from course_lib.predictions.record import LETTERS, Prediction
from course_lib.predictions.store import Commitment

_CARD = (
    "border-left:4px solid {edge};padding:0.4em 0.9em;margin:0.4em 0;max-width:46em;line-height:1.45;"
    "color:var(--jp-ui-font-color1,inherit);background:var(--jp-layout-color2,rgba(127,127,127,0.1));"
    "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:var(--jp-content-font-size1,1rem);"
)
ASK, RIGHT, PART, WRONG = "#0072B2", "#009E73", "#E69F00", "#D55E00"  # Okabe–Ito; words say the same


def card(body: str, edge: str = ASK, label: str = "Prediction") -> str:
    return f'<div role="group" aria-label="{escape(label)}" style="{_CARD.format(edge=edge)}">{body}</div>'


def _line(text: str) -> str:
    return f'<p style="margin:0.3em 0">{text}</p>'


def _how(prediction: Prediction) -> str:
    example = '"…"' if prediction.choices else "…"
    return f'predict("{prediction.id}", answer={example}, reason="…")'


def question_html(prediction: Prediction) -> str:
    return _line(f"<strong>Predict first.</strong> {escape(prediction.question)}")


def open_html(prediction: Prediction, notice: str = "") -> str:
    """The static form of a question not yet answered: the choices, and the line of code that commits an answer."""
    body = question_html(prediction)
    if prediction.choices:
        # letters as text: JupyterLab's style turns a list's letters into numbers
        body += "".join(_line(f"{prediction.letter(c)}) {escape(c.text)}") for c in prediction.choices)
    elif prediction.unit:
        body += _line(f"Your answer is a number, in {escape(prediction.unit)}.")
    body += _line(f"To commit an answer, run <code>{escape(_how(prediction))}</code>.")
    return card(body + notice_html(notice))


def open_text(prediction: Prediction, notice: str = "") -> str:
    lines = [f"Predict first. {prediction.question}"]
    lines += [f"  {letter}) {choice.text}" for letter, choice in zip(LETTERS, prediction.choices, strict=False)]
    if not prediction.choices and prediction.unit:
        lines.append(f"Your answer is a number, in {prediction.unit}.")
    lines.append(f"To commit an answer, run {_how(prediction)}")
    return "\n".join(lines + [notice] * bool(notice))


def status_html(words: str) -> str:
    """A line that a screen reader speaks when it appears."""
    return f'<p role="status" style="margin:0.3em 0;color:var(--jp-ui-font-color1,inherit)">{escape(words)}</p>'


def notice_html(notice: str) -> str:
    return _line(f"<small>{escape(notice)}</small>") if notice else ""


def committed_html(prediction: Prediction, kept: Commitment, notice: str = "") -> str:
    body = question_html(prediction) + _line(
        f"You predicted <strong>{escape(prediction.show(kept.answer))}</strong> "
        f"<small>(committed {escape(kept.when())}; it stays as it is)</small>"
    )
    if kept.reason:
        body += _line(f"Your reason: “<em>{escape(kept.reason)}</em>”")
    return card(body + notice_html(notice))


def committed_text(prediction: Prediction, kept: Commitment, notice: str = "") -> str:
    lines = [
        f"Predict first. {prediction.question}",
        f"You predicted {prediction.show(kept.answer)} (committed {kept.when()}; it stays as it is).",
    ]
    lines += [f"Your reason: “{kept.reason}”"] * bool(kept.reason) + [notice] * bool(notice)
    return "\n".join(lines)


def _measured(prediction: Prediction, measured: str | float) -> str:
    """The measured answer in words: for a range, the choice and the number that fell into it."""
    words = prediction.show(prediction.right(measured))
    if prediction.choices and not isinstance(measured, str):
        words += f" (measured: {f'{measured:.4g} {prediction.unit}'.strip()})"
    return words


def revealed_html(prediction: Prediction, kept: Commitment | None, measured: str | float) -> str:
    """The measured answer beside the committed one; folded, with an invitation, where there is none."""
    answer = _line(f"Measured: <strong>{escape(_measured(prediction, measured))}</strong>")
    if prediction.because:
        answer += _line(escape(prediction.because))
    if kept is None:
        return card(
            _line(
                f"You have not predicted this yet: <em>{escape(prediction.question)}</em> "
                "Go back and commit to an answer."
            )
            + f"<details><summary>Show the measured answer all the same</summary>{answer}</details>",
            label="Prediction, not yet committed",
        )
    score = prediction.score(kept.answer, measured)
    edge = RIGHT if score.value == 1 else PART if score.value else WRONG
    body = _line(f"<em>{escape(prediction.question)}</em>") + _line(
        f"You predicted: <strong>{escape(prediction.show(kept.answer))}</strong> <small>({escape(kept.when())})</small>"
    )
    body += answer + _line(f"Score: <strong>{score.value:.2g} of 1</strong>, {escape(score.words)}.")
    if kept.reason:
        body += _line(f"Your reason was: “<em>{escape(kept.reason)}</em>” Does it hold?")
    else:
        body += _line("You gave no reason. Say in one sentence why it comes out so.")
    return card(body, edge, label="Prediction and measured answer")


def revealed_text(prediction: Prediction, kept: Commitment | None, measured: str | float) -> str:
    answer = [f"Measured: {_measured(prediction, measured)}"] + [prediction.because] * bool(prediction.because)
    if kept is None:
        return "\n".join(
            [f"You have not predicted this yet: {prediction.question}", f"To predict, run {_how(prediction)}", *answer]
        )
    score = prediction.score(kept.answer, measured)
    reason = f"Your reason was: “{kept.reason}” Does it hold?" if kept.reason else "You gave no reason."
    return "\n".join(
        [
            prediction.question,
            f"You predicted: {prediction.show(kept.answer)} ({kept.when()})",
            *answer,
            f"Score: {score.value:.2g} of 1, {score.words}.",
            reason,
        ]
    )
