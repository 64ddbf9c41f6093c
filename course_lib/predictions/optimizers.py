"""The questions of lesson 6. The right answers are not here: the lesson's own runs measure them."""

from course_lib.predictions.record import Choice, Prediction

LESSON = "06_optimizers"

PREDICTIONS = (
    Prediction(
        id="coasting_after_the_cut",
        lesson=LESSON,
        question=(
            "Keras's momentum keeps a velocity. In each step it is multiplied by 0.9, the new gradient times the rate "
            "of that step is taken off, and the parameter moves by what comes out. With an unchanging gradient a "
            "parameter has reached its full speed: the same distance in each step. Now the rate is set to 0. How far "
            "does the parameter still travel, in all the steps to come, counted in steps at full speed?"
        ),
        unit="full steps",
        because=(
            "Keras's velocity carries the rate of each gradient with it, and a new rate acts on new gradients alone. "
            "With the rate 0 it only fades, by μ a step: μ + μ² + … = μ/(1 − μ). PyTorch multiplies by the rate at the "
            "very end, so that there nothing moves any more."
        ),
    ),
    Prediction(
        id="first_step_of_adam",
        lesson=LESSON,
        question=(
            "Adam makes its very first step, with the rate 0.001. One parameter's gradient is 1000, another's 0.001. "
            "How many times as far does the first parameter move?"
        ),
        choices=(
            Choice("million", "About a million times: its gradient is that much larger", low=1e5),
            Choice("thousand", "Farther, but by the root of that: about a thousand times", low=2.0, high=1e5),
            Choice("less", "Less far: Adam takes small steps where gradients are large", high=0.5),
            Choice("same", "As far, near enough", low=0.5, high=2.0),
        ),
        because=(
            "After one step m̂ = g and √v̂ = |g|, so that the step is η times the gradient's sign, whatever its size."
        ),
    ),
    Prediction(
        id="adam_against_momentum",
        lesson=LESSON,
        question=(
            "Adam and momentum are each tuned over eight rates of their own, and train a small net on handwritten "
            "digits. Momentum's test error is taken off Adam's, in percentage points. Whose is lower, and by how much?"
        ),
        choices=(
            Choice("adam", "Adam is better by more than one point", high=-1.0),
            Choice("close", "Within one point of each other", low=-1.0, high=1.0),
            Choice("momentum", "Momentum is better by more than one point", low=1.0),
        ),
        unit="points",
        because=(
            "The card above has the interval, and a second data set. Only after equal tuning does such a gap come from "
            "the optimizers and not from their rates; on other data it may be smaller, or turn round."
        ),
    ),
    Prediction(
        id="metrics_move_weights",
        lesson=LESSON,
        question=(
            "A Keras model is trained twice with the same seed, once with metrics=['accuracy'] and once without "
            "metrics. What do the final weights look like?"
        ),
        choices=(
            Choice("bits", "Equal to the last bit"),
            Choice("nearly", "Nearly equal: the metrics change the order of the roundings"),
            Choice("other", "Different: with the metric the model also optimizes the accuracy"),
        ),
        because="Only the loss has a gradient that reaches the weights. Metrics are computed beside it, and reported.",
    ),
)
