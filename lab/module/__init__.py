# SPDX-License-Identifier: Apache-2.0
"""The positive control is a kernel module that runs the 2015 protocol and really races."""
