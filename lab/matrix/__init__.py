"""Every kernel that people run, measured: `python -m lab.matrix` writes docs/kernels.md."""
