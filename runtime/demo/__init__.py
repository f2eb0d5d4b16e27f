"""The first program to look at: a small language model trained in minutes on one core.

```
prepare      the text (_data), the model (_model), a checkpoint to go on from (_train)
train        _trainer: a `runtime.Trainer` and the demo's callbacks
  beside it  _subscribers watch and decide, a console draws
afterwards   write the report, print the summary (_summary)
```

Run it with `hotloop demo` or `python -m runtime.demo`.
"""

from runtime.demo._errors import (
    CorpusMissingError,
    DemoError,
    DeviceUnusableError,
    NothingToResumeError,
)
from runtime.demo._options import DemoOptions, Recipe
from runtime.demo._summary import DecisionTaken, DemoSummary
from runtime.demo._train import run_demo

__all__ = [
    "CorpusMissingError",
    "DecisionTaken",
    "DemoError",
    "DemoOptions",
    "DemoSummary",
    "DeviceUnusableError",
    "NothingToResumeError",
    "Recipe",
    "run_demo",
]
