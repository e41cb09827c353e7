"""Validation and test: each rank restores its share of the images, all of them get the results."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import path as osp
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from c2fdft_arch.common import distributed
from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_arch.inference.memory_plan import MemoryBudgetError
from c2fdft_model.data.image_names import degraded_paths, image_name, result_names
from c2fdft_model.images.image_io import ImageReadError
from c2fdft_model.validation.failures import Failures
from c2fdft_model.validation.memory_budget import budget_error
from c2fdft_model.validation.options import ValidationOptions
from c2fdft_model.validation.previews import preview
from c2fdft_model.validation.result_files import write_png

Evaluate = Callable[[dict[str, Any], str | None], tuple[dict[str, float], list[Tensor]]]


@dataclass(frozen=True)
class ImageResult:
    """One image: its place in the data set, its metrics, and a preview (h, w, 3) uint8."""

    index: int
    name: str
    metrics: Mapping[str, float]
    preview: np.ndarray | None = None


Shown = tuple[list[ImageResult], Mapping[str, float], str, int | str]
"""A validation's results and means, its data set and iteration."""


def mean_metrics(results: Sequence[ImageResult], names: Iterable[str]) -> dict[str, float]:
    """The mean of each metric, summed in the data set's order: the same for any number of ranks.

    NaN without any image.
    """
    count = len(results)
    return {n: sum(r.metrics[n] for r in results) / count if count else math.nan for n in names}


class Validator:
    """Validates, or tests, a data set on all ranks, and shows the results in TensorBoard.

    `evaluate(data, file)` restores one image, a batch of BasicSR's, and writes it to `file` unless
    that is None; it returns the metrics and the images to show: degraded, restored and, if there
    is one, clean.
    """

    def __init__(
        self, opt: Mapping[str, Any], options: ValidationOptions, evaluate: Evaluate
    ) -> None:
        self.opt = opt
        self.options = options
        self._evaluate = evaluate
        self.failures = Failures()
        self.not_yet_shown: list[Shown] = []
        """Validations to show together with the next: only BasicSR's own get its writer."""

    def run(self, dataset: Dataset, iteration: int | str, save_img: bool) -> list[ImageResult]:
        """Evaluate every image once, in batches of one; the results in the data set's order.

        Every rank takes every `world_size`-th image; the results are the same in all of them. What
        cannot be read is left out, and with what cannot be written noted in `failures`.

        Raises OptionError if `val: memory_budget_mb` is too small for an image of any rank; it is
        raised in all, so that none waits for another.
        """
        dataset_name = dataset.opt['name']  # type: ignore[attr-defined]
        count = len(dataset)  # type: ignore[arg-type]
        share = range(distributed.rank(), count, distributed.world_size())
        names = _names(dataset)
        own: list[ImageResult] = []
        problem = ''
        try:
            for index, data in self._batches(dataset, share):
                name = names[index] if names else image_name(data['lq_path'][0])
                file = self._file(name, dataset_name, iteration) if save_img else None
                metrics, images = self._evaluate(data, file)
                shown = self.opt['is_train'] and index < self.options.strips
                own.append(ImageResult(index, name, metrics, preview(images) if shown else None))
        except MemoryBudgetError as error:
            problem = str(budget_error(self.options, data['lq_path'][0], error))
        except OptionError as error:
            problem = str(error)
        gathered = distributed.gather_objects((own, problem, list(self.failures.noted)))
        shares, problems, noted = zip(*gathered, strict=True)
        self.failures.end_of_set(dataset_name, noted, count)
        for text in filter(None, problems):
            raise OptionError(text)
        return sorted(itertools.chain.from_iterable(shares), key=lambda result: result.index)

    def _batches(self, dataset: Dataset, share: range) -> Iterator[tuple[int, dict[str, Any]]]:
        """The images of a share that can be read, in batches of one, with a progress bar."""
        batches = iter(DataLoader(Subset(dataset, share), batch_size=1, num_workers=0))
        hidden = not self.options.pbar or distributed.rank() != 0
        name = dataset.opt['name']  # type: ignore[attr-defined]
        for index in tqdm(share, name, unit='image', disable=hidden):
            try:
                data = next(batches)
            except ImageReadError as error:
                self.failures.note(error)
            else:
                yield index, data

    def _file(self, name: str, dataset: str, iteration: int | str) -> str:
        """Where BasicSR's SRModel writes a restored image."""
        folder = self.opt['path']['visualization']
        if self.opt['is_train']:
            return osp.join(folder, name, f'{osp.basename(name)}_{iteration}.png')
        return osp.join(folder, dataset, f'{name}_{self.options.suffix or self.opt["name"]}.png')

    def write(self, file: str, image: np.ndarray) -> None:
        """Write a restored image (H, W, 3) uint8, BGR, or note that it cannot be written."""
        try:
            write_png(file, image)
        except OSError as error:
            self.failures.note(error)

    def check_failures(self, dataset: str, board: Any) -> None:
        """At the end of the last data set, raise ImagesFailed if images of any have failed.

        TensorBoard's writer is let write before.
        """
        sections, is_train = self.opt['datasets'], self.opt['is_train']
        keys = [key for key in sections if key != 'train'] if is_train else sorted(sections)
        if sections[keys[-1]]['name'] == dataset:
            if board is not None:
                board.flush()
            self.failures.check()

    def show(self, results: list[ImageResult], dataset: str, step: int | str, board: Any) -> None:
        """Give a TensorBoard writer the previews; BasicSR gives it the metrics."""
        if board is None:
            return
        self.not_yet_shown.append((results, {}, dataset, step))
        while self.not_yet_shown:
            results, metrics, dataset, step = self.not_yet_shown.pop(0)
            for name, value in metrics.items():
                board.add_scalar(f'metrics/{dataset}/{name}', value, step)
            for result in results:
                if result.preview is not None:
                    tag = f'strips/{dataset}/{result.name}'
                    board.add_image(tag, result.preview, step, dataformats='HWC')


def _names(dataset: Dataset) -> list[str]:
    """What the results are called, if the data set tells its images."""
    paths = degraded_paths(dataset)
    return result_names(paths or [], dataset.opt.get('dataroot_lq'))  # type: ignore[attr-defined]
