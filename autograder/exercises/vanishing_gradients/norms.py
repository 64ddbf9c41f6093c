"""What each layer does to the gradient: its norm, layer by layer, and the factor that weights and slopes predict."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant
from .backward import LESSON

# ---------------------------------------------------------------- gradient norms, layer by layer


def norm_cases(seed):
    """Shallow and deep, gradients left from an earlier batch, nested parts, layer norm, no biases, one example."""
    rng = np.random.default_rng(seed)

    def case(name, sizes=(6, 8, 5, 3), n=16, kind="plain", stale=False):
        return Case(
            name,
            {
                "x": rng.normal(size=(n, sizes[0])).astype(np.float32),
                "labels": rng.integers(0, sizes[-1], n),
                "weights": rng.normal(size=sum(a * b for a, b in pairwise(sizes))).astype(np.float32),
                "sizes": np.array(sizes),
                "kind": kind,
                "stale": stale,
            },
        )

    yield case("three dense layers")
    yield case("gradients of an earlier batch are still there", stale=True)
    yield case("eight dense layers", sizes=(6, 7, 7, 7, 7, 7, 7, 7, 4))
    yield case("parts within parts", kind="nested")
    yield case("layer norm between", kind="norm")
    yield case("without biases", kind="no bias")
    yield case("one example", n=1)
    yield case("a single dense layer", sizes=(5, 4))


def norm_probe(candidate, case):
    from itertools import pairwise

    import torch
    from torch import nn

    sizes, kind = case["sizes"].tolist(), case["kind"]
    generator = torch.Generator().manual_seed(len(sizes))
    parts, used = [], 0
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        layer = nn.Linear(n_in, n_out, bias=kind != "no bias")
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(case["weights"][used : used + n_in * n_out]).view(n_out, n_in))
            if layer.bias is not None:
                layer.bias.copy_(torch.randn(n_out, generator=generator))
        used += n_in * n_out
        part = [layer] if i == len(sizes) - 2 else [layer, nn.Sigmoid()]
        if kind == "norm" and i < len(sizes) - 2:
            part.insert(1, nn.LayerNorm(n_out))
        parts.append(part)
    if kind == "nested":
        model = nn.Sequential(*(nn.Sequential(*part) for part in parts))
    else:
        model = nn.Sequential(*(module for part in parts for module in part))
    for parameter in model.parameters():
        if case["stale"]:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    norms = candidate(model, torch.tensor(case["x"]), torch.tensor(case["labels"]))
    if isinstance(norms, (list, tuple)):
        norms = torch.stack([torch.as_tensor(norm, dtype=torch.float32).detach() for norm in norms])
    after = [parameter.detach() for parameter in model.parameters()]
    same = all(torch.equal(a, b) for a, b in zip(before, after))  # noqa: B905
    return {"norms": torch.as_tensor(norms, dtype=torch.float32), "weights as before": same}


def gradient_norms(model, x, labels):
    """‖∂loss/∂W‖ of every nn.Linear's weight, first layer first; the loss is the mean cross-entropy of the batch."""
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    loss = F.cross_entropy(model(x), labels)
    return torch.stack([grad.norm() for grad in torch.autograd.grad(loss, weights)])


def stale_gradients_kept(model, x, labels):
    F.cross_entropy(model(x), labels).backward()
    return torch.stack([module.weight.grad.norm() for module in model.modules() if isinstance(module, nn.Linear)])


def weights_and_biases_together(model, x, labels):
    model.zero_grad()
    F.cross_entropy(model(x), labels).backward()
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return [torch.cat([p.grad.flatten() for p in layer.parameters()]).norm() for layer in layers]


def every_parameter(model, x, labels):
    model.zero_grad()
    F.cross_entropy(model(x), labels).backward()
    return torch.stack([parameter.grad.norm() for parameter in model.parameters()])


def every_second_parameter(model, x, labels):
    model.zero_grad()
    F.cross_entropy(model(x), labels).backward()
    return torch.stack([parameter.grad.norm() for parameter in list(model.parameters())[::2]])


def norms_of_the_weights(model, x, labels):
    return torch.stack([module.weight.detach().norm() for module in model.modules() if isinstance(module, nn.Linear)])


def squared_norms(model, x, labels):
    model.zero_grad()
    F.cross_entropy(model(x), labels).backward()
    return torch.stack(
        [module.weight.grad.square().sum() for module in model.modules() if isinstance(module, nn.Linear)]
    )


def mean_absolute(model, x, labels):
    model.zero_grad()
    F.cross_entropy(model(x), labels).backward()
    return torch.stack([m.weight.grad.abs().mean() for m in model.modules() if isinstance(m, nn.Linear)])


def largest_absolute(model, x, labels):
    model.zero_grad()
    F.cross_entropy(model(x), labels).backward()
    return torch.stack([m.weight.grad.abs().max() for m in model.modules() if isinstance(m, nn.Linear)])


def root_mean_square(model, x, labels):
    model.zero_grad()
    F.cross_entropy(model(x), labels).backward()
    return torch.stack([m.weight.grad.square().mean().sqrt() for m in model.modules() if isinstance(m, nn.Linear)])


def sum_over_the_batch(model, x, labels):
    model.zero_grad()
    F.cross_entropy(model(x), labels, reduction="sum").backward()
    return torch.stack([module.weight.grad.norm() for module in model.modules() if isinstance(module, nn.Linear)])


def last_layer_first(model, x, labels):
    model.zero_grad()
    F.cross_entropy(model(x), labels).backward()
    norms = [module.weight.grad.norm() for module in model.modules() if isinstance(module, nn.Linear)]
    return torch.stack(norms[::-1])


def softmax_before_the_loss(model, x, labels):
    model.zero_grad()
    F.cross_entropy(model(x).softmax(1), labels).backward()
    return torch.stack([module.weight.grad.norm() for module in model.modules() if isinstance(module, nn.Linear)])


def top_level_only(model, x, labels):
    model.zero_grad()
    F.cross_entropy(model(x), labels).backward()
    norms = [module.weight.grad.norm() for module in model.children() if isinstance(module, nn.Linear)]
    return torch.stack(norms) if norms else torch.zeros(0)


def one_norm_for_all(model, x, labels):
    model.zero_grad()
    F.cross_entropy(model(x), labels).backward()
    grads = [module.weight.grad.flatten() for module in model.modules() if isinstance(module, nn.Linear)]
    return torch.cat(grads).norm()


def norms_by_backward(model, x, labels):
    model.zero_grad(set_to_none=True)
    nn.CrossEntropyLoss()(model(x), labels).backward()
    return [float(m.weight.grad.pow(2).sum() ** 0.5) for m in model.modules() if type(m) is nn.Linear]


def norms_by_names(model, x, labels):
    for parameter in model.parameters():
        parameter.grad = None
    loss = -F.log_softmax(model(x), dim=-1)[torch.arange(len(labels)), labels].mean()
    loss.backward()
    return torch.tensor([p.grad.norm() for _, p in model.named_parameters() if p.dim() == 2])


def norms_on_a_copy(model, x, labels):
    import copy

    twin = copy.deepcopy(model)
    twin.zero_grad()
    F.nll_loss(torch.log_softmax(twin(x), 1), labels).backward()
    layers = filter(lambda module: isinstance(module, nn.Linear), twin.modules())
    return np.array([np.linalg.norm(layer.weight.grad.numpy()) for layer in layers])


gradient_norms_exercise = Exercise(
    id="vanishing_gradients.gradient_norms",
    lesson=LESSON,
    title="The gradient's norm, layer by layer",
    answer="gradient_norms",
    criteria=(Criterion("norms", 2, Close(operations=128)), Criterion("weights as before", 0)),
    cases=norm_cases,
    probe=norm_probe,
    reference=gradient_norms,
    misconceptions=(
        Misconception(
            "stale_gradients_kept",
            stale_gradients_kept,
            "In the case “{case}” your norms hold an earlier batch's gradients too: backward() adds to what is in "
            ".grad.",
            "Call model.zero_grad() before backward().",
        ),
        Misconception(
            "weights_and_biases_together",
            weights_and_biases_together,
            "Each of your norms covers the layer's weight and its bias. Asked is the weight's alone.",
            "Use layer.weight.grad only.",
        ),
        Misconception(
            "every_parameter",
            every_parameter,
            "You return a norm for every parameter, biases too. Asked are the weights of the dense layers.",
            "Go through model.modules(), and keep the nn.Linear ones.",
        ),
        Misconception(
            "every_second_parameter",
            every_second_parameter,
            "You take every second parameter. That breaks where a layer has no bias, or another kind of layer has "
            "parameters too.",
            "Go through model.modules(), and keep the nn.Linear ones.",
        ),
        Misconception(
            "norms_of_the_weights",
            norms_of_the_weights,
            "These are the norms of the weights, not of their gradients.",
            "Call backward() on the loss, then use weight.grad.",
        ),
        Misconception(
            "squared_norms",
            squared_norms,
            "These are the squares of the norms: the root is missing.",
            "Use grad.norm().",
        ),
        Misconception(
            "mean_absolute",
            mean_absolute,
            "You return the mean of the absolute values. The norm is the root of the sum of the squares.",
            "Use grad.norm().",
        ),
        Misconception(
            "largest_absolute",
            largest_absolute,
            "You return the largest entry. The norm is the root of the sum of the squares.",
            "Use grad.norm().",
        ),
        Misconception(
            "root_mean_square",
            root_mean_square,
            "You divide by the number of weights before the root. That is a good measure too, but not the norm.",
            "Sum the squares instead of averaging them: grad.norm().",
        ),
        Misconception(
            "sum_over_the_batch",
            sum_over_the_batch,
            "Your norms are {ratio:.0f} × the right ones in the case “{case}”: the loss is summed over the examples. "
            "Then a larger batch alone looks like an explosion.",
            "Use the mean loss, as F.cross_entropy gives it.",
        ),
        Misconception(
            "last_layer_first",
            last_layer_first,
            "Your list begins with the last layer. The gradient does pass that one first, but asked is the order of "
            "the layers.",
            "Turn the list round.",
        ),
        Misconception(
            "softmax_before_the_loss",
            softmax_before_the_loss,
            "You apply softmax before F.cross_entropy, which applies it again: that makes every gradient smaller, and "
            "you would go looking for a vanishing gradient that is none.",
            "Give F.cross_entropy the logits.",
        ),
        Misconception(
            "top_level_only",
            top_level_only,
            "In the case “{case}” layers are missing: model.children() (and a loop over the model) sees only the top "
            "level.",
            "model.modules() goes all the way down.",
        ),
        Misconception(
            "one_norm_for_all",
            one_norm_for_all,
            "You return one norm over all layers together. It would not show that the first layers starve.",
            "Return a norm for each layer.",
        ),
    ),
    variants=(
        Variant("norms_by_backward", norms_by_backward),
        Variant("norms_by_names", norms_by_names),
        Variant("norms_on_a_copy", norms_on_a_copy),
    ),
    forbidden=("course_lib.diagnostics",),
    hints=(
        "What must stand in .grad before you call backward(), so that afterwards only this batch is in it?",
        "model.modules() lists all modules, however deep; isinstance(module, nn.Linear) finds the dense layers.",
        "zero_grad, F.cross_entropy(model(x), labels).backward(), then weight.grad.norm() for each nn.Linear.",
    ),
    minutes=10,
)

# ---------------------------------------------------------------- the factor that a layer predicts


def factor_cases(seed):
    """Narrowing, widening, square, one example, flat units, tiny weights, one large weight, float64."""
    rng = np.random.default_rng(seed)

    def case(name, n=20, inputs=8, outputs=5, scale=1.0, bias=1.0, dtype=np.float32):
        return Case(
            name,
            {
                "x": rng.normal(size=(n, inputs)).astype(dtype),
                "weight": (scale * rng.normal(size=(outputs, inputs))).astype(dtype),
                "bias": (bias * rng.normal(size=outputs)).astype(dtype),
            },
        )

    yield case("8 inputs, 5 units")
    yield case("4 inputs, 9 units", inputs=4, outputs=9)
    yield case("square layer of 6", inputs=6, outputs=6)
    yield case("one example", n=1)
    yield case("most units saturated", scale=6.0)
    yield case("tiny weights", scale=0.01)
    yield case("large biases", bias=4.0)
    yield case("float64", n=50, inputs=12, outputs=12, dtype=np.float64)


def factor_probe(candidate, case):
    import torch

    x, weight, bias = (torch.tensor(case[name]) for name in ("x", "weight", "bias"))
    predicted, bound = candidate(x, weight, bias)
    return {
        "predicted": torch.as_tensor(predicted, dtype=x.dtype).reshape(()),
        "bound": torch.as_tensor(bound, dtype=x.dtype).reshape(()),
    }


def layer_factor(x, weight, bias):
    """(predicted, bound): √(Σ s² W² / out), s² meant over the batch, and ‖W‖₂ / 4; x (N, in), weight (out, in)."""
    y = torch.sigmoid(x @ weight.T + bias)
    slope = y * (1 - y)
    predicted = (slope.square().mean(0) @ weight.square().sum(1) / len(weight)).sqrt()
    return predicted, torch.linalg.matrix_norm(weight, 2) / 4


def slope_not_squared(x, weight, bias):
    y = torch.sigmoid(x @ weight.T + bias)
    slope = (y * (1 - y)).mean(0)
    return (slope @ weight.square().sum(1) / len(weight)).sqrt(), torch.linalg.matrix_norm(weight, 2) / 4


def slope_averaged_first(x, weight, bias):
    y = torch.sigmoid(x @ weight.T + bias)
    slope = (y * (1 - y)).mean(0)
    return (slope.square() @ weight.square().sum(1) / len(weight)).sqrt(), torch.linalg.matrix_norm(weight, 2) / 4


def divided_by_the_inputs(x, weight, bias):
    y = torch.sigmoid(x @ weight.T + bias)
    slope = (y * (1 - y)).square().mean(0)
    return (slope @ weight.square().sum(1) / weight.shape[1]).sqrt(), torch.linalg.matrix_norm(weight, 2) / 4


def not_divided(x, weight, bias):
    y = torch.sigmoid(x @ weight.T + bias)
    slope = (y * (1 - y)).square().mean(0)
    return (slope @ weight.square().sum(1)).sqrt(), torch.linalg.matrix_norm(weight, 2) / 4


def root_left_out(x, weight, bias):
    y = torch.sigmoid(x @ weight.T + bias)
    slope = (y * (1 - y)).square().mean(0)
    return slope @ weight.square().sum(1) / len(weight), torch.linalg.matrix_norm(weight, 2) / 4


def slope_left_out(x, weight, bias):
    return (weight.square().sum() / len(weight)).sqrt(), torch.linalg.matrix_norm(weight, 2) / 4


def slope_at_its_best(x, weight, bias):
    return (weight.square().sum() / len(weight)).sqrt() / 4, torch.linalg.matrix_norm(weight, 2) / 4


def bias_passed_over(x, weight, bias):
    y = torch.sigmoid(x @ weight.T)
    slope = (y * (1 - y)).square().mean(0)
    return (slope @ weight.square().sum(1) / len(weight)).sqrt(), torch.linalg.matrix_norm(weight, 2) / 4


def sigmoid_twice(x, weight, bias):
    y = torch.sigmoid(torch.sigmoid(x @ weight.T + bias))
    slope = (y * (1 - y)).square().mean(0)
    return (slope @ weight.square().sum(1) / len(weight)).sqrt(), torch.linalg.matrix_norm(weight, 2) / 4


def bound_without_weights(x, weight, bias):
    y = torch.sigmoid(x @ weight.T + bias)
    slope = (y * (1 - y)).square().mean(0)
    return (slope @ weight.square().sum(1) / len(weight)).sqrt(), 0.25


def bound_by_all_entries(x, weight, bias):
    y = torch.sigmoid(x @ weight.T + bias)
    slope = (y * (1 - y)).square().mean(0)
    return (slope @ weight.square().sum(1) / len(weight)).sqrt(), weight.norm() / 4


def bound_by_largest_weight(x, weight, bias):
    y = torch.sigmoid(x @ weight.T + bias)
    slope = (y * (1 - y)).square().mean(0)
    return (slope @ weight.square().sum(1) / len(weight)).sqrt(), weight.abs().max() / 4


def bound_by_measured_slope(x, weight, bias):
    y = torch.sigmoid(x @ weight.T + bias)
    slope = y * (1 - y)
    predicted = (slope.square().mean(0) @ weight.square().sum(1) / len(weight)).sqrt()
    return predicted, slope.max() * torch.linalg.matrix_norm(weight, 2)


def factor_by_matrices(x, weight, bias):
    y = torch.sigmoid(F.linear(x, weight, bias))
    jacobians = (y - y * y)[:, :, None] * weight  # (N, out, in)
    predicted = torch.sqrt(jacobians.pow(2).sum((1, 2)).mean() / weight.shape[0])
    return predicted, torch.linalg.svdvals(weight).max() * 0.25


def factor_by_units(x, weight, bias):
    total = 0.0
    for unit in range(len(weight)):
        z = (x.double() * weight[unit].double()).sum(1) + bias[unit].double()
        slope = torch.sigmoid(z) * torch.sigmoid(-z)
        total += float((slope**2).mean()) * float((weight[unit].double() ** 2).sum())
    return (total / len(weight)) ** 0.5, float(torch.linalg.norm(weight.double(), ord=2)) / 4


def factor_by_eigenvalue(x, weight, bias):
    s = torch.sigmoid(bias + torch.einsum("ni,oi->no", x, weight))
    s = s * (1 - s)
    predicted = torch.einsum("no,no,oi,oi->", s, s, weight, weight).div(s.numel()).sqrt()
    largest = torch.linalg.eigvalsh(weight.double() @ weight.double().T)[-1]
    return predicted, (largest.sqrt() / 4).to(x.dtype)


layer_factor_exercise = Exercise(
    id="vanishing_gradients.layer_factor",
    lesson=LESSON,
    title="The factor of one layer, and its bound",
    answer="layer_factor",
    criteria=(
        Criterion("predicted", 2, Close(operations=128)),
        Criterion("bound", 1, Close(operations=128)),
    ),
    cases=factor_cases,
    probe=factor_probe,
    reference=layer_factor,
    misconceptions=(
        Misconception(
            "slope_not_squared",
            slope_not_squared,
            "The weights are squared, the slopes are not. Each term of the sum is (s · W)².",
            "Square the slopes too, before you average them over the batch.",
        ),
        Misconception(
            "slope_averaged_first",
            slope_averaged_first,
            "You average the slopes over the examples and square afterwards. The mean of the squares is larger "
            "wherever the slopes differ; with one example both are the same.",
            "slope.square().mean(0).",
        ),
        Misconception(
            "divided_by_the_inputs",
            divided_by_the_inputs,
            "You divide by the number of inputs. The gradient comes from the units, so its squared norm is shared "
            "among the outputs. In a square layer you would not notice.",
            "Divide by the number of units, weight.shape[0].",
        ),
        Misconception(
            "not_divided",
            not_divided,
            "The division by the number of units is missing: your factor grows with the width.",
            "Divide the sum by weight.shape[0] before the root.",
        ),
        Misconception(
            "root_left_out",
            root_left_out,
            "The root is missing: this is the factor of the squared norm.",
            "Take the root at the end.",
        ),
        Misconception(
            "slope_left_out",
            slope_left_out,
            "The slopes are missing: this would be the factor of a layer without an activation.",
            "Compute y = σ(x Wᵀ + b) and the slopes y (1 − y).",
        ),
        Misconception(
            "slope_at_its_best",
            slope_at_its_best,
            "You take 1/4 for every slope. Only at z = 0 is it so large: in the case “{case}” it matters.",
            "Compute the slopes y (1 − y) of this batch.",
        ),
        Misconception(
            "bias_passed_over",
            bias_passed_over,
            "The slopes are taken at x Wᵀ, without the bias.",
            "Compute z = x Wᵀ + b.",
        ),
        Misconception(
            "sigmoid_twice",
            sigmoid_twice,
            "The sigmoid is applied twice: the slope at z is y (1 − y), where y is already σ(z).",
            "Apply the sigmoid once.",
        ),
        Misconception(
            "bound_without_weights",
            bound_without_weights,
            "You give 1/4 as the bound. That is the sigmoid's part alone; the weights can stretch the gradient, so "
            "large weights can outweigh it.",
            "Multiply by the most that W stretches any vector: its largest singular value.",
        ),
        Misconception(
            "bound_by_all_entries",
            bound_by_all_entries,
            "You take the root of the sum of all squared weights. No vector is stretched by more than the largest "
            "singular value, which is smaller: the bound is right, but looser than asked.",
            "torch.linalg.matrix_norm(weight, 2).",
        ),
        Misconception(
            "bound_by_largest_weight",
            bound_by_largest_weight,
            "You take the largest weight. A matrix can stretch a vector by more than its largest entry: the units' "
            "contributions add up.",
            "torch.linalg.matrix_norm(weight, 2), the largest singular value.",
        ),
        Misconception(
            "bound_by_measured_slope",
            bound_by_measured_slope,
            "You use the largest slope of this batch. That bounds this batch only; asked is the bound for all inputs, "
            "where a slope can be 1/4.",
            "Use 1/4.",
        ),
    ),
    variants=(
        Variant("factor_by_matrices", factor_by_matrices),
        Variant("factor_by_units", factor_by_units),
        Variant("factor_by_eigenvalue", factor_by_eigenvalue),
    ),
    hints=(
        "Going back, grad_x = (grad_y · s) W. If the entries of grad_y are independent and of one size, what is the "
        "expected sum of the squares of grad_x, over that of grad_y?",
        "Σ over units and inputs of s² W², divided by the number of units; s² is the mean over the examples; then the "
        "root.",
        "predicted = (slope.square().mean(0) @ weight.square().sum(1) / len(weight)).sqrt(); "
        "bound = torch.linalg.matrix_norm(weight, 2) / 4.",
    ),
    minutes=15,
)
