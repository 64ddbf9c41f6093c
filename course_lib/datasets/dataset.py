"""What a set of labelled images is, and the way from its uint8 arrays to torch tensors."""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Part(NamedTuple):
    """Images with their labels: `images, labels = dataset.train`."""

    images: np.ndarray  # uint8 (N, H, W) or (N, H, W, 3)
    labels: np.ndarray  # int64 (N,)


class Split(NamedTuple):
    """Indices into a dataset's arrays, int64 and ascending. No group stands in two parts."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Source:
    """One package that images were taken from: which, under what licence, whose work."""

    package: str
    version: str
    registry: str
    file: str
    sha256: str
    licence: str
    attribution: str


@dataclass(frozen=True)
class Provenance:
    """Where a dataset comes from, what was done to it, and under which licence it is passed on."""

    title: str
    licence: str
    licence_file: str
    changes: tuple[str, ...]
    sources: tuple[Source, ...]
    sha256: str  # of the embedded file
    content_sha256: str  # of the arrays in it, whatever the compressor
    built_with: str

    def __str__(self) -> str:
        lines = [f"{self.title} ({self.licence})"]
        for source in self.sources:
            lines.append(f"from {source.package} {source.version}: {source.attribution} ({source.licence})")
        return "\n".join([*lines, *(f"changed: {change}" for change in self.changes)])


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images with a fixed split.

    `groups` numbers what belongs together (for emoji8 the concept, drawn by several artists): a group never
    crosses the split. `domains` says which of `domain_names` an image is from (for emoji8 the artist).
    Images stand in a shuffled, fixed order, so that a slice mixes the classes.
    """

    name: str
    images: np.ndarray  # uint8 (N, H, W) or (N, H, W, 3)
    labels: np.ndarray  # int64 (N,)
    classes: tuple[str, ...]
    groups: np.ndarray  # int64 (N,)
    domains: np.ndarray  # int64 (N,)
    domain_names: tuple[str, ...]
    split: Split
    provenance: Provenance

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        train, valid, test = (len(part) for part in self.split)
        return (
            f"<Dataset {self.name}: {len(self)} images {self.images.shape[1:]}, {len(self.classes)} classes, "
            f"train {train}, valid {valid}, test {test}>"
        )

    def take(self, index) -> Part:
        """Copies of the images and labels at `index`, an integer or boolean array over the whole set."""
        return Part(self.images[index], self.labels[index])

    @property
    def train(self) -> Part:
        return self.take(self.split.train)

    @property
    def valid(self) -> Part:
        return self.take(self.split.valid)

    @property
    def test(self) -> Part:
        return self.take(self.split.test)

    def subset(self, per_class: int, *, seed: int = 0) -> Part:
        """`per_class` training images of every class, drawn by `seed`, the classes mixed.

        The draw is the same on every machine and numpy, and nested: with one seed, the subset of 10 per class
        lies within that of 50. Raises ValueError where a class has too few training images.
        """
        if per_class < 1:
            raise ValueError(f"per_class is {per_class}: ask for at least 1 image of each class")
        order = sorted(
            self.split.train.tolist(),
            key=lambda i: hashlib.sha256(f"{self.name}/{seed}/{i}".encode()).digest(),
        )
        chosen, room = [], [per_class] * len(self.classes)
        for i in order:
            if room[self.labels[i]]:
                room[self.labels[i]] -= 1
                chosen.append(i)
        for name, missing in zip(self.classes, room, strict=True):
            if missing:
                raise ValueError(
                    f"{self.name} has {per_class - missing} training images of class {name!r}, "
                    f"not {per_class}: ask for at most as many as its smallest class has"
                )
        return self.take(np.array(chosen))


def as_tensors(images, labels=None, *, device=None):
    """Images as a float32 tensor in [0, 1], (N, C, H, W); with labels, the pair (images, int64 labels).

    images: uint8 (N, H, W), which gives one channel, or (N, H, W, C). One image must come as a batch of one.
    The tensors are copies. Raises TypeError where the images are not uint8, ValueError for any other shape.
    """
    import torch  # here, so that reading the data needs numpy alone

    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise TypeError(f"images are {images.dtype}: as_tensors scales uint8 images, whose white is 255")
    if images.ndim not in (3, 4):
        raise ValueError(f"images have shape {images.shape}: expected (N, H, W) or (N, H, W, C)")
    x = torch.tensor(images, device=device)
    x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)
    x = x.to(torch.float32, memory_format=torch.contiguous_format) / 255
    if labels is None:
        return x
    return x, torch.tensor(np.asarray(labels), dtype=torch.int64, device=device)
