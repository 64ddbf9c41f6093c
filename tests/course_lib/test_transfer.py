"""course_lib.transfer: what is frozen stays to the last bit, what is converted or precomputed equals what it replaces.

Everything is seeded and compared exactly or with a named tolerance: there is no chance in these tests.
"""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import transfer as t
from course_lib.conventions.transfer import CONVENTIONS
from course_lib.quiet import load_keras

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
SUMMATION = 1e-12  # float64 sums of a few hundred terms in another order
SUMMATION32 = 1e-5  # the same in float32, relative to the largest value


def make_net(seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    ).to(dtype)


def batch(seed=1, n=8, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, 6, 6, generator=g, dtype=dtype) + 1, torch.randint(0, 5, (n,), generator=g)


def train_steps(net, optimizer, steps=3):
    x, y = batch()
    net.train()
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()


def state(net):
    return copy.deepcopy(net.state_dict())


def moved(net, before):
    return {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}


# ---------------------------------------------------------------- freezing


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_what_is_frozen_stays_to_the_last_bit_and_the_head_moves(optimizer):
    net = make_net()
    report = t.freeze(net, "*", keep=["8.*"])
    assert report.trainable == ("8.weight", "8.bias")
    make = {"sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1), "adamw": torch.optim.AdamW}
    before = state(net)
    train_steps(net, make[optimizer](t.parameter_groups(net, {"*": 0.1})))
    assert moved(net, before) == {"8.weight", "8.bias"}


def test_the_report_counts_weights_and_reads_well():
    net = make_net()
    report = t.freeze(net, "0.*", "1.*")
    assert report == t.trains(net)
    assert report.frozen == ("0.weight", "0.bias", "1.weight", "1.bias")
    assert report.frozen_weights == 4 * 27 + 4 + 4 + 4
    assert report.trainable_weights == sum(p.numel() for p in net.parameters()) - report.frozen_weights
    assert report.held_norms == ("1",)
    assert str(report) == (
        "269 of 389 weights train (69.2%), in 6 tensors: 3.weight, 3.bias, …, 8.weight, 8.bias; "
        "4 tensors are frozen; 1 batch norms are held in inference"
    )


def test_the_report_of_a_net_without_weights():
    assert str(t.trains(nn.ReLU())).startswith("0 of 0 weights train (0.0%), in 0 tensors: none")


@pytest.mark.parametrize("patterns", [("*",), ("0.*", "1.*", "3.*", "4.*", "8.*")])
def test_freezing_everything_with_the_head_is_refused_and_changes_nothing(patterns):
    net = make_net()
    with pytest.raises(t.FreezeError, match="would leave nothing to train, the head included: keep the head"):
        t.freeze(net, *patterns)
    assert not t.trains(net).frozen and not t.trains(net).held_norms


def test_freezing_the_rest_in_two_steps_is_refused_too():
    net = make_net()
    t.freeze(net, "[0-4].*")
    with pytest.raises(t.FreezeError, match="nothing to train"):
        t.freeze(net, "8.*")


def test_a_new_head_after_freezing_trains_so_that_nothing_is_refused():
    net = make_net()
    t.freeze(net, "[0-4].*")
    assert t.replace_head(net, 3) == "8"
    assert t.trains(net).trainable == ("8.weight", "8.bias")


@pytest.mark.parametrize("act", [t.freeze, t.unfreeze])
def test_a_pattern_that_names_nothing_is_a_slip(act):
    with pytest.raises(t.FreezeError, match=r"no parameter is named 'features\.\*': there are 0.weight, 0.bias, …"):
        act(make_net(), "0.*", "features.*")


def test_keep_with_a_slip():
    with pytest.raises(t.FreezeError, match="no parameter is named 'fc'"):
        t.freeze(make_net(), "*", keep=["fc"])


def test_unfreezing_lets_it_train_again():
    net = make_net()
    t.freeze(net, "*", keep=["8.*"])
    report = t.unfreeze(net, "3.*", "4.*")
    assert report.trainable == ("3.weight", "3.bias", "4.weight", "4.bias", "8.weight", "8.bias")
    assert report.held_norms == ("1",)
    before = state(net)
    train_steps(net, torch.optim.SGD(t.parameter_groups(net, {"*": 0.1}), lr=0.1))
    assert {"4.running_mean", "3.weight", "8.bias"} <= moved(net, before)
    assert not any(name.startswith(("0.", "1.")) for name in moved(net, before))


# ---------------------------------------------------------------- batch norm of a frozen trunk


def test_pytorch_alone_moves_the_statistics_of_a_frozen_norm():
    """The trap itself: without it the next tests would say nothing."""
    net = make_net()
    t.freeze(net, "*", keep=["8.*"], norms=False)
    before = state(net)
    net.train()(batch()[0])
    assert "1.running_mean" in moved(net, before)


def test_a_held_norm_stays_in_inference_through_train_copies_and_pickles():
    net = make_net()
    t.freeze(net, "*", keep=["8.*"])
    for one in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        one.train()
        assert one.training and not one[1].training and not one[4].training
        assert t.trains(one).held_norms == ("1", "4")
        before = state(one)
        one(batch()[0])
        assert not moved(one, before)
    copied = copy.deepcopy(net)
    assert copied[1].train() is copied[1]


def test_holding_changes_no_name_in_the_state():
    net = make_net()
    names = list(net.state_dict())
    t.hold_norms(net, all_of_them=True)
    assert list(net.state_dict()) == names
    make_net(1).load_state_dict(net.state_dict())


def test_unfreeze_can_keep_the_norm_in_inference():
    net = make_net()
    t.freeze(net, "*", keep=["8.*"])
    assert t.unfreeze(net, "4.*", norms=True).held_norms == ("1", "4")
    assert net.train()[4].weight.requires_grad and not net[4].training


def test_release_puts_norms_back_into_the_models_mode():
    net = make_net()
    assert t.hold_norms(net) == ()
    assert t.hold_norms(net, all_of_them=True) == ("1", "4")
    net.train()
    t.release_norms(net)
    assert net[1].training and net[4].training and t.trains(net).held_norms == ()
    assert not net.eval()[1].training


def test_a_norm_without_parameters_is_held_only_with_all():
    net = nn.Sequential(nn.BatchNorm1d(2, affine=False), nn.Linear(2, 2), nn.Linear(2, 2))
    assert t.freeze(net, "1.*").held_norms == ()
    assert t.hold_norms(net, all_of_them=True) == ("0",)


# ---------------------------------------------------------------- rates


def test_groups_take_the_first_pattern_and_leave_out_what_is_frozen():
    net = make_net()
    t.freeze(net, "0.*", "1.*")
    groups = t.parameter_groups(net, {"8.*": 1e-2, "0.*": 1e-5, "*": 1e-3})
    assert [(g["name"], g["lr"], len(g["params"])) for g in groups] == [("8.*", 1e-2, 2), ("*", 1e-3, 4)]
    assert groups[0]["params"][0] is net[8].weight
    grouped = {id(p) for g in groups for p in g["params"]}
    assert grouped == {id(p) for p in net.parameters() if p.requires_grad}


def test_sgd_moves_each_group_at_its_rate():
    net = make_net(dtype=torch.float64)
    x, y = batch(dtype=torch.float64)
    groups = t.parameter_groups(net, {"8.*": 0.5, "*": 0.25})
    optimizer = torch.optim.SGD(groups, lr=100.0)  # what every group overrides
    F.cross_entropy(net(x), y).backward()
    wanted = {n: p.detach() - (0.5 if n.startswith("8.") else 0.25) * p.grad for n, p in net.named_parameters()}
    optimizer.step()
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.detach(), wanted[name], rtol=1e-15, atol=0)


def test_a_parameter_without_a_rate():
    with pytest.raises(ValueError, match=r"0\.weight trains, but no pattern gives it a rate"):
        t.parameter_groups(make_net(), {"8.*": 1.0})


def test_a_rate_for_nothing():
    with pytest.raises(t.FreezeError, match="no parameter is named 'fc"):
        t.parameter_groups(make_net(), {"fc.*": 1.0, "*": 1.0})


def test_layerwise_rates_fall_toward_the_input():
    assert t.layerwise_rates(["a", "b", "c"], 0.4, factor=2) == {"a": 0.1, "b": 0.2, "c": 0.4}
    assert t.layerwise_rates([], 0.4) == {}
    for lr, factor in ((0, 2), (1, 0.5)):
        with pytest.raises(ValueError, match="lr has to be positive and factor at least 1"):
            t.layerwise_rates(["a"], lr, factor=factor)


# ---------------------------------------------------------------- gradual unfreezing


@pytest.mark.parametrize("epoch, every, wanted", [(0, 1, 1), (1, 1, 2), (2, 1, 3), (9, 1, 3), (1, 2, 1), (2, 2, 2)])
def test_open_stages(epoch, every, wanted):
    assert t.open_stages(epoch, 3, every=every) == wanted


def test_gradual_unfreezing_opens_from_the_head_and_feeds_the_optimizer():
    net = make_net()
    schedule = t.GradualUnfreezing(net, {"8.*": 0.1, "[34].*": 0.01})
    optimizer = torch.optim.SGD(schedule.groups(0), lr=1.0, momentum=0.9)
    seen = []
    for epoch in range(3):
        report = schedule.start_epoch(epoch, optimizer)
        before = state(net)
        train_steps(net, optimizer, 1)
        assert {n for n in moved(net, before) if not n.endswith("tracked")} == set(report.trainable)
        seen.append([(g["name"], g["lr"], len(g["params"])) for g in optimizer.param_groups])
        assert report.held_norms == ("1", "4")
    assert seen[0] == [("8.*", 0.1, 2)]
    assert seen[1] == seen[2] == [("8.*", 0.1, 2), ("[34].*", 0.01, 4)]


def test_gradual_unfreezing_with_norms_that_open_too():
    net = make_net()
    schedule = t.GradualUnfreezing(net, {"8.*": 0.1, "[34].*": 0.01}, norms=False)
    assert schedule.start_epoch(0).held_norms == ("1", "4")
    assert schedule.start_epoch(1).held_norms == ("1",)


def test_gradual_unfreezing_refuses():
    with pytest.raises(ValueError, match="needs a stage and every ≥ 1, but got 0 and 1"):
        t.GradualUnfreezing(make_net(), {})
    with pytest.raises(ValueError, match="but got 1 and 0"):
        t.GradualUnfreezing(make_net(), {"8.*": 1.0}, every=0)
    with pytest.raises(t.FreezeError, match="no parameter is named 'fc'"):
        t.GradualUnfreezing(make_net(), {"fc": 1.0})


# ---------------------------------------------------------------- heads


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bias", [True, False])
def test_replace_head_keeps_place_device_dtype_and_bias(device, bias):
    net = nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.ReLU(), nn.Linear(3, 9, bias=bias)))
    net.to(device, torch.float64)
    assert t.replace_head(net, 2) == "1.1"
    head = net[1][1]
    assert (head.weight.shape, head.weight.dtype, head.weight.device.type) == ((2, 3), torch.float64, device)
    assert (head.bias is not None) == bias and head.weight.requires_grad


def test_replace_head_by_name():
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 9))
    assert t.replace_head(net, 5, name="0") == "0"
    assert net[0].out_features == 5 and net[1].in_features == 3


@pytest.mark.parametrize("net, name", [(nn.Sequential(nn.ReLU()), None), (make_net(), "0"), (nn.Linear(1, 1), None)])
def test_replace_head_where_there_is_none(net, name):
    with pytest.raises(ValueError, match="the model has no linear layer"):
        t.replace_head(net, 2, name=name)


def test_replace_head_of_no_classes():
    with pytest.raises(ValueError, match="num_classes has to be at least 1, but got 0"):
        t.replace_head(make_net(), 0)


# ---------------------------------------------------------------- FC -> conv


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(4, 3, 5), (1, 1, 1), (6, 1, 2)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n", [0, 1, 3])
def test_linear_to_conv_gives_equal_outputs_and_gradients(device, shape, bias, n):
    torch.manual_seed(0)
    linear = nn.Linear(int(np.prod(shape)), 7, bias=bias, dtype=torch.float64, device=device)
    conv = t.linear_to_conv(linear, shape)
    x = torch.randn(n, *shape, dtype=torch.float64, device=device, requires_grad=True)
    y, wanted = conv(x), linear(x.flatten(1))
    assert y.shape == (n, 7, 1, 1)
    torch.testing.assert_close(y.flatten(1), wanted, rtol=SUMMATION, atol=SUMMATION)
    grads = torch.autograd.grad(y.square().sum(), (x, conv.weight))
    expected = torch.autograd.grad(wanted.square().sum(), (x, linear.weight))
    torch.testing.assert_close(grads[0], expected[0], rtol=SUMMATION, atol=SUMMATION)
    torch.testing.assert_close(grads[1].flatten(1), expected[1], rtol=SUMMATION, atol=SUMMATION)


def test_linear_to_conv_slides_over_larger_maps():
    linear = nn.Linear(12, 5, dtype=torch.float64)
    conv = t.linear_to_conv(linear, (3, 2, 2))
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    maps = conv(x)
    assert maps.shape == (2, 5, 3, 5)
    torch.testing.assert_close(maps[:, :, 2, 3], linear(x[:, :, 2:4, 3:5].flatten(1)), rtol=SUMMATION, atol=SUMMATION)


def test_linear_to_conv_copies_and_takes_dtype_and_mode():
    linear = nn.Linear(4, 2, dtype=torch.bfloat16).eval()
    conv = t.linear_to_conv(linear, (4, 1, 1))
    assert conv.weight.dtype == torch.bfloat16 and not conv.training
    with torch.no_grad():
        conv.weight.zero_()
    assert linear.weight.any()


def test_linear_to_conv_of_another_size():
    with pytest.raises(ValueError, match=r"the layer takes 4 features, maps of \(4, 2, 1\) have 8"):
        t.linear_to_conv(nn.Linear(4, 2), (4, 2, 1))


def vgg_like():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * 3 * 5, 8),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(8, 3),
    ).double()


def test_a_whole_net_turned_fully_convolutional():
    net = vgg_like()
    net(torch.randn(4, 1, 6, 10, dtype=torch.float64))  # statistics that are not 0 and 1
    before = state(net)
    conv = t.fully_convolutional(net, (1, 6, 10))
    assert net.training and conv.training and not moved(net, before)
    net.eval(), conv.eval()
    x = torch.randn(3, 1, 6, 10, dtype=torch.float64)
    torch.testing.assert_close(conv(x).flatten(1), net(x), rtol=SUMMATION, atol=SUMMATION)
    large = torch.randn(1, 1, 10, 14, dtype=torch.float64)
    assert conv(large).shape == (1, 3, 3, 3)


@pytest.mark.parametrize("net", [nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2), nn.Flatten())])
def test_fully_convolutional_without_what_it_needs(net):
    with pytest.raises(ValueError, match=r"needs an nn.Flatten and then linear layers"):
        t.fully_convolutional(net, (2, 1, 1))


# ---------------------------------------------------------------- precomputed features


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("n, size", [(8, 3), (8, 64), (1, 1), (0, 4)])
def test_precomputed_features_are_the_frozen_nets(device, n, size):
    net = make_net()
    net.train()(batch()[0])
    trunk = net[:8].to(device)
    trunk[1].eval()
    modes = [m.training for m in trunk.modules()]
    x, _ = batch(2, n)
    before = state(trunk)
    features = t.precompute_features(trunk, x, batch_size=size)
    assert [m.training for m in trunk.modules()] == modes and not moved(trunk, before)
    assert features.device == x.device and not features.requires_grad
    trunk.eval()
    rounding = SUMMATION32 if device == "cpu" else 1e-2  # TF32 in a GPU's convolutions
    torch.testing.assert_close(features, trunk(x.to(device)).detach().cpu(), rtol=rounding, atol=rounding)


def test_training_a_head_on_features_is_training_it_on_the_frozen_net():
    net = make_net(dtype=torch.float64)
    x, y = batch(dtype=torch.float64)
    t.freeze(net, "*", keep=["8.*"])
    features = t.precompute_features(net[:8], x)
    head = copy.deepcopy(net[8])
    for model, inputs in ((net, x), (head, features)):
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.1)
        model.train()
        for _ in range(5):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), y).backward()
            optimizer.step()
    torch.testing.assert_close(head.weight, net[8].weight, rtol=1e-9, atol=1e-12)


def test_the_cache_answers_for_the_same_trunk_and_inputs_only(tmp_path):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.calls = nn.Linear(3, 2), 0

        def forward(self, x):
            self.calls += 1
            return self.inner(x)

    trunk, x = Counting(), torch.arange(12.0).reshape(4, 3)
    first = t.precompute_features(trunk, x, cache=tmp_path / "features")
    assert torch.equal(t.precompute_features(trunk, x, cache=tmp_path / "features"), first) and trunk.calls == 1
    t.precompute_features(trunk, x + 1, cache=tmp_path / "features")
    assert trunk.calls == 2
    with torch.no_grad():
        trunk.inner.bias += 1
    other = t.precompute_features(trunk, x, cache=str(tmp_path / "features"))
    torch.testing.assert_close(other, first + 1)
    files = sorted((tmp_path / "features").iterdir())
    assert [f.suffix for f in files] == [".npy"] * 3
    for file in files:
        file.write_bytes(b"cut short")
    assert torch.equal(t.precompute_features(trunk, x, cache=tmp_path / "features"), other)


def test_features_of_a_plain_function():
    x = torch.arange(6.0).reshape(3, 2)
    assert torch.equal(t.precompute_features(lambda x: x * 2, x, batch_size=2), x * 2)


def test_precompute_refuses(tmp_path):
    x = torch.ones(2, 2)
    with pytest.raises(ValueError, match="batch_size has to be at least 1, but got 0"):
        t.precompute_features(nn.Identity(), x, batch_size=0)
    with pytest.raises(TypeError, match=r"a cache needs an nn\.Module"):
        t.precompute_features(lambda x: x, x, cache=tmp_path)
    with pytest.raises(TypeError, match="cannot hold bfloat16"):
        t.precompute_features(nn.Identity(), x.bfloat16(), cache=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_standardize(scale):
    x = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * scale + 3 * scale
    x[:, 1] = 0.1 * scale  # never varies
    layer = t.Standardize(x)
    y = layer(x)
    assert not y[:, 1].any() and not list(layer.parameters()) and set(layer.state_dict()) == {"mean", "scale"}
    torch.testing.assert_close(y[:, ::2].mean(0), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(y[:, ::2].square().mean(0), torch.ones(2, dtype=torch.float64), rtol=1e-12, atol=0)


# ---------------------------------------------------------------- loading by name


def test_partial_loading_says_what_it_did():
    source, target = make_net(0), make_net(1)
    target[8] = nn.Linear(6, 3)
    given = source.state_dict()
    del given["0.bias"]
    given["extra"] = torch.ones(1)
    before = state(target)
    report = t.load_partial(target, given)
    assert report.missing == ("0.bias",)
    assert report.unexpected == ("extra",)
    assert report.misshapen == (("8.weight", (5, 6), (3, 6)), ("8.bias", (5,), (3,)))
    assert set(report.loaded) == set(source.state_dict()) - {"0.bias", "8.weight", "8.bias"}
    assert moved(target, before) <= set(report.loaded)
    assert torch.equal(target[3].weight, source[3].weight)
    assert str(report) == (
        "13 loaded; missing: 0.bias; unexpected: extra; misshapen: 8.weight (5, 6) for (3, 6), 8.bias (5,) for (3,)"
    )


def test_pytorchs_own_loading_raises_for_a_shape_though_not_strict():
    with pytest.raises(RuntimeError, match="size mismatch"):
        nn.Linear(6, 3).load_state_dict(nn.Linear(6, 5).state_dict(), strict=False)


def test_partial_loading_renames_casts_and_keeps_the_parameters():
    target = nn.Linear(2, 2, dtype=torch.float64)
    weight = target.weight
    given = {"old.weight": torch.ones(2, 2), "old.bias": torch.ones(2), "old.extra": torch.ones(1)}
    rename = lambda name: None if name == "old.extra" else name.removeprefix("old.")
    report = t.load_partial(target, given, rename=rename)
    assert report.loaded == ("weight", "bias") and not report.unexpected and not report.missing
    assert target.weight is weight and weight.dtype == torch.float64 and weight.requires_grad and weight.min() == 1


def test_partial_loading_refuses_and_changes_nothing():
    target = make_net(1)
    before = state(target)
    with pytest.raises(ValueError, match="nothing of the state fits the model: 0 loaded"):
        t.load_partial(target, {"module.0.weight": torch.ones(1)})
    with pytest.raises(ValueError, match="two tensors of the state become 'x'"):
        t.load_partial(target, {"a": torch.ones(1), "b": torch.ones(1)}, rename=lambda name: "x")
    given = {"0.weight": torch.zeros(4, 3, 3, 3), "1.weight": torch.zeros(7)}
    for must in ("1.*", "features.*"):
        with pytest.raises(ValueError, match=r"has to be loaded whole, but is not: 1 loaded"):
            t.load_partial(target, given, must_load=[must])
    assert not moved(target, before)
    assert t.load_partial(target, given, must_load=["0.weight"]).loaded == ("0.weight",)


# ---------------------------------------------------------------- greedy layer-wise pretraining


def low_rank(n=256, seed=0):
    """Points on a plane of 3 dimensions in 12, in [0, 1]: 3 sigmoid codes can tell most of them."""
    g = torch.Generator().manual_seed(seed)
    return torch.sigmoid(torch.randn(n, 3, generator=g) @ torch.randn(3, 12, generator=g))


def test_the_autoencoder_keeps_more_than_the_mean():
    x = low_rank()
    torch.manual_seed(0)
    layer = nn.Linear(12, 4)
    losses = t.pretrain_autoencoder(layer, x, epochs=30, lr=0.02)
    assert len(losses) == 30
    assert losses[-1] < 0.5 * float(x.var(0, correction=0).mean())  # the mean alone is off by the variance


def test_one_epoch_of_one_batch_reports_the_loss_of_the_formula():
    x = low_rank(20)
    torch.manual_seed(0)
    layer = nn.Linear(12, 4)
    code = torch.tanh(F.linear(x, layer.weight, layer.bias))
    expected = F.mse_loss(code @ layer.weight + x.mean(0), x).detach()
    (loss,) = t.pretrain_autoencoder(layer, x, activation=torch.tanh, epochs=1, batch_size=20)
    assert loss == pytest.approx(float(expected), rel=1e-5)


def test_the_same_seed_gives_the_same_weights_and_the_global_generator_stays():
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(7)
        layer = nn.Linear(12, 4)
        before = torch.get_rng_state()
        t.pretrain_autoencoder(layer, low_rank(), epochs=2, noise=0.3, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        results.append(layer.weight.detach())
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def test_noise_makes_the_task_harder():
    torch.manual_seed(0)
    layers = [nn.Linear(12, 4)]
    layers.append(copy.deepcopy(layers[0]))
    clean, noisy = (
        t.pretrain_autoencoder(layer, low_rank(), epochs=3, noise=noise)[-1]
        for layer, noise in zip(layers, (0.0, 0.5), strict=True)
    )
    assert noisy > clean


def test_pretraining_leaves_no_gradient_and_a_frozen_layer_frozen():
    layer = nn.Linear(12, 4, bias=False).requires_grad_(False)
    t.pretrain_autoencoder(layer, low_rank(), epochs=1)
    assert layer.weight.grad is None and not layer.weight.requires_grad


def test_greedy_pretraining_trains_each_layer_on_the_codes_below():
    torch.manual_seed(0)
    stack = [nn.Linear(12, 6), nn.Linear(6, 3)]
    alone = copy.deepcopy(stack)
    histories = t.pretrain_greedily(stack, low_rank(), epochs=2)
    first = t.pretrain_autoencoder(alone[0], low_rank(), epochs=2)
    second = t.pretrain_autoencoder(alone[1], torch.sigmoid(alone[0](low_rank())).detach(), epochs=2)
    assert histories == (first, second)
    assert torch.equal(stack[1].weight, alone[1].weight)


def test_pretraining_refuses():
    with pytest.raises(ValueError, match="a layer gives 6 codes, the next takes 5"):
        t.pretrain_greedily([nn.Linear(12, 6), nn.Linear(5, 2)], low_rank())
    for bad in ({"noise": 1.0}, {"epochs": 0}, {"batch_size": 0}):
        with pytest.raises(ValueError, match=r"noise has to be in \[0, 1\), epochs and batch_size at least 1"):
            t.pretrain_autoencoder(nn.Linear(12, 2), low_rank(), **bad)


# ---------------------------------------------------------------- how far features move


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e4, 1e30])
def test_relative_distance(scale):
    x = torch.tensor([3.0, 4.0]) * scale
    assert t.relative_distance(x, x) == 0
    assert float(t.relative_distance(x, 2 * x)) == pytest.approx(1.0)
    assert float(t.relative_distance(x, torch.tensor([3.0, -4.0]) * scale)) == pytest.approx(1.6)


def test_relative_distance_at_the_edges():
    zero = torch.zeros(2)
    assert t.relative_distance(zero, zero) == 0 and t.relative_distance(zero[:0], zero[:0]) == 0
    assert torch.isinf(t.relative_distance(zero, zero + 1))
    with pytest.raises(ValueError, match=r"shapes differ: \(2,\) and \(1,\)"):
        t.relative_distance(zero, zero[:1])


@pytest.mark.parametrize("n, widths", [(40, (5, 7)), (6, (9, 8))])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_linear_cka_is_the_formula_and_sees_no_rotation(n, widths, scale):
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, w, generator=g, dtype=torch.float64) * scale for w in widths)
    a, b = x - x.mean(0), y - y.mean(0)
    norm = torch.linalg.matrix_norm
    expected = norm(b.T @ a) ** 2 / (norm(a.T @ a) * norm(b.T @ b))
    torch.testing.assert_close(t.linear_cka(x, y), expected, rtol=SUMMATION, atol=0)
    rotation = torch.linalg.qr(torch.randn(widths[0], widths[0], generator=g, dtype=torch.float64))[0]
    torch.testing.assert_close(t.linear_cka(x, 3 * x @ rotation + 2), torch.ones((), dtype=torch.float64))


def test_linear_cka_refuses_and_says_nan_where_nothing_varies():
    assert torch.isnan(t.linear_cka(torch.ones(3, 2), torch.rand(3, 2)))
    with pytest.raises(ValueError, match="as many examples on both sides: got 3 and 2"):
        t.linear_cka(torch.rand(3, 2), torch.rand(2, 2))


def test_weights_and_features_moved_only_where_it_trained():
    net = make_net()
    start, before = state(net), copy.deepcopy(net)
    t.freeze(net, "[01].*")
    train_steps(net, torch.optim.SGD(t.parameter_groups(net, {"*": 0.5})))
    weights = t.weights_moved(net, {**start, "8.bias": torch.ones(9)})
    assert weights["0.weight"] == weights["1.running_mean"] == 0 and weights["3.weight"] > 0
    assert "8.bias" not in weights and "1.num_batches_tracked" not in weights
    x, _ = batch(5)
    features = t.features_moved(before, net, x, ["2", "3", "8"])
    assert features["2"] == 0 and features["3"] > 0 and features["8"] > 0
    likeness = t.features_moved(before, net, x, ["2", "8"], measure=t.linear_cka)
    assert likeness["2"] == pytest.approx(1.0) and likeness["8"] < 1
    assert net.training and not net[3]._forward_hooks


def test_features_are_taken_before_a_later_layer_works_in_place():
    net = make_net()
    (name, moved_by), *_ = t.features_moved(net, net, batch()[0], ["4"]).items()
    assert (name, moved_by) == ("4", 0)
    assert t._outputs(net, batch()[0], ["4"])["4"].min() < 0  # 5 is a ReLU in place


def test_features_of_a_layer_that_is_not_there():
    with pytest.raises(ValueError, match="the net has no layer 'features': there are 0, 1, …"):
        t.features_moved(make_net(), make_net(), batch()[0], ["features"])


# ---------------------------------------------------------------- Keras


@pytest.fixture(scope="module")
def keras():
    return load_keras()


TRAPS = {
    "transfer.frozen_norm": ("still moves its running statistics", "is in inference"),
    "transfer.assignment": ("freezes nothing", "freezes the layer"),
    "transfer.late_freeze": ("at once", "only after compile"),
    "transfer.misshapen": ("strict=False still raises", "skip_mismatch=True skips it, with a warning"),
    "transfer.matching": ("by name", "by kind and order"),
    "transfer.kernel_axes": ("out, in, h, w", "h, w, in, out"),
}


@pytest.mark.slow
@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda c: c.id)
def test_the_conventions_are_as_the_lesson_tells_them(keras, convention):
    assert (convention.torch(), convention.keras(keras)) == TRAPS[convention.id]


@pytest.mark.slow
def test_kernels_cross_over_by_the_convention(keras):
    to_keras = next(c for c in CONVENTIONS if c.id == "transfer.kernel_axes").to_keras
    conv = nn.Conv2d(3, 4, (2, 3))
    layer = keras.layers.Conv2D(4, (2, 3))
    layer.build((None, 6, 7, 3))
    layer.set_weights([to_keras(conv.weight.detach().numpy()), conv.bias.detach().numpy()])
    x = torch.randn(2, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    y = torch.from_numpy(np.array(layer(x.permute(0, 2, 3, 1).numpy()))).permute(0, 3, 1, 2)
    torch.testing.assert_close(y, conv(x).detach(), rtol=SUMMATION32, atol=1e-6)


@pytest.mark.slow
def test_a_held_norm_does_what_keras_does_with_a_frozen_one(keras):
    net = nn.Sequential(nn.BatchNorm1d(3, eps=1e-3), nn.Linear(3, 1))
    t.freeze(net, "0.*")
    layer = keras.layers.BatchNormalization()
    layer.build((None, 3))
    layer.trainable = False
    x = np.random.default_rng(0).normal(3, 2, (8, 3)).astype(np.float32)
    y = np.array(layer(x, training=True))
    np.testing.assert_allclose(net.train()[0](torch.from_numpy(x)).detach().numpy(), y, rtol=1e-6)


# ---------------------------------------------------------------- the module


def test_all_names_are_there_and_told():
    assert t.__all__ == sorted(t.__all__, key=lambda n: (n[0].islower(), n))
    for name in t.__all__:
        assert getattr(t, name).__doc__
