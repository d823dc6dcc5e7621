# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A Slurm cluster of two nodes on this machine for tests: munged, slurmctld and two slurmd, no systemd, no database.

Debian: ``apt-get install --no-install-recommends slurmctld slurmd slurm-client munge``; it needs root.
``python test/slurm_cluster.py FOLDER`` starts one by hand and says how to use it; Ctrl-C ends it.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

TOOLS = ("munged", "slurmctld", "slurmd", "sbatch")
NODES = ("n1", "n2")
CONF = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
AuthType=auth/munge
# A requeued job waits until its credential has expired: seconds here, two minutes elsewhere.
AuthInfo=cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=5
SlurmdTimeout=10
TreeWidth=2
MaxJobCount=150
MinJobAge=60
MaxArraySize=50
DebugFlags=NO_CONF_HASH
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,sched_interval=1,bf_interval=1
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=ALL MaxTime=1 State=UP
"""


def find_tool(name: str) -> str | None:
    """Return the path of a program, also of one for the administrator."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def why_not() -> str:
    """Return why there can be no cluster here, or nothing."""
    missing = [name for name in TOOLS if not find_tool(name)]
    if missing:
        return f"no {', '.join(missing)}; apt-get install --no-install-recommends slurmctld slurmd slurm-client munge"
    return "" if os.geteuid() == 0 else "starting slurmctld and slurmd needs root"


def wait_for(condition: Callable[[], object], seconds: float = 120.0, what: str = "it") -> None:
    """Wait until a condition holds."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"waited {seconds} s in vain: {what}"
        time.sleep(0.2)


def ask(*command: str) -> str:
    """Return what a command of Slurm prints."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


class Cluster:
    """The daemons and their folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: dict[str, subprocess.Popen] = {}
        self.num_starts = 0  # of the controller

    def start(self) -> None:
        """Start all daemons and wait until the nodes are idle."""
        host = socket.gethostname().split(".")[0]
        ports = _free_ports(1 + len(NODES))
        lines = [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={os.cpu_count()} RealMemory=2000"
            for name, port in zip(NODES, ports[1:], strict=True)
        ]
        (self.folder / "state").mkdir(parents=True)
        for name in NODES:
            (self.folder / f"spool.{name}").mkdir()
        conf = CONF.format(host=host, port=ports[0], folder=self.folder, nodes="\n".join(lines))
        (self.folder / "slurm.conf").write_text(conf)
        os.environ["SLURM_CONF"] = str(self.folder / "slurm.conf")
        self._start_munge()
        self.start_controller()
        for name in NODES:
            self.start_node(name)
        self.wait_idle()

    def start_controller(self) -> None:
        """Start slurmctld.

        After a power cut it does not know the numbers that it gave last, but the nodes do, and refuse second jobs of a
        number: each start begins with further ones.
        """
        self.num_starts += 1
        conf = self.folder / "slurm.conf"
        lines = [line for line in conf.read_text().splitlines() if not line.startswith("FirstJobId=")]
        conf.write_text("\n".join([*lines, f"FirstJobId={1000 * self.num_starts}", ""]))
        self._run("slurmctld", find_tool("slurmctld") or "", "-D")

    def start_node(self, name: str) -> None:
        """Start the slurmd of a node."""
        self._run(name, find_tool("slurmd") or "", "-D", "-N", name)

    def kill(self, name: str) -> None:
        """End a daemon as a power cut does: ``n1``, ``n2`` or ``slurmctld``."""
        self.daemons[name].kill()
        self.daemons.pop(name).wait()

    def kill_node(self, name: str) -> None:
        """Let a node die with all that runs on it: slurmd, and the programs of the jobs."""
        self.kill(name)
        _kill_programs(f"SLURMD_NODENAME={name}")

    def wait_idle(self) -> None:
        """Wait until no job runs and all nodes can take one; cancel what is left in the queue."""
        if ask("squeue", "-h"):
            subprocess.run(["scancel", "--user=root"], check=False)
        for name in NODES:
            if name not in self.daemons:
                self.start_node(name)
        wait_for(lambda: not ask("squeue", "-h"), what="the queue to be empty")
        wait_for(
            lambda: ask("sinfo", "-h", "-N", "-p", "main", "-o", "%T") == "\n".join(["idle"] * len(NODES)),
            what="idle nodes",
        )

    def stop(self) -> None:
        """End all daemons, by their ids."""
        if "slurmctld" in self.daemons:
            subprocess.run(["scancel", "--user=root"], check=False, timeout=60)
        for process in reversed(self.daemons.values()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.daemons.values():
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.daemons.clear()
        _kill_programs(f"SLURM_CONF={self.folder}/slurm.conf")  # that outlived their daemons, as in a test that failed
        os.environ.pop("SLURM_CONF", None)

    def _start_munge(self) -> None:
        if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode == 0:
            return
        subprocess.run(["install", "-d", "-o", "munge", "-g", "munge", "/run/munge"], check=True)
        self._run("munged", "runuser", "-u", "munge", "--", find_tool("munged") or "", "-F")
        wait_for(lambda: subprocess.run(["munge", "-n"], capture_output=True).returncode == 0, what="munged")

    def _run(self, name: str, *command: str) -> None:
        self.daemons[name] = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_us,
        )


def _kill_programs(mark: str) -> None:
    """Kill the programs of jobs that have something in their environment, and the slurmstepd above each."""
    programs, keepers = [], set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            variables = (entry / "environ").read_bytes().split(b"\0")
            if mark.encode() in variables and any(each.startswith(b"SLURMD_NODENAME=") for each in variables):
                programs.append(int(entry.name))
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                if "slurmstepd" in Path(f"/proc/{parent}/comm").read_text():
                    keepers.add(int(parent))
    for pid in [*keepers, *programs]:  # slurmstepd first: it would tell of the end of a program
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _die_with_us() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # when the tests are killed, no daemon stays


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


if __name__ == "__main__":
    cluster = Cluster(Path(sys.argv[1]).resolve())
    try:
        cluster.start()
        sys.stdout.write(f"export SLURM_CONF={os.environ['SLURM_CONF']}\n")
        sys.stdout.flush()
        signal.pause()
    finally:
        cluster.stop()
