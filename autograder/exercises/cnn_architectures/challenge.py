"""The challenge: the best net within a budget of parameters and of multiply-adds.

The learner hands in a function that makes a net and its optimizer; the probe trains it, always on as many batches, so
that what it costs follows from the net and not from the machine. The pictures are silhouettes of animals, turned,
shifted and made noisy by the case's seed, and the classes are numbered anew, so that neither a table of known pictures
nor a net that comes trained has the answers. The labels of the pictures that it is judged by are withheld: they never
travel to a learner's kernel.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ...exercise import AtMost, Case, Criterion, Exercise, Misconception, Scale, Variant

PARAMETERS = 20_000
MULTIPLY_ADDS = 400_000  # of one picture, forward
STEPS, BATCH = 100, 64
SIDE, CLASSES, TRAINING, HIDDEN = 16, 10, 1200, 400
SCALE = Scale(low=0.2, full=0.5)
PASSES_OF_SHAPES = (  # name, channels, side, classes, pictures
    ("a picture of the contest, for the budgets", 1, SIDE, CLASSES, 3),
    ("three channels, 20 pixels, 4 classes", 3, 20, 4, 5),
    ("an odd side of 15 pixels", 1, 15, 7, 4),
    ("two classes", 2, 16, 2, 6),
    ("28 pixels, a single picture", 1, 28, 10, 1),
)


def drawn(images, labels, rng, n):
    """n pictures of the set, each turned by up to 25°, scaled, shifted and noisy: uint8 (n, SIDE, SIDE) and labels."""
    rows = rng.permutation(len(labels))[:n]
    angle, scale = rng.uniform(-0.44, 0.44, n), rng.uniform(0.9, 1.25, n)
    shift = rng.uniform(-0.15, 0.15, (n, 2))
    turn = np.stack([scale * np.cos(angle), -scale * np.sin(angle), shift[:, 0]], 1)
    back = np.stack([scale * np.sin(angle), scale * np.cos(angle), shift[:, 1]], 1)
    where = F.affine_grid(torch.tensor(np.stack([turn, back], 1)).float(), (n, 1, SIDE, SIDE), align_corners=False)
    pictures = torch.tensor(images[rows])[:, None].float() / 255
    pictures = F.grid_sample(pictures, where, align_corners=False)[:, 0].numpy()
    pictures = pictures + 0.15 * rng.normal(size=pictures.shape)
    return np.clip(255 * pictures, 0, 255).round().astype(np.uint8), labels[rows]


def contest_cases(seed):
    """Five shapes that the net has to fit, and the contest itself, last since it takes longest."""
    from course_lib.datasets import load

    rng = np.random.default_rng(seed)
    for name, channels, side, classes, pictures in PASSES_OF_SHAPES:
        yield Case(
            name,
            {
                "x": rng.normal(size=(pictures, channels, side, side)).astype(np.float32),
                "classes": classes,
                "counted": name.endswith("budgets"),
                "seed": int(rng.integers(2**31)),
            },
        )
    data = load("animalshape")
    numbers = rng.permutation(CLASSES)
    images, labels = drawn(*data.train, rng, TRAINING)
    hidden, answers = drawn(*data.test, rng, HIDDEN)
    yield Case(
        "the contest",
        {
            "images": images,
            "labels": numbers[labels],
            "hidden": hidden,
            "classes": CLASSES,
            "steps": STEPS,
            "batch": BATCH,
            "most": np.array([PARAMETERS, MULTIPLY_ADDS]),
            "seed": int(rng.integers(2**31)),
        },
        withheld={"right on hidden pictures": numbers[answers]},
    )


def contest_probe(candidate, case):
    """How a net that was made for the case keeps to the rules; if it does, what it says after a training.

    Where a rule is broken there is no training: it would only hide which one.
    """
    import torch
    from torch import nn
    from torch.nn import functional as F
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counted(TorchDispatchMode):
        """Products in convolutions, matrix products and products of tensors. (PyTorch's own counter loads a second.)"""

        products = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out, name = func(*args, **(kwargs or {})), func._schema.name.removeprefix("aten::")
            if "convolution" in name:
                transposed = len(args) > 6 and args[6]
                self.products += (args[0] if transposed else out).numel() * args[1][0].numel()
            elif name in ("mm", "bmm", "mv", "dot", "addmm", "baddbmm", "addbmm", "addmv"):
                self.products += out.numel() * args[1 if name.startswith(("add", "badd")) else 0].shape[-1]
            elif "scaled_dot_product" in name:
                self.products += 2 * args[0].numel() * args[1].shape[-2]
            elif name in ("mul", "addcmul"):
                self.products += out.numel()
            return out

    def tensors(thing, seen):
        """Every tensor that a net holds, registered or not."""
        if id(thing) in seen:
            return
        seen.add(id(thing))
        if isinstance(thing, torch.Tensor):
            yield thing
        elif isinstance(thing, nn.Module | dict | list | tuple | set):
            inner = vars(thing) if isinstance(thing, nn.Module) else thing
            for value in list(inner.values()) if isinstance(inner, dict) else inner:
                yield from tensors(value, seen)

    def behaviour(model, optimizer, x):
        held = [t for t in tensors(model, set()) if t.is_floating_point()]
        learned = [t for t in held if isinstance(t, nn.Parameter) and t.requires_grad]
        given = {id(p) for group in optimizer.param_groups for p in group["params"]}
        own = {id(p) for p in model.parameters()}
        trained = "all" if learned and all(id(p) in given for p in learned) else "some"
        if any(id(p) not in own for p in learned):
            trained = "not those in a plain list"
        elif not any(id(p) in given for p in learned):
            trained = "none"
        model.train()
        if len(x) > 1:
            model(x)  # running statistics move
        model.eval()
        with torch.no_grad():
            logits = model(x)
            alone = torch.cat([model(one[None]) for one in x])
            with Counted() as counter:
                model(x[:1])
        outputs = {
            "shape of the logits": torch.tensor(logits.shape),
            "logits, not probabilities": not bool(
                logits.dim() == 2 and (logits >= 0).all() and torch.allclose(logits.sum(1), torch.ones(len(x)))
            ),
            "each picture by itself": bool(
                alone.shape == logits.shape
                and torch.allclose(alone, logits, rtol=1e-3, atol=1e-3 * float(logits.abs().max()))
            ),
            "parameters that are trained": trained,
        }
        return outputs, {
            "parameters": sum(t.numel() for t in held),
            "multiply-adds a picture": counter.products,
        }

    contest = "images" in case
    x = torch.tensor(case["images"])[:, None].float() / 255 if contest else torch.tensor(case["x"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(case["seed"])
        returned = candidate(x.shape[1], x.shape[2], case["classes"])
        if not isinstance(returned, tuple) or len(returned) not in (2, 3) or not isinstance(returned[0], nn.Module):
            raise TypeError("return the net and its optimizer, and a scheduler if you like: (model, optimizer)")
        model, optimizer, *scheduler = returned
        outputs, used = behaviour(model, optimizer, x[:4])
        if not contest:
            return {**outputs, **(used if case["counted"] else {})}
        kept = outputs.pop("shape of the logits").tolist() == [4, case["classes"]]
        kept = kept and outputs.pop("parameters that are trained") == "all" and all(outputs.values())
        if not kept or any(n > most for n, most in zip(used.values(), case["most"], strict=True)):
            return {}
        labels, order, losses = torch.tensor(case["labels"]), torch.empty(0, dtype=torch.int64), []
        model.train()
        for _ in range(case["steps"]):
            if len(order) < case["batch"]:
                order = torch.cat([order, torch.randperm(len(labels))])
            rows, order = order[: case["batch"]], order[case["batch"] :]
            loss = F.cross_entropy(model(x[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for one in scheduler:
                one.step()
            losses.append(loss.item())
        learns = sum(losses[-10:]) < 0.95 * sum(losses[:10])
        if not learns:
            return {"the loss falls": learns}
        model.eval()
        with torch.no_grad():
            hidden = torch.tensor(case["hidden"])[:, None].float() / 255
            return {"the loss falls": learns, "right on hidden pictures": model(hidden).argmax(1)}


def contestant(channels, side, classes):
    """A small conv net with batch norm, and AdamW at a rate that climbs and falls once."""
    model = nn.Sequential(
        nn.Conv2d(channels, 12, 3, padding=1, stride=2, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 24, 3, padding=1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(24, 48, 3, padding=1, bias=False),
        nn.BatchNorm2d(48),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(48, classes),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    return model, optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=STEPS)


def softmax_inside(channels, side, classes):
    model = nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, classes),
        nn.Softmax(1),
    )
    return model, torch.optim.Adam(model.parameters(), lr=3e-3)


def wide_dense_head(channels, side, classes):
    model = nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * (side // 2) ** 2, 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )
    return model, torch.optim.Adam(model.parameters(), lr=1e-3)


def wide_at_full_size(channels, side, classes):
    model = nn.Sequential(
        nn.Conv2d(channels, 24, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(24, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, classes),
    )
    return model, torch.optim.Adam(model.parameters(), lr=3e-3)


def optimizer_of_another_net(channels, side, classes):
    def net():
        return nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(128, classes),
        )

    return net(), torch.optim.Adam(net().parameters(), lr=3e-3)


def layers_in_a_list(channels, side, classes):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = [nn.Conv2d(channels, 8, 3, stride=2, padding=1), nn.Conv2d(8, 16, 3, stride=2, padding=1)]
            self.last = nn.Linear(16, classes)

        def forward(self, x):
            for conv in self.convs:
                x = conv(x).relu()
            return self.last(x.mean((2, 3)))

    model = Net()
    return model, torch.optim.Adam(model.parameters(), lr=3e-3)


def only_the_last_layer(channels, side, classes):
    model = nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(128, classes),
    )
    return model, torch.optim.Adam(model[-1].parameters(), lr=3e-3)


def batch_statistics_at_test(channels, side, classes):
    model = nn.Sequential(
        nn.Conv2d(channels, 12, 3, padding=1, stride=2, bias=False),
        nn.BatchNorm2d(12, track_running_stats=False),
        nn.ReLU(),
        nn.Conv2d(12, 24, 3, padding=1, stride=2, bias=False),
        nn.BatchNorm2d(24, track_running_stats=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, classes),
    )
    return model, torch.optim.Adam(model.parameters(), lr=3e-3)


def classes_along_the_wrong_axis(channels, side, classes):
    model = nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, classes, 1),
        nn.AdaptiveAvgPool2d((1, None)),
    )
    return model, torch.optim.Adam(model.parameters(), lr=3e-3)


def maps_left_as_maps(channels, side, classes):
    model = nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, classes, 3, padding=1, stride=2),
        nn.AdaptiveAvgPool2d(1),
    )
    return model, torch.optim.Adam(model.parameters(), lr=3e-3)


def made_for_one_shape(channels, side, classes):
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
    )
    return model, torch.optim.Adam(model.parameters(), lr=3e-3)


def rate_far_too_small(channels, side, classes):
    model = nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, classes),
    )
    return model, torch.optim.SGD(model.parameters(), lr=1e-3)


def contestant_in_a_class(channels, side, classes):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            widths = (12, 24, 48)
            self.convs = nn.ModuleList(
                [
                    nn.Conv2d(channels, 12, 3, stride=2, padding=1),
                    nn.Conv2d(12, 24, 3, padding=1),
                    nn.Conv2d(24, 48, 3, padding=1),
                ]
            )
            self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
            self.last = nn.Linear(48, classes)

        def forward(self, x):
            for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
                x = norm(conv(x)).relu()
                x = F.max_pool2d(x, 2) if i == 1 else x
            return self.last(x.amax((2, 3)))

    model = Net()
    return model, torch.optim.Adam(model.parameters(), lr=5e-3)


def contestant_with_a_schedule(channels, side, classes):
    def block(a, b, stride):
        return (nn.Conv2d(a, b, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(b), nn.SiLU())

    model = nn.Sequential(
        *block(channels, 12, 2),
        *block(12, 24, 1),
        nn.MaxPool2d(2),
        *block(24, 48, 1),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(48, classes),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    return model, optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=100)


def contestant_by_momentum(channels, side, classes):
    model = nn.Sequential(
        nn.Conv2d(channels, 16, 5, padding=2, stride=2, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 20, 3, padding=1, bias=False),
        nn.BatchNorm2d(20),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 48, 3, padding=1, bias=False),
        nn.BatchNorm2d(48),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(48, classes),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    return model, optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=100)


RULES = (
    "shape of the logits",
    "parameters",
    "multiply-adds a picture",
    "each picture by itself",
    "parameters that are trained",
    "logits, not probabilities",
    "the loss falls",
)

challenge = Exercise(
    id="cnn_architectures.challenge",
    lesson="09_cnn_architectures",
    title="The challenge: the best net within the budget",
    answer="contestant",
    criteria=(
        Criterion("shape of the logits", 0),
        Criterion("logits, not probabilities", 0),
        Criterion("parameters that are trained", 0),
        Criterion("each picture by itself", 0),
        Criterion("parameters", 0, AtMost(PARAMETERS)),
        Criterion("multiply-adds a picture", 0, AtMost(MULTIPLY_ADDS)),
        Criterion("the loss falls", 0),
        Criterion("right on hidden pictures", 4, SCALE, requires=RULES),
    ),
    cases=contest_cases,
    probe=contest_probe,
    reference=contestant,
    misconceptions=(
        Misconception(
            "softmax_inside",
            softmax_inside,
            "Your net ends in a softmax, and the loss applies it again. Probabilities lie between 0 and 1, so the "
            "second softmax is nearly flat and the gradient small: it learns slowly, and nothing complains.",
            "Return the logits.",
        ),
        Misconception(
            "wide_dense_head",
            wide_dense_head,
            "{got:,.0f} parameters, where {expected:,.0f} are allowed. Nearly all of them sit in the first dense layer "
            "behind the flattened maps.",
            "Average or maximize each map before the dense layer (nn.AdaptiveAvgPool2d(1)).",
        ),
        Misconception(
            "wide_at_full_size",
            wide_at_full_size,
            "{got:,.0f} multiply-adds for a picture, where {expected:,.0f} are allowed. A convolution costs its "
            "weights times the pixels that it is computed at, and yours has many maps at full size.",
            "Halve the picture early: a stride of 2 or a pooling quarters the cost of everything after it.",
        ),
        Misconception(
            "optimizer_of_another_net",
            optimizer_of_another_net,
            "The optimizer holds the parameters of another net than the one you return: that one is trained on "
            "nothing, and stays as it was drawn.",
            "Make the net once, and give the optimizer the parameters of that one.",
        ),
        Misconception(
            "layers_in_a_list",
            layers_in_a_list,
            "Some layers are kept in a plain list. PyTorch does not find them there: model.parameters() leaves them "
            "out, and they are never trained.",
            "Use nn.ModuleList or nn.Sequential.",
        ),
        Misconception(
            "only_the_last_layer",
            only_the_last_layer,
            "The optimizer holds only some of the net's parameters; the others stay as they were drawn.",
            "Give it model.parameters().",
        ),
        Misconception(
            "batch_statistics_at_test",
            batch_statistics_at_test,
            "In evaluation the answer for a picture depends on the others in its batch: batch norm still uses the "
            "batch's statistics.",
            "Leave track_running_stats on, so that evaluation has averages to use.",
        ),
        Misconception(
            "classes_along_the_wrong_axis",
            classes_along_the_wrong_axis,
            "Your net pools along one axis only: what comes out has scores for each column of the picture, not one for "
            "each class.",
            "Pool over height and width, and flatten: the logits have the shape (pictures, classes).",
        ),
        Misconception(
            "maps_left_as_maps",
            maps_left_as_maps,
            "Your net returns maps of 1 × 1, of shape (pictures, classes, 1, 1), not logits.",
            "End with nn.Flatten().",
        ),
        Misconception(
            "made_for_one_shape",
            made_for_one_shape,
            "The numbers of one shape are written into the net, so it fails for other channels, sides or classes.",
            "Use the arguments, or pool each map to one number, which fits every side.",
        ),
        Misconception(
            "rate_far_too_small",
            rate_far_too_small,
            "After the training your net is as good as untrained: the loss at the end is that of the beginning. "
            "With so few steps, plain SGD at a rate of 0.001 hardly moves.",
            "A larger rate, momentum, or Adam; and look at the loss on the training pictures first.",
        ),
    ),
    variants=(
        Variant("contestant_in_a_class", contestant_in_a_class),
        Variant("contestant_with_a_schedule", contestant_with_a_schedule),
        Variant("contestant_by_momentum", contestant_by_momentum),
    ),
    forbidden=("course_lib.datasets.load",),  # the set that the pictures are drawn from
    hints=(
        "Copy first: a conv net with batch norm that halves the picture twice, and one dense layer behind a pooling of "
        "each map. Then change one thing at a time.",
        "Where do your multiply-adds go? `account(model, (1, 16, 16))` lists them layer by layer.",
        "With so few steps the learning rate counts more than the last thousand parameters: try three of them.",
    ),
    minutes=40,
)
