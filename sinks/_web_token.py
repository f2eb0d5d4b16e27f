"""Reads from a JSON Web Token (RFC 7519) how long it is good."""

import base64
import json
from typing import cast


def expiry(token: str) -> float | None:
    """When a token ends (`exp`), in Unix seconds; None if it does not say, or is none."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    padded = parts[1] + "=" * (-len(parts[1]) % 4)
    try:
        told = cast("object", json.loads(base64.urlsafe_b64decode(padded)))
    except ValueError:
        return None
    ends = cast("dict[object, object]", told).get("exp") if isinstance(told, dict) else None
    return float(ends) if isinstance(ends, (int, float)) else None
