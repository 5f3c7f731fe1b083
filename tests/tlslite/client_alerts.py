"""Alerts that a client sends (RFC 8446 section 6)."""

from alerts import AFTER, IN_HANDSHAKE, PASSED_OVER, UNDER_KEYS, alerts_after, closures_in_handshake, every_error
from cases import FATAL, WARNING
from peer import TLS12, TLS13

CASES = [
    # As the first thing that is said, in clear text; after the server's flight; after the handshake.
    *every_error(TLS13, "start", FATAL, IN_HANDSHAKE),
    *every_error(TLS13, "flight", FATAL, IN_HANDSHAKE),
    *every_error(TLS13, "done", FATAL, AFTER),
    # Section 6.2: the level of an error counts for nothing in TLS 1.3.
    *every_error(TLS13, "done", WARNING, AFTER),
    *every_error(TLS12, "start", FATAL, IN_HANDSHAKE),
    *every_error(TLS12, "flight", FATAL, IN_HANDSHAKE),
    *every_error(TLS12, "done", FATAL, AFTER),
    *closures_in_handshake(TLS13, "start", None, IN_HANDSHAKE),
    *closures_in_handshake(TLS13, "flight", "decode_error", IN_HANDSHAKE, UNDER_KEYS),
    *closures_in_handshake(TLS12, "flight", None, "closed", PASSED_OVER),
    *alerts_after(TLS13),
    *alerts_after(TLS12),
]
