# SPDX-License-Identifier: Apache-2.0
"""Text of ftrace, trace-cmd report and perf script."""
