"""A run as one HTML file that opens anywhere, without a network.

`write_report` reads the journal through `bus` and needs neither torch nor the training process;
the run may still be going on. The plots are drawn by uPlot, which lies beside its licence in
`assets`.
"""

from runtime.report._write import write_report

__all__ = ["write_report"]
