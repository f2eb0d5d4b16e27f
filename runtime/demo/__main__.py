"""`python -m runtime.demo`: the demo without the `hotloop` command."""

from pathlib import Path
from typing import Annotated

import typer

from runtime.demo import DemoError, DemoOptions, run_demo


def main(
    *,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps in all.")] = None,
    dir: Annotated[Path, typer.Option(help="The folder of runs.")] = Path("runs"),  # noqa: A002 - as in Run
    name: Annotated[str, typer.Option(help="The run's name.")] = "demo",
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything random.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest one.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A toy, in seconds.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest run's last checkpoint.")
    ] = False,
    crash_at: Annotated[
        int | None, typer.Option(min=1, help="Kill the process before this step.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where to train, as torch names it.")] = "cpu",
    progress: Annotated[bool, typer.Option(help="Show the run while it trains.")] = True,
) -> None:
    """Train a small language model on the text of Python's own help, and watch it."""
    options = DemoOptions(
        dir=dir,
        name=name,
        steps=steps,
        seed=seed,
        learning_rate=learning_rate,
        quick=quick,
        resume=resume,
        crash_at=crash_at,
        device=device,
        progress=progress,
    )
    try:
        run_demo(options)
    except (DemoError, ValueError) as error:
        typer.echo(f"demo: {error}", err=True)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    typer.run(main)
