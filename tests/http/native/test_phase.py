"""The phases of a native connection and their durations."""

import math

from durable_streams_server.http.limits.timeouts import Timeouts
from durable_streams_server.http.native.phase import Phase, phase_durations


def test_each_connection_phase_lasts_its_configured_timeout() -> None:
    times = phase_durations(Timeouts(idle=1, head=2, body=3, send=4, linger=5))
    assert len(times) == len(Phase)
    assert {phase: times[phase] for phase in Phase} == {
        Phase.IDLE: 1,
        Phase.HEAD: 2,
        Phase.BODY: 3,
        Phase.ANSWERING: math.inf,
        Phase.SENDING: 4,
        Phase.LINGERING: 5,
        Phase.CLOSED: math.inf,
    }
