//! Kernels in C++ for CUDA and HIP: naga translates the WGSL to Metal's C++, and a prelude defines what that uses of Metal's library.

use std::fmt::Write;

use naga::back::msl;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};

use super::{Dialect, Kernel, Variant, assemble};

const PRELUDE: &str = include_str!("prelude.h");

/// A kernel in C++, for compilers of CUDA (NVRTC, nvcc) and HIP (hipRTC).
///
/// The source needs no header. It defines `extern "C" __global__ void NAME(..)` with the kernel's [`name`](Kernel::name). The arguments
/// are pointers, one for each of [`Kernel::bindings`] in the order of their numbers, the first to the [`Params`](super::Params): each to
/// the first byte of the window that a [`Dispatch`](crate::plan::Dispatch) binds. A block has [`Variant::workgroup_size`] threads; a grid
/// has [`Dispatch::workgroups`](crate::plan::Dispatch::workgroups) blocks. Shared memory is static.
///
/// The planner's [`Limits`](crate::plan::Limits) of a CUDA device have subgroups of 32, the registers of NVIDIA's devices, and 64
/// [`resident_registers`](crate::plan::Limits::resident_registers): CUDA's compiler spills tiles of more. `examples/cpp_source.rs` has them.
///
/// # Panics
/// If naga refuses the text of the kernel, which the tests exclude for every variant.
pub fn cpp(kernel: Kernel, variant: &Variant) -> String {
    let variant = kernel.canonical(variant);
    let text = assemble(kernel, &variant, Dialect::Naga);
    let metal = to_metal(&text).unwrap_or_else(|e| panic!("{}: {e}", kernel.name()));
    let source = to_cpp(&metal);
    let entry = entry(kernel, &variant, &metal);
    format!("{PRELUDE}\n{source}\n{entry}")
}

fn to_metal(text: &str) -> Result<String, String> {
    let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
    let capabilities = Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .map_err(|e| e.emit_to_string(text))?;
    // The kernels stay within what a dispatch binds, and their loops end.
    let unchecked = BoundsCheckPolicy::Unchecked;
    let options = msl::Options {
        lang_version: (2, 4),
        fake_missing_bindings: true,
        zero_initialize_workgroup_memory: false,
        force_loop_bounding: false,
        bounds_check_policies: BoundsCheckPolicies {
            index: unchecked,
            buffer: unchecked,
            image_load: unchecked,
            binding_array: unchecked,
        },
        ..Default::default()
    };
    let translated = msl::write_string(&module, &info, &options, &Default::default());
    translated
        .map(|(metal, _)| metal)
        .map_err(|e| e.to_string())
}

/// Removes Metal's includes, attributes and address spaces, and adds what C++ needs: the suffix of float literals, and functions that run on
/// the device.
fn to_cpp(metal: &str) -> String {
    let mut out = String::with_capacity(metal.len() + metal.len() / 8);
    // Functions of each address space become the same template.
    let mut template = None;
    for line in metal.lines() {
        if line.starts_with("template") {
            template = Some(out.len());
        }
        if line.starts_with("#include") || line.starts_with("using ") || line.starts_with("//") {
            continue;
        }
        let definition = line.strip_prefix("constant ");
        if definition.is_some() {
            out.push_str("static constexpr ");
        } else if is_function(line) {
            out.push_str("static __device__ ");
        }
        convert_line(definition.unwrap_or(line), &mut out);
        out.push('\n');
        if let Some(start) = template.filter(|_| line == "}") {
            let (before, own) = out.split_at(start);
            if before.contains(own) {
                out.truncate(start);
            }
            template = None;
        }
    }
    out
}

/// Returns true for the first line of a function. Metal's other lines without indentation are types and ends of blocks.
fn is_function(line: &str) -> bool {
    let of_another = ["struct ", "typedef ", "template", "}", ")", ",", "#"];
    let indented = line.is_empty() || line.starts_with(char::is_whitespace);
    !indented && !of_another.iter().any(|start| line.starts_with(start)) && line.contains('(')
}

fn convert_line(line: &str, out: &mut String) {
    let bytes = line.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &line[at..];
        let first = bytes[at];
        if rest.starts_with("[[") {
            at += rest.find("]]").map_or(rest.len(), |end| end + 2);
        } else if first.is_ascii_alphabetic() || first == b'_' {
            let word = &rest[..length_of_word(rest)];
            at += word.len();
            match word {
                // Address spaces, with the blank behind them.
                "device" | "thread" | "threadgroup" | "kernel" => at += 1,
                "constant" => out.push_str("const"),
                _ => out.push_str(word),
            }
        } else if first.is_ascii_digit() {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.');
            let mut number = end.unwrap_or(rest.len());
            // The sign of an exponent.
            if rest[..number].ends_with('e') && rest[number..].starts_with(['+', '-']) {
                let digits = rest[number + 1..].find(|c: char| !c.is_ascii_digit());
                number = digits.map_or(rest.len(), |end| number + 1 + end);
            }
            let number = &rest[..number];
            at += number.len();
            out.push_str(number);
            let is_float =
                number.contains('.') || (number.contains('e') && !number.starts_with("0x"));
            if is_float && !number.ends_with(['f', 'h']) {
                out.push('f');
            }
        } else {
            let c = rest.chars().next().expect("not at the end");
            out.push(c);
            at += c.len_utf8();
            // Two or more components at once are a method.
            let components = length_of_word(&line[at..]);
            let word = &line[at..at + components];
            let is_swizzle = word.len() > 1 && word.chars().all(|c| "xyzw".contains(c));
            if c == '.' && is_swizzle {
                let _ = write!(out, "{word}()");
                at += components;
            }
        }
    }
}

fn length_of_word(text: &str) -> usize {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    end.unwrap_or(text.len())
}

/// The function that a host launches: it declares the workgroup's memory and calls the translated entry point.
fn entry(kernel: Kernel, variant: &Variant, metal: &str) -> String {
    let start = metal
        .find("main_(")
        .expect("naga's name of the entry point");
    let arguments = &metal[start + "main_(".len()..];
    let arguments = &arguments[..arguments.find("\n)").expect("its end")];
    let (mut parameters, mut shared, mut call) = (Vec::new(), String::new(), Vec::new());
    for argument in arguments.lines() {
        let argument = argument.trim_start_matches([',', ' ']);
        let argument = argument.split(" [[").next().unwrap_or_default();
        let Some((kind, name)) = argument.rsplit_once(' ') else {
            continue;
        };
        let mut element = String::new();
        convert_line(kind.trim_end_matches('&'), &mut element);
        match name {
            "workgroup" => call.push("metal::uint3(blockIdx.x, 0u, 0u)".to_owned()),
            "index" => call.push("threadIdx.x".to_owned()),
            "id" => call.push("threadIdx.x / LANES_OF_WARP".to_owned()),
            "count" => call.push("blockDim.x / LANES_OF_WARP".to_owned()),
            "size" => call.push("uint(LANES_OF_WARP)".to_owned()),
            "invocation" => call.push("threadIdx.x % LANES_OF_WARP".to_owned()),
            "_buffer_sizes" => call.push("_mslBufferSizes()".to_owned()),
            _ if kind.starts_with("threadgroup") => {
                let _ = writeln!(shared, "    __shared__ {element} {name};");
                call.push(name.to_owned());
            }
            _ => {
                parameters.push(format!("{element}* {name}"));
                call.push(format!("*{name}"));
            }
        }
    }
    format!(
        "extern \"C\" __global__ void __launch_bounds__({}) {}(\n    {}\n) {{\n{shared}    main_({});\n}}\n",
        variant.workgroup_size,
        kernel.name(),
        parameters.join(",\n    "),
        call.join(", "),
    )
}
