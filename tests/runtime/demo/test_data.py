"""The text: what is learned, what is examined, and the order of both."""

import sys

import pytest
import torch

from runtime.demo import CorpusMissingError
from runtime.demo._data import Corpus, load_corpus, split


def corpus(length: int = 1000) -> Corpus:
    tokens = torch.arange(length).remainder(256).to(torch.uint8)
    return Corpus(train=tokens, validation=tokens[: length // 2])


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


class TestBatches:
    def test_depend_on_seed_and_step_alone(self):
        """Whoever resumes at a step sees what an unbroken run sees there."""
        first, _ = corpus().batch(seed=3, step=7, size=4, context=16)
        torch.manual_seed(99)
        again, _ = corpus().batch(seed=3, step=7, size=4, context=16)
        other_step, _ = corpus().batch(seed=3, step=8, size=4, context=16)
        other_seed, _ = corpus().batch(seed=4, step=7, size=4, context=16)
        assert torch.equal(first, again)
        assert not torch.equal(first, other_step)
        assert not torch.equal(first, other_seed)

    def test_targets_are_the_next_bytes(self):
        """Shifted by one, int64, of the shape that was asked for."""
        inputs, targets = corpus().batch(seed=0, step=1, size=4, context=16)
        assert inputs.shape == targets.shape == (4, 16)
        assert inputs.dtype == targets.dtype == torch.int64
        assert torch.equal((inputs + 1) % 256, targets)

    def test_validation_reads_everything_once(self):
        """Every byte is predicted once, but for the last incomplete window."""
        found = corpus(460)
        batches = list(found.validation_batches(size=3, context=32))
        targets = torch.cat([targets.flatten() for _, targets in batches])
        assert [len(inputs) for inputs, _ in batches] == [3, 3, 1]
        assert torch.equal(targets, found.validation[1 : 1 + 7 * 32].long())
