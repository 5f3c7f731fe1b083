"""Records of a client (RFC 8446 section 5)."""

from alerts import IN_HANDSHAKE as FAILED
from cases import table
from client import *
from peer import *
from records import AFTER12, AFTER13, OVERFLOW, PASSED_OVER, SEALED, PLAINTEXT_OCTETS_MAX, UNEXPECTED, UNKNOWN_TYPE
from records import empty, flipped, inner, raw


def pieces(octets, between=lambda peer: None, **options):
    """The ClientHello in records of so many octets, and something between the first two."""

    def do(peer):
        hello = octets_of(peer.hello())
        peer.transcript.update(hello)
        for at in range(0, len(hello), octets):
            peer.clear(22, hello[at : at + octets], **options)
            if at == 0:
                between(peer)

    return do


def hello_and(message):
    """A ClientHello, and another message behind it in the same record."""

    def do(peer):
        hello = octets_of(peer.hello())
        peer.transcript.update(hello)
        peer.clear(22, hello + message)

    return do


def change_cipher_specs(count, body=b"\1"):
    def do(peer):
        for _ in range(count):
            peer.clear(20, body)

    return do


def empty_record(peer):
    peer.clear(22, b"")


def alert(peer):
    peer.clear(21, [1, 90])


def hello_of(version):
    return lambda peer: pieces(1 << 14, version=version)(peer)


CASES = (
    table(
        TLS13,
        "start",
        ("a ClientHello in records of two octets", "5.1", pieces(2), None, "closed"),
        ("a record of version 3.1", "5.1", hello_of((3, 1)), None, "closed"),
        ("a record of version 3.9", "5.1", hello_of((3, 9)), None, "closed"),
        ("a record of version 4.0", "5.1", hello_of((4, 0)), "unexpected_message", "not_tls"),
        ("a record of unknown type", "5", raw(99, 20), "unexpected_message", "not_tls"),
        ("heartbeat, which nobody offered", "5", raw(24, 20), "unexpected_message", "not_tls"),
        ("data instead of a ClientHello", "5", raw(23, 20), "unexpected_message", UNEXPECTED),
        ("ChangeCipherSpec instead of a ClientHello", "5", change_cipher_specs(1), "unexpected_message", UNEXPECTED),
        ("a record over the limit", "5.1", raw(22, PLAINTEXT_OCTETS_MAX + 1), "record_overflow", OVERFLOW),
        ("the longest header", "5.1", lambda p: p.clear(22, bytes(100), length=65535), "record_overflow", OVERFLOW),
        ("a handshake record of no octets", "5.1", empty_record, "unexpected_message", UNEXPECTED),
        ("no octets inside the ClientHello", "5.1", pieces(40, empty_record), "unexpected_message", UNEXPECTED),
        ("an alert inside the ClientHello", "5.1", pieces(40, alert), "unexpected_message", UNEXPECTED),
        ("ChangeCipherSpec inside the ClientHello", "5.1", pieces(40, change_cipher_specs(1)),
         "unexpected_message", UNEXPECTED),
        ("a message behind the ClientHello in its record", "5.1", hello_and(handshake(20, bytes(32))),
         "unexpected_message", FAILED),
    )
    + table(
        TLS13,
        "flight",
        ("ChangeCipherSpec before the Finished", "5", change_cipher_specs(1), None, "closed"),
        ("ChangeCipherSpec of another value", "5", change_cipher_specs(1, b"\2"), "unexpected_message", FAILED),
        ("ChangeCipherSpec of two octets", "5", change_cipher_specs(1, b"\1\1"), "unexpected_message", FAILED),
        ("a flood of ChangeCipherSpec", "5", change_cipher_specs(40), "unexpected_message", FAILED),
        ("octets that no key made", "5.2", raw(23, 64), "bad_record_mac", FAILED),
        ("a bit of the tag changed", "5.2", flipped(-1), "bad_record_mac", FAILED),
        ("a record shorter than its tag", "5.2", raw(23, 16), "bad_record_mac", FAILED),
        ("a ciphertext over the limit", "5.2", raw(23, PLAINTEXT_OCTETS_MAX + 257), "record_overflow", OVERFLOW),
        ("a plaintext over the limit", "5.4", inner(bytes(PLAINTEXT_OCTETS_MAX + 1) + b"\x16"),
         "record_overflow", FAILED),
        ("nothing but zeros", "5.4", inner(bytes(20)), "unexpected_message", FAILED),
        ("an unknown type inside", "5.2", inner(b"x\x63"), "decode_error", FAILED, UNKNOWN_TYPE),
        ("a handshake record of no octets", "5.4", empty(22), None, "closed", PASSED_OVER),
        ("a flood of handshake records of no octets", "5.4", empty(22, 40), "unexpected_message", FAILED),
        ("a Finished in clear text", "5.1", lambda p: p.clear(22, p.finished), "bad_record_mac", FAILED),
        ("half a Finished, and ChangeCipherSpec", "5.1", lambda p: (p.write(22, p.finished[:9]), p.clear(20, b"\1")),
         "bad_record_mac", FAILED, SEALED),
        ("half a Finished, and an alert", "5.1", lambda p: (p.write(22, p.finished[:9]), p.alert(1, 90)),
         "unexpected_message", FAILED),
    )
    + table(
        TLS12,
        "flight",
        ("ChangeCipherSpec of another value", "RFC 5246 7.1", change_cipher_specs(1, b"\2"), "decode_error", FAILED),
        ("half a ClientKeyExchange, and ChangeCipherSpec", "RFC 5246 7.1",
         lambda p: (p.clear(22, [16, 0, 0, 33, 32]), p.clear(20, b"\1")),
         "unexpected_message", FAILED),
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
