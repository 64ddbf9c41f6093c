"""C8: the textbook's table of defaults, each entry taken out by itself, and a recipe of today."""

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from course_lib.claims.claim import (
    DOES_NOT_HOLD,
    HOLDS,
    HOLDS_WHEN,
    Claim,
    Decision,
    Interval,
    Measured,
    Series,
    Table,
)
from course_lib.claims.cnn_architectures.nets import SETS, How, percent, tuned, wrong
from course_lib.claims.experiments import images

__all__ = ["CLAIMS", "CURRENT", "RECIPE"]

RECIPE, CURRENT = "the recipe", "a recipe of today"
ADAM, MOMENTUM = (1e-3, 3e-3, 1e-2), (0.01, 0.03, 0.1)
STEPS = 250
WORTH = 1.0  # points; smaller changes come and go with the seeds


def recipe_net(
    channels: int,
    side: int,
    classes: int,
    *,
    bend: Callable[[], nn.Module] = nn.ELU,
    norm: bool = True,
    drop: float = 0.3,
    he: bool = True,
) -> Callable[[], nn.Module]:
    """conv → pool → conv → pool → dense → logits, batch norm before each bend, dropout before the last layer."""

    def make() -> nn.Module:
        def unit(layer: nn.Module, maps: int, kind: type[nn.Module]) -> list[nn.Module]:
            return [layer, *([kind(maps)] if norm else []), bend()]

        net = nn.Sequential(
            *unit(nn.Conv2d(channels, 12, 3, padding=1), 12, nn.BatchNorm2d),
            nn.MaxPool2d(2),
            *unit(nn.Conv2d(12, 24, 3, padding=1), 24, nn.BatchNorm2d),
            nn.MaxPool2d(2),
            nn.Flatten(),
            *unit(nn.Linear(24 * (side // 4) ** 2, 64), 64, nn.BatchNorm1d),
            nn.Dropout(drop),
            nn.Linear(64, classes),
        )
        for module in net:
            if isinstance(module, nn.Conv2d | nn.Linear):
                if he:
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                else:
                    nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        return net

    return make


def arms_for(channels: int, side: int, classes: int):
    """Each arm's options: the net and how it is trained, at three rates."""
    shape = (channels, side, classes)
    plain = How(steps=STEPS)
    nets = {
        RECIPE: (recipe_net(*shape), plain, ADAM),
        "Glorot, not He": (recipe_net(*shape, he=False), plain, ADAM),
        "ReLU, not ELU": (recipe_net(*shape, bend=nn.ReLU), plain, ADAM),
        "no batch norm": (recipe_net(*shape, norm=False), plain, ADAM),
        "no dropout": (recipe_net(*shape, drop=0.0), plain, ADAM),
        "momentum, not Adam": (recipe_net(*shape), replace(plain, rule="sgd"), MOMENTUM),
        "one cycle, not a fixed rate": (recipe_net(*shape), replace(plain, schedule=True), ADAM),
        CURRENT: (
            recipe_net(*shape, bend=nn.ReLU, drop=0.0),
            replace(plain, schedule=True, decay=0.05, smoothing=0.1, shift=1),
            ADAM,
        ),
    }
    return {arm: [(make, replace(how, lr=lr)) for lr in rates] for arm, (make, how, rates) in nets.items()}


def measure_recipe(seeds):
    """Eight recipes on 800 images of each set; each chooses its rate on validation images."""
    series = []
    for name in SETS:
        data = images(name, halve=True)
        trained = tuned(arms_for(*data.train[0].shape[1:3], data.classes), data, seeds, 800)
        errors = {arm: [percent(wrong(net, data.test) for net in nets)] for arm, nets in trained.items()}
        series.append(Series(f"test error, {name}", "%", errors))
    table = Table(
        "The two recipes",
        ("", "the textbook's", "today's"),
        (
            ("initialization", "He", "He"),
            ("activation", "ELU", "ReLU"),
            ("normalization", "batch norm", "batch norm"),
            ("regularization", "dropout 0.3", "weight decay 0.05, label smoothing 0.1, shifts by a pixel"),
            ("optimizer", "Adam", "AdamW"),
            ("schedule", "none", "one cycle"),
        ),
    )
    return Measured(series, (table,))


def decide_recipe(measured):
    arms = [arm for arm in measured[f"test error, {SETS[0]}"].arms if arm != RECIPE]

    def gap(arm, name):
        series = measured[f"test error, {name}"]
        what = f"test error, {arm} minus the recipe, {name}"
        return Interval.of_difference(what, "points", series.values(arm), series.values(RECIPE))

    gaps = {arm: [gap(arm, name) for name in SETS] for arm in arms}
    better = [arm for arm in arms if all(found.high < 0 and found.mean <= -WORTH for found in gaps[arm])]
    worse = [arm for arm in arms if all(found.low > 0 and found.mean >= WORTH for found in gaps[arm])]
    single = [arm for arm in better if arm != CURRENT]
    if not better:
        verdict, condition = HOLDS, ""
    elif not single:
        verdict, condition = HOLDS_WHEN, "you change one entry at a time: a recipe that changes several is better"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=gaps[CURRENT][0],
        figures={
            "better": ", ".join(better) or "none",
            "worse": ", ".join(worse) or "none",
            "changes": "; ".join(f"{arm} " + ", ".join(f"{found.mean:+.1f}" for found in gaps[arm]) for arm in arms),
            "sets": ", ".join(SETS),
        },
    )


CLAIMS = (
    Claim(
        id="C8",
        statement="A table of defaults that works: He initialization, ELU, batch norm, dropout, Adam, no schedule.",
        headline="Test error minus the recipe's, in points ({sets}): {changes}. Better by a point or more on both "
        "sets: {better}. Worse by as much: {worse}.",
        rule="Holds if no change to the recipe lowers the test error by a point or more on both data sets (paired 95% "
        "intervals below 0 too); holds when … if only the recipe of today does, which changes several entries at once; "
        "does not hold if a single change does. Each arm chooses among 3 rates on validation images; 800 training "
        "images, 250 steps.",
        measure=measure_recipe,
        decide=decide_recipe,
        seeds=tuple(range(8)),
    ),
)
