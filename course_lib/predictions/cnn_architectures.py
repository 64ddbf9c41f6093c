"""The questions of lesson 9. The right answers are not here: the lesson's own runs and cards measure them."""

from course_lib.predictions.record import Choice, Prediction

LESSON = "09_cnn_architectures"

PREDICTIONS = (
    Prediction(
        id="dense_share_of_vgg19",
        lesson=LESSON,
        question=(
            "VGG19 has sixteen convolutions and three dense layers, and 144 million parameters. What percentage of "
            "them sits in the three dense layers?"
        ),
        unit="%",
        because=(
            "The last maps, 512 of 7 × 7, are flattened to 25,088 numbers, and each of 4,096 units has a weight for "
            "each of them. A convolution's weights do not grow with the picture."
        ),
    ),
    Prediction(
        id="shuffled_pixels",
        lesson=LESSON,
        question=(
            "A conv net and a dense net are trained on digits. Then on the same digits with their pixels shuffled, "
            "each picture in the same way, so that nothing is lost. What happens to their test errors?"
        ),
        choices=(
            Choice("both", "Both get clearly worse: nobody can read such digits"),
            Choice("conv", "The conv net gets clearly worse, the dense net stays as it was"),
            Choice("dense", "The dense net gets clearly worse, the conv net stays as it was"),
            Choice("neither", "Neither changes: the same information is there"),
        ),
        because=(
            "A dense layer has no notion of neighbours: to it the order of the pixels is a name. A kernel looks at "
            "neighbours, and after the shuffling those have nothing to do with each other."
        ),
    ),
    Prediction(
        id="evaluation_memory",
        lesson=LESSON,
        question=(
            "A stack of eight equal convolutions. In evaluation mode (model.eval()), with no torch.no_grad(), how much "
            "memory does PyTorch take for the maps, compared with the same under no_grad?"
        ),
        choices=(
            Choice("same", "The same: eval() already says that no gradient is wanted", high=1.25),
            Choice("double", "Up to three times as much", low=1.25, high=3.0),
            Choice("all", "More than three times as much", low=3.0),
        ),
        unit="×",
        because=(
            "eval() changes what dropout and batch norm do, and nothing else. The graph is still recorded, and it "
            "keeps every layer's output for a backward pass that never comes; without it two maps at a time are enough."
        ),
    ),
    Prediction(
        id="textbook_recipe",
        lesson=LESSON,
        question=(
            "A textbook's recipe: He initialization, ELU, batch norm, dropout, Adam, no schedule. One entry of it is "
            "changed, or all of it for a recipe of today. Which change lowers the test error by a point or more on "
            "both data sets?"
        ),
        choices=(
            Choice("none", "None: the recipe holds"),
            Choice("single", "At least one single change"),
            Choice("current", "No single change, only the whole recipe of today"),
        ),
        because=(
            "Single entries are worth a fraction of a point here, and which ones depends on the data set: the card "
            "shows each with its interval. What a whole recipe gains is the sum of several such changes that fit "
            "together."
        ),
    ),
)
