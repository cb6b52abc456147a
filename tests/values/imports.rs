//! The imports between files have no cycle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Folders with a file `lib.rs`, `main.rs` or `mod.rs` that contains the other modules.
const FOLDERS: [&str; 7] = [
    "src",
    "examples/mnist/src",
    "tests/cases",
    "integrations/burn/src",
    "integrations/burn/examples/language_model",
    "integrations/burn/examples/mnist",
    "integrations/candle/src",
];

/// A module by its path below the folder's root, as `["gpu", "record"]`; the root's path is empty.
type Module = Vec<String>;
type Texts = BTreeMap<Module, String>;

/// The modules below a folder with their code.
fn modules(folder: &Path, above: &[String], found: &mut Texts) {
    for entry in fs::read_dir(folder).expect("a folder can be listed") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            modules(&path, &[above, &[name]].concat(), found);
        } else if path.extension().is_some_and(|e| e == "rs") && !name.contains("test") {
            let module = match name.as_str() {
                "lib" | "main" | "mod" => above.to_vec(),
                _ => [above, &[name]].concat(),
            };
            let code = code(&path);
            for (name, elsewhere) in modules_elsewhere(&code) {
                let text = self::code(&folder.join(elsewhere));
                found.insert([module.as_slice(), &[name]].concat(), text);
            }
            found.insert(module, code);
        }
    }
}

/// A file without comments and tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let text = text.split("\nmod tests {").next().unwrap_or_default();
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

/// The modules, other than tests, whose file an attribute `path` names, with that path.
fn modules_elsewhere(code: &str) -> Vec<(String, &str)> {
    let attributes = code.split("#[path = \"").skip(1);
    let named = attributes.filter_map(|rest| {
        let (path, rest) = rest.split_once('"')?;
        let (_, rest) = rest.split_once("mod ")?;
        Some((rest.split_once(';')?.0.to_owned(), path))
    });
    named.filter(|(_, path)| !path.contains("test")).collect()
}

/// The paths of an import: `a::{b, c::d as e}` gives `a::b` and `a::c::d`.
fn paths(tree: &str, before: &[String], found: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    if let Some(list) = tree.strip_prefix('{') {
        let list = list.strip_suffix('}').expect("a list ends");
        let (mut depth, mut start) = (0, 0);
        for (at, c) in list.char_indices().chain([(list.len(), ',')]) {
            depth += i32::from(c == '{') - i32::from(c == '}');
            if c == ',' && depth == 0 {
                paths(&list[start..at], before, found);
                start = at + 1;
            }
        }
    } else if let Some((first, rest)) = tree.split_once("::") {
        paths(rest, &[before, &[first.to_owned()]].concat(), found);
    } else if let Some(name) = tree.split_whitespace().next() {
        found.push([before, &[name.to_owned()]].concat());
    }
}

/// The imports of a module: the names in its `use` statements and, unless only `exported` ones are wanted, the paths in its code.
fn imports(code: &str, exported: bool) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = String::new();
    for statement in code.split_inclusive(';') {
        let start = statement.rfind("use ").filter(|at| {
            let line = statement[..*at].rsplit('\n').next().unwrap_or_default();
            line.trim().is_empty() || line.trim_start().starts_with("pub")
        });
        match start {
            Some(at) => {
                let public = statement[..at].trim_end().ends_with(['b', ')']);
                if public || !exported {
                    paths(statement[at + 4..].trim_end_matches(';'), &[], &mut found);
                }
            }
            None => rest.push_str(statement),
        }
    }
    if !exported {
        let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let words = rest.split(|c| !is_path(c));
        let own = words.filter(|w| w.starts_with("crate::") || w.starts_with("super::"));
        own.for_each(|word| paths(word.trim_end_matches(':'), &[], &mut found));
    }
    found
}

/// Returns true if the code has an item of that name outside of functions and inner modules.
fn defines(code: &str, name: &str) -> bool {
    let items = code.lines().filter(|line| !line.starts_with(' '));
    items
        .flat_map(|line| line.split(|c: char| !(c.is_alphanumeric() || c == '_')))
        .any(|word| word == name)
}

/// The module that contains the item of a path named in `from`. None for other crates.
fn home(path: &[String], from: &Module, all: &Texts) -> Option<Module> {
    let mut at: Module = match path[0].as_str() {
        "crate" => Module::new(),
        "super" => from[..from.len().checked_sub(1)?].to_vec(),
        "self" => from.clone(),
        child => {
            let child = [from.as_slice(), &[child.to_owned()]].concat();
            all.contains_key(&child).then_some(child)?
        }
    };
    for name in &path[1..] {
        let child = [at.as_slice(), std::slice::from_ref(name)].concat();
        if name == "super" {
            at.pop();
        } else if all.contains_key(&child) {
            at = child;
        } else {
            // The path names an exported or own item of the module. Otherwise it names a module within a file.
            let exports = imports(&all[&at], true);
            let export = exports.iter().find(|export| export.last() == Some(name));
            return match export.and_then(|export| home(export, &at, all)) {
                Some(of_export) => Some(of_export),
                None => defines(&all[&at], name).then_some(at),
            };
        }
    }
    Some(at)
}

/// The modules that are reachable from one by imports. The module itself is included only if a cycle leads back to it.
fn reachable(from: &Module, edges: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<Module> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&Module> = edges[from].iter().collect();
    while let Some(at) = open.pop() {
        if seen.insert(at.clone()) {
            open.extend(&edges[at]);
        }
    }
    seen
}

#[test]
fn no_files_import_each_other() {
    for folder in FOLDERS {
        let mut all = Texts::new();
        modules(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join(folder),
            &[],
            &mut all,
        );
        assert!(all.len() > 5, "{folder} has {} modules", all.len());
        let edges: BTreeMap<Module, BTreeSet<Module>> = all
            .iter()
            .map(|(module, code)| {
                let to = imports(code, false).into_iter();
                let to = to.filter_map(|path| home(&path, module, &all));
                (module.clone(), to.filter(|to| to != module).collect())
            })
            .collect();
        let count: usize = edges.values().map(BTreeSet::len).sum();
        assert!(count > all.len(), "{folder} has {count} imports");
        let circular = all.keys().filter(|m| reachable(m, &edges).contains(*m));
        let circular: Vec<String> = circular
            .map(|m| {
                let way = edges[m]
                    .iter()
                    .filter(|to| reachable(to, &edges).contains(m));
                let way: Vec<String> = way.map(|to| to.join("::")).collect();
                format!(
                    "{folder}: {} imports {}, which lead back",
                    m.join("::"),
                    way.join(", ")
                )
            })
            .collect();
        assert!(circular.is_empty(), "\n{}", circular.join("\n"));
    }
}
