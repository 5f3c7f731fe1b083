use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use postern::config::{FaultPolicy, Offload, Tls, TrustedRoot};
use postern::handshake::verify::Judge;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;
use time::OffsetDateTime;

pub(crate) const DAY: i64 = 86_400;
pub(crate) const HOST: &str = "imap.example.org";
pub(crate) const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

// Validities in days around now.
pub(crate) const GOOD: (i64, i64) = (-10, 80);
pub(crate) const PAST: (i64, i64) = (-80, -10);
pub(crate) const FUTURE: (i64, i64) = (10, 80);

pub(crate) fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

/// An authority of a test's PKI.
pub(crate) struct Ca {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) pem: String,
    pub(crate) issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub(crate) fn root(name: &str) -> Self {
        let (params, key) = (ca_params(name, (-4000, 4000)), KeyPair::generate().unwrap());
        let cert = params.self_signed(&key).unwrap();
        Self { der: cert.der().clone(), pem: cert.pem(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn intermediate(&self, days: (i64, i64)) -> Self {
        let (params, key) = (ca_params("Intermediate", days), KeyPair::generate().unwrap());
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Self { der: cert.der().clone(), pem: cert.pem(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn leaf(&self, names: &[&str], days: (i64, i64)) -> CertificateDer<'static> {
        self.issue(&leaf_params(names, days))
    }

    pub(crate) fn issue(&self, params: &CertificateParams) -> CertificateDer<'static> {
        params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap().der().clone()
    }
}

pub(crate) fn lasting(params: &mut CertificateParams, days: (i64, i64)) {
    params.not_before = OffsetDateTime::from_unix_timestamp(now() + days.0 * DAY).unwrap();
    params.not_after = OffsetDateTime::from_unix_timestamp(now() + days.1 * DAY).unwrap();
}

pub(crate) fn ca_params(name: &str, days: (i64, i64)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    lasting(&mut params, days);
    params
}

pub(crate) fn leaf_params(names: &[&str], days: (i64, i64)) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    lasting(&mut params, days);
    params
}

pub(crate) fn strict() -> FaultPolicy {
    FaultPolicy::default()
}

pub(crate) fn tls(root_files: Vec<PathBuf>, faults: FaultPolicy) -> Tls {
    let (roots, offload) = (root_files.into_iter().map(TrustedRoot::File).collect(), Offload::Never);
    Tls { roots, faults, offload, ..Tls::default() }
}

pub(crate) fn judge(root: &Ca, policy: FaultPolicy) -> Judge {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("roots.pem");
    std::fs::write(&file, &root.pem).unwrap();
    Judge::load(&tls(vec![file], policy)).unwrap()
}
