"""`log_metrics` and `save_metrics`, for what `train`, `evaluate` and `predict` have returned."""

import json
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from runtime._trainer_base import TrainerBase

ALL_RESULTS: Final = "all_results.json"
"""Where `save_metrics` puts the metrics of all splits together."""

_GIGA: Final = 1 << 30
_MEGA: Final = 1 << 20


class MetricFiles(TrainerBase):
    """The methods that show and keep metrics once a training or an evaluation is over."""

    def metrics_format(self, metrics: Mapping[str, float]) -> dict[str, float | str]:
        """Metrics as people read them.

        Seconds of a `..._runtime` become hours, minutes and seconds, bytes of a `..._mem_...`
        units of 2**20, `total_flos` units of 2**30; other fractions have four places.
        """
        return {name: _readable(name, value) for name, value in metrics.items()}

    def log_metrics(self, split: str, metrics: Mapping[str, float]) -> None:
        """Print metrics as a table, by name.

        Args:
            split: What they are of, such as "train" or "eval"; the table's head.
            metrics: What `train`, `evaluate` or `predict` returned.
        """
        if not self.state.is_world_process_zero:
            return
        shown = {name: str(value) for name, value in sorted(self.metrics_format(metrics).items())}
        left = max(map(len, shown), default=0)
        right = max(map(len, shown.values()), default=0)
        lines = [f"  {name:<{left}} = {value:>{right}}\n" for name, value in shown.items()]
        sys.stdout.write("".join([f"***** {split} metrics *****\n", *lines]))

    def save_metrics(self, split: str, metrics: Mapping[str, float], combined: bool = True) -> None:
        """Write metrics to `<split>_results.json` in `output_dir`, unrounded.

        Args:
            split: What they are of, such as "train" or "eval".
            metrics: What `train`, `evaluate` or `predict` returned.
            combined: Whether to put them into `all_results.json` too, beside what is there.
        """
        if not self.state.is_world_process_zero:
            return
        self.output_dir.mkdir(parents=True, exist_ok=True)
        _write(self.output_dir / f"{split}_results.json", metrics)
        if combined:
            path = self.output_dir / ALL_RESULTS
            known: dict[str, float] = {}
            if path.exists():
                known = json.loads(path.read_text(encoding="utf-8"))
            _write(path, known | dict(metrics))


def _readable(name: str, value: float) -> float | str:
    if "_mem_" in name:
        return f"{int(value) // _MEGA}MB"
    if "_runtime" in name:
        hundredths = int(value * 100)
        return f"{timedelta(seconds=hundredths // 100)}.{hundredths % 100:02d}"
    if name == "total_flos":
        return f"{int(value) // _GIGA}GF"
    return round(value, 4) if isinstance(value, float) else value  # counts are whole


def _write(path: Path, metrics: Mapping[str, float]) -> None:
    text = json.dumps(dict(metrics), indent=4, sort_keys=True)
    path.write_text(text, encoding="utf-8")
