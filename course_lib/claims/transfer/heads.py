"""T6, T9, T11, T12, T18: from which layer, through which nonlinearity, at which size, under which head."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series
from course_lib.claims.transfer.trunks import (
    Target,
    fit_head,
    percent_wrong,
    places,
    pretrained_net,
    small,
    train_net,
    train_scratch,
)
from course_lib.datasets import load
from course_lib.pretrained import EfficientNetLite0, preprocess
from course_lib.transfer import Standardize

__all__ = ["CLAIMS"]

TUNING_SEED = 100
LABELS = 20  # of each class
DECAYS = (1e-3, 1e-1)  # every linear head of this file chooses one of these on validation images


class Drawn:
    """Some images of a data set: those that the seeds draw for training, and the first ones of valid and test."""

    def __init__(self, name: str, seeds: Sequence[int], labels: int, tested: int = 300):
        data = load(name)
        self.classes = len(data.classes)
        y = torch.tensor(data.labels)
        train = torch.tensor(data.split.train)
        draws = {seed: draw(y[train], labels, seed, self.classes) for seed in (*seeds, TUNING_SEED)}
        used = torch.cat(list(draws.values())).unique()
        place = {int(row): i for i, row in enumerate(used)}
        self.rows = {seed: torch.tensor([place[int(row)] for row in rows]) for seed, rows in draws.items()}
        index = {"train": train[used], "valid": torch.tensor(data.split.valid[:tested])}
        index["test"] = torch.tensor(data.split.test[:tested])
        self.images = {part: torch.tensor(data.images)[i] for part, i in index.items()}
        self.labels = {part: y[i] for part, i in index.items()}

    def seen(self, see: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """What `see` gives for each part's images, in batches, without a graph."""
        with torch.no_grad():
            return {part: torch.cat([see(x) for x in images.split(64)]) for part, images in self.images.items()}

    def errors(self, features: dict[str, Tensor], seeds: Sequence[int]) -> list[float]:
        """Test errors in per cent of a linear head for each seed; the weight decay is chosen on validation images."""

        def error(decay, seed, part):
            rows = self.rows[seed]
            head = fit_head(features["train"][rows], self.labels["train"][rows], self.classes, decay=decay)
            return percent_wrong(head, features[part], self.labels[part])

        decay = min(DECAYS, key=lambda d: error(d, TUNING_SEED, "valid"))
        return [error(decay, seed, "test") for seed in seeds]


def draw(labels: Tensor, per_class: int, seed: int, classes: int) -> Tensor:
    """Rows: `per_class` of each class, drawn by seed."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1000 + seed))
    return torch.cat([order[labels[order] == label][:per_class] for label in range(classes)])


def compared(series: Series, a: str, b: str, x: str) -> Interval:
    return Interval.of_difference(
        f"{series.name}, {a} minus {b}, {x}", "points", series.values(a, x), series.values(b, x)
    )


# T6 ------------------------------------------------------------------------------------------------------

CODE_SETS = ("patch12", "emoji8", "mnist5k")
CODES = {"before the ReLU": False, "after the ReLU": True}


def codes(images: Tensor) -> Tensor:
    """The last convolution's outputs, averaged over places, before and after its ReLU6: (N, 2, 1280)."""
    net = pretrained_net()
    x = net.stem(preprocess(images, 64))
    for block in net.blocks:
        x = block(x)
    z = net.top.bn(net.top.conv(x))
    return torch.stack([z.mean((2, 3)), z.clamp(0, 6).mean((2, 3))], 1)


def measure_codes(seeds):
    """A linear head on the last convolution's output before and after its nonlinearity."""
    errors = {arm: [] for arm in CODES}
    for name in CODE_SETS:
        drawn = Drawn(name, seeds, LABELS)
        both = drawn.seen(codes)
        for i, arm in enumerate(CODES):
            errors[arm].append(drawn.errors({part: z[:, i] for part, z in both.items()}, seeds))
    return Measured(series=(Series("test error", "%", errors, "data set", CODE_SETS),))


def decide_codes(measured):
    (errors,) = measured.series
    gains = {name: compared(errors, "after the ReLU", "before the ReLU", name) for name in CODE_SETS}
    helped = [name for name, gain in gains.items() if gain.high < 0]
    harmed = [name for name, gain in gains.items() if gain.low > 0]
    if len(helped) == len(CODE_SETS):
        verdict, condition = HOLDS, ""
    elif helped:
        verdict, condition = HOLDS_WHEN, f"the images are those of {' or '.join(helped)}"
        condition += f"; on {' and '.join(harmed)} the codes before it are better" if harmed else ""
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains[CODE_SETS[0]],
        figures={
            "told": "; ".join(
                f"{name} {errors.mean('after the ReLU', name):.1f}% after it, "
                f"{errors.mean('before the ReLU', name):.1f}% before"
                for name in CODE_SETS
            )
        },
    )


# T9 ------------------------------------------------------------------------------------------------------

DOCUMENTS, PHOTOS = ("glyph26",), ("patch12", "emoji8")
CUTS = {
    "1,000 scores (dense layer kept)": "scores",
    "1,280 features (dense layer cut)": "features",
    "last block, 3 × 3 places": 15,
    "block 10, 3 × 3 places": 10,
}


def at_every_cut(images: Tensor) -> Tensor:
    """What a head sees at each of CUTS, side by side: (N, 1000 + 1280 + 9·320 + 9·112)."""
    net = pretrained_net()
    x, kept = net.stem(preprocess(images, 64)), {}
    for i, block in enumerate(net.blocks):
        x = block(x)
        kept[i] = x
    features = net.top(x).mean((2, 3))
    return torch.cat([net.classifier(features), features, places(kept[15]), places(kept[10])], 1)


WIDTHS = (1000, 1280, 9 * 320, 9 * 112)


def measure_cuts(seeds):
    """A linear head at each of four depths: the classifier's own scores are what "keeping the dense layers" gives."""
    errors, seconds, weights = ({arm: [] for arm in CUTS} for _ in range(3))
    sets = DOCUMENTS + PHOTOS
    for name in sets:
        drawn = Drawn(name, seeds, LABELS)
        joined = drawn.seen(at_every_cut)
        parts = {part: z.split(WIDTHS, 1) for part, z in joined.items()}
        for i, arm in enumerate(CUTS):
            started = time.process_time()
            errors[arm].append(drawn.errors({part: z[i] for part, z in parts.items()}, seeds))
            took = (time.process_time() - started) / (len(seeds) + len(DECAYS))
            seconds[arm].append([took] * len(seeds))
            weights[arm].append([(WIDTHS[i] + 1) * drawn.classes] * len(seeds))
    return Measured(
        series=(
            Series("test error", "%", errors, "data set", sets),
            Series("time to fit the head", "s", seconds, "data set", sets),
            Series("weights of the head", "", weights, "data set", sets),
        )
    )


def decide_cuts(measured):
    errors = measured["test error"]
    kept, cut = list(CUTS)[:2]
    gains = {name: compared(errors, kept, cut, name) for name in errors.x}
    better = [name for name, gain in gains.items() if gain.high < 0]
    if len(better) == len(gains):
        verdict, condition = HOLDS, ""
    elif better:
        verdict, condition = HOLDS_WHEN, f"the images are those of {' or '.join(better)}"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    best = {name: min(CUTS, key=lambda arm: errors.mean(arm, name)) for name in errors.x}
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains[DOCUMENTS[0]],
        figures={
            "told": "; ".join(
                f"{name} {errors.mean(kept, name):.1f}% with the dense layer kept, {errors.mean(cut, name):.1f}% "
                f"with it cut, best: {best[name]} ({errors.mean(best[name], name):.1f}%)"
                for name in errors.x
            )
        },
    )


# T11 -----------------------------------------------------------------------------------------------------

MEDICAL = ("cell", "fundus")
PATCH_LABELS = (5, 20)
ARMS11 = (
    "pretrained, a linear head",
    "pretrained, two more dense layers",
    "the same net with random weights, a linear head",
    "a small net from scratch",
)


def random_net(seed: int) -> nn.Module:
    """EfficientNet-Lite0 with random weights, its batch norms' statistics taken from images of the course."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = EfficientNetLite0()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain average over the batches that follow
    images = torch.tensor(load("patch12").images)
    net.train()
    with torch.no_grad():
        for batch in images[:256].split(64):
            net(preprocess(batch, 48))
    return net.eval()


def deeper_head(x: Tensor, y: Tensor, classes: int, seed: int) -> nn.Module:
    """Standardized features, two dense layers of 256 units, and the classes; 100 steps of AdamW."""
    scale = Standardize(x)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wide = (nn.Linear(x.shape[1], 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, classes))
    head = nn.Sequential(*wide)
    train_net(head, scale(x), y, seed, lr=1e-3, steps=100)
    return nn.Sequential(scale, head)


def measure_medical(seeds):
    """patch12: crops of cells, an eye's fundus and ten other materials; which photograph is it from?"""
    target = Target("patch12", depths=())
    blind = random_net(0)

    def unseen(images):
        with torch.no_grad():
            return torch.cat([blind.feature_maps(preprocess(x, 48)).mean((2, 3)) for x in images.split(64)])

    random = {part: unseen(target.images[part]) for part in ("train", "test")}
    wanted, scratch = target.labels["test"], small(target.images["test"])
    medical = torch.tensor([list(target.data.classes).index(name) for name in MEDICAL])
    mask = torch.isin(wanted, medical)
    errors, on_medical = ({arm: [] for arm in ARMS11} for _ in range(2))
    for labels in PATCH_LABELS:
        for arm in ARMS11:
            all_of_them, some = [], []
            for seed in seeds:
                rows = target.draw(labels, seed)
                y = target.labels["train"][rows]
                if arm == ARMS11[0]:
                    net, seen = fit_head(target.features["train"][rows], y, target.classes), target.features["test"]
                elif arm == ARMS11[1]:
                    net = deeper_head(target.features["train"][rows], y, target.classes, seed)
                    seen = target.features["test"]
                elif arm == ARMS11[2]:
                    net, seen = fit_head(random["train"][rows], y, target.classes), random["test"]
                else:
                    pixels = small(target.images["train"][rows])
                    net, seen = train_scratch(pixels, y, target.classes, seed, lr=2e-3, steps=150), scratch
                all_of_them.append(percent_wrong(net, seen, wanted))
                some.append(percent_wrong(net, seen[mask], wanted[mask]))
            errors[arm].append(all_of_them)
            on_medical[arm].append(some)
    return Measured(
        series=(
            Series("test error", "%", errors, "labels per class", PATCH_LABELS),
            Series(
                "test error on cells and fundus",
                "%",
                on_medical,
                "labels per class",
                PATCH_LABELS,
                identical="of two classes an arm may get every crop right",
            ),
        )
    )


def decide_medical(measured):
    errors, medical = measured.series
    linear, deeper, random, scratch = ARMS11
    gain = {n: compared(errors, linear, scratch, n) for n in PATCH_LABELS}
    layers = {n: compared(errors, deeper, linear, n) for n in PATCH_LABELS}
    pointless = all(interval.low > -1 for interval in gain.values())
    wrecked = all(interval.low > 5 for interval in layers.values())
    if pointless and wrecked:
        verdict, condition = HOLDS, ""
    elif pointless or wrecked:
        verdict, condition = HOLDS_WHEN, "pretraining is meant" if pointless else "it is about the added layers"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    n = PATCH_LABELS[0]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gain[n],
        figures={
            "labels": n,
            "linear": errors.mean(linear, n),
            "deeper": errors.mean(deeper, n),
            "random": errors.mean(random, n),
            "scratch": errors.mean(scratch, n),
            "medical": medical.mean(linear, n),
            "medical_scratch": medical.mean(scratch, n),
        },
    )


# T12 -----------------------------------------------------------------------------------------------------

SIZE_SETS = ("emoji8", "patch12", "mnist5k")
SIZES = (32, 48, 64, 96)
NATIVE = {"emoji8": 32, "patch12": 48, "mnist5k": 32}  # the digits have 28 px; the net takes no fewer than 32


def measure_sizes(seeds):
    """A linear head on the pooled features of images resized to several sizes."""
    errors = {name: [] for name in SIZE_SETS}
    seconds = {name: [] for name in SIZE_SETS}
    for name in SIZE_SETS:
        drawn = Drawn(name, seeds, 10, tested=200)
        count = sum(len(images) for images in drawn.images.values())
        for size in SIZES:
            started = time.process_time()
            features = drawn.seen(lambda x, s=size: pretrained_net().feature_maps(preprocess(x, s)).mean((2, 3)))
            seconds[name].append([1000 * (time.process_time() - started) / count] * len(seeds))
            errors[name].append(drawn.errors(features, seeds))
    return Measured(
        series=(
            Series("test error", "%", errors, "pixels of a side", SIZES),
            Series("time for an image", "ms", seconds, "pixels of a side", SIZES),
        )
    )


def decide_sizes(measured):
    errors, times = measured.series
    largest = SIZES[-1]
    gains = {
        name: Interval.of_difference(
            f"test error at {largest} px minus at {NATIVE[name]} px, {name}",
            "points",
            errors.values(name, largest),
            errors.values(name, NATIVE[name]),
        )
        for name in SIZE_SETS
    }
    helped = [name for name, gain in gains.items() if gain.high < 0]
    if len(helped) == len(SIZE_SETS):
        verdict, condition = HOLDS, ""
    elif helped:
        verdict, condition = HOLDS_WHEN, f"the images are those of {' or '.join(helped)}"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains[SIZE_SETS[0]],
        figures={
            "told": "; ".join(
                f"{name} {errors.mean(name, NATIVE[name]):.1f}% at {NATIVE[name]} px, "
                f"{errors.mean(name, largest):.1f}% at {largest} px"
                for name in SIZE_SETS
            ),
            "ratio": times.mean(SIZE_SETS[0], largest) / times.mean(SIZE_SETS[0], SIZES[0]),
            "largest": largest,
            "smallest": SIZES[0],
        },
    )


# T18 -----------------------------------------------------------------------------------------------------

HEADS = {"linear": (), "128 units": (128,), "512 units": (512,), "512 and 512 units": (512, 512)}
HEAD_SETS, HEAD_LABELS = ("emoji8", "mnist5k"), (5, 50)
HEAD_RATES = (3e-4, 3e-3)


def measure_heads(seeds):
    """Heads of four sizes on the same frozen features, each at the better of two rates."""
    x = [f"{name}, {labels} labels" for name in HEAD_SETS for labels in HEAD_LABELS]
    errors, training, weights, seconds = ({arm: [] for arm in HEADS} for _ in range(4))
    for name in HEAD_SETS:
        target = Target(name, depths=())
        for labels in HEAD_LABELS:
            for arm, widths in HEADS.items():

                def run(lr, seed, part, widths=widths, labels=labels, target=target):
                    rows = target.draw(labels, seed)
                    z, y = target.features["train"][rows], target.labels["train"][rows]
                    scale = Standardize(z)
                    with torch.random.fork_rng(devices=[]):
                        torch.manual_seed(seed)
                        net = dense_head(z.shape[1], widths, target.classes)
                    started = time.process_time()
                    train_net(net, scale(z), y, seed, lr=lr, steps=80)
                    took = time.process_time() - started
                    right = percent_wrong(net, scale(target.features[part]), target.labels[part])
                    return right, percent_wrong(net, scale(z), y), took

                lr = min(HEAD_RATES, key=lambda rate: run(rate, TUNING_SEED, "valid")[0])
                found = [run(lr, seed, "test") for seed in seeds]
                errors[arm].append([error for error, _, _ in found])
                training[arm].append([error for _, error, _ in found])
                seconds[arm].append([took for _, _, took in found])
                count = sum(p.numel() for p in dense_head(1280, widths, target.classes).parameters())
                weights[arm].append([count] * len(seeds))
    zero = "every head learns its training images by heart"
    return Measured(
        series=(
            Series("test error", "%", errors, "data set, labels per class", x),
            Series("training error", "%", training, "data set, labels per class", x, identical=zero),
            Series("weights that train", "", weights, "data set, labels per class", x),
            Series("time to train", "s", seconds, "data set, labels per class", x),
        )
    )


def dense_head(inputs: int, widths: Sequence[int], classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, classes))


def decide_heads(measured):
    errors, _, weights, seconds = measured.series
    largest = list(HEADS)[-1]
    gains = {x: compared(errors, largest, "linear", x) for x in errors.x}
    worse = [x for x, gain in gains.items() if gain.low > 0]
    better = [x for x, gain in gains.items() if gain.high < 0]
    if len(worse) == len(gains):
        verdict, condition = HOLDS, ""
    elif not better:
        verdict = HOLDS_WHEN
        condition = "it is about the price: the largest head is nowhere better"
        condition += f", and worse on {' and '.join(worse)}" if worse else ", and nowhere clearly worse"
    elif worse:
        verdict, condition = HOLDS_WHEN, f"the task is {' or '.join(worse)}; on {' and '.join(better)} it is better"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    first = errors.x[0]
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains[first],
        figures={
            "told": "; ".join(
                f"{x} {errors.mean('linear', x):.1f}% and {errors.mean(largest, x):.1f}%" for x in errors.x
            ),
            "largest": largest,
            "weights": weights.mean(largest, first) / weights.mean("linear", first),
            "seconds": seconds.mean(largest, first) / seconds.mean("linear", first),
        },
    )


SEEDS = tuple(range(8))
CLAIMS = (
    Claim(
        id="T6",
        statement="Codes for a linear head should be taken after the ReLU, if they went through one in pretraining.",
        headline="Error of a linear head on the last convolution's codes: {told}.",
        rule="Holds if on every data set the error is lower after the ReLU (95% interval below 0); holds when … for "
        "those "
        "on which it is.",
        measure=measure_codes,
        decide=decide_codes,
        seeds=SEEDS,
    ),
    Claim(
        id="T9",
        statement="For new images, keep the pretrained dense layers and put the head on top of them, rather than "
        "cutting "
        "them off.",
        headline="Error of a linear head: {told}.",
        rule="Holds if on the documents and on both sets of pictures the error with the dense layer kept is lower than "
        "with "
        "it cut (95% interval below 0); holds when … for those on which it is.",
        measure=measure_cuts,
        decide=decide_cuts,
        seeds=SEEDS,
    ),
    Claim(
        id="T11",
        statement="For medical images it is pointless to use a net that was pretrained on everyday photographs, and "
        "layers "
        "added to it wreck the model.",
        headline="{labels} labels of each of 12 materials, cells and an eye's fundus among them: a linear head on the "
        "pretrained net errs on {linear:.1f}% (on cells and fundus {medical:.1f}%), with two more dense layers on "
        "{deeper:.1f}%, on the same net with random weights {random:.1f}%; a small net from scratch on {scratch:.1f}% "
        "({medical_scratch:.1f}%).",
        rule="Pointless if pretraining lowers the error by less than a point against training from scratch; wrecked if "
        "two "
        "more layers raise it by more than 5 (95% intervals, at both numbers of labels). Holds if both are so, does "
        "not "
        "hold if neither is.",
        measure=measure_medical,
        decide=decide_medical,
        seeds=SEEDS,
    ),
    Claim(
        id="T12",
        statement="Where the new images have another size, resize them towards what the net was trained on.",
        headline="Error of a linear head: {told}. An image at {largest} px takes {ratio:.0f} times as long as at "
        "{smallest}.",
        rule="Holds if on every data set the error at the largest size is lower than at the images' own (95% interval "
        "below "
        "0); holds when … for those on which it is.",
        measure=measure_sizes,
        decide=decide_sizes,
        seeds=SEEDS,
    ),
    Claim(
        id="T18",
        statement="Dense layers added to the head cost parameters and time and may overfit; a simpler head generalizes "
        "better.",
        headline="Error of a linear head and of one with {largest}: {told}. The latter has {weights:.0f} times the "
        "weights "
        "and takes {seconds:.0f} times as long.",
        rule="Holds if the largest head's error is above the linear one's in all four cases (95% interval); holds when "
        "… if "
        "it is in some, or nowhere below.",
        measure=measure_heads,
        decide=decide_heads,
        seeds=SEEDS,
    ),
)
