"""Kernels of `course_lib.fused.batch_norm`.

x is seen as (outer, channels, inner), contiguous. Program (b, s) owns the b-th block of channels, and of its tiles
every one whose number is s modulo the number of splits. A first kernel leaves partial sums of each split in memory; the
second adds them up, each program for itself (they are few, and in the cache), and writes a result for every element.
"""

import triton
import triton.language as tl


@triton.jit
def channels_of(channels, CHANNEL_BLOCK: tl.constexpr):
    """(channel numbers of this program, which of them exist)."""
    c = tl.program_id(0) * CHANNEL_BLOCK + tl.arange(0, CHANNEL_BLOCK)
    return c, c < channels


@triton.jit
def number_of_tiles(outer, inner, OUTER_BLOCK: tl.constexpr, INNER_BLOCK: tl.constexpr):
    return tl.cdiv(outer, OUTER_BLOCK) * tl.cdiv(inner, INNER_BLOCK)


@triton.jit
def tile(
    t,
    outer,
    channels,
    inner,
    OUTER_BLOCK: tl.constexpr,
    CHANNEL_BLOCK: tl.constexpr,
    INNER_BLOCK: tl.constexpr,
    CHANNEL_VECTOR: tl.constexpr,
    INNER_VECTOR: tl.constexpr,
):
    """(offsets, mask, positions) of tile t: offsets and mask (OUTER_BLOCK, CHANNEL_BLOCK, INNER_BLOCK)."""
    # changes nothing, but tells the compiler what divides them
    channels = channels // CHANNEL_VECTOR * CHANNEL_VECTOR
    inner = inner // INNER_VECTOR * INNER_VECTOR
    along = tl.cdiv(inner, INNER_BLOCK)
    first_o, first_i = (t // along) * OUTER_BLOCK, (t % along) * INNER_BLOCK
    o = first_o + tl.arange(0, OUTER_BLOCK)[:, None, None]
    c = tl.program_id(0) * CHANNEL_BLOCK + tl.arange(0, CHANNEL_BLOCK)[None, :, None]
    i = first_i + tl.arange(0, INNER_BLOCK)[None, None, :]
    positions = tl.minimum(outer - first_o, OUTER_BLOCK) * tl.minimum(inner - first_i, INNER_BLOCK)
    # row numbers times row length pass 2³¹ in large tensors
    return (o.to(tl.int64) * channels + c) * inner + i, (o < outer) & (c < channels) & (i < inner), positions


@triton.jit
def over_tile(values):
    """Sum over a tile's positions: (OUTER_BLOCK, CHANNEL_BLOCK, INNER_BLOCK) -> (CHANNEL_BLOCK,)."""
    return tl.sum(tl.sum(values, axis=2), axis=0)


@triton.jit
def per_channel(values):
    return values[None, :, None]


@triton.jit
def load_or(pointer, c, exists, otherwise: tl.constexpr):
    """Values of the channels in float32, or `otherwise` for all where the tensor is None."""
    if pointer is None:
        return tl.full(c.shape, otherwise, tl.float32)
    else:
        return tl.load(pointer + c, mask=exists, other=otherwise).to(tl.float32)


@triton.jit
def partial_statistics(
    x_ptr,
    partial_ptr,
    outer,
    channels,
    inner,
    OUTER_BLOCK: tl.constexpr,
    CHANNEL_BLOCK: tl.constexpr,
    INNER_BLOCK: tl.constexpr,
    CHANNEL_VECTOR: tl.constexpr,
    INNER_VECTOR: tl.constexpr,
):
    """Number, mean and Σ (x − mean)² of each split -> partial (3, splits, channels)."""
    split, splits = tl.program_id(1), tl.num_programs(1)
    c, exists = channels_of(channels, CHANNEL_BLOCK)
    tiles = number_of_tiles(outer, inner, OUTER_BLOCK, INNER_BLOCK)

    # sums are taken of x − pilot: near the mean, so that squares do not swamp their differences
    offsets, mask, positions = tile(
        split, outer, channels, inner, OUTER_BLOCK, CHANNEL_BLOCK, INNER_BLOCK, CHANNEL_VECTOR, INNER_VECTOR
    )
    pilot = over_tile(tl.load(x_ptr + offsets, mask=mask, other=0.0).to(tl.float32)) / positions
    pilot = tl.where(tl.abs(pilot) < float("inf"), pilot, 0.0)

    count = 0
    total = tl.zeros((OUTER_BLOCK, CHANNEL_BLOCK, INNER_BLOCK), tl.float32)
    squares = tl.zeros((OUTER_BLOCK, CHANNEL_BLOCK, INNER_BLOCK), tl.float32)
    for t in range(split, tiles, splits):
        offsets, mask, positions = tile(
            t, outer, channels, inner, OUTER_BLOCK, CHANNEL_BLOCK, INNER_BLOCK, CHANNEL_VECTOR, INNER_VECTOR
        )
        x = tl.load(x_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
        d = tl.where(mask, x - per_channel(pilot), 0.0)
        total += d
        squares += d * d
        count += positions

    n = tl.full(c.shape, 1.0, tl.float32) * count
    shift = over_tile(total) / n
    rest = tl.maximum(over_tile(squares) - n * shift * shift, 0.0, propagate_nan=tl.PropagateNan.ALL)
    at = partial_ptr + split * channels + c
    tl.store(at, n, mask=exists)
    tl.store(at + splits * channels, pilot + shift, mask=exists)
    tl.store(at + 2 * splits * channels, rest, mask=exists)


@triton.jit
def normalize(
    x_ptr,
    partial_ptr,
    weight_ptr,
    bias_ptr,
    running_mean_ptr,
    running_var_ptr,
    saved_ptr,
    y_ptr,
    momentum,
    eps,
    slope,
    count,
    unbias,
    outer,
    channels,
    inner,
    OUTER_BLOCK: tl.constexpr,
    CHANNEL_BLOCK: tl.constexpr,
    INNER_BLOCK: tl.constexpr,
    CHANNEL_VECTOR: tl.constexpr,
    INNER_VECTOR: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """y, the statistics saved for the backward pass (2, channels), and the running ones."""
    split, splits = tl.program_id(1), tl.num_programs(1)
    c, exists = channels_of(channels, CHANNEL_BLOCK)

    # combine the splits (Chan, Golub & LeVeque 1979), again relative to a mean: that of the first split
    s = tl.arange(0, SPLITS)[:, None]
    at = partial_ptr + s * channels + c[None, :]
    both = (s < splits) & exists[None, :]
    n = tl.load(at, mask=both, other=0.0)
    means = tl.load(at + splits * channels, mask=both, other=0.0)
    rests = tl.load(at + 2 * splits * channels, mask=both, other=0.0)
    first = tl.load(partial_ptr + splits * channels + c, mask=exists, other=0.0)
    shifts = tl.where(both, means - first[None, :], 0.0)
    shift = tl.sum(n * shifts, axis=0) / count
    mean = first + shift
    var = tl.sum(rests + n * (shifts - shift[None, :]) * (shifts - shift[None, :]), axis=0) / count
    inv_std = tl.div_rn(1.0, tl.sqrt_rn(var + eps))

    if split == 0:
        tl.store(saved_ptr + c, mean, mask=exists)
        tl.store(saved_ptr + channels + c, inv_std, mask=exists)
        if running_mean_ptr is not None:
            running = tl.load(running_mean_ptr + c, mask=exists, other=0.0).to(tl.float32)
            tl.store(running_mean_ptr + c, (1 - momentum) * running + momentum * mean, mask=exists)
        if running_var_ptr is not None:
            running = tl.load(running_var_ptr + c, mask=exists, other=0.0).to(tl.float32)
            tl.store(running_var_ptr + c, (1 - momentum) * running + momentum * (var * unbias), mask=exists)

    scale = per_channel(inv_std * load_or(weight_ptr, c, exists, 1.0))
    bias, mean = per_channel(load_or(bias_ptr, c, exists, 0.0)), per_channel(mean)
    tiles = number_of_tiles(outer, inner, OUTER_BLOCK, INNER_BLOCK)
    for backwards in range(split, tiles, splits):
        # last tile first: it was read last, and may still be in the cache
        offsets, mask, _ = tile(
            tiles - 1 - backwards,
            outer,
            channels,
            inner,
            OUTER_BLOCK,
            CHANNEL_BLOCK,
            INNER_BLOCK,
            CHANNEL_VECTOR,
            INNER_VECTOR,
        )
        x = tl.load(x_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
        y = (x - mean) * scale + bias
        tl.store(y_ptr + offsets, tl.where(y > 0, y, y * slope), mask=mask)


@triton.jit
def through_activation(grad, x, mean, scale, bias, slope):
    """The gradient before the activation: what stood there is computed again, as `normalize` did."""
    return tl.where((x - mean) * scale + bias > 0, grad, grad * slope)


@triton.jit
def partial_gradients(
    grad_ptr,
    x_ptr,
    weight_ptr,
    bias_ptr,
    saved_ptr,
    partial_ptr,
    slope,
    outer,
    channels,
    inner,
    OUTER_BLOCK: tl.constexpr,
    CHANNEL_BLOCK: tl.constexpr,
    INNER_BLOCK: tl.constexpr,
    CHANNEL_VECTOR: tl.constexpr,
    INNER_VECTOR: tl.constexpr,
):
    """Σ g and Σ g x̂ of each split -> partial (2, splits, channels), g the gradient before the activation."""
    split, splits = tl.program_id(1), tl.num_programs(1)
    c, exists = channels_of(channels, CHANNEL_BLOCK)
    mean = per_channel(tl.load(saved_ptr + c, mask=exists, other=0.0))
    inv_std = tl.load(saved_ptr + channels + c, mask=exists, other=0.0)
    scale = per_channel(inv_std * load_or(weight_ptr, c, exists, 1.0))
    bias = per_channel(load_or(bias_ptr, c, exists, 0.0))

    sum_g = tl.zeros((OUTER_BLOCK, CHANNEL_BLOCK, INNER_BLOCK), tl.float32)
    sum_gd = tl.zeros((OUTER_BLOCK, CHANNEL_BLOCK, INNER_BLOCK), tl.float32)
    for t in range(split, number_of_tiles(outer, inner, OUTER_BLOCK, INNER_BLOCK), splits):
        offsets, mask, _ = tile(
            t, outer, channels, inner, OUTER_BLOCK, CHANNEL_BLOCK, INNER_BLOCK, CHANNEL_VECTOR, INNER_VECTOR
        )
        x = tl.load(x_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
        grad = tl.load(grad_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
        g = through_activation(grad, x, mean, scale, bias, slope)
        sum_g += g
        sum_gd += g * (x - mean)

    at = partial_ptr + split * channels + c
    tl.store(at, over_tile(sum_g), mask=exists)
    tl.store(at + splits * channels, over_tile(sum_gd) * inv_std, mask=exists)


@triton.jit
def input_gradient(
    grad_ptr,
    x_ptr,
    weight_ptr,
    bias_ptr,
    saved_ptr,
    partial_ptr,
    dx_ptr,
    dweight_ptr,
    dbias_ptr,
    slope,
    count,
    outer,
    channels,
    inner,
    OUTER_BLOCK: tl.constexpr,
    CHANNEL_BLOCK: tl.constexpr,
    INNER_BLOCK: tl.constexpr,
    CHANNEL_VECTOR: tl.constexpr,
    INNER_VECTOR: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """dx = weight / √(σ² + eps) · (g − Σ g / n − x̂ · Σ g x̂ / n), dweight = Σ g x̂, dbias = Σ g."""
    split, splits = tl.program_id(1), tl.num_programs(1)
    c, exists = channels_of(channels, CHANNEL_BLOCK)
    mean = per_channel(tl.load(saved_ptr + c, mask=exists, other=0.0))
    inv_std = tl.load(saved_ptr + channels + c, mask=exists, other=0.0)
    scale = per_channel(inv_std * load_or(weight_ptr, c, exists, 1.0))
    bias = per_channel(load_or(bias_ptr, c, exists, 0.0))

    s = tl.arange(0, SPLITS)[:, None]
    at = partial_ptr + s * channels + c[None, :]
    both = (s < splits) & exists[None, :]
    sum_g = tl.sum(tl.load(at, mask=both, other=0.0), axis=0)
    sum_gx = tl.sum(tl.load(at + splits * channels, mask=both, other=0.0), axis=0)
    if split == 0:
        if dbias_ptr is not None:
            tl.store(dbias_ptr + c, sum_g, mask=exists)
        if dweight_ptr is not None:
            tl.store(dweight_ptr + c, sum_gx, mask=exists)

    mean_g, slope_x = per_channel(sum_g / count), per_channel(sum_gx / count * inv_std)
    tiles = number_of_tiles(outer, inner, OUTER_BLOCK, INNER_BLOCK)
    for backwards in range(split, tiles, splits):
        offsets, mask, _ = tile(
            tiles - 1 - backwards,
            outer,
            channels,
            inner,
            OUTER_BLOCK,
            CHANNEL_BLOCK,
            INNER_BLOCK,
            CHANNEL_VECTOR,
            INNER_VECTOR,
        )
        x = tl.load(x_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
        grad = tl.load(grad_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
        g = through_activation(grad, x, mean, scale, bias, slope)
        tl.store(dx_ptr + offsets, scale * (g - mean_g - (x - mean) * slope_x), mask=mask)
