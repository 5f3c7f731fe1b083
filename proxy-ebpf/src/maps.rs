//! The maps that more than one program uses.
#![expect(unsafe_code, reason = "a per-CPU value is reached through a raw pointer")]

use aya_ebpf::{
    macros::map,
    maps::{Array, PerCpuArray},
};
use proxy_ebpf::{Intake, Setting};

#[map]
static SETTINGS: Array<u32> = Array::with_max_entries(proxy_ebpf::SETTINGS, 0);
/// 1 while the classifier looks for a socket on this CPU: the kernel then asks `steer`, too.
#[map]
static ASKING: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

/// What the daemon decided; the default until it has.
pub(crate) fn setting(setting: Setting) -> u32 {
    SETTINGS.get(setting as u32).copied().unwrap_or(Intake::Take as u32)
}

/// Whether the classifier of this CPU is looking for a socket.
pub(crate) fn asking() -> bool {
    ASKING.get(0) == Some(&1)
}

/// Tell `steer` on this CPU that it is asked for a socket and not for a listener.
pub(crate) fn set_asking(asking: bool) {
    if let Some(value) = ASKING.get_ptr_mut(0) {
        // SAFETY: the pointer is this CPU's own value, aligned to 8, and the programs run in softirq, which does not
        // nest.
        unsafe { *value = u32::from(asking) };
    }
}

/// Count a way out.
pub(crate) fn count(counters: &PerCpuArray<u64>, slot: u32) {
    if let Some(counter) = counters.get_ptr_mut(slot) {
        // SAFETY: as above.
        unsafe { *counter += 1 };
    }
}
