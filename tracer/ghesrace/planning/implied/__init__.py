# SPDX-License-Identifier: Apache-2.0
"""What a function does besides is believed only if this kernel's code holds it: its paths are
followed here."""
