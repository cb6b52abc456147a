//! The methods of training a student that the example compares.

use wgpu_distill::{
    Config, Divergence, HardTemperature, Selection, Standardization, TemperatureScaling, presets,
};

use crate::options::Options;
use crate::students::Method;

/// Labels only, four kinds of plain distillation, and this crate's method. They differ in the configuration of the loss alone.
pub fn methods(options: &Options) -> Vec<Method> {
    let temperatures = Config {
        student_temperature: options.temperature,
        teacher_temperature: options.temperature,
        ..Config::default()
    };
    let with = |selection| Config {
        selection,
        ..temperatures
    };
    let method = |name: &str, config| Method {
        name: name.to_owned(),
        config,
    };
    let fixed = options.fixed;
    vec![
        // Without a teacher the temperature is 1.
        method(
            "labels only",
            Config {
                selection: Selection::Fixed(1.0),
                ..Config::default()
            },
        ),
        method("teacher alone (fixed:0)", with(Selection::Fixed(0.0))),
        method(
            &format!("plain distillation (fixed:{fixed})"),
            with(Selection::Fixed(fixed)),
        ),
        method(
            &format!("Hinton's mix (fixed:{fixed}, label at temperature 1)"),
            presets::hinton(options.temperature, fixed),
        ),
        method("teacher annealing (tstr)", with(Selection::Tstr)),
        method(&this_name(options), this_method(options, temperatures)),
    ]
}

/// This method, as the options change it.
fn this_method(options: &Options, temperatures: Config) -> Config {
    let config = Config {
        standardization: match options.standardize {
            true => Standardization::ZScore,
            false => Standardization::None,
        },
        divergence: options.loss,
        similarity: options.similarity,
        selection: options.selection,
        soft_weight: options.soft_weight,
        hard_weight: options.hard_weight,
        z_loss: options.z_loss,
        ..temperatures
    };
    match options.hard_temperature {
        // The soft part's gradient falls with the square of its temperature, the label's does not.
        Some(temperature) => Config {
            hard_temperature: HardTemperature::Own(temperature),
            temperature_scaling: TemperatureScaling::Squared,
            ..config
        },
        None => config,
    }
}

/// The name of this method with the options that differ from their defaults.
fn this_name(options: &Options) -> String {
    let mut name = format!("this method ({}, {}", options.selection, options.similarity);
    if options.loss != Divergence::default() {
        name += &format!(", {}", options.loss);
    }
    if options.standardize {
        name += ", z-scores";
    }
    if let Some(temperature) = options.hard_temperature {
        name += &format!(", label at temperature {temperature}");
    }
    if (options.soft_weight, options.hard_weight) != (1.0, 1.0) {
        let (soft, hard) = (options.soft_weight, options.hard_weight);
        name += &format!(", weights {soft} and {hard}");
    }
    if options.z_loss != 0.0 {
        name += &format!(", z-loss {}", options.z_loss);
    }
    name + ")"
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn this(arguments: &[&str]) -> Method {
        let options = Options::try_parse_from([&["mnist"], arguments].concat()).expect("valid");
        methods(&options).pop().expect("methods")
    }

    #[test]
    fn every_loss_has_a_name_on_the_command_line() {
        for loss in crate::options::of_classes() {
            let method = this(&["--loss", &loss.to_string()]);
            assert_eq!(method.config.divergence, loss);
        }
        assert_eq!(
            this(&["--loss", "jsd:0.25"]).name,
            "this method (min, cosine, jsd:0.25)"
        );
    }

    #[test]
    fn a_temperature_of_the_label_scales_the_soft_part() {
        let method = this(&["--hard-temperature", "1", "--selection", "fixed:0.3"]);
        assert_eq!(method.config, presets::hinton(4.0, 0.3));
        assert_eq!(
            method.name,
            "this method (fixed:0.3, cosine, label at temperature 1)"
        );
    }

    #[test]
    fn logits_are_standardised() {
        let method = this(&["--standardize", "--loss", "forward-kl"]);
        assert_eq!(method.config.standardization, Standardization::ZScore);
        assert_eq!(
            method.name,
            "this method (min, cosine, forward-kl, z-scores)"
        );
    }

    #[test]
    fn weights_reach_the_loss() {
        let method = this(&[
            "--soft-weight",
            "2",
            "--hard-weight",
            "0",
            "--z-loss",
            "1e-4",
        ]);
        let config = method.config;
        assert_eq!((config.soft_weight, config.hard_weight), (2.0, 0.0));
        assert_eq!(config.z_loss, 1e-4);
        assert_eq!(
            method.name,
            "this method (min, cosine, weights 2 and 0, z-loss 0.0001)"
        );
    }

    #[test]
    fn plain_options_leave_the_method_as_published() {
        let method = this(&["--temperature", "1"]);
        assert_eq!(method.config, Config::default());
        assert_eq!(method.name, "this method (min, cosine)");
    }
}
