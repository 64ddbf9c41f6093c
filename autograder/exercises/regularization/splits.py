"""Who validates: stratified folds, standardized without a leak, and what Keras's `validation_split` takes."""

from __future__ import annotations

import math

import numpy as np
import torch

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

LESSON = "07_regularization"

# ---------------------------------------------------------------- k-fold


def fold_cases(seed):
    """Sorted and mixed labels, unequal classes, as many folds as examples of a class, a constant feature, float64."""
    rng = np.random.default_rng(seed)

    def case(name, labels, k, dtype=np.float32, constant=False):
        x = rng.normal(size=(len(labels), 3)) * rng.uniform(0.5, 5.0, 3) + rng.normal(size=3) * 4
        x[0] += 15.0  # one outlier, so that it matters who is in the training part
        if constant:
            x[:, 1] = 2.0
        return Case(name, {"x": x.astype(dtype), "labels": np.array(labels), "k": k})

    mixed = rng.permutation(np.repeat([0, 1, 2], [9, 6, 5]))
    yield case("20 examples of 3 classes, mixed, 4 folds", mixed, 4)
    yield case("sorted by class, 3 folds", np.repeat([0, 1, 2], 4), 3)
    yield case("two folds", rng.permutation(np.repeat([0, 1], 5)), 2)
    yield case("a rare class, 3 folds", rng.permutation(np.repeat([0, 1], [14, 3])), 3)
    yield case("a feature that never changes, 3 folds", rng.permutation(np.repeat([0, 1], 6)), 3, constant=True)
    yield case("float64, 5 folds", rng.permutation(np.repeat([0, 1, 2, 3], 5)), 5, dtype=np.float64)


def fold_probe(candidate, case):
    import torch

    folds = list(candidate(torch.tensor(case["x"]), torch.tensor(case["labels"]), case["k"]))
    parts = [torch.cat([fold[i] for fold in folds]) for i in range(4)]
    return {
        "folds": len(folds),
        "validation labels": parts[3],
        "training labels": parts[1],
        "training examples": parts[0],
        "validation examples": parts[2],
    }


def standardized_folds(x, labels, k):
    """k tuples (training x, labels, validation x, labels): stratified, each standardized by its training part."""
    fold = torch.zeros(len(labels), dtype=torch.int64)
    for c in labels.unique():
        of_class = (labels == c).nonzero().flatten()
        fold[of_class] = torch.arange(len(of_class)) % k
    folds = []
    for f in range(k):
        train, valid = x[fold != f], x[fold == f]
        mean, std = train.mean(0), train.std(0, correction=0)
        std = torch.where(std > 0, std, 1)
        folds.append(((train - mean) / std, labels[fold != f], (valid - mean) / std, labels[fold == f]))
    return folds


def standardized_before(x, labels, k):
    fold = torch.zeros(len(labels), dtype=torch.int64)
    for c in labels.unique():
        of_class = (labels == c).nonzero().flatten()
        fold[of_class] = torch.arange(len(of_class)) % k
    std = x.std(0, correction=0)
    x = (x - x.mean(0)) / torch.where(std > 0, std, 1)
    return [(x[fold != f], labels[fold != f], x[fold == f], labels[fold == f]) for f in range(k)]


def each_part_by_itself(x, labels, k):
    fold = torch.zeros(len(labels), dtype=torch.int64)
    for c in labels.unique():
        of_class = (labels == c).nonzero().flatten()
        fold[of_class] = torch.arange(len(of_class)) % k

    def standardized(part):
        std = part.std(0, correction=0)
        return (part - part.mean(0)) / torch.where(std > 0, std, 1)

    return [
        (standardized(x[fold != f]), labels[fold != f], standardized(x[fold == f]), labels[fold == f]) for f in range(k)
    ]


def in_blocks(x, labels, k):
    fold = torch.arange(len(labels)) * k // len(labels)
    folds = []
    for f in range(k):
        train, valid = x[fold != f], x[fold == f]
        mean, std = train.mean(0), train.std(0, correction=0)
        std = torch.where(std > 0, std, 1)
        folds.append(((train - mean) / std, labels[fold != f], (valid - mean) / std, labels[fold == f]))
    return folds


def dealt_by_position(x, labels, k):
    fold = torch.arange(len(labels)) % k
    folds = []
    for f in range(k):
        train, valid = x[fold != f], x[fold == f]
        mean, std = train.mean(0), train.std(0, correction=0)
        std = torch.where(std > 0, std, 1)
        folds.append(((train - mean) / std, labels[fold != f], (valid - mean) / std, labels[fold == f]))
    return folds


def blocks_of_each_class(x, labels, k):
    fold = torch.zeros(len(labels), dtype=torch.int64)
    for c in labels.unique():
        of_class = (labels == c).nonzero().flatten()
        fold[of_class] = torch.arange(len(of_class)) * k // len(of_class)
    folds = []
    for f in range(k):
        train, valid = x[fold != f], x[fold == f]
        mean, std = train.mean(0), train.std(0, correction=0)
        std = torch.where(std > 0, std, 1)
        folds.append(((train - mean) / std, labels[fold != f], (valid - mean) / std, labels[fold == f]))
    return folds


def parts_exchanged(x, labels, k):
    fold = torch.zeros(len(labels), dtype=torch.int64)
    for c in labels.unique():
        of_class = (labels == c).nonzero().flatten()
        fold[of_class] = torch.arange(len(of_class)) % k
    folds = []
    for f in range(k):
        train, valid = x[fold == f], x[fold != f]
        mean, std = train.mean(0), train.std(0, correction=0)
        std = torch.where(std > 0, std, 1)
        folds.append(((train - mean) / std, labels[fold == f], (valid - mean) / std, labels[fold != f]))
    return folds


def trains_on_everything(x, labels, k):
    fold = torch.zeros(len(labels), dtype=torch.int64)
    for c in labels.unique():
        of_class = (labels == c).nonzero().flatten()
        fold[of_class] = torch.arange(len(of_class)) % k
    mean, std = x.mean(0), x.std(0, correction=0)
    std = torch.where(std > 0, std, 1)
    return [((x - mean) / std, labels, (x[fold == f] - mean) / std, labels[fold == f]) for f in range(k)]


def unbiased_deviation(x, labels, k):
    fold = torch.zeros(len(labels), dtype=torch.int64)
    for c in labels.unique():
        of_class = (labels == c).nonzero().flatten()
        fold[of_class] = torch.arange(len(of_class)) % k
    folds = []
    for f in range(k):
        train, valid = x[fold != f], x[fold == f]
        mean, std = train.mean(0), train.std(0)
        std = torch.where(std > 0, std, 1)
        folds.append(((train - mean) / std, labels[fold != f], (valid - mean) / std, labels[fold == f]))
    return folds


def one_number_for_all_features(x, labels, k):
    fold = torch.zeros(len(labels), dtype=torch.int64)
    for c in labels.unique():
        of_class = (labels == c).nonzero().flatten()
        fold[of_class] = torch.arange(len(of_class)) % k
    folds = []
    for f in range(k):
        train, valid = x[fold != f], x[fold == f]
        mean, std = train.mean(), train.std(correction=0)
        folds.append(((train - mean) / std, labels[fold != f], (valid - mean) / std, labels[fold == f]))
    return folds


def constant_feature_divided(x, labels, k):
    fold = torch.zeros(len(labels), dtype=torch.int64)
    for c in labels.unique():
        of_class = (labels == c).nonzero().flatten()
        fold[of_class] = torch.arange(len(of_class)) % k
    folds = []
    for f in range(k):
        train, valid = x[fold != f], x[fold == f]
        mean, std = train.mean(0), train.std(0, correction=0)
        folds.append(((train - mean) / std, labels[fold != f], (valid - mean) / std, labels[fold == f]))
    return folds


def never_standardized(x, labels, k):
    fold = torch.zeros(len(labels), dtype=torch.int64)
    for c in labels.unique():
        of_class = (labels == c).nonzero().flatten()
        fold[of_class] = torch.arange(len(of_class)) % k
    return [(x[fold != f], labels[fold != f], x[fold == f], labels[fold == f]) for f in range(k)]


def folds_by_counting(x, labels, k):
    seen, fold = {}, []
    for label in labels.tolist():
        fold.append(seen.get(label, 0) % k)
        seen[label] = seen.get(label, 0) + 1
    fold = torch.tensor(fold)
    for f in range(k):
        train = x[fold != f]
        mean = train.mean(0)
        std = (train - mean).square().mean(0).sqrt()
        std[std == 0] = 1
        yield (train - mean) / std, labels[fold != f], (x[fold == f] - mean) / std, labels[fold == f]


def folds_by_onehot(x, labels, k):
    onehot = (labels[:, None] == labels.unique()[None, :]).long()
    place = (onehot.cumsum(0) - 1)[onehot.bool()]
    out = []
    for f in range(k):
        valid = (place % k == f).nonzero()[:, 0]
        train = (place % k != f).nonzero()[:, 0]
        var, mean = torch.var_mean(x[train], 0, correction=0)
        scale = var.sqrt().masked_fill(var == 0, 1.0)
        out.append([(x[train] - mean) / scale, labels[train], (x[valid] - mean) / scale, labels[valid]])
    return out


def folds_in_numpy(x, labels, k):
    values, y = x.numpy(), labels.numpy()
    fold = np.array([np.sum(y[:i] == y[i]) % k for i in range(len(y))])
    out = []
    for f in range(k):
        mean, std = values[fold != f].mean(0), values[fold != f].std(0)
        std = np.where(std > 0, std, 1).astype(values.dtype)
        parts = ((values[fold != f] - mean) / std, y[fold != f], (values[fold == f] - mean) / std, y[fold == f])
        out.append(tuple(torch.from_numpy(part) for part in parts))
    return out


folds_exercise = Exercise(
    id="regularization.standardized_folds",
    lesson=LESSON,
    title="Stratified folds, standardized without a leak",
    answer="standardized_folds",
    criteria=(
        Criterion("validation labels", 1),
        Criterion("training examples", 1, Close(operations=256, scale=4.0), requires=("validation labels",)),
        Criterion("validation examples", 2, Close(operations=512, scale=8.0), requires=("validation labels",)),
        Criterion("training labels", 0),
        Criterion("folds", 0),
    ),
    cases=fold_cases,
    probe=fold_probe,
    reference=standardized_folds,
    misconceptions=(
        Misconception(
            "standardized_before",
            standardized_before,
            "You standardize everything before you split: the mean and the deviation then know the validation "
            "examples. "
            "A small leak here, a large one where features are chosen or built in the same way.",
            "Split first; mean and deviation come from the training part of each fold.",
        ),
        Misconception(
            "each_part_by_itself",
            each_part_by_itself,
            "The validation part is standardized by its own mean and deviation. The net would meet other numbers for "
            "the same example, depending on its company.",
            "Use the training part's mean and deviation for both.",
        ),
        Misconception(
            "in_blocks",
            in_blocks,
            "The folds are blocks of neighbours. In the case “{case}” the labels are sorted or unequal, so some "
            "class is "
            "missing or rare in a training part.",
            "Deal each class out on its own: its first example to fold 0, its second to fold 1, …",
        ),
        Misconception(
            "dealt_by_position",
            dealt_by_position,
            "You deal by position, i mod k, whatever the class. The classes then spread by luck.",
            "Count within each class: its j-th example goes to fold j mod k.",
        ),
        Misconception(
            "blocks_of_each_class",
            blocks_of_each_class,
            "Each class is cut into blocks. That is stratified too, but asked is to deal: the j-th example of a class "
            "goes to fold j mod k.",
            "Replace the block number by j % k.",
        ),
        Misconception(
            "parts_exchanged",
            parts_exchanged,
            "The parts are exchanged: you train on one fold and validate on all others.",
            "Fold f validates; the rest trains.",
        ),
        Misconception(
            "trains_on_everything",
            trains_on_everything,
            "The training part holds all examples, those that validate too: nothing is left unseen.",
            "Train on what is not in fold f.",
        ),
        Misconception(
            "unbiased_deviation",
            unbiased_deviation,
            "The deviation is divided by N − 1, as torch does by itself. Asked is the mean square, divided by N.",
            "Use std(0, correction=0).",
        ),
        Misconception(
            "one_number_for_all_features",
            one_number_for_all_features,
            "One mean and one deviation serve for all features. Each feature has its own scale.",
            "Average over axis 0, the examples.",
        ),
        Misconception(
            "constant_feature_divided",
            constant_feature_divided,
            "In the case “{case}” one feature never changes, its deviation is 0, and you divide by it.",
            "Divide by 1 where the deviation is 0.",
        ),
        Misconception(
            "never_standardized",
            never_standardized,
            "The folds are right, but nothing is standardized.",
            "Subtract the training part's mean and divide by its deviation.",
        ),
    ),
    variants=(
        Variant("folds_by_counting", folds_by_counting),
        Variant("folds_by_onehot", folds_by_onehot),
        Variant("folds_in_numpy", folds_in_numpy),
    ),
    forbidden=("course_lib.regularizers",),
    hints=(
        "Number the examples of each class 0, 1, 2, … in their order. Which fold does number j go to?",
        "For each fold: split first, then take mean and deviation of the training part, and use them for both parts.",
        "For class c: where = (labels == c).nonzero().flatten(); fold[where] = torch.arange(len(where)) % k.",
    ),
    minutes=15,
)

# ---------------------------------------------------------------- validation_split


def split_cases(seed):
    """Sorted and mixed labels, shares that don't divide the number of examples, one half, two examples."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 8))
    yield Case("sorted by class, share 0.3", {"labels": np.repeat(np.arange(10), n), "share": 0.3})
    yield Case("sorted by class, share 0.1", {"labels": np.repeat(np.arange(10), 2 * n), "share": 0.1})
    yield Case("mixed, 23 examples, share 0.2", {"labels": rng.permutation(np.arange(23) % 4), "share": 0.2})
    yield Case("mixed, 47 examples, share 0.15", {"labels": rng.permutation(np.arange(47) % 5), "share": 0.15})
    yield Case("7 examples, share 0.5", {"labels": rng.integers(0, 3, 7), "share": 0.5})
    yield Case("two examples, share 0.4", {"labels": np.array([0, 1]), "share": 0.4})
    yield Case(
        "11 examples, the rare class last, share 0.25", {"labels": np.array([0, 1] * 4 + [2] * 3), "share": 0.25}
    )


def split_probe(candidate, case):
    import torch

    train, valid, missing = candidate(torch.tensor(case["labels"]), case["share"])
    return {
        "trains on": torch.as_tensor(train),
        "validates on": torch.as_tensor(valid),
        "classes never trained on": torch.as_tensor(missing, dtype=torch.int64),
    }


def keras_split(labels, share):
    """(training indices, validation indices, the classes that only validate, ascending)."""
    at = math.floor(len(labels) * (1 - share))
    index = torch.arange(len(labels))
    missing = sorted(set(labels[at:].tolist()) - set(labels[:at].tolist()))
    return index[:at], index[at:], missing


def first_examples_validate(labels, share):
    at = len(labels) - int(len(labels) * (1 - share))
    index = torch.arange(len(labels))
    missing = sorted(set(labels[:at].tolist()) - set(labels[at:].tolist()))
    return index[at:], index[:at], missing


def shuffled_first(labels, share):
    at = int(len(labels) * (1 - share))
    index = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    missing = sorted(set(labels[index[at:]].tolist()) - set(labels[index[:at]].tolist()))
    return index[:at], index[at:], missing


def validation_rounded_down(labels, share):
    at = len(labels) - int(len(labels) * share)
    index = torch.arange(len(labels))
    missing = sorted(set(labels[at:].tolist()) - set(labels[:at].tolist()))
    return index[:at], index[at:], missing


def parts_in_the_other_order(labels, share):
    at = int(len(labels) * (1 - share))
    index = torch.arange(len(labels))
    missing = sorted(set(labels[at:].tolist()) - set(labels[:at].tolist()))
    return index[at:], index[:at], missing


def share_trains(labels, share):
    at = int(len(labels) * share)
    index = torch.arange(len(labels))
    missing = sorted(set(labels[at:].tolist()) - set(labels[:at].tolist()))
    return index[:at], index[at:], missing


def every_so_many(labels, share):
    index = torch.arange(len(labels))
    chosen = index % round(1 / share) == 0
    missing = sorted(set(labels[chosen].tolist()) - set(labels[~chosen].tolist()))
    return index[~chosen], index[chosen], missing


def nothing_is_missing(labels, share):
    at = int(len(labels) * (1 - share))
    index = torch.arange(len(labels))
    return index[:at], index[at:], []


def classes_of_the_validation_part(labels, share):
    at = int(len(labels) * (1 - share))
    index = torch.arange(len(labels))
    return index[:at], index[at:], sorted(set(labels[at:].tolist()))


def never_validated_instead(labels, share):
    at = int(len(labels) * (1 - share))
    index = torch.arange(len(labels))
    return index[:at], index[at:], sorted(set(labels[:at].tolist()) - set(labels[at:].tolist()))


def split_by_isin(labels, share):
    at = int(len(labels) * (1 - share))
    index = torch.arange(len(labels))
    classes = labels[at:].unique()
    return index[:at], index[at:], classes[~torch.isin(classes, labels[:at])]


def split_by_ranges(labels, share):
    n = labels.shape[0]
    at = int(np.floor(n * (1.0 - share)))
    seen = {int(label) for label in labels[:at]}
    missing = []
    for label in labels[at:].tolist():
        if label not in seen and label not in missing:
            missing.append(label)
    return list(range(at)), list(range(at, n)), sorted(missing)


def split_by_bincount(labels, share):
    at = int((1 - share) * len(labels))
    trained = torch.bincount(labels[:at], minlength=int(labels.max()) + 1)
    every = torch.bincount(labels, minlength=int(labels.max()) + 1)
    train, valid = torch.arange(len(labels)).split([at, len(labels) - at])
    return train, valid, ((every > 0) & (trained == 0)).nonzero().flatten()


split_exercise = Exercise(
    id="regularization.keras_split",
    lesson=LESSON,
    title="What validation_split takes",
    answer="keras_split",
    criteria=(
        Criterion("trains on", 1),
        Criterion("validates on", 1, requires=("trains on",)),
        Criterion("classes never trained on", 1, requires=("validates on",)),
    ),
    cases=split_cases,
    probe=split_probe,
    reference=keras_split,
    misconceptions=(
        Misconception(
            "first_examples_validate",
            first_examples_validate,
            "You take the first examples. Keras takes the last.",
            "Training ends where validation begins: at n·(1 − share), rounded down.",
        ),
        Misconception(
            "shuffled_first",
            shuffled_first,
            "You shuffle before you split. Keras does not: `shuffle=True` mixes the training part, after the split.",
            "Leave the examples in their order.",
        ),
        Misconception(
            "validation_rounded_down",
            validation_rounded_down,
            "You round the validation part down. Keras rounds the training part down, so that the validation part gets "
            "the odd example.",
            "at = floor(n · (1 − share))",
        ),
        Misconception(
            "parts_in_the_other_order",
            parts_in_the_other_order,
            "The parts are right, but come in the other order.",
            "Return the training indices first.",
        ),
        Misconception(
            "share_trains",
            share_trains,
            "You train on the share. It is what validates.",
            "The training part is 1 − share.",
        ),
        Misconception(
            "every_so_many",
            every_so_many,
            "You take examples from all over the data. That would be wiser than what Keras does; it takes the last "
            "ones in one block.",
            "Cut once, at floor(n · (1 − share)).",
        ),
        Misconception(
            "nothing_is_missing",
            nothing_is_missing,
            "In the case “{case}” some classes stand at the end only: the net never trains on them.",
            "Compare the classes of the two parts.",
        ),
        Misconception(
            "classes_of_the_validation_part",
            classes_of_the_validation_part,
            "You list all classes of the validation part. Asked are those that the training part lacks.",
            "Take the training part's classes away.",
        ),
        Misconception(
            "never_validated_instead",
            never_validated_instead,
            "You list the classes that are never validated. Asked are those that are never trained on.",
            "Classes of the validation part, without those of the training part.",
        ),
    ),
    variants=(
        Variant("split_by_isin", split_by_isin),
        Variant("split_by_ranges", split_by_ranges),
        Variant("split_by_bincount", split_by_bincount),
    ),
    forbidden=("course_lib.regularizers",),
    hints=(
        "Does Keras shuffle before it cuts, or after? Which end does it cut off?",
        "One cut, at n·(1 − share), rounded down. What is left after the cut validates.",
        "at = int(len(labels) * (1 - share)); then sets of labels[:at] and labels[at:].",
    ),
    minutes=8,
)
