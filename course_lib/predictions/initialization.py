"""The questions of lesson 2. The right answers are not here: the lesson's own runs measure them."""

from course_lib.predictions.record import Choice, Prediction

LESSON = "02_initialization"

PREDICTIONS = (
    Prediction(
        id="zero_start",
        lesson=LESSON,
        question=(
            "A net with one hidden layer of ReLU units starts with all weights and biases at 0, and trains on "
            "handwritten digits. What happens to the hidden layer's weights?"
        ),
        choices=(
            Choice("slow", "They move away from 0, only more slowly than from a random start"),
            Choice("copies", "They move, but all units stay copies of one another"),
            Choice("nothing", "They stay at 0, however long it trains"),
            Choice("explode", "They grow beyond all bounds"),
        ),
        because=(
            "A hidden unit gets its gradient through the weights that lead out of it, and these are 0; they get theirs "
            "through the unit's output, and that is 0 as well. Only the last bias is left to learn. (With a sigmoid, "
            "whose output for 0 is ½, the units move, as copies of one another.)"
        ),
    ),
    Prediction(
        id="fifty_layers",
        lesson=LESSON,
        question=(
            "Fifty layers of as many units each, a ReLU behind every one, and weights of variance 1/fan_in, where "
            "fan_in is the number of a unit's inputs. By how many powers of ten (3 would mean: to a thousandth) has "
            "the mean square of the signal shrunk behind the last layer?"
        ),
        unit="powers of ten",
        because=(
            "The weighted sum keeps the mean square, and ReLU removes half of it, the half that was negative. Fifty "
            "halvings are 2⁻⁵⁰, about 10⁻¹⁵. Twice the variance, 2/fan_in, would have made up for each of them."
        ),
    ),
    Prediction(
        id="torch_default",
        lesson=LESSON,
        question=(
            "PyTorch's nn.Linear draws its weights by `kaiming_uniform_`, which is named after the author of the rule "
            "for ReLU. What is the deviation of the default weights over the deviation of that rule, √(2/fan_in)?"
        ),
        unit="×",
        because=(
            "The layer calls it with a = √5, the slope of a leaky ReLU that nobody uses. What comes out is a uniform "
            "draw between ±1/√fan_in, of variance 1/(3 fan_in): a sixth of 2/fan_in, so the deviation is 1/√6 of it."
        ),
    ),
    Prediction(
        id="random_filters",
        lesson=LESSON,
        question=(
            "A linear classifier looks at pictures through 32 small filters that nobody trained: random numbers. "
            "Another looks through the first filters of a net that was trained on photographs. How many percentage "
            "points more emoji does the first get wrong?"
        ),
        choices=(
            Choice("none", "Hardly any: fewer than 2", high=2.0),
            Choice("some", "Some: from 2 up to 5", low=2.0, high=5.0),
            Choice("many", "Many: from 5 up to 15", low=5.0, high=15.0),
            Choice("useless", "It is as good as blind: 15 or more", low=15.0),
        ),
        unit="points",
        because=(
            "A random filter answers some edges more than others, and many of them together hold nearly all that a "
            "picture shows at that size. What training adds comes in the deeper layers."
        ),
    ),
)
