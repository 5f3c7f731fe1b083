//! Steering is kept as installed: what others take away is put back at once, and said aloud.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use proxy_ebpf::Intake;
use tokio::time::{sleep, timeout};

use super::alarms::Alarms;
use crate::config::{DaemonAlarm, OnExit, Source, SteeringConfig as Settings};
use crate::line_limit::LineLimit;
use crate::steering::firewall::{masquerades, read_ruleset};
use crate::steering::upkeep::{Occasion, Repair, Steering};
use crate::steering::watch::Watch;

/// An event leads to a look at once. What tells no event is looked at this often: the order of programs on an interface,
/// and what could not be put back.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What was said already, so that it is said once however long it lasts.
#[derive(Default)]
struct Told {
    absent: Vec<String>,
    alarms: Vec<String>,
    amiss: Option<String>,
}

/// Answer the kernel's news until the future is dropped.
pub(super) async fn keep(
    steering: &RefCell<Steering>,
    alarms: &Alarms,
    mut watch: Watch,
    began: Repair,
) -> ! {
    let mut told = Told::default();
    told.standing(alarms, began, true);
    loop {
        let occasion = match timeout(LOOK_EVERY, watch.news()).await {
            Err(_) => Occasion::Time,
            Ok(Ok(())) => Occasion::Event,
            Ok(Err(error)) => {
                tracing::error!(%error, "the kernel's events cannot be read; subscribing again");
                sleep(LOOK_EVERY).await;
                if let Ok(again) = Watch::open() {
                    watch = again;
                }
                Occasion::Event
            }
        };
        let mut steering = steering.borrow_mut();
        let (repair, looked) = steering.repair(occasion);
        if !repair.put_back.is_empty() {
            let message =
                format!("steering was disturbed from outside; put back: {}", repair.put_back.join("; "));
            tracing::error!(repairs = steering.repairs(), "{message}");
            alarms.say(DaemonAlarm::Steering, message);
        }
        told.standing(alarms, repair, looked.is_ok());
        if let Err(error) = looked {
            told.fault(alarms, &error.to_string());
        } else if told.amiss.take().is_some() {
            tracing::info!("steering is whole again");
        }
    }
}

impl Told {
    fn fault(&mut self, alarms: &Alarms, error: &str) {
        if self.amiss.as_deref() != Some(error) {
            let message = format!(
                "steering was disturbed and cannot be put back, mail may be refused or pass: {error}; trying again every \
                 {} s",
                LOOK_EVERY.as_secs()
            );
            tracing::error!("{message}");
            alarms.say(DaemonAlarm::Steering, message);
        }
        self.amiss = Some(error.to_owned());
    }

    /// What a look found beside what it put back. One that was not whole does not show that an alarm is over.
    fn standing(&mut self, alarms: &Alarms, repair: Repair, is_whole: bool) {
        let moved = repair.moved.join(", ");
        if !repair.overtaken.is_empty() {
            let message = format!(
                "rules of others stood in front of Postern's, where mail follows them: {}; now Postern's stand before them{}",
                repair.overtaken.join("; "),
                if moved.is_empty() { String::new() } else { format!(" ({moved})") }
            );
            tracing::error!("{message}");
            alarms.say(DaemonAlarm::Steering, message);
        } else if !moved.is_empty() {
            tracing::info!("Postern's rules stand higher again, nothing is in front of them: {moved}");
        }
        let (known, new): (Vec<_>, Vec<_>) =
            repair.alarms.into_iter().partition(|alarm| self.alarms.contains(alarm));
        for alarm in &new {
            tracing::error!("{alarm}");
            alarms.say(DaemonAlarm::Steering, alarm.clone());
        }
        if is_whole {
            for alarm in self.alarms.iter().filter(|alarm| !known.contains(alarm)) {
                tracing::info!("no longer so: {alarm}");
            }
            self.alarms = known;
        }
        self.alarms.extend(new);
        for name in repair.joined {
            tracing::info!("interface {name} is there and served, a pattern matches it");
        }
        for name in repair.left {
            tracing::info!("interface {name} is gone; a pattern matched it");
        }
        tell_absent(&mut self.absent, repair.absent);
    }
}

fn tell_absent(told: &mut Vec<String>, absent: Vec<String>) {
    for name in absent.iter().filter(|name| !told.contains(name)) {
        tracing::warn!("interface {name} is not there: it is served as soon as it appears");
    }
    for name in told.iter().filter(|name| !absent.contains(name)) {
        tracing::info!("interface {name} is there and served");
    }
    *told = absent;
}

/// Answers to a client's address that is masqueraded never arrive: said at the start, because sessions then only time
/// out. On a thread of its own, which ends by itself: nft may take seconds.
///
/// # Errors
/// No thread can be started.
pub(super) fn look_at_masquerading(settings: &Settings) -> io::Result<()> {
    if settings.source == Source::Gateway {
        return Ok(());
    }
    let egress = settings.egress.clone();
    let ports: Vec<u16> = settings.ports().collect();
    let look = move || match read_ruleset() {
        Ok(ruleset) => {
            for name in egress {
                for found in masquerades(&ruleset, &ports, &name).iter().filter(|found| found.is_certain) {
                    tracing::error!(
                        "mail that leaves by {} is masqueraded by {}, so no answer to a client's address arrives: \
                         see `postern check`",
                        name.as_str(),
                        found.place
                    );
                }
            }
        }
        Err(error) => tracing::warn!("whether egress masquerades was not looked at: {error}"),
    };
    std::thread::Builder::new().name("firewall".to_owned()).spawn(look).map(drop)
}

/// Why new connections are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TurnedAway {
    /// Sessions, descriptors or memory are used up.
    NoRoom,
    /// The worker has died.
    NoWorker,
}

/// Clients that come and go can make room and take it as fast as they like.
static ROOM_LINES: LineLimit = LineLimit::new();

/// New connections are treated as `on_exit` says, from now on. What a dead worker means is told when it is known why it
/// died.
pub(super) fn turn_away(steering: &RefCell<Steering>, alarms: &Alarms, why: TurnedAway) {
    let mut steering = steering.borrow_mut();
    if let Err(error) = steering.refuse() {
        tracing::error!("new connections are treated as before: {error}");
        return;
    }
    if why == TurnedAway::NoRoom {
        let message = format!("no room: {} until sessions end", meanwhile(steering.settings().on_exit));
        if let Some(more) = ROOM_LINES.admit() {
            tracing::error!("{message}{more}");
        }
        alarms.say(DaemonAlarm::NoRoom, message);
    }
}

/// There is room, or a worker, again.
pub(super) fn take(steering: &RefCell<Steering>) {
    match steering.borrow_mut().set_intake(Intake::Take) {
        Err(error) => tracing::error!("new connections are treated as before: {error}"),
        Ok(()) => {
            if let Some(more) = ROOM_LINES.admit() {
                tracing::info!("there is room again: new connections are taken{more}");
            }
        }
    }
}

/// What becomes of new connections while they are turned away.
pub(super) const fn meanwhile(on_exit: OnExit) -> &'static str {
    match on_exit {
        OnExit::Closed => "new connections are dropped (on_exit = \"closed\")",
        OnExit::Open => "new connections pass UNINSPECTED (on_exit = \"open\")",
    }
}
