use super::{ACTION, Default, FORM, ID, Row, Unset, row};

pub(super) fn alarms() -> Vec<Row> {
    const ALARM: &str = "[alarm]";
    let path = "the command is no absolute path; write the path from the root first, such as \
                \"/usr/local/bin/notify\": nobody looks in PATH";
    let text = format!("wrong type: a string, expected a list; {FORM}");
    let word = "no word of a command; use at most 4096 octets, and no NUL";
    let run = "out of range (four commands run at once, and others wait for them); use 1 to 300";
    let per_hour = "out of range (each runs a command and is posted); use 1 to 3600";
    let url = |what: &str| format!("{what}; write a URL such as \"https://alerts.example.org/postern\"");
    let daemon = "unknown event of the daemon; use \"process_died\", \"steering\", \"no_room\", \
                  \"certificate_ends\" or \"not_reloaded\"";
    let session = "unknown event of a session; use \"content\", \"not_judged\", \"certificate\", \
                   \"starttls_attack\", \"login_refused\", \"guard_tenant\", \"guard_guessing\", \"guard_bodies\", \
                   \"content_changed\" or \"fault\"";
    let long = |octets: usize| format!("[\"/{}\"]", "n".repeat(octets - 1));
    vec![
        row(
            ALARM,
            "command",
            Default("[]"),
            &["[\"/n\", \"\", \"a\", \"a\", \"; touch /tmp/x\"]", &long(4096)],
            &[
                ("[\"notify\"]", path),
                ("[\"\", \"/n\"]", path),
                ("\"/n --to noc\"", &text),
                ("[\"/n\", \"\\u0000\"]", word),
                (&long(4097), word),
            ],
        )
        .room(64, |number| format!("\"/n{number}\"")),
        row(
            ALARM,
            "webhook",
            Unset,
            &[
                "\"https://alerts.example.org/T0/key?a=b\"",
                "\"http://10.1.2.3:8080\"",
                "\"http://[fd00::7]/\"",
            ],
            &[
                ("\"\"", &url("a URL that begins neither with https:// nor with http://")),
                ("\"https://a.example/ü\"", &url("not a URL of at most 1024 visible ASCII characters")),
                ("\"https://key@a.example/\"", &url("a URL with a user or a password")),
                ("\"https://a.example/#key\"", &url("a URL with a fragment (#), which no server is sent")),
                ("\"https://a.example:0/\"", &url("a URL whose port is no number from 1 to 65535")),
                (
                    "\"https://fd00::7/\"",
                    &url("a URL whose host is neither a DNS name nor an address (IPv6 stands in brackets)"),
                ),
                ("443", "is no text; write a URL such as \"https://alerts.example.org/postern\""),
            ],
        ),
        row(ALARM, "user_id", Unset, &["1", "4294967294"], &[("0", ID), ("4294967295", ID)]),
        row(ALARM, "run_seconds", Default("30"), &["1", "300"], &[("0", run), ("301", run)]),
        row(ALARM, "per_hour", Default("30"), &["1", "3600"], &[("0", per_hour), ("3601", per_hour)]),
        row(
            ALARM,
            "events",
            Default("[\"process_died\", \"steering\", \"no_room\", \"certificate_ends\", \"not_reloaded\"]"),
            &["[]", "[\"steering\"]"],
            &[("[\"content\"]", daemon)],
        ),
        row(
            ACTION,
            "alarms",
            Default("[]"),
            &["[\"content\", \"fault\"]"],
            &[
                ("[\"steering\"]", session),
                ("[\"content\", \"content\"]", "already given on line 7; remove one of them"),
            ],
        ),
    ]
}
