use super::kinds::quoted;

/// A table of TOML as it is written: its own lines, then the tables below it.
#[derive(Default)]
pub(super) struct TableWriter {
    path: String,
    lines: String,
    below: Vec<(String, TableWriter)>,
}

impl TableWriter {
    /// The table with this path; empty for the document itself.
    pub(super) fn new(path: &str) -> Self {
        Self { path: path.to_owned(), ..Self::default() }
    }

    /// A setting, whose value is TOML.
    pub(super) fn line(&mut self, key: &str, toml: &str) {
        self.lines.push_str(&format!("{} = {toml}\n", part(key)));
    }

    /// A table below this one.
    pub(super) fn below(&mut self, key: &str, fill: impl FnOnce(&mut Self)) {
        let path = joined(&self.path, key);
        self.add(format!("[{path}]"), &path, fill);
    }

    /// One of an array of tables below this one.
    pub(super) fn entry(&mut self, key: &str, fill: impl FnOnce(&mut Self)) {
        let path = joined(&self.path, key);
        self.add(format!("[[{path}]]"), &path, fill);
    }

    fn add(&mut self, header: String, path: &str, fill: impl FnOnce(&mut Self)) {
        let mut below = Self::new(path);
        fill(&mut below);
        self.below.push((header, below));
    }

    /// The lines under the header, then each table below under its own. A table that only holds others has none.
    pub(super) fn into_text(self) -> String {
        let mut blocks = Vec::new();
        let header = if self.path.is_empty() { String::new() } else { format!("[{}]\n", self.path) };
        self.collect(header, &mut blocks);
        blocks.join("\n")
    }

    fn collect(self, header: String, blocks: &mut Vec<String>) {
        if !self.lines.is_empty() || self.below.is_empty() {
            blocks.push(header + &self.lines);
        }
        for (header, below) in self.below {
            below.collect(header + "\n", blocks);
        }
    }

    /// The settings as one inline table, such as `{ cert = "a", key = "b" }`.
    pub(super) fn into_inline(self) -> String {
        let lines: Vec<&str> = self.lines.lines().collect();
        format!("{{ {} }}", lines.join(", "))
    }
}

/// A key below a path, as the file spells it: a name with dots stands in quotes.
pub(super) fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { part(key) } else { format!("{path}.{}", part(key)) }
}

/// A bare key of TOML, or a quoted one.
fn part(key: &str) -> String {
    let is_bare = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
    if !key.is_empty() && key.bytes().all(is_bare) { key.to_owned() } else { quoted(key) }
}
