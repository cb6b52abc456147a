//! Every crate that the library links has a licence on the list of `deny.toml`.

use std::collections::{HashMap, HashSet};
use std::process::Command;

use serde_json::Value;

fn output(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(done.stdout).expect("text")
}

/// Whether an SPDX expression can be met by the list: one side of each OR, both of each AND. Older crates write `/` for OR.
fn is_met(expression: &str, allowed: &HashSet<&str>) -> bool {
    let expression = expression.replace('/', " OR ");
    let plain = expression.trim();
    // One pair of brackets around one side is all that occurs; other shapes are found on no list and fail.
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

#[test]
fn every_linked_crate_has_a_licence_on_the_list() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml"))
        .expect("deny.toml");
    let (_, list) = text.split_once("allow = [").expect("a list");
    let (list, _) = list.split_once(']').expect("its end");
    let allowed: HashSet<&str> = list.split('"').skip(1).step_by(2).collect();
    assert!(allowed.len() > 3, "{allowed:?}");

    let version = output("rustc", &["-vV"]);
    let host = version
        .lines()
        .find_map(|l| l.strip_prefix("host: "))
        .expect("a host");
    let all = output(
        env!("CARGO"),
        &[
            "metadata",
            "--format-version=1",
            "--locked",
            "--filter-platform",
            host,
        ],
    );
    let all: Value = serde_json::from_str(&all).expect("JSON");
    let items = |value: &Value| value.as_array().expect("a list").clone();
    let id = |value: &Value| value.as_str().expect("an id").to_owned();
    let packages: HashMap<String, Value> = items(&all["packages"])
        .into_iter()
        .map(|p| (id(&p["id"]), p))
        .collect();
    // Kind null is a dependency of the library itself, not of its tests or builds.
    let linked = |node: &Value| -> Vec<String> {
        let used = items(&node["deps"]).into_iter();
        let used = used.filter(|d| items(&d["dep_kinds"]).iter().any(|k| k["kind"].is_null()));
        used.map(|d| id(&d["pkg"])).collect()
    };
    let nodes: HashMap<String, Vec<String>> = items(&all["resolve"]["nodes"])
        .iter()
        .map(|n| (id(&n["id"]), linked(n)))
        .collect();
    let own = packages
        .iter()
        .find(|(_, p)| p["name"] == "wgpu-distill")
        .expect("our own")
        .0;
    let (mut open, mut seen) = (vec![own.clone()], HashSet::new());
    let mut wrong = Vec::new();
    while let Some(at) = open.pop() {
        if !seen.insert(at.clone()) {
            continue;
        }
        let package = &packages[&at];
        let licence = package["license"].as_str().unwrap_or_default();
        if !is_met(licence, &allowed) {
            wrong.push(format!(
                "{} {}: `{licence}`",
                package["name"], package["version"]
            ));
        }
        open.extend(nodes[&at].iter().cloned());
    }
    println!("{} crates linked", seen.len());
    assert!(seen.len() > 20, "only {} crates were found", seen.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
