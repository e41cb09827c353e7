"""Models that ship: trained weights with what they are, and the option files that make them."""

from pathlib import Path

from c2fdft_arch.common.errors import C2FDFTError
from c2fdft_arch.common.messages import nearest

FOLDER = Path(__file__).resolve().parent


class UnknownModelError(C2FDFTError, ValueError):
    """There is no model of that name; the text lists those that there are."""


def model_names() -> list[str]:
    """The models that ship, by name."""
    return sorted(path.stem for path in FOLDER.glob('*.pth'))


def model_path(name: str) -> Path:
    """The checkpoint of a model that ships. Raises UnknownModelError."""
    names = model_names()
    if name not in names:
        raise UnknownModelError(
            f'no model {name} ships{nearest(name, names)}; these do: {", ".join(names) or "none"}.'
        )
    return FOLDER / f'{name}.pth'
