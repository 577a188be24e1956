//! Who may import whom: a module only from those below it, a file of a room only from files that do not lead back to
//! it, and a crate only in its rooms.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules, from the top down.
const ORDER: [&str; 22] = [
    "main",
    "cli",
    "commands",
    "args",
    "complete",
    "render",
    "plan",
    "doctor",
    "migration",
    "validate",
    "estate",
    "config",
    "cluster",
    "gateway",
    "pki",
    "manifest",
    "plane",
    "term",
    "paint",
    "text",
    "secrets",
    "files",
];

/// What is in one place only, and where.
const ROOMS: [(&str, &[&str]); 19] = [
    ("kube::Client", &["cluster"]),
    ("kube::api", &["cluster"]),
    ("kube::runtime", &["cluster"]),
    ("kube::config", &["cluster"]),
    ("kube::client", &["cluster"]),
    ("kube::Config", &["cluster"]),
    ("hyper", &["cluster", "gateway"]),
    ("hyper_util", &["cluster", "gateway"]),
    ("tokio_rustls", &["gateway"]),
    ("rcgen", &["pki"]),
    ("x509_parser", &["pki"]),
    ("granit_parser", &["manifest"]),
    ("serde_saphyr", &["manifest"]),
    ("kube_cel", &["validate"]),
    ("rayon", &["commands", "estate", "manifest"]),
    ("comfy_table", &["render"]),
    ("jsonpath_rust", &["render"]),
    ("annotate_snippets", &["render"]),
    ("dialoguer", &["term"]),
];

/// Crates and calls that write to a stream or to the terminal.
const WRITERS: [&str; 7] = ["io::stdout", "io::stderr", "println!", "eprintln!", "print!(", "indicatif::", "colored::"];

/// Files of tests alone: what several tests of a room share, doctor's table of faults, and what readers are fuzzed with.
const TESTS: [&str; 3] = ["tests.rs", "faults.rs", "fuzz.rs"];

/// The sources below a folder.
fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs")
            && !TESTS.iter().any(|tests| path.ends_with(tests))
        {
            files.push(path);
        }
    }
}

/// The modules that know nothing of a terminal.
const PURE: [&str; 10] =
    ["render", "plan", "doctor", "migration", "estate", "gateway", "validate", "pki", "manifest", "plane"];

/// Every source file with its module and its text, tests and comments left out.
fn modules() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let module = |path: PathBuf| {
        let relative = path.strip_prefix(&root).unwrap();
        let first = relative.components().next().unwrap().as_os_str().to_string_lossy();
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("\n#[cfg(test)]\npub(crate) mod tests").next().unwrap();
        let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
        let text = text.split("\n#[cfg(all(test, unix))]\nmod tests").next().unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        (first.trim_end_matches(".rs").to_owned(), path.clone(), code.collect::<Vec<_>>().join("\n"))
    };
    files.into_iter().map(module).collect()
}

/// Whether a path such as `kube::api` is named in the code, as itself and not as a part of another name.
fn names(code: &str, path: &str) -> bool {
    code.match_indices(path).any(|(at, _)| {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        let after = code[at + path.len()..].chars().next().unwrap_or(' ');
        !before.is_alphanumeric() && !matches!(before, '_' | ':' | '.') && !after.is_alphanumeric() && after != '_'
    })
}

#[test]
fn imports_go_down() {
    let level = |module: &str| ORDER.iter().position(|known| *known == module);
    for (module, path, code) in modules() {
        let own = level(&module).unwrap_or_else(|| panic!("{} is in no room", path.display()));
        for (above, name) in ORDER.iter().enumerate().filter(|(above, _)| *above < own) {
            assert!(
                !names(&code, &format!("crate::{name}")),
                "{} imports {name}, level {above} above {own}",
                path.display()
            );
        }
    }
}

#[test]
fn pure_modules_know_no_terminal() {
    for (module, path, code) in modules().into_iter().filter(|(module, ..)| PURE.contains(&module.as_str())) {
        assert!(!names(&code, "crate::term"), "{}, of {module}, imports term", path.display());
    }
}

#[test]
fn the_table_of_the_map_is_this_one() {
    let main = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/main.rs")).unwrap();
    let rows = main.lines().filter_map(|line| line.strip_prefix("//! | `")?.split('`').next());
    assert_eq!(rows.collect::<Vec<_>>(), ORDER);
}

#[test]
fn crates_stay_in_their_rooms() {
    for (module, path, code) in modules() {
        for (name, rooms) in ROOMS {
            assert!(rooms.contains(&module.as_str()) || !names(&code, name), "{} uses {name}", path.display());
        }
    }
}

#[test]
fn only_the_terminal_layer_writes() {
    for (module, path, code) in modules() {
        for writer in WRITERS {
            assert!(
                matches!(module.as_str(), "term" | "paint") || !code.contains(writer),
                "{} uses {writer}",
                path.display()
            );
        }
    }
}

/// A source file as a module: what it is called from the root, its names that stand for paths, and the paths in its code.
struct File {
    /// `commands::certs::ca` in its parts.
    module: Vec<String>,
    /// Whether it has modules below it: it may list what they hold without using it.
    is_map: bool,
    /// What it imports: the name in this file, and the path from the root.
    imports: BTreeMap<String, Vec<String>>,
    /// What it imports only for the methods.
    traits: Vec<Vec<String>>,
    /// What its code names, each path from the root.
    uses: Vec<Vec<String>>,
}

fn words(path: &str) -> Vec<String> {
    path.split("::").map(|word| word.trim().to_owned()).collect()
}

/// The paths of a `use` with braces, each written out and with its `as NAME`.
fn written_out(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((before, inside)) = tree.split_once('{') else {
        return vec![tree.to_owned()];
    };
    let (inside, mut depth, mut start, mut paths) = (inside.strip_suffix('}').unwrap(), 0, 0, Vec::new());
    for (at, sign) in inside.char_indices().chain([(inside.len(), ',')]) {
        match sign {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let parts = written_out(&inside[start..at]).into_iter().filter(|part| !part.is_empty());
                paths.extend(parts.map(|part| format!("{before}{part}")));
                start = at + 1;
            }
            _ => {}
        }
    }
    paths
}

/// What is before a statement's `use`, and the paths that it imports.
fn import_of(statement: &str) -> Option<(&str, &str)> {
    let (before, tree) = statement.strip_suffix(';')?.rsplit_once("use ")?;
    let end = before.trim_end().trim_end_matches("pub(crate)").trim_end_matches("pub").trim_end();
    // A text can have the word behind a semicolon, too.
    let is_import = !tree.contains(['"', '`']) && (end.is_empty() || end.ends_with(['{', '}', ']']));
    is_import.then_some((before, tree))
}

/// Every `a::b::c` and every single name in code, but fields and methods.
fn paths(code: &str) -> Vec<&str> {
    let is_name = |sign: char| sign.is_alphanumeric() || sign == '_' || sign == ':';
    let mut before = ' ';
    let mut found = Vec::new();
    for piece in code.split_inclusive(|sign| !is_name(sign)) {
        let name = piece.trim_end_matches(|sign| !is_name(sign)).trim_matches(':');
        if before != '.' && !name.is_empty() {
            found.push(name);
        }
        before = piece.chars().next_back().unwrap_or(' ');
    }
    found
}

impl File {
    fn of(module: Vec<String>, code: &str, all: &BTreeSet<Vec<String>>) -> Self {
        let is_map = all.iter().any(|other| other.len() > module.len() && other.starts_with(&module));
        let mut file = Self { module, is_map, imports: BTreeMap::new(), traits: Vec::new(), uses: Vec::new() };
        let mut rest = String::new();
        for statement in code.split_inclusive(';') {
            match import_of(statement) {
                Some((before, tree)) => {
                    written_out(tree).iter().for_each(|path| file.import(path, all));
                    rest.push_str(before);
                }
                None if statement.trim_start().trim_start_matches("pub ").starts_with("mod ") => {}
                None => rest.push_str(statement),
            }
        }
        // A single word that a module has for a name is a variable.
        let named = paths(&rest).into_iter().filter_map(|path| file.absolute(&words(path), all));
        file.uses = named.filter(|path| !all.contains(path)).collect();
        file
    }

    fn import(&mut self, path: &str, all: &BTreeSet<Vec<String>>) {
        let (path, name) = path.split_once(" as ").map_or((path, None), |(path, name)| (path, Some(name)));
        let Some(mut path) = self.absolute(&words(path), all) else {
            return;
        };
        if path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        match name.or(path.last().map(String::as_str)) {
            Some("_") | None => self.traits.push(path),
            Some(name) => drop(self.imports.insert(name.to_owned(), path.clone())),
        }
    }

    /// A path from the root; none for one that leads out of the crate.
    fn absolute(&self, path: &[String], all: &BTreeSet<Vec<String>>) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let start = match first.as_str() {
            "crate" => Vec::new(),
            "self" => self.module.clone(),
            "super" => self.module.split_last()?.1.to_vec(),
            name => match self.imports.get(name) {
                Some(path) => path.clone(),
                None => Some([self.module.as_slice(), &path[..1]].concat()).filter(|child| all.contains(child))?,
            },
        };
        Some([start.as_slice(), rest].concat())
    }

    /// The files of its own room that it needs. A map needs only what its code names.
    fn needs(&self, files: &BTreeMap<Vec<String>, Self>) -> BTreeSet<Vec<String>> {
        let imports = self.imports.values().filter(|_| !self.is_map);
        let named = self.uses.iter().chain(&self.traits).chain(imports);
        let homes = named.filter_map(|path| home(path, files));
        homes.filter(|home| home[0] == self.module[0] && *home != self.module).collect()
    }
}

/// `commands::certs` of `commands/certs/mod.rs`, in its parts.
fn module_of(path: &Path) -> Vec<String> {
    let parts = path.with_extension("");
    let parts = parts.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    parts.filter(|part| part != "mod").collect()
}

/// The file that defines what a path from the root leads to, through what maps hand on; none for a map as a whole, out
/// of which something is named elsewhere.
fn home(path: &[String], files: &BTreeMap<Vec<String>, File>) -> Option<Vec<String>> {
    let length = (1..=path.len()).rev().find(|length| files.contains_key(&path[..*length]))?;
    let file = &files[&path[..length]];
    match path.get(length) {
        None if file.is_map => None,
        Some(name) if file.imports.contains_key(name) => {
            home(&[&file.imports[name], &path[length + 1..]].concat(), files)
        }
        _ => Some(file.module.clone()),
    }
}

type Needs = BTreeMap<Vec<String>, BTreeSet<Vec<String>>>;

/// A way from a file back to itself, after what was walked so far.
fn ring(
    file: &Vec<String>,
    needs: &Needs,
    way: &mut Vec<Vec<String>>,
    done: &mut BTreeSet<Vec<String>>,
) -> Option<String> {
    if let Some(start) = way.iter().position(|before| before == file) {
        let ring = way[start..].iter().chain([file]).map(|module| module.join("::"));
        return Some(ring.collect::<Vec<_>>().join(" -> "));
    }
    if done.contains(file) {
        return None;
    }
    way.push(file.clone());
    let found = needs[file].iter().find_map(|next| ring(next, needs, way, done));
    way.pop();
    done.insert(file.clone());
    found
}

/// What each module needs of its own room, out of the modules with their code.
fn needs(modules: Vec<(Vec<String>, String)>) -> Needs {
    let all: BTreeSet<_> = modules.iter().map(|(module, _)| module.clone()).collect();
    let files = modules.into_iter().map(|(module, code)| (module.clone(), File::of(module, &code, &all)));
    let files: BTreeMap<_, _> = files.collect();
    files.iter().map(|(module, file)| (module.clone(), file.needs(&files))).collect()
}

/// The first circle of each room.
fn rings(needs: &Needs) -> BTreeMap<String, String> {
    let (mut rings, mut done) = (BTreeMap::new(), BTreeSet::new());
    for file in needs.keys() {
        if let Some(ring) = ring(file, needs, &mut Vec::new(), &mut done) {
            rings.entry(file[0].clone()).or_insert(ring);
        }
    }
    rings
}

/// The crate's modules with their code.
fn house() -> Vec<(Vec<String>, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    modules().into_iter().map(|(_, path, code)| (module_of(path.strip_prefix(&root).unwrap()), code)).collect()
}

#[test]
fn files_of_a_room_import_in_no_circle() {
    let rings = rings(&needs(house()));
    assert!(rings.is_empty(), "{rings:#?}");
}

/// The modules of the verbs: those that a dispatch runs.
fn verbs(house: &[(Vec<String>, String)]) -> Vec<Vec<String>> {
    let run = |module: &str, room: &str| {
        let code = &house.iter().find(|(other, _)| *other == words(module)).unwrap().1;
        let names = paths(code).into_iter().filter_map(|path| path.strip_suffix("::run").map(str::to_owned));
        let names = names.map(|name| words(&format!("{room}{name}"))).filter(|verb| verb[0] == "commands");
        names.collect::<Vec<_>>()
    };
    [run("cli", ""), run("commands::certs", "commands::certs::")].concat()
}

#[test]
fn a_verb_imports_no_other_verb() {
    let house = house();
    let verbs = verbs(&house);
    assert!(verbs.len() > 20 && verbs.contains(&words("commands::certs::ca")), "{verbs:?}");
    let verb_of =
        |module: &[String]| verbs.iter().filter(|verb| module.starts_with(verb)).max_by_key(|verb| verb.len());
    for (module, needs) in needs(house).iter().filter(|(module, _)| module[0] == "commands") {
        for needed in needs {
            let other = verb_of(needed).filter(|other| {
                verb_of(module).is_none_or(|verb| !verb.starts_with(other) && !other.starts_with(verb))
            });
            assert!(other.is_none(), "{} imports {}, of a verb", module.join("::"), needed.join("::"));
        }
    }
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    let room = |files: &[(&str, &str)]| {
        let files = files.iter().map(|(module, code)| (words(module), (*code).to_owned()));
        rings(&needs(files.collect())).into_values().next().unwrap_or_default()
    };
    let map = ("a", "mod b;\nmod c;\npub use b::{B, D as E};\npub use c::C;\n");
    let back = ("a::c", "use super::{B};\nfn c() {}");
    assert_eq!(room(&[map, ("a::b", "use std::fmt;\nuse super::C;"), back]), "a::b -> a::c -> a::b");
    assert_eq!(room(&[map, ("a::b", "fn b() { super::c::c(); }"), back]), "a::b -> a::c -> a::b");
    assert_eq!(room(&[map, ("a::b", "fn b() { use crate::a; a::C::new(); }"), back]), "a::b -> a::c -> a::b");
    assert_eq!(
        room(&[map, ("a::b", "use crate::{a::C, d};"), ("a::c", "fn c(b: super::E) {}")]),
        "a::b -> a::c -> a::b"
    );
    assert_eq!(room(&[map, ("a::b", "fn b() {}"), back]), "");
    let code = ("a", "mod b;\npub use b::B;\npub struct A(B);\n");
    assert_eq!(room(&[code, ("a::b", "use super::A;")]), "a -> a::b -> a");
}

/// What has one place or none, in the code of all modules.
#[test]
fn what_was_thought_twice_stays_in_one_place() {
    let house = modules();
    let with = |text: &str| {
        house.iter().filter(move |(.., code)| code.contains(text)).map(|(_, path, _)| path).collect::<Vec<_>>()
    };
    assert!(
        with("super::super").is_empty(),
        "a path from the root says where something is: {:?}",
        with("super::super")
    );
    let twins = with("_of_files(");
    assert!(twins.is_empty(), "objects of files are read as those of a cluster are: {twins:?}");
    assert_eq!(with("const SOON_DAYS").len(), 1, "how soon is soon is one constant");
    let encoders = house.iter().filter(|(module, _, code)| module != "pki" && code.contains("encode(\"CERTIFICATE\""));
    assert_eq!(encoders.count(), 0, "PEM is encoded in pki");
}
