//! Cases of the table, computed in the browser. Each is a list of dispatches and the bytes of the buffers that they bind.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use wgpu_distill::plan::{Limits, Operand};
use wgpu_distill::shader::{Dialect, assemble};

use crate::buffers::CaseBuffers;
use crate::cases::{self, Case};
use crate::visit;

/// The short run computes one of `SHARE` cases.
const SHARE: usize = 23;

/// A buffer's initial contents, as whole 32-bit words.
struct Buffer {
    operand: Option<Operand>,
    bytes: Vec<u8>,
}

/// A case in the form that the page runs.
struct Job {
    of_case: CaseBuffers,
    about: String,
    buffers: Vec<Buffer>,
    dispatches: Vec<Value>,
}

impl Job {
    fn new(case: Case, limits: &Limits) -> Self {
        let of_case = CaseBuffers::new(case);
        let (plan, dispatches, buffers) = of_case.planned(limits);
        let mut buffers: Vec<Buffer> = buffers
            .into_iter()
            .map(|(operand, bytes)| Buffer {
                operand: Some(operand),
                bytes,
            })
            .collect();
        let dispatches = dispatches.iter().map(|dispatch| {
            let at = |operand| buffers.iter().position(|b| b.operand == Some(operand));
            let mut bindings: Vec<Value> = dispatch
                .windows
                .iter()
                .map(|(binding, window)| {
                    json!({
                        "index": binding.index,
                        "kind": format!("{:?}", binding.kind),
                        "buffer": at(window.operand).expect("made above"),
                        "offset": window.offset,
                        "size": window.bytes,
                    })
                })
                .collect();
            let params = bytemuck::bytes_of(&dispatch.params).to_vec();
            bindings.push(json!({
                "index": 0, "kind": "Uniform", "buffer": buffers.len(), "offset": 0, "size": params.len(),
            }));
            buffers.push(Buffer { operand: None, bytes: params });
            json!({
                "code": assemble(dispatch.kernel, &dispatch.variant, Dialect::Standard),
                "bindings": bindings,
                "workgroups": dispatch.workgroups,
            })
        });
        let dispatches = dispatches.collect();
        Self {
            about: format!("{}, {plan}", of_case.case.name),
            of_case,
            buffers,
            dispatches,
        }
    }

    fn manifest(&self) -> Value {
        let buffers = self.buffers.iter();
        let buffers: Vec<Value> = buffers
            .map(|b| json!({"size": b.bytes.len(), "uniform": b.operand.is_none()}))
            .collect();
        let of = |operand| self.buffers.iter().position(|b| b.operand == Some(operand));
        json!({
            "about": self.about, "buffers": buffers, "dispatches": self.dispatches,
            "read": self.of_case.read().map(|operand| of(operand).expect("every job has it")),
        })
    }

    fn bytes(&self) -> Vec<u8> {
        let all = self.buffers.iter().map(|b| b.bytes.as_slice());
        all.collect::<Vec<_>>().concat()
    }
}

/// The page's jobs, created when it requests them.
struct Work {
    cases: Vec<Case>,
    /// Limits without subgroups, and with them if the browser has them.
    limits: Vec<Limits>,
    job: Option<(usize, Job)>,
    done: HashSet<usize>,
    failures: Vec<String>,
}

impl Work {
    fn count(&self) -> usize {
        self.cases.len() * self.limits.len()
    }

    fn job(&mut self, n: usize) -> &Job {
        if self.job.as_ref().is_none_or(|(at, _)| *at != n) {
            let case = self.cases[n % self.cases.len()].clone();
            let job = Job::new(case, &self.limits[n / self.cases.len()]);
            self.job = Some((n, job));
        }
        &self.job.as_ref().expect("just made").1
    }

    fn answer(&mut self, path: &str, body: &[u8]) -> Option<Vec<u8>> {
        if path == "/adapter" {
            let adapter: Value = serde_json::from_slice(body).ok()?;
            let size = |name: &str| adapter[name].as_u64().and_then(|n| u32::try_from(n).ok());
            if adapter["subgroups"] == true {
                let sizes = (size("subgroupMinSize")?, size("subgroupMaxSize")?);
                self.limits.push(Limits {
                    subgroup: Some(sizes),
                    ..Limits::DEFAULT
                });
            }
            return Some(self.count().to_string().into_bytes());
        }
        let (what, n) = path.strip_prefix('/')?.split_once('/')?;
        let n = n.parse().ok().filter(|n| *n < self.count())?;
        match what {
            "job" => Some(self.job(n).manifest().to_string().into_bytes()),
            "bytes" => Some(self.job(n).bytes()),
            "outputs" => {
                let job = self.job(n);
                let failure = job.of_case.check(body).err();
                let failure = failure.map(|why| format!("{}: {why}", job.about));
                self.failures.extend(failure);
                self.done.insert(n);
                Some(Vec::new())
            }
            _ => None,
        }
    }
}

#[test]
fn cases_are_computed_in_chromium() {
    if visit::is_skipped() {
        return;
    }
    let step = if cases::is_full() { 1 } else { SHARE };
    let work = Arc::new(Mutex::new(Work {
        cases: cases::all().into_iter().step_by(step).collect(),
        limits: vec![Limits::DEFAULT],
        job: None,
        done: HashSet::new(),
        failures: Vec::new(),
    }));
    let answer = {
        let work = work.clone();
        move |path: &str, body: Vec<u8>| work.lock().expect("no panic").answer(path, &body)
    };
    let patience = Duration::from_secs(if cases::is_full() { 3600 } else { 600 });
    let result = visit::visit(include_str!("run.html"), Arc::new(answer), patience);

    let work = work.lock().expect("no panic");
    let jobs = visit::count(&result, "jobs");
    crate::report::ran(&format!(
        "chromium, cases, {}: {} cases of the table computed {}, by {} dispatches of {} pipelines",
        result["adapter"],
        work.cases.len(),
        if work.limits.len() > 1 {
            "with subgroups and without"
        } else {
            "without subgroups"
        },
        visit::count(&result, "dispatches"),
        visit::count(&result, "pipelines"),
    ));
    let errors = visit::list(&result, "errors");
    assert!(
        errors.is_empty(),
        "{} cases are refused:\n{}",
        errors.len(),
        errors.join("\n")
    );
    assert!(
        work.failures.is_empty(),
        "{} of {jobs} cases failed:\n{}",
        work.failures.len(),
        work.failures.join("\n")
    );
    assert_eq!(work.done.len(), jobs, "every job comes back");
    visit::subgroups(work.limits.len() > 1);
    assert!(jobs > 25, "the table of cases has shrunk");
}
