"""The clinic: "same" padding that is off by one, a head of millions, a stride that throws the picture away."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from course_lib import convolution as reference

from ...exercise import Case, Close, Criterion, Exercise, Explanation, Misconception, Variant

LESSON = "09_cnn_architectures"

# ---------------------------------------------------------------- "same"


def same_cases(seed):
    """Stride 1 and 2 on even and odd sides, even kernels, a picture higher than wide, a stride above the kernel."""
    rng = np.random.default_rng(seed)

    def case(name, side, k, stride, dtype=np.float32):
        return Case(
            name,
            {
                "x": rng.normal(0.5, 1.0, (2, 2, *side)).astype(dtype),
                "weight": rng.normal(size=(3, 2, k, k)).astype(dtype),
                "bias": rng.normal(size=3).astype(dtype),
                "stride": stride,
            },
        )

    yield case("kernel 3, stride 1", (6, 6), 3, 1)
    yield case("kernel 3, stride 2, even side", (8, 8), 3, 2)
    yield case("kernel 3, stride 2, odd side", (9, 9), 3, 2)
    yield case("kernel 5, stride 2, even side", (10, 10), 5, 2)
    yield case("kernel 2, stride 1", (6, 6), 2, 1)
    yield case("kernel 3, stride 2, 8 × 11", (8, 11), 3, 2)
    yield case("kernel 5, stride 3", (11, 10), 5, 3)
    yield case("kernel 1, stride 2", (7, 8), 1, 2)
    yield case("float64, kernel 4, stride 2", (8, 9), 4, 2, np.float64)


def same_probe(candidate, case):
    import torch

    x, weight, bias = (torch.tensor(case[name]) for name in ("x", "weight", "bias"))
    y = candidate(x, weight, bias, case["stride"])
    return {"size": torch.tensor(y.shape), "output": y}


def same_answer(x, weight, bias, stride):
    return reference.conv2d(x, weight, bias, stride, "same")


def half_a_kernel_each_side(x, weight, bias, stride):
    return F.conv2d(x, weight, bias, stride, padding=weight.shape[-1] // 2)


def odd_one_before(x, weight, bias, stride):
    pads = []
    for n, k in zip(x.shape[:1:-1], weight.shape[:1:-1], strict=True):
        total = max((-(-n // stride) - 1) * stride + k - n, 0)
        pads += [total - total // 2, total // 2]
    return F.conv2d(F.pad(x, pads), weight, bias, stride)


def as_for_stride_1(x, weight, bias, stride):
    pads = []
    for k in weight.shape[:1:-1]:
        pads += [(k - 1) // 2, k - 1 - (k - 1) // 2]
    return F.conv2d(F.pad(x, pads), weight, bias, stride)


def all_at_the_end(x, weight, bias, stride):
    pads = []
    for n, k in zip(x.shape[:1:-1], weight.shape[:1:-1], strict=True):
        pads += [0, max((-(-n // stride) - 1) * stride + k - n, 0)]
    return F.conv2d(F.pad(x, pads), weight, bias, stride)


def height_for_both(x, weight, bias, stride):
    n, k = x.shape[2], weight.shape[2]
    total = max((-(-n // stride) - 1) * stride + k - n, 0)
    return F.conv2d(F.pad(x, [total // 2, total - total // 2] * 2), weight, bias, stride)


def axes_exchanged(x, weight, bias, stride):
    pads = []
    for n, k in zip(x.shape[2:], weight.shape[2:], strict=True):
        total = max((-(-n // stride) - 1) * stride + k - n, 0)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), weight, bias, stride)


def not_padded(x, weight, bias, stride):
    return F.conv2d(x, weight, bias, stride)


def same_by_two_axes(x, weight, bias, stride):
    def pads(n, k):
        total = max((-(-n // stride) - 1) * stride + k - n, 0)
        return total // 2, total - total // 2

    (top, bottom), (left, right) = (pads(n, k) for n, k in zip(x.shape[2:], weight.shape[2:], strict=True))
    return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, stride=stride)


def same_by_zeros(x, weight, bias, stride):
    size, kernel = x.shape[2:], weight.shape[2:]
    total = [max(k - (n % stride or stride), 0) for n, k in zip(size, kernel, strict=True)]
    wide = x.new_zeros(*x.shape[:2], *(n + t for n, t in zip(size, total, strict=True)))
    top, left = (t // 2 for t in total)
    wide[:, :, top : top + size[0], left : left + size[1]] = x
    return F.conv2d(wide, weight, bias, stride)


def same_by_cutting(x, weight, bias, stride):
    k = weight.shape[-1]
    y = F.conv2d(F.pad(x, (k, k, k, k)), weight, bias)  # every place, far beyond the border
    starts, counts = [], []
    for n in x.shape[2:]:
        count = -(-n // stride)
        total = max((count - 1) * stride + k - n, 0)
        starts.append(k - total // 2)
        counts.append(count)
    rows, columns = (slice(s, s + stride * (c - 1) + 1, stride) for s, c in zip(starts, counts, strict=True))
    return y[:, :, rows, columns]


clinic_same = Exercise(
    id="cnn_architectures.clinic_same",
    lesson=LESSON,
    title="Clinic: ported weights, and no error anywhere",
    answer="conv2d_same",
    criteria=(
        Criterion("size", 0),
        Criterion("output", 3, Close(operations=256)),
    ),
    cases=same_cases,
    probe=same_probe,
    reference=same_answer,
    misconceptions=(
        Misconception(
            "half_a_kernel_each_side",
            half_a_kernel_each_side,
            "You pad by k // 2 on each side, PyTorch's usual way. With stride 2 and an even side Keras pads the end "
            "only, so each of your windows begins one pixel too early.",
            "Work out how much padding is needed in all, then how it is shared.",
        ),
        Misconception(
            "odd_one_before",
            odd_one_before,
            "Where the padding is odd you put the odd pixel before the picture. Keras puts it behind.",
            "total // 2 before, the rest behind.",
        ),
        Misconception(
            "as_for_stride_1",
            as_for_stride_1,
            "You always pad k − 1 pixels. With a stride fewer are needed to reach ⌈n / stride⌉ windows.",
            "total = (⌈n / stride⌉ − 1) · stride + k − n, and not below 0.",
        ),
        Misconception(
            "all_at_the_end",
            all_at_the_end,
            "All the padding lies behind the picture. Only the odd pixel does.",
            "total // 2 before, the rest behind.",
        ),
        Misconception(
            "height_for_both",
            height_for_both,
            "You work the padding out for the height and use it for the width too.",
            "Each axis has its own sum.",
        ),
        Misconception(
            "axes_exchanged",
            axes_exchanged,
            "The paddings of height and width are exchanged: F.pad begins with the *last* axis.",
            "F.pad(x, (left, right, top, bottom)).",
        ),
        Misconception(
            "not_padded",
            not_padded,
            "Without padding the output is too small: it should have ⌈n / stride⌉ rows and columns.",
            "Pad first.",
        ),
    ),
    variants=(
        Variant("same_by_two_axes", same_by_two_axes),
        Variant("same_by_zeros", same_by_zeros),
        Variant("same_by_cutting", same_by_cutting),
    ),
    forbidden=("course_lib.convolution", "course_lib.windows"),
    hints=(
        "How many windows does Keras make of n pixels? ⌈n / stride⌉. Where does the last of them end?",
        "The last window ends at (⌈n / stride⌉ − 1) · stride + k. What lies beyond n is padding, shared by both sides.",
        "before = total // 2, after = total − before, each axis by itself; then F.pad(x, (left, right, top, "
        "bottom)) and a convolution without padding.",
    ),
    minutes=15,
)

# ---------------------------------------------------------------- a head of millions


def head_cases(seed):
    """Different numbers of maps, classes and sides; a second size for the same net; one picture."""
    rng = np.random.default_rng(seed)
    for name, maps, classes, side, other, n in (
        ("8 maps, 3 classes", 8, 3, 16, 24, 4),
        ("6 maps, 10 classes", 6, 10, 20, 16, 3),
        ("two classes", 5, 2, 16, 32, 5),
        ("one picture", 7, 4, 24, 16, 1),
        ("many maps", 24, 5, 16, 20, 2),
        ("pictures that are wider", 6, 3, 16, 28, 3),
    ):
        yield Case(
            name,
            {
                "maps": maps,
                "classes": classes,
                "side": side,
                "x": rng.normal(size=(n, 1, side, side)).astype(np.float32),
                "other": rng.normal(size=(n, 1, other, other + (4 if "wider" in name else 0))).astype(np.float32),
                "kernel": rng.normal(size=(maps, 1, 3, 3)).astype(np.float32),
                "weight": rng.normal(size=(classes, maps)).astype(np.float32),
                "bias": rng.normal(size=classes).astype(np.float32),
            },
        )


def head_probe(candidate, case):
    """The features are one convolution with weights of the case; the new head's weights are set before it is run."""
    from contextlib import suppress

    import torch
    from torch import nn

    features = nn.Sequential(nn.Conv2d(1, case["maps"], 3, padding=1), nn.ReLU(), nn.MaxPool2d(4))
    with torch.no_grad():
        features[0].weight.copy_(torch.tensor(case["kernel"]))
        features[0].bias.zero_()
    flat = case["maps"] * (case["side"] // 4) ** 2
    head = nn.Sequential(nn.Flatten(), nn.Linear(flat, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, case["classes"]))
    model = nn.Sequential()
    model.add_module("features", features)
    model.add_module("head", head)
    before = {id(p) for p in features.parameters()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # what the case does not set is drawn alike
        slim = candidate(model, case["classes"])
    if slim is None:
        raise TypeError("None was returned where a net is expected: is a `return` missing?")
    own = {id(p) for p in slim.parameters()}
    linear = [module for module in slim.modules() if isinstance(module, nn.Linear)]
    with torch.no_grad():
        if linear and linear[-1].weight.shape == case["weight"].shape:
            linear[-1].weight.copy_(torch.tensor(case["weight"]))
            linear[-1].bias.copy_(torch.tensor(case["bias"]))
    slim.eval()
    outputs = {
        "parameters of the head": sum(p.numel() for p in slim.parameters() if id(p) not in before),
        "the features are the old ones": before <= own and all(p.requires_grad for p in features.parameters()),
        "logits": slim(torch.tensor(case["x"])),
    }
    with suppress(RuntimeError):  # a net that fits one size only
        outputs["logits at another size"] = slim(torch.tensor(case["other"]))
    return outputs


def slim_answer(model, classes):
    """model.features, then the mean of each map, then one dense layer."""
    with torch.no_grad():
        maps = model.features(torch.zeros(1, 1, 16, 16)).shape[1]
    return nn.Sequential(model.features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(maps, classes))


def narrower_but_flat(model, classes):
    with torch.no_grad():
        flat = model.head[1].in_features
    return nn.Sequential(model.features, nn.Flatten(), nn.Linear(flat, classes))


def largest_of_each_map(model, classes):
    with torch.no_grad():
        maps = model.features(torch.zeros(1, 1, 16, 16)).shape[1]
    return nn.Sequential(model.features, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(maps, classes))


def features_copied(model, classes):
    import copy

    features = copy.deepcopy(model.features)
    with torch.no_grad():
        maps = features(torch.zeros(1, 1, 16, 16)).shape[1]
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(maps, classes))


def hidden_layer_kept(model, classes):
    with torch.no_grad():
        maps = model.features(torch.zeros(1, 1, 16, 16)).shape[1]
    return nn.Sequential(
        model.features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(maps, 64), nn.ReLU(), nn.Linear(64, classes)
    )


def softmax_at_the_end(model, classes):
    with torch.no_grad():
        maps = model.features(torch.zeros(1, 1, 16, 16)).shape[1]
    return nn.Sequential(model.features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(maps, classes), nn.Softmax(1))


def features_frozen(model, classes):
    with torch.no_grad():
        maps = model.features(torch.zeros(1, 1, 16, 16)).shape[1]
    for parameter in model.features.parameters():
        parameter.requires_grad = False
    return nn.Sequential(model.features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(maps, classes))


def averaged_over_the_maps(model, classes):
    class Slim(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = model.features
            with torch.no_grad():
                maps = model.features(torch.zeros(1, 1, 16, 16)).shape[1]
            self.last = nn.Linear(model.head[1].in_features // maps, classes)

        def forward(self, x):
            return self.last(self.features(x).mean(1).flatten(1))

    return Slim()


def summed_maps(model, classes):
    class Slim(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = model.features
            with torch.no_grad():
                maps = model.features(torch.zeros(1, 1, 16, 16)).shape[1]
            self.last = nn.Linear(maps, classes)

        def forward(self, x):
            return self.last(self.features(x).sum((2, 3)))

    return Slim()


def slim_in_a_class(model, classes):
    class Slim(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = model.features
            maps = [m for m in self.features if isinstance(m, nn.Conv2d)][-1].out_channels
            self.last = nn.Linear(maps, classes)

        def forward(self, x):
            return self.last(self.features(x).mean((2, 3)))

    return Slim()


def slim_by_flattening_late(model, classes):
    maps = next(p for p in model.features.parameters()).shape[0]
    return nn.Sequential(model.features, nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(maps, classes))


def slim_by_replacing(model, classes):
    with torch.no_grad():
        maps = model.features(torch.zeros(2, 1, 32, 32)).size(1)
    model.head = nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(maps, classes))
    return model


clinic_head = Exercise(
    id="cnn_architectures.clinic_head",
    lesson=LESSON,
    title="Clinic: forty million parameters for a thousand pictures",
    answer="slim",
    criteria=(
        Criterion("parameters of the head", 1, requires=("logits",)),
        Criterion("the features are the old ones", 0),
        Criterion("logits", 1, Close(operations=512)),
        Criterion("logits at another size", 1, Close(operations=512)),
    ),
    cases=head_cases,
    probe=head_probe,
    reference=slim_answer,
    misconceptions=(
        Misconception(
            "narrower_but_flat",
            narrower_but_flat,
            "You took the hidden layer out, and still flatten: a weight for every pixel of every map and every class, "
            "and only one size of picture fits.",
            "One number a map first: its mean.",
        ),
        Misconception(
            "largest_of_each_map",
            largest_of_each_map,
            "You take the largest value of each map. That works too, but asked for is the mean.",
            "nn.AdaptiveAvgPool2d(1).",
        ),
        Misconception(
            "features_copied",
            features_copied,
            "You copied the features: the net that you were given and yours no longer share them, and memory holds "
            "both.",
            "Use model.features itself.",
        ),
        Misconception(
            "hidden_layer_kept",
            hidden_layer_kept,
            "A hidden layer stands between the means and the classes. It is small now, but it is not asked for.",
            "One dense layer from the maps to the classes.",
        ),
        Misconception(
            "softmax_at_the_end",
            softmax_at_the_end,
            "Your net ends in a softmax. The loss applies one already.",
            "Return logits.",
        ),
        Misconception(
            "features_frozen",
            features_frozen,
            "You froze the features. Nobody said that they are trained already.",
            "Leave requires_grad as it is.",
        ),
        Misconception(
            "averaged_over_the_maps",
            averaged_over_the_maps,
            "You average over the maps and keep the places: a picture, not a list of what was found.",
            "Average over height and width, the last two axes.",
        ),
        Misconception(
            "summed_maps",
            summed_maps,
            "You add up each map. Then a larger picture gives larger logits.",
            "The mean.",
        ),
    ),
    variants=(
        Variant("slim_in_a_class", slim_in_a_class),
        Variant("slim_by_flattening_late", slim_by_flattening_late),
        Variant("slim_by_replacing", slim_by_replacing),
    ),
    hints=(
        "Where are the parameters? Print `account(model, (1, side, side))`.",
        "What is needed of a map to know whether its pattern was found? One number.",
        "nn.Sequential(model.features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(maps, classes)).",
    ),
    minutes=10,
)

# ---------------------------------------------------------------- a stride that throws the signal away


def blind_cases(seed):
    """Nothing lost, a stride above the kernel, a border that no window reaches, two layers, dilation, padding."""
    rng = np.random.default_rng(seed)

    def case(name, side, *layers):
        return Case(name, {"side": int(side), "layers": np.array(layers, dtype=np.int64)})

    yield case("3 × 3, stride 2, padding 1: nothing is lost", 2 * rng.integers(6, 12), (3, 2, 1, 1))
    yield case("1 × 1 with stride 2", rng.integers(11, 24), (1, 2, 0, 1))
    yield case("3 × 3 with stride 4, padding 1", rng.integers(18, 30), (3, 4, 1, 1))
    yield case("a border that no window reaches", 2 * rng.integers(7, 12), (5, 2, 0, 1))
    yield case("the second layer's stride", rng.integers(20, 34), (3, 2, 1, 1), (1, 3, 0, 1))
    yield case("dilation 2 with stride 4", rng.integers(20, 34), (3, 4, 0, 2))
    yield case("1 × 1 with stride 2 behind a 5 × 5", rng.integers(16, 30), (5, 1, 2, 1), (1, 2, 0, 1))
    yield case("two strides above the kernel", rng.integers(30, 44), (2, 3, 1, 1), (2, 3, 0, 1))


def blind_probe(candidate, case):
    import torch

    unseen = candidate(case["side"], [tuple(map(int, row)) for row in case["layers"]])
    unseen = torch.as_tensor(unseen)
    if unseen.dtype != torch.bool:
        raise TypeError(f"a mask of booleans is expected, not {unseen.dtype}")
    return {"unseen": unseen, "share": torch.tensor(round(1000 * float(unseen.float().mean())))}


def blind_spots_answer(side, layers):
    """The pixels (side, side) that no output depends on."""
    sizes = [side]
    for k, s, p, d in layers:
        sizes.append((sizes[-1] + 2 * p - d * (k - 1) - 1) // s + 1)
    seen = torch.ones(sizes[-1], dtype=torch.bool)
    for (k, s, p, d), size in zip(reversed(layers), reversed(sizes[:-1]), strict=True):
        below = torch.zeros(size, dtype=torch.bool)
        for output in torch.where(seen)[0].tolist():
            for place in range(output * s - p, output * s - p + d * (k - 1) + 1, d):
                if 0 <= place < size:
                    below[place] = True
        seen = below
    return ~(seen[:, None] & seen[None, :])


def seen_instead(side, layers):
    sizes = [side]
    for k, s, p, d in layers:
        sizes.append((sizes[-1] + 2 * p - d * (k - 1) - 1) // s + 1)
    seen = set(range(sizes[-1]))
    for (k, s, p, d), size in zip(reversed(layers), reversed(sizes[:-1]), strict=True):
        seen = {o * s - p + d * i for o in seen for i in range(k)} & set(range(size))
    line = torch.tensor([i in seen for i in range(side)])
    return line[:, None] & line[None, :]


def both_axes_blind(side, layers):
    sizes = [side]
    for k, s, p, d in layers:
        sizes.append((sizes[-1] + 2 * p - d * (k - 1) - 1) // s + 1)
    seen = set(range(sizes[-1]))
    for (k, s, p, d), size in zip(reversed(layers), reversed(sizes[:-1]), strict=True):
        seen = {o * s - p + d * i for o in seen for i in range(k)} & set(range(size))
    line = torch.tensor([i not in seen for i in range(side)])
    return line[:, None] & line[None, :]


def first_layer_only(side, layers):
    k, s, p, d = layers[0]
    seen = {o * s - p + d * i for o in range((side + 2 * p - d * (k - 1) - 1) // s + 1) for i in range(k)}
    line = torch.tensor([i in seen for i in range(side)])
    return ~(line[:, None] & line[None, :])


def padding_not_subtracted(side, layers):
    sizes = [side]
    for k, s, p, d in layers:
        sizes.append((sizes[-1] + 2 * p - d * (k - 1) - 1) // s + 1)
    seen = set(range(sizes[-1]))
    for (k, s, _, d), size in zip(reversed(layers), reversed(sizes[:-1]), strict=True):
        seen = {o * s + d * i for o in seen for i in range(k)} & set(range(size))
    line = torch.tensor([i in seen for i in range(side)])
    return ~(line[:, None] & line[None, :])


def whole_extent_seen(side, layers):
    sizes = [side]
    for k, s, p, d in layers:
        sizes.append((sizes[-1] + 2 * p - d * (k - 1) - 1) // s + 1)
    seen = set(range(sizes[-1]))
    for (k, s, p, d), size in zip(reversed(layers), reversed(sizes[:-1]), strict=True):
        seen = {o * s - p + i for o in seen for i in range(d * (k - 1) + 1)} & set(range(size))
    line = torch.tensor([i in seen for i in range(side)])
    return ~(line[:, None] & line[None, :])


def window_never_ends(side, layers):
    seen = torch.ones(side, dtype=torch.bool)
    jump, start = 1, 0
    for k, s, p, d in layers:
        start -= p * jump
        reached = {start + o * jump * s + d * i * jump for o in range(side) for i in range(k)}
        seen &= torch.tensor([i in reached for i in range(side)])
        jump *= s
    return ~(seen[:, None] & seen[None, :])


def by_gradients(side, layers):
    x = torch.zeros(1, 1, side, side, requires_grad=True)
    y = x
    for k, s, p, d in layers:
        y = F.conv2d(y, torch.ones(1, 1, k, k), stride=s, padding=p, dilation=d)
    y.sum().backward()
    return x.grad[0, 0] == 0


def by_sets(side, layers):
    sizes = [side]
    for k, s, p, d in layers:
        sizes.append((sizes[-1] + 2 * p - d * (k - 1) - 1) // s + 1)
    wanted = set(range(sizes.pop()))
    for k, s, p, d in layers[::-1]:
        size = sizes.pop()
        wanted = {place for o in wanted for i in range(k) if 0 <= (place := o * s - p + d * i) < size}
    line = np.isin(np.arange(side), list(wanted))
    return ~np.outer(line, line)


def by_trying_each_row(side, layers):
    pictures = torch.eye(side)[:, None, None, :]  # one lit pixel in each, on a single row
    for k, s, p, d in layers:
        pictures = F.conv2d(pictures, torch.ones(1, 1, 1, k), stride=(1, s), padding=(0, p), dilation=(1, d))
    dark = pictures.sum((1, 2, 3)) == 0
    return dark[:, None] | dark[None, :]


clinic_blind = Exercise(
    id="cnn_architectures.clinic_blind",
    lesson=LESSON,
    title="Clinic: a stride that throws the picture away",
    answer="blind_spots",
    criteria=(Criterion("unseen", 2), Criterion("share", 0)),
    cases=blind_cases,
    probe=blind_probe,
    reference=blind_spots_answer,
    misconceptions=(
        Misconception(
            "seen_instead",
            seen_instead,
            "Your mask is true where a pixel is seen.",
            "True where no output depends on it: turn it round.",
        ),
        Misconception(
            "both_axes_blind",
            both_axes_blind,
            "You mark a pixel only where its row *and* its column are missed. One of them is enough: no window then "
            "covers it.",
            "Seen = row seen and column seen; unseen is everything else.",
        ),
        Misconception(
            "first_layer_only",
            first_layer_only,
            "You look at the first layer only. What it sees may be thrown away by the next.",
            "Go from the last layer's outputs back to the picture.",
        ),
        Misconception(
            "padding_not_subtracted",
            padding_not_subtracted,
            "Your windows begin at the picture's first pixel; with padding they begin `padding` pixels earlier.",
            "Output o of a layer sees o · stride − padding + dilation · i.",
        ),
        Misconception(
            "whole_extent_seen",
            whole_extent_seen,
            "With dilation a window spans many pixels and looks only at every dilation-th of them.",
            "k places, dilation apart.",
        ),
        Misconception(
            "window_never_ends",
            window_never_ends,
            "You look at each layer by itself, on the picture: that forgets that a pixel may reach an output "
            "through one neighbour and not through another, and that windows end at the border.",
            "Go back layer by layer from the outputs that there are.",
        ),
    ),
    variants=(
        Variant("by_gradients", by_gradients),
        Variant("by_sets", by_sets),
        Variant("by_trying_each_row", by_trying_each_row),
    ),
    hints=(
        "Rows and columns behave alike, and a square kernel treats them apart: solve it for one line of pixels.",
        "Begin at the outputs: all of them are wanted. Which values of the layer below do they look at?",
        "Or let the gradient do it: kernels of ones, the sum of the outputs, and where is the picture's gradient 0?",
    ),
    minutes=15,
)

# ---------------------------------------------------------------- in words

explain = Explanation(
    id="cnn_architectures.explain",
    lesson=LESSON,
    title="In your own words: which layers for a thousand X-ray pictures?",
    rubric={
        "Convolutions because neighbouring pixels belong together and a pattern may stand anywhere; what shuffled "
        "pixels or a table without order would need instead": 1,
        "Where the parameters sit, and that a mean of each map instead of flattened maps removes most of them": 1,
        "How large a part of the picture one value must see, and how depth, pooling or stride get there": 1,
        "Starts from a known small design, changes one thing at a time, and compares over several seeds on validation "
        "pictures": 1,
    },
    minutes=15,
)
