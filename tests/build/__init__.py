# SPDX-License-Identifier: Apache-2.0
"""What tests build their input with: plans, streams, fake trees, ring-buffer pages."""
