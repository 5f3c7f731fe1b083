//! Accept: listeners, admission, original destination, egress.

/// Which interface a destination leaves by, asked of the kernel.
pub mod egress;
