"""Destinations of a run's events, one public module each.

This package is where `hotloop` keeps them; this release brings none yet. A run's events are in its
journal, whatever destination reads them later.
"""
