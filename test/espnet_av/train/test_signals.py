# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import os
import signal
import threading

import pytest
import torch

from espnet_av.train.signals import StopSignals, TrainingInterrupted, shield_workers


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 99), (signal.SIGUSR1, 99), (signal.SIGINT, 130)])
def test_a_signal_sets_a_mark_and_handlers_are_put_back(number, code):
    before = signal.getsignal(number)
    with StopSignals() as signals:
        assert signals.code is None
        os.kill(os.getpid(), number)
        assert signals.code == code
    assert signal.getsignal(number) is before


def test_a_second_interrupt_is_not_held_back():
    with pytest.raises(KeyboardInterrupt), StopSignals():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_other_threads_only_warn(caplog):
    def inside():
        with StopSignals() as signals:
            assert signals.code is None

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert "not in the main thread" in caplog.text


def test_the_exit_code_reaches_the_shell():
    assert TrainingInterrupted(99).code == 99 and issubclass(TrainingInterrupted, SystemExit)


class Handlers(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        ignored = [signal.getsignal(number) == signal.SIG_IGN for number in (signal.SIGTERM, signal.SIGINT)]
        return torch.tensor([*ignored, os.environ.get("TOY_INIT") == "done"])


def remember(_):
    os.environ["TOY_INIT"] = "done"


def test_workers_ignore_stop_signals_and_keep_their_own_start():
    loader = torch.utils.data.DataLoader(Handlers(), num_workers=1, worker_init_fn=remember)
    assert shield_workers(shield_workers(loader)) is loader
    assert all(batch.all() for batch in loader)
    plain = [1, 2]
    assert shield_workers(plain) is plain
