"""The systems of the paper's tables: what is published of each, and what the paper reports.

Reported are PSNR (dB) and SSIM of Tables 1 to 3 of Wang et al.
"""

from collections.abc import Mapping
from dataclasses import dataclass

DATA_SETS = {
    'deraining': ('Test100', 'Rain100H', 'Rain100L', 'Test2800'),
    'deblurring': ('GoPro', 'RealBlur-R', 'RealBlur-J'),
    'denoising': ('SIDD', 'DND'),
}
NONE = 'none stated'
ACADEMIC = 'Academic Public License (non-commercial)'
MEGVII = 'MIT; of BasicSR in it, Apache-2.0'


@dataclass(frozen=True)
class PublishedSystem:
    """One row of the tables."""

    task: str
    reported: str
    """`PSNR / SSIM` for each of the task's data sets, separated by commas."""
    options: str = ''
    """The option file in `options/` that trains it, without its ending; empty if there is none."""
    code: str = ''
    """The address of the public code."""
    licence: str = ''
    weights: str = ''
    """Where the published weights are, and how they load."""
    note: str = ''

    @property
    def scores(self) -> Mapping[str, str]:
        """The reported numbers by data set."""
        cells = (text.strip() for text in self.reported.split(','))
        return dict(zip(DATA_SETS[self.task], cells, strict=True))


def _github(name: str) -> str:
    return f'https://github.com/{name}'


PUBLISHED = {
    'C2F-DFT': PublishedSystem(
        'deraining',
        '31.38 / 0.921, 31.62 / 0.909, 39.03 / 0.980, 34.03 / 0.944',
        'derain_fine',
        _github('wlydlut/C2F-DFT'),
        NONE,
        '[results](results.md#released-weights-and-the-papers-results)',
    ),
    'RESCAN': PublishedSystem(
        'deraining',
        '25.00 / 0.835, 26.36 / 0.786, 29.80 / 0.881, 31.29 / 0.904',
        'baselines/derain_rescan',
        _github('XiaLiPKU/RESCAN'),
        'MIT',
        "none of its authors (PReNet's README links some); files of training have the key `net`",
    ),
    'PReNet': PublishedSystem(
        'deraining',
        '24.81 / 0.851, 26.77 / 0.858, 32.44 / 0.950, 31.75 / 0.916',
        'baselines/derain_prenet',
        _github('csdwren/PReNet'),
        NONE,
        "in the repository (`logs/`), `param_key_g: ~`; of other training data than the paper's",
    ),
    'MSPFN': PublishedSystem(
        'deraining',
        '27.50 / 0.876, 28.66 / 0.860, 32.40 / 0.933, 32.82 / 0.930',
        'baselines/derain_mspfn',
        _github('kuijiang94/MSPFN'),
        NONE,
        'linked from its README; TensorFlow',
        'its authors state 0.1 to 0.2 dB less than in their paper for these weights',
    ),
    'MPRNet': PublishedSystem(
        'deraining',
        '30.27 / 0.897, 30.41 / 0.890, 36.40 / 0.965, 33.64 / 0.938',
        'baselines/derain_mprnet',
        _github('swz30/MPRNet'),
        ACADEMIC,
        'linked from its README, `network_g: weights`',
    ),
    'HINet': PublishedSystem(
        'deraining',
        '30.29 / 0.906, 30.65 / 0.894, 37.28 / 0.970, 33.91 / 0.941',
        'baselines/derain_hinet',
        _github('megvii-model/HINet'),
        MEGVII,
        'linked from its README, `param_key_g: params`',
    ),
    'SPAIR': PublishedSystem(
        'deraining',
        '30.35 / 0.909, 30.95 / 0.892, 36.93 / 0.969, 33.34 / 0.936',
        code=_github('human-analysis/spatially-adaptive-image-restoration'),
        note='not to be had: nothing could be fetched from the address in its paper',
    ),
    'Restormer': PublishedSystem(
        'deraining',
        '32.00 / 0.923, 31.46 / 0.904, 38.99 / 0.978, 34.18 / 0.944',
        'baselines/derain_restormer',
        _github('swz30/Restormer'),
        ACADEMIC,
        'linked from its README, `network_g: weights`',
    ),
    'IR-SDE': PublishedSystem(
        'deraining',
        '26.74 / 0.834, 20.79 / 0.699, 30.83 / 0.912, 30.42 / 0.891',
        'baselines/derain_irsde',
        _github('Algolzw/image-restoration-sde'),
        'MIT',
        'linked from its README; of another network than the one here',
    ),
    'TransWeather': PublishedSystem(
        'deraining',
        '-, -, -, -',
        'baselines/derain_transweather',
        _github('jeya-maria-jose/TransWeather'),
        'MIT',
        'linked from the README of earlier commits, not of the last, `param_key_g: ~`; of other '
        'weather than rain alone',
        'not in the tables of the paper',
    ),
    'WeatherDiffusion': PublishedSystem(
        'deraining',
        '-, -, -, -',
        code=_github('IGITUGraz/WeatherDiffusion'),
        licence='MIT',
        weights='linked from its README; of another network than the one here',
        note='a sampler here: `restore --tile-blend mean`; not in the tables of the paper',
    ),
    'DeblurGAN': PublishedSystem(
        'deblurring',
        '28.70 / 0.858, 33.79 / 0.903, 27.97 / 0.834',
        'baselines/deblur_deblurgan',
        _github('KupynOrest/DeblurGAN'),
        'BSD',
        'linked from its README, reported broken; others in the repository (`checkpoints/`), '
        '`param_key_g: ~`',
    ),
    'DeblurGAN-v2': PublishedSystem(
        'deblurring',
        '29.55 / 0.934, 35.26 / 0.944, 28.70 / 0.866',
        'baselines/deblur_deblurgan_v2',
        _github('VITA-Group/DeblurGANv2'),
        'BSD',
        'linked from its README, `param_key_g: model`',
    ),
    'SRN': PublishedSystem(
        'deblurring',
        '30.26 / 0.934, 35.66 / 0.947, 28.56 / 0.867',
        'baselines/deblur_srn',
        _github('jiangsutx/SRN-Deblur'),
        'MIT',
        "on its author's site; TensorFlow",
        'the option file has `variant: color`; the number is that of `lstm`',
    ),
    'DBGAN': PublishedSystem(
        'deblurring',
        '31.10 / 0.942, 33.78 / 0.909, 24.93 / 0.745',
        code=_github('HDCVLab/Deblurring-by-Realistic-Blurring'),
        licence=NONE,
        weights='linked from its README; of a network that is not written here',
        note='no option file: its authors publish the test alone',
    ),
    'MT-RNN': PublishedSystem(
        'deblurring',
        '31.15 / 0.945, 35.79 / 0.951, 28.44 / 0.862',
        'baselines/deblur_mt_rnn',
        _github('Dong1P/MTRNN'),
        NONE,
        'in the repository, `param_key_g: ~`',
    ),
    'DMPHN': PublishedSystem(
        'deblurring',
        '31.20 / 0.940, 35.70 / 0.948, 28.42 / 0.860',
        'baselines/deblur_dmphn',
        _github('HongguangZhang/DMPHN-cvpr19-master'),
        NONE,
        'in the repository (`checkpoints/`), `network_g: weights: FOLDER`',
        'Stack(4)-DMPHN',
    ),
    'MIMO-UNet+': PublishedSystem(
        'deblurring',
        '32.45 / 0.957, -, -',
        'baselines/deblur_mimo_unet_plus',
        _github('chosj95/MIMO-UNet'),
        NONE,
        'linked from its README, `param_key_g: model`',
        'the paper gives this number for MIMO-UNet++; its authors state 32.68 / 0.959 for that',
    ),
    'MIMO-UNet++': PublishedSystem(
        'deblurring',
        '32.45 / 0.957, 35.54 / 0.947, 27.63 / 0.837',
        'baselines/deblur_mimo_unet_plus_plus',
        _github('chosj95/MIMO-UNet'),
        NONE,
        'those of MIMO-UNet+',
    ),
    'NAFNet': PublishedSystem(
        'deblurring',
        '33.71 / 0.967, 35.97 / 0.951, 28.31 / 0.856',
        'baselines/deblur_nafnet',
        _github('megvii-research/NAFNet'),
        MEGVII,
        'linked from its README, `network_g: weights`',
        'the option file has the network of width 32; the number is of width 64',
    ),
    'CBDNet': PublishedSystem(
        'denoising',
        '30.78 / 0.801, 38.06 / 0.942',
        'baselines/denoise_cbdnet',
        _github('IDKiro/CBDNet-pytorch'),
        'MIT',
        'linked from its README, `param_key_g: state_dict`',
        "its authors' code is for MATLAB (Apache-2.0): https://github.com/GuoShi28/CBDNet",
    ),
    'RIDNet': PublishedSystem(
        'denoising',
        '38.71 / 0.951, 39.26 / 0.953',
        code=_github('saeed-anwar/RIDNet'),
        licence=NONE,
        note='comes with BasicSR: `network_g: {type: RIDNet, in_channels: 3, out_channels: 3}`',
    ),
    'AINDNet': PublishedSystem(
        'denoising',
        '39.08 / 0.954, 39.37 / 0.951',
        'baselines/denoise_aindnet',
        _github('terryoo/AINDNet'),
        NONE,
        'linked from its README; TensorFlow',
        'its authors state 39.01 on SIDD and 39.46 on DND for these weights',
    ),
    'VDN': PublishedSystem(
        'denoising',
        '39.28 / 0.956, 39.38 / 0.952',
        'baselines/denoise_vdn',
        _github('zsyOAOA/VDNet'),
        NONE,
        'in the repository (`model_state/`), `param_key_g: ~`',
    ),
    'DeamNet': PublishedSystem(
        'denoising',
        '39.47 / 0.957, 39.63 / 0.953',
        'baselines/denoise_deamnet',
        _github('chaoren88/DeamNet'),
        'MIT',
        'in the repository (`Deam_models/Real.pth`), `param_key_g: ~`',
    ),
    'CycleISP': PublishedSystem(
        'denoising',
        '39.52 / 0.957, 39.56 / 0.956',
        'baselines/denoise_cycleisp',
        _github('swz30/CycleISP'),
        ACADEMIC,
        'linked from its README, `param_key_g: state_dict`',
    ),
    'MIRNet': PublishedSystem(
        'denoising',
        '39.72 / 0.959, 39.88 / 0.956',
        'baselines/denoise_mirnet2',
        _github('swz30/MIRNetv2'),
        ACADEMIC,
        'linked from its README, `network_g: weights`',
        'the option file has MIRNet-v2',
    ),
}
