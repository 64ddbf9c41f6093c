"""What the initialization claims measure with: sizes against the recursion, filters of known answers, honest rules."""

import re

import numpy as np
import pytest
import torch

from course_lib.claims.claim import HOLDS_WHEN, Measured, Series
from course_lib.claims.initialization import filters, rules, signal, starts
from course_lib.ensembles import IN_PLACE_ACTIVATIONS
from course_lib.provenance import constant


def test_flow_follows_the_recursion_where_the_draws_are_orthogonal():
    """Square orthogonal layers without a bend keep every mean square exactly, forward and backward."""
    x = torch.randn(32, 24, generator=torch.Generator().manual_seed(0))
    plain = lambda n_in, n_out, generator: starts.orthogonal(n_in, n_out, generator) / 2**0.5
    forward, backward = starts.flow(plain, (24, 24, 24, 24), torch.clone, x, seed=1)
    assert forward == pytest.approx([forward[0]] * 3, rel=0.02)  # a variance: the mean's share turns into it
    assert backward == pytest.approx([backward[-1]] * 3, rel=1e-4)


def test_starts_have_the_deviation_of_their_rule():
    generator = torch.Generator().manual_seed(0)
    for start, variance in ((starts.he, 2 / 300), (starts.glorot, 2 / 500), (starts.lenet, 1 / (3 * 300**2))):
        assert float(start(300, 200, generator).square().mean()) == pytest.approx(variance, rel=0.03)
    narrow, wide = (starts.he_times(scale)(300, 200, torch.Generator().manual_seed(1)) for scale in (0.5, 2.0))
    torch.testing.assert_close(4 * narrow, wide)


def test_a_filter_for_brightness_answers_all_angles_and_a_designed_one_answers_its_own():
    bright = torch.ones(1, 3, 3, 3)
    by_angle, flat = filters.selectivity(bright)
    assert float(by_angle) < 0.05 and float(flat) > 0.95
    by_angle, flat = filters.selectivity(filters.edge_bank())
    assert float(by_angle.min()) > 0.7 and float(flat.max()) < 1e-4


def test_answers_do_not_depend_on_a_filters_size():
    bank = filters.random_bank(3)
    torch.testing.assert_close(filters.answers_by_angle(7 * bank), filters.answers_by_angle(bank))


def test_a_linear_head_learns_what_is_linear_and_a_rare_feature_does_not_ruin_it():
    generator = torch.Generator().manual_seed(0)
    features, labels = {}, {}
    for part in ("train", "valid", "test"):
        x = torch.randn(200, 5, generator=generator)
        labels[part] = (x[:, 0] > 0).long()
        rare = torch.zeros(200, 1)
        if part == "test":
            rare[:50] = 1.0  # never seen in training
        features[part] = torch.cat([x, rare], 1)
    assert filters.ridge_error(features, labels) < 10


def test_fan_in_of_each_kernel_in_pytorch_is_the_number_of_weights_of_one_output():
    for kind, groups in signal.KERNELS.values():
        layer = signal.torch_layer(kind)
        outputs = layer.weight.shape[1] if kind == "transposed" else layer.weight.shape[0]
        fan_in = layer.weight.numel() // outputs
        kept = np.mean([signal.output_ratio(kind, fan_in, seed) for seed in range(10)])
        assert kept == pytest.approx(1, abs=0.15), kind
        assert groups >= 1


def test_hes_claim_names_where_it_is_the_better_draw_and_where_the_worse():
    """The rule, on made-up numbers: better under ReLU, worse under ELU at the largest depth."""
    rng = np.random.default_rng(0)

    def errors(name):
        arms = {}
        for activation, gap in (("ReLU", 5.0), ("ELU", -5.0)):
            base = 20 + rng.normal(size=(len(rules.DEPTHS), 6))
            arms[f"He, {activation}"] = base.tolist()
            arms[f"Glorot, {activation}"] = (base + gap + 0.1 * rng.normal(size=base.shape)).tolist()
        return Series(f"test error, {name}", "%", arms, "hidden layers", rules.DEPTHS)

    kept = Series("", "", {name: [[1.0] * 6, [1.0] * 6] for name in rules.PAIR}, "activation", tuple(rules.RECTIFIERS))
    decision = rules.decide_he(Measured([kept, *(errors(name) for name in rules.SETS)]))
    assert decision.verdict == HOLDS_WHEN
    better, _, worse = decision.condition.partition("the worse one")
    assert "ReLU" in better and "ELU layers" not in re.sub("ReLU", "", better) and "24 ELU layers" in worse


def test_a_digest_of_code_holds_no_address():
    """Records of functions have one in their text; a result would be out of date in the next process."""
    assert "0x" not in constant(IN_PLACE_ACTIVATIONS)
