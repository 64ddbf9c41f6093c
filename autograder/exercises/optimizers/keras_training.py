"""What steers a Keras training: the loss alone, and a callback that follows a metric."""

from __future__ import annotations

import numpy as np

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

# ---------------------------------------------------------------- the loss, not the metrics


def metrics_cases(seed):
    """Other metrics, another loss, a loss that differs by a millionth, another rate; dropout in all nets."""
    rng = np.random.default_rng(seed)
    for change, steps in (
        ("other metrics", 1),
        ("another loss", 1),
        ("a loss larger by a millionth", 2),
        ("another rate, one step", 1),
    ):
        yield Case(
            change,
            {
                "change": change,
                "steps": steps,
                "x": rng.normal(size=(16, 5)).astype(np.float32),
                "y": rng.uniform(0.1, 0.9, (16, 1)).astype(np.float32),
            },
        )


def metrics_probe(candidate, case):
    from contextlib import suppress

    with suppress(ImportError):
        import triton  # noqa: F401  (torch's optimizers load it, and after TensorFlow that ends the process)
    import keras

    change, made = case["change"], []

    def make_model():
        made.append(1)
        return keras.Sequential([keras.Input((5,)), keras.layers.Dropout(0.3), keras.layers.Dense(1)])

    def compile_first(model):
        model.compile(keras.optimizers.SGD(0.1), loss="mse", run_eagerly=True)

    def compile_second(model):
        options = {"loss": "mse", "metrics": ["mae", "accuracy"] if change == "other metrics" else None}
        if change == "another loss":
            options["loss"] = "mae"
        if change == "a loss larger by a millionth":
            options["loss_weights"] = [1 + 1e-6]
        rate = 0.2 if change == "another rate, one step" else 0.1
        model.compile(keras.optimizers.SGD(rate), run_eagerly=True, **options)

    equal, difference = candidate(make_model, compile_first, compile_second, case["x"], case["y"], case["steps"])
    seen = (
        f"{'equal' if equal else 'different'}, the largest difference is {'0' if float(difference) == 0 else 'not 0'}"
    )
    return {change: seen, "models made": "two or more" if len(made) > 1 else "one or none"}


def same_weights(make_model, compile_first, compile_second, x, y, steps):
    """(whether both trainings end with the same weights, bit for bit, and the largest difference)."""
    import keras

    ends = []
    for compile_model in (compile_first, compile_second):
        keras.utils.set_random_seed(0)
        model = make_model()
        compile_model(model)
        for _ in range(steps):
            model.train_on_batch(x, y)
        ends.append(model.get_weights())
    pairs = list(zip(*ends, strict=True))
    return all(np.array_equal(a, b) for a, b in pairs), max(float(np.abs(a - b).max()) for a, b in pairs)


def not_seeded(make_model, compile_first, compile_second, x, y, steps):
    ends = []
    for compile_model in (compile_first, compile_second):
        model = make_model()
        compile_model(model)
        for _ in range(steps):
            model.train_on_batch(x, y)
        ends.append(model.get_weights())
    pairs = list(zip(*ends, strict=True))
    return all(np.array_equal(a, b) for a, b in pairs), max(float(np.abs(a - b).max()) for a, b in pairs)


def one_model_trained_twice(make_model, compile_first, compile_second, x, y, steps):
    import keras

    ends = []
    keras.utils.set_random_seed(0)
    model = make_model()
    for compile_model in (compile_first, compile_second):
        compile_model(model)
        for _ in range(steps):
            model.train_on_batch(x, y)
        ends.append(model.get_weights())
    pairs = list(zip(*ends, strict=True))
    return all(np.array_equal(a, b) for a, b in pairs), max(float(np.abs(a - b).max()) for a, b in pairs)


def nearly_equal(make_model, compile_first, compile_second, x, y, steps):
    import keras

    ends = []
    for compile_model in (compile_first, compile_second):
        keras.utils.set_random_seed(0)
        model = make_model()
        compile_model(model)
        for _ in range(steps):
            model.train_on_batch(x, y)
        ends.append(model.get_weights())
    pairs = list(zip(*ends, strict=True))
    close = all(np.allclose(a, b, atol=1e-4) for a, b in pairs)
    return close, max(float(np.abs(a - b).max()) for a, b in pairs)


def rounded_difference(make_model, compile_first, compile_second, x, y, steps):
    import keras

    ends = []
    for compile_model in (compile_first, compile_second):
        keras.utils.set_random_seed(0)
        model = make_model()
        compile_model(model)
        for _ in range(steps):
            model.train_on_batch(x, y)
        ends.append(model.get_weights())
    pairs = list(zip(*ends, strict=True))
    largest = round(max(float(np.abs(a - b).max()) for a, b in pairs), 4)
    return largest == 0, largest


def never_trained(make_model, compile_first, compile_second, x, y, steps):
    import keras

    ends = []
    for compile_model in (compile_first, compile_second):
        keras.utils.set_random_seed(0)
        model = make_model()
        compile_model(model)
        ends.append(model.get_weights())
    pairs = list(zip(*ends, strict=True))
    return all(np.array_equal(a, b) for a, b in pairs), max(float(np.abs(a - b).max()) for a, b in pairs)


def histories_compared(make_model, compile_first, compile_second, x, y, steps):
    import keras

    losses = []
    for compile_model in (compile_first, compile_second):
        keras.utils.set_random_seed(0)
        model = make_model()
        compile_model(model)
        losses.append([float(np.atleast_1d(model.train_on_batch(x, y))[0]) for _ in range(steps)])
    return losses[0] == losses[1], max(abs(a - b) for a, b in zip(*losses, strict=True))


def same_by_bytes(make_model, compile_first, compile_second, x, y, steps):
    import keras

    def train(compile_model):
        keras.utils.set_random_seed(1234)
        model = make_model()
        compile_model(model)
        for _ in range(steps):
            model.train_on_batch(x, y, return_dict=True)
        return np.concatenate([w.ravel() for w in model.get_weights()])

    a, b = train(compile_first), train(compile_second)
    return a.tobytes() == b.tobytes(), float(np.max(np.abs(a - b)))


def same_with_copied_weights(make_model, compile_first, compile_second, x, y, steps):
    import keras

    keras.utils.set_random_seed(7)
    first = make_model()
    start = [w.copy() for w in first.get_weights()]
    keras.utils.set_random_seed(7)
    second = make_model()
    second.set_weights(start)
    for model, compile_model in ((first, compile_first), (second, compile_second)):
        keras.utils.set_random_seed(8)
        compile_model(model)
        for _ in range(steps):
            model.train_on_batch(x, y)
    gaps = [np.abs(a - b).max() for a, b in zip(first.get_weights(), second.get_weights(), strict=True)]
    return max(gaps) == 0, max(gaps)


def same_by_fit(make_model, compile_first, compile_second, x, y, steps):
    import keras

    models = []
    for compile_model in (compile_first, compile_second):
        keras.utils.set_random_seed(99)
        models.append(make_model())
        compile_model(models[-1])
        models[-1].fit(np.tile(x, (steps, 1)), np.tile(y, (steps, 1)), batch_size=len(x), shuffle=False, verbose=0)
    largest = 0.0
    for a, b in zip(models[0].weights, models[1].weights, strict=True):
        largest = max(largest, float(np.abs(keras.ops.convert_to_numpy(a) - keras.ops.convert_to_numpy(b)).max()))
    return largest == 0.0, largest


metrics_exercise = Exercise(
    id="optimizers.loss_not_metrics",
    lesson="06_optimizers",
    title="What does Keras optimize? Prove it, bit for bit",
    answer="same_weights",
    criteria=(
        Criterion("other metrics", 1, requires=("another loss", "a loss larger by a millionth")),
        Criterion("another loss", 0),
        Criterion("a loss larger by a millionth", 1, requires=("other metrics",)),
        Criterion("another rate, one step", 1, requires=("other metrics",)),
        Criterion("models made", 0),
    ),
    cases=metrics_cases,
    probe=metrics_probe,
    reference=same_weights,
    misconceptions=(
        Misconception(
            "not_seeded",
            not_seeded,
            "All pairs come out different: each model draws its own start, and its dropout layer its own masks, so "
            "chance differs as well as the settings. (Copying the weights makes only the start the same.)",
            "keras.utils.set_random_seed(…) with the same number, before each model is made.",
        ),
        Misconception(
            "one_model_trained_twice",
            one_model_trained_twice,
            "The second training goes on where the first one stopped: it is the same model.",
            "Call make_model() for each, after setting the seed anew.",
        ),
        Misconception(
            "histories_compared",
            histories_compared,
            "You compare the logged losses. In the case “{case}” the only loss is logged before the step that makes "
            "the weights part.",
            "Compare the weights: model.get_weights() after the training.",
        ),
        Misconception(
            "nearly_equal",
            nearly_equal,
            "You compare with a tolerance. A loss that is larger by a millionth then counts as the same, although it "
            "moves the weights.",
            "np.array_equal compares bit for bit.",
        ),
        Misconception(
            "rounded_difference",
            rounded_difference,
            "You round the largest difference, so that small ones count as none.",
            "Leave it as it is: bit for bit means exactly 0.",
        ),
        Misconception(
            "never_trained",
            never_trained,
            "All pairs come out equal: you compare the weights before any training.",
            "Make the steps before get_weights.",
        ),
    ),
    variants=(
        Variant("same_by_bytes", same_by_bytes),
        Variant("same_with_copied_weights", same_with_copied_weights),
        Variant("same_by_fit", same_by_fit),
    ),
    hints=(
        "Which things besides the settings differ between two trainings? Name three that are random.",
        "keras.utils.set_random_seed(0) before each make_model() fixes start, order and dropout masks.",
        "Train both, get_weights() from both, np.array_equal for each pair, and np.abs(a - b).max().",
    ),
    minutes=12,
)

# ---------------------------------------------------------------- a callback that follows a metric


def callback_cases(seed):
    """A validation loss that stalls while the training loss falls, small gains, a floor, a second fit."""
    rng = np.random.default_rng(seed)

    def case(name, valid, patience=2, factor=0.5, min_delta=0.0, min_lr=0.0, second_fit=0, train_stalls=False):
        shift = rng.uniform(0.5, 2.0)
        valid = np.array(valid) + shift
        return Case(
            name,
            {
                "valid": valid,
                "train": (np.ones(len(valid)) if train_stalls else np.linspace(1.0, 0.1, len(valid))) + shift,
                "lr": float(rng.uniform(0.05, 1.0)),
                "factor": factor,
                "patience": patience,
                "min_delta": min_delta,
                "min_lr": min_lr,
                "second_fit": second_fit,
            },
        )

    yield case("the validation loss stalls, the training loss falls", [1.0, 0.8] + [0.8] * 8)
    yield case(
        "it stalls, recovers, stalls", [1.0, 0.8, 0.9, 0.7, 0.75, 0.75, 0.6, 0.6, 0.6, 0.6, 0.6], train_stalls=True
    )
    yield case("gains below min_delta", [1.0 - 0.01 * i for i in range(10)], min_delta=0.035, patience=3)
    yield case("a floor", [1.0] * 9, patience=1, factor=0.1, min_lr=1e-2)
    yield case(
        "a second fit on other data", [0.5, 0.5, 0.4, 1.5, 1.4, 1.3, 1.2, 1.2, 1.2, 1.2], second_fit=3, factor=0.3
    )


def callback_probe(candidate, case):
    from contextlib import suppress

    with suppress(ImportError):
        import triton  # noqa: F401  (torch's optimizers load it, and after TensorFlow that ends the process)
    import keras
    import numpy as np

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(case["lr"]), loss="mse")
    callback = candidate(case["factor"], case["patience"], case["min_delta"], case["min_lr"])
    if not isinstance(callback, keras.callbacks.Callback):
        raise TypeError("what came back is no keras.callbacks.Callback: return an object of your class")
    callback.set_model(model)
    callback.on_train_begin()
    rates = []
    for epoch, (train, valid) in enumerate(zip(case["train"].tolist(), case["valid"].tolist(), strict=True)):
        if epoch and epoch == case["second_fit"]:
            callback.on_train_end()
            callback.on_train_begin()
        callback.on_epoch_begin(epoch)
        for batch in range(3):
            callback.on_train_batch_begin(batch)
            callback.on_train_batch_end(batch, {"loss": train})
        callback.on_epoch_end(epoch, {"loss": train, "val_loss": valid})
        rates.append(float(model.optimizer.learning_rate))
    return {"rate after each epoch": np.array(rates, dtype=np.float32)}  # in which Keras keeps it


def plateau_callback(factor, patience, min_delta, min_lr):
    """A callback that lowers the rate at the patience-th epoch in a row without a better validation loss."""
    import keras

    class Lower(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.best, self.bad = float("inf"), 0

        def on_epoch_end(self, epoch, logs=None):
            if logs["val_loss"] < self.best - min_delta:
                self.best, self.bad = logs["val_loss"], 0
                return
            self.bad += 1
            if self.bad >= patience:
                rate = float(self.model.optimizer.learning_rate)
                self.model.optimizer.learning_rate = max(rate * factor, min_lr)
                self.bad = 0

    return Lower()


def training_loss_watched(factor, patience, min_delta, min_lr):
    import keras

    class Lower(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.best, self.bad = float("inf"), 0

        def on_epoch_end(self, epoch, logs=None):
            if logs["loss"] < self.best - min_delta:
                self.best, self.bad = logs["loss"], 0
                return
            self.bad += 1
            if self.bad >= patience:
                rate = float(self.model.optimizer.learning_rate)
                self.model.optimizer.learning_rate = max(rate * factor, min_lr)
                self.bad = 0

    return Lower()


def torchs_patience(factor, patience, min_delta, min_lr):
    import keras

    class Lower(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.best, self.bad = float("inf"), 0

        def on_epoch_end(self, epoch, logs=None):
            if logs["val_loss"] < self.best - min_delta:
                self.best, self.bad = logs["val_loss"], 0
                return
            self.bad += 1
            if self.bad > patience:
                rate = float(self.model.optimizer.learning_rate)
                self.model.optimizer.learning_rate = max(rate * factor, min_lr)
                self.bad = 0

    return Lower()


def attribute_that_nobody_reads(factor, patience, min_delta, min_lr):
    import keras

    class Lower(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.best, self.bad = float("inf"), 0

        def on_epoch_end(self, epoch, logs=None):
            if logs["val_loss"] < self.best - min_delta:
                self.best, self.bad = logs["val_loss"], 0
                return
            self.bad += 1
            if self.bad >= patience:
                rate = float(self.model.optimizer.learning_rate)
                self.model.optimizer.lr = max(rate * factor, min_lr)
                self.bad = 0

    return Lower()


def bad_epochs_go_on(factor, patience, min_delta, min_lr):
    import keras

    class Lower(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.best, self.bad = float("inf"), 0

        def on_epoch_end(self, epoch, logs=None):
            if logs["val_loss"] < self.best - min_delta:
                self.best, self.bad = logs["val_loss"], 0
                return
            self.bad += 1
            if self.bad >= patience:
                rate = float(self.model.optimizer.learning_rate)
                self.model.optimizer.learning_rate = max(rate * factor, min_lr)

    return Lower()


def bad_epochs_never_forgotten(factor, patience, min_delta, min_lr):
    import keras

    class Lower(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.best, self.bad = float("inf"), 0

        def on_epoch_end(self, epoch, logs=None):
            if logs["val_loss"] < self.best - min_delta:
                self.best = logs["val_loss"]
                return
            self.bad += 1
            if self.bad >= patience:
                rate = float(self.model.optimizer.learning_rate)
                self.model.optimizer.learning_rate = max(rate * factor, min_lr)
                self.bad = 0

    return Lower()


def compared_with_yesterday(factor, patience, min_delta, min_lr):
    import keras

    class Lower(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.last, self.bad = float("inf"), 0

        def on_epoch_end(self, epoch, logs=None):
            better, self.last = logs["val_loss"] < self.last - min_delta, logs["val_loss"]
            self.bad = 0 if better else self.bad + 1
            if self.bad >= patience:
                rate = float(self.model.optimizer.learning_rate)
                self.model.optimizer.learning_rate = max(rate * factor, min_lr)
                self.bad = 0

    return Lower()


def every_gain_counts(factor, patience, min_delta, min_lr):
    import keras

    class Lower(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.best, self.bad = float("inf"), 0

        def on_epoch_end(self, epoch, logs=None):
            if logs["val_loss"] < self.best:
                self.best, self.bad = logs["val_loss"], 0
                return
            self.bad += 1
            if self.bad >= patience:
                rate = float(self.model.optimizer.learning_rate)
                self.model.optimizer.learning_rate = max(rate * factor, min_lr)
                self.bad = 0

    return Lower()


def below_the_floor(factor, patience, min_delta, min_lr):
    import keras

    class Lower(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.best, self.bad = float("inf"), 0

        def on_epoch_end(self, epoch, logs=None):
            if logs["val_loss"] < self.best - min_delta:
                self.best, self.bad = logs["val_loss"], 0
                return
            self.bad += 1
            if self.bad >= patience:
                self.model.optimizer.learning_rate = float(self.model.optimizer.learning_rate) * factor
                self.bad = 0

    return Lower()


def old_best_kept(factor, patience, min_delta, min_lr):
    import keras

    class Lower(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.best, self.bad = float("inf"), 0

        def on_epoch_end(self, epoch, logs=None):
            if logs["val_loss"] < self.best - min_delta:
                self.best, self.bad = logs["val_loss"], 0
                return
            self.bad += 1
            if self.bad >= patience:
                rate = float(self.model.optimizer.learning_rate)
                self.model.optimizer.learning_rate = max(rate * factor, min_lr)
                self.bad = 0

    return Lower()


def callback_by_assign(factor, patience, min_delta, min_lr):
    import keras

    class Plateau(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.history = []
            self.since = 0

        def on_epoch_end(self, epoch, logs=None):
            value = (logs or {}).get("val_loss", float("nan"))
            if not self.history or value < min(self.history) - min_delta:
                self.history.append(value)
                self.since = 0
            else:
                self.since += 1
            if self.since >= patience:
                rate = self.model.optimizer.learning_rate
                rate.assign(max(float(rate.value) * factor, min_lr))
                self.since = 0

    return Plateau()


def callback_from_keras(factor, patience, min_delta, min_lr):
    import keras

    return keras.callbacks.ReduceLROnPlateau(
        monitor="val_loss", factor=factor, patience=patience, min_delta=min_delta, min_lr=min_lr, mode="min"
    )


def callback_by_lambda(factor, patience, min_delta, min_lr):
    import keras

    state = {}

    def begin(logs=None):
        state.update(best=np.inf, wait=0)

    def end(epoch, logs=None):
        better = logs["val_loss"] < state["best"] - min_delta
        state["wait"] = 0 if better else state["wait"] + 1
        state["best"] = logs["val_loss"] if better else state["best"]
        if state["wait"] >= patience and not better:
            optimizer = callback.model.optimizer
            optimizer.learning_rate = max(float(optimizer.learning_rate) * factor, min_lr)
            state["wait"] = 0

    callback = keras.callbacks.LambdaCallback(on_epoch_end=end, on_train_begin=begin)
    return callback


callback_exercise = Exercise(
    id="optimizers.keras_plateau",
    lesson="06_optimizers",
    title="A Keras callback that lowers the rate on a plateau",
    answer="plateau_callback",
    criteria=(Criterion("rate after each epoch", 2, Close(operations=64)),),
    cases=callback_cases,
    probe=callback_probe,
    reference=plateau_callback,
    misconceptions=(
        Misconception(
            "training_loss_watched",
            training_loss_watched,
            "You watch the training loss, which goes on falling while the net overfits.",
            'logs["val_loss"].',
        ),
        Misconception(
            "torchs_patience",
            torchs_patience,
            "Your rate falls one epoch later than asked: that is PyTorch's count. In Keras it falls at the bad epoch "
            "number `patience`.",
            "if self.bad >= patience.",
        ),
        Misconception(
            "attribute_that_nobody_reads",
            attribute_that_nobody_reads,
            "You set optimizer.lr. Keras 3 keeps the rate in learning_rate; any other name is a new attribute that "
            "nobody reads, and no error tells you.",
            "self.model.optimizer.learning_rate = …",
        ),
        Misconception(
            "bad_epochs_go_on",
            bad_epochs_go_on,
            "After a fall the count goes on, so the rate falls again in each further bad epoch.",
            "self.bad = 0 when the rate falls.",
        ),
        Misconception(
            "bad_epochs_never_forgotten",
            bad_epochs_never_forgotten,
            "A better epoch does not set the count back: you count all bad epochs, not those in a row.",
            "self.bad = 0 whenever the loss improves.",
        ),
        Misconception(
            "compared_with_yesterday",
            compared_with_yesterday,
            "You compare with the epoch before, not with the best so far.",
            "Keep self.best.",
        ),
        Misconception(
            "every_gain_counts",
            every_gain_counts,
            "Any gain counts as an improvement; it should be more than min_delta.",
            "if value < self.best - min_delta.",
        ),
        Misconception(
            "below_the_floor",
            below_the_floor,
            "The rate falls below min_lr.",
            "max(rate * factor, min_lr).",
        ),
        Misconception(
            "old_best_kept",
            old_best_kept,
            "In a second fit your callback still compares with the best loss of the first one, which the new data may "
            "never reach.",
            "Set best and bad in on_train_begin, which each fit calls.",
        ),
    ),
    variants=(
        Variant("callback_by_assign", callback_by_assign),
        Variant("callback_from_keras", callback_from_keras),
        Variant("callback_by_lambda", callback_by_lambda),
    ),
    hints=(
        "Which method of a callback is called after each epoch, and which at the start of each fit?",
        "on_train_begin sets self.best and self.bad; on_epoch_end(self, epoch, logs=None) reads logs['val_loss'].",
        "self.model.optimizer.learning_rate can be read with float(…) and simply assigned.",
    ),
    minutes=12,
)
