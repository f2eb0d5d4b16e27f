"""The storage behind the stand-in for Comet: uploads in parts, at an address of its own.

Written from what comet_ml 3.58.8 sends when it is told that storage may be used.
"""

import hashlib
import uuid

from sinks.testing import Reply
from tests.servers import _tracker
from tests.servers._comet_bodies import Refused


class Storage(_tracker.TrackerServer):
    """Takes parts at the addresses that it has handed out; each request is a call "part"."""

    methods = frozenset({"PUT"})

    def __init__(self):
        super().__init__()
        self._uploads = {}

    @property
    def sizes(self):
        """Bytes of each part that was sent, taken or not."""
        return [len(content) for content in self.calls("part")]

    def begin(self, asset, count):
        """Hand out addresses for the parts of an asset: an id, and the addresses."""
        request = uuid.uuid4().hex
        self._uploads[request] = asset, [None] * count
        return request, [f"{self.url}/{request}/{n}?X-Amz-Signature=s" for n in range(count)]

    def end(self, request, size, parts):
        """The asset that parts are of, and its content; they are forgotten."""
        asset, bodies = self._uploads.get(request, (None, []))
        told = [{"ETag": _tag(body), "PartNumber": number} for number, body in enumerate(bodies, 1)]
        if not told or parts != told or size != sum(map(len, bodies)):
            raise Refused(400, 0, "these are not the parts that were uploaded")
        del self._uploads[request]
        return asset, b"".join(bodies)

    def read(self, request):
        return "part", request.content

    def apply(self, request, call, body):
        del call
        _, upload, number = request.path.split("/")
        _, bodies = self._uploads.get(upload, (None, []))
        if "authorization" in request.headers or not bodies:
            raise _tracker.Refused(403, b"<Error><Code>AccessDenied</Code></Error>")
        bodies[int(number)] = body
        return Reply(200, b"", {"etag": _tag(body)})


def _tag(content):
    return f'"{hashlib.md5(content or b"").hexdigest()}"'  # noqa: S324 - as storage does it
