"""Early stopping: patience, a least gain, and the best epoch's weights. Driven epoch by epoch, so facts are whole
numbers."""

from __future__ import annotations

import math

import numpy as np
import torch

from ...exercise import Case, Criterion, Exercise, Misconception, Variant

LESSON = "07_regularization"


def stopping_cases(seed):
    """Validation losses by epoch: the plain fall and rise, bumps, gains too small, patience 1, NaN, no stop at all."""
    rng = np.random.default_rng(seed)

    def case(name, losses, patience, min_delta=0.0):
        size = rng.uniform(0.5, 3.0)  # the losses' scale; min_delta goes with it
        losses = (np.array(losses) + rng.uniform(-0.002, 0.002, len(losses))) * size
        return Case(name, {"losses": losses, "patience": patience, "min_delta": min_delta * size})

    yield case("falls, then rises, patience 3", [1, 0.8, 0.6, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8], 3)
    yield case("bumps on the way down, patience 3", [1, 0.9, 0.95, 0.92, 0.8, 0.85, 0.83, 0.7, 0.75, 0.8, 0.85, 0.9], 3)
    yield case("a zigzag that rises, patience 3", [1, 0.8, 0.9, 0.85, 0.95, 0.9, 1.0, 0.95], 3)
    yield case("gains of 0.01 after the second epoch, patience 3", [1, 0.6, 0.59, 0.58, 0.57, 0.56, 0.55], 3, 0.1)
    yield case("slow but steady, patience 3", [1.0, 0.94, 0.88, 0.82, 0.76, 0.70, 0.64], 3, 0.1)
    yield case("patience 1", [0.9, 0.7, 0.75, 0.6, 0.5], 1)
    yield case("a little worse each epoch, patience 3", [1, 0.5, 0.52, 0.54, 0.56, 0.58, 0.60], 3, 0.1)
    yield case("NaN after the best epoch, patience 3", [1, 0.6, math.nan, 0.8, 0.7, 0.75, 0.8, 0.9], 3)
    yield case("falls to the end, patience 2", [1, 0.9, 0.8, 0.7, 0.6], 2)


def stopping_probe(candidate, case):
    """A net whose every number is the epoch's: its training overwrites them in place, as an optimizer does."""
    import torch
    from torch import nn

    net, fresh = (nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)) for _ in range(2))

    def at_epoch(epoch, net=net):
        with torch.no_grad():
            for value in (*net.parameters(), *net.buffers()):
                value.fill_(epoch)

    stopping = candidate(case["patience"], case["min_delta"])
    stopped = -1
    for epoch, loss in enumerate(case["losses"].tolist()):
        at_epoch(epoch)
        if stopping.step(loss, net):
            stopped = epoch
            break
    at_epoch(-9, fresh)  # so that what was never written shows
    stopping.restore(fresh)
    return {
        "stops after epoch": stopped,
        "weights of epoch": int(fresh[0].weight[0, 0].item()),
        "running averages of epoch": int(fresh[1].running_mean[0].item()),
    }


class EarlyStopping:
    """step(loss, model) says whether to stop; restore(model) puts the best epoch's state back."""

    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.wait, self.state = math.inf, 0, None

    def step(self, loss, model):
        self.wait += 1
        if loss < self.best - self.min_delta:
            self.best, self.wait = loss, 0
            self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}
        return self.wait >= self.patience

    def restore(self, model):
        model.load_state_dict(self.state)


class LastWeights:
    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.wait = float("inf"), 0

    def step(self, loss, model):
        if loss < self.best - self.min_delta:
            self.best, self.wait = loss, 0
        else:
            self.wait += 1
        return self.wait >= self.patience

    def restore(self, model):
        pass


class OneEpochLate:
    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.wait, self.state = float("inf"), 0, None

    def step(self, loss, model):
        if loss < self.best - self.min_delta:
            self.best, self.wait = loss, 0
            self.state = {name: value.clone() for name, value in model.state_dict().items()}
        else:
            self.wait += 1
        return self.wait > self.patience

    def restore(self, model):
        model.load_state_dict(self.state)


class OneEpochEarly:
    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.wait, self.state = float("inf"), 0, None

    def step(self, loss, model):
        self.wait += 1
        if loss < self.best - self.min_delta:
            self.best, self.wait = loss, 1
            self.state = {name: value.clone() for name, value in model.state_dict().items()}
            return False
        return self.wait >= self.patience

    def restore(self, model):
        model.load_state_dict(self.state)


class AgainstThePrevious:
    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        self.previous, self.wait, self.state = float("inf"), 0, None

    def step(self, loss, model):
        if loss < self.previous - self.min_delta:
            self.wait = 0
            self.state = {name: value.clone() for name, value in model.state_dict().items()}
        else:
            self.wait += 1
        self.previous = loss
        return self.wait >= self.patience

    def restore(self, model):
        model.load_state_dict(self.state)


class AnyGainCounts:
    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.wait, self.state = float("inf"), 0, None

    def step(self, loss, model):
        if loss < self.best:
            self.best, self.wait = loss, 0
            self.state = {name: value.clone() for name, value in model.state_dict().items()}
        else:
            self.wait += 1
        return self.wait >= self.patience

    def restore(self, model):
        model.load_state_dict(self.state)


class DeltaTurnedRound:
    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.wait, self.state = float("inf"), 0, None

    def step(self, loss, model):
        if loss < self.best + self.min_delta:
            self.best, self.wait = loss, 0
            self.state = {name: value.clone() for name, value in model.state_dict().items()}
        else:
            self.wait += 1
        return self.wait >= self.patience

    def restore(self, model):
        model.load_state_dict(self.state)


class BestCreeps:
    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.wait, self.state = float("inf"), 0, None

    def step(self, loss, model):
        if loss < self.best - self.min_delta:
            self.wait = 0
            self.state = {name: value.clone() for name, value in model.state_dict().items()}
        else:
            self.wait += 1
        self.best = min(self.best, loss)
        return self.wait >= self.patience

    def restore(self, model):
        model.load_state_dict(self.state)


class NeverReset:
    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.wait, self.state = float("inf"), 0, None

    def step(self, loss, model):
        if loss < self.best - self.min_delta:
            self.best = loss
            self.state = {name: value.clone() for name, value in model.state_dict().items()}
        else:
            self.wait += 1
        return self.wait >= self.patience

    def restore(self, model):
        model.load_state_dict(self.state)


class StateByReference:
    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.wait, self.state = float("inf"), 0, None

    def step(self, loss, model):
        if loss < self.best - self.min_delta:
            self.best, self.wait = loss, 0
            self.state = model.state_dict()
        else:
            self.wait += 1
        return self.wait >= self.patience

    def restore(self, model):
        model.load_state_dict(self.state)


class ParametersOnly:
    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.wait, self.state = float("inf"), 0, None

    def step(self, loss, model):
        if loss < self.best - self.min_delta:
            self.best, self.wait = loss, 0
            self.state = [p.detach().clone() for p in model.parameters()]
        else:
            self.wait += 1
        return self.wait >= self.patience

    def restore(self, model):
        for p, kept in zip(model.parameters(), self.state, strict=True):
            p.data.copy_(kept)


class LargerIsBetter:
    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.wait, self.state = -float("inf"), 0, None

    def step(self, loss, model):
        if loss > self.best + self.min_delta:
            self.best, self.wait = loss, 0
            self.state = {name: value.clone() for name, value in model.state_dict().items()}
        else:
            self.wait += 1
        return self.wait >= self.patience

    def restore(self, model):
        model.load_state_dict(self.state)


class NaNIsBest:
    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.wait, self.state = float("inf"), 0, None

    def step(self, loss, model):
        if loss >= self.best - self.min_delta:
            self.wait += 1
        else:
            self.best, self.wait = loss, 0
            self.state = {name: value.clone() for name, value in model.state_dict().items()}
        return self.wait >= self.patience

    def restore(self, model):
        model.load_state_dict(self.state)


class StoppingByDeepcopy:
    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.since, self.state = None, 0, {}

    def step(self, loss, model):
        import copy

        better = loss == loss and (self.best is None or self.best - loss > self.min_delta)
        if better:
            self.best, self.since, self.state = loss, 0, copy.deepcopy(model.state_dict())
            return False
        self.since += 1
        return self.since == self.patience

    def restore(self, model):
        model.load_state_dict(self.state)


class StoppingByHistory:
    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        self.epoch, self.best_epoch, self.best = -1, -1, float("inf")
        self.kept = []

    def step(self, loss, model):
        self.epoch += 1
        if loss + self.min_delta < self.best:
            self.best, self.best_epoch = loss, self.epoch
            self.kept = [(name, np.array(value.numpy(), copy=True)) for name, value in model.state_dict().items()]
        return self.epoch - self.best_epoch >= self.patience

    def restore(self, model):
        model.load_state_dict({name: torch.from_numpy(value) for name, value in self.kept})


class StoppingByModelCopy:
    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.left, self.twin = float("inf"), patience, None

    def step(self, loss, model):
        import copy

        if self.best - loss > self.min_delta:
            self.best, self.left, self.twin = float(loss), self.patience, copy.deepcopy(model)
        else:
            self.left -= 1
        return self.left <= 0

    def restore(self, model):
        model.load_state_dict(self.twin.state_dict())


early_stopping = Exercise(
    id="regularization.early_stopping",
    lesson=LESSON,
    title="Early stopping, with the best weights kept",
    answer="EarlyStopping",
    criteria=(
        Criterion("stops after epoch", 2),
        Criterion("weights of epoch", 2),
        Criterion("running averages of epoch", 0),
    ),
    cases=stopping_cases,
    probe=stopping_probe,
    reference=EarlyStopping,
    misconceptions=(
        Misconception(
            "last_weights",
            LastWeights,
            "It stops when it should, but the net keeps its last weights, `patience` epochs past the best ones. That "
            "is also what Keras does unless you say restore_best_weights=True.",
            "Copy the state at every improvement, and load it in restore.",
        ),
        Misconception(
            "one_epoch_late",
            OneEpochLate,
            "It stops one epoch late: after patience + 1 epochs without improvement.",
            "Stop as soon as the count reaches patience: >=, not >.",
        ),
        Misconception(
            "one_epoch_early",
            OneEpochEarly,
            "It stops one epoch early: the epoch that improved is counted as waiting too.",
            "Set the count to 0 at an improvement, and add 1 for each epoch without.",
        ),
        Misconception(
            "against_the_previous",
            AgainstThePrevious,
            "You compare with the previous epoch instead of with the best one so far. A loss that zigzags upwards "
            "“improves” every second epoch, and its weights are kept.",
            "Keep the best loss, and compare with that.",
        ),
        Misconception(
            "any_gain_counts",
            AnyGainCounts,
            "min_delta is not used: in the case “{case}” every tiny gain starts the waiting anew.",
            "An epoch improves only where loss < best − min_delta.",
        ),
        Misconception(
            "delta_turned_round",
            DeltaTurnedRound,
            "min_delta has the wrong sign: an epoch that is worse by less than min_delta counts as an improvement.",
            "An epoch improves where loss < best − min_delta.",
        ),
        Misconception(
            "best_creeps",
            BestCreeps,
            "Small gains move the best although they don't count as improvements. In the case “{case}” a steady fall "
            "then never counts, and the run is stopped while it still learns.",
            "Change the best only at an improvement: small gains then add up.",
        ),
        Misconception(
            "never_reset",
            NeverReset,
            "The count of epochs without improvement is never set back to 0: it counts all of them, not those in a "
            "row.",
            "Set it to 0 at every improvement.",
        ),
        Misconception(
            "state_by_reference",
            StateByReference,
            "model.state_dict() holds the parameters themselves, not copies: training goes on changing them, so the "
            "“best” state is always the last one.",
            "Clone each value: {name: value.clone() for name, value in model.state_dict().items()}.",
        ),
        Misconception(
            "parameters_only",
            ParametersOnly,
            "The parameters come back, but batch norm's running averages (buffers) stay those of the last epoch: the "
            "net in evaluation is one that never existed.",
            "Keep and load the whole state_dict.",
        ),
        Misconception(
            "larger_is_better",
            LargerIsBetter,
            "It waits for the loss to grow. That is right for an accuracy, not for a loss.",
            "An epoch improves where its loss is below the best one.",
        ),
        Misconception(
            "nan_is_best",
            NaNIsBest,
            "In the case “{case}” a NaN counts as an improvement, and so does whatever follows it: no comparison "
            "with NaN is ever true.",
            "Ask whether the loss is below the best one (a NaN never is), not whether it is not above.",
        ),
    ),
    variants=(
        Variant("stopping_by_deepcopy", StoppingByDeepcopy),
        Variant("stopping_by_history", StoppingByHistory),
        Variant("stopping_by_model_copy", StoppingByModelCopy),
    ),
    forbidden=("course_lib.regularizers",),
    hints=(
        "Which three things must be remembered from one epoch to the next?",
        "The best loss so far, the epochs since then, and a copy of the state at that epoch. What happens to each at "
        "an improvement, and without one?",
        "if loss < self.best − self.min_delta: keep loss and cloned state, wait = 0; else wait += 1. Stop when wait ≥ "
        "patience.",
    ),
    minutes=12,
)
