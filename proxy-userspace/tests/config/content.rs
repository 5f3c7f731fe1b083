use std::path::Path;

use postern::config::{ContentSettings, ForbiddenType, Inspection, NamePattern};
use postern::words::Size;

use super::{MINIMAL, assert_message, faults, good};

fn of_content(lines: &str) -> ContentSettings {
    good(&format!("{MINIMAL}[action.content]\n{lines}\n")).unnamed_action.content
}

#[test]
fn mail_is_not_judged_unless_the_owner_says_so() {
    let action = good(MINIMAL).unnamed_action;
    assert_eq!(action.inspect, Inspection::Full);
    assert!(action.content.names.is_empty());
    for (word, inspect) in [("none", Inspection::None), ("full", Inspection::Full)] {
        let text = format!("{MINIMAL}[action]\ninspect = \"{word}\"\n");
        assert_eq!((good(&text).unnamed_action.inspect, inspect.as_str()), (inspect, word));
    }
    assert_message(
        "[action]\ninspect = \"headers\"",
        &[":8:11: action.inspect = \"headers\": unknown depth of inspection; use \"none\" or \"full\""],
    );
}

#[test]
fn forbidden_names_are_patterns() {
    let settings = of_content("names = [\"*.exe\", \"invoice-??.js\", \"[a].b*\", \"Grüße.scr\"]");
    let patterns: Vec<_> = settings.names.iter().map(NamePattern::as_str).collect();
    assert_eq!(patterns, ["*.exe", "invoice-??.js", "[a].b*", "Grüße.scr"]);
    assert_eq!(settings.types, [ForbiddenType::Executable]);
    assert!(of_content("types = []").types.is_empty());
    let longest = "é".repeat(127) + "x";
    assert_eq!(of_content(&format!("names = [\"{longest}\"]")).names[0].as_str(), longest);
    for (wrong, why) in [
        ("\"a/b.exe\"", "no `/`"),
        ("\"a\\tb\"", "control character"),
        ("\"a\\u0085b\"", "control character"),
        (&format!("\"{}\"", "é".repeat(128)), "longer than 255 octets"),
    ] {
        assert_message(
            &format!("[action.content]\nnames = [\"*.com\", {wrong}]"),
            &[":8:19: action.content.names = \"", "not a pattern for file names", why, "\"*.exe\""],
        );
    }
    assert_message(
        "[action.content]\nnames = [\"\"]",
        &["action.content.names = \"\": empty; write a file name"],
    );
    assert_message(
        "[action.content]\nnames = [\n\"*.exe\",\n\"*.exe\"]",
        &[":10:1: action.content.names = \"*.exe\": already given on line 9"],
    );
    assert_message("[action.content]\nname = [\"*.exe\"]", &["action.content.name", "\"names\"?"]);
    assert_message("[action.content]\nnames = \"*.exe\"", &["action.content.names = \"*.exe\": wrong type"]);
}

#[test]
fn there_is_room_for_a_thousand_patterns() {
    let patterns = |count: usize| {
        let quoted: Vec<String> = (0..count).map(|index| format!("\"*.{index}\"")).collect();
        format!("names = [{}]", quoted.join(", "))
    };
    assert_eq!(of_content(&patterns(1000)).names.len(), 1000);
    let line = format!("[action.content]\n{}", patterns(1001));
    assert_message(&line, &["action.content.names", "1001 entries, room for 1000", "list at most 1000"]);
}

#[test]
fn forbidden_types_are_those_that_exist() {
    assert_eq!(of_content("types = [\"executable\"]").types, [ForbiddenType::Executable]);
    for wrong in ["exe", "Executable", ""] {
        assert_message(
            &format!("[action.content]\ntypes = [\"{wrong}\"]"),
            &[&format!("action.content.types = \"{wrong}\": unknown type of content; use \"executable\"")],
        );
    }
    let twice = "[action.content]\ntypes = [\"executable\", \"executable\"]";
    assert_message(twice, &["already given on line 8"]);
    assert_eq!(ForbiddenType::ALL.map(ForbiddenType::as_str), ["executable"], "all are in the remedy above");
}

#[test]
fn what_is_held_for_judging_is_at_least_one_message_and_at_most_half_of_the_memory() {
    let limits = |inspect: &str, lines: &str| {
        format!("{MINIMAL}[action]\ninspect = \"{inspect}\"\n[limits]\n{lines}\n")
    };
    let defaults = good(&limits("full", "")).limits;
    assert_eq!((defaults.message, defaults.held), (Size(64 << 20), None));
    for message in ["64 KiB", "1 GiB"] {
        good(&limits("full", &format!("message = \"{message}\"")));
    }
    for wrong in ["63 KiB", "1025 MiB"] {
        let found = faults(&limits("none", &format!("message = \"{wrong}\"")));
        assert_eq!((found.len(), found[0].key.as_str()), (1, "limits.message"), "{found:?}");
        assert_eq!(found[0].remedy(), "use \"64 KiB\" to \"1 GiB\"");
    }
    for fits in [
        "held = \"64 MiB\"",
        "message = \"1 MiB\"\nheld = \"1 MiB\"",
        "memory = \"128 MiB\"\nheld = \"64 MiB\"",
    ] {
        assert!(good(&limits("full", fits)).limits.held.is_some(), "{fits}");
    }
    for (lines, said) in [
        (
            "held = \"63 MiB\"",
            "limits.held = \"63 MiB\": less than one message of limits.message (\"64 MiB\"), so that none of that \
             size could be judged; use at least \"64 MiB\", or lower limits.message",
        ),
        (
            "memory = \"301 MiB\"\nheld = \"200 MiB\"",
            "limits.held = \"200 MiB\": more than half of limits.memory (\"301 MiB\"), and the sessions themselves \
             need the rest; use at most \"150 MiB\", or raise limits.memory to \"400 MiB\"",
        ),
        (
            "memory = \"100 MiB\"\nheld = \"64 MiB\"",
            "raise limits.memory to \"128 MiB\", or use at most \"50 MiB\" here and lower limits.message (\"64 MiB\") \
             to it",
        ),
        ("memory = \"31 MiB\"", "limits.memory = \"31 MiB\": out of range"),
        ("held = \"plenty\"", "limits.held = \"plenty\": not a size"),
        // What is wrong itself is not compared with others.
        ("message = \"1 KiB\"\nheld = \"1 MiB\"", "limits.message = \"1 KiB\": out of range"),
        ("memory = \"1 MiB\"\nheld = \"64 MiB\"", "limits.memory = \"1 MiB\": out of range"),
    ] {
        let found = faults(&limits("full", lines));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].to_string().contains(said), "{lines:?}: {}", found[0]);
    }
    // Where nothing is judged, sessions have all of the memory.
    good(&limits("none", "memory = \"16 MiB\"\nheld = \"64 MiB\""));
}

#[test]
fn copies_have_a_bound_and_a_directory() {
    let limits = |spool: &str| format!("{MINIMAL}[limits]\nspool = \"{spool}\"\n");
    assert_eq!(good(&limits("1 MiB")).limits.spool, Size(1 << 20));
    assert_eq!(good(&limits("4096 GiB")).limits.spool, Size(4 << 40));
    for wrong in ["1023 KiB", "65537 GiB", "much"] {
        let found = faults(&limits(wrong));
        assert_eq!((found.len(), found[0].key.as_str()), (1, "limits.spool"), "{found:?}");
    }
    let directory = |text: &str| good(&format!("{MINIMAL}[state]\ndirectory = \"{text}\"\n")).state.directory;
    assert_eq!(directory("/srv/mail"), Path::new("/srv/mail"));
    assert_eq!(directory("state"), Path::new("/etc/postern/state"));
    assert_message("[state]\ndirectory = \"\"", &["state.directory", "empty; name a directory"]);
}
