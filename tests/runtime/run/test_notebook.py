"""A run in a notebook, whose kernel has an event loop of its own running already."""

import asyncio

import pytest

from bus import DecisionApplied, MetricsLogged
from bus.testing import JournalAsserter

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

pytestmark = [
    pytest.mark.slow,
    # What the notebook's client and kernel manager use of zmq and asyncio is their own affair.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:zmq"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

OPEN = """
import asyncio, runtime
from bus import MetricsLogged, Stop

asyncio.get_running_loop()
run = runtime.Run("notebook", dir="runs")
seen = []

@run.on(MetricsLogged)
async def watch(event, control):
    seen.append(event.metrics["loss"])
    if event.metrics["loss"] >= 3:
        control.request(Stop(reason="seen enough"))

step = 0
while not run.safe_point(step).stop:
    step += 1
    run.log({"loss": float(step)}, step=step)
    await asyncio.sleep(0.01)
run.close()
print(run.name, run.safe_point(step).stop, seen[:3])
"""

LEAVE_OPEN = """
left_open = runtime.Run("left-open", dir="runs")
left_open.log({"loss": 1.0}, step=1)
1 / 0
"""


SHOW = """
with runtime.Run("shown", dir="runs") as run:
    print(run.console(total=10).looks)
    for step in range(1, 11):
        run.log({"loss": 1 / step}, step=step)
    run.alert("<b>spike</b>", step=10)
print("after")
"""


@pytest.fixture
def notebook(tmp_path, monkeypatch, request):
    """A kernel in the test's folder; runs cells and returns what they print and what they show."""
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath))
    cells = [nbformat.v4.new_code_cell(source) for source in (OPEN, SHOW, LEAVE_OPEN)]
    document = nbformat.v4.new_notebook(cells=cells)
    client = nbclient.NotebookClient(
        document,
        timeout=60,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
        allow_errors=True,
    )

    async def play(*order):
        printed, shown = [], []
        async with client.async_setup_kernel():
            for index in order:
                cell = await client.async_execute_cell(document.cells[index], index)
                outputs = cell["outputs"]
                printed.append("".join(o.get("text", o.get("evalue", "")) for o in outputs))
                shown += [o["data"] for o in outputs if o["output_type"] == "display_data"]
        return printed, shown

    return lambda *order: asyncio.run(play(*order))


def test_cells_run_again(notebook, runs):
    """A cell opens a run, subscribes, logs and is stopped; run again it makes the next run.

    A console is an output of its cell: it shows the last state, is saved with the notebook, needs
    no widgets and leaves what is printed alone. A run that a failing cell left open is closed when
    the kernel ends.
    """
    printed, (shown,) = notebook(0, 0, 1, 2)

    assert printed == [
        "notebook True [1.0, 2.0, 3.0]\n",
        "notebook-2 True [1.0, 2.0, 3.0]\n",
        "notebook\nafter\n",
        "division by zero",
    ]
    assert "step 10/10" in shown["text/plain"]
    assert "loss 0.1" in shown["text/html"]
    assert "step 10: warning: &lt;b&gt;spike&lt;/b&gt;" in shown["text/html"]
    assert "shown: finished after" in shown["text/html"]
    for name in ("notebook", "notebook-2"):
        journal = JournalAsserter(runs / name).complete().ends("stopped")
        journal.has(DecisionApplied, by="watch", reason="seen enough")
        assert [each.metrics["loss"] for each in journal.of(MetricsLogged)][:3] == [1.0, 2.0, 3.0]
    JournalAsserter(runs / "left-open").complete().ends("finished")
