"""MC dropout: a random forward pass with everything but dropout in inference."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from course_lib import dropout as reference

from ...exercise import Case, Close, Criterion, Exercise, Misconception, SameShare, Variant


def mc_cases(seed):
    """A model that arrives in training, in evaluation, and partly frozen; one sample; nothing dropped; whole maps."""
    rng = np.random.default_rng(seed)

    def case(name, mode, p=0.5, samples=8, maps=0, n=16, features=32):
        channels = maps or features
        return Case(
            name,
            {
                "x": rng.normal(2.0, 1.0, (n, features)).astype(np.float32),
                "gamma": rng.uniform(0.5, 2.0, channels).astype(np.float32),
                "mean": rng.normal(-1.0, 1.0, channels).astype(np.float32),
                "variance": rng.uniform(3.0, 9.0, channels).astype(np.float32),
                "p": p,
                "samples": samples,
                "mode": mode,
                "maps": maps,
            },
        )

    yield case("a model in training", "train")
    yield case("a model in evaluation, p = 0.3", "eval", p=0.3, samples=12)
    yield case("in training, its batch norm frozen in evaluation", "frozen")
    yield case("one sample", "eval", samples=1, n=60)
    yield case("p = 0", "train", p=0.0, samples=3)
    yield case("feature maps and Dropout2d", "eval", samples=20, maps=16, n=20, features=64)


def mc_probe(candidate, case):
    """Which normalization ran, and what dropout did. The head is the identity, so that both can be read off."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    x, maps = torch.tensor(case["x"]), case["maps"]
    features = x.shape[1]
    if maps:
        side = int((features // maps) ** 0.5)
        norm, drop = nn.BatchNorm2d(maps), nn.Dropout2d(case["p"])
        body = nn.Sequential(nn.Unflatten(1, (maps, side, side)), norm, drop, nn.Flatten())
    else:
        norm, drop = nn.BatchNorm1d(features), nn.Dropout(case["p"])
        body = nn.Sequential(norm, drop)
    head = nn.Linear(features, features, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.eye(features))
        norm.weight.copy_(torch.tensor(case["gamma"]))
        norm.running_mean.copy_(torch.tensor(case["mean"]))
        norm.running_var.copy_(torch.tensor(case["variance"]))
    model = nn.Sequential(body, head)
    model.train(case["mode"] != "eval")
    if case["mode"] == "frozen":
        norm.eval()

    def without_dropout(batch_statistics):
        z = x.view(len(x), maps or features, -1)
        running = (None, None) if batch_statistics else (norm.running_mean, norm.running_var)
        with torch.no_grad():
            return F.batch_norm(z, *running, norm.weight, norm.bias, batch_statistics, eps=norm.eps).flatten(1)

    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    by_running, by_batch = without_dropout(False), without_dropout(True)
    logits = candidate(model, x, case["samples"])
    facts = {
        "shape": torch.tensor(logits.shape),
        "every module's mode as before": [module.training for module in model.modules()] == modes,
        "running statistics as before": all(torch.equal(model.state_dict()[name], state[name]) for name in state),
        "no graph is kept": not logits.requires_grad,
    }
    if logits.shape != (case["samples"], *x.shape):
        return facts
    logits = logits.detach()
    kept, seen, factor = logits != 0, "neither running nor batch statistics", torch.tensor(float("nan"))
    for name, plain in (("running statistics", by_running), ("statistics of this batch", by_batch)):
        median = (logits / plain)[kept].median()
        if torch.allclose(logits, median * plain * kept, rtol=0, atol=1e-4 * float(median.abs() * plain.abs().max())):
            seen, factor = name, median
    step = features // maps if maps else 1  # one pixel stands for its map
    masks = kept[..., ::step].unique(dim=0)  # a repeated draw counts once, so that the draws are independent
    return facts | {
        "batch norm uses": seen,
        "kept units ÷ no dropout": factor,
        "share of units kept": masks.flatten(),
        "different masks": len(masks),
    }


def all_in_training(model, x, samples):
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    with torch.no_grad():
        logits = torch.stack([model(x) for _ in range(samples)])
    for module, training in modes:
        module.training = training
    return logits


def all_in_evaluation(model, x, samples):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.no_grad():
        logits = torch.stack([model(x) for _ in range(samples)])
    for module, training in modes:
        module.training = training
    return logits


def mode_as_it_came(model, x, samples):
    with torch.no_grad():
        return torch.stack([model(x) for _ in range(samples)])


def training_and_left_so(model, x, samples):
    model.train()
    with torch.no_grad():
        return torch.stack([model(x) for _ in range(samples)])


def never_restored(model, x, samples):
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.train()
    with torch.no_grad():
        return torch.stack([model(x) for _ in range(samples)])


def evaluation_afterwards(model, x, samples):
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.train()
    with torch.no_grad():
        logits = torch.stack([model(x) for _ in range(samples)])
    model.eval()
    return logits


def restored_wholesale(model, x, samples):
    before = model.training
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.train()
    with torch.no_grad():
        logits = torch.stack([model(x) for _ in range(samples)])
    model.train(before)
    return logits


def one_pass_repeated(model, x, samples):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.train()
    with torch.no_grad():
        logits = model(x).expand(samples, -1, -1)
    for module, training in modes:
        module.training = training
    return logits


def examples_first(model, x, samples):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.train()
    with torch.no_grad():
        logits = torch.stack([model(x) for _ in range(samples)], dim=1)
    for module, training in modes:
        module.training = training
    return logits


def mean_of_the_samples(model, x, samples):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.train()
    with torch.no_grad():
        logits = torch.stack([model(x) for _ in range(samples)]).mean(0)
    for module, training in modes:
        module.training = training
    return logits


def graph_kept(model, x, samples):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.train()
    logits = torch.stack([model(x) for _ in range(samples)])
    for module, training in modes:
        module.training = training
    return logits


def maps_forgotten(model, x, samples):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    with torch.no_grad():
        logits = torch.stack([model(x) for _ in range(samples)])
    for module, training in modes:
        module.training = training
    return logits


def probabilities_returned(model, x, samples):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.train()
    with torch.no_grad():
        logits = torch.stack([model(x).softmax(-1) for _ in range(samples)])
    for module, training in modes:
        module.training = training
    return logits


def mc_by_class_name(model, x, samples):
    modes = {name: module.training for name, module in model.named_modules()}
    try:
        for module in model.modules():
            module.training = "Dropout" in type(module).__name__
        with torch.inference_mode():
            return torch.stack([model(x) for _ in range(samples)])
    finally:
        for name, module in model.named_modules():
            module.training = modes[name]


def mc_in_one_batch(model, x, samples):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.train()
    with torch.no_grad():
        logits = model(x.repeat(samples, 1)).view(samples, len(x), -1)
    for module, training in modes:
        module.training = training
    return logits


def mc_on_a_copy(model, x, samples):
    import copy

    twin = copy.deepcopy(model).eval()
    twin.apply(lambda module: module.train() if isinstance(module, nn.Dropout | nn.Dropout2d) else None)
    logits = []
    for _ in range(samples):
        logits.append(twin(x).detach())
    return torch.stack(logits, dim=0)


def mc_without_batch_norm(model, x, samples):
    before = [module.training for module in model.modules()]
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    out = None
    with torch.no_grad():
        for k in range(samples):
            y = model(x)
            out = y.new_empty(samples, *y.shape) if out is None else out
            out[k] = y
    for module, training in zip(model.modules(), before, strict=True):
        module.training = training
    return out


mc_logits = Exercise(
    id="dropout.mc_logits",
    lesson="08_dropout",
    title="MC dropout: samples of thinned nets at test time",
    answer="mc_logits",
    criteria=(
        Criterion("share of units kept", 1, SameShare(), requires=("shape", "different masks")),
        Criterion("batch norm uses", 1, requires=("share of units kept", "running statistics as before")),
        Criterion("every module's mode as before", 1, requires=("share of units kept",)),
        Criterion("shape", 0),
        Criterion("different masks", 0),
        Criterion("kept units ÷ no dropout", 0, Close(operations=64)),
        Criterion("running statistics as before", 0),
        Criterion("no graph is kept", 0),
    ),
    cases=mc_cases,
    probe=mc_probe,
    reference=reference.mc_dropout,
    misconceptions=(
        Misconception(
            "all_in_training",
            all_in_training,
            "The whole model runs in training: batch norm then uses the statistics of this batch, so one image's "
            "prediction depends on the others, and its running statistics move while you only predict.",
            "model.eval() first, then .train() for the dropout layers alone.",
        ),
        Misconception(
            "training_and_left_so",
            training_and_left_so,
            "You call model.train() and leave it so: batch norm uses this batch's statistics and moves its running "
            "ones, and whoever evaluates next does so in training mode.",
            "model.eval() first, .train() for the dropout layers alone, and put every mode back at the end.",
        ),
        Misconception(
            "all_in_evaluation",
            all_in_evaluation,
            "After model.eval() dropout is off: all samples are the same.",
            "Switch the dropout layers back on: loop over model.modules() and call .train() on them.",
        ),
        Misconception(
            "mode_as_it_came",
            mode_as_it_came,
            "You take the model in whatever mode it comes. In evaluation all samples are the same; in training batch "
            "norm is in training too.",
            "Set the phases yourself: model.eval(), then .train() for the dropout layers.",
        ),
        Misconception(
            "never_restored",
            never_restored,
            "The samples are right, but the modes stay changed: the next evaluation would run with dropout on.",
            "Note each module's .training first, and put it back at the end.",
        ),
        Misconception(
            "evaluation_afterwards",
            evaluation_afterwards,
            "The samples are right, but afterwards the model is always in evaluation, however it came. A training "
            "loop that calls this between epochs would go on without dropout.",
            "Note each module's .training first, and put it back at the end.",
        ),
        Misconception(
            "restored_wholesale",
            restored_wholesale,
            "You restore the mode of the whole model with one call. In the case “{case}” one layer had been frozen in "
            "evaluation; now it trains.",
            "Note and restore .training of every module in model.modules().",
        ),
        Misconception(
            "one_pass_repeated",
            one_pass_repeated,
            "All samples are alike: there was one random pass, repeated (or the random generator was reset before "
            "each).",
            "Call the model once for each sample.",
        ),
        Misconception(
            "examples_first",
            examples_first,
            "The axes are (N, samples, classes). Asked is (samples, N, classes).",
            "torch.stack puts the new axis first by default: leave dim at 0.",
        ),
        Misconception(
            "mean_of_the_samples",
            mean_of_the_samples,
            "You return the mean over the samples. Their spread, which is what MC dropout is for, is lost.",
            "Return all samples: (samples, N, classes).",
        ),
        Misconception(
            "graph_kept",
            graph_kept,
            "The result still carries the graph of every pass: memory grows with the number of samples.",
            "Wrap the passes in torch.no_grad().",
        ),
        Misconception(
            "maps_forgotten",
            maps_forgotten,
            "In the case “{case}” all samples are the same: nn.Dropout2d is a class of its own, not an nn.Dropout.",
            "Look for all dropout classes: isinstance(module, (nn.Dropout, nn.Dropout2d)).",
        ),
        Misconception(
            "probabilities_returned",
            probabilities_returned,
            "You return probabilities. Asked are the logits, from which mean, entropy and mutual information are "
            "computed later.",
            "Leave the softmax out.",
        ),
    ),
    variants=(
        Variant("mc_by_class_name", mc_by_class_name),
        Variant("mc_in_one_batch", mc_in_one_batch),
        Variant("mc_on_a_copy", mc_on_a_copy),
        Variant("mc_without_batch_norm", mc_without_batch_norm),
    ),
    forbidden=("course_lib.dropout",),
    hints=(
        "Two kinds of layer differ between the phases. Which one should be random here, and which one must not?",
        "model.eval(), then loop over model.modules() and call .train() where isinstance(module, (nn.Dropout, "
        "nn.Dropout2d)).",
        "Note (module, module.training) for all modules before, stack the passes under torch.no_grad(), put the modes "
        "back after.",
    ),
    minutes=15,
)
