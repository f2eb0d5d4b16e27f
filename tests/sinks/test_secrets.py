"""A key is planted wherever settings come from, and searched for wherever it could come out."""

import base64
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from bus import (
    JOURNAL_FOLDER,
    AlertRaised,
    AttemptInfo,
    Backoff,
    Batch,
    Bus,
    BusOptions,
    DeliveryError,
    MetricsLogged,
    Pace,
    RunEnded,
    RunInfo,
    Sink,
    SinkContext,
    State,
    list_cursors,
    resend_dead,
    sync_run,
)
from sinks.clearml import ClearmlSink
from sinks.comet import CometSink
from sinks.mlflow import MlflowSink
from sinks.neptune import NeptuneSink
from sinks.testing import (
    Action,
    Exchange,
    Reply,
    ScriptedServer,
    echo,
    redirect,
    reset,
    serve,
    write_run,
)
from sinks.webhook import DiscordSink, SlackSink, WebhookSink
from tests.bus.delivery.elsewhere import FileSink
from tests.sinks.post_sink import PostSink

pytestmark = pytest.mark.slow
KEY: Final = "cGxhbnRlZC0wMTIzNDU2Nzg5"
"""In base64, so that it stands as it is in tokens that are base64 of more than a key."""
PACE: Final = Pace(look=0.02, rearm=0.05, backoff=Backoff(first=0.01, ceiling=0.05))

Plant = Callable[[pytest.MonkeyPatch, Path, str], Sink]
"""Puts the key where a sink that posts to this address finds it, and makes that sink."""


def _by_environment(kind: type[Sink], variable: str, value: str = "{key}") -> Plant:
    def plant(patch: pytest.MonkeyPatch, _home: Path, url: str) -> Sink:
        patch.setenv(variable, value.format(key=KEY, url=url, host=url.removeprefix("http://")))
        if kind is PostSink:
            patch.setenv("POST_SINK_URL", f"{url}/")
        if kind is ClearmlSink:
            patch.setenv("CLEARML_API_HOST", url)
        if kind is MlflowSink and variable != "MLFLOW_TRACKING_URI":
            patch.setenv("MLFLOW_TRACKING_URI", url)
        if kind is CometSink:
            patch.setenv("COMET_URL_OVERRIDE", url)
        return kind()

    return plant


def _mlflow_by_file(patch: pytest.MonkeyPatch, home: Path, url: str) -> Sink:
    (home / ".mlflow").mkdir(parents=True)
    (home / ".mlflow" / "credentials").write_text(
        f"[mlflow]\nmlflow_tracking_username = somebody\nmlflow_tracking_password = {KEY}\n"
    )
    patch.setenv("HOME", str(home))
    return MlflowSink(tracking_uri=url)


def _comet_by_file(patch: pytest.MonkeyPatch, home: Path, url: str) -> Sink:
    home.mkdir(parents=True)
    (home / ".comet.config").write_text(f"[comet]\napi_key = {KEY}\n")
    patch.setenv("HOME", str(home))
    return CometSink(url_override=url)


def _clearml_by_file(patch: pytest.MonkeyPatch, home: Path, url: str) -> Sink:
    home.mkdir(parents=True)
    (home / "clearml.conf").write_text(
        f'api {{ api_server: {url}\ncredentials {{"access_key": "me", "secret_key": "{KEY}"}} }}'
    )
    patch.setenv("HOME", str(home))
    return ClearmlSink()


def _neptune(patch: pytest.MonkeyPatch, url: str) -> Sink:
    told = json.dumps({"api_key": base64.b64decode(KEY).decode(), "api_address": url})
    token = base64.b64encode(told.replace(" ", "").encode()).decode()
    assert KEY in token
    patch.setenv("NEPTUNE_API_TOKEN", token)
    return NeptuneSink(project="team/demo")


PLANTS: Final[dict[str, Plant]] = {
    "post by argument": lambda _patch, _home, url: PostSink(url=f"{url}/", key=KEY),
    "post by environment": _by_environment(PostSink, "POST_SINK_KEY"),
    "post by userinfo": lambda _patch, _home, url: PostSink(
        url=url.replace("//", f"//somebody:{KEY}@") + "/"
    ),
    "post by query": lambda _patch, _home, url: PostSink(url=f"{url}/?api_key={KEY}&page=1"),
    "webhook by argument": lambda _patch, _home, url: WebhookSink(url=f"{url}/hook", secret=KEY),
    "webhook by path": _by_environment(WebhookSink, "HOTLOOP_WEBHOOK_URL", "{url}/hooks/{key}"),
    "slack by path": _by_environment(SlackSink, "SLACK_WEBHOOK_URL", "{url}/services/T/B/{key}"),
    "discord by path": lambda _patch, _home, url: DiscordSink(
        webhook_url=f"{url}/api/webhooks/1/{KEY}"
    ),
    "mlflow by environment": _by_environment(MlflowSink, "MLFLOW_TRACKING_TOKEN"),
    "mlflow by userinfo": _by_environment(
        MlflowSink, "MLFLOW_TRACKING_URI", "http://somebody:{key}@{host}"
    ),
    "mlflow by file": _mlflow_by_file,
    "neptune by environment": lambda patch, _home, url: _neptune(patch, url),
    "comet by environment": _by_environment(CometSink, "COMET_API_KEY"),
    "comet by file": _comet_by_file,
    "clearml by argument": lambda _patch, _home, url: ClearmlSink(
        api_host=url, api_access_key=KEY, api_secret_key=KEY
    ),
    "clearml by environment": _by_environment(ClearmlSink, "CLEARML_AUTH_TOKEN"),
    "clearml by file": _clearml_by_file,
}


def _late_echo(exchange: Exchange) -> None:
    """So that the place where the answer is shortened falls into the key."""
    heard = " ".join([*exchange.request.headers.values(), exchange.request.target])
    start = heard.find(KEY)
    body = "x" * max(0, 500 - len("x") - start - len(KEY) // 2) + " " + heard
    exchange.answer(Reply(400, body.encode()))


BEHAVIOURS: Final[dict[str, Action]] = {
    "good": serve,
    "echo 400": echo(400),
    "echo 400, cut": _late_echo,
    "echo 401": echo(401),
    "echo 500": echo(500),
    "reset": reset,
}


@dataclass
class Search:
    """Looks for the key; the home folder alone may hold it."""

    caplog: pytest.LogCaptureFixture
    capfd: pytest.CaptureFixture[str]

    def text(self, where: str, text: str) -> None:
        for length in (len(KEY), len(KEY) // 2):
            assert KEY[:length] not in text, f"in {where}"

    def files(self, *folders: Path) -> None:
        for folder in folders:
            for path in folder.rglob("*"):
                if path.is_file():
                    self.text(str(path), path.read_text(errors="replace"))

    def said(self) -> None:
        for record in self.caplog.records:
            # The protocol of the wire is another library's, and holds what the server answered.
            if record.name.partition(".")[0] != "httpcore":
                self.text("the log", self.caplog.handler.format(record))
        captured = self.capfd.readouterr()
        self.text("the output", captured.out + captured.err)


@pytest.fixture
def search(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[Search]:
    with caplog.at_level(logging.DEBUG):
        yield Search(caplog, capfd)


@pytest.fixture
def working(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    folder = tmp_path / "working"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def events() -> list[MetricsLogged | AlertRaised]:
    return [
        MetricsLogged(step=1, metrics={"n": 1.0}),
        AlertRaised(step=1, title="loss is up", text="by much", level="warning"),
    ]


@pytest.mark.parametrize("name", PLANTS)
def test_what_a_sink_knows_stays_with_it(*, name, search, working, tmp_path, monkeypatch):
    """Whatever its server does: not in files, logs, output, accounts, reprs or dead letters."""
    for number, (behaviour, action) in enumerate(BEHAVIOURS.items()):
        run_dir = write_run(tmp_path / "runs" / str(number), events())
        with ScriptedServer() as server, monkeypatch.context() as patch:
            server.always = action
            sink = PLANTS[name](patch, tmp_path / f"home{number}", server.url)
            accounts = sync_run(run_dir, [sink], timeout=0.5, pace=PACE)
            search.text(f"the account after {behaviour}", repr(accounts))
            search.text("a repr", f"{sink!r} {vars(sink)['http']!r}")
            try:
                resend_dead(run_dir, sink, take_over=True)
            except DeliveryError as error:
                search.text("an error", f"{error} {error!r}")
            assert server.requests, behaviour
        assert any(accounts)
    search.files(tmp_path / "runs", working)
    search.said()


@pytest.mark.parametrize("code", [302, 307])
# Where the address itself is the secret, the server repeats it in what it sends us to.
@pytest.mark.parametrize("name", [n for n in PLANTS if "path" not in n and "query" not in n])
def test_another_host_is_told_nothing(*, name, code, search, working, tmp_path, monkeypatch):
    """A redirect takes no credentials along, wherever the sink has them from."""
    run_dir = write_run(tmp_path / "run", events())
    with ScriptedServer() as server, ScriptedServer() as elsewhere:
        server.always = redirect(elsewhere.url, code)
        sink = PLANTS[name](monkeypatch, tmp_path / "home", server.url)
        sync_run(run_dir, [sink], timeout=0.3, pace=PACE)
        assert server.requests
        for request in elsewhere.requests:
            assert "authorization" not in request.headers
            search.text("a redirected request", f"{request}")
    search.files(run_dir, working)
    search.said()


def test_a_bug_that_quotes_the_key(search, tmp_path):
    """The traceback is logged without it."""
    run_dir = write_run(tmp_path / "run", events())
    sink = FileSink(path=tmp_path / "out", token=KEY, raises=True)
    (account,) = sync_run(run_dir, [sink], timeout=0.3, pace=PACE)

    assert "a bug near ***" in account.reason
    assert "a bug near ***" in search.caplog.text
    assert "Traceback" in search.caplog.text
    search.files(run_dir)
    search.said()


class Quoting(PostSink):
    """Has a bug that quotes the address."""

    async def write(self, batch: Batch, state: State) -> State:
        raise RuntimeError(f"a bug near {self.settings.url} in {batch}, {state}")


@pytest.mark.parametrize("place", [f"{KEY}@localhost/", f"u:{KEY}@localhost/", f"h/?token={KEY}"])
def test_a_bug_that_quotes_an_address(search, tmp_path, place):
    """What authenticates in it is masked, though the setting is no secret as a whole."""
    run_dir = write_run(tmp_path / "run", events())
    (account,) = sync_run(run_dir, [Quoting(url=f"http://{place}")], timeout=0.3, pace=PACE)

    assert "a bug near http://" in account.reason
    search.files(run_dir)
    search.text("the account", repr(account))
    search.said()


@pytest.mark.parametrize("code", [200, 401])
def test_a_delivery_process_shows_nothing(*, code, search, working, tmp_path):
    """Settings reach it by its standard input: no process list, environment or file has them."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    info = RunInfo.new("run", None)
    info.attempts.append(AttemptInfo.here(1, None))
    info.save(run_dir)
    context = SinkContext(run_dir=run_dir, run_id=info.id, name="run")
    with ScriptedServer() as server:
        server.always = serve if code == 200 else echo(code)
        bus = Bus(run_dir / JOURNAL_FOLDER, options=BusOptions(deliver="process"))
        bus.add_sink(PostSink(url=f"{server.url}/", key=KEY), context)
        bus.publish(MetricsLogged(step=1, metrics={"n": 1.0}))
        deadline = time.monotonic() + 20
        while not server.requests and time.monotonic() < deadline:
            time.sleep(0.01)
        owner = list_cursors(run_dir)["post"].owner
        assert owner is not None
        for file in ("cmdline", "environ"):
            shown = Path(f"/proc/{owner.pid}/{file}").read_bytes()
            search.text(file, shown.decode(errors="replace"))
        account = bus.close(10.0, last=lambda: RunEnded(outcome="finished"))
    assert KEY in server.requests[0].headers["authorization"]
    search.text("the account", repr(account))
    search.files(run_dir, working)
    search.said()
