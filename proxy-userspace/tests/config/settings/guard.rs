use super::{Default, FORM, Missing, NETWORK, Row, Unset, network, row};

const GUARD: &str = "[guard]";
const TENANT: &str = "[[guard.tenant]]";

pub(super) fn guard() -> Vec<Row> {
    let bodies = "out of range (they are remembered for an hour); use 10 to 50000";
    let failures = "out of range (people mistype, and a limit beyond is none); use 3 to 1000";
    let window = "out of range (a user waits a share of it); use 60 to 86400";
    let number = format!("wrong type: a string, expected a whole number; {FORM}");
    let domain = |why: &str| {
        format!(
            "not a domain of accounts: {why}; write what stands behind the `@` of accounts, such as \"example.com\", or \
             \"*\" for any account"
        )
    };
    let name = "not a server name: `*` stands only for the whole first label; write a DNS name such as \
                \"imap.example.org\" or \"*.example.org\"";
    vec![
        row(GUARD, "bodies_per_hour", Unset, &["10", "50000"], &[("9", bodies), ("50001", bodies)]),
        row(
            GUARD,
            "failed_logins",
            Unset,
            &["3", "1000"],
            &[("2", failures), ("1001", failures), ("\"10\"", &number)],
        ),
        row(GUARD, "window_seconds", Default("1800"), &["60", "86400"], &[("59", window), ("86401", window)]),
        row(
            TENANT,
            "domains",
            Missing,
            &["[\"*\"]", "[\"Example.com\", \"*.example.org\", \"müller.example\"]"],
            &[
                ("[]", "empty; list at least one domain, or \"*\" for any account"),
                ("[\"joe@example.com\"]", &domain("only letters, digits, `-` and dots")),
                ("[\"example.com.\"]", &domain("empty label (two dots, or a dot at an end)")),
                ("[\"a.*\"]", &domain("`*` stands only for the whole first label")),
                (&format!("[\"{}\"]", "a".repeat(256)), &domain("longer than 255 octets")),
            ],
        )
        .room(1024, |number| format!("\"d{number}.example\"")),
        row(TENANT, "servers", Default("[]"), &["[\"10.0.0.0/8\", \"::1\"]"], &[("[\"a\"]", NETWORK)])
            .room(4096, network),
        row(TENANT, "names", Default("[]"), &["[\"*.example.org\"]"], &[("[\"a.*\"]", name)])
            .room(256, |number| format!("\"s{number}.example\"")),
    ]
}
