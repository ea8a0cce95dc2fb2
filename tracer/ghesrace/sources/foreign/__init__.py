"""Traces of other tools: trace.dat, ftrace text, perf script."""
