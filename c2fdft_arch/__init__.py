"""Diffusion Transformer (DFT) of C2F-DFT, as a plugin for BasicSR.

"Wang et al." in the docstrings is Liyan Wang, Qinyu Yang, Cong Wang, Wei Wang, Jinshan Pan and
Zhixun Su, "Learning A Coarse-to-Fine Diffusion Transformer for Image Restoration", arXiv
2308.08730, published as "Coarse-to-Fine Mechanisms Mitigate Diffusion Limitations on Image
Restoration", Computer Vision and Image Understanding 248 (2024) 104118. Equations are numbered as
on arXiv.
"""

__version__ = '0.1.0'
