"""What a number means elsewhere: accuracy and precision under another class balance; a head of averages."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

LESSON = "07_regularization"

# ---------------------------------------------------------------- metrics under a shifted class balance


def balance_cases(seed):
    """Two classes and several, a rare class, the test set's own balance, a class that is never predicted or gone."""
    rng = np.random.default_rng(seed)

    def case(name, balance, examples, predicted_never=None):
        k = len(balance)
        confusion = rng.integers(1, 20, (k, k)) + np.diag(rng.integers(20, 60, k))
        if predicted_never is not None:
            confusion[:, predicted_never] = 0
        confusion = np.round(confusion / confusion.sum(1, keepdims=True) * np.array(examples)[:, None]).astype(np.int64)
        confusion[:, 0] += confusion.sum(1) == 0
        return Case(name, {"confusion": confusion, "balance": np.array(balance, np.float32)})

    yield case("2 classes, tested 50:50, used at 90:10", [0.9, 0.1], [500, 500])
    yield case("2 classes, tested 50:50, used at 1:99", [0.01, 0.99], [400, 400])
    yield case("3 classes, tested unequal, used equal", [1 / 3, 1 / 3, 1 / 3], [300, 120, 60])
    yield case("4 classes, a rare one grows", [0.2, 0.2, 0.2, 0.4], [200, 150, 100, 30])
    yield case("a class that is never predicted", [0.25, 0.25, 0.5], [90, 150, 60], predicted_never=1)
    yield case("a class that no longer comes", [0.5, 0.5, 0.0], [100, 50, 100])
    yield case("one example of each class", [0.3, 0.5, 0.2], [3, 1, 2])


def balance_probe(candidate, case):
    import torch

    accuracy, precision, recall = candidate(torch.tensor(case["confusion"]), torch.tensor(case["balance"]))
    return {
        "accuracy": torch.as_tensor(accuracy, dtype=torch.float32),
        "precision": torch.as_tensor(precision, dtype=torch.float32),
        "recall": torch.as_tensor(recall, dtype=torch.float32),
    }


def under_balance(confusion, balance):
    """(accuracy, precision (K,), recall (K,)) where the classes come in the shares of `balance` (K,)."""
    rates = confusion / confusion.sum(1, keepdim=True)  # row c: what becomes of class c, whatever its share
    joint = balance[:, None] * rates
    predicted = joint.sum(0)
    precision = joint.diagonal() / torch.where(predicted > 0, predicted, 1)
    return joint.diagonal().sum(), precision, rates.diagonal()


def balance_ignored(confusion, balance):
    predicted = confusion.sum(0).clamp(min=1)
    right = confusion.diagonal()
    return right.sum() / confusion.sum(), right / predicted, right / confusion.sum(1)


def mean_of_the_recalls(confusion, balance):
    rates = confusion / confusion.sum(1, keepdim=True)
    predicted = rates.sum(0)
    precision = rates.diagonal() / torch.where(predicted > 0, predicted, 1)
    return rates.diagonal().mean(), precision, rates.diagonal()


def rows_and_columns_exchanged(confusion, balance):
    rates = confusion.T / confusion.T.sum(1, keepdim=True).clamp(min=1)
    joint = balance[:, None] * rates
    predicted = joint.sum(0)
    precision = joint.diagonal() / torch.where(predicted > 0, predicted, 1)
    return joint.diagonal().sum(), precision, rates.diagonal()


def counts_weighted(confusion, balance):
    joint = balance[:, None] * confusion
    joint = joint / joint.sum()
    predicted = joint.sum(0)
    precision = joint.diagonal() / torch.where(predicted > 0, predicted, 1)
    return joint.diagonal().sum(), precision, confusion.diagonal() / confusion.sum(1)


def precision_as_measured(confusion, balance):
    rates = confusion / confusion.sum(1, keepdim=True)
    precision = confusion.diagonal() / confusion.sum(0).clamp(min=1)
    return (balance * rates.diagonal()).sum(), precision, rates.diagonal()


def precision_and_recall_exchanged(confusion, balance):
    rates = confusion / confusion.sum(1, keepdim=True)
    joint = balance[:, None] * rates
    predicted = joint.sum(0)
    precision = joint.diagonal() / torch.where(predicted > 0, predicted, 1)
    return joint.diagonal().sum(), rates.diagonal(), precision


def nothing_predicted_divided(confusion, balance):
    rates = confusion / confusion.sum(1, keepdim=True)
    joint = balance[:, None] * rates
    return joint.diagonal().sum(), joint.diagonal() / joint.sum(0), rates.diagonal()


def balance_over_columns(confusion, balance):
    rates = confusion / confusion.sum(1, keepdim=True)
    joint = balance[None, :] * rates
    predicted = joint.sum(0)
    precision = joint.diagonal() / torch.where(predicted > 0, predicted, 1)
    return joint.diagonal().sum(), precision, rates.diagonal()


def recall_weighted(confusion, balance):
    rates = confusion / confusion.sum(1, keepdim=True)
    joint = balance[:, None] * rates
    predicted = joint.sum(0)
    precision = joint.diagonal() / torch.where(predicted > 0, predicted, 1)
    return joint.diagonal().sum(), precision, balance * rates.diagonal()


def metrics_by_loop(confusion, balance):
    k = len(balance)
    rate = [[float(confusion[i, j]) / float(confusion[i].sum()) for j in range(k)] for i in range(k)]
    share = [float(b) for b in balance]
    predicted = [sum(share[i] * rate[i][j] for i in range(k)) for j in range(k)]
    precision = [share[j] * rate[j][j] / predicted[j] if predicted[j] else 0.0 for j in range(k)]
    return sum(share[j] * rate[j][j] for j in range(k)), precision, [rate[j][j] for j in range(k)]


def metrics_by_matmul(confusion, balance):
    rates = (confusion.double().T / confusion.sum(1)).T
    right = balance.double() * rates.diagonal()
    predicted = balance.double() @ rates
    return right.sum(), torch.nan_to_num(right / predicted, nan=0.0), rates.diagonal()


def metrics_in_numpy(confusion, balance):
    counts, share = confusion.numpy().astype(float), balance.numpy().astype(float)
    scaled = counts * (share / counts.sum(1))[:, None]
    with np.errstate(invalid="ignore"):
        precision = np.nan_to_num(np.diag(scaled) / scaled.sum(0))
    return np.trace(scaled), precision, np.diag(counts) / counts.sum(1)


balance_exercise = Exercise(
    id="regularization.under_balance",
    lesson=LESSON,
    title="Accuracy and precision under another class balance",
    answer="under_balance",
    criteria=(
        Criterion("accuracy", 1, Close(operations=64)),
        Criterion("precision", 1, Close(operations=64, scale=1.0), requires=("accuracy",)),
        Criterion("recall", 1, Close(operations=64, scale=1.0), requires=("accuracy",)),
    ),
    cases=balance_cases,
    probe=balance_probe,
    reference=under_balance,
    misconceptions=(
        Misconception(
            "balance_ignored",
            balance_ignored,
            "These are the figures of the test set as it is. In the case “{case}” the net will meet the classes in "
            "other shares.",
            "Turn each row into rates, and weight the rows by the new shares.",
        ),
        Misconception(
            "mean_of_the_recalls",
            mean_of_the_recalls,
            "This is the balanced accuracy: every class counts alike. Asked is the balance that is given.",
            "Weight row c by balance[c].",
        ),
        Misconception(
            "rows_and_columns_exchanged",
            rows_and_columns_exchanged,
            "Rows and columns are exchanged: row c holds the examples that ARE of class c.",
            "Divide each row by its own sum.",
        ),
        Misconception(
            "counts_weighted",
            counts_weighted,
            "You weight the counts, so the test set's balance is still in them. In the case “{case}” that is as if "
            "both balances came together.",
            "Divide each row by its sum before you weight it.",
        ),
        Misconception(
            "precision_as_measured",
            precision_as_measured,
            "The accuracy is right, but the precision is the test set's. Precision changes most of all: where a class "
            "gets rare, the errors of the others swamp it.",
            "Take the precision from the weighted table as well.",
        ),
        Misconception(
            "precision_and_recall_exchanged",
            precision_and_recall_exchanged,
            "Precision and recall are exchanged.",
            "Precision asks: of what was called c, how much is c? It goes down a column.",
        ),
        Misconception(
            "nothing_predicted_divided",
            nothing_predicted_divided,
            "In the case “{case}” a class is never predicted, and you divide 0 by 0.",
            "Return 0 there.",
        ),
        Misconception(
            "balance_over_columns",
            balance_over_columns,
            "You weight the columns, what was predicted. The balance says how often each true class comes: the rows.",
            "balance[:, None] * rates",
        ),
        Misconception(
            "recall_weighted",
            recall_weighted,
            "Recall is a rate within one class: its share does not change it.",
            "Return the diagonal of the rates as it is.",
        ),
    ),
    variants=(
        Variant("metrics_by_loop", metrics_by_loop),
        Variant("metrics_by_matmul", metrics_by_matmul),
        Variant("metrics_in_numpy", metrics_in_numpy),
    ),
    hints=(
        "Which numbers of the table stay the same when the classes come in other shares: counts, or rates within a "
        "row?",
        "rates = confusion / confusion.sum(1, keepdim=True); row c then counts balance[c].",
        "joint = balance[:, None] * rates. Accuracy is its diagonal's sum, precision the diagonal over the column "
        "sums.",
    ),
    minutes=12,
)

# ---------------------------------------------------------------- global average pooling for a dense head


def head_cases(seed):
    """Square and oblong maps, maps of one pixel, as many maps as images and classes, large values, float64."""
    rng = np.random.default_rng(seed)

    def case(name, n, c, h, w, k, scale=1.0, dtype=np.float32):
        return Case(
            name,
            {
                "maps": (rng.normal(0.5, 1.0, (n, c, h, w)) * scale).astype(dtype),
                "weight": rng.normal(size=(k, c)).astype(dtype),
                "bias": rng.normal(1.0, 2.0, k).astype(dtype),
            },
        )

    yield case("4 images, 6 maps of 5 × 5, 3 classes", 4, 6, 5, 5, 3)
    yield case("3 images, 8 maps of 2 × 6, 10 classes", 3, 8, 2, 6, 10)
    yield case("maps of one pixel", 5, 4, 1, 1, 2)
    yield case("as many images, maps and classes", 4, 4, 4, 4, 4)
    yield case("one image", 1, 5, 3, 7, 6)
    yield case("values around ±1e4", 3, 5, 4, 4, 3, scale=1e4)
    yield case("float64", 2, 7, 6, 3, 5, dtype=np.float64)


def head_probe(candidate, case):
    import torch

    logits, small, large = candidate(*(torch.tensor(case[name]) for name in ("maps", "weight", "bias")))
    return {"logits": logits, "parameters of the two heads": torch.tensor([int(small), int(large)])}


def gap_head(maps, weight, bias):
    """(logits, the head's parameters, those of a dense head on all pixels of all maps)."""
    _, c, h, w = maps.shape
    k = len(bias)
    return maps.mean((2, 3)) @ weight.T + bias, c * k + k, c * h * w * k + k


def summed_maps(maps, weight, bias):
    _, c, h, w = maps.shape
    k = len(bias)
    return maps.sum((2, 3)) @ weight.T + bias, c * k + k, c * h * w * k + k


def largest_pixels(maps, weight, bias):
    _, c, h, w = maps.shape
    k = len(bias)
    return maps.amax((2, 3)) @ weight.T + bias, c * k + k, c * h * w * k + k


def one_axis_averaged(maps, weight, bias):
    _, c, h, w = maps.shape
    k = len(bias)
    return maps.mean(3)[:, :, 0] @ weight.T + bias, c * k + k, c * h * w * k + k


def centre_pixel(maps, weight, bias):
    _, c, h, w = maps.shape
    k = len(bias)
    return maps[:, :, h // 2, w // 2] @ weight.T + bias, c * k + k, c * h * w * k + k


def rectified_first(maps, weight, bias):
    _, c, h, w = maps.shape
    k = len(bias)
    return maps.relu().mean((2, 3)) @ weight.T + bias, c * k + k, c * h * w * k + k


def bias_not_added(maps, weight, bias):
    _, c, h, w = maps.shape
    k = len(bias)
    return maps.mean((2, 3)) @ weight.T, c * k + k, c * h * w * k + k


def biases_not_counted(maps, weight, bias):
    _, c, h, w = maps.shape
    k = len(bias)
    return maps.mean((2, 3)) @ weight.T + bias, c * k, c * h * w * k


def batch_counted(maps, weight, bias):
    n, c, h, w = maps.shape
    k = len(bias)
    return maps.mean((2, 3)) @ weight.T + bias, c * k + k, n * c * h * w * k + k


def one_map_counted(maps, weight, bias):
    _, c, h, w = maps.shape
    k = len(bias)
    return maps.mean((2, 3)) @ weight.T + bias, c * k + k, h * w * k + k


def probabilities_instead(maps, weight, bias):
    _, c, h, w = maps.shape
    k = len(bias)
    return (maps.mean((2, 3)) @ weight.T + bias).softmax(1), c * k + k, c * h * w * k + k


def head_by_pooling(maps, weight, bias):
    pooled = F.adaptive_avg_pool2d(maps, 1).flatten(1)
    return F.linear(pooled, weight, bias), weight.numel() + bias.numel(), maps[0].numel() * len(bias) + len(bias)


def head_by_einsum(maps, weight, bias):
    area = maps.shape[2] * maps.shape[3]
    logits = torch.einsum("nchw,kc->nk", maps, weight) / area + bias
    return logits, weight.numel() + len(bias), weight.numel() * area + len(bias)


def head_by_conv(maps, weight, bias):
    # the layers may change places: classify every pixel, then average
    logits = F.conv2d(maps, weight[:, :, None, None], bias).mean((2, 3))
    k, c = weight.shape
    return logits, (c + 1) * k, (maps[0].numel() + 1) * k


head_exercise = Exercise(
    id="regularization.gap_head",
    lesson=LESSON,
    title="Global average pooling instead of a dense head",
    answer="gap_head",
    criteria=(
        Criterion("logits", 1, Close(operations=128, scale=1.0)),
        Criterion("parameters of the two heads", 1, requires=("logits",)),
    ),
    cases=head_cases,
    probe=head_probe,
    reference=gap_head,
    misconceptions=(
        Misconception(
            "summed_maps",
            summed_maps,
            "You sum over the pixels. A larger image would then give larger logits; the mean does not depend on the "
            "size.",
            "Take the mean over height and width.",
        ),
        Misconception(
            "largest_pixels",
            largest_pixels,
            "This is global max pooling.",
            "Take the mean over height and width.",
        ),
        Misconception(
            "one_axis_averaged",
            one_axis_averaged,
            "Only one of the two spatial axes is averaged.",
            "maps.mean((2, 3))",
        ),
        Misconception(
            "centre_pixel",
            centre_pixel,
            "You take one pixel of each map; all others are thrown away.",
            "Take the mean over height and width.",
        ),
        Misconception(
            "rectified_first",
            rectified_first,
            "You cut the negative values off first. Nothing was said of a ReLU here.",
            "Average the maps as they are.",
        ),
        Misconception("bias_not_added", bias_not_added, "The bias is missing in the logits.", "Add bias."),
        Misconception(
            "biases_not_counted",
            biases_not_counted,
            "The logits are right, but the biases are not counted: each head has one for each class.",
            "Add the number of classes to both counts.",
        ),
        Misconception(
            "batch_counted",
            batch_counted,
            "The number of images is in your count. Parameters belong to the net, not to the batch.",
            "A dense head has C·H·W inputs.",
        ),
        Misconception(
            "one_map_counted",
            one_map_counted,
            "You count the pixels of one map. A dense head sees all C maps.",
            "A dense head has C·H·W inputs, and a weight from each to each class.",
        ),
        Misconception(
            "probabilities_instead",
            probabilities_instead,
            "You return probabilities. Asked are the logits.",
            "Leave the softmax out.",
        ),
    ),
    variants=(
        Variant("head_by_pooling", head_by_pooling),
        Variant("head_by_einsum", head_by_einsum),
        Variant("head_by_conv", head_by_conv),
    ),
    forbidden=("course_lib.pooling",),
    hints=(
        "How many numbers are left of one image when each map has been averaged?",
        "C numbers, one for each map; weight is (K, C). And how many numbers does a dense head get, if nothing is "
        "averaged?",
        "maps.mean((2, 3)) @ weight.T + bias; C·K + K and C·H·W·K + K parameters.",
    ),
    minutes=8,
)
