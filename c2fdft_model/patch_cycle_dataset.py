"""The data set of the patch cycle for BasicSR's loaders."""

from collections.abc import Mapping, Sequence
from typing import Any

from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import get_dist_info
from basicsr.utils.registry import DATASET_REGISTRY
from torch.utils import data

from c2fdft_arch.common.messages import one_line
from c2fdft_arch.common.worker_signals import shield_worker
from c2fdft_model.data.dataset_options import parse_dataset
from c2fdft_model.data.epoch_length import epoch_samples
from c2fdft_model.data.pair_reader import PairReader, find_pairs
from c2fdft_model.data.sample_stream import ImageDraw, SampleStream
from c2fdft_model.data.training_clock import ITERATION_KEY, LoaderPosition
from c2fdft_model.images.image_io import ImageReadError
from c2fdft_model.plugin.patches.iterations import announce_iterations
from c2fdft_model.training.unreadable import UNREADABLE_KEY

announce_iterations()


@DATASET_REGISTRY.register()
class PatchCyclePairedDataset(data.Dataset):
    """Pairs of images whose patch size and batch size follow the training iteration.

    In training, one call of `__getitems__` loads the whole batch of an iteration. What it holds is
    a function of the seed, the rank, the number of ranks and the iteration alone; the indices that
    the loader passes only say how many GPUs it loads for. In validation and test, whole images.

    Samples: `lq`, `gt` (3, H, W) RGB float32 in [0, 1]; `lq_path`, `gt_path`; in training also
    `patch_cycle_iteration`, the iteration they were loaded for, and `unreadable`, the images that
    they stand in for, in words.

    Raises OptionError for options that cannot be, PairingError for images that do not pair, and
    ImageReadError for a file that cannot be read, in training if no pair can take its place.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        super().__init__()
        self.opt = opt
        self.options = parse_dataset(opt)
        self.is_train = self.options.phase == 'train'
        is_first_rank = get_dist_info()[0] == 0
        self.pairs = find_pairs(self.options, self.options.check_images if is_first_rank else False)
        self.reader = PairReader(self.options)
        self.position = LoaderPosition()
        if self.is_train:
            get_root_logger().info(
                f'{len(self.pairs)} pairs. Patch cycle (batch per GPU x patch for iterations): '
                f'{self.options.cycle}. An epoch counts as {len(self)} images for BasicSR.'
            )

    def __len__(self) -> int:
        """In training, as many samples as make an epoch a whole number of loader batches."""
        if not self.is_train:
            return len(self.pairs)
        options = self.options
        _, world_size = get_dist_info()
        return epoch_samples(options.batch_size_per_gpu, world_size, options.dataset_enlarge_ratio)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Pair number `index`, whole, whatever the phase."""
        return self.reader.whole(self.pairs[index])

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """The batch of the iteration that this call is for; the indices' values are ignored."""
        shield_worker()
        if not self.is_train:
            return [self[index] for index in indices]
        options = self.options
        replicas = options.replicas_of(len(indices))
        now, iteration = self.position.reading(), self.position.next_iteration()
        stream = SampleStream(
            len(self.pairs), options.cycle, now.seed, now.world_size, options.crops_per_image
        )
        plan = stream.batch(iteration, now.rank, replicas)
        # Workers load ahead of the training, also past its end, where one sample is enough.
        is_past_end = now.total_iter is not None and iteration > now.total_iter
        return [
            sample | {ITERATION_KEY: iteration}
            for draw in (plan.draws[:1] if is_past_end else plan.draws)
            for sample in self._patches(draw, plan.patch_size)
        ]

    def _patches(self, draw: ImageDraw, patch_size: int) -> list[dict[str, Any]]:
        """The samples of a draw, from the next pair if its own cannot be read."""
        problems: list[str] = []
        for k in range(1 + min(self.options.max_unreadable, len(self.pairs) - 1)):
            pair = self.pairs[(draw.image + k) % len(self.pairs)]
            try:
                samples = self.reader.patches(pair, draw.crops, patch_size)
            except ImageReadError as error:
                problems.append(one_line(error))
            else:
                return [sample | {UNREADABLE_KEY: '\n'.join(problems)} for sample in samples]
        raise ImageReadError('\n'.join(problems))
