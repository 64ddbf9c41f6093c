"""What trains, and at which rate: parameters chosen by patterns over their names."""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np
from torch import nn

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

# ---------------------------------------------------------------- freeze by name, and count


def freeze_cases(seed):
    """A trunk without its head, one part, two patterns, every bias, parts frozen before, slips, and nothing left."""
    rng = np.random.default_rng(seed)

    def case(name, patterns, keep="", before=""):
        return Case(
            name,
            {"patterns": patterns, "keep": keep, "before": before, "width": int(rng.integers(3, 9))},
        )

    yield case("all but the head", "*", keep="head.*")
    yield case("the stem alone", "stem.*")
    yield case("blocks.1, but not blocks.10", "stem.* blocks.1.*")
    yield case("every bias but the head's", "*.bias", keep="head.*")
    yield case("a part was frozen before", "blocks.*", before="stem.*")
    yield case("two things kept", "*", keep="head.* blocks.10.weight")
    yield case("a slip: no parameter is named block.1", "stem.* block.1.*")
    yield case("nothing would be left", "*")
    yield case("nothing would be left, a part was frozen before", "stem.* blocks.* head.weight", before="head.bias")


def freeze_probe(candidate, case):
    from collections import OrderedDict
    from fnmatch import fnmatchcase

    from torch import nn

    width = case["width"]
    blocks = nn.Module()
    for name in ("0", "1", "10"):
        blocks.add_module(name, nn.Linear(width, width))
    model = nn.Sequential(OrderedDict(stem=nn.Linear(2, width), blocks=blocks, head=nn.Linear(width, 4)))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(fnmatchcase(name, pattern) for pattern in case["before"].split()))
    refused, count = False, -1
    try:
        count = candidate(model, tuple(case["patterns"].split()), tuple(case["keep"].split()))
    except ValueError:
        refused = True
    return {
        "what trains": ", ".join(name for name, p in model.named_parameters() if p.requires_grad),
        "weights that train": int(count),
        "refuses": refused,
    }


def freeze(model, patterns, keep):
    """How many weights still train after freezing what `patterns` names and `keep` does not. Raises ValueError."""
    names = dict(model.named_parameters())
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"no parameter is named {pattern}")

    def matches(name, patterns):
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    frozen = [name for name in names if matches(name, patterns) and not matches(name, keep)]
    left = sum(p.numel() for name, p in names.items() if p.requires_grad and name not in frozen)
    if not left:
        raise ValueError("nothing would be left to train")
    for name in frozen:
        names[name].requires_grad_(False)
    return left


def head_frozen_too(model, patterns, keep):
    from fnmatch import fnmatchcase

    names = dict(model.named_parameters())
    if not all(any(fnmatchcase(name, pattern) for name in names) for pattern in patterns):
        raise ValueError("a pattern names nothing")
    frozen = [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
    left = sum(p.numel() for name, p in names.items() if p.requires_grad and name not in frozen)
    if not left:
        raise ValueError("nothing would be left to train")
    for name in frozen:
        names[name].requires_grad_(False)
    return left


def flag_on_the_module(model, patterns, keep):
    from fnmatch import fnmatchcase

    names = [name for name, _ in model.named_parameters()]
    if not all(any(fnmatchcase(name, pattern) for name in names) for pattern in patterns):
        raise ValueError("a pattern names nothing")
    for name, module in model.named_modules():
        inside = f"{name}.weight"
        if any(fnmatchcase(inside, p) for p in patterns) and not any(fnmatchcase(inside, p) for p in keep):
            module.requires_grad = False
    left = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if not left:
        raise ValueError("nothing would be left to train")
    return left


def by_prefix(model, patterns, keep):
    names = dict(model.named_parameters())

    def matches(name, patterns):
        return any(name.startswith(pattern.replace(".*", "").replace("*", "")) for pattern in patterns)

    if not all(any(matches(name, [pattern]) for name in names) for pattern in patterns):
        raise ValueError("a pattern names nothing")
    frozen = [name for name in names if matches(name, patterns) and not matches(name, keep)]
    left = sum(p.numel() for name, p in names.items() if p.requires_grad and name not in frozen)
    if not left:
        raise ValueError("nothing would be left to train")
    for name in frozen:
        names[name].requires_grad_(False)
    return left


def tensors_counted(model, patterns, keep):
    from fnmatch import fnmatchcase

    names = dict(model.named_parameters())
    if not all(any(fnmatchcase(name, pattern) for name in names) for pattern in patterns):
        raise ValueError("a pattern names nothing")

    def matches(name, patterns):
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    frozen = [name for name in names if matches(name, patterns) and not matches(name, keep)]
    left = [name for name, p in names.items() if p.requires_grad and name not in frozen]
    if not left:
        raise ValueError("nothing would be left to train")
    for name in frozen:
        names[name].requires_grad_(False)
    return len(left)


def frozen_counted(model, patterns, keep):
    from fnmatch import fnmatchcase

    names = dict(model.named_parameters())
    if not all(any(fnmatchcase(name, pattern) for name in names) for pattern in patterns):
        raise ValueError("a pattern names nothing")

    def matches(name, patterns):
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    frozen = [name for name in names if matches(name, patterns) and not matches(name, keep)]
    if all(name in frozen or not p.requires_grad for name, p in names.items()):
        raise ValueError("nothing would be left to train")
    for name in frozen:
        names[name].requires_grad_(False)
    return sum(p.numel() for p in names.values() if not p.requires_grad)


def others_opened(model, patterns, keep):
    from fnmatch import fnmatchcase

    names = dict(model.named_parameters())
    if not all(any(fnmatchcase(name, pattern) for name in names) for pattern in patterns):
        raise ValueError("a pattern names nothing")

    def matches(name, patterns):
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    opened = [name for name in names if matches(name, keep) or not matches(name, patterns)]
    if not opened:
        raise ValueError("nothing would be left to train")
    for name, parameter in names.items():
        parameter.requires_grad_(name in opened)
    return sum(p.numel() for p in names.values() if p.requires_grad)


def slips_forgiven(model, patterns, keep):
    from fnmatch import fnmatchcase

    names = dict(model.named_parameters())

    def matches(name, patterns):
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    frozen = [name for name in names if matches(name, patterns) and not matches(name, keep)]
    left = sum(p.numel() for name, p in names.items() if p.requires_grad and name not in frozen)
    if not left:
        raise ValueError("nothing would be left to train")
    for name in frozen:
        names[name].requires_grad_(False)
    return left


def nothing_left_accepted(model, patterns, keep):
    from fnmatch import fnmatchcase

    names = dict(model.named_parameters())
    if not all(any(fnmatchcase(name, pattern) for name in names) for pattern in patterns):
        raise ValueError("a pattern names nothing")
    for name, parameter in names.items():
        if any(fnmatchcase(name, p) for p in patterns) and not any(fnmatchcase(name, p) for p in keep):
            parameter.requires_grad_(False)
    return sum(p.numel() for p in names.values() if p.requires_grad)


def frozen_before_refusing(model, patterns, keep):
    from fnmatch import fnmatchcase

    names = dict(model.named_parameters())
    for pattern in patterns:
        chosen = [name for name in names if fnmatchcase(name, pattern)]
        if not chosen:
            raise ValueError("a pattern names nothing")
        for name in chosen:
            if not any(fnmatchcase(name, p) for p in keep):
                names[name].requires_grad_(False)
    left = sum(p.numel() for p in names.values() if p.requires_grad)
    if not left:
        raise ValueError("nothing is left to train")
    return left


def freeze_by_sets(model, patterns, keep):
    import fnmatch

    names = {name for name, _ in model.named_parameters()}
    found = [set(fnmatch.filter(names, pattern)) for pattern in patterns]
    if not all(found):
        raise ValueError("a pattern names nothing")
    chosen = set().union(*found) - set().union(*(fnmatch.filter(names, pattern) for pattern in keep))
    still = [p for name, p in model.named_parameters() if name not in chosen and p.requires_grad]
    if not still:
        raise ValueError("nothing left")
    for name in chosen:
        model.get_parameter(name).requires_grad = False
    return sum(p.numel() for p in still)


def freeze_and_undo(model, patterns, keep):
    from fnmatch import fnmatchcase

    before = {name: p.requires_grad for name, p in model.named_parameters()}
    used = set()
    for name, parameter in model.named_parameters():
        hits = [pattern for pattern in patterns if fnmatchcase(name, pattern)]
        used.update(hits)
        if hits and not any(fnmatchcase(name, pattern) for pattern in keep):
            parameter.requires_grad = False
    count = sum(p.numel() * p.requires_grad for p in model.parameters())
    if count == 0 or used != set(patterns):
        for name, parameter in model.named_parameters():
            parameter.requires_grad = before[name]
        raise ValueError("refused")
    return count


def freeze_by_expressions(model, patterns, keep):
    import re
    from fnmatch import translate

    frozen = [re.compile(translate(pattern)) for pattern in patterns]
    kept = [re.compile(translate(pattern)) for pattern in keep]
    parameters = list(model.named_parameters())
    if any(all(not rule.match(name) for name, _ in parameters) for rule in frozen):
        raise ValueError
    doomed = [
        (name, p)
        for name, p in parameters
        if any(rule.match(name) for rule in frozen) and not any(rule.match(name) for rule in kept)
    ]
    doomed_names = [name for name, _ in doomed]
    total = sum(p.numel() for name, p in parameters if name not in doomed_names and p.requires_grad is True)
    if total < 1:
        raise ValueError
    nn.ParameterList([p for _, p in doomed]).requires_grad_(False)
    return total


freeze_exercise = Exercise(
    id="transfer_learning.freeze",
    lesson="05_transfer_learning",
    title="Freeze by name, and count what trains",
    answer="freeze",
    criteria=(
        Criterion("what trains", 2),
        Criterion("weights that train", 1, requires=("what trains",)),
        Criterion("refuses", 1),
    ),
    cases=freeze_cases,
    probe=freeze_probe,
    reference=freeze,
    misconceptions=(
        Misconception(
            "head_frozen_too",
            head_frozen_too,
            "You freeze the head as well: `keep` is not looked at. A published course ships this slip; its training "
            "runs, "
            "and learns nothing.",
            "A parameter is frozen where a pattern names it and none of `keep` does.",
        ),
        Misconception(
            "flag_on_the_module",
            flag_on_the_module,
            "Nothing is frozen: `module.requires_grad = False` makes a new attribute on the module, of which no "
            "optimizer "
            "knows. PyTorch says nothing.",
            "Set it on the parameters: parameter.requires_grad_(False), or module.requires_grad_(False) as a call.",
        ),
        Misconception(
            "by_prefix",
            by_prefix,
            "You compare beginnings of names. “blocks.1” also begins “blocks.10”, and “*.bias” is no beginning at all.",
            "fnmatchcase(name, pattern) reads the star as any run of characters.",
        ),
        Misconception(
            "tensors_counted",
            tensors_counted,
            "You count tensors: {got:g} in the case “{case}”. A tensor of weights holds many numbers.",
            "Add up parameter.numel().",
        ),
        Misconception(
            "frozen_counted",
            frozen_counted,
            "You return how many weights are frozen. Asked is how many still train.",
            "Count where parameter.requires_grad is true.",
        ),
        Misconception(
            "others_opened",
            others_opened,
            "You set the flag of every parameter, and so open again what had been frozen before: “{case}”.",
            "Touch only what the patterns name.",
        ),
        Misconception(
            "slips_forgiven",
            slips_forgiven,
            "A pattern that names no parameter passes in silence: “{case}”. A slip of one letter, and a layer trains "
            "that "
            "you believe frozen.",
            "Raise ValueError where a pattern matches nothing.",
        ),
        Misconception(
            "nothing_left_accepted",
            nothing_left_accepted,
            "In the case “{case}” you freeze the last parameter too, and nobody is told. Training will run, and the "
            "accuracy stays at chance.",
            "Count first; raise ValueError where the count is 0.",
        ),
        Misconception(
            "frozen_before_refusing",
            frozen_before_refusing,
            "You refuse, but only after some parameters have been frozen: in the case “{case}” the model is no longer "
            "as "
            "it was.",
            "Look at all patterns and count before the first change.",
        ),
    ),
    variants=(
        Variant("freeze_by_sets", freeze_by_sets),
        Variant("freeze_and_undo", freeze_and_undo),
        Variant("freeze_by_expressions", freeze_by_expressions),
    ),
    forbidden=("course_lib.transfer",),
    hints=(
        "dict(model.named_parameters()) gives the names. Which of them match a pattern, and none of `keep`?",
        "Make a list of what would be frozen, and count what would be left, before you change anything.",
        "left = sum(p.numel() for name, p in names.items() if p.requires_grad and name not in frozen); raise where it "
        "is "
        "0; then requires_grad_(False) for each name in frozen.",
    ),
    minutes=12,
)

# ---------------------------------------------------------------- rates by name


def groups_cases(seed):
    """Two rates, three, a pattern of biases, frozen parts with old gradients, everything at one rate, one left out."""
    rng = np.random.default_rng(seed)

    def case(name, rates, frozen="", decay=0.1):
        return Case(
            name,
            {
                "rates": rates,
                "frozen": frozen,
                "decay": decay,
                "stem": rng.normal(size=(4, 3)),
                "body": rng.normal(size=(4, 4)),
                "head": rng.normal(size=(2, 4)),
                "x": rng.normal(size=(5, 3)),
            },
        )

    yield case("head fast, the rest slow", "head.*=0.1 *=0.01")
    yield case("the stem is frozen, and holds an old gradient", "head.*=0.1 *=0.01", frozen="stem.*")
    yield case("three rates", "stem.*=0.001 body.*=0.01 head.*=0.1", decay=0.0)
    yield case("biases first", "*.bias=0.2 *=0.02")
    yield case("one rate for all", "*=0.05", frozen="body.weight")
    yield case("trunk frozen, only the head has a rate", "head.*=0.3", frozen="stem.* body.*")
    yield case("the body trains, but has no rate", "head.*=0.1 stem.*=0.01")


def groups_probe(candidate, case):
    from collections import OrderedDict
    from fnmatch import fnmatchcase

    import torch
    from torch import nn

    model = nn.Sequential(
        OrderedDict(stem=nn.Linear(3, 4), a=nn.Tanh(), body=nn.Linear(4, 4), b=nn.Tanh(), head=nn.Linear(4, 2))
    ).double()
    with torch.no_grad():
        for name in ("stem", "body", "head"):
            layer = model.get_submodule(name)
            layer.weight.copy_(torch.tensor(case[name]))
            layer.bias.fill_(0.5)
    for name, parameter in model.named_parameters():
        if any(fnmatchcase(name, pattern) for pattern in case["frozen"].split()):
            parameter.requires_grad_(False)
            parameter.grad = torch.ones_like(parameter)  # left over from an earlier step
    rates = {pattern: float(rate) for pattern, _, rate in (pair.partition("=") for pair in case["rates"].split())}
    try:
        groups = candidate(model, rates)
    except ValueError:
        return {"refuses": True}
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.9, weight_decay=case["decay"])
    trainable = [p for p in model.parameters() if p.requires_grad]
    for _ in range(2):
        for parameter in trainable:
            parameter.grad = None
        model(torch.tensor(case["x"])).square().mean().backward()
        optimizer.step()
    rate_of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    return {
        "weights after two steps": torch.cat([p.detach().flatten() for p in model.parameters()]),
        "rate of each parameter": ", ".join(
            f"{name} {rate_of[id(p)]:g}" for name, p in model.named_parameters() if id(p) in rate_of
        ),
        "refuses": False,
    }


def parameter_groups(model, rates):
    """[{"params", "lr"}, …]: each trainable parameter at the rate of the first pattern that names it."""
    members = {pattern: [] for pattern in rates}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            pattern = next((pattern for pattern in rates if fnmatchcase(name, pattern)), None)
            if pattern is None:
                raise ValueError(f"{name} trains, but has no rate")
            members[pattern].append(parameter)
    return [{"params": found, "lr": rates[pattern]} for pattern, found in members.items() if found]


def frozen_included(model, rates):
    from fnmatch import fnmatchcase

    members = {pattern: [] for pattern in rates}
    for name, parameter in model.named_parameters():
        pattern = next((pattern for pattern in rates if fnmatchcase(name, pattern)), None)
        if pattern is None and parameter.requires_grad:
            raise ValueError(name)
        if pattern is not None:
            members[pattern].append(parameter)
    return [{"params": found, "lr": rates[pattern]} for pattern, found in members.items() if found]


def last_pattern_wins(model, rates):
    from fnmatch import fnmatchcase

    members = {pattern: [] for pattern in rates}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            found = [pattern for pattern in rates if fnmatchcase(name, pattern)]
            if not found:
                raise ValueError(name)
            members[found[-1]].append(parameter)
    return [{"params": found, "lr": rates[pattern]} for pattern, found in members.items() if found]


def in_two_groups(model, rates):
    from fnmatch import fnmatchcase

    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if any(not any(fnmatchcase(name, pattern) for pattern in rates) for name in trainable):
        raise ValueError("a parameter has no rate")
    groups = []
    for pattern, rate in rates.items():
        found = [p for name, p in trainable.items() if fnmatchcase(name, pattern)]
        if found:
            groups.append({"params": found, "lr": rate})
    return groups


def no_rate_no_word(model, rates):
    from fnmatch import fnmatchcase

    members = {pattern: [] for pattern in rates}
    for name, parameter in model.named_parameters():
        pattern = next((pattern for pattern in rates if fnmatchcase(name, pattern)), None)
        if parameter.requires_grad and pattern is not None:
            members[pattern].append(parameter)
    return [{"params": found, "lr": rates[pattern]} for pattern, found in members.items() if found]


def key_that_nobody_reads(model, rates):
    from fnmatch import fnmatchcase

    members = {pattern: [] for pattern in rates}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            pattern = next((pattern for pattern in rates if fnmatchcase(name, pattern)), None)
            if pattern is None:
                raise ValueError(name)
            members[pattern].append(parameter)
    return [{"params": found, "learning_rate": rates[pattern]} for pattern, found in members.items() if found]


def first_rate_for_all(model, rates):
    from fnmatch import fnmatchcase

    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if any(not any(fnmatchcase(name, pattern) for pattern in rates) for name in trainable):
        raise ValueError("a parameter has no rate")
    return [{"params": list(trainable.values()), "lr": next(iter(rates.values()))}]


def beginnings_compared(model, rates):
    members = {pattern: [] for pattern in rates}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            pattern = next((p for p in rates if name.startswith(p.split("*")[0] or "stem")), None)
            if pattern is None:
                pattern = list(rates)[-1]
            members[pattern].append(parameter)
    return [{"params": found, "lr": rates[pattern]} for pattern, found in members.items() if found]


def opened_as_well(model, rates):
    from fnmatch import fnmatchcase

    members = {pattern: [] for pattern in rates}
    for name, parameter in model.named_parameters():
        pattern = next((pattern for pattern in rates if fnmatchcase(name, pattern)), None)
        if pattern is None:
            if parameter.requires_grad:
                raise ValueError(name)
            continue
        parameter.requires_grad_(True)
        members[pattern].append(parameter)
    return [{"params": found, "lr": rates[pattern]} for pattern, found in members.items() if found]


def one_group_a_parameter(model, rates):
    from fnmatch import fnmatchcase

    groups = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        for pattern, rate in rates.items():
            if fnmatchcase(name, pattern):
                groups.append({"params": [parameter], "lr": rate})
                break
        else:
            raise ValueError(f"{name} has no rate")
    return groups


def groups_by_taking_away(model, rates):
    import fnmatch

    left = {name: p for name, p in model.named_parameters() if p.requires_grad}
    groups = []
    for pattern, rate in rates.items():
        taken = fnmatch.filter(left, pattern)
        groups.append({"params": [left.pop(name) for name in taken], "lr": rate, "name": pattern})
    if left:
        raise ValueError(f"without a rate: {', '.join(left)}")
    return [group for group in groups if group["params"]]


def groups_backwards(model, rates):
    from fnmatch import fnmatchcase

    rate_of = {}
    for pattern, rate in reversed(list(rates.items())):
        rate_of |= {name: rate for name, _ in model.named_parameters() if fnmatchcase(name, pattern)}
    by_rate = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            if name not in rate_of:
                raise ValueError(name)
            by_rate.setdefault(rate_of[name], []).append(parameter)
    return [{"lr": rate, "params": iter(parameters)} for rate, parameters in by_rate.items()]


groups_exercise = Exercise(
    id="transfer_learning.parameter_groups",
    lesson="05_transfer_learning",
    title="A rate for each part of the net",
    answer="parameter_groups",
    criteria=(
        Criterion("weights after two steps", 2, Close(operations=64)),
        Criterion("rate of each parameter", 1, requires=("weights after two steps",)),
        Criterion("refuses", 1, requires=("weights after two steps",)),
    ),
    cases=groups_cases,
    probe=groups_probe,
    reference=parameter_groups,
    misconceptions=(
        Misconception(
            "frozen_included",
            frozen_included,
            "The optimizer holds frozen parameters. An old gradient, or a momentum left over, still moves them, and "
            "weight "
            "decay with it: in the case “{case}” they did.",
            "Leave out what has requires_grad False.",
        ),
        Misconception(
            "last_pattern_wins",
            last_pattern_wins,
            "Where two patterns name a parameter you take the last. The first one should win, so that “*” at the end "
            "means "
            "the rest.",
            "Stop at the first pattern that matches: next(…).",
        ),
        Misconception(
            "in_two_groups",
            in_two_groups,
            "A parameter stands in two groups, once for each pattern that names it: PyTorch refuses such an optimizer.",
            "Each parameter goes to the first pattern that names it, and to no other.",
        ),
        Misconception(
            "no_rate_no_word",
            no_rate_no_word,
            "In the case “{case}” a parameter that trains is named by no pattern, and you leave it out in silence: it "
            "would never move.",
            "Raise ValueError for it.",
        ),
        Misconception(
            "key_that_nobody_reads",
            key_that_nobody_reads,
            "Every parameter trains at the optimizer's own rate. PyTorch reads the key “lr”, and keeps any other "
            "without a "
            "word.",
            'Each group is {"params": …, "lr": …}.',
        ),
        Misconception(
            "first_rate_for_all",
            first_rate_for_all,
            "All parameters train at the first rate: pretrained layers move as fast as the new head.",
            "Make a group for each pattern.",
        ),
        Misconception(
            "beginnings_compared",
            beginnings_compared,
            "You compare beginnings of names instead of patterns: “*.bias” and “*” have no beginning to compare.",
            "fnmatchcase(name, pattern).",
        ),
        Misconception(
            "opened_as_well",
            opened_as_well,
            "You set requires_grad on everything that has a rate, and so open what was frozen: “{case}”.",
            "Leave the flags as they are; skip what is frozen.",
        ),
    ),
    variants=(
        Variant("one_group_a_parameter", one_group_a_parameter),
        Variant("groups_by_taking_away", groups_by_taking_away),
        Variant("groups_backwards", groups_backwards),
    ),
    forbidden=("course_lib.transfer",),
    hints=(
        "Which parameters should an optimizer never see? Which pattern decides where two fit?",
        "Start with an empty list for each pattern; put each trainable parameter into that of the first pattern that "
        "fnmatchcase accepts.",
        'Return [{"params": list, "lr": rate}, …] for the lists that are not empty; raise ValueError where no pattern '
        "fits.",
    ),
    minutes=12,
)
