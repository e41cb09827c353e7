"""All protocols by name, and what each of them compares."""

from functools import partial
from pathlib import Path

from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_arch.common.messages import nearest
from c2fdft_model.evaluation import blocks
from c2fdft_model.evaluation.evaluation_set import EvaluationSet
from c2fdft_model.evaluation.image_protocols import IMAGE_PROTOCOLS, Protocol, by_name, measure_rgb
from c2fdft_model.evaluation.pairs import image_pairs


class UnknownProtocolError(C2FDFTError, ValueError):
    """There is no protocol of this name; the message says which there are."""


PROTOCOLS = IMAGE_PROTOCOLS | by_name(
    Protocol(
        'sidd_val',
        "SIDD's validation blocks, float RGB in [0, 1]; ssim_3d is MATLAB's ssim() on the RGB "
        'block (the published number), ssim the mean over the channels',
        ('psnr', 'ssim', 'ssim_3d'),
        partial(measure_rgb, data_range=1),
    ),
    Protocol(
        'dnd',
        'submission to DND read back and checked against info.mat; its server has the ground truth '
        'and computes the metrics',
        (),
        blocks.check_dnd_image,
    ),
    Protocol(
        'sidd',
        "submission to SIDD's benchmark read back and checked against the noisy blocks; its "
        'server has the ground truth and computes the metrics',
        (),
        blocks.check_sidd_block,
    ),
)

_MAT_FILES = {
    'sidd_val': blocks.validation_blocks,
    'dnd': blocks.dnd_submission,
    'sidd': blocks.sidd_submission,
}


def get_protocol(name: str) -> Protocol:
    """The protocol of that name. Raises UnknownProtocolError, naming the nearest."""
    if name not in PROTOCOLS:
        raise UnknownProtocolError(
            f'no protocol {name!r}{nearest(name, PROTOCOLS)}: there are {", ".join(PROTOCOLS)}.'
        )
    return PROTOCOLS[name]


def find_evaluation_set(
    protocol: Protocol,
    results: Path,
    gt: Path,
    suffix: str | None = None,
    results_template: str = '{}',
    gt_template: str = '{}',
) -> EvaluationSet:
    """What a protocol compares in two folders or MATLAB files.

    `suffix` and the templates choose and pair image files (see `pairs.image_pairs`).

    Raises ValueError or OSError for files that are missing or cannot be compared.
    """
    if protocol.name in _MAT_FILES:
        return _MAT_FILES[protocol.name](results, gt)
    return image_pairs(results, gt, suffix, results_template, gt_template)
