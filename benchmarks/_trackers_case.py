"""Logs to one tracker or none, with its own client or with our sink, as a training loop does.

Usage: `_trackers_case.py SERVICE WHO STEPS SECONDS FOLDER`, WHO being `ours`, `client` or `async`;
the server's address and keys stand in the environment. Prints what logging took of each step, and
time and CPU time from before the run's begin to after its end, as JSON.
"""

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

NAMES = ("loss", "grad_norm", "learning_rate", "accuracy", "tokens")
Metrics = dict[str, float]
Session = tuple[Callable[[Metrics, int], object], Callable[[], object]]


def ours(service: str, folder: Path) -> Session:
    """A run with one sink or none, which finds its server and keys in the environment."""
    import runtime  # noqa: PLC0415 - the others are measured without it

    sinks = [] if service == "none" else [service]
    run = runtime.Run(name="costs", project="costs", dir=folder, sinks=sinks)

    def close() -> None:
        run.close()
        accounts = run.statistics().sinks
        assert all(accounts[name].complete for name in sinks), accounts

    return lambda metrics, step: run.log(metrics, step=step), close


def wandb(folder: Path) -> Session:
    """The client with its automatic capture off."""
    module = importlib.import_module("wandb")
    settings = module.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        silent=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
    )
    run = module.init(project="costs", dir=str(folder), settings=settings)

    def close() -> None:
        run.finish()
        module.teardown()  # its second process ends, and its CPU time can be seen

    return lambda metrics, step: run.log(metrics, step=step), close


def comet(_folder: Path) -> Session:
    """The client with its automatic capture off."""
    experiment = importlib.import_module("comet_ml").Experiment(
        project_name="costs",
        auto_metric_logging=False,
        auto_output_logging=None,
        auto_param_logging=False,
        display_summary_level=0,
        log_code=False,
        log_env_cpu=False,
        log_env_details=False,
        log_env_disk=False,
        log_env_gpu=False,
        log_env_host=False,
        log_env_network=False,
        log_git_metadata=False,
        log_git_patch=False,
        log_graph=False,
        parse_args=False,
    )
    return lambda metrics, step: experiment.log_metrics(metrics, step=step), experiment.end


def neptune(_folder: Path) -> Session:
    """The client with its automatic capture off."""
    run = importlib.import_module("neptune").init_run(
        capture_hardware_metrics=False,
        capture_stdout=False,
        capture_stderr=False,
        capture_traceback=False,
        git_ref=False,
        source_files=[],
    )

    def log(metrics: Metrics, step: int) -> None:
        for name, value in metrics.items():
            run[f"train/{name}"].append(value, step=step)

    return log, run.stop


def clearml(_folder: Path) -> Session:
    """The client with its automatic capture off."""
    task = importlib.import_module("clearml").Task.init(
        project_name="costs",
        task_name="costs",
        auto_connect_arg_parser=False,
        auto_connect_frameworks=False,
        auto_connect_streams=False,
        auto_resource_monitoring=False,
        reuse_last_task_id=False,
    )
    logger = task.get_logger()

    def log(metrics: Metrics, step: int) -> None:
        for name, value in metrics.items():
            logger.report_scalar("train", name, value, step)

    return log, task.close


def mlflow(*, synchronous: bool) -> Session:
    """The client of MLflow, which those of DagsHub and Azure ML set up; it captures nothing."""
    module = importlib.import_module("mlflow")
    module.start_run()

    def close() -> None:
        module.flush_async_logging()
        module.end_run()

    def log(metrics: Metrics, step: int) -> None:
        module.log_metrics(metrics, step=step, synchronous=synchronous)

    return log, close


def dagshub(*, synchronous: bool) -> Session:
    """MLflow's client, at the address and with the credentials that DagsHub's gives it."""
    *_, owner, name = os.environ["MLFLOW_TRACKING_URI"].removesuffix(".mlflow").split("/")
    host = os.environ["DAGSHUB_CLIENT_HOST"]
    importlib.import_module("dagshub").init(repo_owner=owner, repo_name=name, host=host)
    return mlflow(synchronous=synchronous)


CLIENTS: dict[tuple[str, str], Callable[[Path], Session]] = {
    ("wandb", "client"): wandb,
    ("comet", "client"): comet,
    ("neptune", "client"): neptune,
    ("clearml", "client"): clearml,
    ("dagshub", "client"): lambda _folder: dagshub(synchronous=True),
    ("dagshub", "async"): lambda _folder: dagshub(synchronous=False),
    ("azure_ml", "client"): lambda _folder: mlflow(synchronous=True),
}
MODULES = {
    "comet": ("comet_ml",),
    "dagshub": ("dagshub", "mlflow"),
    "azure_ml": ("azureml.mlflow", "mlflow"),
}
"""What a client consists of, where that is not one module with the service's name."""


def load(service: str, who: str) -> None:
    """What importing costs is not counted, and a training has torch anyway."""
    importlib.import_module("torch")
    if who != "ours":
        for name in MODULES.get(service, (service,)):
            importlib.import_module(name)
        return
    assert importlib.import_module("runtime").Run  # names are loaded when they are asked for
    importlib.import_module("httpx")  # which a sink loads when it begins
    module = service.replace("_", "")
    importlib.import_module("sinks" if service == "none" else f"sinks.{module}")


def spent() -> tuple[float, float]:
    """Seconds of CPU time: of this process, of processes that it started and that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time(), children.ru_utime + children.ru_stime


def main() -> None:
    """Log so many steps, evenly over so many seconds."""
    service, who, steps, seconds, folder = sys.argv[1:]
    load(service, who)
    took: list[float] = []
    before, began = spent(), time.perf_counter()
    log, close = (
        ours(service, Path(folder)) if who == "ours" else CLIENTS[service, who](Path(folder))
    )
    opened = time.perf_counter()
    for step in range(1, int(steps) + 1):
        metrics = {name: step + index / 8 for index, name in enumerate(NAMES)}
        started = time.perf_counter()
        log(metrics, step)
        took.append(time.perf_counter() - started)
        time.sleep(float(seconds) / int(steps))
    closing = time.perf_counter()
    close()
    ended, after = time.perf_counter(), spent()
    found = {
        "log": took,
        "open": opened - began,
        "close": ended - closing,
        "own": after[0] - before[0],
        "others": after[1] - before[1],
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
