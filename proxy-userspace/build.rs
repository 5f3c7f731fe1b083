//! When the program is built, for the check of the machine's clock (src/clock.rs).

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

/// Builds that shall be reproducible set it, in seconds since 1970 (<https://reproducible-builds.org/specs/source-date-epoch/>).
const SOURCE_DATE: &str = "SOURCE_DATE_EPOCH";

fn main() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let built = env::var(SOURCE_DATE).ok().and_then(|date| date.trim().parse().ok()).unwrap_or_else(now);
    println!("cargo:rustc-env=POSTERN_BUILT={built}");
    println!("cargo:rerun-if-env-changed={SOURCE_DATE}");
    println!("cargo:rerun-if-changed=build.rs");
}
