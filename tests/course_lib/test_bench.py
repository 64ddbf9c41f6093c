"""The benchmark: what it measures agrees, and what it says of it is right. How fast anything is, is not tested here."""

import json
import re
from pathlib import Path

import pytest
import torch

from course_lib import bench
from course_lib.bench import OPERATIONS, Arms, Operation, page, report, timing
from course_lib.bench import operations as listed

CPU = torch.device("cpu")
DOCS = Path(__file__).resolve().parents[2] / "docs"
DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


# the list --------------------------------------------------------------------------------------------------


def test_names_and_passes_are_there_once():
    keys = [(operation.name, operation.pass_) for operation in OPERATIONS]
    assert len(set(keys)) == len(keys)
    for operation in OPERATIONS:
        assert re.fullmatch(r"[a-z_]+(\.\w+)+", operation.name) and operation.against
        assert operation.pass_ in ("forward", "backward", "step") and set(operation.devices) <= {"cpu", "cuda"}


def test_every_module_with_operations_is_covered():
    modules = {operation.name.split(".")[0] for operation in OPERATIONS}
    expected = {"dropout", "activations", "normalization", "convolution", "optimizers", "ensembles", "fused"}
    assert expected <= modules
    activations = {operation.name.split(".")[1] for operation in OPERATIONS if operation.name.startswith("activations")}
    assert set(listed.activations.ACTIVATIONS) <= activations


def test_what_is_slow_on_purpose_is_marked_as_its_docstring_says():
    naive = {operation.name: operation.naive for operation in OPERATIONS if operation.naive}
    assert "convolution.conv2d_naive" in naive and "dropout.Dropout" not in naive

    def slow():
        """Right. Deliberately naive: two
        passes. And more.
        """

    def sometimes():
        """Deliberately naive for α ≠ 1: five passes."""

    assert listed.naive_because(slow) == "two passes"
    assert listed.naive_because(sometimes) == listed.naive_because(lambda: None) == ""


@pytest.fixture
def few_steps(monkeypatch):
    for name, value in {"NETS": 3, "STEPS": 2, "CONV_NETS": 2, "CONV_STEPS": 1}.items():
        monkeypatch.setattr(listed, name, value)


def tensors(value):
    return [value] if isinstance(value, torch.Tensor) else list(value)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: f"{o.name}-{o.pass_}")
def test_both_arms_do_the_same(operation, device, few_steps):
    """Within 1e-3 of the largest number of each result: both sum float32 in different orders."""
    readable = operation.name.startswith("fused")  # which these take where there are no kernels
    if device not in operation.devices and not readable:
        pytest.skip(f"not measured on {device}")
    torch.manual_seed(0)
    arms = operation.build(torch.device(device))
    assert arms.bytes_moved > 0
    for _ in range(2):  # a second call has to find everything as the first one did
        ours, theirs = arms.ours(), arms.theirs()
        if arms.limit:
            arms.limit()
        if not arms.comparable:
            continue
        for mine, other in zip(tensors(ours), tensors(theirs), strict=True):
            assert mine.shape == other.shape
            assert (mine - other).abs().max() <= 1e-3 * other.abs().max() + 1e-7


# timing -------------------------------------------------------------------------------------------------


class Clock:
    """Time that passes only where a call says so."""

    def __init__(self, monkeypatch):
        self.now, self.log = 0.0, []
        monkeypatch.setattr(timing.time, "process_time", lambda: self.now)

    def call(self, name, *durations):
        durations = list(durations)

        def run():
            self.now += durations[len([n for n in self.log if n == name]) % len(durations)]
            self.log.append(name)

        return run


def test_the_ratio_is_theirs_by_ours_and_the_arms_take_turns(monkeypatch):
    clock = Clock(monkeypatch)
    arms = Arms(clock.call("ours", 0.01), clock.call("theirs", 0.03), 1, limit=clock.call("limit", 0.005))
    found = bench.measure(arms, CPU, seconds=0.3)
    assert (found.ours, found.theirs, found.limit) == pytest.approx((0.01, 0.03, 0.005))
    assert found.ratio == pytest.approx(3) and found.spread == pytest.approx((3, 3))
    rounds = [clock.log[i : i + 3] for i in range(len(clock.log) - 3 * found.rounds, len(clock.log), 3)]
    assert all(sorted(turn) == ["limit", "ours", "theirs"] for turn in rounds)
    assert {turn[0] for turn in rounds} == {"ours", "theirs", "limit"}
    assert found.rounds == round(0.3 / 0.045)


def test_medians_ignore_what_disturbs_a_few_rounds(monkeypatch):
    clock = Clock(monkeypatch)
    arms = Arms(clock.call("ours", *[0.01] * 9, 5.0), clock.call("theirs", 0.02), 1)
    found = bench.measure(arms, CPU, seconds=1.0)
    assert found.ratio == pytest.approx(2)


def test_short_calls_are_repeated_until_the_clock_can_see_them(monkeypatch):
    clock = Clock(monkeypatch)
    arms = Arms(clock.call("ours", 1e-5), clock.call("theirs", 1e-3), 1)
    found = bench.measure(arms, CPU, seconds=1e-9)
    assert found.rounds == timing.FEWEST_ROUNDS
    assert clock.log.count("ours") >= 5 * 200 and clock.log.count("theirs") >= 5 * 2
    assert found.ours == pytest.approx(1e-5)


def test_a_collector_that_was_on_is_on_again_also_after_an_error():
    def broken():
        assert not timing.gc.isenabled()
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        bench.measure(Arms(broken, broken, 1), CPU)
    assert timing.gc.isenabled()


@pytest.mark.parametrize("device", DEVICES)
def test_a_copy_has_a_bandwidth(device, monkeypatch):
    monkeypatch.setattr(timing, "COPIED", 2**12)
    assert 1e6 < bench.copy_bandwidth(torch.device(device)) < 1e15


# the report ------------------------------------------------------------------------------------------------


def build_fake(device):
    x = torch.ones(1000, device=device)
    return Arms(lambda: x + 1, lambda: x + 1, 8000)


def build_limited(device):
    arms = build_fake(device)
    return Arms(arms.ours, arms.theirs, 8000, limit=arms.ours)


FAKES = (
    Operation("fake.add", "forward", "torch.add(x, 1)", build_fake),
    Operation("fake.add", "backward", "torch.add(x, 1)", build_fake, naive="to be read"),
    Operation("fake.limited", "step", "torch.add(x, 1)", build_limited),
    Operation("fake.gpu", "step", "torch.add(x, 1)", build_fake, devices=("cuda",)),
)


@pytest.fixture
def results(monkeypatch):
    monkeypatch.setattr(report, "OPERATIONS", FAKES)
    monkeypatch.setattr(timing, "COPIED", 2**12)
    return bench.run(seconds=0.001)


def test_a_run_says_all_that_is_needed(results):
    json.dumps(results, allow_nan=False)
    assert set(results) == {"hardware", "versions", "date", "threads", "copy_bandwidth", "operations"}
    assert results["threads"] == 1 and results["hardware"]["cpu"] and re.fullmatch(r"\d{4}-\d\d-\d\d", results["date"])
    assert [(row["name"], row["pass"], row["naive"]) for row in results["operations"]] == [
        ("fake.add", "forward", False),
        ("fake.add", "backward", True),
        ("fake.limited", "step", False),
    ]
    for row in results["operations"]:
        assert row["device"] == "cpu" and row["rounds"] >= timing.FEWEST_ROUNDS
        assert row["ratio"] == pytest.approx(row["theirs_us"] / row["ours_us"], rel=2e-3)
        share = 8000 / (row["ours_us"] / 1e6) / results["copy_bandwidth"]
        assert row["share_of_bandwidth"] == pytest.approx(share, rel=2e-3)
        assert row["spread"][0] <= row["spread"][1]
    assert [row["share_of_limit"] is None for row in results["operations"]] == [True, True, False]


def test_a_run_leaves_threads_and_the_generator_alone(monkeypatch):
    monkeypatch.setattr(report, "OPERATIONS", FAKES)
    monkeypatch.setattr(timing, "COPIED", 2**12)
    before, threads, seen = torch.get_rng_state(), torch.get_num_threads(), []
    bench.run(["fake.add"], seconds=0.001, on_operation=lambda operation: seen.append(torch.get_num_threads()))
    assert seen == [1, 1]
    assert torch.equal(before, torch.get_rng_state()) and torch.get_num_threads() == threads


def test_operations_are_chosen_by_the_start_of_their_name():
    assert {operation.name for operation in bench.select(["dropout.Dropout2d"])} == {"dropout.Dropout2d"}
    both = {operation.name.split(".")[0] for operation in bench.select(["dropout", "optimizers"])}
    assert both == {"dropout", "optimizers"}
    assert not any(operation.name.startswith("fused") for operation in bench.select())
    assert any(operation.name.startswith("fused") for operation in bench.select(device="cuda"))
    with pytest.raises(ValueError, match=r"no operation's name starts with 'dropuot'; there are dropout\.Dropout"):
        bench.select(["dropout", "dropuot"])


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no GPU"):
        bench.run(device="cuda")
    with pytest.raises(ValueError, match="'cpu' or 'cuda', not 'tpu'"):
        bench.run(device="tpu")


def test_what_is_written_reads_back_the_same_one_operation_a_line(results, tmp_path):
    path = bench.save(results, tmp_path / "benchmarks")
    assert path.name == "cpu.json" and [p.name for p in path.parent.iterdir()] == ["cpu.json"]
    assert json.loads(path.read_text("utf-8")) == results
    assert sum('"name": "fake.' in line for line in path.read_text("utf-8").splitlines()) == 3


def test_the_table_shows_every_operation(results):
    text = bench.table(results)
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) == 3 and "deliberately naive" in rows[1] and "deliberately naive" not in rows[0]
    assert "of the copy" in rows[0] and "of the products" in rows[2]
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1
    assert results["hardware"]["cpu"] in text and results["date"] in text


def test_the_page_names_what_misses_the_aim_and_why_the_naive_are_slow(results, monkeypatch):
    monkeypatch.setattr(page, "OPERATIONS", FAKES)
    ratios = {"fake.add": 0.3, "fake.limited": 0.51}
    rows = [{**row, "ratio": ratios[row["name"]]} for row in results["operations"]]
    text = bench.part({**results, "operations": rows})
    assert text.startswith(
        "3 operations, 1 of them naive on purpose. Of the others 1 are below 0.5: `fake.add` forward (0.30)."
    )
    assert "- `fake.add` backward: to be read\n" in text and bench.table({**results, "operations": rows}) in text
    fast = [{**row, "ratio": 2.0} for row in rows]
    assert "Of the others none is below 0.5." in bench.part({**results, "operations": fast})


def test_a_page_is_made_anew_between_its_markers_alone(results, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "OPERATIONS", FAKES)
    text = "above\n<!-- made by `course bench --write`: cpu -->\nold\n<!-- end: cpu -->\nbelow\n"
    fresh = bench.refreshed(text, results)
    assert fresh.startswith("above\n<!--") and fresh.endswith("-->\nbelow\n") and "old" not in fresh
    assert bench.refreshed(fresh, results) == fresh
    path, written = bench.save(results, tmp_path), tmp_path / "page.md"
    written.write_text(text, encoding="utf-8")
    bench.refresh(written, path)
    assert written.read_text("utf-8") == fresh
    with pytest.raises(ValueError, match="needs a line <!-- made by"):
        bench.refreshed("no markers", results)


@pytest.mark.parametrize("path", sorted((DOCS / "benchmarks").glob("*.json")), ids=lambda path: path.name)
def test_the_committed_page_is_what_the_results_give(path):
    text, results = (DOCS / "benchmarks.md").read_text("utf-8"), json.loads(path.read_text("utf-8"))
    assert bench.refreshed(text, results) == text, "python -m course_lib.bench"
    measured = {(row["name"], row["pass"]) for row in results["operations"]}
    device = results["operations"][0]["device"]
    assert measured == {(o.name, o.pass_) for o in OPERATIONS if device in o.devices}, "course bench --write"


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5 µs"), (12.34, "12.3 µs"), (4560.0, "4.56 ms"), (1.23e6, "1.23 s")]
)
def test_durations_have_units(value, text):
    assert report.duration(value) == text
