"""I6, I7: random filters as edge detectors, and filters that come from pretraining."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import pretrained
from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series
from course_lib.claims.experiments import TUNING_SEEDS
from course_lib.datasets import load
from course_lib.initializers import he_normal_

__all__ = ["CLAIMS", "answers_by_angle", "edge_bank", "random_bank", "selectivity", "stem_filters"]

# I6 ------------------------------------------------------------------------------------------------------

SETS = ("mnist5k", "emoji8")
ANGLES = 24
FILTERS = 32  # of 3 × 3 × 3, as many as the pretrained net's first layer has
RANDOM, TRAINED, DESIGNED, PIXELS = "random filters", "pretrained filters", "designed edge filters", "pixels alone"
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # × the number of training images


def oriented_edges(angles: int = ANGLES) -> Tensor:
    """Step edges from black to white, one for each angle: (angles, 3, 15, 15), values ±1, slightly smoothed."""
    side = torch.arange(15) - 7.0
    y, x = torch.meshgrid(side, side, indexing="ij")
    turned = torch.arange(angles) * (2 * math.pi / angles)
    distance = x * turned.cos()[:, None, None] + y * turned.sin()[:, None, None]
    return (distance / 0.5).tanh()[:, None].expand(-1, 3, -1, -1)


def answers_by_angle(filters: Tensor) -> Tensor:
    """The strongest answer, of either sign, of each filter (F, 3, k, k) to an edge at each angle: (angles, F).

    Filters are scaled to length 1. The edge may lie anywhere in the filter's view, or beside it.
    """
    return F.conv2d(oriented_edges(), unit(filters)).flatten(2).abs().amax(2)


def unit(filters: Tensor) -> Tensor:
    return filters / filters.flatten(1).norm(dim=1)[:, None, None, None]


def selectivity(filters: Tensor) -> tuple[Tensor, Tensor]:
    """(by_angle, flat) of each filter: (max − min)/(max + min) of its answers over the angles of an edge, and its
    answer to a flat area over its strongest to an edge.

    A filter for edges of one direction has by_angle = 1 and flat = 0, one that sees brightness alone 0 and 1.
    """
    answers = answers_by_angle(filters)
    strongest, weakest = answers.amax(0), answers.amin(0)
    by_angle = (strongest - weakest) / (strongest + weakest)
    return by_angle, unit(filters).sum((1, 2, 3)).abs() / strongest


def edge_bank() -> Tensor:
    """Designed edge detectors (32, 3, 3, 3): a small bump's slope in 32 directions, the same in each colour."""
    side = torch.arange(3) - 1.0
    y, x = torch.meshgrid(side, side, indexing="ij")
    bump = torch.exp(-(x**2 + y**2) / 2)
    turned = torch.arange(FILTERS) * (2 * math.pi / FILTERS)
    slope = x * turned.cos()[:, None, None] + y * turned.sin()[:, None, None]
    return (slope * bump)[:, None].expand(-1, 3, -1, -1)


def random_bank(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return he_normal_(torch.empty(FILTERS, 3, 3, 3), generator=generator)


def stem_filters() -> Tensor:
    """The filters (F, 3, 3, 3) of the pretrained net's first layer, without those that training switched off."""
    weight = pretrained.load().stem.conv.weight.detach()
    return weight[weight.flatten(1).norm(dim=1) > 1e-3]


def colour(images) -> Tensor:
    """uint8 (N, H, W) or (N, H, W, 3) -> (N, 3, 28, 28), each image's values standardized together."""
    x = torch.from_numpy(images).float()
    x = x[:, None].expand(-1, 3, -1, -1) if x.ndim == 3 else x.permute(0, 3, 1, 2)
    x = F.interpolate(x, (28, 28), mode="bilinear", antialias=True, align_corners=False)
    return (x - x.mean()) / x.std()


def pooled(x: Tensor, filters: Tensor | None) -> Tensor:
    """What the linear head sees, (N, features): averaged pixels, or rectified answers of filters of length 1."""
    if filters is None:
        return F.avg_pool2d(x, 2).flatten(1)
    return F.avg_pool2d(F.conv2d(x, unit(filters), padding=1).relu(), 4).flatten(1)


def ridge_error(features: dict[str, Tensor], labels: dict[str, Tensor]) -> float:
    """Test error in % of ridge regression onto ±1 targets, its penalty chosen on validation images.

    One scale for all features: one that is nearly always 0 would else be blown up. Solved in the dual, which is as
    large as there are training images.
    """
    mean, std = features["train"].mean(0), features["train"].std()
    x = {part: ((f - mean) / std).double() for part, f in features.items()}
    targets = 2 * F.one_hot(labels["train"]).double() - 1
    centre = targets.mean(0)
    values, vectors = torch.linalg.eigh(x["train"] @ x["train"].T)
    onto = vectors.T @ (targets - centre)
    heads = [
        x["train"].T @ (vectors @ (onto / (values.clamp_min(0) + penalty * len(targets))[:, None]))
        for penalty in PENALTIES
    ]
    wrong = lambda head, part: float(((x[part] @ head + centre).argmax(1) != labels[part]).double().mean())
    best = min(heads, key=lambda head: wrong(head, "valid"))
    return 100 * wrong(best, "test")


def measure_edges(seeds):
    """How edge-like random, pretrained and designed filters answer, and linear heads on each of them."""
    stem = stem_filters()
    banks = {
        RANDOM: [random_bank(s) for s in seeds],
        TRAINED: [stem] * len(seeds),
        DESIGNED: [edge_bank()] * len(seeds),
    }
    oriented = {arm: [[float(selectivity(bank)[0].mean()) for bank in found]] for arm, found in banks.items()}
    flat = {arm: [[round(float(selectivity(bank)[1].mean()), 4) for bank in found]] for arm, found in banks.items()}
    errors = {arm: [] for arm in (*banks, PIXELS)}
    for name in SETS:
        data = load(name)
        x = {part: colour(getattr(data, part).images) for part in ("train", "valid", "test")}
        y = {part: torch.from_numpy(getattr(data, part).labels).long() for part in x}
        by_seed: dict[str, list[float]] = {arm: [] for arm in errors}
        for i, seed in enumerate(seeds):
            rows = torch.randperm(len(y["train"]), generator=torch.Generator().manual_seed(seed))[:600]
            for arm in errors:
                bank = banks[arm][i] if arm in banks else None
                features = {
                    part: pooled(pictures[rows] if part == "train" else pictures, bank) for part, pictures in x.items()
                }
                by_seed[arm].append(ridge_error(features, {**y, "train": y["train"][rows]}))
        for arm, values in by_seed.items():
            errors[arm].append(values)
    return Measured(
        series=(
            Series("dependence of the answer on the edge's angle", "", oriented),
            Series("answer to a flat area over the strongest to an edge", "", flat),
            Series("test error of a linear head", "%", errors, "data set", SETS),
        )
    )


def decide_edges(measured):
    oriented, flat, error = measured.series
    like_trained = [
        Interval.of_difference("", "points", error.values(RANDOM, n), error.values(TRAINED, n)) for n in SETS
    ]
    over_pixels = [Interval.of_difference("", "points", error.values(RANDOM, n), error.values(PIXELS, n)) for n in SETS]
    answers = oriented.mean(RANDOM) >= 0.8 * oriented.mean(DESIGNED) and flat.mean(RANDOM) <= flat.mean(DESIGNED) + 0.2
    useful = all(i.high < 0 for i in over_pixels)
    as_good = all(i.high < 2 for i in like_trained)
    if answers and as_good:
        verdict, condition = HOLDS, ""
    elif useful or as_good:
        verdict = HOLDS_WHEN
        condition = "“much like” is taken by the use: a linear head on random filters "
        condition += "comes within 2 points of one on pretrained filters" if as_good else "beats one on the pixels"
        condition += (
            "" if answers else "; by its answers a random filter is no edge detector, since it answers flat areas"
        )
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=Interval.of_difference(
            f"test error of a linear head, random minus pretrained filters, {SETS[1]}",
            "points",
            error.values(RANDOM, SETS[1]),
            error.values(TRAINED, SETS[1]),
        ),
        figures={
            "random": oriented.mean(RANDOM),
            "trained": oriented.mean(TRAINED),
            "designed": oriented.mean(DESIGNED),
            "flat": flat.mean(RANDOM),
            "flat_trained": flat.mean(TRAINED),
            "on_random": error.mean(RANDOM, SETS[1]),
            "on_trained": error.mean(TRAINED, SETS[1]),
            "on_designed": error.mean(DESIGNED, SETS[1]),
            "on_pixels": error.mean(PIXELS, SETS[1]),
        },
    )


# I7 ------------------------------------------------------------------------------------------------------

TARGETS = ("emoji8", "mnist5k")
STEPS = (10, 20, 40)
BATCH, FEW, SIZE = 16, 200, 48
FINE_RATES = (1e-3, 3e-3)
BLOCK = 2  # the stem and three blocks: what early vision needs


def small_net(classes: int, seed: int, *, learned: bool) -> nn.Module:
    """The pretrained net's first blocks under a new linear head; without `learned`, He's draw in their place."""
    torch.manual_seed(seed)
    trunk = pretrained.cut(pretrained.load(), BLOCK)
    if not learned:
        for module in trunk.modules():
            if isinstance(module, nn.Conv2d):
                he_normal_(module.weight)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
                module.reset_running_stats()
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    head = nn.Linear(pretrained.BLOCKS[BLOCK].out_channels * 4 * 4, classes)
    return nn.Sequential(trunk, nn.AdaptiveAvgPool2d(4), nn.Flatten(), head)


def fine_tune(name: str, seed: int, lr: float, *, learned: bool, score_on: str) -> list[float]:
    """Errors in % after each of STEPS on the part `score_on`, of a net trained on FEW images that the seed draws."""
    data = load(name)
    part = getattr(data, score_on)
    with torch.random.fork_rng(devices=[]):
        net = small_net(len(data.classes), seed, learned=learned)
        optimizer = torch.optim.Adam(net.parameters(), lr=lr)
        order = torch.Generator().manual_seed(seed)
        rows = torch.randperm(len(data.train.labels), generator=order)[:FEW]
        x = pretrained.preprocess(data.train.images[rows], SIZE)
        y = torch.from_numpy(data.train.labels)[rows].long()
        x_score = pretrained.preprocess(part.images[:300], SIZE)
        y_score = torch.from_numpy(part.labels[:300]).long()
        errors = []
        for step in range(1, max(STEPS) + 1):
            batch = torch.randint(FEW, (BATCH,), generator=order)
            net.train()
            loss = F.cross_entropy(net(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step in STEPS:
                net.eval()
                with torch.no_grad():
                    said = torch.cat([net(part).argmax(1) for part in x_score.split(100)])
                errors.append(100 * float((said != y_score).float().mean()))
    return errors


ARMS = {"pretrained": True, "random": False}


def measure_pretrained(seeds):
    """Errors by step from pretrained and from random filters, each with the rate that validation prefers."""
    series = []
    for name in TARGETS:
        arms = {}
        for arm, learned in ARMS.items():
            valid = {
                lr: fine_tune(name, TUNING_SEEDS[0], lr, learned=learned, score_on="valid")[-1] for lr in FINE_RATES
            }
            lr = min(valid, key=valid.get)
            runs = [fine_tune(name, seed, lr, learned=learned, score_on="test") for seed in seeds]
            arms[arm] = [[run[i] for run in runs] for i in range(len(STEPS))]
        series.append(Series(f"test error, {FEW} images of {name}", "%", arms, "steps", STEPS))
    return Measured(series=tuple(series))


def decide_pretrained(measured):
    last = STEPS[-1]
    gains = {
        s.name: Interval.of_difference(
            f"{s.name}, pretrained minus random, after {last} steps",
            "points",
            s.values("pretrained", last),
            s.values("random", last),
        )
        for s in measured.series
    }
    needed = []  # steps after which the pretrained start is as good as the random one at the end
    for s in measured.series:
        reached = [k for k in STEPS if s.mean("pretrained", k) <= s.mean("random", last)]
        needed.append(reached[0] if reached else math.inf)
    helps = [s.name for s in measured.series if gains[s.name].high < 0]
    if len(helps) == len(gains) and max(needed) <= last / 2:
        verdict, condition = HOLDS, ""
    elif helps:
        verdict, condition = HOLDS_WHEN, "a gain beyond the noise at " + ", ".join(n.split(", ")[1] for n in helps)
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    first, second = measured.series
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gains[first.name],
        figures={
            "last": last,
            "pretrained": first.mean("pretrained", last),
            "random": first.mean("random", last),
            "pretrained2": second.mean("pretrained", last),
            "random2": second.mean("random", last),
            "needed": f"{needed[0]:g}" if needed[0] < math.inf else "not even that many",
            "needed2": f"{needed[1]:g}" if needed[1] < math.inf else "not even that many",
        },
    )


CLAIMS = (
    Claim(
        id="I6",
        statement="A randomly initialized filter already acts much like an edge detector.",
        headline="The answer depends on the edge's angle by {random:.2f} for random filters, {trained:.2f} for "
        "pretrained and {designed:.2f} for designed ones; a flat area gets {flat:.2f} of the strongest "
        "answer (pretrained {flat_trained:.2f}). A linear head on them errs on {on_random:.1f}% of emoji, "
        "on pretrained filters {on_trained:.1f}%, designed {on_designed:.1f}%, on pixels {on_pixels:.1f}%.",
        rule="By its answers it is an edge detector if it depends on the angle at least 0.8 times as much as "
        "designed ones and answers flat areas by at most 0.2 more. Holds if so and a linear head on it "
        "comes within 2 points of pretrained filters on both sets (95% interval); holds when … if only the "
        "head does, or beats pixels on both.",
        measure=measure_edges,
        decide=decide_edges,
        seeds=tuple(range(8)),
    ),
    Claim(
        id="I7",
        statement="Filters may instead come from pretraining on other data.",
        headline="After {last} steps on 200 emoji the test error is {pretrained:.1f}% from pretrained filters and "
        "{random:.1f}% from random ones; on 200 digits {pretrained2:.1f}% and {random2:.1f}%. What the "
        "random start reaches after {last} steps, the pretrained one has after {needed} (emoji) and "
        "{needed2} (digits).",
        rule="Holds if on both sets the paired 95% interval of pretrained minus random lies below 0 after the "
        "last step, and the random start's last error is reached in at most half the steps; holds when … "
        "if on one.",
        measure=measure_pretrained,
        decide=decide_pretrained,
        seeds=tuple(range(5)),
    ),
)
