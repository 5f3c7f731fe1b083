use postern::config::{Config, Processes};

use super::{MINIMAL, assert_message, good, printed};

#[test]
fn each_process_has_a_number_of_its_own() {
    let processes = |lines: &str| good(&format!("{MINIMAL}[process]\n{lines}")).processes;
    assert_eq!(good(MINIMAL).processes, Processes::default());
    let both = Processes { worker: Some(1), signer: Some(4_294_967_294), helper: None, judge: None };
    assert_eq!(processes("worker_id = 1\nsigner_id = 4294967294\n"), both);
    let swapped = Processes { worker: Some(60994), signer: Some(60993), helper: None, judge: None };
    assert_eq!(processes("worker_id = 60994\nsigner_id = 60993\n"), swapped);
    for wrong in ["0", "-1", "4294967295"] {
        assert_message(
            &format!("[process]\nsigner_id = {wrong}"),
            &[&format!(":8:13: process.signer_id = {wrong}: out of range"), "use 1 to 4294967294"],
        );
    }
    assert_message(
        "[process]\nworker_id = 700\nsigner_id = 700",
        &[":9:13: process.signer_id = 700: also process.worker_id", "private keys", "its own for each"],
    );
    for (line, other) in
        [("worker_id = 60994", "the signer's default"), ("signer_id = 60993", "the worker's")]
    {
        assert_message(&format!("[process]\n{line}"), &[&format!("process.{line}: also {other}")]);
    }
    for lines in ["[alarm]\nuser_id = 60993", "[process]\nsigner_id = 701\n[alarm]\nuser_id = 701"] {
        assert_message(lines, &["alarm.user_id = ", "also process.", "signal that process", "of its own"]);
    }
    let default = "[process]\nworker_id = 60996\n";
    assert!(good(&format!("{MINIMAL}{default}")).alarm.command.is_empty(), "no command has that number");
    let lines = format!("{default}[alarm]\ncommand = [\"/n\"]");
    assert_message(&lines, &["process.worker_id = 60996: also the default of alarm.user_id"]);
    for (lines, told) in [
        ("helper_id = 700\nworker_id = 700", "process.helper_id = 700: also process.worker_id"),
        ("helper_id = 700\nsigner_id = 700", "process.helper_id = 700: also process.signer_id"),
        ("worker_id = 60995", "process.worker_id = 60995: also the helper's default"),
        ("judge_id = 700\nhelper_id = 700", "process.judge_id = 700: also process.helper_id"),
        ("worker_id = 60997", "process.worker_id = 60997: also a judge's default"),
        ("judge_id = 60993", "process.judge_id = 60993: also the default of process.worker_id"),
        ("helper_id = 60994", "process.helper_id = 60994: also the default of process.signer_id"),
    ] {
        assert_message(&format!("[process]\n{lines}"), &[told, "use a number of its own for each"]);
    }
    assert_message("[process]\nworker_id = \"mail\"", &["process.worker_id = \"mail\": wrong type"]);
    assert_message("[process]\nworker = 700", &["process.worker = 700: unknown key", "\"worker_id\"?"]);
}

#[test]
fn a_configuration_reaches_another_process_as_it_is() {
    let text = printed::everything().replace("time_zone = \"UTC\"", "time_zone = \"Europe/Berlin\"");
    let config = good(&text);
    let octets = postcard::to_stdvec(&config).expect("octets");
    let passed: Config = postcard::from_bytes(&octets).expect("a configuration");
    assert_eq!(format!("{passed:?}"), format!("{config:?}"));
    assert!(format!("{config:?}").contains("Europe/Berlin"));
}
