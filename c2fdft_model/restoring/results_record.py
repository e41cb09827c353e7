"""Which weights and settings made each result: a line for each in a file beside the results."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from c2fdft_arch import __version__
from c2fdft_arch.common.atomic_write import open_to_append
from c2fdft_model.restoring.checkpoint import file_digest
from c2fdft_model.restoring.description import differences
from c2fdft_model.restoring.restore_jobs import RestoreJob

RECORD_FILE = 'restored_with.jsonl'
SHOWN_DIGITS = 12

Settings = Mapping[str, Any]


@dataclass
class ResultsRecord:
    """What results were made with, by their place in a folder; settings of what is made now.

    `settings` are plain data: whatever changes a result, but the quality of a lossy file. A later
    line about a result goes before an earlier one; one that was cut by a kill does not count.
    """

    settings: Settings
    _folders: dict[Path, dict[str, Settings]] = field(default_factory=dict)

    def made_otherwise(self, jobs: Iterable[RestoreJob]) -> list[str]:
        """Of results that exist, how each of those that this run would not make so was made."""
        found = []
        for job in jobs:
            before = self._of(job)
            if before is None or not job.target.exists():
                continue
            changes = list(differences(before, self._settings(job)))
            if changes:
                texts = ', '.join(f'{p} {_shown(a)}, now {_shown(b)}' for p, a, b in changes[:2])
                found.append(f'{job.target}: {texts}')
        return found

    def unknown(self, jobs: Iterable[RestoreJob]) -> int:
        """How many results exist of which nothing says what made them."""
        return sum(job.target.exists() and self._of(job) is None for job in jobs)

    def add(self, job: RestoreJob) -> None:
        """Note a result that has just been written. Raises OSError."""
        folder, name = _place(job)
        settings = self._settings(job)
        append_record(folder, name, settings)
        if folder in self._folders:
            self._folders[folder][name] = settings

    def _of(self, job: RestoreJob) -> Settings | None:
        folder, name = _place(job)
        if folder not in self._folders:
            self._folders[folder] = read_record(folder)
        return self._folders[folder].get(name)

    def _settings(self, job: RestoreJob) -> dict[str, Any]:
        """The settings, and which image was restored."""
        return {**self.settings, 'source': file_digest(job.source)}


def append_record(folder: Path, name: str, settings: Settings) -> None:
    """Add the line of a result to the record of its folder. Raises OSError."""
    line = json.dumps({'result': name, 'c2fdft': __version__, 'settings': settings})
    with open_to_append(folder / RECORD_FILE) as file:
        file.write(line + '\n')


def read_record(folder: Path) -> dict[str, Settings]:
    """What the results of a folder were made with, by their names; empty without a record."""
    try:
        lines = (folder / RECORD_FILE).read_text(encoding='utf-8', errors='replace').splitlines()
    except OSError:
        return {}
    found: dict[str, Settings] = {}
    for line in lines:
        try:
            entry = json.loads(line)
            found[entry['result']] = dict(entry['settings'])
        except (ValueError, KeyError, TypeError):
            continue  # cut, or not ours
    return found


def origins(folder: Path) -> list[str]:
    """A sentence on what made the results of a folder; several if they do not agree."""
    texts = []
    for settings in read_record(folder).values():
        weights = str(settings.get('weights', 'unknown weights'))
        steps = (settings.get('diffusion') or {}).get('sampling_timesteps')
        texts.append(f'made with weights {_shown(weights)}, sampling_timesteps {steps}')
    counts = {text: texts.count(text) for text in dict.fromkeys(texts)}
    if len(counts) < 2:
        return list(counts)
    return [f'{count} {text}' for text, count in counts.items()]


def _place(job: RestoreJob) -> tuple[Path, str]:
    """The folder of the results, and the result's place in it."""
    folder = job.target.parents[len(job.relative.parts) - 1]
    return folder, job.target.relative_to(folder).as_posix()


def _shown(value: Any) -> str:
    text = str(value)
    is_digest = len(text) == 64 and set(text) <= set('0123456789abcdef')
    return f'sha256 {text[:SHOWN_DIGITS]}…' if is_digest else text
