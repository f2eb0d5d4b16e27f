"""What importing the packages loads, and which names they offer."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LOADED = """
import json, sys, time
began = time.perf_counter()
{statement}
seconds = time.perf_counter() - began
print(json.dumps([seconds, sorted(sys.modules)]))
"""


def modules_after(statement: str) -> tuple[float, set[str]]:
    """How long a statement takes in a fresh interpreter, and every module it has loaded."""
    done = subprocess.run(  # noqa: S603 - a program of this test
        [sys.executable, "-W", "error", "-c", LOADED.format(statement=statement)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    seconds, modules = json.loads(done.stdout)
    return seconds, set(modules)


def top_level(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import bus", {"torch", "numpy", "httpx", "runtime", "sinks"}),
        ("import bus.testing", {"torch", "numpy", "httpx", "runtime", "sinks", "pytest"}),
        ("import runtime", {"torch", "numpy", "httpx", "sinks"}),
        ("import runtime; dir(runtime); runtime.__all__", {"torch", "numpy", "httpx", "sinks"}),
    ],
)
def test_a_fresh_interpreter_loads_only_what_it_needs(statement, absent, record_property):
    """Neither package loads torch or an HTTP client by being imported; the time is reported."""
    seconds, modules = modules_after(statement)
    record_property(f"seconds of {statement!r}", round(seconds, 3))
    print(f"{statement}: {seconds:.3f} s, {len(modules)} modules")  # noqa: T201 - for -rP

    assert not absent & top_level(modules)


@pytest.mark.slow
def test_a_run_loads_no_compiler_and_no_http():
    """The first use of `runtime.Run` loads torch, but neither torch's compiler nor HTTP."""
    _, modules = modules_after("import runtime; runtime.Run")

    assert "torch" in modules
    assert not {"httpx", "sinks"} & top_level(modules)
    assert "torch._dynamo" not in modules


@pytest.mark.parametrize("package", ["bus", "runtime"])
def test_names(package):
    """`__all__` is sorted, constants first, without doubles; each name exists, `dir` shows it."""
    module = importlib.import_module(package)
    names = list(module.__all__)

    assert names == sorted(set(names), key=lambda name: (not name.isupper(), name))
    for name in names:
        assert getattr(module, name) is not None
    assert set(names) <= set(dir(module))


@pytest.mark.parametrize("package", ["bus", "runtime"])
def test_unknown_names(package):
    """A name that is not there is an AttributeError that says where it was looked for."""
    module = importlib.import_module(package)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nonsense'"):
        _ = module.nonsense


def test_every_public_name_says_where_it_is():
    """Classes and functions of `bus` and `runtime` come from these packages' own modules."""
    for package in ("bus", "runtime"):
        module = importlib.import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            if isinstance(value, type):
                assert value.__module__.startswith(("bus", "runtime")), name
                assert value.__doc__, name
