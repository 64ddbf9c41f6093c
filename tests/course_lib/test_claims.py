"""Claims: the ledger, the guards, the intervals, the runner and the card."""

import dataclasses
import html.parser
import json
import re
import shutil
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from course_lib import claims
from course_lib.claims import claim as core
from course_lib.claims import experiments, runner
from course_lib.claims.card import MARKS, STALE
from course_lib.claims.claim import (
    DOES_NOT_HOLD,
    HOLDS,
    HOLDS_WHEN,
    Claim,
    Decision,
    IdenticalArmsError,
    Interval,
    Measured,
    MeasurementError,
    Series,
    Table,
    settle,
)
from course_lib.claims.dropout import benefit, mechanism
from course_lib.claims.experiments import Option, images, tune_and_score
from course_lib.claims.figure import number, numbers, series_svg
from course_lib.claims.intervals import bca_interval, paired_difference
from course_lib.claims.ledger import LEDGER
from course_lib.ensembles import MLP, Member, train_ensemble
from course_lib.provenance import parts_of

# the ledger ----------------------------------------------------------------------------------------------


def test_the_ledger_has_81_rows_of_different_ids():
    assert len(LEDGER) == 81 == len({row.id for row in LEDGER})


def test_every_row_names_a_lesson_a_source_and_the_evidence():
    letters = dict(zip("VIABTORDC", "123456789", strict=True))
    for row in LEDGER:
        assert re.fullmatch(r"0\d_[a-z_]+", row.lesson) and row.lesson[1] == letters[row.id[0]]
        assert row.question and row.evidence and set(row.sources) <= {"S0", "S1", "S2", "S3"} and row.sources


def test_every_claim_is_a_row_and_lesson_8_is_complete():
    ids = {row.id for row in LEDGER}
    assert set(claims.CLAIMS) <= ids
    assert {row.id for row in LEDGER if row.lesson == "08_dropout"} <= set(claims.CLAIMS)
    for claim_id, claim in claims.CLAIMS.items():
        assert claim.id == claim_id and len(set(claim.seeds)) >= core.FEWEST_SEEDS


# intervals -----------------------------------------------------------------------------------------------


def test_the_interval_agrees_with_scipys_bca():
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(3).gamma(2.0, size=12)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=1).confidence_interval
    width = theirs.high - theirs.low
    assert bca_interval(values) == pytest.approx((theirs.low, theirs.high), abs=0.03 * width)


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    """200 samples of 10: bootstrap intervals cover a little below 95%; below 80% by chance in fewer than 1e-6 of
    runs, were the true share 92%.
    """
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        low, high = bca_interval(rng.normal(size=10), resamples=1000)
        covered += low <= 0 <= high
    assert covered >= 0.80 * 200


def test_the_interval_is_deterministic_and_of_no_width_for_equal_values():
    assert bca_interval([1, 2, 4.0]) == bca_interval([1, 2, 4.0])
    assert bca_interval([3.0] * 6) == (3.0, 3.0)
    for values in ([1.0], [1.0, float("nan")], [[1.0], [2.0]]):
        with pytest.raises(ValueError, match="at least two finite values"):
            bca_interval(values)


def test_differences_are_paired():
    a = [10.0, 20, 30, 40, 50]
    b = [9.0, 19.5, 29, 39.2, 49]
    paired = Interval.of_difference("a − b", "points", a, b)
    assert paired.low > 0 and paired.mean == pytest.approx(0.86)
    with pytest.raises(ValueError, match="as many seeds"):
        paired_difference(a, b[:4])


# settling ------------------------------------------------------------------------------------------------


def fake_measure(seeds):
    rng = np.random.default_rng(seeds[0])
    arms = {"with <b>": [[float(v) for v in rng.normal(5, 1, len(seeds))] for _ in (10, 1000)]}
    arms["without"] = [[v + 2 for v in values[::-1]] for values in arms["with <b>"]]
    return Measured((Series("error", "%", arms, "images", (10, 1000)),), (Table("seen", ("a", "b"), (("1", "2"),)),))


def fake_decide(measured):
    series = measured["error"]
    interval = Interval.of_difference("gain", "points", series.values("without", 10), series.values("with <b>", 10))
    return Decision(HOLDS if interval.low > 0 else DOES_NOT_HOLD, interval, {"gain": interval.mean})


FAKE = Claim(
    id="D1", statement="A <script>", headline="gain of {gain:.1f}", rule="a rule", measure=fake_measure,
    decide=fake_decide, seeds=(0, 1, 2, 3, 4),
)  # fmt: skip


def measuring(series):
    return dataclasses.replace(FAKE, measure=lambda seeds: Measured((series,)), decide=lambda m: pytest.fail())


def test_settle_fills_the_headline_from_the_figures():
    measured, decision, headline = settle(FAKE)
    assert headline == f"gain of {decision.figures['gain']:.1f}"
    assert measured["error"].mean("without", 1000) > measured["error"].mean("with <b>", 1000)


def test_two_arms_identical_to_the_last_bit_are_an_error():
    same = Series("error", "%", {"a": [[1.0, 2, 3, 4, 5]], "b": [[1.0, 2, 3, 4, 5]]})
    with pytest.raises(IdenticalArmsError, match="'a' and 'b' are identical to the last bit"):
        settle(measuring(same))


def test_arms_that_differ_in_the_last_bit_or_are_said_to_agree_pass():
    a = [[1.0, 2, 3, 4, 5]]
    b = [[1.0, 2, 3, 4, float(np.nextafter(5, 6))]]
    core.check_series("D1", Series("error", "%", {"a": a, "b": b}), 5)
    core.check_series("D1", Series("error", "%", {"a": a, "b": a}, identical="parity is the point"), 5)


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ({"a": [[1.0, 2, 3, 4]]}, "lacks a value"),
        ({"a": [[1.0, 2, 3, 4, 5], [1.0, 2, 3, 4, 5]]}, "lacks a value"),
        ({"a": [[1.0, 2, 3, 4, float("nan")]]}, "not finite"),
    ],
)
def test_missing_and_broken_measurements_are_an_error(arms, message):
    with pytest.raises(MeasurementError, match=message):
        settle(measuring(Series("error", "%", arms)))


@pytest.mark.parametrize("seeds", [(0, 1, 2, 3), (0, 1, 2, 3, 3)])
def test_fewer_than_five_seeds_are_an_error(seeds):
    with pytest.raises(MeasurementError, match="at least 5 different seeds"):
        settle(FAKE, seeds)


@pytest.mark.parametrize(("verdict", "condition"), [("maybe", ""), (HOLDS_WHEN, ""), (HOLDS, "a condition")])
def test_a_verdict_is_one_of_three_and_a_condition_goes_with_one(verdict, condition):
    decide = lambda m: dataclasses.replace(fake_decide(m), verdict=verdict, condition=condition)
    with pytest.raises(MeasurementError):
        settle(dataclasses.replace(FAKE, decide=decide))


def test_every_arm_gets_the_same_tuning_budget():
    net = MLP((784, 4, 10))
    data = images("mnist5k")
    one, two = Option(net), Option(net, Member(0, lr=1e-2))
    run = {"n_train": 20, "batch_size": 10, "score_at": (1, 2)}
    with pytest.raises(ValueError, match="same number of options"):
        tune_and_score({"a": (one,), "b": (one, two)}, data, (0, 1), **run)
    with pytest.raises(ValueError, match="for tuning only"):
        tune_and_score({"a": (one,), "b": (two,)}, data, (0, 1000), **run)
    found = tune_and_score({"a": (one, two), "b": (two, two)}, data, (0, 1), **run)
    assert found["b"].option == two and len(found["a"].errors) == 2 and found["a"].steps in (1, 2)


# the runner ----------------------------------------------------------------------------------------------


@pytest.fixture
def registry(monkeypatch):
    fakes = {"D1": FAKE}
    monkeypatch.setattr(runner, "CLAIMS", fakes)
    return fakes


def test_a_run_is_written_and_read_back_whole(registry, tmp_path):
    (result,) = runner.run(["D1"], folder=tmp_path)
    back = runner.load("D1", folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["D1.json"]
    assert (back.verdict, back.headline, back.seeds) == (HOLDS, result.headline, (0, 1, 2, 3, 4))
    assert back.lesson == "08_dropout" and set(back.versions) >= {"python", "torch", "numpy", "keras"}
    assert back.hardware["cpu"] and back.hardware["cores"] >= 1 and re.fullmatch(r"\d{4}-\d\d-\d\d", back.date)
    assert back.series[0].mean("without", 10) == pytest.approx(result.series[0].mean("without", 10), rel=1e-6)
    assert back.interval.low == pytest.approx(result.interval.low, rel=1e-6)
    assert not runner.is_stale(back)


def test_other_seeds_are_used_and_noted(registry, tmp_path):
    (result,) = runner.run(["D1"], seeds=range(10, 17), folder=tmp_path)
    assert result.seeds == tuple(range(10, 17)) and len(result.series[0].values("without", 10)) == 7


def test_a_failed_run_leaves_the_former_result(registry, tmp_path):
    runner.run(["D1"], folder=tmp_path)
    before = (tmp_path / "D1.json").read_text()
    same = Series("error", "%", {"a": [[1.0] * 5], "b": [[1.0] * 5]})
    registry["D1"] = measuring(same)
    with pytest.raises(IdenticalArmsError):
        runner.run(["D1"], folder=tmp_path)
    assert (tmp_path / "D1.json").read_text() == before


def test_unknown_claims_are_named_before_anything_runs(registry, tmp_path):
    with pytest.raises(runner.UnknownClaimError, match="no claim 'X9'"):
        runner.run(["D1", "X9"], folder=tmp_path)
    with pytest.raises(runner.UnknownClaimError, match="no experiment for claim V1"):
        runner.run(["V1"], folder=tmp_path)
    with pytest.raises(runner.UnknownClaimError, match="no claim 'X9'"):
        runner.load("X9", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"id": "D1"}', "null"])
def test_a_damaged_result_says_how_to_mend_it(text, tmp_path):
    (tmp_path / "D1.json").write_text(text)
    with pytest.raises(runner.ResultError, match="course evidence D1"):
        runner.load("D1", folder=tmp_path)


def test_a_result_of_another_claim_is_refused(registry, tmp_path):
    runner.run(["D1"], folder=tmp_path)
    shutil.copy(tmp_path / "D1.json", tmp_path / "D2.json")
    with pytest.raises(runner.ResultError, match="holds claim D1"):
        runner.load("D2", folder=tmp_path)


def test_a_result_goes_stale_with_its_claims_code_and_wording(registry, tmp_path):
    (result,) = runner.run(["D1"], folder=tmp_path)
    for change in (
        {"rule": "another"},
        {"decide": lambda m: fake_decide(m)},
        {"measure": lambda seeds: fake_measure(seeds)},
    ):
        registry["D1"] = dataclasses.replace(FAKE, **change)
        assert runner.is_stale(result)
    del registry["D1"]
    assert runner.is_stale(result)


FACTOR = 2


def outer():
    return inner() * FACTOR


def inner():
    return 1


@torch.no_grad()
def decorated():
    return inner() * FACTOR


def test_the_code_version_follows_the_functions_and_constants_used(monkeypatch):
    parts = parts_of(outer)
    assert parts == {"defouter():returninner()*FACTOR", "definner():return1", "FACTOR=2"}
    monkeypatch.setitem(globals(), "FACTOR", 3)
    assert parts_of(outer) != parts


def test_the_code_version_looks_through_a_decorator():
    """PyTorch's no_grad wraps a training loop: a change in what the loop calls must show."""
    parts = parts_of(decorated)
    assert parts == {"@torch.no_grad()defdecorated():returninner()*FACTOR", "definner():return1", "FACTOR=2"}


def test_ledger_rows_join_all_81_with_what_is_settled(registry, tmp_path):
    runner.run(["D1"], folder=tmp_path)
    rows = runner.ledger_rows(folder=tmp_path)
    json.dumps(rows, allow_nan=False)
    assert len(rows) == 81
    settled = [row for row in rows if row["verdict"] is not None]
    assert [row["id"] for row in settled] == ["D1"]
    assert settled[0]["seeds"] == [0, 1, 2, 3, 4] and settled[0]["interval"]["low"] < settled[0]["interval"]["high"]
    assert settled[0]["stale"] is False
    unsettled = rows[0]
    assert unsettled["id"] == "V1" and unsettled["interval"] is unsettled["date"] is unsettled["seeds"] is None


# the card ------------------------------------------------------------------------------------------------


class Tags(html.parser.HTMLParser):
    """Checks that tags close in order, and keeps them with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def card(registry, tmp_path, monkeypatch):
    runner.run(["D1"], folder=tmp_path)
    return claims.evidence("D1", folder=tmp_path)


def test_the_card_is_escaped_whole_and_needs_nothing_from_outside(card):
    tags = Tags(card.html)
    assert "<script" not in card.html and "<b>" not in card.html.replace("<b>D1</b>", "")
    assert "A &lt;script&gt;" in card.html and "with &lt;b&gt;" in card.html
    names = {tag for tag, _ in tags.seen}
    assert {"svg", "table", "details"} <= names and not names & {"script", "link", "img", "iframe"}
    assert not re.search(r"(?:href|src)=|url\(|@import", card.html)


def test_the_card_says_the_verdict_in_words_and_the_figure_has_a_text(card):
    assert "✓ holds" in card.html and card.verdict == HOLDS
    (svg,) = [attrs for tag, attrs in Tags(card.html).seen if tag == "svg"]
    assert svg["role"] == "img" and "without" in svg["aria-label"] and "at 1000" in svg["aria-label"]
    assert "var(--jp-ui-font-color1" in card.html  # dark themes


def test_the_plain_form_carries_the_same(card):
    text = str(card)
    assert card.result.headline in text and "Verdict: holds" in text and "5 seeds" in text and "Rule: a rule" in text
    assert repr(card) == text and card._repr_html_() == card.html


def test_a_stale_result_is_marked_in_both_forms(card, registry):
    stale = dataclasses.replace(card, stale=True)
    assert STALE.format("D1") in stale.text and "tdn-stale" in stale.html.split("</style>")[1]
    assert STALE.format("D1") not in card.text


def test_an_unsettled_row_says_so(tmp_path):
    card = claims.evidence("V1", folder=tmp_path)
    assert card.verdict == "not settled yet" and "not settled yet" in card.text
    Tags(card.html)
    with pytest.raises(runner.UnknownClaimError):
        claims.evidence("X9", folder=tmp_path)


def test_verdict_colours_are_readable_on_white_text():
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return np.dot([0.2126, 0.7152, 0.0722], linear)

    for _, colour in MARKS.values():
        assert 1.05 / (luminance(colour) + 0.05) >= 4.5


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.12345, "0.123"), (12.345, "12.3"), (4096.0, "4,096"), (1.5e-13, "1.5e-13")]
)
def test_numbers_are_short(value, text):
    assert number(value) == text


def test_an_interval_shows_its_width():
    assert numbers(1.9994, 1.9972, 2.0026) == ("1.9994", "1.9972", "2.0026")
    assert numbers(-21.74, -22.33, -20.86) == ("-21.7", "-22.3", "-20.9")
    assert numbers(100.0, 100.0, 100.0) == ("100", "100", "100")
    assert numbers(3e-13, 1e-13, 4e-13) == ("3e-13", "1e-13", "4e-13")


@pytest.mark.parametrize(
    "series",
    [
        Series("one x", "%", {"a": [[1.0, 2, 3, 4, 5]], "b": [[2.0, 2, 2, 2, 2]]}),
        Series("names", "", {"a": [[0.0] * 5, [0.0] * 5]}, "set", ("m", "n")),
        Series("orders of magnitude", "s", {"a": [[1e-9] * 5, [1e3, 2e3, 1e3, 3e3, 1e3]]}, "n", (1, 1000)),
        Series("negative", "points", {"a": [[-3.0, -2, -1, -2, -3], [-1.0, 0, 1, 0, 1]]}, "p", (0.1, 0.5)),
        Series("a name that goes on " * 6, "%", {"a": [[1.0] * 5] * 10}, "rate", tuple(10**-i for i in range(10))),
        Series("words", "%", {"a": [[1.0] * 5] * 3}, "", ("four times the data", "a smaller net", "early stopping")),
        Series("long words", "%", {"a": [[1.0] * 5] * 8}, "", tuple(f"animalshape, {n}" for n in range(8))),
    ],
)
def test_figures_of_every_kind_stay_in_their_frame(series):
    tags = Tags(series_svg(series))
    width, height = (float(v) for v in tags.seen[0][1]["viewbox"].split()[2:])
    for _, attrs in tags.seen:
        for key, limit in (("x1", width), ("x2", width), ("cx", width), ("y1", height), ("y2", height), ("cy", height)):
            assert 0 <= float(attrs.get(key, 0)) <= limit
    boxes = [text_box(attrs, text) for text, attrs in texts_of(series_svg(series))]
    assert all(left >= 0 and right <= width for left, right, _ in boxes)
    for (left, right, row), (other_left, other_right, other_row) in combinations(boxes, 2):
        assert row != other_row or right <= other_left or other_right <= left


def texts_of(svg):
    """Each text of a figure with its attributes."""
    return [(element.text, element.attrib) for element in ElementTree.fromstring(svg).iter() if element.text]


def text_box(attrs, text):
    """Where a text begins and ends and in which row, at a little less than a letter's mean width."""
    x, wide = float(attrs["x"]), 0.5 * float(attrs.get("font-size", 11)) * len(text)
    left = x - wide * {"start": 0, "middle": 0.5, "end": 1}[attrs["text-anchor"]]
    return left, left + wide, attrs["y"]


# what is committed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("claim_id", list(claims.CLAIMS))
def test_the_committed_result_is_there_fresh_and_decides_the_same_again(claim_id):
    result = claims.load(claim_id)
    assert result is not None and not runner.is_stale(result), f"measure it again: course evidence {claim_id}"
    claim = claims.CLAIMS[claim_id]
    measured = Measured(result.series, result.tables)
    for series in measured.series:
        core.check_series(claim_id, series, len(result.seeds))
    decision = claim.decide(measured)
    assert (decision.verdict, decision.condition) == (result.verdict, result.condition)
    assert claim.headline.format(**decision.figures) == result.headline
    Tags(claims.evidence(claim_id).html)


@pytest.fixture
def in_seconds(monkeypatch):
    """Experiments on few images: a step for each time that the errors are scored, whatever was asked for."""

    def train(net, members, pool, *, n_train, steps, score_at=(), **how):
        at = sorted({*score_at, steps})
        short = {"n_train": min(n_train, 16), "steps": len(at), "score_at": range(1, len(at) + 1)}
        return dataclasses.replace(train_ensemble(net, members, pool, **short, **how), steps=tuple(at))

    def few(name, **how):
        whole = images(name, **how)
        parts = {part: tuple(tensor[:50] for tensor in getattr(whole, part)) for part in ("train", "valid", "test")}
        return dataclasses.replace(whole, **parts)

    monkeypatch.setattr(experiments, "train_ensemble", train)
    for module in (benefit, mechanism):
        monkeypatch.setattr(module, "images", few)


@pytest.mark.slow
@pytest.mark.parametrize("claim_id", [claim.id for claim in (*mechanism.CLAIMS, *benefit.CLAIMS)])
def test_every_long_experiment_measures_what_its_rule_decides_by(claim_id, in_seconds):
    claim, seeds = claims.CLAIMS[claim_id], tuple(range(5))
    measured = claim.measure(seeds)
    for series in measured.series:
        core.check_series(claim_id, dataclasses.replace(series, identical="so little training"), len(seeds))
    decision = claim.decide(measured)
    assert decision.verdict in (HOLDS, HOLDS_WHEN, DOES_NOT_HOLD) and claim.headline.format(**decision.figures)


@pytest.mark.slow
def test_a_claim_measured_again_gives_the_same_verdict(tmp_path):
    (again,) = claims.run(["D8"], folder=tmp_path)
    assert again.verdict == claims.load("D8").verdict and again.tables[0].rows
