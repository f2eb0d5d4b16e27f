"""`PostSink` under two more names, each with variables of its own, so that a run can have both."""

from tests.sinks.post_sink import PostSink


class Refused(PostSink):
    """The one whose server refuses connections in the tests."""

    name = "refused"

    class Settings(PostSink.Settings, env_prefix="REFUSED_"):
        """As `PostSink`."""


class Silent(PostSink):
    """The one whose server takes requests and says nothing in the tests."""

    name = "silent"

    class Settings(PostSink.Settings, env_prefix="SILENT_"):
        """As `PostSink`."""
