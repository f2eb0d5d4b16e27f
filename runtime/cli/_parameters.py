"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

RunDir: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="RUN_DIR", help="Folder of the run. A bare name such as gpt means runs/gpt."
    ),
]
Types: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--type",
        "-t",
        metavar="NAME",
        help="Only events of this type, such as evaluated. Repeat it for several.",
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]
Out: TypeAlias = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write to this file instead.")
]
