"""The gradient by hand: through a dense layer with a sigmoid, and through a residual block."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

LESSON = "01_vanishing_gradients"
BY_HAND = ("torch.autograd.grad", "torch.autograd.backward")

# ---------------------------------------------------------------- a dense layer and its sigmoid


def dense_cases(seed):
    """More inputs than units, fewer, a square layer, one example, units far in the flat part, ±1e4, float64."""
    rng = np.random.default_rng(seed)

    def case(name, n=8, inputs=6, outputs=4, scale=1.0, dtype=np.float32):
        return Case(
            name,
            {
                "x": rng.normal(size=(n, inputs)).astype(dtype),
                "weight": (scale * rng.normal(size=(outputs, inputs))).astype(dtype),
                "bias": rng.normal(size=outputs).astype(dtype),
                "grad_y": rng.normal(size=(n, outputs)).astype(dtype),
            },
        )

    yield case("6 inputs, 4 units")
    yield case("3 inputs, 7 units", inputs=3, outputs=7)
    yield case("square layer of 5", inputs=5, outputs=5)
    yield case("square layer and batch of 4", n=4, inputs=4, outputs=4)
    yield case("one example", n=1)
    yield case("small weights", scale=0.01)
    flat = case("two units at ±1e4")
    flat["bias"][:2] = [1e4, -1e4]
    yield flat
    yield case("float64, large weights", n=20, inputs=9, outputs=3, scale=2.0, dtype=np.float64)


def dense_probe(candidate, case):
    import torch

    tensors = [torch.tensor(case[name]) for name in ("x", "weight", "bias", "grad_y")]
    grad_x, grad_weight, grad_bias = candidate(*tensors)
    return {"grad_x": grad_x, "grad_weight": grad_weight, "grad_bias": grad_bias}


def dense_sigmoid_backward(x, weight, bias, grad_y):
    """(grad_x, grad_weight, grad_bias) of y = sigmoid(x Wᵀ + b): x (N, in), weight (out, in), grad_y (N, out)."""
    y = torch.sigmoid(x @ weight.T + bias)
    grad_z = grad_y * y * (1 - y)
    return grad_z @ weight, grad_z.T @ x, grad_z.sum(0)


def slope_forgotten(x, weight, bias, grad_y):
    return grad_y @ weight, grad_y.T @ x, grad_y.sum(0)


def slope_at_the_output(x, weight, bias, grad_y):
    y = torch.sigmoid(x @ weight.T + bias)
    grad_z = grad_y * torch.sigmoid(y) * (1 - torch.sigmoid(y))
    return grad_z @ weight, grad_z.T @ x, grad_z.sum(0)


def slope_of_tanh(x, weight, bias, grad_y):
    y = torch.sigmoid(x @ weight.T + bias)
    grad_z = grad_y * (1 - y**2)
    return grad_z @ weight, grad_z.T @ x, grad_z.sum(0)


def output_for_slope(x, weight, bias, grad_y):
    y = torch.sigmoid(x @ weight.T + bias)
    grad_z = grad_y * y
    return grad_z @ weight, grad_z.T @ x, grad_z.sum(0)


def slope_of_z_itself(x, weight, bias, grad_y):
    z = x @ weight.T + bias
    grad_z = grad_y * z * (1 - z)
    return grad_z @ weight, grad_z.T @ x, grad_z.sum(0)


def bias_left_out(x, weight, bias, grad_y):
    y = torch.sigmoid(x @ weight.T)
    grad_z = grad_y * y * (1 - y)
    return grad_z @ weight, grad_z.T @ x, grad_z.sum(0)


def mean_over_the_batch(x, weight, bias, grad_y):
    y = torch.sigmoid(x @ weight.T + bias)
    grad_z = grad_y * y * (1 - y)
    return grad_z @ weight, grad_z.T @ x / len(x), grad_z.mean(0)


def bias_not_summed(x, weight, bias, grad_y):
    y = torch.sigmoid(x @ weight.T + bias)
    grad_z = grad_y * y * (1 - y)
    return grad_z @ weight, grad_z.T @ x, grad_z


def bias_summed_over_units(x, weight, bias, grad_y):
    y = torch.sigmoid(x @ weight.T + bias)
    grad_z = grad_y * y * (1 - y)
    return grad_z @ weight, grad_z.T @ x, grad_z.sum(1)


def weight_gradient_transposed(x, weight, bias, grad_y):
    y = torch.sigmoid(x @ weight.T + bias)
    grad_z = grad_y * y * (1 - y)
    return grad_z @ weight, x.T @ grad_z, grad_z.sum(0)


def weight_transposed_on_the_way_back(x, weight, bias, grad_y):
    y = torch.sigmoid(x @ weight.T + bias)
    grad_z = grad_y * y * (1 - y)
    return grad_z @ weight.T, grad_z.T @ x, grad_z.sum(0)


def slope_only_for_the_weights(x, weight, bias, grad_y):
    y = torch.sigmoid(x @ weight.T + bias)
    grad_z = grad_y * y * (1 - y)
    return grad_y @ weight, grad_z.T @ x, grad_z.sum(0)


def sigmoid_overflows(x, weight, bias, grad_y):
    z = x @ weight.T + bias
    y = z.exp() / (1 + z.exp())
    grad_z = grad_y * y * (1 - y)
    return grad_z @ weight, grad_z.T @ x, grad_z.sum(0)


def dense_by_einsum(x, weight, bias, grad_y):
    z = F.linear(x, weight, bias)
    delta = grad_y * torch.sigmoid(z) * torch.sigmoid(-z)
    return torch.einsum("no,oi->ni", delta, weight), torch.einsum("no,ni->oi", delta, x), delta.sum(dim=0)


def dense_by_examples(x, weight, bias, grad_y):
    grad_x, grad_weight, grad_bias = torch.zeros_like(x), torch.zeros_like(weight), torch.zeros_like(bias)
    for n in range(len(x)):
        y = 1 / (1 + torch.exp(-(weight @ x[n] + bias)))
        delta = grad_y[n] * (y - y**2)
        grad_x[n] = weight.T @ delta
        grad_weight += torch.outer(delta, x[n])
        grad_bias += delta
    return grad_x, grad_weight, grad_bias


def dense_by_tanh(x, weight, bias, grad_y):
    t = torch.tanh((x @ weight.T + bias) / 2)
    delta = (1 - t * t) / 4 * grad_y
    return delta.mm(weight), delta.t().mm(x), torch.ones(len(x), dtype=x.dtype) @ delta


def dense_in_float64(x, weight, bias, grad_y):
    x64, w64, b64, g64 = (t.double() for t in (x, weight, bias, grad_y))
    y = torch.sigmoid(x64 @ w64.T + b64)
    delta = g64 * y * (1 - y)
    return (delta @ w64).to(x.dtype), (delta.T @ x64).to(x.dtype), delta.sum(0).to(x.dtype)


dense_sigmoid_backward_exercise = Exercise(
    id="vanishing_gradients.dense_sigmoid_backward",
    lesson=LESSON,
    title="The gradient through a dense layer and its sigmoid",
    answer="dense_sigmoid_backward",
    criteria=(
        Criterion("grad_x", 1, Close(operations=64)),
        Criterion("grad_weight", 1, Close(operations=64)),
        Criterion("grad_bias", 1, Close(operations=64)),
    ),
    cases=dense_cases,
    probe=dense_probe,
    reference=dense_sigmoid_backward,
    misconceptions=(
        Misconception(
            "slope_forgotten",
            slope_forgotten,
            "The sigmoid's slope is missing: these are the gradients of a layer without an activation.",
            "Multiply grad_y by y (1 − y) first; all three gradients start from that product.",
        ),
        Misconception(
            "slope_at_the_output",
            slope_at_the_output,
            "You take the slope at y instead of at z: the sigmoid is applied twice. The slope at z is y (1 − y), "
            "where y is already σ(z).",
            "Use y (1 − y) with y = σ(z).",
        ),
        Misconception(
            "slope_of_tanh",
            slope_of_tanh,
            "1 − y² is the slope of tanh. The sigmoid's is y (1 − y), at most 1/4.",
            "Use y (1 − y).",
        ),
        Misconception(
            "output_for_slope",
            output_for_slope,
            "You multiply by the output y where the slope belongs: near y = 1 the sigmoid is flat, and hardly any "
            "gradient may pass.",
            "The slope is y (1 − y).",
        ),
        Misconception(
            "slope_of_z_itself",
            slope_of_z_itself,
            "You compute z (1 − z). The formula wants the sigmoid's output: y (1 − y) with y = σ(z).",
            "Apply torch.sigmoid to z first.",
        ),
        Misconception(
            "bias_left_out",
            bias_left_out,
            "The slope is taken at x Wᵀ, without the bias: the units stand elsewhere on the sigmoid than in the "
            "forward pass.",
            "Compute z = x Wᵀ + b.",
        ),
        Misconception(
            "mean_over_the_batch",
            mean_over_the_batch,
            "You average over the examples in the gradients of weight and bias. If the loss is a mean, the factor 1/N "
            "is in grad_y already: here the examples add up.",
            "Sum over the batch, do not divide.",
        ),
        Misconception(
            "bias_not_summed",
            bias_not_summed,
            "Your gradient of the bias has a row for each example. All examples share the one bias, so their gradients "
            "add up.",
            "Sum over the batch: axis 0.",
        ),
        Misconception(
            "bias_summed_over_units",
            bias_summed_over_units,
            "You sum the gradient of the bias over the units; what comes out has an entry for each example.",
            "There is one bias a unit: sum over the examples, axis 0.",
        ),
        Misconception(
            "weight_gradient_transposed",
            weight_gradient_transposed,
            "Your gradient of the weight is transposed, (in, out). It must have the weight's own shape, (out, in).",
            "Swap the factors: (grad_y · slope)ᵀ x.",
        ),
        Misconception(
            "weight_transposed_on_the_way_back",
            weight_transposed_on_the_way_back,
            "On the way back you multiply by Wᵀ, as on the way forward. Going forward x is multiplied by Wᵀ, so going "
            "back the gradient is multiplied by W. In a square layer the shapes do not tell you.",
            "grad_x = (grad_y · slope) W.",
        ),
        Misconception(
            "slope_only_for_the_weights",
            slope_only_for_the_weights,
            "Weight and bias are right, but the gradient that goes on to the layer below passes the sigmoid too: the "
            "slope is missing in grad_x. This is the very factor that makes gradients vanish.",
            "Start all three from grad_y · y (1 − y).",
        ),
        Misconception(
            "sigmoid_overflows",
            sigmoid_overflows,
            "In the case “{case}” your sigmoid is NaN: eᶻ is infinite for a large z, and ∞/∞ is no number.",
            "Use torch.sigmoid, or 1 / (1 + e⁻ᶻ).",
        ),
    ),
    variants=(
        Variant("dense_by_einsum", dense_by_einsum),
        Variant("dense_by_examples", dense_by_examples),
        Variant("dense_by_tanh", dense_by_tanh),
        Variant("dense_in_float64", dense_in_float64),
    ),
    forbidden=BY_HAND,
    hints=(
        "Go back step by step: first through the sigmoid, then through z = x Wᵀ + b. What is the gradient at z?",
        "grad_z = grad_y · y (1 − y), of shape (N, out). Each result has the shape of what it is the gradient of: "
        "which product gives (N, in), which (out, in)?",
        "grad_x = grad_z W, grad_weight = grad_zᵀ x, grad_bias = the sum of grad_z over the examples.",
    ),
    minutes=15,
)

# ---------------------------------------------------------------- a residual block


def residual_cases(seed):
    """A branch wider and narrower than x, square matrices, one example, a silent branch, a saturated one, float64."""
    rng = np.random.default_rng(seed)

    def case(name, n=6, features=5, hidden=8, scale=1.0, dtype=np.float32):
        return Case(
            name,
            {
                "x": rng.normal(size=(n, features)).astype(dtype),
                "w1": (scale * rng.normal(size=(hidden, features))).astype(dtype),
                "w2": rng.normal(size=(features, hidden)).astype(dtype),
                "grad_y": rng.normal(size=(n, features)).astype(dtype),
            },
        )

    yield case("5 features, 8 hidden units")
    yield case("5 features, 3 hidden units", hidden=3)
    yield case("square matrices of 5", hidden=5)
    yield case("one example", n=1)
    silent = case("the branch adds nothing (W₂ = 0)")
    silent["w2"][:] = 0
    yield silent
    yield case("the branch is saturated", scale=30.0)
    yield case("float64", n=12, features=7, hidden=4, dtype=np.float64)


def residual_probe(candidate, case):
    import torch

    y, grad_x = candidate(*(torch.tensor(case[name]) for name in ("x", "w1", "w2", "grad_y")))
    return {"y": y, "grad_x": grad_x}


def residual_block(x, w1, w2, grad_y):
    """(y, grad_x) of y = x + σ(x W₁ᵀ) W₂ᵀ: x (N, n), w1 (hidden, n), w2 (n, hidden), grad_y (N, n)."""
    h = torch.sigmoid(x @ w1.T)
    return x + h @ w2.T, grad_y + (grad_y @ w2 * h * (1 - h)) @ w1


def skip_forgotten_on_the_way_back(x, w1, w2, grad_y):
    h = torch.sigmoid(x @ w1.T)
    return x + h @ w2.T, (grad_y @ w2 * h * (1 - h)) @ w1


def no_skip_at_all(x, w1, w2, grad_y):
    h = torch.sigmoid(x @ w1.T)
    return h @ w2.T, (grad_y @ w2 * h * (1 - h)) @ w1


def branch_forgotten_on_the_way_back(x, w1, w2, grad_y):
    h = torch.sigmoid(x @ w1.T)
    return x + h @ w2.T, grad_y


def one_for_the_skip(x, w1, w2, grad_y):
    h = torch.sigmoid(x @ w1.T)
    return x + h @ w2.T, 1 + (grad_y @ w2 * h * (1 - h)) @ w1


def halved(x, w1, w2, grad_y):
    h = torch.sigmoid(x @ w1.T)
    return x + h @ w2.T, (grad_y + (grad_y @ w2 * h * (1 - h)) @ w1) / 2


def input_added_to_the_gradient(x, w1, w2, grad_y):
    h = torch.sigmoid(x @ w1.T)
    return x + h @ w2.T, x + (grad_y @ w2 * h * (1 - h)) @ w1


def slope_missing(x, w1, w2, grad_y):
    h = torch.sigmoid(x @ w1.T)
    return x + h @ w2.T, grad_y + (grad_y @ w2) @ w1


def slope_twice_sigmoid(x, w1, w2, grad_y):
    h = torch.sigmoid(x @ w1.T)
    s = torch.sigmoid(h)
    return x + h @ w2.T, grad_y + (grad_y @ w2 * s * (1 - s)) @ w1


def multiplied_not_added(x, w1, w2, grad_y):
    h = torch.sigmoid(x @ w1.T)
    f = h @ w2.T
    return x * f, grad_y * f + ((grad_y * x) @ w2 * h * (1 - h)) @ w1


def skip_inside_the_sigmoid(x, w1, w2, grad_y):
    h = torch.sigmoid(x @ w1.T)
    y = torch.sigmoid(x + h @ w2.T)
    g = grad_y * y * (1 - y)
    return y, g + (g @ w2 * h * (1 - h)) @ w1


def weights_swapped(x, w1, w2, grad_y):
    h = torch.sigmoid(x @ w1.T)
    return x + h @ w2.T, grad_y + (grad_y @ w1.T * h * (1 - h)) @ w2.T


def residual_by_parts(x, w1, w2, grad_y):
    z = F.linear(x, w1)
    h = z.sigmoid()
    grad_h = grad_y.mm(w2)
    grad_z = grad_h.mul(h.mul(1 - h))
    return torch.add(x, F.linear(h, w2)), torch.add(grad_y, grad_z.mm(w1))


def residual_by_jacobian(x, w1, w2, grad_y):
    h = torch.sigmoid(x @ w1.T)
    jacobian = torch.einsum("ah,nh,hb->nab", w2, h - h * h, w1)
    eye = torch.eye(x.shape[1], dtype=x.dtype)
    return x + h @ w2.T, torch.einsum("na,nab->nb", grad_y, eye + jacobian)


def residual_by_examples(x, w1, w2, grad_y):
    outputs, gradients = [], []
    for example, g in zip(x, grad_y, strict=True):
        h = 1 / (1 + (-(w1 @ example)).exp())
        outputs.append(example + w2 @ h)
        gradients.append(g + w1.T @ (w2.T @ g * h * (1 - h)))
    return torch.stack(outputs), torch.stack(gradients)


residual_block_exercise = Exercise(
    id="vanishing_gradients.residual_block",
    lesson=LESSON,
    title="The gradient through a residual block",
    answer="residual_block",
    criteria=(
        Criterion("y", 1, Close(operations=64)),
        Criterion("grad_x", 2, Close(operations=64)),
    ),
    cases=residual_cases,
    probe=residual_probe,
    reference=residual_block,
    misconceptions=(
        Misconception(
            "skip_forgotten_on_the_way_back",
            skip_forgotten_on_the_way_back,
            "The output is right, but the gradient comes through the branch alone. x goes two ways to y, so its "
            "gradient comes back on two ways: this second way is the whole point of the block.",
            "Add grad_y, which the skip hands back unchanged.",
        ),
        Misconception(
            "no_skip_at_all",
            no_skip_at_all,
            "The skip is missing, forward and backward: this is a plain two-layer block, and with W₂ = 0 nothing "
            "would come through.",
            "y = x + branch, and the gradient gets grad_y added too.",
        ),
        Misconception(
            "branch_forgotten_on_the_way_back",
            branch_forgotten_on_the_way_back,
            "You hand grad_y back unchanged. That is the skip's part; x went through the branch as well.",
            "Add what comes back through W₂, the sigmoid and W₁.",
        ),
        Misconception(
            "one_for_the_skip",
            one_for_the_skip,
            "You add 1 for the skip. Its derivative is 1, but the chain rule multiplies it by grad_y: what is handed "
            "back is grad_y itself.",
            "Add grad_y instead of 1.",
        ),
        Misconception(
            "halved",
            halved,
            "Your gradient is {ratio:.2f} × the right one: you average the two ways. Where a value is used twice, its "
            "gradients add up.",
            "Leave the division out.",
        ),
        Misconception(
            "input_added_to_the_gradient",
            input_added_to_the_gradient,
            "You add x on the way back. Forward the skip carries x; backward it carries the gradient.",
            "Add grad_y.",
        ),
        Misconception(
            "slope_missing",
            slope_missing,
            "The branch's sigmoid is passed over on the way back: its slope h (1 − h) is missing.",
            "Multiply grad_y W₂ by h (1 − h) before you multiply by W₁.",
        ),
        Misconception(
            "slope_twice_sigmoid",
            slope_twice_sigmoid,
            "You take the sigmoid's slope at h, its output. The slope at z is h (1 − h).",
            "Use h (1 − h) with h = σ(x W₁ᵀ).",
        ),
        Misconception(
            "multiplied_not_added",
            multiplied_not_added,
            "You multiply x by the branch (a gate). A residual block adds.",
            "y = x + σ(x W₁ᵀ) W₂ᵀ.",
        ),
        Misconception(
            "skip_inside_the_sigmoid",
            skip_inside_the_sigmoid,
            "You put a sigmoid around the sum. Then the skip passes it too, and the gradient is multiplied by at most "
            "1/4 in each block again.",
            "Leave the sum as it is: y = x + branch.",
        ),
        Misconception(
            "weights_swapped",
            weights_swapped,
            "On the way back the two matrices are in the order of the forward pass. Back, the last one comes first: "
            "W₂, then the sigmoid, then W₁.",
            "(grad_y W₂ · slope) W₁.",
        ),
    ),
    variants=(
        Variant("residual_by_parts", residual_by_parts),
        Variant("residual_by_jacobian", residual_by_jacobian),
        Variant("residual_by_examples", residual_by_examples),
    ),
    forbidden=BY_HAND,
    hints=(
        "On how many ways does x reach y? The gradient comes back on each of them, and they add up.",
        "The skip hands grad_y back unchanged. The branch is two matrix products with a sigmoid between: you have "
        "written that already.",
        "grad_x = grad_y + ((grad_y W₂) · h (1 − h)) W₁.",
    ),
    minutes=10,
)
