use super::check::Item;
use crate::config::{Config, YaraSettings};
use crate::content::scan::yara::{RuleFacts, compile};
use crate::supervisor::RuleFiles;

/// Warnings that are shown.
const WARNINGS_MAX: usize = 8;

/// Whether the rules can be read and compiled. They are the operator's own, so that this process may do it.
pub(super) fn items(config: &Config) -> Vec<Item> {
    const THING: &str = "rules of the scanner";
    let YaraSettings { embedded, directories } = &config.scanner.yara;
    if !config.judges_mail() || !embedded && directories.is_empty() {
        return Vec::new();
    }
    let fault = |told: String| {
        let (value, remedy) = told.rsplit_once("; ").unwrap_or((&told, ""));
        vec![Item::fail(THING, value, remedy)]
    };
    let files = match RuleFiles::read(directories) {
        Ok(files) => files,
        Err(error) => return fault(error.to_string()),
    };
    let facts = match compile(&files.sources, *embedded) {
        Ok(facts) => facts,
        Err(error) => return fault(error.to_string()),
    };
    let RuleFacts { embedded, own, files, warnings, .. } = facts;
    let value = format!("{embedded} of Postern's, {own} of your own in files: {files}");
    let mut items = vec![if own == 0 && !directories.is_empty() {
        let remedy = "put files that end in .yar or .yara into scanner.yara.directories, or take these out";
        Item::warn(THING, value, remedy)
    } else {
        Item::ok(THING, value)
    }];
    let warned = warnings.into_iter().take(WARNINGS_MAX);
    items.extend(warned.map(|warning| Item::warn(THING, warning, "correct the rule, or leave it as it is")));
    items
}
