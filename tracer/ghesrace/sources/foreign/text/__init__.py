"""Text of ftrace, trace-cmd report and perf script."""
