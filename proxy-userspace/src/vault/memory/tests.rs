use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::time::Instant;

use proptest::prelude::*;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

use super::store::{News, Store};
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn generation(number: u32) -> RuleGeneration {
    RuleGeneration::of(&"rules", number).unwrap()
}

fn key(uid: u32) -> MessageKey<'static> {
    MessageKey {
        server: b"imap.example.org",
        account: b"someone@example.org",
        mailbox: b"Letters from the bank",
        uid_validity: 7,
        uid,
        utf8: false,
        section: b"",
    }
}

fn start(file: &File) -> Memory {
    Memory::start(Some((file.try_clone().unwrap(), "/state/verdicts".to_owned()))).unwrap()
}

/// When it has opened its file.
fn opened(file: &File) -> Memory {
    let memory = start(file);
    let began = Instant::now();
    while !memory.numbers().has_file {
        assert!(began.elapsed() < PATIENCE, "the file was not opened");
        std::thread::sleep(Duration::from_millis(5));
    }
    memory
}

fn known(memory: &Memory, key: &MessageKey<'_>, generation: RuleGeneration) -> Option<Arc<GroupDigests>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let lookup = memory.lookup(key, generation);
    runtime.block_on(async { tokio::time::timeout(PATIENCE, lookup).await }).unwrap()
}

fn digests(memory: &Memory, content: &[u8]) -> Arc<GroupDigests> {
    Arc::new(GroupDigests::of(memory.key(), content))
}

#[test]
fn a_verdict_is_known_for_the_same_message_and_rules_only() {
    let memory = Memory::start(None).unwrap();
    let (first, second) = (generation(1), generation(2));
    let digests = digests(&memory, b"a mail");
    memory.remember(&key(1), first, Arc::clone(&digests));
    assert_eq!(known(&memory, &key(1), first), Some(digests));
    assert_eq!(known(&memory, &key(1), second), None, "other rules gave no verdict");
    let others = [
        MessageKey { server: b"imap.example.com", ..key(1) },
        MessageKey { account: b"anyone@example.org", ..key(1) },
        MessageKey { mailbox: b"INBOX", ..key(1) },
        MessageKey { uid_validity: 8, ..key(1) },
        MessageKey { utf8: true, ..key(1) },
        MessageKey { section: b"1", ..key(1) },
        MessageKey { account: b"someone@example.orgL", mailbox: b"etters from the bank", ..key(1) },
        key(2),
    ];
    for other in others {
        assert_eq!(known(&memory, &other, first), None, "{other:?}");
    }
    let MemoryNumbers { hits, misses, entries, .. } = memory.numbers();
    assert_eq!((hits, misses, entries), (1, 9, 1));
    memory.forget(&key(1));
    assert_eq!(known(&memory, &key(1), first), None);
}

#[test]
fn other_settings_and_another_version_are_other_rules() {
    let of = |settings: &[&str], version| RuleGeneration::of(&settings, version).unwrap();
    assert_eq!(of(&["*.exe"], 1), of(&["*.exe"], 1));
    assert_ne!(of(&["*.exe"], 1), of(&["*.exe"], 2));
    assert_ne!(of(&["*.exe"], 1), of(&["*.ex", "e"], 1));
}

#[test]
fn a_restart_keeps_what_was_judged_and_the_key_that_it_is_known_by() {
    let file = tempfile::tempfile().unwrap();
    let memory = opened(&file);
    let small = digests(&memory, b"a mail");
    let large = digests(&memory, &vec![7; 3 << 20]);
    memory.remember(&key(1), generation(1), Arc::clone(&small));
    memory.remember(&key(2), generation(1), Arc::clone(&large));
    memory.remember(&key(3), generation(1), Arc::clone(&small));
    memory.forget(&key(3));
    drop(memory);
    let memory = opened(&file);
    assert_eq!(memory.numbers().entries, 0);
    assert_eq!(known(&memory, &key(1), generation(1)).as_ref(), Some(&small));
    assert_eq!(known(&memory, &key(2), generation(1)), Some(large));
    assert_eq!(known(&memory, &key(3), generation(1)), None, "what was forgotten stays so");
    assert_eq!(known(&memory, &key(1), generation(2)), None);
    assert_eq!(digests(&memory, b"a mail"), small, "the same octets are known again");
    let MemoryNumbers { hits, misses, entries, dropped, file_octets, .. } = memory.numbers();
    assert_eq!((hits, misses, entries, dropped), (2, 2, 2, 0));
    assert!(file_octets > 4096, "{file_octets}");
}

#[test]
fn no_name_stands_in_the_file() {
    let mut file = tempfile::tempfile().unwrap();
    let memory = opened(&file);
    memory.remember(&key(1), generation(1), digests(&memory, b"a mail"));
    drop(memory);
    let mut octets = Vec::new();
    file.read_to_end(&mut octets).unwrap();
    for name in [key(1).server, key(1).account, key(1).mailbox, b"a mail"] {
        assert!(!octets.windows(name.len()).any(|window| window == name));
    }
}

#[test]
fn a_file_that_is_damaged_begins_anew() {
    type Damage = (&'static str, fn(&File));
    let damages: [Damage; 5] = [
        ("its head", |file| file.write_all_at(b"?", 20).unwrap()),
        ("cut in its head", |file| ftruncate(file, 30).unwrap()),
        ("cut behind", |file| ftruncate(file, 10_000).unwrap()),
        ("nonsense behind", |file| file.write_all_at(&[0xa5; 9000], 4096).unwrap()),
        ("nonsense", |file| file.write_all_at(&[0xa5; 70_000], 0).unwrap()),
    ];
    for (damage, make) in damages {
        let file = tempfile::tempfile().unwrap();
        let memory = opened(&file);
        memory.remember(&key(1), generation(1), digests(&memory, b"a mail"));
        drop(memory);
        make(&file);
        let memory = opened(&file);
        assert_eq!(known(&memory, &key(1), generation(1)), None, "{damage}");
        let again = digests(&memory, b"a mail");
        memory.remember(&key(1), generation(1), Arc::clone(&again));
        drop(memory);
        assert_eq!(known(&opened(&file), &key(1), generation(1)), Some(again), "{damage}");
    }
}

#[test]
fn the_head_tells_a_foreign_file() {
    let file = tempfile::tempfile().unwrap();
    assert!(!is_foreign(&file).unwrap(), "an empty one is nobody's");
    drop(opened(&file));
    assert!(!is_foreign(&file).unwrap());
    file.write_all_at(b"SQLite format 3", 0).unwrap();
    assert!(is_foreign(&file).unwrap());
    ftruncate(&file, 3).unwrap();
    assert!(is_foreign(&file).unwrap());
}

/// A disk with room for so many octets.
fn full_at(octets: u64) -> File {
    let memory = memfd_create("full", MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&memory, octets).unwrap();
    fcntl_add_seals(&memory, SealFlags::GROW).unwrap();
    memory.into()
}

/// A file on a real file system of this size.
fn on_small_disk(size: &str) -> File {
    let directory = tempfile::tempdir().unwrap();
    let run = |command: &mut Command| assert!(command.status().unwrap().success(), "{command:?}");
    let options = format!("size={size}");
    run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(directory.path()));
    let file =
        File::options().read(true).write(true).create_new(true).open(directory.path().join("verdicts"));
    run(Command::new("umount").arg("-l").arg(directory.path()));
    file.unwrap()
}

#[test]
fn a_full_disk_costs_the_file_and_no_more() {
    for file in [full_at(0), full_at(8192), on_small_disk("64k")] {
        let memory = start(&file);
        let digests = digests(&memory, &vec![1; 1 << 20]);
        for uid in 0..100 {
            memory.remember(&key(uid), generation(1), Arc::clone(&digests));
        }
        assert_eq!(known(&memory, &key(99), generation(1)), Some(digests));
        assert_eq!(known(&memory, &key(100), generation(1)), None);
        drop(memory);
    }
}

#[test]
fn a_disk_that_becomes_full_is_left_alone_and_what_it_did_not_take_is_counted() {
    let file = on_small_disk("2m");
    let memory = opened(&file);
    for round in 0..8 {
        for uid in 0..1000 {
            let digests = digests(&memory, &[1]);
            memory.remember(&key(round * 1000 + uid), generation(1), digests);
        }
        // Large ones, so that the queue's bound in octets does not come first.
        memory.remember(&key(round + 100_000), generation(1), digests(&memory, &vec![1; 60 << 20]));
        std::thread::sleep(Duration::from_millis(100));
    }
    let began = Instant::now();
    while memory.numbers().has_file {
        assert!(began.elapsed() < PATIENCE, "{memory:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(memory.numbers().dropped > 0);
    assert!(known(&memory, &key(7999), generation(1)).is_some(), "what is in memory is known");
    drop(memory);
    opened(&file);
}

#[test]
fn nobody_waits_for_a_disk_that_does_not_answer() {
    let (asks, asked) = sync_channel(ASKS_WAITING_MAX);
    let mut memory = Memory::start(None).unwrap();
    memory.asks = Some(asks);
    memory.shared.is_open.store(true, Ordering::Relaxed);
    let small = digests(&memory, &[]);
    let waiting: Vec<_> = (0..10).map(|uid| memory.lookup(&key(uid), generation(1))).collect();
    for uid in 10..u32::try_from(ASKS_WAITING_MAX).unwrap() + 5 {
        memory.remember(&key(uid), generation(1), Arc::clone(&small));
    }
    assert_eq!(memory.numbers().dropped, 5);
    assert_eq!(known(&memory, &key(1_000_000), generation(1)), None, "it is judged");
    assert_eq!(memory.numbers().misses, 1);
    drop((waiting, asked));
    let (asks, _asked) = sync_channel(ASKS_WAITING_MAX);
    memory.asks = Some(asks);
    let large = digests(&memory, &vec![1; 128 << 20]);
    assert_eq!(size_of_val(large.digests()), 128 << 10);
    for uid in 0..70 {
        memory.remember(&key(uid), generation(1), Arc::clone(&large));
    }
    assert_eq!(memory.numbers().dropped, 5 + 6, "what waits is bounded in octets, too");
}

struct StoreOf {
    file: StateFile,
    octets: u64,
}

impl StoreOf {
    fn new(octets: u64) -> Self {
        let file = StateFile::open(tempfile::tempfile().unwrap(), "verdicts".to_owned()).unwrap();
        Self { file, octets }
    }

    fn open(&self) -> Store {
        Store::within(&self.file, self.file.key(), self.octets).unwrap()
    }
}

fn name(number: u32) -> Name {
    *blake3::hash(&number.to_le_bytes()).as_bytes()
}

fn remembered(content: &[u8]) -> Remembered {
    let digests = GroupDigests::of(&DigestKey::from_octets([1; 32]), content);
    Remembered { generation: generation(1), digests: Arc::new(digests) }
}

#[test]
fn the_file_has_a_bound_and_the_oldest_go() {
    const BOUND: u64 = 8 << 20;
    let of = StoreOf::new(BOUND);
    let mut store = of.open();
    let value = remembered(&[1; 100_000]);
    let mut largest = 0;
    for round in 0..60 {
        let news: News = (0..1000).map(|at| (name(round * 1000 + at), Some(value.clone()))).collect();
        store.write(&news).unwrap();
        if round % 7 == 0 {
            // What is asked for stays.
            store.write(&News::from([(name(1), Some(value.clone()))])).unwrap();
        }
        if round == 30 {
            drop(store);
            store = of.open();
        }
        largest = largest.max(of.file.octets());
    }
    assert!(largest <= BOUND, "{largest} octets");
    let (newest, is_old) = store.get(&name(59_999)).unwrap().unwrap();
    assert!(newest == value && !is_old);
    assert!(store.get(&name(1)).unwrap().is_some());
    assert_eq!(store.get(&name(2)).unwrap(), None);
    let kept = (0..60_000).filter(|number| store.get(&name(*number)).unwrap().is_some()).count();
    assert!(kept > 6000, "room for {kept} only, in {largest} octets");
    store.write(&News::from([(name(59_999), None)])).unwrap();
    assert_eq!(store.get(&name(59_999)).unwrap(), None);
}

#[test]
fn what_is_only_in_the_older_table_is_old_and_forgotten_there_too() {
    let of = StoreOf::new(1 << 20);
    let store = of.open();
    let value = remembered(b"a mail");
    store.write(&News::from([(name(0), Some(value.clone()))])).unwrap();
    let mut number = 1;
    while store.get(&name(0)).unwrap() == Some((value.clone(), false)) {
        store.write(&(number..number + 50).map(|at| (name(at), Some(value.clone()))).collect()).unwrap();
        number += 50;
    }
    assert_eq!(store.get(&name(0)).unwrap(), Some((value, true)));
    store.write(&News::from([(name(0), None)])).unwrap();
    assert_eq!(store.get(&name(0)).unwrap(), None);
}

#[test]
fn what_is_asked_for_outlives_what_is_not() {
    let of = StoreOf::new(1 << 20);
    let values = of.file.key().derive("values");
    let asked = key(1).name(&of.file.key().derive("names"));
    let value = remembered(b"a mail");
    let store = Store::within(&of.file, &values, of.octets).unwrap();
    store.write(&News::from([(asked, Some(value.clone()))])).unwrap();
    let mut number = 0;
    while !store.get(&asked).unwrap().unwrap().1 {
        store.write(&(number..number + 50).map(|at| (name(at), Some(value.clone()))).collect()).unwrap();
        number += 50;
    }
    drop(store);
    let memory = opened(&of.file.clone_of_file());
    assert_eq!(known(&memory, &key(1), generation(1)), Some(Arc::clone(&value.digests)));
    drop(memory);
    let store = Store::within(&of.file, &values, of.octets).unwrap();
    assert_eq!(store.get(&asked).unwrap(), Some((value, false)));
}

#[test]
fn an_entry_of_which_an_octet_is_another_is_none() {
    let store = StoreOf::new(1 << 20).open();
    let value = remembered(&[1; 50_000]);
    let octets = store.value(&name(1), &value);
    assert_eq!(store.read(&name(1), &octets), Some(value));
    assert_eq!(store.read(&name(2), &octets), None, "it is another message's");
    for at in 0..octets.len() {
        let mut changed = octets.clone();
        changed[at] ^= 1;
        assert_eq!(store.read(&name(1), &changed), None, "{at}");
        assert_eq!(store.read(&name(1), &octets[..at]), None, "{at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_disk_that_changes_octets_makes_mail_be_judged_again_and_never_gives_other_digests(
        at in any::<prop::sample::Index>(), flip in 1..=255_u8, count in 1..40_usize,
    ) {
        let of = StoreOf::new(1 << 20);
        let value = remembered(&[1; 100_000]);
        let store = of.open();
        store.write(&(0..100).map(|at| (name(at), Some(value.clone()))).collect()).unwrap();
        drop(store);
        let file = of.file.clone_of_file();
        let length = usize::try_from(file.metadata().unwrap().len()).unwrap() - 4096;
        for step in 0..count {
            let at = 4096 + ((at.index(length) + step * 3001) % length) as u64;
            let mut octet = [0];
            file.read_exact_at(&mut octet, at).unwrap();
            file.write_all_at(&[octet[0] ^ flip], at).unwrap();
        }
        if let Ok(store) = Store::within(&of.file, of.file.key(), of.octets) {
            for number in 0..100 {
                if let Ok(Some((found, _))) = store.get(&name(number)) {
                    prop_assert_eq!(&found, &value);
                }
            }
            let _ = store.write(&News::from([(name(200), Some(value))]));
        }
    }
}
