use serde_json::{Value, json};

use super::Config;
use super::describe::{Presence, Setting, ValueForm, prose};
use super::setting::Group as _;

type Keywords = Vec<(&'static str, Value)>;

/// A JSON Schema (draft 2020-12) of the configuration, for editors that know TOML. `docs/postern.schema.json` is this
/// text.
#[must_use]
pub fn schema() -> String {
    let mut schema = of_table(&Config::settings());
    schema.push(("$schema", "https://json-schema.org/draft/2020-12/schema".into()));
    schema.push(("title", "Postern".into()));
    schema.push(("description", "The configuration of Postern, printed by `postern config schema`.".into()));
    format!("{:#}\n", object(schema))
}

fn object(keywords: Keywords) -> Value {
    keywords.into_iter().collect()
}

fn of_table(settings: &[Setting]) -> Keywords {
    let properties: Value = settings.iter().map(|setting| (setting.key, of_setting(setting))).collect();
    let required = settings.iter().filter(|setting| is_required(setting)).map(|setting| setting.key);
    vec![
        ("type", "object".into()),
        ("additionalProperties", false.into()),
        ("properties", properties),
        ("required", required.collect()),
    ]
}

/// A section has to be there where something in it has to.
fn is_required(setting: &Setting) -> bool {
    match (&setting.given, &setting.form) {
        (Presence::Required, _) => true,
        (Presence::Section, ValueForm::Table(settings)) => settings().iter().any(is_required),
        _ => false,
    }
}

fn of_setting(setting: &Setting) -> Value {
    let mut schema = of_form(&setting.form);
    let mut said = prose(setting.purpose);
    for (word, meaning) in setting.form.words() {
        said.push_str(&format!("\n\"{word}\": {}", prose(meaning)));
    }
    match setting.given {
        Presence::Default { .. } => schema.push(("default", json_of(&setting.toml))),
        Presence::Required | Presence::Unset { .. } => {
            schema.push(("examples", json!([json_of(&setting.toml)])))
        }
        Presence::Section | Presence::Flattened => {}
    }
    if let Presence::Unset { means } = setting.given {
        said.push_str(&format!("\nWithout it: {means}."));
    }
    if let Some(range) = setting.form.range_words() {
        said.push_str(&format!("\nRange: {}.", range.replace('`', "")));
    }
    schema.push(("description", said.into()));
    object(schema)
}

fn of_form(form: &ValueForm) -> Keywords {
    let string = |keyword, value| vec![("type", "string".into()), (keyword, value)];
    match form {
        ValueForm::Flag => vec![("type", "boolean".into())],
        ValueForm::Number { min, max, .. } => {
            vec![("type", "integer".into()), ("minimum", (*min).into()), ("maximum", (*max).into())]
        }
        ValueForm::Size { .. } => string("pattern", "^[0-9]+\\s*(KiB|MiB|GiB)\\s*$".into()),
        ValueForm::Text { words: [], .. } => string("minLength", 1.into()),
        ValueForm::Text { words, .. } => string("enum", words.iter().map(|(word, _)| *word).collect()),
        ValueForm::List { of, min, max, differ } => {
            let mut list = vec![("type", "array".into()), ("items", object(of_form(of)))];
            list.extend([("uniqueItems", (*differ).into()), ("minItems", (*min).into())]);
            list.extend(max.map(|max| ("maxItems", max.into())));
            list
        }
        ValueForm::Table(settings) => of_table(&settings()),
        ValueForm::Named { of, max, .. } => vec![
            ("type", "object".into()),
            ("additionalProperties", object(of_table(&of()))),
            ("maxProperties", (*max).into()),
        ],
        ValueForm::Tables { of, max } => {
            vec![("type", "array".into()), ("items", object(of_table(&of()))), ("maxItems", (*max).into())]
        }
    }
}

/// A value of TOML as JSON. What a declaration holds is TOML, as a test of the example proves.
fn json_of(toml: &str) -> Value {
    let table: Option<Value> = toml::from_str(&format!("value = {toml}")).ok();
    table.and_then(|mut table| table.get_mut("value").map(Value::take)).unwrap_or_default()
}
