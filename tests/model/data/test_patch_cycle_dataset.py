"""The data set itself: what it reads, how much it decodes, and which errors name what."""

from __future__ import annotations

import copy
import gc
import pickle
from pathlib import Path

import basicsr  # noqa: F401  (registers the data set)
import cv2
import lmdb
import numpy as np
import pytest
import torch
from basicsr.data import build_dataset
from PIL import Image

from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_model.data.lmdb.plan import encode_ppm
from c2fdft_model.data.pairing import PairingError
from c2fdft_model.data.training_clock import ITERATION_KEY, TrainingClock, training_clock
from c2fdft_model.images import indexed_png
from c2fdft_model.images.image_io import ImageReadError
from helpers.paired_data import (
    begin,
    dataset_opt,
    describe,
    encode_png,
    pattern,
    training_opt,
    write_folders,
    write_rgb,
)


@pytest.fixture
def folders(tmp_path) -> dict[str, str]:
    return write_folders(tmp_path, 5)


def batch_of(section: dict, iteration: int) -> dict:
    dataset = build_dataset(section)
    begin(training_opt(section), iteration - 1)
    samples = dataset.__getitems__(range(section['batch_size_per_gpu']))
    return torch.utils.data.default_collate(samples)


@pytest.mark.parametrize(('iteration', 'size', 'count'), [(1, 8, 6), (3, 16, 4), (6, 32, 2)])
def test_batches_have_the_shape_of_their_phase(folders, iteration, size, count):
    batch = batch_of(dataset_opt(folders), iteration)
    for key in ('lq', 'gt'):
        assert batch[key].shape == (count, 3, size, size)
        assert batch[key].dtype == torch.float32
        assert 0 <= batch[key].min() <= batch[key].max() <= 1
    assert batch[ITERATION_KEY].tolist() == [iteration] * count
    assert all(Path(path).is_file() for path in batch['lq_path'] + batch['gt_path'])


@pytest.mark.parametrize(('crops', 'decoded'), [(1, [6, 4, 2]), (2, [3, 2, 1]), (4, [2, 1, 1])])
def test_no_image_is_decoded_in_vain(folders, monkeypatch, crops, decoded):
    section = dataset_opt(folders, crops_per_image=crops)
    calls = []

    def counting(data, name):
        calls.append(name)
        return decode(data, name)

    decode = indexed_png.decode_rgb
    monkeypatch.setattr(indexed_png, 'decode_rgb', counting)
    for iteration, pairs in zip((1, 3, 6), decoded, strict=True):
        calls.clear()
        batch = batch_of(section, iteration)
        assert len(batch['lq']) == {1: 6, 3: 4, 6: 2}[iteration]
        assert len(calls) == 2 * pairs


def test_several_crops_of_an_image_differ(folders):
    patches = describe(batch_of(dataset_opt(folders, crops_per_image=3), 1))
    assert [patch.image for patch in patches[:3]] == [patches[0].image] * 3
    assert len({(patch.top, patch.left) for patch in patches[:3]}) == 3


def test_nothing_is_loaded_beyond_the_last_iteration(folders):
    section = dataset_opt(folders)
    dataset = build_dataset(section)
    begin(training_opt(section, train={'total_iter': 4}), 4)
    assert len(dataset.__getitems__(range(6))) == 1


def test_data_set_smaller_than_a_batch_fills_it(tmp_path):
    batch = batch_of(dataset_opt(write_folders(tmp_path, 2)), 1)
    assert sorted(patch.image for patch in describe(batch)) == [0, 0, 0, 1, 1, 1]


def test_without_geometric_augs_patches_stay_upright(folders):
    patches = describe(batch_of(dataset_opt(folders, geometric_augs=False), 1))
    assert {patch.orientation for patch in patches} == {0}


def test_images_smaller_than_the_patch_are_reflected(tmp_path):
    clean = pattern(0, 20, 12)
    write_rgb(tmp_path / 'gt' / 'a.png', clean)
    write_rgb(tmp_path / 'lq' / 'a.png', 255 - clean)
    folders = {'dataroot_lq': str(tmp_path / 'lq'), 'dataroot_gt': str(tmp_path / 'gt')}
    gt = batch_of(dataset_opt(folders, geometric_augs=False), 6)['gt'][0]
    assert gt.shape == (3, 32, 32)
    assert torch.equal(gt[:, :, 12], gt[:, :, 10])
    assert torch.equal(gt[:, 20], gt[:, 18])


def test_clean_patches_are_larger_by_the_scale(tmp_path):
    for number in range(2):
        clean = np.kron(pattern(number, 24, 20), np.ones((2, 2, 1), np.uint8))
        write_rgb(tmp_path / 'gt' / f'{number}.png', clean)
        write_rgb(tmp_path / 'lq' / f'{number}.png', clean[::2, ::2])
    folders = {'dataroot_lq': str(tmp_path / 'lq'), 'dataroot_gt': str(tmp_path / 'gt')}
    batch = batch_of(dataset_opt(folders, scale=2), 3)
    assert batch['lq'].shape[2:] == (8, 8)
    assert torch.equal(batch['gt'][:, :, ::2, ::2], batch['lq'])
    assert torch.equal(batch['gt'][:, :, 1::2, 1::2], batch['lq'])


def write_lmdb(path: Path, images: dict[str, bytes], shapes: dict[str, tuple]) -> str:
    with lmdb.open(str(path), map_size=2**24) as environment, environment.begin(write=True) as txn:
        for key, data in images.items():
            txn.put(key.encode(), data)
    lines = [f'{key}.png ({h},{w},{c}) 1\n' for key, (h, w, c) in shapes.items()]
    (path / 'meta_info.txt').write_text(''.join(lines))
    return str(path)


def lmdb_opt(root: Path, encode=encode_png, **changes) -> dict:
    images = {f'scene.{number}': pattern(number, 40, 50) for number in range(4)}
    shapes = {key: image.shape for key, image in images.items()}
    gt = {key: encode(image) for key, image in images.items()}
    lq = {key: encode(255 - image) for key, image in images.items()}
    folders = {
        'dataroot_lq': write_lmdb(root / 'lq.lmdb', lq, shapes),
        'dataroot_gt': write_lmdb(root / 'gt.lmdb', gt, shapes),
    }
    return dataset_opt(folders, io_backend={'type': 'lmdb'}, **changes)


@pytest.mark.parametrize(
    'encode', [encode_png, encode_ppm, indexed_png.encode], ids=['png', 'uncompressed', 'indexed']
)
def test_lmdb_with_dots_in_its_keys(tmp_path, encode):
    batch = batch_of(lmdb_opt(tmp_path, encode), 1)
    patches = describe(batch)
    assert batch['lq_path'] == batch['gt_path']
    assert [patch.path for patch in patches] == [f'scene.{patch.image}' for patch in patches]


@pytest.mark.parametrize('phase', ['val', 'test'])
def test_validation_gives_the_whole_images_of_basicsr(folders, phase):
    section = dataset_opt(folders, phase=phase)
    ours = build_dataset(section)
    theirs = build_dataset({**section, 'type': 'PairedImageDataset'})
    assert len(ours) == len(theirs) == 5
    by_path = {sample['gt_path']: sample for sample in (theirs[k] for k in range(5))}
    for sample in ours.__getitems__(range(5)):
        other = by_path[sample['gt_path']]
        assert torch.equal(sample['lq'], other['lq'])
        assert torch.equal(sample['gt'], other['gt'])
        assert sample['lq_path'] == other['lq_path']


def test_every_kind_of_file_is_read_alike_in_training_and_test(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    image = Image.fromarray(values)
    exif = Image.Exif()
    exif[274] = 6
    for side in ('lq', 'gt'):
        (tmp_path / side).mkdir()
        image.convert('L').save(tmp_path / side / 'grey.png')
        image.convert('P').save(tmp_path / side / 'palette.png')
        image.convert('RGBA').save(tmp_path / side / 'alpha.png')
        image.convert('CMYK').save(tmp_path / side / 'cmyk.jpg')
        image.save(tmp_path / side / 'turned.jpg', exif=exif)
        cv2.imwrite(str(tmp_path / side / '16bit.png'), values.astype(np.uint16) * 257)
        image.save(tmp_path / side / 'plain.tif')
    folders = {'dataroot_lq': str(tmp_path / 'lq'), 'dataroot_gt': str(tmp_path / 'gt')}
    cycle = {'gt_sizes': [32], 'mini_batch_sizes': [7], 'iters': [1], 'batch_size_per_gpu': 7}
    section = dataset_opt(folders, geometric_augs=False, **cycle)
    trained = batch_of(section, 1)
    tested = build_dataset({**section, 'phase': 'test'})
    whole = {sample['gt_path']: sample['gt'] for sample in (tested[k] for k in range(7))}
    assert len(whole) == 7
    for path, gt in zip(trained['gt_path'], trained['gt'], strict=True):
        assert torch.equal(gt, whole[path]), path


def test_partners_may_differ_in_suffix_and_folder_depth(tmp_path):
    clean = pattern(3, 40, 40)
    write_rgb(tmp_path / 'gt' / 'a' / 'b.v2.png', clean)
    write_rgb(tmp_path / 'lq' / 'a' / 'b.v2_rain.bmp', 255 - clean)
    folders = {'dataroot_lq': str(tmp_path / 'lq'), 'dataroot_gt': str(tmp_path / 'gt')}
    batch = batch_of(dataset_opt(folders, filename_tmpl='{}_rain'), 1)
    assert {patch.image for patch in describe(batch)} == {3}


def test_meta_info_file_selects_pairs(folders, tmp_path):
    listed = tmp_path / 'some.txt'
    listed.write_text('001.png (41,56,3)\n003.png (43,56,3)\n')
    patches = describe(batch_of(dataset_opt(folders, meta_info_file=str(listed)), 1))
    assert {patch.image for patch in patches} == {1, 3}


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (
            lambda root: (root / 'lq' / '002.png').unlink(),
            r'datasets: patterns: .*lq and .*gt do not pair: .* no degraded one: 002\.png',
        ),
        (lambda root: (root / 'gt' / '002.png').write_bytes(b''), r'gt/002\.png'),
        (
            lambda root: write_rgb(root / 'lq' / '002.png', pattern(2, 9, 9)),
            r'lq/002\.png is 9 x 9',
        ),
    ],
    ids=['missing partner', 'no image', 'other size'],
)
def test_bad_folders_are_refused_before_training(folders, tmp_path, damage, message):
    damage(tmp_path)
    with pytest.raises(PairingError, match=message):
        build_dataset(dataset_opt(folders))


def test_file_that_is_truncated_behind_its_header_is_named_when_read(folders, tmp_path):
    path = tmp_path / 'gt' / '002.png'
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(ImageReadError, match=r'gt/002\.png: truncated'):
        batch_of(dataset_opt(folders, max_unreadable=0), 1)


def test_file_that_vanished_is_named(folders, tmp_path):
    section = dataset_opt(folders, max_unreadable=0)
    dataset = build_dataset(section)
    (tmp_path / 'lq' / '004.png').unlink()
    begin(training_opt(section))
    with pytest.raises(ImageReadError, match=r'lq/004\.png: No such file'):
        dataset.__getitems__(range(6))


def test_errors_of_workers_name_the_file_too(folders, tmp_path):
    path = tmp_path / 'gt' / '002.png'
    path.write_bytes(path.read_bytes()[:-60])
    section = dataset_opt(folders, max_unreadable=0)
    loader = torch.utils.data.DataLoader(build_dataset(section), batch_size=6, num_workers=1)
    begin(training_opt(section))
    with pytest.raises(ImageReadError, match=r'gt/002\.png: truncated'):
        next(iter(loader))


def test_image_of_another_size_than_listed_is_named(tmp_path):
    section = lmdb_opt(tmp_path)
    with (
        lmdb.open(section['dataroot_lq'], map_size=2**24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for number in range(4):
            transaction.put(f'scene.{number}'.encode(), encode_png(pattern(0, 30, 30)))
    with pytest.raises(ImageReadError, match=r'lq\.lmdb/scene\.\d is 30 x 30, .* 50 x 40: sizes'):
        batch_of(section, 1)


def test_loader_with_another_batch_size_is_refused(folders):
    section = dataset_opt(folders)
    dataset = build_dataset(section)
    begin(training_opt(section))
    with pytest.raises(RuntimeError, match='batch of 4 is no multiple of .*batch_size_per_gpu: 6'):
        dataset.__getitems__(range(4))


def test_option_errors_come_when_the_data_set_is_built(folders):
    with pytest.raises(OptionError, match='persistent_workers: false'):
        build_dataset(dataset_opt(folders, persistent_workers=True))


def test_without_a_training_it_says_what_to_announce(folders, monkeypatch):
    monkeypatch.setattr('c2fdft_model.data.training_clock.training_clock', TrainingClock())
    dataset = build_dataset(dataset_opt(folders))
    with pytest.raises(RuntimeError, match='none has been announced'):
        dataset.__getitems__(range(6))


def test_copies_in_the_same_process_follow_the_clock(folders):
    section = dataset_opt(folders)
    begin(training_opt(section))
    dataset = pickle.loads(pickle.dumps(copy.deepcopy(build_dataset(section))))
    training_clock.iteration(2)
    assert dataset.__getitems__(range(6))[0][ITERATION_KEY] == 3


def test_worker_threads_are_refused(folders, monkeypatch):
    class Worker:
        id, num_workers, worker_method = 0, 1, 'thread'

    section = dataset_opt(folders)
    dataset = build_dataset(section)
    begin(training_opt(section))
    monkeypatch.setattr(torch.utils.data, 'get_worker_info', Worker)
    with pytest.raises(RuntimeError, match='worker_method'):
        dataset.__getitems__(range(6))


def test_two_data_sets_share_an_lmdb(tmp_path):
    section = lmdb_opt(tmp_path)
    training, test = build_dataset(section), build_dataset({**section, 'phase': 'test'})
    begin(training_opt(section))
    assert len(training.__getitems__(range(6))) == 6
    assert test[0]['gt'].shape == (3, 40, 50)


def test_forked_worker_reads_an_lmdb_that_its_parent_has_open(tmp_path):
    section = lmdb_opt(tmp_path, num_worker_per_gpu=1)
    test = build_dataset({**section, 'phase': 'test'})
    before = test[0]['gt']
    training = build_dataset(section)
    begin(training_opt(section))
    batch = next(iter(torch.utils.data.DataLoader(training, batch_size=6, num_workers=1)))
    assert len(describe(batch)) == 6
    assert torch.equal(test[0]['gt'], before)


def test_lmdb_that_another_data_set_reads_is_explained(tmp_path):
    section = lmdb_opt(tmp_path)
    with lmdb.open(section['dataroot_lq'], readonly=True, lock=False):
        dataset = build_dataset({**section, 'phase': 'test', 'type': 'PatchCyclePairedDataset'})
        with pytest.raises(RuntimeError, match='Another data set reads it'):
            dataset[0]


def test_lmdb_is_closed_with_its_data_set(tmp_path):
    section = lmdb_opt(tmp_path)
    dataset = build_dataset({**section, 'phase': 'test'})
    dataset[0]
    del dataset
    gc.collect()
    with lmdb.open(section['dataroot_lq'], readonly=True, lock=False) as environment:
        assert environment.stat()['entries'] == 4
