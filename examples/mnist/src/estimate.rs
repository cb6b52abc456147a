//! A mean over seeds with its standard error.

/// A mean and its standard error, `None` for a single value.
#[derive(Clone, Copy)]
pub struct Estimate {
    pub mean: f64,
    pub error: Option<f64>,
}

impl Estimate {
    /// The mean of `values`, one for each seed.
    pub fn new(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        Self {
            mean,
            error: (values.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt()),
        }
    }

    /// The text `mean` with the standard error.
    pub fn plus_minus(self, mean: String) -> String {
        match self.error {
            Some(error) => format!("{mean} ± {error:.2}"),
            None => mean,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Estimate;

    #[test]
    fn the_error_is_that_of_the_mean() {
        let estimate = Estimate::new(&[1.0, 2.0, 3.0, 6.0]);
        assert_eq!(estimate.mean, 3.0);
        // The squares sum to 14; 14 / 3 / 4.
        assert!((estimate.error.expect("four values") - (14.0f64 / 12.0).sqrt()).abs() < 1e-12);
        assert_eq!(estimate.plus_minus("3.0".to_owned()), "3.0 ± 1.08");
        assert_eq!(Estimate::new(&[5.0]).plus_minus("5".to_owned()), "5");
    }
}
