use std::path::Path;

use postern::config::{self, Config, Fault, ObjectKind, SteeringConfig, load, parse};

use super::{FILE, MINIMAL, good};

/// The example with every line in force: what has to be there, the defaults, and examples of what has none.
pub(super) fn everything() -> String {
    let lines = config::example().lines().map(in_force).collect::<Vec<_>>();
    lines.join("\n") + "\n"
}

/// A line of the example without the `#` that switches a setting off; `# ` begins a comment.
fn in_force(line: &str) -> String {
    line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned()
}

#[test]
fn the_files_are_what_the_program_prints() {
    for (file, printed, command) in [
        ("docs/configuration.md", config::reference(), "reference"),
        ("docs/postern.schema.json", config::schema(), "schema"),
        ("docs/examples/postern.toml", config::example(), "example"),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
        let held = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            held == printed,
            "{file} is not what the program prints; write it anew, in the top directory: \
             cargo run -- config {command} > {file}"
        );
    }
}

#[test]
fn the_example_is_the_minimal_file_and_shows_the_defaults_of_everything_else() {
    assert_eq!(good(&config::example()), good(MINIMAL));
    let (shown, minimal) = (good(&everything()), good(MINIMAL));
    let names = |config: &Config| config.object_names(ObjectKind::ProxyAction).len();
    assert_eq!((names(&shown), shown.policies.len()), (names(&minimal) + 1, 1));
    let reach = &shown.steering.reach;
    assert!(reach.len() == 1 && reach[0].ingress == minimal.steering.ingress, "{reach:?}");
    let threads = minimal.steering.threads;
    assert_eq!(SteeringConfig { reach: Vec::new(), threads, ..shown.steering }, minimal.steering);
    let mut action = shown.unnamed_action;
    assert!(action.tls_profile.is_some() && action.starttls_profile.is_some());
    (action.tls_profile, action.starttls_profile) = (None, None);
    let content = &mut action.content;
    assert!(content.deny_message.take().is_some());
    let written = [content.name_rule.len(), content.type_rule.len(), content.list_rule.len()];
    assert_eq!(written, [1; 3]);
    (content.name_rule, content.type_rule, content.list_rule) = Default::default();
    assert!(action.general.idle.take().is_some() && action.general.handshake.take().is_some());
    assert_eq!(action.headers.rules.len(), 1);
    action.headers.rules.clear();
    assert_eq!((shown.unnamed_profile, action), (minimal.unnamed_profile, minimal.unnamed_action));
    assert_eq!((shown.records, shown.state, shown.admin), (minimal.records, minimal.state, minimal.admin));
    let mut limits = shown.limits;
    assert!(limits.sessions.is_some() && limits.memory.is_some() && limits.held.is_some());
    let default = minimal.limits;
    (limits.sessions, limits.sessions_per_client) = (default.sessions, default.sessions_per_client);
    (limits.handshakes, limits.memory, limits.held) = (default.handshakes, default.memory, default.held);
    assert_eq!(limits, default);
}

#[test]
fn the_shortest_example_has_the_defaults() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    let minimal = load(&examples.join("minimal.toml")).expect("minimal");
    let complete = load(&examples.join("postern.toml")).expect("complete");
    assert_eq!(minimal, complete);
}

#[test]
fn lines_fit_on_a_screen() {
    for line in config::reference().lines().chain(config::example().lines()) {
        let is_prose = !line.contains('=');
        assert!(line.chars().count() <= 120 || !is_prose, "{line}");
    }
}

/// Lines of [`everything`] without comments.
fn bare() -> Vec<String> {
    everything()
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_file_that_is_cut_anywhere_is_read_or_told_what_is_wrong() {
    let text = bare().join("\n");
    for end in 0..text.len() {
        if let Err(error) = parse(&text[..end], Path::new(FILE)) {
            assert!(!error.faults().is_empty(), "{end}");
        }
    }
}

#[test]
fn a_value_of_another_type_is_the_only_fault_and_is_told_with_its_key() {
    let lines = bare();
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| !line.starts_with('[')) {
        let (key, value) = line.split_once(" = ").expect("a setting");
        for other in ["7", "\"x\"", "true", "[1.5]", "{}", "1979-05-27"] {
            if value.starts_with('"') == other.starts_with('"')
                && value.starts_with('[') == other.starts_with('[')
            {
                continue;
            }
            let mut changed = lines.clone();
            changed[index] = format!("{key} = {other}");
            if let Err(error) = parse(&changed.join("\n"), Path::new(FILE)) {
                let ours = |fault: &Fault| fault.key.split('.').any(|part| part == key);
                assert!(error.faults().iter().any(ours), "{key} = {other}: {error}");
            } else {
                assert!(["7", "true"].contains(&other), "{key} = {other} is accepted");
            }
        }
    }
}
