"""What the stand-in for Neptune says of its interface, as far as Neptune's own client asks for it.

The client (bravado) makes its requests from these documents (Swagger 2.0): it knows a call by its
`operationId`, and takes the path and the places of the arguments from here. Written anew from what
the client calls and from recordings of its requests; the paths of calls that read values, which
were not recorded, are our own.
"""

from typing import Final

_RUN: Final = ("query:experimentId", "query:attribute")
_FILE: Final = ("query:experimentIdentifier", "query:attribute")
_PAGE: Final = ("query:limit", "query:offset")
_STORAGE: Final = "/api/leaderboard/v1/attributes/storage/"

Call = tuple[str, str, str, tuple[str, ...], str]
"""The client's name for it, method, path, parameters with their places, and what is answered."""

BACKEND: Final[list[Call]] = [
    (
        "getClientConfig",
        "get",
        "/api/backend/v1/clients/config",
        ("header:X-Neptune-Api-Token", "query:alpha"),
        "Config",
    ),
    (
        "exchangeApiToken",
        "get",
        "/api/backend/v1/authorization/oauth-token",
        ("header:X-Neptune-Api-Token",),
        "Tokens",
    ),
    (
        "getProject",
        "get",
        "/api/backend/v1/projects/get",
        ("query:projectIdentifier",),
        "Project",
    ),
]
LEADERBOARD: Final[list[Call]] = [
    (
        "createExperiment",
        "post",
        "/api/leaderboard/v1/experiments",
        ("body:experimentCreationParams", "header:X-Neptune-CliVersion"),
        "Experiment",
    ),
    (
        "getExperiment",
        "get",
        "/api/leaderboard/v1/experiments",
        ("query:experimentId",),
        "Experiment",
    ),
    *(
        (name, method, f"/api/leaderboard/v1/attributes{path}", parameters, answer)
        for name, method, path, parameters, answer in (
            ("getExperimentAttributes", "get", "", _RUN[:1], "Attributes"),
            (
                "executeOperations",
                "post",
                "/operations",
                (_RUN[0], "query:organizationName", "body:operations"),  # the name is Minfx's
                "[Error]",
            ),
            ("ping", "post", "/ping", _RUN[:1], ""),
            (
                "uploadFileSetAttributeTar",
                "post",
                "/uploadFileSetTar",
                (*_RUN, "query:reset"),
                "Upload",
            ),
            ("getFloatAttribute", "get", "/floats", _RUN, "Value"),
            ("getIntAttribute", "get", "/ints", _RUN, "Value"),
            ("getBoolAttribute", "get", "/bools", _RUN, "Value"),
            ("getStringAttribute", "get", "/strings", _RUN, "Value"),
            ("getStringSetAttribute", "get", "/stringSets", _RUN, "Set"),
            ("getFloatSeriesValues", "get", "/floatSeries/values", (*_RUN, *_PAGE), "Points"),
            ("getStringSeriesValues", "get", "/stringSeries/values", (*_RUN, *_PAGE), "Points"),
        )
    ),
    *(
        (f"{name}{call}", "post", f"{_STORAGE}{kind}/upload{path}", (*_FILE, *more, *own), "Upload")
        for name, kind, own in (
            ("fileAtom", "file", ()),
            ("fileSetFile", "fileset", ("query:subPath",)),
        )
        for call, path, more in (
            ("Upload", "", ("query:ext",) if kind == "file" else ()),
            (
                "MultipartUploadStart",
                "/start",
                ("query:totalLength", *(("query:ext",) if kind == "file" else ())),
            ),
            ("MultipartUploadPart", "/part", ("query:uploadId", "query:uploadPartIdx")),
            ("MultipartUploadFinish", "/finish", ("query:uploadId",)),
        )
    ),
]

_ANSWERS: Final = {
    "Config": {"pyLibVersions": "Versions", "multiPartUpload": "Limits", "artifacts": "Artifacts"},
    "Versions": {},
    "Limits": {},
    "Artifacts": {},
    "Tokens": {},
    "Project": {},
    "Experiment": {},
    "Attributes": {"attributes": "[Attribute]"},
    "Attribute": {},
    "Error": {},
    "Upload": {"errors": "[Error]"},
    "Value": {},
    "Set": {},
    "Points": {"values": "[Point]"},
    "Point": {},
}
"""The parts of each answer that are objects themselves."""


def document(kind: str) -> dict[str, object]:
    """The interface of one part of the server: backend, leaderboard or artifacts."""
    # The client fails on a document without calls, so that of the artifacts has some too.
    calls = BACKEND if kind == "backend" else LEADERBOARD
    paths: dict[str, dict[str, object]] = {}
    for name, method, path, parameters, answer in calls:
        paths.setdefault(path, {})[method] = {
            "operationId": name,
            "tags": ["api"],
            "produces": ["application/json"],
            "consumes": ["application/json"],
            "parameters": [_parameter(each) for each in parameters],
            "responses": {"200": _answer(answer)},
        }
    return {
        "swagger": "2.0",
        "info": {"title": kind, "version": "2"},
        "paths": paths,
        "definitions": {
            name: {
                "type": "object",
                "properties": {key: _schema(each) for key, each in parts.items()},
            }
            for name, parts in _ANSWERS.items()
        },
    }


def _parameter(described: str) -> dict[str, object]:
    place, _, name = described.partition(":")
    if place == "body":
        return {"name": name, "in": place, "required": True, "schema": {}}
    return {"name": name, "in": place, "type": "string", "required": False}


def _answer(name: str) -> dict[str, object]:
    answer: dict[str, object] = {"description": name or "nothing"}
    return {**answer, "schema": _schema(name)} if name else answer


def _schema(name: str) -> dict[str, object]:
    if name.startswith("["):
        return {"type": "array", "items": _schema(name.strip("[]"))}
    return {"$ref": f"#/definitions/{name}"}
