"""The questions of lesson 5. The right answers are not here: the lesson's own runs and cards measure them."""

from course_lib.predictions.record import Choice, Prediction

LESSON = "05_transfer_learning"

PREDICTIONS = (
    Prediction(
        id="share_that_trains",
        lesson=LESSON,
        question=(
            "A pretrained net has about 3.4 million weights below its head. You put a new head for 8 classes on its "
            "1,280 "
            "features and freeze all the rest. What percentage of the net's weights trains?"
        ),
        unit="%",
        because=(
            "The head has 1,280 weights and a bias for each class, and that is all that trains. A few examples can "
            "settle "
            "that many numbers; they could never settle millions."
        ),
    ),
    Prediction(
        id="frozen_layer",
        lesson=LESSON,
        question=(
            "In PyTorch you set requires_grad_(False) on a part of a net, batch norms included, and train the rest for "
            "some "
            "epochs. The part then gets the same pictures as before. Are its outputs in evaluation still the same?"
        ),
        choices=(
            Choice("same", "Yes: it is frozen"),
            Choice("rounding", "Yes, but for rounding"),
            Choice("other", "No, they are clearly different"),
        ),
        because=(
            "The weights are the same to the last bit. But the batch norms were in training mode: their running "
            "statistics "
            "drifted towards the new pictures, and in evaluation these are what they normalize by."
        ),
    ),
    Prediction(
        id="channels_exchanged",
        lesson=LESSON,
        question=(
            "A head was trained on a pretrained net's features of colour pictures. When it is put to use, a library "
            "hands "
            "over the same kind of pictures with red and blue exchanged. By how many percentage points does the "
            "accuracy "
            "fall?"
        ),
        unit="points",
        because=(
            "Shapes are still there, so much of what the features say survives, and no error is raised. That is what "
            "makes "
            "it dangerous: the loss looks like an ordinary bad day."
        ),
    ),
    Prediction(
        id="who_gains_by_unfreezing",
        lesson=LESSON,
        question=(
            "The same pretrained net, 20 labels of each class: emoji, which look somewhat like the photographs that it "
            "was "
            "trained on, and handwritten digits, which do not. Which gains more when blocks below the head are "
            "unfrozen?"
        ),
        choices=(
            Choice("emoji", "The emoji"),
            Choice("digits", "The digits"),
            Choice("same", "Both about the same (within 2 points)"),
        ),
        because=(
            "Late features are made for telling photographs apart, and neither emoji nor digits are photographs: with "
            "enough steps both gain by unfreezing. Points are not the whole story, though: look also at how large a "
            "share "
            "of its errors each gets rid of."
        ),
    ),
)
