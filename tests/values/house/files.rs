//! Length of files, their place among the tests, and the paths that they mention.

use super::{files, none, read, root, stem, texts};

/// The most lines of a file.
const MOST_LINES: usize = 500;

/// A test in a file that no binary includes never runs.
#[test]
fn every_file_of_tests_is_part_of_a_binary() {
    let mut wrong = Vec::new();
    let all = files("tests");
    let mains: String = all
        .iter()
        .filter(|f| f.ends_with("/main.rs"))
        .map(|f| read(f))
        .collect();
    // A folder with a manifest is a package; cargo finds its targets.
    let packages: Vec<&str> = all
        .iter()
        .filter_map(|f| f.strip_suffix("Cargo.toml"))
        .collect();
    let is_own = |f: &&String| !packages.iter().any(|package| f.starts_with(package));
    for file in all.iter().filter(|f| f.ends_with(".rs")).filter(is_own) {
        let Some((folder, name)) = file.rsplit_once('/') else {
            continue;
        };
        if folder == "tests" {
            wrong.push(format!(
                "{file} would be a separate binary: move it to tests/values/ or tests/process/ and add it to main.rs"
            ));
            continue;
        }
        let shared = folder.strip_prefix("tests/").unwrap_or(folder);
        let is_included = match name {
            "main.rs" => true,
            "mod.rs" => {
                let path = format!("#[path = \"../{shared}/mod.rs\"]");
                mains.contains(&path) || read("tests/buffers/mod.rs").contains(&path)
            }
            _ => {
                let line = format!("mod {};", stem(name));
                let parents = ["main.rs", "mod.rs"].map(|parent| format!("{folder}/{parent}"));
                let parents = parents.into_iter().chain([format!("{folder}.rs")]);
                let mut parents = parents.filter(|parent| all.contains(parent));
                parents.any(|p| {
                    read(&p)
                        .lines()
                        .any(|l| l.trim_start_matches("pub ") == line)
                })
            }
        };
        if !is_included {
            wrong.push(format!("no module includes {file}"));
        }
    }
    none(wrong);
}

#[test]
fn files_are_short() {
    let rust = files("tests").into_iter().filter(|f| f.ends_with(".rs"));
    let all = files("src").into_iter().chain(files("shaders")).chain(rust);
    let counted = all.map(|f| (read(&f).lines().count(), f));
    let long = counted.filter(|(lines, _)| *lines >= MOST_LINES);
    none(
        long.map(|(n, f)| format!("{f} has {n} lines, {MOST_LINES} are too many"))
            .collect(),
    );
}

/// A path of the machine on which a text was written is useless elsewhere.
#[test]
fn no_file_names_a_place_of_somebodys_machine() {
    // In parts, so that this file does not contain them.
    let roots = [["/wo", "rk/"], ["/ro", "ot/"], ["/ho", "me/"]].map(|p| p.concat());
    let registry = ["registry", "/src"].concat();
    // A folder of the repository may have such a name. A path that starts there has nothing before it.
    let starts = |line: &str, place: &str| {
        line.match_indices(place).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            before.is_none_or(|c| !c.is_alphanumeric() && !"_-.".contains(c))
        })
    };
    let mut wrong = Vec::new();
    for (name, text) in texts() {
        for (i, line) in text.lines().enumerate() {
            if line.contains(&registry) || roots.iter().any(|place| starts(line, place)) {
                wrong.push(format!("{name}:{}: {}", i + 1, line.trim()));
            }
        }
    }
    none(wrong);
}

/// Paths in comments and pages exist, so that moving a file requires updating its mentions.
#[test]
fn files_that_are_mentioned_exist() {
    let mut wrong = Vec::new();
    for (name, text) in texts() {
        if !name.ends_with(".rs") && !name.ends_with(".wgsl") && !name.ends_with(".md") {
            continue;
        }
        let is_path = |c: char| c.is_alphanumeric() || "_-./<>*{}$".contains(c);
        for (i, line) in text.lines().enumerate() {
            for word in line.split(|c| !is_path(c)) {
                let word = word.trim_end_matches('.');
                let folder = word.split('/').next().unwrap_or_default();
                let known = ["src", "shaders", "tests", "benches", "examples"].contains(&folder);
                // `shaders/<name>.wgsl` and `shaders/include/name.wgsl` stand for several files.
                let one = word.contains('.')
                    && stem(word) != "name"
                    && !word.contains(['<', '*', '{', '$']);
                // A workspace member may name paths below its own folder.
                let member = match name.strip_prefix("integrations/") {
                    Some(rest) => {
                        format!("integrations/{}", rest.split('/').next().unwrap_or(rest))
                    }
                    None => String::new(),
                };
                let is_there =
                    root().join(word).exists() || root().join(member).join(word).exists();
                if known && one && !is_there {
                    wrong.push(format!("{name}:{}: {word} is not there", i + 1));
                }
            }
        }
    }
    none(wrong);
}
