# SPDX-License-Identifier: Apache-2.0
"""One suite in several guests. A guest here is pytest on this machine, with the lab's conftest."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab import __main__ as main
from lab import paths
from lab.testing import command
from lab.testing.outcomes import Tally
from lab.testing.together import Job

CONFTEST = paths.REPO / "tests" / "lab" / "conftest.py"
SLOW = "import time\n\ndef test_a(): time.sleep(1.5)\n\ndef test_b(): pass\n"
QUICK = "def test_a(): pass\n\ndef test_b(): pass\n"
MODULE = """\
import pytest

@pytest.fixture(scope="module")
def once():
    once.times = getattr(once, "times", 0) + 1
    yield once.times

def test_a(once, share): assert once == 1

def test_b(once, share): assert once == 1
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite of two files, run by guests that are processes."""
    folder = tmp_path / "suite"
    folder.mkdir()
    shutil.copy(CONFTEST, folder)
    (folder / "test_slow.py").write_text(SLOW)
    (folder / "test_tiny.py").write_text(MODULE)
    return folder


@pytest.fixture(autouse=True)
def _guests_are_processes(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = command._job

    def job(name: str, share: Path, args: object, *more: str) -> Job:
        made = real(name, share, args, *more)  # type: ignore[arg-type]
        share.mkdir(parents=True, exist_ok=True)
        words = [*made.command[made.command.index("--") + 1 :]]
        pytest_here = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-o", "addopts="]
        line = [sys.executable, "-m", "pytest", *pytest_here, f"--rootdir={suite}", "-v"]
        environment = ["env", f"{paths.ENV}={share}", f"PYTHONPATH={paths.REPO}"]
        guest = " ".join(shlex.quote(word) for word in (*environment, *line, str(suite), *words))
        # 70: the guest died; the lab boots another one.
        return Job(
            name, ("sh", "-c", f"{guest}; code=$?; test $code != 70 || exec {guest}; exit $code")
        )

    monkeypatch.setattr(command, "_job", job)
    monkeypatch.delenv(paths.ENV, raising=False)


def lab(tmp_path: Path, *words: str) -> int:
    return main.main(["test", "--guests=2", f"--share={tmp_path / 'out'}", "--", *words])


@pytest.mark.slow
def test_two_guests_share_a_suite(
    suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a test is run twice or by nobody, or its module is set up in vain."""
    (suite / "test_quick.py").write_text(QUICK)
    assert lab(tmp_path) == 0
    said = capsys.readouterr().out
    last = said.splitlines()[-1]
    assert last.startswith("lab: 6 tests in 2 guests")
    assert last.endswith(": 6 passed, 0 skipped, 0 failed, 0 not run, 0 run twice")
    tally = Tally.of([tmp_path / "out" / "amd64-1", tmp_path / "out" / "amd64-2"])
    assert len(tally.collected) == 6
    assert said.count("PASSED") == 6
    # Both had a part: who is through with a file takes the next one.
    assert {line.split(" |")[0] for line in said.splitlines() if "PASSED" in line} == {
        "amd64-1",
        "amd64-2",
    }


@pytest.mark.slow
def test_a_failure_in_either_fails_the_whole_with_its_report(
    suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a red guest beside a green one is green."""
    bad = "import pytest\n\ndef test_bad(): assert 'this' == 'that'\n\n"
    bad += "def test_not_here(): pytest.skip('no such thing')\n"
    (suite / "test_bad.py").write_text(bad)
    assert lab(tmp_path) == 1
    said = capsys.readouterr().out
    assert "AssertionError: assert 'this' == 'that'" in said
    assert "lab: failed: test_bad.py::test_bad" in said
    assert "lab: skipped: test_bad.py::test_not_here" in said
    assert "4 passed, 1 skipped, 1 failed, 0 not run" in said


@pytest.mark.slow
def test_a_guest_that_dies_leaves_no_test_unsaid(
    suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, the tests behind a crash are missing, and all that is left has passed."""
    (suite / "test_bad.py").write_text(
        "import os\n\ndef test_fails(): assert 'this' == 'that'\n\n"
        "def test_dies(): os._exit(0)\n\ndef test_behind(): pass\n"
    )
    assert lab(tmp_path) == 1
    said = capsys.readouterr().out
    assert "lab: not run: test_bad.py::test_dies" in said
    assert "lab: not run: test_bad.py::test_behind" in said
    # What failed before is known too, which pytest would have said at its end.
    why = "".join(file.read_text() for file in (tmp_path / "out").glob("*/failures"))
    assert "assert 'this' == 'that'" in why


@pytest.mark.slow
def test_a_guest_that_is_booted_again_runs_the_rest_and_nothing_twice(
    suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a crash costs tests, or the time of those that had passed."""
    (suite / "test_bad.py").write_text(
        "import os\nfrom pathlib import Path\n\ndef test_before(): pass\n\ndef test_dies():\n"
        f"    if not Path('{tmp_path}/died').exists():\n"
        f"        Path('{tmp_path}/died').touch()\n        os._exit(70)\n"
    )
    (suite / "test_all.py").write_text(QUICK)
    assert lab(tmp_path) == 0
    said = capsys.readouterr().out
    assert "8 passed, 0 skipped, 0 failed, 0 not run, 0 run twice" in said
    assert said.count("PASSED") == 8


@pytest.mark.slow
def test_what_is_not_collected_is_an_error(
    suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a file with a mistake in it is left out in silence."""
    (suite / "test_bad.py").write_text("import nothing_of_that_name\n")
    assert lab(tmp_path) == 1
    said = capsys.readouterr().out
    assert "nothing_of_that_name" in said
    assert "exit code 2: amd64-1" in said


@pytest.mark.slow
def test_words_for_pytest_reach_each_guest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, -k is lost, or what it leaves out is called "not run"."""
    assert lab(tmp_path, "-k", "test_a") == 0
    assert "2 passed, 0 skipped, 0 failed, 0 not run" in capsys.readouterr().out


def test_the_lab_that_fails_is_told_from_a_test_that_fails() -> None:
    """If this fails, a guest that did not boot looks like a wrong verdict."""
    said: list[str] = []
    tally = Tally(("test_a",), {"test_a": "failed"}, ())
    assert command.report([tally], {"amd64-1": 1}, 1.0, said.append) == 1
    assert command.report([tally], {"amd64-1": 1, "amd64-2": 125}, 1.0, said.append) == 125
    fine = Tally(("test_a",), {"test_a": "passed"}, ())
    assert command.report([fine], {"amd64-1": 0}, 1.0, said.append) == 0
    assert command.report([fine], {"amd64-1": 1}, 1.0, said.append) == 1


def test_arm64_comes_first_and_takes_no_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, arm64 boots when all others are through, or takes files of amd64's."""
    monkeypatch.undo()
    words = ["test", "--guests=2", "--arm64=bookworm", "--timeout=7", "--", "tests/lab"]
    jobs, sharing = command.jobs(main._parser().parse_args(words), tmp_path)
    assert [job.name for job in jobs] == ["arm64-bookworm", "amd64-1", "amd64-2"]
    assert sharing == [tmp_path / "amd64-1", tmp_path / "amd64-2"]
    assert [main._parser().parse_args(list(job.command[3:])).turns for job in jobs] == [0, 1, 1]
    arm64, first, _ = (job.command[2:] for job in jobs)
    assert arm64[-1] == "tests/lab/test_arm64.py"
    assert {"--arch=arm64", "--kernel=bookworm", "--timeout=7.0"} <= set(arm64)
    assert first[-2:] == ("--", "tests/lab")
    # What a guest is started by, this command line takes.
    for job in jobs:
        args = main._parser().parse_args(list(job.command[3:]))
        assert args.guests == 1
        assert not args.arm64
        assert args.share.parent == tmp_path


@pytest.mark.slow
def test_an_interruption_reaches_the_guests(tmp_path: Path, suite: Path) -> None:
    """If this fails, SIGTERM ends `make test` and leaves its guests running."""
    (suite / "test_slow.py").write_text(
        f"import time, os\n\ndef test_a():\n    open('{tmp_path}/pid', 'w').write(str(os.getpid()))"
        "\n    time.sleep(1000)\n"
    )
    program = f"""
import sys
from pathlib import Path
from lab import __main__ as main
from lab.testing import command
from lab.testing.together import Job
def job(name, share, args, *more):
    share.mkdir(parents=True)
    line = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", "addopts=",
            "--rootdir={suite}", "{suite}"]
    return Job(name, ("env", f"{paths.ENV}={{share}}", *line))
command._job = job
sys.exit(main.main(["test", "--guests=2", "--share={tmp_path / "out"}"]))
"""
    environment = {**os.environ, "PYTHONPATH": str(paths.REPO)}
    with subprocess.Popen([sys.executable, "-c", program], env=environment) as process:
        pid = tmp_path / "pid"
        for _ in range(600):
            if pid.exists() and pid.read_text():
                break
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        process.terminate()
        assert process.wait(60) == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
