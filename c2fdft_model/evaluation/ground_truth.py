"""Which image of a ground-truth folder belongs to a result, or to the image it is made from."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from c2fdft_arch.common.messages import shortened
from c2fdft_model.data.image_listing import list_images
from c2fdft_model.data.pairing import PairingError, by_name, template_hint


def owners(
    names: Iterable[str], gt_names: Iterable[str], suffix: str | None = None
) -> dict[str, str | None]:
    """The name of the ground truth of each name, None if there is none or it is not clear.

    A name belongs to its own ground truth, to the only one that is called so in another folder, or
    to that of `<name>` if it is `<name>_<anything>`, as BasicSR calls results; the longest `<name>`
    wins. With `suffix`, names count that end so (`_<suffix>`), and no other.
    """
    gts = set(gt_names)
    of_base: dict[str, list[str]] = defaultdict(list)
    for gt in gts:
        of_base[gt.rpartition('/')[2]].append(gt)
    if suffix is not None:
        end = suffix if suffix.startswith('_') else f'_{suffix}'
        chosen = [name for name in names if name.endswith(end)]
        return {name: _owner(name.removesuffix(end), gts, of_base, False) for name in chosen}
    names = set(names)
    found = {name: _owner(name, gts, of_base, True) for name in sorted(names)}
    # What has a result of its very name is not another one's ground truth.
    return {name: None if gt != name and gt in names else gt for name, gt in found.items()}


def _owner(
    name: str, gts: set[str], of_base: Mapping[str, list[str]], with_endings: bool
) -> str | None:
    folder, slash, base = name.rpartition('/')
    while base:
        if folder + slash + base in gts:
            return folder + slash + base
        if len(of_base.get(base, [])) == 1:
            return of_base[base][0]
        base = base.rpartition('_')[0] if with_endings else ''
    return None


class GroundTruthIndex:
    """The ground truth of images that are restored, by their relative paths.

    Raises ListingError if the folder is missing or has no images, and PairingError if no image has
    a ground truth there, with the templates that would find some.
    """

    def __init__(
        self, folder: Path, images: Iterable[str], template: str = '{}', gt_template: str = '{}'
    ) -> None:
        self.folder = folder
        images = list(images)
        gt_files = list_images(folder).images
        self._gts = by_name(gt_files, gt_template)
        named = by_name(images, template)
        owner_of = owners(named, self._gts)
        self._owners = {file: owner_of[name] for name, files in named.items() for file in files}
        if not any(self._owners.values()):
            keys = '--input-template', '--gt-template'
            raise PairingError(
                f'{folder}: no ground truth for any of {len(images)} images '
                f'({shortened(images)}; there are {shortened(gt_files)})'
                f'{template_hint(images, gt_files, keys)}.'
            )

    def find(self, image: str) -> Path:
        """The ground truth of an image. Raises PairingError if there is none, or more than one."""
        owner = self._owners.get(image)
        files = self._gts[owner] if owner else []
        if len(files) > 1:
            files = [file for file in files if Path(file).suffix == Path(image).suffix]
        if len(files) != 1:
            which = 'more than one' if owner else 'no'
            raise PairingError(f'{image}: {which} ground truth of this name in {self.folder}.')
        return self.folder / files[0]
