from __future__ import annotations

import contextlib
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from c2fdft_arch.common import atomic_write, hardware
from c2fdft_arch.dft import DFT
from c2fdft_arch.inference import evaluation
from c2fdft_model.images import image_files, image_io
from c2fdft_model.images.image_files import read_image
from c2fdft_model.restoring import restorer
from c2fdft_model.restoring.restoration import restore
from c2fdft_model.restoring.weights import load_network
from helpers.image_records import FullDisk

SCRIPT = Path(__file__).resolve().parents[3] / 'scripts' / 'restore.py'


@pytest.fixture(scope='session')
def script():
    return importlib.import_module('c2fdft_model.commands.restore')


@pytest.fixture(scope='session')
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'net_g.pth'
    torch.save({'params_ema': DFT(dim=4, num_blocks=(1, 1, 1, 1)).state_dict()}, path)
    return path


def save(path, height=9, width=13, mode='RGB', seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / 'photos' / 'a.png')
    save(tmp_path / 'photos' / 'trip' / 'b.png', 5, 3, seed=1)
    return Path('photos')


@pytest.fixture
def run(script, weights, capsys):
    def run(*arguments):
        code = script.main([str(a) for a in arguments] + ['--weights', str(weights)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_file_is_restored_as_the_function_does(run, photos, weights):
    code, _, _ = run(photos / 'a.png', 'new.png', '--precision', 'fp32', '--steps', '2')
    assert code == 0
    degraded = torch.from_numpy(read_image('photos/a.png').colour).permute(2, 0, 1)
    expected = restore(
        load_network(weights), degraded, timesteps=2, noise_name='a', precision='fp32'
    )
    np.testing.assert_allclose(
        read_image('new.png').colour, expected.permute(1, 2, 0).numpy(), atol=0.51 / 255
    )


def test_a_folder_is_restored_with_its_subfolders(run, photos):
    code, printed, _ = run(photos, 'out')
    assert code == 0
    assert read_image('out/a.png').colour.shape == (9, 13, 3)
    assert read_image('out/trip/b.png').colour.shape == (5, 3, 3)
    assert '2 restored' in printed and 's per image' in printed


@pytest.mark.parametrize('size', [(1, 1), (1, 20), (8, 8), (7, 33)])
def test_any_size_is_restored(run, photos, size):
    save(photos / 'a.png', *size)
    assert run(photos / 'a.png', 'new.png', '--steps', '1')[0] == 0
    assert read_image('new.png').colour.shape[:2] == size


def test_grey_and_alpha_and_depth_are_kept(run, photos):
    save(photos / 'grey.png', mode='L')
    save(photos / 'clear.png', mode='RGBA')
    Image.fromarray(np.full((6, 6), 40000, np.uint16)).save(photos / 'deep.png')
    assert run(photos, 'out', '--steps', '1')[0] == 0
    assert Image.open('out/grey.png').mode == 'L'
    assert Image.open('out/clear.png').mode == 'RGBA'
    assert read_image('out/deep.png').depth == 16


def test_what_is_there_is_skipped_unless_told(run, photos):
    run(photos / 'a.png', 'out', '--steps', '1')
    before = os.stat('out/a.png').st_mtime_ns
    code, printed, _ = run(photos / 'a.png', 'out', '--steps', '1')
    assert code == 0 and os.stat('out/a.png').st_mtime_ns == before
    assert '1 there already' in printed
    run(photos / 'a.png', 'out', '--steps', '1', '--overwrite')
    assert os.stat('out/a.png').st_mtime_ns > before


def test_the_seed_decides(run, photos):
    for name, seed in (('x.png', 1), ('y.png', 1), ('z.png', 2)):
        run(photos / 'a.png', name, '--seed', seed)
    assert Path('x.png').read_bytes() == Path('y.png').read_bytes()
    assert Path('x.png').read_bytes() != Path('z.png').read_bytes()


@pytest.mark.parametrize(
    ('steps', 'shown'), [('1', '999;'), ('2', '999, 0;'), ('999,500,0', '999, 500, 0;')]
)
def test_the_timesteps_are_chosen_and_shown(run, photos, steps, shown):
    _, printed, _ = run(photos / 'a.png', 'new.png', '--steps', steps)
    assert f'Timesteps: {shown}' in printed


@pytest.mark.parametrize(
    ('given', 'fast', 'shown'),
    [('fp32', True, 'float32'), ('bf16', True, 'bfloat16'), ('bf16', False, 'float32')],
)
def test_the_precision_is_chosen_and_shown(run, photos, monkeypatch, given, fast, shown):
    monkeypatch.setattr(hardware, 'has_fast_bf16', lambda _: fast)
    _, printed, _ = run(photos / 'a.png', 'new.png', '--steps', '1', '--precision', given)
    assert f'precision: {shown}' in printed


def test_the_precision_of_each_call_is_shown_where_it_is_chosen(run, photos, monkeypatch):
    monkeypatch.setattr(hardware, 'has_fast_bf16', lambda _: True)
    for steps, shown in (('1', 'float32\n'), ('2', 'float32 at 999, bfloat16 at 0\n')):
        _, printed, _ = run(photos / 'a.png', 'new.png', '--steps', steps, '--overwrite')
        assert f'precision: {shown}' in printed


def test_samples_are_averaged(run, photos, weights):
    run(photos / 'a.png', 'new.png', '--precision', 'fp32', '--steps', '1', '--samples', '3')
    degraded = torch.from_numpy(read_image('photos/a.png').colour).permute(2, 0, 1)
    expected = restore(
        load_network(weights), degraded, timesteps=1, noise_name='a', samples=3, precision='fp32'
    )
    np.testing.assert_allclose(
        read_image('new.png').colour, expected.permute(1, 2, 0).numpy(), atol=0.51 / 255
    )


def test_a_memory_budget_that_is_asked_for_suffices(run, photos):
    save(photos / 'a.png', 160, 160)
    code, _, errors = run(photos / 'a.png', 'new.png', '--memory-budget', '1')
    (line,) = errors.splitlines()
    assert code == 1 and 'photos/a.png' in line and '--tile' in line
    needed = re.search(r'give --memory-budget (\d+) or more', line)[1]
    assert run(photos / 'a.png', 'new.png', '--memory-budget', needed)[0] == 0


def test_the_memory_budget_reaches_the_network(run, photos, monkeypatch):
    given = []
    restore_all = restorer.restore

    def note(network, image, **options):
        given.append(options['memory_budget_mb'])
        return restore_all(network, image, **options)

    monkeypatch.setattr(restorer, 'restore', note)
    run(photos / 'a.png', 'new.png', '--steps', '1', '--memory-budget', '900')
    assert given == [900]


def test_the_diffusion_section_of_an_option_file_is_used(run, photos):
    Path('o.yml').write_text('diffusion: {num_diffusion_timesteps: 500, sampling_timesteps: 2}')
    _, printed, _ = run(photos / 'a.png', 'new.png', '--opt', 'o.yml')
    assert 'Timesteps: 499, 0;' in printed


def test_the_option_file_says_what_the_network_predicts_and_adds_to(script, photos):
    network = DFT(dim=4, num_blocks=(1, 1, 1, 1))
    torch.nn.init.zeros_(network.output.weight)
    torch.save(network.state_dict(), 'w.pth')
    Path('o.yml').write_text('{network_g: {skip: degraded}, diffusion: {prediction: clean}}')
    script.main([str(photos / 'a.png'), 'same.png', '--weights', 'w.pth', '--opt', 'o.yml'])
    same, given = read_image('same.png').colour, read_image(photos / 'a.png').colour
    assert (same == given).all()


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('diffusion: {prediction: claen}', 'diffusion: prediction: .*did you mean "clean"'),
        ('network_g: {skip: degrade}', 'network_g: skip: .*did you mean "degraded"'),
        ('network_g: {type: EDSR, skip: degraded}', 'network_g: EDSR: skip is not a known key'),
    ],
)
def test_a_target_or_a_skip_that_cannot_be_is_refused_by_key(run, photos, content, words):
    Path('o.yml').write_text(content)
    code, printed, errors = run(photos / 'a.png', 'new.png', '--opt', 'o.yml')
    assert (code, printed) == (2, '')
    assert re.fullmatch(f'error: .*{words}.*\n', errors)


def test_comparisons_show_degraded_and_restored_and_ground_truth(run, photos):
    save(photos / 'a.png', 32, 20)
    run(photos / 'a.png', 'out', '--steps', '1', '--compare', '--metrics', photos)
    assert read_image('out/compare/a.png').colour.shape == (32, 3 * 20 + 2 * 8, 3)


def test_comparisons_do_not_take_the_place_of_results(run, photos):
    save(photos / 'compare' / 'a.png', 6, 6)
    code, printed, _ = run(photos, 'out', '--steps', '1', '--compare')
    assert code == 0 and '3 restored' in printed
    assert read_image('out/compare/a.png').colour.shape == (6, 6, 3)
    assert read_image('out/compare/a.png.png').colour.shape == (9, 2 * 13 + 8, 3)


def test_comparisons_are_made_for_what_is_there_already(run, photos):
    run(photos / 'a.png', 'out', '--steps', '1')
    _, printed, _ = run(photos / 'a.png', 'out', '--steps', '1', '--compare')
    assert '0 restored' in printed and Path('out/compare/a.png').exists()


def test_the_metrics_are_those_of_the_named_protocol(run, photos):
    save(photos / 'a.png', 32, 32)
    code, printed, _ = run(
        photos / 'a.png', 'out', '--steps', '1', '--metrics', photos, '--protocol', 'rain_y'
    )
    assert code == 0
    assert 'rain_y  psnr' in printed and '(mean of 1)' in printed


def psnr(printed):
    return float(re.search(r'psnr ([\d.]+)', printed)[1])


def test_the_loss_of_jpeg_is_not_in_the_metrics(run, photos):
    save(photos / 'a.png', 32, 32)
    options = ('--steps', '1', '--metrics', photos)
    lossless = psnr(run(photos / 'a.png', 'out', *options)[1])
    for quality in ('20', '90'):
        _, printed, _ = run(photos / 'a.png', f'{quality}.jpg', *options, '--quality', quality)
        assert psnr(printed) == lossless
        assert 'loss of JPEG' not in printed
    _, printed, _ = run(photos / 'a.png', '20.jpg', *options)
    assert psnr(printed) != lossless
    assert 'measured with the loss of JPEG or WebP, since there already: 1' in printed


def test_a_result_of_another_name_is_measured_by_the_name_of_its_source(run, photos):
    save(photos / 'a.png', 32, 32)
    code, printed, _ = run(photos / 'a.png', 'new.png', '--steps', '1', '--metrics', photos)
    assert code == 0 and 'psnr' in printed


def test_metrics_of_what_is_there_already_are_printed(run, photos):
    save(photos / 'a.png', 32, 32)
    Path('out').mkdir()
    (Path('out') / 'a.png').write_bytes((photos / 'a.png').read_bytes())
    _, printed, _ = run(photos / 'a.png', 'out', '--metrics', photos)
    assert 'psnr inf' in printed


def test_a_missing_ground_truth_is_reported_and_the_image_restored(run, photos):
    save(Path('gt/b.png'))
    save(photos / 'b.png')
    inputs = (photos / 'a.png', photos / 'b.png')
    code, _, errors = run(*inputs, 'out', '--steps', '1', '--metrics', 'gt')
    assert code == 1 and 'a.png: no ground truth of this name in gt' in errors
    assert Path('out/a.png').exists()


def test_a_folder_with_no_ground_truth_at_all_is_named_before_anything_is_restored(run, photos):
    save(Path('gt/other.png'))
    code, _, errors = run(photos / 'a.png', 'out', '--steps', '1', '--metrics', 'gt')
    assert code == 2 and 'gt: no ground truth for any of 1 images (a.png' in errors
    assert not Path('out').exists()


def test_tiles_restore_an_image_of_many(run, photos):
    save(photos / 'a.png', 40, 30)
    code, _, _ = run(
        photos / 'a.png', 'new.png', '--steps', '1', '--tile', '16', '--tile-overlap', '8'
    )
    assert code == 0
    assert read_image('new.png').colour.shape == (40, 30, 3)


def test_the_results_can_have_another_format(run, photos):
    run(photos, 'out', '--steps', '1', '--format', '.webp', '--quality', '100')
    assert Image.open('out/trip/b.webp').format == 'WEBP'


@pytest.mark.parametrize('given', ['png', '.png', 'PNG'])
def test_jpegs_of_a_folder_can_become_lossless(run, photos, given):
    save(photos / 'trip' / 'c.jpg')
    assert run(photos / 'trip', 'out', '--steps', '1', '--format', given)[0] == 0
    assert Image.open('out/c.png').format == 'PNG'


def test_a_jpeg_becomes_a_jpeg_of_high_quality(run, photos):
    save(photos / 'c.jpg', 16, 16)
    run(photos / 'c.jpg', 'out', '--steps', '1')
    written = Image.open('out/c.jpg')
    assert max(written.quantization[0]) <= 12  # as of quality 95
    assert written.layer[1][1:3] == (1, 1)  # colours as fine as brightness


def test_a_format_that_is_not_written_is_refused(run, photos, capsys):
    with pytest.raises(SystemExit):
        run(photos, 'out', '--format', 'gif')
    assert 'png, jpg' in capsys.readouterr().err


def camera_photo(path):
    exif = Image.Exif()
    exif[274], exif[0x8769], exif[0x8825] = 0, {33434: 0.5, 37500: bytes(70000)}, {1: 'N'}
    with Image.open('photos/a.png') as image:
        image.save(path, exif=exif)


@pytest.mark.parametrize('ending', ['jpg', 'png', 'tif', 'webp'])
def test_a_photo_of_a_camera_is_written_with_its_exposure(run, photos, ending):
    camera_photo(photos / 'c.png')
    code, _, errors = run(photos / 'c.png', f'new.{ending}', '--steps', '1')
    if ending == 'jpg':  # holds no EXIF data of this length
        assert (code, errors) == (1, 'warning: new.jpg: without EXIF data\n')
        return
    assert (code, errors) == (0, '')
    exif = Image.open(f'new.{ending}').getexif()
    assert float(exif.get_ifd(0x8769)[33434]) == 0.5 and exif.get_ifd(0x8825)[1] == 'N'


def test_every_file_of_a_folder_is_restored_or_counted(run, photos):
    with Image.open(photos / 'a.png') as image:
        for ending, kind in (('bmp', 'BMP'), ('gif', 'GIF'), ('jfif', 'JPEG'), ('jp2', 'JPEG2000')):
            image.save(photos / f'{"q" if ending == "jp2" else "p"}.{ending}', kind)
    (photos / 'notes.txt').touch()
    code, printed, _ = run(photos, 'out', '--steps', '1')
    assert code == 0
    assert 'left out, since such files are not read: 1 .txt (photos/notes.txt)' in printed
    for name in ('p.bmp.png', 'p.gif.png', 'p.jfif', 'q.png'):
        assert (Path('out') / name).is_file()
    (photos / 'p.heic').touch()
    code, printed, _ = run(photos, 'out', '--steps', '1')
    assert code == 1 and '1 .heic, 1 .txt' in printed
    for name in ('q.jxl', 'q.psd', 'q.exr', 'q.cr2', 'r.CR2', 'q.dng'):
        (photos / name).touch()
    code, printed, _ = run(photos, 'out', '--steps', '1')
    assert code == 1
    assert '2 .cr2, 1 .dng, 1 .exr, 1 .heic, 1 .jxl, 1 .psd, 1 .txt' in printed


def test_what_is_dropped_is_counted_and_shows_in_the_exit_code(run, photos):
    with Image.open(photos / 'a.png') as image:
        image.save(photos / 'a.tif', save_all=True, append_images=[image])
    code, printed, errors = run(photos / 'a.tif', 'new.tif', '--steps', '1')
    assert (
        code == 1
        and '1 restored' in printed
        and '1 without all that belongs to their source' in printed
    )
    assert errors == 'warning: new.tif: without 1 further images of the file\n'


def test_an_image_that_cannot_be_encoded_does_not_stop_the_others(run, photos, monkeypatch):
    encode = image_files._encode

    def fail(image, *arguments):
        if image.colour.shape[0] == 9:
            raise RuntimeError('Error setting from dictionary')
        return encode(image, *arguments)

    monkeypatch.setattr(image_files, '_encode', fail)
    code, printed, errors = run(photos, 'out', '--steps', '1')
    assert code == 1 and '1 restored' in printed
    assert errors == 'failed: out/a.png cannot be written: Error setting from dictionary.\n'


def lock(monkeypatch, name):
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == name:
            raise PermissionError(13, 'Permission denied', str(path))
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)


def test_a_subfolder_that_cannot_be_read_is_counted_as_failed(run, photos, monkeypatch):
    lock(monkeypatch, 'trip')
    code, printed, errors = run(photos, 'out', '--steps', '1')
    assert code == 1 and '1 restored' in printed and '1 failed' in printed
    assert errors == 'failed: photos/trip cannot be read: Permission denied.\n'


def test_a_folder_that_cannot_be_read_is_named(run, photos, monkeypatch):
    lock(monkeypatch, 'photos')
    code, _, errors = run(photos, 'out')
    assert code == 2 and 'photos cannot be read: Permission denied' in errors


BROKEN = {
    'text.png': (b'hello', 'not an image'),
    'empty.jpg': (b'', 'is empty'),
    'cut.png': (None, 'truncated'),
}


@pytest.mark.parametrize('name', BROKEN)
def test_a_broken_file_is_named_and_the_others_are_restored(run, photos, name):
    content, complaint = BROKEN[name]
    if content is None:
        content = (photos / 'a.png').read_bytes()[:150]
    (photos / name).write_bytes(content)
    code, printed, errors = run(photos, 'out', '--steps', '1')
    assert code == 1
    assert '2 restored' in printed and '1 failed' in printed
    (line,) = errors.splitlines()
    assert f'photos/{name}' in line and complaint in line
    assert not Path('out', name).exists()


def test_an_image_without_permission_is_named(run, photos, monkeypatch):
    def refuse(path, mode):
        if path.name == 'a.png':
            raise PermissionError(13, 'Permission denied')
        return open(path, mode)

    monkeypatch.setattr(image_io, 'open', refuse, raising=False)
    code, _, errors = run(photos, 'out', '--steps', '1')
    assert code == 1 and errors == 'failed: photos/a.png: Permission denied.\n'


def test_a_folder_without_permission_is_named_before_anything_is_restored(run, photos, monkeypatch):
    monkeypatch.setattr(os, 'access', lambda path, _: Path(path).name != 'locked')
    Path('locked').mkdir()
    code, printed, errors = run(photos, 'locked/out', '--steps', '1')
    assert code == 1 and '0 restored' in printed
    assert 'locked/out/a.png cannot be written' in errors


def test_a_full_disk_leaves_no_half_written_file(run, photos, monkeypatch):
    monkeypatch.setattr(atomic_write, 'open', FullDisk, raising=False)
    code, _, errors = run(photos / 'a.png', 'out', '--steps', '1')
    assert code == 1 and 'out/a.png cannot be written: No space left' in errors
    assert list(Path('out').iterdir()) == []


def test_alpha_is_not_lost_in_a_jpeg(run, photos):
    save(photos / 'clear.png', mode='RGBA')
    code, _, errors = run(photos / 'clear.png', 'clear.jpg', '--steps', '1')
    assert code == 1 and 'JPEG cannot hold the alpha channel' in errors


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (['photos', 'photos'], 'is an input, too'),
        (['photos/a.png', 'photos/a.png'], 'is an input, too'),
        (['missing.png', 'out'], 'missing.png: no such file'),
        (['photos', 'out', '--tile', '100'], 'tile is 100'),
        (['photos', 'out', '--metrics', 'gt'], 'gt: there is no such folder'),
        (['photos', 'out', '--device', 'cuda:99'], '--device cuda:99'),
        pytest.param(
            ['photos', 'out', '--device', 'mps'],
            '--device mps',
            marks=pytest.mark.skipif(torch.backends.mps.is_available(), reason='works here'),
        ),
        pytest.param(
            ['photos', 'out', '--device', 'xpu'],
            '--device xpu',
            marks=pytest.mark.skipif(
                hasattr(torch, 'xpu') and torch.xpu.is_available(), reason='works here'
            ),
        ),
        (['photos', 'out', '--device', 'meta'], '--device meta'),
        (['photos', 'out', '--device', 'nonsense'], '--device nonsense'),
        (['photos', 'out', '--device', 'cpu', '--kernels', 'triton'], 'triton cannot be used'),
        (['photos/a.png', 'z9.bmp'], 'z9.bmp ends in .bmp; written are .png'),
        (['photos/a.png', 'b.png', '--format', 'jpg'], '--format jpg contradicts b.png'),
        (['photos', 'out', '--steps', '0'], '0 steps'),
        (['photos', 'out', '--steps', '5000,0'], '5000'),
        (['photos', 'out', '--param-key', 'params'], "under 'params'"),
        (['photos', 'out', '--opt', 'missing.yml'], 'missing.yml'),
        (['photos', 'out', '--opt', 'photos/a.png'], 'photos/a.png is no YAML file'),
    ],
)
def test_what_cannot_begin_is_one_line(run, photos, arguments, complaint):
    code, _, errors = run(*arguments)
    assert code == 2
    (line,) = errors.splitlines()
    assert complaint in line
    assert not Path('out').exists()


@pytest.mark.parametrize('content', [None, b'no checkpoint', 'other', 'nine channels'])
def test_weights_that_do_not_fit_are_one_line(script, photos, capsys, content):
    if content == 'other':
        torch.save(torch.nn.Linear(2, 2).state_dict(), 'w.pth')
    elif content == 'nine channels':
        network = DFT(inp_channels=9, dim=4, num_blocks=(1, 1, 1, 1))
        torch.save(network.state_dict(), 'w.pth')
    elif content:
        Path('w.pth').write_bytes(content)
    assert script.main(['photos', 'out', '--weights', 'w.pth']) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert 'w.pth' in line


def test_an_image_that_does_not_fit_the_memory_is_not_begun(run, photos, monkeypatch):
    monkeypatch.setattr(restorer, 'needed_memory_mb', lambda *_: 9 * 1024.0)
    monkeypatch.setattr(restorer, 'available_memory_mb', lambda _: 2 * 1024.0)
    code, _, errors = run(photos / 'a.png', 'out')
    assert code == 1 and not Path('out/a.png').exists()
    (line,) = errors.splitlines()
    assert 'photos/a.png: not enough memory: 9.0 GB are needed and 2.0 GB are free' in line


def test_no_memory_for_one_image_does_not_stop_the_others(run, photos, monkeypatch):
    restore_all = restorer.restore

    def refuse_large(network, image, **options):
        if image.shape[-1] == 13:
            raise MemoryError('9 GB are needed')
        return restore_all(network, image, **options)

    monkeypatch.setattr(restorer, 'restore', refuse_large)
    code, printed, errors = run(photos, 'out', '--steps', '1')
    assert code == 1 and '1 restored' in printed
    (line,) = errors.splitlines()
    assert 'photos/a.png' in line and 'not enough memory' in line and '--tile' in line


def test_a_gpu_without_memory_for_one_image_is_tried_twice_and_goes_on(
    run, photos, monkeypatch, caplog
):
    save(photos / 'a.png', 9, 21)
    evaluate = evaluation.evaluate_as_planned

    def refuse_large(network, x, *settings):
        if x.shape[-1] == 24:
            raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB')
        return evaluate(network, x, *settings)

    monkeypatch.setattr(evaluation, 'evaluate_as_planned', refuse_large)
    code, printed, errors = run(photos, 'out', '--steps', '1')
    assert code == 1 and '1 restored' in printed
    (line,) = errors.splitlines()
    assert 'photos/a.png: not enough memory: CUDA out of memory' in line
    (warning,) = caplog.messages
    assert 'for 24 x 16 pixels' in warning


def test_an_interruption_is_reported(run, photos, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(restorer, 'restore', interrupt)
    code, _, errors = run(photos, 'out')
    assert code == 1 and 'interrupted' in errors


@pytest.mark.subprocess
def test_the_script_runs_by_itself(photos, weights, clean_environment):
    command = [sys.executable, SCRIPT, 'photos/*.png', 'out', '--weights', weights, '--steps', '1']
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment)
    assert done.returncode == 0, done.stderr
    assert 'photos/a.png -> out/a.png  13 x 9' in done.stdout
    assert done.stderr == ''


@pytest.mark.subprocess
@pytest.mark.skipif(sys.platform == 'win32', reason='needs a pseudo-terminal')
def test_a_terminal_sees_seconds_per_image_and_what_remains(weights, photos):
    import fcntl
    import pty
    import struct
    import termios

    terminal, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack('4H', 24, 120, 0, 0))  # rows, columns
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), 'photos', 'out', '--weights', str(weights)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=side,
    ) as running:
        os.close(side)
        shown = b''
        with contextlib.suppress(OSError):  # Linux reports the end of a terminal so
            while piece := os.read(terminal, 4096):
                shown += piece
    os.close(terminal)
    assert running.returncode == 0
    assert re.search(rb'image 1/2 .*remain, a\.png', shown)
    assert re.search(rb'image 2/2 .*remain, [\d.]+ s per image, b\.png', shown)
    assert b'100%' in shown
