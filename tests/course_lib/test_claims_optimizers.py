"""What the optimizer claims train is what PyTorch trains: each rule, each net at its own rate, each schedule."""

import itertools

import pytest
import torch
from torch import nn

from course_lib.claims.experiments import TUNING_SEEDS, Images
from course_lib.claims.optimizers.ranking import CHECKS, first_below
from course_lib.claims.optimizers.rates import EVERY, asked_schedule
from course_lib.claims.optimizers.runs import BATCH, GRIDS, HIDDEN, RULES, train, tune
from course_lib.ensembles import MLP

TORCH = {
    "gradient descent": lambda p, lr: torch.optim.SGD(p, lr=lr),
    "momentum": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9),
    "Nesterov": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9, nesterov=True),
    "AdaGrad": lambda p, lr: torch.optim.Adagrad(p, lr=lr),
    "RMSProp": lambda p, lr: torch.optim.RMSprop(p, lr=lr, alpha=0.9),
    "Adam": lambda p, lr: torch.optim.Adam(p, lr=lr),
    "AdamW": lambda p, lr: torch.optim.AdamW(p, lr=lr, weight_decay=0.1),
}


@pytest.fixture
def data():
    """As many training images as one batch holds, so that the order of the images does not matter."""
    g = torch.Generator().manual_seed(0)

    def part(n):
        x = torch.randn(n, 1, 4, 4, generator=g)
        return x, x.flatten(1)[:, :3].argmax(1)

    return Images(part(BATCH), part(40), part(40), classes=3)


def torch_losses(rule, lr, seed, data, steps, schedule=lambda step: 1.0):
    """(training, validation, test) loss of the same net, trained by PyTorch's own optimizer."""
    start = MLP((16, *HIDDEN, 3)).init(torch.Generator().manual_seed(seed))
    layers = []
    for i in range(len(HIDDEN) + 1):
        w, b = start[f"w{i}"], start[f"b{i}"]
        layers += [nn.Linear(*w.shape), nn.ReLU()]
        with torch.no_grad():
            layers[-2].weight.copy_(w.T)
            layers[-2].bias.copy_(b[0])
    net = nn.Sequential(nn.Flatten(), *layers[:-1])
    optimizer = TORCH[rule](net.parameters(), lr)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(data.train[0]), data.train[1]).backward()
        optimizer.step()
        scheduler.step()
    with torch.no_grad():
        return [float(nn.functional.cross_entropy(net(x), y)) for x, y in (data.train, data.valid, data.test)]


@pytest.mark.parametrize("rule", RULES)
def test_each_net_of_the_stack_takes_torchs_steps_at_its_own_rate(rule, data):
    rates, seeds = [GRIDS[rule][3], GRIDS[rule][5], GRIDS[rule][5]], [3, 3, 4]
    runs = train(rule, rates, seeds, data, steps=8)
    for i, (lr, seed) in enumerate(zip(rates, seeds, strict=True)):
        found = [float(runs.losses[part][-1, i]) for part in ("train", "valid", "test")]
        assert found == pytest.approx(torch_losses(rule, lr, seed, data, 8), rel=2e-3, abs=1e-4)


def test_every_rule_has_as_many_rates_to_choose_from_and_torch_knows_it():
    assert set(GRIDS) == set(RULES) == set(TORCH)
    assert len({len(set(rates)) for rates in GRIDS.values()}) == 1


def test_a_schedule_scales_the_rate_of_each_step(data):
    def schedule(step):
        return 0.5 ** (step // 3)

    runs = train("momentum", [0.1], [3], data, steps=9, schedule=schedule)
    assert float(runs.losses["train"][-1, 0]) == pytest.approx(
        torch_losses("momentum", 0.1, 3, data, 9, schedule)[0], rel=2e-3
    )
    assert float(runs.losses["train"][-1, 0]) != float(
        train("momentum", [0.1], [3], data, steps=9).losses["train"][-1, 0]
    )


def test_a_net_that_blows_up_counts_and_takes_no_other_with_it(data):
    runs = train("gradient descent", [1e20, 0.1], [3, 3], data, steps=8)
    assert float(runs.last("train")[0]) == 10
    alone = train("gradient descent", [0.1], [3], data, steps=8)
    assert float(runs.last("train")[1]) == pytest.approx(float(alone.last("train")[0]), rel=1e-5)


def test_the_tuned_rate_is_the_best_of_the_grid_over_the_tuning_seeds(data):
    rates = (10.0, 0.1, 1e-6)
    runs = train("momentum", [lr for lr, _ in itertools.product(rates, TUNING_SEEDS)], TUNING_SEEDS * 3, data, steps=20)
    means = runs.last("train").view(3, -1).mean(1)
    assert int(means.argmin()) == 1
    assert tune("momentum", rates, data, steps=20)["train"] == 0.1


def test_steps_to_a_loss_are_the_first_check_at_or_below_it_and_all_of_them_for_never():
    curve = torch.full((len(CHECKS), 3), 2.0)
    curve[4:, 0] = 1.0
    curve[6, 1], curve[2, 1] = 1.0, float("nan")
    assert first_below(curve, torch.tensor([1.0, 1.5, 1.0])) == [CHECKS[4], CHECKS[6], CHECKS[-1]]


def test_the_askers_factor_falls_every_third_epoch_counted_from_one():
    by_epoch = [asked_schedule(epoch * EVERY, 0.5) for epoch in range(8)]
    assert by_epoch == [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert {asked_schedule(step, 1.0) for step in range(200)} == {1.0}
