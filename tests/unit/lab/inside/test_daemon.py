# SPDX-License-Identifier: Apache-2.0
"""A daemon's metrics as the lab's tests read them, and one that does not come up."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ghesrace.errors import TransientError
from lab.inside import daemon

PAGE = """\
# HELP ghesrace_lost_events_total Events lost.
# TYPE ghesrace_lost_events_total counter
ghesrace_lost_events_total{stage="probe",cause="missed"} 3.0
ghesrace_lost_events_total{stage="buffer",cause="overrun"} 4.0
ghesrace_findings_total{certainty="observed",pattern="stale"} 2.0
ghesrace_findings_total{certainty="predicted",pattern="stale"} 5.0
ghesrace_source_info{backend="bpf",version="1.0 x"} 1.0
ghesrace_watching 1.0
"""


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(PAGE.encode())

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(daemon, "_PAGE", f"http://127.0.0.1:{server.server_port}")
        yield
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_series_are_summed_by_name_and_losses_told_apart(page: None) -> None:
    """The soak would overlook a finding of the second severity, or not say what was lost."""
    found = daemon.metrics()
    assert found["ghesrace_findings_total"] == 7
    assert found["ghesrace_lost_events_total"] == 7
    assert found['ghesrace_lost_events_total{stage="buffer",cause="overrun"}'] == 4
    assert found['ghesrace_source_info{backend="bpf",version="1.0 x"}'] == 1
    assert found["ghesrace_watching"] == 1
    assert not any(name.startswith("#") for name in found)


def test_memory_by_what_it_is_of() -> None:
    """A leak would be looked for in the wrong place."""
    found = daemon.memory(psutil.Process())
    assert set(found) == {"RssAnon", "RssFile", "RssShmem"}
    resident = psutil.Process().memory_info().rss / 1024
    assert sum(found.values()) == pytest.approx(resident, rel=0.2)


@pytest.mark.slow
def test_a_daemon_that_ends_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its reason would be lost, and the test wait for five minutes."""
    start = subprocess.Popen

    def popen(_: list[str], **how: Any) -> subprocess.Popen[bytes]:
        code = "import sys; sys.stderr.write('no kprobes here'); sys.exit(3)"
        return start([sys.executable, "-c", code], **how)

    monkeypatch.setattr(daemon.subprocess, "Popen", popen)
    monkeypatch.setattr(daemon, "_ready", lambda: False)
    monkeypatch.setattr(daemon, "_PATIENCE_S", 20.0)
    begin = time.monotonic()
    with pytest.raises(TransientError, match="no kprobes here"), daemon.daemon(tmp_path, "[web]\n"):
        pass
    assert time.monotonic() - begin < 15
    assert (tmp_path / "ghesrace.toml").read_text().endswith("[web]\n")
