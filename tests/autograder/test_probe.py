"""collect: whatever a candidate does, evidence comes back, no patch stays. The wire: hostile bytes never surprise."""

import json
import random
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.functional import dropout as imported_before

from autograder.exercise import Case, Close, Criterion, Exercise
from autograder.probe import (
    DTYPES,
    Evidence,
    Failure,
    Outcome,
    WireError,
    collect,
    decode,
    encode,
    to_plain,
)
from autograder.probe import wire as module

FORBIDDEN = ("torch.nn.functional.dropout", "torch.nn.Dropout", "torch.dropout", "course_lib.dropout")


def call(candidate, case):
    return {"output": candidate(torch.tensor(case["x"]))}


EXERCISE = Exercise(
    id="test.double",
    lesson="00_test",
    title="Double",
    answer="double",
    criteria=(Criterion("output", 1, Close()),),
    cases=lambda seed: (),
    probe=call,
    reference=lambda x: 2 * x,
    misconceptions=(),
    variants=(),
    hints=(),
    forbidden=FORBIDDEN,
)
CASES = (Case("one", {"x": np.ones(3, np.float32)}), Case("two", {"x": np.zeros(3, np.float32)}))


def evidence_of(candidate):
    return collect(EXERCISE, candidate, CASES)


def failure_of(candidate):
    return evidence_of(candidate).outcomes[0].failure


# ---------------------------------------------------------------- collect


def test_each_case_gives_an_outcome():
    evidence = evidence_of(lambda x: 2 * x)
    assert [outcome.outputs["output"].tolist() for outcome in evidence.outcomes] == [[2, 2, 2], [0, 0, 0]]
    assert evidence == replace(evidence, exercise="test.double", forbidden=())


def test_a_candidate_cannot_change_the_case():
    def overwrites(x):
        x += 1
        return x

    collect(replace(EXERCISE, probe=lambda candidate, case: {"output": candidate(case["x"])}), overwrites, CASES)
    assert CASES[0]["x"].tolist() == [1, 1, 1]


def raises(error):
    def candidate(x):
        raise error

    return candidate


class Spiteful(Exception):
    def __str__(self):
        raise RuntimeError("no text for you")


class Beyond(BaseException):
    pass


@pytest.mark.parametrize(
    ("error", "kind", "type_", "message"),
    [
        (NotImplementedError("Your turn"), "blank", "", ""),
        (ValueError("wrong p"), "raised", "ValueError", "wrong p"),
        (SystemExit(3), "raised", "SystemExit", "3"),  # exit() in an answer
        (Beyond("out"), "raised", "Beyond", "out"),
        (GeneratorExit(), "raised", "GeneratorExit", ""),
        (MemoryError(), "raised", "MemoryError", ""),
        (Spiteful(), "raised", "Spiteful", ""),
        (ValueError("x" * 10_000), "raised", "ValueError", "x" * 2_000),
        (ValueError("half \ud800 a pair, and a \0"), "raised", "ValueError", "half ? a pair, and a "),
    ],
)
def test_an_exception_becomes_a_failure(error, kind, type_, message):
    failure = failure_of(raises(error))
    assert (failure.kind, failure.type, failure.message) == (kind, type_, message)


def test_endless_recursion_becomes_a_failure():
    def candidate(x):
        return candidate(x)

    assert failure_of(candidate).type == "RecursionError"


def test_stop_is_not_swallowed_and_undoes_the_watch():
    before = F.dropout
    with pytest.raises(KeyboardInterrupt):
        evidence_of(raises(KeyboardInterrupt()))
    assert F.dropout is before


def test_one_bad_case_leaves_the_others():
    def candidate(x):
        return 2 * x if x.sum() else 1 / 0

    first, second = evidence_of(candidate).outcomes
    assert first.failure is None
    assert second.failure.type == "ZeroDivisionError"


def stub(x):
    """As it was released."""
    raise NotImplementedError("Your turn: replace this line.")


def nearly_a_stub(x):
    """The last line is the released one, but something stands before it."""
    if x.sum():
        return 2 * x
    raise NotImplementedError("Your turn: replace this line.")


def test_a_released_stub_is_blank_without_running_the_probe():
    def never(candidate, case):
        pytest.fail("the probe ran")

    evidence = collect(replace(EXERCISE, probe=never), stub, CASES)
    assert [outcome.failure.kind for outcome in evidence.outcomes] == ["blank", "blank"]


def test_half_an_answer_is_run():
    first, second = evidence_of(nearly_a_stub).outcomes
    assert first.outputs["output"].tolist() == [2, 2, 2]
    assert second.failure.kind == "blank"


class LiesAboutDetach:
    @property
    def detach(self):
        raise RuntimeError("not you")


class LiesAboutArray:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no array")


class Exits:
    def __array__(self, dtype=None, copy=None):
        sys.exit(1)


class EqualsAll(np.ndarray):
    def __eq__(self, other):
        return np.ones(self.shape, bool)

    def __ne__(self, other):
        return np.zeros(self.shape, bool)


class Text(str):
    def __getitem__(self, key):
        return object()


class OwnTensor(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.Tensor.detach:
            raise RuntimeError("stay")
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.mark.parametrize(
    "value",
    [
        None,
        object(),
        [1, "a"],
        [[1, 2], [3]],
        {"a": 1},
        np.array([object()]),
        np.array(["a", "b"]),
        np.array([1 + 2j]),
        np.array(["2020-01-01"], "datetime64[D]"),
        b"bytes",
        lambda x: x,
        torch.ones(2, dtype=torch.complex64),
        LiesAboutDetach(),
        LiesAboutArray(),
        Exits(),
        torch.ones(2).as_subclass(OwnTensor),
        np.broadcast_to(np.float64(1), (3_000_000,)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_array_becomes_a_failure(value):
    assert failure_of(lambda x: value).kind == "returned"


def test_a_forgotten_return_is_named():
    assert "is a `return` missing?" in failure_of(lambda x: None).message


@pytest.mark.parametrize(
    "value",
    [
        np.ones(3).view(EqualsAll),
        torch.ones(3, dtype=torch.float64, requires_grad=True),
        np.ones((3, 2))[:, 0],
        np.ones(3).astype(">f8"),
        np.ones(6)[::2],
        [1.0, 1.0, 1.0],
    ],
    ids=["subclass", "requires_grad", "column", "big-endian", "strided", "list"],
)
def test_plain_arrays_come_out_plain(value):
    array = to_plain(value)
    assert type(array) is np.ndarray
    assert array.dtype == np.dtype("<f8") and array.dtype.isnative and array.flags.c_contiguous
    assert array.tolist() == [1, 1, 1]


def test_half_precision_of_torch_is_widened():
    assert to_plain(torch.ones(2, dtype=torch.bfloat16)).dtype == np.float32


def test_text_is_taken_without_its_class():
    array = to_plain(Text("train"))
    assert (array.dtype.kind, str(array)) == ("U", "train")


# ---------------------------------------------------------------- forbidden calls


def helper(x):
    return imported_before(x, 0.5)


class Subclass(nn.Dropout):
    pass


LAYER = nn.Dropout(0.5)


def direct(x):
    return torch.nn.functional.dropout(x, 0.5)


def alias(x):
    return F.dropout(x, 0.5)


def from_import_before(x):
    return imported_before(x, 0.5)


def from_import_inside(x):
    from torch.nn.functional import dropout

    return dropout(x, 0.5)


def import_inside(x):
    import torch.nn.functional as functional

    return functional.dropout(x, 0.5)


def by_name(x):
    return getattr(F, "drop" + "out")(x, 0.5)


def by_importlib(x):
    import importlib

    return importlib.import_module("torch.nn.functional").__dict__["dropout"](x, 0.5)


def new_layer(x):
    return nn.Dropout(0.5)(x)


def unused_layer(x):
    getattr(nn, "Drop" + "out")()
    return 2 * x


def old_layer(x):
    return LAYER(x)


def subclass(x):
    return Subclass(0.5)(x)


def subclass_inside(x):
    class Mine(nn.Dropout):
        pass

    return Mine(0.5)(x)


def nested(x):
    def inner(y):
        return imported_before(y, 0.5)

    return inner(x)


def through_a_helper(x):
    return helper(x)


def swallowed(x):
    try:
        return F.dropout(x, 0.5)
    except Exception:
        return 2 * x


def of_the_course(x):
    from course_lib.dropout import inverted_dropout

    return inverted_dropout(x, 0.5, torch.ones_like(x))


ROUTES = [
    *(direct, alias, from_import_before, from_import_inside, import_inside, by_name, by_importlib, new_layer),
    *(unused_layer, old_layer, subclass, subclass_inside, nested, through_a_helper, swallowed, of_the_course),
    *(imported_before, nn.Dropout, nn.Dropout(0.5), Subclass),
]


@pytest.mark.parametrize("candidate", ROUTES, ids=lambda c: getattr(c, "__name__", type(c).__name__))
def test_a_forbidden_call_is_seen_by_every_route(candidate):
    assert evidence_of(candidate).forbidden


@pytest.mark.parametrize("candidate", [direct, nested, raises(ValueError()), raises(SystemExit()), lambda x: 2 * x])
def test_the_watch_leaves_nothing_behind(candidate):
    def patched():
        owners = torch, F, nn.Dropout
        return [vars(owner).get(name) for owner in owners for name in ("dropout", "__init__")]

    before = patched()
    evidence_of(candidate)
    assert patched() == before
    assert F.dropout(torch.ones(2), 0.0).tolist() == [1, 1]
    assert nn.Dropout(0.25).p == 0.25


def test_the_watch_is_undone_where_a_record_names_what_does_not_exist():
    before = F.dropout
    exercise = replace(EXERCISE, forbidden=("torch.nn.functional.dropout", "torch.no_such_thing"))
    with pytest.raises(AttributeError, match="no_such_thing"):
        collect(exercise, lambda x: x, CASES)
    assert F.dropout is before


def honest(x):
    """Like F.dropout, only our own: words in a docstring are no call."""
    dropout = 2
    return x * dropout


def test_an_honest_answer_is_not_suspected():
    evidence = evidence_of(honest)
    assert evidence.forbidden == ()
    assert not any(outcome.failure for outcome in evidence.outcomes)


def test_trusted_code_may_call_everything():
    evidence = collect(EXERCISE, direct, CASES, trusted=True)
    assert evidence.forbidden == () and not evidence.outcomes[0].failure


class Wraps:
    """Its __wrapped__ leads in a circle, and it lies about its globals."""

    __globals__ = 3

    def __call__(self, x):
        return 2 * x

    @property
    def __wrapped__(self):
        return self


def test_an_object_that_lies_about_its_source_is_only_called():
    assert evidence_of(Wraps()).outcomes[0].outputs["output"].tolist() == [2, 2, 2]


# ---------------------------------------------------------------- the wire


def sample():
    rng = np.random.default_rng(0)
    arrays = {name: (rng.random((2, 3)) * 9).astype(name) for name in DTYPES}
    arrays |= {
        "0-d": np.array(2.5),
        "nothing": np.ones((0, 3), np.float32),
        "text": np.array("träin ✓"),
        "": np.array(""),
    }
    arrays["not finite"] = np.array([np.nan, np.inf, -np.inf], np.float16)
    return Evidence(
        "test.double", (Outcome(arrays), Outcome({}, Failure("raised", "ValueError", "é", "y = x"))), ("a.b",)
    )


def same(one, other):
    assert (one.exercise, one.forbidden) == (other.exercise, other.forbidden)
    for mine, theirs in zip(one.outcomes, other.outcomes, strict=True):
        assert mine.failure == theirs.failure
        assert list(mine.outputs) == list(theirs.outputs)
        for a, b in zip(mine.outputs.values(), theirs.outputs.values(), strict=True):
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def test_evidence_survives_the_wire():
    same(decode(encode(sample(), "r1"), "r1"), sample())


def test_arrays_from_the_wire_are_their_own_and_writable():
    array = decode(encode(sample(), "r1"), "r1").outcomes[0].outputs["float32"]
    array += 1


def test_a_big_endian_array_keeps_its_values():
    evidence = Evidence("e", (Outcome({"x": np.array([1.0, 2.0], ">f4")}),))
    assert decode(encode(evidence, "r"), "r").outcomes[0].outputs["x"].tolist() == [1, 2]


def wire(header, payload=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + payload


def header(**changes):
    array = {"dtype": "float32", "shape": [1]}
    outcome = {"arrays": {"x": array}, "failure": None}
    return {"request": "r", "exercise": "e", "forbidden": [], "outcomes": [outcome], **changes}


def with_array(**changes):
    return header(outcomes=[{"arrays": {"x": {"dtype": "float32", "shape": [1], **changes}}, "failure": None}])


FOUR = bytes(4)
BAD_DTYPES = ("object", "O", "complex64", "U4", "V8", "f4", ">f4", None, 3, [], {})
BAD_LENGTHS = (-1, 1.0, True, "1", None, 2, 2**31, 2**62, 2**63, 10**40, [], float("nan"), float("inf"))


def test_the_sample_that_the_next_tests_damage_is_sound():
    assert decode(wire(header(), FOUR), "r").outcomes[0].outputs["x"].tolist() == [0]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        bytes(8),
        b"\xff" * 8,
        b"\xff" * 100,
        wire(header(), FOUR)[:-1],
        wire(header(), FOUR)[:30],
        wire(header(), FOUR) + b"\0",
        wire(header(request="other"), FOUR),
        wire(header(request=None), FOUR),
        wire(b"\xff\xfe\x00"),
        wire(b"not json"),
        wire(b"[]"),
        wire(b"3"),
        wire(b"null"),
        wire(b"NaN"),
        wire(b"{}"),
        wire(b"[" * 100_000),
        wire(b'{"request": "r", "outcomes": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
        wire(b'{"request": "r", "outcomes": ' + b"9" * 10_000 + b"}"),
        wire(header(outcomes=None)),
        wire(header(outcomes={"a": 1})),
        wire(header(outcomes=[None])),
        wire(header(outcomes=["text"])),
        wire(header(outcomes=[{}])),
        wire(header(outcomes=[{"arrays": [], "failure": None}])),
        wire(header(outcomes=[{"arrays": {"x": 3}, "failure": None}])),
        wire(header(outcomes=[{"arrays": {"x": "text"}, "failure": None}])),
        wire(header(outcomes=[{"arrays": {}, "failure": {}}])),
        wire(header(outcomes=[{"arrays": {}, "failure": "raised"}])),
        wire(header(forbidden=None), FOUR),
        wire(header(forbidden=3), FOUR),
        wire(header(forbidden={"a": 1}), FOUR),
        *(wire(with_array(dtype=bad), FOUR) for bad in BAD_DTYPES),
        *(wire(with_array(shape=[bad]), FOUR) for bad in BAD_LENGTHS),
        wire(with_array(shape=3), FOUR),
        wire(with_array(shape="1"), FOUR),
        wire(with_array(shape=[1] * 9), FOUR),
        wire(with_array(shape=[1] * 100), FOUR),
        wire(with_array(shape=[0, 2**62])),
        wire(with_array(shape=[0, 10**40])),
        wire(with_array(shape=[2**32, 2**32, 0])),
        wire(with_array(shape=[-1, -4]), FOUR * 4),
        wire(with_array(dtype="bool"), b"\x07"),
    ],
)  # fmt: skip
def test_hostile_bytes_are_refused_with_a_wire_error(data):
    with pytest.raises(WireError):
        decode(data, "r")


def test_too_many_bytes_are_refused_before_they_are_read(monkeypatch):
    monkeypatch.setattr(module, "MAX_EVIDENCE_BYTES", 100)
    with pytest.raises(WireError, match="too large"):
        decode(bytes(101), "r")


def test_a_header_that_is_too_large_is_not_parsed(monkeypatch):
    monkeypatch.setattr(module, "MAX_HEADER_BYTES", 100)
    with pytest.raises(WireError, match="too large"):
        decode(wire(header(exercise="e" * 100), FOUR), "r")


def test_an_array_over_the_cap_is_refused(monkeypatch):
    monkeypatch.setattr(module, "MAX_ARRAY_BYTES", 3)
    with pytest.raises(WireError, match="larger"):
        decode(wire(header(), FOUR), "r")


def test_text_from_the_wire_is_bounded_and_clean():
    text = {"text": "a\ud800\0" + "b" * 5000}
    failure = {"kind": "raised", "type": "T" * 5000, "message": ["a", 1], "line": None}
    got = decode(wire(header(outcomes=[{"arrays": {"x": text}, "failure": failure}], forbidden=["\ud800"] * 500)), "r")
    said = str(got.outcomes[0].outputs["x"])
    assert said.startswith("a?b") and len(said) <= 2000
    assert len(got.outcomes[0].failure.type) == 2000
    assert len(got.forbidden) == 100
    got.outcomes[0].outputs["x"].item().encode()


def test_random_damage_gives_a_wire_error_or_evidence_and_nothing_else():
    """3,000 seeded mutations: flipped, cut, doubled and inserted bytes, in the header and in the arrays."""
    rng = random.Random(20)
    sound = encode(sample(), "r1")
    length = int.from_bytes(sound[:8], "little")
    refused = 0
    for _ in range(3000):
        data = bytearray(sound)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data)) if rng.random() < 0.3 else rng.randrange(min(8 + length, len(data)))
            what = rng.randrange(5)
            if what == 0:
                data[at] ^= 1 << rng.randrange(8)
            elif what == 1:
                data[at] = rng.choice(b'"{}[]:,-0919eENn\\ \xff')
            elif what == 2:
                del data[at : at + rng.randint(1, 40)]
            elif what == 3:
                data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 9)))
            else:
                data[at:at] = data[at : at + rng.randint(1, 200)]
        if rng.random() < 0.8:  # a length that fits, so that the damage reaches the JSON parser
            data[:8] = length.to_bytes(8, "little")
        try:
            decode(bytes(data), "r1")
        except WireError:
            refused += 1
    assert refused > 1500
