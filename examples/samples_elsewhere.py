"""Makes a sample with each checkpoint in another process, so that the GPU's loop goes on.

The text comes back as an event, which sinks with texts (TensorBoard, W&B, ...) show.

    python examples/samples_elsewhere.py
"""

import sys
from pathlib import Path

import anyio
import torch
from small_loop import train

import runtime
from bus import ArtifactReady, Control, Evaluated, EventStream, Save, TextLogged


def sample_elsewhere(run: runtime.Run, script: Path) -> None:
    """After each evaluation run `script --sample CHECKPOINT` and publish what it prints.

    If evaluations come faster than samples, those in between are left out.
    """

    @run.on(Evaluated)
    async def ask_for_a_checkpoint(_event: Evaluated, control: Control) -> None:
        control.request(Save(reason="to make a sample with"))

    @run.subscribe(ArtifactReady, when=lambda event: event.kind == "checkpoint", overflow="latest")
    async def sampler(events: EventStream[ArtifactReady]) -> None:
        async for event in events:
            command = [sys.executable, str(script), "--sample", event.path]
            done = await anyio.run_process(command, check=False)
            if done.returncode:
                run.message(f"no sample of {event.name}: {done.stderr.decode()}", level="warning")
            else:
                run.publish(TextLogged(key="sample", text=done.stdout.decode(), step=event.step))


def sample(checkpoint: Path) -> str:
    """What the model of the small loop says that 1 + 2 + ... + 8 is."""
    weight = torch.load(checkpoint, weights_only=True)["weight"]
    return f"1 + 2 + ... + 8 = {float(weight @ torch.arange(1.0, 9.0)):.2f}"


def main() -> None:
    """Train for 300 steps with two evaluations; closing leaves the last sample its time."""
    with runtime.Run(name="samples_elsewhere", close_timeout=180) as run:
        sample_elsewhere(run, Path(__file__))

        @run.on(TextLogged)
        async def show(event: TextLogged) -> None:
            print(f"step {event.step}: {event.text.strip()}")

        train(run, evaluate_each=150)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--sample"]:
        print(sample(Path(sys.argv[2])))
    else:
        main()
