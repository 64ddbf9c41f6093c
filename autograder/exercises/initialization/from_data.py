"""What the data say about the start: layer-sequential unit variance, and the output's bias from the class shares."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from course_lib import initializers

from ...exercise import Case, Close, Criterion, Exercise, Misconception, Variant

# ---------------------------------------------------------------- LSUV


def lsuv_cases(seed):
    """Dense nets of several activations and a conv net, weights too large and too small; a small batch."""
    rng = np.random.default_rng(seed)

    def case(name, act, scale, rows=64, conv=False, shift=0.5):
        shapes = [(6, 2, 3, 3), (8, 6, 3, 3), (5, 8 * 2 * 2)] if conv else [(24, 12), (16, 24), (7, 16)]
        x = rng.normal(shift, 1.0, (rows, 2, 6, 6) if conv else (rows, 12))
        inputs = {"act": act, "conv": conv, "x": x.astype(np.float32)}
        for k, shape in enumerate(shapes):
            inputs[f"weight {k}"] = (rng.normal(size=shape) * scale / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        return Case(name, inputs)

    yield case("ReLU, weights as drawn", "relu", 1.0)
    yield case("tanh, weights ten times too large", "tanh", 10.0)
    yield case("sigmoid, weights a tenth as large", "sigmoid", 0.1)
    yield case("ReLU, data far from 0", "relu", 0.5, shift=3.0)
    yield case("a conv net", "relu", 0.3, rows=16, conv=True)
    yield case("tanh, eight rows", "tanh", 3.0, rows=8)


def lsuv_probe(candidate, case):
    import torch
    from torch import nn

    act = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}[case["act"]]
    shapes = [case[f"weight {k}"].shape for k in range(3)]
    layers = [nn.Conv2d(s[1], s[0], s[2:]) if len(s) == 4 else nn.Linear(s[1], s[0]) for s in shapes]
    with torch.no_grad():
        for k, layer in enumerate(layers):
            layer.weight.copy_(torch.tensor(case[f"weight {k}"]))
            layer.bias.zero_()
    body = [layers[0], act(), layers[1], act()] + [nn.Flatten()] * case["conv"] + [layers[2]]
    net = nn.Sequential(*body)
    x = torch.tensor(case["x"])
    candidate(net, x)
    outputs = {}
    for k, layer in enumerate(layers):
        outputs[("first", "second", "last")[k] + " layer's weights"] = layer.weight.detach()
    outputs["biases and data as before"] = all(not layer.bias.any() for layer in layers) and torch.equal(
        x, torch.tensor(case["x"])
    )
    return outputs


def lsuv(net, x):
    """Divide each layer's weights by the deviation of its output on x, one layer after another. Works in place."""
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.weight /= layer(x).var(correction=0).sqrt()
            x = layer(x)


def divided_by_the_variance(net, x):
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.weight /= layer(x).var(correction=0)
            x = layer(x)


def all_measured_first(net, x):
    with torch.no_grad():
        found = []
        for layer in net:
            x = layer(x)
            if isinstance(layer, nn.Linear | nn.Conv2d):
                found.append((layer, x.var(correction=0).sqrt()))
        for layer, std in found:
            layer.weight /= std


def old_output_handed_on(net, x):
    with torch.no_grad():
        for layer in net:
            out = layer(x)
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.weight /= out.std(correction=0) * x.std(correction=0)
            x = out


def measured_after_the_activation(net, x):
    with torch.no_grad():
        layers = list(net)
        for k, layer in enumerate(layers):
            if isinstance(layer, nn.Linear | nn.Conv2d):
                after = layer(x)
                if k + 1 < len(layers) and not isinstance(layers[k + 1], nn.Flatten):
                    after = layers[k + 1](after)
                layer.weight /= after.std(correction=0)
            x = layer(x)


def unit_by_unit(net, x):
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.Linear | nn.Conv2d):
                out = layer(x).transpose(0, 1).flatten(1)
                std = out.std(1, correction=0)
                layer.weight /= std.view(-1, *[1] * (layer.weight.dim() - 1))
            x = layer(x)


def mean_square_for_variance(net, x):
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.weight /= layer(x).square().mean().sqrt()
            x = layer(x)


def last_layer_left_out(net, x):
    with torch.no_grad():
        layers = list(net)
        for layer in layers[:-1]:
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.weight /= layer(x).std(correction=0)
            x = layer(x)


def activations_left_out(net, x):
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.weight /= layer(x).std(correction=0)
                x = layer(x)
            elif isinstance(layer, nn.Flatten):
                x = layer(x)


def weights_standardized(net, x):
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.weight /= layer.weight.std(correction=0)


def multiplied_instead(net, x):
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.weight *= layer(x).std(correction=0)
            x = layer(x)


def lsuv_by_hooks(net, x):
    def rescale(module, inputs, output):
        if isinstance(module, nn.Linear | nn.Conv2d):
            std = output.detach().std(correction=0)
            module.weight.data.div_(std)
            return output / std  # the bias is 0, so the output scales with the weights

    hooks = [module.register_forward_hook(rescale) for module in net.modules()]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()


def lsuv_by_repeating(net, x):
    weighted = [i for i, layer in enumerate(net) if hasattr(layer, "weight")]
    for i in weighted:
        for _ in range(4):
            with torch.no_grad():
                variance = net[: i + 1](x).double().var(unbiased=False)
            net[i].weight.data = net[i].weight.data / variance.sqrt().float()


def lsuv_by_moments(net, x):
    h = x
    for module in net.children():
        out = module(h).detach()
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            std = float((out - out.mean()).pow(2).mean().sqrt())
            with torch.no_grad():
                module.weight.mul_(1 / std)
            out = module(h)
        h = out.detach()


LAYERS = ("first layer's weights", "second layer's weights", "last layer's weights")

lsuv_exercise = Exercise(
    id="initialization.lsuv",
    lesson="02_initialization",
    title="Layer-sequential unit variance on a given net",
    answer="lsuv",
    criteria=(
        Criterion(LAYERS[0], 0, Close(operations=256)),
        Criterion(LAYERS[1], 1, Close(operations=256), requires=LAYERS[:1]),
        Criterion(LAYERS[2], 1, Close(operations=256), requires=LAYERS[:2]),
        Criterion("biases and data as before", 0),
    ),
    cases=lsuv_cases,
    probe=lsuv_probe,
    reference=lsuv,
    misconceptions=(
        Misconception(
            "divided_by_the_variance",
            divided_by_the_variance,
            "You divide by the variance. Weights divided by c give an output whose variance is divided by c².",
            "Divide by the deviation, the root of the variance.",
        ),
        Misconception(
            "all_measured_first",
            all_measured_first,
            "You measure all layers of the old net first, and rescale afterwards. Once the first layer is rescaled, "
            "the second sees another input: its deviation is no longer the one that you measured.",
            "Go layer by layer, and hand on the output of the rescaled layer.",
        ),
        Misconception(
            "old_output_handed_on",
            old_output_handed_on,
            "You hand on each layer's old output and divide by the input's deviation to make up for it. With a bend in "
            "between that is not the same.",
            "After rescaling, compute the layer's output again and hand that on.",
        ),
        Misconception(
            "measured_after_the_activation",
            measured_after_the_activation,
            "You measure behind the activation. LSUV makes the variance of the layer's own output 1, before it is "
            "bent.",
            "Take the variance of layer(x).",
        ),
        Misconception(
            "unit_by_unit",
            unit_by_unit,
            "You give every unit (or map) its own scale. That is what batch normalization does; LSUV has one scale for "
            "the layer.",
            "One number: the deviation over the batch and all units.",
        ),
        Misconception(
            "mean_square_for_variance",
            mean_square_for_variance,
            "You take the mean square. Where the outputs' mean is not 0, as in the case “{case}”, that is more than "
            "the variance.",
            "Subtract the mean: layer(x).var(correction=0).",
        ),
        Misconception(
            "last_layer_left_out",
            last_layer_left_out,
            "The last layer is left as it was.",
            "Rescale every nn.Linear and nn.Conv2d.",
        ),
        Misconception(
            "activations_left_out",
            activations_left_out,
            "The next layer is measured on an input that no activation has bent.",
            "Pass x through every module of the net, in order.",
        ),
        Misconception(
            "weights_standardized",
            weights_standardized,
            "You give the weights the deviation 1, and never look at the data.",
            "Measure the layer's output on x.",
        ),
        Misconception(
            "multiplied_instead",
            multiplied_instead,
            "You multiply by the deviation: layers that were too strong become stronger.",
            "Divide.",
        ),
    ),
    variants=(
        Variant("lsuv_by_hooks", lsuv_by_hooks),
        Variant("lsuv_by_repeating", lsuv_by_repeating),
        Variant("lsuv_by_moments", lsuv_by_moments),
    ),
    forbidden=("course_lib.initializers.lsuv_",),
    hints=(
        "Take the first layer alone. Its output on x has some variance; by what must its weights be divided?",
        "The second layer's input is what the rescaled first layer and its activation give. So go through the net in "
        "order, and carry x along.",
        "with torch.no_grad(): for layer in net: if it is nn.Linear or nn.Conv2d, layer.weight /= "
        "layer(x).var(correction=0).sqrt(); then x = layer(x).",
    ),
    minutes=12,
)

# ---------------------------------------------------------------- the output's bias


def bias_cases(seed):
    """Even and uneven classes, a rare one, two classes by softmax and by one logistic unit, both ways round."""
    rng = np.random.default_rng(seed)

    def case(name, counts, units):
        return Case(name, {"counts": np.array(counts), "units": units})

    yield case("ten classes", rng.integers(20, 900, 10), 10)
    yield case("three even classes", (400, 400, 400), 3)
    yield case("one class in a thousand", (5, 3000, 2000), 3)
    yield case("two classes by softmax", (900, 100), 2)
    yield case("one logistic unit, a tenth positive", (900, 100), 1)
    yield case("one logistic unit, mostly positive", (60, int(rng.integers(500, 900))), 1)
    yield case("one logistic unit, as many of each", (250, 250), 1)


def bias_probe(candidate, case):
    """Softmax takes no notice of a constant, so log counts are as right as log shares: predictions are compared."""
    import torch

    counts = torch.tensor(case["counts"])
    bias = torch.as_tensor(candidate(counts, case["units"])).detach().to(torch.float32)
    if bias.shape != (case["units"],):
        raise TypeError(f"the bias has the shape {tuple(bias.shape)}, but the layer has {case['units']} outputs")
    if case["units"] == 1:
        return {"logistic unit: log odds": bias}
    return {"softmax: log probabilities": bias.log_softmax(0)}


def output_bias(counts, units):
    """log shares for a softmax over the classes; log(positives / negatives) for one logistic unit."""
    return initializers.output_bias_(torch.zeros(units), counts)


def shares_without_logarithm(counts, units):
    shares = counts / counts.sum()
    return shares[1:] if units == 1 else shares


def bias_of_zero(counts, units):
    return torch.zeros(units)


def decimal_logarithm(counts, units):
    logs = (counts / counts.sum()).log10()
    return logs[1:] - logs[:1] if units == 1 else logs


def minus_the_logarithm(counts, units):
    logs = (counts / counts.sum()).log()
    return logs[:1] - logs[1:] if units == 1 else -logs


def odds_for_softmax(counts, units):
    shares = counts / counts.sum()
    odds = (shares / (1 - shares)).log()
    return odds[1:] if units == 1 else odds


def log_share_for_the_logistic_unit(counts, units):
    logs = (counts / counts.sum()).log()
    return logs[1:] if units == 1 else logs


def negatives_over_positives(counts, units):
    logs = (counts / counts.sum()).log()
    return logs[:1] - logs[1:] if units == 1 else logs


def odds_without_logarithm(counts, units):
    logs = (counts / counts.sum()).log()
    return counts[1:] / counts[:1] if units == 1 else logs


def weights_for_rare_classes(counts, units):
    weights = counts.sum() / (len(counts) * counts)
    return weights[1:] / weights[:1] if units == 1 else weights


def log_counts(counts, units):
    logs = counts.double().log()
    return logs[1:] - logs[:1] if units == 1 else logs


def bias_by_logit(counts, units):
    shares = counts.double() / counts.sum()
    return torch.logit(shares[1:]) if units == 1 else shares.log()


def bias_by_numpy(counts, units):
    n = counts.numpy().astype(float)
    if units == 1:
        return torch.tensor([np.log(n[1] / n[0])])
    bias = np.log(n / n.sum())
    return torch.from_numpy(bias - bias.mean())


output_bias_exercise = Exercise(
    id="initialization.output_bias",
    lesson="02_initialization",
    title="The output's bias from the class shares",
    answer="output_bias",
    criteria=(
        Criterion("softmax: log probabilities", 1, Close(operations=64)),
        Criterion("logistic unit: log odds", 1, Close(operations=64, scale=1.0)),
    ),
    cases=bias_cases,
    probe=bias_probe,
    reference=output_bias,
    misconceptions=(
        Misconception(
            "shares_without_logarithm",
            shares_without_logarithm,
            "You return the shares themselves. Softmax takes the exponential of what it is given, so the bias has to "
            "be the logarithm of what should come out.",
            "Take the natural logarithm.",
        ),
        Misconception(
            "bias_of_zero",
            bias_of_zero,
            "With a bias of 0 every class gets the same probability, however rare it is.",
            "Which bias makes softmax give the shares?",
        ),
        Misconception(
            "decimal_logarithm",
            decimal_logarithm,
            "Your logarithm has the base 10; softmax and the logistic function use e.",
            "torch.log, not log10.",
        ),
        Misconception(
            "minus_the_logarithm",
            minus_the_logarithm,
            "The sign is turned round: now rare classes are the likely ones.",
            "Common classes get the larger bias.",
        ),
        Misconception(
            "odds_for_softmax",
            odds_for_softmax,
            "For softmax you use log odds, log(share / (1 − share)). That is the logistic unit's inverse; softmax's is "
            "the logarithm of the shares.",
            "Use log shares where there is one output for each class.",
        ),
        Misconception(
            "log_share_for_the_logistic_unit",
            log_share_for_the_logistic_unit,
            "For the logistic unit you return log(share of positives). The logistic function of that is not the share.",
            "The inverse of the logistic function is log(p / (1 − p)).",
        ),
        Misconception(
            "negatives_over_positives",
            negatives_over_positives,
            "For the logistic unit the fraction is turned over: it predicts the share of the negatives. counts is "
            "(negatives, positives).",
            "log(positives / negatives).",
        ),
        Misconception(
            "odds_without_logarithm",
            odds_without_logarithm,
            "For the logistic unit you return the odds, positives over negatives. Their logarithm is what the logistic "
            "function undoes.",
            "log(positives / negatives).",
        ),
        Misconception(
            "weights_for_rare_classes",
            weights_for_rare_classes,
            "These are class weights, large where a class is rare. They belong into the loss; the bias should say how "
            "common a class is.",
            "log(counts / total).",
        ),
    ),
    variants=(
        Variant("log_counts", log_counts),
        Variant("bias_by_logit", bias_by_logit),
        Variant("bias_by_numpy", bias_by_numpy),
    ),
    forbidden=("course_lib.initializers.output_bias_",),
    hints=(
        "An untrained net whose last weights send next to nothing predicts softmax(bias). What should that be?",
        "softmax(log q) = q for shares q that sum to 1. The logistic function's inverse is log(p / (1 − p)).",
        "units > 1: (counts / counts.sum()).log(). units == 1: (counts[1] / counts[0]).log(), with the shape (1,).",
    ),
    minutes=8,
)
