"""One Keras initializer for all rules: `VarianceScaling` with the right three arguments. Keras is imported late."""

from __future__ import annotations

import numpy as np

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

RULES = {
    "GlorotUniform": (1.0, "fan_avg", "uniform"),
    "GlorotNormal": (1.0, "fan_avg", "truncated_normal"),
    "HeUniform": (2.0, "fan_in", "uniform"),
    "HeNormal": (2.0, "fan_in", "truncated_normal"),
    "LecunUniform": (1.0, "fan_in", "uniform"),
    "LecunNormal": (1.0, "fan_in", "truncated_normal"),
    "torch xavier_normal_": (1.0, "fan_avg", "untruncated_normal"),
    "torch kaiming_normal_": (2.0, "fan_in", "untruncated_normal"),
    "torch nn.Linear": (1 / 3, "fan_in", "uniform"),
}


def scaling_cases(seed):
    """Every rule once, on kernels whose fans differ."""
    rng = np.random.default_rng(seed)
    for rule in RULES:
        fan_in, fan_out = (int(n) for n in rng.choice(np.arange(6, 40), 2, replace=False))
        inputs = {"rule": rule, "seed": int(rng.integers(1, 10_000)), "fan_in": fan_in, "fan_out": fan_out}
        yield Case(rule, inputs)


def scaling_probe(candidate, case):
    """The weights that the initializer draws for a dense kernel, (fan_in, fan_out) in Keras."""
    from contextlib import suppress

    with suppress(ImportError):
        import triton  # noqa: F401  (torch's optimizers load it, and after TensorFlow that ends the process)
    import keras

    initializer = candidate(case["rule"], case["seed"])
    if not isinstance(initializer, keras.initializers.Initializer):
        raise TypeError(f"{type(initializer).__name__} was returned where a Keras initializer is expected")
    drawn = keras.ops.convert_to_numpy(initializer((case["fan_in"], case["fan_out"])))
    named = "a rule of PyTorch's" if case["rule"].startswith("torch") else "a rule of Keras's"
    return {named: drawn, "it is a VarianceScaling": type(initializer) is keras.initializers.VarianceScaling}


def variance_scaling(rule, seed):
    """VarianceScaling(scale, mode, distribution) that draws as `rule` does."""
    import keras

    scale, mode, distribution = RULES[rule]
    return keras.initializers.VarianceScaling(scale, mode, distribution, seed=seed)


def by_its_name(rule, seed):
    import keras

    if not rule.startswith("torch"):
        return getattr(keras.initializers, rule)(seed=seed)
    scale, mode, distribution = {
        "torch xavier_normal_": (1.0, "fan_avg", "untruncated_normal"),
        "torch kaiming_normal_": (2.0, "fan_in", "untruncated_normal"),
        "torch nn.Linear": (1 / 3, "fan_in", "uniform"),
    }[rule]
    return keras.initializers.VarianceScaling(scale, mode, distribution, seed=seed)


def normal_for_untruncated(rule, seed):
    import keras

    scale = 2.0 if "He" in rule or "kaiming" in rule else 1 / 3 if "Linear" in rule else 1.0
    mode = "fan_avg" if "Glorot" in rule or "xavier" in rule else "fan_in"
    distribution = "uniform" if "Uniform" in rule or "Linear" in rule else "normal"
    return keras.initializers.VarianceScaling(scale, mode, distribution, seed=seed)


def untruncated_for_keras(rule, seed):
    import keras

    scale = 2.0 if "He" in rule or "kaiming" in rule else 1 / 3 if "Linear" in rule else 1.0
    mode = "fan_avg" if "Glorot" in rule or "xavier" in rule else "fan_in"
    distribution = "uniform" if "Uniform" in rule or "Linear" in rule else "untruncated_normal"
    return keras.initializers.VarianceScaling(scale, mode, distribution, seed=seed)


def fan_in_for_glorot(rule, seed):
    import keras

    scale = 2.0 if "He" in rule or "kaiming" in rule else 1 / 3 if "Linear" in rule else 1.0
    distribution = "truncated_normal" if "Normal" in rule else "untruncated_normal"
    distribution = "uniform" if "Uniform" in rule or "Linear" in rule else distribution
    return keras.initializers.VarianceScaling(scale, "fan_in", distribution, seed=seed)


def two_for_glorot(rule, seed):
    import keras

    scale = 1.0 if "Lecun" in rule else 1 / 3 if "Linear" in rule else 2.0
    mode = "fan_avg" if "Glorot" in rule or "xavier" in rule else "fan_in"
    distribution = "truncated_normal" if "Normal" in rule else "untruncated_normal"
    distribution = "uniform" if "Uniform" in rule or "Linear" in rule else distribution
    return keras.initializers.VarianceScaling(scale, mode, distribution, seed=seed)


def fan_avg_for_he(rule, seed):
    import keras

    scale = 2.0 if "He" in rule or "kaiming" in rule else 1 / 3 if "Linear" in rule else 1.0
    mode = "fan_in" if "Lecun" in rule or "Linear" in rule else "fan_avg"
    distribution = "truncated_normal" if "Normal" in rule else "untruncated_normal"
    distribution = "uniform" if "Uniform" in rule or "Linear" in rule else distribution
    return keras.initializers.VarianceScaling(scale, mode, distribution, seed=seed)


def linear_as_lecun(rule, seed):
    import keras

    scale = 2.0 if "He" in rule or "kaiming" in rule else 1.0
    mode = "fan_avg" if "Glorot" in rule or "xavier" in rule else "fan_in"
    distribution = "truncated_normal" if "Normal" in rule else "untruncated_normal"
    distribution = "uniform" if "Uniform" in rule or "Linear" in rule else distribution
    return keras.initializers.VarianceScaling(scale, mode, distribution, seed=seed)


def linear_as_he(rule, seed):
    import keras

    scale = 2.0 if "He" in rule or "kaiming" in rule or "Linear" in rule else 1.0
    mode = "fan_avg" if "Glorot" in rule or "xavier" in rule else "fan_in"
    distribution = "truncated_normal" if "Normal" in rule else "untruncated_normal"
    distribution = "uniform" if "Uniform" in rule or "Linear" in rule else distribution
    return keras.initializers.VarianceScaling(scale, mode, distribution, seed=seed)


def distribution_left_out(rule, seed):
    import keras

    scale = 2.0 if "He" in rule or "kaiming" in rule else 1 / 3 if "Linear" in rule else 1.0
    mode = "fan_avg" if "Glorot" in rule or "xavier" in rule else "fan_in"
    return keras.initializers.VarianceScaling(scale, mode, seed=seed)


def seed_left_out(rule, seed):
    import keras

    scale = 2.0 if "He" in rule or "kaiming" in rule else 1 / 3 if "Linear" in rule else 1.0
    mode = "fan_avg" if "Glorot" in rule or "xavier" in rule else "fan_in"
    distribution = "truncated_normal" if "Normal" in rule else "untruncated_normal"
    distribution = "uniform" if "Uniform" in rule or "Linear" in rule else distribution
    return keras.initializers.VarianceScaling(scale, mode, distribution, seed=1)


def scaling_by_config(rule, seed):
    import keras

    table = {"Glorot": (1.0, "fan_avg"), "He": (2.0, "fan_in"), "Lecun": (1.0, "fan_in")}
    table |= {"torch xavier": (1.0, "fan_avg"), "torch kaiming": (2.0, "fan_in"), "torch nn.": (1 / 3, "fan_in")}
    (scale, mode) = next(value for name, value in table.items() if rule.startswith(name))
    if rule.startswith("torch"):
        distribution = "untruncated_normal" if rule.endswith("normal_") else "uniform"
    else:
        distribution = "uniform" if rule.endswith("Uniform") else "truncated_normal"
    config = {"scale": scale, "mode": mode, "distribution": distribution, "seed": seed}
    return keras.initializers.VarianceScaling.from_config(config)


def scaling_by_match(rule, seed):
    from keras.initializers import VarianceScaling

    match rule:
        case "GlorotUniform" | "GlorotNormal":
            arguments = {"scale": 1, "mode": "fan_avg"}
        case "torch xavier_normal_":
            arguments = {"scale": 2.0 / 2, "mode": "fan_avg", "distribution": "untruncated_normal"}
        case "torch kaiming_normal_":
            arguments = {"scale": 2.0, "distribution": "untruncated_normal"}
        case "HeUniform" | "HeNormal":
            arguments = {"scale": 2.0}
        case "torch nn.Linear":
            arguments = {"scale": 0.5 * 2 / 3, "distribution": "uniform"}
        case _:
            arguments = {}
    if rule.endswith("Uniform"):
        arguments["distribution"] = "uniform"
    return VarianceScaling(seed=seed, **arguments)


def scaling_by_copying(rule, seed):
    import keras

    if not rule.startswith("torch"):
        named = getattr(keras.initializers, rule)()
        return keras.initializers.VarianceScaling(named.scale, named.mode, named.distribution, seed)
    mode = "fan_avg" if "xavier" in rule else "fan_in"
    scale = {"torch xavier_normal_": 1.0, "torch kaiming_normal_": 2.0}.get(rule, 1 / 3)
    distribution = "uniform" if rule == "torch nn.Linear" else "untruncated_normal"
    return keras.initializers.VarianceScaling(scale, mode, distribution, seed)


keras_exercise = Exercise(
    id="initialization.variance_scaling",
    lesson="02_initialization",
    title="Every rule as a VarianceScaling of Keras",
    answer="variance_scaling",
    criteria=(
        Criterion("a rule of Keras's", 1, Close(operations=16), requires=("it is a VarianceScaling",)),
        Criterion("a rule of PyTorch's", 1, Close(operations=16), requires=("it is a VarianceScaling",)),
        Criterion("it is a VarianceScaling", 0),
    ),
    cases=scaling_cases,
    probe=scaling_probe,
    reference=variance_scaling,
    misconceptions=(
        Misconception(
            "by_its_name",
            by_its_name,
            "You return Keras's own class of that name. It draws the right numbers; asked is what stands behind it.",
            "Write each as keras.initializers.VarianceScaling(scale, mode, distribution, seed=seed).",
        ),
        Misconception(
            "normal_for_untruncated",
            normal_for_untruncated,
            'PyTorch\'s normal draws have tails. In Keras distribution="normal" means "truncated_normal": no tails.',
            'Say "untruncated_normal" for PyTorch\'s.',
        ),
        Misconception(
            "untruncated_for_keras",
            untruncated_for_keras,
            "You draw Keras's *Normal rules with tails. GlorotNormal, HeNormal and LecunNormal cut them off at two "
            "deviations.",
            'Use "truncated_normal" for Keras\'s.',
        ),
        Misconception(
            "fan_in_for_glorot",
            fan_in_for_glorot,
            "Glorot's rule divides by the mean of both fans; you divide by fan_in.",
            'mode="fan_avg" for Glorot and xavier_normal_.',
        ),
        Misconception(
            "two_for_glorot",
            two_for_glorot,
            'For Glorot you give the scale 2. With mode="fan_avg" the mean of the fans is taken already, and the '
            "variance 2/(fan_in + fan_out) is 1 over that mean.",
            "scale=1.0 with fan_avg.",
        ),
        Misconception(
            "fan_avg_for_he",
            fan_avg_for_he,
            "For He you divide by the mean of both fans. It is fan_in alone.",
            'mode="fan_in".',
        ),
        Misconception(
            "linear_as_lecun",
            linear_as_lecun,
            "PyTorch's nn.Linear draws uniformly between ±1/√fan_in. You took 1/fan_in for the variance; a uniform "
            "draw on ±b has the variance b²/3.",
            "scale=1/3.",
        ),
        Misconception(
            "linear_as_he",
            linear_as_he,
            "PyTorch's nn.Linear calls kaiming_uniform_, but with a = √5: its variance is 1/(3 fan_in), a sixth of "
            "He's.",
            "scale=1/3.",
        ),
        Misconception(
            "distribution_left_out",
            distribution_left_out,
            "You leave the distribution out. VarianceScaling then draws a truncated normal, whatever the rule.",
            "Name the distribution: uniform, truncated_normal or untruncated_normal.",
        ),
        Misconception(
            "seed_left_out",
            seed_left_out,
            "The weights have another seed than the one that you are given, so they are other numbers of the same "
            "distribution.",
            "Pass seed=seed.",
        ),
    ),
    variants=(
        Variant("scaling_by_config", scaling_by_config),
        Variant("scaling_by_match", scaling_by_match),
        Variant("scaling_by_copying", scaling_by_copying),
    ),
    hints=(
        "The variance is scale / fan. For each rule write down its variance first.",
        "fan_avg is the mean of both fans. Keras's *Normal rules are truncated, PyTorch's are not. nn.Linear draws "
        "between ±1/√fan_in.",
        "Glorot: 1, fan_avg. He: 2, fan_in. LeCun: 1, fan_in. nn.Linear: 1/3, fan_in, uniform. kaiming_normal_ (for "
        "ReLU): 2, fan_in, untruncated_normal.",
    ),
    minutes=10,
)
