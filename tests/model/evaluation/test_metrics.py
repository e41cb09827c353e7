"""Perceptual metrics: RGB order, weights from a file, clear words for what is missing."""

from __future__ import annotations

import io
import sys
import time
import types
from email.message import Message

import numpy as np
import pytest
import torch
import torchvision
from basicsr.metrics import calculate_metric
from basicsr.utils.registry import METRIC_REGISTRY

from c2fdft_model.evaluation import downloads, perceptual
from c2fdft_model.evaluation.perceptual import MetricUnavailable
from helpers.silent_server import silent_server


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """No model, weights or setting from another test, and no network."""
    perceptual._lpips_model.cache_clear()
    perceptual._iqa_model.cache_clear()
    monkeypatch.delenv(perceptual.WEIGHTS_VARIABLE, raising=False)
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))

    def refuse(*_, **__):
        raise OSError('no network in the tests')

    monkeypatch.setattr(torch.hub, 'urlopen', refuse)
    monkeypatch.setattr(perceptual, 'await_answer', lambda url: None)


@pytest.fixture(scope='module')
def alexnet(tmp_path_factory):
    """The convolutions of an AlexNet with random weights, as torchvision names them."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'alexnet.pth'
    features = torchvision.models.alexnet(weights=None).features
    torch.save({f'features.{k}': v for k, v in features.state_dict().items()}, path)
    return path


@pytest.fixture(scope='module')
def images():
    rng = np.random.default_rng(0)
    gt = rng.integers(0, 256, (64, 48, 3), np.uint8)
    result = np.clip(gt + rng.normal(0, 30, gt.shape), 0, 255).astype(np.uint8)
    return {'img': result, 'img2': gt}


def measure(images, **options):
    return calculate_metric(images, {'type': 'calculate_lpips', 'crop_border': 0, **options})


def test_bgr_arrays_become_rgb_tensors():
    blue = np.zeros((2, 3, 3), np.uint8)
    blue[..., 0] = 255
    tensor = perceptual.bgr_to_tensor(blue)
    assert tensor.shape == (1, 3, 2, 3)
    assert tensor[0, :, 0, 0].tolist() == [0, 0, 1]
    assert torch.equal(perceptual.bgr_to_tensor(blue.transpose(2, 0, 1), 'CHW'), tensor)
    assert perceptual.bgr_to_tensor(np.full((2, 3), 255, np.uint8)).tolist() == [
        [[[1.0] * 3] * 2] * 3
    ]


def test_both_metrics_are_registered():
    assert 'calculate_lpips' in METRIC_REGISTRY
    assert 'calculate_iqa' in METRIC_REGISTRY


def test_lpips_equals_the_library_on_rgb(images, alexnet):
    lpips = pytest.importorskip('lpips')
    reference = lpips.LPIPS(net='alex', pnet_rand=True, verbose=False)
    # the layers' numbers are those of torchvision's `features`
    source = torch.load(alexnet)
    for name, parameter in reference.net.named_parameters():
        parameter.data = source['features.' + name.split('.', 1)[1]]
    rgb = [torch.tensor(images[k][..., ::-1].copy()).permute(2, 0, 1)[None] for k in images]
    expected = reference(*(x.float() / 255 * 2 - 1 for x in rgb)).item()
    assert measure(images, weights=str(alexnet)) == pytest.approx(expected, rel=1e-5)


def test_lpips_of_equal_images_is_zero_and_of_others_is_not(images, alexnet):
    pytest.importorskip('lpips')
    gt = images['img2']
    assert measure({'img': gt, 'img2': gt}, weights=str(alexnet)) == 0
    assert measure(images, weights=str(alexnet)) > 1e-4


def test_lpips_crops_the_border(images, alexnet):
    pytest.importorskip('lpips')
    inside = {name: image[4:-4, 4:-4] for name, image in images.items()}
    cropped = measure(images, weights=str(alexnet), crop_border=4)
    assert cropped == pytest.approx(measure(inside, weights=str(alexnet)), rel=1e-6)


def test_lpips_takes_its_weights_from_the_environment(images, alexnet, monkeypatch):
    pytest.importorskip('lpips')
    expected = measure(images, weights=str(alexnet))
    perceptual._lpips_model.cache_clear()
    monkeypatch.setenv(perceptual.WEIGHTS_VARIABLE, str(alexnet))
    assert measure(images) == expected


def test_lpips_takes_its_weights_from_torchs_cache(images, alexnet, tmp_path):
    pytest.importorskip('lpips')
    url = torchvision.models.AlexNet_Weights.IMAGENET1K_V1.url
    cached = tmp_path / 'hub' / 'checkpoints' / url.rsplit('/', 1)[1]
    cached.parent.mkdir(parents=True)
    cached.write_bytes(alexnet.read_bytes())
    assert measure(images) == measure(images, weights=str(alexnet))


def test_without_weights_and_network_the_message_says_what_to_get(images):
    pytest.importorskip('lpips')
    with pytest.raises(MetricUnavailable) as error:
        measure(images)
    for part in ('no network', 'alexnet-owt', 'checkpoints', '`weights`', '$C2FDFT_LPIPS_WEIGHTS'):
        assert part in str(error.value)


def test_a_download_may_not_be_silent_for_long(images, monkeypatch):
    pytest.importorskip('lpips')
    limits = []

    def watch(*_, **__):
        limits.append(downloads.socket.getdefaulttimeout())
        raise OSError('timed out')

    monkeypatch.setattr(torch.hub, 'urlopen', watch)
    with pytest.raises(MetricUnavailable):
        measure(images)
    assert limits == [downloads.SILENCE_TIMEOUT]


def test_a_network_that_swallows_connections_is_found_out_soon_and_said_on_one_line(monkeypatch):
    pytest.importorskip('lpips')
    monkeypatch.setattr(perceptual, 'await_answer', downloads.await_answer)
    monkeypatch.setattr(downloads, 'ANSWER_TIMEOUT', 0.3)
    monkeypatch.setenv('no_proxy', '*')
    started = time.monotonic()
    with silent_server() as server:
        weights = torchvision.models.AlexNet_Weights.IMAGENET1K_V1.value
        monkeypatch.setattr(weights, 'url', f'{server}/alexnet-owt-7be5be79.pth')
        problem = perceptual.lpips_problem()
    assert time.monotonic() - started < 5
    assert 'cannot be downloaded' in problem and '$C2FDFT_LPIPS_WEIGHTS' in problem
    assert '\n' not in problem


def test_a_download_that_was_cut_short_is_not_kept(images, monkeypatch, tmp_path):
    pytest.importorskip('lpips')

    class Answer(io.BytesIO):
        def info(self):
            return Message()

    monkeypatch.setattr(torch.hub, 'urlopen', lambda *_, **__: Answer(b'half of it'))
    with pytest.raises(MetricUnavailable, match='cannot be downloaded .invalid hash'):
        measure(images)
    assert list((tmp_path / 'hub' / 'checkpoints').iterdir()) == []


def test_a_damaged_file_in_torchs_cache_is_named(images, tmp_path):
    pytest.importorskip('lpips')
    cached = tmp_path / 'hub' / 'checkpoints' / 'alexnet-owt-7be5be79.pth'
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b'half of it')
    with pytest.raises(
        MetricUnavailable, match=r'alexnet-owt-7be5be79\.pth cannot be read.*remove'
    ):
        measure(images)


def test_a_missing_weights_file_is_named(images):
    pytest.importorskip('lpips')
    with pytest.raises(MetricUnavailable, match='absent.pth do not exist'):
        measure(images, weights='absent.pth')


@pytest.mark.parametrize('content', [b'', b'no checkpoint'])
def test_a_file_that_is_no_checkpoint_is_named(images, tmp_path, content):
    pytest.importorskip('lpips')
    path = tmp_path / 'x.pth'
    path.write_bytes(content)
    with pytest.raises(MetricUnavailable, match='x.pth is not a file of weights'):
        measure(images, weights=str(path))


def test_the_weights_of_another_network_are_refused(images, tmp_path):
    pytest.importorskip('lpips')
    torch.save(torch.nn.Conv2d(3, 3, 3).state_dict(), tmp_path / 'x.pth')
    with pytest.raises(MetricUnavailable, match='does not hold the ImageNet weights'):
        measure(images, weights=str(tmp_path / 'x.pth'))


def test_without_lpips_the_message_names_the_command(images, monkeypatch):
    monkeypatch.setitem(sys.modules, 'lpips', None)
    with pytest.raises(MetricUnavailable, match=r'pip install c2fdft\[metrics\]'):
        measure(images)


def test_an_unknown_backbone_is_named(images):
    with pytest.raises(MetricUnavailable, match="no LPIPS backbone 'resnet': there are alex, vgg"):
        measure(images, net='resnet')


def test_lpips_refuses_images_too_small_for_its_backbone():
    small = {name: np.zeros((16, 80, 3), np.uint8) for name in ('img', 'img2')}
    with pytest.raises(ValueError, match='32 pixels or more: this is 80 x 16'):
        measure(small)


def test_a_lack_can_be_found_before_the_training_and_names_the_metrics_key(monkeypatch):
    perceptual.check_metrics(None)
    perceptual.check_metrics({'psnr': {'type': 'calculate_psnr'}})
    monkeypatch.setitem(sys.modules, 'lpips', None)
    with pytest.raises(MetricUnavailable, match='val: metrics: perceptual: LPIPS needs'):
        perceptual.check_metrics({'perceptual': {'type': 'calculate_lpips'}})
    monkeypatch.setitem(sys.modules, 'pyiqa', None)
    with pytest.raises(MetricUnavailable, match="val: metrics: m: 'musiq' needs"):
        perceptual.check_metrics({'m': {'type': 'calculate_iqa', 'metric': 'musiq'}})


class FakeIqa(types.ModuleType):
    """Two metrics of pyiqa's interface: the mean of red, and with a gt the mean difference."""

    def __init__(self):
        super().__init__('pyiqa')
        self.created = []

    def list_models(self):
        return ['musiq', 'ssim']

    def create_metric(self, name, device=None, **settings):
        self.created.append((name, settings))

        class Model:
            metric_mode = 'NR' if name == 'musiq' else 'FR'

            def __call__(self, image, gt=None):
                return image[:, 0].mean() if gt is None else (image - gt).mean()

        return Model()


@pytest.fixture
def pyiqa(monkeypatch):
    fake = FakeIqa()
    monkeypatch.setitem(sys.modules, 'pyiqa', fake)
    return fake


def iqa(images, **options):
    return calculate_metric(images, {'type': 'calculate_iqa', **options})


def test_iqa_without_reference_gets_the_rgb_image_alone(pyiqa):
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 2] = 255
    assert iqa({'img': red}, metric='musiq') == 1
    assert iqa({'img': red, 'img2': red}, metric='musiq') == 1


def test_iqa_with_reference_gets_both_images(pyiqa, images):
    expected = (images['img'] / 255.0 - images['img2'] / 255.0).mean()
    assert iqa(images, metric='ssim') == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match='ssim compares with a ground truth'):
        iqa({'img': images['img']}, metric='ssim')


def test_iqa_models_are_made_once_with_the_local_weights(pyiqa, images, tmp_path):
    path = tmp_path / 'musiq.pth'
    path.touch()
    for _ in range(2):
        iqa(images, metric='musiq', weights=str(path))
    assert pyiqa.created == [('musiq', {'pretrained_model_path': str(path)})]


def test_a_missing_file_of_iqa_weights_is_named(pyiqa, images):
    with pytest.raises(MetricUnavailable, match='absent.pth of musiq do not exist'):
        iqa(images, metric='musiq', weights='absent.pth')


def test_an_unknown_iqa_metric_names_the_nearest(pyiqa, images):
    with pytest.raises(MetricUnavailable, match=r"no metric 'musik' \(did you mean \"musiq\"\?\)"):
        iqa(images, metric='musik')


def test_without_pyiqa_the_message_names_the_command(images, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyiqa', None)
    with pytest.raises(MetricUnavailable, match=r'pip install c2fdft\[iqa\]'):
        iqa(images, metric='musiq')


def test_iqa_weights_that_cannot_be_downloaded_are_explained(pyiqa, images, monkeypatch):
    def fail(*_, **__):
        raise OSError('timed out')

    monkeypatch.setattr(pyiqa, 'create_metric', fail)
    with pytest.raises(MetricUnavailable, match='musiq are not here and cannot be downloaded'):
        iqa(images, metric='musiq')


def test_the_model_names_a_missing_metric_before_anything_is_built(monkeypatch):
    from basicsr.models import build_model

    monkeypatch.setitem(sys.modules, 'lpips', None)
    options = {
        'model_type': 'C2FDFTModel',
        'is_train': False,
        'num_gpu': 0,
        'val': {'metrics': {'perceptual': {'type': 'calculate_lpips'}}},
    }
    with pytest.raises(MetricUnavailable, match='val: metrics: perceptual'):
        build_model(options)
