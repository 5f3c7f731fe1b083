//! Every value is optional here, so that what is missing can be told together with what is wrong.

use serde::Deserialize;
use toml::Spanned;

pub(super) type Text = Spanned<String>;
pub(super) type List = Spanned<Vec<Text>>;
pub(super) type Number = Spanned<i64>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct File {
    pub(super) steering: SteeringTable,
    pub(super) tls: TlsTable,
    pub(super) certificates: CertificatesTable,
    pub(super) action: ActionTable,
    pub(super) limits: LimitsTable,
    pub(super) records: RecordsTable,
    pub(super) state: StateTable,
    pub(super) admin: AdminTable,
    pub(super) process: ProcessTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct SteeringTable {
    pub(super) ingress: Option<List>,
    pub(super) egress: Option<List>,
    pub(super) source: Option<Text>,
    pub(super) on_exit: Option<Text>,
    pub(super) threads: Option<Number>,
    pub(super) reach: Vec<Spanned<ReachTable>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct ReachTable {
    pub(super) ingress: Option<List>,
    pub(super) egress: Option<List>,
    pub(super) networks: Option<List>,
    pub(super) except: Option<List>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct TlsTable {
    pub(super) roots: Option<List>,
    pub(super) min_version: Option<Text>,
    pub(super) offload: Option<Text>,
    pub(super) fault: TlsFaultTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct TlsFaultTable {
    pub(super) expired: Option<Text>,
    pub(super) not_yet_valid: Option<Text>,
    pub(super) untrusted: Option<Text>,
    pub(super) wrong_name: Option<Text>,
    pub(super) no_name: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct CertificatesTable {
    pub(super) authority: Option<Spanned<KeyFilesTable>>,
    pub(super) server: Vec<Spanned<ServerCertificateTable>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct KeyFilesTable {
    pub(super) cert: Option<Text>,
    pub(super) key: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct ServerCertificateTable {
    pub(super) names: Option<List>,
    pub(super) cert: Option<Text>,
    pub(super) key: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct ActionTable {
    pub(super) starttls: Option<Text>,
    pub(super) cleartext: Option<Text>,
    pub(super) implicit: Option<Text>,
    pub(super) inspect: Option<Text>,
    pub(super) bypass: Option<List>,
    pub(super) content: ContentTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct ContentTable {
    pub(super) names: Option<List>,
    pub(super) types: Option<List>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct LimitsTable {
    pub(super) sessions: Option<Number>,
    pub(super) sessions_per_client: Option<Number>,
    pub(super) handshakes: Option<Number>,
    pub(super) handshakes_per_client: Option<Number>,
    pub(super) handshakes_per_second_per_client: Option<Number>,
    pub(super) handshake_burst_per_client: Option<Number>,
    pub(super) memory: Option<Text>,
    pub(super) session_memory: Option<Text>,
    pub(super) message: Option<Text>,
    pub(super) held: Option<Text>,
    pub(super) spool: Option<Text>,
    pub(super) connect_seconds: Option<Number>,
    pub(super) handshake_seconds: Option<Number>,
    pub(super) idle_seconds: Option<Number>,
    pub(super) drain_seconds: Option<Number>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RecordsTable {
    pub(super) start: Option<bool>,
    pub(super) clean_verdicts: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct StateTable {
    pub(super) directory: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct AdminTable {
    pub(super) socket: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct ProcessTable {
    pub(super) worker_id: Option<Number>,
    pub(super) signer_id: Option<Number>,
}
