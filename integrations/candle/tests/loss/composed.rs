//! Loss and gradient against candle's own operations and autograd in f64.

use candle_core::{D, DType, Result, Tensor, Var};
use candle_distill::{
    Config, DistillationLoss, Divergence, HardTemperature, Progress, Reduction, Selection, presets,
};

use crate::inputs::{CPU, assert_close, gradient, logits, values, var};

const ROWS: usize = 9;
const CLASSES: usize = 37;

fn log_softmax(logits: &Tensor, temperature: f64) -> Result<Tensor> {
    let z = (logits / temperature)?;
    let z = z.broadcast_sub(&z.max_keepdim(D::Minus1)?)?;
    z.broadcast_sub(&z.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

/// `- ln p` of the labels, `[rows]`.
fn cross_entropy(log_p: &Tensor, labels: &Tensor) -> Result<Tensor> {
    log_p.gather(&labels.unsqueeze(1)?, 1)?.squeeze(1)?.neg()
}

/// `KL(q, p)` of the rows, `[rows]`.
fn forward_kl(log_p: &Tensor, log_q: &Tensor) -> Result<Tensor> {
    (log_q.exp()? * (log_q - log_p)?)?.sum(D::Minus1)
}

struct Inputs {
    student: Var,
    /// The student's logits in f64, as a variable of candle's own graph.
    student_f64: Var,
    teacher: Tensor,
    teacher_f64: Tensor,
    labels: Tensor,
}

fn inputs() -> Result<Inputs> {
    let student = logits(1, &[ROWS, CLASSES], DType::F32)?;
    let teacher = logits(2, &[ROWS, CLASSES], DType::F32)?;
    let labels: Vec<u32> = (0..ROWS as u32).map(|row| row * 5 % 37).collect();
    Ok(Inputs {
        student: var(&student)?,
        student_f64: var(&student.to_dtype(DType::F64)?)?,
        teacher_f64: teacher.to_dtype(DType::F64)?,
        teacher,
        labels: Tensor::from_vec(labels, ROWS, CPU)?,
    })
}

/// Compares a configuration with the rows' losses by candle's operations, reduced as the configuration says.
fn compare(
    config: Config,
    progress: Progress,
    rows: impl Fn(&Inputs) -> Result<Tensor>,
) -> Result<()> {
    let inputs = inputs()?;
    let rows = rows(&inputs)?;
    let expected = match config.reduction {
        Reduction::None => rows,
        Reduction::Sum => rows.sum_all()?,
        _ => rows.mean_all()?,
    };
    let what = format!("{:?}, {:?}", config.divergence, config.reduction);
    let loss = DistillationLoss::new(config)?;
    let got = loss.forward(&inputs.student, &inputs.teacher, &inputs.labels, progress)?;
    assert_eq!(got.dims(), expected.dims(), "{what}");
    assert_eq!(got.dtype(), DType::F32, "{what}");
    assert_close(&values(&got)?, &values(&expected)?, 1e-5, &what);
    let got = gradient(&got, &inputs.student)?;
    assert_eq!(got.dims(), [ROWS, CLASSES], "{what}");
    let expected = gradient(&expected, &inputs.student_f64)?;
    assert_close(&values(&got)?, &values(&expected)?, 1e-5, &what);
    Ok(())
}

#[test]
fn the_label_alone_is_cross_entropy() -> Result<()> {
    for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
        let config = Config {
            selection: Selection::Fixed(1.0),
            reduction,
            ..Config::default()
        };
        compare(config, Progress::NONE, |i| {
            cross_entropy(&log_softmax(&i.student_f64, 1.0)?, &i.labels)
        })?;
    }
    Ok(())
}

#[test]
fn the_teacher_alone_is_forward_kl() -> Result<()> {
    for (reduction, temperature) in [(Reduction::Mean, 1.0), (Reduction::None, 3.0)] {
        let config = Config {
            divergence: Divergence::ForwardKl,
            selection: Selection::Fixed(0.0),
            student_temperature: temperature,
            teacher_temperature: temperature,
            reduction,
            ..Config::default()
        };
        compare(config, Progress::NONE, |i| {
            let t = f64::from(temperature);
            forward_kl(
                &log_softmax(&i.student_f64, t)?,
                &log_softmax(&i.teacher_f64, t)?,
            )
        })?;
    }
    Ok(())
}

#[test]
fn reverse_kl_is_forward_kl_of_the_other() -> Result<()> {
    let config = Config {
        divergence: Divergence::ReverseKl,
        selection: Selection::Fixed(0.0),
        ..Config::default()
    };
    compare(config, Progress::NONE, |i| {
        forward_kl(
            &log_softmax(&i.teacher_f64, 1.0)?,
            &log_softmax(&i.student_f64, 1.0)?,
        )
    })
}

/// The label at temperature 1, the teacher at T with T^2.
#[test]
fn hintons_mix() -> Result<()> {
    let (temperature, share) = (4.0, 0.3);
    let config = presets::hinton(temperature, share);
    assert_eq!(config.hard_temperature, HardTemperature::Own(1.0));
    let is_kl = config.divergence == Divergence::ForwardKl;
    compare(config, Progress::NONE, |i| {
        let (t, share) = (f64::from(temperature), f64::from(share));
        let hard = cross_entropy(&log_softmax(&i.student_f64, 1.0)?, &i.labels)?;
        let log_p = log_softmax(&i.student_f64, t)?;
        let log_q = log_softmax(&i.teacher_f64, t)?;
        let soft = match is_kl {
            true => forward_kl(&log_p, &log_q)?,
            false => (log_q.exp()? * log_p)?.sum(D::Minus1)?.neg()?,
        };
        (hard * share)? + (soft * ((1.0 - share) * t * t))?
    })
}

/// The method: the share of the label is the smaller one of training time and the cosine of both distributions. It is a constant.
#[test]
fn the_method_with_its_defaults() -> Result<()> {
    let (tstr, progress) = (0.4, Progress::new(40, 100));
    compare(Config::default(), progress, |i| {
        let log_p = log_softmax(&i.student_f64, 1.0)?;
        let log_q = log_softmax(&i.teacher_f64, 1.0)?;
        let (p, q) = (log_p.exp()?.detach(), log_q.exp()?);
        let length = |x: &Tensor| x.sqr()?.sum(D::Minus1)?.sqrt();
        let kdr = ((&p * &q)?.sum(D::Minus1)? / (length(&p)? * length(&q)?)?)?;
        let tssr = kdr.minimum(tstr)?;
        // Both sides of the minimum occur.
        let below = values(&kdr)?.iter().filter(|kdr| **kdr < tstr).count();
        assert!((1..ROWS).contains(&below), "{below}");
        let hard = cross_entropy(&log_p, &i.labels)?;
        let soft = (q * &log_p)?.sum(D::Minus1)?.neg()?;
        (&tssr * hard)? + (tssr.affine(-1.0, 1.0)? * soft)?
    })
}
