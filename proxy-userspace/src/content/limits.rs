//! The bounds of a mail's structure. What is beyond one of them has the verdict `Condition::MimeLimits`.

/// Blocks of one content. A mail with 10,000 parts is odd and passes.
pub const BLOCKS_MAX: usize = 25_000;
/// Containers inside each other. 100 messages, each a multipart of the one before, pass.
pub const DEPTH_MAX: u32 = 256;
/// Octets of all boundaries of one content. Each costs an entry in memory; 10,000 boundaries of ordinary length fit.
pub const BOUNDARIES_BYTES_MAX: usize = 1 << 20;
/// Boundaries that one line may match: those that begin each other.
pub const MATCHES_MAX: usize = 32;
/// Boundaries that one header may declare, in all readings.
pub const BOUNDARIES_OF_HEADER_MAX: usize = 100;
/// Names of one leaf. No client reads so many; more of them hide something.
pub const NAMES_MAX: usize = 200;
/// Octets of one value of which parameters are read. Longer ones hide something, and cost time.
pub const VALUE_BYTES_MAX: usize = 16 << 10;
/// Octets of a name as it stands in a field: encoded words take four times their text.
pub const NAME_BYTES_MAX: usize = 8 << 10;
/// Parameters of one value, in one reading. More hide something.
pub const PARAMETERS_MAX: usize = 1_000;
/// Places at which a key is found without regard to syntax.
pub const LOOSE_MAX: usize = 16;
/// Encoded messages inside each other. No honest mail has two.
pub const ENCODED_DEPTH_MAX: u32 = 16;
/// Octets that may be judged in one piece: its leaves once, and then what overlaps (readings, encoded messages, lines at
/// which a program may begin). As a multiple of its own octets, and more for small ones. It keeps the time linear.
pub const WORK_FACTOR: u64 = 16;
/// See [`WORK_FACTOR`].
pub const WORK_BYTES_MIN: u64 = 2 << 20;
/// What may be judged of a small mail inside a file. Thousands of them are within the bounds of one leaf.
pub const WORK_INSIDE_BYTES_MIN: u64 = 128 << 10;
