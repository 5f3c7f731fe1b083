"""A TLS peer that takes a handshake as far as a case wants and then does what the case says.

Messages, ciphers and records are tlslite-ng's, so that another library than Postern's reads and writes them. The order
of messages, and every fault in them, is decided here. The signature of the certificate is not verified: real clients
do that in other tests. Members of tlslite-ng that begin with an underscore are used where a record must be wrong; the
version is pinned.
"""

import os
import socket

from tlslite.constants import CipherSuite, ContentType, ExtensionType, GroupName, HandshakeType
from tlslite.handshakehashes import HandshakeHashes
from tlslite.keyexchange import ECDHKeyExchange
from tlslite.mathtls import calc_key
from tlslite.messages import Message
from tlslite.errors import TLSAbruptCloseError
from tlslite.recordlayer import RecordLayer
from tlslite.utils.cryptomath import HKDF_expand_label, derive_secret, secureHMAC

# The longest wait for anything that Postern does by itself, in seconds: patience, not a measure.
PATIENCE = 20
TLS12, TLS13 = (3, 3), (3, 4)
SUITE12 = CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
SUITE13 = CipherSuite.TLS_AES_128_GCM_SHA256
HASH, HASH_OCTETS = "sha256", 32
GROUP = GroupName.x25519


class Over(Exception):
    """The other end sent an alert, or ended the connection."""


class Peer:
    """What both roles share: one connection, its records, its transcript."""

    def __init__(self, sock, client, version):
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock, self.client, self.version = sock, client, version
        self.records = RecordLayer(sock)
        self.records.client = client
        self.records.version = TLS12
        self.transcript = HandshakeHashes()
        self.alerts, self.partial, self.text, self.tickets = [], bytearray(), bytearray(), []
        self.stage = "start"
        self.key_updates = 0

    # Sending.

    def raw(self, octets):
        """Octets as they are, below TLS."""
        self.sock.sendall(bytes(octets))

    def clear(self, content, body, version=TLS12, length=None):
        """A record in clear text whatever the keys; the header may lie about the length."""
        length = len(body) if length is None else length
        self.raw(bytes([content, *version, length >> 8, length & 255]) + bytes(body))

    def write(self, content, body):
        """One record under the present keys."""
        for _ in self.records.sendRecord(Message(content, bytearray(body))):
            pass

    def seal(self, inner, content=ContentType.application_data):
        """The octets of a whole record under the present keys, from its inner plaintext."""
        sealed = self.records._encryptThenSeal(bytearray(inner), content)
        return bytearray([content, 3, 3, len(sealed) >> 8, len(sealed) & 255]) + sealed

    def send(self, message):
        """A handshake message, which the transcript covers."""
        octets = octets_of(message)
        self.transcript.update(octets)
        self.write(ContentType.handshake, octets)

    def alert(self, level, description):
        self.write(ContentType.alert, [level, description])

    def change_cipher_spec(self):
        self.write(ContentType.change_cipher_spec, [1])

    def say(self, text):
        self.write(ContentType.application_data, text.encode())

    # Receiving.

    def record(self):
        """Type and content of the next record. A last alert is remembered, the end of the connection is `Over`."""
        try:
            for result in self.records.recvRecord():
                if result not in (0, 1):
                    break
        except TLSAbruptCloseError:
            raise Over("closed") from None
        except (ConnectionResetError, BrokenPipeError):
            raise Over("reset") from None
        header, parser = result
        if header.type == ContentType.alert:
            self.alerts.append(tuple(parser.bytes))
        return header.type, parser.bytes

    def message(self, *kinds):
        """The next handshake message, one of these kinds."""
        while True:
            length = int.from_bytes(self.partial[1:4], "big") + 4
            if len(self.partial) >= max(4, length):
                octets, self.partial = self.partial[:length], self.partial[length:]
                assert octets[0] in kinds, f"handshake message {octets[0]} instead of {kinds}"
                return octets
            content, body = self.record()
            if content == ContentType.handshake:
                self.partial += body
            elif content == ContentType.change_cipher_spec:
                if self.version == TLS12:
                    self.records.changeReadState()
            elif content == ContentType.alert:
                raise Over("alert")
            else:
                raise AssertionError(f"a record of type {content} in the handshake")

    def expect(self, *kinds):
        """As `message`; the transcript covers it."""
        octets = self.message(*kinds)
        self.transcript.update(octets)
        return octets

    def line(self):
        """One line of IMAP. What TLS brings beside it is taken in."""
        while b"\r\n" not in self.text:
            content, body = self.record()
            if content == ContentType.application_data:
                self.text += body
            elif content == ContentType.handshake:
                self.post_handshake(body)
            else:
                raise Over(f"a record of type {content}")
        line, _, self.text = self.text.partition(b"\r\n")
        return bytes(line).decode()

    def post_handshake(self, body):
        self.partial += body
        while len(self.partial) >= 4:
            length = int.from_bytes(self.partial[1:4], "big") + 4
            if len(self.partial) < length:
                return
            octets, self.partial = self.partial[:length], self.partial[length:]
            if octets[0] == HandshakeType.key_update:
                assert octets[4:] == b"\0", "a KeyUpdate that answers asks for another"
                self.key_updates += 1
                keys = (SUITE13, self.client_secret, self.server_secret)
                self.client_secret, self.server_secret = self.records.calcTLS1_3KeyUpdate_sender(*keys)
            elif octets[0] == HandshakeType.new_session_ticket:
                self.tickets.append(octets)
            else:
                raise AssertionError(f"handshake message {octets[0]} after the handshake")

    def end(self):
        """Read until the other end ends the connection; how it did."""
        while True:
            try:
                self.record()
            except Over as over:
                return str(over)

    # Keys.

    def handshake_keys13(self, shared):
        early = secureHMAC(bytearray(HASH_OCTETS), bytearray(HASH_OCTETS), HASH)
        self.secret = secureHMAC(derive_secret(early, b"derived", None, HASH), shared, HASH)
        self.client_secret = derive_secret(self.secret, b"c hs traffic", self.transcript, HASH)
        self.server_secret = derive_secret(self.secret, b"s hs traffic", self.transcript, HASH)
        self.records.version = TLS13
        self.records.tls13record = True
        self.records.calcTLS1_3PendingState(SUITE13, self.client_secret, self.server_secret, None)

    def application_keys13(self):
        """The next secrets, from the transcript up to the server's Finished; put in force by the caller."""
        master = secureHMAC(derive_secret(self.secret, b"derived", None, HASH), bytearray(HASH_OCTETS), HASH)
        self.client_secret = derive_secret(master, b"c ap traffic", self.transcript, HASH)
        self.server_secret = derive_secret(master, b"s ap traffic", self.transcript, HASH)
        self.records.calcTLS1_3PendingState(SUITE13, self.client_secret, self.server_secret, None)

    def finished13(self, secret):
        key = HKDF_expand_label(secret, b"finished", b"", HASH_OCTETS, HASH)
        return handshake(HandshakeType.finished, secureHMAC(key, self.transcript.digest(HASH), HASH))

    def update_sending_key(self):
        """Take the next sending key (RFC 8446 section 4.6.3)."""
        keys = (SUITE13, self.client_secret, self.server_secret)
        self.client_secret, self.server_secret = self.records.calcTLS1_3KeyUpdate_reciever(*keys)

    def keys12(self, premaster):
        label = b"extended master secret"
        self.secret = calc_key(TLS12, premaster, SUITE12, label, handshake_hashes=self.transcript, output_length=48)
        self.records.calcPendingStates(SUITE12, self.secret, self.client_random, self.server_random, None)

    def finished12(self, label):
        data = calc_key(TLS12, self.secret, SUITE12, label, handshake_hashes=self.transcript, output_length=12)
        return handshake(HandshakeType.finished, data)

    def close(self):
        self.sock.close()


def octets_of(message):
    return bytearray(message.write()) if hasattr(message, "write") else bytearray(message)


def handshake(kind, body, length=None):
    """A handshake message from its body; the header may lie about the length."""
    length = len(body) if length is None else length
    return bytearray([kind]) + length.to_bytes(3, "big") + bytearray(body)


def vector(body, length_octets):
    """A variable-length vector (RFC 8446 section 3.4)."""
    return len(body).to_bytes(length_octets, "big") + bytes(body)


def key_exchange(group=GROUP):
    """A private key and its share."""
    exchange = ECDHKeyExchange(group, TLS13)
    private = exchange.get_random_private_key()
    return exchange, private, exchange.calc_public_value(private)


def fresh_random():
    return bytearray(os.urandom(32))


def flip(octets, at=-1):
    """The same octets with one bit changed."""
    changed = bytearray(octets)
    changed[at] ^= 1
    return changed


def extension_octets(number, body):
    return number.to_bytes(2, "big") + vector(body, 2)


def has(hello, number):
    return any(extension.extType == number for extension in hello.extensions)


__all__ = [name for name in dir() if not name.startswith("_")]
