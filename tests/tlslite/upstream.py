"""Postern's server side, attacked by a server: `upstream.py ADDRESS CERTIFICATE KEY [WORDS]`.

The client is the test's: for each case, in the order of the plan, it comes with a name that begins with `case` and the
case's place in the plan.
"""

import socket
import sys

import server_alerts
import server_handshake
import server_records
from cases import announce, attempt, chosen, show
from peer import PATIENCE
from server import Identity, Server

# What Postern never says to a server, and why.
JUDGED_LATER = "the certificate is judged after the handshake, and the client reads the judgement in `* BYE`"
SERVERS_ONLY = "only a server says this"
NEVER = {
    "unsupported_certificate": JUDGED_LATER,
    "certificate_revoked": JUDGED_LATER,
    "certificate_expired": JUDGED_LATER,
    "certificate_unknown": JUDGED_LATER,
    "unknown_ca": JUDGED_LATER,
    "access_denied": JUDGED_LATER,
    "insufficient_security": SERVERS_ONLY,
    "inappropriate_fallback": SERVERS_ONLY,
    "unrecognized_name": SERVERS_ONLY,
    "unknown_psk_identity": SERVERS_ONLY,
    "certificate_required": SERVERS_ONLY,
    "no_application_protocol": SERVERS_ONLY,
    "bad_certificate_status_response": "Postern asks for no status of a certificate",
    "internal_error": "only a fault of Postern's own",
    "user_canceled": "no person is there who could cancel",
}


def main(address, cert, key, words=""):
    cases = chosen([*server_handshake.CASES, *server_records.CASES, *server_alerts.CASES], words)
    identity = Identity(cert, key)
    listener = socket.create_server((address, 993))
    listener.settimeout(PATIENCE)
    announce(cases, NEVER)
    for at, case in enumerate(cases):
        peer = Server(listener.accept()[0], identity)
        assert peer.name.startswith(f"case{at}."), f"{peer.name} came for case {at}"
        peer.version = case.version
        after = case.goes_on or case.stage == "done"
        show(case, attempt(case, peer), name=f"case{at}", told="* OK" if after else "* BYE")


main(*sys.argv[1:])
