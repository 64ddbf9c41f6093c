"""Batch norm in Keras: one carried over from PyTorch, and what `training` and `trainable` change.

Keras is imported by whoever calls.
"""

from __future__ import annotations

import numpy as np

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

# ---------------------------------------------------------------- carried over


def transfer_cases(seed):
    """Rows and maps, two momenta, an eps that shows, a layer without weight and bias."""
    rng = np.random.default_rng(seed)

    def case(name, shape, momentum, eps, affine=True):
        c = shape[-1]
        return Case(
            name,
            {
                "x": rng.normal(1.0, 0.3, shape).astype(np.float32),
                "gamma": rng.uniform(0.5, 2.0, c).astype(np.float32),
                "beta": rng.normal(size=c).astype(np.float32),
                "mean": rng.normal(1.0, 0.5, c).astype(np.float32),
                "var": rng.uniform(0.05, 0.3, c).astype(np.float32),
                "momentum": momentum,
                "eps": eps,
                "affine": affine,
            },
        )

    yield case("rows, momentum 0.1", (8, 6), 0.1, 1e-5)
    yield case("rows, momentum 0.7, eps = 0.05", (6, 4), 0.7, 0.05)
    yield case("maps, channels last", (3, 4, 5, 2), 0.3, 1e-2)
    yield case("rows, without weight and bias", (8, 3), 0.2, 1e-2, affine=False)


def transfer_probe(candidate, case):
    from contextlib import suppress

    with suppress(ImportError):
        import triton  # noqa: F401  (torch's optimizers load it, and after TensorFlow that ends the process)
    import keras
    import numpy as np
    import torch

    x = case["x"]
    kind = torch.nn.BatchNorm1d if x.ndim == 2 else torch.nn.BatchNorm2d
    norm = kind(x.shape[-1], eps=case["eps"], momentum=case["momentum"], affine=case["affine"])
    with torch.no_grad():
        if case["affine"]:
            norm.weight.copy_(torch.tensor(case["gamma"]))
            norm.bias.copy_(torch.tensor(case["beta"]))
        norm.running_mean.copy_(torch.tensor(case["mean"]))
        norm.running_var.copy_(torch.tensor(case["var"]))
    layer = candidate(norm, (None, *x.shape[1:]))
    if not isinstance(layer, keras.layers.Layer):
        raise TypeError(f"{type(layer).__name__} was returned where a Keras layer is expected")
    tensor = keras.ops.convert_to_tensor(x)
    outputs = {"output in inference": keras.ops.convert_to_numpy(layer(tensor, training=False))}
    outputs["output in training"] = keras.ops.convert_to_numpy(layer(tensor, training=True))
    outputs["moving mean after it"] = keras.ops.convert_to_numpy(layer.moving_mean)
    outputs["numbers learned"] = sum(int(np.prod(weight.shape)) for weight in layer.trainable_weights)
    return outputs


def to_keras_norm(norm, input_shape):
    """A Keras BatchNormalization, built for input_shape (channels last), that does what the PyTorch layer does."""
    import keras

    layer = keras.layers.BatchNormalization(
        momentum=1 - norm.momentum, epsilon=norm.eps, center=norm.affine, scale=norm.affine
    )
    layer.build(input_shape)
    learned = [norm.weight, norm.bias] if norm.affine else []
    layer.set_weights([tensor.detach().numpy() for tensor in (*learned, norm.running_mean, norm.running_var)])
    return layer


def momentum_copied(norm, input_shape):
    import keras

    layer = keras.layers.BatchNormalization(
        momentum=norm.momentum, epsilon=norm.eps, center=norm.affine, scale=norm.affine
    )
    layer.build(input_shape)
    learned = [norm.weight, norm.bias] if norm.affine else []
    layer.set_weights([tensor.detach().numpy() for tensor in (*learned, norm.running_mean, norm.running_var)])
    return layer


def momentum_left_at_its_default(norm, input_shape):
    import keras

    layer = keras.layers.BatchNormalization(epsilon=norm.eps, center=norm.affine, scale=norm.affine)
    layer.build(input_shape)
    learned = [norm.weight, norm.bias] if norm.affine else []
    layer.set_weights([tensor.detach().numpy() for tensor in (*learned, norm.running_mean, norm.running_var)])
    return layer


def eps_left_at_its_default(norm, input_shape):
    import keras

    layer = keras.layers.BatchNormalization(momentum=1 - norm.momentum, center=norm.affine, scale=norm.affine)
    layer.build(input_shape)
    learned = [norm.weight, norm.bias] if norm.affine else []
    layer.set_weights([tensor.detach().numpy() for tensor in (*learned, norm.running_mean, norm.running_var)])
    return layer


def both_left_at_their_defaults(norm, input_shape):
    import keras

    layer = keras.layers.BatchNormalization(center=norm.affine, scale=norm.affine)
    layer.build(input_shape)
    learned = [norm.weight, norm.bias] if norm.affine else []
    layer.set_weights([tensor.detach().numpy() for tensor in (*learned, norm.running_mean, norm.running_var)])
    return layer


def statistics_left_behind(norm, input_shape):
    import keras

    layer = keras.layers.BatchNormalization(
        momentum=1 - norm.momentum, epsilon=norm.eps, center=norm.affine, scale=norm.affine
    )
    layer.build(input_shape)
    if norm.affine:
        layer.gamma.assign(norm.weight.detach().numpy())
        layer.beta.assign(norm.bias.detach().numpy())
    return layer


def weights_left_behind(norm, input_shape):
    import keras

    layer = keras.layers.BatchNormalization(
        momentum=1 - norm.momentum, epsilon=norm.eps, center=norm.affine, scale=norm.affine
    )
    layer.build(input_shape)
    layer.moving_mean.assign(norm.running_mean.numpy())
    layer.moving_variance.assign(norm.running_var.numpy())
    return layer


def gamma_and_beta_exchanged(norm, input_shape):
    import keras

    layer = keras.layers.BatchNormalization(
        momentum=1 - norm.momentum, epsilon=norm.eps, center=norm.affine, scale=norm.affine
    )
    layer.build(input_shape)
    learned = [norm.bias, norm.weight] if norm.affine else []
    layer.set_weights([tensor.detach().numpy() for tensor in (*learned, norm.running_mean, norm.running_var)])
    return layer


def deviation_for_variance(norm, input_shape):
    import keras

    layer = keras.layers.BatchNormalization(
        momentum=1 - norm.momentum, epsilon=norm.eps, center=norm.affine, scale=norm.affine
    )
    layer.build(input_shape)
    learned = [norm.weight, norm.bias] if norm.affine else []
    layer.set_weights([tensor.detach().numpy() for tensor in (*learned, norm.running_mean, norm.running_var.sqrt())])
    return layer


def channels_first_kept(norm, input_shape):
    import keras

    layer = keras.layers.BatchNormalization(
        axis=1, momentum=1 - norm.momentum, epsilon=norm.eps, center=norm.affine, scale=norm.affine
    )
    layer.build(input_shape)
    learned = [norm.weight, norm.bias] if norm.affine else []
    layer.set_weights([tensor.detach().numpy() for tensor in (*learned, norm.running_mean, norm.running_var)])
    return layer


def affine_ignored(norm, input_shape):
    import keras

    layer = keras.layers.BatchNormalization(momentum=1 - norm.momentum, epsilon=norm.eps)
    layer.build(input_shape)
    if norm.affine:
        layer.gamma.assign(norm.weight.detach().numpy())
        layer.beta.assign(norm.bias.detach().numpy())
    layer.moving_mean.assign(norm.running_mean.numpy())
    layer.moving_variance.assign(norm.running_var.numpy())
    return layer


def transfer_by_assigning(norm, input_shape):
    from keras import layers

    state = {name: value.numpy() for name, value in norm.state_dict().items()}
    learned = "weight" in state
    layer = layers.BatchNormalization(
        axis=-1, momentum=1.0 - norm.momentum, epsilon=norm.eps, center=learned, scale=learned
    )
    layer.build(input_shape)
    if learned:
        layer.gamma.assign(state["weight"])
        layer.beta.assign(state["bias"])
    layer.moving_mean.assign(state["running_mean"])
    layer.moving_variance.assign(state["running_var"])
    return layer


def transfer_by_initializers(norm, input_shape):
    import keras

    def constant(tensor):
        values = tensor.detach().numpy().copy()
        return lambda shape, dtype=None: keras.ops.convert_to_tensor(values, dtype=dtype)

    options = {"center": False, "scale": False}
    if norm.affine:
        options = {"gamma_initializer": constant(norm.weight), "beta_initializer": constant(norm.bias)}
    layer = keras.layers.BatchNormalization(
        momentum=1 - norm.momentum,
        epsilon=norm.eps,
        moving_mean_initializer=constant(norm.running_mean),
        moving_variance_initializer=constant(norm.running_var),
        **options,
    )
    layer.build(input_shape)
    return layer


def transfer_after_a_call(norm, input_shape):
    import keras

    layer = keras.layers.BatchNormalization(-1, 1 - norm.momentum, norm.eps, center=norm.affine, scale=norm.affine)
    layer(keras.ops.zeros((1, *input_shape[1:])))  # builds it, in inference: nothing moves
    numbers = [p.detach().numpy() for p in norm.parameters()]
    layer.set_weights([*numbers, norm.running_mean.numpy(), norm.running_var.numpy()])
    return layer


keras_transfer = Exercise(
    id="batch_norm.keras_transfer",
    lesson="04_batch_norm",
    title="Carry a batch norm over to Keras",
    answer="to_keras_norm",
    criteria=(
        Criterion("output in inference", 2, Close(operations=128)),
        Criterion("output in training", 0, Close(operations=256)),
        Criterion("moving mean after it", 1, Close(operations=64), requires=("output in inference",)),
        Criterion("numbers learned", 0),
    ),
    cases=transfer_cases,
    probe=transfer_probe,
    reference=to_keras_norm,
    misconceptions=(
        Misconception(
            "momentum_copied",
            momentum_copied,
            "momentum is copied as it is. PyTorch's weighs the new batch, Keras's the old average: with 0.1 Keras "
            "would forget nine tenths of all it knew at every step.",
            "momentum=1 - norm.momentum.",
        ),
        Misconception(
            "momentum_left_at_its_default",
            momentum_left_at_its_default,
            "The outputs are right, but momentum is left at Keras's default of 0.99.",
            "momentum=1 - norm.momentum.",
        ),
        Misconception(
            "eps_left_at_its_default",
            eps_left_at_its_default,
            "epsilon is left at Keras's default of 1e-3, which is not PyTorch's. Where variances are small that shows.",
            "epsilon=norm.eps.",
        ),
        Misconception(
            "both_left_at_their_defaults",
            both_left_at_their_defaults,
            "momentum and epsilon are left at Keras's defaults, which are not PyTorch's.",
            "momentum=1 - norm.momentum, epsilon=norm.eps.",
        ),
        Misconception(
            "statistics_left_behind",
            statistics_left_behind,
            "Weight and bias are there, the running statistics are not: norm.parameters() does not hold them. The "
            "layer predicts with mean 0 and variance 1.",
            "Take norm.running_mean and norm.running_var too.",
        ),
        Misconception(
            "weights_left_behind",
            weights_left_behind,
            "The running statistics are there, weight and bias are not.",
            "Keras calls them gamma and beta.",
        ),
        Misconception(
            "gamma_and_beta_exchanged",
            gamma_and_beta_exchanged,
            "gamma and beta are exchanged.",
            "Keras's order is gamma (PyTorch's weight), beta (bias), moving mean, moving variance.",
        ),
        Misconception(
            "deviation_for_variance",
            deviation_for_variance,
            "The moving variance is the standard deviation. Both frameworks keep the variance.",
            "norm.running_var as it is.",
        ),
        Misconception(
            "channels_first_kept",
            channels_first_kept,
            "You kept PyTorch's axis 1. In Keras the channels are the last axis; for rows both are the same, for maps "
            "the layer is of the wrong size.",
            "Leave axis at its default of -1.",
        ),
        Misconception(
            "affine_ignored",
            affine_ignored,
            "In the case “{case}” the PyTorch layer has no weight and bias (affine=False); yours would learn some.",
            "center=norm.affine, scale=norm.affine.",
        ),
    ),
    variants=(
        Variant("transfer_by_assigning", transfer_by_assigning),
        Variant("transfer_by_initializers", transfer_by_initializers),
        Variant("transfer_after_a_call", transfer_after_a_call),
    ),
    hints=(
        "Two arguments of the layer and up to four arrays have to come over. Which ones?",
        "momentum is the complement, epsilon the same; center and scale stand for affine.",
        "layer.build(input_shape), then layer.set_weights([gamma, beta, moving mean, moving variance]) as numpy "
        "arrays.",
    ),
    minutes=12,
)

# ---------------------------------------------------------------- training and trainable


def phases_cases(seed):
    """One case for each situation, so that an answer that fails in one still shows what it does in the others."""
    rng = np.random.default_rng(seed)
    for situation in ("train", "predict", "frozen", "norm_only"):
        yield Case(
            situation,
            {
                "situation": situation,
                "x": rng.normal(2.0, 1.0, (16, 12)).astype(np.float32),
                "gamma": rng.uniform(0.5, 2.0, 12).astype(np.float32),
                "mean": rng.normal(-1.0, 1.0, 12).astype(np.float32),
                "variance": rng.uniform(3.0, 9.0, 12).astype(np.float32),
            },
        )


def phases_probe(candidate, case):
    """Which statistics the batch norm used, whether they moved, whether dropout was on, and what could be learned."""
    from contextlib import suppress

    with suppress(ImportError):
        import triton  # noqa: F401  (torch's optimizers load it, and after TensorFlow that ends the process)
    import keras
    import numpy as np

    x, width = case["x"], case["x"].shape[1]
    same = {"use_bias": False, "kernel_initializer": "identity"}
    model = keras.Sequential(
        [
            keras.Input((width,)),
            keras.layers.Dense(width, name="dense", **same),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.5, name="dropout"),
            keras.layers.Dense(width, name="head", **same),
        ]
    )
    norm = model.get_layer("norm")
    norm.set_weights([case["gamma"], np.zeros(width, "float32"), case["mean"], case["variance"]])
    before = [keras.ops.convert_to_numpy(w) for w in (norm.moving_mean, norm.moving_variance)]
    y = candidate(model, x, case["situation"])
    if y is None:
        raise TypeError("None was returned where the model's outputs are expected: is a `return` missing?")
    y = keras.ops.convert_to_numpy(y)
    after = [keras.ops.convert_to_numpy(w) for w in (norm.moving_mean, norm.moving_variance)]

    used, dropout = "neither its averages nor the batch's statistics", "unclear"
    if y.shape == x.shape and y.any():
        kept = y != 0
        dropout = "off" if kept.all() else "on"
        factor = 1.0 if dropout == "off" else 2.0
        for name, mean, var in (
            ("its moving averages", case["mean"], case["variance"]),
            ("the batch's statistics", x.mean(0), x.var(0)),
        ):
            plain = factor * case["gamma"] * (x - mean) / np.sqrt(var + norm.epsilon)
            if np.allclose(y, plain * kept, rtol=0, atol=1e-3 * np.abs(plain).max()):
                used = name
    moved = any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    learned = [f"{layer.name}/{w.name}" for layer in model.layers for w in layer.weights]
    learns = {id(w) for w in model.trainable_variables}
    names = [
        n for n, w in zip(learned, (w for layer in model.layers for w in layer.weights), strict=True) if id(w) in learns
    ]
    return {
        case["situation"]: f"batch norm by {used}; averages {'moved' if moved else 'as before'}; dropout {dropout}; "
        f"learned: {', '.join(names) or 'nothing'}"
    }


def run_norm(model, x, situation):
    """The model's output for x, called as the situation needs, with `trainable` set for the training to come."""
    if situation == "predict":
        return model(x, training=False)
    if situation in ("frozen", "norm_only"):
        learn = {"frozen": ("head",), "norm_only": ("norm",)}[situation]
        for layer in model.layers:
            layer.trainable = layer.name in learn
    return model(x, training=True)


def bare_call(model, x, situation):
    if situation in ("frozen", "norm_only"):
        learn = {"frozen": ("head",), "norm_only": ("norm",)}[situation]
        for layer in model.layers:
            layer.trainable = layer.name in learn
    return model(x)


def always_training(model, x, situation):
    if situation in ("frozen", "norm_only"):
        learn = {"frozen": ("head",), "norm_only": ("norm",)}[situation]
        for layer in model.layers:
            layer.trainable = layer.name in learn
    return model(x, training=True)


def frozen_without_the_norm(model, x, situation):
    if situation == "predict":
        return model(x, training=False)
    if situation in ("frozen", "norm_only"):
        learn = {"frozen": ("head", "norm"), "norm_only": ("norm",)}[situation]
        for layer in model.layers:
            layer.trainable = layer.name in learn
    return model(x, training=True)


def frozen_by_inference(model, x, situation):
    if situation == "norm_only":
        for layer in model.layers:
            layer.trainable = layer.name == "norm"
    return model(x, training=situation in ("train", "norm_only"))


def frozen_called_in_inference(model, x, situation):
    if situation in ("frozen", "norm_only"):
        learn = {"frozen": ("head",), "norm_only": ("norm",)}[situation]
        for layer in model.layers:
            layer.trainable = layer.name in learn
    return model(x, training=situation in ("train", "norm_only"))


def everything_frozen(model, x, situation):
    if situation == "predict":
        return model(x, training=False)
    if situation == "frozen":
        model.trainable = False
    if situation == "norm_only":
        for layer in model.layers:
            layer.trainable = layer.name == "norm"
    return model(x, training=True)


def model_frozen_then_parts_opened(model, x, situation):
    if situation == "predict":
        return model(x, training=False)
    if situation in ("frozen", "norm_only"):
        model.trainable = False
        model.get_layer({"frozen": "head", "norm_only": "norm"}[situation]).trainable = True
    return model(x, training=True)


def norm_only_untouched(model, x, situation):
    if situation == "predict":
        return model(x, training=False)
    if situation == "frozen":
        for layer in model.layers:
            layer.trainable = layer.name == "head"
    return model(x, training=True)


def norm_only_with_its_own_frozen(model, x, situation):
    if situation == "predict":
        return model(x, training=False)
    if situation == "frozen":
        for layer in model.layers:
            layer.trainable = layer.name == "head"
    if situation == "norm_only":
        for layer in model.layers:
            layer.trainable = layer.name != "norm"
    return model(x, training=True)


def norm_phases_by_layer(model, x, situation):
    on = situation != "predict"
    flags = {
        "train": (True, True, True, True),
        "predict": (True, True, True, True),
        "frozen": (False, False, False, True),
        "norm_only": (False, True, False, False),
    }[situation]
    h = x
    for layer, flag in zip(model.layers, flags, strict=True):
        layer.trainable = flag
        h = layer(h, training=on) if layer.name in ("norm", "dropout") else layer(h)
    return h


def norm_phases_by_match(model, x, situation):
    dense, norm, head = (model.get_layer(name) for name in ("dense", "norm", "head"))
    match situation:
        case "frozen":
            dense.trainable = norm.trainable = False
        case "norm_only":
            dense.trainable = head.trainable = False
    return model(x, training=situation != "predict")


def norm_phases_opened_again(model, x, situation):
    if situation == "predict":
        return model.predict(x, verbose=0)
    if situation != "train":
        model.trainable = False
        model.trainable = True
        for name in {"frozen": ("dense", "norm"), "norm_only": ("dense", "head")}[situation]:
            model.get_layer(name).trainable = False
    return model(x, training=True)


keras_phases = Exercise(
    id="batch_norm.keras_phases",
    lesson="04_batch_norm",
    title="Keras: what `training` and `trainable` change",
    answer="run_norm",
    criteria=(
        Criterion("train", 1),
        Criterion("predict", 1, requires=("train",)),
        Criterion("frozen", 1),
        Criterion("norm_only", 1),
    ),
    cases=phases_cases,
    probe=phases_probe,
    reference=run_norm,
    misconceptions=(
        Misconception(
            "bare_call",
            bare_call,
            "You call model(x) without `training`. In Keras 3 that is inference: batch norm uses its averages, which "
            "stand still, and dropout is off.",
            "model(x, training=True) wherever something learns.",
        ),
        Misconception(
            "always_training",
            always_training,
            "For a prediction you pass training=True: the answer for one example then depends on the others in its "
            "batch, and the averages move.",
            "training=False in “predict”.",
        ),
        Misconception(
            "frozen_without_the_norm",
            frozen_without_the_norm,
            "In “frozen” the dense layer stands still but the batch norm does not: its gamma and beta learn, and its "
            "averages follow the new data.",
            "norm.trainable = False: in Keras that also puts it into inference.",
        ),
        Misconception(
            "frozen_by_inference",
            frozen_by_inference,
            "In “frozen” you call the model in inference. That says nothing about what the optimizer may change: all "
            "weights would still learn, and without dropout.",
            "Set `trainable` of the parts that are to stand still, and call with training=True.",
        ),
        Misconception(
            "frozen_called_in_inference",
            frozen_called_in_inference,
            "In “frozen” the right parts are frozen, but the call is in inference, so the dropout before the head is "
            "off.",
            "training=True: the frozen batch norm stays in inference all the same.",
        ),
        Misconception(
            "everything_frozen",
            everything_frozen,
            "In “frozen” the head is frozen too: model.trainable = False reaches every layer inside, and nothing "
            "learns.",
            "Set `trainable` layer by layer.",
        ),
        Misconception(
            "model_frozen_then_parts_opened",
            model_frozen_then_parts_opened,
            "You freeze the model and open one layer again. The layer's flag is True then, but the model's own is "
            "still False, and a model that is not trainable hands no weight to its optimizer.",
            "Leave model.trainable alone; set the flags of its layers.",
        ),
        Misconception(
            "norm_only_untouched",
            norm_only_untouched,
            "In “norm_only” everything learns.",
            "Set `trainable` to False for the dense layer and the head.",
        ),
        Misconception(
            "norm_only_with_its_own_frozen",
            norm_only_with_its_own_frozen,
            "In “norm_only” it is the other way round: the batch norm is frozen, and the rest learns.",
            "trainable = True for the batch norm alone.",
        ),
    ),
    variants=(
        Variant("norm_phases_by_layer", norm_phases_by_layer),
        Variant("norm_phases_by_match", norm_phases_by_match),
        Variant("norm_phases_opened_again", norm_phases_opened_again),
    ),
    hints=(
        "`training` belongs to a call: which statistics, and is dropout on? `trainable` belongs to a layer: what may "
        "the optimizer change?",
        "One exception ties them: a batch norm with trainable=False runs in inference, even under training=True.",
        "for layer in model.layers: layer.trainable = layer.name in (...); then model(x, training=True), but in "
        "“predict”.",
    ),
    minutes=12,
)
