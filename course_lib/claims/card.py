"""The card that shows a claim: `evidence("D1")` in a notebook, as HTML and as plain text."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Series, Table
from course_lib.claims.figure import numbers, series_svg
from course_lib.claims.intervals import bca_interval
from course_lib.claims.ledger import LEDGER, LedgerRow
from course_lib.claims.runner import RESULTS, Result, UnknownClaimError, is_stale, load

__all__ = ["Evidence", "evidence"]

# sign and colour; the colours keep a contrast of 4.5 : 1 with white
MARKS = {HOLDS: ("✓", "#00704a"), HOLDS_WHEN: ("◐", "#8a5a00"), DOES_NOT_HOLD: ("✗", "#b3261e")}
UNSETTLED = ("…", "#5f6368")
STALE = "The claim's code has changed since this was measured: run `course evidence {}` again."

STYLE = """
.tdn-claim{border:1px solid var(--jp-border-color1,#bdbdbd);border-radius:6px;padding:10px 14px;max-width:60em;
color:var(--jp-ui-font-color1,#212121);background:var(--jp-layout-color1,#fff);
font-family:var(--jp-ui-font-family,sans-serif);font-size:14px;line-height:1.45}
.tdn-claim p{margin:.45em 0}.tdn-claim .tdn-muted{color:var(--jp-ui-font-color2,#616161);font-size:12px}
.tdn-claim .tdn-verdict{color:#fff;border-radius:4px;padding:1px 8px;font-weight:600;white-space:nowrap}
.tdn-claim .tdn-stale{border-left:4px solid #8a5a00;padding-left:8px}
.tdn-claim .tdn-plots{display:flex;flex-wrap:wrap;gap:10px}.tdn-claim figure{margin:0}
.tdn-claim table{border-collapse:collapse;font-size:12px;margin:.4em 0;display:block;overflow-x:auto}
.tdn-claim th,.tdn-claim td{padding:2px 8px;text-align:left !important;
border-bottom:1px solid var(--jp-border-color2,#e0e0e0);
color:inherit;background:transparent}.tdn-claim caption{text-align:left;font-weight:600;padding:4px 0}
.tdn-claim summary{cursor:pointer}
""".replace("\n", "")


@dataclass(frozen=True)
class Evidence:
    """A row of the ledger with what settled it (`result` is None while nothing has)."""

    row: LedgerRow
    result: Result | None
    stale: bool

    @property
    def verdict(self) -> str:
        return self.result.verdict if self.result else "not settled yet"

    @property
    def text(self) -> str:
        """The card in plain text."""
        return "\n".join(text_lines(self))

    @property
    def html(self) -> str:
        """The card as self-contained HTML: no script, no link, everything escaped."""
        return card_html(self)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


def evidence(claim_id: str, *, folder: Path = RESULTS) -> Evidence:
    """The evidence on a claim, to be shown. Raises UnknownClaimError for an id that the ledger lacks."""
    row = next((row for row in LEDGER if row.id == claim_id), None)
    if row is None:
        raise UnknownClaimError(f"the ledger has no claim {claim_id!r}")
    result = load(claim_id, folder=folder)
    return Evidence(row, result, stale=result is not None and is_stale(result))


def interval_line(result: Result) -> str:
    it = result.interval
    mean, low, high = numbers(it.mean, it.low, it.high)
    seeds = f"{len(result.seeds)} seeds"
    return f"{it.what}: {mean} {it.unit} ({it.confidence:.0%} interval {low} to {high}, {seeds})"


def source_line(result: Result) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    hardware = result.hardware
    return (
        f"Measured {result.date} in {result.seconds:.0f} s of processor time on {hardware['cpu']} "
        f"({hardware['threads']} of {hardware['cores']} cores, {hardware['device']}); {versions}."
    )


def text_lines(evidence: Evidence) -> list[str]:
    row, result = evidence.row, evidence.result
    if result is None:
        return [f"{row.id}: {row.question}", "not settled yet", f"evidence wanted: {row.evidence}"]
    lines = [f"{row.id}: {result.statement}", f"Verdict: {result.verdict}"]
    if result.condition:
        lines.append(f"when {result.condition}")
    if evidence.stale:
        lines.append(STALE.format(row.id))
    return [*lines, result.headline, interval_line(result), f"Rule: {result.rule}", source_line(result)]


def card_html(evidence: Evidence) -> str:
    row, result = evidence.row, evidence.result
    sign, colour = MARKS[result.verdict] if result else UNSETTLED
    parts = [
        f'<div class="tdn-claim" role="group" aria-label="{escape(f"Claim {row.id}: {evidence.verdict}")}">',
        f"<style>{STYLE}</style>",
        f"<p><b>{escape(row.id)}</b> {escape(result.statement if result else row.question)}</p>",
        f'<p><span class="tdn-verdict" style="background:{colour}">{sign} {escape(evidence.verdict)}</span>',
        f" {escape(result.condition)}</p>" if result and result.condition else "</p>",
    ]
    if result is None:
        parts.append(f'<p class="tdn-muted">Evidence wanted: {escape(row.evidence)}</p></div>')
        return "".join(parts)
    if evidence.stale:
        parts.append(f'<p class="tdn-stale">{escape(STALE.format(row.id))}</p>')
    parts.append(f"<p>{escape(result.headline)}</p>")
    drawn = [series for series in result.series if not all_equal(series)]
    if drawn:
        figures = "".join(f"<figure>{series_svg(series)}</figure>" for series in drawn)
        parts.append(f'<div class="tdn-plots">{figures}</div>')
        parts.append(f'<p class="tdn-muted">Means over {len(result.seeds)} seeds with 95% bootstrap intervals.</p>')
    parts += [f"<p>{escape(interval_line(result))}</p>"]
    parts += [table_html(table) for table in result.tables]
    parts.append("<details><summary>All measurements, and the rule</summary>")
    parts.append(f"<p>{escape(result.rule)}</p>")
    parts += [table_html(measurements(series)) for series in result.series]
    parts.append(f'</details><p class="tdn-muted">{escape(source_line(result))}</p></div>')
    return "".join(parts)


def all_equal(series: Series) -> bool:
    """Whether all arms agree to the last bit: a figure would show one line, and hide the others under it."""
    first, *others = ([list(values) for values in by_x] for by_x in series.arms.values())
    return bool(others) and all(other == first for other in others)


def measurements(series: Series) -> Table:
    """Mean [interval] of every arm at every x."""
    rows = []
    for arm, by_x in series.arms.items():
        cells = ["{} [{}, {}]".format(*numbers(sum(v) / len(v), *bca_interval(v))) for v in by_x]
        rows.append([arm, *cells])
    heads = [series.x_name or "arm", *(str(x) or "mean [95% interval]" for x in series.x)]
    unit = f", {series.unit}" if series.unit else ""
    return Table(series.name + unit, heads, rows)


def table_html(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    body = "".join(row_html(row) for row in table.rows)
    return f"<table><caption>{escape(table.name)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def row_html(cells: Sequence[str]) -> str:
    first, *rest = cells
    return f'<tr><th scope="row">{escape(first)}</th>' + "".join(f"<td>{escape(c)}</td>" for c in rest) + "</tr>"
