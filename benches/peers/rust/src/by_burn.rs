//! The losses in Burn's operations.

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::{Inputs, Library, Loss, TSTR};

/// A problem on Burn's backend flex.
pub struct Flex {
    student: Tensor<2>,
    teacher: Tensor<2>,
    labels: Tensor<1, Int>,
}

impl Library for Flex {
    type Gradient = Tensor<2>;
    const NAME: &str = "Burn, flex";

    fn new(inputs: &Inputs) -> Result<Self, String> {
        let device = Device::flex();
        let matrix = |stream| {
            let data = TensorData::new(inputs.logits(stream), [inputs.rows, inputs.classes]);
            Tensor::from_data(data, (&device, DType::F32))
        };
        let labels = TensorData::new(inputs.labels().collect::<Vec<_>>(), [inputs.rows]);
        Ok(Self {
            student: matrix(0),
            teacher: matrix(1),
            labels: Tensor::from_data(labels, (&device, DType::I32)),
        })
    }

    fn step(&self, loss: Loss) -> Result<(f32, Tensor<2>), String> {
        let student = Tensor::from_inner(self.student.clone()).require_grad();
        let rows = rows(loss, student.clone(), self.teacher.clone(), &self.labels);
        let mean = rows.mean();
        let gradients = mean.backward();
        let gradient = student.grad(&gradients).ok_or("no gradient")?;
        let value = mean.into_data().try_to_vec::<f32>();
        Ok((value.map_err(|e| e.to_string())?[0], gradient))
    }

    fn values(gradient: Tensor<2>) -> Result<Vec<f32>, String> {
        let values = gradient.into_data().try_to_vec();
        values.map_err(|e| e.to_string())
    }
}

/// The loss of each row, `[rows, 1]`.
fn rows(loss: Loss, student: Tensor<2>, teacher: Tensor<2>, labels: &Tensor<1, Int>) -> Tensor<2> {
    let log_p = log_softmax(student, 1);
    let teacher_log = |teacher| Tensor::<2>::from_inner(log_softmax(teacher, 1));
    match loss {
        Loss::Method => {
            let [count, _] = log_p.dims();
            let q = Tensor::from_inner(softmax(teacher, 1));
            let p = log_p.clone().detach().exp();
            let norm = |x: Tensor<2>| (x.clone() * x).sum_dim(1).sqrt();
            let kdr = (p.clone() * q.clone()).sum_dim(1) / (norm(p) * norm(q.clone()));
            let tssr = kdr.clamp_max(TSTR);
            let hard = log_p
                .clone()
                .gather(1, labels.clone().reshape([count, 1]))
                .neg();
            let soft = (q * log_p).sum_dim(1).neg();
            hard * tssr.clone() + soft * (tssr.neg() + 1.0)
        }
        Loss::ForwardKl => {
            let log_q = teacher_log(teacher);
            (log_q.clone().exp() * (log_q - log_p)).sum_dim(1)
        }
        Loss::ReverseKl => {
            let log_q = teacher_log(teacher);
            (log_p.clone().exp() * (log_p - log_q)).sum_dim(1)
        }
        Loss::Jsd { beta } => {
            let log_q = teacher_log(teacher);
            let (p, q) = (log_p.clone().exp(), log_q.clone().exp());
            let log_m = (q.clone() * beta + p.clone() * (1.0 - beta)).log();
            let of_teacher = (q * (log_q - log_m.clone())).sum_dim(1);
            let of_student = (p * (log_p - log_m)).sum_dim(1);
            of_teacher * beta + of_student * (1.0 - beta)
        }
        Loss::TotalVariation => {
            let q = teacher_log(teacher).exp();
            (log_p.exp() - q).abs().sum_dim(1) / 2.0
        }
    }
}
