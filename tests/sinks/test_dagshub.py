"""What the DagsHub sink sends: its MLflow as the sink `mlflow`, its files as DagsHub's client."""

import base64
from functools import partial
from pathlib import Path

import anyio
import pytest

from bus import (
    ArtifactReady,
    CheckpointSaved,
    MetricsLogged,
    NotConfiguredError,
    TextLogged,
    list_cursors,
    sync_run,
    unheld,
)
from bus._handover import PlainSink
from sinks.dagshub import DagsHubSink
from tests.servers.dagshub import REPOSITORY, TOKEN, USER, Refused, StandIn
from tests.servers.journals import QUICK, write_attempt

pytestmark = pytest.mark.usefixtures("environment")

ARGUMENT = "another token"
URI = f"https://dagshub.com/{REPOSITORY}.mlflow"


@pytest.fixture
def server():
    with StandIn() as server:
        yield server


def deliver(run_dir, server, **settings):
    given = {"user_token": TOKEN, **settings}
    sink = DagsHubSink(tracking_uri=server.tracking_uri, **given)
    (account,) = sync_run(run_dir, [sink], pace=QUICK, timeout=15)
    return account


def points(count):
    return [MetricsLogged(step=n, metrics={"loss": float(n)}) for n in range(count)]


def checkpoint(folder, step, files=("model.safetensors", "config.json")):
    """A checkpoint's folder with these files, and the event that tells of it."""
    path = folder / f"checkpoint-{step}"
    for name in files:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(f"{name} of {step}".encode())
    return CheckpointSaved(step=step, path=str(path))


def bearer(token):
    return {"authorization": f"Bearer {token}"}


def basic(pair):
    return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


class TestTheRun:
    """It is in the repository's MLflow, and ends there."""

    def test_it_arrives_and_is_ended(self, server, tmp_path):
        """Upstream's callback leaves it running."""
        run_dir = write_attempt(tmp_path / "run", points(3), config={"lr": 0.1})
        account = deliver(run_dir, server)

        assert account.complete
        assert server.run.series("loss") == [(n, float(n)) for n in range(3)]
        assert server.run.params == {"lr": "0.1"}
        assert server.run.tags["mlflow.user"] == USER
        assert server.run.info["status"] == "FINISHED"
        (run_id,) = server.runs
        assert account.url == f"{server.tracking_uri}/#/experiments/1/runs/{run_id}"

    @pytest.mark.parametrize(
        ("outcome", "status"), [("failed", "FAILED"), ("preempted", "KILLED"), (None, "FAILED")]
    )
    def test_how_it_ended_is_told(self, server, tmp_path, outcome, status):
        """Also of a run that nobody could end."""
        deliver(write_attempt(tmp_path / "run", points(1), outcome=outcome), server)

        assert server.run.info["status"] == status

    def test_a_resumed_run_is_the_same_and_keeps_the_first_value(self, server, tmp_path):
        """Steps that are trained again are left out; an answer that was lost doubles nothing."""
        run_dir = write_attempt(tmp_path / "run", points(4), outcome=None)
        deliver(run_dir, server)
        server.faults["runs/log-batch"].append("lose")
        again = [MetricsLogged(step=n, metrics={"loss": -1.0}) for n in range(2, 6)]
        write_attempt(run_dir, again, attempt=2, from_step=1)
        deliver(run_dir, server)

        assert server.run.series("loss") == [
            *((n, float(n)) for n in range(4)),
            *((n, -1.0) for n in (4, 5)),
        ]
        assert server.run.info["status"] == "FINISHED"

    def test_texts_go_to_mlflow(self, server, tmp_path):
        """Only files are committed."""
        run_dir = write_attempt(tmp_path / "run", [TextLogged(step=1, key="sample", text="To be")])
        deliver(run_dir, server, log_artifacts="all")

        assert list(server.files.values()) == [b"To be"]
        assert server.calls("content") == []
        assert server.branches["main"].files == {}


class TestFiles:
    """They are committed to the repository."""

    @pytest.mark.parametrize(
        ("when", "kept"),
        [("never", []), ("end", [2]), ("checkpoints", [1, 2]), ("all", [1, 2])],
    )
    def test_when_they_are_committed(self, server, tmp_path, when, kept):
        """At the end, what is still there: upstream's callback commits the whole folder then."""
        (tmp_path / "data.csv").write_text("1,2")
        events = [
            checkpoint(tmp_path, 1),
            checkpoint(tmp_path, 2),
            ArtifactReady(path=str(tmp_path / "data.csv"), kind="dataset", name="data.csv"),
        ]
        if when == "end":
            for name in ("model.safetensors", "config.json"):
                (tmp_path / "checkpoint-1" / name).unlink()
            (tmp_path / "checkpoint-1").rmdir()
        account = deliver(write_attempt(tmp_path / "run", events), server, log_artifacts=when)

        assert account.complete
        expected = {
            f"artifacts/checkpoint-{step}/{name}": f"{name} of {step}".encode()
            for step in kept
            for name in ("model.safetensors", "config.json")
        }
        if when in ("end", "all"):
            expected["artifacts/datasets/data.csv"] = b"1,2"
        assert server.branches["main"].files == expected

    def test_a_checkpoint_is_one_commit(self, server, tmp_path):
        """Of up to 100 files; names are those below the one folder that DVC versions."""
        names = [f"sub/part-{n:03d}" for n in range(130)]
        events = [checkpoint(tmp_path, 7), checkpoint(tmp_path, 8, names)]
        deliver(write_attempt(tmp_path / "run", events), server, log_artifacts="checkpoints")

        branch = server.branches["main"]
        assert branch.commits == [
            "checkpoint-7 of the run run",
            "checkpoint-8 of the run run",
            "checkpoint-8 of the run run",
        ]
        assert len(branch.files) == 132
        place = f"/api/v1/repos/{REPOSITORY}/content/main/artifacts"
        assert set(server.calls("content")) == {place}

    def test_an_mlflow_that_stores_no_texts(self, tmp_path, caplog):
        """Is one warning; files are commits all the same."""
        events = [TextLogged(step=1, key="sample", text="To be"), checkpoint(tmp_path, 1)]
        with StandIn(serves_artifacts=False) as server:
            account = deliver(
                write_attempt(tmp_path / "run", events), server, log_artifacts="checkpoints"
            )

        assert account.complete
        assert len(server.branches["main"].files) == 2
        assert len([each for each in caplog.messages if "texts are not uploaded" in each]) == 1

    def test_names_that_a_form_must_quote(self, server, tmp_path):
        """A quotation mark, a line feed and letters beyond ASCII reach the repository."""
        names = ('a "b".txt', "c\nd", "\u00e9 e")
        event = checkpoint(tmp_path, 1, names)
        deliver(write_attempt(tmp_path / "run", [event]), server, log_artifacts="all")

        assert set(server.branches["main"].files) == {
            f"artifacts/checkpoint-1/{name}" for name in names
        }

    def test_a_later_run_replaces_what_has_its_name(self, server, tmp_path):
        """On top of the commit that is there, which the server wants named."""
        for text in ("one", "two"):
            event = checkpoint(tmp_path / text, 1, (text, "same"))
            (Path(event.path) / "same").write_text(text)
            run_dir = write_attempt(tmp_path / f"run-{text}", [event])
            deliver(run_dir, server, log_artifacts="all")

        assert server.branches["main"].files["artifacts/checkpoint-1/same"] == b"two"
        assert len(server.branches["main"].commits) == 2

    def test_a_branch_that_is_not_there_is_made(self, server, tmp_path, environment):
        """BRANCH names it; it begins where the default one is."""
        environment.setenv("BRANCH", "runs/1")
        events = [checkpoint(tmp_path, 1), checkpoint(tmp_path, 2)]
        deliver(write_attempt(tmp_path / "run", events), server, log_artifacts="all")

        assert set(server.branches) == {"main", "runs/1"}
        assert server.branches["main"].commits == []
        assert len(server.branches["runs/1"].files) == 4

    def test_a_lost_answer_makes_no_second_commit(self, server, tmp_path):
        """The same files make no new version, and a retry goes on behind what is committed."""
        server.faults["content"].extend([None, "lose"])
        events = [checkpoint(tmp_path, 1), checkpoint(tmp_path, 2)]
        account = deliver(
            write_attempt(tmp_path / "run", events), server, log_artifacts="checkpoints"
        )

        assert account.complete
        assert len(server.branches["main"].commits) == 2
        assert len(server.calls("content")) == 3

    @pytest.mark.parametrize("words", ["server error", "invalid last_commit"])
    def test_what_passes_is_tried_again(self, server, tmp_path, words):
        """Somebody else's commit came first, or the server stumbled."""
        server.faults["content"].append(Refused(400, words))
        account = deliver(
            write_attempt(tmp_path / "run", [checkpoint(tmp_path, 1)]),
            server,
            log_artifacts="checkpoints",
        )

        assert account.complete
        assert len(server.branches["main"].files) == 2

    def test_a_last_commit_that_is_never_taken(self, server, tmp_path, caplog):
        """Is tried once more and then a warning, so that the metrics behind it get on."""
        server.faults["content"].extend([Refused(422, "invalid last_commit")] * 2)
        events = [checkpoint(tmp_path, 1), *points(3)]
        account = deliver(
            write_attempt(tmp_path / "run", events), server, log_artifacts="checkpoints"
        )

        assert account.complete
        assert len(server.run.series("loss")) == 3
        assert len(server.calls("content")) == 2
        assert len([each for each in caplog.messages if "was not stored" in each]) == 1

    def test_what_is_refused_holds_up_nothing(self, server, tmp_path, caplog):
        """One warning with the server's words; metrics and later files arrive."""
        server.faults["content"].append(Refused(422, "path conflict"))
        events = [checkpoint(tmp_path, 1), *points(3), checkpoint(tmp_path, 2)]
        account = deliver(
            write_attempt(tmp_path / "run", events), server, log_artifacts="checkpoints"
        )

        assert account.complete
        assert account.dead == 0
        assert len(server.run.series("loss")) == 3
        assert len(server.branches["main"].files) == 2
        (warning,) = [each for each in caplog.messages if "was not stored in DagsHub" in each]
        assert "path conflict" in warning

    def test_what_is_being_committed_is_not_rotated_away(self, server, tmp_path):
        """Its folder is held until the server has it."""
        event = checkpoint(tmp_path, 1)
        held = []

        def note(call):
            if call == "content":
                with unheld(Path(event.path)) as free:
                    held.append(not free)

        server.before = note
        deliver(write_attempt(tmp_path / "run", [event]), server, log_artifacts="checkpoints")

        assert held == [True]
        with unheld(Path(event.path)) as free:
            assert free

    def test_a_mirror_shows_a_commit_before_the_next_one(self, tmp_path):
        """Its original has the commit only later; until then the metrics' batch waits."""
        with StandIn(mirror=True) as server:
            seen = []

            def note(call):
                if call == "branches":
                    seen.append(server.branches["main"].head == server.shown)
                    if len(seen) == 4:
                        server.sync()

            server.before = note
            events = [checkpoint(tmp_path, 1), checkpoint(tmp_path, 2)]
            account = deliver(
                write_attempt(tmp_path / "run", events), server, log_artifacts="checkpoints"
            )

        assert account.complete
        assert seen == [True, False, False, False]
        assert len(server.branches["main"].commits) == 2
        assert len(server.calls("content")) == 2


class TestSettings:
    """Arguments beat the environment, that beats the file of `dagshub login`."""

    def test_what_is_missing_is_said(self, environment):
        """With the variables, and where a token is."""
        with pytest.raises(NotConfiguredError) as caught:
            DagsHubSink()
        assert "MLFLOW_TRACKING_URI" in str(caught.value)
        assert "https://dagshub.com/user/settings/tokens" in str(caught.value)
        environment.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
        with pytest.raises(NotConfiguredError, match="use the sink mlflow"):
            DagsHubSink()

    def test_a_repository_is_enough(self, environment):
        """Its MLflow is where DagsHub has it, at DAGSHUB_CLIENT_HOST if that is elsewhere."""
        environment.setenv("DAGSHUB_REPOSITORY", REPOSITORY)
        assert DagsHubSink().settings.tracking_uri == URI
        environment.setenv("DAGSHUB_CLIENT_HOST", "https://dagshub.example.org/")
        assert DagsHubSink().settings.api == "https://dagshub.example.org/api/v1"
        uri = f"https://elsewhere/sub/{REPOSITORY}.mlflow"
        sink = DagsHubSink(tracking_uri=uri)
        assert sink.settings.api == "https://elsewhere/sub/api/v1"
        assert sink.settings.owner_and_name == REPOSITORY

    def test_who_writes(self, environment, tmp_path):
        """A token of the file, of a variable, of an argument; a user of either's variables."""
        tokens = tmp_path / ".cache" / "dagshub" / "tokens"
        tokens.parent.mkdir(parents=True)
        tokens.write_text(
            "http://127.0.0.1:3000:\n- access_token: other\n  expiry: never\n"
            "https://dagshub.com:\n"
            "- access_token: brief\n  expiry: '2999-01-01T00:00:00.000000Z'\n  token_type: bearer\n"
            "- access_token: old\n  expiry: '2020-01-01T00:00:00.000000Z'\n  token_type: bearer\n"
            "- access_token: '123'\n  expiry: never\n  token_type: app-token\n"
            "version: '1'\n"
        )
        assert DagsHubSink(tracking_uri=URI).headers() == bearer("123")
        other = DagsHubSink(repository=REPOSITORY, host="http://127.0.0.1:3000")
        assert other.headers() == bearer("other")
        environment.setenv("DAGSHUB_USERNAME", "somebody")
        environment.setenv("DAGSHUB_PASSWORD", "word")
        assert DagsHubSink(tracking_uri=URI).headers() == basic("somebody:word")
        environment.setenv("DAGSHUB_USER_TOKEN", "variable")
        assert DagsHubSink(tracking_uri=URI).headers() == bearer("variable")
        environment.setenv("MLFLOW_TRACKING_USERNAME", "me")
        assert DagsHubSink(tracking_uri=URI).headers() == basic("me:variable")
        environment.setenv("MLFLOW_TRACKING_PASSWORD", "pass")
        assert DagsHubSink(tracking_uri=URI).headers() == basic("me:pass")
        given = DagsHubSink(tracking_uri=URI, user_token=ARGUMENT)
        assert given.headers() == bearer(ARGUMENT)
        assert ARGUMENT not in repr(given.settings)

    def test_a_file_that_is_none_of_dagshubs(self, environment, tmp_path):
        """It is no reason to fail: there may be no token in it."""
        (tmp_path / "tokens").write_text("- just\n- a: list\n  of\n")
        environment.setenv("DAGSHUB_CLIENT_TOKENS_CACHE", str(tmp_path / "tokens"))

        assert DagsHubSink(tracking_uri=URI).headers() == {}

    def test_another_process_gets_the_same(self, environment):
        """Settings are plain data, secrets included."""
        environment.setenv("HF_DAGSHUB_LOG_ARTIFACTS", "TRUE")
        environment.setenv("BRANCH", "dev")
        sink = DagsHubSink(tracking_uri=URI, user_token=TOKEN)
        environment.delenv("HF_DAGSHUB_LOG_ARTIFACTS")
        environment.delenv("BRANCH")
        again = PlainSink.of(sink).make()

        assert again.settings == sink.settings
        assert sink.settings.log_artifacts == "end"
        assert sink.settings.branch == "dev"

    def test_the_tokens_owner_is_asked_for(self, server, tmp_path):
        """DagsHub's MLflow is told the name, its own interface the token."""
        event = checkpoint(tmp_path, 1)
        deliver(write_attempt(tmp_path / "run", [event]), server, log_artifacts="all")

        sent = {}
        for (_, call, _), headers in zip(server.requests, server.headers, strict=True):
            ours = call in ("user", "repos", "branches", "content")
            sent.setdefault(ours, set()).add(headers["authorization"])
        assert sent == {
            False: {basic(f"{USER}:{TOKEN}")["authorization"]},
            True: {f"Bearer {TOKEN}"},
        }

    def test_a_user_commits_too(self, server, tmp_path):
        """Who has no token but a password, or a token as one."""
        event = checkpoint(tmp_path, 1)
        deliver(
            write_attempt(tmp_path / "run", [event]),
            server,
            user_token=None,
            tracking_username=USER,
            tracking_password=TOKEN,
            log_artifacts="all",
        )

        assert len(server.branches["main"].files) == 2
        assert server.calls("user") == []

    def test_a_wrong_token_is_said(self, server, tmp_path):
        """Delivery waits for a better one."""
        account = deliver(write_attempt(tmp_path / "run", points(2)), server, user_token=ARGUMENT)

        assert account.status == "suspended"
        assert account.pending == 4
        assert "check the credentials" in account.reason


def test_a_check_makes_nothing(server):
    """Who answers, and what would be made."""

    async def check():
        sink = DagsHubSink(tracking_uri=server.tracking_uri, user_token=TOKEN)
        try:
            return await sink.check()
        finally:
            await sink.release()

    words = anyio.run(partial(check))
    assert words == f"{REPOSITORY}: DagsHub answers; the experiment 'Default' is there"
    assert server.runs == {}


def test_the_remote_run_is_remembered(server, tmp_path):
    """Its id is in the cursor, whoever goes on."""
    run_dir = write_attempt(tmp_path / "run", [])
    deliver(run_dir, server)

    (run_id,) = server.runs
    assert list_cursors(run_dir)["dagshub"].state["run_id"] == run_id
