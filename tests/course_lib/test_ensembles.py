"""Nets in a batch are the nets one by one."""

from functools import partial
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib.ensembles import (
    IN_PLACE_ACTIVATIONS,
    MLP,
    ConvNet,
    Member,
    MLPMember,
    adamw_step_,
    predict,
    train_ensemble,
    train_mlps,
)


def pictures(n=60, classes=3, size=8, channels=1):
    g = torch.Generator().manual_seed(0)
    y = torch.arange(n) % classes
    x = torch.randn(n, channels, size, size, generator=g) + y.view(-1, 1, 1, 1)
    return x, y


def run(net, members, **changes):
    call = {"n_train": 30, "steps": 12, "batch_size": 10, "score_on": {"test": pictures()}, **changes}
    return train_ensemble(net, members, pictures(), **call)


NETS = {
    "dense": MLP((64, 16, 3)),
    "conv": ConvNet(1, 8, 3, channels=(4, 6), hidden=8),
    "residual": ConvNet(1, 8, 3, channels=(4, 6), hidden=8, residual=True),
    "batch norm": ConvNet(1, 8, 3, channels=(4, 6), hidden=8, residual=True, norm=True),
    "stochastic pooling": ConvNet(1, 8, 3, channels=(4, 6), hidden=8, stochastic=True),
}


@pytest.mark.parametrize("name", [name for name in NETS if name != "stochastic pooling"])
def test_a_member_trains_as_it_would_alone(name):
    members = [Member(seed=3, lr=1e-2), Member(seed=4, lr=1e-3, weight_decay=0.1)]
    together, alone = run(NETS[name], members), run(NETS[name], members[1:])
    for key, value in alone.params.items():
        torch.testing.assert_close(together.params[key][1], value[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NETS)
def test_every_net_learns_and_repeats(name):
    members = [Member(seed=s, lr=1e-2) for s in (0, 1)]
    first, second = (run(NETS[name], members, steps=60, score_at=(1,)) for _ in range(2))
    assert first.steps == (1, 60) and first.errors["test"].shape == (2, 2)
    assert (first.losses["test"][1] < first.losses["test"][0]).all()
    assert all(torch.equal(first.params[key], second.params[key]) for key in first.params)


def test_the_same_seed_starts_from_the_same_weights_and_images():
    net = MLP((64, 16, 3))
    a = run(net, [Member(seed=3), Member(seed=3), Member(seed=4)], steps=1)
    assert torch.equal(a.params["w0"][0], a.params["w0"][1])
    assert not torch.equal(a.params["w0"][0], a.params["w0"][2])


@pytest.mark.parametrize(
    ("net", "site"),
    [(NETS["dense"], site) for site in MLP.sites] + [(NETS["residual"], site) for site in ConvNet.sites],
)
def test_each_site_drops_in_training_only_and_only_where_asked(net, site):
    plain, dropping = run(net, [Member(seed=3)]), run(net, [Member(seed=3, drop={site: 0.5})])
    assert not torch.equal(plain.params["w0"], dropping.params["w0"])
    x = pictures()[0]
    assert torch.equal(predict(net, plain.params, x), predict(net, plain.params, x))
    torch.manual_seed(0)
    one, two = (predict(net, plain.params, x, rates={site: 0.5}) for _ in range(2))
    assert not torch.equal(one, two)


def test_dropout_keeps_the_expected_logits_of_a_net_with_one_dropped_layer():
    """The mean of 2000 passes lies within six standard errors for each of 180 logits: false alarm 4e-7."""
    net = MLP((64, 16, 3))
    params = run(net, [Member(seed=0)]).params
    x = pictures()[0]
    torch.manual_seed(0)
    passes = torch.stack([predict(net, params, x, rates={"hidden": 0.3}) for _ in range(2000)])
    strayed = (passes.mean(0) - predict(net, params, x)).abs() / (passes.std(0) / 2000**0.5 + 1e-7)
    assert strayed.max() < 6


def test_predict_is_the_net_written_out():
    net = MLP((64, 16, 3))
    params = run(net, [Member(seed=0), Member(seed=1)]).params
    x = pictures()[0]
    for i in range(2):
        h = F.linear(x.flatten(1), params["w0"][i].T, params["b0"][i, 0]).relu()
        expected = F.linear(h, params["w1"][i].T, params["b1"][i, 0])
        torch.testing.assert_close(predict(net, params, x)[i], expected)


def test_adamw_is_torchs():
    torch.manual_seed(0)
    param = torch.randn(2, 5)
    lr, decay = torch.tensor([1e-2, 1e-3]), torch.tensor([0.0, 0.3])
    theirs = [param[i].clone().requires_grad_() for i in range(2)]
    rules = [torch.optim.AdamW([p], lr=float(lr[i]), weight_decay=float(decay[i])) for i, p in enumerate(theirs)]
    m, v = torch.zeros_like(param), torch.zeros_like(param)
    for step in range(1, 6):
        grad = torch.randn(2, 5)
        adamw_step_(param, grad, m, v, step, lr, decay)
        for i in range(2):
            theirs[i].grad = grad[i].clone()
            rules[i].step()
    torch.testing.assert_close(param, torch.stack([p.detach() for p in theirs]))


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(ValueError, match="holds 60 images, fewer than the 61"):
        run(NETS["dense"], [Member(seed=0)], n_train=61)
    with pytest.raises(ValueError, match="MLP has no dropout site \\['conv'\\]"):
        run(NETS["dense"], [Member(seed=0, drop={"conv": 0.5})])


# MLPs by a backward pass of their own ----------------------------------------------------------------------

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
DEEP = (64, 12, 12, 12, 12, 3)
RUN = {"n_train": 30, "steps": 25, "batch_size": 10, "score_at": (1, 10)}


def doubles(device="cpu"):
    x, y = pictures()
    return x.double().to(device), y.to(device)


def run_mlps(members, sizes=DEEP, **changes):
    data = changes.pop("data", None) or doubles()
    return train_mlps(sizes, members, data, **{**RUN, "score_on": {"test": data}, **changes})


def xavier(n_in, n_out, generator):
    return torch.randn(n_in, n_out, generator=generator) / n_in**0.5


MODULES = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


def alone(member, data, sizes=DEEP, optimizer=torch.optim.AdamW):
    """The same training, by nobody's batches: a torch.nn net, autograd and PyTorch's own optimizer."""
    x, y = data[0].flatten(1), data[1]
    g = torch.Generator().manual_seed(member.seed)
    layers = []
    for n_in, n_out in pairwise(sizes):
        layer = nn.Linear(n_in, n_out).to(x)
        with torch.no_grad():
            layer.weight.copy_(member.start(n_in, n_out, g).T)
            layer.bias.zero_()
        layers += [layer, MODULES[member.activation]()]
    net = nn.Sequential(*layers[:-1])
    g = torch.Generator().manual_seed(member.seed)
    MLP(sizes).init(g)
    mine = torch.randperm(len(y), generator=g)[: RUN["n_train"]]
    rule = optimizer(net.parameters(), lr=member.lr, weight_decay=member.weight_decay)
    losses, order = [], mine[:0]
    for step in range(1, RUN["steps"] + 1):
        if len(order) == 0:
            order = mine[torch.randperm(len(mine), generator=g)]
        rows, order = order[: RUN["batch_size"]], order[RUN["batch_size"] :]
        rule.zero_grad()
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        rule.step()
        if step in (*RUN["score_at"], RUN["steps"]):
            losses.append(F.cross_entropy(net(x), y).item())
    return torch.tensor(losses, dtype=x.dtype), [layer for layer in net if isinstance(layer, nn.Linear)]


MIXED = [
    MLPMember(seed=3, lr=1e-2, activation="tanh", start=xavier),
    MLPMember(seed=4, lr=1e-3, weight_decay=0.1),
    MLPMember(seed=3, lr=1e-2, activation="gelu"),
    MLPMember(seed=5, lr=1e-3),
    MLPMember(seed=6, lr=3e-3, activation="sigmoid", start=xavier),
    MLPMember(seed=4, lr=1e-3, activation="tanh"),
]
ROUNDING = {"rtol": 1e-8, "atol": 1e-10}  # float64; 25 steps of Adam carry rounding of 1e-16 on and enlarge it


@pytest.mark.parametrize("device", DEVICES)
def test_each_mlp_trains_as_a_torch_net_does_alone(device):
    data = doubles(device)
    found = run_mlps(MIXED, data=data)
    assert found.steps == (1, 10, 25)
    for i, member in enumerate(MIXED):
        losses, layers = alone(member, data)
        torch.testing.assert_close(found.losses["test"][:, i].cpu(), losses.cpu(), **ROUNDING)
        for k, layer in enumerate(layers):
            torch.testing.assert_close(found.params[f"w{k}"][i], layer.weight.detach().T, **ROUNDING)
            torch.testing.assert_close(found.params[f"b{k}"][i, 0], layer.bias.detach(), **ROUNDING)


@pytest.mark.parametrize("name", IN_PLACE_ACTIVATIONS)
def test_every_activation_has_its_gradient(name):
    assert set(MODULES) == set(IN_PLACE_ACTIVATIONS)
    member = MLPMember(seed=3, lr=1e-2, activation=name, start=xavier)
    losses, _ = alone(member, doubles())
    torch.testing.assert_close(run_mlps([member]).losses["test"][:, 0], losses, **ROUNDING)
    mixed = run_mlps([member, MLPMember(seed=3, activation="silu")])  # a neighbour that keeps its input
    torch.testing.assert_close(mixed.losses["test"][:, 0], losses, **ROUNDING)


def test_any_rule_that_treats_numbers_singly_can_train_them():
    member = MLPMember(seed=3, lr=1e-2, weight_decay=0.01)
    rule = partial(torch.optim.SGD, momentum=0.9)
    found = run_mlps([member, MLPMember(seed=4, lr=1e-3)], optimizer=rule)
    losses, _ = alone(member, doubles(), optimizer=rule)
    torch.testing.assert_close(found.losses["test"][:, 0], losses, **ROUNDING)


def test_a_member_does_not_depend_on_its_company_or_place():
    together, single = run_mlps(MIXED), [run_mlps([member]) for member in MIXED]
    for i, found in enumerate(single):
        for name, value in found.params.items():
            torch.testing.assert_close(together.params[name][i], value[0], **ROUNDING)


def test_a_net_that_diverges_leaves_the_others_alone():
    calm = MLPMember(seed=3, lr=1e-2)
    found = run_mlps([MLPMember(seed=4, lr=1e300), calm, MLPMember(seed=5, lr=1e300, activation="silu")])
    assert not torch.isfinite(found.losses["test"][-1, 0])
    torch.testing.assert_close(found.losses["test"][:, 1], run_mlps([calm]).losses["test"][:, 0], **ROUNDING)


def test_both_trainers_agree():
    members = [MLPMember(seed=3, lr=1e-3), MLPMember(seed=4, lr=1e-3, weight_decay=0.1)]
    net = MLP(DEEP)
    slow = train_ensemble(net, members, pictures(), **RUN, score_on={"test": pictures()})
    fast = run_mlps(members, data=pictures())
    torch.testing.assert_close(fast.losses["test"], slow.losses["test"], rtol=1e-3, atol=1e-4)  # float32
    assert torch.equal(fast.errors["test"], slow.errors["test"])
    logits = predict(net, fast.params, pictures()[0])
    loss = F.cross_entropy(logits[1], pictures()[1])
    torch.testing.assert_close(loss, fast.losses["test"][-1, 1])


def test_training_leaves_the_global_generator_and_the_threads_alone():
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    assert all(not value.requires_grad for value in run_mlps(MIXED[:1]).params.values())
    assert torch.equal(before, torch.get_rng_state()) and torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("members", "changes", "message"),
    [
        ([], {}, "at least one member"),
        ([MLPMember(seed=0)], {"n_train": 61}, "holds 60 images, fewer than the 61"),
        ([MLPMember(seed=0)], {"sizes": (63, 3)}, "first size is 63, but an image holds 64 numbers"),
        ([MLPMember(seed=0, activation="swish")], {}, "no activation \\['swish'\\]; there are \\['identity'"),
        ([MLPMember(seed=0, drop={"input": 0.2})], {}, "drops nothing"),
    ],
)
def test_mlps_that_cannot_be_trained_are_refused(members, changes, message):
    with pytest.raises(ValueError, match=message):
        run_mlps(members, **changes)
