//! Every shader variant parses, validates and translates. Its bindings, struct layouts and workgroup memory match the Rust definitions.

use std::collections::BTreeSet;

use crate::report;
use crate::variants::{base, texts};
use naga::back;
use naga::compact::{KeepUnused, compact};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use wgpu_distill::shader::{BindingKind, Dialect, Kernel, Params, Variant, assemble};
use wgpu_distill::{Decision, RowMetrics, RowReport, RowResult, RowStats, Summary};

fn parse(kernel: Kernel, variant: &Variant, text: &str) -> (naga::Module, ModuleInfo) {
    let about = || format!("{} {variant:?}", kernel.name());
    let module = naga::front::wgsl::parse_str(text)
        .unwrap_or_else(|e| panic!("{}: {}", about(), e.emit_to_string(text)));
    let capabilities = Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .unwrap_or_else(|e| panic!("{}: {}", about(), e.emit_to_string(text)));
    (module, info)
}

/// One pass over the texts, since parsing them takes the most time.
#[test]
fn every_variant() {
    let texts = texts(Dialect::Naga);
    let mut declared = BTreeSet::new();
    let mut called = BTreeSet::new();
    let mut of_metal = BTreeSet::new();
    for (kernel, variant, text) in &texts {
        let about = format!("{} {variant:?}", kernel.name());
        let (mut module, info) = parse(*kernel, variant, text);
        let metal = translates(&about, variant, &module, &info);
        of_metal.extend(
            metal
                .split("metal::")
                .skip(1)
                .map(|rest| word_of(rest).to_owned()),
        );
        bindings_are_what_the_kernel_declares(&about, (*kernel, variant), &module, &info);
        workgroup_memory_stays_within_what_the_plan_counts(&about, (*kernel, variant), &module);

        declared.extend(functions(&module));
        compact(&mut module, KeepUnused::No);
        called.extend(functions(&module));
    }
    assert!(called.contains("kernel"));
    let uncalled: Vec<_> = declared.difference(&called).collect();
    assert!(uncalled.is_empty(), "no variant calls: {uncalled:?}");
    // The C++ for CUDA defines what the translation to Metal's uses.
    let prelude = include_str!("../../src/shader/prelude.h");
    let words: BTreeSet<&str> = prelude.split(|c| !is_of_word(c)).collect();
    let undefined = of_metal
        .iter()
        .filter(|used| !words.contains(used.as_str()));
    let undefined: Vec<_> = undefined.collect();
    assert!(undefined.is_empty(), "the prelude lacks {undefined:?}");
    report::ran(&format!(
        "texts: {} distinct shader texts: SPIR-V, MSL, HLSL; GLSL without subgroups",
        texts.len()
    ));
    assert!(
        texts.len() > 300,
        "the list of variants has shrunk to {}",
        texts.len()
    );
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn word_of(text: &str) -> &str {
    let end = text.find(|c| !is_of_word(c));
    &text[..end.unwrap_or(text.len())]
}

fn functions(module: &naga::Module) -> BTreeSet<String> {
    let functions = module.functions.iter();
    functions.filter_map(|(_, f)| f.name.clone()).collect()
}

/// Returns the text in Metal's language.
fn translates(about: &str, variant: &Variant, module: &naga::Module, info: &ModuleInfo) -> String {
    let spirv = back::spv::Options {
        lang_version: (1, 3),
        ..Default::default()
    };
    back::spv::write_vec(module, info, &spirv, None)
        .unwrap_or_else(|e| panic!("SPIR-V of {about}: {e}"));

    let msl = back::msl::Options {
        lang_version: (2, 4),
        fake_missing_bindings: true,
        ..Default::default()
    };
    let (metal, _) = back::msl::write_string(module, info, &msl, &Default::default())
        .unwrap_or_else(|e| panic!("MSL of {about}: {e}"));

    let hlsl = back::hlsl::Options {
        shader_model: back::hlsl::ShaderModel::V6_0,
        fake_missing_bindings: true,
        ..Default::default()
    };
    let mut out = String::new();
    back::hlsl::Writer::new(&mut out, &hlsl, &Default::default())
        .write(module, info, None)
        .unwrap_or_else(|e| panic!("HLSL of {about}: {e}"));

    // Desktop GLSL with subgroups needs extensions that naga emits. ES 3.1 has none.
    let version = back::glsl::Version::Desktop(430);
    let glsl = back::glsl::Options {
        version,
        ..Default::default()
    };
    let pipeline = back::glsl::PipelineOptions {
        shader_stage: naga::ShaderStage::Compute,
        entry_point: "main".to_owned(),
        multiview: None,
    };
    if variant.subgroup_min.is_none() {
        let mut out = String::new();
        back::glsl::Writer::new(&mut out, module, info, &glsl, &pipeline, Default::default())
            .and_then(|mut writer| writer.write())
            .unwrap_or_else(|e| panic!("GLSL of {about}: {e}"));
    }
    metal
}

fn bindings_are_what_the_kernel_declares(
    about: &str,
    (kernel, variant): (Kernel, &Variant),
    module: &naga::Module,
    info: &ModuleInfo,
) {
    let used = info.get_entry_point(0);
    let mut declared: Vec<(u32, String, BindingKind)> = Vec::new();
    for (handle, global) in module.global_variables.iter() {
        let Some(binding) = &global.binding else {
            continue;
        };
        assert_eq!(binding.group, 0);
        assert!(
            !used[handle].is_empty(),
            "{about} declares {:?} and does not use it",
            global.name
        );
        let kind = match global.space {
            naga::AddressSpace::Uniform => BindingKind::Uniform,
            naga::AddressSpace::Storage { access }
                if access.contains(naga::StorageAccess::STORE) =>
            {
                BindingKind::ReadWrite
            }
            naga::AddressSpace::Storage { .. } => BindingKind::Read,
            other => panic!("unexpected address space {other:?}"),
        };
        declared.push((
            binding.binding,
            global.name.clone().unwrap_or_default(),
            kind,
        ));
    }
    declared.sort_by_key(|d| d.0);
    let stated: Vec<_> = kernel
        .bindings(variant)
        .into_iter()
        .map(|b| (b.index, b.name.to_owned(), b.kind))
        .collect();
    assert_eq!(declared, stated, "{about}");
    assert!(
        stated
            .iter()
            .filter(|b| b.2 != BindingKind::Uniform)
            .count()
            <= 8,
        "{about}"
    );
}

/// The planner refuses variants by this bound, so it must hold.
fn workgroup_memory_stays_within_what_the_plan_counts(
    about: &str,
    (kernel, variant): (Kernel, &Variant),
    module: &naga::Module,
) {
    let mut layouter = naga::proc::Layouter::default();
    layouter
        .update(module.to_ctx())
        .expect("types have layouts");
    let declared: u32 = module
        .global_variables
        .iter()
        .filter(|(_, g)| g.space == naga::AddressSpace::WorkGroup)
        .map(|(_, g)| layouter[g.ty].size)
        .sum();
    let counted = kernel.workgroup_bytes(variant);
    assert!(declared <= counted, "{about}: {declared} > {counted}");
}

fn span_of(module: &naga::Module, name: &str) -> Option<u32> {
    let mut types = module.types.iter();
    types.find_map(|(_, t)| match &t.inner {
        naga::TypeInner::Struct { span, .. } if t.name.as_deref() == Some(name) => Some(*span),
        _ => None,
    })
}

fn members_of(module: &naga::Module, name: &str) -> Vec<(String, u32)> {
    let mut types = module.types.iter();
    let found = types.find_map(|(_, t)| match &t.inner {
        naga::TypeInner::Struct { members, .. } if t.name.as_deref() == Some(name) => Some(members),
        _ => None,
    });
    let members = found.unwrap_or_else(|| panic!("no struct {name}"));
    members
        .iter()
        .map(|m| (m.name.clone().unwrap_or_default(), m.offset))
        .collect()
}

macro_rules! offsets {
    ($type:ty: $($field:ident),* $(,)?) => {
        vec![$((stringify!($field).to_owned(), std::mem::offset_of!($type, $field) as u32)),*]
    };
}

#[test]
fn structs_have_the_layout_of_their_twins() {
    let text = assemble(Kernel::Decide, &base(), Dialect::Naga);
    let (module, _) = parse(Kernel::Decide, &base(), &text);
    let shader = members_of(&module, "Params");
    assert_eq!(
        shader,
        offsets!(Params:
            rows, classes, teacher_classes, workgroups, student_offset, student_stride, teacher_offset, teacher_stride,
            grad_offset, grad_stride, label_offset, result_offset, weight_offset, decision_offset, partial_offset, partials,
            student_log2, teacher_log2, student_inverse, tstr, selection, selection_number, given_kdr, smoothing,
            soft_loss_factor, soft_grad_factor, denominator, scope, counts_rows, count_labels, ignore_index, checked_from_bits,
            write_results, infinity_bits, nan_bits, segments, segment_vectors, label_classes,
            hard_loss_factor, hard_grad_factor, hard_log2, hard_inverse, hard_ratio, z_loss, z_grad_factor, rule_first,
            rule_second, shape_first, shape_second, grad_loss, teacher_hard_ratio, skip_non_finite, counts,
            loss_least, loss_greatest, clamps_loss, class_weight_offset,
            soft_label_offset, soft_label_stride, id_offset, label_words, first_class, all_classes, record_offset, record_stride)
    );
    assert_eq!(
        members_of(&module, "RowResult"),
        offsets!(RowResult: loss, kdr, tssr, flags)
    );
    assert_eq!(
        members_of(&module, "RowStats")[..53],
        offsets!(RowStats:
            student_max, student_sum, teacher_max, teacher_sum, difference, soft_moment, cross, student_square, teacher_square,
            student_offset, masked_mass, label_logit, kdr, label, flags, student_count, root_cross, reverse_difference,
            unseen_mass, student_moment, hard_sum, power_cross, student_power, teacher_power, power_difference, agreement,
            similarity_sum, sweep_first, sweep_second, teacher_label_logit, teacher_hard_sum, rest_student_max, rest_student_sum,
            rest_teacher_max, rest_teacher_sum, rest_difference, rest_soft_moment, rest_hard_sum, rest_teacher_hard_sum,
            rest_masked_mass, teacher_moment, weight, class_weight, weighted_teacher, weighted_masked, weighted_soft,
            weight_sum, masked_weight, weighted_offset, student_deviation, teacher_deviation, soft_label_sum,
            soft_label_moment)[..]
    );
    let shader = members_of(&module, "Decision");
    assert_eq!(
        shader[..15],
        offsets!(Decision:
            result, student_max, teacher_max, student_scale, teacher_scale, label_share, uniform_share, label,
            hard_scale, first_scale, second_scale, student_inverse, teacher_inverse, label_gradient, owns_label)
            [..]
    );
    let shader = members_of(&module, "Summary");
    assert_eq!(
        shader[..7],
        offsets!(Summary: loss, kdr, tssr, valid_rows, ignored_rows, invalid_labels, non_finite_rows)
            [..]
    );
    for (name, size) in [
        ("Params", size_of::<Params>()),
        ("RowResult", size_of::<RowResult>()),
        ("RowStats", size_of::<RowStats>()),
        ("Decision", size_of::<Decision>()),
        ("Summary", size_of::<Summary>()),
        ("PartialSummary", 48),
    ] {
        assert_eq!(span_of(&module, name), Some(size as u32), "{name}");
    }
}

#[test]
fn metrics_have_the_layout_of_their_twins() {
    let variant = Variant {
        loss: base().loss.with_metrics(),
        ..base()
    };
    let text = assemble(Kernel::Decide, &variant, Dialect::Naga);
    let (module, _) = parse(Kernel::Decide, &variant, &text);
    let first = std::mem::offset_of!(RowReport, metrics) as u32;
    let want = [
        ("result", 0),
        ("first", first),
        ("second", first + 16),
        ("third", first + 32),
    ];
    let members = members_of(&module, "RowReport");
    assert_eq!(
        members,
        want.map(|(name, offset)| (name.to_owned(), offset))
    );
    let first = std::mem::offset_of!(Summary, metrics) as u32;
    let members = members_of(&module, "Summary");
    let want = [
        ("first", first),
        ("second", first + 16),
        ("third", first + 32),
    ];
    assert_eq!(
        members[8..],
        want.map(|(name, offset)| (name.to_owned(), offset))
    );
    // In the shader the metrics are the components of three vectors.
    assert_eq!(
        offsets!(RowMetrics:
            forward_kl, teacher_entropy, student_entropy, hard, soft, student_lse, teacher_lse, agreement,
            student_accuracy, teacher_accuracy)
        .into_iter()
        .map(|(_, offset)| offset)
        .collect::<Vec<_>>(),
        (0..10).map(|i| 4 * i).collect::<Vec<_>>()
    );
    for (name, size) in [
        ("RowReport", size_of::<RowReport>() as u32),
        ("Summary", size_of::<Summary>() as u32),
        ("PartialSummary", 96),
    ] {
        assert_eq!(span_of(&module, name), Some(size), "{name}");
    }
}
