# SPDX-License-Identifier: Apache-2.0
"""Batches on worker processes that die."""

from __future__ import annotations

import contextlib
import gc
import http.client
import os
import signal
import socket
import stat
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest
from distributed import Client, LocalCluster, Security

from ghesrace.commands.survey import judge
from ghesrace.errors import HostError
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
    found = [
        one.laddr
        for pid in pids
        for one in psutil.Process(pid).connections("inet")
        if one.status == psutil.CONN_LISTEN
    ]
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


def _process() -> dict[str, int]:
    return {"pid": os.getpid()}
