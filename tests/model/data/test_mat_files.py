"""MATLAB files: both formats give the same arrays, bundles read back, faults are named."""

from __future__ import annotations

import base64
import sys

import numpy as np
import pytest
import scipy.io

from c2fdft_model.data import mat_files
from c2fdft_model.data.mat_files import MatFileError
from helpers import matlab

SAVERS = [matlab.save_classic, matlab.save_v73]
BOXES = [np.array([[1, 1, 8, 6], [3, 5, 10, 10]]), np.array([[2, 1, 9, 4], [1, 2, 8, 5]])]


@pytest.fixture
def blocks() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 3, 8, 6, 3), np.uint8)


@pytest.mark.parametrize('save', SAVERS)
def test_both_formats_give_the_array_in_matlabs_order(tmp_path, blocks, save):
    path = save(tmp_path / 'blocks.mat', Blocks=blocks)
    read = mat_files.read_sidd_blocks(path, 'Blocks')
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, blocks)


@pytest.mark.parametrize('save', SAVERS)
def test_a_missing_variable_is_named_with_those_there_are(tmp_path, blocks, save):
    path = save(tmp_path / 'x.mat', ValidationNoisyBlocksSrgb=blocks)
    message = (
        'x.mat: no variable `ValidationGtBlocksSrgb`; it has `ValidationNoisyBlocksSrgb` '
        r'\(did you mean "ValidationNoisyBlocksSrgb"\?\)'
    )
    with pytest.raises(MatFileError, match=message):
        mat_files.read_array(path, 'ValidationGtBlocksSrgb')


@pytest.mark.parametrize('save', SAVERS)
def test_a_wrong_shape_is_named_with_the_right_one(tmp_path, blocks, save):
    path = save(tmp_path / 'x.mat', Blocks=blocks[0])
    with pytest.raises(MatFileError, match='3 x 8 x 6 x 3; any x any x any x any x 3 is wanted'):
        mat_files.read_sidd_blocks(path, 'Blocks')


def test_the_first_present_of_several_names_is_read(tmp_path, blocks):
    path = matlab.save_classic(tmp_path / 'x.mat', DenoisedBlocksSrgb=blocks)
    read = mat_files.read_array(path, ['Idenoised', 'DenoisedBlocksSrgb'])
    np.testing.assert_array_equal(read, blocks)


@pytest.mark.parametrize('head', [b'', b'no such format' * 20, mat_files._HDF5_SIGNATURE * 100])
def test_a_broken_file_is_named(tmp_path, head):
    path = tmp_path / 'broken.mat'
    path.write_bytes(head)
    with pytest.raises(MatFileError, match='broken.mat is not a readable MATLAB'):
        mat_files.read_array(path, 'Blocks')


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='absent.mat'):
        mat_files.read_array(tmp_path / 'absent.mat', 'Blocks')


def test_without_h5py_the_message_says_how_to_install_it(tmp_path, blocks, monkeypatch):
    path = matlab.save_v73(tmp_path / 'x.mat', Blocks=blocks)
    monkeypatch.setitem(sys.modules, 'h5py', None)
    with pytest.raises(MatFileError, match=r'pip install c2fdft\[mat\]'):
        mat_files.read_array(path, 'Blocks')


def test_text_is_refused_as_an_array(tmp_path):
    path = matlab.save_classic(tmp_path / 'x.mat', Blocks='text')
    with pytest.raises(MatFileError, match='`Blocks` is not a numeric array'):
        mat_files.read_array(path, 'Blocks')


def test_unit_range_takes_uint8_and_floats_and_refuses_others():
    np.testing.assert_allclose(
        mat_files.as_unit_range(np.array([0, 51, 255], np.uint8)), [0, 0.2, 1]
    )
    assert mat_files.as_unit_range(np.array([0.5])).dtype == np.float32
    with pytest.raises(MatFileError, match='values up to 255'):
        mat_files.as_unit_range(np.array([0.0, 255.0]))
    with pytest.raises(MatFileError, match='int64 values'):
        mat_files.as_unit_range(np.array([1], np.int64))


@pytest.mark.parametrize('save', [matlab.save_dnd_info_classic, matlab.save_dnd_info_v73])
def test_dnd_boxes_are_read_from_both_formats(tmp_path, save):
    read = mat_files.read_dnd_boxes(save(tmp_path / 'info.mat', BOXES))
    assert len(read) == 2
    for box, expected in zip(read, BOXES, strict=True):
        np.testing.assert_array_equal(box, expected)


@pytest.mark.parametrize('save', SAVERS)
def test_dnd_info_without_boxes_is_named(tmp_path, save):
    path = save(tmp_path / 'other.mat', Info=np.zeros(3))
    with pytest.raises(MatFileError, match='no variable `info`; it has `Info`'):
        mat_files.read_dnd_boxes(path)


def test_a_box_counts_from_one_and_includes_its_end():
    image = np.arange(10 * 12 * 3).reshape(10, 12, 3)
    cut = mat_files.crop(image, [3, 5, 10, 10])
    np.testing.assert_array_equal(cut, image[2:10, 4:10])


def test_a_dnd_image_reads_back_with_the_servers_variables(tmp_path):
    patches = [np.random.default_rng(i).uniform(0, 1, (8, 6, 3)) for i in range(20)]
    path = tmp_path / '0001.mat'
    mat_files.write_dnd_image(path, patches)
    raw = scipy.io.loadmat(path)
    assert raw['Idenoised'].shape == (1, 20)
    assert raw['Idenoised'].dtype == object
    assert raw['israw'].item() == 0
    assert raw['eval_version'].item() == '1.0'
    for read, patch in zip(mat_files.read_dnd_image(path), patches, strict=True):
        np.testing.assert_array_equal(read, patch.astype(np.float32))


@pytest.mark.parametrize(
    ('change', 'message'),
    [({'israw': True}, '`israw` is true'), ({'eval_version': '2.0'}, "`eval_version` is '2.0'")],
)
def test_a_dnd_image_with_wrong_settings_is_refused(tmp_path, change, message):
    cells = np.empty(1, dtype=object)
    cells[0] = np.zeros((2, 2, 3))
    content = {'Idenoised': cells, 'israw': False, 'eval_version': '1.0'} | change
    path = matlab.save_classic(tmp_path / '0001.mat', **content)
    with pytest.raises(MatFileError, match=message):
        mat_files.read_dnd_image(path)


def test_a_sidd_submission_reads_back_from_both_files(tmp_path, blocks):
    mat, table = mat_files.write_sidd_submission(tmp_path / 'new', blocks, 1.5, 'a method')
    content = scipy.io.loadmat(mat)
    np.testing.assert_array_equal(content['DenoisedBlocksSrgb'], blocks)
    assert content['TimeMPSrgb'].item() == 1.5
    assert content['OptionalData']['MethodName'].item() == 'a method'
    np.testing.assert_array_equal(
        mat_files.read_sidd_csv(table, (8, 6, 3)), blocks.reshape(6, 8, 6, 3)
    )


def test_a_line_of_the_sidd_csv_is_the_blocks_bytes_in_base64(tmp_path, blocks):
    _, table = mat_files.write_sidd_submission(tmp_path, blocks, 0, '')
    lines = table.read_text().splitlines()
    assert lines[0] == 'ID,BLOCK'
    identifier, text = lines[4].split(',')
    assert identifier == '3'
    assert base64.b64decode(text) == blocks[1, 0].tobytes()


def test_a_sidd_submission_must_be_uint8(tmp_path, blocks):
    with pytest.raises(MatFileError, match='these blocks are float32'):
        mat_files.write_sidd_submission(tmp_path, blocks.astype(np.float32), 0, '')
