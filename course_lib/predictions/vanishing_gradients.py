"""The questions of lesson 1. The right answers are not here: the lesson's own runs measure them."""

from course_lib.predictions.record import Choice, Prediction

LESSON = "01_vanishing_gradients"

PREDICTIONS = (
    Prediction(
        id="first_layer_gradient",
        lesson=LESSON,
        question=(
            "A net of 10 hidden layers of 100 sigmoid units, freshly made by PyTorch, sees 500 digits. How many times "
            "smaller is the gradient (its norm) for the first layer's weights than for the tenth's?"
        ),
        choices=(
            Choice("same", "About the same: less than 3 times", high=3.0),
            Choice("tens", "From 3 up to 1,000 times", low=3.0, high=1e3),
            Choice("thousands", "From a thousand up to a hundred thousand times", low=1e3, high=1e5),
            Choice("millions", "A hundred thousand times or more", low=1e5),
        ),
        unit="times",
        because=(
            "Each layer multiplies the gradient by its weights and by the sigmoid's slope, which is 1/4 at most. What "
            "is multiplied ten times by the same small factor is a power of it."
        ),
    ),
    Prediction(
        id="factor_of_a_layer",
        lesson=LESSON,
        question=(
            "The sigmoid's slope is at most 0.25. In the same net, by which factor does one layer in the middle "
            "multiply the gradient's norm on its way back, where 1 would mean that it passes unchanged?"
        ),
        unit="times",
        because=(
            "Slope times weights: PyTorch draws them between −1/√n and 1/√n, so each row of weights has a length of "
            "about 0.58, and the slope is just under 1/4. Their product is the factor."
        ),
    ),
    Prediction(
        id="which_remedy_alone",
        lesson=LESSON,
        question=(
            "Ten sigmoid layers stay at chance under plain SGD. You may change ONE thing. Which of these changes, "
            "alone, brings the test error down the furthest?"
        ),
        choices=(
            Choice("initialization", "Glorot's initialization"),
            Choice("activation", "ReLU instead of sigmoid"),
            Choice("batch norm", "Batch normalization before each sigmoid"),
            Choice("faster optimizer", "Adam instead of plain SGD"),
            Choice("larger rate", "A learning rate ten times larger, or more"),
        ),
        because=(
            "A remedy has to bring the factor of EVERY layer near 1. Batch normalization does so by itself: it gives "
            "each layer's inputs a spread of 1, and its own backward pass divides by the spread that was there. "
            "Activation and initialization each mend half of the factor. No rate fits layers whose gradients differ by "
            "powers of ten."
        ),
    ),
    Prediction(
        id="is_saturation_the_cause",
        lesson=LESSON,
        question=(
            "A textbook says: the gradient vanishes because the sigmoids are saturated, far out where they are flat. "
            "In a fresh 10-layer net with Glorot's weights, which share of the units is saturated (slope under 5% of "
            "its steepest)?"
        ),
        choices=(
            Choice("none", "Hardly any: under 5%", high=5.0),
            Choice("some", "From 5% up to a third", low=5.0, high=33.0),
            Choice("many", "A third or more", low=33.0),
        ),
        unit="%",
        because=(
            "With weights of this size each z lies near 0, where the sigmoid is steepest. Even there its slope is only "
            "1/4, and that is enough."
        ),
    ),
)
