"""Features of a frozen trunk: computed once, and how far they move when it is frozen no longer."""

from __future__ import annotations

import numpy as np
import torch

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

# ---------------------------------------------------------------- computed once


def precompute_cases(seed):
    """Batches that divide the images and that don't, a last batch of one, trunks in each mode, one large batch."""
    rng = np.random.default_rng(seed)

    def case(name, n, batch_size, mode="train"):
        return Case(
            name,
            {
                "x": rng.normal(1.0, 2.0, (n, 2, 4, 4)).astype(np.float32),
                "batch_size": batch_size,
                "mode": mode,
                "seed": int(rng.integers(1, 10_000)),
            },
        )

    yield case("a trunk in training, 20 images by 8", 20, 8)
    yield case("a trunk in evaluation, 18 images by 6", 18, 6, mode="eval")
    yield case("33 images by 32", 33, 32)
    yield case("in training, its batch norm held in evaluation", 21, 8, mode="held")
    yield case("one by one", 5, 1, mode="eval")
    yield case("a batch size of 100", 12, 100)


def precompute_probe(candidate, case):
    import torch
    from torch import nn

    class Trunk(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.drop = nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.Dropout(0.5)
            self.sizes = []

        def forward(self, x):
            self.sizes.append(len(x))
            return self.drop(self.norm(self.conv(x)).relu()).mean((2, 3))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(case["seed"])
        trunk = Trunk()
        norm = trunk.norm
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(1, 4)
        trunk.train(case["mode"] != "eval")
        if case["mode"] == "held":
            norm.eval()
        modes = [module.training for module in trunk.modules()]
        before = torch.cat([norm.running_mean, norm.running_var])
        found = candidate(trunk, torch.tensor(case["x"]), case["batch_size"])
    if found is None:
        raise TypeError("None was returned where a tensor of features is expected: is a `return` missing?")
    return {
        "features": found,
        "without a graph": not found.requires_grad,
        "running statistics as before": torch.equal(
            before, torch.cat([trunk.norm.running_mean, trunk.norm.running_var])
        ),
        "every module's mode as before": [module.training for module in trunk.modules()] == modes,
        "largest batch": max(trunk.sizes, default=0),
    }


def precompute_features(trunk, inputs, batch_size):
    """The trunk's outputs for all inputs, in their order, in evaluation and without a graph; modes as before."""
    modes = [(module, module.training) for module in trunk.modules()]
    trunk.eval()
    try:
        with torch.no_grad():
            return torch.cat([trunk(batch) for batch in inputs.split(batch_size)])
    finally:
        for module, training in modes:
            module.training = training


def left_in_training(trunk, inputs, batch_size):
    with torch.no_grad():
        return torch.cat([trunk(batch) for batch in inputs.split(batch_size)])


def eval_never_undone(trunk, inputs, batch_size):
    trunk.eval()
    with torch.no_grad():
        return torch.cat([trunk(batch) for batch in inputs.split(batch_size)])


def always_back_to_training(trunk, inputs, batch_size):
    trunk.eval()
    with torch.no_grad():
        features = torch.cat([trunk(batch) for batch in inputs.split(batch_size)])
    trunk.train()
    return features


def graph_kept(trunk, inputs, batch_size):
    modes = [(module, module.training) for module in trunk.modules()]
    trunk.eval()
    features = torch.cat([trunk(batch) for batch in inputs.split(batch_size)])
    for module, training in modes:
        module.training = training
    return features


def shuffled(trunk, inputs, batch_size):
    modes = [(module, module.training) for module in trunk.modules()]
    trunk.eval()
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = torch.cat([trunk(batch) for batch in inputs[order].split(batch_size)])
    for module, training in modes:
        module.training = training
    return features


def last_batch_dropped(trunk, inputs, batch_size):
    modes = [(module, module.training) for module in trunk.modules()]
    trunk.eval()
    whole = max(len(inputs) // batch_size, 1) * batch_size
    with torch.no_grad():
        features = torch.cat([trunk(batch) for batch in inputs[:whole].split(batch_size)])
    for module, training in modes:
        module.training = training
    return features


def all_at_once(trunk, inputs, batch_size):
    modes = [(module, module.training) for module in trunk.modules()]
    trunk.eval()
    with torch.no_grad():
        features = trunk(inputs)
    for module, training in modes:
        module.training = training
    return features


def standardized_by_batch(trunk, inputs, batch_size):
    modes = [(module, module.training) for module in trunk.modules()]
    trunk.eval()
    found = []
    with torch.no_grad():
        for batch in inputs.split(batch_size):
            features = trunk(batch)
            found.append((features - features.mean(0)) / (features.std(0, correction=0) + 1e-6))
    for module, training in modes:
        module.training = training
    return torch.cat(found)


def precompute_into_one(trunk, inputs, batch_size):
    modes = {module: module.training for module in trunk.modules()}
    trunk.train(False)
    rows = []
    with torch.inference_mode():
        for start in range(0, len(inputs), batch_size):
            rows.extend(trunk(inputs[start : start + batch_size]).unbind())
        features = torch.stack(rows)
    for module, training in modes.items():
        module.training = training
    return features.clone()


def precompute_by_loader(trunk, inputs, batch_size):
    from torch.utils.data import DataLoader, TensorDataset

    modes = [module.training for module in trunk.modules()]
    try:
        trunk.eval()
        with torch.no_grad():
            found = [trunk(x) for (x,) in DataLoader(TensorDataset(inputs), batch_size=batch_size, shuffle=False)]
    finally:
        for module, training in zip(trunk.modules(), modes, strict=True):
            module.training = training
    return torch.vstack(found)


def precompute_on_a_copy(trunk, inputs, batch_size):
    import copy

    twin = copy.deepcopy(trunk).requires_grad_(False).eval()
    trunk.sizes = twin.sizes
    parts = -(-len(inputs) // batch_size)
    return torch.cat([twin(inputs[i * batch_size : (i + 1) * batch_size]) for i in range(parts)])


precompute_exercise = Exercise(
    id="transfer_learning.precompute_features",
    lesson="05_transfer_learning",
    title="The features of a frozen trunk, computed once",
    answer="precompute_features",
    criteria=(
        Criterion("features", 2, Close(operations=256)),
        Criterion("without a graph", 0.5, requires=("features",)),
        Criterion("running statistics as before", 0),
        Criterion("every module's mode as before", 0.5, requires=("features",)),
        Criterion("largest batch", 0),
    ),
    cases=precompute_cases,
    probe=precompute_probe,
    reference=precompute_features,
    misconceptions=(
        Misconception(
            "left_in_training",
            left_in_training,
            "The trunk is in training while you compute: its features depend on which images share a batch, dropout "
            "wipes "
            "out half of them, and the running statistics move. torch.no_grad() stops none of this.",
            "trunk.eval() first, and put the modes back afterwards.",
        ),
        Misconception(
            "eval_never_undone",
            eval_never_undone,
            "The features are right, but the trunk stays in evaluation. Whoever trains it later gets no dropout.",
            "Note each module's .training, and put it back.",
        ),
        Misconception(
            "always_back_to_training",
            always_back_to_training,
            "Afterwards you put everything into training, however it came. In the case “{case}” it came otherwise.",
            "Note each module's .training, and put just that back.",
        ),
        Misconception(
            "graph_kept",
            graph_kept,
            "The features still hang on their graph: every image's activations stay in memory, and a later backward() "
            "runs "
            "through the trunk, which is what precomputing was to save.",
            "Compute them under torch.no_grad().",
        ),
        Misconception(
            "shuffled",
            shuffled,
            "The features are right, but in another order than the images: each label now belongs to another image's "
            "features, and the head learns noise.",
            "Keep the order. Shuffle features and labels together, later.",
        ),
        Misconception(
            "last_batch_dropped",
            last_batch_dropped,
            "In the case “{case}” the images that do not fill a whole batch have no features.",
            "inputs.split(batch_size) gives the smaller last batch too.",
        ),
        Misconception(
            "all_at_once",
            all_at_once,
            "All images went through the trunk at once. With a real net and many images the memory does not suffice.",
            "Feed batches of `batch_size`.",
        ),
        Misconception(
            "standardized_by_batch",
            standardized_by_batch,
            "You standardize each batch by its own statistics: the same image gets other features in another batch.",
            "Return what the trunk gives. Standardize later, with the mean and spread of the training features.",
        ),
    ),
    variants=(
        Variant("precompute_into_one", precompute_into_one),
        Variant("precompute_by_loader", precompute_by_loader),
        Variant("precompute_on_a_copy", precompute_on_a_copy),
    ),
    forbidden=("course_lib.transfer",),
    hints=(
        "Which modules behave differently in training? Does torch.no_grad() change that?",
        "Note the modes, eval(), no_grad(), batch by batch in the order of the images, torch.cat, modes back.",
        "modes = [(m, m.training) for m in trunk.modules()]; trunk.eval(); with torch.no_grad(): features = "
        "torch.cat([trunk(b) for b in inputs.split(batch_size)]); then m.training = mode for each.",
    ),
    minutes=10,
)

# ---------------------------------------------------------------- how far they move


def moved_cases(seed):
    """Small and large moves, nothing moved, all zero, maps, one image, values around ±1e4, float64."""
    rng = np.random.default_rng(seed)

    def case(name, move, scale=1.0, shapes=((6, 5), (6, 3)), dtype=np.float32, quiet=False):
        before = [(rng.normal(size=shape) * scale).astype(dtype) for shape in shapes]
        after = [(b + move * scale * rng.normal(size=b.shape)).astype(dtype) for b in before]
        if quiet:
            before[0][:], after[0][:] = 0, 0
        return Case(
            name, {"early before": before[0], "early after": after[0], "late before": before[1], "late after": after[1]}
        )

    yield case("moved a little", 0.1)
    yield case("moved far", 3.0)
    yield case("nothing moved", 0.0)
    yield case("a layer that says nothing, before and after", 0.5, quiet=True)
    yield case("feature maps", 0.3, shapes=((4, 3, 2, 2), (4, 6)))
    yield case("one image", 0.4, shapes=((1, 8), (1, 4)))
    yield case("values around ±1e4, float64", 0.2, scale=1e4, dtype=np.float64)


def moved_probe(candidate, case):
    import torch

    before = {name: torch.tensor(case[f"{name} before"]) for name in ("early", "late")}
    after = {name: torch.tensor(case[f"{name} after"]) for name in ("early", "late")}
    found = candidate(before, after)
    dtype = before["early"].dtype
    return {
        "distances": torch.tensor([float(found[name]) for name in ("early", "late")], dtype=dtype),
        "layers": ", ".join(found),
    }


def features_moved(before, after):
    """{layer: ‖after − before‖ / ‖before‖}, floats; 0 where nothing moved."""
    found = {}
    for name, features in before.items():
        moved = (after[name] - features).norm()
        found[name] = float(moved / features.norm()) if moved > 0 else 0.0
    return found


def not_relative(before, after):
    return {name: float((after[name] - before[name]).norm()) for name in before}


def relative_to_after(before, after):
    found = {}
    for name in before:
        moved = (after[name] - before[name]).norm()
        found[name] = float(moved / after[name].norm()) if moved > 0 else 0.0
    return found


def squares_compared(before, after):
    found = {}
    for name in before:
        moved = (after[name] - before[name]).square().sum()
        found[name] = float(moved / before[name].square().sum()) if moved > 0 else 0.0
    return found


def norms_compared(before, after):
    found = {}
    for name in before:
        size = before[name].norm()
        found[name] = float((after[name].norm() - size).abs() / size) if size > 0 else 0.0
    return found


def mean_of_ratios(before, after):
    found = {}
    for name in before:
        a, b = before[name].flatten(1), after[name].flatten(1)
        moved, size = (b - a).norm(dim=1), a.norm(dim=1)
        found[name] = float((moved / size).mean()) if moved.sum() > 0 else 0.0
    return found


def absolute_values(before, after):
    found = {}
    for name in before:
        moved = (after[name] - before[name]).abs().sum()
        found[name] = float(moved / before[name].abs().sum()) if moved > 0 else 0.0
    return found


def by_angle(before, after):
    found = {}
    for name in before:
        a, b = before[name].flatten(), after[name].flatten()
        size = a.norm() * b.norm()
        found[name] = float(1 - (a @ b) / size) if size > 0 else 0.0
    return found


def zero_over_zero(before, after):
    return {name: float((after[name] - before[name]).norm() / before[name].norm()) for name in before}


def moved_by_sums(before, after):
    found = {}
    for name in before:
        difference = (after[name].double() - before[name].double()).pow(2).sum().sqrt()
        size = before[name].double().pow(2).sum().sqrt()
        found[name] = 0.0 if difference == 0 else (difference / size).item()
    return found


def moved_by_numpy(before, after):
    def distance(a, b):
        a, b = a.numpy().astype(float).ravel(), b.numpy().astype(float).ravel()
        return 0.0 if (a == b).all() else float(np.linalg.norm(b - a) / np.linalg.norm(a))

    return {name: distance(before[name], after[name]) for name in before}


def moved_by_mse(before, after):
    found = {}
    for name, a in before.items():
        error = torch.nn.functional.mse_loss(after[name], a)
        found[name] = torch.nan_to_num((error / a.square().mean()).sqrt(), nan=0.0)
    return found


moved_exercise = Exercise(
    id="transfer_learning.features_moved",
    lesson="05_transfer_learning",
    title="How far features move",
    answer="features_moved",
    criteria=(
        Criterion("distances", 2, Close(operations=256)),
        Criterion("layers", 0),
    ),
    cases=moved_cases,
    probe=moved_probe,
    reference=features_moved,
    misconceptions=(
        Misconception(
            "not_relative",
            not_relative,
            "You measure how far they moved, but not against what was there: a layer with large values seems to move "
            "most.",
            "Divide by the norm of the features before.",
        ),
        Misconception(
            "relative_to_after",
            relative_to_after,
            "You divide by the features after the move. The measure is then bounded, and a layer that was blown up "
            "hides it.",
            "Divide by the norm of the features before.",
        ),
        Misconception(
            "squares_compared",
            squares_compared,
            "You compare squared lengths: your number is the square of the right one.",
            "Take the roots: .norm().",
        ),
        Misconception(
            "norms_compared",
            norms_compared,
            "You compare two lengths. Features may turn all the way round and keep their length: the difference has to "
            "be "
            "taken first, then its norm.",
            "(after − before).norm() / before.norm().",
        ),
        Misconception(
            "mean_of_ratios",
            mean_of_ratios,
            "You average the ratios of single images. An image whose features are nearly 0 then decides the mean.",
            "One norm over all images, for each layer.",
        ),
        Misconception(
            "absolute_values",
            absolute_values,
            "You add up absolute values. Asked is the norm, the root of the sum of squares.",
            ".norm() of the difference, over .norm() of what was there.",
        ),
        Misconception(
            "by_angle",
            by_angle,
            "You measure the angle. Features that only grow or shrink would count as unmoved.",
            "(after − before).norm() / before.norm().",
        ),
        Misconception(
            "zero_over_zero",
            zero_over_zero,
            "In the case “{case}” a layer is silent before and after: 0/0 is NaN. It has not moved.",
            "Return 0 where nothing moved.",
        ),
    ),
    variants=(
        Variant("moved_by_sums", moved_by_sums),
        Variant("moved_by_numpy", moved_by_numpy),
        Variant("moved_by_mse", moved_by_mse),
    ),
    forbidden=("course_lib.transfer",),
    hints=(
        "How far is the point `after` from the point `before`? And how far was `before` from 0?",
        "(after − before).norm() / before.norm(), over all images and units of a layer at once.",
        "Where the difference is 0 return 0.0, else the ratio as a float: a dict with the names of `before`.",
    ),
    minutes=8,
)
