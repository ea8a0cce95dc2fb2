# SPDX-License-Identifier: Apache-2.0
"""What this host lacks for a capture: each thing is tried, with a remedy."""
