"""What this machine is: symbols, BTF, HEST, clocks, CPUs, memory."""
