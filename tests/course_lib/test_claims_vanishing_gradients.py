"""The nets of lesson 1's experiments: gradients, clipping and batch norm as PyTorch's own; paired starts."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib.claims.experiments import Images
from course_lib.claims.vanishing_gradients.gradients import activation_factors, factor_per_layer
from course_lib.claims.vanishing_gradients.nets import Deep, batch_gradients, layer_gradients, train_deep
from course_lib.claims.vanishing_gradients.remedies import pretrained

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    x = torch.randn(300, 1, 3, 4, generator=generator) + labels.view(-1, 1, 1, 1)
    return Images(*(((x[i::3]), labels[i::3].roll(i)) for i in range(3)), classes=3)


def batch(m=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(m, 20, 12, generator=generator), torch.randint(3, (m, 20), generator=generator)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(("activation", "module"), [("sigmoid", nn.Sigmoid), ("ReLU", nn.ReLU)])
def test_each_nets_gradients_are_those_of_a_torch_net_of_its_own(activation, module, norm):
    net = Deep(2, 7, activation, "Glorot", norm=norm)
    params, (x, y) = net.init(12, 3, SEEDS), batch()
    losses, grads = batch_gradients(net, params, x, y)
    for m in range(len(SEEDS)):
        layers = []
        for i in range(3):
            dense = nn.Linear(*params[f"w{i}"].shape[1:], bias=not (norm and i < 2))
            dense.weight.data = params[f"w{i}"][m].T.clone()
            if dense.bias is not None:
                dense.bias.data = params[f"b{i}"][m, 0].clone()
            layers += [dense] + ([nn.BatchNorm1d(7)] if norm and i < 2 else []) + [module()]
        twin = nn.Sequential(*layers[:-1])
        loss = F.cross_entropy(twin(x[m]), y[m])
        loss.backward()
        torch.testing.assert_close(losses[m], loss.detach())
        dense = [layer for layer in twin if isinstance(layer, nn.Linear)]
        for i, layer in enumerate(dense):
            torch.testing.assert_close(grads[f"w{i}"][m], layer.weight.grad.T, rtol=1e-4, atol=1e-6)


def test_nets_of_one_seed_differ_by_their_scale_alone():
    one, two = (Deep(3, 5, scale=scale).init(4, 2, SEEDS) for scale in (1.0, 2.0))
    torch.testing.assert_close(2 * one["w1"], two["w1"])


def test_clipping_bounds_the_step_of_each_net_by_its_own_norm(data):
    net = Deep(2, 6, "ReLU", "He", scale=5.0)
    run = train_deep(net, data, SEEDS, lr=1.0, steps=1, n_train=50, clip=0.1)
    moved = torch.stack([(run.params[k] - run.start[k]).flatten(1).norm(dim=1) for k in run.params]).norm(dim=0)
    torch.testing.assert_close(moved, torch.full((3,), 0.1), rtol=1e-3, atol=0)


def test_a_small_net_learns_and_a_run_repeats_itself(data):
    net = Deep(1, 16, "ReLU", "He")
    one, two = (train_deep(net, data, SEEDS, lr=0.3, steps=150, n_train=90) for _ in range(2))
    assert torch.equal(one.losses, two.losses)
    assert (one.errors["train"] < 0.4).all()


def test_the_fitted_factor_is_the_ratio_of_a_geometric_series():
    norms = torch.tensor([[0.001], [0.01], [0.1], [1.0]])
    assert float(factor_per_layer(norms)) == pytest.approx(0.1, rel=1e-5)


def test_factors_are_predicted_and_bounded_and_gradients_fall_by_them():
    net = Deep(6, 40, "sigmoid", "Glorot")
    params = net.init(12, 3, SEEDS)
    measured, predicted, bound, flat = activation_factors(net, params, batch())
    assert (measured <= bound).all()
    torch.testing.assert_close(measured, predicted, rtol=0.15, atol=0)
    assert flat.shape == (6, 3)
    assert layer_gradients(net, params, batch()).shape == (7, 3)


def test_autoencoders_change_the_hidden_layers_and_leave_the_last_one(data):
    net = Deep(2, 6, "sigmoid", "Glorot")
    wide = Images(*((x.repeat(12, 1, 1, 1), y.repeat(12)) for x, y in (data.train, data.valid, data.test)), classes=3)
    found, start = pretrained(net, wide, SEEDS, steps=20), net.init(12, 3, SEEDS)
    assert not torch.equal(found["w0"], start["w0"]) and torch.equal(found["w2"], start["w2"])
