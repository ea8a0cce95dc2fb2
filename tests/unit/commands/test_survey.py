# SPDX-License-Identifier: Apache-2.0
"""`ghesrace survey` as scripts use it, and what is left when it is killed."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import jsonschema
import pyarrow.parquet
import pytest

from ghesrace import cli
from tests.build.fleet import contents, store
from tests.build.paths import EXAMPLES, REPO

SCHEMA = json.loads((REPO / "tracer/ghesrace/survey.schema.json").read_text())
# Dask leaves sockets to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
COMMAND = [sys.executable, "-m", "ghesrace", "survey"]


@pytest.fixture(scope="module", autouse=True)
def _collected() -> Iterator[None]:
    yield
    gc.collect()  # so that what Dask left open is told here, where it is ignored


def survey(*arguments: object) -> int:
    return cli.main(["survey", "--workers", "1", *map(str, arguments)])


@pytest.mark.slow
def test_a_store_from_nothing_to_its_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, the second run judges all again, or tells something else than the first."""
    place = store(tmp_path / "store", 14, hosts=2, kernels=1)
    assert survey(place, "--data", tmp_path / "data") == 1
    first = capsys.readouterr()
    assert "14 of 14 captures are to be judged" in first.err
    assert "14 captures of 2 hosts: 8 race-observed, 2 race-predicted, 4 clean" in first.out
    assert survey(place, "--data", tmp_path / "data") == 1
    assert capsys.readouterr() == (first.out, "")
    # One is replaced and one is new: only these are judged.
    (place / "host000/000000-stock.arrows").write_bytes(b"\xff\xff\xff\xff")
    (place / "host000/new.arrows").write_bytes((EXAMPLES / "stock.arrows").read_bytes())
    assert survey(place, "--data", tmp_path / "data", "--format", "json") == 2
    told = capsys.readouterr()
    assert "2 of 15 captures are to be judged" in told.err
    document = json.loads(told.out)
    jsonschema.validate(document, SCHEMA)
    assert (document["captures"], document["judged"], document["exit_code"]) == (15, 14, 2)
    assert document["broken"][0]["error"] == "InputError"
    page = tmp_path / "page.html"
    assert survey(place, "--data", tmp_path / "data", "--format", "html", "-o", page) == 2
    assert "15 captures of 2 hosts" in page.read_text()
    assert survey(place, "--data", tmp_path / "data", "-o", tmp_path / "no" / "way") == 2


@pytest.mark.slow
def test_fail_on_and_what_is_accepted(tmp_path: Path, predicted: Path, clean: Path) -> None:
    """Scripts branch on these, as with `check`."""
    data = ["--data", tmp_path / "data"]
    assert survey(clean, *data) == 0
    assert survey(predicted, *data, "--fail-on", "observed") == 0
    assert survey(predicted, *data) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["/nowhere"], 2, "there is no /nowhere"),
        (["nosuch://a"], 2, "can't open the store"),
        (["--scheduler", "tcp://a:1", "."], 2, "a cluster has its own workers"),
        (["EMPTY"], 2, "there are no captures"),
        (["CAPTURE", "--data", "FULL"], 2, "is no data set of a survey"),
    ],
)
def test_what_can_not_be_is_told(
    arguments: list[str], code: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a mistake ends in a traceback or in a data set of nothing."""
    full, empty = tmp_path / "full", tmp_path / "empty"
    full.mkdir()
    empty.mkdir()
    (full / "notes").touch()
    places = {"EMPTY": empty, "CAPTURE": EXAMPLES / "stock.arrows", "FULL": full}
    assert survey(*(places.get(word, word) for word in arguments)) == code
    assert told in capsys.readouterr().err


def test_a_report_overwrites_no_capture(
    tmp_path: Path, observed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a mistyped -o costs a capture."""
    before = observed.read_bytes()
    assert survey(tmp_path, "--data", tmp_path / "data", "-o", observed) == 2
    assert "is an input" in capsys.readouterr().err
    assert observed.read_bytes() == before


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A store, and the contents of the data set that nobody disturbs."""
    folder = tmp_path_factory.mktemp("survey")
    place = store(folder / "store", 280, hosts=8)
    (place / "host000/broken.arrows").write_bytes(b"\xff\xff\xff\xff")
    assert survey(place, "--data", folder / "data") == 2
    whole = contents(folder / "data")
    assert len(whole["runs"]) == 281
    return place, whole


def batches(data: Path) -> int:
    return len(list((data / "runs").rglob("*.parquet")))


def runs(data: Path) -> int:
    return sum(
        pyarrow.parquet.read_metadata(path).num_rows for path in (data / "runs").rglob("*.parquet")
    )


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_what_is_killed_in_the_middle_is_completed_and_equal(
    undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path, sign: signal.Signals
) -> None:
    """If this fails, a kill of the process that schedules loses captures, or counts them twice."""
    place, whole = undisturbed
    command = [*COMMAND, "--workers", "2", str(place), "--data", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while not batches(tmp_path) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    if sign is signal.SIGKILL:
        process.kill()
    else:
        os.killpg(process.pid, sign)  # as a terminal does
    _, told = process.communicate(timeout=60)
    assert process.returncode == (130 if sign is signal.SIGINT else -sign)
    assert "Traceback" not in told
    # A batch of runs is written last: of one that was not, other tables may have rows already.
    judged = runs(tmp_path)
    assert 0 < judged < len(whole["runs"])
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL)
    assert done.returncode == 2
    [left] = re.findall(r"(\d+) of 281 captures", done.stderr)
    assert int(left) == len(whole["runs"]) - judged
    assert contents(tmp_path) == whole


def _until(true: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until something is *true*, while *process* lives."""
    deadline = time.monotonic() + 180
    while not true():
        assert process.poll() is None, "it ended"
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def _cluster(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address and the process of a scheduler that has one worker, which goes with it."""
    folder.mkdir()
    told = folder / "scheduler.json"
    quiet = ["--no-dashboard", "--host", "127.0.0.1"]
    with (folder / "log").open("w") as log, ExitStack() as started:

        def start(*command: str) -> subprocess.Popen[str]:
            words = [sys.executable, "-m", *command]
            made = subprocess.Popen(words, stdout=log, stderr=log, text=True)
            started.enter_context(made)
            started.callback(made.kill)
            return made

        file = ["--port", "0", "--scheduler-file", str(told)]
        scheduler = start("distributed.cli.dask_scheduler", *quiet, *file)
        _until(lambda: told.exists() and told.read_text().strip(), scheduler)
        address = json.loads(told.read_text())["address"]
        of_one = ["--no-nanny", "--nthreads", "1", "--local-directory", str(folder)]
        start("distributed.cli.dask_worker", address, *quiet, *of_one)
        yield address, scheduler


@pytest.mark.slow
def test_a_survey_whose_scheduler_is_killed_is_completed_and_equal(
    undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """If this fails, a survey on a cluster hangs when its scheduler dies, ends in a traceback, or
    loses captures or counts them twice when the same command is run again."""
    place, whole = undisturbed
    data = tmp_path / "data"
    with _cluster(tmp_path / "first") as (address, scheduler):
        command = [*COMMAND, str(place), "--data", str(data), "--scheduler"]
        survey = subprocess.Popen([*command, address], stderr=subprocess.PIPE, text=True)
        _until(lambda: batches(data), survey)
        scheduler.kill()
        _, told = survey.communicate(timeout=180)
    assert survey.returncode == 3
    assert "the scheduler is gone" in told
    assert "Traceback" not in told, told
    judged = runs(data)
    assert 0 < judged < len(whole["runs"])
    with _cluster(tmp_path / "second") as (address, _):
        done = subprocess.run([*command, address], capture_output=True, text=True, timeout=300)
    assert done.returncode == 2, done.stderr
    [left] = re.findall(r"(\d+) of 281 captures", done.stderr)
    assert int(left) == len(whole["runs"]) - judged
    assert contents(data) == whole


@pytest.mark.slow
def test_the_queries_of_the_documentation_answer(
    undisturbed: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, whoever copies a query out of docs/survey.md gets an error or nothing."""
    place, whole = undisturbed
    monkeypatch.chdir(place.parent / "data")
    text = (REPO / "docs/survey.md").read_text()
    view, *queries = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    assert len(queries) == 6
    with duckdb.connect() as base:
        base.execute(view)
        assert base.sql("SELECT count(*) FROM run").fetchall() == [(281,)]
        answers = [base.sql(query).fetchall() for query in queries]
    assert [bool(answer) for answer in answers] == [True, True, True, False, False, True]
    protects = {(kernel, slot): word for kernel, _, slot, word, *_ in answers[0]}
    assert protects["6.1.0-made", "GHES_IRQ"] in ("broadcast", "map-flush")
    assert sum(row[3] for row in answers[1]) == sum(row["none"] for row in whole["slots"])
    assert [row[0] for row in answers[5]] == ["InputError"]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["capture", "check", "daemon", "diff", "show"])
def test_other_commands_load_nothing_of_the_fleet(command: str) -> None:
    """If this fails, `check` and the daemon need Dask and fsspec, at run time if not by import."""
    script = (
        f"import sys, ghesrace.cli, ghesrace.commands.{command}\n"
        "names = {name.partition('.')[0] for name in sys.modules}\n"
        "print(names & {'dask', 'distributed', 'fsspec'} or 'ghesrace.fleet' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", [["survey", "."], ["ship"]])
def test_who_lacks_the_extra_is_told(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a traceback is all that tells which package is missing."""
    monkeypatch.setitem(sys.modules, "fsspec", None)
    for name in [name for name in sys.modules if name.startswith("ghesrace.fleet")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, f"ghesrace.commands.{command[0]}", raising=False)
    assert cli.main(command) == 3
    assert f"pip install '.[{command[0]}]'" in capsys.readouterr().err
