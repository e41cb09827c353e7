"""Checkpoints on disk: whole or not there, found again, pruned."""

from __future__ import annotations

import os

import pytest
import torch

from c2fdft_arch.common.atomic_write import remove_leftovers, replacing
from c2fdft_model.checkpointing import checkpoint_files
from c2fdft_model.checkpointing.checkpoint_files import (
    Checkpoints,
    damage,
    read_training_state,
    resumable_iterations,
    save_checkpoint,
    saved_iterations,
)

CONTENT = {'params': {'weight': torch.arange(5000.0)}}


@pytest.fixture
def folders(tmp_path):
    models, states = tmp_path / 'models', tmp_path / 'training_states'
    models.mkdir()
    states.mkdir()
    return models, states


def checkpoints(folders, keep_last=None) -> tuple[Checkpoints, list[str]]:
    complaints: list[str] = []
    return Checkpoints(*folders, keep_last, complaints.append), complaints


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def full_disk(*args, **kwargs):
    raise OSError(28, 'No space left on device')


def test_what_is_saved_is_read_back(tmp_path):
    save_checkpoint(CONTENT, tmp_path / 'a.pth')
    read = torch.load(tmp_path / 'a.pth', weights_only=True)
    assert torch.equal(read['params']['weight'], CONTENT['params']['weight'])


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / 'a.pth'
    save_checkpoint({'old': torch.ones(1)}, path)

    monkeypatch.setattr(os, 'fsync', full_disk)
    with pytest.raises(OSError, match='No space left'):
        save_checkpoint(CONTENT, path)
    assert torch.load(path, weights_only=True) == {'old': torch.ones(1)}
    assert names(tmp_path) == {'a.pth'}


def test_a_file_is_renamed_only_after_it_was_synced(tmp_path, monkeypatch):
    calls = []
    for name in ('fsync', 'replace'):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, o=original, n=name: (calls.append(n), o(*a))[1])
    save_checkpoint(CONTENT, tmp_path / 'a.pth')
    assert calls[:2] == ['fsync', 'replace']


def test_what_a_killed_writer_left_is_no_checkpoint(folders):
    _, states = folders
    with replacing(states / '8.state'):
        assert len(names(states)) == 1
        assert saved_iterations(states) == []


@pytest.mark.parametrize('cut', [1, 100, 15000])
def test_a_truncated_file_is_damaged(tmp_path, cut):
    path = tmp_path / 'a.pth'
    save_checkpoint(CONTENT, path)
    path.write_bytes(path.read_bytes()[:-cut])
    assert damage(path).startswith(f'{path} cannot be read')


def test_a_whole_file_is_not_damaged(tmp_path):
    save_checkpoint(CONTENT, tmp_path / 'a.pth')
    assert damage(tmp_path / 'a.pth') == ''


def test_the_newest_iteration_with_whole_state_and_network_comes_first(folders):
    models, states = folders
    writer, _ = checkpoints(folders)
    for iteration in (4, 8, 12, 16):
        writer.save(iteration, CONTENT, {'iter': iteration})
    (states / '16.state').write_bytes(b'PK')
    (models / 'net_g_12.pth').unlink()
    skipped: list[str] = []
    assert list(resumable_iterations(states, models, skipped.append)) == [8, 4]
    assert ['16.state cannot be read' in skipped[0], 'net_g_12.pth is missing' in skipped[1]] == [
        True,
        True,
    ]


@pytest.mark.parametrize('what', ['state', 'network'])
@pytest.mark.parametrize('length', [1, 3000], ids=['one bit', 'a run of zeros'])
def test_flipped_bits_anywhere_are_damage(folders, what, length):
    models, states = folders
    writer, _ = checkpoints(folders)
    for iteration in (4, 8):
        writer.save(iteration, CONTENT, {'iter': iteration, 'moments': torch.rand(5000)})
    path = states / '8.state' if what == 'state' else models / 'net_g_8.pth'
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + length] = (
        bytes([content[middle] ^ 64]) if length == 1 else bytes(length)
    )
    path.write_bytes(content)
    skipped: list[str] = []
    assert list(resumable_iterations(states, models, skipped.append)) == [4]
    assert 'the checksum of' in skipped[0] and path.name in skipped[0]


def test_a_network_that_another_has_replaced_is_no_pair_of_the_state(folders):
    models, states = folders
    writer, _ = checkpoints(folders)
    for iteration in (4, 8):
        writer.save(iteration, CONTENT, {'iter': iteration})
    save_checkpoint({'params': {'weight': torch.zeros(5000)}}, models / 'net_g_8.pth')
    skipped: list[str] = []
    assert list(resumable_iterations(states, models, skipped.append)) == [4]
    assert 'not the network that was saved with the training state' in skipped[0]


def test_a_state_of_flipped_bits_is_not_resumed_by_its_name_either(folders):
    _, states = folders
    writer, _ = checkpoints(folders)
    writer.save(4, CONTENT, {'iter': 4, 'epoch': 0, 'moments': torch.rand(5000)})
    content = bytearray((states / '4.state').read_bytes())
    content[len(content) // 2] ^= 1
    (states / '4.state').write_bytes(content)
    with pytest.raises(ValueError, match=r'4\.state is damaged: the checksum'):
        read_training_state(str(states / '4.state'))


@pytest.mark.parametrize('content', [b'epoch: 3\n', b'', b'{}', b'\x80\x02}q\x00.'])
def test_a_file_that_is_no_state_is_named(folders, content):
    path = folders[1] / '4.state'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'4\.state'):
        read_training_state(str(path))


def test_stray_files_in_the_folders_are_passed_over(folders):
    models, states = folders
    writer, _ = checkpoints(folders)
    writer.save(4, CONTENT, {'iter': 4})
    for name in (
        'notes.txt',
        '\u00b2.state',
        'best.state',
        '-1.state',
        '1e3.state',
        '9 (copy).state',
    ):
        (states / name).write_text('x')
    (states / '.x.0123abcd.tmp').mkdir()
    (states / '7.state').mkdir()
    remove_leftovers(states)
    skipped: list[str] = []
    assert list(resumable_iterations(states, models, skipped.append)) == [4]
    assert skipped == [f'{states / "7.state"} is missing']


def test_iterations_are_ordered_as_numbers(folders):
    writer, _ = checkpoints(folders)
    for iteration in (900, 1000, 80):
        writer.save(iteration, CONTENT, {})
    assert saved_iterations(folders[1]) == [1000, 900, 80]


def test_pruning_keeps_the_newest_and_files_without_a_number(folders):
    models, states = folders
    writer, _ = checkpoints(folders)
    for label in (4, 8, 12):
        writer.save(label, CONTENT, {})
    writer.save('latest', CONTENT)
    writer.keep_last = 1
    writer.save(16, CONTENT, {})
    assert names(models) == {'net_g_16.pth', 'net_g_latest.pth'}
    assert names(states) == {'16.state'}


def test_keep_last_prunes_on_saving(folders):
    writer, _ = checkpoints(folders, keep_last=2)
    for label in (4, 8, 12):
        writer.save(label, CONTENT, {})
    assert saved_iterations(folders[1]) == [12, 8]


def test_the_newest_good_checkpoint_outlives_newer_ones_that_are_not_known_to_be_good(folders):
    writer, _ = checkpoints(folders, keep_last=1)
    writer.save(4, CONTENT, {})
    writer.newest_is_good()
    writer.save(8, CONTENT, {})
    writer.save(12, CONTENT, {})
    assert saved_iterations(folders[1]) == [12, 4]
    assert writer.last_good().endswith('net_g_4.pth')
    writer.newest_is_good()
    assert saved_iterations(folders[1]) == [12]
    assert writer.last_good().endswith('net_g_12.pth')


def test_no_checkpoint_is_good_before_an_iteration_has_shown_it(folders):
    writer, _ = checkpoints(folders)
    writer.save(4, CONTENT, {})
    assert writer.last_good().startswith('none')


def test_a_run_that_goes_on_from_an_earlier_checkpoint_does_not_prune_its_own(folders):
    before, _ = checkpoints(folders)
    for label in (4, 8, 20):
        before.save(label, CONTENT, {})
    writer, _ = checkpoints(folders, keep_last=1)
    writer.newest, writer.good = 8, 4
    writer.save(12, CONTENT, {})
    assert saved_iterations(folders[1]) == [20, 12, 4]


def test_a_checkpoint_that_cannot_be_written_is_reported_and_prunes_nothing(folders, monkeypatch):
    writer, complaints = checkpoints(folders, keep_last=1)
    writer.save(4, CONTENT, {})
    monkeypatch.setattr(os, 'fsync', full_disk)
    assert writer.save(8, CONTENT, {}) is False
    assert 'No space left' in complaints[0] and 'net_g_4.pth' in complaints[0]
    assert names(folders[0]) == {'net_g_4.pth'}


def test_the_record_of_the_best_is_read_back_with_infinities(folders):
    writer, _ = checkpoints(folders)
    record = {'value': 31.5, 'best_metric_results': {'set': {'psnr': {'val': float('-inf')}}}}
    writer.save_best(CONTENT, record)
    assert writer.record() == record
    assert (folders[0] / 'net_g_best.pth').exists()


@pytest.mark.parametrize('network', [CONTENT, None], ids=['a new best', 'none'])
def test_a_record_that_cannot_be_written_is_reported_and_the_old_one_kept(
    folders, monkeypatch, network
):
    writer, complaints = checkpoints(folders)
    writer.save_best(CONTENT, {'value': 1.0})
    monkeypatch.setattr(checkpoint_files, 'write_bytes', full_disk)
    writer.save_best(network, {'value': 2.0})
    assert 'net_g_best.json' in complaints[0] and 'No space left' in complaints[0]
    assert writer.record() == {'value': 1.0}


def test_without_a_new_best_only_the_record_is_written(folders):
    writer, _ = checkpoints(folders)
    writer.save_best(None, {'value': 1.0})
    assert names(folders[0]) == {'net_g_best.json'}


def test_a_checkpoint_for_which_memory_does_not_suffice_is_not_called_damaged(
    tmp_path, monkeypatch
):
    def no_memory(*args, **kwargs):
        raise MemoryError

    save_checkpoint(CONTENT, tmp_path / 'a.pth')
    monkeypatch.setattr(torch, 'load', no_memory)
    with pytest.raises(MemoryError):
        damage(tmp_path / 'a.pth')
