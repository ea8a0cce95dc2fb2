"""The BPF programs that judge in the kernel and keep no events."""
