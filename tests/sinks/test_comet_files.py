"""What the Comet sink uploads, when, and what becomes of files that cannot be."""

import logging
from pathlib import Path

import pytest

from bus import (
    AlertRaised,
    ArtifactReady,
    CheckpointSaved,
    MediaLogged,
    MetricsLogged,
    TextLogged,
    list_cursors,
    unheld,
)
from tests.servers.comet import Refused, StandIn
from tests.servers.comet_runs import deliver, points
from tests.servers.journals import write_attempt

ASSET = "asset/upload"


pytestmark = pytest.mark.usefixtures("no_comet")


@pytest.fixture
def server():
    with StandIn() as server:
        yield server


@pytest.fixture
def events(tmp_path):
    """Two checkpoints of two files each, a data set, a model, and something that is gone."""
    found = []
    for step in (1, 2):
        folder = tmp_path / "out" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "weights").write_bytes(b"w" * step)
        (folder / "state.json").write_bytes(b"s")
        found.append(CheckpointSaved(step=step, path=str(folder)))
    (tmp_path / "data.csv").write_text("1,2")
    (tmp_path / "model.bin").write_bytes(b"m")
    return [
        *found,
        ArtifactReady(
            path=str(tmp_path / "data.csv"), kind="dataset", name="d/data.csv", metadata={"n": 2}
        ),
        ArtifactReady(step=2, path=str(tmp_path / "model.bin"), kind="model", name="best"),
        ArtifactReady(path=str(tmp_path / "gone"), kind="dataset", name="gone"),
    ]


CHECKPOINTS = {f"out/checkpoint-{n}/{name}" for n in (1, 2) for name in ("state.json", "weights")}


class TestWhen:
    """`log_assets` says it."""

    @pytest.mark.parametrize(
        ("when", "stored"),
        [
            ("never", set()),
            ("end", {*CHECKPOINTS, "d/data.csv", "model.bin"}),
            ("TRUE", {*CHECKPOINTS, "d/data.csv", "model.bin"}),
            ("checkpoints", {*CHECKPOINTS, "model.bin"}),
            ("all", {*CHECKPOINTS, "d/data.csv", "model.bin"}),
        ],
    )
    def test_when_they_are_uploaded(self, tmp_path, events, when, stored):
        """A run that crashed uploads what waited for its end too."""
        for outcome in ("finished", None):
            run_dir = write_attempt(tmp_path / f"run-{outcome}", events, outcome=outcome)
            with StandIn() as server:
                account = deliver(run_dir, server, log_assets=when)

            assert account.complete
            assert server.experiment.files().keys() == stored

    def test_at_the_end_what_is_still_there(self, server, tmp_path, events):
        """Checkpoints that were rotated away meanwhile are no warning."""
        run_dir = write_attempt(tmp_path / "run", events[:2])
        for path in Path(events[0].path).iterdir():
            path.unlink()
        Path(events[0].path).rmdir()
        deliver(run_dir, server, log_assets="end")

        assert {name.split("/")[1] for name in server.experiment.files()} == {"checkpoint-2"}
        assert "left_out" not in list_cursors(run_dir)["comet"].state

    def test_what_comet_is_told_of_them(self, server, tmp_path, events):
        """A model is a model, a step stays one, and metadata goes along."""
        deliver(write_attempt(tmp_path / "run", events), server, log_assets="all")

        told = {
            query["fileName"]: (
                *(query.get(key) for key in ("type", "groupingName", "step", "extension")),
                more,
            )
            for query, _, more in server.experiment.assets.values()
        }
        assert told["model.bin"] == ("model-element", "best", "2", "bin", None)
        assert told["d/data.csv"] == ("asset", None, None, "csv", {"n": 2})
        assert told["out/checkpoint-1/state.json"] == ("asset", None, "1", "json", None)


class TestTries:
    """Uploads that fail."""

    def test_a_retry_goes_on_behind_the_files_that_are_there(self, server, tmp_path, events):
        """Each file is sent once, but for those whose answers were missing; none is there twice."""
        server.faults[ASSET].extend([None, 500, None, "lose"])
        run_dir = write_attempt(tmp_path / "run", events)
        account = deliver(run_dir, server, log_assets="checkpoints")

        names = [query["fileName"] for query, _, _ in server.experiment.assets.values()]
        sent = [call for _, call, _ in server.requests if call == ASSET]
        assert account.complete
        assert sorted(names) == sorted({*CHECKPOINTS, "model.bin"})
        assert len(sent) == 7

    def test_what_is_being_uploaded_is_not_rotated_away(self, server, tmp_path, events):
        """A folder is held from its first file to its last, through a failed try."""
        first, second = (Path(each.path) for each in events[:2])
        server.faults[ASSET].extend([None, 500])
        held = []

        def note(call):
            if call == ASSET:
                held.append([path for path in (first, second) if _is_held(path)])

        server.before = note
        deliver(write_attempt(tmp_path / "run", events[:2]), server, log_assets="checkpoints")

        assert held == [[first]] * 3 + [[second]] * 2
        assert not _is_held(first)
        assert not _is_held(second)

    def test_what_cannot_be_stored_holds_nothing_up(self, server, tmp_path, events, caplog):
        """Too large, refused, gone: counted with the reason, and said when the run is over."""
        server.largest = 1
        large = tmp_path / "large.bin"
        large.write_bytes(bytes(2 << 20))
        server.faults[ASSET].append(Refused(400, 7000012, "asset limit"))
        run_dir = write_attempt(
            tmp_path / "run",
            [*events[2:], ArtifactReady(path=str(large), kind="x", name="l"), *points(3)],
        )
        with caplog.at_level(logging.WARNING, "sinks"):
            account = deliver(run_dir, server, log_assets="all")

        assert account.complete
        assert account.dead == 0
        assert server.experiment.files().keys() == {"model.bin"}
        assert len(server.experiment.series("loss")) == 3
        assert list_cursors(run_dir)["comet"].state["left_out"] == {
            "refused, or unreadable": 1,
            "gone before it could be uploaded": 1,
            "larger than the 1 MB that Comet takes": 1,
        }
        assert len([each for each in caplog.messages if each.startswith("not sent to Comet")]) == 3

    def test_models_are_as_many_as_comet_keeps(self, server, tmp_path):
        """The others are counted, and the points behind them arrive."""
        (tmp_path / "model").touch()
        models = [
            ArtifactReady(path=str(tmp_path / "model"), kind="model", name=f"model {n}")
            for n in range(102)
        ]
        run_dir = write_attempt(tmp_path / "run", [*models, *points(1)])
        account = deliver(run_dir, server, log_assets="all")

        assert account.complete
        assert len(server.experiment.assets) == 100
        assert len(server.experiment.points) == 1
        assert list_cursors(run_dir)["comet"].state["left_out"] == {
            "Comet keeps 100 of model-element in an experiment": 2
        }


def test_pictures_sounds_and_films(server, tmp_path):
    """Each in Comet's own place for it, whatever `log_assets` says."""
    kinds = {"a.png": "image/png", "b.wav": "audio/wav", "c.mp4": "video/mp4", "d.bin": "x/y"}
    media = []
    for name, kind in kinds.items():
        (tmp_path / name).write_bytes(name.encode())
        media.append(
            MediaLogged(step=3, key=f"of/{name[0]}", path=str(tmp_path / name), media_type=kind)
        )
    pictured = media[0].model_copy(update={"caption": "a cat"})
    deliver(write_attempt(tmp_path / "run", [pictured, *media[1:]]), server)

    told = [
        (query.get("fileName") or query["figName"], query.get("type"), query["extension"], more)
        for query, _, more in server.experiment.assets.values()
    ]
    assert told == [
        ("of/a", None, "png", {"caption": "a cat"}),
        ("of/b", "audio", "wav", None),
        ("of/c", "video", "mp4", None),
        ("of/d", "asset", "bin", None),
    ]
    assert list(server.experiment.files().values()) == [name.encode() for name in kinds]


def test_an_upload_repeats_no_points(server, tmp_path):
    """What stands beside it in a batch is acknowledged before it."""
    server.faults[ASSET].extend([500, None, 503])
    around = [MetricsLogged(step=n, metrics={"loss": 0.5}) for n in range(3)]
    told = [AlertRaised(title="late"), TextLogged(key="k", text="t")]
    run_dir = write_attempt(tmp_path / "run", [around[0], told[0], around[1], told[1], around[2]])
    account = deliver(run_dir, server)

    assert account.complete
    assert server.experiment.series("loss") == [(0, 0.5), (1, 0.5), (2, 0.5)]
    assert len(server.experiment.assets) == 2


def _is_held(folder):
    with unheld(folder) as free:
        return not free
