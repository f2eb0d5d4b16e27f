"""A strict stand-in for a model hub: repositories, commits, one account.

It answers what the hub's own client calls to make a repository and to commit files to it, each
file within the commit as small ones are. Whatever else is called is remembered as unknown.
"""

import base64
import json
import re
import threading
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from sinks.testing import Received, Reply, ScriptedServer

OWNER = "ada"
_PREUPLOAD = re.compile(r"/api/models/([^/]+/[^/]+)/preupload/([^/]+)")
_COMMIT = re.compile(r"/api/models/([^/]+/[^/]+)/commit/([^/]+)")
_UNASKED = "/api/agent-harnesses"
"""The client looks there once in a process, without the account's token."""


@dataclass
class Repo:
    """A repository: its files by branch, and the titles of its commits."""

    private: bool
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    titles: list[str] = field(default_factory=list)


class HubServer(ScriptedServer):
    """Serves one account.

    Attributes:
        repos: By full name.
        cards: Model cards that were to be validated.
        unknown: Requests that it has no answer to.
        gate: Commits wait until it is set, as over a slow line.
        refusing: A part of addresses, and the status to answer there.
    """

    def __init__(self, token: str) -> None:
        super().__init__(self._answer)
        self.repos: dict[str, Repo] = {}
        self.cards: list[str] = []
        self.unknown: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.refusing: tuple[str, int] | None = None
        self._token = token

    def titles(self) -> list[str]:
        """The titles of all commits."""
        return [title for repo in self.repos.values() for title in repo.titles]

    def _answer(self, request: Received) -> Reply:
        path = unquote(urlsplit(request.target).path)
        if path == _UNASKED:
            return Reply(404)
        return self._refuse(path, request) or self._serve(path, request)

    def _refuse(self, path: str, request: Received) -> Reply | None:
        if request.headers.get("authorization") != f"Bearer {self._token}":
            return Reply(401, {"error": "Invalid username or password."})
        if self.refusing is not None and self.refusing[0] in path:
            return Reply(
                self.refusing[1], {"error": f"failed for {request.headers['authorization']}"}
            )
        return None

    def _serve(self, path: str, request: Received) -> Reply:
        if path == "/api/repos/create":
            return self._create(json.loads(request.body))
        if path == "/api/validate-yaml":
            self.cards.append(json.loads(request.body)["content"])
            return Reply(200, {"errors": [], "warnings": []})
        if found := _PREUPLOAD.fullmatch(path):
            return self._preupload(found[1], json.loads(request.body))
        if found := _COMMIT.fullmatch(path):
            return self._commit(found[1], found[2], request.body)
        self.unknown.append(f"{request.method} {path}")
        return Reply(404)

    def _create(self, wanted) -> Reply:
        name = f"{wanted.get('organization') or OWNER}/{wanted['name']}"
        address = {"url": f"{self.url}/{name}"}
        if name in self.repos:
            return Reply(409, {**address, "error": "You already created this model repo"})
        self.repos[name] = Repo(private=wanted.get("visibility") == "private")
        return Reply(200, address)

    def _preupload(self, name: str, wanted) -> Reply:
        if name not in self.repos:
            return Reply(404, b"{}", {"x-error-code": "RepoNotFound"})
        modes = [
            {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
            for each in wanted["files"]
        ]
        return Reply(200, {"files": modes})

    def _commit(self, name: str, branch: str, body: bytes) -> Reply:
        assert self.gate.wait(15), "a test left its gate closed"
        repo = self.repos[name]
        header, *operations = [json.loads(line) for line in body.splitlines()]
        files = repo.files.setdefault(branch, {})
        for each in operations:
            assert each["key"] == "file", each["key"]
            files[each["value"]["path"]] = base64.b64decode(each["value"]["content"])
        repo.titles.append(header["value"]["summary"])
        oid = f"{len(repo.titles):040x}"
        return Reply(200, {"commitUrl": f"{self.url}/{name}/commit/{oid}", "commitOid": oid})
