"""O5: does a Keras model optimize the loss or the metrics?"""

import numpy as np

from course_lib.claims.claim import DOES_NOT_HOLD, HOLDS, Claim, Decision, Interval, Measured, Series
from course_lib.datasets import as_tensors, load
from course_lib.quiet import load_keras

__all__ = ["CLAIMS"]

EPOCHS = 4
SETTINGS = {
    "the same once more": {},
    "other metrics": {"metrics": ["accuracy", "mse"]},
    "metrics added after two epochs": {"late": ["accuracy"]},
    "loss larger by a millionth": {"loss_weights": [1 + 1e-6]},
    "another loss": {"loss": "mse"},
    "rate lowered on a metric's plateau": {"metrics": ["accuracy"], "follow": True},
}


def measure_loss(seeds):
    """The largest difference of any weight from a model without metrics, after the same training in all else."""
    keras = load_keras()
    data = load("mnist5k")
    images, labels = (t.numpy() for t in as_tensors(*data.subset(20)))
    images, targets = images.reshape(len(images), -1), np.eye(len(data.classes), dtype="float32")[labels]

    def train(seed, *, loss="categorical_crossentropy", late=None, follow=False, **options):
        keras.utils.set_random_seed(seed)
        layers = [keras.layers.Dense(16, activation="relu"), keras.layers.Dropout(0.2)]
        model = keras.Sequential(
            [keras.Input((images.shape[1],)), *layers, keras.layers.Dense(len(data.classes), activation="softmax")]
        )
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        model.compile(optimizer, loss=loss, **options)
        # a plateau of the accuracy by more than any change: the rate falls after every epoch
        lower = keras.callbacks.ReduceLROnPlateau("accuracy", factor=0.5, patience=1, mode="max", min_delta=1.0)
        for epoch in range(2):
            if epoch and late:
                model.compile(optimizer, loss=loss, metrics=late)  # the same optimizer, with its state
            model.fit(images, targets, epochs=EPOCHS // 2, verbose=0, callbacks=[lower] if follow else [])
        weights = model.get_weights()
        keras.backend.clear_session()
        return weights

    arms = {name: [[]] for name in SETTINGS}
    for seed in seeds:
        plain = train(seed)
        for name, options in SETTINGS.items():
            other = train(seed, **options)
            arms[name][0].append(max(float(np.abs(a - b).max()) for a, b in zip(plain, other, strict=True)))
    why = "0 means the same weights to the last bit, which is what the claim says of metrics"
    return Measured(series=(Series("largest difference of a weight", "", arms, identical=why),))


def decide_loss(measured):
    series = measured.series[0]
    unmoved = ("the same once more", "other metrics", "metrics added after two epochs")
    moved = [name for name in SETTINGS if name not in unmoved]
    holds = all(series.values(name).max() == 0 for name in unmoved) and all(series.values(n).min() > 0 for n in moved)
    return Decision(
        verdict=HOLDS if holds else DOES_NOT_HOLD,
        interval=Interval.of(
            "largest difference of a weight, other metrics", "", series.values("other metrics").tolist()
        ),
        figures={
            "seeds": len(series.values("other metrics")),
            "metrics": series.values("other metrics").max(),
            "late": series.values("metrics added after two epochs").max(),
            "millionth": series.mean("loss larger by a millionth"),
            "loss": series.mean("another loss"),
            "plateau": series.mean("rate lowered on a metric's plateau"),
        },
    )


CLAIMS = (
    Claim(
        id="O5",
        statement="A Keras model optimizes its loss; metrics are only reported, and change nothing unless a callback "
        "acts on them.",
        headline="Over {seeds} seeds the largest difference of any weight is {metrics:g} with other metrics and "
        "{late:g} with metrics added in mid-training. It is {millionth:.0e} with a loss larger by a millionth, "
        "{loss:.2g} with another loss, and {plateau:.2g} where ReduceLROnPlateau follows a metric.",
        rule="Holds if with the same seed the trained weights are equal to the last bit whatever the metrics, and "
        "differ wherever the loss differs, or a callback acts on a metric.",
        measure=measure_loss,
        decide=decide_loss,
        seeds=tuple(range(5)),
    ),
)
