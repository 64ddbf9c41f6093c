"""An activation of one's own in Keras that survives saving and loading. Keras is imported by whoever calls."""

from __future__ import annotations

import numpy as np

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant


def keras_cases(seed):
    """Several shifts, none, a negative one, float64 values of ±1e4, and the layer in the middle of a net."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0.0, 1.0, (6, 4)).astype(np.float32)
    yield Case("shift 0.4", {"x": x, "shift": 0.4, "other": 0.9})
    yield Case("shift 0", {"x": x, "shift": 0.0, "other": 0.25})
    yield Case("a negative shift", {"x": x[:1], "shift": -1.5, "other": 0.5})
    yield Case("values around ±1e4", {"x": x * 1e4, "shift": float(rng.uniform(2, 5)), "other": 1.0})


def keras_probe(candidate, case):
    """Loads as another process would, which knows what was registered: no module but Keras's own is found by name."""
    import importlib
    import os
    import tempfile
    import warnings
    from contextlib import suppress

    with suppress(ImportError):
        import triton  # noqa: F401  (torch's optimizers load it, and after TensorFlow that ends the process)
    import keras
    import numpy as np

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = candidate(case["shift"]), candidate(case["other"])
        inputs = keras.Input(case["x"].shape[1:])
        between = keras.layers.Dense(3, kernel_initializer="ones", name="dense")(inputs)
        net = keras.Model(inputs, [first(inputs), second(between)])
        before = [keras.ops.convert_to_numpy(y) for y in net(case["x"])]
        known = importlib.import_module

        def strangers_refused(name, package=None):
            if name.split(".")[0] not in ("keras", "tensorflow", "numpy", "builtins"):
                raise ModuleNotFoundError(f"No module named {name!r}")
            return known(name, package)

        after, state = None, "loads"
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "net.keras")
            try:
                net.save(path)
                importlib.import_module = strangers_refused
                again = keras.models.load_model(path)
                after = [keras.ops.convert_to_numpy(y) for y in again(case["x"])]
            except Exception as error:
                state = "does not load: " + ("a lambda" if "lambda" in str(error) else "its class is not known")
            finally:
                importlib.import_module = known
    if after is not None:
        changed = [
            name for name, a, b in zip(("first", "second"), before, after, strict=True) if not np.array_equal(a, b)
        ]
        state = f"other outputs of the {' and the '.join(changed)} layer" if changed else "the same outputs"
        named = {layer.name for layer in again.layers} == {layer.name for layer in net.layers}
        state += "" if named else ", and the layer's name is lost"
    return {"output": before[0], "after saving and loading": state}


def shifted_relu(shift):
    """A Keras layer that computes max(z, 0) − shift and can be saved."""
    import keras

    @keras.saving.register_keras_serializable(package="course")
    class ShiftedReLU(keras.layers.Layer):
        def __init__(self, shift, **kwargs):
            super().__init__(**kwargs)
            self.shift = shift

        def call(self, z):
            return keras.ops.maximum(z, 0) - self.shift

        def get_config(self):
            return {**super().get_config(), "shift": self.shift}

    return ShiftedReLU(shift)


def a_lambda_layer(shift):
    import keras

    return keras.layers.Lambda(lambda z: keras.ops.maximum(z, 0) - shift)


def not_registered(shift):
    import keras

    class ShiftedReLU(keras.layers.Layer):
        def __init__(self, shift, **kwargs):
            super().__init__(**kwargs)
            self.shift = shift

        def call(self, z):
            return keras.ops.maximum(z, 0) - self.shift

        def get_config(self):
            return {**super().get_config(), "shift": self.shift}

    return ShiftedReLU(shift)


def shift_not_in_the_config(shift):
    import keras

    @keras.saving.register_keras_serializable(package="course")
    class ForgetsItsShift(keras.layers.Layer):
        def __init__(self, shift=0.0, **kwargs):
            super().__init__(**kwargs)
            self.shift = shift

        def call(self, z):
            return keras.ops.maximum(z, 0) - self.shift

        def get_config(self):
            return super().get_config()

    return ForgetsItsShift(shift)


def parents_config_lost(shift):
    import keras

    @keras.saving.register_keras_serializable(package="course")
    class LosesItsName(keras.layers.Layer):
        def __init__(self, shift):
            super().__init__()
            self.shift = shift

        def call(self, z):
            return keras.ops.maximum(z, 0) - self.shift

        def get_config(self):
            return {"shift": self.shift}

    return LosesItsName(shift)


def subtracted_first(shift):
    import keras

    @keras.saving.register_keras_serializable(package="course")
    class ShiftedBefore(keras.layers.Layer):
        def __init__(self, shift, **kwargs):
            super().__init__(**kwargs)
            self.shift = shift

        def call(self, z):
            return keras.ops.maximum(z - self.shift, 0)

        def get_config(self):
            return {**super().get_config(), "shift": self.shift}

    return ShiftedBefore(shift)


def shift_added(shift):
    import keras

    @keras.saving.register_keras_serializable(package="course")
    class ShiftedUp(keras.layers.Layer):
        def __init__(self, shift, **kwargs):
            super().__init__(**kwargs)
            self.shift = shift

        def call(self, z):
            return keras.ops.maximum(z, 0) + self.shift

        def get_config(self):
            return {**super().get_config(), "shift": self.shift}

    return ShiftedUp(shift)


def shift_as_the_floor(shift):
    import keras

    @keras.saving.register_keras_serializable(package="course")
    class Floored(keras.layers.Layer):
        def __init__(self, shift, **kwargs):
            super().__init__(**kwargs)
            self.shift = shift

        def call(self, z):
            return keras.ops.maximum(z, -self.shift)

        def get_config(self):
            return {**super().get_config(), "shift": self.shift}

    return Floored(shift)


def kept_as_a_global(shift):
    import keras

    @keras.saving.register_keras_serializable(package="course")
    class Closure(keras.layers.Layer):
        def call(self, z):
            return keras.ops.maximum(z, 0) - shift

    return Closure()


def by_automatic_config(shift):
    import keras

    @keras.saving.register_keras_serializable(package="learner")
    class AutomaticConfig(keras.layers.Layer):
        def __init__(self, shift, **kwargs):
            super().__init__(**kwargs)
            self.shift = float(shift)

        def call(self, inputs):
            return keras.ops.relu(inputs) - self.shift

    return AutomaticConfig(shift)


def by_updated_config(shift):
    import keras

    @keras.saving.register_keras_serializable()
    class Shifted(keras.Layer):
        def __init__(self, shift=0.5, name=None, **kwargs):
            super().__init__(name=name, **kwargs)
            self.shift = shift

        def call(self, inputs):
            return keras.ops.where(inputs > 0, inputs - self.shift, -self.shift)

        def get_config(self):
            config = super().get_config()
            config.update({"shift": self.shift})
            return config

        def compute_output_shape(self, input_shape):
            return input_shape

    return Shifted(shift=shift)


def by_a_sublayer(shift):
    import keras

    @keras.saving.register_keras_serializable(package="learner", name="relu_minus")
    class Minus(keras.layers.Layer):
        def __init__(self, amount, **kwargs):
            super().__init__(**kwargs)
            self.amount, self.relu = amount, keras.layers.ReLU()

        def call(self, z):
            return keras.ops.subtract(self.relu(z), self.amount)

        def get_config(self):
            return dict(super().get_config(), amount=self.amount)

    return Minus(shift)


keras_activation = Exercise(
    id="activations.keras_activation",
    lesson="03_activations",
    title="An activation of your own in Keras, saved and loaded",
    answer="shifted_relu",
    criteria=(
        Criterion("output", 1, Close(operations=4)),
        Criterion("after saving and loading", 2, requires=("output",)),
    ),
    cases=keras_cases,
    probe=keras_probe,
    reference=shifted_relu,
    misconceptions=(
        Misconception(
            "a_lambda_layer",
            a_lambda_layer,
            "The net with your layer computes what it should, but can't be loaded again: what a Lambda layer stores is "
            "byte code, and Keras refuses to run that from a file (rightly).",
            "Write a subclass of keras.layers.Layer and register it: "
            '@keras.saving.register_keras_serializable(package="course").',
        ),
        Misconception(
            "not_registered",
            not_registered,
            "The net with your layer computes what it should, but another process can't load it: the file holds the "
            "name of your class, and Keras does not know which class that is.",
            'Put @keras.saving.register_keras_serializable(package="course") before the class.',
        ),
        Misconception(
            "shift_not_in_the_config",
            shift_not_in_the_config,
            "The net loads, but with other outputs: your get_config does not mention the shift, so the loaded layer "
            "takes its default. Nobody is warned.",
            'Return it: {**super().get_config(), "shift": self.shift}.',
        ),
        Misconception(
            "parents_config_lost",
            parents_config_lost,
            "The net loads and computes the same, but your get_config drops what the parent class keeps: name, dtype "
            "and trainable are lost. After loading get_layer(name) finds nothing.",
            "Start from super().get_config(), and let __init__ pass **kwargs on to super().__init__.",
        ),
        Misconception(
            "subtracted_first",
            subtracted_first,
            "You shift before the ReLU: max(z − shift, 0) moves the kink. Asked is max(z, 0) − shift, the same ReLU, "
            "lowered.",
            "Subtract after the maximum.",
        ),
        Misconception(
            "shift_added",
            shift_added,
            "You add the shift. It is there to lower the output's mean.",
            "Subtract it.",
        ),
        Misconception(
            "shift_as_the_floor",
            shift_as_the_floor,
            "max(z, −shift) moves the kink to −shift and leaves positive values as they are.",
            "max(z, 0) − shift lowers everything.",
        ),
        Misconception(
            "kept_as_a_global",
            kept_as_a_global,
            "After loading, all your layers have one shift: the class finds it in the function around it, not in the "
            "layer, and the class registered last wins.",
            "Keep it as self.shift, and return it in get_config.",
        ),
    ),
    variants=(
        Variant("by_automatic_config", by_automatic_config),
        Variant("by_updated_config", by_updated_config),
        Variant("by_a_sublayer", by_a_sublayer),
    ),
    hints=(
        "A layer is saved as the name of its class and its config, a dict of plain values. What has to stand in it?",
        "Keras finds the class by the name under which it was registered: a decorator before the class.",
        "class ShiftedReLU(keras.layers.Layer) with __init__(self, shift, **kwargs), call(self, z) and "
        'get_config(self) that returns {**super().get_config(), "shift": self.shift}, under '
        '@keras.saving.register_keras_serializable(package="course").',
    ),
    minutes=12,
)
