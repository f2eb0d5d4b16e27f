"""OpenTelemetry's log signal through its batch processor, into an exporter that only counts."""

import time
from collections.abc import Sequence
from pathlib import Path

from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    LogRecordExporter,
    LogRecordExportResult,
)

from benchmarks.peers._records import Session


class CountingExporter(LogRecordExporter):
    """Accepts every batch and keeps its size only."""

    def __init__(self) -> None:
        self.count = 0

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Count the batch."""
        self.count += len(batch)
        return LogRecordExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 -- the interface has it
        """Nothing is held, so there is nothing to wait for."""
        return True

    def shutdown(self) -> None:
        """Nothing is held."""


def open_batch(_folder: Path) -> Session:
    """Open a logger with the processor's default queue (2,048) and schedule (5 s)."""
    exporter = CountingExporter()
    provider = LoggerProvider()
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    emit = provider.get_logger("peers").emit

    def log(scalars: dict[str, float], step: int, /) -> None:
        attributes = {**scalars, "step": step}
        emit(LogRecord(timestamp=time.time_ns(), event_name="metrics", attributes=attributes))

    return Session(log=log, close=provider.shutdown, kept=lambda: exporter.count)
