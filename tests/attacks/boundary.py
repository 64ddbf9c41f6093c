"""D. The boundary to the grader: what an answer returns, and, for our grader, what the kernel sends in its name."""

from __future__ import annotations

from .attack import code

__all__ = ["ATTACKS"]

# ---------------------------------------------------------------- absurd answers

RETURNED = (
    code("D.nan", "returns NaN and infinity of the right shape", """
def inverted_dropout(x, p, mask):
    return x * float("nan")

def classic_dropout(x, p, mask, training):
    return x + float("inf")
"""),
    code("D.nothing", "returns nothing, an empty tensor, and a tensor without values", """
def inverted_dropout(x, p, mask):
    return torch.empty(0, requires_grad=True) if p < 0.5 else x.to("meta")

def classic_dropout(x, p, mask, training):
    return None if training else torch.empty((0, 3))
"""),
    code("D.other_dtype", "returns complex numbers, whole numbers and truth values", """
def inverted_dropout(x, p, mask):
    return torch.complex(x, x) if p < 0.5 else x.long()

def classic_dropout(x, p, mask, training):
    return (x == x) if training else x.to(torch.bfloat16)
"""),
    code("D.broadcast", "returns one number that stands for a thousand million", """
def inverted_dropout(x, p, mask):
    return x.sum().expand(1_000, 1_000_000)

def classic_dropout(x, p, mask, training):
    return torch.zeros(1).expand(1_000_000_000)
"""),
    code("D.many_dimensions", "returns 60 dimensions, and lists nested 10,000 deep", """
def inverted_dropout(x, p, mask):
    return x.reshape((1,) * 50 + tuple(x.shape))

def classic_dropout(x, p, mask, training):
    nested = []
    for _ in range(10_000):
        nested = [nested]
    return nested
"""),
    code("D.sparse", "returns sparse and quantized tensors", """
def inverted_dropout(x, p, mask):
    return (x * mask / (1 - p)).to_sparse() + 1 if p == 7 else x.to_sparse()

def classic_dropout(x, p, mask, training):
    return torch.quantize_per_tensor(x.float(), 0.1, 0, torch.quint8)
"""),
    code("D.huge_integer", "returns integers and fractions too large for any array", """
from fractions import Fraction
def inverted_dropout(x, p, mask):
    return 10 ** 100_000

def classic_dropout(x, p, mask, training):
    return Fraction(10 ** 5_000, 3)
"""),
    code("D.objects", "returns arrays of objects that run code when they are read", """
import os
class Bomb:
    def __reduce__(self):
        return os._exit, (3,)
    def __float__(self):
        os._exit(3)
    def __array__(self, *args, **options):
        os._exit(3)
def inverted_dropout(x, p, mask):
    return np.array([Bomb()] * 3, dtype=object)

def classic_dropout(x, p, mask, training):
    return [Bomb()]
"""),
    code("D.endless_sequence", "returns a sequence that never ends", """
class Endless:
    def __len__(self):
        return 2**40
    def __getitem__(self, index):
        return 1.0
def inverted_dropout(x, p, mask):
    return Endless()
""", classic=True),
    code("D.detach_that_lies", "returns an object whose detach() is right and whose gradient is not", """
class Lies:
    def __init__(self, x, right):
        self.x, self.right = x, right
    def __mul__(self, other):
        return self.x * 0
    def detach(self):
        return self.right.detach()
    def numel(self):
        return self.right.numel()
    shape = property(lambda self: self.right.shape)
def inverted_dropout(x, p, mask):
    return Lies(x, x * 0)
"""),
    code("D.long_message", "raises an error with a message of 50 MB", """
def inverted_dropout(x, p, mask):
    raise ValueError("x" * 50_000_000)
""", classic=True),
    code("D.message_that_runs", "raises an error whose text runs code, without end", """
class Loud(Exception):
    def __str__(self):
        while True:
            raise self
    __repr__ = __str__
def inverted_dropout(x, p, mask):
    raise Loud
""", classic=True),
    code("D.surrogates", "raises an error with half characters, NULs and a traceback of its own", """
def inverted_dropout(x, p, mask):
    raise type("\\ud800Error", (Exception,), {})("\\ud800\\0\\uffff" * 100)
""", classic=True),
)  # fmt: skip

ATTACKS = RETURNED
