"""What the net wants to see: uint8 photographs in, its input scale out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.pretrained.weights import PHOTOGRAPHS, class_names, read_arrays, read_record

__all__ = ["Photographs", "photographs", "preprocess", "resize", "top_k"]

MEAN, SCALE = (
    127.0,
    128.0,
)  # what the weights were trained with, unlike torchvision's nets


@dataclass(frozen=True, eq=False)
class Photographs:
    """A few real photographs, in the public domain, with what is on them: images uint8 (N, 224, 224, 3)."""

    images: np.ndarray
    labels: np.ndarray  # int64 (N,), numbers of ImageNet's classes
    names: tuple[str, ...]  # of those classes
    licences: tuple[str, ...]  # one a photograph


def resize(x: Tensor, size: int) -> Tensor:
    """The middle square of x (N, C, H, W), scaled to (N, C, size, size): bilinear, antialiased where it shrinks."""
    side = min(x.shape[-2:])
    top, left = (x.shape[-2] - side) // 2, (x.shape[-1] - side) // 2
    x = x[..., top : top + side, left : left + side]
    return x if side == size else F.interpolate(x, (size, size), mode="bilinear", antialias=True)


def preprocess(images: np.ndarray | Tensor, size: int = 224, *, framework: str = "torch", device=None):
    """(x − 127)/128 of uint8 images, brought to size x size: the only scale on which the weights work.

    images: uint8 (N, H, W, 3), or (N, H, W) for grey ones, whose value goes to all three channels. Returns float32:
    a tensor (N, 3, size, size) for "torch", an array (N, size, size, 3) for "keras". The middle square is taken where
    an image is not square. Small images may be enlarged: 96 to 128 is enough for most, and cheap. Raises TypeError
    where images are not uint8, ValueError for another shape, framework or a size below 32.
    """
    x = images if isinstance(images, Tensor) else torch.tensor(np.asarray(images))
    if x.dtype != torch.uint8:
        raise TypeError(f"images are {str(x.dtype).removeprefix('torch.')}: preprocess scales uint8 images")
    if not (x.ndim == 3 or (x.ndim == 4 and x.shape[-1] == 3)):
        raise ValueError(f"images have shape {tuple(x.shape)}: expected (N, H, W, 3), or (N, H, W) for grey ones")
    if framework not in ("torch", "keras"):
        raise ValueError(f"framework is {framework!r}: there are 'torch' and 'keras'")
    if size < 32:
        raise ValueError(f"size is {size}: the net halves it five times, so give at least 32")
    x = x.to(device).float()
    x = x[:, None].expand(-1, 3, -1, -1) if x.ndim == 3 else x.permute(0, 3, 1, 2)
    x = ((resize(x, size) if len(x) else x.new_zeros(0, 3, size, size)) - MEAN) / SCALE
    return x.contiguous() if framework == "torch" else x.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def photographs() -> Photographs:
    """The embedded photographs, in fresh arrays. Raises PretrainedError where they are absent or damaged."""
    arrays, record = read_arrays(PHOTOGRAPHS), read_record(PHOTOGRAPHS)
    labels = arrays["labels"].astype(np.int64)
    names = class_names()
    return Photographs(arrays["images"], labels, tuple(names[i] for i in labels), tuple(record["licences"]))


def top_k(logits, k: int = 5) -> list[list[tuple[str, float]]]:
    """The k likeliest classes of each image and their probabilities: logits (N, 1000), of torch or Keras, → N lists."""
    logits = logits if isinstance(logits, Tensor) else torch.from_numpy(np.array(logits))
    best = logits.detach().softmax(-1).topk(k)
    names = class_names()
    return [
        [(names[i], p) for i, p in zip(row, chances, strict=True)]
        for row, chances in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
