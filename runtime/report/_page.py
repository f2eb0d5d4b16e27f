"""Turn a report's document into one HTML file that loads nothing and runs nothing but our script.

The document is embedded as JSON in which no character can end its element. The page's policy names
the hashes of our own scripts and styles, so that even markup smuggled in could not be executed.
"""

import base64
import hashlib
import html
import json
import re
from importlib import resources

from runtime.report._document import Document

_UNSAFE = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
_STYLES = ("uPlot.min.css", "report.css")
_SCRIPTS = ("uPlot.iife.min.js", "format.js", "stage.js", "plots.js", "report.js")


def render(document: Document) -> str:
    """The whole page."""
    styles = [_asset(name) for name in _STYLES]
    scripts = [_asset(name) for name in _SCRIPTS]
    parts = {
        "policy": _policy(styles, scripts),
        "title": html.escape(document["name"]),
        "styles": "\n".join(f"<style>{style}</style>" for style in styles),
        "data": embedded_json(document),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    # One pass, so that a placeholder inside the data stays what it is.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _asset("report.html"))


def embedded_json(value: object) -> str:
    r"""JSON that may stand inside a script element: `<`, `>`, `&`, U+2028 and U+2029 as `\uXXXX`.

    Raises:
        ValueError: It holds a NaN or an infinity, which JSON does not know.
    """
    encoded = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return encoded.translate(_UNSAFE)


def _asset(name: str) -> str:
    return resources.files("runtime.report").joinpath("assets", name).read_text(encoding="utf-8")


def _policy(styles: list[str], scripts: list[str]) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            "img-src data:",
            f"style-src {' '.join(map(_hash, styles))}",
            f"script-src {' '.join(map(_hash, scripts))}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
