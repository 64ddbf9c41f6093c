"""Where PyTorch and Keras differ in how weights start, read from the installed versions."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.conventions.record import Convention

__all__ = ["CONVENTIONS"]

WIDE = 400  # inputs and outputs of the dense layers that are read
DRAWS = range(200)  # draws of a small kernel, whose largest weight is the bound to one part in 10⁴


def seeded(layer: type[nn.Module], *args: Any) -> nn.Module:
    """The layer with its default weights from seed 0; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return layer(*args)


def largest(tensor: Any, digits: int) -> float:
    """The largest absolute entry: of many uniform draws, their bound."""
    return round(float(abs(tensor).max()), digits)


def keras_bound(keras: Any, initializer: Any, shape: tuple[int, ...], digits: int) -> float:
    return largest(keras.ops.convert_to_numpy(initializer(shape)), digits)


def built(layer: Any, *shape: int) -> Any:
    layer.build((None, *shape))
    return layer


def relative_cut(draws: Any) -> str:
    """Whether 10⁵ draws stop short of where a normal variable would go: the largest in deviations of the sample."""
    reach = float(abs(draws).max() / draws.std())
    return f"cut off at {reach:.1f} deviations" if reach < 3 else "not truncated"


def torch_kaiming_normal() -> str:
    generator = torch.Generator().manual_seed(0)
    return relative_cut(nn.init.kaiming_normal_(torch.empty(1000, 100), generator=generator))


def keras_he_normal(keras: Any) -> str:
    return relative_cut(keras.ops.convert_to_numpy(keras.initializers.HeNormal(seed=0)((100, 1000))))


def torch_narrow_truncation() -> str:
    generator = torch.Generator().manual_seed(0)
    return relative_cut(nn.init.trunc_normal_(torch.empty(1000, 100), std=0.02, generator=generator))


def keras_narrow_truncation(keras: Any) -> str:
    draws = keras.initializers.TruncatedNormal(stddev=0.02, seed=0)((100, 1000))
    return relative_cut(keras.ops.convert_to_numpy(draws))


def torch_truncated_deviation() -> float:
    generator = torch.Generator().manual_seed(0)
    return round(float(nn.init.trunc_normal_(torch.empty(1000, 1000), generator=generator).std()), 2)


def keras_truncated_deviation(keras: Any) -> float:
    draws = keras.initializers.TruncatedNormal(stddev=1.0, seed=0)((1000, 1000))
    return round(float(keras.ops.convert_to_numpy(draws).std()), 2)


def torch_fan_in(weight: Tensor) -> int:
    """The fan_in that PyTorch's initializer uses, read off the bound √(3 / fan_in) of its LeCun draw."""
    generator, drawn = torch.Generator().manual_seed(0), torch.empty_like(weight)
    bounds = [largest(nn.init.kaiming_uniform_(drawn, 0, "fan_in", "linear", generator).detach(), 9) for _ in DRAWS]
    return round(3 / max(bounds) ** 2)


def keras_fan_in(keras: Any, shape: tuple[int, ...]) -> int:
    bounds = [keras_bound(keras, keras.initializers.LecunUniform(seed=seed), shape, 9) for seed in DRAWS]
    return round(3 / max(bounds) ** 2)


CONVENTIONS = (
    Convention(
        id="initializers.kernel_layout",
        what="shape of a 5 × 5 convolution's kernel, 3 → 8 channels",
        torch=lambda: tuple(nn.Conv2d(3, 8, 5).weight.shape),
        keras=lambda keras: tuple(built(keras.layers.Conv2D(8, 5), 16, 16, 3).kernel.shape),
        to_keras=lambda shape: (*shape[2:], shape[1], shape[0]),
        trap="A fan computed from the other framework's layout is wrong without an error: fan_in is read from the "
        "wrong axes.",
    ),
    Convention(
        id="initializers.dense_weights",
        what=f"bound of a dense layer's default weights, {WIDE} → {WIDE} (uniform in both)",
        torch=lambda: largest(seeded(nn.Linear, WIDE, WIDE).weight.detach(), 3),
        keras=lambda keras: keras_bound(keras, keras.layers.Dense(1).kernel_initializer, (WIDE, WIDE), 3),
        to_keras=lambda bound: {"scale": bound**2 * WIDE / 3, "mode": "fan_in", "distribution": "uniform"},
        trap="PyTorch's is LeCun's rule divided by √3 (Kaiming with a = √5): variance 1/(3 fan_in), under which a deep "
        "ReLU net's signal vanishes; Keras's is Glorot's.",
    ),
    Convention(
        id="initializers.dense_bias",
        what=f"bound of a dense layer's default bias, {WIDE} inputs",
        torch=lambda: largest(seeded(nn.Linear, WIDE, 10_000).bias.detach(), 3),
        keras=lambda keras: keras_bound(keras, keras.layers.Dense(1).bias_initializer, (10_000,), 3),
        to_keras=lambda bound: {"minval": -bound, "maxval": bound},  # for RandomUniform
        trap="PyTorch draws biases too, ±1/√fan_in; after `kaiming_normal_(weight)` they are still there.",
    ),
    Convention(
        id="initializers.embedding",
        what="largest default weight of an embedding, 10⁶ of them",
        torch=lambda: largest(seeded(nn.Embedding, 10_000, 100).weight.detach(), 2),
        keras=lambda keras: keras_bound(keras, keras.layers.Embedding(1, 1).embeddings_initializer, (10_000, 100), 2),
        to_keras=lambda _: {"mean": 0.0, "stddev": 1.0},  # for RandomNormal
        trap="PyTorch's vectors are drawn from N(0, 1), Keras's from ±0.05: a factor of 35 in size.",
    ),
    Convention(
        id="initializers.he_normal",
        what="normal draw of He, Glorot, LeCun",
        torch=torch_kaiming_normal,
        keras=keras_he_normal,
        to_keras=lambda cut: "untruncated_normal" if cut == "not truncated" else "truncated_normal",
        trap="Keras's *Normal initializers have no tails (of the same variance); for PyTorch's take VarianceScaling.",
    ),
    Convention(
        id="initializers.truncation_bounds",
        what="truncated normal with std = 0.02 and the default bounds",
        torch=torch_narrow_truncation,
        keras=keras_narrow_truncation,
        trap=f"PyTorch's bounds are absolute (b = {inspect.signature(nn.init.trunc_normal_).parameters['b'].default}), "
        "not in deviations: with a small std nothing is cut off.",
    ),
    Convention(
        id="initializers.truncated_deviation",
        what="deviation of a truncated normal draw with std = 1",
        torch=torch_truncated_deviation,
        keras=keras_truncated_deviation,
        to_keras=lambda std: std,
        trap="In both, std is the deviation before the cut; only Keras's VarianceScaling family corrects for it.",
    ),
    Convention(
        id="initializers.transposed_fan_in",
        what="fan_in used for a transposed 3 × 3 convolution, 16 → 4 channels (true: 144)",
        torch=lambda: torch_fan_in(nn.ConvTranspose2d(16, 4, 3).weight),
        keras=lambda keras: keras_fan_in(keras, built(keras.layers.Conv2DTranspose(4, 3), 8, 8, 16).kernel.shape),
        to_keras=lambda fan: fan,
        trap="Both read the axes as a convolution's, so fan_in and fan_out are swapped.",
    ),
    Convention(
        id="initializers.depthwise_fan_in",
        what="fan_in used for a depthwise 3 × 3 convolution of 32 channels (true: 9)",
        torch=lambda: torch_fan_in(nn.Conv2d(32, 32, 3, groups=32).weight),
        keras=lambda keras: keras_fan_in(keras, built(keras.layers.DepthwiseConv2D(3), 8, 8, 32).kernel.shape),
        to_keras=lambda _: {"input_axes": (0, 1), "output_axes": (0, 1, 3)},  # of VarianceScaling and its family
        trap="Keras counts all channels, so a depthwise layer starts √32 times too small here.",
    ),
)
