"""How fast training goes: rates from what a loop has done between two moments."""

from typing import NamedTuple


class Progress(NamedTuple):
    """What a loop had done when a step ended; counts and times only grow.

    One tuple and not several attributes, so that another thread reads all of one moment.

    Attributes:
        step: The step that ended.
        steps: Steps since the first one, which is not counted.
        samples: Samples in them.
        tokens: Tokens in them.
        flops: Floating-point operations in them.
        waited: Seconds for which they waited for data.
        time: When it was, in seconds on a monotonic clock.
    """

    step: int
    steps: int
    samples: int
    tokens: int
    flops: float
    waited: float
    time: float


def rates(before: Progress, after: Progress, peak_flops: float | None) -> dict[str, float]:
    """Rates of the wall-clock time between two moments, whatever else happened in it.

    Args:
        before: The earlier moment.
        after: The later one, at least one step on.
        peak_flops: Operations a second that the hardware could have done; None if not known.

    Returns:
        Rates by metric; those of what the loop did not tell are left out. The share of time spent
        waiting for data and the utilisation of the hardware (MFU: operations done over operations
        possible, Chowdhery et al. 2022, "PaLM", appendix B) lie between 0 and 1.
    """
    seconds = max(after.time - before.time, 1e-9)
    flops_per_second = (after.flops - before.flops) / seconds
    told = {
        "samples_per_second": (after.samples - before.samples) / seconds,
        "tokens_per_second": (after.tokens - before.tokens) / seconds,
        "flops_per_second": flops_per_second,
        "mfu": flops_per_second / peak_flops if peak_flops else 0.0,
        "data_wait_share": (after.waited - before.waited) / seconds,
    }
    found = {f"throughput/{name}": rate for name, rate in told.items() if rate}
    return {"throughput/steps_per_second": (after.steps - before.steps) / seconds, **found}
