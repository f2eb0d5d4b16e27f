"""What Prometheus' Pushgateway holds of a run: through a strict stand-in, and through itself."""

import math
import os
import re
import shutil
import subprocess
import urllib.request

import pytest

from bus import (
    Evaluated,
    MetricsLogged,
    NotConfiguredError,
    SystemMetricsLogged,
    TrainerInitialized,
    sync_run,
)
from sinks.pushgateway import PushgatewaySink
from sinks.testing import Received, Reply, ScriptedServer
from tests.servers.pushgateway import TOKEN, PushgatewayDouble, read
from tests.sinks.local_sinks import NOON, metrics, write_run
from tests.sinks.short_suite import ShortSuite
from tests.waiting import eventually

ODD = 'größer "loss" \\ a\nb/c'


@pytest.fixture
def double(environment):
    del environment
    return PushgatewayDouble()


@pytest.fixture
def gateway(double):
    """Its address leads to the stand-in."""
    answer = lambda each: double.answer(each.method, each.target, each.headers, each.body)  # noqa: E731
    with ScriptedServer(answer) as server:
        yield server


def deliver(run_dir, url, **settings):
    (account,) = sync_run(run_dir, [PushgatewaySink(url=url, **settings)])
    assert (account.complete, account.dead) == (True, 0)


def gauges(samples, prefix="hotloop_"):
    """The run's own metrics by their keys."""
    return {
        dict(labels)["key"]: (name.removeprefix(prefix), value)
        for (name, labels), value in samples.items()
        if "key" in dict(labels)
    }


class TestGroup:
    def test_it_holds_the_latest_values(self, double, gateway, tmp_path):
        """Of each metric one, also NaN and infinities; the step, the time, the outcome."""
        events = [
            *metrics(range(1, 9), loss=0.5),
            MetricsLogged(time=NOON + 9, step=9, metrics={"loss": math.nan, "lr": -math.inf}),
            SystemMetricsLogged(time=NOON + 9, metrics={"gpu0/watts": 250}),
            Evaluated(time=NOON + 10, step=9, metrics={"loss": 2.0, ODD: 3.0}),
        ]
        deliver(write_run(tmp_path, events), gateway.url)
        ((group, samples),) = double.groups.items()

        assert dict(group) == {"job": "tests", "run": "run"}
        found = gauges(samples)
        assert math.isnan(found.pop("loss")[1])
        assert found == {
            "n": ("n", 8.0),
            "lr": ("lr", -math.inf),
            "system/gpu0/watts": ("system_gpu0_watts", 250.0),
            "eval/loss": ("eval_loss", 2.0),
            f"eval/{ODD}": ("eval_gr__er__loss____a_b_c", 3.0),
        }
        assert samples["hotloop_run_step", frozenset()] == 9
        outcomes = {
            dict(labels)["outcome"]: value
            for (name, labels), value in samples.items()
            if name == "hotloop_run_ended"
        }
        assert {each for each, value in outcomes.items() if value} == {"finished"}
        assert len(outcomes) == 5

    def test_keys_that_are_one_name_there(self, double, gateway, tmp_path):
        """Both are there, told apart by their label; so are a program's own and the sink's."""
        run_dir = write_run(
            tmp_path, [MetricsLogged(step=1, metrics={"a/b": 1.0, "a_b": 2.0, "run_step": 3.0})]
        )
        deliver(run_dir, gateway.url)
        (samples,) = double.groups.values()

        assert gauges(samples) == {
            "a/b": ("a_b", 1.0),
            "a_b": ("a_b", 2.0),
            "run_step": ("run_step", 3.0),
        }
        assert samples["hotloop_run_step", frozenset()] == 1

    def test_settings(self, double, gateway, tmp_path, monkeypatch):
        """Job and labels from the environment, whatever is in them; names as Transformers'."""
        monkeypatch.setenv("PUSHGATEWAY_URL", f"{gateway.url}/")
        monkeypatch.setenv("PUSHGATEWAY_JOB", "a/b")
        monkeypatch.setenv("PUSHGATEWAY_LABELS", "team=n l p,empty=")
        monkeypatch.setenv("PUSHGATEWAY_PREFIX", "x_")
        (account,) = sync_run(
            write_run(tmp_path, [TrainerInitialized(), *metrics([1])]), [PushgatewaySink()]
        )
        assert account.complete
        ((group, samples),) = double.groups.items()

        assert dict(group) == {"job": "a/b", "run": "run", "team": "n l p", "empty": ""}
        assert gauges(samples, "x_") == {"train/n": ("train_n", 1.0)}

    def test_it_may_go_with_the_run(self, double, gateway, tmp_path):
        """For those whose alerts take what is there for what runs."""
        deliver(write_run(tmp_path, metrics(range(3))), gateway.url, keep=False)

        assert double.history
        assert double.groups == {}

    def test_another_process_knows_what_was_pushed(self, double, gateway, tmp_path):
        """A metric that is logged once is there until the end; a resume begins anew."""
        run_dir = write_run(tmp_path, metrics([1], once=1.0), outcome=None)
        deliver(run_dir, gateway.url)
        double.groups.clear()  # a gateway that was started anew
        write_run(tmp_path, metrics([5]), attempt=2, from_step=4)
        deliver(run_dir, gateway.url)
        (samples,) = double.groups.values()

        assert gauges(samples) == {"n": ("n", 5.0), "once": ("once", 1.0)}

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({}, "url"),
            ({"url": "gateway:9091"}, "begins with http"),
            ({"url": "http://x", "labels": "job=a"}, "job cannot be labels"),
            ({"url": "http://x", "labels": "a-b=a"}, "a-b cannot be labels"),
            ({"url": "http://x", "prefix": "9"}, "prefix"),
        ],
    )
    def test_what_cannot_be(self, environment, settings, words):
        """Is said before the run begins."""
        del environment
        with pytest.raises(NotConfiguredError, match=words):
            PushgatewaySink(**settings)


@pytest.mark.slow
class TestPushgateway(ShortSuite):
    """The conformance kit; the double keeps what a dashboard would have seen of the value."""

    secrets = (TOKEN,)
    patience = 4.0

    def make_sink(self, server: ScriptedServer) -> PushgatewaySink:
        """A push for each event, so that each value is the latest one once."""
        sink = PushgatewaySink(url=server.url, token=TOKEN, timeout=1.0, read_timeout=0.7)
        vars(sink)["limits"] = type(sink.limits)(events=1)
        return sink

    def setup_method(self) -> None:
        self.double = PushgatewayDouble(TOKEN)

    def service(self, request: Received) -> Reply:
        return self.double.answer(request.method, request.target, request.headers, request.body)

    def received(self, server: ScriptedServer) -> list[float]:
        """Each value that it has held, once for as long as it held it."""
        del server
        values = [
            value
            for samples in self.double.history
            if (value := samples.get(("hotloop_n", frozenset({("key", "n")})))) is not None
        ]
        return [
            value for index, value in enumerate(values) if value not in values[index - 1 : index]
        ]

    def told_outcome(self, server: ScriptedServer) -> str | None:
        del server
        return next(
            dict(labels)["outcome"]
            for (name, labels), value in self.double.history[-1].items()
            if name == "hotloop_run_ended" and value
        )


PROGRAM = os.environ.get("HOTLOOP_PUSHGATEWAY") or shutil.which("prometheus-pushgateway")


@pytest.mark.slow
@pytest.mark.skipif(
    PROGRAM is None,
    reason="needs Prometheus' Pushgateway: Debian's prometheus-pushgateway, or set "
    "HOTLOOP_PUSHGATEWAY to the program",
)
def test_the_gateway_itself(environment, tmp_path):
    """It takes what the sink pushes, and shows it as the stand-in reads it."""
    del environment
    log = tmp_path / "gateway.log"
    with log.open("wb") as file:
        gateway = subprocess.Popen(  # noqa: S603 - the program that was named
            [str(PROGRAM), "--web.listen-address=127.0.0.1:0"], stdout=file, stderr=file
        )
    try:
        address = re.compile(r"[Ll]istening on.*?(127\.0\.0\.1:\d+)")
        eventually(lambda: address.search(log.read_text()))
        url = f"http://{address.search(log.read_text())[1]}"
        values = {"loss": 0.5, "nan": math.nan, ODD: -math.inf, "a/b": 1.0, "a_b": 2.0}
        run_dir = write_run(tmp_path, [MetricsLogged(step=3, metrics=values)])
        deliver(run_dir, url, labels={"team": "n/l/p", "empty": ""})
        shown = urllib.request.urlopen(f"{url}/metrics", timeout=20).read().decode()  # noqa: S310 - 127.0.0.1
    finally:
        gateway.kill()
        gateway.wait()
    ours = [line for line in shown.splitlines() if "hotloop_" in line and "# HELP" not in line]
    samples = read("".join(f"{line}\n" for line in ours))
    found = {
        dict(labels)["key"]: value
        for (_, labels), value in samples.items()
        if "key" in dict(labels)
    }

    assert math.isnan(found.pop("nan"))
    assert found == {"loss": 0.5, ODD: -math.inf, "a/b": 1.0, "a_b": 2.0}
    assert {dict(labels)["team"] for _, labels in samples} == {"n/l/p"}
    assert {dict(labels)["run"] for _, labels in samples} == {"run"}
