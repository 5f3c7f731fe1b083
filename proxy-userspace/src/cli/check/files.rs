use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::super::{alarm, certificates, scanner};
use super::Item;
use crate::config::{Config, DefaultCertificate, Ocsp, Tls, UNNAMED_PROFILE};
use crate::content::ContentMaterial;
use crate::handshake::revocation::lists::{self, RevocationList};
use crate::handshake::{Trust, TrustError, TrustMaterial};

/// Certificates and keys are a few KiB, a bundle of roots a few hundred.
const PEM_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The files that the configuration names: there, readable, of the right kind, and good for what they are for.
pub(in crate::cli) fn files(config: &Config) -> Vec<Item> {
    let mut items = examine(config, key, |config| Trust::load(config).map(drop));
    items.extend(certificates::items(config));
    items.extend(scanner::items(config));
    items.extend(alarm::items(config));
    items.extend(hashes(config));
    items
}

/// The same without a look into private keys: in a daemon they are the signer's.
pub(in crate::cli) fn files_but_keys(config: &Config) -> Vec<Item> {
    let mut items = examine(config, unread_key, |config| TrustMaterial::read(config).map(drop));
    items.extend(hashes(config));
    items
}

/// Files of hashes, where some are listed.
fn hashes(config: &Config) -> Option<Item> {
    const THING: &str = "files of hashes";
    let mut actions = config.actions_in_use();
    let is_listed = actions.any(|(_, action)| !action.content.hash_files.is_empty());
    is_listed.then(|| match ContentMaterial::read(config) {
        Ok(material) => Item::ok(THING, format!("{} hashes", material.count())),
        Err(error) => Item::fail(THING, error.to_string(), "correct action.content.hash_files"),
    })
}

fn examine(
    config: &Config,
    key: impl Fn(&str, &Path, &str) -> Item,
    judge: impl FnOnce(&Config) -> Result<(), TrustError>,
) -> Vec<Item> {
    let authority = &config.certificates.authority;
    let mut items = vec![
        certificate("authority certificate", &authority.cert, "make one with `postern ca init`"),
        key("authority key", &authority.key, "make one with `postern ca init`"),
    ];
    for server in &config.certificates.server {
        let names = server.names.join(", ");
        items.push(certificate(
            &format!("certificate of {names}"),
            &server.files.cert,
            "correct certificates.server",
        ));
        items.push(key(&format!("key of {names}"), &server.files.key, "correct certificates.server"));
    }
    match config.default_certificate() {
        Some(DefaultCertificate { files, is_own: true }) if !files.cert.exists() => {
            let value = format!("{}, made by the first `postern run`", files.cert.display());
            items.push(Item::ok("default certificate", value));
        }
        Some(DefaultCertificate { files, .. }) => {
            const REMEDY: &str = "correct certificates.default";
            items.push(certificate("default certificate", &files.cert, REMEDY));
            items.push(key("default key", &files.key, REMEDY));
        }
        None => {}
    }
    let roots: BTreeSet<_> = config.profiles_in_use().flat_map(|(_, profile)| profile.root_files()).collect();
    let root = |path: &PathBuf| certificate("root certificates", path, "correct `roots` of the TLS profile");
    items.extend(roots.into_iter().map(root));
    for (name, profile) in config.profiles_in_use() {
        let lists = revocation_lists(profile);
        items.extend(
            lists.into_iter().map(|item| if name == UNNAMED_PROFILE { item } else { item.under(name) }),
        );
    }
    // Whether authorities may sign, roots are roots, and, in `check`, keys belong to certificates.
    if !items.iter().any(Item::is_failure)
        && let Err(error) = judge(config)
    {
        items.push(Item::fail("certificates", error.to_string(), "correct the file that is named"));
    }
    items
}

fn certificate(thing: &str, path: &Path, absent: &str) -> Item {
    match pem(path) {
        Err(error) => unreadable(thing, path, &error, absent),
        Ok((text, _)) if text.contains("-----BEGIN CERTIFICATE-----") => {
            Item::ok(thing, path.display().to_string())
        }
        Ok(_) => Item::fail(
            thing,
            format!("{} holds no PEM certificate", path.display()),
            "convert it with `openssl x509`",
        ),
    }
}

/// The lists of revoked certificates of a profile.
pub(super) fn revocation_lists(profile: &Tls) -> Vec<Item> {
    const THING: &str = "revoked certificates";
    let lists = match lists::read(profile) {
        Ok(lists) if lists.is_empty() && profile.ocsp == Ocsp::Strict => {
            let value =
                "servers that staple no good OCSP response are refused, and many staple none (tls.ocsp)";
            return vec![Item::warn(
                THING,
                value,
                "list their authorities' lists in tls.crls, or use \"lenient\"",
            )];
        }
        Ok(lists) => lists,
        Err(error) => return vec![Item::fail(THING, error.to_string(), "")],
    };
    let item = |list: &RevocationList| {
        let next = list.next_update.as_deref().unwrap_or("not told");
        let value = format!("{} of \"{}\", next list: {next}", list.revoked, list.issuer);
        if list.is_outdated {
            Item::warn(THING, value, "fetch the authority's newest list")
        } else {
            Item::ok(THING, value)
        }
    };
    lists.iter().map(item).collect()
}

fn key(thing: &str, path: &Path, absent: &str) -> Item {
    let shown = path.display();
    match pem(path) {
        Err(error) => unreadable(thing, path, &error, absent),
        Ok((text, _)) if !text.contains("PRIVATE KEY-----") => {
            Item::fail(thing, format!("{shown} holds no PEM private key"), "convert it with `openssl pkey`")
        }
        Ok((text, _)) if text.contains("ENCRYPTED") => Item::fail(
            thing,
            format!("{shown} is encrypted"),
            "a daemon has nobody to ask for the passphrase: remove it with `openssl pkey` and keep mode 0600",
        ),
        Ok((_, mode)) => guarded(thing, path, mode),
    }
}

/// Whether others can read a private key.
fn guarded(thing: &str, path: &Path, mode: u32) -> Item {
    let shown = path.display();
    if mode & 0o077 == 0 {
        return Item::ok(thing, shown.to_string());
    }
    let seen = format!("{shown} has mode {:04o}, so that others can read it", mode & 0o7777);
    Item::fail(thing, seen, format!("chmod 600 {shown}"))
}

/// Whether it can be opened, and by its owner alone.
fn unread_key(thing: &str, path: &Path, absent: &str) -> Item {
    match File::open(path).and_then(|file| file.metadata()) {
        Err(error) => unreadable(thing, path, &error, absent),
        Ok(metadata) => guarded(thing, path, metadata.permissions().mode()),
    }
}

fn unreadable(thing: &str, path: &Path, error: &io::Error, absent: &str) -> Item {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => absent,
        io::ErrorKind::PermissionDenied => "run as root or as the user of the service",
        _ => "name a PEM file",
    };
    Item::fail(thing, format!("{}: {error}", path.display()), remedy)
}

/// The text and the mode of a PEM file.
fn pem(path: &Path) -> io::Result<(String, u32)> {
    let metadata = path.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut text = String::new();
    File::open(path)?.take(PEM_BYTES_MAX).read_to_string(&mut text)?;
    Ok((text, metadata.permissions().mode()))
}
