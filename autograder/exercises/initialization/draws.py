"""Glorot's and He's draws, uniform and normal, from random numbers that are given; and the gain of a leaky slope."""

from __future__ import annotations

import numpy as np
import torch

from course_lib import initializers

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant


def draw_cases(seed, **more):
    """Fans on both sides of each other, equal ones, a fan of 1, a large layer, float64; `more` fills in by name."""
    rng = np.random.default_rng(seed)

    def case(name, distribution, fan_in, fan_out, dtype=np.float32):
        sample = rng.random((fan_out, min(fan_in, 9))) if distribution == "uniform" else rng.normal(size=(fan_out, 9))
        inputs = {"sample": sample.astype(dtype), "fan_in": fan_in, "fan_out": fan_out, "distribution": distribution}
        return Case(f"{distribution}, {name}", {**inputs, **{key: choose(name) for key, choose in more.items()}})

    for distribution in ("uniform", "normal"):
        yield case("30 → 8", distribution, 30, 8)
        yield case("9 → 25", distribution, 9, 25)
        yield case("16 → 16", distribution, 16, 16)
        yield case("1 → 5", distribution, 1, 5)
        yield case("2000 → 12, float64", distribution, 2000, 12, np.float64)


def glorot_probe(candidate, case):
    import torch

    sample = torch.tensor(case["sample"])
    weight = candidate(sample, case["fan_in"], case["fan_out"], case["distribution"])
    return {case["distribution"]: weight}


def glorot(sample, fan_in, fan_out, distribution):
    """Weights in the sample's shape: the deviation of Glorot's rule, put onto the numbers that were drawn."""
    std = initializers.xavier_deviation(sample, 1.0, initializers.Fans(fan_in, fan_out))
    return std * (sample if distribution == "normal" else np.sqrt(3.0) * (2 * sample - 1))


def bound_is_the_deviation(sample, fan_in, fan_out, distribution):
    std = np.sqrt(2 / (fan_in + fan_out))
    return sample * std if distribution == "normal" else (2 * sample - 1) * std


def deviation_is_the_bound(sample, fan_in, fan_out, distribution):
    bound = np.sqrt(6 / (fan_in + fan_out))
    return sample * bound if distribution == "normal" else (2 * sample - 1) * bound


def root_left_out(sample, fan_in, fan_out, distribution):
    if distribution == "normal":
        return sample * (2 / (fan_in + fan_out))
    return (2 * sample - 1) * (6 / (fan_in + fan_out))


def not_centred(sample, fan_in, fan_out, distribution):
    if distribution == "normal":
        return sample * np.sqrt(2 / (fan_in + fan_out))
    return sample * np.sqrt(6 / (fan_in + fan_out))


def half_as_wide(sample, fan_in, fan_out, distribution):
    if distribution == "normal":
        return sample * np.sqrt(2 / (fan_in + fan_out))
    return (sample - 0.5) * np.sqrt(6 / (fan_in + fan_out))


def fan_in_alone(sample, fan_in, fan_out, distribution):
    if distribution == "normal":
        return sample * np.sqrt(1 / fan_in)
    return (2 * sample - 1) * np.sqrt(3 / fan_in)


def sum_for_the_mean(sample, fan_in, fan_out, distribution):
    if distribution == "normal":
        return sample * np.sqrt(1 / (fan_in + fan_out))
    return (2 * sample - 1) * np.sqrt(3 / (fan_in + fan_out))


def he_for_glorot(sample, fan_in, fan_out, distribution):
    if distribution == "normal":
        return sample * np.sqrt(2 / fan_in)
    return (2 * sample - 1) * np.sqrt(6 / fan_in)


def scaled_by_what_was_drawn(sample, fan_in, fan_out, distribution):
    std = np.sqrt(2 / (fan_in + fan_out))
    return (sample - sample.mean()) / sample.std() * std


def glorot_by_variance(sample, fan_in, fan_out, distribution):
    variance = 1 / ((fan_in + fan_out) / 2)
    if distribution == "uniform":
        bound = (3 * variance) ** 0.5
        return -bound + 2 * bound * sample
    return variance**0.5 * sample


def glorot_in_torch(sample, fan_in, fan_out, distribution):
    std = torch.tensor(2.0, dtype=sample.dtype).div(fan_in + fan_out).sqrt()
    standard = sample if distribution == "normal" else (sample - 0.5) * torch.tensor(12.0, dtype=sample.dtype).sqrt()
    return standard * std


def glorot_by_lerp(sample, fan_in, fan_out, distribution):
    import math

    if distribution == "normal":
        return sample.mul(math.sqrt(2.0 / (fan_in + fan_out)))
    bound = math.sqrt(6.0 / (fan_in + fan_out))
    return torch.lerp(torch.full_like(sample, -bound), torch.full_like(sample, bound), sample)


glorot_exercise = Exercise(
    id="initialization.glorot",
    lesson="02_initialization",
    title="Glorot's draw, uniform and normal",
    answer="glorot",
    criteria=(Criterion("uniform", 1, Close(operations=16)), Criterion("normal", 1, Close(operations=16))),
    cases=draw_cases,
    probe=glorot_probe,
    reference=glorot,
    misconceptions=(
        Misconception(
            "bound_is_the_deviation",
            bound_is_the_deviation,
            "Your uniform numbers end at ± the deviation. A uniform draw between −b and b has the deviation b/√3, so "
            "yours is too narrow: {ratio:.3f} × the right weights.",
            "Multiply the deviation by √3 to get the bound.",
        ),
        Misconception(
            "deviation_is_the_bound",
            deviation_is_the_bound,
            "Your normal draw has the uniform draw's bound for its deviation: its weights are {ratio:.3f} × the right "
            "ones.",
            "√(6/(fan_in + fan_out)) is where the uniform draw ends. The normal draw's deviation is that over √3.",
        ),
        Misconception(
            "root_left_out",
            root_left_out,
            "You multiply by the variance. What is multiplied by c gets c² times the variance, so the factor is the "
            "deviation.",
            "Take the square root.",
        ),
        Misconception(
            "not_centred",
            not_centred,
            "Your uniform weights run from 0 to the bound: all are positive, their mean is not 0. The sample comes "
            "from [0, 1).",
            "Stretch [0, 1) to [−1, 1) first: 2 · sample − 1.",
        ),
        Misconception(
            "half_as_wide",
            half_as_wide,
            "Your uniform weights are centred but half as wide as they should be: sample − ½ runs from −½ to ½.",
            "Stretch [0, 1) to [−1, 1): 2 · sample − 1.",
        ),
        Misconception(
            "fan_in_alone",
            fan_in_alone,
            "Only fan_in sets your scale. That is LeCun's rule, which keeps the signal going forward. Glorot's looks "
            "at the gradients' way back too.",
            "Put the mean of both fans where you have fan_in.",
        ),
        Misconception(
            "sum_for_the_mean",
            sum_for_the_mean,
            "You divide by the sum of the fans, where their mean is meant: your weights are {ratio:.3f} × the right "
            "ones.",
            "1 / ((fan_in + fan_out) / 2) is 2 / (fan_in + fan_out).",
        ),
        Misconception(
            "he_for_glorot",
            he_for_glorot,
            "This is He's rule: fan_in alone, and a factor 2 for ReLU.",
            "Glorot's variance is 2 / (fan_in + fan_out).",
        ),
        Misconception(
            "scaled_by_what_was_drawn",
            scaled_by_what_was_drawn,
            "You standardize the sample that you were given, so this layer's own mean and deviation come out exactly. "
            "A draw may stray from both: the rule is about the distribution.",
            "Use the sample as it is. A uniform one on [0, 1) has mean ½ and deviation 1/√12.",
        ),
    ),
    variants=(
        Variant("glorot_by_variance", glorot_by_variance),
        Variant("glorot_in_torch", glorot_in_torch),
        Variant("glorot_by_lerp", glorot_by_lerp),
    ),
    forbidden=("torch.nn.init", "course_lib.initializers.xavier_deviation"),
    hints=(
        "Which variance does Glorot's rule ask for? And which factor turns numbers of deviation 1 into that?",
        "The normal sample has deviation 1 already. The uniform one lies in [0, 1): move and stretch it to [−1, 1), "
        "which has the deviation 1/√3.",
        "normal: sample · √(2 / (fan_in + fan_out)). uniform: (2 · sample − 1) · √(6 / (fan_in + fan_out)).",
    ),
    minutes=10,
)

# ---------------------------------------------------------------- the gain of a leaky slope


def gain_cases(seed):
    """ReLU, no bend at all, the usual leak, steep ones, a negative slope (the absolute value), one drawn."""
    slopes = {"ReLU": 0.0, "linear": 1.0, "leaky ReLU": 0.01, "RReLU's mean": 0.25, "PyTorch's √5": 5**0.5, "|z|": -1.0}
    for name, slope in slopes.items():
        yield Case(f"{name}, slope {slope:.3g}", {"slope": slope})
    drawn = float(np.random.default_rng(seed).uniform(0.3, 0.9))
    yield Case("a drawn slope", {"slope": drawn})


def gain_probe(candidate, case):
    import torch

    return {"gain": torch.as_tensor(candidate(case["slope"]), dtype=torch.float32)}


def leaky_gain(slope):
    """√(2 / (1 + slope²)): PyTorch's table."""
    return initializers.gain("leaky_relu", slope)


def always_relu(slope):
    return 2**0.5


def slope_not_squared(slope):
    return (2 / (1 + abs(slope))) ** 0.5


def gain_squared(slope):
    return 2 / (1 + slope**2)


def turned_over(slope):
    return ((1 + slope**2) / 2) ** 0.5


def two_left_out(slope):
    return (1 / (1 + slope**2)) ** 0.5


def mean_instead_of_mean_square(slope):
    return 2 / (1 + slope) if slope != -1 else 2.0


def minus_slope(slope):
    return (2 / abs(1 - slope**2)) ** 0.5 if abs(slope) != 1 else 2**0.5


def root_of_two_alone(slope):
    return 2**0.5 / (1 + slope**2)


def gain_by_numpy(slope):
    return np.sqrt(2.0) / np.sqrt(1.0 + np.square(slope))


def gain_by_halves(slope):
    import math

    kept = 0.5 + 0.5 * slope * slope  # E[f(z)²]: the positive half as it is, the negative one times slope
    return 1 / math.sqrt(kept)


def gain_by_hypot(slope):
    import math

    return math.sqrt(2) / math.hypot(1, slope)


gain_exercise = Exercise(
    id="initialization.gain",
    lesson="02_initialization",
    title="The gain of a leaky slope",
    answer="leaky_gain",
    criteria=(Criterion("gain", 1, Close(operations=16)),),
    cases=gain_cases,
    probe=gain_probe,
    reference=leaky_gain,
    misconceptions=(
        Misconception(
            "always_relu",
            always_relu,
            "You return √2 for every slope. That is right for a slope of 0 alone: a leaky unit lets a part of the "
            "negative half through, so it needs less.",
            "How much of the mean square does the negative half keep?",
        ),
        Misconception(
            "slope_not_squared",
            slope_not_squared,
            "The slope enters as it is. What is multiplied by a has a² times the mean square.",
            "Square the slope.",
        ),
        Misconception(
            "gain_squared",
            gain_squared,
            "This is the factor on the weights' variance. The gain is the factor on their deviation.",
            "Take the square root.",
        ),
        Misconception(
            "turned_over",
            turned_over,
            "This is what the unit leaves of the signal. The gain has to make up for it.",
            "Return the inverse.",
        ),
        Misconception(
            "two_left_out",
            two_left_out,
            "The 2 is missing: your gain is {ratio:.3f} × the right one. For a slope of 1 nothing is lost, so the gain "
            "has to be 1 there.",
            "Each half of the values counts ½: (1 + slope²) / 2 is kept.",
        ),
        Misconception(
            "mean_instead_of_mean_square",
            mean_instead_of_mean_square,
            "You keep the mean of the outputs. What the next layer's variance is made of is their mean square.",
            "Average the squares: ½ · 1 + ½ · slope².",
        ),
        Misconception(
            "minus_slope",
            minus_slope,
            "The sign before slope² is wrong: both halves add to the mean square.",
            "1 + slope².",
        ),
        Misconception(
            "root_of_two_alone",
            root_of_two_alone,
            "The root covers the 2 alone; 1 + slope² belongs under it too.",
            "√(2 / (1 + slope²)).",
        ),
    ),
    variants=(
        Variant("gain_by_numpy", gain_by_numpy),
        Variant("gain_by_halves", gain_by_halves),
        Variant("gain_by_hypot", gain_by_hypot),
    ),
    forbidden=("torch.nn.init", "course_lib.initializers.gain", "course_lib.initializers.moment_gain"),
    hints=(
        "z is as often positive as negative, and both halves have the same mean square. What happens to each?",
        "The positive half passes, the negative half is multiplied by the slope, its square by slope². So the share "
        "(1 + slope²) / 2 of the mean square is left.",
        "The gain makes up for it: it is one over the root of what is left.",
    ),
    minutes=5,
)

# ---------------------------------------------------------------- He


def he_cases(seed):
    """The draws' cases, each with a slope: ReLU, the usual leak and others."""
    drawn = float(np.random.default_rng(seed).uniform(0.2, 0.8))
    slopes = {"30 → 8": 0.0, "9 → 25": drawn, "16 → 16": 0.01, "1 → 5": 0.0, "2000 → 12, float64": 0.3}
    return draw_cases(seed, slope=slopes.__getitem__)


def he_probe(candidate, case):
    import torch

    sample = torch.tensor(case["sample"])
    weight = candidate(sample, case["fan_in"], case["fan_out"], case["slope"], case["distribution"])
    return {case["distribution"]: weight}


def he(sample, fan_in, fan_out, slope, distribution):
    """gain(slope) / √fan_in is the deviation; the sample's shape and dtype."""
    std = initializers.kaiming_deviation(sample, slope, "fan_in", "leaky_relu", initializers.Fans(fan_in, fan_out))
    return std * (sample if distribution == "normal" else np.sqrt(3.0) * (2 * sample - 1))


def he_by_fan_out(sample, fan_in, fan_out, slope, distribution):
    std = np.sqrt(2 / (1 + slope**2) / fan_out)
    return sample * std if distribution == "normal" else (2 * sample - 1) * np.sqrt(3) * std


def he_bound_is_the_deviation(sample, fan_in, fan_out, slope, distribution):
    std = np.sqrt(2 / (1 + slope**2) / fan_in)
    return sample * std if distribution == "normal" else (2 * sample - 1) * std


def he_deviation_is_the_bound(sample, fan_in, fan_out, slope, distribution):
    bound = np.sqrt(6 / (1 + slope**2) / fan_in)
    return sample * bound if distribution == "normal" else (2 * sample - 1) * bound


def he_by_both_fans(sample, fan_in, fan_out, slope, distribution):
    std = np.sqrt(2 / (1 + slope**2)) * np.sqrt(2 / (fan_in + fan_out))
    return sample * std if distribution == "normal" else (2 * sample - 1) * np.sqrt(3) * std


def he_without_the_slope(sample, fan_in, fan_out, slope, distribution):
    std = np.sqrt(2 / fan_in)
    return sample * std if distribution == "normal" else (2 * sample - 1) * np.sqrt(3) * std


def he_without_a_gain(sample, fan_in, fan_out, slope, distribution):
    std = np.sqrt(1 / fan_in)
    return sample * std if distribution == "normal" else (2 * sample - 1) * np.sqrt(3) * std


def he_variance(sample, fan_in, fan_out, slope, distribution):
    variance = 2 / (1 + slope**2) / fan_in
    return sample * variance if distribution == "normal" else (2 * sample - 1) * 3 * variance


def he_not_centred(sample, fan_in, fan_out, slope, distribution):
    std = np.sqrt(2 / (1 + slope**2) / fan_in)
    return sample * std if distribution == "normal" else sample * np.sqrt(3) * std


def he_gain_twice(sample, fan_in, fan_out, slope, distribution):
    std = 2 / (1 + slope**2) / np.sqrt(fan_in)
    return sample * std if distribution == "normal" else (2 * sample - 1) * np.sqrt(3) * std


def he_by_bounds(sample, fan_in, fan_out, slope, distribution):
    if distribution == "uniform":
        bound = (6 / ((1 + slope**2) * fan_in)) ** 0.5
        return sample * (2 * bound) - bound
    return sample * (2 / ((1 + slope**2) * fan_in)) ** 0.5


def he_by_standard(sample, fan_in, fan_out, slope, distribution):
    standard = {"normal": sample, "uniform": (sample - 0.5) * 12**0.5}[distribution]
    return standard.mul(2**0.5).div((1 + slope * slope) ** 0.5).div(fan_in**0.5)


def he_in_double(sample, fan_in, fan_out, slope, distribution):
    wide = sample.double()
    standard = wide if distribution == "normal" else wide.mul(2).sub(1).mul(3**0.5)
    return (standard * np.sqrt(2 / fan_in / (1 + slope**2))).to(sample.dtype)


he_exercise = Exercise(
    id="initialization.he",
    lesson="02_initialization",
    title="He's draw, for ReLU and leaky ReLU",
    answer="he",
    criteria=(Criterion("uniform", 1, Close(operations=16)), Criterion("normal", 1, Close(operations=16))),
    cases=he_cases,
    probe=he_probe,
    reference=he,
    misconceptions=(
        Misconception(
            "he_by_fan_out",
            he_by_fan_out,
            "fan_out sets your scale. That keeps the gradients' size on the way back; asked is the form that keeps "
            "the signal's, with fan_in.",
            "Divide by fan_in: how many terms does one output sum up?",
        ),
        Misconception(
            "he_bound_is_the_deviation",
            he_bound_is_the_deviation,
            "Your uniform numbers end at ± the deviation: {ratio:.3f} × the right weights. Uniform on ±b has the "
            "deviation b/√3.",
            "Multiply the deviation by √3 to get the bound.",
        ),
        Misconception(
            "he_deviation_is_the_bound",
            he_deviation_is_the_bound,
            "Your normal draw has the uniform draw's bound for its deviation: {ratio:.3f} × the right weights.",
            "With 6 under the root it is the bound, with 2 the deviation.",
        ),
        Misconception(
            "he_by_both_fans",
            he_by_both_fans,
            "You take the mean of both fans, as Glorot does. He's rule keeps the signal going forward: fan_in alone.",
            "Divide by fan_in.",
        ),
        Misconception(
            "he_without_the_slope",
            he_without_the_slope,
            "The slope changes nothing: in the case “{case}” the unit lets a part of the negative half pass, so it "
            "needs less than √2.",
            "Use your leaky_gain(slope).",
        ),
        Misconception(
            "he_without_a_gain",
            he_without_a_gain,
            "There is no gain: 1/√fan_in is right where nothing bends the signal. A ReLU removes half of its mean "
            "square.",
            "Multiply by your leaky_gain(slope).",
        ),
        Misconception(
            "he_variance",
            he_variance,
            "You multiply by the variance instead of by the deviation.",
            "Take the square root of gain² / fan_in (for the uniform draw of 3 · gain² / fan_in).",
        ),
        Misconception(
            "he_not_centred",
            he_not_centred,
            "Your uniform weights are all positive: the sample comes from [0, 1).",
            "Stretch [0, 1) to [−1, 1) first: 2 · sample − 1.",
        ),
        Misconception(
            "he_gain_twice",
            he_gain_twice,
            "The gain is squared: gain² / √fan_in. Under one root both belong together, gain² / fan_in; outside it is "
            "gain / √fan_in.",
            "Square both or neither.",
        ),
    ),
    variants=(
        Variant("he_by_bounds", he_by_bounds),
        Variant("he_by_standard", he_by_standard),
        Variant("he_in_double", he_in_double),
    ),
    forbidden=("torch.nn.init", "course_lib.initializers.gain", "course_lib.initializers.kaiming_deviation"),
    hints=(
        "Which deviation would keep the signal if nothing bent it? And what does the bend take away?",
        "Without a bend 1/√fan_in. The gain of the exercise before makes up for the bend.",
        "deviation = leaky_gain(slope) / √fan_in; normal: sample · deviation, uniform: (2 · sample − 1) · √3 · "
        "deviation.",
    ),
    minutes=8,
)
