//! The maps that more than one program uses.
#![expect(unsafe_code, reason = "a value of a map is reached through a raw pointer")]

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, PerCpuArray},
};
use proxy_ebpf::{
    INGRESS_MAX, INTERFACES_MAX, Intake, PORT_WORDS, PORTS_MAX, PortRole, PortUse, Setting, port_bits,
    port_role_key, port_word,
};

#[map]
static INTERFACES: HashMap<u32, u32> = HashMap::with_max_entries(INTERFACES_MAX, BPF_F_NO_PREALLOC);
#[map]
static PORTS: Array<u64> = Array::with_max_entries(PORT_WORDS, 0);
#[map]
static ROLES: HashMap<u32, u32> = HashMap::with_max_entries(INGRESS_MAX * PORTS_MAX, BPF_F_NO_PREALLOC);
#[map]
static SETTINGS: Array<u32> = Array::with_max_entries(proxy_ebpf::SETTINGS, 0);
/// 1 while the classifier looks for a socket on this CPU: the kernel then asks `steer`, too.
#[map]
static ASKING: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

/// What the daemon decided; the default until it has.
pub(crate) fn setting(setting: Setting) -> u32 {
    SETTINGS.get(setting as u32).copied().unwrap_or(Intake::Take as u32)
}

/// The ingress's number, or [`proxy_ebpf::NOT_INGRESS`]; `None` for an interface that the daemon has not looked at.
pub(crate) fn ingress(interface: u32) -> Option<u32> {
    value(&INTERFACES, interface)
}

/// Whether the port is listed, which is all that most packets are asked.
pub(crate) fn port_use(port: u16) -> u64 {
    PORTS.get(port_word(port)).map_or(PortUse::Unlisted as u64, |word| port_bits(*word, port))
}

/// What becomes of mail for a port of this use that comes in on an ingress. What nothing is known of is steered, so that it
/// is looked at.
pub(crate) fn port_role(of: u64, port: u16, ingress: impl FnOnce() -> Option<u32>) -> u32 {
    if of == PortUse::Unlisted as u64 {
        return PortRole::Left as u32;
    }
    if of == PortUse::Steered as u64 {
        return PortRole::Steered as u32;
    }
    match ingress() {
        Some(ingress) => value(&ROLES, port_role_key(ingress, port)).unwrap_or(PortRole::Steered as u32),
        None => PortRole::Steered as u32,
    }
}

fn value(map: &HashMap<u32, u32>, key: u32) -> Option<u32> {
    let value = map.get_ptr(key)?;
    // SAFETY: the memory of an entry stays the map's while the program runs, also where the entry is deleted meanwhile
    // (kernel/bpf/hashtab.c); a torn value cannot be, it is one aligned word.
    Some(unsafe { *value })
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
        // SAFETY: as in `set_asking`.
        unsafe { *counter += 1 };
    }
}
