"""The questions of lesson 4. The right answers are not here: the lesson's own runs measure them."""

from course_lib.predictions.record import Choice, Prediction

LESSON = "04_batch_norm"

PREDICTIONS = (
    Prediction(
        id="batch_of_two",
        lesson=LESSON,
        question=(
            "A batch of two different pictures is normalized, unit by unit: mean 0, standard deviation 1, nothing "
            "scaled or shifted afterwards. Which values come out?"
        ),
        choices=(
            Choice("ones", "Only −1 and +1 (almost exactly), whatever the pictures are"),
            Choice("between", "Anything between −1 and +1"),
            Choice("free", "Anything: larger differences between the pictures give larger values"),
            Choice("zeros", "Only zeros"),
        ),
        because=(
            "The mean of two numbers lies midway between them, and each is one standard deviation away from it. All "
            "that is left of two pictures is which of them had the larger value."
        ),
    ),
    Prediction(
        id="gradient_of_larger_weights",
        lesson=LESSON,
        question=(
            "A layer is followed by batch norm. You multiply all its weights by 10. How many times the former gradient "
            "do these weights get?"
        ),
        unit="×",
        because=(
            "The output stays as it was, since batch norm takes the factor out again. So the loss changes as much over "
            "ten times the distance: its slope is a tenth."
        ),
    ),
    Prediction(
        id="alone_without_eval",
        lesson=LESSON,
        question=(
            "You forget model.eval(), and a trained conv net with batch norm answers one picture at a time. By how "
            "many percentage points does its error on handwritten digits rise?"
        ),
        choices=(
            Choice("none", "None, or it even falls: by less than half a point", high=0.5),
            Choice("little", "A little: from half a point up to 2 points", low=0.5, high=2.0),
            Choice("much", "Much: from 2 up to 15 points", low=2.0, high=15.0),
            Choice("ruined", "It ruins the net: by 15 points or more", low=15.0),
        ),
        unit="points",
        because=(
            "Each picture is then normalized by its own mean and spread: what told it apart from the others, how "
            "strongly it excites each filter, is taken away. Where a layer has one number an example, nothing at all "
            "would be left."
        ),
    ),
    Prediction(
        id="frozen_statistics",
        lesson=LESSON,
        question=(
            "You freeze a batch norm, by requires_grad_(False) in PyTorch and by trainable = False in Keras, and go on "
            "training the rest of the net. Whose running statistics still move?"
        ),
        choices=(
            Choice("torch", "PyTorch's only"),
            Choice("keras", "Keras's only"),
            Choice("both", "Both"),
            Choice("neither", "Neither: frozen is frozen"),
        ),
        because=(
            "requires_grad speaks of gradients, and running statistics move without any; in PyTorch only eval() stops "
            "them. In Keras trainable = False puts a batch norm into inference as well."
        ),
    ),
)
