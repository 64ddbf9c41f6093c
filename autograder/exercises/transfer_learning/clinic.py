"""The clinic: inputs on the wrong scale, a run in which nothing trains, and a net that forgets what it knew."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ...exercise import Case, Close, Criterion, Exercise, Explanation, Misconception, Variant

# ---------------------------------------------------------------- what was done to the images


def inputs_cases(seed):
    """Right inputs, other ranges and means, ImageNet's numbers, channels in other orders, dark images, two faults."""
    rng = np.random.default_rng(seed)

    def case(name, order=(0, 1, 2), mean=(127.0, 127.0, 127.0), scale=(128.0, 128.0, 128.0), low=0, high=256):
        images = rng.integers(low, high, (4, 6, 5, 3))
        images[..., 1] //= 2  # the channels differ, as those of real images do
        images = np.asarray(images, np.uint8)
        inputs = (images[..., list(order)].astype(np.float64) - np.array(mean)) / np.array(scale)
        return Case(name, {"images": images, "inputs": inputs.transpose(0, 3, 1, 2).astype(np.float32)})

    yield case("as the net wants them")
    yield case("0 to 255", mean=(0.0,) * 3, scale=(1.0,) * 3)
    yield case("0 to 1, dark images", mean=(0.0,) * 3, scale=(255.0,) * 3, high=100)
    yield case("ImageNet's mean and deviation", mean=(123.675, 116.28, 103.53), scale=(58.395, 57.12, 57.375))
    yield case("blue and red exchanged", order=(2, 1, 0))
    yield case("channels moved round, on 0 to 1", order=(1, 2, 0), mean=(0.0,) * 3, scale=(255.0,) * 3)
    yield case("the mean not taken off", mean=(0.0, 0.0, 0.0))
    yield case("a mean that is off in one channel", mean=(127.0, 127.0, 100.0), low=40, high=200)


def inputs_probe(candidate, case):
    import torch

    order, mean, scale, fault = candidate(torch.tensor(case["images"]), torch.tensor(case["inputs"]))
    return {
        "order": ", ".join(str(int(c)) for c in order),
        "mean": torch.as_tensor([float(m) for m in mean], dtype=torch.float32),
        "scale": torch.as_tensor([float(s) for s in scale], dtype=torch.float32),
        "fault": str(fault),
    }


def recover(images, inputs):
    """(order, mean, scale, fault): inputs[:, c] = (images[..., order[c]] − mean[c]) / scale[c]."""
    x = images.double().reshape(-1, 3)
    y = inputs.double().permute(0, 2, 3, 1).reshape(-1, 3)
    dx, dy = x - x.mean(0), y - y.mean(0)
    likeness = (dy.T @ dx) / (dy.norm(dim=0)[:, None] * dx.norm(dim=0))
    order = likeness.argmax(1).tolist()
    slope = torch.stack([(dx[:, k] @ dy[:, c]) / (dx[:, k] @ dx[:, k]) for c, k in enumerate(order)])
    scale = 1 / slope
    mean = x.mean(0)[order] - scale * y.mean(0)
    if order != [0, 1, 2]:
        fault = "channels"
    elif ((scale - 128).abs() > 1).any():
        fault = "scale"
    elif ((mean - 127).abs() > 1).any():
        fault = "mean"
    else:
        fault = "none"
    return tuple(order), mean, scale, fault


def channels_taken_as_they_stand(images, inputs):
    x = images.double().reshape(-1, 3)
    y = inputs.double().permute(0, 2, 3, 1).reshape(-1, 3)
    dx, dy = x - x.mean(0), y - y.mean(0)
    scale = (dx * dx).sum(0) / (dx * dy).sum(0)
    mean = x.mean(0) - scale * y.mean(0)
    fault = "none" if ((scale - 128).abs() < 1).all() else "scale"
    if fault == "none" and ((mean - 127).abs() > 1).any():
        fault = "mean"
    return (0, 1, 2), mean, scale, fault


def slope_returned(images, inputs):
    x = images.double().reshape(-1, 3)
    y = inputs.double().permute(0, 2, 3, 1).reshape(-1, 3)
    dx, dy = x - x.mean(0), y - y.mean(0)
    order = ((dy.T @ dx) / (dy.norm(dim=0)[:, None] * dx.norm(dim=0))).argmax(1).tolist()
    slope = torch.stack([(dx[:, k] @ dy[:, c]) / (dx[:, k] @ dx[:, k]) for c, k in enumerate(order)])
    mean = x.mean(0)[order] - y.mean(0) / slope
    if order != [0, 1, 2]:
        return order, mean, slope, "channels"
    if ((1 / slope - 128).abs() > 1).any():
        return order, mean, slope, "scale"
    return order, mean, slope, "mean" if ((mean - 127).abs() > 1).any() else "none"


def intercept_returned(images, inputs):
    x = images.double().reshape(-1, 3)
    y = inputs.double().permute(0, 2, 3, 1).reshape(-1, 3)
    dx, dy = x - x.mean(0), y - y.mean(0)
    order = ((dy.T @ dx) / (dy.norm(dim=0)[:, None] * dx.norm(dim=0))).argmax(1).tolist()
    slope = torch.stack([(dx[:, k] @ dy[:, c]) / (dx[:, k] @ dx[:, k]) for c, k in enumerate(order)])
    intercept = y.mean(0) - slope * x.mean(0)[order]
    mean = -intercept / slope
    if order != [0, 1, 2]:
        return order, intercept, 1 / slope, "channels"
    if ((1 / slope - 128).abs() > 1).any():
        return order, intercept, 1 / slope, "scale"
    return order, intercept, 1 / slope, "mean" if ((mean - 127).abs() > 1).any() else "none"


def read_off_the_ends(images, inputs):
    x = images.double().reshape(-1, 3)
    y = inputs.double().permute(0, 2, 3, 1).reshape(-1, 3)
    dx, dy = x - x.mean(0), y - y.mean(0)
    order = ((dy.T @ dx) / (dy.norm(dim=0)[:, None] * dx.norm(dim=0))).argmax(1).tolist()
    scale = 255 / (y.max(0).values - y.min(0).values)
    mean = -y.min(0).values * scale
    if order != [0, 1, 2]:
        return order, mean, scale, "channels"
    if ((scale - 128).abs() > 1).any():
        return order, mean, scale, "scale"
    return order, mean, scale, "mean" if ((mean - 127).abs() > 1).any() else "none"


def one_for_all_channels(images, inputs):
    x = images.double().reshape(-1, 3)
    y = inputs.double().permute(0, 2, 3, 1).reshape(-1, 3)
    dx, dy = x - x.mean(0), y - y.mean(0)
    order = ((dy.T @ dx) / (dy.norm(dim=0)[:, None] * dx.norm(dim=0))).argmax(1).tolist()
    x = x[:, order].flatten()
    y = y.flatten()
    scale = ((x - x.mean()) @ (x - x.mean())) / ((x - x.mean()) @ (y - y.mean()))
    mean = x.mean() - scale * y.mean()
    if order != [0, 1, 2]:
        fault = "channels"
    elif (scale - 128).abs() > 1:
        fault = "scale"
    else:
        fault = "mean" if (mean - 127).abs() > 1 else "none"
    return order, [mean] * 3, [scale] * 3, fault


def order_the_other_way(images, inputs):
    x = images.double().reshape(-1, 3)
    y = inputs.double().permute(0, 2, 3, 1).reshape(-1, 3)
    dx, dy = x - x.mean(0), y - y.mean(0)
    order = ((dx.T @ dy) / (dx.norm(dim=0)[:, None] * dy.norm(dim=0))).argmax(1).tolist()
    inverse = [order.index(c) for c in range(3)]
    slope = torch.stack([(dx[:, k] @ dy[:, c]) / (dx[:, k] @ dx[:, k]) for c, k in enumerate(inverse)])
    mean = x.mean(0)[inverse] - y.mean(0) / slope
    if order != [0, 1, 2]:
        return order, mean, 1 / slope, "channels"
    if ((1 / slope - 128).abs() > 1).any():
        return order, mean, 1 / slope, "scale"
    return order, mean, 1 / slope, "mean" if ((mean - 127).abs() > 1).any() else "none"


def channels_not_moved_to_the_end(images, inputs):
    x = images.double().reshape(-1, 3)
    y = inputs.double().reshape(-1, 3)
    dx, dy = x - x.mean(0), y - y.mean(0)
    order = ((dy.T @ dx) / (dy.norm(dim=0)[:, None] * dx.norm(dim=0))).argmax(1).tolist()
    slope = torch.stack([(dx[:, k] @ dy[:, c]) / (dx[:, k] @ dx[:, k]) for c, k in enumerate(order)])
    mean = x.mean(0)[order] - y.mean(0) / slope
    if order != [0, 1, 2]:
        return order, mean, 1 / slope, "channels"
    if ((1 / slope - 128).abs() > 1).any():
        return order, mean, 1 / slope, "scale"
    return order, mean, 1 / slope, "mean" if ((mean - 127).abs() > 1).any() else "none"


def mean_of_the_inputs(images, inputs):
    x = images.double().reshape(-1, 3)
    y = inputs.double().permute(0, 2, 3, 1).reshape(-1, 3)
    dx, dy = x - x.mean(0), y - y.mean(0)
    order = ((dy.T @ dx) / (dy.norm(dim=0)[:, None] * dx.norm(dim=0))).argmax(1).tolist()
    slope = torch.stack([(dx[:, k] @ dy[:, c]) / (dx[:, k] @ dx[:, k]) for c, k in enumerate(order)])
    mean = x.mean(0)[order] - y.mean(0) / slope
    if order != [0, 1, 2]:
        return order, x.mean(0)[order], 1 / slope, "channels"
    if ((1 / slope - 128).abs() > 1).any():
        return order, x.mean(0)[order], 1 / slope, "scale"
    return order, x.mean(0)[order], 1 / slope, "mean" if ((mean - 127).abs() > 1).any() else "none"


def recover_by_moments(images, inputs):
    x, y = images.double().flatten(0, 2), inputs.double().transpose(0, 1).flatten(1).T
    likeness = torch.corrcoef(torch.cat([y, x], 1).T)[:3, 3:]
    order = [int(row.argmax()) for row in likeness]
    scale = x.std(0)[order] / y.std(0)
    mean = x.mean(0)[order] - scale * y.mean(0)
    wrong = (
        ("channels", order != [0, 1, 2]),
        ("scale", bool(((scale / 128 - 1).abs() > 0.01).any())),
        ("mean", bool(((mean - 127).abs() > 1).any())),
        ("none", True),
    )
    return order, mean.tolist(), scale.tolist(), next(name for name, found in wrong if found)


def recover_by_polyfit(images, inputs):
    x = images.numpy().reshape(-1, 3).astype(float)
    y = np.moveaxis(inputs.numpy(), 1, -1).reshape(-1, 3).astype(float)
    order, mean, scale = [], [], []
    for c in range(3):
        fits = [np.polyfit(x[:, k], y[:, c], 1, full=True) for k in range(3)]
        best = min(range(3), key=lambda k: fits[k][1][0] if len(fits[k][1]) else 0.0)
        slope, intercept = fits[best][0]
        order.append(best)
        scale.append(1 / slope)
        mean.append(-intercept / slope)
    if order != [0, 1, 2]:
        return order, mean, scale, "channels"
    if max(abs(s - 128) for s in scale) > 1:
        return order, mean, scale, "scale"
    return order, mean, scale, "mean" if max(abs(m - 127) for m in mean) > 1 else "none"


def recover_the_other_way(images, inputs):
    x = images.double().reshape(-1, 3)
    y = inputs.double().permute(0, 2, 3, 1).reshape(-1, 3)
    order, mean, scale = [], [], []
    for c in range(3):
        design = torch.stack([y[:, c], torch.ones_like(y[:, c])], 1)
        solution = torch.linalg.lstsq(design, x).solution  # x = scale · y + mean
        residual = (design @ solution - x).norm(dim=0)
        k = int(residual.argmin())
        order.append(k)
        scale.append(solution[0, k])
        mean.append(solution[1, k])
    if order != [0, 1, 2]:
        return order, mean, scale, "channels"
    if any(abs(s - 128) > 1 for s in scale):
        return order, mean, scale, "scale"
    return order, mean, scale, "mean" if any(abs(m - 127) > 1 for m in mean) else "none"


clinic_inputs = Exercise(
    id="transfer_learning.clinic_inputs",
    lesson="05_transfer_learning",
    title="Clinic: what was done to the images?",
    answer="recover",
    criteria=(
        Criterion("order", 1, requires=("scale",)),
        Criterion("mean", 1, Close(operations=512, scale=256.0), requires=("scale",)),
        Criterion("scale", 1, Close(operations=512, scale=128.0)),
        Criterion("fault", 1, requires=("scale",)),
    ),
    cases=inputs_cases,
    probe=inputs_probe,
    reference=recover,
    misconceptions=(
        Misconception(
            "channels_taken_as_they_stand",
            channels_taken_as_they_stand,
            "You compare each channel with the one at the same place. In the case “{case}” they are in another order.",
            "For each channel of the inputs, find the channel of the images that it is a straight line of.",
        ),
        Misconception(
            "slope_returned",
            slope_returned,
            "You return the slope. The net's inputs are (x − mean) / scale, so the slope is 1/scale.",
            "scale = 1 / slope.",
        ),
        Misconception(
            "intercept_returned",
            intercept_returned,
            "You return the intercept. (x − mean)/scale has the intercept −mean/scale.",
            "mean = −intercept · scale.",
        ),
        Misconception(
            "read_off_the_ends",
            read_off_the_ends,
            "You take the smallest input for a pixel of 0 and the largest for one of 255. In the case “{case}” the "
            "images do "
            "not reach so far.",
            "Fit a line through all pixels, as in linear regression.",
        ),
        Misconception(
            "one_for_all_channels",
            one_for_all_channels,
            "You fit one line for all three channels. In the case “{case}” each has its own.",
            "Three fits, one a channel.",
        ),
        Misconception(
            "order_the_other_way",
            order_the_other_way,
            "Your order says where each channel of the images went. Asked is, for each channel of the inputs, where it "
            "came "
            "from. (For an exchange of two both are the same.)",
            "order[c] is the image's channel that stands at place c of the inputs.",
        ),
        Misconception(
            "channels_not_moved_to_the_end",
            channels_not_moved_to_the_end,
            "The images are (N, H, W, 3), the inputs (N, 3, H, W): as you lay them out, a pixel meets another pixel's "
            "value.",
            "inputs.permute(0, 2, 3, 1).",
        ),
        Misconception(
            "mean_of_the_inputs",
            mean_of_the_inputs,
            "You return the mean of the images. What was subtracted is a fixed number, whatever the images.",
            "mean = x.mean() − scale · y.mean().",
        ),
    ),
    variants=(
        Variant("recover_by_moments", recover_by_moments),
        Variant("recover_by_polyfit", recover_by_polyfit),
        Variant("recover_the_other_way", recover_the_other_way),
    ),
    forbidden=("course_lib.pretrained",),
    hints=(
        "y = (x − mean)/scale is a straight line in x: linear regression finds it, one channel at a time.",
        "Bring both to (pixels, 3). Correlate each input channel with each image channel: the likeliest is its origin.",
        "slope = (dx @ dy) / (dx @ dx) with dx, dy the deviations from their means; scale = 1/slope; mean = x.mean() − "
        "scale · y.mean(). Then compare: order first, then scale, then mean.",
    ),
    minutes=15,
)

# ---------------------------------------------------------------- nothing trains


def cause_cases(seed):
    """Runs that train as they should, in part, and not at all, for each of four causes."""
    rng = np.random.default_rng(seed)
    for name, kind in (
        ("the trunk is frozen, the head trains", "fine"),
        ("everything trains", "all"),
        ("everything is frozen, the head too", "frozen"),
        ("the head was replaced after the optimizer was made", "late head"),
        ("the logits were computed without a graph", "no graph"),
        ("a rate of 0", "rate"),
        ("the trunk at a rate of 0, the head not", "half"),
        ("the trunk's features were detached, the trunk is in the optimizer", "detached"),
    ):
        yield Case(
            name,
            {"kind": kind, "width": int(rng.integers(4, 9)), "x": rng.normal(size=(6, 3)).astype(np.float32)},
        )


def cause_probe(candidate, case):
    from collections import OrderedDict

    import torch
    from torch import nn
    from torch.nn import functional as F

    kind, width = case["kind"], case["width"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        model = nn.Sequential(OrderedDict(trunk=nn.Linear(3, width), relu=nn.ReLU(), head=nn.Linear(width, 4)))
        if kind in ("fine", "late head", "no graph", "rate"):
            model.trunk.requires_grad_(False)
        if kind == "frozen":
            model.requires_grad_(False)
        groups = [{"params": list(model.trunk.parameters())}, {"params": list(model.head.parameters())}]
        groups[0]["lr"] = 0.0 if kind in ("half", "rate") else 0.1
        groups[1]["lr"] = 0.0 if kind == "rate" else 0.1
        optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
        if kind == "late head":
            model.head = nn.Linear(width, 4)
    with torch.set_grad_enabled(kind != "no graph"):
        features = model.relu(model.trunk(torch.tensor(case["x"])))
        logits = model.head(features.detach() if kind == "detached" else features)
        loss = F.cross_entropy(logits, torch.tensor([0, 1, 2, 3, 0, 1]))
    before = [p.detach().clone() for p in model.parameters()]
    count, cause = candidate(model, optimizer, loss)
    return {
        "weights that will move": int(count),
        "cause": str(cause),
        "nothing touched": all(
            torch.equal(a, b) and b.grad is None for a, b in zip(before, model.parameters(), strict=True)
        ),
    }


def find_cause(model, optimizer, loss):
    """(weights that the next step will move, "frozen", "no graph", "not in the optimizer", "rate 0" or "none")."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        return 0, "frozen"
    if not loss.requires_grad:
        return 0, "no graph"
    grads = torch.autograd.grad(loss, trainable, retain_graph=True, allow_unused=True)
    reached = {id(p) for p, grad in zip(trainable, grads, strict=True) if grad is not None}
    if not reached:
        return 0, "no graph"
    held = [(p, group["lr"]) for group in optimizer.param_groups for p in group["params"] if id(p) in reached]
    if not held:
        return 0, "not in the optimizer"
    moving = sum(p.numel() for p, lr in held if lr > 0)
    return moving, "none" if moving else "rate 0"


def flags_alone(model, optimizer, loss):
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return count, "none" if count else "frozen"


def optimizer_alone(model, optimizer, loss):
    held = [p for group in optimizer.param_groups for p in group["params"]]
    count = sum(p.numel() for p in held)
    return count, "none" if count else "not in the optimizer"


def rates_not_looked_at(model, optimizer, loss):
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        return 0, "frozen"
    if not loss.requires_grad:
        return 0, "no graph"
    grads = torch.autograd.grad(loss, trainable, retain_graph=True, allow_unused=True)
    reached = {id(p) for p, grad in zip(trainable, grads, strict=True) if grad is not None}
    held = [p for group in optimizer.param_groups for p in group["params"] if id(p) in reached]
    return sum(p.numel() for p in held), "none" if held else "not in the optimizer"


def graph_not_looked_at(model, optimizer, loss):
    trainable = {id(p) for p in model.parameters() if p.requires_grad}
    if not trainable:
        return 0, "frozen"
    held = [(p, group["lr"]) for group in optimizer.param_groups for p in group["params"] if id(p) in trainable]
    if not held:
        return 0, "not in the optimizer"
    moving = sum(p.numel() for p, lr in held if lr > 0)
    return moving, "none" if moving else "rate 0"


def loss_flag_alone(model, optimizer, loss):
    trainable = {id(p) for p in model.parameters() if p.requires_grad}
    if not trainable:
        return 0, "frozen"
    if not loss.requires_grad:
        return 0, "no graph"
    held = [(p, group["lr"]) for group in optimizer.param_groups for p in group["params"] if id(p) in trainable]
    if not held:
        return 0, "not in the optimizer"
    moving = sum(p.numel() for p, lr in held if lr > 0)
    return moving, "none" if moving else "rate 0"


def a_step_taken(model, optimizer, loss):
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        return 0, "frozen"
    if not loss.requires_grad:
        return 0, "no graph"
    before = [p.detach().clone() for p in trainable]
    loss.backward(retain_graph=True)
    optimizer.step()
    count = sum(p.numel() for p, old in zip(trainable, before, strict=True) if not torch.equal(p, old))
    if count:
        return count, "none"
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return 0, "rate 0" if any(id(p) in held for p in trainable) else "not in the optimizer"


def tensors_that_move(model, optimizer, loss):
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        return 0, "frozen"
    if not loss.requires_grad:
        return 0, "no graph"
    grads = torch.autograd.grad(loss, trainable, retain_graph=True, allow_unused=True)
    reached = {id(p) for p, grad in zip(trainable, grads, strict=True) if grad is not None}
    held = [(p, group["lr"]) for group in optimizer.param_groups for p in group["params"] if id(p) in reached]
    if not held:
        return 0, "not in the optimizer"
    moving = sum(1 for p, lr in held if lr > 0)
    return moving, "none" if moving else "rate 0"


def cause_by_a_trial(model, optimizer, loss):
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        return 0, "frozen"
    grads = [None] * len(trainable)
    if loss.requires_grad:
        grads = torch.autograd.grad(loss, trainable, retain_graph=True, allow_unused=True)
    if all(grad is None for grad in grads):
        return 0, "no graph"
    rate = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    known = [(p, rate[p]) for p, grad in zip(trainable, grads, strict=True) if grad is not None and p in rate]
    if not known:
        return 0, "not in the optimizer"
    count = sum(p.numel() * (lr != 0) for p, lr in known)
    return count, "none" if count > 0 else "rate 0"


def cause_by_backward(model, optimizer, loss):
    parameters = list(model.parameters())
    if not any(p.requires_grad for p in parameters):
        return 0, "frozen"
    if loss.grad_fn is None:
        return 0, "no graph"
    loss.backward(retain_graph=True)
    reached = [p for p in parameters if p.grad is not None]
    for p in parameters:
        p.grad = None
    total, known = 0, False
    for group in optimizer.param_groups:
        for p in group["params"]:
            if any(p is q for q in reached):
                known = True
                total += p.numel() if group["lr"] > 0 else 0
    if not reached:
        return 0, "no graph"
    if not known:
        return 0, "not in the optimizer"
    return total, "none" if total else "rate 0"


def cause_by_list(model, optimizer, loss):
    wanted = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if len(wanted) == 0:
        return 0, "frozen"
    if loss.requires_grad is False:
        return 0, "no graph"
    found = torch.autograd.grad(loss, list(wanted.values()), retain_graph=True, allow_unused=True)
    wanted = {name: p for (name, p), grad in zip(wanted.items(), found, strict=True) if grad is not None}
    groups = {}
    for number, group in enumerate(optimizer.param_groups):
        groups |= {p.data_ptr(): number for p in group["params"]}
    placed = {name: groups[p.data_ptr()] for name, p in wanted.items() if p.data_ptr() in groups}
    if not placed:
        return (0, "not in the optimizer") if wanted else (0, "no graph")
    moving = [name for name, number in placed.items() if optimizer.param_groups[number]["lr"]]
    if not moving:
        return 0, "rate 0"
    return sum(wanted[name].numel() for name in moving), "none"


clinic_cause = Exercise(
    id="transfer_learning.clinic_cause",
    lesson="05_transfer_learning",
    title="Clinic: accuracy at chance, and nothing trains",
    answer="find_cause",
    criteria=(
        Criterion("weights that will move", 2),
        Criterion("cause", 2, requires=("weights that will move",)),
        Criterion("nothing touched", 0),
    ),
    cases=cause_cases,
    probe=cause_probe,
    reference=find_cause,
    misconceptions=(
        Misconception(
            "flags_alone",
            flags_alone,
            "You look at requires_grad alone. In the case “{case}” that is not what decides: the loss must reach a "
            "parameter, "
            "and the optimizer must hold it, at a rate above 0.",
            "Go down the chain: flag, graph, optimizer, rate.",
        ),
        Misconception(
            "optimizer_alone",
            optimizer_alone,
            "You count what the optimizer holds. In the case “{case}” that is not what will move: a parameter may be "
            "no "
            "longer in the model, or out of the loss's reach.",
            "Start from model.parameters(); compare with the optimizer's by id.",
        ),
        Misconception(
            "rates_not_looked_at",
            rates_not_looked_at,
            "You do not look at the rates. In the case “{case}” a group has lr = 0.",
            'Count a parameter only where its group["lr"] is above 0.',
        ),
        Misconception(
            "graph_not_looked_at",
            graph_not_looked_at,
            "You never look at the loss. In the case “{case}” no gradient finds its way to the parameters.",
            "loss.requires_grad, and torch.autograd.grad(loss, parameters, allow_unused=True): None is out of reach.",
        ),
        Misconception(
            "loss_flag_alone",
            loss_flag_alone,
            "The loss has a graph, but in the case “{case}” a part of the model is cut off from it: its gradient is "
            "None.",
            "torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True) tells which.",
        ),
        Misconception(
            "a_step_taken",
            a_step_taken,
            "You find out by taking a step: the weights have moved, and gradients stand in .grad. Looking must change "
            "nothing.",
            "torch.autograd.grad leaves .grad alone.",
        ),
        Misconception(
            "tensors_that_move",
            tensors_that_move,
            "You count tensors. Asked is the number of weights.",
            "Add up parameter.numel().",
        ),
    ),
    variants=(
        Variant("cause_by_a_trial", cause_by_a_trial),
        Variant("cause_by_backward", cause_by_backward),
        Variant("cause_by_list", cause_by_list),
    ),
    hints=(
        "A weight moves if four things are true. Its flag is one; which are the others?",
        "torch.autograd.grad(loss, trainable, retain_graph=True, allow_unused=True) gives None for what the loss does "
        "not "
        "reach. {id(p) for …} compares parameters by identity.",
        "In this order: no flag set: frozen; loss without a graph, or every gradient None: no graph; none of those "
        "reached "
        "is in a param_group: not in the optimizer; all their rates 0: rate 0; else count them.",
    ),
    minutes=15,
)

# ---------------------------------------------------------------- head first, then all


def fine_tune_cases(seed):
    """Both phases, one alone, other rates, a trunk with gradients left over, and no steps at all."""
    rng = np.random.default_rng(seed)

    def case(name, head_steps, all_steps, head_lr=0.2, trunk_lr=0.05, stale=False):
        return Case(
            name,
            {
                "head_steps": head_steps,
                "all_steps": all_steps,
                "head_lr": head_lr,
                "trunk_lr": trunk_lr,
                "stale": stale,
                "seed": int(rng.integers(1, 10_000)),
                "x": rng.normal(1.0, 1.0, (12, 4)),
                "y": rng.integers(0, 3, 12),
            },
        )

    yield case("4 steps of the head, 3 of everything", 4, 3)
    yield case("the head alone", 5, 0)
    yield case("everything at once", 0, 4)
    yield case("a far smaller rate for the trunk", 3, 3, head_lr=0.5, trunk_lr=0.001)
    yield case("an old gradient stands in the trunk", 2, 2, stale=True)
    yield case("one step each", 1, 1, head_lr=0.1, trunk_lr=0.1)


def fine_tune_probe(candidate, case):
    from collections import OrderedDict

    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = nn.Sequential(OrderedDict(a=nn.Linear(4, 6), norm=nn.BatchNorm1d(6), b=nn.Tanh()))
            self.head = nn.Linear(6, 3)

        def forward(self, x):
            return self.head(self.trunk(x))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(case["seed"])
        model = Net().double()
        model.trunk.norm.running_mean.uniform_(-1, 1)
        model.trunk.norm.running_var.uniform_(1, 2)
        if case["stale"]:
            for parameter in model.trunk.parameters():
                parameter.grad = torch.ones_like(parameter)
        model.train()
        candidate(
            model,
            torch.tensor(case["x"]),
            torch.tensor(case["y"]),
            case["head_steps"],
            case["all_steps"],
            case["head_lr"],
            case["trunk_lr"],
        )
    return {
        "head": torch.cat([p.detach().flatten() for p in model.head.parameters()]),
        "trunk": torch.cat([p.detach().flatten() for p in model.trunk.parameters()]),
        "running statistics": torch.cat([model.trunk.norm.running_mean, model.trunk.norm.running_var]),
    }


def fine_tune(model, x, y, head_steps, all_steps, head_lr, trunk_lr):
    """Gradient descent, the head alone and then everything at two rates; the trunk's batch norms stay in inference."""
    model.train()
    for module in model.trunk.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
    optimizer = torch.optim.SGD(
        [{"params": model.head.parameters(), "lr": head_lr}, {"params": model.trunk.parameters(), "lr": trunk_lr}]
    )
    for step in range(head_steps + all_steps):
        model.trunk.requires_grad_(step >= head_steps)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.trunk.requires_grad_(True)


def everything_from_the_start(model, x, y, head_steps, all_steps, head_lr, trunk_lr):
    model.train()
    model.trunk.norm.eval()
    optimizer = torch.optim.SGD(
        [{"params": model.head.parameters(), "lr": head_lr}, {"params": model.trunk.parameters(), "lr": trunk_lr}]
    )
    for _ in range(head_steps + all_steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def one_rate(model, x, y, head_steps, all_steps, head_lr, trunk_lr):
    model.train()
    model.trunk.norm.eval()
    for step in range(head_steps + all_steps):
        model.trunk.requires_grad_(step >= head_steps)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=head_lr)
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def small_rate_for_all(model, x, y, head_steps, all_steps, head_lr, trunk_lr):
    model.train()
    model.trunk.norm.eval()
    for step in range(head_steps + all_steps):
        model.trunk.requires_grad_(step >= head_steps)
        lr = head_lr if step < head_steps else trunk_lr
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def never_unfrozen(model, x, y, head_steps, all_steps, head_lr, trunk_lr):
    model.train()
    model.trunk.norm.eval()
    model.trunk.requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=head_lr)
    for step in range(head_steps + all_steps):
        if step == head_steps:
            model.trunk.requires_grad_(True)
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def norms_drift(model, x, y, head_steps, all_steps, head_lr, trunk_lr):
    model.train()
    optimizer = torch.optim.SGD(
        [{"params": model.head.parameters(), "lr": head_lr}, {"params": model.trunk.parameters(), "lr": trunk_lr}]
    )
    for step in range(head_steps + all_steps):
        model.trunk.requires_grad_(step >= head_steps)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.trunk.requires_grad_(True)


def norms_held_in_the_first_phase(model, x, y, head_steps, all_steps, head_lr, trunk_lr):
    optimizer = torch.optim.SGD(
        [{"params": model.head.parameters(), "lr": head_lr}, {"params": model.trunk.parameters(), "lr": trunk_lr}]
    )
    for step in range(head_steps + all_steps):
        model.train()
        if step < head_steps:
            model.trunk.eval()
        model.trunk.requires_grad_(step >= head_steps)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.trunk.requires_grad_(True)


def gradients_pile_up(model, x, y, head_steps, all_steps, head_lr, trunk_lr):
    model.train()
    model.trunk.norm.eval()
    head = torch.optim.SGD(model.head.parameters(), lr=head_lr)
    for _ in range(head_steps):
        head.zero_grad()
        F.cross_entropy(model(x), y).backward()
        head.step()
    trunk = torch.optim.SGD(model.trunk.parameters(), lr=trunk_lr)
    for _ in range(all_steps):
        head.zero_grad()
        F.cross_entropy(model(x), y).backward()
        head.step()
        trunk.step()
        trunk.zero_grad()


def trunk_first(model, x, y, head_steps, all_steps, head_lr, trunk_lr):
    model.train()
    model.trunk.norm.eval()
    optimizer = torch.optim.SGD(
        [{"params": model.head.parameters(), "lr": head_lr}, {"params": model.trunk.parameters(), "lr": trunk_lr}]
    )
    for step in range(all_steps + head_steps):
        model.trunk.requires_grad_(step < all_steps)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.trunk.requires_grad_(True)


def fine_tune_on_features(model, x, y, head_steps, all_steps, head_lr, trunk_lr):
    model.eval()
    with torch.no_grad():
        features = model.trunk(x)
    head = torch.optim.SGD(model.head.parameters(), lr=head_lr)
    for _ in range(head_steps):
        head.zero_grad()
        F.cross_entropy(model.head(features), y).backward()
        head.step()
    head.add_param_group({"params": model.trunk.parameters(), "lr": trunk_lr})
    for _ in range(all_steps):
        head.zero_grad()
        F.cross_entropy(model(x), y).backward()
        head.step()


def fine_tune_by_hand(model, x, y, head_steps, all_steps, head_lr, trunk_lr):
    for module in model.trunk.modules():
        module.training = False
    head, trunk = list(model.head.parameters()), list(model.trunk.parameters())
    for step in range(head_steps + all_steps):
        moving = head if step < head_steps else head + trunk
        grads = torch.autograd.grad(F.cross_entropy(model(x), y), moving)
        with torch.no_grad():
            for parameter, grad in zip(moving, grads, strict=True):
                parameter -= (head_lr if any(parameter is p for p in head) else trunk_lr) * grad


def fine_tune_with_rate_zero(model, x, y, head_steps, all_steps, head_lr, trunk_lr):
    model.trunk.eval()
    groups = [{"params": list(model.trunk.parameters()), "lr": 0.0}, {"params": list(model.head.parameters())}]
    optimizer = torch.optim.SGD(groups, lr=head_lr)
    for step in range(head_steps + all_steps):
        if step == head_steps:
            optimizer.param_groups[0]["lr"] = trunk_lr
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()


clinic_forgetting = Exercise(
    id="transfer_learning.clinic_forgetting",
    lesson="05_transfer_learning",
    title="Clinic: forgotten in 20 steps",
    answer="fine_tune",
    criteria=(
        Criterion("head", 1, Close(operations=4096), requires=("trunk",)),
        Criterion("trunk", 2, Close(operations=4096)),
        Criterion("running statistics", 1, Close(operations=64), requires=("trunk",)),
    ),
    cases=fine_tune_cases,
    probe=fine_tune_probe,
    reference=fine_tune,
    misconceptions=(
        Misconception(
            "everything_from_the_start",
            everything_from_the_start,
            "The trunk moves from the first step on, driven by the gradients of a head that still guesses. That is how "
            "it "
            "forgets.",
            "For the first head_steps steps only the head may move.",
        ),
        Misconception(
            "one_rate",
            one_rate,
            "In the second phase the trunk moves at the head's rate.",
            "Two groups: the head at head_lr, the trunk at trunk_lr.",
        ),
        Misconception(
            "small_rate_for_all",
            small_rate_for_all,
            "In the second phase the head moves at the trunk's rate too.",
            "Two groups: the head at head_lr, the trunk at trunk_lr.",
        ),
        Misconception(
            "never_unfrozen",
            never_unfrozen,
            "You unfreeze the trunk, but it never moves: the optimizer was made while it was frozen, and does not hold "
            "it.",
            "optimizer.add_param_group(…), or hold it from the start.",
        ),
        Misconception(
            "norms_drift",
            norms_drift,
            "The trunk's batch norm is in training: it normalizes by your small batch, and its running statistics "
            "drift.",
            "model.train(), then eval() on the trunk's batch norms, for both phases.",
        ),
        Misconception(
            "norms_held_in_the_first_phase",
            norms_held_in_the_first_phase,
            "In the second phase the trunk's batch norm is in training again, and its statistics drift. The text asks "
            "that "
            "they stay in inference throughout.",
            "eval() on the trunk's batch norms in both phases.",
        ),
        Misconception(
            "gradients_pile_up",
            gradients_pile_up,
            "During the first phase gradients pile up in the trunk, since you clear only the head's. Its first step "
            "takes "
            "them all at once.",
            "model.zero_grad(), or freeze the trunk, so that it gets none.",
        ),
        Misconception(
            "trunk_first",
            trunk_first,
            "You train everything first and the head alone afterwards.",
            "The head first.",
        ),
    ),
    variants=(
        Variant("fine_tune_on_features", fine_tune_on_features),
        Variant("fine_tune_by_hand", fine_tune_by_hand),
        Variant("fine_tune_with_rate_zero", fine_tune_with_rate_zero),
    ),
    forbidden=("course_lib.transfer",),
    hints=(
        "Which parameters may move in the first phase? Which mode must the trunk's batch norm have, in both?",
        "An optimizer with two groups from the start, and model.trunk.requires_grad_(False) for the first head_steps "
        "steps.",
        "zero_grad() sets gradients to None, and SGD passes over those: freeze the trunk, zero_grad(), loss, "
        "backward(), "
        "step(); then requires_grad_(True) and the same again.",
    ),
    minutes=15,
)

explain = Explanation(
    id="transfer_learning.explain",
    lesson="05_transfer_learning",
    title="In your own words",
    rubric={
        "Few labels, and images unlike the pretraining's: says that early features carry further than late ones": 2,
        "Begins with a head on frozen features, as the cheap measure that everything else has to beat": 1,
        "Freezing: batch norm must be kept in inference, in PyTorch by hand": 2,
        "Unfreezes from the top, gently (the head first, small rates), and says why": 2,
        "The input has to be prepared as in pretraining, and says how to check it": 1,
        "Decides by measuring on held-out images, against training from scratch": 2,
    },
    minutes=15,
)
