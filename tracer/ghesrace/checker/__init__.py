# SPDX-License-Identifier: Apache-2.0
"""The checker says what batches of events mean, by the rule, its findings and the verdict. It knows
no host."""
