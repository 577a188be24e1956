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
        assert!(code == Some(2) && error.contains("belongs to another user"), "{error}");
    }
}

/// Verbs that write files into a folder, as a shell takes them. C is the program, and S holds what they read.
const WRITERS: [&str; 9] = [
    "C certs ca --out-dir D/new --force",
    "C certs ca --out-dir D --force",
    "C certs client --plane-id a --ca-dir S --out-dir D --force",
    "C certs request --plane-id a --out-dir D --force",
    "C certs sign --csr S/request/tls.csr --ca-dir S --out-dir D --force",
    "C certs renew --dir S --out-dir D --force",
    "C validate --fix D/mistyped.yaml",
    "C migrate -f S/plane.yaml --out-dir D --force",
    "C bootstrap a --out-dir D --gateway-url wss://localhost/ws --yes",
];

const PLANE: &str = "apiVersion: openchoreo.dev/v1alpha1\nkind: ClusterBuildPlane\nmetadata: {name: a}\nspec:\n  planeID: A_b\n  clusterAgent: {clientCA: {secretRef: {name: ca, namespace: s, key: k}}}\n";

/// Runs a line of shell in which C, D and S are meant; its exit code, and what it printed. It fails where that hangs.
fn shell(line: &str, root: &std::path::Path) -> (Option<i32>, String) {
    let place = |name: &str| root.join(name).to_str().unwrap().to_owned();
    let words = line.split(' ').map(|word| match word {
        "C" => format!("timeout -k 1 20 {BINARY}"),
        word if word == "D" || word == "S" || word.starts_with("D/") || word.starts_with("S/") => place(word),
        word => word.to_owned(),
    });
    let line = words.collect::<Vec<_>>().join(" ");
    let output = Command::new("sh").args(["-c", &line]).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains("panicked") && !matches!(output.status.code(), Some(124 | 137)), "{line}: {text}");
    (output.status.code(), text)
}

/// A root with S, what verbs read, and D, a folder that holds the same.
fn ground() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for folder in ["S", "D"] {
        fs::create_dir(root.path().join(folder)).unwrap();
        fs::write(root.path().join(folder).join("plane.yaml"), PLANE).unwrap();
        fs::write(root.path().join(folder).join("mistyped.yaml"), PLANE.replace("planeID: A_b", "planeId: a")).unwrap();
    }
    for line in ["ca --out-dir S", "client --plane-id a --ca-dir S", "request --plane-id a --out-dir S/request"] {
        assert_eq!(shell(&format!("C certs {line}"), root.path()).0, Some(0));
    }
    root
}

#[test]
fn what_cannot_be_written_is_reported_and_leaves_nothing_half_written() {
    // Within namespaces of its own, a user may mount.
    let mounted = |options: &str, line: &str| {
        format!(
            "unshare -rm sh -c \"mount -t tmpfs -o size=16k,{options} none D && {{ cp S/plane.yaml S/mistyped.yaml D/ ; {line} ; }}\""
        )
        .replace(" D ", " DIR ")
        .replace(" D/ ", " DIR/ ")
    };
    let can_mount = shell("unshare -rm mount -t tmpfs none /mnt", tempfile::tempdir().unwrap().path()).0 == Some(0);
    if !can_mount {
        println!("skipped: full and read-only disks need the right to mount");
    }
    let mut count = 0;
    for writer in WRITERS {
        for (circumstance, is_reported) in [
            ("full", true),
            ("read-only", true),
            ("no HOME", false),
            ("umask 000", false),
            ("closed", false),
            ("1 column", false),
        ] {
            let root = ground();
            let place = root.path().join("D").to_str().unwrap().to_owned();
            let line = match circumstance {
                "full" | "read-only" if !can_mount => continue,
                "full" => mounted("rw", &format!("cat /dev/zero > D/fill 2> /dev/null ; {writer}")),
                "read-only" => mounted("rw", &format!("mount -o remount,ro D ; {writer}")),
                "no HOME" => format!("unset HOME XDG_CONFIG_HOME ; {writer}"),
                "umask 000" => format!("umask 000 ; {writer}"),
                "closed" => format!("{writer} >&- 2>&-"),
                _ => format!("export COLUMNS=1 ; {writer}"),
            };
            let line = line
                .replace("DIR", &place)
                .replace("> D/fill", &format!("> {place}/fill"))
                .replace("remount,ro D", &format!("remount,ro {place}"));
            let (code, text) = shell(&line, root.path());
            count += 1;
            if is_reported {
                assert_eq!(code, Some(2), "{circumstance}: {line}: {text}");
            } else {
                assert_eq!(code, Some(0), "{circumstance}: {line}: {text}");
            }
            for (path, text) in files(&root.path().join("D")) {
                use std::os::unix::fs::PermissionsExt as _;
                let mode = fs::metadata(&path).unwrap().permissions().mode();
                assert!(
                    !text.contains("PRIVATE KEY") || mode & 0o077 == 0,
                    "{circumstance}: {writer}: {}",
                    path.display()
                );
                assert!(
                    !text.is_empty() && !path.to_string_lossy().contains(".choreoctl-"),
                    "{circumstance}: {writer}: {} stays",
                    path.display()
                );
            }
        }
    }
    println!("{count} pairs of a writing verb and a circumstance");
}

#[test]
fn a_pipe_that_nobody_reads_does_not_keep_the_program_from_ending() {
    let root = ground();
    let at = |name: &str| root.path().join(name);
    assert!(Command::new("mkfifo").arg(at("D/out.yaml")).status().unwrap().success());
    fs::rename(at("D/out.yaml"), at("D/plane.yaml")).unwrap();
    let mut command = Command::new(BINARY);
    command.args(["migrate", "--force", "-f"]).arg(at("S/plane.yaml")).arg("--out-dir").arg(at("D"));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(child.try_wait().unwrap().is_none(), "it waits for a reader");
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    for _ in 0..100 {
        if let Some(status) = child.try_wait().unwrap() {
            return assert_eq!(status.code(), Some(143));
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    child.kill().unwrap();
    panic!("it does not end");
}

#[test]
fn a_umask_takes_no_rights_from_the_owner_of_a_folder() {
    use std::os::unix::fs::PermissionsExt as _;
    let root = tempfile::tempdir().unwrap();
    let line = format!("umask 777; exec timeout 20 {BINARY} certs ca --out-dir certs");
    let done = Command::new("sh").args(["-c", &line]).current_dir(root.path()).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let folder = root.path().join("certs");
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let entries = fs::read_dir(root.path()).unwrap().count();
    assert_eq!(entries, 1, "nothing unfinished is left");
}

#[test]
fn what_is_in_the_place_of_a_file_is_not_followed() {
    for (writer, name) in [
        (WRITERS[1], "ca.key"),
        (WRITERS[2], "tls.key"),
        (WRITERS[3], "tls.csr"),
        (WRITERS[4], "tls.crt"),
        (WRITERS[5], "tls.key"),
    ] {
        let root = ground();
        let place = root.path().join("D").join(name);
        let _ = fs::remove_file(&place);
        std::os::unix::fs::symlink("../S/plane.yaml", &place).unwrap();
        let (code, text) = shell(writer, root.path());
        assert!(code == Some(2) && text.contains("is a symbolic link"), "{writer}: {text}");
        assert_eq!(fs::read_to_string(root.path().join("S/plane.yaml")).unwrap(), PLANE, "{writer}");
        // Nobody reads from this one, and it is replaced or refused.
        fs::remove_file(&place).unwrap();
        assert!(Command::new("mkfifo").arg(&place).status().unwrap().success());
        let (code, text) = shell(writer, root.path());
        assert!(matches!(code, Some(0 | 2)), "{writer}: {text}");
    }
}

#[test]
fn a_terminal_of_one_column_changes_no_exit_code() {
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("skipped: there is no `script` to make a terminal");
        return;
    }
    let root = ground();
    for line in [
        "C get -f S/plane.yaml",
        "C get -f S/plane.yaml -o wide",
        "C describe -f S/plane.yaml",
        "C doctor -f S/plane.yaml",
        "C forecast -f S/plane.yaml",
        "C validate S/plane.yaml S/mistyped.yaml",
        "C certs inspect S/tls.crt",
        "C certs ca --out-dir D/new",
        "C --help",
    ] {
        let plain = shell(line, root.path());
        fs::remove_dir_all(root.path().join("D/new")).ok();
        let narrow = shell(&format!("script -qec 'stty cols 1 rows 1; {line}' /dev/null"), root.path());
        assert_eq!(narrow.0, plain.0, "{line}: {}", narrow.1);
        assert!(!narrow.1.is_empty(), "{line}");
    }
}

#[test]
fn a_full_disk_behind_standard_output_is_an_error() {
    if !std::path::Path::new("/dev/full").exists() {
        println!("skipped: there is no /dev/full");
        return;
    }
    let root = ground();
    for line in [
        "C certs secret S -n n",
        "C certs bundle S/ca.crt",
        "C certs inspect S/tls.crt",
        "C crd cwp",
        "C completions bash",
        "C get -f S/plane.yaml",
        "C get -f S/plane.yaml -o json",
        "C describe -f S/plane.yaml",
        "C doctor -f S/plane.yaml",
        "C forecast -f S/plane.yaml",
        "C validate S/plane.yaml",
        "C validate --list-rules",
        "C --version",
        "C --help",
    ] {
        let (code, text) = shell(&format!("{line} > /dev/full"), root.path());
        assert!(code == Some(2) && text.contains("could not write to standard output"), "{line}: {code:?} {text}");
    }
}
