use super::describe::{DescribedTable, Presence, Setting, Words, prose, sections, wrapped};

const HEAD: &str = "Every key of this version, as `postern config example` prints it. Lines without `#` have to be \
there; their values are examples. A line such as `#key = value` shows the default; remove the `#` to set another value. Where \
the comment says what holds without the line, the value is an example. Relative paths are meant from this file's \
directory. `postern check` reads the file and looks at the machine.";

/// A configuration with every setting, its default and its reason: what has to be there as an example, all else in
/// comments. `docs/examples/postern.toml` is this text.
#[must_use]
pub fn example() -> String {
    let mut text = comment(HEAD);
    for section in &sections() {
        text.push('\n');
        text.push_str(&of_section(section));
    }
    text
}

fn comment(paragraph: &str) -> String {
    wrapped(paragraph, "# ", "# ")
}

fn of_section(section: &DescribedTable) -> String {
    let mut purpose = prose(section.purpose);
    let off = if section.is_optional { "#" } else { "" };
    if let Some(max) = section.max {
        purpose.push_str(&format!(" By default there are none, at most there are {max}."));
    }
    if let Some(like) = section.like {
        purpose.push_str(&format!(" The settings are those of {like}."));
    }
    let mut text = comment(&purpose);
    text.push_str(&format!("{off}{}\n", section.header));
    for (setting, words) in section.lines() {
        text.push_str(&of_setting(setting, words, off));
    }
    text
}

fn of_setting(setting: &Setting, words: Words, off: &str) -> String {
    let Setting { key, purpose, form, given, toml } = setting;
    let mut said = prose(purpose);
    if let Some(range) = form.range_words() {
        said.push_str(&format!(" Range: {}.", range.replace('`', "")));
    }
    match given {
        Presence::Required => said.push_str(" It has to be there."),
        Presence::Default { such_as: Some(example) } => said.push_str(&format!(" Such as {example}.")),
        Presence::Unset { means } => said.push_str(&format!(" Without this line: {means}.")),
        Presence::Default { such_as: None } | Presence::Section | Presence::Flattened => {}
    }
    let mut text = comment(&said);
    let width = words.iter().map(|(word, _)| word.len()).max().unwrap_or(0).saturating_add(2);
    for (word, meaning) in words {
        let first = format!("#   {:<width$}  ", format!("\"{word}\""));
        text.push_str(&wrapped(meaning, &first, &format!("#   {:<width$}  ", "")));
    }
    let off = if matches!(given, Presence::Required) { off } else { "#" };
    text.push_str(&format!("{off}{key} = {toml}\n"));
    text
}
