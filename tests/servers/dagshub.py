"""A stand-in for DagsHub: a repository, and MLflow's server below its name.

It takes the requests that DagsHub's own client makes (version 0.7.3, recordings/dagshub) and
refuses what lacks a field of theirs or has another; `tests/sinks/test_dagshub_server.py` checks
both. Its MLflow is the stand-in of tests/servers/mlflow.py, of an old version as DagsHub's is, and
lets in only who names the token's owner.
"""

import base64
import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from sinks.testing import Reply
from tests.servers import _tracker, mlflow
from tests.servers._tracker import encoded

USER = "fakeowner"
REPOSITORY = f"{USER}/fakerepo"
TOKEN = "faketoken-0000"  # noqa: S105 - of no server
OWN = "/api/v1/"
ROOT = f"{OWN}repos/{REPOSITORY}"
MLFLOW = f"/{REPOSITORY}.mlflow"
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


class Refused(_tracker.Refused):
    """In the words of DagsHub's own interface."""

    def __init__(self, status, error=""):
        super().__init__(status, {"error": error, "details": "of the stand-in"}, error)


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

    def __init__(self, *, mirror=False, serves_artifacts=True):
        super().__init__(old=True, serves_artifacts=serves_artifacts)
        self.branches = {"main": Branch()}
        self.mirror = mirror
        self.shown = "0" * 40

    @property
    def tracking_uri(self):
        """Where the repository's MLflow is."""
        return self.url + MLFLOW

    def sync(self):
        """The original of the mirror has what was committed."""
        self.shown = self.branches["main"].head

    def answer(self, method, target, headers, content):
        """MLflow below the repository's name, DagsHub's own interface beside it."""
        own = target.startswith(OWN)
        bearer = own and headers.get("authorization") == f"Bearer {TOKEN}"
        if not bearer and not _is_basic(headers):
            return Reply(401, b"")
        if not own and not target.startswith(f"{MLFLOW}/"):
            return Reply(404, b"")
        return super().answer(method, target.removeprefix(MLFLOW), headers, content)

    def read(self, request):
        if not request.path.startswith(OWN):
            return super().read(request)
        name = request.path.removeprefix(f"{ROOT}/").removeprefix(OWN)
        return name.partition("/")[0], request.path

    def apply(self, request, call, body):
        if not request.path.startswith(OWN):
            return super().apply(request, call, body)
        if (request.method, body) == ("GET", f"{OWN}user"):
            return OWNER
        if (request.method, body) == ("GET", ROOT):
            return {**ABOUT, "mirror": self.mirror}
        rest = body.removeprefix(f"{ROOT}/{call}/")
        if (request.method, call) == ("GET", "branches") and unquote(rest) in self.branches:
            head = self.shown if self.mirror else self.branches[unquote(rest)].head
            return {"name": unquote(rest), "commit": {**COMMIT, "id": head}}
        if (request.method, call) == ("PUT", "content"):
            branch, _, folder = rest.rpartition("/")
            return self._commit(unquote(branch), unquote(folder), request)
        raise Refused(404)

    def _commit(self, branch, folder, request):
        fields, files = _form(request.headers, request.content)
        if branch not in self.branches or not folder:
            raise Refused(404)
        into = self.branches[branch]
        if fields["commit_choice"] == "commit-to-new-branch":
            if fields["new_branch_name"] in self.branches:
                raise Refused(422, "path conflict")
            new = Branch(list(into.commits), dict(into.files))
            into = self.branches[fields["new_branch_name"]] = new
        elif fields["last_commit"] not in ("", into.head):
            raise Refused(422, "invalid last_commit")
        places = {f"{folder}/{name}": data for name, data in files.items()}
        changed = {place: each for place, each in places.items() if into.files.get(place) != each}
        if changed.keys() & into.files.keys() and not fields["last_commit"]:
            raise Refused(422, "missing last_commit")
        if changed:
            into.files |= changed
            into.commits.append(fields["commit_summary"])
        return Reply(200, encoded({"status": "ok"}), {"etag": into.head})


def _is_basic(headers):
    pair = base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()
    return headers.get("authorization") == f"Basic {pair}"


def _form(headers, content):
    """Fields and files of a multipart form; each as the client sends it, and no other."""
    found = re.fullmatch(r"multipart/form-data; boundary=([\w-]{1,70})", headers["content-type"])
    if found is None:
        raise Refused(422, "no form")
    boundary = b"--" + found[1].encode()
    first, *parts, last = content.split(boundary)
    if first or last.strip() != b"--" or not parts:
        raise Refused(422, "an unfinished form")
    fields, files = {}, {}
    for part in parts:
        match = PART.fullmatch(part.removeprefix(b"\r\n"))
        if match is None:
            raise Refused(422, "a form that cannot be read")
        name, filename = match[1].decode(), match[2]
        if name != "files" and (filename is not None or name in fields):
            raise Refused(422, f"{name} is twice there, or a file")
        if filename is not None:
            files[unquote(filename.decode())] = match[3]
        else:
            fields[name] = match[3].decode()
    _check(fields, files)
    return fields, files


def _check(fields, files):
    new = fields.get("commit_choice") == "commit-to-new-branch"
    if fields.keys() != FIELDS | (NEW_BRANCH if new else set()):
        raise Refused(422, f"the fields are {sorted(fields)}")
    if fields["commit_choice"] not in ("direct", "commit-to-new-branch"):
        raise Refused(422, "commit_choice")
    if fields["versioning"] not in ("auto", "dvc", "git") or fields["is_dvc_dir"] != "true":
        raise Refused(422, "versioning")
    if not 0 < len(fields["commit_summary"]) <= 100:
        raise Refused(422, "commit_summary")
    if not 0 < len(files) <= 100 or any(
        not name or name.startswith("/") or ".." in name.split("/") for name in files
    ):
        raise Refused(422, "files")
