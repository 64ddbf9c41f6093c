"""Nets in a batch are the nets one by one."""

import pytest
import torch
import torch.nn.functional as F

from course_lib.ensembles import MLP, ConvNet, Member, adamw_step_, predict, train_ensemble


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
