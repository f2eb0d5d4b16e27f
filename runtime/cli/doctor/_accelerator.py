"""What torch sees, asked in a process of its own so that the doctor does not load torch."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import orjson
from pydantic import BaseModel, ValidationError

from runtime.cli.doctor._finding import Finding

_DEADLINE: Final = 120.0
_QUESTION: Final = """
import json, torch
seen = torch.cuda.is_available()
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if seen else []
print(json.dumps({"version": torch.__version__, "built_for": torch.version.cuda, "devices": names}))
"""


class Answer(BaseModel):
    """What the other process said.

    Attributes:
        version: Of torch.
        built_for: The CUDA version torch was built for, None for a CPU build.
        devices: Names of the CUDA devices it can use.
    """

    version: str
    built_for: str | None
    devices: list[str]


def check_accelerator() -> Finding:
    """Whether torch loads, and whether it can use a GPU that this machine seems to have."""
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and our own program
            [sys.executable, "-P", "-c", _QUESTION],
            capture_output=True,
            check=False,
            timeout=_DEADLINE,
        )
    except subprocess.TimeoutExpired:
        return Finding(
            check="accelerator",
            level="problem",
            found=f"torch did not answer within {_DEADLINE:.0f} s",
            advice="a hanging driver or a slow disk: try `nvidia-smi`, then `import torch` by hand",
        )
    if done.returncode:
        return _torch_failed(done.stderr.decode(errors="replace"))
    try:
        answer = Answer.model_validate(orjson.loads(done.stdout.splitlines()[-1]))
    except (IndexError, orjson.JSONDecodeError, ValidationError):
        return _torch_failed(done.stdout.decode(errors="replace"))
    return judge(answer, gpu_present=_gpu_present(), hidden=os.environ.get("CUDA_VISIBLE_DEVICES"))


def judge(answer: Answer, *, gpu_present: bool, hidden: str | None) -> Finding:
    """Compares what torch can use with what the machine has.

    Args:
        answer: What torch says.
        gpu_present: Whether the kernel shows an NVIDIA device.
        hidden: The environment's CUDA_VISIBLE_DEVICES, None when unset.
    """
    built = f"CUDA {answer.built_for}" if answer.built_for else "CPU only"
    torch = f"torch {answer.version} ({built})"
    if answer.devices:
        names = ", ".join(sorted(set(answer.devices)))
        found = f"{torch} sees {len(answer.devices)} CUDA device(s): {names}"
        return Finding(check="accelerator", level="ok", found=found)
    found = f"{torch} sees no CUDA device"
    if not gpu_present:
        return Finding(check="accelerator", level="ok", found=f"{found}; this machine shows none")
    return Finding(
        check="accelerator",
        level="warn",
        found=f"{found}, but this machine has one",
        advice=_gpu_advice(answer, hidden),
    )


def _gpu_advice(answer: Answer, hidden: str | None) -> str:
    if answer.built_for is None:
        return "this is torch's CPU build: install the CUDA build from pytorch.org"
    if hidden is not None:
        return f"CUDA_VISIBLE_DEVICES={hidden!r} may hide it"
    return f"the driver may be too old for CUDA {answer.built_for}: compare with `nvidia-smi`"


def _torch_failed(words: str) -> Finding:
    last = next((line for line in reversed(words.splitlines()) if line.strip()), "no message")
    return Finding(
        check="accelerator",
        level="problem",
        found=f"torch does not load: {last.strip()}",
        advice="reinstall it (pip install --force-reinstall torch); "
        "looking at runs works without it, training does not",
    )


def _gpu_present() -> bool:
    return Path("/dev/nvidia0").exists() or Path("/proc/driver/nvidia/version").exists()
