"""What TensorBoard itself sees of a run: through its reader, and through its web server."""

import contextlib
import json
import math
import os
import re
import struct
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bus import (
    Evaluated,
    HistogramLogged,
    MediaLogged,
    MetricsLogged,
    ParametersLogged,
    Predicted,
    SystemMetricsLogged,
    TextLogged,
    TrainEnded,
    TrainerInitialized,
    encode,
    resend_dead,
    sync_run,
)
from bus._lines import pack
from sinks._scalars import rewritten
from sinks._tensorboard_images import read_picture
from sinks._tfevents import crc32c, crc32c_here
from sinks.tensorboard import TensorBoardSink
from tests.sinks.local_sinks import (
    NOON,
    metrics,
    read_tensorboard,
    tensorboard_python,
    write_run,
)

SUCCESS, FAILURE, RUNNING = 1, 2, 3


def sync(run_dir: Path, **settings: Any) -> dict[str, Any]:
    """Deliver everything and read it with TensorBoard's own reader."""
    (account,) = sync_run(run_dir, [TensorBoardSink(**settings)])
    assert account.complete
    return read_tensorboard(settings.get("log_dir", run_dir / "tensorboard"))


def png(width: int, height: int) -> bytes:
    """A grey picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x80" * width) * height)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


JPEG = bytes.fromhex("ffd8 ffe00004abcd ff ffc4000400ff ffc0 0011 08 0005 0007 03 0111000211010311")
"""The head of one of 7 x 5 pixels: an application's part, filling, a table, the frame."""


class TestValues:
    def test_scalars(self, tmp_path):
        """Every step once, with the event's own time and the user's own keys."""
        found = sync(write_run(tmp_path, metrics(range(2500), loss=0.5)))

        assert found["version"] == 2.0
        assert found["scalars"]["n"] == [[n, float(n), NOON + n] for n in range(2500)]
        assert len(found["scalars"]["loss"]) == 2500

    def test_numbers_that_are_none(self, tmp_path):
        """NaN and infinities pass; what 32 bits cannot hold is infinite; steps may be large."""
        values = {"nan": math.nan, "inf": math.inf, "huge": -1e300, "tiny": 1e-300, "exact": 0.5}
        found = sync(write_run(tmp_path, [MetricsLogged(step=2**40, metrics=values)]))["scalars"]

        read = {tag: points[0][1] for tag, points in found.items()}
        assert math.isnan(read.pop("nan"))
        assert read == {"inf": math.inf, "huge": -math.inf, "tiny": 0.0, "exact": 0.5}
        assert all(points[0][0] == 2**40 for points in found.values())

    def test_an_event_without_a_step_has_the_last_one(self, tmp_path):
        """Every point needs one."""
        events = [*metrics([7]), SystemMetricsLogged(metrics={"gpu": 0.25})]
        found = sync(write_run(tmp_path, events))["scalars"]

        assert [point[:2] for point in found["system/gpu"]] == [[7, 0.25]]

    def test_results_stand_apart_from_training(self, tmp_path):
        """An evaluation's `loss` is not mixed with the training's, and not told twice."""
        both = {"eval_loss": 2.0, "epoch": 1.0}
        events = [
            MetricsLogged(step=1, metrics={"loss": 1.0}),
            Evaluated(step=1, metrics={"loss": 3.0}),
            Evaluated(step=1, metrics={"loss": 4.0}, dataset="wiki"),
            Predicted(step=1, metrics={"loss": 5.0}),
            MetricsLogged(step=2, metrics=both),
            Evaluated(step=2, metrics=both),
            TrainEnded(step=2, metrics={"train_loss": 1.5}),
        ]
        found = sync(write_run(tmp_path, events))["scalars"]

        assert {tag: [point[1] for point in points] for tag, points in found.items()} == {
            "loss": [1.0],
            "eval/loss": [3.0],
            "wiki/loss": [4.0],
            "test/loss": [5.0],
            "eval_loss": [2.0],
            "epoch": [1.0],
            "train_loss": [1.5],
        }

    @pytest.mark.parametrize(
        ("first", "settings"), [([], {"rewrite": True}), ([TrainerInitialized()], {})]
    )
    def test_names_as_transformers_writes_them(self, tmp_path, first, settings):
        """If asked, and under our trainer."""
        events = [
            *first,
            MetricsLogged(step=1, metrics={"loss": 1.0, "eval_a_loss": 2.0, "test_f1": 3.0}),
            Evaluated(step=1, metrics={"eval_acc": 0.5}),
        ]
        found = sync(write_run(tmp_path, events), **settings)["scalars"]

        assert set(found) == {"train/loss", "eval/a_loss", "test/f1", "eval/acc"}
        assert rewritten("train_runtime") == "train/train_runtime"

    def test_texts_and_histograms(self, tmp_path):
        """As the TEXT and HISTOGRAMS pages read them."""
        events = [
            TextLogged(step=3, key="sample", text="größer *und* schöner"),
            HistogramLogged(step=4, key="weights", counts=[1, 0, 2], edges=[-1, 0, 0.5, 2]),
        ]
        found = sync(write_run(tmp_path, events))["tensors"]

        assert found["sample/text_summary"] == [[3, [1], ["größer *und* schöner"]]]
        rows = [-1.0, 0.0, 1.0, 0.0, 0.5, 0.0, 0.5, 2.0, 2.0]
        assert found["weights"] == [[4, [3, 3], rows]]

    def test_pictures(self, tmp_path):
        """PNG and JPEG files, relative to the run's folder too; other media are passed over."""
        (tmp_path / "a.png").write_bytes(png(4, 3))
        run_dir = tmp_path / "run"
        run_dir.mkdir()
        (run_dir / "b.jpg").write_bytes(JPEG)
        events = [
            MediaLogged(step=1, key="a", path=str(tmp_path / "a.png"), media_type="image/png"),
            MediaLogged(step=2, key="b", path="b.jpg", media_type="image/jpeg"),
            MediaLogged(step=2, key="c", path="c.wav", media_type="audio/wav"),
        ]
        found = sync(write_run(tmp_path, events))["images"]

        assert found == {"a": [[1, 4, 3, png(4, 3).hex()]], "b": [[2, 7, 5, JPEG.hex()]]}

    def test_what_cannot_be_shown_is_a_dead_letter(self, tmp_path):
        """Each with its reason; the others arrive."""
        (tmp_path / "no.png").write_text("no picture")
        events = [
            *metrics([1]),
            MediaLogged(key="a", path="gone.png", media_type="image/png"),
            MediaLogged(key="a", path=str(tmp_path / "no.png"), media_type="image/png"),
            HistogramLogged(key="h", counts=[1.0], edges=[1.0]),
            MetricsLogged(step=2**63, metrics={"n": 1.0}),
            *metrics([2]),
        ]
        run_dir = write_run(tmp_path, events)
        (account,) = sync_run(run_dir, [TensorBoardSink()])

        assert (account.dead, account.complete) == (4, True)
        words = (run_dir / "dead" / "tensorboard.jsonl").read_text()
        for reason in ("no file", "neither a PNG nor a JPEG", "one edge more", "63 bits"):
            assert reason in words
        steps = [point[0] for point in read_tensorboard(run_dir / "tensorboard")["scalars"]["n"]]
        assert steps == [1, 2]

    def test_a_picture_without_end(self, tmp_path):
        """Whatever a file begins with, reading its size ends."""
        for data in (JPEG[:12], b"\xff\xd8" + b"\xff" * 100, png(1, 1)[:20], b""):
            (tmp_path / "x").write_bytes(data)
            with pytest.raises(ValueError, match="neither"):
                read_picture(tmp_path / "x")

    def test_settings_and_outcome(self, tmp_path):
        """As texts whole, as hyperparameters flat, with the outcome at the end."""
        config = {"lr": 3e-4, "opt": {"name": "adam", "betas": [0.9, 0.99]}, "amp": True, "n": None}
        logged = ParametersLogged(
            parameters={"args": {"bf16": False}, "model_config": {"layers": 2}, "seed": 7}
        )
        found = sync(write_run(tmp_path, [logged, *metrics([1])], config=config))

        assert found["hparams"] == {
            "started": NOON,
            "status": SUCCESS,
            "lr": 3e-4,
            "opt/name": "adam",
            "opt/betas": "[0.9, 0.99]",
            "amp": True,
            "n": "null",
            "args/bf16": False,
            "model_config/layers": 2.0,
            "seed": 7.0,
        }
        texts = {tag: [json.loads(v[2][0]) for v in t] for tag, t in found["tensors"].items()}
        assert texts["args/text_summary"] == [config, {"bf16": False, "seed": 7}]
        assert texts["model_config/text_summary"] == [{"layers": 2}]

    def test_a_failed_run(self, tmp_path):
        """Says so."""
        run_dir = write_run(tmp_path, metrics([1]), config={"lr": 1.0}, outcome="failed")
        info = json.loads((run_dir / "run.json").read_text())
        info["attempts"][0]["outcome"] = "failed"
        (run_dir / "run.json").write_text(json.dumps(info))

        assert sync(run_dir)["hparams"]["status"] == FAILURE

    def test_ranks_have_folders(self, tmp_path):
        """TensorBoard shows them as runs of their own, for a sink that wants all of them."""

        class OfAllRanks(TensorBoardSink):
            ranks = "all"

        run_dir = write_run(tmp_path, metrics(range(3)))
        write_run(tmp_path, metrics(range(5)), rank=1)
        sync_run(run_dir, [OfAllRanks()])

        for folder, count in (("tensorboard", 3), ("tensorboard/rank1", 5)):
            assert len(read_tensorboard(run_dir / folder)["scalars"]["n"]) == count


class TestFiles:
    def test_the_folder(self, tmp_path, monkeypatch):
        """Transformers' variable names it, an argument beats that."""
        monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "env"))
        run_dir = write_run(tmp_path, metrics([1]))
        (account,) = sync_run(run_dir, [TensorBoardSink()])
        assert list((tmp_path / "env").glob("*tfevents*"))
        assert account.url == (tmp_path / "env").as_uri()

        other = write_run(tmp_path / "other", metrics([1]))
        sync_run(other, [TensorBoardSink(log_dir=tmp_path / "given")])
        assert list((tmp_path / "given").glob("*tfevents*"))

    def test_each_process_has_its_own_file(self, tmp_path):
        """Nothing is appended to a file of an earlier one, and nothing is there twice."""
        run_dir = write_run(tmp_path, metrics(range(10)), outcome=None)
        sync_run(run_dir, [TensorBoardSink()])
        first = {path: path.read_bytes() for path in (run_dir / "tensorboard").iterdir()}
        with (run_dir / "journal" / "rank0-a1-000001.jsonl").open("rb") as journal:
            assert len(journal.readlines()) == 11
        write_more(run_dir, range(10, 30), seq=11)
        found = sync(run_dir)

        assert [point[0] for point in found["scalars"]["n"]] == list(range(30))
        assert all(path.read_bytes() == data for path, data in first.items())

    def test_a_removed_folder(self, tmp_path):
        """What follows is in a new one."""
        run_dir = write_run(tmp_path, metrics(range(10)), outcome=None)
        sink = TensorBoardSink()
        sync_run(run_dir, [sink])
        for path in (run_dir / "tensorboard").iterdir():
            path.unlink()
        (run_dir / "tensorboard").rmdir()
        write_more(run_dir, range(10, 30), seq=11)

        assert [point[0] for point in sync(run_dir)["scalars"]["n"]] == list(range(10, 30))

    def test_a_resume_hides_what_it_replaced(self, tmp_path):
        """Each step once, from the attempt that counts; the outcome is the last one's."""
        run_dir = write_run(tmp_path, metrics(range(1, 21)), config={"lr": 1.0}, outcome="failed")
        info = json.loads((run_dir / "run.json").read_text())
        info["attempts"][0]["outcome"] = "failed"
        (run_dir / "run.json").write_text(json.dumps(info))
        assert sync(run_dir)["hparams"]["status"] == FAILURE
        again = metrics(range(11, 16), again=1.0)
        write_run(tmp_path, again, attempt=2, from_step=10, config={"lr": 2.0}, outcome=None)
        found = sync(run_dir)

        assert [point[0] for point in found["scalars"]["n"]] == list(range(1, 16))
        assert [point[0] for point in found["scalars"]["again"]] == list(range(11, 16))
        assert found["hparams"] == {"started": NOON, "lr": 2.0, "status": RUNNING}
        third = metrics(range(6, 9), third=1.0)
        write_run(tmp_path, third, attempt=3, from_step=5, config={"lr": 2.0})
        info = json.loads((run_dir / "run.json").read_text())
        info["attempts"][-1]["outcome"] = "finished"
        (run_dir / "run.json").write_text(json.dumps(info))
        found = sync(run_dir)

        assert [point[0] for point in found["scalars"]["n"]] == list(range(1, 9))
        assert found["scalars"]["again"] == []
        assert found["hparams"]["status"] == SUCCESS

    def test_another_attempt_without_a_checkpoint_hides_nothing(self, tmp_path):
        """Only a step to go on from does."""
        run_dir = write_run(tmp_path, metrics(range(5)), outcome=None)
        write_run(tmp_path, metrics(range(5, 8)), attempt=2)

        assert [point[0] for point in sync(run_dir)["scalars"]["n"]] == list(range(8))

    def test_dead_letters_of_an_earlier_attempt_hide_nothing(self, tmp_path):
        """They are points among others."""
        picture = tmp_path / "late.png"
        late = MediaLogged(step=2, key="p", path=str(picture), media_type="image/png")
        run_dir = write_run(tmp_path, [late, *metrics(range(9))], outcome=None)
        write_run(tmp_path, [late, *metrics(range(6, 9))], attempt=2, from_step=5)
        sync(run_dir)
        picture.write_bytes(png(1, 1))

        assert resend_dead(run_dir, TensorBoardSink()) == (2, 0)
        found = read_tensorboard(run_dir / "tensorboard")
        assert [point[0] for point in found["scalars"]["n"]] == list(range(9))
        assert len(found["images"]["p"]) == 2


def write_more(run_dir: Path, steps: range, *, seq: int) -> None:
    """Append to a run's journal, as its own process would."""
    with (run_dir / "journal" / "rank0-a1-000001.jsonl").open("ab") as journal:
        for number, event in enumerate(metrics(steps), start=seq + 1):
            journal.write(pack(number, encode(event)))


def test_the_checksum():
    """The check value of CRC-32C, and the test vectors of RFC 3720; whichever computes it."""
    for function in (crc32c, crc32c_here):
        assert function(b"123456789") == 0xE3069283
        assert function(bytes(32)) == 0x8A9136AA
        assert function(b"\xff" * 32) == 0x62A8AB43
        assert function(bytes(range(32))) == 0x46DD794E


@contextlib.contextmanager
def web_server(folder: Path, work: Path) -> Iterator[str]:
    """TensorBoard's own server on a free port; yields its address."""
    log = work / "tensorboard.log"
    with log.open("wb") as file:
        server = subprocess.Popen(  # noqa: S603 - fixed
            [
                tensorboard_python(),
                *("-W", "ignore", "-m", "tensorboard.main"),
                *("--logdir", str(folder), "--host", "127.0.0.1", "--port", "0"),
                *("--load_fast", "false", "--reload_interval", "1"),
            ],
            stdout=file,
            stderr=file,
            env={**os.environ, "HOME": str(work), "TMPDIR": str(work)},
        )
    try:
        deadline = time.monotonic() + 30
        while not (found := re.search(r" at (http://\S+/) ", log.read_text())):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield found[1]
    finally:
        server.terminate()
        server.wait(10)


def ask(url: str, body: object = None, *, ready: Callable[[Any], object] = bool) -> Any:
    """What the server answers, asked again until it has read as much as `ready` wants."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(urllib.error.HTTPError):
            request = urllib.request.Request(url, data, headers)  # noqa: S310 - our own server
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
                found = json.loads(answer.read())
            if ready(found):
                return found
        assert time.monotonic() < deadline, url
        time.sleep(0.05)


@pytest.mark.slow
def test_the_web_server(tmp_path):
    """Scalars, texts, histograms, pictures and the HPARAMS page, as a person would see them."""
    (tmp_path / "a.png").write_bytes(png(4, 3))
    events = [
        *metrics(range(20), loss=0.5),
        Evaluated(step=19, metrics={"loss": 0.25}),
        TextLogged(step=3, key="sample", text="hello **you**"),
        HistogramLogged(step=4, key="weights", counts=[1, 2], edges=[0, 1, 2]),
        MediaLogged(step=5, key="face", path=str(tmp_path / "a.png"), media_type="image/png"),
    ]
    run_dir = write_run(tmp_path, events, config={"lr": 3e-4, "opt": "adam", "amp": True})
    sync_run(run_dir, [TensorBoardSink()])
    with web_server(tmp_path, tmp_path) as address:
        plugin, name = f"{address}data/plugin/", "run/tensorboard"
        ask(f"{plugin}images/tags", ready=lambda tags: "face" in tags.get(name, {}))  # comes last
        tags = ask(f"{plugin}scalars/tags")
        assert set(tags[name]) == {"n", "loss", "eval/loss"}
        points = ask(f"{plugin}scalars/scalars?run={name}&tag=n")
        assert [[step, value] for _, step, value in points] == [[n, float(n)] for n in range(20)]
        assert points[7][0] == NOON + 7
        (sample,) = ask(f"{plugin}text/text?run={name}&tag=sample/text_summary")
        assert "<strong>you</strong>" in sample["text"]
        ((_, step, bins),) = ask(f"{plugin}histograms/histograms?run={name}&tag=weights")
        assert (step, bins) == (4, [[0.0, 1.0, 1.0], [1.0, 2.0, 2.0]])
        (picture,) = ask(f"{plugin}images/images?run={name}&tag=face&sample=0")
        assert picture["step"] == 5
        shown = f"{plugin}images/individualImage?{picture['query']}"
        with urllib.request.urlopen(shown, timeout=10) as answer:  # noqa: S310 - our own server
            assert answer.read() == png(4, 3)
        check_settings_page(plugin)


@pytest.mark.slow
def test_the_web_server_hides_what_a_resume_replaced(tmp_path):
    """It ignores the first session log of a folder, unlike the reader, and obeys the second."""
    run_dir = write_run(tmp_path, metrics(range(20)), outcome=None)
    sync_run(run_dir, [TensorBoardSink()])
    write_run(tmp_path, [MetricsLogged(step=10, metrics={"m": 1.0})], attempt=2, from_step=9)
    sync_run(run_dir, [TensorBoardSink()])
    with web_server(tmp_path, tmp_path) as address:
        plugin, name = f"{address}data/plugin/", "run/tensorboard"
        ask(f"{plugin}scalars/tags", ready=lambda tags: "m" in tags.get(name, {}))  # comes last
        points = ask(f"{plugin}scalars/scalars?run={name}&tag=n")
        assert [step for _, step, _ in points] == list(range(10))


def check_settings_page(plugin: str) -> None:
    """The HPARAMS page lists settings, every metric, and how the run ended."""
    experiment = ask(f"{plugin}hparams/experiment", {"experimentName": "0"})
    assert {each["name"] for each in experiment["hparamInfos"]} == {"lr", "opt", "amp"}
    shown = {each["name"].get("tag") for each in experiment["metricInfos"]}
    assert shown == {"n", "loss", "eval/loss"}
    wanted = {
        "experimentName": "0",
        "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
        "colParams": [{"metric": {"group": "", "tag": "eval/loss"}}],
        "startIndex": 0,
        "sliceSize": 10,
    }
    (group,) = ask(f"{plugin}hparams/session_groups", wanted)["sessionGroups"]
    assert group["hparams"] == {"lr": 3e-4, "opt": "adam", "amp": True}
    (session,) = group["sessions"]
    assert session["status"] == "STATUS_SUCCESS"
    assert session["startTimeSecs"] == NOON
    assert session["endTimeSecs"] > NOON
    values = {each["name"]["tag"]: each["value"] for each in session["metricValues"]}
    assert values["eval/loss"] == 0.25
