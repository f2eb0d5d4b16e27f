"""Neptune's client, Minfx's, Transformers' callback, and our sink at one strict stand-in.

The same calls leave the same state, but for what is listed here, and the client reads it back.
"""

import json
from pathlib import Path

import pytest

from bus import ArtifactReady, MediaLogged, MetricsLogged, SummaryLogged, TextLogged, sync_run
from sinks.neptune import NeptuneSink
from tests.servers.journals import QUICK, write_attempt
from tests.servers.neptune import StandIn
from tests.vendors.neptune_client import PARAMETERS, PICTURE, loss
from tests.vendors.programs import find_python, needs, run_program, train

PROGRAM = Path(__file__).with_name("neptune_client.py")


PYTHON = find_python("NEPTUNE", "neptune")

pytestmark = needs(PYTHON, "NEPTUNE", "neptune, minfx and transformers", timeout=300)


@pytest.fixture
def server():
    with StandIn() as server:
        yield server


def environment(server, folder):
    """Where Neptune is."""
    return {
        "NEPTUNE_API_TOKEN": server.token,
        "NEPTUNE_DATA_DIRECTORY": str(folder / ".neptune"),
        "OAUTHLIB_INSECURE_TRANSPORT": "1",  # the server speaks no TLS
    }


def ask(server, folder, *command):
    """Run the client; what it tells."""
    told = environment(server, folder)
    run_program(PYTHON, str(PROGRAM), *command, folder=folder, environment=told)
    return json.loads((folder / "answer.json").read_text())


@pytest.fixture
def folder(tmp_path):
    """Files: one of several parts, and a folder of two."""
    folder = tmp_path / "files"
    (folder / "two").mkdir(parents=True)
    (folder / "big.ckpt").write_bytes(bytes(range(256)) * (6 << 12))
    (folder / "two" / "a.txt").write_text("a")
    (folder / "two" / "b.txt").write_text("b")
    return folder


def ours(server, tmp_path, folder, *, dialect="neptune"):
    """The same run, through the sink."""
    metrics = [
        MetricsLogged(step=step, metrics={"loss": loss(step), "eval_loss": 2.0 * step})
        for step in range(25)
    ]
    files = [
        ArtifactReady(path=str(path), kind="file", name=path.name)
        for path in sorted(folder.iterdir())
    ]
    picture = tmp_path / "picture.png"
    picture.write_bytes(PICTURE)
    run_dir = write_attempt(
        tmp_path / "run",
        [
            *metrics,
            MediaLogged(step=3, key="picture", path=str(picture), media_type="image/png"),
            TextLogged(step=3, key="sample", text="hello"),
            SummaryLogged(values={"best": 0.04}),
            *files,
        ],
        config=PARAMETERS,
    )
    sink = NeptuneSink(
        api_token=server.token,
        project="team/demo",
        dialect=dialect,
        name="demo",
        description="d",
        tags=["a", "b"],
        group_tags=["sweep"],
        log_artifacts=True,
    )
    (account,) = sync_run(run_dir, [sink], pace=QUICK, timeout=60)
    assert account.complete
    assert account.dead == 0


NAN = {"finetuning/train/loss_nonfinite"}  # which Neptune's client drops
OURS_ALONE = {
    "hotloop/attempt",
    "hotloop/git_commit",
    "hotloop/outcome",
    "hotloop/run_id",
    "sys/hostname",  # found out by the client too, were it not told to be quiet
}
PROGRAM_NAME = "source_code/entrypoint"
IMAGES = "finetuning/media/picture"


@pytest.mark.parametrize(
    ("dialect", "package"), [("neptune", "neptune"), ("minfx", "minfx.neptune_v2")]
)
def test_the_state_is_the_same(*, tmp_path, folder, dialect, package):
    """Series, fields, tags, texts, images and files, but for what is listed here."""
    with StandIn(minfx=dialect == "minfx") as server:
        ask(server, tmp_path, "write", package, str(folder))
        ours(server, tmp_path, folder, dialect=dialect)
        theirs, mine = (run.state() for run in server.runs.values())

    assert theirs.keys() - mine.keys() == set()
    assert mine.keys() - theirs.keys() == OURS_ALONE | (set() if dialect == "minfx" else NAN)
    changed = {path for path in theirs if theirs[path] != mine[path]}
    files = {f"finetuning/artifacts/{path.name}" for path in folder.iterdir()}
    assert changed == {*files, PROGRAM_NAME, IMAGES}
    ((step, image),) = theirs[IMAGES]
    assert mine[IMAGES] == [(step, {**image, "name": "picture.png"})]
    # The client names files from the working folder on; here it is from what was announced.
    for each in files:
        assert theirs[each] == {f"files/{place}": content for place, content in mine[each].items()}


def test_the_clients_reader_shows_our_run_as_its_own(server, tmp_path, folder):
    """Each series, field and set of names, read back by the client from both runs."""
    ask(server, tmp_path, "write", "neptune", str(folder))
    ours(server, tmp_path, folder)
    theirs, mine = (ask(server, tmp_path, "read", "neptune", name) for name in ("DEM-1", "DEM-2"))

    assert mine["finetuning/train/loss"] == [[n, loss(n)] for n in range(25) if n != 7]
    assert {path for path in theirs if theirs[path] != mine[path]} == {"sys/id", PROGRAM_NAME}
    assert mine.keys() - theirs.keys() == OURS_ALONE | NAN


PARAMETERS_AT = "finetuning/trainer_parameters/"
TIMED = {
    *(f"finetuning/eval/{each}" for each in ("runtime", "samples_per_second", "steps_per_second")),
    *(
        f"finetuning/train/train_{each}"
        for each in ("runtime", "samples_per_second", "steps_per_second")
    ),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What Transformers' callback and our sink show of the same training; what was refused."""
    with StandIn() as server:
        refused = []
        for library in ("transformers", "hotloop"):
            folder = tmp_path_factory.mktemp(library)
            told = environment(server, folder)
            train(PYTHON, "neptune", library, folder=folder, environment=told)
            refused.append(list(server.refused))
            server.refused.clear()
        return *(each.state() for each in server.runs.values()), *refused


def test_a_training_has_the_metrics_that_transformers_callback_reports(trained):
    """The same keys and steps, and values, but for how long things took."""
    theirs, ours, _, _ = trained

    series = {path for path in theirs if path.startswith(("finetuning/eval", "finetuning/train/"))}
    assert series == {
        path for path in ours if path.startswith(("finetuning/eval", "finetuning/train/"))
    }
    total = "finetuning/train/train_loss"  # ours is summed with more digits
    assert {path for path in series if theirs[path] != ours[path]} <= TIMED | {total}
    assert ours[total][0] == pytest.approx(theirs[total][0], rel=1e-6)
    for path in TIMED:
        assert [step for step, _ in ours[path]] == [step for step, _ in theirs[path]]


def test_a_training_has_the_parameters_that_transformers_callback_reports(trained):
    """As far as both trainers have them."""
    theirs, ours, _, _ = trained
    parameters = {
        path.removeprefix(PARAMETERS_AT)
        for path in theirs.keys() & ours.keys()
        if path.startswith(PARAMETERS_AT)
    }
    differ = {
        each for each in parameters if theirs[PARAMETERS_AT + each] != ours[PARAMETERS_AT + each]
    }

    assert len(parameters) > 80
    assert differ == {
        "hub_token",  # masked there although there is none
        "restore_callback_states_from_checkpoint",  # the trainers' defaults differ
    }
    assert theirs["sys/tags"] == ours["sys/tags"] == ["hf"]
    assert theirs["sys/name"] == ours["sys/name"] == "training"


def test_a_training_has_the_checkpoint_that_transformers_callback_uploads(trained):
    """The best one, and no other; the callback leaves the working folder's name before it."""
    theirs, ours, _, _ = trained
    best = "finetuning/checkpoints/best"
    known = {"model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"}

    assert {f"checkpoint-10/{name}" for name in known} <= ours[best].keys()
    assert {f"out/checkpoint-10/{name}" for name in known} <= theirs[best].keys()
    assert all(each.startswith("checkpoint-10/") for each in ours[best])


def test_an_evaluation_after_the_training(trained):
    """The callback opens the run again and has four points refused; ours are left out before."""
    _, _, theirs, ours = trained

    assert len(theirs) == 4
    assert ours == []
