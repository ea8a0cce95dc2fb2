# SPDX-License-Identifier: Apache-2.0
"""Builds the site of docs/ by Sphinx, without a network; a broken link or anchor ends it with 1.

Sphinx with MyST, and not MkDocs: its search works from files (MkDocs's wants a server), links out
of docs/ (README, litmus cases, schemas) work, and a page that nobody lists is an error of its own.
What is built is a copy of the pages, with those that are generated beside them.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import warnings
from pathlib import Path

from sphinx.cmd.build import build_main

from . import nav, reference

REPO = Path(__file__).resolve().parent.parent
INDEX = Path("docs/index.md")
GENERATED = Path("docs/reference")
# What axe calls serious or critical in the pages of Sphinx and Furo: the headings of the navigation
# have a role without a level, and wide tables and code scroll, but no key reaches them.
ACCESSIBLE = {
    'role="heading">': 'role="heading" aria-level="2">',
    '<div class="table-wrapper': '<div tabindex="0" class="table-wrapper',
    "<pre>": '<pre tabindex="0">',
}
_TARGET = re.compile(r"\]\(([^)#\s]+)")
_FORWARD = """\
<!doctype html>
<meta charset="utf-8">
<title>ghesrace</title>
<meta http-equiv="refresh" content="0; url=docs/index.html">
<a href="docs/index.html">ghesrace</a>
"""


def build(target: Path, repo: Path = REPO) -> int:
    """Write the site of *repo* into the folder *target*, anew, and return 0, or 1 if Sphinx warns
    of anything. Raises ValueError for a page of docs/ that the navigation lacks.

        build(Path("build/handbook/share/doc/ghesrace/html"))
    """
    if lines := nav.forgotten(repo):
        raise ValueError("docs/index.md lacks pages; add these lines:\n" + "\n".join(lines))
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder) / "pages"
        lay_out(repo, stage)
        listed = ",".join(map(str, [*nav.pages(repo), f"{GENERATED}/*"]))
        arguments = ["-q", "-W", "--keep-going", "-b", "html", "-c", str(Path(__file__).parent)]
        arguments += ["-d", f"{folder}/doctrees", "-D", f"include_patterns={listed}"]
        with warnings.catch_warnings():
            # What MyST calls of Sphinx, and Sphinx of docutils, is theirs to mend.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            code = build_main([*arguments, str(stage), str(target)])
    for page in target.rglob("*.html"):
        text = page.read_text()
        for found, instead in ACCESSIBLE.items():
            text = text.replace(found, instead)
        page.write_text(text)
    (target / "index.html").write_text(_FORWARD)
    (target / ".buildinfo").unlink(missing_ok=True)
    return int(bool(code))


def lay_out(repo: Path, stage: Path) -> None:
    """Copy the pages of *repo* to *stage*, with the files that they link to, the generated pages,
    and the index with its navigation in Sphinx's words. (Links in place of copies would be followed
    out of *stage*.)"""
    made = reference.pages()
    texts = {page: (repo / page).read_text() for page in nav.pages(repo)}
    texts[INDEX] = with_navigation(texts[INDEX], made)
    texts |= {GENERATED / name: text for name, text in made.items()}
    for page, text in texts.items():
        _write(stage / page, text.encode())
        for target in _TARGET.findall(text):
            file = Path(os.path.normpath(page.parent / target))
            if (repo / file).is_file() and file not in texts:
                _write(stage / file, (repo / file).read_bytes())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def with_navigation(index: str, made: dict[str, str]) -> str:
    """Return the text of *index* with a hidden toctree behind each list, and the generated pages
    *made* (name: text) in the list below "Reference".

    >>> print(with_navigation("## Reference\\n\\n- [One](a.md)\\n", {"b.md": "# Two\\n"}))
    ## Reference
    <BLANKLINE>
    - [Two](reference/b.md)
    - [One](a.md)
    <BLANKLINE>
    ```{toctree}
    :hidden:
    :caption: Reference
    reference/b
    a
    ```
    <BLANKLINE>
    """
    titles = {name: text[text.index("# ") + 2 :].splitlines()[0] for name, text in made.items()}
    links = "\n".join(f"- [{title}](reference/{name})" for name, title in titles.items())
    text = index.replace("## Reference\n\n", f"## Reference\n\n{links}\n", 1)
    for heading, targets in nav.sections(text).items():
        names = "\n".join(target.removesuffix(".md") for target in targets)
        tree = f"```{{toctree}}\n:hidden:\n:caption: {heading}\n{names}\n```\n"
        head, _, rest = text.partition(f"## {heading}\n")
        body, mark, after = rest.partition("\n## ")
        text = f"{head}## {heading}\n{body.rstrip()}\n\n{tree}{mark}{after}"
    return text
