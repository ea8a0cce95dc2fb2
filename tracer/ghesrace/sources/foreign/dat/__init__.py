# SPDX-License-Identifier: Apache-2.0
"""trace.dat, versions 6 and 7."""
