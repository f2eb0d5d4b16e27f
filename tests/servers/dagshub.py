"""A stand-in for DagsHub: a repository, and MLflow's server below its name.

It takes the requests that DagsHub's own client makes (version 0.7.3, recordings/dagshub) and
refuses what lacks a field of theirs or has another; `tests/sinks/test_dagshub_server.py` checks
both. Its MLflow is the stand-in of tests/servers/mlflow.py, of an old version as DagsHub's is, and
lets in only who names the token's owner.
"""

import base64
import json
import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from tests.servers import mlflow
from tests.servers.mlflow import Refused

USER = "fakeowner"
REPOSITORY = f"{USER}/fakerepo"
TOKEN = "faketoken-0000"  # noqa: S105 - of no server
OWNER = {"id": 1, "login": USER, "username": USER, "full_name": "", "avatar_url": ""}
ABOUT = {
    "id": 1,
    "owner": OWNER,
    "name": "fakerepo",
    "full_name": REPOSITORY,
    "description": "",
    "private": False,
    "fork": False,
    "parent": None,
    "empty": False,
    "size": 1,
    "website": "",
    "html_url": "",
    "clone_url": "",
    "default_branch": "main",
    "permissions": {"push": True},
    "stars_count": 0,
    "forks_count": 0,
    "watchers_count": 0,
    "open_issues_count": 0,
    "created_at": "2024-01-01T00:00:00Z",
    "updated_at": "2024-01-01T00:00:00Z",
}
COMMIT = {"message": "", "url": "", "timestamp": "2024-01-01T00:00:00Z"}
FIELDS = {"commit_choice", "commit_summary", "versioning", "last_commit", "is_dvc_dir"}
NEW_BRANCH = {"new_branch_name"}
PART = re.compile(
    rb'Content-Disposition: form-data; name="(\w+)"(?:; filename="([^"]*)"'
    rb"\r\nContent-Type: [\w/.+-]+)?\r\n\r\n(.*)\r\n",
    re.DOTALL,
)


@dataclass
class Branch:
    """A branch: its commits' summaries, and its files as they are now."""

    commits: list = field(default_factory=list)
    files: dict = field(default_factory=dict)

    @property
    def head(self):
        """What the last commit is called."""
        return f"{len(self.commits):040x}"


class StandIn(mlflow.StandIn):
    """DagsHub with one repository, whose MLflow is at `tracking_uri`.

    Attributes:
        branches: Those of the repository, by name.
        mirror: Whether the repository mirrors another one; then `sync` shows what was committed.
    """

    def __init__(self, *, mirror=False):
        super().__init__(old=True)
        self.tracking_uri = f"{self.url}/{REPOSITORY}.mlflow"
        self.branches = {"main": Branch()}
        self.mirror = mirror
        self.shown = "0" * 40

    def sync(self):
        """The original of the mirror has what was committed."""
        self.shown = self.branches["main"].head

    def answer(self, method, target, headers, content):
        """MLflow below the repository's name, DagsHub's own interface beside it."""
        prefix = f"/{REPOSITORY}.mlflow"
        path = urlsplit(target).path
        self.told = {}
        if target.startswith(f"{prefix}/"):
            if not _is_basic(headers):
                return 401, b"", True
            return super().answer(method, target.removeprefix(prefix), headers, content)
        self.requests.append((method, path, content))
        self.headers.append(headers)
        call = path.removeprefix(f"/api/v1/repos/{REPOSITORY}").partition("/")[2].split("/")[0]
        self.before(call)
        fault = self.faults[call].popleft() if self.faults[call] else None
        if headers.get("authorization") != f"Bearer {TOKEN}" and not _is_basic(headers):
            return 401, b"", True
        try:
            if isinstance(fault, Refused):
                raise fault
            found = self._own(method, path, headers, content)
        except Refused as refusal:
            return refusal.status, refusal.body, True
        return 200, json.dumps(found).encode(), fault != "lose"

    def _own(self, method, path, headers, content):
        if (method, path) == ("GET", "/api/v1/user"):
            return OWNER
        root = f"/api/v1/repos/{REPOSITORY}"
        if (method, path) == ("GET", root):
            return {**ABOUT, "mirror": self.mirror}
        kind, _, rest = path.removeprefix(f"{root}/").partition("/")
        if (method, kind) == ("GET", "branches") and unquote(rest) in self.branches:
            head = self.shown if self.mirror else self.branches[unquote(rest)].head
            return {"name": unquote(rest), "commit": {**COMMIT, "id": head}}
        if (method, kind) == ("PUT", "content"):
            branch, _, folder = rest.partition("/")
            return self._commit(unquote(branch), unquote(folder), headers, content)
        raise Refused(404, "")

    def _commit(self, branch, folder, headers, content):
        fields, files = _form(headers, content)
        if branch not in self.branches or not folder:
            raise Refused(404, "")
        into = self.branches[branch]
        if fields["commit_choice"] == "commit-to-new-branch":
            if fields["new_branch_name"] in self.branches:
                raise _refused("path conflict")
            new = Branch(list(into.commits), dict(into.files))
            into = self.branches[fields["new_branch_name"]] = new
        elif fields["last_commit"] not in ("", into.head):
            raise _refused("invalid last_commit")
        places = {f"{folder}/{name}": data for name, data in files.items()}
        changed = {place: each for place, each in places.items() if into.files.get(place) != each}
        if changed.keys() & into.files.keys() and not fields["last_commit"]:
            raise _refused("missing last_commit")
        if changed:
            into.files |= changed
            into.commits.append(fields["commit_summary"])
        self.told["etag"] = into.head
        return {"status": "ok"}


def _is_basic(headers):
    pair = base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()
    return headers.get("authorization") == f"Basic {pair}"


def _refused(error):
    refusal = Refused(422, "")
    refusal.body = json.dumps({"error": error, "details": "of the stand-in"}).encode()
    return refusal


def _form(headers, content):
    """Fields and files of a multipart form; each as the client sends it, and no other."""
    found = re.fullmatch(r"multipart/form-data; boundary=([\w-]{1,70})", headers["content-type"])
    if found is None:
        raise _refused("no form")
    boundary = b"--" + found[1].encode()
    first, *parts, last = content.split(boundary)
    if first or last.strip() != b"--" or not parts:
        raise _refused("an unfinished form")
    fields, files = {}, {}
    for part in parts:
        match = PART.fullmatch(part.removeprefix(b"\r\n"))
        if match is None:
            raise _refused("a form that cannot be read")
        name, filename = match[1].decode(), match[2]
        if name != "files" and (filename is not None or name in fields):
            raise _refused(f"{name} is twice there, or a file")
        if filename is not None:
            files[unquote(filename.decode())] = match[3]
        else:
            fields[name] = match[3].decode()
    _check(fields, files)
    return fields, files


def _check(fields, files):
    new = fields.get("commit_choice") == "commit-to-new-branch"
    if fields.keys() != FIELDS | (NEW_BRANCH if new else set()):
        raise _refused(f"the fields are {sorted(fields)}")
    if fields["commit_choice"] not in ("direct", "commit-to-new-branch"):
        raise _refused("commit_choice")
    if fields["versioning"] not in ("auto", "dvc", "git") or fields["is_dvc_dir"] != "true":
        raise _refused("versioning")
    if not 0 < len(fields["commit_summary"]) <= 100:
        raise _refused("commit_summary")
    if not 0 < len(files) <= 100 or any(
        not name or name.startswith("/") or ".." in name.split("/") for name in files
    ):
        raise _refused("files")
