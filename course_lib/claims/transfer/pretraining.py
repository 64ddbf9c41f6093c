"""T13 to T16: a related task's layers, all of them or some; autoencoders; and telling real text from corrupted."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import texts
from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series, Table
from course_lib.claims.transfer.trunks import batches, conv_net, fit_head, percent_wrong, small, train_net
from course_lib.datasets import as_tensors, load
from course_lib.transfer import load_partial, pretrain_greedily

__all__ = ["CLAIMS"]

TUNING_SEED = 100


def against(series: Series, arm: str, other: str, x) -> Interval:
    return Interval.of_difference(
        f"{series.name}, {arm} minus {other}, {x}", "points", series.values(arm, x), series.values(other, x)
    )


# a related task --------------------------------------------------------------------------------------------

RELATED = ("mnist5k", "glyph26")
WIDTHS = (12, 24, 48, 48)  # of the small conv net: four convolutions, each with batch norm and pooling
SOURCE_STEPS, TARGET_STEPS = 150, 60
RATES = (1e-3, 4e-3)


class Halves:
    """A data set cut in two by its classes: the first half has many labels, the second few."""

    def __init__(self, name: str):
        data = load(name)
        half = len(data.classes) // 2
        self.classes = half
        self.source, self.target = {}, {}
        for part in ("train", "valid", "test"):
            images, labels = (torch.tensor(array) for array in getattr(data, part))
            low = labels < half
            self.source[part] = small(images[low]), labels[low]
            self.target[part] = small(images[~low]), labels[~low] - half

    def draw(self, labels: int, seed: int) -> tuple[Tensor, Tensor]:
        """`labels` training images of each class of the second half."""
        x, y = self.target["train"]
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(1000 + seed))
        rows = torch.cat([order[y[order] == label][:labels] for label in range(self.classes)])
        return x[rows], y[rows]


def fresh(halves: Halves, seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return conv_net(1, halves.classes, widths=WIDTHS)


def source_net(halves: Halves, seed: int) -> nn.Sequential:
    """The small net, trained on the first half of the classes with all their labels."""
    net = fresh(halves, 500 + seed)
    train_net(net, *halves.source["train"], seed, lr=4e-3, steps=SOURCE_STEPS)
    return net


def restored(halves: Halves, saved: nn.Module, layers: int, seed: int) -> nn.Sequential:
    """A fresh net with the first `layers` convolutions (and their batch norms) of `saved`."""
    net = fresh(halves, seed)
    if layers:
        kept = {f"{i}." for layer in range(layers) for i in (4 * layer, 4 * layer + 1)}
        load_partial(
            net, saved.state_dict(), rename=lambda name: name if any(name.startswith(k) for k in kept) else None
        )
    return net


def trained_on(net: nn.Sequential, halves: Halves, labels: int, seed: int, lr: float, part: str) -> float:
    """The error in per cent after fine-tuning all of the net on few labels."""
    train_net(net, *halves.draw(labels, seed), seed, lr=lr, steps=TARGET_STEPS)
    return percent_wrong(net, *halves.target[part])


# T15 -----------------------------------------------------------------------------------------------------

FEW = (3, 10, 50)
ARMS15 = ("from scratch", "related task, all fine-tuned", "related task, frozen under a linear head")


def measure_related(seeds):
    """Digits 0 to 4 with all their labels for 5 to 9 with few; letters A to M for N to Z."""
    found = []
    for name in RELATED:
        halves = Halves(name)
        errors = {arm: [] for arm in ARMS15}
        saved = {seed: source_net(halves, seed) for seed in (*seeds, TUNING_SEED)}
        chosen = {}
        for arm, layers in zip(ARMS15[:2], (0, 4), strict=True):

            def error(lr, layers=layers, halves=halves, saved=saved):
                net = restored(halves, saved[TUNING_SEED], layers, TUNING_SEED)
                return trained_on(net, halves, FEW[1], TUNING_SEED, lr, "valid")

            chosen[arm] = min(RATES, key=error)
        for labels in FEW:
            for arm, layers in zip(ARMS15[:2], (0, 4), strict=True):
                errors[arm].append(
                    [
                        trained_on(restored(halves, saved[s], layers, s), halves, labels, s, chosen[arm], "test")
                        for s in seeds
                    ]
                )
            frozen = []
            for seed in seeds:
                trunk = saved[seed][:-1]
                with torch.no_grad():
                    x, y = halves.draw(labels, seed)
                    features, seen = trunk(x), trunk(halves.target["test"][0])
                head = fit_head(features, y, halves.classes, decay=1e-2)
                frozen.append(percent_wrong(head, seen, halves.target["test"][1]))
            errors[ARMS15[2]].append(frozen)
        found.append(Series(f"test error, {name}", "%", errors, "labels per class of the new task", FEW))
    return Measured(series=found)


def decide_related(measured):
    gains = {
        (name, n): against(measured[f"test error, {name}"], ARMS15[1], ARMS15[0], n) for name in RELATED for n in FEW
    }
    better = [f"{n} labels of {name}" for (name, n), gain in gains.items() if gain.high < 0]
    if len(better) == len(gains):
        verdict, condition = HOLDS, ""
    elif better:
        verdict, condition = HOLDS_WHEN, f"there are {', '.join(better)}"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    first, second = (measured[f"test error, {name}"] for name in RELATED)
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains[RELATED[0], FEW[0]],
        figures={
            "few": FEW[0],
            "scratch": first.mean(ARMS15[0], FEW[0]),
            "tuned": first.mean(ARMS15[1], FEW[0]),
            "frozen": first.mean(ARMS15[2], FEW[0]),
            "scratch2": second.mean(ARMS15[0], FEW[0]),
            "tuned2": second.mean(ARMS15[1], FEW[0]),
            "frozen2": second.mean(ARMS15[2], FEW[0]),
        },
    )


# T13 -----------------------------------------------------------------------------------------------------

RESTORED = (0, 1, 2, 3, 4)
LABELS13 = 5


def measure_restored(seeds):
    """How many of the first layers are restored by name; everything is fine-tuned on few labels then."""
    errors, exact = {name: [] for name in RELATED}, {name: [] for name in RELATED}
    for name in RELATED:
        halves = Halves(name)
        saved = {seed: source_net(halves, seed) for seed in (*seeds, TUNING_SEED)}

        def error(lr, halves=halves, saved=saved):
            return sum(
                trained_on(
                    restored(halves, saved[TUNING_SEED], n, TUNING_SEED), halves, LABELS13, TUNING_SEED, lr, "valid"
                )
                for n in (0, 4)
            )

        lr = min(RATES, key=error)
        for n in RESTORED:
            nets = {seed: restored(halves, saved[seed], n, seed) for seed in seeds}
            exact[name].append([wrong_tensors(nets[seed], saved[seed], n) for seed in seeds])
            errors[name].append([trained_on(nets[seed], halves, LABELS13, seed, lr, "test") for seed in seeds])
    zero = "every restored tensor has to be the saved one"
    return Measured(
        series=(
            Series("test error by layers restored", "%", errors, "first layers restored", RESTORED),
            Series("tensors that differ from the saved", "", exact, "first layers restored", RESTORED, identical=zero),
        ),
        tables=(reports(Halves(RELATED[0])),),
    )


def wrong_tensors(net: nn.Module, saved: nn.Module, layers: int) -> float:
    """How many tensors of the first layers are not the saved ones, bit for bit."""
    mine, theirs = net.state_dict(), saved.state_dict()
    names = [name for name in mine if int(name.split(".")[0]) < 4 * layers]
    return float(sum(not torch.equal(mine[name], theirs[name]) for name in names))


def reports(halves: Halves) -> Table:
    """What each way of loading says and does where the new net has another head, or other names."""
    saved = conv_net(1, halves.classes + 1, widths=WIDTHS).state_dict()
    renamed = {f"model.{name}": value for name, value in saved.items()}
    rows = []
    for what, state in (("another number of classes", saved), ("a prefix before every name", renamed)):
        for how in ("load_state_dict(state)", "load_state_dict(state, strict=False)", "load_partial(net, state)"):
            net = fresh(halves, 0)
            before = {name: value.clone() for name, value in net.state_dict().items()}
            try:
                if how.startswith("load_partial"):
                    load_partial(net, state)
                    said = "reports"
                else:
                    net.load_state_dict(state, strict="strict" not in how)
                    said = "returns the names; nothing is raised"
            except (RuntimeError, ValueError) as error:
                said = f"raises {type(error).__name__}"
            changed = sum(not torch.equal(before[name], value) for name, value in net.state_dict().items())
            rows.append((what, how, said, f"{changed} of {len(before)}"))
    return Table("partial loading in PyTorch", ("the state has", "call", "what it says", "tensors loaded"), rows)


def decide_restored(measured):
    errors, exact = measured.series
    same = all(value == 0 for name in RELATED for by_x in exact.arms[name] for value in by_x)
    gains = {
        (name, n): Interval.of_difference(
            f"test error, {n} layers restored minus none, {name}",
            "points",
            errors.values(name, n),
            errors.values(name, 0),
        )
        for name in RELATED
        for n in (3, 4)
    }
    whole = all(gains[name, 4].high < 0 for name in RELATED)
    three = all(gains[name, 3].high < 0 for name in RELATED)
    if same and whole and three:
        verdict, condition = HOLDS, ""
    elif same and (whole or three):
        verdict, condition = HOLDS_WHEN, "all layers are restored" if whole else "the first three layers are restored"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains[RELATED[0], 3],
        figures={
            "labels": LABELS13,
            "told": "; ".join(
                f"{name} {', '.join(f'{errors.mean(name, n):.1f}% with {n}' for n in RESTORED)}" for name in RELATED
            ),
        },
    )


# T14 -----------------------------------------------------------------------------------------------------

CODED = ("mnist5k", "animalshape")
SIZES = (196, 100, 50)
LABELLED = (5, 20, 100)
ARMS14 = ("random start", "stack of autoencoders", "one deep autoencoder")
UNLABELLED = 2000
CODE_RATES = (3e-3, 1e-2)


def halved(name: str) -> dict[str, tuple[Tensor, Tensor]]:
    """The parts of a set as rows of 14 × 14 pixels, 0 to 1."""
    data = load(name)
    parts = {part: as_tensors(*getattr(data, part)) for part in ("train", "valid", "test")}
    return {part: (F.avg_pool2d(x, 2).flatten(1), y) for part, (x, y) in parts.items()}


def start_layers(seed: int) -> list[nn.Linear]:
    """The two hidden layers, Glorot's draw."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(a, b) for a, b in pairwise(SIZES)]
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return layers


def deep_autoencoder(layers: Sequence[nn.Linear], x: Tensor, seed: int) -> None:
    """Trains the layers in place together, with mirrored decoders that are thrown away."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        back = [nn.Linear(b, a) for a, b in reversed(list(pairwise(SIZES)))]
    net = nn.Sequential(layers[0], nn.Sigmoid(), layers[1], nn.Sigmoid(), back[0], nn.Sigmoid(), back[1])
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for rows in batches(len(x), 64, 10 * len(x) // 64, seed):
        loss = F.mse_loss(net(x[rows]), x[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def coded_layers(arm: str, x: Tensor, seed: int) -> list[nn.Linear]:
    layers = start_layers(seed)
    if arm == ARMS14[1]:
        pretrain_greedily(layers, x, epochs=5, lr=3e-3, seed=seed)
    elif arm == ARMS14[2]:
        deep_autoencoder(layers, x, seed)
    return layers


def from_layers(layers: Sequence[nn.Linear], classes: int, seed: int) -> nn.Sequential:
    """A classifier that starts from copies of the layers, under a fresh output layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Linear(SIZES[-1], classes)
        net = nn.Sequential(nn.Linear(*SIZES[:2]), nn.Sigmoid(), nn.Linear(*SIZES[1:]), nn.Sigmoid(), head)
    for mine, theirs in zip((net[0], net[2]), layers, strict=True):
        mine.load_state_dict(theirs.state_dict())
    return net


def measure_autoencoders(seeds):
    """Few labels and 2,000 unlabelled images: three starts of one sigmoid net, each at the better of two rates."""
    found = []
    for name in CODED:
        parts = halved(name)
        x, y = parts["train"]
        classes = int(y.max()) + 1
        errors = {arm: [] for arm in ARMS14}
        starts = {
            (arm, seed): coded_layers(arm, x[:UNLABELLED], seed) for arm in ARMS14 for seed in (*seeds, TUNING_SEED)
        }

        def error(arm, lr, labels, seed, part, x=x, y=y, parts=parts, classes=classes, starts=starts):
            order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
            rows = torch.cat([order[y[order] == label][:labels] for label in range(classes)])
            net = from_layers(starts[arm, seed], classes, seed)
            train_net(net, x[rows], y[rows], seed, lr=lr, steps=300)
            return percent_wrong(net, *parts[part])

        for labels in LABELLED:
            for arm in ARMS14:
                lr = min(CODE_RATES, key=lambda r, a=arm, n=labels: error(a, r, n, TUNING_SEED, "valid"))
                errors[arm].append([error(arm, lr, labels, seed, "test") for seed in seeds])
        found.append(Series(f"test error, {name}", "%", errors, "labels per class", LABELLED))
    return Measured(series=found)


def decide_autoencoders(measured):
    gains = {
        (name, n): against(measured[f"test error, {name}"], ARMS14[1], ARMS14[0], n) for name in CODED for n in LABELLED
    }
    deep = {
        (name, n): against(measured[f"test error, {name}"], ARMS14[1], ARMS14[2], n) for name in CODED for n in LABELLED
    }
    few = LABELLED[0]
    better = [f"{n} labels of {name}" for (name, n), gain in gains.items() if gain.high < 0]
    if all(gains[name, n].high < 0 for name in CODED for n in LABELLED[:2]):
        verdict, condition = HOLDS, ""
    elif better:
        verdict, condition = HOLDS_WHEN, f"there are {', '.join(better)}"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    first, second = (measured[f"test error, {name}"] for name in CODED)
    stack = sum(gain.high < 0 for gain in deep.values())
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains[CODED[0], few],
        figures={
            "few": few,
            "random": first.mean(ARMS14[0], few),
            "stack": first.mean(ARMS14[1], few),
            "deep": first.mean(ARMS14[2], few),
            "random2": second.mean(ARMS14[0], few),
            "stack2": second.mean(ARMS14[1], few),
            "deep2": second.mean(ARMS14[2], few),
            "greedy_better": stack,
            "cases": len(deep),
        },
    )


# T16 -----------------------------------------------------------------------------------------------------

WINDOW, VOCABULARY = 10, 2000
AUTHORS = {
    "which of three authors": ("carroll", "shakespeare", "milton"),
    "Shakespeare or Milton": ("shakespeare", "milton"),
}
TEXT_LABELS = (10, 50, 200)
ARMS16 = ("from scratch", "taught to tell real from corrupted")
PRETEXT_STEPS, TEXT_STEPS = 1000, 100
REPLACED = 3  # words of a corrupted piece
TEXT_RATES = (2e-3, 1e-2)


class Reader(nn.Module):
    """Words as vectors, a convolution over three neighbours, the largest value over places: (N, words) → (N, "
    "classes)."""

    def __init__(self, classes: int):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY + 1, 32)
        self.conv = nn.Conv1d(32, 64, 3, padding=1)
        self.head = nn.Linear(64, classes)

    def forward(self, words: Tensor) -> Tensor:
        h = self.conv(self.embed(words).transpose(1, 2)).relu()
        return self.head(h.amax(2))


def windows() -> dict[str, dict[str, Tensor]]:
    """Each author's pieces of ten words, as numbers of words: the first 60% train, then 20% valid, 20% test."""
    books = texts.load()
    everything = [word for name in books.names for word in books.words[name][: int(0.6 * len(books.words[name]))]]
    words, counts = np.unique(everything, return_counts=True)
    common = words[np.argsort(-counts, kind="stable")][:VOCABULARY]
    number = {word: i + 1 for i, word in enumerate(common)}
    found = {}
    for name in books.names:
        row = torch.tensor([number.get(word, 0) for word in books.words[name]])
        pieces = row[: len(row) // WINDOW * WINDOW].view(-1, WINDOW)
        ends = [int(share * len(pieces)) for share in (0.6, 0.8)]
        found[name] = dict(zip(("train", "valid", "test"), torch.tensor_split(pieces, ends), strict=True))
    return found


def corrupted(pieces: Tensor, generator: torch.Generator) -> Tensor:
    """The pieces with REPLACED words each replaced by words from elsewhere in the batch."""
    n = len(pieces)
    others = pieces.flatten()[torch.randint(pieces.numel(), (n, REPLACED), generator=generator)]
    where = torch.rand(n, WINDOW, generator=generator).argsort(1)[:, :REPLACED]
    return pieces.scatter(1, where, others)


def taught_to_tell(pieces: dict, seed: int) -> tuple[nn.Module, float]:
    """A reader trained to tell real pieces from corrupted ones, and its accuracy in per cent on new ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Reader(2)
    stream = torch.cat([pieces[name]["train"] for name in pieces]).flatten()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-2)
    for _ in range(PRETEXT_STEPS):
        starts = torch.randint(len(stream) - WINDOW, (64,), generator=generator)
        real = stream[starts[:, None] + torch.arange(WINDOW)]
        both = torch.cat([real, corrupted(real, generator)])
        loss = F.cross_entropy(net(both), torch.arange(2).repeat_interleave(64))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    test = torch.cat([pieces[name]["test"] for name in pieces])
    both = torch.cat([test, corrupted(test, generator)])
    return net, 100 - percent_wrong(net, both, torch.arange(2).repeat_interleave(len(test)))


def measure_corruption(seeds):
    """The lower layers of a reader that was taught on unlabelled text, for two tasks with few labels."""
    pieces = windows()
    taught = {seed: taught_to_tell(pieces, seed) for seed in (*seeds, TUNING_SEED)}
    found = []
    for task, names in AUTHORS.items():
        errors = {arm: [] for arm in ARMS16}
        parts = {
            part: (
                torch.cat([pieces[name][part] for name in names]),
                torch.cat([torch.full((len(pieces[name][part]),), i) for i, name in enumerate(names)]),
            )
            for part in ("train", "valid", "test")
        }

        def error(arm, lr, labels, seed, part, names=names, parts=parts):
            x, y = parts["train"]
            order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
            rows = torch.cat([order[y[order] == label][:labels] for label in range(len(names))])
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                net = Reader(len(names))
            if arm == ARMS16[1]:
                load_partial(net, taught[seed][0].state_dict(), must_load=("embed.*", "conv.*"))
            train_net(net, x[rows], y[rows], seed, lr=lr, steps=TEXT_STEPS)
            return percent_wrong(net, *parts[part])

        for labels in TEXT_LABELS:
            for arm in ARMS16:
                lr = min(TEXT_RATES, key=lambda r, a=arm, n=labels: error(a, r, n, TUNING_SEED, "valid"))
                errors[arm].append([error(arm, lr, labels, seed, "test") for seed in seeds])
        found.append(Series(f"test error, {task}", "%", errors, "labelled pieces of each author", TEXT_LABELS))
    accuracy = {"the pretext task": [[taught[seed][1] for seed in seeds]]}
    return Measured(series=(*found, Series("right answers, real or corrupted", "%", accuracy)))


def decide_corruption(measured):
    gains = {
        (task, n): against(measured[f"test error, {task}"], ARMS16[1], ARMS16[0], n)
        for task in AUTHORS
        for n in TEXT_LABELS
    }
    better = [f"{n} labels, {task}" for (task, n), gain in gains.items() if gain.high < 0]
    if len(better) == len(gains):
        verdict, condition = HOLDS, ""
    elif better:
        verdict, condition = HOLDS_WHEN, f"the task and its labels are: {'; '.join(better)}"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    task, few = next(iter(AUTHORS)), TEXT_LABELS[0]
    first = measured[f"test error, {task}"]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains[task, few],
        figures={
            "told": "; ".join(
                f"{n} labels {first.mean(ARMS16[0], n):.1f}% and {first.mean(ARMS16[1], n):.1f}%" for n in TEXT_LABELS
            ),
            "pretext": measured.series[-1].mean("the pretext task"),
        },
    )


SEEDS = tuple(range(6))
CLAIMS = (
    Claim(
        id="T13",
        statement="A saved model can be restored whole or in part, such as its first three layers, by name.",
        headline="Each restored tensor is the saved one, bit for bit. With {labels} labels of each new class the error "
        "falls with the layers restored: {told}.",
        rule="Holds if every restored tensor equals the saved one, and on both data sets the error with three and with "
        "all "
        "four layers restored is lower than with none (95% interval below 0); holds when … for one of the two.",
        measure=measure_restored,
        decide=decide_restored,
        seeds=SEEDS,
    ),
    Claim(
        id="T14",
        statement="With few labels and many unlabelled images, pretrain the lower layers as autoencoders, one after "
        "the "
        "other, then fine-tune.",
        headline="With {few} labels a class the error of a sigmoid net is {random:.1f}% from a random start, "
        "{stack:.1f}% "
        "from the stack, {deep:.1f}% from one deep autoencoder (digits); {random2:.1f}%, {stack2:.1f}%, {deep2:.1f}% "
        "(animals). The stack beats the one deep autoencoder in {greedy_better} of {cases} cases.",
        rule="Holds if with the two smaller numbers of labels, on both data sets, the stack's error is below the "
        "random "
        "start's (95% interval below 0); holds when … for the cases in which it is.",
        measure=measure_autoencoders,
        decide=decide_autoencoders,
        seeds=SEEDS,
    ),
    Claim(
        id="T15",
        statement="With few labels of the target, pretrain on a related task that has many.",
        headline="With {few} labels of each new class: digits 5 to 9 {scratch:.1f}% from scratch, {tuned:.1f}% on "
        "layers "
        "from digits 0 to 4, fine-tuned, {frozen:.1f}% frozen; letters N to Z {scratch2:.1f}%, {tuned2:.1f}% and "
        "{frozen2:.1f}% on layers from A to M.",
        rule="Holds if on both data sets and at every number of labels fine-tuning the related task's layers gives a "
        "lower "
        "error than training from scratch (95% interval below 0); holds when … for the cases in which it does.",
        measure=measure_related,
        decide=decide_related,
        seeds=SEEDS,
    ),
    Claim(
        id="T16",
        statement="A net taught to tell real sentences from corrupted ones has learned something of the language: its "
        "lower "
        "layers serve another task.",
        headline="The pretext task is learned to {pretext:.0f}%. Which of three authors wrote ten words, from scratch "
        "and on "
        "the layers taught: {told}.",
        rule="Holds if in both tasks and at every number of labels the error with the taught layers is lower (95% "
        "interval "
        "below 0); holds when … for those in which it is.",
        measure=measure_corruption,
        decide=decide_corruption,
        seeds=SEEDS,
    ),
)
