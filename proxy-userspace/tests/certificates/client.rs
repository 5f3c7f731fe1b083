use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use postern::config::{Certificates, KeyFiles, ServerCertificate, ShownCertificates};
use postern::handshake::mint::{KeyKind, LeafClass, Leaves, MintError, Request, Shown};
use postern::jobs::{JobPool, JobPurpose};
use rcgen::KeyPair;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection, version};
use tempfile::TempDir;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::pki::{ADDRESS, Ca, HOST, ca_params, judge, strict, tls};

/// Postern's own authority on disk, and leaves loaded from it.
pub(crate) struct Mint {
    pub(crate) dir: TempDir,
    pub(crate) ca: CertificateDer<'static>,
    pub(crate) leaves: Leaves,
    pub(crate) jobs: JobPool,
}

impl Mint {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// With configured certificates: name, certificate and key in PEM.
    pub(crate) fn with(server: &[(&str, &str, &str)]) -> Self {
        let dir = TempDir::new().unwrap();
        let key = KeyPair::generate().unwrap();
        let cert = ca_params("Proxy Authority", (-400, 400)).self_signed(&key).unwrap();
        let authority = write_pair(&dir, "authority", &cert.pem(), &key.serialize_pem());
        let server = server.iter().map(|(name, cert, key)| ServerCertificate {
            names: vec![(*name).to_owned()],
            files: write_pair(&dir, &name.replace('*', "any"), cert, key),
        });
        let certificates =
            Certificates { authority, server: server.collect(), default: None, pins: Vec::new() };
        let leaves = Leaves::load(&certificates, &tls(Vec::new(), strict())).unwrap();
        Self {
            dir,
            ca: cert.der().clone(),
            leaves,
            jobs: JobPool::start(JobPurpose::Certificates, 1).unwrap(),
        }
    }

    pub(crate) fn server_config(&self, request: &Request<'_>) -> Result<Shown, MintError> {
        wait_for(self.leaves.server_config(request, &self.jobs))
    }

    pub(crate) fn shown(
        &self,
        upstream: Option<&CertificateDer<'_>>,
        sni: Option<&str>,
        class: LeafClass,
    ) -> Shown {
        let request = Request {
            upstream,
            sni,
            destination: ADDRESS,
            class,
            key: KeyKind::Ecdsa,
            certificates: ShownCertificates::Authority,
        };
        self.server_config(&request).unwrap()
    }
}

/// What a session's task would wait for.
pub(crate) fn wait_for<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

pub(crate) fn write_pair(dir: &TempDir, stem: &str, cert: &str, key: &str) -> KeyFiles {
    let path = |end| dir.path().join(format!("{stem}.{end}"));
    let files = KeyFiles { cert: path("pem"), key: path("key") };
    std::fs::write(&files.cert, cert).unwrap();
    std::fs::write(&files.key, key).unwrap();
    std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o600)).unwrap();
    files
}

pub(crate) fn client_of(trusted: &CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    Arc::new(builder(&[&version::TLS13, &version::TLS12]).with_root_certificates(roots).with_no_client_auth())
}

/// A client that accepts whatever it is shown.
pub(crate) fn trusting_client(versions: &[&'static rustls::SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let verifier = judge(&Ca::root("Nobody"), strict()).verifier();
    Arc::new(builder(versions).dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

pub(crate) fn builder(
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap()
}

/// A whole handshake in memory, until neither side has anything to say: tickets have arrived.
pub(crate) fn handshake(
    config: &Arc<ClientConfig>,
    shown: &Shown,
    name: &str,
) -> Result<ClientConnection, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(&shown.config)).unwrap();
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(client)
}

/// The leaf that a client sees, whether it would accept it or not.
pub(crate) fn leaf_of(shown: &Shown) -> CertificateDer<'static> {
    let client = handshake(&trusting_client(&[&version::TLS13]), shown, HOST).unwrap();
    client.peer_certificates().unwrap()[0].clone()
}

pub(crate) fn names(leaf: &CertificateDer<'_>) -> Vec<String> {
    let (_, cert) = X509Certificate::from_der(leaf).unwrap();
    let names = cert.subject_alternative_name().unwrap();
    let names = names.map_or(Vec::new(), |names| names.value.general_names.clone());
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(octets) => format!("{octets:?}"),
        other => panic!("{other}"),
    };
    names.iter().map(text).collect()
}

pub(crate) fn validity(leaf: &CertificateDer<'_>) -> (i64, i64) {
    let (_, cert) = X509Certificate::from_der(leaf).unwrap();
    (cert.validity().not_before.timestamp(), cert.validity().not_after.timestamp())
}
