"""The command lines and examples of README and docs/ against the programs and the code."""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import sys

import pytest
import yaml

from c2fdft_model.__main__ import COMMANDS as C2FDFT_COMMANDS
from helpers.documents import CODE_SPAN, DOCUMENTS, EVERY_DOCUMENT, FENCED, ROOT, code_blocks

# BasicSR's own programs, which take the same arguments as these.
BASICSR_PROGRAMS = {'basicsr/train.py': 'scripts/train.py', 'basicsr/test.py': 'scripts/test.py'}


def commands_in(text: str) -> list[str]:
    """The command lines of a document: lines of its code blocks, and spans of code."""
    lines = ''.join(code_blocks(text, '', 'sh')).replace('\\\n', ' ').splitlines()
    spans = CODE_SPAN.findall(FENCED.sub('', text))
    return [
        line for line in lines + spans if re.match(r'(c2fdft|python|torchrun|srun|bash) ', line)
    ]


COMMANDS = sorted({command for text in DOCUMENTS.values() for command in commands_in(text)})


class Accepted(Exception):
    """A command line has been parsed."""


@pytest.fixture
def parse(monkeypatch):
    """Runs a Python program up to the point where its command line has been parsed."""
    parse_known_args = argparse.ArgumentParser.parse_known_args

    def run(program: str, arguments: list[str]) -> None:
        # The first parser of benchmark.py finds the benchmark, which has a parser of its own.
        left = 2 if program == 'scripts/benchmark.py' else 1

        def accept() -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Accepted

        def parse_known(parser, args=None, namespace=None):
            found = parse_known_args(parser, args, namespace)
            accept()
            return found

        def parse_all(parser, args=None, namespace=None):
            found, unknown = parse_known_args(parser, args, namespace)
            if unknown:
                parser.error(f'unrecognized arguments: {" ".join(unknown)}')
            accept()
            return found

        monkeypatch.setattr(argparse.ArgumentParser, 'parse_known_args', parse_known)
        monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse_all)
        monkeypatch.setattr(sys, 'argv', [program, *arguments])
        monkeypatch.setattr(sys, 'path', [str(ROOT / 'scripts'), *sys.path])
        monkeypatch.chdir(ROOT)
        with pytest.raises(Accepted):
            runpy.run_path(program, run_name='__main__')

    return run


def test_there_are_commands():
    assert len(COMMANDS) > 40


@pytest.mark.parametrize('command', COMMANDS)
def test_every_command_line_is_accepted(command, parse):
    words = shlex.split(command, comments=True)
    if words[0] == 'bash':
        assert (ROOT / words[1]).is_file()
        return
    if words[:3] == ['python', '-m', 'c2fdft_arch']:
        parse('c2fdft_arch/__main__.py', words[3:])
        return
    if words[0] == 'c2fdft':
        if len(words) == 2:  # a command that is only named
            assert words[1] in C2FDFT_COMMANDS
        else:
            parse('c2fdft_model/__main__.py', words[1:])
        return
    if words[0] == 'torchrun' and 'c2fdft_model' in words:
        parse('c2fdft_model/__main__.py', words[words.index('c2fdft_model') + 1 :])
    if words[0] == 'torchrun':
        from torch.distributed.run import get_args_parser

        get_args_parser().parse_args(words[1:])
    place = next((k for k, word in enumerate(words) if word.endswith('.py')), None)
    if place is not None:
        program = BASICSR_PROGRAMS.get(words[place], words[place])
        parse(program, words[place + 1 :])


@EVERY_DOCUMENT
def test_yaml_examples_are_yaml(name):
    for body in code_blocks(DOCUMENTS[name], 'yaml'):
        assert isinstance(yaml.safe_load(body), dict)


@pytest.mark.parametrize(
    ('program', 'name'),
    [
        ('scripts/restore.py', 'docs/restoring.md'),
        ('scripts/prepare_lmdb.py', 'docs/data.md'),
        ('scripts/prepare_dataset.py', 'docs/data.md'),
        ('scripts/evaluate.py', 'docs/measuring.md'),
    ],
)
def test_every_option_of_a_command_is_documented(program, name, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [program, '--help'])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / program), run_name='__main__')
    options = set(re.findall(r'^  (--[a-z-]+)', capsys.readouterr().out, re.MULTILINE))
    assert len(options) > 2
    assert {option for option in options if option not in DOCUMENTS[name]} == set()


@EVERY_DOCUMENT
def test_what_python_examples_import_is_there(name):
    examples = ''.join(code_blocks(DOCUMENTS[name], 'python'))
    for line in re.findall(r'^(?:from|import) .+$', examples, re.MULTILINE):
        exec(compile(line, name, 'exec'), {})
