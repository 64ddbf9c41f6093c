"""Draws that need a correction: the normal without its tails, and the orthogonal matrix of a QR decomposition."""

from __future__ import annotations

import numpy as np
import torch

from course_lib import initializers

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

# ---------------------------------------------------------------- the truncated normal


def truncated_cases(seed):
    """The usual cut at 2, cuts on both sides of it, a nearly uniform one, one that cuts nothing, float64."""
    rng = np.random.default_rng(seed)

    def case(name, cutoff, std, dtype=np.float32):
        z = rng.normal(size=4000)
        z = z[np.abs(z) < cutoff][:60]
        return Case(name, {"z": z.astype(dtype), "std": std, "cutoff": cutoff})

    yield case("cut at 2, deviation 0.1", 2.0, 0.1)
    yield case("cut at 1, deviation 0.5", 1.0, 0.5)
    yield case("cut at 3, deviation 2", 3.0, 2.0)
    yield case("cut at 0.3, deviation 1", 0.3, 1.0)
    yield case("cut at 8, deviation 0.02", 8.0, 0.02)
    yield case("float64, cut at a drawn place", float(rng.uniform(1.2, 1.8)), 0.3, np.float64)


def truncated_probe(candidate, case):
    import torch

    z = torch.tensor(case["z"])
    deviation, weight = candidate(z, case["std"], case["cutoff"])
    return {"deviation after the cut": torch.as_tensor(deviation, dtype=torch.float32), "weights": weight}


def truncated(z, std, cutoff):
    """(d, weights): d is the deviation of the normal cut at ± cutoff; z · std / d has the deviation std."""
    d = initializers.truncated_deviation(cutoff)
    return d, z * (std / d)


def cut_not_corrected(z, std, cutoff):
    return 1.0, z * std


def corrected_the_wrong_way(z, std, cutoff):
    density = np.exp(-(cutoff**2) / 2) / np.sqrt(2 * np.pi)
    inside = float(torch.erf(torch.tensor(cutoff / 2**0.5, dtype=torch.float64)))
    d = float(np.sqrt(1 - 2 * cutoff * density / inside))
    return d, z * std * d


def variance_for_deviation(z, std, cutoff):
    density = np.exp(-(cutoff**2) / 2) / np.sqrt(2 * np.pi)
    inside = float(torch.erf(torch.tensor(cutoff / 2**0.5, dtype=torch.float64)))
    d = float(1 - 2 * cutoff * density / inside)
    return d, z * (std / d)


def one_tail_inside(z, std, cutoff):
    density = np.exp(-(cutoff**2) / 2) / np.sqrt(2 * np.pi)
    below = (1 + float(torch.erf(torch.tensor(cutoff / 2**0.5, dtype=torch.float64)))) / 2
    d = float(np.sqrt(1 - 2 * cutoff * density / below))
    return d, z * (std / d)


def erf_without_root_two(z, std, cutoff):
    density = np.exp(-(cutoff**2) / 2) / np.sqrt(2 * np.pi)
    inside = float(torch.erf(torch.tensor(cutoff, dtype=torch.float64)))
    d = float(np.sqrt(max(1 - 2 * cutoff * density / inside, 1e-12)))
    return d, z * (std / d)


def two_forgotten(z, std, cutoff):
    density = np.exp(-(cutoff**2) / 2) / np.sqrt(2 * np.pi)
    inside = float(torch.erf(torch.tensor(cutoff / 2**0.5, dtype=torch.float64)))
    d = float(np.sqrt(1 - cutoff * density / inside))
    return d, z * (std / d)


def share_forgotten(z, std, cutoff):
    density = np.exp(-(cutoff**2) / 2) / np.sqrt(2 * np.pi)
    d = float(np.sqrt(1 - 2 * cutoff * density))
    return d, z * (std / d)


def cut_always_at_two(z, std, cutoff):
    d = 0.87962566103423978
    return d, z * (std / d)


def corrected_by_the_sample(z, std, cutoff):
    d = float(z.double().std())
    return d, z * (std / d)


def truncated_by_distribution(z, std, cutoff):
    normal = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)
    c = torch.tensor(cutoff, dtype=torch.float64)
    share = 2 * normal.cdf(c) - 1
    d = (1 - 2 * c * normal.log_prob(c).exp() / share).sqrt()
    return d, z * (std / d.item())


def truncated_by_integral(z, std, cutoff):
    nodes, weights = np.polynomial.legendre.leggauss(200)
    x = cutoff * nodes
    density = weights * np.exp(-(x**2) / 2)
    d = float(np.sqrt((x**2 * density).sum() / density.sum()))
    return d, (z / d) * std


def truncated_by_math(z, std, cutoff):
    import math

    share = math.erf(cutoff / math.sqrt(2))
    lost = cutoff * math.sqrt(2 / math.pi) * math.exp(-cutoff * cutoff / 2) / share
    d = math.sqrt(1 - lost)
    return torch.tensor(d), z.div(d).mul(std)


truncated_exercise = Exercise(
    id="initialization.truncated_normal",
    lesson="02_initialization",
    title="The normal without its tails, corrected",
    answer="truncated",
    criteria=(
        Criterion("deviation after the cut", 1, Close(operations=256)),  # 1 − … loses digits for a narrow cut
        Criterion("weights", 1, Close(operations=256), requires=("deviation after the cut",)),
    ),
    cases=truncated_cases,
    probe=truncated_probe,
    reference=truncated,
    misconceptions=(
        Misconception(
            "cut_not_corrected",
            cut_not_corrected,
            "You multiply by std as if nothing had been cut off. Without its tails the normal's deviation is below 1 "
            "({expected:.3f} in the case “{case}”), so your weights come out too small. PyTorch's trunc_normal_ leaves "
            "them so.",
            "Compute the deviation d after the cut, and multiply by std / d.",
        ),
        Misconception(
            "corrected_the_wrong_way",
            corrected_the_wrong_way,
            "You multiply by the deviation that is left, instead of dividing: weights that were too small become "
            "smaller still.",
            "z / d has the deviation 1.",
        ),
        Misconception(
            "variance_for_deviation",
            variance_for_deviation,
            "What you return is the variance after the cut.",
            "Take its square root.",
        ),
        Misconception(
            "one_tail_inside",
            one_tail_inside,
            "You divide by Φ(c), the share below c. Both tails are gone: the share that is left is 2Φ(c) − 1.",
            "Use erf(c / √2), which is 2Φ(c) − 1.",
        ),
        Misconception(
            "erf_without_root_two",
            erf_without_root_two,
            "You use erf(c). The share of a standard normal between −c and c is erf(c / √2).",
            "Divide c by √2 inside erf.",
        ),
        Misconception(
            "two_forgotten",
            two_forgotten,
            "One side of the cut is missing: the factor 2 before c · φ(c).",
            "1 − 2c φ(c) / (2Φ(c) − 1).",
        ),
        Misconception(
            "share_forgotten",
            share_forgotten,
            "You don't divide by the share that is left. The densities inside the cut no longer add up to 1.",
            "Divide 2c φ(c) by 2Φ(c) − 1.",
        ),
        Misconception(
            "cut_always_at_two",
            cut_always_at_two,
            "You use the constant for a cut at 2, the one that Keras has in its source. In the case “{case}” the cut "
            "is elsewhere.",
            "Compute it from cutoff.",
        ),
        Misconception(
            "corrected_by_the_sample",
            corrected_by_the_sample,
            "You divide by the deviation of the numbers that were drawn. The rule is about the distribution; a sample "
            "of few strays.",
            "Use the formula.",
        ),
    ),
    variants=(
        Variant("truncated_by_distribution", truncated_by_distribution),
        Variant("truncated_by_integral", truncated_by_integral),
        Variant("truncated_by_math", truncated_by_math),
    ),
    forbidden=("torch.nn.init", "course_lib.initializers.truncated_deviation"),
    hints=(
        "The largest values are gone. Is the deviation of what is left above or below 1?",
        "φ(c) = exp(−c²/2) / √(2π), and 2Φ(c) − 1 = erf(c / √2): math.erf computes it.",
        "d = √(1 − 2c φ(c) / erf(c / √2)); return d, z * (std / d).",
    ),
    minutes=10,
)

# ---------------------------------------------------------------- orthogonal


def orthogonal_cases(seed):
    """Tall, wide and square matrices, a convolution's kernel, gains, float32."""
    rng = np.random.default_rng(seed)

    def case(name, shape, gain, dtype=np.float64):
        rows, columns = shape[0], int(np.prod(shape[1:]))
        turn = np.linalg.qr(rng.normal(size=(max(rows, columns),) * 2))[0]
        inputs = {"gaussian": rng.normal(size=shape).astype(dtype), "gain": gain, "turn": turn.astype(dtype)}
        return Case(name, inputs)

    yield case("8 × 3, more outputs than inputs", (8, 3), 1.0)
    yield case("4 × 9, more inputs than outputs", (4, 9), 1.0)
    yield case("5 × 5", (5, 5), 1.0)
    yield case("a convolution, 4 × 2 × 3 × 3, gain √2", (4, 2, 3, 3), float(np.sqrt(2)))
    yield case("a convolution, 20 × 2 × 2 × 2, gain 0.5", (20, 2, 2, 2), 0.5)
    yield case("20 × 4, float32, gain 3", (20, 4), 3.0, np.float32)


def orthogonal_probe(candidate, case):
    """Two things that no wrong answer has: orthonormal rows (or columns), and that it turns with the matrix drawn."""
    import torch

    gaussian, turn = torch.tensor(case["gaussian"]), torch.tensor(case["turn"])
    rows, columns = gaussian.shape[0], gaussian[0].numel()

    def result(matrix):
        weight = candidate(matrix.reshape(gaussian.shape).clone(), case["gain"])
        if weight.shape != gaussian.shape:
            raise TypeError(f"the result has the shape {tuple(weight.shape)}, asked is {tuple(gaussian.shape)}")
        return weight.detach().reshape(rows, columns)

    flat = gaussian.reshape(rows, columns)
    weight = result(flat)
    turns = []
    if rows >= columns:
        turns.append(torch.allclose(result(turn @ flat), turn @ weight, atol=1e-3))
    if rows <= columns:
        turns.append(torch.allclose(result(flat @ turn), weight @ turn, atol=1e-3))
    gram = weight.T @ weight if rows >= columns else weight @ weight.T
    return {"products of rows (or columns)": gram, "turns with the draw": any(turns)}


def orthogonal(gaussian, gain):
    """gain · the Q of the QR decomposition, R's diagonal made positive; wide kernels by their transpose."""
    rows = gaussian.shape[0]
    flat = gaussian.reshape(rows, -1)
    q, r = torch.linalg.qr(flat.T if rows < flat.shape[1] else flat)
    q = q * torch.where(r.diagonal() < 0, -1.0, 1.0).to(q)
    return gain * (q.T if rows < flat.shape[1] else q).reshape(gaussian.shape)


def signs_left(gaussian, gain):
    flat = gaussian.flatten(1)
    wide = flat.shape[0] < flat.shape[1]
    q, _ = torch.linalg.qr(flat.T if wide else flat)
    return gain * (q.T if wide else q).reshape(gaussian.shape)


def signs_by_row(gaussian, gain):
    flat = gaussian.flatten(1)
    wide = flat.shape[0] < flat.shape[1]
    q, r = torch.linalg.qr(flat.T if wide else flat)
    q = r.diagonal().sign()[:, None] * q
    return gain * (q.T if wide else q).reshape(gaussian.shape)


def wide_not_turned(gaussian, gain):
    flat = gaussian.flatten(1)
    q, r = torch.linalg.qr(flat)
    q = q * r.diagonal().sign()
    return gain * q.reshape(gaussian.shape)


def all_axes_but_the_last_are_rows(gaussian, gain):
    flat = gaussian.reshape(-1, gaussian.shape[-1])
    wide = flat.shape[0] < flat.shape[1]
    q, r = torch.linalg.qr(flat.T if wide else flat)
    q = q * r.diagonal().sign()
    return gain * (q.T if wide else q).reshape(gaussian.shape)


def gain_left_out(gaussian, gain):
    flat = gaussian.flatten(1)
    wide = flat.shape[0] < flat.shape[1]
    q, r = torch.linalg.qr(flat.T if wide else flat)
    q = q * r.diagonal().sign()
    return (q.T if wide else q).reshape(gaussian.shape)


def gain_under_a_root(gaussian, gain):
    flat = gaussian.flatten(1)
    wide = flat.shape[0] < flat.shape[1]
    q, r = torch.linalg.qr(flat.T if wide else flat)
    q = q * r.diagonal().sign()
    return gain**0.5 * (q.T if wide else q).reshape(gaussian.shape)


def rows_of_length_one(gaussian, gain):
    flat = gaussian.flatten(1)
    axis = 1 if flat.shape[0] <= flat.shape[1] else 0
    return gain * (flat / flat.norm(dim=axis, keepdim=True)).reshape(gaussian.shape)


def scaled_by_the_diagonal(gaussian, gain):
    flat = gaussian.flatten(1)
    wide = flat.shape[0] < flat.shape[1]
    q, r = torch.linalg.qr(flat.T if wide else flat)
    q = q * r.diagonal()
    return gain * (q.T if wide else q).reshape(gaussian.shape)


def the_same_every_time(gaussian, gain):
    flat = gaussian.flatten(1)
    return gain * torch.eye(*flat.shape, dtype=flat.dtype).reshape(gaussian.shape)


def orthogonal_by_polar(gaussian, gain):
    flat = gaussian.flatten(1)
    u, _, vh = torch.linalg.svd(flat, full_matrices=False)
    return (gain * (u @ vh)).reshape(gaussian.shape)


def orthogonal_by_gram_schmidt(gaussian, gain):
    flat = gaussian.double().flatten(1)
    wide = flat.shape[0] < flat.shape[1]
    columns = []
    for vector in (flat if wide else flat.T).unbind():
        for _ in range(2):
            for done in columns:
                vector = vector - (vector @ done) * done
        columns.append(vector / vector.norm())
    q = torch.stack(columns)
    return (gain * (q if wide else q.T)).reshape(gaussian.shape).to(gaussian.dtype)


def orthogonal_by_numpy(gaussian, gain):
    flat = gaussian.reshape(len(gaussian), -1).numpy()
    tall = flat if flat.shape[0] >= flat.shape[1] else flat.T
    q, r = np.linalg.qr(tall)
    q = q @ np.diag(np.sign(np.diag(r)))
    q = q if flat.shape[0] >= flat.shape[1] else q.T
    return torch.as_tensor(gain * q.reshape(gaussian.shape), dtype=gaussian.dtype)


orthogonal_exercise = Exercise(
    id="initialization.orthogonal",
    lesson="02_initialization",
    title="An orthogonal kernel of any shape",
    answer="orthogonal",
    criteria=(
        Criterion("products of rows (or columns)", 1, Close(operations=256)),
        Criterion("turns with the draw", 1, requires=("products of rows (or columns)",)),
    ),
    cases=orthogonal_cases,
    probe=orthogonal_probe,
    reference=orthogonal,
    misconceptions=(
        Misconception(
            "signs_left",
            signs_left,
            "Your matrix is orthogonal, but not evenly random. QR routines choose the signs of R's diagonal by a rule "
            "of their own, so some directions come more often than others: turn the matrix that was drawn, and your "
            "result does not turn with it.",
            "Multiply each column of Q by the sign of R's diagonal entry.",
        ),
        Misconception(
            "signs_by_row",
            signs_by_row,
            "The signs go to the rows of Q. Each entry of R's diagonal belongs to a column of Q; for a matrix that is "
            "not square the lengths don't even fit.",
            "q * r.diagonal().sign(): broadcasting runs along the last axis, the columns.",
        ),
        Misconception(
            "wide_not_turned",
            wide_not_turned,
            "With fewer rows than columns, QR gives a Q that is square, not of the kernel's shape.",
            "Decompose the transpose, and transpose Q back.",
        ),
        Misconception(
            "all_axes_but_the_last_are_rows",
            all_axes_but_the_last_are_rows,
            "For a convolution you take the last axis for the columns. That fits Keras's layout; in PyTorch's the "
            "first axis is the outputs, and all others together are the inputs.",
            "flatten(1) gives the matrix (out, in · field).",
        ),
        Misconception(
            "gain_left_out",
            gain_left_out,
            "The gain changes nothing.",
            "Multiply the result by gain.",
        ),
        Misconception(
            "gain_under_a_root",
            gain_under_a_root,
            "You multiply by √gain. The gain is a factor on the weights themselves, as in the other rules.",
            "Multiply by gain.",
        ),
        Misconception(
            "rows_of_length_one",
            rows_of_length_one,
            "Your rows (or columns) have length 1 but are not at right angles: their products are not 0.",
            "Use torch.linalg.qr.",
        ),
        Misconception(
            "scaled_by_the_diagonal",
            scaled_by_the_diagonal,
            "You multiply the columns by R's diagonal itself; they lose their length 1.",
            "Its sign alone: r.diagonal().sign().",
        ),
        Misconception(
            "the_same_every_time",
            the_same_every_time,
            "You return the same matrix whatever was drawn.",
            "Decompose the matrix that you are given.",
        ),
    ),
    variants=(
        Variant("orthogonal_by_polar", orthogonal_by_polar),
        Variant("orthogonal_by_gram_schmidt", orthogonal_by_gram_schmidt),
        Variant("orthogonal_by_numpy", orthogonal_by_numpy),
    ),
    forbidden=("torch.nn.init",),
    hints=(
        "Turn the kernel into a matrix with one row for each output. Which of rows and columns are fewer? Those can be "
        "orthonormal.",
        "torch.linalg.qr(m) needs at least as many rows as columns: give it the transpose otherwise. Then look at the "
        "signs of r.diagonal().",
        "q, r = torch.linalg.qr(m); q = q * r.diagonal().sign(); transpose back; reshape to the kernel; times gain.",
    ),
    minutes=15,
)
