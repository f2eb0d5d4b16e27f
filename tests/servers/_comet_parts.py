"""The storage behind the stand-in for Comet: uploads in parts, at an address of its own.

Written from what comet_ml 3.58.8 sends when it is told that storage may be used.
"""

import hashlib
import threading
import uuid
from collections import deque
from http.server import ThreadingHTTPServer

from tests.servers._comet_http import Refused, handler


class Storage:
    """Takes parts at the addresses that it has handed out; `with Storage() as storage:` serves.

    Attributes:
        sizes: Bytes of each part that was sent, taken or not.
        faults: Statuses that the next parts are answered; None takes one.
    """

    def __init__(self):
        self.sizes = []
        self.faults = deque()
        self._uploads = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

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

    def answer(self, method, target, headers, content):
        """As the stand-in for Comet answers."""
        self.sizes.append(len(content))
        fault = self.faults.popleft() if self.faults else None
        _, request, number = target.partition("?")[0].split("/")
        _, bodies = self._uploads.get(request, (None, []))
        if fault is not None:
            return fault, {}, b"", True
        if method != "PUT" or "authorization" in headers or not bodies:
            return 403, {}, b"<Error><Code>AccessDenied</Code></Error>", True
        bodies[int(number)] = content
        return 200, {"etag": _tag(content)}, b"", True


def _tag(content):
    return f'"{hashlib.md5(content or b"").hexdigest()}"'  # noqa: S324 - as storage does it
