"""B7: the same net in its two phases, and what a forgotten eval() costs."""

import torch
import torch.nn.functional as F

from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series
from course_lib.claims.experiments import images, train_all
from course_lib.ensembles import ConvNet, Member, predict

__all__ = ["CLAIMS"]

SETS = ("mnist5k", "emoji8")
BATCHES = (1, 2, 4, 16, 64, 240)
EVAL, MIXED, ONE_CLASS = "running statistics (eval)", "the batch's, mixed", "the batch's, one class at a time"
PICTURES = 480


def measure_phases(seeds):
    """Test errors of conv nets with batch norm: by the running statistics, and by those of the batch they come in."""
    series = []
    for name in SETS:
        data = images(name, halve=True)
        net = ConvNet(data.train[0].shape[1], data.train[0].shape[-1], data.classes, (8, 16), 48, norm=True)
        members = [Member(seed, lr=3e-3) for seed in seeds]
        params = train_all(net, members, data, n_train=800, steps=250, batch_size=32).params
        rows = torch.randperm(len(data.test[1]), generator=torch.Generator().manual_seed(0))[:PICTURES]
        pictures, labels = data.test[0][rows], data.test[1][rows]
        by_class = labels.argsort(stable=True)
        settled = percent(predict(net, params, pictures), labels)
        errors, changed = {EVAL: [settled] * len(BATCHES), MIXED: [], ONE_CLASS: []}, {MIXED: [], ONE_CLASS: []}
        probability = predict(net, params, pictures).softmax(-1)
        for batch in BATCHES:
            for arm, order in ((MIXED, torch.arange(PICTURES)), (ONE_CLASS, by_class)):
                logits = in_training(net, params, pictures[order], batch)
                errors[arm].append(percent(logits, labels[order]))
                far = (logits.softmax(-1) - probability[:, order]).abs().sum(-1).mean(1) / 2
                changed[arm].append((100 * far).tolist())
        series.append(
            Series(
                f"test error, {name}",
                "%",
                errors,
                "pictures in a batch",
                BATCHES,
            )
        )
        series.append(
            Series(
                f"probability that moves to other classes, {name}",
                "%",
                changed,
                "pictures in a batch",
                BATCHES,
            )
        )
    return Measured(series=tuple(series))


def in_training(net: ConvNet, params, pictures, batch: int):
    """Logits (M, N, classes) with eval() forgotten, batch after batch; the running statistics are left as they were."""
    nets = len(next(iter(params.values())))
    copies = {name: value.clone() for name, value in params.items()}
    rates = {site: torch.zeros(nets) for site in net.sites}
    with torch.no_grad():
        if batch == 1:  # statistics by picture are the batch's where it holds one: all at once, as batches would
            return torch.cat([one_at_a_time(net, copies, x) for x in pictures.split(60)], dim=1)
        return torch.cat(
            [net.forward(copies, x.unsqueeze(1).expand(-1, nets, *x.shape[1:]), rates) for x in pictures.split(batch)],
            dim=1,
        )


def one_at_a_time(net: ConvNet, params, x):
    """What `net.forward` gives in training for each picture of x (B, C, H, W) alone."""
    nets = len(next(iter(params.values())))
    h = x.unsqueeze(1).expand(-1, nets, *x.shape[1:])
    for name in ("k0", "k1"):
        k = params[name]
        z = F.conv2d(h.flatten(1, 2), k.flatten(0, 1), padding=1, groups=nets)
        z = F.instance_norm(z, eps=1e-5).reshape(len(x), nets, k.shape[1], *z.shape[2:])
        z = z * params["g" + name][..., None, None] + params["b" + name][..., None, None]
        h = net.pool(z.relu(), None)
    h = h.transpose(0, 1).flatten(2)
    return torch.baddbmm(params["bw1"], torch.baddbmm(params["bw0"], h, params["w0"]).relu(), params["w1"])


def percent(logits, labels) -> list[float]:
    return (100 * (logits.argmax(-1) != labels).float().mean(1)).tolist()


def decide_phases(measured):
    extra = {
        (name, arm, batch): Interval.of_difference(
            f"test error, {arm}, batches of {batch}, minus eval, {name}",
            "points",
            measured[f"test error, {name}"].values(arm, batch),
            measured[f"test error, {name}"].values(EVAL, batch),
        )
        for name in SETS
        for arm in (MIXED, ONE_CLASS)
        for batch in BATCHES
    }
    worse = {
        arm: [batch for batch in BATCHES if all(extra[name, arm, batch].low > 0 for name in SETS)]
        for arm in (MIXED, ONE_CLASS)
    }
    if all(len(batches) == len(BATCHES) for batches in worse.values()):
        verdict, condition = HOLDS, ""
    elif any(worse.values()):
        verdict = HOLDS_WHEN
        told = lambda batches: ", ".join(map(str, batches)) or "none"
        condition = (
            f"the batch is small or one-sided: the error rises on both sets in mixed batches of {told(worse[MIXED])}"
        )
        condition += f", and in batches of one class of {told(worse[ONE_CLASS])}"
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    first, second = (measured[f"test error, {name}"] for name in SETS)
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=extra[SETS[0], MIXED, 1],
        figures={
            "eval": first.mean(EVAL, 1),
            "alone": first.mean(MIXED, 1),
            "large": BATCHES[-1],
            "mixed": first.mean(MIXED, BATCHES[-1]),
            "sided": first.mean(ONE_CLASS, 16),
            "eval2": second.mean(EVAL, 1),
            "alone2": second.mean(MIXED, 1),
            "sided2": second.mean(ONE_CLASS, 16),
        },
    )


CLAIMS = (
    Claim(
        id="B7",
        statement="Like dropout, it behaves differently in training and in test: a forgotten eval() costs accuracy.",
        headline="By its running statistics the net errs on {eval:.1f}% of the test images; with eval() forgotten on "
        "{alone:.1f}% one picture at a time, on {mixed:.1f}% in mixed batches of {large}, on {sided:.1f}% in batches "
        "of 16 of one class (mnist5k). On emoji8 {eval2:.1f}%, {alone2:.1f}% alone, {sided2:.1f}% by class.",
        rule="Holds if at every batch size, on both data sets, the test error in training mode is higher than in "
        "evaluation, in mixed batches and in batches of one class (paired 95% intervals above 0); holds when … if for "
        "some batches.",
        measure=measure_phases,
        decide=decide_phases,
        seeds=tuple(range(8)),
    ),
)
