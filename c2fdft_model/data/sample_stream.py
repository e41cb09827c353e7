"""Which images, crops and flips an iteration trains with: a pure function of seed, rank and i.

All images form one endless stream: pass 0 over the data set in an order of its own, then pass 1,
and so on. Iteration i takes the next images of the stream, rank 0 first, then rank 1, ...; so every
image is used equally often whatever the phases of the patch cycle. Nothing is remembered: a place
in the stream and its random numbers are computed from counters (SplitMix64, Steele et al., 2014),
which does not depend on the version of any library.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from c2fdft_model.data.patch_cycle import PatchCycle

_ORDER, _CROP = 1, 2
_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FACTOR_1, _FACTOR_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True)
class Crop:
    """Random numbers of one crop: its place as fractions of 2**32, and one of 8 orientations."""

    y: int
    x: int
    orientation: int

    def orient(self, patch: np.ndarray) -> np.ndarray:
        """The patch (H, W, C) turned and mirrored, one of the square's eight symmetries."""
        patch = np.rot90(patch, self.orientation % 4)
        return patch[:, ::-1] if self.orientation >= 4 else patch

    def top_left(self, height: int, width: int, patch_size: int) -> tuple[int, int]:
        """Corner of the crop in an image of this size, which must hold a patch."""
        rows, columns = height - patch_size + 1, width - patch_size + 1
        return self.y * rows >> 32, self.x * columns >> 32


@dataclass(frozen=True)
class ImageDraw:
    """One image to decode, and the crops to take from it."""

    image: int
    crops: tuple[Crop, ...]


@dataclass(frozen=True)
class BatchPlan:
    """All that has to be loaded for one iteration."""

    patch_size: int
    draws: tuple[ImageDraw, ...]


@dataclass(frozen=True)
class SampleStream:
    """The endless stream of samples of one training, cut into iterations and ranks."""

    num_images: int
    cycle: PatchCycle
    seed: int
    world_size: int = 1
    crops_per_image: int = 1

    def batch(self, iteration: int, rank: int, replicas: int = 1) -> BatchPlan:
        """What iteration 1, 2, ... loads in this rank.

        With `replicas` above 1 the batch holds, one after the other, what as many ranks would get:
        `DataParallel` cuts it up in this order.
        """
        phase = self.cycle.phase_at(iteration)
        per_rank = [-(-size // self.crops_per_image) for size in self.cycle.batch_sizes]
        count = per_rank[self.cycle.phase_index(iteration)]
        before = self.cycle.total_before(iteration, per_rank) * self.world_size * replicas
        start = before + count * rank * replicas
        positions = np.arange(start, start + count * replicas, dtype=np.uint64)
        images = image_at(positions, self.num_images, self.seed)
        crops = draw_crops(positions, self.crops_per_image, self.seed)
        last = phase.batch_size - (count - 1) * self.crops_per_image
        draws = [
            ImageDraw(int(image), tuple(crops[k][: last if (k + 1) % count == 0 else None]))
            for k, image in enumerate(images)
        ]
        return BatchPlan(phase.patch_size, tuple(draws))


def image_at(positions: np.ndarray, num_images: int, seed: int) -> np.ndarray:
    """Index of the image at each place of the stream, int64."""
    passes, slots = np.divmod(positions.astype(np.int64), num_images)
    images = np.empty(len(positions), dtype=np.int64)
    for number in np.unique(passes):
        here = passes == number
        images[here] = pass_order(num_images, seed, int(number))[slots[here]]
    return images


@lru_cache(maxsize=4)
def pass_order(num_images: int, seed: int, number: int) -> np.ndarray:
    """The order of the images in pass `number` over the data set."""
    keys = splitmix64(seed, _ORDER, number, np.arange(num_images, dtype=np.uint64))
    return np.argsort(keys, kind='stable')


def draw_crops(positions: np.ndarray, per_image: int, seed: int) -> list[list[Crop]]:
    """Random numbers for `per_image` crops at each place of the stream."""
    crop = np.arange(per_image, dtype=np.uint64)
    place = positions[:, None]
    yx = splitmix64(seed, _CROP, 0, place, crop)
    orientation = splitmix64(seed, _CROP, 1, place, crop) & np.uint64(7)
    low = np.uint64(0xFFFFFFFF)
    return [
        [Crop(int(a >> np.uint64(32)), int(a & low), int(o)) for a, o in zip(*row, strict=True)]
        for row in zip(yx, orientation, strict=True)
    ]


def splitmix64(seed: int, *counters: int | np.ndarray) -> np.ndarray:
    """64 random bits for each combination of counters (arrays are broadcast), as uint64."""
    words = _mix(_as_words(seed))
    for counter in counters:
        words = _mix(words ^ _mix(_as_words(counter) + _GOLDEN_GAMMA))
    return words


def _as_words(value: int | np.ndarray) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value.astype(np.uint64)
    return np.array([value % 2**64], dtype=np.uint64)


def _mix(words: np.ndarray) -> np.ndarray:
    words = words + _GOLDEN_GAMMA
    words = (words ^ (words >> np.uint64(30))) * _FACTOR_1
    words = (words ^ (words >> np.uint64(27))) * _FACTOR_2
    return words ^ (words >> np.uint64(31))
