"""Alerts that a server sends (RFC 8446 section 6)."""

from alerts import AFTER, IN_HANDSHAKE, INCOMPATIBLE, NOTHING_IN_COMMON, PASSED_OVER, UNDER_KEYS
from alerts import alerts_after, closures_in_handshake, every_error
from cases import FATAL, WARNING
from peer import TLS12, TLS13

CASES = [
    # Instead of the ServerHello, in clear text; behind it; after the handshake.
    *every_error(TLS13, "start", FATAL, IN_HANDSHAKE, dict.fromkeys(NOTHING_IN_COMMON, INCOMPATIBLE)),
    *every_error(TLS13, "keys", FATAL, IN_HANDSHAKE),
    *every_error(TLS13, "done", FATAL, AFTER),
    # Section 6.2: the level of an error counts for nothing in TLS 1.3.
    *every_error(TLS13, "done", WARNING, AFTER),
    *every_error(TLS12, "hello", FATAL, IN_HANDSHAKE),
    *every_error(TLS12, "changed", FATAL, IN_HANDSHAKE),
    *every_error(TLS12, "done", FATAL, AFTER),
    *closures_in_handshake(TLS13, "start", None, "closed", PASSED_OVER),
    *closures_in_handshake(TLS13, "keys", "decode_error", IN_HANDSHAKE, UNDER_KEYS),
    *closures_in_handshake(TLS12, "changed", None, "closed", PASSED_OVER),
    *alerts_after(TLS13),
    *alerts_after(TLS12),
]
