//! The tables.

use postern_tests::cost::{Cost, spread};

use crate::Way;
use crate::memory::Memory;

/// What was measured of one way.
pub(crate) struct Figures {
    pub(crate) way: Way,
    pub(crate) per_gigabyte: Vec<Cost>,
    pub(crate) per_exchange: Vec<Cost>,
    pub(crate) per_split: Vec<Cost>,
    pub(crate) per_close: Vec<Cost>,
    pub(crate) waiting: Option<Memory>,
    pub(crate) calls_per_megabyte: f64,
    pub(crate) calls_per_exchange: f64,
    /// During the bodies, most first.
    pub(crate) calls: Vec<(String, f64)>,
}

impl Figures {
    pub(crate) const fn of(way: Way) -> Self {
        Self {
            way,
            per_gigabyte: Vec::new(),
            per_exchange: Vec::new(),
            per_split: Vec::new(),
            per_close: Vec::new(),
            waiting: None,
            calls_per_megabyte: 0.0,
            calls_per_exchange: 0.0,
            calls: Vec::new(),
        }
    }

    const fn name(&self) -> &'static str {
        match self.way {
            Way::User => "user layer",
            Way::Kernel => "kernel layer",
            Way::Splice => "kernel layer, splice",
            Way::UserDigest => "user layer, digest",
            Way::KernelDigest => "kernel layer, digest",
            Way::Tee => "splice, tee, digest",
        }
    }
}

/// Print everything.
pub(crate) fn print(all: &[Figures], machine: &str) {
    println!("\nRecord layers of a relay: TLS 1.3 on both sides, AES-256-GCM, four flows of 8 MB bodies");
    println!("{machine}");
    println!("median (least to most); \"of user\" is the median beside the user layer's, by the core's time");
    println!("digest: GMAC (AES-256) of every record's plaintext");
    println!(
        "process: the gateway's threads (schedstat). core: all that its core did, softirq and kernel threads too\n"
    );
    table(all, "CPU s per GB", 1.0, |figures| &figures.per_gigabyte);
    table(all, "CPU µs per exchange", 1e6, |figures| &figures.per_exchange);
    table(all, "CPU µs, layer set up", 1e6, |figures| &figures.per_split);
    table(all, "CPU µs, goodbye, close", 1e6, |figures| &figures.per_close);
    println!("{:<24}{:>24}{:>24}", "KiB per waiting session", "process", "kernel, for its layer");
    for (figures, memory) in all.iter().filter_map(|figures| Some((figures, figures.waiting?))) {
        let [process, kernel] = [memory.process, memory.kernel].map(|octets| octets / 1024.0);
        println!("{:<24}{process:>24.1}{kernel:>24.1}", figures.name());
    }
    println!();
    println!("{:<24}{:>10}{:>16}   in bodies", "system calls (strace)", "per MB", "per exchange");
    for figures in all {
        let most: Vec<String> =
            figures.calls.iter().take(5).map(|(name, count)| format!("{name} {count:.0}")).collect();
        let Figures { calls_per_megabyte: bodies, calls_per_exchange: exchanges, .. } = figures;
        println!("{:<24}{bodies:>10.1}{exchanges:>16.1}   {}", figures.name(), most.join(", "));
    }
    println!(
        "\nIn an emulated guest look at the ratios only; `cargo xtask bench ktls --native` measures a real machine."
    );
}

/// A row for each way that has such figures.
fn table(all: &[Figures], title: &str, scale: f64, pick: fn(&Figures) -> &Vec<Cost>) {
    let median = |figures: &Figures, part: fn(&Cost) -> f64| spread(pick(figures).iter().map(part)).1;
    let digits = if scale > 1.0 { 0 } else { 2 };
    println!("{title:<24}{:>24}{:>24}{:>10}", "process", "core", "of user");
    for figures in all.iter().filter(|figures| !pick(figures).is_empty()) {
        let column = |part: fn(&Cost) -> f64| {
            let (least, median, most) = spread(pick(figures).iter().map(|cost| part(cost) * scale));
            format!("{median:.digits$} ({least:.digits$}–{most:.digits$})")
        };
        let (process, core) = (column(|cost| cost.process), column(|cost| cost.core));
        let user = all.first().map_or(0.0, |user| median(user, |cost| cost.core));
        let ratio = median(figures, |cost| cost.core) / user;
        // The core's time comes in ticks.
        let ratio = if user > 0.0 { format!("{ratio:.2}") } else { "too short".to_owned() };
        println!("{:<24}{process:>24}{core:>24}{ratio:>10}", figures.name());
    }
    println!();
}
