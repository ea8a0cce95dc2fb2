# SPDX-License-Identifier: Apache-2.0
"""What many hosts' captures say together. Only `ghesrace survey` and `ghesrace ship` come here:
this is the one wing that needs fsspec and Dask, which the extras `survey` and `ship` bring."""
