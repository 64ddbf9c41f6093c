"""Learning rates over time: falling by steps or smoothly, warm-up with a cosine, one cycle, and on a plateau."""

from __future__ import annotations

import numpy as np

from course_lib import schedules as reference

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

FORBIDDEN = (
    "course_lib.schedules",
    "torch.optim.lr_scheduler.StepLR",
    "torch.optim.lr_scheduler.CosineAnnealingLR",
    "torch.optim.lr_scheduler.OneCycleLR",
    "torch.optim.lr_scheduler.ReduceLROnPlateau",
)

# ---------------------------------------------------------------- by steps, and smoothly


def falling_cases(seed):
    """Drops every epoch and every few, epochs of one step and of many, no fall at all, a steep one."""
    rng = np.random.default_rng(seed)

    def case(name, gamma, drop_every, steps_per_epoch, epochs):
        total = epochs * steps_per_epoch
        steps = np.arange(total) if total <= 60 else np.unique(rng.integers(0, total, 40))
        return Case(
            name,
            {
                "steps": steps,
                "lr": float(rng.uniform(0.01, 1.0)),
                "gamma": gamma,
                "drop_every": drop_every,
                "steps_per_epoch": steps_per_epoch,
            },
        )

    yield case("gamma = 0.1 every 3 epochs of 5 steps", 0.1, 3, 5, 10)
    yield case("gamma = 0.5 every epoch of 4 steps", 0.5, 1, 4, 6)
    yield case("epochs of one step", 0.5, 2, 1, 12)
    yield case("epochs of 100 steps", 0.3, 10, 100, 60)
    yield case("gamma = 1: it never falls", 1.0, 2, 3, 8)
    yield case("gamma = 0.9 every 7 epochs of 2 steps", 0.9, 7, 2, 30)


def falling_probe(candidate, case):
    import numpy as np

    stepped, smooth = [], []
    for step in case["steps"].tolist():
        a, b = candidate(step, case["lr"], case["gamma"], case["drop_every"], case["steps_per_epoch"])
        stepped.append(float(a))
        smooth.append(float(b))
    return {"by steps": np.array(stepped), "smoothly": np.array(smooth)}


def falling_rates(step, lr, gamma, drop_every, steps_per_epoch):
    """(rate by steps, rate of a smooth decay) of one update, from 0; both fall by gamma in drop_every epochs."""
    span = drop_every * steps_per_epoch
    return lr * gamma ** (step // span), lr * gamma ** (step / span)


def epochs_taken_for_steps(step, lr, gamma, drop_every, steps_per_epoch):
    return lr * gamma ** (step // drop_every), lr * gamma ** (step / drop_every)


def falls_a_step_early(step, lr, gamma, drop_every, steps_per_epoch):
    span = drop_every * steps_per_epoch
    return lr * gamma ** ((step + 1) // span), lr * gamma ** ((step + 1) / span)


def falls_a_step_late(step, lr, gamma, drop_every, steps_per_epoch):
    span = drop_every * steps_per_epoch
    return lr * gamma ** (max(step - 1, 0) // span), lr * gamma ** (max(step - 1, 0) / span)


def falls_an_epoch_early(step, lr, gamma, drop_every, steps_per_epoch):
    epoch = step // steps_per_epoch
    return lr * gamma ** ((1 + epoch) // drop_every), lr * gamma ** (step / (drop_every * steps_per_epoch))


def smooth_in_stairs(step, lr, gamma, drop_every, steps_per_epoch):
    epoch = step // steps_per_epoch
    return lr * gamma ** (epoch // drop_every), lr * gamma ** (epoch / drop_every)


def both_in_stairs(step, lr, gamma, drop_every, steps_per_epoch):
    rate = lr * gamma ** (step // (drop_every * steps_per_epoch))
    return rate, rate


def both_smooth(step, lr, gamma, drop_every, steps_per_epoch):
    rate = lr * gamma ** (step / (drop_every * steps_per_epoch))
    return rate, rate


def falls_each_epoch(step, lr, gamma, drop_every, steps_per_epoch):
    return lr * gamma ** (step // steps_per_epoch), lr * gamma ** (step / steps_per_epoch)


def multiplied_for_raised(step, lr, gamma, drop_every, steps_per_epoch):
    span = drop_every * steps_per_epoch
    return lr * gamma * (step // span), lr * gamma * (step / span)


def gamma_taken_off(step, lr, gamma, drop_every, steps_per_epoch):
    span = drop_every * steps_per_epoch
    return lr * (1 - gamma) ** (step // span), lr * (1 - gamma) ** (step / span)


def falling_order(step, lr, gamma, drop_every, steps_per_epoch):
    span = drop_every * steps_per_epoch
    return lr * gamma ** (step / span), lr * gamma ** (step // span)


def falling_by_exp(step, lr, gamma, drop_every, steps_per_epoch):
    import math

    share = step / (drop_every * steps_per_epoch)
    return lr * gamma ** math.floor(share), lr * math.exp(share * math.log(gamma))


def falling_by_epochs(step, lr, gamma, drop_every, steps_per_epoch):
    epoch = step / steps_per_epoch
    drops = (step // steps_per_epoch) // drop_every
    return lr * pow(gamma, drops), lr * pow(gamma, epoch / drop_every)


def falling_by_loop(step, lr, gamma, drop_every, steps_per_epoch):
    rate = lr
    for s in range(1, step + 1):
        if s % (drop_every * steps_per_epoch) == 0:
            rate *= gamma
    return rate, lr * np.power(gamma, step / (drop_every * steps_per_epoch))


falling_exercise = Exercise(
    id="optimizers.falling_rates",
    lesson="06_optimizers",
    title="A rate that falls in stairs, and one that falls smoothly",
    answer="falling_rates",
    criteria=(
        Criterion("by steps", 1, Close(operations=256)),
        Criterion("smoothly", 1, Close(operations=256)),
    ),
    cases=falling_cases,
    probe=falling_probe,
    reference=falling_rates,
    misconceptions=(
        Misconception(
            "epochs_taken_for_steps",
            epochs_taken_for_steps,
            "You count drop_every in updates. It is given in epochs, and an epoch here has {steps_per_epoch} of them: "
            "your rate collapses within the first epochs.",
            "One span is drop_every * steps_per_epoch updates.",
        ),
        Misconception(
            "falls_a_step_early",
            falls_a_step_early,
            "Your rates fall one update too early: the very first update is number 0.",
            "Use step itself, without + 1.",
        ),
        Misconception(
            "falls_a_step_late",
            falls_a_step_late,
            "Your rates fall one update too late.",
            "Use step itself, without − 1.",
        ),
        Misconception(
            "falls_an_epoch_early",
            falls_an_epoch_early,
            "Your stairs fall one epoch too early: with 1 + epoch, the first stair is an epoch shorter than the "
            "others.",
            "Count epochs from 0: epoch // drop_every.",
        ),
        Misconception(
            "smooth_in_stairs",
            smooth_in_stairs,
            "Your smooth rate changes only from epoch to epoch.",
            "Divide the update by its span with /, which keeps the fraction.",
        ),
        Misconception(
            "both_in_stairs",
            both_in_stairs,
            "Both rates fall in stairs: // throws the fraction away.",
            "Use / for the smooth one.",
        ),
        Misconception(
            "both_smooth",
            both_smooth,
            "Both rates fall smoothly: / keeps the fraction.",
            "Use // for the stairs.",
        ),
        Misconception(
            "falls_each_epoch",
            falls_each_epoch,
            "The rate falls by gamma in every epoch; it should take drop_every of them.",
            "One span is drop_every * steps_per_epoch updates.",
        ),
        Misconception(
            "multiplied_for_raised",
            multiplied_for_raised,
            "You multiply by the number of drops. At the start there are none, so the rate is 0, and later it rises.",
            "Raise gamma to that number: gamma ** (step // span).",
        ),
        Misconception(
            "gamma_taken_off",
            gamma_taken_off,
            "You take gamma off: each drop leaves 1 − gamma. gamma is what is left.",
            "lr * gamma ** …",
        ),
        Misconception(
            "falling_order",
            falling_order,
            "The two are exchanged: the first one should fall in stairs.",
            "Return (by steps, smoothly).",
        ),
    ),
    variants=(
        Variant("falling_by_exp", falling_by_exp),
        Variant("falling_by_epochs", falling_by_epochs),
        Variant("falling_by_loop", falling_by_loop),
    ),
    forbidden=FORBIDDEN,
    hints=(
        "After how many updates should the rate be gamma times what it was?",
        "After span = drop_every * steps_per_epoch. How many whole spans have passed, and how many with their "
        "fraction?",
        "lr * gamma ** (step // span), lr * gamma ** (step / span).",
    ),
    minutes=7,
)

# ---------------------------------------------------------------- warm-up and cosine


def warmup_cases(seed):
    """With and without warm-up and floor, beyond the end, a warm-up of one step, a long run."""
    rng = np.random.default_rng(seed)

    def case(name, warmup, total, min_lr=0.0, beyond=0):
        return Case(
            name,
            {
                "steps": np.unique(np.linspace(0, total + beyond, 41).astype(np.int64)),
                "lr": float(rng.uniform(0.05, 1.0)),
                "warmup_steps": warmup,
                "total_steps": total,
                "min_lr": min_lr,
            },
        )

    yield case("10 of 40 steps warm up", 10, 40)
    yield case("down to 0.01", 8, 40, min_lr=0.01)
    yield case("no warm-up", 0, 40, min_lr=0.005)
    yield case("a warm-up of one step", 1, 25)
    yield case("trained on beyond the end", 5, 20, min_lr=0.002, beyond=20)
    yield case("a run of 10,000 steps", 500, 10_000, min_lr=0.001)


def warmup_probe(candidate, case):
    import numpy as np

    steps = case["steps"].tolist()
    rates = [float(candidate(s, case["lr"], case["warmup_steps"], case["total_steps"], case["min_lr"])) for s in steps]
    up = [s < case["warmup_steps"] for s in steps]
    found = {"after the warm-up": np.array([rate for rate, rising in zip(rates, up, strict=True) if not rising])}
    if any(up):
        found["in the warm-up"] = np.array([rate for rate, rising in zip(rates, up, strict=True) if rising])
    return found


def warmup_cosine(step, lr, warmup_steps, total_steps, min_lr):
    """The rate of one update: in a line from 0 to lr, then half a cosine down to min_lr, which then stays."""
    return reference.warmup_cosine(step, lr=lr, warmup_steps=warmup_steps, total_steps=total_steps, min_lr=min_lr)


def cosine_runs_from_the_start(step, lr, warmup_steps, total_steps, min_lr):
    import math

    if step < warmup_steps:
        return lr * step / warmup_steps
    share = min(step / total_steps, 1)
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * share)) / 2


def cosine_of_the_whole_run(step, lr, warmup_steps, total_steps, min_lr):
    import math

    if step < warmup_steps:
        return lr * step / warmup_steps
    share = min((step - warmup_steps) / total_steps, 1)
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * share)) / 2


def whole_wave(step, lr, warmup_steps, total_steps, min_lr):
    import math

    if step < warmup_steps:
        return lr * step / warmup_steps
    share = min((step - warmup_steps) / (total_steps - warmup_steps), 1)
    return min_lr + (lr - min_lr) * (1 + math.cos(2 * math.pi * share)) / 2


def quarter_wave(step, lr, warmup_steps, total_steps, min_lr):
    import math

    if step < warmup_steps:
        return lr * step / warmup_steps
    share = min((step - warmup_steps) / (total_steps - warmup_steps), 1)
    return min_lr + (lr - min_lr) * math.cos(math.pi * share / 2)


def wave_not_halved(step, lr, warmup_steps, total_steps, min_lr):
    import math

    if step < warmup_steps:
        return lr * step / warmup_steps
    share = min((step - warmup_steps) / (total_steps - warmup_steps), 1)
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * share))


def warmed_a_step_ahead(step, lr, warmup_steps, total_steps, min_lr):
    import math

    if step < warmup_steps:
        return lr * (step + 1) / warmup_steps
    share = min((step - warmup_steps) / (total_steps - warmup_steps), 1)
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * share)) / 2


def floor_ignored(step, lr, warmup_steps, total_steps, min_lr):
    import math

    if step < warmup_steps:
        return lr * step / warmup_steps
    share = min((step - warmup_steps) / (total_steps - warmup_steps), 1)
    return lr * (1 + math.cos(math.pi * share)) / 2


def floor_on_top(step, lr, warmup_steps, total_steps, min_lr):
    import math

    if step < warmup_steps:
        return lr * step / warmup_steps
    share = min((step - warmup_steps) / (total_steps - warmup_steps), 1)
    return min_lr + lr * (1 + math.cos(math.pi * share)) / 2


def rises_again(step, lr, warmup_steps, total_steps, min_lr):
    import math

    if step < warmup_steps:
        return lr * step / warmup_steps
    share = (step - warmup_steps) / (total_steps - warmup_steps)
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * share)) / 2


def straight_line_down(step, lr, warmup_steps, total_steps, min_lr):
    if step < warmup_steps:
        return lr * step / warmup_steps
    share = min((step - warmup_steps) / (total_steps - warmup_steps), 1)
    return min_lr + (lr - min_lr) * (1 - share)


def warmed_from_the_floor(step, lr, warmup_steps, total_steps, min_lr):
    import math

    if step < warmup_steps:
        return min_lr + (lr - min_lr) * step / warmup_steps
    share = min((step - warmup_steps) / (total_steps - warmup_steps), 1)
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * share)) / 2


def warmup_in_numpy(step, lr, warmup_steps, total_steps, min_lr):
    if step < warmup_steps:
        return float(np.interp(step, [0, warmup_steps], [0.0, lr]))
    share = np.clip((step - warmup_steps) / (total_steps - warmup_steps), 0, 1)
    return float(lr - (lr - min_lr) * (1 - np.cos(np.pi * share)) / 2)


def warmup_by_sine(step, lr, warmup_steps, total_steps, min_lr):
    import math

    if warmup_steps and step < warmup_steps:
        return step * (lr / warmup_steps)
    left = max(total_steps - step, 0) / (total_steps - warmup_steps)
    return min_lr + (lr - min_lr) * math.sin(math.pi / 2 * left) ** 2


def warmup_by_branches(step, lr, warmup_steps, total_steps, min_lr):
    import math

    if step >= total_steps:
        return min_lr
    if step >= warmup_steps:
        angle = math.pi * (step - warmup_steps) / (total_steps - warmup_steps)
        half = 0.5 * (math.cos(angle) + 1)
        return half * lr + (1 - half) * min_lr
    return step / warmup_steps * lr


warmup_exercise = Exercise(
    id="optimizers.warmup_cosine",
    lesson="06_optimizers",
    title="Warm up, then half a cosine down",
    answer="warmup_cosine",
    criteria=(
        Criterion("after the warm-up", 1, Close(operations=256)),
        Criterion("in the warm-up", 1, Close(operations=256), requires=("after the warm-up",)),
    ),
    cases=warmup_cases,
    probe=warmup_probe,
    reference=warmup_cosine,
    misconceptions=(
        Misconception(
            "cosine_runs_from_the_start",
            cosine_runs_from_the_start,
            "The cosine runs from update 0, so the rate jumps down when the warm-up ends: it never holds lr.",
            "Count from the end of the warm-up: (step - warmup_steps) / (total_steps - warmup_steps).",
        ),
        Misconception(
            "cosine_of_the_whole_run",
            cosine_of_the_whole_run,
            "You divide by all steps, although only total_steps − warmup_steps are left: the rate does not get down to "
            "min_lr by the end.",
            "Divide by total_steps - warmup_steps.",
        ),
        Misconception(
            "whole_wave",
            whole_wave,
            "Your cosine runs through a whole wave: down, and up again to lr at the end.",
            "Half a wave: the angle goes from 0 to π.",
        ),
        Misconception(
            "quarter_wave",
            quarter_wave,
            "Your cosine is a quarter of a wave: it falls steepest at the very end instead of levelling out.",
            "(1 + cos(π · share)) / 2.",
        ),
        Misconception(
            "wave_not_halved",
            wave_not_halved,
            "1 + cos runs from 2 down to 0: your rate starts at twice lr.",
            "Halve it: (1 + cos(π · share)) / 2.",
        ),
        Misconception(
            "warmed_a_step_ahead",
            warmed_a_step_ahead,
            "Your warm-up is one update ahead: lr is reached at step warmup_steps − 1. Some libraries do so; here "
            "update 0 has the rate 0, and update warmup_steps has lr.",
            "lr * step / warmup_steps.",
        ),
        Misconception(
            "floor_ignored",
            floor_ignored,
            "The rate goes down to 0 instead of min_lr.",
            "min_lr + (lr - min_lr) * …",
        ),
        Misconception(
            "floor_on_top",
            floor_on_top,
            "min_lr is put on top of everything: after the warm-up the rate is lr + min_lr.",
            "Only lr - min_lr is to fall: min_lr + (lr - min_lr) * …",
        ),
        Misconception(
            "rises_again",
            rises_again,
            "After total_steps your rate rises again, as PyTorch's CosineAnnealingLR does. It should stay at min_lr.",
            "Limit the share to 1: min(share, 1).",
        ),
        Misconception(
            "straight_line_down",
            straight_line_down,
            "Your rate falls in a straight line. The cosine stays high at first and levels out at the end.",
            "(1 + cos(π · share)) / 2 in the place of 1 − share.",
        ),
        Misconception(
            "warmed_from_the_floor",
            warmed_from_the_floor,
            "Your warm-up starts at min_lr. Here it starts at 0; min_lr is where the cosine ends.",
            "lr * step / warmup_steps.",
        ),
    ),
    variants=(
        Variant("warmup_in_numpy", warmup_in_numpy),
        Variant("warmup_by_sine", warmup_by_sine),
        Variant("warmup_by_branches", warmup_by_branches),
    ),
    forbidden=FORBIDDEN,
    hints=(
        "Write down the rate at three updates: 0, warmup_steps, total_steps.",
        "After the warm-up, let share run from 0 to 1: (step - warmup_steps) / (total_steps - warmup_steps), at most "
        "1.",
        "min_lr + (lr - min_lr) * (1 + math.cos(math.pi * share)) / 2.",
    ),
    minutes=8,
)

# ---------------------------------------------------------------- one cycle


def cycle_cases(seed):
    """Early, middle and late peaks, strong and weak divisors, short and long runs."""
    rng = np.random.default_rng(seed)

    def case(name, total, pct_start=0.3, div=25.0, final=1e4):
        return Case(
            name,
            {
                "steps": np.unique(np.linspace(0, total - 1, 41).astype(np.int64)),
                "max_lr": float(rng.uniform(0.05, 1.0)),
                "total_steps": total,
                "pct_start": pct_start,
                "div_factor": div,
                "final_div_factor": final,
            },
        )

    yield case("40 steps, PyTorch's defaults", 40)
    yield case("the peak in the middle", 30, pct_start=0.5, final=10.0)
    yield case("an early peak", 40, pct_start=0.1, div=10.0, final=100.0)
    yield case("a late peak, small divisors", 20, pct_start=0.8, div=4.0, final=2.0)
    yield case("10 steps", 10, pct_start=0.4, div=5.0, final=20.0)
    yield case("5,000 steps", 5000, div=10.0, final=3.0)


def cycle_probe(candidate, case):
    import numpy as np

    def rate(step):
        return float(
            candidate(
                step,
                case["max_lr"],
                case["total_steps"],
                case["pct_start"],
                case["div_factor"],
                case["final_div_factor"],
            )
        )

    peak = case["pct_start"] * case["total_steps"] - 1
    steps = case["steps"].tolist()
    return {
        "on the way up": np.array([rate(step) for step in steps if step <= peak]),
        "on the way down": np.array([rate(step) for step in steps if step > peak]),
    }


def one_cycle(step, max_lr, total_steps, pct_start, div_factor, final_div_factor):
    """The rate of one update: by half cosines up to max_lr at pct_start · total_steps − 1, then down to the end."""
    return reference.one_cycle(
        step,
        max_lr=max_lr,
        total_steps=total_steps,
        pct_start=pct_start,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
    )


def end_from_the_peak(step, max_lr, total_steps, pct_start, div_factor, final_div_factor):
    import math

    low, end, peak = max_lr / div_factor, max_lr / final_div_factor, pct_start * total_steps - 1
    if step <= peak:
        return max_lr + (low - max_lr) * (1 + math.cos(math.pi * step / peak)) / 2
    share = (step - peak) / (total_steps - 1 - peak)
    return end + (max_lr - end) * (1 + math.cos(math.pi * share)) / 2


def peak_a_step_late(step, max_lr, total_steps, pct_start, div_factor, final_div_factor):
    import math

    low, peak = max_lr / div_factor, pct_start * total_steps
    end = low / final_div_factor
    if step <= peak:
        return max_lr + (low - max_lr) * (1 + math.cos(math.pi * step / peak)) / 2
    share = (step - peak) / (total_steps - peak)
    return end + (max_lr - end) * (1 + math.cos(math.pi * share)) / 2


def end_a_step_late(step, max_lr, total_steps, pct_start, div_factor, final_div_factor):
    import math

    low, peak = max_lr / div_factor, pct_start * total_steps - 1
    end = low / final_div_factor
    if step <= peak:
        return max_lr + (low - max_lr) * (1 + math.cos(math.pi * step / peak)) / 2
    share = (step - peak) / (total_steps - peak)
    return end + (max_lr - end) * (1 + math.cos(math.pi * share)) / 2


def straight_lines(step, max_lr, total_steps, pct_start, div_factor, final_div_factor):
    low, peak = max_lr / div_factor, pct_start * total_steps - 1
    end = low / final_div_factor
    if step <= peak:
        return low + (max_lr - low) * step / peak
    return max_lr + (end - max_lr) * (step - peak) / (total_steps - 1 - peak)


def starts_at_zero(step, max_lr, total_steps, pct_start, div_factor, final_div_factor):
    import math

    peak, end = pct_start * total_steps - 1, max_lr / div_factor / final_div_factor
    if step <= peak:
        return max_lr * (1 - math.cos(math.pi * step / peak)) / 2
    share = (step - peak) / (total_steps - 1 - peak)
    return end + (max_lr - end) * (1 + math.cos(math.pi * share)) / 2


def down_to_the_start(step, max_lr, total_steps, pct_start, div_factor, final_div_factor):
    import math

    low, peak = max_lr / div_factor, pct_start * total_steps - 1
    if step <= peak:
        return max_lr + (low - max_lr) * (1 + math.cos(math.pi * step / peak)) / 2
    share = (step - peak) / (total_steps - 1 - peak)
    return low + (max_lr - low) * (1 + math.cos(math.pi * share)) / 2


def down_first(step, max_lr, total_steps, pct_start, div_factor, final_div_factor):
    import math

    low, peak = max_lr / div_factor, pct_start * total_steps - 1
    if step <= peak:
        return low + (max_lr - low) * (1 + math.cos(math.pi * step / peak)) / 2
    end = low / final_div_factor
    share = (step - peak) / (total_steps - 1 - peak)
    return end + (max_lr - end) * (1 + math.cos(math.pi * share)) / 2


def share_not_restarted(step, max_lr, total_steps, pct_start, div_factor, final_div_factor):
    import math

    low, peak = max_lr / div_factor, pct_start * total_steps - 1
    end = low / final_div_factor
    if step <= peak:
        return max_lr + (low - max_lr) * (1 + math.cos(math.pi * step / peak)) / 2
    return end + (max_lr - end) * (1 + math.cos(math.pi * step / (total_steps - 1))) / 2


def peak_always_in_the_middle(step, max_lr, total_steps, pct_start, div_factor, final_div_factor):
    import math

    low, peak = max_lr / div_factor, total_steps / 2 - 1
    end = low / final_div_factor
    if step <= peak:
        return max_lr + (low - max_lr) * (1 + math.cos(math.pi * step / peak)) / 2
    share = (step - peak) / (total_steps - 1 - peak)
    return end + (max_lr - end) * (1 + math.cos(math.pi * share)) / 2


def max_times_divisor(step, max_lr, total_steps, pct_start, div_factor, final_div_factor):
    import math

    low, high, peak = max_lr, max_lr * div_factor, pct_start * total_steps - 1
    end = low / final_div_factor
    if step <= peak:
        return high + (low - high) * (1 + math.cos(math.pi * step / peak)) / 2
    share = (step - peak) / (total_steps - 1 - peak)
    return end + (high - end) * (1 + math.cos(math.pi * share)) / 2


def cycle_by_a_helper(step, max_lr, total_steps, pct_start, div_factor, final_div_factor):
    import math

    def between(start, end, share):
        return start + (end - start) * (1 - math.cos(math.pi * share)) / 2

    low, turn = max_lr / div_factor, pct_start * total_steps - 1
    if step <= turn:
        return between(low, max_lr, step / turn)
    return between(max_lr, low / final_div_factor, (step - turn) / (total_steps - 1 - turn))


def cycle_by_sines(step, max_lr, total_steps, pct_start, div_factor, final_div_factor):
    top = total_steps * pct_start - 1.0
    start = max_lr / div_factor
    if step <= top:
        return start + (max_lr - start) * np.sin(np.pi / 2 * step / top) ** 2
    left = (total_steps - 1 - step) / (total_steps - 1 - top)
    end = start / final_div_factor
    return end + (max_lr - end) * np.sin(np.pi / 2 * left) ** 2


def cycle_by_phases(step, max_lr, total_steps, pct_start, div_factor, final_div_factor):
    import math

    initial = max_lr / div_factor
    phases = [
        (0.0, pct_start * total_steps - 1, initial, max_lr),
        (pct_start * total_steps - 1, total_steps - 1, max_lr, initial / final_div_factor),
    ]
    for begin, stop, a, b in phases:
        if step <= stop:
            weight = (math.cos(math.pi * (step - begin) / (stop - begin)) + 1) / 2
            return weight * a + (1 - weight) * b
    return initial / final_div_factor


cycle_exercise = Exercise(
    id="optimizers.one_cycle",
    lesson="06_optimizers",
    title="One cycle: up, and far down",
    answer="one_cycle",
    criteria=(
        Criterion("on the way up", 1, Close(operations=256)),
        Criterion("on the way down", 1, Close(operations=256)),
    ),
    cases=cycle_cases,
    probe=cycle_probe,
    reference=one_cycle,
    misconceptions=(
        Misconception(
            "end_from_the_peak",
            end_from_the_peak,
            "Your last rate is max_lr / final_div_factor. The divisor applies to the FIRST rate, which is max_lr / "
            "div_factor already.",
            "end = max_lr / div_factor / final_div_factor.",
        ),
        Misconception(
            "peak_a_step_late",
            peak_a_step_late,
            "Peak and end come one update too late. Counted from 0, the last update has the number total_steps − 1.",
            "Peak at pct_start * total_steps - 1, end at total_steps - 1.",
        ),
        Misconception(
            "end_a_step_late",
            end_a_step_late,
            "The way down ends at total_steps, an update that never comes: the last one has the number "
            "total_steps − 1.",
            "(step - peak) / (total_steps - 1 - peak).",
        ),
        Misconception(
            "straight_lines",
            straight_lines,
            "Your rates run in straight lines. Asked are half cosines, which are level at both ends.",
            "start + (end - start) * (1 - cos(π · share)) / 2.",
        ),
        Misconception(
            "starts_at_zero",
            starts_at_zero,
            "Your cycle starts at 0. It should start at max_lr / div_factor.",
            "Go up from max_lr / div_factor.",
        ),
        Misconception(
            "down_to_the_start",
            down_to_the_start,
            "Your cycle ends where it began. The last rate is the first one divided by final_div_factor, far below it.",
            "end = max_lr / div_factor / final_div_factor.",
        ),
        Misconception(
            "down_first",
            down_first,
            "Your first phase goes down: it starts at max_lr. Nothing has warmed up yet.",
            "Exchange start and end of the first phase.",
        ),
        Misconception(
            "share_not_restarted",
            share_not_restarted,
            "After the peak your share counts from update 0, so the rate jumps down there.",
            "Restart it: (step - peak) / (total_steps - 1 - peak).",
        ),
        Misconception(
            "peak_always_in_the_middle",
            peak_always_in_the_middle,
            "The peak stands in the middle of the run, whatever pct_start says.",
            "peak = pct_start * total_steps - 1.",
        ),
        Misconception(
            "max_times_divisor",
            max_times_divisor,
            "You take max_lr for the first rate, and multiply up. It is the highest one.",
            "Start at max_lr / div_factor.",
        ),
    ),
    variants=(
        Variant("cycle_by_a_helper", cycle_by_a_helper),
        Variant("cycle_by_sines", cycle_by_sines),
        Variant("cycle_by_phases", cycle_by_phases),
    ),
    forbidden=FORBIDDEN,
    hints=(
        "Three rates matter: the first, the highest, the last. Write each one as max_lr divided by something.",
        "low = max_lr / div_factor, end = low / final_div_factor, peak = pct_start * total_steps - 1.",
        "A half cosine from a to b: a + (b - a) * (1 - math.cos(math.pi * share)) / 2, with share from 0 to 1 in each "
        "phase.",
    ),
    minutes=10,
)
