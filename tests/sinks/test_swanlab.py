"""What the SwanLab sink reads of its settings and calls metrics; tests/vendors has the library."""

import pytest

from bus import NotConfiguredError
from sinks._swanlab_settings import HOSTED, project_name
from sinks._swanlab_state import logged_name, renamed
from sinks.swanlab import SwanLabSink
from tests.nobody import clear_environment

KEY = "key-0123456789"


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """No login, and no variables."""
    clear_environment(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("train/loss", "train/loss"),
        ("../../out", "out"),
        (" a\tb\nc. ", "a_b_c"),
        ("//", "metric"),
        ("x" * 600, "x" * 512),
        ("__swanlab__.cpu", "cpu"),
        ("__swanlab__.__swanlab__.cpu", "cpu"),
    ],
)
def test_names_of_metrics(key, expected):
    """None is one that the library would refuse, or change in its own way."""
    assert logged_name(key) == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("loss", "train/loss"),
        ("eval_loss", "eval/loss"),
        ("test_loss", "test/loss"),
        ("train_loss", "single_value/train_loss"),
        ("total_flos", "single_value/total_flos"),
        ("eval_runtime", "eval/runtime"),
    ],
)
def test_names_of_a_trainers_metrics(key, expected):
    """They are those of Transformers' callback."""
    assert renamed(key) == expected


def test_names_of_projects():
    """Any name of a run's project becomes one that the library takes."""
    assert project_name("my project/é") == "my-project"
    assert project_name("é") == project_name(None) == "hotloop"


def test_its_variables(monkeypatch):
    """Those of Transformers' callback and of the library, `cloud` included; no key is shown."""
    told = {
        "API_KEY": KEY,
        "MODE": "cloud",
        "PROJECT": "mine",
        "RUN_ID": "abc",
        "RESUME": "must",
        "API_HOST": "http://127.0.0.1:1",
        "WEB_HOST": "http://127.0.0.1:2",
        "LOG_DIR": "elsewhere",
    }
    for name, value in told.items():
        monkeypatch.setenv(f"SWANLAB_{name}", value)
    settings = SwanLabSink().settings

    assert settings.mode == "online"
    assert (settings.project, settings.run_id, settings.resume) == ("mine", "abc", "must")
    assert (settings.api_host, settings.web_host) == ("http://127.0.0.1:1", "http://127.0.0.1:2")
    assert str(settings.log_dir) == "elsewhere"
    assert KEY not in repr(settings)


def test_nothing_is_sent_without_a_key():
    """It says which variable to set, and which modes need none."""
    with pytest.raises(NotConfiguredError, match=r"SWANLAB_API_KEY.*SWANLAB_MODE to offline"):
        SwanLabSink()
    assert SwanLabSink(mode="offline").settings.api_key is None


def test_it_can_be_switched_off(monkeypatch):
    """By the variable that Transformers documents for that."""
    monkeypatch.setenv("SWANLAB_MODE", "disabled")
    with pytest.raises(NotConfiguredError) as raised:
        SwanLabSink()
    assert raised.value.switched_off


def test_the_key_of_a_login(tmp_path):
    """What `swanlab login` stored is used, but never for another server."""
    (tmp_path / ".swanlab").mkdir()
    stored = tmp_path / ".swanlab" / ".netrc"
    stored.write_text(f"machine {HOSTED}\nlogin https://swanlab.cn\npassword {KEY}\n")
    settings = SwanLabSink().settings

    assert settings.api_key.get_secret_value() == KEY
    assert (settings.api_host, settings.web_host) == (HOSTED, "https://swanlab.cn")
    with pytest.raises(NotConfiguredError, match="SWANLAB_API_KEY"):
        SwanLabSink(api_host="http://127.0.0.1:1")
