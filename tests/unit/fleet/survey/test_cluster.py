# SPDX-License-Identifier: Apache-2.0
"""Batches on worker processes that die."""

from __future__ import annotations

import contextlib
import gc
import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client, LocalCluster, Security

from ghesrace.commands.survey import judge
from ghesrace.errors import HostError, TransientError
from ghesrace.fleet.stores import Item, items
from ghesrace.fleet.survey import cluster as clusters
from ghesrace.fleet.survey.batches import Judged, batches, judge_batch
from ghesrace.fleet.survey.cluster import cluster, results
from ghesrace.render.judgement import Failure, Judgement
from tests.build.fleet import store

pytestmark = [
    pytest.mark.slow,
    # Dask leaves the sockets of a killed process to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with cluster(2, None, tmp_path_factory.mktemp("scratch")) as made:
        yield made
    gc.collect()  # so that what Dask left open is told here, where it is ignored


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    return items(str(store(tmp_path_factory.mktemp("store"), 40, hosts=4)))


def judge_or_die(path: Path, marked: int) -> Judgement | Failure:
    """Judge as usual; a file of *marked* bytes kills the process that judges it."""
    if os.stat(path)[stat.ST_SIZE] == marked:
        os.kill(os.getpid(), signal.SIGKILL)
    return judge(path)


def of_another_version(batch: list[Item]) -> Judged:
    return replace(judge_batch(batch[:1], judge), tool="0.0.1")


def answer(host: str, port: int, page: str) -> int | None:
    """What an HTTP server at that address says to a request for *page*; None if it is none."""
    with contextlib.closing(http.client.HTTPConnection(host, port, timeout=5)) as connection:
        try:
            connection.request("GET", page)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None


def rows(found: Iterator[Judged]) -> dict[str, str | None]:
    return {
        row["url"]: row["error"] for judged in found for row in judged.tables["runs"].to_pylist()
    }


def test_all_batches_are_done_once(client: Client, captures: list[Item]) -> None:
    """If this fails, captures are left out or judged twice."""
    found = list(results(client, partial(judge_batch, judge=judge), batches(captures, 7)))
    assert len(found) == 6
    urls = [row["url"] for judged in found for row in judged.tables["runs"].to_pylist()]
    assert sorted(urls) == [item.url for item in captures]


def test_a_worker_that_is_killed_loses_nothing(client: Client, captures: list[Item]) -> None:
    """If this fails, the OOM killer leaves holes in the data set."""
    found = results(client, partial(judge_batch, judge=judge), batches(captures, 2))
    done = rows(iter([next(found)]))
    pids = [info["pid"] for info in client.run(_process).values()]
    victim = psutil.Process(pids[0])
    victim.kill()
    done |= rows(found)
    assert done == {item.url: None for item in captures}
    assert not victim.is_running() or victim.status() == psutil.STATUS_ZOMBIE


def test_an_answer_that_died_with_its_worker_is_waited_for(
    client: Client, captures: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a survey ends with "the scheduler is gone" when a worker dies in the moment
    between its answer and the fetching of it."""
    outcome, lost = clusters._outcome, []

    def with_a_death(future: Any) -> Judged | None:
        if not lost:
            lost.append(future.key)
            holders = client.who_has([future])[future.key]
            for address, info in client.run(_process).items():
                if address in holders:
                    os.kill(info["pid"], signal.SIGKILL)
            while future.status == "finished":
                time.sleep(0.01)
        return outcome(future)

    monkeypatch.setattr(clusters, "_outcome", with_a_death)
    found = rows(results(client, partial(judge_batch, judge=judge), batches(captures, 10)))
    assert lost
    assert found == {item.url: None for item in captures}


def test_a_capture_that_kills_is_a_row_and_the_others_are_judged(
    client: Client, captures: list[Item], tmp_path: Path
) -> None:
    """If this fails, one capture that takes all memory ends the survey, or takes others along."""
    (tmp_path / "killer.arrows").write_bytes(bytes(4321))
    [killer] = items(str(tmp_path))
    mixed = [*captures[:6], killer, *captures[6:12]]
    work = partial(judge_batch, judge=partial(judge_or_die, marked=4321))
    found = rows(results(client, work, batches(mixed, 4)))
    assert found == {
        **{item.url: None for item in captures[:12]},
        killer.url: "WorkerKilled",
    }


def test_a_worker_of_another_version_is_refused(client: Client, captures: list[Item]) -> None:
    """If this fails, verdicts of an old ghesrace are kept as those of this one."""
    with pytest.raises(HostError, match=r"a worker has ghesrace 0\.0\.1"):
        list(results(client, of_another_version, batches(captures, 20)))


def test_workers_and_scheduler_take_no_strangers(client: Client) -> None:
    """If this fails, any user of this machine can run anything as whoever surveys."""
    address = client.scheduler.address
    assert address.startswith("tls://127.0.0.1:")
    assert all(one.startswith("tls://127.0.0.1:") for one in client.scheduler_info()["workers"])
    for url, security in ((address, Security.temporary()), (address.replace("tls", "tcp"), None)):
        with pytest.raises(OSError, match=r"TLS certificate|Timed out|reset"):
            Client(url, timeout=3, security=security, set_as_default=False)


def test_all_of_it_listens_on_loopback_and_serves_no_pages(client: Client) -> None:
    """If this fails, a survey opens this machine, or shows its users what is judged."""
    pids = [os.getpid(), *(info["pid"] for info in client.run(_process).values())]
    processes = [psutil.Process(pid) for pid in pids]
    # psutil 6 renamed it.
    asked = [getattr(one, "net_connections", None) or one.connections for one in processes]
    found = [one.laddr for ask in asked for one in ask("inet") if one.status == psutil.CONN_LISTEN]
    assert {address.ip for address in found} == {"127.0.0.1"}
    assert len(found) >= 3
    for address in found:
        for page in ("/status", "/info/main/workers.html", "/metrics", "/json/counts.json"):
            assert answer(address.ip, address.port, page) in (None, 404)


def test_a_scheduler_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, whoever mistypes an address gets a traceback of Dask."""
    monkeypatch.setattr(clusters, "_CONNECT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for address in (f"tcp://127.0.0.1:{port}", "nonsense://?", ""):
        with (
            pytest.raises(HostError, match="can't reach the scheduler"),
            cluster(1, address, tmp_path),
        ):
            pass


def test_a_cluster_of_ones_own_judges(captures: list[Item], tmp_path: Path) -> None:
    """If this fails, --scheduler finds no workers, or waits for ever for those that never come."""
    work = partial(judge_batch, judge=judge)
    with LocalCluster(
        n_workers=0,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        protocol="tcp://",
        processes=False,
    ) as own:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(clusters, "_CONNECT_S", 1.0)
            with (
                pytest.raises(HostError, match="has no workers"),
                cluster(1, own.scheduler_address, tmp_path),
            ):
                pass
        own.scale(1)
        with cluster(1, own.scheduler_address, tmp_path) as client:
            found = rows(results(client, work, batches(captures[:9], 3)))
    assert found == {item.url: None for item in captures[:9]}


def test_a_scheduler_that_dies_is_told(captures: list[Item], tmp_path: Path) -> None:
    """If this fails, a survey on a cluster waits for ever for a scheduler that was killed."""
    told = tmp_path / "scheduler.json"
    quiet = ["--no-dashboard", "--host", "127.0.0.1"]
    with (tmp_path / "log").open("w") as log, contextlib.ExitStack() as started:

        def start(*command: str) -> subprocess.Popen[bytes]:
            made = subprocess.Popen([sys.executable, "-m", *command], stderr=log, stdout=log)
            started.enter_context(made)
            started.callback(made.kill)
            return made

        file = ["--scheduler-file", str(told)]
        scheduler = start("distributed.cli.dask_scheduler", *quiet, "--port", "0", *file)
        while not told.exists() or not told.read_text().strip():
            assert scheduler.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
        address = json.loads(told.read_text())["address"]
        of_one = ["--no-nanny", "--nthreads", "1", "--local-directory", str(tmp_path)]
        start("distributed.cli.dask_worker", address, *quiet, *of_one)
        with cluster(1, address, tmp_path) as client:
            found = results(client, partial(judge_batch, judge=judge), batches(captures, 1))
            assert rows(iter([next(found)]))
            scheduler.kill()
            with pytest.raises(TransientError, match="the scheduler is gone"):
                list(found)


def _process() -> dict[str, int]:
    return {"pid": os.getpid()}
