"""The questions of lesson 8. The right answers are not here: the lesson's own runs measure them."""

from course_lib.predictions.record import Choice, Prediction

LESSON = "08_dropout"

PREDICTIONS = (
    Prediction(
        id="scale_without_rescaling",
        lesson=LESSON,
        question=(
            "A trained net drops half of its units (p = 0.5) before each of 4 layers in a row, and nothing is scaled: "
            "neither the kept units in training nor the weights at test. At test all units are on. How many times the "
            "signal of training arrives at the last of these layers?"
        ),
        unit="×",
        because=(
            "Each layer passes on 1/(1 − p) times the signal it was trained with, and the next layer multiplies that "
            "again: (1/(1 − p)) to the power of the depth, 16 for four layers at p = 0.5; exactly so only without "
            "ReLU's bend."
        ),
    ),
    Prediction(
        id="dropout_left_on_at_test",
        lesson=LESSON,
        question=(
            "You forget model.eval(), so dropout with p = 0.5 stays on while you measure the test accuracy of a "
            "trained net. How many percentage points of accuracy does that cost?"
        ),
        choices=(
            Choice("none", "None, or it even gains: less than half a point is lost", high=0.5),
            Choice("little", "A little: from half a point up to 3 points", low=0.5, high=3.0),
            Choice("much", "Much: from 3 up to 15 points", low=3.0, high=15.0),
            Choice("ruined", "It ruins the net: 15 points or more", low=15.0),
        ),
        unit="points",
        because=(
            "With dropout on you do not measure the net but one thinned net drawn at random, another for every image; "
            "each is worse than their average."
        ),
    ),
    Prediction(
        id="scaled_net_is_average",
        lesson=LESSON,
        question=(
            "Use the whole net once, with its weights scaled by 1 − p. Are its logits the average of the logits of "
            "all thinned nets?"
        ),
        choices=(
            Choice("both", "Yes, exactly, for a linear net and for a deep net with ReLU"),
            Choice("linear", "Exactly for a linear net, only nearly for a deep net with ReLU"),
            Choice("deep", "Exactly for a deep net with ReLU, only nearly for a linear net"),
            Choice("neither", "For neither: in both there is an error that you can see"),
        ),
        because=(
            "An average passes through a linear map unchanged. ReLU is bent: the average of ReLU(z) is not ReLU of "
            "the average z, and the difference is small only where z seldom changes its sign."
        ),
    ),
    Prediction(
        id="training_loss_above_validation",
        lesson=LESSON,
        question=(
            "In a run with dropout the training loss stays above the validation loss, epoch after epoch. What is the "
            "most likely cause?"
        ),
        choices=(
            Choice("leak", "A bug: images of the training set are in the validation set too"),
            Choice("swapped", "A bug: the two curves are swapped"),
            Choice("modes", "No bug: one loss is taken with dropout on, the other with dropout off"),
            Choice("small", "No bug: the net is too small, so it can't overfit"),
        ),
        because=(
            "The training loss is that of thinned nets, while they still learn. Measure it once more on the same "
            "images with dropout off, and it falls."
        ),
    ),
)
