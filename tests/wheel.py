"""Installs the built wheel into a fresh environment and uses it from an empty folder.

A flat layout lets the source tree shadow the packages, so nothing here may run inside the tree.
Run as `python tests/wheel.py dist`; prints what it did and exits with 1 at the first failure.
"""

import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MUST_HOLD = (
    "bus/py.typed",
    "runtime/py.typed",
    "sinks/py.typed",
    "runtime/report/assets/report.html",
    "runtime/report/assets/uPlot.LICENSE",
)
PROGRAM = """
import pathlib
import bus, runtime, sinks
for package in (bus, runtime, sinks):
    home = pathlib.Path(package.__file__)
    assert "site-packages" in home.parts, f"{package.__name__} comes from {home}"
with runtime.Run(name="wheel") as run:
    run.log({"loss": 0.5}, step=1)
from bus.testing import JournalAsserter
JournalAsserter(run.dir).complete().ends("finished").has(bus.MetricsLogged, step=1)
"""


def main(dist: Path) -> None:
    """Check the wheel's contents, install it, and use it."""
    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    missing = [name for name in MUST_HOLD if name not in names]
    stray = [name for name in names if name.split("/")[0] in {"tests", "benchmarks", "examples"}]
    if missing or stray:
        sys.exit(f"{wheel.name}: missing {missing}, stray {stray}")
    with tempfile.TemporaryDirectory() as folder:
        home, empty = Path(folder, "venv"), Path(folder, "empty")
        empty.mkdir()
        venv.create(home, with_pip=True)
        python = str(home / "bin/python")
        torch = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
        run([python, "-m", "pip", "install", "--quiet", *torch], empty)
        run([python, "-m", "pip", "install", "--quiet", str(wheel.resolve())], empty)
        run([python, "-c", PROGRAM], empty)
        hotloop = str(home / "bin/hotloop")
        run([hotloop, "--version"], empty)
        run([hotloop, "status", "wheel"], empty)
        run([hotloop, "demo", "--quick", "--no-progress"], empty)
        run([hotloop, "doctor"], empty)
    print("the installed wheel works from an empty folder")  # noqa: T201 - a script


def run(command: list[str], folder: Path) -> None:
    """Run a command in a folder; a failure ends the script with what it printed."""
    done = subprocess.run(  # noqa: S603 - commands of this script
        command, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{command} failed with {done.returncode}:\n{done.stdout}\n{done.stderr}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
