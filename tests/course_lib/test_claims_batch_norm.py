"""What the batch norm lesson's claims train and measure with, against PyTorch's own layers and optimizer."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib.architectures import expression_net
from course_lib.claims.batch_norm.asker import PIECES, build, parameters
from course_lib.claims.batch_norm.nets import CAP, NormMLP, Run, train_sgd
from course_lib.claims.batch_norm.phases import in_training
from course_lib.claims.experiments import Images
from course_lib.ensembles import Batches, ConvNet

SIZES = (12, 7, 6, 3)


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    part = lambda n: (torch.randn(n, 1, 3, 4, generator=generator), torch.randint(0, 3, (n,), generator=generator))
    return Images(part(60), part(20), part(20), classes=3)


def twin(net: NormMLP, params, member: int = 0) -> nn.Sequential:
    """The same net from PyTorch's layers, with the member's weights."""
    layers = [nn.Flatten()]
    for i, (n_in, n_out) in enumerate(pairwise(SIZES)):
        linear, norm = nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out)
        with torch.no_grad():
            linear.weight.copy_(params[f"w{i}"][member].T)
            linear.bias.copy_(params[f"b{i}"][member, 0])
        layers.append(linear)
        if i < len(SIZES) - 2:
            order = {"none": [nn.ReLU()], "before": [norm, nn.ReLU()], "after": [nn.ReLU(), norm]}
            layers += order[net.norm]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("norm", ["none", "before", "after"])
def test_a_net_computes_what_pytorchs_layers_do_in_both_phases(data, norm):
    net = NormMLP(SIZES, norm)
    starts = [net.init(torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    params = {name: torch.stack([start[name] for start in starts]) for name in starts[0]}
    twins = [twin(net, params, member) for member in (0, 1)]
    x, rates = data.train[0][:20], {"hidden": torch.zeros(2)}
    both = x.unsqueeze(1).expand(-1, 2, *x.shape[1:])
    for _ in range(3):  # the running statistics move
        expected = torch.stack([model(x) for model in twins])
        torch.testing.assert_close(net.forward(params, both, rates), expected, rtol=1e-4, atol=1e-5)
    expected = torch.stack([model.eval()(x) for model in twins])
    torch.testing.assert_close(net.forward(params, both), expected, rtol=1e-4, atol=1e-5)


def test_training_is_sgd_with_momentum_as_pytorchs(data):
    net, seed, steps = NormMLP(SIZES, "before"), 5, 8
    trace = train_sgd(net, [Run(seed, 0.05, 2.0)], data, record_at=(steps,), n_train=40, batch_size=10)
    generator = torch.Generator().manual_seed(seed)
    params = {name: value.unsqueeze(0) for name, value in net.init(generator).items()}
    model = twin(net, {name: value * 2 if name.startswith("w") else value for name, value in params.items()})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    subset = torch.randperm(60, generator=generator)[:40].unsqueeze(0)
    batches = Batches(subset, 10, [generator])
    for _ in range(steps):
        rows = batches.next()[0]
        optimizer.zero_grad()
        F.cross_entropy(model(data.train[0][rows]), data.train[1][rows]).backward()
        optimizer.step()
    model.eval()
    loss = F.cross_entropy(model(data.train[0][subset[0]]), data.train[1][subset[0]])
    assert float(trace.loss[-1, 0]) == pytest.approx(loss.item(), rel=1e-3)
    wrong = (model(data.test[0]).argmax(1) != data.test[1]).float().mean()
    assert float(trace.error[-1, 0]) == pytest.approx(float(wrong))


def test_a_net_that_blows_up_counts_as_much_as_the_cap_and_leaves_its_neighbour_alone(data):
    training = {"record_at": (6,), "n_train": 40, "batch_size": 10}
    net = NormMLP(SIZES)
    pair = train_sgd(net, [Run(0, 0.01), Run(1, 1e6)], data, **training).loss[-1]
    alone = train_sgd(net, [Run(0, 0.01)], data, **training).loss[-1]
    assert float(pair[1]) == CAP
    assert float(pair[0]) == pytest.approx(float(alone[0]), rel=1e-5)


def test_pictures_alone_are_normalized_as_a_batch_of_one_is():
    net = ConvNet(1, 8, 3, (4, 6), 10, norm=True)
    starts = [net.init(torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    params = {name: torch.stack([start[name] for start in starts]) for name in starts[0]}
    before = {name: value.clone() for name, value in params.items()}
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    rates = {site: torch.zeros(2) for site in net.sites}
    copies = {name: value.clone() for name, value in params.items()}
    each = [net.forward(copies, one.expand(1, 2, 1, 8, 8), rates) for one in x.unsqueeze(1)]
    torch.testing.assert_close(in_training(net, params, x, 1), torch.cat(each, dim=1), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(params[name], before[name]) for name in params)


def test_the_table_of_the_askers_net_counts_every_number():
    net = expression_net()
    total = parameters().rows[-1]
    assert total[2] == f"{sum(p.numel() for p in net.parameters()):,}"
    assert total[4] == f"{sum(b.numel() for name, b in net.named_buffers() if 'running' in name):,}"


@pytest.mark.parametrize("piece", ["", *PIECES])
def test_the_askers_net_still_runs_without_a_piece(piece):
    x = torch.zeros(4, 3, 16, 16)
    data = Images((x, torch.zeros(4).long()), None, None, classes=8)
    net = build(data, piece)
    assert net.eval()(x).shape == (4, 8)
    norms = sum(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in net.modules())
    assert norms == {"conv's batch norm": 1, "dense layer's batch norm": 1, "both batch norms": 0}.get(piece, 2)
