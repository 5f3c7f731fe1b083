"""What a reader of mail gets out of messages: Python's own parsers of mail and archives, without anything of Postern's.

Reads messages from standard input, each behind a line with its octets' number, and writes a line for each: the forbidden
files that the reader gets (`eicar`, `program`), or `nothing`.
"""

import base64
import binascii
import bz2
import email
import email.policy
import gzip
import io
import lzma
import re
import sys
import tarfile
import zipfile

EICAR = (r"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + "EICAR-STANDARD-ANTIVIRUS" + "-TEST-FILE!$H+H*").encode()
DEPTH_MAX = 12
DATA_URL = re.compile(rb"data:[^,\"']*;base64,([A-Za-z0-9+/=\s]+)")
SCRIPT_STRING = re.compile(rb"atob\(.*?\)|['\"]([A-Za-z0-9+/=]{200,})['\"]", re.S)


def leaves(octets):
    """Every leaf of a message, decoded, by both of Python's policies."""
    for policy in (email.policy.default, email.policy.compat32):
        try:
            message = email.message_from_bytes(octets, policy=policy)
            for part in message.walk():
                if part.is_multipart():
                    continue
                # The decoded leaf, and the leaf as it stands.
                for decode in (True, False):
                    payload = part.get_payload(decode=decode)
                    if isinstance(payload, str):
                        payload = payload.encode("utf-8", "surrogateescape")
                    if payload:
                        yield payload
                # An encoded mail is a part of the text for Python's parser.
                if part.get_content_type() == "message/rfc822":
                    yield base64.b64decode(part.as_bytes().split(b"\n\n", 1)[-1])
        except Exception:
            # A parser that gives up shows its user nothing.
            continue


def uuencoded(octets):
    """The files of a text with uuencoded files in it."""
    lines = iter(octets.splitlines())
    for line in lines:
        if re.match(rb"begin [0-7]{3} ", line):
            out = b""
            for line in lines:
                if line.strip() in (b"end", b"`", b""):
                    break
                try:
                    out += binascii.a2b_uu(line)
                except binascii.Error:
                    break
            yield out


def yenc(octets):
    """The files of a text with yEnc in it."""
    for block in re.findall(rb"=ybegin [^\r\n]*\r?\n(.*?)\r?\n=yend", octets, re.S):
        out, escaped = bytearray(), False
        for octet in block.replace(b"\r", b"").replace(b"\n", b""):
            if escaped:
                out.append(octet - 64 - 42 & 255)
                escaped = False
            elif octet == 61:
                escaped = True
            else:
                out.append(octet - 42 & 255)
        yield bytes(out)


def members(octets):
    """What unpackers of the standard library get out of a file."""
    try:
        with zipfile.ZipFile(io.BytesIO(octets)) as archive:
            for info in archive.infolist():
                if info.file_size < 1 << 24:
                    yield archive.read(info)
    except Exception:
        pass
    try:
        with tarfile.open(fileobj=io.BytesIO(octets)) as archive:
            for info in archive:
                file = archive.extractfile(info)
                if file:
                    yield file.read(1 << 24)
    except Exception:
        pass
    for unpack in (gzip.decompress, bz2.decompress, lzma.decompress):
        try:
            yield unpack(octets)
        except Exception:
            pass
    for pattern in (DATA_URL, SCRIPT_STRING):
        for encoded in pattern.findall(octets):
            try:
                yield base64.b64decode(encoded)
            except binascii.Error:
                pass
    yield from uuencoded(octets)
    yield from yenc(octets)
    if re.match(rb"[A-Za-z-]+:", octets):
        yield from leaves(octets)


def found(octets, depth=0):
    """The forbidden files in a file and in what is in it."""
    kinds = set()
    if EICAR in octets:
        kinds.add("eicar")
    if octets[:2] == b"MZ" and b"PE\0\0" in octets:
        kinds.add("program")
    if depth < DEPTH_MAX:
        for member in members(octets):
            if member and member != octets:
                kinds |= found(member, depth + 1)
    return kinds


def main():
    source = sys.stdin.buffer
    while line := source.readline():
        message = source.read(int(line))
        kinds = set()
        for leaf in leaves(message):
            kinds |= found(leaf)
        print(" ".join(sorted(kinds)) or "nothing", flush=True)


if __name__ == "__main__":
    main()
