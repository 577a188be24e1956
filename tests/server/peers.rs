//! What others make of our certificates: zlint, openssl, Go, rustls and Python.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Once};

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;

use super::control_plane::{ControlPlane, SHARED, finish};

stories!(
    Server:
        certificates_please_others;
    Go:
        zlint_has_nothing_against_certificates,
        certificates_satisfy_a_go_server;
);

const ALGORITHMS: [&str; 6] = ["ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-2048", "rsa-3072", "rsa-4096"];

/// What zlint has against our CAs, all of it by rules for the public web that RFC 5280 doesn't have.
const PUBLIC_WEB: [&str; 4] = [
    // A country: browsers' CAs name the one that they are in.
    "error e_ca_country_name_missing CABF_BR",
    // A root without a path length: ours can't make CAs below it, which is what it is for.
    "warn w_root_ca_basic_constraints_path_len_constraint_field_present CABF_BR",
    // Ed25519 (RFC 8410): browsers take RSA and ECDSA only.
    "error e_signature_algorithm_not_supported CABF_BR",
    "error e_algorithm_identifier_improper_encoding CABF_BR",
];

/// Both ends of a handshake in memory: whether the server takes the client's certificate.
const PYTHON: &str = "
import ssl, sys
ca, certificate, key = sys.argv[1:]
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(certificate, key)
server.load_verify_locations(ca)
server.verify_mode = ssl.CERT_REQUIRED
client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
client.load_cert_chain(certificate, key)
there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
ends = [client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)]
for _ in range(10):
    for end in list(ends):
        try:
            end.do_handshake()
            ends.remove(end)
        except ssl.SSLWantReadError:
            pass
sys.exit(len(ends))
";

fn der(path: &Path) -> CertificateDer<'static> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(&std::fs::read(path).unwrap()).unwrap();
    pem.contents.into()
}

/// CAs and leaves of every algorithm, in a folder each; the leaves by `client` and by `request` and `sign`.
fn certificates(at: &ControlPlane) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| make(at));
}

fn make(at: &ControlPlane) {
    for algorithm in ALGORITHMS {
        let folder = format!("peers-{algorithm}");
        let key = ["--key-algorithm", algorithm];
        let ca = ["certs", "ca", "--out-dir", &folder];
        at.run(&[&ca[..], &key].concat()).expect(0);
        at.run(&[&["certs", "client", "--plane-id", "a", "--ca-dir", &folder][..], &key].concat()).expect(0);
        let signed = format!("{folder}/signed");
        at.run(&[&["certs", "request", "--plane-id", "a", "--out-dir", &signed][..], &key].concat()).expect(0);
        at.run(&["certs", "sign", "--csr", &format!("{signed}/tls.csr"), "--ca-dir", &folder]).expect(0);
        at.run(&["certs", "renew", "--dir", &signed, "--ca-dir", &folder]).expect(0);
    }
}

fn certificates_please_others() {
    let at = &*SHARED;
    certificates(at);
    let path = |algorithm: &str, name: &str| at.path().join(format!("peers-{algorithm}")).join(name);
    let python = Command::new("python3").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !python {
        println!("no Python here: its verdict is not asked for");
    }
    for algorithm in ALGORITHMS {
        let mut roots = RootCertStore::empty();
        roots.add(der(&path(algorithm, "ca.crt"))).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
        for leaf in ["tls", "signed/tls"] {
            let (certificate, key) = (path(algorithm, &format!("{leaf}.crt")), path(algorithm, &format!("{leaf}.key")));
            verifier.verify_client_cert(&der(&certificate), &[], UnixTime::now()).unwrap();
            let mut openssl = Command::new("openssl");
            openssl.args(["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile"]);
            openssl.args([path(algorithm, "ca.crt"), certificate.clone()]);
            finish(openssl, "").expect(0);
            if python {
                let mut command = Command::new("python3");
                command.args(["-c", PYTHON]).args([path(algorithm, "ca.crt"), certificate, key]);
                finish(command, "").expect(0);
            }
        }
    }
}

fn zlint_has_nothing_against_certificates() {
    let at = &*SHARED;
    certificates(at);
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/zlint");
    let mut build = Command::new("go");
    build.args(["build", "-buildvcs=false", "-o"]).arg(&program).arg(".");
    assert!(build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/zlint")).status().unwrap().success());
    let lint = |names: &[&str]| {
        let mut zlint = Command::new(&program);
        let files =
            ALGORITHMS.iter().flat_map(|algorithm| names.iter().map(move |name| format!("peers-{algorithm}/{name}")));
        zlint.args(files).current_dir(at.path());
        finish(zlint, "").expect(0).stdout
    };
    assert_eq!(lint(&["tls.crt", "signed/tls.crt"]), "");
    let against = lint(&["ca.crt"]);
    assert_eq!(against.lines().count(), 2 * ALGORITHMS.len() + 2, "{against}");
    for line in against.lines() {
        assert!(PUBLIC_WEB.iter().any(|known| line.ends_with(known)), "{line}");
    }
}

/// The gateway's rules, by Go's own crypto: a server that verifies as OpenChoreo's does.
fn certificates_satisfy_a_go_server() {
    let at = &*SHARED;
    let program = at.path().join("gateway");
    let build = Command::new("go")
        .args(["build", "-buildvcs=false", "-o"])
        .arg(&program)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway"))
        .status()
        .unwrap();
    assert!(build.success());
    let verdict = |authority: &str, folder: &str| {
        let mut command = Command::new(&program);
        command.args([authority, &format!("{folder}/tls.crt"), &format!("{folder}/tls.key")]).current_dir(at.path());
        finish(command, "").stdout.trim().to_owned()
    };
    for algorithm in ALGORITHMS {
        let folder = format!("go-{algorithm}");
        at.run(&["certs", "ca", "--out-dir", &folder, "--key-algorithm", algorithm]).expect(0);
        at.run(&["certs", "client", "--plane-id", "a", "--ca-dir", &folder, "--key-algorithm", algorithm]).expect(0);
        assert_eq!(verdict(&format!("{folder}/ca.crt"), &folder), "authorized", "{algorithm}");
    }
    assert!(verdict("go-rsa-2048/ca.crt", "go-ed25519").contains("unknown authority"));
    at.run(&["certs", "bundle", "go-rsa-2048/ca.crt", "go-ed25519/ca.crt"]).expect(0);
    at.write("both.crt", &at.run(&["certs", "bundle", "go-rsa-2048/ca.crt", "go-ed25519/ca.crt"]).stdout);
    assert_eq!(["go-rsa-2048", "go-ed25519"].map(|folder| verdict("both.crt", folder)), ["authorized", "authorized"]);

    // Keys that a user brings, as other tools write them.
    let openssl = |args: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(args).current_dir(at.path());
        finish(command, "").expect(0);
    };
    for (form, args) in [
        ("pkcs1", &["genrsa", "-traditional", "-out", "pkcs1.key", "2048"][..]),
        ("sec1", &["ecparam", "-name", "prime256v1", "-genkey", "-out", "sec1.key"]),
        ("pkcs8", &["genpkey", "-algorithm", "ED25519", "-out", "pkcs8.key"]),
    ] {
        openssl(args);
        let (key, certificate) = (format!("{form}.key"), format!("{form}.crt"));
        openssl(&[
            "req",
            "-x509",
            "-new",
            "-key",
            &key,
            "-out",
            &certificate,
            "-days",
            "30",
            "-subj",
            &format!("/C=CH/O=Example/OU=Platform/CN={form} ca"),
        ]);
        at.run(&[
            "certs",
            "client",
            "--plane-id",
            "a",
            "--ca-cert",
            &certificate,
            "--ca-key",
            &key,
            "--out-dir",
            &format!("leaf-{form}"),
        ])
        .expect(0);
        assert_eq!(verdict(&certificate, &format!("leaf-{form}")), "authorized", "{form}");
    }
    let mismatch = at
        .run(&[
            "certs",
            "client",
            "--plane-id",
            "a",
            "--ca-cert",
            "sec1.crt",
            "--ca-key",
            "pkcs1.key",
            "--out-dir",
            "leaf-mismatch",
        ])
        .expect(2);
    assert!(
        mismatch.stderr.contains("matches no certificate") && !at.path().join("leaf-mismatch").exists(),
        "{}",
        mismatch.stderr
    );
    openssl(&["req", "-x509", "-new", "-key", "sec1.key", "-out", "doubled.crt", "-subj", "/OU=a/OU=b/CN=doubled"]);
    let doubled = at
        .run(&[
            "certs",
            "client",
            "--plane-id",
            "a",
            "--ca-cert",
            "doubled.crt",
            "--ca-key",
            "sec1.key",
            "--out-dir",
            "leaf-doubled",
        ])
        .expect(2);
    assert!(doubled.stderr.contains("repeats an attribute"), "{}", doubled.stderr);
}
