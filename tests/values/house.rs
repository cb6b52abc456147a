//! Rules of the repository that the compiler does not check: names of kernels, shaders and twins, unused files, loops of the shaders.

mod files;
mod losses;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use wgpu_distill::plan::{Limits, Plan};
use wgpu_distill::shader::Kernel;
use wgpu_distill::{Divergence, Storage};

use crate::cases;
use crate::problems::problem;

/// Folders and files with text, where they exist.
const PLACES: [&str; 25] = [
    "src",
    "shaders",
    "tests",
    "benches",
    "examples",
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "docs",
    "integrations/burn/src",
    "integrations/burn/tests",
    "integrations/burn/examples",
    "integrations/burn/README.md",
    "integrations/candle/src",
    "integrations/candle/tests",
    "integrations/candle/README.md",
    "integrations/web/module/src",
    "integrations/web/module/tests",
    "integrations/web/src",
    "integrations/web/test",
    "integrations/web/examples",
    "integrations/web/bench",
    "integrations/web/demo",
    "integrations/web/package-lock.json",
    "integrations/web/README.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Files below a path, with `/` in their names on every system.
fn files(place: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from(place)];
    while let Some(path) = open.pop() {
        let here = root().join(&path);
        if here.is_dir() {
            let entries = fs::read_dir(&here).expect("a folder can be listed");
            open.extend(entries.map(|e| path.join(e.expect("an entry").file_name())));
        } else if here.is_file() {
            let parts: Vec<_> = path.iter().map(|p| p.to_string_lossy()).collect();
            found.push(parts.join("/"));
        }
    }
    found.sort();
    found
}

/// Every UTF-8 text of the repository with its name. Caches and what is built are left out.
fn texts() -> Vec<(String, String)> {
    let names = PLACES.into_iter().flat_map(files);
    let built = ["__pycache__", "/target/", "integrations/web/demo/dist/"];
    let own = names.filter(|name| !built.iter().any(|place| name.contains(place)));
    own.filter_map(|name| Some((fs::read_to_string(root().join(&name)).ok()?, name)))
        .map(|(text, name)| (name, text))
        .collect()
}

/// Fails with all messages at once.
fn none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// `a/b/stem.ext` becomes `stem`.
fn stem(name: &str) -> &str {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.split('.').next().unwrap_or(file)
}

#[test]
fn every_kernel_has_its_shader_its_contract_and_its_twin() {
    let reference: String = files("src/reference").iter().map(|f| read(f)).collect();
    let mut wrong = Vec::new();
    for kernel in Kernel::ALL {
        let name = kernel.name();
        let file = format!("shaders/{name}.wgsl");
        match fs::read_to_string(root().join(&file)) {
            Ok(text) if text.starts_with(&format!("// {name}: ")) => {}
            Ok(_) => wrong.push(format!(
                "{file} does not open with its contract, `// {name}: `"
            )),
            Err(e) => wrong.push(format!("{file}: {e}")),
        }
        if !reference.contains(&format!("\npub fn {name}(")) {
            wrong.push(format!("src/reference/ has no `pub fn {name}`"));
        }
    }
    none(wrong);
}

/// Kernels that the plans of the table's cases dispatch.
fn kernels_of_the_table() -> HashSet<Kernel> {
    let mut found = HashSet::new();
    for case in cases::all() {
        let mut problem = problem(case.rows, case.classes, case.storage[0]);
        problem.teacher_classes = case.teacher_classes.min(case.classes);
        let plan = Plan::new(&case.config, &problem, &Limits::DEFAULT).expect("a valid case");
        found.extend(plan.kernels());
    }
    found
}

/// Every kernel runs in a case of the table, or a test of `tests/values/kernels.rs` has its name.
#[test]
fn every_kernel_has_cases() {
    let run = kernels_of_the_table();
    let text = read("tests/values/kernels.rs");
    let tests: HashSet<&str> = text
        .split("#[test]\nfn ")
        .skip(1)
        .filter_map(|rest| rest.split('(').next())
        .flat_map(|name| name.split("_and_"))
        .collect();
    let has_cases = |k: &Kernel| run.contains(k) || tests.contains(k.name());
    let without = Kernel::ALL.into_iter().filter(|kernel| !has_cases(kernel));
    none(
        without
            .map(|kernel| format!("no case and no test runs `{}`", kernel.name()))
            .collect(),
    );
}

/// The shaders of a folder below `shaders` have these stems, one each.
fn shaders_of<'a>(folder: &str, stems: impl Iterator<Item = &'a str>) -> HashSet<String> {
    stems
        .map(|stem| format!("shaders/{folder}{stem}.wgsl"))
        .collect()
}

#[test]
fn every_shader_is_a_kernel_an_include_or_a_rule() {
    let divergences = Divergence::ALL.map(|divergence| divergence.name().replace('-', "_"));
    let shapes = read("src/shader/text.rs");
    let shapes = shapes.split("shaders/shapes/").skip(1);
    let known: HashSet<String> = [
        shaders_of("", Kernel::ALL.iter().map(|kernel| kernel.name())),
        shaders_of("divergences/", divergences.iter().map(String::as_str)),
        shaders_of("shapes/", shapes.filter_map(|rest| rest.split('.').next())),
    ]
    .into_iter()
    .flatten()
    .collect();
    let found: HashSet<String> = files("shaders")
        .into_iter()
        .filter(|f| !f.starts_with("shaders/include/"))
        .collect();
    none(
        found
            .symmetric_difference(&known)
            .map(|f| format!("{f} is no kernel, divergence or shape, or does not exist"))
            .collect(),
    );
}

/// The texts between double quotes in a Rust source: every second part of a split at quotes.
fn strings(source: &str) -> impl Iterator<Item = &str> {
    source.split('"').skip(1).step_by(2)
}

/// Names that `#import $KEY` and `HALF=` can stand for: the strings of src/shader/text.rs with their placeholders filled in.
fn names_in_the_expander() -> HashSet<String> {
    let source = read("src/shader/text.rs");
    // The list of all includes would make each of them count as imported.
    let start = source.find("\nincludes!(").expect("the list of includes");
    let end = start + source[start..].find(");").expect("its end");
    let source = [&source[..start], &source[end..]].concat();
    let mut names: HashSet<String> = Storage::ALL.map(|s| s.name().to_owned()).into();
    for text in strings(&source) {
        let name = text.split_whitespace().next().unwrap_or_default();
        for stem in ["rows", "store"] {
            for access in ["vec4", "element"] {
                names.insert(name.replace("{stem}", stem).replace("{access}", access));
            }
        }
    }
    names
}

#[test]
fn every_include_is_imported() {
    let shaders = files("shaders");
    let mut imported = names_in_the_expander();
    for name in &shaders {
        for line in read(name).lines() {
            if let Some(import) = line.strip_prefix("#import ") {
                imported.extend(import.split_whitespace().next().map(str::to_owned));
            }
        }
    }
    let includes: Vec<_> = shaders
        .iter()
        .filter(|f| f.starts_with("shaders/include/"))
        .collect();
    assert!(!includes.is_empty());
    let unused = includes.into_iter().filter(|f| !imported.contains(stem(f)));
    none(unused.map(|f| format!("nothing imports {f}")).collect());
}

#[test]
fn every_include_says_what_it_is() {
    let silent = files("shaders")
        .into_iter()
        .filter(|f| !read(f).starts_with("// "));
    none(
        silent
            .map(|f| format!("{f} does not open with a comment"))
            .collect(),
    );
}

/// Code without white space, comments and the commas that rustfmt adds when it breaks a line.
fn squeezed<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let code = lines.filter(|line| !line.trim_start().starts_with("//"));
    let text: String = code
        .flat_map(|line| line.chars())
        .filter(|c| !c.is_whitespace())
        .collect();
    text.replace(",)", ")")
        .replace(",}", "}")
        .replace(",]", "]")
}

/// `use` statements and all other code, both squeezed.
fn imports_and_rest(code: &str) -> (Vec<String>, String) {
    let mut imports = Vec::new();
    let mut rest = Vec::new();
    let mut import: Option<Vec<&str>> = None;
    for line in code.lines() {
        if import.is_none() && line.trim_start().starts_with("use ") {
            import = Some(Vec::new());
        }
        match &mut import {
            Some(lines) => {
                lines.push(line);
                if line.trim_end().ends_with(';') {
                    imports.push(squeezed(import.take().into_iter().flatten()));
                }
            }
            None => rest.push(line),
        }
    }
    (imports, squeezed(rest.into_iter()))
}

/// The body of `fn main`, squeezed.
fn main_body(squeezed: &str) -> &str {
    let start = squeezed.find("fnmain(").expect("a fn main");
    let open = start + squeezed[start..].find('{').expect("its body");
    let mut depth = 0;
    for (i, c) in squeezed[open..].char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            return &squeezed[open + 1..open + i];
        }
    }
    panic!("fn main does not end");
}

/// The first rust block of the README equals the code of `cargo run --example hello`.
#[test]
fn the_readme_shows_the_hello_example() {
    let readme = read("README.md");
    let mut lines = readme.lines().skip_while(|l| !l.starts_with("```rust"));
    assert!(lines.next().is_some(), "README.md has no rust block");
    let block: Vec<&str> = lines.take_while(|l| !l.starts_with("```")).collect();
    // Readers do not see the lines that rustdoc hides.
    let shown: Vec<&str> = block
        .into_iter()
        .filter(|l| !l.starts_with("# ") && *l != "#")
        .collect();
    let (imports, shown) = imports_and_rest(&shown.join("\n"));
    let (hello_imports, hello) = imports_and_rest(&read("examples/hello.rs"));
    let shown = match shown.contains("fnmain(") {
        true => main_body(&shown),
        false => &shown,
    };
    assert!(!shown.is_empty(), "the block has nothing but imports");
    assert!(
        main_body(&hello).contains(shown),
        "README.md and examples/hello.rs differ:\n{shown}\n{}",
        main_body(&hello)
    );
    assert_eq!(
        imports, hello_imports,
        "imports of README.md and examples/hello.rs"
    );
}

/// Only `src/gpu` names wgpu's types; lib.rs re-exports them.
#[test]
fn wgpu_stays_in_its_folder() {
    let sources = files("src").into_iter();
    let others = sources.filter(|f| !f.starts_with("src/gpu/") && f != "src/lib.rs");
    let wrong = others.filter(|f| {
        let text = read(f);
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        code.into_iter().any(|line| line.contains("wgpu::"))
    });
    none(wrong.map(|f| format!("{f} names a type of wgpu")).collect());
}

/// `src/gpu/pipelines.rs` compiles kernels without naga's loop counter, so every loop must end by itself.
///
/// Every loop advances by one of these steps. `src/gpu/pipelines.rs` gives the reason for each; a new step needs a reason there.
#[test]
fn every_loop_of_the_shaders_ends() {
    const STEPS: [&str; 13] = [
        "i++",
        "j++",
        "probe++",
        "tile++",
        "i += LANES",
        "vector += LANES",
        "done += LANES",
        "i += WORKGROUP_SIZE",
        "i += BLOCK",
        "group += params.workgroups",
        "i += width",
        "half /= 2u",
        "mask *= 2u",
    ];
    let mut wrong = Vec::new();
    let mut unused: HashSet<&str> = STEPS.into();
    for name in files("shaders") {
        let text = read(&name);
        let lines = text
            .lines()
            .map(|line| line.split("//").next().unwrap_or(line));
        for line in lines {
            let words = || line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            let step = match line.trim().strip_prefix("for (") {
                Some(header) => header.rsplit("; ").next(),
                None if words().any(|w| ["loop", "while", "for"].contains(&w)) => None,
                None => continue,
            };
            let step = step.and_then(|s| s.strip_suffix(") {"));
            match step.filter(|s| STEPS.contains(s)) {
                Some(step) => {
                    unused.remove(step);
                }
                None => wrong.push(format!("{name}: {}", line.trim())),
            }
        }
    }
    wrong.extend(
        unused
            .iter()
            .map(|step| format!("no loop steps by `{step}`")),
    );
    none(wrong);
}

/// The bounds checks of the kernels stay on.
#[test]
fn only_the_bound_of_loops_is_unchecked() {
    let text = read("src/gpu/pipelines.rs");
    let code = text.lines().map(str::trim);
    let checks: Vec<&str> = code
        .filter(|line| !line.starts_with("//") && line.contains("checks"))
        .collect();
    assert_eq!(
        checks,
        [
            "let mut checks = wgpu::ShaderRuntimeChecks::checked();",
            "checks.force_loop_bounding = false;",
            "device.create_shader_module_trusted(descriptor, checks)",
        ]
    );
    for name in files("src") {
        let others = read(&name).contains("create_shader_module");
        assert!(!others || name == "src/gpu/pipelines.rs", "{name}");
    }
}
