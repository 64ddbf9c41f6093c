"""One small conv net and the ways to keep it from fitting noise: each a field of `Way`, whose defaults do nothing."""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.dropout import drop_connect, sample_mask, stochastic_pool2d
from course_lib.pooling import global_avg_pool2d
from course_lib.regularizers import decay_groups, max_norm_, random_shift

__all__ = ["ConvNet", "Way", "train_way"]

STEPS, BATCH, EVERY = 250, 32, 25
WATCHED = 300  # validation images that early stopping looks at


@dataclass(frozen=True)
class Way:
    """How a net is made and trained: `more` times the images, shifts of up to `shift` pixels, dropout and DropConnect
    rates of the dense layer, weight decay, a limit on each unit's weights, a head of averages, stochastic pooling, the
    maps and hidden units, and whether the best validation loss decides which weights are kept."""

    more: int = 1
    shift: int = 0
    drop: float = 0.0
    connect: float = 0.0
    decay: float = 0.0
    limit: float = 0.0
    averages: bool = False
    stochastic: bool = False
    maps: tuple[int, int] = (8, 16)
    hidden: int = 64
    stop: bool = False


class ConvNet(nn.Module):
    """conv → pool → conv → pool → dense → logits; or, with averages, conv → pool → conv → mean of each map → logits."""

    def __init__(self, way: Way, channels: int, side: int, classes: int):
        super().__init__()
        a, b = way.maps
        self.way = way
        self.first, self.second = nn.Conv2d(channels, a, 3, padding=1), nn.Conv2d(a, b, 3, padding=1)
        self.dense = None if way.averages else nn.Linear(b * (side // 4) ** 2, way.hidden)
        self.last = nn.Linear(b if way.averages else way.hidden, classes)

    def pool(self, h: Tensor) -> Tensor:
        return stochastic_pool2d(h, 2, training=self.training) if self.way.stochastic else F.max_pool2d(h, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.pool(self.first(x).relu())
        h = self.second(h).relu()
        if self.dense is None:
            return self.last(F.dropout(global_avg_pool2d(h), self.way.drop, self.training))
        h = self.pool(h).flatten(1)
        if self.training and self.way.connect:
            mask = sample_mask(self.dense.weight.shape, self.way.connect)  # one for the batch
            h = drop_connect(h, self.dense.weight, self.dense.bias, self.way.connect, mask)
        else:
            h = self.dense(h)
        return self.last(F.dropout(h.relu(), self.way.drop, self.training))


def train_way(
    way: Way, train, valid, test, classes: int, seed: int, *, n: int, lr: float = 2e-3, adam: bool = True, steps=STEPS
) -> tuple[float, float, float]:
    """(training, validation, test) error of a net trained on n · more images drawn by the seed."""
    g = torch.Generator().manual_seed(seed)
    index = torch.randperm(len(train[1]), generator=g)[: n * way.more]
    x, y = train[0][index], train[1][index]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ConvNet(way, x.shape[1], x.shape[2], classes)
        groups = decay_groups(net, way.decay)
        rule = torch.optim.AdamW(groups, lr=lr) if adam else torch.optim.SGD(groups, lr=lr)
        best, kept = float("inf"), None
        order = torch.empty(0, dtype=torch.int64)
        for step in range(1, steps + 1):
            if len(order) < BATCH:
                order = torch.cat([order, torch.randperm(len(y), generator=g)])
            rows, order = order[:BATCH], order[BATCH:]
            batch = random_shift(x[rows], way.shift, g, fill=float(x.min())) if way.shift else x[rows]
            net.train()
            loss = F.cross_entropy(net(batch), y[rows])
            rule.zero_grad()
            loss.backward()
            rule.step()
            if way.limit:
                for layer in (net.first, net.second, net.dense, net.last):
                    if layer is not None:
                        max_norm_(layer.weight, way.limit)
            if way.stop and step % EVERY == 0:
                now = measure(net, valid[0][:WATCHED], valid[1][:WATCHED])[1]
                if now < best:
                    best, kept = now, copy.deepcopy(net.state_dict())
        if kept:
            net.load_state_dict(kept)
        return tuple(measure(net, *data)[0] for data in ((x, y), valid, test))


def measure(net: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """(error, loss) in evaluation."""
    net.eval()
    with torch.no_grad():
        logits = net(x)
    return float((logits.argmax(1) != y).float().mean()), float(F.cross_entropy(logits, y))
