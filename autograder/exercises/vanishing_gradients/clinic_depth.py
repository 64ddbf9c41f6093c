"""Clinic: a net of many sigmoid layers that stays at chance, to be mended by at most two changes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from torch import nn

from ...exercise import Case, Criterion, Exercise, Misconception, Variant
from .backward import LESSON


def depth_cases(seed):
    """Depths, widths and sizes whose gradients at the start are read; at last a net that is trained for 60 steps."""
    rng = np.random.default_rng(seed)

    def case(name, hidden, width, trained=False, inputs=12, classes=4):
        labels = np.arange(128) % classes
        centres = 2 * rng.normal(size=(classes, inputs))
        x = centres[labels] + 0.5 * rng.normal(size=(128, inputs))
        return Case(
            name,
            {
                "x": x.astype(np.float32),
                "labels": labels,
                "sizes": np.array([inputs] + [width] * hidden + [classes]),
                "trained": trained,
                "torch_seed": int(rng.integers(1000)),
            },
        )

    yield case("20 layers of 24 units", 19, 24)
    yield case("30 layers of 24 units", 29, 24)
    yield case("10 layers of 40 units", 9, 40)
    yield case("20 layers of 32 units", 19, 32)
    yield case("5 inputs, 3 classes", 19, 24, inputs=5, classes=3)
    yield case("20 layers of 24 units, trained", 19, 24, trained=True)  # last: a wrong answer is mostly known before


def depth_probe(candidate, case):
    """What was changed against the sick net, how the gradient fares at the start, and whether the net learns."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    sizes = case["sizes"].tolist()
    x, labels = torch.tensor(case["x"]), torch.tensor(case["labels"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(case["torch_seed"])
        model = candidate(list(sizes))
        if not isinstance(model, nn.Module):
            raise TypeError(f"{type(model).__name__} came back where a model is expected")
        model.train()
        leaves = [m for m in model.modules() if not list(m.children())]
        dense = [m for m in leaves if isinstance(m, nn.Linear)]
        found = [layer.in_features for layer in dense] + [layer.out_features for layer in dense[-1:]]
        flat = (nn.Linear, nn.Flatten, nn.Identity)
        normalizing = (nn.BatchNorm1d, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
        bends = sorted({type(m).__name__ for m in leaves if not isinstance(m, flat + normalizing)})
        changes = []
        if bends != ["Sigmoid"]:
            changes.append("activation " + (" and ".join(bends) or "none"))
        # how PyTorch starts a dense layer: uniform, with a standard deviation of 1/√(3 fan_in)
        scales = [float(layer.weight.detach().std()) * (3 * layer.in_features) ** 0.5 for layer in dense[1:-1]]
        scale = sum(scales) / max(len(scales), 1)
        if not 0.85 < scale < 1.15:
            size = "zero" if not scale else "small" if scale < 0.85 else "fitting" if scale < 3.5 else "large"
            changes.append(f"start {size}")
        if any(isinstance(m, normalizing) for m in leaves):
            changes.append("normalization")
        weights = [layer.weight for layer in dense]
        called = []
        hooks = [m.register_forward_hook(lambda m, args, out: called.append(m)) for m in leaves]
        loss = F.cross_entropy(model(x), labels)
        for hook in hooks:
            hook.remove()
        if weights and loss.requires_grad:
            grads = torch.autograd.grad(loss, weights, allow_unused=True)
            norms = [0.0 if g is None else float(g.norm()) for g in grads]
        else:
            norms = [0.0, 0.0]
        reaches = bool(norms[-1]) and 0.01 < norms[0] / norms[-1] < 100
        learns = True
        if case["trained"]:
            optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
            for _ in range(60):
                loss = F.cross_entropy(model(x), labels)
                optimizer.zero_grad()
                if not loss.requires_grad:
                    break
                loss.backward()
                optimizer.step()
            learns = float((model(x).argmax(1) == labels).float().mean()) > 0.9
    ends = type(called[-1]).__name__ if called else "nothing"
    kept = found == sizes and bool(bends) and ends == "Linear" and len(set(map(id, dense))) == len(dense)
    facts = {
        "layers as asked": kept,
        "gradient reaches the first layer": reaches,
        "within the budget": len(changes) <= 2,
    }
    if case["trained"]:
        facts["it learns"] = learns
    seen = f"changed: {', '.join(changes) or 'nothing'}; {len(dense)} dense layers; ends in {ends}"
    return facts | {"seen": "nothing amiss" if all(facts.values()) else seen}


def mended_net(sizes):
    """A net of dense layers of these sizes whose first layer learns too: ReLU, and the start of He et al."""
    layers = []
    for n_in, n_out in pairwise(sizes):
        dense = nn.Linear(n_in, n_out)
        nn.init.kaiming_normal_(dense.weight, nonlinearity="relu")
        nn.init.zeros_(dense.bias)
        layers += [dense, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def as_it_was(sizes):
    layers = []
    for i in range(len(sizes) - 1):
        layers += [nn.Linear(sizes[i], sizes[i + 1]), nn.Sigmoid()]
    return nn.Sequential(*layers[:-1])


def activation_alone(sizes):
    layers = []
    for i in range(len(sizes) - 1):
        layers += [nn.Linear(sizes[i], sizes[i + 1]), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def start_alone(sizes):
    layers = []
    for i in range(len(sizes) - 1):
        dense = nn.Linear(sizes[i], sizes[i + 1])
        nn.init.xavier_normal_(dense.weight)
        nn.init.zeros_(dense.bias)
        layers += [dense, nn.Sigmoid()]
    return nn.Sequential(*layers[:-1])


def start_too_large(sizes):
    layers = []
    for i in range(len(sizes) - 1):
        dense = nn.Linear(sizes[i], sizes[i + 1])
        nn.init.normal_(dense.weight)
        layers += [dense, nn.Sigmoid()]
    return nn.Sequential(*layers[:-1])


def start_at_zero(sizes):
    layers = []
    for i in range(len(sizes) - 1):
        dense = nn.Linear(sizes[i], sizes[i + 1])
        nn.init.zeros_(dense.weight)
        layers += [dense, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def everything_at_once(sizes):
    layers = []
    for i in range(len(sizes) - 1):
        dense = nn.Linear(sizes[i], sizes[i + 1])
        nn.init.kaiming_normal_(dense.weight, nonlinearity="relu")
        layers += [dense, nn.BatchNorm1d(sizes[i + 1]), nn.ReLU()]
    return nn.Sequential(*layers[:-2])


def fewer_layers(sizes):
    return nn.Sequential(nn.Linear(sizes[0], sizes[1]), nn.Sigmoid(), nn.Linear(sizes[1], sizes[-1]))


def one_layer_repeated(sizes):
    first, middle, last = nn.Linear(sizes[0], sizes[1]), nn.Linear(sizes[1], sizes[1]), nn.Linear(sizes[-2], sizes[-1])
    for dense in (first, middle, last):
        nn.init.kaiming_normal_(dense.weight, nonlinearity="relu")
        nn.init.zeros_(dense.bias)
    return nn.Sequential(first, nn.ReLU(), *[middle, nn.ReLU()] * (len(sizes) - 3), last)


def activation_after_the_last(sizes):
    layers = []
    for i in range(len(sizes) - 1):
        dense = nn.Linear(sizes[i], sizes[i + 1])
        nn.init.kaiming_normal_(dense.weight, nonlinearity="relu")
        nn.init.zeros_(dense.bias)
        layers += [dense, nn.ReLU()]
    return nn.Sequential(*layers)


def softmax_at_the_end(sizes):
    layers = []
    for i in range(len(sizes) - 1):
        dense = nn.Linear(sizes[i], sizes[i + 1])
        nn.init.kaiming_normal_(dense.weight, nonlinearity="relu")
        nn.init.zeros_(dense.bias)
        layers += [dense, nn.ReLU()]
    return nn.Sequential(*layers[:-1], nn.Softmax(dim=1))


def no_activation_left(sizes):
    layers = []
    for i in range(len(sizes) - 1):
        dense = nn.Linear(sizes[i], sizes[i + 1])
        nn.init.zeros_(dense.bias)
        layers.append(dense)
    return nn.Sequential(*layers)


def mended_by_tanh(sizes):
    model = nn.Sequential()
    for i in range(len(sizes) - 1):
        model.append(nn.Linear(sizes[i], sizes[i + 1]))
        nn.init.xavier_uniform_(model[-1].weight)
        if i < len(sizes) - 2:
            model.append(nn.Tanh())
    return model


def mended_by_batch_norm(sizes):
    layers = []
    for i in range(len(sizes) - 2):
        dense = nn.Linear(sizes[i], sizes[i + 1])
        layers.append(nn.Sequential(dense, nn.BatchNorm1d(sizes[i + 1]), nn.Sigmoid()))
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def mended_by_selu(sizes):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(sizes[i], sizes[i + 1]) for i in range(len(sizes) - 2))
            self.out = nn.Linear(sizes[-2], sizes[-1])
            self.bend = nn.SELU()  # made last, called between
            for layer in self.layers:
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
                nn.init.zeros_(layer.bias)

        def forward(self, x):
            for layer in self.layers:
                x = self.bend(layer(x))
            return self.out(x)

    return Net()


clinic_depth = Exercise(
    id="vanishing_gradients.clinic_depth",
    lesson=LESSON,
    title="Clinic: twenty layers at chance",
    answer="mended_net",
    criteria=(
        Criterion(
            "gradient reaches the first layer", 1, requires=("layers as asked", "within the budget", "it learns")
        ),
        Criterion("it learns", 2, requires=("layers as asked", "within the budget")),
        Criterion("layers as asked", 0),
        Criterion("within the budget", 0),
        Criterion("seen", 0),
    ),
    cases=depth_cases,
    probe=depth_probe,
    reference=mended_net,
    misconceptions=(
        Misconception(
            "as_it_was",
            as_it_was,
            "This is the net as it came in: sigmoids, and weights too small for them.",
            "Which factor does each layer multiply the gradient by? Change what that factor is made of.",
        ),
        Misconception(
            "activation_alone",
            activation_alone,
            "Only the activation is changed. ReLU passes a slope of 1 for half of its units, but PyTorch's default "
            "weights are too small for it: each layer still shrinks the gradient, by about 0.4.",
            "One more change: let the weights start larger, as He et al. do for ReLU.",
        ),
        Misconception(
            "start_alone",
            start_alone,
            "Only the start of the weights is changed. It keeps the size of W in check, but each sigmoid still "
            "multiplies the gradient by at most 1/4.",
            "One more change: another activation, or normalization.",
        ),
        Misconception(
            "start_too_large",
            start_too_large,
            "The weights start so large that the sigmoids saturate: what W gains, their slopes lose, and the net stays "
            "at chance.",
            "With sigmoids alone no start carries the gradient through so many layers. Change the activation too, or "
            "normalize.",
        ),
        Misconception(
            "start_at_zero",
            start_at_zero,
            "With weights of 0 no gradient passes at all: it is multiplied by the weights on the way back.",
            "Start with random weights of a fitting size.",
        ),
        Misconception(
            "everything_at_once",
            everything_at_once,
            "It learns, but you changed three things: activation, start and normalization. The budget is two, and now "
            "you do not know which one it was.",
            "Take one out.",
        ),
        Misconception(
            "fewer_layers",
            fewer_layers,
            "You took layers out. That does cure it, but the net had to keep its sizes.",
            "Build all layers of `sizes`.",
        ),
        Misconception(
            "one_layer_repeated",
            one_layer_repeated,
            "Your hidden layers are one and the same object, repeated: they share their weights, so this is one layer "
            "used many times.",
            "Make a new nn.Linear in each turn of the loop.",
        ),
        Misconception(
            "activation_after_the_last",
            activation_after_the_last,
            "An activation follows the last layer. It cuts the logits: no class can get a negative one.",
            "Leave the last activation out.",
        ),
        Misconception(
            "softmax_at_the_end",
            softmax_at_the_end,
            "A softmax follows the last layer. F.cross_entropy applies it itself: twice, it flattens the probabilities "
            "and shrinks every gradient once more.",
            "End with the dense layer, whose outputs are the logits.",
        ),
        Misconception(
            "no_activation_left",
            no_activation_left,
            "There is no activation left: without one, all your layers together are a single linear map.",
            "Keep an activation between the layers.",
        ),
    ),
    variants=(
        Variant("mended_by_tanh", mended_by_tanh),
        Variant("mended_by_batch_norm", mended_by_batch_norm),
        Variant("mended_by_selu", mended_by_selu),
    ),
    forbidden=("course_lib.architectures.mlp",),
    hints=(
        "A layer multiplies the gradient by slope × weights. With sigmoids the slope is at most 1/4. What would bring "
        "the product near 1?",
        "Two ways fit the budget: another activation with weights to match, or a normalization before each sigmoid.",
        "nn.ReLU with nn.init.kaiming_normal_, or nn.Tanh with nn.init.xavier_normal_; the last layer has no "
        "activation.",
    ),
    minutes=15,
)
