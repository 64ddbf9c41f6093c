"""Is a gradient right? A check by differences, whose step, sides and measure of error all matter."""

from __future__ import annotations

import numpy as np
import torch

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant
from .backward import LESSON


def check_cases(seed):
    """Right gradients, flat and bent; wrong ones: a factor, a sign, a tiny one, a single entry; zeros; a matrix.

    The function is Σ (a x + b sin(c x)) + offset; each wrong gradient has its largest error in a known entry.
    """
    rng = np.random.default_rng(seed)

    def case(name, shape=(5,), scale=1.0, c=1.0, offset=0.0, wrong="", position=0, factor=1.0):
        sign = rng.choice([-1.0, 1.0], shape)
        return Case(
            name,
            {
                "x": rng.uniform(-0.5, 0.5, shape),
                "a": scale * sign * rng.uniform(2.0, 4.0, shape),
                "b": scale * sign * rng.uniform(0.5, 1.0, shape) / c,
                "c": c,
                "offset": offset,
                "wrong": wrong,
                "position": position,
                "factor": factor,
            },
        )

    yield case("right, a smooth function")
    yield case("right, a matrix of inputs", shape=(3, 4))
    bent = case("right, a strongly bent function", c=20.0)
    yield bent
    yield case("right, the function's values are around 10", offset=10.0)
    zero = case("right, and 0 in one entry")
    zero["a"][1] = zero["b"][1] = 0.0
    yield zero
    yield case("twice too large everywhere", wrong="all", factor=2.0)
    yield case("tiny, and twice too large", scale=1e-7, wrong="all", factor=2.0)
    yield case("the wrong sign in one entry", wrong="entry", position=2, factor=-1.0)
    small = case("one small entry 30% too small", wrong="entry", position=3, factor=0.7)
    small["a"][3] *= 1e-3
    small["b"][3] *= 1e-3
    yield small
    yield case("half as large, in a matrix", shape=(4, 3), wrong="all", factor=0.5)


def check_probe(candidate, case):
    """The learner's error, rounded, and what can be seen of the step from where the function was asked."""
    import math

    import torch

    x, a, b = (torch.tensor(case[name]) for name in ("x", "a", "b"))
    start, distances = x.clone(), []

    def f(point):
        away = (point.detach().double().reshape(start.shape) - start).abs()
        distances.append(float(away[away > 0].max()) if (away > 0).any() else 0.0)
        point = point.reshape(start.shape)
        return (a * point + b * torch.sin(case["c"] * point)).sum() + case["offset"]

    gradient = a + b * case["c"] * torch.cos(case["c"] * x)
    if case["wrong"] == "all":
        gradient = gradient * case["factor"]
    if case["wrong"] == "entry":
        gradient.view(-1)[case["position"]] *= case["factor"]
    error = candidate(f, x, gradient)
    error = float(torch.as_tensor(error).detach())
    moved = [distance for distance in distances if distance]
    step = max(moved) if moved else 0.0
    where = "not moved" if not step else "too small" if step < 1e-8 else "good" if step < 2e-3 else "too large"
    facts = {"step": where, "x afterwards": x}
    if case["wrong"]:
        # differences leave a little noise: two decimals tell the kinds of error apart
        return facts | {"error of a wrong gradient": round(error, 2) if math.isfinite(error) else error}
    return facts | {"a right gradient passes": error < 1e-6}


def gradient_error(f, x, gradient):
    """The largest |a − n| / max(|a|, |n|) over the entries, n by central differences; f: tensor → 0-dim tensor."""
    h, point, errors = 1e-5, x.clone(), []
    for i in range(x.numel()):
        value = x.reshape(-1)[i]
        point.view(-1)[i] = value + h
        above = f(point)
        point.view(-1)[i] = value - h
        below = f(point)
        point.view(-1)[i] = value
        a, n = float(gradient.reshape(-1)[i]), float(above - below) / (2 * h)
        larger = max(abs(a), abs(n))
        errors.append(abs(a - n) / larger if larger else 0.0)
    return max(errors)


def step_too_small(f, x, gradient):
    h, numeric = 1e-13, torch.zeros_like(x)
    for i in range(x.numel()):
        shift = torch.zeros_like(x)
        shift.view(-1)[i] = h
        numeric.view(-1)[i] = (f(x + shift) - f(x - shift)) / (2 * h)
    larger = torch.maximum(gradient.abs(), numeric.abs())
    return torch.where(larger > 0, (gradient - numeric).abs() / larger, 0.0).max()


def step_too_large(f, x, gradient):
    h, numeric = 0.05, torch.zeros_like(x)
    for i in range(x.numel()):
        shift = torch.zeros_like(x)
        shift.view(-1)[i] = h
        numeric.view(-1)[i] = (f(x + shift) - f(x - shift)) / (2 * h)
    larger = torch.maximum(gradient.abs(), numeric.abs())
    return torch.where(larger > 0, (gradient - numeric).abs() / larger, 0.0).max()


def one_sided(f, x, gradient):
    h, numeric = 1e-5, torch.zeros_like(x)
    for i in range(x.numel()):
        shift = torch.zeros_like(x)
        shift.view(-1)[i] = h
        numeric.view(-1)[i] = (f(x + shift) - f(x)) / h
    larger = torch.maximum(gradient.abs(), numeric.abs())
    return torch.where(larger > 0, (gradient - numeric).abs() / larger, 0.0).max()


def divided_by_one_step(f, x, gradient):
    h, numeric = 1e-5, torch.zeros_like(x)
    for i in range(x.numel()):
        shift = torch.zeros_like(x)
        shift.view(-1)[i] = h
        numeric.view(-1)[i] = (f(x + shift) - f(x - shift)) / h
    larger = torch.maximum(gradient.abs(), numeric.abs())
    return torch.where(larger > 0, (gradient - numeric).abs() / larger, 0.0).max()


def absolute_error(f, x, gradient):
    h, numeric = 1e-5, torch.zeros_like(x)
    for i in range(x.numel()):
        shift = torch.zeros_like(x)
        shift.view(-1)[i] = h
        numeric.view(-1)[i] = (f(x + shift) - f(x - shift)) / (2 * h)
    return (gradient - numeric).abs().max()


def relative_to_the_whole(f, x, gradient):
    h, numeric = 1e-5, torch.zeros_like(x)
    for i in range(x.numel()):
        shift = torch.zeros_like(x)
        shift.view(-1)[i] = h
        numeric.view(-1)[i] = (f(x + shift) - f(x - shift)) / (2 * h)
    return (gradient - numeric).norm() / max(gradient.norm(), numeric.norm())


def relative_to_the_sum(f, x, gradient):
    h, numeric = 1e-5, torch.zeros_like(x)
    for i in range(x.numel()):
        shift = torch.zeros_like(x)
        shift.view(-1)[i] = h
        numeric.view(-1)[i] = (f(x + shift) - f(x - shift)) / (2 * h)
    total = gradient.abs() + numeric.abs()
    return torch.where(total > 0, (gradient - numeric).abs() / total, 0.0).max()


def relative_to_the_gradient(f, x, gradient):
    h, numeric = 1e-5, torch.zeros_like(x)
    for i in range(x.numel()):
        shift = torch.zeros_like(x)
        shift.view(-1)[i] = h
        numeric.view(-1)[i] = (f(x + shift) - f(x - shift)) / (2 * h)
    size = gradient.abs()
    return torch.where(size > 0, (gradient - numeric).abs() / size, 0.0).max()


def mean_error(f, x, gradient):
    h, numeric = 1e-5, torch.zeros_like(x)
    for i in range(x.numel()):
        shift = torch.zeros_like(x)
        shift.view(-1)[i] = h
        numeric.view(-1)[i] = (f(x + shift) - f(x - shift)) / (2 * h)
    larger = torch.maximum(gradient.abs(), numeric.abs())
    return torch.where(larger > 0, (gradient - numeric).abs() / larger, 0.0).mean()


def zero_by_zero(f, x, gradient):
    h, numeric = 1e-5, torch.zeros_like(x)
    for i in range(x.numel()):
        shift = torch.zeros_like(x)
        shift.view(-1)[i] = h
        numeric.view(-1)[i] = (f(x + shift) - f(x - shift)) / (2 * h)
    return ((gradient - numeric).abs() / torch.maximum(gradient.abs(), numeric.abs())).max()


def floor_in_the_denominator(f, x, gradient):
    h, numeric = 1e-5, torch.zeros_like(x)
    for i in range(x.numel()):
        shift = torch.zeros_like(x)
        shift.view(-1)[i] = h
        numeric.view(-1)[i] = (f(x + shift) - f(x - shift)) / (2 * h)
    return ((gradient - numeric).abs() / torch.maximum(gradient.abs(), numeric.abs()).clamp(min=1e-4)).max()


def all_entries_at_once(f, x, gradient):
    h = 1e-5
    numeric = ((f(x + h) - f(x - h)) / (2 * h)).expand_as(x)
    larger = torch.maximum(gradient.abs(), numeric.abs())
    return torch.where(larger > 0, (gradient - numeric).abs() / larger, 0.0).max()


def x_left_moved(f, x, gradient):
    h, numeric = 1e-5, torch.zeros_like(x)
    for i in range(x.numel()):
        x.view(-1)[i] += h
        above = f(x)
        x.view(-1)[i] -= 2 * h
        numeric.view(-1)[i] = (above - f(x)) / (2 * h)
    larger = torch.maximum(gradient.abs(), numeric.abs())
    return torch.where(larger > 0, (gradient - numeric).abs() / larger, 0.0).max()


def in_float32(f, x, gradient):
    h, x = 1e-5, x.float()
    numeric = torch.zeros_like(x)
    for i in range(x.numel()):
        shift = torch.zeros_like(x)
        shift.view(-1)[i] = h
        numeric.view(-1)[i] = (f(x + shift).float() - f(x - shift).float()) / (2 * h)
    larger = torch.maximum(gradient.abs(), numeric.abs())
    return torch.where(larger > 0, (gradient - numeric).abs() / larger, 0.0).max()


def check_by_unit_vectors(f, x, gradient):
    eye = torch.eye(x.numel(), dtype=x.dtype).view(-1, *x.shape)
    numeric = torch.stack([(f(x + 1e-6 * e) - f(x - 1e-6 * e)) / 2e-6 for e in eye]).view_as(x)
    larger = torch.maximum(gradient.abs(), numeric.abs())
    ratio = (gradient - numeric).abs() / larger
    return float(torch.nan_to_num(ratio, nan=0.0).max())


def check_with_scaled_steps(f, x, gradient):
    flat, worst = x.flatten(), 0.0
    for i, value in enumerate(flat.tolist()):
        h = 1e-5 * max(1.0, abs(value))
        plus, minus = flat.clone(), flat.clone()
        plus[i], minus[i] = value + h, value - h
        n = ((f(plus.view_as(x)) - f(minus.view_as(x))) / (2 * h)).item()
        a = gradient.flatten()[i].item()
        if a or n:
            worst = max(worst, abs(a - n) / max(abs(a), abs(n)))
    return worst


def check_in_numpy(f, x, gradient):
    numeric = np.zeros(tuple(x.shape))
    for index in np.ndindex(*x.shape):
        saved = x[index].item()
        values = []
        for h in (3e-5, -3e-5):
            x[index] = saved + h
            values.append(f(x).item())
        x[index] = saved
        numeric[index] = (values[0] - values[1]) / 6e-5
    a = gradient.numpy()
    largest = np.maximum(np.abs(a), np.abs(numeric))
    return (np.abs(a - numeric)[largest > 0] / largest[largest > 0]).max()


gradient_error_exercise = Exercise(
    id="vanishing_gradients.gradient_error",
    lesson=LESSON,
    title="Is a gradient right? A check by central differences",
    answer="gradient_error",
    criteria=(
        Criterion("a right gradient passes", 1, requires=("error of a wrong gradient",)),
        Criterion("error of a wrong gradient", 2, Close(operations=16, scale=1.0), requires=("step",)),
        Criterion("step", 0),
        Criterion("x afterwards", 0),
    ),
    cases=check_cases,
    probe=check_probe,
    reference=gradient_error,
    misconceptions=(
        Misconception(
            "step_too_small",
            step_too_small,
            "Your step is so small that the two values of f agree in nearly all of their 16 digits; what is left of "
            "their difference is rounding, and right gradients fail.",
            "Take a step around 1e-5.",
        ),
        Misconception(
            "step_too_large",
            step_too_large,
            "Your step is so large that f bends between the two points: a right gradient fails where f is curved.",
            "Take a step around 1e-5.",
        ),
        Misconception(
            "one_sided",
            one_sided,
            "You take (f(x + h) − f(x)) / h. Its error falls only as h, not as h²: in the case “{case}” a right "
            "gradient fails.",
            "Go h to both sides and divide by 2h.",
        ),
        Misconception(
            "divided_by_one_step",
            divided_by_one_step,
            "Your differences come out twice too large: from x − h to x + h it is two steps.",
            "Divide by 2h.",
        ),
        Misconception(
            "absolute_error",
            absolute_error,
            "You return the absolute difference. It is small wherever the gradient is small, so in deep nets, where "
            "gradients are tiny, it would call everything right.",
            "Divide by the larger of |a| and |n|.",
        ),
        Misconception(
            "relative_to_the_whole",
            relative_to_the_whole,
            "You compare the norms of all entries together. A wrong entry hides behind larger ones: in the case "
            "“{case}” your error is not the wrong entry's.",
            "Take the error entry by entry, then the largest.",
        ),
        Misconception(
            "relative_to_the_sum",
            relative_to_the_sum,
            "You divide by |a| + |n|. That is used too, but it is not what was asked, and it makes each error about "
            "half as large.",
            "Divide by the larger of |a| and |n|.",
        ),
        Misconception(
            "relative_to_the_gradient",
            relative_to_the_gradient,
            "You divide by |a|, the gradient under suspicion. If it is too large, its error looks small (and too "
            "small, large); if it is 0, there is nothing to divide by.",
            "Divide by the larger of |a| and |n|.",
        ),
        Misconception(
            "mean_error",
            mean_error,
            "You return the mean over the entries. One wrong entry among many right ones is then nearly lost.",
            "Return the largest.",
        ),
        Misconception(
            "zero_by_zero",
            zero_by_zero,
            "Where both are 0 you divide 0 by 0: the error is NaN, and a right gradient fails in the case “{case}”.",
            "Let the error be 0 where both are 0.",
        ),
        Misconception(
            "floor_in_the_denominator",
            floor_in_the_denominator,
            "The floor that you put under the denominator is larger than some gradients: tiny wrong ones pass.",
            "Treat only 0 against 0 by itself.",
        ),
        Misconception(
            "all_entries_at_once",
            all_entries_at_once,
            "You move all entries at once: what comes out is the sum of all partial derivatives.",
            "Move one entry at a time, in a loop.",
        ),
        Misconception(
            "x_left_moved",
            x_left_moved,
            "After each entry x stays at x − h. The later derivatives are taken elsewhere, and whoever uses x next "
            "gets another x.",
            "Put the entry back, or work on a copy.",
        ),
        Misconception(
            "in_float32",
            in_float32,
            "You compute in float32. With 7 digits the difference of two nearly equal values has about two left, and "
            "right gradients fail.",
            "Stay in float64, as x comes.",
        ),
    ),
    variants=(
        Variant("check_by_unit_vectors", check_by_unit_vectors),
        Variant("check_with_scaled_steps", check_with_scaled_steps),
        Variant("check_in_numpy", check_in_numpy),
    ),
    forbidden=("torch.autograd.grad", "torch.autograd.backward", "torch.autograd.gradcheck", "course_lib.diagnostics"),
    hints=(
        "Move one entry of x by h to both sides, ask f twice, and divide the difference by the distance between the "
        "two points.",
        "h = 1e-5 is a good step in float64: smaller and rounding takes over, larger and the curve's bend does.",
        "For each entry |a − n| / max(|a|, |n|), and 0 where both are 0; return the largest. Leave x as it was.",
    ),
    minutes=15,
)
