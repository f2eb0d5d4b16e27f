"""Bodies of requests to the stand-in for Comet, taken apart strictly: JSON and RFC 7578."""

import json
import re

from tests.servers import _tracker


class Refused(_tracker.Refused):
    """In Comet's words."""

    def __init__(self, status, code=0, message="", headers=None):
        told = {"msg": message, "code": status, "sdk_error_code": code}
        super().__init__(status, told, message, headers)


def decoded(request):
    """The body as data; None if it is none."""
    if not request.content:
        return None
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise Refused(415, 0, "a body must be application/json")
    try:
        return json.loads(request.content, parse_constant=_refuse_constant)
    except ValueError as error:
        raise Refused(400, 0, f"the body cannot be read: {error}") from None


def _refuse_constant(name):
    raise ValueError(f"{name} is no JSON")


def parts_of(request):
    """The parts of a multipart body by name."""
    kind = request.headers.get("content-type", "")
    if not kind.startswith("multipart/form-data; boundary="):
        raise Refused(415, 0, "an upload must be multipart/form-data")
    _, *pieces, last = request.content.split(b"--" + kind.partition("boundary=")[2].encode())
    if last != b"--\r\n":
        raise Refused(400, 0, "the parts do not end")
    found = {}
    for piece in pieces:
        head, _, body = piece.partition(b"\r\n\r\n")
        name = re.search(rb'\r\nContent-Disposition: form-data; name="(\w+)"', head)
        if name is None or not body.endswith(b"\r\n"):
            raise Refused(400, 0, "a part is malformed")
        found[name[1].decode()] = body[:-2]
    return found
