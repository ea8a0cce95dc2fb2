# SPDX-License-Identifier: Apache-2.0
"""`python -m lab.matrix` measures every kernel that people run and writes docs/kernels.md."""
