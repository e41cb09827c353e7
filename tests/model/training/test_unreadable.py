"""Training goes on past images that cannot be read, names them, and ends after too many."""

from __future__ import annotations

from pathlib import Path

import basicsr  # noqa: F401  (registers the data set)
import pytest
from basicsr.data import build_dataset
from torch.utils.data import default_collate

from c2fdft_model.images.image_io import ImageReadError
from c2fdft_model.training.unreadable import UNREADABLE_KEY, UnreadableImages
from helpers.paired_data import begin, dataset_opt, training_opt, write_folders


@pytest.fixture
def section(tmp_path):
    """A training section over four pairs, of which two degraded images are cut."""
    folders = write_folders(tmp_path, 4)
    for number in (1, 2):
        path = Path(folders['dataroot_lq'], f'{number:03d}.png')
        path.write_bytes(path.read_bytes()[:-100])
    return dataset_opt(folders)


def samples_of(section):
    begin(training_opt(section))
    return build_dataset(section).__getitems__(range(section['batch_size_per_gpu']))


def test_another_pair_takes_the_place_of_one_that_cannot_be_read(section):
    batch = default_collate(samples_of(section))
    assert batch['lq'].shape == (6, 3, 8, 8)
    assert {Path(path).stem for path in batch['lq_path']} == {'000', '003'}
    lines = [line for text in batch[UNREADABLE_KEY] for line in text.splitlines()]
    assert {Path(line.split(':')[0]).stem for line in lines} == {'001', '002'}


def test_without_leave_the_first_one_is_an_error(section):
    with pytest.raises(ImageReadError, match=r'lq/00[12]\.png: truncated'):
        samples_of(section | {'max_unreadable': 0})


def test_decoding_all_images_at_the_start_names_every_one(section):
    with pytest.raises(ValueError, match=r'(?s)2 pairs cannot be used.*lq/001\.png.*lq/002\.png'):
        build_dataset(section | {'check_images': 'decode'})
    assert len(build_dataset(section).pairs) == 4


def test_each_image_is_named_once_and_one_too_many_ends_the_training():
    said = []
    unreadable = UnreadableImages(2, said.append)
    unreadable.record(['', 'a.png: cut.\nb.png: cut.', 'a.png: cut.'])
    unreadable.record(['b.png: cut.'])
    assert len(said) == 2 and {text[:5] for text in said} == {'a.png', 'b.png'}
    with pytest.raises(ImageReadError, match=r'(?s)3 images.*max_unreadable: 2.*c\.png'):
        unreadable.record(['c.png: cut.'])
