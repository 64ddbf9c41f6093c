"""More examples and softer targets: copies that are shifted, blends of two (mixup), labels that are not quite sure."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

LESSON = "07_regularization"

# ---------------------------------------------------------------- augmentation after the split


def grow_cases(seed):
    """One copy and several, validation images scattered, none of the shifts 0, a shift off the edge, float64."""
    rng = np.random.default_rng(seed)

    def case(name, n, copies, size=(5, 6), largest=2, dtype=np.float32, valid=None):
        is_valid = np.zeros(n, bool)
        is_valid[rng.permutation(n)[: max(1, n // 4)] if valid is None else valid] = True
        shifts = rng.integers(1, largest + 1, (copies, n)) * rng.choice([-1, 1], (copies, n))
        return Case(
            name,
            {
                "images": rng.uniform(0.2, 1.0, (n, *size)).astype(dtype),
                "labels": rng.permutation(np.arange(n) % 4),
                "is_valid": is_valid,
                "shifts": shifts,
            },
        )

    yield case("12 images, 2 copies", 12, 2)
    yield case("20 images, 3 copies", 20, 3)
    yield case("one copy", 9, 1)
    yield case("the first images validate", 10, 2, valid=[0, 1, 2])
    yield case("one training image", 4, 2, valid=[0, 2, 3])
    yield case("shifts up to the whole width", 8, 2, size=(3, 4), largest=4)
    yield case("square images, float64", 11, 2, size=(5, 5), dtype=np.float64)


def grow_probe(candidate, case):
    import torch

    given = [torch.tensor(case[name]) for name in ("images", "labels", "is_valid", "shifts")]
    images, labels, valid_images, valid_labels = candidate(*given)
    return {
        "training images": images,
        "training labels": labels,
        "validation images": valid_images,
        "validation labels": valid_labels,
    }


def grow_training_set(images, labels, is_valid, shifts):
    """The training images and a shifted copy of them for each row of shifts; the validation images as they are."""
    train = ~is_valid
    width = images.shape[2]
    parts = [images[train]]
    for row in shifts[:, train]:
        columns = torch.arange(width) - row[:, None]  # where each new column comes from: (N, W)
        inside = (columns >= 0) & (columns < width)
        index = columns.clamp(0, width - 1)[:, None, :].expand(-1, images.shape[1], -1)
        parts.append(images[train].gather(2, index) * inside[:, None, :])
    return torch.cat(parts), labels[train].repeat(len(parts)), images[is_valid], labels[is_valid]


def split_afterwards(images, labels, is_valid, shifts):
    def moved(images, row):
        out = torch.zeros_like(images)
        for n, s in enumerate(row.tolist()):
            for c in range(images.shape[2]):
                if 0 <= c - s < images.shape[2]:
                    out[n, :, c] = images[n, :, c - s]
        return out

    every = torch.cat([images, *(moved(images, row) for row in shifts)])
    every_label, valid = labels.repeat(1 + len(shifts)), is_valid.repeat(1 + len(shifts))
    return every[~valid], every_label[~valid], every[valid], every_label[valid]


def copies_of_validation_images(images, labels, is_valid, shifts):
    def moved(images, row):
        out = torch.zeros_like(images)
        for n, s in enumerate(row.tolist()):
            for c in range(images.shape[2]):
                if 0 <= c - s < images.shape[2]:
                    out[n, :, c] = images[n, :, c - s]
        return out

    grown = torch.cat([images[~is_valid], *(moved(images, row) for row in shifts)])
    grown_labels = torch.cat([labels[~is_valid], labels.repeat(len(shifts))])
    return grown, grown_labels, images[is_valid], labels[is_valid]


def validation_shifted_too(images, labels, is_valid, shifts):
    def moved(images, row):
        out = torch.zeros_like(images)
        for n, s in enumerate(row.tolist()):
            for c in range(images.shape[2]):
                if 0 <= c - s < images.shape[2]:
                    out[n, :, c] = images[n, :, c - s]
        return out

    train = ~is_valid
    grown = torch.cat([images[train], *(moved(images[train], row[train]) for row in shifts)])
    valid = moved(images[is_valid], shifts[0, is_valid])
    return grown, labels[train].repeat(1 + len(shifts)), valid, labels[is_valid]


def wrapped_round(images, labels, is_valid, shifts):
    train = ~is_valid
    parts = [images[train]]
    for row in shifts[:, train]:
        parts.append(torch.stack([x.roll(int(s), 1) for x, s in zip(images[train], row, strict=True)]))
    return torch.cat(parts), labels[train].repeat(len(parts)), images[is_valid], labels[is_valid]


def labels_in_another_order(images, labels, is_valid, shifts):
    def moved(images, row):
        out = torch.zeros_like(images)
        for n, s in enumerate(row.tolist()):
            for c in range(images.shape[2]):
                if 0 <= c - s < images.shape[2]:
                    out[n, :, c] = images[n, :, c - s]
        return out

    train = ~is_valid
    grown = torch.cat([images[train], *(moved(images[train], row[train]) for row in shifts)])
    return grown, labels[train].repeat_interleave(1 + len(shifts)), images[is_valid], labels[is_valid]


def originals_lost(images, labels, is_valid, shifts):
    def moved(images, row):
        out = torch.zeros_like(images)
        for n, s in enumerate(row.tolist()):
            for c in range(images.shape[2]):
                if 0 <= c - s < images.shape[2]:
                    out[n, :, c] = images[n, :, c - s]
        return out

    train = ~is_valid
    grown = torch.cat([moved(images[train], row[train]) for row in shifts])
    return grown, labels[train].repeat(len(shifts)), images[is_valid], labels[is_valid]


def moved_left(images, labels, is_valid, shifts):
    def moved(images, row):
        out = torch.zeros_like(images)
        for n, s in enumerate(row.tolist()):
            for c in range(images.shape[2]):
                if 0 <= c + s < images.shape[2]:
                    out[n, :, c] = images[n, :, c + s]
        return out

    train = ~is_valid
    grown = torch.cat([images[train], *(moved(images[train], row[train]) for row in shifts)])
    return grown, labels[train].repeat(1 + len(shifts)), images[is_valid], labels[is_valid]


def moved_down(images, labels, is_valid, shifts):
    def moved(images, row):
        out = torch.zeros_like(images)
        for n, s in enumerate(row.tolist()):
            for r in range(images.shape[1]):
                if 0 <= r - s < images.shape[1]:
                    out[n, r] = images[n, r - s]
        return out

    train = ~is_valid
    grown = torch.cat([images[train], *(moved(images[train], row[train]) for row in shifts)])
    return grown, labels[train].repeat(1 + len(shifts)), images[is_valid], labels[is_valid]


def one_shift_for_all(images, labels, is_valid, shifts):
    def moved(images, s):
        out = torch.zeros_like(images)
        for c in range(images.shape[2]):
            if 0 <= c - s < images.shape[2]:
                out[:, :, c] = images[:, :, c - s]
        return out

    train = ~is_valid
    grown = torch.cat([images[train], *(moved(images[train], int(row[train][0])) for row in shifts)])
    return grown, labels[train].repeat(1 + len(shifts)), images[is_valid], labels[is_valid]


def shifts_of_other_images(images, labels, is_valid, shifts):
    def moved(images, row):
        out = torch.zeros_like(images)
        for n in range(len(images)):
            s = int(row[n])
            for c in range(images.shape[2]):
                if 0 <= c - s < images.shape[2]:
                    out[n, :, c] = images[n, :, c - s]
        return out

    train = ~is_valid
    grown = torch.cat([images[train], *(moved(images[train], row) for row in shifts)])
    return grown, labels[train].repeat(1 + len(shifts)), images[is_valid], labels[is_valid]


def grow_by_padding(images, labels, is_valid, shifts):
    width = images.shape[2]
    train, train_labels = images[~is_valid], labels[~is_valid]
    parts, all_labels = [train], [train_labels]
    for row in shifts[:, ~is_valid].tolist():
        padded = F.pad(train, (width, width))
        parts.append(torch.stack([p[:, width - s : 2 * width - s] for p, s in zip(padded, row, strict=True)]))
        all_labels.append(train_labels)
    return torch.cat(parts), torch.cat(all_labels), images[is_valid], labels[is_valid]


def grow_by_roll_and_blank(images, labels, is_valid, shifts):
    out_images, out_labels = [], []
    keep = [i for i in range(len(images)) if not is_valid[i]]
    for k in range(-1, len(shifts)):
        for i in keep:
            s = 0 if k < 0 else int(shifts[k, i])
            image = torch.roll(images[i], s, dims=1)
            if s > 0:
                image[:, :s] = 0
            elif s < 0:
                image[:, s:] = 0
            out_images.append(image)
            out_labels.append(labels[i])
    return torch.stack(out_images), torch.stack(out_labels), images[is_valid], labels[is_valid]


def grow_by_matrix(images, labels, is_valid, shifts):
    width, train = images.shape[2], torch.nonzero(~is_valid).flatten()
    column = torch.arange(width)
    parts = [images[train]]
    for k in range(shifts.shape[0]):
        # to[n, c, d] = 1 where column c moves to column d
        to = (column[None, :, None] + shifts[k, train][:, None, None] == column[None, None, :]).to(images.dtype)
        parts.append(images[train] @ to)
    valid = torch.nonzero(is_valid).flatten()
    return torch.cat(parts), labels[train].tile(len(parts)), images[valid], labels[valid]


grow_exercise = Exercise(
    id="regularization.grow_training_set",
    lesson=LESSON,
    title="Augmentation: more training images, the same validation images",
    answer="grow_training_set",
    criteria=(
        Criterion("training images", 2, Close(operations=4)),
        Criterion("training labels", 1, requires=("training images",)),
        Criterion("validation images", 1, Close(operations=1), requires=("training images",)),
        Criterion("validation labels", 0),
    ),
    cases=grow_cases,
    probe=grow_probe,
    reference=grow_training_set,
    misconceptions=(
        Misconception(
            "split_afterwards",
            split_afterwards,
            "You shift first and split afterwards: the validation part holds shifted copies too, so it is no longer "
            "the data that the net will meet.",
            "Split first; then shift the training images alone.",
        ),
        Misconception(
            "copies_of_validation_images",
            copies_of_validation_images,
            "Shifted copies of the validation images are in the training set. The net has then seen, moved by a pixel, "
            "what it is to be tested on: the validation accuracy is too good. This is a leak.",
            "Copy the training images only: images[~is_valid].",
        ),
        Misconception(
            "validation_shifted_too",
            validation_shifted_too,
            "The validation images are shifted too. They stand for the data that the net will meet, so they stay as "
            "they are.",
            "Return images[is_valid] unchanged.",
        ),
        Misconception(
            "wrapped_round",
            wrapped_round,
            "What leaves the image on one side comes in again on the other: torch.roll wraps round.",
            "Fill what comes in with 0.",
        ),
        Misconception(
            "labels_in_another_order",
            labels_in_another_order,
            "The images stand copy after copy, but the labels image after image (repeat_interleave): most images have "
            "the label of another one. Training then runs without any error, and learns nonsense.",
            "Use labels.repeat(1 + copies), in the same order as the images.",
        ),
        Misconception(
            "originals_lost",
            originals_lost,
            "The images without a shift are missing.",
            "Put images[~is_valid] first.",
        ),
        Misconception(
            "moved_left",
            moved_left,
            "A positive shift moves your images to the left. It should move them to the right.",
            "New column c comes from old column c − shift.",
        ),
        Misconception(
            "moved_down",
            moved_down,
            "Your images move up and down: the second axis holds rows. Columns are the last axis.",
            "Shift along the last axis.",
        ),
        Misconception(
            "one_shift_for_all",
            one_shift_for_all,
            "All images of a copy are moved by the first one's shift.",
            "Image n of copy k is moved by shifts[k, n].",
        ),
        Misconception(
            "shifts_of_other_images",
            shifts_of_other_images,
            "The images are selected, the shifts are not: after images[~is_valid], image n is moved by the shift of "
            "another one.",
            "Select both alike: shifts[:, ~is_valid].",
        ),
    ),
    variants=(
        Variant("grow_by_padding", grow_by_padding),
        Variant("grow_by_roll_and_blank", grow_by_roll_and_blank),
        Variant("grow_by_matrix", grow_by_matrix),
    ),
    forbidden=("course_lib.regularizers",),
    hints=(
        "What must be done first, the split or the shift? Which of the two sets must stay as it is?",
        "Select images, labels and shifts with ~is_valid. Then one block for each row of shifts, after the originals.",
        "F.pad each image with zeros on both sides, and cut the window that starts `shift` columns earlier. The labels "
        "are labels[~is_valid].repeat(1 + len(shifts)).",
    ),
    minutes=15,
)

# ---------------------------------------------------------------- mixup


def mixup_cases(seed):
    """λ on both sides of 1/2, λ = 1, one that stays, two examples, large inputs, float64."""
    rng = np.random.default_rng(seed)

    def case(name, lam, n=8, classes=4, scale=1.0, dtype=np.float32, order=None):
        turned = np.roll(np.arange(n), 1)  # a cycle: no example meets itself, and the inverse is another order
        return Case(
            name,
            {
                "x": (rng.normal(size=(n, 5)) * scale).astype(dtype),
                "labels": rng.permutation(np.arange(n) % classes),
                "lam": lam,
                "order": turned if order is None else np.array(order),
                "first": rng.normal(size=(5, 7)).astype(dtype),
                "second": rng.normal(size=(7, classes)).astype(dtype),
            },
        )

    yield case("8 examples, λ = 0.7", 0.7)
    yield case("8 examples, λ = 0.1", 0.1)
    yield case("λ = 0.5", 0.5)
    yield case("λ = 1: no blend at all", 1.0)
    yield case("two examples change places, λ = 0.6", 0.6, n=2, classes=2)
    yield case("some stay in their place, λ = 0.3", 0.3, n=6, order=[0, 2, 3, 1, 4, 5])
    yield case("inputs around ±1e3, λ = 0.8", 0.8, scale=1e3)
    yield case("float64, λ = 0.25", 0.25, n=10, dtype=np.float64)


def mixup_probe(candidate, case):
    import torch

    first, second = (torch.tensor(case[name], requires_grad=True) for name in ("first", "second"))
    x, labels, order = (torch.tensor(case[name]) for name in ("x", "labels", "order"))
    loss = candidate(lambda batch: (batch @ first).relu() @ second, x, labels, case["lam"], order)
    loss.backward()
    return {"loss": loss, "gradient": second.grad, "images left as they were": x}


def mixup_loss(model, x, labels, lam, order):
    """The loss of the net on the blends, against both labels in the same shares."""
    logits = model(lam * x + (1 - lam) * x[order])
    return lam * F.cross_entropy(logits, labels) + (1 - lam) * F.cross_entropy(logits, labels[order])


def own_labels_only(model, x, labels, lam, order):
    return F.cross_entropy(model(lam * x + (1 - lam) * x[order]), labels)


def shares_exchanged(model, x, labels, lam, order):
    logits = model(lam * x + (1 - lam) * x[order])
    return (1 - lam) * F.cross_entropy(logits, labels) + lam * F.cross_entropy(logits, labels[order])


def images_not_blended(model, x, labels, lam, order):
    logits = model(x)
    return lam * F.cross_entropy(logits, labels) + (1 - lam) * F.cross_entropy(logits, labels[order])


def logits_blended(model, x, labels, lam, order):
    logits = lam * model(x) + (1 - lam) * model(x[order])
    return lam * F.cross_entropy(logits, labels) + (1 - lam) * F.cross_entropy(logits, labels[order])


def losses_blended(model, x, labels, lam, order):
    return lam * F.cross_entropy(model(x), labels) + (1 - lam) * F.cross_entropy(model(x[order]), labels[order])


def larger_share_takes_all(model, x, labels, lam, order):
    logits = model(lam * x + (1 - lam) * x[order])
    return F.cross_entropy(logits, labels if lam >= 0.5 else labels[order])


def label_numbers_blended(model, x, labels, lam, order):
    logits = model(lam * x + (1 - lam) * x[order])
    blended = (lam * labels + (1 - lam) * labels[order]).round().long()
    return F.cross_entropy(logits, blended)


def labels_ordered_back(model, x, labels, lam, order):
    logits = model(lam * x + (1 - lam) * x[order])
    return lam * F.cross_entropy(logits, labels) + (1 - lam) * F.cross_entropy(logits, labels[order.argsort()])


def both_count_half(model, x, labels, lam, order):
    logits = model(lam * x + (1 - lam) * x[order])
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits, labels[order])) / 2


def softmax_twice(model, x, labels, lam, order):
    p = model(lam * x + (1 - lam) * x[order]).softmax(1)
    return lam * F.cross_entropy(p, labels) + (1 - lam) * F.cross_entropy(p, labels[order])


def mixup_by_targets(model, x, labels, lam, order):
    logits = model(torch.lerp(x[order], x, lam))
    onehot = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    return F.cross_entropy(logits, lam * onehot + (1 - lam) * onehot[order])


def mixup_by_log_softmax(model, x, labels, lam, order):
    log_p = model(x * lam + x[order] * (1 - lam)).log_softmax(dim=1)
    rows = torch.arange(len(labels))
    return -(lam * log_p[rows, labels] + (1 - lam) * log_p[rows, labels[order]]).mean()


def mixup_by_loop(model, x, labels, lam, order):
    blends = torch.stack([lam * x[i] + (1 - lam) * x[j] for i, j in enumerate(order.tolist())])
    logits, total = model(blends), 0.0
    for i, j in enumerate(order.tolist()):
        log_p = F.log_softmax(logits[i], 0)
        total = total - lam * log_p[labels[i]] - (1 - lam) * log_p[labels[j]]
    return total / len(x)


mixup_exercise = Exercise(
    id="regularization.mixup_loss",
    lesson=LESSON,
    title="Mixup: the loss on blended examples",
    answer="mixup_loss",
    criteria=(
        Criterion("loss", 1, Close(operations=256, scale=1.0)),
        Criterion("gradient", 1, Close(operations=512, scale=1.0)),
        Criterion("images left as they were", 0),
    ),
    cases=mixup_cases,
    probe=mixup_probe,
    reference=mixup_loss,
    misconceptions=(
        Misconception(
            "own_labels_only",
            own_labels_only,
            "The images are blended but each blend keeps its first label alone. A blend of a 3 and a 7 is then called "
            "a plain 3: noise in the labels, not mixup.",
            "Count the second label too: λ times the loss against labels, 1 − λ times the loss against labels[order].",
        ),
        Misconception(
            "shares_exchanged",
            shares_exchanged,
            "The shares are exchanged: the image counts λ, but its label 1 − λ. (At λ = 0.5 that can't be seen.)",
            "The label of x counts λ, the label of x[order] counts 1 − λ.",
        ),
        Misconception(
            "images_not_blended",
            images_not_blended,
            "Only the labels are blended; the net sees the plain images.",
            "Call the model on λ·x + (1 − λ)·x[order].",
        ),
        Misconception(
            "logits_blended",
            logits_blended,
            "You blend the net's outputs. Mixup blends its inputs: that the net should be straight in between is what "
            "it is taught, not what it is given.",
            "Blend x first, and call the model once.",
        ),
        Misconception(
            "losses_blended",
            losses_blended,
            "You blend the losses of two plain batches. As x[order] holds the same images, that is the plain loss.",
            "Blend the images, and call the model on the blends.",
        ),
        Misconception(
            "larger_share_takes_all",
            larger_share_takes_all,
            "Each blend gets the label of its larger share. The other share is in the picture too.",
            "Use both labels, weighted λ and 1 − λ.",
        ),
        Misconception(
            "label_numbers_blended",
            label_numbers_blended,
            "You blend the numbers of the classes: half of class 2 and half of class 6 became class 4. Class numbers "
            "are names.",
            "Blend the losses against the two labels.",
        ),
        Misconception(
            "labels_ordered_back",
            labels_ordered_back,
            "The labels are put in the inverse order: they belong to other images than x[order].",
            "Use the same index for both: x[order] and labels[order].",
        ),
        Misconception(
            "both_count_half",
            both_count_half,
            "Both labels count one half, whatever λ is.",
            "Weight them by λ and 1 − λ.",
        ),
        Misconception(
            "softmax_twice",
            softmax_twice,
            "F.cross_entropy takes logits and applies softmax itself; you gave it probabilities.",
            "Leave your softmax out.",
        ),
    ),
    variants=(
        Variant("mixup_by_targets", mixup_by_targets),
        Variant("mixup_by_log_softmax", mixup_by_log_softmax),
        Variant("mixup_by_loop", mixup_by_loop),
    ),
    forbidden=("course_lib.regularizers",),
    hints=(
        "What does the net see, and which two labels belong to what it sees?",
        "One pass through the model, on λ·x + (1 − λ)·x[order]. Two losses from the same logits.",
        "λ · F.cross_entropy(logits, labels) + (1 − λ) · F.cross_entropy(logits, labels[order])",
    ),
    minutes=8,
)

# ---------------------------------------------------------------- label smoothing


def smoothing_cases(seed):
    """Two classes and many, one example, none and all of it smoothed, logits of ±1e4, float64."""
    rng = np.random.default_rng(seed)

    def case(name, smoothing, n=8, classes=5, scale=2.0, dtype=np.float32):
        logits = (rng.normal(size=(n, classes)) * scale).astype(dtype)
        return Case(name, {"logits": logits, "labels": rng.integers(0, classes, n), "smoothing": smoothing})

    yield case("8 examples, 5 classes, s = 0.1", 0.1)
    yield case("8 examples, 5 classes, s = 0.4", 0.4)
    yield case("2 classes, s = 0.2", 0.2, classes=2)
    yield case("one example of 10 classes, s = 0.3", 0.3, n=1, classes=10)
    yield case("s = 0", 0.0)
    yield case("logits around ±1e4, s = 0.1", 0.1, scale=1e4)
    yield case("float64, 20 classes, s = 0.05", 0.05, classes=20, dtype=np.float64)


def smoothing_probe(candidate, case):
    import torch

    logits = torch.tensor(case["logits"], requires_grad=True)
    loss = candidate(logits, torch.tensor(case["labels"]), case["smoothing"])
    loss.backward()
    return {"loss": loss, "gradient": logits.grad}


def smooth_loss(logits, labels, smoothing):
    """(1 − s) · (−log p of the label) + s · the mean over all classes of −log p, averaged over the batch."""
    log_p = logits.log_softmax(1)
    right = log_p.gather(1, labels[:, None])[:, 0]
    return -((1 - smoothing) * right + smoothing * log_p.mean(1)).mean()


def spread_over_the_others(logits, labels, smoothing):
    log_p = logits.log_softmax(1)
    right = log_p[torch.arange(len(labels)), labels]
    others = (log_p.sum(1) - right) / (logits.shape[1] - 1)
    return -((1 - smoothing) * right + smoothing * others).mean()


def shares_short_of_one(logits, labels, smoothing):
    log_p = logits.log_softmax(1)
    right = log_p[torch.arange(len(labels)), labels]
    others = (log_p.sum(1) - right) / logits.shape[1]
    return -((1 - smoothing) * right + smoothing * others).mean()


def label_keeps_all(logits, labels, smoothing):
    log_p = logits.log_softmax(1)
    right = log_p[torch.arange(len(labels)), labels]
    return -(right + smoothing * log_p.mean(1)).mean()


def nothing_smoothed(logits, labels, smoothing):
    return -logits.log_softmax(1)[torch.arange(len(labels)), labels].mean()


def smoothing_turned_round(logits, labels, smoothing):
    log_p = logits.log_softmax(1)
    return -(smoothing * log_p[torch.arange(len(labels)), labels] + (1 - smoothing) * log_p.mean(1)).mean()


def sum_over_the_classes(logits, labels, smoothing):
    log_p = logits.log_softmax(1)
    return -((1 - smoothing) * log_p[torch.arange(len(labels)), labels] + smoothing * log_p.sum(1)).mean()


def sum_over_the_batch(logits, labels, smoothing):
    log_p = logits.log_softmax(1)
    return -((1 - smoothing) * log_p[torch.arange(len(labels)), labels] + smoothing * log_p.mean(1)).sum()


def mean_over_everything(logits, labels, smoothing):
    target = torch.full_like(logits, smoothing / logits.shape[1])
    target[torch.arange(len(labels)), labels] += 1 - smoothing
    return -(target * logits.log_softmax(1)).mean()


def log_of_softmax(logits, labels, smoothing):
    log_p = logits.softmax(1).log()
    return -((1 - smoothing) * log_p[torch.arange(len(labels)), labels] + smoothing * log_p.mean(1)).mean()


def softmax_over_the_batch(logits, labels, smoothing):
    log_p = logits.log_softmax(0)
    return -((1 - smoothing) * log_p[torch.arange(len(labels)), labels] + smoothing * log_p.mean(1)).mean()


def prediction_smoothed(logits, labels, smoothing):
    p = (1 - smoothing) * logits.softmax(1) + smoothing / logits.shape[1]
    return -p.log()[torch.arange(len(labels)), labels].mean()


def smoothing_by_targets(logits, labels, smoothing):
    onehot = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    target = onehot * (1 - smoothing) + smoothing / logits.shape[1]
    return -(target * F.log_softmax(logits, dim=1)).sum(1).mean()


def smoothing_by_nll(logits, labels, smoothing):
    log_p = F.log_softmax(logits, -1)
    return (1 - smoothing) * F.nll_loss(log_p, labels) - smoothing * log_p.mean(-1).mean()


def smoothing_by_logsumexp(logits, labels, smoothing):
    total = logits.logsumexp(1)
    right = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    return ((1 - smoothing) * (total - right) + smoothing * (total - logits.mean(1))).mean()


smoothing_exercise = Exercise(
    id="regularization.smooth_loss",
    lesson=LESSON,
    title="Label smoothing",
    answer="smooth_loss",
    criteria=(
        Criterion("loss", 1, Close(operations=64, scale=1.0)),
        Criterion("gradient", 1, Close(operations=64)),
    ),
    cases=smoothing_cases,
    probe=smoothing_probe,
    reference=smooth_loss,
    misconceptions=(
        Misconception(
            "spread_over_the_others",
            spread_over_the_others,
            "You spread s over the other classes alone, s/(K − 1) each. That is another definition in use; here, as in "
            "PyTorch and Keras, s is spread over all K classes, the right one too.",
            "The right class gets 1 − s + s/K, each other one s/K.",
        ),
        Misconception(
            "shares_short_of_one",
            shares_short_of_one,
            "The targets don't sum to 1: 1 − s for the label, and s/K for each of the K − 1 others leaves s/K over.",
            "The label gets s/K too: (1 − s) + s/K.",
        ),
        Misconception(
            "label_keeps_all",
            label_keeps_all,
            "The label keeps its whole weight and the others come on top: the targets sum to 1 + s.",
            "Take s away from the label first: 1 − s.",
        ),
        Misconception(
            "nothing_smoothed",
            nothing_smoothed,
            "This is the plain cross-entropy: s is not used.",
            "Add s times the mean over all classes of −log p, and weight the rest by 1 − s.",
        ),
        Misconception(
            "smoothing_turned_round",
            smoothing_turned_round,
            "The two weights are exchanged: with s = 0.1 the label counts a tenth.",
            "The label counts 1 − s, all classes together s.",
        ),
        Misconception(
            "sum_over_the_classes",
            sum_over_the_classes,
            "You give each class a target of s, not of s/K.",
            "Take the mean over the classes, not the sum.",
        ),
        Misconception(
            "sum_over_the_batch",
            sum_over_the_batch,
            "You sum over the batch: in the case “{case}” the loss is {ratio:.1f} × the mean. The step would grow with "
            "the size of the batch.",
            "Take the mean over the examples.",
        ),
        Misconception(
            "mean_over_everything",
            mean_over_everything,
            "You average over examples and classes. The K terms of one example are added up, not averaged: they are "
            "weighted already.",
            "Sum over the classes, then take the mean over the examples.",
        ),
        Misconception(
            "log_of_softmax",
            log_of_softmax,
            "In the case “{case}” softmax gives exactly 0 for some classes, and its logarithm is −∞.",
            "Use log_softmax, which never leaves the logarithms.",
        ),
        Misconception(
            "softmax_over_the_batch",
            softmax_over_the_batch,
            "Your softmax runs over the examples. Each example's probabilities sum to 1 over its classes.",
            "Take log_softmax over axis 1.",
        ),
        Misconception(
            "prediction_smoothed",
            prediction_smoothed,
            "You smooth the prediction. Smoothed is the target: the net itself must not be sure.",
            "Leave the prediction alone, and weight −log p by the smoothed target.",
        ),
    ),
    variants=(
        Variant("smoothing_by_targets", smoothing_by_targets),
        Variant("smoothing_by_nll", smoothing_by_nll),
        Variant("smoothing_by_logsumexp", smoothing_by_logsumexp),
    ),
    forbidden=(
        "torch.nn.functional.cross_entropy",
        "torch.nn.CrossEntropyLoss",
        "course_lib.regularizers",
    ),
    hints=(
        "What is the target of the right class, and of each other one? Do they sum to 1?",
        "Cross-entropy against a target t is −Σ t·log p, summed over the classes.",
        "log_p = logits.log_softmax(1); minus the mean over the batch of (1 − s)·log_p[label] + s·log_p.mean(1).",
    ),
    minutes=10,
)
