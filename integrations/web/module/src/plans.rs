//! Plans of the host: the list of dispatches in JSON, the kernels' texts, and the parameters of each step.

use wgpu_distill::bytemuck;
use wgpu_distill::plan::{
    Dispatch, LabelType, List, Lists, Matrix, Operand, Plan, Problem, Window, check_bindings,
};
use wgpu_distill::shader::{Binding, BindingKind, Dialect, Kernel, Params, Variant, assemble};
use wgpu_distill::{Config, Error, Progress};

use crate::json;
use crate::request::{Place, Refusal, Request};

/// A plan, its list of dispatches, and the configuration that it was made for.
struct Planned {
    config: Config,
    plan: Plan,
    dispatches: Vec<Dispatch>,
    /// The kernels of the list, each once.
    kernels: Vec<(Kernel, Variant)>,
}

/// Plans by their numbers, from 1.
#[derive(Default)]
pub struct Plans(Vec<Option<Planned>>);

impl Plans {
    /// Plans for the buffers of a request. Returns the plan's number and its list.
    pub fn add(&mut self, request: &str) -> Result<(u32, Vec<u8>), Refusal> {
        let planned = Planned::new(&Request::read(request, Config::default())?)?;
        let answer = planned.to_json().into_bytes();
        let free = self.0.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            self.0.push(None);
            self.0.len() - 1
        });
        self.0[slot] = Some(planned);
        Ok((slot as u32 + 1, answer))
    }

    fn get(&mut self, number: u32) -> Result<&mut Planned, Refusal> {
        let slot = (number as usize).wrapping_sub(1);
        let planned = self.0.get_mut(slot).and_then(Option::as_mut);
        planned.ok_or_else(|| Refusal::request("a plan that was dropped"))
    }

    /// The text of a kernel of a plan.
    pub fn code(&mut self, number: u32, kernel: usize) -> Result<String, Refusal> {
        let kernels = &self.get(number)?.kernels;
        let found = kernels.get(kernel);
        let (kernel, variant) = found.ok_or_else(|| Refusal::request("a kernel's index"))?;
        Ok(assemble(*kernel, variant, Dialect::Standard))
    }

    /// The parameters of all dispatches of a plan for a step.
    pub fn parameters(&mut self, number: u32, request: &str) -> Result<Vec<u8>, Refusal> {
        let planned = self.get(number)?;
        let Request {
            config, progress, ..
        } = Request::read(request, planned.config)?;
        planned
            .plan
            .renumber(&mut planned.dispatches, &config, progress)?;
        let params = planned.dispatches.iter().map(|d| d.params);
        let params: Vec<Params> = params.collect();
        Ok(bytemuck::cast_slice(&params).to_vec())
    }

    pub fn remove(&mut self, number: u32) {
        if let Some(slot) = self.0.get_mut((number as usize).wrapping_sub(1)) {
            *slot = None;
        }
    }
}

impl Planned {
    fn new(request: &Request) -> Result<Self, Refusal> {
        request.check_teacher()?;
        let list = |operand| request.place(operand).map(list);
        let lists = Lists {
            labels: list(Operand::Labels).ok_or_else(|| Refusal::request("no labels"))?,
            label_type: LabelType::I32,
            teacher_ids: list(Operand::TeacherIds),
            row_weights: list(Operand::RowWeights),
            class_weights: list(Operand::ClassWeights),
            row_results: list(Operand::RowResults),
            row_metrics: list(Operand::RowMetrics),
            summary: list(Operand::Summary),
            shard: None,
        };
        let buffer = |operand| request.place(operand).map(|place| place.numbers[2]);
        // Each operand of the workspace has its own buffer.
        let same_buffer = |a, b| match (buffer(a), buffer(b)) {
            (None, None) => a == b,
            (first, second) => first == second,
        };
        let problem = problem(request)?.in_buffers(&lists, same_buffer)?;
        let config = request.config;
        let plan = Plan::new(&config, &problem, &request.limits)?;
        // The bindings do not depend on the progress.
        let dispatches = plan.dispatches(&config, Progress::new(0, 1), &lists)?;
        check_bindings(&dispatches, same_buffer)?;
        let mut kernels = Vec::new();
        for Dispatch {
            kernel, variant, ..
        } in &dispatches
        {
            if !kernels.contains(&(*kernel, *variant)) {
                kernels.push((*kernel, *variant));
            }
        }
        Ok(Self {
            config,
            plan,
            dispatches,
            kernels,
        })
    }

    fn to_json(&self) -> String {
        let workspace = self.plan.workspace().into_iter();
        let workspace = workspace
            .map(|(operand, bytes)| json::array([json::string(operand.name()), bytes.to_string()]));
        let kernels = self.kernels.iter();
        let kernels = kernels.map(|(kernel, variant)| {
            let bindings = kernel.bindings(variant).into_iter();
            let bindings = bindings.map(|b| json::array([b.index.to_string(), kind(b)]));
            json::object([
                ("name", json::string(kernel.name())),
                ("bindings", json::array(bindings)),
            ])
        });
        let dispatches = self.dispatches.iter().map(|d| self.dispatch(d));
        json::object([
            ("plan", json::string(&self.plan.to_string())),
            ("workspace", json::array(workspace)),
            ("kernels", json::array(kernels)),
            ("dispatches", json::array(dispatches)),
            ("parameterBytes", size_of::<Params>().to_string()),
        ])
    }

    fn dispatch(&self, dispatch: &Dispatch) -> String {
        let own = (dispatch.kernel, dispatch.variant);
        let kernel = self.kernels.iter().position(|kernel| *kernel == own);
        let window = |(binding, window): &(Binding, Window)| {
            json::array([
                binding.index.to_string(),
                json::string(window.operand.name()),
                window.offset.to_string(),
                window.bytes.to_string(),
            ])
        };
        json::object([
            ("kernel", kernel.unwrap_or_default().to_string()),
            ("workgroups", dispatch.workgroups.to_string()),
            ("windows", json::array(dispatch.windows.iter().map(window))),
        ])
    }
}

/// WebGPU's name of a binding's kind.
fn kind(binding: Binding) -> String {
    json::string(match binding.kind {
        BindingKind::Uniform => "uniform",
        BindingKind::Read => "read-only-storage",
        BindingKind::ReadWrite => "storage",
    })
}

fn list(place: &Place) -> List {
    let [offset, buffer_bytes, _] = place.numbers;
    List {
        offset,
        buffer_bytes,
    }
}

/// The problem with the places of its matrices.
fn problem(request: &Request) -> Result<Problem, Refusal> {
    let matrix = |operand| {
        let place = request.place(operand)?;
        let (storage, row_stride) = place.matrix?;
        let List {
            offset,
            buffer_bytes,
        } = list(place);
        Some(Matrix {
            storage,
            row_stride,
            offset,
            buffer_bytes,
        })
    };
    let needed = |operand: Operand| {
        matrix(operand).ok_or_else(|| Refusal::request(&format!("no {}", operand.name())))
    };
    let has = |operand| request.place(operand).is_some();
    let student = needed(Operand::StudentLogits)?;
    let teacher = needed(Operand::TeacherLogits)?;
    let is_list = has(Operand::TeacherIds);
    if has(Operand::RowMetrics) && has(Operand::RowResults) {
        return Err(Error::Unsupported {
            what: "`row_results` beside `row_metrics`".to_owned(),
            why: "each report of `row_metrics` begins with the row's result; use one of them",
        }
        .into());
    }
    Ok(Problem {
        teacher_list: is_list,
        teacher_classes: match is_list {
            true => request.teacher_classes,
            false => request.teacher_classes.min(request.classes),
        },
        soft_labels: matrix(Operand::SoftLabels),
        row_weights: has(Operand::RowWeights),
        class_weights: has(Operand::ClassWeights),
        metrics: has(Operand::RowMetrics),
        ..Problem::new(
            request.rows,
            (student, request.classes),
            (teacher, request.teacher_classes),
            matrix(Operand::Gradient),
        )
    })
}
