# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""One Slurm cluster for all tests that need one."""

import pytest
import slurm_cluster

# The rules of the recipes, with a signal 50 s before the time limit: a limit cannot be shorter than a minute.
CONF = """
command sbatch --export=ALL --ntasks=1 --signal=B:TERM@50
option time=* --time=$0
option mem=0
option mem=* --mem=$0
option num_threads=* --cpus-per-task=$0
option partition=* --partition=$0
option gpu=0
option gpu=* --gres=gpu:$0
default gpu=0
"""


@pytest.fixture(scope="session")
def _cluster(tmp_path_factory):
    reason = slurm_cluster.why_not()
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o755)
    cluster = slurm_cluster.Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture()
def cluster(_cluster):
    """A cluster whose nodes are up and idle."""
    _cluster.wait_idle()
    return _cluster


@pytest.fixture()
def place(tmp_path):
    """A folder with a slurm.conf, to call utils/slurm in."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "slurm.conf").write_text(CONF)
    return tmp_path
