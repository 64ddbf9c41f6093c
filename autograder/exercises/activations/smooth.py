"""Smooth activations: SELU's constants from their fixed point, GELU both ways, SiLU."""

from __future__ import annotations

import math

import numpy as np
import torch

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

# ---------------------------------------------------------------- SELU's constants


def constants_cases(seed):
    """A normal variable in fine steps, and others: uniform, two humps, skewed, heavy tails, wide, a few points."""
    rng = np.random.default_rng(seed)

    def case(name, z, weight):
        weight = weight / weight.sum()
        return Case(name, {"z": z - (weight * z).sum(), "weight": weight})

    grid = np.linspace(-8, 8, 801)
    yield case("a normal variable", grid, np.exp(-(grid**2) / 2))
    wide = rng.uniform(1.5, 2.5)
    yield case("normal, twice as wide", grid * wide, np.exp(-(grid**2) / 2))
    yield case("uniform", np.linspace(-rng.uniform(1, 2), 1.5, 400), np.ones(400))
    yield case("two humps", grid, np.exp(-2 * (grid - rng.uniform(1, 2)) ** 2) + np.exp(-2 * (grid + 1) ** 2))
    yield case("skewed", grid + 8, (grid + 8) * np.exp(-(grid + 8) * rng.uniform(0.9, 1.2)))
    yield case("heavy tails", grid, np.exp(-np.abs(grid) * rng.uniform(1.0, 1.6)))
    yield case("five points", rng.normal(size=5), rng.uniform(0.5, 1.5, 5))


def constants_probe(candidate, case):
    import torch

    alpha, scale = candidate(torch.tensor(case["z"]), torch.tensor(case["weight"]))
    return {
        "alpha": torch.as_tensor(alpha, dtype=torch.float64),
        "scale": torch.as_tensor(scale, dtype=torch.float64),
    }


def selu_constants(z, weight):
    """(alpha, scale) with which scale · elu(z, alpha) has mean 0 and the variance of z."""
    positive, gap = z.clamp(min=0), -torch.expm1(z.clamp(max=0))  # the two branches, for α = 1: z⁺ and 1 − eᶻ
    alpha = (weight * positive).sum() / (weight * gap).sum()
    unscaled = positive - alpha * gap
    scale = ((weight * z.square()).sum() / (weight * unscaled.square()).sum()).sqrt()
    return alpha, scale


def quoted(z, weight):
    return 1.6732632423543772, 1.0507009873554805


def unweighted(z, weight):
    positive, gap = z.clamp(min=0), -torch.expm1(z.clamp(max=0))
    alpha = positive.mean() / gap.mean()
    return alpha, (z.square().mean() / (positive - alpha * gap).square().mean()).sqrt()


def root_forgotten(z, weight):
    positive, gap = z.clamp(min=0), -torch.expm1(z.clamp(max=0))
    alpha = (weight * positive).sum() / (weight * gap).sum()
    return alpha, (weight * z.square()).sum() / (weight * (positive - alpha * gap).square()).sum()


def scale_upside_down(z, weight):
    positive, gap = z.clamp(min=0), -torch.expm1(z.clamp(max=0))
    alpha = (weight * positive).sum() / (weight * gap).sum()
    return alpha, ((weight * (positive - alpha * gap).square()).sum() / (weight * z.square()).sum()).sqrt()


def alpha_upside_down(z, weight):
    positive, gap = z.clamp(min=0), -torch.expm1(z.clamp(max=0))
    alpha = (weight * gap).sum() / (weight * positive).sum()
    return alpha, ((weight * z.square()).sum() / (weight * (positive - alpha * gap).square()).sum()).sqrt()


def variance_one(z, weight):
    positive, gap = z.clamp(min=0), -torch.expm1(z.clamp(max=0))
    alpha = (weight * positive).sum() / (weight * gap).sum()
    return alpha, (1 / (weight * (positive - alpha * gap).square()).sum()).sqrt()


def branch_everywhere(z, weight):
    positive, gap = z.clamp(min=0), -torch.expm1(z)
    alpha = (weight * positive).sum() / (weight * gap).sum()
    unscaled = torch.where(z > 0, z, -alpha * gap)
    return alpha, ((weight * z.square()).sum() / (weight * unscaled.square()).sum()).sqrt()


def plain_elu_scaled(z, weight):
    low = torch.where(z > 0, z, torch.expm1(z.clamp(max=0)))
    return 1.0, ((weight * z.square()).sum() / (weight * low.square()).sum()).sqrt()


def means_of_each_side(z, weight):
    right, left = z > 0, z <= 0
    mean_right = (weight * z)[right].sum() / weight[right].sum()
    mean_left = -(weight * torch.expm1(z.clamp(max=0)))[left].sum() / weight[left].sum()
    alpha = mean_right / mean_left
    unscaled = torch.where(right, z, alpha * torch.expm1(z.clamp(max=0)))
    return alpha, ((weight * z.square()).sum() / (weight * unscaled.square()).sum()).sqrt()


def scaled_by_the_positive_side(z, weight):
    positive, gap = z.clamp(min=0), -torch.expm1(z.clamp(max=0))
    alpha = (weight * positive).sum() / (weight * gap).sum()
    return alpha, ((weight * z.square()).sum() / (weight * positive.square()).sum()).sqrt()


def constants_by_bisection(z, weight):
    def output(alpha):
        return torch.where(z > 0, z, alpha * torch.expm1(z.clamp(max=0)))

    low, high = 0.0, 1e4
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if float((weight * output(middle)).sum()) > 0 else (low, middle)
    alpha = (low + high) / 2
    return alpha, float((weight * z**2).sum() / (weight * output(alpha) ** 2).sum()) ** 0.5


def constants_by_iteration(z, weight):
    alpha, scale = 1.0, 1.0
    for _ in range(3):  # the mean is linear in α, and the variance in scale²
        positive, gap = z.clamp(min=0), -torch.expm1(z.clamp(max=0))
        mean = scale * (weight * (positive - alpha * gap)).sum()
        alpha = alpha + mean / (scale * (weight * gap).sum())
        variance = (weight * (scale * (positive - alpha * gap)) ** 2).sum()
        scale = scale * torch.sqrt((weight * z * z).sum() / variance)
    return alpha, scale


def constants_in_numpy(z, weight):
    x, w = z.numpy(), weight.numpy()
    negative = np.where(x < 0, np.expm1(np.minimum(x, 0)), 0.0)
    alpha = -np.dot(w, np.maximum(x, 0)) / np.dot(w, negative)
    out = np.maximum(x, 0) + alpha * negative
    return alpha, np.sqrt(np.dot(w, x**2) / np.dot(w, out**2))


selu_constants_exercise = Exercise(
    id="activations.selu_constants",
    lesson="03_activations",
    title="SELU's two constants",
    answer="selu_constants",
    criteria=(
        Criterion("alpha", 1, Close(operations=4096)),  # sums of 801 terms
        Criterion("scale", 1, Close(operations=4096), requires=("alpha",)),
    ),
    cases=constants_cases,
    probe=constants_probe,
    reference=selu_constants,
    misconceptions=(
        Misconception(
            "quoted",
            quoted,
            "You return the two numbers from the paper. They belong to a normal z of variance 1 alone, not to the "
            "values and probabilities that you are given.",
            "Compute α from the mean: the positive and the negative part must cancel.",
        ),
        Misconception(
            "unweighted",
            unweighted,
            "You take plain means over z. The values of z are not equally likely: `weight` holds their probabilities.",
            "The mean of f(z) is (weight * f(z)).sum().",
        ),
        Misconception(
            "root_forgotten",
            root_forgotten,
            "Your α is right, and your scale is the square of the right one: a factor before f multiplies the variance "
            "by its square.",
            "Take the square root.",
        ),
        Misconception(
            "scale_upside_down",
            scale_upside_down,
            "Your α is right, and your scale is 1 over the right one.",
            "scale² × (variance of the output for scale 1) = variance of z. Solve for scale.",
        ),
        Misconception(
            "alpha_upside_down",
            alpha_upside_down,
            "Your α is 1 over the right one.",
            "mean of z⁺ = α × mean of (1 − eᶻ) over the negative z. Solve for α.",
        ),
        Misconception(
            "variance_one",
            variance_one,
            "Your scale brings the variance to 1. Asked is that it stays what it is for z; in the case “{case}” that "
            "is not 1.",
            "Divide the variance of z by that of the output.",
        ),
        Misconception(
            "branch_everywhere",
            branch_everywhere,
            "The exponential branch counts for positive z too in your α. It holds for negative z only.",
            "Clamp z at 0 before the exponential: there 1 − e⁰ is 0, and adds nothing.",
        ),
        Misconception(
            "plain_elu_scaled",
            plain_elu_scaled,
            "You keep α = 1 and only scale. The variance then stays, but the mean does not become 0.",
            "Find α from the mean first.",
        ),
        Misconception(
            "means_of_each_side",
            means_of_each_side,
            "You divide each side by its own probability. The mean of the output needs both sides with their weights "
            "as they are: a side that is visited seldom counts little.",
            "Sum weight × z⁺ over all z, and weight × (1 − eᶻ) over the negative ones.",
        ),
        Misconception(
            "scaled_by_the_positive_side",
            scaled_by_the_positive_side,
            "Your scale sees the positive side alone. The negative side adds to the variance too.",
            "Use the variance of the whole output.",
        ),
    ),
    variants=(
        Variant("by_bisection", constants_by_bisection),
        Variant("by_iteration", constants_by_iteration),
        Variant("in_numpy", constants_in_numpy),
    ),
    forbidden=("course_lib.activations",),
    hints=(
        "First the mean. Only α decides it: scale multiplies both sides alike.",
        "The mean is 0 where Σ weight · z⁺ = α · Σ weight · (1 − eᶻ), the second sum over negative z.",
        "Then scale = √(variance of z / variance of elu(z, α)). Both means are 0, so a variance is Σ weight · f².",
    ),
    minutes=12,
)

# ---------------------------------------------------------------- GELU


def smooth_cases(seed):
    """Ordinary values, near 0, where the dip is, both tails, ±1e4, float64, feature maps."""
    rng = np.random.default_rng(seed)
    yield Case("8 × 6", {"z": rng.normal(0.0, 1.5, (8, 6)).astype(np.float32)})
    yield Case("around the dip, −2 to 0", {"z": rng.uniform(-2, 0, (4, 5)).astype(np.float32)})
    yield Case("near 0", {"z": (rng.normal(size=(3, 4)) * 1e-3).astype(np.float32)})
    yield Case("all zeros", {"z": np.zeros((2, 3), np.float32)})
    yield Case(
        "tails, 4 to 9 on both sides",
        {"z": (rng.choice([-1, 1], (3, 4)) * rng.uniform(4, 9, (3, 4))).astype(np.float32)},
    )
    far = (rng.choice([-1.0, 1.0], (2, 4)) * rng.uniform(0.5e4, 1e4, (2, 4))).astype(np.float32)
    far[0, :2] = (-1e4, 1e4)
    yield Case("values of ±1e4", {"z": far})
    yield Case("float64, feature maps", {"z": rng.normal(size=(2, 3, 4, 4))})


def gelu_probe(candidate, case):
    import torch

    z = torch.tensor(case["z"])
    exact, by_tanh, slope = candidate(z)
    return {"exact": exact, "by tanh": by_tanh, "slope of the exact one": slope}


def gelu(z):
    """(exact, by tanh, slope of the exact one) of GELU at z."""
    share = 0.5 * torch.erfc(-z / math.sqrt(2))  # Φ(z), accurate in the left tail too
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    gate = 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
    return z * share, z * gate, share + z * density


def tanh_for_both(z):
    density = torch.exp(-z.square() / 2) / 2.5066282746310002
    gate = 0.5 * (1 + torch.tanh(0.7978845608028654 * (z + 0.044715 * z**3)))
    return z * gate, z * gate, gate + z * density


def erf_without_root(z):
    share = 0.5 * (1 + torch.erf(z))
    density = torch.exp(-z.square() / 2) / 2.5066282746310002
    gate = 0.5 * (1 + torch.tanh(0.7978845608028654 * (z + 0.044715 * z**3)))
    return z * share, z * gate, share + z * density


def sigmoid_gate(z):
    share = 0.5 * (1 + torch.erf(z / 1.4142135623730951))
    density = torch.exp(-z.square() / 2) / 2.5066282746310002
    return z * share, z * torch.sigmoid(1.702 * z), share + z * density


def cubic_forgotten(z):
    share = 0.5 * (1 + torch.erf(z / 1.4142135623730951))
    density = torch.exp(-z.square() / 2) / 2.5066282746310002
    gate = 0.5 * (1 + torch.tanh(0.7978845608028654 * z))
    return z * share, z * gate, share + z * density


def root_turned_over(z):
    share = 0.5 * (1 + torch.erf(z / 1.4142135623730951))
    density = torch.exp(-z.square() / 2) / 2.5066282746310002
    gate = 0.5 * (1 + torch.tanh(1.2533141373155001 * (z + 0.044715 * z**3)))
    return z * share, z * gate, share + z * density


def product_rule_forgotten(z):
    share = 0.5 * (1 + torch.erf(z / 1.4142135623730951))
    gate = 0.5 * (1 + torch.tanh(0.7978845608028654 * (z + 0.044715 * z**3)))
    return z * share, z * gate, share


def density_times_z_only(z):
    share = 0.5 * (1 + torch.erf(z / 1.4142135623730951))
    density = torch.exp(-z.square() / 2) / 2.5066282746310002
    gate = 0.5 * (1 + torch.tanh(0.7978845608028654 * (z + 0.044715 * z**3)))
    return z * share, z * gate, z * density


def density_not_normalized(z):
    share = 0.5 * (1 + torch.erf(z / 1.4142135623730951))
    gate = 0.5 * (1 + torch.tanh(0.7978845608028654 * (z + 0.044715 * z**3)))
    return z * share, z * gate, share + z * torch.exp(-z.square() / 2)


def density_without_half(z):
    share = 0.5 * (1 + torch.erf(z / 1.4142135623730951))
    density = torch.exp(-z.square()) / 2.5066282746310002
    gate = 0.5 * (1 + torch.tanh(0.7978845608028654 * (z + 0.044715 * z**3)))
    return z * share, z * gate, share + z * density


def gate_alone(z):
    share = 0.5 * (1 + torch.erf(z / 1.4142135623730951))
    density = torch.exp(-z.square() / 2) / 2.5066282746310002
    gate = 0.5 * (1 + torch.tanh(0.7978845608028654 * (z + 0.044715 * z**3)))
    return share, gate, share + z * density


def half_forgotten(z):
    share = 1 + torch.erf(z / 1.4142135623730951)
    density = torch.exp(-z.square() / 2) / 2.5066282746310002
    gate = 1 + torch.tanh(0.7978845608028654 * (z + 0.044715 * z**3))
    return z * share, z * gate, share + 2 * z * density


def gelu_by_erf(z):
    share = 0.5 * (1 + torch.erf(z / 2**0.5))
    density = (-0.5 * z * z).exp() / (2 * torch.pi) ** 0.5
    inner = (2 / torch.pi) ** 0.5 * (z + 0.044715 * z.pow(3))
    return z * share, 0.5 * z * (1 + inner.tanh()), share + z * density


def gelu_by_distribution(z):
    normal = torch.distributions.Normal(torch.zeros((), dtype=z.dtype), torch.ones((), dtype=z.dtype))
    share, density = normal.cdf(z), normal.log_prob(z).exp()
    inner = (8 / torch.pi) ** 0.5 * z * (1 + 0.044715 * z * z)
    return z * share, z * torch.sigmoid(inner), share + z * density


def gelu_by_autograd(z):
    x = z.detach().clone().requires_grad_()
    exact = x * torch.special.ndtr(x)
    (slope,) = torch.autograd.grad(exact.sum(), x)
    return exact.detach(), z * (0.5 + 0.5 * torch.tanh((2 / torch.pi) ** 0.5 * (z + 0.044715 * z**3))), slope


gelu_exercise = Exercise(
    id="activations.gelu",
    lesson="03_activations",
    title="GELU, exact and by tanh",
    answer="gelu",
    criteria=(
        Criterion("exact", 1, Close(operations=32, scale=1.0)),  # (1 + erf) / 2 is a difference in the left tail
        Criterion("by tanh", 1, Close(operations=64, scale=1.0)),
        Criterion("slope of the exact one", 1, Close(operations=32)),
    ),
    cases=smooth_cases,
    probe=gelu_probe,
    reference=gelu,
    misconceptions=(
        Misconception(
            "tanh_for_both",
            tanh_for_both,
            "Your first result is the approximation too: close to the exact one, but not within rounding.",
            "Φ(z) = (1 + erf(z/√2)) / 2, with torch.erf.",
        ),
        Misconception(
            "erf_without_root",
            erf_without_root,
            "You take erf(z). That is the distribution of a variable of variance ½; the standard normal one needs "
            "erf(z/√2).",
            "Divide z by √2 inside erf.",
        ),
        Misconception(
            "sigmoid_gate",
            sigmoid_gate,
            "Your second result is z · σ(1.702 z), another approximation, and a coarser one.",
            "Use tanh of √(2/π) (z + 0.044715 z³).",
        ),
        Misconception(
            "cubic_forgotten",
            cubic_forgotten,
            "The cubic term is missing inside tanh: the approximation then fits at 0 only.",
            "√(2/π) (z + 0.044715 z³).",
        ),
        Misconception(
            "root_turned_over",
            root_turned_over,
            "Inside tanh you multiply by √(π/2). It is √(2/π), about 0.8.",
            "Turn the fraction round.",
        ),
        Misconception(
            "product_rule_forgotten",
            product_rule_forgotten,
            "Your slope is Φ(z) alone. z Φ(z) is a product: its second factor changes with z too.",
            "Add z times the derivative of Φ, the normal density.",
        ),
        Misconception(
            "density_times_z_only",
            density_times_z_only,
            "Your slope is z φ(z) alone. The first term of the product rule is missing.",
            "Φ(z) + z φ(z).",
        ),
        Misconception(
            "density_not_normalized",
            density_not_normalized,
            "The density in your slope lacks its factor 1/√(2π).",
            "φ(z) = e^(−z²/2) / √(2π).",
        ),
        Misconception(
            "density_without_half",
            density_without_half,
            "The exponent of your density is −z². It is −z²/2.",
            "φ(z) = e^(−z²/2) / √(2π).",
        ),
        Misconception(
            "gate_alone",
            gate_alone,
            "Your first two results are the gates, Φ(z) and its approximation. GELU is z times the gate.",
            "Multiply by z.",
        ),
        Misconception(
            "half_forgotten",
            half_forgotten,
            "All your results are twice as large as they should be: 1 + erf and 1 + tanh run from 0 to 2.",
            "Multiply by ½.",
        ),
    ),
    variants=(
        Variant("by_erf", gelu_by_erf),
        Variant("by_distribution", gelu_by_distribution),
        Variant("by_autograd", gelu_by_autograd),
    ),
    forbidden=("torch.nn.functional.gelu", "torch.nn.GELU", "course_lib.activations"),
    hints=(
        "Φ(z) is the share of a standard normal variable below z. torch.erf gives it, up to a shift and two factors.",
        "The slope of a product: (zΦ)′ = Φ + zΦ′, and Φ′ is the bell curve e^(−z²/2) / √(2π).",
        "exact: z · (1 + erf(z/√2)) / 2. By tanh: z · (1 + tanh(√(2/π) (z + 0.044715 z³))) / 2.",
    ),
    minutes=10,
)

# ---------------------------------------------------------------- SiLU


def silu(z):
    """(value, slope) of SiLU, z σ(z)."""
    s = torch.sigmoid(z)
    return z * s, s * (1 + z * (1 - s))


def silu_slope_is_sigmoid(z):
    s = torch.sigmoid(z)
    return z * s, s


def silu_slope_of_sigmoid(z):
    s = torch.sigmoid(z)
    return z * s, s * (1 - s)


def silu_first_term_lost(z):
    s = torch.sigmoid(z)
    return z * s, z * s * (1 - s)


def silu_factor_lost(z):
    s = torch.sigmoid(z)
    return z * s, s + s * (1 - s)


def silu_exp_overflows(z):
    s = torch.exp(z) / (1 + torch.exp(z))
    return z * s, s * (1 + z * (1 - s))


def silu_gate_of_other_sign(z):
    s = torch.sigmoid(-z)
    return z * s, s * (1 - z * (1 - s))


def silu_square(z):
    s = torch.sigmoid(z)
    return z * s, s * (1 + z * s)


def silu_gate_alone(z):
    s = torch.sigmoid(z)
    return s, s * (1 - s)


def silu_by_value(z):
    value = z / (1 + torch.exp(-z))
    s = 1 / (1 + torch.exp(-z))
    return value, s + value * (1 - s)


def silu_by_tanh(z):
    s = 0.5 * (1 + torch.tanh(z / 2))
    return z * s, s + z * s - z * s * s


def silu_by_autograd(z):
    x = z.detach().clone().requires_grad_()
    y = x * x.sigmoid()
    y.sum().backward()
    return y.detach(), x.grad


def silu_probe(candidate, case):
    import torch

    value, slope = candidate(torch.tensor(case["z"]))
    return {"value": value, "slope": slope}


silu_exercise = Exercise(
    id="activations.silu",
    lesson="03_activations",
    title="SiLU and its slope",
    answer="silu",
    criteria=(
        Criterion("value", 1, Close(operations=16, scale=1.0)),
        # in the tails s (1 − s) is small beside the s and the z s² that it is a difference of
        Criterion("slope", 1, Close(operations=64, scale=8.0)),
    ),
    cases=smooth_cases,
    probe=silu_probe,
    reference=silu,
    misconceptions=(
        Misconception(
            "slope_is_sigmoid",
            silu_slope_is_sigmoid,
            "Your slope is σ(z): you took the derivative of z and left σ as it was. σ changes with z too.",
            "The product rule: σ + z σ′.",
        ),
        Misconception(
            "slope_of_sigmoid",
            silu_slope_of_sigmoid,
            "Your slope is that of the sigmoid alone, as if z were a constant 1.",
            "The product rule: σ + z σ′, with σ′ = σ (1 − σ).",
        ),
        Misconception(
            "first_term_lost",
            silu_first_term_lost,
            "Your slope is z σ′ alone; the first term of the product rule is missing. (At 0 the slope is ½, not 0.)",
            "σ + z σ′.",
        ),
        Misconception(
            "factor_lost",
            silu_factor_lost,
            "In the second term of your slope the factor z is missing.",
            "σ + z σ (1 − σ).",
        ),
        Misconception(
            "exp_overflows",
            silu_exp_overflows,
            "At large z your result is NaN: eᶻ overflows above and below the line, and ∞/∞ is no number.",
            "Write σ(z) as 1 / (1 + e^(−z)), or use torch.sigmoid.",
        ),
        Misconception(
            "gate_of_other_sign",
            silu_gate_of_other_sign,
            "Your gate is σ(−z): it lets negative values pass and stops positive ones.",
            "z · σ(z).",
        ),
        Misconception(
            "square",
            silu_square,
            "In your slope σ is multiplied by itself, not by 1 − σ.",
            "σ′ = σ (1 − σ).",
        ),
        Misconception(
            "gate_alone",
            silu_gate_alone,
            "This is the sigmoid. SiLU is z times the sigmoid.",
            "Multiply by z, then differentiate the product.",
        ),
    ),
    variants=(
        Variant("by_value", silu_by_value),
        Variant("by_tanh", silu_by_tanh),
        Variant("by_autograd", silu_by_autograd),
    ),
    forbidden=("torch.nn.functional.silu", "torch.nn.SiLU", "course_lib.activations"),
    hints=(
        "z · σ(z) is a product of two things that change with z.",
        "The slope of σ is σ (1 − σ).",
        "s = torch.sigmoid(z); the value is z * s, the slope s + z * s * (1 - s).",
    ),
    minutes=5,
)
