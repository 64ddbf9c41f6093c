"""Dropout and the residual sum after it, as one operation whose mask is a function of its seed and never stored."""

import torch
from torch import Tensor, nn

from course_lib.dropout import check_probability, inverted_dropout
from course_lib.fused.backend import COMPILER_OPTIONS, refuse_second_derivative, use_kernels

__all__ = ["DropoutAdd", "dropout_add", "philox", "philox_mask"]

ROUNDS = 7  # the fewest that pass all of BigCrush (Salmon et al. 2011, table 2); ten is the customary number
IN_CACHE = 2**17  # elements of a mask that a CPU draws at once, a multiple of 8: their words are 0.5 MB
WORD = 2**32 - 1  # all bits of a 32-bit word


def philox(counter: tuple[Tensor, ...], seed: int, rounds: int = 10) -> tuple[Tensor, ...]:
    """Philox4x32: four random 32-bit words for every 128-bit counter, with no state between them.

    `counter` is four int64 tensors that hold the counter's words, lowest first, each in [0, 2³²); so are the words
    returned. The 64-bit seed is the key. A round multiplies two words by constants and mixes the halves of the products
    with the other two. Salmon et al. 2011 (Random123), whose test vectors it meets.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = seed & WORD, seed >> 32
    for _ in range(rounds):
        # int64 products wrap around, but all 64 bits are there
        p0, p2 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c2 = ((p2 >> 32) & WORD) ^ c1 ^ k0, ((p0 >> 32) & WORD) ^ c3 ^ k1
        c1, c3 = p2 & WORD, p0 & WORD
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return c0, c1, c2, c3


def threshold_of(p: float) -> int:
    """What a random 32-bit word has to reach for its element to be kept."""
    return min(round(p * 2**32), WORD)  # at p = 1 the scale is 0, and nothing gets through


def philox_mask(like: Tensor, p: float, seed: int, offset: int = 0) -> Tensor:
    """The mask (bool, true = kept) that `dropout_add` uses for a tensor like this: its shape and memory format.

    Element e, in the order in memory, is kept where its word reaches p · 2³². Elements 8k to 8k + 7 share the counter
    (k, offset): each of its four words serves one element as it is and one with its halves exchanged. So each element
    is dropped with probability p to 2⁻³², and the two that share a word are independent up to about 2⁻¹⁶.

    Some 80 integer operations for each counter, ten for an element: about as fast as PyTorch's own dropout on a CPU.
    """
    check_probability(p)
    mask = torch.empty_like(like, dtype=torch.bool)
    flat = mask.as_strided((mask.numel(),), (1,))
    piece = IN_CACHE if like.device.type == "cpu" else max(mask.numel(), 8)
    for start in range(0, mask.numel(), piece):
        part = flat[start : start + piece]
        k = torch.arange(start // 8, (start + len(part) + 7) // 8, device=like.device)
        counter = k & WORD, k >> 32, torch.full_like(k, offset & WORD), torch.full_like(k, offset >> 32)
        words = torch.stack(philox(counter, seed, ROUNDS), dim=-1)
        exchanged = ((words << 16) & WORD) | (words >> 16)
        kept = torch.stack((words, exchanged), dim=-1).flatten() >= threshold_of(p)
        part.copy_(kept[: len(part)])
    return mask if p < 1 else torch.zeros_like(mask)


def dropout_add(
    x: Tensor,
    residual: Tensor,
    p: float,
    seed: int,
    offset: int = 0,
    *,
    training: bool = True,
    fused: bool | None = None,
) -> Tensor:
    """residual + x · mask / (1 − p), the mask being `philox_mask(x, p, seed, offset)`: of x's shape and dtype.

    Same seed and offset, same mask, on every device, with the kernels or without. Take another offset, or seed, for
    each layer and step. In evaluation it is residual + x. Infinite values that are dropped become NaN, as in PyTorch.

    The kernels store nothing for the backward pass and draw the mask again there; they can be differentiated once
    (RuntimeError with create_graph). The readable version, `course_lib.dropout.inverted_dropout`, stores the mask.
    float16 and bfloat16 are rounded once by the kernels, after the sum, and by the readable version at each operation.
    Speed unmeasured (see the package).

    Raises ValueError unless 0 ≤ p ≤ 1, 0 ≤ seed, offset < 2⁶³, and x and residual agree in shape and dtype.
    """
    check_probability(p)
    if x.shape != residual.shape or x.dtype != residual.dtype:
        raise ValueError(
            f"x and residual have to agree in shape and dtype, but got {tuple(x.shape)} of {x.dtype} "
            f"and {tuple(residual.shape)} of {residual.dtype}"
        )
    for name, number in (("seed", seed), ("offset", offset)):
        if not 0 <= number < 2**63:
            raise ValueError(f"{name} has to be from 0 to 2⁶³ − 1, but got {number}")
    if not training:
        return residual + x
    if use_kernels(fused, x, residual):
        return FusedDropoutAdd.apply(x, residual, p, seed, offset)
    return residual + inverted_dropout(x, p, philox_mask(x, p, seed, offset))


def same_layout(tensor: Tensor, like: Tensor) -> Tensor:
    """The tensor with the strides of `like`, copied only where they differ."""
    return tensor if tensor.stride() == like.stride() else torch.empty_like(like).copy_(tensor)


class FusedDropoutAdd(torch.autograd.Function):
    """`dropout_add` by one kernel, and its gradient by the same one without a residual."""

    @staticmethod
    def forward(ctx, x, residual, p, seed, offset):
        ctx.options = p, seed, offset
        y = torch.empty_like(x)
        # empty_like keeps the strides of a dense tensor, and packs another: the mask follows the order of y in memory
        launch(same_layout(x, y), same_layout(residual, y), y, p, seed, offset)
        ctx.like = torch.empty_like(y, device="meta")  # its strides, without its memory
        return y

    @staticmethod
    def backward(ctx, grad):
        refuse_second_derivative()
        dx = None
        if ctx.needs_input_grad[0]:
            dx = torch.empty_like(ctx.like, device=grad.device)
            launch(same_layout(grad, dx), None, dx, *ctx.options)
        return dx, grad, None, None, None


def launch(x: Tensor, residual: Tensor | None, y: Tensor, p: float, seed: int, offset: int) -> None:
    from course_lib.fused.kernels.dropout import dropout_add as kernel

    scale = 1 / (1 - p) if p < 1 else 0.0
    with torch.cuda.device_of(x):
        kernel[lambda options: (-(-x.numel() // options["BLOCK"]),)](
            x,
            residual,
            y,
            x.numel(),
            x.numel().bit_length(),
            seed,
            offset,
            threshold_of(p),
            scale,
            ROUNDS=ROUNDS,
            **COMPILER_OPTIONS,
        )


class DropoutAdd(nn.Module):
    """`dropout_add(x, residual)` while training, x + residual in evaluation. Raises ValueError unless 0 ≤ p ≤ 1.

    Each call draws a seed from PyTorch's CPU generator: `torch.manual_seed` makes it repeatable on any device,
    activation checkpointing repeats it, and a GPU is never waited for.
    """

    def __init__(self, p: float = 0.5, *, fused: bool | None = None):
        super().__init__()
        self.p = check_probability(p)
        self.fused = fused

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        seed = int(torch.randint(2**63 - 1, ())) if self.training else 0
        return dropout_add(x, residual, self.p, seed, training=self.training, fused=self.fused)

    def extra_repr(self) -> str:
        return f"p={self.p}"
