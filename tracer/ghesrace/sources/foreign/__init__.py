# SPDX-License-Identifier: Apache-2.0
"""This package reads traces of other tools: trace.dat, the text of ftrace, and perf script."""
