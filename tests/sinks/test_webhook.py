"""What webhooks, Slack and Discord are sent, and what they are not."""

import hashlib
import hmac
import json
import math
import time
from datetime import UTC, datetime

import pytest

from bus import (
    AlertRaised,
    Backoff,
    MessageLogged,
    MetricsLogged,
    NotConfiguredError,
    Pace,
    RunEnded,
    RunInfo,
    sync_run,
)
from sinks._messages import cut, message_of, slack_text
from sinks.testing import Reply, status, write_run
from sinks.webhook import DiscordSink, SlackSink, WebhookSink, signature

PACE = Pace(look=0.02, rearm=0.05, backoff=Backoff(first=0.01, ceiling=0.02))
SIGNING = "sign-0123"
TRICKY = "<!channel> @everyone <@U1> a & b <https://evil.example|click>"


def deliver(run_dir, sink, seconds=8.0):
    return sync_run(run_dir, [sink], timeout=seconds, pace=PACE)[0]


def posts(server):
    return [request.json() for request in server.applied]


class TestWebhook:
    """The generic webhook."""

    def test_what_is_posted(self, server, tmp_path):
        """The run, where the events are from, the events as journalled, and the outcome."""
        events = [MetricsLogged(step=1, metrics={"loss": math.nan, "lr": 0.1})]
        run_dir = write_run(tmp_path / "run", events, outcome="failed")
        deliver(run_dir, WebhookSink(url=f"{server.url}/in"))

        first, last = posts(server)
        info = RunInfo.load(run_dir)
        assert first["run"] == {"id": info.id, "name": "kit", "project": "tests"}
        assert (first["attempt"], first["rank"]) == (1, 0)
        assert [event["type"] for event in first["events"]] == [
            "run_started",
            "metrics_logged",
            "run_ended",
        ]
        assert first["events"][1]["metrics"] == {"loss": "NaN", "lr": 0.1}
        assert [event["seq"] for event in first["events"]] == [1, 2, 3]
        assert last == {"run": first["run"], "outcome": "failed", "events": []}

    def test_the_outcome_is_told_once(self, server, tmp_path):
        """Delivering again what has been delivered posts nothing."""
        run_dir = write_run(tmp_path / "run", [])
        for _ in range(3):
            assert deliver(run_dir, WebhookSink(url=server.url)).complete
        assert len(server.requests) == 2

    def test_signatures(self, server, tmp_path):
        """A receiver can check that the body is ours and when it was signed."""
        run_dir = write_run(tmp_path / "run", [])
        deliver(run_dir, WebhookSink(url=server.url, secret=SIGNING, gzip=True))

        for request in server.applied:
            seconds, _, digest = request.headers["hotloop-signature"].partition(",v1=")
            said = seconds.removeprefix("t=").encode() + b"." + request.body
            assert hmac.new(SIGNING.encode(), said, hashlib.sha256).hexdigest() == digest
            assert abs(int(seconds.removeprefix("t=")) - time.time()) < 60
            assert request.headers["content-encoding"] == "gzip"

    def test_a_known_signature(self):
        """The value that the command `openssl dgst -sha256 -hmac key` gives for `100.{}`."""
        assert signature(b"key", b"{}", 100.9) == (
            "t=100,v1=b6ae95232f7a6f10ed56c0c2931bda6344efb9e66d09bf79943ca1df746bbddf"
        )

    def test_what_comes_again_has_the_same_name(self, server, tmp_path):
        """A receiver can tell a repetition by `Hotloop-Delivery`, and the end from the rest."""
        run_dir = write_run(tmp_path / "run", [])
        server.next(status(503))
        deliver(run_dir, WebhookSink(url=server.url))

        names = [request.headers["hotloop-delivery"] for request in server.requests]
        assert names[0] == names[1] == f"{RunInfo.load(run_dir).id}/a1-rank0/1-2"
        assert names[2] != names[0]

    def test_events_are_chosen_by_type(self, server, tmp_path, monkeypatch):
        """Only the named types are sent; the environment names them with commas."""
        monkeypatch.setenv("HOTLOOP_WEBHOOK_EVENTS", "alert_raised, message_logged")
        monkeypatch.setenv("HOTLOOP_WEBHOOK_URL", server.url)
        events = [
            MetricsLogged(metrics={"n": 1.0}),
            AlertRaised(title="a"),
            MessageLogged(text="b"),
        ]
        deliver(write_run(tmp_path / "run", events), WebhookSink())

        assert [event["type"] for event in posts(server)[0]["events"]] == [
            "alert_raised",
            "message_logged",
        ]

    def test_settings(self, monkeypatch):
        """A missing or wrong address is named without its value."""
        monkeypatch.delenv("HOTLOOP_WEBHOOK_URL", raising=False)
        with pytest.raises(NotConfiguredError, match="HOTLOOP_WEBHOOK_URL"):
            WebhookSink()
        with pytest.raises(NotConfiguredError, match="begins with https") as caught:
            WebhookSink(url="hush-0123456789")
        assert "hush" not in str(caught.value)


@pytest.fixture(params=[SlackSink, DiscordSink], ids=["slack", "discord"])
def chat(request, server):
    """A sink for people, at its pace."""
    return request.param(webhook_url=f"{server.url}/hook/0123456789abcdef")


class TestChats:
    """What Slack and Discord have in common."""

    def test_people_are_told(self, chat, server, tmp_path):
        """The beginning, alerts and the end; no metrics."""
        events = [MetricsLogged(metrics={"n": 1.0}), AlertRaised(step=7, title="Loss", text="nan")]
        account = deliver(write_run(tmp_path / "run", events, outcome="failed"), chat)

        assert account.complete
        said = json.dumps(posts(server))
        for words in ("tests/kit began", "tests/kit: Loss at step 7", "nan", "tests/kit failed"):
            assert words in said
        assert len(server.requests) == 1
        assert "metrics" not in said

    def test_an_alert_of_every_step_does_not_fill_the_channel(self, chat, server, tmp_path):
        """Of those with one title and level that wait the latest is told, and all are counted."""
        events = [
            AlertRaised(step=n, title="loss is NaN", level=level)
            for n in range(500)
            for level in ("warning", "error")
        ]
        account = deliver(write_run(tmp_path / "run", events), chat)

        said = json.dumps(posts(server))
        assert said.count("loss is NaN at step 499") >= 2
        assert "at step 498" not in said
        assert len(server.requests) == 1
        assert (account.delivered, account.coalesced, account.complete) == (4, 998, True)

    def test_a_crash_is_told(self, chat, server, tmp_path):
        """A run that could not say how it ended is said to have crashed, once."""
        run_dir = write_run(tmp_path / "run", [], outcome="finished")
        info = RunInfo.load(run_dir)
        info.attempts[-1].outcome = "crashed"
        info.save(run_dir)
        deliver(run_dir, chat)
        deliver(run_dir, type(chat)(chat.settings))

        assert json.dumps(posts(server)).count("tests/kit crashed") >= 1
        assert len(server.requests) == 2

    def test_many_and_long_messages_fit(self, chat, server, tmp_path):
        """Whatever is said stays within the services' limits, and nothing of it is lost."""
        text = "<&>\U0001f680" * 3000
        events = [AlertRaised(title=f"{n} {'t' * 500}", text=text) for n in range(45)]
        account = deliver(write_run(tmp_path / "run", events), chat)

        assert account.complete, account
        shown = 0
        for post in posts(server):
            blocks = post.get("blocks", [])
            embeds = post.get("embeds", [])
            shown += len(blocks) + len(embeds)
            assert len(blocks) <= 50
            assert all(len(block["text"]["text"]) <= 3000 for block in blocks)
            assert len(post.get("text", "")) <= 3000
            assert len(embeds) <= 10
            sizes = [(units(e["title"]), units(e["description"])) for e in embeds]
            assert all(title <= 256 and text <= 4096 for title, text in sizes)
            assert sum(map(sum, sizes)) <= 6000
        assert shown == 47

    def test_nobody_is_mentioned(self, chat, server, tmp_path):
        """Texts cannot ring everybody's bell."""
        deliver(write_run(tmp_path / "run", [AlertRaised(title="x", text=TRICKY)]), chat)

        (post,) = posts(server)
        if isinstance(chat, SlackSink):
            said = json.dumps(post)
            assert "<!" not in said
            assert "<@" not in said
            assert "&lt;!channel&gt;" in said
            assert all(block["text"]["verbatim"] for block in post["blocks"])
        else:
            assert post["allowed_mentions"] == {"parse": []}
            assert "content" not in post

    def test_the_address_is_a_secret(self, chat, server, tmp_path, caplog):
        """Neither account nor log nor repr holds the address's path."""
        server.always = status(404)
        account = deliver(write_run(tmp_path / "run", []), chat, 1.0)

        assert account.status == "suspended"
        said = f"{account!r} {chat.settings!r} {caplog.text}"
        assert "0123456789abcdef" not in said


def units(text):
    return len(text.encode("utf-16-le")) // 2


def test_slack_is_asked_once_a_second(server, tmp_path):
    """A message a second, whatever there is to say."""
    events = [AlertRaised(title=str(n)) for n in range(79)]
    deliver(write_run(tmp_path / "run", events), SlackSink(webhook_url=server.url))

    times = [request.time for request in server.requests]
    assert len(times) == 3
    # The first request takes longest to arrive: it makes the connection.
    assert times[2] - times[0] >= 1.7


@pytest.mark.parametrize(
    ("reply", "least"),
    [
        (Reply(429, {"message": "slow", "retry_after": 0.65, "global": False}), 0.6),
        (Reply(429, {"message": "slow", "retry_after": 1}), 0.95),
        (Reply(429, b"<html>", {"retry-after": "1"}), 0.95),
    ],
)
def test_discord_says_in_its_body_how_long(server, tmp_path, reply, least):
    """A wish with a fraction is obeyed; without one the header is."""
    server.next(lambda exchange: exchange.answer(reply))
    sink = DiscordSink(webhook_url=server.url)
    account = deliver(write_run(tmp_path / "run", []), sink)

    first, again = server.requests
    assert account.complete
    assert again.time - first.time >= least


def test_an_archived_slack_channel_suspends(server, tmp_path):
    """410 costs no message: somebody chooses another channel, and it comes there."""
    server.always = status(410)
    account = deliver(write_run(tmp_path / "run", []), SlackSink(webhook_url=server.url), 1.0)
    assert (account.status, account.dead) == ("suspended", 0)
    assert "another channel" in account.reason


def test_discord_204(server, tmp_path):
    """No content is what Discord answers when all is well."""
    server.always = lambda exchange: (exchange.apply(), exchange.answer(Reply(204)))
    sink = DiscordSink(webhook_url=server.url)
    assert deliver(write_run(tmp_path / "run", []), sink).complete


def test_discord_dates(server, tmp_path):
    """An embed carries the time at which it happened."""
    alert = AlertRaised(time=1_700_000_000.0, title="x")
    sink = DiscordSink(webhook_url=server.url)
    deliver(write_run(tmp_path / "run", [alert]), sink)
    stamp = posts(server)[0]["embeds"][1]["timestamp"]
    assert datetime.fromisoformat(stamp) == datetime.fromtimestamp(1_700_000_000, UTC)


@pytest.mark.parametrize("limit", range(3, 30))
def test_cuts(limit):
    """Neither an escape nor a pair of surrogates is split."""
    text = slack_text("<&>" * 10, limit)
    assert len(text) <= limit
    assert text.replace("&lt;", "").replace("&amp;", "").replace("&gt;", "") in ("", "...")
    rockets = cut("\U0001f680" * 20, limit)
    assert units(rockets) <= limit
    assert set(rockets) <= {"\U0001f680", "."}


def test_other_events_are_no_messages():
    """What nobody needs to be told is not told; a reason is."""
    assert message_of(MetricsLogged(metrics={}), "r") is None
    ended = message_of(RunEnded(outcome="stopped", reason="by hand"), "r")
    assert ended is not None
    assert (ended.title, ended.text) == ("r was stopped", "by hand")
