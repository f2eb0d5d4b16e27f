"""A stand-in for an Azure ML workspace as azureml-core's `Run` speaks to it, within a job.

Written from what azureml-core 1.61 sends: where the services are, the job's run, and metrics in
batches; it refuses a metric with a field more or less. No hosted workspace's answers were there to
copy, so they hold what that client reads of them.
"""

import json
from collections import defaultdict

from tests.servers._tracker import TrackerServer
from tests.servers.azureml import SCOPE, token
from tests.servers.mlflow import Refused, bad

JOB = "cool_plum_1"
EXPERIMENT = "azexp"
SERVICES = ("api", "experimentation", "history", "hyperdrive", "modelmanagement", "studio")
SCALAR = {"uxMetricType": "azureml.v1.scalar"}


class StandIn(TrackerServer):
    """A workspace with the run of one job; its calls are the paths.

    Attributes:
        series: Each metric's values, in the order in which they came; they have no step.
        awaited: How often the client asked whether its metrics are stored.
    """

    refusal = Refused

    def __init__(self):
        super().__init__()
        self.series = defaultdict(list)
        self.awaited = 0
        self._token = token(36_000)  # it would be renewed before less

    def environment(self):
        """What such a job finds in its environment."""
        _, _, subscription, _, group, _, _, _, workspace = SCOPE.split("/")
        return {
            "AZUREML_ARM_SUBSCRIPTION": subscription,
            "AZUREML_ARM_RESOURCEGROUP": group,
            "AZUREML_ARM_WORKSPACE_NAME": workspace,
            "AZUREML_ARM_PROJECT_NAME": EXPERIMENT,
            "AZUREML_EXPERIMENT_ID": "e1",
            "AZUREML_WORKSPACE_ID": "w1",
            "AZUREML_RUN_ID": JOB,
            "AZUREML_RUN_TOKEN": self._token,
            "AZUREML_RUN_TOKEN_EXPIRY": "2099-01-01T00:00:00+00:00",
            "AZUREML_SERVICE_ENDPOINT": self.url,
            "AZUREML_DISCOVERY_SERVICE_ENDPOINT": f"{self.url}/discovery",
            "AZUREML_CURRENT_CLOUD": "AzureCloud",
        }

    def read(self, request):
        return request.path, json.loads(request.content) if request.method == "POST" else None

    def apply(self, request, call, body):
        """The addresses without a token, all else with the job's."""
        if call == "/discovery":
            return dict.fromkeys(SERVICES, self.url)
        if request.headers.get("authorization") != f"Bearer {self._token}":
            raise Refused(401, "UserError")
        method, path = request.method, request.path
        runs = f"/history/v1.0{SCOPE}/experiment"
        if (method, path) == ("GET", f"{runs}ids/e1/runs/{JOB}"):
            return {"runId": JOB, "rootRunId": JOB, "runNumber": 1, "status": "Running"}
        if (method, path) == ("GET", f"{runs}s/{EXPERIMENT}/runs/{JOB}/metricsingest/wait"):
            self.awaited += 1
            return {}
        if (method, path) == ("POST", f"/metric/v2.0{SCOPE}/runs/{JOB}/batch"):
            if body.keys() != {"values", "reportErrors"}:
                raise bad("batch")
            for metric in body["values"]:
                self._store(metric)
            return {}
        raise Refused(404, "")

    def _store(self, metric):
        if metric.keys() != {"name", "columns", "value", "properties"}:
            raise bad(f"metric: {sorted(metric)}")
        name, (point,) = metric["name"], metric["value"]
        if metric["properties"] != SCALAR or metric["columns"].keys() != {name}:
            raise bad(f"no scalar: {metric}")
        if point.keys() != {"metricId", "createdUtc", "data"} or point["data"].keys() != {name}:
            raise bad(f"point: {point}")
        self.series[name].append(point["data"][name])
