"""Equal use, new orders and fair crops of the endless stream of samples."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from c2fdft_model.data.patch_cycle import PatchCycle
from c2fdft_model.data.sample_stream import Crop, SampleStream, image_at, pass_order, splitmix64

CYCLE = PatchCycle((8, 16, 32), (6, 4, 2), (2, 3, 2))


def stream(num_images=7, **changes) -> SampleStream:
    return SampleStream(num_images, CYCLE, seed=1, **changes)


def images_of(streams: SampleStream, iterations: range) -> list[int]:
    return [
        draw.image
        for i in iterations
        for rank in range(streams.world_size)
        for draw in streams.batch(i, rank).draws
    ]


@pytest.mark.parametrize('num_images', [1, 3, 7, 100])
@pytest.mark.parametrize('world_size', [1, 2, 3])
@pytest.mark.parametrize('crops', [1, 2])
def test_every_pass_uses_each_image_once(num_images, world_size, crops):
    used = images_of(
        stream(num_images, world_size=world_size, crops_per_image=crops), range(1, 100)
    )
    whole_passes = len(used) // num_images
    for number in range(whole_passes):
        one_pass = used[number * num_images : (number + 1) * num_images]
        assert sorted(one_pass) == list(range(num_images))


def test_data_set_smaller_than_a_batch_repeats_images_equally():
    counts = Counter(images_of(stream(num_images=2), range(1, 2)))
    assert counts == {0: 3, 1: 3}


def test_each_pass_has_an_order_of_its_own():
    orders = {tuple(pass_order(20, 1, number)) for number in range(50)}
    assert len(orders) == 50


def test_orders_are_uniform():
    first = Counter(int(pass_order(5, 1, number)[0]) for number in range(5000))
    assert all(abs(count - 1000) < 150 for count in first.values())


def test_order_does_not_depend_on_what_was_asked_before():
    positions = np.arange(100, dtype=np.uint64)
    together = image_at(positions, 7, seed=1)
    backwards = [image_at(positions[k : k + 1], 7, seed=1)[0] for k in reversed(range(100))]
    assert together.tolist() == backwards[::-1]


def test_batches_are_as_large_as_their_phase():
    for i in range(1, 30):
        for crops in (1, 2, 4, 10):
            plan = stream(crops_per_image=crops).batch(i, 0)
            phase = CYCLE.phase_at(i)
            assert plan.patch_size == phase.patch_size
            assert sum(len(draw.crops) for draw in plan.draws) == phase.batch_size
            assert len(plan.draws) == -(-phase.batch_size // crops)


def test_replicas_are_as_large_as_their_phase_too():
    for crops in (1, 4):
        plan = stream(crops_per_image=crops).batch(1, 0, replicas=3)
        assert sum(len(draw.crops) for draw in plan.draws) == 3 * 6


def test_seeds_differ():
    other = SampleStream(7, CYCLE, seed=2)
    assert other.batch(1, 0) != stream().batch(1, 0)


def test_crops_cover_all_places_and_orientations_evenly():
    plans = [SampleStream(9, CYCLE, seed=3).batch(i, 0) for i in range(1, 1500)]
    crops = [crop for plan in plans for draw in plan.draws for crop in draw.crops]
    corners = Counter(crop.top_left(10, 11, 8) for crop in crops)
    assert set(corners) == {(y, x) for y in range(3) for x in range(4)}
    for counts, kinds in ((corners, 12), (Counter(c.orientation for c in crops), 8)):
        assert len(counts) == kinds
        assert all(abs(n - len(crops) / kinds) < 0.2 * len(crops) / kinds for n in counts.values())


def test_extreme_draws_stay_inside_the_image():
    assert Crop(0, 0, 0).top_left(8, 9, 8) == (0, 0)
    assert Crop(2**32 - 1, 2**32 - 1, 0).top_left(10, 9, 8) == (2, 1)


def test_orientations_are_the_symmetries_of_the_square():
    patch = np.arange(27).reshape(3, 3, 3)
    turned = {Crop(0, 0, orientation).orient(patch).tobytes() for orientation in range(8)}
    assert len(turned) == 8
    assert np.array_equal(Crop(0, 0, 0).orient(patch), patch)


def test_random_words_are_pinned():
    """Another result would change what a resumed training sees."""
    words = splitmix64(10, 1, 0, np.arange(2, dtype=np.uint64))
    assert words.tolist() == [17642306495378287489, 8799985870664704164]
