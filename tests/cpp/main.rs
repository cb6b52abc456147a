//! The kernels in C++, compiled by the system's C++ compiler and run on coroutines as the threads of a block: cases of the table, against
//! the f64 reference.
//!
//! `CXX` names the compiler; the default is `c++`. `WGPU_DISTILL_SKIP_CPP=1` skips these tests.

#[path = "../browser/buffers.rs"]
mod buffers;
#[path = "../cases/mod.rs"]
mod cases;
#[path = "../report/mod.rs"]
mod report;

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use buffers::CaseBuffers;
use cases::Case;
use wgpu_distill::plan::Limits;
use wgpu_distill::shader;

/// The short run computes one of `SHARE` cases of the cover.
const SHARE: usize = 23;

/// The limits of NVIDIA's devices under CUDA, with warps of 32 and without their use.
fn devices() -> [Limits; 2] {
    let limits = Limits {
        workgroup_invocations: 1024,
        workgroup_bytes: 48 << 10,
        ..Limits::DEFAULT
    };
    let limits = Limits {
        resident_registers: 64,
        ..limits.with_registers_of(0x10de)
    };
    let warps = Limits {
        subgroup: Some((32, 32)),
        ..limits
    };
    [limits, warps]
}

/// A program that runs the dispatches of a case on a file with its buffers.
struct Program {
    of_case: CaseBuffers,
    about: String,
    source: String,
    buffers: Vec<u8>,
    /// The ranges of the outputs in `buffers`.
    outputs: Vec<std::ops::Range<usize>>,
}

impl Program {
    fn new(case: Case, limits: &Limits) -> Self {
        let of_case = CaseBuffers::new(case);
        let (plan, dispatches, all) = of_case.planned(limits);

        let mut source = include_str!("threads.h").to_owned();
        let mut kernels: Vec<String> = Vec::new();
        let mut calls = String::new();
        for dispatch in &dispatches {
            let text = shader::cpp(dispatch.kernel, &dispatch.variant);
            let at = kernels.iter().position(|known| *known == text);
            let at = at.unwrap_or_else(|| {
                let at = kernels.len();
                let _ = writeln!(source, "namespace kernel_{at} {{\n{text}\n}}");
                kernels.push(text);
                at
            });
            let words = words_of(&dispatch.params);
            let mut arguments = vec!["(const Params*)params".to_owned()];
            for (_, window) in &dispatch.windows {
                let buffer = all.iter().position(|b| b.0 == window.operand);
                let buffer = buffer.expect("made above");
                arguments.push(format!("at(buffers[{buffer}] + {})", window.offset));
            }
            let _ = writeln!(
                calls,
                "    {{\n        using namespace kernel_{at};\n        alignas(16) static const unsigned params[] = {{{}}};\n        \
                 threads::launch({}, {}, [] {{ {}({}); }});\n    }}",
                words.join(", "),
                dispatch.workgroups,
                dispatch.variant.workgroup_size,
                dispatch.kernel.name(),
                arguments.join(", "),
            );
        }
        let sizes: Vec<String> = all.iter().map(|(_, b)| b.len().to_string()).collect();
        let _ = write!(
            source,
            "struct at {{\n    char* byte;\n    explicit at(char* byte) : byte(byte) {{}}\n    template <class T> operator T*() const {{ return (T*)byte; }}\n}};\n\
             int main(int, char** arguments) {{\n    const size_t sizes[] = {{{}}};\n    for_each_buffer(arguments[1], \"rb\", sizes, {});\n{calls}    \
             for_each_buffer(arguments[1], \"wb\", sizes, {1});\n}}\n",
            sizes.join(", "),
            sizes.len(),
        );
        let range_of = |operand| {
            let before = all.iter().take_while(|b| b.0 != operand);
            let start: usize = before.map(|b| b.1.len()).sum();
            let own = all
                .iter()
                .find(|b| b.0 == operand)
                .expect("every case has it");
            start..start + own.1.len()
        };
        Self {
            about: format!("{}, {plan}", of_case.case.name),
            outputs: of_case.read().map(range_of).to_vec(),
            buffers: all.into_iter().flat_map(|b| b.1).collect(),
            of_case,
            source,
        }
    }

    /// Compiles and runs it in an empty folder, and compares the outputs.
    fn run(&self, folder: &Path, compiler: &str) -> Result<(), String> {
        let [source, program, memory] =
            ["case.cpp", "case", "buffers"].map(|name| folder.join(name));
        let write = |path: &Path, bytes: &[u8]| std::fs::write(path, bytes).expect("a folder");
        write(&source, self.source.as_bytes());
        write(&memory, &self.buffers);
        // Contraction to fused multiply-adds is CUDA's default too.
        let compile = Command::new(compiler)
            .args(["-std=c++17", "-O1", "-w", "-ffp-contract=fast", "-o"])
            .args([&program, &source])
            .output();
        let compile = compile.map_err(|e| format!("{compiler}: {e}"))?;
        if !compile.status.success() {
            return Err(String::from_utf8_lossy(&compile.stderr).into_owned());
        }
        let run = Command::new(&program).arg(&memory).output();
        let run = run.map_err(|e| e.to_string())?;
        if !run.status.success() {
            let said = String::from_utf8_lossy(&run.stderr);
            return Err(format!("{}: {said}", run.status));
        }
        let after = std::fs::read(&memory).expect("the program wrote it");
        let outputs: Vec<&[u8]> = self.outputs.iter().map(|r| &after[r.clone()]).collect();
        self.of_case.check(&outputs.concat())
    }
}

fn words_of(params: &shader::Params) -> Vec<String> {
    let words: &[u32] = wgpu_distill::bytemuck::cast_slice(std::slice::from_ref(params));
    words.iter().map(|word| format!("{word}u")).collect()
}

#[test]
fn cases_are_computed_in_cpp() {
    if std::env::var_os("WGPU_DISTILL_SKIP_CPP").is_some_and(|set| !set.is_empty()) {
        report::left_out("kernels in C++", "WGPU_DISTILL_SKIP_CPP");
        return;
    }
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let step = if cases::is_full() { 1 } else { SHARE };
    let table: Vec<Case> = cases::for_drivers().into_iter().step_by(step).collect();
    let jobs: Vec<(Case, Limits)> = table
        .iter()
        .flat_map(|case| devices().map(|limits| (case.clone(), limits)))
        .collect();
    let folder = std::env::temp_dir().join(format!("wgpu-distill-cpp-{}", std::process::id()));
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let failures: Vec<String> = std::thread::scope(|scope| {
        let (jobs, folder, compiler) = (&jobs, &folder, &compiler);
        let worker = |n: usize| {
            scope.spawn(move || {
                let own = folder.join(n.to_string());
                std::fs::create_dir_all(&own).expect("a temporary folder");
                let share = jobs.iter().skip(n).step_by(threads);
                let run = |(case, limits): &(Case, Limits)| {
                    let program = Program::new(case.clone(), limits);
                    let failure = program.run(&own, compiler).err()?;
                    Some(format!("{}: {failure}", program.about))
                };
                share.filter_map(run).collect::<Vec<_>>()
            })
        };
        let workers: Vec<_> = (0..threads).map(worker).collect();
        let done = workers.into_iter().map(|w| w.join().expect("no panic"));
        done.flatten().collect()
    });
    let _ = std::fs::remove_dir_all(&folder);
    assert!(
        failures.is_empty(),
        "{} of {} runs failed:\n{}",
        failures.len(),
        jobs.len(),
        failures.join("\n")
    );
    assert!(table.len() > 15, "the table of cases has shrunk");
    report::ran(&format!(
        "cpp: {} cases of the table, with warps and without, compiled by {compiler}",
        table.len()
    ));
}
