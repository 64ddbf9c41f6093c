"""The table that sets a learner's results beside the frameworks'."""

import torch

from course_lib import trust


def one(yours, theirs):
    return trust.table([trust.Row("yours", "theirs", yours, theirs)]).lines[0]


def test_equal_up_to_rounding_is_the_same():
    theirs = torch.rand(50) / 3
    assert one(lambda: theirs * (1 + 2e-7), theirs)[3] == "the same"


def test_more_than_rounding_is_different():
    theirs = torch.rand(50) + 1
    assert one(lambda: theirs + 1e-5, theirs)[3] == "different"


def test_nan_is_never_the_same():
    theirs = torch.ones(3)
    assert one(lambda: theirs * torch.nan, theirs)[3] == "different"


def test_an_unwritten_answer_is_said_not_raised():
    def blank():
        raise NotImplementedError

    assert "write yours first" in one(blank, torch.ones(2))


def test_a_failing_answer_names_its_error_and_the_table_goes_on():
    rows = [
        trust.Row("a", "b", lambda: 1 / 0, torch.ones(2)),
        trust.Row("c", "d", lambda: torch.ones(2), torch.ones(2)),
    ]
    first, second = trust.table(rows).lines
    assert "ZeroDivisionError" in first[3] and second[3] == "the same"


def test_another_shape_or_no_tensor_is_said():
    assert "shape (2,)" in one(lambda: torch.ones(3), torch.ones(2))[3]
    assert "shape (2,)" in one(lambda: None, torch.ones(2))[3]


def test_the_html_form_is_escaped():
    row = trust.Row("<script>", "b", lambda: torch.ones(1), torch.ones(1))
    html = trust.table([row])._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html


def test_a_sum_of_many_may_differ_by_more_roundings():
    theirs = torch.ones(3)
    off = theirs + 12 * torch.finfo(torch.float32).eps
    assert [
        trust.table([trust.Row("sum", "theirs", lambda: off, theirs, terms)]).lines[0][3] for terms in (1, 100)
    ] == [
        "different",
        "the same",
    ]
