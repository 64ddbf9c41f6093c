"""What the architecture claims measure with: data of known structure, equal budgets, honest rules."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from course_lib.accounts import account
from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Measured, Series
from course_lib.claims.cnn_architectures import cost, design, memory, nets, recipes, structure
from course_lib.claims.cnn_architectures.structure import LENGTH

SEEDS = 6
RNG = np.random.default_rng(0)


def around(mean, spread=0.1):
    return [(mean + spread * RNG.normal(size=SEEDS)).tolist()]


# what is trained, on what -------------------------------------------------------------------------------------


def test_shuffled_images_hold_the_same_numbers_in_one_order_for_all():
    x = torch.arange(2 * 3 * 16.0).view(2, 3, 4, 4)
    data = nets.Data(*((x, torch.zeros(2)),) * 3, 2)
    found = structure.shuffled(data).train[0]
    assert not torch.equal(found, x)
    torch.testing.assert_close(found.flatten(2).sort(2).values, x.flatten(2))
    torch.testing.assert_close(found[1] - found[0], x[1] - x[0])


def test_which_came_first_is_told_by_the_order_and_by_no_place():
    x, labels = structure.order_of_two(torch.Generator().manual_seed(0), 200)
    bumps = x[:, 0].unfold(1, 8, 1).mean(-1)
    rise_first = bumps.argmax(1) < bumps.argmin(1)
    assert float((rise_first == labels.bool()).float().mean()) > 0.97
    assert abs(float(x.mean())) < 0.02, "both kinds have the same bumps"
    middle = x[:, 0, LENGTH // 2 - 8 : LENGTH // 2 + 8].mean(1)
    assert abs(float(middle[labels == 1].mean() - middle[labels == 0].mean())) < 0.2


def test_moved_pictures_keep_what_stays_inside():
    x = torch.rand(2, 1, 5, 6)
    torch.testing.assert_close(structure.moved(x, 2)[..., 2:], x[..., :-2])
    assert structure.moved(x, 0) is x


@pytest.mark.parametrize("seed", range(20))
def test_a_drawn_design_follows_from_its_seed_keeps_the_budget_and_fits(seed):
    make = design.drawn_net(seed, 3, 16, 8)
    net, again = make(), design.drawn_net(seed, 3, 16, 8)()
    assert str(net) == str(again)
    assert sum(p.numel() for p in net.parameters()) <= design.MOST
    assert net.training and net(torch.rand(2, 3, 16, 16)).shape == (2, 8)


def test_the_ways_to_shrink_compute_as_many_maps_of_the_same_size_but_for_neither():
    plans = {way: account(structure.shrinking_net(way, 1, 14, 10)(), (1, 14, 14)) for way in structure.WAYS}
    assert plans["max pooling"].parameters == plans["average pooling"].parameters
    assert plans["stride 2"].multiply_adds < plans["max pooling"].multiply_adds < plans["neither"].multiply_adds


def test_training_follows_from_the_seed_and_leaves_the_generator_alone():
    data = nets.Data(*((torch.randn(40, 1, 8, 8), torch.randint(3, (40,))),) * 3, 3)
    how = nets.How(steps=5, shift=1, schedule=True, smoothing=0.1)
    state = torch.get_rng_state()
    first, again = (nets.fit(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), data, 4, 30, how) for _ in range(2))
    assert torch.equal(first[1].weight, again[1].weight) and not first.training
    assert torch.equal(torch.get_rng_state(), state)


def test_arms_with_other_budgets_or_seeds_of_tuning_are_refused():
    data = nets.Data(*((torch.randn(40, 4), torch.randint(2, (40,))),) * 3, 2)
    option = (lambda: nn.Linear(4, 2), nets.How(steps=1))
    with pytest.raises(ValueError, match="as many options"):
        nets.tuned({"a": [option], "b": [option, option]}, data, (0,), 20)
    with pytest.raises(ValueError, match="for tuning only"):
        nets.tuned({"a": [option]}, data, nets.TUNING_SEEDS, 20)


def test_each_arm_of_the_recipe_differs_from_it_in_one_entry_but_todays():
    arms = recipes.arms_for(1, 14, 10)
    described = {arm: (str(make()), how) for arm, ((make, how), *_) in arms.items()}
    assert len({len(options) for options in arms.values()}) == 1
    for arm, (net, how) in described.items():
        base, plain = described[recipes.RECIPE]
        changes = (net != base) + sum(a != b for a, b in zip(vars(how).items(), vars(plain).items(), strict=True))
        if arm == recipes.CURRENT:
            assert changes > 3
        elif arm == "momentum, not Adam":
            assert changes == 2, "another rule needs other rates"
        elif arm not in (recipes.RECIPE, "Glorot, not He"):
            assert changes == 1, arm


# memory, sizes ------------------------------------------------------------------------------------------------


def test_the_growth_of_a_process_sees_what_is_held_at_once():
    size = 64 * 2**20
    grown = memory.growth(lambda: [np.ones(size // 8), np.ones(size // 8)])
    assert 1.9 * size < grown < 2.3 * size
    assert memory.growth(lambda: None) < size / 8


@pytest.mark.parametrize("seed", range(5))
def test_calculators_agree_with_pytorch_on_drawn_stacks(seed):
    rng = random.Random(seed)
    assert all(all(cost.agree_in_torch(*cost.drawn_stack(rng))) for _ in range(10))


# the rules ----------------------------------------------------------------------------------------------------


def recipe_result(**better):
    """Each arm's error at the recipe's, but for the arms named, which are better by so many points on both sets."""
    arms = list(recipes.arms_for(1, 14, 10))
    return Measured(
        [
            Series(
                f"test error, {name}",
                "%",
                {a: around(20 - better.get(a, 0) + (a != recipes.RECIPE) * 0.3) for a in arms},
            )
            for name in nets.SETS
        ]
    )


@pytest.mark.parametrize(
    ("better", "verdict"),
    [
        ({}, HOLDS),
        ({recipes.CURRENT: 5}, HOLDS_WHEN),
        ({recipes.CURRENT: 5, "no dropout": 5}, DOES_NOT_HOLD),
        ({recipes.CURRENT: 5, "no dropout": 0.9}, HOLDS_WHEN),  # sure, and too small to matter
    ],
)
def test_the_recipe_holds_until_a_single_change_beats_it(better, verdict):
    assert recipes.decide_recipe(recipe_result(**better)).verdict == verdict


@pytest.mark.parametrize(("shuffled", "signals", "verdict"), [(20, 5, HOLDS), (8, 5, HOLDS_WHEN), (20, 15, HOLDS_WHEN)])
def test_convolutions_have_to_win_where_there_is_structure_and_nowhere_else(shuffled, signals, verdict):
    errors = {case: 5 for case in structure.CASES}
    errors |= {case: shuffled for case in structure.CASES if "shuffled" in case} | {structure.CASES[-1]: signals}
    arms = {
        "convolutions": [around(errors[case])[0] for case in structure.CASES],
        "dense layers": [around(10)[0] for _ in structure.CASES],
    }
    found = structure.decide_convolution(Measured([Series("test error", "%", arms, "data", structure.CASES)]))
    assert found.verdict == verdict


def memory_result(torch_share, keras_share):
    """Evaluations without gradients keep such shares of what is predicted of a recorded one."""
    arms = {cost.PREDICTED: [around(100)[0], around(100)[0], around(20)[0], around(20)[0]]}
    for arm, (recorded, plain, own) in ((cost.TORCH, torch_share), (cost.KERAS, keras_share)):
        arms[arm] = [around(120)[0], *(around(100 * share)[0] for share in (recorded, plain, own))]
    name = "memory besides weights and batch, at its highest"
    return Measured([Series(name, "MB", arms, "situation", memory.SITUATIONS)])


def test_memory_names_the_calls_that_drop_activations():
    assert cost.decide_memory(memory_result((0.2, 0.2, 0.2), (0.2, 0.2, 0.2))).verdict == HOLDS
    assert cost.decide_memory(memory_result((1, 1, 1), (1, 1, 1))).verdict == DOES_NOT_HOLD
    some = cost.decide_memory(memory_result((1, 0.2, 0.2), (1, 1, 0.2)))
    assert some.verdict == HOLDS_WHEN
    assert "no_grad()" in some.condition and "predict(x)" in some.condition and "eval() alone" not in some.condition
