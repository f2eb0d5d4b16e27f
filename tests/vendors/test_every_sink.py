"""`sinks="all"` where every package is installed: who delivers, and what the others lack."""

import json

from tests.sinks.local_sinks import read_csv, read_jsonl, read_tensorboard
from tests.vendors.programs import find_python, needs, run_program

PYTHON = find_python("TRACKIO", "trackio")

pytestmark = needs(PYTHON, "TRACKIO", "all of the group `vendors`", timeout=420)

PROGRAM = """
import importlib.util
import json
import runtime
from bus import SINKS
from tests.vendors.local_tools import read_trackio

found = [SINKS.look(name) for name in SINKS.names()]
others = {each.name: each.why for each in found if each.readiness != "ready"}
with runtime.Run(name="all", sinks="all", close_timeout=120) as run:
    run.log({"loss": 0.5}, step=7)
accounts = run.statistics().sinks.values()
print(json.dumps({
    "others": others,
    "complete": {each.name: [each.complete, each.dead] for each in accounts},
    "has_flytekit": importlib.util.find_spec("flytekit") is not None,
    "trackio": read_trackio("hotloop", "all")["logs"],
}))
"""

LACKS = {
    "azure_ml": "tracking_uri",
    "clearml": "api_access_key",
    "comet": "COMET_API_KEY",
    "dagshub": "tracking_uri",
    "discord": "DISCORD_WEBHOOK_URL",
    "kubeflow": "KUBEFLOW_TRAINER_SERVER_URL",
    "mlflow": "MLFLOW_TRACKING_URI",
    "neptune": "NEPTUNE_API_TOKEN",
    "pushgateway": "PUSHGATEWAY_URL",
    "slack": "SLACK_WEBHOOK_URL",
    "swanlab": "SWANLAB_API_KEY",
    "wandb": "WANDB_API_KEY",
    "webhook": "HOTLOOP_WEBHOOK_URL",
}


def test_each_delivers_or_says_what_it_lacks(tmp_path):
    """Those that need no account deliver a point; each of the others names the setting."""
    environment = {
        "CODECARBON_COUNTRY_ISO_CODE": "FRA",
        "DVC_NO_ANALYTICS": "1",
        "TRACKIO_DIR": str(tmp_path / "trackio"),
        "HF_HUB_OFFLINE": "1",
    }
    told = {"folder": tmp_path, "environment": environment, "timeout": 400}
    found = json.loads(run_program(PYTHON, "-c", PROGRAM, **told).splitlines()[-1])
    # Inside a task it is tried by test_flyte.py.
    flyte = "Flyte task" if found["has_flytekit"] else "hotloop[flyte]"

    assert flyte in found["others"].pop("flyte")
    assert found["others"].keys() == LACKS.keys()
    for name, why in found["others"].items():
        assert LACKS[name] in why, name
    local = ("codecarbon", "csv", "dvclive", "jsonl", "tensorboard", "trackio")
    assert found["complete"] == {name: [True, 0] for name in local}
    run_dir = tmp_path / "runs" / "all"
    assert [(each["step"], each["loss"]) for each in found["trackio"]] == [(7, 0.5)]
    assert [row["loss"] for row in read_csv(run_dir / "metrics.csv") if row["loss"]] == ["0.5"]
    assert any('"loss"' in json.dumps(each) for each in read_jsonl(run_dir / "events.jsonl"))
    points = read_tensorboard(run_dir / "tensorboard")["scalars"]["loss"]
    assert [point[:2] for point in points] == [[7, 0.5]]
    table = (tmp_path / "dvclive" / "plots" / "metrics" / "loss.tsv").read_text()
    assert table.split() == ["step", "loss", "7", "0.5"]
    assert (run_dir / "emissions.csv").exists()
