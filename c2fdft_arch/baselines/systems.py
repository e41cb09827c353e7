"""The networks of the paper's tables that are written here, by the name that BasicSR knows."""

from c2fdft_arch.baselines.blocks.restoration_network import RestorationNetwork
from c2fdft_arch.baselines.deblurring.dmphn import DMPHN
from c2fdft_arch.baselines.deblurring.mimo_unet import MIMOUNet
from c2fdft_arch.baselines.denoising.cbdnet import CBDNet
from c2fdft_arch.baselines.denoising.vdn import VDN
from c2fdft_arch.baselines.deraining.hinet import HINet
from c2fdft_arch.baselines.deraining.prenet import PReNet
from c2fdft_arch.baselines.deraining.rescan import RESCAN

SYSTEMS: dict[str, type[RestorationNetwork]] = {
    network.__name__: network for network in (PReNet, RESCAN, HINet, MIMOUNet, DMPHN, CBDNet, VDN)
}
