"""64 workers log at once into one run over TCP to one server; memory at both ends is bounded. spec: CTL-17"""

import os

import pytest
from faults.crowd import Plan, run_crowd

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes through /proc")

SERVER_MIB = 320
"""What a server may grow by while its store is ten times too slow: 64 MiB of raw bytes in flight, what is made of them
on the way to the store (for metric batches three times as much), and the state of a run of 64 x 20 series."""
WORKER_MIB = 48
"""What a process of eight workers may grow by: the spool is on disk, and of each connection a window is in memory."""


def show(capsys, text):
    with capsys.disabled():
        print(f"\n{text}")


@pytest.mark.timeout(400)
def test_64_connections_of_8_processes(tmp_path, capsys):
    outcome = run_crowd(Plan(processes=8, events=200), tmp_path)
    show(capsys, outcome.table("8 processes"))
    assert outcome.problems == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_64_processes(tmp_path, capsys):
    """Their ids and the size of the run come from the launcher's variables."""
    outcome = run_crowd(Plan(processes=64, events=200, every_rank_its_process=True), tmp_path)
    show(capsys, outcome.table("64 processes"))
    assert outcome.problems == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_where_workers_log_ten_times_faster_than_the_store_takes(tmp_path, capsys):
    """Until all is logged the store takes a tenth of it; then it is let go, and nothing is missing."""
    outcome = run_crowd(Plan(processes=8, events=2000, width=20, rate=2000), tmp_path)
    show(capsys, outcome.table("10 x overload"))
    assert outcome.problems == []
    assert outcome.committed_meanwhile <= outcome.logged / 10
    assert 4 * outcome.logged_mib > 1.5 * SERVER_MIB  # what it would have grown by without a bound
    assert outcome.server_grown_mib < SERVER_MIB
    assert outcome.worker_grown_mib < WORKER_MIB
