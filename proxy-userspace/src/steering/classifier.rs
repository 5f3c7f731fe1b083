//! The classifier on its interfaces, and the program that notes where SYNs to servers leave: tcx links, or filters under a clsact qdisc before Linux 6.6.
//!
//! A tcx link goes with the daemon. A clsact filter stays when the daemon is killed, marking nothing and dropping
//! fragments, until the next start or `postern clear` removes it.

use aya::Ebpf;
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, ProgramError as AyaError, SchedClassifier, TcAttachType};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcHeader, TcMessage};
use proxy_ebpf::{FROM_CLIENTS_PROGRAM, FROM_SERVERS_PROGRAM, TO_SERVERS_PROGRAM};
use rustix::io::Errno;

use super::netlink::Netlink;
use super::program::{ProgramError, Step, at, judged};
use crate::config::InterfaceName;
use crate::words::Side;

/// First kernel with tcx.
const TCX_SINCE: (u32, u32) = (6, 6);
/// The filter's preference under clsact: before those that `tc` numbers by itself (49152 and down).
const FILTER_PRIORITY: u16 = 143;
/// `TC_H_CLSACT` (linux/pkt_sched.h).
const CLSACT_PARENT: TcHandle = TcHandle { major: 0xffff, minor: 0xfff1 };
/// The qdisc's own handle, `ffff:`.
const CLSACT_HANDLE: TcHandle = TcHandle { major: 0xffff, minor: 0 };
/// The two places for filters under it: `TC_H_MIN_INGRESS` and `TC_H_MIN_EGRESS`.
const CLSACT_MINORS: [u16; 2] = [0xfff2, 0xfff3];

/// How programs are attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A BPF link in the interface's own list (Linux 6.6).
    Tcx,
    /// A filter under a clsact qdisc.
    Clsact,
}

impl Hook {
    /// Those that this kernel has, the better one first.
    #[must_use]
    pub fn available() -> &'static [Self] {
        match Self::of_this_kernel() {
            Self::Tcx => &[Self::Tcx, Self::Clsact],
            Self::Clsact => &[Self::Clsact],
        }
    }

    /// The better one that this kernel has.
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

/// An interface that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// As configured.
    pub name: InterfaceName,
    /// Its index now.
    pub index: u32,
    /// Who is behind it: clients downstream, servers upstream.
    pub side: Side,
}

struct Attached {
    place: Place,
    /// Dropping them detaches.
    links: Vec<SchedClassifierLink>,
    /// The qdisc was not there before.
    qdisc_is_ours: bool,
}

/// Where the classifier is attached.
pub(super) struct Classifier {
    hook: Hook,
    attached: Vec<Attached>,
}

impl Classifier {
    pub(super) const fn new(hook: Hook) -> Self {
        Self { hook, attached: Vec::new() }
    }

    pub(super) const fn hook(&self) -> Hook {
        self.hook
    }

    /// Let the kernel judge all programs.
    pub(super) fn load(bpf: &mut Ebpf) -> Result<(), ProgramError> {
        for (part, _) in [Side::Downstream, Side::Upstream].into_iter().flat_map(programs) {
            let program = program(bpf, part)?;
            judged(|| program.load())?;
        }
        Ok(())
    }

    /// Be attached at these places and at no other. Where it is already, its traffic sees no gap. Says what was
    /// attached anew.
    pub(super) fn stand_at(&mut self, bpf: &mut Ebpf, places: &[Place]) -> Result<Vec<Place>, ProgramError> {
        let (stay, go): (Vec<_>, Vec<_>) =
            self.attached.drain(..).partition(|attached| places.contains(&attached.place));
        self.attached = stay;
        go.into_iter().for_each(Attached::detach);
        if self.hook == Hook::Clsact {
            self.forget_lost();
        }
        let mut added = Vec::new();
        let mut refused = Ok(());
        for place in places {
            if self.attached.iter().any(|attached| attached.place == *place) {
                continue;
            }
            match attach(bpf, self.hook, place) {
                Ok(attached) => {
                    self.attached.push(attached);
                    added.push(place.clone());
                }
                // The others are of use without this one.
                Err(error) => refused = refused.and(Err(error)),
            }
        }
        refused.map(|()| added)
    }

    /// Others can delete a qdisc and every filter with it.
    fn forget_lost(&mut self) {
        let Ok(mut netlink) = Netlink::open() else { return };
        self.attached.retain(|attached| {
            // A netlink link that is dropped is deleted by number, and the number may be another's by now.
            is_filtered(&mut netlink, &attached.place).unwrap_or(true)
        });
    }
}

impl Attached {
    fn detach(self) {
        let (index, ours) = (self.place.index, self.qdisc_is_ours);
        drop(self.links);
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

/// What stands on an interface, by name and by the packets that it sees.
fn programs(side: Side) -> &'static [(&'static str, TcAttachType)] {
    match side {
        Side::Downstream => &[(FROM_CLIENTS_PROGRAM, TcAttachType::Ingress)],
        Side::Upstream => {
            &[(FROM_SERVERS_PROGRAM, TcAttachType::Ingress), (TO_SERVERS_PROGRAM, TcAttachType::Egress)]
        }
    }
}

fn attach(bpf: &mut Ebpf, hook: Hook, place: &Place) -> Result<Attached, ProgramError> {
    let name = place.name.as_str();
    let failed = |error: AyaError| at(Step::Classify { interface: name.to_owned() })(error);
    let qdisc_is_ours = hook == Hook::Clsact && add_qdisc(name).map_err(failed)?;
    let mut links = Vec::new();
    for &(part, packets) in programs(place.side) {
        let program = program(bpf, part)?;
        let link = program
            .attach_with_options(name, packets, options(hook))
            .and_then(|id| program.take_link(id))
            .map_err(failed)?;
        links.push(link);
    }
    Ok(Attached { place: place.clone(), links, qdisc_is_ours })
}

fn options(hook: Hook) -> TcAttachOptions {
    match hook {
        Hook::Tcx => TcAttachOptions::TcxOrder(LinkOrder::default()),
        Hook::Clsact => {
            TcAttachOptions::Netlink(NlOptions { priority: FILTER_PRIORITY, ..NlOptions::default() })
        }
    }
}

/// Whether it was not there before.
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

/// Remove the filters that a killed daemon left on this interface; how many there were.
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

/// A clsact qdisc without a filter does nothing; one with filters of others stays.
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
fn is_filtered(netlink: &mut Netlink, place: &Place) -> std::io::Result<bool> {
    let [ingress, egress] = CLSACT_MINORS;
    for (_, packets) in programs(place.side) {
        let minor = if *packets == TcAttachType::Egress { egress } else { ingress };
        let filters = filters(netlink, place.index, minor)?;
        if filters.iter().all(|filter| filter.header.info >> 16 != u32::from(FILTER_PRIORITY)) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn filters(netlink: &mut Netlink, index: u32, minor: u16) -> std::io::Result<Vec<TcMessage>> {
    let parent = TcHandle { major: CLSACT_PARENT.major, minor };
    let request = message(index, TcHandle::default(), parent);
    let found = match netlink.dump(&RouteNetlinkMessage::GetTrafficFilter(request)) {
        // No such qdisc.
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
