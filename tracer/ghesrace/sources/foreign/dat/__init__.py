# SPDX-License-Identifier: Apache-2.0
"""This package reads trace-cmd's trace.dat, versions 6 and 7."""
