"""The data sets of an option file: their pairs, found before anything starts."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from c2fdft_arch.common.messages import printable
from c2fdft_model.data.dataset_options import parse_dataset
from c2fdft_model.data.image_listing import ListingError, list_files
from c2fdft_model.data.lmdb_contents import pair_lmdbs
from c2fdft_model.data.pair_reader import find_pairs
from c2fdft_model.data.pairing import ImagePair, PairingError, listed_pairs, pair_folders
from c2fdft_model.data.patch_cycle import DATASET_TYPE

BASICSR_TYPE = 'PairedImageDataset'


def data_set_problems(opt: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the pairs of the data sets that BasicSR has parsed, a line for each."""
    sections = opt['datasets']
    names = Counter(section['name'] for key, section in sections.items() if key != 'train')
    for name, count in names.items():
        if count > 1:
            yield f'datasets: {count} of them have the name {name}: their results would be mixed.'
    for section in sections.values():
        try:
            if section.get('type') == DATASET_TYPE:
                find_pairs(parse_dataset(section), check_images=False)
            elif section.get('type') == BASICSR_TYPE:
                check_basicsr_pairs(section)
        except (ListingError, PairingError) as error:
            text = str(error).removeprefix(f'datasets: {section["name"]}: ')
            yield f'datasets: {section["name"]}: {text}'


def check_basicsr_pairs(section: Mapping[str, Any]) -> None:
    """Raise PairingError or ListingError unless `PairedImageDataset` finds the pairs there are.

    It looks for the degraded image at the top of its folder under the clean one's suffix, takes
    every file for an image, cuts the lines of a list at the first blank and keys at the first dot.
    """
    lq, gt = (section.get(key) for key in ('dataroot_lq', 'dataroot_gt'))
    if not lq or not gt:
        raise PairingError(f'{BASICSR_TYPE} needs dataroot_lq and dataroot_gt.')
    template, listed = section.get('filename_tmpl', '{}'), section.get('meta_info_file')
    if section['io_backend']['type'] == 'lmdb':
        cut = [pair.gt for pair in pair_lmdbs(lq, gt, section.get('scale', 1)) if '.' in pair.gt]
        _refuse('whose keys it cuts at the dot', cut)
    elif listed:
        pairs = listed_pairs(listed, lq, gt, template)
        blank = [pair.gt for pair in pairs if ' ' in pair.gt]
        _refuse('whose lines it cuts at the blank', blank)
        _refuse('whose degraded ones it looks for elsewhere', _elsewhere(pairs, template))
        with open(listed, encoding='utf-8', errors='surrogateescape') as file:
            _refuse('for empty lines of the list', [listed for line in file if not line.strip()])
    else:
        pairs = pair_folders(lq, gt, template)
        known = {pair.lq for pair in pairs}, {pair.gt for pair in pairs}
        for folder, files in zip((lq, gt), known, strict=True):
            top = (name for name in list_files(Path(folder)) if '/' not in name)
            _refuse(f'in {folder}, which are no images', sorted(set(top) - files))
        _refuse('whose degraded ones it looks for elsewhere', _elsewhere(pairs, template))


def _elsewhere(pairs: list[ImagePair], template: str) -> list[str]:
    """Clean images whose degraded ones BasicSR looks for under another name, or not at all."""

    def expected(pair: ImagePair) -> str:
        stem, suffix = os.path.splitext(os.path.basename(pair.gt))
        return template.format(stem) + suffix

    return [pair.gt for pair in pairs if '/' in pair.gt or pair.lq != expected(pair)]


def _refuse(what: str, files: list[str]) -> None:
    if files:
        raise PairingError(
            f'{BASICSR_TYPE} cannot take {len(files)} files {what}, e.g. {printable(files[0])}; '
            f'give type: {DATASET_TYPE}.'
        )
