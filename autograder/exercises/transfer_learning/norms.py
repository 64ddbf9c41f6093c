"""Batch norm inside a frozen part: which modules belong in training, and which in inference."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant


def norm_cases(seed):
    """Frozen up to somewhere, nothing, all but the head, half a norm, maps, and models that come in other modes."""
    rng = np.random.default_rng(seed)

    def case(name, frozen, mode="train", kind="rows", norm_mode="as the model"):
        shape = (8, 6) if kind == "rows" else (6, 3, 4, 4)
        return Case(
            name,
            {
                "frozen": frozen,
                "mode": mode,
                "kind": kind,
                "norm_mode": norm_mode,
                "seed": int(rng.integers(1, 10_000)),
                "x": rng.normal(1.0, 2.0, shape).astype(np.float32),
            },
        )

    yield case("frozen up to the first norm", "stem norm1")
    yield case("all but the head frozen, the model comes in evaluation", "stem norm1 mid norm2", mode="eval")
    yield case("nothing frozen, the model comes in evaluation", "", mode="eval")
    yield case("of a norm only the scale is frozen", "stem norm1.weight")
    yield case("maps, all but the head frozen", "stem norm1 mid norm2", kind="maps")
    yield case("a norm that trains comes in evaluation", "stem norm1", norm_mode="norm2 in evaluation")
    yield case("the layers are frozen, their norms are not", "stem mid")


def norm_probe(candidate, case):
    from collections import OrderedDict

    import torch
    from torch import nn

    rows = case["kind"] == "rows"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(case["seed"])
        layer = (lambda i, o: nn.Linear(i, o)) if rows else (lambda i, o: nn.Conv2d(i, o, 2))
        norm = nn.BatchNorm1d if rows else nn.BatchNorm2d
        model = nn.Sequential(
            OrderedDict(
                stem=layer(6 if rows else 3, 5),
                norm1=norm(5),
                drop=nn.Dropout(0.0),
                mid=layer(5, 4),
                norm2=norm(4),
                plain=norm(4, affine=False),
                flat=nn.Flatten(),
                head=nn.Linear(4 if rows else 16, 3),
            )
        )
        x = torch.tensor(case["x"])
        model.eval()(x)
        for module in (model.norm1, model.norm2, model.plain):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(1, 4)
    for name, parameter in model.named_parameters():
        frozen = any(name == part or name.startswith(part + ".") for part in case["frozen"].split())
        parameter.requires_grad_(not frozen)
    model.train(case["mode"] == "train")
    if case["norm_mode"] != "as the model":
        model.norm2.eval()
    flags = [p.requires_grad for p in model.parameters()]
    candidate(model)
    output = model(x)
    return {
        "output": output,
        "running statistics": torch.cat(
            [s for m in (model.norm1, model.norm2, model.plain) for s in (m.running_mean, m.running_var)]
        ),
        "modules in training": ", ".join(name for name, module in model.named_modules() if name and module.training),
        "flags as before": [p.requires_grad for p in model.parameters()] == flags,
    }


def start_training(model):
    """The model, in training; but a batch norm whose own parameters are all frozen is in evaluation."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            own = list(module.parameters(recurse=False))
            if own and not any(p.requires_grad for p in own):
                module.eval()
    return model


def train_alone(model):
    return model.train()


def all_in_evaluation(model):
    return model.eval()


def every_norm_held(model):
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            module.eval()
    return model


def everything_without_trainable_weights(model):
    model.train()
    for module in model.children():
        if not any(p.requires_grad for p in module.parameters()):
            module.eval()
    return model


def half_frozen_held(model):
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            own = list(module.parameters())
            if any(not p.requires_grad for p in own):
                module.eval()
    return model


def norm_without_parameters_held(model):
    model.train()
    for module in model.modules():
        is_norm = isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
        if is_norm and all(not p.requires_grad for p in module.parameters()):
            module.eval()
    return model


def rows_only(model):
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            own = list(module.parameters())
            if own and not any(p.requires_grad for p in own):
                module.eval()
    return model


def statistics_stopped(model):
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            own = list(module.parameters())
            if own and not any(p.requires_grad for p in own):
                module.momentum = 0.0
    return model


def norm_of_a_frozen_layer(model):
    model.train()
    before = None
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            before = module
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.affine:
            module.train(any(p.requires_grad for p in before.parameters()))
    return model


def start_by_names(model):
    model.train(True)
    flags = dict(model.named_parameters())
    for name, module in model.named_modules():
        if "BatchNorm" in type(module).__name__:
            own = [flags[f"{name}.{part}"].requires_grad for part in ("weight", "bias") if f"{name}.{part}" in flags]
            module.train(not own or any(own))


def start_by_sets(model):
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)]
    frozen = [m for m in norms if m.affine and not (m.weight.requires_grad or m.bias.requires_grad)]
    for module in model.modules():
        module.training = module not in frozen


def start_recursively(model):
    def visit(module):
        own = list(module.parameters(recurse=False))
        is_norm = isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
        module.training = not (is_norm and own and all(not p.requires_grad for p in own))
        for child in module.children():
            visit(child)

    visit(model)
    return model


norms_exercise = Exercise(
    id="transfer_learning.start_training",
    lesson="05_transfer_learning",
    title="Batch norm inside a frozen part",
    answer="start_training",
    criteria=(
        Criterion("output", 1, Close(operations=256), requires=("running statistics",)),
        Criterion("running statistics", 2, Close(operations=256)),
        Criterion("modules in training", 1, requires=("running statistics",)),
        Criterion("flags as before", 0),
    ),
    cases=norm_cases,
    probe=norm_probe,
    reference=start_training,
    misconceptions=(
        Misconception(
            "train_alone",
            train_alone,
            "model.train() puts every batch norm into training, the frozen ones too: they normalize by your batch and "
            "move "
            "their running statistics. requires_grad_(False) does not stop that. (If you called eval() on them before "
            "model.train(), it was undone.)",
            "After model.train(), call eval() on each batch norm whose parameters are frozen.",
        ),
        Misconception(
            "all_in_evaluation",
            all_in_evaluation,
            "The whole model is in evaluation: the norms that train use old statistics, and dropout is off.",
            "Only the frozen batch norms stay in evaluation; everything else goes to training.",
        ),
        Misconception(
            "every_norm_held",
            every_norm_held,
            "You hold every batch norm. In the case “{case}” some of them train.",
            "Look at each norm's own parameters.",
        ),
        Misconception(
            "everything_without_trainable_weights",
            everything_without_trainable_weights,
            "Everything without trainable weights goes to evaluation: dropout and a norm without parameters too, which "
            "were never frozen.",
            "Choose by isinstance: batch norms alone, and of these the ones that have parameters.",
        ),
        Misconception(
            "half_frozen_held",
            half_frozen_held,
            "In the case “{case}” a norm trains its shift, and only its scale is frozen; you hold it all the same.",
            "Hold a norm where none of its parameters trains.",
        ),
        Misconception(
            "norm_without_parameters_held",
            norm_without_parameters_held,
            "A batch norm without parameters of its own (affine=False) goes to evaluation: `all` of nothing is true. "
            "Nobody "
            "froze it.",
            "Ask also whether it has parameters at all.",
        ),
        Misconception(
            "rows_only",
            rows_only,
            "The batch norms of maps still drift: they are nn.BatchNorm2d, and you look for nn.BatchNorm1d.",
            "isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d).",
        ),
        Misconception(
            "statistics_stopped",
            statistics_stopped,
            "The running statistics stand still, but the frozen norms still normalize by the batch: an image's "
            "features "
            "depend on the images beside it.",
            "module.eval() does both.",
        ),
        Misconception(
            "norm_of_a_frozen_layer",
            norm_of_a_frozen_layer,
            "You ask whether the layer before the norm is frozen. In the case “{case}” the norm itself trains.",
            "Ask the norm's own parameters.",
        ),
    ),
    variants=(
        Variant("start_by_names", start_by_names),
        Variant("start_by_sets", start_by_sets),
        Variant("start_recursively", start_recursively),
    ),
    forbidden=("course_lib.transfer",),
    hints=(
        "model.train() sets the flag on every module inside. Which of them should be set back?",
        "list(module.parameters(recurse=False)) are a module's own parameters. What of a norm that has none?",
        "model.train(); then for each batch norm in model.modules() with parameters, none of which requires a "
        "gradient: "
        "module.eval().",
    ),
    minutes=10,
)
