"""The statement of method that stands below every table of results."""

METHOD = """\
Each row logs six fresh Python floats and a step per call, and the call alone is timed, on the
thread that makes it (`perf_counter_ns`). The floats and their dict are made before the clock
starts; what the empty function costs is the floor of the measurement and is not subtracted.

*Paced*: a call every {period:g} ms, directly after about a millisecond of torch work (two 192 x
192 matmuls and one pass over 4 MiB, on one thread), so that caches hold the work and not the
logger, and helper threads and processes run beside it. A call that takes longer than the period
delays the next. *Flooded*: back-to-back calls in the same run, afterwards. In each mode
{warmup} calls go first unrecorded; a mode ends after {calls:,} recorded calls or {budget:g} s,
and the tables say how many.

Every block is a process of its own with a folder of its own, one after the other, never two at
once. It waits up to {patience:g} s for other programs to use less than a tenth of the machine.
Rounds: {rounds}; they shuffle the order of the blocks (fixed seed), so that drift of the
machine is shared. Both rows of ours are measured {repeats} times per round; how far those equal
blocks differ is printed as A/A, and a ratio inside that spread says nothing. Percentiles are
over the calls of all blocks of a row.

All peers run without a network: offline modes, a local file or a server on 127.0.0.1. System
metrics, console, code, git and environment capture are off everywhere; queues, batches and
flush intervals are at their defaults. The OpenTelemetry exporter only counts, so that row
writes nothing anywhere. The local MLflow server shares this machine's cores with the training
thread, which a remote one would not. Ours runs without sinks, as the offline peers do.

*kept* counts, after closing, the calls that are found in what the peer stored, of all calls
made (warm-up included). A close that still waits after {close_budget:g} s is given up, and what
it has not stored by then counts as not kept. *work* is the mean of the torch work before a
paced call, less what it is beside the empty function: what helper threads and processes take
from the step outside the call. It includes the noise of the machine.
"""
