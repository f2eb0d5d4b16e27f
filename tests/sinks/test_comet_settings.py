"""Where the Comet sink finds its settings, and what it says of those that are missing or wrong."""

import base64
import json

import anyio
import pytest

from bus import MessageLogged, MisconfiguredError, NotConfiguredError
from bus._handover import PlainSink
from sinks.comet import CometSink
from tests.servers.comet import KEY, Refused, StandIn
from tests.servers.comet_runs import deliver, points
from tests.servers.journals import write_attempt

EXPERIMENT = "e" * 32


pytestmark = pytest.mark.usefixtures("no_comet")


@pytest.fixture
def server():
    with StandIn() as server:
        yield server


def checked(**settings):
    """What `check` says."""

    async def check():
        sink = CometSink(**settings)
        try:
            return await sink.check()
        finally:
            await sink.release()

    return anyio.run(check)


def smart(**facts):
    """A key that names its server, without the padding of its base64."""
    return f"abc*{base64.b64encode(json.dumps(facts).encode()).decode().rstrip('=')}"


class TestSources:
    """Arguments, variables, `.env`, and three files, in this order."""

    def test_what_is_missing_is_said(self, environment):
        """With the variable that sets it, and where a key is to be had."""
        with pytest.raises(NotConfiguredError, match="COMET_API_KEY") as caught:
            CometSink()
        assert "https://www.comet.com/account-settings/apiKeys" in str(caught.value)
        environment.setenv("COMET_MODE", "DISABLED")
        with pytest.raises(NotConfiguredError, match="COMET_MODE is disabled"):
            CometSink(api_key=KEY)

    def test_the_first_source_counts(self, environment, tmp_path):
        """For each setting by itself."""
        home, here = tmp_path / "home" / ".comet.config", tmp_path / "here" / ".comet.config"
        home.write_text("[comet]\napi_key = from-home\nworkspace = home\nproject_name = 50%\n")
        sink = CometSink()
        assert sink.headers() == {"authorization": "from-home"}
        assert sink.settings.project_name == "50%"

        here.write_text("[comet]\napi_key = 'from-here'\n[comet_start]\nonline = 0\n")
        sink = CometSink()
        assert sink.headers() == {"authorization": "from-here"}
        assert sink.settings.workspace == "home"
        assert sink.settings.offline

        elsewhere = tmp_path / "named.ini"
        elsewhere.write_text("[comet]\napi_key = from-named\n")
        environment.setenv("COMET_CONFIG", str(elsewhere))
        assert CometSink().headers() == {"authorization": "from-named"}

        (tmp_path / "here" / ".env").write_text('OTHER=1\nexport COMET_API_KEY="from-dotenv"\n')
        assert CometSink().headers() == {"authorization": "from-dotenv"}
        environment.setenv("COMET_API_KEY", "from-variable")
        assert CometSink().headers() == {"authorization": "from-variable"}
        assert CometSink(api_key="given").headers() == {"authorization": "given"}

    def test_a_file_that_cannot_be_read_is_none(self, environment, tmp_path):
        """It is Comet's, and may be for a client of another age."""
        (tmp_path / "home" / ".comet.config").write_text("no section\n")
        (tmp_path / "here" / ".env").write_bytes(b"\xff\xfe")
        environment.setenv("COMET_API_KEY", KEY)

        assert CometSink().headers() == {"authorization": KEY}

    def test_variables_of_upstreams_callback(self, environment):
        """COMET_MODE beats COMET_START_MODE; words of earlier versions are understood."""
        environment.setenv("COMET_START_MODE", "create")
        assert CometSink(api_key=KEY).settings.mode == "create"
        for word, mode in {"ONLINE": "get_or_create", "Create": "create"}.items():
            environment.setenv("COMET_MODE", word)
            assert CometSink(api_key=KEY).settings.mode == mode
        environment.setenv("COMET_MODE", "OFFLINE")
        assert CometSink(api_key=KEY).settings.offline
        environment.setenv("COMET_MODE", "sometimes")
        with pytest.raises(NotConfiguredError, match="COMET_MODE"):
            CometSink(api_key=KEY)
        environment.delenv("COMET_MODE")
        for word, when in {"1": "end", "false": "never", "Checkpoints": "checkpoints"}.items():
            environment.setenv("COMET_LOG_ASSETS", word)
            assert CometSink(api_key=KEY).settings.log_assets == when

    def test_the_rest(self, environment):
        """Tags, single values, certificates, and a header for a proxy."""
        environment.setenv("COMET_START_EXPERIMENT_TAGS", "a, b,,c")
        environment.setenv("COMET_LOG_OTHER_TEAM", "nlp")
        environment.setenv("COMET_INTERNAL_CHECK_TLS_CERTIFICATE", "false")
        environment.setenv("COMET_ALLOW_HEADER_NAME", "x-gate")
        environment.setenv("COMET_ALLOW_HEADER_VALUE", "open sesame")
        sink = CometSink(api_key=KEY)

        assert sink.settings.experiment_tags == ("a", "b", "c")
        assert sink.settings.others == {"team": "nlp"}
        assert sink.settings.verify is False
        assert sink.headers() == {"authorization": KEY, "x-gate": "open sesame"}
        assert "sesame" not in repr(sink.settings)

    def test_another_process_gets_the_same(self, environment):
        """Settings are plain data, secrets included."""
        environment.setenv("COMET_LOG_ASSETS", "1")
        environment.setenv("COMET_LOG_OTHER_TEAM", "nlp")
        sink = CometSink(api_key=KEY, experiment_tags=["a"])
        environment.delenv("COMET_LOG_ASSETS")
        again = PlainSink.of(sink).make()

        assert again.settings == sink.settings


class TestAddress:
    """Where Comet is."""

    @pytest.mark.parametrize(
        ("settings", "root", "clientlib"),
        [
            ({"api_key": KEY}, "https://www.comet.com", "https://www.comet.com/clientlib"),
            (
                {"api_key": smart(baseUrl="https://comet.example.org/")},
                "https://comet.example.org",
                "https://comet.example.org/clientlib",
            ),
            (
                {
                    "api_key": smart(baseUrl="https://comet.example.org/"),
                    "url_override": "http://here:8080/clientlib/",
                },
                "http://here:8080",
                "http://here:8080/clientlib",
            ),
            ({"api_key": "a*b"}, "https://www.comet.com", "https://www.comet.com/clientlib"),
        ],
    )
    def test_where_comet_is(self, settings, root, clientlib):
        """An address beats the one in the key, and the key is sent as it is."""
        sink = CometSink(**settings)

        assert sink.settings.root == root
        assert sink.settings.clientlib == clientlib
        assert sink.headers() == {"authorization": settings["api_key"]}
        assert sink.origins() == (root,)

    def test_what_is_no_address_or_key(self):
        """Is said before anything begins, and the value is not."""
        for wrong in ({"url_override": "ftp://x"}, {"experiment_key": "short"}, {"mode": "get"}):
            with pytest.raises(NotConfiguredError) as caught:
                CometSink(api_key=KEY, **wrong)
            assert KEY not in str(caught.value)


class TestModes:
    """Whether an experiment may be there."""

    def test_get_goes_on_with_one(self, server, tmp_path):
        """And with nothing else: it is not made. Its console lines stay."""
        run_dir = write_attempt(tmp_path / "run", [*points(2), MessageLogged(text="two")])
        account = deliver(run_dir, server, mode="get", experiment_key=EXPERIMENT)
        assert account.status == "suspended"
        assert "check COMET_EXPERIMENT_KEY" in account.reason
        assert server.experiments == {}

        first = write_attempt(tmp_path / "first", [*points(2), MessageLogged(text="one")])
        deliver(first, server, experiment_key=EXPERIMENT)
        account = deliver(run_dir, server, mode="get", experiment_key=EXPERIMENT)
        assert account.complete
        assert len(server.experiment.points) == 4
        assert server.experiment.lines == {0: ("one\n", False), 1: ("two\n", False)}

    def test_create_makes_one(self, server, tmp_path):
        """Of another's key it is told; an answer that was lost is no other's."""
        server.faults["logger/add/run"].append("lose")
        settings = {"mode": "create", "experiment_key": EXPERIMENT}
        account = deliver(write_attempt(tmp_path / "run", points(2)), server, **settings)
        assert account.complete

        account = deliver(write_attempt(tmp_path / "other", points(2)), server, **settings)
        assert account.status == "suspended"
        assert "choose another COMET_EXPERIMENT_KEY" in account.reason
        assert len(server.experiment.points) == 2

    def test_offline_sends_nothing(self, server, tmp_path):
        """`hotloop sync` delivers when it is online again."""
        run_dir = write_attempt(tmp_path / "run", points(2))
        account = deliver(run_dir, server, online=False)
        assert account.status == "suspended"
        assert "hotloop sync" in account.reason
        with pytest.raises(MisconfiguredError, match="offline"):
            checked(api_key=KEY, url_override=server.url, mode="offline")
        assert server.requests == []

        assert deliver(run_dir, server).complete
        assert len(server.experiment.points) == 2

    def test_where_the_run_is_put(self, server, tmp_path):
        """The project is the run's own unless another is named."""
        deliver(write_attempt(tmp_path / "run", []), server, workspace="team")
        assert (server.experiment.project, server.experiment.workspace) == ("tests", "team")
        assert server.experiment.others["Name"] == "run"
        server.experiments.clear()
        named = {"project_name": "vision", "experiment_name": "best so far"}
        deliver(write_attempt(tmp_path / "named", []), server, **named)
        assert server.experiment.project == "vision"
        assert server.experiment.others["Name"] == "best so far"


class TestCheck:
    """`hotloop doctor --sinks`."""

    def test_it_makes_nothing(self, server):
        """It says which version answers, and what the key opens."""
        words = checked(api_key=KEY, url_override=server.url)

        assert words == "Comet 4.40.0 answers; workspaces: ada, team"
        assert server.experiments == {}

    def test_a_key_that_is_none(self, server):
        """What to do is said, and the key is not."""
        with pytest.raises(MisconfiguredError, match="apiKeys") as caught:
            checked(api_key="wrong-0123456789", url_override=server.url)
        assert "wrong-0123456789" not in str(caught.value)

    def test_a_server_that_repeats_the_key(self, server):
        """As Comet does in its words about a wrong one."""
        server.faults["workspaces"].append(Refused(400, 90212, f"The API key '{KEY}' is invalid"))
        with pytest.raises(MisconfiguredError) as caught:
            checked(api_key=KEY, url_override=server.url)
        assert KEY not in str(caught.value)
