//! Attaches the classifier, and the program that notes where SYNs to servers leave, to their interfaces: by tcx links,
//! or by filters under a clsact qdisc before Linux 6.6.
//!
//! A tcx link ends with the daemon. A clsact filter stays when the daemon is killed. It then marks nothing and drops
//! fragments, until the next start or `postern clear` removes it.
//!
//! The classifier is the first program of an interface: a program before it that ends the list (`TCX_PASS`,
//! `TC_ACT_OK`) would hide packets from it. The kernel sends no event when a program is attached, so every check reads
//! the order. With tcx the classifier goes first again. Under clsact it cannot always: a preference below another's may
//! not exist, and one preference takes one kind of filter only, so that Postern at preference 1 would keep others from
//! theirs. A filter in front is then an alarm.

use std::time::Duration;

use aya::Ebpf;
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, ProgramError as AyaError, SchedClassifier, TcAttachType};
use aya::sys::SyscallError;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption};
use proxy_ebpf::{FROM_CLIENTS_PROGRAM, FROM_SERVERS_PROGRAM, TO_SERVERS_PROGRAM};
use rustix::io::Errno;

use super::netlink::Netlink;
use super::program::{BpfOperation, ProgramError, at, judged};
use crate::config::InterfaceName;
use crate::sys::tcx_programs;
use crate::words::Side;

/// The first kernel with tcx.
const TCX_SINCE: (u32, u32) = (6, 6);
/// The filter's preference under clsact: before those that `tc` chooses itself (49152 and down), and unlikely to be
/// written by hand.
const FILTER_PRIORITY: u16 = 143;
/// `TC_H_CLSACT` (linux/pkt_sched.h).
const CLSACT_PARENT: TcHandle = TcHandle { major: 0xffff, minor: 0xfff1 };
/// The qdisc's own handle, `ffff:`.
const CLSACT_HANDLE: TcHandle = TcHandle { major: 0xffff, minor: 0 };
/// The two places for filters under it: `TC_H_MIN_INGRESS` and `TC_H_MIN_EGRESS`.
const CLSACT_MINORS: [u16; 2] = [0xfff2, 0xfff3];

/// How often attaching is tried again after our own link was detached, and the pause between two attempts.
const ATTACH_ATTEMPTS_MAX: u32 = 50;
const ATTACH_PAUSE: Duration = Duration::from_millis(1);

/// How programs are attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMethod {
    /// A BPF link in the interface's own list (Linux 6.6).
    Tcx,
    /// A filter under a clsact qdisc.
    Clsact,
}

impl AttachMethod {
    /// The methods of this kernel, the better one first.
    #[must_use]
    pub fn available() -> &'static [Self] {
        match Self::of_this_kernel() {
            Self::Tcx => &[Self::Tcx, Self::Clsact],
            Self::Clsact => &[Self::Clsact],
        }
    }

    /// The better method of this kernel.
    #[must_use]
    pub fn of_this_kernel() -> Self {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if version >= TCX_SINCE { Self::Tcx } else { Self::Clsact }
    }

    /// The word in the status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// An interface that exists, to which programs are attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachPoint {
    /// As configured.
    pub name: InterfaceName,
    /// Its index now.
    pub index: u32,
    /// Downstream towards clients, upstream towards servers.
    pub side: Side,
}

/// One program that is attached to an interface.
struct AttachedProgram {
    packets: TcAttachType,
    /// The program's number in the kernel.
    program_id: u32,
    /// Dropping it detaches.
    link: SchedClassifierLink,
}

struct Attached {
    place: AttachPoint,
    programs: Vec<AttachedProgram>,
    /// The qdisc was not there before.
    qdisc_is_ours: bool,
}

/// The attached programs of all interfaces.
pub(super) struct Classifier {
    hook: AttachMethod,
    attached: Vec<Attached>,
    /// Filters of others in front of the classifier that it cannot go before, in words.
    in_front: Vec<String>,
}

impl Classifier {
    pub(super) const fn new(hook: AttachMethod) -> Self {
        Self { hook, attached: Vec::new(), in_front: Vec::new() }
    }

    pub(super) const fn hook(&self) -> AttachMethod {
        self.hook
    }

    /// Load all programs; the kernel's verifier checks them.
    pub(super) fn load(bpf: &mut Ebpf) -> Result<(), ProgramError> {
        for (part, _) in [Side::Downstream, Side::Upstream].into_iter().flat_map(programs) {
            let program = program(bpf, part)?;
            judged(|| program.load())?;
        }
        Ok(())
    }

    pub(super) fn in_front(&self) -> &[String] {
        &self.in_front
    }

    /// Attach the programs at these points and at no other, before programs of others. Where they are attached already,
    /// traffic sees no gap. Where another program went before the classifier, the classifier leaves the list for the
    /// moment that attaching takes, because the kernel takes a program once. Returns where it was attached anew.
    pub(super) fn attach_only_at(
        &mut self,
        bpf: &mut Ebpf,
        places: &[AttachPoint],
    ) -> Result<Vec<AttachPoint>, ProgramError> {
        let (stay, go): (Vec<_>, Vec<_>) =
            self.attached.drain(..).partition(|attached| places.contains(&attached.place));
        self.attached = stay;
        go.into_iter().for_each(Attached::detach);
        let mut added = Vec::new();
        let mut refused = match self.hook {
            AttachMethod::Tcx => self.forget_overtaken(),
            AttachMethod::Clsact => {
                self.forget_lost();
                Ok(())
            }
        };
        for place in places {
            if self.attached.iter().any(|attached| attached.place == *place) {
                continue;
            }
            match attach_anew(bpf, self.hook, place) {
                Ok(attached) => {
                    self.attached.push(attached);
                    added.push(place.clone());
                }
                // The other interfaces are still served.
                Err(error) => refused = refused.and(Err(error)),
            }
        }
        if self.hook == AttachMethod::Clsact {
            self.look_in_front();
        }
        refused.map(|()| added)
    }

    /// Detach where a program of others is before the classifier, and where others removed the link.
    fn forget_overtaken(&mut self) -> Result<(), ProgramError> {
        let mut refused = Ok(());
        for attached in std::mem::take(&mut self.attached) {
            let name = attached.place.name.as_str();
            match programs_before(attached.place.index, &attached.programs) {
                Ok(Some(before)) if before.is_empty() => self.attached.push(attached),
                Ok(before) => {
                    let why = match before {
                        None => "others detached it".to_owned(),
                        Some(ids) => format!(
                            "programs of others stand before it, `bpftool prog show id` tells whose: {}",
                            ids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
                        ),
                    };
                    tracing::error!(
                        "the classifier is not the first program on {name}, so packets may be hidden from it: {why}; \
                         attaching it there again"
                    );
                    attached.detach();
                }
                Err(error) => {
                    let failed = at(BpfOperation::Classify { interface: name.to_owned() });
                    let call = SyscallError { call: "bpf_prog_query", io_error: error };
                    refused = refused.and(Err(failed(AyaError::from(call))));
                    self.attached.push(attached);
                }
            }
        }
        refused
    }

    fn look_in_front(&mut self) {
        self.in_front.clear();
        let Ok(mut netlink) = Netlink::open() else { return };
        for Attached { place, programs, .. } in &self.attached {
            let name = place.name.as_str();
            for program in programs {
                let list = list_name(program.packets);
                for filter in filters_before(&mut netlink, place.index, program).unwrap_or_default() {
                    self.in_front.push(format!(
                        "on {name} the filter of preference {filter} stands before Postern's classifier and may hide \
                         packets from it: give it one over {FILTER_PRIORITY} (`tc filter show dev {name} {list}`)"
                    ));
                }
            }
        }
    }

    /// Forget interfaces whose filters are gone: others can delete a qdisc and every filter with it.
    fn forget_lost(&mut self) {
        let Ok(mut netlink) = Netlink::open() else { return };
        self.attached.retain(|attached| {
            // Dropping a link of a filter deletes it by number, and another filter may have the number by now.
            is_filtered(&mut netlink, &attached.place).unwrap_or(true)
        });
    }
}

impl Attached {
    fn detach(self) {
        let (index, ours) = (self.place.index, self.qdisc_is_ours);
        self.programs.into_iter().for_each(|AttachedProgram { link, .. }| drop(link));
        if ours {
            remove_idle_qdisc(index);
        }
    }
}

impl Drop for Classifier {
    fn drop(&mut self) {
        self.attached.drain(..).for_each(Attached::detach);
    }
}

fn program<'b>(bpf: &'b mut Ebpf, part: &'static str) -> Result<&'b mut SchedClassifier, ProgramError> {
    bpf.program_mut(part).and_then(|program| program.try_into().ok()).ok_or(ProgramError::Object { part })
}

/// The programs of an interface, with the packets that each one sees.
fn programs(side: Side) -> &'static [(&'static str, TcAttachType)] {
    match side {
        Side::Downstream => &[(FROM_CLIENTS_PROGRAM, TcAttachType::Ingress)],
        Side::Upstream => {
            &[(FROM_SERVERS_PROGRAM, TcAttachType::Ingress), (TO_SERVERS_PROGRAM, TcAttachType::Egress)]
        }
    }
}

/// Attach again after a detachment, with retries. The kernel takes a program once, and a link that was just closed
/// lives on while a child of this process, between fork and exec, has its descriptor.
fn attach_anew(bpf: &mut Ebpf, hook: AttachMethod, place: &AttachPoint) -> Result<Attached, ProgramError> {
    let mut attempts = 1;
    loop {
        match attach(bpf, hook, place) {
            Err(ProgramError::Refused { error, .. })
                if attempts < ATTACH_ATTEMPTS_MAX && Errno::from_io_error(&error) == Some(Errno::EXIST) =>
            {
                attempts += 1;
                std::thread::sleep(ATTACH_PAUSE);
            }
            attached => return attached,
        }
    }
}

fn attach(bpf: &mut Ebpf, hook: AttachMethod, place: &AttachPoint) -> Result<Attached, ProgramError> {
    let name = place.name.as_str();
    let failed = |error: AyaError| at(BpfOperation::Classify { interface: name.to_owned() })(error);
    let qdisc_is_ours = hook == AttachMethod::Clsact && add_qdisc(name).map_err(failed)?;
    let mut standing = Vec::new();
    for &(part, packets) in programs(place.side) {
        let program = program(bpf, part)?;
        let program_id = program.info().map_err(failed)?.id();
        let link = program
            .attach_with_options(name, packets, options(hook))
            .and_then(|id| program.take_link(id))
            .map_err(failed)?;
        standing.push(AttachedProgram { packets, program_id, link });
    }
    Ok(Attached { place: place.clone(), programs: standing, qdisc_is_ours })
}

fn options(hook: AttachMethod) -> TcAttachOptions {
    match hook {
        AttachMethod::Tcx => TcAttachOptions::TcxOrder(LinkOrder::first()),
        AttachMethod::Clsact => {
            TcAttachOptions::Netlink(NlOptions { priority: FILTER_PRIORITY, ..NlOptions::default() })
        }
    }
}

/// The programs of others before ours in an interface's lists; `None` where one of ours is not in its list.
fn programs_before(index: u32, standing: &[AttachedProgram]) -> std::io::Result<Option<Vec<u32>>> {
    let mut all_before = Vec::new();
    for AttachedProgram { packets, program_id, .. } in standing {
        let mut before = tcx_programs(index, *packets)?;
        let Some(ours) = before.iter().position(|id| id == program_id) else { return Ok(None) };
        before.truncate(ours);
        all_before.append(&mut before);
    }
    Ok(Some(all_before))
}

/// Add the qdisc. Returns whether it was not there before.
fn add_qdisc(name: &str) -> Result<bool, AyaError> {
    match tc::qdisc_add_clsact(name) {
        Ok(()) => Ok(true),
        Err(tc::TcError::AlreadyAttached) => Ok(false),
        Err(error) => {
            let exists =
                std::iter::successors(Some(&error as &(dyn std::error::Error + 'static)), |e| e.source())
                    .filter_map(|error| error.downcast_ref::<std::io::Error>())
                    .any(|error| Errno::from_io_error(error) == Some(Errno::EXIST));
            if exists { Ok(false) } else { Err(error.into()) }
        }
    }
}

/// Remove the filters that a killed daemon left on this interface, and return their number.
pub(super) fn clear_leftovers(name: &str, index: u32) -> u32 {
    let mut cleared = 0;
    for &(part, packets) in [Side::Downstream, Side::Upstream].into_iter().flat_map(programs) {
        cleared += u32::from(tc::qdisc_detach_program(name, packets, part).is_ok());
    }
    if cleared > 0 {
        remove_idle_qdisc(index);
    }
    cleared
}

/// Remove a clsact qdisc without filters. One with filters of others stays.
fn remove_idle_qdisc(index: u32) {
    let Ok(mut netlink) = Netlink::open() else { return };
    let idle = CLSACT_MINORS
        .iter()
        .all(|minor| filters(&mut netlink, index, *minor).is_ok_and(|filters| filters.is_empty()));
    if idle {
        let qdisc = message(index, CLSACT_HANDLE, CLSACT_PARENT);
        // The interface may be gone, and then the qdisc is, too.
        let _gone = netlink.change(RouteNetlinkMessage::DelQueueDiscipline(qdisc), 0);
    }
}

/// Whether every filter of ours is on the interface.
fn is_filtered(netlink: &mut Netlink, place: &AttachPoint) -> std::io::Result<bool> {
    for (_, packets) in programs(place.side) {
        let filters = filters(netlink, place.index, clsact_minor(*packets))?;
        if filters.iter().all(|filter| filter.header.info >> 16 != u32::from(FILTER_PRIORITY)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The place of filters for these packets under clsact.
fn clsact_minor(packets: TcAttachType) -> u16 {
    let [ingress, egress] = CLSACT_MINORS;
    if packets == TcAttachType::Egress { egress } else { ingress }
}

/// The name of that place in `tc filter show`.
fn list_name(packets: TcAttachType) -> &'static str {
    if packets == TcAttachType::Egress { "egress" } else { "ingress" }
}

/// The filters before ours under clsact, by preference and kind.
fn filters_before(netlink: &mut Netlink, index: u32, ours: &AttachedProgram) -> std::io::Result<Vec<String>> {
    let filters = filters(netlink, index, clsact_minor(ours.packets))?;
    let before = filters.iter().take_while(|filter| bpf_program(filter) != Some(ours.program_id));
    // Before the filters of a preference, the kernel lists their common part, which has no handle.
    let before = before.filter(|filter| u32::from(filter.header.handle) != 0);
    Ok(before.map(|filter| format!("{} ({})", filter.header.info >> 16, kind(filter))).collect())
}

fn kind(filter: &TcMessage) -> &str {
    let kind = filter.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Kind(kind) => Some(kind.as_str()),
        _ => None,
    });
    kind.unwrap_or("of no kind")
}

fn bpf_program(filter: &TcMessage) -> Option<u32> {
    filter.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => options.iter().find_map(|option| match option {
            TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => Some(*id),
            _ => None,
        }),
        _ => None,
    })
}

fn filters(netlink: &mut Netlink, index: u32, minor: u16) -> std::io::Result<Vec<TcMessage>> {
    let parent = TcHandle { major: CLSACT_PARENT.major, minor };
    let request = message(index, TcHandle::default(), parent);
    let found = match netlink.dump(&RouteNetlinkMessage::GetTrafficFilter(request)) {
        // The interface has no such qdisc.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => Vec::new(),
        found => found?,
    };
    Ok(found
        .into_iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewTrafficFilter(filter) => Some(filter),
            _ => None,
        })
        .collect())
}

fn message(index: u32, handle: TcHandle, parent: TcHandle) -> TcMessage {
    let header =
        TcHeader { index: i32::try_from(index).unwrap_or_default(), handle, parent, ..TcHeader::default() };
    let mut message = TcMessage::default();
    message.header = header;
    if handle == CLSACT_HANDLE {
        message.attributes.push(TcAttribute::Kind("clsact".to_owned()));
    }
    message
}
