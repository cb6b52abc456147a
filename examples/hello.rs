//! The README's example: one step of distillation, loss and gradient.

use wgpu_distill::{Batch, Config, Engine, Error, Outputs, Progress};

fn main() -> Result<(), Error> {
    let engine = Engine::auto(); // a hardware GPU, else the CPU
    println!("running on {}", engine.describe());

    // Two rows of three classes. The logits may come from any framework.
    let student_logits = [0.2, 0.1, -0.4, 1.5, -0.3, 0.0];
    let teacher_logits = [2.0, -1.0, 0.1, 3.0, -2.0, 0.5];
    let labels = [0, 0];
    let batch = Batch::new(&student_logits, &teacher_logits, &labels, 3);

    let config = Config {
        student_temperature: 2.0,
        teacher_temperature: 2.0,
        ..Config::default()
    };
    let progress = Progress::new(30, 100); // step 30 of 100
    let done = engine.run(&config, progress, &batch, Outputs::GRADIENT)?;

    let summary = &done.summary;
    println!(
        "loss {:.4}, KDR {:.4}, TSSR {:.4}",
        summary.loss, summary.kdr, summary.tssr
    );
    println!(
        "gradient for the student: {:.4?}",
        done.into_grad_student_logits()
    );
    Ok(())
}
