"""The phase of a Keras model, in the four situations in which it matters. Keras is imported by whoever calls."""

from __future__ import annotations

import numpy as np

from ...exercise import Case, Criterion, Exercise, Misconception, Variant


def phase_cases(seed):
    """One case for each situation, so that an answer that fails in one still shows what it does in the others."""
    rng = np.random.default_rng(seed)
    for situation in ("train", "predict", "mc", "frozen"):
        yield Case(
            situation,
            {
                "situation": situation,
                "x": rng.normal(2.0, 1.0, (16, 24)).astype(np.float32),
                "gamma": rng.uniform(0.5, 2.0, 24).astype(np.float32),
                "mean": rng.normal(-1.0, 1.0, 24).astype(np.float32),
                "variance": rng.uniform(3.0, 9.0, 24).astype(np.float32),
            },
        )


def phase_probe(candidate, case):
    """Which statistics batch norm used and which dropout layers were on, read off outputs with an identity head."""
    from contextlib import suppress

    with suppress(ImportError):
        import triton  # noqa: F401  (torch's optimizers load it, and after TensorFlow that ends the process)
    import keras
    import numpy as np

    x, width = case["x"], case["x"].shape[1]
    inputs = keras.Input((width,))
    norm = keras.layers.BatchNormalization(name="norm")
    head_drop = keras.layers.Dropout(0.2, name="head_dropout")
    trunk = keras.Sequential(
        [keras.Input((width,)), norm, keras.layers.Dropout(0.5, name="trunk_dropout")], name="trunk"
    )
    classes = keras.layers.Dense(width, use_bias=False, kernel_initializer="identity", name="classes")
    head = keras.Sequential([keras.Input((width,)), head_drop, classes], name="head")
    model = keras.Model(inputs, head(trunk(inputs)))
    norm.set_weights([case["gamma"], np.zeros(width, "float32"), case["mean"], case["variance"]])
    layers = [model, trunk, head, norm, trunk.layers[-1], head_drop, classes]
    before, flags = norm.get_weights(), [layer.trainable for layer in layers]

    y = candidate(model, x, case["situation"])
    if y is None:
        raise TypeError("None was returned where the model's outputs are expected: is a `return` missing?")
    y = keras.ops.convert_to_numpy(y)

    def normalized(mean, variance):
        return case["gamma"] * (x - mean) / np.sqrt(variance + norm.epsilon)

    normalization, dropout = "neither its averages nor the batch's statistics", "unclear"
    if y.shape == x.shape and y.any():
        kept = y != 0
        for name, plain in (
            ("its moving averages", normalized(case["mean"], case["variance"])),
            ("the batch's statistics", normalized(x.mean(0), x.var(0))),
        ):
            factor = np.median(y[kept] / plain[kept])
            if np.allclose(y, factor * plain * kept, rtol=0, atol=1e-3 * abs(factor) * np.abs(plain).max()):
                normalization = name
                scales = {"off": 1.0, "on in the head": 1.25, "on in the trunk": 2.0, "on in trunk and head": 2.5}
                dropout = next((where for where, s in scales.items() if abs(factor - s) < 0.01), "unclear")
    moved = any(not np.array_equal(a, b) for a, b in zip(before, norm.get_weights(), strict=True))
    return {
        case[
            "situation"
        ]: f"dropout {dropout}; batch norm by {normalization}; averages {'moved' if moved else 'as before'}",
        "trainable flags as before": [layer.trainable for layer in layers] == flags,
    }


def run_keras(model, x, situation):
    """The model's outputs in the situation "train", "predict", "mc" or "frozen". Raises ValueError for others."""
    trunk, head = model.get_layer("trunk"), model.get_layer("head")
    if situation == "train":
        return model(x, training=True)
    if situation == "predict":
        return model(x, training=False)
    if situation == "frozen":  # the trunk in inference, dropout included; the head as in a training step
        return head(trunk(x, training=False), training=True)
    if (
        situation == "mc"
    ):  # batch norm that isn't trainable runs in inference, whatever `training` says; dropout does not ask
        norms = [layer for layer in trunk.layers if type(layer).__name__ == "BatchNormalization"]
        flags = [layer.trainable for layer in norms]
        try:
            for layer in norms:
                layer.trainable = False
            return model(x, training=True)
        finally:
            for layer, flag in zip(norms, flags, strict=True):
                layer.trainable = flag
    raise ValueError(f'unknown situation {situation!r}: "train", "predict", "mc" or "frozen"')


def bare_call_everywhere(model, x, situation):
    return model(x)


def bare_call_for_training(model, x, situation):
    trunk, head = model.get_layer("trunk"), model.get_layer("head")
    if situation == "frozen":
        return head(trunk(x, training=False), training=True)
    if situation == "mc":
        norm = trunk.get_layer("norm")
        norm.trainable = False
        y = model(x, training=True)
        norm.trainable = True
        return y
    return model(x)


def training_everywhere(model, x, situation):
    return model(x, training=True)


def mc_in_full_training(model, x, situation):
    trunk, head = model.get_layer("trunk"), model.get_layer("head")
    if situation == "frozen":
        return head(trunk(x, training=False), training=True)
    return model(x, training=situation in ("train", "mc"))


def mc_by_trainable(model, x, situation):
    trunk, head = model.get_layer("trunk"), model.get_layer("head")
    if situation == "frozen":
        return head(trunk(x, training=False), training=True)
    if situation == "mc":
        for layer in (*trunk.layers, *head.layers):
            layer.trainable = "dropout" in layer.name
        y = model(x, training=False)
        for layer in (*trunk.layers, *head.layers):
            layer.trainable = True
        return y
    return model(x, training=situation == "train")


def mc_in_the_head_only(model, x, situation):
    trunk, head = model.get_layer("trunk"), model.get_layer("head")
    if situation in ("mc", "frozen"):
        return head(trunk(x, training=False), training=True)
    return model(x, training=situation == "train")


def trainable_false_for_dropout(model, x, situation):
    trunk = model.get_layer("trunk")
    if situation in ("mc", "frozen"):
        trunk.trainable = False
        y = model(x, training=True)
        trunk.trainable = True
        return y
    return model(x, training=situation == "train")


def frozen_in_inference(model, x, situation):
    trunk = model.get_layer("trunk")
    if situation == "mc":
        trunk.trainable = False
        y = model(x, training=True)
        trunk.trainable = True
        return y
    return model(x, training=situation == "train")


def frozen_in_training(model, x, situation):
    trunk = model.get_layer("trunk")
    if situation == "mc":
        trunk.trainable = False
        y = model(x, training=True)
        trunk.trainable = True
        return y
    return model(x, training=situation in ("train", "frozen"))


def flags_left_changed(model, x, situation):
    trunk, head = model.get_layer("trunk"), model.get_layer("head")
    if situation == "frozen":
        trunk.trainable = False
        return head(trunk(x, training=False), training=True)
    if situation == "mc":
        trunk.trainable = False
        return model(x, training=True)
    return model(x, training=situation == "train")


def phases_by_layers(model, x, situation):
    h = x
    for part in ("trunk", "head"):
        for layer in model.get_layer(part).layers:
            if layer.name == "norm":
                h = layer(h, training=situation == "train")
            elif "dropout" in layer.name:
                on = {"train": True, "predict": False, "mc": True, "frozen": part == "head"}[situation]
                h = layer(h, training=on)
            else:
                h = layer(h)
    return h


def phases_by_predict(model, x, situation):
    import keras

    trunk, head = model.get_layer("trunk"), model.get_layer("head")
    if situation == "train":
        return model(keras.ops.convert_to_tensor(x), training=True)
    if situation == "predict":
        return model.predict(x, verbose=0)
    if situation == "frozen":
        return np.asarray(head(trunk.predict(x, verbose=0), training=True))
    trainable = trunk.trainable
    trunk.trainable = False
    y = model(x, training=True)
    trunk.trainable = trainable
    return y


def phases_by_match(model, x, situation):
    trunk, head = (model.get_layer(name) for name in ("trunk", "head"))
    match situation:
        case "train":
            return head(trunk(x, training=True), training=True)
        case "mc":
            normalized = trunk.get_layer("norm")(x, training=False)
            return head(trunk.get_layer("trunk_dropout")(normalized, training=True), training=True)
        case "frozen":
            return head(trunk(x), training=True)
    return model(x)


keras_phase = Exercise(
    id="dropout.keras_phase",
    lesson="08_dropout",
    title="The phase of a Keras model, in four situations",
    answer="run_keras",
    criteria=(
        Criterion("train", 1),
        Criterion("predict", 1, requires=("train",)),
        Criterion("mc", 1, requires=("trainable flags as before",)),
        Criterion("frozen", 1, requires=("trainable flags as before",)),
        Criterion("trainable flags as before", 0),
    ),
    cases=phase_cases,
    probe=phase_probe,
    reference=run_keras,
    misconceptions=(
        Misconception(
            "bare_call_everywhere",
            bare_call_everywhere,
            "model(x) without `training` is inference in Keras 3, so dropout is off in all four situations. Only fit "
            "and train_on_batch set the phase for you.",
            "Pass training=True where the phase is training.",
        ),
        Misconception(
            "bare_call_for_training",
            bare_call_for_training,
            "For a training step you call model(x). Without `training` that is inference: no dropout, and batch "
            "norm's averages stand still.",
            "model(x, training=True).",
        ),
        Misconception(
            "training_everywhere",
            training_everywhere,
            "You pass training=True in all situations: batch norm then uses the batch's statistics and moves its "
            "averages even while you predict.",
            "Take the four one by one: which layers should be in training in each?",
        ),
        Misconception(
            "mc_in_full_training",
            mc_in_full_training,
            "For MC dropout you call model(x, training=True). That switches dropout on, but batch norm too: it uses "
            "the batch's statistics, and its averages move.",
            "Set the batch norm layers' trainable to False for the call (Keras then runs them in inference), or call "
            "the layers one by one.",
        ),
        Misconception(
            "mc_by_trainable",
            mc_by_trainable,
            "For MC dropout you set `trainable` on the dropout layers. Dropout has no weights and never asks it; only "
            "training=True switches it on.",
            "Pass training=True, and keep batch norm in inference.",
        ),
        Misconception(
            "mc_in_the_head_only",
            mc_in_the_head_only,
            "In MC dropout only the head's dropout is on. The trunk has a dropout layer too, and a sample of the net "
            "draws all masks.",
            "Run the whole model with training=True while batch norm's trainable is False.",
        ),
        Misconception(
            "trainable_false_for_dropout",
            trainable_false_for_dropout,
            "In “frozen” you set trunk.trainable = False. In Keras that puts batch norm into inference, but not "
            "dropout: the trunk's dropout is still on.",
            "A part of the model can be called alone: which phase does each part need?",
        ),
        Misconception(
            "frozen_in_inference",
            frozen_in_inference,
            "In “frozen” the whole model runs in inference. Only the trunk is frozen; the head is being trained, with "
            "its dropout on.",
            "A part of the model can be called alone: which phase does each part need?",
        ),
        Misconception(
            "frozen_in_training",
            frozen_in_training,
            "In “frozen” the whole model runs in training: the trunk's batch norm uses the batch's statistics and "
            "moves its averages, so what was learned before is slowly lost.",
            "A part of the model can be called alone: which phase does each part need?",
        ),
        Misconception(
            "flags_left_changed",
            flags_left_changed,
            "The outputs are right, but `trainable` stays False afterwards: a model compiled after this would no "
            "longer train its trunk.",
            "Put the flags back, or call the trunk with training=False, which needs none.",
        ),
    ),
    variants=(
        Variant("phases_by_layers", phases_by_layers),
        Variant("phases_by_predict", phases_by_predict),
        Variant("phases_by_match", phases_by_match),
    ),
    hints=(
        "For each situation write down two things: is dropout on, and which statistics does batch norm use?",
        "`training` is an argument of every call, and holds for all layers inside. A part of a model can be called "
        'alone: model.get_layer("trunk")(x, training=False).',
        "Batch norm with trainable=False runs in inference even under training=True; dropout doesn't ask `trainable`. "
        "With these two facts “mc” is one call of the whole model. Put the flag back.",
    ),
    minutes=15,
)
