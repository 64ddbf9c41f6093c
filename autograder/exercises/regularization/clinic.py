"""The clinic: validation above training with augmentation, a loss that rises for two reasons, and a leak."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from ...exercise import Case, Close, Criterion, Exercise, Explanation, Misconception, Variant

LESSON = "07_regularization"

# ---------------------------------------------------------------- validation accuracy above training accuracy


def gap_cases(seed):
    """Three causes, each in several sizes, in a model that comes in training or in evaluation."""
    rng = np.random.default_rng(seed)

    def case(name, wrong_train, wrong_valid, strength, mode, n=120, p=0.4):
        mean, variance = rng.normal(1.0, 0.5, 16), rng.uniform(0.5, 2.0, 16)
        weight = rng.normal(size=(4, 16))

        def part(wrong):
            images = rng.normal(1.0, 1.0, (n, 1, 4, 4))
            labels = ((images.reshape(n, 16) - mean) / np.sqrt(variance + 1e-5) @ weight.T).argmax(1)
            labels[:wrong] = (labels[:wrong] + 1) % 4
            order = rng.permutation(n)
            return images[order].astype(np.float32), labels[order]

        (train, train_labels), (valid, valid_labels) = part(wrong_train), part(wrong_valid)
        inputs = {
            "train": train,
            "train_labels": train_labels,
            "valid": valid,
            "valid_labels": valid_labels,
            "noise": (rng.normal(size=(n, 1, 4, 4)) * strength).astype(np.float32),
            "weight": weight.astype(np.float32),
            "mean": mean.astype(np.float32),
            "variance": variance.astype(np.float32),
            "mode": mode,
            "p": p,
        }
        return Case(name, inputs)

    yield case("augmentation alone: strong", 3, 15, 3.0, "train")
    yield case("augmentation alone, in evaluation", 0, 10, 2.5, "eval")
    yield case("augmentation alone: training twice as good without", 6, 6, 4.0, "train", p=0.7)
    yield case("easier validation images, no augmentation", 40, 10, 0.0, "train")
    yield case("easier validation images and strong augmentation", 40, 8, 3.0, "eval")
    yield case("no gap to explain", 2, 60, 0.05, "train")
    yield case("no gap: no augmentation at all", 5, 30, 0.0, "frozen")


def gap_probe(candidate, case):
    import torch
    from torch import nn

    norm = nn.BatchNorm1d(16)
    model = nn.Sequential(nn.Flatten(), norm, nn.Dropout(case["p"]), nn.Linear(16, 4, bias=False))
    with torch.no_grad():
        model[3].weight.copy_(torch.tensor(case["weight"]))
        norm.running_mean.copy_(torch.tensor(case["mean"]))
        norm.running_var.copy_(torch.tensor(case["variance"]))
    model.train(case["mode"] != "eval")
    if case["mode"] == "frozen":
        norm.eval()
    modes = [module.training for module in model.modules()]
    noise = torch.tensor(case["noise"])

    def augment(images):
        return images + noise[: len(images)]

    train = torch.tensor(case["train"]), torch.tensor(case["train_labels"])
    valid = torch.tensor(case["valid"]), torch.tensor(case["valid_labels"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        *accuracies, cause = candidate(model, train, valid, augment)
    after = [module.training for module in model.modules()]
    still = torch.equal(norm.running_mean, torch.tensor(case["mean"]))
    return {
        "four accuracies": torch.tensor([float(a) for a in accuracies]),
        "cause": cause,
        "every module's mode as before": after == modes,
        "running averages as before": still,
    }


def explain_augmented_gap(model, train, valid, augment):
    """(augmented training, plain training, plain validation, augmented validation) accuracy, and the cause."""
    modes = [(module, module.training) for module in model.modules()]

    def accuracy(images, labels):
        with torch.no_grad():
            return (model(images).argmax(1) == labels).float().mean().item()

    model.eval()
    try:
        logged, clean = accuracy(augment(train[0]), train[1]), accuracy(*train)
        plain, augmented = accuracy(*valid), accuracy(augment(valid[0]), valid[1])
    finally:
        for module, training in modes:
            module.training = training
    cause = "none" if plain <= logged else "augmentation" if clean >= plain else "data"
    return logged, clean, plain, augmented, cause


def left_as_it_came(model, train, valid, augment):
    def accuracy(images, labels):
        with torch.no_grad():
            return (model(images).argmax(1) == labels).float().mean().item()

    logged, clean = accuracy(augment(train[0]), train[1]), accuracy(*train)
    plain, augmented = accuracy(*valid), accuracy(augment(valid[0]), valid[1])
    cause = "none" if plain <= logged else "augmentation" if clean >= plain else "data"
    return logged, clean, plain, augmented, cause


def left_in_evaluation(model, train, valid, augment):
    model.eval()

    def accuracy(images, labels):
        with torch.no_grad():
            return (model(images).argmax(1) == labels).float().mean().item()

    logged, clean = accuracy(augment(train[0]), train[1]), accuracy(*train)
    plain, augmented = accuracy(*valid), accuracy(augment(valid[0]), valid[1])
    cause = "none" if plain <= logged else "augmentation" if clean >= plain else "data"
    return logged, clean, plain, augmented, cause


def training_mode_for_the_log(model, train, valid, augment):
    modes = [(module, module.training) for module in model.modules()]

    def accuracy(images, labels):
        with torch.no_grad():
            return (model(images).argmax(1) == labels).float().mean().item()

    model.train()
    logged = accuracy(augment(train[0]), train[1])
    model.eval()
    clean, plain, augmented = accuracy(*train), accuracy(*valid), accuracy(augment(valid[0]), valid[1])
    for module, training in modes:
        module.training = training
    cause = "none" if plain <= logged else "augmentation" if clean >= plain else "data"
    return logged, clean, plain, augmented, cause


def always_the_augmentation(model, train, valid, augment):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()

    def accuracy(images, labels):
        with torch.no_grad():
            return (model(images).argmax(1) == labels).float().mean().item()

    logged, clean = accuracy(augment(train[0]), train[1]), accuracy(*train)
    plain, augmented = accuracy(*valid), accuracy(augment(valid[0]), valid[1])
    for module, training in modes:
        module.training = training
    return logged, clean, plain, augmented, "augmentation" if plain > logged else "none"


def clean_above_logged_suffices(model, train, valid, augment):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()

    def accuracy(images, labels):
        with torch.no_grad():
            return (model(images).argmax(1) == labels).float().mean().item()

    logged, clean = accuracy(augment(train[0]), train[1]), accuracy(*train)
    plain, augmented = accuracy(*valid), accuracy(augment(valid[0]), valid[1])
    for module, training in modes:
        module.training = training
    cause = "none" if plain <= logged else "augmentation" if clean > logged else "data"
    return logged, clean, plain, augmented, cause


def nothing_asked_of_the_gap(model, train, valid, augment):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()

    def accuracy(images, labels):
        with torch.no_grad():
            return (model(images).argmax(1) == labels).float().mean().item()

    logged, clean = accuracy(augment(train[0]), train[1]), accuracy(*train)
    plain, augmented = accuracy(*valid), accuracy(augment(valid[0]), valid[1])
    for module, training in modes:
        module.training = training
    return logged, clean, plain, augmented, "augmentation" if clean >= plain else "data"


def augmented_twice(model, train, valid, augment):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()

    def accuracy(images, labels):
        with torch.no_grad():
            return (model(images).argmax(1) == labels).float().mean().item()

    shifted = augment(train[0])
    logged, clean = accuracy(augment(shifted), train[1]), accuracy(shifted, train[1])
    plain, augmented = accuracy(*valid), accuracy(augment(valid[0]), valid[1])
    for module, training in modes:
        module.training = training
    cause = "none" if plain <= logged else "augmentation" if clean >= plain else "data"
    return logged, clean, plain, augmented, cause


def validation_exchanged(model, train, valid, augment):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()

    def accuracy(images, labels):
        with torch.no_grad():
            return (model(images).argmax(1) == labels).float().mean().item()

    logged, clean = accuracy(augment(train[0]), train[1]), accuracy(*train)
    augmented, plain = accuracy(*valid), accuracy(augment(valid[0]), valid[1])
    for module, training in modes:
        module.training = training
    cause = "none" if plain <= logged else "augmentation" if clean >= plain else "data"
    return logged, clean, plain, augmented, cause


def percent_instead(model, train, valid, augment):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()

    def accuracy(images, labels):
        with torch.no_grad():
            return 100 * (model(images).argmax(1) == labels).float().mean().item()

    logged, clean = accuracy(augment(train[0]), train[1]), accuracy(*train)
    plain, augmented = accuracy(*valid), accuracy(augment(valid[0]), valid[1])
    for module, training in modes:
        module.training = training
    cause = "none" if plain <= logged else "augmentation" if clean >= plain else "data"
    return logged, clean, plain, augmented, cause


def gap_on_a_copy(model, train, valid, augment):
    import copy

    twin = copy.deepcopy(model).eval()
    found = []
    with torch.inference_mode():
        for x, y in ((augment(train[0]), train[1]), train, valid, (augment(valid[0]), valid[1])):
            found.append(float(twin(x).argmax(-1).eq(y).sum()) / len(y))
    logged, clean, plain, augmented = found
    if plain > logged:
        return logged, clean, plain, augmented, "data" if clean < plain else "augmentation"
    return logged, clean, plain, augmented, "none"


def gap_in_one_batch(model, train, valid, augment):
    before = {name: module.training for name, module in model.named_modules()}
    model.eval()
    x = torch.cat([augment(train[0]), train[0], valid[0], augment(valid[0])])
    y = torch.cat([train[1], train[1], valid[1], valid[1]])
    right = (model(x).detach().argmax(1) == y).float()
    sizes = [len(train[1]), len(train[1]), len(valid[1]), len(valid[1])]
    logged, clean, plain, augmented = (part.mean().item() for part in right.split(sizes))
    for name, module in model.named_modules():
        module.training = before[name]
    causes = {(False, False): "none", (False, True): "none", (True, False): "data", (True, True): "augmentation"}
    return logged, clean, plain, augmented, causes[plain > logged, clean >= plain]


def gap_by_softmax(model, train, valid, augment):
    modes = [(m, m.training) for m in model.modules()]
    for m, _ in modes:
        m.training = False

    def right(images, labels):
        with torch.no_grad():
            p = F.softmax(model(images), dim=1)
        return (p.max(1).indices == labels).double().mean()

    out = [right(augment(train[0]), train[1]), right(*train), right(*valid), right(augment(valid[0]), valid[1])]
    for m, was in modes:
        m.training = was
    cause = "none"
    if out[2] > out[0]:
        cause = "augmentation" if out[1] >= out[2] else "data"
    return (*out, cause)


clinic_augmentation = Exercise(
    id="regularization.clinic_augmentation",
    lesson=LESSON,
    title="Clinic: validation accuracy above training accuracy",
    answer="explain_augmented_gap",
    criteria=(
        Criterion("four accuracies", 2, Close(operations=16)),
        Criterion("cause", 1, requires=("four accuracies",)),
        Criterion("every module's mode as before", 0),
        Criterion("running averages as before", 0),
    ),
    cases=gap_cases,
    probe=gap_probe,
    reference=explain_augmented_gap,
    misconceptions=(
        Misconception(
            "left_as_it_came",
            left_as_it_came,
            "You measure in whatever phase the model comes. In training its dropout is on and batch norm uses the "
            "batch, "
            "so the four figures differ by more than the augmentation.",
            "model.eval() first; put every module's mode back at the end.",
        ),
        Misconception(
            "training_mode_for_the_log",
            training_mode_for_the_log,
            "The first accuracy is measured in training mode. Then dropout and batch norm are part of the gap, and you "
            "can't tell what the augmentation does.",
            "Measure all four in evaluation: change one thing at a time.",
        ),
        Misconception(
            "left_in_evaluation",
            left_in_evaluation,
            "The figures are right, but the model stays in evaluation: training would go on without dropout.",
            "Note each module's .training first, and put it back at the end.",
        ),
        Misconception(
            "always_the_augmentation",
            always_the_augmentation,
            "You blame the augmentation wherever validation is above. In the case “{case}” the plain training images "
            "are below it too, so the validation images are easier.",
            "Compare plain with plain: clean against plain validation.",
        ),
        Misconception(
            "clean_above_logged_suffices",
            clean_above_logged_suffices,
            "You compare training with training: that augmentation makes images harder is no news. The question is "
            "whether the gap to validation is gone without it.",
            "“augmentation” where clean ≥ plain validation.",
        ),
        Misconception(
            "nothing_asked_of_the_gap",
            nothing_asked_of_the_gap,
            "In the case “{case}” validation is not above the logged accuracy at all: there is nothing to explain.",
            'Return "none" there.',
        ),
        Misconception(
            "augmented_twice",
            augmented_twice,
            "The images for the plain training accuracy have been augmented already.",
            "Use train[0] itself for it.",
        ),
        Misconception(
            "validation_exchanged",
            validation_exchanged,
            "The plain and the augmented validation accuracy are exchanged.",
            "Third the plain one, fourth the augmented one.",
        ),
        Misconception(
            "percent_instead",
            percent_instead,
            "The accuracies are percentages. Asked are shares, between 0 and 1.",
            "Leave the factor 100 out.",
        ),
    ),
    variants=(
        Variant("gap_on_a_copy", gap_on_a_copy),
        Variant("gap_in_one_batch", gap_in_one_batch),
        Variant("gap_by_softmax", gap_by_softmax),
    ),
    forbidden=("course_lib.training.evaluate",),
    hints=(
        "In what do the logged training accuracy and the validation accuracy differ? Change one thing at a time.",
        "Two tests: take the augmentation away from training, or give it to validation.",
        '"none" if plain ≤ logged; otherwise "augmentation" if clean ≥ plain, else "data". All in model.eval().',
    ),
    minutes=12,
)

# ---------------------------------------------------------------- a validation loss that rises, for two reasons


def rise_cases(seed):
    """Overfitting and a shifted balance, each alone and together; nothing rising; two classes and several."""
    rng = np.random.default_rng(seed)

    def case(name, counts, balance, better, worse, sure, epochs=5):
        """Class by class, margins move by `better` or `worse` an epoch; a part is wrong ever more surely (`sure`)."""
        labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
        trend = np.array([worse if c in (len(counts) - 1,) else better for c in range(len(counts))])
        wrong = rng.random(len(labels)) < 0.2
        onehot = np.eye(len(counts))[labels]
        logits = []
        for epoch in range(epochs):
            margin = 1.0 + trend[labels] * epoch
            margin = np.where(wrong, -0.5 - sure * epoch, margin)
            logits.append(onehot * margin[:, None] + rng.normal(0, 0.05, onehot.shape))
        inputs = {
            "logits": np.array(logits, np.float32),
            "labels": labels,
            "balance": np.array(balance, np.float32),
        }
        return Case(name, inputs)

    yield case("overfitting, 3 classes in the same shares", [40, 40, 40], [1 / 3] * 3, 0.05, 0.05, sure=2.0)
    yield case("overfitting, 2 classes, other shares", [30, 90], [0.6, 0.4], 0.05, 0.05, sure=2.0)
    yield case("another balance, 2 classes", [20, 120], [0.95, 0.05], 0.6, -0.4, sure=0.0)
    yield case("another balance, 4 classes", [10, 12, 15, 110], [0.35, 0.3, 0.3, 0.05], 0.6, -0.4, sure=0.0)
    yield case("nothing rises", [40, 30, 50], [0.3, 0.5, 0.2], 0.5, 0.5, sure=0.0)
    yield case("nothing rises, other shares", [80, 20], [0.3, 0.7], 0.6, 0.4, sure=0.0)
    yield case("overfitting and another balance", [30, 80], [0.8, 0.2], 0.0, -0.3, sure=1.5)
    yield case("another balance, 3 classes", [15, 25, 100], [0.5, 0.46, 0.04], 0.7, -0.4, sure=0.0)


def rise_probe(candidate, case):
    import torch

    logits, labels, balance = (torch.tensor(case[name]) for name in ("logits", "labels", "balance"))
    plain, weighted, cause = candidate(logits, labels, balance)
    return {
        "validation loss": torch.as_tensor(plain, dtype=logits.dtype),
        "in the training balance": torch.as_tensor(weighted, dtype=logits.dtype),
        "cause": cause,
    }


def explain_rise(logits, labels, balance):
    """(loss by epoch, the same with the training set's class balance, the cause of a rise)."""
    epochs, n, classes = logits.shape
    losses = -logits.log_softmax(-1).gather(2, labels.expand(epochs, n)[..., None])[..., 0]  # (E, N)
    here = torch.bincount(labels, minlength=classes) / n
    weight = (balance / here)[labels]
    plain, weighted = losses.mean(1), (losses * weight).sum(1) / weight.sum()
    if plain[-1] <= plain[0]:
        return plain, weighted, "none"
    return plain, weighted, "balance" if weighted[-1] <= weighted[0] else "overfitting"


def always_overfitting(logits, labels, balance):
    losses = torch.stack([F.cross_entropy(z, labels, reduction="none") for z in logits])
    weight = (balance / (torch.bincount(labels, minlength=len(balance)) / len(labels)))[labels]
    plain, weighted = losses.mean(1), (losses * weight).sum(1) / weight.sum()
    return plain, weighted, "overfitting" if plain[-1] > plain[0] else "none"


def blamed_wherever_balance_differs(logits, labels, balance):
    losses = torch.stack([F.cross_entropy(z, labels, reduction="none") for z in logits])
    here = torch.bincount(labels, minlength=len(balance)) / len(labels)
    weight = (balance / here)[labels]
    plain, weighted = losses.mean(1), (losses * weight).sum(1) / weight.sum()
    if plain[-1] <= plain[0]:
        return plain, weighted, "none"
    return plain, weighted, "balance" if (balance - here).abs().max() > 0.05 else "overfitting"


def weights_turned_round(logits, labels, balance):
    losses = torch.stack([F.cross_entropy(z, labels, reduction="none") for z in logits])
    weight = (torch.bincount(labels, minlength=len(balance)) / len(labels) / balance)[labels]
    plain, weighted = losses.mean(1), (losses * weight).sum(1) / weight.sum()
    cause = "none" if plain[-1] <= plain[0] else "balance" if weighted[-1] <= weighted[0] else "overfitting"
    return plain, weighted, cause


def classes_all_alike(logits, labels, balance):
    losses = torch.stack([F.cross_entropy(z, labels, reduction="none") for z in logits])
    weight = (1 / torch.bincount(labels, minlength=len(balance)))[labels]
    plain, weighted = losses.mean(1), (losses * weight).sum(1) / weight.sum()
    cause = "none" if plain[-1] <= plain[0] else "balance" if weighted[-1] <= weighted[0] else "overfitting"
    return plain, weighted, cause


def weighted_by_the_balance_alone(logits, labels, balance):
    losses = torch.stack([F.cross_entropy(z, labels, reduction="none") for z in logits])
    weight = balance[labels]
    plain, weighted = losses.mean(1), (losses * weight).sum(1) / weight.sum()
    cause = "none" if plain[-1] <= plain[0] else "balance" if weighted[-1] <= weighted[0] else "overfitting"
    return plain, weighted, cause


def never_weighted(logits, labels, balance):
    plain = torch.stack([F.cross_entropy(z, labels) for z in logits])
    return plain, plain, "none" if plain[-1] <= plain[0] else "overfitting"


def errors_for_losses(logits, labels, balance):
    losses = (logits.argmax(-1) != labels).to(logits.dtype)
    weight = (balance / (torch.bincount(labels, minlength=len(balance)) / len(labels)))[labels]
    plain, weighted = losses.mean(1), (losses * weight).sum(1) / weight.sum()
    cause = "none" if plain[-1] <= plain[0] else "balance" if weighted[-1] <= weighted[0] else "overfitting"
    return plain, weighted, cause


def softmax_twice(logits, labels, balance):
    losses = torch.stack([F.cross_entropy(z.softmax(1), labels, reduction="none") for z in logits])
    weight = (balance / (torch.bincount(labels, minlength=len(balance)) / len(labels)))[labels]
    plain, weighted = losses.mean(1), (losses * weight).sum(1) / weight.sum()
    cause = "none" if plain[-1] <= plain[0] else "balance" if weighted[-1] <= weighted[0] else "overfitting"
    return plain, weighted, cause


def causes_exchanged(logits, labels, balance):
    losses = torch.stack([F.cross_entropy(z, labels, reduction="none") for z in logits])
    weight = (balance / (torch.bincount(labels, minlength=len(balance)) / len(labels)))[labels]
    plain, weighted = losses.mean(1), (losses * weight).sum(1) / weight.sum()
    cause = "none" if plain[-1] <= plain[0] else "overfitting" if weighted[-1] <= weighted[0] else "balance"
    return plain, weighted, cause


def rise_by_classes(logits, labels, balance):
    plain, weighted = [], []
    for z in logits:
        loss = F.cross_entropy(z, labels, reduction="none")
        plain.append(loss.mean())
        weighted.append(sum(share * loss[labels == c].mean() for c, share in enumerate(balance)))
    plain, weighted = torch.stack(plain), torch.stack(weighted)
    if not plain[-1] > plain[0]:
        return plain, weighted, "none"
    return plain, weighted, "overfitting" if weighted[-1] > weighted[0] else "balance"


def rise_by_weighted_loss(logits, labels, balance):
    here = F.one_hot(labels, logits.shape[2]).to(logits.dtype).mean(0)
    plain = [F.cross_entropy(z, labels).item() for z in logits]
    weighted = [F.cross_entropy(z, labels, weight=balance / here).item() for z in logits]
    up, up_weighted = plain[-1] > plain[0], weighted[-1] > weighted[0]
    return plain, weighted, ("overfitting" if up_weighted else "balance") if up else "none"


def rise_in_numpy(logits, labels, balance):
    z, y, share = logits.double().numpy(), labels.numpy(), balance.double().numpy()
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    losses = -log_p[:, np.arange(len(y)), y]
    per_class = np.stack([losses[:, y == c].mean(1) for c in range(len(share))], 1)
    plain, weighted = losses.mean(1), per_class @ share / share.sum()
    if plain[-1] <= plain[0]:
        return plain, weighted, "none"
    return plain, weighted, "balance" if weighted[-1] <= weighted[0] else "overfitting"


clinic_rising = Exercise(
    id="regularization.clinic_rising",
    lesson=LESSON,
    title="Clinic: a validation loss that rises from the second epoch",
    answer="explain_rise",
    criteria=(
        Criterion("validation loss", 1, Close(operations=256, scale=1.0)),
        Criterion("in the training balance", 1, Close(operations=512, scale=1.0), requires=("validation loss",)),
        Criterion("cause", 1, requires=("in the training balance",)),
    ),
    cases=rise_cases,
    probe=rise_probe,
    reference=explain_rise,
    misconceptions=(
        Misconception(
            "always_overfitting",
            always_overfitting,
            "You call every rise overfitting. In the case “{case}” the loss falls once the classes are weighted as in "
            "training: the net gets better at what it was trained for, and the validation set holds something else.",
            "Look at the weighted curve: does it rise too?",
        ),
        Misconception(
            "blamed_wherever_balance_differs",
            blamed_wherever_balance_differs,
            "You blame the balance wherever it differs. In the case “{case}” the loss rises in the training balance "
            "too.",
            "Decide by the weighted curve, not by the shares.",
        ),
        Misconception(
            "weights_turned_round",
            weights_turned_round,
            "The weights are turned round: a class that is too common in validation must count less.",
            "weight = share in training ÷ share in validation",
        ),
        Misconception(
            "classes_all_alike",
            classes_all_alike,
            "You give all classes the same weight. Asked is the balance of the training set.",
            "Multiply each class's weight by balance[c].",
        ),
        Misconception(
            "weighted_by_the_balance_alone",
            weighted_by_the_balance_alone,
            "You weight each example by its class's share in training. The validation set's own shares then count as "
            "well.",
            "Divide by the class's share in the validation set.",
        ),
        Misconception(
            "never_weighted",
            never_weighted,
            "Both curves are the plain loss.",
            "Weight each example by the training share of its class over the validation share.",
        ),
        Misconception(
            "errors_for_losses",
            errors_for_losses,
            "These are error rates. A loss can rise while the error falls: the net gets surer of what it has wrong.",
            "Use the cross-entropy.",
        ),
        Misconception(
            "softmax_twice",
            softmax_twice,
            "F.cross_entropy takes logits; you gave it probabilities.",
            "Leave your softmax out.",
        ),
        Misconception(
            "causes_exchanged",
            causes_exchanged,
            "The two causes are exchanged. If the rise goes away in the training balance, the balance was the cause.",
            'Exchange "balance" and "overfitting".',
        ),
    ),
    variants=(
        Variant("rise_by_classes", rise_by_classes),
        Variant("rise_by_weighted_loss", rise_by_weighted_loss),
        Variant("rise_in_numpy", rise_in_numpy),
    ),
    hints=(
        "What would the validation loss be if its classes came in the same shares as in training?",
        "It is the mean loss of each class, weighted by the training shares.",
        "weight = (balance / share in validation)[labels]; rises means last > first. Plain rises and weighted does "
        "not: "
        '"balance".',
    ),
    minutes=12,
)

# ---------------------------------------------------------------- a leak


def leak_cases(seed):
    """Copies, mirrored copies, none, all; look-alikes of the same mean; doubles within validation; float64."""
    rng = np.random.default_rng(seed)

    def case(name, copies, mirrored, n=12, m=10, dtype=np.float32, alike=0, doubles=0, size=(4, 5)):
        train = rng.random((n, *size)).astype(dtype)
        valid = rng.random((m, *size)).astype(dtype)
        place = rng.permutation(m)
        source = rng.permutation(n)
        for j in range(copies):
            valid[place[j]] = train[source[j]]
        for j in range(copies, copies + mirrored):
            valid[place[j]] = train[source[j], :, ::-1]
        left = place[copies + mirrored :]
        for j in range(alike):  # turned upside down, the same pixels in another order, half an image: none is a copy
            x = train[source[-1 - j]]
            valid[left[j]] = (x[::-1], np.roll(x, 1, 1), np.where(np.arange(size[1]) < 2, x, valid[left[j]]))[j % 3]
        for j in range(doubles):
            valid[left[-1 - j]] = valid[left[-1 - doubles - j]]
        labels = rng.integers(0, 3, m)
        predicted = np.where(rng.random(m) < 0.6, labels, (labels + 1) % 3)
        leaked = place[: copies + mirrored]
        predicted[leaked] = labels[leaked]
        if len(left) > 1:  # right and wrong among the others, so that the honest figure is another one
            predicted[left[0]] = (labels[left[0]] + 1) % 3
            predicted[left[1]] = labels[left[1]]
        return Case(name, {"train": train, "valid": valid, "predicted": predicted, "labels": labels})

    yield case("3 copies among 10", 3, 0)
    yield case("2 copies and 2 mirrored", 2, 2)
    yield case("none", 0, 0)
    yield case("look-alikes, not copies", 1, 1, alike=3)
    yield case("doubles within the validation set", 2, 1, doubles=2)
    yield case("as many validation as training images", 4, 3, m=12)
    yield case("float64, square images", 2, 3, dtype=np.float64, size=(5, 5))


def leak_probe(candidate, case):
    import torch

    leaked, reported, honest = candidate(
        *(torch.tensor(case[name]) for name in ("train", "valid", "predicted", "labels"))
    )
    return {
        "leaked": torch.as_tensor(leaked),
        "accuracies": torch.tensor([float(reported), float(honest)]),
    }


def find_leak(train, valid, predicted, labels):
    """(which validation images the training set holds, the reported accuracy, the accuracy on the others)."""
    known = {image.numpy().tobytes() for both in (train, train.flip(-1)) for image in both}
    leaked = torch.tensor([image.numpy().tobytes() in known for image in valid])
    right = (predicted == labels).float()
    return leaked, right.mean(), right[~leaked].mean()


def mirrored_missed(train, valid, predicted, labels):
    leaked = (valid[:, None] == train[None]).flatten(2).all(2).any(1)
    right = (predicted == labels).float()
    return leaked, right.mean(), right[~leaked].mean()


def same_place_only(train, valid, predicted, labels):
    leaked = torch.tensor([i < len(train) and torch.equal(valid[i], train[i]) for i in range(len(valid))])
    right = (predicted == labels).float()
    return leaked, right.mean(), right[~leaked].mean()


def same_mean(train, valid, predicted, labels):
    gap = (valid.double().mean((1, 2))[:, None] - train.double().mean((1, 2))[None]).abs()
    leaked = (gap < 1e-6).any(1)
    right = (predicted == labels).float()
    return leaked, right.mean(), right[~leaked].mean()


def any_pixel_alike(train, valid, predicted, labels):
    both = torch.cat([train, train.flip(-1)])
    leaked = (valid[:, None] == both[None]).flatten(2).any(2).any(1)
    right = (predicted == labels).float()
    return leaked, right.mean(), right[~leaked].mean() if (~leaked).any() else 0.0


def doubles_counted_too(train, valid, predicted, labels):
    both = torch.cat([train, train.flip(-1)])
    leaked = (valid[:, None] == both[None]).flatten(2).all(2).any(1)
    leaked = leaked | ((valid[:, None] == valid[None]).flatten(2).all(2).sum(1) > 1)
    right = (predicted == labels).float()
    return leaked, right.mean(), right[~leaked].mean()


def upside_down_too(train, valid, predicted, labels):
    both = torch.cat([train, train.flip(-1), train.flip(-2)])
    leaked = (valid[:, None] == both[None]).flatten(2).all(2).any(1)
    right = (predicted == labels).float()
    return leaked, right.mean(), right[~leaked].mean()


def divided_by_all(train, valid, predicted, labels):
    both = torch.cat([train, train.flip(-1)])
    leaked = (valid[:, None] == both[None]).flatten(2).all(2).any(1)
    right = (predicted == labels).float()
    return leaked, right.mean(), right[~leaked].sum() / len(right)


def leaked_ones_measured(train, valid, predicted, labels):
    both = torch.cat([train, train.flip(-1)])
    leaked = (valid[:, None] == both[None]).flatten(2).all(2).any(1)
    right = (predicted == labels).float()
    return leaked, right.mean(), right[leaked].mean() if leaked.any() else right.mean()


def training_images_marked(train, valid, predicted, labels):
    both = torch.cat([valid, valid.flip(-1)])
    leaked = (train[:, None] == both[None]).flatten(2).all(2).any(1)
    right = (predicted == labels).float()
    known = (valid[:, None] == torch.cat([train, train.flip(-1)])[None]).flatten(2).all(2).any(1)
    return leaked, right.mean(), right[~known].mean()


def leak_by_comparison(train, valid, predicted, labels):
    same = (valid.unsqueeze(1) == train).flatten(2).all(-1)
    turned = (valid.flip(2).unsqueeze(1) == train).flatten(2).all(-1)
    leaked = (same | turned).any(1)
    right = predicted.eq(labels)
    return leaked, right.double().mean(), right[leaked.logical_not()].double().mean()


def leak_by_distance(train, valid, predicted, labels):
    both = torch.cat([train, train.flip(-1)]).flatten(1).double()
    nearest = (valid.flatten(1).double()[:, None] - both).abs().amax(-1).amin(1)
    leaked = nearest < 1e-9
    right = (predicted == labels).numpy()
    return leaked, right.mean(), right[~leaked.numpy()].mean()


def leak_by_loop(train, valid, predicted, labels):
    leaked, right, honest = [], 0, []
    for i in range(len(valid)):
        hit = any(torch.equal(valid[i], x) or torch.equal(valid[i], x.flip(1)) for x in train)
        leaked.append(hit)
        right += int(predicted[i] == labels[i])
        if not hit:
            honest.append(float(predicted[i] == labels[i]))
    return leaked, right / len(valid), sum(honest) / len(honest)


clinic_leak = Exercise(
    id="regularization.clinic_leak",
    lesson=LESSON,
    title="Clinic: a validation accuracy too good to be true",
    answer="find_leak",
    criteria=(
        Criterion("leaked", 2),
        Criterion("accuracies", 1, Close(operations=32), requires=("leaked",)),
    ),
    cases=leak_cases,
    probe=leak_probe,
    reference=find_leak,
    misconceptions=(
        Misconception(
            "mirrored_missed",
            mirrored_missed,
            "Exact copies are found, mirrored ones are not. A training set that was augmented before the split holds "
            "those.",
            "Compare with train.flip(-1) too.",
        ),
        Misconception(
            "same_place_only",
            same_place_only,
            "You compare image i with image i. A copy may stand anywhere in the training set.",
            "Compare each validation image with all training images.",
        ),
        Misconception(
            "same_mean",
            same_mean,
            "You compare averages. In the case “{case}” other images have the same average: the same pixels, arranged "
            "otherwise.",
            "Compare all pixels.",
        ),
        Misconception(
            "any_pixel_alike",
            any_pixel_alike,
            "One pixel alike is enough for you. It takes all of them.",
            "Use .all over the pixels, then .any over the training images.",
        ),
        Misconception(
            "doubles_counted_too",
            doubles_counted_too,
            "In the case “{case}” you also mark images that are twice in the validation set. That makes its figure "
            "less sure, but the net has not trained on them.",
            "Compare with the training images only.",
        ),
        Misconception(
            "upside_down_too",
            upside_down_too,
            "You also mark images turned upside down. The copies here are mirrored left to right.",
            "Flip the last axis only.",
        ),
        Misconception(
            "divided_by_all",
            divided_by_all,
            "The honest accuracy is divided by the number of all validation images.",
            "Divide by the number of images that are left.",
        ),
        Misconception(
            "leaked_ones_measured",
            leaked_ones_measured,
            "Your second accuracy is that of the leaked images. The honest one is on the others.",
            "Use right[~leaked].",
        ),
        Misconception(
            "training_images_marked",
            training_images_marked,
            "You mark training images. Asked is which validation images are known.",
            "One entry for each validation image.",
        ),
    ),
    variants=(
        Variant("leak_by_comparison", leak_by_comparison),
        Variant("leak_by_distance", leak_by_distance),
        Variant("leak_by_loop", leak_by_loop),
    ),
    hints=(
        "How would you find out by hand whether an image stands in the training set? What if it was mirrored?",
        "(valid[:, None] == train[None]) compares every pair, pixel by pixel: (M, N, H, W).",
        "leaked = that, .flatten(2).all(2).any(1), for train and train.flip(-1) together. Honest: "
        "right[~leaked].mean().",
    ),
    minutes=12,
)

# ---------------------------------------------------------------- in your own words

explain = Explanation(
    id="regularization.explain",
    lesson=LESSON,
    title="Explain it to a colleague",
    rubric={
        "A validation set measures, it changes no weight; dropout and the other ways change what is learned: one does "
        "not replace the other": 1,
        "Choosing by the validation set (early stopping, λ) uses it up a little: the last figure comes from a test "
        "set": 1,
        "The loss that rises: look whether training loss falls and accuracy holds, and compare the class balance "
        "before calling it overfitting": 1,
        "validation_split takes the last examples, unshuffled: shuffle first (stratified), and split before augmenting "
        "or standardizing": 1,
    },
    minutes=10,
)
