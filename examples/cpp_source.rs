//! Prints the kernels of a shape in C++ for CUDA and HIP, with the grid and block of each launch.
//!
//! `cargo run --features cpp --example cpp_source -- 4096 32000 > distill.cu`

use wgpu_distill::plan::{LabelType, Limits, List, Lists, Matrix, Plan, Problem};
use wgpu_distill::{Config, Progress, Storage, shader};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).map(|n| n.parse::<usize>());
    let rows = numbers.next().transpose()?.unwrap_or(4096);
    let classes = numbers.next().transpose()?.unwrap_or(32_000);
    let matrix = Matrix {
        storage: Storage::F32,
        row_stride: classes,
        offset: 0,
        buffer_bytes: 4 * (rows * classes) as u64,
    };
    let logits = (matrix, classes);
    let problem = Problem::new(rows, logits, logits, Some(matrix));
    // An NVIDIA device under CUDA: warps of 32, 48 KiB of static shared memory.
    let limits = Limits {
        binding_bytes: (1 << 31) - 4,
        buffer_bytes: 1 << 40,
        offset_alignment: 16,
        workgroup_invocations: 1024,
        workgroup_bytes: 48 << 10,
        subgroup: Some((32, 32)),
        ..Limits::DEFAULT
    };
    let limits = Limits {
        resident_registers: 64,
        ..limits.with_registers_of(0x10de)
    };
    let config = Config::default();
    let plan = Plan::new(&config, &problem, &limits)?;
    let lists = Lists {
        labels: List::new(4 * rows as u64),
        label_type: LabelType::I32,
        teacher_ids: None,
        row_weights: None,
        class_weights: None,
        row_results: Some(List::new(16 * rows as u64)),
        row_metrics: None,
        summary: Some(List::new(80)),
        shard: None,
    };
    println!("// {rows} x {classes}: {plan}");
    for (operand, bytes) in plan.workspace() {
        println!("// workspace: {} of {bytes} bytes", operand.name());
    }
    let mut printed = Vec::new();
    for dispatch in plan.dispatches(&config, Progress::new(0, 100), &lists)? {
        let name = dispatch.kernel.name();
        let (grid, block) = (dispatch.workgroups, dispatch.variant.workgroup_size);
        println!("// launch {name}<<<{grid}, {block}>>>(params");
        for (_, window) in &dispatch.windows {
            println!("//     , {} + {}", window.operand.name(), window.offset);
        }
        println!("// )");
        if !printed.contains(&dispatch.kernel) {
            // Each source stands alone: compile them one by one.
            println!("{}", shader::cpp(dispatch.kernel, &dispatch.variant));
            printed.push(dispatch.kernel);
        }
    }
    Ok(())
}
