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


def asked_for(server, name):
    """The requests for places of a file."""
    asked = [call["input"]["artifactFiles"] for call in server.calls("CreateArtifactFiles")]
    return [each for files in asked for each in files if each["name"] == name]


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
    """The upload goes on where it broke off: each part that arrived is sent once."""
    server, ours = artifacts
    server.faults["storage"].extend([None, None, 500, None, 503])
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await ours.store(upload(folder))
    await ours.store(upload(folder))

    (artifact,) = server.artifacts
    assert artifact["state"] == "COMMITTED"
    assert artifact["files"]["weights"] == (folder / "weights").read_bytes()
    sizes = [len(body) for body in server.calls("storage")]
    assert sizes[:6] == [999, 400, 400, 400, 200, 200]
    assert len(asked_for(server, "weights")) == 1


@pytest.mark.anyio
async def test_a_file_that_changed_meanwhile(artifacts, folder):
    """Parts of another content are no parts of it."""
    server, ours = artifacts
    server.faults["storage"].extend([None, None, 500])
    with pytest.raises(UnavailableError):
        await ours.store(upload(folder))
    (folder / "weights").write_bytes(b"w" * 1000)
    await ours.store(upload(folder))

    assert server.artifacts[-1]["files"]["weights"] == b"w" * 1000


@pytest.mark.anyio
@pytest.mark.parametrize("status", [400, 403, 404])
@pytest.mark.parametrize("call", ["storage", "CompleteMultipartUploadArtifact"])
async def test_an_upload_that_storage_has_ended(artifacts, folder, call, status):
    """It begins again, with other addresses; nobody has to change a setting."""
    server, ours = artifacts
    server.faults["storage"].extend([None, None, 500])
    with pytest.raises(UnavailableError):
        await ours.store(upload(folder))
    server.faults[call].append(status)
    with pytest.raises(UnavailableError, match="begins again"):
        await ours.store(upload(folder))
    await ours.store(upload(folder))

    (artifact,) = server.artifacts
    assert artifact["state"] == "COMMITTED"
    assert len(asked_for(server, "weights")) == 2


@pytest.mark.anyio
async def test_parts_were_put_together_and_the_answer_was_lost(artifacts, folder):
    """The server has the file then, whatever it says to a second asking."""
    server, ours = artifacts
    server.faults["CompleteMultipartUploadArtifact"].extend(["lose", 404])
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await ours.store(upload(folder))
    await ours.store(upload(folder))

    (artifact,) = server.artifacts
    assert artifact["state"] == "COMMITTED"
    assert [len(body) for body in server.calls("storage")][:4] == [999, 400, 400, 200]
    assert len(server.calls("CompleteMultipartUploadArtifact")) == 2


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
