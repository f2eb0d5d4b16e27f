"""Asks the launcher to start a preempted job again, where it has to be asked."""

import logging
import os
import shutil
import subprocess
from collections.abc import Mapping

from runtime._world import World

log = logging.getLogger("runtime")


def request_requeue(seconds: float, environment: Mapping[str, str] = os.environ) -> bool:
    """Put this SLURM job back into the queue; tell whether SLURM agreed.

    Any other launcher is asked by how the process ends: torchrun restarts workers that end with
    anything but 0, and so do most. Of many processes the first one asks. SLURM ends the job as soon
    as it agrees (slurm.schedmd.com/scontrol.html, `requeue`).

    Args:
        seconds: How long SLURM may take to answer.
        environment: Where SLURM_JOB_ID is.
    """
    job, scontrol = environment.get("SLURM_JOB_ID"), shutil.which("scontrol")
    if not job or World.here(environment).rank != 0:
        return False
    if scontrol is None:
        log.warning("job %s is not requeued: there is no scontrol in PATH", job)
        return False
    command = [scontrol, "requeue", job]
    try:
        done = subprocess.run(  # noqa: S603 - SLURM's own command, and no shell
            command, capture_output=True, text=True, timeout=seconds, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("job %s is not requeued: %s", job, error)
        return False
    if done.returncode:
        words = done.stderr.strip() or f"exit code {done.returncode}"
        log.warning("job %s is not requeued: scontrol says %s", job, words)
        return False
    log.warning("job %s is requeued", job)
    return True
