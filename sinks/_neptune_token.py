"""What Neptune's API token says, and how long an access token is good.

An API token is the base64 of a JSON object with the server's address and a key. An access token is
a JSON Web Token (RFC 7519), of which only `exp` is read here.
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


def expiry(access_token: str) -> float | None:
    """When an access token ends, in Unix seconds; None if it does not say."""
    parts = access_token.split(".")
    if len(parts) < 2:
        return None
    padded = parts[1] + "=" * (-len(parts[1]) % 4)
    try:
        told = cast("object", json.loads(base64.urlsafe_b64decode(padded)))
    except ValueError:
        return None
    ends = cast("dict[object, object]", told).get("exp") if isinstance(told, dict) else None
    return float(ends) if isinstance(ends, (int, float)) else None


def _is_address(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
