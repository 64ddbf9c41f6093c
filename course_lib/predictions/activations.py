"""The questions of lesson 3. The right answers are not here: the lesson's own runs and its claims measure them."""

from course_lib.predictions.record import Choice, Prediction

LESSON = "03_activations"

PREDICTIONS = (
    Prediction(
        id="large_rate_kills",
        lesson=LESSON,
        question=(
            "A ReLU net with two hidden layers learns digits by Adam, at a rate of 0.03: thirty times the usual 0.001. "
            "After 400 steps, what share of its hidden units outputs 0 for every training image?"
        ),
        choices=(
            Choice("none", "Hardly any: less than 2%", high=2.0),
            Choice("some", "Some: 2 to 20%", low=2.0, high=20.0),
            Choice("many", "Many: 20 to 60%", low=20.0, high=60.0),
            Choice("most", "Most: 60% or more", low=60.0),
        ),
        unit="%",
        because=(
            "A large step can carry a unit's weights and bias so far that z is negative for every image. From there no "
            "gradient leads back: in the first layer for good, in the second until its inputs happen to wake it."
        ),
    ),
    Prediction(
        id="leak_wakes",
        lesson=LESSON,
        question=(
            "The same large rate with leaky ReLU, α = 0.01. Take the units that are below 0 for every image after 50 "
            "steps: their slope is 0.01 everywhere. How many of them fire for some image again after 400 steps?"
        ),
        choices=(
            Choice("few", "Fewer than one in five", high=20.0),
            Choice("part", "From one in five to a half", low=20.0, high=50.0),
            Choice("most", "From a half to nine in ten", low=50.0, high=90.0),
            Choice("all", "Nearly all: nine in ten or more", low=90.0),
        ),
        unit="%",
        because=(
            "A slope that is not 0 lets a gradient through, but what comes through is small, and nothing says that it "
            "points to where the unit would fire."
        ),
    ),
    Prediction(
        id="best_activation",
        lesson=LESSON,
        question=(
            "Five activations in one net with four hidden layers, without batch norm, on digits, each with its fitting "
            "initialization and the best of four rates. Which has the lowest test error after 500 steps?"
        ),
        choices=(
            Choice("ELU", "ELU"),
            Choice("leaky ReLU", "leaky ReLU"),
            Choice("ReLU", "ReLU"),
            Choice("tanh", "tanh"),
            Choice("logistic", "the logistic function"),
        ),
        because=(
            "Who wins depends on the set, the depth, and how well each was tuned, and the winner's lead is often "
            "smaller than the noise between seeds: look at the intervals."
        ),
    ),
    Prediction(
        id="softmax_twice_floor",
        lesson=LESSON,
        question=(
            "A net for 10 classes ends in a softmax, and F.cross_entropy, which takes a softmax itself, is its loss. "
            "How low can that loss get, if the net becomes as sure and as right as it can?"
        ),
        unit="nats",
        because=(
            "The second softmax takes probabilities for logits. The surest they can be is 1 for the right class and 0 "
            "for the other nine, and the softmax of that gives the right class only e/(e + 9)."
        ),
    ),
)
