from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from c2fdft_arch.dft import DFT
from c2fdft_model.diffusion.options import DiffusionOptions, build_process
from c2fdft_model.restoring import export as network_export
from c2fdft_model.restoring import restoration
from c2fdft_model.restoring.export import (
    ExportError,
    export_network,
    largest_difference,
    legal_size,
    load_onnx,
    load_pt2,
    plain_form,
    traced,
)
from helpers.checkpoints import restored_otherwise, save_trained_otherwise

SCRIPT = Path(__file__).resolve().parents[3] / 'scripts' / 'export.py'


@pytest.fixture(scope='module')
def network():
    torch.manual_seed(0)
    return DFT(dim=4, num_blocks=(1, 1, 1, 1)).eval()


@pytest.fixture(scope='module')
def program(network):
    return traced(network)


@pytest.fixture(scope='module')
def pt2(network, program, tmp_path_factory):
    path = tmp_path_factory.mktemp('pt2') / 'network.pt2'
    export_network(network, path, program)
    return load_pt2(path)


@pytest.fixture(scope='module')
def onnx(network, program, tmp_path_factory):
    for package in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(package)
    path = tmp_path_factory.mktemp('onnx') / 'network.onnx'
    export_network(network, path, program)
    predict = load_onnx(path)
    predict.path = path
    predict.session = lambda: importlib.import_module('onnxruntime').InferenceSession(
        path, providers=['CPUExecutionProvider']
    )
    return predict


@pytest.mark.parametrize('size', [(1, 16, 16), (1, 24, 64), (4, 40, 16)])
def test_a_pt2_file_computes_what_the_network_does(network, pt2, size):
    assert largest_difference(network, pt2, [size]) < 1e-5


@pytest.mark.parametrize('size', [(1, 16, 16), (1, 24, 64), (4, 40, 16)])
def test_an_onnx_file_computes_what_the_network_does(network, onnx, size):
    assert largest_difference(network, onnx, [size]) < 1e-5


def test_the_timestep_is_no_constant_of_the_file(pt2):
    x = torch.zeros(1, 6, 16, 16)
    assert not torch.equal(pt2(x, torch.tensor([0.0])), pt2(x, torch.tensor([999.0])))


def test_the_difference_is_a_share_of_the_largest_value(network):
    assert largest_difference(network, lambda x, t: network(x, t) * 1.01) == pytest.approx(
        0.01, rel=1e-3
    )


@pytest.mark.parametrize('time_embedding', [True, False])
def test_the_traced_form_is_the_same_network(time_embedding):
    network = DFT(dim=4, num_blocks=(1, 1, 1, 1), time_embedding=time_embedding, bias=True)
    assert largest_difference(network, plain_form(network)) < 1e-5


def test_a_file_that_computes_something_else_is_not_kept(network, tmp_path, monkeypatch):
    def write(_, path):
        path.write_bytes(b'x')

    wrong = {'.pt2': (write, lambda path: lambda x, t: x[:, :3])}
    monkeypatch.setattr(network_export, 'WRITERS', wrong)
    with pytest.raises(ExportError, match='off by'):
        export_network(network, tmp_path / 'network.pt2', program='traced')
    assert list(tmp_path.iterdir()) == []


def test_another_ending_is_refused(network, tmp_path):
    with pytest.raises(ExportError, match=r'\.pt2 or \.onnx'):
        export_network(network, tmp_path / 'network.pth')


def test_a_missing_package_is_named(network, tmp_path, monkeypatch):
    def write(_, __):
        raise ModuleNotFoundError("No module named 'onnxscript'", name='onnxscript')

    monkeypatch.setattr(network_export, 'WRITERS', {'.onnx': (write, load_onnx)})
    with pytest.raises(ExportError, match='onnxscript is missing: pip install'):
        export_network(network, tmp_path / 'network.onnx', program='traced')


@pytest.fixture
def documented_loop(project_root, tmp_path, monkeypatch):
    """The loop of the document over the network.onnx in `tmp_path`: from pixels to pixels."""
    text = (project_root / 'docs' / 'restoring.md').read_text(encoding='utf-8')
    (code,) = (c for c in re.findall(r'```python\n(.*?)```', text, re.S) if 'onnxruntime' in c)
    monkeypatch.chdir(tmp_path)

    def loop(pixels: np.ndarray) -> np.ndarray:
        Image.fromarray(pixels).save('photo.jpg', 'PNG')
        exec(code, {})
        return np.asarray(Image.open('restored.png'), np.float32)

    return loop


@pytest.mark.parametrize('prediction', ['noise', 'clean', 'velocity'])
def test_the_documented_loop_restores_as_the_process_does(
    network, onnx, documented_loop, tmp_path, prediction
):
    import onnx as onnx_files

    process = build_process(DiffusionOptions(prediction=prediction, sampling_timesteps=3))
    model = onnx_files.load(onnx.path)
    options = DiffusionOptions(prediction=prediction, sampling_timesteps=3).model_dump_json()
    onnx_files.helper.set_model_props(model, {'diffusion': options})
    onnx_files.save(model, tmp_path / 'network.onnx')
    pixels = np.random.default_rng(1).integers(0, 256, (24, 32, 3), np.uint8)
    y = torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    x_T = np.random.default_rng(0).standard_normal(tuple(y.shape), np.float32)
    with torch.no_grad():
        expected = process.sample(
            lambda x_t, t: network(torch.cat([y, x_t], 1), t.float()), torch.from_numpy(x_T), y
        )
    expected = ((expected[0].permute(1, 2, 0).numpy() + 1) * 127.5).clip(0, 255)
    assert np.abs(documented_loop(pixels) - expected).max() < 1


class Pt2Session:
    """A .pt2 file as onnxruntime's session of the ONNX file beside it would be used."""

    def __init__(self, path: str, providers: list[str]) -> None:
        files = {'diffusion.json': ''}
        pt2 = Path(path).with_suffix('.pt2')
        self.predict = torch.export.load(pt2, extra_files=files).module()
        self.custom_metadata_map = {'diffusion': files['diffusion.json']}

    def get_modelmeta(self) -> Pt2Session:
        return self

    def run(self, _, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        x, t = (torch.from_numpy(inputs[name]) for name in ('x', 't'))
        return [self.predict(x, t).numpy()]


@pytest.mark.parametrize(
    ('file', 'prediction', 'skip'),
    [('network.onnx', 'clean', 'degraded'), ('network.pt2', 'velocity', 'none')],
)
def test_what_the_weights_describe_is_exported_with_them(
    script, documented_loop, tmp_path, monkeypatch, file, prediction, skip
):
    if file == 'network.pt2':
        runtime = SimpleNamespace(InferenceSession=Pt2Session)
        monkeypatch.setitem(sys.modules, 'onnxruntime', runtime)
    else:
        for package in ('onnx', 'onnxscript', 'onnxruntime'):
            runtime = pytest.importorskip(package)
    settings = {
        'prediction': prediction,
        'num_diffusion_timesteps': 500,
        'beta_end': 0.03,
        'sampling_timesteps': 3,
    }
    weights = save_trained_otherwise(tmp_path / 'net.pth', settings, skip)
    assert script.main([file, '--weights', str(weights)]) == 0
    session = runtime.InferenceSession('network.onnx', providers=['CPUExecutionProvider'])
    said = json.loads(session.get_modelmeta().custom_metadata_map['diffusion'])
    assert said == DiffusionOptions(**settings).model_dump(mode='json')

    pixels = np.random.default_rng(1).integers(0, 256, (21, 30, 3), np.uint8)
    # the noise of the loop, which is that of the padded image
    noise = np.random.default_rng(0).standard_normal((3, 24, 32), np.float32)
    x_T = torch.from_numpy(noise)
    monkeypatch.setattr(
        restoration, 'named_noise', lambda _, shape, seed: x_T[:, : shape[1], : shape[2]]
    )
    image = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    expected = restored_otherwise(weights, settings, image, '', skip, precision='fp32')
    expected = expected.permute(1, 2, 0).numpy() * 255
    assert np.abs(documented_loop(pixels) - expected).max() < 0.51


def test_the_axes_of_an_onnx_file_have_names_and_the_process_is_in_it(onnx):
    session = onnx.session()
    assert [i.shape for i in session.get_inputs()] == [['batch', 6, 'height', 'width'], ['batch']]
    assert [o.shape for o in session.get_outputs()] == [['batch', 3, 'height', 'width']]
    found = session.get_modelmeta().custom_metadata_map['diffusion']
    assert json.loads(found) == DiffusionOptions().model_dump(mode='json')


def test_any_registered_network_is_exported_with_its_own_multiple(tmp_path):
    class Shrinks(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.size_multiple = torch.nn.Conv2d(6, 3, 3, padding=1), 32

        def forward(self, x, t):
            return self.down(x) * (1 + t.view(-1, 1, 1, 1) / 1000)

    network = Shrinks().eval()
    assert export_network(network, tmp_path / 'network.pt2') < 1e-5
    assert legal_size(network, 1, 16, 65) == (1, 64, 96)


@pytest.fixture(scope='module')
def script():
    return importlib.import_module('c2fdft_model.commands.export')


def test_the_command_traces_once_writes_every_file_and_says_the_difference(
    script, network, tmp_path, monkeypatch, capsys
):
    traces, written = [], []

    def export(_, path, program):
        written.append((path.name, program))
        return 2e-7

    monkeypatch.setattr(script, 'traced', lambda _: traces.append(1) or 'program')
    monkeypatch.setattr(script, 'export_network', export)
    torch.save({'params': network.state_dict()}, tmp_path / 'w.pth')
    assert script.main(['a.pt2', 'b.onnx', '--weights', str(tmp_path / 'w.pth')]) == 0
    assert traces == [1] and written == [('a.pt2', 'program'), ('b.onnx', 'program')]
    assert 'b.onnx: largest difference to the network 2.0e-07' in capsys.readouterr().out


def test_the_command_refuses_missing_weights_in_one_line(script, tmp_path, capsys):
    assert script.main(['a.pt2', '--weights', str(tmp_path / 'w.pth')]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert 'w.pth: no such file' in line


@pytest.mark.parametrize('skip', ['degraded', 'none'])
def test_what_the_last_convolution_is_added_to_is_exported(skip):
    network = DFT(dim=4, num_blocks=(1, 1, 1, 1), skip=skip).eval()
    assert largest_difference(network, plain_form(network), [(1, 16, 24)]) < 1e-5
