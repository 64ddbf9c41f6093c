"""Momentum in the conventions of both frameworks, and Nesterov's look ahead."""

from __future__ import annotations

import numpy as np
import torch

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

FORBIDDEN = ("course_lib.optimizers", "torch.optim.SGD")

# ---------------------------------------------------------------- two conventions


def momenta_cases(seed):
    """Constant, falling and rising rates, one step, no momentum, a long memory, ±1e4, float64."""
    rng = np.random.default_rng(seed)

    def case(name, rates, momentum=0.9, n=5, scale=1.0, dtype=np.float32):
        return Case(
            name,
            {
                "param": rng.normal(size=n).astype(dtype),
                "grads": (rng.normal(0.5, 1.0, (len(rates), n)) * scale).astype(dtype),
                "rates": np.array(rates),
                "momentum": momentum,
            },
        )

    yield case("six steps, the rate stays at 0.1", [0.1] * 6)
    yield case("the rate falls to a tenth after three steps", [0.1] * 3 + [0.01] * 3)
    yield case("the rate rises in a warm-up", [0.01, 0.02, 0.05, 0.1, 0.1])
    yield case("one step", [0.3])
    yield case("momentum 0", [0.1, 0.1, 0.05], momentum=0.0)
    yield case("momentum 0.99, 20 steps, the rate halved twice", [0.2] * 8 + [0.1] * 6 + [0.05] * 6, momentum=0.99)
    yield case("gradients around ±1e4", [1e-3, 1e-3, 1e-4], scale=1e4)
    yield case("float64, momentum 0.5", [0.1, 0.4, 0.2, 0.2], momentum=0.5, dtype=np.float64)


def momenta_probe(candidate, case):
    import torch

    param, grads = torch.tensor(case["param"]), torch.tensor(case["grads"])
    torch_path, keras_path = candidate(param, grads, case["rates"].tolist(), case["momentum"])
    same = torch.equal(param, torch.tensor(case["param"])) and torch.equal(grads, torch.tensor(case["grads"]))
    return {"PyTorch's path": torch_path, "Keras's path": keras_path, "inputs as before": same}


def two_momenta(param, grads, rates, momentum):
    """The parameter after each step in PyTorch's and in Keras's convention: grads (T, n) -> two (T, n)."""
    torch_path, keras_path = [], []
    w, buffer = param, torch.zeros_like(param)
    u, velocity = param, torch.zeros_like(param)
    for grad, lr in zip(grads, rates, strict=True):
        buffer = momentum * buffer + grad
        w = w - lr * buffer
        velocity = momentum * velocity - lr * grad
        u = u + velocity
        torch_path.append(w)
        keras_path.append(u)
    return torch.stack(torch_path), torch.stack(keras_path)


def one_for_both(param, grads, rates, momentum):
    w, buffer, path = param, torch.zeros_like(param), []
    for grad, lr in zip(grads, rates, strict=True):
        buffer = momentum * buffer + grad
        w = w - lr * buffer
        path.append(w)
    return torch.stack(path), torch.stack(path)


def velocity_for_both(param, grads, rates, momentum):
    w, velocity, path = param, torch.zeros_like(param), []
    for grad, lr in zip(grads, rates, strict=True):
        velocity = momentum * velocity - lr * grad
        w = w + velocity
        path.append(w)
    return torch.stack(path), torch.stack(path)


def exchanged(param, grads, rates, momentum):
    first, second = [], []
    w, buffer = param, torch.zeros_like(param)
    u, velocity = param, torch.zeros_like(param)
    for grad, lr in zip(grads, rates, strict=True):
        velocity = momentum * velocity - lr * grad
        u = u + velocity
        first.append(u)
        buffer = momentum * buffer + grad
        w = w - lr * buffer
        second.append(w)
    return torch.stack(first), torch.stack(second)


def running_average(param, grads, rates, momentum):
    first, second = [], []
    w, buffer = param, torch.zeros_like(param)
    u, velocity = param, torch.zeros_like(param)
    for grad, lr in zip(grads, rates, strict=True):
        buffer = momentum * buffer + (1 - momentum) * grad
        w = w - lr * buffer
        first.append(w)
        velocity = momentum * velocity - (1 - momentum) * lr * grad
        u = u + velocity
        second.append(u)
    return torch.stack(first), torch.stack(second)


def nothing_remembered(param, grads, rates, momentum):
    buffer, velocity = torch.zeros_like(param), torch.zeros_like(param)
    w = u = param
    first, second = [], []
    for grad, lr in zip(grads, rates, strict=True):
        w = w - lr * (momentum * buffer + grad)
        first.append(w)
        u = u + (momentum * velocity - lr * grad)
        second.append(u)
    return torch.stack(first), torch.stack(second)


def step_before_update(param, grads, rates, momentum):
    w, buffer = param, torch.zeros_like(param)
    u, velocity = param, torch.zeros_like(param)
    first, second = [], []
    for grad, lr in zip(grads, rates, strict=True):
        w = w - lr * buffer
        buffer = momentum * buffer + grad
        first.append(w)
        u = u + velocity
        velocity = momentum * velocity - lr * grad
        second.append(u)
    return torch.stack(first), torch.stack(second)


def rate_used_twice(param, grads, rates, momentum):
    w, buffer = param, torch.zeros_like(param)
    u, velocity = param, torch.zeros_like(param)
    first, second = [], []
    for grad, lr in zip(grads, rates, strict=True):
        buffer = momentum * buffer + grad
        w = w - lr * buffer
        first.append(w)
        velocity = momentum * velocity - lr * grad
        u = u + lr * velocity
        second.append(u)
    return torch.stack(first), torch.stack(second)


def uphill(param, grads, rates, momentum):
    w, buffer = param, torch.zeros_like(param)
    u, velocity = param, torch.zeros_like(param)
    first, second = [], []
    for grad, lr in zip(grads, rates, strict=True):
        buffer = momentum * buffer + grad
        w = w + lr * buffer
        first.append(w)
        velocity = momentum * velocity + lr * grad
        u = u + velocity
        second.append(u)
    return torch.stack(first), torch.stack(second)


def keras_uphill(param, grads, rates, momentum):
    w, buffer = param, torch.zeros_like(param)
    u, velocity = param, torch.zeros_like(param)
    first, second = [], []
    for grad, lr in zip(grads, rates, strict=True):
        buffer = momentum * buffer + grad
        w = w - lr * buffer
        first.append(w)
        velocity = momentum * velocity + lr * grad
        u = u + velocity
        second.append(u)
    return torch.stack(first), torch.stack(second)


def last_point_everywhere(param, grads, rates, momentum):
    w, buffer = param.clone(), torch.zeros_like(param)
    u, velocity = param.clone(), torch.zeros_like(param)
    first, second = [], []
    for grad, lr in zip(grads, rates, strict=True):
        buffer = momentum * buffer + grad
        w -= lr * buffer
        first.append(w)
        velocity = momentum * velocity - lr * grad
        u += velocity
        second.append(u)
    return torch.stack(first), torch.stack(second)


def input_overwritten(param, grads, rates, momentum):
    start = param.clone()
    w, buffer = param, torch.zeros_like(param)
    u, velocity = start, torch.zeros_like(param)
    first, second = [], []
    for grad, lr in zip(grads, rates, strict=True):
        buffer = momentum * buffer + grad
        w -= lr * buffer
        first.append(w.clone())
        velocity = momentum * velocity - lr * grad
        u = u + velocity
        second.append(u)
    return torch.stack(first), torch.stack(second)


def momenta_by_sums(param, grads, rates, momentum):
    steps = len(rates)
    memory = torch.tensor(
        [[momentum ** (t - s) if s <= t else 0.0 for s in range(steps)] for t in range(steps)], dtype=torch.float64
    )
    rate = torch.tensor(rates, dtype=torch.float64)[:, None]
    g = grads.double()
    first = param.double() - (rate * (memory @ g)).cumsum(0)
    second = param.double() - (memory @ (rate * g)).cumsum(0)
    return first.to(param.dtype), second.to(param.dtype)


def momenta_in_numpy(param, grads, rates, momentum):
    def walk(carry_rate):
        w, state, path = param.numpy().copy(), np.zeros_like(param.numpy()), []
        for grad, lr in zip(grads.numpy(), rates, strict=True):
            inside, outside = (lr, 1) if carry_rate else (1, lr)
            state = momentum * state + inside * grad
            w = w - outside * state
            path.append(w)
        return torch.tensor(np.array(path))

    return walk(False), walk(True)


def momenta_in_place(param, grads, rates, momentum):
    torch_path, keras_path = torch.empty_like(grads), torch.empty_like(grads)
    w, buffer = param.clone(), torch.zeros_like(param)
    u, velocity = param.clone(), torch.zeros_like(param)
    for i, lr in enumerate(rates):
        buffer.mul_(momentum).add_(grads[i])
        torch_path[i] = w.sub_(buffer, alpha=lr)
        velocity.mul_(momentum).sub_(grads[i], alpha=lr)
        keras_path[i] = u.add_(velocity)
    return torch_path, keras_path


two_momenta_exercise = Exercise(
    id="optimizers.two_momenta",
    lesson="06_optimizers",
    title="Momentum, as PyTorch and as Keras keep it",
    answer="two_momenta",
    criteria=(
        Criterion("PyTorch's path", 1, Close(operations=256)),
        Criterion("Keras's path", 1, Close(operations=256)),
        Criterion("inputs as before", 0),
    ),
    cases=momenta_cases,
    probe=momenta_probe,
    reference=two_momenta,
    misconceptions=(
        Misconception(
            "one_for_both",
            one_for_both,
            "Both paths are PyTorch's. While the rate stays the same the two conventions agree; in the case “{case}” "
            "it changes, and Keras's velocity still carries the old rate.",
            "For Keras, multiply each gradient by its rate when it enters the velocity: v ← μ v − η g, then w ← w + v.",
        ),
        Misconception(
            "velocity_for_both",
            velocity_for_both,
            "Both paths are Keras's. PyTorch's buffer holds gradients without any rate, so that a new rate acts at "
            "once on all past gradients too.",
            "For PyTorch: b ← μ b + g, and only then w ← w − η b.",
        ),
        Misconception(
            "exchanged",
            exchanged,
            "The two paths are exchanged: the first one should be PyTorch's, the second Keras's.",
            "Return (PyTorch's, Keras's). Keras's velocity is the one that carries the rate.",
        ),
        Misconception(
            "running_average",
            running_average,
            "You weight the new gradient with 1 − μ, as in a running average. Neither framework does so by default: "
            "your steps are 1 − μ times the right ones.",
            "Add the whole gradient: b ← μ b + g.",
        ),
        Misconception(
            "nothing_remembered",
            nothing_remembered,
            "The buffer and the velocity stay 0: you use μ b + g in the step without keeping it. That is plain "
            "gradient descent.",
            "Assign the new buffer (and velocity) before the step.",
        ),
        Misconception(
            "step_before_update",
            step_before_update,
            "You move before the buffer has taken in the new gradient: the first step goes nowhere, and each later one "
            "uses the gradients up to the step before.",
            "Update the buffer first, then the parameter.",
        ),
        Misconception(
            "rate_used_twice",
            rate_used_twice,
            "In Keras's convention your step multiplies by the rate once more, although the velocity carries it "
            "already.",
            "For Keras: w ← w + v, without another η.",
        ),
        Misconception(
            "uphill",
            uphill,
            "Both paths go uphill: the gradient points to where the loss grows.",
            "Subtract: w ← w − η b, and v ← μ v − η g.",
        ),
        Misconception(
            "keras_uphill",
            keras_uphill,
            "PyTorch's path is right, Keras's goes uphill: its velocity holds the direction of travel, which is minus "
            "the gradient.",
            "v ← μ v − η g, then w ← w + v.",
        ),
        Misconception(
            "last_point_everywhere",
            last_point_everywhere,
            "All rows of a path are the same point, the last one: `-=` changes the tensor that you have already put "
            "into the list.",
            "Write w = w - …, which makes a new tensor, or put w.clone() into the list.",
        ),
        Misconception(
            "input_overwritten",
            input_overwritten,
            "The paths are right, but `-=` has changed the caller's own parameter.",
            "Write w = w - …, or start from param.clone().",
        ),
    ),
    variants=(
        Variant("momenta_by_sums", momenta_by_sums),
        Variant("momenta_in_numpy", momenta_in_numpy),
        Variant("momenta_in_place", momenta_in_place),
    ),
    forbidden=FORBIDDEN,
    hints=(
        "Write both rules down. In which of the two does the rate stand in front of the gradient when it is stored?",
        "PyTorch: b ← μ b + g, w ← w − η b. Keras: v ← μ v − η g, w ← w + v.",
        "Loop over zip(grads, rates), update the memory first, then the parameter; collect the points and torch.stack "
        "them.",
    ),
    minutes=12,
)

# ---------------------------------------------------------------- Nesterov


def nesterov_cases(seed):
    """Bowls and a bent loss, one step, no momentum, a start with velocity, ±1e4, float64."""
    rng = np.random.default_rng(seed)

    def case(name, lr=0.05, momentum=0.9, steps=5, n=4, bend=0.0, moving=False, scale=1.0, dtype=np.float32):
        half = rng.normal(size=(n, n))
        return Case(
            name,
            {
                "param": (rng.normal(size=n) * scale).astype(dtype),
                "velocity": (rng.normal(size=n) * (0.1 if moving else 0.0) * scale).astype(dtype),
                "curvature": (half @ half.T / n).astype(dtype),
                "bend": bend,
                "lr": lr,
                "momentum": momentum,
                "steps": steps,
            },
        )

    yield case("a bowl, five steps")
    yield case("the bowl is entered with a velocity", moving=True, momentum=0.8)
    yield case("a bent loss", bend=1.0, moving=True)
    yield case("one step from rest", steps=1)
    yield case("momentum 0", momentum=0.0)
    yield case("momentum 0.99, 15 steps", momentum=0.99, steps=15, lr=0.01)
    yield case("a start around ±1e4", scale=1e4, moving=True)
    yield case("float64, two parameters", n=2, bend=0.5, moving=True, dtype=np.float64)


def nesterov_probe(candidate, case):
    import torch

    curvature, calls = torch.tensor(case["curvature"]), []

    def gradient(w):
        calls.append(1)
        return curvature @ w + case["bend"] * w.sin()

    param, velocity = torch.tensor(case["param"]), torch.tensor(case["velocity"])
    path, speeds, kept = [], [], True
    for _ in range(case["steps"]):
        before = param.clone(), velocity.clone()
        new, speed = candidate(gradient, param, velocity, case["lr"], case["momentum"])
        kept = kept and torch.equal(param, before[0]) and torch.equal(velocity, before[1])
        param, velocity = new, speed
        path.append(param.clone())
        speeds.append(velocity.clone())
    return {
        "parameters": torch.stack(path),
        "velocities": torch.stack(speeds),
        "gradients taken in a step": len(calls) / case["steps"],
        "inputs as before": kept,
    }


def nesterov_step(gradient, param, velocity, lr, momentum):
    """One step of Nesterov's momentum with the gradient taken ahead: (param, velocity), each of param's shape."""
    velocity = momentum * velocity - lr * gradient(param + momentum * velocity)
    return param + velocity, velocity


def gradient_taken_here(gradient, param, velocity, lr, momentum):
    velocity = momentum * velocity - lr * gradient(param)
    return param + velocity, velocity


def looked_behind(gradient, param, velocity, lr, momentum):
    velocity = momentum * velocity - lr * gradient(param - momentum * velocity)
    return param + velocity, velocity


def looked_too_far(gradient, param, velocity, lr, momentum):
    velocity = momentum * velocity - lr * gradient(param + velocity)
    return param + velocity, velocity


def started_ahead(gradient, param, velocity, lr, momentum):
    ahead = param + momentum * velocity
    velocity = momentum * velocity - lr * gradient(ahead)
    return ahead + velocity, velocity


def keras_form(gradient, param, velocity, lr, momentum):
    grad = gradient(param)
    velocity = momentum * velocity - lr * grad
    return param + momentum * velocity - lr * grad, velocity


def momentum_left_out(gradient, param, velocity, lr, momentum):
    velocity = velocity - lr * gradient(param + momentum * velocity)
    return param + velocity, velocity


def velocity_not_followed(gradient, param, velocity, lr, momentum):
    grad = gradient(param + momentum * velocity)
    return param - lr * grad, momentum * velocity - lr * grad


def rate_outside(gradient, param, velocity, lr, momentum):
    velocity = momentum * velocity - gradient(param + momentum * velocity)
    return param + lr * velocity, velocity


def climbing(gradient, param, velocity, lr, momentum):
    velocity = momentum * velocity + lr * gradient(param + momentum * velocity)
    return param + velocity, velocity


def old_velocity_followed(gradient, param, velocity, lr, momentum):
    new = momentum * velocity - lr * gradient(param + momentum * velocity)
    return param + velocity, new


def state_overwritten(gradient, param, velocity, lr, momentum):
    velocity *= momentum
    velocity -= lr * gradient(param + velocity)
    return param + velocity, velocity


def nesterov_by_steps(gradient, param, velocity, lr, momentum):
    coast = momentum * velocity
    ahead = param + coast
    correction = -lr * gradient(ahead)
    return ahead + correction, coast + correction


def nesterov_in_place_on_copies(gradient, param, velocity, lr, momentum):
    velocity = velocity.clone().mul_(momentum)
    velocity.sub_(gradient(param.add(velocity)), alpha=lr)
    return param.add(velocity), velocity


def nesterov_by_addcmul(gradient, param, velocity, lr, momentum):
    g = gradient(torch.add(param, velocity, alpha=momentum))
    new = torch.add(momentum * velocity, g, alpha=-lr)
    return torch.add(param, new), new


nesterov_exercise = Exercise(
    id="optimizers.nesterov",
    lesson="06_optimizers",
    title="Nesterov: look ahead before you turn",
    answer="nesterov_step",
    criteria=(
        Criterion("parameters", 1, Close(operations=512)),
        Criterion("velocities", 1, Close(operations=512), requires=("parameters",)),
        Criterion("gradients taken in a step", 0),
        Criterion("inputs as before", 0),
    ),
    cases=nesterov_cases,
    probe=nesterov_probe,
    reference=nesterov_step,
    misconceptions=(
        Misconception(
            "gradient_taken_here",
            gradient_taken_here,
            "You take the gradient where the parameter stands: that is ordinary momentum. Nesterov's takes it where "
            "the velocity is about to carry the parameter.",
            "gradient(param + momentum * velocity).",
        ),
        Misconception(
            "looked_behind",
            looked_behind,
            "You look behind: the gradient is taken at param − μ v, where the parameter comes from.",
            "The velocity already points forward. Look at param + momentum * velocity.",
        ),
        Misconception(
            "looked_too_far",
            looked_too_far,
            "You look ahead by the whole velocity. The coming step keeps only μ times it.",
            "gradient(param + momentum * velocity).",
        ),
        Misconception(
            "started_ahead",
            started_ahead,
            "The step starts from the point that you looked at, so μ v is taken twice. That point is only for the "
            "gradient.",
            "Add the new velocity to param itself.",
        ),
        Misconception(
            "keras_form",
            keras_form,
            "This is the form that the frameworks compute: there the stored parameter IS the point ahead, so that the "
            "gradient is taken at param. Here param is the point itself.",
            "v ← μ v − η ∇(w + μ v), then w ← w + v.",
        ),
        Misconception(
            "momentum_left_out",
            momentum_left_out,
            "The old velocity is kept whole: nothing slows it down, and the parameter rolls back and forth for ever.",
            "Multiply it by momentum: v ← μ v − η ∇(w + μ v).",
        ),
        Misconception(
            "velocity_not_followed",
            velocity_not_followed,
            "The parameter moves by −η times the gradient alone; the velocity is kept, but nobody follows it.",
            "Move by the new velocity: w ← w + v.",
        ),
        Misconception(
            "rate_outside",
            rate_outside,
            "Your velocity holds gradients without the rate, and you multiply at the end. Then μ v is no distance, and "
            "the point ahead is at the wrong place.",
            "Let the velocity carry the rate: v ← μ v − η ∇(w + μ v).",
        ),
        Misconception(
            "climbing",
            climbing,
            "You add the gradient: the parameter climbs.",
            "v ← μ v − η ∇(w + μ v).",
        ),
        Misconception(
            "old_velocity_followed",
            old_velocity_followed,
            "The parameter moves by the velocity of the step before; the new gradient is heard one step late.",
            "Compute the new velocity first, then add that one.",
        ),
        Misconception(
            "state_overwritten",
            state_overwritten,
            "The numbers are right, but `*=` and `-=` have changed the caller's velocity.",
            "Make a new tensor: velocity = momentum * velocity - …",
        ),
    ),
    variants=(
        Variant("nesterov_by_steps", nesterov_by_steps),
        Variant("nesterov_in_place_on_copies", nesterov_in_place_on_copies),
        Variant("nesterov_by_addcmul", nesterov_by_addcmul),
    ),
    forbidden=FORBIDDEN,
    hints=(
        "Where would the parameter be after this step if the gradient were 0?",
        "It would be at param + momentum * velocity: ask for the gradient there.",
        "velocity = momentum * velocity - lr * gradient(param + momentum * velocity); return param + velocity, "
        "velocity.",
    ),
    minutes=8,
)
