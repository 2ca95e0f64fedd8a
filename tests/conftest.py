"""For all tests."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """A job in the background of a shell inherits that SIGINT is ignored, and hands that on to what it starts.

    Tests press Ctrl-C in processes of their own, so these must hear it wherever the tests themselves run.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
