"""One module per peer, imported only in the process that measures it.

Every adapter switches off what its peer does beside logging (system metrics, console, code and
environment capture), so that the numbers are those of the log call at its best.
"""
