# SPDX-License-Identifier: Apache-2.0
"""Facts and probe points in, a plan out."""
