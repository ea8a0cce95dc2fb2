# SPDX-License-Identifier: Apache-2.0
"""Traces of other tools: trace.dat, ftrace text, perf script."""
