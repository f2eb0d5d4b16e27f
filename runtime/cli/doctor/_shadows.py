"""Whether somebody else's `runtime`, `bus` or `sinks` stands in front of ours.

Python takes the first match on `sys.path`, which begins with the folder of the script (or, for
notebooks, `python -m` and `python -c`, with the current folder), then `PYTHONPATH`, and only then
the installed packages. The console script's own path begins elsewhere, so that the doctor still
works where a training script would not; it asks Python's finder what such a script would get.
"""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Final

from runtime.cli.doctor._finding import Finding

PACKAGES: Final = ("runtime", "bus", "sinks")
OUR_ROOT: Final = Path(__file__).resolve().parents[3]
"""The folder that holds our three packages, wherever they are installed."""


@dataclass(frozen=True)
class Place:
    """A folder that comes before the installed packages for some way of starting Python."""

    folder: Path
    users: str


def check_shadows(scripts: Sequence[Path]) -> list[Finding]:
    """Looks at the current folder, the folders of scripts, `PYTHONPATH`, and what we got ourselves.

    Args:
        scripts: Folders (or scripts in them) that training programs are started from.
    """
    findings = [
        finding
        for place in _places(scripts)
        for name in PACKAGES
        if (finding := check_place(place, name)) is not None
    ]
    findings += [finding for name in PACKAGES if (finding := check_ours(name)) is not None]
    findings += check_owners(metadata.packages_distributions())
    if findings:
        return findings
    return [Finding(check="shadowing", level="ok", found=f"{', '.join(PACKAGES)} are ours")]


def check_place(place: Place, name: str) -> Finding | None:
    """What a program started there gets for `import name`, unless it is ours or nothing."""
    spec = PathFinder.find_spec(name, [str(place.folder)])
    if spec is None or is_ours(spec, name):
        return None
    if spec.origin is None:
        folder = place.folder / name
        if not _has_python(folder):
            return None
        return Finding(
            check="shadowing",
            level="warn",
            found=f"{folder}/ does not shadow our `{name}` only because it has no __init__.py",
            advice="rename it before somebody adds one",
        )
    return Finding(
        check="shadowing",
        level="problem",
        found=f"{spec.origin} shadows our package `{name}` for {place.users}",
        advice=_mend(Path(spec.origin), name),
    )


def check_ours(name: str) -> Finding | None:
    """Whether this very process gets a package from somewhere else than beside this file."""
    spec = importlib.util.find_spec(name)
    if spec is not None and is_ours(spec, name):
        return None
    got = "nothing" if spec is None else spec.origin or "a folder without __init__.py"
    return Finding(
        check="shadowing",
        level="problem",
        found=f"`import {name}` finds {got} instead of {OUR_ROOT / name}",
        advice="look at PYTHONPATH and .pth files, or reinstall: "
        "pip install --force-reinstall --no-deps hotloop",
    )


def check_owners(owners: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Whether another installed distribution brings a package of the same name.

    Args:
        owners: Distributions by top-level package, as `packages_distributions` gives them.
    """
    return [
        Finding(
            check="shadowing",
            level="problem",
            found=f"{', '.join(others)} also installs a package `{name}`, over or under ours",
            advice=f"pip uninstall {' '.join(others)}, then "
            "pip install --force-reinstall --no-deps hotloop",
        )
        for name in PACKAGES
        if (others := sorted(set(owners.get(name, ())) - {"hotloop"}))
    ]


def is_ours(spec: ModuleSpec, name: str) -> bool:
    """Whether a module that was found is the package beside this file."""
    if spec.origin is None:
        folders = spec.submodule_search_locations or ()
        return any(Path(folder).resolve() == OUR_ROOT / name for folder in folders)
    return Path(spec.origin).resolve().parent == OUR_ROOT / name


def _places(scripts: Sequence[Path]) -> list[Place]:
    current = Path.cwd()
    here = "scripts in this folder, notebooks, `python -m` and `python -c` started here"
    places = {current.resolve(): Place(current, here)}
    for script in scripts:
        folder = script.parent if script.is_file() else script
        places.setdefault(folder.resolve(), Place(folder, f"scripts in {folder}"))
    for entry in filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        everybody = "every Python program (the folder is on PYTHONPATH)"
        places.setdefault(Path(entry).resolve(), Place(Path(entry), everybody))
    return list(places.values())


def _has_python(folder: Path) -> bool:
    return any(folder.glob("*.py"))


def _mend(origin: Path, name: str) -> str:
    yours = origin.parent if origin.stem == "__init__" else origin
    renamed = yours.with_name(f"my_{yours.name}")
    return (
        f"rename it (mv {yours} {renamed}) and its imports; until then `import {name}` there "
        f"fails with \"module '{name}' has no attribute ...\" or the like"
    )
