"""Gradient norms of a Keras model, layer by layer, with TensorFlow's tape. Keras is imported by whoever calls."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant
from .backward import LESSON


def tape_cases(seed):
    """Dense layers alone, batch norm between, no biases, a single layer, deep with tiny gradients."""
    rng = np.random.default_rng(seed)

    def case(name, sizes, n=16, kind="plain", scale=1.0):
        count = sum(a * b for a, b in pairwise(sizes))
        return Case(
            name,
            {
                "x": rng.normal(size=(n, sizes[0])).astype(np.float32),
                "labels": rng.integers(0, sizes[-1], n),
                "weights": (scale * rng.normal(size=count)).astype(np.float32),
                "sizes": np.array(sizes),
                "kind": kind,
            },
        )

    yield case("without biases", (5, 6, 4), kind="no bias")
    yield case("a single dense layer", (5, 4))
    yield case("three dense layers", (6, 8, 5, 3))
    yield case("batch norm between", (6, 7, 5, 4), kind="norm")
    yield case("four layers of small weights", (6, 6, 6, 6, 3), scale=0.3)


def tape_probe(candidate, case):
    from contextlib import suppress
    from itertools import pairwise

    with suppress(ImportError):
        import triton  # noqa: F401  (torch's optimizers load it, and after TensorFlow that ends the process)
    import keras
    import numpy as np

    sizes, kind = case["sizes"].tolist(), case["kind"]
    model, used, layers = keras.Sequential([keras.Input((sizes[0],))]), 0, []
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        last = i == len(sizes) - 2
        dense = keras.layers.Dense(n_out, use_bias=kind != "no bias")
        model.add(dense)
        kernel = case["weights"][used : used + n_in * n_out].reshape(n_in, n_out)
        dense.set_weights([kernel] if kind == "no bias" else [kernel, np.linspace(-1, 1, n_out, dtype="float32")])
        used += n_in * n_out
        if not last:
            if kind == "norm":
                model.add(keras.layers.BatchNormalization())
            model.add(keras.layers.Activation("sigmoid"))
        layers.append(dense)
    before = [keras.ops.convert_to_numpy(layer.kernel) for layer in layers]
    norms = candidate(model, case["x"], case["labels"])
    if norms is None:
        raise TypeError("None was returned where the norms are expected: is a `return` missing?")
    norms = np.array([float(norm) for norm in norms] if np.ndim(norms) else float(norms), dtype="float32")
    after = [keras.ops.convert_to_numpy(layer.kernel) for layer in layers]
    same = all(np.array_equal(a, b) for a, b in zip(before, after))  # noqa: B905
    return {"norms": norms, "weights as before": same}


def keras_gradient_norms(model, x, labels):
    """The norms of the gradients of every Dense layer's kernel, first layer first, as in a training step."""
    import keras
    import tensorflow as tf

    kernels = [layer.kernel for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    with tf.GradientTape() as tape:
        logits = model(x, training=True)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
    return [float(tf.norm(grad)) for grad in tape.gradient(loss, [kernel.value for kernel in kernels])]


def outside_the_tape(model, x, labels):
    import keras
    import tensorflow as tf

    kernels = [layer.kernel for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    logits = model(x, training=True)
    with tf.GradientTape() as tape:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
    return [float(tf.norm(grad)) for grad in tape.gradient(loss, kernels)]


def from_logits_forgotten(model, x, labels):
    import keras
    import tensorflow as tf

    kernels = [layer.kernel for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    with tf.GradientTape() as tape:
        loss = keras.losses.SparseCategoricalCrossentropy()(labels, model(x, training=True))
    return [float(tf.norm(grad)) for grad in tape.gradient(loss, kernels)]


def all_trainable_variables(model, x, labels):
    import keras
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, model(x, training=True))
    return [float(tf.norm(grad)) for grad in tape.gradient(loss, model.trainable_variables)]


def every_second_variable(model, x, labels):
    import keras
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, model(x, training=True))
    return [float(tf.norm(grad)) for grad in tape.gradient(loss, model.trainable_variables[::2])]


def squared_norms(model, x, labels):
    import keras
    import tensorflow as tf

    kernels = [layer.kernel for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    with tf.GradientTape() as tape:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, model(x, training=True))
    return [float(tf.reduce_sum(grad**2)) for grad in tape.gradient(loss, kernels)]


def in_inference(model, x, labels):
    import keras
    import tensorflow as tf

    kernels = [layer.kernel for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    with tf.GradientTape() as tape:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, model(x))
    return [float(tf.norm(grad)) for grad in tape.gradient(loss, kernels)]


def loss_of_each_example(model, x, labels):
    import keras
    import tensorflow as tf

    kernels = [layer.kernel for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    with tf.GradientTape() as tape:
        loss = keras.losses.sparse_categorical_crossentropy(labels, model(x, training=True), from_logits=True)
    return [float(tf.norm(grad)) for grad in tape.gradient(loss, kernels)]


def tape_asked_twice(model, x, labels):
    import keras
    import tensorflow as tf

    kernels = [layer.kernel for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    with tf.GradientTape() as tape:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, model(x, training=True))
    return [float(tf.norm(tape.gradient(loss, kernel))) for kernel in kernels]


def norms_of_the_kernels(model, x, labels):
    import keras

    return [float(np.linalg.norm(layer.kernel)) for layer in model.layers if isinstance(layer, keras.layers.Dense)]


def global_norm_only(model, x, labels):
    import keras
    import tensorflow as tf

    kernels = [layer.kernel for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    with tf.GradientTape() as tape:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, model(x, training=True))
    return float(tf.linalg.global_norm(tape.gradient(loss, kernels)))


def last_layer_first(model, x, labels):
    import keras
    import tensorflow as tf

    kernels = [layer.kernel for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    with tf.GradientTape() as tape:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, model(x, training=True))
    return [float(tf.norm(grad)) for grad in tape.gradient(loss, kernels)][::-1]


def tape_by_all_variables(model, x, labels):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        logits = model(tf.convert_to_tensor(x), training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
    variables = model.trainable_variables
    grads = tape.gradient(loss, variables)
    return [tf.norm(g) for g, v in zip(grads, variables, strict=True) if v.path.endswith("kernel")]


def tape_persistent(model, x, labels):
    import keras
    import tensorflow as tf

    with tf.GradientTape(persistent=True) as tape:
        log_q = keras.ops.log_softmax(model(x, training=True))
        loss = -keras.ops.mean(keras.ops.take_along_axis(log_q, labels[:, None], axis=1))
    norms = []
    for layer in model.layers:
        if type(layer) is keras.layers.Dense:
            norms.append(np.linalg.norm(tape.gradient(loss, layer.kernel.value)))
    return np.array(norms)


def tape_watching(model, x, labels):
    import keras
    import tensorflow as tf

    kernels = [layer.kernel.value for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    one_hot = keras.ops.one_hot(labels, model.output_shape[-1])
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(kernels)
        q = keras.ops.softmax(model(x, training=True))
        loss = keras.ops.mean(keras.losses.categorical_crossentropy(one_hot, q))
    return [float(keras.ops.sqrt(keras.ops.sum(grad * grad))) for grad in tape.gradient(loss, kernels)]


keras_norms = Exercise(
    id="vanishing_gradients.keras_norms",
    lesson=LESSON,
    title="Gradient norms of a Keras model",
    answer="keras_gradient_norms",
    criteria=(Criterion("norms", 2, Close(operations=512)), Criterion("weights as before", 0)),
    cases=tape_cases,
    probe=tape_probe,
    reference=keras_gradient_norms,
    misconceptions=(
        Misconception(
            "outside_the_tape",
            outside_the_tape,
            "The model is called before the tape begins to record, so the tape does not know that the loss depends on "
            "the weights: its gradients are None.",
            "Move the call of the model into the `with` block.",
        ),
        Misconception(
            "from_logits_forgotten",
            from_logits_forgotten,
            "The loss takes the model's outputs for probabilities. They are logits: without from_logits=True the loss, "
            "and every gradient with it, is another one, and nothing warns you.",
            "SparseCategoricalCrossentropy(from_logits=True).",
        ),
        Misconception(
            "all_trainable_variables",
            all_trainable_variables,
            "You return a norm for every trainable variable, biases too.",
            "Ask for the gradients of each Dense layer's kernel only.",
        ),
        Misconception(
            "every_second_variable",
            every_second_variable,
            "You take every second variable. That breaks where a layer has no bias, or batch norm stands between.",
            "Go through model.layers, and keep the Dense ones.",
        ),
        Misconception(
            "squared_norms",
            squared_norms,
            "These are the squares of the norms: the root is missing.",
            "Use tf.norm(grad).",
        ),
        Misconception(
            "in_inference",
            in_inference,
            "model(x) without `training` computes as a finished model does: in the case “{case}” batch norm then uses "
            "averages kept from earlier batches instead of this batch's.",
            "model(x, training=True).",
        ),
        Misconception(
            "loss_of_each_example",
            loss_of_each_example,
            "Your loss is one number an example, and the tape adds them up: the gradients are {ratio:.0f} × those of "
            "the mean in the case “{case}”.",
            "Take the mean over the batch, or use keras.losses.SparseCategoricalCrossentropy.",
        ),
        Misconception(
            "tape_asked_twice",
            tape_asked_twice,
            "A tape answers once, then it is empty: in a loop, the second layer's question fails.",
            "Ask for all gradients in one call, tape.gradient(loss, kernels), or write GradientTape(persistent=True).",
        ),
        Misconception(
            "norms_of_the_kernels",
            norms_of_the_kernels,
            "These are the norms of the weights, not of their gradients.",
            "Use tape.gradient(loss, kernels).",
        ),
        Misconception(
            "global_norm_only",
            global_norm_only,
            "You return one norm over all layers. It would not show that the first ones starve.",
            "Return a norm for each layer.",
        ),
        Misconception(
            "last_layer_first",
            last_layer_first,
            "Your list begins with the last layer. Asked is the order of the layers.",
            "Turn the list round.",
        ),
    ),
    variants=(
        Variant("tape_by_all_variables", tape_by_all_variables),
        Variant("tape_persistent", tape_persistent),
        Variant("tape_watching", tape_watching),
    ),
    hints=(
        "A tf.GradientTape knows only what happens inside its `with` block. What has to stand there?",
        "Collect layer.kernel of the layers that are keras.layers.Dense, and ask the tape for all gradients at once.",
        "with tf.GradientTape() as tape: logits = model(x, training=True); loss = "
        "SparseCategoricalCrossentropy(from_logits=True)(labels, logits). Then tf.norm of each of "
        "tape.gradient(loss, kernels).",
    ),
    minutes=12,
)
