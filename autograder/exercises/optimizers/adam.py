"""Adam, and the two meanings of weight decay with it."""

from __future__ import annotations

import numpy as np
import torch

from course_lib import optimizers as reference

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

FORBIDDEN = ("course_lib.optimizers", "torch.optim.Adam", "torch.optim.AdamW")

# ---------------------------------------------------------------- Adam


def adam_cases(seed):
    """One step, many steps, gradients below eps, none at all, ±1e4, a late step, float64."""
    rng = np.random.default_rng(seed)

    def case(name, steps=4, lr=0.01, betas=(0.9, 0.999), eps=1e-8, first=1, n=5, scale=1.0, dtype=np.float32):
        grads = rng.normal(0.5, 1.0, (steps, n)) * scale
        return Case(
            name,
            {
                "param": np.zeros(n, dtype) if scale < 1e-2 else rng.normal(size=n).astype(dtype),
                "grads": grads.astype(dtype),
                "first_step": first,
                "lr": lr,
                "beta1": betas[0],
                "beta2": betas[1],
                "eps": eps,
            },
        )

    yield case("four steps")
    yield case("one step", steps=1)
    yield case("thirty steps, betas 0.8 and 0.95", steps=30, betas=(0.8, 0.95))
    yield case("tiny gradients of about 1e-7", scale=1e-7, steps=3)
    silent = case("two parameters get no gradient", steps=3)
    silent["grads"][:, 1:3] = 0
    yield silent
    yield case("gradients around ±1e4", scale=1e4)
    yield case("started again at step 1000", first=1000, steps=2)
    yield case("float64, eps = 1e-3", eps=1e-3, steps=6, dtype=np.float64)


def adam_probe(candidate, case):
    import torch

    param = torch.tensor(case["param"])
    m, v = torch.zeros_like(param), torch.zeros_like(param)
    path, means, squares, kept = [], [], [], True
    for i, row in enumerate(case["grads"]):
        grad, step = torch.tensor(row), case["first_step"] + i
        before = param.clone(), m.clone(), v.clone()
        new = candidate(param, grad, m, v, step, case["lr"], (case["beta1"], case["beta2"]), case["eps"])
        kept = kept and all(torch.equal(a, b) for a, b in zip((param, m, v), before, strict=True))
        kept = kept and torch.equal(grad, torch.tensor(row))
        param, m, v = new
        path.append(param.clone())
        means.append(m.clone())
        squares.append(v.clone())
    return {
        "parameters": torch.stack(path),
        "m": torch.stack(means),
        "v": torch.stack(squares),
        "inputs as before": kept,
    }


def adam_step(param, grad, m, v, step, lr, betas, eps):
    """One step of Adam: (param, m, v), each of param's shape; step counts from 1."""
    return reference.adam_step(param, grad, m, v, step, lr=lr, betas=betas, eps=eps)


def no_bias_correction(param, grad, m, v, step, lr, betas, eps):
    m = betas[0] * m + (1 - betas[0]) * grad
    v = betas[1] * v + (1 - betas[1]) * grad**2
    return param - lr * m / (v.sqrt() + eps), m, v


def first_corrected_only(param, grad, m, v, step, lr, betas, eps):
    m = betas[0] * m + (1 - betas[0]) * grad
    v = betas[1] * v + (1 - betas[1]) * grad**2
    return param - lr * m / (1 - betas[0] ** step) / (v.sqrt() + eps), m, v


def second_corrected_only(param, grad, m, v, step, lr, betas, eps):
    m = betas[0] * m + (1 - betas[0]) * grad
    v = betas[1] * v + (1 - betas[1]) * grad**2
    return param - lr * m / ((v / (1 - betas[1] ** step)).sqrt() + eps), m, v


def step_from_zero(param, grad, m, v, step, lr, betas, eps):
    t = torch.tensor(float(step - 1), dtype=torch.float64)
    m = betas[0] * m + (1 - betas[0]) * grad
    v = betas[1] * v + (1 - betas[1]) * grad**2
    m_hat = m / (1 - betas[0] ** t)
    v_hat = v / (1 - betas[1] ** t)
    return param - lr * m_hat / (v_hat.sqrt() + eps), m, v


def one_step_ahead(param, grad, m, v, step, lr, betas, eps):
    m = betas[0] * m + (1 - betas[0]) * grad
    v = betas[1] * v + (1 - betas[1]) * grad**2
    m_hat = m / (1 - betas[0] ** (step + 1))
    v_hat = v / (1 - betas[1] ** (step + 1))
    return param - lr * m_hat / (v_hat.sqrt() + eps), m, v


def adam_eps_inside(param, grad, m, v, step, lr, betas, eps):
    m = betas[0] * m + (1 - betas[0]) * grad
    v = betas[1] * v + (1 - betas[1]) * grad**2
    m_hat = m / (1 - betas[0] ** step)
    v_hat = v / (1 - betas[1] ** step)
    return param - lr * m_hat / (v_hat + eps).sqrt(), m, v


def eps_before_correction(param, grad, m, v, step, lr, betas, eps):
    m = betas[0] * m + (1 - betas[0]) * grad
    v = betas[1] * v + (1 - betas[1]) * grad**2
    rate = lr * (1 - betas[1] ** step) ** 0.5 / (1 - betas[0] ** step)
    return param - rate * m / (v.sqrt() + eps), m, v


def adam_without_eps(param, grad, m, v, step, lr, betas, eps):
    m = betas[0] * m + (1 - betas[0]) * grad
    v = betas[1] * v + (1 - betas[1]) * grad**2
    m_hat = m / (1 - betas[0] ** step)
    v_hat = v / (1 - betas[1] ** step)
    return param - lr * m_hat / v_hat.sqrt(), m, v


def corrected_moments_kept(param, grad, m, v, step, lr, betas, eps):
    m = betas[0] * m + (1 - betas[0]) * grad
    v = betas[1] * v + (1 - betas[1]) * grad**2
    m = m / (1 - betas[0] ** step)
    v = v / (1 - betas[1] ** step)
    return param - lr * m / (v.sqrt() + eps), m, v


def betas_exchanged(param, grad, m, v, step, lr, betas, eps):
    beta2, beta1 = betas
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad**2
    m_hat = m / (1 - beta1**step)
    v_hat = v / (1 - beta2**step)
    return param - lr * m_hat / (v_hat.sqrt() + eps), m, v


def adam_without_root(param, grad, m, v, step, lr, betas, eps):
    m = betas[0] * m + (1 - betas[0]) * grad
    v = betas[1] * v + (1 - betas[1]) * grad**2
    m_hat = m / (1 - betas[0] ** step)
    v_hat = v / (1 - betas[1] ** step)
    return param - lr * m_hat / (v_hat + eps), m, v


def gradient_instead_of_m(param, grad, m, v, step, lr, betas, eps):
    m = betas[0] * m + (1 - betas[0]) * grad
    v = betas[1] * v + (1 - betas[1]) * grad**2
    v_hat = v / (1 - betas[1] ** step)
    return param - lr * grad / (v_hat.sqrt() + eps), m, v


def multiplied_not_raised(param, grad, m, v, step, lr, betas, eps):
    m = betas[0] * m + (1 - betas[0]) * grad
    v = betas[1] * v + (1 - betas[1]) * grad**2
    m_hat = m / (1 - betas[0])
    v_hat = v / (1 - betas[1])
    return param - lr * m_hat / (v_hat.sqrt() + eps), m, v


def moments_overwritten(param, grad, m, v, step, lr, betas, eps):
    m.mul_(betas[0]).add_((1 - betas[0]) * grad)
    v.mul_(betas[1]).add_((1 - betas[1]) * grad**2)
    m_hat = m / (1 - betas[0] ** step)
    v_hat = v / (1 - betas[1] ** step)
    return param - lr * m_hat / (v_hat.sqrt() + eps), m, v


def adam_by_lerp(param, grad, m, v, step, lr, betas, eps):
    beta1, beta2 = betas
    m = torch.lerp(m, grad, 1 - beta1)
    v = torch.lerp(v, grad * grad, 1 - beta2)
    root = (v / (1 - beta2**step)).sqrt() + eps
    return param - (lr / (1 - beta1**step)) * (m / root), m, v


def adam_in_torchs_order(param, grad, m, v, step, lr, betas, eps):
    beta1, beta2 = betas
    m = m * beta1 + grad * (1 - beta1)
    v = torch.addcmul(v * beta2, grad, grad, value=1 - beta2)
    denominator = v.sqrt() / (1 - beta2**step) ** 0.5 + eps
    return torch.addcdiv(param, m, denominator, value=-lr / (1 - beta1**step)), m, v


def adam_in_numpy(param, grad, m, v, step, lr, betas, eps):
    (beta1, beta2), g = betas, grad.numpy()
    m = beta1 * m.numpy() + (1 - beta1) * g
    v = beta2 * v.numpy() + (1 - beta2) * np.square(g)
    update = lr * (m / (1 - beta1**step)) / (np.sqrt(v / (1 - beta2**step)) + eps)
    return torch.tensor(param.numpy() - update), torch.tensor(m), torch.tensor(v)


adam_exercise = Exercise(
    id="optimizers.adam",
    lesson="06_optimizers",
    title="Adam: momentum, a rate for each parameter, and the bias of a cold start",
    answer="adam_step",
    criteria=(
        Criterion("parameters", 2, Close(operations=128)),
        Criterion("m", 0.5, Close(operations=128), requires=("parameters",)),
        Criterion("v", 0.5, Close(operations=128), requires=("parameters",)),
        Criterion("inputs as before", 0),
    ),
    cases=adam_cases,
    probe=adam_probe,
    reference=adam_step,
    misconceptions=(
        Misconception(
            "no_bias_correction",
            no_bias_correction,
            "The bias correction is missing. Both averages start at 0 and are too small at first, v by a factor of "
            "1 − β₂: so the first steps are several times too large.",
            "m_hat = m / (1 - beta1 ** step), and the same for v with beta2.",
        ),
        Misconception(
            "first_corrected_only",
            first_corrected_only,
            "Only m is corrected. v starts at 0 as well, so at first you divide by far too little.",
            "v_hat = v / (1 - beta2 ** step).",
        ),
        Misconception(
            "second_corrected_only",
            second_corrected_only,
            "Only v is corrected. m starts at 0 as well: your first step is 1 − β₁ times the right one.",
            "m_hat = m / (1 - beta1 ** step).",
        ),
        Misconception(
            "step_from_zero",
            step_from_zero,
            "Your powers count the steps from 0. In the first one you then divide by 1 − β⁰ = 0, and the result is not "
            "finite.",
            "The step that you are given counts from 1: use it as it is.",
        ),
        Misconception(
            "one_step_ahead",
            one_step_ahead,
            "Your powers are one too high: step + 1. The step that you are given counts from 1 already.",
            "m / (1 - beta1 ** step).",
        ),
        Misconception(
            "adam_eps_inside",
            adam_eps_inside,
            "eps stands inside the root. With ordinary gradients nobody can tell, which is why this passes so many "
            "tests; in the case “{case}” it damps the steps.",
            "v_hat.sqrt() + eps.",
        ),
        Misconception(
            "eps_before_correction",
            eps_before_correction,
            "You fold both corrections into the rate, so eps is added to the root of the uncorrected v. That is what "
            "Keras does; with gradients near eps it gives another step, as in the case “{case}”.",
            "Correct v first, then take the root and add eps.",
        ),
        Misconception(
            "adam_without_eps",
            adam_without_eps,
            "eps is missing: a parameter without a gradient divides 0 by 0, which is NaN.",
            "v_hat.sqrt() + eps.",
        ),
        Misconception(
            "corrected_moments_kept",
            corrected_moments_kept,
            "You return the corrected moments as the state, so the next step corrects them once more.",
            "Give the corrected ones names of their own (m_hat, v_hat), and return m and v.",
        ),
        Misconception(
            "betas_exchanged",
            betas_exchanged,
            "The two betas are exchanged: the first one belongs to m, the second (the longer memory) to v.",
            "beta1, beta2 = betas.",
        ),
        Misconception(
            "adam_without_root",
            adam_without_root,
            "The root is missing: you divide by v̂ itself.",
            "Divide by v_hat.sqrt() + eps.",
        ),
        Misconception(
            "gradient_instead_of_m",
            gradient_instead_of_m,
            "The step uses the gradient itself; m is kept, but never used. That is RMSProp.",
            "Use m_hat in the place of the gradient.",
        ),
        Misconception(
            "multiplied_not_raised",
            multiplied_not_raised,
            "You correct by 1 − β in every step. That is right in the first one alone; after many steps there is no "
            "bias left, and you multiply by 10 and by 1000 for nothing.",
            "Raise beta to the power of the step: 1 - beta1 ** step.",
        ),
        Misconception(
            "moments_overwritten",
            moments_overwritten,
            "The numbers are right, but `mul_` and `add_` have changed the caller's moments.",
            "Make new tensors: m = beta1 * m + …",
        ),
    ),
    variants=(
        Variant("adam_by_lerp", adam_by_lerp),
        Variant("adam_in_torchs_order", adam_in_torchs_order),
        Variant("adam_in_numpy", adam_in_numpy),
    ),
    forbidden=FORBIDDEN,
    hints=(
        "After one step, m is (1 − β₁) g. What must you divide it by to get g?",
        "m_hat = m / (1 - beta1 ** step), v_hat = v / (1 - beta2 ** step); return m and v, not these.",
        "The step is lr * m_hat / (v_hat.sqrt() + eps).",
    ),
    minutes=12,
)

# ---------------------------------------------------------------- weight decay, decoupled or not


def decay_cases(seed):
    """Both kinds, with large and small weights, no decay, one step, no gradient, float64."""
    rng = np.random.default_rng(seed)

    def case(name, decoupled, decay=0.1, lr=0.01, steps=4, n=5, scale=1.0, dtype=np.float32):
        return Case(
            name,
            {
                "param": (rng.normal(size=n) * scale).astype(dtype),
                "grads": rng.normal(0.5, 1.0, (steps, n)).astype(dtype),
                "lr": lr,
                "weight_decay": decay,
                "decoupled": decoupled,
            },
        )

    yield case("decoupled (AdamW)", True)
    yield case("a penalty (Adam)", False)
    yield case("decoupled, one step, a high rate", True, steps=1, lr=0.5)
    yield case("a penalty, large weights, 10 steps", False, scale=30.0, steps=10)
    yield case("decoupled, large weights, 10 steps", True, scale=30.0, steps=10)
    silent = case("a penalty, two parameters without a gradient", False, steps=3)
    silent["grads"][:, 1:3] = 0
    yield silent
    yield case("no decay", True, decay=0.0)
    yield case("float64, decoupled, decay 0.5", True, decay=0.5, steps=6, dtype=np.float64)


def decay_probe(candidate, case):
    import torch

    param = torch.tensor(case["param"])
    m, v = torch.zeros_like(param), torch.zeros_like(param)
    path, squares, kept = [], [], True
    for i, row in enumerate(case["grads"]):
        grad = torch.tensor(row)
        before = param.clone(), m.clone(), v.clone()
        new = candidate(param, grad, m, v, i + 1, case["lr"], case["weight_decay"], case["decoupled"])
        kept = kept and all(torch.equal(a, b) for a, b in zip((param, m, v), before, strict=True))
        kept = kept and torch.equal(grad, torch.tensor(row))
        param, m, v = new
        path.append(param.clone())
        squares.append(v.clone())
    name = "parameters, decoupled" if case["decoupled"] else "parameters, penalty"
    return {name: torch.stack(path), "v": torch.stack(squares), "inputs as before": kept}


def decayed_step(param, grad, m, v, step, lr, weight_decay, decoupled):
    """One step of AdamW (decoupled) or of Adam on an ℓ2 penalty λ/2 ‖w‖²: (param, m, v)."""
    if decoupled:
        param = param * (1 - lr * weight_decay)
    else:
        grad = grad + weight_decay * param
    m = 0.9 * m + 0.1 * grad
    v = 0.999 * v + 0.001 * grad**2
    m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.999**step)
    return param - lr * m_hat / (v_hat.sqrt() + 1e-8), m, v


def always_a_penalty(param, grad, m, v, step, lr, weight_decay, decoupled):
    grad = grad + weight_decay * param
    m = 0.9 * m + 0.1 * grad
    v = 0.999 * v + 0.001 * grad**2
    m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.999**step)
    return param - lr * m_hat / (v_hat.sqrt() + 1e-8), m, v


def always_decoupled(param, grad, m, v, step, lr, weight_decay, decoupled):
    param = param * (1 - lr * weight_decay)
    m = 0.9 * m + 0.1 * grad
    v = 0.999 * v + 0.001 * grad**2
    m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.999**step)
    return param - lr * m_hat / (v_hat.sqrt() + 1e-8), m, v


def kinds_exchanged(param, grad, m, v, step, lr, weight_decay, decoupled):
    if not decoupled:
        param = param * (1 - lr * weight_decay)
    else:
        grad = grad + weight_decay * param
    m = 0.9 * m + 0.1 * grad
    v = 0.999 * v + 0.001 * grad**2
    m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.999**step)
    return param - lr * m_hat / (v_hat.sqrt() + 1e-8), m, v


def decay_without_rate(param, grad, m, v, step, lr, weight_decay, decoupled):
    if decoupled:
        param = param * (1 - weight_decay)
    else:
        grad = grad + weight_decay * param
    m = 0.9 * m + 0.1 * grad
    v = 0.999 * v + 0.001 * grad**2
    m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.999**step)
    return param - lr * m_hat / (v_hat.sqrt() + 1e-8), m, v


def penalty_twice(param, grad, m, v, step, lr, weight_decay, decoupled):
    if decoupled:
        param = param * (1 - lr * weight_decay)
    else:
        grad = grad + 2 * weight_decay * param
    m = 0.9 * m + 0.1 * grad
    v = 0.999 * v + 0.001 * grad**2
    m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.999**step)
    return param - lr * m_hat / (v_hat.sqrt() + 1e-8), m, v


def penalty_past_v(param, grad, m, v, step, lr, weight_decay, decoupled):
    if decoupled:
        param = param * (1 - lr * weight_decay)
        pulled = grad
    else:
        pulled = grad + weight_decay * param
    m = 0.9 * m + 0.1 * pulled
    v = 0.999 * v + 0.001 * grad**2
    m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.999**step)
    return param - lr * m_hat / (v_hat.sqrt() + 1e-8), m, v


def weights_grow(param, grad, m, v, step, lr, weight_decay, decoupled):
    if decoupled:
        param = param * (1 + lr * weight_decay)
    else:
        grad = grad - weight_decay * param
    m = 0.9 * m + 0.1 * grad
    v = 0.999 * v + 0.001 * grad**2
    m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.999**step)
    return param - lr * m_hat / (v_hat.sqrt() + 1e-8), m, v


def decay_after_the_step(param, grad, m, v, step, lr, weight_decay, decoupled):
    if not decoupled:
        grad = grad + weight_decay * param
    m = 0.9 * m + 0.1 * grad
    v = 0.999 * v + 0.001 * grad**2
    m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.999**step)
    param = param - lr * m_hat / (v_hat.sqrt() + 1e-8)
    if decoupled:
        param = param * (1 - lr * weight_decay)
    return param, m, v


def decay_divided(param, grad, m, v, step, lr, weight_decay, decoupled):
    if not decoupled:
        grad = grad + weight_decay * param
    m = 0.9 * m + 0.1 * grad
    v = 0.999 * v + 0.001 * grad**2
    m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.999**step)
    if decoupled:
        m_hat = m_hat + weight_decay * param
    return param - lr * m_hat / (v_hat.sqrt() + 1e-8), m, v


def decay_forgotten(param, grad, m, v, step, lr, weight_decay, decoupled):
    m = 0.9 * m + 0.1 * grad
    v = 0.999 * v + 0.001 * grad**2
    m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.999**step)
    return param - lr * m_hat / (v_hat.sqrt() + 1e-8), m, v


def decay_in_one_line(param, grad, m, v, step, lr, weight_decay, decoupled):
    g = grad if decoupled else grad + weight_decay * param
    m = torch.lerp(m, g, 0.1)
    v = torch.lerp(v, g.square(), 0.001)
    adaptive = m / (1 - 0.9**step) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
    return param - lr * (adaptive + decoupled * weight_decay * param), m, v


def decay_by_torch_order(param, grad, m, v, step, lr, weight_decay, decoupled):
    if not decoupled:
        grad = grad.add(param, alpha=weight_decay)
    new = param.mul(1 - lr * weight_decay) if decoupled else param.clone()
    m = m.mul(0.9).add(grad, alpha=0.1)
    v = v.mul(0.999).addcmul(grad, grad, value=0.001)
    denominator = v.sqrt() / (1 - 0.999**step) ** 0.5 + 1e-8
    return new.addcdiv(m, denominator, value=-lr / (1 - 0.9**step)), m, v


def decay_in_double(param, grad, m, v, step, lr, weight_decay, decoupled):
    w, g, first, second = (tensor.double() for tensor in (param, grad, m, v))
    if decoupled:
        start = w - lr * weight_decay * w
    else:
        start, g = w, g + weight_decay * w
    first = 0.9 * first + 0.1 * g
    second = 0.999 * second + 0.001 * g * g
    end = start - lr * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
    return tuple(tensor.to(param.dtype) for tensor in (end, first, second))


decay_exercise = Exercise(
    id="optimizers.two_decays",
    lesson="06_optimizers",
    title="AdamW is not Adam with an ℓ2 penalty",
    answer="decayed_step",
    criteria=(
        Criterion("parameters, decoupled", 1, Close(operations=128)),
        Criterion("parameters, penalty", 1, Close(operations=128)),
        Criterion("v", 0, Close(operations=128)),
        Criterion("inputs as before", 0),
    ),
    cases=decay_cases,
    probe=decay_probe,
    reference=decayed_step,
    misconceptions=(
        Misconception(
            "always_a_penalty",
            always_a_penalty,
            "Where decoupled is asked you still add λw to the gradient. It is then divided by √v̂ like everything else, "
            "and the weights with large gradients hardly decay.",
            "Where decoupled: shrink the parameter itself, param * (1 - lr * weight_decay), and leave the gradient "
            "alone.",
        ),
        Misconception(
            "always_decoupled",
            always_decoupled,
            "Where a penalty is asked you still shrink the parameter beside Adam's step.",
            "Without decoupled: grad = grad + weight_decay * param, before the moments are updated.",
        ),
        Misconception(
            "kinds_exchanged",
            kinds_exchanged,
            "The two kinds are exchanged. Decoupled means: beside the gradient, untouched by √v̂.",
            "Turn the condition round.",
        ),
        Misconception(
            "decay_without_rate",
            decay_without_rate,
            "Your decoupled decay leaves the rate out, so weights lose λ of their size in every step, whatever the "
            "schedule does. In PyTorch and Keras it is ηλ.",
            "param * (1 - lr * weight_decay).",
        ),
        Misconception(
            "penalty_twice",
            penalty_twice,
            "You add 2λw. The penalty is λ/2 ‖w‖², and its gradient λw.",
            "grad + weight_decay * param.",
        ),
        Misconception(
            "penalty_past_v",
            penalty_past_v,
            "The penalty enters m but not v. It is a part of the gradient like any other: both see it.",
            "Add it to grad before both moments are updated.",
        ),
        Misconception(
            "weights_grow",
            weights_grow,
            "Your weights grow: the sign of the decay is turned round.",
            "param * (1 - lr * weight_decay), and grad + weight_decay * param.",
        ),
        Misconception(
            "decay_after_the_step",
            decay_after_the_step,
            "You shrink the parameter after Adam's step, so the step itself shrinks too. Both frameworks shrink first.",
            "Start with param = param * (1 - lr * weight_decay).",
        ),
        Misconception(
            "decay_divided",
            decay_divided,
            "You add λw to m̂: it misses the moments, but is still divided by √v̂. Decoupled means that it is not.",
            "Shrink the parameter itself: param * (1 - lr * weight_decay).",
        ),
        Misconception(
            "decay_forgotten",
            decay_forgotten,
            "Nothing decays: this is plain Adam.",
            "Use weight_decay: on the parameter where decoupled, on the gradient otherwise.",
        ),
    ),
    variants=(
        Variant("decay_in_one_line", decay_in_one_line),
        Variant("decay_by_torch_order", decay_by_torch_order),
        Variant("decay_in_double", decay_in_double),
    ),
    forbidden=FORBIDDEN,
    hints=(
        "In plain gradient descent both kinds are the same. What does Adam do to whatever stands in the gradient?",
        "Decoupled: param * (1 - lr * weight_decay) first, and Adam's step with the bare gradient. Penalty: "
        "grad + weight_decay * param, and everything as before.",
        "After an if/else that changes param or grad, the rest is your Adam with betas (0.9, 0.999) and eps 1e-8.",
    ),
    minutes=10,
)
