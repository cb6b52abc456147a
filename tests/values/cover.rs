//! The cover of pairs: the part of the table that a quick run uses.

use std::collections::{HashMap, HashSet};

use crate::cases::{all, choices, cover, pairs};

#[test]
fn every_pair_of_values_in_the_table_is_in_the_cover() {
    let of = |cases: &[_]| -> HashSet<_> { cases.iter().flat_map(pairs).collect() };
    let (table, cover) = (all(), cover());
    let covered = of(&cover);
    let missing: Vec<_> = of(&table)
        .into_iter()
        .filter(|pair| !covered.contains(pair))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(
        2 * cover.len() < table.len(),
        "a cover of {} cases of {} saves too little",
        cover.len(),
        table.len()
    );
}

#[test]
fn the_cover_is_the_same_every_time() {
    let names = || {
        cover()
            .into_iter()
            .map(|case| case.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(), names());
}

/// A dimension with one value distinguishes no cases. Two cases with one name cannot be told apart in a failure.
#[test]
fn every_dimension_has_several_values() {
    let mut values: HashMap<&str, HashSet<String>> = HashMap::new();
    let table = all();
    for (dimension, value) in table.iter().flat_map(choices) {
        values.entry(dimension).or_default().insert(value);
    }
    let constant: Vec<_> = values
        .iter()
        .filter(|(_, values)| values.len() < 2)
        .collect();
    assert!(constant.is_empty(), "{constant:?}");
    let names: HashSet<_> = table.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), table.len(), "names of cases");
}
