"""Validation in several ranks."""

from __future__ import annotations

import pytest
from torch.utils.data import Dataset

from c2fdft_arch.common import distributed
from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_model.validation.options import ValidationOptions
from c2fdft_model.validation.validation import ImageResult, Validator, mean_metrics


class Images(Dataset):
    opt = {'name': 'images'}

    def __init__(self, count: int) -> None:
        self.paths = [f'{index}.png' for index in range(count)]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, str]:
        return {'lq_path': self.paths[index]}


def validate(count: int) -> list[ImageResult]:
    options = ValidationOptions(pbar=False)
    validator = Validator({'is_train': False}, options, lambda data, file: ({}, []))
    return validator.run(Images(count), 0, save_img=False)


@pytest.mark.parametrize('count', [0, 1, 5])
def test_shares_of_ranks_cover_every_image_once(monkeypatch, count):
    monkeypatch.setattr(distributed, 'world_size', lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(distributed, 'rank', lambda rank=rank: rank)
        shares.append([result.index for result in validate(count)])
    assert sorted(shares[0] + shares[1]) == list(range(count))
    assert abs(len(shares[0]) - len(shares[1])) <= 1


def test_equal_names_in_different_folders_are_written_to_different_files():
    dataset = Images(0)
    dataset.opt = {'name': 'images', 'dataroot_lq': 'lq'}
    dataset.paths = ['lq/a/1.png', 'lq/b/1.png']
    files = []
    opt = {'is_train': False, 'name': 'test', 'path': {'visualization': 'results'}}
    options = ValidationOptions(pbar=False)
    validator = Validator(opt, options, lambda data, file: (files.append(file) or {}, []))
    results = validator.run(dataset, 0, save_img=True)
    assert files == ['results/images/a/1_test.png', 'results/images/b/1_test.png']
    assert [result.name for result in results] == ['a/1', 'b/1']


def test_a_mean_is_summed_in_the_order_of_the_images():
    values = [0.1, 0.2, 0.3, 1e8, -1e8]
    results = [ImageResult(k, str(k), {'psnr': value}) for k, value in enumerate(values)]
    assert mean_metrics(results, ['psnr']) == {'psnr': sum(values) / 5}


def test_an_option_error_in_another_rank_is_raised_in_this_one(monkeypatch):
    def gather(own):
        return [own, ([], 'val: of rank 1')]

    monkeypatch.setattr('c2fdft_arch.common.distributed.gather_objects', gather)
    with pytest.raises(OptionError, match='val: of rank 1'):
        validate(2)
