"""Rates that follow the loss: lowered on a plateau, and found by a range test."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch.nn import functional as F

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

# ---------------------------------------------------------------- on a plateau


def plateau_cases(seed):
    """A stalled loss, one that recovers, gains too small to count, NaN, a floor, no patience."""
    rng = np.random.default_rng(seed)

    def case(name, losses, patience=2, factor=0.5, min_delta=0.0, min_lr=0.0):
        shift = rng.uniform(0.5, 2.0)  # the rule looks at differences alone
        return Case(
            name,
            {
                "losses": np.array(losses) + shift,
                "lr": float(rng.uniform(0.05, 1.0)),
                "factor": factor,
                "patience": patience,
                "min_delta": min_delta,
                "min_lr": min_lr,
            },
        )

    yield case("the loss never improves", [1.0] * 12)
    yield case("it stalls, recovers, stalls", [1.0, 0.8, 0.8, 0.9, 0.7, 0.7, 0.7, 0.7, 0.6, 0.6, 0.6, 0.6, 0.6])
    yield case("up and down, slowly better", [1.0, 1.2, 0.9, 1.1, 0.95, 0.92, 0.85, 1.0, 0.99, 0.98, 0.84])
    yield case("gains below min_delta", [1.0 - 0.01 * i for i in range(12)], min_delta=0.035)
    yield case("a floor", [1.0] * 14, patience=1, factor=0.1, min_lr=1e-3)
    yield case("patience 0", [1.0, 0.9, 0.95, 0.94, 0.8, 0.8], patience=0, factor=0.3)
    yield case("NaN in between", [1.0, 0.9, float("nan"), float("nan"), 0.95, 0.8, float("nan"), 0.7, 0.9, 0.9, 0.9])
    yield case("always better", [1.0 / (i + 1) for i in range(8)])


def plateau_probe(candidate, case):
    import numpy as np

    rates = candidate(
        case["losses"].tolist(), case["lr"], case["factor"], case["patience"], case["min_delta"], case["min_lr"]
    )
    return {"rate after each epoch": np.array([float(rate) for rate in rates])}


def on_plateau(losses, lr, factor, patience, min_delta, min_lr):
    """The rate in force after each epoch: it falls when more than `patience` epochs in a row did not improve."""
    best, bad, rates = float("inf"), 0, []
    for loss in losses:
        if loss < best - min_delta:
            best, bad = loss, 0
        else:
            bad += 1
        if bad > patience:
            lr, bad = max(lr * factor, min_lr), 0
        rates.append(lr)
    return rates


def falls_at_patience(losses, lr, factor, patience, min_delta, min_lr):
    best, bad, rates = float("inf"), 0, []
    for loss in losses:
        if loss < best - min_delta:
            best, bad = loss, 0
        else:
            bad += 1
            if bad >= patience:
                lr, bad = max(lr * factor, min_lr), 0
        rates.append(lr)
    return rates


def count_goes_on_after_a_fall(losses, lr, factor, patience, min_delta, min_lr):
    best, bad, rates = float("inf"), 0, []
    for loss in losses:
        if loss < best - min_delta:
            best, bad = loss, 0
        else:
            bad += 1
        if bad > patience:
            lr = max(lr * factor, min_lr)
        rates.append(lr)
    return rates


def count_never_reset(losses, lr, factor, patience, min_delta, min_lr):
    best, bad, rates = float("inf"), 0, []
    for loss in losses:
        if loss < best - min_delta:
            best = loss
        else:
            bad += 1
        if bad > patience:
            lr, bad = max(lr * factor, min_lr), 0
        rates.append(lr)
    return rates


def compared_with_the_last_epoch(losses, lr, factor, patience, min_delta, min_lr):
    last, bad, rates = float("inf"), 0, []
    for loss in losses:
        if loss < last - min_delta:
            bad = 0
        else:
            bad += 1
        last = loss
        if bad > patience:
            lr, bad = max(lr * factor, min_lr), 0
        rates.append(lr)
    return rates


def best_creeps(losses, lr, factor, patience, min_delta, min_lr):
    best, bad, rates = float("inf"), 0, []
    for loss in losses:
        if loss < best - min_delta:
            bad = 0
        else:
            bad += 1
        if loss < best:
            best = loss
        if bad > patience:
            lr, bad = max(lr * factor, min_lr), 0
        rates.append(lr)
    return rates


def any_gain_counts(losses, lr, factor, patience, min_delta, min_lr):
    best, bad, rates = float("inf"), 0, []
    for loss in losses:
        if loss < best:
            best, bad = loss, 0
        else:
            bad += 1
        if bad > patience:
            lr, bad = max(lr * factor, min_lr), 0
        rates.append(lr)
    return rates


def equal_is_better(losses, lr, factor, patience, min_delta, min_lr):
    best, bad, rates = float("inf"), 0, []
    for loss in losses:
        if loss <= best - min_delta:
            best, bad = loss, 0
        else:
            bad += 1
        if bad > patience:
            lr, bad = max(lr * factor, min_lr), 0
        rates.append(lr)
    return rates


def higher_is_better(losses, lr, factor, patience, min_delta, min_lr):
    best, bad, rates = -float("inf"), 0, []
    for loss in losses:
        if loss > best + min_delta:
            best, bad = loss, 0
        else:
            bad += 1
        if bad > patience:
            lr, bad = max(lr * factor, min_lr), 0
        rates.append(lr)
    return rates


def no_floor(losses, lr, factor, patience, min_delta, min_lr):
    best, bad, rates = float("inf"), 0, []
    for loss in losses:
        if loss < best - min_delta:
            best, bad = loss, 0
        else:
            bad += 1
        if bad > patience:
            lr, bad = lr * factor, 0
        rates.append(lr)
    return rates


def best_by_min(losses, lr, factor, patience, min_delta, min_lr):
    best, bad, rates = float("inf"), 0, []
    for loss in losses:
        bad = bad + 1 if loss >= best - min_delta else 0
        if not loss >= best - min_delta:
            best = loss
        if bad > patience:
            lr, bad = max(lr * factor, min_lr), 0
        rates.append(lr)
    return rates


def rate_before_the_epoch(losses, lr, factor, patience, min_delta, min_lr):
    best, bad, rates = float("inf"), 0, []
    for loss in losses:
        rates.append(lr)
        if loss < best - min_delta:
            best, bad = loss, 0
        else:
            bad += 1
        if bad > patience:
            lr, bad = max(lr * factor, min_lr), 0
    return rates


def plateau_with_numpy(losses, lr, factor, patience, min_delta, min_lr):
    rates, best, since = np.empty(len(losses)), np.inf, -1
    for epoch, loss in enumerate(losses):
        improved = loss < best - min_delta
        best = loss if improved else best
        since = epoch if improved else since
        if epoch - since > patience:
            lr, since = max(lr * factor, min_lr), epoch
        rates[epoch] = lr
    return rates


def plateau_by_recursion(losses, lr, factor, patience, min_delta, min_lr):
    def go(rest, lr, best, bad):
        if not rest:
            return []
        better = rest[0] < best - min_delta
        best, bad = (rest[0], 0) if better else (best, bad + 1)
        if bad == patience + 1:
            lr, bad = max(min_lr, factor * lr), 0
        return [lr, *go(rest[1:], lr, best, bad)]

    return go(list(losses), lr, float("inf"), 0)


def plateau_by_generator(losses, lr, factor, patience, min_delta, min_lr):
    def rates():
        rate, best, left = lr, None, patience
        for loss in losses:
            if loss == loss and (best is None or loss < best - min_delta):
                best, left = loss, patience
            elif left == 0:
                rate, left = max(rate * factor, min_lr), patience
            else:
                left -= 1
            yield rate

    return list(rates())


plateau_exercise = Exercise(
    id="optimizers.on_plateau",
    lesson="06_optimizers",
    title="Lower the rate when the loss stalls",
    answer="on_plateau",
    criteria=(Criterion("rate after each epoch", 2, Close(operations=256)),),
    cases=plateau_cases,
    probe=plateau_probe,
    reference=on_plateau,
    misconceptions=(
        Misconception(
            "falls_at_patience",
            falls_at_patience,
            "Your rate falls at the bad epoch number `patience`, as in Keras. Asked is PyTorch's count: that many bad "
            "epochs are tolerated, and it falls at the next.",
            "if bad > patience.",
        ),
        Misconception(
            "count_goes_on_after_a_fall",
            count_goes_on_after_a_fall,
            "After a fall the count of bad epochs goes on, so the rate falls again in every further bad epoch.",
            "Set the count back to 0 when the rate falls: the new rate needs time to show what it does.",
        ),
        Misconception(
            "count_never_reset",
            count_never_reset,
            "An improvement does not set the count back to 0: you count all bad epochs, not those in a row.",
            "bad = 0 whenever the loss improves.",
        ),
        Misconception(
            "compared_with_the_last_epoch",
            compared_with_the_last_epoch,
            "You compare with the epoch before. A loss that goes up and down then “improves” every second epoch, and "
            "never stalls.",
            "Keep the best loss so far, and compare with that.",
        ),
        Misconception(
            "best_creeps",
            best_creeps,
            "Gains below min_delta do not count as improvements, but still move your best loss. Many small gains that "
            "together exceed min_delta are then never seen.",
            "Move best only where the epoch counts as an improvement.",
        ),
        Misconception(
            "any_gain_counts",
            any_gain_counts,
            "Any gain counts as an improvement; it should be more than min_delta.",
            "if loss < best - min_delta.",
        ),
        Misconception(
            "equal_is_better",
            equal_is_better,
            "A loss that stays the same counts as an improvement, so that a perfectly flat plateau is none.",
            "Use <, not <=.",
        ),
        Misconception(
            "higher_is_better",
            higher_is_better,
            "You take a higher value for better. That suits an accuracy; a loss should fall.",
            "if loss < best - min_delta, and best starts at infinity.",
        ),
        Misconception(
            "no_floor",
            no_floor,
            "The rate falls below min_lr.",
            "max(lr * factor, min_lr).",
        ),
        Misconception(
            "best_by_min",
            best_by_min,
            "In the case “{case}” an epoch with NaN counts as an improvement: every comparison with NaN is false, "
            "also `loss >= best`.",
            "Ask whether it IS better (loss < best - min_delta); with NaN the answer is no.",
        ),
        Misconception(
            "rate_before_the_epoch",
            rate_before_the_epoch,
            "You note the rate before the epoch's loss is looked at: everything comes an epoch late.",
            "Append the rate at the end of the loop.",
        ),
    ),
    variants=(
        Variant("plateau_with_numpy", plateau_with_numpy),
        Variant("plateau_by_recursion", plateau_by_recursion),
        Variant("plateau_by_generator", plateau_by_generator),
    ),
    forbidden=("course_lib.schedules", "torch.optim.lr_scheduler.ReduceLROnPlateau"),
    hints=(
        "Three things must be remembered from epoch to epoch. Which?",
        "The best loss, the number of bad epochs in a row, the rate. Start best at float('inf').",
        "Better: best, bad = loss, 0; otherwise bad += 1. If bad > patience: lr, bad = max(lr * factor, min_lr), 0.",
    ),
    minutes=10,
)

# ---------------------------------------------------------------- a range test


def range_cases(seed):
    """One and several batches, a fit that overflows, few steps, a narrow range, a model in evaluation."""
    rng = np.random.default_rng(seed)

    def case(name, min_lr=1e-3, max_lr=10.0, steps=20, batches=2, scale=1.0, dtype=np.float64):
        n, inputs, classes = 12, 4, 3
        x = (rng.normal(size=(batches, n, inputs)) * scale).astype(dtype)
        teacher = rng.normal(size=(inputs, classes))
        return Case(
            name,
            {
                "x": x,
                "y": (x @ teacher).argmax(-1),
                "weight": (rng.normal(size=(classes, inputs)) * 0.3).astype(dtype),
                "min_lr": min_lr,
                "max_lr": max_lr,
                "steps": steps,
            },
        )

    yield case("two batches, 20 steps")
    yield case("one batch", batches=1)
    yield case("three batches, seven steps", batches=3, steps=7)
    yield case("a narrow range", min_lr=0.05, max_lr=0.8, steps=12)
    yield case("the loss overflows", max_lr=1e200, scale=1e110, steps=15)
    yield case("a wide range", min_lr=1e-4, max_lr=30.0, steps=30, batches=4)


def range_probe(candidate, case):
    import torch
    from torch import nn

    x, y = torch.tensor(case["x"]), torch.tensor(case["y"])
    model = nn.Linear(x.shape[-1], 3, bias=False).to(x.dtype)
    with torch.no_grad():
        model.weight.copy_(torch.tensor(case["weight"]))
    batches = list(zip(x, y, strict=True))
    rates, losses, suggestion = candidate(model, batches, case["min_lr"], case["max_lr"], case["steps"])
    losses = [loss.detach() if hasattr(loss, "detach") else loss for loss in losses]
    return {
        "rates": torch.tensor([float(rate) for rate in rates], dtype=torch.float64),
        "losses": torch.tensor([float(loss) for loss in losses], dtype=torch.float64),
        "suggestion": torch.tensor(float(suggestion), dtype=torch.float64),
        "model as before": torch.equal(model.weight, torch.tensor(case["weight"])),
    }


def range_test(model, batches, min_lr, max_lr, steps):
    """(rates, losses, suggestion): plain SGD on a copy, the rate growing by a constant factor in each step."""
    model = copy.deepcopy(model)
    parameters = list(model.parameters())
    rates, losses = [], []
    for step in range(steps):
        x, y = batches[step % len(batches)]
        loss = F.cross_entropy(model(x), y)
        if not torch.isfinite(loss):
            break
        lr = min_lr * (max_lr / min_lr) ** (step / (steps - 1))
        rates.append(lr)
        losses.append(loss.item())
        grads = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, grad in zip(parameters, grads, strict=True):
                parameter -= lr * grad
    return rates, losses, rates[losses.index(min(losses))] / 10


def rates_in_a_line(model, batches, min_lr, max_lr, steps):
    import copy

    model = copy.deepcopy(model)
    rates, losses = [], []
    for step in range(steps):
        x, y = batches[step % len(batches)]
        loss = F.cross_entropy(model(x), y)
        if not torch.isfinite(loss):
            break
        lr = min_lr + (max_lr - min_lr) * step / (steps - 1)
        rates.append(lr)
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= lr * parameter.grad
    return rates, losses, rates[losses.index(min(losses))] / 10


def model_trained_away(model, batches, min_lr, max_lr, steps):
    rates, losses = [], []
    for step in range(steps):
        x, y = batches[step % len(batches)]
        loss = F.cross_entropy(model(x), y)
        if not torch.isfinite(loss):
            break
        lr = min_lr * (max_lr / min_lr) ** (step / (steps - 1))
        rates.append(lr)
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= lr * parameter.grad
    return rates, losses, rates[losses.index(min(losses))] / 10


def rate_of_the_lowest_loss(model, batches, min_lr, max_lr, steps):
    import copy

    model = copy.deepcopy(model)
    rates, losses = [], []
    for step in range(steps):
        x, y = batches[step % len(batches)]
        loss = F.cross_entropy(model(x), y)
        if not torch.isfinite(loss):
            break
        lr = min_lr * (max_lr / min_lr) ** (step / (steps - 1))
        rates.append(lr)
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= lr * parameter.grad
    return rates, losses, rates[losses.index(min(losses))]


def highest_rate_taken(model, batches, min_lr, max_lr, steps):
    import copy

    model = copy.deepcopy(model)
    rates, losses = [], []
    for step in range(steps):
        x, y = batches[step % len(batches)]
        loss = F.cross_entropy(model(x), y)
        if not torch.isfinite(loss):
            break
        lr = min_lr * (max_lr / min_lr) ** (step / (steps - 1))
        rates.append(lr)
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= lr * parameter.grad
    return rates, losses, rates[-1] / 10


def range_gradients_pile_up(model, batches, min_lr, max_lr, steps):
    import copy

    model = copy.deepcopy(model)
    rates, losses = [], []
    for step in range(steps):
        x, y = batches[step % len(batches)]
        loss = F.cross_entropy(model(x), y)
        if not torch.isfinite(loss):
            break
        lr = min_lr * (max_lr / min_lr) ** (step / (steps - 1))
        rates.append(lr)
        losses.append(loss.item())
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= lr * parameter.grad
    return rates, losses, rates[losses.index(min(losses))] / 10


def top_never_reached(model, batches, min_lr, max_lr, steps):
    import copy

    model = copy.deepcopy(model)
    rates, losses = [], []
    for step in range(steps):
        x, y = batches[step % len(batches)]
        loss = F.cross_entropy(model(x), y)
        if not torch.isfinite(loss):
            break
        lr = min_lr * (max_lr / min_lr) ** (step / steps)
        rates.append(lr)
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= lr * parameter.grad
    return rates, losses, rates[losses.index(min(losses))] / 10


def always_the_first_batch(model, batches, min_lr, max_lr, steps):
    import copy

    model = copy.deepcopy(model)
    rates, losses = [], []
    for step in range(steps):
        x, y = batches[0]
        loss = F.cross_entropy(model(x), y)
        if not torch.isfinite(loss):
            break
        lr = min_lr * (max_lr / min_lr) ** (step / (steps - 1))
        rates.append(lr)
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= lr * parameter.grad
    return rates, losses, rates[losses.index(min(losses))] / 10


def loss_after_the_step(model, batches, min_lr, max_lr, steps):
    import copy

    model = copy.deepcopy(model)
    rates, losses = [], []
    for step in range(steps):
        x, y = batches[step % len(batches)]
        lr = min_lr * (max_lr / min_lr) ** (step / (steps - 1))
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= lr * parameter.grad
            loss = F.cross_entropy(model(x), y)
        if not torch.isfinite(loss):
            break
        rates.append(lr)
        losses.append(loss.item())
    return rates, losses, rates[losses.index(min(losses))] / 10 if losses else 0.0


def started_afresh_for_each_rate(model, batches, min_lr, max_lr, steps):
    import copy

    rates, losses = [], []
    for step in range(steps):
        trial = copy.deepcopy(model)
        x, y = batches[step % len(batches)]
        loss = F.cross_entropy(trial(x), y)
        if not torch.isfinite(loss):
            break
        lr = min_lr * (max_lr / min_lr) ** (step / (steps - 1))
        rates.append(lr)
        losses.append(loss.item())
        loss.backward()
        with torch.no_grad():
            for parameter in trial.parameters():
                parameter -= lr * parameter.grad
    return rates, losses, rates[losses.index(min(losses))] / 10


def infinite_losses_kept(model, batches, min_lr, max_lr, steps):
    import copy

    model = copy.deepcopy(model)
    rates, losses = [], []
    for step in range(steps):
        x, y = batches[step % len(batches)]
        loss = F.cross_entropy(model(x), y)
        lr = min_lr * (max_lr / min_lr) ** (step / (steps - 1))
        rates.append(lr)
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= lr * parameter.grad
    return rates, losses, rates[losses.index(min(losses))] / 10


def range_by_an_optimizer(model, batches, min_lr, max_lr, steps):
    import copy
    import itertools

    trial = copy.deepcopy(model)
    optimizer = torch.optim.SGD(trial.parameters(), lr=min_lr)
    growth = (max_lr / min_lr) ** (1 / (steps - 1))
    rates, losses = [], []
    for (x, y), step in zip(itertools.cycle(batches), range(steps), strict=False):
        optimizer.param_groups[0]["lr"] = min_lr * growth**step
        optimizer.zero_grad()
        loss = F.cross_entropy(trial(x), y)
        if not loss.isfinite():
            break
        loss.backward()
        rates.append(optimizer.param_groups[0]["lr"])
        losses.append(loss.item())
        optimizer.step()
    return rates, losses, rates[int(np.argmin(losses))] / 10


def range_put_back(model, batches, min_lr, max_lr, steps):
    start = {name: value.clone() for name, value in model.state_dict().items()}
    rates, losses = [], []
    for step, lr in enumerate(np.geomspace(min_lr, max_lr, steps)):
        x, y = batches[step % len(batches)]
        loss = F.cross_entropy(model(x), y)
        if not np.isfinite(loss.item()):
            break
        rates.append(lr)
        losses.append(loss.item())
        grads = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, grad in zip(model.parameters(), grads, strict=True):
                parameter.sub_(grad, alpha=float(lr))
    model.load_state_dict(start)
    return rates, losses, 0.1 * rates[losses.index(min(losses))]


def range_by_functional_call(model, batches, min_lr, max_lr, steps):
    weights = {name: value.detach().clone().requires_grad_() for name, value in model.named_parameters()}
    found = []
    for step in range(steps):
        x, y = batches[step % len(batches)]
        loss = F.cross_entropy(torch.func.functional_call(model, weights, (x,)), y)
        if not loss.isfinite():
            break
        lr = min_lr ** (1 - step / (steps - 1)) * max_lr ** (step / (steps - 1))
        found.append((lr, loss.item()))
        grads = torch.autograd.grad(loss, list(weights.values()))
        weights = {
            name: (value - lr * grad).detach().requires_grad_()
            for (name, value), grad in zip(weights.items(), grads, strict=True)
        }
    rates, losses = zip(*found, strict=True)
    return rates, losses, min(found, key=lambda pair: pair[1])[0] / 10


range_exercise = Exercise(
    id="optimizers.range_test",
    lesson="06_optimizers",
    title="A range test that picks a rate",
    answer="range_test",
    criteria=(
        Criterion("rates", 1, Close(operations=2048)),
        Criterion("losses", 1, Close(operations=4096), requires=("rates",)),
        Criterion("suggestion", 1, Close(operations=2048), requires=("losses", "model as before")),
        Criterion("model as before", 0),
    ),
    cases=range_cases,
    probe=range_probe,
    reference=range_test,
    misconceptions=(
        Misconception(
            "rates_in_a_line",
            rates_in_a_line,
            "Your rates grow by a constant amount, so that nearly all of them are large. Rates are compared by their "
            "ratio: grow by a constant factor.",
            "min_lr * (max_lr / min_lr) ** (step / (steps - 1)).",
        ),
        Misconception(
            "model_trained_away",
            model_trained_away,
            "The numbers are right, but you have trained the model itself, up to rates that wreck it.",
            "Work on copy.deepcopy(model).",
        ),
        Misconception(
            "rate_of_the_lowest_loss",
            rate_of_the_lowest_loss,
            "You suggest the rate with the lowest loss. There the loss is about to explode; asked is a tenth of it.",
            "Divide by 10.",
        ),
        Misconception(
            "highest_rate_taken",
            highest_rate_taken,
            "You suggest a tenth of the last rate that gave a finite loss, however high that loss was.",
            "Take the rate at which the loss was lowest.",
        ),
        Misconception(
            "range_gradients_pile_up",
            range_gradients_pile_up,
            "Gradients pile up from step to step: backward() adds to .grad.",
            "Call zero_grad() in each step.",
        ),
        Misconception(
            "top_never_reached",
            top_never_reached,
            "Your last rate stays below max_lr: with {steps} rates there are one fewer intervals.",
            "Divide the step by steps - 1.",
        ),
        Misconception(
            "always_the_first_batch",
            always_the_first_batch,
            "You show the same batch in each step; the loss then falls because that batch is learned by heart.",
            "Go on to the next batch, and begin again after the last: batches[step % len(batches)].",
        ),
        Misconception(
            "loss_after_the_step",
            loss_after_the_step,
            "You note the loss of a batch after the step on that batch, which flatters every rate. What counts is "
            "how well the steps so far do on the next batch.",
            "Note the loss first, then make the step.",
        ),
        Misconception(
            "started_afresh_for_each_rate",
            started_afresh_for_each_rate,
            "You start from the untrained weights for each rate, so the loss never shows what a step did.",
            "Copy the model once, before the loop.",
        ),
        Misconception(
            "infinite_losses_kept",
            infinite_losses_kept,
            "You go on after the loss has become infinite or NaN, in the case “{case}”. No later loss means anything.",
            "Stop before noting a loss that is not finite.",
        ),
    ),
    variants=(
        Variant("range_by_an_optimizer", range_by_an_optimizer),
        Variant("range_put_back", range_put_back),
        Variant("range_by_functional_call", range_by_functional_call),
    ),
    forbidden=("course_lib.schedules",),
    hints=(
        "Which factor takes the rate from min_lr to max_lr in steps − 1 equal multiplications?",
        "In each step: the loss of the next batch; stop if it is not finite; note rate and loss; then one step of "
        "plain gradient descent with that rate.",
        "Copy the model first. At the end: rates[losses.index(min(losses))] / 10.",
    ),
    minutes=15,
)
