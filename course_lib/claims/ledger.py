"""The ledger: every question and every claim that the course answers, with the evidence that settles it.

This is the one list. What has been measured lies beside it (`results/<id>.json`); `ledger_rows` in
`course_lib.claims.runner` joins the two.

Sources are the four texts that raised the questions: S0, questions and answers on Keras, freezing, memory
and overfitting; S1, on transfer learning, filters and loading weights; S2, on choosing the layers of a
conv net and on validation; S3, a lesson on training deep nets.
"""

from dataclasses import dataclass

__all__ = ["LEDGER", "LedgerRow"]


@dataclass(frozen=True)
class LedgerRow:
    """One row: the claim's id, the lesson's folder, where it came from, the question, the evidence wanted."""

    id: str
    lesson: str
    sources: tuple[str, ...]
    question: str
    evidence: str


LEDGER: tuple[LedgerRow, ...] = (
    # 01_vanishing_gradients
    LedgerRow(
        "V1",
        "01_vanishing_gradients",
        ("S3",),
        "In a 10-layer net of hundreds of sigmoid units the gradient shrinks layer by layer toward the input",
        "gradient norm per layer, at the start and during training; fitted decay rate per layer",
    ),
    LedgerRow(
        "V2",
        "01_vanishing_gradients",
        ("S3",),
        "The lower layers' weights stay virtually unchanged, and training does not reach a good solution",
        "relative weight change per layer after N steps; final loss against a shallow net and against"
        " a healthy deep net",
    ),
    LedgerRow(
        "V3",
        "01_vanishing_gradients",
        ("S3",),
        "The opposite, explosion, exists too",
        "the same probe at too large an initial scale; when clipping rescues it",
    ),
    LedgerRow(
        "V4",
        "01_vanishing_gradients",
        ("S3",),
        "The cause is saturation: the sigmoid's slope is near 0 for large inputs",
        "share of units in the flat part per layer; the bound 1/4 per layer against the measured decay",
    ),
    LedgerRow(
        "V5",
        "01_vanishing_gradients",
        ("S3",),
        "Six remedies help: initialization, activation, batch norm, reusing layers, a faster "
        "optimizer, a larger learning rate",
        "the same failing net with each remedy alone and all together (a larger learning rate alone "
        "is the doubtful one)",
    ),
    LedgerRow(
        "V6",
        "01_vanishing_gradients",
        ("S3",),
        "Deep nets are slow to train and, with millions of parameters, overfit",
        "time per step and train/test gap against depth and parameter count on a fixed small data set",
    ),
    # 02_initialization
    LedgerRow(
        "I1",
        "02_initialization",
        ("S3",),
        "For signal to flow, each layer's output variance must equal its input variance, and likewise"
        " for gradients backward",
        "variance of activations and of gradients per layer under naive, Glorot, He, LeCun, orthogonal",
    ),
    LedgerRow(
        "I2",
        "02_initialization",
        ("S3",),
        "Glorot (Xavier): normal with σ² = 2/(fan_in+fan_out), or uniform ±√(6/(fan_in+fan_out)), for"
        " the logistic function",
        "parity with the frameworks' initializers (distribution tests); training curves with sigmoid and tanh",
    ),
    LedgerRow(
        "I3",
        "02_initialization",
        ("S3",),
        "He initialization is the one to pair with ReLU-like units (its table of defaults)",
        "forward variance at depth 50, and training, Glorot against He under ReLU/ELU",
    ),
    LedgerRow(
        "I4",
        "02_initialization",
        ("S1",),
        "How are a conv layer's filters initialized, and in what range? fan_in counts input maps × receptive field",
        "fan computation for conv kernels, parity with both frameworks; ranges drawn",
    ),
    LedgerRow(
        "I5",
        "02_initialization",
        ("S1",),
        "A uniform draw in ±1/fan_in (LeNet tutorial) serves",
        "its measured variance against Glorot/He; where it makes the signal vanish",
    ),
    LedgerRow(
        "I6",
        "02_initialization",
        ("S1",),
        "A randomly initialized filter already acts much like an edge detector",
        "response of random against trained first-layer filters to oriented edges; accuracy of a "
        "linear head on frozen random filters",
    ),
    LedgerRow(
        "I7",
        "02_initialization",
        ("S1",),
        "Filters may instead come from pretraining on other data",
        "start from pretrained against random filters: accuracy and steps needed",
    ),
    # 03_activations
    LedgerRow(
        "A1",
        "03_activations",
        ("S3",),
        "ReLU does not saturate for positive inputs and converges faster than sigmoid",
        "steps to a given loss, sigmoid against ReLU, each with its fitting initialization",
    ),
    LedgerRow(
        "A2",
        "03_activations",
        ("S3",),
        "ReLU units die: they output 0 for every input, sooner with a large learning rate",
        "dead share against learning rate and time",
    ),
    LedgerRow(
        "A3",
        "03_activations",
        ("S3",),
        "Leaky ReLU, max(αz, z) with α = 0.01, never dies",
        "dead share and gradient through negative inputs; α swept",
    ),
    LedgerRow(
        "A4",
        "03_activations",
        ("S3",),
        "ELU outperformed every ReLU variant (2015): less training time, better test accuracy",
        "accuracy per step AND per second: ELU's exponential has a cost",
    ),
    LedgerRow(
        "A5",
        "03_activations",
        ("S3",),
        "ELU's mean output is nearer 0, its gradient is non-zero for z < 0, it is smooth everywhere",
        "mean activation per layer; derivative checks, also at α ≠ 1, where it is not smooth at 0",
    ),
    LedgerRow(
        "A6",
        "03_activations",
        ("S3",),
        "In general ELU > leaky ReLU > ReLU > tanh > logistic",
        "the whole ranking with intervals, with and without batch norm, on two data sets; add "
        "GELU/SiLU/SELU, which came later",
    ),
    # 04_batch_norm
    LedgerRow(
        "B1",
        "04_batch_norm",
        ("S3",),
        "The operation: zero-centre and normalize over the batch, then scale and shift by two learned"
        " vectors per layer",
        "forward and backward by hand, parity with both frameworks, running statistics and both momentum conventions",
    ),
    LedgerRow(
        "B2",
        "04_batch_norm",
        ("S3",),
        "It stands just before the activation",
        "before against after",
    ),
    LedgerRow(
        "B3",
        "04_batch_norm",
        ("S3",),
        "It reduces vanishing gradients, even with sigmoid or tanh",
        "lesson 1's failing net with batch norm added",
    ),
    LedgerRow(
        "B4",
        "04_batch_norm",
        ("S3",),
        "Nets become much less sensitive to initialization",
        "final loss over 4 orders of magnitude of initial scale, with and without",
    ),
    LedgerRow(
        "B5",
        "04_batch_norm",
        ("S3",),
        "Larger learning rates become usable, so training is faster",
        "the largest stable rate and steps to a loss, with and without",
    ),
    LedgerRow(
        "B6",
        "04_batch_norm",
        ("S3",),
        "It acts as a regularizer, lowering the need for others",
        "train/test gap with and without, against batch size",
    ),
    LedgerRow(
        "B7",
        "04_batch_norm",
        ("S0",),
        "Like dropout, it behaves differently in training and in test",
        "the same input in both modes; batch of one; what a forgotten `eval()` costs",
    ),
    LedgerRow(
        "B8",
        "04_batch_norm",
        ("S2",),
        "Conv → BN → PReLU → pool → … → dropout: what does each piece of a net met in a forum do?",
        "parameters, statistics and effect of each piece in that very net",
    ),
    # 05_transfer_learning
    LedgerRow(
        "T1",
        "05_transfer_learning",
        ("S0", "S1"),
        "What do freezing and unfreezing mean? A frozen layer's weights do not change",
        "weights and optimizer state before and after in both frameworks; what still changes in a frozen batch norm",
    ),
    LedgerRow(
        "T2",
        "05_transfer_learning",
        ("S0", "S1"),
        "Which layers to freeze? Lower ones first; more similar tasks allow more frozen layers, less "
        "similar need more unfrozen",
        "accuracy against number of frozen blocks on a similar and on a dissimilar target",
    ),
    LedgerRow(
        "T3",
        "05_transfer_learning",
        ("S0", "S1"),
        "The more layers are unfrozen, the slower the training",
        "time and memory per step against frozen depth",
    ),
    LedgerRow(
        "T4",
        "05_transfer_learning",
        ("S1",),
        "Out of memory: train sets of layers one by one, freezing the rest? Frozen weights still have"
        " to be loaded for the forward pass",
        "peak memory of parameters, activations, gradients and optimizer state: full, frozen prefix, "
        "precomputed features, checkpointing, layer-wise training",
    ),
    LedgerRow(
        "T5",
        "05_transfer_learning",
        ("S1",),
        "Four scenarios: target small or large × similar or different, each with its best policy",
        "the 2 × 2 grid measured: linear head, features from an earlier layer, fine-tune top, fine-"
        "tune all, from scratch",
    ),
    LedgerRow(
        "T6",
        "05_transfer_learning",
        ("S1",),
        'Fixed features ("CNN codes"): it matters that they are ReLU\'d if they were in pretraining',
        "linear head on codes before and after the nonlinearity",
    ),
    LedgerRow(
        "T7",
        "05_transfer_learning",
        ("S1",),
        "Fine-tune pretrained weights with a smaller rate than the new head",
        "one rate against discriminative rates: accuracy, and the distance the features move in the first steps",
    ),
    LedgerRow(
        "T8",
        "05_transfer_learning",
        ("S1",),
        "Constraints: layers cannot be taken out at will, but other image sizes are fine for "
        "conv/pool; an FC layer is a conv of the size of its input",
        "FC → conv conversion with equal outputs; the same net at three sizes",
    ),
    LedgerRow(
        "T9",
        "05_transfer_learning",
        ("S2",),
        "Keep VGG19's fully connected layers (fc2) or cut them and put a new head on the last conv layer?",
        "features at both depths: accuracy, parameters, seconds, on documents and on photos",
    ),
    LedgerRow(
        "T10",
        "05_transfer_learning",
        ("S1",),
        "load_weights and load_model gave different behaviour with the same weights",
        "every loading path in Keras and PyTorch: equal outputs? optimizer state? unbuilt layers "
        "silently not loaded? random-weights control as the asker did",
    ),
    LedgerRow(
        "T11",
        "05_transfer_learning",
        ("S1",),
        "COCO-pretrained for medical images: is that pointless? do added layers wreck the model? what"
        " instead of training from scratch?",
        "detection- against classification-pretrained on paper; new head on a medical-like target, measured",
    ),
    LedgerRow(
        "T12",
        "05_transfer_learning",
        ("S3",),
        "If the new inputs have another size, resize them to what the original expects",
        "resize against native size",
    ),
    LedgerRow(
        "T13",
        "05_transfer_learning",
        ("S3",),
        "Restore all of a model, or only its first three layers",
        "partial loading, reported by name, errors on mismatch",
    ),
    LedgerRow(
        "T14",
        "05_transfer_learning",
        ("S3",),
        "Few labels, many unlabelled: pretrain lower layers as autoencoders (or RBMs), layer by layer, then fine-tune",
        "labels swept, with and without; greedy stack against one autoencoder",
    ),
    LedgerRow(
        "T15",
        "05_transfer_learning",
        ("S3",),
        "Few labels of the target: pretrain on a related task with many (faces of strangers → of known people)",
        "such a pair measured",
    ),
    LedgerRow(
        "T16",
        "05_transfer_learning",
        ("S3",),
        'Self-supervision by corruption: sentences good or corrupted ("The dog sleeps" / "The dog '
        'they") teach a model language',
        "a small text model trained to tell corrupted from real, its lower layers reused on another text task",
    ),
    LedgerRow(
        "T17",
        "05_transfer_learning",
        ("S3",),
        "It speeds up training and needs less data",
        "learning curves against number of labels and against seconds",
    ),
    LedgerRow(
        "T18",
        "05_transfer_learning",
        ("S2",),
        "Adding fully connected layers costs parameters and time and may overfit; simpler generalizes better",
        "head size swept",
    ),
    # 06_optimizers
    LedgerRow(
        "O1",
        "06_optimizers",
        ("S3",),
        "Momentum, Nesterov, AdaGrad, RMSProp, Adam all speed up training over plain gradient descent",
        "each tuned over its own rate grid, steps and seconds to a loss; trajectories on a ravine",
    ),
    LedgerRow(
        "O2",
        "06_optimizers",
        ("S3",),
        "Adam is one of the best to use",
        "ranking with intervals, training loss and test accuracy separately; AdamW as well",
    ),
    LedgerRow(
        "O3",
        "06_optimizers",
        ("S3",),
        "Too high and too low rates both fail; start somewhat high and reduce",
        "rate sweep; constant against step, exponential, performance, cosine, 1cycle",
    ),
    LedgerRow(
        "O4",
        "06_optimizers",
        ("S3",),
        "AdaGrad, RMSProp and Adam reduce the rate themselves, so a schedule is not needed",
        "Adam with and without a schedule",
    ),
    LedgerRow(
        "O5",
        "06_optimizers",
        ("S0",),
        "Does a Keras model optimize the loss or the metrics?",
        "the loss alone: change the metrics, same weights bit for bit; metrics added after training; "
        "ReduceLROnPlateau as the one way a metric steers",
    ),
    LedgerRow(
        "O6",
        "06_optimizers",
        ("S2",),
        "The asker's step decay has factor = 1",
        "a schedule that never decays: found by plotting it",
    ),
    # 07_regularization
    LedgerRow(
        "R1",
        "07_regularization",
        ("S3",),
        "Regularization lowers generalization error, not training error",
        "both errors against λ",
    ),
    LedgerRow(
        "R2",
        "07_regularization",
        ("S3",),
        "Weight decay adds λ·wᵀw to the cost; larger λ, smaller weights, less overfitting, then underfitting",
        "weight norm and both errors against λ; L2 penalty against decoupled decay under SGD and under Adam",
    ),
    LedgerRow(
        "R3",
        "07_regularization",
        ("S3",),
        "ℓ1, ℓ2 and both; on the weights, not the biases",
        "sparsity under ℓ1; biases in or out; both frameworks' ways to collect the penalty",
    ),
    LedgerRow(
        "R4",
        "07_regularization",
        ("S3", "S2"),
        "Early stopping: stop when validation worsens; better combined with other methods",
        "curves, patience, best-weights restored; alone against combined",
    ),
    LedgerRow(
        "R5",
        "07_regularization",
        ("S2",),
        "Does the right number of epochs depend on the size of the data?",
        "best epoch AND best number of steps against data size",
    ),
    LedgerRow(
        "R6",
        "07_regularization",
        ("S0",),
        "Do I need dropout if I have a validation split?",
        "they are different things: a meter and a brake, shown apart",
    ),
    LedgerRow(
        "R7",
        "07_regularization",
        ("S2",),
        "Validation loss rises after the first epoch while training loss falls: so soon? balanced "
        "train, unbalanced test?",
        "reproduce both causes apart: an easy task overfit at once; a shifted class balance",
    ),
    LedgerRow(
        "R8",
        "07_regularization",
        ("S2",),
        "Validation accuracy above training accuracy with augmentation: theory and two tests of it",
        "run both tests: weaker augmentation narrows the gap; the same augmentation on validation "
        "turns it round; the dropout and running-average causes too",
    ),
    LedgerRow(
        "R9",
        "07_regularization",
        ("S2",),
        "KFold against `validation_split`: the latter takes the LAST fraction, before shuffling",
        "show it on sorted labels; use both together",
    ),
    LedgerRow(
        "R10",
        "07_regularization",
        ("S0", "S1"),
        "Nine ways against overfitting in a conv net: data or augmentation, dropout, DropConnect, "
        "penalties, feature-scale clipping, global average pooling, a smaller net, early stopping, "
        "stochastic pooling",
        "one conv net, each alone and the best together, with intervals",
    ),
    LedgerRow(
        "R11",
        "07_regularization",
        ("S0", "S1"),
        "Many labels are a cause of overfitting?",
        "classes swept with examples per class fixed, and with the total fixed",
    ),
    LedgerRow(
        "R12",
        "07_regularization",
        ("S0", "S1"),
        "Thoma's seven ways to improve a CNN (problem, more data, cleaner data, preprocessing, "
        "augmentation, training set-up, model)",
        "one small before/after for each",
    ),
    # 08_dropout
    LedgerRow(
        "D1",
        "08_dropout",
        ("S0",),
        "Why does dropout act differently in the two phases?",
        "the expected input to the next layer, both modes; both remedies (scale weights at test, or "
        "scale by 1/keep while training) equal in expectation",
    ),
    LedgerRow(
        "D2",
        "08_dropout",
        ("S0", "S3"),
        "A trained dropout net is the average of many thinned nets",
        "the test-time net against the mean of K sampled nets, K swept; exact for a linear net, close for a deep one",
    ),
    LedgerRow(
        "D3",
        "08_dropout",
        ("S0",),
        "At test you want all units",
        "accuracy with dropout left on at test against off",
    ),
    LedgerRow(
        "D4",
        "08_dropout",
        ("S3",),
        "Without scaling, test units get about twice the signal (p = 0.5) and do badly",
        "measured, by depth",
    ),
    LedgerRow(
        "D5",
        "08_dropout",
        ("S3",),
        "Units of any layer but the output may drop; p is typically 0.5",
        "p swept per kind of layer; what dropping outputs does",
    ),
    LedgerRow(
        "D6",
        "08_dropout",
        ("S3",),
        "A 95% accurate network can reach 96 to 97% with dropout",
        "error with and without, tuned, against data size; when it hurts",
    ),
    LedgerRow(
        "D7",
        "08_dropout",
        ("S3",),
        "Each step trains a new network; units grow less sensitive to their neighbours",
        "co-adaptation measured; MC dropout's uncertainty as what comes of it",
    ),
    LedgerRow(
        "D8",
        "08_dropout",
        ("S0",),
        "The learning-phase flag in Keras, and its PyTorch counterpart",
        "every way to set it, in both frameworks, and the mistakes: calling the model bare, frozen BN, a lambda layer",
    ),
    LedgerRow(
        "D9",
        "08_dropout",
        ("S0",),
        "Dropout is rarely used on conv layers: what then?",
        "plain, spatial and stochastic variants on one conv net",
    ),
    # 09_cnn_architectures
    LedgerRow(
        "C1",
        "09_cnn_architectures",
        ("S2",),
        "How do people know which layers to use? They do not: rules of thumb, experience, copying",
        "the rules below tested; a small search against copying a known design",
    ),
    LedgerRow(
        "C2",
        "09_cnn_architectures",
        ("S2",),
        "Convolution where data has spatial or temporal structure",
        "conv against dense on images, on the same images with pixels shuffled, on 1-D signals (Conv1D)",
    ),
    LedgerRow(
        "C3",
        "09_cnn_architectures",
        ("S2",),
        "Pooling drops detail (often noise) and dimension",
        "shift tolerance and cost with and without pooling; strided conv instead",
    ),
    LedgerRow(
        "C4",
        "09_cnn_architectures",
        ("S2",),
        "Recurrent for sequences; dense to force a dimension or where no structure is known",
        "one sequence task, three layer kinds",
    ),
    LedgerRow(
        "C5",
        "09_cnn_architectures",
        ("S0",),
        "At test a clever implementation could drop activations; does TensorFlow do so?",
        "peak memory in training, in evaluation with and without gradients, in both frameworks, "
        "against the sum predicted layer by layer",
    ),
    LedgerRow(
        "C6",
        "09_cnn_architectures",
        ("S2",),
        "More layers, higher accuracy, then overfitting; small problems need small nets (MNIST over "
        "99% with a simple one)",
        "depth and width swept at fixed data; the simplest net over 99% on the digits at hand",
    ),
    LedgerRow(
        "C7",
        "09_cnn_architectures",
        ("S2",),
        "Fully connected layers are the expensive part",
        "parameters, multiply-adds, bytes and seconds per layer for LeNet/VGG/ResNet-like nets",
    ),
    LedgerRow(
        "C8",
        "09_cnn_architectures",
        ("S3",),
        "The table of defaults: He, ELU, batch norm, dropout, Adam, no schedule",
        "that recipe against ablations of each entry and against a current one, with intervals",
    ),
    LedgerRow(
        "C9",
        "09_cnn_architectures",
        ("S1",),
        "A conv net accepts other image sizes as long as strides fit",
        "receptive field and output-size calculators, checked against the frameworks",
    ),
)
