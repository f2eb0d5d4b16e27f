"""Sinks by name: those registered here and those that installed packages offer."""

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Self

import pytest
from pydantic import Field, SecretStr, field_validator, model_validator

from bus import (
    Batch,
    MissingPackageError,
    NotConfiguredError,
    Promise,
    Sink,
    SinkSettings,
    State,
    SwitchedOffError,
    UnknownSinkError,
)
from bus._registry import SinkRegistry
from tests.bus.delivery.conftest import ScriptedSink


class KeyedSink(Sink):
    """Needs a key."""

    name = "keyed"
    help = "Get one at https://example.org/keys"
    promise = Promise(delivery="once")

    class Settings(SinkSettings, env_prefix="KEYED_"):
        """A key and a size."""

        api_key: SecretStr
        size: int = Field(default=1, ge=1)

        @model_validator(mode="after")
        def _sized(self) -> Self:
            if self.size > 9 and not self.api_key.get_secret_value().startswith("big"):
                raise ValueError("a size over 9 needs a big key")
            return self

    async def write(self, batch: Batch, state: State) -> State:
        del batch
        return state


@pytest.fixture
def registry() -> SinkRegistry:
    found = SinkRegistry()
    found.register("scripted", ScriptedSink)
    found.register("keyed", KeyedSink)
    return found


def test_names_resolve(registry):
    """A name, a sink, several of them, none."""
    sink = ScriptedSink()
    assert [type(s) for s in registry.make("scripted")[0]] == [ScriptedSink]
    assert registry.make(sink) == ([sink], [])
    assert registry.make(["scripted", sink])[0][1] is sink
    assert registry.make("none") == registry.make(None) == ([], [])


def test_names_of_transformers_resolve(registry):
    """`comet_ml` is `comet`, unless somebody has a sink of that very name."""
    registry.register("comet", ScriptedSink)
    assert registry.load("comet_ml") is ScriptedSink
    assert registry.look("comet_ml").readiness == "ready"
    assert "comet_ml" not in registry.names()
    registry.register("comet_ml", KeyedSink)
    assert registry.load("comet_ml") is KeyedSink


def test_an_unknown_name_lists_the_known(registry):
    """The message helps with a typing error."""
    with pytest.raises(UnknownSinkError, match=r"no sink 'scriptd'.*keyed.*scripted"):
        registry.make("scriptd")


def test_three_states(registry, monkeypatch):
    """Not configured says what to set and where to get it; with that it is ready."""
    found = registry.look("keyed")
    assert found.readiness == "not configured"
    assert "set api_key (or the environment variable KEYED_API_KEY)" in found.why
    assert "https://example.org/keys" in found.why
    assert found.delivery == "once"
    assert found.summary == "Needs a key."
    monkeypatch.setenv("KEYED_API_KEY", "k")
    assert registry.look("keyed").readiness == "ready"


def test_settings_errors_never_quote_a_value(monkeypatch):
    """A key typed into the wrong variable is not printed."""
    monkeypatch.setenv("KEYED_API_KEY", "k")
    monkeypatch.setenv("KEYED_SIZE", "sk-planted-secret")
    with pytest.raises(NotConfiguredError) as caught:
        KeyedSink()
    assert "KEYED_SIZE" in str(caught.value)
    assert "sk-planted-secret" not in str(caught.value)


def test_settings_that_do_not_go_together_are_told_as_their_check_tells_it(monkeypatch):
    """No variable is named that is none."""
    monkeypatch.setenv("KEYED_API_KEY", "k")
    with pytest.raises(NotConfiguredError, match=r"configured: a size over 9 needs.*key\. Get"):
        KeyedSink(size=10)


def test_one_that_is_switched_off_is_left_out(registry, monkeypatch):
    """A script may name it and its environment turn it off; what is missing is an error."""

    class Switched(KeyedSink):
        name = "switched"

        class Settings(SinkSettings, env_prefix="SWITCHED_"):
            mode: str = "online"
            key: str

            @field_validator("mode")
            @classmethod
            def _on(cls, mode: str) -> str:
                if mode == "disabled":
                    raise SwitchedOffError("SWITCHED_MODE is disabled")
                return mode

    registry.register("switched", Switched)
    with pytest.raises(NotConfiguredError, match="SWITCHED_KEY"):
        registry.make(["switched"])
    monkeypatch.setenv("SWITCHED_MODE", "disabled")
    sinks, (other,) = registry.make(["scripted", "switched"])
    assert [each.name for each in sinks] == ["scripted"]
    assert other.name == "switched"
    assert "SWITCHED_MODE is disabled" in other.why


def test_arguments_beat_the_environment(monkeypatch):
    """As everywhere."""
    monkeypatch.setenv("KEYED_SIZE", "2")
    assert KeyedSink(api_key="k", size=3).settings.size == 3
    assert KeyedSink(api_key="k").settings.size == 2


def test_all_means_the_ready_ones(registry):
    """And says why each other one is not."""
    sinks, others = registry.make("all")
    names = {sink.name for sink in sinks}
    assert "scripted" in names
    assert "keyed" not in names
    assert "keyed" in {info.name for info in others}
    assert all(info.readiness != "ready" and info.why for info in others)


def test_all_takes_the_special_one_for_the_general(registry):
    """Two sinks for one place would double everything there."""

    class Special(ScriptedSink):
        name = "special"
        instead_of = ("scripted",)

    registry.register("special", Special)
    sinks, others = registry.make("all")
    names = {sink.name for sink in sinks}
    assert "special" in names
    assert "scripted" not in names
    (left_out,) = [info for info in others if info.name == "scripted"]
    assert left_out.why == "special writes to the same place"
    assert [sink.name for sink in registry.make(["scripted", "special"])[0]] == [
        "scripted",
        "special",
    ]


@pytest.mark.parametrize("name", ["", "Upper", "a/b", "../x", "a b", "x" * 65])
def test_a_name_must_be_a_files(name):
    """Cursors and dead letters are called after it."""
    with pytest.raises(TypeError, match="must be lower-case"):
        type("Bad", (ScriptedSink,), {"name": name})


def test_only_sinks_can_be_registered(registry):
    """Something else is refused where it is registered, not where it is used."""
    with pytest.raises(TypeError, match=r"neither a subclass of bus\.Sink"):
        registry.register("x", int)
    registry.register("late", "tests.bus.delivery.nothing_here:Sink")
    with pytest.raises(MissingPackageError):
        registry.load("late")


@pytest.mark.slow
def test_installed_packages_offer_sinks(tmp_path: Path):
    """By entry point; one whose extra is missing says what to install, and is not imported.

    Where the extra is for some Pythons only, it says that too, since pip would do nothing.
    """
    package = tmp_path / "offering"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported although it is missing')\n")
    (tmp_path / "offered.py").write_text(
        textwrap.dedent('''
        from bus import Batch, Sink, State


        class Offered(Sink):
            """Offered by a package."""

            name = "offered"

            async def write(self, batch: Batch, state: State) -> State:
                return state
        ''')
    )
    metadata = tmp_path / "offering-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: offering\nVersion: 1.0\nProvides-Extra: heavy\n"
        "Requires-Dist: surely-not-installed>=1; extra == 'heavy'\n"
        "Requires-Dist: nor-this; (python_version < '3.0') and extra == 'old'\n"
    )
    (metadata / "entry_points.txt").write_text(
        "[hotloop.sinks]\noffered = offered:Offered\nheavy = offering:Heavy [heavy]\n"
        "old = offering:Old [old]\n"
    )
    script = """
from bus import SINKS
for name in ("offered", "heavy", "old"):
    info = SINKS.look(name)
    print(info.name, info.readiness, info.why or info.summary)
print([type(s).__name__ for s in SINKS.make(["offered"])[0]])
"""
    done = subprocess.run(  # noqa: S603 - a fixed command
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).resolve().parents[3]}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "offered ready Offered by a package.",
        "heavy missing pip install 'offering[heavy]'",
        "old missing pip install 'offering[old]', under Python < 3.0",
        "['Offered']",
    ]
