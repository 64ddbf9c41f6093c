"""Leaky ReLU and ELU with any α, each with its slope, and what PReLU's learned α gets from the loss."""

from __future__ import annotations

import numpy as np
import torch

from course_lib import activations as reference

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

# ---------------------------------------------------------------- leaky ReLU


def leaky_cases(seed):
    """The usual slope, a large one, one above 1, none; exact zeros, one row, ±1e4, float64, feature maps."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0.0, 2.0, (8, 6)).astype(np.float32)
    z[2, 1:4] = 0
    yield Case("8 × 6, α = 0.01", {"z": z, "alpha": 0.01})
    yield Case("8 × 6, α = 0.3", {"z": z, "alpha": 0.3})
    yield Case("α = 2.5, above 1", {"z": z, "alpha": 2.5})
    yield Case("α = 0, plain ReLU", {"z": z, "alpha": 0.0})
    yield Case("one row, α = 0.2", {"z": rng.normal(size=(1, 6)).astype(np.float32), "alpha": 0.2})
    yield Case("values around ±1e4, α = 0.05", {"z": z * 5e3, "alpha": 0.05})
    yield Case("float64, feature maps, α = 0.1", {"z": rng.normal(size=(2, 3, 4, 4)), "alpha": 0.1})


def value_and_slope_probe(candidate, case):
    import torch

    z = torch.tensor(case["z"])
    value, slope = candidate(z, case["alpha"])
    return {"value": value, "slope": slope, "input left as it was": z}


def leaky_relu(z, alpha):
    """(value, slope) of leaky ReLU at z: z and 1 where z > 0, else αz and α."""
    return torch.where(z > 0, z, alpha * z), torch.where(z > 0, torch.ones_like(z), alpha)


def max_for_any_alpha(z, alpha):
    return torch.maximum(z, alpha * z), torch.where(z > 0, torch.ones_like(z), alpha)


def leak_is_a_constant(z, alpha):
    return torch.where(z > 0, z, torch.full_like(z, alpha)), torch.where(z > 0, torch.ones_like(z), alpha)


def slope_of_relu(z, alpha):
    return torch.where(z > 0, z, alpha * z), (z > 0).to(z.dtype)


def slope_times_z(z, alpha):
    return torch.where(z > 0, z, alpha * z), torch.where(z > 0, torch.ones_like(z), alpha * z)


def leaks_upwards(z, alpha):
    return torch.where(z > 0, z, -alpha * z), torch.where(z > 0, torch.ones_like(z), -alpha)


def sides_exchanged(z, alpha):
    return torch.where(z > 0, alpha * z, z), torch.where(z > 0, alpha, torch.ones_like(z))


def alpha_ignored(z, alpha):
    return torch.where(z > 0, z, 0.01 * z), torch.where(z > 0, torch.ones_like(z), 0.01)


def kink_from_the_right(z, alpha):
    return torch.where(z > 0, z, alpha * z), torch.where(z >= 0, torch.ones_like(z), alpha)


def kink_in_the_middle(z, alpha):
    slope = torch.where(z > 0, torch.ones_like(z), alpha)
    return torch.where(z > 0, z, alpha * z), torch.where(z == 0, torch.full_like(z, (1 + alpha) / 2), slope)


def slope_in_float32(z, alpha):
    return torch.where(z > 0, z, alpha * z), torch.where(z > 0, 1.0, alpha)


def leaky_in_place(z, alpha):
    slope = torch.where(z > 0, torch.ones_like(z), alpha)
    z[z < 0] *= alpha
    return z * 1, slope


def leaky_by_clamp(z, alpha):
    right = (z > 0).to(z.dtype)
    return z.clamp(min=0) + alpha * z.clamp(max=0), right + alpha * (1 - right)


def leaky_by_autograd(z, alpha):
    x = z.detach().clone().requires_grad_()
    y = torch.where(x > 0, x, x * alpha)
    return y.detach(), torch.autograd.grad(y.sum(), x)[0]


def leaky_by_slope(z, alpha):
    slope = torch.full_like(z, alpha).masked_fill(z > 0, 1.0)
    return slope * z, slope


KINK = "At 0 itself take the slope from the left, as the frameworks do: 1 only where z > 0."

leaky_relu_exercise = Exercise(
    id="activations.leaky_relu",
    lesson="03_activations",
    title="Leaky ReLU and its slope",
    answer="leaky_relu",
    criteria=(
        Criterion("value", 1, Close(operations=4)),
        Criterion("slope", 1, Close(operations=4)),
        Criterion("input left as it was", 0),
    ),
    cases=leaky_cases,
    probe=value_and_slope_probe,
    reference=leaky_relu,
    misconceptions=(
        Misconception(
            "max_for_any_alpha",
            max_for_any_alpha,
            "max(z, αz) is leaky ReLU only while α ≤ 1. In the case “{case}” αz is the larger one where z is positive, "
            "so your two sides are exchanged there.",
            "Choose by the sign of z: torch.where(z > 0, z, alpha * z).",
        ),
        Misconception(
            "leak_is_a_constant",
            leak_is_a_constant,
            "Below 0 your value is α itself. α is the slope there; the value is α times z.",
            "Write alpha * z below 0.",
        ),
        Misconception(
            "slope_of_relu",
            slope_of_relu,
            "Your slope below 0 is 0. That is ReLU's: with it the unit could die, and the leak would be for nothing.",
            "Differentiate αz by z.",
        ),
        Misconception(
            "slope_times_z",
            slope_times_z,
            "Below 0 your slope is αz, which is the value there, not its derivative.",
            "Differentiate αz by z: what is left is a number.",
        ),
        Misconception(
            "leaks_upwards",
            leaks_upwards,
            "Below 0 your value has the wrong sign: it rises again to the left, like an absolute value.",
            "αz is negative where z is.",
        ),
        Misconception(
            "sides_exchanged",
            sides_exchanged,
            "The two sides are exchanged: positive inputs are multiplied by α, and negative ones pass.",
            "z where z > 0, αz elsewhere.",
        ),
        Misconception(
            "alpha_ignored",
            alpha_ignored,
            "You always leak by 0.01, whatever α is given (in the case “{case}” it is {alpha:g}).",
            "Use the argument alpha.",
        ),
        Misconception(
            "kink_from_the_right",
            kink_from_the_right,
            "At z = 0 your slope is 1. There the function has a kink and no derivative, and a choice must be made.",
            KINK,
        ),
        Misconception(
            "kink_in_the_middle",
            kink_in_the_middle,
            "At z = 0 your slope is the mean of the two sides. A fair choice, but not the one that is asked for.",
            KINK,
        ),
        Misconception(
            "slope_in_float32",
            slope_in_float32,
            "Your slope is always float32: torch.where of two plain numbers takes the default dtype. In the case "
            "“{case}” z is float64.",
            "Let one side come from z: torch.ones_like(z).",
        ),
        Misconception(
            "in_place",
            leaky_in_place,
            "Your function multiplies z itself by α: the caller's tensor is overwritten.",
            "Make a new tensor: torch.where(z > 0, z, alpha * z).",
        ),
    ),
    variants=(
        Variant("by_clamp", leaky_by_clamp),
        Variant("by_autograd", leaky_by_autograd),
        Variant("by_slope", leaky_by_slope),
    ),
    forbidden=(
        "torch.nn.functional.leaky_relu",
        "torch.nn.LeakyReLU",
        "torch.nn.functional.prelu",
        "course_lib.activations",
    ),
    hints=(
        "Two straight lines meet at 0. What is the slope of each?",
        "torch.where(condition, a, b) takes a where the condition is true and b elsewhere.",
        "The value is torch.where(z > 0, z, alpha * z); the slope is 1 and alpha in the same two places, in z's dtype.",
    ),
    minutes=6,
)

# ---------------------------------------------------------------- ELU


def elu_cases(seed):
    """α = 1 and not 1, exact zeros, values so near 0 that eˣ − 1 loses its digits, ±1e4 where eˣ overflows, float64."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0.0, 2.0, (8, 6)).astype(np.float32)
    z[3, :3] = 0
    far = (rng.choice([-1.0, 1.0], (4, 5)) * 1e4).astype(np.float32)
    far[0, :2] = (1e4, -1e4)
    yield Case("8 × 6, α = 1", {"z": z, "alpha": 1.0})
    yield Case("8 × 6, α = 0.4", {"z": z, "alpha": 0.4})
    yield Case("8 × 6, α = 1.7", {"z": z, "alpha": 1.7})
    yield Case("all zeros, α = 0.5", {"z": np.zeros((2, 3), np.float32), "alpha": 0.5})
    yield Case("values near −1e-4, α = 1", {"z": -np.abs(z[:3] + 3).astype(np.float32) * 3e-5, "alpha": 1.0})
    yield Case("values of ±1e4, α = 1.5", {"z": far, "alpha": 1.5})
    yield Case("float64, feature maps, α = 0.8", {"z": rng.normal(size=(2, 3, 4, 4)), "alpha": 0.8})


def elu_probe(candidate, case):
    """Autograd's gradient of the value too: a where that picks the finite side still passes 0 · inf backward."""
    import torch

    z = torch.tensor(case["z"])
    value, slope = candidate(z, case["alpha"])
    leaf = torch.tensor(case["z"], requires_grad=True)
    candidate(leaf, case["alpha"])[0].sum().backward()
    finite = bool(leaf.grad.isfinite().all())
    return {
        "value": value,
        "slope": slope,
        "autograd through your value": "finite" if finite else "NaN or infinite",
        "input left as it was": z,
    }


def elu(z, alpha):
    """(value, slope) of ELU at z: z and 1 where z > 0, else α(eᶻ − 1) and αeᶻ."""
    low = z.clamp(max=0)
    value = torch.where(z > 0, z, alpha * torch.expm1(low))
    return value, torch.where(z > 0, torch.ones_like(z), alpha * low.exp())


def without_alpha(z, alpha):
    low = z.clamp(max=0)
    return torch.where(z > 0, z, torch.expm1(low)), torch.where(z > 0, torch.ones_like(z), low.exp())


def slope_without_alpha(z, alpha):
    low = z.clamp(max=0)
    value = torch.where(z > 0, z, alpha * torch.expm1(low))
    return value, torch.where(z > 0, torch.ones_like(z), low.exp())


def slope_is_value_plus_one(z, alpha):
    low = z.clamp(max=0)
    value = torch.where(z > 0, z, alpha * torch.expm1(low))
    return value, torch.where(z > 0, torch.ones_like(z), value + 1)


def exp_minus_one(z, alpha):
    low = z.clamp(max=0)
    value = torch.where(z > 0, z, alpha * (low.exp() - 1))
    return value, torch.where(z > 0, torch.ones_like(z), alpha * low.exp())


def where_without_clamp(z, alpha):
    value = torch.where(z > 0, z, alpha * torch.expm1(z))
    return value, torch.where(z > 0, torch.ones_like(z), alpha * torch.exp(z))


def exp_without_clamp(z, alpha):
    value = torch.where(z > 0, z, alpha * (torch.exp(z) - 1))
    return value, torch.where(z > 0, torch.ones_like(z), alpha * torch.exp(z))


def masks_multiplied(z, alpha):
    positive, negative = (z > 0).to(z.dtype), (z <= 0).to(z.dtype)
    value = z * positive + alpha * torch.expm1(z) * negative
    return value, positive + alpha * torch.exp(z) * negative


def larger_of_the_two(z, alpha):
    low = z.clamp(max=0)
    value = torch.maximum(z, alpha * torch.expm1(z))
    return value, torch.where(z > 0, torch.ones_like(z), alpha * low.exp())


def alpha_in_the_exponent(z, alpha):
    low = z.clamp(max=0)
    value = torch.where(z > 0, z, torch.expm1(alpha * low))
    return value, torch.where(z > 0, torch.ones_like(z), alpha * (alpha * low).exp())


def celu_instead(z, alpha):
    low = z.clamp(max=0)
    value = torch.where(z > 0, z, alpha * torch.expm1(low / alpha))
    return value, torch.where(z > 0, torch.ones_like(z), (low / alpha).exp())


def elu_kink_from_the_right(z, alpha):
    low = z.clamp(max=0)
    value = torch.where(z > 0, z, alpha * torch.expm1(low))
    return value, torch.where(z >= 0, torch.ones_like(z), alpha * low.exp())


def elu_turned_over(z, alpha):
    low = z.clamp(max=0)
    value = torch.where(z > 0, z, -alpha * torch.expm1(low))
    return value, torch.where(z > 0, torch.ones_like(z), -alpha * low.exp())


def elu_as_a_sum(z, alpha):
    low = torch.minimum(z, torch.zeros_like(z))
    right = (z > 0).to(z.dtype)
    return z.clamp(min=0) + alpha * low.expm1(), right + (1 - right) * alpha * low.exp()


def elu_slope_from_value(z, alpha):
    value = torch.relu(z) + alpha * torch.expm1(-torch.relu(-z))
    slope = torch.where(z > 0, torch.ones_like(z), alpha * torch.exp(-torch.relu(-z)))
    return value, slope


def elu_by_filling(z, alpha):
    low = torch.where(z > 0, torch.zeros_like(z), z)
    value, slope = alpha * torch.special.expm1(low), alpha * torch.exp(low)
    return torch.where(z > 0, z, value), slope.masked_fill(z > 0, 1.0)


elu_exercise = Exercise(
    id="activations.elu",
    lesson="03_activations",
    title="ELU with any α, and its slope",
    answer="elu",
    criteria=(
        Criterion("value", 1, Close(operations=8)),
        Criterion("slope", 1, Close(operations=8)),
        Criterion("autograd through your value", 1, requires=("value",)),
        Criterion("input left as it was", 0),
    ),
    cases=elu_cases,
    probe=elu_probe,
    reference=elu,
    misconceptions=(
        Misconception(
            "without_alpha",
            without_alpha,
            "α does nothing in your function: it is ELU for α = 1 only.",
            "Below 0 the value is α(eᶻ − 1).",
        ),
        Misconception(
            "slope_without_alpha",
            slope_without_alpha,
            "The value is right, but the slope below 0 lacks the factor α: it is right only where α = 1.",
            "Differentiate α(eᶻ − 1).",
        ),
        Misconception(
            "slope_is_value_plus_one",
            slope_is_value_plus_one,
            "You take the slope as value + 1. That short cut is right only for α = 1; in general αeᶻ is the "
            "value plus α.",
            "Write αeᶻ, or value + alpha.",
        ),
        Misconception(
            "exp_minus_one",
            exp_minus_one,
            "Near 0 your value has lost its digits: eᶻ is about 1, and of the difference only rounding is left.",
            "Use torch.expm1(z), which is eᶻ − 1 without the subtraction.",
        ),
        Misconception(
            "where_without_clamp",
            where_without_clamp,
            "The value is right, but its gradient is NaN at large z: torch.where computes both sides, eᶻ overflows on "
            "the side that is not taken, and backward multiplies its infinite slope by 0.",
            "Let the exponential see only what it is for: z.clamp(max=0).",
        ),
        Misconception(
            "exp_without_clamp",
            exp_without_clamp,
            "Two things go wrong with torch.exp(z) − 1: near 0 it loses its digits, and at large z it overflows on the "
            "side that torch.where does not take, which turns the gradient into NaN.",
            "Use torch.expm1 on z.clamp(max=0).",
        ),
        Misconception(
            "masks_multiplied",
            masks_multiplied,
            "You multiply both sides by masks of 0 and 1. At large z the exponential is infinite, and 0 · ∞ is NaN.",
            "Choose by torch.where, and give the exponential z.clamp(max=0).",
        ),
        Misconception(
            "larger_of_the_two",
            larger_of_the_two,
            "ELU is not the larger of its two branches: eᶻ − 1 lies above z everywhere, so your function grows "
            "exponentially to the right.",
            "Choose by the sign of z.",
        ),
        Misconception(
            "alpha_in_the_exponent",
            alpha_in_the_exponent,
            "α stands in the exponent: your function goes to −1 on the left whatever α is. It should go to −α.",
            "α multiplies eᶻ − 1.",
        ),
        Misconception(
            "celu_instead",
            celu_instead,
            "This is CELU, α(e^(z/α) − 1): its slope is continuous for every α. ELU divides nothing by α.",
            "Below 0 the value is α(eᶻ − 1), and its slope at 0 is α.",
        ),
        Misconception(
            "kink_from_the_right",
            elu_kink_from_the_right,
            "At z = 0 your slope is 1. From the left it is α; for α = {alpha:g} the function has a kink there.",
            KINK,
        ),
        Misconception(
            "turned_over",
            elu_turned_over,
            "Below 0 your value is positive: the sign of the branch is turned round.",
            "eᶻ − 1 is negative for z < 0. Leave it so.",
        ),
    ),
    variants=(
        Variant("as_a_sum", elu_as_a_sum),
        Variant("by_relu", elu_slope_from_value),
        Variant("by_filling", elu_by_filling),
    ),
    forbidden=(
        "torch.nn.functional.elu",
        "torch.nn.ELU",
        "torch.nn.functional.celu",
        "torch.nn.functional.selu",
        "course_lib.activations",
    ),
    hints=(
        "Which of the two branches holds for z > 0, and what are their slopes?",
        "torch.where computes both branches for every z. What is eᶻ at z = 1e4, and what does 0 · ∞ give?",
        "low = z.clamp(max=0); the value is torch.where(z > 0, z, alpha * torch.expm1(low)), the slope 1 or "
        "alpha * low.exp().",
    ),
    minutes=10,
)

# ---------------------------------------------------------------- PReLU's gradient by alpha


def prelu_cases(seed):
    """One slope and one for each channel, rows and feature maps (also square ones), slopes above 1, zeros, float64."""
    rng = np.random.default_rng(seed)

    def case(name, shape, slopes, scale=1.0, dtype=np.float32):
        z = (rng.normal(-0.3, 1.0, shape) * scale).astype(dtype)
        z.flat[:2] = 0
        return Case(
            name,
            {"grad": rng.normal(0.2, 1.0, shape).astype(dtype), "z": z, "alpha": np.asarray(slopes, dtype)},
        )

    yield case("16 rows of 5 units, one α", (16, 5), [0.25])
    yield case("16 rows of 5 units, an α for each", (16, 5), rng.uniform(0.05, 0.9, 5))
    yield case("maps of 4 × 5 in 3 channels, an α for each", (6, 3, 4, 5), rng.uniform(0.05, 0.9, 3))
    yield case("maps of 4 × 4 in 4 channels, an α for each", (5, 4, 4, 4), rng.uniform(0.05, 0.9, 4))
    yield case("maps, one α, above 1", (3, 2, 4, 4), [1.8])
    yield case("one row", (1, 6), rng.uniform(0.1, 0.5, 6))
    yield case("values around ±1e4", (8, 3), rng.uniform(0.1, 0.5, 3), scale=1e4)
    yield case("float64 maps", (4, 3, 5, 5), rng.uniform(0.05, 0.9, 3), dtype=np.float64)


def prelu_probe(candidate, case):
    import torch

    grad, z, alpha = (torch.tensor(case[name]) for name in ("grad", "z", "alpha"))
    to_z, to_alpha = candidate(grad, z, alpha)
    return {"gradient by z": to_z, "gradient by alpha": to_alpha}


def mean_over_the_batch(grad, z, alpha):
    a = alpha.view(1, -1, *[1] * (z.dim() - 2))
    axes = [d for d in range(z.dim()) if d != 1 or len(alpha) == 1]
    return grad * torch.where(z > 0, 1.0, a).to(z.dtype), (grad * z.clamp(max=0)).mean(axes).view_as(alpha)


def mean_over_examples(grad, z, alpha):
    a = alpha.view(1, -1, *[1] * (z.dim() - 2))
    axes = [d for d in range(z.dim()) if d != 1 or len(alpha) == 1]
    to_alpha = (grad * z.clamp(max=0)).sum(axes).view_as(alpha) / len(z)
    return grad * torch.where(z > 0, 1.0, a).to(z.dtype), to_alpha


def upstream_forgotten(grad, z, alpha):
    a = alpha.view(1, -1, *[1] * (z.dim() - 2))
    axes = [d for d in range(z.dim()) if d != 1 or len(alpha) == 1]
    return grad * torch.where(z > 0, 1.0, a).to(z.dtype), z.clamp(max=0).sum(axes).view_as(alpha)


def all_z_counted(grad, z, alpha):
    a = alpha.view(1, -1, *[1] * (z.dim() - 2))
    axes = [d for d in range(z.dim()) if d != 1 or len(alpha) == 1]
    return grad * torch.where(z > 0, 1.0, a).to(z.dtype), (grad * z).sum(axes).view_as(alpha)


def z_forgotten(grad, z, alpha):
    a = alpha.view(1, -1, *[1] * (z.dim() - 2))
    axes = [d for d in range(z.dim()) if d != 1 or len(alpha) == 1]
    return grad * torch.where(z > 0, 1.0, a).to(z.dtype), (grad * (z <= 0).to(z.dtype)).sum(axes).view_as(alpha)


def alpha_times_z(grad, z, alpha):
    a = alpha.view(1, -1, *[1] * (z.dim() - 2))
    axes = [d for d in range(z.dim()) if d != 1 or len(alpha) == 1]
    return grad * torch.where(z > 0, 1.0, a).to(z.dtype), (grad * a * z.clamp(max=0)).sum(axes).view_as(alpha)


def sign_lost(grad, z, alpha):
    a = alpha.view(1, -1, *[1] * (z.dim() - 2))
    axes = [d for d in range(z.dim()) if d != 1 or len(alpha) == 1]
    to_alpha = (grad * z.clamp(max=0).abs()).sum(axes).view_as(alpha)
    return grad * torch.where(z > 0, 1.0, a).to(z.dtype), to_alpha


def one_sum_for_all(grad, z, alpha):
    a = alpha.view(1, -1, *[1] * (z.dim() - 2))
    to_alpha = (grad * z.clamp(max=0)).sum().expand(len(alpha))
    return grad * torch.where(z > 0, 1.0, a).to(z.dtype), to_alpha


def summed_over_examples_only(grad, z, alpha):
    a = alpha.view(1, -1, *[1] * (z.dim() - 2))
    return grad * torch.where(z > 0, 1.0, a).to(z.dtype), (grad * z.clamp(max=0)).sum(0)


def slope_left_out_by_z(grad, z, alpha):
    axes = [d for d in range(z.dim()) if d != 1 or len(alpha) == 1]
    return grad * (z > 0).to(z.dtype), (grad * z.clamp(max=0)).sum(axes).view_as(alpha)


def prelu_by_autograd(grad, z, alpha):
    x, a = z.clone().requires_grad_(), alpha.clone().requires_grad_()
    shaped = a.reshape(1, -1, *[1] * (z.dim() - 2))
    y = torch.where(x > 0, x, shaped * x)
    return torch.autograd.grad(y, (x, a), grad)


def prelu_by_moving_channels(grad, z, alpha):
    rows, grads = (t.movedim(1, -1).reshape(-1, t.shape[1]) for t in (z, grad))
    by_channel = (torch.minimum(rows, torch.zeros_like(rows)) * grads).sum(0)
    to_alpha = by_channel if len(alpha) > 1 or z.shape[1] == 1 else by_channel.sum().reshape(1)
    slopes = torch.where(rows > 0, torch.ones_like(rows), alpha.expand(rows.shape[1]))
    to_z = (slopes * grads).reshape(z.movedim(1, -1).shape).movedim(-1, 1)
    return to_z, to_alpha


def prelu_by_masks(grad, z, alpha):
    off = (z <= 0).to(z.dtype)
    a = alpha.reshape([-1 if d == 1 else 1 for d in range(z.dim())])
    share = grad * off * z
    while share.dim() > 2:
        share = share.sum(-1)
    to_alpha = share.sum(0) if len(alpha) > 1 else share.sum().reshape(1)
    return grad * (1 - off) + grad * off * a, to_alpha


prelu_backward_exercise = Exercise(
    id="activations.prelu_backward",
    lesson="03_activations",
    title="PReLU: the gradient of a learned slope",
    answer="prelu_backward",
    criteria=(
        Criterion("gradient by z", 1, Close(operations=4)),
        Criterion("gradient by alpha", 2, Close(operations=256)),  # a sum over a batch, in any order
    ),
    cases=prelu_cases,
    probe=prelu_probe,
    reference=reference.prelu_backward,
    misconceptions=(
        Misconception(
            "mean_over_the_batch",
            mean_over_the_batch,
            "Your gradient by α is a mean, {ratio:.3g} × the right one. The same α acts on every value, so their "
            "contributions add up. (If the loss is a mean, that is in `grad` already.)",
            "Sum over all values that share the α.",
        ),
        Misconception(
            "mean_over_examples",
            mean_over_examples,
            "Your gradient by α is divided by the number of examples ({ratio:.3g} × the right one). If the loss is a "
            "mean, that factor is in `grad` already; here it stands twice.",
            "Sum over all values that share the α, and divide by nothing.",
        ),
        Misconception(
            "upstream_forgotten",
            upstream_forgotten,
            "Your gradient by α does not ask `grad`: it says how the outputs change with α, not how the loss does.",
            "Multiply by grad before you sum: the chain rule.",
        ),
        Misconception(
            "all_z_counted",
            all_z_counted,
            "Positive z count in your gradient by α. There the output is z, whatever α is.",
            "Only negative z count: z.clamp(max=0).",
        ),
        Misconception(
            "z_forgotten",
            z_forgotten,
            "You take the derivative of αz by α as 1. It is z.",
            "Sum grad · z over the negative z.",
        ),
        Misconception(
            "alpha_times_z",
            alpha_times_z,
            "You sum grad · αz, the output itself. Its derivative by α is z alone.",
            "Leave α out of the sum.",
        ),
        Misconception(
            "sign_lost",
            sign_lost,
            "Your gradient by α has the wrong sign: z is negative there, and you take its size.",
            "Keep the sign of z.",
        ),
        Misconception(
            "one_sum_for_all",
            one_sum_for_all,
            "You sum over the channels too, so each α gets the gradient of all of them. In the case “{case}” each "
            "channel has its own α.",
            "Keep axis 1 where alpha has an entry for each channel.",
        ),
        Misconception(
            "summed_over_examples_only",
            summed_over_examples_only,
            "You sum over the examples alone. Every value that shares an α counts: all pixels of a map, and with one "
            "α for all, all channels.",
            "The result has the shape of alpha.",
        ),
        Misconception(
            "slope_left_out_by_z",
            slope_left_out_by_z,
            "The gradient by α is right, but by z yours is 0 below 0, as for ReLU: the leak is "
            "missing on the way back.",
            "Below 0 the gradient by z is grad · α.",
        ),
    ),
    variants=(
        Variant("by_autograd", prelu_by_autograd),
        Variant("by_moving_channels", prelu_by_moving_channels),
        Variant("by_masks", prelu_by_masks),
    ),
    forbidden=("torch.nn.functional.prelu", "torch.prelu", "torch.nn.PReLU", "course_lib.activations"),
    hints=(
        "Write the output for one negative z: αz. How does it change when α does?",
        "How many values of the output does one α act on? What does the chain rule do with several paths?",
        "grad · min(z, 0), summed over every axis but the channels' (axis 1); over that one too where alpha has one "
        "entry.",
    ),
    minutes=12,
)
