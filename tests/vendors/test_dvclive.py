"""What DVC itself makes of our sink's files."""

import json

from tests.vendors.programs import find_python, needs, run_program

PYTHON = find_python("DVCLIVE", "dvclive")

pytestmark = needs(PYTHON, "DVCLIVE", "dvclive", timeout=600)

NOBODY = {
    "DVC_NO_ANALYTICS": "1",
    **{
        f"GIT_{who}_{what}": "nobody@example.org"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    },
}


def test_a_run_that_dies_and_goes_on(tmp_path):
    """Each step once, with its own number; one experiment; the model in DVC's cache."""
    told = {"folder": tmp_path, "environment": NOBODY}
    found = json.loads(run_program(PYTHON, "-m", "tests.vendors.local_tools", "dvclive", **told))
    tables = found["tables"]

    assert [[int(step), float(value)] for step, value in tables.pop("loss")] == [
        [n, 1 / n] for n in range(1, 19)
    ]
    assert tables == {
        "again": [["16", "1.0"], ["17", "1.0"], ["18", "1.0"]],
        "nan": [["10", "nan"]],
        "inf": [["10", "inf"]],
        "out": [["10", "1.0"]],
        "a_b_c": [["10", "2.0"]],
        "loss.inner": [["10", "3.0"]],
        "eval/loss": [["10", "0.25"]],
    }
    summary = found["metrics"]["dvclive/metrics.json"]["data"]
    assert (summary["loss"], summary["step"], summary["eval"]) == (1 / 18, 18, {"loss": 0.25})
    params = {name: each["new"] for name, each in found["params"]["dvclive/params.yaml"].items()}
    assert (params["lr"], params["opt.name"], params["late"]) == (3e-4, "adam", 1)
    assert len(found["experiments"]) == 1
    assert "dvclive/artifacts/checkpoint-20.dvc" in found["models"]
    assert found["cached"] == 2  # the file, and the list of the folder's files
