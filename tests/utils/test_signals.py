"""Signals: the first asks to stop, the second stops, and what must not be cut short is not."""

import os
import pickle
import signal

import pytest

from iql_jax.utils.signals import Interrupted, StopRequest, signals_deferred


def send(signum):
    os.kill(os.getpid(), signum)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_raises_a_flag_and_the_second_stops(signum):
    def handler(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signum, handler)
    try:
        with StopRequest(resumable=True) as stop:
            stop.check()
            send(signum)
            with pytest.raises(Interrupted, match=signal.Signals(signum).name) as caught:
                stop.check()
            assert (caught.value.signum, caught.value.resumable) == (signum, True)
            with pytest.raises(KeyboardInterrupt):
                send(signum)
        assert signal.getsignal(signum) is handler
    finally:
        signal.signal(signum, before)


def test_a_deferred_signal_arrives_at_the_end():
    done = []

    def work():
        with signals_deferred():
            send(signal.SIGINT)
            done.append(1)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [1]


def test_an_interruption_survives_pickling():
    error = pickle.loads(pickle.dumps(Interrupted(15, "saved", resumable=True)))
    assert (error.signum, str(error), error.resumable) == (15, "saved", True)
