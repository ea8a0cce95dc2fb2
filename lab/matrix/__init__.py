# SPDX-License-Identifier: Apache-2.0
"""Every kernel that people run, measured: `python -m lab.matrix` writes docs/kernels.md."""
