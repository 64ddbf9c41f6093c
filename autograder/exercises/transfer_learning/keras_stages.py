"""Opening the top of a frozen Keras trunk. Keras is imported by whoever calls."""

from __future__ import annotations

import numpy as np

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant


def keras_cases(seed):
    """One layer, two with a norm between, a trunk that came open, every layer, and none at all."""
    rng = np.random.default_rng(seed)
    for name, count, frozen in (
        ("the last layer", 1, True),
        ("the last three: a dense layer, a norm, a dense layer", 3, True),
        ("every layer", 5, True),
        ("none: the head alone", 0, True),
        ("the last two, and the trunk came open", 2, False),
    ):
        yield Case(
            name,
            {
                "count": count,
                "frozen": frozen,
                "rate": float(rng.choice([1e-3, 3e-4, 1e-4, 5e-5])),
                "x": rng.normal(2.0, 1.0, (6, 4)).astype(np.float32),
            },
        )


def keras_probe(candidate, case):
    """What would train, whether a training pass moves a norm's averages, and the rate of a fresh optimizer."""
    from contextlib import suppress

    with suppress(ImportError):
        import triton  # noqa: F401  (torch's optimizers load it, and after TensorFlow that ends the process)
    import keras
    import numpy as np

    layers = keras.layers
    trunk = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(4, name="low"),
            layers.BatchNormalization(name="low_norm"),
            layers.Dense(4, name="middle"),
            layers.BatchNormalization(name="high_norm"),
            layers.Dense(4, name="high"),
        ],
        name="trunk",
    )
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(3, name="head")(trunk(inputs)))
    trunk.trainable = not case["frozen"]
    first = keras.optimizers.Adam(1e-2)
    model.compile(first, "mse")
    norms = [trunk.get_layer(name) for name in ("low_norm", "high_norm")]
    before = [norm.get_weights() for norm in norms]
    candidate(model, case["count"], case["rate"])
    model(case["x"], training=True)
    moved = any(
        not np.array_equal(a, b)
        for norm, old in zip(norms, before, strict=True)
        for a, b in zip(old[2:], norm.get_weights()[2:], strict=True)
    )
    return {
        "what trains": ", ".join(sorted({v.path.split("/")[-2] for v in model.trainable_variables})),
        "averages of frozen norms": "move in training" if moved else "stand still",
        "learning rate": np.float32(keras.ops.convert_to_numpy(model.optimizer.learning_rate)),
        "compiled anew": model.optimizer is not first,
    }


def open_top(model, count, rate):
    """Lets the last `count` layers of the trunk train, but no batch norm; compiles with Adam at `rate`."""
    import keras

    trunk = model.get_layer("trunk")
    trunk.trainable = True
    first = len(trunk.layers) - count
    for i, layer in enumerate(trunk.layers):
        layer.trainable = i >= first and not isinstance(layer, keras.layers.BatchNormalization)
    model.compile(keras.optimizers.Adam(rate), "mse")


def norms_opened_too(model, count, rate):
    import keras

    trunk = model.get_layer("trunk")
    trunk.trainable = True
    first = len(trunk.layers) - count
    for i, layer in enumerate(trunk.layers):
        layer.trainable = i >= first
    model.compile(keras.optimizers.Adam(rate), "mse")


def whole_trunk_opened(model, count, rate):
    import keras

    model.get_layer("trunk").trainable = True
    model.compile(keras.optimizers.Adam(rate), "mse")


def opened_by_the_model(model, count, rate):
    import keras

    model.trainable = True
    trunk = model.get_layer("trunk")
    for layer in trunk.layers[: len(trunk.layers) - count]:
        layer.trainable = False
    for layer in trunk.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    model.compile(keras.optimizers.Adam(rate), "mse")


def first_instead_of_last(model, count, rate):
    import keras

    trunk = model.get_layer("trunk")
    trunk.trainable = True
    for i, layer in enumerate(trunk.layers):
        layer.trainable = i < count and not isinstance(layer, keras.layers.BatchNormalization)
    model.compile(keras.optimizers.Adam(rate), "mse")


def minus_zero(model, count, rate):
    import keras

    trunk = model.get_layer("trunk")
    trunk.trainable = True
    for layer in trunk.layers:
        layer.trainable = False
    for layer in trunk.layers[-count:]:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    model.compile(keras.optimizers.Adam(rate), "mse")


def rest_left_open(model, count, rate):
    import keras

    trunk = model.get_layer("trunk")
    if not trunk.trainable:
        trunk.trainable = True
        for layer in trunk.layers:
            layer.trainable = False
    for layer in trunk.layers[len(trunk.layers) - count :]:
        layer.trainable = True
    for layer in trunk.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    model.compile(keras.optimizers.Adam(rate), "mse")


def not_compiled(model, count, rate):
    import keras

    trunk = model.get_layer("trunk")
    trunk.trainable = True
    first = len(trunk.layers) - count
    for i, layer in enumerate(trunk.layers):
        layer.trainable = i >= first and not isinstance(layer, keras.layers.BatchNormalization)
    model.optimizer.learning_rate = rate


def default_rate(model, count, rate):
    import keras

    trunk = model.get_layer("trunk")
    trunk.trainable = True
    first = len(trunk.layers) - count
    for i, layer in enumerate(trunk.layers):
        layer.trainable = i >= first and not isinstance(layer, keras.layers.BatchNormalization)
    model.compile("rmsprop", "mse")
    model.optimizer.learning_rate = 1e-2


def head_frozen_too(model, count, rate):
    import keras

    trunk = model.get_layer("trunk")
    model.trainable = False
    model.trainable = trunk.trainable = True
    first = len(trunk.layers) - count
    for i, layer in enumerate(trunk.layers):
        layer.trainable = i >= first and not isinstance(layer, keras.layers.BatchNormalization)
    model.get_layer("head").trainable = False
    model.compile(keras.optimizers.Adam(rate), "mse")


def open_by_names(model, count, rate):
    import keras

    trunk = model.get_layer("trunk")
    names = [layer.name for layer in trunk.layers]
    chosen = names[len(names) - count :]
    trunk.trainable = True
    for name in names:
        trunk.get_layer(name).trainable = name in chosen and "norm" not in name
    model.compile(optimizer=keras.optimizers.Adam(learning_rate=rate), loss="mse")


def open_from_the_end(model, count, rate):
    import keras

    trunk = model.get_layer("trunk")
    trunk.trainable = True
    for position, layer in enumerate(reversed(trunk.layers), 1):
        if position > count or type(layer) is keras.layers.BatchNormalization:
            layer.trainable = False
    model.compile(keras.optimizers.Adam(rate), loss=keras.losses.MeanSquaredError())


def closed_then_opened(model, count, rate):
    import keras

    trunk = model.get_layer("trunk")
    trunk.trainable = False
    for layer in trunk.layers[len(trunk.layers) - count :]:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.0), "mse")


keras_exercise = Exercise(
    id="transfer_learning.keras_open_top",
    lesson="05_transfer_learning",
    title="Open the top of a Keras trunk",
    answer="open_top",
    criteria=(
        Criterion("what trains", 2),
        Criterion("averages of frozen norms", 1, requires=("what trains",)),
        Criterion("learning rate", 1, Close(operations=4), requires=("what trains",)),
        Criterion("compiled anew", 0),
    ),
    cases=keras_cases,
    probe=keras_probe,
    reference=open_top,
    misconceptions=(
        Misconception(
            "norms_opened_too",
            norms_opened_too,
            "The batch norms among the opened layers train too. Their averages move with every small batch, and what "
            "the "
            "trunk had learned drifts away.",
            "Leave trainable = False on each keras.layers.BatchNormalization: in Keras that also keeps it in "
            "inference.",
        ),
        Misconception(
            "whole_trunk_opened",
            whole_trunk_opened,
            "trunk.trainable = True opens every layer inside. Asked are the last {count}.",
            "Then go through trunk.layers and set each one's flag.",
        ),
        Misconception(
            "opened_by_the_model",
            opened_by_the_model,
            "You count on model.trainable = True to open the trunk. The model's own flag was True already, and with "
            "TensorFlow setting a flag to what it is does nothing at all: the layers inside keep theirs.",
            "Set the flag of each of the trunk's layers yourself, to True or to False.",
        ),
        Misconception(
            "first_instead_of_last",
            first_instead_of_last,
            "You open the first layers. trunk.layers begins at the input; the layers to open first are the last ones.",
            "i >= len(trunk.layers) - count.",
        ),
        Misconception(
            "minus_zero",
            minus_zero,
            "In the case “{case}” you write trunk.layers[-0:], and that is the whole list.",
            "trunk.layers[len(trunk.layers) - count:].",
        ),
        Misconception(
            "rest_left_open",
            rest_left_open,
            "You open what is asked, but never close the rest: in the case “{case}” the trunk came open, and stays so.",
            "Set every layer's flag, to True or to False.",
        ),
        Misconception(
            "not_compiled",
            not_compiled,
            "You do not compile again. A Keras model that was trained before goes on training what was trainable at "
            "its "
            "last compile, with Adam's old moments.",
            'model.compile(keras.optimizers.Adam(rate), "mse") after the flags are set.',
        ),
        Misconception(
            "default_rate",
            default_rate,
            "The rate is not the one that was asked for. Pretrained layers are moved too far by an ordinary rate.",
            "keras.optimizers.Adam(rate).",
        ),
        Misconception(
            "head_frozen_too",
            head_frozen_too,
            "The head is frozen. It is what has to learn the new task.",
            "Touch the flags of the trunk's layers only.",
        ),
    ),
    variants=(
        Variant("open_by_names", open_by_names),
        Variant("open_from_the_end", open_from_the_end),
        Variant("closed_then_opened", closed_then_opened),
    ),
    hints=(
        "Setting a model's or a part's `trainable` sets all layers inside. In which order must you set the trunk's "
        "flag and "
        "its layers'?",
        "trunk.trainable = True; then a loop over enumerate(trunk.layers) that sets every flag. Batch norms stay "
        "False.",
        "layer.trainable = i >= len(trunk.layers) - count and not isinstance(layer, keras.layers.BatchNormalization); "
        "then "
        'model.compile(keras.optimizers.Adam(rate), "mse").',
    ),
    minutes=15,
)
