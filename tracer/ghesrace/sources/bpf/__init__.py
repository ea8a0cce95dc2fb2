"""Events by eBPF: compile, load, attach, read."""
