"""Loading a part of a saved net, by name, and saying what was not loaded."""

from __future__ import annotations

import numpy as np
import torch

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant


def loading_cases(seed):
    """The same net, another head, a deeper net, renamed layers, other dtypes, and nothing that fits."""
    rng = np.random.default_rng(seed)

    def case(name, kind):
        return Case(name, {"kind": kind, "classes": int(rng.integers(4, 9)), "seed": int(rng.integers(1, 10_000))})

    yield case("the same net", "same")
    yield case("another number of classes", "head")
    yield case("the saved net has a layer more", "unexpected")
    yield case("the saved net lacks a layer", "missing")
    yield case("a weight of as many numbers, in another shape", "shape")
    yield case("saved in float64", "float64")
    yield case("nothing fits: every name has a prefix", "nothing")


def loading_probe(candidate, case):
    from collections import OrderedDict

    import torch
    from torch import nn

    def net(classes, *, hidden=(5,), cut=False):
        layers = [("stem", nn.Linear(3, 5)), ("norm", nn.BatchNorm1d(5))]
        for i, width in enumerate(hidden):
            layers.append((f"extra{i}" if i else "body", nn.Linear(5, width)))
        return nn.Sequential(OrderedDict(layers if cut else [*layers, ("head", nn.Linear(5, classes))]))

    kind, classes = case["kind"], case["classes"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(case["seed"])
        model = net(classes)
        saved = net(classes + (kind == "head"), hidden=(5, 5) if kind == "unexpected" else (5,), cut=kind == "missing")
        for module in saved.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(1, 2)
                module.weight.data.uniform_(1, 2)
    state = {name: value.clone() for name, value in saved.state_dict().items()}
    if kind == "shape":
        state["stem.weight"] = state["stem.weight"].reshape(3, 5).clone()
    if kind == "float64":
        state = {name: value.double() if value.is_floating_point() else value for name, value in state.items()}
    if kind == "nothing":
        state = {f"model.{name}": value for name, value in state.items()}
    refused, report = False, ((),) * 4
    try:
        report = candidate(model, state)
    except ValueError:
        refused = True
    loaded, missing, unexpected, misshapen = (", ".join(sorted(names)) for names in report)
    values = [value.flatten() for value in model.state_dict().values() if value.is_floating_point()]
    types = {str(value.dtype) for value in values}
    values = torch.cat([value.float() for value in values]).clone()
    for tensor in state.values():
        tensor.zero_()
    now = torch.cat([v.float().flatten() for v in model.state_dict().values() if v.is_floating_point()])
    return {
        "values": values,
        "loaded": loaded,
        "missing": missing,
        "unexpected": unexpected,
        "misshapen": misshapen,
        "refuses": refused,
        "dtypes": ", ".join(sorted(types)),
        "a copy": torch.equal(values, now),
    }


def load_partial(model, state):
    """(loaded, missing, unexpected, misshapen), four lists of names; copies what fits. Raises ValueError if nothing."""
    places = model.state_dict()
    misshapen = [name for name in state if name in places and state[name].shape != places[name].shape]
    loaded = [name for name in state if name in places and name not in misshapen]
    if not loaded:
        raise ValueError("nothing of the state fits the model")
    with torch.no_grad():
        for name in loaded:
            places[name].copy_(state[name])
    missing = [name for name in places if name not in state]
    unexpected = [name for name in state if name not in places]
    return loaded, missing, unexpected, misshapen


def not_strict(model, state):
    found = model.load_state_dict(state, strict=False)
    loaded = [name for name in state if name not in found.unexpected_keys]
    if not loaded:
        raise ValueError("nothing fits")
    return loaded, found.missing_keys, found.unexpected_keys, []


def nothing_loaded_no_word(model, state):
    places = model.state_dict()
    misshapen = [name for name in state if name in places and state[name].shape != places[name].shape]
    loaded = [name for name in state if name in places and name not in misshapen]
    with torch.no_grad():
        for name in loaded:
            places[name].copy_(state[name])
    return loaded, [n for n in places if n not in state], [n for n in state if n not in places], misshapen


def parameters_alone(model, state):
    places = dict(model.named_parameters())
    misshapen = [name for name in state if name in places and state[name].shape != places[name].shape]
    loaded = [name for name in state if name in places and name not in misshapen]
    if not loaded:
        raise ValueError("nothing fits")
    with torch.no_grad():
        for name in loaded:
            places[name].copy_(state[name])
    return loaded, [n for n in places if n not in state], [n for n in state if n not in places], misshapen


def lists_exchanged(model, state):
    places = model.state_dict()
    misshapen = [name for name in state if name in places and state[name].shape != places[name].shape]
    loaded = [name for name in state if name in places and name not in misshapen]
    if not loaded:
        raise ValueError("nothing fits")
    with torch.no_grad():
        for name in loaded:
            places[name].copy_(state[name])
    return loaded, [n for n in state if n not in places], [n for n in places if n not in state], misshapen


def misshapen_counted_as_missing(model, state):
    places = model.state_dict()
    misshapen = [name for name in state if name in places and state[name].shape != places[name].shape]
    loaded = [name for name in state if name in places and name not in misshapen]
    if not loaded:
        raise ValueError("nothing fits")
    with torch.no_grad():
        for name in loaded:
            places[name].copy_(state[name])
    return loaded, [n for n in places if n not in loaded], [n for n in state if n not in places], misshapen


def reshaped_to_fit(model, state):
    places = model.state_dict()
    misshapen = [name for name in state if name in places and state[name].numel() != places[name].numel()]
    loaded = [name for name in state if name in places and name not in misshapen]
    if not loaded:
        raise ValueError("nothing fits")
    with torch.no_grad():
        for name in loaded:
            places[name].copy_(state[name].reshape(places[name].shape))
    return loaded, [n for n in places if n not in state], [n for n in state if n not in places], misshapen


def corner_copied(model, state):
    places = model.state_dict()
    misshapen = [name for name in state if name in places and state[name].shape != places[name].shape]
    loaded = [name for name in state if name in places and name not in misshapen]
    if not loaded:
        raise ValueError("nothing fits")
    with torch.no_grad():
        for name in [*loaded, *misshapen]:
            corner = tuple(slice(min(a, b)) for a, b in zip(state[name].shape, places[name].shape, strict=True))
            places[name][corner] = state[name][corner].to(places[name].dtype)
    return loaded, [n for n in places if n not in state], [n for n in state if n not in places], misshapen


def storage_shared(model, state):
    places = model.state_dict()
    misshapen = [name for name in state if name in places and state[name].shape != places[name].shape]
    loaded = [name for name in state if name in places and name not in misshapen]
    if not loaded:
        raise ValueError("nothing fits")
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name in loaded:
        tensors[name].data = state[name].to(tensors[name].dtype)
    return loaded, [n for n in places if n not in state], [n for n in state if n not in places], misshapen


def matched_by_order(model, state):
    places = model.state_dict()
    pairs = [(n, m) for n, m in zip(places, state, strict=False) if places[n].shape == state[m].shape]
    if not pairs:
        raise ValueError("nothing fits")
    with torch.no_grad():
        for place, name in pairs:
            places[place].copy_(state[name])
    loaded = [place for place, _ in pairs]
    return loaded, [n for n in places if n not in loaded], [n for n in state if n not in places], []


def loading_by_filter(model, state):
    own = model.state_dict()
    fits = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    if len(fits) == 0:
        raise ValueError("no tensor fits")
    result = model.load_state_dict(fits, strict=False)
    misshapen = [name for name in result.missing_keys if name in state]
    missing = [name for name in result.missing_keys if name not in state]
    return list(fits), missing, [name for name in state if name not in own], misshapen


def loading_by_sets(model, state):
    own = model.state_dict()
    both = set(own) & set(state)
    wrong = {name for name in both if tuple(own[name].shape) != tuple(state[name].shape)}
    if not both - wrong:
        raise ValueError(f"nothing to load among {len(state)} tensors")
    model.load_state_dict({**own, **{name: state[name] for name in both - wrong}})
    return both - wrong, set(own) - both, set(state) - both, wrong


def loading_by_modules(model, state):
    loaded, misshapen, places = [], [], []
    todo = []
    for prefix, module in model.named_modules():
        own = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
        for name, tensor in own.items():
            full = f"{prefix}.{name}" if prefix else name
            places.append(full)
            if full in state:
                (loaded if state[full].shape == tensor.shape else misshapen).append(full)
                todo.append((tensor, state[full]))
    if not loaded:
        raise ValueError("nothing")
    for tensor, value in todo:
        if tensor.shape == value.shape:
            tensor.data.copy_(value)
    return loaded, [n for n in places if n not in state], [n for n in state if n not in places], misshapen


loading_exercise = Exercise(
    id="transfer_learning.load_partial",
    lesson="05_transfer_learning",
    title="Load what fits, and say what did not",
    answer="load_partial",
    criteria=(
        Criterion("values", 2, Close(operations=4)),
        Criterion("loaded", 0.5, requires=("values",)),
        Criterion("missing", 0.5, requires=("values",)),
        Criterion("unexpected", 0.5, requires=("values",)),
        Criterion("misshapen", 0.5, requires=("values",)),
        Criterion("refuses", 1, requires=("values",)),
        Criterion("dtypes", 0),
        Criterion("a copy", 0),
    ),
    cases=loading_cases,
    probe=loading_probe,
    reference=load_partial,
    misconceptions=(
        Misconception(
            "not_strict",
            not_strict,
            "load_state_dict(strict=False) forgives names, not shapes: in the case “{case}” it stops with an error.",
            "Compare the shapes yourself before you copy.",
        ),
        Misconception(
            "nothing_loaded_no_word",
            nothing_loaded_no_word,
            "In the case “{case}” not one tensor was loaded, and you say nothing. The net keeps its random weights, "
            "and "
            "training starts from scratch without anybody noticing.",
            "Raise ValueError where nothing was loaded.",
        ),
        Misconception(
            "parameters_alone",
            parameters_alone,
            "You load parameters only. A batch norm's running statistics are buffers: left out, the net normalizes "
            "with "
            "mean 0 and variance 1.",
            "model.state_dict() has both.",
        ),
        Misconception(
            "lists_exchanged",
            lists_exchanged,
            "`missing` and `unexpected` are exchanged.",
            "Missing: in the model, but not in the state. Unexpected: in the state, but not in the model.",
        ),
        Misconception(
            "misshapen_counted_as_missing",
            misshapen_counted_as_missing,
            "You list misshapen tensors as missing too. They are in the state, in another shape.",
            "Each name stands in one list.",
        ),
        Misconception(
            "reshaped_to_fit",
            reshaped_to_fit,
            "In the case “{case}” you pour the numbers into another shape. They land at other places than they were "
            "learned for.",
            "Copy only where the shapes are equal.",
        ),
        Misconception(
            "corner_copied",
            corner_copied,
            "Of misshapen tensors you copy the corner that fits: half a new head then starts as another task's.",
            "Leave misshapen tensors as they are in the model.",
        ),
        Misconception(
            "storage_shared",
            storage_shared,
            "The model now shares memory with the saved state: whoever changes one changes the other.",
            "place.copy_(tensor), under torch.no_grad().",
        ),
        Misconception(
            "matched_by_order",
            matched_by_order,
            "You match by order. In the case “{case}” a layer gets another layer's weights, and the shapes even fit.",
            "Match by name.",
        ),
    ),
    variants=(
        Variant("loading_by_filter", loading_by_filter),
        Variant("loading_by_sets", loading_by_sets),
        Variant("loading_by_modules", loading_by_modules),
    ),
    forbidden=("course_lib.transfer",),
    hints=(
        "model.state_dict() names every place, parameters and buffers; its tensors share memory with the model.",
        "A name is in both, in the model alone, or in the state alone; where it is in both, the shapes agree or not.",
        "Make the four lists first; raise ValueError if `loaded` is empty; then places[name].copy_(state[name]) for "
        "each of "
        "them, under torch.no_grad().",
    ),
    minutes=12,
)
