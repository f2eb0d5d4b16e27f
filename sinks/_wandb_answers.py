"""What an answer of a W&B server means, where it is not what its status says.

GraphQL answers 200 with `errors` in it, and file streams answer 400 with a code in a header.
"""

import re
from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue

from bus import DeliveryError, MisconfiguredError, RejectedError, Response, UnavailableError

_CODE: Final = "x-wandb-error-code"
_RESET: Final = "ratelimit-reset"
_LIMITED: Final = "run_metric_limit_exceeded"
_SOMEBODY: Final = re.compile(
    r"permission|denied|unauthori[sz]ed|forbidden|not logged in|not found|does not exist",
    re.IGNORECASE,
)


def classify(response: Response) -> DeliveryError | None:
    """What an answer means where the service disagrees with the default; None where it does not."""
    message = f"HTTP {response.status}: {' '.join(response.text.split())[:500]}"
    if response.status == 429 and not response.headers.get("retry-after"):
        wish = response.headers.get(_RESET, "")
        seconds = float(wish) if re.fullmatch(r"\d{1,6}(\.\d{1,6})?", wish) else None
        return UnavailableError(message, retry_after=seconds)
    if response.status in (410, 501):
        return MisconfiguredError(message, fix="check the address and the run there")
    if response.headers.get(_CODE) == _LIMITED:
        return MisconfiguredError(
            message, fix="the run has as many values as the account allows; log less, or less often"
        )
    return None


def data_of(answer: JsonValue, call: str) -> dict[str, JsonValue]:
    """What a GraphQL call returned.

    Raises:
        UnavailableError: It is no answer to GraphQL.
        MisconfiguredError: It says that somebody has to act.
        RejectedError: It says no.
    """
    found = answer if isinstance(answer, dict) else {}
    if errors := found.get("errors"):
        words = f"{call}: {'; '.join(_messages(errors))}"[:500]
        if _SOMEBODY.search(words):
            raise MisconfiguredError(words, fix="check the key, the entity and the project")
        raise RejectedError(words)
    data = found.get("data")
    if not isinstance(data, dict):
        raise UnavailableError(f"{call}: the answer has no data")
    return data


def _messages(errors: JsonValue) -> Sequence[str]:
    listed = errors if isinstance(errors, list) else [errors]
    said = [each for each in listed if isinstance(each, dict)]
    return [str(each.get("message", each)) for each in said] or [str(errors)]
