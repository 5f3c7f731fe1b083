"""Handshake messages of a client (RFC 8446 section 4; RFC 5246 section 7.4)."""

from tlslite.extensions import ALPNExtension, KeyShareEntry, PreSharedKeyExtension, PskIdentity

from alerts import IN_HANDSHAKE, all_of
from cases import table
from client import *
from peer import *

SHA384_SUITE = CipherSuite.TLS_AES_256_GCM_SHA384
ECDHE_RSA_CBC = CipherSuite.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA
UNKNOWN_EXTENSION = 0xFAFA


# What is changed in a ClientHello.


def without(*numbers):
    def change(hello):
        hello.extensions = [e for e in hello.extensions if e.extType not in numbers]

    return change


def put(number, body):
    """An extension of these octets, in the place of the one of its number, or last."""
    raw = TLSExtension(extType=number).create(bytearray(body))

    def change(hello):
        places = [at for at, e in enumerate(hello.extensions) if e.extType == number]
        if places:
            hello.extensions[places[0]] = raw
        else:
            hello.extensions.append(raw)

    return change


def twice(number):
    def change(hello):
        hello.extensions.append(next(e for e in hello.extensions if e.extType == number))

    return change


def last(number, body):
    """Behind all others, whatever is there already."""
    return lambda hello: hello.extensions.append(TLSExtension(extType=number).create(bytearray(body)))


def first(number, body):
    return lambda hello: hello.extensions.insert(0, TLSExtension(extType=number).create(bytearray(body)))


def field(name, value):
    return lambda hello: setattr(hello, name, value)


def versions(*offered):
    return put(ExtensionType.supported_versions, vector(bytes(sum(offered, ())), 1))


def groups(*offered):
    return put(ExtensionType.supported_groups, vector(b"".join(g.to_bytes(2, "big") for g in offered), 2))


def shares(*entries):
    body = b"".join(group.to_bytes(2, "big") + vector(share, 2) for group, share in entries)
    return put(ExtensionType.key_share, vector(body, 2))


def schemes(*offered):
    return put(ExtensionType.signature_algorithms, vector(bytes(sum(offered, ())), 2))


def alpn(*names):
    return put(ExtensionType.alpn, vector(b"".join(vector(name, 1) for name in names), 2))


def psk(identity=b"nobody's ticket", binders=(bytes(32),), identities=1):
    body = vector((vector(identity, 2) + bytes(4)) * identities, 2)
    return last(ExtensionType.pre_shared_key, body + vector(b"".join(vector(binder, 1) for binder in binders), 2))


# What is done.


def hello(*changes):
    return lambda peer: peer.send_hello(*changes)


def unverifiable(peer):
    """Only a scheme that no certificate of Postern's fits, which is found behind the ServerHello."""
    peer.send_hello(schemes((2, 2)))
    peer.reach("flight")


def hello_octets(bend):
    """A ClientHello whose octets are bent, its header made to fit."""
    return lambda peer: peer.send(handshake(HandshakeType.client_hello, bend(peer.hello().write()[4:])))


def message(kind, body=b"", length=None):
    return lambda peer: peer.send(handshake(kind, body, length))


def data(peer):
    peer.say("x NOOP\r\n")


def key_update(peer, *body):
    peer.write(ContentType.handshake, handshake(HandshakeType.key_update, body))


def key_updates(request):
    """A KeyUpdate, whose new key the rest of the session is written with; the answer comes before the next data."""

    def do(peer):
        key_update(peer, request)
        peer.update_sending_key()
        peer.command("k NOOP")
        assert peer.key_updates == request, f"{peer.key_updates} answers to KeyUpdate({request})"

    return do


def retried(*changes):
    """A first share that the server does not take, its HelloRetryRequest, and a second ClientHello."""

    def do(peer):
        # X448 is none of Postern's groups.
        first_hello = peer.hello(groups(GroupName.x448, GROUP), shares((GroupName.x448, bytes(56))))
        peer.send(first_hello)
        retry = peer.server_hello()
        assert retry.random == TLS_1_3_HRR, "no HelloRetryRequest"
        second = peer.hello(groups(GroupName.x448, GROUP), *changes)
        second.random, second.session_id = first_hello.random, first_hello.session_id
        peer.client_random = first_hello.random
        peer.send(second)

    return do


def resumed(peer):
    """A ticket that Postern has given to another connection, with a binder that proves nothing."""
    before = Client(peer.sock.getpeername(), 0, peer.name, TLS13)
    before.reach("done")
    before.command("l LOGOUT")
    before.close()
    ticket = before.tickets[0][4:]
    # Lifetime and age, a nonce, and then the ticket (section 4.6.1).
    at = 9 + ticket[8]
    length = int.from_bytes(ticket[at : at + 2], "big")
    peer.send_hello(psk(ticket[at + 2 : at + 2 + length]))


def early_data(peer):
    """0-RTT data that the server does not take: it is skipped (section 4.2.10)."""
    peer.send_hello(put(ExtensionType.early_data, b""), psk())
    peer.clear(ContentType.application_data, bytes(64))


def finished_with(bend):
    return lambda peer: peer.send(handshake(HandshakeType.finished, bend(peer.finished[4:])))


def finished12_with(bend):
    return lambda peer: peer.send(handshake(HandshakeType.finished, bend(peer.finished12(b"client finished")[4:])))


def client_share(point):
    return message(HandshakeType.client_key_exchange, vector(point, 1))


def second_hello(peer):
    peer.send(peer.hello())


def unprotected_finished(peer):
    peer.send(peer.finished12(b"client finished"))


FAILED = IN_HANDSHAKE
UNEXPECTED = "unexpected_record"
# What another word than the RFC's is said for, or none.
NOT_COMPARED = "rustls does not look at it, and renegotiates with nobody; the RFC wants handshake_failure"
NOTHING_IN_COMMON = "rustls takes what is not offered for nothing in common; the RFC wants missing_extension"
NO_SCSV = "rustls relies on the downgrade marks in the random of its ServerHello; the RFC wants inappropriate_fallback"
CHANGED_IN_RETRY = field("cipher_suites", [SHA384_SUITE])

ORDER = table(
    TLS13,
    "start",
    *[
        (f"{name} instead of a ClientHello", "4", message(kind, body), "unexpected_message", UNEXPECTED)
        for name, kind, body in [
            ("HelloRequest", 0, b""),
            ("ServerHello", 2, bytes(38)),
            ("NewSessionTicket", 4, bytes(14)),
            ("EndOfEarlyData", 5, b""),
            ("EncryptedExtensions", 8, bytes(2)),
            ("Certificate", 11, bytes(4)),
            ("CertificateRequest", 13, bytes(3)),
            ("CertificateVerify", 15, bytes(4)),
            ("Finished", 20, bytes(32)),
            ("KeyUpdate", 24, bytes(1)),
            ("message_hash", 254, bytes(32)),
            ("a message of unknown type", 99, bytes(1)),
        ]
    ],
) + table(
    TLS13,
    "flight",
    ("a second ClientHello", "4.1.2", second_hello, "unexpected_message", FAILED),
    ("a Certificate that nobody asked for", "4.4.2", message(11, bytes(4)), "unexpected_message", FAILED),
    ("a CertificateVerify that nobody asked for", "4.4.3", message(15, b"\4\3" + vector(bytes(70), 2)),
     "unexpected_message", FAILED),
    ("EndOfEarlyData without early data", "4.5", message(5), "unexpected_message", FAILED),
    ("KeyUpdate before the Finished", "4.6.3", message(24, b"\0"), "unexpected_message", FAILED),
    ("data before the Finished", "4.4.4", data, "unexpected_message", FAILED),
    ("a message of unknown type", "4", message(99, b"\0"), "unexpected_message", FAILED),
    ("a Finished that proves nothing", "4.4.4", finished_with(flip), "decrypt_error", FAILED),
    ("a Finished that is too short", "4.4.4", finished_with(lambda d: d[:-1]), "decrypt_error", FAILED),
    ("a Finished that is too long", "4.4.4", finished_with(lambda d: d + b"\0"), "decrypt_error", FAILED),
)

AFTER = table(
    TLS13,
    "done",
    ("KeyUpdate that asks for nothing", "4.6.3", key_updates(0), None, "closed"),
    ("KeyUpdate that asks for an answer", "4.6.3", key_updates(1), None, "closed"),
    ("many KeyUpdates, with data between them", "4.6.3", all_of(*[key_updates(0)] * 40), None, "closed"),
    ("KeyUpdate with an invalid value", "4.6.3", lambda p: key_update(p, 2), "illegal_parameter", "illegal_parameter"),
    ("KeyUpdate of no octets", "4.6.3", lambda p: key_update(p), "decode_error", "malformed_message"),
    ("KeyUpdate of two octets", "4.6.3", lambda p: key_update(p, 0, 0), "decode_error", "malformed_message"),
    *[
        (f"{name} after the handshake", rule, message(kind, body), "unexpected_message", "unexpected_record")
        for name, rule, kind, body in [
            ("HelloRequest", "4", 0, b""),
            ("ClientHello", "4.1.2", 1, bytes(40)),
            ("ServerHello", "4.1.3", 2, bytes(38)),
            ("NewSessionTicket", "4.6.1", 4, bytes(14)),
            ("EndOfEarlyData", "4.5", 5, b""),
            ("EncryptedExtensions", "4.3.1", 8, bytes(2)),
            ("Certificate", "4.6.2", 11, bytes(4)),
            ("CertificateRequest", "4.6.2", 13, bytes(3)),
            ("CertificateVerify", "4.6.2", 15, bytes(4)),
            ("Finished", "4.4.4", 20, bytes(32)),
            ("a message of unknown type", "4", 99, bytes(1)),
        ]
    ],
)

HELLO = table(
    TLS13,
    "start",
    # Section 4.1.1: nothing in common.
    ("no cipher suite in common", "4.1.1", hello(field("cipher_suites", [0x1304])), "handshake_failure", FAILED),
    ("no group in common", "4.1.1", hello(groups(GroupName.x448), shares((GroupName.x448, bytes(56)))),
     "handshake_failure", FAILED),
    ("no signature scheme in common", "4.4.2.2", unverifiable, "handshake_failure", FAILED),
    # Section 4.1.2.
    ("legacy_version of TLS 1.3", "4.1.2", hello(field("client_version", TLS13)), None, "closed"),
    ("a legacy compression method", "4.1.2", hello(field("compression_methods", [0, 1])), "illegal_parameter", FAILED),
    ("no null compression", "4.1.2", hello(field("compression_methods", [1])), "illegal_parameter", FAILED),
    ("no compression method", "4.1.2", hello(field("compression_methods", [])), "decode_error", FAILED),
    ("no cipher suites", "4.1.2", hello(field("cipher_suites", [])), "decode_error", FAILED),
    ("unknown cipher suites beside a known one", "4.1.2", hello(field("cipher_suites", [0x0A0A, SUITE13, 0xCACA])),
     None, "closed"),
    ("no session_id", "4.1.2", hello(field("session_id", bytearray())), None, "closed"),
    ("a session_id of 33 octets", "4.1.2", hello(field("session_id", bytearray(33))), "decode_error", FAILED),
    ("octets behind the extensions", "4.1.2", hello_octets(lambda b: b + b"\0"), "decode_error", FAILED),
    ("extensions that are cut", "4.1.2", hello_octets(lambda b: b[:-1]), "decode_error", FAILED),
    ("a ClientHello of no octets", "4.1.2", hello_octets(lambda b: b""), "decode_error", FAILED),
    ("a ClientHello whose random is cut", "4.1.2", hello_octets(lambda b: b[:20]), "decode_error", FAILED),
    # Section 4.2.
    ("an unknown extension", "4.2", hello(first(UNKNOWN_EXTENSION, b"\1\2\3")), None, "closed"),
    ("an extension that comes twice", "4.2", hello(twice(ExtensionType.supported_groups)), "illegal_parameter", FAILED),
    ("an unknown extension that comes twice", "4.2",
     hello(first(UNKNOWN_EXTENSION, b""), first(UNKNOWN_EXTENSION, b"")),
     "illegal_parameter", FAILED),
    # Section 4.2.1.
    ("only TLS 1.1 in supported_versions", "4.2.1", hello(versions((3, 2))), "protocol_version", FAILED),
    ("only unknown versions", "4.2.1", hello(versions((0x7A, 0x7A), (3, 5))), "protocol_version", FAILED),
    ("unknown versions beside TLS 1.3", "4.2.1", hello(versions((0x7A, 0x7A), (3, 5), TLS13)), None, "closed"),
    ("supported_versions of no versions", "4.2.1", hello(versions()), "decode_error", FAILED),
    ("supported_versions of three octets", "4.2.1", hello(put(43, b"\3\3\4\3")), "decode_error", FAILED),
    # Section 4.2.3.
    ("signature_algorithms of no schemes", "4.2.3", hello(schemes()), "decode_error", FAILED),
    # Section 4.2.7.
    ("supported_groups of no groups", "4.2.7", hello(groups()), "decode_error", FAILED),
    # Section 4.2.8.
    ("two shares of a group", "4.2.8", hello(shares((29, b"\x09" + bytes(31)), (29, b"\x09" + bytes(31)))),
     "illegal_parameter", FAILED),
    ("a share of no octets", "4.2.8", hello(shares((29, b""))), "decode_error", FAILED),
    ("an X25519 share that is too short", "4.2.8.2", hello(shares((29, bytes(31)))), "illegal_parameter", FAILED),
    ("an X25519 share of zeros", "7.4.2", hello(shares((29, bytes(32)))), "illegal_parameter", FAILED),
    ("a point that is not on P-256", "4.2.8.2", hello(groups(23), shares((23, b"\4" + bytes(63) + b"\1"))),
     "illegal_parameter", FAILED),
    ("a compressed point of P-256", "4.2.8.2", hello(groups(23), shares((23, b"\2" + bytes(31) + b"\5"))),
     "illegal_parameter", FAILED),
    # Section 4.1.4 and 4.2.8: HelloRetryRequest.
    ("no share, and then the one that is asked for", "4.1.4", retried(), None, "closed"),
    ("the second ClientHello again without the share", "4.2.8", retried(shares((GroupName.x448, bytes(56)))),
     "illegal_parameter", FAILED),
    ("the second ClientHello with another suite", "4.1.2", retried(CHANGED_IN_RETRY), "illegal_parameter", FAILED),
    ("Finished instead of a second ClientHello", "4.1.4",
     all_of(hello(shares()), lambda p: p.server_hello(), message(20, bytes(32))),
     "unexpected_message", FAILED),
    # Section 9.2: what has to be there.
    ("no signature_algorithms", "9.2", hello(without(ExtensionType.signature_algorithms)),
     "handshake_failure", FAILED, NOTHING_IN_COMMON),
    ("no supported_groups", "9.2", hello(without(ExtensionType.supported_groups)),
     "handshake_failure", FAILED, NOTHING_IN_COMMON),
    ("no key_share", "9.2", hello(without(ExtensionType.key_share)), "missing_extension", FAILED),
    # Sections 4.2.9 to 4.2.11.
    ("a ticket of somebody else", "4.2.11", hello(psk()), None, "closed"),
    ("pre_shared_key that is not last", "4.2.11", hello(psk(), last(UNKNOWN_EXTENSION, b"")),
     "illegal_parameter", FAILED),
    ("pre_shared_key without its modes", "4.2.9", hello(without(ExtensionType.psk_key_exchange_modes), psk()),
     "missing_extension", FAILED),
    ("more identities than binders", "4.2.11", hello(psk(identities=2)), "illegal_parameter", FAILED),
    ("no identities", "4.2.11", hello(psk(identities=0, binders=())), "decode_error", FAILED),
    ("a binder that proves nothing", "4.2.11.2", resumed, "decrypt_error", FAILED),
    ("early data that is not taken", "4.2.10", early_data, None, "closed"),
    # RFC 6066 section 3, RFC 7301 section 3.2.
    ("server_name of no names", "RFC 6066 3", hello(put(0, vector(b"", 2))), "decode_error", FAILED),
    ("two host names", "RFC 6066 3", hello(put(0, vector((b"\0" + vector(b"a.test", 2)) * 2, 2))),
     "decode_error", FAILED),
    ("ALPN imap", "RFC 7301 3.2", hello(alpn(b"h2", b"imap")), None, "closed"),
    ("ALPN of other protocols", "RFC 7301 3.2", hello(alpn(b"h2", b"http/1.1")),
     "no_application_protocol", "alpn_refused"),
    ("ALPN of no protocols", "RFC 7301 3.1", hello(alpn()), "decode_error", FAILED),
    ("ALPN of an empty name", "RFC 7301 3.1", hello(alpn(b"")), "decode_error", FAILED),
)

TLS12_HELLO = table(
    TLS12,
    "start",
    ("only TLS 1.1", "RFC 5246 E.1", hello(field("client_version", (3, 2))), "protocol_version", FAILED),
    ("only SSL 3.0", "RFC 5246 E.1", hello(field("client_version", (3, 0))), "protocol_version", FAILED),
    ("a higher version than is known", "RFC 5246 E.1", hello(field("client_version", (3, 9))), None, "closed"),
    ("no cipher suite in common", "RFC 5246 7.4.1.3", hello(field("cipher_suites", [ECDHE_RSA_CBC])),
     "handshake_failure", FAILED),
    ("no extensions", "RFC 5246 7.4.1.4", hello(field("extensions", None)), "handshake_failure", FAILED),
    ("no null compression", "RFC 5246 7.4.1.2", hello(field("compression_methods", [1])), "illegal_parameter", FAILED),
    ("no group in common", "RFC 8422 5.1", hello(groups(GroupName.x448)), "handshake_failure", FAILED),
    ("no uncompressed points", "RFC 8422 5.1.2", hello(put(11, b"\1\1")), "illegal_parameter", FAILED),
    ("renegotiation_info of another connection", "RFC 5746 3.6", hello(put(0xFF01, vector(bytes(12), 1))), None,
     "closed", NOT_COMPARED),
    ("TLS_FALLBACK_SCSV", "RFC 7507 3", hello(field("cipher_suites", [SUITE12, 0x5600])), None, "closed", NO_SCSV),
)

TLS12_ORDER = table(
    TLS12,
    "flight",
    # CVE-2014-0224: keys are asked for before they were agreed on.
    ("ChangeCipherSpec before keys", "RFC 5246 7.1", lambda p: p.change_cipher_spec(), "unexpected_message", FAILED),
    ("Finished instead of ClientKeyExchange", "RFC 5246 7.4.9", message(20, bytes(12)), "unexpected_message", FAILED),
    ("a second ClientHello", "RFC 5246 7.4.1.2", second_hello, "unexpected_message", FAILED),
    ("a Certificate that nobody asked for", "RFC 5246 7.4.6", message(11, bytes(3)), "unexpected_message", FAILED),
    ("a share that is no point", "RFC 8422 5.10", client_share(bytes(31)), "illegal_parameter", FAILED),
    ("a share of zeros", "RFC 8422 5.11", client_share(bytes(32)), "illegal_parameter", FAILED),
    ("a ClientKeyExchange of no octets", "RFC 5246 7.4.7", message(16, b""), "decode_error", FAILED),
    ("data before keys", "RFC 5246 7.4.9", data, "unexpected_message", FAILED),
) + table(
    TLS12,
    "keys",
    ("ChangeCipherSpec inside a handshake message", "RFC 5246 7.1",
     lambda p: (p.write(22, [20, 0, 0]), p.change_cipher_spec()),
     "unexpected_message", FAILED),
    ("a Finished in clear text", "RFC 5246 7.4.9", unprotected_finished, "unexpected_message", FAILED),
    ("a CertificateVerify that nobody asked for", "RFC 5246 7.4.8", message(15, b"\4\3" + vector(bytes(70), 2)),
     "unexpected_message", FAILED),
) + table(
    TLS12,
    "changed",
    ("a Finished that proves nothing", "RFC 5246 7.4.9", finished12_with(flip), "decrypt_error", FAILED),
    ("a Finished that is too short", "RFC 5246 7.4.9", finished12_with(lambda d: d[:-1]), "decrypt_error", FAILED),
    ("data instead of the Finished", "RFC 5246 7.4.9", data, "unexpected_message", FAILED),
    ("a second ChangeCipherSpec", "RFC 5246 7.1", lambda p: p.clear(20, b"\1"), "unexpected_message", FAILED),
) + table(
    TLS12,
    "done",
    ("renegotiation", "RFC 5746 4.4", second_hello, "handshake_failure", "renegotiation_refused"),
    ("a Finished after the handshake", "RFC 5246 7.4.9", message(20, bytes(12)),
     "unexpected_message", "unexpected_record"),
    ("KeyUpdate, which TLS 1.2 does not have", "RFC 5246 7.4", message(24, b"\0"),
     "unexpected_message", "unexpected_record"),
)

CASES = [*ORDER, *HELLO, *AFTER, *TLS12_HELLO, *TLS12_ORDER]
