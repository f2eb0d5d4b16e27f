import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import AttemptInfo, MessageLogged, MetricsLogged
from runtime.report import write_report
from runtime.report._page import embedded_json

HOSTILE = "</script><script>window.stolen=1</script><!--\u2028{{scripts}}&amp;\"'"


class Elements(HTMLParser):
    """Collects scripts, styles, metas and everything that refers to another place."""

    def __init__(self):
        super().__init__()
        self.texts: dict[str, list[str]] = {"script": [], "style": [], "title": []}
        self.metas: dict[str, str] = {}
        self.references: list[str] = []
        self._open = ""

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        if tag in self.texts:
            self.texts[tag].append("")
            self._open = tag
        if tag == "meta" and "http-equiv" in named:
            self.metas[named["http-equiv"]] = named["content"]
        self.references += [named[name] for name in ("src", "href") if name in named]

    def handle_endtag(self, tag):
        if tag == self._open:
            self._open = ""

    def handle_data(self, data):
        if self._open:
            self.texts[self._open][-1] += data


@pytest.fixture
def elements(record_run):
    """The parsed page of a run whose every string is hostile."""
    attempt = AttemptInfo(number=1, pid=1, host="h", started=1.0, outcome="failed", error=HOSTILE)
    events = [MetricsLogged(step=1, metrics={HOSTILE: 1.0}), MessageLogged(text=HOSTILE)]
    page = Elements()
    page.feed(write_report(record_run([attempt], events, name=HOSTILE)).read_text(encoding="utf-8"))
    return page


def test_hostile_strings_stay_data(elements):
    """There are five scripts of ours and the document, which holds the strings unchanged."""
    document, *scripts = elements.texts["script"]

    assert len(scripts) == 5
    page = json.loads(document)
    assert page["name"] == page["story"] == page["messages"]["items"][0]["text"] == HOSTILE
    assert page["metrics"][0]["name"] == HOSTILE
    assert elements.texts["title"] == [HOSTILE]


def test_the_policy_allows_our_scripts_and_styles_alone(elements):
    """Each script and style is named by its hash, and nothing else may be loaded or run."""
    policy = elements.metas["Content-Security-Policy"]

    def hashes(texts):
        digests = (hashlib.sha256(text.encode()).digest() for text in texts)
        return [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]

    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives.pop("script-src").split() == hashes(elements.texts["script"][1:])
    assert directives.pop("style-src").split() == hashes(elements.texts["style"])
    assert directives == {
        "default-src": "'none'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_refers_to_nothing_outside(elements):
    """The icon is the only reference and carries its own data."""
    assert [reference.partition(":")[0] for reference in elements.references] == ["data"]


@given(st.recursive(st.text() | st.integers() | st.none(), st.lists))
def test_embedded_json_reads_back_and_cannot_end_its_element(value):
    """Whatever it holds: the same value comes back, and no character has a meaning in HTML."""
    text = embedded_json(value)

    assert json.loads(text) == value
    assert not re.search("[<>&\u2028\u2029]", text)


def test_embedded_json_refuses_what_json_cannot_say():
    """A NaN would break the page, so it must not get that far."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded_json(float("nan"))
