"""The W&B sink spreads its calls over what the server says is left."""

import anyio
import pytest
import trio
import trio.testing

from bus import AlertRaised, sync_run
from sinks._wandb_pace import Pace
from sinks.wandb import WandbSink
from tests.servers.journals import QUICK, write_attempt
from tests.servers.wandb import KEY, StandIn


def waited(*answers):
    """Seconds between requests that are answered so: what is left, seconds until it is full."""

    async def send():
        pace, found = Pace(), []
        for left, reset in answers:
            began = anyio.current_time()
            await pace.turn()
            found.append(round(anyio.current_time() - began, 3))
            pace.heed({"ratelimit-remaining": str(left), "ratelimit-reset": str(reset)})
        return found

    return trio.run(send, clock=trio.testing.MockClock(autojump_threshold=0))


def test_what_is_left_is_spread_over_the_time():
    """Evenly, as if each request took one of it."""
    assert waited((4, 8), (3, 6), (2, 4), (1, 2)) == [0, 2, 2, 2]


def test_a_request_may_take_more_of_it():
    """It is learned from what goes; so does what others take of it."""
    assert waited((100, 10), (80, 9.9), (60, 7.7), (45, 5.7)) == [0, 0.1, 2.005, 2.469]


def test_nothing_is_left():
    """The next request is sent when there is something again."""
    assert waited((0, 3), (5, 10), (5, 10)) == [0, 3, 2]


def test_nobody_waits_for_long():
    """Whatever the server says: ten seconds, as W&B's own client."""
    assert waited((0, 3600), (1, 3600), (1, 1)) == [0, 10, 10]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ratelimit-remaining": "0"},
        {"ratelimit-remaining": "none", "ratelimit-reset": "9"},
        {"ratelimit-remaining": "-1", "ratelimit-reset": "9"},
        {"ratelimit-remaining": "0", "ratelimit-reset": "inf"},
    ],
)
def test_an_answer_that_says_nothing(headers):
    """Holds nobody up."""

    async def send():
        pace = Pace()
        pace.heed(headers)
        began = anyio.current_time()
        await pace.turn()
        return anyio.current_time() - began

    assert trio.run(send, clock=trio.testing.MockClock(autojump_threshold=0)) == 0


@pytest.mark.usefixtures("environment")
def test_the_server_never_complains(tmp_path):
    """Twelve alerts, of which it takes three in a time."""
    alerts = [AlertRaised(title=f"alert {n}") for n in range(12)]
    run_dir = write_attempt(tmp_path / "run", alerts)
    with StandIn(quota=(3, 0.25)) as server:
        sink = WandbSink(base_url=server.url, api_key=KEY)
        (account,) = sync_run(run_dir, [sink], pace=QUICK, timeout=15)
        told = server.run.alerts

    assert account.complete
    assert len(told) == len(server.calls("NotifyScriptableRunAlert")) == 12
