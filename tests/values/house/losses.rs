//! docs/LOSSES.md and the README name every divergence and preset; the guide to adding a loss shows lines that exist.

use std::collections::BTreeSet;

use wgpu_distill::Divergence;

use super::{none, read};

/// The part of a page below a heading.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = page.find(&format!("\n{heading}"));
    let start = start.unwrap_or_else(|| panic!("no heading `{heading}`"));
    let rest = &page[start + 1..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

/// Rows of tables whose first cell names the divergence.
fn rows(section: &str, variant: &str) -> usize {
    let lines = section.lines().filter(|line| line.starts_with("| "));
    let first_cells = lines.filter_map(|line| line.split('|').nth(1));
    first_cells
        .filter(|cell| cell.split(['`', ' ', ',']).any(|word| word == variant))
        .count()
}

#[test]
fn every_divergence_is_documented() {
    let (losses, readme) = (read("docs/LOSSES.md"), read("README.md"));
    let mut wrong = Vec::new();
    for divergence in Divergence::ALL {
        let debug = format!("{divergence:?}");
        let variant = debug.split(' ').next().unwrap_or_default();
        for (page, heading, expected) in [
            (&losses, "## 3.", 2),
            (&losses, "## 4.", 1),
            (&losses, "## 5.", 1),
            (&losses, "## 6.", 1),
            (&readme, "## The losses", 1),
        ] {
            let found = rows(section(page, heading), variant);
            if found != expected {
                wrong.push(format!(
                    "{variant}: {found} rows below `{heading}`, expected {expected}"
                ));
            }
        }
        let text = format!("`{}", divergence.name());
        if !section(&losses, "## 3.").contains(&text) {
            wrong.push(format!("LOSSES.md has no {text}`"));
        }
    }
    none(wrong);
}

#[test]
fn every_preset_is_documented() {
    let source = read("src/presets/mod.rs");
    let functions = source
        .lines()
        .filter_map(|line| line.strip_prefix("pub fn "));
    let names = |texts: Vec<&str>| -> BTreeSet<String> {
        let names = texts
            .into_iter()
            .filter_map(|text| text.split(['(', '`']).next());
        names.map(str::to_owned).collect()
    };
    let presets = names(functions.collect());
    assert!(!presets.is_empty());
    let losses = read("docs/LOSSES.md");
    let mentioned = names(losses.split("presets::").skip(1).collect());
    assert_eq!(presets, mentioned);
}

/// Every line that the guide adds is in its file.
#[test]
fn the_guide_shows_the_real_files() {
    let guide = read("examples/add_a_loss.md");
    let (mut file, mut text, mut added) = ("", String::new(), 0);
    let mut wrong = Vec::new();
    for line in guide.lines() {
        if let Some(name) = line.strip_prefix("+++ b/") {
            (file, text) = (name, read(name));
        } else if let Some(line) = line.strip_prefix('+') {
            added += 1;
            if !text.lines().any(|there| there == line) {
                wrong.push(format!("{file} has no line `{line}`"));
            }
        }
    }
    none(wrong);
    assert!(guide.contains(&format!(": {added} in ")), "{added} lines");
}
