"""What the regularization claims train is what PyTorch trains: the batched dense nets, and each way of the conv net."""

import pytest
import torch
from torch import nn

from course_lib.claims.regularization.convnet import ConvNet, Way, train_way
from course_lib.claims.regularization.dense import Rule, forward, subset, train_dense, wrong_labels
from course_lib.claims.regularization.stopping import PATIENCE, stopped
from course_lib.claims.regularization.ways import best_together


@pytest.fixture
def pool():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40, 4, 4, generator=g)
    return x, (x.flatten(1)[:, :3].argmax(1))


def torch_net(params, i):
    """Net i of the stack as a torch model."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        for layer, (w, b) in zip((net[1], net[3]), (("w0", "b0"), ("w1", "b1")), strict=True):
            layer.weight.copy_(params[w][i].T)
            layer.bias.copy_(params[b][i, 0])
    return net


RULES = (
    (Rule(3), lambda groups: torch.optim.Adam(groups, lr=2e-3)),
    (Rule(3, l2=0.2), lambda groups: torch.optim.Adam([groups[0] | {"weight_decay": 0.2}, groups[1]], lr=2e-3)),
    (Rule(3, decay=5.0), lambda groups: torch.optim.AdamW([groups[0] | {"weight_decay": 5.0}, groups[1]], lr=2e-3)),
    (
        Rule(3, l2=0.2, biases=True, adam=False, lr=0.1),
        lambda groups: torch.optim.SGD([g | {"weight_decay": 0.2} for g in groups], lr=0.1),
    ),
    (
        Rule(3, l2=0.2, adam=False, lr=0.1),
        lambda groups: torch.optim.SGD([groups[0] | {"weight_decay": 0.2}, groups[1]], lr=0.1),
    ),
)


def test_each_member_of_the_stack_takes_torchs_steps(pool):
    how = {"classes": 3, "batch_size": 40, "hidden": 8}  # one batch is the whole set: its order does not matter
    rules = [rule for rule, _ in RULES]
    begun = train_dense([Rule(3, lr=0.0)], {3: pool}, {}, steps=1, **how).params
    ended = train_dense(rules, {3: pool}, {}, steps=6, **how).params
    for i, (_, optimizer) in enumerate(RULES):
        net = torch_net(begun, 0)
        weights, biases = [net[1].weight, net[3].weight], [net[1].bias, net[3].bias]
        step_rule = optimizer([{"params": weights, "weight_decay": 0.0}, {"params": biases, "weight_decay": 0.0}])
        for _ in range(6):
            step_rule.zero_grad()
            nn.functional.cross_entropy(net(pool[0]), pool[1]).backward()
            step_rule.step()
        torch.testing.assert_close(ended["w0"][i].T, net[1].weight, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ended["b1"][i, 0], net[3].bias, rtol=1e-4, atol=1e-5)


def test_the_soft_threshold_gives_zeros_and_the_gradient_does_not(pool):
    rules = [Rule(0, l1=0.05, prox=prox, adam=False, lr=0.1) for prox in (True, False)]
    params = train_dense(rules, {0: pool}, {}, classes=3, steps=200).params
    zeros = (params["w0"] == 0).float().mean((1, 2))
    assert zeros[0] > 0.3 and zeros[1] == 0


def test_scores_are_errors_and_losses_of_the_net_in_evaluation(pool):
    curves = train_dense([Rule(1, drop=0.5)], {1: pool}, {"test": pool}, classes=3, steps=20, score_at=(10,), hidden=8)
    assert curves.steps == (10, 20)
    logits = torch_net(curves.params, 0)(pool[0])
    torch.testing.assert_close(forward(curves.params, pool[0].flatten(1)[None])[0], logits)
    assert curves.errors["test"][1, 0] == (logits.argmax(1) != pool[1]).float().mean()
    torch.testing.assert_close(curves.losses["train"][1, 0], nn.functional.cross_entropy(logits, pool[1]))


def test_wrong_labels_are_other_labels(pool):
    _, y = wrong_labels(pool, 1.0, 3, seed=0)
    assert (y != pool[1]).all() and set(y.tolist()) <= {0, 1, 2}
    assert (wrong_labels(pool, 0.0, 3, seed=0)[1] == pool[1]).all()
    assert len(subset(pool, 7, 1)[1]) == 7


def test_early_stopping_reads_a_curve():
    losses = [3.0, 2.0, 1.0] + [1.5] * (PATIENCE + 3)
    assert stopped(losses) == (2, 2 + PATIENCE)
    assert stopped([3.0, 2.0, 1.0]) == (2, 2)


@pytest.mark.parametrize(
    "way",
    [
        Way(more=2),
        Way(shift=1),
        Way(drop=0.5),
        Way(connect=0.5),
        Way(decay=1.0),
        Way(limit=0.5),
        Way(averages=True),
        Way(stochastic=True),
        Way(maps=(2, 3), hidden=5),
        Way(stop=True),
    ],
    ids=str,
)
def test_each_way_trains_repeatably_and_differs_from_none(way):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(120, 1, 8, 8, generator=g)
    data = x, (x.mean((1, 2, 3)) > 0).long()
    how = {"classes": 2, "seed": 1, "n": 40, "steps": 60}
    opposite = x, 1 - data[1]  # the longer a net learns, the worse it is there: early stopping stops it
    errors = train_way(way, data, opposite, data, **how)
    assert errors == train_way(way, data, opposite, data, **how)
    assert all(0 <= error <= 1 for error in errors)
    assert errors != train_way(Way(), data, opposite, data, **how)


def test_the_conv_net_is_random_in_training_only():
    x = torch.randn(4, 1, 8, 8).relu()
    for way in (Way(drop=0.5), Way(connect=0.5), Way(stochastic=True)):
        net = ConvNet(way, 1, 8, 3)
        assert not torch.equal(net.train()(x), net(x))
        assert torch.equal(net.eval()(x), net(x))


def test_the_best_together_keeps_only_what_helps_again():
    chosen = {"good": (Way(drop=0.4), 0.2), "harms then": (Way(shift=1), 0.25), "bad": (Way(limit=1.0), 0.5)}
    errors = {Way(drop=0.4, shift=1): 0.3, Way(drop=0.4, limit=1.0): 0.1}
    assert best_together(chosen, 0.4, errors.__getitem__) == Way(drop=0.4, limit=1.0)
    assert best_together(chosen, 0.1, errors.__getitem__) == Way()  # where nothing helps, nothing is added
