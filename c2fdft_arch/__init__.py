"""Diffusion Transformer (DFT) of C2F-DFT, as a plugin for BasicSR.

Imported when the interpreter starts, so nothing but the version lives here.
"""

__version__ = '0.1.0'
