# SPDX-License-Identifier: Apache-2.0
"""This package reads the text of ftrace, trace-cmd report and perf script."""
