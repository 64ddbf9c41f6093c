"""The cats-and-dogs net that people ask about, rebuilt in Keras with a PyTorch net's weights."""

from __future__ import annotations

import numpy as np

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant


def net_cases(seed):
    """Two sides, colour and grey, one output and several; maps of sizes that tell the axes apart."""
    rng = np.random.default_rng(seed)
    for name, channels, side, outputs in (
        ("colour, 26 pixels, one output", 3, 26, 1),
        ("colour, 38 pixels", 3, 38, 1),
        ("grey, 30 pixels, three outputs", 1, 30, 3),
        ("one picture of 22 pixels", 3, 22, 2),
    ):
        maps, left, state = channels, side, {}
        for i, out in enumerate((4, 4, 6), start=1):
            state[f"conv{i}.weight"] = rng.normal(size=(out, maps, 3, 3)) * (2 / (9 * maps)) ** 0.5
            state[f"conv{i}.bias"] = 0.3 * rng.normal(size=out)
            maps, left = out, (left - 2) // 2
        state["dense.weight"] = rng.normal(size=(5, maps * left**2)) * (2 / (maps * left**2)) ** 0.5
        state["dense.bias"] = 0.3 * rng.normal(size=5)
        state["output.weight"], state["output.bias"] = rng.normal(size=(outputs, 5)), rng.normal(size=outputs)
        state = {key: value.astype(np.float32) for key, value in state.items()}
        images = rng.random((1 if "one picture" in name else 3, side, side, channels)).astype(np.float32)
        yield Case(name, {"images": images, **state})


def net_probe(candidate, case):
    from contextlib import suppress

    with suppress(ImportError):
        import triton  # noqa: F401  (torch's optimizers load it, and after TensorFlow that ends the process)
    import keras
    import numpy as np

    state = {name: np.array(value) for name, value in case.items() if name != "images"}
    model = candidate(state, case["images"].shape[1])
    if model is None:
        raise TypeError("None was returned where a Keras model is expected: is a `return` missing?")
    logits = model(case["images"])
    kinds = [
        type(layer).__name__ for layer in model.layers if type(layer).__name__ in ("Conv2D", "MaxPooling2D", "Dense")
    ]
    return {
        "input shape": np.array([-1 if n is None else n for n in model.input_shape]),
        "layers": ", ".join(kinds),
        "parameters": model.count_params(),
        "logits": keras.ops.convert_to_numpy(logits),
    }


def cats_and_dogs(state, side):
    """(conv → ReLU → pool) three times, flatten → dense → ReLU → dense, for images (N, side, side, C)."""
    import keras

    x = inputs = keras.Input((side, side, state["conv1.weight"].shape[1]))
    weights = []
    for i in (1, 2, 3):
        kernel = state[f"conv{i}.weight"]
        x = keras.layers.Conv2D(len(kernel), 3, activation="relu")(x)
        x = keras.layers.MaxPooling2D(2)(x)
        weights += [kernel.transpose(2, 3, 1, 0), state[f"conv{i}.bias"]]
    maps, left = len(state["conv3.weight"]), x.shape[1]
    x = keras.layers.Flatten()(x)
    dense = state["dense.weight"].reshape(-1, maps, left, left).transpose(2, 3, 1, 0)
    x = keras.layers.Dense(dense.shape[-1], activation="relu")(x)
    x = keras.layers.Dense(len(state["output.bias"]))(x)
    weights += [dense.reshape(-1, dense.shape[-1]), state["dense.bias"]]
    weights += [state["output.weight"].T, state["output.bias"]]
    model = keras.Model(inputs, x)
    model.set_weights(weights)
    return model


def kernels_reshaped(state, side):
    import keras

    x = inputs = keras.Input((side, side, state["conv1.weight"].shape[1]))
    weights = []
    for i in (1, 2, 3):
        kernel = state[f"conv{i}.weight"]
        x = keras.layers.Conv2D(len(kernel), 3, activation="relu")(x)
        x = keras.layers.MaxPooling2D(2)(x)
        weights += [kernel.reshape(3, 3, kernel.shape[1], kernel.shape[0]), state[f"conv{i}.bias"]]
    maps, left = len(state["conv3.weight"]), x.shape[1]
    dense = state["dense.weight"].reshape(-1, maps, left, left).transpose(2, 3, 1, 0)
    x = keras.layers.Dense(dense.shape[-1], activation="relu")(keras.layers.Flatten()(x))
    model = keras.Model(inputs, keras.layers.Dense(len(state["output.bias"]))(x))
    weights += [dense.reshape(-1, dense.shape[-1]), state["dense.bias"]]
    model.set_weights([*weights, state["output.weight"].T, state["output.bias"]])
    return model


def kernels_mirrored(state, side):
    import keras

    x = inputs = keras.Input((side, side, state["conv1.weight"].shape[1]))
    weights = []
    for i in (1, 2, 3):
        kernel = state[f"conv{i}.weight"]
        x = keras.layers.Conv2D(len(kernel), 3, activation="relu")(x)
        x = keras.layers.MaxPooling2D(2)(x)
        weights += [kernel.transpose(3, 2, 1, 0), state[f"conv{i}.bias"]]
    maps, left = len(state["conv3.weight"]), x.shape[1]
    dense = state["dense.weight"].reshape(-1, maps, left, left).transpose(2, 3, 1, 0)
    x = keras.layers.Dense(dense.shape[-1], activation="relu")(keras.layers.Flatten()(x))
    model = keras.Model(inputs, keras.layers.Dense(len(state["output.bias"]))(x))
    weights += [dense.reshape(-1, dense.shape[-1]), state["dense.bias"]]
    model.set_weights([*weights, state["output.weight"].T, state["output.bias"]])
    return model


def features_in_torch_order(state, side):
    import keras

    x = inputs = keras.Input((side, side, state["conv1.weight"].shape[1]))
    weights = []
    for i in (1, 2, 3):
        kernel = state[f"conv{i}.weight"]
        x = keras.layers.Conv2D(len(kernel), 3, activation="relu")(x)
        x = keras.layers.MaxPooling2D(2)(x)
        weights += [kernel.transpose(2, 3, 1, 0), state[f"conv{i}.bias"]]
    x = keras.layers.Dense(len(state["dense.bias"]), activation="relu")(keras.layers.Flatten()(x))
    model = keras.Model(inputs, keras.layers.Dense(len(state["output.bias"]))(x))
    weights += [state["dense.weight"].T, state["dense.bias"]]
    model.set_weights([*weights, state["output.weight"].T, state["output.bias"]])
    return model


def no_activations(state, side):
    import keras

    x = inputs = keras.Input((side, side, state["conv1.weight"].shape[1]))
    weights = []
    for i in (1, 2, 3):
        kernel = state[f"conv{i}.weight"]
        x = keras.layers.Conv2D(len(kernel), 3)(x)
        x = keras.layers.MaxPooling2D(2)(x)
        weights += [kernel.transpose(2, 3, 1, 0), state[f"conv{i}.bias"]]
    maps, left = len(state["conv3.weight"]), x.shape[1]
    dense = state["dense.weight"].reshape(-1, maps, left, left).transpose(2, 3, 1, 0)
    x = keras.layers.Dense(dense.shape[-1])(keras.layers.Flatten()(x))
    model = keras.Model(inputs, keras.layers.Dense(len(state["output.bias"]))(x))
    weights += [dense.reshape(-1, dense.shape[-1]), state["dense.bias"]]
    model.set_weights([*weights, state["output.weight"].T, state["output.bias"]])
    return model


def sigmoid_at_the_end(state, side):
    import keras

    x = inputs = keras.Input((side, side, state["conv1.weight"].shape[1]))
    weights = []
    for i in (1, 2, 3):
        kernel = state[f"conv{i}.weight"]
        x = keras.layers.Conv2D(len(kernel), 3, activation="relu")(x)
        x = keras.layers.MaxPooling2D(2)(x)
        weights += [kernel.transpose(2, 3, 1, 0), state[f"conv{i}.bias"]]
    maps, left = len(state["conv3.weight"]), x.shape[1]
    dense = state["dense.weight"].reshape(-1, maps, left, left).transpose(2, 3, 1, 0)
    x = keras.layers.Dense(dense.shape[-1], activation="relu")(keras.layers.Flatten()(x))
    model = keras.Model(inputs, keras.layers.Dense(len(state["output.bias"]), activation="sigmoid")(x))
    weights += [dense.reshape(-1, dense.shape[-1]), state["dense.bias"]]
    model.set_weights([*weights, state["output.weight"].T, state["output.bias"]])
    return model


def weights_left_as_drawn(state, side):
    import keras

    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((side, side, state["conv1.weight"].shape[1]))
    for i in (1, 2, 3):
        x = keras.layers.Conv2D(len(state[f"conv{i}.weight"]), 3, activation="relu")(x)
        x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Dense(len(state["dense.bias"]), activation="relu")(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dense(len(state["output.bias"]))(x))


def by_sequential(state, side):
    import keras

    maps = state["conv1.weight"].shape[1]
    model = keras.Sequential([keras.Input((side, side, maps))])
    for i in (1, 2, 3):
        conv = keras.layers.Conv2D(state[f"conv{i}.bias"].size, (3, 3), activation="relu")
        model.add(conv)
        conv.set_weights([np.moveaxis(state[f"conv{i}.weight"], (2, 3, 1, 0), (0, 1, 2, 3)), state[f"conv{i}.bias"]])
        model.add(keras.layers.MaxPooling2D((2, 2)))
    height, width, maps = model.output_shape[1:]
    order = np.arange(maps * height * width).reshape(maps, height, width).transpose(1, 2, 0).ravel()
    model.add(keras.layers.Flatten())
    dense = keras.layers.Dense(state["dense.bias"].size, activation="relu")
    model.add(dense)
    dense.set_weights([state["dense.weight"][:, order].T, state["dense.bias"]])
    last = keras.layers.Dense(state["output.bias"].size)
    model.add(last)
    last.set_weights([state["output.weight"].T, state["output.bias"]])
    return model


def by_permuting_maps(state, side):
    import keras
    from keras import layers

    x = inputs = keras.Input((side, side, state["conv1.weight"].shape[1]))
    weights = []
    for i in (1, 2, 3):
        x = layers.Conv2D(len(state[f"conv{i}.bias"]), 3)(x)
        x = layers.MaxPooling2D(2)(layers.Activation("relu")(x))
        weights += [np.einsum("oihw->hwio", state[f"conv{i}.weight"]), state[f"conv{i}.bias"]]
    x = layers.Flatten()(layers.Permute((3, 1, 2))(x))  # PyTorch's order: then the dense weights stay as they are
    x = layers.Activation("relu")(layers.Dense(len(state["dense.bias"]))(x))
    model = keras.Model(inputs, layers.Dense(len(state["output.bias"]))(x))
    for part in ("dense", "output"):
        weights += [state[f"{part}.weight"].T, state[f"{part}.bias"]]
    model.set_weights(weights)
    return model


def by_initializers(state, side):
    import keras

    def constant(value):
        return lambda shape, dtype=None: keras.ops.reshape(keras.ops.convert_to_tensor(value.copy()), shape)

    x = inputs = keras.Input((side, side, state["conv1.weight"].shape[1]))
    for i in (1, 2, 3):
        kernel, bias = state[f"conv{i}.weight"].transpose(2, 3, 1, 0), state[f"conv{i}.bias"]
        how = {"kernel_initializer": constant(kernel), "bias_initializer": constant(bias)}
        x = keras.layers.MaxPooling2D()(keras.layers.Conv2D(bias.size, 3, activation="relu", **how)(x))
    maps, left = x.shape[3], x.shape[1]
    dense = state["dense.weight"].reshape(-1, maps, left * left).transpose(2, 1, 0)
    x = keras.layers.Flatten()(x)
    for weight, bias, bend in (
        (dense, state["dense.bias"], "relu"),
        (state["output.weight"].T, state["output.bias"], None),
    ):
        how = {"kernel_initializer": constant(weight), "bias_initializer": constant(bias), "activation": bend}
        x = keras.layers.Dense(bias.size, **how)(x)
    return keras.Model(inputs, x)


keras_net = Exercise(
    id="cnn_architectures.keras_net",
    lesson="09_cnn_architectures",
    title="The cats-and-dogs net in Keras, with PyTorch's weights",
    answer="cats_and_dogs",
    criteria=(
        Criterion("input shape", 1, requires=("parameters",)),
        Criterion("layers", 0),
        Criterion("parameters", 0),
        Criterion("logits", 3, Close(operations=2048)),
    ),
    cases=net_cases,
    probe=net_probe,
    reference=cats_and_dogs,
    misconceptions=(
        Misconception(
            "kernels_reshaped",
            kernels_reshaped,
            "The kernels have the right shape and their numbers are mixed up: reshape reads them in another order.",
            "PyTorch's (out, in, height, width) becomes (height, width, in, out): transpose(2, 3, 1, 0).",
        ),
        Misconception(
            "kernels_mirrored",
            kernels_mirrored,
            "Height and width of the kernels are exchanged. With square kernels every shape fits.",
            "transpose(2, 3, 1, 0), not (3, 2, 1, 0), which is what .T does.",
        ),
        Misconception(
            "features_in_torch_order",
            features_in_torch_order,
            "The first dense layer reads the flattened maps in PyTorch's order (map, row, column). Keras flattens "
            "(row, column, map): the shape is right in either.",
            "Reshape the weight to (units, maps, rows, columns), transpose to (rows, columns, maps, units), flatten.",
        ),
        Misconception(
            "no_activations",
            no_activations,
            "There is no ReLU behind the convolutions and the dense layer.",
            'activation="relu".',
        ),
        Misconception(
            "sigmoid_at_the_end",
            sigmoid_at_the_end,
            "Your model gives probabilities; asked for are the logits, as the PyTorch net gives them.",
            "No activation in the last layer.",
        ),
        Misconception(
            "weights_left_as_drawn",
            weights_left_as_drawn,
            "The net is the right one, but its weights are Keras's own random ones.",
            "model.set_weights([...]), kernel and bias of each layer in order.",
        ),
    ),
    variants=(
        Variant("by_sequential", by_sequential),
        Variant("by_permuting_maps", by_permuting_maps),
        Variant("by_initializers", by_initializers),
    ),
    forbidden=("course_lib.keras_twin",),
    hints=(
        "First the layers alone, with model.summary() beside the PyTorch net: as many parameters in every line?",
        "Kernels: (out, in, height, width) → (height, width, in, out). Dense weights: (out, in) → (in, out).",
        "Behind the flattening the features stand in another order: reshape dense.weight to (units, maps, rows, "
        "columns) before you transpose it.",
    ),
    minutes=20,
)
