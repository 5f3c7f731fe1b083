"""The client's role: what Postern's downstream side hears."""

import socket

from tlslite.constants import CipherSuite, ContentType, ExtensionType, GroupName, HandshakeType, SignatureScheme
from tlslite.extensions import (
    ClientKeyShareExtension,
    ECPointFormatsExtension,
    KeyShareEntry,
    PskKeyExchangeModesExtension,
    RenegotiationInfoExtension,
    SignatureAlgorithmsExtension,
    SNIExtension,
    SupportedGroupsExtension,
    SupportedVersionsExtension,
    TLSExtension,
)
from tlslite.constants import TLS_1_3_HRR
from tlslite.messages import ClientHello, ClientKeyExchange, ServerHello, ServerKeyExchange
from tlslite.utils.codec import Parser

from peer import *

SCHEMES = [SignatureScheme.ecdsa_secp256r1_sha256, SignatureScheme.rsa_pss_rsae_sha256]
GROUPS = [GroupName.x25519, GroupName.secp256r1]


class Client(Peer):
    """A client, from TCP to mail, in stages.

    TLS 1.3: `start`, `flight` (the server has said its Finished), `done`.
    TLS 1.2: `start`, `flight` (ServerHelloDone), `keys` (ClientKeyExchange sent), `changed` (ChangeCipherSpec sent),
    `done`.
    """

    def __init__(self, to, port, name, version, starttls=False):
        sock = socket.create_connection(to, PATIENCE, ("", port))
        super().__init__(sock, True, version)
        self.name = name
        # Behind STARTTLS there is no second greeting.
        self.greeted = starttls
        if starttls:
            self.starttls()

    def starttls(self):
        """The dialogue in clear text on port 143 (RFC 9051 section 6.2.1)."""
        lines = self.sock.makefile("rb", buffering=0)
        assert lines.readline().startswith(b"* OK")
        self.raw(b"a STARTTLS\r\n")
        answer = lines.readline()
        assert answer.startswith(b"a OK"), answer

    def reach(self, stage):
        """As far as this stage."""
        steps = self.STEPS13 if self.version == TLS13 else self.STEPS12
        names = ["start", *(name for name, _ in steps)]
        for name, step in steps[names.index(self.stage) : names.index(stage)]:
            step(self)
            self.stage = name

    def hello(self, *changes):
        """A good ClientHello, and what the case changes in it."""
        self.exchange, self.private, share = key_exchange()
        extensions = [
            SNIExtension().create(self.name.encode()),
            SupportedGroupsExtension().create(GROUPS),
            SignatureAlgorithmsExtension().create(SCHEMES),
        ]
        if self.version == TLS13:
            suites = [SUITE13]
            extensions += [
                SupportedVersionsExtension().create([TLS13]),
                ClientKeyShareExtension().create([KeyShareEntry().create(GROUP, share)]),
                PskKeyExchangeModesExtension().create([1]),
            ]
        else:
            suites = [SUITE12]
            extensions += [
                ECPointFormatsExtension().create([0]),
                RenegotiationInfoExtension().create(bytearray()),
                TLSExtension(extType=ExtensionType.extended_master_secret).create(bytearray()),
            ]
        self.client_random = fresh_random()
        hello = ClientHello().create(TLS12, self.client_random, fresh_random(), suites, extensions=extensions)
        for change in changes:
            change(hello)
        return hello

    def send_hello(self, *changes):
        self.send(self.hello(*changes))

    def server_hello(self):
        octets = self.message(HandshakeType.server_hello)
        hello = ServerHello().parse(Parser(octets[1:]))
        if hello.random == TLS_1_3_HRR:
            # RFC 8446 section 4.4.1: the first ClientHello stands in the transcript as its hash.
            digest = self.transcript.digest(HASH)
            self.transcript = type(self.transcript)()
            self.transcript.update(handshake(HandshakeType.message_hash, digest))
        self.transcript.update(octets)
        return hello

    def take_server_hello(self, hello):
        share = hello.getExtension(ExtensionType.key_share).server_share
        self.handshake_keys13(self.exchange.calc_shared_key(self.private, share.key_exchange))
        self.records.changeReadState()

    def flight13(self):
        if not self.transcript.digest("intrinsic"):
            self.send_hello()
        self.take_server_hello(self.server_hello())
        self.rest_of_flight13()

    def rest_of_flight13(self):
        write = self.records._pendingWriteState
        self.encrypted_extensions = self.expect(HandshakeType.encrypted_extensions)
        self.expect(HandshakeType.certificate)
        self.expect(HandshakeType.certificate_verify)
        expected = self.finished13(self.server_secret)
        assert self.expect(HandshakeType.finished) == expected, "the server's Finished is wrong"
        # The server writes under its application key from here on, this client under its handshake key until its
        # Finished is said.
        self.records._writeState, handshake_secret = write, self.client_secret
        self.finished = self.finished13(handshake_secret)
        self.application_keys13()
        self.records.changeReadState()

    def done13(self):
        self.send(self.finished)
        self.records.changeWriteState()
        self.greeting()

    def flight12(self):
        if not self.transcript.digest("intrinsic"):
            self.send_hello()
        hello = self.server_hello()
        self.server_random = hello.random
        self.expect(HandshakeType.certificate)
        octets = self.expect(HandshakeType.server_key_exchange)
        self.server_share = ServerKeyExchange(SUITE12, TLS12).parse(Parser(octets[1:])).ecdh_Ys
        self.expect(HandshakeType.server_hello_done)

    def client_key_exchange(self):
        return ClientKeyExchange(SUITE12, TLS12).createECDH(self.exchange.calc_public_value(self.private))

    def keys(self):
        self.send(self.client_key_exchange())
        self.take_keys()

    def take_keys(self):
        self.keys12(self.exchange.calc_shared_key(self.private, self.server_share))

    def changed(self):
        self.change_cipher_spec()
        self.records.changeWriteState()

    def done12(self):
        self.send(self.finished12(b"client finished"))
        while True:
            kind = self.message(HandshakeType.new_session_ticket, HandshakeType.finished)
            if kind[0] == HandshakeType.finished:
                break
            self.transcript.update(kind)
        assert kind == self.finished12(b"server finished"), "the server's Finished is wrong"
        self.greeting()

    def greeting(self):
        if self.greeted:
            return
        line = self.line()
        assert line.startswith("* OK"), line

    STEPS13 = [("flight", flight13), ("done", done13)]
    STEPS12 = [("flight", flight12), ("keys", keys), ("changed", changed), ("done", done12)]

    def goes_on(self):
        """That mail still works in both directions, and an end as the RFC wants it."""
        self.reach("done")
        self.command("n NOOP")
        self.command("l LOGOUT")
        self.alert(1, 0)

    def command(self, text):
        self.say(text + "\r\n")
        tag = text.split()[0] + " "
        while True:
            line = self.line()
            if line.startswith(tag):
                assert line.startswith(tag + "OK"), line
                return
