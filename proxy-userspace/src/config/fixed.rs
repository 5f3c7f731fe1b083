//! Settings that a running daemon cannot change.

use super::Config;
use super::objects::text_of;
use super::setting::Group;

impl Config {
    /// The settings that change with a restart only, and that another configuration, which runs, has otherwise: each with its
    /// section, key and both values. `threads` says how many mail threads a value of `steering.threads` is here.
    pub(crate) fn fixed_since(&self, running: &Self, threads: impl Fn(Option<u16>) -> u32) -> Vec<String> {
        let mut differing = [
            differences("admin", &running.admin, &self.admin),
            differences("state", &running.state, &self.state),
            differences("process", &running.processes, &self.processes),
        ]
        .concat();
        let sizes = [
            ("session_memory", running.limits.session_memory, self.limits.session_memory),
            ("judge_memory", running.limits.judge_memory, self.limits.judge_memory),
        ];
        for (key, was, will) in sizes.into_iter().filter(|(_, was, will)| was != will) {
            differing.push(format!("limits.{key} is {} octets and would be {}", was.0, will.0));
        }
        let [was, will] = [running, self].map(|config| config.steering.threads);
        if threads(was) != threads(will) {
            let told = |value: Option<u16>| value.map_or("unset".to_owned(), |threads| threads.to_string());
            differing.push(format!("steering.threads is {} and would be {}", told(was), told(will)));
        }
        differing
    }
}

/// The lines of two tables that are not the same.
fn differences(section: &str, running: &impl Group, next: &impl Group) -> Vec<String> {
    let [running, next] = [text_of(section, running), text_of(section, next)].map(|text| settings(&text));
    let value = |settings: &[(String, String)], name: &str| {
        settings
            .iter()
            .find(|(known, _)| known == name)
            .map_or("unset", |(_, value)| value.as_str())
            .to_owned()
    };
    let new = next.iter().filter(|(name, _)| running.iter().all(|(known, _)| known != name));
    let names = running.iter().chain(new).map(|(name, _)| name);
    names
        .map(|name| (name, value(&running, name), value(&next, name)))
        .filter(|(_, was, is)| was != is)
        .map(|(name, was, is)| format!("{name} is {was} and would be {is}"))
        .collect()
}

/// The keys of a text, each behind its table, with their values.
fn settings(text: &str) -> Vec<(String, String)> {
    let (mut header, mut found) = (String::new(), Vec::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut header);
        } else if let Some((key, value)) = line.split_once(" = ") {
            found.push((format!("{header}.{key}"), value.to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    fn config(tables: &str) -> Config {
        let text = format!(
            "[certificates]\nauthority = {{ cert = \"a\", key = \"b\" }}\n[steering]\ningress = [\"lan0\"]\n\
             egress = [\"wan0\", \"wan1\"]\n{tables}"
        );
        parse(&text, Path::new("/etc/postern/postern.toml")).unwrap()
    }

    #[test]
    fn what_cannot_change_is_told_by_section_and_key_with_both_values() {
        let running = config("");
        let fixed = |next: &Config| next.fixed_since(&running, |threads| threads.map_or(2, u32::from));
        assert!(fixed(&running).is_empty());
        assert!(fixed(&config("[limits]\nidle_seconds = 2000\n")).is_empty());
        let next = config(
            "threads = 3\n[admin]\nsocket = \"/run/other.sock\"\n\
             [state]\ndirectory = \"/srv/postern\"\n[process]\nworker_id = 700\n[limits]\nsession_memory = \"600 KiB\"\n\
             judge_memory = \"64 MiB\"\n",
        );
        let differing = fixed(&next).join("\n");
        for expected in [
            "steering.threads is unset and would be 3",
            "admin.socket is \"/run/postern/postern.sock\" and would be \"/run/other.sock\"",
            "state.directory is \"/var/lib/postern\" and would be \"/srv/postern\"",
            "process.worker_id is unset and would be 700",
            "limits.session_memory is ",
            "limits.judge_memory is 536870912 octets and would be 67108864",
        ] {
            assert!(differing.contains(expected), "{expected}:\n{differing}");
        }
    }
}
