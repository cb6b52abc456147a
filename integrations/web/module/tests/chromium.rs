//! The npm package in Chromium: cases of the table through `encode`, with subgroups and without, whole and in chunks, and through `distill`
//! on the CPU path in WebAssembly, each compared with the f64 reference.
//!
//! `npm run build` makes the module before. `WGPU_DISTILL_DEPTH=full` runs the whole table, `WGPU_DISTILL_CHROMIUM` names the browser,
//! `WGPU_DISTILL_SKIP_CHROMIUM=1` skips the test.

#![cfg(not(target_arch = "wasm32"))]

#[path = "../../../../tests/browser/buffers.rs"]
mod buffers;
#[path = "../../../../tests/cases/mod.rs"]
mod cases;
#[path = "../../../../tests/report/mod.rs"]
mod report;
#[path = "../../../../tests/browser/visit.rs"]
mod visit;

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value, json};
use wgpu_distill::half::{bf16, f16};
use wgpu_distill::plan::{Limits, Matrix, Operand, Plan};
use wgpu_distill::{Config, Storage, Summary, bytemuck};

use buffers::{CaseBuffers, bytes_per_row, results_of_rows};
use cases::Case;
use cases::compare::{self, Outcome};

/// The short run computes one of `SHARE` cases, and those that dispatch other kernels or have another kind of plan.
const SHARE: usize = 41;

/// One of so many cases is looked at for kernels and kinds of plans.
const LOOKED_AT: usize = 3;

/// Bytes of a binding in jobs whose plans have chunks.
const SMALL_BINDING: u64 = 1 << 16;

/// A way through the package.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Encode { limits: Limits },
    Cpu,
}

/// A case and its way.
struct Job {
    of_case: CaseBuffers,
    way: Way,
}

/// The name of an operand in JavaScript.
fn in_camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |text, word| {
        let (head, rest) = word.split_at(1);
        text + &head.to_uppercase() + rest
    })
}

impl Job {
    fn case(&self) -> &Case {
        &self.of_case.case
    }

    fn plan(&self, limits: &Limits) -> Plan {
        let plan = Plan::new(&self.case().config, &self.of_case.problem, limits);
        plan.expect("cases fit these limits")
    }

    fn about(&self) -> String {
        match &self.way {
            Way::Encode { limits } => format!("{}, {}", self.case().name, self.plan(limits)),
            Way::Cpu => format!("{}, on the CPU", self.case().name),
        }
    }

    fn has(&self, operand: Operand) -> bool {
        self.index(operand).is_some()
    }

    /// The buffer of an operand; in place, the gradient's for the student's logits.
    fn index(&self, operand: Operand) -> Option<usize> {
        let wanted = match operand {
            Operand::StudentLogits if self.case().in_place => Operand::Gradient,
            other => other,
        };
        let buffers = &self.of_case.buffers;
        buffers.iter().position(|(other, _)| *other == wanted)
    }

    fn matrix(&self, operand: Operand) -> Option<(Matrix, usize)> {
        let p = &self.of_case.problem;
        match operand {
            Operand::StudentLogits => Some((p.student, p.classes)),
            Operand::TeacherLogits => Some((p.teacher, self.case().teacher_classes)),
            Operand::Gradient => p.gradient.map(|m| (m, p.classes)),
            Operand::SoftLabels => p.soft_labels.map(|m| (m, p.classes)),
            _ => None,
        }
    }

    /// Bytes before the first item of an operand.
    fn offset(&self, operand: Operand) -> u64 {
        let lists = &self.of_case.lists;
        let list = match operand {
            Operand::TeacherIds => lists.teacher_ids,
            Operand::RowWeights => lists.row_weights,
            Operand::ClassWeights => lists.class_weights,
            Operand::RowResults => lists.row_results,
            Operand::RowMetrics => lists.row_metrics,
            Operand::Summary => lists.summary,
            _ => Some(lists.labels),
        };
        match self.matrix(operand) {
            Some((matrix, _)) => matrix.offset,
            None => list.expect("the case has it").offset,
        }
    }

    fn shape(&self) -> Value {
        let case = self.case();
        let matrix = |operand| {
            let found = self.matrix(operand);
            found.map(|(m, _)| json!({"storage": m.storage.name(), "rowStride": m.row_stride}))
        };
        let in_place = case.in_place && self.way != Way::Cpu;
        let mut shape = json!({
            "rows": case.rows, "classes": case.classes, "teacherClasses": case.teacher_classes,
            "student": matrix(Operand::StudentLogits), "teacher": matrix(Operand::TeacherLogits),
            "gradient": if in_place { json!("in-place") } else { json!(matrix(Operand::Gradient)) },
            "teacherIds": self.has(Operand::TeacherIds), "rowWeights": self.has(Operand::RowWeights),
            "classWeights": self.has(Operand::ClassWeights), "rowResults": !case.metrics, "rowMetrics": case.metrics,
            "summary": true,
        });
        if let Some(soft_labels) = matrix(Operand::SoftLabels) {
            shape["softLabels"] = soft_labels;
        }
        shape
    }

    /// The places of the operands that a call of the package takes.
    fn places(&self) -> Map<String, Value> {
        let operands = self.of_case.buffers.iter().map(|(operand, _)| *operand);
        let own = operands.filter(|o| !(self.case().in_place && *o == Operand::Gradient));
        own.map(|operand| {
            let place = json!([self.index(operand), self.offset(operand)]);
            (in_camel_case(operand.name()), place)
        })
        .collect()
    }

    /// The buffer, byte offset, length and type of each array of a call on arrays.
    fn arrays(&self) -> Map<String, Value> {
        let (case, p) = (self.case(), &self.of_case.problem);
        let inputs = self.of_case.buffers.iter().map(|(operand, _)| *operand);
        let results = [Operand::RowResults, Operand::RowMetrics, Operand::Summary];
        let inputs = inputs.filter(|o| !results.contains(o));
        inputs
            .map(|operand| {
                let (elements, kind) = match self.matrix(operand) {
                    Some((m, width)) => {
                        let bytes = m.end(case.rows, width) - m.offset;
                        let kind = if m.storage == Storage::F32 {
                            "f32"
                        } else {
                            "half"
                        };
                        (bytes as usize / m.storage.bytes(), kind)
                    }
                    None => match operand {
                        Operand::TeacherIds => (case.rows * case.teacher_classes, "i32"),
                        Operand::RowWeights => (case.rows, "f32"),
                        Operand::ClassWeights => (p.classes, "f32"),
                        _ => (case.rows, "i32"),
                    },
                };
                let array = json!([self.index(operand), self.offset(operand), elements, kind]);
                (in_camel_case(operand.name()), array)
            })
            .collect()
    }

    fn manifest(&self) -> Value {
        let case = self.case();
        let fields = Config::FIELDS.map(|field| (field.to_owned(), json!(case.config.get(field))));
        let sizes = self.of_case.buffers.iter().map(|(_, bytes)| bytes.len());
        let settings = match &self.way {
            // Plans of hardware have more kinds.
            Way::Encode { limits } => json!({
                "subgroups": limits.subgroup.is_some(), "software": false, "bindingBytes": limits.binding_bytes,
            }),
            Way::Cpu => json!({}),
        };
        let progress = case.progress;
        json!({
            "about": self.about(), "cpu": self.way == Way::Cpu, "shape": self.shape(),
            "config": fields.into_iter().collect::<Map<_, _>>(),
            "progress": {"step": progress.step, "total": progress.total},
            "sizes": sizes.collect::<Vec<_>>(), "places": self.places(), "arrays": self.arrays(),
            "read": self.of_case.read().map(|operand| self.index(operand)), "settings": settings,
        })
    }

    fn bytes(&self) -> Vec<u8> {
        let all = self
            .of_case
            .buffers
            .iter()
            .map(|(_, bytes)| bytes.as_slice());
        all.collect::<Vec<_>>().concat()
    }

    /// Compares summary, row results and gradient of a call on arrays with the reference.
    fn check_arrays(&self, body: &[u8]) -> Result<(), String> {
        let case = self.case();
        let (head, gradient) = body
            .split_at_checked(80 + bytes_per_row(case) * case.rows)
            .ok_or("too few bytes came back")?;
        let (matrix, _) = self.matrix(Operand::Gradient).expect("every case has one");
        let (size, classes) = (matrix.storage.bytes(), case.classes);
        let row = |r: usize| {
            let start = r * matrix.row_stride * size;
            gradient.get(start..start + classes * size)
        };
        let rows: Option<Vec<&[u8]>> = (0..case.rows).map(row).collect();
        let gradient = rows.ok_or("the gradient is too short")?.concat();
        let (rows, metrics) = results_of_rows(case, &head[80..]);
        let outcome = Outcome {
            summary: bytemuck::pod_read_unaligned::<Summary>(&head[..80]),
            rows,
            metrics,
            gradient: match matrix.storage {
                Storage::F32 => bytemuck::pod_collect_to_vec(&gradient),
                Storage::F16 => wide(&gradient, f16::to_f32),
                Storage::Bf16 => wide(&gradient, bf16::to_f32),
            },
        };
        compare::check(case, &case.reference(), &outcome)
    }
}

fn wide<T: bytemuck::Pod>(bytes: &[u8], to_f32: fn(T) -> f32) -> Vec<f32> {
    let values = bytemuck::pod_collect_to_vec::<u8, T>(bytes);
    values.into_iter().map(to_f32).collect()
}

/// The page's jobs.
#[derive(Default)]
struct Work {
    jobs: Vec<Job>,
    with_subgroups: bool,
    done: HashSet<usize>,
    kinds: BTreeSet<String>,
    failures: Vec<String>,
}

impl Work {
    /// Lists the jobs for a page whose device has these limits.
    fn plan(&mut self, subgroup: Option<(u32, u32)>) {
        self.with_subgroups = subgroup.is_some();
        let whole = cases::is_full();
        let own = Limits {
            subgroup,
            ..Limits::DEFAULT
        };
        let plain = Limits::DEFAULT;
        let small = |limits: Limits| Limits {
            binding_bytes: SMALL_BINDING,
            ..limits
        };
        let mut seen = HashSet::new();
        for (i, case) in cases::all().into_iter().enumerate() {
            let drawn = whole || i % SHARE == 0;
            // A drawn case runs with subgroups or without.
            let side = i / SHARE % 2;
            // A part of the table has every kind of plan, and the inputs of all of it take long to make.
            if !drawn && i % LOOKED_AT != 0 {
                continue;
            }
            let of_case = CaseBuffers::new(case);
            let case = &of_case.case;
            let limits = [own, plain, small(own), small(plain)];
            for (n, limits) in limits.into_iter().enumerate() {
                let Ok(plan) = Plan::new(&case.config, &of_case.problem, &limits) else {
                    continue;
                };
                let is_new = seen.insert((plan.kind(), plan.kernels(), plan.chunks().len() > 1, n));
                // Small bindings matter where they make chunks.
                let matters = n < 2 || plan.chunks().len() > 1;
                if is_new || (drawn && matters && (whole || n % 2 == side)) {
                    self.jobs.push(Job {
                        of_case: of_case.clone(),
                        way: Way::Encode { limits },
                    });
                }
            }
            if drawn && case.runs_into_slices() {
                self.jobs.push(Job {
                    of_case,
                    way: Way::Cpu,
                });
            }
        }
    }

    fn answer(&mut self, path: &str, body: &[u8]) -> Option<Vec<u8>> {
        if path == "/adapter" {
            let adapter: Value = serde_json::from_slice(body).ok()?;
            let size = |name: &str| adapter[name].as_u64().and_then(|n| u32::try_from(n).ok());
            let subgroup = (adapter["subgroups"] == true)
                .then(|| Some((size("subgroupMinSize")?, size("subgroupMaxSize")?)));
            self.plan(subgroup.flatten());
            return Some(self.jobs.len().to_string().into_bytes());
        }
        let (what, n) = path.strip_prefix('/')?.split_once('/')?;
        let n: usize = n.parse().ok()?;
        let job = self.jobs.get(n)?;
        let failure = match (what, &job.way) {
            ("job", _) => return Some(job.manifest().to_string().into_bytes()),
            ("bytes", _) => return Some(job.bytes()),
            ("plan", Way::Encode { limits }) => {
                let plan = job.plan(limits);
                let kernels = plan.kernels().into_iter().map(|k| k.name().to_owned());
                self.kinds.extend(kernels);
                let chunks = if plan.chunks().len() > 1 {
                    " in chunks"
                } else {
                    ""
                };
                self.kinds.insert(format!("{:?}{chunks}", plan.kind()));
                if job.case().metrics {
                    let how = if limits.subgroup.is_some() {
                        "metrics with subgroups"
                    } else {
                        "metrics without subgroups"
                    };
                    self.kinds.insert(how.to_owned());
                }
                let said = String::from_utf8_lossy(body);
                let (said, plan) = (said.into_owned(), plan.to_string());
                (said != plan).then(|| format!("the page plans `{said}`, expected `{plan}`"))
            }
            ("outputs", _) => {
                self.done.insert(n);
                job.of_case.check(body).err()
            }
            ("cpu", _) => {
                self.done.insert(n);
                if job.case().metrics {
                    self.kinds.insert("metrics on the CPU path".to_owned());
                }
                job.check_arrays(body).err()
            }
            _ => return None,
        };
        let about = job.about();
        let failure = failure.map(|why| format!("{about}: {why}"));
        self.failures.extend(failure);
        Some(Vec::new())
    }
}

/// A file of the package.
fn file(path: &str) -> Option<Vec<u8>> {
    let name = path.strip_prefix("/dist/")?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist");
    let is_plain = !name.contains(['/', '\\']);
    let bytes = is_plain.then(|| std::fs::read(folder.join(name)).ok())?;
    assert!(
        bytes.is_some() || !name.ends_with(".wasm"),
        "integrations/web/dist/{name} is not there: run `npm ci` and `npm run build` in integrations/web"
    );
    bytes
}

#[test]
fn cases_are_computed_by_the_package() {
    if visit::is_skipped() {
        return;
    }
    let work = Arc::new(Mutex::new(Work::default()));
    let answer = {
        let work = work.clone();
        move |path: &str, body: Vec<u8>| match file(path) {
            Some(bytes) => Some(bytes),
            None => work.lock().expect("no panic").answer(path, &body),
        }
    };
    let patience = Duration::from_secs(if cases::is_full() { 7200 } else { 600 });
    let result = visit::visit(include_str!("chromium.html"), Arc::new(answer), patience);

    let work = work.lock().expect("no panic");
    let on_cpu = work.jobs.iter().filter(|job| job.way == Way::Cpu).count();
    let jobs = work.jobs.len();
    report::ran(&format!(
        "web, cases, {}: {} calls of `encode` {}, {on_cpu} of `distill` on the CPU path; {}",
        result["adapter"],
        jobs - on_cpu,
        match work.with_subgroups {
            true => "with subgroups and without",
            false => "without subgroups",
        },
        Vec::from_iter(work.kinds.iter().map(String::as_str)).join(", "),
    ));
    let errors = visit::list(&result, "errors");
    assert!(errors.is_empty(), "refused:\n{}", errors.join("\n"));
    let failures = &work.failures;
    assert!(failures.is_empty(), "failed:\n{}", failures.join("\n"));
    assert_eq!(work.done.len(), jobs, "every job comes back");
    assert_eq!(visit::count(&result, "jobs"), jobs);
    visit::subgroups(work.with_subgroups);
    if work.with_subgroups {
        assert!(work.kinds.contains("metrics with subgroups"));
    }
    for kind in [
        "metrics without subgroups",
        "metrics on the CPU path",
        "Packed",
        "Resident",
        "Streaming",
        "Split",
        "TwoPhase",
        "Packed in chunks",
        "TwoPhase in chunks",
        "distill",
        "observe",
        "second_sweep",
        "merge_row_stats",
        "decide",
        "apply",
        "valid_rows",
        "summary",
    ] {
        assert!(work.kinds.contains(kind), "no job is {kind}");
    }
    assert!(on_cpu > 10, "only {on_cpu} cases on the CPU path");
}
