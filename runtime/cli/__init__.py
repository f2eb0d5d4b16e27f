"""The command `hotloop`: look at a run, watch it, take its data out, check the machine.

Nothing here loads torch, except `hotloop demo`, which trains.
"""

from runtime.cli._app import main

__all__ = ["main"]
