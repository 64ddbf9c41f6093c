"""What the activation claims are measured with: the nets compute what PyTorch's do, and every arm is tuned alike."""

import pytest
import torch
from torch import nn

from course_lib.claims.activations.nets import ACTIVATIONS, MODULES, Dense, steps_to, tune
from course_lib.claims.experiments import Images

SIZES = (5, 7, 6, 3)


def twin(net: Dense, params, norm: bool) -> nn.Sequential:
    """The first net of an ensemble as PyTorch's own modules."""
    layers = []
    for i in range(len(SIZES) - 1):
        linear = nn.Linear(SIZES[i], SIZES[i + 1])
        linear.weight.data, linear.bias.data = params[f"w{i}"][0].T.clone(), params[f"b{i}"][0, 0].clone()
        layers.append(linear)
        if i < len(SIZES) - 2:
            if norm:
                batch_norm = nn.BatchNorm1d(SIZES[i + 1])
                batch_norm.weight.data, batch_norm.bias.data = params[f"g{i}"][0, 0], params[f"b{i}"][0, 0]
                linear.bias.data.zero_()
                layers.append(batch_norm)
            layers.append(MODULES[net.activation]())
    return nn.Sequential(*layers)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("name", [*ACTIVATIONS, "prelu"])
def test_a_net_computes_what_pytorchs_modules_do_in_training_and_at_test(name, norm):
    net = Dense(SIZES, name, norm)
    params = {key: value.unsqueeze(0) for key, value in net.init(torch.Generator().manual_seed(0)).items()}
    model, x = twin(net, params, norm), torch.randn(9, 5, generator=torch.Generator().manual_seed(1))
    spread = x.unsqueeze(1)  # (B, M, ...)
    torch.testing.assert_close(net.forward(params, spread, {})[0], model.train()(x), atol=1e-5, rtol=1e-5)
    if norm:  # Keras's running variance, not PyTorch's unbiased one: 9/8 of it, a tenth of the way
        for i, module in enumerate(m for m in model if isinstance(m, nn.BatchNorm1d)):
            module.running_var.copy_(params[f"var_{i}"][0, 0])
    torch.testing.assert_close(net.forward(params, spread)[0], model.eval()(x), atol=1e-5, rtol=1e-5)


def test_the_start_has_its_rules_variance():
    for name, variance in (("relu", 2 / 400), ("selu", 1 / 400), ("tanh", 2 / 700)):
        w0 = Dense((400, 300, 3), name).init(torch.Generator().manual_seed(0))["w0"]
        assert float(w0.var()) == pytest.approx(variance, rel=0.02)


def test_the_first_step_under_the_goal_counts_and_twice_the_last_stands_for_never():
    losses = torch.tensor([[3.0, 3.0, 0.4], [0.4, 3.0, 3.0], [0.3, 3.0, 3.0]])
    assert steps_to((10, 20, 30), losses, 0.5).tolist() == [20, 60, 10]


def test_every_arm_chooses_among_the_same_rates_and_a_rate_that_learns():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 5, generator=generator)
    part = (x, (x[:, 0] > 0).long())
    nets = {name: Dense((5, 8, 2), name) for name in ("relu", "elu")}
    found = tune(nets, (1e-6, 3e-2), Images(part, part, part, 2), range(5), n_train=150, steps=40, batch_size=16)
    for tuned in found.values():
        assert tuned.rate == 3e-2 and tuned.errors.shape == (1, 5)
        assert float(tuned.errors.mean()) < 20  # percent
