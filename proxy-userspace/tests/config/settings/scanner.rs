use super::{Default, FORM, Row, row};

const YARA: &str = "[scanner.yara]";

pub(super) fn scanner() -> Vec<Row> {
    let flag = format!("wrong type: a string, expected true or false; {FORM}");
    let list = format!("wrong type: a string, expected a list; {FORM}");
    vec![
        row(YARA, "embedded", Default("true"), &["false"], &[("\"yes\"", &flag)]),
        row(
            YARA,
            "directories",
            Default("[]"),
            &["[\"/etc/postern/yara\", \"rules\"]"],
            &[("\"/etc/postern/yara\"", &list), ("[\"\"]", "empty; name a directory")],
        )
        .room(16, |number| format!("\"/d{number}\"")),
    ]
}
