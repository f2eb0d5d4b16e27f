# ruff: noqa: D301 - "\b" is the character by which the help keeps a paragraph's lines
# ruff: noqa: PLC0415 - a command imports what it needs when it runs: `hotloop --help` needs nothing
"""The command about checkpoints on disk, as the command line sees it."""

from pathlib import Path
from typing import Annotated

import typer

from runtime.cli._exit import CommandError, UsageError, ends_cleanly


@ends_cleanly
def consolidate(
    checkpoint: Annotated[Path, typer.Argument(help="Folder such as out/checkpoint-500.")],
    folder: Annotated[Path, typer.Argument(help="Where to write the model.", file_okay=False)],
) -> None:
    """Make one model of a checkpoint whose weights are in shards.

    What comes out is what save_model() writes: model.safetensors, in several files with an index
    from 5 GB on, beside the configuration and the tokenizer. The checkpoint is verified first.
    Needs neither a GPU nor as many processes as trained, and no more memory than one file.

    \b
    Examples:
      hotloop consolidate out/checkpoint-500 model

    \b
    Exit codes:
      0   the model is written
      1   the checkpoint is damaged, or the disk refused
      2   there is no checkpoint, or the folder is the checkpoint itself
    """
    from runtime._checkpoint_errors import CheckpointError, CheckpointNotFoundError
    from runtime._consolidation import consolidate as write

    try:
        files = write(checkpoint, folder)
    except (CheckpointError, OSError) as error:
        kind = UsageError if isinstance(error, CheckpointNotFoundError) else CommandError
        raise kind(str(error)) from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    for file in files:
        typer.echo(str(file))
