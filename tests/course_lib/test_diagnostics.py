"""course_lib.diagnostics against autograd, closed forms and the memory that PyTorch really holds.

That it leaves no trace is tested for every function: modes, hooks, gradients, statistics, random generators.
"""

import copy
import gc

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import architectures as a
from course_lib import diagnostics as d

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


def data(n=50, features=6, classes=3, dtype=torch.float32):
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, features, generator=g, dtype=dtype), torch.randint(0, classes, (n,), generator=g)


def net_of(**options):
    torch.manual_seed(0)
    return a.mlp(6, 3, depth=2, width=8, **options)


def trace(model):
    """All that a look at the model might disturb."""
    return {
        "modes": [m.training for m in model.modules()],
        "hooks": [
            (dict(m._forward_hooks), dict(m._forward_pre_hooks), dict(m._backward_hooks)) for m in model.modules()
        ],
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "wants": [p.requires_grad for p in model.parameters()],
        "random": torch.get_rng_state(),
        "grad mode": torch.is_grad_enabled(),
    }


def assert_same_trace(before, after):
    for key in ("modes", "hooks", "wants", "grad mode"):
        assert before[key] == after[key], key
    assert torch.equal(before["random"], after["random"])
    assert all(torch.equal(before["state"][name], value) for name, value in after["state"].items())
    for one, other in zip(before["grads"], after["grads"], strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


# statistics by layer -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("batch_size", (50, 16, 7, 1))
def test_statistics_are_those_of_the_whole_set_whatever_the_batches(batch_size, device):
    net = net_of(activation=nn.Tanh).double().to(device)
    x, y = data(dtype=torch.float64)
    got = {s.name: s for s in d.layer_statistics(net, (x, y), batch_size=batch_size)}
    h, grads = x.to(device).requires_grad_(), {}
    outputs = {}
    for name, layer in net.named_children():
        h = layer(h)
        h.retain_grad()
        outputs[name] = h
    F.cross_entropy(h, y.to(device), reduction="sum").backward()
    grads = {name: out.grad for name, out in outputs.items()}
    assert list(got) == list(outputs)
    for name, s in got.items():
        out, grad = outputs[name].detach(), grads[name]
        want = (out.mean(), out.std(unbiased=False), grad.mean(), grad.std(unbiased=False))
        for value, expected in zip((s.mean, s.std, s.gradient_mean, s.gradient_std), want, strict=True):
            assert value == pytest.approx(expected.item(), rel=1e-10, abs=1e-14), name
        assert s.kind == type(net.get_submodule(name)).__name__


def test_moments_do_not_cancel_far_from_zero():
    x = (1e4 + torch.randn(40, 6, generator=torch.Generator().manual_seed(1))).float()
    net = nn.Sequential(nn.Identity(), nn.Linear(6, 3))
    s = d.layer_statistics(net, (x, data(40)[1]), batch_size=7)[0]
    assert s.std == pytest.approx(x.double().std(unbiased=False).item(), rel=1e-9)
    assert s.mean == pytest.approx(x.double().mean().item(), rel=1e-12)


class Given(nn.Module):
    """Passes fixed values on, whatever comes in, so that what the activation sees is known."""

    def forward(self, x):
        return x


@pytest.mark.parametrize(
    ("layer", "z", "saturated"),
    (
        (nn.ReLU(), [-1.0, -0.5, 2.0, 3.0], 0.5),
        (nn.ReLU6(), [-1.0, 7.0, 2.0, 3.0], 0.5),
        (nn.LeakyReLU(0.01), [-1.0, 1.0, 2.0, 3.0], 0.25),
        (nn.LeakyReLU(0.1), [-1.0, 1.0, 2.0, 3.0], 0.0),
        (nn.Sigmoid(), [-4.4, -4.3, 0.0, 4.4], 0.5),  # slope 5% of 1/4 at |z| = 4.357
        (nn.Tanh(), [-2.2, -2.1, 0.0, 1e4], 0.5),  # 5% of 1 at 2.178
        (a.ScaledTanh(), [-3.3, -3.2, 0.0, 1e4], 0.5),  # the same at 1.5 times z
        (nn.ELU(), [-3.1, -2.9, 1.0, 2.0], 0.25),  # e^z under 5% at −2.996
        (nn.Softplus(), [-3.0, -2.9, 0.0, 9.0], 0.25),  # its steepest in reach is σ(6)
        (nn.PReLU(init=0.0), [-1.0, 1.0, 2.0, -3.0], 0.5),
        (nn.PReLU(init=0.5), [-1.0, 1.0, 2.0, -3.0], 0.0),
    ),
)
def test_saturation_is_where_the_slope_is_under_a_twentieth_of_the_steepest(layer, z, saturated):
    x = torch.tensor(z).view(4, 1)
    net = nn.Sequential(Given(), layer)
    s = d.layer_statistics(net, (x, x), loss_fn=F.mse_loss, batch_size=3)[1]
    assert s.saturated == saturated and s.kind == type(layer).__name__


def test_a_unit_is_dead_only_if_it_is_so_on_every_example():
    # column 0 always negative, 1 negative but once (in the last batch), 2 zero (slope 0 for PyTorch's ReLU), 3 alive
    x = torch.tensor([[-1.0, -2.0, 0.0, 1.0]] * 9 + [[-1.0, 3.0, 0.0, -1.0]])
    net = nn.Sequential(Given(), nn.ReLU(), nn.LeakyReLU())
    _, relu, leaky = d.layer_statistics(net, (x, x), loss_fn=F.mse_loss, batch_size=4)
    assert relu.dead == 0.5 and leaky.dead == 0.0
    assert d.layer_statistics(net, (x[:4], x[:4]), loss_fn=F.mse_loss)[1].dead == 0.75  # one batch would mislead
    assert relu.saturated == pytest.approx((10 + 9 + 10 + 1) / 40)


def test_a_feature_map_is_a_unit():
    x = -torch.ones(4, 3, 2, 2)
    x[3, 1, 0, 1] = 1.0
    s = d.layer_statistics(nn.Sequential(nn.ReLU()), (x, x), loss_fn=F.mse_loss, batch_size=2)[0]
    assert s.dead == pytest.approx(2 / 3) and s.saturated == pytest.approx(47 / 48)


def test_layers_that_are_no_activation_have_no_slope_and_the_unreached_no_gradient():
    class Detached(nn.Module):
        def forward(self, x):
            return x.detach()

    net = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), Detached(), nn.Linear(4, 3))
    first, relu, _, last = d.layer_statistics(net, data())
    assert first.saturated is None and first.dead is None and relu.dead is not None
    assert first.gradient_mean is None and first.gradient_std is None and last.gradient_std > 0


def test_in_place_layers_are_seen_before_they_overwrite():
    torch.manual_seed(0)
    one = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    other = copy.deepcopy(one)
    other[1] = nn.ReLU(inplace=True)
    assert d.layer_statistics(one, data()) == d.layer_statistics(other, data())


def test_frozen_nets_nested_nets_and_integer_inputs_are_seen():
    frozen = net_of().requires_grad_(False)
    assert all(s.gradient_std > 0 for s in d.layer_statistics(frozen, data()))
    net = a.resnet(2, 3, widths=(4,), blocks=(1,))
    x, y = torch.randn(9, 2, 6, 6), torch.arange(9) % 3
    names = [s.name for s in d.layer_statistics(net, (x, y), batch_size=4)]
    assert "stage1_block1.branch.norm1" in names
    picked = d.layer_statistics(net, (x, y), layers=["stage1_block1"])
    assert [s.kind for s in picked] == ["ResidualBlock"]
    words = nn.Sequential(nn.Embedding(5, 4), nn.LSTM(4, 3))
    got = d.layer_statistics(
        words, (torch.arange(5), torch.arange(5) % 3), loss_fn=lambda out, y: out[0].square().mean()
    )
    assert [s.kind for s in got] == ["Embedding", "LSTM"] and got[0].gradient_std > 0


def test_activations_of_ones_own_are_named():
    class Mine(nn.Module):
        def forward(self, x):
            return x.clamp(min=0)

    x = -torch.ones(3, 2)
    net = nn.Sequential(Mine())
    assert d.layer_statistics(net, (x, x), loss_fn=F.mse_loss)[0].dead is None
    assert d.layer_statistics(net, (x, x), loss_fn=F.mse_loss, elementwise=(Mine,))[0].dead == 1.0


@pytest.mark.parametrize("training", (True, False))
@pytest.mark.parametrize("fails", (False, True))
@pytest.mark.parametrize("grad", (True, False))
def test_layer_statistics_leaves_no_trace(training, fails, grad):
    net = net_of(batch_norm=True, dropout=0.5).train(training)
    net.norm1.eval()
    x, y = data()
    F.cross_entropy(net(x), y).backward()
    net.dense1.weight.requires_grad_(False)
    with torch.set_grad_enabled(grad):
        before = trace(net)
        if fails:
            with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
                d.layer_statistics(net, (x[:, :5], y))
        else:
            d.layer_statistics(net, (x, y), batch_size=20)
        assert_same_trace(before, trace(net))
    assert not x.requires_grad


def test_bad_data_and_unknown_layers_are_refused():
    x, y = data()
    for bad in ((x[:0], y[:0]), (x, y[:3])):
        with pytest.raises(ValueError, match="as many inputs as labels"):
            d.layer_statistics(net_of(), bad)
    with pytest.raises(ValueError, match="no layer called 'dens1'; it has flatten, dense1"):
        d.layer_statistics(net_of(), (x, y), layers=["dens1"])


# gradients and updates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64, torch.bfloat16))
def test_gradient_norms_are_autograds(dtype, device):
    net = net_of().to(device, dtype)
    x, y = data()
    net.output.bias.requires_grad_(False)
    F.cross_entropy(net(x.to(device, dtype)), y.to(device)).backward()
    got = d.gradient_norms(net)
    assert [g.name for g in got] == [name for name, _ in net.named_parameters() if name != "output.bias"]
    for g in got:
        p = net.get_parameter(g.name)
        assert g.gradient_norm == pytest.approx(p.grad.double().norm().item(), rel=1e-12)
        assert g.weight_norm == pytest.approx(p.detach().double().norm().item(), rel=1e-12)
        assert g.numbers == p.numel()


def test_gradient_norms_neither_vanish_nor_overflow():
    net = nn.Linear(3, 1, bias=False)
    for value in (1e-30, 1e30):  # squares leave float32
        net.weight.grad = torch.full_like(net.weight, value)
        assert d.gradient_norms(net)[0].gradient_norm == pytest.approx(value * 3**0.5, rel=1e-6)


def test_gradient_norms_without_gradients_are_refused():
    with pytest.raises(ValueError, match=r"after loss\.backward"):
        d.gradient_norms(net_of())


def test_update_ratios_are_the_learning_rate_times_the_norms_for_plain_sgd():
    net = net_of().double()
    x, y = data(dtype=torch.float64)
    F.cross_entropy(net(x), y).backward()
    norms = {g.name: g for g in d.gradient_norms(net)}
    before = d.snapshot(net)
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    ratios = d.update_ratios(before, net)
    assert list(ratios) == list(before)
    for name, ratio in ratios.items():
        assert ratio == pytest.approx(0.1 * norms[name].gradient_norm / norms[name].weight_norm, rel=1e-9)


def test_update_ratios_at_zero_and_of_the_wrong_net():
    net = nn.Linear(2, 2)
    nn.init.zeros_(net.bias)
    before = d.snapshot(net)
    assert d.update_ratios(before, net) == {"weight": 0.0, "bias": 0.0}
    with torch.no_grad():
        net.bias.add_(1)
    assert d.update_ratios(before, net) == {"weight": 0.0, "bias": float("inf")}
    assert d.update_ratios({}, nn.ReLU()) == {}
    with pytest.raises(ValueError, match="take it by snapshot"):
        d.update_ratios(before, nn.Linear(3, 2))


# gradient check ----------------------------------------------------------------------------------------------


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


RIGHT = {
    "dense": (lambda x, w: torch.tanh(x @ w), (normal(3, 4), normal(4, 2))),
    "softmax": (lambda x: x.softmax(-1), (normal(2, 5),)),
    "of one number": (lambda x: x.exp(), (normal(),)),
    "1e4": (lambda x: x.square(), (1e4 * normal(6),)),
    "tiny entries": (lambda x: (x * torch.tensor([1e-9, 1.0, 1e3], dtype=torch.float64)).square(), (normal(3),)),
    "no effect": (lambda x, y: x * 1.0, (normal(3), normal(2))),
    "zero gradient": (lambda x: x * 0.0, (normal(3),)),
    "empty": (lambda x: x * 2.0, (normal(0, 3),)),
    "batch norm": (lambda x: F.batch_norm(x, None, None, training=True), (normal(6, 3),)),
    "not contiguous": (lambda x: x.sin() * x, (normal(4, 3).T,)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_gradient_passes(name):
    function, inputs = RIGHT[name]
    before = [x.clone() for x in inputs]
    check = d.gradient_check(function, *inputs)
    assert check.ok and check.error < 1e-7 and len(check.errors) == len(inputs)
    assert all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True))
    assert not any(x.requires_grad for x in inputs)


def test_a_wrong_gradient_is_found_where_it_is():
    x, w = normal(3, 4), normal(4, 2)

    def backward(grad, by=1.0):
        dw = x.T @ grad
        dw[2, 1] *= by
        return grad @ w.T, dw

    assert d.gradient_check(lambda x, w: x @ w, x, w, backward=backward).ok
    check = d.gradient_check(lambda x, w: x @ w, x, w, backward=lambda g: backward(g, 1.01))
    assert not check.ok and (check.input, check.position) == (1, (2, 1))
    assert check.error == pytest.approx(0.01 / 1.01, rel=1e-4) and check.errors[0] < 1e-7
    assert check.analytic == pytest.approx(1.01 * check.numeric, rel=1e-5)


@pytest.mark.parametrize("wrong", (-1.0, 0.0, 2.0, float("nan"), float("inf")))
def test_wrong_signs_factors_and_missing_gradients_are_far_off(wrong):
    check = d.gradient_check(lambda x: x.square(), normal(4), backward=lambda g: wrong * 2 * normal(4) * g)
    assert check.error >= 0.5 - 1e-6 and not check.ok


def test_one_entry_that_is_nan_is_the_one_named():
    grad = 2 * normal(4)
    grad[2] = float("nan")
    check = d.gradient_check(lambda x: x.square().sum(), normal(4), backward=lambda g: grad * g)
    assert (check.error, check.position) == (float("inf"), (2,))


def test_the_relative_error_does_not_depend_on_the_scale_of_the_gradient():
    """An absolute tolerance would pass the first, a wrong gradient of 1e-9, and fail the last, a right one of 1e9."""
    for scale in (1e-9, 1.0, 1e9):
        f = lambda x, scale=scale: scale * x.square()
        assert not d.gradient_check(f, normal(4), backward=lambda g, s=scale: s * 2.2 * normal(4) * g).ok
        assert d.gradient_check(f, normal(4)).ok


def test_the_frameworks_and_a_two_layer_net_pass_with_gradients_switched_off():
    with torch.no_grad():
        assert d.gradient_check(lambda x: F.gelu(x), normal(3, 3)).ok


def test_bad_checks_are_refused():
    for bad in ((), (torch.ones(2),), (normal(2), torch.ones(2))):
        with pytest.raises(ValueError, match="all float64"):
            d.gradient_check(lambda *x: x[0], *bad)
    for wrong in (lambda g: g[:1], lambda g: (g, g)):
        with pytest.raises(ValueError, match="are not the inputs'"):
            d.gradient_check(lambda x: x, normal(3), backward=wrong)


# memory ------------------------------------------------------------------------------------------------------


def test_step_memory_of_a_net_small_enough_to_count():
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    x, y = data(10)
    memory = d.step_memory(net, x, y, torch.optim.SGD(net.parameters(), 0.1, momentum=0.9))
    weights = 4 * (6 * 8 + 8 + 8 * 3 + 3)
    assert (memory.parameters, memory.gradients, memory.optimizer_state) == (weights, weights, weights)
    assert memory.inputs == 10 * (6 * 4 + 8) and memory.buffers == 0
    # ReLU keeps its output, which the next layer needs too, once; the loss its log-softmax and a number
    assert memory.by_layer == (("1", 10 * 8 * 4), ("loss", 10 * 3 * 4 + 4))
    assert memory.activations == 10 * 8 * 4 + 10 * 3 * 4 + 4
    assert memory.total == 3 * weights + memory.inputs + memory.activations
    assert f"{memory.total:,}" in str(memory) and "optimizer state" in str(memory)


def test_a_batch_cut_from_a_data_set_counts_as_the_batch():
    x, y = data(1000)
    net = net_of()
    optimizer = torch.optim.Adam(net.parameters())
    one = d.step_memory(net, x[:10], y[:10], optimizer)
    assert one == d.step_memory(net, x[:10].clone(), y[:10].clone(), optimizer)
    assert one.inputs == 10 * (6 * 4 + 8)


def test_tied_weights_count_once():
    net = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False))
    net[1].weight = net[0].weight
    memory = d.step_memory(net, *data(4), torch.optim.SGD(net.parameters(), 0.1))
    assert memory.parameters == memory.gradients == 6 * 6 * 4


def test_what_was_accumulated_before_does_not_count():
    net = net_of()
    net.output.requires_grad_(False)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad])
    memory = d.step_memory(net, *data(), optimizer)
    assert memory.gradients == sum(p.nbytes for p in net.parameters() if p.requires_grad)


@pytest.mark.parametrize("fails", (False, True))
@pytest.mark.parametrize("grad", (True, False))
def test_step_memory_leaves_no_trace(fails, grad):
    net = net_of(batch_norm=True, dropout=0.5)
    net.norm2.eval()
    x, y = data()
    optimizer = torch.optim.Adam(net.parameters())
    F.cross_entropy(net(x), y).backward()
    optimizer.step()
    state = copy.deepcopy(optimizer.state_dict())
    with torch.set_grad_enabled(grad):
        before = trace(net)
        if fails:
            with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
                d.step_memory(net, x[:, :5], y, optimizer)
        else:
            first = d.step_memory(net, x, y, optimizer)
            assert first == d.step_memory(net, x, y, optimizer)
        assert_same_trace(before, trace(net))
    now = optimizer.state_dict()
    assert now["param_groups"] == state["param_groups"]
    for i, values in state["state"].items():
        assert all(torch.equal(value, now["state"][i][key]) for key, value in values.items())


def test_an_optimizer_of_another_net_is_refused():
    with pytest.raises(ValueError, match="none of the model's parameters"):
        d.step_memory(net_of(), *data(), torch.optim.SGD(net_of().parameters(), 0.1))


@pytest.mark.parametrize(
    "make", (lambda: net_of(batch_norm=True), lambda: a.resnet(1, 3, widths=(4, 8), blocks=(1, 1)))
)
def test_activations_are_the_bytes_that_a_forward_pass_leaves_in_memory(make):
    """Seen by the storages that are alive after it, not by the hooks."""
    net = make()
    x = torch.randn(12, 6) if isinstance(net[0], nn.Flatten) else torch.randn(12, 1, 6, 6)
    y = torch.arange(12) % 3
    memory = d.step_memory(net, x, y, torch.optim.SGD(net.parameters(), 0.1))
    with d._Live() as live:
        loss = F.cross_entropy(net(x), y)
    assert live.now == memory.activations + loss.nbytes


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cudas_allocator_holds_what_step_memory_says():
    """Up to its blocks of 512 bytes: at most one more for each tensor."""
    net = a.resnet(3, 10).cuda()
    x, y = torch.randn(32, 3, 32, 32, device="cuda"), torch.arange(32, device="cuda") % 10
    memory = d.step_memory(net, x, y, torch.optim.Adam(net.parameters()))
    gc.collect()
    start = torch.cuda.memory_allocated()
    loss = F.cross_entropy(net(x), y)
    block = 512 * 4 * len(list(net.modules()))
    assert abs(torch.cuda.memory_allocated() - start - memory.activations) < block
    loss.backward()
    optimizer = torch.optim.Adam(net.parameters())
    del loss
    optimizer.step()
    held = torch.cuda.memory_allocated() - start
    assert abs(held - memory.gradients - memory.optimizer_state) < 3 * block


def test_peak_memory_sees_what_comes_and_goes():
    x = torch.zeros(1000)
    assert d.peak_memory(lambda: None) == 0
    assert d.peak_memory(lambda: x + 1) == 4000
    assert d.peak_memory(lambda: (x + 1) * 2) == 8000
    assert d.peak_memory(lambda: [x + 1 for _ in range(5)]) == 20000
    assert d.peak_memory(lambda: [float((x + i).sum()) for i in range(5)]) == 4004
    assert d.peak_memory(lambda: x.view(10, 100).T) == 0  # views are nobody's memory
    assert d.peak_memory(lambda: x.add_(1)) == 0
    assert d.peak_memory(lambda: torch.stack([x, x])) == 8000
    assert d.peak_memory(lambda: torch.cat(tensors=[x, x])) == 8000


def test_training_peaks_above_evaluation_which_does_not_grow_with_depth():
    x, y = data(200)
    deep, shallow = (a.mlp(6, 3, depth=depth, width=50).eval() for depth in (12, 2))

    def without(net):
        with torch.no_grad():
            net(x)

    assert d.peak_memory(lambda: without(deep)) == d.peak_memory(lambda: without(shallow)) == 2 * 200 * 50 * 4
    recorded = d.peak_memory(lambda: deep(x))
    trained = d.peak_memory(lambda: torch.autograd.grad(F.cross_entropy(deep(x), y), list(deep.parameters())))
    assert trained > recorded > 12 * 200 * 50 * 4


def test_peak_memory_ends_its_watch_after_an_error():
    with pytest.raises(ZeroDivisionError):
        d.peak_memory(lambda: 1 / 0)
    assert d.peak_memory(lambda: torch.zeros(10)) == 40


def test_everything_named_is_there_and_documented():
    for name in d.__all__:
        thing = getattr(d, name)
        assert not callable(thing) or thing.__doc__
