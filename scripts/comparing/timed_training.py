"""BasicSR's training of one option file with the time of every iteration.

python -m comparing.timed_training OPTIONS.yml TIMES.json
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from c2fdft_model.plugin import autoload


class IterationClock:
    """Times the iterations of a model, from the end of one to the end of the next."""

    def __init__(self) -> None:
        self.started: float | None = None
        self.last = 0.0
        self.by_size: dict[str, list[float]] = defaultdict(list)

    def watch(self, model: Any) -> Any:
        """Let the model's own `optimize_parameters` tell the time."""
        update, optimize = model.update_learning_rate, model.optimize_parameters

        def timed_update(*arguments: Any, **settings: Any) -> None:
            if self.started is None:
                self.started = self.last = time.monotonic()
            update(*arguments, **settings)

        def timed_optimize(*arguments: Any) -> None:
            optimize(*arguments)
            now = time.monotonic()
            self.by_size[str(model.gt.shape[-1])].append(now - self.last)
            self.last = now

        model.update_learning_rate = timed_update
        model.optimize_parameters = timed_optimize
        return model

    def result(self) -> dict[str, Any]:
        """Seconds of the whole training and of each iteration by patch size."""
        return {'seconds': self.last - (self.started or self.last), 'by_size': self.by_size}


def main(options: str, times: str) -> None:
    """Train in the current folder and write the times."""
    autoload.install()
    import basicsr.train as training

    clock = IterationClock()
    build_model = training.build_model
    training.build_model = lambda opt: clock.watch(build_model(opt))
    sys.argv = ['train', '-opt', options]
    training.train_pipeline(os.getcwd())
    Path(times).write_text(json.dumps(clock.result()))


if __name__ == '__main__':
    main(*sys.argv[1:])
