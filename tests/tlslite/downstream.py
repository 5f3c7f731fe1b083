"""Postern's client side, attacked by a client: `downstream.py ADDRESS NAME [WORDS]`."""

import dataclasses
import sys

import client_alerts
import client_handshake
import client_records
from cases import announce, attempt, chosen, show
from client import Client

# Every case has a port of its own, by which its record is found.
FIRST_PORT = 10000

# What Postern never says to a client, and why.
NO_CLIENT_CERTIFICATE = "clients are asked for no certificate"
NEVER = {
    "bad_certificate": NO_CLIENT_CERTIFICATE,
    "unsupported_certificate": NO_CLIENT_CERTIFICATE,
    "certificate_revoked": NO_CLIENT_CERTIFICATE,
    "certificate_expired": NO_CLIENT_CERTIFICATE,
    "certificate_unknown": NO_CLIENT_CERTIFICATE,
    "unknown_ca": NO_CLIENT_CERTIFICATE,
    "certificate_required": NO_CLIENT_CERTIFICATE,
    "bad_certificate_status_response": NO_CLIENT_CERTIFICATE,
    "access_denied": "who may not reach a server reads it in `* BYE`",
    "insufficient_security": "what is too weak is not known, and nothing in common is handshake_failure",
    "internal_error": "only a fault of Postern's own",
    "inappropriate_fallback": "rustls does not look for TLS_FALLBACK_SCSV (the case of that name)",
    "user_canceled": "no person is there who could cancel",
    "unsupported_extension": "only those who asked can be sent what they did not ask for",
    "unrecognized_name": "every name has its certificate",
    "unknown_psk_identity": "a ticket that is not known leads to a full handshake",
}


def on_143():
    """What can differ behind STARTTLS: the first octets of TLS, and one case of each later stage."""
    names = [
        "data instead of a ClientHello (TLS 1.3, start)",
        "no key_share (TLS 1.3, start)",
        "a Finished that proves nothing (TLS 1.3, flight)",
        "octets that no key made (TLS 1.3, done)",
        "close_notify (TLS 1.3, done)",
    ]
    cases = [*client_handshake.CASES, *client_records.CASES, *client_alerts.CASES]
    by_title = {case.title: case for case in cases}
    return [
        dataclasses.replace(by_title[name], name=f"{by_title[name].name}, behind STARTTLS", starttls=True)
        for name in names
    ]


def main(address, name, words=""):
    cases = chosen([*client_handshake.CASES, *client_records.CASES, *client_alerts.CASES, *on_143()], words)
    announce(cases, NEVER)
    for port, case in enumerate(cases, FIRST_PORT):
        peer = Client((address, 143 if case.starttls else 993), port, name, case.version, case.starttls)
        show(case, attempt(case, peer), port=port)


main(*sys.argv[1:])
