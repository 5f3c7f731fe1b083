//! What `postern status` is told.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use proxy_ebpf::{Class, Exit, Intake};

use crate::admin::{InterfaceStatus, MemoryStatus, SessionsStatus, Status, SteeringStatus};
use crate::config::SteeringConfig as Settings;
use crate::lines::Lines;
use crate::record::Records;
use crate::steering::device::DEVICE;
use crate::steering::upkeep::Steering;
use crate::steering::{forward, routing};
use crate::worker::crew::Crew;
use crate::worker::thread::Shared;

/// What does not change while the daemon runs.
pub(super) struct Origin {
    pub(super) started: String,
    pub(super) path: PathBuf,
    pub(super) log: Lines,
}

/// All of it, as it is now.
pub(super) fn status(
    origin: &Origin,
    steering: &Steering,
    crew: &Crew,
    shared: &Shared,
    records: &Records,
) -> Status {
    let held = routing::installed().unwrap_or_default();
    let numbers = shared.admission.numbers();
    let policy = shared.policy.load();
    let settings = &policy.config.steering;
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started: origin.started.clone(),
        config: origin.path.clone(),
        on_exit: settings.on_exit.as_str().to_owned(),
        source: settings.source.as_str().to_owned(),
        workers: crew.workers(),
        listeners: crew.listeners(),
        steering: steering_status(steering, settings),
        rules: held.rules,
        routes: held.routes,
        sessions: SessionsStatus {
            active: numbers.active,
            limit: numbers.limit,
            accepted_total: numbers.accepted,
            refused_total: numbers.refused_total,
            refused_client: numbers.refused_client,
            limit_client: numbers.limit_client,
            handshakes: numbers.handshakes,
            handshakes_limit: numbers.handshakes_limit,
            refused_handshakes: numbers.refused_handshakes,
            refused_client_handshakes: numbers.refused_client_handshakes,
            refused_client_rate: numbers.refused_client_rate,
            refused_egress: shared.egress_refused.load(Ordering::Relaxed),
            refused_local: shared.local_refused.load(Ordering::Relaxed),
        },
        memory: MemoryStatus {
            limit: policy.room.memory.size.0,
            origin: policy.room.memory.origin.clone(),
            session: policy.config.limits.session_memory.0,
            buffers_per_worker: u64::try_from(policy.room.buffers_per_worker).unwrap_or(u64::MAX),
        },
        kernel_tls: policy.layers.to_string(),
        record_layer: policy.layers.choice(),
        records_lost: records.lost(),
        log_lost: origin.log.lost(),
    }
}

fn steering_status(steering: &Steering, settings: &Settings) -> SteeringStatus {
    let precedence = routing::precedence(settings).unwrap_or_default();
    let guard = forward::held().unwrap_or_default();
    let program = steering.program();
    let exits = program.counters().unwrap_or_default();
    let classes = program.classes().unwrap_or_default();
    let interfaces = steering.interfaces().unwrap_or_default();
    SteeringStatus {
        program_id: program.id().unwrap_or_default(),
        hook: program.hook().as_str().to_owned(),
        device: DEVICE.to_owned(),
        intake: match steering.intake() {
            Intake::Take => "steered",
            Intake::Pass => "pass uninspected",
            Intake::Drop => "dropped",
        }
        .to_owned(),
        interfaces: interfaces
            .iter()
            .map(|interface| InterfaceStatus {
                name: interface.name.as_str().to_owned(),
                side: interface.side.as_str().to_owned(),
                index: interface.index,
            })
            .collect(),
        counters: Exit::ALL.iter().map(|exit| exit.name().to_owned()).zip(exits).collect(),
        classes: Class::ALL.iter().map(|class| class.name().to_owned()).zip(classes).collect(),
        repairs: steering.repairs(),
        alarms: steering.alarms().to_vec(),
        in_front: precedence.into_iter().flat_map(|judged| judged.in_front).collect(),
        forward: guard.rules,
        forward_dropped: guard.dropped,
    }
}
