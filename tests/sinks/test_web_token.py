"""When a JSON Web Token ends."""

import base64
import json

import pytest

from sinks._web_token import expiry


@pytest.mark.parametrize(
    ("told", "ends"),
    [({"exp": 12}, 12.0), ({"exp": "soon"}, None), ({}, None), ([], None), (None, None)],
)
def test_when_a_token_ends(told, ends):
    """As it says itself, with or without padding."""
    middle = base64.urlsafe_b64encode(json.dumps(told).encode()).decode().rstrip("=")
    assert expiry(f"head.{middle}.signature") == ends


@pytest.mark.parametrize(
    "text", ["", "no token", "a.b.c", "FAKE.JWT.TOKEN", "no.text\u00e9.at all"]
)
def test_what_is_no_token(text):
    """Does not say when it ends."""
    assert expiry(text) is None
