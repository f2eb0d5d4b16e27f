"""What Neptune's API token says.

It is the base64 of a JSON object with the server's address and a key.
"""

import base64
import json
from dataclasses import dataclass
from typing import Self, cast
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class ApiToken:
    """What of an API token may be shown.

    Attributes:
        api: Address that requests go to, without a slash at the end.
        pages: Address of the pages that people look at.
    """

    api: str
    pages: str

    @classmethod
    def parsed(cls, text: str) -> Self:
        """Read a token.

        Raises:
            ValueError: It is none.
        """
        try:
            told = cast("object", json.loads(base64.b64decode(text.strip(), validate=True)))
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise ValueError("is no API token: it must be the base64 of a JSON object")  # noqa: TRY004 - the text is wrong
        values = cast("dict[object, object]", told)
        pages = values.get("api_address") or values.get("api_url")
        api = values.get("api_url") or pages
        if not _is_address(api) or not _is_address(pages):
            raise ValueError("is no API token: it holds no http or https address in api_address")
        return cls(str(api).rstrip("/"), str(pages).rstrip("/"))


def _is_address(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
