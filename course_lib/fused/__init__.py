"""Fused Triton kernels for the course's memory-bound operations, each beside the readable version that it must equal.

Batch norm, activations, dropout and Adam do a few operations for each number they read: what they cost on a GPU is
memory traffic, and every eager operation is one more trip. A fused kernel reads each input once for each pass that the
formula needs, keeps what lies between in registers, and writes only results:

| operation | eager, numbers moved for each element | fused |
|---|---|---|
| batch norm + activation, forward | 3 + 2 | 3 |
| batch norm + activation, backward | 5 + 3 | 5 |
| dropout + residual, forward | 5, and a mask written | 3 |
| dropout + residual, backward | 2, and the mask read | 2 |
| Adam | 16, in six batched operations | 7, one launch for all parameters of a dtype |

`fused=None`, the default, takes the kernels for float32, float16 and bfloat16 tensors on a GPU where Triton is
installed, and the readable version everywhere else: on the CPU, for float64, for empty tensors. `fused=False` always
takes the readable version, `fused=True` insists on the kernels and says why where they can't run. On the CPU they run
under Triton's interpreter (TRITON_INTERPRET=1, set before anything imports triton), slowly: that is for tests.

All arithmetic inside a kernel is float32. Their speed is unmeasured: they were designed for a Hopper-class GPU (16-byte
accesses, the fewest passes, about as many programs as are resident at once), compiled for one and read as machine code,
and run under the interpreter, never timed. Importing this package does not import triton.
"""

from course_lib.fused.adam import Adam, AdamW, adam_step_
from course_lib.fused.backend import kernels_available
from course_lib.fused.batch_norm import batch_norm_activation
from course_lib.fused.dropout import DropoutAdd, dropout_add, philox, philox_mask

__all__ = [
    "Adam",
    "AdamW",
    "DropoutAdd",
    "adam_step_",
    "batch_norm_activation",
    "dropout_add",
    "kernels_available",
    "philox",
    "philox_mask",
]
