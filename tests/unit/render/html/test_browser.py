# SPDX-License-Identifier: Apache-2.0
"""The HTML report in a real browser, where one is installed (GHESRACE_BROWSER names it)."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from ghesrace.plan import Slot
from ghesrace.render.html.page import page
from ghesrace.render.judgement import Judgement
from tests.build.captures import check
from tests.build.judging import judge
from tests.build.paths import EXAMPLES
from tests.build.trace import V, bounce, plan

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
BROWSER = os.environ.get("GHESRACE_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)

pytestmark = pytest.mark.skipif(not BROWSER, reason="no Chromium is installed")


def opened(page: Path | str, *more: str) -> str:
    """The elements of the *page* (a file or a URL) after its scripts ran."""
    url = page.as_uri() if isinstance(page, Path) else page
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", *more]
    done = subprocess.run([*command, url], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@pytest.mark.slow
def test_its_own_script_runs_under_its_policy(tmp_path: Path) -> None:
    """If this fails, the hash in the policy is not what a browser computes: no zoom, no style."""
    path = tmp_path / "report.html"
    check(EXAMPLES / "control.arrows", "--format", "html", "-o", path)
    text = opened(path)
    assert text.count('<div class="tools">') == 4
    assert text.count('aria-label="zoom in"') == 4


@pytest.mark.slow
def test_a_script_that_slipped_in_does_not_run(tmp_path: Path) -> None:
    """If this fails, the policy stops nothing."""
    evil = "<script>document.body.className='owned'</script><img src=x onerror='alert(1)'>"
    the_plan = plan(Slot(evil, 644, V, "report"))
    judged = Judgement(evil, judge(the_plan, bounce().stream()), replace(the_plan, release=evil))
    path = tmp_path / "report.html"
    path.write_text(page([judged], [None]))
    assert 'class="owned"' not in opened(path)
    # As if escaping had failed as well:
    path.write_text(path.read_text().replace("<main>", f"<main>{evil}"))
    text = opened(path)
    assert "document.body.className" in text
    assert '<body class="owned"' not in text
