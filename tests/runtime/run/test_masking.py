"""A key that comes in by any of a run's doors is in none of its files."""

import dataclasses
import logging
from pathlib import Path

from bus import ParametersLogged, RunStarted
from bus.testing import JournalAsserter

KEY = "s3cr3t-0123456789"


def files_with(folder: Path, text: str) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and text.encode() in p.read_bytes()]


@dataclasses.dataclass
class Settings:
    """As a training script may keep them."""

    rate: float
    api_key: str


PLANTED = {
    "api_key": KEY,
    "WANDB_API_KEY": KEY,
    "hfToken": KEY,
    "nested": {"deep": [{"password": KEY}, {"aws": {"secret": {"anything": KEY}}}]},
    "settings": Settings(0.1, KEY),
    "database": f"postgres://me:{KEY}@localhost/x",
    "endpoints": [f"https://user:{KEY}@example.org/path"],
    "tokens": {"access_token": [KEY, KEY]},
}
HARMLESS = {
    "tokenizer": "gpt2",
    "max_tokens": 512,
    "token_count": 7,
    "key": "loss",
    "url": "https://example.org/a:b@c",
    "password_enabled": True,
}


def test_config(new_run):
    """Secrets in a configuration are masked at any depth; what only sounds alike is kept."""
    run = new_run(config={**PLANTED, **HARMLESS})
    run.close()

    assert files_with(run.dir, KEY) == []
    config = JournalAsserter(run.dir).of(RunStarted)[0].config
    assert {name: config[name] for name in HARMLESS} == HARMLESS
    assert config["api_key"] == "***"
    assert config["settings"] == {"rate": 0.1, "api_key": "***"}
    assert config["database"] == "postgres://me:***@localhost/x"


def test_parameters_and_metadata(new_run):
    """The same holds for parameters logged later and for what is said about artifacts."""
    run = new_run()
    run.params({**PLANTED, **HARMLESS})
    run.artifact("model.pt", metadata=PLANTED)
    run.close()

    assert files_with(run.dir, KEY) == []
    parameters = JournalAsserter(run.dir).of(ParametersLogged)[0].parameters
    assert {name: parameters[name] for name in HARMLESS} == HARMLESS


def test_refused_values(new_run, caplog):
    """What is said about a value that cannot be logged does not repeat a secret."""
    run = new_run()
    with caplog.at_level(logging.DEBUG):
        run.log({"api_key": KEY, "nested": {"token": KEY}})
        run.close(error=ConnectionError(f"https://user:{KEY}@example.org refused"))

    assert KEY not in caplog.text
    assert KEY not in str(run.statistics())
    assert files_with(run.dir, KEY) == []
