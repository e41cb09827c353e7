"""What `val: precision` and `val: memory_budget_mb` do in a training and in a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import pytest
import torch
from basicsr.models import build_model

from c2fdft_arch.common.option_parsing import OptionError
from c2fdft_arch.dft import DFT
from c2fdft_model.diffusion.process import DDPMProcess
from c2fdft_model.validation.memory_budget import check_memory_budget, degraded_sizes
from c2fdft_model.validation.options import ValidationOptions
from helpers.train_server import TrainServer
from helpers.training_runs import TINY_DFT, checkout, command, loss_lines, options, validation_set


@pytest.fixture(scope='module')
def server() -> Iterator[TrainServer]:
    running = TrainServer()
    yield running
    running.close()


def model_that_tests(val: dict[str, Any]) -> Any:
    """A model that tests, with a section `val`."""
    return build_model({
        'model_type': 'C2FDFTModel', 'is_train': False, 'num_gpu': 0, 'dist': False, 'rank': 0,
        'network_g': dict(TINY_DFT), 'path': {}, 'val': val,
        'diffusion': {'sampling_timesteps': 2},
    })  # fmt: skip


def test_kernels_that_the_device_lacks_are_refused_when_the_network_is_built():
    with pytest.raises(OptionError, match=r'^val: kernels: triton cannot be used.*auto, torch'):
        model_that_tests({'kernels': 'triton'})


@pytest.mark.parametrize(
    ('val', 'expected'),
    [
        ({}, ('auto', None)),
        ({'precision': 'bf16', 'memory_budget_mb': 64}, ('bf16', 64)),
        ({'precision': 'fp32'}, ('fp32', None)),
    ],
)
def test_precision_and_memory_budget_reach_the_network(monkeypatch, val, expected):
    model = model_that_tests(val)
    seen: list[tuple[str, float | None]] = []
    forward = DFT.forward

    def recording(self, x, t):
        seen.append((self.inference.precision, self.inference.memory_budget_mb))
        return forward(self, x, t)

    monkeypatch.setattr(DFT, 'forward', recording)
    model.feed_data({'lq': torch.rand(1, 3, 16, 24), 'lq_path': ['a.png']})
    model.test()
    assert seen == [expected] * 2


def small_budget(root: Path, **changes: Any) -> dict[str, Any]:
    opt = options(root, 'coarse', logger={'save_checkpoint_freq': 100}, **changes)
    opt['train']['total_iter'] = 5
    opt['datasets']['val'] = validation_set(root)
    opt['val'] = {'val_freq': 3, 'save_img': False, 'memory_budget_mb': 1, 'precision': 'fp32'}
    return opt


def fails(server: TrainServer, root: Path, opt: dict[str, Any], *arguments: str) -> str:
    training = server.start(command(root, opt, *arguments), root / 'run.log', cwd=root)
    assert training.wait() == 1, training.printed()[-3000:]
    return training.printed()


REFUSAL = 'OptionError: val: memory_budget_mb: 1 is too small for {}: an image of 32 x 24 pixels'


def test_a_budget_that_is_too_small_is_found_before_training(server, tmp_path):
    root = checkout(tmp_path)
    printed = fails(server, root, small_budget(root))
    assert REFUSAL.format(root / 'validation/lq/000.png') in printed
    assert loss_lines(printed) == {}
    assert 'tiles' not in printed.rpartition('OptionError')[2]


def lmdbs_with_wrong_sizes(root: Path, section: dict[str, Any]) -> dict[str, Any]:
    """Large images as LMDBs that say they are small, which is what is looked up beforehand."""
    found = {**section, 'type': 'PairedImageDataset', 'io_backend': {'type': 'lmdb'}}
    for key in ('dataroot_lq', 'dataroot_gt'):
        files = sorted(Path(section[key]).iterdir())[:2]
        found[key] = str(root / f'{key}.lmdb')
        with lmdb.open(found[key]) as environment, environment.begin(write=True) as transaction:
            for file in files:
                large = cv2.resize(cv2.imread(str(file)), (256, 256))
                transaction.put(file.stem.encode(), cv2.imencode('.png', large)[1].tobytes())
        lines = [f'{file.name} (32,24,3) 1\n' for file in files]
        Path(found[key], 'meta_info.txt').write_text(''.join(lines))
    return found


def test_a_budget_found_too_small_at_a_validation_loses_no_iteration(server, tmp_path):
    root = checkout(tmp_path)
    opt = small_budget(root)
    opt['datasets']['val'] = lmdbs_with_wrong_sizes(root, opt['datasets']['val'])
    opt['val']['memory_budget_mb'] = 4
    printed = fails(server, root, opt)
    refusal = 'val: memory_budget_mb: 4 is too small for 000: an image of 256 x 256 pixels'
    assert refusal in printed
    assert max(loss_lines(printed)) == 3
    assert (root / 'experiments/run/training_states/3.state').exists()
    opt['val']['memory_budget_mb'] = 64
    training = server.start(command(root, opt, '--auto_resume'), root / 'run.log', cwd=root)
    assert training.wait() == 0, training.printed()[-3000:]
    assert sorted(loss_lines(training.printed())) == [4, 5]


def tiny_network() -> DFT:
    return DFT(**{key: value for key, value in TINY_DFT.items() if key != 'type'})


def test_the_image_that_needs_more_than_the_budget_is_named(tmp_path):
    section = validation_set(tmp_path)
    large = tmp_path / 'validation' / 'lq' / '001.png'
    cv2.imwrite(str(large), cv2.resize(cv2.imread(str(large)), (2000, 1000)))
    check_memory_budget(
        tiny_network(),
        DDPMProcess(),
        ValidationOptions(memory_budget_mb=10000, precision='fp32'),
        [section],
    )
    with pytest.raises(OptionError, match=rf'{large}: an image of 2000 x 1000 pixels takes'):
        check_memory_budget(
            tiny_network(),
            DDPMProcess(),
            ValidationOptions(memory_budget_mb=20, precision='fp32'),
            [section],
        )


def test_without_a_budget_no_image_is_looked_at():
    section = {'dataroot_lq': 'nowhere', 'io_backend': {'type': 'disk'}}
    check_memory_budget(tiny_network(), DDPMProcess(), ValidationOptions(), [section])


def test_sizes_of_an_lmdb_are_read_from_its_list(tmp_path):
    folder = tmp_path / 'lq.lmdb'
    folder.mkdir()
    (folder / 'data.mdb').touch()
    (folder / 'meta_info.txt').write_text('a.png (24,32,3) 1\n')
    section = {'dataroot_lq': str(folder), 'io_backend': {'type': 'lmdb'}}
    assert list(degraded_sizes(section)) == [(str(folder / 'a'), 24, 32)]


def test_sizes_are_those_of_the_images_that_a_list_selects(tmp_path):
    for name, size in (('a', (8, 16)), ('b', (24, 32))):
        for file in (f'{name}.png', f'{name}_x.png'):
            assert cv2.imwrite(str(tmp_path / file), np.zeros((*size, 3), np.uint8))
    (tmp_path / 'list.txt').write_text('b.png (24,32,3)\n')
    section = {
        'dataroot_lq': str(tmp_path), 'dataroot_gt': str(tmp_path), 'filename_tmpl': '{}_x',
        'meta_info_file': str(tmp_path / 'list.txt'), 'io_backend': {'type': 'disk'},
    }  # fmt: skip
    assert list(degraded_sizes(section)) == [(str(tmp_path / 'b_x.png'), 24, 32)]
