"""The network as a file for other programs: `torch.export` (.pt2) and ONNX (.onnx).

The exported function is one network call, eps = network(x, t): x (batch, 6, height, width) is
cat(degraded, noisy), RGB in [-1, 1]; t (batch,) holds 0-based timesteps; both are float32. Batch,
height and width are free, the sides multiples of 8 from 16 up.
"""

import copy
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from c2fdft_arch.common.atomic_write import replacing
from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_arch.network.plain_dft import PlainDFT
from c2fdft_model.diffusion.options import DiffusionOptions
from c2fdft_model.restoring.restoration import size_multiple
from c2fdft_model.restoring.weights import network_arguments

Predict = Callable[[Tensor, Tensor], Tensor]

SMALLEST_SIDE = 16
CHECKED_SIZES = ((1, 16, 24), (2, 40, 16), (3, 64, 72))
"""Batch, height and width; none is what the network is traced with."""
TOLERANCE = 1e-4
TRACED_SIZE = (2, 32, 48)
AXES = {
    'x': ('batch', 6, 'height', 'width'),
    't': ('batch',),
    'prediction': ('batch', 3, 'height', 'width'),
}
"""The axes of an ONNX file, by their names where any length is taken."""


class ExportError(C2FDFTError, ValueError):
    """The network cannot be written, or the file does not compute what the network does."""


def export_network(network: nn.Module, path: Path, program: ExportedProgram | None = None) -> float:
    """Write the network to a .pt2 or .onnx file; returns the `largest_difference` to the network.

    `program` is `traced(network)`, for those who write several files. The file is checked before
    it gets its name. Raises ExportError for another ending, a missing package, a folder that
    cannot be written to, or a file that computes something else.
    """
    if path.suffix not in WRITERS:
        raise ExportError(f'{path}: name it {" or ".join(WRITERS)}.')
    write, load = WRITERS[path.suffix]
    try:
        with replacing(path) as unchecked, warnings.catch_warnings():
            warnings.simplefilter('ignore')  # the exporters remark on their own workings
            write(program or traced(network), unchecked)
            difference = largest_difference(network, load(unchecked))
            if not difference < TOLERANCE:
                raise ExportError(f'{path} is not written: it is off by {difference:.2g}.')
    except ImportError as error:
        raise ExportError(
            f'{path}: {error.name} is missing: pip install onnx onnxscript onnxruntime.'
        ) from error
    except OSError as error:
        raise ExportError(f'{path} cannot be written: {error.strerror or error}.') from error
    return difference


def largest_difference(
    network: nn.Module, predict: Predict, sizes: Sequence[tuple[int, int, int]] = CHECKED_SIZES
) -> float:
    """The largest difference to the network over the sizes, as a share of its largest value."""
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for batch, height, width in sizes:
        batch, height, width = legal_size(network, batch, height, width)
        x = torch.randn(batch, 6, height, width, generator=generator)
        t = torch.randint(1000, (batch,), generator=generator).float()
        with torch.no_grad():
            expected = network(x, t)
            error = (predict(x, t) - expected).abs().max() / expected.abs().max()
        worst = max(worst, float(error))
    return worst


def traced(network: nn.Module) -> ExportedProgram:
    """The network as a graph for any batch, height and width.

    Its `meta` holds, as `diffusion`, the process with which the network is sampled, in JSON.
    """
    multiple = size_multiple(network)
    batch, height, width = legal_size(network, *TRACED_SIZE)
    least = max(2, SMALLEST_SIDE // multiple)
    rows, columns = (torch.export.Dim(name, min=least) for name in ('rows', 'columns'))
    images = torch.export.Dim('batch', min=1)
    shapes = {'x': {0: images, 2: multiple * rows, 3: multiple * columns}, 't': {0: images}}
    example = (torch.randn(batch, 6, height, width), torch.zeros(batch))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')
        program = torch.export.export(plain_form(network), example, dynamic_shapes=shapes)
    description = getattr(network, 'description', None)
    diffusion = description.diffusion if description else DiffusionOptions()
    program.graph_module.meta['diffusion'] = diffusion.model_dump_json()
    return program


def legal_size(network: nn.Module, batch: int, height: int, width: int) -> tuple[int, int, int]:
    """The size, its sides extended to what the exported network takes: 2 or more multiples."""
    multiple = size_multiple(network)
    sides = (max(2, -(-side // multiple)) * multiple for side in (height, width))
    return batch, *sides  # type: ignore[return-value]


def plain_form(network: nn.Module) -> nn.Module:
    """The same network, computed layer by layer whatever its class does."""
    if not isinstance(network, PlainDFT):
        return copy.deepcopy(network).cpu().eval().requires_grad_(False)
    parameters = network.state_dict()
    plain = PlainDFT(
        **network_arguments(parameters), time_embedding=network.time_embedding, skip=network.skip
    )
    plain.load_state_dict(parameters)
    return plain.eval().requires_grad_(False)


def write_pt2(program: ExportedProgram, path: Path) -> None:
    """Write a .pt2 file with the diffusion process in its extra file `diffusion.json`."""
    diffusion = program.graph_module.meta.get('diffusion', '{}')
    torch.export.save(program, path, extra_files={'diffusion.json': diffusion})


def load_pt2(path: Path) -> Predict:
    """The function that a .pt2 file computes."""
    return torch.export.load(path).module()


def write_onnx(program: ExportedProgram, path: Path) -> None:
    """Write an ONNX file with inputs x and t, output prediction, named axes and the process.

    The diffusion process is the entry `diffusion` of the file's metadata.
    """
    import onnx_ir
    import onnxscript  # noqa: F401  (torch would name it only in its log)

    exported = torch.onnx.export(
        program, dynamo=True, verbose=False, input_names=['x', 't'], output_names=['prediction']
    )
    model = exported.model
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.shape = onnx_ir.Shape(AXES[value.name])
    model.metadata_props['diffusion'] = program.graph_module.meta.get('diffusion', '{}')
    exported.save(path)


def load_onnx(path: Path) -> Predict:
    """The function that an ONNX file computes with onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])

    def predict(x: Tensor, t: Tensor) -> Tensor:
        (noise,) = session.run(None, {'x': x.numpy(), 't': t.numpy()})
        return torch.from_numpy(noise)

    return predict


WRITERS = {'.pt2': (write_pt2, load_pt2), '.onnx': (write_onnx, load_onnx)}
"""File ending -> how such a file is written, and read back to be checked."""
