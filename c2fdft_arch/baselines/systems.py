"""The networks of the paper's tables that are written here, by the name that BasicSR knows."""

from torch import nn

from c2fdft_arch.baselines.blocks.restoration_network import RestorationNetwork
from c2fdft_arch.baselines.deblurring.deblurgan import (
    DeblurGAN,
    DoubleScaleDiscriminator,
    PatchDiscriminator,
)
from c2fdft_arch.baselines.deblurring.deblurgan_v2 import DeblurGANv2
from c2fdft_arch.baselines.deblurring.dmphn import DMPHN
from c2fdft_arch.baselines.deblurring.mimo_unet import MIMOUNet
from c2fdft_arch.baselines.deblurring.mt_rnn import MTRNN
from c2fdft_arch.baselines.deblurring.srn import SRN
from c2fdft_arch.baselines.denoising.aindnet import AINDNet
from c2fdft_arch.baselines.denoising.cbdnet import CBDNet
from c2fdft_arch.baselines.denoising.cycleisp import CycleISPDenoiser
from c2fdft_arch.baselines.denoising.deamnet import DeamNet
from c2fdft_arch.baselines.denoising.vdn import VDN
from c2fdft_arch.baselines.deraining.hinet import HINet
from c2fdft_arch.baselines.deraining.mspfn import MSPFN
from c2fdft_arch.baselines.deraining.prenet import PReNet
from c2fdft_arch.baselines.deraining.rescan import RESCAN
from c2fdft_arch.baselines.deraining.transweather import TransWeather

SYSTEMS: dict[str, type[RestorationNetwork]] = {
    network.__name__: network
    for network in (
        PReNet,
        RESCAN,
        MSPFN,
        HINet,
        TransWeather,
        DeblurGAN,
        DeblurGANv2,
        SRN,
        MIMOUNet,
        DMPHN,
        MTRNN,
        CBDNet,
        AINDNet,
        VDN,
        DeamNet,
        CycleISPDenoiser,
    )
}
DISCRIMINATORS: dict[str, type[nn.Module]] = {
    network.__name__: network for network in (PatchDiscriminator, DoubleScaleDiscriminator)
}
