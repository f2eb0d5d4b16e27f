"""A sink of small batches that other processes can import."""

from bus import BatchLimits
from sinks.jsonl import JsonlSink


class SmallBatches(JsonlSink):
    """So small that a kill is likely to come in the middle of many."""

    limits = BatchLimits(events=20, age=0.0)
