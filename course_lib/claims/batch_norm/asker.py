"""B8: the net that somebody asked about, conv → BN → PReLU → pool → dense → BN → PReLU → dropout, piece by piece."""

import torch
import torch.nn.functional as F
from torch import nn

from course_lib.accounts import account
from course_lib.architectures import expression_net
from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series, Table
from course_lib.claims.experiments import TUNING_SEEDS, Images, images

__all__ = ["CLAIMS"]

SETS = ("mnist5k", "emoji8")
RATES = (1e-3, 4e-3)
STEPS, AT, BATCH, N = 160, (80, 160), 32, 800
WIDTH, HIDDEN = 8, 48


def build(data: Images, piece: str) -> nn.Sequential:
    """The asker's net for these images, narrower, without one of its pieces."""
    channels, side = data.train[0].shape[1:3]
    net = expression_net(
        channels,
        data.classes,
        image_size=side,
        width=WIDTH,
        hidden=HIDDEN,
        dropout=0.0 if piece == "dropout" else 0.5,
    )
    if piece in ("conv's batch norm", "both batch norms"):
        net.norm1 = nn.Identity()
    if piece in ("dense layer's batch norm", "both batch norms"):
        net.norm2 = nn.Identity()
    if piece == "PReLU's slopes":
        net.prelu1, net.prelu2 = nn.ReLU(), nn.ReLU()
    if piece == "pooling":
        net.pool = nn.Identity()
        net.dense = nn.Linear(WIDTH * side * side, HIDDEN)
        nn.init.xavier_uniform_(net.dense.weight)
        nn.init.zeros_(net.dense.bias)
    return net


WHOLE = "the whole net"
PIECES = ("conv's batch norm", "dense layer's batch norm", "both batch norms", "PReLU's slopes", "pooling", "dropout")


def train(data: Images, piece: str, seed: int, lr: float) -> list[tuple[float, float]]:
    """(validation, test) errors in percent after each number of steps in AT; Adam."""
    torch.manual_seed(seed)
    net = build(data, piece)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(data.train[1]), generator=generator)[:N]
    optimizer, found = torch.optim.Adam(net.parameters(), lr=lr), []
    for step in range(1, STEPS + 1):
        batch = rows[torch.randint(N, (BATCH,), generator=generator)]
        optimizer.zero_grad()
        F.cross_entropy(net(data.train[0][batch]), data.train[1][batch]).backward()
        optimizer.step()
        if step in AT:
            net.eval()
            with torch.no_grad():
                found.append(tuple(wrong(net, part) for part in (data.valid, data.test)))
            net.train()
    return found


def wrong(net: nn.Module, part) -> float:
    return float(100 * (net(part[0]).argmax(1) != part[1]).float().mean())


def measure_pieces(seeds):
    """The test error without each piece, its rate and number of steps chosen on validation images for each."""
    series = []
    for name in SETS:
        data = images(name, halve=True)
        errors = {}
        with torch.random.fork_rng(devices=[]):
            for piece in ("", *PIECES):
                tried = {
                    (lr, k): sum(train(data, piece, seed, lr)[k][0] for seed in TUNING_SEEDS[:1])
                    for lr in RATES
                    for k in range(len(AT))
                }
                lr, k = min(tried, key=tried.get)
                errors[f"without {piece}" if piece else WHOLE] = [[train(data, piece, s, lr)[k][1] for s in seeds]]
        series.append(Series(f"test error, {name}", "%", errors))
    return Measured(series=tuple(series), tables=(parameters(),))


def parameters() -> Table:
    """Learned numbers and kept statistics of each layer of the net as asked, for images of 48 × 48 × 3."""
    net = account(expression_net(), (3, 48, 48))
    rows = [
        (
            layer.name,
            layer.kind,
            f"{layer.parameters:,}",
            share(layer.parameters / net.parameters),
            f"{layer.statistics:,}",
        )
        for layer in net.layers
    ]
    rows.append(("all", "", f"{net.parameters:,}", share(1), f"{net.statistics:,}"))
    return Table("the net as asked", ("name", "layer", "learned", "share", "statistics kept"), rows)


def share(part: float) -> str:
    return f"{100 * part:.2f}%"


def decide_pieces(measured):
    cost = {
        piece: [
            Interval.of_difference(
                f"test error without {piece} minus {WHOLE}, {name}",
                "points",
                measured[f"test error, {name}"].values(f"without {piece}"),
                measured[f"test error, {name}"].values(WHOLE),
            )
            for name in SETS
        ]
        for piece in PIECES
    }
    earns = [piece for piece in PIECES if all(interval.low > 0 for interval in cost[piece])]
    harms = [piece for piece in PIECES if all(interval.high < 0 for interval in cost[piece])]
    if len(earns) == len(PIECES):
        verdict, condition = HOLDS, ""
    elif earns:
        verdict = HOLDS_WHEN
        condition = f"the piece is {' or '.join(earns)}; for the others the loss is not beyond the noise on both sets"
        condition += f", and without {' or '.join(harms)} the error is lower on both" if harms else ""
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    rows = {row[0]: row for row in measured.tables[0].rows}
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=cost["both batch norms"][0],
        figures={
            "whole": measured.series[0].mean(WHOLE),
            "whole2": measured.series[1].mean(WHOLE),
            "pieces": "; ".join(f"{p} {cost[p][0].mean:+.1f} and {cost[p][1].mean:+.1f}" for p in PIECES),
            "total": rows["all"][2],
            "dense": rows["dense"][3],
            "norms": rows["norm1"][2],
            "norms2": rows["norm2"][2],
            "slopes": rows["prelu1"][2],
        },
    )


CLAIMS = (
    Claim(
        id="B8",
        statement="Conv → BN → PReLU → pool → dense → BN → PReLU → dropout: each piece of the net earns its place.",
        headline="The net errs on {whole:.1f}% (mnist5k) and {whole2:.1f}% (emoji8); without a piece that changes, in "
        "points, by: {pieces}. As asked, for 48 × 48 × 3, it learns {total} numbers: {dense} of them in the dense "
        "layer, {slopes} slopes of the first PReLU, {norms} and {norms2} in the two batch norms.",
        rule="Holds if leaving out any single piece (and both batch norms together) raises the test error on both data "
        "sets (paired 95% intervals above 0); holds when … if for some. Narrower than asked and on half-size images; "
        "each net chooses among 2 rates and 2 numbers of steps on validation images.",
        measure=measure_pieces,
        decide=decide_pieces,
        seeds=tuple(range(6)),
    ),
)
