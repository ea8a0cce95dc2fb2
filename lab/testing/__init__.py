# SPDX-License-Identifier: Apache-2.0
"""The lab's tests in several guests at once: who runs what, and what all of it comes to."""
