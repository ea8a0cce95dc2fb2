# SPDX-License-Identifier: Apache-2.0
"""Events by a private tracefs instance."""
