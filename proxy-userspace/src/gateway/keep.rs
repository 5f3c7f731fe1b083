//! Steering is kept as installed: what others take away is put back at once, and said aloud.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use proxy_ebpf::Intake;
use tokio::time::{sleep, timeout};

use crate::config::{Source, Steering as Settings};
use crate::line_limit::LineLimit;
use crate::steering::firewall::{masquerades, read_ruleset};
use crate::steering::upkeep::{Repair, Steering};
use crate::steering::watch::Watch;

/// While something cannot be put back, it is tried again this often; otherwise only events lead to a look.
const RETRY: Duration = Duration::from_secs(1);

/// Answer the kernel's news until the future is dropped.
pub(super) async fn keep(steering: &RefCell<Steering>, mut watch: Watch, began: Repair) -> ! {
    let mut absent = Vec::new();
    tell_absent(&mut absent, began.absent);
    let mut amiss: Option<String> = None;
    loop {
        let news = match amiss {
            Some(_) => timeout(RETRY, watch.news()).await.unwrap_or(Ok(())),
            None => watch.news().await,
        };
        if let Err(error) = news {
            tracing::error!(%error, "the kernel's events cannot be read; subscribing again");
            sleep(RETRY).await;
            if let Ok(again) = Watch::open() {
                watch = again;
            }
        }
        let mut steering = steering.borrow_mut();
        match steering.repair() {
            Ok(repair) => {
                if amiss.take().is_some() {
                    tracing::info!("steering is whole again");
                }
                if !repair.put_back.is_empty() {
                    tracing::error!(
                        repairs = steering.repairs(),
                        "steering was disturbed from outside; put back: {}",
                        repair.put_back.join("; ")
                    );
                }
                tell_absent(&mut absent, repair.absent);
            }
            Err(error) => {
                let error = error.to_string();
                // Once per fault, however long it lasts.
                if amiss.as_ref() != Some(&error) {
                    tracing::error!(
                        "steering was disturbed and cannot be put back, mail may be refused or pass: {error}; trying \
                         again every {} s",
                        RETRY.as_secs()
                    );
                }
                amiss = Some(error);
            }
        }
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
    let look = move || match read_ruleset() {
        Ok(ruleset) => {
            for name in egress {
                for found in masquerades(&ruleset, &name).iter().filter(|found| found.is_certain) {
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

/// Clients that come and go can make room and take it as fast as they like.
static ROOM_LINES: LineLimit = LineLimit::new();

/// There is no room for new connections, or there is again.
pub(super) fn make_room(steering: &RefCell<Steering>, full: bool) {
    let mut steering = steering.borrow_mut();
    let changed = if full { steering.refuse() } else { steering.set_intake(Intake::Take) };
    let Some(more) = ROOM_LINES.admit() else { return };
    match (changed, steering.intake()) {
        (Err(error), _) => tracing::error!("new connections are treated as before: {error}{more}"),
        (Ok(()), Intake::Take) => tracing::info!("there is room again: new connections are taken{more}"),
        (Ok(()), Intake::Drop) => {
            tracing::error!(
                "no room: new connections are dropped (on_exit = \"closed\") until sessions end{more}"
            );
        }
        (Ok(()), Intake::Pass) => {
            tracing::error!(
                "no room: new connections pass UNINSPECTED (on_exit = \"open\") until sessions end{more}"
            );
        }
    }
}
