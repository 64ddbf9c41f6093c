"""Keeping weights small: the ℓ2 penalty, the ℓ1 penalty by its soft threshold, and a limit on each unit's norm."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

LESSON = "07_regularization"

# ---------------------------------------------------------------- the ℓ2 penalty of a model


def l2_cases(seed):
    """Dense and conv nets, with and without batch norm, a single layer, no penalty, weights of ±1e4, float64."""
    rng = np.random.default_rng(seed)

    def case(name, kind, strength, scale=1.0, dtype=np.float32):
        first = {"conv": (4, 2, 3, 3), "norm": (4, 2, 3, 3), "dense": (6, 5), "one": (3, 5)}[kind]
        arrays = {
            "w0": rng.normal(size=first),
            "b0": rng.normal(1.0, 1.0, first[0]),
            "scale": rng.uniform(0.5, 2.0, first[0]),
            "w1": rng.normal(size=(3, first[0])),
            "b1": rng.normal(1.0, 1.0, 3),
        }
        arrays = {key: (value * scale).astype(dtype) for key, value in arrays.items()}
        return Case(name, {"kind": kind, "strength": strength, **arrays})

    yield case("two dense layers, λ = 0.3", "dense", 0.3)
    yield case("a conv and a dense layer, λ = 0.05", "conv", 0.05)
    yield case("conv, batch norm, dense, λ = 0.1", "norm", 0.1)
    yield case("one dense layer, λ = 2", "one", 2.0)
    yield case("λ = 0", "dense", 0.0)
    yield case("weights around ±1e4, λ = 1e-4", "norm", 1e-4, scale=1e4)
    yield case("float64, λ = 0.01", "norm", 0.01, dtype=np.float64)


def l2_probe(candidate, case):
    import torch
    from torch import nn

    w0, b0, scale, w1, b1 = (torch.tensor(case[name]) for name in ("w0", "b0", "scale", "w1", "b1"))
    kind = case["kind"]
    first = nn.Linear(w0.shape[1], w0.shape[0]) if w0.dim() == 2 else nn.Conv2d(w0.shape[1], w0.shape[0], 3)
    layers, values = [first], [w0, b0]
    if kind == "norm":
        layers.append(nn.BatchNorm2d(len(scale)))
        values += [scale, b0]
    if kind != "one":
        layers += [nn.ReLU(), nn.Linear(w1.shape[1], w1.shape[0])]
        values += [w1, b1]
    model = nn.Sequential(*layers).to(w0.dtype)
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), values, strict=True):
            parameter.copy_(value)
    penalty = candidate(model, case["strength"])
    if isinstance(penalty, torch.Tensor) and penalty.requires_grad:
        penalty.backward()
    grads = [(p.dim() > 1, torch.zeros_like(p) if p.grad is None else p.grad) for p in model.parameters()]
    return {
        "penalty": torch.as_tensor(penalty, dtype=w0.dtype).detach(),
        "gradient at the weights": torch.cat([grad.flatten() for weight, grad in grads if weight]),
        "gradient at biases and norms": torch.cat([grad.flatten() for weight, grad in grads if not weight]),
    }


def l2_penalty(model, strength):
    """λ/2 times the sum of the squares of all weights: what has two axes or more."""
    return strength / 2 * sum(p.square().sum() for p in model.parameters() if p.dim() > 1)


def no_half(model, strength):
    return strength * sum((p**2).sum() for p in model.parameters() if p.dim() > 1)


def biases_too(model, strength):
    return strength / 2 * sum((p**2).sum() for p in model.parameters())


def norm_scales_too(model, strength):
    return strength / 2 * sum((p**2).sum() for name, p in model.named_parameters() if name.endswith("weight"))


def dense_only(model, strength):
    return strength / 2 * sum((m.weight**2).sum() for m in model if isinstance(m, nn.Linear)) + 0.0


def root_taken(model, strength):
    return strength / 2 * sum((p**2).sum() for p in model.parameters() if p.dim() > 1).sqrt()


def norms_added(model, strength):
    return strength / 2 * sum(p.norm() for p in model.parameters() if p.dim() > 1)


def mean_for_sum(model, strength):
    return strength / 2 * sum((p**2).mean() for p in model.parameters() if p.dim() > 1)


def absolute_values(model, strength):
    return strength * sum(p.abs().sum() for p in model.parameters() if p.dim() > 1)


def detached(model, strength):
    return strength / 2 * sum((p.detach() ** 2).sum() for p in model.parameters() if p.dim() > 1)


def last_layer_only(model, strength):
    return strength / 2 * (model[-1].weight ** 2).sum()


def l2_by_modules(model, strength):
    total = 0.0
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            total = total + module.weight.pow(2).sum()
    return total * strength * 0.5


def l2_by_vector(model, strength):
    weights = torch.cat([p.flatten() for p in model.parameters() if p.ndim >= 2])
    return 0.5 * strength * weights.dot(weights)


def l2_by_norms(model, strength):
    return sum(0.5 * strength * torch.linalg.vector_norm(p) ** 2 for p in model.parameters() if len(p.shape) > 1)


l2_penalty_exercise = Exercise(
    id="regularization.l2_penalty",
    lesson=LESSON,
    title="The ℓ2 penalty of a net",
    answer="l2_penalty",
    criteria=(
        Criterion("penalty", 1, Close(operations=64)),
        Criterion("gradient at the weights", 1, Close(operations=16)),
        Criterion("gradient at biases and norms", 0, Close(operations=16)),
    ),
    cases=l2_cases,
    probe=l2_probe,
    reference=l2_penalty,
    misconceptions=(
        Misconception(
            "no_half",
            no_half,
            "The half is missing: in the case “{case}” your penalty is {ratio:.2f} × the one asked for. Both forms are "
            "in use (Keras's L2 has no half), but one λ means twice as much in one as in the other.",
            "Multiply by λ/2, so that the gradient is λ·w.",
        ),
        Misconception(
            "biases_too",
            biases_too,
            "Every parameter is penalized, biases too. A bias moves a threshold; it can't make a net wiggle, and "
            "pulling it to 0 keeps the net from fitting a plain offset.",
            "Leave out what has one axis: biases, and the scales and shifts of batch norm.",
        ),
        Misconception(
            "norm_scales_too",
            norm_scales_too,
            "You choose by the name “weight”. In the case “{case}” that takes in batch norm's scale too, which is "
            "called weight in PyTorch.",
            "Choose by the number of axes: a weight has at least two.",
        ),
        Misconception(
            "dense_only",
            dense_only,
            "Only dense layers are penalized. In the case “{case}” the kernels of the convolution are weights too.",
            "Go through model.parameters() and take what has two axes or more.",
        ),
        Misconception(
            "root_taken",
            root_taken,
            "You penalize the norm ‖w‖, with its root. Its gradient is w/‖w‖, a pull of the same strength however "
            "large the weights are; asked is the square.",
            "Leave the root out.",
        ),
        Misconception(
            "norms_added",
            norms_added,
            "You add up each layer's norm ‖w‖. Asked is the sum of squares, ‖w‖².",
            "Square: p.square().sum(), or p.norm() ** 2.",
        ),
        Misconception(
            "mean_for_sum",
            mean_for_sum,
            "You take each layer's mean of squares. One weight of a large layer is then pulled less than one of a "
            "small layer; asked is the sum.",
            "Replace mean() by sum().",
        ),
        Misconception(
            "absolute_values",
            absolute_values,
            "This is the ℓ1 penalty, the sum of absolute values.",
            "Square the weights, and multiply by λ/2.",
        ),
        Misconception(
            "detached",
            detached,
            "The value is right, but it is cut off from the graph (.detach(), .data, .item() or no_grad): added to a "
            "loss it changes no gradient, so nothing decays.",
            "Compute with the parameters themselves.",
        ),
        Misconception(
            "last_layer_only",
            last_layer_only,
            "Only the last layer is penalized.",
            "Sum over all layers: loop over model.parameters().",
        ),
    ),
    variants=(
        Variant("l2_by_modules", l2_by_modules),
        Variant("l2_by_vector", l2_by_vector),
        Variant("l2_by_norms", l2_by_norms),
    ),
    hints=(
        "How do you tell a weight from a bias, or from batch norm's scale, by its shape?",
        "model.parameters() gives all of them; p.dim() says how many axes one has.",
        "strength / 2 * sum(p.square().sum() for p in model.parameters() if p.dim() > 1)",
    ),
    minutes=8,
)

# ---------------------------------------------------------------- ℓ1 by soft threshold


def l1_cases(seed):
    """Steps large and small, a weight that is 0 already, no penalty, all weights to 0, ±1e4, float64."""
    rng = np.random.default_rng(seed)

    def case(name, lr, strength, scale=1.0, dtype=np.float32, shape=(6, 8), still=False):
        weight, grad = rng.normal(size=shape), rng.normal(size=shape) * (0.0 if still else 1.0)
        weight[0] *= lr * strength / scale  # some as small as the threshold
        weight, grad = weight * scale, grad * scale
        weight[-1, -1] = grad[-1, -1] = 0.0
        moved = weight - lr * grad
        near = np.abs(np.abs(moved) - lr * strength) < 1e-2 * lr * strength  # rounding must not decide
        weight = np.where(near, weight + 0.1 * lr * strength, weight)
        return Case(name, {"weight": weight.astype(dtype), "grad": grad.astype(dtype), "lr": lr, "strength": strength})

    yield case("lr = 0.1, λ = 3", 0.1, 3.0)
    yield case("lr = 0.5, λ = 0.2", 0.5, 0.2)
    yield case("one row, lr = 0.05, λ = 10", 0.05, 10.0, shape=(1, 5))
    yield case("the loss is flat, lr = 0.2, λ = 2", 0.2, 2.0, still=True)
    yield case("λ = 0", 0.1, 0.0)
    yield case("every weight below the threshold, lr = 0.5, λ = 20", 0.5, 20.0)
    yield case("values around ±1e4, lr = 0.01, λ = 1e5", 0.01, 1e5, scale=1e4)
    yield case("float64, lr = 0.3, λ = 0.9", 0.3, 0.9, dtype=np.float64)


def l1_probe(candidate, case):
    import torch

    weight, grad = torch.tensor(case["weight"]), torch.tensor(case["grad"])
    new = candidate(weight, grad, case["lr"], case["strength"])
    return {"new weight": new, "weights at exactly 0": int((new == 0).sum()), "weight left as it was": weight}


def l1_step(weight, grad, lr, strength):
    """A gradient step on the loss, then w → sign(w) max(|w| − lr λ, 0)."""
    moved = weight - lr * grad
    return moved.sign() * (moved.abs() - lr * strength).clamp(min=0)


def subgradient_step(weight, grad, lr, strength):
    return weight - lr * (grad + strength * weight.sign())


def subtracted_past_zero(weight, grad, lr, strength):
    moved = weight - lr * grad
    return moved - lr * strength * moved.sign()


def rate_forgotten(weight, grad, lr, strength):
    moved = weight - lr * grad
    return moved.sign() * (moved.abs() - strength).clamp(min=0)


def threshold_before_step(weight, grad, lr, strength):
    return weight.sign() * (weight.abs() - lr * strength).clamp(min=0) - lr * grad


def hard_threshold(weight, grad, lr, strength):
    moved = weight - lr * grad
    return torch.where(moved.abs() > lr * strength, moved, torch.zeros_like(moved))


def sign_lost(weight, grad, lr, strength):
    moved = weight - lr * grad
    return (moved.abs() - lr * strength).clamp(min=0)


def negative_weights_cut(weight, grad, lr, strength):
    moved = weight - lr * grad
    return (moved - lr * strength).clamp(min=0)


def gradient_forgotten(weight, grad, lr, strength):
    return weight.sign() * (weight.abs() - lr * strength).clamp(min=0)


def uphill(weight, grad, lr, strength):
    moved = weight + lr * grad
    return moved.sign() * (moved.abs() - lr * strength).clamp(min=0)


def gradient_thresholded(weight, grad, lr, strength):
    return weight - lr * grad.sign() * (grad.abs() - strength).clamp(min=0)


def sign_of_the_old_weight(weight, grad, lr, strength):
    moved = weight - lr * grad
    return weight.sign() * (moved.abs() - lr * strength).clamp(min=0)


def shrunk_instead(weight, grad, lr, strength):
    return (weight - lr * grad) / (1 + lr * strength)


def l1_by_clamp(weight, grad, lr, strength):
    moved = weight - lr * grad
    return moved - moved.clamp(-lr * strength, lr * strength)


def l1_by_relu(weight, grad, lr, strength):
    moved, t = weight.sub(grad, alpha=lr), lr * strength
    return (moved - t).relu() - (-moved - t).relu()


def l1_by_where(weight, grad, lr, strength):
    moved, t = weight - lr * grad, lr * strength
    out = torch.zeros_like(moved)
    out = torch.where(moved > t, moved - t, out)
    return torch.where(moved < -t, moved + t, out)


l1_step_exercise = Exercise(
    id="regularization.l1_step",
    lesson=LESSON,
    title="An ℓ1 step that reaches zero",
    answer="l1_step",
    criteria=(
        Criterion("new weight", 2, Close(operations=16)),
        Criterion("weights at exactly 0", 1, requires=("new weight",)),
        Criterion("weight left as it was", 0),
    ),
    cases=l1_cases,
    probe=l1_probe,
    reference=l1_step,
    misconceptions=(
        Misconception(
            "subgradient_step",
            subgradient_step,
            "This is a plain gradient step with λ·sign(w). Near 0 it jumps from one side to the other by lr·λ, for "
            "ever: hardly a weight becomes exactly 0.",
            "Take the gradient step first; then pull each weight towards 0 by lr·λ, and stop at 0.",
        ),
        Misconception(
            "subtracted_past_zero",
            subtracted_past_zero,
            "Small weights are pulled past 0 to the other side. A weight smaller than lr·λ must stop at 0.",
            "Clamp |w| − lr·λ at 0 before you give the sign back.",
        ),
        Misconception(
            "rate_forgotten",
            rate_forgotten,
            "The threshold is λ. It belongs to one step, so it is lr·λ: with a smaller learning rate each step must "
            "pull less.",
            "Multiply the threshold by lr.",
        ),
        Misconception(
            "threshold_before_step",
            threshold_before_step,
            "You pull towards 0 first and take the gradient step afterwards: the step moves what had just become 0.",
            "Gradient step first, threshold last.",
        ),
        Misconception(
            "hard_threshold",
            hard_threshold,
            "Small weights become 0, but the large ones stay as they are: a hard threshold. The ℓ1 penalty pulls large "
            "weights too, by the same lr·λ.",
            "Subtract lr·λ from what is left: sign(w)·(|w| − lr·λ).",
        ),
        Misconception(
            "sign_lost",
            sign_lost,
            "The sizes are right but the signs are lost: negative weights come out positive.",
            "Multiply by the sign of the weight after the gradient step.",
        ),
        Misconception(
            "negative_weights_cut",
            negative_weights_cut,
            "Every negative weight becomes 0. The pull is towards 0 from both sides.",
            "Work with |w|, and give the sign back at the end.",
        ),
        Misconception(
            "sign_of_the_old_weight",
            sign_of_the_old_weight,
            "The sign is that of the weight before the gradient step, which may have crossed 0.",
            "Take sign and size of the same number: the weight after the gradient step.",
        ),
        Misconception(
            "gradient_forgotten",
            gradient_forgotten,
            "The loss's gradient is not used: the weights only shrink.",
            "Start from w − lr·grad.",
        ),
        Misconception(
            "uphill",
            uphill,
            "The step goes up the gradient.",
            "Start from w − lr·grad.",
        ),
        Misconception(
            "gradient_thresholded",
            gradient_thresholded,
            "You shrink the gradient instead of the weight.",
            "Take the whole gradient step, and shrink the weight that comes out.",
        ),
        Misconception(
            "shrunk_instead",
            shrunk_instead,
            "You divide by 1 + lr·λ: that is the step of the ℓ2 penalty. It makes weights smaller in proportion, and "
            "never 0.",
            "Subtract lr·λ from the size of each weight, down to 0.",
        ),
    ),
    variants=(
        Variant("l1_by_clamp", l1_by_clamp),
        Variant("l1_by_relu", l1_by_relu),
        Variant("l1_by_where", l1_by_where),
    ),
    forbidden=("torch.nn.functional.softshrink", "course_lib.regularizers"),
    hints=(
        "Two moves, one after the other: what does the loss ask for, and what does the penalty?",
        "The penalty takes lr·λ off the size of each weight. What if the size is smaller than that?",
        "moved = weight - lr * grad; then moved.sign() * (moved.abs() - lr * strength).clamp(min=0)",
    ),
    minutes=10,
)

# ---------------------------------------------------------------- max-norm


def max_norm_cases(seed):
    """Dense and conv weights, rows above and below the limit, a row of zeros, one unit, all below, ±1e4, float64."""
    rng = np.random.default_rng(seed)

    def case(name, shape, limit, scale=1.0, dtype=np.float32):
        weight = rng.normal(size=shape)
        size = np.sqrt((weight**2).reshape(shape[0], -1).sum(1)).reshape(-1, *[1] * (len(shape) - 1))
        factor = np.where(np.arange(shape[0]) % 2 == 0, rng.uniform(1.3, 4.0), rng.uniform(0.2, 0.8))
        weight = weight / size * limit * scale * factor.reshape(size.shape)
        return Case(name, {"weight": weight.astype(dtype), "limit": limit})

    yield case("6 units of 5 inputs, limit 2", (6, 5), 2.0)
    yield case("5 units of 5 inputs, limit 0.5", (5, 5), 0.5)
    yield case("4 kernels of 3 × 3 × 3, limit 3", (4, 3, 3, 3), 3.0)
    yield case("one unit, limit 1", (1, 7), 1.0)
    zero = case("a unit whose weights are all 0, limit 1.5", (4, 6), 1.5)
    zero["weight"][1] = 0.0
    yield zero
    yield case("all within the limit, limit 4", (4, 3), 4.0, scale=0.1)
    yield case("values around 1e4, limit 3", (6, 4), 3.0, scale=1e4)
    yield case("float64, limit 2.5", (6, 3, 2, 2), 2.5, dtype=np.float64)


def max_norm_probe(candidate, case):
    import torch

    weight = torch.tensor(case["weight"])
    return {"weight": candidate(weight, case["limit"]), "input left as it was": weight}


def max_norm(weight, limit):
    """Each unit's row (all axes but the first) scaled down to norm `limit` where it is above."""
    norm = weight.flatten(1).norm(dim=1).clamp(min=1e-30)
    factor = (limit / norm).clamp(max=1)
    return weight * factor.view(-1, *[1] * (weight.dim() - 1))


def norm_of_the_whole(weight, limit):
    return weight * (limit / weight.norm()).clamp(max=1)


def norm_of_each_input(weight, limit):
    return weight * (limit / weight.norm(dim=0, keepdim=True).clamp(min=1e-30)).clamp(max=1)


def norm_over_inputs_only(weight, limit):
    return weight * (limit / weight.norm(dim=1, keepdim=True).clamp(min=1e-30)).clamp(max=1)


def small_ones_grown(weight, limit):
    norm = weight.flatten(1).norm(dim=1).clamp(min=1e-30)
    return weight * (limit / norm).view(-1, *[1] * (weight.dim() - 1))


def values_clipped(weight, limit):
    return weight.clamp(-limit, limit)


def square_for_norm(weight, limit):
    norm = weight.flatten(1).square().sum(1).clamp(min=1e-30)
    return weight * (limit / norm).clamp(max=1).view(-1, *[1] * (weight.dim() - 1))


def sum_of_sizes(weight, limit):
    norm = weight.flatten(1).abs().sum(1).clamp(min=1e-30)
    return weight * (limit / norm).clamp(max=1).view(-1, *[1] * (weight.dim() - 1))


def largest_value(weight, limit):
    norm = weight.flatten(1).abs().amax(1).clamp(min=1e-30)
    return weight * (limit / norm).clamp(max=1).view(-1, *[1] * (weight.dim() - 1))


def scaled_to_one(weight, limit):
    norm = weight.flatten(1).norm(dim=1).view(-1, *[1] * (weight.dim() - 1))
    return torch.where(norm > limit, weight / norm, weight)


def zero_by_zero(weight, limit):
    norm = weight.flatten(1).norm(dim=1)
    return weight * (norm.clamp(max=limit) / norm).view(-1, *[1] * (weight.dim() - 1))


def written_in_place(weight, limit):
    norm = weight.flatten(1).norm(dim=1).clamp(min=1e-30)
    return weight.mul_((limit / norm).clamp(max=1).view(-1, *[1] * (weight.dim() - 1)))


def max_norm_by_where(weight, limit):
    norm = torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.dim())), keepdim=True)
    return torch.where(norm > limit, weight * limit / norm, weight)


def max_norm_by_loop(weight, limit):
    rows = [row * limit / row.norm() if row.norm() > limit else row for row in weight]
    return torch.stack(rows)


def max_norm_by_sums(weight, limit):
    axes = list(range(1, weight.ndim))
    norm = (weight * weight).sum(axes, keepdim=True) ** 0.5
    return weight / torch.maximum(norm / limit, torch.ones_like(norm))


max_norm_exercise = Exercise(
    id="regularization.max_norm",
    lesson=LESSON,
    title="A limit on each unit's weights",
    answer="max_norm",
    criteria=(Criterion("weight", 2, Close(operations=32)), Criterion("input left as it was", 0)),
    cases=max_norm_cases,
    probe=max_norm_probe,
    reference=max_norm,
    misconceptions=(
        Misconception(
            "norm_of_the_whole",
            norm_of_the_whole,
            "You limit the norm of the whole weight. Each unit has a limit of its own, so a unit within it must not "
            "shrink because of its neighbours.",
            "One norm for each row: over all axes but the first.",
        ),
        Misconception(
            "norm_of_each_input",
            norm_of_each_input,
            "The norms run over the first axis, the units. PyTorch's layout is (out, in): what reaches one unit is a "
            "row. (In Keras, (in, out), it is a column.)",
            "Sum over all axes but the first.",
        ),
        Misconception(
            "norm_over_inputs_only",
            norm_over_inputs_only,
            "In the case “{case}” the norms run over the second axis alone. A conv unit's weights are its whole "
            "kernel, (in, height, width).",
            "Sum over all axes but the first: weight.flatten(1).",
        ),
        Misconception(
            "small_ones_grown",
            small_ones_grown,
            "Every unit is brought to the limit: those below it grow.",
            "Use a factor of at most 1.",
        ),
        Misconception(
            "values_clipped",
            values_clipped,
            "You clip single weights at the limit. That turns the row into another direction, and its norm may still "
            "be above the limit.",
            "Scale the whole row by one factor.",
        ),
        Misconception(
            "square_for_norm",
            square_for_norm,
            "You compare the squared norm with the limit.",
            "Take the root of the sum of squares.",
        ),
        Misconception(
            "sum_of_sizes",
            sum_of_sizes,
            "You limit the sum of absolute values (the ℓ1 norm). Asked is the root of the sum of squares.",
            "Use weight.flatten(1).norm(dim=1).",
        ),
        Misconception(
            "largest_value",
            largest_value,
            "You limit each unit's largest weight.",
            "Use the root of the sum of squares over the row.",
        ),
        Misconception(
            "scaled_to_one",
            scaled_to_one,
            "Units above the limit come out with norm 1 instead of the limit.",
            "Multiply by limit / norm.",
        ),
        Misconception(
            "zero_by_zero",
            zero_by_zero,
            "In the case “{case}” a unit's weights are all 0, and 0/0 gives NaN, which then spreads through the net.",
            "Use min(1, limit / norm), which is 1 where the norm is 0, or divide only where the norm is above the "
            "limit.",
        ),
        Misconception(
            "written_in_place",
            written_in_place,
            "The result is right, but the caller's tensor was overwritten.",
            "Make a new tensor: weight * factor.",
        ),
    ),
    variants=(
        Variant("max_norm_by_where", max_norm_by_where),
        Variant("max_norm_by_loop", max_norm_by_loop),
        Variant("max_norm_by_sums", max_norm_by_sums),
    ),
    forbidden=("torch.renorm", "course_lib.regularizers"),
    hints=(
        "Which axes of a weight (out, in, …) belong to one unit?",
        "By which factor must a row of norm 6 be scaled at a limit of 2? And a row of norm 1?",
        "factor = (limit / weight.flatten(1).norm(dim=1)).clamp(max=1), shaped (out, 1, …).",
    ),
    minutes=8,
)
