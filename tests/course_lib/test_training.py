"""The training loop: what its history means, that it repeats, and that it leaves nothing behind."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib.dropout import Dropout
from course_lib.training import History, evaluate, threads, train


def data(n=96, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=g)
    return x, (x[:, 0] > 0).long()


def net(p=0.5, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), Dropout(p), nn.Linear(32, 2))


def run(model, **changes):
    return train(model, data(), data(seed=1), **{"epochs": 3, "lr": 0.01, "seed": 5, "progress": False, **changes})


def test_it_learns_and_keeps_one_value_an_epoch():
    model = net()
    history = run(model, epochs=15)
    assert history.epochs == 15
    for field in dataclasses.fields(History):
        value = getattr(history, field.name)
        assert field.name == "seconds" or len(value) == 15
    assert history.valid_accuracy[-1] > 0.85 > history.train_accuracy[0] - 0.3
    assert history.train_loss[-1] < history.train_loss[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        history.seconds = 0.0


def test_history_is_what_evaluation_gives_and_the_model_is_left_in_evaluation():
    model = net()
    history = run(model)
    assert not any(module.training for module in model.modules())
    score = evaluate(model, data(seed=1))
    assert (score.loss, score.accuracy) == (history.valid_loss[-1], history.valid_accuracy[-1])
    x, y = data(seed=1)
    assert score.loss == pytest.approx(F.cross_entropy(model(x), y).item(), rel=1e-6)
    assert score.accuracy == (model(x).argmax(1) == y).float().mean()


def test_the_running_loss_has_dropout_on():
    """With the weights held still the two losses differ by dropout alone."""
    still = {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.0), "epochs": 2}

    def plain(p):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), Dropout(p), nn.Linear(32, 2))

    without, dropping = run(plain(0.0), **still), run(plain(0.9), **still)
    assert without.running_loss == pytest.approx(without.train_loss, rel=1e-5)
    assert dropping.train_loss == without.train_loss
    assert min(dropping.running_loss) > dropping.train_loss[0] + 0.02  # and the seed is fixed


def test_the_same_seed_gives_the_same_run_whatever_the_global_generator_does():
    one, two, other = net(), net(), net()
    first = run(one)
    torch.manual_seed(99)
    second = run(two)
    third = run(other, seed=6)
    assert dataclasses.replace(first, seconds=0) == dataclasses.replace(second, seconds=0)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert first.running_loss != third.running_loss


def test_the_global_generator_the_threads_and_frozen_weights_are_left_alone():
    model = net()
    model[0].weight.requires_grad_(False)
    frozen = model[0].weight.clone()
    torch.manual_seed(3)
    state, n = torch.get_rng_state(), torch.get_num_threads()
    run(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == n
    assert torch.equal(model[0].weight, frozen)


def test_threads_are_set_inside_and_restored_after_an_error():
    n = torch.get_num_threads()
    with pytest.raises(KeyError), threads(n + 1):
        assert torch.get_num_threads() == n + 1
        raise KeyError
    assert torch.get_num_threads() == n
    with threads(None):
        assert torch.get_num_threads() == n


def test_evaluate_keeps_modes_and_does_not_depend_on_the_batch_size():
    model = net().train()
    model[1].eval()
    whole, parts = evaluate(model, data()), evaluate(model, data(), batch_size=7)
    assert model.training and model[3].training and not model[1].training
    assert whole.accuracy == parts.accuracy and whole.loss == pytest.approx(parts.loss, rel=1e-6)


def test_progress_goes_to_stdout_and_nothing_to_stderr(capfd):
    run(net(), progress=True)
    out, err = capfd.readouterr()
    assert err == ""
    assert out.count("\r") == 3 and "epoch 3/3" in out and out.endswith("\n")
    run(net())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "at least 1"),
        ({"batch_size": 0}, "at least 1"),
        ({"train_data": (torch.ones(3, 6), torch.zeros(2).long())}, "train_data needs as many"),
        ({"valid_data": (torch.ones(0, 6), torch.zeros(0).long())}, "valid_data needs as many"),
    ],
)
def test_what_cannot_be_trained_is_refused(changes, message):
    call = {"train_data": data(), "valid_data": data(), "epochs": 1, "progress": False, **changes}
    with pytest.raises(ValueError, match=message):
        train(net(), **call)


def test_a_last_batch_smaller_than_the_others_counts_by_its_size():
    history = run(nn.Linear(6, 2), batch_size=95, optimizer=lambda p: torch.optim.SGD(p, lr=0.0), epochs=1)
    assert history.running_loss == pytest.approx(history.train_loss, rel=1e-5)
