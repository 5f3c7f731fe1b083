use std::collections::BTreeSet;

use boreal::Compiler;
use boreal::compiler::{AddRuleError, CompilerBuilder, CompilerParams};
use boreal::module::{Dex, Dotnet, Elf, MachO, Math, Pe, String_};
use serde::{Deserialize, Serialize};

use super::packed::RuleFacts;
use super::{embedded, variable};

/// Strings of one rule: lists of some thousand are in use.
const STRINGS_MAX: usize = 10_000;
/// Conditions inside each other; deeper ones could exhaust the stack.
const CONDITION_DEPTH_MAX: u32 = 40;
/// Warnings that are kept.
const WARNINGS_MAX: usize = 32;
/// Octets of an error's or a warning's words.
const WORDS_CHARS_MAX: usize = 300;

/// A file with rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct YaraSource {
    /// Its path, for errors. Its name without the ending is the namespace of its rules.
    pub file: String,
    /// What is in it.
    pub text: String,
}

/// Why rules cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum YaraError {
    /// A rule is wrong.
    #[error("{file}:{line}:{column}: {}{why}; {remedy}", .rule.as_ref().map(|rule| format!("rule {rule}: ")).unwrap_or_default())]
    Rule {
        /// The file.
        file: String,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
        /// The rule in which it stands, or behind which.
        rule: Option<String>,
        /// What is wrong, in the engine's words.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// They could not be written down.
    #[error("compiled rules cannot be written: {0}; please report it")]
    Write(String),
}

/// Compile the rules of these files, and Postern's own where `embedded` says so, to find out whether they can be. Each file
/// has a namespace of its own, so that two files may have rules of one name; `include` is refused, since each file is
/// compiled anyway.
///
/// Rules have the modules `pe`, `elf`, `macho`, `dotnet`, `dex`, `math` and `string`. They do not have `time`: a verdict has to
/// be the same tomorrow.
///
/// # Errors
/// The first rule that is wrong.
pub fn compile(sources: &[YaraSource], embedded: bool) -> Result<RuleFacts, YaraError> {
    let (rules, warnings) = rules(sources, embedded)?;
    let ask_for_name = sources.iter().any(|source| asks_for_name(&source.text));
    let mut facts = RuleFacts { files: count(sources.len()), ask_for_name, warnings, ..RuleFacts::default() };
    for rule in rules.rules().filter(|rule| !rule.is_private) {
        let counted =
            if rule.namespace == embedded::NAMESPACE { &mut facts.embedded } else { &mut facts.own };
        *counted = counted.saturating_add(1);
    }
    Ok(facts)
}

/// The rules, and what the engine finds strange in the owner's.
///
/// # Errors
/// The first rule that is wrong.
pub(super) fn rules(
    sources: &[YaraSource],
    embedded: bool,
) -> Result<(boreal::Scanner, Vec<String>), YaraError> {
    let mut compiler = compiler();
    if embedded {
        for source in embedded::sources() {
            add(&mut compiler, &source, embedded::NAMESPACE)?;
        }
    }
    let (mut namespaces, mut warnings) = (BTreeSet::from([embedded::NAMESPACE.to_owned()]), Vec::new());
    for source in sources {
        let warned = add(&mut compiler, source, &namespace(&source.file, &mut namespaces))?;
        let room = WARNINGS_MAX.saturating_sub(warnings.len());
        warnings.extend(warned.into_iter().take(room));
    }
    Ok((compiler.finalize(), warnings))
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn compiler() -> Compiler {
    let mut compiler = CompilerBuilder::default()
        .add_module(Math)
        .add_module(String_)
        .add_module(Pe)
        .add_module(Elf)
        .add_module(MachO)
        .add_module(Dotnet)
        .add_module(Dex)
        .build();
    compiler.set_params(
        CompilerParams::default()
            .disable_includes(true)
            .max_strings_per_rule(STRINGS_MAX)
            .max_condition_depth(CONDITION_DEPTH_MAX),
    );
    for name in
        [variable::FILENAME, variable::FILEPATH, variable::EXTENSION, variable::NAMES, variable::REAL_TYPE]
    {
        // It says whether the name was free.
        let _ = compiler.define_symbol(name, "");
    }
    let _ = compiler.define_symbol(variable::IS_MEMBER, false);
    compiler
}

/// The warnings.
fn add(compiler: &mut Compiler, source: &YaraSource, namespace: &str) -> Result<Vec<String>, YaraError> {
    let told = |error: &AddRuleError| Told::new(error, source);
    match compiler.add_rules_str_in_namespace(&source.text, namespace) {
        Ok(status) => Ok(status.warnings().map(|warning| told(warning).line(&source.file)).collect()),
        Err(error) => Err(told(&error).error(&source.file)),
    }
}

/// The file's name without its ending, and a number where another file has that already.
fn namespace(file: &str, taken: &mut BTreeSet<String>) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    let stem = base.rsplit_once('.').map_or(base, |(stem, _)| stem);
    let numbered = (2..).map(|number: u32| format!("{stem}_{number}"));
    let mut candidates = std::iter::once(stem.to_owned()).chain(numbered);
    let free = candidates.find(|candidate| !taken.contains(candidate)).unwrap_or_else(|| stem.to_owned());
    taken.insert(free.clone());
    free
}

/// Whether the text has one of the variables that hold one name. A comment may have it, too, which costs time only.
fn asks_for_name(text: &str) -> bool {
    [variable::FILENAME, variable::FILEPATH, variable::EXTENSION].iter().any(|name| text.contains(name))
}

/// What the engine says about a place of a file.
struct Told {
    line: usize,
    column: usize,
    rule: Option<String>,
    why: String,
}

impl Told {
    fn new(error: &AddRuleError, source: &YaraSource) -> Self {
        let diagnostic = error.to_diagnostic();
        let at = diagnostic.labels.first().map_or(0, |label| label.range.start);
        let before = source.text.get(..at).unwrap_or(&source.text);
        let last_line = before.rsplit('\n').next().unwrap_or_default();
        let labels = diagnostic.labels.iter().map(|label| label.message.as_str());
        let words = std::iter::once(diagnostic.message.as_str()).chain(labels);
        let words = words.filter(|words| !words.is_empty()).collect::<Vec<_>>().join(": ");
        let why =
            words.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(WORDS_CHARS_MAX).collect();
        // The place may be the name of the rule itself.
        let line_end =
            source.text.get(at..).and_then(|rest| rest.find('\n')).map_or(source.text.len(), |end| at + end);
        let rule = rule_before(source.text.get(..line_end).unwrap_or_default());
        Self { line: before.matches('\n').count() + 1, column: last_line.chars().count() + 1, rule, why }
    }

    fn line(self, file: &str) -> String {
        let Self { line, column, why, .. } = self;
        format!("{file}:{line}:{column}: {why}")
    }

    fn error(self, file: &str) -> YaraError {
        let remedy = self.remedy();
        let Self { line, column, rule, why } = self;
        YaraError::Rule { file: file.to_owned(), line, column, rule, why, remedy }
    }

    fn remedy(&self) -> String {
        if self.why.starts_with("unknown import") {
            "rules have pe, elf, macho, dotnet, dex, math and string; take the rule out".to_owned()
        } else if self.why.starts_with("includes are not allowed") {
            "take the line out: every file of the directories is compiled, in a namespace of its own"
                .to_owned()
        } else if self.why.starts_with("unknown identifier") {
            format!(
                "external variables are {}, and rules that a rule names stand before it in the same file",
                variable::ALL.join(", ")
            )
        } else {
            "correct the rule, or take it out".to_owned()
        }
    }
}

/// The name of the last rule that begins in this text.
fn rule_before(text: &str) -> Option<String> {
    text.lines().rev().find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| matches!(*word, "private" | "global"));
        let name = words.next().filter(|word| *word == "rule").and_then(|_| words.next())?;
        let name: String = name.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        (!name.is_empty()).then_some(name)
    })
}

/// Names rules by what they are compiled from: rules that are told apart by it may judge the same file otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RulesDigest(pub [u8; 32]);

impl RulesDigest {
    /// Of what [`compile`] takes.
    #[must_use]
    pub fn of(sources: &[YaraSource], embedded: bool) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[u8::from(embedded)]);
        let brought = if embedded { embedded::sources() } else { Vec::new() };
        for YaraSource { file, text } in brought.iter().chain(sources) {
            for part in [file, text] {
                hasher
                    .update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes())
                    .update(part.as_bytes());
            }
        }
        Self(*hasher.finalize().as_bytes())
    }
}
