# SPDX-License-Identifier: Apache-2.0
"""What batches of events mean: the rule, its findings and the verdict. It knows no host."""
