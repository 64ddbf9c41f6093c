"""T10: every way from a saved model back to a net, in Keras and in PyTorch, and what each brings back."""

import copy
import io
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series, Table
from course_lib.quiet import load_keras

__all__ = ["CLAIMS"]

PATHS = ("load_model", "load_weights into the same layers", "layers taken from the loaded model", "clone_model")
ALL, NOTHING, PART = "all weights, to the last bit", "nothing, and says nothing", "a part of the weights"


def make(keras: Any, *, names: str = "", units: int = 3, built: bool = True) -> Any:
    """A Sequential net: dense, batch norm, dense; `names` renames its layers."""
    layers = keras.layers
    named = {"low": f"{names}low", "norm": f"{names}norm", "head": f"{names}head"} if names else {}
    return keras.Sequential(
        [
            *([keras.Input((6,))] if built else []),
            layers.Dense(5, activation="relu", name=named.get("low")),
            layers.BatchNormalization(name=named.get("norm")),
            layers.Dense(units, name=named.get("head")),
        ]
    )


def subclassed(keras: Any) -> Any:
    """The same net as a class of its own, with the layers as attributes."""

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.low = keras.layers.Dense(5, activation="relu")
            self.norm = keras.layers.BatchNormalization()
            self.head = keras.layers.Dense(3)

        def call(self, x, training=False):
            return self.head(self.norm(self.low(x), training=training))

    return Net()


def train(keras: Any, model: Any, seed: int, steps: int = 3) -> None:
    rng = np.random.default_rng(seed)
    model.compile(keras.optimizers.Adam(1e-2), "mse", run_eagerly=True)
    for _ in range(steps):
        model.train_on_batch(rng.normal(size=(16, 6)).astype("f4"), rng.normal(size=(16, 3)).astype("f4"))


def same_weights(before: list[np.ndarray], start: list[np.ndarray], now: list[np.ndarray]) -> str:
    """How the weights now compare with the saved ones, where `start` is what they were before loading."""
    equal = [a.shape == b.shape and np.array_equal(a, b) for a, b in zip(before, now, strict=True)]
    if all(equal):
        return ALL
    if start and all(np.array_equal(a, b) for a, b in zip(start, now, strict=True)):
        return NOTHING
    return f"{PART} ({sum(equal)} of {len(equal)} tensors)"


def optimizer_of(model: Any, saved_steps: int) -> str:
    """Whose state the model's optimizer has, by the number of its steps."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return "none"
    steps = int(optimizer.iterations)
    return "restored" if steps == saved_steps else "its own" if steps else "fresh"


def keras_rows(keras: Any, folder: Path) -> list[tuple[str, str, str, str]]:
    """(framework, path, what came back, the optimizer) for each way in Keras."""
    model = make(keras)
    train(keras, model, 0)
    saved, x = model.get_weights(), np.zeros((2, 6), "f4")
    full, weights = folder / "net.keras", folder / "net.weights.h5"
    model.save(full)
    model.save_weights(weights)
    other = subclassed(keras)
    other(x)
    train(keras, other, 0)
    other_weights = folder / "class.weights.h5"
    other.save_weights(other_weights)
    rows = []

    def tried(path: str, call: Callable[[], Any], before: list[np.ndarray] = saved) -> None:
        try:
            loaded, start = call()
            rows.append(("Keras", path, same_weights(before, start, loaded.get_weights()), optimizer_of(loaded, 3)))
        except Exception as error:  # Keras raises many kinds
            rows.append(("Keras", path, f"raises {type(error).__name__}", "–"))

    def into(target: Any, file: Path = weights, *, call: bool = False, **options: Any) -> tuple[Any, list[np.ndarray]]:
        if call:
            target(x)
        start = [np.array(w) for w in target.get_weights()]
        target.load_weights(file, **options)
        if not target.built:
            target(x)
        return target, start

    def compiled_before(steps: int) -> tuple[Any, list[np.ndarray]]:
        target = make(keras)
        train(keras, target, 1, steps)
        return into(target)

    def taken() -> tuple[Any, list[np.ndarray]]:
        loaded = keras.saving.load_model(full)
        return keras.Sequential([keras.Input((6,)), *loaded.layers]), []

    def cloned() -> tuple[Any, list[np.ndarray]]:
        target = keras.models.clone_model(keras.saving.load_model(full))
        return target, [np.array(w) for w in target.get_weights()]

    def from_config() -> tuple[Any, list[np.ndarray]]:
        target = keras.Sequential.from_config(keras.saving.load_model(full).get_config())
        return target, [np.array(w) for w in target.get_weights()]

    tried("load_model(net.keras)", lambda: (keras.saving.load_model(full), []))
    tried("load_model(net.keras, compile=False)", lambda: (keras.saving.load_model(full, compile=False), []))
    tried("load_weights into the same Sequential", lambda: into(make(keras)))
    tried("load_weights into one that was compiled, not trained", lambda: compiled_before(0))
    tried("load_weights into one that was compiled and trained", lambda: compiled_before(2))
    tried("load_weights before the Sequential is built", lambda: into(make(keras, built=False)))
    tried("load_weights into renamed layers", lambda: into(make(keras, names="my_")))
    tried("load_weights where the head has 4 units", lambda: into(make(keras, units=4)))
    tried(
        "load_weights with skip_mismatch=True, a head of 4 units",
        lambda: into(make(keras, units=4), skip_mismatch=True),
    )
    tried("Sequential's file into a subclassed model, not built", lambda: into(subclassed(keras)))
    tried("Sequential's file into a subclassed model, built", lambda: into(subclassed(keras), call=True))
    tried(
        "a subclassed model's file into the same class, not built",
        lambda: into(subclassed(keras), other_weights),
        other.get_weights(),
    )
    tried(
        "a subclassed model's file into the same class, built",
        lambda: into(subclassed(keras), other_weights, call=True),
        other.get_weights(),
    )
    tried("layers of a loaded model in a new one", taken)
    tried("clone_model of a loaded model", cloned)
    tried("from_config of a loaded model", from_config)
    return rows


def torch_rows() -> list[tuple[str, str, str, str]]:
    """The same for PyTorch."""

    def net():
        return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.BatchNorm1d(5), nn.Linear(5, 3))

    def trained(seed):
        torch.manual_seed(seed)
        model = net()
        rule = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(3):
            rule.zero_grad()
            F.mse_loss(model(torch.randn(16, 6)), torch.randn(16, 3)).backward()
            rule.step()
        return model, rule

    model, rule = trained(0)
    saved = [value.numpy().copy() for value in model.state_dict().values()]
    rows = []

    def tried(path, call, optimizer="none"):
        target = net()
        start = [value.numpy().copy() for value in target.state_dict().values()]
        try:
            target = call(target) or target
            now = [value.numpy() for value in target.state_dict().values()]
            rows.append(("PyTorch", path, same_weights(saved, start, now), optimizer))
        except Exception as error:
            rows.append(("PyTorch", path, f"raises {type(error).__name__}", "–"))

    def by_file(what, **options):
        buffer = io.BytesIO()
        torch.save(what, buffer)
        buffer.seek(0)
        return torch.load(buffer, **options)

    def loaded(target, state, **options):
        target.load_state_dict(state, **options)

    state = copy.deepcopy(model.state_dict())
    prefixed = {f"model.{name}": value for name, value in state.items()}
    tried("load_state_dict(torch.load(state))", lambda t: loaded(t, by_file(state)))
    tried("torch.load of a whole model", lambda t: by_file(model))
    tried("torch.load of a whole model, weights_only=False", lambda t: by_file(model, weights_only=False))
    tried("load_state_dict, names with a prefix", lambda t: loaded(t, prefixed))
    tried("load_state_dict, names with a prefix, strict=False", lambda t: loaded(t, prefixed, strict=False))
    kept = model.state_dict()  # shares memory with the model
    other, _ = trained(1)
    with torch.no_grad():
        for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
            mine.copy_(theirs)  # training went on after the "best" state was kept
    tried("best = model.state_dict(), trained on, best loaded", lambda t: loaded(t, kept))
    tried("best = copy.deepcopy(model.state_dict()), likewise", lambda t: loaded(t, state))
    fresh = net()
    again = torch.optim.Adam(fresh.parameters(), lr=1e-2)
    again.load_state_dict(copy.deepcopy(rule.state_dict()))
    kept_steps = {int(values["step"]) for values in again.state.values()}
    tried(
        "model's and optimizer's state_dict, both loaded",
        lambda t: loaded(t, state),
        "restored" if kept_steps == {3} else "fresh",
    )
    return rows


def differences(keras: Any, seed: int, folder: Path) -> dict[str, float]:
    """The largest difference of outputs on 32 rows between the saved model and what each of PATHS gives."""
    keras.utils.set_random_seed(seed)
    model = make(keras)
    train(keras, model, seed)
    x = np.random.default_rng(seed).normal(size=(32, 6)).astype("f4")
    full, weights = folder / f"{seed}.keras", folder / f"{seed}.weights.h5"
    model.save(full)
    model.save_weights(weights)
    by_weights = make(keras)
    by_weights.load_weights(weights)
    loaded = keras.saving.load_model(full)
    nets = (loaded, by_weights, keras.Sequential([keras.Input((6,)), *loaded.layers]), keras.models.clone_model(loaded))
    expected = keras.ops.convert_to_numpy(model(x))
    return {
        path: float(np.abs(keras.ops.convert_to_numpy(net(x)) - expected).max())
        for path, net in zip(PATHS, nets, strict=True)
    }


def measure_loading(seeds):
    """A table of every way; and for four ways in Keras, with several seeds, how far the outputs are off."""
    keras = load_keras()
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        folder = Path(name)
        found = [differences(keras, seed, folder) for seed in seeds]
        keras.utils.set_random_seed(0)
        rows = [*keras_rows(keras, folder), *torch_rows()]
    return Measured(
        series=(
            Series(
                "largest difference from the saved model's outputs",
                "",
                {path: [[run[path] for run in found]] for path in PATHS},
                identical="a way that restores everything gives exactly 0",
            ),
        ),
        tables=(Table("ways back", ("framework", "way", "what comes back", "optimizer"), rows),),
    )


def decide_loading(measured):
    (series,), (table,) = measured.series, measured.tables
    differ = max(series.values(path).max() for path in PATHS[:3])
    silent = [way for _, way, what, _ in table.rows if what == NOTHING]
    stateless = [way for _, way, what, state in table.rows if what == ALL and state != "restored"]
    stateful = [way for framework, way, _, state in table.rows if framework == "Keras" and state == "restored"]
    if differ > 0:
        verdict, condition = HOLDS, ""
    elif silent or stateless:
        verdict = HOLDS_WHEN
        condition = f"training goes on: the optimizer's state comes back by {' and by '.join(stateful)} alone"
        condition += f"; or nothing was loaded at all, without a word: {'; '.join(silent)}" if silent else ""
    else:
        verdict, condition = DOES_NOT_HOLD, ""
    return Decision(
        verdict=verdict,
        condition=condition,
        interval=Interval.of(f"difference of outputs, {PATHS[1]}", "", series.values(PATHS[1])),
        figures={
            "differ": differ,
            "cloned": series.mean(PATHS[3]),
            "ways": len(table.rows),
            "whole": sum(what == ALL for _, _, what, _ in table.rows),
            "raises": sum(what.startswith("raises") for _, _, what, _ in table.rows),
            "silent": len(silent),
        },
    )


CLAIMS = (
    Claim(
        id="T10",
        statement="load_weights and load_model behave differently with the same weights.",
        headline="The outputs differ by {differ:g} between load_model, load_weights and the loaded model's layers; "
        "clone_model, which copies no weights, is off by {cloned:.2f}. Of {ways} ways in both frameworks {whole} "
        "restore "
        "every weight to the last bit, {raises} raise an error, and {silent} restore nothing and say nothing.",
        rule="Holds if the outputs after loading the same weights by the two differ at all; holds when … if they do "
        "not, but "
        "a way restores nothing in silence, or brings no optimizer state.",
        measure=measure_loading,
        decide=decide_loading,
        seeds=tuple(range(5)),
    ),
)
