"""The clinic: a hidden layer whose units stay copies of one another, and a conv net that counts the wrong fans."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.initializers import compute_fans

from ...exercise import Case, Close, Criterion, Exercise, Explanation, Misconception, Variant

# ---------------------------------------------------------------- zero and constant weights


def start_cases(seed):
    """Random, zero and constant starts in all places, pairs of twins; ReLU, tanh and sigmoid."""
    rng = np.random.default_rng(seed)
    features, units, classes = 6, 8, 3

    def case(name, act, hidden, last):
        draw_hidden = rng.normal(size=(units, features)) * np.sqrt(2 / features)
        draw_last = rng.normal(size=(classes, units)) * np.sqrt(1 / units)
        twins = np.arange(units) // 2
        hidden_weight = {
            "random": draw_hidden,
            "zero": draw_hidden * 0,
            "constant": draw_hidden * 0 + 0.1,
            "twins": draw_hidden[twins],
            "negative": -np.abs(draw_hidden),
        }
        last_weight = {
            "random": draw_last,
            "zero": draw_last * 0,
            "constant": draw_last * 0 + 0.1,
            "twins": draw_last[:, twins],
        }
        inputs = {
            "act": act,
            "hidden": hidden_weight[hidden].astype(np.float32),
            "last": last_weight[last].astype(np.float32),
            "x": np.abs(rng.normal(1.0, 0.5, (48, features))).astype(np.float32),
            "y": rng.integers(0, classes, 48),
        }
        return Case(name, inputs)

    yield case("all random, ReLU", "relu", "random", "random")
    yield case("all zero, ReLU", "relu", "zero", "zero")
    yield case("hidden negative, ReLU", "relu", "negative", "random")
    yield case("all zero, tanh", "tanh", "zero", "zero")
    yield case("all zero, sigmoid", "sigmoid", "zero", "zero")
    yield case("all 0.1, ReLU", "relu", "constant", "constant")
    yield case("hidden 0.1, last random, tanh", "tanh", "constant", "random")
    yield case("hidden random, last zero, ReLU", "relu", "random", "zero")
    yield case("every unit twice, tanh", "tanh", "twins", "twins")
    yield case("hidden units twice, last random, ReLU", "relu", "twins", "random")


def start_probe(candidate, case):
    import torch
    from torch import nn

    act = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}[case["act"]]
    (units, features), classes = case["hidden"].shape, len(case["last"])
    model = nn.Sequential(nn.Linear(features, units), act(), nn.Linear(units, classes))
    start = [torch.tensor(case["hidden"]), torch.zeros(units), torch.tensor(case["last"]), torch.zeros(classes)]
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), start, strict=True):
            parameter.copy_(value)
    verdict, different = candidate(model, torch.tensor(case["x"]), torch.tensor(case["y"]))
    same = all(torch.equal(p, value) for p, value in zip(model.parameters(), start, strict=True))
    return {"verdict": str(verdict), "different units": int(different), "model as it came": same}


def diagnose_start(model, x, y):
    """("nothing moves" | "copies" | "learns", how many different units the hidden layer has after three steps)."""
    twin = copy.deepcopy(model)
    for _ in range(3):
        gradients = torch.autograd.grad(F.cross_entropy(twin(x), y), list(twin.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(twin.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient
    before, after = model[0].weight.detach(), twin[0].weight.detach()
    gaps = (after[:, None] - after).abs().amax(-1)
    different = int((gaps < 1e-6).tril(-1).sum(1).eq(0).sum())  # units that are no copy of one before them
    if (after - before).abs().max() < 1e-6:
        return "nothing moves", different
    return ("learns" if different == len(after) else "copies"), different


def first_gradient_alone(model, x, y):
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), y), [model[0].weight])
    weight = (model[0].weight - 0.1 * gradient).detach()
    gaps = torch.cdist(weight, weight, p=float("inf"), compute_mode="donot_use_mm_for_euclid_dist") < 1e-6
    different = int((gaps.tril(-1).sum(1) == 0).sum())
    if gradient.abs().max() < 1e-6:
        return "nothing moves", different
    return ("learns" if different == len(weight) else "copies"), different


def start_alone(model, x, y):
    weight = model[0].weight.detach()
    gaps = torch.cdist(weight, weight, p=float("inf"), compute_mode="donot_use_mm_for_euclid_dist") < 1e-6
    different = int((gaps.tril(-1).sum(1) == 0).sum())
    if weight.abs().max() == 0:
        return "nothing moves", different
    return ("learns" if different == len(weight) else "copies"), different


def zero_never_moves(model, x, y):
    import copy

    twin = copy.deepcopy(model)
    for _ in range(3):
        twin.zero_grad()
        F.cross_entropy(twin(x), y).backward()
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter -= 0.1 * parameter.grad
    weight = twin[0].weight.detach()
    gaps = torch.cdist(weight, weight, p=float("inf"), compute_mode="donot_use_mm_for_euclid_dist") < 1e-6
    different = int((gaps.tril(-1).sum(1) == 0).sum())
    if not model[0].weight.any():
        return "nothing moves", different
    return ("learns" if different == len(weight) else "copies"), different


def any_parameter_moves(model, x, y):
    import copy

    twin = copy.deepcopy(model)
    for _ in range(3):
        twin.zero_grad()
        F.cross_entropy(twin(x), y).backward()
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter -= 0.1 * parameter.grad
    weight = twin[0].weight.detach()
    gaps = torch.cdist(weight, weight, p=float("inf"), compute_mode="donot_use_mm_for_euclid_dist") < 1e-6
    different = int((gaps.tril(-1).sum(1) == 0).sum())
    pairs = zip(model.parameters(), twin.parameters(), strict=True)
    if all((a - b).abs().max() < 1e-6 for a, b in pairs):
        return "nothing moves", different
    return ("learns" if different == len(weight) else "copies"), different


def all_alike_or_fine(model, x, y):
    import copy

    twin = copy.deepcopy(model)
    for _ in range(3):
        twin.zero_grad()
        F.cross_entropy(twin(x), y).backward()
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter -= 0.1 * parameter.grad
    weight = twin[0].weight.detach()
    alike = bool((weight - weight[0]).abs().max() < 1e-6)
    if (weight - model[0].weight).abs().max() < 1e-6:
        return "nothing moves", 1 if alike else len(weight)
    return ("copies", 1) if alike else ("learns", len(weight))


def loss_falls(model, x, y):
    import copy

    twin = copy.deepcopy(model)
    for _ in range(3):
        twin.zero_grad()
        F.cross_entropy(twin(x), y).backward()
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter -= 0.1 * parameter.grad
    weight = twin[0].weight.detach()
    gaps = torch.cdist(weight, weight, p=float("inf"), compute_mode="donot_use_mm_for_euclid_dist") < 1e-6
    different = int((gaps.tril(-1).sum(1) == 0).sum())
    if (weight - model[0].weight).abs().max() < 1e-6:
        return "nothing moves", different
    return ("learns" if F.cross_entropy(twin(x), y) < F.cross_entropy(model(x), y) else "copies"), different


def callers_model_trained(model, x, y):
    before = model[0].weight.detach().clone()
    for _ in range(3):
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
    weight = model[0].weight.detach()
    gaps = torch.cdist(weight, weight, p=float("inf"), compute_mode="donot_use_mm_for_euclid_dist") < 1e-6
    different = int((gaps.tril(-1).sum(1) == 0).sum())
    if (weight - before).abs().max() < 1e-6:
        return "nothing moves", different
    return ("learns" if different == len(weight) else "copies"), different


def verdicts_exchanged(model, x, y):
    import copy

    twin = copy.deepcopy(model)
    for _ in range(3):
        twin.zero_grad()
        F.cross_entropy(twin(x), y).backward()
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter -= 0.1 * parameter.grad
    weight = twin[0].weight.detach()
    gaps = torch.cdist(weight, weight, p=float("inf"), compute_mode="donot_use_mm_for_euclid_dist") < 1e-6
    different = int((gaps.tril(-1).sum(1) == 0).sum())
    if different < len(weight):
        return "copies", different
    moved = (weight - model[0].weight).abs().max() >= 1e-6
    return ("learns" if moved else "nothing moves"), different


def start_by_cdist(model, x, y):
    import copy

    twin = copy.deepcopy(model)
    for _ in range(3):
        twin.zero_grad()
        F.cross_entropy(twin(x), y).backward()
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter -= 0.1 * parameter.grad
    weight = twin[0].weight.detach()
    gaps = torch.cdist(weight, weight, p=float("inf"), compute_mode="donot_use_mm_for_euclid_dist") < 1e-6
    different = int((gaps.tril(-1).sum(1) == 0).sum())
    if (weight - model[0].weight).abs().max() < 1e-6:
        return "nothing moves", different
    return ("learns" if different == len(weight) else "copies"), different


def start_by_restoring(model, x, y):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(3):
        model.zero_grad()
        nn.CrossEntropyLoss()(model(x), y).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(parameter.grad, alpha=0.1)
    weight = model[0].weight.detach().clone()
    model.load_state_dict(state)
    model.zero_grad()
    kinds = []
    for row in weight:
        if all(float((row - kind).abs().max()) >= 1e-6 for kind in kinds):
            kinds.append(row)
    if torch.allclose(weight, state["0.weight"], rtol=0, atol=1e-6):
        return "nothing moves", len(kinds)
    return "copies" if len(kinds) < len(weight) else "learns", len(kinds)


def start_by_functional_call(model, x, y):
    from torch.func import functional_call

    params = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    for _ in range(3):
        loss = F.cross_entropy(functional_call(model, params, (x,)), y)
        grads = torch.autograd.grad(loss, tuple(params.values()))
        params = {
            name: (p - 0.1 * g).detach().requires_grad_() for (name, p), g in zip(params.items(), grads, strict=True)
        }
    rows = params["0.weight"].detach().numpy().astype(np.float64)
    distance = np.abs(rows[:, None] - rows[None]).max(-1)
    different = sum(not (distance[i, :i] < 1e-6).any() for i in range(len(rows)))
    moved = np.abs(rows - model[0].weight.detach().numpy()).max() >= 1e-6
    verdict = "nothing moves" if not moved else "learns" if different == len(rows) else "copies"
    return verdict, different


clinic_start = Exercise(
    id="initialization.clinic_symmetry",
    lesson="02_initialization",
    title="Clinic: eight units that do the work of one",
    answer="diagnose_start",
    criteria=(
        Criterion("verdict", 1, requires=("model as it came",)),
        Criterion("different units", 1, requires=("verdict",)),
        Criterion("model as it came", 0),
    ),
    cases=start_cases,
    probe=start_probe,
    reference=diagnose_start,
    misconceptions=(
        Misconception(
            "first_gradient_alone",
            first_gradient_alone,
            "You look at the first gradient alone. In the case “{case}” it is not the whole story: where the last "
            "layer's weights are all 0 (or all alike), nothing comes back in the first step, but the last layer "
            "moves, and from the second step on the hidden layer does too.",
            "Take three steps, then compare.",
        ),
        Misconception(
            "start_alone",
            start_alone,
            "You judge by the starting weights. In the case “{case}” training changes the picture: units that start "
            "alike part where the last layer treats them differently, and zeros move where a gradient reaches them.",
            "Take three steps on a copy, then compare.",
        ),
        Misconception(
            "zero_never_moves",
            zero_never_moves,
            "You take zero weights for stuck. A sigmoid gives ½ for 0, so the last layer gets a gradient, and then the "
            "hidden one: the units move, all in the same way.",
            "Compare the weights after three steps with those before.",
        ),
        Misconception(
            "any_parameter_moves",
            any_parameter_moves,
            "You count a move of any parameter. The last layer's bias always moves; asked is whether the hidden "
            "layer's weights do.",
            "Look at model[0].weight alone.",
        ),
        Misconception(
            "all_alike_or_fine",
            all_alike_or_fine,
            "You only ask whether all units are alike. In the case “{case}” each has a twin: half of them are wasted.",
            "Compare every unit with every other.",
        ),
        Misconception(
            "loss_falls",
            loss_falls,
            "You judge by the loss. It falls with copies too: one unit can learn something.",
            "Count the different units.",
        ),
        Misconception(
            "callers_model_trained",
            callers_model_trained,
            "You train the model that you were given: afterwards it is another one.",
            "Work on copy.deepcopy(model).",
        ),
        Misconception(
            "verdicts_exchanged",
            verdicts_exchanged,
            "You ask for copies first. A layer of zeros that never moves is a layer of copies too; what is wrong with "
            "it is that nothing reaches it.",
            "Ask whether it moves before you ask whether its units differ.",
        ),
    ),
    variants=(
        Variant("start_by_cdist", start_by_cdist),
        Variant("start_by_restoring", start_by_restoring),
        Variant("start_by_functional_call", start_by_functional_call),
    ),
    hints=(
        "Two units with the same incoming and outgoing weights: what differs between their gradients?",
        "You can't see from the start alone what training will do. Copy the model, take three gradient steps at rate "
        "0.1, and look at the hidden weights.",
        "First compare them with those before (any change of 1e-6 or more?), then each row with the rows above it "
        "(largest difference below 1e-6: a copy).",
    ),
    minutes=15,
)

# ---------------------------------------------------------------- a conv net with the wrong fans


def conv_cases(seed):
    """Several channels, fields, groups and strides, each layer with biases as PyTorch draws them."""
    rng = np.random.default_rng(seed)
    plans = [
        ("3 → 8 → 16 maps", (3, 8, 16, 6), (3, 3), 1),
        ("two groups, a field of 3 × 5", (2, 8, 12, 4), (3, 5), 2),
        ("four groups", (3, 8, 16, 10), (3, 3), 4),
        ("one map in", (1, 4, 8, 6), (5, 5), 2),
        ("fields of one pixel", (6, 12, 6, 4), (1, 1), 3),
        ("depthwise in the middle", (3, 6, 6, 8), (3, 3), 6),
    ]
    for name, channels, field, groups in plans:
        yield Case(
            name,
            {
                "channels": np.array(channels),
                "field": np.array(field),
                "groups": groups,
                "noise": rng.normal(size=20_000).astype(np.float32),
            },
        )


def conv_probe(candidate, case):
    import torch
    from torch import nn

    a, b, c, d = (int(n) for n in case["channels"])
    field = tuple(int(n) for n in case["field"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(a, b, field),
            nn.BatchNorm2d(b),
            nn.ReLU(),
            nn.Conv2d(b, c, field, groups=case["groups"]),
            nn.ReLU(),
            nn.ConvTranspose2d(c, d, (2, 3)),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(4 * d, 5),
        )
        norm = model[1]
        with torch.no_grad():
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-1, 1)
    kept = norm.weight.clone(), norm.bias.clone()
    noise, used = {}, 0
    for name, parameter in model.named_parameters():
        size = parameter.numel()
        noise[name] = torch.tensor(case["noise"][used : used + size]).reshape(parameter.shape)
        used += size
    candidate(model, noise)
    layers = {"convolution": model[0], "grouped convolution": model[3], "transposed convolution": model[5]}
    layers["dense layer"] = model[8]
    outputs = {name: layer.weight.detach() for name, layer in layers.items()}
    outputs["all biases 0"] = not any(layer.bias.any() for layer in layers.values())
    outputs["batch norm as before"] = torch.equal(norm.weight, kept[0]) and torch.equal(norm.bias, kept[1])
    return outputs


def initialize(model, noise):
    """noise · √(2 / fan_in) into every conv and dense layer's weights, 0 into its bias; batch norm stays."""
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                transposed = isinstance(module, nn.ConvTranspose2d)
                fans = compute_fans(module.weight.shape, groups=getattr(module, "groups", 1), transposed=transposed)
                module.weight.copy_(noise[f"{name}.weight"] * (2 / fans.fan_in) ** 0.5)
                module.bias.zero_()


def input_maps_alone(model, noise):
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.weight.copy_(noise[f"{name}.weight"] * (2 / (module.in_channels // module.groups)) ** 0.5)
                module.bias.zero_()
            elif isinstance(module, nn.Linear):
                module.weight.copy_(noise[f"{name}.weight"] * (2 / module.in_features) ** 0.5)
                module.bias.zero_()


def output_maps_times_field(model, noise):
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                fan = module.out_channels // module.groups * module.kernel_size[0] * module.kernel_size[1]
                module.weight.copy_(noise[f"{name}.weight"] * (2 / fan) ** 0.5)
                module.bias.zero_()
            elif isinstance(module, nn.Linear):
                module.weight.copy_(noise[f"{name}.weight"] * (2 / module.out_features) ** 0.5)
                module.bias.zero_()


def groups_left_out(model, noise):
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                fan = module.in_channels * module.kernel_size[0] * module.kernel_size[1]
                module.weight.copy_(noise[f"{name}.weight"] * (2 / fan) ** 0.5)
                module.bias.zero_()
            elif isinstance(module, nn.Linear):
                module.weight.copy_(noise[f"{name}.weight"] * (2 / module.in_features) ** 0.5)
                module.bias.zero_()


def second_axis_for_all(model, noise):
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                module.weight.copy_(noise[f"{name}.weight"] * (2 / module.weight[0].numel()) ** 0.5)
                module.bias.zero_()


def biases_left(model, noise):
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.copy_(noise[f"{name}.weight"] * (2 / module.weight[0].numel()) ** 0.5)
            elif isinstance(module, nn.ConvTranspose2d):
                module.weight.copy_(noise[f"{name}.weight"] * (2 / module.weight[:, 0].numel()) ** 0.5)


def batch_norm_overwritten(model, noise):
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.copy_(noise[f"{name}.weight"] * (2 / module.weight[0].numel()) ** 0.5)
                module.bias.zero_()
            elif isinstance(module, nn.ConvTranspose2d):
                module.weight.copy_(noise[f"{name}.weight"] * (2 / module.weight[:, 0].numel()) ** 0.5)
                module.bias.zero_()
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(noise[f"{name}.weight"])
                module.bias.zero_()


def variance_for_the_deviation(model, noise):
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.copy_(noise[f"{name}.weight"] * (2 / module.weight[0].numel()))
                module.bias.zero_()
            elif isinstance(module, nn.ConvTranspose2d):
                module.weight.copy_(noise[f"{name}.weight"] * (2 / module.weight[:, 0].numel()))
                module.bias.zero_()


def gain_forgotten(model, noise):
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.copy_(noise[f"{name}.weight"] * (1 / module.weight[0].numel()) ** 0.5)
                module.bias.zero_()
            elif isinstance(module, nn.ConvTranspose2d):
                module.weight.copy_(noise[f"{name}.weight"] * (1 / module.weight[:, 0].numel()) ** 0.5)
                module.bias.zero_()


def convolutions_alone(model, noise):
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d):
                module.weight.copy_(noise[f"{name}.weight"] * (2 / module.weight[0].numel()) ** 0.5)
                module.bias.zero_()


def initialize_by_names(model, noise):
    for name, parameter in model.named_parameters():
        layer = model.get_submodule(name.rpartition(".")[0])
        if isinstance(layer, nn.BatchNorm2d):
            continue
        if name.endswith("bias"):
            parameter.data.zero_()
            continue
        fan_in = parameter[0].numel()
        if isinstance(layer, nn.ConvTranspose2d):
            fan_in = layer.in_channels // layer.groups * parameter[0, 0].numel()
        parameter.data = noise[name] * np.sqrt(2 / fan_in)


@torch.no_grad()
def initialize_by_apply(model, noise):
    names = {module: name for name, module in model.named_modules()}

    def start(module):
        if isinstance(module, nn.Linear):
            fan_in = module.in_features
        elif hasattr(module, "kernel_size"):
            height, width = module.kernel_size
            fan_in = module.in_channels * height * width / module.groups
        else:
            return
        module.weight.copy_(noise[names[module] + ".weight"]).mul_((2 / fan_in) ** 0.5)
        module.bias.fill_(0)

    model.apply(start)


def initialize_by_state(model, noise):
    state = model.state_dict()
    for name, module in model.named_children():
        weight = getattr(module, "weight", None)
        if weight is None or isinstance(module, nn.BatchNorm2d):
            continue
        outputs = weight.shape[1] if isinstance(module, nn.ConvTranspose2d) else weight.shape[0]
        fan_in = weight.numel() / outputs  # every output has as many weights
        state[f"{name}.weight"] = noise[f"{name}.weight"] * (2.0 / fan_in) ** 0.5
        state[f"{name}.bias"] = torch.zeros_like(module.bias)
    model.load_state_dict(state)


clinic_conv = Exercise(
    id="initialization.clinic_fans",
    lesson="02_initialization",
    title="Clinic: a conv net that counts the wrong fans",
    answer="initialize",
    criteria=(
        Criterion("convolution", 1, Close(operations=16)),
        Criterion("grouped convolution", 1, Close(operations=16), requires=("convolution",)),
        Criterion("transposed convolution", 1, Close(operations=16), requires=("convolution",)),
        Criterion("dense layer", 0, Close(operations=16)),
        Criterion("all biases 0", 0),
        Criterion("batch norm as before", 0),
    ),
    cases=conv_cases,
    probe=conv_probe,
    reference=initialize,
    misconceptions=(
        Misconception(
            "input_maps_alone",
            input_maps_alone,
            "A convolution's fan_in is still the number of its input maps. Each output sums over the places of the "
            "kernel as well: your weights are {ratio:.1f} × the right ones, and every layer multiplies that again.",
            "Multiply by kernel_size[0] · kernel_size[1].",
        ),
        Misconception(
            "output_maps_times_field",
            output_maps_times_field,
            "You divide by fan_out. Asked is the form that keeps the signal's size going forward.",
            "Count what one output sums over: fan_in.",
        ),
        Misconception(
            "groups_left_out",
            groups_left_out,
            "In the grouped convolution you count the maps of all groups. An output sums over its own group: "
            "in_channels / groups maps.",
            "Divide by module.groups (or take the number from the kernel's shape).",
        ),
        Misconception(
            "second_axis_for_all",
            second_axis_for_all,
            "You read the transposed convolution's kernel as (out, in, *field). PyTorch keeps it as (in, out, "
            "*field), so what you take for fan_in is its fan_out.",
            "For nn.ConvTranspose2d take the first axis times the field.",
        ),
        Misconception(
            "biases_left",
            biases_left,
            "The biases are still those that PyTorch drew.",
            "module.bias.zero_() for each of these layers.",
        ),
        Misconception(
            "batch_norm_overwritten",
            batch_norm_overwritten,
            "You write into batch norm's weight too. It is a scale for each map, not a kernel: a random one switches "
            "maps off or turns their sign.",
            "Leave nn.BatchNorm2d alone.",
        ),
        Misconception(
            "variance_for_the_deviation",
            variance_for_the_deviation,
            "You multiply by the variance 2 / fan_in.",
            "Take its square root.",
        ),
        Misconception(
            "gain_forgotten",
            gain_forgotten,
            "Your variance is 1 / fan_in. A ReLU follows, which takes half of the mean square away.",
            "2 / fan_in.",
        ),
        Misconception(
            "convolutions_alone",
            convolutions_alone,
            "nn.Conv2d layers alone are initialized. The transposed convolution and the dense layer start as PyTorch "
            "drew them.",
            "Treat nn.ConvTranspose2d and nn.Linear too: neither is an nn.Conv2d.",
        ),
    ),
    variants=(
        Variant("initialize_by_names", initialize_by_names),
        Variant("initialize_by_apply", initialize_by_apply),
        Variant("initialize_by_state", initialize_by_state),
    ),
    forbidden=("course_lib.initializers.compute_fans",),
    hints=(
        "Which number stands for fan_in in the broken code? What does one output of a convolution sum over?",
        "weight[0].numel() is in / groups × field for a convolution. A transposed convolution's kernel is (in, "
        "out / groups, *field).",
        "fan_in = weight[0].numel(), and for nn.ConvTranspose2d weight[:, 0].numel() / groups; weight ← noise · "
        "√(2 / fan_in), bias ← 0, batch norm untouched.",
    ),
    minutes=15,
)

# ---------------------------------------------------------------- in your own words

explain = Explanation(
    id="initialization.explain",
    lesson="02_initialization",
    title="Explain it to a colleague",
    rubric={
        "Zero: units with equal weights get equal gradients and stay copies (or, behind ReLU, get none)": 1,
        "0.01: each layer multiplies the signal's variance by fan_in · Var(w) (halved by ReLU), so that it vanishes "
        "with depth, and the gradient likewise": 1,
        "A test: the variance of the activations (or gradients) layer by layer, before any training": 1,
        "What to use: a variance of 2/fan_in for ReLU, with the fan_in of the layer at hand, in place of one number "
        "for all": 1,
    },
    minutes=10,
)
