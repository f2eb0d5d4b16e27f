"""The text: what is learned, what is examined, and the order of both."""

import sys

import pytest
import torch

from runtime.demo import CorpusMissingError
from runtime.demo._data import Windows, load_corpus, split

TOKENS = torch.arange(1000).remainder(256).to(torch.uint8)


class TestSplit:
    def test_shares_no_paragraph(self):
        """A paragraph that two topics repeat is kept once."""
        common = [f"common {number}" for number in range(10)]
        topics = {
            "b": "\n\n".join([*common, *(f"b {number}" for number in range(10))]),
            "a": "\n\n".join([*(f"a {number}" for number in range(10)), *common]),
        }
        train, validation = (text.decode().split("\n\n") for text in split(topics))
        assert len({*train, *validation}) == len(train) + len(validation) == 30

    def test_examines_the_end_of_every_topic(self):
        """One paragraph in ten, the last ones."""
        topics = {name: "\n\n".join(f"{name}{number}" for number in range(20)) for name in "xy"}
        _, validation = split(topics)
        assert validation.decode().split("\n\n") == ["x18", "x19", "y18", "y19"]

    def test_ignores_the_order_of_the_mapping(self):
        """Two Pythons with the same text train alike."""
        topics = {"a": "one\n\ntwo", "b": "three\n\nfour"}
        assert split(topics) == split(dict(reversed(topics.items())))


class TestThisPython:
    def test_has_enough_text(self):
        """Some hundred thousand bytes of it, mostly English."""
        found = load_corpus()
        text = bytes(found.train.tolist()).decode()
        assert len(found.train) > 200_000
        assert len(found.validation) > 20_000
        assert text.count(" the ") > 1000

    def test_can_be_limited(self):
        """For the toy."""
        found = load_corpus(limit=100)
        assert (len(found.train), len(found.validation)) == (100, 100)

    def test_without_its_help_texts_is_told_so(self, monkeypatch):
        """The message says what to install."""
        monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
        with pytest.raises(CorpusMissingError, match="install the complete standard library"):
            load_corpus()


class TestWindows:
    def test_targets_are_the_next_bytes(self):
        """Shifted by one, int64, one window for every place of the text."""
        windows = Windows(TOKENS, context=16, stride=1)
        window = windows[7]
        assert len(windows) == len(TOKENS) - 16
        assert torch.equal(window["tokens"], torch.arange(7, 23))
        assert torch.equal(window["labels"], torch.arange(8, 24))

    def test_side_by_side_they_read_everything_once(self):
        """Every byte is predicted once, but for the last incomplete window."""
        windows = Windows(TOKENS[:230], context=32, stride=32)
        labels = torch.cat([windows[index]["labels"] for index in range(len(windows))])
        assert torch.equal(labels, TOKENS[1 : 1 + 7 * 32].long())
