//! Certificates and keys on the disk: whole or not there, at whatever moment the command ends.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::process::{Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_choreoctl");

/// Every file below a folder with its text.
fn files(folder: &std::path::Path) -> Vec<(std::path::PathBuf, String)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let inside = |path: std::path::PathBuf| {
        if path.is_dir() { files(&path) } else { vec![(path.clone(), fs::read_to_string(&path).unwrap())] }
    };
    entries.flat_map(inside).collect()
}

/// Whether a certificate and a key in PEM are whole and belong together.
fn is_pair(certificate: &str, key: &str) -> bool {
    use rcgen::PublicKeyData as _;
    let Ok(key) = rcgen::KeyPair::from_pem(key) else {
        return false;
    };
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()) else {
        return false;
    };
    pem.parse_x509().is_ok_and(|parsed| parsed.public_key().raw == key.subject_public_key_info())
}

/// KILLS and SEED in the environment are at how many moments it is killed, and which.
#[test]
fn a_kill_at_any_moment_loses_no_key() {
    use std::os::unix::fs::PermissionsExt as _;
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse::<u64>().unwrap());
    let mut random = fastrand::Rng::with_seed(number("SEED", 1));
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("certs");
    let run = |args: &[&str]| Command::new(BINARY).args(args).current_dir(root.path()).output().unwrap();
    let commands = [
        ("ca", &["certs", "ca", "--out-dir", "certs", "--force"][..]),
        ("tls", &["certs", "client", "--plane-id", "a", "--ca-dir", "certs", "--force"]),
        ("tls", &["certs", "renew", "--dir", "certs"]),
    ];
    let mut cut = 0;
    for round in 0..number("KILLS", 200) {
        if round % 25 == 0 {
            // From nothing, too: the folder appears whole.
            let _ = fs::remove_dir_all(&folder);
        } else if !folder.join("tls.key").exists() {
            commands[..2].iter().for_each(|(_, args)| drop(run(args)));
        }
        let (name, args) = commands[if round % 25 == 0 { 0 } else { random.usize(..commands.len()) }];
        let before = fs::read_to_string(folder.join(format!("{name}.key"))).ok();
        let mut child = Command::new(BINARY).args(args).current_dir(root.path()).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(random.u64(..12_000)));
        child.kill().unwrap();
        cut += u64::from(child.wait().unwrap().code().is_none());

        let all = files(root.path());
        for (path, text) in all.iter().filter(|(_, text)| text.contains("PRIVATE KEY")) {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
            let whole = rcgen::KeyPair::from_pem(text).is_ok();
            assert!(whole || path.to_string_lossy().contains(".choreoctl-new-"), "{} is cut", path.display());
        }
        assert!(before.as_ref().is_none_or(|key| all.iter().any(|(_, text)| text == key)), "{args:?} lost the key");
        if folder.exists() {
            assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
            let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
            let of = |ending: &str| {
                // What is finished and not in its place yet comes first.
                text(&format!(".choreoctl-next/{name}.{ending}")).or_else(|| text(&format!("{name}.{ending}")))
            };
            let new = of("crt").zip(of("key")).is_some_and(|(certificate, key)| is_pair(&certificate, &key));
            let old = text(&format!("{name}.crt.old")).zip(text(&format!("{name}.key.old")));
            let old = old.is_some_and(|(certificate, key)| is_pair(&certificate, &key));
            assert!(new || old || before.is_none(), "{args:?} left no whole pair: {all:#?}");
        }
        let again = run(args);
        assert!(again.status.success(), "{args:?}: {}", String::from_utf8_lossy(&again.stderr));
        let text = |ending: &str| fs::read_to_string(folder.join(format!("{name}.{ending}"))).unwrap();
        assert!(is_pair(&text("crt"), &text("key")), "{args:?}");
        let left = files(root.path()).into_iter().find(|(path, _)| path.to_string_lossy().contains("/.choreoctl-"));
        assert!(left.is_none(), "{left:?} stays");
        if name == "ca" && folder.join("tls.key").exists() {
            drop(run(commands[1].1));
        }
    }
    println!("{cut} were cut off");
}

#[test]
fn two_at_once_end_with_one_pair() {
    for _ in 0..20 {
        let root = tempfile::tempdir().unwrap();
        let start = || {
            let mut command = Command::new(BINARY);
            command.args(["certs", "ca", "--out-dir", "certs"]).current_dir(root.path());
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let mut all: Vec<_> = (0..3).map(|_| start()).collect();
        let codes: Vec<_> = all.iter_mut().map(|child| child.wait().unwrap().code().unwrap()).collect();
        assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
        let text = |name: &str| fs::read_to_string(root.path().join("certs").join(name)).unwrap();
        assert!(is_pair(&text("ca.crt"), &text("ca.key")));
        assert_eq!(files(root.path()).len(), 3);
    }
}

#[test]
fn links_and_folders_of_others_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let output = Command::new(BINARY).args(args).current_dir(root.path()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    fs::create_dir(root.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", root.path().join("link")).unwrap();
    let (code, error) = run(&["certs", "ca", "--out-dir", "link"]);
    assert!(code == Some(2) && error.contains("link is a symbolic link"), "{error}");
    std::os::unix::fs::symlink("elsewhere", root.path().join("real/ca.key")).unwrap();
    let (code, error) = run(&["certs", "ca", "--out-dir", "real", "--force"]);
    assert!(code == Some(2) && error.contains("ca.key is a symbolic link"), "{error}");
    assert_eq!(fs::read_dir(root.path().join("real")).unwrap().count(), 1);
    let foreign = root.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    // Only root can give a folder away.
    if std::os::unix::fs::chown(&foreign, Some(12345), None).is_ok() {
        let (code, error) = run(&["certs", "ca", "--out-dir", "foreign"]);
        assert!(code == Some(2) && error.contains("belongs to somebody else"), "{error}");
    }
}
