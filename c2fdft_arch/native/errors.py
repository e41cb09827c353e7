"""What goes wrong with the kernels."""

from c2fdft_arch.common.errors import C2FDFTError


class KernelsUnavailableError(C2FDFTError, RuntimeError):
    """The kernels cannot be used here; the text says why."""


class KernelCallError(C2FDFTError, ValueError):
    """A kernel was given a tensor that it does not take; the text says which, and what it takes."""
