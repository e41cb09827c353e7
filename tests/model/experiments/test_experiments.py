"""What comparisons, benchmarks and the demo share: processes, files, memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from c2fdft_model.experiments.files import digest, read_json, write_json
from c2fdft_model.experiments.processes import ProcessFailed, call_in_process, call_with_log
from c2fdft_model.experiments.tables import markdown_table, means


def test_a_call_in_a_process_returns_the_result_or_raises_the_error():
    assert call_in_process(os.getpid) != os.getpid()
    with pytest.raises(FileNotFoundError):
        call_in_process(os.listdir, '/nowhere')


def test_a_failed_call_is_shown_with_the_end_of_its_log(tmp_path):
    log = tmp_path / 'call.log'
    with pytest.raises(ProcessFailed, match=r'call failed(.|\n)*call\.log(.|\n)*nowhere'):
        call_with_log(log, os.listdir, '/nowhere')
    assert 'FileNotFoundError' in log.read_text()


def test_a_process_that_dies_is_a_failure(tmp_path):
    with pytest.raises(ProcessFailed, match='call failed'):
        call_with_log(tmp_path / 'call.log', os._exit, 1)


GROWTH = """
import numpy as np
from c2fdft_model.experiments.costs import peak_memory, reset_peak_memory, resident_memory
before = np.ones(64 * 2**20, np.uint8)
del before
reset_peak_memory('cpu')
start = resident_memory()
block = np.ones(64 * 2**20, np.uint8)
print((peak_memory('cpu') - start) / block.nbytes)
"""


def test_the_peak_is_that_since_the_reset(project_root):
    # In a process of its own: this one may keep freed memory, which is then used again.
    environment = {**os.environ, 'PYTHONPATH': str(project_root)}
    command = [sys.executable, '-c', GROWTH]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert 0.9 <= float(done.stdout) < 1.5


def test_a_missing_or_broken_json_file_is_none(tmp_path):
    path = tmp_path / 'folder' / 'a.json'
    assert read_json(path) is None
    write_json(path, {'a': 1})
    assert read_json(path) == {'a': 1}
    path.write_text('{"a": ')
    assert read_json(path) is None


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest({'a': 1, 'b': 2}) == digest({'b': 2, 'a': 1}) != digest({'a': 1, 'b': 3})


def test_means_are_taken_entry_by_entry():
    assert means([{'psnr': 20.0, 'ssim': 0.5}, {'psnr': 30.0, 'ssim': 1.0}]) == {
        'psnr': 25.0,
        'ssim': 0.75,
    }


def test_a_table_aligns_the_columns_that_are_named():
    assert markdown_table(('a', 'b'), [('1', '2')], right_aligned=('b',)) == [
        '| a | b |',
        '|---|---:|',
        '| 1 | 2 |',
    ]
