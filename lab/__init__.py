# SPDX-License-Identifier: Apache-2.0
"""The lab boots Debian's own kernel under QEMU with a HEST and a firmware that posts errors."""
