# SPDX-License-Identifier: Apache-2.0
"""Jobs side by side."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from lab.testing.together import Job, run


def shell(name: str, script: str) -> Job:
    return Job(name, ("sh", "-c", script))


def test_each_line_has_its_jobs_name_and_each_job_its_code() -> None:
    """If this fails, nobody knows which guest said what, or a failure is lost."""
    out = io.StringIO()
    jobs = [shell("one", "echo a; echo b >&2; exit 3"), shell("second", "printf 'c\\nd'")]
    assert run(jobs, 2, out) == {"one": 3, "second": 0}
    lines = out.getvalue().splitlines()
    assert [line for line in lines if line.startswith("one ")] == ["one    | a", "one    | b"]
    assert [line for line in lines if line.startswith("second ")] == ["second | c", "second | d"]
    assert len(lines) == 4


@pytest.mark.slow
def test_so_many_at_once_and_no_more(tmp_path: Path) -> None:
    """If this fails, three guests share two cores, and their kernels complain of lockups."""
    script = f"touch {tmp_path}/$0; sleep 0.3; ls {tmp_path} | wc -l; rm {tmp_path}/$0"
    jobs = [Job(name, ("sh", "-c", script, name)) for name in "abcd"]
    out = io.StringIO()
    assert set(run(jobs, 2, out)) == set("abcd")
    counts = [line.split()[-1] for line in out.getvalue().splitlines()]
    assert len(counts) == 4
    assert set(counts) <= {"1", "2"}
    assert "2" in counts


@pytest.mark.slow
def test_a_job_that_fails_ends_no_other() -> None:
    """If this fails, one failure hides what the other guest has to say."""
    out = io.StringIO()
    codes = run([shell("bad", "exit 1"), shell("good", "sleep 0.5; echo done")], 2, out)
    assert codes == {"bad": 1, "good": 0}
    assert "good | done" in out.getvalue()


def test_meanwhile_is_called(tmp_path: Path) -> None:
    """If this fails, guests that ask for a file of tests get no answer."""
    waits = shell("waits", f"until test -e {tmp_path}/answer; do sleep 0.05; done")
    run([waits], 1, io.StringIO(), lambda: (tmp_path / "answer").touch())


@pytest.mark.parametrize("deaf", [False, True])
def test_an_interruption_ends_all(tmp_path: Path, deaf: bool) -> None:
    """If this fails, Ctrl-C leaves a guest that eats a core and its RAM file."""
    trap = "trap '' TERM;" if deaf else ""
    script = f"{trap} echo $$ > {tmp_path}/$0; sleep 1000 & wait; sleep 1000"
    jobs = [Job(name, ("sh", "-c", script, name)) for name in "ab"]

    def interrupt() -> None:
        while len(list(tmp_path.glob("?"))) < 2 or not all(
            pid.read_text().strip() for pid in tmp_path.glob("?")
        ):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run(jobs, 2, io.StringIO(), patience_s=0.2 if deaf else 30.0)
    thread.join()
    for name in "ab":
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / name).read_text()), 0)


def test_an_interruption_while_a_job_begins_ends_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, Ctrl-C in that moment leaves a guest that nobody knows of."""
    made: list[subprocess.Popen[str]] = []

    class Interrupted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        run([Job("a", ("sleep", "1000"))], 1, io.StringIO(), patience_s=30.0)
    assert [one.poll() for one in made] == [-signal.SIGTERM]
