"""Alerts that a peer of either role sends (RFC 8446 section 6; RFC 5246 section 7.2)."""

from cases import ALERTS, CLOSURE_ALERTS, FATAL, UNKNOWN_ALERT, WARNING, Case, table
from peer import TLS13, ContentType

IN_HANDSHAKE = "tls_handshake_failed"
# What a server is taken for that answers the ClientHello with one of NOTHING_IN_COMMON.
INCOMPATIBLE = "upstream_tls_incompatible"
NOTHING_IN_COMMON = ("handshake_failure", "protocol_version", "insufficient_security")
AFTER = "peer_alert"
ERRORS = {name: number for name, number in ALERTS.items() if name not in CLOSURE_ALERTS}
ERRORS["an alert that nobody has defined"] = UNKNOWN_ALERT


def alert(name, level):
    number = ALERTS[name]
    return lambda peer: peer.alert(level, number)


def every_error(version, stage, level, reason, others=None):
    """An error alert ends the connection at once and is not answered (section 6.2). `others` are other reasons, by
    name of the alert."""
    others = others or {}
    word = "fatal" if level == FATAL else "warning"
    return [
        Case(
            f"{name}, {word}",
            "6.2",
            version,
            stage,
            lambda peer, n=number: peer.alert(level, n),
            None,
            others.get(name, reason),
        )
        for name, number in ERRORS.items()
    ]


def all_of(*steps):
    def do(peer):
        for step in steps:
            step(peer)

    return do


def alert_record(*octets):
    return lambda peer: peer.write(ContentType.alert, octets)


def data_after_close(peer):
    alert("close_notify", WARNING)(peer)
    peer.say("x NOOP\r\n")


def closures_in_handshake(version, stage, answer, reason, note=""):
    """Closure alerts before the handshake is over (section 6.1)."""
    closed, canceled = alert("close_notify", WARNING), alert("user_canceled", WARNING)
    return table(
        version,
        stage,
        ("close_notify", "6.1", closed, answer, reason, note),
        ("user_canceled, and close_notify behind it", "6.1", all_of(canceled, closed), answer, reason, note),
    )


# rustls takes close_notify for a goodbye only where data may come.
UNDER_KEYS = "rustls takes it for a warning that TLS 1.3 does not have; the RFC wants no other answer than close_notify"
PASSED_OVER = "rustls takes it for a warning and passes over it: until keys protect it, anybody can have said it"


def alerts_after(version):
    """Closure alerts and malformed ones, after the handshake."""
    closed, canceled = alert("close_notify", WARNING), alert("user_canceled", WARNING)
    half_a_key_update = lambda peer: peer.write(ContentType.handshake, [24, 0, 0])
    cases = table(
        version,
        "done",
        ("close_notify", "6.1", closed, "close_notify", "closed"),
        # The level of an alert can be ignored, in a closure alert, too.
        ("close_notify of level fatal", "6", alert("close_notify", FATAL), "close_notify", "closed"),
        ("data after close_notify is ignored", "6.1", data_after_close, "close_notify", "closed"),
        ("user_canceled", "6.1", canceled, None, "closed"),
        ("user_canceled, and close_notify behind it", "6.1", all_of(canceled, closed), "close_notify", "closed"),
        # Section 5.4: what an implementation does with a record of no content that is neither data nor padding.
        ("an alert of no octets", "5.4", alert_record(), "unexpected_message", "unexpected_record"),
        # Section 5.1: alerts must not be fragmented, and a record holds exactly one.
        ("half an alert", "5.1", alert_record(FATAL), "decode_error", "malformed_message"),
        ("two alerts in a record", "5.1", alert_record(1, 90, 1, 0), "decode_error", "malformed_message"),
    )
    if version == TLS13:
        cases += table(
            version,
            "done",
            (
                "an alert inside a handshake message",
                "5.1",
                all_of(half_a_key_update, canceled),
                "unexpected_message",
                "unexpected_record",
            ),
        )
    else:
        cases += table(
            version,
            "done",
            # RFC 5246 section 7.2.2: the receiver of a warning may go on.
            ("a warning that is no closure alert", "RFC 5246 7.2.2", alert("access_denied", WARNING), None, "closed"),
            ("no_renegotiation", "RFC 5246 7.2.2", lambda peer: peer.alert(WARNING, 100), None, "closed"),
        )
    return cases
