"""The calls of MLflow's REST interface that a run needs, as its own client makes them.

Every call may be repeated: what it makes it looks for first, or the server recognises it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urlsplit

from pydantic import JsonValue

from bus import DeliveryError, MisconfiguredError, RejectedError, UnavailableError
from sinks._http import HttpClient
from sinks._json_answers import items, mapping, text
from sinks._mlflow_answers import AlreadyStoredError
from sinks._mlflow_plan import Item, LogBatch
from sinks._mlflow_values import Limits, limits_for

TOKEN: Final = "hotloop.run_id"  # noqa: S105 - a tag's name
"""The tag by which a run is found again when the answer to making it was lost."""

_API: Final = "/api/2.0/mlflow/"
_ANSWER: Final = 256 << 20
"""Bytes of a run with all its parameters and metrics; one with 10,000 of them has 2 MB."""


@dataclass(frozen=True, slots=True)
class RemoteRun:
    """A run as the server has it.

    Attributes:
        params: Values by name.
        steps: The highest step of each metric.
        active: Whether it has not been deleted.
    """

    run_id: str
    experiment_id: str
    artifact_uri: str
    active: bool = True
    params: Mapping[str, str] = field(default_factory=dict[str, str])
    steps: Mapping[str, int] = field(default_factory=dict[str, int])


class MlflowServer:
    """A tracking server.

    Args:
        http: The client of the sink.
        base: Its address without a slash at the end.
    """

    def __init__(self, http: HttpClient, base: str) -> None:
        self._http = http
        self._base = base

    async def version(self) -> str:
        """What the server says it is; "" if it does not say, as behind some proxies."""
        try:
            answer = await self._http.get(f"{self._base}/version", timeout=10.0)
        except UnavailableError:
            raise
        except DeliveryError:
            return ""
        return answer.text.strip()[:40]

    async def limits(self) -> Limits:
        """What the server takes at once, by its version."""
        return limits_for(await self.version())

    async def greeting(self) -> str:
        """Who answers, in a few words."""
        version = await self.version()
        return f"MLflow {version} answers" if version else "an MLflow server answers"

    async def experiment(self, name: str) -> str:
        """The id of an experiment, which is made or restored if need be."""
        found = await self._experiment(name)
        if found is None:
            try:
                answer = await self._post("experiments/create", {"name": name})
                return text(answer, "experiment_id")
            except RejectedError as error:  # somebody was faster, or the name is impossible
                found = await self._experiment(name)
                if found is None:
                    raise MisconfiguredError(str(error), fix="choose another experiment") from error
        experiment_id = text(found, "experiment_id")
        if found.get("lifecycle_stage") == "deleted":
            try:
                await self._post("experiments/restore", {"experiment_id": experiment_id})
            except RejectedError as error:
                raise MisconfiguredError(
                    f"the experiment {name!r} is deleted: {error}", fix="restore it or name another"
                ) from error
        return experiment_id

    async def stage(self, name: str) -> str | None:
        """Whether an experiment is "active" or "deleted"; None if there is none of that name."""
        found = await self._experiment(name)
        return None if found is None else str(found.get("lifecycle_stage", "active"))

    async def find_run(self, experiment_id: str, token: str) -> RemoteRun | None:
        """The run that carries this token, unless it was deleted."""
        answer = await self._post(
            "runs/search",
            {
                "experiment_ids": [experiment_id],
                "filter": f"tags.`{TOKEN}` = '{token}'",
                "max_results": 1,
            },
        )
        runs = answer.get("runs")
        return _run(mapping(runs[0])) if isinstance(runs, list) and runs else None

    async def create_run(
        self, experiment_id: str, name: str, start: int, user: str, tags: Mapping[str, str]
    ) -> RemoteRun:
        """Make a run; `start` is in milliseconds since 1970."""
        body: Item = {
            "experiment_id": experiment_id,
            "run_name": name,
            "start_time": start,
            "user_id": user,
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        return _run(mapping((await self._post("runs/create", body)).get("run")))

    async def run(self, run_id: str) -> RemoteRun:
        """A run with its parameters and the last step of its metrics."""
        url = f"{self._base}{_API}runs/get"
        answer = await self._http.get(url, params={"run_id": run_id}, limit=_ANSWER)
        return _run(mapping(mapping(answer.json()).get("run")))

    async def update_run(self, run_id: str, status: str, end: int | None = None) -> None:
        """Set a run's status, and its end in milliseconds since 1970."""
        body: Item = {"run_id": run_id, "status": status}
        if end is not None:
            body["end_time"] = end
        await self._post("runs/update", body)

    async def log(self, run_id: str, batch: LogBatch) -> None:
        """Send points, parameters and tags; points that are there already do not count.

        Raises:
            RejectedError: The server refuses it, as a whole.
        """
        try:
            await self._post("runs/log-batch", {"run_id": run_id, **batch.body})
        except AlreadyStoredError:
            # An old server stored an earlier try and cannot say which of it, so it is asked.
            if len(batch) > 1:
                for half in batch.halves():
                    await self.log(run_id, half)

    def artifact_url(self, artifact_uri: str, path: str) -> str | None:
        """Where to PUT a file; None if the server stores none for its clients."""
        parts = urlsplit(artifact_uri)
        if parts.scheme != "mlflow-artifacts":
            return None
        scheme = urlsplit(self._base).scheme
        base = f"{scheme}://{parts.netloc}" if parts.netloc else self._base
        place = "/".join(part for part in (parts.path.strip("/"), path) if part)
        return f"{base}/api/2.0/mlflow-artifacts/artifacts/{quote(place)}"

    def page(self, run: RemoteRun) -> str:
        """Where a person can look at a run."""
        return f"{self._base}/#/experiments/{run.experiment_id}/runs/{run.run_id}"

    async def _experiment(self, name: str) -> Mapping[str, JsonValue] | None:
        url = f"{self._base}{_API}experiments/get-by-name"
        answer = await self._http.get(url, params={"experiment_name": name}, good={404})
        if answer.status == 404:
            if "RESOURCE_DOES_NOT_EXIST" in answer.text:
                return None
            raise MisconfiguredError(
                f"{self._base} is no MLflow server: it knows no experiments",
                fix="check the address",
            )
        return mapping(mapping(answer.json()).get("experiment"))

    async def _post(self, call: str, body: Item) -> Mapping[str, JsonValue]:
        answer = await self._http.post(f"{self._base}{_API}{call}", json=body)
        return mapping(answer.json())


def _run(run: Mapping[str, JsonValue]) -> RemoteRun:
    info = mapping(run.get("info"))
    data = mapping(run.get("data") or {})
    return RemoteRun(
        run_id=text(info, "run_uuid" if "run_id" not in info else "run_id"),
        experiment_id=text(info, "experiment_id"),
        artifact_uri=str(info.get("artifact_uri") or ""),
        active=info.get("lifecycle_stage", "active") == "active",
        params={text(each, "key"): str(each.get("value", "")) for each in items(data, "params")},
        steps={text(each, "key"): _step(each) for each in items(data, "metrics")},
    )


def _step(metric: Mapping[str, JsonValue]) -> int:
    """A 64-bit integer, which protobuf's JSON may write as text."""
    step = metric.get("step", 0)
    return int(step) if isinstance(step, (int, float, str)) else 0
