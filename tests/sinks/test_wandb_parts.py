"""Large files go to W&B's storage in parts."""

import pytest

from bus import UnavailableError
from sinks._wandb_artifacts import Artifacts
from sinks._wandb_contents import Parting, read_contents
from sinks._wandb_server import Place, WandbServer
from sinks._wandb_state import Upload
from sinks.wandb import WandbSink
from tests.servers.wandb import KEY, StandIn

PLACE = Place("fake-entity", "p", "r")
SMALL = Parting(beyond=1000, part=400)


@pytest.fixture
def folder(tmp_path, environment):
    """One small file and one that has three parts."""
    del environment
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config").write_bytes(b"c" * 999)
    (folder / "weights").write_bytes(bytes(range(250)) * 4)
    return folder


@pytest.fixture
async def artifacts(anyio_backend):
    """Uploads to a stand-in that has the run, parts of 400 bytes."""
    del anyio_backend
    with StandIn() as server:
        sink = WandbSink(base_url=server.url, api_key=KEY)
        headers = {"authorization": server.authorization}
        client = WandbServer(sink.http, server.url, headers)
        await client.upsert({"name": PLACE.run_id, "project": PLACE.project})
        yield server, Artifacts(sink.http, client, PLACE, SMALL)
        await sink.release()


def upload(folder):
    return Upload(path=str(folder), name="model", kind="model", aliases=("latest",))


@pytest.mark.anyio
async def test_a_large_file(artifacts, folder):
    """Each part with its own digest; storage puts them together again."""
    server, ours = artifacts
    await ours.store(upload(folder))

    (artifact,) = server.artifacts
    assert artifact["state"] == "COMMITTED"
    assert artifact["files"]["weights"] == (folder / "weights").read_bytes()
    sizes = [len(body) for body in server.calls("storage")]
    assert sizes[:4] == [999, 400, 400, 200]
    assert (
        "authorization"
        not in [
            headers
            for (_, call, _), headers in zip(server.requests, server.headers, strict=True)
            if call == "storage"
        ][1]
    )


@pytest.mark.anyio
async def test_a_part_that_fails(artifacts, folder):
    """The upload is begun again as a whole, with other addresses, and is complete then."""
    server, ours = artifacts
    server.faults["storage"].extend([None, None, 500])
    with pytest.raises(UnavailableError):
        await ours.store(upload(folder))
    await ours.store(upload(folder))

    (artifact,) = server.artifacts
    assert artifact["state"] == "COMMITTED"
    assert artifact["files"].keys() == {"config", "weights"}


def test_parts_are_as_long_as_they_may_be_few(tmp_path):
    """No more than 10,000, and exactly as many as there are bytes for."""
    path = tmp_path / "file"
    for size, lengths in {999: [], 1000: [400, 400, 200], 1200: [400, 400, 400]}.items():
        path.write_bytes(b"x" * size)
        (content,) = read_contents(path, SMALL)
        assert len(content.parts) == len(lengths)
    path.write_bytes(b"x" * 20_001)
    (content,) = read_contents(path, Parting(beyond=1, part=1))
    assert (content.part, len(content.parts)) == (3, 6667)
