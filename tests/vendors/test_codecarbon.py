"""CodeCarbon's numbers, as every other sink shows them."""

import csv
import json

import pytest

from bus import JournalReader, SummaryLogged, sync_run
from runtime import Run
from sinks.codecarbon import CodeCarbonSink
from tests.sinks.local_sinks import metrics, write_run
from tests.vendors.programs import find_python, needs, run_program

PYTHON = find_python("CODECARBON", "codecarbon")

pytestmark = needs(PYTHON, "CODECARBON", "codecarbon", timeout=600)

FRANCE = {"CODECARBON_COUNTRY_ISO_CODE": "FRA"}

PROGRAM = """
import json, signal, threading
import runtime
from bus import SystemMetricsLogged, sync_run
from runtime import Run
from sinks.codecarbon import CodeCarbonSink
from sinks.csv import CsvSink

handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
heard = threading.Event()
with runtime.Run(name="measured", sinks=[CodeCarbonSink(measure_power_secs=0.2), "csv"]) as run:

    @run.on(SystemMetricsLogged)
    async def hear(event):
        if event.metrics.get("codecarbon/energy_kwh", 0) > 0:
            heard.set()

    run.log({"loss": 1.0}, step=1)
    assert heard.wait(120)
assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == handlers
print(json.dumps(str(run.dir)))
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The folder of a run that went on until CodeCarbon had measured something."""
    folder = tmp_path_factory.mktemp("measured")
    told = {"folder": folder, "environment": FRANCE}
    return folder / json.loads(run_program(PYTHON, "-c", PROGRAM, **told).splitlines()[-1])


def test_other_sinks_show_its_numbers(measured):
    """As numbers about the machine, and as totals of the run; no signal handler was taken."""
    summary = {}
    for record in JournalReader(measured).records(types=(SummaryLogged,)):
        summary |= record.event.values

    assert {
        *("codecarbon/energy_kwh", "codecarbon/emissions_kg", "codecarbon/duration_seconds"),
        *("codecarbon/cpu_power_watts", "codecarbon/gpu_energy_kwh"),
    } <= summary.keys()
    with (measured / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    shown = [float(cell) for row in rows if (cell := row.get("codecarbon/energy_kwh"))]
    assert shown == sorted(shown)
    assert shown[-1] > 0


def test_its_own_file(measured):
    """One line for the process that trained, of the country that was given, and of all of it."""
    (row,) = read(measured / "emissions.csv")

    assert (row["country_iso_code"], row["project_name"]) == ("FRA", "measured")
    totals = [
        record.event.values["codecarbon/energy_kwh"]
        for record in JournalReader(measured).records(types=(SummaryLogged,))
    ]
    assert float(row["energy_consumed"]) >= totals[-1]


def test_a_sync_measures_nothing(tmp_path):
    """It is no training, and needs no package."""
    run_dir = write_run(tmp_path, metrics([1]))
    (account,) = sync_run(run_dir, [CodeCarbonSink(country_iso_code="FRA")])

    assert account.complete
    assert not (run_dir / "emissions.csv").exists()


def test_a_folder_that_takes_no_file(tmp_path):
    """Is told of; CodeCarbon alone says nothing of the file that it cannot write."""
    sink = CodeCarbonSink(country_iso_code="FRA", output_dir="/proc")
    with Run(name="nowhere", dir=tmp_path, sinks=[sink], close_timeout=1.0) as run:
        run.log({"loss": 1.0}, step=1)

    (account,) = run.statistics().sinks.values()
    assert "/proc cannot be written" in account.reason


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
