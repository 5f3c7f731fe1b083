use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

use super::seal::{BLOCK_BYTES, PAYLOAD_BYTES};
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
const MIB: u64 = 1 << 20;

fn ready<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await }).unwrap()
}

struct Bench {
    spool: Spool,
    held: Arc<HeldOctets>,
    file: Option<File>,
}

impl Bench {
    fn new(limit: u64, held: u64, file: Option<File>) -> Self {
        let held = HeldOctets::new(Size(held));
        let copy = file.as_ref().map(|file| file.try_clone().unwrap());
        let spool = Spool::start(copy, Size(limit), Arc::clone(&held)).unwrap();
        Self { spool, held, file }
    }

    /// Everything goes to the file at once.
    fn on_disk(limit: u64) -> Self {
        let bench = Self::new(limit, 64 * MIB, Some(tempfile::tempfile().unwrap()));
        bench.spool.shared.in_memory.store(u64::MAX, Ordering::Relaxed);
        bench
    }

    fn storing(&self, octets: Vec<u8>) -> Storing {
        let mut lease = self.held.lease();
        assert!(lease.try_grow(octets.len() as u64));
        self.spool.store(octets, lease)
    }

    fn store(&self, octets: Vec<u8>) -> Result<SpoolCopy, SpoolError> {
        ready(self.storing(octets))
    }

    fn file(&self) -> &File {
        self.file.as_ref().unwrap()
    }

    fn file_octets(&self) -> Vec<u8> {
        let mut octets = vec![0; usize::try_from(self.file().metadata().unwrap().len()).unwrap()];
        self.file().read_exact_at(&mut octets, 0).unwrap();
        octets
    }
}

fn content(length: u64, seed: u64) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at * 31 + at / 7919 + seed * 101) % 251).unwrap()).collect()
}

fn all_of(copy: &SpoolCopy) -> Result<Vec<u8>, SpoolError> {
    let mut octets = Vec::new();
    while (octets.len() as u64) < copy.length() {
        octets.extend_from_slice(&ready(copy.load(octets.len() as u64..copy.length()))?);
    }
    Ok(octets)
}

fn until(what: impl Fn() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn copies_lie_in_a_share_of_what_may_be_held_then_in_the_file_and_then_there_is_no_room() {
    let bench = Bench::new(4 * MIB, 8 * MIB, Some(tempfile::tempfile().unwrap()));
    let in_memory = bench.store(content(2 * MIB, 1)).unwrap();
    assert_eq!((bench.spool.numbers().in_memory, bench.held.octets()), (2 * MIB, 2 * MIB));
    let on_disk = bench.store(content(MIB, 2)).unwrap();
    assert_eq!(bench.held.octets(), 2 * MIB, "what is in the file is held no more");
    assert_eq!(bench.spool.numbers().octets, 2 * MIB + 17 * BLOCK_BYTES);
    assert_eq!(bench.store(content(MIB, 3)).unwrap_err(), SpoolError::Full);
    assert_eq!((bench.held.octets(), bench.spool.numbers().refused), (2 * MIB, 1));
    assert_eq!((all_of(&in_memory), all_of(&on_disk)), (Ok(content(2 * MIB, 1)), Ok(content(MIB, 2))));
    let mut room = [0; 10];
    assert_eq!((in_memory.read(2 * MIB - 4, &mut room), on_disk.read(0, &mut room)), (Some(4), None));
    assert_eq!(room[..4], content(2 * MIB, 1)[2 * MIB as usize - 4..]);
    let clone = on_disk.clone();
    drop(on_disk);
    assert_eq!(bench.store(content(MIB, 3)).unwrap_err(), SpoolError::Full, "a clone needs its room");
    drop((clone, in_memory));
    assert_eq!((bench.spool.numbers().octets, bench.held.octets()), (0, 0));
    assert!(bench.store(content(2 * MIB, 3)).is_ok());
}

#[test]
fn without_a_file_there_is_the_share_of_memory_and_never_more_than_the_limit() {
    let bench = Bench::new(MIB, 64 * MIB, None);
    let copy = bench.store(content(MIB, 1)).unwrap();
    assert_eq!(bench.store(vec![1]).unwrap_err(), SpoolError::Full);
    bench.spool.set_limit(Size(16 * MIB));
    assert!(bench.store(vec![1]).is_ok());
    bench.held.set_limit(Size(4 * MIB));
    assert_eq!(bench.store(vec![1]).unwrap_err(), SpoolError::Full, "the share of what may be held");
    drop(copy);
    let mut lease = bench.held.lease();
    assert!(lease.try_grow(4 * MIB));
    let full = ready(bench.spool.store(vec![1], bench.held.lease())).unwrap_err();
    assert_eq!(full, SpoolError::Full, "a lease that stands for nothing");
    let copy = ready(bench.spool.store(vec![1], lease)).unwrap();
    assert_eq!(bench.held.octets(), 1, "a lease for more gives the rest back");
    drop(copy);
    assert_eq!(bench.held.octets(), 0);
}

#[test]
fn nothing_in_the_file_can_be_read_and_the_same_octets_look_different_each_time() {
    let bench = Bench::on_disk(16 * MIB);
    let secret = b"the quick brown fox of the bank".repeat(8000);
    let copies = [bench.store(secret.clone()).unwrap(), bench.store(secret.clone()).unwrap()];
    let octets = bench.file_octets();
    assert!(octets.len() > 2 * secret.len());
    for piece in [&b"quick brown"[..], b"the bank"] {
        assert!(!octets.windows(piece.len()).any(|window| window == piece));
    }
    let blocks: Vec<_> = octets.chunks(BLOCK_BYTES as usize).map(|block| &block[..1000]).collect();
    assert!(blocks.iter().enumerate().all(|(at, block)| !blocks[..at].contains(block)));
    assert!(copies.iter().all(|copy| all_of(copy).as_ref() == Ok(&secret)));
}

#[test]
fn freed_blocks_are_used_again_and_an_empty_spool_has_an_empty_file() {
    let bench = Bench::on_disk(64 * MIB);
    let kept = bench.store(content(300_000, 9)).unwrap();
    for round in 0..30 {
        let copies: Vec<_> =
            (0..3).map(|seed| bench.store(content(200_000 + round, seed)).unwrap()).collect();
        for (seed, copy) in copies.iter().enumerate() {
            assert_eq!(all_of(copy), Ok(content(200_000 + round, seed as u64)));
        }
    }
    assert_eq!(all_of(&kept), Ok(content(300_000, 9)));
    assert!(bench.file().metadata().unwrap().len() <= (5 + 3 * 4) * BLOCK_BYTES);
    drop(kept);
    until(|| bench.file().metadata().unwrap().len() == 0);
    assert_eq!(bench.spool.numbers().octets, 0);
    let again = bench.store(content(70_000, 1)).unwrap();
    assert_eq!(all_of(&again), Ok(content(70_000, 1)));
}

#[test]
fn what_the_disk_changed_is_not_given_out() {
    let bench = Bench::on_disk(16 * MIB);
    let copy = bench.store(content(3 * PAYLOAD_BYTES, 1)).unwrap();
    let octets = bench.file_octets();
    let (first, rest) = octets.split_at(BLOCK_BYTES as usize);
    for changed in [[&[first[0] ^ 1], &first[1..], rest].concat(), [&rest[..first.len()], rest].concat()] {
        bench.file().write_all_at(&changed, 0).unwrap();
        assert_eq!(ready(copy.load(0..10)).unwrap_err(), SpoolError::Disk);
        assert!(ready(copy.load(PAYLOAD_BYTES..PAYLOAD_BYTES + 10)).is_ok());
    }
    ftruncate(bench.file(), 100).unwrap();
    assert_eq!(ready(copy.load(PAYLOAD_BYTES..PAYLOAD_BYTES + 10)).unwrap_err(), SpoolError::Disk);
    assert_eq!(bench.spool.numbers().failed, 3);
    bench.file().write_all_at(&octets, 0).unwrap();
    assert_eq!(all_of(&copy), Ok(content(3 * PAYLOAD_BYTES, 1)));
}

#[test]
fn a_full_disk_fails_the_copy_that_it_has_no_room_for_and_no_other() {
    let memory = memfd_create("full", MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&memory, 4 * BLOCK_BYTES).unwrap();
    let bench = Bench::new(16 * MIB, 64 * MIB, Some(memory.into()));
    bench.spool.shared.in_memory.store(u64::MAX, Ordering::Relaxed);
    // It is emptied at first.
    until(|| bench.file().metadata().unwrap().len() == 0);
    ftruncate(bench.file(), 4 * BLOCK_BYTES).unwrap();
    fcntl_add_seals(bench.file(), SealFlags::GROW).unwrap();
    let kept = bench.store(content(2 * PAYLOAD_BYTES, 1)).unwrap();
    assert_eq!(bench.store(content(3 * PAYLOAD_BYTES, 2)).unwrap_err(), SpoolError::Disk);
    let SpoolNumbers { octets, failed, .. } = bench.spool.numbers();
    assert_eq!((octets, failed, bench.held.octets()), (2 * BLOCK_BYTES, 1, 0));
    let next = bench.store(content(2 * PAYLOAD_BYTES, 3)).unwrap();
    assert_eq!(all_of(&kept), Ok(content(2 * PAYLOAD_BYTES, 1)));
    assert_eq!(all_of(&next), Ok(content(2 * PAYLOAD_BYTES, 3)));
}

/// A spool whose disk answers nobody.
fn stuck() -> (Bench, Receiver<DiskJob>) {
    let held = HeldOctets::new(Size(MIB));
    let spool = Spool::start(None, Size(1024 * MIB), Arc::clone(&held)).unwrap();
    let Ok(mut shared) = Arc::try_unwrap(spool.shared) else { panic!("shared") };
    let (disk, jobs) = Disk::stuck();
    shared.disk = Some(disk);
    shared.in_memory = AtomicU64::new(u64::MAX);
    (Bench { spool: Spool { shared: Arc::new(shared) }, held, file: None }, jobs)
}

#[test]
fn nobody_waits_for_a_disk_that_does_not_answer() {
    let (bench, jobs) = stuck();
    let mut waiting: Vec<_> = (0..disk::JOBS_WAITING_MAX).map(|_| bench.storing(vec![1])).collect();
    assert_eq!(bench.store(vec![1]).unwrap_err(), SpoolError::Busy);
    assert_eq!(bench.held.octets(), disk::JOBS_WAITING_MAX as u64, "what waits is held");
    let first = waiting.remove(0);
    drop(jobs);
    assert_eq!(ready(first).unwrap_err(), SpoolError::Disk);
    assert_eq!((bench.held.octets(), bench.spool.numbers().octets), (0, 0));
}

#[test]
fn who_gives_up_while_a_copy_is_written_leaves_nothing_behind() {
    let bench = Bench::on_disk(16 * MIB);
    for _ in 0..20 {
        drop(bench.storing(content(500_000, 1)));
    }
    until(|| bench.spool.numbers().octets == 0 && bench.held.octets() == 0);
}

#[test]
fn a_range_outside_of_the_copy_is_an_error_and_an_empty_one_is_empty() {
    for bench in [Bench::on_disk(MIB), Bench::new(MIB, 64 * MIB, None)] {
        let copy = bench.store(content(10, 1)).unwrap();
        #[expect(clippy::reversed_empty_ranges, reason = "what is refused")]
        for outside in [0..11, 11..11, 5..4] {
            assert_eq!(ready(copy.load(outside)).unwrap_err(), SpoolError::Outside);
        }
        assert_eq!(ready(copy.load(10..10)).unwrap().len(), 0);
        let empty = bench.store(Vec::new()).unwrap();
        assert_eq!((empty.length(), all_of(&empty)), (0, Ok(Vec::new())));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_range_of_any_copy_is_what_was_stored(
        length in prop_oneof![1..200_000_u64, Just(PAYLOAD_BYTES), Just(PAYLOAD_BYTES * 2 + 1), Just(LOAD_BYTES_MAX + 9)],
        ends in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        is_on_disk in any::<bool>(),
    ) {
        let bench = if is_on_disk { Bench::on_disk(4 * MIB) } else { Bench::new(4 * MIB, 64 * MIB, None) };
        let octets = content(length, 5);
        let copy = bench.store(octets.clone()).unwrap();
        let size = octets.len() + 1;
        let (a, b) = (ends.0.index(size), ends.1.index(size));
        let range = a.min(b)..a.max(b);
        let loaded = ready(copy.load(range.start as u64..range.end as u64)).unwrap();
        let all = &octets[range];
        prop_assert_eq!(&loaded[..], &all[..all.len().min(LOAD_BYTES_MAX as usize)]);
        prop_assert_eq!(all_of(&copy), Ok(octets));
    }
}
