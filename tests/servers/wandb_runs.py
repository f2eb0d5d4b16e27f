"""A run as the W&B server keeps and shows it, and what it takes of a `file_stream` request."""

import base64
import json
import re
from dataclasses import dataclass, field

LONGEST_LINE = (10 << 20) - (100 << 10)

_BODY = {"files", "uploaded", "preempting", "complete", "exitcode"}
_FILES = {"wandb-history.jsonl", "wandb-events.jsonl", "wandb-summary.json", "output.log"}
_SHOWN = {
    *("displayName", "notes", "tags", "groupName", "jobType", "host", "program", "commit"),
}
_CONSOLE = re.compile(r"(ERROR )?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6} .{0,4096}", re.DOTALL)


def identifier(text):
    """An id as the service writes them."""
    return base64.b64encode(text.encode()).decode()


def check(fine, message):
    """Refuse a request unless it is fine."""
    if not fine:
        from tests.servers.wandb import Refused  # noqa: PLC0415 - the two need each other

        raise Refused(400, message)


@dataclass
class Run:
    """A run; `lines` holds the raw lines of its three files that grow."""

    entity: str
    project: str
    name: str
    shown: dict = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    summary: dict = field(default_factory=dict)
    lines: dict = field(default_factory=lambda: {name: [] for name in _FILES})
    files: dict = field(default_factory=dict)
    uploaded: list = field(default_factory=list)
    alerts: list = field(default_factory=list)
    preempting: bool = False
    exitcode: int | None = None
    complete: bool = False

    @property
    def id(self):
        """Its storage id."""
        return identifier(f"Run:v1:{self.name}:{self.project}:{self.entity}")

    @property
    def history(self):
        """Rows of its history."""
        return [json.loads(each) for each in self.lines["wandb-history.jsonl"]]

    @property
    def events(self):
        """Rows of system metrics."""
        return [json.loads(each) for each in self.lines["wandb-events.jsonl"]]

    @property
    def console(self):
        """Lines of its console."""
        return self.lines["output.log"]

    def series(self, key):
        """Rows that have a key: the global step and the value."""
        return [(row.get("train/global_step"), row[key]) for row in self.history if key in row]

    def values(self):
        """Configuration by key, as its page shows it."""
        return {key: each["value"] for key, each in self.config.items() if key != "_wandb"}

    def update(self, given):
        """What an `UpsertBucket` says; what it leaves out stays."""
        if "config" in given:
            config = json.loads(given["config"])
            check(len(given["config"]) <= 15 << 20, "run config cannot exceed 15 MB")
            fine = all(isinstance(each, dict) and "value" in each for each in config.values())
            check(fine, "each key of the config has a value")
            inner = config.get("_wandb", {}).get("value", {})
            check(isinstance(inner.get("t"), dict), "_wandb.t is missing")
            check(isinstance(inner.get("m", []), list), "_wandb.m is no list")
            self.config = config
        self.shown |= {name: given[name] for name in _SHOWN & given.keys()}
        self.complete, self.exitcode = False, None

    def described(self):
        """As the answer to an `UpsertBucket` has it."""
        project = {"id": identifier("Project:123"), "name": self.project}
        entity = {"id": identifier("Entity:1"), "name": self.entity}
        return {
            "id": self.id,
            "name": self.name,
            "displayName": self.shown.get("displayName", "fake-run"),
            "description": None,
            "config": json.dumps(self.config),
            "sweepName": None,
            "project": {**project, "entity": entity},
        }

    def resumable(self):
        """As the answer to `RunResumeStatus` has it."""
        tails = {
            "historyTail": json.dumps(self.lines["wandb-history.jsonl"][-1:]),
            "eventsTail": json.dumps(self.lines["wandb-events.jsonl"][-1:]),
        }
        telemetry = self.config.get("_wandb", {}).get("value", {}).get("t")
        return {
            "id": self.id,
            "name": self.name,
            "displayName": self.shown.get("displayName", "fake-run"),
            "summaryMetrics": json.dumps(self.summary),
            "historyLineCount": len(self.lines["wandb-history.jsonl"]),
            "eventsLineCount": len(self.lines["wandb-events.jsonl"]),
            "logLineCount": len(self.lines["output.log"]),
            **tails,
            "config": json.dumps(self.config),
            "tags": self.shown.get("tags", []),
            "notes": self.shown.get("notes"),
            "wandbConfig": json.dumps({} if telemetry is None else {"t": telemetry}),
        }

    def stream(self, body):
        """Take a `file_stream` request as a whole, or refuse it."""
        check(body.keys() <= _BODY, f"unknown fields {sorted(body.keys() - _BODY)}")
        files = body.get("files", {})
        check(files.keys() <= _FILES, f"unknown files {sorted(files.keys() - _FILES)}")
        for name, chunk in files.items():
            check(chunk.keys() == {"offset", "content"}, f"{name} needs offset and content")
            self._check(name, chunk["offset"], chunk["content"])
        check(body.get("complete") in (None, True), "complete is true or absent")
        check(("complete" in body) == ("exitcode" in body), "complete and exitcode belong together")
        check(isinstance(body.get("exitcode", 0), int), "exitcode is a number")
        check(set(body.get("uploaded", ())) <= self.files.keys(), "this was not uploaded")
        for name, chunk in files.items():
            offset, content = chunk["offset"], chunk["content"]
            if name == "wandb-summary.json":
                self.summary = json.loads(content[0])
            else:
                self.lines[name][offset : offset + len(content)] = content
        self.uploaded += body.get("uploaded", [])
        self.preempting = self.preempting or body.get("preempting", False)
        self.complete = body.get("complete", False)
        self.exitcode = body.get("exitcode")

    def _check(self, name, offset, content):
        check(isinstance(offset, int) and isinstance(content, list) and content, "no lines")
        check(all(isinstance(each, str) for each in content), "a line is a text")
        check(all(len(each.encode()) <= LONGEST_LINE for each in content), "a line is too long")
        if name == "wandb-summary.json":
            check(offset == 0 and len(content) == 1, "a summary is one line")
            check(isinstance(json.loads(content[0]), dict), "a summary is an object")
            return
        known = len(self.lines[name])
        check(0 <= offset <= known, f"{name}: offset {offset} leaves a gap behind {known} lines")
        for line in content:
            if name == "output.log":
                structured = line.startswith("{") and {"ts", "content"} <= json.loads(line).keys()
                check(structured or _CONSOLE.fullmatch(line), "no console line")
                continue
            row = json.loads(line)
            check({"_timestamp", "_runtime"} <= row.keys(), "_timestamp and _runtime are missing")
            if name == "wandb-events.jsonl":
                check(row.get("_wandb") is True, "_wandb is missing")
            else:
                check(isinstance(row.get("_step"), int), "_step is missing")
