"""The server's role: what Postern's upstream side hears."""

import hashlib
import types

import ecdsa
from tlslite.constants import CipherSuite, ContentType, ExtensionType, GroupName, HandshakeType
from tlslite.messages import ClientHello
from tlslite.utils.codec import Parser
from tlslite.x509 import X509

from peer import *

ECDSA_SHA256 = b"\4\3"


class Identity:
    """A certificate and its key, from PEM."""

    def __init__(self, cert, key):
        with open(cert) as file:
            self.der = bytes(X509().parse(file.read()).bytes)
        with open(key) as file:
            self.key = ecdsa.SigningKey.from_pem(file.read(), hashfunc=hashlib.sha256)

    def sign(self, octets):
        return self.key.sign(bytes(octets), sigencode=ecdsa.util.sigencode_der)


class Server(Peer):
    """A server whose ClientHello is read when it begins, in stages.

    TLS 1.3: `start`, `keys` (ServerHello sent), `extensions`, `certificate`, `verified` (CertificateVerify sent),
    `done` (both Finished, and the greeting of IMAP).
    TLS 1.2: `start`, `hello` (ServerHello sent), `certificate`, `flight` (ServerHelloDone sent, the client's
    Finished read), `changed` (ChangeCipherSpec sent), `done`.
    """

    def __init__(self, sock, identity):
        super().__init__(sock, False, TLS13)
        self.identity = identity
        self.asks_for_certificate = False
        self.read_hello()

    def read_hello(self):
        octets = self.expect(HandshakeType.client_hello)
        self.client_hello = ClientHello().parse(Parser(octets[1:]))
        self.client_random = self.client_hello.random
        self.name = bytes(self.client_hello.server_name).decode()

    def reach(self, stage):
        """As far as this stage."""
        steps = self.STEPS13 if self.version == TLS13 else self.STEPS12
        names = ["start", *(name for name, _ in steps)]
        for name, step in steps[names.index(self.stage) : names.index(stage)]:
            step(self)
            self.stage = name

    # TLS 1.3.

    def share(self, group=GROUP):
        """Our share; what is agreed on is kept."""
        self.exchange, private, share = key_exchange(group)
        theirs = self.client_hello.getExtension(ExtensionType.key_share).client_shares
        entry = next((entry for entry in theirs if entry.group == group), None)
        if entry:
            self.shared = self.exchange.calc_shared_key(private, entry.key_exchange)
        return group.to_bytes(2, "big") + vector(share, 2)

    def server_hello(self, *changes):
        """A good ServerHello, with what the case changes in it: version, random, session, suite, compression, and a
        list of extensions, each a number and its octets."""
        self.server_random = fresh_random()
        fields = types.SimpleNamespace(
            version=TLS12,
            random=self.server_random,
            session=self.client_hello.session_id,
            suite=SUITE13,
            compression=0,
            extensions=[(ExtensionType.supported_versions, bytes(TLS13)), (ExtensionType.key_share, self.share())],
        )
        if self.version == TLS12:
            fields.suite = SUITE12
            fields.session = b""
            fields.extensions = [(ExtensionType.extended_master_secret, b""), (ExtensionType.renegotiation_info, b"\0")]
        for change in changes:
            change(fields)
        self.server_random = fields.random
        body = bytes(fields.version) + bytes(fields.random) + vector(fields.session, 1)
        body += fields.suite.to_bytes(2, "big") + bytes([fields.compression])
        return handshake(HandshakeType.server_hello, body + extensions(fields.extensions))

    def send_server_hello(self, *changes):
        self.send(self.server_hello(*changes))

    def keys(self):
        self.send_server_hello()
        self.take_keys()

    def take_keys(self):
        self.handshake_keys13(self.shared)
        self.records.changeWriteState()
        self.records.changeReadState()

    def extensions(self):
        self.send(handshake(HandshakeType.encrypted_extensions, extensions([])))

    def certificate(self):
        self.send(self.certificate_message())

    def certificate_message(self, context=b"", entry_extensions=(), entries=1):
        if self.version == TLS12:
            return handshake(HandshakeType.certificate, vector(vector(self.identity.der, 3) * entries, 3))
        entry = vector(self.identity.der, 3) + extensions(entry_extensions)
        return handshake(HandshakeType.certificate, vector(context, 1) + vector(entry * entries, 3))

    def verified(self):
        self.send(self.certificate_verify())

    def certificate_verify(self, scheme=ECDSA_SHA256, bend=bytes):
        content = b" " * 64 + b"TLS 1.3, server CertificateVerify\0" + bytes(self.transcript.digest(HASH))
        return handshake(HandshakeType.certificate_verify, scheme + vector(bend(self.identity.sign(content)), 2))

    def done13(self):
        self.send(self.finished13(self.server_secret))
        handshake_secret = self.client_secret
        self.application_keys13()
        self.records.changeWriteState()
        if self.asks_for_certificate:
            empty = self.message(HandshakeType.certificate)
            assert empty[4:] == b"\0\0\0\0", "Postern has no certificate to show"
            # The application secrets do not cover it, the client's Finished does.
            self.transcript.update(empty)
        expected = self.finished13(handshake_secret)
        assert self.message(HandshakeType.finished) == expected, "the client's Finished is wrong"
        self.records.changeReadState()
        self.greet()

    # TLS 1.2.

    def hello12(self):
        self.send_server_hello()

    def server_key_exchange(self, group=GROUP, bend=bytes, scheme=ECDSA_SHA256):
        self.exchange, self.private, share = key_exchange(GROUP)
        params = b"\3" + group.to_bytes(2, "big") + vector(share, 1)
        signature = self.identity.sign(bytes(self.client_random) + bytes(self.server_random) + params)
        return handshake(HandshakeType.server_key_exchange, params + scheme + vector(bend(signature), 2))

    def flight12(self):
        self.send(self.server_key_exchange())
        self.send(handshake(HandshakeType.server_hello_done, b""))
        self.take_client_flight()

    def take_client_flight(self):
        share = self.expect(HandshakeType.client_key_exchange)[5:]
        self.keys12(self.exchange.calc_shared_key(self.private, share))
        expected = self.finished12(b"client finished")
        assert self.expect(HandshakeType.finished) == expected, "the client's Finished is wrong"

    def changed12(self):
        self.change_cipher_spec()
        self.records.changeWriteState()

    def done12(self):
        self.send(self.finished12(b"server finished"))
        self.greet()

    def greet(self):
        self.say("* OK ready\r\n")

    STEPS13 = [
        ("keys", keys),
        ("extensions", extensions),
        ("certificate", certificate),
        ("verified", verified),
        ("done", done13),
    ]
    STEPS12 = [
        ("hello", hello12),
        ("certificate", certificate),
        ("flight", flight12),
        ("changed", changed12),
        ("done", done12),
    ]

    def goes_on(self):
        """Answer the client until it leaves, and say goodbye as the RFC wants it."""
        self.reach("done")
        while True:
            tag, verb = self.line().split()
            if verb == "LOGOUT":
                self.say(f"* BYE\r\n{tag} OK\r\n")
                self.alert(1, 0)
                return
            self.say(f"{tag} OK\r\n")


def extensions(pairs):
    return vector(b"".join(extension_octets(number, body) for number, body in pairs), 2)
