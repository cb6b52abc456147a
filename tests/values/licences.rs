//! Every crate that the library links, on any platform, has a licence from `deny.toml` and a line in `docs/DEPENDENCIES.md`.
//!
//! burn-distill and candle-distill run this file too, for the crates that they link on the current platform.

use std::collections::{BTreeSet, HashSet};
use std::process::Command;

/// The text of `deny.toml`.
const DENY: &str = include_str!("../../deny.toml");

/// The list of the core crate's dependencies.
const PAGE: &str = include_str!("../../docs/DEPENDENCIES.md");

/// A linked crate: name, version, licence.
type Linked = (String, String, String);

fn linked(package: &str, options: &[&str]) -> BTreeSet<Linked> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--locked", "--edges", "normal", "--prefix", "none"]);
    cargo.args(["--format", "{p}|{l}", "--package", package]);
    let done = cargo.args(options).current_dir(env!("CARGO_MANIFEST_DIR"));
    let done = done.output().expect("cargo can be run");
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{errors}");
    let text = String::from_utf8(done.stdout).expect("text");
    let line = |line: &str| {
        let (crate_and_version, licence) = line.split_once('|')?;
        let mut words = crate_and_version.split(' ');
        let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
        // `cargo tree` marks a crate that it has printed before.
        let licence = licence.trim_end_matches(" (*)");
        Some((name.to_owned(), version.to_owned(), licence.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

/// Returns true if the allowed licences satisfy an SPDX expression: one side of each OR, both of each AND.
///
/// Older crates write `/` for OR.
fn is_met(expression: &str, allowed: &HashSet<&str>) -> bool {
    let expression = expression.replace('/', " OR ");
    let plain = expression.trim();
    // The only form with parentheses that occurs has them around one side. Other forms fail, since no list contains them.
    if let Some((inner, rest)) = plain.strip_prefix('(').and_then(|p| p.split_once(") AND ")) {
        return is_met(inner, allowed) && is_met(rest, allowed);
    }
    plain
        .split(" OR ")
        .any(|one| one.split(" AND ").all(|l| allowed.contains(l.trim())))
}

#[test]
fn expressions_are_read() {
    let allowed = HashSet::from(["MIT", "Apache-2.0"]);
    for met in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/GPL-3.0",
        "MIT AND Apache-2.0",
        "(X OR MIT) AND MIT",
    ] {
        assert!(is_met(met, &allowed), "{met}");
    }
    for unmet in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR X) AND X", "X/Y"] {
        assert!(!is_met(unmet, &allowed), "{unmet}");
    }
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}

/// The licences allowed for any crate, and the exceptions as pairs of crate and licence.
fn allowed() -> (HashSet<&'static str>, HashSet<(&'static str, &'static str)>) {
    let (_, list) = DENY.split_once("\nallow = [").expect("a list");
    let (list, rest) = list.split_once(']').expect("its end");
    let exceptions = rest.lines().filter(|line| line.contains("crate = "));
    let exceptions = exceptions.filter_map(|line| {
        let mut words = quoted(line);
        Some((words.next()?, words.next()?))
    });
    (quoted(list).collect(), exceptions.collect())
}

#[test]
fn every_linked_crate_has_a_licence_on_the_list() {
    let package = env!("CARGO_PKG_NAME");
    let is_core = package == "wgpu-distill";
    // All platforms of a framework would mean hundreds of crates to download.
    let options: &[&str] = match is_core {
        true => &["--target", "all", "--features", "linear"],
        false => &[],
    };
    let all = linked(package, options);
    let (allowed, exceptions) = allowed();
    assert!(allowed.len() > 3, "{allowed:?}");
    let mut wrong = Vec::new();
    let mut needed = HashSet::new();
    for (name, version, licence) in &all {
        let excepted = exceptions.iter().find(|(own, _)| own == name);
        if is_met(licence, &allowed) {
            continue;
        }
        match excepted {
            Some((_, also)) if licence == also => {
                needed.insert(name.as_str());
            }
            _ => wrong.push(format!("{name} {version}: `{licence}`")),
        }
    }
    println!("{} crates linked by {package}", all.len());
    assert!(all.len() > 20, "only {} crates were found", all.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    match package {
        "burn-distill" => {
            let unused = exceptions.len() - needed.len();
            assert_eq!(unused, 0, "{unused} exceptions are not needed");
        }
        _ => assert!(needed.is_empty(), "only Burn has exceptions: {needed:?}"),
    }
    if is_core {
        is_on_the_page(&all);
    }
}

/// Every linked crate is on the page, so that a new crate is reviewed.
fn is_on_the_page(all: &BTreeSet<Linked>) {
    let others = all.iter().filter(|(name, ..)| name != "wgpu-distill");
    let lines: Vec<String> = others
        .map(|(name, version, licence)| format!("| {name} | {version} | {licence} |"))
        .collect();
    let (_, list) = PAGE.split_once("## The list").expect("its heading");
    let listed: Vec<&str> = list
        .lines()
        .skip_while(|line| *line != "|---|---|---|")
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .collect();
    assert!(
        lines == listed,
        "docs/DEPENDENCIES.md should list, each looked up for advisories:\n{}",
        lines.join("\n")
    );
}
