"""A stand-in for the status server of Kubeflow Trainer's controller, with its schema."""

from datetime import datetime

import orjson

from sinks.testing import Received, Reply

TOKEN = "service-account-0123456789"  # noqa: S105 - of no server


class Controller:
    """A stand-in for the status server: it takes `trainerStatus` and nothing else.

    Attributes:
        statuses: What it was told, in order.
        token: The one that counts.
    """

    def __init__(self) -> None:
        self.statuses: list[dict[str, object]] = []
        self.token = TOKEN

    def answer(self, request: Received) -> Reply:
        if request.method == "HEAD":
            return Reply(404)
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return Reply(401)
        if request.method != "POST" or request.headers["content-type"] != "application/json":
            return Reply(405)
        try:
            self.statuses.append(checked(orjson.loads(request.body)))
        except (AssertionError, KeyError, TypeError, ValueError):
            return Reply(400)
        return Reply(200)

    @property
    def last(self) -> dict[str, object]:
        return {**self.statuses[-1], "metrics": told(self.statuses[-1])}


def checked(body):
    """The status in a body, if each field is what the controller's schema says."""
    assert body.keys() == {"trainerStatus"}
    status = dict(body["trainerStatus"])
    assert status.keys() <= {
        *("lastUpdatedTime", "progressPercentage", "estimatedRemainingSeconds", "metrics")
    }
    assert datetime.fromisoformat(status["lastUpdatedTime"]).tzinfo is not None
    for name, most in (("progressPercentage", 100), ("estimatedRemainingSeconds", 1 << 31)):
        assert type(status.get(name, 0)) is int
        assert 0 <= status.get(name, 0) <= most
    for metric in status.get("metrics", []):
        assert metric.keys() == {"name", "value"}
        assert {type(value) for value in metric.values()} == {str}
    del status["lastUpdatedTime"]
    return status


def told(status):
    return {each["name"]: each["value"] for each in status["metrics"]}
