use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::{EXIT_CONFIG, print};
use crate::config::{self, Config, ObjectFile, ObjectKind, clone_object};

#[derive(Debug, Args)]
pub(super) struct ObjectArgs {
    #[command(subcommand)]
    pub(super) command: ObjectCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum ObjectCommand {
    /// All of them: predefined or of your own, and by what each is used.
    List,
    /// Every setting of one, as a file has it, with the summary of its TLS settings.
    Show {
        /// The name, such as IMAP-Client.Standard; `[action]` or `[tls]` for what these tables say.
        name: String,
    },
    /// Copy one under a new name into a file of conf.d, to be edited. Predefined ones cannot be edited themselves.
    Clone {
        /// The name of the original.
        name: String,
        /// The name of the clone.
        clone: String,
        /// A file that holds an edit of the original, as `show` prints it: the clone has it.
        #[arg(long, value_name = "EDITED.toml")]
        apply: Option<PathBuf>,
    },
}

pub(super) fn run(path: &Path, kind: ObjectKind, command: &ObjectCommand) -> ExitCode {
    let done = match command {
        ObjectCommand::List => config::load(path).map(|config| print(&list(&config, kind))).map_err(told),
        ObjectCommand::Show { name } => show(path, kind, name),
        ObjectCommand::Clone { name, clone, apply } => make(path, kind, name, clone, apply.as_deref()),
    };
    done.unwrap_or_else(|message| {
        eprintln!("{message}");
        ExitCode::from(EXIT_CONFIG)
    })
}

#[expect(clippy::needless_pass_by_value, reason = "the form of map_err")]
fn told(error: impl ToString) -> String {
    error.to_string()
}

fn list(config: &Config, kind: ObjectKind) -> String {
    let mut rows = vec![["NAME".to_owned(), "ORIGIN".to_owned(), "USED BY".to_owned()]];
    for name in config.object_names(kind) {
        let origin = match name {
            name if kind.is_predefined(name) => "predefined",
            name if name == kind.unnamed() => "the table of this name",
            config::UNMATCHED => "steering.unmatched",
            _ => "your own",
        };
        let used_by = config.users_of(kind, name);
        let used_by = if used_by.is_empty() { "-".to_owned() } else { used_by.join(", ") };
        rows.push([name.to_owned(), origin.to_owned(), used_by]);
    }
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let (first, second) = (width(0), width(1));
    rows.iter().map(|[name, origin, used]| format!("{name:first$}  {origin:second$}  {used}\n")).collect()
}

fn show(path: &Path, kind: ObjectKind, name: &str) -> Result<ExitCode, String> {
    let config = config::load(path).map_err(told)?;
    let text = config.object_text(kind, name).ok_or_else(|| {
        format!("no {kind} {name:?}; `postern {} list` shows what there is", kind.command())
    })?;
    let mut shown = format!("# The {kind} {name}");
    if kind.is_predefined(name) {
        shown.push_str(&format!(
            ", predefined. It cannot be edited: `postern {} clone {name} NAME` makes a copy that can,\n\
             # and `--apply FILE` one that has the edit in this form.",
            kind.command()
        ));
    }
    shown.push('\n');
    for (purpose, profile) in config.summaries(kind, name) {
        shown.push_str(&format!("#\n# Content Inspection Summary, {purpose}:\n"));
        shown.extend(profile.lines().map(|line| format!("#   {line}\n")));
    }
    Ok(print(&format!("{shown}\n{text}")))
}

fn make(
    path: &Path,
    kind: ObjectKind,
    name: &str,
    clone: &str,
    apply: Option<&Path>,
) -> Result<ExitCode, String> {
    let file = clone_object(path, kind, (name, clone), apply).map_err(told)?;
    write(&file).map_err(|error| format!("{}: cannot write: {error}; run as root", file.path.display()))?;
    let mut said = format!("wrote {}\n", file.path.display());
    if let Some(edited) = apply {
        said.push_str(&format!(
            "it has the edit of {}, where a table [{}.{name:?}] has to go\n",
            edited.display(),
            kind.table()
        ));
    }
    let named_by = match kind {
        ObjectKind::ProxyAction => format!("proxy_action = {clone:?} in a [[policy]]"),
        ObjectKind::TlsProfile => format!("tls_profile = {clone:?} in a proxy action"),
    };
    said.push_str(&format!(
        "{named_by} uses it; `postern check` judges, and `postern reload` makes a running Postern read it\n"
    ));
    Ok(print(&said))
}

/// Whole or not at all, and never in place of another file: a running daemon may read the directory at any moment.
fn write(file: &ObjectFile) -> io::Result<()> {
    let directory = file.path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    let name = file.path.file_name().unwrap_or_default().to_string_lossy();
    let beside = directory.join(format!(".{name}.{}", std::process::id()));
    let written = (|| {
        let mut new = fs::File::create_new(&beside)?;
        new.write_all(file.text.as_bytes())?;
        new.sync_all()?;
        match renameat_with(CWD, &beside, CWD, &file.path, RenameFlags::NOREPLACE) {
            // A file system without this flag.
            Err(Errno::INVAL) => fs::hard_link(&beside, &file.path).and_then(|()| fs::remove_file(&beside)),
            renamed => Ok(renamed?),
        }
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}
