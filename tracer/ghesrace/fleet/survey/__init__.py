# SPDX-License-Identifier: Apache-2.0
"""A whole store of captures is judged, and what came of it is kept as a Parquet data set."""
