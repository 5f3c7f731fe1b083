//! What `postern status` is told.

use std::cell::RefCell;
use std::path::PathBuf;

use proxy_ebpf::{Class, Exit, Intake};

use super::board::Board;
use super::policy::now;
use crate::admin::{
    CertificateStatus, InterfaceStatus, JudgesStatus, MemoryStatus, SignaturesStatus, Status, SteeringStatus,
};
use crate::clock;
use crate::handshake::expiry::Lifetime;
use crate::judging::JudgeNumbers;
use crate::lines::Lines;
use crate::steering::device::DEVICE;
use crate::steering::upkeep::Steering;
use crate::steering::{forward, routing};

/// Certificates in a status: there may be thousands, and an answer has 1 MiB.
const CERTIFICATES_MAX: usize = 64;

/// What does not change while the daemon runs.
pub(super) struct Origin {
    pub(super) started: String,
    pub(super) path: PathBuf,
    pub(super) log: Lines,
}

/// All of it, as it is now.
pub(super) async fn status(origin: &Origin, steering: &RefCell<Steering>, board: &Board) -> Status {
    let (report, signed) = (board.report().await, board.signer_report().await);
    let held = routing::installed().unwrap_or_default();
    let policy = board.policy();
    let settings = &policy.config.steering;
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started: origin.started.clone(),
        config: origin.path.clone(),
        on_exit: settings.on_exit.as_str().to_owned(),
        source: settings.source.as_str().to_owned(),
        processes: board.processes(),
        signatures: signed.map(|signed| SignaturesStatus {
            minted: signed.mints_total,
            mints_refused: signed.mints_refused,
            handshakes: signed.signatures_total,
            handshakes_refused: signed.signatures_refused,
        }),
        threads: report.threads,
        listeners: board.listeners(),
        steering: steering_status(&steering.borrow()),
        rules: held.rules,
        routes: held.routes,
        sessions: report.sessions,
        memory: MemoryStatus {
            limit: policy.room.memory.size.0,
            origin: policy.room.memory.origin.clone(),
            session: policy.config.limits.session_memory.0,
            buffers_per_thread: u64::try_from(policy.room.buffers_per_thread).unwrap_or(u64::MAX),
        },
        held: report.held,
        verdicts: report.verdicts,
        spool: report.spool,
        judges: judges(board, report.judges),
        ocsp: report.ocsp,
        certificates: certificates(&policy.lifetimes),
        guard: report.guard,
        scanner: policy.scanner.as_ref().map(|scanner| scanner.status()),
        distrusted: report.distrusted,
        kernel_tls: policy.layers.to_string(),
        record_layer: policy.layers.choice(),
        records_lost: report.records_lost,
        log_lost: origin.log.lost() + report.log_lost,
    }
}

fn judges(board: &Board, numbers: JudgeNumbers) -> JudgesStatus {
    let (wanted, alive, restarts) = board.judges();
    let JudgeNumbers { leaves, lost, hung, cannot_scan, unavailable } = numbers;
    JudgesStatus {
        wanted,
        alive,
        restarts,
        leaves_total: leaves,
        lost_total: lost,
        hung_total: hung,
        cannot_scan_total: cannot_scan,
        unavailable_total: unavailable,
    }
}

fn certificates(lifetimes: &[Lifetime]) -> Vec<CertificateStatus> {
    let now = now();
    let mut first: Vec<_> = lifetimes.iter().collect();
    first.sort_by_key(|lifetime| lifetime.first_end());
    let status = |lifetime: &Lifetime| CertificateStatus {
        name: lifetime.of.to_string(),
        file: lifetime.file.clone(),
        not_after: lifetime.ends(),
        days_left: lifetime.days_left(now),
        alarm: lifetime.alarm(now),
    };
    first.into_iter().take(CERTIFICATES_MAX).map(status).collect()
}

fn steering_status(steering: &Steering) -> SteeringStatus {
    let precedence = routing::precedence(steering.settings(), steering.plan()).unwrap_or_default();
    let guard = forward::held().unwrap_or_default();
    let program = steering.program();
    let clock = clock::look().map(|wrong| wrong.to_string());
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
                leaving: !interface.is_listed,
            })
            .collect(),
        counters: Exit::ALL.iter().map(|exit| exit.name().to_owned()).zip(exits).collect(),
        classes: Class::ALL.iter().map(|class| class.name().to_owned()).zip(classes).collect(),
        repairs: steering.repairs(),
        alarms: steering.alarms().iter().cloned().chain(clock).collect(),
        in_front: precedence.into_iter().flat_map(|judged| judged.in_front).collect(),
        forward: guard.rules,
        forward_dropped: guard.dropped,
    }
}
