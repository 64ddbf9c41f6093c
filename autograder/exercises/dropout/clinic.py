"""The clinic: an evaluation with dropout left on, and a training loss above the validation loss."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ...exercise import Case, Close, Criterion, Exercise, Explanation, Misconception, Variant

# ---------------------------------------------------------------- evaluate


def evaluate_cases(seed):
    """Batches that divide the examples and that don't, a last batch of one, one large batch, each mode, ±1e3."""
    rng = np.random.default_rng(seed)

    def case(name, mode, n, batch_size, scale=1.0, p=0.5):
        images = rng.normal(1.0, 1.0, (n, 1, 4, 4)).astype(np.float32)
        return Case(
            name,
            {
                "images": images,
                "labels": rng.integers(0, 5, n),
                "batch_size": batch_size,
                "weight": (rng.normal(size=(5, 16)) * scale).astype(np.float32),
                "mean": rng.normal(1.0, 0.5, 16).astype(np.float32),
                "variance": rng.uniform(0.5, 3.0, 16).astype(np.float32),
                "p": p,
                "mode": mode,
            },
        )

    yield case("a model in training, 50 images in batches of 16", "train", 50, 16)
    yield case("a model in evaluation, 40 images in batches of 12", "eval", 40, 12, p=0.3)
    yield case("48 images in batches of 16", "train", 48, 16)
    yield case("in training, its batch norm frozen in evaluation", "frozen", 45, 20)
    yield case("33 images in batches of 32", "train", 33, 32)
    yield case("20 images, a batch size of 100", "eval", 20, 100)
    yield case("logits in the thousands", "train", 30, 8, scale=1e3)


def evaluate_probe(candidate, case):
    """The generator is seeded, so an answer with dropout on is random over two calls, yet the same in every check."""
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(16)
            self.body = nn.Sequential(nn.Flatten(), self.norm, nn.Dropout(case["p"]), nn.Linear(16, 5, bias=False))
            self.sizes, self.graph = [], False

        def forward(self, images):
            self.sizes.append(len(images))
            self.graph = self.graph or torch.is_grad_enabled()
            return self.body(images)

    model = Model()
    with torch.no_grad():
        model.body[3].weight.copy_(torch.tensor(case["weight"]))
        model.norm.running_mean.copy_(torch.tensor(case["mean"]))
        model.norm.running_var.copy_(torch.tensor(case["variance"]))
    model.train(case["mode"] != "eval")
    if case["mode"] == "frozen":
        model.norm.eval()
    modes = [module.training for module in model.modules()]
    images, labels = torch.tensor(case["images"]), torch.tensor(case["labels"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        loss, accuracy = candidate(model, images, labels, case["batch_size"])
        after = [module.training for module in model.modules()]
        largest = max(model.sizes, default=0)
        loss_again, _ = candidate(model, images, labels, case["batch_size"])
    loss, accuracy, loss_again = (
        torch.as_tensor(value, dtype=torch.float32).detach() for value in (loss, accuracy, loss_again)
    )
    return {
        "loss": loss,
        "accuracy": accuracy,
        "the same result twice": torch.equal(loss, loss_again),
        "every module's mode as before": after == modes,
        "no graph is built": not model.graph,
        "largest batch": largest,
    }


def evaluate(model, images, labels, batch_size):
    """Mean cross-entropy and share right over all examples, in evaluation, without a graph; modes as before."""
    modes = [(module, module.training) for module in model.modules()]
    loss = right = 0.0
    try:
        model.eval()
        with torch.no_grad():
            for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
                logits = model(x)
                loss += F.cross_entropy(logits, y, reduction="sum").item()
                right += (logits.argmax(1) == y).sum().item()
    finally:
        for module, training in modes:
            module.training = training
    return loss / len(labels), right / len(labels)


def left_in_training(model, images, labels, batch_size):
    loss = right = 0.0
    for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        logits = model(x)
        loss += F.cross_entropy(logits, y, reduction="sum").item()
        right += (logits.argmax(1) == y).sum().item()
    return loss / len(labels), right / len(labels)


def only_no_grad(model, images, labels, batch_size):
    loss = right = 0.0
    with torch.no_grad():
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            logits = model(x)
            loss += F.cross_entropy(logits, y, reduction="sum").item()
            right += (logits.argmax(1) == y).sum().item()
    return loss / len(labels), right / len(labels)


def eval_never_undone(model, images, labels, batch_size):
    model.eval()
    loss = right = 0.0
    with torch.no_grad():
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            logits = model(x)
            loss += F.cross_entropy(logits, y, reduction="sum").item()
            right += (logits.argmax(1) == y).sum().item()
    return loss / len(labels), right / len(labels)


def always_back_to_training(model, images, labels, batch_size):
    model.eval()
    loss = right = 0.0
    with torch.no_grad():
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            logits = model(x)
            loss += F.cross_entropy(logits, y, reduction="sum").item()
            right += (logits.argmax(1) == y).sum().item()
    model.train()
    return loss / len(labels), right / len(labels)


def restored_wholesale(model, images, labels, batch_size):
    before = model.training
    model.eval()
    loss = right = 0.0
    with torch.no_grad():
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            logits = model(x)
            loss += F.cross_entropy(logits, y, reduction="sum").item()
            right += (logits.argmax(1) == y).sum().item()
    model.train(before)
    return loss / len(labels), right / len(labels)


def mean_of_batch_means(model, images, labels, batch_size):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    losses, rights = [], []
    with torch.no_grad():
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            logits = model(x)
            losses.append(F.cross_entropy(logits, y).item())
            rights.append((logits.argmax(1) == y).float().mean().item())
    for module, training in modes:
        module.training = training
    return sum(losses) / len(losses), sum(rights) / len(rights)


def batch_means_over_examples(model, images, labels, batch_size):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    loss = right = 0.0
    with torch.no_grad():
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            logits = model(x)
            loss += F.cross_entropy(logits, y).item()
            right += (logits.argmax(1) == y).sum().item()
    for module, training in modes:
        module.training = training
    return loss / len(labels), right / len(labels)


def in_percent(model, images, labels, batch_size):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    loss = right = 0.0
    with torch.no_grad():
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            logits = model(x)
            loss += F.cross_entropy(logits, y, reduction="sum").item()
            right += (logits.argmax(1) == y).sum().item()
    for module, training in modes:
        module.training = training
    return loss / len(labels), 100 * right / len(labels)


def last_batch_dropped(model, images, labels, batch_size):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    loss, right, seen = 0.0, 0.0, 0
    with torch.no_grad():
        for k in range(len(labels) // batch_size):
            x, y = (data[k * batch_size : (k + 1) * batch_size] for data in (images, labels))
            logits = model(x)
            loss += F.cross_entropy(logits, y, reduction="sum").item()
            right += (logits.argmax(1) == y).sum().item()
            seen += len(y)
    for module, training in modes:
        module.training = training
    return loss / max(seen, 1), right / max(seen, 1)


def softmax_applied_twice(model, images, labels, batch_size):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    loss = right = 0.0
    with torch.no_grad():
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            probability = model(x).softmax(1)
            loss += F.cross_entropy(probability, y, reduction="sum").item()
            right += (probability.argmax(1) == y).sum().item()
    for module, training in modes:
        module.training = training
    return loss / len(labels), right / len(labels)


def graph_built(model, images, labels, batch_size):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    loss = right = 0.0
    for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        logits = model(x)
        loss += F.cross_entropy(logits, y, reduction="sum").item()
        right += (logits.argmax(1) == y).sum().item()
    for module, training in modes:
        module.training = training
    return loss / len(labels), right / len(labels)


def evaluate_by_loader(model, images, labels, batch_size):
    from torch.utils.data import DataLoader, TensorDataset

    modes = {module: module.training for module in model.modules()}
    model.eval()
    loss, right = torch.zeros(()), torch.zeros(())
    with torch.inference_mode():
        for x, y in DataLoader(TensorDataset(images, labels), batch_size=batch_size):
            logits = model(x)
            loss = loss + len(y) * F.cross_entropy(logits, y)
            right = right + (logits.argmax(dim=1) == y).sum()
    for module, training in modes.items():
        module.train(training) if not list(module.children()) else setattr(module, "training", training)
    return loss / len(images), right / len(images)


def evaluate_by_logits(model, images, labels, batch_size):
    modes = [module.training for module in model.modules()]
    model.train(False)
    with torch.no_grad():
        logits = torch.cat([model(images[i : i + batch_size]) for i in range(0, len(images), batch_size)])
    for module, training in zip(model.modules(), modes, strict=True):
        module.training = training
    return nn.CrossEntropyLoss()(logits, labels), torch.mean((logits.max(1).indices == labels).double())


@torch.no_grad()
def evaluate_on_a_copy(model, images, labels, batch_size):
    import copy

    twin = copy.deepcopy(model).eval()
    model.sizes = twin.sizes = []
    losses, hits = [], []
    for start in range(0, len(labels), batch_size):
        y = labels[start : start + batch_size]
        log_probability = twin(images[start : start + batch_size]).log_softmax(-1)
        losses += (-log_probability[torch.arange(len(y)), y]).tolist()
        hits += (log_probability.argmax(-1) == y).tolist()
    return float(np.mean(losses)), float(np.mean(hits))


clinic_evaluate = Exercise(
    id="dropout.clinic_evaluate",
    lesson="08_dropout",
    title="Clinic: an evaluation that gives another answer each time",
    answer="evaluate",
    criteria=(
        Criterion("loss", 1, Close(operations=64), requires=("the same result twice",)),
        Criterion("accuracy", 1, Close(operations=16), requires=("the same result twice",)),
        Criterion("the same result twice", 0),
        Criterion("every module's mode as before", 1, requires=("loss",)),
        Criterion("no graph is built", 0),
        Criterion("largest batch", 0),
    ),
    cases=evaluate_cases,
    probe=evaluate_probe,
    reference=evaluate,
    misconceptions=(
        Misconception(
            "left_in_training",
            left_in_training,
            "Dropout is on while you evaluate: two calls give two results, and batch norm's running statistics move "
            "with each.",
            "Call model.eval() before the loop, and put the modes back after it.",
        ),
        Misconception(
            "only_no_grad",
            only_no_grad,
            "torch.no_grad() only stops the graph. Dropout does not ask it: a model that comes in training mode stays "
            "there, and two calls give two results.",
            "Call model.eval() as well.",
        ),
        Misconception(
            "eval_never_undone",
            eval_never_undone,
            "The figures are right, but the model stays in evaluation: from the second epoch on it trains without "
            "dropout, and nobody is told.",
            "Note each module's .training before model.eval(), and put it back at the end.",
        ),
        Misconception(
            "always_back_to_training",
            always_back_to_training,
            "Afterwards you set the model to training, however it came. In the case “{case}” that is not how it came.",
            "Note each module's .training before model.eval(), and put back just that.",
        ),
        Misconception(
            "restored_wholesale",
            restored_wholesale,
            "You restore the whole model with one call. In the case “{case}” one layer had been frozen in evaluation; "
            "now it trains.",
            "Note and restore .training of every module in model.modules().",
        ),
        Misconception(
            "mean_of_batch_means",
            mean_of_batch_means,
            "You average the batches' means. In the case “{case}” the last batch is smaller, so its examples count "
            "more than the others.",
            "Add up sums over examples, and divide by the number of examples at the end.",
        ),
        Misconception(
            "batch_means_over_examples",
            batch_means_over_examples,
            "Your loss is {ratio:.3f} × the right one: F.cross_entropy already gives the mean of a batch, and you "
            "divide the sum of these means by the number of examples.",
            'Use reduction="sum", or multiply each batch\'s mean by its size.',
        ),
        Misconception(
            "in_percent",
            in_percent,
            "Your accuracy is in percent. Asked is the share, between 0 and 1.",
            "Leave the factor 100 out.",
        ),
        Misconception(
            "last_batch_dropped",
            last_batch_dropped,
            "The examples after the last full batch are left out.",
            "Let the last batch be smaller: images.split(batch_size) does that.",
        ),
        Misconception(
            "softmax_applied_twice",
            softmax_applied_twice,
            "You apply softmax before F.cross_entropy, which applies it again: the loss can then never come near 0.",
            "Give F.cross_entropy the logits.",
        ),
        Misconception(
            "graph_built",
            graph_built,
            "The figures are right, but each batch builds a graph that nobody uses: it costs memory and time.",
            "Wrap the loop in torch.no_grad().",
        ),
    ),
    variants=(
        Variant("evaluate_by_loader", evaluate_by_loader),
        Variant("evaluate_by_logits", evaluate_by_logits),
        Variant("evaluate_on_a_copy", evaluate_on_a_copy),
    ),
    forbidden=("course_lib.training.evaluate",),
    hints=(
        "Call your function twice on the same data. Which line should make the two results equal?",
        "model.eval() switches dropout off and batch norm to its running statistics; torch.no_grad() does neither.",
        'Sum F.cross_entropy(logits, y, reduction="sum") and the hits over the batches, divide by len(labels), and '
        "put every module's .training back.",
    ),
    minutes=10,
)

# ---------------------------------------------------------------- training loss above validation loss


def gap_cases(seed):
    """Each cause, with and without batch norm, from each mode. The labels are set so that the losses fall as named."""
    rng = np.random.default_rng(seed)

    def losses(z):  # of each class, example by example
        top = z.max(1, keepdims=True)
        return np.log(np.exp(z - top).sum(1, keepdims=True)) + top - z

    def labelled(each, share):  # the likeliest class, but the unlikeliest for the first `share` of the examples
        return np.where(np.arange(len(each)) < share * len(each), each.argmax(1), each.argmin(1))

    def mean_loss(each, labels):
        return each[np.arange(len(labels)), labels].mean()

    def drawn(cause, norm, p, n, other, hidden=24):
        """A net and two sets whose losses fall as the cause wants it, by at least 2%; None where chance forbids it."""
        first, weight = rng.normal(size=(hidden, 8)), rng.normal(size=(4, hidden)) / 2
        mask = rng.random((n, hidden)) >= p
        mean, variance = rng.normal(0, 1, hidden), rng.uniform(4.0, 12.0, hidden)
        train, valid = rng.normal(0.5, 1.0, (n, 8)), rng.normal(0.5, 1.0, (other, 8))

        def logits(x, dropout):
            h = x @ first.T
            h = np.maximum((h - mean) / np.sqrt(variance + 1e-5) if norm else h, 0)
            return (h * mask / (1 - p) if dropout else h) @ weight.T

        on, off, held_out = losses(logits(train, True)), losses(logits(train, False)), losses(logits(valid, False))
        y = labelled(off, 0.25 if cause == "data" else 0.0)
        logged, clean = mean_loss(on, y), mean_loss(off, y)
        low, high = {
            "dropout": (clean * 1.02, logged / 1.02),
            "data": (0.0, min(logged, clean) / 1.1),
            "none": (max(logged, clean) * 1.02, np.inf),
        }[cause]
        options = [labelled(held_out, share) for share in np.arange(other + 1) / other]
        options = [labels for labels in options if low < mean_loss(held_out, labels) < high]
        if not options:
            return None
        order = rng.permutation(other)
        return {
            "train images": train.astype(np.float32),
            "train labels": y.astype(np.int64),
            "valid images": valid[order].astype(np.float32),
            "valid labels": options[len(options) // 2][order].astype(np.int64),
            "first": first.astype(np.float32),
            "weight": weight.astype(np.float32),
            "mask": mask.astype(np.float32),
            "mean": mean.astype(np.float32),
            "variance": variance.astype(np.float32),
        }

    def case(name, cause, mode, norm, p=0.5, n=60, other=45):
        inputs = None
        while inputs is None:
            inputs = drawn(cause, norm, p, n, other)
        return Case(name, inputs | {"p": p, "norm": norm, "mode": mode})

    yield case("dropout makes the gap", "dropout", "train", False)
    yield case("an easier validation set", "data", "train", False, p=0.4)
    yield case("no gap", "none", "eval", False, p=0.3)
    yield case("dropout makes the gap, with batch norm", "dropout", "train", True)
    yield case("an easier validation set, with batch norm", "data", "eval", True, p=0.25)
    yield case("no gap, batch norm frozen in evaluation", "none", "frozen", True)


def gap_probe(candidate, case):
    """The dropout layer of this model has one fixed mask, so that even the loss with dropout on is one number."""
    import torch
    from torch import nn

    class Dropout(nn.Dropout):
        def __init__(self, p, mask):
            super().__init__(p)
            self.register_buffer("mask", mask)

        def forward(self, x):
            rows = torch.arange(len(x)) % len(self.mask)
            return x * self.mask[rows] / (1 - self.p) if self.training else x

    def linear(weight):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(weight))
        return layer

    norm = nn.BatchNorm1d(len(case["mean"])) if case["norm"] else nn.Identity()
    if case["norm"]:
        norm.running_mean.copy_(torch.tensor(case["mean"]))
        norm.running_var.copy_(torch.tensor(case["variance"]))
    dropout = Dropout(case["p"], torch.tensor(case["mask"]))
    model = nn.Sequential(linear(case["first"]), norm, nn.ReLU(), dropout, linear(case["weight"]))
    model.train(case["mode"] != "eval")
    if case["mode"] == "frozen":
        norm.eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    train, valid = (
        tuple(torch.tensor(case[f"{which} {what}"]) for what in ("images", "labels")) for which in ("train", "valid")
    )
    logged, clean, valid_loss, cause = candidate(model, train, valid)
    logged, clean, valid_loss = (
        torch.as_tensor(loss, dtype=torch.float32).detach() for loss in (logged, clean, valid_loss)
    )
    return {
        "training loss as logged": logged,
        "training loss, validation loss": torch.stack([clean, valid_loss]),
        "cause": str(cause),
        "every module's mode as before": [module.training for module in model.modules()] == modes,
        "running statistics as before": all(torch.equal(model.state_dict()[name], state[name]) for name in state),
    }


def explain_gap(model, train, valid):
    """(training loss with dropout on, the same with it off, validation loss with it off, the cause of their gap)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.no_grad():
        clean = F.cross_entropy(model(train[0]), train[1]).item()
        valid_loss = F.cross_entropy(model(valid[0]), valid[1]).item()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.train()
        logged = F.cross_entropy(model(train[0]), train[1]).item()
    for module, training in modes:
        module.training = training
    cause = "none" if logged <= valid_loss else "data" if clean > valid_loss else "dropout"
    return logged, clean, valid_loss, cause


def always_dropout(model, train, valid):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.no_grad():
        clean = F.cross_entropy(model(train[0]), train[1]).item()
        valid_loss = F.cross_entropy(model(valid[0]), valid[1]).item()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.train()
        logged = F.cross_entropy(model(train[0]), train[1]).item()
    for module, training in modes:
        module.training = training
    return logged, clean, valid_loss, "dropout" if logged > valid_loss else "none"


def always_data(model, train, valid):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.no_grad():
        clean = F.cross_entropy(model(train[0]), train[1]).item()
        valid_loss = F.cross_entropy(model(valid[0]), valid[1]).item()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.train()
        logged = F.cross_entropy(model(train[0]), train[1]).item()
    for module, training in modes:
        module.training = training
    return logged, clean, valid_loss, "data" if logged > valid_loss else "none"


def dropout_effect_for_cause(model, train, valid):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.no_grad():
        clean = F.cross_entropy(model(train[0]), train[1]).item()
        valid_loss = F.cross_entropy(model(valid[0]), valid[1]).item()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.train()
        logged = F.cross_entropy(model(train[0]), train[1]).item()
    for module, training in modes:
        module.training = training
    return logged, clean, valid_loss, "dropout" if logged > clean else "data" if clean > valid_loss else "none"


def clean_and_valid_exchanged(model, train, valid):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.no_grad():
        clean = F.cross_entropy(model(train[0]), train[1]).item()
        valid_loss = F.cross_entropy(model(valid[0]), valid[1]).item()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.train()
        logged = F.cross_entropy(model(train[0]), train[1]).item()
    for module, training in modes:
        module.training = training
    return logged, clean, valid_loss, "none" if logged <= valid_loss else "dropout" if clean > valid_loss else "data"


def both_with_dropout(model, train, valid):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    with torch.no_grad():
        logged = F.cross_entropy(model(train[0]), train[1]).item()
        clean = F.cross_entropy(model(train[0]), train[1]).item()
        valid_loss = F.cross_entropy(model(valid[0]), valid[1]).item()
    for module, training in modes:
        module.training = training
    return logged, clean, valid_loss, "none" if logged <= valid_loss else "data" if clean > valid_loss else "dropout"


def validated_with_dropout(model, train, valid):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.no_grad():
        clean = F.cross_entropy(model(train[0]), train[1]).item()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.train()
        logged = F.cross_entropy(model(train[0]), train[1]).item()
        valid_loss = F.cross_entropy(model(valid[0]), valid[1]).item()
    for module, training in modes:
        module.training = training
    return logged, clean, valid_loss, "none" if logged <= valid_loss else "data" if clean > valid_loss else "dropout"


def all_without_dropout(model, train, valid):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.no_grad():
        logged = F.cross_entropy(model(train[0]), train[1]).item()
        clean = F.cross_entropy(model(train[0]), train[1]).item()
        valid_loss = F.cross_entropy(model(valid[0]), valid[1]).item()
    for module, training in modes:
        module.training = training
    return logged, clean, valid_loss, "none" if logged <= valid_loss else "data" if clean > valid_loss else "dropout"


def batch_norm_in_training(model, train, valid):
    modes = [(module, module.training) for module in model.modules()]
    with torch.no_grad():
        model.train()
        logged = F.cross_entropy(model(train[0]), train[1]).item()
        model.eval()
        clean = F.cross_entropy(model(train[0]), train[1]).item()
        valid_loss = F.cross_entropy(model(valid[0]), valid[1]).item()
    for module, training in modes:
        module.training = training
    return logged, clean, valid_loss, "none" if logged <= valid_loss else "data" if clean > valid_loss else "dropout"


def modes_not_restored(model, train, valid):
    with torch.no_grad():
        model.eval()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.train()
        logged = F.cross_entropy(model(train[0]), train[1]).item()
        model.eval()
        clean = F.cross_entropy(model(train[0]), train[1]).item()
        valid_loss = F.cross_entropy(model(valid[0]), valid[1]).item()
    return logged, clean, valid_loss, "none" if logged <= valid_loss else "data" if clean > valid_loss else "dropout"


def gap_on_a_copy(model, train, valid):
    import copy

    still = copy.deepcopy(model).eval()
    noisy = copy.deepcopy(still)
    noisy.apply(lambda module: module.train(isinstance(module, nn.Dropout)) if not list(module.children()) else None)
    loss = nn.CrossEntropyLoss()
    logged, clean, held_out = (
        loss(noisy(train[0]), train[1]),
        loss(still(train[0]), train[1]),
        loss(still(valid[0]), valid[1]),
    )
    if logged <= held_out:
        return logged, clean, held_out, "none"
    return logged, clean, held_out, "dropout" if held_out >= clean else "data"


def gap_by_class_name(model, train, valid):
    before = {name: module.training for name, module in model.named_modules()}

    def loss(data, dropout):
        for module in model.modules():
            module.training = dropout and "Dropout" in type(module).__name__
        with torch.inference_mode():
            log_probability = torch.log_softmax(model(data[0]), dim=-1)
        return float(-log_probability.gather(1, data[1].unsqueeze(1)).mean())

    logged, clean, valid_loss = loss(train, True), loss(train, False), loss(valid, False)
    for name, module in model.named_modules():
        module.training = before[name]
    gap, by_data = logged - valid_loss, clean - valid_loss
    return logged, clean, valid_loss, ("data" if by_data > 0 else "dropout") if gap > 0 else "none"


def gap_without_batch_norm(model, train, valid):
    modes = [module.training for module in model.modules()]
    with torch.no_grad():
        model.train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.eval()
        logged = F.cross_entropy(model(train[0]), train[1])
        model.eval()
        clean = F.cross_entropy(model(train[0]), train[1])
        valid_loss = F.cross_entropy(model(valid[0]), valid[1])
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    cause = "none"
    if logged > valid_loss:
        cause = "data" if clean > valid_loss else "dropout"
    return logged.item(), clean.item(), valid_loss.item(), cause


LOSSES = ("training loss, validation loss", "training loss as logged")

clinic_gap = Exercise(
    id="dropout.clinic_gap",
    lesson="08_dropout",
    title="Clinic: a training loss above the validation loss",
    answer="explain_gap",
    criteria=(
        Criterion("training loss as logged", 0, Close(operations=128)),
        Criterion("training loss, validation loss", 1, Close(operations=128), requires=("training loss as logged",)),
        Criterion("cause", 1, requires=LOSSES),
        Criterion("every module's mode as before", 1, requires=("training loss as logged",)),
        Criterion("running statistics as before", 0),
    ),
    cases=gap_cases,
    probe=gap_probe,
    reference=explain_gap,
    misconceptions=(
        Misconception(
            "always_dropout",
            always_dropout,
            "Your answer is “dropout” whenever the logged loss is the larger one. In the case “{case}” the training "
            "loss is above the validation loss even with dropout off: the validation set is easier, or small and "
            "lucky.",
            "Compare the clean training loss with the validation loss before you decide.",
        ),
        Misconception(
            "always_data",
            always_data,
            "Your answer is “data” whenever the logged loss is the larger one. In the case “{case}” the gap vanishes "
            "once dropout is off.",
            "If the clean training loss is not above the validation loss, dropout explains the gap.",
        ),
        Misconception(
            "dropout_effect_for_cause",
            dropout_effect_for_cause,
            "You compare the training loss with dropout on and off. It differs nearly always; the question is whether "
            "that is what lifts it above the validation loss.",
            "Compare both training losses with the validation loss.",
        ),
        Misconception(
            "clean_and_valid_exchanged",
            clean_and_valid_exchanged,
            "“dropout” and “data” are exchanged: if the clean training loss is above the validation loss, dropout "
            "can't be the cause.",
            "Turn the comparison round.",
        ),
        Misconception(
            "both_with_dropout",
            both_with_dropout,
            "All your losses are measured with dropout on. The gap between the phases is then gone, and with it what "
            "was to be explained.",
            "Measure the second training loss and the validation loss after model.eval().",
        ),
        Misconception(
            "validated_with_dropout",
            validated_with_dropout,
            "The validation loss is measured with dropout on.",
            "Switch dropout off for it: model.eval().",
        ),
        Misconception(
            "all_without_dropout",
            all_without_dropout,
            "Your first loss is measured with dropout off. What a training loop logs is measured with dropout on.",
            "Call .train() on the dropout layers before you measure it.",
        ),
        Misconception(
            "batch_norm_in_training",
            batch_norm_in_training,
            "For the logged loss you set the whole model to training. In the case “{case}” batch norm then uses the "
            "batch's statistics too, so the two training losses differ by more than dropout, and its running "
            "statistics have moved.",
            "model.eval() first, then .train() for the dropout layers alone.",
        ),
        Misconception(
            "modes_not_restored",
            modes_not_restored,
            "The losses and the cause are right, but the model is left in evaluation: training would go on without "
            "dropout.",
            "Note each module's .training first, and put it back at the end.",
        ),
    ),
    variants=(
        Variant("gap_on_a_copy", gap_on_a_copy),
        Variant("gap_by_class_name", gap_by_class_name),
        Variant("gap_without_batch_norm", gap_without_batch_norm),
    ),
    forbidden=("course_lib.training.evaluate",),
    hints=(
        "Which two things differ between the logged training loss and the validation loss? Change one at a time.",
        "The third loss, the training set with dropout off, stands between them: what does it share with each?",
        'logged ≤ valid: "none". Otherwise clean > valid: "data". Otherwise "dropout". Measure with model.eval(), and '
        "for the logged loss .train() on the dropout layers alone.",
    ),
    minutes=12,
)

# ---------------------------------------------------------------- in your own words

explain = Explanation(
    id="dropout.explain",
    lesson="08_dropout",
    title="Explain it to a colleague",
    rubric={
        "The gap: the logged training loss is measured with dropout on, by thinned nets, and the validation loss by "
        "the full net": 1,
        "A test: measure the training loss again with dropout off; only if it is still above, look at the data": 1,
        "The predictions: dropout is still on while predicting, so each call draws another mask": 1,
        "What to change: model.eval() (training=False in Keras) before predicting and back after; no_grad alone does "
        "not do it": 1,
    },
    minutes=10,
)
