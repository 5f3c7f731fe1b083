"""Records of a server (RFC 8446 section 5)."""

from alerts import IN_HANDSHAKE as FAILED
from cases import table
from peer import *
from records import AFTER12, AFTER13, OVERFLOW, PASSED_OVER, SEALED, PLAINTEXT_OCTETS_MAX, UNEXPECTED, UNKNOWN_TYPE
from records import empty, flipped, inner, raw


def pieces(octets, between=lambda peer: None):
    """The ServerHello in records of so many octets, and something between the first two."""

    def do(peer):
        hello = peer.server_hello()
        peer.transcript.update(hello)
        for at in range(0, len(hello), octets):
            peer.clear(22, hello[at : at + octets])
            if at == 0:
                between(peer)
        peer.take_keys()
        peer.stage = "keys"

    return do


def hello_and_more(peer):
    """A message behind the ServerHello in its record: it would be in clear text, and must be under keys."""
    peer.clear(22, peer.server_hello() + handshake(HandshakeType.encrypted_extensions, bytes(2)))


def half_a_message_and(step):
    def do(peer):
        peer.write(22, [8, 0, 0, 2, 0])
        step(peer)

    return do


CASES = (
    table(
        TLS13,
        "start",
        ("a ServerHello in records of two octets", "5.1", pieces(2), None, "closed"),
        ("a record of version 4.0", "5.1", lambda p: p.clear(22, p.server_hello(), (4, 0)),
         "unexpected_message", "not_tls"),
        ("a record of unknown type", "5", raw(99, 20), "unexpected_message", "not_tls"),
        ("clear text", "5", lambda p: p.raw(b"* OK this is no TLS\r\n"), "unexpected_message", "not_tls"),
        ("a record over the limit", "5.1", raw(22, PLAINTEXT_OCTETS_MAX + 1), "record_overflow", OVERFLOW),
        ("a handshake record of no octets", "5.1", empty(22), "unexpected_message", UNEXPECTED),
        ("an alert inside the ServerHello", "5.1", pieces(40, lambda p: p.clear(21, [1, 90])),
         "unexpected_message", FAILED),
        ("half a ServerHello, and ChangeCipherSpec", "5.1", pieces(40, lambda p: p.clear(20, b"\1")),
         "unexpected_message", FAILED),
        ("a message behind the ServerHello in its record", "5.1", hello_and_more, "unexpected_message", FAILED),
    )
    + table(
        TLS13,
        "keys",
        ("ChangeCipherSpec behind the ServerHello", "5", raw(20, 1, b"\1"), None, "closed"),
        ("ChangeCipherSpec of another value", "5", raw(20, 1, b"\2"), "unexpected_message", FAILED),
        ("octets that no key made", "5.2", raw(23, 64), "bad_record_mac", FAILED),
        ("a bit of the tag changed", "5.2", flipped(-1), "bad_record_mac", FAILED),
        ("a ciphertext over the limit", "5.2", raw(23, PLAINTEXT_OCTETS_MAX + 257), "record_overflow", OVERFLOW),
        ("a plaintext over the limit", "5.4", inner(bytes(PLAINTEXT_OCTETS_MAX + 1) + b"\x16"),
         "record_overflow", FAILED),
        ("nothing but zeros", "5.4", inner(bytes(20)), "unexpected_message", FAILED),
        ("an unknown type inside", "5.2", inner(b"x\x63"), "decode_error", FAILED, UNKNOWN_TYPE),
        ("a handshake record of no octets", "5.4", empty(22), None, "closed", PASSED_OVER),
        ("half a message, and an alert", "5.1", half_a_message_and(lambda p: p.alert(1, 90)),
         "unexpected_message", FAILED),
        ("half a message, and ChangeCipherSpec", "5.1", half_a_message_and(raw(20, 1, b"\1")),
         "bad_record_mac", FAILED, SEALED),
        ("EncryptedExtensions in clear text", "5", lambda p: p.clear(22, handshake(8, bytes(2))),
         "bad_record_mac", FAILED),
    )
    + table(
        TLS12,
        "changed",
        ("octets that no key made", "RFC 5246 6.2.3.3", raw(22, 64), "bad_record_mac", FAILED),
        ("a ciphertext over the limit", "RFC 5246 6.2.3", raw(22, PLAINTEXT_OCTETS_MAX + 2049),
         "record_overflow", OVERFLOW),
    )
    + AFTER13
    + AFTER12
)
