"""Runs that went wrong, and how to see it: a schedule that never falls, gradients that pile up, a rate far too high."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ...exercise import Case, Close, Criterion, Exercise, Explanation, Misconception, Variant

# ---------------------------------------------------------------- one large batch in small pieces


def accumulate_cases(seed):
    """Batches that divide evenly and that do not, pieces of one, one piece, stale gradients, float64."""
    rng = np.random.default_rng(seed)

    def case(name, n, size, stale=0.0, scale=1.0, dtype=np.float32):
        return Case(
            name,
            {
                "x": (rng.normal(size=(n, 5)) * scale).astype(dtype),
                "y": rng.integers(0, 3, n),
                "weight": (rng.normal(size=(3, 5)) * 0.5).astype(dtype),
                "stale": stale,
                "size": size,
            },
        )

    yield case("12 images by 4", 12, 4)
    yield case("10 images by 4: the last piece has 2", 10, 4)
    yield case("7 images one by one", 7, 1)
    yield case("one piece is enough", 5, 8)
    yield case("old gradients are still there", 9, 4, stale=3.0)
    yield case("float64, 33 images by 8", 33, 8, scale=3.0, dtype=np.float64)


def accumulate_probe(candidate, case):
    import torch
    from torch import nn

    x, y = torch.tensor(case["x"]), torch.tensor(case["y"])
    model = nn.Linear(5, 3).to(x.dtype)
    with torch.no_grad():
        model.weight.copy_(torch.tensor(case["weight"]))
        model.bias.zero_()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, case["stale"]) if case["stale"] else None
    fed = []
    model.register_forward_pre_hook(lambda module, args: fed.append(len(args[0])))
    loss = candidate(model, x, y, case["size"])
    if model.weight.grad is None:
        raise RuntimeError("no gradient stands in .grad afterwards: is a backward() missing?")
    return {
        "gradient": torch.cat([model.weight.grad.flatten(), model.bias.grad]),
        "loss": torch.tensor(float(loss.detach() if hasattr(loss, "detach") else loss), dtype=x.dtype),
        "largest piece fed": max(fed, default=0),
        "weights as before": torch.equal(model.weight, torch.tensor(case["weight"])),
    }


def accumulate(model, images, labels, size):
    """The mean loss over all images, a float; leaves its gradient in .grad, at most `size` images at a time."""
    model.zero_grad()
    total = 0.0
    for x, y in zip(images.split(size), labels.split(size), strict=True):
        loss = F.cross_entropy(model(x), y, reduction="sum") / len(labels)
        loss.backward()
        total += loss.item()
    return total


def sum_of_means(model, images, labels, size):
    model.zero_grad()
    total = 0.0
    for x, y in zip(images.split(size), labels.split(size), strict=True):
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        total += loss.item()
    return total


def only_the_report_divided(model, images, labels, size):
    model.zero_grad()
    total = 0.0
    for x, y in zip(images.split(size), labels.split(size), strict=True):
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        total += loss.item() * len(y) / len(labels)
    return total


def mean_of_means(model, images, labels, size):
    model.zero_grad()
    pieces = list(zip(images.split(size), labels.split(size), strict=True))
    total = 0.0
    for x, y in pieces:
        loss = F.cross_entropy(model(x), y) / len(pieces)
        loss.backward()
        total += loss.item()
    return total


def sum_over_all(model, images, labels, size):
    model.zero_grad()
    total = 0.0
    for x, y in zip(images.split(size), labels.split(size), strict=True):
        loss = F.cross_entropy(model(x), y, reduction="sum")
        loss.backward()
        total += loss.item()
    return total


def zeroed_in_the_loop(model, images, labels, size):
    total = 0.0
    for x, y in zip(images.split(size), labels.split(size), strict=True):
        model.zero_grad()
        loss = F.cross_entropy(model(x), y, reduction="sum") / len(labels)
        loss.backward()
        total += loss.item()
    return total


def old_gradients_kept(model, images, labels, size):
    total = 0.0
    for x, y in zip(images.split(size), labels.split(size), strict=True):
        loss = F.cross_entropy(model(x), y, reduction="sum") / len(labels)
        loss.backward()
        total += loss.item()
    return total


def all_at_once(model, images, labels, size):
    model.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    return loss.item()


def last_piece_dropped(model, images, labels, size):
    model.zero_grad()
    total = 0.0
    count = max(len(labels) // size, 1)
    for i in range(count):
        x, y = images[i * size : (i + 1) * size], labels[i * size : (i + 1) * size]
        loss = F.cross_entropy(model(x), y) / count
        loss.backward()
        total += loss.item()
    return total


def loss_of_the_last_piece(model, images, labels, size):
    model.zero_grad()
    for x, y in zip(images.split(size), labels.split(size), strict=True):
        loss = F.cross_entropy(model(x), y, reduction="sum") / len(labels)
        loss.backward()
        last = F.cross_entropy(model(x), y).item()
    return last


def weighted_pieces(model, images, labels, size):
    model.zero_grad(set_to_none=True)
    mean = 0.0
    for start in range(0, len(labels), size):
        part = slice(start, start + size)
        share = len(labels[part]) / len(labels)
        loss = share * F.cross_entropy(model(images[part]), labels[part])
        loss.backward()
        mean += float(loss.detach())
    return mean


def divided_afterwards(model, images, labels, size):
    for parameter in model.parameters():
        parameter.grad = None
    total = 0.0
    for x, y in zip(images.split(size), labels.split(size), strict=True):
        loss = F.nll_loss(F.log_softmax(model(x), -1), y, reduction="sum")
        loss.backward()
        total += loss.item()
    for parameter in model.parameters():
        parameter.grad /= len(labels)
    return total / len(labels)


def by_autograd_grad(model, images, labels, size):
    parameters = list(model.parameters())
    sums, total = [torch.zeros_like(parameter) for parameter in parameters], 0.0
    for x, y in zip(images.split(size), labels.split(size), strict=True):
        loss = F.cross_entropy(model(x), y, reduction="sum")
        for kept, grad in zip(sums, torch.autograd.grad(loss, parameters), strict=True):
            kept += grad
        total += loss.item()
    for parameter, kept in zip(parameters, sums, strict=True):
        parameter.grad = kept / len(labels)
    return total / len(labels)


accumulate_exercise = Exercise(
    id="optimizers.accumulate",
    lesson="06_optimizers",
    title="A large batch in small pieces",
    answer="accumulate",
    criteria=(
        Criterion("gradient", 2, Close(operations=256), requires=("largest piece fed",)),
        Criterion("loss", 1, Close(operations=256), requires=("largest piece fed",)),
        Criterion("largest piece fed", 0),
        Criterion("weights as before", 0),
    ),
    cases=accumulate_cases,
    probe=accumulate_probe,
    reference=accumulate,
    misconceptions=(
        Misconception(
            "sum_of_means",
            sum_of_means,
            "You add the pieces' mean losses up. Your gradient is as many times too large as there are pieces, as if "
            "the rate had been raised.",
            "Divide: each image counts 1 / len(labels).",
        ),
        Misconception(
            "only_the_report_divided",
            only_the_report_divided,
            "The loss that you return is right, but you call backward() on the pieces' means as they are, so the "
            "gradient is their sum.",
            "Scale the loss before backward().",
        ),
        Misconception(
            "mean_of_means",
            mean_of_means,
            "You divide by the number of pieces. In the case “{case}” the last one is smaller, and its images count "
            "more than the others.",
            "Weight each piece with its number of images: len(y) / len(labels).",
        ),
        Misconception(
            "sum_over_all",
            sum_over_all,
            "You have the sum over all images, not the mean: it is len(labels) times too large.",
            "Divide each piece's sum by len(labels).",
        ),
        Misconception(
            "zeroed_in_the_loop",
            zeroed_in_the_loop,
            "You clear the gradients before each piece, so only the last piece's is left.",
            "Call zero_grad() once, before the loop.",
        ),
        Misconception(
            "old_gradients_kept",
            old_gradients_kept,
            "In the case “{case}” the model came with gradients of an earlier step, and you add to them.",
            "Call model.zero_grad() first.",
        ),
        Misconception(
            "all_at_once",
            all_at_once,
            "The gradient is right, but all images went through the model at once: that is what the memory was too "
            "small for.",
            "Feed pieces of `size`: images.split(size).",
        ),
        Misconception(
            "last_piece_dropped",
            last_piece_dropped,
            "In the case “{case}” the images that do not fill a whole piece are left out.",
            "images.split(size) gives the smaller last piece too.",
        ),
        Misconception(
            "loss_of_the_last_piece",
            loss_of_the_last_piece,
            "The gradient is right, but the loss that you return is the last piece's alone.",
            "Add the pieces' shares up.",
        ),
    ),
    variants=(
        Variant("weighted_pieces", weighted_pieces),
        Variant("divided_afterwards", divided_afterwards),
        Variant("by_autograd_grad", by_autograd_grad),
    ),
    forbidden=("course_lib.optimizers",),
    hints=(
        "backward() adds to .grad. What should each image's loss be multiplied by, so that the sum is the mean over "
        "all?",
        "Take the sum over a piece (reduction='sum') and divide it by the number of ALL images.",
        "zero_grad() once; for each piece of images.split(size) and labels.split(size): loss, backward(), add "
        "loss.item().",
    ),
    minutes=10,
)

# ---------------------------------------------------------------- clinic: a schedule that never falls


def schedule_cases(seed):
    """The asker's schedule, ones that fall, too late, upwards, and to nothing at all."""
    rng = np.random.default_rng(seed)

    def case(name, factor, every, epochs, offset=0, kind="stairs"):
        return Case(
            name,
            {
                "lr": float(rng.uniform(0.01, 0.5)),
                "factor": factor,
                "every": every,
                "epochs": epochs,
                "offset": offset,
                "kind": kind,
            },
        )

    yield case("as asked: every 3 epochs, factor 1", 1.0, 3, 20, offset=1)
    yield case("halved every 5 epochs", 0.5, 5, 20)
    yield case("first fall after the last epoch", 0.1, 30, 20)
    yield case("falls exactly at the last epoch", 0.1, 19, 20)
    yield case("a factor of 10 instead of 0.1", 10.0, 4, 10)
    yield case("smoothly, by a millionth each epoch", 0.999999, 1, 15, kind="smooth")
    yield case("up first, then down", 0.5, 4, 16, kind="hump")


def schedule_probe(candidate, case):
    import math

    import numpy as np

    asked = []

    def schedule(epoch):
        asked.append(epoch)
        if case["kind"] == "smooth":
            return case["lr"] * case["factor"] ** epoch
        if case["kind"] == "hump":
            return case["lr"] * (case["factor"] ** abs(epoch - case["every"]))
        return case["lr"] * case["factor"] ** math.floor((epoch + case["offset"]) / case["every"])

    changes, ratio, verdict = candidate(schedule, case["epochs"])
    return {
        "epochs of change": np.array([int(epoch) for epoch in changes], dtype=np.int64),
        "last rate ÷ first": np.array(float(ratio)),
        "verdict": str(verdict),
    }


def inspect_schedule(schedule, epochs):
    """(epochs whose rate differs from the one before, last rate ÷ first, "constant", "falls", "rises" or "both")."""
    rates = [schedule(epoch) for epoch in range(epochs)]
    changes = [epoch for epoch in range(1, epochs) if rates[epoch] != rates[epoch - 1]]
    up = any(rates[epoch] > rates[epoch - 1] for epoch in changes)
    down = any(rates[epoch] < rates[epoch - 1] for epoch in changes)
    verdict = {(False, False): "constant", (False, True): "falls", (True, False): "rises", (True, True): "both"}
    return changes, rates[-1] / rates[0], verdict[up, down]


def ends_compared(schedule, epochs):
    rates = [schedule(epoch) for epoch in range(epochs)]
    changes = [epoch for epoch in range(1, epochs) if rates[epoch] != rates[epoch - 1]]
    verdict = "constant" if rates[-1] == rates[0] else "falls" if rates[-1] < rates[0] else "rises"
    return changes, rates[-1] / rates[0], verdict


def one_epoch_too_many(schedule, epochs):
    rates = [schedule(epoch) for epoch in range(epochs + 1)]
    changes = [epoch for epoch in range(1, epochs + 1) if rates[epoch] != rates[epoch - 1]]
    up = any(rates[epoch] > rates[epoch - 1] for epoch in changes)
    down = any(rates[epoch] < rates[epoch - 1] for epoch in changes)
    verdict = {(False, False): "constant", (False, True): "falls", (True, False): "rises", (True, True): "both"}
    return changes, rates[-1] / rates[0], verdict[up, down]


def counted_from_one(schedule, epochs):
    rates = [schedule(epoch) for epoch in range(1, epochs + 1)]
    changes = [i for i in range(1, epochs) if rates[i] != rates[i - 1]]
    up = any(rates[i] > rates[i - 1] for i in changes)
    down = any(rates[i] < rates[i - 1] for i in changes)
    verdict = {(False, False): "constant", (False, True): "falls", (True, False): "rises", (True, True): "both"}
    return changes, rates[-1] / rates[0], verdict[up, down]


def the_epoch_before(schedule, epochs):
    rates = [schedule(epoch) for epoch in range(epochs)]
    changes = [epoch for epoch in range(epochs - 1) if rates[epoch] != rates[epoch + 1]]
    up = any(rates[i] > rates[i - 1] for i in range(1, epochs))
    down = any(rates[i] < rates[i - 1] for i in range(1, epochs))
    verdict = {(False, False): "constant", (False, True): "falls", (True, False): "rises", (True, True): "both"}
    return changes, rates[-1] / rates[0], verdict[up, down]


def rounded_rates(schedule, epochs):
    rates = [round(schedule(epoch), 4) for epoch in range(epochs)]
    changes = [epoch for epoch in range(1, epochs) if rates[epoch] != rates[epoch - 1]]
    up = any(rates[epoch] > rates[epoch - 1] for epoch in changes)
    down = any(rates[epoch] < rates[epoch - 1] for epoch in changes)
    verdict = {(False, False): "constant", (False, True): "falls", (True, False): "rises", (True, True): "both"}
    return changes, rates[-1] / rates[0], verdict[up, down]


def first_over_last(schedule, epochs):
    rates = [schedule(epoch) for epoch in range(epochs)]
    changes = [epoch for epoch in range(1, epochs) if rates[epoch] != rates[epoch - 1]]
    up = any(rates[epoch] > rates[epoch - 1] for epoch in changes)
    down = any(rates[epoch] < rates[epoch - 1] for epoch in changes)
    verdict = {(False, False): "constant", (False, True): "falls", (True, False): "rises", (True, True): "both"}
    return changes, rates[0] / rates[-1], verdict[up, down]


def compared_with_the_first(schedule, epochs):
    rates = [schedule(epoch) for epoch in range(epochs)]
    changes = [epoch for epoch in range(1, epochs) if rates[epoch] != rates[0]]
    up = any(rates[i] > rates[i - 1] for i in range(1, epochs))
    down = any(rates[i] < rates[i - 1] for i in range(1, epochs))
    verdict = {(False, False): "constant", (False, True): "falls", (True, False): "rises", (True, True): "both"}
    return changes, rates[-1] / rates[0], verdict[up, down]


def schedule_trusted(schedule, epochs):
    rates = [schedule(epoch) for epoch in range(epochs)]
    changes = [epoch for epoch in range(1, epochs) if rates[epoch] != rates[epoch - 1]]
    return changes, rates[-1] / rates[0], "falls"


def inspected_in_numpy(schedule, epochs):
    rates = np.array([schedule(epoch) for epoch in range(epochs)])
    steps = np.diff(rates)
    words = {(0, 0): "constant", (0, 1): "falls", (1, 0): "rises", (1, 1): "both"}
    verdict = words[int((steps > 0).any()), int((steps < 0).any())]
    return np.flatnonzero(steps) + 1, rates[-1] / rates[0], verdict


def inspected_in_one_pass(schedule, epochs):
    first = last = schedule(0)
    changes, signs = [], set()
    for epoch in range(1, epochs):
        now = schedule(epoch)
        if now != last:
            changes.append(epoch)
            signs.add("rises" if now > last else "falls")
        last = now
    return changes, last / first, "both" if len(signs) == 2 else next(iter(signs), "constant")


def inspected_in_torch(schedule, epochs):
    rates = torch.tensor([schedule(epoch) for epoch in range(epochs)], dtype=torch.float64)
    down, up = rates[1:] < rates[:-1], rates[1:] > rates[:-1]
    verdict = "constant"
    if down.any():
        verdict = "falls"
    if up.any():
        verdict = "both" if down.any() else "rises"
    return (torch.nonzero(down | up).flatten() + 1).tolist(), (rates[-1] / rates[0]).item(), verdict


schedule_exercise = Exercise(
    id="optimizers.clinic_schedule",
    lesson="06_optimizers",
    title="Clinic: the step decay that never decays",
    answer="inspect_schedule",
    criteria=(
        Criterion("epochs of change", 1),
        Criterion("last rate ÷ first", 0.5, Close(operations=64)),
        Criterion("verdict", 0.5, requires=("epochs of change",)),
    ),
    cases=schedule_cases,
    probe=schedule_probe,
    reference=inspect_schedule,
    misconceptions=(
        Misconception(
            "ends_compared",
            ends_compared,
            "Your verdict compares only the first and the last rate. In the case “{case}” the rate rises and falls in "
            "between.",
            "Look at each epoch beside the one before.",
        ),
        Misconception(
            "one_epoch_too_many",
            one_epoch_too_many,
            "You ask for one epoch too many. A run of {epochs} epochs has the numbers 0 to {epochs} − 1; what would "
            "happen afterwards never happens.",
            "range(epochs).",
        ),
        Misconception(
            "counted_from_one",
            counted_from_one,
            "You ask the schedule for epoch 1 first. Keras counts them from 0, so every change is seen an epoch early.",
            "schedule(epoch) for epoch in range(epochs).",
        ),
        Misconception(
            "the_epoch_before",
            the_epoch_before,
            "You list the last epoch of each old rate. Asked is the first epoch of each new one.",
            "Add 1, or compare rates[epoch] with rates[epoch - 1].",
        ),
        Misconception(
            "rounded_rates",
            rounded_rates,
            "You round the rates, and small changes vanish. Even a slow decay is one.",
            "Compare the rates as they are.",
        ),
        Misconception(
            "first_over_last",
            first_over_last,
            "The ratio is turned round: asked is the last rate divided by the first, below 1 where the rate falls.",
            "rates[-1] / rates[0].",
        ),
        Misconception(
            "compared_with_the_first",
            compared_with_the_first,
            "You compare each rate with the very first one, so each later epoch counts as a change.",
            "Compare with the epoch before.",
        ),
        Misconception(
            "schedule_trusted",
            schedule_trusted,
            "You call every schedule one that falls. That is what the asker believed, too.",
            "Say what the rates do: “constant”, “falls”, “rises” or “both”.",
        ),
    ),
    variants=(
        Variant("inspected_in_numpy", inspected_in_numpy),
        Variant("inspected_in_one_pass", inspected_in_one_pass),
        Variant("inspected_in_torch", inspected_in_torch),
    ),
    hints=(
        "What is 1 to the power of anything? Plot the rate before you train with it.",
        "Collect the rates of all epochs of the run first; then compare neighbours.",
        "changes = [e for e in range(1, epochs) if rates[e] != rates[e - 1]]; the verdict asks whether any of them "
        "goes up, and any down.",
    ),
    minutes=7,
)

# ---------------------------------------------------------------- clinic: gradients never zeroed


def training_cases(seed):
    """Plain descent and momentum, one batch and many, a frozen layer, gradients left over from before."""
    rng = np.random.default_rng(seed)

    def case(name, batches=4, momentum=0.0, stale=0.0, frozen=False, lr=0.1, n=6, dtype=np.float32):
        return Case(
            name,
            {
                "x": rng.normal(size=(batches, n, 4)).astype(dtype),
                "y": rng.integers(0, 3, (batches, n)),
                "first": (rng.normal(size=(5, 4)) * 0.6).astype(dtype),
                "second": (rng.normal(size=(3, 5)) * 0.6).astype(dtype),
                "lr": lr,
                "momentum": momentum,
                "stale": stale,
                "frozen": frozen,
            },
        )

    yield case("four batches")
    yield case("one batch", batches=1)
    yield case("with momentum", momentum=0.9, batches=5)
    yield case("gradients of an evaluation are still there", stale=2.0, batches=2)
    yield case("the first layer is frozen", frozen=True, batches=3)
    yield case("ten batches, float64", batches=10, lr=0.3, dtype=np.float64)


def training_probe(candidate, case):
    import torch
    from torch import nn

    x, y = torch.tensor(case["x"]), torch.tensor(case["y"])
    model = nn.Sequential(nn.Linear(4, 5, bias=False), nn.Tanh(), nn.Linear(5, 3, bias=False)).to(x.dtype)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor(case["first"]))
        model[2].weight.copy_(torch.tensor(case["second"]))
    model[0].weight.requires_grad_(not case["frozen"])
    for parameter in model.parameters():
        if case["stale"]:
            parameter.grad = torch.full_like(parameter, case["stale"])
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=case["lr"], momentum=case["momentum"])
    losses = list(candidate(model, optimizer, list(zip(x, y, strict=True))))
    bare = [loss.detach() if hasattr(loss, "detach") else loss for loss in losses]
    return {
        "losses": torch.tensor([float(loss) for loss in bare], dtype=x.dtype),
        "weights": torch.cat([parameter.detach().flatten() for parameter in model.parameters()]),
        "losses carry no graph": not any(getattr(loss, "requires_grad", False) for loss in losses),
    }


def train_epoch(model, optimizer, batches):
    """The loss of each batch before the step on it, as floats; one step a batch, each from that batch alone."""
    losses = []
    for x, y in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def never_zeroed(model, optimizer, batches):
    losses = []
    for x, y in batches:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def zeroed_once(model, optimizer, batches):
    losses = []
    optimizer.zero_grad()
    for x, y in batches:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def zeroed_before_the_step(model, optimizer, batches):
    losses = []
    for x, y in batches:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.zero_grad()
        optimizer.step()
        losses.append(loss.item())
    return losses


def zeroed_after_the_step(model, optimizer, batches):
    losses = []
    for x, y in batches:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def step_before_backward(model, optimizer, batches):
    losses = []
    for x, y in batches:
        loss = F.cross_entropy(model(x), y)
        optimizer.step()
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
    return losses


def one_step_at_the_end(model, optimizer, batches):
    losses = []
    optimizer.zero_grad()
    for x, y in batches:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        losses.append(loss.item())
    optimizer.step()
    return losses


def measured_after_the_step(model, optimizer, batches):
    losses = []
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        with torch.no_grad():
            losses.append(F.cross_entropy(model(x), y).item())
    return losses


def graphs_kept(model, optimizer, batches):
    losses = []
    for x, y in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss)
    return losses


def loss_piled_up(model, optimizer, batches):
    losses, total = [], 0.0
    for x, y in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
        losses.append(total)
    return losses


def trained_by_assigned_gradients(model, optimizer, batches):
    losses = []
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for x, y in batches:
        loss = F.cross_entropy(model(x), y)
        for parameter, grad in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = grad
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def trained_with_model_zero_grad(model, optimizer, batches):
    losses = []
    for x, y in batches:
        loss = F.nll_loss(F.log_softmax(model(x), dim=1), y)
        model.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses += [loss.item()]
    return losses


def trained_by_closure(model, optimizer, batches):
    def loss_with_gradient(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    return [optimizer.step(lambda batch=batch: loss_with_gradient(*batch)).item() for batch in batches]


training_exercise = Exercise(
    id="optimizers.clinic_zero_grad",
    lesson="06_optimizers",
    title="Clinic: the loss that goes down, and then up and up",
    answer="train_epoch",
    criteria=(
        Criterion("weights", 1, Close(operations=1024)),
        Criterion("losses", 1, Close(operations=1024), requires=("weights",)),
        Criterion("losses carry no graph", 0),
    ),
    cases=training_cases,
    probe=training_probe,
    reference=train_epoch,
    misconceptions=(
        Misconception(
            "never_zeroed",
            never_zeroed,
            "Nothing clears the gradients: backward() adds to .grad, so each step follows the sum of all gradients so "
            "far, like momentum that never forgets.",
            "optimizer.zero_grad() for each batch, before backward().",
        ),
        Misconception(
            "zeroed_once",
            zeroed_once,
            "You clear the gradients once, before the loop; from the second batch on they pile up.",
            "Move zero_grad() into the loop.",
        ),
        Misconception(
            "zeroed_before_the_step",
            zeroed_before_the_step,
            "You clear the gradients between backward() and step(): nothing is left to step with, and the weights stay "
            "where they are.",
            "zero_grad() before backward(), step() right after it.",
        ),
        Misconception(
            "zeroed_after_the_step",
            zeroed_after_the_step,
            "You clear the gradients after each step, so the first step still uses what was there before: in the case "
            "“{case}” that is not nothing.",
            "Clear them before backward().",
        ),
        Misconception(
            "step_before_backward",
            step_before_backward,
            "You step before the batch's gradients are computed: each step follows the gradient of the batch before.",
            "loss.backward(), then optimizer.step().",
        ),
        Misconception(
            "one_step_at_the_end",
            one_step_at_the_end,
            "There is a single step at the end of all batches, on the sum of their gradients.",
            "Call step() inside the loop.",
        ),
        Misconception(
            "measured_after_the_step",
            measured_after_the_step,
            "The weights are right, but the losses are measured after the step on the very batch: that flatters them.",
            "Note the loss that backward() was called on.",
        ),
        Misconception(
            "graphs_kept",
            graphs_kept,
            "The numbers are right, but you keep the losses as tensors, and with each of them its graph.",
            "Append loss.item().",
        ),
        Misconception(
            "loss_piled_up",
            loss_piled_up,
            "You return running sums of the loss. Asked is the loss of each batch.",
            "Append loss.item() itself.",
        ),
    ),
    variants=(
        Variant("trained_by_assigned_gradients", trained_by_assigned_gradients),
        Variant("trained_with_model_zero_grad", trained_with_model_zero_grad),
        Variant("trained_by_closure", trained_by_closure),
    ),
    forbidden=("course_lib.training.train",),
    hints=(
        "What does backward() do to a .grad that is not empty?",
        "The order is: clear, compute the loss, backward, step.",
        "optimizer.zero_grad(); loss = F.cross_entropy(model(x), y); loss.backward(); optimizer.step(); "
        "losses.append(loss.item()).",
    ),
    minutes=7,
)

# ---------------------------------------------------------------- clinic: how far a step goes


def ratio_cases(seed):
    """SGD, momentum and Adam, rates 100 times too high, right and too low, a stale gradient, a frozen layer."""
    rng = np.random.default_rng(seed)

    def case(name, rule, lr, stale=0.0, frozen=False, dtype=np.float64):
        return Case(
            name,
            {
                "x": rng.normal(size=(20, 6)).astype(dtype),
                "y": rng.integers(0, 3, 20),
                "first": (rng.normal(size=(8, 6)) * 0.5).astype(dtype),
                "second": (rng.normal(size=(3, 8)) * 0.5).astype(dtype),
                "bias": rng.normal(size=8).astype(dtype),
                "rule": rule,
                "lr": lr,
                "stale": stale,
                "frozen": frozen,
            },
        )

    yield case("SGD, a fair rate", "sgd", 0.01)
    yield case("SGD, 100 times that", "sgd", 1.0)
    yield case("Adam, 100 times too high", "adam", 0.1)
    yield case("Adam, far too low", "adam", 1e-6)
    yield case("momentum in full swing", "momentum", 0.01)
    yield case("gradients of the step before are still there", "sgd", 0.02, stale=0.5)
    yield case("the first layer is frozen", "adam", 5e-4, frozen=True)


def ratio_probe(candidate, case):
    import torch
    from torch import nn
    from torch.nn import functional as F

    x, y = torch.tensor(case["x"]), torch.tensor(case["y"])
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to(x.dtype)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor(case["first"]))
        model[0].bias.copy_(torch.tensor(case["bias"]))
        model[2].weight.copy_(torch.tensor(case["second"]))
        model[2].bias.zero_()
    model[0].weight.requires_grad_(not case["frozen"])
    if case["rule"] == "adam":
        optimizer = torch.optim.Adam(model.parameters(), lr=case["lr"])
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=case["lr"], momentum=0.9 * (case["rule"] == "momentum"))
    for _ in range(6 if case["rule"] == "momentum" else 0):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    for parameter in model.parameters():
        parameter.grad = None
        if case["stale"] and parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, case["stale"])
    ratios, verdict = candidate(model, optimizer, x, y)
    weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    return {
        "ratios": torch.tensor([float(ratio) for ratio in ratios], dtype=x.dtype),
        "verdict": str(verdict),
        "weights after the step": weights,
    }


def update_ratios(model, optimizer, x, y):
    """One step; returns (‖Δw‖ / ‖w‖ of each matrix that was trained, "too high", "fair" or "too low")."""
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.dim() > 1]
    before = [weight.detach().clone() for weight in weights]
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    ratios = [((w.detach() - b).norm() / b.norm()).item() for w, b in zip(weights, before, strict=True)]
    middle = float(np.median(ratios))
    return ratios, "too high" if middle > 1e-2 else "too low" if middle < 1e-4 else "fair"


def gradient_for_update(model, optimizer, x, y):
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.dim() > 1]
    before = [weight.detach().clone() for weight in weights]
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    ratios = [(w.grad.norm() / b.norm()).item() for w, b in zip(weights, before, strict=True)]
    middle = float(np.median(ratios))
    return ratios, "too high" if middle > 1e-2 else "too low" if middle < 1e-4 else "fair"


def rate_times_gradient(model, optimizer, x, y):
    lr = optimizer.param_groups[0]["lr"]
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.dim() > 1]
    before = [weight.detach().clone() for weight in weights]
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    ratios = [(lr * w.grad.norm() / b.norm()).item() for w, b in zip(weights, before, strict=True)]
    middle = float(np.median(ratios))
    return ratios, "too high" if middle > 1e-2 else "too low" if middle < 1e-4 else "fair"


def before_is_after(model, optimizer, x, y):
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.dim() > 1]
    before = [weight.detach() for weight in weights]
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    ratios = [((w.detach() - b).norm() / b.norm()).item() for w, b in zip(weights, before, strict=True)]
    middle = float(np.median(ratios))
    return ratios, "too high" if middle > 1e-2 else "too low" if middle < 1e-4 else "fair"


def ratio_by_the_new_weights(model, optimizer, x, y):
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.dim() > 1]
    before = [weight.detach().clone() for weight in weights]
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    ratios = [((w.detach() - b).norm() / w.detach().norm()).item() for w, b in zip(weights, before, strict=True)]
    middle = float(np.median(ratios))
    return ratios, "too high" if middle > 1e-2 else "too low" if middle < 1e-4 else "fair"


def biases_counted(model, optimizer, x, y):
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    before = [weight.detach().clone() for weight in weights]
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    ratios = [((w.detach() - b).norm() / (b.norm() + 1e-12)).item() for w, b in zip(weights, before, strict=True)]
    middle = float(np.median(ratios))
    return ratios, "too high" if middle > 1e-2 else "too low" if middle < 1e-4 else "fair"


def ratio_upside_down(model, optimizer, x, y):
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.dim() > 1]
    before = [weight.detach().clone() for weight in weights]
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    ratios = [(b.norm() / (w.detach() - b).norm()).item() for w, b in zip(weights, before, strict=True)]
    middle = float(np.median(ratios))
    return ratios, "too high" if middle > 1e-2 else "too low" if middle < 1e-4 else "fair"


def growth_of_the_norm(model, optimizer, x, y):
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.dim() > 1]
    before = [weight.detach().clone() for weight in weights]
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    ratios = [(abs(w.detach().norm() - b.norm()) / b.norm()).item() for w, b in zip(weights, before, strict=True)]
    middle = float(np.median(ratios))
    return ratios, "too high" if middle > 1e-2 else "too low" if middle < 1e-4 else "fair"


def stale_gradient_in_it(model, optimizer, x, y):
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.dim() > 1]
    before = [weight.detach().clone() for weight in weights]
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    ratios = [((w.detach() - b).norm() / b.norm()).item() for w, b in zip(weights, before, strict=True)]
    middle = float(np.median(ratios))
    return ratios, "too high" if middle > 1e-2 else "too low" if middle < 1e-4 else "fair"


def judged_by_the_rate(model, optimizer, x, y):
    lr = optimizer.param_groups[0]["lr"]
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.dim() > 1]
    before = [weight.detach().clone() for weight in weights]
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    ratios = [((w.detach() - b).norm() / b.norm()).item() for w, b in zip(weights, before, strict=True)]
    return ratios, "too high" if lr > 1e-2 else "too low" if lr < 1e-4 else "fair"


def ratios_by_state_dict(model, optimizer, x, y):
    import copy

    old = copy.deepcopy(model.state_dict())
    optimizer.zero_grad(set_to_none=True)
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    ratios = []
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2 and parameter.requires_grad:
            ratios.append(float(torch.linalg.norm(parameter.detach() - old[name]) / torch.linalg.norm(old[name])))
    middle = torch.tensor(ratios, dtype=torch.float64).quantile(0.5).item()
    if middle > 0.01:
        return ratios, "too high"
    return ratios, "fair" if middle >= 0.0001 else "too low"


def ratios_by_squares(model, optimizer, x, y):
    named = {id(p): p.detach().numpy().copy() for p in model.parameters() if p.dim() > 1 and p.requires_grad}
    model.zero_grad()
    F.nll_loss(model(x).log_softmax(1), y).backward()
    optimizer.step()
    ratios = []
    for p in model.parameters():
        if id(p) in named:
            old = named[id(p)]
            ratios.append(np.sqrt(np.square(p.detach().numpy() - old).sum() / np.square(old).sum()))
    middle = np.median(ratios)
    return ratios, ("too low", "fair", "too high")[int(middle >= 1e-4) + int(middle > 1e-2)]


def ratios_on_matrices_of_layers(model, optimizer, x, y):
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m.weight.requires_grad]
    before = [layer.weight.data.clone() for layer in layers]
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    ratios = [
        torch.dist(layer.weight.data, old).item() / old.norm().item() for layer, old in zip(layers, before, strict=True)
    ]
    middle = sorted(ratios)[len(ratios) // 2] if len(ratios) % 2 else sum(sorted(ratios)[:2]) / 2
    return ratios, "too high" if middle > 1e-2 else "fair" if middle > 1e-4 else "too low"


ratio_exercise = Exercise(
    id="optimizers.clinic_ratio",
    lesson="06_optimizers",
    title="Clinic: a rate 100 times too high, seen in one step",
    answer="update_ratios",
    criteria=(
        Criterion("ratios", 1, Close(operations=4096)),
        Criterion("verdict", 1, requires=("ratios",)),
        Criterion("weights after the step", 0, Close(operations=4096)),
    ),
    cases=ratio_cases,
    probe=ratio_probe,
    reference=update_ratios,
    misconceptions=(
        Misconception(
            "gradient_for_update",
            gradient_for_update,
            "You divide the gradient by the weights. The gradient is not the step: it knows nothing of the rate, nor "
            "of what the optimizer makes of it.",
            "Keep a copy of the weights, make the step, and measure how far they went.",
        ),
        Misconception(
            "rate_times_gradient",
            rate_times_gradient,
            "Rate × gradient is the step of plain gradient descent only. In the case “{case}” the optimizer does more.",
            "Measure the step itself: the weights after it minus a copy from before.",
        ),
        Misconception(
            "before_is_after",
            before_is_after,
            "Your ratios are all 0: weight.detach() shares its memory with the weight, so your “before” moved along.",
            "weight.detach().clone().",
        ),
        Misconception(
            "ratio_by_the_new_weights",
            ratio_by_the_new_weights,
            "You divide by the weights after the step. A step that is far too long has made them large by then, and "
            "hides itself.",
            "Divide by the norm from before.",
        ),
        Misconception(
            "biases_counted",
            biases_counted,
            "You count the biases too. A bias of 0 makes the ratio of any step infinite.",
            "Keep to parameters with at least two axes: parameter.dim() > 1.",
        ),
        Misconception(
            "ratio_upside_down",
            ratio_upside_down,
            "The ratio is upside down: asked is the step divided by the weights.",
            "(after - before).norm() / before.norm().",
        ),
        Misconception(
            "growth_of_the_norm",
            growth_of_the_norm,
            "You compare norms. Weights can move far while their norm stays the same.",
            "Take the norm of the difference, not the difference of the norms.",
        ),
        Misconception(
            "stale_gradient_in_it",
            stale_gradient_in_it,
            "In the case “{case}” your step contains the gradient of an earlier one: it was not cleared.",
            "optimizer.zero_grad() before backward().",
        ),
        Misconception(
            "judged_by_the_rate",
            judged_by_the_rate,
            "Your verdict looks at the rate. What is high for Adam may be low for SGD: judge by the ratios.",
            "Take the median of the ratios, and compare it with 1e-2 and 1e-4.",
        ),
    ),
    variants=(
        Variant("ratios_by_state_dict", ratios_by_state_dict),
        Variant("ratios_by_squares", ratios_by_squares),
        Variant("ratios_on_matrices_of_layers", ratios_on_matrices_of_layers),
    ),
    forbidden=("course_lib.diagnostics.update_ratios",),
    hints=(
        "How far did each matrix go in one step, compared with its own size?",
        "Clone the weights, make a whole step (clear, backward, step), then (after - before).norm() / before.norm().",
        "Only parameters with requires_grad and dim() > 1. The median above 1e-2 is too high, below 1e-4 too low.",
    ),
    minutes=12,
)

# ---------------------------------------------------------------- in your own words

explain = Explanation(
    id="optimizers.explain",
    lesson="06_optimizers",
    title="Explain it to a colleague",
    rubric={
        "The comparison is unfair: the rate was tuned for one optimizer only; each needs its own grid, with the same "
        "number of trials": 1,
        "One seed proves nothing: several, paired, with an interval": 1,
        "Training loss and test accuracy are two questions, and so are steps and seconds": 1,
        "What is optimized is the loss; the accuracy in the metrics changes nothing, unless a callback acts on it": 1,
    },
    minutes=10,
)
