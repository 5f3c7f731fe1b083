//! Everything that Postern holds in the kernel: installed in order, put back when others take it away, and given back
//! as `on_exit` says.

use proxy_ebpf::{INGRESS_MAX, Intake};

use super::classifier::Place;
use super::device::{DEVICE, Device, DeviceError};
use super::program::{Program, ProgramError};
use super::routing::{self, Changes, Link, RoutingError, Wanted};
use crate::config::{InterfaceName, OnExit, Source, Steering as Settings};
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

/// What was not as it should be, and is again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// In words: entries as `ip` writes them, interfaces by name.
    pub put_back: Vec<String>,
    /// Was Postern's and not wanted: what a predecessor with another configuration left.
    pub removed: Vec<String>,
    /// Configured interfaces that are not there.
    pub absent: Vec<String>,
}

/// A configured interface, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// As configured.
    pub name: InterfaceName,
    /// Downstream for an ingress, upstream for an egress.
    pub side: Side,
    /// Its index now, if it is there.
    pub index: Option<u32>,
}

/// Steering at work. Dropping it without [`Self::release`] leaves what a kill leaves: what `on_exit` says.
pub struct Steering {
    settings: Settings,
    /// Dropped before the program: while the route is there, packets must meet it.
    device: Device,
    program: Program,
    intake: Intake,
    repairs: u64,
}

impl Steering {
    /// Attach the programs and make mail local, in this order, so that no packet is made local before somebody takes
    /// it. Leftovers of a killed predecessor are taken over where they fit and removed where they do not. The
    /// listeners are in the program already.
    ///
    /// # Errors
    /// What the kernel refuses. What was installed before it is what a kill would leave.
    pub fn install(settings: Settings, mut program: Program) -> Result<(Self, Repair), SteeringError> {
        let links = routing::links()?;
        let interfaces = interfaces(&settings, &links);
        for interface in interfaces.iter().filter_map(Interface::place) {
            super::classifier::clear_leftovers(interface.name.as_str(), interface.index);
        }
        program.set_returning(settings.source == Source::Client)?;
        tell(&mut program, &interfaces, &links)?;
        program.attach()?;
        let device = Device::open()?;
        let mut steering = Self { settings, device, program, intake: Intake::Take, repairs: 0 };
        let repair = steering.look()?;
        Ok((steering, repair))
    }

    /// Look at all of it, and put back what is missing. Counts every thing that it puts back.
    ///
    /// # Errors
    /// The kernel's refusal; what came before it is done.
    pub fn repair(&mut self) -> Result<Repair, SteeringError> {
        let repair = self.look()?;
        self.repairs += u64::try_from(repair.put_back.len()).unwrap_or(u64::MAX);
        Ok(repair)
    }

    fn look(&mut self) -> Result<Repair, SteeringError> {
        let links = routing::links()?;
        let interfaces = interfaces(&self.settings, &links);
        tell(&mut self.program, &interfaces, &links)?;
        let mut repair = Repair::default();
        let missing = interfaces.iter().filter(|interface| interface.index.is_none());
        repair.absent = missing.map(|interface| interface.name.as_str().to_owned()).collect();
        let places: Vec<Place> = interfaces.iter().filter_map(Interface::place).collect();
        let classified = self.program.classify(&places)?;
        repair
            .put_back
            .extend(classified.iter().map(|place| format!("classifier on {}", place.name.as_str())));
        if !self.device.is_there() {
            self.device = Device::open()?;
            repair.put_back.push(format!("device {DEVICE}"));
        }
        self.device.raise()?;
        let changes = self.route(self.intake != Intake::Pass)?;
        repair.put_back.extend(changes.added);
        repair.removed = changes.removed;
        Ok(repair)
    }

    fn route(&self, ports: bool) -> Result<Changes, RoutingError> {
        let device = Some(self.device.index());
        routing::reconcile(&Wanted { settings: &self.settings, device, ports })
    }

    /// What becomes of new connections; those that exist go on.
    ///
    /// # Errors
    /// The kernel's refusal. [`Self::intake`] still says what the programs do, and the next look routes accordingly.
    pub fn set_intake(&mut self, intake: Intake) -> Result<(), SteeringError> {
        // Connections that exist are led here by their marks or by the ports: marks come first and go last.
        if intake != Intake::Pass && self.intake == Intake::Pass {
            self.route(true)?;
        }
        self.program.set_intake(intake)?;
        self.intake = intake;
        if intake == Intake::Pass {
            self.route(false)?;
        }
        Ok(())
    }

    /// What policy says about new connections that cannot be served: while there is no room, while sessions drain.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn refuse(&mut self) -> Result<(), SteeringError> {
        self.set_intake(match self.settings.on_exit {
            OnExit::Closed => Intake::Drop,
            OnExit::Open => Intake::Pass,
        })
    }

    /// Give back: everything under `open`; under `closed` all but the rules and the routes to nowhere.
    ///
    /// # Errors
    /// The kernel's refusal; the rest is given back.
    pub fn release(self) -> Result<(), SteeringError> {
        let Self { settings, device, program, .. } = self;
        let routing = match settings.on_exit {
            // The route goes with the device, and the blackhole behind it takes its packets.
            OnExit::Closed => {
                drop(device);
                routing::reconcile(&Wanted { settings: &settings, device: None, ports: true }).map(drop)
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

    /// The programs, to give them other listeners.
    pub const fn program_mut(&mut self) -> &mut Program {
        &mut self.program
    }

    /// What becomes of new connections now.
    #[must_use]
    pub const fn intake(&self) -> Intake {
        self.intake
    }

    /// How many things were put back since the start.
    #[must_use]
    pub const fn repairs(&self) -> u64 {
        self.repairs
    }

    /// The configured interfaces, as they stand.
    ///
    /// # Errors
    /// The kernel does not tell them.
    pub fn interfaces(&self) -> Result<Vec<Interface>, RoutingError> {
        Ok(interfaces(&self.settings, &routing::links()?))
    }
}

impl Interface {
    fn place(&self) -> Option<Place> {
        Some(Place { name: self.name.clone(), index: self.index?, side: self.side })
    }
}

fn interfaces(settings: &Settings, links: &[Link]) -> Vec<Interface> {
    let downstream = settings.ingress.iter().map(|name| (name, Side::Downstream));
    let upstream = settings.egress.iter().map(|name| (name, Side::Upstream));
    downstream
        .chain(upstream)
        .map(|(name, side)| {
            let link = links.iter().find(|link| link.name == name.as_str());
            Interface { name: name.clone(), side, index: link.map(|link| link.index) }
        })
        .collect()
}

/// What the program knows of interfaces comes from one answer of the kernel's, so that it never takes an ingress for
/// another. An interface that is down is none that it knows: it may get an ingress's name before it is up.
fn tell(program: &mut Program, interfaces: &[Interface], links: &[Link]) -> Result<(), ProgramError> {
    let ingress: Vec<(u32, u32)> = interfaces
        .iter()
        .filter(|interface| interface.side == Side::Downstream)
        .zip(0..INGRESS_MAX)
        .filter_map(|(interface, number)| Some((interface.index?, number)))
        .collect();
    let up: Vec<u32> = links.iter().filter(|link| link.is_up).map(|link| link.index).collect();
    program.set_interfaces(&ingress, &up)
}
