"""The ℓ2 penalty in Keras: by hand, and attached to a model so that its losses collect it. Keras is imported late."""

from __future__ import annotations

import numpy as np

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

LESSON = "07_regularization"


def penalty_cases(seed):
    """Dense layers alone, batch norm between, a convolution, a frozen layer."""
    rng = np.random.default_rng(seed)
    for name, kind, strength in (
        ("two dense layers, λ = 0.2", "dense", 0.2),
        ("batch norm between, λ = 0.5", "norm", 0.5),
        ("a convolution first, λ = 0.1", "conv", 0.1),
        ("the first dense layer frozen, λ = 1", "frozen", 1.0),
    ):
        yield Case(name, {"kind": kind, "strength": strength, "values": rng.normal(0.3, 1.0, 400).astype(np.float32)})


def penalty_probe(candidate, case):
    from contextlib import suppress

    with suppress(ImportError):
        import triton  # noqa: F401  (torch's optimizers load it, and after TensorFlow that ends the process)
    import keras
    import numpy as np

    if case["kind"] == "conv":
        layers = [keras.Input((4, 4, 2)), keras.layers.Conv2D(3, 3, name="first"), keras.layers.Flatten()]
    else:
        layers = [keras.Input((5,)), keras.layers.Dense(6, name="first")]
    if case["kind"] in ("norm", "conv"):
        layers.append(keras.layers.BatchNormalization())
    model = keras.Sequential([*layers, keras.layers.Dense(4, name="last")])
    values = iter(case["values"])
    for variable in model.weights:
        size = int(np.prod(variable.shape))
        drawn = np.array([next(values) for _ in range(size)], "float32").reshape(variable.shape)
        variable.assign(np.abs(drawn) if "variance" in variable.name else drawn)
    if case["kind"] == "frozen":
        model.get_layer("first").trainable = False
    before = model.get_weights()
    by_hand = candidate(model, case["strength"])
    if by_hand is None:
        raise TypeError("None was returned where the penalty is expected: is a `return` missing?")
    attached = "nothing"
    if any(getattr(layer, "kernel_regularizer", None) for layer in model.layers):
        attached = "layers that are built already"
    if any(variable.regularizer for variable in model.weights):
        attached = "weights"
    collected = sum((float(keras.ops.convert_to_numpy(loss)) for loss in model.losses), 0.0)
    return {
        "penalty by hand": np.float32(keras.ops.convert_to_numpy(by_hand)),
        "sum of model.losses": np.float32(collected),
        "a regularizer is set on": attached,
        "weights as before": all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)),
    }


def penalize(model, strength):
    """λ/2 Σ w² over the trainable kernels, computed by hand; afterwards model.losses holds the same."""
    import keras

    total = 0.0
    for variable in model.trainable_weights:
        if len(variable.shape) > 1:
            variable.regularizer = keras.regularizers.L2(strength / 2)
            total += strength / 2 * float(np.sum(np.square(keras.ops.convert_to_numpy(variable))))
    return total


def set_on_the_layer(model, strength):
    import keras

    total = 0.0
    for layer in model.layers:
        if layer.trainable and hasattr(layer, "kernel"):
            layer.kernel_regularizer = keras.regularizers.L2(strength / 2)
            total += strength / 2 * float(np.sum(layer.kernel.numpy() ** 2))
    return total


def l2_without_half(model, strength):
    import keras

    total = 0.0
    for variable in model.trainable_weights:
        if len(variable.shape) > 1:
            variable.regularizer = keras.regularizers.L2(strength)
            total += strength / 2 * float(np.sum(variable.numpy() ** 2))
    return total


def no_half_in_either(model, strength):
    import keras

    total = 0.0
    for variable in model.trainable_weights:
        if len(variable.shape) > 1:
            variable.regularizer = keras.regularizers.L2(strength)
            total += strength * float(np.sum(variable.numpy() ** 2))
    return total


def everything_trainable(model, strength):
    import keras

    total = 0.0
    for variable in model.trainable_weights:
        variable.regularizer = keras.regularizers.L2(strength / 2)
        total += strength / 2 * float(np.sum(variable.numpy() ** 2))
    return total


def frozen_ones_too(model, strength):
    import keras

    total = 0.0
    for variable in model.weights:
        if len(variable.shape) > 1:
            variable.regularizer = keras.regularizers.L2(strength / 2)
            total += strength / 2 * float(np.sum(variable.numpy() ** 2))
    return total


def only_dense_layers(model, strength):
    import keras

    total = 0.0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense) and layer.trainable:
            layer.kernel.regularizer = keras.regularizers.L2(strength / 2)
            total += strength / 2 * float(np.sum(layer.kernel.numpy() ** 2))
    return total


def nothing_attached(model, strength):
    total = 0.0
    for variable in model.trainable_weights:
        if len(variable.shape) > 1:
            total += strength / 2 * float(np.sum(variable.numpy() ** 2))
    return total


def decay_as_l1(model, strength):
    import keras

    total = 0.0
    for variable in model.trainable_weights:
        if len(variable.shape) > 1:
            variable.regularizer = keras.regularizers.L1(strength / 2)
            total += strength / 2 * float(np.sum(np.abs(variable.numpy())))
    return total


def penalize_by_layers(model, strength):
    import keras

    total = 0.0
    for layer in model.layers:
        if hasattr(layer, "kernel") and layer.trainable:
            layer.kernel.regularizer = keras.regularizers.L2(0.5 * strength)
            total = total + 0.5 * strength * keras.ops.sum(keras.ops.square(layer.kernel))
    return total


def penalize_by_function(model, strength):
    import keras

    def penalty(variable):
        return strength * keras.ops.sum(variable * variable) / 2

    kernels = [v for v in model.trainable_variables if v.name.endswith("kernel")]
    for v in kernels:
        v.regularizer = penalty
    return sum(float(penalty(v)) for v in kernels)


def penalize_by_l1l2(model, strength):
    import keras

    rule = keras.regularizers.L1L2(l1=0.0, l2=strength / 2)
    kernels = [v for v in model.trainable_weights if len(v.shape) >= 2]
    for v in kernels:
        v.regularizer = rule
    return float(sum(np.linalg.norm(v.numpy().ravel()) ** 2 for v in kernels) * strength / 2)


keras_penalty = Exercise(
    id="regularization.keras_penalty",
    lesson=LESSON,
    title="The penalty in Keras, by hand and attached",
    answer="penalize",
    criteria=(
        Criterion("penalty by hand", 1, Close(operations=64)),
        Criterion("sum of model.losses", 2, Close(operations=64), requires=("penalty by hand",)),
        Criterion("a regularizer is set on", 0),
        Criterion("weights as before", 0),
    ),
    cases=penalty_cases,
    probe=penalty_probe,
    reference=penalize,
    misconceptions=(
        Misconception(
            "set_on_the_layer",
            set_on_the_layer,
            "You set kernel_regularizer on a layer that has its weights already. Keras hands it to the kernel when the "
            "layer is built, and never looks again: model.losses stays empty, and training is not regularized. Nothing "
            "warns you.",
            "Set it on the kernel itself: layer.kernel.regularizer = …, or pass it when you make the layer.",
        ),
        Misconception(
            "l2_without_half",
            l2_without_half,
            "By hand it is right, but what is attached is twice as much: Keras's L2(l2) adds l2·Σw², without a half.",
            "Attach L2(strength / 2).",
        ),
        Misconception(
            "no_half_in_either",
            no_half_in_either,
            "The half is missing in both. The penalty asked for is λ/2·Σw², as in exercise 1.",
            "Use strength / 2 by hand, and L2(strength / 2).",
        ),
        Misconception(
            "everything_trainable",
            everything_trainable,
            "Biases, and batch norm's gamma and beta, are penalized too.",
            "Take only what has two axes or more: len(variable.shape) > 1.",
        ),
        Misconception(
            "frozen_ones_too",
            frozen_ones_too,
            "By hand you count frozen kernels too; Keras collects the penalties of trainable weights only, so the two "
            "differ in the case “{case}”.",
            "Go through model.trainable_weights.",
        ),
        Misconception(
            "only_dense_layers",
            only_dense_layers,
            "In the case “{case}” the convolution's kernel is left out.",
            "Choose by the number of axes, not by the kind of layer.",
        ),
        Misconception(
            "nothing_attached",
            nothing_attached,
            "By hand it is right, but the model knows nothing of it: model.losses is empty, so model.fit would not be "
            "regularized.",
            "Set variable.regularizer for each kernel.",
        ),
        Misconception("decay_as_l1", decay_as_l1, "These are absolute values: ℓ1.", "Use squares, and keras's L2."),
    ),
    variants=(
        Variant("penalize_by_layers", penalize_by_layers),
        Variant("penalize_by_function", penalize_by_function),
        Variant("penalize_by_l1l2", penalize_by_l1l2),
    ),
    hints=(
        "Which of model.trainable_weights are kernels? Their shapes tell.",
        "Keras collects variable.regularizer(variable) for each trainable variable that has one. L2(l2) is l2·Σw².",
        "for v in model.trainable_weights: if len(v.shape) > 1: v.regularizer = keras.regularizers.L2(strength / 2)",
    ),
    minutes=10,
)
