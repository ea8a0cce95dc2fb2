# SPDX-License-Identifier: Apache-2.0
"""The doctor tells what this host lacks for a capture: it tries each thing, and names a remedy."""
