"""What an errno of a socket says: of the far end, or of this host alone.

Only errors that the far end or the way there can cause count against a server. Whatever else the
kernel may say (no descriptor, no port, no memory, no such address of ours, the local firewall)
is the prober's own trouble: NOT_ASKED. So is any error that comes before something was asked
(``unasked``): EACCES may be a router's word to connect(2), and is SELinux's to socket(2).
"""

from __future__ import annotations

import errno
import os

from kernlb.health.outcome import Outcome

# net/ipv4/icmp.c, icmp_err_convert, and net/ipv6/icmp.c, tab_unreach, say which ICMP error
# becomes which errno.
_OUTCOMES = {
    errno.ECONNREFUSED: Outcome.REFUSED,
    errno.ECONNRESET: Outcome.RESET,
    errno.ECONNABORTED: Outcome.RESET,
    errno.EPIPE: Outcome.RESET,
    errno.ETIMEDOUT: Outcome.CONNECT_TIMEOUT,
    errno.EHOSTUNREACH: Outcome.UNREACHABLE,
    errno.ENETUNREACH: Outcome.UNREACHABLE,
    errno.EHOSTDOWN: Outcome.UNREACHABLE,
    errno.ENONET: Outcome.UNREACHABLE,
    errno.EOPNOTSUPP: Outcome.UNREACHABLE,  # source route failed
    errno.ENOPROTOOPT: Outcome.PROTOCOL_UNREACHABLE,
    errno.EPROTO: Outcome.PROTOCOL_UNREACHABLE,  # parameter problem: unknown next header
    errno.EACCES: Outcome.PROHIBITED,
}
_SAYS_IT_ALL = {
    *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ETIMEDOUT),
    *(errno.ENOPROTOOPT, errno.EPROTO),
}


def outcome_of(error: OSError | int) -> Outcome:
    """The outcome of a probe that the kernel ended with this error."""
    number = error.errno if isinstance(error, OSError) else error
    return _OUTCOMES.get(number or 0, Outcome.NOT_ASKED)


def unasked(error: OSError) -> tuple[Outcome, str]:
    """The outcome, and its detail, where nothing was asked yet."""
    return Outcome.NOT_ASKED, os.strerror(error.errno or 0).lower()


def detail_of(error: OSError | int) -> str:
    """The system's words, where they add to the outcome's."""
    number = (error.errno if isinstance(error, OSError) else error) or 0
    return "" if number in _SAYS_IT_ALL else os.strerror(number).lower()
