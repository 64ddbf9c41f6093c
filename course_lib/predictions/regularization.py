"""The questions of lesson 7. The right answers are not here: the lesson's own runs and cards measure them."""

from course_lib.predictions.record import Choice, Prediction

LESSON = "07_regularization"

PREDICTIONS = (
    Prediction(
        id="l1_zeros_by_gradient",
        lesson=LESSON,
        question=(
            "A linear model has 200 inputs, of which only 10 matter. It is trained with an ℓ1 penalty: λ times the sum "
            "of the weights' sizes |w| is added to the loss. So λ·sign(w) is added to the gradient of each weight, and "
            "training takes plain gradient steps. Of the 200 weights, how many are exactly 0 at the end?"
        ),
        unit="weights",
        because=(
            "A step of λ·sign(w) always has the same size. Near 0 it jumps to the other side, and back: weights become "
            "small, but hit 0 exactly only by accident. The soft threshold stops at 0."
        ),
    ),
    Prediction(
        id="validation_split_sorted",
        lesson=LESSON,
        question=(
            "Digits sorted by class, 0 to 9, as many of each. You call Keras's fit(x, y, validation_split=0.3, "
            "shuffle=True), which keeps 30% of them for validation. Of these, what percentage does the trained net get "
            "right?"
        ),
        choices=(
            Choice("chance", "About what guessing gives: 5% to 30%", low=5, high=30),
            Choice("none", "None, or hardly any: below 5%", high=5),
            Choice("half", "Somewhat fewer than usual: 30% to 80%", low=30, high=80),
            Choice("usual", "As usual, since shuffle=True: 80% or more", low=80),
        ),
        unit="%",
        because=(
            "validation_split takes the last examples before anything is shuffled: here the digits 7, 8 and 9. The net "
            "has never seen one of them, so it can't even guess them."
        ),
    ),
    Prediction(
        id="validation_above_training",
        lesson=LESSON,
        question=(
            "A net is trained on images that are shifted at random, by several pixels, each time they are used; that "
            "is augmentation. Its validation accuracy lies above its training accuracy, epoch after epoch. What "
            "happens if the validation images are shifted in the same way?"
        ),
        choices=(
            Choice("stays", "Nothing: validation stays above training"),
            Choice("wider", "The gap gets wider still"),
            Choice("turns", "The gap turns round: validation falls below training"),
        ),
        because=(
            "The training accuracy was measured on shifted images, which are harder. On validation images made as hard "
            "a net does what it mostly does on images that it has not trained on: a little worse than on those that it "
            "has."
        ),
    ),
    Prediction(
        id="epochs_for_more_data",
        lesson=LESSON,
        question=(
            "A net trains on 100 images, in batches of 32, and its validation loss is lowest after some number of "
            "epochs. Now you get 3,000 images. Does the lowest validation loss come after more epochs or after fewer, "
            "and after more steps or fewer?"
        ),
        choices=(
            Choice("same", "The same number of epochs, so 30 times as many steps"),
            Choice("fewer", "Fewer epochs, but more steps"),
            Choice("fewer_both", "Fewer epochs and fewer steps"),
            Choice("more", "More epochs, and more steps"),
        ),
        because=(
            "An epoch over more images holds more steps, so fewer of them are needed; but more images take longer to "
            "be learned by heart, so training can go on for more steps before validation turns."
        ),
    ),
)
