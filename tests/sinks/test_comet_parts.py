"""Large files go to Comet's storage in parts, where Comet offers that."""

import pytest

from bus import ArtifactReady, UnavailableError
from sinks._comet_assets import Assets
from sinks._comet_parts import Parting
from sinks._comet_plan import Upload
from sinks._comet_server import CometServer
from sinks._comet_state import Memory
from sinks.comet import CometSink
from tests.servers._comet_parts import Storage
from tests.servers.comet import KEY, StandIn
from tests.servers.comet_runs import deliver
from tests.servers.journals import write_attempt

SMALL = Parting(beyond=1000, part=400)
EXPERIMENT = "e" * 32
WEIGHTS = "best/weights.bin"

pytestmark = pytest.mark.usefixtures("no_comet")


@pytest.fixture
def folder(tmp_path):
    """One small file and one that has three parts."""
    folder = tmp_path / "best"
    folder.mkdir()
    (folder / "config").write_bytes(b"c" * 999)
    (folder / "weights.bin").write_bytes(bytes(range(250)) * 4)
    return folder


@pytest.fixture
def storage():
    with Storage() as storage:
        yield storage


class Uploading:
    """Uploads a folder to a stand-in, as often as it is asked to."""

    def __init__(self, server, assets, folder):
        self.server = server
        self.memory = Memory()
        self._assets = assets
        self._upload = Upload(
            place="1.0.7:best",
            target="best",
            source=str(folder),
            kind="model-element",
            group="best",
            step=3,
            metadata={"loss": 0.5},
        )

    async def __call__(self):
        await self._assets.store(self._upload, self.memory, self._note)

    async def _note(self, place, done):
        self.memory.partly[place] = done

    @property
    def weights(self):
        """What is there of the larger file."""
        return self.server.experiment.files()[WEIGHTS]


@pytest.fixture
async def uploading(anyio_backend, storage, folder):
    """An upload to a stand-in that offers storage, in parts of at most 400 bytes."""
    del anyio_backend
    with StandIn(storage=storage) as server:
        sink = CometSink(api_key=KEY, url_override=server.url)
        comet = CometServer(sink.http, server.url, f"{server.url}/clientlib", KEY)
        experiment = await comet.add_run(EXPERIMENT, None, None, existing=True)
        yield Uploading(server, Assets(sink.http, comet, experiment, SMALL), folder)
        await sink.release()


@pytest.mark.anyio
async def test_a_large_file(uploading, storage, folder):
    """Storage puts it together again; Comet is told what it is told of every file."""
    await uploading()

    told = {query["fileName"]: query for query, _, _ in uploading.server.experiment.assets.values()}
    assert uploading.weights == (folder / "weights.bin").read_bytes()
    assert storage.sizes == [334, 334, 332]
    assert (told[WEIGHTS]["groupingName"], told[WEIGHTS]["step"]) == ("best", 3)
    assert len(uploading.server.calls("asset/upload")) == 1
    assert uploading.memory.left_out == {}


@pytest.mark.anyio
async def test_a_part_that_fails(uploading, storage, folder):
    """The upload goes on where it broke off: each part that arrived is sent once."""
    storage.faults["part"].extend([None, 500, None, 503])
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await uploading()
    await uploading()

    assert uploading.weights == (folder / "weights.bin").read_bytes()
    assert storage.sizes == [334, 334, 334, 332, 332]
    assert len(uploading.server.calls("asset/upload-start")) == 1


@pytest.mark.anyio
async def test_a_file_that_changed_meanwhile(uploading, storage, folder):
    """Parts of another content are no parts of it."""
    storage.faults["part"].extend([None, 500])
    with pytest.raises(UnavailableError):
        await uploading()
    (folder / "weights.bin").write_bytes(b"w" * 1100)
    await uploading()

    assert uploading.weights == b"w" * 1100


@pytest.mark.parametrize("status", [400, 403, 404])
@pytest.mark.anyio
async def test_an_upload_that_storage_has_ended(uploading, storage, folder, status):
    """It begins again, with other addresses; nobody has to change a setting."""
    storage.faults["part"].extend([None, 500, status])
    for again in ("HTTP 500", "begins again"):
        with pytest.raises(UnavailableError, match=again):
            await uploading()
    await uploading()

    assert uploading.weights == (folder / "weights.bin").read_bytes()
    assert len(uploading.server.calls("asset/upload-start")) == 2


@pytest.mark.anyio
async def test_parts_were_put_together_and_the_answer_was_lost(uploading, storage, folder):
    """The file is there then, whatever Comet says to a second asking; it is sent once."""
    uploading.server.faults["asset/upload-complete"].append("lose")
    with pytest.raises(UnavailableError):
        await uploading()
    with pytest.raises(UnavailableError, match="begins again"):
        await uploading()
    await uploading()

    assert uploading.weights == (folder / "weights.bin").read_bytes()
    assert storage.sizes == [334, 334, 332]
    assert uploading.memory.left_out == {}


@pytest.mark.parametrize("offers", [True, False])
def test_what_is_larger_than_a_request_may_be(tmp_path, offers):
    """Goes to storage all the same, if Comet offers it: the limit is one of requests."""
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate((50 << 20) + 1)
    saved = ArtifactReady(path=str(large), kind="dataset", name="large.bin")
    run_dir = write_attempt(tmp_path / "run", [saved])
    with Storage() as storage, StandIn(storage=storage if offers else None, largest=1) as server:
        account = deliver(run_dir, server, log_assets="all")
        found = server.experiment.files()

    assert account.complete
    assert storage.sizes == ([13_107_201] * 3 + [13_107_198] if offers else [])
    assert found.keys() == ({"large.bin"} if offers else set())
