//! The bindings of a kernel, read from its file.

use super::kernel::Kernel;
use super::text::{lines_of_variant, source, substitute};
use super::variant::Variant;

/// The kind of a binding in group 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BindingKind {
    /// [`Params`](crate::shader::Params).
    Uniform,
    /// A storage buffer that is read.
    Read,
    /// A storage buffer that is written, or that shares its memory with one that is written.
    ReadWrite,
}

/// One binding of a kernel, in group 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Binding {
    /// Its number.
    pub index: u32,
    /// Its name in the shader.
    pub name: &'static str,
    /// The kind of buffer that is bound.
    pub kind: BindingKind,
}

impl Kernel {
    /// The bindings of group 0 in this variant, in the order of their numbers. The entry point is `main`.
    ///
    /// They are the lines `@group(0) @binding(..) var<..> name: ..` of `shaders/<name>.wgsl`.
    pub fn bindings(self, variant: &Variant) -> Vec<Binding> {
        let variant = self.canonical(variant);
        let mut list: Vec<Binding> = Vec::new();
        for binding in
            lines_of_variant(&variant, source(self)).filter_map(|line| parse(&variant, line))
        {
            let at = list.partition_point(|other| other.index < binding.index);
            list.insert(at, binding);
        }
        list
    }
}

/// The binding that a line declares; `None` if it declares none.
fn parse(variant: &Variant, line: &'static str) -> Option<Binding> {
    let rest = line.strip_prefix("@group(0) @binding(")?;
    let parts = rest.split_once(") var<").and_then(|(index, rest)| {
        let (space, rest) = rest.split_once("> ")?;
        let (name, _) = rest.split_once(':')?;
        Some((index.parse().ok()?, space, name))
    });
    let (index, space, name) = parts.unwrap_or_else(|| panic!("no binding: `{line}`"));
    let kind = match substitute(variant, space).as_str() {
        "uniform" => BindingKind::Uniform,
        "storage, read" => BindingKind::Read,
        "storage, read_write" => BindingKind::ReadWrite,
        other => panic!("no kind of binding: `{other}`"),
    };
    Some(Binding { index, name, kind })
}
