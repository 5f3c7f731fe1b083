use super::{CONTENT, Default, Missing, Row, Unset, row};

const VERDICTS: &str = "[action.content.verdicts]";
const ALL_ACTIONS: &[&str] = &["\"allow\"", "\"av_scan\"", "\"remove\"", "\"deny\""];
const NO_QUARANTINE: &str = "there is no quarantine in this version; use \"remove\" or \"deny\"";
const PATTERN: &str = "not a pattern for media types; write a type and a subtype, such as \"application/pdf\" or \
                       \"image/*\", without parameters";

fn action(key_of: (&'static str, &'static str), without: super::Without, fits: &[&str]) -> Row {
    let (header, key) = key_of;
    let words = "unknown action of a rule; use \"allow\", \"av_scan\", \"remove\" or \"deny\"";
    let wrong = [("\"strip\"", words), ("\"lock\"", NO_QUARANTINE), ("\"quarantine\"", NO_QUARANTINE)];
    row(header, key, without, fits, &wrong)
}

fn verdict(key: &'static str, default: &'static str) -> Row {
    let words = "unknown verdict; use \"allow\", \"remove\" or \"deny\"";
    let fits: Vec<_> =
        ["\"allow\"", "\"remove\"", "\"deny\""].into_iter().filter(|word| *word != default).collect();
    row(VERDICTS, key, Default(default), &fits, &[("\"av_scan\"", words), ("\"lock\"", NO_QUARANTINE)])
}

fn rules() -> Vec<Row> {
    let name = "not a pattern for file names: a file name has no `/`; write a file name in which `*` stands for any \
                characters and `?` for one, such as \"*.exe\"";
    let lists = "unknown list; use \"executables\", \"scripts\", \"office_macros\", \"disk_images\", \"shortcuts\", \
                 \"onenote\", \"html_attachments\" or \"rare_archives\"";
    let (names, types, of_lists) =
        ("[[action.content.name_rule]]", "[[action.content.type_rule]]", "[[action.content.list_rule]]");
    vec![
        row(names, "match", Missing, &["\"*.exe\""], &[("\"a/b\"", name)]),
        action((names, "action"), Missing, ALL_ACTIONS),
        row(
            types,
            "match",
            Missing,
            &["\"*\"", "\"image/*\"", "\"Application/X-Dosexec\""],
            &[("\"image\"", PATTERN), ("\"a/b; c=d\"", PATTERN), ("\"a/b/c\"", PATTERN), ("\"/b\"", PATTERN)],
        ),
        action((types, "action"), Missing, ALL_ACTIONS),
        row(of_lists, "list", Missing, &["\"scripts\""], &[("\"tools\"", lists)]),
        action((of_lists, "action"), Missing, ALL_ACTIONS),
        row(CONTENT, "lists", Default("[]"), &["[\"scripts\", \"onenote\"]"], &[("[\"tools\"]", lists)]),
    ]
}

pub(super) fn content() -> Vec<Row> {
    let flag = format!("wrong type: a string, expected true or false; {}", super::FORM);
    let hash = "not a SHA-256; write the 64 hexadecimal digits that `sha256sum FILE` prints";
    let variables = "the variables are %(reason)%, %(filename)%, %(virus)%, %(action)%, %(recovery)%";
    let unknown = format!("unknown variable %(file)%; {variables}");
    let stray = format!("`%` begins no variable; {variables}");
    let shown = |c: char| format!("{c:?} {}", SHOWN);
    const SHOWN: &str = "cannot be shown in every charset and in HTML; use letters, digits and punctuation of Latin script, but \
                 none of < > & = \" \\";
    let (longest, longer) = (format!("\"{}\"", "\u{e9}".repeat(300)), format!("\"{}\"", "x".repeat(301)));
    let zeros = format!("[\"{}\"]", "0".repeat(64));
    let mut rows = vec![
        row(CONTENT, "detect_types", Default("true"), &["false"], &[("\"no\"", &flag)]),
        action(
            (CONTENT, "types_unmatched"),
            Default("\"av_scan\""),
            &["\"allow\"", "\"remove\"", "\"deny\""],
        ),
        action(
            (CONTENT, "names_unmatched"),
            Default("\"av_scan\""),
            &["\"allow\"", "\"remove\"", "\"deny\""],
        ),
        row(
            CONTENT,
            "blocked_hashes",
            Default("[]"),
            &[&zeros],
            &[
                ("[\"00\"]", hash),
                (&zeros.replace("00\"", "0g\""), hash),
                (&zeros.replace("00\"", "000\""), hash),
            ],
        )
        .room(1000, |number| format!("\"{number:064x}\"")),
        row(CONTENT, "hash_files", Default("[]"), &["[\"a\"]"], &[("[\"\"]", "empty; name a file")])
            .room(16, |number| format!("\"{number}\"")),
        row(
            CONTENT,
            "signed",
            Default("\"remove\""),
            &["\"deny\""],
            &[("\"allow\"", "unknown treatment of signed mail; use \"remove\" or \"deny\"")],
        ),
        row(
            CONTENT,
            "deny_message",
            Unset,
            &["\"%(reason)%%(filename)% %(virus)% (%(action)%) %(recovery)%\"", &longest],
            &[
                ("\"\"", "empty; write a sentence, or remove the line for the usual one"),
                (&longer, "longer than 300 characters; write less: small parts have no room for it"),
                ("\"Removed: %(file)%\"", &unknown),
                ("\"100 %\"", &stray),
                ("\"%(reason)\"", &stray),
                ("\"<b>\"", &shown('<')),
                ("\"%(reason)% & more\"", &shown('&')),
                ("\"\u{524a}\u{9664}\"", &shown('\u{524a}')),
                ("\"a\\nb\"", &shown('\n')),
            ],
        ),
        row(
            CONTENT,
            "deny_language",
            Default("\"en\""),
            &["\"de\"", "\"fr\"", "\"es\"", "\"it\"", "\"nl\""],
            &[("\"tlh\"", "unknown language; use \"en\", \"de\", \"fr\", \"es\", \"it\" or \"nl\"")],
        ),
    ];
    rows.extend(rules());
    let removed = "virus blocked_hash encrypted_file partial_message external_body mime_limits archive_limits broken_file \
                   unknown_archive smuggling cannot_scan";
    rows.extend(removed.split_ascii_whitespace().map(|key| verdict(key, "\"remove\"")));
    let allowed = ["encrypted_mail", "macro", "external_reference", "active_content"];
    rows.extend(allowed.map(|key| verdict(key, "\"allow\"")));
    rows
}
