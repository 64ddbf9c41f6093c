"""Kernel of `course_lib.fused.adam`."""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["tensors"])
def adam(
    typed_ptr,
    table_ptr,
    tensors,
    one_minus_beta1,
    beta2,
    one_minus_beta2,
    step_size,
    eps,
    coupled_decay,
    shrink,
    sign,
    TENSORS: tl.constexpr,
    AMSGRAD: tl.constexpr,
    ALIGNMENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Each program updates one block of one tensor.

    The table (6 or 7, tensors) holds for each tensor: the number of blocks up to its end, its number of elements, and
    the addresses of param, grad, exp_avg, exp_avg_sq and max_exp_avg_sq. `typed_ptr` only says the dtype.
    """
    block = tl.program_id(0)
    t = tl.arange(0, TENSORS)
    ends = tl.load(table_ptr + t, mask=t < tensors, other=0x7FFFFFFFFFFFFFFF)
    tensor = tl.sum((ends <= block).to(tl.int32), axis=0)  # this block's: as many end before it
    first_block = tl.max(tl.where(ends <= block, ends, 0), axis=0)
    row = table_ptr + tensor
    first = (block - first_block) * BLOCK
    numel = tl.load(row + tensors)
    param = address(row + 2 * tensors, typed_ptr, ALIGNMENT) + first
    grad = address(row + 3 * tensors, typed_ptr, ALIGNMENT) + first
    exp_avg = address(row + 4 * tensors, typed_ptr, ALIGNMENT) + first
    exp_avg_sq = address(row + 5 * tensors, typed_ptr, ALIGNMENT) + first
    maximum = param
    if AMSGRAD:
        maximum = address(row + 6 * tensors, typed_ptr, ALIGNMENT) + first
    numbers = (
        one_minus_beta1,
        beta2,
        one_minus_beta2,
        step_size,
        eps,
        coupled_decay,
        shrink,
        sign,
    )
    if first + BLOCK <= numel:  # whole blocks need no mask, and so are read 16 bytes at a time whatever numel is
        update(param, grad, exp_avg, exp_avg_sq, maximum, numbers, None, AMSGRAD, BLOCK)
    else:
        mask = first + tl.arange(0, BLOCK) < numel
        update(param, grad, exp_avg, exp_avg_sq, maximum, numbers, mask, AMSGRAD, BLOCK)


@triton.jit
def address(entry, typed_ptr, ALIGNMENT: tl.constexpr):
    return tl.multiple_of(tl.load(entry).to(typed_ptr.dtype), ALIGNMENT)


@triton.jit
def update(
    param_ptr,
    grad_ptr,
    exp_avg_ptr,
    exp_avg_sq_ptr,
    maximum_ptr,
    numbers,
    mask,
    AMSGRAD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    one_minus_beta1, beta2, one_minus_beta2, step_size, eps, coupled_decay, shrink, sign = numbers
    e = tl.arange(0, BLOCK)
    p = tl.load(param_ptr + e, mask=mask).to(tl.float32)
    g = tl.load(grad_ptr + e, mask=mask).to(tl.float32)
    m = tl.load(exp_avg_ptr + e, mask=mask).to(tl.float32)
    v = tl.load(exp_avg_sq_ptr + e, mask=mask).to(tl.float32)
    g = sign * g + coupled_decay * p
    m += one_minus_beta1 * (g - m)
    v = beta2 * v + one_minus_beta2 * g * g
    largest = v
    if AMSGRAD:
        largest = tl.maximum(tl.load(maximum_ptr + e, mask=mask).to(tl.float32), v, tl.PropagateNan.ALL)
        tl.store(maximum_ptr + e, largest, mask=mask)
    tl.store(param_ptr + e, p * shrink - step_size * tl.div_rn(m, tl.sqrt_rn(largest) + eps), mask=mask)
    tl.store(exp_avg_ptr + e, m, mask=mask)
    tl.store(exp_avg_sq_ptr + e, v, mask=mask)
