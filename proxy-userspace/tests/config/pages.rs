//! Pages about settings name keys that exist.

use std::collections::BTreeSet;

use serde_json::Value;

/// The keys of the schema, as `action.starttls`.
fn keys(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let below = schema.get("properties").or_else(|| schema.pointer("/items/properties"));
    for (key, schema) in below.and_then(Value::as_object).into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        keys(schema, &path, found);
        found.insert(path);
    }
}

#[test]
fn the_page_for_administrators_of_fireware_names_keys_that_exist() {
    let schema = serde_json::from_str(&postern::config::schema()).expect("a schema");
    let mut known = BTreeSet::new();
    keys(&schema, "", &mut known);
    let page = include_str!("../../../docs/from-fireware.md");
    let tables = known.iter().filter(|key| !key.contains('.')).cloned().collect::<Vec<_>>();
    let is_key = |text: &&str| {
        let first = text.split('.').next().unwrap_or_default();
        text.contains('.') && !text.contains([' ', '/']) && tables.iter().any(|table| table == first)
    };
    let named: Vec<&str> = page.split('`').skip(1).step_by(2).filter(is_key).collect();
    assert!(named.len() > 20, "{named:?}");
    for key in named {
        assert!(known.contains(key), "docs/from-fireware.md names {key}, which does not exist");
    }
}
