# SPDX-License-Identifier: Apache-2.0
"""The daemon's page in a real browser, where one is installed (GHESRACE_BROWSER names it)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ghesrace.render.html.live import live_page
from ghesrace.service.metrics import server as module
from ghesrace.service.metrics.access import WebConfig
from ghesrace.service.metrics.families import Published
from ghesrace.service.metrics.server import Bulletin, Page, WebServer
from tests.unit.render.html.test_browser import BROWSER, opened
from tests.unit.render.html.test_live import racing

pytestmark = pytest.mark.skipif(not BROWSER, reason="no Chromium is installed")


@pytest.fixture
def url() -> Iterator[str]:
    board = Bulletin(lambda: (True, "fine"), lambda: (True, "watching"))
    board.page = Page(Published(), racing())
    server = WebServer([("127.0.0.1", 0)], board, WebConfig(""), 8)
    server.serve()
    yield f"http://127.0.0.1:{server.ports[0]}/"
    server.close()


@pytest.mark.slow
def test_the_policy_that_is_sent_lets_the_style_in_and_no_script(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a script that slipped into the page runs in an operator's browser."""
    assert "race-observed, resting on implications</h1>" in opened(url)
    evil = "<script>document.body.className='owned'</script><img src=x onerror='alert(1)'>"
    text = live_page(racing()).replace("<main>", f"<main>{evil}")
    monkeypatch.setattr(module, "drawn", lambda told: text)
    seen = opened(f"{url}?again")
    assert 'class="owned"' not in seen


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_cut_off(width: int, tmp_path: Path) -> None:
    """If this fails, a phone shows half of the verdict: the page itself scrolls sideways."""
    measure = (
        "<script>document.title = [document.documentElement.scrollWidth, innerWidth,"
        "getComputedStyle(document.querySelector('header')).borderLeftWidth].join(' ')</script>"
    )
    path = tmp_path / "page.html"
    path.write_text(live_page(racing()).replace("</main>", f"</main>{measure}"))
    found = re.search(
        r"<title>(\d+) (\d+) (\d+)px</title>", opened(path.as_uri(), f"--window-size={width},900")
    )
    assert found, "the script ran nowhere"
    assert int(found[1]) <= int(found[2])
    assert int(found[3]) == 8, "the style did not apply"
