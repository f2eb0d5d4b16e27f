"""What logging six numbers costs the training thread: this library beside its peers, in one run.

`python -m benchmarks.peers` from the root of the repository measures every peer on this machine
and writes `results.md` and `results.json` next to this file. `make bench-peers` does the same in
an environment that has the peers installed. Nothing here leaves the machine: every peer runs
offline or against a server on 127.0.0.1. The method is stated in `_method.py` and printed with
the results.
"""
