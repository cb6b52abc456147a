//! Configurations in files: of this version, of earlier ones and of later ones.

use burn::config::{Config, ConfigError};
use burn_distill::{
    CoreReduction, DistillationLossConfig, Divergence, HardTemperature, NonFinite, Scope,
    Selection, Similarity, Standardization, TeacherClasses, TemperatureScaling, TssrGradient,
};

fn load(text: &str) -> Result<DistillationLossConfig, ConfigError> {
    DistillationLossConfig::load_binary(text.as_bytes())
}

/// The fields of the version before the divergences, none with its default.
fn earlier() -> DistillationLossConfig {
    DistillationLossConfig::new()
        .with_student_temperature(2.5)
        .with_teacher_temperature(3.5)
        .with_temperature_scaling(TemperatureScaling::Squared)
        .with_similarity(Similarity::JensenShannon)
        .with_selection(Selection::Fixed(0.25))
        .with_scope(Scope::Given(0.5))
        .with_reduction(CoreReduction::SumOver(7.0))
        .with_label_smoothing(0.125)
        .with_ignore_index(3)
        .with_teacher_classes(TeacherClasses::CommonPrefix)
        .with_grad_scale(1024.0)
}

#[test]
fn a_saved_configuration_loads_again() {
    let config = || {
        earlier()
            .with_divergence(Divergence::Jsd { beta: 0.75 })
            .with_soft_weight(0.5)
            .with_hard_weight(2.0)
            .with_hard_temperature(HardTemperature::Own(1.5))
            .with_z_loss(1e-4)
            .with_non_finite(NonFinite::Skip)
            .with_standardization(Standardization::ZScore)
            .with_tssr_gradient(TssrGradient::Attached)
            .with_pad_tokens(vec![0, 7])
    };
    for divergence in Divergence::ALL {
        let config = config().with_divergence(divergence);
        let back = load(&config.to_string()).expect("what was saved");
        assert_eq!(config, back);
    }

    let file = std::env::temp_dir().join(format!("burn-distill-{}.json", std::process::id()));
    config().save(&file).expect("a file");
    let back = DistillationLossConfig::load(&file);
    std::fs::remove_file(&file).expect("it was saved");
    assert_eq!(config(), back.expect("what was saved"));
}

/// The text that the version before the embedded configuration saved.
#[test]
fn a_file_of_an_earlier_version_loads() {
    let text = r#"{
        "student_temperature": 2.5,
        "teacher_temperature": 3.5,
        "temperature_scaling": "Squared",
        "similarity": "JensenShannon",
        "selection": { "Fixed": 0.25 },
        "scope": { "Given": 0.5 },
        "reduction": { "SumOver": 7.0 },
        "label_smoothing": 0.125,
        "ignore_index": 3,
        "teacher_classes": "CommonPrefix",
        "grad_scale": 1024.0
    }"#;
    assert_eq!(load(text).expect("it loads"), earlier());
}

/// The printed and the saved form name the field as its setter does. Files with the name of wgpu-distill load too.
#[test]
fn the_scale_of_the_gradient_has_one_name() {
    let config = DistillationLossConfig::new().with_grad_scale(64.0);
    let text = config.to_string();
    assert!(text.contains("\"grad_scale\": 64"), "{text}");
    assert!(!text.contains("grad_loss"), "{text}");
    assert_eq!(load(r#"{ "grad_loss": 64.0 }"#).expect("it loads"), config);
    // wgpu-distill reads the same file, but for fields that only Burn has.
    let text = text.replace("\"pad_tokens\": []", "\"ignore_index\": -100");
    let text = text.replacen("\"ignore_index\": -100,", "", 1);
    let core: burn_distill::CoreConfig = serde_json::from_str(&text).expect("its own fields");
    assert_eq!(core, config.core);
}

#[test]
fn a_field_that_a_file_lacks_has_its_default() {
    assert_eq!(load("{}").expect("it loads"), DistillationLossConfig::new());
    let loaded = load(r#"{ "selection": "Product" }"#).expect("it loads");
    let want = DistillationLossConfig::new().with_selection(Selection::Product);
    assert_eq!(loaded, want);
}

/// A misspelt field, or a choice of a later version, would change the loss without a word.
#[test]
fn fields_and_choices_that_this_version_lacks_are_refused_by_name() {
    for (text, name) in [
        (r#"{ "simlarity": "Cosine" }"#, "simlarity"),
        (r#"{ "similarity": "Sine" }"#, "Sine"),
        (r#"{ "divergence": "Hellinger" }"#, "Hellinger"),
    ] {
        let error = load(text).expect_err(name).to_string();
        assert!(error.contains(name), "{error}");
    }
}
