use super::{Default, FORM, Missing, Row, row};

const RULE: &str = "[[action.headers.rule]]";

pub(super) fn headers() -> Vec<Row> {
    let action = "unknown action of a header rule; use \"allow\" or \"remove\"";
    let form = "write the name of a header field, such as \"X-Spam-Flag\", or a pattern such as \"X-Spam-*\"";
    let name = |why: &str| format!("not the name of a header field: {why}; {form}");
    let kept = "never removed: without it no client could read the mail; remove the rule: the field passes without one";
    vec![
        row("[action.headers]", "unmatched", Default("\"allow\""), &["\"remove\""], &[("\"deny\"", action)]),
        row(
            RULE,
            "match",
            Missing,
            &["\"Subject\"", "\"X-Spam-*\"", "\"*\"", "\"x-a?\"", &format!("\"{}\"", "a".repeat(128))],
            &[
                ("\"\"", &format!("empty; {form}")),
                (&format!("\"{}\"", "a".repeat(129)), &name("longer than 128 octets")),
                ("\"Subject:\"", &name("the colon is none of it")),
                ("\"X Spam\"", &name("only visible characters of ASCII stand in it")),
                ("\"Betreff-ü\"", &name("only visible characters of ASCII stand in it")),
                ("\"Content-Type\"", kept),
                ("\"content-transfer-encoding\"", kept),
                ("\"Content-Disposition\"", kept),
                ("\"MIME-Version\"", kept),
                ("1", &format!("wrong type: a whole number, expected a string; {FORM}")),
            ],
        ),
        row(RULE, "action", Missing, &["\"allow\"", "\"remove\""], &[("\"strip\"", action)]),
    ]
}
