"""The variance recursion: the signal's size layer by layer and the gradient's on its way back, predicted and measured.

Both probes compare logarithms: a deep net's sizes span many powers of ten, and each of them counts.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional as F

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

# ---------------------------------------------------------------- predicted


def predicted_cases(seed):
    """ReLU, linear and leaky nets; widths that differ; one layer; fifty layers; uneven draws."""
    rng = np.random.default_rng(seed)

    def case(name, sizes, slope, spread, moment=1.0):
        variances = rng.uniform(1 - spread, 1 + spread, len(sizes) - 1) * 2 / np.array(sizes[:-1])
        inputs = {"sizes": np.array(sizes), "weight_variances": variances, "slope": slope}
        return Case(name, {**inputs, "input_moment": moment, "gradient_moment": float(rng.uniform(0.5, 2.0))})

    yield case("ReLU, 20 → 50 → 10 → 5", (20, 50, 10, 5), 0.0, 0.2)
    yield case("linear, 20 → 7 → 30", (20, 7, 30), 1.0, 0.5, moment=3.0)
    yield case("slope 0.3, 8 → 16 → 32 → 4", (8, 16, 32, 4), 0.3, 0.3, moment=0.4)
    yield case("one layer, 12 → 6", (12, 6), 0.0, 0.5, moment=2.0)
    yield case("fifty ReLU layers", (64, *rng.integers(20, 90, 49).tolist(), 10), 0.0, 0.3)
    yield case("slope −0.5, 30 → 30 → 30", (30, 30, 30), -0.5, 0.2)


def predicted_probe(candidate, case):
    import torch

    sizes = [int(n) for n in case["sizes"]]
    forward, backward = candidate(
        sizes, case["weight_variances"].tolist(), case["slope"], case["input_moment"], case["gradient_moment"]
    )
    return {
        name: torch.as_tensor(values, dtype=torch.float64).log().to(torch.float32)
        for name, values in (("forward", forward), ("backward", backward))
    }


def variances(sizes, weight_variances, slope, input_moment, gradient_moment):
    """(forward, backward): Var(z) of each layer, and the gradient's mean square at each layer's z, L numbers each."""
    kept = (1 + slope**2) / 2
    forward, moment = [], input_moment
    for fan_in, variance in zip(sizes, weight_variances, strict=False):
        forward.append(fan_in * variance * moment)
        moment = kept * forward[-1]
    backward = [gradient_moment]
    for fan_out, variance in zip(sizes[:1:-1], weight_variances[:0:-1], strict=True):
        backward.insert(0, kept * fan_out * variance * backward[0])
    return forward, backward


def bend_forgotten(sizes, weight_variances, slope, input_moment, gradient_moment):
    forward, backward = [], [gradient_moment]
    moment = input_moment
    for n, v in zip(sizes[:-1], weight_variances, strict=True):
        moment = n * v * moment
        forward.append(moment)
    for n, v in zip(reversed(sizes[2:]), reversed(weight_variances[1:]), strict=True):
        backward.insert(0, n * v * backward[0])
    return forward, backward


def bend_of_the_input(sizes, weight_variances, slope, input_moment, gradient_moment):
    kept = (1 + slope**2) / 2
    forward, backward = [], [gradient_moment]
    moment = input_moment
    for n, v in zip(sizes[:-1], weight_variances, strict=True):
        moment = kept * n * v * moment
        forward.append(moment)
    for n, v in zip(reversed(sizes[2:]), reversed(weight_variances[1:]), strict=True):
        backward.insert(0, kept * n * v * backward[0])
    return forward, backward


def fan_out_forward(sizes, weight_variances, slope, input_moment, gradient_moment):
    kept = (1 + slope**2) / 2
    forward, backward = [], [gradient_moment]
    moment = input_moment
    for n, v in zip(sizes[1:], weight_variances, strict=True):
        forward.append(n * v * moment)
        moment = kept * forward[-1]
    for n, v in zip(reversed(sizes[2:]), reversed(weight_variances[1:]), strict=True):
        backward.insert(0, kept * n * v * backward[0])
    return forward, backward


def fan_in_backward(sizes, weight_variances, slope, input_moment, gradient_moment):
    kept = (1 + slope**2) / 2
    forward, backward = [], [gradient_moment]
    moment = input_moment
    for n, v in zip(sizes[:-1], weight_variances, strict=True):
        forward.append(n * v * moment)
        moment = kept * forward[-1]
    for n, v in zip(reversed(sizes[1:-1]), reversed(weight_variances[1:]), strict=True):
        backward.insert(0, kept * n * v * backward[0])
    return forward, backward


def slope_as_it_is(sizes, weight_variances, slope, input_moment, gradient_moment):
    kept = (1 + abs(slope)) / 2
    forward, backward = [], [gradient_moment]
    moment = input_moment
    for n, v in zip(sizes[:-1], weight_variances, strict=True):
        forward.append(n * v * moment)
        moment = kept * forward[-1]
    for n, v in zip(reversed(sizes[2:]), reversed(weight_variances[1:]), strict=True):
        backward.insert(0, kept * n * v * backward[0])
    return forward, backward


def variance_squared(sizes, weight_variances, slope, input_moment, gradient_moment):
    kept = (1 + slope**2) / 2
    forward, backward = [], [gradient_moment]
    moment = input_moment
    for n, v in zip(sizes[:-1], weight_variances, strict=True):
        forward.append(n * v**2 * moment)
        moment = kept * forward[-1]
    for n, v in zip(reversed(sizes[2:]), reversed(weight_variances[1:]), strict=True):
        backward.insert(0, kept * n * v**2 * backward[0])
    return forward, backward


def own_layer_backward(sizes, weight_variances, slope, input_moment, gradient_moment):
    kept = (1 + slope**2) / 2
    forward, backward = [], []
    moment = input_moment
    for n, v in zip(sizes[:-1], weight_variances, strict=True):
        forward.append(n * v * moment)
        moment = kept * forward[-1]
    gradient = gradient_moment
    for n, v in zip(reversed(sizes[1:]), reversed(weight_variances), strict=True):
        gradient = kept * n * v * gradient
        backward.insert(0, gradient)
    return forward, backward


def backward_from_the_end(sizes, weight_variances, slope, input_moment, gradient_moment):
    kept = (1 + slope**2) / 2
    forward, backward = [], [gradient_moment]
    moment = input_moment
    for n, v in zip(sizes[:-1], weight_variances, strict=True):
        forward.append(n * v * moment)
        moment = kept * forward[-1]
    for n, v in zip(reversed(sizes[2:]), reversed(weight_variances[1:]), strict=True):
        backward.append(kept * n * v * backward[-1])
    return forward, backward


def after_the_activation(sizes, weight_variances, slope, input_moment, gradient_moment):
    kept = (1 + slope**2) / 2
    forward, backward = [], [gradient_moment]
    moment = input_moment
    for k, (n, v) in enumerate(zip(sizes[:-1], weight_variances, strict=True)):
        moment = n * v * moment * (kept if k < len(weight_variances) - 1 else 1)
        forward.append(moment)
    for n, v in zip(reversed(sizes[2:]), reversed(weight_variances[1:]), strict=True):
        backward.insert(0, kept * n * v * backward[0])
    return forward, backward


def variances_by_cumprod(sizes, weight_variances, slope, input_moment, gradient_moment):
    n, v = np.array(sizes, float), np.array(weight_variances)
    kept = (1 + slope**2) / 2
    forward = n[:-1] * v
    forward[1:] *= kept
    backward = kept * n[2:] * v[1:]
    return (
        input_moment * np.cumprod(forward),
        gradient_moment * np.append(np.cumprod(backward[::-1])[::-1], 1.0),
    )


def variances_by_logarithms(sizes, weight_variances, slope, input_moment, gradient_moment):
    n, v = torch.tensor(sizes, dtype=torch.float64), torch.tensor(weight_variances, dtype=torch.float64)
    bend = torch.tensor((1 + slope**2) / 2, dtype=torch.float64).log()
    steps = (n[:-1] * v).log()
    steps[1:] += bend
    back = (n[2:] * v[1:]).log() + bend
    back = torch.cat([back, back.new_zeros(1)]).flip(0)
    back = torch.cat([back[:1], back[1:].cumsum(0)]).flip(0)
    return input_moment * steps.cumsum(0).exp(), gradient_moment * back.exp()


def variances_by_recursion(sizes, weight_variances, slope, input_moment, gradient_moment):
    kept = 0.5 * (1 + slope * slope)
    layers = len(weight_variances)

    def at(layer):
        below = input_moment if layer == 0 else kept * at(layer - 1)
        return sizes[layer] * weight_variances[layer] * below

    def back(layer):
        if layer == layers - 1:
            return gradient_moment
        return kept * sizes[layer + 2] * weight_variances[layer + 1] * back(layer + 1)

    return [at(k) for k in range(layers)], [back(k) for k in range(layers)]


predicted_exercise = Exercise(
    id="initialization.variances",
    lesson="02_initialization",
    title="The variance recursion, forward and backward",
    answer="variances",
    criteria=(
        Criterion("forward", 1, Close(operations=64, scale=1.0)),
        Criterion("backward", 1, Close(operations=64, scale=1.0)),
    ),
    cases=predicted_cases,
    probe=predicted_probe,
    reference=variances,
    misconceptions=(
        Misconception(
            "bend_forgotten",
            bend_forgotten,
            "You leave the activation out: between two layers the mean square is multiplied by (1 + slope²) / 2, which "
            "is ½ for ReLU.",
            "Multiply by it once between each two layers, on the way there and on the way back.",
        ),
        Misconception(
            "bend_of_the_input",
            bend_of_the_input,
            "The first layer's input is halved too. Nothing bends the data: the activation stands between layers.",
            "Start with input_moment as it is, and apply the factor from the second layer on.",
        ),
        Misconception(
            "fan_out_forward",
            fan_out_forward,
            "Forward you multiply by the layer's number of outputs. A unit sums over its inputs.",
            "Layer k has sizes[k] inputs (counting from 0) and sizes[k + 1] outputs.",
        ),
        Misconception(
            "fan_in_backward",
            fan_in_backward,
            "Backward you multiply by the layer's number of inputs. A gradient comes back from each output that the "
            "unit feeds: there are fan_out of them.",
            "On the way from layer k + 1 to layer k the sum runs over sizes[k + 2] gradients.",
        ),
        Misconception(
            "slope_as_it_is",
            slope_as_it_is,
            "The slope enters as it is. Mean squares take its square.",
            "(1 + slope²) / 2.",
        ),
        Misconception(
            "variance_squared",
            variance_squared,
            "You square the weights' variance: it is a square already.",
            "fan · variance · mean square.",
        ),
        Misconception(
            "own_layer_backward",
            own_layer_backward,
            "Your backward numbers are one layer too far: each already includes the way through its own weights. The "
            "gradient at the last z is gradient_moment itself.",
            "From z of layer k + 1 to z of layer k the way leads through the weights of layer k + 1 and one "
            "activation.",
        ),
        Misconception(
            "backward_from_the_end",
            backward_from_the_end,
            "Your backward list begins at the last layer. Both lists are asked for in the order of the layers.",
            "Turn it round.",
        ),
        Misconception(
            "after_the_activation",
            after_the_activation,
            "Your forward numbers are taken after the activation. Asked is z, before it.",
            "Keep n · v · moment, and only then apply the activation's factor for the next layer.",
        ),
    ),
    variants=(
        Variant("variances_by_cumprod", variances_by_cumprod),
        Variant("variances_by_logarithms", variances_by_logarithms),
        Variant("variances_by_recursion", variances_by_recursion),
    ),
    hints=(
        "One unit: z is the sum of fan_in products of a weight and an input. What is the variance of the sum?",
        "Var(z) = fan_in · Var(w) · E[x²], and E[x²] of the next layer is (1 + slope²)/2 · Var(z). Backward the same "
        "with fan_out.",
        "backward[k] = (1 + slope²)/2 · sizes[k + 2] · weight_variances[k + 1] · backward[k + 1], from the end; "
        "backward[-1] = gradient_moment.",
    ),
    minutes=15,
)

# ---------------------------------------------------------------- measured


def measured_cases(seed):
    """A dense stack given by its weights: ReLU, leaky and linear; one row; square layers; large and small weights."""
    rng = np.random.default_rng(seed)

    def case(name, sizes, slope, rows=32, scale=1.0, dtype=np.float32):
        inputs = {"layers": len(sizes) - 1, "slope": slope}
        for k, (n_in, n_out) in enumerate(pairwise(sizes)):
            inputs[f"weight {k}"] = (rng.normal(size=(n_out, n_in)) * scale * np.sqrt(2 / n_in)).astype(dtype)
        inputs["x"] = rng.normal(0.5, 1.0, (rows, sizes[0])).astype(dtype)
        inputs["gradient"] = rng.normal(size=(rows, sizes[-1])).astype(dtype)
        return Case(name, inputs)

    yield case("ReLU, 20 → 50 → 10 → 5", (20, 50, 10, 5), 0.0)
    yield case("slope 0.3, 8 → 16 → 16 → 4", (8, 16, 16, 4), 0.3)
    yield case("linear, 6 → 6 → 6", (6, 6, 6), 1.0)
    yield case("one row", (12, 40, 30, 7), 0.1, rows=1)
    yield case("twelve layers, weights a third as large", (24,) * 13, 0.2, scale=0.33)
    yield case("one layer, float64", (9, 4), 0.0, dtype=np.float64)


def measured_probe(candidate, case):
    import torch

    weights = [torch.tensor(case[f"weight {k}"]) for k in range(case["layers"])]
    forward, backward = candidate(weights, torch.tensor(case["x"]), torch.tensor(case["gradient"]), case["slope"])
    named = (("forward", forward), ("backward", backward))
    outputs = {}
    for name, values in named:
        values = torch.stack([torch.as_tensor(v, dtype=torch.float64).detach() for v in values])
        outputs[name] = values.log().to(torch.float32)
    return outputs


def measure(weights, x, gradient, slope):
    """(forward, backward): the mean squares of each layer's z, and of the gradient at it, of Σ gradient · z_L."""
    z, h = [], x
    for k, weight in enumerate(weights):
        z.append((h @ weight.T).detach().requires_grad_() if k == 0 else h @ weight.T)
        h = F.leaky_relu(z[-1], slope)
    gradients = torch.autograd.grad((z[-1] * gradient).sum(), z)
    return [a.detach().square().mean() for a in z], [g.square().mean() for g in gradients]


def after_leaky_relu(weights, x, gradient, slope):
    h, kept, shown = x.clone().requires_grad_(), [], []
    for k, weight in enumerate(weights):
        z = h @ weight.T
        h = F.leaky_relu(z, slope) if k < len(weights) - 1 else z
        kept.append(z)
        shown.append(h)
    gradients = torch.autograd.grad((kept[-1] * gradient).sum(), kept)
    return [a.detach().square().mean() for a in shown], [g.square().mean() for g in gradients]


def gradient_after_leaky_relu(weights, x, gradient, slope):
    h, kept, shown = x.clone().requires_grad_(), [], []
    for k, weight in enumerate(weights):
        z = h @ weight.T
        h = F.leaky_relu(z, slope) if k < len(weights) - 1 else z
        kept.append(z)
        shown.append(h)
    gradients = torch.autograd.grad((shown[-1] * gradient).sum(), shown)
    return [a.detach().square().mean() for a in kept], [g.square().mean() for g in gradients]


def bent_at_the_end(weights, x, gradient, slope):
    h, kept = x.clone().requires_grad_(), []
    for weight in weights:
        kept.append(h @ weight.T)
        h = F.leaky_relu(kept[-1], slope)
    gradients = torch.autograd.grad((h * gradient).sum(), kept)
    return [a.detach().square().mean() for a in kept], [g.square().mean() for g in gradients]


def centred_variance(weights, x, gradient, slope):
    h, kept = x.clone().requires_grad_(), []
    for weight in weights:
        kept.append(h @ weight.T)
        h = F.leaky_relu(kept[-1], slope)
    gradients = torch.autograd.grad((kept[-1] * gradient).sum(), kept)
    return [a.detach().var(correction=0) for a in kept], [g.var(correction=0) for g in gradients]


def root_mean_square(weights, x, gradient, slope):
    h, kept = x.clone().requires_grad_(), []
    for weight in weights:
        kept.append(h @ weight.T)
        h = F.leaky_relu(kept[-1], slope)
    gradients = torch.autograd.grad((kept[-1] * gradient).sum(), kept)
    return [a.detach().square().mean().sqrt() for a in kept], [g.square().mean().sqrt() for g in gradients]


def sum_of_squares(weights, x, gradient, slope):
    h, kept = x.clone().requires_grad_(), []
    for weight in weights:
        kept.append(h @ weight.T)
        h = F.leaky_relu(kept[-1], slope)
    gradients = torch.autograd.grad((kept[-1] * gradient).sum(), kept)
    return [a.detach().square().sum() for a in kept], [g.square().sum() for g in gradients]


def gradient_of_the_weights(weights, x, gradient, slope):
    weights = [w.clone().requires_grad_() for w in weights]
    h, kept = x, []
    for weight in weights:
        kept.append(h @ weight.T)
        h = F.leaky_relu(kept[-1], slope)
    gradients = torch.autograd.grad((kept[-1] * gradient).sum(), weights)
    return [a.detach().square().mean() for a in kept], [g.square().mean() for g in gradients]


def relu_whatever_the_slope(weights, x, gradient, slope):
    h, kept = x.clone().requires_grad_(), []
    for weight in weights:
        kept.append(h @ weight.T)
        h = kept[-1].relu()
    gradients = torch.autograd.grad((kept[-1] * gradient).sum(), kept)
    return [a.detach().square().mean() for a in kept], [g.square().mean() for g in gradients]


def plain_sum_at_the_end(weights, x, gradient, slope):
    h, kept = x.clone().requires_grad_(), []
    for weight in weights:
        kept.append(h @ weight.T)
        h = F.leaky_relu(kept[-1], slope)
    gradients = torch.autograd.grad(kept[-1].sum(), kept)
    return [a.detach().square().mean() for a in kept], [g.square().mean() for g in gradients]


def slope_left_out_backward(weights, x, gradient, slope):
    h, kept = x, []
    for weight in weights:
        kept.append(h @ weight.T)
        h = F.leaky_relu(kept[-1], slope)
    gradients = [gradient]
    for weight in reversed(weights[1:]):
        gradients.insert(0, gradients[0] @ weight)
    return [a.square().mean() for a in kept], [g.square().mean() for g in gradients]


def measure_by_hand(weights, x, gradient, slope):
    h, kept = x, []
    for weight in weights:
        kept.append(h @ weight.T)
        h = torch.where(kept[-1] > 0, kept[-1], slope * kept[-1])
    gradients = [gradient]
    for weight, z in zip(reversed(weights[1:]), reversed(kept[:-1]), strict=True):
        gradients.append((gradients[-1] @ weight) * torch.where(z > 0, 1.0, slope).to(z))
    return [(z * z).mean() for z in kept], [(g * g).mean() for g in reversed(gradients)]


def measure_by_retained_gradients(weights, x, gradient, slope):
    h, kept = x.clone().requires_grad_(True), []
    for weight in weights:
        z = F.linear(h, weight)
        z.retain_grad()
        kept.append(z)
        h = F.leaky_relu(z, slope)
    kept[-1].backward(gradient)
    return [z.detach().pow(2).mean().item() for z in kept], [z.grad.pow(2).mean().item() for z in kept]


def measure_by_modules(weights, x, gradient, slope):
    layers = [torch.nn.Linear(w.shape[1], w.shape[0], bias=False, dtype=w.dtype) for w in weights]
    for layer, weight in zip(layers, weights, strict=True):
        layer.weight.data.copy_(weight)
    seen, act = [], torch.nn.LeakyReLU(slope)
    h = x
    for layer in layers:
        z = layer(h)
        seen.append(z)
        h = act(z)
    grads = torch.autograd.grad(seen[-1], seen, grad_outputs=gradient)
    mean_square = lambda t: (t.detach().double() ** 2).mean()
    return [mean_square(z) for z in seen], [mean_square(g) for g in grads]


measured_exercise = Exercise(
    id="initialization.measure",
    lesson="02_initialization",
    title="The same sizes, measured",
    answer="measure",
    criteria=(
        Criterion("forward", 1, Close(operations=256, scale=1.0)),
        Criterion("backward", 1, Close(operations=256, scale=1.0)),
    ),
    cases=measured_cases,
    probe=measured_probe,
    reference=measure,
    misconceptions=(
        Misconception(
            "after_leaky_relu",
            after_leaky_relu,
            "Your forward numbers are taken after the activation. The recursion speaks of z, before it.",
            "Keep each z = h @ weight.T before you apply leaky_relu.",
        ),
        Misconception(
            "gradient_after_leaky_relu",
            gradient_after_leaky_relu,
            "Your gradients belong to the activations' outputs. Asked is the gradient at z, one step further back: the "
            "activation's slope multiplies it.",
            "Ask torch.autograd.grad for the gradients at the z's.",
        ),
        Misconception(
            "bent_at_the_end",
            bent_at_the_end,
            "There is an activation after the last layer. `gradient` is the gradient at the last z itself.",
            "Start the backward pass from z[-1].",
        ),
        Misconception(
            "centred_variance",
            centred_variance,
            "You subtract the mean. After a ReLU a layer's inputs are not centred, and the recursion is one of mean "
            "squares: it holds for z.square().mean().",
            "Take the mean of the squares.",
        ),
        Misconception(
            "root_mean_square",
            root_mean_square,
            "You took the square root.",
            "Return mean squares, as the recursion predicts them.",
        ),
        Misconception(
            "sum_of_squares",
            sum_of_squares,
            "You add the squares up. A layer with more units, or a larger batch, then looks stronger.",
            "Take the mean over the batch and the units.",
        ),
        Misconception(
            "gradient_of_the_weights",
            gradient_of_the_weights,
            "Your gradients are those of the weights. Asked is the gradient at each layer's z, of shape (N, units).",
            "torch.autograd.grad(…, list of the z's).",
        ),
        Misconception(
            "relu_whatever_the_slope",
            relu_whatever_the_slope,
            "The slope changes nothing: you use ReLU. In the case “{case}” negative values pass in part.",
            "F.leaky_relu(z, slope).",
        ),
        Misconception(
            "plain_sum_at_the_end",
            plain_sum_at_the_end,
            "Your backward pass starts from 1 everywhere. It should start from the tensor `gradient`.",
            "Differentiate (z_L · gradient).sum(), or call z_L.backward(gradient).",
        ),
        Misconception(
            "slope_left_out_backward",
            slope_left_out_backward,
            "On the way back you leave the activation out: where z was negative, the gradient is multiplied by the "
            "slope.",
            "Multiply by 1 where z > 0 and by slope elsewhere, or let autograd do it.",
        ),
    ),
    variants=(
        Variant("measure_by_hand", measure_by_hand),
        Variant("measure_by_retained_gradients", measure_by_retained_gradients),
        Variant("measure_by_modules", measure_by_modules),
    ),
    hints=(
        "Run the layers one after another and keep every z, before the activation.",
        "torch.autograd.grad(a number, [tensors]) gives the gradient at each. No weight or input needs a gradient here "
        "by itself: give x one with x.clone().requires_grad_().",
        "gradients = torch.autograd.grad((z[-1] * gradient).sum(), z); then t.square().mean() for each.",
    ),
    minutes=15,
)
