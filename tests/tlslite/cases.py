"""What a case is, and how one is tried. Each prints one line of JSON; tests/tests/tlslite.rs judges it."""

import dataclasses
import json
import traceback
from typing import Callable, Optional

from peer import TLS12, TLS13, Over

# RFC 8446 section 6: every description that it defines, with its number.
ALERTS = {
    "close_notify": 0,
    "unexpected_message": 10,
    "bad_record_mac": 20,
    "record_overflow": 22,
    "handshake_failure": 40,
    "bad_certificate": 42,
    "unsupported_certificate": 43,
    "certificate_revoked": 44,
    "certificate_expired": 45,
    "certificate_unknown": 46,
    "illegal_parameter": 47,
    "unknown_ca": 48,
    "access_denied": 49,
    "decode_error": 50,
    "decrypt_error": 51,
    "protocol_version": 70,
    "insufficient_security": 71,
    "internal_error": 80,
    "inappropriate_fallback": 86,
    "user_canceled": 90,
    "missing_extension": 109,
    "unsupported_extension": 110,
    "unrecognized_name": 112,
    "bad_certificate_status_response": 113,
    "unknown_psk_identity": 115,
    "certificate_required": 116,
    "no_application_protocol": 120,
}
NAMES = {number: name for name, number in ALERTS.items()}
WARNING, FATAL = 1, 2
# These two say how a connection ends, and are warnings; all others are fatal, whatever level they carry (section 6).
CLOSURE_ALERTS = ("close_notify", "user_canceled")
# An alert that nobody has defined: an error all the same (section 6).
UNKNOWN_ALERT = 200


@dataclasses.dataclass
class Case:
    """One thing that a peer does, and what must come of it."""

    name: str
    # Section of RFC 8446, or another RFC by name.
    rule: str
    # TLS version and stage at which the peer does it.
    version: tuple
    stage: str
    do: Callable
    # The alert that must come back; none where the RFC wants none.
    alert: Optional[str]
    # `event.reason` of the record; `closed` where the session goes on to a good end.
    reason: str
    # Why the alert is another than the RFC's word, where it is.
    note: str = ""
    starttls: bool = False

    @property
    def goes_on(self):
        """Whether mail works after it; `close_notify` as the answer means that the peer itself has ended."""
        return self.reason == "closed" and self.alert is None

    @property
    def title(self):
        version = {TLS12: "TLS 1.2", TLS13: "TLS 1.3"}[self.version]
        return f"{self.name} ({version}, {self.stage})"


def table(version, stage, *rows):
    """Cases that begin alike: rows of name, rule, what to do, alert, reason and perhaps a note."""
    return [Case(name, rule, version, stage, *rest) for name, rule, *rest in rows]


def attempt(case, peer):
    """Do what the case says; what was seen."""
    try:
        try:
            peer.reach(case.stage)
            case.do(peer)
            if case.goes_on:
                peer.goes_on()
        except (Over, BrokenPipeError, ConnectionResetError) as over:
            if str(over) in ("closed", "reset"):
                return seen(peer, str(over))
        return seen(peer, peer.end())
    except Exception:  # Whatever went wrong is this case's result, and the next case is tried.
        return seen(peer, "none", traceback.format_exc())
    finally:
        peer.close()


def seen(peer, end, error=""):
    return {"came": [alert_word(alert) for alert in peer.alerts], "end": end, "error": error}


def alert_word(alert):
    """An alert that came, by name; with its level where that is wrong."""
    if len(alert) != 2:
        return f"an alert of {len(alert)} octets"
    level, number = alert
    name = NAMES.get(number, str(number))
    right = WARNING if name in CLOSURE_ALERTS else FATAL
    return name if level == right else f"{name} of level {level}"


def show(case, result, **more):
    """One line for the test to judge."""
    line = {
        "case": case.title,
        "rule": case.rule,
        # Who is done says close_notify; nothing else may come beside the alert.
        "wanted": ["close_notify"] if case.goes_on else [case.alert] if case.alert else [],
        "reason": case.reason,
        "note": case.note,
        **result,
        **more,
    }
    print(json.dumps(line), flush=True)


def announce(cases, never):
    """The first line: every case by name, and the alerts that this role of Postern never sends, with the reason."""
    titles = [case.title for case in cases]
    twice = {title for title in titles if titles.count(title) > 1}
    assert not twice, f"two cases of one name: {twice}"
    sent = sorted({case.alert for case in cases if case.alert} | {"close_notify" for case in cases if case.goes_on})
    goes_on = [case.title for case in cases if case.goes_on]
    plan = {"cases": titles, "goes_on": goes_on, "alerts": list(ALERTS), "sent": sent, "never": never}
    print(json.dumps(plan), flush=True)


def chosen(cases, words):
    """Those whose title holds the words, for a look at one alone."""
    return [case for case in cases if words in case.title] if words else cases
