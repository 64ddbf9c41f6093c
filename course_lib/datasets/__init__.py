"""Small real image sets that come with the course: no download, no account, a fixed split, checksums.

from course_lib import datasets

mnist = datasets.load("mnist5k")
images, labels = mnist.train                        # uint8 (N, H, W), int64 (N,)
x, y = datasets.as_tensors(*mnist.subset(per_class=50, seed=0))  # float32 in [0, 1], (N, 1, H, W)
"""

from course_lib.datasets.dataset import Dataset, Part, Provenance, Source, Split, as_tensors
from course_lib.datasets.embedded import DatasetError, load, names

__all__ = [
    "Dataset",
    "DatasetError",
    "Part",
    "Provenance",
    "Source",
    "Split",
    "as_tensors",
    "load",
    "names",
]
