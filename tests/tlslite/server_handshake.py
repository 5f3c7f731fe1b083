"""Handshake messages of a server (RFC 8446 section 4; RFC 5246 section 7.4)."""

from tlslite.constants import TLS_1_1_DOWNGRADE_SENTINEL, TLS_1_2_DOWNGRADE_SENTINEL, TLS_1_3_HRR

from alerts import IN_HANDSHAKE as FAILED
from alerts import INCOMPATIBLE, all_of
from cases import table
from peer import *
from server import *

UNEXPECTED = "unexpected_record"
UNKNOWN_EXTENSION = 0xFAFA
P256, X448 = GroupName.secp256r1, GroupName.x448
TICKET_OCTETS = 40_000
# Where rustls decides, and no setting changes it.
NOT_COMPARED = "rustls does not look at it; the RFC wants the handshake to end"
OWN_WORD = "rustls has another word for it than the RFC"


# What is changed in a ServerHello.


def field(name, value):
    return lambda fields: setattr(fields, name, value)


def without(number):
    def change(fields):
        fields.extensions = [pair for pair in fields.extensions if pair[0] != number]

    return change


def more(number, body=b""):
    return lambda fields: fields.extensions.append((number, body))


def put(number, body):
    return lambda fields: setattr(fields, "extensions", [(n, body if n == number else b) for n, b in fields.extensions])


def marked(sentinel):
    """The downgrade mark of a server that could speak a newer version (section 4.1.3)."""

    def change(fields):
        fields.random[24:] = sentinel

    return change


# What is done.


def hello(*changes):
    return lambda peer: peer.send_server_hello(*changes)


def hello_that_counts(*changes):
    """The handshake goes on from this ServerHello."""

    def do(peer):
        peer.send_server_hello(*changes)
        peer.stage = "hello"
        if peer.version == TLS13:
            peer.take_keys()
            peer.stage = "keys"

    return do


def hello_octets(bend):
    return lambda peer: peer.send(handshake(HandshakeType.server_hello, bend(peer.server_hello()[4:])))


def message(kind, body=b"", length=None):
    return lambda peer: peer.send(handshake(kind, body, length))


def data(peer):
    peer.say("* OK\r\n")


def retry(*changes, group=P256):
    """A HelloRetryRequest for this group (section 4.1.4)."""

    def do(peer):
        # Section 4.4.1: the first ClientHello stands in the transcript as its hash.
        digest = peer.transcript.digest(HASH)
        peer.transcript = HandshakeHashes()
        peer.transcript.update(handshake(HandshakeType.message_hash, digest))
        asked = lambda fields: put(ExtensionType.key_share, group.to_bytes(2, "big"))(fields)
        peer.send_server_hello(field("random", TLS_1_3_HRR), asked, *changes)

    return do


def retried(*changes, share=P256):
    """A HelloRetryRequest, the second ClientHello, and a ServerHello."""

    def do(peer):
        retry()(peer)
        peer.read_hello()
        peer.send_server_hello(lambda f: put(ExtensionType.key_share, peer.share(share))(f), *changes)
        if not changes and share == P256:
            peer.take_keys()
            peer.stage = "keys"

    return do


def second_retry(peer):
    retry()(peer)
    peer.read_hello()
    retry(group=GroupName.secp384r1)(peer)


def encrypted_extensions(*pairs):
    def do(peer):
        peer.send(handshake(HandshakeType.encrypted_extensions, extensions(pairs)))
        peer.stage = "extensions"

    return do


def certificate_request(context=b"", *pairs):
    def do(peer):
        peer.send(handshake(HandshakeType.certificate_request, vector(context, 1) + extensions(pairs)))
        peer.asks_for_certificate = True

    return do


SCHEMES = (ExtensionType.signature_algorithms, vector(ECDSA_SHA256, 2))


def certificate(**options):
    return lambda peer: peer.send(peer.certificate_message(**options))


def no_certificate(peer):
    peer.send(peer.certificate_message(entries=0))
    peer.verified()
    peer.send(peer.finished13(peer.server_secret))


def no_certificate12(peer):
    peer.send(peer.certificate_message(entries=0))
    key_exchange12()(peer)


def broken_certificate(peer):
    peer.identity = types.SimpleNamespace(der=b"\x30\3\1\2\3", sign=peer.identity.sign)
    peer.certificate()
    peer.verified()
    peer.send(peer.finished13(peer.server_secret))


def certificate_verify(**options):
    return lambda peer: peer.send(peer.certificate_verify(**options))


def finished(bend):
    return lambda peer: peer.send(handshake(HandshakeType.finished, bend(peer.finished13(peer.server_secret)[4:])))


def finished12(bend):
    return lambda peer: peer.send(handshake(HandshakeType.finished, bend(peer.finished12(b"server finished")[4:])))


def key_exchange12(**options):
    def do(peer):
        peer.send(peer.server_key_exchange(**options))
        peer.send(handshake(HandshakeType.server_hello_done, b""))

    return do


def key_update(*body):
    return lambda peer: peer.write(ContentType.handshake, handshake(HandshakeType.key_update, body))


def key_updates(request):
    """A KeyUpdate; the answer comes before the client's next data (section 4.6.3)."""

    def do(peer):
        # The answer goes before data that is sent after the question, so a command that may be under way comes first.
        tag, _ = peer.line().split()
        key_update(request)(peer)
        peer.update_sending_key()
        peer.say(f"{tag} OK\r\n")
        peer.text = bytearray(peer.line().encode() + b"\r\n") + peer.text
        assert peer.key_updates == request, f"{peer.key_updates} answers to KeyUpdate({request})"

    return do


def ticket(lifetime=7200, identity=b"ticket", extra=()):
    body = lifetime.to_bytes(4, "big") + bytes(4) + vector(b"\1", 1) + vector(identity, 2) + extensions(extra)

    def do(peer):
        whole = handshake(HandshakeType.new_session_ticket, body)
        for at in range(0, len(whole), 1 << 14):
            peer.write(ContentType.handshake, whole[at : at + (1 << 14)])

    return do


def cut_ticket(peer):
    peer.write(ContentType.handshake, handshake(HandshakeType.new_session_ticket, bytes(9)))


def resigned(peer):
    """Renegotiation from the server's side."""
    peer.write(ContentType.handshake, handshake(HandshakeType.hello_request, b""))


HELLO = table(
    TLS13,
    "start",
    # Section 4.1.3.
    ("TLS 1.1 in the ServerHello", "4.1.3", hello(field("version", (3, 2)), without(43)), "protocol_version",
     INCOMPATIBLE),
    ("TLS 1.2 in supported_versions", "4.2.1", hello(put(43, bytes(TLS12))), "illegal_parameter", FAILED),
    ("a version in supported_versions that was not offered", "4.2.1", hello(put(43, b"\3\5")),
     "protocol_version", INCOMPATIBLE, OWN_WORD),
    ("supported_versions of one octet", "4.2.1", hello(put(43, b"\3")), "decode_error", FAILED),
    ("another session_id than the client's", "4.1.3", hello_that_counts(field("session", bytes(32))), None,
     "closed", NOT_COMPARED),
    ("a session_id of 33 octets", "4.1.3", hello(field("session", bytes(33))), "decode_error", FAILED),
    ("a suite that was not offered", "4.1.3", hello(field("suite", 0x1304)), "handshake_failure", FAILED, OWN_WORD),
    ("a suite of TLS 1.2 under TLS 1.3", "4.1.3", hello(field("suite", SUITE12)), "illegal_parameter", FAILED),
    ("a compression method", "4.1.3", hello(field("compression", 1)), "illegal_parameter", FAILED),
    ("a ServerHello that is cut", "4.1.3", hello_octets(lambda b: b[:-1]), "decode_error", FAILED),
    ("octets behind the extensions", "4.1.3", hello_octets(lambda b: b + b"\0"), "decode_error", FAILED),
    ("a ServerHello of no octets", "4.1.3", hello_octets(lambda b: b""), "decode_error", FAILED),
    # Section 4.2.
    ("an extension that was not asked for", "4.2", hello(more(UNKNOWN_EXTENSION)), "unsupported_extension", FAILED),
    ("an extension that comes twice", "4.2", hello(more(43, bytes(TLS13))), "illegal_parameter", FAILED),
    ("signature_algorithms in a ServerHello", "4.2", hello_that_counts(more(*SCHEMES)), None, "closed", NOT_COMPARED),
    ("pre_shared_key that was not asked for", "4.2", hello(more(41, b"\0\0")), "unsupported_extension", FAILED),
    # Section 4.2.8.
    ("no key_share", "9.2", hello(without(51)), "missing_extension", FAILED),
    ("a share of a group that was not offered", "4.2.8", hello(put(51, X448.to_bytes(2, "big") + vector(bytes(56), 2))),
     "illegal_parameter", FAILED),
    ("a share of a group for which there was none", "4.2.8",
     hello(put(51, P256.to_bytes(2, "big") + vector(bytes(65), 2))),
     "illegal_parameter", FAILED),
    ("an X25519 share of zeros", "7.4.2", hello(put(51, b"\0\x1d" + vector(bytes(32), 2))),
     "illegal_parameter", FAILED),
    ("an X25519 share that is too short", "4.2.8.2", hello(put(51, b"\0\x1d" + vector(bytes(31), 2))),
     "illegal_parameter", FAILED),
    # Section 4.1.4.
    ("HelloRetryRequest for another group", "4.1.4", retried(), None, "closed"),
    ("HelloRetryRequest that changes nothing", "4.1.4", retry(without(51)), "illegal_parameter", FAILED),
    ("HelloRetryRequest for a group that was not offered", "4.2.8", retry(group=X448), "illegal_parameter", FAILED),
    ("HelloRetryRequest for the share that is there", "4.2.8", retry(group=GROUP), "illegal_parameter", FAILED),
    ("HelloRetryRequest with an extension that was not asked for", "4.1.4", retry(more(UNKNOWN_EXTENSION)),
     "unsupported_extension", FAILED),
    ("HelloRetryRequest with a cookie of no octets", "4.2.2", retry(more(44, vector(b"", 2))), "decode_error", FAILED),
    ("HelloRetryRequest with a suite that was not offered", "4.1.4", retry(field("suite", 0x1304)),
     "illegal_parameter", FAILED),
    ("HelloRetryRequest without a version", "4.1.4", retry(without(43)), "illegal_parameter", FAILED),
    ("a second HelloRetryRequest", "4.1.4", second_retry, "unexpected_message", FAILED),
    ("another suite than in the HelloRetryRequest", "4.1.4", retried(field("suite", 0x1302)),
     "illegal_parameter", FAILED),
    ("another group than in the HelloRetryRequest", "4.2.8", retried(share=GROUP), "illegal_parameter", FAILED),
    # Section 4: other messages than the ServerHello.
    *[
        (f"{name} instead of the ServerHello", "4", message(kind, body), "unexpected_message", FAILED)
        for name, kind, body in [
            ("EncryptedExtensions", 8, bytes(2)),
            ("Certificate", 11, bytes(3)),
            ("ServerHelloDone", 14, b""),
            ("Finished", 20, bytes(32)),
            ("KeyUpdate", 24, bytes(1)),
            ("a message of unknown type", 99, bytes(1)),
        ]
    ],
    ("data instead of the ServerHello", "5", data, "unexpected_message", FAILED),
)

FLIGHT = (
    table(
        TLS13,
        "keys",
        # Section 4.3.1.
        ("supported_groups in EncryptedExtensions", "4.2.7", encrypted_extensions((10, vector(b"\0\x1d", 2))),
         None, "closed"),
        ("server_name in EncryptedExtensions", "RFC 6066 3", encrypted_extensions((0, b"")), None, "closed"),
        ("an extension that was not asked for", "4.2", encrypted_extensions((UNKNOWN_EXTENSION, b"")),
         "unsupported_extension", FAILED),
        ("key_share in EncryptedExtensions", "4.2", encrypted_extensions((51, b"\0\x1d" + vector(bytes(32), 2))),
         "unsupported_extension", FAILED, OWN_WORD),
        ("an extension that comes twice", "4.2", encrypted_extensions((0, b""), (0, b"")), "illegal_parameter", FAILED),
        ("early_data that was not asked for", "4.2.10", encrypted_extensions((42, b"")),
         "unsupported_extension", FAILED),
        ("ALPN that was not asked for", "RFC 7301 3.2", encrypted_extensions((16, vector(vector(b"imap", 1), 2))),
         "unsupported_extension", FAILED),
        ("EncryptedExtensions that are cut", "4.3.1", message(8, b"\0\4\0\0\0"), "decode_error", FAILED),
        ("Certificate instead of EncryptedExtensions", "4.3.1", certificate(), "unexpected_message", FAILED),
        ("Finished instead of EncryptedExtensions", "4.4.4", finished(bytes), "unexpected_message", FAILED),
        ("a second ServerHello", "4.1.3", hello(), "unexpected_message", FAILED),
        ("KeyUpdate in the handshake", "4.6.3", message(24, b"\0"), "unexpected_message", FAILED),
        ("data in the handshake", "4.4.4", data, "unexpected_message", FAILED),
    )
    + table(
        TLS13,
        "extensions",
        # Section 4.3.2.
        ("CertificateRequest", "4.3.2", certificate_request(b"", SCHEMES), None, "closed"),
        ("CertificateRequest with a context", "4.3.2", certificate_request(b"c", SCHEMES), "decode_error", FAILED),
        ("CertificateRequest without signature_algorithms", "4.3.2", certificate_request(),
         "handshake_failure", INCOMPATIBLE, OWN_WORD),
        ("two CertificateRequests", "4.3.2",
         all_of(certificate_request(b"", SCHEMES), certificate_request(b"", SCHEMES)),
         "unexpected_message", FAILED),
        # Section 4.4.2.
        ("a Certificate without certificates", "4.4.2.4", no_certificate, "decode_error", FAILED),
        ("a Certificate with a context", "4.4.2", certificate(context=b"c"), "decode_error", FAILED),
        ("a Certificate with an extension that was not asked for", "4.4.2",
         certificate(entry_extensions=[(UNKNOWN_EXTENSION, b"")]),
         "decode_error", FAILED, OWN_WORD),
        ("a Certificate that is cut", "4.4.2", message(11, b"\0\0\0\7\0\0\4\1"), "decode_error", FAILED),
        ("a certificate that is no certificate", "4.4.2.4", broken_certificate, "bad_certificate", FAILED),
        ("CertificateVerify without a Certificate", "4.4.3", certificate_verify(), "unexpected_message", FAILED),
        ("Finished without a Certificate", "4.4.4", finished(bytes), "unexpected_message", FAILED),
    )
    + table(
        TLS13,
        "certificate",
        ("a signature that proves nothing", "4.4.3", certificate_verify(bend=flip), "decrypt_error", FAILED),
        ("a signature of no octets", "4.4.3", certificate_verify(bend=lambda s: b""), "decrypt_error", FAILED),
        ("a scheme that was not offered", "4.4.3", certificate_verify(scheme=b"\2\3"), "illegal_parameter", FAILED),
        ("a scheme that TLS 1.3 does not have", "4.4.3", certificate_verify(scheme=b"\4\1"),
         "illegal_parameter", FAILED),
        ("a scheme that does not fit the key", "4.4.3", certificate_verify(scheme=b"\x08\x04"),
         "decrypt_error", FAILED),
        ("a second Certificate", "4.4.2", certificate(), "unexpected_message", FAILED),
        ("Finished without CertificateVerify", "4.4.4", finished(bytes), "unexpected_message", FAILED),
    )
    + table(
        TLS13,
        "verified",
        ("a Finished that proves nothing", "4.4.4", finished(flip), "decrypt_error", FAILED),
        ("a Finished that is too short", "4.4.4", finished(lambda d: d[:-1]), "decrypt_error", FAILED),
        ("NewSessionTicket before the Finished", "4.6.1", ticket(), "unexpected_message", FAILED),
        ("data before the Finished", "4.4.4", data, "unexpected_message", FAILED),
    )
)

AFTER = table(
    TLS13,
    "done",
    ("KeyUpdate that asks for nothing", "4.6.3", key_updates(0), None, "closed"),
    ("KeyUpdate that asks for an answer", "4.6.3", key_updates(1), None, "closed"),
    ("KeyUpdate with an invalid value", "4.6.3", key_update(2), "illegal_parameter", "illegal_parameter"),
    ("KeyUpdate of no octets", "4.6.3", key_update(), "decode_error", "malformed_message"),
    ("KeyUpdate of two octets", "4.6.3", key_update(0, 0), "decode_error", "malformed_message"),
    ("NewSessionTicket", "4.6.1", ticket(), None, "closed"),
    ("NewSessionTicket for longer than seven days", "4.6.1", ticket(lifetime=700_000), None, "closed"),
    ("NewSessionTicket with an unknown extension", "4.6.1", ticket(extra=[(UNKNOWN_EXTENSION, b"")]), None, "closed"),
    ("NewSessionTicket of 40 KB", "4.6.1", ticket(identity=bytes(TICKET_OCTETS)), None, "closed"),
    ("NewSessionTicket without a ticket", "4.6.1", ticket(identity=b""), "decode_error", "malformed_message"),
    ("NewSessionTicket that is cut", "4.6.1", cut_ticket, "decode_error", "malformed_message"),
    ("CertificateRequest after the handshake", "4.6.2", message(13, vector(b"c", 1) + extensions([SCHEMES])),
     "unexpected_message", UNEXPECTED),
    *[
        (f"{name} after the handshake", rule, message(kind, body), "unexpected_message", UNEXPECTED)
        for name, rule, kind, body in [
            ("HelloRequest", "4", 0, b""),
            ("ClientHello", "4.1.2", 1, bytes(40)),
            ("ServerHello", "4.1.3", 2, bytes(38)),
            ("EncryptedExtensions", "4.3.1", 8, bytes(2)),
            ("Certificate", "4.4.2", 11, bytes(4)),
            ("CertificateVerify", "4.4.3", 15, bytes(4)),
            ("Finished", "4.4.4", 20, bytes(32)),
            ("a message of unknown type", "4", 99, bytes(1)),
        ]
    ],
)

TLS12_CASES = (
    table(
        TLS12,
        "start",
        ("the mark of a server that could speak TLS 1.3", "4.1.3", hello(marked(TLS_1_2_DOWNGRADE_SENTINEL)),
         "illegal_parameter", FAILED),
        ("the mark of a server that could speak TLS 1.2", "4.1.3",
         hello_that_counts(marked(TLS_1_1_DOWNGRADE_SENTINEL)), None,
         "closed", NOT_COMPARED),
        ("a suite that was not offered", "RFC 5246 7.4.1.3", hello(field("suite", 0xC013)),
         "handshake_failure", FAILED, OWN_WORD),
        ("a suite of TLS 1.3 under TLS 1.2", "4.1.3", hello(field("suite", SUITE13)), "illegal_parameter", FAILED),
        ("a compression method", "RFC 5246 7.4.1.3", hello(field("compression", 1)), "illegal_parameter", FAILED),
        ("an extension that was not asked for", "RFC 5246 7.4.1.4", hello(more(UNKNOWN_EXTENSION)),
         "unsupported_extension", FAILED),
        ("renegotiation_info of another connection", "RFC 5746 3.4",
         hello_that_counts(put(0xFF01, vector(bytes(12), 1))), None,
         "closed", NOT_COMPARED),
    )
    + table(
        TLS12,
        "hello",
        ("a Certificate without certificates", "RFC 5246 7.4.2", no_certificate12, "decode_error", FAILED),
        ("ServerKeyExchange without a Certificate", "RFC 5246 7.4.3", lambda p: p.send(p.server_key_exchange()),
         "unexpected_message", FAILED),
    )
    + table(
        TLS12,
        "certificate",
        ("a signature that proves nothing", "RFC 5246 7.4.3", key_exchange12(bend=flip), "decrypt_error", FAILED),
        ("a group that was not offered", "RFC 8422 5.4", key_exchange12(group=X448), "illegal_parameter", FAILED),
        ("a scheme that was not offered", "RFC 5246 7.4.3", key_exchange12(scheme=b"\2\3"),
         "illegal_parameter", FAILED),
        ("ServerHelloDone without ServerKeyExchange", "RFC 5246 7.4.3", message(14), "unexpected_message", FAILED),
        ("ChangeCipherSpec before keys", "RFC 5246 7.1", lambda p: p.change_cipher_spec(),
         "unexpected_message", FAILED),
    )
    + table(
        TLS12,
        "flight",
        ("a second ServerHelloDone", "RFC 5246 7.4.5", message(14), "unexpected_message", FAILED),
        ("a Finished in clear text", "RFC 5246 7.4.9", message(20, bytes(12)), "unexpected_message", FAILED),
    )
    + table(
        TLS12,
        "changed",
        ("a Finished that proves nothing", "RFC 5246 7.4.9", finished12(flip), "decrypt_error", FAILED),
        ("data instead of the Finished", "RFC 5246 7.4.9", data, "unexpected_message", FAILED),
    )
    + table(
        TLS12,
        "done",
        ("renegotiation", "RFC 5746 4.2", resigned, "handshake_failure", "renegotiation_refused"),
        ("a Finished after the handshake", "RFC 5246 7.4.9", message(20, bytes(12)), "unexpected_message", UNEXPECTED),
        ("KeyUpdate, which TLS 1.2 does not have", "RFC 5246 7.4", message(24, b"\0"),
         "unexpected_message", UNEXPECTED),
    )
)

CASES = [*HELLO, *FLIGHT, *AFTER, *TLS12_CASES]
