from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

from c2fdft_arch.dft import DFT
from c2fdft_model.restoring import export as network_export
from c2fdft_model.restoring.export import (
    ExportError,
    export_network,
    largest_difference,
    load_onnx,
    load_pt2,
    plain_form,
    traced,
)

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
    return load_onnx(path)


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
