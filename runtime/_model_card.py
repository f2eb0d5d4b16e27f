"""The README.md of a pushed model: its metadata, its last evaluation, how it was trained."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

NAME: Final = "README.md"
_MARK: Final = "<!-- Written by hotloop at each push. Remove this line to keep your own text. -->"
Names: TypeAlias = str | Sequence[str] | None


def model_card(
    title: str,
    *,
    metadata: Mapping[str, Names],
    dataset: Names,
    metrics: Mapping[str, object],
    settings: Mapping[str, object],
) -> str:
    """Write a card.

    Args:
        title: The model's name.
        metadata: What hubs search by; those that are None are left out.
        dataset: What it was trained on.
        metrics: The last evaluation's.
        settings: The arguments to name.
    """
    # JSON, because every JSON value is a YAML one.
    head = [f"{name}: {json.dumps(value)}" for name, value in metadata.items() if value is not None]
    parts = ["---", *head, "---", "", _MARK, "", f"# {title}", ""]
    names = [dataset] if isinstance(dataset, str) else list(dataset or ())
    if names:
        parts += [f"Trained on {', '.join(names)}.", ""]
    if metrics:
        parts += ["## Evaluation", "", *_lines(metrics), ""]
    return "\n".join([*parts, "## Training", "", *_lines(settings), ""])


def write_card(folder: Path, text: str) -> bool:
    """Write a card into a folder, unless a person has written the one that is there.

    Returns:
        Whether it was written.
    """
    path = folder / NAME
    if path.exists() and _MARK not in path.read_text(encoding="utf-8", errors="replace"):
        return False
    path.write_text(text, encoding="utf-8")
    return True


def _lines(values: Mapping[str, object]) -> list[str]:
    return [f"- {name}: {value}" for name, value in values.items()]
