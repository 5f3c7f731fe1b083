"""Records that a peer of either role sends after the handshake (RFC 8446 section 5; RFC 5246 section 6.2)."""

from alerts import all_of
from cases import table
from peer import *

PLAINTEXT_OCTETS_MAX = 1 << 14
# Records without data that Postern takes in a row; a bound of its own.
CONTROL_RECORDS_MAX = 32


def raw(content, length, body=None):
    """A header that says this length, and the octets that it promises."""
    return lambda peer: peer.clear(content, bytes(length) if body is None else body)


def inner(octets, content=23):
    return lambda peer: peer.raw(peer.seal(octets, content))


def flipped(at):
    """A good record with one bit changed."""
    return lambda peer: peer.raw(flip(peer.seal(b"x NOOP\r\n\x17"), at))


def repeated(peer):
    """A record that is taken from the wire and sent again."""
    record = peer.seal(b"* OK\r\n\x17")
    peer.raw(record)
    peer.raw(record)


def padded(octets):
    """A command behind whose type stand zeros."""

    def do(peer):
        text = b"p NOOP\r\n" if peer.client else b"* OK padded\r\n"
        peer.raw(peer.seal(text + b"\x17" + bytes(octets - len(text) - 1)))
        if peer.client:
            assert peer.line().startswith("p OK")

    return do


def empty(content, count=1):
    def do(peer):
        for _ in range(count):
            peer.write(content, b"")

    return do


def half_a_message(peer):
    peer.write(ContentType.handshake, [24, 0, 0])


def say(peer):
    peer.say("* OK\r\n")


def two_messages(peer):
    """A KeyUpdate that shares its record with another message."""
    peer.write(ContentType.handshake, handshake(24, b"\0") * 2)


BAD, OVERFLOW, UNEXPECTED = "bad_record", "record_overflow", "unexpected_record"
# What rustls does in handshakes, where nobody else has the keys.
PASSED_OVER = "rustls passes over a few in the handshake; the RFC wants unexpected_message"
SEALED = "inside a message rustls takes every record for a sealed one; the RFC wants unexpected_message"
UNKNOWN_TYPE = "rustls takes the type for a part of the message that it cannot read; the RFC wants unexpected_message"

AFTER13 = table(
    TLS13,
    "done",
    ("no data", "5.1", empty(23), None, "closed"),
    ("padding", "5.4", padded(100), None, "closed"),
    ("padding up to the limit", "5.4", padded(PLAINTEXT_OCTETS_MAX + 1), None, "closed"),
    ("a plaintext over the limit", "5.4", inner(bytes(PLAINTEXT_OCTETS_MAX + 1) + b"\x17"),
     "record_overflow", OVERFLOW),
    ("padding over the limit", "5.4", inner(b"x\x17" + bytes(PLAINTEXT_OCTETS_MAX)), "record_overflow", OVERFLOW),
    ("a ciphertext over the limit", "5.2", raw(23, PLAINTEXT_OCTETS_MAX + 257), "record_overflow", OVERFLOW),
    ("the longest header", "5.2", lambda p: p.clear(23, bytes(100), length=65535), "record_overflow", OVERFLOW),
    ("a record shorter than its tag", "5.2", raw(23, 16), "bad_record_mac", BAD),
    ("a record of no octets", "5.2", raw(23, 0), "bad_record_mac", BAD),
    ("octets that no key made", "5.2", raw(23, 64), "bad_record_mac", BAD),
    ("a bit of the ciphertext changed", "5.2", flipped(6), "bad_record_mac", BAD),
    ("a bit of the tag changed", "5.2", flipped(-1), "bad_record_mac", BAD),
    ("a record that comes twice", "5.3", repeated, "bad_record_mac", BAD),
    # RFC 8446 section 5.2: the header is the additional data.
    ("another version in the header", "5.2", flipped(2), "bad_record_mac", BAD),
    ("nothing but zeros", "5.4", inner(bytes(20)), "unexpected_message", UNEXPECTED),
    ("an unknown type inside", "5.2", inner(b"x\x63"), "unexpected_message", UNEXPECTED),
    ("heartbeat inside, which nobody offered", "5.2", inner(b"x\x18"), "unexpected_message", UNEXPECTED),
    ("ChangeCipherSpec inside", "5", inner(b"\1\x14"), "unexpected_message", UNEXPECTED),
    ("ChangeCipherSpec after the handshake", "5", raw(20, 1, b"\1"), "unexpected_message", UNEXPECTED),
    ("an alert in clear text", "5", raw(21, 2, b"\1\0"), "unexpected_message", UNEXPECTED),
    ("a handshake message in clear text", "5", raw(22, 5, handshake(24, b"\0")), "unexpected_message", UNEXPECTED),
    ("a record of unknown type", "5", raw(99, 20), "unexpected_message", "not_tls"),
    ("a handshake record of no octets", "5.1", empty(22), "unexpected_message", UNEXPECTED),
    ("data inside a handshake message", "5.1", all_of(half_a_message, say), "unexpected_message", UNEXPECTED),
    ("a message under two keys in one record", "5.1", two_messages, "unexpected_message", UNEXPECTED),
    ("a message over its bound", "4", lambda p: p.write(22, [99, 1, 0, 0]), "decode_error", "message_too_long"),
    ("as many empty records as are taken", "5.1", empty(23, CONTROL_RECORDS_MAX), None, "closed"),
    ("one empty record more", "5.1", empty(23, CONTROL_RECORDS_MAX + 1), "unexpected_message", "control_record_flood"),
)

AFTER12 = table(
    TLS12,
    "done",
    ("no data", "RFC 5246 6.2.1", empty(23), None, "closed"),
    ("a plaintext over the limit", "RFC 5246 6.2.1", inner(bytes(PLAINTEXT_OCTETS_MAX + 1)),
     "record_overflow", OVERFLOW),
    ("a ciphertext over the limit", "RFC 5246 6.2.3", raw(23, PLAINTEXT_OCTETS_MAX + 2049),
     "record_overflow", OVERFLOW),
    ("a record shorter than its tag", "RFC 5246 6.2.3.3", raw(23, 23), "bad_record_mac", BAD),
    ("octets that no key made", "RFC 5246 6.2.3.3", raw(23, 64), "bad_record_mac", BAD),
    ("a bit of the nonce changed", "RFC 5246 6.2.3.3", flipped(6), "bad_record_mac", BAD),
    ("a bit of the tag changed", "RFC 5246 6.2.3.3", flipped(-1), "bad_record_mac", BAD),
    ("another type in the header", "RFC 5246 6.2.3.3", flipped(0), "bad_record_mac", BAD),
    ("a record that comes twice", "RFC 5246 6.2.3.3", repeated, "bad_record_mac", BAD),
    ("ChangeCipherSpec after the handshake", "RFC 5246 7.1", empty(20), "unexpected_message", UNEXPECTED),
    ("a record of unknown type", "RFC 5246 6", raw(99, 40), "unexpected_message", "not_tls"),
    ("a handshake record of no octets", "RFC 5246 6.2.1", empty(22), "unexpected_message", UNEXPECTED),
)
