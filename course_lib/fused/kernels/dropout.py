"""Kernel of `course_lib.fused.dropout`."""

import triton
import triton.language as tl

from course_lib.fused.backend import interpreting


@triton.jit(do_not_specialize=["magnitude", "seed", "offset", "threshold"])
def dropout_add(
    x_ptr,
    residual_ptr,
    y_ptr,
    numel,
    magnitude,
    seed,
    offset,
    threshold,
    scale,
    ROUNDS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """y = residual + x · (scale where kept, else 0); without a residual y = x · (...), which is also the gradient.

    `magnitude`, the number of bits of numel, is what the block is tuned for.
    """
    program = tl.program_id(0).to(tl.int64)
    counter = program * (BLOCK // 8) + tl.arange(0, BLOCK // 8)
    zeros = tl.zeros((BLOCK // 8,), tl.int64)
    w0, w1, w2, w3 = tl.philox(
        seed,
        low_word(counter),
        high_word(counter),
        low_word(zeros + offset),
        high_word(zeros + offset),
        ROUNDS,
    )
    words = tl.join(tl.join(w0, w2), tl.join(w1, w3))  # (BLOCK // 8, 2, 2), in memory w0 w1 w2 w3
    words = tl.reshape(tl.join(words, (words << 16) | (words >> 16)), (BLOCK,))
    factor = tl.where(words >= threshold.to(tl.uint32), scale, 0.0)

    first = program * BLOCK
    if first + BLOCK <= numel:  # whole blocks need no mask, and so are read 16 bytes at a time whatever numel is
        apply(x_ptr + first, residual_ptr, first, y_ptr + first, factor, None, BLOCK)
    else:
        apply(x_ptr + first, residual_ptr, first, y_ptr + first, factor, first + tl.arange(0, BLOCK) < numel, BLOCK)


@triton.jit
def low_word(number):
    return (number & 0xFFFFFFFF).to(tl.uint32)


@triton.jit
def high_word(number):
    return (number >> 32).to(tl.uint32)


@triton.jit
def apply(x_ptr, residual_ptr, first, y_ptr, factor, mask, BLOCK: tl.constexpr):
    e = tl.arange(0, BLOCK)
    y = tl.load(x_ptr + e, mask=mask).to(tl.float32) * factor
    if residual_ptr is not None:
        y += tl.load(residual_ptr + first + e, mask=mask).to(tl.float32)
    tl.store(y_ptr + e, y, mask=mask)


if interpreting():
    dropout_add = triton.heuristics({"BLOCK": lambda arguments: 1024})(dropout_add)
else:
    # the mask does not depend on the block, so that tuning never changes a result
    dropout_add = triton.autotune(
        [triton.Config({"BLOCK": block}, num_warps=warps) for block, warps in ((2048, 4), (4096, 8), (4096, 4))],
        key=["magnitude"],
    )(dropout_add)
