"""Uploads the best checkpoint by HTTP, beside the training, whenever a better one is there.

BEST_MODEL_URL=https://models.example.org/best.pt python examples/best_model_uploader.py
"""

import os
from pathlib import Path

import anyio
import httpx
from small_loop import train

import runtime
from bus import ArtifactReady, Control, Evaluated, Event, EventStream, Save


def upload_the_best(run: runtime.Run, url: str, *, metric: str = "eval_loss") -> None:
    """Ask for a checkpoint after each evaluation that is the best so far, and PUT it to `url`.

    An upload that fails is tried three times, then said in the run's messages; the next best
    checkpoint is uploaded all the same.
    """

    @run.subscribe(Evaluated, ArtifactReady, buffer=100)
    async def uploader(events: EventStream[Event], control: Control) -> None:
        best = float("inf")
        wanted = False
        async with httpx.AsyncClient(timeout=60) as client:
            async for event in events:
                if isinstance(event, ArtifactReady):
                    if wanted and event.kind == "checkpoint":
                        wanted = False
                        await _put(client, url, Path(event.path), run)
                elif isinstance(event, Evaluated) and event.metrics[metric] < best:
                    best, wanted = event.metrics[metric], True
                    control.request(Save(reason=f"best so far: {metric} {best:.3g}"))


async def _put(client: httpx.AsyncClient, url: str, path: Path, run: runtime.Run) -> None:
    content = await anyio.Path(path).read_bytes()
    for pause in (1, 5, None):
        try:
            answer = await client.put(url, content=content)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            if pause is None:
                run.message(f"{path.name} was not uploaded: {error}", level="warning")
            else:
                await anyio.sleep(pause)
        else:
            run.message(f"{path.name} is uploaded")
            return


def main() -> None:
    """Train for 300 steps and upload each better model."""
    with runtime.Run(name="best_model_uploader") as run:
        upload_the_best(run, os.environ["BEST_MODEL_URL"])
        train(run)


if __name__ == "__main__":
    main()
