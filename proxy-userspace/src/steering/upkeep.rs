//! Everything that Postern holds in the kernel: installed in order, put back when others take it away, and given back
//! as `on_exit` says.

use std::collections::BTreeSet;
use std::net::TcpListener;

use proxy_ebpf::{Family, Intake};

use super::classifier::AttachPoint;
use super::device::{DEVICE, Device, DeviceError};
use super::forward::{self, ForwardError, GuardChange, NFT_CHAIN, NFT_TABLE};
use super::interfaces::{Interface, interfaces, unserved};
use super::ports::PortPlan;
use super::program::{Program, ProgramError};
use super::routing::{self, Changes, Link, RULE_PREFERENCE, RoutingError, Wanted};
use crate::config::{INTERFACES_MATCHED_MAX, OnExit, Source, SteeringConfig};
use crate::words::Side;

/// Why steering could not be installed or put back.
#[derive(Debug, thiserror::Error)]
pub enum SteeringError {
    /// The programs.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The TUN device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Rules and routes.
    #[error(transparent)]
    Routing(#[from] RoutingError),
}

/// What a check found and repaired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// What was missing and is installed again, in words: entries in the syntax of `ip`, interfaces by name.
    pub put_back: Vec<String>,
    /// What was Postern's and not wanted, left by a predecessor with another configuration.
    pub removed: Vec<String>,
    /// Configured interfaces that do not exist. A pattern may match none.
    pub absent: Vec<String>,
    /// Interfaces that a pattern matches, and that were not there at the last check.
    pub joined: Vec<String>,
    /// Interfaces that a pattern matched at the last check, and that are gone.
    pub left: Vec<String>,
    /// Rules of others that were in front of Postern's and no longer are.
    pub overtaken: Vec<String>,
    /// The new preferences of Postern's rules.
    pub moved: Vec<String>,
    /// Faults that Postern cannot repair, in words with the remedy.
    pub alarms: Vec<String>,
}

/// Why the state in the kernel is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// The kernel sent an event.
    Event,
    /// A second has passed. This check also finds changes without an event, and lets rules go up again.
    Time,
}

/// Installed steering. Dropping it without [`Self::release`] leaves what a kill leaves: what `on_exit` says.
pub struct Steering {
    settings: SteeringConfig,
    plan: PortPlan,
    /// Dropped before the program: while the route is there, packets must meet it.
    device: Device,
    program: Program,
    intake: Intake,
    /// The interfaces that patterns matched at the last check.
    matched: BTreeSet<String>,
    repairs: u64,
    alarms: Vec<String>,
}

impl Steering {
    /// Attach the programs, then make mail local, so that no packet is made local before a program takes it. Leftovers
    /// of a killed predecessor are taken over where they fit, and removed where they do not. The listeners are in the
    /// program already. The device proves that no other daemon steers this network namespace.
    ///
    /// # Errors
    /// The kernel's refusal. What was installed before stays, as after a kill.
    pub fn install(
        settings: SteeringConfig,
        plan: PortPlan,
        device: Device,
        mut program: Program,
    ) -> Result<(Self, Repair), SteeringError> {
        let links = routing::links()?;
        let interfaces = interfaces(&settings, &plan, &links);
        for interface in interfaces.iter().filter_map(Interface::place) {
            super::classifier::clear_leftovers(interface.name.as_str(), interface.index);
        }
        program.set_returning(settings.source == Source::Client)?;
        program.set_ports(&plan)?;
        tell(&mut program, &plan, &interfaces, &links)?;
        program.attach()?;
        let mut steering = Self {
            settings,
            plan,
            device,
            program,
            intake: Intake::Take,
            matched: BTreeSet::new(),
            repairs: 0,
            alarms: Vec::new(),
        };
        let (repair, reconciled) = steering.reconcile(Occasion::Event);
        reconciled?;
        steering.alarms.clone_from(&repair.alarms);
        Ok((steering, repair))
    }

    /// Check everything, and put back what is missing. Every repair is counted and returned, also where the kernel
    /// refuses another one. Its first refusal is then returned, too.
    pub fn repair(&mut self, occasion: Occasion) -> (Repair, Result<(), SteeringError>) {
        let (repair, reconciled) = self.reconcile(occasion);
        self.alarms = repair.alarms.clone();
        self.alarms.extend(reconciled.as_ref().err().map(ToString::to_string));
        let repaired = repair.put_back.len() + repair.overtaken.len();
        self.repairs += u64::try_from(repaired).unwrap_or(u64::MAX);
        (repair, reconciled)
    }

    fn reconcile(&mut self, occasion: Occasion) -> (Repair, Result<(), SteeringError>) {
        let mut repair = Repair::default();
        // A refusal in one part does not keep the others from being put back.
        self.guard(&mut repair);
        let known = self.matched.clone();
        let classified = self.reconcile_programs(&mut repair);
        let routed = self.reconcile_routing(occasion, &known, &mut repair);
        (repair, classified.and(routed))
    }

    fn reconcile_programs(&mut self, repair: &mut Repair) -> Result<(), SteeringError> {
        let links = routing::links()?;
        let interfaces = interfaces(&self.settings, &self.plan, &links);
        let is_client = self.settings.source == Source::Client;
        self.program.set_returning(is_client || self.plan.has_returning())?;
        self.program.set_ports(&self.plan)?;
        tell(&mut self.program, &self.plan, &interfaces, &links)?;
        let matched = interfaces.iter().filter(|one| one.is_matched && one.is_listed && one.index.is_some());
        let matched: BTreeSet<String> = matched.map(|interface| interface.name.as_str().to_owned()).collect();
        repair.joined = matched.difference(&self.matched).cloned().collect();
        repair.left = self.matched.difference(&matched).cloned().collect();
        self.matched = matched;
        let unserved = unserved(&self.settings, &links);
        if unserved > 0 {
            repair.alarms.push(format!(
                "{unserved} interfaces that patterns of [steering] match are not served: {INTERFACES_MATCHED_MAX} of a side \
                 are, the oldest first; write a narrower pattern"
            ));
        }
        let missing = interfaces.iter().filter(|one| one.index.is_none() && !one.is_matched);
        repair.absent = missing.map(|interface| interface.name.as_str().to_owned()).collect();
        let places: Vec<AttachPoint> = interfaces.iter().filter_map(Interface::place).collect();
        let classified = self.program.classify(&places)?;
        let anew =
            classified.iter().filter(|place| !repair.joined.iter().any(|name| name == place.name.as_str()));
        let words: Vec<_> = anew.map(|place| format!("classifier on {}", place.name.as_str())).collect();
        repair.put_back.extend(words);
        repair.alarms.extend(self.program.in_front_of_classifier().iter().cloned());
        Ok(())
    }

    /// `known` are the interfaces that patterns matched before: rules of others are no repair.
    fn reconcile_routing(
        &mut self,
        occasion: Occasion,
        known: &BTreeSet<String>,
        repair: &mut Repair,
    ) -> Result<(), SteeringError> {
        if !self.device.is_there() {
            self.device = Device::open()?;
            repair.put_back.push(format!("device {DEVICE}"));
        }
        self.device.raise()?;
        let changes = self.route(self.intake != Intake::Pass, occasion == Occasion::Time)?;
        repair.put_back.extend(changes.added);
        let again = changes.joined.iter().filter(|name| known.contains(*name));
        repair.put_back.extend(again.map(|name| format!("rules of {name}")));
        repair.removed.extend(changes.removed);
        repair.overtaken = changes.overtaken;
        repair.moved = changes.moved;
        let in_front = |rule: &String| {
            let why = "stands in front of Postern's rules, and none can stand before it";
            format!("`{rule}` {why}: {}", give_way())
        };
        repair.alarms.extend(changes.in_front.iter().map(in_front));
        Ok(())
    }

    /// Install or remove the nftables chain. It is the second defence behind the rules: without it steering goes on,
    /// with an alarm.
    fn guard(&self, repair: &mut Repair) {
        let chain = || format!("nft inet {NFT_TABLE} {NFT_CHAIN}");
        match forward::reconcile(self.settings.on_exit, &self.plan) {
            Ok(GuardChange::None) => {}
            Ok(GuardChange::Added) => repair.put_back.push(chain()),
            Ok(GuardChange::Removed) => repair.removed.push(chain()),
            // Under `open` no chain is needed.
            Err(ForwardError::Absent(_)) if self.settings.on_exit == OnExit::Open => {}
            Err(error) => repair.alarms.push(format!(
                "mail that rules of others lead past Postern is forwarded, not dropped: {error}"
            )),
        }
    }

    fn route(&self, ports: bool, rise: bool) -> Result<Changes, RoutingError> {
        let device = Some(self.device.index());
        routing::reconcile(&Wanted { settings: &self.settings, plan: &self.plan, device, ports, rise })
    }

    /// Set what happens to new connections. Existing connections go on.
    ///
    /// # Errors
    /// The kernel's refusal. [`Self::intake`] still says what the programs do, and the next check routes accordingly.
    pub fn set_intake(&mut self, intake: Intake) -> Result<(), SteeringError> {
        // Marks or port rules lead existing connections here. Marks are set before port rules go, and end after they
        // are back.
        if intake != Intake::Pass && self.intake == Intake::Pass {
            self.route(true, false)?;
        }
        self.program.set_intake(intake)?;
        self.intake = intake;
        if intake == Intake::Pass {
            self.route(false, false)?;
        }
        Ok(())
    }

    /// Steer as other settings and another plan say. Existing connections go on, also at a port that is refused from now
    /// on, and at what the plan keeps for them ([`PortPlan::following`]): the classifier marks their packets before rules
    /// let go of the port. What is new is added before what is old is removed. Returns what was changed.
    ///
    /// # Errors
    /// The kernel's refusal. The next check tries again: a caller that gives up puts the old ones back by another call.
    pub fn change(&mut self, settings: SteeringConfig, plan: PortPlan) -> Result<Repair, SteeringError> {
        (self.settings, self.plan) = (settings, plan);
        let (repair, reconciled) = self.reconcile(Occasion::Event);
        reconciled?;
        if self.intake != Intake::Take {
            self.refuse()?;
        }
        Ok(repair)
    }

    /// Give the listener of an ingress, by its number in the plan, to the program.
    ///
    /// # Errors
    /// As [`Program::add_listener`].
    pub fn add_listener(
        &mut self,
        number: u32,
        family: Family,
        thread: u32,
        listener: &TcpListener,
    ) -> Result<(), ProgramError> {
        self.program.add_listener(number, family, thread, listener)
    }

    /// Treat new connections as `on_exit` says: while there is no room, and while sessions drain.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn refuse(&mut self) -> Result<(), SteeringError> {
        self.set_intake(match self.settings.on_exit {
            OnExit::Closed => Intake::Drop,
            OnExit::Open => Intake::Pass,
        })
    }

    /// Remove what was installed: everything under `open`; under `closed` everything but the rules, the blackhole
    /// routes and the chain.
    ///
    /// # Errors
    /// The kernel's refusal. The rest is still removed.
    pub fn release(self) -> Result<(), SteeringError> {
        let Self { settings, plan, device, program, .. } = self;
        // No session is left.
        let plan = plan.settled();
        let routing = match settings.on_exit {
            // The local route ends with the device, and its packets then meet the blackhole route.
            OnExit::Closed => {
                drop(device);
                let wanted =
                    Wanted { settings: &settings, plan: &plan, device: None, ports: true, rise: false };
                routing::reconcile(&wanted).map(drop)
            }
            OnExit::Open => {
                let cleared = routing::clear().map(drop);
                drop(device);
                cleared
            }
        };
        drop(program);
        Ok(routing?)
    }

    /// The programs, for their listeners and counters.
    #[must_use]
    pub const fn program(&self) -> &Program {
        &self.program
    }

    /// What is configured.
    #[must_use]
    pub const fn settings(&self) -> &SteeringConfig {
        &self.settings
    }

    /// What becomes of mail for each listed port.
    #[must_use]
    pub const fn plan(&self) -> &PortPlan {
        &self.plan
    }

    /// What happens to new connections now.
    #[must_use]
    pub const fn intake(&self) -> Intake {
        self.intake
    }

    /// Repairs since the start.
    #[must_use]
    pub const fn repairs(&self) -> u64 {
        self.repairs
    }

    /// Faults that Postern cannot repair, as of the last check.
    #[must_use]
    pub fn alarms(&self) -> &[String] {
        &self.alarms
    }

    /// The configured interfaces, and whether they exist.
    ///
    /// # Errors
    /// The kernel's refusal to list interfaces.
    pub fn interfaces(&self) -> Result<Vec<Interface>, RoutingError> {
        Ok(interfaces(&self.settings, &self.plan, &routing::links()?))
    }
}

/// The remedy for a rule of others that no preference of Postern's is in front of.
pub fn give_way() -> String {
    format!("delete it and add it with a preference over {RULE_PREFERENCE} (`ip rule add pref 1000 …`)")
}

impl Interface {
    fn place(&self) -> Option<AttachPoint> {
        Some(AttachPoint { name: self.name.clone(), index: self.index?, side: self.side })
    }
}

/// Tell the program the interfaces, from one dump of the kernel's, so that it never takes an ingress for another
/// interface. Interfaces that are down are left out, because they may get an ingress's name before they are up.
fn tell(
    program: &mut Program,
    plan: &PortPlan,
    interfaces: &[Interface],
    links: &[Link],
) -> Result<(), ProgramError> {
    let ingress: Vec<(u32, u32)> = interfaces
        .iter()
        .filter(|interface| interface.side == Side::Downstream)
        .filter_map(|interface| Some((interface.index?, plan.of(interface.place)?.number())))
        .collect();
    let up: Vec<u32> = links.iter().filter(|link| link.is_up).map(|link| link.index).collect();
    program.set_interfaces(&ingress, &up)
}
