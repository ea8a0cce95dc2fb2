# SPDX-License-Identifier: Apache-2.0
"""Makes what people read beside the terminal: man pages, completion, and the site of docs/.

All of it is made of the parsers, the schemas, the tables and the pages that are there already; what
is written by hand stands in docs/ and in man.py. Needed to build only: ghesrace never imports it.

    python -m handbook build/handbook
"""
