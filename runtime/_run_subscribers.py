"""The part of `Run` that subscribers and deciders join."""

from bus import Body, Decider, OnError, Subscription
from runtime._run_watchdog import Watched


class Subscribed(Watched):
    """A run that can be listened to."""

    @property
    def has_listeners(self) -> bool:
        """Whether there is any subscriber or decider; without one, no live-only event is wanted."""
        return self._bus.has_listeners

    def add_subscriber(self, subscription: Subscription, body: Body, on_error: OnError) -> None:
        """Start a subscriber; what `subscribe` and `on` call."""
        self._bus.add_subscriber(subscription, body, on_error)

    def add_decider(self, decider: Decider) -> None:
        """Start asking a decider; what `decider` calls."""
        self._bus.add_decider(decider)

    def report_failure(self, subscription: Subscription, error: BaseException) -> None:
        """Count a handler's failure."""
        self._bus.report_failure(subscription, error)
