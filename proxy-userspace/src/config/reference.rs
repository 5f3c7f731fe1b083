use super::describe::{COLUMNS, DescribedTable, Presence, Setting, Words, prose, sections, wrapped};

const HEAD: &str = "One TOML file, `/etc/postern/postern.toml` or what `--config` names, holds all settings. `postern \
check` reads it and looks at the machine; `postern reload` has a running Postern read it again. Relative paths are meant from the file's \
directory. A key that is not written has its default; what has to be written says so. `postern config example` prints a \
file with every key, and `postern config schema` a JSON Schema for editors.";

/// Every setting with type, unit, range, default and purpose, in Markdown. `docs/configuration.md` is this text.
#[must_use]
pub fn reference() -> String {
    let mut text = "# Configuration\n\n".to_owned();
    text.push_str(&wrapped(HEAD, "", ""));
    text.push('\n');
    text.push_str(&wrapped("This page is printed by `postern config reference`.", "", ""));
    for section in &sections() {
        text.push_str(&of_section(section));
    }
    text
}

fn of_section(section: &DescribedTable) -> String {
    let mut text = format!("\n## `{}`\n\n", section.header);
    let mut purpose = prose(section.purpose);
    if let Some(max) = section.max {
        purpose.push_str(&format!(" There may be {max} of these tables; by default there are none."));
    }
    if let Some(like) = section.like {
        purpose.push_str(&format!(" The settings are those of `{like}`."));
    }
    text.push_str(&wrapped(&purpose, "", ""));
    for (setting, words) in section.lines() {
        text.push_str(&of_setting(setting, words));
    }
    text
}

fn of_setting(setting: &Setting, words: Words) -> String {
    let Setting { key, purpose, form, given, toml } = setting;
    let mut text = format!("\n### `{key}`\n\n{}\n", wrapped(&prose(purpose), "", ""));
    text.push_str(&wrapped(&form.type_words(), "- Type: ", "  "));
    for (word, meaning) in words {
        text.push_str(&wrapped(meaning, &format!("  - `\"{word}\"`: "), "    "));
    }
    if let Some(range) = form.range_words() {
        text.push_str(&wrapped(&range, "- Range: ", "  "));
    }
    let (first, said) = match given {
        Presence::Required => ("- Has to be written, such as ", format!("`{toml}`")),
        Presence::Unset { means } => ("- Default: none. Without it: ", format!("{means}; such as `{toml}`")),
        Presence::Default { such_as: Some(example) } => {
            ("- Default: ", format!("`{toml}`; such as `{example}`"))
        }
        Presence::Default { .. } if is_long_list_of_all(toml, form.words()) => {
            ("- Default: ", "all of these, in this order".to_owned())
        }
        Presence::Default { .. } | Presence::Section | Presence::Flattened => {
            ("- Default: ", format!("`{toml}`"))
        }
    };
    text.push_str(&wrapped(&said, first, "  "));
    text
}

/// Whether a list holds every word that there is, and more than one line of them.
fn is_long_list_of_all(toml: &str, words: Words) -> bool {
    let all: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    toml.len() > COLUMNS && toml == format!("[{}]", all.join(", "))
}
