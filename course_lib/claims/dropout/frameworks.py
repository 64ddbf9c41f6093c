"""D8: how the phase of a call is set in PyTorch and in Keras, and the mistakes.

Every situation runs a small net on real images and looks at what its dropout layer did: the share of its outputs
that were zero. Inputs are at least 1, so a zero was dropped.
"""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS_WHEN, Claim, Decision, Interval, Measured, Series, Table
from course_lib.claims.experiments import images
from course_lib.quiet import load_keras

__all__ = ["CLAIMS"]

ON, OFF = "dropout on", "dropout off"
MOVES, STILL = "running statistics move", "running statistics stay"

# (what was done, what to expect of it, what was seen: a share of zeros, or how far the running mean moved)
Situation = tuple[str, str, float]


class Watched(nn.Module):
    """Dropout (p = 0.5) on positive inputs, keeping the share of its outputs that were zero; then a dense layer."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(784, affine=False)
        self.drop = nn.Dropout(0.5)
        self.dense = nn.Linear(784, 10)
        self.zeros = float("nan")

    def forward(self, x):
        self.norm(x)
        h = self.dropped(x)
        self.zeros = float((h == 0).float().mean())
        return self.dense(h)

    def dropped(self, x):
        return self.drop(x)


class AlwaysOn(Watched):
    """The mistake: `F.dropout` without `training=self.training`."""

    def dropped(self, x):
        return F.dropout(x, 0.5)


class FollowsMode(Watched):
    def dropped(self, x):
        return F.dropout(x, 0.5, training=self.training)


class MadeInForward(Watched):
    """The mistake: a layer made anew in each call, which is in training mode and which `eval()` never reaches."""

    def dropped(self, x):
        return nn.Dropout(0.5)(x)


class InPlainList(Watched):
    """The mistake: a layer in a plain list, which the module does not know of."""

    def __init__(self):
        super().__init__()
        self.hidden_from_module = [nn.Dropout(0.5)]

    def dropped(self, x):
        return self.hidden_from_module[0](x)


def torch_situations(x: torch.Tensor) -> Iterator[Situation]:
    def zeros(model: Watched) -> float:
        model(x)
        return model.zeros

    yield "fresh net, called bare", ON, zeros(Watched())
    yield "model.eval()", OFF, zeros(Watched().eval())
    yield "model.eval(), then model.train()", ON, zeros(Watched().eval().train())
    yield "model.train(False)", OFF, zeros(Watched().train(False))
    with torch.no_grad():
        yield "under torch.no_grad(), no eval()", ON, zeros(Watched())
    with torch.inference_mode():
        yield "under torch.inference_mode(), no eval()", ON, zeros(Watched())
    model = Watched().eval()
    model.drop.train()
    yield "model.eval(), then the dropout layer alone .train() (MC dropout)", ON, zeros(model)
    model = Watched()
    model.load_state_dict(copy.deepcopy(Watched().eval().state_dict()))
    yield "weights loaded from a net in eval(): the mode is not among them", ON, zeros(model)
    yield "F.dropout(x, 0.5) in forward, after eval()", ON, zeros(AlwaysOn().eval())
    yield "F.dropout(x, 0.5, training=self.training), after eval()", OFF, zeros(FollowsMode().eval())
    yield "nn.Dropout made inside forward, after eval()", ON, zeros(MadeInForward().eval())
    yield "nn.Dropout in a plain Python list, after eval()", ON, zeros(InPlainList().eval())


def torch_norm_situations(x: torch.Tensor) -> Iterator[Situation]:
    def moved(model: Watched) -> float:
        before = model.norm.running_mean.clone()
        model(x)
        return float((model.norm.running_mean - before).abs().mean())

    yield "fresh net, called bare", MOVES, moved(Watched())
    yield "model.eval()", STILL, moved(Watched().eval())
    with torch.no_grad():
        yield "under torch.no_grad(), no eval()", MOVES, moved(Watched())
    model = Watched()
    model.norm.requires_grad_(False)
    yield "frozen by requires_grad_(False)", MOVES, moved(model)
    model = Watched()
    model.norm.eval()
    yield "norm.eval() in a net that trains", STILL, moved(model)
    yield "norm.eval(), then model.train() (as at the next epoch)", MOVES, moved(model.train())


def keras_situations(x: np.ndarray, y: np.ndarray) -> Iterator[Situation]:
    keras = load_keras()

    class Watch(keras.layers.Layer):
        """Passes its input on, and keeps the share of zeros in it."""

        zeros = float("nan")

        def call(self, inputs):
            self.zeros = float(np.mean(keras.ops.convert_to_numpy(inputs) == 0))
            return inputs

    class Block(keras.layers.Layer):
        """A layer of one's own around a dropout layer, which says nothing of the phase."""

        def __init__(self):
            super().__init__()
            self.drop = keras.layers.Dropout(0.5)

        def call(self, inputs):
            return self.drop(inputs)

    class Model(keras.Model):
        """Run eagerly, so that the watch sees every call."""

        def __init__(self, drop):
            super().__init__()
            self.drop, self.watch, self.dense = drop, Watch(), keras.layers.Dense(10)

        def call(self, inputs, training=None):
            return self.dense(self.watch(self.drop(inputs)))  # Keras hands the flag on to every layer inside

    class Deaf(Model):
        """The mistake: a model whose `call` takes no `training`, so that `fit` has nobody to tell."""

        def call(self, inputs):
            return self.dense(self.watch(self.drop(inputs)))

    def model(drop=None, kind=Model):
        made = kind(drop or keras.layers.Dropout(0.5))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        made.compile("sgd", loss, run_eagerly=True)
        return made

    def zeros(made, act: Callable) -> float:
        act(made)
        return made.watch.zeros

    yield "model(x), called bare", OFF, zeros(model(), lambda m: m(x))
    yield "model(x, training=True)", ON, zeros(model(), lambda m: m(x, training=True))
    yield "model(x, training=False)", OFF, zeros(model(), lambda m: m(x, training=False))
    yield "model.fit", ON, zeros(model(), lambda m: m.fit(x, y, verbose=0))
    yield "model.train_on_batch", ON, zeros(model(), lambda m: m.train_on_batch(x, y))
    yield "model.evaluate", OFF, zeros(model(), lambda m: m.evaluate(x, y, verbose=0))
    yield "model.predict", OFF, zeros(model(), lambda m: m.predict(x, verbose=0))
    yield "own training step calling model(x) bare", OFF, zeros(model(), lambda m: gradient_step(m, x, y))
    frozen = keras.layers.Dropout(0.5)
    frozen.trainable = False
    yield "dropout.trainable = False, model.fit", ON, zeros(model(frozen), lambda m: m.fit(x, y, verbose=0))
    always = lambda inputs: keras.random.dropout(inputs, 0.5)
    lambda_layer = keras.layers.Lambda(always)
    yield (
        "keras.random.dropout in a Lambda layer, model.predict",
        ON,
        zeros(model(lambda_layer), lambda m: m.predict(x, verbose=0)),
    )
    yield (
        "dropout inside one's own layer, which passes no flag, model.fit",
        ON,
        zeros(model(Block()), lambda m: m.fit(x, y, verbose=0)),
    )
    yield "… and model.predict", OFF, zeros(model(Block()), lambda m: m.predict(x, verbose=0))
    yield (
        "own model whose call takes no training argument, model.fit",
        OFF,
        zeros(model(kind=Deaf), lambda m: m.fit(x, y, verbose=0)),
    )
    inputs = keras.Input((784,))
    functional = keras.Model(inputs, keras.layers.Dropout(0.5)(inputs, training=True))
    functional.compile(run_eagerly=True)
    name = "layer called with training=True in a functional model"
    yield f"{name}, model(x) bare", ON, float(np.mean(keras.ops.convert_to_numpy(functional(x)) == 0))
    # predict calls the model with training=False, and that replaces the layer's own flag
    yield f"{name}, model.predict", OFF, float(np.mean(functional.predict(x, verbose=0) == 0))
    seeded = model(keras.layers.Dropout(0.5, seed=1))
    first = keras.ops.convert_to_numpy(seeded.drop(x, training=True))
    second = keras.ops.convert_to_numpy(seeded.drop(x, training=True))
    yield (
        "Dropout(seed=1) twice: units dropped in one call and kept in the other",
        ON,
        float(np.mean((first == 0) != (second == 0))),
    )


def gradient_step(model, x, y) -> None:
    """The mistake: a hand-written step that leaves `training=True` out."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = model.loss(y, model(x))
    gradients = tape.gradient(loss, model.trainable_variables)
    model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))


def keras_norm_situations(x: np.ndarray) -> Iterator[Situation]:
    keras = load_keras()

    def moved(act: Callable, *, trainable: bool = True) -> float:
        norm = keras.layers.BatchNormalization()
        norm.build(x.shape)
        norm.trainable = trainable
        act(norm)
        return float(np.abs(keras.ops.convert_to_numpy(norm.moving_mean)).mean())

    yield "norm(x), called bare", STILL, moved(lambda norm: norm(x))
    yield "norm(x, training=True)", MOVES, moved(lambda norm: norm(x, training=True))
    yield (
        "norm.trainable = False, norm(x, training=True)",
        STILL,
        moved(lambda norm: norm(x, training=True), trainable=False),
    )


def measure_phase(seeds):
    data = images("mnist5k")
    found: dict[str, dict[str, list[float]]] = {}
    expected: dict[str, dict[str, str]] = {}
    with torch.random.fork_rng(devices=[]):
        for seed in seeds:
            torch.manual_seed(seed)
            keras = load_keras()

            keras.utils.set_random_seed(seed)
            rows = torch.randperm(len(data.test[1]))[:16]
            x = data.test[0][rows].flatten(1)
            x = x - x.min() + 1  # no input is 0
            labels = data.test[1][rows].numpy()
            for where, situations in (
                ("PyTorch, dropout", torch_situations(x)),
                ("Keras, dropout", keras_situations(x.numpy(), labels)),
                ("PyTorch, batch norm", torch_norm_situations(x)),
                ("Keras, batch norm", keras_norm_situations(x.numpy())),
            ):
                for name, expect, seen in situations:
                    found.setdefault(where, {}).setdefault(name, []).append(seen)
                    expected.setdefault(where, {})[name] = expect
    series = [
        Series(
            where,
            "share of units dropped" if where.endswith("dropout") else "shift of the running mean",
            {name: [values] for name, values in arms.items()},
            identical="situations in the same phase are meant to agree",
        )
        for where, arms in found.items()
    ]
    rows = [
        (where, name, expected[where][name], observed(where, values))
        for where, arms in found.items()
        for name, values in arms.items()
    ]
    # Keras once had a global flag
    keras = load_keras()

    flag = hasattr(keras.backend, "learning_phase") or hasattr(keras.backend, "set_learning_phase")
    rows.append(("Keras", "keras.backend.learning_phase, the global flag", "gone", "there" if flag else "gone"))
    return Measured(
        series=tuple(series), tables=(Table("phases", ("where", "what was done", "expected", "seen"), rows),)
    )


def observed(where: str, values: list[float]) -> str:
    """The phase that all seeds agree on, or "mixed"."""
    on, off = (ON, OFF) if where.endswith("dropout") else (MOVES, STILL)
    acted = [value > (0.25 if on == ON else 1e-4) for value in values]
    if all(acted):
        return on
    return off if not any(value > 0 for value in values) else "mixed"


def decide_phase(measured):
    rows = measured.tables[0].rows
    right = [100.0 * (expected == seen) for *_, expected, seen in rows]
    agree = all(right)
    seen = {(where, name): what for where, name, _, what in rows}
    return Decision(
        verdict=HOLDS_WHEN if agree else DOES_NOT_HOLD,
        condition="you call the net yourself: Keras's fit, evaluate and predict set the phase, its bare call is "
        "inference, and PyTorch's is training until eval()"
        if agree
        else "",
        interval=Interval.of("situations that behave as the table says", "%", right),
        figures={
            "right": sum(map(bool, right)),
            "all": len(right),
            "torch": seen["PyTorch, dropout", "fresh net, called bare"],
            "keras": seen["Keras, dropout", "model(x), called bare"],
            "flag": seen["Keras", "keras.backend.learning_phase, the global flag"],
        },
    )


CLAIMS = (
    Claim(
        id="D8",
        statement="If the net behaves differently in training and testing, you need to pass the learning-phase flag.",
        headline="A bare call of a fresh net runs with {torch} in PyTorch and with {keras} in Keras; Keras's global "
        "flag is {flag}. {right} of {all} ways to set the phase, or to miss it, behave as the table says.",
        rule="Holds when … if every situation of the table was seen to behave as documented, with every seed.",
        measure=measure_phase,
        decide=decide_phase,
        seeds=tuple(range(5)),
    ),
)
