"""Validation in several ranks, and of images of which some fail."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from torch.utils.data import Dataset

from c2fdft_arch.common import distributed
from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_model.commands import test, train
from c2fdft_model.images.image_io import ImageReadError
from c2fdft_model.validation import failures, validation
from c2fdft_model.validation.failures import ImagesFailed
from c2fdft_model.validation.options import ValidationOptions
from c2fdft_model.validation.validation import ImageResult, Validator, mean_metrics
from helpers.training_runs import options, validation_set


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
        return [own, ([], 'val: of rank 1', [])]

    monkeypatch.setattr('c2fdft_arch.common.distributed.gather_objects', gather)
    with pytest.raises(OptionError, match='val: of rank 1'):
        validate(2)


def test_without_any_image_there_is_no_mean():
    assert math.isnan(mean_metrics([], ['psnr'])['psnr'])


class PartlyUnreadable(Images):
    def __getitem__(self, index: int) -> dict[str, str]:
        if index in (0, 2):
            raise ImageReadError(f'{index}.png: truncated or damaged image.')
        return super().__getitem__(index)


def make_validator(**opt) -> Validator:
    opt = {'is_train': False, 'datasets': {'test_1': {'name': 'images'}}, **opt}
    return Validator(opt, ValidationOptions(pbar=False), lambda data, file: ({}, []))


def test_an_image_that_cannot_be_read_is_counted_named_and_raised_at_the_end(monkeypatch):
    logged: list[str] = []
    monkeypatch.setattr(failures.logger, 'error', logged.append)
    validator = make_validator()
    results = validator.run(PartlyUnreadable(5), 0, save_img=False)
    assert [result.index for result in results] == [1, 3, 4]
    text = '2 of 5 images of images: 0.png: truncated or damaged image. 2.png: truncated'
    assert f'Failed: {text}' in logged[0]
    with pytest.raises(ImagesFailed, match=text):
        validator.check_failures('images', None)


def test_a_failure_of_another_rank_is_raised_in_this_one(monkeypatch):
    monkeypatch.setattr(distributed, 'gather_objects', lambda own: [own, ([], '', ['of rank 1'])])
    validator = make_validator()
    validator.run(Images(1), 0, save_img=False)
    with pytest.raises(ImagesFailed, match='1 of 1 images of images: of rank 1'):
        validator.check_failures('images', None)


@pytest.mark.parametrize(
    ('is_train', 'last'), [(False, 'named last'), (True, 'given last')], ids=['test', 'training']
)
def test_failures_are_raised_after_the_last_data_set_in_the_order_of_basicsr(is_train, last):
    sets = {'val_2': {'name': 'named last'}, 'val_1': {'name': 'given last'}, 'train': {}}
    if not is_train:
        del sets['train']
    validator = make_validator(is_train=is_train, datasets=sets)
    validator.failures.reports['first'] = '1 of 2 images of first: a.png'
    validator.check_failures({'named last', 'given last'}.difference({last}).pop(), None)
    with pytest.raises(ImagesFailed, match='of first: a.png'):
        validator.check_failures(last, None)


def test_of_many_failures_the_first_are_named_and_the_others_counted():
    validator = make_validator()
    for number in range(5):
        validator.write(f'/dev/null/{number}.png', np.zeros((2, 2, 3), np.uint8))
    validator.run(Images(5), 0, save_img=False)
    with pytest.raises(ImagesFailed, match=r'5 of 5 .*/2\.png cannot be .*… and 2 more\.$'):
        validator.check_failures('images', None)


@pytest.fixture
def full_disk(monkeypatch, tmp_path) -> Callable[[str], None]:
    """Makes the disk full for result files whose names begin so."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    write = validation.write_png

    def fill(beginning: str) -> None:
        def write_or_fail(path: str, image: np.ndarray) -> None:
            if os.path.basename(path).startswith(beginning):
                raise OSError(f'{path} cannot be written: No space left on device.')
            write(path, image)

        monkeypatch.setattr(validation, 'write_png', write_or_fail)

    return fill


def run(command: Callable[[list[str]], int], opt: dict) -> int:
    Path('run.yml').write_text(yaml.safe_dump(opt))
    return command(['-opt', 'run.yml'])


def test_a_test_with_a_result_that_cannot_be_written_restores_the_others_and_ends_with_1(
    tmp_path, full_disk, capsys
):
    opt = options(tmp_path)
    del opt['train']
    held_out = validation_set(tmp_path)
    opt['datasets'] = {'test_1': held_out, 'test_2': {**held_out, 'name': 'second'}}
    opt['val'] = {
        'save_img': True,
        'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 0}},
    }
    full_disk('001_')
    assert run(test.main, opt) == 1
    printed = capsys.readouterr().err
    assert 'ImagesFailed: Failed: 1 of 3 images of held_out: ' in printed
    assert '1 of 3 images of second: ' in printed and 'No space left' in printed
    written = sorted(path.name for path in Path('results/run/visualization').rglob('*.png'))
    assert written == 2 * ['000_run.png'] + 2 * ['002_run.png']


def test_a_training_goes_on_past_what_cannot_be_written_and_ends_with_1(
    tmp_path, full_disk, capsys
):
    opt = options(tmp_path, train={'total_iter': 3})
    opt['datasets']['val'] = validation_set(tmp_path)
    opt['val'] = {'val_freq': 2, 'save_img': True}
    full_disk('001_')
    assert run(train.main, opt) == 1
    assert 'ImagesFailed: Failed: 1 of 3 images of held_out: ' in capsys.readouterr().err
    assert Path('experiments/run/models/net_g_latest.pth').exists()
