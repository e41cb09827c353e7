"""What the page shows, and what happens when its button is pressed. Needs gradio."""

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from c2fdft_arch.common.messages import shortened
from c2fdft_model.web.page_model import PageError, PageModel, restore_upload

MOST_CALLS = 50
WAITING = 16
"""Restorations that may wait for the one that runs."""
KEPT = 4
"""Results beside gradio's copies of them."""

ABOUT = """# C2F-DFT
Drop a photograph and press **Restore**. The download has the size and the format of the upload, and
its metadata."""


@dataclass(frozen=True)
class Limits:
    """What one upload may be."""

    megabytes: int = 100
    megapixels: int = 50


class Restoration:
    """Called by the button with what the page holds; gives what it then shows."""

    def __init__(self, models: Sequence[PageModel], folder: Path, limits: Limits) -> None:
        self.models = {model.name: model for model in models}
        self.folder = folder
        self.limits = limits

    def __call__(
        self,
        upload: str | None,
        name: str,
        calls: float,
        seed: float,
        progress: Any = gr.Progress(),  # noqa: B008  (this is how gradio hands it in)
    ) -> tuple[Any, str, str]:
        """((before, after), restored file, what to say of it); gradio.Error says what is wrong."""
        if upload is None:
            raise gr.Error('Drop a photograph first.', print_exception=False)
        made, total = 0, int(calls)

        def step() -> None:
            nonlocal made
            made += 1
            progress((made, total), desc=f'network call {made} of {total}', unit='calls')

        progress((0, total), desc='starting', unit='calls')
        target = self._new_folder()
        started = time.perf_counter()
        restorer = self.models[name].restorer(total, int(seed))
        try:
            done = restore_upload(Path(upload), target, restorer, step, self.limits.megapixels)
        except PageError as error:
            raise gr.Error(str(error), print_exception=False) from error
        said = f'{total} calls of {name}, {time.perf_counter() - started:.1f} s'
        if done.lost:
            said += f'; the file is without {shortened(list(done.lost), shown=5)}'
        return (done.before, done.after), str(done.file), said

    def _new_folder(self) -> Path:
        """An empty folder for a result; gradio has copied all but the newest ones by now."""
        for old in sorted(self.folder.glob('result-*'), key=os.path.getmtime)[:-KEPT]:
            shutil.rmtree(old)
        return Path(tempfile.mkdtemp(prefix='result-', dir=self.folder))


def build_page(
    models: Sequence[PageModel], folder: Path, examples: Sequence[Path], limits: Limits
) -> gr.Blocks:
    """The page; uploads wait for each other, restored files go into folders below `folder`."""
    with gr.Blocks(title='C2F-DFT', analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.Markdown(ABOUT)
        with gr.Row():
            with gr.Column(scale=1):
                inputs = _inputs(models, limits)
                button = gr.Button('Restore', variant='primary', elem_id='restore')
                if examples:
                    gr.Examples([[str(path)] for path in examples], inputs[:1], label='Examples')
            with gr.Column(scale=2):
                slider = gr.ImageSlider(
                    label='Before and after', interactive=False, buttons=['fullscreen'],
                    format='png', elem_id='slider',
                )  # fmt: skip
                result = gr.File(label='Restored file', interactive=False, elem_id='result')
                said = gr.Markdown(elem_id='said')
        button.click(
            Restoration(models, folder, limits),
            inputs,
            [slider, result, said],
            concurrency_limit=1,
            api_visibility='private',
        )
    return page.queue(default_concurrency_limit=1, max_size=WAITING)


def _inputs(models: Sequence[PageModel], limits: Limits) -> list[gr.components.Component]:
    """What `Restoration` takes: the upload, the model's name, the calls and the seed."""
    label = f'Photograph (at most {limits.megabytes} MB, {limits.megapixels} megapixels)'
    upload = gr.File(label=label, elem_id='upload')
    names = [model.name for model in models]
    name = gr.Dropdown(names, value=names[0], label='Model', elem_id='model')
    calls = gr.Slider(
        1, MOST_CALLS, models[0].calls, step=1, label='Network calls', elem_id='calls',
        info='More take longer. At first as many as the model was trained for.',
    )  # fmt: skip
    seed = gr.Number(
        0, precision=0, minimum=0, label='Seed', elem_id='seed',
        info='Of the noise, with the file name: the same gives the same result.',
    )  # fmt: skip
    by_name = {model.name: model.calls for model in models}
    name.change(by_name.get, name, calls, api_visibility='private')
    return [upload, name, calls, seed]


def theme() -> gr.themes.Base:
    """Gradio's default with the fonts of the machine: none is fetched."""
    return gr.themes.Default(
        font=['system-ui', 'sans-serif'], font_mono=['ui-monospace', 'monospace']
    )
