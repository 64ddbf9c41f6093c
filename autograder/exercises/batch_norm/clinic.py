"""The clinic: answers one picture at a time without eval(), and a "frozen" batch norm that drifts; and one question."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ...exercise import Case, Close, Criterion, Exercise, Explanation, Misconception, Variant

# ---------------------------------------------------------------- one picture at a time


def one_by_one_cases(seed):
    """Each mode a model may come in, with and without a batch norm of rows, one picture, large logits."""
    rng = np.random.default_rng(seed)

    def case(name, mode, n, rows, scale=1.0):
        return Case(
            name,
            {
                "images": rng.normal(1.0, 1.0, (n, 1, 4, 4)).astype(np.float32),
                "filters": rng.normal(size=(3, 1, 3, 3)).astype(np.float32),
                "weight": (rng.normal(size=(5, 12)) * scale).astype(np.float32),
                "mean": rng.normal(0.5, 0.5, 12).astype(np.float32),
                "variance": rng.uniform(0.5, 3.0, 12).astype(np.float32),
                "rows": rows,
                "mode": mode,
            },
        )

    yield case("batch norm of maps, a model in training", "train", 6, rows=False)
    yield case("batch norm of maps and of rows, a model in training", "train", 5, rows=True)
    yield case("a model in evaluation", "eval", 4, rows=True)
    yield case("in training, its first batch norm frozen in evaluation", "frozen", 4, rows=True)
    yield case("one picture", "train", 1, rows=False)
    yield case("logits in the hundreds", "train", 4, rows=False, scale=1e2)


def one_by_one_probe(candidate, case):
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.maps = nn.BatchNorm2d(3)
            self.rows = nn.BatchNorm1d(12) if case["rows"] else nn.Identity()
            self.conv, self.head = nn.Conv2d(1, 3, 3, bias=False), nn.Linear(12, 5, bias=False)
            self.sizes, self.graph = [], False

        def forward(self, images):
            self.sizes.append(len(images))
            self.graph = self.graph or torch.is_grad_enabled()
            return self.head(self.rows(self.maps(self.conv(images)).relu().flatten(1)))

    model = Model()
    with torch.no_grad():
        model.conv.weight.copy_(torch.tensor(case["filters"]))
        model.head.weight.copy_(torch.tensor(case["weight"]))
        model.maps.running_mean.copy_(torch.tensor(case["mean"][:3]))
        model.maps.running_var.copy_(torch.tensor(case["variance"][:3]))
        if case["rows"]:
            model.rows.running_mean.copy_(torch.tensor(case["mean"]))
            model.rows.running_var.copy_(torch.tensor(case["variance"]))
    model.train(case["mode"] != "eval")
    if case["mode"] == "frozen":
        model.maps.eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.tensor(case["images"])
    logits = candidate(model, images)
    after = model.state_dict()
    return {
        "logits": logits,
        "running statistics as before": after.keys() == state.keys()
        and all(torch.equal(after[name], state[name]) for name in state if "tracked" not in name),
        "every module's mode as before": [module.training for module in model.modules()] == modes,
        "no graph is built": not model.graph,
        "pictures in a call": max(model.sizes, default=0),
    }


def answer_one_by_one(model, images):
    """The logits (N, classes), each picture fed alone, in evaluation; the model is left as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            return torch.cat([model(image[None]) for image in images])
    finally:
        for module, training in modes:
            module.training = training


def as_it_came(model, images):
    with torch.no_grad():
        return torch.cat([model(image[None]) for image in images])


def doubled_to_silence_the_error(model, images):
    with torch.no_grad():
        return torch.cat([model(torch.stack([image, image]))[:1] for image in images])


def statistics_put_back(model, images):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        logits = torch.cat([model(image[None]) for image in images])
    model.load_state_dict(state)
    return logits


def whole_batch_in_training(model, images):
    with torch.no_grad():
        return model(images)


def whole_batch_in_evaluation(model, images):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.no_grad():
        logits = model(images)
    for module, training in modes:
        module.training = training
    return logits


def eval_left_on(model, images):
    model.eval()
    with torch.no_grad():
        return torch.cat([model(image[None]) for image in images])


def back_to_training_always(model, images):
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(image[None]) for image in images])
    model.train()
    return logits


def restored_in_one_call(model, images):
    before = model.training
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(image[None]) for image in images])
    model.train(before)
    return logits


def only_the_maps(model, images):
    modes = [(module, module.training) for module in model.modules()]
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    with torch.no_grad():
        logits = torch.cat([model(image[None]) for image in images])
    for module, training in modes:
        module.training = training
    return logits


def graph_built(model, images):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    logits = torch.cat([model(image[None]) for image in images])
    for module, training in modes:
        module.training = training
    return logits


def softmax_returned(model, images):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(image[None]).softmax(1) for image in images])
    for module, training in modes:
        module.training = training
    return logits


def one_by_one_with_split(model, images):
    modes = {name: module.training for name, module in model.named_modules()}
    with torch.inference_mode():
        logits = torch.cat([model.eval()(image) for image in images.split(1)], dim=0)
    for name, module in model.named_modules():
        module.training = modes[name]
    return logits.clone()


def one_by_one_on_a_copy(model, images):
    import copy

    sizes, flag = getattr(model, "sizes", None), torch.is_grad_enabled()
    twin = copy.deepcopy(model).eval()
    torch.set_grad_enabled(False)
    try:
        rows = [twin(images[i : i + 1])[0] for i in range(len(images))]
    finally:
        torch.set_grad_enabled(flag)
    if sizes is not None:
        sizes.extend(twin.sizes)
    return torch.stack(rows)


def one_by_one_norms_only(model, images):
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [norm.training for norm in norms]
    for norm in norms:
        norm.training = False
    out = []
    with torch.no_grad():
        for image in images:
            out.append(model(image.unsqueeze(0)).squeeze(0))
    for norm, training in zip(norms, before, strict=True):
        norm.training = training
    return torch.stack(out)


clinic_one_by_one = Exercise(
    id="batch_norm.clinic_one_by_one",
    lesson="04_batch_norm",
    title="Clinic: answers one picture at a time",
    answer="answer_one_by_one",
    criteria=(
        Criterion("logits", 2, Close(operations=128), requires=("pictures in a call",)),
        Criterion("running statistics as before", 1, requires=("logits",)),
        Criterion("every module's mode as before", 1, requires=("logits",)),
        Criterion("no graph is built", 0),
        Criterion("pictures in a call", 0),
    ),
    cases=one_by_one_cases,
    probe=one_by_one_probe,
    reference=answer_one_by_one,
    misconceptions=(
        Misconception(
            "as_it_came",
            as_it_came,
            "You take the model in whatever mode it comes. In training its batch norm normalizes each picture by that "
            "picture alone, raises where there is one number a feature, and moves its running statistics. no_grad does "
            "not change that.",
            "model.eval() before you answer.",
        ),
        Misconception(
            "doubled_to_silence_the_error",
            doubled_to_silence_the_error,
            "Feeding each picture twice silences PyTorch's error, and no more: the variance of two equal rows is 0, so "
            "the batch norm of rows forgets the picture.",
            "The error is right: what is missing is model.eval().",
        ),
        Misconception(
            "statistics_put_back",
            statistics_put_back,
            "The running statistics stay (put back, or held by momentum = 0), but the answers are still those of "
            "training mode: each picture normalized by itself.",
            "model.eval() makes batch norm *use* the running statistics, and then there is nothing to put back.",
        ),
        Misconception(
            "whole_batch_in_training",
            whole_batch_in_training,
            "You feed all pictures together in training mode, so that the answer for one depends on the others. The "
            "service has one picture at a time.",
            "model.eval(), then model(image[None]) for each.",
        ),
        Misconception(
            "whole_batch_in_evaluation",
            whole_batch_in_evaluation,
            "The logits are right, but you feed all pictures in one call. The service has one picture at a time.",
            "model(image[None]) for each, then torch.cat.",
        ),
        Misconception(
            "eval_left_on",
            eval_left_on,
            "The logits are right, but the model stays in evaluation. A training loop that calls this would go on "
            "without ever updating its running statistics.",
            "Note each module's .training first, and put it back.",
        ),
        Misconception(
            "back_to_training_always",
            back_to_training_always,
            "The logits are right, but afterwards the model is in training, however it came.",
            "Note each module's .training first, and put it back.",
        ),
        Misconception(
            "restored_in_one_call",
            restored_in_one_call,
            "You restore the mode of the whole model with one call. In the case “{case}” one batch norm had been "
            "frozen in evaluation; now it trains.",
            "Note and restore .training of every module in model.modules().",
        ),
        Misconception(
            "only_the_maps",
            only_the_maps,
            "Only nn.BatchNorm2d is put into evaluation. nn.BatchNorm1d is a class of its own.",
            "model.eval() reaches every module inside.",
        ),
        Misconception(
            "graph_built",
            graph_built,
            "The logits are right, but a graph is kept for a gradient that nobody wants: memory grows with every "
            "answer.",
            "with torch.no_grad():",
        ),
        Misconception(
            "softmax_returned",
            softmax_returned,
            "You return probabilities; asked are the logits.",
            "Leave the softmax out.",
        ),
    ),
    variants=(
        Variant("one_by_one_with_split", one_by_one_with_split),
        Variant("one_by_one_on_a_copy", one_by_one_on_a_copy),
        Variant("one_by_one_norms_only", one_by_one_norms_only),
    ),
    hints=(
        "What are mean and variance of a batch that holds one row? Which other statistics does the layer have?",
        "model.eval(), and with torch.no_grad(): one call a picture, image[None] of shape (1, C, H, W).",
        "Note [(module, module.training) for module in model.modules()] first, and put each back at the end.",
    ),
    minutes=12,
)

# ---------------------------------------------------------------- frozen, and yet it drifts


def frozen_cases(seed):
    """Fine-tuning on data of another mean and spread: more and fewer epochs, weight decay, a model in evaluation."""
    rng = np.random.default_rng(seed)

    def case(name, epochs=2, decay=0.0, mode="train", n=12):
        return Case(
            name,
            {
                "images": rng.normal(2.0, 2.0, (n, 1, 4, 4)).astype(np.float32),
                "labels": rng.integers(0, 3, n),
                "filters": rng.normal(size=(3, 1, 3, 3)).astype(np.float32),
                "weight": rng.normal(size=(4, 12)).astype(np.float32),
                "gamma": rng.uniform(0.5, 2.0, 4).astype(np.float32),
                "mean": rng.normal(0.0, 0.5, 4).astype(np.float32),
                "variance": rng.uniform(0.5, 3.0, 4).astype(np.float32),
                "epochs": epochs,
                "decay": decay,
                "mode": mode,
            },
        )

    yield case("two epochs")
    yield case("five epochs", epochs=5)
    yield case("with weight decay", decay=0.1)
    yield case("the model comes in evaluation", mode="eval")
    yield case("a batch of 2", n=2)
    yield case("one epoch", epochs=1)


def frozen_probe(candidate, case):
    import torch
    import torch.nn.functional as F
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential()
    model.conv = nn.Conv2d(1, 3, 3, bias=False)
    model.norm1 = nn.BatchNorm2d(3)
    model.relu = nn.ReLU()
    model.flatten = nn.Flatten()
    model.dense = nn.Linear(12, 4, bias=False)
    model.norm2 = nn.BatchNorm1d(4)
    model.drop = nn.Dropout(0.0)
    model.head = nn.Linear(4, 3)
    with torch.no_grad():
        model.conv.weight.copy_(torch.tensor(case["filters"]))
        model.dense.weight.copy_(torch.tensor(case["weight"]))
        for norm, c in ((model.norm1, 3), (model.norm2, 4)):
            norm.weight.copy_(torch.tensor(case["gamma"][:c]))
            norm.running_mean.copy_(torch.tensor(case["mean"][:c]))
            norm.running_var.copy_(torch.tensor(case["variance"][:c]))
        nn.init.eye_(model.head.weight)
        nn.init.zeros_(model.head.bias)
    model.train(case["mode"] == "train")
    model = candidate(model)
    if not isinstance(model, nn.Module):
        raise TypeError(f"{type(model).__name__} was returned where the model is expected: is a `return` missing?")
    x, y = torch.tensor(case["images"]), torch.tensor(case["labels"])
    start = [p.detach().clone() for p in (model.conv.weight, model.dense.weight, model.head.weight)]
    facts = {"output as handed back": model(x).detach()}
    model.train()
    facts |= {"output in training": model(x).detach(), "dropout is still on": model.drop.training}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, weight_decay=case["decay"])
    for _ in range(case["epochs"]):  # as in anybody's loop: train() at the start of each epoch, eval() at its end
        model.train()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        if loss.requires_grad:
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            model(x)
    end = (model.conv.weight, model.dense.weight, model.head.weight)
    facts["the other layers learn"] = all(not torch.equal(a, b) for a, b in zip(start, end, strict=True))
    maps, rows = torch.linspace(-2, 3, 24).view(2, 3, 2, 2), torch.linspace(-2, 3, 8).view(2, 4)
    with torch.no_grad():
        facts["what the norms do afterwards"] = torch.cat(
            [model.eval().norm1(maps).flatten(), model.norm2(rows).flatten()]
        )
    return facts


def freeze_norms(model):
    """The model, with its batch norms in inference for good: statistics, weight and bias stand still."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.requires_grad_(False)
            module.eval()
            module.train = lambda mode=True, module=module: module  # model.train() asks each child: this one declines
    return model


def no_gradient_only(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.requires_grad_(False)
    return model


def eval_once(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
    return model


def no_gradient_and_eval_once(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.requires_grad_(False).eval()
    return model


def momentum_zero(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.requires_grad_(False)
            module.momentum = 0.0
    return model


def weight_and_bias_learn(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True, module=module: module
    return model


def statistics_thrown_away(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.requires_grad_(False)
            module.track_running_stats = False
            module.running_mean = module.running_var = None
    return model


def maps_only(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
            module.eval()
            module.train = lambda mode=True, module=module: module
    return model


def whole_model_in_evaluation(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.requires_grad_(False)
    model.eval()
    model.train = lambda mode=True: model
    return model


def all_frozen(model):
    model.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True, module=module: module
    return model


def norms_taken_out(model):
    for name, module in list(model.named_children()):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            setattr(model, name, nn.Identity())
    return model


def statistics_reset(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
            module.requires_grad_(False).eval()
            module.train = lambda mode=True, module=module: module
    return model


def frozen_by_replacing(model):
    class Frozen(nn.Module):
        def __init__(self, norm):
            super().__init__()
            scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
            self.register_buffer("scale", scale)
            self.register_buffer("shift", norm.bias.detach() - norm.running_mean * scale)

        def forward(self, x):
            shape = (1, -1) + (1,) * (x.dim() - 2)
            return x * self.scale.view(shape) + self.shift.view(shape)

    for name, module in list(model.named_children()):
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            setattr(model, name, Frozen(module))
    return model


def frozen_by_hook(model):
    def back_to_evaluation(module, inputs):
        module.training = False

    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for parameter in module.parameters():
                parameter.requires_grad = False
            module.register_forward_pre_hook(back_to_evaluation)
    return model


def frozen_by_subclass(model):
    class Frozen1d(nn.BatchNorm1d):
        def train(self, mode=True):
            return super().train(False)

    class Frozen2d(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(False)

    for module in model.modules():
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d):
            module.__class__ = Frozen1d if isinstance(module, nn.BatchNorm1d) else Frozen2d
            module.train()
            module.weight.requires_grad_(False)
            module.bias.requires_grad_(False)
    return model


clinic_frozen = Exercise(
    id="batch_norm.clinic_frozen",
    lesson="04_batch_norm",
    title="Clinic: frozen, and yet it drifts",
    answer="freeze_norms",
    criteria=(
        Criterion(
            "output in training",
            2,
            Close(operations=256),
            requires=("the other layers learn", "dropout is still on"),
        ),
        Criterion(
            "what the norms do afterwards",
            2,
            Close(operations=256),
            requires=("the other layers learn",),
        ),
        Criterion("output as handed back", 0, Close(operations=256)),
        Criterion("the other layers learn", 0),
        Criterion("dropout is still on", 0),
    ),
    cases=frozen_cases,
    probe=frozen_probe,
    reference=freeze_norms,
    misconceptions=(
        Misconception(
            "no_gradient_only",
            no_gradient_only,
            "Weight and bias stand still, the running statistics do not: requires_grad speaks of gradients, and these "
            "move without any. Batch norm goes on normalizing by each new batch.",
            "Put the layers into evaluation too, and see to it that model.train() does not undo that.",
        ),
        Misconception(
            "eval_once",
            eval_once,
            "You call eval() on the batch norms once. The training loop's model.train() at the next epoch puts them "
            "back, and their weight and bias still learn.",
            "requires_grad_(False), and make eval() last: give the module a train() that declines.",
        ),
        Misconception(
            "no_gradient_and_eval_once",
            no_gradient_and_eval_once,
            "All is right until the loop calls model.train(): that puts every module inside into training, these too.",
            "Make eval() last: module.train = lambda mode=True: module, or replace the layer.",
        ),
        Misconception(
            "momentum_zero",
            momentum_zero,
            "With momentum 0 nothing drifts, but in training mode batch norm still normalizes by the batch: the head "
            "learns from other signals than it will get in evaluation.",
            "The layers have to run in evaluation.",
        ),
        Misconception(
            "weight_and_bias_learn",
            weight_and_bias_learn,
            "The statistics are frozen, but weight and bias are still learned (γ and β).",
            "module.requires_grad_(False).",
        ),
        Misconception(
            "statistics_thrown_away",
            statistics_thrown_away,
            "Without running statistics batch norm normalizes by the batch in both modes: what had "
            "been collected is gone.",
            "Keep them, and keep the layers in evaluation.",
        ),
        Misconception(
            "maps_only",
            maps_only,
            "nn.BatchNorm1d is a class of its own: the batch norm of the dense layer is not frozen.",
            "isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)).",
        ),
        Misconception(
            "whole_model_in_evaluation",
            whole_model_in_evaluation,
            "The whole model is kept in evaluation, so its dropout is off while the head trains.",
            "Override train() of the batch norms alone.",
        ),
        Misconception(
            "all_frozen",
            all_frozen,
            "You freeze every parameter: nothing learns, not even the head.",
            "requires_grad_(False) on the batch norms only.",
        ),
        Misconception(
            "norms_taken_out",
            norms_taken_out,
            "You took the batch norms out. The layers after them are used to normalized signals.",
            "Keep them, in evaluation.",
        ),
        Misconception(
            "statistics_reset",
            statistics_reset,
            "You reset the running statistics to 0 and 1 first, and so freeze what nobody measured.",
            "Leave them as they came.",
        ),
    ),
    variants=(
        Variant("frozen_by_replacing", frozen_by_replacing),
        Variant("frozen_by_hook", frozen_by_hook),
        Variant("frozen_by_subclass", frozen_by_subclass),
    ),
    forbidden=("course_lib.transfer",),
    hints=(
        "Two kinds of numbers: weight and bias move by gradients, the statistics by being in training mode.",
        "model.train() calls train(mode) on every module inside. How could one of them decline?",
        "For each batch norm: requires_grad_(False), eval(), and module.train = lambda mode=True, module=module: "
        "module.",
    ),
    minutes=15,
)

explain = Explanation(
    id="batch_norm.explain",
    lesson="04_batch_norm",
    title="Explain: the net that answers differently alone and in company",
    rubric={
        "says that in training mode batch norm normalizes by the batch, so an answer depends on the others in it": 1,
        "says that in evaluation it uses running statistics collected in training, so it does not": 1,
        "names model.eval() (PyTorch) or training=False (Keras), and that no_grad does not do it": 1,
        "says that calls in training mode have also moved the running statistics, and how to get them back": 1,
        "proposes a check, such as the same picture alone and in a batch, in both modes": 1,
    },
    minutes=10,
)
