"""Every difference between an LMDB and its sources is found."""

from __future__ import annotations

import lmdb
import pytest

from c2fdft_model.data.lmdb.plan import key_of
from c2fdft_model.data.lmdb.verify import verify_pairs
from c2fdft_model.data.lmdb.write_pairs import write_pairs
from helpers.lmdbs import sources_of, targets
from helpers.paired_data import encode_png, pattern


@pytest.mark.parametrize(
    ('tamper', 'message'),
    [
        (lambda txn: txn.put(b'plain', encode_png(pattern(0, 20, 30))), 'plain differs'),
        (lambda txn: txn.put(b'plain', b'garbage'), 'plain: not an image'),
        (lambda txn: txn.delete(b'plain'), 'plain is listed but not stored'),
    ],
)
def test_verify_finds_every_difference(tmp_path, folders, tamper, message):
    paths = targets(tmp_path)
    sources = sources_of(folders)
    write_pairs(sources, *paths)
    assert verify_pairs(sources, *paths) == []
    with (
        lmdb.open(str(paths[0]), map_size=2**24) as environment,
        environment.begin(write=True) as transaction,
    ):
        tamper(transaction)
    (problem,) = verify_pairs(sources, *paths)
    assert message in problem
    assert 'input.lmdb' in problem


def test_verify_compares_the_list_of_images(tmp_path, folders):
    paths = targets(tmp_path)
    sources = sources_of(folders)
    write_pairs(sources[:5], *paths)
    problems = verify_pairs(sources, *paths)
    missing = key_of(sources[5].name)
    assert f'{paths[0]}: {missing} is missing.' in problems
