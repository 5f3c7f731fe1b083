use std::path::PathBuf;

use postern::config::{FaultPolicy, Ocsp, Tls, Verdict};
use postern::handshake::verify::CertificateFault::{self, Expired, OcspMissing, Revoked, Untrusted};
use postern::handshake::verify::{
    CrlAnswer, Faults, Judge, Judgement, NoOcspAnswer, OCSP_RESPONSE_BYTES_MAX, OcspAnswer,
};
use rcgen::{
    CertificateParams, CertificateRevocationListParams, CustomExtension, ExtendedKeyUsagePurpose,
    KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use tempfile::TempDir;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::pki::{Ca, GOOD, HOST, PAST, lasting, leaf_params, now, strict, tls};
use crate::responses::{Said, Signer, der};

const MODES: [Ocsp; 3] = [Ocsp::Disabled, Ocsp::Lenient, Ocsp::Strict];

/// An authority, a server's certificate, and what a profile is judged with.
struct Scene {
    root: Ca,
    leaf: CertificateDer<'static>,
    dir: TempDir,
}

impl Scene {
    fn new() -> Self {
        let root = Ca::root("Root");
        let leaf = root.leaf(&[HOST], GOOD);
        Self { root, leaf, dir: TempDir::new().unwrap() }
    }

    fn profile(&self, ocsp: Ocsp, crls: &[&[u8]]) -> Tls {
        let file = |name: String, octets: &[u8]| -> PathBuf {
            let file = self.dir.path().join(name);
            std::fs::write(&file, octets).unwrap();
            file
        };
        let roots = file("roots.pem".to_owned(), self.root.pem.as_bytes());
        let crls = crls.iter().zip(0..).map(|(crl, number)| file(format!("{number}.crl"), crl)).collect();
        Tls { ocsp, crls, ..tls(vec![roots], strict()) }
    }

    fn judged(&self, ocsp: Ocsp, crls: &[&[u8]], chain: &[CertificateDer<'_>], staple: &[u8]) -> Judgement {
        let judge = Judge::load(&self.profile(ocsp, crls)).unwrap();
        judge.judge_stapled(chain, staple, Some(HOST), UnixTime::now())
    }

    fn stapled(&self, ocsp: Ocsp, staple: &[u8]) -> Judgement {
        self.judged(ocsp, &[], std::slice::from_ref(&self.leaf), staple)
    }

    fn said(&self, said: &Said) -> Vec<u8> {
        Signer::issuer(&self.root).sign(&[said.about(&self.leaf, &self.root)])
    }

    fn answer(&self, staple: &[u8]) -> OcspAnswer {
        self.stapled(Ocsp::Strict, staple).revocation.ocsp.unwrap()
    }
}

fn faults(found: &[CertificateFault]) -> Faults {
    found.iter().copied().collect()
}

fn nothing(why: NoOcspAnswer) -> OcspAnswer {
    OcspAnswer::Nothing(why)
}

fn serial(cert: &CertificateDer<'_>) -> SerialNumber {
    SerialNumber::from_slice(X509Certificate::from_der(cert).unwrap().1.raw_serial())
}

/// A list of the authority's, made so many days ago for so many days.
fn crl(ca: &Ca, revoked: &[&CertificateDer<'_>], (from, to): (i64, i64)) -> Vec<u8> {
    let at = |days: i64| OffsetDateTime::from_unix_timestamp(now() + days * 86_400).unwrap();
    let entry = |cert: &&CertificateDer<'_>| RevokedCertParams {
        serial_number: serial(cert),
        revocation_time: at(from),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: at(from),
        next_update: at(to),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&ca.issuer).unwrap().der().to_vec()
}

const CURRENT: (i64, i64) = (-1, 6);

#[test]
fn each_mode_does_with_each_answer_what_it_promises() {
    let scene = Scene::new();
    let none: &[CertificateFault] = &[];
    let cases: [(Vec<u8>, [&[CertificateFault]; 3]); 5] = [
        (scene.said(&Said::good()), [none, none, none]),
        (scene.said(&Said::revoked()), [none, &[Revoked], &[Revoked]]),
        (scene.said(&Said::unknown()), [none, none, &[OcspMissing]]),
        (b"garbage".to_vec(), [none, none, &[OcspMissing]]),
        (Vec::new(), [none, none, &[OcspMissing]]),
    ];
    for (staple, expected) in cases {
        for (mode, expected) in MODES.into_iter().zip(expected) {
            let judged = scene.stapled(mode, &staple);
            assert_eq!(judged.faults, faults(expected), "{mode:?} {staple:02x?}");
            let verdict = if expected.is_empty() { Verdict::Allow } else { Verdict::Block };
            assert_eq!(judged.verdict, verdict);
        }
    }
}

#[test]
fn both_faults_have_the_owners_verdicts() {
    let scene = Scene::new();
    let verdict = |revoked, ocsp_missing, staple: &[u8]| {
        let faults = FaultPolicy { revoked, ocsp_missing, ..strict() };
        let profile = Tls { faults, ..scene.profile(Ocsp::Strict, &[]) };
        let judge = Judge::load(&profile).unwrap();
        judge.judge_stapled(std::slice::from_ref(&scene.leaf), staple, Some(HOST), UnixTime::now()).verdict
    };
    let revoked = scene.said(&Said::revoked());
    assert_eq!(verdict(Verdict::Mirror, Verdict::Block, &revoked), Verdict::Mirror);
    assert_eq!(verdict(Verdict::Block, Verdict::Allow, &[]), Verdict::Allow);
}

#[test]
fn the_time_of_an_answer_counts_except_for_a_revocation() {
    let scene = Scene::new();
    let answer = |this_update, next_update, said: Said| {
        scene.answer(&scene.said(&Said { this_update, next_update, ..said }))
    };
    let is_good = |answer| matches!(answer, OcspAnswer::Good { .. });
    assert!(is_good(answer(-60, Some(60), Said::good())));
    assert!(is_good(answer(200, Some(600), Said::good())), "a responder's clock may be ahead");
    assert_eq!(answer(900, Some(1_800), Said::good()), nothing(NoOcspAnswer::NotYetValid));
    assert_eq!(answer(-7_200, Some(-60), Said::good()), nothing(NoOcspAnswer::Outdated));
    assert!(is_good(answer(-3_600, None, Said::good())));
    assert_eq!(answer(-90_000, None, Said::good()), nothing(NoOcspAnswer::Outdated));
    assert_eq!(answer(-900_000, Some(-800_000), Said::revoked()), OcspAnswer::Revoked, "once is for ever");
    assert_eq!(answer(900, Some(1_800), Said::revoked()), nothing(NoOcspAnswer::NotYetValid));
    let good = scene.stapled(Ocsp::Lenient, &scene.said(&Said::good()));
    let until = good.resumable_until().unwrap().as_secs();
    assert!(until.abs_diff(UnixTime::now().as_secs() + 86_400) < 60, "sessions are resumed until then");
}

#[test]
fn an_answer_counts_only_from_the_issuer_or_a_responder_that_it_appointed() {
    let scene = Scene::new();
    let Scene { root, leaf, .. } = &scene;
    let single = Said::good().about(leaf, root);
    let appoint = |by: &Ca, bend: &dyn Fn(&mut CertificateParams)| {
        let key = KeyPair::generate().unwrap();
        let mut params = leaf_params(&["responder.example"], GOOD);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
        bend(&mut params);
        let cert = params.signed_by(&key, &by.issuer).unwrap().der().clone();
        (key, cert)
    };
    let by = |(key, cert): &(KeyPair, CertificateDer<'static>)| {
        scene.answer(&Signer::responder(key, cert.clone()).sign(std::slice::from_ref(&single)))
    };
    let is_good = |answer| matches!(answer, OcspAnswer::Good { .. });
    assert!(is_good(scene.answer(&Signer::issuer(root).sign(std::slice::from_ref(&single)))));
    let by_key = Signer { name: None, ..Signer::issuer(root) };
    assert!(is_good(scene.answer(&by_key.sign(std::slice::from_ref(&single)))));
    let appointed = appoint(root, &|_| ());
    assert!(is_good(by(&appointed)));
    let unsigned = nothing(NoOcspAnswer::Unsigned);
    let stranger = Ca::root("Root");
    assert_eq!(scene.answer(&Signer::issuer(&stranger).sign(std::slice::from_ref(&single))), unsigned);
    assert_eq!(by(&appoint(&stranger, &|_| ())), unsigned);
    let server = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    assert_eq!(by(&appoint(root, &server)), unsigned, "any server of the authority's could speak");
    assert_eq!(by(&appoint(root, &|params| params.extended_key_usages.clear())), unsigned);
    assert_eq!(by(&appoint(root, &|params| lasting(params, PAST))), unsigned, "expired");
    let below = root.intermediate(GOOD);
    assert_eq!(by(&appoint(&below, &|_| ())), unsigned, "appointed by another authority");
    let mut named = Signer::responder(&appointed.0, appointed.1.clone());
    named.name = Some(crate::responses::subject(&root.der));
    assert_eq!(scene.answer(&named.sign(std::slice::from_ref(&single))), unsigned, "under another's name");
    // A responder whose certificate was revoked speaks for nobody.
    let list = crl(root, &[&appointed.1], CURRENT);
    let staple = Signer::responder(&appointed.0, appointed.1.clone()).sign(&[single]);
    let judged = scene.judged(Ocsp::Strict, &[&list], std::slice::from_ref(leaf), &staple);
    assert_eq!(judged.revocation.ocsp, Some(unsigned));
}

#[test]
fn an_answer_counts_only_for_the_certificate_that_it_names() {
    let scene = Scene::new();
    let Scene { root, leaf, .. } = &scene;
    let other = root.leaf(&[HOST], GOOD);
    let namesake = Ca::root("Root");
    let signer = Signer::issuer(root);
    let alien = nothing(NoOcspAnswer::OtherCertificate);
    assert_eq!(scene.answer(&signer.sign(&[Said::good().about(&other, root)])), alien);
    assert_eq!(scene.answer(&signer.sign(&[Said::good().about(leaf, &namesake)])), alien, "another key");
    assert_eq!(scene.answer(&signer.sign(&[])), alien);
    let sha256 = Said { sha256: true, ..Said::good() };
    assert!(matches!(scene.answer(&scene.said(&sha256)), OcspAnswer::Good { .. }));
    let mixed = [Said::revoked().about(&other, root), Said::good().about(leaf, root)];
    assert!(matches!(scene.answer(&signer.sign(&mixed)), OcspAnswer::Good { .. }));
    let both = [Said::good().about(leaf, root), Said::revoked().about(leaf, root)];
    assert_eq!(scene.answer(&signer.sign(&both)), OcspAnswer::Revoked, "the worst counts");
    let critical = Said { critical: true, ..Said::good() };
    assert_eq!(scene.answer(&scene.said(&critical)), nothing(NoOcspAnswer::Malformed));
}

#[test]
fn no_cut_or_changed_response_is_believed() {
    let scene = Scene::new();
    let key = KeyPair::generate().unwrap();
    let mut params = leaf_params(&["responder.example"], GOOD);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
    let cert = params.signed_by(&key, &scene.root.issuer).unwrap().der().clone();
    let single = Said::revoked().about(&scene.leaf, &scene.root);
    let whole = Signer::responder(&key, cert).sign(&[single]);
    let judge = Judge::load(&scene.profile(Ocsp::Strict, &[])).unwrap();
    let answer = |staple: &[u8]| {
        let chain = std::slice::from_ref(&scene.leaf);
        judge.judge_stapled(chain, staple, Some(HOST), UnixTime::now()).revocation.ocsp.unwrap()
    };
    assert_eq!(answer(&whole), OcspAnswer::Revoked);
    assert_eq!(answer(&[]), nothing(NoOcspAnswer::Absent));
    for length in 1..whole.len() {
        assert_eq!(answer(&whole[..length]), nothing(NoOcspAnswer::Malformed), "{length}");
    }
    assert_eq!(answer(&[whole.as_slice(), &[0]].concat()), nothing(NoOcspAnswer::Malformed));
    // Of what is signed nothing can be changed, and of the rest nothing helps.
    for place in 0..whole.len() {
        let mut changed = whole.clone();
        changed[place] ^= 1;
        assert!(!matches!(answer(&changed), OcspAnswer::Good { .. }), "{place}");
    }
    let refused = der(0x30, &der(10, &[6]));
    assert_eq!(answer(&refused), nothing(NoOcspAnswer::Error), "unauthorized");
    assert_eq!(answer(&vec![0x30; OCSP_RESPONSE_BYTES_MAX + 1]), nothing(NoOcspAnswer::Malformed));
}

#[test]
fn a_certificate_that_demands_a_stapled_answer_gets_one_or_has_a_fault() {
    let mut scene = Scene::new();
    let mut params = leaf_params(&[HOST], GOOD);
    let feature = |number: u8| {
        CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 24], vec![0x30, 3, 2, 1, number])
    };
    params.custom_extensions = vec![feature(5)];
    scene.leaf = scene.root.issue(&params);
    assert_eq!(scene.stapled(Ocsp::Disabled, &[]).faults, faults(&[]));
    assert_eq!(scene.stapled(Ocsp::Lenient, &[]).faults, faults(&[OcspMissing]));
    assert_eq!(scene.stapled(Ocsp::Lenient, &scene.said(&Said::unknown())).faults, faults(&[OcspMissing]));
    assert_eq!(scene.stapled(Ocsp::Lenient, &scene.said(&Said::good())).faults, faults(&[]));
    assert_eq!(scene.stapled(Ocsp::Strict, &scene.said(&Said::revoked())).faults, faults(&[Revoked]));
    // It demands a stapled answer: a list is none.
    let list = crl(&scene.root, &[], CURRENT);
    let listed = scene.judged(Ocsp::Lenient, &[&list], std::slice::from_ref(&scene.leaf), &[]);
    assert_eq!(listed.faults, faults(&[OcspMissing]));
    params.custom_extensions = vec![feature(17)];
    scene.leaf = scene.root.issue(&params);
    assert_eq!(scene.stapled(Ocsp::Lenient, &[]).faults, faults(&[]), "status_request_v2 is another demand");
}

#[test]
fn a_list_revokes_under_every_mode_and_clears_under_strict() {
    let scene = Scene::new();
    let Scene { root, leaf, .. } = &scene;
    let other = root.leaf(&[HOST], GOOD);
    let judged = |mode, list: &[u8]| scene.judged(mode, &[list], std::slice::from_ref(leaf), &[]);
    let (revoking, clearing) = (crl(root, &[&other, leaf], CURRENT), crl(root, &[&other], CURRENT));
    for mode in MODES {
        assert_eq!(judged(mode, &revoking).faults, faults(&[Revoked]), "{mode:?}");
        assert_eq!(judged(mode, &clearing).faults, faults(&[]), "{mode:?}");
        assert_eq!(judged(mode, &clearing).revocation.lists, Some(CrlAnswer::Good));
    }
    let old = (-30, -10);
    assert_eq!(judged(Ocsp::Disabled, &crl(root, &[leaf], old)).faults, faults(&[Revoked]), "an old list");
    assert_eq!(judged(Ocsp::Strict, &crl(root, &[], old)).faults, faults(&[OcspMissing]), "clears nobody");
    let namesake = Ca::root("Root");
    let forged = crl(&namesake, &[leaf], CURRENT);
    assert_eq!(judged(Ocsp::Disabled, &forged).faults, faults(&[]), "another's signature");
    assert_eq!(judged(Ocsp::Strict, &crl(&namesake, &[], CURRENT)).faults, faults(&[OcspMissing]));
    // Nor does it hide the list behind it.
    let both = [forged.as_slice(), &revoking];
    let judged = scene.judged(Ocsp::Lenient, &both, std::slice::from_ref(leaf), &[]);
    assert_eq!(judged.faults, faults(&[Revoked]));
    // A good stapled answer does not make a revoked certificate good.
    let staple = scene.said(&Said::good());
    let judged = scene.judged(Ocsp::Strict, &[&revoking], std::slice::from_ref(leaf), &staple);
    assert_eq!(judged.faults, faults(&[Revoked]));
}

#[test]
fn a_revoked_issuer_revokes_what_it_issued_unless_another_path_is_good() {
    let scene = Scene::new();
    let Scene { root, .. } = &scene;
    let issuer = root.intermediate(GOOD);
    let chain = [issuer.leaf(&[HOST], GOOD), issuer.der.clone()];
    let list = crl(root, &[&issuer.der], CURRENT);
    assert_eq!(scene.judged(Ocsp::Disabled, &[&list], &chain, &[]).faults, faults(&[Revoked]));
    // The server's operator cannot hide it behind a namesake with another key.
    let hiding = [chain[0].clone(), root.intermediate(GOOD).der, chain[1].clone()];
    assert_eq!(scene.judged(Ocsp::Disabled, &[&list], &hiding, &[]).faults, faults(&[Revoked]));
    let again = issuer_again(root, &issuer);
    let renewed = [chain[0].clone(), chain[1].clone(), again];
    assert_eq!(scene.judged(Ocsp::Disabled, &[&list], &renewed, &[]).faults, faults(&[]));
    let staple = Signer::issuer(&issuer).sign(&[Said::good().about(&chain[0], &issuer)]);
    let judged = scene.judged(Ocsp::Strict, &[&crl(root, &[], CURRENT)], &chain, &staple);
    assert_eq!(judged.faults, faults(&[]), "the issuer below the root answers");
}

#[test]
fn an_authority_with_a_new_key_that_the_old_one_certified_revokes_under_either_key() {
    let scene = Scene::new();
    let (old, new) = (&scene.root, Ca::root("Root"));
    let new_with_old = crate::pki::ca_params("Root", GOOD).signed_by(new.issuer.key(), &old.issuer).unwrap();
    let chain = [new.leaf(&[HOST], GOOD), new_with_old.der().clone()];
    let judged = |roots: &[&Ca], lists: &[&[u8]]| {
        let profile = scene.profile(Ocsp::Disabled, lists);
        let roots: Vec<_> = roots.iter().map(|root| root.pem.as_str()).collect();
        std::fs::write(scene.dir.path().join("roots.pem"), roots.concat()).unwrap();
        let judge = Judge::load(&profile).unwrap();
        judge.judge_stapled(&chain, &[], Some(HOST), UnixTime::now()).faults
    };
    let (by_new, by_old) = (crl(&new, &[&chain[0]], CURRENT), crl(old, &[&chain[1]], CURRENT));
    for roots in [&[old] as &[&Ca], &[&new], &[old, &new], &[&new, old]] {
        assert_eq!(judged(roots, &[]), faults(&[]));
        assert_eq!(judged(roots, &[&by_new]), faults(&[Revoked]), "the leaf, {} roots", roots.len());
        assert_eq!(judged(roots, &[&crl(&new, &[], CURRENT)]), faults(&[]));
        let is_root = roots.iter().any(|root| root.der == new.der);
        let expected = if is_root { faults(&[]) } else { faults(&[Revoked]) };
        assert_eq!(
            judged(roots, &[&by_old]),
            expected,
            "the certificate of the new key, which is a root now"
        );
    }
}

/// The same authority with the same key, under a certificate of its own.
fn issuer_again(root: &Ca, issuer: &Ca) -> CertificateDer<'static> {
    let mut params = crate::pki::ca_params("Intermediate", GOOD);
    params.serial_number = Some(SerialNumber::from(77));
    params.signed_by(issuer.issuer.key(), &root.issuer).unwrap().der().clone()
}

#[test]
fn nobody_speaks_for_a_certificate_of_a_stranger_and_an_expired_one_can_be_revoked() {
    let mut scene = Scene::new();
    let stranger = Ca::root("Stranger");
    let leaf = stranger.leaf(&[HOST], GOOD);
    let staple = Signer::issuer(&stranger).sign(&[Said::revoked().about(&leaf, &stranger)]);
    let judged = scene.judged(Ocsp::Lenient, &[], std::slice::from_ref(&leaf), &staple);
    assert_eq!(judged.faults, faults(&[Untrusted]));
    assert_eq!(judged.revocation.ocsp, Some(nothing(NoOcspAnswer::NoIssuer)));
    scene.leaf = scene.root.leaf(&[HOST], PAST);
    let revoked = scene.said(&Said::revoked());
    assert_eq!(scene.stapled(Ocsp::Lenient, &revoked).faults, faults(&[Expired, Revoked]));
    let list = crl(&scene.root, &[&scene.leaf], CURRENT);
    let judged = scene.judged(Ocsp::Disabled, &[&list], std::slice::from_ref(&scene.leaf), &[]);
    assert_eq!(judged.faults, faults(&[Expired, Revoked]));
}

#[test]
fn lists_are_read_in_pem_and_der_and_what_is_none_is_named() {
    let scene = Scene::new();
    let list = crl(&scene.root, &[&scene.leaf], CURRENT);
    let file = scene.dir.path().join("pem.crl");
    let encoded = |der: &[u8]| {
        let mut command = std::process::Command::new("openssl");
        std::fs::write(scene.dir.path().join("der"), der).unwrap();
        command.args(["crl", "-inform", "der", "-in"]).arg(scene.dir.path().join("der"));
        assert!(command.arg("-out").arg(&file).status().unwrap().success());
        std::fs::read(&file).unwrap()
    };
    let pem = encoded(&list);
    assert!(pem.starts_with(b"-----BEGIN X509 CRL"));
    let two = [encoded(&crl(&Ca::root("Other"), &[], CURRENT)), pem].concat();
    let judged = scene.judged(Ocsp::Disabled, &[&two], std::slice::from_ref(&scene.leaf), &[]);
    assert_eq!(judged.faults, faults(&[Revoked]));
    let error =
        |octets: &[u8]| Judge::load(&scene.profile(Ocsp::Disabled, &[octets])).unwrap_err().to_string();
    assert!(error(b"nothing").contains("0.crl: holds no list"), "{}", error(b"nothing"));
    assert!(error(&list[..list.len() - 1]).contains("0.crl: list 1 cannot be used"));
    assert!(error(scene.root.der.as_ref()).contains("0.crl: list 1 cannot be used"));
    assert!(error(&vec![0x30; 5 * 1024 * 1024]).contains("more than 4194304 octets"));
    // What nobody verifies would count for nothing: ecdsa-with-SHA224 in the place of ecdsa-with-SHA256.
    let (sha256, mut sha224) = ([0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2], list.clone());
    for place in 0..list.len() - sha256.len() {
        if list[place..].starts_with(&sha256) {
            sha224[place + sha256.len() - 1] = 1;
        }
    }
    assert!(
        error(&sha224).contains("0.crl: list 1 is signed with 1.2.840.10045.4.3.1, which is not verified")
    );
    let mut profile = scene.profile(Ocsp::Disabled, &[]);
    profile.crls = vec![scene.dir.path().join("absent.crl")];
    assert!(Judge::load(&profile).unwrap_err().to_string().contains("absent.crl: cannot be read"));
}
