use super::{Default, Row, row};

const PRIVACY: &str = "[action.privacy]";

pub(super) fn privacy() -> Vec<Row> {
    let pattern = |why: &str| {
        format!(
            "not a pattern for accounts: {why}; write an account as clients log in with it, in which `*` stands for any \
             characters and `?` for one, such as \"*@example.org\""
        )
    };
    let accounts = |key| {
        row(
            PRIVACY,
            key,
            Default("[]"),
            &["[\"*\"]", "[\"*@example.org\", \"jörg\"]", &format!("[\"{}\"]", "a".repeat(255))],
            &[
                ("[\"\"]", "empty; write an account such as \"*@example.org\""),
                ("[\"a b\"]", &pattern("it has white space or a control character")),
                (&format!("[\"{}\"]", "a".repeat(256)), &pattern("longer than 255 octets")),
                ("[\"a\", \"a\"]", "already given on line 7; remove one of them"),
            ],
        )
        .room(1000, |number| format!("\"a{number}\""))
    };
    vec![
        accounts("exempt_accounts"),
        accounts("pseudonymize_accounts"),
        row(
            PRIVACY,
            "subject",
            Default("\"plain\""),
            &["\"hash\"", "\"none\""],
            &[("\"md5\"", "unknown form of subjects in records; use \"plain\", \"hash\" or \"none\"")],
        ),
    ]
}
