"""What the vendors' own clients were recorded to send, and how it is sent again."""

import json
import re
from pathlib import Path

FOLDER = Path(__file__).parent / "recordings"


def names_of(service):
    """The recordings of a service's client."""
    return sorted(path.stem for path in (FOLDER / service).glob("*.jsonl"))


def load(service, name):
    """The exchanges of a recording, in order."""
    text = (FOLDER / service / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def without(fields, name):
    """The fields but for one."""
    return {key: each for key, each in fields.items() if key != name}


class Ids(dict):
    """The ids that a server gave, by those that the recorded one had given."""

    def translate(self, text):
        """The text with the ids of this server."""
        if not self:
            return text
        return re.sub("|".join(map(re.escape, self)), lambda found: self[found[0]], text)
