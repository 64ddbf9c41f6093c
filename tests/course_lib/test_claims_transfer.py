"""What the transfer claims train on is what the pretrained net gives, and what they reuse is what was saved."""

import copy

import pytest
import torch
from torch import nn

from course_lib.claims.transfer.mechanism import dense_net, opened_net
from course_lib.claims.transfer.pretraining import (
    REPLACED,
    WIDTHS,
    WINDOW,
    corrupted,
    from_layers,
    restored,
    start_layers,
    windows,
    wrong_tensors,
)
from course_lib.claims.transfer.trunks import (
    IMAGES,
    Schedule,
    batches,
    conv_net,
    fine_tune,
    fit_head,
    percent_wrong,
    pretrained_net,
    see,
    small,
    upper,
)
from course_lib.pretrained import preprocess


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (6, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("depth", [IMAGES, 4, 14])
def test_the_upper_part_on_kept_maps_gives_what_the_whole_net_gives(images, depth):
    seen = see(images, (4, 14), 48)
    head = nn.Linear(1280, 3)
    with torch.no_grad():
        expected = head(pretrained_net().feature_maps(preprocess(images, 48)).mean((2, 3)))
        got = upper(depth, head)(images if depth == IMAGES else seen[depth])
        torch.testing.assert_close(head(seen["features"]), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_fine_tuning_moves_weights_but_no_running_statistic_and_not_the_shared_net(images):
    before = copy.deepcopy(pretrained_net().state_dict())
    head = nn.Linear(1280, 3)
    model = upper(14, head)
    start = copy.deepcopy(model.state_dict())
    fine_tune(model, see(images, (14,), 48)[14], torch.arange(6) % 3, 0, Schedule(steps=2, batch=4))
    for name, value in model.state_dict().items():
        assert torch.equal(value, start[name]) == ("running" in name or "batches_tracked" in name), name
    assert all(torch.equal(value, before[name]) for name, value in pretrained_net().state_dict().items())
    assert torch.equal(head.weight, start["head.weight"])


def test_batches_are_whole_passes_one_after_another():
    rows = torch.cat(list(batches(10, 4, 5, 0)))
    assert len(rows) == 20
    assert rows[:10].sort().values.tolist() == rows[10:].sort().values.tolist() == list(range(10))
    assert len(next(batches(3, 16, 1, 0))) >= 3


def test_a_head_separates_what_a_line_separates():
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    head = fit_head(x, y, 2, decay=1e-4)
    assert percent_wrong(head, x, y) == 0
    assert percent_wrong(head, x, 1 - y) == 100


@pytest.mark.parametrize("widths", [(4, 8, 8), (4, 8, 8, 8)])
def test_the_small_net_takes_every_set(images, widths):
    assert conv_net(1, 5, widths=widths)(small(images)).shape == (6, 5)


@pytest.mark.parametrize("layers", range(5))
def test_restored_layers_are_the_saved_ones_and_no_more(layers):
    class Halves:
        classes = 3

    saved = conv_net(1, 3, widths=WIDTHS)
    net = restored(Halves, saved, layers, seed=1)
    assert wrong_tensors(net, saved, layers) == 0
    assert layers == 4 or wrong_tensors(net, saved, layers + 1) > 0
    assert not torch.equal(net[-1].weight, saved[-1].weight)


def test_how_many_blocks_train():
    counts = [
        sum(any(p.requires_grad for p in block.parameters()) for block in opened_net(n).blocks) for n in (0, 1, 5)
    ]
    assert counts == [0, 1, 5]
    assert all(p.requires_grad for p in opened_net(16).parameters())


def test_a_corrupted_piece_differs_in_at_most_the_words_replaced():
    pieces = torch.arange(200).view(-1, WINDOW)
    spoiled = corrupted(pieces, torch.Generator().manual_seed(0))
    differ = (spoiled != pieces).sum(1)
    assert differ.max() <= REPLACED and differ.float().mean() > REPLACED - 1


def test_text_is_cut_without_overlap():
    for parts in windows().values():
        assert all(part.shape[1] == WINDOW for part in parts.values())
        assert len(parts["train"]) > len(parts["valid"]) > 100


def test_a_classifier_starts_from_the_layers_it_is_given():
    layers = start_layers(0)
    net = from_layers(layers, 4, seed=0)
    assert torch.equal(net[0].weight, layers[0].weight) and torch.equal(net[2].weight, layers[1].weight)
    assert dense_net(0)(torch.zeros(2, 3, 32, 32)).shape == (2, 5)
