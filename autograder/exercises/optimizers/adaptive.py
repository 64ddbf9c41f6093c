"""A rate for each parameter: AdaGrad and RMSProp."""

from __future__ import annotations

import numpy as np
import torch

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

FORBIDDEN = ("course_lib.optimizers", "torch.optim.Adagrad", "torch.optim.RMSprop", "torch.optim.Adam")

# ---------------------------------------------------------------- AdaGrad


def adagrad_cases(seed):
    """Parameters of very different gradients, some without one, tiny and huge ones, a sum that does not start at 0."""
    rng = np.random.default_rng(seed)

    def case(name, lr=0.1, eps=1e-8, steps=4, n=5, scale=1.0, start=0.0, dtype=np.float32):
        grads = rng.normal(0.3, 1.0, (steps, n)) * scale * 10.0 ** rng.uniform(-1, 1, n)
        return Case(
            name,
            {
                "param": np.zeros(n, dtype) if scale < 1e-3 else rng.normal(size=n).astype(dtype),
                "grads": grads.astype(dtype),
                "total": np.full(n, start, dtype),
                "lr": lr,
                "eps": eps,
            },
        )

    yield case("four steps")
    yield case("one step", steps=1)
    yield case("the sum starts at 0.1", start=0.1, steps=6)
    silent = case("two parameters get no gradient", steps=3)
    silent["grads"][:, 1:3] = 0
    yield silent
    yield case("tiny gradients, eps = 1e-4", scale=1e-6, eps=1e-4)
    yield case("gradients around ±1e4", scale=1e4, lr=0.01)
    yield case("float64, twenty steps", steps=20, dtype=np.float64)


def adagrad_probe(candidate, case):
    import torch

    param, total = torch.tensor(case["param"]), torch.tensor(case["total"])
    path, totals, kept = [], [], True
    for row in case["grads"]:
        grad = torch.tensor(row)
        before = param.clone(), total.clone()
        new, state = candidate(param, grad, total, case["lr"], case["eps"])
        kept = kept and torch.equal(param, before[0]) and torch.equal(total, before[1])
        kept = kept and torch.equal(grad, torch.tensor(row))
        param, total = new, state
        path.append(param.clone())
        totals.append(total.clone())
    return {"parameters": torch.stack(path), "totals": torch.stack(totals), "inputs as before": kept}


def adagrad_step(param, grad, total, lr, eps):
    """One step of AdaGrad: (param, total), each of param's shape."""
    total = total + grad**2
    return param - lr * grad / (total.sqrt() + eps), total


def sum_without_squares(param, grad, total, lr, eps):
    total = total + grad.abs()
    return param - lr * grad / (total.sqrt() + eps), total


def adagrad_without_root(param, grad, total, lr, eps):
    total = total + grad**2
    return param - lr * grad / (total + eps), total


def only_the_last_square(param, grad, total, lr, eps):
    total = grad**2
    return param - lr * grad / (total.sqrt() + eps), total


def adagrad_eps_inside(param, grad, total, lr, eps):
    total = total + grad**2
    return param - lr * grad / (total + eps).sqrt(), total


def adagrad_without_eps(param, grad, total, lr, eps):
    total = total + grad**2
    return param - lr * grad / total.sqrt(), total


def divided_by_the_old_sum(param, grad, total, lr, eps):
    return param - lr * grad / (total.sqrt() + eps), total + grad**2


def one_rate_for_all(param, grad, total, lr, eps):
    total = total + (grad**2).sum()
    return param - lr * grad / (total.sqrt() + eps), total


def sum_forgets(param, grad, total, lr, eps):
    total = 0.9 * total + 0.1 * grad**2
    return param - lr * grad / (total.sqrt() + eps), total


def root_is_kept(param, grad, total, lr, eps):
    total = (total + grad**2).sqrt()
    return param - lr * grad / (total + eps), total


def total_overwritten(param, grad, total, lr, eps):
    total += grad**2
    return param - lr * grad / (total.sqrt() + eps), total


def adagrad_by_addcdiv(param, grad, total, lr, eps):
    total = torch.addcmul(total, grad, grad)
    return torch.addcdiv(param, grad, total.sqrt().add_(eps), value=-lr), total


def adagrad_by_rates(param, grad, total, lr, eps):
    new = total + torch.mul(grad, grad)
    rates = lr / (eps + torch.pow(new, 0.5))
    return param - rates * grad, new


def adagrad_in_numpy(param, grad, total, lr, eps):
    g, s = grad.numpy(), total.numpy()
    s = s + g * g
    return torch.tensor(param.numpy() - lr * g / (np.sqrt(s) + eps)), torch.tensor(s)


adagrad_exercise = Exercise(
    id="optimizers.adagrad",
    lesson="06_optimizers",
    title="AdaGrad: a rate for each parameter",
    answer="adagrad_step",
    criteria=(
        Criterion("parameters", 1, Close(operations=128)),
        Criterion("totals", 1, Close(operations=128), requires=("parameters",)),
        Criterion("inputs as before", 0),
    ),
    cases=adagrad_cases,
    probe=adagrad_probe,
    reference=adagrad_step,
    misconceptions=(
        Misconception(
            "sum_without_squares",
            sum_without_squares,
            "You add up the sizes |g|, and take the root of that. What is added up are the squares.",
            "total = total + grad ** 2.",
        ),
        Misconception(
            "adagrad_without_root",
            adagrad_without_root,
            "The root is missing: dividing by the sum of squares makes large gradients take small steps, and small "
            "ones enormous steps.",
            "Divide by total.sqrt() + eps.",
        ),
        Misconception(
            "only_the_last_square",
            only_the_last_square,
            "The sum is overwritten in each step, so the step is always ±η: nothing is accumulated.",
            "total = total + grad ** 2.",
        ),
        Misconception(
            "adagrad_eps_inside",
            adagrad_eps_inside,
            "You have eps inside the root. With ordinary gradients nobody can tell; in the case “{case}” the gradients "
            "are small beside √eps. (Keras puts it there.)",
            "Add eps after the root: total.sqrt() + eps.",
        ),
        Misconception(
            "adagrad_without_eps",
            adagrad_without_eps,
            "eps is missing: a parameter that never had a gradient divides 0 by 0, which is NaN.",
            "Divide by total.sqrt() + eps.",
        ),
        Misconception(
            "divided_by_the_old_sum",
            divided_by_the_old_sum,
            "You divide by the sum before the new gradient is in it. The first step then divides by eps alone, and is "
            "gigantic.",
            "Add grad ** 2 first, then divide by the new sum's root.",
        ),
        Misconception(
            "one_rate_for_all",
            one_rate_for_all,
            "All parameters share one sum, so one loud parameter slows all the others. AdaGrad keeps a sum for each.",
            "Leave the .sum() out: total = total + grad ** 2, number by number.",
        ),
        Misconception(
            "sum_forgets",
            sum_forgets,
            "Your sum is a running average, which forgets: that is RMSProp, the next exercise. AdaGrad's only grows.",
            "total = total + grad ** 2.",
        ),
        Misconception(
            "root_is_kept",
            root_is_kept,
            "You return the root of the sum; the next step then adds a square to a root.",
            "Keep the sum itself; take its root only in the step.",
        ),
        Misconception(
            "total_overwritten",
            total_overwritten,
            "The numbers are right, but `+=` has changed the caller's total.",
            "Write total = total + grad ** 2.",
        ),
    ),
    variants=(
        Variant("adagrad_by_addcdiv", adagrad_by_addcdiv),
        Variant("adagrad_by_rates", adagrad_by_rates),
        Variant("adagrad_in_numpy", adagrad_in_numpy),
    ),
    forbidden=FORBIDDEN,
    hints=(
        "Which number says how much gradient a parameter has seen so far, and never falls?",
        "total = total + grad ** 2, first; the step divides by the root of it.",
        "return param - lr * grad / (total.sqrt() + eps), total.",
    ),
    minutes=8,
)

# ---------------------------------------------------------------- RMSProp


def rmsprop_cases(seed):
    """eps on either side of the root, with ordinary, tiny and absent gradients, and both frameworks' memory."""
    rng = np.random.default_rng(seed)

    def case(name, inside, lr=0.01, alpha=0.9, eps=1e-7, steps=4, n=5, scale=1.0, dtype=np.float32):
        grads = rng.normal(0.3, 1.0, (steps, n)) * scale
        return Case(
            name,
            {
                "param": np.zeros(n, dtype) if scale < 1e-2 else rng.normal(size=n).astype(dtype),
                "grads": grads.astype(dtype),
                "lr": lr,
                "alpha": alpha,
                "eps": eps,
                "eps_inside": inside,
            },
        )

    yield case("eps outside, alpha = 0.9", False)
    yield case("eps outside, alpha = 0.99", False, alpha=0.99, steps=8)
    yield case("eps inside, one step", True, steps=1)
    yield case("tiny gradients, eps outside", False, scale=1e-4, eps=1e-7)
    yield case("tiny gradients, eps inside", True, scale=1e-4, eps=1e-7)
    silent = case("two parameters get no gradient", False, steps=3)
    silent["grads"][:, 1:3] = 0
    yield silent
    yield case("gradients around ±1e4", False, scale=1e4)
    yield case("float64, alpha = 0.5", True, alpha=0.5, steps=10, eps=1e-3, dtype=np.float64)


def rmsprop_probe(candidate, case):
    import torch

    param = torch.tensor(case["param"])
    average = torch.zeros_like(param)
    path, averages, kept = [], [], True
    for row in case["grads"]:
        grad = torch.tensor(row)
        before = param.clone(), average.clone()
        new, state = candidate(param, grad, average, case["lr"], case["alpha"], case["eps"], case["eps_inside"])
        kept = kept and torch.equal(param, before[0]) and torch.equal(average, before[1])
        kept = kept and torch.equal(grad, torch.tensor(row))
        param, average = new, state
        path.append(param.clone())
        averages.append(average.clone())
    return {"parameters": torch.stack(path), "averages of g²": torch.stack(averages), "inputs as before": kept}


def rmsprop_step(param, grad, square_avg, lr, alpha, eps, eps_inside):
    """One step of RMSProp: (param, square_avg); eps stands inside the root (Keras) or outside (PyTorch)."""
    square_avg = alpha * square_avg + (1 - alpha) * grad**2
    root = (square_avg + eps).sqrt() if eps_inside else square_avg.sqrt() + eps
    return param - lr * grad / root, square_avg


def eps_always_outside(param, grad, square_avg, lr, alpha, eps, eps_inside):
    square_avg = alpha * square_avg + (1 - alpha) * grad**2
    return param - lr * grad / (square_avg.sqrt() + eps), square_avg


def eps_always_inside(param, grad, square_avg, lr, alpha, eps, eps_inside):
    square_avg = alpha * square_avg + (1 - alpha) * grad**2
    return param - lr * grad / (square_avg + eps).sqrt(), square_avg


def eps_exchanged(param, grad, square_avg, lr, alpha, eps, eps_inside):
    square_avg = alpha * square_avg + (1 - alpha) * grad**2
    root = square_avg.sqrt() + eps if eps_inside else (square_avg + eps).sqrt()
    return param - lr * grad / root, square_avg


def rooted_twice(param, grad, square_avg, lr, alpha, eps, eps_inside):
    square_avg = alpha * square_avg + (1 - alpha) * grad**2
    root = square_avg.sqrt() + eps**0.5 if eps_inside else square_avg.sqrt() + eps
    return param - lr * grad / root, square_avg


def alpha_turned_round(param, grad, square_avg, lr, alpha, eps, eps_inside):
    square_avg = (1 - alpha) * square_avg + alpha * grad**2
    root = (square_avg + eps).sqrt() if eps_inside else square_avg.sqrt() + eps
    return param - lr * grad / root, square_avg


def decaying_sum(param, grad, square_avg, lr, alpha, eps, eps_inside):
    square_avg = alpha * square_avg + grad**2
    root = (square_avg + eps).sqrt() if eps_inside else square_avg.sqrt() + eps
    return param - lr * grad / root, square_avg


def growing_sum(param, grad, square_avg, lr, alpha, eps, eps_inside):
    square_avg = square_avg + grad**2
    root = (square_avg + eps).sqrt() if eps_inside else square_avg.sqrt() + eps
    return param - lr * grad / root, square_avg


def average_of_sizes(param, grad, square_avg, lr, alpha, eps, eps_inside):
    square_avg = alpha * square_avg + (1 - alpha) * grad.abs()
    return param - lr * grad / (square_avg + eps), square_avg


def rmsprop_without_root(param, grad, square_avg, lr, alpha, eps, eps_inside):
    square_avg = alpha * square_avg + (1 - alpha) * grad**2
    return param - lr * grad / (square_avg + eps), square_avg


def bias_undone(param, grad, square_avg, lr, alpha, eps, eps_inside):
    first = not square_avg.any()
    square_avg = alpha * square_avg + (1 - alpha) * grad**2
    used = square_avg / (1 - alpha) if first else square_avg
    root = (used + eps).sqrt() if eps_inside else used.sqrt() + eps
    return param - lr * grad / root, square_avg


def old_average_used(param, grad, square_avg, lr, alpha, eps, eps_inside):
    root = (square_avg + eps).sqrt() if eps_inside else square_avg.sqrt() + eps
    return param - lr * grad / root, alpha * square_avg + (1 - alpha) * grad**2


def average_overwritten(param, grad, square_avg, lr, alpha, eps, eps_inside):
    square_avg.mul_(alpha).add_((1 - alpha) * grad**2)
    root = (square_avg + eps).sqrt() if eps_inside else square_avg.sqrt() + eps
    return param - lr * grad / root, square_avg


def rmsprop_by_lerp(param, grad, square_avg, lr, alpha, eps, eps_inside):
    square_avg = torch.lerp(square_avg, grad.square(), 1 - alpha)
    inside, outside = (eps, 0.0) if eps_inside else (0.0, eps)
    return param - lr * grad / ((square_avg + inside).sqrt() + outside), square_avg


def rmsprop_by_addcmul(param, grad, square_avg, lr, alpha, eps, eps_inside):
    new = torch.addcmul(square_avg * alpha, grad, grad, value=1 - alpha)
    root = torch.sqrt(new + eps) if eps_inside else torch.sqrt(new) + eps
    return torch.addcdiv(param, grad, root, value=-lr), new


def rmsprop_in_numpy(param, grad, square_avg, lr, alpha, eps, eps_inside):
    g, v = grad.numpy(), square_avg.numpy()
    v = alpha * v + (1 - alpha) * g * g
    root = np.sqrt(v + eps) if eps_inside else np.sqrt(v) + eps
    return torch.tensor(param.numpy() - lr * (g / root)), torch.tensor(v)


rmsprop_exercise = Exercise(
    id="optimizers.rmsprop",
    lesson="06_optimizers",
    title="RMSProp, with eps on either side of the root",
    answer="rmsprop_step",
    criteria=(
        Criterion("parameters", 2, Close(operations=128)),
        Criterion("averages of g²", 1, Close(operations=128), requires=("parameters",)),
        Criterion("inputs as before", 0),
    ),
    cases=rmsprop_cases,
    probe=rmsprop_probe,
    reference=rmsprop_step,
    misconceptions=(
        Misconception(
            "eps_always_outside",
            eps_always_outside,
            "eps always stands outside the root. With eps_inside (Keras) it is √(v + ε): in the case “{case}” that "
            "makes the steps smaller by far.",
            "(square_avg + eps).sqrt() where eps_inside is true.",
        ),
        Misconception(
            "eps_always_inside",
            eps_always_inside,
            "eps always stands inside the root. Without eps_inside (PyTorch) it is √v + ε; with tiny gradients the "
            "two differ by far.",
            "square_avg.sqrt() + eps where eps_inside is false.",
        ),
        Misconception(
            "eps_exchanged",
            eps_exchanged,
            "The two places of eps are exchanged: eps_inside should mean √(v + ε).",
            "Turn the condition round.",
        ),
        Misconception(
            "rooted_twice",
            rooted_twice,
            "Inside the root you compute √v + √ε. The root of a sum is not the sum of the roots.",
            "(square_avg + eps).sqrt().",
        ),
        Misconception(
            "alpha_turned_round",
            alpha_turned_round,
            "alpha is turned round: it weights the OLD average, so that 0.99 means a long memory.",
            "alpha * square_avg + (1 - alpha) * grad ** 2.",
        ),
        Misconception(
            "decaying_sum",
            decaying_sum,
            "The new square enters with its full weight: your average is 1/(1 − alpha) times too large in the end.",
            "Weight it with 1 - alpha.",
        ),
        Misconception(
            "growing_sum",
            growing_sum,
            "Nothing is forgotten: this is AdaGrad's sum, which only grows.",
            "Let the old average fade: alpha * square_avg + (1 - alpha) * grad ** 2.",
        ),
        Misconception(
            "average_of_sizes",
            average_of_sizes,
            "You average |g|. RMS stands for root mean square: average g², and take the root of that.",
            "Square before averaging, root before dividing.",
        ),
        Misconception(
            "rmsprop_without_root",
            rmsprop_without_root,
            "The root is missing: you divide by the mean square itself.",
            "Divide by the root of it.",
        ),
        Misconception(
            "bias_undone",
            bias_undone,
            "You correct the first average for having started at 0. RMSProp does not (Adam does): its first step is "
            "η / √(1 − alpha).",
            "Leave the correction out.",
        ),
        Misconception(
            "old_average_used",
            old_average_used,
            "You divide by the average before the new gradient is in it, at first by eps alone.",
            "Update square_avg first, then divide.",
        ),
        Misconception(
            "average_overwritten",
            average_overwritten,
            "The numbers are right, but `mul_` and `add_` have changed the caller's average.",
            "Make a new tensor: alpha * square_avg + …",
        ),
    ),
    variants=(
        Variant("rmsprop_by_lerp", rmsprop_by_lerp),
        Variant("rmsprop_by_addcmul", rmsprop_by_addcmul),
        Variant("rmsprop_in_numpy", rmsprop_in_numpy),
    ),
    forbidden=FORBIDDEN,
    hints=(
        "AdaGrad's sum never forgets. Which weights turn it into an average of the recent squares?",
        "square_avg = alpha * square_avg + (1 - alpha) * grad ** 2.",
        "The root is (square_avg + eps).sqrt() if eps_inside else square_avg.sqrt() + eps.",
    ),
    minutes=10,
)
