"""What the Comet sink sends, and what it makes of an unkind server; against a strict stand-in."""

import math

import pytest
import trio
import trio.testing

import runtime
from bus import (
    AlertRaised,
    ConsoleLineLogged,
    Evaluated,
    MessageLogged,
    MetricsLogged,
    ParametersLogged,
    Response,
    SummaryLogged,
    SystemMetricsLogged,
    TrainEnded,
    TrainerInitialized,
    list_cursors,
)
from sinks._comet_rates import Rates
from sinks.comet import CometSink
from tests.servers.comet import KEY, Refused, StandIn
from tests.servers.comet_runs import SmallBatches, deliver, points
from tests.servers.journals import write_attempt
from tests.waiting import eventually

METRIC = "batch/logger/experiment/metric"
PARAMETER = "batch/logger/experiment/parameter"
STATUS = "write/experiment/update-status"


pytestmark = pytest.mark.usefixtures("no_comet")


@pytest.fixture
def server():
    with StandIn() as server:
        yield server


def line(number):
    return ConsoleLineLogged(text=f"line {number}")


class TestTwice:
    """Nothing is lost, and what Comet does not append is there once."""

    def test_the_answer_to_making_the_experiment_is_lost(self, server, tmp_path):
        """Asking again finds it: the key is our own."""
        server.faults["logger/add/run"].append("lose")
        account = deliver(write_attempt(tmp_path / "run", points(3)), server)

        assert account.complete
        assert server.experiment.series("loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]

    def test_an_answer_lost_after_applying(self, server, tmp_path):
        """The same points come again, equal to the digit; lines and parameters replace theirs."""
        run_dir = write_attempt(tmp_path / "run", [line(0), *points(3)], config={"lr": 1})
        for call in (METRIC, PARAMETER, "write/experiment/output"):
            server.faults[call].append("lose")
        account = deliver(run_dir, server)

        found = server.experiment
        assert account.complete
        assert found.points == 2 * found.points[:3]
        assert found.lines == {0: ("line 0\n", False)}
        assert found.params == {"lr": 1}

    def test_a_refused_moment_repeats_nothing(self, server, tmp_path):
        """5,000 points and lines in many requests, every other of which fails at first."""
        metrics = {f"m{k}": 1.0 for k in range(300)}
        events = [MetricsLogged(step=n, metrics=metrics) for n in range(16)]
        run_dir = write_attempt(tmp_path / "run", [*events, *(line(n) for n in range(1200))])
        server.faults[METRIC].extend([None, 500, None, 503, 502])
        server.faults["write/experiment/output"].extend([None, 500])
        account = deliver(run_dir, server)

        assert account.complete
        assert len(server.experiment.points) == len(set(server.experiment.points)) == 4800
        assert server.experiment.lines == {n: (f"line {n}\n", False) for n in range(1200)}

    def test_a_record_of_many_metrics(self, server, tmp_path):
        """Its requests are remembered one by one."""
        event = MetricsLogged(step=1, metrics={f"m{k}": 1.0 for k in range(2500)})
        server.faults[METRIC].extend([None, 500, None, 500])
        account = deliver(write_attempt(tmp_path / "run", [event, *points(1)]), server)

        assert account.complete
        assert len(server.experiment.points) == len(set(server.experiment.points)) == 2501

    def test_a_resumed_run_keeps_the_first_value(self, server, tmp_path):
        """Steps that are trained again are left out, for each metric by itself."""
        run_dir = write_attempt(tmp_path / "run", [*points(10), *points(3, "rare")], outcome=None)
        deliver(run_dir, server)
        events = [*points(12, first=2), *points(12, "rare", first=2)]
        write_attempt(run_dir, events, attempt=2, from_step=1)
        deliver(run_dir, server, SmallBatches)

        assert [step for step, _ in server.experiment.series("loss")] == list(range(14))
        assert [step for step, _ in server.experiment.series("rare")] == list(range(14))
        assert server.experiment.others["hotloop.attempt"] == 2

    def test_lines_go_on_where_they_ended(self, server, tmp_path):
        """In another process and attempt, too."""
        run_dir = write_attempt(tmp_path / "run", [line(0), line(1)], outcome=None)
        deliver(run_dir, server)
        write_attempt(run_dir, [line(2)], attempt=2, from_step=1)
        deliver(run_dir, server)

        assert server.experiment.lines == {n: (f"line {n}\n", False) for n in range(3)}


class TestRequests:
    """What Comet is told."""

    def test_limits(self, server, tmp_path):
        """At most 1000 items a request, names of 100 characters, texts of 1000."""
        long = {f"{'k' * 120}{n}": "v" * 2000 for n in range(2)}
        run_dir = write_attempt(
            tmp_path / "run",
            [MetricsLogged(step=n, metrics={f"m{k}": 1.0 for k in range(700)}) for n in range(4)],
            config={f"p{k}": k for k in range(1500)} | long,
        )
        account = deliver(run_dir, server)

        assert account.complete
        assert account.dead == 0
        assert len(server.experiment.points) == 2800
        assert len(server.experiment.params) == 1502
        assert len(server.calls(METRIC)) == 4
        assert len(server.calls(PARAMETER)) == 2

    def test_where_a_run_is_stands_in_one_value(self, server, tmp_path):
        """Each single value is a request: a run begins with three, a later attempt is numbered."""
        run_dir = write_attempt(tmp_path / "run", points(1), outcome=None)
        deliver(run_dir, server)
        write_attempt(run_dir, points(1), attempt=2, from_step=1)
        deliver(run_dir, server)

        keys = [body["key"] for body in server.calls("write/experiment/log-other")]
        assert keys[:3] == ["Name", "Created from", "hotloop.facts"]
        assert keys[4:7] == ["hotloop.attempt", "Created from", "hotloop.facts"]
        told = f"host here, git_commit {'0' * 40}, command train.py"
        assert server.experiment.others["hotloop.facts"] == told

    def test_times_steps_and_epochs_are_those_of_the_events(self, server, tmp_path):
        """Not of sending."""
        event = MetricsLogged(time=1_700_000_000.25, step=3, metrics={"loss": 1.0, "epoch": 0.5})
        deliver(write_attempt(tmp_path / "run", [event]), server)

        assert server.experiment.points == [
            ("loss", 3, 0.5, 1.0, None, 1_700_000_000_250),
            ("epoch", 3, 0.5, 0.5, None, 1_700_000_000_250),
        ]

    def test_numbers_that_json_lacks(self, server, tmp_path):
        """NaN and infinities are the words of Comet's own client, never null."""
        numbers = {"a": math.nan, "b": math.inf, "c": -math.inf}
        run_dir = write_attempt(
            tmp_path / "run", [MetricsLogged(step=1, metrics=numbers)], config={"nan": math.nan}
        )
        deliver(run_dir, server)

        words = [value for _, _, _, value, _, _ in server.experiment.points]
        assert words == ["NaN", "Infinity", "-Infinity"]
        assert server.experiment.params == {"nan": "NaN"}

    def test_parameters(self, server, tmp_path):
        """Nested ones are joined by `|`; later ones replace earlier ones."""
        run_dir = write_attempt(
            tmp_path / "run",
            [ParametersLogged(parameters={"lr": 0.2})],
            config={
                "lr": 0.1,
                "none": None,
                "flag": True,
                "list": [2, 3],
                "big": 2**70,
                "opt": {"name": "adam", "betas": {"one": 0.9}},
                "empty": {},
            },
        )
        deliver(run_dir, server)

        assert server.experiment.params == {
            "lr": 0.2,
            "none": None,
            "flag": True,
            "list": [2, 3],
            "big": str(2**70),
            "opt|name": "adam",
            "opt|betas|one": 0.9,
            "empty": "{}",
        }
        assert server.experiment.others["hasNestedParams"] is True

    def test_an_evaluation_that_was_logged_too_is_one_point(self, server, tmp_path):
        """As a trainer does it: first the metrics, then the evaluation."""
        run_dir = write_attempt(
            tmp_path / "run",
            [
                MetricsLogged(step=4, metrics={"eval_loss": 0.5}),
                Evaluated(step=4, metrics={"eval_loss": 0.5, "f1": 0.25}, dataset="dev"),
            ],
        )
        deliver(run_dir, server)

        assert server.experiment.series("eval_loss") == [(4, 0.5)]
        assert server.experiment.series("eval/dev/f1") == [(4, 0.25)]

    @pytest.mark.parametrize(
        ("first", "settings"), [([], {"rewrite": True}), ([TrainerInitialized()], {})]
    )
    def test_names_as_transformers_rewrites_them(self, server, tmp_path, first, settings):
        """If asked, and under our trainer; the summary of a training is no exception."""
        run_dir = write_attempt(
            tmp_path / "run",
            [
                *first,
                MetricsLogged(step=4, metrics={"loss": 0.5, "epoch": 1.0}),
                MetricsLogged(step=4, metrics={"eval_loss": 0.5, "test_f1": 0.5}),
                Evaluated(step=4, metrics={"eval_loss": 0.5}),
                TrainEnded(step=4, metrics={"train_runtime": 9.0}),
            ],
        )
        deliver(run_dir, server, **settings)

        names = [name for name, *_ in server.experiment.points]
        assert names == ["train/loss", "train/epoch", "eval/loss", "test/f1", "train/train_runtime"]

    def test_everything_else(self, server, tmp_path):
        """Summaries, alerts, messages and numbers about the machine, each in Comet's place."""
        run_dir = write_attempt(
            tmp_path / "run",
            [
                SummaryLogged(values={"best": {"loss": math.inf, "at": "step 3"}}),
                AlertRaised(title="late", text="rank 3", level="error"),
                MessageLogged(text="half done"),
                SystemMetricsLogged(metrics={"gpu/0/memory": 0.5}),
            ],
        )
        deliver(run_dir, server, others={"note": "n"}, experiment_tags="a, b,")

        found = server.experiment
        shown = {"best|loss": "Infinity", "best|at": "step 3", "alert": "error: late", "note": "n"}
        assert shown.items() <= found.others.items()
        assert found.tags == ["a", "b"]
        assert found.lines == {0: ("half done\n", False)}
        assert found.series("sys.gpu.0.memory") == [(None, 0.5)]
        assert found.files() == {"auto-generated-in-the-backend": b"late\n\nrank 3\n"}
        assert found.notes == []

    def test_alerts_are_mailed_if_wanted(self, server, tmp_path):
        """By Comet, to the account's owner; not unless it is asked for."""
        server.faults["asset/upload"].append(500)
        run_dir = write_attempt(tmp_path / "run", [AlertRaised(title="late", text="rank 3")])
        deliver(run_dir, server, notify=True)

        assert server.experiment.notes == ["late"]


class TestLife:
    """How an experiment begins, lives and ends."""

    @pytest.mark.parametrize(
        ("outcome", "crashed", "error"),
        [
            ("finished", False, None),
            ("failed", True, "ValueError: no"),
            ("stopped", False, None),
            ("preempted", False, None),
            (None, True, "the run crashed"),
        ],
    )
    def test_the_outcome_is_shown(self, server, tmp_path, outcome, crashed, error):
        """A run that nobody ended crashed; Comet has no word for one that was stopped."""
        said = "ValueError: no" if outcome == "failed" else None
        deliver(write_attempt(tmp_path / "run", [], outcome=outcome, error=said), server)

        found = server.experiment
        assert (found.alive, found.crashed, found.error) == (False, crashed, error)
        assert found.others["hotloop.outcome"] == (outcome or "crashed")

    def test_a_resumed_run_is_no_crashed_one(self, server, tmp_path):
        """The mark is taken away as soon as the run goes on, in the same experiment."""
        run_dir = write_attempt(tmp_path / "run", points(2), outcome=None)
        deliver(run_dir, server)
        crashed = server.experiment.crashed
        server.experiment.others["Name"] = "renamed by a person"
        write_attempt(run_dir, points(2, first=2), attempt=2, from_step=1)
        deliver(run_dir, server)

        states = [(body["isAlive"], body["hasCrashed"]) for body in server.calls(STATUS)]
        assert crashed
        assert states == [(False, True), (True, False), (False, False)]
        assert server.experiment.others["Name"] == "renamed by a person"
        assert list_cursors(run_dir)["comet"].state["experiment_key"] == server.experiment.key

    def test_signs_of_life(self, tmp_path):
        """As often as Comet wants them, also while nothing is logged."""
        with StandIn(beat=20) as server:
            sink = CometSink(api_key=KEY, url_override=server.url)
            with runtime.Run(name="alive", dir=tmp_path, sinks=[sink]):
                eventually(lambda: server.experiments and server.experiment.beats > 3)
            assert not server.experiment.alive

    @pytest.mark.slow
    @pytest.mark.parametrize("deliver", ["thread", "process"])
    def test_the_stop_button(self, tmp_path, deliver):
        """Reaches the loop with its source, wherever the sink runs, and is noted as Comet does."""
        with StandIn(beat=20) as server:
            sink = CometSink(api_key=KEY, url_override=server.url)
            with runtime.Run(name="stop", dir=tmp_path, sinks=[sink], deliver=deliver) as run:
                eventually(lambda: server.experiments)
                server.experiment.press_stop()
                steps = iter(range(1, 1 << 30))
                eventually(lambda: run.safe_point(step=next(steps)).stop)
                eventually(lambda: "experiment_stopped_by_user" in server.experiment.others)

        found = server.experiment.others
        assert found["experiment_stopped_by_user"] is True
        assert found["hotloop.outcome"] == "stopped"
        assert "comet" in found["hotloop.reason"]
        assert "stopped by ada" in found["hotloop.reason"]

    def test_calls_of_users_are_none_of_ours(self, tmp_path):
        """Only the button stops; what a program defines for itself is left alone."""
        with StandIn(beat=20) as server:
            sink = CometSink(api_key=KEY, url_override=server.url)
            with runtime.Run(name="calls", dir=tmp_path, sinks=[sink]) as run:
                eventually(lambda: server.experiments)
                server.experiment.press_stop()
                server.experiment.calls[0]["cometDefined"] = False
                eventually(lambda: not server.experiment.calls)
                beats = server.experiment.beats
                eventually(lambda: server.experiment.beats > beats + 1)
                assert not run.safe_point(step=1).stop

    def test_a_throttled_run_is_not_marked_for_ever(self, server, tmp_path):
        """Comet's pause is kept, and its warning taken away when all data is there."""
        server.faults[METRIC].append(
            Refused(429, 0, "Too many requests", {"Retry-After-Custom": "0.01"})
        )
        account = deliver(write_attempt(tmp_path / "run", points(3)), server)

        assert account.complete
        assert len(server.experiment.points) == 3
        marks = [call for _, call, _ in server.requests if call.endswith("/mark-not-throttled")]
        assert len(marks) == 1


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (200, 0, None),
        (400, 90212, "Misconfigured"),
        (400, 90219, "Misconfigured"),
        (403, 7000011, "Misconfigured"),
        (400, 7000020, "Misconfigured"),
        (400, 90999, "Exists"),
        (400, 7000005, "AlreadyThere"),
        (400, 7000001, "Rejected"),
        (400, 0, "Rejected"),
        (429, 0, "Throttled"),
        (500, 90212, "Unavailable"),
        (401, 0, "Misconfigured"),
    ],
)
def test_what_an_answer_means(status, code, kind):
    """Comet's own code comes before its status."""
    sink = CometSink(api_key=KEY)
    text = f'{{"msg": "no", "code": {status}, "sdk_error_code": {code}}}'
    error = sink.classify(Response(status, {}, text), now=0.0)

    assert (error and type(error).__name__) == (kind and f"{kind}Error")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-custom": "3"}, 3.5),
        ({"retry-after": "7"}, 7.0),
        ({}, 60.0),
        ({"retry-after-custom": "inf"}, 60.0),
    ],
)
def test_how_long_comet_wants_to_be_left_alone(headers, seconds):
    """Its own header, or the usual one of a proxy, or a minute."""
    error = CometSink(api_key=KEY).classify(Response(429, headers, ""), now=0.0)

    assert error.retry_after == seconds


def test_no_minute_holds_more_than_comet_takes():
    """25,000 points take two minutes; what is of another kind does not wait for them."""

    async def send():
        rates = Rates()
        began = trio.current_time()
        for _ in range(25):
            await rates.room("metric", 1000)
        metrics = trio.current_time() - began
        await rates.room("parameter", 1000)
        return metrics, trio.current_time() - began

    metrics, both = trio.run(send, clock=trio.testing.MockClock(autojump_threshold=0))
    assert 120 <= metrics <= 121
    assert both == metrics
