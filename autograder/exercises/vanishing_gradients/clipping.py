"""Clipping by the global norm: one factor for all gradients, never above 1."""

from __future__ import annotations

import torch

from course_lib import optimizers as reference

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant
from .backward import LESSON


def clip_cases(seed):
    """Above and below the limit, very small and very large norms, one tensor, a layer of zeros, all zeros, float64."""
    import numpy as np

    rng = np.random.default_rng(seed)

    def case(name, max_norm, scales=(1.0, 1.0, 1.0), dtype=np.float32):
        shapes = ((4, 3), (4,), (2, 4))
        inputs = {
            f"g{i}": (scale * rng.normal(size=shape)).astype(dtype)
            for i, (scale, shape) in enumerate(zip(scales, shapes, strict=False))
        }
        return Case(name, {**inputs, "count": len(inputs), "max_norm": max_norm})

    yield case("a norm of about 5, max_norm = 1", 1.0)
    yield case("a small gradient, max_norm = 10", 10.0, (0.01, 0.01, 0.01))
    yield case("one layer 1e4 times the others, max_norm = 0.5", 0.5, (1.0, 1.0, 1e4))
    yield case("a single tensor, max_norm = 2", 2.0, (3.0,))
    yield case("one layer is all zeros, max_norm = 1", 1.0, (2.0, 0.0, 1.0))
    yield case("all zeros, max_norm = 1", 1.0, (0.0, 0.0, 0.0))
    yield case("a norm around 1e-5, max_norm = 1e-6", 1e-6, (3e-6, 3e-6, 3e-6))
    yield case("one norm below, one above, max_norm = 3", 3.0, (0.1, 10.0, 1.0))
    yield case("float64, max_norm = 0.25", 0.25, (1.0, 2.0, 3.0), np.float64)


def clip_probe(candidate, case):
    import torch

    grads = [torch.tensor(case[f"g{i}"]) for i in range(case["count"])]
    clipped, norm = candidate(grads, case["max_norm"])
    clipped = list(clipped)
    if len(clipped) != len(grads):
        raise ValueError(f"{len(clipped)} gradients came back for {len(grads)}")
    return {
        "clipped": torch.cat([torch.as_tensor(g).flatten() for g in clipped]),
        "norm before": torch.as_tensor(norm, dtype=grads[0].dtype).reshape(()),
        "gradients as they came": torch.cat([g.flatten() for g in grads]),
        "shapes": str([tuple(g.shape) for g in clipped]),
    }


def clip_gradients(grads, max_norm):
    """(clipped, norm): all gradients times min(1, max_norm / (norm + 1e-6)); norm is that of all together, before."""
    return reference.clip_by_global_norm(grads, max_norm)


def by_value(grads, max_norm):
    norm = torch.stack([g.norm() for g in grads]).norm()
    return [g.clamp(-max_norm, max_norm) for g in grads], norm


def each_tensor_alone(grads, max_norm):
    norm = torch.stack([g.norm() for g in grads]).norm()
    return [g * min(1.0, max_norm / (float(g.norm()) + 1e-6)) for g in grads], norm


def without_eps(grads, max_norm):
    norm = torch.stack([g.norm() for g in grads]).norm()
    scale = (max_norm / norm).clamp(max=1.0)
    return [g * scale for g in grads], norm


def always_scaled(grads, max_norm):
    norm = torch.stack([g.norm() for g in grads]).norm()
    return [g * (max_norm / (norm + 1e-6)) for g in grads], norm


def norms_added(grads, max_norm):
    norm = sum(g.norm() for g in grads)
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    return [g * scale for g in grads], norm


def root_missing(grads, max_norm):
    norm = sum(g.square().sum() for g in grads)
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    return [g * scale for g in grads], norm


def largest_norm(grads, max_norm):
    norm = max(g.norm() for g in grads)
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    return [g * scale for g in grads], norm


def largest_entry(grads, max_norm):
    norm = max(g.abs().max() for g in grads)
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    return [g * scale for g in grads], norm


def mean_of_norms(grads, max_norm):
    norm = torch.stack([g.norm() for g in grads]).mean()
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    return [g * scale for g in grads], norm


def upside_down(grads, max_norm):
    norm = torch.stack([g.norm() for g in grads]).norm()
    scale = (max_norm / (norm + 1e-6)).clamp(min=1.0)
    return [g * scale for g in grads], norm


def norm_afterwards(grads, max_norm):
    norm = torch.stack([g.norm() for g in grads]).norm()
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    clipped = [g * scale for g in grads]
    return clipped, torch.stack([g.norm() for g in clipped]).norm()


def in_place(grads, max_norm):
    norm = torch.stack([g.norm() for g in grads]).norm()
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for g in grads:
        g.mul_(scale)
    return grads, norm


def clip_by_one_vector(grads, max_norm):
    norm = torch.cat([g.reshape(-1) for g in grads]).norm()
    return [torch.mul(g, torch.clamp(max_norm / (norm + 1e-6), max=1.0)) for g in grads], norm


def clip_by_condition(grads, max_norm):
    total = sum((g.double() ** 2).sum() for g in grads) ** 0.5
    norm = total.to(grads[0].dtype)
    if total + 1e-6 <= max_norm:
        return [g.clone() for g in grads], norm
    return [(g.double() * (max_norm / (total + 1e-6))).to(g.dtype) for g in grads], norm


def clip_on_copies(grads, max_norm):
    parameters = []
    for g in grads:
        parameter = torch.nn.Parameter(torch.zeros_like(g))
        parameter.grad = g.clone()
        parameters.append(parameter)
    squares = torch.stack([p.grad.pow(2).sum() for p in parameters])
    norm = squares.sum().sqrt()
    factor = min(1.0, max_norm / (norm.item() + 1e-6))
    return tuple(p.grad * factor for p in parameters), norm


clip_exercise = Exercise(
    id="vanishing_gradients.clip_gradients",
    lesson=LESSON,
    title="Clipping by the global norm",
    answer="clip_gradients",
    criteria=(
        Criterion("clipped", 2, Close(operations=64)),
        Criterion("norm before", 1, Close(operations=64)),
        Criterion("gradients as they came", 0),
        Criterion("shapes", 0),
    ),
    cases=clip_cases,
    probe=clip_probe,
    reference=clip_gradients,
    misconceptions=(
        Misconception(
            "by_value",
            by_value,
            "You clip each entry to ±max_norm. That turns the gradient: its large entries shrink, the small ones stay, "
            "and the step goes another way.",
            "Multiply all gradients by one and the same factor.",
        ),
        Misconception(
            "each_tensor_alone",
            each_tensor_alone,
            "Each gradient is clipped by its own norm, so each layer by a factor of its own, and the direction of the "
            "whole step changes.",
            "Compute one norm over all gradients, and one factor.",
        ),
        Misconception(
            "without_eps",
            without_eps,
            "The 1e-6 in the denominator is missing. Mostly you would not notice; in the case “{case}” you do.",
            "max_norm / (norm + 1e-6), as PyTorch has it.",
        ),
        Misconception(
            "always_scaled",
            always_scaled,
            "You scale small gradients up to max_norm. Near a minimum, where gradients are small, the steps would "
            "never get smaller.",
            "Let the factor be at most 1.",
        ),
        Misconception(
            "norms_added",
            norms_added,
            "You add the tensors' norms. The norm of all together is the root of the sum of the squares.",
            "Square the norms, sum, take the root.",
        ),
        Misconception(
            "root_missing",
            root_missing,
            "You compare the sum of the squares with max_norm: the root is missing.",
            "Take the square root of the sum.",
        ),
        Misconception(
            "largest_norm",
            largest_norm,
            "You take the largest of the tensors' norms. The norm of all together is at least as large.",
            "Take the root of the sum of their squares.",
        ),
        Misconception(
            "largest_entry",
            largest_entry,
            "You take the largest entry for the norm. Asked is the length of all gradients together.",
            "The root of the sum of all squared entries.",
        ),
        Misconception(
            "mean_of_norms",
            mean_of_norms,
            "You average the tensors' norms. The length of the whole gradient does not shrink because it is kept in "
            "many tensors.",
            "Take the root of the sum of their squares.",
        ),
        Misconception(
            "upside_down",
            upside_down,
            "The factor is kept at or above 1: large gradients stay, and small ones grow.",
            "min(1, …), not max(1, …).",
        ),
        Misconception(
            "norm_afterwards",
            norm_afterwards,
            "The norm that you return is taken after clipping: it never exceeds max_norm, and the log would no longer "
            "show an explosion.",
            "Return the norm from before.",
        ),
        Misconception(
            "in_place",
            in_place,
            "The result is right, but the gradients that came in are changed too.",
            "Return new tensors: g * factor.",
        ),
    ),
    variants=(
        Variant("clip_by_one_vector", clip_by_one_vector),
        Variant("clip_by_condition", clip_by_condition),
        Variant("clip_on_copies", clip_on_copies),
    ),
    forbidden=(
        "torch.nn.utils.clip_grad_norm_",
        "torch.nn.utils.clip_grad_value_",
        "torch.nn.utils.get_total_norm",
        "course_lib.optimizers",
    ),
    hints=(
        "Think of all gradients as one long vector. How long is it?",
        "The factor is max_norm / (norm + 1e-6), and never more than 1.",
        "norm = the root of the sum of all squared entries; return [g * factor for g in grads] and norm.",
    ),
    minutes=10,
)
