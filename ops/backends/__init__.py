"""Implementations of the operations, one folder each; `ops.dispatch` finds them and picks one per call."""
