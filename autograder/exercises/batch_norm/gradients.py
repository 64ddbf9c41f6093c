"""The gradient of batch norm by hand, and what it says about the scale of the weights before it."""

from __future__ import annotations

import numpy as np
import torch

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant
from .forward import FORBIDDEN

# ---------------------------------------------------------------- backward


def backward_cases(seed):
    """Ordinary and square batches, two rows, a constant feature, variances below eps, large values, float64."""
    rng = np.random.default_rng(seed)

    def case(name, n=24, c=5, mean=1.0, spread=2.0, eps=1e-5, dtype=np.float32):
        x = (rng.normal(size=(n, c)) * spread * np.linspace(0.5, 1.5, c) + mean).astype(dtype)
        grad = (rng.normal(size=(n, c)) + 0.5 + 0.5 * (x - mean) / spread).astype(dtype)  # has to do with x
        return Case(name, {"grad": grad, "x": x, "weight": rng.uniform(0.5, 2.0, c).astype(dtype), "eps": eps})

    yield case("24 × 5")
    yield case("as many rows as features, 6 × 6", n=6, c=6)
    yield case("a batch of 2, eps = 0.1", n=2, spread=1.0, eps=0.1)
    constant = case("the first feature is constant, eps = 1e-3", eps=1e-3)
    constant["x"][:, 0] = 3.0
    yield constant
    yield case("variances below eps, eps = 1e-2", mean=0.2, spread=0.05, eps=1e-2)
    yield case("values around ±1e3", mean=0.0, spread=1e3)
    yield case("float64", n=7, c=3, dtype=np.float64)


def backward_probe(candidate, case):
    import torch

    with torch.inference_mode():  # no graph is recorded here: the formula has to be written
        grad, x, weight = (torch.tensor(case[name]) for name in ("grad", "x", "weight"))
        dx, dweight, dbias = candidate(grad, x, weight, case["eps"])
        return {"dx": dx, "dweight": dweight, "dbias": dbias}


def batch_norm_backward(grad, x, weight, eps):
    """(dx, dweight, dbias): the gradients at x (N, C), weight and bias (C,), from grad (N, C) at the output."""
    inv_std = (x.var(0, correction=0) + eps).rsqrt()
    x_hat = (x - x.mean(0)) * inv_std
    g = grad * weight
    dx = (g - g.mean(0) - x_hat * (g * x_hat).mean(0)) * inv_std
    return dx, (grad * x_hat).sum(0), grad.sum(0)


def statistics_constant(grad, x, weight, eps):
    inv_std = (x.var(0, correction=0) + eps).rsqrt()
    x_hat = (x - x.mean(0)) * inv_std
    return grad * weight * inv_std, (grad * x_hat).sum(0), grad.sum(0)


def variance_constant(grad, x, weight, eps):
    inv_std = (x.var(0, correction=0) + eps).rsqrt()
    x_hat = (x - x.mean(0)) * inv_std
    g = grad * weight
    return (g - g.mean(0)) * inv_std, (grad * x_hat).sum(0), grad.sum(0)


def mean_constant(grad, x, weight, eps):
    inv_std = (x.var(0, correction=0) + eps).rsqrt()
    x_hat = (x - x.mean(0)) * inv_std
    g = grad * weight
    return (g - x_hat * (g * x_hat).mean(0)) * inv_std, (grad * x_hat).sum(0), grad.sum(0)


def sums_for_means(grad, x, weight, eps):
    inv_std = (x.var(0, correction=0) + eps).rsqrt()
    x_hat = (x - x.mean(0)) * inv_std
    g = grad * weight
    return (g - g.sum(0) - x_hat * (g * x_hat).sum(0)) * inv_std, (grad * x_hat).sum(0), grad.sum(0)


def means_for_sums(grad, x, weight, eps):
    inv_std = (x.var(0, correction=0) + eps).rsqrt()
    x_hat = (x - x.mean(0)) * inv_std
    g = grad * weight
    dx = (g - g.mean(0) - x_hat * (g * x_hat).mean(0)) * inv_std
    return dx, (grad * x_hat).mean(0), grad.mean(0)


def weight_left_out(grad, x, weight, eps):
    inv_std = (x.var(0, correction=0) + eps).rsqrt()
    x_hat = (x - x.mean(0)) * inv_std
    dx = (grad - grad.mean(0) - x_hat * (grad * x_hat).mean(0)) * inv_std
    return dx, (grad * x_hat).sum(0), grad.sum(0)


def weight_in_its_own_gradient(grad, x, weight, eps):
    inv_std = (x.var(0, correction=0) + eps).rsqrt()
    x_hat = (x - x.mean(0)) * inv_std
    g = grad * weight
    dx = (g - g.mean(0) - x_hat * (g * x_hat).mean(0)) * inv_std
    return dx, (g * x_hat).sum(0), g.sum(0)


def gradient_of_weight_from_x(grad, x, weight, eps):
    inv_std = (x.var(0, correction=0) + eps).rsqrt()
    x_hat = (x - x.mean(0)) * inv_std
    g = grad * weight
    dx = (g - g.mean(0) - x_hat * (g * x_hat).mean(0)) * inv_std
    return dx, (grad * x).sum(0), grad.sum(0)


def not_divided_by_the_deviation(grad, x, weight, eps):
    x_hat = (x - x.mean(0)) * (x.var(0, correction=0) + eps).rsqrt()
    g = grad * weight
    return g - g.mean(0) - x_hat * (g * x_hat).mean(0), (grad * x_hat).sum(0), grad.sum(0)


def centred_for_normalized(grad, x, weight, eps):
    inv_std = (x.var(0, correction=0) + eps).rsqrt()
    centred = x - x.mean(0)
    g = grad * weight
    dx = (g - g.mean(0) - centred * (g * centred).mean(0)) * inv_std
    return dx, (grad * centred * inv_std).sum(0), grad.sum(0)


def plus_for_minus(grad, x, weight, eps):
    inv_std = (x.var(0, correction=0) + eps).rsqrt()
    x_hat = (x - x.mean(0)) * inv_std
    g = grad * weight
    dx = (g - g.mean(0) + x_hat * (g * x_hat).mean(0)) * inv_std
    return dx, (grad * x_hat).sum(0), grad.sum(0)


def unbiased_in_the_gradient(grad, x, weight, eps):
    inv_std = (x.var(0) + eps).rsqrt()
    x_hat = (x - x.mean(0)) * inv_std
    g = grad * weight
    dx = (g - g.mean(0) - x_hat * (g * x_hat).mean(0)) * inv_std
    return dx, (grad * x_hat).sum(0), grad.sum(0)


def over_the_wrong_axis(grad, x, weight, eps):
    inv_std = (x.var(0, correction=0) + eps).rsqrt()
    x_hat = (x - x.mean(0)) * inv_std
    g = grad * weight
    dx = (g - g.mean(1, keepdim=True) - x_hat * (g * x_hat).mean(1, keepdim=True)) * inv_std
    return dx, (grad * x_hat).sum(0), grad.sum(0)


def backward_step_by_step(grad, x, weight, eps):
    n = len(x)
    mean = x.mean(0)
    var = ((x - mean) ** 2).mean(0)
    std = torch.sqrt(var + eps)
    dx_hat = grad * weight
    dvar = (dx_hat * (x - mean)).sum(0) * -0.5 * (var + eps) ** -1.5
    dmean = -dx_hat.sum(0) / std + dvar * -2 * (x - mean).mean(0)
    dx = dx_hat / std + dvar * 2 * (x - mean) / n + dmean / n
    return dx, (grad * (x - mean) / std).sum(0), grad.sum(0)


def backward_from_the_sums(grad, x, weight, eps):
    n, std = x.shape[0], (x.var(0, correction=0) + eps).sqrt()
    x_hat = (x - x.mean(0)) / std
    dweight, dbias = torch.einsum("nc,nc->c", grad, x_hat), grad.sum(0)
    return weight / (n * std) * (n * grad - dbias - x_hat * dweight), dweight, dbias


def backward_by_jacobian(grad, x, weight, eps):
    n, eye = len(x), torch.eye(len(x), dtype=x.dtype)
    dx = torch.empty_like(x)
    for c in range(x.shape[1]):
        centred = x[:, c] - x[:, c].mean()
        std = (centred.square().mean() + eps).sqrt()
        jacobian = (eye - 1 / n - torch.outer(centred, centred) / (n * std**2)) / std
        dx[:, c] = jacobian @ grad[:, c] * weight[c]
    x_hat = (x - x.mean(0)) / (x.var(0, correction=0) + eps).sqrt()
    return dx, (grad * x_hat).sum(0), grad.sum(0)


backward = Exercise(
    id="batch_norm.backward",
    lesson="04_batch_norm",
    title="Batch norm backward, by hand",
    answer="batch_norm_backward",
    criteria=(
        Criterion("dx", 2, Close(operations=1024)),
        Criterion("dweight", 1, Close(operations=512, scale=1.0)),
        Criterion("dbias", 1, Close(operations=128, scale=1.0), requires=("dweight",)),
    ),
    cases=backward_cases,
    probe=backward_probe,
    reference=batch_norm_backward,
    misconceptions=(
        Misconception(
            "statistics_constant",
            statistics_constant,
            "You treat mean and variance as constants, so that dx is the gradient times weight/√(σ² + eps). But they "
            "are made from x: each example moves them a little, and so the output of every other.",
            "Take away from g its mean over the batch, and the part along x̂: g − mean(g) − x̂ · mean(g · x̂).",
        ),
        Misconception(
            "variance_constant",
            variance_constant,
            "The way through the mean is there, the way through the variance is missing.",
            "Subtract x̂ · mean(g · x̂) as well.",
        ),
        Misconception(
            "mean_constant",
            mean_constant,
            "The way through the variance is there, the way through the mean is missing.",
            "Subtract mean(g) as well.",
        ),
        Misconception(
            "sums_for_means",
            sums_for_means,
            "In dx you subtract sums over the batch where means belong: the statistics are means, so each example has "
            "1/N of a say in them.",
            "mean(0) instead of sum(0) in both terms.",
        ),
        Misconception(
            "means_for_sums",
            means_for_sums,
            "dweight and dbias are means over the batch. weight and bias serve every example, so what each has to say "
            "adds up; where the loss is a mean, the 1/N is in grad already.",
            "sum(0) for dweight and dbias.",
        ),
        Misconception(
            "weight_left_out",
            weight_left_out,
            "dx lacks weight: on its way back the gradient passes the scaling first.",
            "Begin with g = grad * weight.",
        ),
        Misconception(
            "weight_in_its_own_gradient",
            weight_in_its_own_gradient,
            "dweight and dbias contain weight. y = weight · x̂ + bias, so the derivative by weight is x̂, by bias 1.",
            "Use grad, not grad * weight, in these two.",
        ),
        Misconception(
            "gradient_of_weight_from_x",
            gradient_of_weight_from_x,
            "dweight is summed over grad · x. weight multiplies the normalized x.",
            "Use x̂ = (x − μ)/√(σ² + eps).",
        ),
        Misconception(
            "not_divided_by_the_deviation",
            not_divided_by_the_deviation,
            "dx is not divided by √(σ² + eps): in the case “{case}” it is {ratio:.2f} × the right one.",
            "Multiply the whole bracket by 1/√(σ² + eps).",
        ),
        Misconception(
            "centred_for_normalized",
            centred_for_normalized,
            "In dx you use x − μ where x̂ belongs. Both agree only where the spread is 1.",
            "Divide by √(σ² + eps) first; x̂ appears twice in that term.",
        ),
        Misconception(
            "plus_for_minus",
            plus_for_minus,
            "The term through the variance is added instead of subtracted.",
            "dx must have no part along x̂: g − mean(g) − x̂ · mean(g · x̂).",
        ),
        Misconception(
            "unbiased_in_the_gradient",
            unbiased_in_the_gradient,
            "You use the variance with N − 1. The forward pass divided by N.",
            "x.var(0, correction=0).",
        ),
        Misconception(
            "over_the_wrong_axis",
            over_the_wrong_axis,
            "In dx the means run over the features of one example. The statistics tie together the examples of a "
            "batch.",
            "Average over axis 0.",
        ),
    ),
    variants=(
        Variant("backward_step_by_step", backward_step_by_step),
        Variant("backward_from_the_sums", backward_from_the_sums),
        Variant("backward_by_jacobian", backward_by_jacobian),
    ),
    forbidden=(*FORBIDDEN, "torch.autograd.grad"),
    hints=(
        "dbias and dweight first: y = weight · x̂ + bias, one weight for all examples.",
        "Then x̂ as a function of x. Shift a whole feature, or stretch it: x̂ stays. So what must dx be orthogonal to?",
        "With g = grad · weight: dx = (g − mean(g) − x̂ · mean(g · x̂)) / √(σ² + eps), means over the batch.",
    ),
    minutes=20,
)

# ---------------------------------------------------------------- the scale of the weights


def rescaled_cases(seed):
    """Scales above and below 1, one for all rows, a square layer, one unit, small and large weights, float64."""
    rng = np.random.default_rng(seed)

    def case(name, out=5, inputs=8, low=0.3, high=3.0, size=1.0, lr=0.5, dtype=np.float32):
        weight = rng.normal(size=(out, inputs)) * size
        gradient = rng.normal(size=(out, inputs)) * size * np.linspace(0.5, 2.0, out)[:, None]
        along = (gradient * weight).sum(1, keepdims=True) / (weight**2).sum(1, keepdims=True)
        gradient -= along * weight  # as any gradient behind a batch norm: no part along the weights
        alpha = np.exp(rng.uniform(np.log(low), np.log(high), out))
        arrays = {"weight": weight, "gradient": gradient, "alpha": alpha}
        return Case(name, {name: value.astype(dtype) for name, value in arrays.items()} | {"lr": lr})

    yield case("5 units, 8 inputs")
    yield case("a square layer of 6", out=6, inputs=6)
    yield case("one unit", out=1)
    yield case("α above 2, lr = 3", low=2.0, high=5.0, lr=3.0)
    yield case("α below 1, lr = 0.02", low=0.2, high=0.5, lr=0.02)
    yield case("weights around 100", size=100.0)
    same = case("α = 1")
    same["alpha"][:] = 1
    yield same
    yield case("float64", out=3, inputs=4, dtype=np.float64)


def rescaled_probe(candidate, case):
    import torch

    weight, gradient, alpha = (torch.tensor(case[name]) for name in ("weight", "gradient", "alpha"))
    at_scaled, turn = candidate(weight, gradient, alpha, case["lr"])
    return {"gradient at α·w": at_scaled, "turn": turn}


def rescaled(weight, gradient, alpha, lr):
    """The gradient (out, in) at alpha · weight, and the angle (out,) by which an SGD step there turns each row."""
    at_scaled = gradient / alpha[:, None]
    turn = torch.atan(lr * gradient.norm(dim=1) / (alpha.square() * weight.norm(dim=1)))
    return at_scaled, turn


def gradient_unchanged(weight, gradient, alpha, lr):
    return gradient, torch.atan(lr * gradient.norm(dim=1) / (alpha * weight.norm(dim=1)))


def gradient_grows_with_alpha(weight, gradient, alpha, lr):
    at_scaled = gradient * alpha[:, None]
    return at_scaled, torch.atan(lr * at_scaled.norm(dim=1) / (alpha * weight.norm(dim=1)))


def gradient_by_alpha_squared(weight, gradient, alpha, lr):
    at_scaled = gradient / alpha.square()[:, None]
    return at_scaled, torch.atan(lr * at_scaled.norm(dim=1) / (alpha * weight.norm(dim=1)))


def turn_of_the_old_weights(weight, gradient, alpha, lr):
    return gradient / alpha[:, None], torch.atan(lr * gradient.norm(dim=1) / weight.norm(dim=1))


def turn_with_one_alpha(weight, gradient, alpha, lr):
    at_scaled = gradient / alpha[:, None]
    return at_scaled, torch.atan(lr * at_scaled.norm(dim=1) / weight.norm(dim=1))


def length_for_angle(weight, gradient, alpha, lr):
    at_scaled = gradient / alpha[:, None]
    return at_scaled, lr * at_scaled.norm(dim=1) / (alpha * weight.norm(dim=1))


def sine_for_tangent(weight, gradient, alpha, lr):
    at_scaled = gradient / alpha[:, None]
    return at_scaled, torch.asin((lr * at_scaled.norm(dim=1) / (alpha * weight.norm(dim=1))).clamp(max=1))


def norm_of_the_whole_layer(weight, gradient, alpha, lr):
    at_scaled = gradient / alpha[:, None]
    turn = torch.atan(lr * at_scaled.norm() / (alpha[:, None] * weight).norm())
    return at_scaled, turn.expand(len(weight))


def degrees(weight, gradient, alpha, lr):
    turn = torch.atan(lr * gradient.norm(dim=1) / (alpha.square() * weight.norm(dim=1)))
    return gradient / alpha[:, None], torch.rad2deg(turn)


def rate_left_out(weight, gradient, alpha, lr):
    return gradient / alpha[:, None], torch.atan(gradient.norm(dim=1) / (alpha.square() * weight.norm(dim=1)))


def alpha_along_the_inputs(weight, gradient, alpha, lr):
    at_scaled = gradient / alpha
    return at_scaled, torch.atan(lr * at_scaled.norm(dim=1) / (alpha * weight).norm(dim=1))


def rescaled_by_step(weight, gradient, alpha, lr):
    weight, at_scaled = weight.double() * alpha.double()[:, None], gradient.double() / alpha.double()[:, None]
    moved = weight - lr * at_scaled
    cosine = (weight * moved).sum(1) / (weight.norm(dim=1) * moved.norm(dim=1))
    return at_scaled.to(gradient.dtype), torch.acos(cosine.clamp(-1, 1)).to(gradient.dtype)


def rescaled_by_atan2(weight, gradient, alpha, lr):
    at_scaled = torch.einsum("oi,o->oi", gradient, 1 / alpha)
    opposite = lr * at_scaled.square().sum(-1).sqrt()
    return at_scaled, torch.atan2(opposite, alpha * weight.square().sum(-1).sqrt())


def rescaled_row_by_row(weight, gradient, alpha, lr):
    rows, turns = [], []
    for w, g, a in zip(weight, gradient, alpha, strict=True):
        rows.append(g / a)
        turns.append(torch.atan(lr / a**2 * g.norm() / w.norm()))
    return torch.stack(rows), torch.stack(turns)


rescale = Exercise(
    id="batch_norm.rescale",
    lesson="04_batch_norm",
    title="The scale of weights that a batch norm follows",
    answer="rescaled",
    criteria=(
        Criterion("gradient at α·w", 1, Close(operations=16)),
        Criterion("turn", 2, Close(operations=128), requires=("gradient at α·w",)),
    ),
    cases=rescaled_cases,
    probe=rescaled_probe,
    reference=rescaled,
    misconceptions=(
        Misconception(
            "gradient_unchanged",
            gradient_unchanged,
            "You keep the gradient as it is. The loss is the same at w and at α·w, but along the way from one to the "
            "other everything is α times as far apart, so the slope is not the same.",
            "Differentiate L(α·w) = L(w) by w: α · L′(α·w) = L′(w).",
        ),
        Misconception(
            "gradient_grows_with_alpha",
            gradient_grows_with_alpha,
            "You multiply by α. That is what a layer without batch norm might do; here larger weights have *smaller* "
            "gradients.",
            "Differentiate L(α·w) = L(w) by w: α · L′(α·w) = L′(w).",
        ),
        Misconception(
            "gradient_by_alpha_squared",
            gradient_by_alpha_squared,
            "You divide by α². The gradient shrinks by one α; the second belongs to the angle, since the weights are "
            "longer too.",
            "α · L′(α·w) = L′(w).",
        ),
        Misconception(
            "turn_of_the_old_weights",
            turn_of_the_old_weights,
            "The angle is that at w, without α. At α·w the step is 1/α as long and the weights α times as long.",
            "Length of the step over length of the weights, both at α·w.",
        ),
        Misconception(
            "turn_with_one_alpha",
            turn_with_one_alpha,
            "In the angle the step is 1/α as long, but the weights are still the old ones.",
            "Divide by the length of α·w.",
        ),
        Misconception(
            "length_for_angle",
            length_for_angle,
            "You return length of the step over length of the weights. For small steps that is the angle; in general "
            "it is the angle's tangent.",
            "The step is orthogonal to the weights: take atan.",
        ),
        Misconception(
            "sine_for_tangent",
            sine_for_tangent,
            "You take asin. The step is orthogonal to the *old* weights, so it is the opposite and the weights are the "
            "adjacent side: tangent, not sine.",
            "torch.atan.",
        ),
        Misconception(
            "norm_of_the_whole_layer",
            norm_of_the_whole_layer,
            "The lengths are those of the whole matrix. Each unit has a batch norm of its own and turns by itself.",
            "norm(dim=1): one length a row.",
        ),
        Misconception(
            "degrees",
            degrees,
            "The angle is in degrees; asked are radians.",
            "torch.atan gives radians.",
        ),
        Misconception(
            "rate_left_out",
            rate_left_out,
            "The learning rate is missing from the angle: an SGD step is lr times the gradient long.",
            "Multiply the gradient's length by lr.",
        ),
        Misconception(
            "alpha_along_the_inputs",
            alpha_along_the_inputs,
            "alpha, of shape (out,), broadcasts along the last axis, the inputs. Where the layer is not square that "
            "raises; where it is, it is silently wrong.",
            "alpha[:, None].",
        ),
    ),
    variants=(
        Variant("rescaled_by_step", rescaled_by_step),
        Variant("rescaled_by_atan2", rescaled_by_atan2),
        Variant("rescaled_row_by_row", rescaled_row_by_row),
    ),
    hints=(
        "Batch norm takes a positive factor out again: the loss at α·w is the loss at w. Differentiate both sides by "
        "w.",
        "The gradient is orthogonal to w, so w, the step and the new w make a right-angled triangle.",
        "tan(angle) = lr · ‖gradient/α‖ / ‖α·w‖, row by row.",
    ),
    minutes=15,
)
