from __future__ import annotations

import pytest
import torch

from c2fdft_model.restoring.tiling import blend_weights, check_tile, tile_starts, tiled


@pytest.mark.parametrize(
    ('size', 'tile', 'overlap', 'starts'),
    [
        (40, 64, 16, [0]),
        (64, 64, 16, [0]),
        (72, 64, 16, [0, 8]),
        (112, 64, 16, [0, 48]),
        (120, 64, 16, [0, 48, 56]),
        (128, 64, 0, [0, 64]),
    ],
)
def test_tiles_start_in_order_and_end_with_the_image(size, tile, overlap, starts):
    assert tile_starts(size, tile, overlap) == starts


@pytest.mark.parametrize('size', [40, 72, 112, 120, 168, 200])
def test_weights_sum_to_one_at_every_pixel(size):
    total = torch.zeros(size)
    for start, line in blend_weights(size, tile=64, overlap=16):
        total[start : start + len(line)] += line
    torch.testing.assert_close(total, torch.ones(size))


@pytest.mark.parametrize('size', [40, 72, 112, 120, 200])
def test_equal_weights_sum_to_one_at_every_pixel(size):
    total = torch.zeros(size)
    for start, line in blend_weights(size, tile=64, overlap=48, blend='mean'):
        total[start : start + len(line)] += line
    torch.testing.assert_close(total, torch.ones(size))


def test_the_mean_is_of_all_tiles_that_have_a_pixel():
    number = iter(range(1, 100))

    def numbered(part, t):
        return torch.full_like(part, next(number))

    result = tiled(numbered, 16, 8, 8, blend='mean')(torch.rand(1, 3, 16, 32), torch.zeros(1))
    assert result[0, 0, 0, ::8].tolist() == [1, 1.5, 2.5, 3]


def test_patches_may_overlap_by_more_than_half_where_their_mean_is_taken():
    x = torch.rand(1, 6, 32, 40)
    run = tiled(lambda part, t: part[:, 3:], 16, 12, 4, blend='mean')
    torch.testing.assert_close(run(x, torch.zeros(1)), x[:, 3:])


@pytest.mark.parametrize(('blend', 'complaint'), [('maen', 'did you mean "mean"'), ('mean', '64')])
def test_impossible_blends_are_refused(blend, complaint):
    with pytest.raises(ValueError, match=complaint):
        check_tile(64, 64, 8, blend)


def test_weights_have_no_jump_where_a_tile_begins():
    (_, first), (_, second) = blend_weights(112, tile=64, overlap=16)
    assert second[0] < 0.01
    assert first[-1] < 0.01


def test_a_pointwise_function_is_unchanged_by_tiling():
    x = torch.rand(2, 6, 72, 120)
    run = tiled(lambda part, t: part[:, 3:] * t.view(-1, 1, 1, 1), 64, 16, 8)
    t = torch.tensor([2.0, 3.0])
    torch.testing.assert_close(run(x, t), x[:, 3:] * t.view(-1, 1, 1, 1))


def test_no_tile_is_larger_than_asked():
    seen = []

    def record(part, t):
        seen.append(tuple(part.shape[-2:]))
        return part

    tiled(record, 32, 8, 8)(torch.rand(1, 3, 24, 80), torch.zeros(1))
    assert set(seen) == {(24, 32)}


@pytest.mark.parametrize(
    ('tile', 'overlap', 'complaint'),
    [
        (0, 0, 'tile is 0'),
        (60, 8, 'tile is 60'),
        (64, 40, 'overlap is 40'),
        (64, 12, 'overlap is 12'),
    ],
)
def test_impossible_tiles_are_refused(tile, overlap, complaint):
    with pytest.raises(ValueError, match=complaint):
        check_tile(tile, overlap, 8)
