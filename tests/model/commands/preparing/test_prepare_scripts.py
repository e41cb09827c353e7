"""The two commands that prepare data, on miniature trees of every published layout."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from c2fdft_model.data import dataset_layouts, mat_files
from c2fdft_model.data.lmdb_contents import read_meta_info
from c2fdft_model.images.image_io import read_rgb
from helpers.matlab import save_classic, save_dnd_info_v73, save_v73
from helpers.paired_data import pattern, write_rgb


@pytest.fixture
def prepare_dataset():
    """The command's module."""
    return importlib.import_module('c2fdft_model.commands.preparing.prepare_dataset')


@pytest.fixture
def prepare_lmdb():
    """The command's module."""
    return importlib.import_module('c2fdft_model.commands.preparing.prepare_lmdb')


@pytest.fixture
def expect(monkeypatch, prepare_dataset):
    """Make data sets as small as the test's trees."""

    def set_counts(dataset: str, **counts: int) -> None:
        make = getattr(dataset_layouts, dataset)

        def small(*arguments):
            return [
                dataclasses.replace(split, count=counts[Path(split.place).name])
                for split in make(*arguments)
                if Path(split.place).name in counts
            ]

        monkeypatch.setattr(prepare_dataset, dataset, small)

    return set_counts


def write_pair(root: Path, lq: str, gt: str, number: int = 0, size: tuple[int, int] = (24, 32)):
    clean = pattern(number, *size)
    write_rgb(root / gt, clean)
    write_rgb(root / lq, 255 - clean)


def keys(place: Path) -> list[str]:
    names = [sorted(map(unquote, read_meta_info(place / f'{s}.lmdb'))) for s in ('input', 'target')]
    assert names[0] == names[1]
    return names[0]


def rain_tree(root: Path) -> None:
    for number, name in enumerate(('1.png', '2.jpg', '3.jpg')):
        write_pair(root, f'train/Rain13K/input/{name}', f'train/Rain13K/target/{name}', number)
    write_pair(root, 'test/Test100/input/1.jpg', 'test/Test100/target/1.png')
    write_pair(root, 'test/Rain100L/input/1.png', 'test/Rain100L/target/1.png')


def test_rain13k(tmp_path, prepare_dataset, expect, capsys):
    rain_tree(tmp_path / 'raw')
    expect('rain13k', Rain13K=3, Test100=1, Rain100L=1, Rain100H=1)
    command = ['rain13k', '--root', str(tmp_path / 'raw'), '--out', str(tmp_path / 'out')]
    assert prepare_dataset.main([*command, '--verify']) == 0
    assert keys(tmp_path / 'out/train/Rain13K') == ['1', '2', '3']
    for side in ('input', 'target'):
        (image,) = (tmp_path / 'out/test/Test100' / side).iterdir()
        assert read_rgb(image).shape == (24, 32, 3)
    printed = capsys.readouterr().out
    assert 'train/Rain13K: 3 pairs of 3' in printed
    assert 'test/Rain100H: not there, skipped' in printed
    assert 'Verified: all 3 pairs' in printed
    assert prepare_dataset.main(command) == 0
    assert '3 were there already' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('found', 'problem', 'note'),
    [
        (3, False, ''),
        (2, False, '2 pairs are what the download holds; the papers say 3'),
        (1, True, ''),
    ],
)
def test_the_counts_of_the_download_are_accepted_and_no_others(tmp_path, found, problem, note):
    for number in range(found):
        write_pair(tmp_path, f'test/T/input/{number}.png', f'test/T/target/{number}.png')
    layout = dataset_layouts.Layout('test/T/input', 'test/T/target')
    split = dataset_layouts.Split('test/T', 3, (layout,), downloaded_count=2)
    report = dataset_layouts.find_split(tmp_path, split)
    assert bool(report.problems) == problem
    assert ''.join(report.notes) == (note and f'{note}.')


def test_an_image_without_a_partner_is_a_problem_also_where_the_count_is_right(tmp_path):
    for number in range(2):
        write_pair(tmp_path, f'test/T/input/{number}.png', f'test/T/target/{number}.png')
    write_rgb(tmp_path / 'test/T/input/x.png', pattern(0, 8, 8))
    layout = dataset_layouts.Layout('test/T/input', 'test/T/target')
    split = dataset_layouts.Split('test/T', 3, (layout,), downloaded_count=2)
    (problem,) = dataset_layouts.find_split(tmp_path, split).problems
    assert '1 images have no clean partner: x.png' in problem


def test_downloads_with_fewer_pairs_than_published():
    counts = {s.place: s.downloaded_count for s in dataset_layouts.rain13k() if s.downloaded_count}
    assert counts == {'train/Rain13K': 13711, 'test/Test100': 98}


def test_published_counts():
    counts = {
        split.place: split.count
        for splits in (
            dataset_layouts.rain13k(),
            dataset_layouts.gopro(),
            dataset_layouts.realblur(),
            dataset_layouts.sidd(),
        )
        for split in splits
    }
    assert counts == {
        'train/Rain13K': 13712,
        'test/Test100': 100,
        'test/Rain100H': 100,
        'test/Rain100L': 100,
        'test/Test1200': 1200,
        'test/Test2800': 2800,
        'train/GoPro': 2103,
        'test/GoPro': 1111,
        'test/RealBlur_J': 980,
        'test/RealBlur_R': 980,
        'train/SIDD': 320,
    }


def test_missing_pairs_are_named_and_nothing_is_written(tmp_path, prepare_dataset, capsys):
    rain_tree(tmp_path / 'raw')
    (tmp_path / 'raw/train/Rain13K/target/2.jpg').unlink()
    command = ['rain13k', '--root', str(tmp_path / 'raw'), '--out', str(tmp_path / 'out')]
    assert prepare_dataset.main(command) == 1
    printed = capsys.readouterr().out
    assert '1 images have no clean partner: 2.jpg' in printed
    assert 'train/Rain13K: 2 pairs found, the published data set has 13,712' in printed
    assert 'Nothing was written' in printed
    assert not (tmp_path / 'out').exists()
    assert prepare_dataset.main([*command, '--allow-incomplete']) == 0
    assert keys(tmp_path / 'out/train/Rain13K') == ['1', '3']


def test_check_writes_nothing(tmp_path, prepare_dataset, expect):
    rain_tree(tmp_path / 'raw')
    expect('rain13k', Rain13K=3)
    command = ['rain13k', '--root', str(tmp_path / 'raw'), '--out', str(tmp_path / 'out')]
    assert prepare_dataset.main([*command, '--check']) == 0
    assert not (tmp_path / 'out').exists()


def test_wrong_root_shows_what_was_looked_for(tmp_path, prepare_dataset, capsys):
    (tmp_path / 'empty').mkdir()
    assert prepare_dataset.main(['rain13k', '--root', str(tmp_path / 'empty')]) == 2
    error = capsys.readouterr().err
    assert 'nothing of rain13k is there' in error
    assert 'train/Rain13K/input with train/Rain13K/target' in error
    assert prepare_dataset.main(['gopro', '--root', str(tmp_path / 'none')]) == 2
    assert 'there is no such folder' in capsys.readouterr().err


def test_one_half_of_a_split_is_named(tmp_path, prepare_dataset, capsys):
    write_pair(tmp_path, 'train/Rain13K/input/1.png', 'elsewhere/1.png')
    assert prepare_dataset.main(['rain13k', '--root', str(tmp_path)]) == 1
    assert 'PROBLEM' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda path: write_rgb(path, pattern(0, 8, 8)), 'input/1.png is 8 x 8'),
        (lambda path: path.write_bytes(b'<html>'), 'input/1.png: it is a web page'),
    ],
    ids=['other size', 'no image'],
)
def test_unusable_pairs_are_named_and_left_out(
    tmp_path, prepare_dataset, expect, capsys, damage, message
):
    rain_tree(tmp_path)
    damage(tmp_path / 'train/Rain13K/input/1.png')
    expect('rain13k', Rain13K=3)
    command = ['rain13k', '--root', str(tmp_path), '--out', str(tmp_path / 'out')]
    assert prepare_dataset.main(command) == 1
    assert message in capsys.readouterr().out
    assert not (tmp_path / 'out').exists()
    assert prepare_dataset.main([*command, '--allow-incomplete']) == 0
    assert keys(tmp_path / 'out/train/Rain13K') == ['2', '3']


def test_data_set_that_is_in_place_is_left_there(tmp_path, prepare_dataset, expect, capsys):
    rain_tree(tmp_path)
    expect('rain13k', Rain13K=3, Test100=1)
    command = ['rain13k', '--root', str(tmp_path), '--out', str(tmp_path)]
    assert prepare_dataset.main(command) == 0
    assert 'already in place' in capsys.readouterr().out
    assert not (tmp_path / 'test/Test100/input/1.jpg').is_symlink()
    assert keys(tmp_path / 'train/Rain13K') == ['1', '2', '3']


def test_other_test_images_are_not_mixed_in(tmp_path, prepare_dataset, expect, capsys):
    rain_tree(tmp_path / 'raw')
    write_rgb(tmp_path / 'out/test/Test100/input/other.png', pattern(0, 8, 8))
    expect('rain13k', Test100=1)
    command = ['rain13k', '--root', str(tmp_path / 'raw'), '--out', str(tmp_path / 'out')]
    assert prepare_dataset.main(command) == 2
    assert 'other files, e.g. other.png' in capsys.readouterr().err


def gopro_sequences(root: Path) -> None:
    for role, sequence in (('train', 'GOPR0001'), ('train', 'GOPR0002'), ('test', 'GOPR0003')):
        for number in range(2):
            name = f'{number:06d}.png'
            clean = pattern(number, 24, 32)
            write_rgb(root / role / sequence / 'sharp' / name, clean)
            write_rgb(root / role / sequence / 'blur' / name, 255 - clean)
            write_rgb(root / role / sequence / 'blur_gamma' / name, clean // 2)


@pytest.mark.parametrize('root', ['raw', 'raw/GOPRO_Large'])
@pytest.mark.parametrize('blur', ['blur', 'blur_gamma'])
def test_gopro_as_sequences(tmp_path, prepare_dataset, expect, capsys, root, blur):
    gopro_sequences(tmp_path / 'raw/GOPRO_Large')
    expect('gopro', GoPro=4)
    command = ['gopro', '--root', str(tmp_path / root), '--out', str(tmp_path / 'out')]
    assert prepare_dataset.main([*command, '--blur', blur, '--allow-incomplete']) == 0
    assert keys(tmp_path / 'out/train/GoPro') == [
        f'GOPR000{scene}/00000{number}' for scene in (1, 2) for number in (0, 1)
    ]
    image = read_rgb(tmp_path / 'out/test/GoPro/input/GOPR0003-000001.png')
    clean = read_rgb(tmp_path / 'out/test/GoPro/target/GOPR0003-000001.png')
    assert np.array_equal(image, 255 - clean if blur == 'blur' else clean // 2)
    other = 'blur_gamma' if blur == 'blur' else 'blur'
    assert f'{blur} is used, {other} is left out' in capsys.readouterr().out


def test_gopro_as_pairs(tmp_path, prepare_dataset, expect):
    write_pair(tmp_path, 'train/GoPro/input/a-1.png', 'train/GoPro/target/a-1.png')
    expect('gopro', GoPro=1)
    command = ['gopro', '--root', str(tmp_path), '--out', str(tmp_path / 'out')]
    assert prepare_dataset.main([*command, '--store', 'raw', '--size', '16', '--stride', '16']) == 0
    assert keys(tmp_path / 'out/train/GoPro') == [f'a-1_s00{n}' for n in (1, 2, 3, 4)]


def test_realblur(tmp_path, prepare_dataset, expect):
    for kind in 'JR':
        folder = f'test/RealBlur_{kind}'
        write_pair(tmp_path, f'{folder}/input/1.png', f'{folder}/target/1.png')
    expect('realblur', RealBlur_J=1, RealBlur_R=1)
    command = ['realblur', '--root', str(tmp_path), '--out', str(tmp_path / 'out'), '--copy']
    assert prepare_dataset.main(command) == 0
    for kind in 'JR':
        copied = tmp_path / f'out/test/RealBlur_{kind}/input/1.png'
        assert copied.is_file()
        assert not copied.is_symlink()


def realblur_scenes(root: Path, kind: str, above: str = '') -> Path:
    """Two scenes, the second listed for the test; returns the list."""
    base = f'RealBlur-{kind}_BM3D_ECC_IMCORR_centroid_itensity_ref'
    for scene in ('scene001', 'scene002'):
        for number in (1, 2):
            names = (f'{base}/{scene}/{side}/{side}_{number}.png' for side in ('blur', 'gt'))
            write_pair(root / above, *names, number)
    listed = root / f'RealBlur_{kind}_test_list.txt'
    sides = [[f'{base}/scene002/{s}/{s}_{n}.png' for s in ('gt', 'blur')] for n in (1, 2)]
    listed.write_text(''.join(' '.join(line) + '\n' for line in sides))
    return listed


@pytest.mark.parametrize('above', ['', 'RealBlur'])
def test_realblur_as_scenes_with_test_lists(tmp_path, prepare_dataset, expect, capsys, above):
    for kind in 'JR':
        realblur_scenes(tmp_path, kind, above)
    expect('realblur', RealBlur_J=2, RealBlur_R=2)
    command = ['realblur', '--root', str(tmp_path), '--out', str(tmp_path / 'out')]
    assert prepare_dataset.main(command) == 0, capsys.readouterr()
    files = sorted((tmp_path / 'out/test/RealBlur_R/input').iterdir())
    assert [file.name for file in files] == ['scene002-1.png', 'scene002-2.png']
    assert files[0].resolve().match('scene002/blur/blur_1.png')


def test_realblur_without_its_list_or_a_listed_image_is_named(tmp_path, prepare_dataset, capsys):
    realblur_scenes(tmp_path, 'J')
    realblur_scenes(tmp_path, 'R').unlink()
    next(tmp_path.glob('RealBlur-J*/scene002/blur/blur_1.png')).unlink()
    assert prepare_dataset.main(['realblur', '--root', str(tmp_path), '--check']) == 1
    printed = capsys.readouterr().out
    assert '1 images of RealBlur_J_test_list.txt are not there: scene002/blur/blur_1.png' in printed
    assert 'there is no RealBlur_R_test_list.txt in it or below' in printed


def sidd_tree(root: Path, shape=(2, 3, 16, 16, 3)) -> np.ndarray:
    for scene in ('0001_001_S6', '0002_001_S6'):
        for number in ('010', '011'):
            folder = f'SIDD_Medium_Srgb/Data/{scene}/{scene[:4]}'
            names = (f'{folder}_{kind}_SRGB_{number}.PNG' for kind in ('NOISY', 'GT'))
            write_pair(root, *names, size=(600, 900))
    blocks = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    save_classic(root / 'ValidationNoisyBlocksSrgb.mat', ValidationNoisyBlocksSrgb=blocks)
    save_v73(root / 'ValidationGtBlocksSrgb.mat', ValidationGtBlocksSrgb=255 - blocks)
    return blocks


def test_sidd(tmp_path, prepare_dataset, expect, monkeypatch):
    sidd_tree(tmp_path)
    expect('sidd', SIDD=4)
    monkeypatch.setattr(mat_files, 'SIDD_BLOCKS', (2, 3, 16, 16, 3))
    command = ['sidd', '--root', str(tmp_path), '--out', str(tmp_path / 'out'), '--verify']
    assert prepare_dataset.main(command) == 0
    stored = keys(tmp_path / 'out/train/SIDD')
    assert len(stored) == 4 * 2 * 3  # rows at 0 and 88, columns at 0, 384 and 388
    assert stored[0] == '0001_001_S6/0001/010_s001'
    assert keys(tmp_path / 'out/val/SIDD')[-1] == '0002_03'
    assert len(keys(tmp_path / 'out/val/SIDD')) == 6


def test_sidd_problems_are_named(tmp_path, prepare_dataset, capsys):
    sidd_tree(tmp_path)
    (tmp_path / 'ValidationGtBlocksSrgb.mat').unlink()
    assert prepare_dataset.main(['sidd', '--root', str(tmp_path), '--check']) == 1
    printed = capsys.readouterr().out
    assert 'there is no ValidationGtBlocksSrgb.mat in it or below' in printed
    assert 'train/SIDD: 4 pairs found, the published data set has 320' in printed


def dnd_tree(root: Path, height: int = 40) -> None:
    box = np.tile([1, 1, 32, 32], (20, 1))
    save_dnd_info_v73(root / 'info.mat', [box, box])
    (root / 'images_srgb').mkdir()
    image = np.zeros((height, 48, 3), np.float32)
    for number in (1, 2):
        save_v73(root / f'images_srgb/{number:04d}.mat', InoisySRGB=image)


def test_dnd(tmp_path, prepare_dataset, monkeypatch, capsys):
    dnd_tree(tmp_path)
    monkeypatch.setattr(mat_files, 'DND_IMAGES', 2)
    assert prepare_dataset.main(['dnd', '--root', str(tmp_path)]) == 0
    assert 'DND: 2 images, 40 boxes' in capsys.readouterr().out


def test_dnd_problems_are_named(tmp_path, prepare_dataset, capsys):
    dnd_tree(tmp_path, height=20)
    (tmp_path / 'images_srgb/0002.mat').unlink()
    assert prepare_dataset.main(['dnd', '--root', str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert 'boxes of 2 images, not of 50' in printed
    assert '0001.mat: boxes reach beyond the image, which is 48 x 20' in printed
    assert '0002.mat is missing' in printed
    (tmp_path / 'info.mat').unlink()
    assert prepare_dataset.main(['dnd', '--root', str(tmp_path)]) == 1
    assert 'there is no info.mat in it or below' in capsys.readouterr().out


def test_folders_of_one_s_own(tmp_path, prepare_lmdb, capsys):
    write_pair(tmp_path, 'rainy/a/x.1_rain.jpg', 'clean/a/x.1.png')
    write_pair(tmp_path, 'rainy/y_rain.png', 'clean/y.bmp', 1)
    command = ['--input', str(tmp_path / 'rainy'), '--target', str(tmp_path / 'clean')]
    command += ['--out', str(tmp_path / 'out'), '--input-template', '{}_rain', '--verify']
    assert prepare_lmdb.main(command) == 0
    assert keys(tmp_path / 'out') == ['a/x.1', 'y']
    printed = capsys.readouterr().out
    assert '2 pairs of images, 2 pairs stored: 2 now, 0 were there already' in printed
    assert 'Verified: all 2 pairs are as their sources' in printed


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--input', 'missing'], 'missing: there is no such folder'),
        (['--stride', '9'], '--stride 9'),
        (['--input-template', '{}_q'], "rainy and clean: template '{}_q': no file fits it"),
    ],
)
def test_errors_are_one_line(tmp_path, prepare_lmdb, monkeypatch, capsys, options, message):
    write_pair(tmp_path, 'rainy/y.png', 'clean/y.png')
    monkeypatch.chdir(tmp_path)
    arguments = ['--input', 'rainy', '--target', 'clean', '--out', 'out', *options]
    assert prepare_lmdb.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ')
    assert message in error
    assert not (tmp_path / 'out').exists()


def test_verify_fails_aloud(tmp_path, prepare_lmdb, monkeypatch):
    write_pair(tmp_path, 'rainy/y.png', 'clean/y.png')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prepare_lmdb, 'verify_pairs', lambda *a, **k: ['y differs'])
    arguments = ['--input', 'rainy', '--target', 'clean', '--out', 'out', '--verify']
    with pytest.raises(SystemExit, match='1 problems:\ny differs'):
        prepare_lmdb.main(arguments)
