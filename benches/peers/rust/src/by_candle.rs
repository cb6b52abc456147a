//! The losses in candle's operations.

use candle_core::{D, Device, Result, Tensor, Var};
use candle_nn::ops::{log_softmax, softmax};

use crate::{Inputs, Library, Loss, TSTR};

/// A problem in candle's tensors on the CPU.
pub struct Candle {
    student: Var,
    teacher: Tensor,
    /// `[rows, 1]`
    labels: Tensor,
}

impl Candle {
    fn read(inputs: &Inputs) -> Result<Self> {
        let matrix = |stream| {
            let shape = (inputs.rows, inputs.classes);
            Tensor::from_vec(inputs.logits(stream), shape, &Device::Cpu)
        };
        let labels = inputs.labels().map(i64::from).collect();
        Ok(Self {
            student: Var::from_tensor(&matrix(0)?)?,
            teacher: matrix(1)?,
            labels: Tensor::from_vec(labels, (inputs.rows, 1), &Device::Cpu)?,
        })
    }

    fn distill(&self, loss: Loss) -> Result<(f32, Option<Tensor>)> {
        let mean = self.rows(loss)?.mean_all()?;
        let mut gradients = mean.backward()?;
        Ok((
            mean.to_scalar()?,
            gradients.remove(self.student.as_tensor()),
        ))
    }

    /// The loss of each row.
    fn rows(&self, loss: Loss) -> Result<Tensor> {
        let log_p = log_softmax(self.student.as_tensor(), D::Minus1)?;
        let log_q = || log_softmax(&self.teacher, D::Minus1);
        match loss {
            Loss::Method => {
                let q = softmax(&self.teacher, D::Minus1)?;
                let p = log_p.detach().exp()?;
                let norm = |x: &Tensor| x.sqr()?.sum_keepdim(1)?.sqrt();
                let kdr = ((&p * &q)?.sum_keepdim(1)? / (norm(&p)? * norm(&q)?)?)?;
                let tssr = kdr.minimum(f64::from(TSTR))?;
                let hard = log_p.gather(&self.labels, 1)?.neg()?;
                let soft = (&q * &log_p)?.sum_keepdim(1)?.neg()?;
                (hard * &tssr)? + (soft * (1.0 - &tssr)?)?
            }
            Loss::ForwardKl => {
                let log_q = log_q()?;
                (log_q.exp()? * (log_q - log_p)?)?.sum(1)
            }
            Loss::ReverseKl => (log_p.exp()? * (&log_p - log_q()?)?)?.sum(1),
            Loss::Jsd { beta } => {
                let (beta, log_q) = (f64::from(beta), log_q()?);
                let (p, q) = (log_p.exp()?, log_q.exp()?);
                let log_m = ((&q * beta)? + (&p * (1.0 - beta))?)?.log()?;
                let of_teacher = (q * (log_q - &log_m)?)?.sum(1)?;
                let of_student = (p * (log_p - log_m)?)?.sum(1)?;
                (of_teacher * beta)? + (of_student * (1.0 - beta))?
            }
            Loss::TotalVariation => (log_p.exp()? - log_q()?.exp()?)?.abs()?.sum(1)? / 2.0,
        }
    }
}

impl Library for Candle {
    type Gradient = Tensor;
    const NAME: &str = "candle";

    fn new(inputs: &Inputs) -> std::result::Result<Self, String> {
        Self::read(inputs).map_err(|e| e.to_string())
    }

    fn step(&self, loss: Loss) -> std::result::Result<(f32, Tensor), String> {
        let (value, gradient) = self.distill(loss).map_err(|e| e.to_string())?;
        Ok((value, gradient.ok_or("no gradient")?))
    }

    fn values(gradient: Tensor) -> std::result::Result<Vec<f32>, String> {
        let flat = gradient.flatten_all().and_then(|flat| flat.to_vec1());
        flat.map_err(|e| e.to_string())
    }
}
