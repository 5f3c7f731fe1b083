//! A policy generation: everything that a configuration names, read and judged, as far as this process may know it.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, getrlimit};
use time::OffsetDateTime;

use super::process::OWN_PROGRAM;
use super::scanner::ScannerRules;
use crate::accept::{MachineResources, Memory, Room, filters_are_strict};
use crate::config::{self, Config, DefaultCertificate};
use crate::content::ContentMaterial;
use crate::handshake::expiry::Lifetime;
use crate::handshake::{KeyFile, TrustMaterial};
use crate::helper::HelperTerms;
use crate::ipc::seal;
use crate::layer::offload::OffloadTerms;
use crate::signer::KeyFacts;
use crate::worker::protocol::PolicyMessage;
use crate::worker::thread_count;

/// What is in force, or shall be.
pub(super) struct LoadedPolicy {
    pub(super) generation: u64,
    /// Another one where steering changes.
    pub(super) era: u64,
    pub(super) config: Config,
    pub(super) material: TrustMaterial,
    /// What content is judged with beside settings.
    content: ContentMaterial,
    /// When its certificates end.
    pub(super) lifetimes: Vec<Lifetime>,
    /// Open and unread: they are the signer's to read.
    pub(super) keys: Vec<KeyFile>,
    /// What the helper is told, where there shall be one.
    pub(super) helper: Option<HelperTerms>,
    /// What the judges scan with; none where nothing is scanned.
    pub(super) scanner: Option<Arc<ScannerRules>>,
    pub(super) layers: OffloadTerms,
    pub(super) room: Room,
    machine: MachineResources,
}

impl LoadedPolicy {
    /// The first. `layers` holds what was found out about the kernel. What this machine has no room for is told in the
    /// log.
    ///
    /// # Errors
    /// A file that the configuration names cannot be used.
    pub(super) fn first(config: Config, layers: OffloadTerms) -> Result<Self> {
        Self::load(config, (1, 1), layers, machine(), None)
    }

    /// The next one, from the same file. It has the memory of the start: what Postern's own sessions hold is not
    /// available.
    ///
    /// # Errors
    /// What is wrong, or changes with a restart only.
    pub(super) fn next(&self, path: &Path) -> Result<Self> {
        let config = config::load(path)?;
        let fixed = config.fixed_since(&self.config, thread_count);
        if !fixed.is_empty() {
            bail!(
                "{}: restart Postern, or write the old value",
                fixed.join(": restart Postern, or write the old value\n")
            );
        }
        let mut machine = machine();
        machine.memory = machine.memory.no_less_than(&self.machine.memory);
        let next = (self.generation + 1, self.era);
        Self::load(config, next, self.layers.clone(), machine, self.scanner.as_ref())
    }

    /// The next one with a new default certificate where Postern makes that, and with all else as it is in force: the
    /// other files may be halfway through a change, which a reload makes.
    ///
    /// # Errors
    /// The certificate cannot be made or used, or there are no descriptors.
    pub(super) fn again(&self) -> Result<Self> {
        provide_default_certificate(&self.config)?;
        let (material, default) = self.material.with_new_default(&self.config)?;
        let mut keys = self.kept_keys()?;
        if let Some(default) = default {
            // It is the last one.
            keys.pop();
            keys.push(default);
        }
        Ok(self.followed_by(material, keys))
    }

    /// The next one where a list of revoked certificates has changed: with the new lists, and with all else as it is in
    /// force. Of the other files nothing is read: they may be halfway through a change, which a reload makes.
    ///
    /// # Errors
    /// A list cannot be used, or there are no descriptors.
    pub(super) fn renewed(&self) -> Result<Option<Self>> {
        let Some(material) = self.material.with_new_lists(&self.config)? else { return Ok(None) };
        Ok(Some(self.followed_by(material, self.kept_keys()?)))
    }

    /// This one again, in an era of its own, in the place of another one that was taken and cannot stay.
    ///
    /// # Errors
    /// There are no descriptors.
    pub(super) fn in_era(&self, era: u64) -> Result<Self> {
        Ok(Self { era, ..self.followed_by(self.material.clone(), self.kept_keys()?) })
    }

    /// The keys in force, of the files that are open, whatever lies at their paths now.
    fn kept_keys(&self) -> Result<Vec<KeyFile>> {
        let keys = self.keys.iter().map(KeyFile::try_clone).collect::<Result<_, _>>();
        keys.context("keeping the private keys open (raise LimitNOFILE of the service)")
    }

    /// The next one from the same configuration.
    fn followed_by(&self, material: TrustMaterial, keys: Vec<KeyFile>) -> Self {
        Self {
            generation: self.generation + 1,
            era: self.era,
            config: self.config.clone(),
            lifetimes: material.lifetimes(&self.config),
            material,
            content: self.content.clone(),
            keys,
            helper: self.helper.clone(),
            scanner: self.scanner.clone(),
            layers: self.layers.clone(),
            room: self.room.clone(),
            machine: self.machine.clone(),
        }
    }

    fn load(
        config: Config,
        (generation, era): (u64, u64),
        layers: OffloadTerms,
        machine: MachineResources,
        scanner: Option<&Arc<ScannerRules>>,
    ) -> Result<Self> {
        provide_default_certificate(&config)?;
        let (material, keys) = TrustMaterial::read(&config)?;
        let content = ContentMaterial::read(&config)?;
        let lifetimes = material.lifetimes(&config);
        let layers = OffloadTerms { mode: config.offload(), ..layers };
        let room = Room::new(&config, thread_count(config.steering.threads), &machine);
        for narrowed in &room.narrowed {
            tracing::warn!("{narrowed}");
        }
        let helper = HelperTerms::read(&config).context("the webhook for alarms (alarm.webhook)")?;
        let scanner = ScannerRules::load(&config, scanner)?;
        Ok(Self {
            generation,
            era,
            config,
            material,
            content,
            lifetimes,
            keys,
            helper,
            scanner,
            layers,
            room,
            machine,
        })
    }

    /// What travels with [`ToWorker::Policy`](crate::worker::protocol::ToWorker::Policy): `message`, and the scanner's rules.
    pub(super) fn with_rules<'p>(&'p self, message: &'p OwnedFd) -> Vec<BorrowedFd<'p>> {
        let rules = self.scanner.as_ref().map(|scanner| scanner.memory());
        std::iter::once(message.as_fd()).chain(rules).collect()
    }

    /// Whether the default certificate that Postern made is near its end, or of a time to come.
    pub(super) fn own_default_ends(&self) -> bool {
        self.material.has_due_default(&self.config, OffsetDateTime::now_utc())
    }

    /// All of it that the worker may know, in sealed memory.
    ///
    /// # Errors
    /// The kernel has no memory for it.
    pub(super) fn for_worker(&self, keys: Vec<KeyFacts>) -> Result<OwnedFd> {
        let mut config = self.config.clone();
        // Who knows it can post there.
        config.alarm.webhook = None;
        let message = PolicyMessage {
            generation: self.generation,
            era: self.era,
            strict_reverse_path: filters_are_strict(),
            config,
            material: self.material.clone(),
            content: self.content.clone(),
            keys,
            offload: self.layers.message(),
            room: self.room.clone(),
            scanner: self.scanner.as_ref().map(|scanner| scanner.digest()),
        };
        let octets = postcard::to_stdvec(&message).context("writing the policy for the worker")?;
        Ok(seal(&octets)?)
    }
}

/// Has the default Proxy Server certificate made where Postern makes it and it is not there, not whole or near its end. A
/// process of its own does it: this one has no private key in its memory.
///
/// # Errors
/// It cannot be made.
fn provide_default_certificate(config: &Config) -> Result<()> {
    let Some(DefaultCertificate { files, is_own: true }) = config.default_certificate() else {
        return Ok(());
    };
    let made = Command::new(OWN_PROGRAM)
        .arg("default-certificate")
        .arg(&config.state.directory)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("making the default Proxy Server certificate ({OWN_PROGRAM})"))?;
    if !made.status.success() {
        bail!("{}", String::from_utf8_lossy(&made.stderr).trim());
    }
    if !made.stdout.is_empty() {
        tracing::warn!(
            "made a default Proxy Server certificate, self-signed, with a new key: {}; clients of your servers see it where \
             no entry of certificates.server has their name, and have to be made to trust it, also where they trusted the \
             one before; certificates.default names another",
            files.cert.display()
        );
    }
    Ok(())
}

/// Seconds since 1970, as certificates count.
pub(super) fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

/// What this machine has now, within this process's limit on descriptors.
fn machine() -> MachineResources {
    MachineResources {
        descriptors: getrlimit(Resource::Nofile).current,
        memory: Memory::read(Path::new("/")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, KeyIdMethod, KeyPair,
        KeyUsagePurpose, SerialNumber,
    };
    use tempfile::TempDir;

    use super::*;

    /// What a configuration names.
    struct Files {
        home: TempDir,
    }

    impl Files {
        fn write(&self, name: &str, text: &str) {
            let (file, new) = (self.home.path().join(name), self.home.path().join("new"));
            std::fs::write(&new, text).unwrap();
            std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
            std::fs::rename(new, file).unwrap();
        }

        /// An authority, in the place of the one that is there.
        fn authority(&self) -> rcgen::Issuer<'static, KeyPair> {
            let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            self.write("authority.pem", &params.self_signed(&key).unwrap().pem());
            self.write("authority.key", &key.serialize_pem());
            rcgen::Issuer::new(params, key)
        }

        fn list(&self, issuer: &rcgen::Issuer<'_, KeyPair>, number: u64) {
            let params = CertificateRevocationListParams {
                this_update: OffsetDateTime::now_utc(),
                next_update: OffsetDateTime::now_utc() + time::Duration::DAY,
                crl_number: SerialNumber::from(number),
                issuing_distribution_point: None,
                revoked_certs: Vec::new(),
                key_identifier_method: KeyIdMethod::Sha256,
            };
            self.write("list.crl", &params.signed_by(issuer).unwrap().pem().unwrap());
        }
    }

    #[test]
    fn new_lists_come_without_anything_else_that_lies_on_the_disk() {
        let files = Files { home: TempDir::new().unwrap() };
        let issuer = files.authority();
        files.list(&issuer, 1);
        let text = "[scanner.yara]\nembedded = false\n[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n[tls]\nroots = [\"authority.pem\"]\n\
                    crls = [\"list.crl\"]\n[certificates]\n\
                    authority = { cert = \"authority.pem\", key = \"authority.key\" }\n";
        let config = config::parse(text, &files.home.path().join("postern.toml")).unwrap();
        let policy = LoadedPolicy::first(config, OffloadTerms::default()).unwrap();
        assert!(policy.renewed().unwrap().is_none());

        // An authority that was changed without a reload, and one half of another.
        files.authority();
        files.write("authority.key", "");
        files.list(&issuer, 2);
        let renewed = policy.renewed().unwrap().unwrap();
        assert_eq!(renewed.generation, policy.generation + 1);
        assert_eq!(renewed.lifetimes, policy.lifetimes);
        let issuer_key = |policy: &LoadedPolicy| policy.material.issuer().unwrap().key_identifier;
        assert_eq!(issuer_key(&renewed), issuer_key(&policy), "the authority in force");
        assert_eq!(renewed.keys.len(), policy.keys.len());
        assert!(renewed.renewed().unwrap().is_none(), "it has the new lists");
    }

    #[test]
    fn the_worker_is_not_told_where_alarms_are_posted() {
        let files = Files { home: TempDir::new().unwrap() };
        files.authority();
        let text = "[scanner.yara]\nembedded = false\n[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n[tls]\nroots = [\"authority.pem\"]\n\
                    [certificates]\nauthority = { cert = \"authority.pem\", key = \"authority.key\" }\n\
                    [alarm]\nwebhook = \"http://siem.lab.test/T0SECRET\"\n";
        let config = config::parse(text, &files.home.path().join("postern.toml")).unwrap();
        let policy = LoadedPolicy::first(config, OffloadTerms::default()).unwrap();
        let octets = crate::ipc::read_sealed(policy.for_worker(Vec::new()).unwrap()).unwrap();
        let has = |words: &[u8]| octets.windows(words.len()).any(|window| window == words);
        assert!(has(b"lan0") && !has(b"T0SECRET"));
    }

    #[test]
    fn a_new_default_certificate_comes_without_anything_else_that_lies_on_the_disk() {
        let files = Files { home: TempDir::new().unwrap() };
        let default = || {
            let made = rcgen::generate_simple_self_signed(["gate.example.org".to_owned()]).unwrap();
            files.write("default.pem", &made.cert.pem());
            files.write("default.key", &made.signing_key.serialize_pem());
        };
        files.authority();
        default();
        let text = "[scanner.yara]\nembedded = false\n[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n[tls]\nroots = [\"authority.pem\"]\n\
                    [certificates]\nauthority = { cert = \"authority.pem\", key = \"authority.key\" }\n\
                    default = { cert = \"default.pem\", key = \"default.key\" }\n";
        let config = config::parse(text, &files.home.path().join("postern.toml")).unwrap();
        let policy = LoadedPolicy::first(config, OffloadTerms::default()).unwrap();

        files.authority();
        files.write("authority.key", "");
        default();
        let again = policy.again().unwrap();
        let public_keys = |policy: &LoadedPolicy| -> Vec<_> {
            policy
                .keys
                .iter()
                .map(|key| (key.public_key.clone(), key.opened.metadata().unwrap().len()))
                .collect()
        };
        let (before, after) = (public_keys(&policy), public_keys(&again));
        assert_eq!((after.len(), &after[0]), (2, &before[0]), "the authority in force");
        assert_ne!(after[1].0, before[1].0);
        assert_eq!(
            again.material.issuer().unwrap().key_identifier,
            policy.material.issuer().unwrap().key_identifier
        );
    }
}
