//! Checks of the products that the kernels form of the factors of loss and gradient.

use std::ops::RangeInclusive;

use crate::{Config, Error, HardTemperature, Reduction, Result, TemperatureScaling, TssrGradient};

/// Magnitudes of products and of their quotients by the denominator, 2^-100 to 2^100. A loss of 1e8 nats times the largest fits f32;
/// the smallest divided by the sum of a row of 2^26 classes is a normal f32, which no device flushes to 0.
const RANGE: RangeInclusive<f64> = 7.888_609_052_210_118e-31..=1.267_650_600_228_229_4e30;

/// A product with its names in errors: alone, over a given denominator, over the rows of a mean.
struct Product {
    names: [&'static str; 3],
    value: f64,
}

macro_rules! product {
    ($name:literal, $value:expr) => {
        Product {
            names: [
                $name,
                concat!($name, " / denominator"),
                concat!($name, " / rows"),
            ],
            value: $value,
        }
    };
}

/// The factors of loss and gradient, alone and of each part.
fn products(config: &Config) -> [Product; 9] {
    let [loss, gradient] = [config.temperature_factor(), config.gradient_factor()];
    let soft = f64::from(config.soft_weight);
    let scaling = config.temperature_scaling;
    let [loss, gradient, soft_loss, soft_gradient] = match scaling {
        TemperatureScaling::None => [
            product!("1", loss),
            product!("grad_loss / student_temperature", gradient),
            product!("soft_weight", soft * loss),
            product!(
                "soft_weight * grad_loss / student_temperature",
                soft * gradient
            ),
        ],
        TemperatureScaling::Squared => [
            product!("student_temperature * teacher_temperature", loss),
            product!("grad_loss * teacher_temperature", gradient),
            product!(
                "soft_weight * student_temperature * teacher_temperature",
                soft * loss
            ),
            product!(
                "soft_weight * grad_loss * teacher_temperature",
                soft * gradient
            ),
        ],
    };
    let own = config.has_own_hard_temperature();
    let (hard_loss, hard_gradient) = config.hard_factors();
    let [hard_loss, hard_gradient] = match (own, scaling) {
        (true, _) => [
            product!("hard_weight", hard_loss),
            product!("hard_weight * grad_loss / hard_temperature", hard_gradient),
        ],
        (false, TemperatureScaling::None) => [
            product!("hard_weight", hard_loss),
            product!(
                "hard_weight * grad_loss / student_temperature",
                hard_gradient
            ),
        ],
        (false, TemperatureScaling::Squared) => [
            product!(
                "hard_weight * student_temperature * teacher_temperature",
                hard_loss
            ),
            product!(
                "hard_weight * grad_loss * teacher_temperature",
                hard_gradient
            ),
        ],
    };
    let z_loss = product!("z_loss", f64::from(config.z_loss));
    let z_gradient = config.z_gradient_factor();
    let z_gradient = match config.hard_temperature {
        HardTemperature::Own(_) => {
            product!("2 * z_loss * grad_loss / hard_temperature", z_gradient)
        }
        HardTemperature::Student => {
            product!("2 * z_loss * grad_loss / student_temperature", z_gradient)
        }
    };
    // The gradient through TSSR multiplies a difference of losses, which have their factors.
    let attached = match config.tssr_gradient {
        TssrGradient::Attached => {
            f64::from(config.grad_loss) / f64::from(config.student_temperature)
        }
        TssrGradient::Detached => 0.0,
    };
    let attached = product!("grad_loss / student_temperature", attached);
    [
        loss,
        gradient,
        soft_loss,
        soft_gradient,
        hard_loss,
        hard_gradient,
        z_loss,
        z_gradient,
        attached,
    ]
}

/// Refuses a product that is not 0 and whose quotient is out of range. `name` is the index of its names.
fn in_range(products: &[Product], name: usize, denominator: f64) -> Result<()> {
    for product in products {
        let value = product.value / denominator;
        if product.value != 0.0 && !RANGE.contains(&value.abs()) {
            return Err(Error::InvalidConfig {
                field: product.names[name],
                value: format!("{value:e}"),
                expected: "0 or a magnitude between 1e-30 and 1e30",
            });
        }
    }
    Ok(())
}

/// Checks the products, and their quotients by a given denominator.
pub(super) fn check(config: &Config) -> Result<()> {
    let products = products(config);
    in_range(&products, 0, 1.0)?;
    match config.reduction {
        Reduction::SumOver(d) if d != 0.0 => in_range(&products, 1, f64::from(d)),
        _ => Ok(()),
    }
}

/// Checks the products divided by the number of rows, the largest denominator of a mean.
pub(crate) fn mean(config: &Config, rows: usize) -> Result<()> {
    match config.reduction {
        Reduction::Mean => in_range(&products(config), 2, rows.max(1) as f64),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_over_many_rows_keeps_its_factors_normal() {
        let with = |grad_loss, reduction| Config {
            grad_loss,
            reduction,
            ..Config::default()
        };
        let most = i32::MAX as usize;
        // 2.1e9 rows divide 1e-20 to 4.7e-30, and 1e-21 to 4.7e-31.
        assert_eq!(mean(&with(1e-20, Reduction::Mean), most), Ok(()));
        assert_eq!(mean(&with(0.0, Reduction::Mean), most), Ok(()));
        assert_eq!(mean(&with(1e-21, Reduction::Sum), most), Ok(()));
        assert_eq!(mean(&with(1e-21, Reduction::Mean), 1000), Ok(()));
        let names = |config: &Config, field: &str| {
            let refused = mean(config, most);
            assert!(
                matches!(&refused, Err(Error::InvalidConfig { field: f, .. }) if *f == field),
                "{refused:?}"
            );
        };
        let refused = with(1e-21, Reduction::Mean);
        names(&refused, "grad_loss / student_temperature / rows");
        // The weight divides 1e-20 further, to 4.7e-31.
        let weighted = Config {
            soft_weight: 0.1,
            ..with(1e-20, Reduction::Mean)
        };
        let field = "soft_weight * grad_loss / student_temperature / rows";
        names(&weighted, field);
    }
}
