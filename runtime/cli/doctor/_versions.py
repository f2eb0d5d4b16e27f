"""Which Python and which packages are in use, and whether they are new enough."""

import sys
from importlib import metadata
from pathlib import Path
from typing import Final

from runtime.cli._version import DISTRIBUTION, installed_version
from runtime.cli.doctor._finding import Finding

MINIMUM_PYTHON: Final = (3, 11)
MINIMUMS: Final = {
    "torch": (2, 6),
    "pydantic": (2, 11),
    "orjson": (3, 10),
    "anyio": (4, 11),
}
"""The floors of pyproject.toml, for the packages whose behaviour we depend on most."""


def check_versions() -> list[Finding]:
    """Python, this distribution, and the packages it stands on."""
    python = check_python(sys.version_info[:3])
    packages = [check_package(name, floor) for name, floor in MINIMUMS.items()]
    return [python, _ourselves(), *packages]


def check_python(version: tuple[int, ...]) -> Finding:
    """Whether this interpreter is one we support."""
    found = f"{_dotted(version)} at {sys.executable}"
    if version >= MINIMUM_PYTHON:
        return Finding(check="python", level="ok", found=found)
    advice = f"create the environment with Python {_dotted(MINIMUM_PYTHON)} or newer"
    return Finding(check="python", level="problem", found=found, advice=advice)


def check_package(name: str, floor: tuple[int, ...]) -> Finding:
    """Whether a package is installed and not older than its floor."""
    wanted = f'pip install "{name}>={_dotted(floor)}"'
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(check=name, level="problem", found="not installed", advice=wanted)
    if release(version) < floor:
        found = f"{version}, older than {_dotted(floor)}"
        return Finding(check=name, level="problem", found=found, advice=wanted)
    return Finding(check=name, level="ok", found=version)


def release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: `2.13.0+cpu` is (2, 13, 0), `2.6rc1` is (2, 6)."""
    numbers: list[int] = []
    for part in version.partition("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)


def _ourselves() -> Finding:
    version = installed_version()
    if version is not None:
        return Finding(check=DISTRIBUTION, level="ok", found=version)
    root = Path(__file__).resolve().parents[3]
    return Finding(check=DISTRIBUTION, level="ok", found=f"not installed, run from {root}")


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
