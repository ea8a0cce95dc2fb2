# SPDX-License-Identifier: Apache-2.0
"""Sphinx's configuration for the site; site.py calls it and says where the pages are.

Nothing here loads anything from a network: Furo's fonts are the system's, and its style and scripts
are files of its own.
"""

from ghesrace import __version__

project = "ghesrace"
author = "The ghesrace authors"
copyright = "The ghesrace authors"
release = version = __version__
extensions = ["myst_parser"]
root_doc = "docs/index"
# Headings have the anchors that GitHub gives them, and a link to another one is an error.
myst_heading_anchors = 4
nitpicky = True
# Code is shown as it stands. `console` and `text` need no lexer of Pygments.
highlight_language = "none"
# "--check" stays two hyphens.
smartquotes = False
html_theme = "furo"
html_title = f"ghesrace {__version__}"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": False}
html_static_path: list[str] = []
